/* Everything that works on one element at a time: gradients, decoding, the SGD update, Adam. The loops are written over
 * the inline arithmetic of dtype/, which the compiler turns into vectors of the ISA the file is compiled for; since
 * contraction and reassociation are off, each element goes through the same operations in every variant. */
#include "dtype/sigmoid.h"
#include "kernels/body/variant.h"

HRK_BEGIN(void, grad_bce, int64_t n, float *restrict z, hrk_grad_args args)
{
    if (args.low_precision) {
        for (int64_t i = 0; i < n; i++) {
            const float logit = hr_round_nearest(fmaf(args.zscale, z[i], args.bias), HR_GRID_BF16);
            z[i] = args.gscale * hr_round_nearest(hr_sigmoid(logit), HR_GRID_BF16);
        }
        return;
    }
    for (int64_t i = 0; i < n; i++)
        z[i] = args.gscale * hr_sigmoid(fmaf(args.zscale, z[i], args.bias));
}

HRK_BEGIN(void, grad_hinge, int64_t n, float *restrict z, hrk_grad_args args)
{
    for (int64_t i = 0; i < n; i++) {
        float m = 1.0f + fmaf(args.zscale, z[i], args.bias);
        if (args.low_precision)
            m = hr_round_nearest(m, HR_GRID_BF16);
        z[i] = args.gscale * (2.0f * (m > 0.0f ? m : 0.0f));
    }
}

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

HRK_BEGIN(float, absmax_i8r, int64_t n, const int8_t *restrict codes, float scale, const float *restrict dw,
          hrk_sgd_args args)
{
    uint32_t most = 0; /* bits of |v| order as integers, and a maximum does not depend on the order */
    for (int64_t i = 0; i < n; i++) {
        const uint32_t u = hr_f32_bits(fmaf(-args.step, dw[i], args.keep * ((float)codes[i] * scale))) & 0x7fffffffu;
        most = u > most ? u : most;
    }
    return hr_bits_f32(most);
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

HRK_BEGIN(void, affine, int64_t n, float scale, float bias, float *restrict z)
{
    for (int64_t i = 0; i < n; i++)
        z[i] = fmaf(scale, z[i], bias);
}

HRK_BEGIN(void, axpy, int64_t n, float a, const float *restrict x, float *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
}

HRK_BEGIN(int, any_ge, int64_t n, const float *restrict z, const float *restrict limit)
{
    int any = 0;
    for (int64_t i = 0; i < n; i++)
        any |= z[i] >= limit[i];
    return any;
}

HRK_BEGIN(void, adam, int64_t n, float *restrict w, float *restrict m, float *restrict v, const float *restrict g,
          hrk_adam_args a)
{
    for (int64_t i = 0; i < n; i++) {
        m[i] = fmaf(a.one_minus_beta1, g[i] - m[i], m[i]);
        v[i] = fmaf(a.one_minus_beta2, g[i] * g[i] - v[i], v[i]);
        w[i] = a.keep * w[i] - a.rate * (m[i] / (sqrtf(v[i]) * a.v_scale + a.eps));
    }
}
