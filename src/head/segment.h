/* One segment: a family's rows of the label axis, and the interface each family fills (contract: head.h).
 * Private to src/head. */
#ifndef HR_HEAD_SEGMENT_H
#define HR_HEAD_SEGMENT_H

#include "head/head.h"
#include "kernels/kernels.h"

enum { HR_SHARDS_MAX = 64 };

typedef struct hr_segment {
    hr_segment_options o;
    const struct hr_family *family;
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
    /* head.arith=bf16: the same as pairs of columns (xt) or of instances (xp), and then those two are NULL */
    uint32_t *xt16;         /* (padded / BP, dim_padded / 2, BP) */
    uint32_t *xp16;         /* (dim_padded / DP, padded / 2, DP) */
    int64_t dim_q;          /* D rounded up to HRK_QP */
    uint8_t *xq;            /* (padded / BP, dim_q / 4, BP, 4) */
    float *x_scale;         /* (padded) */
    /* scoring only */
    const float *x;         /* (B, D) row-major */
    float *x_error;         /* (padded) at least |x - int8 x|, with what rounding may add to a score in units of |w| */
    float *x_size;          /* (padded) at least |int8 x| */
} hr_packed;

/* A search for the best labels of each query, over one tile. */
typedef struct hr_scan {
    const hrk_table *k;
    const hr_packed *x;
    float bias_scalar, *bias;   /* bias: of the tile's first label, NULL: scalar */
    float *limit;               /* (padded) only scores of at least this are wanted */
    void (*found)(void *arg, int64_t tile_row, int64_t query, float score);
    void *arg;
} hr_scan;

/* Work on partials of dX that waits (backlog.c). */
typedef enum { HR_DEFER_ZERO, HR_DEFER_DRAIN, HR_DEFER_LISTS } hr_deferred_kind;
typedef struct hr_deferred hr_deferred;

typedef struct hr_backlog {
    hr_deferred *item;
    int count;
    /* HR_DEFER_LISTS: labels with their entries, as hrk_lists; entries of label i are [start[i], start[i + 1]) */
    int64_t labels;
    int64_t *label, *start;
    uint32_t *row;
    float *g, *old, *fresh;
} hr_backlog;

enum { HR_LIST_STRIP = 16 };

/* Scratch of one worker. */
typedef struct hr_tile_scratch {
    float *w;      /* (dim_padded / DP, T, DP) decoded weights, later dW */
    float *g;      /* (padded / BP, T, BP) logits, later their gradient */
    float *zpos;   /* logits of the tile's positives */
    float *row;    /* (dim_padded) one row of dW */
    uint16_t *draws; /* (dim_padded), and (HR_LIST_STRIP, padded) */
    /* head.arith=bf16: w as pairs of columns and of labels, g as pairs of instances and of labels; T2 = T / 2 rounded up */
    uint32_t *w_by_dim;   /* (T, dim_padded / 2) */
    uint32_t *w_by_label; /* (dim_padded / DP, T2, DP) */
    uint32_t *g_by_row;   /* (padded / BP, T, BP / 2) */
    uint32_t *g_by_label; /* (padded / BP, T2, BP) */
    int8_t *wq;      /* (T, dim_q) int8 weights, with scale and sum of each row */
    float *w_scale;
    int32_t *w_sum;
    float *w_size, *w_error; /* at least |w| and |w - int8 w| of each row, in code units */
    /* the sparse gradient: entries of HR_LIST_STRIP labels */
    uint32_t *entry_row;
    float *entry_g;
    hr_backlog backlog;
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
    bool sparse;
    float tau;
    hr_rng sparse_rng, refine_rng;
    hr_head_counts *counts;         /* of the block */
    float *dx;                      /* (dim_padded / DP, B, DP) partial of the block */
    double *loss;                   /* NULL: not wanted */
} hr_tile_step;

/* What waits: `to` becomes zero, `from` is added to `to`, zeros staying behind, or the lists of labels [first, last) of the backlog, whose rows lie in `seg`. */
struct hr_deferred {
    hr_deferred_kind kind;
    float *to;
    float *from;
    hr_segment *seg;
    hr_tile_step step; /* of the tile that came first; its dx is `to` */
    int64_t first, last;
};

/* A family of segments on the CPU: everything the head asks of one (contracts: head.h). Rows are relative to the segment;
 * a tile has at most tile_rows(dim) of them. Another family, or the same one on another device, is another such table. */
typedef struct hr_family {
    const char *name;
    int64_t (*tile_rows)(int64_t dim);
    /* what create will book, by kind, and the scratch of one worker */
    size_t (*weight_bytes)(const hr_segment_options *o, int64_t dim);
    size_t (*state_bytes)(const hr_segment_options *o, int64_t dim);
    size_t (*scratch_bytes)(const hr_head_options *o);
    hr_tile_scratch (*scratch)(uint8_t *memory, const hr_head_options *o);
    hr_status (*create)(hr_ctx *ctx, hr_segment *seg);
    void (*destroy)(hr_ctx *ctx, hr_segment *seg);
    void (*init_rows)(hr_segment *seg, uint64_t seed, float init, int64_t row, int64_t rows);
    /* reports every score of the tile that reaches its query's limit, which `found` may raise. The order of reports is free, and
     * so is how they are found; the scores are hrk_dot's. */
    void (*scan)(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *scratch);
    /* one training step of a tile */
    void (*step)(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
    /* HR_DEFER_LISTS: what comes before the first panel, and one panel of columns: dX and the update */
    void (*prepare)(const hr_deferred *d, hr_tile_scratch *scratch);
    void (*panel)(const hr_deferred *d, int64_t panel, hr_tile_scratch *scratch);
    /* halves all codes of the rows (alpha has fallen below 1/2) */
    void (*halve)(hr_segment *seg, hr_rng rng, int64_t row, int64_t rows);
    /* appends views of the segment's arrays: export and import */
    void (*tensors)(hr_segment *seg, int index, hr_tensor_list *list);
} hr_family;

extern const hr_family hr_family_dense;

/* The table of a segment's family. */
const hr_family *hr_family_of(const hr_segment_options *o);

/* backlog.c */
enum { HR_BACKLOG_ITEMS = 32, HR_BACKLOG_LABELS = 4096 };
/* Adds an item; what stands in the backlog is done first when there is no room. Returns the item. */
hr_deferred *hr_defer(hr_tile_scratch *scratch, const hrk_table *k, const hr_packed *x, hr_deferred_kind kind, float *to,
                      float *from);
/* Does all that waits, in order, one panel of columns after the other. */
void hr_backlog_flush(hr_tile_scratch *scratch, const hrk_table *k, const hr_packed *x);

/* dense.c, for the other forms of the step. A tile's rows are `rows` rows of the segment from `row` on. */
float hr_dense_weight_scale(const hr_segment *seg);
/* Codes of a row of the segment to its place in f32 panels (D/DP, rows, DP), zero beyond D; w is the row's place in the first. */
void hr_dense_decode_row(const hr_segment *seg, const hrk_table *k, int64_t row, float *w, int64_t rows);
double hr_dense_loss(const hr_tile_step *s, int64_t rows, const float *z, float zscale);
/* From G in scratch->g and the decoded weights in scratch->w: dX, dW, biases, update. */
void hr_dense_backward(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch);

/* dense_bf16.c: the three products of a tile with bf16 operands, from and to the places of the f32 ones. */
void hr_dense_bf16_weights(const hr_packed *x, const hrk_table *k, int64_t rows, hr_tile_scratch *scratch);
void hr_dense_bf16_logits(const hr_packed *x, const hrk_table *k, int64_t rows, hr_tile_scratch *scratch);
void hr_dense_bf16_gradient(const hr_tile_step *step, int64_t rows, hr_tile_scratch *scratch);
void hr_dense_bf16_dx(const hr_tile_step *step, int64_t rows, float scale, const hr_tile_scratch *scratch);
/* dW of rows [r, r + n) and panel q, with row stride HRK_DP. */
void hr_dense_bf16_dw(const hr_tile_step *step, int64_t rows, int64_t q, int64_t r, int64_t n, const hr_tile_scratch *scratch,
                      float *dw);

/* dense_int8.c */
/* Logits of a tile in code units, without factor and bias, into scratch->g; wq, w_scale, ... are left in the scratch, w_size and
 * w_error only with_error. */
void hr_dense_int8_scores(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows,
                          bool with_error, hr_tile_scratch *scratch);
void hr_dense_scan(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *scratch);

/* dense_sparse.c */
int64_t hr_dense_list_capacity(int64_t tile_rows, int64_t max_batch);
void hr_dense_step_sparse(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
void hr_dense_prepare_lists(const hr_deferred *d, hr_tile_scratch *scratch);
void hr_dense_lists_panel(const hr_deferred *d, int64_t panel, hr_tile_scratch *scratch);

/* dense_update.c */
void hr_dense_halve(hr_segment *seg, hr_rng rng, int64_t row, int64_t rows);
/* The row scale of i8r after an update whose largest |v| is `most`. */
float hr_dense_fresh_scale(float scale, float most, hrk_sgd_args args);
/* The arguments of the SGD kernels for this step. */
hrk_sgd_args hr_dense_sgd_args(const hr_segment *seg, const hr_tile_step *step);
/* The update of one row from its dW, which lies in panels (D/DP, rows, DP); `panels` is the row's place in the first. */
void hr_dense_update_row(hr_segment *seg, const hr_tile_step *step, int64_t row, const float *panels, int64_t rows,
                         hr_tile_scratch *scratch);

#endif
