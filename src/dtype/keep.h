/* The law of the sparse gradient (contracts.md 6): which entries of G are kept, and with what value. Unbiased: the
 * expectation of the result is sigmoid(z). */
#ifndef HR_DTYPE_KEEP_H
#define HR_DTYPE_KEEP_H

#include "base/rng.h"
#include "dtype/sigmoid.h"

/* A negative of sigmoid g at (label, batch row b): g when g >= tau, else tau with probability g / tau, else 0. The uniform
 * number has 48 bits: `draw`, the 16-bit draw of stream 2, decides all but one entry in 65,536; then 32 bits of stream 3
 * (`refine`) follow. (16 bits alone would bias the sum over millions of labels by tens of percent.) tau = 0 keeps everything. */
HR_INLINE float hr_keep(float g, float tau, uint32_t draw, hr_rng refine, uint32_t label, uint32_t b)
{
    if (!(g < tau))
        return g;
    const float q = g * (65536.0f / tau), whole = floorf(q);
    if ((float)draw != whole)
        return (float)draw < whole ? tau : 0.0f;
    uint32_t w[4];
    hr_rng_block(refine, label, b / 4, w);
    return w[b % 4] < (uint32_t)((q - whole) * 0x1p32f) ? tau : 0.0f; /* q - whole is exact and below 1 */
}

#endif
