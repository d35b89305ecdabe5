/* kernels/body/sparse.h with 16 bytes in a vector. */
#define HRK_VARIANT neon
#include <arm_neon.h>

#include "dtype/keep.h"
#include "kernels/body/keep_bound.h"
#include "kernels/body/variant.h"

#define HRK_VL 4
typedef float32x4_t native;
#define HRK_FMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))

enum { BYTES = 16 };

static inline int32_t look_up(const uint8_t *codes, int base, const uint8_t *table, const bool count, int8_t *q)
{
    const uint8x16_t c = vld1q_u8(codes), size = vandq_u8(c, vdupq_n_u8(0x7f));
    const uint8x16_t v = vqtbl4q_u8(vld1q_u8_x4(table), vqsubq_u8(size, vdupq_n_u8((uint8_t)base)));
    const int8x16_t small = vreinterpretq_s8_u8(vandq_u8(v, vdupq_n_u8(0x7f)));
    const uint8x16_t negative = vtstq_u8(c, vdupq_n_u8(0x80));
    vst1q_s8(q, vbslq_s8(negative, vnegq_s8(small), small));
    return !count ? 0 : vaddvq_u8(vandq_u8(vshrq_n_u8(v, 7), vtstq_u8(size, size)));
}

/* Sums over whole vectors; returns where they end. */
static inline int64_t sum_bytes(int64_t n, const int8_t *q, const bool squares, hrk_quantized *r)
{
    int32x4_t sum = vdupq_n_s32(0), square = sum;
    int64_t i = 0;
    for (; i + BYTES <= n; i += BYTES) {
        const int8x16_t c = vld1q_s8(q + i);
        sum = vdotq_s32(sum, c, vdupq_n_s8(1));
        if (squares)
            square = vdotq_s32(square, c, c);
    }
    r->sum += vaddvq_s32(sum);
    r->square += vaddvq_s32(square);
    return i;
}

static inline void e4m3_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 4; i++) {
        const int16x8_t c = vmovl_s8(vreinterpret_s8_u8(vld1_u8(codes + 8 * i)));
        const uint16x8_t h = vandq_u16(vreinterpretq_u16_s16(vshlq_n_s16(c, 7)), vdupq_n_u16(0xBFFF)); /* half precision, 2^-8 of the value */
        v[2 * i] = vcvt_f32_f16(vreinterpret_f16_u16(vget_low_u16(h)));
        v[2 * i + 1] = vcvt_f32_f16(vreinterpret_f16_u16(vget_high_u16(h)));
    }
}

static inline void bf16_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 8; i++)
        v[i] = vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(codes + 8 * i)), 16));
}

static inline void i8_values32(const uint8_t *codes, native *v)
{
    for (int i = 0; i < 4; i++) {
        const int16x8_t c = vmovl_s8(vreinterpret_s8_u8(vld1_u8(codes + 8 * i)));
        v[2 * i] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(c)));
        v[2 * i + 1] = vcvtq_f32_s32(vmovl_s16(vget_high_s16(c)));
    }
}

static inline float add_chains(const native *sum)
{
    const float32x4_t q = vaddq_f32(vaddq_f32(sum[0], sum[2]), vaddq_f32(sum[1], sum[3]));
    const float32x2_t h = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}

static inline uint32_t bits_of(uint32x4_t mask)
{
    static const uint32_t bit[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(mask, vld1q_u32(bit)));
}

static inline uint32_t not_less(float32x4_t a, float32x4_t b)
{
    return bits_of(vmvnq_u32(vcltq_f32(a, b)));
}

static inline uint32_t may_keep(const float *z, const uint16_t *draws, float zscale, float bias, float bound)
{
    uint32_t mask = 0;
    for (int j = 0; j < HRK_BP; j += 4) {
        const float32x4_t v = vfmaq_f32(vdupq_n_f32(bias), vdupq_n_f32(zscale), vld1q_f32(z + j));
        const float32x4_t bits = vminnmq_f32(vfmaq_f32(vdupq_n_f32(bound), v, vdupq_n_f32(LOG2E_BITS)), vdupq_n_f32(MOST_BITS));
        const uint32x4_t most = vcvtq_u32_f32(vreinterpretq_f32_s32(vcvtnq_s32_f32(bits)));
        mask |= bits_of(vcleq_u32(vmovl_u16(vld1_u16(draws + j)), most)) << j;
    }
    return mask;
}
#define HRK_DECODE hrk_decode_neon
#include "kernels/body/quantize.h"
#include "kernels/body/sparse.h"
