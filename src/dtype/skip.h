/* Skipping labels whose update is small against the grid of their weights, without changing what happens to a weight.
 *
 * Stochastic rounding turns an update u, |u| below the gap of two codes, into one step with probability |u| / gap. With the row skipped at
 * probability 1 - p and updated by u / p else, a step is as likely, p (|u| / p) / gap, as long as |u| / p stays below the gap; beyond it the
 * mean is still right and the variance larger. p = 2^-k, so that dividing by it is exact. */
#ifndef HR_DTYPE_SKIP_H
#define HR_DTYPE_SKIP_H

#include "base/rng.h"
#include "dtype/dtype.h"

enum { HR_SKIP_MOST = 5 };

/* k for a row whose gradient has the mass S = sum of |g| over the batch: floor(log2(tau / S)) within 0 and HR_SKIP_MOST; 0, never skipped, when
 * tau is 0. Rows with a positive are not asked. */
HR_INLINE int hr_skip_exponent(float mass, float tau)
{
    if (!(tau > 0) || mass != mass)
        return 0;
    const float q = tau / mass; /* inf for a row without mass */
    const int k = (int)(hr_f32_bits(q) >> 23) - 127;
    return k < 0 ? 0 : k > HR_SKIP_MOST ? HR_SKIP_MOST : k;
}

/* Whether a row is worked on: the low k bits of the first word of (row, 0) in HR_STREAM_SKIP are zero. */
HR_INLINE bool hr_skip_active(hr_rng rng, uint32_t row, int k)
{
    uint32_t w[4];
    hr_rng_block(rng, row, 0, w);
    return (w[0] & ((1u << k) - 1)) == 0;
}

#endif
