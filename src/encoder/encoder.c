/* The life of an encoder, the output scaling and dropout, and the update of the residual block. */
#include "encoder/internal.h"

#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* dropout sites of stream 4 */
enum { SITE_POOLED = 255, INIT_EMBEDDING = 128, INIT_W1 = 129 };

/* Features of all micro-steps of an update. */
static int64_t max_entries(const hr_encoder_options *o)
{
    return o->accumulate * o->max_batch * o->max_row;
}

hr_status hr_encoder_check(hr_ctx *ctx, const hr_encoder_options *o)
{
    if (o->type == HR_ENCODER_DENSE && o->features != o->dim)
        return hr_fail(ctx, HR_ERR_CONFIG, "encoder.dim is %lld, but the given vectors have width %lld; set encoder.dim=%lld",
                       (long long)o->dim, (long long)o->features, (long long)o->features);
    if (o->features < 1 || o->features > (INT64_C(1) << 32) - 1)
        return hr_fail(ctx, HR_ERR_CONFIG, "encoder: %lld features, expected 1 to 2^32 - 1", (long long)o->features);
    if (o->training && o->type == HR_ENCODER_BOW && max_entries(o) > UINT32_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "encoder: %lld features in one update, expected below 2^32; lower train.batch or "
                       "train.accumulate", (long long)max_entries(o));
    return HR_OK;
}

static int64_t param_sizes(const hr_encoder_options *o, hr_param out[HR_RESIDUAL_PARAMS])
{
    const int64_t d = o->dim;
    out[HR_PARAM_W1] = (hr_param){.name = "encoder.w1", .rows = d, .cols = d, .decays = true};
    out[HR_PARAM_B1] = (hr_param){.name = "encoder.b1", .rows = 1, .cols = d};
    out[HR_PARAM_W2] = (hr_param){.name = "encoder.w2", .rows = d, .cols = d, .decays = true};
    out[HR_PARAM_B2] = (hr_param){.name = "encoder.b2", .rows = 1, .cols = d};
    return 2 * (d * d + d);
}

/* Of one worker in the residual block's forward pass. */
static size_t panel_bytes(const hr_encoder_options *o)
{
    return hr_mul(2 * HRK_BP * sizeof(float), (size_t)o->dim);
}

void hr_encoder_memory(const hr_encoder_options *o, int threads, size_t bytes[HR_MEM_KINDS])
{
    bytes[HR_MEM_ENCODER_SCRATCH] = hr_add(bytes[HR_MEM_ENCODER_SCRATCH], hr_add(sizeof(hr_encoder), hr_identity_memory(o)));
    if (o->type != HR_ENCODER_BOW)
        return;
    hr_param p[HR_RESIDUAL_PARAMS];
    const size_t bd = (size_t)(o->max_batch * o->dim) * sizeof(float);
    const size_t residual = o->residual ? (size_t)param_sizes(o, p) * sizeof(float) : 0;
    const size_t table = hr_mul((size_t)o->features, (size_t)o->dim * sizeof(float));
    size_t scratch = (o->residual ? 3 : 1) * bd + (size_t)o->max_batch * sizeof(float) +
                     (o->residual ? (size_t)threads * panel_bytes(o) : 0);
    const size_t moments = o->optimizer == HR_ENCODER_ADAM ? hr_mul(table, 2) : hr_mul((size_t)o->features, sizeof(float));
    if (o->training) {
        bytes[HR_MEM_ENCODER_WEIGHTS] = hr_add(bytes[HR_MEM_ENCODER_WEIGHTS], hr_add(table, residual));
        bytes[HR_MEM_ENCODER_STATE] = hr_add(bytes[HR_MEM_ENCODER_STATE], hr_add(moments, 3 * residual));
        scratch += (size_t)o->accumulate * bd + (o->residual ? bd : 0) + (size_t)threads * (size_t)o->dim * sizeof(float);
        scratch = hr_add(scratch, (size_t)max_entries(o) * (2 * sizeof(uint64_t) + 2 * sizeof(uint32_t)) +
                                      (size_t)(max_entries(o) + 1) * sizeof(int64_t));
    }
    bytes[HR_MEM_ENCODER_SCRATCH] = hr_add(bytes[HR_MEM_ENCODER_SCRATCH], scratch);
}

static bool make_param(hr_ctx *ctx, hr_param *p, bool grad)
{
    const int64_t n = p->rows * p->cols;
    p->w = HR_ARRAY0(ctx, HR_MEM_ENCODER_WEIGHTS, float, n);
    p->m = HR_ARRAY0(ctx, HR_MEM_ENCODER_STATE, float, n);
    p->v = HR_ARRAY0(ctx, HR_MEM_ENCODER_STATE, float, n);
    if (grad)
        p->grad = HR_ARRAY0(ctx, HR_MEM_ENCODER_STATE, float, n);
    return p->w && p->m && p->v && (p->grad || !grad);
}

static bool make_embedding(hr_ctx *ctx, const hr_encoder_options *o, hr_param *p)
{
    if (o->optimizer == HR_ENCODER_ADAM)
        return make_param(ctx, p, false);
    p->w = HR_ARRAY0(ctx, HR_MEM_ENCODER_WEIGHTS, float, p->rows *p->cols);
    p->v = HR_ARRAY0(ctx, HR_MEM_ENCODER_STATE, float, p->rows);
    return p->w && p->v;
}

/* Sum of two uniform draws, zero mean, unit variance: nearly normal and exact on every machine. */
static void init_rows(hr_param *p, uint64_t seed, unsigned tensor, float scale)
{
    hr_rng rng = hr_rng_make(seed, 0, tensor, HR_STREAM_INIT);
    for (int64_t r = 0; r < p->rows; r++) {
        for (int64_t i = 0; i < p->cols; i += 4) {
            uint32_t w[4];
            hr_rng_block(rng, (uint32_t)r, (uint32_t)(i / 4), w);
            for (int64_t j = 0; j < 4 && i + j < p->cols; j++) {
                const float u = (float)(w[j] & 0xffff) + (float)(w[j] >> 16) - 65535.0f; /* variance 2 * 65536^2 / 12 */
                p->w[r * p->cols + i + j] = scale * (u * (0x1p-16f * 2.44948974f));
            }
        }
    }
}

static hr_status create_training(hr_encoder *e)
{
    hr_ctx *ctx = e->be.ctx;
    const hr_encoder_options *o = &e->o;
    const hr_mem_kind kind = HR_MEM_ENCODER_SCRATCH;
    e->owns = true;
    if (!make_embedding(ctx, o, &e->embedding))
        return HR_ERR_NOMEM;
    for (int i = 0; o->residual && i < HR_RESIDUAL_PARAMS; i++)
        if (!make_param(ctx, &e->residual[i], true))
            return HR_ERR_NOMEM;
    const int64_t n = max_entries(o);
    e->dh0 = HR_ARRAY(ctx, kind, float, o->accumulate *o->max_batch *o->dim);
    e->keys = HR_ARRAY(ctx, kind, uint64_t, n);
    e->keys_tmp = HR_ARRAY(ctx, kind, uint64_t, n);
    e->entry_row = HR_ARRAY(ctx, kind, uint32_t, n);
    e->entry_value = HR_ARRAY(ctx, kind, float, n);
    e->group = HR_ARRAY(ctx, kind, int64_t, n + 1);
    e->worker_row = HR_ARRAY(ctx, kind, float, hr_ctx_threads(ctx) * o->dim);
    if (!e->dh0 || !e->keys || !e->keys_tmp || !e->entry_row || !e->entry_value || !e->group || !e->worker_row)
        return HR_ERR_NOMEM;
    if (o->residual && !(e->tmp = HR_ARRAY(ctx, kind, float, o->max_batch * o->dim)))
        return HR_ERR_NOMEM;
    const float scale = 1.0f / sqrtf((float)o->dim);
    init_rows(&e->embedding, o->seed, INIT_EMBEDDING, o->init * scale);
    if (o->residual) /* W2 starts at zero: the block starts as the identity */
        init_rows(&e->residual[HR_PARAM_W1], o->seed, INIT_W1, scale);
    return HR_OK;
}

static hr_status create_scratch(hr_encoder *e)
{
    const int64_t n = e->o.max_batch * e->o.dim;
    e->h0 = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, float, n);
    e->inv_norm = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, float, e->o.max_batch);
    if (!e->h0 || !e->inv_norm)
        return HR_ERR_NOMEM;
    e->h = e->h0;
    if (e->o.residual) {
        e->h = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, float, n);
        e->hidden = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, float, n);
        e->panels = hr_calloc(e->be.ctx, HR_MEM_ENCODER_SCRATCH, (size_t)hr_ctx_threads(e->be.ctx), panel_bytes(&e->o));
        if (!e->h || !e->hidden || !e->panels)
            return HR_ERR_NOMEM;
    }
    return e->o.training ? create_training(e) : HR_OK;
}

hr_status hr_encoder_create(hr_ctx *ctx, const hr_encoder_options *options, hr_encoder **out)
{
    *out = NULL;
    HR_TRY(hr_encoder_check(ctx, options));
    hr_encoder *e = HR_NEW(ctx, HR_MEM_ENCODER_SCRATCH, hr_encoder);
    if (!e)
        return HR_ERR_NOMEM;
    e->be = hr_backend_make(ctx);
    e->o = *options;
    e->embedding = (hr_param){.name = "encoder.embedding", .rows = options->features, .cols = options->dim};
    param_sizes(options, e->residual);
    hr_status st = HR_OK;
    if (options->type == HR_ENCODER_BOW)
        st = create_scratch(e);
    else if (options->type == HR_ENCODER_IDENTITY)
        st = hr_identity_create(e);
    if (st != HR_OK) {
        hr_encoder_destroy(e);
        return st;
    }
    *out = e;
    return HR_OK;
}

static void free_param(hr_ctx *ctx, hr_param *p)
{
    hr_free(ctx, p->w);
    hr_free(ctx, p->grad);
    hr_free(ctx, p->m);
    hr_free(ctx, p->v);
}

void hr_encoder_destroy(hr_encoder *e)
{
    if (!e)
        return;
    hr_ctx *ctx = e->be.ctx;
    if (e->owns) {
        free_param(ctx, &e->embedding);
        for (int i = 0; i < HR_RESIDUAL_PARAMS; i++)
            free_param(ctx, &e->residual[i]);
    }
    if (e->h != e->h0)
        hr_free(ctx, e->h);
    hr_free(ctx, e->h0);
    hr_free(ctx, e->hidden);
    hr_free(ctx, e->panels);
    hr_free(ctx, e->tmp);
    hr_free(ctx, e->inv_norm);
    hr_free(ctx, e->dh0);
    hr_free(ctx, e->keys);
    hr_free(ctx, e->keys_tmp);
    hr_free(ctx, e->entry_row);
    hr_free(ctx, e->entry_value);
    hr_free(ctx, e->group);
    hr_free(ctx, e->worker_row);
    hr_free(ctx, e->indptr);
    hr_free(ctx, e->values);
    hr_free(ctx, e);
}

/* ---- output: length and dropout ---- */

/* Factor of column d of an instance: 0 or 1/(1-p); drawn by stream 4, site 255. */
static void dropout_row(const hr_encoder *e, uint32_t id, uint64_t step, float *row)
{
    const float p = e->o.dropout, keep = 1.0f / (1.0f - p);
    const uint32_t limit = (uint32_t)lrintf(p * 65536.0f);
    hr_rng rng = hr_rng_make(e->o.seed, step, SITE_POOLED, HR_STREAM_DROPOUT);
    for (int64_t d = 0; d < e->o.dim; d += 8) {
        uint32_t w[4];
        hr_rng_block(rng, id, (uint32_t)(d / 8), w);
        for (int64_t j = 0; j < 8 && d + j < e->o.dim; j++)
            row[d + j] *= (w[j / 2] >> (j % 2 * 16) & 0xffff) < limit ? 0.0f : keep;
    }
}

typedef struct rows_work {
    hr_encoder *e;
    const hr_encoder_batch *batch;
    bool train;
    uint64_t step;
    float *x;
} rows_work;

/* x = norm * h / |h|, then dropout. An empty row stays zero. */
static void output_row(void *arg, int64_t b, int worker)
{
    (void)worker;
    const rows_work *w = arg;
    hr_encoder *e = w->e;
    const int64_t dim = e->o.dim;
    const float *h = e->o.type == HR_ENCODER_DENSE ? w->batch->dense + b * dim : e->h + b * dim;
    float *x = w->x + b * dim, scale = 1.0f;
    if (e->o.norm > 0) {
        double sum = 0;
        for (int64_t d = 0; d < dim; d++)
            sum += (double)h[d] * h[d];
        scale = sum > 0 ? (float)((double)e->o.norm / sqrt(sum)) : 0.0f;
        if (e->inv_norm)
            e->inv_norm[b] = scale; /* given vectors have no backward */
    }
    for (int64_t d = 0; d < dim; d++)
        x[d] = scale * h[d];
    if (w->train && e->o.dropout > 0)
        dropout_row(e, w->batch->ids[b], w->step, x);
}

hr_status hr_encoder_forward(hr_encoder *e, const hr_encoder_batch *batch, bool train, uint64_t step, float *x)
{
    if (e->o.type == HR_ENCODER_IDENTITY)
        return hr_identity_forward(e, batch, train, step);
    if (e->o.type == HR_ENCODER_BOW) {
        hr_bow_forward(e, batch, train, step);
        if (e->o.residual)
            hr_residual_forward(e, batch->rows);
    }
    rows_work work = {.e = e, .batch = batch, .train = train, .step = step, .x = x};
    hr_parallel_for(e->be.ctx, batch->rows, output_row, &work);
    return HR_OK;
}

/* dx to the gradient of h: dropout, then the projection that keeps the length. */
static void output_row_backward(void *arg, int64_t b, int worker)
{
    (void)worker;
    const rows_work *w = arg;
    hr_encoder *e = w->e;
    const int64_t dim = e->o.dim;
    float *dx = w->x + b * dim;
    const float *h = e->h + b * dim;
    if (e->o.dropout > 0)
        dropout_row(e, w->batch->ids[b], w->step, dx);
    if (e->o.norm <= 0)
        return;
    /* x = s h with s = norm / |h|: dh = s (dx - x (x . dx) / norm^2) */
    const float s = e->inv_norm[b];
    double dot = 0;
    for (int64_t d = 0; d < dim; d++)
        dot += (double)(s * h[d]) * dx[d];
    const float along = (float)(dot / ((double)e->o.norm * e->o.norm));
    for (int64_t d = 0; d < dim; d++)
        dx[d] = s * (dx[d] - along * (s * h[d]));
}

void hr_encoder_backward(hr_encoder *e, const hr_encoder_batch *batch, uint64_t step, float *dx)
{
    if (e->o.type != HR_ENCODER_BOW)
        return;
    rows_work work = {.e = e, .batch = batch, .train = true, .step = step, .x = dx};
    hr_parallel_for(e->be.ctx, batch->rows, output_row_backward, &work);
    if (e->o.residual)
        hr_residual_backward(e, batch->rows, dx);
    hr_bow_backward(e, batch, step, dx);
}

/* ---- update ---- */

static hrk_adam_args adam_args(const hr_encoder_options *o, float lr, uint64_t t)
{
    const double c1 = 1.0 - pow(o->beta1, (double)t), c2 = 1.0 - pow(o->beta2, (double)t);
    return (hrk_adam_args){.one_minus_beta1 = 1.0f - o->beta1,
                           .one_minus_beta2 = 1.0f - o->beta2,
                           .rate = (float)(lr / c1),
                           .v_scale = (float)(1.0 / sqrt(c2)),
                           .eps = o->eps,
                           .keep = 1.0f};
}

typedef struct adam_work {
    hr_encoder *e;
    hr_param *p;
    hrk_adam_args args;
} adam_work;

static void update_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const adam_work *w = arg;
    const int64_t at = row * w->p->cols;
    w->e->be.k.adam(w->p->cols, w->p->w + at, w->p->m + at, w->p->v + at, w->p->grad + at, w->args);
    memset(w->p->grad + at, 0, (size_t)w->p->cols * sizeof(float));
}

void hr_encoder_update(hr_encoder *e, float lr, uint64_t t)
{
    if (e->o.type != HR_ENCODER_BOW)
        return;
    hrk_adam_args args = adam_args(&e->o, lr, t);
    hr_bow_update(e, lr, args);
    for (int i = 0; e->o.residual && i < HR_RESIDUAL_PARAMS; i++) {
        adam_work work = {.e = e, .p = &e->residual[i], .args = args};
        work.args.keep = work.p->decays ? 1.0f - lr * e->o.weight_decay : 1.0f;
        hr_parallel_for(e->be.ctx, work.p->rows, update_row, &work);
    }
}

/* ---- state ---- */

static void add_tensor(hr_tensor_list *list, const hr_param *p, const char *suffix, float *data, int64_t cols, bool state)
{
    if (!data)
        return;
    hr_tensor *t = &list->item[list->count++];
    *t = (hr_tensor){.type = HR_T_F32, .rows = p->rows, .cols = cols, .data = data, .state = state};
    snprintf(t->name, sizeof t->name, "%s%s", p->name, suffix);
}

static void add_param(hr_tensor_list *list, const hr_param *p)
{
    add_tensor(list, p, "", p->w, p->cols, false);
    add_tensor(list, p, ".m", p->m, p->cols, true);
    add_tensor(list, p, ".v", p->v, p->m ? p->cols : 1, true); /* AdaGrad: one for a row */
}

void hr_encoder_tensors(hr_encoder *e, hr_tensor_list *list)
{
    add_param(list, &e->embedding);
    for (int i = 0; i < HR_RESIDUAL_PARAMS; i++)
        add_param(list, &e->residual[i]);
}

bool hr_encoder_attach(hr_encoder *e, const char *name, const void *data)
{
    float *w = (float *)(uintptr_t)data; /* scoring only reads */
    if (strcmp(name, e->embedding.name) == 0) {
        e->embedding.w = w;
        return true;
    }
    for (int i = 0; e->o.residual && i < HR_RESIDUAL_PARAMS; i++)
        if (strcmp(name, e->residual[i].name) == 0) {
            e->residual[i].w = w;
            return true;
        }
    return false;
}

const hr_encoder_options *hr_encoder_get_options(const hr_encoder *e)
{
    return &e->o;
}
