/* tdpbsud: 16 labels by 16 instances, 64 columns at a time. Two by two such tiles of sums; W rows and packed X are already laid out as the
 * instruction reads them. Rows beyond the last 32 and sums that are no multiple of 64 columns go to the VNNI kernel. */
#define HRK_VARIANT amx
#include <immintrin.h>

#include "kernels/body/variant.h"

hrk_gemm_i8_fn hrk_gemm_i8_avx512vnni;

/* Intel's layout of a tile configuration: palette 1, for each tile its bytes a row and its rows. */
typedef struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_config;

/* s - 128 * sum of the row, scaled, for 16 x 16 sums. */
static void store(const int32_t *sums, const int32_t *w_sum, const float *w_scale, const float *x_scale, float *c)
{
    for (int m = 0; m < 16; m++) {
        const __m512i s = _mm512_sub_epi32(_mm512_loadu_si512(sums + 16 * m), _mm512_set1_epi32((int)(128u * (uint32_t)w_sum[m])));
        const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(w_scale[m]), _mm512_loadu_ps(x_scale));
        _mm512_storeu_ps(c + m * HRK_BP, _mm512_mul_ps(_mm512_cvtepi32_ps(s), scale));
    }
}

HRK_GEMM_I8(gemm_i8)
{
    const int64_t tiles = groups % 16 == 0 && groups > 0 ? M / 32 : 0;
    if (tiles > 0) {
        tile_config config = {.palette = 1};
        for (int t = 0; t < 8; t++) {
            config.row_bytes[t] = 64;
            config.rows[t] = 16;
        }
        _tile_loadconfig(&config);
        const size_t step = ahead_bytes / (size_t)(tiles * groups / 16);
        for (int64_t t = 0; t < tiles; t++) {
            _tile_zero(0);
            _tile_zero(1);
            _tile_zero(2);
            _tile_zero(3);
            for (int64_t k = 0; k < groups; k += 16, ahead += step) {
                for (size_t line = 0; line < step; line += 64)
                    _mm_prefetch((const char *)ahead + line, _MM_HINT_T1);
                _tile_loadd(4, w + 4 * k, pitch);
                _tile_loadd(5, w + 16 * pitch + 4 * k, pitch);
                _tile_loadd(6, x + k * 128, 128);
                _tile_loadd(7, x + k * 128 + 64, 128);
                _tile_dpbsud(0, 4, 6);
                _tile_dpbsud(1, 4, 7);
                _tile_dpbsud(2, 5, 6);
                _tile_dpbsud(3, 5, 7);
            }
            int32_t sums[4][256] __attribute__((aligned(64)));
            _tile_stored(0, sums[0], 64);
            _tile_stored(1, sums[1], 64);
            _tile_stored(2, sums[2], 64);
            _tile_stored(3, sums[3], 64);
            for (int i = 0; i < 4; i++)
                store(sums[i], w_sum + i / 2 * 16, w_scale + i / 2 * 16, x_scale + i % 2 * 16, c + i / 2 * 16 * HRK_BP + i % 2 * 16);
            w += 32 * pitch;
            w_sum += 32;
            w_scale += 32;
            c += 32 * HRK_BP;
        }
        _tile_release();
        M -= 32 * tiles;
        ahead_bytes = 0;
    }
    hrk_gemm_i8_avx512vnni(M, groups, w, pitch, w_sum, w_scale, x, x_scale, c, ahead, ahead_bytes);
}
