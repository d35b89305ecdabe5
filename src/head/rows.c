/* The rows of weights of a segment, whatever inputs they belong to: storage, initialisation, decoding, and the update of a row: plain SGD
 * through the kernels; i8r with its row scale; Kahan and momentum rows plainly.
 *
 * In code units, v = fma(-(lr * 2^s / alpha), dw, c), then rounding (docs/numerics.md section 3). */
#include "head/segment.h"

#include <stdio.h>

/* Dense rows begin at 64 bytes; the short rows of a fan-in at 16, or the padding would be what they are trained to save. */
static size_t row_pitch(const hr_segment *seg)
{
    const size_t bytes = hr_mul((size_t)seg->width, seg->o.dtype.bytes);
    return hr_round_up(bytes, seg->o.family == HR_FAMILY_DENSE ? 64 : 16);
}

hr_segment hr_segment_make(const hr_head_options *head, int i)
{
    const hr_segment_options *o = &head->segment[i];
    hr_segment seg = {.o = *o, .family = hr_family_of(head, o), .first_column = o->first_column, .group = 1, .alpha = 1.0f,
                      .dim = o->columns > 0 ? o->columns : head->dim - o->first_column, .tensor = head->first_tensor + 2 * (unsigned)i};
    for (int before = 0; before < i; before++)
        seg.first_row += head->segment[before].rows;
    seg.width = seg.dim;
    if (o->family == HR_FAMILY_FAN_IN) {
        seg.width = o->fan_in;
        seg.group = o->group > 1 ? o->group : 1;
    } else if (o->family == HR_FAMILY_UNSTRUCTURED && seg.dim > HR_FAN_IN_MAX) {
        seg.width = HR_FAN_IN_MAX;
    }
    seg.pitch = row_pitch(&seg);
    return seg;
}

static bool is_unstructured(const hr_segment *seg)
{
    return seg->o.family == HR_FAMILY_UNSTRUCTURED;
}

static size_t code_bytes(const hr_segment *seg)
{
    return is_unstructured(seg) ? hr_mul((size_t)seg->o.connections, seg->o.dtype.bytes) : hr_mul((size_t)seg->o.rows, seg->pitch);
}

static size_t input_count(const hr_segment *seg)
{
    if (is_unstructured(seg))
        return (size_t)seg->o.connections;
    return seg->o.family == HR_FAMILY_FAN_IN ? hr_mul((size_t)((seg->o.rows + seg->group - 1) / seg->group), (size_t)seg->width) : 0;
}

static size_t start_bytes(const hr_segment *seg)
{
    return is_unstructured(seg) ? hr_mul((size_t)seg->o.rows + 1, sizeof(uint32_t)) : 0;
}

/* Weights without padding: what state is kept for. */
static size_t weight_count(const hr_segment *seg)
{
    return is_unstructured(seg) ? (size_t)seg->o.connections : hr_mul((size_t)seg->o.rows, (size_t)seg->width);
}

size_t hr_rows_weight_bytes(const hr_segment *seg)
{
    const size_t inputs = hr_add(hr_mul(input_count(seg), hr_input_bytes(seg->dim)), start_bytes(seg));
    const size_t scales = seg->o.dtype.id == HR_I8R ? hr_mul((size_t)seg->o.rows, sizeof(float)) : 0;
    return hr_add(hr_add(code_bytes(seg), inputs), scales);
}

size_t hr_rows_state_bytes(const hr_segment *seg)
{
    const hr_segment_options *o = &seg->o;
    const size_t n = weight_count(seg);
    const size_t moments = o->optimizer == HR_HEAD_ADAM ? 2 : o->momentum > 0;
    return hr_add(o->kahan ? hr_mul(n, 2) : 0, hr_mul(n, moments * o->state_dtype.bytes));
}

hr_status hr_rows_create(hr_ctx *ctx, hr_segment *seg)
{
    const hr_segment_options *o = &seg->o;
    const size_t n = weight_count(seg), inputs = input_count(seg);
    seg->num_shards = 1;
    seg->shard_rows = o->rows;
    seg->codes[0] = hr_calloc(ctx, HR_MEM_HEAD_WEIGHTS, 1, code_bytes(seg));
    if (!seg->codes[0])
        return HR_ERR_NOMEM;
    if (inputs > 0 && !(seg->inputs[0] = hr_calloc(ctx, HR_MEM_HEAD_WEIGHTS, inputs, hr_input_bytes(seg->dim))))
        return HR_ERR_NOMEM;
    if (is_unstructured(seg) && !(seg->starts = hr_calloc(ctx, HR_MEM_HEAD_WEIGHTS, 1, start_bytes(seg))))
        return HR_ERR_NOMEM;
    if (o->dtype.id == HR_I8R && !(seg->scales[0] = HR_ARRAY0(ctx, HR_MEM_HEAD_WEIGHTS, float, o->rows)))
        return HR_ERR_NOMEM;
    if (o->kahan && !(seg->comp = hr_calloc(ctx, HR_MEM_HEAD_STATE, n, 2)))
        return HR_ERR_NOMEM;
    const bool adam = o->optimizer == HR_HEAD_ADAM;
    if ((adam || o->momentum > 0) && !(seg->momentum = hr_calloc(ctx, HR_MEM_HEAD_STATE, n, o->state_dtype.bytes)))
        return HR_ERR_NOMEM;
    if (adam && !(seg->second = hr_calloc(ctx, HR_MEM_HEAD_STATE, n, o->state_dtype.bytes)))
        return HR_ERR_NOMEM;
    return HR_OK;
}

void hr_rows_destroy(hr_ctx *ctx, hr_segment *seg)
{
    hr_free(ctx, seg->codes[0]);
    hr_free(ctx, seg->inputs[0]);
    hr_free(ctx, seg->starts);
    hr_free(ctx, seg->scales[0]);
    hr_free(ctx, seg->comp);
    hr_free(ctx, seg->momentum);
    hr_free(ctx, seg->second);
}

void hr_rows_init(hr_segment *seg, uint64_t seed, int64_t row, int64_t rows)
{
    hr_rng rng = hr_rng_make(seed, 0, seg->tensor, HR_STREAM_INIT);
    const float unit = ldexpf(seg->o.init, seg->o.scale_log2), scale = hr_i8r_first_scale(unit);
    for (int64_t r = row; r < row + rows; r++) {
        uint8_t *codes = hr_segment_row(seg, r);
        if (seg->o.dtype.id == HR_I8R)
            *hr_segment_scale(seg, r) = scale;
        for (int64_t d = 0, n = hr_row_width(seg, r); unit > 0 && d < n; d++) {
            /* uniform on the multiples of 2^-15 in (-1, 1), symmetric about zero */
            const float u = ((float)hr_rng_draw16(rng, (uint32_t)(seg->first_row + r), (uint32_t)d) - 32767.5f) * 0x1p-15f;
            const float v = seg->o.dtype.id == HR_I8R ? u * unit : hr_dtype_round(seg->o.dtype, HR_ROUND_NEAREST, u * unit, 0);
            hr_dtype_store(seg->o.dtype, codes, d, v, scale);
        }
    }
}

void hr_rows_tensors(hr_segment *seg, const char *head, int index, bool is_far, hr_tensor_list *list)
{
    const hr_segment_options *o = &seg->o;
    const bool flat = is_unstructured(seg); /* one column, in one piece */
    const int64_t width = flat ? 1 : seg->width, rows = flat ? o->connections : o->rows, g = seg->group;
    const hr_tensor_type state = hr_tensor_type_of(o->state_dtype);
    const bool adam = o->optimizer == HR_HEAD_ADAM;
    const struct {
        const char *name;
        hr_tensor_type type;
        int64_t rows, cols, group;
        void *data;
        bool state;
        hr_device_array part; /* where it may be far */
        bool has;
    } all[] = {
        {"codes", hr_tensor_type_of(o->dtype), rows, flat ? 1 : (int64_t)(seg->pitch / o->dtype.bytes), 1, seg->codes[0], false,
         HR_DEVICE_CODES, true},
        {"inputs", hr_input_bytes(seg->dim) == 2 ? HR_T_U16 : HR_T_U32, (rows + g - 1) / g, width, g, seg->inputs[0], false, 0, false},
        {"starts", HR_T_U32, o->rows + 1, 1, 1, seg->starts, false, 0, false},
        {"scales", HR_T_F32, o->rows, 1, 1, seg->scales[0], false, HR_DEVICE_SCALES, o->dtype.id == HR_I8R},
        {"compensation", HR_T_BF16, rows, width, 1, seg->comp, true, HR_DEVICE_COMPENSATION, o->kahan},
        {"momentum", state, rows, width, 1, seg->momentum, true, HR_DEVICE_FIRST, adam || o->momentum > 0},
        {"second", state, rows, width, 1, seg->second, true, HR_DEVICE_SECOND, adam},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (is_far ? !all[i].has : !all[i].data)
            continue;
        hr_tensor *t = &list->item[list->count++];
        *t = (hr_tensor){.type = all[i].type, .rows = all[i].rows, .cols = all[i].cols, .data = all[i].data,
                         .part = (int)all[i].part, .shard_group = flat ? 0 : all[i].group, .state = all[i].state};
        snprintf(t->name, sizeof t->name, "%s.%d.%s", head, index, all[i].name);
    }
}

float hr_rows_scale(const hr_segment *seg)
{
    return ldexpf(seg->alpha, -seg->o.scale_log2);
}

void hr_rows_decode(const hr_segment *seg, const hrk_table *k, int64_t row, float *w, int64_t rows)
{
    const uint8_t *codes = hr_segment_row(seg, row);
    const float scale = seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
    const int64_t width = hr_row_width(seg, row), tail = width % HRK_DP, last = width / HRK_DP;
    k->decode_row(width, codes, scale, seg->o.dtype, rows * HRK_DP, w);
    if (tail)
        memset(w + last * rows * HRK_DP + tail, 0, (size_t)(HRK_DP - tail) * sizeof(float));
}

/* ---- the update ---- */

/* Momentum: m <- mu * m + dw, rounded stochastically into its store; the update then uses the stored m. */
static void apply_momentum(hr_segment *seg, const hr_tile_step *s, int64_t row, float *dw)
{
    uint8_t *m = (uint8_t *)seg->momentum + (size_t)hr_row_place(seg, row) * seg->o.state_dtype.bytes;
    for (int64_t d = 0, n = hr_row_width(seg, row); d < n; d++) {
        const float v = fmaf(seg->o.momentum, hr_dtype_load(seg->o.state_dtype, m, d, 1.0f), dw[d]);
        const uint16_t draw = hr_rng_draw16(s->momentum_rng, (uint32_t)(seg->first_row + row), (uint32_t)d);
        dw[d] = hr_dtype_round(seg->o.state_dtype, HR_ROUND_STOCHASTIC, v, draw);
        hr_dtype_store(seg->o.state_dtype, m, d, dw[d], 1.0f);
    }
}

/* Adam (Kingma & Ba 2015, Alg. 1): the moments are rounded stochastically into their store, and the update uses the stored ones. */
static void apply_adam(hr_segment *seg, const hr_tile_step *s, int64_t row, float *dw)
{
    const hr_segment_options *o = &seg->o;
    const size_t at = (size_t)hr_row_place(seg, row) * o->state_dtype.bytes;
    uint8_t *first = (uint8_t *)seg->momentum + at, *second = (uint8_t *)seg->second + at;
    const uint32_t label = (uint32_t)(seg->first_row + row);
    for (int64_t d = 0, n = hr_row_width(seg, row); d < n; d++) {
        float m = hr_dtype_load(o->state_dtype, first, d, 1.0f), v = hr_dtype_load(o->state_dtype, second, d, 1.0f);
        m = hr_adam_first(s->adam, m, dw[d]);
        v = hr_adam_second(s->adam, v, dw[d]);
        m = hr_dtype_round(o->state_dtype, HR_ROUND_STOCHASTIC, m, hr_rng_draw16(s->momentum_rng, label, (uint32_t)d));
        v = hr_dtype_round(o->state_dtype, HR_ROUND_STOCHASTIC, v, hr_rng_draw16(s->second_rng, label, (uint32_t)d));
        hr_dtype_store(o->state_dtype, first, d, m, 1.0f);
        hr_dtype_store(o->state_dtype, second, d, v, 1.0f);
        dw[d] = hr_adam_direction(s->adam, m, v);
    }
}

/* Kahan: v = (c + comp) - u, c' = nearest(v), comp = v - c' kept in bf16 (Kahan 1965; ELMO section 4). */
static void update_kahan(hr_segment *seg, int64_t row, const float *dw, hrk_sgd_args args)
{
    uint8_t *codes = hr_segment_row(seg, row);
    uint16_t *comp = seg->comp + hr_row_place(seg, row);
    const float scale = seg->o.dtype.id == HR_I8R ? *hr_segment_scale(seg, row) : 1.0f;
    for (int64_t d = 0, n = hr_row_width(seg, row); d < n; d++) {
        const float c = hr_dtype_load(seg->o.dtype, codes, d, scale) + hr_bf16_decode(comp[d]);
        const float v = fmaf(-args.step, dw[d], args.keep * c);
        const float next = hr_dtype_round(seg->o.dtype, HR_ROUND_NEAREST, v, 0);
        hr_dtype_store(seg->o.dtype, codes, d, next, scale);
        comp[d] = hr_bf16_encode(hr_round_nearest(v - next, HR_GRID_BF16));
    }
}

/* A rescaled row is rounded by stream 9. */
static void update_i8r(hr_segment *seg, const hr_tile_step *s, int64_t row, const float *dw, hrk_sgd_args args,
                       hr_tile_scratch *scratch)
{
    int8_t *codes = (int8_t *)hr_segment_row(seg, row);
    const int64_t width = hr_row_width(seg, row);
    float *scale = hr_segment_scale(seg, row);
    const float fresh = hr_i8r_fresh_scale(*scale, s->k->absmax_i8r(width, codes, *scale, dw, args), args.step);
    const hr_rng rng = fresh == *scale ? s->rng : s->rescale_rng;
    if (args.rounding != HR_ROUND_NEAREST)
        s->k->draws(rng, (uint32_t)(seg->first_row + row), width, scratch->draws);
    s->k->sgd_i8r(width, codes, *scale, fresh, dw, scratch->draws, args);
    *scale = fresh;
}

hrk_sgd_args hr_rows_sgd_args(const hr_segment *seg, const hr_tile_step *s)
{
    const float lr = s->lr * seg->o.lr_scale;
    return (hrk_sgd_args){.step = ldexpf(lr, seg->o.scale_log2) / s->new_alpha,
                          .keep = s->eager ? 1.0f - lr * s->weight_decay : 1.0f,
                          .rounding = seg->o.rounding,
                          .dtype = seg->o.dtype};
}

bool hr_rows_whole(const hr_segment *seg)
{
    return seg->o.dtype.id == HR_I8R || seg->comp || seg->momentum || seg->starts;
}

void hr_rows_update(hr_segment *seg, const hr_tile_step *s, int64_t row, float *dw, hr_tile_scratch *scratch)
{
    const hrk_sgd_args args = hr_rows_sgd_args(seg, s);
    if (seg->second)
        apply_adam(seg, s, row, dw);
    else if (seg->momentum)
        apply_momentum(seg, s, row, dw);
    if (seg->comp) {
        update_kahan(seg, row, dw, args);
    } else if (seg->o.dtype.id == HR_I8R) {
        update_i8r(seg, s, row, dw, args, scratch);
    } else {
        if (args.rounding != HR_ROUND_NEAREST && seg->o.dtype.id != HR_F32)
            s->k->draws(s->rng, (uint32_t)(seg->first_row + row), hr_row_width(seg, row), scratch->draws);
        s->k->sgd(hr_row_width(seg, row), hr_segment_row(seg, row), dw, scratch->draws, args);
    }
}

void hr_rows_halve(hr_segment *seg, hr_rng rng, int64_t row, int64_t rows)
{
    for (int64_t r = row; r < row + rows; r++) {
        uint8_t *codes = hr_segment_row(seg, r);
        if (seg->o.dtype.id == HR_I8R)
            *hr_segment_scale(seg, r) *= 0.5f; /* exact */
        for (int64_t d = 0, n = hr_row_width(seg, r); d < n; d++) {
            if (seg->o.dtype.id != HR_I8R) {
                const uint16_t draw = hr_rng_draw16(rng, (uint32_t)(seg->first_row + r), (uint32_t)d);
                const float half = 0.5f * hr_dtype_load(seg->o.dtype, codes, d, 1.0f);
                const hr_rounding how = seg->o.rounding == HR_ROUND_NEAREST ? HR_ROUND_NEAREST : HR_ROUND_STOCHASTIC;
                hr_dtype_store(seg->o.dtype, codes, d, hr_dtype_round(seg->o.dtype, how, half, draw), 1.0f);
            }
            if (seg->comp) {
                uint16_t *c = seg->comp + hr_row_place(seg, r) + d;
                *c = hr_bf16_encode(hr_round_nearest(0.5f * hr_bf16_decode(*c), HR_GRID_BF16));
            }
        }
    }
}
