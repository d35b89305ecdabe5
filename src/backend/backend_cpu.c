/* The CPU behind the backend: our kernels, and OpenBLAS run with one thread inside each panel. */
#include "backend/backend.h"

#include <cblas.h>

enum { PANEL = 64 };

extern void openblas_set_num_threads(int threads);

hr_backend hr_backend_make(hr_ctx *ctx)
{
    openblas_set_num_threads(1); /* the pool is ours */
    return (hr_backend){.ctx = ctx, .k = hrk_table_make((int)hr_ctx_isa_level(ctx))};
}

typedef struct product {
    CBLAS_TRANSPOSE ta, tb;
    int64_t m, n, k;
    const float *a, *b;
    float beta, *c;
} product;

static void run_panel(void *arg, int64_t task, int worker)
{
    (void)worker;
    const product *p = arg;
    const int64_t row = task * PANEL, rows = p->m - row < PANEL ? p->m - row : PANEL;
    const int lda = (int)(p->ta == CblasTrans ? p->m : p->k), ldb = (int)(p->tb == CblasTrans ? p->k : p->n);
    const float *a = p->ta == CblasTrans ? p->a + row : p->a + row * p->k;
    cblas_sgemm(CblasRowMajor, p->ta, p->tb, (int)rows, (int)p->n, (int)p->k, 1.0f, a, lda, p->b, ldb, p->beta,
                p->c + row * p->n, (int)p->n);
}

static void run(const hr_backend *be, product p)
{
    hr_parallel_for(be->ctx, (p.m + PANEL - 1) / PANEL, run_panel, &p);
}

void hr_gemm_nn(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c)
{
    run(be, (product){CblasNoTrans, CblasNoTrans, m, n, k, a, b, beta, c});
}

void hr_gemm_tn(const hr_backend *be, int64_t m, int64_t n, int64_t k, const float *a, const float *b, float beta, float *c)
{
    run(be, (product){CblasTrans, CblasNoTrans, m, n, k, a, b, beta, c});
}
