/* The kernels of sparse X: every level gives the bits of the reference and writes nowhere else, and the reference does what its contract says,
 * against dense sums in double. */
#include "check.h"

#include "kernels/kernels.h"

#include <math.h>

enum { ROWS = 77, GUARD = 64 };

static float uniform(uint32_t i, uint32_t j)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(5, 0, 0, 0), i, j, w);
    return (float)(w[0] >> 8) / 8388608.0f - 1.0f;
}

/* A sparse X (ROWS, D) and a label with K inputs. */
typedef struct problem {
    int64_t K, D, lists;
    hrk_columns x;
    uint32_t *present, *list, *start, *wide;
    uint16_t *row, *narrow;
    float *value, *w, *g;
    double *dense; /* (ROWS, D) */
} problem;

/* Of the columns one in three has no entry, and some have all rows; inputs are those of K equal parts. */
static problem make_problem(int64_t K, int64_t D)
{
    problem p = {.K = K, .D = D};
    p.present = calloc((size_t)(D + 31) / 32, sizeof *p.present);
    p.list = malloc((size_t)D * sizeof *p.list);
    p.start = calloc((size_t)D + 1, sizeof *p.start);
    p.row = malloc((size_t)(D * ROWS) * sizeof *p.row);
    p.value = malloc((size_t)(D * ROWS) * sizeof *p.value);
    p.dense = calloc((size_t)(D * ROWS), sizeof *p.dense);
    uint32_t entries = 0;
    for (int64_t d = 0; d < D; d++) {
        p.list[d] = UINT32_MAX; /* not to be looked at */
        if (d % 3 == 1)
            continue;
        p.present[d / 32] |= UINT32_C(1) << d % 32;
        p.list[d] = (uint32_t)p.lists++;
        for (uint32_t b = 0; b < ROWS; b++) {
            if (d % 10 != 3 && uniform(b, (uint32_t)d) < 0.8f)
                continue;
            p.row[entries] = (uint16_t)b;
            p.dense[b * D + d] = (double)(p.value[entries++] = uniform((uint32_t)d, b + 100));
        }
        p.start[p.lists] = entries;
    }
    p.x = (hrk_columns){.columns = D, .present = p.present, .list = p.list, .start = p.start, .row = p.row, .value = p.value};
    p.wide = malloc((size_t)K * sizeof *p.wide);
    p.narrow = malloc((size_t)K * sizeof *p.narrow);
    p.w = malloc((size_t)K * sizeof *p.w);
    p.g = malloc(ROWS * sizeof *p.g);
    for (int64_t k = 0; k < K; k++) {
        const int64_t low = k * D / K, part = (k + 1) * D / K - low;
        p.wide[k] = (uint32_t)(low + (k == K - 1 ? part - 1 : part / 2)); /* the last column too */
        p.narrow[k] = (uint16_t)p.wide[k];
        p.w[k] = uniform((uint32_t)k, 9);
    }
    for (uint32_t b = 0; b < ROWS; b++)
        p.g[b] = uniform(b, 10);
    return p;
}

static void free_problem(problem *p)
{
    free(p->present), free(p->list), free(p->start), free(p->row), free(p->value), free(p->dense);
    free(p->wide), free(p->narrow), free(p->w), free(p->g);
}

/* `bytes` of 0xff with guards on both sides. */
static void *guarded(size_t bytes)
{
    uint8_t *p = malloc(bytes + 2 * GUARD);
    memset(p, 0xff, bytes + 2 * GUARD);
    return p + GUARD;
}

static void guarded_free(void *p, size_t bytes)
{
    const uint8_t *before = (uint8_t *)p - GUARD, *behind = (uint8_t *)p + bytes;
    for (int i = 0; i < GUARD; i++)
        assert_true(before[i] == 0xff && behind[i] == 0xff);
    free((uint8_t *)p - GUARD);
}

static void check_level(const hrk_table *k, const problem *p)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const size_t room = ((size_t)p->K + 16) * sizeof(uint32_t), weights = (size_t)p->K * sizeof(float), rows = ROWS * sizeof(float);
    uint32_t *which[2] = {guarded(room), guarded(room)}, *list[2] = {guarded(room), guarded(room)};
    float *dw[2] = {guarded(weights), guarded(weights)}, *z[2] = {guarded(rows), guarded(rows)};
    for (int wide = 0; wide < 2; wide++) {
        const void *inputs = wide ? (const void *)p->wide : p->narrow;
        const int64_t n = ref.column_hits(p->K, inputs, wide, &p->x, which[0], list[0]);
        assert_int_equal(k->column_hits(p->K, inputs, wide, &p->x, which[1], list[1]), n);
        assert_memory_equal(which[0], which[1], (size_t)n * sizeof(uint32_t));
        assert_memory_equal(list[0], list[1], (size_t)n * sizeof(uint32_t));
        memset(z[0], 0, rows), memset(z[1], 0, rows);
        ref.column_logits(n, which[0], list[0], &p->x, p->w, z[0]);
        k->column_logits(n, which[1], list[1], &p->x, p->w, z[1]);
        assert_memory_equal(z[0], z[1], rows);
        memset(dw[0], 0, weights), memset(dw[1], 0, weights);
        ref.column_dw(n, which[0], list[0], &p->x, p->g, dw[0]);
        k->column_dw(n, which[1], list[1], &p->x, p->g, dw[1]);
        assert_memory_equal(dw[0], dw[1], weights);
    }
    for (int i = 0; i < 2; i++)
        guarded_free(which[i], room), guarded_free(list[i], room), guarded_free(dw[i], weights), guarded_free(z[i], rows);
}

/* The reference against the masked dense products. */
static void check_reference(const problem *p)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    uint32_t *which = malloc(((size_t)p->K + 16) * sizeof *which), *list = malloc(((size_t)p->K + 16) * sizeof *list);
    float z[ROWS] = {0}, *dw = calloc((size_t)p->K, sizeof *dw);
    const int64_t n = ref.column_hits(p->K, p->wide, 1, &p->x, which, list);
    ref.column_logits(n, which, list, &p->x, p->w, z);
    ref.column_dw(n, which, list, &p->x, p->g, dw);
    /* sums of at most K and ROWS terms below 1 */
    for (int64_t b = 0; b < ROWS; b++) {
        double sum = 0;
        for (int64_t k = 0; k < p->K; k++)
            sum += (double)p->w[k] * p->dense[b * p->D + p->wide[k]];
        assert_true(fabs((double)z[b] - sum) <= (double)(p->K * p->K) * 0x1p-24);
    }
    for (int64_t k = 0, i = 0; k < p->K; k++) {
        double sum = 0;
        for (int64_t b = 0; b < ROWS; b++)
            sum += (double)p->g[b] * p->dense[b * p->D + p->wide[k]];
        assert_true(fabs((double)dw[k] - sum) <= ROWS * ROWS * 0x1p-24);
        const bool has = p->wide[k] % 3 != 1;
        assert_true(!has || (which[i] == k && list[i] == p->list[p->wide[k]]));
        i += has;
        assert_true(k < p->K - 1 || i == n);
    }
    free(which), free(list), free(dw);
}

/* An input beyond the columns is told, wherever it is. */
static void check_outside(const hrk_table *k, problem *p)
{
    uint32_t *which = malloc(((size_t)p->K + 16) * sizeof *which), *list = malloc(((size_t)p->K + 16) * sizeof *list);
    for (int64_t i = 0; i < p->K; i += 1 + p->K / 3) {
        const uint32_t good = p->wide[i];
        for (int bad = 0; bad < 3; bad++) {
            p->wide[i] = bad == 0 ? (uint32_t)p->D : bad == 1 ? UINT32_MAX : UINT32_C(1) << 31;
            assert_int_equal(k->column_hits(p->K, p->wide, 1, &p->x, which, list), -1);
        }
        p->wide[i] = good;
        p->narrow[i] = (uint16_t)p->D;
        assert_int_equal(k->column_hits(p->K, p->narrow, 0, &p->x, which, list), -1);
        p->narrow[i] = (uint16_t)good;
    }
    free(which), free(list);
}

static void test_columns(void **state)
{
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 15, 16, 17, 31, 32, 33, 64, 100};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int w = 0; w < 3; w++) {
            problem p = make_problem(sizes[s], w == 0 ? sizes[s] : w == 1 ? 3 * sizes[s] + 5 : 1000);
            check_reference(&p);
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++) {
                const hrk_table k = hrk_table_make(isa);
                check_level(&k, &p);
                check_outside(&k, &p);
            }
            free_problem(&p);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_columns)};
    return cmocka_run_group_tests_name("kernels of sparse X", tests, NULL, NULL);
}
