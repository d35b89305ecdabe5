/* What the keys become: a hidden layer's units are at the start as long as what they read, whatever their number, activation and fan-in. */
#include "tests/trainer/tiny.h"

#include "base/rng.h"
#include "model/model.h"

static double length_of_units(const fixture *f, const char *keys)
{
    enum { ROWS = 64 };
    hr_dataset *ds;
    char data[2 * HR_PATH_MAX];
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(1, &log);
    hr_config *c = tiny_config(f, ctx, "none", keys);
    check_ok(ctx, hr_dataset_open(ctx, fixture_path(f, "data", data), &ds));
    hr_model_spec spec;
    check_ok(ctx, hr_model_spec_make(c, ds, NULL, 100, 2, &spec));
    const int64_t D = spec.layer.dim, m = spec.layer.labels;
    hr_head *layer;
    spec.layer.max_batch = ROWS;
    check_ok(ctx, hr_head_create(ctx, &spec.layer, &layer));
    float *x = malloc((size_t)(ROWS * D) * sizeof *x), *h = malloc((size_t)(ROWS * m) * sizeof *h);
    double of_x = 0, of_h = 0;
    for (int64_t i = 0; i < ROWS * D; i++) {
        x[i] = (float)hr_rng_draw16(hr_rng_make(1, 0, 0, 0), (uint32_t)i, 0) / 32768.0f - 1.0f;
        of_x += (double)x[i] * (double)x[i];
    }
    check_ok(ctx, hr_head_forward(layer, ROWS, x, h));
    for (int64_t i = 0; i < ROWS * m; i++)
        of_h += (double)h[i] * (double)h[i];
    free(x), free(h);
    hr_head_destroy(layer);
    hr_dataset_close(ds);
    hr_config_destroy(c);
    hr_ctx_destroy(ctx);
    return sqrt(of_h / of_x);
}

static void test_layer_init(void **state)
{
    const fixture *f = *state;
    static const char *const keys[] = {
        "encoder.dim=256 layer.width=2048", "encoder.dim=256 layer.width=64 layer.activation=none", "encoder.dim=256 layer.width=64",
        "encoder.dim=256 layer.width=1024 layer.fan_in=16", "encoder.dim=256 layer.width=512 layer.fan_in=32 layer.activation=none",
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const double length = length_of_units(f, keys[i]);
        if (!(fabs(length - 1) < 0.15)) /* 64 units of 256 weights: a relative error of a few percent */
            fail_msg("%s: |h| / |x| = %g", keys[i], length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_layer_init, tiny_setup, tiny_teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
