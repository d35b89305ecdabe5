/* Learning rate schedules at their corners. */
#include "optim/schedule.h"

#include "tests/check.h"

#include <math.h>

static void near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-15))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static void test_warmup(void **state)
{
    (void)state;
    for (int type = HR_COSINE; type <= HR_MULTISTEP; type++) {
        const hr_schedule s = {.type = (hr_schedule_type)type, .steps = 100, .warmup = 10};
        near(hr_schedule_at(&s, 0), 0.1);
        near(hr_schedule_at(&s, 8), 0.9);
        near(hr_schedule_at(&s, 9), 1);
        near(hr_schedule_at(&s, 10), 1);
    }
    const hr_schedule all = {.type = HR_COSINE, .steps = 4, .warmup = 4};
    near(hr_schedule_at(&all, 3), 1);
}

static void test_after_warmup(void **state)
{
    (void)state;
    hr_schedule s = {.type = HR_COSINE, .steps = 110, .warmup = 10};
    near(hr_schedule_at(&s, 35), 0.5 * (1 + sqrt(0.5)));
    near(hr_schedule_at(&s, 60), 0.5);
    assert_true(hr_schedule_at(&s, 109) > 0 && hr_schedule_at(&s, 109) < 3e-4);
    s.type = HR_LINEAR;
    near(hr_schedule_at(&s, 35), 0.75);
    near(hr_schedule_at(&s, 109), 0.01);
    s.type = HR_CONSTANT;
    near(hr_schedule_at(&s, 109), 1);
}

static void test_without_warmup(void **state)
{
    (void)state;
    hr_schedule s = {.type = HR_COSINE, .steps = 1};
    near(hr_schedule_at(&s, 0), 1);
    s.type = HR_LINEAR;
    s.steps = 4;
    near(hr_schedule_at(&s, 0), 1);
    near(hr_schedule_at(&s, 3), 0.25);
}

static void test_multistep(void **state)
{
    (void)state;
    const hr_schedule s = {.type = HR_MULTISTEP, .steps = 100, .warmup = 5, .milestones = 2, .milestone = {0.5, 0.75}, .gamma = 0.5};
    near(hr_schedule_at(&s, 4), 1);
    near(hr_schedule_at(&s, 49), 1);
    near(hr_schedule_at(&s, 50), 0.5);
    near(hr_schedule_at(&s, 74), 0.5);
    near(hr_schedule_at(&s, 75), 0.25);
    near(hr_schedule_at(&s, 99), 0.25);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_warmup),
        cmocka_unit_test(test_after_warmup),
        cmocka_unit_test(test_without_warmup),
        cmocka_unit_test(test_multistep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
