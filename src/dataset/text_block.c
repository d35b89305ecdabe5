/* A block is cut into slices of SLICE_TEXTS texts. A worker computes a slice's rows into the slice's own
 * arrays, with the scratch of that worker; which worker it was leaves no trace in the result. */
#include "dataset/text_block.h"

#include <string.h>

#define SLICE_TEXTS 32
#define SLICES      64
#define BLOCK_BYTES ((size_t)1 << 20)

typedef struct slice {
    hr_status status;
    uint32_t *ids;
    float *values;
    size_t used, capacity;
    int64_t counts[SLICE_TEXTS];
} slice;

struct hr_text_block {
    hr_ctx *ctx;
    const hr_text_model *model;
    hr_text_work **work; /* (workers) */
    int workers;
    slice *slices; /* (SLICES) */
    char *bytes;
    size_t used, capacity;
    size_t *ends; /* (SLICES * SLICE_TEXTS) */
    int64_t texts;
};

void hr_text_block_destroy(hr_text_block *b)
{
    if (!b)
        return;
    for (int i = 0; b->work && i < b->workers; i++)
        hr_text_work_destroy(b->work[i]);
    for (int i = 0; b->slices && i < SLICES; i++) {
        hr_free(b->ctx, b->slices[i].ids);
        hr_free(b->ctx, b->slices[i].values);
    }
    hr_free(b->ctx, b->work);
    hr_free(b->ctx, b->slices);
    hr_free(b->ctx, b->bytes);
    hr_free(b->ctx, b->ends);
    hr_free(b->ctx, b);
}

static hr_status make_parts(hr_text_block *b)
{
    b->work = HR_ARRAY0(b->ctx, HR_MEM_DATASET, hr_text_work *, b->workers);
    b->slices = HR_ARRAY0(b->ctx, HR_MEM_DATASET, slice, SLICES);
    b->ends = HR_ARRAY(b->ctx, HR_MEM_DATASET, size_t, SLICES * SLICE_TEXTS);
    if (!b->work || !b->slices || !b->ends)
        return HR_ERR_NOMEM;
    for (int i = 0; i < b->workers; i++)
        HR_TRY(hr_text_work_create(b->model, &b->work[i]));
    return HR_OK;
}

hr_status hr_text_block_create(hr_ctx *ctx, const hr_text_model *model, hr_text_block **out)
{
    *out = NULL;
    hr_text_block *b = HR_NEW(ctx, HR_MEM_DATASET, hr_text_block);
    if (!b)
        return HR_ERR_NOMEM;
    b->ctx = ctx;
    b->model = model;
    b->workers = hr_ctx_threads(ctx);
    hr_status st = make_parts(b);
    if (st != HR_OK) {
        hr_text_block_destroy(b);
        return st;
    }
    *out = b;
    return HR_OK;
}

hr_status hr_text_block_add(hr_text_block *b, const char *text, size_t length)
{
    if (length > b->capacity - b->used) {
        size_t capacity = hr_add(b->used, length);
        capacity = capacity > 2 * BLOCK_BYTES ? hr_mul(capacity, 2) : 2 * BLOCK_BYTES;
        char *wider = hr_realloc(b->ctx, HR_MEM_DATASET, b->bytes, capacity);
        if (!wider)
            return HR_ERR_NOMEM;
        b->bytes = wider;
        b->capacity = capacity;
    }
    if (length > 0)
        memcpy(b->bytes + b->used, text, length);
    b->used += length;
    b->ends[b->texts++] = b->used;
    return HR_OK;
}

bool hr_text_block_is_full(const hr_text_block *b)
{
    return b->used >= BLOCK_BYTES || b->texts == SLICES * SLICE_TEXTS;
}

static hr_status keep_row(hr_ctx *ctx, slice *s, const uint32_t *ids, const float *values, int64_t count)
{
    size_t n = (size_t)count;
    if (n > s->capacity - s->used) {
        size_t capacity = 2 * (s->used + n);
        uint32_t *wide_ids = hr_realloc(ctx, HR_MEM_DATASET, s->ids, hr_mul(capacity, sizeof *wide_ids));
        s->ids = wide_ids ? wide_ids : s->ids;
        float *wide_values =
            hr_realloc(ctx, HR_MEM_DATASET, s->values, hr_mul(capacity, sizeof *wide_values));
        s->values = wide_values ? wide_values : s->values;
        if (!wide_ids || !wide_values)
            return HR_ERR_NOMEM;
        s->capacity = capacity;
    }
    if (n > 0) {
        memcpy(s->ids + s->used, ids, n * sizeof *ids);
        memcpy(s->values + s->used, values, n * sizeof *values);
    }
    s->used += n;
    return HR_OK;
}

static void do_slice(void *arg, int64_t task, int worker)
{
    hr_text_block *b = arg;
    slice *s = &b->slices[task];
    s->used = 0;
    s->status = HR_OK;
    for (int64_t i = task * SLICE_TEXTS; i < (task + 1) * SLICE_TEXTS && i < b->texts && s->status == HR_OK;
         i++) {
        size_t begin = i ? b->ends[i - 1] : 0;
        const uint32_t *ids;
        const float *values;
        int64_t *count = &s->counts[i % SLICE_TEXTS];
        s->status = hr_text_features(b->model, b->work[worker], b->bytes + begin, b->ends[i] - begin, &ids,
                                     &values, count);
        if (s->status == HR_OK)
            s->status = keep_row(b->ctx, s, ids, values, *count);
    }
}

hr_status hr_text_block_flush(hr_text_block *b, hr_csr_writer *writer)
{
    int64_t slices = (b->texts + SLICE_TEXTS - 1) / SLICE_TEXTS;
    hr_parallel_for(b->ctx, slices, do_slice, b);
    for (int64_t t = 0; t < slices; t++)
        HR_TRY(b->slices[t].status);
    for (int64_t i = 0, at = 0; i < b->texts; i++) {
        const slice *s = &b->slices[i / SLICE_TEXTS];
        int64_t count = s->counts[i % SLICE_TEXTS];
        at = i % SLICE_TEXTS ? at : 0;
        HR_TRY(hr_csr_add(writer, s->ids + at, s->values + at, count));
        at += count;
    }
    b->texts = 0;
    b->used = 0;
    return HR_OK;
}
