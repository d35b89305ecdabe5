/* The three products of a tile with bf16 operands and f32 sums (head.arith=bf16). W in an 8-bit type is exact; X and G are rounded to
 * nearest, and what is below 2^-50 is zero. Each product wants its pairs along the axis it sums over, so W and G are laid out twice. */
#include "head/segment.h"

static int64_t half(int64_t n)
{
    return (n + 1) / 2;
}

void hr_dense_bf16_logits(const hr_packed *x, const hrk_table *k, int64_t rows, hr_tile_scratch *s)
{
    const int64_t pairs = x->dim_padded / 2, panels = x->dim_padded / HRK_DP;
    for (int64_t q = 0; q < panels; q++)
        for (int64_t r = 0; r < rows; r++)
            k->pair_row(HRK_DP, s->w + (q * rows + r) * HRK_DP, s->w_by_dim + (r * panels + q) * HRK_DP / 2);
    const hrk_left16 left = {.a = s->w_by_dim, .row = pairs, .step = 1, .kb = pairs, .block = 0};
    for (int64_t p = 0; p < x->padded / HRK_BP; p++)
        k->gemm16_bp(rows, pairs, left, x->xt16 + p * x->xt16_step, s->g + p * rows * HRK_BP, HRK_BP, 1.0f, 0);
}

/* G carries the factor of the reduction, down to 1 / (L B); as bf16 it is taken without its power of two, or small entries would
 * fall below 2^-50. */
static float unit(const hr_tile_step *s)
{
    return exp2f((float)ilogbf(s->gscale));
}

static void lay_out_gradient(const hr_tile_step *step, int64_t rows, hr_tile_scratch *s)
{
    const hr_packed *x = step->x;
    const hrk_table *k = step->k;
    const float inverse = 1.0f / unit(step);
    for (int64_t p = 0; p < x->padded / HRK_BP; p++) {
        float *g = s->g + p * rows * HRK_BP;
        const int64_t left = x->rows - p * HRK_BP;
        for (int64_t r = 0; r < rows && left < HRK_BP; r++) /* dW sums over whole panels */
            memset(g + r * HRK_BP + left, 0, (size_t)(HRK_BP - left) * sizeof(float));
        for (int64_t i = 0; inverse != 1 && i < rows * HRK_BP; i++)
            g[i] *= inverse;
        k->pair_row(rows * HRK_BP, g, s->g_by_row + p * rows * HRK_BP / 2);
        for (int64_t r = 0; r < rows; r += 2)
            k->pair(HRK_BP, g + r * HRK_BP, r + 1 < rows ? g + (r + 1) * HRK_BP : NULL, s->g_by_label + (p * half(rows) + r / 2) * HRK_BP);
    }
}

void hr_dense_bf16_dx(const hr_tile_step *s, int64_t rows, float scale, hr_tile_scratch *scratch)
{
    const hr_packed *x = s->x;
    const int64_t pairs = half(rows);
    lay_out_gradient(s, rows, scratch);
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++)
        for (int64_t r = 0; r < rows; r += 2) {
            const float *w = scratch->w + (q * rows + r) * HRK_DP;
            s->k->pair(HRK_DP, w, r + 1 < rows ? w + HRK_DP : NULL, scratch->w_by_label + (q * pairs + r / 2) * HRK_DP);
        }
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++)
        for (int64_t b = 0; b < x->rows; b += HRK_BP) {
            const hrk_left16 left = {.a = scratch->g_by_label + b * pairs, .row = 1, .step = HRK_BP, .kb = pairs, .block = 0};
            const int64_t m = x->rows - b < HRK_BP ? x->rows - b : HRK_BP;
            s->k->gemm16_dp(m, pairs, left, scratch->w_by_label + q * pairs * HRK_DP, s->dx + (q * x->rows + b) * HRK_DP, HRK_DP,
                            scale * unit(s), 1);
        }
}

void hr_dense_bf16_dw(const hr_tile_step *s, int64_t rows, int64_t q, int64_t r, int64_t n, const hr_tile_scratch *scratch, float *dw)
{
    const int64_t pairs = s->x->padded / 2;
    const hrk_left16 left = {.a = scratch->g_by_row + r * HRK_BP / 2, .row = HRK_BP / 2, .step = 1, .kb = HRK_BP / 2,
                             .block = rows * HRK_BP / 2};
    s->k->gemm16_dp(n, pairs, left, s->x->xp16 + q * pairs * HRK_DP, dw, HRK_DP, unit(s), 0);
}
