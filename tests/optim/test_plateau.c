/* Plateaus and early stopping over scripted metrics, against the rules of the frameworks that recipes are written for. */
#include "optim/plateau.h"

#include "tests/check.h"

#include <math.h>

/* Keras 2: tf.keras.callbacks.ReduceLROnPlateau, mode max, no cooldown; the rate after each value. */
static void keras_plateau(const double *values, int count, int patience, double factor, double min_delta, double min_lr, double lr,
                          double *rates)
{
    double best = -INFINITY;
    int wait = 0;
    for (int i = 0; i < count; i++) {
        if (values[i] > best + min_delta) {
            best = values[i];
            wait = 0;
        } else if (++wait >= patience && lr > min_lr) {
            lr = fmax(lr * factor, min_lr);
            wait = 0;
        }
        rates[i] = lr;
    }
}

/* PyTorch: torch.optim.lr_scheduler.ReduceLROnPlateau, mode max, threshold_mode abs, no cooldown. */
static void torch_plateau(const double *values, int count, int patience, double factor, double threshold, double min_lr, double lr,
                          double *rates)
{
    double best = -INFINITY;
    int bad = 0;
    for (int i = 0; i < count; i++) {
        if (values[i] > best + threshold) {
            best = values[i];
            bad = 0;
        } else {
            bad++;
        }
        if (bad > patience) {
            lr = fmax(lr * factor, min_lr);
            bad = 0;
        }
        rates[i] = lr;
    }
}

/* Keras 2: EarlyStopping, mode max; the value after which it stops, -1: none. */
static int keras_stop(const double *values, int count, int patience, double min_delta)
{
    double best = -INFINITY;
    int wait = 0;
    for (int i = 0; i < count; i++) {
        wait++;
        if (values[i] - min_delta > best) {
            best = values[i];
            wait = 0;
        } else if (wait >= patience) {
            return i;
        }
    }
    return -1;
}

enum { MOST = 40 };

/* Steps of 2^-14, so that sums are exact: a gain of exactly min_delta occurs, and is none. */
static void script(unsigned seed, double values[MOST])
{
    uint32_t state = seed * 2654435761u + 1;
    double at = 0.5;
    for (int i = 0; i < MOST; i++) {
        state = state * 1664525u + 1013904223u;
        at += ((double)(state >> 28) - 7.0) * 0x1p-14;
        values[i] = at;
    }
}

static void check_rates(const double *values, const double *expected, hr_plateau p, double peak)
{
    p.watch.best = NAN;
    for (int i = 0; i < MOST; i++) {
        hr_plateau_watch(&p, values[i]);
        const double rate = peak * hr_plateau_factor(&p);
        if (fabs(rate - expected[i]) > 1e-15)
            fail_msg("value %d: rate %.17g, expected %.17g", i, rate, expected[i]);
    }
}

static void test_plateau_as_keras_and_torch(void **state)
{
    (void)state;
    int cuts = 0, floors = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        double values[MOST], expected[MOST];
        const int patience = 1 + (int)seed % 4;
        const double min_delta = (double)(seed % 5) * 0x1p-14, min_lr = seed % 3 ? 1e-4 : 0;
        script(seed, values);
        const hr_plateau p = {.gamma = 0.5, .min_factor = min_lr / 1e-3, .min_delta = min_delta, .patience = patience - 1};
        keras_plateau(values, MOST, patience, 0.5, min_delta, min_lr, 1e-3, expected);
        check_rates(values, expected, p, 1e-3);
        torch_plateau(values, MOST, patience - 1, 0.5, min_delta, min_lr, 1e-3, expected);
        check_rates(values, expected, p, 1e-3);
        cuts += expected[MOST - 1] < 1e-3;
        floors += min_lr > 0 && expected[MOST - 1] == min_lr;
    }
    assert_true(cuts > 100 && floors > 10);
}

/* The recipe of Schultheis & Babbar (ECML PKDD 2023): Keras' patience 2, factor 0.5, min_delta 1e-3, min_lr 1e-4 of 1e-3. */
static void test_published_recipe(void **state)
{
    (void)state;
    static const double values[] = {0.3, 0.3005, 0.3009, 0.302, 0.3021, 0.3022, 0.3025, 0.3027, 0.3028, 0.3029, 0.30299, 0.30295, 0.5};
    static const double rates[] = {1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.1, 0.1, 0.1, 0.1};
    hr_plateau p = {.gamma = 0.5, .min_factor = 0.1, .min_delta = 1e-3, .patience = 1, .watch = {.best = NAN}};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        hr_plateau_watch(&p, values[i]);
        assert_true(hr_plateau_factor(&p) == rates[i]);
    }
    assert_int_equal(p.cuts, 4);
}

static void test_early_stopping_as_keras(void **state)
{
    (void)state;
    int stopped = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        double values[MOST];
        const int patience = 1 + (int)seed % 16;
        const double min_delta = (double)(seed % 4) * 0x1p-14;
        script(seed, values);
        const int expected = keras_stop(values, MOST, patience, min_delta);
        hr_watch w = {.best = NAN};
        int at = -1;
        for (int i = 0; i < MOST && at < 0; i++)
            if (!hr_watch_gains(&w, values[i], min_delta) && w.since >= patience)
                at = i;
        assert_int_equal(at, expected);
        stopped += at >= 0;
    }
    assert_in_range(stopped, 50, 195);
}

/* Each step is too small to count, their sum is not. */
static void test_small_gains_add_up(void **state)
{
    (void)state;
    hr_watch w = {.best = NAN};
    static const bool gains[] = {true, false, false, true, false, false, true};
    for (int i = 0; i < 7; i++)
        assert_int_equal(hr_watch_gains(&w, 0.25 + i * 0x1p-10, 2.5 * 0x1p-10), gains[i]);
    assert_true(w.best == 0.25 + 6 * 0x1p-10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plateau_as_keras_and_torch),
        cmocka_unit_test(test_published_recipe),
        cmocka_unit_test(test_early_stopping_as_keras),
        cmocka_unit_test(test_small_gains_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
