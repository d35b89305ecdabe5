/* The identity over sparse features: X has the entries of the batch, scaled to a given length, some of them left out. */
#include "encoder/internal.h"

#include "base/rng.h"

#include <math.h>

enum { SITE_FEATURES = 254 }; /* of the dropout stream */

/* What is booked: a training encoder knows the longest row there is, a scoring one grows. */
static int64_t booked_entries(const hr_encoder_options *o)
{
    return o->training ? o->max_batch * o->max_row : 0;
}

size_t hr_identity_memory(const hr_encoder_options *o)
{
    if (o->type != HR_ENCODER_IDENTITY)
        return 0;
    return hr_add(((size_t)o->max_batch + 1) * sizeof(int64_t), hr_mul((size_t)booked_entries(o), sizeof(float)));
}

hr_status hr_identity_create(hr_encoder *e)
{
    e->room = booked_entries(&e->o);
    e->indptr = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, int64_t, e->o.max_batch + 1);
    e->values = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, float, e->room);
    return e->indptr && e->values ? HR_OK : HR_ERR_NOMEM;
}

hr_sparse_rows hr_encoder_sparse(const hr_encoder *e)
{
    return e->sparse;
}

typedef struct identity_work {
    const hr_encoder *e;
    const hr_encoder_batch *batch;
    bool train;
    uint64_t step;
} identity_work;

/* Entry i of the row is 0 or times 1/(1-p); drawn by stream 4, site 254. */
static void drop(const hr_encoder *e, uint32_t id, uint64_t step, int64_t n, float *x)
{
    const float p = e->o.dropout, keep = 1.0f / (1.0f - p);
    const uint32_t limit = (uint32_t)lrintf(p * 65536.0f);
    const hr_rng rng = hr_rng_make(e->o.seed, step, SITE_FEATURES, HR_STREAM_DROPOUT);
    for (int64_t i = 0; i < n; i += 8) {
        uint32_t w[4];
        hr_rng_block(rng, id, (uint32_t)(i / 8), w);
        for (int64_t j = 0; j < 8 && i + j < n; j++)
            x[i + j] *= (w[j / 2] >> (j % 2 * 16) & 0xffff) < limit ? 0.0f : keep;
    }
}

/* x = norm * v / |v|, then dropout. A row of zeros stays so. */
static void output_row(void *arg, int64_t b, int worker)
{
    (void)worker;
    const identity_work *w = arg;
    const hr_encoder *e = w->e;
    const int64_t n = e->indptr[b + 1] - e->indptr[b];
    const float *v = w->batch->values ? w->batch->values + w->batch->indptr[b] : NULL; /* NULL: all are 1 */
    float *x = e->values + e->indptr[b], scale = 1.0f;
    if (e->o.norm > 0) {
        double sum = v ? 0 : (double)n;
        for (int64_t i = 0; v && i < n; i++)
            sum += (double)v[i] * v[i];
        scale = sum > 0 ? (float)((double)e->o.norm / sqrt(sum)) : 0.0f;
    }
    for (int64_t i = 0; i < n; i++)
        x[i] = v ? scale * v[i] : scale;
    if (w->train && e->o.dropout > 0)
        drop(e, w->batch->ids[b], w->step, n, x);
}

static hr_status make_room(hr_encoder *e, int64_t entries)
{
    if (entries <= e->room)
        return HR_OK;
    hr_free(e->be.ctx, e->values);
    e->room = entries + entries / 2;
    e->values = HR_ARRAY(e->be.ctx, HR_MEM_ENCODER_SCRATCH, float, e->room);
    if (e->values)
        return HR_OK;
    e->room = 0;
    return HR_ERR_NOMEM;
}

hr_status hr_identity_forward(hr_encoder *e, const hr_encoder_batch *batch, bool train, uint64_t step)
{
    const int64_t first = batch->indptr[0];
    HR_TRY(make_room(e, batch->indptr[batch->rows] - first));
    for (int64_t b = 0; b <= batch->rows; b++)
        e->indptr[b] = batch->indptr[b] - first;
    identity_work work = {.e = e, .batch = batch, .train = train, .step = step};
    hr_parallel_for(e->be.ctx, batch->rows, output_row, &work);
    e->sparse = (hr_sparse_rows){.indptr = e->indptr, .indices = batch->indices + first, .values = e->values};
    return HR_OK;
}
