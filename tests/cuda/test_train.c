/* Whole runs with device=cuda, on the emulated device: they learn, stop and go on to the same bits, keep to the plan, and their models are read
 * without a device. */
#include "tests/trainer/tiny.h"

static const char *const recipes[] = {
    "device=cuda head.dtype=e4m3 head.lr=5 train.epochs=5",
    "device=cuda head.dtype=bf16 head.lr=5 head.momentum=0.5 head.bias=per_label train.epochs=4",
    "device=cuda head.dtype=i8r head.lr=5 head.kahan_top=0 head.weight_decay=0.01 loss.every=2 train.epochs=4",
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

static void test_learns(void **state)
{
    const fixture *f = *state;
    for (int i = 0; i < RECIPES; i++) {
        char run[32], model[2 * HR_PATH_MAX], data[2 * HR_PATH_MAX], folder[40];
        hr_train_report report;
        hr_metrics m;
        tiny_log log;
        snprintf(run, sizeof run, "learn%d", i);
        snprintf(folder, sizeof folder, "%s/model", run);
        hr_ctx *ctx = tiny_ctx(1, &log);
        check_ok(ctx, tiny_train(f, ctx, run, recipes[i], &report));
        assert_true(report.best_metric > 0.3);
        hr_config *config = tiny_config(f, ctx, run, recipes[i]);
        hr_plan plan;
        check_ok(ctx, hr_plan_make(ctx, config, &plan));
        assert_true(plan.fits && plan.device > 0);
        assert_int_equal(plan.device, report.device_peak);
        assert_int_equal(plan.bytes[HR_MEM_HEAD_WEIGHTS], 0);
        check_ok(f->ctx, hr_eval_model(f->ctx, fixture_path(f, folder, model), fixture_path(f, "data", data), NULL, &m));
        assert_true(m.precision[0] > 0.15);
        hr_config_destroy(config);
        hr_ctx_destroy(ctx);
    }
}

static void test_resume(void **state)
{
    const fixture *f = *state;
    for (int i = 0; i < RECIPES; i++) {
        char whole[32], parts[32], a[48], b[48];
        snprintf(whole, sizeof whole, "whole%d", i);
        snprintf(parts, sizeof parts, "parts%d", i);
        assert_int_equal(tiny_run(f, whole, recipes[i], 1, 0), 1);
        assert_true(tiny_run(f, parts, recipes[i], 2, 7) > 1);
        snprintf(a, sizeof a, "%s/model", whole);
        snprintf(b, sizeof b, "%s/model", parts);
        tiny_same_folder(f, a, b);
    }
}

static void test_other_device(void **state)
{
    const fixture *f = *state;
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(1, &log);
    assert_int_equal(tiny_train(f, ctx, "fan", "device=cuda head.family=fan_in head.fan_in=4", NULL), HR_ERR_CONFIG);
    assert_non_null(strstr(hr_ctx_message(ctx), "head.family=dense"));
    assert_int_equal(tiny_train(f, ctx, "sparse", "device=cuda head.gradient=sparse", NULL), HR_ERR_CONFIG);
    assert_non_null(strstr(hr_ctx_message(ctx), "head.gradient=dense"));
    hr_ctx_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_learns, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_resume, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_other_device, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
