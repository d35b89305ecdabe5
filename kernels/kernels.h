/* The contract of every kernel, and the table of function pointers.
 *
 * A kernel is leaf arithmetic: plain pointers and numbers, no allocation, no failure, no threads. Sums run in one
 * stated order with fused multiply-adds, so all variants of a kernel give the same bits (tests/kernels).
 * kernels.def lists every implementation; the last line that the machine can run wins.
 *
 * Panels. The batch is packed in panels of HRK_BP instances and the width in panels of HRK_DP columns:
 *   xt (B/BP, D, BP)   X for logits          w  (D/DP, T, DP)  a tile of T labels, decoded
 *   xp (D/DP, B, DP)   X for dW              g  (B/BP, T, BP)  logits, then their gradient
 * with the last panel padded by zeros. */
#ifndef HRK_KERNELS_H
#define HRK_KERNELS_H

#include "base/rng.h"
#include "dtype/dtype.h"

enum { HRK_BP = 32, HRK_DP = 48 };

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

/* out[i] = the 16-bit draw of (row, i), i < n. */
typedef void hrk_draws_fn(hr_rng rng, uint32_t row, int64_t n, uint16_t *out);

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

/* One SGD step on a row of codes, in code units: v = fma(-step, dw[i], keep * c[i]), rounded and stored.
 * keep = 1 but for eager weight decay. draws (n) are read by stochastic roundings only. */
typedef struct hrk_sgd_args {
    float step, keep;
    hr_rounding rounding;
    hr_dtype dtype;
} hrk_sgd_args;
typedef void hrk_sgd_fn(int64_t n, void *codes, const float *dw, const uint16_t *draws, hrk_sgd_args args);

/* i8r needs two passes: the largest |v| of the row, then the update from the old row scale to the new one. */
typedef float hrk_absmax_i8r_fn(int64_t n, const int8_t *codes, float scale, const float *dw, hrk_sgd_args args);
typedef void hrk_sgd_i8r_fn(int64_t n, int8_t *codes, float scale, float new_scale, const float *dw, const uint16_t *draws,
                            hrk_sgd_args args);

/* z[i] <- fma(scale, z[i], bias) */
typedef void hrk_affine_fn(int64_t n, float scale, float bias, float *z);
/* y[i] <- fma(a, x[i], y[i]) */
typedef void hrk_axpy_fn(int64_t n, float a, const float *x, float *y);
/* Whether z[i] >= limit[i] for some i; NaN never is. */
typedef int hrk_any_ge_fn(int64_t n, const float *z, const float *limit);

/* Adam (Kingma & Ba 2015, Alg. 1) with decoupled decay (Loshchilov & Hutter 2019):
 *   m <- m + (1 - beta1)(g - m),  v <- v + (1 - beta2)(g^2 - v),  w <- keep * w - rate * m / (sqrt(v) * v_scale + eps)
 * rate = lr / (1 - beta1^t), v_scale = 1 / sqrt(1 - beta2^t). */
typedef struct hrk_adam_args {
    float one_minus_beta1, one_minus_beta2, rate, v_scale, eps, keep;
} hrk_adam_args;
typedef void hrk_adam_fn(int64_t n, float *w, float *m, float *v, const float *g, hrk_adam_args args);

typedef struct hrk_table {
    hrk_gemm_panel_fn *gemm_panel_bp, *gemm_panel_dp;
    hrk_draws_fn *draws;
    hrk_grad_bce_fn *grad_bce;
    hrk_grad_hinge_fn *grad_hinge;
    hrk_decode_fn *decode;
    hrk_sgd_fn *sgd;
    hrk_absmax_i8r_fn *absmax_i8r;
    hrk_sgd_i8r_fn *sgd_i8r;
    hrk_affine_fn *affine;
    hrk_axpy_fn *axpy;
    hrk_any_ge_fn *any_ge;
    hrk_adam_fn *adam;
} hrk_table;

/* The table of level `isa` (0 ref, 1 avx2, 2 avx512; an hr_isa). Every pointer is valid. */
hrk_table hrk_table_make(int isa);

#endif
