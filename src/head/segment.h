/* One segment: a family's rows of the label axis, and the interface each family fills (contract: head.h).
 * Private to src/head. */
#ifndef HR_HEAD_SEGMENT_H
#define HR_HEAD_SEGMENT_H

#include "head/head.h"
#include "backend/device.h"
#include "dtype/update.h"
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

enum { HR_SHARDS_MAX = 64 };

/* n, up to a multiple of `to`. */
static inline int64_t hr_pad(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

typedef struct hr_segment {
    hr_segment_options o;
    const struct hr_family *family;
    int64_t first_row; /* on the internal axis */
    int64_t first_column, dim; /* the slice of X it reads */
    int64_t width;     /* weights of a row: dim, or fan_in; unstructured: at most dim */
    int64_t group;     /* fan-in: labels that share their inputs; else 1 */
    unsigned tensor;   /* random number of the weights; tensor + 1: of the momentum */
    size_t pitch;      /* bytes of a row of codes */
    int num_shards;
    int64_t shard_rows;
    uint8_t *codes[HR_SHARDS_MAX];
    float *scales[HR_SHARDS_MAX]; /* i8r: one for each row */
    void *inputs[HR_SHARDS_MAX];  /* fan-in: (rows / group, width) ascending columns of the slice, u16, or u32 if dim > 65536 */
    uint32_t *starts;  /* unstructured: (rows + 1) where rows begin in codes, inputs and state, which have no gaps; else NULL */
    uint16_t *comp;    /* kahan: (rows, width) bf16, code units */
    void *momentum;    /* (rows, width) state_dtype: momentum, or Adam's first moment */
    void *second;      /* (rows, width) state_dtype: Adam's second moment */
    float alpha;
} hr_segment;

/* Weights of a row, and where they begin in arrays without padding. */
static inline int64_t hr_row_width(const hr_segment *seg, int64_t row)
{
    return seg->starts ? (int64_t)seg->starts[row + 1] - seg->starts[row] : seg->width;
}
static inline int64_t hr_row_place(const hr_segment *seg, int64_t row)
{
    return seg->starts ? (int64_t)seg->starts[row] : row * seg->width;
}
static inline uint8_t *hr_segment_row(const hr_segment *seg, int64_t row)
{
    if (seg->starts)
        return seg->codes[0] + (size_t)seg->starts[row] * seg->o.dtype.bytes;
    return seg->codes[row / seg->shard_rows] + (size_t)(row % seg->shard_rows) * seg->pitch;
}
static inline float *hr_segment_scale(const hr_segment *seg, int64_t row)
{
    return &seg->scales[row / seg->shard_rows][row % seg->shard_rows];
}

/* Bytes of one input of a fan-in segment. */
static inline size_t hr_input_bytes(int64_t dim)
{
    return dim <= 65536 ? sizeof(uint16_t) : sizeof(uint32_t);
}

/* The packed batch, shared by all tiles of a step; or what a segment sees of it, a slice of the columns. The steps from one panel of
 * instances to the next are those of the whole. */
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
    uint8_t *xc;            /* (B / IP rounded up, D, IP): a column's bytes, in the order of hrk_byte_place; where a segment wants it */
    int64_t xt_step, xt16_step, xq_step, xc_step, x_step; /* of xt, xt16, xq, xc, and x from one instance to the next */
    float *x_scale;         /* (padded) */
    /* scoring only */
    const float *x;         /* (B, D) row-major */
    float *x_error;         /* (padded) at least |x - int8 x|, with what rounding may add to a score in units of |w| */
    float *x_size;          /* (padded) at least |int8 x| */
} hr_packed;

/* The batch of sparse X, by columns (sparse_x.c). */
typedef struct hr_columns {
    hrk_columns x;
    uint32_t *present, *list; /* (D / 32 rounded up), (D) */
    int64_t room;             /* entries that there is room for, and with as many lists: */
    uint32_t *start;          /* (room + 2) */
    uint32_t *column;         /* (room) of each list */
    uint16_t *row;            /* (room) */
    float *value;
    int64_t lists;            /* of the last batch */
} hr_columns;

/* A search for the best labels of each query, over one tile. */
typedef struct hr_scan {
    const hrk_table *k;
    const hr_packed *x;
    const hr_columns *columns;
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
    int64_t labels, capacity, entries; /* of them at most so many labels; more than so many entries do not wait */
    int64_t *label, *start;
    uint32_t *row;
    float *g, *old, *fresh;
    /* of labels of a fan-in segment: (labels, width) weights times their scale, and dW; where its inputs begin, and the next of them */
    float *sw, *dw;
    int64_t *input, *at;
} hr_backlog;

/* What rewiring knows about the slots of one row, or of one group that shares its inputs; too much for a small thread's stack. */
typedef struct hr_rewire_slots {
    float value[HR_FAN_IN_MAX], size[HR_FAN_IN_MAX];
    uint16_t draw[HR_FAN_IN_MAX];
    uint64_t key[HR_FAN_IN_MAX];
    uint32_t inputs[HR_FAN_IN_MAX], grown[HR_FAN_IN_MAX], fresh[HR_FAN_IN_MAX];
    int32_t from[HR_FAN_IN_MAX];
    uint8_t old[HR_FAN_IN_MAX * sizeof(float)];
    bool gone[HR_FAN_IN_MAX];
} hr_rewire_slots;

enum { HR_LIST_STRIP = 16, HR_LINKS = 1024, HR_REWIRE_BINS = 4096, HR_GROW_ROWS = 8 };

/* Scratch of one worker, as large as the largest segment needs (tile.c). T: labels of a tile; K: width, padded to HRK_DP. */
typedef struct hr_tile_scratch {
    float *w;      /* (K / DP, T, DP) decoded weights, later dW */
    float *g;      /* (padded / BP, T, BP) logits, later their gradient */
    float *zpos;   /* logits of the tile's positives */
    float *row;    /* (K) one row of dW */
    uint16_t *draws; /* (K), and (HR_LIST_STRIP, padded) */
    /* head.arith=bf16: w as pairs of columns and of labels, g as pairs of instances and of labels; T2 = T / 2 rounded up */
    uint32_t *w_by_dim;   /* (T, K / 2) */
    uint32_t *w_by_label; /* (K / DP, T2, DP) */
    uint32_t *g_by_row;   /* (padded / BP, T, BP / 2) */
    uint32_t *g_by_label; /* (padded / BP, T2, BP) */
    int8_t *wq;      /* (T, K) int8 weights, with scale and sum of each row */
    float *w_scale;
    int32_t *w_sum;
    float *w_size, *w_error; /* at least |w| and |w - int8 w| of each row, in code units */
    /* the sparse gradient: entries of HR_LIST_STRIP labels */
    uint32_t *entry_row;
    float *entry_g;
    hr_backlog backlog;
    const hr_packed *whole; /* the batch with all columns */
    uint32_t *hit, *hit_list; /* sparse X: (width + 16) inputs of a group that have entries, and their lists */
    /* fan-in */
    uint32_t *inputs;     /* (T / group, width), rows without gaps */
    int64_t *input_at;    /* (T + 1) where those of a label begin, if none are shared */
    float *dw;            /* (K / DP, T, DP) */
    float *xg;            /* (T / group, padded / BP, width, BP) the inputs of shared groups */
    uint8_t *xgq;         /* (padded / BP, K / 4, BP, 4) the same of one group in int8 */
    hrk_link *links, *sorted; /* (T * width) */
    float *chains;        /* (HR_LINKS, 16) */
    float *dxt;           /* (padded / BP, dim, BP) partial of dX of the segment's rows in a block; zero between blocks */
    bool dxt_used;
    /* rewiring */
    int64_t *histogram;   /* (HR_REWIRE_BINS) */
    hr_rewire_slots *slots;
    uint64_t *unread;     /* (dim / 64) columns that they do not read */
    float *grow;          /* (HR_GROW_ROWS, dim) sizes of the gradient at all columns */
    /* unstructured: the connections of a block, at most hr_block_connections: which go; what they become, and from where; what they were */
    bool *gone;
    uint32_t *new_input, *old;
    int64_t *new_from;
    uint32_t *new_count;  /* (rows of a block + 1) */
} hr_tile_scratch;

/* What a tile needs to know of the step. */
typedef struct hr_tile_step {
    const hrk_table *k;
    const hr_packed *x;             /* the segment's slice */
    const hr_columns *columns;      /* sparse X; then of x only the batch's size is there */
    const uint64_t *positives;      /* of this tile: internal row << 32 | batch row */
    int64_t num_positives;
    int64_t axis_row;               /* internal row of the tile's first label */
    hr_loss loss_type;
    float gscale;                   /* reduction */
    float bias_scalar, *bias;       /* bias: of the tile's first label, NULL: scalar */
    float *bias_m, *bias_v;         /* Adam's moments of biases, of the tile's first label */
    bool eager, low_precision;
    float lr, weight_decay, new_alpha;
    hr_rng rng, momentum_rng, second_rng, rescale_rng;
    hr_adam_law adam;
    const float *h, *dh;            /* HR_LOSS_GIVEN: (B, units) of the whole batch */
    int64_t units;
    bool relu;
    bool sparse;                    /* the sparse gradient */
    bool exact_lists;               /* squared hinge: a tile of few non-zero entries takes the way of the lists */
    float tau;
    hr_rng sparse_rng, refine_rng;
    hr_head_counts *counts;         /* of the block */
    float *dx;                      /* (dim_padded / DP, B, DP) partial of the block, the segment's slice */
    double *loss;                   /* NULL: not wanted */
} hr_tile_step;

/* What waits: `to` becomes zero, `from` is added to `to`, zeros staying behind, or the lists of labels [first, last) of the backlog, whose
 * rows lie in `seg`. */
struct hr_deferred {
    hr_deferred_kind kind;
    float *to;
    float *from;
    hr_segment *seg;
    hr_tile_step step; /* of the tile that came first; its dx is `to`, the segment's slice */
    int64_t first, last;
};

/* A family of segments on the CPU: everything the head asks of one that depends on which inputs a label has (contracts: head.h). Rows are
 * relative to the segment; a tile has at most tile_rows of them. Another family, or the same one on another device, is another such
 * table. */
typedef struct hr_family {
    const char *name;
    int64_t (*tile_rows)(const hr_segment_options *o, int64_t dim);
    /* NULL but where X is sparse, and then all there is: a tile's whole step; its search, as hr_scan_tile. */
    void (*step)(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
    bool (*scan)(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *scratch);
    /* Logits of a tile in code units, without factor and bias, into scratch->g, from the decoded weights in scratch->w; false: an
     * input of the segment, read from a file, lies outside the slice. */
    bool (*logits)(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, hr_tile_scratch *scratch);
    /* The same from the int8 weights that hr_tile_int8_weights has left in the scratch. */
    bool (*int8_logits)(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows,
                        hr_tile_scratch *scratch);
    /* From G in scratch->g and the decoded weights: dX. */
    void (*dx)(const hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
    /* dW of rows [r, r + n) of the tile and panel q, rows HRK_DP apart; it may lie in `into`, which has room for it. Called after dx. */
    const float *(*dw)(const hr_segment *seg, const hr_tile_step *step, int64_t rows, int64_t q, int64_t r, int64_t n,
                       hr_tile_scratch *scratch, float *into);
    /* What of dX is still kept elsewhere joins the partial: after the segment's last tile in a block. NULL: nothing. */
    void (*settle)(const hr_segment *seg, const hr_tile_step *step, hr_tile_scratch *scratch);
    /* HR_DEFER_LISTS: what comes before the first panel; panels [first, end) of the slice: dX and dW; what comes after the last. */
    void (*lists_begin)(const hr_deferred *d, hr_tile_scratch *scratch);
    void (*lists_panels)(const hr_deferred *d, int64_t first, int64_t end, hr_tile_scratch *scratch);
    void (*lists_end)(const hr_deferred *d, hr_tile_scratch *scratch);
    /* Dot products of rows [row, row + rows) of one tile with a query, as hrk_dot; false as for logits. */
    bool (*dot)(const hr_segment *seg, const hrk_table *k, const hr_packed *x, int64_t row, int64_t rows, int64_t query, float *out);
} hr_family;

extern const hr_family hr_family_dense, hr_family_fan_in, hr_family_sparse_x;

/* The table of a segment's family. */
const hr_family *hr_family_of(const hr_head_options *o, const hr_segment_options *s);

/* ---- rows.c: the rows of weights, whatever their inputs are ---- */

/* Segment i of the options, without weights. */
hr_segment hr_segment_make(const hr_head_options *o, int i);
size_t hr_rows_weight_bytes(const hr_segment *seg);
size_t hr_rows_state_bytes(const hr_segment *seg);
hr_status hr_rows_create(hr_ctx *ctx, hr_segment *seg);
void hr_rows_destroy(hr_ctx *ctx, hr_segment *seg);
void hr_rows_init(hr_segment *seg, uint64_t seed, int64_t row, int64_t rows);
/* Appends views of the segment's arrays. */
/* With `is_far`, of arrays that are not here; the caller says where. */
void hr_rows_tensors(hr_segment *seg, const char *head, int index, bool is_far, hr_tensor_list *list);
/* alpha 2^-s: what a code is multiplied by. */
float hr_rows_scale(const hr_segment *seg);
/* Codes of a row to its place in f32 panels (K / DP, rows, DP), zero beyond the width; w is the row's place in the first. */
void hr_rows_decode(const hr_segment *seg, const hrk_table *k, int64_t row, float *w, int64_t rows);
/* The arguments of the SGD kernels for this step. */
hrk_sgd_args hr_rows_sgd_args(const hr_segment *seg, const hr_tile_step *step);
/* The row scale of i8r after an update whose largest |v| is `most`. */
/* The update of one row from its dW (K), which is overwritten. */
void hr_rows_update(hr_segment *seg, const hr_tile_step *step, int64_t row, float *dw, hr_tile_scratch *scratch);
/* Whether rows must be updated as a whole: row scale, compensation, momentum. */
bool hr_rows_whole(const hr_segment *seg);
/* Halves all codes of the rows (alpha has fallen below 1/2). */
void hr_rows_halve(hr_segment *seg, hr_rng rng, int64_t row, int64_t rows);

/* ---- head.c ---- */

/* V, and the rows of a block. */
int64_t hr_head_count_blocks(const hr_head_options *o, int64_t *block_rows);
/* A bound on the connections of an unstructured segment in a block: the mean and ten standard deviations. */
int64_t hr_block_connections(const hr_head_options *o, const hr_segment_options *s);

/* ---- tile.c: a tile's step ---- */

/* The scratch of a worker for all segments of a head, laid out from `memory`; its size. NULL: only the size. */
size_t hr_tile_scratch_make(uint8_t *memory, const hr_head_options *o, hr_tile_scratch *out);
void hr_tile_decode(const hr_segment *seg, const hrk_table *k, int64_t row, int64_t rows, hr_tile_scratch *scratch);
/* int8 weights of a tile into the scratch, w_size and w_error only with_error. */
void hr_tile_int8_weights(const hr_segment *seg, const hrk_table *k, int64_t row, int64_t rows, bool with_error,
                          hr_tile_scratch *scratch);
/* Where (label t, batch row b) stands in a tile of `rows` labels. */
static inline int64_t hr_tile_place(int64_t t, int64_t b, int64_t rows)
{
    return (b / HRK_BP * rows + t) * HRK_BP + b % HRK_BP;
}
/* Logits in scratch->g to their gradient, in place. */
void hr_tile_gradient(const hr_segment *seg, const hr_tile_step *s, int64_t rows, hr_tile_scratch *scratch);
double hr_tile_loss(const hr_tile_step *s, int64_t rows, const float *z, float zscale);
/* A label's own bias: SGD or Adam, as the segment's weights, on the sum of its gradient over the batch. */
void hr_tile_update_bias(const hr_segment *seg, const hr_tile_step *s, int64_t t, float sum);
/* From G in scratch->g and the decoded weights in scratch->w: dX, dW, biases, update. */
void hr_tile_backward(hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, hr_tile_scratch *scratch);
/* HR_LOSS_GIVEN: the outputs of a tile into h (B, units). */
void hr_tile_outputs(const hr_segment *seg, const hr_tile_step *s, int64_t row, int64_t rows, float *h, hr_tile_scratch *scratch);
/* One training step of a tile. */
void hr_tile_step_run(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);

/* ---- lists.c: gradients of few entries ---- */

int64_t hr_lists_capacity(int64_t tile_rows, int64_t max_batch, int64_t labels);
/* A step with the sparse gradient. */
void hr_lists_step(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
/* The non-zero entries of G in scratch->g as lists; false, with nothing done, when they are many. */
bool hr_lists_from_gradient(hr_segment *seg, const hr_tile_step *step, int64_t row, int64_t rows, hr_tile_scratch *scratch);
/* Labels [from, from + n) of the backlog. */
hrk_lists hr_lists_of(const hr_backlog *b, int64_t from, int64_t n);

/* ---- scan.c ---- */

/* Reports every score of the tile that reaches its query's limit, which `found` may raise. The order of reports is free, and so is how
 * they are found; the scores are hrk_dot's. false: the segment's inputs are damaged. */
bool hr_scan_tile(const hr_segment *seg, const hr_scan *scan, int64_t row, int64_t rows, hr_tile_scratch *scratch);

/* ---- backlog.c ---- */

enum { HR_BACKLOG_ITEMS = 32, HR_BACKLOG_LABELS = 4096 };
/* Adds an item; what stands in the backlog is done first when there is no room. Returns the item. */
hr_deferred *hr_defer(hr_tile_scratch *scratch, const hrk_table *k, hr_deferred_kind kind, float *to, float *from);
/* Does all that waits, in order, some panels of columns after the other. */
void hr_backlog_flush(hr_tile_scratch *scratch, const hrk_table *k);

/* ---- fan_in.c ---- */

/* unstructured: how many connections each row has, a random share of all. */
void hr_fan_in_start(hr_segment *seg, uint64_t seed);
/* Draws the inputs of the groups that begin in rows [row, row + rows): distinct, ascending. */
void hr_fan_in_init(hr_segment *seg, uint64_t seed, int64_t row, int64_t rows);
/* Whether all inputs lie within the slice and ascend, as they must before a step. */
bool hr_fan_in_valid(const hr_segment *seg);
/* The inputs of a group as u32; the largest of them. */
uint32_t hr_fan_in_read(const hr_segment *seg, int64_t group, uint32_t *out);
void hr_fan_in_store(const hr_segment *seg, int64_t group, const uint32_t *inputs);
/* The inputs of a group as they are stored, in hr_input_bytes each. */
const void *hr_fan_in_stored(const hr_segment *seg, int64_t group);

/* ---- sparse_x.c ---- */

/* Bytes of the columns of a batch with so many entries. */
size_t hr_columns_memory(int64_t dim, int64_t max_entries);
hr_status hr_columns_create(hr_ctx *ctx, int64_t dim, int64_t max_entries, hr_columns *out);
void hr_columns_destroy(hr_ctx *ctx, hr_columns *columns);
/* The batch by columns, without its zeros. HR_ERR_NUMERIC: a value that is not finite or of 2^60 or more; HR_ERR_DATA: an index beyond the
 * columns; HR_ERR_NOMEM: more entries than there was room for. The columns are then those of an empty batch, or of the one before. */
hr_status hr_columns_fill(hr_ctx *ctx, hr_columns *columns, int64_t rows, const hr_sparse_rows *x);

/* ---- dense_bf16.c: the three products of a dense tile with bf16 operands, from and to the places of the f32 ones ---- */

void hr_dense_bf16_logits(const hr_packed *x, const hrk_table *k, int64_t rows, hr_tile_scratch *scratch);
void hr_dense_bf16_dx(const hr_tile_step *step, int64_t rows, float scale, hr_tile_scratch *scratch);
/* dW of rows [r, r + n) and panel q, with row stride HRK_DP. */
void hr_dense_bf16_dw(const hr_tile_step *step, int64_t rows, int64_t q, int64_t r, int64_t n, const hr_tile_scratch *scratch,
                      float *dw);

#endif
