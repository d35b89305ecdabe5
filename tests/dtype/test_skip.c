/* The law of skipping rows (dtype/skip.h): how many are skipped, and that a weight and dX do not notice, by enumeration. */
#include "check.h"

#include "dtype/skip.h"
#include "dtype/sigmoid.h"

static void test_exponent(void **state)
{
    (void)state;
    const float tau = 0x1p-6f;
    for (int k = -3; k < 9; k++) { /* tau / mass in [2^k, 2^(k + 1)) */
        const int want = k < 0 ? 0 : k > HR_SKIP_MOST ? HR_SKIP_MOST : k;
        assert_int_equal(hr_skip_exponent(ldexpf(tau, -k), tau), want);
        assert_int_equal(hr_skip_exponent(nextafterf(ldexpf(tau, -k - 1), 1), tau), want);
    }
    assert_int_equal(hr_skip_exponent(0, tau), HR_SKIP_MOST);
    assert_int_equal(hr_skip_exponent(1, 0), 0);
    assert_int_equal(hr_skip_exponent(0, 0), 0);
    assert_int_equal(hr_skip_exponent(NAN, tau), 0);
    assert_int_equal(hr_skip_exponent(INFINITY, tau), 0);
}

/* Of n rows, n p are active; whether one is says nothing about the next row or the next step. */
static void test_coin(void **state)
{
    (void)state;
    enum { ROWS = 1 << 16 };
    for (int k = 0; k <= HR_SKIP_MOST; k++) {
        const double p = ldexp(1, -k);
        int64_t active = 0, with_next = 0, with_step = 0;
        const hr_rng now = hr_rng_make(5, 9, 2, HR_STREAM_SKIP), later = hr_rng_make(5, 10, 2, HR_STREAM_SKIP);
        for (uint32_t row = 0; row < ROWS; row++) {
            const bool is = hr_skip_active(now, row, k);
            active += is;
            with_next += is && hr_skip_active(now, row + 1, k);
            with_step += is && hr_skip_active(later, row, k);
        }
        assert_true(fabs((double)active - p * ROWS) <= 5 * sqrt(p * (1 - p) * ROWS));
        assert_true(fabs((double)with_next - p * p * ROWS) <= 5 * sqrt(p * p * ROWS) * (k > 0));
        assert_true(fabs((double)with_step - p * p * ROWS) <= 5 * sqrt(p * p * ROWS) * (k > 0));
    }
}

/* Mean and variance of a weight after one update of u code units, all draws and coins enumerated. */
static void moments(hr_grid g, float c, float u, int k, double *mean, double *variance)
{
    const double p = ldexp(1, -k);
    double sum = 0, square = 0;
    for (uint32_t r = 0; r < 65536; r++) {
        const double d = (double)hr_round_sr(c - ldexpf(u, k), r, g) - (double)c;
        sum += d / 65536;
        square += d * d / 65536;
    }
    *mean = p * sum;
    *variance = p * square - *mean * *mean;
}

/* While |u| / p is below the gap, mean and variance are those without skipping, up to the 2^-16 of a gap of each draw; beyond, the mean is. */
static void test_weight(void **state)
{
    (void)state;
    static const float codes[] = {0, 0x1p-9f, 0x1p-6f, 1, 1.125f, -3.5f, 240, -448};
    const hr_grid g = HR_GRID_E4M3;
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        for (int e = 1; e <= 9; e++)
            for (int sign = -1; sign <= 1; sign += 2) {
                const float c = codes[i], up = hr_round_nearest(c + fmaxf(fabsf(c) / 8, 0x1p-9f), g), gap = fabsf(c) == 448 ? 32 : up - c;
                if (fabsf(c) == 448 && (c > 0) == (sign < 0))
                    continue; /* would leave the range */
                const float u = ldexpf((float)sign * gap * 0.8125f, -e);
                double mean, variance, other, wide;
                moments(g, c, u, 0, &mean, &variance);
                assert_true(fabs(mean + (double)u) <= (double)gap * 0x1p-16);
                for (int k = 1; k <= HR_SKIP_MOST; k++) {
                    moments(g, c, u, k, &other, &wide);
                    const double scale = fmax((double)gap, (double)fabsf(ldexpf(u, k)) * 0.25); /* of the gaps that c - u / p can reach */
                    assert_true(fabs(other - mean) <= 2 * scale * 0x1p-16);
                    if (ldexpf(fabsf(u), k) < gap / 2) /* /2: the gap below a power of two is half of that above */
                        assert_true(fabs(wide - variance) <= 4 * (double)gap * (double)gap * 0x1p-16);
                    else
                        assert_true(wide >= variance * (1 - 0x1p-10) - (double)gap * (double)gap * 0x1p-14);
                }
            }
}

/* dX of twelve labels: each active one counts 1 / p times; the mean over all outcomes of the coins, by their probabilities, is dX. */
static void test_dx(void **state)
{
    (void)state;
    enum { L = 12 };
    double exact = 0, mean = 0, total = 0;
    float g[L], w[L];
    int k[L];
    for (int l = 0; l < L; l++) {
        g[l] = hr_sigmoid(-3.0f - 0.4f * (float)l);
        w[l] = 0.25f * (float)(l % 5) - 0.5f;
        k[l] = hr_skip_exponent(g[l], 0x1p-5f);
        exact += (double)g[l] * (double)w[l];
    }
    assert_true(k[0] == 0 && k[L - 1] > 1);
    for (unsigned coins = 0; coins < 1u << L; coins++) {
        double probability = 1, dx = 0;
        for (int l = 0; l < L; l++) {
            const double p = ldexp(1, -k[l]);
            const bool active = coins >> l & 1;
            probability *= active ? p : 1 - p;
            dx += active ? (double)g[l] / p * (double)w[l] : 0;
        }
        total += probability;
        mean += probability * dx;
    }
    assert_true(fabs(total - 1) < 1e-12 && fabs(mean - exact) < 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exponent),
        cmocka_unit_test(test_coin),
        cmocka_unit_test(test_weight),
        cmocka_unit_test(test_dx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
