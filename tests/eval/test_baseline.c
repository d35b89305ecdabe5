/* Rankings, saved predictions and baselines on a data set small enough to do by hand, and on a random one
 * against brute force. */
#include "eval/eval.h"

#include "base/file.h"
#include "eval/ranking.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Four training rows, three test rows, three features, five labels.
 *
 *   train 0  f0          label 0         test 0  f0               label 2
 *   train 1  f1          label 1         test 1  .6 f1 + .8 f2    label 3
 *   train 2  .6 f0 .8 f1 labels 0 2      test 2  nothing          label 4
 *   train 3  f2          label 3
 */
static const hr_dataset tiny = {
    .path = "tiny",
    .name = "tiny",
    .labels = 5,
    .features = 3,
    .propensity_a = 0.55,
    .propensity_b = 1.5,
    .split = {[HR_SPLIT_TRAIN] = {.present = true,
                                  .rows = 4,
                                  .labels = {4, 5, (int64_t[]){0, 1, 2, 4, 5}, (uint32_t[]){0, 1, 0, 2, 3},
                                             NULL},
                                  .features = {4, 3, (int64_t[]){0, 1, 2, 4, 5}, (uint32_t[]){0, 1, 0, 1, 2},
                                               (float[]){1, 1, 0.6f, 0.8f, 1}}},
              [HR_SPLIT_TEST] = {.present = true,
                                 .rows = 3,
                                 .labels = {3, 5, (int64_t[]){0, 1, 2, 3}, (uint32_t[]){2, 3, 4}, NULL},
                                 .features = {3, 3, (int64_t[]){0, 1, 3, 3}, (uint32_t[]){0, 1, 2},
                                              (float[]){1, 0.6f, 0.8f}}}},
};

typedef struct bench {
    hr_ctx *ctx;
    char folder[64], file[128];
    hr_eval_options options;
} bench;

static int setup(void **state)
{
    bench *b = calloc(1, sizeof *b);
    strcpy(b->folder, "/tmp/hr_test_baseline_XXXXXX");
    if (!mkdtemp(b->folder) || hr_ctx_create(NULL, &b->ctx) != HR_OK)
        return -1;
    snprintf(b->file, sizeof b->file, "%s/p.txt", b->folder);
    b->options = hr_eval_options_default();
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bench *b = *state;
    hr_dir_remove(b->ctx, b->folder);
    hr_mem_report memory;
    hr_ctx_memory(b->ctx, &memory);
    hr_ctx_destroy(b->ctx);
    free(b);
    return memory.now[HR_MEM_EVAL] == 0 ? 0 : -1;
}

static void write_text(const bench *b, const char *text)
{
    FILE *f = fopen(b->file, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void assert_file(const bench *b, const char *expected)
{
    char text[4096];
    FILE *f = fopen(b->file, "r");
    assert_non_null(f);
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    assert_string_equal(text, expected);
}

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-12))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static void test_topk(void **state)
{
    (void)state;
    hr_candidate storage[3];
    hr_topk top;
    hr_topk_init(&top, storage, 3);
    const double scores[] = {1, NAN, 3, 2, 3, -INFINITY, 2};
    for (uint32_t i = 0; i < 7; i++)
        hr_topk_offer(&top, 10 - i, scores[i]);
    hr_topk_sort(&top);
    // scores 3, 3, 2, 2 belong to ids 8, 6, 7, 4: equal ones by id
    assert_int_equal(top.n, 3);
    assert_int_equal(storage[0].id, 6);
    assert_int_equal(storage[1].id, 8);
    assert_int_equal(storage[2].id, 4);
    hr_topk_init(&top, storage, 0);
    hr_topk_offer(&top, 1, 1);
    hr_topk_sort(&top);
    assert_int_equal(top.n, 0);
}

static void test_popularity(void **state)
{
    bench *b = *state;
    hr_metrics m;
    b->options.save_predictions = b->file;
    assert_int_equal(hr_baseline_popularity(b->ctx, &tiny, &b->options, &m), HR_OK);
    // every row gets 0 1 2 3 4: true labels at ranks 3, 4, 5
    assert_near(m.mrr, (1.0 / 3 + 1.0 / 4 + 1.0 / 5) / 3);
    assert_near(m.precision[1], 1.0 / 9);
    assert_near(m.recall[2], 1);
    assert_file(
        b,
        "0:0.5 1:0.25 2:0.25 3:0.25 4:0\n0:0.5 1:0.25 2:0.25 3:0.25 4:0\n0:0.5 1:0.25 2:0.25 3:0.25 4:0\n");
}

static void test_knn(void **state)
{
    bench *b = *state;
    hr_metrics m;
    // test 0: rows 0 (1) and 2 (.6): labels 0 (1.36), 2 (.36)
    // test 1: rows 3 (.8), 1 (.6), 2 (.48): labels 3 (.64), 1 (.36), 0 and 2 (.2304)
    assert_int_equal(hr_baseline_knn(b->ctx, &tiny, 20, &b->options, &m), HR_OK);
    assert_near(m.mrr, (1.0 / 2 + 1) / 3);
    assert_near(m.precision[0], 1.0 / 3);
    assert_near(m.recall[1], 2.0 / 3);
    // one neighbour: test 0 sees label 0 only
    assert_int_equal(hr_baseline_knn(b->ctx, &tiny, 1, &b->options, &m), HR_OK);
    assert_near(m.mrr, 1.0 / 3);
    // a training row is not its own neighbour: rows 0 and 2 find each other, 1 finds 2, 3 nobody
    b->options.split = HR_SPLIT_TRAIN;
    assert_int_equal(hr_baseline_knn(b->ctx, &tiny, 1, &b->options, &m), HR_OK);
    assert_near(m.precision[0], 1.0 / 4);
}

/* A query whose values are all 0 has no direction, hence no neighbour. */
static void test_knn_zero_query(void **state)
{
    bench *b = *state;
    hr_metrics m;
    hr_dataset zero = tiny;
    zero.split[HR_SPLIT_TEST].features.values = (float[]){0, 0, 0};
    b->options.save_predictions = b->file;
    assert_int_equal(hr_baseline_knn(b->ctx, &zero, 20, &b->options, &m), HR_OK);
    assert_file(b, "\n\n\n");
}

static void test_filter_and_share(void **state)
{
    bench *b = *state;
    hr_metrics m;
    hr_dataset filtered = tiny;
    filtered.split[HR_SPLIT_TEST].filter = (hr_csr){3, 5, (int64_t[]){0, 1, 1, 2}, (uint32_t[]){0, 4}, NULL};
    assert_int_equal(hr_baseline_knn(b->ctx, &filtered, 20, &b->options, &m), HR_OK);
    assert_near(m.mrr, 2.0 / 3);
    b->options.save_predictions = b->file;
    assert_int_equal(hr_baseline_popularity(b->ctx, &filtered, &b->options, &m), HR_OK);
    assert_file(b, "1:0.25 2:0.25 3:0.25 4:0\n0:0.5 1:0.25 2:0.25 3:0.25 4:0\n0:0.5 1:0.25 2:0.25 3:0.25\n");

    // at most one training row in four: label 0 does not count, lower ranks move up
    b->options.save_predictions = NULL;
    b->options.max_label_share = 0.25;
    b->options.top_k = 1;
    assert_int_equal(hr_baseline_knn(b->ctx, &tiny, 20, &b->options, &m), HR_OK);
    assert_int_equal(m.labels_counted, 4);
    assert_near(m.precision[0], 2.0 / 3);

    hr_ranking *ranking;
    assert_int_equal(hr_ranking_create(b->ctx, &filtered, &b->options, &ranking), HR_OK);
    assert_int_equal(hr_ranking_rows(ranking), 3);
    assert_int_equal(hr_ranking_wanted(ranking), 3); // 1 + at most one filter pair + label 0
    assert_int_equal(hr_ranking_counted(ranking)[0], 0);
    assert_int_equal(hr_ranking_frequency(ranking)[0], 2);
    assert_false(hr_ranking_allows(ranking, 2, 4));
    assert_true(hr_ranking_allows(ranking, 1, 4));
    hr_ranking_destroy(ranking);
}

static void test_bad_options(void **state)
{
    bench *b = *state;
    hr_metrics m;
    hr_eval_options bad[5] = {b->options, b->options, b->options, b->options, b->options};
    bad[0].top_k = 0;
    bad[1].top_k = 101;
    bad[2].max_label_share = 0;
    bad[3].max_label_share = NAN;
    bad[4].split = HR_SPLIT_DEV;
    for (int i = 0; i < 5; i++)
        assert_int_equal(hr_baseline_popularity(b->ctx, &tiny, &bad[i], &m), HR_ERR_USAGE);
    assert_non_null(strstr(hr_ctx_message(b->ctx), "has no dev split"));
    assert_int_equal(hr_baseline_knn(b->ctx, &tiny, 0, &b->options, &m), HR_ERR_USAGE);
    hr_dataset dense = tiny;
    dense.split[HR_SPLIT_TRAIN].features.indptr = NULL;
    assert_int_equal(hr_baseline_knn(b->ctx, &dense, 20, &b->options, &m), HR_ERR_USAGE);
    assert_non_null(strstr(hr_ctx_message(b->ctx), "dense vectors"));
    b->options.save_predictions = "/nonexistent/x";
    assert_int_equal(hr_baseline_popularity(b->ctx, &tiny, &b->options, &m), HR_ERR_CANTCREATE);
}

/* ---- saved predictions ---- */

static void test_predictions(void **state)
{
    bench *b = *state;
    hr_metrics m;
    // any order, spaces, CR LF, an empty line, no newline at the end
    write_text(b, " 0:0.5\t2:1e0 \r\n\n4:-1 0:-2");
    assert_int_equal(hr_eval_predictions(b->ctx, b->file, &tiny, &b->options, &m), HR_OK);
    assert_near(m.precision[0], 2.0 / 3);
    write_text(b, "\n\n\n");
    assert_int_equal(hr_eval_predictions(b->ctx, b->file, &tiny, &b->options, &m), HR_OK);
    assert_near(m.precision[0], 0);
}

static void test_bad_predictions(void **state)
{
    static const struct {
        const char *text, *fragment;
    } bad[] = {
        {"", "0 lines, but the test split of tiny has 3 rows"},
        {"0:1\n1:1\n", "2 lines, but the test split"},
        {"\n\n\n\n", "more than 3 lines"},
        {"0:1 abc\n", "line 1, column 5: found 'abc', expected label:score"},
        {"\n0:1 1:2x\n", "line 2, column 5: found '1:2x'"},
        {"0:\n", "found '0:'"},
        {":1\n", "found ':1'"},
        {"0:nan\n", "found '0:nan'"},
        {"0:1,1:2\n", "found '0:1,1:2'"},
        {"5:1\n", "line 1, column 1: label 5, the data set has labels 0 to 4"},
        {"-1:1\n", "label -1"},
        {"99999999999999999999:1\n", "expected label:score"},
        {"1:1\n1:1 2:1 1:2\n", "line 2, column 9: label 1 a second time"},
    };
    bench *b = *state;
    hr_metrics m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        write_text(b, bad[i].text);
        hr_status st = hr_eval_predictions(b->ctx, b->file, &tiny, &b->options, &m);
        const char *message = hr_ctx_message(b->ctx);
        if (st != HR_ERR_DATA || !strstr(message, bad[i].fragment) || !strstr(message, "p.txt"))
            fail_msg("%s: status %d, '%s', expected '%s'", bad[i].text, (int)st, message, bad[i].fragment);
    }
    assert_int_equal(hr_eval_predictions(b->ctx, "/nonexistent", &tiny, &b->options, &m), HR_ERR_NOINPUT);
}

/* ---- a random data set against brute force ---- */

enum { ROWS = 600, QUERIES = 300, FEATURES = 40, LABELS = 50 };

typedef struct random_set {
    int64_t indptr[4][ROWS + 1];
    uint32_t indices[4][ROWS * FEATURES];
    float values[2][ROWS * FEATURES];
    hr_dataset dataset;
} random_set;

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static hr_csr random_csr(random_set *x, int which, int64_t rows, uint32_t columns, uint32_t one_in,
                         uint32_t *seed)
{
    int64_t n = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (uint32_t c = 0; c < columns; c++) {
            if (next_random(seed) % one_in)
                continue;
            if (which < 2)
                x->values[which][n] = (float)(1 + next_random(seed) % 4) / 4;
            x->indices[which][n++] = c;
        }
        x->indptr[which][r + 1] = n;
    }
    return (hr_csr){rows, columns, x->indptr[which], x->indices[which], which < 2 ? x->values[which] : NULL};
}

static random_set *make_random_set(void)
{
    random_set *x = calloc(1, sizeof *x);
    uint32_t seed = 7;
    x->dataset = (hr_dataset){
        .name = "random", .labels = LABELS, .features = FEATURES, .propensity_a = 0.55, .propensity_b = 1.5};
    hr_split_data *train = &x->dataset.split[HR_SPLIT_TRAIN], *test = &x->dataset.split[HR_SPLIT_TEST];
    *train = (hr_split_data){.present = true, .rows = ROWS};
    *test = (hr_split_data){.present = true, .rows = QUERIES};
    train->features = random_csr(x, 0, ROWS, FEATURES, 6, &seed);
    test->features = random_csr(x, 1, QUERIES, FEATURES, 6, &seed);
    train->labels = random_csr(x, 2, ROWS, LABELS, 12, &seed);
    test->labels = random_csr(x, 3, QUERIES, LABELS, 12, &seed);
    return x;
}

static double dot(const hr_csr *a, int64_t r, const hr_csr *b, int64_t q)
{
    double sum = 0;
    for (int64_t i = a->indptr[r]; i < a->indptr[r + 1]; i++)
        for (int64_t j = b->indptr[q]; j < b->indptr[q + 1]; j++)
            sum += a->indices[i] == b->indices[j] ? (double)a->values[i] * b->values[j] : 0;
    return sum;
}

/* Votes of the 20 nearest rows, computed pair by pair, in double precision. */
static void brute_force(hr_ctx *ctx, const hr_dataset *d, const hr_eval_options *options, hr_metrics *out)
{
    const hr_split_data *train = &d->split[HR_SPLIT_TRAIN], *test = &d->split[HR_SPLIT_TEST];
    hr_ranking *ranking;
    assert_int_equal(hr_ranking_create(ctx, d, options, &ranking), HR_OK);
    for (int64_t q = 0; q < test->rows; q++) {
        hr_candidate nearest[20];
        hr_topk top;
        hr_topk_init(&top, nearest, 20);
        for (int64_t r = 0; r < train->rows; r++) {
            double length = sqrt(dot(&train->features, r, &train->features, r) *
                                 dot(&test->features, q, &test->features, q));
            double product = dot(&train->features, r, &test->features, q);
            // equal cosines must compare equal, as they do in single precision in the index
            if (product > 0)
                hr_topk_offer(&top, (uint32_t)r, (float)(product / length));
        }
        hr_topk_sort(&top);
        double votes[LABELS] = {0};
        for (int j = 0; j < top.n; j++)
            for (int64_t i = train->labels.indptr[nearest[j].id]; i < train->labels.indptr[nearest[j].id + 1];
                 i++)
                votes[train->labels.indices[i]] += nearest[j].score * nearest[j].score;
        hr_ranking_begin(ranking, q);
        for (uint32_t l = 0; l < LABELS; l++)
            if (votes[l] > 0)
                hr_ranking_offer(ranking, l, votes[l]);
        assert_int_equal(hr_ranking_end(ranking), HR_OK);
    }
    assert_int_equal(hr_ranking_finish(ranking, out), HR_OK);
    hr_ranking_destroy(ranking);
}

static void test_knn_against_brute_force(void **state)
{
    bench *b = *state;
    random_set *x = make_random_set();
    hr_metrics fast, slow;
    b->options.top_k = 10;
    assert_int_equal(hr_baseline_knn(b->ctx, &x->dataset, 20, &b->options, &fast), HR_OK);
    brute_force(b->ctx, &x->dataset, &b->options, &slow);
    // neighbours at equal distance may be rounded apart in one and not in the other: a row in a hundred
    for (int i = 0; i < 4; i++) {
        assert_true(fabs(fast.precision[i] - slow.precision[i]) < 0.01);
        assert_true(fabs(fast.recall[i] - slow.recall[i]) < 0.01);
    }
    free(x);
}

static void test_threads_and_saving(void **state)
{
    bench *b = *state;
    random_set *x = make_random_set();
    hr_metrics first, m;
    b->options.top_k = 10;
    b->options.max_label_share = 0.09;
    b->options.save_predictions = b->file;
    assert_int_equal(hr_baseline_knn(b->ctx, &x->dataset, 20, &b->options, &first), HR_OK);
    assert_true(first.labels_counted > 0 && first.labels_counted < LABELS);
    static const int threads[] = {1, 2, 7};
    for (int t = 0; t < 3; t++) {
        hr_ctx_options options = hr_ctx_options_default();
        options.threads = threads[t];
        hr_ctx *ctx;
        assert_int_equal(hr_ctx_create(&options, &ctx), HR_OK);
        assert_int_equal(hr_baseline_knn(ctx, &x->dataset, 20, &b->options, &m), HR_OK);
        hr_ctx_destroy(ctx);
        assert_memory_equal(&first, &m, sizeof m);
    }
    // what was saved is evaluated to the same bits
    b->options.save_predictions = NULL;
    assert_int_equal(hr_eval_predictions(b->ctx, b->file, &x->dataset, &b->options, &m), HR_OK);
    assert_memory_equal(&first, &m, sizeof m);
    free(x);
}

static void test_faults(void **state)
{
    bench *b = *state;
    b->options.save_predictions = b->file;
    for (int what = 0; what < HR_FAULTS; what++) {
        hr_status st = HR_ERR_BUG;
        hr_metrics m;
        int k = 1;
        for (; st != HR_OK && k < 100; k++) {
            hr_ctx_fail_next(b->ctx, (hr_fault)what, k, false);
            st = hr_baseline_knn(b->ctx, &tiny, 20, &b->options, &m);
            hr_mem_report memory;
            hr_ctx_memory(b->ctx, &memory);
            assert_int_equal(memory.now[HR_MEM_EVAL], 0);
        }
        hr_ctx_fail_next(b->ctx, (hr_fault)what, 0, false);
        assert_int_equal(st, HR_OK);
        assert_true(k > 3);
    }
}

static void test_ranking_memory(void **state)
{
    bench *b = *state;
    random_set *x = make_random_set();
    b->options.save_predictions = b->file;
    b->options.max_label_share = 0.5;
    hr_ranking *ranking;
    assert_int_equal(hr_ranking_create(b->ctx, &x->dataset, &b->options, &ranking), HR_OK);
    hr_mem_report memory;
    hr_ctx_memory(b->ctx, &memory);
    assert_true(memory.peak[HR_MEM_EVAL] <= hr_ranking_memory(&x->dataset));
    hr_ranking_destroy(ranking);
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_topk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_popularity, setup, teardown),
        cmocka_unit_test_setup_teardown(test_knn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_knn_zero_query, setup, teardown),
        cmocka_unit_test_setup_teardown(test_filter_and_share, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_predictions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_predictions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_knn_against_brute_force, setup, teardown),
        cmocka_unit_test_setup_teardown(test_threads_and_saving, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ranking_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
