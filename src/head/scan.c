/* The search of a tile for the best labels of each query. */
#include "head/segment.h"

/* A score that may be wanted. */
static void report(const hr_scan *scan, int64_t tile_row, int64_t query, float dot, float zscale, float bias)
{
    const float z = fmaf(zscale, dot, bias);
    if (z >= scan->limit[query])
        scan->found(scan->arg, tile_row, query, z);
}

static float bias_of(const hr_scan *scan, int64_t tile_row)
{
    return scan->bias ? scan->bias[tile_row] : scan->bias_scalar;
}

/* Few queries: every score of the tile. */
static bool scan_direct(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows)
{
    enum { STRIP = 8 };
    const float zscale = hr_rows_scale(seg);
    for (int64_t r = 0; r < rows; r += STRIP) {
        const int64_t n = rows - r < STRIP ? rows - r : STRIP;
        for (int64_t b = 0; b < scan->x->rows; b++) {
            float dot[STRIP];
            if (!seg->family->dot(seg, scan->k, scan->x, row + r, n, b, dot))
                return false;
            for (int64_t i = 0; i < n; i++)
                report(scan, r + i, b, dot[i], zscale, bias_of(scan, r + i));
        }
    }
    return true;
}

/* Many: int8 scores with a bound on their error, and the score of those that may reach the limit, so that the answer is the same to
 * the last bit. With w8 = scale * q, |w x - w8 x8| <= |w| |x - x8| + |w - w8| |x8| (Cauchy-Schwarz; x may have more columns than w); the
 * rounding of sums is in x_error (hr_head_pack). The last multiply-add is monotone, so it needs no allowance. */
static bool scan_int8(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    const hr_packed *x = scan->x;
    const float zscale = hr_rows_scale(seg);
    hr_tile_int8_weights(seg, scan->k, row, rows, true, s);
    if (!seg->family->int8_logits(seg, scan->k, x, row, rows, s))
        return false;
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
                if (!seg->family->dot(seg, scan->k, x, row + r, 1, query, &dot))
                    return false;
                report(scan, r, query, dot, zscale, bias);
            }
        }
    }
    return true;
}

enum { DIRECT = 3 }; /* so many queries are cheaper without the int8 product */

bool hr_scan_tile(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *s)
{
    if (seg->family->scan)
        return seg->family->scan(seg, scan, row, rows, s);
    return scan->x->rows <= DIRECT ? scan_direct(seg, scan, row, rows) : scan_int8(seg, scan, row, rows, s);
}
