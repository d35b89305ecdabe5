/* The int8 product, the sparse gradient and scoring as their contracts read. */
#include "dtype/keep.h"
#include "kernels/body/variant.h"

HRK_BEGIN(hrk_quantized, quantize, int64_t n, const void *codes, float row_scale, hr_dtype dtype, int with_error, int8_t *q)
{
    hrk_quantized r = {.scale = row_scale};
    float most = 0;
    for (int64_t i = 0; i < n; i++) {
        const float v = fabsf(hr_dtype_load(dtype, codes, i, row_scale));
        most = v > most || isnan(v) ? v : most;
        if (isnan(most))
            break;
    }
    int exponent = 0;
    (void)frexpf(most, &exponent); /* most = f 2^exponent, 1/2 <= f < 1 */
    if (dtype.id != HR_I8R)
        r.scale = most < 0x1p-100f ? 0 : !isfinite(most) ? NAN : dtype.bytes == 1 ? ldexpf(1, exponent - 7) : most / 127.0f;
    for (int64_t i = 0; i < n; i++) {
        const float v = hr_dtype_load(dtype, codes, i, row_scale);
        if (dtype.id == HR_I8R)
            q[i] = ((const int8_t *)codes)[i];
        else if (!(r.scale > 0))
            q[i] = 0;
        else if (dtype.bytes == 1)
            q[i] = (int8_t)rintf(v / r.scale);
        else
            q[i] = (int8_t)rintf(v * (127.0f / most));
        r.sum += q[i];
        if (with_error) {
            r.square += q[i] * q[i];
            r.rounded += v != (float)q[i] * r.scale;
        }
    }
    return r;
}

HRK_BEGIN(void, dot, int64_t M, int64_t n, const void *codes, size_t pitch, const float *row_scale, hr_dtype dtype, const float *x,
          float *out)
{
    const float part = dtype.id == HR_E4M3 ? 0x1p-8f : 1.0f;
    for (int64_t m = 0; m < M; m++) {
        float chain[16] = {0};
        for (int64_t i = 0; i < n; i++) {
            const float v = part * hr_dtype_load(dtype, (const uint8_t *)codes + (size_t)m * pitch, i, 1.0f);
            chain[i % 16] = fmaf(v, x[i], chain[i % 16]);
        }
        for (int half = 8; half > 0; half /= 2)
            for (int i = 0; i < half; i++)
                chain[i] += chain[i + half];
        out[m] = chain[0] * (dtype.id == HR_I8R ? row_scale[m] : 1.0f / part);
    }
}

HRK_BEGIN(uint32_t, reach, const float *z, hrk_reach_args args, const float *x_error, const float *x_size, const float *limit)
{
    uint32_t bits = 0;
    for (int j = 0; j < HRK_BP; j++) {
        const float most = fmaf(args.error, x_size[j], fmaf(args.size, x_error[j], z[j]));
        bits |= (uint32_t) !(fmaf(args.zscale, most, args.bias) < limit[j]) << j;
    }
    return bits;
}

HRK_GEMM_I8(gemm_i8)
{
    for (int64_t m = 0; m < M; m++) {
        for (int64_t j = 0; j < HRK_BP; j++) {
            int32_t s = 0;
            for (int64_t k = 0; k < 4 * groups; k++)
                s += w[m * pitch + k] * (x[(k / 4 * HRK_BP + j) * 4 + k % 4] - 128);
            c[m * HRK_BP + j] = (float)s * (w_scale[m] * x_scale[j]);
        }
    }
    (void)w_sum, (void)ahead, (void)ahead_bytes;
}

HRK_SPARSIFY(sparsify)
{
    int64_t count = 0;
    for (int64_t m = 0; m < M; m++) {
        for (int64_t b = 0; b < n; b++) {
            const float g = hr_sigmoid(fmaf(args.zscale, z[b / HRK_BP * stride + m * HRK_BP + b % HRK_BP], args.bias[m]));
            const float kept = hr_keep(g, args.tau, draws[m * pitch + b], args.refine, args.label + (uint32_t)m, (uint32_t)b);
            if (kept > 0) {
                row[count] = (uint32_t)b;
                g_out[count++] = args.gscale * kept;
            }
        }
        end[m] = count;
    }
}
