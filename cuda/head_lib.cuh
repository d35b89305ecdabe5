/* The body of head_lib.h, compiled by nvcc for a device and by the tests for the emulator. The includer has a runtime, and HRC_LAUNCH. */
#ifndef HRC_HEAD_LIB_CUH
#define HRC_HEAD_LIB_CUH

#include "cuda/step_kernels.cuh"

#include <math.h>
#include <string.h>
#include <algorithm>
#include <vector>

extern "C" {
#include "cuda/head_lib.h"
}

/* One array of a segment, or of the biases, on the device. */
struct hrc_data {
    unsigned char *device;
    size_t bytes, pitch; /* of a row, and from one to the next */
    int64_t rows;
};

struct hrc_segment {
    hr_segment_options o;
    int64_t first_row; /* on the axis */
    hrc_data array[HR_DEVICE_ARRAYS];
};

struct hrc_head {
    hrc_runtime *rt;
    hr_head_options o;
    hrc_segment segment[HR_SEGMENTS_MAX];
    hrc_operand operand;        /* of all matrix products */
    uint64_t key;               /* of its recorded step: new when an array moves */
    int64_t chunk, capacity, q; /* labels of a chunk; positives of a batch; columns, padded */
    unsigned char *arena;       /* everything but the positives */
    float *x, *z, *dw, *dx, *scales; /* scales: the number 1, and what dX takes of each segment */
    void *xo, *go, *wo;
    uint64_t *positives;
    double *positive_loss;      /* (capacity) */
    double *loss;               /* (chunk) */
    float *most, *limit;        /* (stripes of a chunk, padded batch), (padded batch): see hrc_limits */
    int32_t *count;             /* (padded batch) candidates, or scores that are no numbers */
    hrc_candidate *candidate;   /* (padded batch, HRC_ROOM) */
    hrc_batch_step *batch;
    hrc_step *steps;            /* (segments) */
};

/* Candidates of an instance that are fetched at a time. */
enum { HRC_ROOM = 1024 };

namespace {

int64_t padded(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* Calls run with the operand type of the head's products as an argument: run(hrc_as_f16()). */
template <class F>
void with_operand(const hrc_head *h, F run)
{
    if (h->operand == HRC_F16)
        run(hrc_as_f16());
    else if (h->operand == HRC_BF16)
        run(hrc_as_bf16());
    else
        run(hrc_as_f32());
}

/* Of floats, with the storage type. */
template <class F>
void with_type(hr_dtype type, F run)
{
    switch (type.id) {
    case HR_F32: run(hrc_f32()); break;
    case HR_BF16: run(hrc_bf16()); break;
    case HR_F16: run(hrc_f16()); break;
    case HR_E4M3: run(hrc_e4m3()); break;
    default: run(hrc_e5m2()); break;
    }
}

/* bf16 and f32 weights are operands themselves, so are f16 ones; the others are exact in f16. */
hrc_operand operand_of(hr_dtype type)
{
    return type.id == HR_BF16 ? HRC_BF16 : type.id == HR_F32 ? HRC_F32 : HRC_F16;
}

bool is_operand(const hrc_segment *s)
{
    return s->o.dtype.id == HR_BF16 || s->o.dtype.id == HR_F16 || s->o.dtype.id == HR_F32;
}

/* ---- memory ---- */

/* Lays out the arena of a head, or, with none, only measures it. */
size_t lay_out(hrc_head *h)
{
    size_t at = 0;
    const auto take = [&](size_t bytes) {
        unsigned char *p = h->arena ? h->arena + at : nullptr;
        at += ((bytes > 0 ? bytes : 1) + 255) / 256 * 256;
        return p;
    };
    const hr_head_options *o = &h->o;
    const size_t p = (size_t)padded(o->max_batch, 16), q = (size_t)h->q, c = (size_t)h->chunk, size = h->operand == HRC_F32 ? 4 : 2;
    const bool moments = o->bias == HR_BIAS_PER_LABEL && o->segment[0].optimizer == HR_HEAD_ADAM;
    bool widened = false;
    int64_t first = 0;
    for (int i = 0; i < o->num_segments; i++) {
        hrc_segment *s = &h->segment[i];
        const size_t bytes = (size_t)o->dim * o->segment[i].dtype.bytes, state = (size_t)o->dim * o->segment[i].state_dtype.bytes;
        const bool adam = o->segment[i].optimizer == HR_HEAD_ADAM, i8r = o->segment[i].dtype.id == HR_I8R;
        *s = hrc_segment{o->segment[i], first, {}};
        const struct {
            hr_device_array array;
            bool wanted;
            size_t bytes, pitch;
            int64_t rows;
        } all[] = {
            {HR_DEVICE_CODES, true, bytes, (size_t)padded((int64_t)bytes, 64), s->o.rows},
            {HR_DEVICE_SCALES, i8r, sizeof(float), sizeof(float), s->o.rows},
            {HR_DEVICE_COMPENSATION, s->o.kahan, (size_t)o->dim * 2, (size_t)o->dim * 2, s->o.rows},
            {HR_DEVICE_FIRST, adam || s->o.momentum > 0, state, state, s->o.rows},
            {HR_DEVICE_SECOND, adam, state, state, s->o.rows},
            {HR_DEVICE_BIAS, i == 0 && o->bias == HR_BIAS_PER_LABEL, sizeof(float), sizeof(float), o->labels},
            {HR_DEVICE_BIAS_FIRST, i == 0 && moments, sizeof(float), sizeof(float), o->labels},
            {HR_DEVICE_BIAS_SECOND, i == 0 && moments, sizeof(float), sizeof(float), o->labels},
        };
        for (const auto &a : all)
            if (a.wanted)
                s->array[a.array] = hrc_data{take((size_t)a.rows * a.pitch), a.bytes, a.pitch, a.rows};
        widened = widened || !is_operand(s);
        first += s->o.rows;
    }
    h->x = (float *)take((size_t)(o->max_batch * o->dim) * sizeof(float));
    h->xo = take(p * q * size);
    h->z = (float *)take(c * p * sizeof(float));
    h->go = take(c * p * size);
    h->wo = take(widened ? c * q * size : 0);
    h->dw = (float *)take(c * q * sizeof(float));
    h->dx = (float *)take(p * q * sizeof(float));
    h->loss = (double *)take(c * sizeof(double));
    h->most = (float *)take((c + HRC_STRIPE - 1) / HRC_STRIPE * p * sizeof(float));
    h->limit = (float *)take(p * sizeof(float));
    h->count = (int32_t *)take(p * sizeof(int32_t));
    h->candidate = (hrc_candidate *)take(p * HRC_ROOM * sizeof(hrc_candidate));
    h->batch = (hrc_batch_step *)take(sizeof(hrc_batch_step));
    h->steps = (hrc_step *)take((size_t)o->num_segments * sizeof(hrc_step));
    h->scales = (float *)take((size_t)(o->num_segments + 1) * sizeof(float));
    return at;
}

void set_up(hrc_head *h, const hr_head_options *o, int64_t chunk)
{
    memset((void *)h, 0, sizeof *h);
    h->o = *o;
    h->operand = operand_of(o->segment[0].dtype);
    h->chunk = chunk;
    h->q = padded(o->dim, HRC_COLUMNS);
}

bool want_positives(hrc_head *h, int64_t count)
{
    if (count <= h->capacity)
        return true;
    count += h->capacity > 0 ? count / 2 : 0; /* so that it does not move again and again */
    hrc_free(h->rt, h->positives);
    h->positives = (uint64_t *)hrc_alloc(h->rt, (size_t)count * (sizeof(uint64_t) + sizeof(double)));
    h->positive_loss = (double *)(h->positives + count);
    h->capacity = h->positives ? count : 0;
    h->key = hrc_new_key(h->rt);
    return h->positives != nullptr;
}

/* ---- the step ---- */

int blocks_for(int64_t elements)
{
    return (int)((elements + HRC_THREADS * HRC_COLUMNS - 1) / (HRC_THREADS * HRC_COLUMNS));
}

int blocks_of_threads(int64_t threads)
{
    return (int)((threads + HRC_THREADS - 1) / HRC_THREADS);
}

/* Rows [row, row + rows) of a segment, for kernels. */
hrc_rows rows_of(const hrc_head *h, const hrc_segment *s, int64_t row, int64_t rows)
{
    const auto at = [&](hr_device_array a) { return s->array[a].device ? s->array[a].device + (size_t)row * s->array[a].pitch : nullptr; };
    return hrc_rows{at(HR_DEVICE_CODES), (int64_t)s->array[HR_DEVICE_CODES].pitch, s->first_row + row, (int32_t)rows, (int32_t)h->o.dim,
                    (float *)at(HR_DEVICE_SCALES), (uint16_t *)at(HR_DEVICE_COMPENSATION), at(HR_DEVICE_FIRST), at(HR_DEVICE_SECOND), s->o.state_dtype};
}

/* The codes of rows as operands: themselves, or widened. */
hrc_matrix operands(hrc_head *h, const hrc_segment *s, const hrc_rows &w)
{
    if (is_operand(s))
        return hrc_matrix{w.codes, w.pitch / (int64_t)s->o.dtype.bytes};
    with_operand(h, [&](auto op) {
        typedef decltype(op) O;
        typename O::element *wo = (typename O::element *)h->wo;
        if (s->o.dtype.id == HR_I8R)
            HRC_LAUNCH(h->rt, hrc_widen_i8r<O>, blocks_for(w.rows * h->q), w, (int32_t)h->q, wo);
        else if (s->o.dtype.id == HR_E4M3)
            HRC_LAUNCH(h->rt, (hrc_widen<hrc_e4m3, O>), blocks_for(w.rows * h->q), w, (int32_t)h->q, wo);
        else
            HRC_LAUNCH(h->rt, (hrc_widen<hrc_e5m2, O>), blocks_for(w.rows * h->q), w, (int32_t)h->q, wo);
    });
    return hrc_matrix{h->wo, h->q};
}

void update_rows(hrc_head *h, const hrc_segment *s, const hrc_rows &w, const hrc_step *step)
{
    const bool is_direction = w.first != nullptr;
    const int32_t q = (int32_t)h->q;
    const float *dw = h->dw;
    if (is_direction)
        HRC_LAUNCH(h->rt, hrc_direction, blocks_for(w.rows * h->q), w, q, step, h->dw);
    if (s->o.dtype.id == HR_I8R) {
        HRC_LAUNCH(h->rt, hrc_update_i8r, blocks_of_threads((int64_t)w.rows * 32), w, q, is_direction, dw, step);
        return;
    }
    with_type(s->o.dtype, [&](auto type) {
        typedef decltype(type) T;
        if (w.comp)
            HRC_LAUNCH(h->rt, hrc_update_kahan<T>, blocks_for(w.rows * h->q), w, q, is_direction, dw, step);
        else
            HRC_LAUNCH(h->rt, hrc_update<T>, blocks_for(w.rows * h->q), w, q, is_direction, dw, step);
    });
}

/* Logits of rows [row, row + rows) of a segment, in code units, into z; what they were made of. */
hrc_matrix logits(hrc_head *h, const hrc_segment *s, const hrc_rows &r, int64_t p)
{
    const hrc_matrix w = operands(h, s, r), x = {h->xo, h->q};
    hrc_gemm(h->rt, HRC_NT, h->operand, r.rows, p, h->q, h->scales, w, x, false, h->z, p);
    return w;
}

float *bias_at(const hrc_head *h, hr_device_array array, int64_t label)
{
    const hrc_data *a = &h->segment[0].array[array];
    return a->device ? (float *)a->device + label : nullptr;
}

void pack_x(hrc_head *h, int64_t p)
{
    with_operand(h, [&](auto op) {
        typedef decltype(op) O;
        HRC_LAUNCH(h->rt, hrc_pack_x<O>, blocks_for(p * h->q), (const float *)h->x, (int32_t)h->o.dim, (int32_t)p, (int32_t)h->q,
                   (const hrc_batch_step *)h->batch, (typename O::element *)h->xo);
    });
}

/* run(segment, row, rows) for each chunk. */
template <class F>
void each_chunk(const hrc_head *h, F run)
{
    for (int i = 0; i < h->o.num_segments; i++)
        for (int64_t at = 0; at < h->segment[i].o.rows; at += h->chunk)
            run(i, at, std::min(h->segment[i].o.rows - at, h->chunk));
}

/* Logits, gradient, dX with the old codes, dW, update, of rows [row, row + rows) of a segment; the batch padded to p. */
void run_chunk(hrc_head *h, int segment, int64_t row, int64_t rows, int64_t p, bool want_loss)
{
    const hrc_segment *s = &h->segment[segment];
    const hrc_step *step = &h->steps[segment];
    const hrc_batch_step *batch = h->batch;
    const hrc_rows r = rows_of(h, s, row, rows);
    const hrc_matrix w = logits(h, s, r, p), x = {h->xo, h->q}, g = {h->go, p};
    float *bias = bias_at(h, HR_DEVICE_BIAS, r.label), *moments = bias_at(h, HR_DEVICE_BIAS_FIRST, r.label);
    const int64_t apart = moments ? bias_at(h, HR_DEVICE_BIAS_SECOND, r.label) - moments : 0;
    const float *z = h->z;
    if (want_loss) {
        HRC_LAUNCH(h->rt, hrc_loss, blocks_of_threads(rows), z, (const float *)bias, (int32_t)rows, (int32_t)p, batch, step, h->loss);
        HRC_LAUNCH(h->rt, hrc_loss_of_positives, blocks_of_threads(h->capacity), (const uint64_t *)h->positives, z, (const float *)bias, r.label,
                   (int32_t)rows, (int32_t)p, batch, step, h->positive_loss);
    }
    with_operand(h, [&](auto op) {
        typedef decltype(op) O;
        typename O::element *go = (typename O::element *)h->go;
        HRC_LAUNCH(h->rt, hrc_gradient<O>, blocks_for(rows * p), z, (const float *)bias, (int32_t)rows, (int32_t)p, batch, step, go);
        HRC_LAUNCH(h->rt, hrc_positives<O>, blocks_of_threads(h->capacity), (const uint64_t *)h->positives, z, (const float *)bias, r.label,
                   (int32_t)rows, (int32_t)p, batch, step, go);
        if (bias)
            HRC_LAUNCH(h->rt, hrc_update_bias<O>, blocks_of_threads(rows), (const typename O::element *)go, (int32_t)rows, (int32_t)p, batch, step,
                       bias, moments, apart);
    });
    hrc_gemm(h->rt, HRC_TN, h->operand, p, h->q, rows, h->scales + 1 + segment, g, w, true, h->dx, h->q);
    hrc_gemm(h->rt, HRC_NN, h->operand, rows, h->q, p, h->scales, g, x, false, h->dw, h->q);
    update_rows(h, s, r, step);
}

void run_step(hrc_head *h, int64_t p, bool want_loss)
{
    pack_x(h, p);
    hrc_zero(h->rt, h->dx, (size_t)(p * h->q) * sizeof(float));
    each_chunk(h, [&](int segment, int64_t at, int64_t rows) { run_chunk(h, segment, at, rows, p, want_loss); });
}

hr_status upload_step(hrc_head *h, const hr_head_batch *batch, const hr_device_rates *rates, float factor, uint64_t step)
{
    hrc_step steps[HR_SEGMENTS_MAX];
    float scales[HR_SEGMENTS_MAX + 1] = {1.0f};
    const bool hinge = h->o.loss == HR_LOSS_SQUARED_HINGE;
    const float g_scale = hinge ? HRC_G_SCALE_HINGE : HRC_G_SCALE_BCE;
    const hrc_batch_step b = {(int32_t)batch->rows, (int32_t)batch->num_positives, hinge, g_scale};
    if (!want_positives(h, batch->num_positives))
        return HR_ERR_NOMEM;
    for (int i = 0; i < h->o.num_segments; i++) {
        const unsigned tensor = h->o.first_tensor + 2 * (unsigned)i;
        hrc_step *s = &steps[i];
        s->zscale = rates[i].zscale;
        s->bias = h->o.bias == HR_BIAS_NONE ? 0.0f : h->o.bias_value;
        s->dw_scale = factor / g_scale;
        s->step = rates[i].step;
        s->keep = rates[i].keep;
        s->bias_step = rates[i].lr;
        s->rounding = (int32_t)h->o.segment[i].rounding;
        s->momentum = h->o.segment[i].momentum;
        s->adam = rates[i].adam;
        s->draws = hr_rng_make(h->o.seed, step, tensor, HR_STREAM_ROUND);
        s->rescale_draws = hr_rng_make(h->o.seed, step, tensor, HR_STREAM_RESCALE);
        s->first_draws = hr_rng_make(h->o.seed, step, tensor + 1, HR_STREAM_STATE);
        s->second_draws = hr_rng_make(h->o.seed, step, tensor + 64, HR_STREAM_STATE);
        scales[i + 1] = rates[i].zscale * factor / g_scale;
    }
    hrc_upload(h->rt, h->batch, &b, sizeof b);
    hrc_upload(h->rt, h->steps, steps, (size_t)h->o.num_segments * sizeof *steps);
    hrc_upload(h->rt, h->scales, scales, (size_t)(h->o.num_segments + 1) * sizeof *scales);
    hrc_upload(h->rt, h->x, batch->x, (size_t)(batch->rows * h->o.dim) * sizeof(float));
    hrc_upload(h->rt, h->positives, batch->positives, (size_t)batch->num_positives * sizeof(uint64_t));
    return HR_OK;
}

/* Labels and instances in order, so that the sum is always the same. */
hr_status sum_loss(hrc_head *h, double *loss)
{
    std::vector<double> labels((size_t)h->chunk), positives((size_t)h->capacity);
    hrc_download_rows(h->rt, labels.data(), labels.size() * sizeof(double), h->loss, labels.size() * sizeof(double), labels.size() * sizeof(double), 1);
    hrc_download_rows(h->rt, positives.data(), positives.size() * sizeof(double), h->positive_loss, positives.size() * sizeof(double),
                      positives.size() * sizeof(double), 1);
    HR_TRY(hrc_wait(h->rt));
    *loss = 0;
    for (double v : labels)
        *loss += v;
    for (double v : positives)
        *loss += v;
    return HR_OK;
}

void init_rows(hrc_head *h)
{
    each_chunk(h, [&](int segment, int64_t at, int64_t rows) {
        const hrc_segment *s = &h->segment[segment];
        const hrc_rows w = rows_of(h, s, at, rows);
        const float unit = ldexpf(s->o.init, s->o.scale_log2);
        const hr_rng draws = hr_rng_make(h->o.seed, 0, h->o.first_tensor + 2 * (unsigned)segment, HR_STREAM_INIT);
        if (s->o.dtype.id == HR_I8R)
            HRC_LAUNCH(h->rt, hrc_init_i8r, blocks_for(rows * h->q), w, (int32_t)h->q, unit, hr_i8r_first_scale(unit), draws);
        else if (unit > 0)
            with_type(s->o.dtype, [&](auto type) {
                HRC_LAUNCH(h->rt, hrc_init<decltype(type)>, blocks_for(rows * h->q), w, (int32_t)h->q, unit, draws);
            });
    });
    if (h->segment[0].array[HR_DEVICE_BIAS].device) {
        const std::vector<float> bias((size_t)h->o.labels, h->o.bias_value);
        hrc_upload(h->rt, h->segment[0].array[HR_DEVICE_BIAS].device, bias.data(), bias.size() * sizeof(float));
    }
}

/* ---- the best labels ---- */

/* The best k of each instance so far: best first, equal ones by their external id. */
struct best_lists {
    struct entry {
        float score;
        uint32_t id;
        bool operator<(const entry &other) const { return score > other.score || (score == other.score && id < other.id); }
    };
    int64_t k;
    const uint32_t *external;
    std::vector<std::vector<entry>> list;

    best_lists(int64_t rows, int64_t most, const uint32_t *ids) : k(most), external(ids), list((size_t)rows) {}

    void add(int64_t row, const hrc_candidate *c, int64_t count, int64_t axis)
    {
        std::vector<entry> &own = list[(size_t)row];
        for (int64_t i = 0; i < count; i++)
            own.push_back(entry{c[i].score, external[axis + c[i].label]});
        std::sort(own.begin(), own.end());
        if ((int64_t)own.size() > k)
            own.resize((size_t)k);
    }
    /* What a score must reach. */
    float limit(int64_t row) const
    {
        const std::vector<entry> &own = list[(size_t)row];
        return (int64_t)own.size() < k ? -INFINITY : own.back().score;
    }
    hr_status give(hrc_head *h, uint32_t *ids, float *scores) const
    {
        for (size_t b = 0; b < list.size(); b++) {
            if ((int64_t)list[b].size() < k)
                return hr_fail(hrc_ctx(h->rt), HR_ERR_NUMERIC, "head: the scores of row %lld of the batch are not numbers; the model has diverged",
                               (long long)b);
            for (size_t i = 0; i < (size_t)k; i++) {
                ids[b * (size_t)k + i] = list[b][i].id;
                scores[b * (size_t)k + i] = list[b][i].score;
            }
        }
        return HR_OK;
    }
};

/* Candidates among labels [first, end) of the chunk that stands in z; where some instance has more than there is room for, of each half. */
hr_status collect(hrc_head *h, const hrc_segment *s, int64_t axis, int64_t first, int64_t end, const hrc_step *step, int64_t p, best_lists *best)
{
    const int64_t rows = (int64_t)best->list.size();
    const float *z = h->z, *bias = bias_at(h, HR_DEVICE_BIAS, axis), *limit = h->limit;
    std::vector<int32_t> count((size_t)p);
    std::vector<hrc_candidate> found((size_t)(rows * HRC_ROOM));
    hrc_zero(h->rt, h->count, (size_t)p * sizeof(int32_t));
    HRC_LAUNCH(h->rt, hrc_collect, blocks_of_threads((end - first) * p), z, bias, (int32_t)first, (int32_t)end, (int32_t)p, step, limit,
               (int32_t)HRC_ROOM, h->count, h->candidate);
    hrc_download_rows(h->rt, count.data(), count.size() * sizeof(int32_t), h->count, count.size() * sizeof(int32_t), count.size() * sizeof(int32_t), 1);
    HR_TRY(hrc_wait(h->rt));
    const int32_t most = *std::max_element(count.begin(), count.end());
    if (most > HRC_ROOM) {
        const int64_t middle = first + (end - first) / 2;
        HR_TRY(collect(h, s, axis, first, middle, step, p, best));
        return collect(h, s, axis, middle, end, step, p, best);
    }
    const size_t row = HRC_ROOM * sizeof(hrc_candidate);
    hrc_download_rows(h->rt, found.data(), row, h->candidate, row, (size_t)most * sizeof(hrc_candidate), rows);
    HR_TRY(hrc_wait(h->rt));
    for (int64_t b = 0; b < rows; b++)
        best->add(b, &found[(size_t)(b * HRC_ROOM)], count[(size_t)b], axis);
    return HR_OK;
}

/* Rows [row, row + rows) of a segment: a limit from the largest scores of stripes and the lists so far, then those that reach it. */
hr_status search_chunk(hrc_head *h, int segment, int64_t row, int64_t rows, int64_t p, best_lists *best)
{
    const hrc_segment *s = &h->segment[segment];
    const hrc_rows r = rows_of(h, s, row, rows);
    const hrc_step *step = &h->steps[segment];
    const int64_t stripes = (rows + HRC_STRIPE - 1) / HRC_STRIPE;
    const float *bias = bias_at(h, HR_DEVICE_BIAS, r.label), *z = h->z, *most = h->most;
    std::vector<float> limit((size_t)p, INFINITY); /* nothing is looked for beyond the batch */
    std::vector<int32_t> nan((size_t)p);
    for (size_t b = 0; b < best->list.size(); b++)
        limit[b] = best->limit((int64_t)b);
    (void)logits(h, s, r, p);
    hrc_upload(h->rt, h->limit, limit.data(), limit.size() * sizeof(float));
    hrc_zero(h->rt, h->count, (size_t)p * sizeof(int32_t));
    HRC_LAUNCH(h->rt, hrc_stripes, blocks_of_threads(stripes * p), z, bias, (int32_t)rows, (int32_t)p, step, h->most, h->count);
    HRC_LAUNCH(h->rt, hrc_limits, blocks_of_threads(stripes * p), most, (int32_t)stripes, (int32_t)p, (int32_t)best->k, h->limit);
    hrc_download_rows(h->rt, nan.data(), nan.size() * sizeof(int32_t), h->count, nan.size() * sizeof(int32_t), nan.size() * sizeof(int32_t), 1);
    HR_TRY(hrc_wait(h->rt));
    for (size_t b = 0; b < best->list.size(); b++)
        if (nan[b] > 0)
            return hr_fail(hrc_ctx(h->rt), HR_ERR_NUMERIC, "head: the scores of row %lld of the batch are not numbers; the model has diverged",
                           (long long)b);
    return collect(h, s, r.label, 0, rows, step, p, best);
}

} // namespace

extern "C" {

const char *hrc_head_not_possible(const hr_head_options *o)
{
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        if (s->family != HR_FAMILY_DENSE)
            return "a device has dense heads only; set head.family=dense";
        if (s->first_column > 0 || (s->columns > 0 && s->columns < o->dim))
            return "a device has no slices of X; leave head.slice and head.dense_slice out";
        if (s->dtype.id == HR_EXMY)
            return "a device has no emulated storage types; set head.dtype to f32, bf16, f16, e4m3, e5m2 or i8r";
        if (operand_of(s->dtype) != operand_of(o->segment[0].dtype))
            return "a device multiplies operands of one type: f32 and bf16 rows do not go with others in one head; set head.dense_dtype";
    }
    if (o->loss == HR_LOSS_GIVEN || o->sparse_x)
        return "a device has neither hidden layers nor sparse X; set layer.width=0 and encoder.type";
    if (o->arith != HR_ARITH_F32 || o->gradient == HR_GRADIENT_SPARSE)
        return "a device computes the exact gradient; set head.gradient=dense and head.arith=f32";
    return nullptr;
}

size_t hrc_head_memory(const hr_head_options *options, int64_t chunk, int64_t positives)
{
    hrc_head h;
    set_up(&h, options, chunk);
    return lay_out(&h) + (size_t)positives * (sizeof(uint64_t) + sizeof(double));
}

hr_status hrc_head_create(hrc_runtime *rt, const hr_head_options *options, int64_t chunk, int64_t positives, hrc_head **out)
{
    const char *why = hrc_head_not_possible(options);
    if (why)
        return hr_fail(hrc_ctx(rt), HR_ERR_CONFIG, "head: %s", why);
    hrc_head *h = (hrc_head *)hr_alloc(hrc_ctx(rt), HR_MEM_OTHER, sizeof *h);
    if (!h)
        return HR_ERR_NOMEM;
    set_up(h, options, chunk);
    h->rt = rt;
    h->arena = (unsigned char *)hrc_alloc(rt, lay_out(h));
    if (!h->arena || !want_positives(h, positives > 0 ? positives : 1)) {
        hrc_head_destroy(h);
        return HR_ERR_NOMEM; /* with the message of what failed */
    }
    (void)lay_out(h);
    init_rows(h);
    if (hrc_wait(rt) != HR_OK) {
        hrc_head_destroy(h);
        return HR_ERR_DEVICE;
    }
    *out = h;
    return HR_OK;
}

void hrc_head_destroy(hrc_head *h)
{
    if (!h)
        return;
    hrc_free(h->rt, h->arena);
    hrc_free(h->rt, h->positives);
    hr_free(hrc_ctx(h->rt), h);
}

size_t hrc_head_row_bytes(const hrc_head *head, int segment, hr_device_array array)
{
    return head->segment[segment].array[array].bytes;
}

hr_status hrc_head_write(hrc_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, const void *data)
{
    const hrc_data *a = &head->segment[segment].array[array];
    hrc_upload_rows(head->rt, a->device + (size_t)row * a->pitch, a->pitch, data, pitch, a->bytes, rows);
    return hrc_wait(head->rt);
}

hr_status hrc_head_read(hrc_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, void *data)
{
    const hrc_data *a = &head->segment[segment].array[array];
    hrc_download_rows(head->rt, data, pitch, a->device + (size_t)row * a->pitch, a->pitch, a->bytes, rows);
    return hrc_wait(head->rt);
}

hr_status hrc_head_step(hrc_head *h, const hr_head_batch *batch, const hr_device_rates *rates, float factor, uint64_t step, float *dx, double *loss)
{
    const int64_t p = padded(batch->rows > 0 ? batch->rows : 1, 16); /* of an empty one, decay and moments are what is left */
    const size_t row = (size_t)h->o.dim * sizeof(float);
    HR_TRY(upload_step(h, batch, rates, factor, step));
    if (loss) {
        hrc_zero(h->rt, h->loss, (size_t)h->chunk * sizeof(double));
        hrc_zero(h->rt, h->positive_loss, (size_t)h->capacity * sizeof(double));
        run_step(h, p, true);
    } else if (!hrc_replay(h->rt, h->key + (uint64_t)p)) {
        run_step(h, p, false);
        hrc_recorded(h->rt);
    }
    if (dx)
        hrc_download_rows(h->rt, dx, row, h->dx, (size_t)h->q * sizeof(float), row, batch->rows);
    return loss ? sum_loss(h, loss) : hrc_wait(h->rt);
}

hr_status hrc_head_halve(hrc_head *h, int segment, uint64_t step)
{
    const hrc_segment *s = &h->segment[segment];
    const hr_rng draws = hr_rng_make(h->o.seed, step, h->o.first_tensor + 2 * (unsigned)segment, HR_STREAM_ROUND);
    each_chunk(h, [&](int i, int64_t at, int64_t rows) {
        const hrc_rows w = rows_of(h, s, at, rows);
        if (i != segment)
            return;
        if (s->o.dtype.id == HR_I8R) {
            HRC_LAUNCH(h->rt, hrc_halve_i8r, blocks_of_threads(rows), w);
            return;
        }
        with_type(s->o.dtype, [&](auto type) {
            HRC_LAUNCH(h->rt, hrc_halve<decltype(type)>, blocks_for(rows * h->q), w, (int32_t)h->q, (int32_t)s->o.rounding, draws);
        });
    });
    return hrc_wait(h->rt);
}

hr_status hrc_head_top(hrc_head *h, int64_t rows, const float *x, int64_t k, const float *zscale, const uint32_t *external, uint32_t *ids,
                       float *scores)
{
    const int64_t p = padded(rows, 16);
    best_lists best(rows, k, external);
    hrc_step steps[HR_SEGMENTS_MAX] = {};
    const float one = 1.0f;
    const hrc_batch_step batch = {(int32_t)rows, 0, 0, 1.0f};
    for (int i = 0; i < h->o.num_segments; i++) {
        steps[i].zscale = zscale[i];
        steps[i].bias = h->o.bias == HR_BIAS_NONE ? 0.0f : h->o.bias_value;
    }
    hrc_upload(h->rt, h->batch, &batch, sizeof batch);
    hrc_upload(h->rt, h->steps, steps, (size_t)h->o.num_segments * sizeof *steps);
    hrc_upload(h->rt, h->scales, &one, sizeof one);
    hrc_upload(h->rt, h->x, x, (size_t)(rows * h->o.dim) * sizeof(float));
    pack_x(h, p);
    hr_status st = HR_OK;
    each_chunk(h, [&](int segment, int64_t at, int64_t count) {
        if (st == HR_OK)
            st = search_chunk(h, segment, at, count, p, &best);
    });
    return st == HR_OK ? best.give(h, ids, scores) : st;
}

} // extern "C"

#endif
