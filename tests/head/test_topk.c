/* The k best labels: against plain scores, for any batch, for weights that are no numbers, from a model in pieces. */
#include "tests/head/fixture.h"

static void test_topk(void **state)
{
    (void)state;
    problem p = make_problem(3000, 24, 45);
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)(p.L - 1 - l);
    enum { K = 12 };
    uint32_t ids[45 * K], first[45 * K];
    float scores[45 * K];
    for (int threads = 1; threads < 4; threads++) {
        hr_ctx *ctx = check_ctx(threads, "auto");
        hr_head_options o = options_for(&p, "e2m1", HR_ROUND_NEAREST); /* a coarse grid: many equal scores */
        o.segment[0].init = 30;
        for (int64_t i = 0; i < p.B * p.D; i++)
            p.x[i] = (float)(i * 7 % 3 - 1);
        hr_head *head;
        hr_head_topk *work;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        check_ok(ctx, hr_head_topk_create(ctx, p.B, K, &work));
        check_ok(ctx, hr_head_top(head, work, p.B, p.x, K, external, ids, scores, NULL, NULL));
        for (int64_t b = 0; b < p.B; b++) {
            uint8_t taken[3000] = {0};
            for (int k = 0; k < K; k++) {
                double best = -INFINITY;
                int64_t at = -1;
                for (int64_t e = 0; e < p.L; e++) { /* external ids ascend: the first of equals wins */
                    double z = o.bias_value;
                    for (int64_t d = 0; d < p.D && !taken[e]; d++)
                        z += weight(head, p.L - 1 - e, d) * p.x[b * p.D + d];
                    if (!taken[e] && z > best) {
                        best = z;
                        at = e;
                    }
                }
                taken[at] = 1;
                assert_int_equal(ids[b * K + k], at);
                assert_true(scores[b * K + k] == (float)best);
            }
            b += 10;
        }
        if (threads == 1)
            memcpy(first, ids, sizeof ids);
        assert_memory_equal(first, ids, sizeof ids);
        hr_head_topk_destroy(ctx, work);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free(external);
    free_problem(&p);
}

/* A query's answer does not depend on the queries beside it, to the last bit: one alone is scored directly, many go through int8
 * scores and their error bound; on every instruction set, storage type and kind of bias, for weights like trained ones (some large,
 * most small) and for queries of very different size. */
static void test_topk_any_batch(void **state)
{
    (void)state;
    enum { K = 7, B = 70 };
    problem p = make_problem(5000, 83, B);
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)l;
    for (int64_t i = 0; i < p.B * p.D; i++)
        p.x[i] *= i / p.D % 5 == 1 ? 1e-3f : i / p.D % 5 == 2 ? 100.0f : i / p.D % 5 == 3 && i % 7 == 0 ? 40.0f : 1.0f;
    memset(p.x + 4 * p.D, 0, (size_t)p.D * sizeof *p.x); /* a query of zeros: all labels are equal */
    for (size_t t = 0; t < sizeof types / sizeof *types; t++)
        for (int bias = 0; bias < 2; bias++) {
            static uint32_t one[B * K], many[B * K];
            static float score_one[B * K], score_many[B * K];
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++) {
                hr_ctx *ctx = check_ctx(2, hr_isa_name((hr_isa)isa));
                hr_head_options o = options_for(&p, types[t], HR_ROUND_NEAREST);
                o.bias = bias ? HR_BIAS_PER_LABEL : HR_BIAS_SCALAR;
                o.segment[0].init = t % 2 ? 0.5f : 0.01f;
                hr_head *head;
                hr_head_topk *work;
                check_ok(ctx, hr_head_create(ctx, &o, &head));
                hr_tensor_list list = {0};
                hr_head_tensors(head, &list);
                for (int64_t l = 0; bias && l < p.L; l++)
                    ((float *)list.item[list.count - 1].data)[l] = uniform((uint32_t)l, 5, 5);
                check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
                for (int64_t b = 0; isa == 0 && b < B; b++)
                    check_ok(ctx, hr_head_top(head, work, 1, p.x + b * p.D, K, external, one + b * K, score_one + b * K, NULL, NULL));
                static const int64_t sizes[] = {2, 3, 32, 33, 70};
                for (int s = 0; s < 5; s++) {
                    check_ok(ctx, hr_head_top(head, work, sizes[s], p.x, K, external, many, score_many, NULL, NULL));
                    assert_memory_equal(one, many, (size_t)(sizes[s] * K) * sizeof *one);
                    assert_memory_equal(score_one, score_many, (size_t)(sizes[s] * K) * sizeof *score_one);
                }
                hr_head_topk_destroy(ctx, work);
                hr_head_destroy(head);
                check_ctx_empty(ctx);
            }
        }
    free(external);
    free_problem(&p);
}

/* Weights and biases that are no numbers, infinite or tiny: nothing is read or written outside, and one query and many still agree. */
static void test_topk_extremes(void **state)
{
    (void)state;
    enum { K = 5, B = 37 };
    problem p = make_problem(1500, 20, B);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
    o.bias = HR_BIAS_PER_LABEL;
    o.segment[0].init = 0.2f;
    hr_head *head;
    hr_head_topk *work;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    float *w = list.item[0].data, *bias = list.item[list.count - 1].data;
    const int64_t pitch = list.item[0].cols;
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)l;
    uint32_t one[B * K], many[B * K];
    float score_one[B * K], score_many[B * K];
    for (int round = 0; round < 4; round++) {
        bias[7] = round == 0 ? INFINITY : round == 1 ? -INFINITY : 0;
        w[500 * pitch + 3] = round == 2 ? INFINITY : 0.1f;
        w[501 * pitch + 3] = round == 2 ? NAN : 0.1f;
        for (int64_t i = 0; round == 3 && i < p.L * pitch; i++) /* all below where int8 has no scale */
            w[i] = i % pitch < p.D ? ldexpf(uniform((uint32_t)i, 1, 3), -103) : 0;
        for (int64_t l = 0; round == 3 && l < p.L; l++)
            bias[l] = 0;
        for (int64_t b = 0; b < B; b++)
            check_ok(ctx, hr_head_top(head, work, 1, p.x + b * p.D, K, external, one + b * K, score_one + b * K, NULL, NULL));
        check_ok(ctx, hr_head_top(head, work, B, p.x, K, external, many, score_many, NULL, NULL));
        assert_memory_equal(one, many, sizeof one);
        assert_memory_equal(score_one, score_many, sizeof score_one);
    }
    free(external);
    hr_head_topk_destroy(ctx, work);
    hr_head_destroy(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* A model in several pieces, as a folder of shards is opened: pieces that no tile ends with. */
static void test_topk_shards(void **state)
{
    (void)state;
    enum { K = 5, B = 9, ROWS = 101, PIECES = 23 };
    static const char *const kinds[] = {"e4m3", "i8r", "f32"};
    problem p = make_problem(ROWS * PIECES - 13, 30, B);
    uint32_t *external = malloc((size_t)p.L * sizeof *external);
    for (int64_t l = 0; l < p.L; l++)
        external[l] = (uint32_t)l;
    for (int t = 0; t < 3; t++) {
        hr_ctx *ctx = check_ctx(2, "auto");
        hr_head_options o = options_for(&p, kinds[t], HR_ROUND_NEAREST);
        hr_head *head, *pieces;
        hr_head_topk *work;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        o.training = false;
        check_ok(ctx, hr_head_create(ctx, &o, &pieces));
        check_ok(ctx, hr_head_topk_create(ctx, B, K, &work));
        hr_tensor_list list = {0};
        hr_head_tensors(head, &list);
        const size_t pitch = (size_t)list.item[0].cols * o.segment[0].dtype.bytes;
        void *codes[PIECES];
        float *scales[PIECES];
        for (int64_t i = 0; i < PIECES; i++) { /* blocks of their own, exactly as large as their rows */
            const int64_t rows = i < PIECES - 1 ? ROWS : ROWS - 13;
            codes[i] = malloc((size_t)rows * pitch);
            memcpy(codes[i], (uint8_t *)list.item[0].data + (size_t)(i * ROWS) * pitch, (size_t)rows * pitch);
            scales[i] = malloc((size_t)rows * sizeof(float));
            if (t == 1)
                memcpy(scales[i], (float *)list.item[1].data + i * ROWS, (size_t)rows * sizeof(float));
        }
        hr_head_attach(pieces, 0, ROWS, PIECES, (const void *const *)codes, (const float *const *)scales, NULL);
        for (int64_t batch = 1; batch <= B; batch += 8) {
            uint32_t one[B * K], two[B * K];
            float score_one[B * K], score_two[B * K];
            check_ok(ctx, hr_head_top(head, work, batch, p.x, K, external, one, score_one, NULL, NULL));
            check_ok(ctx, hr_head_top(pieces, work, batch, p.x, K, external, two, score_two, NULL, NULL));
            assert_memory_equal(one, two, (size_t)(batch * K) * sizeof *one);
            assert_memory_equal(score_one, score_two, (size_t)(batch * K) * sizeof *score_one);
        }
        for (int i = 0; i < PIECES; i++)
            free(codes[i]), free(scales[i]);
        hr_head_topk_destroy(ctx, work);
        hr_head_destroy(pieces);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free(external);
    free_problem(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topk), cmocka_unit_test(test_topk_any_batch),
        cmocka_unit_test(test_topk_extremes), cmocka_unit_test(test_topk_shards),
    };
    return cmocka_run_group_tests_name("topk", tests, NULL, NULL);
}
