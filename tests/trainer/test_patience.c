/* What follows from validation: rates that come down on a plateau, and the end of a run. The counting itself: tests/optim. */
#include "tests/trainer/tiny.h"

/* Head rate behind a step, as a share of head.lr = 0.5. */
static double rate(const char *log, int step)
{
    char start[64];
    snprintf(start, sizeof start, "{\"event\":\"step\",\"step\":%d,", step);
    const char *at = strstr(log, start);
    assert_non_null(at);
    return strtod(strstr(at, "\"head_lr\":") + 10, NULL) / 0.5;
}

/* 6 steps an epoch, validation after each; no gain but the first counts. */
static void check_rates(const fixture *f, const char *more, const double *expected)
{
    char keys[512], path[2 * HR_PATH_MAX], command[2 * HR_PATH_MAX + 16];
    size_t n;
    snprintf(keys, sizeof keys, "train.schedule=plateau train.warmup=0 train.gamma=0.5 train.epochs=8 %s", more);
    tiny_run(f, "a", keys, 2, 0);
    char *log = tiny_slurp(fixture_path(f, "a/log.jsonl", path), &n);
    for (int epoch = 0; epoch < 8; epoch++)
        for (int step = 6 * epoch + 1; step <= 6 * epoch + 6; step += 5)
            if (fabs(rate(log, step) - expected[epoch]) > 1e-5)
                fail_msg("%s: step %d: rate %g, expected %g", more, step, rate(log, step), expected[epoch]);
    free(log);
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(f, "a", path));
    assert_int_equal(system(command), 0);
}

static void test_plateau(void **state)
{
    static const double keras_patience_2[] = {1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.125}, patience_0[] = {1, 1, 0.5, 0.3, 0.3, 0.3, 0.3, 0.3},
                        never[] = {1, 1, 1, 1, 1, 1, 1, 1};
    check_rates(*state, "train.plateau_min_delta=2 train.plateau_patience=1", keras_patience_2);
    check_rates(*state, "train.plateau_min_delta=2 train.plateau_patience=0 train.plateau_min_factor=0.3", patience_0);
    check_rates(*state, "train.plateau_min_delta=2 train.plateau_patience=0 train.plateau_min_factor=1", never);
    check_rates(*state, "train.plateau_min_delta=2 train.plateau_patience=7", never);
}

/* A gain too small for train.min_delta does not put off the end, and its model is the best one all the same. */
static void test_early_stop(void **state)
{
    static const char *const keys[] = {"head.lr=5 train.epochs=8 train.patience=3 train.min_delta=2", "head.lr=5 train.epochs=8 train.patience=3"};
    hr_train_report report[2];
    for (int i = 0; i < 2; i++) {
        char run[16];
        tiny_log log;
        hr_ctx *ctx = tiny_ctx(2, &log);
        snprintf(run, sizeof run, "run%d", i);
        check_ok(ctx, tiny_train(*state, ctx, run, keys[i], &report[i]));
        check_ctx_empty(ctx);
    }
    assert_int_equal(report[0].steps, 24);
    assert_true(report[0].best_step > 6 && report[0].best_metric > 0);
    assert_true(report[1].steps > 24 && report[1].best_metric > 0.5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plateau, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_early_stop, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests_name("patience", tests, NULL, NULL);
}
