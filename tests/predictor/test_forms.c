/* Every form of head, from training to a model folder that predicts, and folders whose description does not fit their arrays. */
#include "tests/trainer/tiny.h"

static const char *const forms[] = {
    "head.dtype=e4m3 head.family=fan_in head.fan_in=8 head.lr=20",
    "head.dtype=i8r head.family=fan_in head.fan_in=8 head.group=16 head.dense_ratio=0.05 head.dense_dtype=bf16 head.dense_lr_scale=0.3 head.lr=20",
    "head.dtype=bf16 head.family=fan_in head.fan_in=12 head.group=32 encoder.dim=128 head.dense_ratio=0.1 head.dense_slice=64:128 "
    "head.slice=0:64 head.lr=20 head.dense_lr_scale=0.3",
    "head.dtype=e4m3 head.family=unstructured head.fan_in=8 head.lr=20 head.rewire=random head.rewire_every=9",
    "head.dtype=f32 head.family=fan_in head.fan_in=16 layer.width=200 head.lr=30",
    "head.dtype=e4m3 layer.width=24 layer.dtype=bf16 head.lr=20",
};
enum { FORMS = sizeof forms / sizeof *forms };

/* The rows it was trained on come back: a form that lost its inputs, slices or scales on the way would not do that. */
static void test_forms(void **state)
{
    const fixture *f = *state;
    for (int i = 0; i < FORMS; i++) {
        char run[16], more[512], model[2 * HR_PATH_MAX], data[2 * HR_PATH_MAX];
        snprintf(run, sizeof run, "run%d", i);
        snprintf(more, sizeof more, "%s train.epochs=25 encoder.dropout=0 train.validation=0", forms[i]);
        tiny_run(f, run, more, 2, 0);
        hr_eval_options o = hr_eval_options_default();
        hr_metrics m;
        o.split = HR_SPLIT_TRAIN;
        check_ok(f->ctx, hr_eval_model(f->ctx, fixture_path(f, run, model), fixture_path(f, "data", data), &o, &m));
        print_message("  %s: train P@1 %.3f\n", forms[i], m.precision[0]);
        assert_true(m.precision[0] > 0.9);
    }
}

static void check_edit(const fixture *f, int form, const char *from, const char *to)
{
    char run[16], model[2 * HR_PATH_MAX], data[2 * HR_PATH_MAX], folder[32];
    snprintf(run, sizeof run, "run%d", form);
    snprintf(folder, sizeof folder, "%s/model", run);
    hr_metrics m;
    tiny_edit_manifest(f, folder, from, to);
    assert_int_equal(hr_eval_model(f->ctx, fixture_path(f, run, model), fixture_path(f, "data", data), NULL, &m), HR_ERR_DATA);
    assert_true(strlen(hr_ctx_message(f->ctx)) > 20);
    tiny_edit_manifest(f, folder, to, from);
    check_ok(f->ctx, hr_eval_model(f->ctx, model, data, NULL, &m));
}

static void test_other_shapes(void **state)
{
    const fixture *f = *state;
    for (int i = 0; i < FORMS; i++) {
        char run[16], more[512];
        snprintf(run, sizeof run, "run%d", i);
        snprintf(more, sizeof more, "%s train.epochs=1", forms[i]);
        tiny_run(f, run, more, 1, 0);
    }
#define KEY(name, value) "\"" name "\":\t\"" value "\""
    check_edit(f, 0, KEY("head.0.fan_in", "8"), KEY("head.0.fan_in", "9"));
    check_edit(f, 0, KEY("head.0.fan_in", "8"), KEY("head.0.fan_in", "0"));
    check_edit(f, 0, KEY("head.0.fan_in", "8"), KEY("head.0.fan_in", "4000"));
    check_edit(f, 0, KEY("head.0.group", "1"), KEY("head.0.group", "16"));
    check_edit(f, 0, KEY("head.0.connections", "0"), KEY("head.0.connections", "24000"));
    check_edit(f, 0, KEY("head.0.first_column", "0"), KEY("head.0.first_column", "64"));
    check_edit(f, 0, KEY("head.0.columns", "0"), KEY("head.0.columns", "33"));
    check_edit(f, 1, KEY("head.1.group", "16"), KEY("head.1.group", "32"));
    check_edit(f, 1, KEY("head.1.group", "16"), KEY("head.1.group", "7"));
    check_edit(f, 2, KEY("head.1.columns", "64"), KEY("head.1.columns", "640"));
    check_edit(f, 2, KEY("head.0.first_column", "64"), KEY("head.0.first_column", "128"));
    check_edit(f, 3, KEY("head.0.connections", "24000"), KEY("head.0.connections", "23999"));
    check_edit(f, 3, KEY("head.0.connections", "24000"), KEY("head.0.connections", "0"));
    check_edit(f, 4, KEY("layer.width", "200"), KEY("layer.width", "199"));
    check_edit(f, 4, KEY("layer.width", "200"), KEY("layer.width", "0"));
    check_edit(f, 5, KEY("layer.segments", "1"), KEY("layer.segments", "2"));
    check_edit(f, 5, KEY("layer.relu", "1"), KEY("layer.relu", "2"));
#undef KEY
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_forms, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_other_shapes, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
