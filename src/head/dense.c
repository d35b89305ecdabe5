/* The dense family: every label reads every column of its slice; the fused step of ELMO (ICML 2025, Alg. 1) on tiles.
 *
 * With Z and G of a tile of T labels lying (T, B): Z = W X^T, dX += G^T W, dW = G X. */
#include "head/segment.h"

enum { TILE = 96 };

static int64_t tile_rows(const hr_segment_options *o, int64_t dim)
{
    (void)o;
    int64_t t = dim <= 2048 ? TILE : TILE * 2048 / dim / 8 * 8;
    return t < 8 ? 8 : t;
}

static bool logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    (void)seg, (void)row;
    if (x->xt16) {
        hr_dense_bf16_logits(x, k, rows, scratch);
        return true;
    }
    const hrk_left left = {.a = scratch->w, .row = HRK_DP, .step = 1, .kb = HRK_DP, .block = rows * HRK_DP};
    for (int64_t p = 0; p < x->padded / HRK_BP; p++)
        k->gemm_panel_bp(rows, x->dim, left, x->xt + p * x->xt_step, scratch->g + p * rows * HRK_BP, HRK_BP, 1.0f, 0);
    return true;
}

static bool int8_logits(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows,
                        hr_tile_scratch *s)
{
    /* the next tile's codes, as far as they lie behind this one's, are asked for in equal parts */
    const int64_t panels = x->padded / HRK_BP, next = row + rows;
    int64_t ahead_rows = seg->shard_rows - next % seg->shard_rows;
    ahead_rows = ahead_rows < seg->o.rows - next ? ahead_rows : seg->o.rows - next;
    ahead_rows = ahead_rows < rows ? ahead_rows : rows;
    const uint8_t *ahead = hr_segment_row(seg, ahead_rows > 0 ? next : row);
    const size_t part = (size_t)ahead_rows * seg->pitch / (size_t)panels;
    for (int64_t p = 0; p < panels; p++)
        k->gemm_i8(rows, x->dim_q / 4, s->wq, x->dim_q, s->w_sum, s->w_scale, x->xq + p * x->xq_step, x->x_scale + p * HRK_BP,
                   s->g + p * rows * HRK_BP, ahead + (size_t)p * part, part);
    return true;
}

/* dX partial += scale * G^T W with the old weights. */
static void add_dx(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    (void)row;
    const hr_packed *x = s->x;
    const float scale = hr_rows_scale(seg);
    if (x->xp16) {
        hr_dense_bf16_dx(s, rows, scale, scratch);
        return;
    }
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++) {
        for (int64_t b = 0; b < x->rows; b += HRK_BP) {
            const hrk_left left = {.a = scratch->g + b * rows, .row = 1, .step = HRK_BP, .kb = rows, .block = 0};
            const int64_t m = x->rows - b < HRK_BP ? x->rows - b : HRK_BP;
            s->k->gemm_panel_dp(m, rows, left, scratch->w + q * rows * HRK_DP, s->dx + (q * x->rows + b) * HRK_DP, HRK_DP, scale, 1);
        }
    }
}

static const float *make_dw(const hr_segment *seg, const hr_tile_step *s, int64_t rows, int64_t q, int64_t r, int64_t n,
                            hr_tile_scratch *scratch, float *into)
{
    (void)seg;
    const hr_packed *x = s->x;
    if (x->xp16) {
        hr_dense_bf16_dw(s, rows, q, r, n, scratch, into);
        return into;
    }
    const hrk_left left = {.a = scratch->g + r * HRK_BP, .row = HRK_BP, .step = 1, .kb = HRK_BP, .block = rows * HRK_BP};
    s->k->gemm_panel_dp(n, x->rows, left, x->xp + q * x->rows * HRK_DP, into, HRK_DP, 1.0f, 0);
    return into;
}

/* The rows lie in one shard, one after the other, or are taken in parts that do. */
static bool dot(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, int64_t query, float *out)
{
    while (rows > 0) {
        const int64_t in_shard = seg->shard_rows - row % seg->shard_rows, n = rows < in_shard ? rows : in_shard;
        k->dot(n, seg->dim, hr_segment_row(seg, row), seg->pitch, seg->o.dtype.id == HR_I8R ? hr_segment_scale(seg, row) : NULL,
               seg->o.dtype, x->x + query * x->x_step, out);
        row += n;
        rows -= n;
        out += n;
    }
    return true;
}

/* ---- lists ---- */

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
static void lists_begin(const hr_deferred *d, hr_tile_scratch *scratch)
{
    hr_segment *seg = d->seg;
    hr_backlog *b = &scratch->backlog;
    if (seg->o.dtype.id != HR_I8R)
        return;
    const hr_packed *x = d->step.x;
    const hrk_lists l = hr_lists_of(b, d->first, d->last - d->first);
    const hrk_sgd_args args = hr_rows_sgd_args(seg, &d->step);
    for (int64_t m = d->first; m < d->last; m++) {
        b->old[m] = *hr_segment_scale(seg, b->label[m]);
        b->fresh[m] = 0;
    }
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++)
        d->step.k->sparse_absmax(&l, x->xp + q * x->rows * HRK_DP, columns_of(seg, q), (int8_t *)panel_codes(seg, q), seg->pitch, args,
                                 b->fresh + d->first);
    for (int64_t m = d->first; m < d->last; m++)
        *hr_segment_scale(seg, b->label[m]) = b->fresh[m] = hr_i8r_fresh_scale(b->old[m], b->fresh[m], args.step);
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

static void lists_panel(const hr_deferred *d, int64_t panel, const hr_backlog *b)
{
    enum { STRIP = 32 };
    uint16_t draws[STRIP * HRK_DP] __attribute__((aligned(64)));
    const hr_packed *x = d->step.x;
    hr_segment *seg = d->seg;
    const hrk_sgd_args args = hr_rows_sgd_args(seg, &d->step);
    const bool dithered = args.rounding != HR_ROUND_NEAREST && args.dtype.id != HR_F32;
    uint8_t *codes = panel_codes(seg, panel);
    const int64_t at = panel * x->rows * HRK_DP;
    for (int64_t m = d->first; m < d->last; m += STRIP) {
        const int64_t next = m + STRIP, after = next + STRIP < d->last ? next + STRIP : d->last;
        for (int64_t i = next; i < after; i++)
            for (size_t byte = 0; byte < HRK_DP * args.dtype.bytes; byte += 64)
                __builtin_prefetch(codes + (size_t)b->label[i] * seg->pitch + byte, 1, 2);
        const hrk_lists l = hr_lists_of(b, m, (next < d->last ? next : d->last) - m);
        if (dithered)
            make_draws(d, &l, panel, draws);
        d->step.k->sparse_sgd(&l, hr_rows_scale(seg), x->xp + at, d->to + at, columns_of(seg, panel), codes, seg->pitch, draws, args);
    }
}

static void lists_panels(const hr_deferred *d, int64_t first, int64_t end, hr_tile_scratch *scratch)
{
    for (int64_t panel = first; panel < end; panel++)
        lists_panel(d, panel, &scratch->backlog);
}

static void lists_end(const hr_deferred *d, hr_tile_scratch *scratch)
{
    (void)d, (void)scratch; /* rows are updated panel by panel */
}

const hr_family hr_family_dense = {
    .name = "dense",
    .tile_rows = tile_rows,
    .logits = logits,
    .int8_logits = int8_logits,
    .dx = add_dx,
    .dw = make_dw,
    .lists_begin = lists_begin,
    .lists_panels = lists_panels,
    .lists_end = lists_end,
    .dot = dot,
};
