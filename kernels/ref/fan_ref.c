/* The fan-in kernels as their contracts read. */
#include "kernels/body/variant.h"

#include <math.h>

HRK_BEGIN(void, fan_logits, int64_t M, int64_t K, const uint32_t *inputs, hrk_left A, const float *panel, float *c)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t j = 0; j < HRK_BP; j++) {
            float s = 0;
            for (int64_t k = 0; k < K; k++)
                s = fmaf(A.a[m * A.row + k / A.kb * A.block + k % A.kb * A.step], panel[inputs[m * K + k] * HRK_BP + j], s);
            c[m * HRK_BP + j] = s;
        }
}

static float add_chains(float chain[16])
{
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            chain[i] += chain[i + half];
    return chain[0];
}

HRK_BEGIN(void, fan_backward, int64_t n, const hrk_link *links, hrk_fan_args a)
{
    for (int64_t i = 0; i < n; i++) {
        const hrk_link *l = &links[i];
        float chain[16] = {0};
        if (!a.first)
            memcpy(chain, a.chains + i * 16, sizeof chain);
        for (int64_t p = 0; p < a.panels; p++)
            for (int64_t b = 0; b < HRK_BP; b++) {
                const float g = a.g[p * a.g_step + l->row * HRK_BP + b];
                float *dx = &a.dx[p * a.dx_step + l->column * HRK_BP + b];
                *dx = fmaf(l->w, g, *dx);
                chain[b % 16] = fmaf(g, a.x[p * a.x_step + l->column * HRK_BP + b], chain[b % 16]);
            }
        if (a.last)
            a.dw[l->slot] = add_chains(chain);
        else
            memcpy(a.chains + i * 16, chain, sizeof chain);
    }
}

HRK_BEGIN(void, dots, int64_t M, int64_t N, int64_t panels, const float *a, int64_t a_step, const float *b, int64_t b_step, float *c,
          int64_t ldc)
{
    for (int64_t m = 0; m < M; m++)
        for (int64_t j = 0; j < N; j++) {
            float chain[16] = {0};
            for (int64_t p = 0; p < panels; p++)
                for (int64_t i = 0; i < HRK_BP; i++)
                    chain[i % 16] = fmaf(a[p * a_step + m * HRK_BP + i], b[p * b_step + j * HRK_BP + i], chain[i % 16]);
            c[m * ldc + j] = add_chains(chain);
        }
}

HRK_BEGIN(void, gather, int64_t K, const uint32_t *inputs, const float *panel, float *out)
{
    for (int64_t k = 0; k < K; k++)
        memcpy(out + k * HRK_BP, panel + (int64_t)inputs[k] * HRK_BP, HRK_BP * sizeof(float));
}

HRK_BEGIN(void, scatter, int64_t K, const uint32_t *inputs, const float *in, float *panel)
{
    for (int64_t k = 0; k < K; k++)
        for (int64_t j = 0; j < HRK_BP; j++)
            panel[(int64_t)inputs[k] * HRK_BP + j] = in[k * HRK_BP + j] + panel[(int64_t)inputs[k] * HRK_BP + j];
}

HRK_BEGIN(void, add_transposed, int64_t M, int64_t N, const float *from, float *to)
{
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++)
            to[i * HRK_DP + j] += from[j * HRK_BP + i];
}

HRK_BEGIN(void, gather_i8, int64_t K, const uint32_t *inputs, const uint8_t *xc, int64_t pitch, uint8_t *out)
{
    const int64_t padded = (K + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t k = 0; k < padded; k++)
        for (int64_t b = 0; b < HRK_IP; b++)
            out[b / HRK_BP * padded * HRK_BP + (k / 4 * HRK_BP + b % HRK_BP) * 4 + k % 4] =
                k < K ? xc[(int64_t)inputs[k] * pitch + hrk_byte_place(b)] : 128;
}

HRK_BEGIN(void, fan_i8, int64_t M, int64_t K, const uint32_t *inputs, hrk_fan_i8_args a)
{
    const int64_t padded = (K + HRK_QP - 1) / HRK_QP * HRK_QP;
    for (int64_t m = 0; m < M; m++)
        for (int64_t b = 0; b < a.panels * HRK_BP; b++) {
            int32_t s = 0;
            for (int64_t k = 0; k < K; k++)
                s += a.w[m * padded + k] * (a.xc[(int64_t)inputs[m * K + k] * a.pitch + hrk_byte_place(b)] - 128);
            a.c[b / HRK_BP * a.step + m * HRK_BP + b % HRK_BP] = (float)s * (a.w_scale[m] * a.x_scale[b]);
        }
}

#include "kernels/body/fan_lists.h"

HRK_BEGIN(int64_t, column_hits, int64_t K, const void *inputs, int wide, const hrk_columns *x, uint32_t *which, uint32_t *list)
{
    int64_t n = 0;
    for (int64_t k = 0; k < K; k++) {
        const uint32_t input = wide ? ((const uint32_t *)inputs)[k] : ((const uint16_t *)inputs)[k];
        if (input >= x->columns)
            return -1;
        if (x->present[input / 32] >> input % 32 & 1) {
            which[n] = (uint32_t)k;
            list[n++] = x->list[input];
        }
    }
    return n;
}

HRK_BEGIN(void, column_logits, int64_t n, const uint32_t *which, const uint32_t *list, const hrk_columns *x, const float *w, float *z)
{
    for (int64_t i = 0; i < n; i++)
        for (uint32_t e = x->start[list[i]]; e < x->start[list[i] + 1]; e++)
            z[x->row[e]] = fmaf(w[which[i]], x->value[e], z[x->row[e]]);
}

HRK_BEGIN(void, column_dw, int64_t n, const uint32_t *which, const uint32_t *list, const hrk_columns *x, const float *g, float *dw)
{
    for (int64_t i = 0; i < n; i++) {
        dw[which[i]] = 0;
        for (uint32_t e = x->start[list[i]]; e < x->start[list[i] + 1]; e++)
            dw[which[i]] = fmaf(g[x->row[e]], x->value[e], dw[which[i]]);
    }
}
