/* The residual block h = h0 + W2 relu(W1 h0 + b1) + b2, and its gradient.
 *
 * The forward pass works on panels of HRK_BP instances with the kernel that also makes the head's logits: an instance is a
 * lane, so its output does not depend on the others of its batch, nor on the ISA. The backward pass uses BLAS. */
#include "encoder/internal.h"

typedef struct forward_work {
    hr_encoder *e;
    int64_t rows;
} forward_work;

/* Rows [first, first + HRK_BP) of a (rows, D) as a panel (D, HRK_BP), zero beyond the last row. */
static void pack(const forward_work *w, int64_t first, const float *a, float *panel)
{
    const int64_t dim = w->e->o.dim;
    for (int64_t i = 0; i < HRK_BP; i++)
        for (int64_t d = 0; d < dim; d++)
            panel[d * HRK_BP + i] = first + i < w->rows ? a[(first + i) * dim + d] : 0.0f;
}

static void forward_panel(void *arg, int64_t task, int worker)
{
    const forward_work *w = arg;
    hr_encoder *e = w->e;
    const int64_t dim = e->o.dim, first = task * HRK_BP, end = first + HRK_BP < w->rows ? first + HRK_BP : w->rows;
    const hr_param *p = e->residual;
    float *in = e->panels + worker * 2 * dim * HRK_BP, *hidden = in + dim * HRK_BP;
    hrk_left left = {.a = p[HR_PARAM_W1].w, .row = dim, .step = 1, .kb = dim};
    pack(w, first, e->h0, in);
    e->be.k.gemm_panel_bp(dim, dim, left, in, hidden, HRK_BP, 1.0f, 0);
    for (int64_t i = 0; i < dim * HRK_BP; i++) {
        const float z = hidden[i] + p[HR_PARAM_B1].w[i / HRK_BP];
        hidden[i] = z > 0 ? z : 0.0f;
    }
    left.a = p[HR_PARAM_W2].w;
    e->be.k.gemm_panel_bp(dim, dim, left, hidden, in, HRK_BP, 1.0f, 0);
    for (int64_t b = first; b < end; b++) {
        for (int64_t d = 0; d < dim; d++) {
            e->hidden[b * dim + d] = hidden[d * HRK_BP + b - first];
            e->h[b * dim + d] = e->h0[b * dim + d] + p[HR_PARAM_B2].w[d] + in[d * HRK_BP + b - first];
        }
    }
}

void hr_residual_forward(hr_encoder *e, int64_t rows)
{
    forward_work work = {.e = e, .rows = rows};
    hr_parallel_for(e->be.ctx, (rows + HRK_BP - 1) / HRK_BP, forward_panel, &work);
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
