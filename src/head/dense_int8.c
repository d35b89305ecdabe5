/* The int8 product of a tile, and the search for the best labels with it. */
#include "head/segment.h"

static float row_scale(const hr_segment *seg, int64_t row)
{
    return seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
}

void hr_dense_int8_scores(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows,
                          bool with_error, hr_tile_scratch *s)
{
    for (int64_t r = 0; r < rows; r++) {
        int8_t *q = s->wq + r * x->dim_q;
        const hrk_quantized w = k->quantize(x->dim, hr_segment_row(seg, row + r), row_scale(seg, row + r), seg->o.dtype, with_error, q);
        if (x->dim_q > x->dim)
            memset(q + x->dim, 0, (size_t)(x->dim_q - x->dim));
        s->w_scale[r] = w.scale;
        s->w_sum[r] = w.sum;
        if (!with_error)
            continue;
        s->w_error[r] = (w.scale == 0 ? 0x1p-100f : w.scale * 0.5f) * sqrtf((float)w.rounded); /* scale 0: all below 2^-100 */
        s->w_size[r] = w.scale * sqrtf((float)w.square) + s->w_error[r];
    }
    /* the next tile's codes, as far as they lie behind this one's, are asked for in equal parts */
    const int64_t panels = x->padded / HRK_BP, next = row + rows;
    int64_t ahead_rows = seg->shard_rows - next % seg->shard_rows;
    ahead_rows = ahead_rows < seg->o.rows - next ? ahead_rows : seg->o.rows - next;
    ahead_rows = ahead_rows < rows ? ahead_rows : rows;
    const uint8_t *ahead = hr_segment_row(seg, ahead_rows > 0 ? next : row);
    const size_t part = (size_t)ahead_rows * seg->pitch / (size_t)panels;
    for (int64_t p = 0; p < panels; p++)
        k->gemm_i8(rows, x->dim_q / 4, s->wq, x->dim_q, s->w_sum, s->w_scale, x->xq + p * x->dim_q * HRK_BP,
                   x->x_scale + p * HRK_BP, s->g + p * rows * HRK_BP, ahead + (size_t)p * part, part);
}

/* A score that may be wanted. */
static void report(const hr_scan *scan, int64_t tile_row, int64_t query, float dot, float zscale, float bias)
{
    const float z = fmaf(zscale, dot, bias);
    if (z >= scan->limit[query])
        scan->found(scan->arg, tile_row, query, z);
}

/* A few rows' dot products with a query. The rows lie in one shard, one after the other. */
static void dots(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, int64_t query, float *out)
{
    const float *scale = seg->o.dtype.id == HR_I8R ? hr_segment_scale(seg, row) : NULL;
    scan->k->dot(rows, seg->dim, hr_segment_row(seg, row), seg->pitch, scale, seg->o.dtype, scan->x->x + query * seg->dim, out);
}

static float bias_of(const hr_scan *scan, int64_t tile_row)
{
    return scan->bias ? scan->bias[tile_row] : scan->bias_scalar;
}

/* Few queries: every score of the tile. */
static void scan_direct(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows)
{
    enum { STRIP = 8 };
    const float zscale = hr_dense_weight_scale(seg);
    for (int64_t r = 0; r < rows;) {
        const int64_t in_shard = seg->shard_rows - (row + r) % seg->shard_rows;
        int64_t n = rows - r < STRIP ? rows - r : STRIP;
        n = n < in_shard ? n : in_shard;
        for (int64_t b = 0; b < scan->x->rows; b++) {
            float dot[STRIP];
            dots(seg, scan, row + r, n, b, dot);
            for (int64_t i = 0; i < n; i++)
                report(scan, r + i, b, dot[i], zscale, bias_of(scan, r + i));
        }
        r += n;
    }
}

/* Many: int8 scores with a bound on their error, and the score of those that may reach the limit, so that the answer is the same to
 * the last bit. With w8 = scale * q, |w x - w8 x8| <= |w| |x - x8| + |w - w8| |x8| (Cauchy-Schwarz); the rounding of sums is in
 * x_error (hr_head_pack). The last multiply-add is monotone, so it needs no allowance. */
static void scan_int8(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    const hr_packed *x = scan->x;
    const float zscale = hr_dense_weight_scale(seg);
    hr_dense_int8_scores(seg, scan->k, x, row, rows, true, s);
    for (int64_t r = 0; r < rows; r++) {
        const float bias = bias_of(scan, r);
        const hrk_reach_args args = {.zscale = zscale, .bias = bias, .size = s->w_size[r],
                                     .error = s->w_error[r]};
        for (int64_t p = 0; p < x->padded; p += HRK_BP) {
            const uint32_t queries = x->rows - p < HRK_BP ? (UINT32_C(1) << (x->rows - p)) - 1 : UINT32_MAX;
            uint32_t left = scan->k->reach(s->g + (p * rows + r * HRK_BP), args, x->x_error + p, x->x_size + p, scan->limit + p);
            for (left &= queries; left; left &= left - 1) {
                const int64_t query = p + __builtin_ctz(left);
                float dot;
                dots(seg, scan, row + r, 1, query, &dot);
                report(scan, r, query, dot, zscale, bias);
            }
        }
    }
}

enum { DIRECT = 3 }; /* so many queries are cheaper without the int8 product */

void hr_dense_scan(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    if (scan->x->rows <= DIRECT)
        scan_direct(seg, scan, row, rows);
    else
        scan_int8(seg, scan, row, rows, s);
}
