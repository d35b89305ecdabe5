/* The tasks of a run. Each has its own targets, head, loss and rate; all see the same X, and the encoder gets the weighted
 * sum of their gradients: dX = sum of weight_i dX_i, where weight_i scales the task's whole gradient. The labels are the
 * first task; an auxiliary head over groups of labels may be a second one (auxiliary.h). */
#ifndef HR_TRAINER_TASKS_H
#define HR_TRAINER_TASKS_H

#include "head/head.h"

enum { HR_TASKS_MAX = 4 };

typedef struct hr_task {
    hr_head *head;               /* borrowed */
    float weight;                /* scales the task's gradient and loss; > 0 */
    float lr;                    /* peak rate of its head */
    int64_t num_positives;       /* targets of this batch: internal row << 32 | batch row, ascending */
    const uint64_t *positives;
} hr_task;

/* One step of all heads on x (rows, D); dx (rows, D) gets the sum, in the order of the tasks. `other` (rows, D) is scratch
 * for two tasks or more. `factor` scales every rate; loss may be NULL, else it gets the weighted sum of the losses.
 * A task of weight 1 alone gives the bits of hr_head_step. HR_ERR_NUMERIC as there; only a failure of the first task
 * leaves everything unchanged. */
hr_status hr_tasks_step(const hr_task *tasks, int count, int64_t rows, int64_t dim, const float *x, double factor, uint64_t step,
                        float *dx, float *other, double *loss);

#endif
