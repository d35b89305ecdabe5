/* The configuration reader on any bytes. What it accepts must be written and read back to the same values.
 * Build with -fsanitize=fuzzer,address,undefined and src/config and src/base, -lyaml. */
#define _GNU_SOURCE
#include "config/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int make_file(const void *data, size_t size, char path[64])
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

static void check_round_trip(hr_ctx *ctx, const hr_config *config)
{
    char path[64];
    hr_config *copy;
    int fd = make_file("", 0, path);
    if (hr_config_write(config, fd) != HR_OK || hr_config_create(ctx, &copy) != HR_OK)
        abort();
    if (hr_config_read(copy, path) != HR_OK || hr_config_hash(copy) != hr_config_hash(config))
        abort();
    hr_config_destroy(copy);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    hr_ctx_options options = hr_ctx_options_default();
    options.threads = 1;
    hr_ctx *ctx;
    hr_config *config;
    char path[64];
    if (hr_ctx_create(&options, &ctx) != HR_OK || hr_config_create(ctx, &config) != HR_OK)
        abort();
    int fd = make_file(data, size, path);
    if (hr_config_read(config, path) == HR_OK)
        check_round_trip(ctx, config);
    close(fd);
    hr_config_destroy(config);
    hr_ctx_destroy(ctx);
    return 0;
}
