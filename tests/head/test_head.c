/* The head's step against a plain double-precision step, finite differences, the sameness promises. */
#include "tests/head/fixture.h"

#include "dtype/sigmoid.h"

/* Loss and gradients in double; dw (L, D) and dx (B, D) may be NULL. */
static double plain_step(hr_head *head, const problem *p, const float *x, double *dw, double *dx)
{
    const hr_head_options *o = hr_head_get_options(head);
    double loss = 0;
    if (dw)
        memset(dw, 0, (size_t)(p->L * p->D) * sizeof *dw);
    if (dx)
        memset(dx, 0, (size_t)(p->B * p->D) * sizeof *dx);
    double *w = malloc((size_t)p->D * sizeof *w);
    for (int64_t l = 0, i = 0; l < p->L; l++) {
        for (int64_t d = 0; d < p->D; d++)
            w[d] = weight(head, l, d);
        for (int64_t b = 0; b < p->B; b++) {
            double z = o->bias == HR_BIAS_NONE ? 0 : o->bias_value;
            for (int64_t d = 0; d < p->D; d++)
                z += w[d] * x[b * p->D + d];
            const bool y = i < p->npos && p->pos[i] == ((uint64_t)l << 32 | (uint64_t)b);
            i += y;
            double g;
            if (o->loss == HR_LOSS_BCE) {
                loss += log1p(exp(z)) - (y ? z : 0);
                g = 1 / (1 + exp(-z)) - y;
            } else {
                const double s = y ? 1 : -1, m = fmax(0, 1 - s * z);
                loss += m * m;
                g = -2 * s * m;
            }
            for (int64_t d = 0; d < p->D; d++) {
                if (dw)
                    dw[l * p->D + d] += g * x[b * p->D + d];
                if (dx)
                    dx[b * p->D + d] += g * w[d];
            }
        }
    }
    free(w);
    return loss;
}

/* f32 step: dX, loss and new weights agree with double up to the rounding of sums of n products, n * 2^-24 * sum|ab|. */
static void check_against_plain(hr_loss loss_type, hr_reduction reduction, hr_arith arith)
{
    problem p = make_problem(2500, 37, 70);
    hr_ctx *ctx = check_ctx(2, "auto");
    hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
    o.loss = loss_type;
    o.reduction = reduction;
    o.arith = arith;
    /* bf16 operands: each of the two is off by 2^-9 of itself, and logits that are off by 2^-8 of their terms (37 of at most 0.05) move
     * the gradient by at most as much again */
    const double coarse = arith == HR_ARITH_BF16 ? 0x1p-8 : 0;
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    assert_int_equal(hr_head_blocks(head), 2);
    double *dw = malloc((size_t)(p.L * p.D) * sizeof *dw), *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
    double *before = malloc((size_t)(p.L * p.D) * sizeof *before), loss;
    float *found = malloc((size_t)(p.B * p.D) * sizeof *found);
    const double exact = plain_step(head, &p, p.x, dw, dx);
    const double factor = reduction == HR_SUM ? 1 : reduction == HR_MEAN_LABELS ? 1.0 / 2500 : 1.0 / (2500 * 70);
    for (int64_t i = 0; i < p.L * p.D; i++)
        before[i] = weight(head, i / p.D, i % p.D);
    const hr_head_batch batch = batch_of(&p);
    const float lr = 0.01f;
    check_ok(ctx, hr_head_step(head, &batch, lr, 1, found, &loss));
    assert_true(fabs(loss - exact * factor) < (1e-5 + coarse) * exact * factor);
    /* |g| <= 1 (BCE) or 2(1 + |z|) <= 20; |w| <= 0.05, |x| <= 1 */
    const double most_g = loss_type == HR_LOSS_BCE ? 1 : 20;
    for (int64_t i = 0; i < p.B * p.D; i++)
        assert_true(fabs(found[i] - dx[i] * factor) < (0x1p-24 * 2500 + 2 * coarse) * factor * most_g * 2500 * 0.05 * 0.1);
    for (int64_t i = 0; i < p.L * p.D; i++) {
        const double expected = before[i] - (double)lr * factor * dw[i];
        assert_true(fabs(weight(head, i / p.D, i % p.D) - expected) <
                    0x1p-23 * (1 + 70 * most_g * lr * factor * 70) + 2 * coarse * 70 * most_g * (double)lr * factor);
    }
    free(dw), free(dx), free(before), free(found);
    hr_head_destroy(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

static void test_plain_bce(void **state)
{
    (void)state;
    check_against_plain(HR_LOSS_BCE, HR_SUM, HR_ARITH_F32);
    check_against_plain(HR_LOSS_BCE, HR_SUM, HR_ARITH_BF16);
    check_against_plain(HR_LOSS_BCE, HR_MEAN_ALL, HR_ARITH_F32);
}

static void test_plain_hinge(void **state)
{
    (void)state;
    check_against_plain(HR_LOSS_SQUARED_HINGE, HR_SUM, HR_ARITH_F32);
    check_against_plain(HR_LOSS_SQUARED_HINGE, HR_SUM, HR_ARITH_BF16);
    check_against_plain(HR_LOSS_SQUARED_HINGE, HR_MEAN_LABELS, HR_ARITH_F32);
}

/* dX is the derivative of the loss that the head itself reports. */
static void test_finite_differences(void **state)
{
    (void)state;
    for (int loss_type = 0; loss_type < 2; loss_type++) {
        problem p = make_problem(300, 20, 9);
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "e4m3", HR_ROUND_NEAREST);
        o.loss = (hr_loss)loss_type;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx), *x = malloc((size_t)(p.B * p.D) * sizeof *x);
        const hr_head_batch batch = batch_of(&p);
        double loss;
        check_ok(ctx, hr_head_step(head, &batch, 0, 1, dx, &loss)); /* rate 0: nothing moves */
        for (int64_t i = 0; i < p.B * p.D; i += 7) {
            const float h = 1e-3f;
            memcpy(x, p.x, (size_t)(p.B * p.D) * sizeof *x);
            x[i] = p.x[i] + h;
            const double up = plain_step(head, &p, x, NULL, NULL), hi = x[i];
            x[i] = p.x[i] - h;
            const double down = plain_step(head, &p, x, NULL, NULL);
            const double slope = (up - down) / (hi - x[i]);
            /* the curvature of 300 labels adds h^2 |f'''| / 6 < 1e-5 */
            assert_true(fabs(slope - dx[i]) < 1e-3 * (1 + fabs(slope)));
        }
        assert_true(fabs(loss - plain_step(head, &p, p.x, NULL, NULL)) < 1e-5 * loss);
        free(dx), free(x);
        hr_head_destroy(head);
        free_problem(&p);
        check_ctx_empty(ctx);
    }
}

/* Same bits for 1, 2, 3, 7 threads, two chunk sizes, and, for the head, every instruction set. */
static void test_same_bits(void **state)
{
    (void)state;
    problem p = make_problem(9000, 50, 33);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        hr_head_options o = options_for(&p, types[t], HR_ROUND_STOCHASTIC);
        o.weight_decay = 0.05f;
        if (t == 3) { /* Kahan head, momentum, biases */
            o.num_segments = 2;
            o.segment[1] = o.segment[0];
            o.segment[0].rows = 1500;
            o.segment[0].kahan = true;
            o.segment[1].rows = p.L - 1500;
            o.segment[1].momentum = 0.5f;
            o.bias = HR_BIAS_PER_LABEL;
        }
        o.arith = t % 3 == 1 ? HR_ARITH_BF16 : HR_ARITH_F32; /* bf16, e5m2 */
        const uint64_t one = train_digest(&p, o, 1, 0, "auto", 3);
        static const int threads[] = {2, 3, 7};
        for (int i = 0; i < 3; i++)
            assert_true(train_digest(&p, o, threads[i], 0, "auto", 3) == one);
        assert_true(train_digest(&p, o, 2, 1, "auto", 3) == one);
        assert_true(train_digest(&p, o, 2, 1 << 20, "auto", 3) == one);
        if (t == 0 || t == 1 || t == 3)
            for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
                assert_true(train_digest(&p, o, 2, 0, hr_isa_name((hr_isa)isa), 3) == one);
    }
    free_problem(&p);
}

/* A rate of zero leaves every bit of every storage type as it is. */
static void test_zero_rate(void **state)
{
    (void)state;
    problem p = make_problem(700, 33, 10);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, types[t], HR_ROUND_STOCHASTIC);
        o.weight_decay = 1;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
        const hr_head_batch batch = batch_of(&p);
        const uint64_t before = digest(head, dx, 0);
        for (uint64_t s = 0; s < 3; s++)
            check_ok(ctx, hr_head_step(head, &batch, 0, s, dx, NULL));
        assert_true(digest(head, dx, 0) == before);
        free(dx);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* Decay as one factor: after many steps weights and alpha agree with eager decay in f32, through the halving. */
static void test_decay(void **state)
{
    (void)state;
    problem p = make_problem(200, 16, 8);
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head *scalar, *eager;
    hr_head_options o = options_for(&p, "f32", HR_ROUND_NEAREST);
    o.weight_decay = 0.5f;
    check_ok(ctx, hr_head_create(ctx, &o, &scalar));
    o.eager_decay = true;
    check_ok(ctx, hr_head_create(ctx, &o, &eager));
    float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
    const hr_head_batch batch = batch_of(&p);
    for (uint64_t s = 0; s < 40; s++) {
        check_ok(ctx, hr_head_step(scalar, &batch, 0.1f, s, dx, NULL));
        check_ok(ctx, hr_head_step(eager, &batch, 0.1f, s, dx, NULL));
        assert_true(hr_head_alpha(scalar, 0) >= 0.5f && hr_head_alpha(scalar, 0) <= 1);
    }
    for (int64_t i = 0; i < p.L * p.D; i++)
        assert_true(fabs(weight(scalar, i / p.D, i % p.D) - weight(eager, i / p.D, i % p.D)) < 1e-5);
    free(dx);
    hr_head_destroy(scalar);
    hr_head_destroy(eager);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* Updates far below the grid: nearest stands still, Kahan and stochastic rounding move by what was asked. */
static void test_small_updates_are_not_lost(void **state)
{
    (void)state;
    problem p = make_problem(64, 48, 16);
    double moved[3] = {0};
    for (int mode = 0; mode < 3; mode++) {
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "e4m3", mode == 0 ? HR_ROUND_NEAREST : HR_ROUND_STOCHASTIC);
        o.segment[0].kahan = mode == 2;
        o.segment[0].init = 2;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        double *dw = malloc((size_t)(p.L * p.D) * sizeof *dw), *w = malloc((size_t)(p.L * p.D) * sizeof *w), along = 0, size = 0;
        float *dx = malloc((size_t)(p.B * p.D) * sizeof *dx);
        plain_step(head, &p, p.x, dw, NULL);
        for (int64_t i = 0; i < p.L * p.D; i++)
            w[i] = weight(head, i / p.D, i % p.D);
        const hr_head_batch batch = batch_of(&p);
        for (uint64_t s = 0; s < 50; s++)
            check_ok(ctx, hr_head_step(head, &batch, 1e-5f, s, dx, NULL));
        /* how far the weights went along the first gradient, in units of what was asked */
        for (int64_t i = 0; i < p.L * p.D; i++) {
            along += (w[i] - weight(head, i / p.D, i % p.D)) * dw[i];
            size += dw[i] * dw[i];
        }
        moved[mode] = along / (size * 50 * 1e-5);
        free(dw), free(w), free(dx);
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    assert_true(fabs(moved[0]) < 0.1);
    assert_true(fabs(moved[1] - 1) < 0.2);
    assert_true(fabs(moved[2] - 1) < 0.2);
    free_problem(&p);
}

/* Which draw rounds what (docs/numerics.md section 1): from zero weights, with one instance, each new code can be computed
 * by hand: dw = sigmoid(bias) x, weights by (tensor 2i, stream 0), momentum by (tensor 2i + 1, stream 8). */
static void test_streams(void **state)
{
    (void)state;
    for (int momentum = 0; momentum < 2; momentum++) {
        problem p = make_problem(70, 40, 1);
        hr_ctx *ctx = check_ctx(1, "auto");
        hr_head_options o = options_for(&p, "e4m3", HR_ROUND_STOCHASTIC);
        o.segment[0].init = 0;
        o.first_tensor = 4;
        o.segment[0].momentum = momentum ? 0.5f : 0;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        const hr_head_batch batch = {.rows = 1, .x = p.x};
        float dx[40];
        const uint64_t step = (UINT64_C(5) << 32) + 9;
        check_ok(ctx, hr_head_step(head, &batch, 0.01f, step, dx, NULL));
        for (uint32_t l = 0; l < 70; l++)
            for (uint32_t d = 0; d < 40; d++) {
                float dw = hr_sigmoid(o.bias_value) * p.x[d];
                if (momentum)
                    dw = hr_dtype_round(o.segment[0].state_dtype, HR_ROUND_STOCHASTIC, dw,
                                        hr_rng_draw16(hr_rng_make(o.seed, step, 5, HR_STREAM_STATE), l, d));
                const uint16_t draw = hr_rng_draw16(hr_rng_make(o.seed, step, 4, HR_STREAM_ROUND), l, d);
                const float code = hr_dtype_round(o.segment[0].dtype, HR_ROUND_STOCHASTIC, -(0.01f * 64) * dw, draw);
                assert_true(weight(head, l, d) == (double)code / 64);
            }
        hr_head_destroy(head);
        free_problem(&p);
        check_ctx_empty(ctx);
    }
}

static void test_bad_input(void **state)
{
    (void)state;
    problem p = make_problem(100, 8, 4);
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_head_options o = options_for(&p, "e4m3", HR_ROUND_STOCHASTIC);
    hr_head *head;
    check_ok(ctx, hr_head_create(ctx, &o, &head));
    float dx[32];
    const hr_head_batch batch = batch_of(&p);
    const uint64_t before = digest(head, dx, 0);
    p.x[13] = NAN;
    assert_int_equal(hr_head_step(head, &batch, 0.1f, 0, dx, NULL), HR_ERR_NUMERIC);
    assert_non_null(strstr(hr_ctx_message(ctx), "X[1][5]"));
    p.x[13] = 1e30f;
    assert_int_equal(hr_head_step(head, &batch, 0.1f, 0, dx, NULL), HR_ERR_NUMERIC);
    p.x[13] = 0;
    assert_int_equal(hr_head_step(head, &batch, INFINITY, 0, dx, NULL), HR_ERR_NUMERIC);
    assert_int_equal(hr_head_step(head, &batch, 1e37f, 0, dx, NULL), HR_ERR_NUMERIC); /* times 2^6 it overflows */
    assert_true(digest(head, dx, 0) == before);
    hr_head_destroy(head);
    o.segment[0].rows = 99;
    assert_int_equal(hr_head_create(ctx, &o, &head), HR_ERR_CONFIG);
    assert_null(head);
    free_problem(&p);
    check_ctx_empty(ctx);
}

/* What is planned is what is booked. */
static void test_memory(void **state)
{
    (void)state;
    problem p = make_problem(5000, 100, 40);
    for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
        hr_ctx *ctx = check_ctx(3, "auto");
        hr_head_options o = options_for(&p, types[t], HR_ROUND_STOCHASTIC);
        o.segment[0].momentum = t % 2 ? 0.9f : 0;
        o.segment[0].kahan = t == 3;
        o.arith = t % 2 ? HR_ARITH_BF16 : HR_ARITH_F32;
        if (t >= 4) {
            o.gradient = HR_GRADIENT_SPARSE;
            o.segment[0].momentum = 0;
        }
        size_t planned[HR_MEM_KINDS] = {0};
        hr_head_memory(&o, 3, planned);
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        hr_mem_report m;
        hr_ctx_memory(ctx, &m);
        for (int k = 0; k < HR_MEM_KINDS; k++)
            assert_int_equal(m.now[k], planned[k]);
        hr_head_destroy(head);
        /* and every failing allocation is answered */
        for (int64_t n = 1;; n++) {
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, n, false);
            hr_status st = hr_head_create(ctx, &o, &head);
            hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 0, false);
            if (st == HR_OK)
                break;
            assert_int_equal(st, HR_ERR_NOMEM);
            assert_null(head);
        }
        hr_head_destroy(head);
        check_ctx_empty(ctx);
    }
    free_problem(&p);
}

/* The reduction's factor does not meet the floor of bf16 operands: dX of mean_all, with a factor of 2^-50 and less, is that of f32. */
static void test_bf16_small_factor(void **state)
{
    (void)state;
    problem p = make_problem(1200, 24, 16);
    hr_ctx *ctx = check_ctx(1, "auto");
    float dx[2][16 * 24];
    hr_head_batch batch = batch_of(&p);
    batch.weight = 0x1p-40f;
    batch.num_positives = 0;
    for (int arith = 0; arith < 2; arith++) {
        hr_head_options o = options_for(&p, "e4m3", HR_ROUND_STOCHASTIC);
        o.reduction = HR_MEAN_ALL;
        o.bias_value = -12;
        o.arith = (hr_arith)arith;
        hr_head *head;
        check_ok(ctx, hr_head_create(ctx, &o, &head));
        check_ok(ctx, hr_head_step(head, &batch, 0, 1, dx[arith], NULL));
        hr_head_destroy(head);
    }
    double error = 0, size = 0;
    for (int i = 0; i < 16 * 24; i++) {
        error += pow((double)dx[0][i] - (double)dx[1][i], 2);
        size += pow((double)dx[0][i], 2);
    }
    assert_true(size > 0 && sqrt(error / size) < 0.01);
    free_problem(&p);
    check_ctx_empty(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_bce), cmocka_unit_test(test_plain_hinge),
        cmocka_unit_test(test_finite_differences), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_zero_rate), cmocka_unit_test(test_decay),
        cmocka_unit_test(test_small_updates_are_not_lost), cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_bf16_small_factor),
        cmocka_unit_test(test_streams),
    };
    return cmocka_run_group_tests_name("head", tests, NULL, NULL);
}
