/* Top-k scoring: W is streamed once for the whole batch; each worker keeps, for each query, its best k so far as a
 * sorted list, and the lists are merged at the end. Scores order first, external ids break ties, so the result does not
 * depend on which worker saw which block. */
#include "head/internal.h"

struct hr_head_topk {
    int64_t max_batch, max_k;
    float *score;   /* (threads, max_batch, max_k) descending */
    uint32_t *id;   /* the same shape, external ids */
    float *limit;   /* (threads, padded batch): the k-th best score so far, -inf while there are fewer */
    int64_t *count; /* (threads, max_batch) */
    _Atomic int failed; /* first failing status of a touch, else 0 */
};

static int64_t padded(int64_t batch)
{
    return (batch + HRK_BP - 1) / HRK_BP * HRK_BP;
}

size_t hr_head_topk_memory(int threads, int64_t max_batch, int64_t max_k)
{
    const size_t lists = (size_t)threads * (size_t)max_batch;
    return sizeof(hr_head_topk) + lists * (size_t)max_k * (sizeof(float) + sizeof(uint32_t)) +
           (size_t)threads * (size_t)padded(max_batch) * sizeof(float) + lists * sizeof(int64_t);
}

hr_status hr_head_topk_create(hr_ctx *ctx, int64_t max_batch, int64_t max_k, hr_head_topk **out)
{
    *out = NULL;
    const int64_t lists = (int64_t)hr_ctx_threads(ctx) * max_batch;
    hr_head_topk *work = HR_NEW(ctx, HR_MEM_EVAL, hr_head_topk);
    if (!work)
        return HR_ERR_NOMEM;
    work->max_batch = max_batch;
    work->max_k = max_k;
    work->score = HR_ARRAY(ctx, HR_MEM_EVAL, float, lists *max_k);
    work->id = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, lists *max_k);
    work->limit = HR_ARRAY(ctx, HR_MEM_EVAL, float, (int64_t)hr_ctx_threads(ctx) * padded(max_batch));
    work->count = HR_ARRAY(ctx, HR_MEM_EVAL, int64_t, lists);
    if (!work->score || !work->id || !work->limit || !work->count) {
        hr_head_topk_destroy(ctx, work);
        return HR_ERR_NOMEM;
    }
    *out = work;
    return HR_OK;
}

void hr_head_topk_destroy(hr_ctx *ctx, hr_head_topk *work)
{
    if (!work)
        return;
    hr_free(ctx, work->score);
    hr_free(ctx, work->id);
    hr_free(ctx, work->limit);
    hr_free(ctx, work->count);
    hr_free(ctx, work);
}

typedef struct top_call {
    hr_head *head;
    hr_head_topk *work;
    int64_t batch, k;
    const uint32_t *external;
    hr_head_touch_fn *touch;
    void *touch_arg;
} top_call;

/* Whether (score, id) comes before (other, other_id). */
static bool before(float score, uint32_t id, float other, uint32_t other_id)
{
    return score > other || (score == other && id < other_id);
}

/* Insertion into a descending list of at most k. */
static int64_t insert(float *score, uint32_t *id, int64_t n, int64_t k, float s, uint32_t label)
{
    if (n == k && !before(s, label, score[n - 1], id[n - 1]))
        return n;
    int64_t at = n < k ? n : k - 1;
    for (; at > 0 && before(s, label, score[at - 1], id[at - 1]); at--) {
        score[at] = score[at - 1];
        id[at] = id[at - 1];
    }
    score[at] = s;
    id[at] = label;
    return n < k ? n + 1 : k;
}

/* One tile's search: where its reports go. */
typedef struct tile_search {
    const top_call *call;
    int64_t axis_row;
    int worker;
    float *limit; /* of the worker */
} tile_search;

static void found(void *arg, int64_t tile_row, int64_t query, float score)
{
    const tile_search *t = arg;
    const top_call *call = t->call;
    hr_head_topk *w = call->work;
    const int64_t list = t->worker * w->max_batch + query;
    float *best = w->score + list * w->max_k;
    w->count[list] = insert(best, w->id + list * w->max_k, w->count[list], call->k, score, call->external[t->axis_row + tile_row]);
    if (w->count[list] == call->k)
        t->limit[query] = best[call->k - 1];
}

static void scan_block(void *arg, int64_t task, int worker)
{
    const top_call *call = arg;
    hr_head *head = call->head;
    hr_tile_scratch scratch = hr_head_scratch(head, worker);
    const int64_t begin = task * head->block_rows, limit = begin + head->block_rows;
    const int64_t end = limit < head->o.labels ? limit : head->o.labels;
    for (int64_t at = begin; at < end && !call->work->failed;) {
        const hr_tile t = hr_head_tile_at(head, at, end);
        if (call->touch) {
            hr_status st = call->touch(call->touch_arg, t.segment, t.row, t.rows);
            if (st != HR_OK) {
                call->work->failed = st;
                return;
            }
        }
        const hr_segment *seg = &head->segment[t.segment];
        tile_search search = {.call = call, .axis_row = at, .worker = worker,
                              .limit = call->work->limit + worker * padded(call->work->max_batch)};
        const hr_scan scan = {.k = &head->k,
                              .x = &head->view[t.segment],
                              .columns = &head->columns,
                              .bias_scalar = head->o.bias == HR_BIAS_NONE ? 0.0f : head->o.bias_value,
                              .bias = head->bias ? head->bias + at : NULL,
                              .limit = search.limit,
                              .found = found,
                              .arg = &search};
        if (!hr_scan_tile(seg, &scan, t.row, t.rows, &scratch)) {
            call->work->failed = hr_fail(head->ctx, HR_ERR_DATA, "the inputs of labels [%lld, %lld) of segment %d name columns beyond "
                                         "the %lld there are: the model is damaged", (long long)t.row, (long long)(t.row + t.rows),
                                         t.segment, (long long)seg->dim);
            return;
        }
        at += t.rows;
    }
}

/* All workers' lists of one query into the first one. */
static void merge(const top_call *call, int threads, int64_t b)
{
    hr_head_topk *w = call->work;
    for (int t = 1; t < threads; t++) {
        const int64_t from = t * w->max_batch + b;
        for (int64_t i = 0; i < w->count[from]; i++)
            w->count[b] = insert(w->score + b * w->max_k, w->id + b * w->max_k, w->count[b], call->k,
                                 w->score[from * w->max_k + i], w->id[from * w->max_k + i]);
    }
}

/* The search for the batch that has been packed. */
static hr_status run(top_call call, uint32_t *ids, float *scores)
{
    hr_head *head = call.head;
    hr_head_topk *work = call.work;
    const int threads = hr_ctx_threads(head->ctx);
    const int64_t batch = call.batch, k = call.k;
    work->failed = 0;
    for (int64_t i = 0; i < threads * padded(work->max_batch); i++)
        work->limit[i] = -INFINITY;
    memset(work->count, 0, (size_t)(threads * work->max_batch) * sizeof(int64_t));
    hr_parallel_for(head->ctx, head->blocks, scan_block, &call);
    if (work->failed)
        return (hr_status)work->failed;
    for (int64_t b = 0; b < batch; b++) {
        merge(&call, threads, b);
        if (work->count[b] < k)
            return hr_fail(head->ctx, HR_ERR_NUMERIC, "head: the scores of row %lld of the batch are not numbers; the model has "
                                                      "diverged", (long long)b);
        memcpy(ids + b * k, work->id + b * work->max_k, (size_t)k * sizeof *ids);
        memcpy(scores + b * k, work->score + b * work->max_k, (size_t)k * sizeof *scores);
    }
    return HR_OK;
}

hr_status hr_head_top(hr_head *head, hr_head_topk *work, int64_t batch, const float *x, int64_t k, const uint32_t *external,
                      uint32_t *ids, float *scores, hr_head_touch_fn *touch, void *touch_arg)
{
    if (head->far)
        return hr_far_top(head, batch, x, k, external, ids, scores);
    hr_head_pack(head, batch, x, HR_PACK_SCORES);
    return run((top_call){.head = head, .work = work, .batch = batch, .k = k, .external = external, .touch = touch, .touch_arg = touch_arg},
               ids, scores);
}

hr_status hr_head_top_sparse(hr_head *head, hr_head_topk *work, int64_t batch, const hr_sparse_rows *x, int64_t k, const uint32_t *external,
                             uint32_t *ids, float *scores, hr_head_touch_fn *touch, void *touch_arg)
{
    HR_TRY(hr_head_pack_sparse(head, batch, x));
    return run((top_call){.head = head, .work = work, .batch = batch, .k = k, .external = external, .touch = touch, .touch_arg = touch_arg},
               ids, scores);
}
