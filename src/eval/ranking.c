/* Rankings: what is removed, what is kept, what is saved. The order is total (score, then id), so the outcome
 * does not depend on the order in which candidates come. */
#include "eval/ranking.h"

#include "base/file.h"
#include "base/number.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAVE_BUFFER ((size_t)1 << 16)
#define ENTRY_BYTES 48 /* "4294967295:-1.23456789e-300 " and some */

/* ---- the best k ---- */

bool hr_candidate_before(hr_candidate a, hr_candidate b)
{
    return a.score > b.score || (a.score == b.score && a.id < b.id);
}

void hr_topk_init(hr_topk *top, hr_candidate *storage, int k)
{
    *top = (hr_topk){.items = storage, .k = k};
}

/* The items are a heap with the worst at the root: each item ranks before its parent. */
static void sift_down(hr_candidate *items, int n, int at)
{
    hr_candidate moving = items[at];
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && hr_candidate_before(items[child], items[child + 1]))
            child++;
        if (!hr_candidate_before(moving, items[child]))
            break;
        items[at] = items[child];
    }
    items[at] = moving;
}

static void sift_up(hr_candidate *items, int at)
{
    hr_candidate moving = items[at];
    for (int parent; at > 0 && (parent = (at - 1) / 2, hr_candidate_before(items[parent], moving));
         at = parent)
        items[at] = items[parent];
    items[at] = moving;
}

void hr_topk_offer(hr_topk *top, uint32_t id, double score)
{
    hr_candidate candidate = {.score = isnan(score) ? -INFINITY : score, .id = id};
    if (top->n < top->k) {
        top->items[top->n] = candidate;
        sift_up(top->items, top->n++);
    } else if (top->k > 0 && hr_candidate_before(candidate, top->items[0])) {
        top->items[0] = candidate;
        sift_down(top->items, top->n, 0);
    }
}

void hr_topk_sort(hr_topk *top)
{
    for (int n = top->n - 1; n > 0; n--) {
        hr_candidate worst = top->items[0];
        top->items[0] = top->items[n];
        top->items[n] = worst;
        sift_down(top->items, n, 0);
    }
}

/* ---- options ---- */

hr_eval_options hr_eval_options_default(void)
{
    return (hr_eval_options){.split = HR_SPLIT_TEST, .top_k = 5, .max_label_share = 1};
}

static hr_status check_options(hr_ctx *ctx, const hr_dataset *dataset, const hr_eval_options *o)
{
    if (o->top_k < 1 || o->top_k > 100)
        return hr_fail(ctx, HR_ERR_USAGE, "top_k is %d, it must be 1 to 100", o->top_k);
    if (!(o->max_label_share > 0 && o->max_label_share <= 1))
        return hr_fail(ctx, HR_ERR_USAGE, "max_label_share is %g, it must be above 0 and at most 1",
                       o->max_label_share);
    if ((int)o->split < 0 || o->split >= HR_SPLITS)
        return hr_fail(ctx, HR_ERR_USAGE, "split number %d does not exist", (int)o->split);
    if (!dataset->split[o->split].present)
        return hr_fail(ctx, HR_ERR_USAGE, "%s: this data set has no %s split", dataset->path,
                       hr_split_name(o->split));
    if (o->max_label_share < 1 && !dataset->split[HR_SPLIT_TRAIN].present)
        return hr_fail(ctx, HR_ERR_USAGE,
                       "%s: max_label_share needs a training split, this data set has none", dataset->path);
    return HR_OK;
}

/* ---- rankings ---- */

struct hr_ranking {
    hr_ctx *ctx;
    const hr_dataset *dataset;
    const hr_split_data *split;
    hr_meter *meter;
    uint32_t *frequency; /* (L) */
    uint8_t *counted;    /* (L), or NULL: all */
    int64_t uncounted, max_filter;
    int64_t row; /* between begin and end */
    hr_topk top;
    hr_candidate best[100];
    uint32_t ranked[100];
    hr_file file; /* fd -1: nothing is saved */
    char *buffer;
    size_t used;
};

size_t hr_ranking_memory(const hr_dataset *dataset)
{
    size_t labels = (size_t)dataset->labels, rows = (size_t)dataset->split[HR_SPLIT_TRAIN].rows;
    // frequency, counted and the meter's two bytes; its histogram and counters; the buffer of saved
    // predictions
    size_t tables = hr_mul(labels, sizeof(uint32_t) + 3);
    return hr_add(hr_add(tables, hr_mul(hr_add(rows, 1), sizeof(uint32_t))),
                  sizeof(hr_ranking) + SAVE_BUFFER + 65536);
}

/* Labels on more than `share` of the training rows do not count. */
static hr_status choose_labels(hr_ranking *r, double share)
{
    const hr_split_data *train = &r->dataset->split[HR_SPLIT_TRAIN];
    int64_t labels = r->dataset->labels;
    if (train->present)
        hr_label_frequency(train->rows, train->labels.indptr, train->labels.indices, labels, r->frequency);
    if (share >= 1)
        return HR_OK;
    r->counted = HR_ARRAY(r->ctx, HR_MEM_EVAL, uint8_t, labels);
    if (!r->counted)
        return HR_ERR_NOMEM;
    double limit = share * (double)train->rows;
    for (int64_t l = 0; l < labels; l++) {
        r->counted[l] = (double)r->frequency[l] <= limit;
        r->uncounted += !r->counted[l];
    }
    return HR_OK;
}

static void find_max_filter(hr_ranking *r)
{
    const hr_csr *filter = &r->split->filter;
    for (int64_t i = 0; i < filter->rows; i++) {
        int64_t n = filter->indptr[i + 1] - filter->indptr[i];
        r->max_filter = n > r->max_filter ? n : r->max_filter;
    }
}

static hr_status build(hr_ranking *r, const hr_eval_options *o)
{
    const hr_dataset *d = r->dataset;
    r->frequency = HR_ARRAY0(r->ctx, HR_MEM_EVAL, uint32_t, d->labels);
    if (!r->frequency)
        return HR_ERR_NOMEM;
    HR_TRY(choose_labels(r, o->max_label_share));
    find_max_filter(r);
    hr_meter_options meter = {.labels = d->labels,
                              .train_rows = d->split[HR_SPLIT_TRAIN].rows,
                              .frequency = r->frequency,
                              .counted = r->counted,
                              .propensity_a = d->propensity_a,
                              .propensity_b = d->propensity_b,
                              .top_k = o->top_k};
    HR_TRY(hr_meter_create(r->ctx, &meter, &r->meter));
    hr_topk_init(&r->top, r->best, o->top_k);
    if (!o->save_predictions)
        return HR_OK;
    r->buffer = HR_ARRAY(r->ctx, HR_MEM_EVAL, char, SAVE_BUFFER);
    if (!r->buffer)
        return HR_ERR_NOMEM;
    return hr_file_create(r->ctx, o->save_predictions, &r->file);
}

hr_status hr_ranking_create(hr_ctx *ctx, const hr_dataset *dataset, const hr_eval_options *options,
                            hr_ranking **out)
{
    *out = NULL;
    HR_TRY(check_options(ctx, dataset, options));
    hr_ranking *r = HR_NEW(ctx, HR_MEM_EVAL, hr_ranking);
    if (!r)
        return HR_ERR_NOMEM;
    r->ctx = ctx;
    r->dataset = dataset;
    r->split = &dataset->split[options->split];
    r->file = (hr_file){.ctx = ctx, .fd = -1};
    r->row = -1;
    hr_status st = build(r, options);
    if (st != HR_OK) {
        hr_ranking_destroy(r);
        return st;
    }
    *out = r;
    return HR_OK;
}

void hr_ranking_destroy(hr_ranking *ranking)
{
    if (!ranking)
        return;
    hr_ctx *ctx = ranking->ctx;
    if (ranking->file.fd >= 0)
        hr_file_close(&ranking->file);
    hr_meter_destroy(ranking->meter);
    hr_free(ctx, ranking->frequency);
    hr_free(ctx, ranking->counted);
    hr_free(ctx, ranking->buffer);
    hr_free(ctx, ranking);
}

int64_t hr_ranking_rows(const hr_ranking *ranking)
{
    return ranking->split->rows;
}

int64_t hr_ranking_wanted(const hr_ranking *ranking)
{
    int64_t wanted = ranking->top.k + ranking->max_filter + ranking->uncounted;
    return wanted < ranking->dataset->labels ? wanted : ranking->dataset->labels;
}

const uint8_t *hr_ranking_counted(const hr_ranking *ranking)
{
    return ranking->counted;
}

const uint32_t *hr_ranking_frequency(const hr_ranking *ranking)
{
    return ranking->frequency;
}

static bool row_contains(const hr_csr *m, int64_t row, uint32_t column)
{
    if (m->rows == 0)
        return false;
    int64_t low = m->indptr[row], end = m->indptr[row + 1], high = end;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (m->indices[middle] < column)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && m->indices[low] == column;
}

bool hr_ranking_allows(const hr_ranking *ranking, int64_t row, uint32_t id)
{
    return (!ranking->counted || ranking->counted[id]) && !row_contains(&ranking->split->filter, row, id);
}

/* ---- one row ---- */

static hr_status save_buffer(hr_ranking *r)
{
    hr_status st = hr_file_write(&r->file, r->buffer, r->used);
    r->used = 0;
    return st;
}

/* "label:score label:score\n"; nine digits give the same 32-bit score back. */
static hr_status save_row(hr_ranking *r)
{
    for (int i = 0; i < r->top.n; i++) {
        if (r->used + ENTRY_BYTES > SAVE_BUFFER)
            HR_TRY(save_buffer(r));
        const hr_candidate *c = &r->top.items[i];
        r->used += (size_t)snprintf(r->buffer + r->used, ENTRY_BYTES, "%s%u:%s", i ? " " : "", c->id,
                                    hr_number(c->score, 9).text);
    }
    if (r->used + ENTRY_BYTES > SAVE_BUFFER)
        HR_TRY(save_buffer(r));
    r->buffer[r->used++] = '\n';
    return HR_OK;
}

void hr_ranking_begin(hr_ranking *ranking, int64_t row)
{
    assert(row >= 0 && row < ranking->split->rows);
    ranking->row = row;
    ranking->top.n = 0;
}

void hr_ranking_offer(hr_ranking *ranking, uint32_t id, double score)
{
    assert(id < ranking->dataset->labels);
    if (hr_ranking_allows(ranking, ranking->row, id))
        hr_topk_offer(&ranking->top, id, score);
}

bool hr_ranking_full(const hr_ranking *ranking)
{
    return ranking->top.n == ranking->top.k;
}

hr_status hr_ranking_end(hr_ranking *ranking)
{
    const hr_csr *truth = &ranking->split->labels;
    int64_t first = truth->indptr[ranking->row], last = truth->indptr[ranking->row + 1];
    hr_topk_sort(&ranking->top);
    for (int i = 0; i < ranking->top.n; i++)
        ranking->ranked[i] = ranking->top.items[i].id;
    hr_meter_add(ranking->meter, ranking->ranked, ranking->top.n, truth->indices + first, last - first);
    return ranking->file.fd >= 0 ? save_row(ranking) : HR_OK;
}

hr_status hr_ranking_add(hr_ranking *ranking, int64_t row, const uint32_t *ids, const float *scores,
                         int64_t n)
{
    hr_ranking_begin(ranking, row);
    for (int64_t i = 0; i < n; i++)
        hr_ranking_offer(ranking, ids[i], scores[i]);
    return hr_ranking_end(ranking);
}

void hr_ranking_reset(hr_ranking *ranking)
{
    hr_meter_reset(ranking->meter);
}

hr_status hr_ranking_finish(hr_ranking *ranking, hr_metrics *out)
{
    hr_meter_read(ranking->meter, out);
    if (ranking->file.fd < 0)
        return HR_OK;
    HR_TRY(save_buffer(ranking));
    return hr_file_close(&ranking->file);
}
