/* Counter-based random numbers: Philox4x32 with 7 rounds (Salmon et al., SC 2011), packed as docs/numerics.md says.
 * A draw is a pure function of (seed, tensor, stream, step, row, column); there is no state to save. */
#ifndef HR_BASE_RNG_H
#define HR_BASE_RNG_H

#include "base/inline.h"

#include <stdint.h>

enum {
    HR_STREAM_ROUND = 0,       /* stochastic rounding of weights */
    HR_STREAM_SKIP = 1,        /* the coin of a row that may be skipped */
    HR_STREAM_SPARSE = 2,      /* gradient sparsification: the first 16 bits */
    HR_STREAM_REFINE = 3,      /* and the 32 bits that follow them when those do not decide */
    HR_STREAM_DROPOUT = 4,
    HR_STREAM_ORDER = 5,       /* data order */
    HR_STREAM_INIT = 6,
    HR_STREAM_REWIRE = 7,      /* inputs of fan-in segments */
    HR_STREAM_STATE = 8,       /* rounding of optimizer state */
    HR_STREAM_RESCALE = 9      /* rounding when an i8r row is rescaled */
};

/* Key and upper counter words of one (tensor, stream, step). */
typedef struct hr_rng {
    uint32_t k0, k1, c2, c3;
} hr_rng;

HR_INLINE hr_rng hr_rng_make(uint64_t seed, uint64_t step, unsigned tensor, unsigned stream)
{
    return (hr_rng){
        .k0 = (uint32_t)seed,
        .k1 = (uint32_t)(seed >> 32),
        .c2 = (uint32_t)step,
        .c3 = (uint32_t)((step >> 32) & 0xffff) << 16 | (tensor & 0xff) << 8 | (stream & 0xff),
    };
}

#define HR_PHILOX_ROUNDS 7
#define HR_PHILOX_M0 0xD2511F53u
#define HR_PHILOX_M1 0xCD9E8D57u
#define HR_PHILOX_W0 0x9E3779B9u
#define HR_PHILOX_W1 0xBB67AE85u

/* The 128 bits at counter (c0, c1): out[0..3]. */
HR_INLINE void hr_rng_block(hr_rng rng, uint32_t c0, uint32_t c1, uint32_t out[4])
{
    uint32_t c2 = rng.c2, c3 = rng.c3, k0 = rng.k0, k1 = rng.k1;
    for (int round = 0; round < HR_PHILOX_ROUNDS; round++) {
        uint64_t p0 = (uint64_t)HR_PHILOX_M0 * c0, p1 = (uint64_t)HR_PHILOX_M1 * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += HR_PHILOX_W0;
        k1 += HR_PHILOX_W1;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* The 16-bit draw of element (row, column): eight draws to a block, low half of word 0 first. */
HR_INLINE uint16_t hr_rng_draw16(hr_rng rng, uint32_t row, uint32_t column)
{
    uint32_t w[4];
    hr_rng_block(rng, row, column / 8, w);
    return (uint16_t)(w[column % 8 / 2] >> (column % 2 * 16));
}

#endif
