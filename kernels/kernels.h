/* The contract of every kernel, and the table of function pointers.
 *
 * A kernel is leaf arithmetic: plain pointers and numbers, no allocation, no failure, no threads. Sums run in one
 * stated order with fused multiply-adds, so all variants of a kernel give the same bits (tests/kernels).
 * kernels.def lists every implementation; the last line that the machine can run wins.
 *
 * Panels. The batch is packed in panels of HRK_BP instances and the width in panels of HRK_DP columns:
 *   xt (B/BP, D, BP)   X for logits          w  (D/DP, T, DP)  a tile of T labels, decoded
 *   xp (D/DP, B, DP)   X for dW              g  (B/BP, T, BP)  logits, then their gradient
 * with the last panel padded by zeros. The int8 product has the batch as
 *   xq (B/BP, DQ/4, BP, 4)   q + 128, unsigned, DQ = D rounded up to HRK_QP
 * and rows of W as DQ signed bytes, both zero (128) beyond D. */
#ifndef HRK_KERNELS_H
#define HRK_KERNELS_H

#include "base/rng.h"
#include "dtype/dtype.h"

enum { HRK_BP = 32, HRK_DP = 64, HRK_QP = 64, HRK_IP = 64 };

/* A strided left operand: element (m, k) is a[m * row + (k / kb) * block + (k % kb) * step]. */
typedef struct hrk_left {
    const float *a;
    int64_t row, step, kb, block;
} hrk_left;

/* c[m][j] <- scale * s          (accumulate == 0)
 *            fma(scale, s, c)   (accumulate == 1),   s = sum over k = 0..K-1, in order, of fma(A(m, k), panel[k][j], s)
 * panel (K, width) with `width` = HRK_BP or HRK_DP; c (M, width) with row stride ldc. M or K may be 0. */
typedef void hrk_gemm_panel_fn(int64_t M, int64_t K, hrk_left A, const float *panel, float *c, int64_t ldc, float scale,
                               int accumulate);

/* The same on bf16, two of a sum at a time (dtype/pairs.h): K pairs, s = hr_pair_dot(A(m, k), panel[k][j], s), k = 0, 1, ... */
typedef struct hrk_left16 {
    const uint32_t *a;
    int64_t row, step, kb, block;
} hrk_left16;
typedef void hrk_gemm16_fn(int64_t M, int64_t K, hrk_left16 A, const uint32_t *panel, float *c, int64_t ldc, float scale,
                           int accumulate);
/* out[i] = hr_bf16_operand of lo[i] below that of hi[i] (NULL: zeros). */
typedef void hrk_pair_fn(int64_t n, const float *lo, const float *hi, uint32_t *out);
/* out[i] = the pair v[2i], v[2i + 1], i < n / 2; n is even. */
typedef void hrk_pair_row_fn(int64_t n, const float *v, uint32_t *out);

/* out[i] = the 16-bit draw of (row, i), i < n. */
typedef void hrk_draws_fn(hr_rng rng, uint32_t row, int64_t n, uint16_t *out);
/* out[r * HRK_DP + i] = the draw of (row + which[r], column + i), r < rows, i < HRK_DP; which = NULL: 0, 1, 2, ...; column is a
 * multiple of 8. */
typedef void hrk_draws_panel_fn(hr_rng rng, uint32_t row, int64_t rows, const int64_t *which, int64_t column, uint16_t *out);

/* z[i] <- fma(zscale, z[i], bias), then: */
typedef struct hrk_grad_args {
    float zscale, bias, gscale;
    int low_precision; /* 1: logits and gradient are rounded to bf16 (nearest), as ELMO's code does */
} hrk_grad_args;
/* z[i] <- gscale * sigmoid(z[i]): the gradient of BCE for a negative. */
typedef void hrk_grad_bce_fn(int64_t n, float *z, hrk_grad_args args);
/* z[i] <- gscale * 2 max(0, 1 + z[i]): the gradient of the squared hinge for a negative. */
typedef void hrk_grad_hinge_fn(int64_t n, float *z, hrk_grad_args args);

/* out[i] = value of code i; `scale` is the row scale of i8r, else unused. */
typedef void hrk_decode_fn(int64_t n, const void *codes, float scale, hr_dtype dtype, float *out);
/* The same, columns going to panels of a tile: value i to out[i / HRK_DP * stride + i % HRK_DP]. */
typedef void hrk_decode_row_fn(int64_t n, const void *codes, float scale, hr_dtype dtype, int64_t stride, float *out);

/* One SGD step on a row of codes, in code units: v = fma(-step, dw[i], keep * c[i]), rounded and stored.
 * keep = 1 but for eager weight decay. draws (n) are read by stochastic roundings only. */
typedef struct hrk_sgd_args {
    float step, keep;
    hr_rounding rounding;
    hr_dtype dtype;
} hrk_sgd_args;
typedef void hrk_sgd_fn(int64_t n, void *codes, const float *dw, const uint16_t *draws, hrk_sgd_args args);

/* The same for a block of a tile: rows of n <= HRK_DP codes, `pitch` bytes apart, whose decoded values are in w already.
 * Rows of w, dw and draws are HRK_DP apart. Not for i8r. */
typedef void hrk_sgd_panel_fn(int64_t rows, int64_t n, void *codes, size_t pitch, const float *w, const float *dw,
                              const uint16_t *draws, hrk_sgd_args args);

/* i8r needs two passes: the largest |v| of the row, then the update from the old row scale to the new one. */
typedef float hrk_absmax_i8r_fn(int64_t n, const int8_t *codes, float scale, const float *dw, hrk_sgd_args args);
typedef void hrk_sgd_i8r_fn(int64_t n, int8_t *codes, float scale, float new_scale, const float *dw, const uint16_t *draws,
                            hrk_sgd_args args);

/* int8 with one scale: q[i] = v[i] / scale, to nearest, ties to even, where v[i] is the value of code i. The scale is
 *   of 8-bit floats  the power of two for which 64 <= max |q| < 128: the upper four binades of e4m3 stay exact
 *   of i8r           `row_scale`, and q is the code
 *   of the others    max |v| / 127
 * for a row of floats all below 2^-100 it is 0, for one with an infinity or NaN it is NaN, and q is 0. */
typedef struct hrk_quantized {
    float scale;
    int32_t sum, square; /* of q and q^2 */
    int32_t rounded;     /* values that are not q * scale; each is off by at most scale / 2 (of the others: and 3 * 2^-24 |v|) */
} hrk_quantized;
/* with_error = 0: square and rounded are not wanted, and 0. */
typedef hrk_quantized hrk_quantize_fn(int64_t n, const void *codes, float row_scale, hr_dtype dtype, int with_error, int8_t *q);

/* The int8 product: c[m][j] = s * (w_scale[m] * x_scale[j]), s = sum over k < 4 * groups of w[m * pitch + k] * (x - 128), exact
 * (below 2^31 for 4 * groups <= 131,072), converted to float. x (groups, BP, 4); c (M, BP) with row stride BP.
 * On the way it asks the memory for the next `ahead_bytes` bytes from `ahead`, evenly: asked for in one burst, most are lost. */
typedef void hrk_gemm_i8_fn(int64_t M, int64_t groups, const int8_t *w, int64_t pitch, const int32_t *w_sum, const float *w_scale,
                            const uint8_t *x, const float *x_scale, float *c, const uint8_t *ahead, size_t ahead_bytes);

/* The gradient of M labels, label + m, as lists: hr_keep (dtype/keep.h) on fma(zscale, z, bias[m]) for b < n. z of (m, b) is at
 * z[b / BP * stride + m * BP + b % BP], readable to the end of the last panel, as are the draws, rows of `pitch`. Kept entries go to
 * row[], g[] (gscale * value), label by label, in the order of b; both have room for M * n. end[m] <- the number of entries of labels
 * 0 .. m. */
typedef struct hrk_sparsify_args {
    float zscale, gscale, tau; /* tau: 0, or at least 2^-40, and below 1 */
    const float *bias;
    hr_rng refine;
    uint32_t label;
} hrk_sparsify_args;
typedef void hrk_sparsify_fn(int64_t M, int64_t n, const float *z, int64_t stride, const uint16_t *draws, int64_t pitch,
                             hrk_sparsify_args args, uint32_t *row, float *g, int64_t *end);

/* The gradient of some labels as lists: label m stands in row `label[m]` of the codes and has entries start[m] .. start[m + 1] - 1 of
 * row[], g[]. Of an i8r row, `old` and `fresh` are the scale before and after the update. */
typedef struct hrk_lists {
    int64_t count;
    const int64_t *label, *start;
    const uint32_t *row;
    const float *g, *old, *fresh;
} hrk_lists;

/* Backward and update of those labels for one panel of n <= DP columns, in one pass over the codes:
 *   dx[row][j] <- fma(scale * g, w[m][j], dx[row][j])    with w, the values of the codes before the update,
 *   dw[m][j]    = sum of g * x[row][j], by fused multiply-adds in the order of the list,
 * and the codes are updated as by sgd or sgd_i8r. x, dx (B, DP), x zero beyond n; draws (count, DP), read by stochastic roundings
 * only; `codes` is the panel's first column in row 0, rows are `pitch` bytes apart. */
typedef void hrk_sparse_sgd_fn(const hrk_lists *l, float scale, const float *x, float *dx, int64_t n, void *codes, size_t pitch,
                               const uint16_t *draws, hrk_sgd_args args);
/* most[m] <- the larger of it and all |v| of absmax_i8r with that dw. */
typedef void hrk_sparse_absmax_fn(const hrk_lists *l, const float *x, int64_t n, const int8_t *codes, size_t pitch, hrk_sgd_args args,
                                  float *most);

/* The scores of M labels, whatever path found them: out[m] = f * sum of v[i] * x[i] in 16 chains of fused multiply-adds, chain i % 16,
 * then chains i and i + 8 are added, i and i + 4, i and i + 2, i and i + 1. v[i] is the value of code i of row codes + m * pitch, with
 * f = 1; but for e4m3 it is 2^-8 of the value and f = 2^8, and for i8r the code itself and f = row_scale[m] (else unused). */
typedef void hrk_dot_fn(int64_t M, int64_t n, const void *codes, size_t pitch, const float *row_scale, hr_dtype dtype, const float *x,
                        float *out);

/* Which of BP queries a label may still reach, as bits: z[j] is a score with an error of at most size * x_error[j] + error * x_size[j],
 * and query j wants fma(zscale, score, bias) >= limit[j], zscale >= 0. Never leaves one out; what is not a number passes. */
typedef struct hrk_reach_args {
    float zscale, bias, size, error;
} hrk_reach_args;
typedef uint32_t hrk_reach_fn(const float *z, hrk_reach_args args, const float *x_error, const float *x_size, const float *limit);

/* ---- fan-in: labels with K inputs of their own, or one such row of inputs for a group of labels ---- */

/* c[m][j] <- s, s = sum over k = 0..K-1, in order, of fma(A(m, k), panel[inputs[m * K + k]][j], s); panel (D, BP), c (M, BP). */
typedef void hrk_fan_logits_fn(int64_t M, int64_t K, const uint32_t *inputs, hrk_left A, const float *panel, float *c);

/* One weight of a tile: its column of X, its label's row in G, its place in dW, and its value times the factor of dX. */
typedef struct hrk_link {
    uint32_t column, row, slot;
    float w;
} hrk_link;

/* Backward of n links for `panels` panels of instances (at most FAN_PANELS, one after the other in steps of g_step, x_step, dx_step), links
 * of a column one after the other:
 *   dx[column][b] <- fma(w, g[row][b], dx[column][b]), link by link,
 *   chains[i][b % 16] <- fma(g[row][b], x[column][b], chains[i][b % 16]) for link i; they begin at zero if `first`,
 *   dw[slot] <- the sum of link i's chains, as hrk_dot_fn adds them, if `last`. chains may be NULL if both. */
enum { HRK_FAN_PANELS = 4 };
typedef struct hrk_fan_args {
    const float *g, *x;
    float *dx, *chains, *dw;
    int64_t panels, g_step, x_step, dx_step;
    int first, last;
} hrk_fan_args;
typedef void hrk_fan_backward_fn(int64_t n, const hrk_link *links, hrk_fan_args args);

/* c[m * ldc + j] <- a row m times b row j as hrk_dot_fn sums, over `panels` panels of instances; rows are BP long, the steps from one
 * panel to the next a_step and b_step. */
typedef void hrk_dots_fn(int64_t M, int64_t N, int64_t panels, const float *a, int64_t a_step, const float *b, int64_t b_step, float *c,
                         int64_t ldc);

/* out[k][j] <- panel[inputs[k]][j], and panel[inputs[k]][j] <- in[k][j] + panel[inputs[k]][j]; BP numbers a row, inputs distinct. */
typedef void hrk_gather_fn(int64_t K, const uint32_t *inputs, const float *panel, float *out);
typedef void hrk_scatter_fn(int64_t K, const uint32_t *inputs, const float *in, float *panel);

/* to[i][j] <- to[i][j] + from[j][i], i < M <= BP, j < N <= DP; rows of `from` are BP long, of `to` DP. */
typedef void hrk_add_transposed_fn(int64_t M, int64_t N, const float *from, float *to);

/* Where instance b stands in a column of int8 X, so that four columns, unpacked twice, give the instances in order. */
static inline int64_t hrk_byte_place(int64_t b)
{
    const int64_t t = b % HRK_IP;
    return b - t + t % 16 / 4 * 16 + t / 16 * 4 + t % 4;
}
/* Columns inputs[0 .. K-1] of IP instances as gemm_i8 reads them: two panels (groups, BP, 4), groups = QP / 4 for each QP inputs, 128
 * beyond K. xc: the instances' place in the first column, columns are `pitch` apart. */
typedef void hrk_gather_i8_fn(int64_t K, const uint32_t *inputs, const uint8_t *xc, int64_t pitch, uint8_t *out);
/* The int8 product of M labels, each with K inputs of its own, for IP instances: gemm_i8's with the columns gathered; c: their first
 * panel, the second is `step` behind it (not written if `panels` is 1). w is zero from K to a multiple of QP. */
typedef struct hrk_fan_i8_args {
    const int8_t *w;
    const int32_t *w_sum;
    const float *w_scale, *x_scale;
    const uint8_t *xc;
    int64_t pitch;
    float *c;
    int64_t step;
    int panels;
} hrk_fan_i8_args;
typedef void hrk_fan_i8_fn(int64_t M, int64_t K, const uint32_t *inputs, hrk_fan_i8_args args);

/* Backward of labels given as lists, for the columns below `end`: of label m the inputs are `inputs` + input[m], u16 or (wide) u32,
 * ascending, of which those before at[m] are done, as they will be up to `end`; sw, dw (count, K). For each of its entries, in order:
 *   dx[row][column] <- fma(sw[k], g, dx[row][column]),  dw[k] <- fma(g, x[row][column], dw[k]).
 * x, dx: (column / DP, rows, DP), `step` from one panel to the next. */
typedef struct hrk_fan_lists_args {
    const void *inputs;
    int wide;
    const int64_t *input;
    int64_t *at;
    const float *sw, *x;
    float *dx, *dw;
    int64_t step;
    uint32_t end;
} hrk_fan_lists_args;
typedef void hrk_fan_lists_fn(const hrk_lists *l, int64_t K, hrk_fan_lists_args args);

/* ---- sparse X, by columns; labels have K inputs of their own ---- */

/* The entries of the batch, column by column: list i has entries start[i] .. start[i + 1] - 1 of row[], value[], their rows distinct and
 * ascending. Of D columns those with a bit in `present` have a list, number list[column]. */
typedef struct hrk_columns {
    int64_t columns;         /* D */
    const uint32_t *present; /* (D / 32 rounded up) bits */
    const uint32_t *list;    /* (D) */
    const uint32_t *start;
    const uint16_t *row;
    const float *value;
} hrk_columns;

/* Which of K inputs, u16 or (wide) u32, have entries: which[i] is the i-th such k, list[i] its list; returns how many, or -1 if an input
 * is D or more. `which` and `list` have room for K + 16. */
typedef int64_t hrk_column_hits_fn(int64_t K, const void *inputs, int wide, const hrk_columns *x, uint32_t *which, uint32_t *list);
/* z[row] <- fma(w[which[i]], value, z[row]) for the entries of list[i], i = 0 .. n-1, in order. */
typedef void hrk_column_logits_fn(int64_t n, const uint32_t *which, const uint32_t *list, const hrk_columns *x, const float *w, float *z);
/* dw[which[i]] <- the sum of fma(g[row], value) over the entries of list[i], in order. */
typedef void hrk_column_dw_fn(int64_t n, const uint32_t *which, const uint32_t *list, const hrk_columns *x, const float *g, float *dw);

/* y[i] <- fma(a, x[i], y[i]) */
typedef void hrk_axpy_fn(int64_t n, float a, const float *x, float *y);
/* y[i] <- x[i] + y[i], x[i] <- 0 */
typedef void hrk_drain_fn(int64_t n, float *x, float *y);

/* Adam (Kingma & Ba 2015, Alg. 1) with decoupled decay (Loshchilov & Hutter 2019):
 *   m <- m + (1 - beta1)(g - m),  v <- v + (1 - beta2)(g^2 - v),  w <- keep * w - rate * m / (sqrt(v) * v_scale + eps)
 * rate = lr / (1 - beta1^t), v_scale = 1 / sqrt(1 - beta2^t). */
typedef struct hrk_adam_args {
    float one_minus_beta1, one_minus_beta2, rate, v_scale, eps, keep;
} hrk_adam_args;
typedef void hrk_adam_fn(int64_t n, float *w, float *m, float *v, const float *g, hrk_adam_args args);

typedef struct hrk_table {
    hrk_gemm_panel_fn *gemm_panel_bp, *gemm_panel_dp;
    hrk_gemm16_fn *gemm16_bp, *gemm16_dp;
    hrk_pair_fn *pair;
    hrk_pair_row_fn *pair_row;
    hrk_draws_fn *draws;
    hrk_draws_panel_fn *draws_panel;
    hrk_grad_bce_fn *grad_bce;
    hrk_grad_hinge_fn *grad_hinge;
    hrk_decode_fn *decode;
    hrk_decode_row_fn *decode_row;
    hrk_sgd_fn *sgd;
    hrk_sgd_panel_fn *sgd_panel;
    hrk_absmax_i8r_fn *absmax_i8r;
    hrk_sgd_i8r_fn *sgd_i8r;
    hrk_quantize_fn *quantize;
    hrk_gemm_i8_fn *gemm_i8;
    hrk_sparsify_fn *sparsify;
    hrk_sparse_sgd_fn *sparse_sgd;
    hrk_sparse_absmax_fn *sparse_absmax;
    hrk_dot_fn *dot;
    hrk_reach_fn *reach;
    hrk_fan_logits_fn *fan_logits;
    hrk_fan_backward_fn *fan_backward;
    hrk_dots_fn *dots;
    hrk_gather_fn *gather;
    hrk_scatter_fn *scatter;
    hrk_add_transposed_fn *add_transposed;
    hrk_gather_i8_fn *gather_i8;
    hrk_fan_i8_fn *fan_i8;
    hrk_fan_lists_fn *fan_lists;
    hrk_column_hits_fn *column_hits;
    hrk_column_logits_fn *column_logits;
    hrk_column_dw_fn *column_dw;
    hrk_axpy_fn *axpy;
    hrk_drain_fn *drain;
    hrk_adam_fn *adam;
} hrk_table;

/* The table of level `isa` (an hr_isa). Every pointer is valid. */
hrk_table hrk_table_make(int isa);

#endif
