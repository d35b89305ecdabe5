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

HRK_BEGIN(void, draws_panel, hr_rng rng, uint32_t row, int64_t rows, const int64_t *which, int64_t column, uint16_t *out)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < HRK_DP; i++)
            out[r * HRK_DP + i] = hr_rng_draw16(rng, row + (uint32_t)(which ? which[r] : r), (uint32_t)(column + i));
}
