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

/* Rows of C that one call of the BLAS makes. A product of whole panels gives a row the same bits whatever the others are. */
enum { HR_PANEL = 64 };
static inline int64_t hr_panel_rows(int64_t rows)
{
    return (rows + HR_PANEL - 1) / HR_PANEL * HR_PANEL;
}

/* Row-major products, in parallel over panels of HR_PANEL rows of C; beta is 0 or 1.
 *   nt: C (m, n) = A (m, k) B (n, k)^T + beta C       nn: C (m, n) = A (m, k) B (k, n) + beta C
 *   tn: C (m, n) = A (k, m)^T B (k, n) + beta C                                            */
void hr_gemm_nt(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c);
void hr_gemm_nn(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c);
void hr_gemm_tn(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c);

#endif
