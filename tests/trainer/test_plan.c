/* The plan against what a run measures, by kind; and a training loop that allocates nothing once it runs. */
#include "tests/trainer/tiny.h"

#include <stdatomic.h>

/* ---- every allocation of the process, also those of other libraries ---- */

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && defined(__GLIBC__)
#define COUNTS_MALLOC 1
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *block, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
void *malloc(size_t bytes);
void *calloc(size_t count, size_t bytes);
void *realloc(void *block, size_t bytes);
void *aligned_alloc(size_t alignment, size_t bytes);

static _Atomic int64_t mallocs;

void *malloc(size_t bytes)
{
    mallocs++;
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    mallocs++;
    return __libc_calloc(count, bytes);
}

void *realloc(void *block, size_t bytes)
{
    mallocs++;
    return __libc_realloc(block, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    mallocs++;
    return __libc_memalign(alignment, bytes);
}
#else
#define COUNTS_MALLOC 0
static _Atomic int64_t mallocs;
#endif

/* ---- plan and measurement ---- */

static void check_plan(const hr_mem_report *before, const hr_train_report *r)
{
    size_t measured = r->memory.peak_total - before->now_total;
    for (int k = 0; k < HR_MEM_KINDS; k++) {
        const size_t peak = r->memory.peak[k] - before->now[k];
        if (peak > r->plan.bytes[k])
            fail_msg("%s: peak of %zu bytes, planned %zu", hr_mem_kind_name((hr_mem_kind)k), peak, r->plan.bytes[k]);
    }
    const double slack = fmax(0.05 * (double)measured, 0x1p20);
    if ((double)r->plan.total > (double)measured + slack)
        fail_msg("planned %zu bytes, measured %zu", r->plan.total, measured);
    assert_true(r->plan.mapped > 0 && r->plan.fits && r->plan.machine == r->memory.machine);
}

static void test_plan(void **state)
{
    static const char *const combinations[] = {
        "head.dtype=f32 encoder.dim=100",
        "head.dtype=bf16 head.kahan_top=2000 head.bias=per_label",
        "head.dtype=e4m3 head.momentum=0.9 head.state_dtype=f32 head.kahan_top=500",
        "head.dtype=i8r head.momentum=0.9",
        "head.dtype=e4m3 encoder.optimizer=adagrad head.gradient=sparse encoder.dim=70",
        "head.dtype=e4m3 head.arith=bf16 train.batch=45",
        "head.dtype=e4m3 train.batch=7 train.accumulate=5 encoder.residual=false train.max_steps=30",
        "head.dtype=e4m3 train.augment=true train.epochs=1 train.batch=256 encoder.dim=129",
        "head.dtype=e3m4 train.validation=0 head.chunk=1",
        "head.dtype=e4m3 head.family=fan_in head.fan_in=20 encoder.dim=200 head.rewire=gradient head.rewire_every=2",
        "head.dtype=i8r head.family=fan_in head.fan_in=16 head.group=64 head.gradient=sparse head.dense_ratio=0.05 encoder.dim=128",
        "head.dtype=bf16 head.family=fan_in head.fan_in=30 head.optimizer=adam head.group=16 layer.width=3000 head.init=1",
        "head.dtype=e4m3 layer.width=32 layer.dtype=bf16 layer.state_dtype=f32 head.init=1 train.accumulate=2",
        "head.dtype=e4m3 aux.weight=0.4 aux.group=1 aux.dtype=f32 encoder.dim=300 aux.until=0.3",
        "head.dtype=e4m3 encoder.dim=40 aux.weight=0.4 aux.group=30 aux.until=1 train.validation=0",
        "head.dtype=i8r head.family=fan_in head.fan_in=16 head.group=64 aux.weight=0.4 aux.group=2 aux.dtype=i8r head.gradient=sparse train.batch=70",
        "head.dtype=e4m3 encoder.dim=513 train.accumulate=4 train.batch=50 loss.every=1",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=20 head.dtype=e4m3 train.batch=45",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=9 head.group=16 head.dtype=i8r head.bias=per_label train.augment=true "
        "train.epochs=1 loss.every=1",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=100 head.dtype=bf16 head.kahan_top=100 head.candidates=sum "
        "train.validation=0",
    };
    const fixture *f = *state;
    for (size_t i = 0; i < sizeof combinations / sizeof *combinations; i++) {
        char run[16];
        tiny_log log;
        hr_ctx *ctx = tiny_ctx(1 + (int)i % 4, &log);
        hr_mem_report before;
        hr_train_report report;
        snprintf(run, sizeof run, "run%d", (int)i);
        hr_config *config = tiny_config(f, ctx, run, combinations[i]);
        hr_ctx_memory(ctx, &before);
        print_message("  %s\n", combinations[i]);
        log.stop_every = i % 2 ? 3 : 0; /* the second session also reads a checkpoint */
        hr_status st = hr_train_run(ctx, config, &report);
        log.stop_every = 0;
        if (st == HR_INTERRUPTED)
            st = hr_train_run(ctx, config, &report);
        check_ok(ctx, st);
        check_plan(&before, &report);
        assert_true(report.finished && report.steps > 0);
        hr_config_destroy(config);
        check_ctx_empty(ctx);
    }
}

/* ---- nothing is allocated ---- */

typedef struct counts {
    char run[2 * HR_PATH_MAX];
    uint64_t calls;
    int64_t mallocs;
    int lines;
} counts;

/* Whether a checkpoint was written since the line before: that may allocate. */
static bool saved(const counts *c, int step)
{
    char path[2 * HR_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/ckpt/step-%09d", c->run, step);
    return hr_path_exists(path);
}

/* From the second step to the line of the last one, which comes before the save at the end. */
static void compare(tiny_log *log)
{
    counts *c = log->arg;
    hr_mem_report m;
    const int64_t now = mallocs;
    hr_ctx_memory(log->ctx, &m);
    if (log->lines > 2 && !saved(c, log->lines - 1)) {
        if (m.calls != c->calls || now != c->mallocs)
            fail_msg("step %d: %d allocations, %d of them ours", log->lines, (int)(now - c->mallocs), (int)(m.calls - c->calls));
        c->lines++;
    }
    c->calls = m.calls;
    c->mallocs = mallocs;
}

static void test_no_allocation(void **state)
{
    static const char *const combinations[] = {
        "head.dtype=e4m3 head.kahan_top=100 head.momentum=0.5 head.bias=per_label loss.every=3",
        "head.dtype=i8r train.accumulate=2 train.augment=true train.batch=300 train.epochs=1",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=20 head.lr=0",
        "head.lr=0 encoder.lr=0", /* later validations are not better: nothing is saved after them */
        "head.lr=0 encoder.lr=0 aux.weight=0.4 aux.until=0.6 aux.dtype=e4m3 loss.every=2 head.gradient=sparse",
    };
    const fixture *f = *state;
    for (size_t i = 0; i < sizeof combinations / sizeof *combinations; i++) {
        tiny_log log;
        counts c = {0};
        char run[16];
        hr_ctx *ctx = tiny_ctx(2, &log);
        log.at_line = compare;
        log.arg = &c;
        snprintf(run, sizeof run, "run%d", (int)i);
        fixture_path(f, run, c.run);
        char more[256];
        snprintf(more, sizeof more, "%s checkpoint.every=1000 train.epochs=%d", combinations[i], i == 1 ? 1 : 4);
        check_ok(ctx, tiny_train(f, ctx, run, more, NULL));
        assert_true(c.lines > 5);
        check_ctx_empty(ctx);
    }
    assert_true(!COUNTS_MALLOC || mallocs > 100);
}

/* ---- plans that fail ---- */

static void test_errors(void **state)
{
    const fixture *f = *state;
    hr_plan plan;
    hr_config *config = tiny_config(f, f->ctx, "run", "dataset=/nonexistent");
    assert_int_equal(hr_plan_make(f->ctx, config, &plan), HR_ERR_NOINPUT);
    hr_config_destroy(config);
    config = tiny_config(f, f->ctx, "run", "head.dtype=e9m9");
    assert_int_equal(hr_plan_make(f->ctx, config, &plan), HR_ERR_CONFIG);
    hr_config_destroy(config);
    /* a plan of a size that no machine has is an answer, not an error */
    config = tiny_config(f, f->ctx, "run", "encoder.dim=131072 train.batch=65536");
    check_ok(f->ctx, hr_plan_make(f->ctx, config, &plan));
    assert_false(plan.fits);
    hr_config_destroy(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_plan, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_no_allocation, tiny_setup, tiny_teardown),
        cmocka_unit_test_setup_teardown(test_errors, tiny_setup, tiny_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
