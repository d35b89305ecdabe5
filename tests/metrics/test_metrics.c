/* Metrics: cases small enough to do by hand, and the fixture of an independent Python implementation. */
#include "metrics/metrics.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-12 * fmax(1e-3, fabs(expected))))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static int setup(void **state)
{
    return hr_ctx_create(NULL, (hr_ctx **)state);
}

static int teardown(void **state)
{
    hr_mem_report memory;
    hr_ctx_memory(*state, &memory);
    hr_ctx_destroy(*state);
    return memory.now[HR_MEM_EVAL] == 0 ? 0 : -1;
}

/* L = 4, N = 20, A = B = 1, so C = 2 (ln 20 - 1) and w(l) = 1 + C / (n_l + 1). */
static const uint32_t frequency[4] = {19, 9, 1, 0};

static hr_meter *make_meter(hr_ctx *ctx, int top_k, const uint8_t *counted)
{
    hr_meter_options options = {.labels = 4,
                                .train_rows = 20,
                                .frequency = frequency,
                                .counted = counted,
                                .propensity_a = 1,
                                .propensity_b = 1,
                                .top_k = top_k};
    hr_meter *meter;
    assert_int_equal(hr_meter_create(ctx, &options, &meter), HR_OK);
    return meter;
}

static void add_three_rows(hr_meter *meter)
{
    hr_meter_add(meter, (uint32_t[]){0, 2, 1}, 3, (uint32_t[]){0, 1}, 2);
    hr_meter_add(meter, (uint32_t[]){3}, 1, (uint32_t[]){2}, 1);
    hr_meter_add(meter, (uint32_t[]){2, 0}, 2, NULL, 0);
}

static void test_by_hand(void **state)
{
    hr_meter *meter = make_meter(*state, 4, NULL);
    add_three_rows(meter);
    hr_metrics m;
    hr_meter_read(meter, &m);

    // k = 1 and 3 fit into four ranks; the rest stays empty
    assert_int_equal(m.rows, 3);
    assert_int_equal(m.labels_counted, 4);
    assert_int_equal(m.k[0], 1);
    assert_int_equal(m.k[1], 3);
    assert_int_equal(m.k[2], 0);

    // row 0 is right at ranks 1 and 3 of two true labels; rows 1 and 2 get nothing
    assert_near(m.precision[0], 1.0 / 3);
    assert_near(m.precision[1], 2.0 / 3 / 3);
    assert_near(m.recall[0], 1.0 / 2 / 3);
    assert_near(m.recall[1], 1.0 / 3);
    assert_near(m.mrr, 1.0 / 3);
    // DCG = 1 + 1/log2(4) = 1.5 of at most 1 + 1/log2(3)
    assert_near(m.ndcg[0], 1.0 / 3);
    assert_near(m.ndcg[1], 1.5 / (1 + 1 / log2(3)) / 3);

    double c = 2 * (log(20) - 1);
    double w0 = 1 + c / 20, w1 = 1 + c / 10, w2 = 1 + c / 2;
    // ideal first labels: 1 (rarer than 0) for row 0, 2 for row 1
    assert_near(m.psp[0], w0 / (w1 + w2));
    assert_near(m.psp[1], (w0 + w1) / (w1 + w0 + w2));
    assert_near(m.psndcg[0], w0 / (w1 + w2));
    double ideal2 = 1 + 1 / log2(3);
    assert_near(m.psndcg[1], (w0 + w1 / 2) / ideal2 / ((w1 + w0 / log2(3)) / ideal2 + w2));

    // true labels are 0, 1, 2; right are 0 at once, 1 within three
    assert_near(m.coverage[0], 1.0 / 3);
    assert_near(m.coverage[1], 2.0 / 3);

    // three trained labels: groups floor(10 r / 3) = 0, 3, 6; label 3 was never seen: the last
    assert_int_equal(m.decile_labels[0], 1);
    assert_int_equal(m.decile_labels[3], 1);
    assert_int_equal(m.decile_labels[6], 1);
    assert_int_equal(m.decile_labels[9], 1);
    assert_near(m.decile_recall[0][0], 1);
    assert_near(m.decile_recall[3][0], 0);
    assert_near(m.decile_recall[3][1], 1);
    assert_near(m.decile_recall[6][1], 0);
    assert_int_equal(m.decile_pairs[6], 1);
    assert_int_equal(m.decile_pairs[9], 0);
    hr_meter_destroy(meter);
}

static void test_uncounted_labels(void **state)
{
    // without label 0, row 0 has one true label, found at rank 2 of the ranking given
    uint8_t counted[4] = {0, 1, 1, 1};
    hr_meter *meter = make_meter(*state, 3, counted);
    hr_meter_add(meter, (uint32_t[]){2, 1}, 2, (uint32_t[]){0, 1}, 2);
    hr_meter_add(meter, (uint32_t[]){1, 2, 3}, 3, (uint32_t[]){0}, 1);
    hr_metrics m;
    hr_meter_read(meter, &m);
    assert_int_equal(m.labels_counted, 3);
    assert_near(m.precision[1], 1.0 / 3 / 2);
    assert_near(m.recall[1], 1.0 / 2);
    assert_near(m.mrr, 1.0 / 2 / 2);
    assert_near(m.coverage[0], 0);
    assert_near(m.coverage[1], 1);
    assert_int_equal(m.decile_labels[0] + m.decile_labels[5] + m.decile_labels[9], 3);
    hr_meter_destroy(meter);
}

static void test_reset_and_empty(void **state)
{
    hr_meter *meter = make_meter(*state, 3, NULL);
    hr_metrics once, twice;
    hr_meter_read(meter, &once);
    assert_int_equal(once.rows, 0);
    assert_near(once.psp[0], 0);
    assert_near(once.coverage[0], 0);

    add_three_rows(meter);
    hr_meter_read(meter, &once);
    hr_meter_reset(meter);
    add_three_rows(meter);
    hr_meter_read(meter, &twice);
    assert_memory_equal(&once, &twice, sizeof once);
    hr_meter_destroy(meter);
    hr_meter_destroy(NULL);
}

/* With rankings of 50, k ends at 10, but a first hit at rank 20 still counts for the reciprocal rank. */
static void test_reciprocal_rank_beyond_largest_k(void **state)
{
    uint32_t many[60] = {0}, ranked[50];
    for (uint32_t r = 0; r < 50; r++)
        ranked[r] = r;
    hr_meter_options options = {.labels = 60,
                                .train_rows = 100,
                                .frequency = many,
                                .propensity_a = 0.55,
                                .propensity_b = 1.5,
                                .top_k = 50};
    hr_meter *meter;
    assert_int_equal(hr_meter_create(*state, &options, &meter), HR_OK);
    hr_meter_add(meter, ranked, 50, (uint32_t[]){19, 55}, 2);
    hr_metrics m;
    hr_meter_read(meter, &m);
    assert_near(m.mrr, 1.0 / 20);
    assert_near(m.recall[3], 0);
    assert_near(m.coverage[3], 0);
    hr_meter_destroy(meter);
}

static void test_bad_options(void **state)
{
    hr_meter_options good = {.labels = 4,
                             .train_rows = 20,
                             .frequency = frequency,
                             .propensity_a = 1,
                             .propensity_b = 1,
                             .top_k = 5};
    hr_meter_options bad[5] = {good, good, good, good, good};
    bad[0].labels = 0;
    bad[1].top_k = 0;
    bad[2].top_k = 101;
    bad[3].propensity_b = 0;
    bad[4].propensity_a = NAN;
    for (int i = 0; i < 5; i++) {
        hr_meter *meter;
        assert_int_equal(hr_meter_create(*state, &bad[i], &meter), HR_ERR_USAGE);
        assert_null(meter);
        assert_int_not_equal(strlen(hr_ctx_message(*state)), 0);
    }
}

static void test_memory_and_faults(void **state)
{
    hr_meter_options options = {.labels = 4,
                                .train_rows = 20,
                                .frequency = frequency,
                                .propensity_a = 1,
                                .propensity_b = 1,
                                .top_k = 5};
    hr_status st = HR_ERR_NOMEM;
    hr_meter *meter = NULL;
    int k = 1;
    for (; st != HR_OK && k < 20; k++) {
        hr_ctx_fail_next(*state, HR_FAULT_ALLOC, k, false);
        st = hr_meter_create(*state, &options, &meter);
        assert_true(st == HR_OK || st == HR_ERR_NOMEM);
        hr_mem_report memory;
        hr_ctx_memory(*state, &memory);
        if (st != HR_OK)
            assert_int_equal(memory.now[HR_MEM_EVAL], 0);
        assert_true(memory.peak[HR_MEM_EVAL] <= hr_meter_memory(&options) + 4 * 128);
    }
    hr_ctx_fail_next(*state, HR_FAULT_ALLOC, 0, false);
    assert_int_equal(k, 6); // four allocations, each of which failed once
    hr_meter_destroy(meter);
}

static void test_label_frequency(void **state)
{
    (void)state;
    uint32_t count[4];
    hr_label_frequency(3, (int64_t[]){0, 2, 2, 3}, (uint32_t[]){1, 3, 3}, 4, count);
    assert_int_equal(count[0] + count[2], 0);
    assert_int_equal(count[1], 1);
    assert_int_equal(count[3], 2);
    hr_label_frequency(0, NULL, NULL, 4, count);
    assert_int_equal(count[3], 0);
}

/* ---- the fixture ---- */

#define MAX_LABELS 256

typedef struct fixture {
    long long labels, train_rows, rows;
    int top_k;
    double a, b;
    uint32_t frequency[MAX_LABELS];
    uint8_t counted[MAX_LABELS];
} fixture;

static void read_case(FILE *f, fixture *x)
{
    assert_int_equal(
        fscanf(f, "%lld %lld %lf %lf %d %lld", &x->labels, &x->train_rows, &x->a, &x->b, &x->top_k, &x->rows),
        6);
    assert_true(x->labels <= MAX_LABELS);
    assert_int_equal(fscanf(f, " freq"), 0);
    for (long long l = 0; l < x->labels; l++)
        assert_int_equal(fscanf(f, "%u", &x->frequency[l]), 1);
    assert_int_equal(fscanf(f, " counted"), 0);
    for (long long l = 0; l < x->labels; l++)
        assert_int_equal(fscanf(f, "%hhu", &x->counted[l]), 1);
}

static int read_ids(FILE *f, uint32_t *ids)
{
    int n;
    assert_int_equal(fscanf(f, "%d", &n), 1);
    for (int i = 0; i < n; i++)
        assert_int_equal(fscanf(f, "%u", &ids[i]), 1);
    return n;
}

static double look_up(const hr_metrics *m, const char *name, int k)
{
    int i = 0;
    while (i < HR_METRIC_KS - 1 && m->k[i] != k)
        i++;
    int decile;
    if (strcmp(name, "mrr") == 0)
        return m->mrr;
    if (strcmp(name, "labels_counted") == 0)
        return (double)m->labels_counted;
    assert_int_equal(m->k[i], k);
    if (sscanf(name, "decile%d", &decile) == 1)
        return m->decile_recall[decile][i];
    const struct {
        const char *name;
        const double *values;
    } table[] = {{"p", m->precision},   {"ndcg", m->ndcg}, {"psp", m->psp},
                 {"psndcg", m->psndcg}, {"r", m->recall},  {"coverage", m->coverage}};
    for (size_t t = 0; t < sizeof table / sizeof *table; t++)
        if (strcmp(table[t].name, name) == 0)
            return table[t].values[i];
    fail_msg("fixture names the unknown metric %s", name);
    return NAN;
}

static int check_case(hr_ctx *ctx, FILE *f)
{
    fixture x;
    read_case(f, &x);
    hr_meter_options options = {.labels = x.labels,
                                .train_rows = x.train_rows,
                                .frequency = x.frequency,
                                .counted = x.counted,
                                .propensity_a = x.a,
                                .propensity_b = x.b,
                                .top_k = x.top_k};
    hr_meter *meter;
    assert_int_equal(hr_meter_create(ctx, &options, &meter), HR_OK);
    uint32_t ranked[MAX_LABELS], truth[MAX_LABELS];
    for (long long r = 0; r < x.rows; r++) {
        assert_int_equal(fscanf(f, " row"), 0);
        int n = read_ids(f, ranked);
        assert_int_equal(fscanf(f, " |"), 0);
        int num_truth = read_ids(f, truth);
        hr_meter_add(meter, ranked, n, truth, num_truth);
    }
    hr_metrics m;
    hr_meter_read(meter, &m);
    hr_meter_destroy(meter);

    char word[64], name[64];
    int checked = 0;
    while (fscanf(f, "%63s", word) == 1 && strcmp(word, "expect") == 0) {
        double expected;
        assert_int_equal(fscanf(f, "%63s %lf", name, &expected), 2);
        char *at = strchr(name, '@');
        int k = at ? atoi(at + 1) : 0;
        if (at)
            *at = 0;
        assert_near(look_up(&m, name, k), expected);
        checked++;
    }
    assert_string_equal(word, "end");
    return checked;
}

static void test_fixture(void **state)
{
    FILE *f = fopen(HR_SOURCE_DIR "/tests/golden/metrics.txt", "r");
    assert_non_null(f);
    char word[256];
    int cases = 0, checked = 0;
    assert_non_null(fgets(word, sizeof word, f));
    while (fscanf(f, "%255s", word) == 1) {
        assert_string_equal(word, "case");
        checked += check_case(*state, f);
        cases++;
    }
    fclose(f);
    assert_int_equal(cases, 5);
    assert_true(checked > 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_by_hand, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uncounted_labels, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reset_and_empty, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reciprocal_rank_beyond_largest_k, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory_and_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_label_frequency, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fixture, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
