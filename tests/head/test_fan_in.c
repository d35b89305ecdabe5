/* Fan-in segments: inputs, the step against a plain double-precision step on the weights at their places, and the sameness promises. */
#include "tests/head/fan_fixture.h"

#include "kernels/kernels.h"

/* One f32 step agrees with double up to the rounding of sums, and weights move only where a label has inputs. */
static void check_step(hr_head_options o, const problem *p, bool lists)
{
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head *head;
    const float lr = 0.01f;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    assert_true(hr_head_inputs_valid(head));
    double *w = all_weights(head), *g = malloc((size_t)(p->L * p->B) * sizeof *g), *dx = malloc((size_t)(p->B * p->D) * sizeof *dx);
    float *found = malloc((size_t)(p->B * p->D) * sizeof *found);
    const hr_head_batch batch = batch_of(p);
    plain(&o, p, w, g, dx);
    check_ok(ctx, hr_head_step(head, &batch, lr, 1, found, NULL));
    double *after = all_weights(head);
    const hr_head_counts counts = hr_head_last_counts(head);
    assert_true(!lists || (counts.dense_tiles == 0 && counts.entries > 0 && counts.touched < counts.rows));
    /* |g| <= 1 or 20, |w| <= 0.05 and |x| <= 1: each sum of n terms is off by at most n 2^-24 of the sum of their sizes */
    const double most_g = o.loss == HR_LOSS_BCE ? 1 : 20;
    for (int64_t i = 0; i < p->B * p->D; i++)
        assert_true(fabs(found[i] - dx[i]) < 0x1p-24 * (double)(p->L * p->L) * most_g * 0.05 * 0.1);
    for (int64_t l = 0; l < p->L; l++)
        for (int64_t d = 0; d < p->D; d++) {
            double dw = 0;
            for (int64_t b = 0; b < p->B; b++)
                dw += g[l * p->B + b] * p->x[b * p->D + d];
            const double old = w[l * p->D + d], expected = old != 0 ? old - (double)lr * dw : 0;
            assert_true(fabs(after[l * p->D + d] - expected) < 0x1p-23 * (1 + (double)(p->B * p->B) * most_g * lr));
        }
    free(w), free(g), free(dx), free(found), free(after);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
}

static void test_plain(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 70);
    for (int f = 0; f < FORMS; f++)
        for (int loss = 0; loss < 2; loss++) {
            hr_head_options o = fan_options(&p, "f32", HR_ROUND_NEAREST, forms[f]);
            o.loss = (hr_loss)loss;
            check_step(o, &p, false);
        }
    free_problem(&p);
}

/* A squared hinge whose negatives are almost all beyond the margin goes by lists, and gives the same. */
static void test_hinge_lists(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 70);
    for (int f = -1; f < FORMS; f++) {
        hr_head_options o = fan_options(&p, "f32", HR_ROUND_NEAREST, forms[f < 0 ? 0 : f]);
        if (f < 0)
            o.segment[0].family = HR_FAMILY_DENSE;
        o.loss = HR_LOSS_SQUARED_HINGE;
        o.bias_value = -1.1f; /* and the weights are small: a negative is seldom above -1 */
        o.segment[0].init = 0.02f;
        check_step(o, &p, true);
    }
    free_problem(&p);
}

/* Two segments with slices of their own: dense on the first columns, fan-in on the last. */
static void test_slices(void **state)
{
    (void)state;
    problem p = make_problem(2500, 150, 40);
    for (int f = 0; f < FORMS; f++) {
        hr_head_options o = fan_options(&p, "f32", HR_ROUND_NEAREST, forms[f]);
        o.num_segments = 2;
        o.segment[1] = o.segment[0];
        o.segment[0].family = HR_FAMILY_DENSE;
        o.segment[0].rows = 320;
        o.segment[0].columns = 100;
        o.segment[1].rows = p.L - 320;
        o.segment[1].first_column = 64;
        check_step(o, &p, false);
        o.gradient = HR_GRADIENT_SPARSE; /* every entry kept: only the int8 logits differ, checked elsewhere */
        assert_true(train_digest(&p, o, 1, 0, "auto", 2) == train_digest(&p, o, 3, 1, "auto", 2));
    }
    free_problem(&p);
}

/* Inputs are distinct, within the width, differ between groups, and each column is drawn about as often as any other. */
static void test_inputs(void **state)
{
    (void)state;
    problem p = make_problem(4096, 96, 4);
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, (form){"", 24, 1});
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    hr_tensor_list list;
    const hr_tensor *t = tensor_of(head, &list, "head.0.inputs");
    assert_true(t->rows == 4096 && t->cols == 24 && t->type == HR_T_U16);
    const uint16_t *input = t->data;
    int64_t count[96] = {0}, same = 0;
    for (int64_t l = 0; l < t->rows; l++) {
        for (int64_t k = 0; k < 24; k++) {
            count[input[l * 24 + k]]++;
            assert_true(k == 0 || input[l * 24 + k - 1] < input[l * 24 + k]);
        }
        same += l > 0 && memcmp(input + l * 24, input + (l - 1) * 24, 48) == 0;
    }
    assert_int_equal(same, 0);
    for (int d = 0; d < 96; d++) /* 1024 expected, standard deviation 28: six of them */
        assert_true(llabs((long long)count[d] - 1024) < 168);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    free_problem(&p);
}

/* Same bits for any number of threads, any chunk and every instruction set, in every storage type, exact and sparse. */
static void test_same_bits(void **state)
{
    (void)state;
    problem p = make_problem(9000, 70, 37);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int f = 1; f < FORMS; f += 2 - (f == 5))
            for (int sparse = 0; sparse < 2; sparse++) {
                hr_head_options o = fan_options(&p, types[t], HR_ROUND_STOCHASTIC, forms[f]);
                o.weight_decay = 0.05f;
                o.gradient = sparse ? HR_GRADIENT_SPARSE : HR_GRADIENT_DENSE;
                o.tau = 0.05f;
                o.bias_value = f == 3 ? -1.5f : -4; /* the first: dense tiles */
                if (t == 3)
                    o.bias = HR_BIAS_PER_LABEL;
                const uint64_t one = train_digest(&p, o, 1, 0, "auto", 3);
                assert_true(train_digest(&p, o, 3, 0, "auto", 3) == one);
                assert_true(train_digest(&p, o, 2, 1, "auto", 3) == one);
                for (int isa = 0; isa <= (int)hr_isa_detect() && (t == 0 || t == 3 || t == 5); isa++)
                    assert_true(train_digest(&p, o, 2, 0, hr_isa_name((hr_isa)isa), 3) == one);
            }
    free_problem(&p);
}

/* The sparse gradient with every entry kept is the exact gradient of the int8 logits: dX and dW differ by what int8 may. With tau, its
 * mean over many steps is that gradient. */
static void test_sparse_mean(void **state)
{
    (void)state;
    problem p = make_problem(2048, 70, 40);
    for (int f = 1; f < FORMS; f++) {
        hr_ctx *ctx = check_ctx(2, "auto");
        hr_head_options o = fan_options(&p, "f32", HR_ROUND_NEAREST, forms[f]);
        hr_head *exact, *all, *some;
        check_ok(ctx, hr_head_create(ctx, &o, &exact));
        o.gradient = HR_GRADIENT_SPARSE;
        check_ok(ctx, hr_head_create(ctx, &o, &all));
        o.tau = 0.5f;
        o.lr_peak = 1;
        check_ok(ctx, hr_head_create(ctx, &o, &some));
        const size_t n = (size_t)(p.B * p.D);
        float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b), *c = malloc(n * sizeof *c);
        double *mean = calloc(n, sizeof *mean), *square = calloc(n, sizeof *square);
        const hr_head_batch batch = batch_of(&p);
        enum { STEPS = 200 };
        check_ok(ctx, hr_head_step(exact, &batch, 0, 0, a, NULL));
        check_ok(ctx, hr_head_step(all, &batch, 0, 0, b, NULL));
        for (uint64_t s = 0; s < STEPS; s++) {
            check_ok(ctx, hr_head_step(some, &batch, 0, s, c, NULL));
            for (size_t i = 0; i < n; i++) {
                mean[i] += c[i] / (double)STEPS;
                square[i] += (double)c[i] * c[i] / STEPS;
            }
        }
        const hr_head_counts counts = hr_head_last_counts(some);
        assert_true(counts.entries > 0 && counts.entries < counts.cells);
        int beyond = 0;
        for (size_t i = 0; i < n; i++) {
            /* logits of up to 70 terms of at most 0.05, each off by at most 1/127 of the largest; |g'| <= 1/4; 2048 labels of |w| <= 0.05 */
            assert_true(fabsf(a[i] - b[i]) < 2048 * 0.05 * 0.25 * 70 * 0.05 * 2 / 127);
            beyond += fabs(mean[i] - b[i]) > 4 * sqrt(fmax(0, square[i] - mean[i] * mean[i]) / STEPS) + 1e-6;
        }
        assert_true(beyond <= (int)(n / 1000)); /* 4 standard errors: 1 in 16,000 */
        free(a), free(b), free(c), free(mean), free(square);
        hr_head_destroy(exact), hr_head_destroy(all), hr_head_destroy(some);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* The best labels are those of a plain search, whatever the batch. */
static void test_top(void **state)
{
    (void)state;
    enum { K = 7 };
    problem p = make_problem(3000, 70, 40);
    uint32_t *external = malloc((size_t)p.L * sizeof *external), ids[40 * K], one[K];
    float scores[40 * K], own[K];
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)(p.L - 1 - l);
    for (int f = 0; f < FORMS; f++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            hr_ctx *ctx = check_ctx(2, "auto");
            hr_head_options o = fan_options(&p, types[t], HR_ROUND_STOCHASTIC, forms[f]);
            hr_head *head;
            hr_head_topk *work;
            check_ok(ctx, hr_head_create(ctx, &o, &head));
            check_ok(ctx, hr_head_topk_create(ctx, 40, K, &work));
            check_ok(ctx, hr_head_top(head, work, 40, p.x, K, external, ids, scores, NULL, NULL));
            double *w = all_weights(head);
            for (int64_t b = 0; b < 40; b++) {
                check_ok(ctx, hr_head_top(head, work, 1, p.x + b * p.D, K, external, one, own, NULL, NULL));
                assert_memory_equal(one, ids + b * K, sizeof one);
                assert_memory_equal(own, scores + b * K, sizeof own);
                int64_t above = 0;
                for (int64_t l = 0; l < p.L; l++) {
                    double z = o.bias_value;
                    for (int64_t d = 0; d < p.D; d++)
                        z += w[l * p.D + d] * p.x[b * p.D + d];
                    above += z > own[K - 1] + 1e-5;
                    for (int k = 0; k < K; k++)
                        assert_true(one[k] != external[l] || fabs(z - own[k]) < 1e-5);
                }
                assert_true(above < K);
            }
            free(w);
            hr_head_topk_destroy(ctx, work);
            hr_head_destroy(head);
            check_ctx_empty(ctx);
        }
    free(external);
    free_problem(&p);
}

/* The mean dX of the sparse gradient over many steps at rate zero is that of every entry kept. */
static void check_mean(hr_head_options o, const problem *p, int steps)
{
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head *all, *some;
    o.gradient = HR_GRADIENT_SPARSE;
    check_ok(ctx, hr_head_create(ctx, &o, &some));
    o.tau = 0;
    check_ok(ctx, hr_head_create(ctx, &o, &all));
    const size_t n = (size_t)(p->B * p->D);
    float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
    double *mean = calloc(n, sizeof *mean), *square = calloc(n, sizeof *square), chi = 0;
    const hr_head_batch batch = batch_of(p);
    check_ok(ctx, hr_head_step(all, &batch, 0, 0, a, NULL));
    for (int s = 0; s < steps; s++) {
        check_ok(ctx, hr_head_step(some, &batch, 0, (uint64_t)s, b, NULL));
        for (size_t i = 0; i < n; i++) {
            mean[i] += b[i] / (double)steps;
            square[i] += (double)b[i] * b[i] / steps;
        }
    }
    assert_int_equal(hr_head_last_counts(some).dense_tiles, 0);
    for (size_t i = 0; i < n; i++)
        chi += (mean[i] - a[i]) * (mean[i] - a[i]) / ((square[i] - mean[i] * mean[i]) / steps + 1e-20) / (double)n;
    assert_true(chi < 1.2); /* 1 expected, over 32,768 cells that go together by labels */
    free(a), free(b), free(mean), free(square);
    hr_head_destroy(all), hr_head_destroy(some);
    check_ctx_empty(ctx);
}

/* A dense segment's tile is higher than the number of wide unstructured rows that may wait. */
static void test_uneven_segments(void **state)
{
    (void)state;
    problem p = make_problem(1500, 2048, 16);
    hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, (form){"", 16, 0});
    o.num_segments = 2;
    o.segment[1] = o.segment[0];
    o.segment[0].family = HR_FAMILY_DENSE;
    o.segment[0].rows = 320;
    o.segment[1].rows = p.L - 320;
    o.segment[1].connections = 16 * (p.L - 320);
    o.segment[0].init = o.segment[1].init = 0.005f;
    o.bias_value = -3.8f; /* sigmoid 0.022, kept with 0.11: most labels of a tile have an entry, and no tile is dense */
    o.tau = 0.2f;
    check_mean(o, &p, 100);
    free_problem(&p);
}

/* X much wider than a tile's int8 rows: packing it leaves the columns of dX, which are zero between blocks, alone. */
static void test_wide(void **state)
{
    (void)state;
    problem p = make_problem(640, 131072, 8);
    hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, (form){"", 4, 64});
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head *exact, *all;
    check_ok(ctx, hr_head_create(ctx, &o, &exact));
    o.gradient = HR_GRADIENT_SPARSE; /* tau 0: every tile is dense */
    check_ok(ctx, hr_head_create(ctx, &o, &all));
    const size_t n = (size_t)(p.B * p.D);
    float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
    const hr_head_batch batch = batch_of(&p);
    check_ok(ctx, hr_head_step(exact, &batch, 0, 0, a, NULL));
    for (uint64_t s = 0; s < 2; s++)
        check_ok(ctx, hr_head_step(all, &batch, 0, s, b, NULL));
    for (size_t i = 0; i < n; i++) /* 64 labels of |w| <= 0.3, logits of four terms off by at most 2 / 127 of 0.3 each, |g'| <= 1/4 */
        assert_true(fabsf(a[i] - b[i]) <= 10 * 64 * 0.3f * 0.25f * 4 * 0.3f * 2 / 127);
    free(a), free(b);
    hr_head_destroy(exact), hr_head_destroy(all);
    check_ctx_empty(ctx);
    free_problem(&p);
}

/* What is planned is what is allocated. */
static void test_memory(void **state)
{
    (void)state;
    problem p = make_problem(5000, 70, 33);
    for (int f = 0; f < FORMS; f++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++)
            for (int training = 0; training < 2; training++) {
                hr_ctx *ctx = check_ctx(2, "auto");
                hr_head_options o = fan_options(&p, types[t], HR_ROUND_STOCHASTIC, forms[f]);
                o.training = training;
                o.gradient = t % 2 ? HR_GRADIENT_SPARSE : HR_GRADIENT_DENSE;
                size_t planned[HR_MEM_KINDS] = {0};
                hr_head_memory(&o, 2, planned);
                hr_head *head;
                check_ok(ctx, hr_head_create(ctx, &o, &head));
                hr_mem_report found;
                hr_ctx_memory(ctx, &found);
                for (int k = 0; k < HR_MEM_KINDS; k++)
                    assert_true(found.now[k] == planned[k] || (k == HR_MEM_HEAD_WEIGHTS && !training));
                hr_head_destroy(head);
                check_ctx_empty(ctx);
            }
    free_problem(&p);
}

static void test_refused(void **state)
{
    (void)state;
    problem p = make_problem(200, 70, 4);
    hr_ctx *ctx = check_ctx(1, "auto");
    const struct {
        int64_t fan_in, group, first_column, columns, first_rows;
        hr_arith arith;
        const char *says;
    } bad[] = {{0, 1, 0, 0, 0, HR_ARITH_F32, "fan-in of 0"},       {71, 1, 0, 0, 0, HR_ARITH_F32, "the width before the head, 70"},
               {7, 1, 64, 0, 0, HR_ARITH_F32, "the width before the head, 6"}, {4, 8, 0, 0, 0, HR_ARITH_F32, "groups of 8"},
               {4, 16, 0, 0, 8, HR_ARITH_F32, "begins at label 8"}, {4, 1, 0, 0, 0, HR_ARITH_BF16, "head.arith=f32"},
               {4, 1, 10, 0, 0, HR_ARITH_F32, "multiple of 64"},    {4, 1, 0, 71, 0, HR_ARITH_F32, "columns [0, 71)"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        hr_head_options o = fan_options(&p, "e4m3", HR_ROUND_STOCHASTIC, (form){"", bad[i].fan_in, bad[i].group});
        o.arith = bad[i].arith;
        if (bad[i].first_rows) {
            o.num_segments = 2;
            o.segment[1] = o.segment[0];
            o.segment[0].family = HR_FAMILY_DENSE;
            o.segment[0].rows = bad[i].first_rows;
            o.segment[1].rows = p.L - bad[i].first_rows;
        }
        o.segment[o.num_segments - 1].first_column = bad[i].first_column;
        o.segment[o.num_segments - 1].columns = bad[i].columns;
        assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
        if (!strstr(hr_ctx_message(ctx), bad[i].says))
            fail_msg("found '%s', expected '%s'", hr_ctx_message(ctx), bad[i].says);
    }
    check_ctx_empty(ctx);
    free_problem(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),           cmocka_unit_test(test_hinge_lists), cmocka_unit_test(test_slices),
        cmocka_unit_test(test_inputs),          cmocka_unit_test(test_same_bits),   cmocka_unit_test(test_sparse_mean),
        cmocka_unit_test(test_uneven_segments), cmocka_unit_test(test_wide),        cmocka_unit_test(test_top),
        cmocka_unit_test(test_memory),          cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
