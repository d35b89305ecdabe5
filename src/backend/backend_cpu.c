/* The CPU behind the backend: our kernels, and OpenBLAS run with one thread inside each panel. */
#include "backend/backend.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

enum { PANEL = 64 };

extern void openblas_set_num_threads(int threads);
extern char *openblas_get_corename(void);
extern char *openblas_get_config(void);

hr_backend hr_backend_make(hr_ctx *ctx)
{
    openblas_set_num_threads(1); /* the pool is ours */
    return (hr_backend){.ctx = ctx, .k = hrk_table_make((int)hr_ctx_isa_level(ctx))};
}

const char *hr_backend_blas(char text[96])
{
    char config[64];
    snprintf(config, sizeof config, "%s", openblas_get_config()); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    char *space = strchr(config, ' ');
    space = space ? strchr(space + 1, ' ') : NULL;
    if (space)
        *space = 0;
    snprintf(text, 96, "%s %s", config, openblas_get_corename());
    return text;
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
