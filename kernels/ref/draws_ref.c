/* Eight draws from each block, in column order. */
#include "kernels/body/variant.h"

HRK_DRAWS(draws)
{
    for (int64_t i = 0; i < n; i += 8) {
        uint32_t w[4];
        hr_rng_block(rng, row, (uint32_t)(i / 8), w);
        for (int64_t j = 0; j < 8 && i + j < n; j++)
            out[i + j] = (uint16_t)(w[j / 2] >> (j % 2 * 16));
    }
}
