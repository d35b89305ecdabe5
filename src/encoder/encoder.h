/* Encoders: from the features of a batch to X (B, D), and from dX back to updated parameters. An encoder never sees
 * a label.
 *
 *   bow    embedding bag h0 = sum_j v_j E[f_j]; residual block h = h0 + W2 relu(W1 h0 + b1) + b2; scaled to a given
 *          length; dropout. In the manner of DeepXML/Astec (Dahiya et al., WSDM 2021). The embeddings are updated by
 *          Adam or row-wise AdaGrad on the rows a batch touches, the residual block by AdamW.
 *   dense  given vectors, scaled to a given length; dropout.
 *   identity-sparse  the features themselves, scaled to a given length; dropout. X has few entries, (B, F) of them are never stored
 *          (hr_encoder_sparse); there is nothing to train. For linear one-vs-rest classifiers. */
#ifndef HR_ENCODER_ENCODER_H
#define HR_ENCODER_ENCODER_H

#include "base/ctx.h"
#include "dtype/tensor.h"

typedef enum hr_encoder_type { HR_ENCODER_BOW, HR_ENCODER_DENSE, HR_ENCODER_IDENTITY } hr_encoder_type;

typedef enum hr_encoder_optimizer { HR_ENCODER_ADAM, HR_ENCODER_ADAGRAD } hr_encoder_optimizer;

typedef struct hr_encoder_options {
    hr_encoder_type type;
    int64_t features, dim;       /* F, D; identity: D = F */
    int64_t max_batch;           /* instances of a micro-step */
    int64_t max_row;             /* features of the longest row */
    int64_t accumulate;          /* micro-steps of one update */
    bool training, residual;
    float norm;                  /* length of the output; 0: as it comes */
    float dropout, feature_dropout;
    float init;                  /* embeddings start normal-like with this scale / sqrt(D) */
    hr_encoder_optimizer optimizer; /* of the embeddings */
    float beta1, beta2, eps, weight_decay;
    uint64_t seed;
} hr_encoder_options;

/* Sparse rows: indptr (B+1), indices, values; or dense rows (B, F). ids name the instances for the dropout draws. */
typedef struct hr_encoder_batch {
    int64_t rows;
    const int64_t *indptr;
    const uint32_t *indices;
    const float *values;
    const float *dense;
    const uint32_t *ids;
} hr_encoder_batch;

typedef struct hr_encoder hr_encoder;

hr_status hr_encoder_check(hr_ctx *ctx, const hr_encoder_options *options);
void hr_encoder_memory(const hr_encoder_options *options, int threads, size_t bytes[HR_MEM_KINDS]);
/* With `training` false no weights are allocated: hr_encoder_attach gives them. */
hr_status hr_encoder_create(hr_ctx *ctx, const hr_encoder_options *options, hr_encoder **out);
void hr_encoder_destroy(hr_encoder *encoder);

/* X (B, D); identity: x is not used. `train` applies dropout, drawn by (instance, step), and keeps what backward needs. Fails only where
 * an identity encoder that is not training is given a batch of more entries than any before: HR_ERR_NOMEM. */
hr_status hr_encoder_forward(hr_encoder *encoder, const hr_encoder_batch *batch, bool train, uint64_t step, float *x);
/* identity: X of the last forward, until the next one; its indices are those of the batch, borrowed. Entries that are left out are zero. */
hr_sparse_rows hr_encoder_sparse(const hr_encoder *encoder);
/* Adds the gradient of the batch given to the last forward; dx (B, D) is overwritten. At most `accumulate` times. */
void hr_encoder_backward(hr_encoder *encoder, const hr_encoder_batch *batch, uint64_t step, float *dx);
/* One Adam step with what has been added; t counts updates from 1. */
void hr_encoder_update(hr_encoder *encoder, float lr, uint64_t t);

/* Views of all parameters and moments, with fixed names ("encoder.embedding", ...). */
void hr_encoder_tensors(hr_encoder *encoder, hr_tensor_list *list);
/* Points the parameter `name` at memory that outlives the encoder; false: no such parameter. */
bool hr_encoder_attach(hr_encoder *encoder, const char *name, const void *data);
const hr_encoder_options *hr_encoder_get_options(const hr_encoder *encoder);

#endif
