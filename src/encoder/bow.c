/* The embedding bag: forward over the rows of the batch, update over the features it touched.
 *
 * The gradient of the embedding table is never stored. Entries (feature, row, value) are sorted by feature; each touched
 * row of the table gets its gradient summed in entry order into a scratch row and is updated at once, so memory is
 * that of the batch and the result does not depend on the threads. */
#include "encoder/internal.h"

#include "base/rng.h"
#include "base/sort.h"

#include <math.h>
#include <string.h>

enum { SITE_FEATURES = 254 }; /* of the dropout stream */

float hr_bow_value(const hr_encoder *e, const hr_encoder_batch *batch, int64_t row, int64_t entry, bool train, uint64_t step)
{
    const float p = e->o.feature_dropout, v = batch->values ? batch->values[entry] : 1.0f;
    if (!train || p <= 0)
        return v;
    hr_rng rng = hr_rng_make(e->o.seed, step, SITE_FEATURES, HR_STREAM_DROPOUT);
    const uint16_t draw = hr_rng_draw16(rng, batch->ids[row], (uint32_t)(entry - batch->indptr[row]));
    return draw < (uint32_t)lrintf(p * 65536.0f) ? 0.0f : v / (1.0f - p);
}

typedef struct bow_work {
    hr_encoder *e;
    const hr_encoder_batch *batch;
    bool train;
    uint64_t step;
} bow_work;

static void bag_row(void *arg, int64_t b, int worker)
{
    (void)worker;
    const bow_work *w = arg;
    hr_encoder *e = w->e;
    const int64_t dim = e->o.dim;
    float *h = e->h0 + b * dim;
    memset(h, 0, (size_t)dim * sizeof(float));
    for (int64_t i = w->batch->indptr[b]; i < w->batch->indptr[b + 1]; i++) {
        const float v = hr_bow_value(e, w->batch, b, i, w->train, w->step);
        if (v != 0)
            e->be.k.axpy(dim, v, e->embedding.w + (int64_t)w->batch->indices[i] * dim, h);
    }
}

void hr_bow_forward(hr_encoder *e, const hr_encoder_batch *batch, bool train, uint64_t step)
{
    bow_work work = {.e = e, .batch = batch, .train = train, .step = step};
    hr_parallel_for(e->be.ctx, batch->rows, bag_row, &work);
}

void hr_bow_backward(hr_encoder *e, const hr_encoder_batch *batch, uint64_t step, const float *dh)
{
    memcpy(e->dh0 + e->pending_rows * e->o.dim, dh, (size_t)(batch->rows * e->o.dim) * sizeof(float));
    for (int64_t b = 0; b < batch->rows; b++) {
        for (int64_t i = batch->indptr[b]; i < batch->indptr[b + 1]; i++) {
            const float v = hr_bow_value(e, batch, b, i, true, step);
            if (v == 0)
                continue;
            e->entry_row[e->pending] = (uint32_t)(e->pending_rows + b);
            e->entry_value[e->pending] = v;
            e->keys[e->pending] = (uint64_t)batch->indices[i] << 32 | (uint64_t)e->pending;
            e->pending++;
        }
    }
    e->pending_rows += batch->rows;
}

typedef struct update_work {
    hr_encoder *e;
    float lr;
    hrk_adam_args args;
} update_work;

/* AdaGrad (Duchi et al. 2011) with one accumulator for a row, the mean square of its gradients so far:
 * v <- v + mean(g^2), w <- w - lr g / (sqrt(v) + eps). */
static void adagrad_row(const hr_encoder *e, int64_t feature, const float *grad, float lr)
{
    const hr_dtype f32 = {.id = HR_F32, .bytes = sizeof(float)};
    float square, *v = &e->embedding.v[feature];
    e->be.k.dot(1, e->o.dim, grad, 0, NULL, f32, grad, &square);
    *v += square / (float)e->o.dim;
    if (*v == 0)
        return;
    e->be.k.axpy(e->o.dim, -lr / (sqrtf(*v) + e->o.eps), grad, e->embedding.w + feature * e->o.dim);
}

static void update_feature(void *arg, int64_t task, int worker)
{
    const update_work *w = arg;
    hr_encoder *e = w->e;
    const int64_t dim = e->o.dim;
    float *grad = e->worker_row + worker * dim;
    memset(grad, 0, (size_t)dim * sizeof(float));
    for (int64_t i = e->group[task]; i < e->group[task + 1]; i++) {
        const uint32_t entry = (uint32_t)e->keys[i];
        e->be.k.axpy(dim, e->entry_value[entry], e->dh0 + (int64_t)e->entry_row[entry] * dim, grad);
    }
    const int64_t feature = (int64_t)(e->keys[e->group[task]] >> 32), at = feature * dim;
    if (e->o.optimizer == HR_ENCODER_ADAGRAD) {
        adagrad_row(e, feature, grad, w->lr);
        return;
    }
    e->be.k.adam(dim, e->embedding.w + at, e->embedding.m + at, e->embedding.v + at, grad, w->args);
}

void hr_bow_update(hr_encoder *e, float lr, hrk_adam_args args)
{
    hr_sort_high(e->keys, e->keys_tmp, e->pending, (uint32_t)(e->o.features - 1));
    int64_t groups = 0;
    for (int64_t i = 0; i < e->pending; i++)
        if (i == 0 || e->keys[i] >> 32 != e->keys[i - 1] >> 32)
            e->group[groups++] = i;
    e->group[groups] = e->pending;
    update_work work = {.e = e, .lr = lr, .args = args};
    hr_parallel_for(e->be.ctx, groups, update_feature, &work);
    e->pending = 0;
    e->pending_rows = 0;
}
