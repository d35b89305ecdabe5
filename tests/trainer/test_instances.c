/* What a run trains on: every training row that is not held out, once an epoch, and nothing that is held out. */
#include "tests/trainer/tiny.h"

#include "trainer/instances.h"

enum { BATCH = 32 };

static void check_epochs(fixture *f, const char *validation, int64_t expected_held_out)
{
    hr_config *config;
    hr_dataset *ds;
    hr_instances in;
    hr_batch batch;
    char path[2 * HR_PATH_MAX];
    check_ok(f->ctx, hr_config_create(f->ctx, &config));
    check_ok(f->ctx, hr_config_set(config, validation, "test"));
    check_ok(f->ctx, hr_dataset_open(f->ctx, fixture_path(f, "data", path), &ds));
    check_ok(f->ctx, hr_instances_make(config, ds, &in));
    assert_int_equal(in.validation_split, HR_SPLIT_TRAIN);
    assert_int_equal(in.validation_rows, expected_held_out);
    assert_int_equal(in.count, TINY_ROWS - expected_held_out);
    uint8_t held[TINY_ROWS] = {0};
    for (int64_t i = 0; i < in.validation_rows; i++) {
        const int64_t row = hr_instances_validation_row(&in, i);
        assert_in_range(row, 0, TINY_ROWS - 1);
        assert_false(held[row]);
        held[row] = 1;
    }
    uint32_t internal[TINY_LABELS];
    for (uint32_t l = 0; l < TINY_LABELS; l++)
        internal[l] = l;
    check_ok(f->ctx, hr_batch_create(f->ctx, &in, BATCH, 8, &batch));
    for (uint64_t epoch = 0; epoch < 3; epoch++) {
        uint8_t seen[TINY_ROWS] = {0};
        for (int64_t at = 0; at < in.count; at += BATCH) {
            hr_batch_fill(&batch, &in, epoch, at, in.count - at < BATCH ? in.count - at : BATCH, internal);
            for (int64_t b = 0; b < batch.rows; b++) {
                assert_false(held[batch.ids[b]]);
                assert_false(seen[batch.ids[b]]);
                seen[batch.ids[b]] = 1;
            }
        }
        for (int row = 0; row < TINY_ROWS; row++)
            assert_int_equal(seen[row] + held[row], 1);
    }
    hr_batch_destroy(f->ctx, &batch);
    hr_dataset_close(ds);
    hr_config_destroy(config);
}

static void test_held_out(void **state)
{
    check_epochs(*state, "train.validation=0", 0);
    check_epochs(*state, "train.validation=0.3", 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(test_held_out, tiny_setup, tiny_teardown)};
    return cmocka_run_group_tests_name("instances", tests, NULL, NULL);
}
