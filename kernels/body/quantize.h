/* Codes to int8 with one scale. Included with the vector operations of the ISA: BYTES in a vector, look_up, sum_bytes, and HRK_DECODE,
 * the decode of a variant that the machine has. */
#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

/* The largest |value| of n codes of a float format, a NaN above all: without their signs codes order as their values do. */
#define LARGEST(type, all, value)                                                                                      \
    {                                                                                                                  \
        const type *c = codes;                                                                                         \
        type most = 0;                                                                                                 \
        for (int64_t i = 0; i < n; i++) {                                                                              \
            const type code = c[i] & (type)(all);                                                                      \
            most = code > most ? code : most;                                                                          \
        }                                                                                                              \
        return value;                                                                                                  \
    }

static float largest_value(int64_t n, const void *codes, hr_dtype dtype)
{
    switch (dtype.id) {
    case HR_F32: LARGEST(uint32_t, 0x7fffffff, hr_bits_f32(most))
    case HR_BF16: LARGEST(uint16_t, 0x7fff, hr_bf16_decode(most))
    case HR_F16: LARGEST(uint16_t, 0x7fff, hr_f16_decode(most))
    case HR_E4M3: LARGEST(uint8_t, 0x7f, hr_e4m3_decode(most))
    case HR_E5M2: LARGEST(uint8_t, 0x7f, hr_e5m2_decode(most))
    default: LARGEST(uint8_t, (1 << (dtype.exp_bits + dtype.man_bits)) - 1, hr_exmy_decode(most, dtype.exp_bits, dtype.man_bits))
    }
}

/* int8 of an e4m3 code counted from eight binades below its row's largest: (8 + m) 2^d / 16 to nearest even, d = i / 8, m = i % 8; bit 7
 * says that it was rounded. */
#define R(q) (uint8_t)((q) | 128)
static const uint8_t e4m3_int8[64] __attribute__((aligned(64))) = {
    R(0), R(1), R(1), R(1), R(1), R(1), R(1), R(1), 1,  R(1), R(1), R(1), R(2), R(2), R(2), R(2), 2,  R(2), R(2), R(3), 3,   R(3),
    R(4), R(4), 4,    R(4), 5,    R(6), 6,    R(6), 7,  R(8), 8,    9,    10,   11,   12,   13,   14, 15,   16,   18,   20,  22,
    24,   26,   28,   30,   32,   36,   40,   44,   48, 52,   56,   60,   64,   72,   80,   88,   96, 104,  112,  120};
#undef R

/* Codes with a largest exponent field of 8 or more: eight binades from `base` on, by the table. Returns how many were rounded. */
INLINE int32_t quantize_e4m3(int64_t n, const uint8_t *codes, int base, const bool count, int8_t *q)
{
    int64_t i = 0;
    int32_t rounded = 0;
    for (; i + BYTES <= n; i += BYTES)
        rounded += look_up(codes + i, base, e4m3_int8, count, q + i);
    if (i < n) { /* a last vector, of zeros beyond the row */
        uint8_t last[BYTES] = {0};
        int8_t out[BYTES];
        memcpy(last, codes + i, (size_t)(n - i));
        rounded += look_up(last, base, e4m3_int8, count, out);
        memcpy(q + i, out, (size_t)(n - i));
    }
    return rounded;
}

hrk_decode_fn HRK_DECODE;

/* Values to int8. Returns how many were rounded, if they are to be counted. */
INLINE int32_t to_int8(int64_t n, const float *v, float inverse, float scale, const bool count, int8_t *q)
{
    int32_t rounded = 0;
    for (int64_t i = 0; i < n; i++) {
        const float r = rintf(v[i] * inverse);
        q[i] = (int8_t)(int32_t)r;
        if (count)
            rounded += v[i] != r * scale;
    }
    return rounded;
}

/* The same from codes, in pieces that stay in the first cache. */
INLINE int32_t quantize_values(int64_t n, const uint8_t *codes, hr_dtype dtype, float inverse, float scale, const bool count, int8_t *q)
{
    float v[256];
    int32_t rounded = 0;
    if (dtype.id == HR_F32)
        return to_int8(n, (const float *)(const void *)codes, inverse, scale, count, q);
    for (int64_t i = 0; i < n; i += 256) {
        const int64_t m = n - i < 256 ? n - i : 256;
        HRK_DECODE(m, codes + (size_t)i * dtype.bytes, 1.0f, dtype, v);
        rounded += to_int8(m, v, inverse, scale, count, q + i);
    }
    return rounded;
}

INLINE void sums(int64_t n, const int8_t *q, const bool squares, hrk_quantized *r)
{
    const int64_t i = sum_bytes(n, q, squares, r);
    int8_t last[BYTES] = {0};
    memcpy(last, q + i, (size_t)(n - i));
    if (i < n)
        sum_bytes(BYTES, last, squares, r);
}

HRK_BEGIN(hrk_quantized, quantize, int64_t n, const void *codes, float row_scale, hr_dtype dtype, int with_error, int8_t *q)
{
    hrk_quantized r = {.scale = row_scale};
    const float most = dtype.id == HR_I8R ? 1.0f : largest_value(n, codes, dtype);
    const int exponent = (int)(hr_f32_bits(most) >> 23) - 127;
    if (dtype.id == HR_I8R) {
        memcpy(q, codes, (size_t)n);
    } else if (most == 0) { /* a label that has never been seen */
        memset(q, 0, (size_t)n);
        return (hrk_quantized){0};
    } else if (dtype.id == HR_E4M3 && exponent >= 1) {
        r.scale = hr_bits_f32((uint32_t)(exponent + 127 - 6) << 23); /* the largest binade becomes 64 */
        r.rounded = with_error ? quantize_e4m3(n, codes, exponent * 8, true, q) : quantize_e4m3(n, codes, exponent * 8, false, q);
    } else {
        float inverse = 0;
        r.scale = 0;
        if (!(most < INFINITY)) {
            r.scale = NAN;
        } else if (most >= 0x1p-100f) {
            r.scale = dtype.bytes == 1 ? ldexpf(1.0f, exponent - 6) : most / 127.0f;
            inverse = dtype.bytes == 1 ? ldexpf(1.0f, 6 - exponent) : 127.0f / most;
        }
        if (most < INFINITY) {
            r.rounded = with_error ? quantize_values(n, codes, dtype, inverse, r.scale, true, q)
                                   : quantize_values(n, codes, dtype, inverse, r.scale, false, q);
        } else { /* diverged */
            memset(q, 0, (size_t)n);
            r.rounded = (int32_t)n;
        }
    }
    if (with_error) {
        sums(n, q, true, &r);
    } else {
        sums(n, q, false, &r);
        r.rounded = 0;
    }
    return r;
}
