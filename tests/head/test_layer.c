/* A hidden layer, which is a head whose gradient is given; and Adam in its rows. */
#include "tests/head/fixture.h"

#include "base/ctx.h"

static const struct {
    int64_t fan_in, group;
} forms[] = {{0, 1}, {13, 1}, {20, 16}};
enum { FORMS = sizeof forms / sizeof *forms };

static hr_head_options layer_options(const problem *p, const char *dtype, int form)
{
    hr_head_options o = options_for(p, dtype, HR_ROUND_STOCHASTIC);
    o.name = "layer";
    o.loss = HR_LOSS_GIVEN;
    o.relu = true;
    o.bias = HR_BIAS_PER_LABEL;
    o.bias_value = 0.01f;
    o.segment[0].family = forms[form].fan_in > 0 ? HR_FAMILY_FAN_IN : HR_FAMILY_DENSE;
    o.segment[0].fan_in = forms[form].fan_in;
    o.segment[0].group = forms[form].group;
    return o;
}

static void *data_of(hr_head *head, const char *name)
{
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    for (int i = 0; i < list.count; i++)
        if (strcmp(list.item[i].name, name) == 0) {
            assert_int_equal(list.item[i].shard_group, 0);
            return list.item[i].data;
        }
    fail_msg("no tensor %s", name);
    return NULL;
}

/* Real f32 weights (units, D); zero where a unit has no input. */
static double *plain_weights(hr_head *head, int form)
{
    const hr_head_options *o = hr_head_get_options(head);
    const float *codes = data_of(head, "layer.0.codes");
    const uint16_t *inputs = forms[form].fan_in ? data_of(head, "layer.0.inputs") : NULL;
    const int64_t width = inputs ? forms[form].fan_in : o->dim, pitch = (int64_t)(hr_head_segment_shape(head, 0).pitch / sizeof(float));
    double *w = calloc((size_t)(o->labels * o->dim), sizeof *w);
    for (int64_t u = 0; u < o->labels; u++)
        for (int64_t k = 0; k < width; k++)
            w[u * o->dim + (inputs ? inputs[u / forms[form].group * width + k] : k)] = (double)codes[u * pitch + k];
    return w;
}

/* Outputs, dX and the update agree with double, up to the rounding of sums; dX may take the place of X. */
static void test_plain(void **state)
{
    (void)state;
    problem p = make_problem(2500, 70, 37);
    for (int form = 0; form < FORMS; form++)
        for (int relu = 0; relu < 2; relu++) {
            hr_ctx *ctx = check_ctx(2, "auto");
            hr_head_options o = layer_options(&p, "f32", form);
            o.relu = relu;
            hr_head *layer;
            check_ok(ctx, hr_head_create(ctx, &o, &layer));
            double *w = plain_weights(layer, form);
            float *h = malloc((size_t)(p.B * p.L) * sizeof *h), *dh = malloc((size_t)(p.B * p.L) * sizeof *dh);
            float *x = malloc((size_t)(p.B * p.D) * sizeof *x);
            memcpy(x, p.x, (size_t)(p.B * p.D) * sizeof *x);
            check_ok(ctx, hr_head_forward(layer, p.B, x, h));
            int64_t cut = 0;
            for (int64_t b = 0; b < p.B; b++)
                for (int64_t u = 0; u < p.L; u++) {
                    double z = (double)o.bias_value;
                    for (int64_t d = 0; d < p.D; d++)
                        z += w[u * p.D + d] * p.x[b * p.D + d];
                    cut += z < 0;
                    assert_true(fabs(h[b * p.L + u] - (relu && z < 0 ? 0 : z)) < 1e-5);
                    dh[b * p.L + u] = uniform((uint32_t)b, (uint32_t)u, 5);
                }
            assert_true(cut > p.B * p.L / 4);
            const hr_head_batch batch = {.rows = p.B, .x = x, .h = h, .dh = dh};
            const float lr = 0.05f;
            check_ok(ctx, hr_head_step(layer, &batch, lr, 3, x, NULL));
            double *after = plain_weights(layer, form);
            const float *bias = data_of(layer, "layer.bias");
            for (int64_t b = 0; b < p.B; b++)
                for (int64_t d = 0; d < p.D; d++) {
                    double dx = 0;
                    for (int64_t u = 0; u < p.L; u++)
                        dx += relu && h[b * p.L + u] <= 0 ? 0 : (double)dh[b * p.L + u] * w[u * p.D + d];
                    assert_true(fabs(x[b * p.D + d] - dx) < 2e-4); /* 2500 terms of at most 0.3: 2500 * 2^-24 * their sum */
                }
            for (int64_t u = 0; u < p.L; u++) {
                double sum = 0;
                for (int64_t b = 0; b < p.B; b++)
                    sum += relu && h[b * p.L + u] <= 0 ? 0 : dh[b * p.L + u];
                assert_true(fabs(bias[u] - (o.bias_value - lr * sum)) < 1e-6);
                for (int64_t d = 0; d < p.D; d++) {
                    double dw = 0;
                    for (int64_t b = 0; b < p.B; b++)
                        dw += relu && h[b * p.L + u] <= 0 ? 0 : (double)dh[b * p.L + u] * p.x[b * p.D + d];
                    const double old = w[u * p.D + d];
                    assert_true(fabs(after[u * p.D + d] - (old != 0 ? old - lr * dw : 0)) < 1e-6);
                }
            }
            free(w), free(after), free(h), free(dh), free(x);
            hr_head_destroy(layer);
            check_ctx_empty(ctx);
        }
    free_problem(&p);
}

/* Same bits for any threads and instruction set; an instance's outputs do not depend on its batch. */
static void test_same_bits(void **state)
{
    (void)state;
    problem p = make_problem(3000, 70, 37);
    float *h = malloc((size_t)(p.B * p.L) * sizeof *h), *dh = malloc((size_t)(p.B * p.L) * sizeof *dh), *one = malloc((size_t)p.L * sizeof *one);
    float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
    for (int64_t i = 0; i < p.B * p.L; i++)
        dh[i] = uniform((uint32_t)i, 3, 5);
    for (int form = 0; form < FORMS; form++)
        for (int adam = 0; adam < 2; adam++) {
            uint64_t first = 0;
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
                for (int threads = 1; threads < 4; threads += 2) {
                    hr_ctx *ctx = check_ctx(threads, hr_isa_name((hr_isa)isa));
                    hr_head_options o = layer_options(&p, adam ? "bf16" : "e4m3", form);
                    o.segment[0].optimizer = adam ? HR_HEAD_ADAM : HR_HEAD_SGD;
                    o.segment[0].beta1 = 0.9f;
                    o.segment[0].beta2 = 0.999f;
                    o.segment[0].eps = 1e-8f;
                    hr_head *layer;
                    check_ok(ctx, hr_head_create(ctx, &o, &layer));
                    for (uint64_t s = 0; s < 2; s++) {
                        check_ok(ctx, hr_head_forward(layer, p.B, p.x, h));
                        const hr_head_batch batch = {.rows = p.B, .x = p.x, .h = h, .dh = dh};
                        check_ok(ctx, hr_head_step(layer, &batch, 0.01f, s, dx, NULL));
                    }
                    check_ok(ctx, hr_head_forward(layer, p.B, p.x, h));
                    for (int64_t b = 0; b < p.B && threads == 1; b += 12) {
                        check_ok(ctx, hr_head_forward(layer, 1, p.x + b * p.D, one));
                        assert_memory_equal(one, h + b * p.L, (size_t)p.L * sizeof *one);
                    }
                    const uint64_t found = digest(layer, dx, p.B * p.D);
                    first = first ? first : found;
                    assert_true(found == first);
                    hr_head_destroy(layer);
                    check_ctx_empty(ctx);
                }
        }
    free(h), free(dh), free(one), free(dx);
    free_problem(&p);
}

/* A layer that only computes: no state, weights from elsewhere, the same outputs. */
static void test_attached(void **state)
{
    (void)state;
    problem p = make_problem(300, 70, 9);
    for (int form = 0; form < FORMS; form++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = layer_options(&p, "bf16", form);
        hr_head *trained, *used;
        check_ok(ctx, hr_head_create(ctx, &o, &trained));
        o.training = false;
        size_t planned[HR_MEM_KINDS] = {0};
        hr_mem_report before, after;
        hr_head_memory(&o, 1, planned);
        hr_ctx_memory(ctx, &before);
        check_ok(ctx, hr_head_create(ctx, &o, &used));
        hr_ctx_memory(ctx, &after);
        assert_int_equal(after.now_total - before.now_total, planned[HR_MEM_HEAD_SCRATCH]);
        const void *codes = data_of(trained, "layer.0.codes"), *inputs = forms[form].fan_in ? data_of(trained, "layer.0.inputs") : NULL;
        hr_head_attach(used, 0, p.L, 1, &codes, NULL, inputs ? &inputs : NULL);
        hr_head_attach_bias(used, data_of(trained, "layer.bias"));
        float *one = malloc((size_t)(p.B * p.L) * sizeof *one), *two = malloc((size_t)(p.B * p.L) * sizeof *two);
        check_ok(ctx, hr_head_forward(trained, p.B, p.x, one));
        check_ok(ctx, hr_head_forward(used, p.B, p.x, two));
        assert_memory_equal(one, two, (size_t)(p.B * p.L) * sizeof *one);
        free(one), free(two);
        hr_head_destroy(used);
        hr_head_destroy(trained);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* Adam as written in the paper, in double, beside the head's, f32 and with f32 moments. With bf16 moments the mean over many weights of
 * the step is within a hundredth of it. */
static void test_adam(void **state)
{
    (void)state;
    problem p = make_problem(400, 16, 8);
    for (int store = 0; store < 2; store++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
        o.segment[0].optimizer = HR_HEAD_ADAM;
        o.segment[0].beta1 = 0.9f;
        o.segment[0].beta2 = 0.99f;
        o.segment[0].eps = 1e-6f;
        assert_true(hr_dtype_parse(store ? "bf16" : "f32", &o.segment[0].state_dtype));
        o.loss = HR_LOSS_GIVEN;
        o.name = "layer";
        o.bias = HR_BIAS_PER_LABEL;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        double *bias = malloc((size_t)p.L * sizeof *bias), *bias_m = calloc((size_t)p.L, sizeof *bias_m), *bias_v = calloc((size_t)p.L, sizeof *bias_v);
        for (int64_t l = 0; l < p.L; l++)
            bias[l] = (double)o.bias_value;
        const int64_t n = p.L * p.D;
        double *w = malloc((size_t)n * sizeof *w), *m = calloc((size_t)n, sizeof *m), *v = calloc((size_t)n, sizeof *v);
        for (int64_t i = 0; i < n; i++)
            w[i] = weight(head, i / p.D, i % p.D);
        float *h = malloc((size_t)(p.B * p.L) * sizeof *h), *dh = malloc((size_t)(p.B * p.L) * sizeof *dh);
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
        const float lr = 0.01f;
        for (int t = 1; t <= 5; t++) {
            for (int64_t i = 0; i < p.B * p.L; i++) {
                h[i] = 1;
                dh[i] = uniform((uint32_t)i, (uint32_t)t, 9);
            }
            const hr_head_batch batch = {.rows = p.B, .x = p.x, .h = h, .dh = dh};
            check_ok(ctx, hr_head_step(head, &batch, lr, (uint64_t)t - 1, dx, NULL));
            for (int64_t l = 0; l < p.L; l++)
                for (int64_t d = 0; d <= p.D; d++) { /* d == D: the bias, whose input is 1 */
                    double g = 0;
                    for (int64_t b = 0; b < p.B; b++)
                        g += (double)dh[b * p.L + l] * (d < p.D ? p.x[b * p.D + d] : 1);
                    double *at = d < p.D ? &w[l * p.D + d] : &bias[l], *mi = d < p.D ? &m[l * p.D + d] : &bias_m[l];
                    double *vi = d < p.D ? &v[l * p.D + d] : &bias_v[l];
                    *mi = 0.9 * *mi + 0.1 * g;
                    *vi = 0.99 * *vi + 0.01 * g * g;
                    *at -= (double)lr * (*mi / (1 - pow(0.9, t))) / (sqrt(*vi / (1 - pow(0.99, t))) + 1e-6);
                }
        }
        double off = 0, most = 0;
        const float *found = data_of(head, "layer.bias");
        for (int64_t l = 0; l < p.L; l++)
            assert_true(fabs(found[l] - bias[l]) < 2e-4 * 5 * lr);
        free(bias), free(bias_m), free(bias_v);
        for (int64_t i = 0; i < n; i++) {
            const double d = weight(head, i / p.D, i % p.D) - w[i];
            off += d / (double)n;
            most = fmax(most, fabs(d));
        }
        /* a gradient near zero makes a step whose size is decided by the rounding of sums: beta2 was rounded to f32, and so on */
        assert_true(store ? fabs(off) < 0.01 * 5 * lr && most < 5 * lr : most < 2e-4 * 5 * lr);
        free(w), free(m), free(v), free(h), free(dh), free(dx);
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
    hr_head_options o = options_for(&p, "f32", HR_ROUND_STOCHASTIC);
    o.segment[0].optimizer = HR_HEAD_ADAM;
    assert_true(hr_dtype_parse("e4m3", &o.segment[0].state_dtype));
    assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
    assert_non_null(strstr(hr_ctx_message(ctx), "f32 or bf16"));
    assert_true(hr_dtype_parse("bf16", &o.segment[0].state_dtype));
    o.segment[0].momentum = 0.9f;
    assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
    o.segment[0].momentum = 0;
    o.gradient = HR_GRADIENT_SPARSE;
    assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
    assert_non_null(strstr(hr_ctx_message(ctx), "head.optimizer=adam"));
    o = layer_options(&p, "f32", 0);
    o.gradient = HR_GRADIENT_SPARSE;
    assert_int_equal(hr_head_check(ctx, &o), HR_ERR_CONFIG);
    check_ctx_empty(ctx);
    free_problem(&p);
}

/* A unit of relu that is not a number stays so: the head that reads it must see it. */
static void test_nan(void **state)
{
    (void)state;
    problem p = make_problem(40, 70, 5);
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head_options o = layer_options(&p, "f32", 0);
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    float *h = malloc((size_t)(p.B * p.L) * sizeof *h);
    p.x[2 * p.D + 3] = NAN;
    check_ok(ctx, hr_head_forward(head, p.B, p.x, h));
    for (int64_t i = 0; i < p.B * p.L; i++)
        assert_true(isnan(h[i]) == (i / p.L == 2));
    free(h);
    hr_head_destroy(head);
    check_ctx_empty(ctx);
    free_problem(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain), cmocka_unit_test(test_same_bits), cmocka_unit_test(test_attached),
        cmocka_unit_test(test_adam),  cmocka_unit_test(test_refused),  cmocka_unit_test(test_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
