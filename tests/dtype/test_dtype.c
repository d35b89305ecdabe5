/* Number formats: every code of every 8-bit format, rounding laws over all 65,536 draws. */
#include "check.h"

#include "base/rng.h"
#include "dtype/dtype.h"
#include "dtype/sigmoid.h"

#include <math.h>

static hr_dtype parse(const char *name)
{
    hr_dtype d;
    assert_true(hr_dtype_parse(name, &d));
    return d;
}

/* What a code means, straight from the definition. */
static double meaning(hr_dtype d, uint32_t code)
{
    const int bits = d.exp_bits + d.man_bits, bias = (1 << (d.exp_bits - 1)) - 1;
    const int e = (int)(code >> d.man_bits & ((1u << d.exp_bits) - 1));
    const double m = (double)(code & ((1u << d.man_bits) - 1)) / (1 << d.man_bits);
    const double v = e == 0 ? ldexp(m, 1 - bias) : ldexp(1 + m, e - bias);
    return code >> bits & 1 ? -v : v;
}

static const char *const small[] = {"e4m3", "e5m2", "e2m1", "e2m5", "e3m1", "e3m2", "e3m3", "e3m4", "e4m1", "e4m2", "e5m1", "e6m1"};
enum { SMALL = sizeof small / sizeof *small };

/* Codes of non-negative finite numbers: 0 .. count-1, ascending in value. */
static uint32_t finite_codes(hr_dtype d)
{
    switch (d.id) {
    case HR_E4M3: return 0x7f;
    case HR_E5M2: return 0x7c;
    case HR_F16: return 0x7c00;
    case HR_BF16: return 0x7f80;
    default: return 1u << (d.exp_bits + d.man_bits);
    }
}

static float load(hr_dtype d, uint32_t code)
{
    const uint16_t wide = (uint16_t)code;
    const uint8_t narrow = (uint8_t)code;
    return hr_dtype_load(d, d.bytes == 2 ? (const void *)&wide : (const void *)&narrow, 0, 1);
}

static uint32_t store(hr_dtype d, float v)
{
    uint16_t wide = 0;
    uint8_t narrow = 0;
    hr_dtype_store(d, d.bytes == 2 ? (void *)&wide : (void *)&narrow, 0, v, 1);
    return d.bytes == 2 ? wide : narrow;
}

static void test_codes(void **state)
{
    (void)state;
    static const char *const wide[] = {"bf16", "f16"};
    for (int i = 0; i < SMALL + 2; i++) {
        const hr_dtype d = parse(i < SMALL ? small[i] : wide[i - SMALL]);
        const uint32_t n = finite_codes(d), sign = 1u << (d.exp_bits + d.man_bits);
        for (uint32_t c = 0; c < n; c++) {
            if (d.id == HR_BF16 && c && c < 0x80)
                continue; /* f32 subnormals: decoded as they are */
            assert_true((double)load(d, c) == meaning(d, c));
            assert_int_equal(store(d, load(d, c)), c);
            if (c > 0) {
                assert_true((double)load(d, c | sign) == -meaning(d, c));
                assert_int_equal(store(d, load(d, c | sign)), c | sign);
            }
        }
        if (d.id != HR_BF16)
            assert_true(hr_dtype_grid(d).max == load(d, n - 1));
    }
}

static void test_names(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "e4", "e4m4", "e1m3", "e7m1", "fp8", "E4M3", "e4m3x", "e4m0", "bf16 "};
    hr_dtype d;
    char name[8];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(hr_dtype_parse(bad[i], &d));
    for (int i = 0; i < SMALL; i++)
        assert_string_equal(hr_dtype_name(parse(small[i]), name), small[i]);
    assert_int_equal(parse("e4m3").id, HR_E4M3);
    assert_int_equal(parse("e3m4").id, HR_EXMY);
}

/* The law: v in [a, b] between neighbours goes to one of them, and the mean over all draws is within 2^-16 gaps. */
static void check_law(hr_dtype d, float a, float b, double fraction)
{
    const float v = (float)(a + fraction * ((double)b - a));
    int64_t ups = 0;
    for (uint32_t r = 0; r < 65536; r++) {
        const float q = hr_dtype_round(d, HR_ROUND_STOCHASTIC, v, (uint16_t)r);
        if (q != a && q != b)
            fail_msg("%g went to %g, neighbours are %g and %g", v, q, a, b);
        ups += q == b && a != b;
    }
    const double mean = a + ((double)b - a) * (double)ups / 65536;
    assert_true(fabs(mean - v) <= ldexp(fabs((double)b - a), -16));
}

static void test_stochastic_law(void **state)
{
    (void)state;
    static const double fractions[] = {0.0, 0.125, 0.3, 0.5, 0.77, 0.9999};
    for (int i = 0; i < SMALL; i++) {
        const hr_dtype d = parse(small[i]);
        const uint32_t n = finite_codes(d);
        for (uint32_t c = 0; c + 1 < n; c++)
            for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
                if (i > 2 && (c + f) % 7)
                    continue; /* all of e4m3, e5m2 and e2m1; a seventh of the others */
                check_law(d, load(d, c), load(d, c + 1), fractions[f]);
                check_law(d, -load(d, c), -load(d, c + 1), fractions[f]);
            }
    }
    static const char *const wide[] = {"bf16", "f16"};
    for (int i = 0; i < 2; i++) {
        const hr_dtype d = parse(wide[i]);
        for (uint32_t c = i ? 0 : 0x80; c + 1 < finite_codes(d); c += 977)
            check_law(d, load(d, c), load(d, c + 1), fractions[c % 6]);
    }
}

static void test_fixed_points(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        const hr_dtype d = parse(small[i]);
        for (uint32_t c = 0; c < finite_codes(d); c++)
            for (uint32_t r = 0; r < 65536; r++) {
                assert_true(hr_dtype_round(d, HR_ROUND_STOCHASTIC, load(d, c), (uint16_t)r) == load(d, c));
                assert_true(hr_dtype_round(d, HR_ROUND_STOCHASTIC, -load(d, c), (uint16_t)r) == -load(d, c));
            }
    }
}

static void test_edges(void **state)
{
    (void)state;
    static const hr_rounding all[] = {HR_ROUND_STOCHASTIC, HR_ROUND_NEAREST, HR_ROUND_ELMO};
    for (int i = 0; i < SMALL; i++) {
        const hr_dtype d = parse(small[i]);
        const float max = hr_dtype_grid(d).max;
        for (size_t a = 0; a < 3; a++) {
            for (uint32_t r = 0; r < 65536; r += 4369) {
                assert_true(hr_dtype_round(d, all[a], 1e30f, (uint16_t)r) == max);
                assert_true(hr_dtype_round(d, all[a], -INFINITY, (uint16_t)r) == -max);
                assert_true(hr_dtype_round(d, all[a], max, (uint16_t)r) == max);
                const float zero = hr_dtype_round(d, all[a], -0.0f, (uint16_t)r);
                assert_int_equal(hr_f32_bits(zero), 0); /* the only zero is +0 */
                const float tiny = hr_dtype_round(d, all[a], -1e-30f, 0);
                assert_true(tiny <= 0 && (tiny != 0 || hr_f32_bits(tiny) == 0));
            }
        }
    }
    /* an update below 2^-17 of the gap is dropped */
    const hr_dtype e4m3 = parse("e4m3");
    for (uint32_t r = 0; r < 65536; r++)
        assert_true(hr_dtype_round(e4m3, HR_ROUND_STOCHASTIC, 1.0f + 0x1p-22f, (uint16_t)r) == 1.0f);
}

static void test_nearest(void **state)
{
    (void)state;
    for (int i = 0; i < SMALL; i++) {
        const hr_dtype d = parse(small[i]);
        for (uint32_t c = 0; c + 1 < finite_codes(d); c++) {
            const float a = load(d, c), b = load(d, c + 1), half = (float)(((double)a + b) / 2);
            const float even = c % 2 == 0 ? a : b;
            assert_true(hr_dtype_round(d, HR_ROUND_NEAREST, half, 0) == even);
            assert_true(hr_dtype_round(d, HR_ROUND_NEAREST, nextafterf(half, 0), 0) == a);
            assert_true(hr_dtype_round(d, HR_ROUND_NEAREST, nextafterf(half, INFINITY), 0) == b);
            assert_true(hr_dtype_round(d, HR_ROUND_NEAREST, -half, 0) == -even);
        }
    }
}

/* A weight of 2^-9 that gets 20 updates of a tenth of the subnormal gap 2^-9: ours moves by 2 gaps on average, the
 * published rounding does not move at all. Above 2^-6 both move rightly. */
static void test_elmo_is_stuck(void **state)
{
    (void)state;
    const hr_dtype d = parse("e4m3");
    enum { WEIGHTS = 64, STEPS = 20 };
    double ours = 0, elmo = 0;
    for (uint32_t w = 0; w < WEIGHTS; w++) {
        float a = 0x1p-9f, b = 0x1p-9f;
        for (uint32_t t = 0; t < STEPS; t++) {
            const uint16_t draw = hr_rng_draw16(hr_rng_make(5, t, 0, HR_STREAM_ROUND), w, 0);
            a = hr_dtype_round(d, HR_ROUND_STOCHASTIC, a + 0x1p-9f / 10, draw);
            b = hr_dtype_round(d, HR_ROUND_ELMO, b + 0x1p-9f / 10, draw);
        }
        ours += (a - 0x1p-9f) / 0x1p-9f / WEIGHTS;
        elmo += (b - 0x1p-9f) / 0x1p-9f / WEIGHTS;
    }
    assert_true(elmo == 0);
    /* expected 2 gaps; a step's variance is 0.09, so the mean of 64 walks has sd sqrt(20 * 0.09 / 64) = 0.17 */
    assert_true(fabs(ours - 2) < 5 * 0.17);
    /* in the normal range both drift: 1.0 + 20 updates of a tenth of the gap 1/8 */
    double normal = 0;
    for (uint32_t w = 0; w < WEIGHTS; w++) {
        float b = 1.0f;
        for (uint32_t t = 0; t < STEPS; t++)
            b = hr_dtype_round(d, HR_ROUND_ELMO, b + 0.0125f, hr_rng_draw16(hr_rng_make(6, t, 0, HR_STREAM_ROUND), w, 0));
        normal += (b - 1.0f) * 8 / WEIGHTS;
    }
    assert_true(fabs(normal - 2) < 5 * 0.17);
}

static void test_i8r(void **state)
{
    (void)state;
    const double values[] = {0, 0.25, 0.5, 1.7, -1.7, -0.3, 126.9, -126.9};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const float scale = 0.125f, v = (float)(values[i] * 0.125);
        double mean = 0;
        for (uint32_t r = 0; r < 65536; r++) {
            const int8_t q = hr_i8r_round_sr(v, 1 / scale, r);
            assert_true(q == floor(values[i]) || q == ceil(values[i]));
            mean += q / 65536.0;
        }
        assert_true(fabs(mean - values[i]) <= 0x1p-16);
    }
    assert_int_equal(hr_i8r_round_sr(1e9f, 1, 0), 127);
    assert_int_equal(hr_i8r_round_sr(-1e9f, 1, 65535), -127);
    assert_int_equal(hr_i8r_round_nearest(2.5f, 1), 2);
}

static void test_sigmoid(void **state)
{
    (void)state;
    double worst = 0;
    for (double z = -79.9; z < 79.9; z += 0.00137) {
        const float v = (float)z;
        const double exact = 1 / (1 + exp(-(double)v)), found = hr_sigmoid(v);
        const double error = fabs(found - exact) / exact;
        worst = error > worst ? error : worst;
    }
    assert_true(worst < 2.5e-7);
    assert_true(hr_sigmoid(1e30f) == 1 && hr_sigmoid(-INFINITY) > 0 && hr_sigmoid(0) == 0.5f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),   cmocka_unit_test(test_names),         cmocka_unit_test(test_stochastic_law),
        cmocka_unit_test(test_edges),   cmocka_unit_test(test_fixed_points),  cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_i8r),     cmocka_unit_test(test_elmo_is_stuck), cmocka_unit_test(test_sigmoid),
    };
    return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}
