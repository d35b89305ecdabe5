/* Everything that works on one element at a time: gradients, the largest weight of an i8r row, Adam. The loops are written over
 * the inline arithmetic of dtype/, which the compiler turns into vectors of the ISA the file is compiled for; since
 * contraction and reassociation are off, each element goes through the same operations in every variant. */
#include "dtype/pairs.h"
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

HRK_BEGIN(void, axpy, int64_t n, float a, const float *restrict x, float *restrict y)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = fmaf(a, x[i], y[i]);
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

HRK_BEGIN(void, pair, int64_t n, const float *restrict lo, const float *restrict hi, uint32_t *restrict out)
{
    if (!hi)
        for (int64_t i = 0; i < n; i++)
            out[i] = hr_bf16_operand(lo[i]);
    else
        for (int64_t i = 0; i < n; i++)
            out[i] = hr_bf16_operand(lo[i]) | hr_bf16_operand(hi[i]) << 16;
}

HRK_BEGIN(void, pair_row, int64_t n, const float *restrict v, uint32_t *restrict out)
{
    for (int64_t i = 0; i < n / 2; i++)
        out[i] = hr_bf16_operand(v[2 * i]) | hr_bf16_operand(v[2 * i + 1]) << 16;
}

HRK_BEGIN(void, drain, int64_t n, float *restrict x, float *restrict y)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] += x[i];
        x[i] = 0;
    }
}
