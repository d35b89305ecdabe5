/* Gradients of few entries. With the sparse gradient, int8 logits for all labels, then only what a random, unbiased choice of entries
 * asks for:
 *
 *   1. the rows of W become int8, exactly or nearly so (kernels.h: quantize); logits by an int8 product
 *   2. label by label, the entries of G that are kept (dtype/keep.h), and -1 for each positive, join the backlog
 *   3. later, for many tiles at once and some panels of columns after the other: dX and dW from the lists, and those rows are updated
 *
 * With the squared hinge, which is zero for all cells beyond the margin, the non-zero entries of the exact gradient go the same way from 2.
 * on. The other rows are only read. A tile that keeps more than a fifth of its entries goes through the dense backward pass with the
 * same G. What is kept depends on (seed, step, label, batch row) and the logits alone. */
#include "dtype/keep.h"
#include "head/segment.h"

enum { DENSE_ABOVE = 5 }; /* one in so many entries */

/* What one tile may need, one label more than where its lists stop to grow, beside a full backlog with one entry in 32 cells. */
int64_t hr_lists_capacity(int64_t tile_rows, int64_t max_batch, int64_t labels)
{
    return tile_rows * max_batch / DENSE_ABOVE + 2 * max_batch + 1 + labels * max_batch / 32;
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
    const hrk_sparsify_args args = {.zscale = hr_rows_scale(seg), .bias = bias, .gscale = s->gscale, .tau = s->tau,
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

/* Per-label biases: a label's gradient is the sum of its entries. */
static void update_bias(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t touched, const hr_backlog *b)
{
    const int64_t *start = b->start + b->labels;
    for (int64_t i = 0; i < touched; i++) {
        float sum = 0;
        for (int64_t e = start[i]; e < start[i + 1]; e++)
            sum += b->g[e];
        hr_tile_update_bias(seg, s, b->label[b->labels + i] - row, sum);
    }
}

/* The item that the tile's lists join, with room for them. */
static hr_deferred *find_item(hr_segment *seg, const hr_tile_step *s, int64_t rows, hr_tile_scratch *scratch)
{
    hr_backlog *b = &scratch->backlog;
    if (b->labels + rows > b->capacity || (b->labels > 0 && b->start[b->labels] > b->capacity * s->x->rows / 32))
        hr_backlog_flush(scratch, s->k);
    hr_deferred *d = b->count > 0 ? &b->item[b->count - 1] : NULL;
    if (d && d->kind == HR_DEFER_LISTS && d->seg == seg && d->to == s->dx)
        return d;
    d = hr_defer(scratch, s->k, HR_DEFER_LISTS, s->dx, NULL);
    d->seg = seg;
    d->step = *s;
    d->first = d->last = b->labels;
    return d;
}

void hr_lists_step(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    hr_backlog *b = &scratch->backlog;
    hr_tile_int8_weights(seg, s->k, row, rows, false, scratch);
    seg->family->int8_logits(seg, s->k, s->x, row, rows, scratch);
    if (s->loss)
        *s->loss += hr_tile_loss(s, rows, scratch->g, hr_rows_scale(seg));
    hr_deferred *d = find_item(seg, s, rows, scratch);
    const int64_t touched = make_lists(seg, s, row, rows, scratch);
    if (touched >= 0) {
        if (s->bias)
            update_bias(seg, s, row, touched, b);
        d->last = b->labels += touched;
        return;
    }
    hr_backlog_flush(scratch, s->k);
    hr_tile_decode(seg, s->k, row, rows, scratch);
    hr_tile_backward(seg, s, row, rows, scratch);
}

bool hr_lists_from_gradient(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    int64_t entries = 0, touched = 0;
    for (int64_t t = 0; t < rows; t++)
        for (int64_t b = 0; b < s->x->rows; b++)
            entries += scratch->g[hr_tile_place(t, b, rows)] != 0;
    const bool few = entries <= rows * s->x->rows / DENSE_ABOVE;
    hr_deferred *d = few ? find_item(seg, s, rows, scratch) : NULL;
    hr_backlog *list = &scratch->backlog;
    for (int64_t t = 0; few && t < rows; t++) {
        int64_t *start = list->start + list->labels + touched, count = touched + list->labels > 0 ? *start : 0;
        *start = count;
        for (int64_t b = 0; b < s->x->rows; b++) {
            const float g = scratch->g[hr_tile_place(t, b, rows)];
            list->row[count] = (uint32_t)b;
            list->g[count] = g;
            count += g != 0;
        }
        if (count > *start) {
            list->label[list->labels + touched++] = row + t;
            start[1] = count;
        }
    }
    s->counts->entries += entries;
    s->counts->cells += rows * s->x->rows;
    s->counts->touched += few ? touched : rows;
    s->counts->rows += rows;
    s->counts->dense_tiles += !few;
    s->counts->tiles++;
    if (few && s->bias)
        update_bias(seg, s, row, touched, list);
    if (few)
        d->last = list->labels += touched;
    return few;
}

hrk_lists hr_lists_of(const hr_backlog *b, int64_t from, int64_t n)
{
    return (hrk_lists){.count = n, .label = b->label + from, .start = b->start + from, .row = b->row, .g = b->g,
                       .old = b->old + from, .fresh = b->fresh + from};
}
