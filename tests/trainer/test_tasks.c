/* Several tasks on one X: the gradient is the weighted sum of theirs, and each head is updated as if it were alone. */
#include "check.h"

#include "base/rng.h"
#include "trainer/tasks.h"

#include <math.h>

enum { B = 20, D = 24 };

static hr_head *make_head(hr_ctx *ctx, int64_t labels, uint64_t seed)
{
    hr_head_options o = {.labels = labels, .dim = D, .max_batch = B, .training = true, .num_segments = 1, .seed = seed,
                         .bias_value = -2};
    o.segment[0] = (hr_segment_options){.rows = labels, .lr_scale = 1, .init = 0.5f};
    assert_true(hr_dtype_parse("f32", &o.segment[0].dtype));
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    return head;
}

static const float *weights(hr_head *head)
{
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    return list.item[0].data;
}

static void test_weighted_sum(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(2, "auto");
    float x[B * D], dx[B * D], other[B * D], alone[2][B * D];
    uint64_t positives[2][B];
    for (int i = 0; i < B * D; i++)
        x[i] = (float)hr_rng_draw16(hr_rng_make(1, 0, 0, 0), 0, (uint32_t)i) / 32768.0f - 1;
    for (uint64_t b = 0; b < B; b++) {
        positives[0][b] = (b * 7) << 32 | b;
        positives[1][b] = (b / 4) << 32 | b;
    }
    static const int64_t labels[2] = {200, 10};
    static const float weight[2] = {1, 0.25f};
    hr_task tasks[2];
    double loss = 0, expected = 0;
    for (int i = 0; i < 2; i++)
        tasks[i] = (hr_task){.head = make_head(ctx, labels[i], (uint64_t)i), .weight = weight[i], .lr = 0.1f,
                             .num_positives = B, .positives = positives[i]};
    check_ok(ctx, hr_tasks_step(tasks, 2, B, D, x, 0.5, 3, dx, other, &loss));
    for (int i = 0; i < 2; i++) {
        hr_head *head = make_head(ctx, labels[i], (uint64_t)i), *fresh = make_head(ctx, labels[i], (uint64_t)i);
        const hr_head_batch batch = {.rows = B, .x = x, .num_positives = B, .positives = positives[i]};
        double own;
        check_ok(ctx, hr_head_step(head, &batch, 0.05f, 3, alone[i], &own));
        expected += weight[i] * own;
        /* a step of weight w moves each weight w times as far */
        for (int64_t j = 0; j < labels[i]; j++)
            for (int64_t d = 0; d < D; d++) {
                const int64_t at = j * 32 + d; /* rows are padded to 64 bytes: 24 floats to 32 */
                const double moved = (double)weights(tasks[i].head)[at] - weights(fresh)[at];
                const double full = (double)weights(head)[at] - weights(fresh)[at];
                assert_true(fabs(moved - weight[i] * full) < 1e-6);
            }
        if (i == 0)
            assert_memory_equal(weights(tasks[0].head), weights(head), 200 * 32 * sizeof(float));
        hr_head_destroy(head);
        hr_head_destroy(fresh);
    }
    for (int i = 0; i < B * D; i++)
        assert_true(fabs(dx[i] - (alone[0][i] + 0.25 * alone[1][i])) < 1e-5);
    assert_true(fabs(loss - expected) < 1e-6 * expected);
    for (int i = 0; i < 2; i++)
        hr_head_destroy(tasks[i].head);
    check_ctx_empty(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_weighted_sum)};
    return cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
