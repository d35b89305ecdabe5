/* Codes to floats and the SGD update, in vectors of HRK_VL lanes: what kernels/ref/codes_ref.c says number by number.
 *
 * Each v_ function gives the bits of its namesake in dtype/dtype.h, most by the same operations; columns that do not fill a
 * vector take the scalar text itself. Included with the vector operations of the ISA: the formats are constants at every call
 * but for eXmY, whose shifts stay variable. */
#include "kernels/body/variant.h"

#define LIKELY(x) __builtin_expect(x, 1)
#define INLINE static inline __attribute__((always_inline))

typedef float vf __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
typedef uint32_t vu __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));

INLINE vf all_f(float x)
{
    return x - (vf){0};
}
INLINE vu all_u(uint32_t x)
{
    return x - (vu){0};
}
INLINE vu abs_bits(vf v)
{
    return (vu)v & 0x7fffffffu;
}

INLINE vf v_saturate(vf v, float max)
{
    return LARGER(all_f(-max), SMALLER(all_f(max), v)) + 0.0f;
}

INLINE vu v_dither(vu u, vu r, int n)
{
    if (n > 16)
        u += (r << (n - 16)) + (1u << (n - 17));
    else
        u += r >> (16 - n);
    return u & ~((1u << n) - 1);
}

INLINE vf v_round_sr(vf v, vu r, hr_grid g)
{
    const int n = 23 - g.man;
    if (g.emin == -126) /* bf16: no k */
        return v_saturate((vf)v_dither((vu)v, r, n), g.max);
    const vu smallest = all_u((uint32_t)(127 + g.emin) << 23);
    const vf k = (vf)PICK(LESS(abs_bits(v), smallest), smallest | ((vu)v & 0x80000000u), (vu){0});
    return v_saturate((vf)v_dither((vu)(v + k), r, n) - k, g.max);
}

INLINE vf v_round_nearest(vf v, hr_grid g)
{
    const int n = 23 - g.man;
    const vu bits = (vu)v;
    vu u = (bits + ((1u << (n - 1)) - 1) + (bits >> n & 1)) & ~((1u << n) - 1);
    if (g.emin > -126) {
        const float magic = 1.5f * hr_bits_f32((uint32_t)(127 + 23 + g.emin - g.man) << 23);
        u = PICK(LESS(abs_bits(v), all_u((uint32_t)(127 + g.emin) << 23)), (vu)((v + magic) - magic), u);
    }
    return v_saturate((vf)u, g.max);
}

/* Of the two readings of a code, as a normal and as a subnormal number, the right one is the smaller. */
INLINE vf v_small_decode(vu magnitude, vu sign, int man, int emin)
{
    const vu at = magnitude << (23 - man), normal = at + ((uint32_t)(127 + emin - 1) << 23);
    const uint32_t raise = (uint32_t)(127 + emin) << 23;
    const vf low = (vf)(at + raise) - hr_bits_f32(raise);
    return (vf)(LEAST((vu)low, normal) | sign);
}

/* The code without its sign. */
INLINE vu v_small_encode(vf on_grid, int man, int emin)
{
    const vu abs = abs_bits(on_grid);
    const uint32_t smallest = (uint32_t)(127 + emin) << 23;
    const vu normal = (abs - ((uint32_t)(127 + emin - 1) << 23)) >> (23 - man);
    const vu low = ((vu)((vf)abs + hr_bits_f32(smallest)) - smallest) >> (23 - man);
    return PICK(LESS(abs, all_u(smallest)), low, normal);
}

/* The code of |v| rounded stochastically: hr_round_sr and its encoding at once, in integers. The bits of |v|, counted from those of
 * the place where zero would be, are its code with n more digits, so rounding is an addition and a shift, and saturation a minimum.
 * Below the smallest normal s, |v| + s is on the right grid, as in hr_round_sr, and its bits count from those of s; of these two
 * counts the larger one is right, since |v| + s > 2 |v| just there. Not for NaN. */
INLINE vu v_code_sr(vf v, vu r, hr_grid g)
{
    const int n = 23 - g.man;
    const uint32_t s = (uint32_t)(127 + g.emin) << 23, zero = s - (1u << 23);
    const uint32_t half = n > 16 ? 1u << (n - 17) : 0u, most = (hr_f32_bits(g.max) - zero) >> n;
    const vu abs = abs_bits(v), low = (vu)((vf)abs + hr_bits_f32(s)) - (s - half), normal = abs - (zero - half);
    return LEAST((MOST_SIGNED(normal, low) + (n > 16 ? r << (n - 16) : r >> (16 - n))) >> n, all_u(most));
}

/* A float format stored in `bytes` bytes; f32 is the one without a grid. */
typedef struct format {
    hr_grid grid;
    int bytes, bits; /* bits below the sign */
    bool i8r;
} format;

static const format f32 = {.bytes = 4}, bf16 = {{7, -126, 0x1.fep127f}, 2, 15, false}, f16 = {{10, -14, 65504.0f}, 2, 15, false},
                    e4m3 = {{3, -6, 448.0f}, 1, 7, false}, e5m2 = {{2, -14, 57344.0f}, 1, 7, false},
                    i8r = {.bytes = 1, .bits = 7, .i8r = true};

static format exmy(hr_dtype t)
{
    return (format){hr_grid_exmy(t.exp_bits, t.man_bits), 1, t.exp_bits + t.man_bits, false};
}

INLINE vf decode_vector(const void *codes, const format f)
{
    if (f.bytes == 4)
        return *(const vf *)codes;
    if (f.bits == 7 && f.grid.man == 3)
        return LOAD_E4M3(codes) * 256.0f;
    const vu c = f.bytes == 2 ? LOAD16(codes) : LOAD8(codes);
    if (f.grid.emin == -126)
        return (vf)(c << 16);
    return v_small_decode(c & ((1u << f.bits) - 1), (c >> f.bits) << 31, f.grid.man, f.grid.emin);
}

INLINE vu encode_vector(vf on_grid, const format f)
{
    const vu bits = (vu)on_grid;
    if (f.grid.emin == -126)
        return bits >> 16;
    const vu e = v_small_encode(on_grid, f.grid.man, f.grid.emin) | (bits & 0x80000000u);
    return (e & ((1u << f.bits) - 1)) | (f.bytes == 2 ? e >> 16 : (e >> 31) << f.bits);
}

/* ---- decode ---- */

/* Columns go to panels of HRK_DP, `stride` floats apart. */
INLINE void decode_run(int64_t n, const void *codes, const format f, hr_dtype dtype, int64_t stride, float *out)
{
    const char *c = codes;
    for (; n > 0; n -= HRK_DP, c += HRK_DP * f.bytes, out += stride) {
        const int64_t m = n < HRK_DP ? n : HRK_DP;
        int64_t i = 0;
        for (; i + HRK_VL <= m; i += HRK_VL)
            *(vf *)(void *)(out + i) = decode_vector(c + i * f.bytes, f);
        for (; i < m; i++)
            out[i] = hr_dtype_load(dtype, c, i, 1.0f);
    }
}

static void decode_i8r(int64_t n, const int8_t *c, float scale, int64_t stride, float *out)
{
    for (; n > 0; n -= HRK_DP, c += HRK_DP, out += stride) {
        const int64_t m = n < HRK_DP ? n : HRK_DP;
        int64_t i = 0;
        for (; i + HRK_VL <= m; i += HRK_VL)
            *(vf *)(void *)(out + i) = LOAD_I8(c + i) * scale;
        for (; i < m; i++)
            out[i] = (float)c[i] * scale;
    }
}

HRK_BEGIN(void, decode_row, int64_t n, const void *codes, float scale, hr_dtype dtype, int64_t stride, float *out)
{
    switch (dtype.id) {
    case HR_F32: decode_run(n, codes, f32, dtype, stride, out); break;
    case HR_BF16: decode_run(n, codes, bf16, dtype, stride, out); break;
    case HR_F16: decode_run(n, codes, f16, dtype, stride, out); break;
    case HR_E4M3: decode_run(n, codes, e4m3, dtype, stride, out); break;
    case HR_E5M2: decode_run(n, codes, e5m2, dtype, stride, out); break;
    case HR_I8R: decode_i8r(n, codes, scale, stride, out); break;
    default: decode_run(n, codes, exmy(dtype), dtype, stride, out);
    }
}

HRK_BEGIN(void, decode, int64_t n, const void *codes, float scale, hr_dtype dtype, float *out)
{
    HRK_NAME(decode_row)(n, codes, scale, dtype, HRK_DP, out);
}

/* ---- update ---- */

enum { PART = 4 * HRK_VL }; /* columns whose old codes, dW and new codes are in registers together */

INLINE void decode_part(const void *codes, const format f, vf *v)
{
    for (int k = 0; k < 4; k++)
        v[k] = decode_vector((const char *)codes + k * HRK_VL * f.bytes, f);
}

INLINE void store_part(void *codes, const vu *code, const format f)
{
    if (f.bytes == 2)
        store16(codes, code, 1u << f.bits);
    else
        store8(codes, code, 1u << f.bits);
}

/* The code of a zero may get a sign here, which store_part takes away. */
INLINE void update_part(void *codes, const vf *old, const vf *dw, const uint16_t *draws, const hrk_sgd_args args, const format f,
                        const hr_rounding rounding)
{
    vf v[4];
    vu code[4];
    for (int k = 0; k < 4; k++)
        v[k] = FMA(all_f(-args.step), dw[k], args.keep * old[k]);
    if (f.bytes == 4) {
        for (int k = 0; k < 4; k++)
            *(vf *)(void *)((float *)codes + k * HRK_VL) = v[k] + 0.0f;
        return;
    }
    if (rounding == HR_ROUND_STOCHASTIC && f.grid.emin > -126 && LIKELY(!(ANY_NAN(v[0], v[1]) | ANY_NAN(v[2], v[3])))) {
        for (int k = 0; k < 4; k++)
            code[k] = v_code_sr(v[k], LOAD16(draws + k * HRK_VL), f.grid) | ((vu)v[k] >> (31 - f.bits) & 1u << f.bits);
    } else {
        for (int k = 0; k < 4; k++) {
            if (rounding == HR_ROUND_STOCHASTIC)
                v[k] = v_round_sr(v[k], LOAD16(draws + k * HRK_VL), f.grid);
            else if (rounding == HR_ROUND_ELMO)
                v[k] = v_round_nearest((vf)v_dither((vu)v[k], LOAD16(draws + k * HRK_VL), 23 - f.grid.man), f.grid);
            else
                v[k] = v_round_nearest(v[k], f.grid);
            code[k] = encode_vector(v[k], f);
        }
    }
    store_part(codes, code, f);
}

/* n codes from their dW; w: their decoded values, or NULL. Columns that do not fill a part go through a copy. */
INLINE void update_row(int64_t n, void *codes, const float *w, const float *dw, const uint16_t *draws, const hrk_sgd_args args,
                       const format f, const hr_rounding rounding)
{
    char *c = codes;
    vf old[4];
    for (; n >= PART; n -= PART, c += PART * f.bytes, dw += PART, draws += PART) {
        if (w) {
            for (int k = 0; k < 4; k++)
                old[k] = *(const vf *)(const void *)(w + k * HRK_VL);
            w += PART;
        } else {
            decode_part(c, f, old);
        }
        update_part(c, old, (const vf *)(const void *)dw, draws, args, f, rounding);
    }
    if (n > 0) {
        char code[PART * sizeof(float)] = {0};
        vf step[4] = {{0}};
        uint16_t draw[PART] = {0};
        memcpy(code, c, (size_t)(n * f.bytes));
        memcpy(step, dw, (size_t)n * sizeof *dw);
        if (rounding != HR_ROUND_NEAREST)
            memcpy(draw, draws, (size_t)n * sizeof *draws);
        decode_part(code, f, old);
        if (w)
            memcpy(old, w, (size_t)n * sizeof *w);
        update_part(code, old, step, draw, args, f, rounding);
        memcpy(c, code, (size_t)(n * f.bytes));
    }
}

#define BY_ROUNDING(function, format, ...)                                                                             \
    if (args.rounding == HR_ROUND_STOCHASTIC)                                                                          \
        function(__VA_ARGS__, args, format, HR_ROUND_STOCHASTIC);                                                      \
    else if (args.rounding == HR_ROUND_ELMO)                                                                           \
        function(__VA_ARGS__, args, format, HR_ROUND_ELMO);                                                            \
    else                                                                                                               \
        function(__VA_ARGS__, args, format, HR_ROUND_NEAREST);                                                         \
    break;

/* The function with its format and rounding as constants. */
#define BY_TYPE(function, ...)                                                                                         \
    switch (args.dtype.id) {                                                                                           \
    case HR_F32: function(__VA_ARGS__, args, f32, HR_ROUND_NEAREST); break;                                            \
    case HR_BF16: BY_ROUNDING(function, bf16, __VA_ARGS__)                                                             \
    case HR_F16: BY_ROUNDING(function, f16, __VA_ARGS__)                                                               \
    case HR_E4M3: BY_ROUNDING(function, e4m3, __VA_ARGS__)                                                             \
    case HR_E5M2: BY_ROUNDING(function, e5m2, __VA_ARGS__)                                                             \
    case HR_EXMY: {                                                                                                    \
        const format f = exmy(args.dtype);                                                                             \
        BY_ROUNDING(function, f, __VA_ARGS__)                                                                          \
    }                                                                                                                  \
    default: break;                                                                                                    \
    }

INLINE void update_rows(int64_t rows, int64_t n, void *codes, size_t pitch, const float *w, const float *dw, const uint16_t *draws,
                        const hrk_sgd_args args, const format f, const hr_rounding rounding)
{
    for (int64_t r = 0; r < rows; r++)
        update_row(n, (char *)codes + (size_t)r * pitch, w + r * HRK_DP, dw + r * HRK_DP, draws + r * HRK_DP, args, f, rounding);
}

HRK_BEGIN(void, sgd_panel, int64_t rows, int64_t n, void *codes, size_t pitch, const float *w, const float *dw,
          const uint16_t *draws, hrk_sgd_args args)
{
    BY_TYPE(update_rows, rows, n, codes, pitch, w, dw, draws)
}

HRK_BEGIN(void, sgd, int64_t n, void *codes, const float *dw, const uint16_t *draws, hrk_sgd_args args)
{
    BY_TYPE(update_row, n, codes, NULL, dw, draws)
}

/* hr_i8r_round_sr and hr_i8r_round_nearest, in vectors. */
INLINE vu code_i8r(vf v, float inv, const uint16_t *draws, const bool nearest)
{
    vf q = v * inv;
    if (!nearest)
        q = FLOOR(q + (TO_FLOAT(LOAD16(draws)) + 0.5f) * 0x1p-16f);
    q = LARGER(all_f(-127.0f), SMALLER(all_f(127.0f), q));
    return TO_INT(nearest ? RINT(q) : q) & 0xffu;
}

INLINE void update_part_i8r(void *codes, const vf *old, const vf *dw, float inv, const uint16_t *draws, const hrk_sgd_args args,
                            const bool nearest)
{
    vu code[4];
    for (int k = 0; k < 4; k++)
        code[k] = code_i8r(FMA(all_f(-args.step), dw[k], args.keep * old[k]), inv, draws + k * HRK_VL, nearest);
    store8(codes, code, 0x80);
}

INLINE void update_i8r(int64_t n, int8_t *codes, float scale, float inv, const float *dw, const uint16_t *draws,
                       const hrk_sgd_args args, const bool nearest)
{
    int64_t i = 0;
    for (; i + PART <= n; i += PART) {
        vf old[4];
        for (int k = 0; k < 4; k++)
            old[k] = LOAD_I8(codes + i + k * HRK_VL) * scale;
        update_part_i8r(codes + i, old, (const vf *)(const void *)(dw + i), inv, draws + i, args, nearest);
    }
    for (; i < n; i++) {
        const float v = fmaf(-args.step, dw[i], args.keep * ((float)codes[i] * scale));
        codes[i] = nearest ? hr_i8r_round_nearest(v, inv) : hr_i8r_round_sr(v, inv, draws[i]);
    }
}

HRK_BEGIN(void, sgd_i8r, int64_t n, int8_t *codes, float scale, float new_scale, const float *dw, const uint16_t *draws,
          hrk_sgd_args args)
{
    if (args.rounding == HR_ROUND_NEAREST)
        update_i8r(n, codes, scale, 1.0f / new_scale, dw, draws, args, true);
    else
        update_i8r(n, codes, scale, 1.0f / new_scale, dw, draws, args, false);
}

/* ---- backward from lists ---- */

/* PART columns of label m: dw, and dx with the old weights. */
INLINE void list_part(const hrk_lists *l, int64_t m, float scale, const float *x, float *dx, const vf *old, vf *dw)
{
    for (int k = 0; k < 4; k++)
        dw[k] = (vf){0};
    for (int64_t e = l->start[m]; e < l->start[m + 1]; e++) {
        const vf *xb = (const vf *)(const void *)(x + (int64_t)l->row[e] * HRK_DP), g = all_f(l->g[e]), factor = all_f(scale * l->g[e]);
        vf *dxb = (vf *)(void *)(dx + (int64_t)l->row[e] * HRK_DP);
        for (int k = 0; k < 4; k++) {
            dw[k] = FMA(g, xb[k], dw[k]);
            if (old)
                dxb[k] = FMA(factor, old[k], dxb[k]);
        }
    }
}

/* A row's n codes in place, or, where they do not fill the panel, a copy with zeros behind them. */
INLINE char *whole_panel(int64_t n, const format f, char *codes, char *copy)
{
    if (n == HRK_DP)
        return codes;
    memset(copy, 0, (size_t)(HRK_DP * f.bytes));
    memcpy(copy, codes, (size_t)(n * f.bytes));
    return copy;
}

INLINE void sparse_rows(const hrk_lists *l, float scale, const float *x, float *dx, int64_t n, void *codes, size_t pitch,
                        const uint16_t *draws, const hrk_sgd_args args, const format f, const hr_rounding rounding)
{
    char copy[HRK_DP * sizeof(float)];
    for (int64_t m = 0; m < l->count; m++, draws += HRK_DP) {
        char *row = (char *)codes + (size_t)l->label[m] * pitch, *c = whole_panel(n, f, row, copy);
        for (int j = 0; j < HRK_DP; j += PART) {
            vf old[4], dw[4];
            char *at = c + j * f.bytes;
            if (f.i8r)
                for (int k = 0; k < 4; k++)
                    old[k] = LOAD_I8(at + k * HRK_VL) * l->old[m];
            else
                decode_part(at, f, old);
            list_part(l, m, scale, x + j, dx + j, old, dw);
            if (f.i8r)
                update_part_i8r(at, old, dw, 1.0f / l->fresh[m], draws + j, args, rounding == HR_ROUND_NEAREST);
            else
                update_part(at, old, dw, draws + j, args, f, rounding);
        }
        if (c != row)
            memcpy(row, copy, (size_t)(n * f.bytes));
    }
}

HRK_SPARSE_SGD(sparse_sgd)
{
    if (args.dtype.id != HR_I8R) {
        BY_TYPE(sparse_rows, l, scale, x, dx, n, codes, pitch, draws)
    } else if (args.rounding == HR_ROUND_NEAREST) {
        sparse_rows(l, scale, x, dx, n, codes, pitch, draws, args, i8r, HR_ROUND_NEAREST);
    } else {
        sparse_rows(l, scale, x, dx, n, codes, pitch, draws, args, i8r, HR_ROUND_STOCHASTIC);
    }
}

HRK_SPARSE_ABSMAX(sparse_absmax)
{
    char copy[HRK_DP];
    for (int64_t m = 0; m < l->count; m++) {
        const char *c = whole_panel(n, i8r, (char *)(uintptr_t)codes + (size_t)l->label[m] * pitch, copy);
        vu largest = all_u(hr_f32_bits(most[m]));
        for (int j = 0; j < HRK_DP; j += PART) {
            vf dw[4];
            list_part(l, m, 0, x + j, NULL, NULL, dw);
            for (int k = 0; k < 4; k++)
                largest = MOST_SIGNED(largest, abs_bits(FMA(all_f(-args.step), dw[k], args.keep * (LOAD_I8(c + j + k * HRK_VL) * l->old[m]))));
        }
        uint32_t bits = 0;
        for (int k = 0; k < HRK_VL; k++)
            bits = largest[k] > bits ? largest[k] : bits;
        most[m] = hr_bits_f32(bits);
    }
}
