/* Warm-up: (t + 1) / warmup, so that the first step is not wasted; then the schedule over what remains. */
#include "optim/schedule.h"

#include <math.h>

double hr_schedule_at(const hr_schedule *s, int64_t t)
{
    if (t < s->warmup)
        return (double)(t + 1) / (double)s->warmup;
    const double rest = (double)(s->steps - s->warmup);
    const double done = rest > 0 ? (double)(t - s->warmup) / rest : 1.0;
    double factor = 1.0;
    switch (s->type) {
    case HR_COSINE: return 0.5 * (1.0 + cos(3.14159265358979323846 * done));
    case HR_LINEAR: return 1.0 - done;
    case HR_MULTISTEP:
        for (int i = 0; i < s->milestones; i++)
            factor *= (double)t >= s->milestone[i] * (double)s->steps ? s->gamma : 1.0;
        return factor;
    default: return 1.0;
    }
}
