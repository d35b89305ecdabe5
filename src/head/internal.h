/* What head.c (life, state), step.c (training) and topk.c (scoring) share. Private to src/head. */
#ifndef HR_HEAD_INTERNAL_H
#define HR_HEAD_INTERNAL_H

#include "head/segment.h"

enum { HR_TREE_LEVELS = 10 };

/* What rewiring did in a block. */
typedef struct hr_rewire_part {
    int64_t slots, moved;
    double weight;
} hr_rewire_part;

struct hr_head {
    hr_ctx *ctx;
    hr_head_options o;
    hrk_table k;
    int64_t blocks, block_rows;  /* V, rows of a block */
    int64_t group_blocks;        /* blocks of one task, a power of two */
    int64_t chunk_groups;        /* tasks between two barriers, a power of two */
    int group_levels;            /* log2 of group_blocks */
    hr_segment segment[HR_SEGMENTS_MAX];
    float *bias;                 /* (L) per-label biases, or NULL */
    float *bias_moments;         /* (2, L) Adam's first and second moments of them, or NULL */
    bool owns_bias;
    hr_packed packed;
    hr_packed view[HR_SEGMENTS_MAX]; /* what each segment sees of it */
    hr_device_head *far;         /* on the device, which has the weights: there are none here, nor scratch */
    hr_columns columns;          /* sparse_x: the batch; of `packed` only its size is used */
    uint8_t *scratch;            /* threads x scratch_bytes */
    size_t scratch_bytes;
    int64_t partial_size;        /* floats of one dX partial */
    float *partials;             /* (chunk_groups, partial_size) */
    float *local;                /* (threads, group_levels, partial_size): unfinished subtrees of a task's blocks, zero between tasks */
    float *stack;                /* (levels, partial_size): sums of finished subtrees of chunks */
    double *block_loss;          /* (V) */
    hr_head_counts *block_counts; /* (V) of the last step */
    hr_rewire_part *rewire_part; /* (V) of the last rewiring, or NULL */
    float tau;                   /* of the last step */
    bool exact_lists;            /* squared hinge, see hr_tile_step */
};

/* A run of rows inside one segment, at most a tile high: what a block is made of. */
typedef struct hr_tile {
    int segment;
    int64_t axis_row, row, rows; /* first row on the axis, in the segment; count */
} hr_tile;

/* The tile that begins at axis row `at` in a block that ends at `end`. */
hr_tile hr_head_tile_at(const hr_head *head, int64_t at, int64_t end);
/* Packs X for what follows: the f32 or the int8 product, dW, or scoring. */
enum { HR_PACK_FORWARD = 1, HR_PACK_INT8 = 2, HR_PACK_BACKWARD = 4, HR_PACK_SCORES = 8 };
void hr_head_pack(hr_head *head, int64_t rows, const float *x, unsigned what);
/* The same for sparse X; hr_columns_fill's errors. */
hr_status hr_head_pack_sparse(hr_head *head, int64_t rows, const hr_sparse_rows *x);
hr_tile_scratch hr_head_scratch(hr_head *head, int worker);
/* step.c: what a tile of `rows` labels from axis row `at` on needs to know of the batch; the caller adds rates and draws. */
hr_tile_step hr_head_tile_step(hr_head *head, const hr_head_batch *batch, int segment, int64_t at, int64_t rows, float gscale);
/* far.c: the step of a head on a device, between the checks and what becomes of alpha; `adam` of each segment. */
hr_status hr_far_create(hr_head *head);
void hr_far_destroy(hr_head *head);
/* HR_ERR_NUMERIC where X leaves the range of f16, which the device's products may have. */
hr_status hr_far_check(hr_head *head, const hr_head_batch *batch);
hr_status hr_far_step(hr_head *head, const hr_head_batch *batch, float lr, const float *new_alpha, const hr_adam_law *adam, uint64_t step,
                      float *dx, double *loss);
hr_status hr_far_halve(hr_head *head, int segment, uint64_t step);
hr_status hr_far_top(hr_head *head, int64_t batch, const float *x, int64_t k, const uint32_t *external, uint32_t *ids, float *scores);
/* Makes a tensor of an array that is on the device. */
void hr_far_tensor(hr_head *head, int segment, hr_device_array array, hr_tensor *t);
/* What the sum of all losses is multiplied by: the reduction and the task's weight. */
double hr_head_loss_factor(const hr_head_options *o, const hr_head_batch *batch);

#endif
