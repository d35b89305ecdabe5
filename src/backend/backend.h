/* The device behind encoders and optimizers: so far the CPU. It holds the kernel table and the matrix products that
 * are not ours (BLAS). Products are cut into panels whose shapes depend on the problem only. */
#ifndef HR_BACKEND_BACKEND_H
#define HR_BACKEND_BACKEND_H

#include "base/ctx.h"
#include "kernels/kernels.h"

typedef struct hr_backend {
    hr_ctx *ctx;
    hrk_table k;
} hr_backend;

hr_backend hr_backend_make(hr_ctx *ctx);
/* The library behind the matrix products and the kernels it has chosen, such as "OpenBLAS 0.3.21 SkylakeX". */
const char *hr_backend_blas(char text[96]);

/* Row-major products, in parallel over panels of 64 rows of C; beta is 0 or 1.
 *   nn: C (m, n) = A (m, k) B (k, n) + beta C       tn: C (m, n) = A (k, m)^T B (k, n) + beta C
 * A row of C may differ in its last bit when the other rows do, so forward passes use the panel kernels instead. */
void hr_gemm_nn(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c);
void hr_gemm_tn(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c);

#endif
