/* The residual block h = h0 + W2 relu(W1 h0 + b1) + b2, and its gradient. */
#include "encoder/internal.h"

#include <string.h>

/* Works on whole panels, so that the output of an instance does not depend on the others of its batch. */
void hr_residual_forward(hr_encoder *e, int64_t batch)
{
    const int64_t dim = e->o.dim, rows = hr_panel_rows(batch);
    const float *b1 = e->residual[HR_PARAM_B1].w, *b2 = e->residual[HR_PARAM_B2].w;
    memset(e->h0 + batch * dim, 0, (size_t)((rows - batch) * dim) * sizeof(float));
    for (int64_t b = 0; b < rows; b++) {
        memcpy(e->hidden + b * dim, b1, (size_t)dim * sizeof(float));
        for (int64_t d = 0; d < dim; d++)
            e->h[b * dim + d] = e->h0[b * dim + d] + b2[d];
    }
    hr_gemm_nt(&e->be, rows, dim, dim, e->h0, e->residual[HR_PARAM_W1].w, 1.0f, e->hidden);
    for (int64_t i = 0; i < rows * dim; i++)
        e->hidden[i] = e->hidden[i] > 0 ? e->hidden[i] : 0.0f;
    hr_gemm_nt(&e->be, rows, dim, dim, e->hidden, e->residual[HR_PARAM_W2].w, 1.0f, e->h);
}

/* grad += sum of the rows of g, in order. */
static void add_rows(int64_t rows, int64_t dim, const float *g, float *grad)
{
    for (int64_t b = 0; b < rows; b++)
        for (int64_t d = 0; d < dim; d++)
            grad[d] += g[b * dim + d];
}

void hr_residual_backward(hr_encoder *e, int64_t rows, float *dh)
{
    const int64_t dim = e->o.dim;
    hr_param *p = e->residual;
    /* W2, b2, and back through relu */
    hr_gemm_tn(&e->be, dim, dim, rows, dh, e->hidden, 1.0f, p[HR_PARAM_W2].grad);
    add_rows(rows, dim, dh, p[HR_PARAM_B2].grad);
    hr_gemm_nn(&e->be, rows, dim, dim, dh, p[HR_PARAM_W2].w, 0.0f, e->tmp);
    for (int64_t i = 0; i < rows * dim; i++)
        e->tmp[i] = e->hidden[i] > 0 ? e->tmp[i] : 0.0f;
    /* W1, b1, and back to h0, which also gets dh itself */
    hr_gemm_tn(&e->be, dim, dim, rows, e->tmp, e->h0, 1.0f, p[HR_PARAM_W1].grad);
    add_rows(rows, dim, e->tmp, p[HR_PARAM_B1].grad);
    hr_gemm_nn(&e->be, rows, dim, dim, e->tmp, p[HR_PARAM_W1].w, 1.0f, dh);
}
