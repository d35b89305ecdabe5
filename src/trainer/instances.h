/* What a run trains on: training rows without the held-out ones, then label texts; and the batches made of them.
 * Everything is a pure function of (seed, epoch, position): resuming needs no list. */
#ifndef HR_TRAINER_INSTANCES_H
#define HR_TRAINER_INSTANCES_H

#include "base/order.h"
#include "config/config.h"
#include "dataset/dataset.h"
#include "encoder/encoder.h"
#include "head/head.h"

typedef struct hr_instances {
    const hr_dataset *dataset;
    hr_split validation_split;    /* where validation rows come from */
    int64_t validation_rows;      /* 0: no validation */
    int64_t train_rows;           /* training rows that are trained on */
    int64_t label_rows;           /* label texts that are trained on */
    int64_t count;                /* train_rows + label_rows */
    int64_t max_features, max_labels; /* of any row that a run may see, validation included */
    double mean_positives;
    uint64_t seed;
    hr_order holdout;             /* permutation of the rows the validation rows are taken from */
} hr_instances;

/* Reads train.validation, train.validation_max, train.augment, seed. */
hr_status hr_instances_make(const hr_config *config, const hr_dataset *dataset, hr_instances *out);
/* Row of validation_split that is validation row i. */
int64_t hr_instances_validation_row(const hr_instances *in, int64_t i);

/* One batch in memory that is booked once. */
typedef struct hr_batch {
    int64_t rows;
    uint32_t *ids;               /* (B) instance: training row, or N + label */
    int64_t *indptr;             /* (B + 1) sparse features */
    uint32_t *indices;
    float *values;
    float *dense;                /* (B, F) dense features */
    uint64_t *positives, *scratch; /* internal row << 32 | batch row, ascending */
    int64_t num_positives;
    float *dx;                   /* (B, D) */
} hr_batch;

/* dim: of dX; 0: there is none. */
size_t hr_batch_memory(const hr_instances *in, int64_t max_batch, int64_t dim);
hr_status hr_batch_create(hr_ctx *ctx, const hr_instances *in, int64_t max_batch, int64_t dim, hr_batch *out);
void hr_batch_destroy(hr_ctx *ctx, hr_batch *batch);
/* Instances at positions [position, position + rows) of an epoch. `internal` (L): row of each external label. */
void hr_batch_fill(hr_batch *batch, const hr_instances *in, uint64_t epoch, int64_t position, int64_t rows,
                   const uint32_t *internal);
hr_encoder_batch hr_batch_features(const hr_batch *batch);

#endif
