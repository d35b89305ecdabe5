/* Baselines that any trained model has to beat.
 *
 * popularity: the labels of most training rows, for every row. knn: each of the nearest training rows votes
 * for its labels with its squared cosine. Rows are worked on in blocks: in parallel within a block, then
 * handed to the ranking in order, so results do not depend on the number of threads. */
#include "eval/eval.h"

#include "eval/knn.h"
#include "eval/ranking.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_ROWS     256
#define MAX_NEIGHBOURS 1000

/* ---- popularity ---- */

static hr_status rank_popular(hr_ranking *ranking, hr_topk *top, const hr_dataset *dataset)
{
    const uint32_t *frequency = hr_ranking_frequency(ranking);
    const uint8_t *counted = hr_ranking_counted(ranking);
    double rows = (double)dataset->split[HR_SPLIT_TRAIN].rows;
    for (int64_t l = 0; l < dataset->labels; l++) {
        if (!counted || counted[l])
            hr_topk_offer(top, (uint32_t)l, rows > 0 ? frequency[l] / rows : 0);
    }
    hr_topk_sort(top);
    for (int64_t r = 0; r < hr_ranking_rows(ranking); r++) {
        hr_ranking_begin(ranking, r);
        for (int i = 0; i < top->n && !hr_ranking_full(ranking); i++)
            hr_ranking_offer(ranking, top->items[i].id, top->items[i].score);
        HR_TRY(hr_ranking_end(ranking));
    }
    return HR_OK;
}

static hr_status popularity(hr_ctx *ctx, const hr_dataset *dataset, hr_ranking *ranking)
{
    hr_topk top;
    int64_t wanted = hr_ranking_wanted(ranking); // at most L, which fits into an int only if it is below 2^31
    if (wanted > INT32_MAX)
        return hr_fail(ctx, HR_ERR_USAGE, "popularity: %lld candidates are too many", (long long)wanted);
    hr_candidate *best = HR_ARRAY(ctx, HR_MEM_EVAL, hr_candidate, wanted);
    if (!best)
        return HR_ERR_NOMEM;
    hr_topk_init(&top, best, (int)wanted);
    hr_status st = rank_popular(ranking, &top, dataset);
    hr_free(ctx, best);
    return st;
}

hr_status hr_baseline_popularity(hr_ctx *ctx, const hr_dataset *dataset, const hr_eval_options *options,
                                 hr_metrics *out)
{
    hr_ranking *ranking;
    HR_TRY(hr_ranking_create(ctx, dataset, options, &ranking));
    hr_status st = popularity(ctx, dataset, ranking);
    if (st == HR_OK)
        st = hr_ranking_finish(ranking, out);
    hr_ranking_destroy(ranking);
    return st;
}

/* ---- nearest neighbours ---- */

typedef struct voters {
    hr_ctx *ctx;
    const hr_csr *train_labels, *queries;
    const hr_ranking *ranking;
    hr_knn *knn;
    bool same_split; /* queries are training rows: a row is not its own neighbour */
    int top_k, workers;
    int64_t first;         /* row of the block's first task */
    uint64_t **votes;      /* (workers) lists of label << 32 | neighbour */
    hr_candidate *best;    /* (BLOCK_ROWS, top_k) */
    int count[BLOCK_ROWS]; /* entries of `best` */
} voters;

static int compare_votes(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The labels of all neighbours, sorted by label and then by neighbour, so that each sum has one order. */
static size_t collect_votes(const voters *v, const hr_candidate *neighbours, int n, uint64_t *votes)
{
    size_t count = 0;
    const hr_csr *labels = v->train_labels;
    for (int j = 0; j < n; j++) {
        uint32_t row = neighbours[j].id;
        for (int64_t i = labels->indptr[row]; i < labels->indptr[row + 1]; i++)
            votes[count++] = (uint64_t)labels->indices[i] << 32 | (uint64_t)j;
    }
    qsort(votes, count, sizeof *votes, compare_votes);
    return count;
}

static void vote_for_row(void *arg, int64_t task, int worker)
{
    voters *v = arg;
    const hr_candidate *neighbours;
    int64_t row = v->first + task;
    int n = hr_knn_search(v->knn, worker, v->queries, row, v->same_split ? row : -1, &neighbours);
    uint64_t *votes = v->votes[worker];
    size_t count = collect_votes(v, neighbours, n, votes);

    hr_topk top;
    hr_topk_init(&top, v->best + task * v->top_k, v->top_k);
    for (size_t i = 0; i < count;) {
        uint32_t label = (uint32_t)(votes[i] >> 32);
        double sum = 0;
        for (; i < count && (uint32_t)(votes[i] >> 32) == label; i++) {
            double cosine = neighbours[(uint32_t)votes[i]].score;
            sum += cosine * cosine;
        }
        if (hr_ranking_allows(v->ranking, row, label))
            hr_topk_offer(&top, label, (float)sum);
    }
    hr_topk_sort(&top);
    v->count[task] = top.n;
}

static hr_status vote_for_all(voters *v, hr_ranking *ranking)
{
    int64_t rows = hr_ranking_rows(ranking);
    double shown = hr_clock();
    for (v->first = 0; v->first < rows; v->first += BLOCK_ROWS) {
        int64_t n = rows - v->first < BLOCK_ROWS ? rows - v->first : BLOCK_ROWS;
        hr_parallel_for(v->ctx, n, vote_for_row, v);
        for (int64_t i = 0; i < n; i++) {
            hr_ranking_begin(ranking, v->first + i);
            for (int j = 0; j < v->count[i]; j++)
                hr_ranking_offer(ranking, v->best[i * v->top_k + j].id, v->best[i * v->top_k + j].score);
            HR_TRY(hr_ranking_end(ranking));
        }
        if (hr_ctx_interrupted(v->ctx))
            return hr_fail(v->ctx, HR_INTERRUPTED, "knn: interrupted after %lld of %lld rows",
                           (long long)(v->first + n), (long long)rows);
        if (hr_clock() - shown >= 1) {
            shown = hr_clock();
            hr_log(v->ctx, HR_LOG_PROGRESS, "knn: %lld of %lld rows", (long long)(v->first + n),
                   (long long)rows);
        }
    }
    return HR_OK;
}

static int64_t longest_row(const hr_csr *m)
{
    int64_t longest = 0;
    for (int64_t r = 0; r < m->rows; r++) {
        int64_t n = m->indptr[r + 1] - m->indptr[r];
        longest = n > longest ? n : longest;
    }
    return longest;
}

static hr_status book_votes(voters *v, int neighbours)
{
    int64_t most = longest_row(v->train_labels) * neighbours;
    v->best = HR_ARRAY(v->ctx, HR_MEM_EVAL, hr_candidate, BLOCK_ROWS * v->top_k);
    v->votes = HR_ARRAY0(v->ctx, HR_MEM_EVAL, uint64_t *, v->workers);
    if (!v->best || !v->votes)
        return HR_ERR_NOMEM;
    for (int w = 0; w < v->workers; w++) {
        v->votes[w] = HR_ARRAY(v->ctx, HR_MEM_EVAL, uint64_t, most);
        if (!v->votes[w])
            return HR_ERR_NOMEM;
    }
    return HR_OK;
}

static void release_votes(voters *v)
{
    for (int w = 0; v->votes && w < v->workers; w++)
        hr_free(v->ctx, v->votes[w]);
    hr_free(v->ctx, v->votes);
    hr_free(v->ctx, v->best);
    hr_knn_destroy(v->knn);
}

static hr_status check_knn(hr_ctx *ctx, const hr_dataset *dataset, int neighbours)
{
    if (neighbours < 1 || neighbours > MAX_NEIGHBOURS)
        return hr_fail(ctx, HR_ERR_USAGE, "knn: %d neighbours asked for, 1 to %d are possible", neighbours,
                       MAX_NEIGHBOURS);
    if (!dataset->split[HR_SPLIT_TRAIN].present)
        return hr_fail(ctx, HR_ERR_USAGE, "%s: knn needs a training split, this data set has none",
                       dataset->path);
    if (!dataset->split[HR_SPLIT_TRAIN].features.indptr)
        return hr_fail(ctx, HR_ERR_USAGE, "%s: knn needs sparse features, this data set holds dense vectors",
                       dataset->path);
    return HR_OK;
}

hr_status hr_baseline_knn(hr_ctx *ctx, const hr_dataset *dataset, int neighbours,
                          const hr_eval_options *options, hr_metrics *out)
{
    hr_ranking *ranking;
    HR_TRY(check_knn(ctx, dataset, neighbours));
    HR_TRY(hr_ranking_create(ctx, dataset, options, &ranking));
    const hr_split_data *train = &dataset->split[HR_SPLIT_TRAIN];
    voters v = {.ctx = ctx,
                .train_labels = &train->labels,
                .queries = &dataset->split[options->split].features,
                .ranking = ranking,
                .same_split = options->split == HR_SPLIT_TRAIN,
                .top_k = options->top_k,
                .workers = hr_ctx_threads(ctx)};
    hr_status st = hr_knn_create(ctx, &train->features, v.workers, neighbours, &v.knn);
    if (st == HR_OK)
        st = book_votes(&v, neighbours);
    if (st == HR_OK)
        st = vote_for_all(&v, ranking);
    if (st == HR_OK)
        st = hr_ranking_finish(ranking, out);
    release_votes(&v);
    hr_ranking_destroy(ranking);
    return st;
}

/* ---- the public call ---- */

hr_status hr_baseline_run(hr_ctx *ctx, const char *dataset, hr_baseline_kind kind, int neighbours,
                          const hr_eval_options *options, hr_metrics *out)
{
    hr_dataset *data;
    const hr_eval_options o = options ? *options : hr_eval_options_default();
    HR_TRY(hr_dataset_open(ctx, dataset, &data));
    hr_status st;
    if (kind == HR_BASELINE_POPULARITY)
        st = hr_baseline_popularity(ctx, data, &o, out);
    else if (kind == HR_BASELINE_KNN)
        st = hr_baseline_knn(ctx, data, neighbours ? neighbours : 20, &o, out);
    else
        st = hr_fail(ctx, HR_ERR_USAGE, "baseline number %d does not exist", (int)kind);
    hr_dataset_close(data);
    return st;
}
