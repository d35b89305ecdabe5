/* A whole run in which the k-th allocation or file call fails: an error with a sentence, nothing lost or leaked, and
 * the next call ends with the bits of a run in which nothing failed. */
#include "tests/trainer/tiny.h"

static const char *small = "train.max_steps=5 checkpoint.every=2 checkpoint.keep=2 head.kahan_top=10 head.momentum=0.5 "
                                 "aux.weight=0.4 aux.until=0.7";

/* Every k-th call from 1 on in steps of `stride`, until k is beyond the last call. */
static void fail_each(const fixture *f, hr_fault what, bool persistent, int stride)
{
    int good = 0, failed = 0;
    for (int k = 1; good < 3; k += stride) {
        char path[2 * HR_PATH_MAX], command[2 * HR_PATH_MAX + 16];
        tiny_log log;
        hr_ctx *ctx = tiny_ctx(1, &log);
        hr_config *config = tiny_config(f, ctx, "b", small);
        hr_mem_report before, after;
        hr_ctx_memory(ctx, &before);
        hr_ctx_fail_next(ctx, what, k, persistent);
        hr_status st = hr_train_run(ctx, config, NULL);
        hr_ctx_fail_next(ctx, what, 0, false);
        hr_ctx_memory(ctx, &after);
        assert_int_equal(after.now_total, before.now_total);
        good = st == HR_OK ? good + 1 : 0;
        failed += st != HR_OK;
        if (st != HR_OK && (strlen(hr_ctx_message(ctx)) < 10 || (what == HR_FAULT_ALLOC && st != HR_ERR_NOMEM)))
            fail_msg("call %d: status %d, message \"%s\"", k, (int)st, hr_ctx_message(ctx));
        check_ok(ctx, hr_train_run(ctx, config, NULL));
        hr_config_destroy(config);
        check_ctx_empty(ctx);
        tiny_same_folder(f, "a/ckpt/step-000000005", "b/ckpt/step-000000005");
        tiny_same_folder(f, "a/model", "b/model");
        snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(f, "b", path));
        assert_int_equal(system(command), 0);
    }
    assert_true(failed > 5);
}

static void test_allocations(void **state)
{
    tiny_run(*state, "a", small, 2, 0);
    fail_each(*state, HR_FAULT_ALLOC, false, 3);
    fail_each(*state, HR_FAULT_ALLOC, true, 11);
}

/* The same with a head over sparse X. */
static void test_sparse_allocations(void **state)
{
    small = "train.max_steps=5 checkpoint.every=2 checkpoint.keep=2 encoder.type=identity-sparse head.family=fan_in head.fan_in=20";
    tiny_run(*state, "a", small, 2, 0);
    fail_each(*state, HR_FAULT_ALLOC, false, 3);
}

static void test_file_calls(void **state)
{
    tiny_run(*state, "a", small, 2, 0);
    fail_each(*state, HR_FAULT_FILE, false, 7);
    fail_each(*state, HR_FAULT_FILE, true, 23);
}

/* A rate beyond reason: the run ends with HR_ERR_NUMERIC, or with numbers; never with labels that do not exist. */
static void test_divergence(void **state)
{
    static const char *const rates[] = {"head.lr=1e38", "head.lr=1e30 encoder.lr=1e30", "encoder.lr=1e37", "head.lr=1e20"};
    for (int i = 0; i < 8; i++) {
        char more[256], run[16];
        tiny_log log;
        hr_ctx *ctx = tiny_ctx(2, &log);
        snprintf(run, sizeof run, "run%d", i);
        snprintf(more, sizeof more, "train.warmup=0 encoder.norm=0 head.dtype=%s %s", i % 2 ? "f32" : "i8r", rates[i / 2]);
        hr_status st = tiny_train(*state, ctx, run, more, NULL);
        if (st != HR_OK && st != HR_ERR_NUMERIC)
            fail_msg("%s: status %d, message \"%s\"", more, (int)st, hr_ctx_message(ctx));
        check_ctx_empty(ctx);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_allocations, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_file_calls, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_divergence, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_sparse_allocations, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
