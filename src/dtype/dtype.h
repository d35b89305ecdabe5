/* Number formats: what the bits mean, and how a real number becomes one of them.
 *
 * Storage types of label weights (docs/numerics.md):
 *   f32 bf16 f16 e4m3 e5m2   stored as 4, 2, 2, 1, 1 bytes
 *   i8r                      int8 with one f32 scale for each row
 *   eXmY                     emulated floats of at most 8 bits (1 sign, X exponent, Y mantissa), one byte each
 * e4m3 has no infinities (OCP FP8, "E4M3FN": largest 448, NaN 0x7f); e5m2 and f16 are IEEE-like. eXmY has neither
 * infinity nor NaN: every code is a number. In all of them the only zero that is written is +0 and writes saturate.
 *
 * All functions here are branch-light inline arithmetic on single numbers, so that the same text serves the reference
 * and, compiled with wider vectors, the fast kernels; both give the same bits. */
#ifndef HR_DTYPE_DTYPE_H
#define HR_DTYPE_DTYPE_H

#include "base/inline.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum hr_dtype_id { HR_F32, HR_BF16, HR_F16, HR_E4M3, HR_E5M2, HR_I8R, HR_EXMY, HR_DTYPE_IDS } hr_dtype_id;

/* A format: exponent and mantissa bits matter for floats only. */
typedef struct hr_dtype {
    hr_dtype_id id;
    int exp_bits, man_bits;
    size_t bytes;
} hr_dtype;

#ifdef __cplusplus
extern "C" {
#endif

/* Parses "bf16", "e3m4", ...; false for anything else. eXmY: 2 <= X, 1 <= Y, X + Y <= 7. "e4m3" and "e5m2" are the
 * standard types; their emulated twins without NaN do not exist. */
bool hr_dtype_parse(const char *name, hr_dtype *out);
/* Writes the name into `name` (at least 8 bytes) and returns it. */
const char *hr_dtype_name(hr_dtype dtype, char name[8]);

#ifdef __cplusplus
}
#endif

typedef enum hr_rounding { HR_ROUND_STOCHASTIC, HR_ROUND_NEAREST, HR_ROUND_ELMO } hr_rounding;

HR_INLINE uint32_t hr_f32_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    return u;
}
HR_INLINE float hr_bits_f32(uint32_t u)
{
    float v;
    memcpy(&v, &u, 4);
    return v;
}
/* mask ? a : b, without a branch; mask is 0 or 1 */
HR_INLINE uint32_t hr_pick(uint32_t mask, uint32_t a, uint32_t b)
{
    uint32_t m = 0u - mask;
    return (a & m) | (b & ~m);
}

/* ---- the grid of a float format ---- */

/* Rounding to a grid of `man` mantissa bits, smallest normal 2^emin, largest finite `max`. */
typedef struct hr_grid {
    int man, emin;
    float max;
} hr_grid;

#define HR_GRID_BF16 ((hr_grid){7, -126, 0x1.fep127f})
#define HR_GRID_F16  ((hr_grid){10, -14, 65504.0f})
#define HR_GRID_E4M3 ((hr_grid){3, -6, 448.0f})
#define HR_GRID_E5M2 ((hr_grid){2, -14, 57344.0f})
/* An emulated format: bias 2^(X-1) - 1, all codes finite. */
HR_INLINE hr_grid hr_grid_exmy(int exp_bits, int man_bits)
{
    int bias = (1 << (exp_bits - 1)) - 1, top = (1 << exp_bits) - 1 - bias;
    return (hr_grid){man_bits, 1 - bias, ldexpf(2.0f - ldexpf(1.0f, -man_bits), top)};
}

/* +0 for both zeros, and the finite range: the last two steps of every rounding. NaN stays NaN. */
HR_INLINE float hr_saturate(float v, float max)
{
    v = v > max ? max : v;
    v = v < -max ? -max : v;
    return v + 0.0f; /* -0 + +0 = +0 */
}

/* Stochastic rounding of v to the grid with the 16-bit draw r (contracts: docs/numerics.md section 2).
 * Below the smallest normal, adding k = copysign(2^emin, v) aligns the mantissa with the subnormal grid,
 * so one code path is right in both ranges. */
HR_INLINE float hr_round_sr(float v, uint32_t r, hr_grid g)
{
    const int n = 23 - g.man; /* dropped bits */
    const uint32_t smallest = (uint32_t)(127 + g.emin) << 23, bits = hr_f32_bits(v);
    const uint32_t sign = bits & 0x80000000u, subnormal = (bits & 0x7fffffffu) < smallest;
    const float k = g.man == 7 && g.emin == -126 ? 0.0f : hr_bits_f32(hr_pick(subnormal, smallest | sign, 0));
    uint32_t u = hr_f32_bits(v + k);
    u += n >= 16 ? (r << (n - 16)) + (n > 16 ? 1u << (n - 17) : 0u) : r >> (16 - n);
    u &= ~((1u << n) - 1);
    return hr_saturate(hr_bits_f32(u) - k, g.max);
}

/* Round to nearest, ties to even. Below 2^emin one addition of 1.5 * 2^(23 + emin - man) does it: the sum's last place
 * is the subnormal grid, and the hardware rounds to nearest. (Aligning first, as hr_round_sr does, would round twice.) */
HR_INLINE float hr_round_nearest(float v, hr_grid g)
{
    const int n = 23 - g.man;
    const uint32_t smallest = (uint32_t)(127 + g.emin) << 23, bits = hr_f32_bits(v);
    const uint32_t subnormal = g.emin > -126 && (bits & 0x7fffffffu) < smallest;
    const float magic = 1.5f * hr_bits_f32((uint32_t)(127 + 23 + g.emin - g.man) << 23), low = (v + magic) - magic;
    uint32_t u = bits + ((1u << (n - 1)) - 1) + (bits >> n & 1);
    u &= ~((1u << n) - 1);
    return hr_saturate(hr_bits_f32(hr_pick(subnormal, hr_f32_bits(low), u)), g.max);
}

/* Rounding as ELMO's code does it: dither on the fp32 mantissa, clear, then to nearest. Right for normal numbers;
 * below 2^emin the fp32 mantissa is finer than the grid and the result is nearly that of `nearest`. */
HR_INLINE float hr_round_elmo(float v, uint32_t r, hr_grid g)
{
    const int n = 23 - g.man;
    uint32_t u = hr_f32_bits(v);
    u += n >= 16 ? (r << (n - 16)) + (n > 16 ? 1u << (n - 17) : 0u) : r >> (16 - n);
    u &= ~((1u << n) - 1);
    return hr_round_nearest(hr_bits_f32(u), g);
}

/* ---- codes: exact both ways for numbers on the grid ---- */

HR_INLINE float hr_bf16_decode(uint16_t c)
{
    return hr_bits_f32((uint32_t)c << 16);
}
HR_INLINE uint16_t hr_bf16_encode(float on_grid)
{
    return (uint16_t)(hr_f32_bits(on_grid) >> 16);
}

/* A small float with a `man`-bit mantissa and bias -(emin-1): code bits below the sign go to the top of an f32, where
 * subnormals of the small format become ordinary numbers by one subtraction (no f32 subnormal is ever formed). */
HR_INLINE float hr_small_decode(uint32_t magnitude, uint32_t negative, int man, int emin)
{
    const uint32_t normal = (magnitude << (23 - man)) + ((uint32_t)(127 + emin - 1) << 23);
    const float k = hr_bits_f32((uint32_t)(127 + emin) << 23);
    /* exponent field 0: value is (1.mantissa - 1) at the smallest normal's scale */
    const uint32_t raised = (magnitude << (23 - man)) + ((uint32_t)(127 + emin) << 23);
    const float low = hr_bits_f32(raised) - k;
    const uint32_t is_low = magnitude < (1u << man);
    return hr_bits_f32(hr_pick(is_low, hr_f32_bits(low), normal) | negative << 31);
}
HR_INLINE uint32_t hr_small_encode(float on_grid, int man, int emin)
{
    const uint32_t bits = hr_f32_bits(on_grid), sign = bits >> 31, abs = bits & 0x7fffffffu;
    const uint32_t smallest = (uint32_t)(127 + emin) << 23;
    const uint32_t normal = (abs - ((uint32_t)(127 + emin - 1) << 23)) >> (23 - man);
    const uint32_t low = (hr_f32_bits(hr_bits_f32(abs) + hr_bits_f32(smallest)) - smallest) >> (23 - man);
    return hr_pick(abs < smallest, low, normal) | sign << 31; /* sign in the top bit: the caller places it */
}

HR_INLINE float hr_e4m3_decode(uint8_t c)
{
    return hr_small_decode(c & 0x7fu, c >> 7, 3, -6);
}
HR_INLINE uint8_t hr_e4m3_encode(float on_grid)
{
    uint32_t e = hr_small_encode(on_grid, 3, -6);
    return (uint8_t)((e & 0x7f) | e >> 24);
}
HR_INLINE float hr_e5m2_decode(uint8_t c)
{
    return hr_small_decode(c & 0x7fu, c >> 7, 2, -14);
}
HR_INLINE uint8_t hr_e5m2_encode(float on_grid)
{
    uint32_t e = hr_small_encode(on_grid, 2, -14);
    return (uint8_t)((e & 0x7f) | e >> 24);
}
HR_INLINE float hr_f16_decode(uint16_t c)
{
    return hr_small_decode(c & 0x7fffu, c >> 15, 10, -14);
}
HR_INLINE uint16_t hr_f16_encode(float on_grid)
{
    uint32_t e = hr_small_encode(on_grid, 10, -14);
    return (uint16_t)((e & 0x7fff) | e >> 16);
}
HR_INLINE float hr_exmy_decode(uint8_t c, int exp_bits, int man_bits)
{
    const int bits = exp_bits + man_bits;
    return hr_small_decode(c & ((1u << bits) - 1), (uint32_t)c >> bits & 1, man_bits, 2 - (1 << (exp_bits - 1)));
}
HR_INLINE uint8_t hr_exmy_encode(float on_grid, int exp_bits, int man_bits)
{
    const int bits = exp_bits + man_bits;
    uint32_t e = hr_small_encode(on_grid, man_bits, 2 - (1 << (exp_bits - 1)));
    return (uint8_t)((e & ((1u << bits) - 1)) | (e >> 31) << bits);
}

/* i8r: a row of int8 with one scale; q = floor(v/scale + (r + 1/2)/65536), within +-127. */
HR_INLINE int8_t hr_i8r_round_sr(float v, float inv_scale, uint32_t r)
{
    float q = floorf(v * inv_scale + ((float)r + 0.5f) * 0x1p-16f);
    q = q > 127.0f ? 127.0f : q;
    q = q < -127.0f ? -127.0f : q;
    return (int8_t)q;
}
HR_INLINE int8_t hr_i8r_round_nearest(float v, float inv_scale)
{
    float q = v * inv_scale;
    q = q > 127.0f ? 127.0f : q;
    q = q < -127.0f ? -127.0f : q;
    return (int8_t)rintf(q);
}

/* ---- one number of any float format, for code that is not hot ---- */

#ifdef __cplusplus
extern "C" {
#endif

/* The grid of a float format; not for HR_F32 and HR_I8R. */
hr_grid hr_dtype_grid(hr_dtype dtype);
/* v rounded to the format (not HR_I8R); `draw` is unused by `nearest`. HR_F32: v itself, -0 becomes +0. */
float hr_dtype_round(hr_dtype dtype, hr_rounding rounding, float v, uint16_t draw);
/* Reads and writes element i of an array of codes; `scale` is the row scale of i8r, else ignored. */
float hr_dtype_load(hr_dtype dtype, const void *codes, int64_t i, float scale);
void hr_dtype_store(hr_dtype dtype, void *codes, int64_t i, float on_grid, float scale);

#ifdef __cplusplus
}
#endif

#endif
