/* A folder of its own for each test, and small files in it. */
#ifndef HR_TESTS_DATASET_FIXTURE_H
#define HR_TESTS_DATASET_FIXTURE_H

#include <unistd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct fixture {
    hr_ctx *ctx;
    char folder[HR_PATH_MAX];
    size_t at_start; /* bytes in use before the test */
} fixture;

static inline void fixture_begin_threads(fixture *f, int threads)
{
    hr_ctx_options options = hr_ctx_options_default();
    options.threads = threads;
    assert_int_equal(hr_ctx_create(&options, &f->ctx), HR_OK);
    const char *base = getenv("TMPDIR");
    snprintf(f->folder, sizeof f->folder, "%s/headroom-test-XXXXXX", base ? base : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(f->folder));
    hr_mem_report report;
    hr_ctx_memory(f->ctx, &report);
    f->at_start = report.now_total;
}

static inline void fixture_begin(fixture *f)
{
    fixture_begin_threads(f, 2);
}

/* Everything that was allocated in the test is free again. */
static inline void assert_no_leak(fixture *f)
{
    hr_mem_report report;
    hr_ctx_memory(f->ctx, &report);
    assert_int_equal(report.now_total, f->at_start);
}

static inline void fixture_end(fixture *f)
{
    assert_no_leak(f);
    char command[HR_PATH_MAX + 32];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    assert_int_equal(system(command), 0);
    hr_ctx_destroy(f->ctx);
}

/* The path of `name` in the folder, in a buffer of the caller. */
static inline const char *fixture_path(const fixture *f, const char *name, char path[2 * HR_PATH_MAX])
{
    snprintf(path, 2 * HR_PATH_MAX, "%s/%s", f->folder, name);
    return path;
}

static inline void put_bytes(const fixture *f, const char *name, const void *data, size_t bytes)
{
    char path[2 * HR_PATH_MAX];
    fixture_path(f, name, path);
    for (char *slash = strchr(path + strlen(f->folder) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        assert_int_equal(hr_dir_make(f->ctx, path), HR_OK);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static inline void put_file(const fixture *f, const char *name, const char *text)
{
    put_bytes(f, name, text, strlen(text));
}

static inline void assert_message(const fixture *f, const char *fragment)
{
    const char *message = hr_ctx_message(f->ctx);
    if (!strstr(message, fragment))
        fail_msg("message is \"%s\", expected it to say \"%s\"", message, fragment);
}

#define assert_ok(f, call)                                                                                   \
    do {                                                                                                     \
        hr_status assert_ok_status = (call);                                                                 \
        if (assert_ok_status != HR_OK)                                                                       \
            fail_msg("%s: %s", hr_status_name(assert_ok_status), hr_ctx_message((f)->ctx));                  \
    } while (0)

#endif
