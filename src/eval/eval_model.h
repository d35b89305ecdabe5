/* A model over rows of a split: top-k in batches, rankings to metrics. */
#ifndef HR_EVAL_EVAL_MODEL_H
#define HR_EVAL_EVAL_MODEL_H

#include "eval/ranking.h"
#include "model/model.h"

/* Which rows: all of the split in order (row == NULL), or `count` rows given by row(arg, i). */
typedef struct hr_eval_rows {
    hr_split split;
    int64_t count;
    int64_t (*row)(void *arg, int64_t i);
    void *arg;
    bool stoppable; /* HR_INTERRUPTED between batches when asked to stop; a validation is finished instead */
} hr_eval_rows;

/* Buffers of an evaluation, booked once so that validation during training does not allocate. */
typedef struct hr_eval_work {
    int64_t batch, wanted;
    uint32_t *ids;   /* (batch, wanted) */
    float *scores;
    int64_t *indptr; /* rows gathered one by one */
    uint32_t *indices;
    float *values, *dense;
    int64_t *rows;
} hr_eval_work;

size_t hr_eval_work_memory(int64_t batch, int64_t wanted, int64_t max_features, int64_t dense_width);
/* `wanted` candidates a row; max_features: longest row (sparse), dense_width: F (dense), else 0. Also books the model. */
hr_status hr_eval_work_create(hr_model *model, int64_t wanted, int64_t max_features, int64_t dense_width, hr_eval_work *out);
void hr_eval_work_destroy(hr_ctx *ctx, hr_eval_work *work);
/* Adds the rankings of the rows. */
hr_status hr_eval_run(hr_model *model, const hr_dataset *dataset, const hr_eval_rows *rows, hr_eval_work *work,
                      hr_ranking *ranking);

#endif
