/* The fan-in kernels: every level gives the bits of the reference and writes nowhere else, and the reference does what its contract
 * says, against dense sums in double or exact ones. */
#include "check.h"

#include "dtype/dtype.h"
#include "kernels/kernels.h"

#include <math.h>

enum { GUARD = 66 }; /* of 4 bytes: what is guarded is aligned to 8 and no more */

static void each_level(void (*check)(hrk_table k))
{
    for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
        check(hrk_table_make(isa));
}

static float uniform(uint32_t i, uint32_t j, uint64_t seed)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(seed, 0, 0, 0), i, j, w);
    return (float)(w[0] >> 8) / 8388608.0f - 1.0f;
}

/* n numbers of many sizes, some of them zero, in an allocation of just that size. */
static float *numbers(int64_t n, uint32_t which)
{
    float *v = malloc((size_t)n * sizeof *v);
    for (int64_t i = 0; i < n; i++) {
        const float u = uniform((uint32_t)i, which, 11);
        v[i] = i % 23 == 7 ? 0 : i % 29 == 5 ? -0.0f : i % 31 == 3 ? u * 1e4f : i % 37 == 1 ? u * 1e-6f : u;
    }
    return v;
}

/* Room for `bytes`, all 0xff, with guards on both sides. */
static void *guarded(int64_t bytes)
{
    uint8_t *p = malloc((size_t)bytes + 2 * GUARD * sizeof(float));
    memset(p, 0xff, (size_t)bytes + 2 * GUARD * sizeof(float));
    return p + GUARD * sizeof(float);
}

static float *guarded_copy(int64_t n, const float *from)
{
    float *p = guarded(n * (int64_t)sizeof *p);
    memcpy(p, from, (size_t)n * sizeof *p);
    return p;
}

static void guarded_free(void *p)
{
    free((uint8_t *)p - GUARD * sizeof(float));
}

static void assert_guarded(const void *p, int64_t bytes)
{
    const uint8_t *before = (const uint8_t *)p - GUARD * sizeof(float), *behind = (const uint8_t *)p + bytes;
    for (size_t i = 0; i < GUARD * sizeof(float); i++)
        assert_true(before[i] == 0xff && behind[i] == 0xff);
}

/* The same bits, and both guards whole. */
static void assert_same(const void *one, const void *two, int64_t bytes)
{
    assert_memory_equal(one, two, (size_t)bytes);
    assert_guarded(one, bytes);
    assert_guarded(two, bytes);
}

/* A sum of n roundings to float, whose terms have the sizes that make up `size`, may be this far off (Higham 2002, ch. 3). */
static double sum_error(int64_t n, double size)
{
    const double nu = (double)n * 0x1p-24;
    return nu / (1 - nu) * size * (1 + 1e-9) + 1e-40;
}

/* ---- labels and their inputs ---- */

typedef struct labels {
    int64_t M, K, D;
    uint32_t *inputs; /* (M, K), distinct, ascending */
    float *w;         /* (M, K) */
} labels;

/* Input k lies in the k-th of K parts of the columns: label 0 has the first column of each, label 1 the last. */
static labels make_labels(int64_t M, int64_t K, int64_t D)
{
    labels l = {M, K, D, malloc((size_t)(M * K) * sizeof *l.inputs), numbers(M * K, 1)};
    for (int64_t i = 0; i < M * K; i++) {
        const int64_t low = i % K * D / K, part = (i % K + 1) * D / K - low;
        const float u = 0.5f + 0.5f * uniform((uint32_t)i, (uint32_t)D, 12);
        const int64_t inner = (int64_t)((float)part * u);
        l.inputs[i] = (uint32_t)(low + (i / K == 0 ? 0 : i / K == 1 || inner >= part ? part - 1 : inner));
    }
    return l;
}

static void free_labels(labels l)
{
    free(l.inputs), free(l.w);
}

/* W as a dense matrix (M, D). */
static double *dense_weights(labels l)
{
    double *w = calloc((size_t)(l.M * l.D), sizeof *w);
    for (int64_t i = 0; i < l.M * l.K; i++)
        w[i / l.K * l.D + l.inputs[i]] = (double)l.w[i];
    return w;
}

static const int64_t sizes[] = {1, 3, 4, 5, 16, 31, 32, 33, 64, 65, 100, 130};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const int64_t rows_of[] = {1, 2, 3, 4, 5, 16, 31, 33, 65};
enum { ROWS = sizeof rows_of / sizeof *rows_of };

/* Widths for K inputs: as few as there are inputs, one more, and with most columns unused. */
static int64_t width_of(int64_t K, int w)
{
    return w == 0 ? K : w == 1 ? K + 1 : w == 2 ? 3 * K + 7 : 1000;
}
enum { WIDTHS = 4 };

/* ---- logits ---- */

/* The weights in the layouts of a left operand: rows, columns, panels of a tile, panels of four. */
enum { LAYOUTS = 4 };
static hrk_left lay_out(labels l, int layout, float *room)
{
    const hrk_left of[LAYOUTS] = {{room, l.K, 1, l.K, 0}, {room, 1, l.M, l.K, 0}, {room, HRK_DP, 1, HRK_DP, l.M * HRK_DP},
                                  {room, 4, 1, 4, 4 * l.M}};
    const hrk_left a = of[layout];
    for (int64_t m = 0; m < l.M; m++)
        for (int64_t k = 0; k < l.K; k++)
            room[m * a.row + k / a.kb * a.block + k % a.kb * a.step] = l.w[m * l.K + k];
    return a;
}

static void compare_logits(hrk_table k, labels l, int layout)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const int64_t bytes = l.M * HRK_BP * (int64_t)sizeof(float);
    float *room = calloc((size_t)(l.M * (l.K + HRK_DP)), sizeof *room), *panel = numbers(l.D * HRK_BP, 2);
    float *one = guarded(bytes), *two = guarded(bytes);
    const hrk_left a = lay_out(l, layout, room);
    ref.fan_logits(l.M, l.K, l.inputs, a, panel, one);
    k.fan_logits(l.M, l.K, l.inputs, a, panel, two);
    assert_same(one, two, bytes);
    free(room), free(panel), guarded_free(one), guarded_free(two);
}

static void check_logits(hrk_table k)
{
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < SIZES; s++)
            for (int w = 0; w < WIDTHS; w++) {
                const labels l = make_labels(rows_of[r], sizes[s], width_of(sizes[s], w));
                compare_logits(k, l, (r + s + w) % LAYOUTS);
                free_labels(l);
            }
}

static void dense_logits(labels l)
{
    float *panel = numbers(l.D * HRK_BP, 2), *c = malloc((size_t)(l.M * HRK_BP) * sizeof *c);
    double *w = dense_weights(l);
    hrk_table_make(HR_ISA_REF).fan_logits(l.M, l.K, l.inputs, (hrk_left){l.w, l.K, 1, l.K, 0}, panel, c);
    for (int64_t i = 0; i < l.M * HRK_BP; i++) {
        double sum = 0, size = 0;
        for (int64_t d = 0; d < l.D; d++) {
            const double v = w[i / HRK_BP * l.D + d] * (double)panel[d * HRK_BP + i % HRK_BP];
            sum += v;
            size += fabs(v);
        }
        assert_true(fabs((double)c[i] - sum) <= sum_error(l.K, size));
    }
    free(panel), free(c), free(w);
}

static void test_logits(void **state)
{
    (void)state;
    each_level(check_logits);
    for (int s = 0; s < SIZES; s++)
        for (int w = 0; w < WIDTHS; w++) {
            const labels l = make_labels(rows_of[(s + w) % ROWS], sizes[s], width_of(sizes[s], w));
            dense_logits(l);
            free_labels(l);
        }
}

/* ---- backward ---- */

/* A batch for some labels: the steps between panels have gaps. */
typedef struct batch {
    int64_t panels, g_step, x_step, dx_step, slots;
    float *g, *x, *dx; /* dx: what is there before */
    hrk_link *links;
} batch;

static int by_column(const void *one, const void *two)
{
    const hrk_link *a = one, *b = two;
    const uint32_t x = a->column == b->column ? a->row : a->column, y = a->column == b->column ? b->row : b->column;
    return (x > y) - (x < y);
}

static batch make_batch(labels l, int64_t panels)
{
    batch b = {.panels = panels, .g_step = l.M * HRK_BP + 3, .x_step = l.D * HRK_BP + 5, .dx_step = l.D * HRK_BP + 7,
               .slots = (l.K + HRK_DP - 1) / HRK_DP * l.M * HRK_DP};
    b.g = numbers(panels * b.g_step, 3);
    b.x = numbers(panels * b.x_step, 4);
    b.dx = numbers(panels * b.dx_step, 5);
    b.links = malloc((size_t)(l.M * l.K) * sizeof *b.links);
    for (int64_t i = 0; i < l.M * l.K; i++) {
        const int64_t k = i % l.K, m = i / l.K;
        b.links[i] = (hrk_link){l.inputs[i], (uint32_t)m, (uint32_t)((k / HRK_DP * l.M + m) * HRK_DP + k % HRK_DP), l.w[i]};
    }
    qsort(b.links, (size_t)(l.M * l.K), sizeof *b.links, by_column);
    return b;
}

static void free_batch(batch b)
{
    free(b.g), free(b.x), free(b.dx), free(b.links);
}

/* The arguments for panels [p, p + n) of the batch. */
static hrk_fan_args args_of(const batch *b, int64_t p, int64_t n, float *dx, float *dw, float *chains)
{
    return (hrk_fan_args){.g = b->g + p * b->g_step, .x = b->x + p * b->x_step, .dx = dx + p * b->dx_step,
                          .chains = n == b->panels ? NULL : chains, .dw = dw, .panels = n, .g_step = b->g_step,
                          .x_step = b->x_step, .dx_step = b->dx_step, .first = p == 0, .last = p + n == b->panels};
}

/* `chunk` panels a call: what is written agrees after every call. */
static void compare_backward(hrk_table k, labels l, const batch *b, int64_t chunk)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const int64_t n = l.M * l.K, dx_all = b->panels * b->dx_step;
    float *dx1 = guarded_copy(dx_all, b->dx), *dx2 = guarded_copy(dx_all, b->dx);
    float *dw1 = guarded(4 * b->slots), *dw2 = guarded(4 * b->slots), *chains1 = guarded(64 * n), *chains2 = guarded(64 * n);
    for (int64_t p = 0; p < b->panels; p += chunk) {
        const int64_t panels = b->panels - p < chunk ? b->panels - p : chunk;
        ref.fan_backward(n, b->links, args_of(b, p, panels, dx1, dw1, chains1));
        k.fan_backward(n, b->links, args_of(b, p, panels, dx2, dw2, chains2));
        assert_same(dx1, dx2, 4 * dx_all);
        assert_same(dw1, dw2, 4 * b->slots);
        if (p + panels < b->panels)
            assert_same(chains1, chains2, 64 * n);
        assert_guarded(chains2, 64 * n);
    }
    guarded_free(dx1), guarded_free(dx2), guarded_free(dw1), guarded_free(dw2), guarded_free(chains1), guarded_free(chains2);
}

static void check_backward(hrk_table k)
{
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < SIZES; s++) {
            const labels l = make_labels(rows_of[r], sizes[s], width_of(sizes[s], (r + s) % WIDTHS));
            const batch b = make_batch(l, 1 + (r + s) % 9);
            compare_backward(k, l, &b, HRK_FAN_PANELS);
            compare_backward(k, l, &b, 1 + s % HRK_FAN_PANELS);
            free_batch(b), free_labels(l);
        }
    for (int64_t panels = 1; panels <= 9; panels++)
        for (int w = 0; w < WIDTHS; w++)
            for (int64_t chunk = 1; chunk <= HRK_FAN_PANELS; chunk++) {
                const labels l = make_labels(17, 13, width_of(13, w));
                const batch b = make_batch(l, panels);
                compare_backward(k, l, &b, chunk);
                free_batch(b), free_labels(l);
            }
}

/* A row of G or a column of X over the whole batch. */
static float *over_batch(const float *from, int64_t panels, int64_t step, int64_t row)
{
    float *v = malloc((size_t)(panels * HRK_BP) * sizeof *v);
    for (int64_t b = 0; b < panels * HRK_BP; b++)
        v[b] = from[b / HRK_BP * step + row * HRK_BP + b % HRK_BP];
    return v;
}

/* dW of each link: the bits of the dot product over the padded batch, and right; what no link has stays. */
static void dense_dw(labels l, const batch *b, const float *dw)
{
    hr_dtype f32;
    assert_true(hr_dtype_parse("f32", &f32));
    const int64_t n = b->panels * HRK_BP;
    for (int64_t i = 0; i < l.M * l.K; i++) {
        const int64_t k = i % l.K, m = i / l.K;
        const float got = dw[(k / HRK_DP * l.M + m) * HRK_DP + k % HRK_DP];
        float *g = over_batch(b->g, b->panels, b->g_step, m), *x = over_batch(b->x, b->panels, b->x_step, l.inputs[i]), dot;
        hrk_table_make(HR_ISA_REF).dot(1, n, g, (size_t)n * sizeof *g, NULL, f32, x, &dot);
        assert_memory_equal(&got, &dot, sizeof got);
        double sum = 0, size = 0;
        for (int64_t j = 0; j < n; j++) {
            sum += (double)g[j] * (double)x[j];
            size += fabs((double)g[j] * (double)x[j]);
        }
        assert_true(fabs((double)got - sum) <= sum_error(n / 16 + 4, size));
        free(g), free(x);
    }
    for (int64_t slot = 0; slot < b->slots; slot++) {
        const int64_t k = slot / (l.M * HRK_DP) * HRK_DP + slot % HRK_DP;
        assert_true(k < l.K || isnan(dw[slot]));
    }
}

/* dX = dX before + W^T G; the gaps between panels stay. */
static void dense_dx(labels l, const batch *b, const float *dx)
{
    double *w = dense_weights(l);
    for (int64_t i = 0; i < b->panels * b->dx_step; i++) {
        const int64_t p = i / b->dx_step, d = i % b->dx_step / HRK_BP, j = i % b->dx_step % HRK_BP;
        double sum = (double)b->dx[i], size = fabs(sum);
        int64_t terms = 0;
        for (int64_t m = 0; m < l.M && d < l.D; m++) {
            const double v = w[m * l.D + d] * (double)b->g[p * b->g_step + m * HRK_BP + j];
            terms += w[m * l.D + d] != 0;
            sum += v;
            size += fabs(v);
        }
        assert_true(fabs((double)dx[i] - sum) <= sum_error(terms, size));
    }
    free(w);
}

static void dense_backward(labels l, int64_t panels)
{
    const batch b = make_batch(l, panels);
    float *dx = guarded_copy(panels * b.dx_step, b.dx), *dw = guarded(4 * b.slots), *chains = guarded(64 * l.M * l.K);
    for (int64_t p = 0; p < panels; p += HRK_FAN_PANELS) {
        const int64_t n = panels - p < HRK_FAN_PANELS ? panels - p : HRK_FAN_PANELS;
        hrk_table_make(HR_ISA_REF).fan_backward(l.M * l.K, b.links, args_of(&b, p, n, dx, dw, chains));
    }
    dense_dw(l, &b, dw);
    dense_dx(l, &b, dx);
    guarded_free(dx), guarded_free(dw), guarded_free(chains), free_batch(b);
}

static void test_backward(void **state)
{
    (void)state;
    each_level(check_backward);
    for (int s = 0; s < SIZES; s++)
        for (int64_t panels = 1; panels <= 9; panels++) {
            const labels l = make_labels(rows_of[(s + panels) % ROWS], sizes[s], width_of(sizes[s], (int)(s + panels) % WIDTHS));
            dense_backward(l, panels);
            free_labels(l);
        }
}

/* ---- shared inputs ---- */

/* One element of dots: the bits of the dot product, and right. */
static void dense_dots(int64_t panels, const float *a, const float *b, float got)
{
    hr_dtype f32;
    assert_true(hr_dtype_parse("f32", &f32));
    float dot;
    hrk_table_make(HR_ISA_REF).dot(1, panels * HRK_BP, a, 4 * HRK_BP * (size_t)panels, NULL, f32, b, &dot);
    assert_memory_equal(&got, &dot, sizeof got);
    double sum = 0, size = 0;
    for (int64_t i = 0; i < panels * HRK_BP; i++) {
        sum += (double)a[i] * (double)b[i];
        size += fabs((double)a[i] * (double)b[i]);
    }
    assert_true(fabs((double)got - sum) <= sum_error(2 * panels + 4, size));
}

static void compare_dots(hrk_table k, int64_t M, int64_t N, int64_t panels)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const int64_t a_step = M * HRK_BP + 3, b_step = N * HRK_BP + 5, ldc = N + M % 3, bytes = M * ldc * (int64_t)sizeof(float);
    float *a = numbers(panels * a_step, 1), *b = numbers(panels * b_step, 2), *one = guarded(bytes), *two = guarded(bytes);
    ref.dots(M, N, panels, a, a_step, b, b_step, one, ldc);
    k.dots(M, N, panels, a, a_step, b, b_step, two, ldc);
    assert_same(one, two, bytes);
    for (int64_t i = 0; i < M * ldc; i += M > 5 && N > 5 ? 7 : 1) {
        if (i % ldc >= N) {
            assert_true(isnan(two[i]));
            continue;
        }
        float *left = over_batch(a, panels, a_step, i / ldc), *right = over_batch(b, panels, b_step, i % ldc);
        dense_dots(panels, left, right, two[i]);
        free(left), free(right);
    }
    free(a), free(b), guarded_free(one), guarded_free(two);
}

static void check_dots(hrk_table k)
{
    for (int r = 0; r < SIZES; r++)
        for (int s = 0; s < SIZES; s++)
            compare_dots(k, sizes[r], sizes[s], 1 + (r + 2 * s) % 9);
}

static void compare_moves(hrk_table k, labels l)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const int64_t all = l.D * HRK_BP, some = l.K * HRK_BP;
    float *panel = numbers(all, 1), *in = numbers(some, 2), *out = guarded(4 * some);
    float *one = guarded_copy(all, panel), *two = guarded_copy(all, panel);
    k.gather(l.K, l.inputs, panel, out);
    assert_guarded(out, 4 * some);
    ref.scatter(l.K, l.inputs, in, one);
    k.scatter(l.K, l.inputs, in, two);
    assert_same(one, two, 4 * all);
    for (int64_t i = 0; i < some; i++) { /* one rounding of the sum */
        float *place = &panel[l.inputs[i / HRK_BP] * HRK_BP + i % HRK_BP];
        assert_memory_equal(place, &out[i], sizeof *out);
        *place = (float)((double)in[i] + (double)*place);
    }
    assert_memory_equal(panel, two, (size_t)(4 * all));
    free(panel), free(in), guarded_free(out), guarded_free(one), guarded_free(two);
}

static void check_moves(hrk_table k)
{
    for (int s = 0; s < SIZES; s++)
        for (int w = 0; w < WIDTHS; w++)
            for (int64_t label = 1; label <= 3; label++) {
                labels l = make_labels(label, sizes[s], width_of(sizes[s], w));
                memmove(l.inputs, l.inputs + (label - 1) * l.K, (size_t)l.K * sizeof *l.inputs);
                compare_moves(k, l);
                free_labels(l);
            }
}

/* Only M rows of N are touched. */
static void check_add_transposed(hrk_table k)
{
    float *before = numbers(HRK_BP * HRK_DP, 2);
    for (int64_t M = 0; M <= HRK_BP; M++)
        for (int64_t N = 0; N <= HRK_DP; N++) {
            float *from = numbers(N * HRK_BP, 1), *to = guarded_copy(M * HRK_DP, before);
            k.add_transposed(M, N, from, to);
            assert_guarded(to, 4 * M * HRK_DP);
            for (int64_t i = 0; i < M * HRK_DP; i++) {
                const int64_t j = i % HRK_DP;
                const float sum = (float)((double)before[i] + (j < N ? (double)from[j * HRK_BP + i / HRK_DP] : 0));
                assert_true(j < N ? to[i] == sum : !memcmp(&to[i], &before[i], sizeof *to));
            }
            free(from), guarded_free(to);
        }
    free(before);
}

static void test_shared(void **state)
{
    (void)state;
    each_level(check_dots);
    each_level(check_moves);
    each_level(check_add_transposed);
}

/* ---- int8 ---- */

static void test_byte_place(void **state)
{
    (void)state;
    bool taken[4 * HRK_IP] = {false};
    for (int64_t b = 0; b < 4 * HRK_IP; b++) {
        const int64_t place = hrk_byte_place(b);
        assert_true(place / HRK_IP == b / HRK_IP && !taken[place]);
        taken[place] = true;
    }
}

/* int8 X of `blocks` times IP instances; q + 128 of instance b, column d is x[d * pitch + hrk_byte_place(b)]. */
static int q_of(int64_t b, int64_t d)
{
    const int64_t i = b * 1009 + d;
    return i % 3 == 0 ? 127 : i % 7 == 0 ? -127 : (int)(i * 91 % 255) - 127;
}

static uint8_t *make_columns(int64_t D, int64_t pitch)
{
    uint8_t *x = malloc((size_t)(D * pitch));
    for (int64_t d = 0; d < D; d++)
        for (int64_t b = 0; b < pitch; b++)
            x[d * pitch + hrk_byte_place(b)] = (uint8_t)(q_of(b, d) + 128);
    return x;
}

static int64_t padded_of(int64_t K)
{
    return (K + HRK_QP - 1) / HRK_QP * HRK_QP;
}

static void compare_gather_i8(hrk_table k, labels l, int64_t blocks)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const int64_t pitch = blocks * HRK_IP, padded = padded_of(l.K), bytes = padded * HRK_IP;
    uint8_t *x = make_columns(l.D, pitch), *one = guarded(bytes), *two = guarded(bytes);
    for (int64_t block = 0; block < blocks; block++) {
        ref.gather_i8(l.K, l.inputs, x + block * HRK_IP, pitch, one);
        k.gather_i8(l.K, l.inputs, x + block * HRK_IP, pitch, two);
        assert_same(one, two, bytes);
        for (int64_t i = 0; i < bytes; i++) { /* two panels (groups, BP, 4) */
            const int64_t b = i / (bytes / 2) * HRK_BP + i / 4 % HRK_BP, at = i % (bytes / 2) / (4 * HRK_BP) * 4 + i % 4;
            assert_int_equal(two[i], at < l.K ? q_of(block * HRK_IP + b, l.inputs[at]) + 128 : 128);
        }
    }
    free(x), guarded_free(one), guarded_free(two);
}

static void check_gather_i8(hrk_table k)
{
    for (int s = 0; s < SIZES; s++)
        for (int w = 0; w < WIDTHS; w++) {
            const labels l = make_labels(1 + w, sizes[s], width_of(sizes[s], w));
            compare_gather_i8(k, l, 1 + (s + w) % 3);
            free_labels(l);
        }
}

/* Weights (M, padded), zero beyond K, their sums and scales. */
typedef struct int8_rows {
    int8_t *w;
    int32_t *sum;
    float *scale;
} int8_rows;

static int8_rows make_rows(labels l)
{
    const int64_t padded = padded_of(l.K);
    int8_rows r = {calloc((size_t)(l.M * padded), 1), calloc((size_t)l.M, sizeof *r.sum), numbers(l.M, 3)};
    for (int64_t m = 0; m < l.M; m++)
        for (int64_t k = 0; k < l.K; k++) {
            const int64_t i = m * l.K + k;
            r.w[m * padded + k] = (int8_t)(m == 2 || i % 5 == 0 ? -127 : i % 7 == 0 ? 127 : (int)(i * 37 % 255) - 127);
            r.sum[m] += r.w[m * padded + k];
        }
    return r;
}

static void exact_fan_i8(hrk_table k, labels l, int64_t blocks, int panels)
{
    const int64_t pitch = blocks * HRK_IP, at = (blocks - 1) * HRK_IP, step = l.M * HRK_BP + 3, all = (panels - 1) * step + l.M * HRK_BP;
    const int8_rows r = make_rows(l);
    uint8_t *x = make_columns(l.D, pitch);
    float *x_scale = numbers(panels * HRK_BP, 4), *c = guarded(4 * all);
    k.fan_i8(l.M, l.K, l.inputs, (hrk_fan_i8_args){.w = r.w, .w_sum = r.sum, .w_scale = r.scale, .x_scale = x_scale, .xc = x + at,
                                                   .pitch = pitch, .c = c, .step = step, .panels = panels});
    assert_guarded(c, 4 * all);
    for (int64_t i = 0; i < all; i++) {
        const int64_t p = i / step, m = i % step / HRK_BP, b = p * HRK_BP + i % step % HRK_BP;
        int64_t sum = 0;
        for (int64_t j = 0; m < l.M && j < l.K; j++)
            sum += r.w[m * padded_of(l.K) + j] * q_of(at + b, l.inputs[m * l.K + j]);
        assert_true(m < l.M ? c[i] == (float)sum * (r.scale[m] * x_scale[b]) : isnan(c[i]));
    }
    free(r.w), free(r.sum), free(r.scale), free(x), free(x_scale), guarded_free(c);
}

static void check_fan_i8(hrk_table k)
{
    static const int64_t most[] = {511, 512, 513, 600, 1000, 4096};
    for (int r = 0; r < ROWS; r++)
        for (int s = 0; s < SIZES; s++) {
            const labels l = make_labels(rows_of[r], sizes[s], width_of(sizes[s], (r + s) % WIDTHS));
            for (int panels = 1; panels <= 2; panels++)
                exact_fan_i8(k, l, 1 + (r + s) % 3, panels);
            free_labels(l);
        }
    for (int i = 0; i < 6; i++)
        for (int panels = 1; panels <= 2; panels++) {
            const labels l = make_labels(5, most[i], most[i] > 1000 ? most[i] : 1000);
            exact_fan_i8(k, l, panels, panels);
            free_labels(l);
        }
}

static void test_int8(void **state)
{
    (void)state;
    each_level(check_gather_i8);
    each_level(check_fan_i8);
}

/* ---- lists ---- */

enum { BATCH = 40, BEFORE = 3, PITCH = BATCH * HRK_DP + 5 }; /* BEFORE: entries of labels that are not asked for */

/* M labels, label m with m * 3 % 7 entries or more, a row twice; two labels after each other may share their inputs. */
typedef struct listed {
    hrk_lists lists;
    labels l;
    int64_t *start, *input, panels;
    uint32_t *row;
    float *g, *x, *dx, *dw; /* dx, dw: what is there before */
    void *inputs;
    int wide;
} listed;

static listed make_listed(labels l, int wide)
{
    listed t = {.l = l, .wide = wide, .panels = (l.D + HRK_DP - 1) / HRK_DP};
    t.start = malloc((size_t)(l.M + 1) * sizeof *t.start);
    t.input = malloc((size_t)l.M * sizeof *t.input);
    t.start[0] = BEFORE;
    for (int64_t m = 0; m < l.M; m++) {
        t.start[m + 1] = t.start[m] + (m == 2 ? 50 : m * 3 % 7);
        t.input[m] = (m - (m % 5 == 4)) * l.K;
    }
    const int64_t entries = t.start[l.M];
    t.row = malloc((size_t)entries * sizeof *t.row);
    for (int64_t e = 0; e < entries; e++)
        t.row[e] = (uint32_t)(e / 2 * 2 * 7 % BATCH);
    t.g = numbers(entries, 3);
    t.x = numbers(t.panels * PITCH, 4);
    t.dx = numbers(t.panels * PITCH, 5);
    t.dw = numbers(l.M * l.K, 6);
    t.inputs = malloc((size_t)(l.M * l.K) * (wide ? sizeof(uint32_t) : sizeof(uint16_t)));
    for (int64_t i = 0; i < l.M * l.K; i++)
        if (wide)
            ((uint32_t *)t.inputs)[i] = l.inputs[i];
        else
            ((uint16_t *)t.inputs)[i] = (uint16_t)l.inputs[i];
    t.lists = (hrk_lists){.count = l.M, .start = t.start, .row = t.row, .g = t.g};
    return t;
}

static void free_listed(listed t)
{
    free(t.start), free(t.input), free(t.row), free(t.g), free(t.x), free(t.dx), free(t.dw), free(t.inputs);
}

/* What a level makes of the lists in calls of `chunk` columns each; 0: one call without an end. */
typedef struct outcome {
    float *dx, *dw;
    int64_t *at, dx_bytes, dw_bytes, at_bytes;
} outcome;

static void assert_done(const listed *t, const outcome *o, uint32_t end)
{
    for (int64_t m = 0; m < t->l.M; m++) {
        int64_t below = 0;
        for (int64_t k = 0; k < t->l.K; k++)
            below += t->l.inputs[t->input[m] + k] < end;
        assert_int_equal(o->at[m], below);
    }
}

static outcome run_lists(hrk_table k, const listed *t, int64_t chunk)
{
    const int64_t n = t->l.M * t->l.K, all = t->panels * PITCH;
    outcome o = {.dx_bytes = 4 * all, .dw_bytes = 4 * n, .at_bytes = 8 * t->l.M};
    o.dx = guarded_copy(all, t->dx);
    o.dw = guarded_copy(n, t->dw);
    o.at = guarded(o.at_bytes);
    memset(o.at, 0, (size_t)o.at_bytes);
    hrk_fan_lists_args a = {.inputs = t->inputs, .wide = t->wide, .input = t->input, .at = o.at, .sw = t->l.w, .x = t->x, .dx = o.dx,
                            .dw = o.dw, .step = PITCH, .end = UINT32_MAX};
    for (int64_t end = chunk; chunk > 0 && end < t->l.D; end += chunk) {
        a.end = (uint32_t)end;
        k.fan_lists(&t->lists, t->l.K, a);
        assert_done(t, &o, a.end);
    }
    a.end = UINT32_MAX;
    k.fan_lists(&t->lists, t->l.K, a);
    assert_done(t, &o, a.end);
    return o;
}

static void free_outcome(outcome o)
{
    guarded_free(o.dx), guarded_free(o.dw), guarded_free(o.at);
}

static void assert_same_outcome(const outcome *one, const outcome *two)
{
    assert_same(one->dx, two->dx, one->dx_bytes);
    assert_same(one->dw, two->dw, one->dw_bytes);
    assert_same(one->at, two->at, one->at_bytes);
}

static void compare_lists(hrk_table k, labels l, int wide)
{
    static const int64_t chunks[] = {0, 1, 50, HRK_DP, 3 * HRK_DP};
    const listed t = make_listed(l, wide);
    const outcome one = run_lists(hrk_table_make(HR_ISA_REF), &t, 0);
    for (int i = 0; i < 5; i++) {
        const outcome two = run_lists(k, &t, chunks[i]);
        assert_same_outcome(&one, &two);
        free_outcome(two);
    }
    free_outcome(one), free_listed(t);
}

static void check_lists(hrk_table k)
{
    for (int s = 0; s < SIZES; s++)
        for (int w = 0; w < WIDTHS; w++) {
            const labels l = make_labels(rows_of[(s + w) % ROWS], sizes[s], width_of(sizes[s], w));
            compare_lists(k, l, 0);
            compare_lists(k, l, 1);
            free_labels(l);
        }
    const labels far = make_labels(3, 5, 70000); /* columns that need u32 */
    compare_lists(k, far, 1);
    free_labels(far);
}

/* G as a dense matrix (M, BATCH), a row's entries added, and the sum of their sizes; terms: how many entries each element has. */
typedef struct dense_lists {
    double *g, *size;
    int64_t *terms;
} dense_lists;

static dense_lists make_dense(const listed *t)
{
    const size_t n = (size_t)(t->l.M * BATCH);
    dense_lists d = {calloc(n, sizeof *d.g), calloc(n, sizeof *d.size), calloc(n, sizeof *d.terms)};
    for (int64_t m = 0; m < t->l.M; m++)
        for (int64_t e = t->start[m]; e < t->start[m + 1]; e++) {
            d.g[m * BATCH + t->row[e]] += (double)t->g[e];
            d.size[m * BATCH + t->row[e]] += fabs((double)t->g[e]);
            d.terms[m * BATCH + t->row[e]]++;
        }
    return d;
}

static int64_t place_of(int64_t b, int64_t column)
{
    return column / HRK_DP * PITCH + b * HRK_DP + column % HRK_DP;
}

static void dense_lists_dw(const listed *t, const dense_lists *d, const outcome *o)
{
    for (int64_t i = 0; i < t->l.M * t->l.K; i++) {
        const int64_t m = i / t->l.K, column = t->l.inputs[t->input[m] + i % t->l.K];
        double sum = (double)t->dw[i], size = fabs(sum);
        for (int64_t b = 0; b < BATCH; b++) {
            const double x = (double)t->x[place_of(b, column)];
            sum += d->g[m * BATCH + b] * x;
            size += d->size[m * BATCH + b] * fabs(x);
        }
        assert_true(fabs((double)o->dw[i] - sum) <= sum_error(t->start[m + 1] - t->start[m], size));
    }
}

static void dense_lists_dx(const listed *t, const dense_lists *d, const outcome *o)
{
    double *w = calloc((size_t)(t->l.M * t->l.D), sizeof *w);
    for (int64_t i = 0; i < t->l.M * t->l.K; i++) {
        const int64_t m = i / t->l.K;
        w[m * t->l.D + t->l.inputs[t->input[m] + i % t->l.K]] = (double)t->l.w[i];
    }
    for (int64_t i = 0; i < BATCH * t->l.D; i++) {
        const int64_t b = i / t->l.D, column = i % t->l.D;
        double sum = (double)t->dx[place_of(b, column)], size = fabs(sum);
        int64_t terms = 0;
        for (int64_t m = 0; m < t->l.M; m++) {
            const double v = w[m * t->l.D + column];
            sum += v * d->g[m * BATCH + b];
            size += fabs(v) * d->size[m * BATCH + b];
            terms += v != 0 ? d->terms[m * BATCH + b] : 0;
        }
        assert_true(fabs((double)o->dx[place_of(b, column)] - sum) <= sum_error(terms, size));
    }
    for (int64_t i = 0; i < t->panels * PITCH; i++) /* beyond D, and between panels */
        if (i % PITCH >= BATCH * HRK_DP || i / PITCH * HRK_DP + i % PITCH % HRK_DP >= t->l.D)
            assert_memory_equal(&o->dx[i], &t->dx[i], sizeof *t->dx);
    free(w);
}

static void test_lists(void **state)
{
    (void)state;
    each_level(check_lists);
    for (int s = 0; s < SIZES; s++)
        for (int w = 0; w < WIDTHS; w++) {
            const labels l = make_labels(rows_of[(s + w) % ROWS], sizes[s], width_of(sizes[s], w));
            const listed t = make_listed(l, w % 2);
            const dense_lists d = make_dense(&t);
            const outcome o = run_lists(hrk_table_make(HR_ISA_REF), &t, 0);
            dense_lists_dw(&t, &d, &o);
            dense_lists_dx(&t, &d, &o);
            free(d.g), free(d.size), free(d.terms), free_outcome(o), free_listed(t), free_labels(l);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits), cmocka_unit_test(test_backward), cmocka_unit_test(test_shared),
                                       cmocka_unit_test(test_byte_place), cmocka_unit_test(test_int8), cmocka_unit_test(test_lists)};
    return cmocka_run_group_tests_name("fan-in kernels", tests, NULL, NULL);
}
