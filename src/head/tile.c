/* A tile of labels through the step: codes to f32, logits, gradient, dX, dW, update. Which inputs a label has is its family's affair.
 *
 * The bytes moved are those of the codes, read twice and written once; everything else stays in the cache. */
#include "head/segment.h"

/* The arrays of the scratch are one allocation: under the address sanitizer, gaps that nobody may touch lie between them. */
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
enum { GAP = 256 };
#define FORBID(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#else
enum { GAP = 0 };
#define FORBID(p, bytes) (void)(p)
#endif

/* ---- scratch ---- */

/* What the largest segment of a head asks of each array. */
typedef struct needs {
    int64_t tile, width, weights; /* T; K; T * K */
    int64_t links, shared, dxt;   /* fan-in: T * width; the same in instances of shared inputs; columns */
    int64_t labels, list;         /* lists: labels that may wait, weights of them kept aside */
    int64_t hits;                 /* sparse X: inputs of a label */
    int64_t connections, block_rows; /* rewiring an unstructured segment: of a block */
} needs;

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static needs measure(const hr_head_options *o, bool lists)
{
    enum { KEPT = 131072 }; /* weights of waiting fan-in labels: they and their dW fit the second cache */
    needs n = {.labels = lists ? HR_BACKLOG_LABELS : 0};
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment seg = hr_segment_make(o, i);
        const int64_t t = o->sparse_x ? 1 : seg.family->tile_rows(&seg.o, seg.dim), k = hr_pad(seg.width, HRK_DP); /* or label by label */
        n.tile = larger(n.tile, t);
        n.width = larger(n.width, k);
        n.weights = larger(n.weights, t * k);
        n.hits = o->sparse_x ? larger(n.hits, seg.width + 16) : 0;
        if (seg.o.family == HR_FAMILY_DENSE || o->sparse_x)
            continue;
        n.links = larger(n.links, t * seg.width);
        n.dxt = larger(n.dxt, seg.dim);
        if (o->rewire && seg.o.family == HR_FAMILY_UNSTRUCTURED) {
            n.connections = larger(n.connections, hr_block_connections(o, &seg.o));
            (void)hr_head_count_blocks(o, &n.block_rows);
        }
        if (seg.group > 1)
            n.shared = larger(n.shared, t / seg.group * seg.width);
        if (lists) {
            const int64_t most = larger(KEPT / seg.width, t);
            n.labels = most < n.labels ? most : n.labels;
            n.list = larger(n.list, seg.width);
        }
    }
    if (lists)
        n.labels = larger(n.labels, n.tile); /* a tile of any segment has room */
    n.list *= n.labels;
    return n;
}

static bool wants_lists(const hr_head_options *o)
{
    return o->training && !o->sparse_x && (o->gradient == HR_GRADIENT_SPARSE || o->loss == HR_LOSS_SQUARED_HINGE);
}

size_t hr_tile_scratch_make(uint8_t *memory, const hr_head_options *o, hr_tile_scratch *s)
{
    const bool lists = wants_lists(o);
    const needs n = measure(o, lists);
    const int64_t t = n.tile, b = hr_pad(o->max_batch, HRK_BP), b64 = hr_pad(o->max_batch, HRK_IP);
    const int64_t entries = lists ? hr_lists_capacity(t, o->max_batch, n.labels) : 0, strip = lists ? HR_LIST_STRIP * b : 0;
    const int64_t training = o->training || o->loss == HR_LOSS_GIVEN, pairs = o->training && o->arith == HR_ARITH_BF16;
    const int64_t grouped = n.shared > 0 ? n.width : 0, single = training && n.links > 0 ? n.links : 0;
    size_t at = 0;
    *s = (hr_tile_scratch){0};
#define TAKE(field, count)                                                                                             \
    s->field = memory ? (void *)(memory + at) : NULL;                                                                  \
    at += hr_round_up((size_t)(count) * sizeof *s->field, 64);                                                         \
    if (memory)                                                                                                        \
        FORBID(memory + at, GAP);                                                                                      \
    at += GAP
    TAKE(w, n.weights);
    TAKE(g, b * t);
    TAKE(zpos, b * t);
    TAKE(row, n.width);
    TAKE(draws, n.width > strip ? n.width : strip);
    TAKE(entry_row, strip);
    TAKE(entry_g, strip);
    TAKE(w_by_dim, pairs * n.weights / 2);
    TAKE(w_by_label, pairs * (t + 1) / 2 * n.width);
    TAKE(g_by_row, pairs * t * b / 2);
    TAKE(g_by_label, pairs * (t + 1) / 2 * b);
    TAKE(wq, larger(n.weights, hr_pad(o->dim, HRK_QP))); /* also a row of X on its way to int8 (hr_head_pack) */
    TAKE(w_scale, t);
    TAKE(w_sum, t);
    TAKE(w_size, t);
    TAKE(w_error, t);
    TAKE(hit, n.hits);
    TAKE(hit_list, n.hits);
    TAKE(inputs, n.links);
    TAKE(input_at, n.links > 0 ? t + 1 : 0);
    TAKE(xg, training * n.shared * b);
    TAKE(xgq, grouped * b64);
    TAKE(dw, training * (n.links > 0 ? n.weights : 0));
    TAKE(links, single);
    TAKE(sorted, single);
    TAKE(chains, single > 0 ? HR_LINKS * 16 : 0);
    TAKE(dxt, training * n.dxt * b);
    TAKE(histogram, o->rewire ? HR_REWIRE_BINS : 0);
    TAKE(slots, o->rewire ? 1 : 0);
    TAKE(unread, o->rewire ? (o->dim + 63) / 64 : 0);
    TAKE(grow, o->rewire ? HR_GROW_ROWS * hr_pad(n.dxt, HRK_DP) : 0);
    TAKE(gone, n.connections);
    TAKE(new_input, n.connections);
    TAKE(old, n.connections);
    TAKE(new_from, n.connections);
    TAKE(new_count, n.connections > 0 ? n.block_rows + 1 : 0);
    TAKE(backlog.item, training * HR_BACKLOG_ITEMS);
    TAKE(backlog.label, n.labels);
    TAKE(backlog.start, n.labels + 1);
    TAKE(backlog.row, entries);
    TAKE(backlog.g, entries);
    TAKE(backlog.old, n.labels);
    TAKE(backlog.fresh, n.labels);
    TAKE(backlog.sw, n.list);
    TAKE(backlog.dw, n.list);
    TAKE(backlog.input, n.list > 0 ? n.labels : 0);
    TAKE(backlog.at, n.list > 0 ? n.labels : 0);
#undef TAKE
    s->backlog.capacity = n.labels;
    return at;
}

/* ---- weights ---- */

void hr_tile_decode(const hr_segment *seg, const hrk_table *k, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    for (int64_t r = 0; r < rows; r++)
        hr_rows_decode(seg, k, row + r, scratch->w + r * HRK_DP, rows);
}

static float row_scale(const hr_segment *seg, int64_t row)
{
    return seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
}

void hr_tile_int8_weights(const hr_segment *seg, const hrk_table *k, int64_t row, int64_t rows, bool with_error, hr_tile_scratch *s)
{
    const int64_t width_q = hr_pad(seg->width, HRK_QP);
    for (int64_t r = 0; r < rows; r++) {
        int8_t *q = s->wq + r * width_q;
        const int64_t width = hr_row_width(seg, row + r);
        const hrk_quantized w = k->quantize(width, hr_segment_row(seg, row + r), row_scale(seg, row + r), seg->o.dtype, with_error, q);
        if (width % HRK_QP)
            memset(q + width, 0, (size_t)(HRK_QP - width % HRK_QP));
        s->w_scale[r] = w.scale;
        s->w_sum[r] = w.sum;
        if (!with_error)
            continue;
        s->w_error[r] = (w.scale == 0 ? 0x1p-100f : w.scale * 0.5f) * sqrtf((float)w.rounded); /* scale 0: all below 2^-100 */
        s->w_size[r] = w.scale * sqrtf((float)w.square) + s->w_error[r];
    }
}

/* Asks for part `part` of `parts` of the codes that the next tile will decode, while this one computes. */
static void prefetch_next(const hr_segment *seg, int64_t next, int64_t rows, int64_t part, int64_t parts)
{
    const int64_t end = next + rows < seg->o.rows ? next + rows : seg->o.rows;
    for (int64_t r = next + part; r < end && !seg->starts; r += parts)
        for (size_t at = 0; at < seg->pitch; at += 64)
            __builtin_prefetch(hr_segment_row(seg, r) + at, 0, 2);
}

/* ---- loss and gradient ---- */

/* log(1 + e^z) and max(0, 1 + z)^2: the loss of a negative; the positives' correction is added by the caller. */
static double negative_loss(hr_loss type, double z)
{
    if (type == HR_LOSS_BCE)
        return (z > 0 ? z : 0) + log1p(exp(z > 0 ? -z : z));
    return z > -1 ? (1 + z) * (1 + z) : 0;
}

double hr_tile_loss(const hr_tile_step *s, int64_t rows, const float *z, float zscale)
{
    double sum = 0;
    for (int64_t t = 0; t < rows; t++) {
        const double bias = s->bias ? s->bias[t] : s->bias_scalar;
        for (int64_t b = 0; b < s->x->rows; b++)
            sum += negative_loss(s->loss_type, (double)zscale * z[hr_tile_place(t, b, rows)] + bias);
    }
    for (int64_t i = 0; i < s->num_positives; i++) {
        const int64_t t = (int64_t)(s->positives[i] >> 32) - s->axis_row, b = (int64_t)(uint32_t)s->positives[i];
        const double v = (double)zscale * z[hr_tile_place(t, b, rows)] + (s->bias ? s->bias[t] : s->bias_scalar);
        if (s->loss_type == HR_LOSS_BCE)
            sum -= v;
        else
            sum += (v < 1 ? (1 - v) * (1 - v) : 0) - negative_loss(s->loss_type, v);
    }
    return sum;
}

/* All as negatives, then the positives. */
void hr_tile_gradient(const hr_segment *seg, const hr_tile_step *s, int64_t rows, hr_tile_scratch *scratch)
{
    float *z = scratch->g, *zpos = scratch->zpos;
    const hrk_table *k = s->k;
    const float zscale = hr_rows_scale(seg);
    hrk_grad_args args = {.zscale = zscale, .bias = s->bias_scalar, .gscale = s->gscale, .low_precision = s->low_precision};
    for (int64_t i = 0; i < s->num_positives; i++)
        zpos[i] = z[hr_tile_place((int64_t)(s->positives[i] >> 32) - s->axis_row, (int64_t)(uint32_t)s->positives[i], rows)];

    const int64_t panels = s->x->padded / HRK_BP;
    for (int64_t r = 0; r < (s->bias ? panels * rows : panels); r++) {
        const int64_t n = s->bias ? HRK_BP : rows * HRK_BP;
        if (s->bias)
            args.bias = s->bias[r % rows];
        if (s->loss_type == HR_LOSS_BCE)
            k->grad_bce(n, z + r * n, args);
        else
            k->grad_hinge(n, z + r * n, args);
    }
    for (int64_t i = 0; i < s->num_positives; i++) {
        const int64_t t = (int64_t)(s->positives[i] >> 32) - s->axis_row, b = (int64_t)(uint32_t)s->positives[i];
        float *g = &z[hr_tile_place(t, b, rows)];
        if (s->loss_type == HR_LOSS_BCE) {
            *g -= s->gscale;
        } else {
            const float m = 1.0f - fmaf(zscale, zpos[i], s->bias ? s->bias[t] : s->bias_scalar);
            *g = s->gscale * (-2.0f * (m > 0 ? m : 0));
        }
        if (s->low_precision)
            *g = hr_round_nearest(*g, HR_GRID_BF16);
    }
}

/* ---- the update ---- */

/* dW and the update, a few rows of a panel at a time: dW and its draws never leave the first-level cache, and the decoded
 * codes stand in w. */
static void update_tile(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    enum { STRIP = 24 };
    float into[STRIP * HRK_DP] __attribute__((aligned(64)));
    uint16_t draws[STRIP * HRK_DP] __attribute__((aligned(64)));
    const hrk_sgd_args args = hr_rows_sgd_args(seg, s);
    const bool dithered = args.rounding != HR_ROUND_NEAREST && args.dtype.id != HR_F32;
    const int64_t parts = (seg->width + HRK_DP - 1) / HRK_DP * ((rows + STRIP - 1) / STRIP);
    int64_t part = 0;
    for (int64_t d = 0; d < seg->width; d += HRK_DP) {
        const int64_t columns = seg->width - d < HRK_DP ? seg->width - d : HRK_DP, q = d / HRK_DP;
        for (int64_t r = 0; r < rows; r += STRIP) {
            const int64_t n = rows - r < STRIP ? rows - r : STRIP;
            prefetch_next(seg, row + rows, rows, part++, parts);
            const float *dw = seg->family->dw(seg, s, rows, q, r, n, scratch, into);
            if (dithered)
                s->k->draws_panel(s->rng, (uint32_t)(seg->first_row + row + r), n, NULL, d, draws);
            s->k->sgd_panel(n, columns, hr_segment_row(seg, row + r) + (size_t)d * args.dtype.bytes, seg->pitch,
                            scratch->w + (q * rows + r) * HRK_DP, dw, draws, args);
        }
    }
}

/* The same where a row is needed as a whole: dW may take the place of the decoded weights. */
static void update_tile_by_rows(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    const int64_t panels = (seg->width + HRK_DP - 1) / HRK_DP;
    const float *first = NULL;
    for (int64_t q = 0; q < panels; q++) {
        const float *dw = seg->family->dw(seg, s, rows, q, 0, rows, scratch, scratch->w + q * rows * HRK_DP);
        first = q == 0 ? dw : first;
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t q = 0; q * HRK_DP < hr_row_width(seg, row + r); q++)
            memcpy(scratch->row + q * HRK_DP, first + (q * rows + r) * HRK_DP, HRK_DP * sizeof(float));
        hr_rows_update(seg, s, row + r, scratch->row, scratch);
    }
}

/* Adam's step for a gradient; the moments are f32. */
static float adam_bias(const hr_tile_step *s, int64_t t, float g)
{
    float *m = &s->bias_m[t], *v = &s->bias_v[t];
    *m = hr_adam_first(s->adam, *m, g);
    *v = hr_adam_second(s->adam, *v, g);
    return hr_adam_direction(s->adam, *m, *v);
}

void hr_tile_update_bias(const hr_segment *seg, const hr_tile_step *s, int64_t t, float sum)
{
    if (seg->o.optimizer == HR_HEAD_ADAM)
        sum = adam_bias(s, t, sum);
    s->bias[t] = fmaf(-s->lr * seg->o.lr_scale, sum, s->bias[t]);
}

/* From the sums of the labels' gradients over the batch, rows in order. */
static void tile_bias(const hr_segment *seg, const hr_tile_step *s, int64_t rows, const float *g)
{
    for (int64_t t = 0; t < rows; t++) {
        float sum = 0;
        for (int64_t b = 0; b < s->x->rows; b++)
            sum += g[hr_tile_place(t, b, rows)];
        hr_tile_update_bias(seg, s, t, sum);
    }
}

void hr_tile_outputs(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, float *h, hr_tile_scratch *scratch)
{
    const float scale = hr_rows_scale(seg);
    hr_tile_decode(seg, s->k, row, rows, scratch);
    seg->family->logits(seg, s->k, s->x, row, rows, scratch);
    for (int64_t b = 0; b < s->x->rows; b++)
        for (int64_t t = 0; t < rows; t++) {
            const float z = fmaf(scale, scratch->g[hr_tile_place(t, b, rows)], s->bias ? s->bias[t] : s->bias_scalar);
            h[b * s->units + s->axis_row + t] = s->relu && z <= 0 ? 0 : z;
        }
}

void hr_tile_backward(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    if (s->bias)
        tile_bias(seg, s, rows, scratch->g);
    seg->family->dx(seg, s, row, rows, scratch);
    if (hr_rows_whole(seg))
        update_tile_by_rows(seg, s, row, rows, scratch);
    else
        update_tile(seg, s, row, rows, scratch);
}

/* A hidden layer: the gradient of its units is given; a unit that was cut off passes nothing. */
static void given_gradient(const hr_tile_step *s, int64_t rows, float *g)
{
    for (int64_t b = 0; b < s->x->padded; b++)
        for (int64_t t = 0; t < rows; t++) {
            const int64_t at = b * s->units + s->axis_row + t;
            g[hr_tile_place(t, b, rows)] = b < s->x->rows && !(s->relu && s->h[at] <= 0) ? s->dh[at] : 0;
        }
}

void hr_tile_step_run(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    if (seg->family->step) {
        seg->family->step(seg, s, row, rows, scratch);
        return;
    }
    if (s->sparse) {
        hr_lists_step(seg, s, row, rows, scratch);
        return;
    }
    hr_tile_decode(seg, s->k, row, rows, scratch);
    if (s->dh) {
        given_gradient(s, rows, scratch->g);
        hr_backlog_flush(scratch, s->k);
        hr_tile_backward(seg, s, row, rows, scratch);
        return;
    }
    seg->family->logits(seg, s->k, s->x, row, rows, scratch);
    if (s->loss)
        *s->loss += hr_tile_loss(s, rows, scratch->g, hr_rows_scale(seg));
    hr_tile_gradient(seg, s, rows, scratch);
    if (s->exact_lists && hr_lists_from_gradient(seg, s, row, rows, scratch))
        return;
    hr_backlog_flush(scratch, s->k);
    hr_tile_backward(seg, s, row, rows, scratch);
}
