/* Counting validations without a gain, for two ends: learning rates that fall on a plateau, and stopping early. A value gains when it
 * exceeds the last one that gained by more than min_delta; small steps upwards add up to a gain in time.
 *
 * The plateau counts as PyTorch's ReduceLROnPlateau does: `patience` validations without a gain are forgiven, the next one cuts. Keras'
 * ReduceLROnPlateau cuts at the patience-th: its patience p is p - 1 here. Stopping early counts as Keras' EarlyStopping does: at the
 * patience-th validation without a gain. */
#ifndef HR_OPTIM_PLATEAU_H
#define HR_OPTIM_PLATEAU_H

#include <stdbool.h>
#include <stdint.h>

typedef struct hr_watch {
    double best;   /* the last value that gained; NaN: none yet */
    int64_t since; /* values since then */
} hr_watch;

/* Whether `value`, the larger the better, gains. */
bool hr_watch_gains(hr_watch *watch, double value, double min_delta);

typedef struct hr_plateau {
    double gamma;        /* factor of a cut */
    double min_factor;   /* cuts lead no lower */
    double min_delta;
    int64_t patience;
    /* state */
    hr_watch watch;
    int64_t cuts;
} hr_plateau;

/* Whether this value makes a cut. There are none once the factor has come down to min_factor. */
bool hr_plateau_watch(hr_plateau *plateau, double value);
/* Factor of the peak rates after the cuts so far. */
double hr_plateau_factor(const hr_plateau *plateau);

#endif
