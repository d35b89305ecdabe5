/* Encoder, head and label order as one thing that scores a batch. Built from a configuration (to train it) or from a
 * model folder (to predict with it). */
#ifndef HR_MODEL_MODEL_H
#define HR_MODEL_MODEL_H

#include "backend/device.h"
#include "checkpoint/checkpoint.h"
#include "config/config.h"
#include "dataset/dataset.h"
#include "encoder/encoder.h"
#include "head/head.h"
#include "model/candidates.h"
#include "model/cluster.h"

typedef struct hr_model {
    hr_ctx *ctx;
    hr_encoder *encoder;
    hr_head *layer;           /* hidden layer between them; NULL: none */
    hr_head *head;
    int64_t labels, dim, features, max_batch; /* dim: of the encoder */
    const uint32_t *external; /* (L) external id of each internal row */
    uint32_t *owned_external; /* when training */
    float *x;                 /* (max_batch, D) */
    float *h;                 /* (max_batch, width) what the head sees: the layer's outputs, or x */
    bool is_sparse;           /* the head is over sparse X: there are no x and h, but */
    hr_sparse_rows sparse;    /* X of the last forward */
    hr_head_topk *topk;       /* NULL until hr_model_want_top */
    int64_t top_k;
    hr_checkpoint *ck;        /* when opened from a folder */
} hr_model;

/* ---- to train ---- */

typedef struct hr_model_spec {
    hr_encoder_options encoder;
    hr_head_options layer;    /* labels 0: none */
    hr_head_options head;
    /* labels from this rank of frequency on are grouped; grouping.size 0: they are not */
    int64_t grouped_from;
    hr_cluster_options grouping;
    size_t grouping_bytes;
    hr_candidate_options candidates; /* head.sparse_x: the inputs of its labels */
} hr_model_spec;

/* Reads the keys encoder.*, head.*, loss.*, train.batch, train.accumulate and seed. max_row: features of the longest row
 * that will be seen; mean_positives: of a training instance; device: of the head, NULL: the processor. */
hr_status hr_model_spec_make(const hr_config *config, const hr_dataset *dataset, hr_device *device, int64_t max_row, double mean_positives,
                             hr_model_spec *out);
/* Warns of each key that was given and has no effect, because what it belongs to is switched off. */
void hr_model_warn_unused(const hr_config *config);
/* Options of an auxiliary head over `groups` groups of labels, which sees what the head sees. Reads the keys aux.* and head.*. */
hr_status hr_model_aux_options(const hr_config *config, const hr_model_spec *spec, int64_t groups, double mean_positives,
                               hr_head_options *out);
/* Width of the dX that a step gives back; 0: sparse X has none. */
int64_t hr_model_dx_width(const hr_model_spec *spec);
void hr_model_memory(const hr_model_spec *spec, int threads, size_t bytes[HR_MEM_KINDS]);
/* Labels are ordered by their frequency (L), most frequent first, equal ones by id; then those that share inputs are grouped. With
 * head.sparse_x their inputs are chosen. */
hr_status hr_model_create(hr_ctx *ctx, const hr_model_spec *spec, const hr_dataset *dataset, const uint32_t *frequency, hr_model **out);
/* What the head sees of a batch, model->h or model->sparse; `train` and `step` as for hr_encoder_forward. */
hr_status hr_model_forward(hr_model *model, const hr_encoder_batch *batch, bool train, uint64_t step);

/* All tensors: head, encoder, label order. Fits a fresh list. */
void hr_model_tensors(hr_model *model, hr_tensor_list *list);
/* What a model folder needs to be opened: sizes, types, factors. */
void hr_model_meta(const hr_model *model, hr_meta *meta);
/* Rows of one shard of the head: whole blocks, files of about 256 MiB, at most 32 of them. */
int64_t hr_model_shard_rows(const hr_model *model);
/* Tensors and factors of a checkpoint into a model that was created with the same spec. */
hr_status hr_model_load(hr_model *model, hr_checkpoint *ck);

/* ---- to predict ---- */

/* The model folder that is meant by `path`: RUN/model when it is a run folder, else itself. */
hr_status hr_model_folder(hr_ctx *ctx, const char *path, char folder[HR_PATH_MAX]);
/* A model folder, for batches of at most max_batch rows. */
hr_status hr_model_open(hr_ctx *ctx, const char *path, bool verify_all, int64_t max_batch, hr_model **out);

/* ---- both ---- */

void hr_model_destroy(hr_model *model);
/* Books the memory for top-k calls up to k. */
hr_status hr_model_want_top(hr_model *model, int64_t k);
/* Top k external ids and logits of each row of the batch (head.h). */
hr_status hr_model_top(hr_model *model, const hr_encoder_batch *batch, int64_t k, uint32_t *ids, float *scores);
/* The rows [row, row + rows) of a split as a batch, without copying. */
hr_encoder_batch hr_model_rows(const hr_dataset *dataset, hr_split which, int64_t row, int64_t rows);

#endif
