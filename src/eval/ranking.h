/* From scores to metrics, the same way for models, saved predictions and baselines: labels that do not count
 * and filter pairs are removed, the best K are taken (score down, then external label id up), the ranking is
 * saved if asked for and handed to the meter.
 *
 *     HR_TRY(hr_ranking_create(ctx, dataset, options, &ranking));
 *     for each row of the split:
 *         st = hr_ranking_add(ranking, row, ids, scores, n);
 *     st = hr_ranking_finish(ranking, &metrics);
 *     hr_ranking_destroy(ranking);
 *
 * Whoever brings candidates brings at least hr_ranking_wanted() of the best, or all there are, so that what
 * is removed can be filled up from lower ranks; or leaves out labels with hr_ranking_counted() itself. */
#ifndef HR_EVAL_RANKING_H
#define HR_EVAL_RANKING_H

#include "base/ctx.h"
#include "dataset/dataset.h"
#include "metrics/metrics.h"

/* ---- the best k of a stream ---- */

typedef struct hr_candidate {
    double score;
    uint32_t id;
} hr_candidate;

/* Keeps the k best of what is offered, in any order, until hr_topk_sort. */
typedef struct hr_topk {
    hr_candidate *items; /* (k), borrowed */
    int n, k;
} hr_topk;

/* True if a ranks before b. NaN ranks like minus infinity. */
bool hr_candidate_before(hr_candidate a, hr_candidate b);
void hr_topk_init(hr_topk *top, hr_candidate *storage, int k);
void hr_topk_offer(hr_topk *top, uint32_t id, double score);
/* Puts the n kept items into order, best first; nothing may be offered afterwards. */
void hr_topk_sort(hr_topk *top);

/* ---- rankings of a split ---- */

typedef struct hr_ranking hr_ranking;

/* HR_ERR_USAGE with a sentence if the options are out of range or the data set lacks the split. Borrows
 * `dataset` until destroy. Makes options->save_predictions if it is given. */
hr_status hr_ranking_create(hr_ctx *ctx, const hr_dataset *dataset, const hr_eval_options *options,
                            hr_ranking **out);
void hr_ranking_destroy(hr_ranking *ranking);
/* Upper bound of what a ranking allocates (HR_MEM_EVAL), while it is created included. */
size_t hr_ranking_memory(const hr_dataset *dataset);

/* Rows of the split. */
int64_t hr_ranking_rows(const hr_ranking *ranking);
/* So many best candidates always suffice: K, the most filter pairs of a row, and all labels that do not
 * count. */
int64_t hr_ranking_wanted(const hr_ranking *ranking);
/* (L) 1: the label counts; NULL: all do. */
const uint8_t *hr_ranking_counted(const hr_ranking *ranking);
/* (L) training frequency of each label. */
const uint32_t *hr_ranking_frequency(const hr_ranking *ranking);
/* May `id` be predicted for `row`? May be called from any thread. */
bool hr_ranking_allows(const hr_ranking *ranking, int64_t row, uint32_t id);

/* One row of the split with its candidates: n distinct ids below L and their scores, in any order. Rows may
 * come in any order, each once; predictions are saved in the order of the calls. Fails only if saving does.
 * Allocates nothing. */
hr_status hr_ranking_add(hr_ranking *ranking, int64_t row, const uint32_t *ids, const float *scores,
                         int64_t n);
/* The same in three steps, for candidates that come one by one. */
void hr_ranking_begin(hr_ranking *ranking, int64_t row);
void hr_ranking_offer(hr_ranking *ranking, uint32_t id, double score);
/* K candidates are in: if they come best first, the others need not be offered. */
bool hr_ranking_full(const hr_ranking *ranking);
hr_status hr_ranking_end(hr_ranking *ranking);

/* Forgets the rows so far, for another round over the same split. Allocates nothing. */
void hr_ranking_reset(hr_ranking *ranking);
/* Completes the saved file and reads the metrics of the rows so far. */
hr_status hr_ranking_finish(hr_ranking *ranking, hr_metrics *out);

#endif
