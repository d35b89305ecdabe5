/* Fan-in products. Included with HRK_VL, HRK_FMA, HRK_REGISTER (asm's constraint for a vector), add_to_four, which adds chains i and i + 8,
 * then i and i + 4, and FAN_COLUMN: the panels of which x and dx of a column stay in registers over all its links. */
#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
typedef float four __attribute__((vector_size(16), aligned(4), may_alias));
enum { CHAINS = 16 / HRK_VL, PER_PANEL = HRK_BP / HRK_VL };

INLINE vec load(const float *p)
{
    return *(const vec *)(const void *)p;
}

INLINE void store(float *p, vec v)
{
    *(vec *)(void *)p = v;
}

/* ---- sums, as hrk_dot_fn adds its chains ---- */

INLINE four to_four(const vec *chain)
{
    native sum[CHAINS];
    for (int c = 0; c < CHAINS; c++)
        sum[c] = (native)chain[c];
    return (four)add_to_four(sum);
}

INLINE float sum_chains(const vec *chain)
{
    const four q = to_four(chain), h = q + __builtin_shufflevector(q, q, 2, 3, 2, 3);
    return h[0] + h[1];
}

/* Four sums at once. */
INLINE four sum_each(const vec (*chain)[CHAINS])
{
    const four a = to_four(chain[0]), b = to_four(chain[1]), c = to_four(chain[2]), d = to_four(chain[3]);
    const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
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

/* Some links of one column, in panels [p, p + panels). Link i's chains are at from + 16 i (NULL: zero) and go to to + 16 i (NULL: dw). */
typedef struct column_links {
    const hrk_link *links;
    int64_t count, p;
    const float *from;
    float *to;
} column_links;

INLINE void begin_link(const int from, const column_links *l, int64_t i, vec *chain)
{
    for (int c = 0; c < CHAINS; c++)
        chain[c] = from ? load(l->from + i * 16 + c * HRK_VL) : (vec){0};
}

INLINE void finish_link(const int to, const column_links *l, int64_t i, const vec *chain, float *dw)
{
    if (!to)
        dw[l->links[i].slot] = sum_chains(chain);
    for (int c = 0; c < CHAINS && to; c++)
        store(l->to + i * 16 + c * HRK_VL, chain[c]);
}

/* Links i .. i + side - 1: their chains take turns, dx takes them one after the other. */
INLINE void side_by_side(const int side, const int panels, const int from, const int to, const column_links *l, int64_t i,
                         const hrk_fan_args *a, const vec *x, vec *dx)
{
    vec w[2], chain[2][CHAINS];
    const float *g[2];
    for (int s = 0; s < side; s++) {
        g[s] = a->g + l->p * a->g_step + (int64_t)l->links[i + s].row * HRK_BP;
        w[s] = l->links[i + s].w - (vec){0};
        begin_link(from, l, i + s, chain[s]);
    }
    for (int v = 0; v < panels * PER_PANEL; v++)
        for (int s = 0; s < side; s++) {
            vec gv = load(g[s] + v / PER_PANEL * a->g_step + v % PER_PANEL * HRK_VL);
            __asm__("" : HRK_REGISTER(gv)); /* or gcc loads it twice */
            dx[v] = HRK_FMA(w[s], gv, dx[v]);
            chain[s][v % CHAINS] = HRK_FMA(gv, x[v], chain[s][v % CHAINS]);
        }
    for (int s = 0; s < side; s++)
        finish_link(to, l, i + s, chain[s], a->dw);
}

/* x and dx of the panels stay in registers. */
INLINE void column_panels(const int panels, const int from, const int to, const column_links *l, const hrk_fan_args *a)
{
    vec x[FAN_COLUMN * PER_PANEL], dx[FAN_COLUMN * PER_PANEL];
    const int64_t at = (int64_t)l->links->column * HRK_BP;
    const float *x_at = a->x + l->p * a->x_step + at;
    float *dx_at = a->dx + l->p * a->dx_step + at;
    for (int v = 0; v < panels * PER_PANEL; v++) {
        x[v] = load(x_at + v / PER_PANEL * a->x_step + v % PER_PANEL * HRK_VL);
        dx[v] = load(dx_at + v / PER_PANEL * a->dx_step + v % PER_PANEL * HRK_VL);
    }
    int64_t i = 0;
    for (; i + 2 <= l->count; i += 2)
        side_by_side(2, panels, from, to, l, i, a, x, dx);
    if (i < l->count)
        side_by_side(1, panels, from, to, l, i, a, x, dx);
    for (int v = 0; v < panels * PER_PANEL; v++)
        store(dx_at + v / PER_PANEL * a->dx_step + v % PER_PANEL * HRK_VL, dx[v]);
}

/* What is known of the chains before the loop over the links stays out of it. */
INLINE void column_chains(const int panels, const column_links *l, const hrk_fan_args *a)
{
    if (l->from && l->to)
        column_panels(panels, 1, 1, l, a);
    else if (l->from)
        column_panels(panels, 1, 0, l, a);
    else if (l->to)
        column_panels(panels, 0, 1, l, a);
    else
        column_panels(panels, 0, 0, l, a);
}

enum { TOGETHER = 64 };

/* At most TOGETHER links of one column: as many panels at a time as have room, the chains in memory between them. */
INLINE void column_backward(int64_t count, const hrk_link *links, float *chains, const hrk_fan_args *a)
{
    float kept[TOGETHER * 16] __attribute__((aligned(64)));
    column_links l = {.links = links, .count = count, .from = a->first ? NULL : chains};
    for (int64_t left = a->panels, step; left > 0; left -= step, l.p += step, l.from = kept) {
        step = left >= FAN_COLUMN ? FAN_COLUMN : 1;
        l.to = step < left ? kept : a->last ? NULL : chains;
        if (step == FAN_COLUMN)
            column_chains(FAN_COLUMN, &l, a);
        else
            column_chains(1, &l, a);
    }
}

HRK_BEGIN(void, fan_backward, int64_t n, const hrk_link *links, hrk_fan_args a)
{
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && end < i + TOGETHER && links[end].column == links[i].column;)
            end++;
        column_backward(end - i, links + i, a.chains ? a.chains + 16 * i : NULL, &a);
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
    for (int m = 0; m < rows && columns == 4; m++)
        *(four *)(void *)(c + m * ldc) = sum_each(acc[m]);
    for (int m = 0; m < rows && columns < 4; m++)
        for (int j = 0; j < columns; j++)
            c[m * ldc + j] = sum_chains(acc[m][j]);
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

/* The same for four by four. */
INLINE void add_square(const float *from, float *to)
{
    four f[4];
    for (int j = 0; j < 4; j++)
        f[j] = *(const four *)(const void *)(from + j * HRK_BP);
    const four lo01 = __builtin_shufflevector(f[0], f[1], 0, 4, 1, 5), hi01 = __builtin_shufflevector(f[0], f[1], 2, 6, 3, 7);
    const four lo23 = __builtin_shufflevector(f[2], f[3], 0, 4, 1, 5), hi23 = __builtin_shufflevector(f[2], f[3], 2, 6, 3, 7);
    *(four *)(void *)to += __builtin_shufflevector(lo01, lo23, 0, 1, 4, 5);
    *(four *)(void *)(to + HRK_DP) += __builtin_shufflevector(lo01, lo23, 2, 3, 6, 7);
    *(four *)(void *)(to + 2 * HRK_DP) += __builtin_shufflevector(hi01, hi23, 0, 1, 4, 5);
    *(four *)(void *)(to + 3 * HRK_DP) += __builtin_shufflevector(hi01, hi23, 2, 3, 6, 7);
}

HRK_BEGIN(void, add_transposed, int64_t M, int64_t N, const float *from, float *to)
{
    const int64_t m = M / 4 * 4, n = N / 4 * 4;
    for (int64_t j = 0; j < n; j += 4)
        for (int64_t i = 0; i < m; i += 4)
            add_square(from + j * HRK_BP + i, to + i * HRK_DP + j);
    for (int64_t i = 0; i < M; i++)
        for (int64_t j = i < m ? n : 0; j < N; j++)
            to[i * HRK_DP + j] += from[j * HRK_BP + i];
}
