/* The head against a plain fp32 step of three OpenBLAS products (blas_step.c), in one process, in turns.
 *
 *   bench_head [--json] [--modes dense,...] [--types e4m3,...] [B D L [threads [rounds [isa]]]]
 *
 * In each round the baseline and every (mode, type) have one turn. Prints the median time of each, its ratio to the baseline's
 * median, and what the machine could do at that time: fp32 multiply-adds from registers, and reading from memory.
 * One thread is timed by its processor time, so that other programs disturb less; more threads by the clock on the wall, with the
 * processor time of the process beside it. --json: one line for each measurement (bench/run.sh collects them). */
#include "blas_step.h"
#include "machine.h"

#include "base/rng.h"
#include "head/head.h"
#include "headroom.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MOST_ROUNDS = 64 };

extern void openblas_set_num_threads(int);
extern char *openblas_get_corename(void);

/* ---- what is measured ---- */

/* A way to run the head's step. Another mode is another line here. */
typedef struct bench_mode {
    const char *name;
    hr_arith arith;
    hr_gradient gradient;
    float bias, tau; /* of the logits; a sparse gradient's density follows from both, and is printed */
    int64_t fan_in, group; /* 0: dense */
} bench_mode;

static const bench_mode modes[] = {
    {"dense", HR_ARITH_F32, HR_GRADIENT_DENSE, -6.0f, 0, 0, 0},
    {"dense-bf16", HR_ARITH_BF16, HR_GRADIENT_DENSE, -6.0f, 0, 0, 0}, /* bf16 operands, f32 sums */
    {"sparse", HR_ARITH_F32, HR_GRADIENT_SPARSE, -10.0f, 0.05f, 0, 0},  /* a tenth of a percent of the entries is kept */
    {"sparse-1%", HR_ARITH_F32, HR_GRADIENT_SPARSE, -7.75f, 0.05f, 0, 0}, /* one percent */
    {"fan32", HR_ARITH_F32, HR_GRADIENT_DENSE, -6.0f, 0, 32, 1},
    {"fan32-sparse", HR_ARITH_F32, HR_GRADIENT_SPARSE, -10.0f, 0.05f, 32, 1},
    {"fan32x16", HR_ARITH_F32, HR_GRADIENT_DENSE, -6.0f, 0, 32, 16}, /* 16 labels share their inputs */
    {"fan32x64", HR_ARITH_F32, HR_GRADIENT_DENSE, -6.0f, 0, 32, 64},
    {"fan32x64-sparse", HR_ARITH_F32, HR_GRADIENT_SPARSE, -10.0f, 0.05f, 32, 64},
    {"fan64", HR_ARITH_F32, HR_GRADIENT_DENSE, -6.0f, 0, 64, 1},
    {"fan64-sparse", HR_ARITH_F32, HR_GRADIENT_SPARSE, -10.0f, 0.05f, 64, 1},
    {"fan64x64", HR_ARITH_F32, HR_GRADIENT_DENSE, -6.0f, 0, 64, 64},
    {"fan64x64-sparse", HR_ARITH_F32, HR_GRADIENT_SPARSE, -10.0f, 0.05f, 64, 64},
};
static const char *const types[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r", "e3m4"};
enum { MODES = sizeof modes / sizeof *modes, TYPES = sizeof types / sizeof *types };

typedef struct bench_shape {
    int64_t B, D, L;
    int threads, rounds;
} bench_shape;

/* Times of one competitor, a round each. */
typedef struct bench_times {
    double seconds[MOST_ROUNDS], processor[MOST_ROUNDS];
} bench_times;

typedef struct bench_case {
    const bench_mode *mode;
    const char *type;
    hr_head *head;
    bench_times times;
} bench_case;

/* What all competitors share. */
typedef struct bench_data {
    float *x, *dx, *w, *z;
    hr_head_batch batch;
    uint64_t *positives;
} bench_data;

/* ---- set-up ---- */

/* OpenBLAS does not know every processor, and environments set it to its AVX2 kernels; on a machine with AVX-512 that would
 * flatter us. It reads its choice when it is loaded, so the process starts itself again (HR_BENCH_BLAS names another). */
static void choose_blas_core(char **argv)
{
    if (hr_isa_detect() < HR_ISA_AVX512 || getenv("HR_BENCH_RESTARTED"))
        return;
    const char *wanted = getenv("HR_BENCH_BLAS");
    setenv("OPENBLAS_CORETYPE", wanted ? wanted : "SkylakeX", 1);
    setenv("HR_BENCH_RESTARTED", "1", 1);
    execv("/proc/self/exe", argv);
}

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (!p) {
        fprintf(stderr, "bench_head: no memory: %zu bytes\n", bytes);
        exit(71);
    }
    return p;
}

/* Uniform in +-scale, the same 2^20 numbers again and again. */
static void fill_uniform(float *p, int64_t n, float scale, uint64_t seed)
{
    const hr_rng rng = hr_rng_make(seed, 0, 0, HR_STREAM_INIT);
    const int64_t period = 1 << 20;
    for (int64_t i = 0; i < n && i < period; i++)
        p[i] = scale * ((float)hr_rng_draw16(rng, (uint32_t)(i >> 16), (uint32_t)(i & 0xffff)) / 32768.0f - 1.0f);
    for (int64_t i = period; i < n; i += period)
        memcpy(p + i, p, (size_t)(n - i < period ? n - i : period) * sizeof *p);
}

static bench_data make_data(const bench_shape *s)
{
    bench_data d;
    const int64_t positives = s->B * 4;
    d.x = allocate((size_t)(s->B * s->D) * sizeof(float));
    d.dx = allocate((size_t)(s->B * s->D) * sizeof(float));
    d.w = allocate((size_t)(s->L * s->D) * sizeof(float));
    d.z = allocate((size_t)(s->B * BLAS_CHUNK) * sizeof(float));
    d.positives = allocate((size_t)positives * sizeof(uint64_t));
    fill_uniform(d.x, s->B * s->D, 1, 2);
    fill_uniform(d.w, s->L * s->D, 0.05f, 3);
    for (int64_t i = 0; i < positives; i++)
        d.positives[i] = (uint64_t)(i * (s->L / positives)) << 32 | (uint64_t)(i % s->B);
    d.batch = (hr_head_batch){.rows = s->B, .x = d.x, .num_positives = positives, .positives = d.positives};
    return d;
}

static void free_data(bench_data *d)
{
    free(d->x), free(d->dx), free(d->w), free(d->z), free(d->positives);
}

/* The head's own initialisation is careful and slow: weights like the baseline's are written over zeros instead. */
static void fill_codes(hr_head *head, const bench_shape *s, const bench_data *d, hr_dtype type, float unit)
{
    const int64_t have = s->L * s->D < 1 << 20 ? s->L * s->D : 1 << 20;
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    for (int i = 0; i < list.count; i++) {
        const hr_tensor *t = &list.item[i];
        const int64_t n = t->rows * t->cols, period = n < have ? n : have; /* rows of codes may be padded */
        const size_t element = hr_tensor_element_bytes(t->type);
        const bool scales = type.id == HR_I8R && t->type == HR_T_F32;
        if (strstr(t->name, ".inputs"))
            continue;
        for (int64_t j = 0; j < (scales ? n : period); j++) {
            if (scales)
                ((float *)t->data)[j] = 0x1p-11f; /* 0.05 is about 100 of them */
            else if (type.id == HR_I8R)
                ((int8_t *)t->data)[j] = (int8_t)(d->w[j] * 0x1p11f);
            else
                hr_dtype_store(type, t->data, j, hr_dtype_round(type, HR_ROUND_NEAREST, d->w[j] * unit, 0), 1);
        }
        for (int64_t j = period; !scales && j < n; j += period)
            memcpy((char *)t->data + (size_t)j * element, t->data, (size_t)(n - j < period ? n - j : period) * element);
    }
}

static hr_head *make_head(hr_ctx *ctx, const bench_shape *s, const bench_data *d, const bench_mode *mode, const char *name)
{
    hr_head_options o = {.labels = s->L, .dim = s->D, .max_batch = s->B, .training = true, .num_segments = 1, .bias_value = mode->bias,
                         .arith = mode->arith, .gradient = mode->gradient, .tau = mode->tau, .seed = 1};
    o.segment[0] = (hr_segment_options){.rows = s->L, .lr_scale = 1, .fan_in = mode->fan_in, .group = mode->group,
                                        .family = mode->fan_in > 0 ? HR_FAMILY_FAN_IN : HR_FAMILY_DENSE};
    hr_dtype *type = &o.segment[0].dtype;
    if (!hr_dtype_parse(name, type)) {
        fprintf(stderr, "bench_head: no type %s\n", name);
        exit(64);
    }
    o.segment[0].scale_log2 = type->bytes == 1 && type->id != HR_I8R ? 6 : 0;
    hr_head *head;
    if (hr_head_create(ctx, &o, &head) != HR_OK) {
        fprintf(stderr, "bench_head: %s\n", hr_ctx_message(ctx));
        exit(71);
    }
    fill_codes(head, s, d, *type, ldexpf(1, o.segment[0].scale_log2));
    return head;
}

/* ---- turns ---- */

static void take(bench_times *t, int round, const bench_shape *s, bench_time begin)
{
    const bench_time now = bench_now();
    if (round < 0)
        return; /* the first turn warms the caches and touches the pages */
    t->seconds[round] = s->threads == 1 ? now.thread - begin.thread : now.wall - begin.wall;
    t->processor[round] = now.process - begin.process;
}

static void run_round(int round, const bench_shape *s, bench_data *d, bench_times *base, bench_case *cases, int count)
{
    const float lr = 0.01f;
    bench_time begin = bench_now();
    blas_step(s->B, s->D, s->L, d->x, d->w, d->z, d->dx, d->positives, d->batch.num_positives, modes[0].bias, lr);
    take(base, round, s, begin);
    for (int i = 0; i < count; i++) {
        begin = bench_now();
        if (hr_head_step(cases[i].head, &d->batch, lr, (uint64_t)(round + 2), d->dx, NULL) != HR_OK)
            exit(70);
        take(&cases[i].times, round, s, begin);
    }
}

/* ---- reports ---- */

typedef struct bench_summary {
    double median, spread, processor; /* seconds, slowest / fastest, seconds on all processors */
} bench_summary;

static bench_summary summarize(bench_times *t, int rounds)
{
    bench_summary s = {.median = bench_median(t->seconds, rounds), .processor = bench_median(t->processor, rounds)};
    s.spread = t->seconds[rounds - 1] / t->seconds[0];
    return s;
}

typedef struct bench_machine {
    char cpu[64];
    double peak, read;
    double load; /* programs wanting a processor in the last minute, this one included: above `threads`, distrust the wall clock */
} bench_machine;

/* `plain`: all of the dense step's multiply-adds in fp32, so that a rate and a share of the peak mean something. */
static void print_text(const bench_shape *s, const char *mode, const char *type, bench_summary own, double base, double peak, bool plain)
{
    const double rate = 6e-9 * (double)s->B * (double)s->D * (double)s->L / own.median;
    printf("%-15s %-5s %9.1f ms  %5.2fx  spread %.2f", mode, type, own.median * 1e3, base / own.median, own.spread);
    if (plain)
        printf("  %6.1f GF/s", rate);
    if (plain && peak > 0)
        printf(", %.1f %% of peak", 100 * rate / peak);
}

static void print_json(const bench_shape *s, const bench_case *c, const char *isa, bench_summary own, bench_summary base,
                       const bench_machine *m, double density)
{
    char date[32];
    const time_t now = time(NULL);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime(&now));
    const char *commit = getenv("HR_BENCH_COMMIT");
    printf("{\"date\": \"%s\", \"commit\": \"%s\", \"cpu\": \"%s\", \"isa\": \"%s\", \"blas\": \"%s\", ", date, commit ? commit : "",
           m->cpu, isa, openblas_get_corename());
    printf("\"B\": %lld, \"D\": %lld, \"L\": %lld, \"threads\": %d, \"type\": \"%s\", \"mode\": \"%s\", \"rounds\": %d, ",
           (long long)s->B, (long long)s->D, (long long)s->L, s->threads, c->type, c->mode->name, s->rounds);
    printf("\"clock\": \"%s\", \"median_ms\": %.3f, \"spread\": %.3f, \"processor_ms\": %.3f, ", s->threads == 1 ? "thread" : "wall",
           own.median * 1e3, own.spread, own.processor * 1e3);
    printf("\"baseline_ms\": %.3f, \"baseline_spread\": %.3f, \"baseline_processor_ms\": %.3f, \"ratio\": %.4f, ", base.median * 1e3,
           base.spread, base.processor * 1e3, base.median / own.median);
    if (c->mode->gradient == HR_GRADIENT_SPARSE)
        printf("\"density\": %.6f, ", density);
    printf("\"peak_gflops\": %.1f, \"read_gbs\": %.1f, \"load\": %.2f}\n", m->peak, m->read, m->load);
}

static void report(hr_ctx *ctx, const bench_shape *s, bench_times *base_times, bench_case *cases, int count, bool json)
{
    bench_machine m = {.peak = bench_peak_gflops(ctx), .read = bench_read_gbs(ctx)};
    bench_cpu_name(m.cpu);
    if (getloadavg(&m.load, 1) < 1)
        m.load = -1;
    const bench_summary base = summarize(base_times, s->rounds);
    if (!json) {
        printf("B %lld  D %lld  L %lld  threads %d  rounds %d  (%s, %s; peak %.0f GF/s, read %.1f GB/s, load %.1f)\n", (long long)s->B,
               (long long)s->D, (long long)s->L, s->threads, s->rounds, m.cpu, hr_ctx_isa(ctx), m.peak, m.read, m.load);
        print_text(s, "blas", "f32", base, base.median, m.peak, true);
        printf("  (OpenBLAS, %s kernels)\n", openblas_get_corename());
    }
    for (int i = 0; i < count; i++) {
        const bench_summary own = summarize(&cases[i].times, s->rounds);
        const hr_head_counts n = hr_head_last_counts(cases[i].head);
        const double density = n.cells ? (double)n.entries / (double)n.cells : 0;
        if (json) {
            print_json(s, &cases[i], hr_ctx_isa(ctx), own, base, &m, density);
            continue;
        }
        const bench_mode *mode = cases[i].mode;
        print_text(s, mode->name, cases[i].type, own, base.median, m.peak,
                   mode->arith == HR_ARITH_F32 && mode->gradient == HR_GRADIENT_DENSE && mode->fan_in == 0);
        if (mode->gradient == HR_GRADIENT_SPARSE)
            printf("  density %.3f %%", 100 * density);
        putchar('\n');
    }
    fflush(stdout);
}

/* ---- command line ---- */

static int usage(void)
{
    fputs("usage: bench_head [--json] [--modes dense,...] [--types e4m3,...] [B D L [threads [rounds [isa]]]]\n", stderr);
    return 64;
}

static int64_t number(char **argv, int argc, int i, int64_t otherwise)
{
    return i < argc ? strtoll(argv[i], NULL, 10) : otherwise;
}

int main(int argc, char **argv)
{
    choose_blas_core(argv);
    bool json = false;
    const char *wanted_modes = "dense", *wanted_types = NULL;
    for (; argc > 1 && !strncmp(argv[1], "--", 2); argc--, argv++) {
        if (!strcmp(argv[1], "--json")) {
            json = true;
            continue;
        }
        const char **list = !strcmp(argv[1], "--modes") ? &wanted_modes : !strcmp(argv[1], "--types") ? &wanted_types : NULL;
        if (!list || argc < 3)
            return usage();
        *list = argv[2];
        argc--, argv++;
    }
    const bench_shape s = {.B = number(argv, argc, 1, 256), .D = number(argv, argc, 2, 256), .L = number(argv, argc, 3, 65536),
                           .threads = (int)number(argv, argc, 4, 1), .rounds = (int)number(argv, argc, 5, 7)};
    hr_ctx_options co = hr_ctx_options_default();
    co.threads = s.threads;
    co.isa = argc > 6 ? argv[6] : "auto";
    hr_ctx *ctx;
    if (s.B < 1 || s.D < 1 || s.L < 4 * s.B || s.rounds < 1 || s.rounds > MOST_ROUNDS || hr_ctx_create(&co, &ctx) != HR_OK)
        return usage();
    openblas_set_num_threads(s.threads);

    bench_data data = make_data(&s);
    static bench_case cases[MODES * TYPES];
    static bench_times base;
    int count = 0;
    for (int i = 0; i < MODES * TYPES; i++) {
        bench_case *c = &cases[count];
        *c = (bench_case){.mode = &modes[i / TYPES], .type = types[i % TYPES]};
        if (!bench_listed(wanted_modes, c->mode->name) || !bench_listed(wanted_types, c->type))
            continue;
        c->head = make_head(ctx, &s, &data, c->mode, c->type);
        count++;
    }
    for (int r = -1; r < s.rounds; r++)
        run_round(r, &s, &data, &base, cases, count);
    report(ctx, &s, &base, cases, count, json);
    for (int i = 0; i < count; i++)
        hr_head_destroy(cases[i].head);
    free_data(&data);
    hr_ctx_destroy(ctx);
    return 0;
}
