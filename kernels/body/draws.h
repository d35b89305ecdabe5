/* Philox for 4*Q blocks at once (Q 128-bit lanes). Lane 4i+j computes block i+Q*j, so that the usual 4x4 transposition
 * inside 128-bit lanes leaves the draws in column order. Included with the vector operations of the ISA. */
#include "kernels/body/variant.h"

HRK_DRAWS(draws)
{
    enum { BLOCKS = 4 * HRK_Q };
    int64_t i = 0;
    for (; i + 8 * BLOCKS <= n; i += 8 * BLOCKS) {
        ivec c0 = SET1(row), c1 = ADD(SET1((uint32_t)(i / 8)), LANES), c2 = SET1(rng.c2), c3 = SET1(rng.c3);
        uint32_t k0 = rng.k0, k1 = rng.k1;
        for (int round = 0; round < HR_PHILOX_ROUNDS; round++) {
            ivec hi0, lo0, hi1, lo1;
            mulhilo(SET1(HR_PHILOX_M0), c0, &hi0, &lo0);
            mulhilo(SET1(HR_PHILOX_M1), c2, &hi1, &lo1);
            c0 = XOR(XOR(hi1, c1), SET1(k0));
            c2 = XOR(XOR(hi0, c3), SET1(k1));
            c1 = lo1;
            c3 = lo0;
            k0 += HR_PHILOX_W0;
            k1 += HR_PHILOX_W1;
        }
        const ivec a = UNPACKLO32(c0, c1), b = UNPACKLO32(c2, c3), c = UNPACKHI32(c0, c1), d = UNPACKHI32(c2, c3);
        STORE(out + i, UNPACKLO64(a, b));
        STORE(out + i + 8 * HRK_Q, UNPACKHI64(a, b));
        STORE(out + i + 16 * HRK_Q, UNPACKLO64(c, d));
        STORE(out + i + 24 * HRK_Q, UNPACKHI64(c, d));
    }
    for (; i < n; i += 8) {
        uint32_t w[4];
        hr_rng_block(rng, row, (uint32_t)(i / 8), w);
        for (int64_t j = 0; j < 8 && i + j < n; j++)
            out[i + j] = (uint16_t)(w[j / 2] >> (j % 2 * 16));
    }
}
