/* Codes to floats and the SGD update, number by number, over the inline arithmetic of dtype/. */
#include "kernels/body/variant.h"

hrk_absmax_i8r_fn HRK_NAME(absmax_i8r);

#define DECODE(type, expression)                                                                                       \
    {                                                                                                                  \
        const type *restrict c = codes;                                                                                \
        for (int64_t i = 0; i < n; i++)                                                                                \
            out[i] = (expression);                                                                                     \
        break;                                                                                                         \
    }

HRK_BEGIN(void, decode, int64_t n, const void *restrict codes, float scale, hr_dtype dtype, float *restrict out)
{
    switch (dtype.id) {
    case HR_F32: DECODE(float, c[i])
    case HR_BF16: DECODE(uint16_t, hr_bf16_decode(c[i]))
    case HR_F16: DECODE(uint16_t, hr_f16_decode(c[i]))
    case HR_E4M3: DECODE(uint8_t, hr_e4m3_decode(c[i]))
    case HR_E5M2: DECODE(uint8_t, hr_e5m2_decode(c[i]))
    case HR_I8R: DECODE(int8_t, (float)c[i] * scale)
    default: DECODE(uint8_t, hr_exmy_decode(c[i], dtype.exp_bits, dtype.man_bits))
    }
}

HRK_BEGIN(void, decode_row, int64_t n, const void *codes, float scale, hr_dtype dtype, int64_t stride, float *out)
{
    for (int64_t i = 0; i < n; i++)
        out[i / HRK_DP * stride + i % HRK_DP] = hr_dtype_load(dtype, codes, i, scale);
}

/* The three roundings of one format; `value` and `store` are expressions in i. */
#define SGD(type, value, grid, store)                                                                                  \
    {                                                                                                                  \
        type *restrict c = codes;                                                                                      \
        const hr_grid g = (grid);                                                                                      \
        if (args.rounding == HR_ROUND_STOCHASTIC)                                                                      \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const float v = hr_round_sr(fmaf(-args.step, dw[i], args.keep * (value)), draws[i], g);                \
                c[i] = (store);                                                                                        \
            }                                                                                                          \
        else if (args.rounding == HR_ROUND_ELMO)                                                                       \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const float v = hr_round_elmo(fmaf(-args.step, dw[i], args.keep * (value)), draws[i], g);              \
                c[i] = (store);                                                                                        \
            }                                                                                                          \
        else                                                                                                           \
            for (int64_t i = 0; i < n; i++) {                                                                          \
                const float v = hr_round_nearest(fmaf(-args.step, dw[i], args.keep * (value)), g);                     \
                c[i] = (store);                                                                                        \
            }                                                                                                          \
        break;                                                                                                         \
    }

HRK_BEGIN(void, sgd, int64_t n, void *restrict codes, const float *restrict dw, const uint16_t *restrict draws,
          hrk_sgd_args args)
{
    switch (args.dtype.id) {
    case HR_F32: {
        float *restrict c = codes;
        for (int64_t i = 0; i < n; i++)
            c[i] = fmaf(-args.step, dw[i], args.keep * c[i]) + 0.0f;
        break;
    }
    case HR_BF16: SGD(uint16_t, hr_bf16_decode(c[i]), HR_GRID_BF16, hr_bf16_encode(v))
    case HR_F16: SGD(uint16_t, hr_f16_decode(c[i]), HR_GRID_F16, hr_f16_encode(v))
    case HR_E4M3: SGD(uint8_t, hr_e4m3_decode(c[i]), HR_GRID_E4M3, hr_e4m3_encode(v))
    case HR_E5M2: SGD(uint8_t, hr_e5m2_decode(c[i]), HR_GRID_E5M2, hr_e5m2_encode(v))
    case HR_EXMY: {
        const int x = args.dtype.exp_bits, y = args.dtype.man_bits;
        SGD(uint8_t, hr_exmy_decode(c[i], x, y), hr_grid_exmy(x, y), hr_exmy_encode(v, x, y))
    }
    default: break;
    }
}

HRK_BEGIN(void, sgd_panel, int64_t rows, int64_t n, void *codes, size_t pitch, const float *w, const float *dw,
          const uint16_t *draws, hrk_sgd_args args)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            const int64_t at = r * HRK_DP + i;
            const float v = fmaf(-args.step, dw[at], args.keep * w[at]);
            const uint16_t draw = args.rounding != HR_ROUND_NEAREST && args.dtype.id != HR_F32 ? draws[at] : 0;
            hr_dtype_store(args.dtype, (char *)codes + (size_t)r * pitch, i,
                           hr_dtype_round(args.dtype, args.rounding, v, draw), 1.0f);
        }
    }
}

HRK_BEGIN(void, sgd_i8r, int64_t n, int8_t *restrict codes, float scale, float new_scale, const float *restrict dw,
          const uint16_t *restrict draws, hrk_sgd_args args)
{
    const float inv = 1.0f / new_scale;
    if (args.rounding == HR_ROUND_NEAREST)
        for (int64_t i = 0; i < n; i++)
            codes[i] = hr_i8r_round_nearest(fmaf(-args.step, dw[i], args.keep * ((float)codes[i] * scale)), inv);
    else
        for (int64_t i = 0; i < n; i++)
            codes[i] = hr_i8r_round_sr(fmaf(-args.step, dw[i], args.keep * ((float)codes[i] * scale)), inv, draws[i]);
}

/* dw of label m in one panel. */
static void list_dw(const hrk_lists *l, int64_t m, const float *x, float dw[HRK_DP])
{
    memset(dw, 0, HRK_DP * sizeof *dw);
    for (int64_t e = l->start[m]; e < l->start[m + 1]; e++)
        for (int j = 0; j < HRK_DP; j++)
            dw[j] = fmaf(l->g[e], x[l->row[e] * HRK_DP + (uint32_t)j], dw[j]);
}

HRK_SPARSE_SGD(sparse_sgd)
{
    for (int64_t m = 0; m < l->count; m++, draws += HRK_DP) {
        char *c = (char *)codes + (size_t)l->label[m] * pitch;
        const bool i8r = args.dtype.id == HR_I8R;
        float w[HRK_DP] = {0}, dw[HRK_DP];
        HRK_NAME(decode)(n, c, i8r ? l->old[m] : 1.0f, args.dtype, w);
        list_dw(l, m, x, dw);
        for (int64_t e = l->start[m]; e < l->start[m + 1]; e++)
            for (int j = 0; j < HRK_DP; j++)
                dx[l->row[e] * HRK_DP + (uint32_t)j] = fmaf(scale * l->g[e], w[j], dx[l->row[e] * HRK_DP + (uint32_t)j]);
        if (i8r)
            HRK_NAME(sgd_i8r)(n, (int8_t *)c, l->old[m], l->fresh[m], dw, draws, args);
        else
            HRK_NAME(sgd)(n, c, dw, draws, args);
    }
}

HRK_SPARSE_ABSMAX(sparse_absmax)
{
    for (int64_t m = 0; m < l->count; m++) {
        float dw[HRK_DP];
        list_dw(l, m, x, dw);
        const float v = HRK_NAME(absmax_i8r)(n, codes + (size_t)l->label[m] * pitch, l->old[m], dw, args);
        most[m] = hr_f32_bits(v) > hr_f32_bits(most[m]) ? v : most[m]; /* NaN is the largest */
    }
}
