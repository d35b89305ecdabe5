/* A problem small enough to train in a blink: 3000 labels (two blocks), texts of a few words. And what the tests of
 * trainer and predictor do with it again and again: configure, train, compare. */
#ifndef HR_TESTS_TRAINER_TINY_H
#define HR_TESTS_TRAINER_TINY_H

#include "tests/check.h"
#include "tests/dataset/fixture.h"

#include "base/crc32c.h"
#include "checkpoint/internal.h"

#include <locale.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

enum { TINY_LABELS = 3000, TINY_ROWS = 200, TINY_TEST_ROWS = 70 };

/* A text about `topic`: three words of it and three that everybody uses. */
static inline int tiny_text(char *text, unsigned topic, unsigned row)
{
    return sprintf(text, "topic%u\tword%u word%u common%u common%u common%u\n", topic, topic, topic * 3 + row % 3, row % 7,
                   row % 5, row % 11);
}

static inline void tiny_write(const fixture *f, const char *folder)
{
    char *x = malloc(1 << 20), *y = malloc(1 << 20), name[64];
    for (int part = 0; part < 2; part++) {
        const unsigned rows = part ? TINY_TEST_ROWS : TINY_ROWS;
        size_t nx = 0, ny = (size_t)sprintf(y, "%u %d\n", rows, TINY_LABELS);
        for (unsigned r = 0; r < rows; r++) {
            const unsigned topic = (r * 7 + (unsigned)part) % 40;
            nx += (size_t)tiny_text(x + nx, topic, r);
            ny += (size_t)sprintf(y + ny, "%u:1 %u:1", topic * 3, topic * 70 + 130 + r % 4);
            ny += (size_t)sprintf(y + ny, r % 9 ? "\n" : " 2999:1\n");
        }
        snprintf(name, sizeof name, "%s/%s_X.txt", folder, part ? "tst" : "trn");
        put_bytes(f, name, x, nx);
        snprintf(name, sizeof name, "%s/%s_X_Y.txt", folder, part ? "tst" : "trn");
        put_bytes(f, name, y, ny);
    }
    size_t nx = 0;
    for (unsigned l = 0; l < TINY_LABELS; l++)
        nx += (size_t)sprintf(x + nx, "label%u topic%u\n", l, l % 40);
    snprintf(name, sizeof name, "%s/Y.txt", folder);
    put_bytes(f, name, x, nx);
    free(x);
    free(y);
}

/* A folder in memory where there is one (every checkpoint is synced, which takes its time on a disk), and in it the
 * prepared data set "data". */
static inline void tiny_begin(fixture *f)
{
    if (!getenv("TMPDIR") && access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    fixture_begin(f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    tiny_write(f, "in");
    hr_prepare_options o = hr_prepare_options_default();
    o.input = fixture_path(f, "in", input);
    o.output = fixture_path(f, "data", output);
    o.min_df = 1;
    check_ok(f->ctx, hr_prepare(f->ctx, &o));
}

static inline void tiny_set(hr_config *config, hr_ctx *ctx, const char *assignments)
{
    char copy[1024], *save = NULL;
    snprintf(copy, sizeof copy, "%s", assignments);
    for (char *at = strtok_r(copy, " ", &save); at; at = strtok_r(NULL, " ", &save))
        check_ok(ctx, hr_config_set(config, at, "test"));
}

/* The base, then `more` ("key=value key=value"). */
static inline hr_config *tiny_config(const fixture *f, hr_ctx *ctx, const char *run, const char *more)
{
    char assignment[2 * HR_PATH_MAX + 16], path[2 * HR_PATH_MAX];
    hr_config *config = NULL;
    check_ok(ctx, hr_config_create(ctx, &config));
    snprintf(assignment, sizeof assignment, "dataset=%s", fixture_path(f, "data", path));
    check_ok(ctx, hr_config_set(config, assignment, "test"));
    snprintf(assignment, sizeof assignment, "run=%s", fixture_path(f, run, path));
    check_ok(ctx, hr_config_set(config, assignment, "test"));
    tiny_set(config, ctx, "encoder.dim=32 train.batch=32 train.epochs=2 train.validation=0.1 log.every=1 encoder.lr=0.01 "
                          "head.lr=0.5");
    tiny_set(config, ctx, more);
    return config;
}

/* Counts the lines of the log, keeps the last warning, and calls `at_line` at each progress line. */
typedef struct tiny_log {
    hr_ctx *ctx;
    int lines, warnings;
    int stop_every; /* > 0: interrupts after so many steps */
    int die_at;     /* > 0: the process kills itself at this step */
    void (*at_line)(struct tiny_log *log);
    void *arg;
    char warning[512];
} tiny_log;

static inline void tiny_log_line(void *user, hr_log_level level, const char *line)
{
    tiny_log *log = user;
    if (level == HR_LOG_WARNING) {
        log->warnings++;
        snprintf(log->warning, sizeof log->warning, "%s", line);
    }
    if (level != HR_LOG_PROGRESS)
        return;
    log->lines++;
    if (log->at_line)
        log->at_line(log);
    if (log->die_at && log->lines == log->die_at)
        kill(getpid(), SIGKILL);
    if (log->stop_every && log->lines % log->stop_every == 0)
        hr_ctx_interrupt(log->ctx);
}

static inline hr_ctx *tiny_ctx(int threads, tiny_log *log)
{
    hr_ctx_options o = hr_ctx_options_default();
    o.threads = threads;
    o.log = tiny_log_line;
    o.log_user = log;
    *log = (tiny_log){0};
    assert_int_equal(hr_ctx_create(&o, &log->ctx), HR_OK);
    return log->ctx;
}

/* One session of a run. */
static inline hr_status tiny_train(const fixture *f, hr_ctx *ctx, const char *run, const char *more, hr_train_report *report)
{
    hr_config *config = tiny_config(f, ctx, run, more);
    hr_status st = hr_train_run(ctx, config, report);
    hr_config_destroy(config);
    return st;
}

/* A whole run in a context of its own, in sessions of `stop_every` steps (0: one session). */
static inline int tiny_run(const fixture *f, const char *run, const char *more, int threads, int stop_every)
{
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(threads, &log);
    hr_status st;
    int sessions = 0;
    log.stop_every = stop_every;
    do {
        st = tiny_train(f, ctx, run, more, NULL);
        sessions++;
    } while (st == HR_INTERRUPTED && sessions < 1000);
    check_ok(ctx, st);
    check_ctx_empty(ctx);
    return sessions;
}

static inline char *tiny_slurp(const char *path, size_t *length)
{
    FILE *file = fopen(path, "rb");
    *length = 0;
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    const long n = ftell(file);
    rewind(file);
    char *text = malloc((size_t)n + 1);
    assert_int_equal(fread(text, 1, (size_t)n, file), n);
    text[n] = 0;
    fclose(file);
    *length = (size_t)n;
    return text;
}

/* Replaces a piece of the manifest of a checkpoint or model and makes its checksum good. */
static inline void tiny_edit_manifest(const fixture *f, const char *folder, const char *from, const char *to)
{
    char path[2 * HR_PATH_MAX], name[256], sum[9];
    size_t n;
    snprintf(name, sizeof name, "%s/manifest.json", folder);
    char *text = tiny_slurp(fixture_path(f, name, path), &n), *edited = malloc(n + strlen(to) + 1), *at = strstr(text, from);
    assert_non_null(at);
    n = (size_t)sprintf(edited, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    at = hr_manifest_sum(edited);
    memset(at, '0', 8);
    snprintf(sum, sizeof sum, "%08x", (unsigned)hr_crc32c(0, edited, n));
    memcpy(at, sum, 8);
    put_bytes(f, name, edited, n);
    free(edited);
    free(text);
}

/* The file has the same bytes in both runs, or is in neither. */
static inline bool tiny_same_file(const fixture *f, const char *a, const char *b, const char *name)
{
    char path[2 * HR_PATH_MAX], relative[HR_PATH_MAX];
    size_t na, nb;
    snprintf(relative, sizeof relative, "%s/%s", a, name);
    char *ta = tiny_slurp(fixture_path(f, relative, path), &na);
    snprintf(relative, sizeof relative, "%s/%s", b, name);
    char *tb = tiny_slurp(fixture_path(f, relative, path), &nb);
    const bool same = ta && tb && na == nb && memcmp(ta, tb, na) == 0;
    free(ta);
    free(tb);
    return same;
}

static inline hr_status tiny_compare_name(void *arg, const char *name)
{
    void **x = arg;
    const size_t n = strlen(name);
    if (n > 12 && strcmp(name + n - 12, ".safetensors") == 0) {
        ++*(int *)x[3];
        if (!tiny_same_file(x[0], x[1], x[2], name))
            fail_msg("%s/%s and %s/%s differ", (char *)x[1], name, (char *)x[2], name);
    }
    return HR_OK;
}

/* All tensor files of two folders have the same bytes. */
static inline void tiny_same_folder(const fixture *f, const char *a, const char *b)
{
    char path[2 * HR_PATH_MAX];
    int count = 0;
    void *arg[] = {(void *)(uintptr_t)f, (void *)(uintptr_t)a, (void *)(uintptr_t)b, &count};
    check_ok(f->ctx, hr_dir_each(f->ctx, fixture_path(f, a, path), tiny_compare_name, arg));
    assert_true(count >= 2);
}

/* cmocka fixtures: a tiny problem in a folder of its own. */
static inline int tiny_setup(void **state)
{
    fixture *f = malloc(sizeof *f);
    tiny_begin(f);
    *state = f;
    return 0;
}

static inline int tiny_teardown(void **state)
{
    fixture_end(*state);
    free(*state);
    return 0;
}

#endif
