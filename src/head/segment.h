/* One segment: a family's rows of the label axis, and the interface each family fills (contract: head.h).
 * Private to src/head. */
#ifndef HR_HEAD_SEGMENT_H
#define HR_HEAD_SEGMENT_H

#include "head/head.h"
#include "kernels/kernels.h"

enum { HR_SHARDS_MAX = 64 };

typedef struct hr_segment {
    hr_segment_options o;
    int64_t first_row; /* on the internal axis */
    int64_t dim;
    unsigned tensor;   /* random number of the weights; tensor + 1: of the momentum */
    size_t pitch;      /* bytes of a row of codes */
    int num_shards;
    int64_t shard_rows;
    uint8_t *codes[HR_SHARDS_MAX];
    float *scales[HR_SHARDS_MAX]; /* i8r: one for each row */
    uint16_t *comp;    /* kahan: (rows, D) bf16, code units */
    void *momentum;    /* (rows, D) momentum_dtype */
    float alpha;
} hr_segment;

static inline uint8_t *hr_segment_row(const hr_segment *seg, int64_t row)
{
    return seg->codes[row / seg->shard_rows] + (size_t)(row % seg->shard_rows) * seg->pitch;
}
static inline float *hr_segment_scale(const hr_segment *seg, int64_t row)
{
    return &seg->scales[row / seg->shard_rows][row % seg->shard_rows];
}

/* The packed batch, shared by all tiles of a step. */
typedef struct hr_packed {
    int64_t rows, padded;   /* B, B rounded up to HRK_BP */
    int64_t dim, dim_padded; /* D, D rounded up to HRK_DP */
    float *xt;              /* (padded / BP, D, BP) */
    float *xp;              /* (dim_padded / DP, B, DP) */
} hr_packed;

/* Scratch of one worker. */
typedef struct hr_tile_scratch {
    float *w;      /* (dim_padded / DP, T, DP) decoded weights, later dW */
    float *g;      /* (padded / BP, T, BP) logits, later their gradient */
    float *zpos;   /* logits of the tile's positives */
    float *row;    /* (dim_padded) one row of dW */
    uint16_t *draws; /* (dim_padded) */
} hr_tile_scratch;

/* What a tile needs to know of the step. */
typedef struct hr_tile_step {
    const hrk_table *k;
    const hr_packed *x;
    const uint64_t *positives;      /* of this tile: internal row << 32 | batch row */
    int64_t num_positives;
    int64_t axis_row;               /* internal row of the tile's first label */
    hr_loss loss_type;
    float gscale;                   /* reduction */
    float bias_scalar, *bias;       /* bias: of the tile's first label, NULL: scalar */
    bool eager, low_precision;
    float lr, weight_decay, new_alpha;
    hr_rng rng, momentum_rng, rescale_rng;
    float *dx;                      /* (dim_padded / DP, B, DP) partial of the block */
    double *loss;                   /* NULL: not wanted */
} hr_tile_step;

/* Dense family. Rows are relative to the segment; rows <= HR tile height. */
int64_t hr_dense_tile(int64_t dim);
size_t hr_dense_weight_bytes(const hr_segment_options *o, int64_t dim);
size_t hr_dense_state_bytes(const hr_segment_options *o, int64_t dim);
size_t hr_dense_scratch_bytes(int64_t dim, int64_t max_batch);
hr_status hr_dense_create(hr_ctx *ctx, hr_segment *seg);
void hr_dense_destroy(hr_ctx *ctx, hr_segment *seg);
void hr_dense_init_rows(hr_segment *seg, uint64_t seed, float init, int64_t row, int64_t rows);
hr_tile_scratch hr_dense_scratch(uint8_t *memory, int64_t dim, int64_t max_batch);
void hr_dense_scores(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows,
                     hr_tile_scratch *scratch);
void hr_dense_step(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
/* Halves all codes of the rows (alpha has fallen below 1/2). */
void hr_dense_halve(hr_segment *seg, hr_rng rng, int64_t row, int64_t rows);
void hr_dense_tensors(hr_segment *seg, int index, hr_tensor_list *list);

/* Updates of one row that need more than the SGD kernel: dense_update.c. dw is in seg's row order, D long. */
void hr_dense_update_row(hr_segment *seg, const hr_tile_step *step, int64_t row, float *dw, hr_tile_scratch *scratch);

#endif
