/* Philox for BLOCKS blocks at once, one in each 64-bit lane: of each word only the low half of its lane counts, which is
 * all that the 32 x 32 -> 64 bit product reads. Lane 2j computes block j and lane 2j + 1 block BLOCKS/2 + j, so that
 * pairing the halves inside 128-bit lanes leaves the draws in column order. Included with the vector operations of the
 * ISA; MIX(a, b, c) is a ^ b ^ c, JOIN(a, b) the low halves of a and b as one 64-bit number. */
#include "kernels/body/variant.h"

/* The draws of 8 * BLOCKS columns of a row, from column 8 * block. */
static inline void run(hr_rng rng, uint32_t row, uint32_t block, uint16_t *out)
{
    ivec c0 = SET1(row), c1 = ADD(SET1(block), LANES), c2 = SET1(rng.c2), c3 = SET1(rng.c3);
    uint32_t k0 = rng.k0, k1 = rng.k1;
    for (int round = 0; round < HR_PHILOX_ROUNDS; round++) {
        const ivec p0 = MUL(SET1(HR_PHILOX_M0), c0), p1 = MUL(SET1(HR_PHILOX_M1), c2);
        c0 = MIX(HIGH(p1), c1, SET1(k0));
        c2 = MIX(HIGH(p0), c3, SET1(k1));
        c1 = p1;
        c3 = p0;
        k0 += HR_PHILOX_W0;
        k1 += HR_PHILOX_W1;
    }
    const ivec a = JOIN(c0, c1), b = JOIN(c2, c3);
    STORE(out, UNPACKLO64(a, b));
    STORE(out + 4 * BLOCKS, UNPACKHI64(a, b));
}

HRK_DRAWS(draws)
{
    int64_t i = 0;
    for (; i + 8 * BLOCKS <= n; i += 8 * BLOCKS)
        run(rng, row, (uint32_t)(i / 8), out + i);
    for (; i < n; i += 8) {
        uint32_t w[4];
        hr_rng_block(rng, row, (uint32_t)(i / 8), w);
        for (int64_t j = 0; j < 8 && i + j < n; j++)
            out[i + j] = (uint16_t)(w[j / 2] >> (j % 2 * 16));
    }
}

HRK_BEGIN(void, draws_panel, hr_rng rng, uint32_t row, int64_t rows, const int64_t *which, int64_t column, uint16_t *out)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < HRK_DP; i += 8 * BLOCKS)
            run(rng, row + (uint32_t)(which ? which[r] : r), (uint32_t)((column + i) / 8), out + r * HRK_DP + i);
}
