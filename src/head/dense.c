/* The dense family: W (rows, D) in any storage type, the fused step of ELMO (ICML 2025, Alg. 1) on tiles.
 *
 * Per tile of T labels, with Z and G lying (T, B): decode W to f32; Z = W X^T; G = gradient of the loss; dX += G^T W;
 * dW = G X; update and round.
 * The bytes moved are those of the codes, read twice and written once; everything else stays in the cache. */
#include "head/segment.h"

#include <stdio.h>

enum { TILE = 96 };

static int64_t tile_rows(int64_t dim)
{
    int64_t t = dim <= 2048 ? TILE : TILE * 2048 / dim / 8 * 8;
    return t < 8 ? 8 : t;
}

size_t hr_dense_pitch(hr_dtype dtype, int64_t dim)
{
    return hr_round_up(hr_mul((size_t)dim, dtype.bytes), 64);
}

static size_t weight_bytes(const hr_segment_options *o, int64_t dim)
{
    size_t codes = hr_mul((size_t)o->rows, hr_dense_pitch(o->dtype, dim));
    return o->dtype.id == HR_I8R ? hr_add(codes, hr_mul((size_t)o->rows, sizeof(float))) : codes;
}

static size_t state_bytes(const hr_segment_options *o, int64_t dim)
{
    size_t n = hr_mul((size_t)o->rows, (size_t)dim);
    return hr_add(o->kahan ? hr_mul(n, 2) : 0, o->momentum > 0 ? hr_mul(n, o->momentum_dtype.bytes) : 0);
}

static int64_t pad(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* The arrays of a worker's scratch, laid out from `memory`, which may be NULL to learn the size. */
static size_t lay_out(uint8_t *memory, const hr_head_options *o, hr_tile_scratch *s)
{
    const int64_t t = tile_rows(o->dim), d = pad(o->dim, HRK_DP), b = pad(o->max_batch, HRK_BP), dq = pad(o->dim, HRK_QP);
    const bool sparse = o->training && o->gradient == HR_GRADIENT_SPARSE;
    const int64_t labels = sparse ? HR_BACKLOG_LABELS : 0, list = sparse ? hr_dense_list_capacity(t, o->max_batch) : 0;
    const int64_t strip = sparse ? HR_LIST_STRIP * b : 0;
    const int64_t pairs = o->training && o->arith == HR_ARITH_BF16;
    size_t at = 0;
#define TAKE(field, count)                                                                                             \
    s->field = memory ? (void *)(memory + at) : NULL;                                                                  \
    at += hr_round_up((size_t)(count) * sizeof *s->field, 64)
    TAKE(w, d * t);
    TAKE(g, b * t);
    TAKE(zpos, b * t);
    TAKE(row, d);
    TAKE(draws, d > strip ? d : strip);
    TAKE(entry_row, strip);
    TAKE(entry_g, strip);
    TAKE(w_by_dim, pairs * t * d / 2);
    TAKE(w_by_label, pairs * (t + 1) / 2 * d);
    TAKE(g_by_row, pairs * t * b / 2);
    TAKE(g_by_label, pairs * (t + 1) / 2 * b);
    TAKE(wq, dq * t);
    TAKE(w_scale, t);
    TAKE(w_sum, t);
    TAKE(w_size, t);
    TAKE(w_error, t);
    TAKE(backlog.item, o->training ? HR_BACKLOG_ITEMS : 0);
    TAKE(backlog.label, labels);
    TAKE(backlog.start, labels + 1);
    TAKE(backlog.row, list);
    TAKE(backlog.g, list);
    TAKE(backlog.old, labels);
    TAKE(backlog.fresh, labels);
#undef TAKE
    return at;
}

static size_t scratch_bytes(const hr_head_options *o)
{
    hr_tile_scratch s = {0};
    return lay_out(NULL, o, &s);
}

static hr_tile_scratch make_scratch(uint8_t *memory, const hr_head_options *o)
{
    hr_tile_scratch s = {0};
    (void)lay_out(memory, o, &s);
    return s;
}

static hr_status create(hr_ctx *ctx, hr_segment *seg)
{
    const hr_segment_options *o = &seg->o;
    const size_t n = (size_t)o->rows * (size_t)seg->dim;
    seg->num_shards = 1;
    seg->shard_rows = o->rows;
    seg->codes[0] = hr_calloc(ctx, HR_MEM_HEAD_WEIGHTS, (size_t)o->rows, seg->pitch);
    if (!seg->codes[0])
        return HR_ERR_NOMEM;
    if (o->dtype.id == HR_I8R && !(seg->scales[0] = HR_ARRAY0(ctx, HR_MEM_HEAD_WEIGHTS, float, o->rows)))
        return HR_ERR_NOMEM;
    if (o->kahan && !(seg->comp = hr_calloc(ctx, HR_MEM_HEAD_STATE, n, 2)))
        return HR_ERR_NOMEM;
    if (o->momentum > 0 && !(seg->momentum = hr_calloc(ctx, HR_MEM_HEAD_STATE, n, o->momentum_dtype.bytes)))
        return HR_ERR_NOMEM;
    return HR_OK;
}

static void destroy(hr_ctx *ctx, hr_segment *seg)
{
    hr_free(ctx, seg->codes[0]);
    hr_free(ctx, seg->scales[0]);
    hr_free(ctx, seg->comp);
    hr_free(ctx, seg->momentum);
}

/* The first scale of an i8r row: a power of two with room for +-init, or 2^-10 for rows of zeros. */
static float first_scale(float init)
{
    return init > 0 ? exp2f(ceilf(log2f(init / 127.0f))) : 0x1p-10f;
}

static void init_rows(hr_segment *seg, uint64_t seed, float init, int64_t row, int64_t rows)
{
    hr_rng rng = hr_rng_make(seed, 0, seg->tensor, HR_STREAM_INIT);
    const float unit = ldexpf(init, seg->o.scale_log2), scale = first_scale(unit);
    for (int64_t r = row; r < row + rows; r++) {
        uint8_t *codes = hr_segment_row(seg, r);
        if (seg->o.dtype.id == HR_I8R)
            *hr_segment_scale(seg, r) = scale;
        for (int64_t d = 0; unit > 0 && d < seg->dim; d++) {
            /* uniform on the multiples of 2^-15 in (-1, 1), symmetric about zero */
            const float u = ((float)hr_rng_draw16(rng, (uint32_t)(seg->first_row + r), (uint32_t)d) - 32767.5f) * 0x1p-15f;
            const float v = seg->o.dtype.id == HR_I8R ? u * unit : hr_dtype_round(seg->o.dtype, HR_ROUND_NEAREST, u * unit, 0);
            hr_dtype_store(seg->o.dtype, codes, d, v, scale);
        }
    }
}

/* ---- the tile ---- */

void hr_dense_decode_row(const hr_segment *seg, const hrk_table *k, int64_t row, float *w, int64_t rows)
{
    const uint8_t *codes = hr_segment_row(seg, row);
    const float scale = seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
    const int64_t tail = seg->dim % HRK_DP, last = seg->dim / HRK_DP;
    k->decode_row(seg->dim, codes, scale, seg->o.dtype, rows * HRK_DP, w);
    if (tail)
        memset(w + last * rows * HRK_DP + tail, 0, (size_t)(HRK_DP - tail) * sizeof(float));
}

/* Asks for part `part` of `parts` of the codes that the next tile will decode, while this one computes. */
static void prefetch_next(const hr_segment *seg, int64_t next, int64_t rows, int64_t part, int64_t parts)
{
    const int64_t end = next + rows < seg->o.rows ? next + rows : seg->o.rows;
    for (int64_t r = next + part; r < end; r += parts)
        for (size_t at = 0; at < seg->pitch; at += 64)
            __builtin_prefetch(hr_segment_row(seg, r) + at, 0, 2);
}

/* Z (B/BP, rows, BP) = W X^T in code units. */
static void tile_logits(const hr_packed *x, const hrk_table *k, int64_t rows, const float *w, float *z)
{
    const hrk_left left = {.a = w, .row = HRK_DP, .step = 1, .kb = HRK_DP, .block = rows * HRK_DP};
    for (int64_t p = 0; p < x->padded / HRK_BP; p++)
        k->gemm_panel_bp(rows, x->dim, left, x->xt + p * x->dim * HRK_BP, z + p * rows * HRK_BP, HRK_BP, 1.0f, 0);
}

/* Logits of a tile in code units, without factor and bias, into scratch->g. */
static void scores(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows,
                     hr_tile_scratch *scratch)
{
    for (int64_t r = 0; r < rows; r++)
        hr_dense_decode_row(seg, k, row + r, scratch->w + r * HRK_DP, rows);
    if (x->xt16) {
        hr_dense_bf16_weights(x, k, rows, scratch);
        hr_dense_bf16_logits(x, k, rows, scratch);
    } else {
        tile_logits(x, k, rows, scratch->w, scratch->g);
    }
}

float hr_dense_weight_scale(const hr_segment *seg)
{
    return ldexpf(seg->alpha, -seg->o.scale_log2);
}

/* Where (label t, batch row b) stands in a tile of `rows` labels. */
static int64_t place(int64_t t, int64_t b, int64_t rows)
{
    return (b / HRK_BP * rows + t) * HRK_BP + b % HRK_BP;
}

/* log(1 + e^z) and max(0, 1 + z)^2: the loss of a negative; the positives' correction is added by the caller. */
static double negative_loss(hr_loss type, double z)
{
    if (type == HR_LOSS_BCE)
        return (z > 0 ? z : 0) + log1p(exp(z > 0 ? -z : z));
    return z > -1 ? (1 + z) * (1 + z) : 0;
}

double hr_dense_loss(const hr_tile_step *s, int64_t rows, const float *z, float zscale)
{
    double sum = 0;
    for (int64_t t = 0; t < rows; t++) {
        const double bias = s->bias ? s->bias[t] : s->bias_scalar;
        for (int64_t b = 0; b < s->x->rows; b++)
            sum += negative_loss(s->loss_type, (double)zscale * z[place(t, b, rows)] + bias);
    }
    for (int64_t i = 0; i < s->num_positives; i++) {
        const int64_t t = (int64_t)(s->positives[i] >> 32) - s->axis_row, b = (int64_t)(uint32_t)s->positives[i];
        const double v = (double)zscale * z[place(t, b, rows)] + (s->bias ? s->bias[t] : s->bias_scalar);
        if (s->loss_type == HR_LOSS_BCE)
            sum -= v;
        else
            sum += (v < 1 ? (1 - v) * (1 - v) : 0) - negative_loss(s->loss_type, v);
    }
    return sum;
}

/* Logits to their gradient, in place: all as negatives, then the positives. */
static void tile_gradient(const hr_segment *seg, const hr_tile_step *s, int64_t rows, float *z, float *zpos)
{
    const hrk_table *k = s->k;
    const float zscale = hr_dense_weight_scale(seg);
    hrk_grad_args args = {.zscale = zscale, .bias = s->bias_scalar, .gscale = s->gscale, .low_precision = s->low_precision};
    for (int64_t i = 0; i < s->num_positives; i++)
        zpos[i] = z[place((int64_t)(s->positives[i] >> 32) - s->axis_row, (int64_t)(uint32_t)s->positives[i], rows)];

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
        float *g = &z[place(t, b, rows)];
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

/* dX partial += scale * G^T W with the old weights. */
static void tile_dx(const hr_segment *seg, const hr_tile_step *s, int64_t rows, const float *w, const float *g)
{
    const hr_packed *x = s->x;
    const float scale = hr_dense_weight_scale(seg);
    for (int64_t q = 0; q < x->dim_padded / HRK_DP; q++) {
        for (int64_t b = 0; b < x->rows; b += HRK_BP) {
            const hrk_left left = {.a = g + b * rows, .row = 1, .step = HRK_BP, .kb = rows, .block = 0};
            const int64_t m = x->rows - b < HRK_BP ? x->rows - b : HRK_BP;
            s->k->gemm_panel_dp(m, rows, left, w + q * rows * HRK_DP, s->dx + (q * x->rows + b) * HRK_DP, HRK_DP, scale, 1);
        }
    }
}

/* dW = G X of rows [r, r + n) and panel q, with row stride HRK_DP. */
static void panel_dw(const hr_tile_step *s, int64_t rows, const hr_tile_scratch *scratch, int64_t q, int64_t r, int64_t n, float *dw)
{
    const hr_packed *x = s->x;
    if (x->xp16) {
        hr_dense_bf16_dw(s, rows, q, r, n, scratch, dw);
        return;
    }
    const hrk_left left = {.a = scratch->g + r * HRK_BP, .row = HRK_BP, .step = 1, .kb = HRK_BP, .block = rows * HRK_BP};
    s->k->gemm_panel_dp(n, x->rows, left, x->xp + q * x->rows * HRK_DP, dw, HRK_DP, 1.0f, 0);
}

/* dW and the update, a few rows of a panel at a time: dW and its draws never leave the first-level cache, and the decoded
 * codes stand in w. */
static void update_tile(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, const hr_tile_scratch *scratch)
{
    enum { STRIP = 24 };
    float dw[STRIP * HRK_DP] __attribute__((aligned(64)));
    uint16_t draws[STRIP * HRK_DP] __attribute__((aligned(64)));
    const hrk_sgd_args args = hr_dense_sgd_args(seg, s);
    const bool dithered = args.rounding != HR_ROUND_NEAREST && args.dtype.id != HR_F32;
    const int64_t parts = s->x->dim_padded / HRK_DP * ((rows + STRIP - 1) / STRIP);
    int64_t part = 0;
    for (int64_t d = 0; d < seg->dim; d += HRK_DP) {
        const int64_t columns = seg->dim - d < HRK_DP ? seg->dim - d : HRK_DP, q = d / HRK_DP;
        for (int64_t r = 0; r < rows; r += STRIP) {
            const int64_t n = rows - r < STRIP ? rows - r : STRIP;
            prefetch_next(seg, row + rows, rows, part++, parts);
            panel_dw(s, rows, scratch, q, r, n, dw);
            if (dithered)
                s->k->draws_panel(s->rng, (uint32_t)(seg->first_row + row + r), n, NULL, d, draws);
            s->k->sgd_panel(n, columns, hr_segment_row(seg, row + r) + (size_t)d * args.dtype.bytes, seg->pitch,
                            scratch->w + (q * rows + r) * HRK_DP, dw, draws, args);
        }
    }
}

/* The same where a row is needed as a whole (row scale, compensation, momentum): dW takes the place of the decoded
 * weights. */
static void update_tile_by_rows(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    const int64_t panels = s->x->dim_padded / HRK_DP;
    for (int64_t q = 0; q < panels; q++)
        panel_dw(s, rows, scratch, q, 0, rows, scratch->w + q * rows * HRK_DP);
    for (int64_t r = 0; r < rows; r++)
        hr_dense_update_row(seg, s, row + r, scratch->w + r * HRK_DP, rows, scratch);
}

/* Per-label biases: plain SGD on the sum of the label's gradient over the batch, rows in order. */
static void tile_bias(const hr_segment *seg, const hr_tile_step *s, int64_t rows, const float *g)
{
    for (int64_t t = 0; t < rows; t++) {
        float sum = 0;
        for (int64_t b = 0; b < s->x->rows; b++)
            sum += g[place(t, b, rows)];
        s->bias[t] = fmaf(-s->lr * seg->o.lr_scale, sum, s->bias[t]);
    }
}

void hr_dense_backward(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    if (s->bias)
        tile_bias(seg, s, rows, scratch->g);
    if (s->x->xp16) {
        hr_dense_bf16_gradient(s, rows, scratch);
        hr_dense_bf16_dx(s, rows, hr_dense_weight_scale(seg), scratch);
    } else {
        tile_dx(seg, s, rows, scratch->w, scratch->g);
    }
    if (seg->o.dtype.id == HR_I8R || seg->comp || seg->momentum)
        update_tile_by_rows(seg, s, row, rows, scratch);
    else
        update_tile(seg, s, row, rows, scratch);
}

static void step_tile(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch)
{
    if (s->sparse) {
        hr_dense_step_sparse(seg, s, row, rows, scratch);
        return;
    }
    hr_backlog_flush(scratch, s->k, s->x);
    scores(seg, s->k, s->x, row, rows, scratch);
    if (s->loss)
        *s->loss += hr_dense_loss(s, rows, scratch->g, hr_dense_weight_scale(seg));
    tile_gradient(seg, s, rows, scratch->g, scratch->zpos);
    hr_dense_backward(seg, s, row, rows, scratch);
}

static void tensors(hr_segment *seg, int index, hr_tensor_list *list)
{
    const hr_segment_options *o = &seg->o;
    const struct {
        const char *name;
        hr_tensor_type type;
        int64_t cols;
        void *data;
        bool state;
    } all[] = {
        {"codes", hr_tensor_type_of(o->dtype), (int64_t)(seg->pitch / o->dtype.bytes), seg->codes[0], false},
        {"scales", HR_T_F32, 1, seg->scales[0], false},
        {"compensation", HR_T_BF16, seg->dim, seg->comp, true},
        {"momentum", hr_tensor_type_of(o->momentum_dtype), seg->dim, seg->momentum, true},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (!all[i].data)
            continue;
        hr_tensor *t = &list->item[list->count++];
        *t = (hr_tensor){.type = all[i].type, .rows = o->rows, .cols = all[i].cols, .data = all[i].data, .sharded = true,
                         .state = all[i].state};
        snprintf(t->name, sizeof t->name, "head.%d.%s", index, all[i].name);
    }
}

const hr_family hr_family_dense = {
    .name = "dense",
    .tile_rows = tile_rows,
    .weight_bytes = weight_bytes,
    .state_bytes = state_bytes,
    .scratch_bytes = scratch_bytes,
    .scratch = make_scratch,
    .create = create,
    .destroy = destroy,
    .init_rows = init_rows,
    .scan = hr_dense_scan,
    .step = step_tile,
    .prepare = hr_dense_prepare_lists,
    .panel = hr_dense_lists_panel,
    .halve = hr_dense_halve,
    .tensors = tensors,
};
