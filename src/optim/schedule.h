/* Learning rates: pure functions of the step, so that there is no state to save. (The plateau schedule is constant here; its
 * reductions follow from validation: plateau.h.) */
#ifndef HR_OPTIM_SCHEDULE_H
#define HR_OPTIM_SCHEDULE_H

#include <stdint.h>

typedef enum hr_schedule_type { HR_COSINE, HR_LINEAR, HR_CONSTANT, HR_MULTISTEP, HR_PLATEAU } hr_schedule_type;

enum { HR_MILESTONES_MAX = 16 };

typedef struct hr_schedule {
    hr_schedule_type type;
    int64_t steps, warmup;          /* in all; while the rate rises linearly: 1/warmup of the peak at step 0, the peak at step warmup - 1 */
    int milestones;
    double milestone[HR_MILESTONES_MAX]; /* shares of all steps, ascending */
    double gamma;
} hr_schedule;

/* Factor of the peak rate at step t = 0, 1, ..., steps - 1. */
double hr_schedule_at(const hr_schedule *schedule, int64_t t);

#endif
