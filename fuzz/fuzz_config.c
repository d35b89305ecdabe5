/* The configuration reader on any bytes. What it accepts must be written and read back to the same values. */
#include "fuzz.h"

#include "config/config.h"

static void check_round_trip(hr_ctx *ctx, const hr_config *config)
{
    char path[64];
    hr_config *copy;
    int fd = fuzz_file("", 0, path);
    if (hr_config_write(config, fd) != HR_OK || hr_config_create(ctx, &copy) != HR_OK)
        abort();
    if (hr_config_read(copy, path) != HR_OK || hr_config_hash(copy) != hr_config_hash(config))
        abort();
    hr_config_destroy(copy);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hr_ctx *ctx = fuzz_ctx();
    hr_config *config;
    char path[64];
    if (hr_config_create(ctx, &config) != HR_OK)
        abort();
    int fd = fuzz_file(data, size, path);
    if (hr_config_read(config, path) == HR_OK)
        check_round_trip(ctx, config);
    close(fd);
    hr_config_destroy(config);
    hr_ctx_destroy(ctx);
    return 0;
}
