/* The reader of saved predictions on any bytes: rows of a data set with nine labels and three test rows. */
#include "fuzz.h"

#include "eval/eval.h"

static const hr_dataset dataset = {
    .path = "fuzz",
    .name = "fuzz",
    .labels = 9,
    .features = 1,
    .propensity_a = 0.55,
    .propensity_b = 1.5,
    .split = {[HR_SPLIT_TRAIN] = {.present = true,
                                  .rows = 2,
                                  .labels = {2, 9, (int64_t[]){0, 2, 3}, (uint32_t[]){0, 8, 3}, NULL}},
              [HR_SPLIT_TEST] = {.present = true,
                                 .rows = 3,
                                 .labels = {3, 9, (int64_t[]){0, 1, 1, 3}, (uint32_t[]){2, 0, 8}, NULL},
                                 .filter = {3, 9, (int64_t[]){0, 1, 1, 1}, (uint32_t[]){4}, NULL}}},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hr_ctx *ctx = fuzz_ctx();
    hr_metrics metrics;
    char path[64];
    int fd = fuzz_file(data, size, path);
    hr_eval_options eval = hr_eval_options_default();
    if (hr_eval_predictions(ctx, path, &dataset, &eval, &metrics) == HR_OK && !(metrics.precision[0] <= 1))
        abort();
    close(fd);
    hr_ctx_destroy(ctx);
    return 0;
}
