/* Fan-in products. Included with HRK_VL, HRK_FMA and add_chains (sparse.h's), and FAN_COLUMN: the panels of which x and dx of a column stay
 * in registers over all its links. */
#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
enum { CHAINS = 16 / HRK_VL, PER_PANEL = HRK_BP / HRK_VL };

INLINE vec load(const float *p)
{
    return *(const vec *)(const void *)p;
}

INLINE void store(float *p, vec v)
{
    *(vec *)(void *)p = v;
}

/* ---- logits ---- */

INLINE void label_logits(const int rows, int64_t K, const uint32_t *inputs, hrk_left A, const float *panel, float *c)
{
    vec acc[4][PER_PANEL];
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < PER_PANEL; v++)
            acc[m][v] = (vec){0};
    for (int64_t k0 = 0; k0 < K; k0 += A.kb, A.a += A.block) {
        const int64_t kn = K - k0 < A.kb ? K - k0 : A.kb;
        for (int64_t k = 0; k < kn; k++)
            for (int m = 0; m < rows; m++) {
                const float *x = panel + (int64_t)inputs[m * K + k0 + k] * HRK_BP;
                const vec w = A.a[m * A.row + k * A.step] - (vec){0};
                for (int v = 0; v < PER_PANEL; v++)
                    acc[m][v] = HRK_FMA(w, load(x + v * HRK_VL), acc[m][v]);
            }
    }
    for (int m = 0; m < rows; m++)
        for (int v = 0; v < PER_PANEL; v++)
            store(c + m * HRK_BP + v * HRK_VL, acc[m][v]);
}

HRK_BEGIN(void, fan_logits, int64_t M, int64_t K, const uint32_t *inputs, hrk_left A, const float *panel, float *c)
{
    enum { ROWS = HRK_VL >= 16 ? 4 : 2 };
    for (; M >= ROWS; M -= ROWS, inputs += ROWS * K, A.a += ROWS * A.row, c += ROWS * HRK_BP)
        label_logits(ROWS, K, inputs, A, panel, c);
    for (; M > 0; M--, inputs += K, A.a += A.row, c += HRK_BP)
        label_logits(1, K, inputs, A, panel, c);
}

/* ---- backward ---- */

INLINE void finish_link(const hrk_link *l, int64_t i, const vec *chain, const hrk_fan_args *a)
{
    if (a->last)
        a->dw[l->slot] = add_chains((const native *)chain);
    else
        for (int c = 0; c < CHAINS; c++)
            store(a->chains + i * 16 + c * HRK_VL, chain[c]);
}

INLINE void begin_link(int64_t i, vec *chain, const hrk_fan_args *a)
{
    for (int c = 0; c < CHAINS; c++)
        chain[c] = a->first ? (vec){0} : load(a->chains + i * 16 + c * HRK_VL);
}

/* The links [i, end) of one column, x and dx of `panels` panels in registers. */
INLINE void column_backward(const int panels, int64_t i, int64_t end, const hrk_link *links, const hrk_fan_args *a)
{
    vec x[FAN_COLUMN * PER_PANEL], dx[FAN_COLUMN * PER_PANEL];
    const int64_t at = (int64_t)links[i].column * HRK_BP;
    for (int v = 0; v < panels * PER_PANEL; v++) {
        x[v] = load(a->x + v / PER_PANEL * a->x_step + at + v % PER_PANEL * HRK_VL);
        dx[v] = load(a->dx + v / PER_PANEL * a->dx_step + at + v % PER_PANEL * HRK_VL);
    }
    for (; i < end; i++) {
        const float *g = a->g + (int64_t)links[i].row * HRK_BP;
        const vec w = links[i].w - (vec){0};
        vec chain[CHAINS];
        begin_link(i, chain, a);
        for (int v = 0; v < panels * PER_PANEL; v++) {
            const vec gv = load(g + v / PER_PANEL * a->g_step + v % PER_PANEL * HRK_VL);
            dx[v] = HRK_FMA(w, gv, dx[v]);
            chain[v % CHAINS] = HRK_FMA(gv, x[v], chain[v % CHAINS]);
        }
        finish_link(&links[i], i, chain, a);
    }
    for (int v = 0; v < panels * PER_PANEL; v++)
        store(a->dx + v / PER_PANEL * a->dx_step + at + v % PER_PANEL * HRK_VL, dx[v]);
}

/* One link, any number of panels. */
INLINE void link_backward(int64_t i, const hrk_link *l, const hrk_fan_args *a)
{
    const float *g = a->g + (int64_t)l->row * HRK_BP, *x = a->x + (int64_t)l->column * HRK_BP;
    float *dx = a->dx + (int64_t)l->column * HRK_BP;
    const vec w = l->w - (vec){0};
    vec chain[CHAINS];
    begin_link(i, chain, a);
    for (int64_t p = 0; p < a->panels; p++, g += a->g_step, x += a->x_step, dx += a->dx_step)
        for (int v = 0; v < PER_PANEL; v++) {
            const vec gv = load(g + v * HRK_VL);
            store(dx + v * HRK_VL, HRK_FMA(w, gv, load(dx + v * HRK_VL)));
            chain[v % CHAINS] = HRK_FMA(gv, load(x + v * HRK_VL), chain[v % CHAINS]);
        }
    finish_link(l, i, chain, a);
}

HRK_BEGIN(void, fan_backward, int64_t n, const hrk_link *links, hrk_fan_args a)
{
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && links[end].column == links[i].column;)
            end++;
        if (a.panels == FAN_COLUMN)
            column_backward(FAN_COLUMN, i, end, links, &a);
        else
            for (int64_t j = i; j < end; j++)
                link_backward(j, &links[j], &a);
    }
}

/* ---- shared inputs ---- */

INLINE void dots_block(const int rows, const int columns, int64_t panels, const float *a, int64_t a_step, const float *b,
                       int64_t b_step, float *c, int64_t ldc)
{
    vec acc[4][4][CHAINS];
    for (int m = 0; m < rows; m++)
        for (int j = 0; j < columns; j++)
            for (int h = 0; h < CHAINS; h++)
                acc[m][j][h] = (vec){0};
    for (int64_t p = 0; p < panels; p++, a += a_step, b += b_step)
        for (int v = 0; v < PER_PANEL; v++) {
            vec right[4];
            for (int j = 0; j < columns; j++)
                right[j] = load(b + j * HRK_BP + v * HRK_VL);
            for (int m = 0; m < rows; m++) {
                const vec left = load(a + m * HRK_BP + v * HRK_VL);
                for (int j = 0; j < columns; j++)
                    acc[m][j][v % CHAINS] = HRK_FMA(left, right[j], acc[m][j][v % CHAINS]);
            }
        }
    for (int m = 0; m < rows; m++)
        for (int j = 0; j < columns; j++)
            c[m * ldc + j] = add_chains((const native *)acc[m][j]);
}

HRK_BEGIN(void, dots, int64_t M, int64_t N, int64_t panels, const float *a, int64_t a_step, const float *b, int64_t b_step, float *c,
          int64_t ldc)
{
    enum { ROWS = HRK_VL >= 16 ? 4 : 2, COLUMNS = HRK_VL >= 16 ? 4 : 2 };
    for (int64_t m = 0; m < M; m += ROWS)
        for (int64_t j = 0; j < N; j += COLUMNS) {
            const float *am = a + m * HRK_BP, *bj = b + j * HRK_BP;
            float *cmj = c + m * ldc + j;
            if (m + ROWS <= M && j + COLUMNS <= N) {
                dots_block(ROWS, COLUMNS, panels, am, a_step, bj, b_step, cmj, ldc);
                continue;
            }
            for (int64_t r = 0; r < ROWS && m + r < M; r++)
                for (int64_t i = 0; i < COLUMNS && j + i < N; i++)
                    dots_block(1, 1, panels, am + r * HRK_BP, a_step, bj + i * HRK_BP, b_step, cmj + r * ldc + i, ldc);
        }
}

HRK_BEGIN(void, gather, int64_t K, const uint32_t *inputs, const float *panel, float *out)
{
    for (int64_t k = 0; k < K; k++)
        for (int v = 0; v < PER_PANEL; v++)
            store(out + k * HRK_BP + v * HRK_VL, load(panel + (int64_t)inputs[k] * HRK_BP + v * HRK_VL));
}

HRK_BEGIN(void, scatter, int64_t K, const uint32_t *inputs, const float *in, float *panel)
{
    for (int64_t k = 0; k < K; k++)
        for (int v = 0; v < PER_PANEL; v++) {
            float *to = panel + (int64_t)inputs[k] * HRK_BP + v * HRK_VL;
            store(to, load(in + k * HRK_BP + v * HRK_VL) + load(to));
        }
}

HRK_BEGIN(void, add_transposed, int64_t M, int64_t N, const float *from, float *to)
{
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = 0; j < N; j++)
            to[i * HRK_DP + j] += from[j * HRK_BP + i];
}
