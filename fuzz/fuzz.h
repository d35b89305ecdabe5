/* What the fuzz targets share. Each is a program: build with the preset "fuzz", then
 *     build/fuzz/fuzz_npy -max_total_time=60 */
#ifndef HR_FUZZ_FUZZ_H
#define HR_FUZZ_FUZZ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif

#include "base/ctx.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline hr_ctx *fuzz_ctx(void)
{
    hr_ctx_options options = hr_ctx_options_default();
    options.threads = 1;
    hr_ctx *ctx;
    if (hr_ctx_create(&options, &ctx) != HR_OK)
        abort();
    return ctx;
}

/* A file of these bytes that lives as long as the descriptor returned. */
static inline int fuzz_file(const void *data, size_t size, char path[64])
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

/* An empty folder in memory, the same at every call; its files are written over by fuzz_put. */
static inline const char *fuzz_folder(void)
{
    static char folder[] = "/dev/shm/headroom-fuzz-XXXXXX";
    static bool made;
    if (!made && !mkdtemp(folder))
        abort();
    made = true;
    return folder;
}

static inline void fuzz_put(const char *name, const void *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
}

#endif
