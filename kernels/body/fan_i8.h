/* The int8 product of labels with inputs of their own: each label's columns are gathered, for gemm_i8 to multiply. */
#include "kernels/body/variant.h"

hrk_gather_i8_fn HRK_NAME(gather_i8);
hrk_gemm_i8_fn HRK_NAME(gemm_i8);

/* A label with more inputs than are gathered at once. */
static void long_row(int64_t m, int64_t K, const uint32_t *inputs, const int8_t *w, const hrk_fan_i8_args *a)
{
    int32_t sum[HRK_IP] = {0};
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < HRK_IP; i++)
            sum[i] += w[k] * (a->xc[(int64_t)inputs[k] * a->pitch + i] - 128);
    for (int64_t b = 0; b < a->panels * HRK_BP; b++)
        a->c[b / HRK_BP * a->step + m * HRK_BP + b % HRK_BP] = (float)sum[hrk_byte_place(b)] * (a->w_scale[m] * a->x_scale[b]);
}

HRK_BEGIN(void, fan_i8, int64_t M, int64_t K, const uint32_t *inputs, hrk_fan_i8_args a)
{
    enum { MOST = 512 };
    uint8_t x[MOST * HRK_IP] __attribute__((aligned(64)));
    const int64_t padded = (K + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t m = 0; m < M; m++) {
        if (K > MOST) {
            long_row(m, K, inputs + m * K, a.w + m * padded, &a);
            continue;
        }
        HRK_NAME(gather_i8)(K, inputs + m * K, a.xc, a.pitch, x);
        for (int64_t p = 0; p < a.panels; p++)
            HRK_NAME(gemm_i8)(1, (K + 3) / 4, a.w + m * padded, padded, a.w_sum + m, a.w_scale + m, x + p * padded * HRK_BP,
                              a.x_scale + p * HRK_BP, a.c + p * a.step + m * HRK_BP, x, 0);
    }
}
