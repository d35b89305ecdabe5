/* kernels/body/fan.h with 16 bytes in a vector. */
#define HRK_VARIANT neon
#include <arm_neon.h>

#include "kernels/body/variant.h"

#define HRK_VL 4
#define FAN_COLUMN 1
#define HRK_REGISTER(v) "+w"(v)
typedef float32x4_t native;
#define HRK_FMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))

static inline float32x4_t add_to_four(const native *sum)
{
    return vaddq_f32(vaddq_f32(sum[0], sum[2]), vaddq_f32(sum[1], sum[3]));
}
#include "kernels/body/fan.h"
#include "kernels/body/fan_lists.h"
#include "kernels/body/columns.h"

/* Four columns of 64 instances to groups of four bytes: 16 bytes at place n of a column are instances 16 v + 4 n + e, v, e = 0..3. */
HRK_BEGIN(void, gather_i8, int64_t K, const uint32_t *inputs, const uint8_t *xc, int64_t pitch, uint8_t *out)
{
    const int64_t groups = (K + HRK_QP - 1) / HRK_QP * (HRK_QP / 4);
    uint8_t *second = out + groups * HRK_BP * 4;
    for (int64_t k = 0; k < 4 * groups; k += 4, out += 128, second += 128)
        for (int64_t n = 0; n < 4; n++) {
            uint8x16_t c[4];
            for (int i = 0; i < 4; i++)
                c[i] = k + i < K ? vld1q_u8(xc + (int64_t)inputs[k + i] * pitch + 16 * n) : vdupq_n_u8(128);
            const uint16x8_t lo01 = vreinterpretq_u16_u8(vzip1q_u8(c[0], c[1])), hi01 = vreinterpretq_u16_u8(vzip2q_u8(c[0], c[1]));
            const uint16x8_t lo23 = vreinterpretq_u16_u8(vzip1q_u8(c[2], c[3])), hi23 = vreinterpretq_u16_u8(vzip2q_u8(c[2], c[3]));
            vst1q_u8(out + 16 * n, vreinterpretq_u8_u16(vzip1q_u16(lo01, lo23)));
            vst1q_u8(out + 64 + 16 * n, vreinterpretq_u8_u16(vzip2q_u16(lo01, lo23)));
            vst1q_u8(second + 16 * n, vreinterpretq_u8_u16(vzip1q_u16(hi01, hi23)));
            vst1q_u8(second + 64 + 16 * n, vreinterpretq_u8_u16(vzip2q_u16(hi01, hi23)));
        }
}

#include "kernels/body/fan_i8.h"
