/* Exact nearest training rows by cosine of sparse features, through an inverted index: for each feature the
 * rows that have it. A query walks the lists of its own features and adds up products; nothing is skipped. */
#ifndef HR_EVAL_KNN_H
#define HR_EVAL_KNN_H

#include "dataset/dataset.h"
#include "eval/ranking.h"

typedef struct hr_knn hr_knn;

/* Index over `rows` (copied, about 8 bytes a stored value) and room for one search in each of `workers`
 * threads (8 bytes a row each). All of kind HR_MEM_EVAL. */
hr_status hr_knn_create(hr_ctx *ctx, const hr_csr *rows, int workers, int neighbours, hr_knn **out);
void hr_knn_destroy(hr_knn *knn);

/* The nearest rows to row `row` of `queries`, nearest first (equal ones: lower row first), with positive
 * cosine only. `except`: a row to leave out, or -1. Returns how many; they are in *found, which belongs to
 * the worker. */
int hr_knn_search(hr_knn *knn, int worker, const hr_csr *queries, int64_t row, int64_t except,
                  const hr_candidate **found);

#endif
