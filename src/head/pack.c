/* X as the kernels read it. */
#include "dtype/pairs.h"
#include "head/internal.h"

#include <math.h>

/* With head.arith=elmo the forward product sees X in e4m3 and dW sees it in bf16, as published. */
static float forward_x(const hr_head *head, float v)
{
    return head->o.arith == HR_ARITH_ELMO ? hr_round_nearest(v, HR_GRID_E4M3) : v;
}

static void pack_forward(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    for (int64_t b = 0; b < p->padded; b++) {
        float *out = p->xt + b / HRK_BP * p->dim * HRK_BP + b % HRK_BP;
        for (int64_t d = 0; d < p->dim; d++)
            out[d * HRK_BP] = b < p->rows ? forward_x(head, x[b * p->dim + d]) : 0.0f;
    }
}

/* One scale for each instance; four columns of an instance lie together (kernels.h). */
static void pack_int8(const hr_head *head, const float *x, int8_t *row)
{
    const hr_packed *p = &head->packed;
    const hr_dtype f32 = {.id = HR_F32, .bytes = sizeof(float)};
    memset(row, 0, (size_t)p->dim_q);
    for (int64_t b = 0; b < p->padded; b++) {
        const hrk_quantized r = b < p->rows ? head->k.quantize(p->dim, x + b * p->dim, 0, f32, false, row) : (hrk_quantized){0};
        p->x_scale[b] = r.scale;
        uint8_t *out = p->xq + b / HRK_BP * p->dim_q * HRK_BP + b % HRK_BP * 4;
        for (int64_t d = 0; d < p->dim_q; d += 4)
            for (int64_t i = 0; i < 4; i++)
                out[d * HRK_BP + i] = (uint8_t)(b < p->rows ? row[d + i] + 128 : 128);
        for (int64_t d = 0; p->xc && d < p->dim; d++)
            p->xc[b / HRK_IP * p->dim * HRK_IP + d * HRK_IP + hrk_byte_place(b % HRK_IP)] = (uint8_t)(b < p->rows ? row[d] + 128 : 128);
    }
}

/* How far int8 scores of an instance may be from its scores, for a w of length 1: |x - x8|, and all roundings, in units of 2^-24 of
 * |w| max(|x|, |x8|): D / 16 in each of 16 chains and 5 in their sum and factor, 3 in the int8 score, 6 in the values and their scale, 3 in
 * `reach`; 32 are allowed for. */
static void pack_errors(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    for (int64_t b = 0; b < p->padded; b++) {
        double error = 0, size = 0, size8 = 0;
        for (int64_t d = 0; b < p->rows && d < p->dim; d++) {
            const double v = (double)x[b * p->dim + d];
            const int q = p->xq[(b / HRK_BP * p->dim_q + d / 4 * 4) * HRK_BP + b % HRK_BP * 4 + d % 4] - 128;
            const double v8 = (double)p->x_scale[b] * q;
            error += (v - v8) * (v - v8);
            size += v * v;
            size8 += v8 * v8;
        }
        const double rounding = ((double)p->dim / 16 + 32) * 0x1p-24 * sqrt(size > size8 ? size : size8);
        p->x_error[b] = (float)((sqrt(error) + rounding) * (1 + 0x1p-20));
        p->x_size[b] = (float)(sqrt(size8) * (1 + 0x1p-20));
    }
}

static void pack_backward(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    for (int64_t q = 0; q < p->dim_padded; q += HRK_DP) {
        const int64_t n = p->dim - q < HRK_DP ? p->dim - q : HRK_DP;
        for (int64_t b = 0; b < p->rows; b++) {
            float *out = p->xp + (q / HRK_DP * p->rows + b) * HRK_DP;
            memset(out, 0, HRK_DP * sizeof(float));
            memcpy(out, x + b * p->dim + q, (size_t)n * sizeof(float));
            for (int64_t i = 0; head->o.arith == HR_ARITH_ELMO && i < n; i++)
                out[i] = hr_round_nearest(out[i], HR_GRID_BF16);
        }
    }
}

/* X as pairs of columns and of instances; zero beyond D and B. */
static void pack_pairs(const hr_head *head, const float *x)
{
    const hr_packed *p = &head->packed;
    const int64_t columns = p->dim_padded / 2;
    for (int64_t b = 0; p->xt16 && b < p->padded; b++) {
        uint32_t *out = p->xt16 + b / HRK_BP * columns * HRK_BP + b % HRK_BP;
        const float *v = x + b * p->dim;
        for (int64_t i = 0; i < columns; i++) {
            const uint32_t lo = b < p->rows && 2 * i < p->dim ? hr_bf16_operand(v[2 * i]) : 0;
            const uint32_t hi = b < p->rows && 2 * i + 1 < p->dim ? hr_bf16_operand(v[2 * i + 1]) : 0;
            out[i * HRK_BP] = lo | hi << 16;
        }
    }
    for (int64_t q = 0; q < p->dim_padded; q += HRK_DP) {
        const int64_t n = p->dim - q < HRK_DP ? p->dim - q : HRK_DP;
        uint32_t *out = p->xp16 + q / HRK_DP * (p->padded / 2) * HRK_DP;
        memset(out, 0, (size_t)(p->padded / 2 * HRK_DP) * sizeof *out);
        for (int64_t b = 0; b < p->rows; b += 2)
            head->k.pair(n, x + b * p->dim + q, b + 1 < p->rows ? x + (b + 1) * p->dim + q : NULL, out + b / 2 * HRK_DP);
    }
}

/* The columns of a segment, which begin at a multiple of every panel's width. */
static hr_packed view_of(const hr_packed *p, const hr_segment *seg)
{
    hr_packed v = *p;
    const int64_t first = seg->first_column;
    v.dim = seg->dim;
    v.dim_padded = hr_pad(v.dim, HRK_DP);
    v.dim_q = hr_pad(v.dim, HRK_QP);
    v.xt = p->xt ? p->xt + first * HRK_BP : NULL;
    v.xp = p->xp ? p->xp + first * p->rows : NULL;
    v.xt16 = p->xt16 ? p->xt16 + first / 2 * HRK_BP : NULL;
    v.xp16 = p->xp16 ? p->xp16 + first * (p->padded / 2) : NULL;
    v.xq = p->xq + first * HRK_BP;
    v.xc = p->xc ? p->xc + first * HRK_IP : NULL;
    v.x = p->x ? p->x + first : NULL;
    return v;
}

void hr_head_pack(hr_head *head, int64_t rows, const float *x, unsigned what)
{
    hr_packed *p = &head->packed;
    p->rows = rows;
    p->padded = hr_pad(rows, HRK_BP);
    p->dim = head->o.dim;
    p->dim_padded = hr_pad(p->dim, HRK_DP);
    p->dim_q = hr_pad(p->dim, HRK_QP);
    p->xt_step = p->dim * HRK_BP;
    p->xt16_step = p->dim_padded / 2 * HRK_BP;
    p->xq_step = p->dim_q * HRK_BP;
    p->xc_step = p->dim * HRK_IP;
    p->x_step = p->dim;
    if (what & HR_PACK_FORWARD && !p->xt16)
        pack_forward(head, x);
    if (what & HR_PACK_INT8)
        pack_int8(head, x, hr_head_scratch(head, 0).wq);
    if (what & HR_PACK_BACKWARD && p->xp)
        pack_backward(head, x);
    if (what & HR_PACK_BACKWARD && p->xp16)
        pack_pairs(head, x);
    if (what & HR_PACK_SCORES) {
        p->x = x;
        for (int64_t i = 0; head->o.arith == HR_ARITH_ELMO && i < rows * p->dim; i++) {
            p->xt[i] = forward_x(head, x[i]);
            p->x = p->xt;
        }
        pack_int8(head, p->x, hr_head_scratch(head, 0).wq);
        pack_errors(head, p->x);
    }
    for (int i = 0; i < head->o.num_segments; i++)
        head->view[i] = view_of(p, &head->segment[i]);
}

hr_status hr_head_pack_sparse(hr_head *head, int64_t rows, const hr_sparse_rows *x)
{
    head->packed.rows = rows;
    head->packed.padded = hr_pad(rows, HRK_BP);
    for (int i = 0; i < head->o.num_segments; i++)
        head->view[i] = head->packed;
    return hr_columns_fill(head->ctx, &head->columns, rows, x);
}
