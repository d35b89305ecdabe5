/* A tile's step with the sparse gradient: int8 logits for all labels, then only what a random, unbiased choice of entries asks for.
 *
 *   1. the rows of W become int8, exactly or nearly so (kernels.h: quantize); logits by an int8 product
 *   2. label by label, the entries of G that are kept (dtype/keep.h), and -1 for each positive, join the backlog
 *   3. later, for many tiles at once and one panel of columns after the other: dX and dW from the lists, and those rows are updated
 *
 * The other rows are only read. A tile that keeps more than a fifth of its entries goes through the dense backward pass with the
 * same G. What is kept depends on (seed, step, label, batch row) and the logits alone. */
#include "dtype/keep.h"
#include "head/segment.h"

enum { DENSE_ABOVE = 5 }; /* one in so many entries */

/* What one tile may need, one label more than where its lists stop to grow, beside a full backlog with one entry in 32 cells. */
static int64_t tile_capacity(int64_t tile_rows, int64_t max_batch)
{
    return tile_rows * max_batch / DENSE_ABOVE + 2 * max_batch + 1;
}
int64_t hr_dense_list_capacity(int64_t tile_rows, int64_t max_batch)
{
    return tile_capacity(tile_rows, max_batch) + HR_BACKLOG_LABELS * max_batch / 32;
}

/* Entries [from, to) of the list as label t's row of a dense G, in place of its logits. */
static void spread(const hr_tile_step *s, int64_t rows, int64_t t, int64_t from, int64_t to, hr_tile_scratch *scratch)
{
    const hr_backlog *b = &scratch->backlog;
    float *g = scratch->g + t * HRK_BP;
    for (int64_t p = 0; p < s->x->padded / HRK_BP; p++)
        memset(g + p * rows * HRK_BP, 0, HRK_BP * sizeof(float));
    for (int64_t e = from; e < to; e++)
        g[b->row[e] / HRK_BP * rows * HRK_BP + b->row[e] % HRK_BP] += b->g[e];
}

/* The entries of labels [t, t + n) of the tile, into the scratch. */
static void sparsify(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, int64_t t, int64_t n,
                     hr_tile_scratch *scratch, int64_t end[HR_LIST_STRIP])
{
    float bias[HR_LIST_STRIP];
    const uint32_t label = (uint32_t)(seg->first_row + row + t);
    const int64_t pitch = s->x->padded;
    for (int64_t i = 0; i < n; i++) {
        bias[i] = s->bias ? s->bias[t + i] : s->bias_scalar;
        s->k->draws(s->sparse_rng, label + (uint32_t)i, pitch, scratch->draws + i * pitch);
    }
    const hrk_sparsify_args args = {.zscale = hr_dense_weight_scale(seg), .bias = bias, .gscale = s->gscale, .tau = s->tau,
                                    .refine = s->refine_rng, .label = label};
    s->k->sparsify(n, s->x->rows, scratch->g + t * HRK_BP, rows * HRK_BP, scratch->draws, pitch, args, scratch->entry_row,
                   scratch->entry_g, end);
}

/* The lists of the tile's labels, behind those of the backlog; returns the number of labels with entries. When the lists pass a
 * fifth of the tile they turn, with the logits of the labels to come still in place, into a dense G, and the number is -1. */
static int64_t make_lists(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    const int64_t most = rows * s->x->rows / DENSE_ABOVE;
    hr_backlog *b = &scratch->backlog;
    int64_t *label = b->label + b->labels, *start = b->start + b->labels, touched = 0, next = 0, total = 0, end[HR_LIST_STRIP];
    const int64_t begin = b->labels > 0 ? start[0] : 0;
    int64_t count = start[0] = begin;
    bool dense = false;
    for (int64_t t = 0; t < rows; t++) {
        const int64_t i = t % HR_LIST_STRIP, from = count;
        if (i == 0)
            sparsify(seg, s, row, rows, t, rows - t < HR_LIST_STRIP ? rows - t : HR_LIST_STRIP, scratch, end);
        for (int64_t e = i > 0 ? end[i - 1] : 0; e < end[i]; e++, count++) {
            b->row[count] = scratch->entry_row[e];
            b->g[count] = scratch->entry_g[e];
        }
        for (; next < s->num_positives && (int64_t)(s->positives[next] >> 32) - s->axis_row == t; next++, count++) {
            b->row[count] = (uint32_t)s->positives[next];
            b->g[count] = -s->gscale;
        }
        total += count - from;
        if (dense) {
            spread(s, rows, t, from, count, scratch);
            count = from;
        } else if (count > from) {
            label[touched++] = row + t;
            start[touched] = count;
            if (count - begin > most) {
                dense = true;
                for (int64_t j = 0, l = 0; l <= t; l++) {
                    const bool has = label[j] == row + l;
                    spread(s, rows, l, has ? start[j] : 0, has ? start[j + 1] : 0, scratch);
                    j += has;
                }
                count = begin;
            }
        }
    }
    s->counts->entries += total;
    s->counts->cells += rows * s->x->rows;
    s->counts->touched += dense ? rows : touched;
    s->counts->rows += rows;
    s->counts->dense_tiles += dense;
    s->counts->tiles++;
    return dense ? -1 : touched;
}

/* Per-label biases: plain SGD on the sum of the label's entries. */
static void update_bias(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t touched, const hr_backlog *b)
{
    const int64_t *start = b->start + b->labels;
    for (int64_t i = 0; i < touched; i++) {
        float sum = 0, *bias = &s->bias[b->label[b->labels + i] - row];
        for (int64_t e = start[i]; e < start[i + 1]; e++)
            sum += b->g[e];
        *bias = fmaf(-s->lr * seg->o.lr_scale, sum, *bias);
    }
}

/* The item that the tile's lists join, with room for them. */
static hr_deferred *find_item(hr_segment *seg, const hr_tile_step *s, int64_t rows, hr_tile_scratch *scratch)
{
    hr_backlog *b = &scratch->backlog;
    if (b->labels + rows > HR_BACKLOG_LABELS || (b->labels > 0 && b->start[b->labels] > HR_BACKLOG_LABELS * s->x->rows / 32))
        hr_backlog_flush(scratch, s->k, s->x);
    hr_deferred *d = b->count > 0 ? &b->item[b->count - 1] : NULL;
    if (d && d->kind == HR_DEFER_LISTS && d->seg == seg && d->to == s->dx)
        return d;
    d = hr_defer(scratch, s->k, s->x, HR_DEFER_LISTS, s->dx, NULL);
    d->seg = seg;
    d->step = *s;
    d->first = d->last = b->labels;
    return d;
}

void hr_dense_step_sparse(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    hr_backlog *b = &scratch->backlog;
    hr_dense_int8_scores(seg, s->k, s->x, row, rows, false, scratch);
    if (s->loss)
        *s->loss += hr_dense_loss(s, rows, scratch->g, hr_dense_weight_scale(seg));
    hr_deferred *d = find_item(seg, s, rows, scratch);
    const int64_t touched = make_lists(seg, s, row, rows, scratch);
    if (touched >= 0) {
        if (s->bias)
            update_bias(seg, s, row, touched, b);
        d->last = b->labels += touched;
        return;
    }
    hr_backlog_flush(scratch, s->k, s->x);
    for (int64_t r = 0; r < rows; r++)
        hr_dense_decode_row(seg, s->k, row + r, scratch->w + r * HRK_DP, rows);
    if (s->x->xp16)
        hr_dense_bf16_weights(s->x, s->k, rows, scratch);
    hr_dense_backward(seg, s, row, rows, scratch);
}

/* ---- the backlog ---- */

/* Labels [from, from + n) of the backlog. */
static hrk_lists lists(const hr_backlog *b, int64_t from, int64_t n)
{
    return (hrk_lists){.count = n, .label = b->label + from, .start = b->start + from, .row = b->row, .g = b->g,
                       .old = b->old + from, .fresh = b->fresh + from};
}

static int64_t columns_of(const hr_segment *seg, int64_t panel)
{
    const int64_t left = seg->dim - panel * HRK_DP;
    return left < HRK_DP ? left : HRK_DP;
}

/* Codes of row 0 (training: all rows lie one after the other) from a panel on. */
static uint8_t *panel_codes(const hr_segment *seg, int64_t panel)
{
    return hr_segment_row(seg, 0) + (size_t)(panel * HRK_DP) * seg->o.dtype.bytes;
}

/* i8r: the row scales that the update will need. */
void hr_dense_prepare_lists(const hr_deferred *d, hr_tile_scratch *scratch)
{
    hr_segment *seg = d->seg;
    hr_backlog *b = &scratch->backlog;
    if (seg->o.dtype.id != HR_I8R)
        return;
    const hr_packed *x = d->step.x;
    const hrk_lists l = lists(b, d->first, d->last - d->first);
    const hrk_sgd_args args = hr_dense_sgd_args(seg, &d->step);
    for (int64_t m = d->first; m < d->last; m++) {
        b->old[m] = *hr_segment_scale(seg, b->label[m]);
        b->fresh[m] = 0;
    }
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++)
        d->step.k->sparse_absmax(&l, x->xp + q * x->rows * HRK_DP, columns_of(seg, q), (int8_t *)panel_codes(seg, q), seg->pitch, args,
                                 b->fresh + d->first);
    for (int64_t m = d->first; m < d->last; m++)
        *hr_segment_scale(seg, b->label[m]) = b->fresh[m] = hr_dense_fresh_scale(b->old[m], b->fresh[m], args);
}

/* The draws of a few labels for one panel; i8r rows whose scale changes have a stream of their own. */
static void make_draws(const hr_deferred *d, const hrk_lists *l, int64_t panel, uint16_t *draws)
{
    const hr_tile_step *s = &d->step;
    const uint32_t first = (uint32_t)d->seg->first_row;
    s->k->draws_panel(s->rng, first, l->count, l->label, panel * HRK_DP, draws);
    for (int64_t m = 0; d->seg->o.dtype.id == HR_I8R && m < l->count; m++)
        if (l->old[m] != l->fresh[m])
            s->k->draws_panel(s->rescale_rng, first, 1, l->label + m, panel * HRK_DP, draws + m * HRK_DP);
}

void hr_dense_lists_panel(const hr_deferred *d, int64_t panel, hr_tile_scratch *scratch)
{
    enum { STRIP = 32 };
    uint16_t draws[STRIP * HRK_DP] __attribute__((aligned(64)));
    const hr_packed *x = d->step.x;
    hr_segment *seg = d->seg;
    const hr_backlog *b = &scratch->backlog;
    const hrk_sgd_args args = hr_dense_sgd_args(seg, &d->step);
    const bool dithered = args.rounding != HR_ROUND_NEAREST && args.dtype.id != HR_F32;
    uint8_t *codes = panel_codes(seg, panel);
    const int64_t at = panel * x->rows * HRK_DP;
    for (int64_t m = d->first; m < d->last; m += STRIP) {
        const int64_t next = m + STRIP, after = next + STRIP < d->last ? next + STRIP : d->last;
        for (int64_t i = next; i < after; i++)
            for (size_t byte = 0; byte < HRK_DP * args.dtype.bytes; byte += 64)
                __builtin_prefetch(codes + (size_t)b->label[i] * seg->pitch + byte, 1, 2);
        const hrk_lists l = lists(b, m, (next < d->last ? next : d->last) - m);
        if (dithered)
            make_draws(d, &l, panel, draws);
        d->step.k->sparse_sgd(&l, hr_dense_weight_scale(seg), x->xp + at, d->to + at, columns_of(seg, panel), codes, seg->pitch, draws,
                              args);
    }
}
