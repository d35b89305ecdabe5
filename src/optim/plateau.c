/* Gains and cuts. */
#include "optim/plateau.h"

#include <math.h>

bool hr_watch_gains(hr_watch *w, double value, double min_delta)
{
    const bool gains = isnan(w->best) || value > w->best + min_delta;
    w->best = gains ? value : w->best;
    w->since = gains ? 0 : w->since + 1;
    return gains;
}

double hr_plateau_factor(const hr_plateau *p)
{
    return fmax(pow(p->gamma, (double)p->cuts), p->min_factor);
}

bool hr_plateau_watch(hr_plateau *p, double value)
{
    if (hr_watch_gains(&p->watch, value, p->min_delta) || p->watch.since <= p->patience || !(hr_plateau_factor(p) > p->min_factor))
        return false;
    p->cuts++;
    p->watch.since = 0;
    return true;
}
