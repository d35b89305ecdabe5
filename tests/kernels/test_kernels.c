/* Every kernel of every level against the reference: the same bits, nothing written outside. */
#include "check.h"
#include "tests/kernels/fixture.h"

#include "kernels/kernels.h"

#include <math.h>

enum { GUARD = 64, MOST = 1100 };

static const int64_t sizes[] = {0, 1, 7, 8, 9, 15, 16, 17, 31, 47, 48, 49, 64, 127, 128, 129, 257, 1000};
enum { SIZES = sizeof sizes / sizeof *sizes };

static float random_float(uint32_t i, uint64_t seed)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(seed, 0, 0, 0), i, 0, w);
    const float u = (float)(w[0] & 0xffff) / 32768.0f - 1.0f;
    switch (w[1] % 16) { /* mostly tame numbers, some extreme ones */
    case 0: return u * 1e-40f;
    case 1: return u * 1e20f;
    case 2: return 0.0f;
    case 3: return -0.0f;
    default: return u * 4;
    }
}

static void fill(float *p, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = random_float((uint32_t)i, seed);
}

static void each_level(void (*check)(hrk_table ref, hrk_table k))
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    for (int isa = 1; isa <= (int)hr_isa_detect(); isa++)
        check(ref, hrk_table_make(isa));
}

static void check_gemm(hrk_table ref, hrk_table k)
{
    static const int64_t rows[] = {0, 1, 3, 4, 5, 8, 11, 12, 13, 29}, sums[] = {0, 1, 5, 48, 49, 100};
    static float a[64 * 128], panel[128 * HRK_DP], one[32 * HRK_DP + GUARD], two[32 * HRK_DP + GUARD];
    for (int64_t i = 0; i < 64 * 128; i++)
        a[i] = sinf((float)i);
    for (int64_t i = 0; i < 128 * HRK_DP; i++)
        panel[i] = cosf((float)(3 * i));
    for (int wide = 0; wide < 2; wide++)
        for (size_t r = 0; r < 10; r++)
            for (size_t s = 0; s < 6; s++)
                for (int accumulate = 0; accumulate < 2; accumulate++) {
                    /* all three shapes of the head: blocked rows, transposed, plain */
                    const hrk_left left[] = {{a, 48, 1, 48, 48 * 29}, {a, 1, 32, 1000, 0}, {a, 100, 1, 100, 0}};
                    for (int l = 0; l < 3; l++) {
                        memset(one, 0xff, sizeof one); /* NaN */
                        for (int64_t i = 0; accumulate && i < 29 * HRK_DP; i++)
                            one[i] = (float)i;
                        memcpy(two, one, sizeof one);
                        (wide ? ref.gemm_panel_dp : ref.gemm_panel_bp)(rows[r], sums[s], left[l], panel, one, HRK_DP, 0.37f, accumulate);
                        (wide ? k.gemm_panel_dp : k.gemm_panel_bp)(rows[r], sums[s], left[l], panel, two, HRK_DP, 0.37f, accumulate);
                        assert_memory_equal(one, two, sizeof one);
                    }
                }
}

static void check_draws(hrk_table ref, hrk_table k)
{
    static uint16_t one[MOST + GUARD], two[MOST + GUARD];
    const hr_rng rng = hr_rng_make(0x123456789abcdef, 77, 3, 0);
    for (int s = 0; s < SIZES; s++) {
        memset(one, 0xff, sizeof one);
        memset(two, 0xff, sizeof two);
        ref.draws(rng, 12345, sizes[s], one);
        k.draws(rng, 12345, sizes[s], two);
        assert_memory_equal(one, two, sizeof one);
        for (int64_t i = 0; i < sizes[s]; i++)
            assert_int_equal(two[i], hr_rng_draw16(rng, 12345, (uint32_t)i));
    }
}

static void check_draws_panel(hrk_table ref, hrk_table k)
{
    static uint16_t one[7 * HRK_DP + GUARD], two[7 * HRK_DP + GUARD];
    const hr_rng rng = hr_rng_make(0x123456789abcdef, 77, 3, 0);
    for (int64_t rows = 0; rows <= 7; rows++)
        for (int64_t column = 0; column < 3 * HRK_DP; column += 40) {
            memset(one, 0xff, sizeof one);
            memset(two, 0xff, sizeof two);
            ref.draws_panel(rng, 0xfffffffeu, rows, NULL, column, one); /* the row wraps */
            k.draws_panel(rng, 0xfffffffeu, rows, NULL, column, two);
            assert_memory_equal(one, two, sizeof one);
        }
}

static void check_gradients(hrk_table ref, hrk_table k)
{
    static float one[MOST + GUARD], two[MOST + GUARD];
    for (int s = 0; s < SIZES; s++)
        for (int low = 0; low < 2; low++) {
            const hrk_grad_args args = {.zscale = 0.7f, .bias = -3, .gscale = 0.5f, .low_precision = low};
            for (int hinge = 0; hinge < 2; hinge++) {
                memset(one, 0xff, sizeof one);
                fill(one, sizes[s], 9);
                memcpy(two, one, sizeof one);
                (hinge ? ref.grad_hinge : ref.grad_bce)(sizes[s], one, args);
                (hinge ? k.grad_hinge : k.grad_bce)(sizes[s], two, args);
                assert_memory_equal(one, two, sizeof one);
            }
        }
}

/* The references themselves, which share their text with the fast variants: against double arithmetic. */
static void test_references(void **state)
{
    (void)state;
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    const hrk_grad_args grad = {.zscale = 0.7f, .bias = -3, .gscale = 0.5f};
    const hrk_adam_args adam = {0.1f, 0.001f, 0.002f, 1.5f, 1e-8f, 0.999f};
    for (int i = -400; i <= 400; i++) {
        float z = (float)i / 10, hinge = z, y = 0.25f, w = 1, m = 0.3f, v = 0.04f;
        const double logit = 0.7f * (double)z - 3, g = sin(i);
        const float gf = (float)g;
        ref.grad_bce(1, &z, grad);
        assert_true(fabs(z - 0.5 / (1 + exp(-logit))) < 1e-6 * z);
        ref.grad_hinge(1, &hinge, grad);
        assert_true(fabs(hinge - fmax(0, 1 + logit)) < 1e-5);
        ref.axpy(1, 3, &gf, &y);
        assert_true(fabs(y - (0.25 + 3 * (double)gf)) < 1e-5);
        ref.adam(1, &w, &m, &v, &gf, adam);
        const double m1 = 0.3 * 0.9 + 0.1 * g, v1 = 0.04 * 0.999 + 0.001 * g * g;
        assert_true(fabs(m - m1) < 1e-6 && fabs(v - v1) < 1e-6);
        assert_true(fabs(w - (0.999 - 0.002 * m1 / (sqrt(v1) * 1.5 + 1e-8))) < 1e-6);
    }
}

static const char *const types[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r", "e3m4", "e2m1", "e5m1", "e6m1", "e2m5", "e4m2"};
enum { TYPES = sizeof types / sizeof *types };

/* Codes without NaN, infinity or -0, made by rounding. */
static void fill_codes(hr_dtype d, void *codes, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        const float v = random_float((uint32_t)i, 4);
        if (d.id == HR_I8R)
            ((int8_t *)codes)[i] = (int8_t)(i * 37 % 255 - 127);
        else
            hr_dtype_store(d, codes, i, hr_dtype_round(d, HR_ROUND_NEAREST, v, 0), 1);
    }
}

static void check_sgd(hrk_table ref, hrk_table k)
{
    static uint32_t one[MOST + GUARD], two[MOST + GUARD];
    static float dw[MOST], f1[MOST + GUARD], f2[MOST + GUARD];
    static uint16_t draws[MOST];
    ref.draws(hr_rng_make(3, 1, 0, 0), 8, MOST, draws);
    fill(dw, MOST, 5);
    for (int t = 0; t < TYPES; t++)
        for (int s = 0; s < SIZES; s++)
            for (int rounding = 0; rounding < 3; rounding++) {
                hrk_sgd_args args = {.step = 0.01f, .keep = rounding ? 0.99f : 1.0f, .rounding = (hr_rounding)rounding};
                assert_true(hr_dtype_parse(types[t], &args.dtype));
                memset(one, 0, sizeof one);
                fill_codes(args.dtype, one, sizes[s]);
                memcpy(two, one, sizeof one);
                memset(f1, 0xff, sizeof f1);
                memset(f2, 0xff, sizeof f2);
                ref.decode(sizes[s], one, 0.25f, args.dtype, f1);
                k.decode(sizes[s], two, 0.25f, args.dtype, f2);
                assert_memory_equal(f1, f2, sizeof f1);
                for (int64_t i = 0; i < sizes[s]; i++)
                    assert_true(f1[i] == hr_dtype_load(args.dtype, one, i, 0.25f));
                if (args.dtype.id == HR_I8R) {
                    const float a = ref.absmax_i8r(sizes[s], (int8_t *)one, 0.25f, dw, args);
                    assert_true(a == k.absmax_i8r(sizes[s], (int8_t *)two, 0.25f, dw, args));
                    ref.sgd_i8r(sizes[s], (int8_t *)one, 0.25f, 0.5f, dw, draws, args);
                    k.sgd_i8r(sizes[s], (int8_t *)two, 0.25f, 0.5f, dw, draws, args);
                } else {
                    ref.sgd(sizes[s], one, dw, draws, args);
                    k.sgd(sizes[s], two, dw, draws, args);
                    for (int64_t i = 0; i < sizes[s]; i++) { /* and against the slow path */
                        const float v = fmaf(-args.step, dw[i], args.keep * f1[i]);
                        assert_true(hr_dtype_load(args.dtype, one, i, 1) ==
                                    hr_dtype_round(args.dtype, args.rounding, v, draws[i]));
                    }
                }
                assert_memory_equal(one, two, sizeof one);
            }
}

/* Every code of every format, in panels. */
static void check_decode(hrk_table ref, hrk_table k)
{
    enum { CODES = 65536 };
    static uint16_t codes[CODES + 64];
    static float one[CODES / HRK_DP * (HRK_DP + 3) + GUARD], two[CODES / HRK_DP * (HRK_DP + 3) + GUARD];
    for (int t = 0; t < TYPES; t++) {
        hr_dtype type;
        assert_true(hr_dtype_parse(types[t], &type));
        for (int64_t i = 0; i < CODES; i++)
            if (type.bytes == 1)
                ((uint8_t *)codes)[i] = (uint8_t)i;
            else
                codes[i] = (uint16_t)(i * 257);
        for (int64_t n = type.bytes == 4 ? CODES / 2 : CODES; n > 0; n = n == 257 ? 77 : n == 77 ? 0 : 257)
            for (int64_t stride = HRK_DP; stride <= HRK_DP + 3; stride += 3) {
                memset(one, 0xff, sizeof one);
                memset(two, 0xff, sizeof two);
                ref.decode_row(n, codes, 0.25f, type, stride, one);
                k.decode_row(n, codes, 0.25f, type, stride, two);
                assert_memory_equal(one, two, sizeof one);
            }
    }
}

static void check_sgd_panel(hrk_table ref, hrk_table k)
{
    enum { ROWS = 5, PITCH = 4 * HRK_DP + 64 };
    static const int64_t widths[] = {1, 8, 15, 16, 33, HRK_DP - 1, HRK_DP};
    static uint8_t one[ROWS * PITCH], two[ROWS * PITCH];
    static float w[ROWS * HRK_DP], dw[ROWS * HRK_DP];
    static uint16_t draws[ROWS * HRK_DP];
    fill(dw, ROWS * HRK_DP, 6);
    for (int i = 0; i < 4; i++) { /* a diverged run: the same bits still */
        dw[i * HRK_DP + i] = INFINITY;
        dw[i * HRK_DP + 17 + i] = -INFINITY;
#if !defined(__aarch64__) /* there the sign of a NaN depends on the order of operands, and eXmY, which has no NaN, keeps the sign */
        dw[i * HRK_DP + 40] = NAN;
#endif
    }
    ref.draws_panel(hr_rng_make(3, 1, 0, 0), 8, ROWS, NULL, 0, draws);
    for (int t = 0; t < TYPES; t++)
        for (size_t s = 0; s < sizeof widths / sizeof *widths; s++)
            for (int rounding = 0; rounding < 3; rounding++)
                for (int scale = 0; scale < 12; scale++) { /* from far below the formats to far above */
                    hrk_sgd_args args = {.step = ldexpf(0.37f, 4 * scale - 20), .keep = 0.99f, .rounding = (hr_rounding)rounding};
                    assert_true(hr_dtype_parse(types[t], &args.dtype));
                    if (args.dtype.id == HR_I8R) {
                        memset(one, 0x5a, sizeof one);
                        memcpy(two, one, sizeof one);
                        const float fresh = ldexpf(1, scale - 6);
                        ref.sgd_i8r(widths[s], (int8_t *)one, 0.25f, fresh, dw, draws, args);
                        k.sgd_i8r(widths[s], (int8_t *)two, 0.25f, fresh, dw, draws, args);
                        assert_memory_equal(one, two, sizeof one);
                        continue;
                    }
                    memset(one, 0x5a, sizeof one);
                    for (int r = 0; r < ROWS; r++) {
                        fill_codes(args.dtype, one + r * PITCH, widths[s]);
                        ref.decode(widths[s], one + r * PITCH, 1, args.dtype, w + r * HRK_DP);
                    }
                    memcpy(two, one, sizeof one);
                    ref.sgd_panel(ROWS, widths[s], one, PITCH, w, dw, draws, args);
                    k.sgd_panel(ROWS, widths[s], two, PITCH, w, dw, draws, args);
                    one_nan(args.dtype, one, sizeof one);
                    one_nan(args.dtype, two, sizeof two);
                    assert_memory_equal(one, two, sizeof one);
                    for (int r = 0; r < ROWS; r++) { /* and a row at a time, from the codes themselves */
                        fill_codes(args.dtype, two + r * PITCH, widths[s]);
                        k.sgd(widths[s], two + r * PITCH, dw + r * HRK_DP, draws + r * HRK_DP, args);
                    }
                    one_nan(args.dtype, two, sizeof two);
                    assert_memory_equal(one, two, sizeof one);
                }
}

static void check_vectors(hrk_table ref, hrk_table k)
{
    static float x[MOST], g[MOST], one[4][MOST + GUARD], two[4][MOST + GUARD];
    const hrk_adam_args args = {0.1f, 0.001f, 0.002f, 1.5f, 1e-8f, 0.999f};
    fill(x, MOST, 11);
    for (int64_t i = 0; i < MOST; i++)
        g[i] = sinf((float)i);
    for (int s = 0; s < SIZES; s++) {
        memset(one, 0xff, sizeof one);
        for (int j = 0; j < 4; j++)
            for (int64_t i = 0; i < sizes[s]; i++)
                one[j][i] = fabsf(cosf((float)(i + j)));
        memcpy(two, one, sizeof one);
        ref.axpy(sizes[s], 1.7f, x, one[0]);
        k.axpy(sizes[s], 1.7f, x, two[0]);
        ref.drain(sizes[s] / 2, one[1], one[0]);
        k.drain(sizes[s] / 2, two[1], two[0]);
        ref.adam(sizes[s], one[1], one[2], one[3], g, args);
        k.adam(sizes[s], two[1], two[2], two[3], g, args);
        assert_memory_equal(one, two, sizeof one);
    }
}

static void test_gemm(void **state)
{
    (void)state;
    each_level(check_gemm);
}
static void test_draws(void **state)
{
    (void)state;
    each_level(check_draws);
    each_level(check_draws_panel);
}
static void test_gradients(void **state)
{
    (void)state;
    each_level(check_gradients);
}
static void test_decode(void **state)
{
    (void)state;
    each_level(check_decode);
}
static void test_sgd(void **state)
{
    (void)state;
    each_level(check_sgd);
    each_level(check_sgd_panel);
}
static void test_vectors(void **state)
{
    (void)state;
    each_level(check_vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gemm), cmocka_unit_test(test_draws),
                                       cmocka_unit_test(test_gradients), cmocka_unit_test(test_decode), cmocka_unit_test(test_sgd),
                                       cmocka_unit_test(test_vectors),
                                       cmocka_unit_test(test_references)};
    return cmocka_run_group_tests_name("kernels", tests, NULL, NULL);
}
