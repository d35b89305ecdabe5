/* A tile's step with the sparse gradient: int8 logits for all labels, then only what a random, unbiased choice of entries asks for.
 *
 *   1. the rows of W become int8, exactly or nearly so (kernels.h: quantize); logits by an int8 product
 *   2. label by label, the entries of G that are kept (dtype/keep.h), and -1 for each positive
 *   3. rows with entries are decoded; dX and dW come from the lists; those rows are updated
 *
 * The other rows are only read. A tile that keeps more than a fifth of its entries goes through the dense backward pass with the
 * same G. What is kept depends on (seed, step, label, batch row) and the logits alone. */
#include "dtype/keep.h"
#include "head/segment.h"

enum { DENSE_ABOVE = 5 }; /* one in so many entries */

int64_t hr_dense_list_capacity(int64_t tile_rows, int64_t max_batch)
{
    return tile_rows * max_batch / DENSE_ABOVE + 2 * max_batch + 1; /* one label more than where the list stops to grow */
}

/* Entries [from, to) of the list as label t's row of a dense G, in place of its logits. */
static void spread(const hr_tile_step *s, int64_t rows, int64_t t, int64_t from, int64_t to, hr_tile_scratch *scratch)
{
    float *g = scratch->g + t * HRK_BP;
    for (int64_t p = 0; p < s->x->padded / HRK_BP; p++)
        memset(g + p * rows * HRK_BP, 0, HRK_BP * sizeof(float));
    for (int64_t e = from; e < to; e++)
        g[scratch->entry_row[e] / HRK_BP * rows * HRK_BP + scratch->entry_row[e] % HRK_BP] += scratch->entry_g[e];
}

/* The lists of all labels; returns the number of labels with entries. When the lists pass a fifth of the tile they turn, with
 * the logits of the labels to come still in place, into a dense G, and the number is -1. */
static int64_t make_lists(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    const int64_t batch = s->x->rows;
    hrk_sparsify_args args = {.zscale = hr_dense_weight_scale(seg), .bias = s->bias_scalar, .gscale = s->gscale, .tau = s->tau,
                              .refine = s->refine_rng};
    int64_t touched = 0, count = 0, next = 0, total = 0;
    bool dense = false;
    for (int64_t t = 0; t < rows; t++) {
        const uint32_t label = (uint32_t)(seg->first_row + row + t);
        args.label = label;
        args.bias = s->bias ? s->bias[t] : s->bias_scalar;
        s->k->draws(s->sparse_rng, label, s->x->padded, scratch->draws);
        const int64_t from = count;
        count += s->k->sparsify(batch, scratch->g + t * HRK_BP, rows * HRK_BP, scratch->draws, args, scratch->entry_row + count,
                                scratch->entry_g + count);
        for (; next < s->num_positives && (int64_t)(s->positives[next] >> 32) - s->axis_row == t; next++, count++) {
            scratch->entry_row[count] = (uint32_t)s->positives[next];
            scratch->entry_g[count] = -s->gscale;
        }
        total += count - from;
        if (dense) {
            spread(s, rows, t, from, count, scratch);
            count = from;
        } else if (count > from) {
            scratch->touched[touched] = t;
            scratch->start[touched++] = from;
            scratch->start[touched] = count;
            if (count > rows * batch / DENSE_ABOVE) {
                dense = true;
                for (int64_t i = 0, l = 0; l <= t; l++) {
                    const bool has = scratch->touched[i] == l;
                    spread(s, rows, l, has ? scratch->start[i] : 0, has ? scratch->start[i + 1] : 0, scratch);
                    i += has;
                }
                count = 0;
            }
        }
    }
    s->counts->entries += total;
    s->counts->cells += rows * batch;
    s->counts->touched += dense ? rows : touched;
    s->counts->rows += rows;
    s->counts->dense_tiles += dense;
    s->counts->tiles++;
    return dense ? -1 : touched;
}

/* Per-label biases: plain SGD on the sum of the label's entries. */
static void update_bias(const hr_segment *seg, const hr_tile_step *s, int64_t touched, const hr_tile_scratch *scratch)
{
    for (int64_t i = 0; i < touched; i++) {
        float sum = 0, *bias = &s->bias[scratch->touched[i]];
        for (int64_t e = scratch->start[i]; e < scratch->start[i + 1]; e++)
            sum += scratch->entry_g[e];
        *bias = fmaf(-s->lr * seg->o.lr_scale, sum, *bias);
    }
}

static void backward(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t touched, hr_tile_scratch *scratch)
{
    const hr_packed *x = s->x;
    const float scale = hr_dense_weight_scale(seg);
    for (int64_t i = 0; i < touched; i++)
        hr_dense_decode_row(seg, s->k, row + scratch->touched[i], scratch->w + i * HRK_DP, touched);
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++)
        s->k->sparse_panel(touched, scratch->start, scratch->entry_row, scratch->entry_g, scale, x->xp + q * x->rows * HRK_DP,
                           s->dx + q * x->rows * HRK_DP, scratch->w + q * touched * HRK_DP);
    if (s->bias)
        update_bias(seg, s, touched, scratch);
    for (int64_t i = 0; i < touched; i++)
        hr_dense_update_row(seg, s, row + scratch->touched[i], scratch->w + i * HRK_DP, touched, scratch);
}

void hr_dense_step_sparse(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    hr_dense_int8_scores(seg, s->k, s->x, row, rows, scratch);
    if (s->loss)
        *s->loss += hr_dense_loss(s, rows, scratch->g, hr_dense_weight_scale(seg));
    const int64_t touched = make_lists(seg, s, row, rows, scratch);
    if (touched >= 0) {
        backward(seg, s, row, touched, scratch);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        hr_dense_decode_row(seg, s->k, row + r, scratch->w + r * HRK_DP, rows);
    if (s->x->xp16)
        hr_dense_bf16_weights(s->x, s->k, rows, scratch);
    hr_dense_backward(seg, s, row, rows, scratch);
}
