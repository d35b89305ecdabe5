/* The classifier head: from X (B, D) and the labels of the batch to dX (B, D), with the weights updated on the way.
 *
 * A head is a list of segments over the internal label axis (labels in the order of their training frequency; the
 * permutation belongs to the model). A segment has rows of one family, storage type and optimizer.
 * The axis is cut into V blocks; a block is the unit of work and of summation, so that dX has the same bits for any
 * number of threads and any chunk. Inside a block, tiles of T labels go through logits, gradient, dX and update
 * without anything of size B x L or a second array of size L x D (docs/numerics.md, docs/architecture.md).
 *
 * The head never sees a token, a file or the encoder. */
#ifndef HR_HEAD_HEAD_H
#define HR_HEAD_HEAD_H

#include "base/ctx.h"
#include "dtype/tensor.h"

enum { HR_SEGMENTS_MAX = 4, HR_FAN_IN_MAX = 4096 /* inputs of any sparse row */, HR_WIDTH_MAX = 131072 /* of dense X */ };

/* given: no loss of its own, the gradient of its outputs comes with the batch: a hidden layer, whose "labels" are units. */
typedef enum hr_loss { HR_LOSS_BCE, HR_LOSS_SQUARED_HINGE, HR_LOSS_GIVEN } hr_loss;
typedef enum hr_reduction { HR_SUM, HR_MEAN_LABELS, HR_MEAN_ALL } hr_reduction;
typedef enum hr_bias { HR_BIAS_SCALAR, HR_BIAS_NONE, HR_BIAS_PER_LABEL } hr_bias;

/* bf16: the operands of the three products are bf16, sums f32. elmo: X, logits and gradient pass through low precision, as published. */
typedef enum hr_arith { HR_ARITH_F32, HR_ARITH_BF16, HR_ARITH_ELMO } hr_arith;
typedef enum hr_head_optimizer { HR_HEAD_SGD, HR_HEAD_ADAM } hr_head_optimizer;
typedef enum hr_gradient { HR_GRADIENT_DENSE, HR_GRADIENT_SPARSE } hr_gradient;

/* dense: every input. fan_in: the same number of inputs for every label (Schultheis & Babbar, ECML PKDD 2023), or for every group of
 * labels, which share them (HASTE, ICML 2026). unstructured: so many connections anywhere, the baseline of both. */
typedef enum hr_family_id { HR_FAMILY_DENSE, HR_FAMILY_FAN_IN, HR_FAMILY_UNSTRUCTURED } hr_family_id;

typedef struct hr_segment_options {
    int64_t rows;
    hr_family_id family;
    int64_t first_column, columns; /* the slice of X it reads, from a multiple of 64 on; columns 0: to the end */
    int64_t fan_in;          /* fan_in: inputs of a label */
    int64_t group;           /* fan_in: labels that share their inputs: 16, 32 or 64; 0 or 1: none do */
    int64_t connections;     /* unstructured */
    hr_dtype dtype;
    hr_rounding rounding;
    int scale_log2;          /* s: a code c means alpha * c * 2^-s */
    bool kahan;              /* a bf16 compensation for every weight */
    hr_head_optimizer optimizer;
    float momentum;          /* SGD; 0: none */
    float beta1, beta2, eps; /* Adam */
    hr_dtype state_dtype;    /* of the momentum, or of Adam's two moments */
    float lr_scale;
    float init;              /* weights start uniform in +-init, on the grid of their type */
} hr_segment_options;

typedef struct hr_head_options {
    const char *name;        /* of its tensors, "NAME.0.codes"; NULL: head. Not copied */
    int64_t labels, dim;     /* L = sum of the segments' rows, D */
    bool sparse_x;           /* X has few entries, of up to 2^31 columns: fan-in segments over all of them, exact gradient, no dX. Inputs are
                                given by hr_head_set_inputs. (head/sparse_x.c) */
    int64_t max_entries;     /* sparse_x: entries of a batch; scoring takes more memory for a larger one, training does not */
    int64_t max_batch;
    bool training;           /* false: only scoring; no state, no gradient scratch */
    int num_segments;
    hr_segment_options segment[HR_SEGMENTS_MAX];
    hr_loss loss;
    bool relu;               /* HR_LOSS_GIVEN: outputs below zero are zero */
    hr_reduction reduction;
    hr_bias bias;
    float bias_value;        /* the scalar, or where per-label biases start */
    float weight_decay;      /* per unit of learning rate */
    bool eager_decay;
    hr_arith arith;
    hr_gradient gradient;    /* sparse: int8 logits, and a random sparse G with the same expectation (docs/numerics.md section 6) */
    float tau;               /* its threshold; below 0: from the batch, min(0.05, kappa / (lr_peak max |x|^2)) */
    float lr_peak;           /* the largest rate that will be asked for; used by tau < 0 only */
    bool rewire;             /* hr_head_rewire will be called: books what it needs */
    int64_t chunk;           /* labels between two barriers; 0: chosen */
    struct hr_device *device; /* keeps the weights and runs the steps (backend/device.h); NULL: the processor */
    uint64_t seed;
    unsigned first_tensor;   /* segment i takes t = first_tensor + 2i (weights), t + 1 (momentum) and t + 64 (Adam's second moment) */
} hr_head_options;

/* What was wrong with the options, as a sentence in the context. */
hr_status hr_head_check(hr_ctx *ctx, const hr_head_options *options);
/* The option that the sparse gradient is not defined with, as the configuration names it; NULL: none. */
const char *hr_head_not_sparse(const hr_head_options *options);
/* Bytes that hr_head_create will allocate, added to bytes[kind]. */
void hr_head_memory(const hr_head_options *options, int threads, size_t bytes[HR_MEM_KINDS]);
/* Bytes that it will allocate on its device. */
size_t hr_head_device_memory(const hr_head_options *options);

typedef struct hr_head hr_head;

/* Weights are initialised. With `training` false no weights are allocated: hr_head_attach gives them. */
hr_status hr_head_create(hr_ctx *ctx, const hr_head_options *options, hr_head **out);
void hr_head_destroy(hr_head *head);
int64_t hr_head_blocks(const hr_head *head);          /* V */
int64_t hr_head_block_rows(const hr_head *head);      /* rows of a block; the last one may have fewer */
const hr_head_options *hr_head_get_options(const hr_head *head);

typedef struct hr_head_batch {
    int64_t rows;                /* B, at most max_batch */
    const float *x;              /* (B, D) row-major; borrowed until return */
    hr_sparse_rows sparse;       /* the same for sparse_x */
    float weight;                /* scales the gradient and the loss; left out (0): 1 */
    int64_t num_positives;
    const uint64_t *positives;   /* internal row << 32 | batch row, ascending, no duplicates */
    const float *h, *dh;         /* HR_LOSS_GIVEN: outputs (B, L) as hr_head_forward gave them, and their gradient */
} hr_head_batch;

/* One step: logits, gradient, dX (B, D) with the old weights, update. `step` numbers the update (random draws);
 * loss may be NULL, else it gets the reduced loss of the batch, at the cost of one more pass over each logit.
 * `dx` may be the batch's x; with sparse_x there is none. HR_ERR_NUMERIC, with nothing changed, when X or the rate is not finite. Never allocates. */
hr_status hr_head_step(hr_head *head, const hr_head_batch *batch, float lr, uint64_t step, float *dx, double *loss);

/* HR_LOSS_GIVEN: the outputs h (rows, L), fma(weight, x) + bias, in f32; each is one chain of multiply-adds over its inputs, so an instance's
 * outputs do not depend on the batch it is in. */
hr_status hr_head_forward(hr_head *head, int64_t rows, const float *x, float *h);

/* ---- sparsity that moves (SET, Mocanu et al. 2018; RigL, Evci et al. 2020; Spartex, NeurIPS 2024) ---- */

/* Which connections of the fan-in and unstructured segments go: those of the smallest weights, a share `amount` of a segment's or of each label's; or all
 * below `amount`. Of shared inputs the mean of |w| over the group decides. */
typedef enum hr_prune { HR_PRUNE_FRACTION, HR_PRUNE_THRESHOLD, HR_PRUNE_PER_LABEL } hr_prune;
/* What comes instead, in the same label or group: columns it does not read yet, any, or those where the batch's gradient is largest. In an
 * unstructured segment a connection that goes is drawn anew in any label of its block, as in SET; by gradient is not defined there. */
typedef enum hr_grow { HR_GROW_RANDOM, HR_GROW_GRADIENT } hr_grow;

typedef struct hr_rewire {
    hr_prune prune;
    hr_grow grow;
    float amount;
    float init;                 /* new weights start uniform in +-init (i8r: no larger than the row's scale holds); 0: at zero. State starts at zero */
    uint64_t step;
    const hr_head_batch *batch; /* HR_GROW_GRADIENT */
} hr_rewire;

typedef struct hr_rewire_counts {
    int64_t connections, moved; /* of all fan-in segments (groups count once); pruned and grown */
    double mean_weight;         /* of |w| before */
} hr_rewire_counts;

/* Moves connections; a function of the weights, the batch, the seed and the step. Inputs stay distinct and ascending. Never allocates. */
hr_status hr_head_rewire(hr_head *head, const hr_rewire *rewire, hr_rewire_counts *counts);

/* What the sparse gradient did in the last step; all zero for a dense head. */
typedef struct hr_head_counts {
    int64_t entries, cells;       /* kept entries of G, positives included; all entries */
    int64_t touched, rows;        /* rows with an entry; all rows */
    int64_t dense_tiles, tiles;   /* tiles that took the dense backward pass; all tiles */
    float tau;
} hr_head_counts;
hr_head_counts hr_head_last_counts(const hr_head *head);

/* Top k of each row of x (B, D): ids (B, k) internal rows mapped through `external` (L), scores (B, k) logits.
 * Best first, ties by lower external id. k <= max_k given to hr_head_topk_create. */
typedef struct hr_head_topk hr_head_topk;
size_t hr_head_topk_memory(int threads, int64_t max_batch, int64_t max_k);
hr_status hr_head_topk_create(hr_ctx *ctx, int64_t max_batch, int64_t max_k, hr_head_topk **out);
void hr_head_topk_destroy(hr_ctx *ctx, hr_head_topk *work);
/* `touch` (may be NULL) is called before rows [row, row + rows) of a segment are read; a failure stops the call. */
typedef hr_status hr_head_touch_fn(void *arg, int segment, int64_t row, int64_t rows);
hr_status hr_head_top(hr_head *head, hr_head_topk *work, int64_t batch, const float *x, int64_t k, const uint32_t *external,
                      uint32_t *ids, float *scores, hr_head_touch_fn *touch, void *touch_arg);

/* The same for sparse_x. HR_ERR_DATA: an index beyond the columns; HR_ERR_NOMEM: a batch of more entries than any before. */
hr_status hr_head_top_sparse(hr_head *head, hr_head_topk *work, int64_t batch, const hr_sparse_rows *x, int64_t k, const uint32_t *external,
                             uint32_t *ids, float *scores, hr_head_touch_fn *touch, void *touch_arg);

/* ---- state ---- */

/* Views of all arrays, in a fixed order and with fixed names ("head.0.codes", ...). */
void hr_head_tensors(hr_head *head, hr_tensor_list *list);
/* Gives a scoring head its weights: shard i of segment `segment` holds rows [i * shard_rows, ...) of that segment. */
void hr_head_attach(hr_head *head, int segment, int64_t shard_rows, int num_shards, const void *const *codes,
                    const float *const *scales, const void *const *inputs);
void hr_head_attach_starts(hr_head *head, int segment, const uint32_t *starts);
void hr_head_attach_bias(hr_head *head, const float *bias);
float hr_head_alpha(const hr_head *head, int segment);
void hr_head_set_alpha(hr_head *head, int segment, float alpha);
/* What one of a segment's arrays looks like: bytes from one row of codes to the next; inputs of a label, 0: all; labels of a group. */
typedef struct hr_segment_shape {
    size_t pitch;
    int64_t fan_in, group, input_bytes;
} hr_segment_shape;
hr_segment_shape hr_head_segment_shape(const hr_head *head, int segment);
/* Gives the group of labels that begins at internal row `row` its inputs: fan_in distinct ascending columns. May be called for different
 * groups at the same time. */
void hr_head_set_inputs(hr_head *head, int64_t row, const uint32_t *inputs);
/* Whether all inputs of the segments that have some by now lie within X and ascend, as they must before the first step after a load. */
bool hr_head_inputs_valid(const hr_head *head);

#endif
