/* Keys that do nothing are named; published recipes have none; what has no default is asked for. */
#include "tests/trainer/tiny.h"

#include "model/model.h"

#include <glob.h>

static int warnings_of(const char *assignments, char text[512])
{
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(1, &log);
    hr_config *c;
    check_ok(ctx, hr_config_create(ctx, &c));
    tiny_set(c, ctx, assignments);
    hr_model_warn_unused(c);
    snprintf(text, 512, "%s", log.warning);
    const int n = log.warnings;
    hr_config_destroy(c);
    hr_ctx_destroy(ctx);
    return n;
}

static void test_named(void **state)
{
    (void)state;
    static const struct {
        const char *keys, *says;
    } some[] = {
        {"head.lr=3", ""},
        {"head.fan_in=32", "head.fan_in=32 has no effect with head.family=dense"},
        {"head.family=fan_in head.fan_in=32", ""},
        {"head.family=fan_in head.dense_dtype=bf16", "head.dense_dtype=bf16 has no effect with head.dense_ratio=0"},
        {"head.family=fan_in head.dense_dtype=bf16 head.dense_ratio=0.1", ""},
        {"head.family=fan_in head.prune=per_label", "head.prune=per_label has no effect with head.rewire=none"},
        {"head.family=fan_in head.rewire=random head.prune_below=0.1", "head.prune_below=0.1 has no effect with head.prune=fraction"},
        {"head.family=fan_in head.rewire=random head.prune=threshold head.prune_below=0.1", ""},
        {"layer.lr=0.01", "layer.lr=0.01 has no effect with layer.width=0"},
        {"aux.until=0.5", "aux.until=0.5 has no effect with aux.weight=0"},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++) {
        char text[512] = "";
        assert_int_equal(warnings_of(some[i].keys, text), *some[i].says ? 1 : 0);
        assert_string_equal(text, some[i].says);
    }
}

static void test_recipes(void **state)
{
    (void)state;
    glob_t files;
    assert_int_equal(glob(HR_SOURCE_DIR "/configs/published/*/*.yaml", 0, NULL, &files), 0);
    assert_true(files.gl_pathc >= 28);
    for (size_t i = 0; i < files.gl_pathc; i++) {
        tiny_log log;
        hr_ctx *ctx = tiny_ctx(1, &log);
        hr_config *c;
        check_ok(ctx, hr_config_create(ctx, &c));
        check_ok(ctx, hr_config_read(c, files.gl_pathv[i]));
        hr_model_warn_unused(c);
        if (log.warnings)
            fail_msg("%s: %s", files.gl_pathv[i], log.warning);
        hr_config_destroy(c);
        hr_ctx_destroy(ctx);
    }
    globfree(&files);
}

static void test_asked_for(void **state)
{
    const fixture *f = *state;
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(1, &log);
    assert_int_equal(tiny_train(f, ctx, "t", "head.family=fan_in head.fan_in=4 head.rewire=random head.prune=threshold", NULL), HR_ERR_CONFIG);
    assert_non_null(strstr(hr_ctx_message(ctx), "head.prune_below is 0, expected"));
    hr_ctx_destroy(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_recipes),
        cmocka_unit_test_setup_teardown(test_asked_for, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
