/* Label clusters: always a permutation, the same one for any number of threads, better than chance where there is something
 * to find, from training rows only, in the memory that was announced. */
#include "tests/check.h"

#include "model/cluster.h"

#include <math.h>

/* A problem with TOPICS topics, each with features of its own; topic of a label: label % TOPICS. The widest vectors have a column for
 * each feature, others are hashed. */
enum { TOPICS = 32, OWN = 14, COMMON = 64, FEATURES = TOPICS * OWN + COMMON, ROW = 11, CARRIED = 3 };
_Static_assert((int)FEATURES == (int)HR_CLUSTER_WIDTH_MAX, "the tests rely on it");

typedef struct problem {
    hr_dataset ds;
    int64_t rows;
    int64_t *indptr[2];   /* of features, of labels */
    uint32_t *indices[2];
    float *values, *dense;
    int64_t *text_indptr;
    uint32_t *text_indices;
} problem;

static uint32_t draw(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(*seed >> 8) * below >> 24);
}

static void *book(int64_t count, size_t size)
{
    void *p = calloc((size_t)count, size);
    assert_non_null(p);
    return p;
}

/* Row r is about a topic: seven features of it, four that all share, and three labels; ascending, as in every data set. */
static void fill_row(problem *p, int64_t r, uint32_t *seed)
{
    const uint32_t topic = (uint32_t)(r % TOPICS), third = (uint32_t)p->ds.labels / TOPICS / CARRIED;
    uint32_t *feature = p->indices[0] + r * ROW, *label = p->indices[1] + r * CARRIED;
    for (uint32_t i = 0; i < ROW; i++) {
        feature[i] = i < 7 ? topic * OWN + 2 * i + draw(seed, 2) : TOPICS * OWN + 16 * (i - 7) + draw(seed, 16);
        p->values[r * ROW + i] = 0.5f + 0.25f * (float)draw(seed, 4);
    }
    for (uint32_t i = 0; i < CARRIED; i++)
        label[i] = topic + TOPICS * (i * third + draw(seed, third));
}

static void attach(problem *p, hr_split which)
{
    hr_split_data *split = &p->ds.split[which];
    *split = (hr_split_data){.present = true, .rows = p->rows};
    split->features = (hr_csr){p->rows, FEATURES, p->indptr[0], p->indices[0], p->values};
    split->labels = (hr_csr){p->rows, p->ds.labels, p->indptr[1], p->indices[1], NULL};
}

/* labels: a multiple of TOPICS, or the topics are not of one size. Labels beyond CARRIED equal parts have no positives. */
static problem make_problem(int64_t labels, int64_t rows, uint32_t seed)
{
    problem p = {.ds = {.path = "planted", .labels = labels, .features = FEATURES}, .rows = rows};
    for (int i = 0; i < 2; i++) {
        p.indptr[i] = book(rows + 1, sizeof(int64_t));
        p.indices[i] = book(rows * (i ? CARRIED : ROW), sizeof(uint32_t));
        for (int64_t r = 0; r <= rows; r++)
            p.indptr[i][r] = r * (i ? CARRIED : ROW);
    }
    p.values = book(rows * ROW, sizeof(float));
    for (int64_t r = 0; r < rows; r++)
        fill_row(&p, r, &seed);
    attach(&p, HR_SPLIT_TRAIN);
    return p;
}

/* Every label gets a text of three features of its topic. */
static void add_texts(problem *p)
{
    const int64_t labels = p->ds.labels;
    uint32_t seed = 4;
    p->text_indptr = book(labels + 1, sizeof(int64_t));
    p->text_indices = book(labels * 3, sizeof(uint32_t));
    for (int64_t l = 0; l < labels; l++) {
        p->text_indptr[l + 1] = 3 * (l + 1);
        for (uint32_t i = 0; i < 3; i++)
            p->text_indices[3 * l + i] = (uint32_t)(l % TOPICS) * OWN + 4 * i + draw(&seed, 4);
    }
    p->ds.label_features = (hr_csr){labels, FEATURES, p->text_indptr, p->text_indices, NULL};
}

/* The same features as vectors. */
static void make_dense(problem *p)
{
    hr_split_data *train = &p->ds.split[HR_SPLIT_TRAIN];
    p->dense = book(p->rows * FEATURES, sizeof(float));
    for (int64_t r = 0; r < p->rows; r++)
        for (int64_t i = p->indptr[0][r]; i < p->indptr[0][r + 1]; i++)
            p->dense[r * p->ds.features + p->indices[0][i]] = p->values[i];
    train->features = (hr_csr){0};
    train->dense = p->dense;
}

static void free_problem(problem *p)
{
    for (int i = 0; i < 2; i++) {
        free(p->indptr[i]);
        free(p->indices[i]);
    }
    free(p->values);
    free(p->dense);
    free(p->text_indptr);
    free(p->text_indices);
}

/* ---- what every answer is ---- */

static uint32_t *all_labels(const problem *p)
{
    uint32_t *label = book(p->ds.labels, sizeof *label);
    for (int64_t l = 0; l < p->ds.labels; l++)
        label[l] = (uint32_t)l;
    return label;
}

static void check_permutation(const problem *p, const uint32_t *label, int64_t count, const uint32_t *order)
{
    uint8_t *seen = book(p->ds.labels, 1);
    for (int64_t i = 0; i < count; i++)
        seen[label[i]] = 1;
    for (int64_t i = 0; i < count; i++) {
        assert_in_range(order[i], 0, p->ds.labels - 1);
        assert_int_equal(seen[order[i]], 1);
        seen[order[i]] = 2;
    }
    free(seen);
}

/* The order of the first `count` of all labels, checked; free it. */
static uint32_t *cluster(hr_ctx *ctx, const problem *p, const hr_cluster_options *o, int64_t count)
{
    uint32_t *label = all_labels(p), *order = book(count, sizeof *order);
    memset(order, 0xff, (size_t)count * sizeof *order);
    check_ok(ctx, hr_cluster_labels(ctx, &p->ds, o, label, count, order));
    check_permutation(p, label, count, order);
    free(label);
    return order;
}

static void check_same(const uint32_t *a, const uint32_t *b, int64_t count)
{
    assert_memory_equal(a, b, (size_t)count * sizeof *a);
}

/* Share of labels that are of the most frequent topic of their cluster. */
static double purity(const uint32_t *order, int64_t count, int64_t size)
{
    int64_t pure = 0;
    for (int64_t begin = 0; begin < count; begin += size) {
        int64_t of[TOPICS] = {0}, most = 0;
        for (int64_t i = begin; i < count && i < begin + size; i++)
            of[order[i] % TOPICS]++;
        for (int t = 0; t < TOPICS; t++)
            most = of[t] > most ? of[t] : most;
        pure += most;
    }
    return (double)pure / (double)count;
}

static void test_permutation(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 2, 3, 15, 16, 17, 31, 100, 255, 256}, sizes[] = {1, 2, 3, 16, 32, 100, 256, INT64_MAX};
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(256, 500, 1);
    hr_cluster_options o = hr_cluster_options_default();
    for (int method = HR_CLUSTER_GIVEN; method <= HR_CLUSTER_KMEANS; method++)
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            for (size_t j = 0; j < sizeof sizes / sizeof *sizes; j++) {
                o.method = (hr_cluster_method)method;
                o.size = sizes[j];
                free(cluster(ctx, &p, &o, counts[i]));
            }
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A list that is neither sorted nor complete; as given, and in k-means clusters, labels stay in its order. */
static void test_list(void **state)
{
    (void)state;
    enum { COUNT = 90, SIZE = 16 };
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(256, 500, 1);
    uint32_t label[COUNT], order[COUNT], place[256] = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        label[i] = (i * 77 + 5) % 256;
        place[label[i]] = i;
    }
    hr_cluster_options o = {.method = HR_CLUSTER_GIVEN, .size = SIZE, .width = 64, .iterations = 8};
    check_ok(ctx, hr_cluster_labels(ctx, &p.ds, &o, label, COUNT, order));
    check_same(order, label, COUNT);
    o.method = HR_CLUSTER_KMEANS;
    check_ok(ctx, hr_cluster_labels(ctx, &p.ds, &o, label, COUNT, order));
    check_permutation(&p, label, COUNT, order);
    for (int i = 1; i < COUNT; i++)
        assert_true(i % SIZE == 0 || place[order[i - 1]] < place[order[i]]);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* ---- quality ---- */

static void test_topics(void **state)
{
    (void)state;
    static const int64_t sizes[] = {15, 30};
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(960, 4000, 7);
    for (int i = 0; i < 8; i++) {
        hr_cluster_options o = hr_cluster_options_default();
        o.size = sizes[i % 2];
        o.seed = (uint64_t)i / 2;
        uint32_t *kmeans = cluster(ctx, &p, &o, 960);
        o.method = HR_CLUSTER_RANDOM;
        uint32_t *random = cluster(ctx, &p, &o, 960);
        const double found = purity(kmeans, 960, o.size), chance = purity(random, 960, o.size);
        if (!(found > 0.9 && chance < 0.25))
            fail_msg("seed %d, size %d: %.3f of the labels are with their topic, %.3f by chance", i / 2, (int)o.size, found, chance);
        free(kmeans);
        free(random);
    }
    free_problem(&p);
    check_ctx_empty(ctx);
}

static double length(const double *x)
{
    double square = 0;
    for (int f = 0; f < FEATURES; f++)
        square += x[f] * x[f];
    return sqrt(square);
}

/* Label vectors in double: sums of rows of length 1. */
static double *label_vectors(const problem *p)
{
    double *e = book(p->ds.labels * FEATURES, sizeof *e);
    for (int64_t r = 0; r < p->rows; r++) {
        double row[FEATURES] = {0};
        for (int64_t i = p->indptr[0][r]; i < p->indptr[0][r + 1]; i++)
            row[p->indices[0][i]] = (double)p->values[i];
        const double l = length(row);
        for (int64_t i = p->indptr[1][r]; i < p->indptr[1][r + 1]; i++) {
            double *x = e + (int64_t)p->indices[1][i] * FEATURES;
            for (int f = 0; f < FEATURES; f++)
                x[f] += row[f] / l;
        }
    }
    return e;
}

/* Of the labels to the normalised mean of their cluster: the sum over a cluster is the length of the sum of its vectors. */
static double mean_cosine(const double *e, const uint32_t *order, int64_t count, int64_t size)
{
    double total = 0, sum[FEATURES];
    for (int64_t begin = 0; begin < count; begin += size) {
        memset(sum, 0, sizeof sum);
        for (int64_t i = begin; i < count && i < begin + size; i++) {
            const double *x = e + (int64_t)order[i] * FEATURES, l = length(x);
            for (int f = 0; f < FEATURES; f++)
                sum[f] += x[f] / l;
        }
        total += length(sum);
    }
    return total / (double)count;
}

/* Two clusters, with a column for each feature, get no worse from iteration to iteration. */
static void test_cosine(void **state)
{
    (void)state;
    enum { LABELS = 384 };
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(LABELS, 4000, 3);
    double *e = label_vectors(&p), before = 0;
    hr_cluster_options o = {.method = HR_CLUSTER_RANDOM, .size = LABELS / 2, .width = 512, .iterations = 1};
    uint32_t *order = cluster(ctx, &p, &o, LABELS);
    const double chance = mean_cosine(e, order, LABELS, o.size);
    free(order);
    o.method = HR_CLUSTER_KMEANS;
    for (o.iterations = 1; o.iterations < 12; o.iterations++) {
        order = cluster(ctx, &p, &o, LABELS);
        const double now = mean_cosine(e, order, LABELS, o.size);
        if (!(now > chance && now > before - 1e-6))
            fail_msg("mean cosine %.5f after %d iterations, %.5f before, %.5f by chance", now, o.iterations, before, chance);
        before = now;
        free(order);
    }
    assert_true(before > chance + 0.02);
    free(e);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* Labels that cannot be told apart stay in their order, in parts of one strip and of several. */
static void test_ties(void **state)
{
    (void)state;
    static const int64_t counts[] = {256, 20064};
    hr_ctx *ctx = check_ctx(2, "auto");
    for (int c = 0; c < 2; c++) {
        problem p = make_problem(counts[c], counts[c], 1);
        const hr_cluster_options o = {.method = HR_CLUSTER_KMEANS, .size = 16, .width = 16, .iterations = 2};
        for (int64_t i = 0; i < p.rows * ROW; i++) {
            p.indices[0][i] = (uint32_t)(i % ROW);
            p.values[i] = i % ROW == 5; /* one feature: sums and lengths are exact */
        }
        p.ds.label_features = p.ds.split[HR_SPLIT_TRAIN].features; /* of labels without positives */
        uint32_t *order = cluster(ctx, &p, &o, counts[c]), *label = all_labels(&p);
        check_same(order, label, counts[c]);
        free(order);
        free(label);
        free_problem(&p);
    }
    check_ctx_empty(ctx);
}

/* ---- sameness ---- */

/* Enough labels for parts of several strips; any threads, any kernel level. Such parts are cut well, too. */
static void test_threads(void **state)
{
    (void)state;
    enum { LABELS = 24000 };
    problem p = make_problem(LABELS, 9000, 5);
    hr_cluster_options o = {.method = HR_CLUSTER_KMEANS, .size = LABELS / TOPICS, .width = 128, .iterations = 8, .seed = 3};
    uint32_t *first = NULL;
    add_texts(&p); /* many labels have no positives */
    for (int i = 0; i < 4; i++) {
        hr_ctx *ctx = check_ctx(i < 3 ? i + 1 : 7, i % 2 ? "auto" : "ref");
        uint32_t *order = cluster(ctx, &p, &o, LABELS);
        if (first) {
            check_same(order, first, LABELS);
            free(order);
        } else {
            first = order;
        }
        check_ctx_empty(ctx);
    }
    assert_true(purity(first, LABELS, o.size) > 0.6); /* 0.23 when only small parts are cut */
    free(first);
    free_problem(&p);
}

static void test_seeds(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(256, 500, 1);
    for (int method = HR_CLUSTER_RANDOM; method <= HR_CLUSTER_KMEANS; method++) {
        hr_cluster_options o = hr_cluster_options_default();
        o.method = (hr_cluster_method)method;
        o.size = 16;
        o.seed = 1;
        uint32_t *a = cluster(ctx, &p, &o, 256), *b = cluster(ctx, &p, &o, 256);
        o.seed = UINT64_C(1) << 40;
        uint32_t *c = cluster(ctx, &p, &o, 256);
        check_same(a, b, 256);
        assert_memory_not_equal(a, c, 256 * sizeof *a);
        free(a);
        free(b);
        free(c);
    }
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* Vectors give the clusters of the same numbers as sparse rows: hashed, and with a column for each feature. */
static void test_dense(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(960, 4000, 7);
    hr_cluster_options o = hr_cluster_options_default();
    o.size = 30;
    for (o.width = 128; o.width <= 512; o.width += 384) {
        attach(&p, HR_SPLIT_TRAIN);
        uint32_t *sparse = cluster(ctx, &p, &o, 960);
        make_dense(&p);
        uint32_t *dense = cluster(ctx, &p, &o, 960);
        check_same(sparse, dense, 960);
        assert_true(purity(dense, 960, o.size) > 0.9);
        free(sparse);
        free(dense);
        free(p.dense);
        p.dense = NULL;
    }
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* ---- what is read ---- */

static void test_training_rows_only(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(256, 500, 1), other = make_problem(256, 3000, 99);
    hr_cluster_options o = hr_cluster_options_default();
    o.size = 16;
    uint32_t *alone = cluster(ctx, &p, &o, 256);
    for (int64_t r = 0; r < other.rows; r++) /* rows that say the opposite: another topic's labels */
        for (int i = 0; i < CARRIED; i++)
            other.indices[1][r * CARRIED + i] ^= 1;
    attach(&other, HR_SPLIT_DEV);
    attach(&other, HR_SPLIT_TEST);
    p.ds.split[HR_SPLIT_DEV] = other.ds.split[HR_SPLIT_DEV];
    p.ds.split[HR_SPLIT_TEST] = other.ds.split[HR_SPLIT_TEST];
    uint32_t *among = cluster(ctx, &p, &o, 256);
    check_same(alone, among, 256);
    free(alone);
    free(among);
    free_problem(&p);
    free_problem(&other);
    check_ctx_empty(ctx);
}

/* Takes every fifth label off its rows. */
static void starve(problem *p)
{
    int64_t kept = 0;
    for (int64_t r = 0; r < p->rows; r++) {
        const int64_t begin = p->indptr[1][r];
        p->indptr[1][r] = kept;
        for (int64_t i = begin; i < begin + CARRIED; i++)
            if (p->indices[1][i] % 5 != 0)
                p->indices[1][kept++] = p->indices[1][i];
    }
    p->indptr[1][p->rows] = kept;
}

static void test_no_positives(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(960, 6000, 7);
    hr_cluster_options o = hr_cluster_options_default();
    o.size = 30;
    starve(&p);
    uint32_t *without = cluster(ctx, &p, &o, 960);
    add_texts(&p);
    int64_t nothing[961] = {0};
    p.ds.label_features.indptr = nothing;
    uint32_t *empty = cluster(ctx, &p, &o, 960); /* texts without features */
    check_same(without, empty, 960);
    p.ds.label_features.indptr = p.text_indptr;
    uint32_t *with = cluster(ctx, &p, &o, 960);
    const double pure = purity(with, 960, o.size), impure = purity(without, 960, o.size);
    if (!(pure > 0.9 && impure < 0.85 && impure > 0.6))
        fail_msg("%.3f of the labels are with their topic, %.3f without label texts", pure, impure);
    free(without);
    free(with);
    free(empty);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A row that is not finite is a row without features. */
static void test_bad_values(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY, 3e38f};
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(256, 500, 1);
    hr_cluster_options o = hr_cluster_options_default();
    o.size = 16;
    for (int i = 0; i < ROW; i++)
        p.values[17 * ROW + i] = 0;
    uint32_t *expected = cluster(ctx, &p, &o, 256);
    for (int b = 0; b < 4; b++) {
        p.values[17 * ROW + 2] = bad[b];
        uint32_t *order = cluster(ctx, &p, &o, 256);
        check_same(order, expected, 256);
        free(order);
    }
    free(expected);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* ---- memory ---- */

/* The peak of a call in a context of its own. */
static size_t measure(const problem *p, const hr_cluster_options *o, int64_t count)
{
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_mem_report m;
    free(cluster(ctx, p, o, count));
    hr_ctx_memory(ctx, &m);
    assert_int_equal(m.peak_total, m.peak[HR_MEM_EVAL]);
    check_ctx_empty(ctx);
    return m.peak_total;
}

static void test_memory(void **state)
{
    (void)state;
    static const int64_t counts[] = {1, 500, 8192, 8193, 20000}, widths[] = {16, 48, 128, 512};
    problem p = make_problem(20064, 400, 1);
    for (int i = 0; i < 5 * 4 * 3; i++) {
        hr_cluster_options o = hr_cluster_options_default();
        o.iterations = 1;
        o.size = 1000;
        o.width = widths[i / 5 % 4];
        o.method = (hr_cluster_method)(i / 20);
        assert_int_equal(measure(&p, &o, counts[i % 5]), hr_cluster_memory(&p.ds, &o, counts[i % 5]));
    }
    free_problem(&p);
}

static void test_max_bytes(void **state)
{
    (void)state;
    enum { LABELS = 9600 };
    problem p = make_problem(LABELS, 400, 1);
    hr_cluster_options o = hr_cluster_options_default();
    o.width = 16;
    const size_t least = hr_cluster_memory(&p.ds, &o, LABELS);
    o.width = 128;
    const size_t most = hr_cluster_memory(&p.ds, &o, LABELS);
    for (size_t bound = least; bound < most; bound += (most - least) / 5) {
        o.max_bytes = bound;
        const size_t announced = hr_cluster_memory(&p.ds, &o, LABELS);
        assert_true(announced <= bound && announced + 32 * (LABELS + 1024) * sizeof(float) > bound);
        assert_int_equal(measure(&p, &o, LABELS), announced);
    }
    hr_ctx *ctx = check_ctx(1, "auto");
    uint32_t *label = all_labels(&p);
    o.max_bytes = least - 1;
    assert_int_equal(hr_cluster_labels(ctx, &p.ds, &o, label, LABELS, label), HR_ERR_NOMEM);
    assert_non_null(strstr(hr_ctx_message(ctx), "are allowed"));
    free(label);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* The k-th allocation fails, k = 1, 2, ...: an error with a sentence, no leak, and the next call is fine. */
static void test_allocations(void **state)
{
    (void)state;
    problem p = make_problem(256, 300, 1);
    hr_cluster_options o = hr_cluster_options_default();
    uint32_t *label = all_labels(&p), order[256];
    hr_status st = HR_ERR_NOMEM;
    int k = 0;
    while (st != HR_OK) {
        hr_ctx *ctx = check_ctx(2, "auto");
        hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, ++k, true);
        st = hr_cluster_labels(ctx, &p.ds, &o, label, 256, order);
        assert_true(st == HR_OK || (st == HR_ERR_NOMEM && strstr(hr_ctx_message(ctx), "no memory")));
        hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
        check_ok(ctx, hr_cluster_labels(ctx, &p.ds, &o, label, 256, order));
        check_ctx_empty(ctx);
    }
    assert_int_equal(k, 8); /* seven arrays */
    free(label);
    free_problem(&p);
}

/* ---- refusals ---- */

static void check_refused(hr_ctx *ctx, const hr_dataset *ds, hr_cluster_options o, const uint32_t *label, int64_t count,
                          hr_status expected, const char *says)
{
    uint32_t order[256];
    const hr_status st = hr_cluster_labels(ctx, ds, &o, label, count, order);
    if (st != expected || !strstr(hr_ctx_message(ctx), says))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", (int)st, hr_ctx_message(ctx), (int)expected, says);
}

static void test_refusals(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(1, "auto");
    problem p = make_problem(256, 100, 1);
    const hr_cluster_options fine = hr_cluster_options_default();
    uint32_t *label = all_labels(&p);
    const int64_t bad_widths[] = {0, -16, 8, 24, 528};
    for (int i = 0; i < 5; i++) {
        hr_cluster_options o = fine;
        o.width = bad_widths[i];
        check_refused(ctx, &p.ds, o, label, 256, HR_ERR_CONFIG, "expected a multiple of 16 up to 512");
    }
    hr_cluster_options o = fine;
    o.size = 0;
    check_refused(ctx, &p.ds, o, label, 256, HR_ERR_CONFIG, "0 labels in a cluster");
    o = fine;
    o.method = (hr_cluster_method)3;
    check_refused(ctx, &p.ds, o, label, 256, HR_ERR_CONFIG, "no method 3");
    o = fine;
    o.iterations = 0;
    check_refused(ctx, &p.ds, o, label, 256, HR_ERR_CONFIG, "0 iterations");
    check_refused(ctx, &p.ds, fine, label, 0, HR_ERR_USAGE, "a list of 0 labels");
    check_refused(ctx, &p.ds, fine, label, 257, HR_ERR_USAGE, "a list of 257 labels, planted has 256");
    label[9] = 7;
    check_refused(ctx, &p.ds, fine, label, 256, HR_ERR_USAGE, "label 7 is in the list twice, at 7 and 9");
    label[9] = 256;
    check_refused(ctx, &p.ds, fine, label, 256, HR_ERR_USAGE, "entry 9 of the list is label 256");
    label[9] = 9;
    p.ds.split[HR_SPLIT_TRAIN].present = false;
    check_refused(ctx, &p.ds, fine, label, 256, HR_ERR_DATA, "made from training rows");
    free(label);
    free_problem(&p);
    check_ctx_empty(ctx);
}

static void test_interrupt(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    problem p = make_problem(256, 100, 1);
    const hr_cluster_options o = hr_cluster_options_default();
    uint32_t *label = all_labels(&p), order[256];
    hr_ctx_interrupt(ctx);
    assert_int_equal(hr_cluster_labels(ctx, &p.ds, &o, label, 256, order), HR_INTERRUPTED);
    check_ok(ctx, hr_cluster_labels(ctx, &p.ds, &o, label, 256, order));
    free(label);
    free_problem(&p);
    check_ctx_empty(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation), cmocka_unit_test(test_list),
        cmocka_unit_test(test_topics),      cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_ties),        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_seeds),       cmocka_unit_test(test_dense),
        cmocka_unit_test(test_training_rows_only), cmocka_unit_test(test_no_positives),
        cmocka_unit_test(test_bad_values),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_max_bytes),   cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_refusals),    cmocka_unit_test(test_interrupt),
    };
    return cmocka_run_group_tests_name("cluster", tests, NULL, NULL);
}
