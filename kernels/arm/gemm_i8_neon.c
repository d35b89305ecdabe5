/* sdot multiplies signed bytes, so the offset of x comes off first. 2 labels by 8 vectors of 4 instances in registers. */
#define HRK_VARIANT neon
#include <arm_neon.h>

#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

INLINE void micro(const int rows, int64_t groups, const int8_t *w, int64_t pitch, const float *w_scale, const uint8_t *x,
                  const float *x_scale, float *c, const uint8_t *ahead, size_t step)
{
    int32x4_t acc[2][8];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 8; v++)
            acc[m][v] = vdupq_n_s32(0);
    for (int64_t k = 0; k < groups; k++, ahead += step) {
        __builtin_prefetch(ahead, 0, 2);
        int8x16_t wm[2];
        for (int m = 0; m < rows; m++) {
            int32_t four;
            memcpy(&four, w + m * pitch + 4 * k, 4);
            wm[m] = vreinterpretq_s8_s32(vdupq_n_s32(four));
        }
        for (int v = 0; v < 8; v++) {
            const int8x16_t xv = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(x + k * 128 + 16 * v), vdupq_n_u8(0x80)));
            for (int m = 0; m < rows; m++)
                acc[m][v] = vdotq_s32(acc[m][v], xv, wm[m]);
        }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < 8; v++)
            vst1q_f32(c + m * HRK_BP + 4 * v,
                      vmulq_f32(vcvtq_f32_s32(acc[m][v]), vmulq_n_f32(vld1q_f32(x_scale + 4 * v), w_scale[m])));
}

#include "kernels/body/gemm_i8.h"
