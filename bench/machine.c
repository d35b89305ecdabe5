/* Clocks, the processor's name, peak and bandwidth. Compiled with -O3: the loops must be vectors. */
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bench_time bench_now(void)
{
    return (bench_time){hr_clock(), read_clock(CLOCK_THREAD_CPUTIME_ID), read_clock(CLOCK_PROCESS_CPUTIME_ID)};
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_value);
    return n % 2 ? t[n / 2] : 0.5 * (t[n / 2 - 1] + t[n / 2]);
}

bool bench_listed(const char *names, const char *name)
{
    const size_t n = strlen(name);
    for (const char *p = names; p && (p = strstr(p, name)); p += n)
        if ((p == names || p[-1] == ',') && (p[n] == ',' || p[n] == 0))
            return true;
    return !names;
}

void bench_cpu_name(char name[64])
{
    snprintf(name, 64, "unknown");
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "model name : %63[^\n\"\\]", name) == 1)
            break;
    }
    if (f)
        fclose(f);
}

/* ---- peak ---- */

enum { CHAINS = 12, LOOPS = 4000000, REPEATS = 4, THREADS_MAX = 64 };

/* Twelve independent chains: enough for two units with a latency of up to six cycles, and few enough for 16 registers. */
#define FMA_LOOP(name, isa, type, set1, fma)                                                                           \
    __attribute__((target(isa))) static float name(int64_t n)                                                          \
    {                                                                                                                  \
        type a[CHAINS];                                                                                                \
        const type x = set1(0.999f), y = set1(0.5f);                                                                   \
        for (int j = 0; j < CHAINS; j++)                                                                               \
            a[j] = set1((float)j);                                                                                     \
        for (int64_t i = 0; i < n; i++)                                                                                \
            _Pragma("GCC unroll 12") for (int j = 0; j < CHAINS; j++) a[j] = fma(a[j], x, y);                          \
        float sum = 0;                                                                                                 \
        for (int j = 0; j < CHAINS; j++)                                                                               \
            sum += a[j][0];                                                                                            \
        return sum;                                                                                                    \
    }

#if defined(__x86_64__)
#include <immintrin.h>
FMA_LOOP(fma_avx2, "avx2,fma", __m256, _mm256_set1_ps, _mm256_fmadd_ps)
FMA_LOOP(fma_avx512, "avx512f", __m512, _mm512_set1_ps, _mm512_fmadd_ps)
#endif

typedef struct work {
    hr_isa isa;
    const uint64_t *data;
    int64_t n;                    /* numbers for each task */
    double seconds[THREADS_MAX];  /* of each task */
    uint64_t sink[THREADS_MAX];   /* so that nothing is optimised away */
} work;

/* The sum of the tasks' rates, by processor time: a rate is of the machine, not of who else is on it. */
static double best_rate(hr_ctx *ctx, hr_task_fn *task, work *w, double each)
{
    const int threads = hr_ctx_threads(ctx) < THREADS_MAX ? hr_ctx_threads(ctx) : THREADS_MAX;
    double best = 0;
    for (int r = 0; r < REPEATS; r++) {
        double rate = 0;
        hr_parallel_for(ctx, threads, task, w);
        for (int i = 0; i < threads; i++)
            rate += each / w->seconds[i];
        best = rate > best ? rate : best;
    }
    return best * 1e-9;
}

#if defined(__x86_64__)
static void fma_task(void *arg, int64_t task, int worker)
{
    work *w = arg;
    (void)worker;
    const bench_time t = bench_now();
    const float sum = w->isa >= HR_ISA_AVX512 ? fma_avx512(LOOPS) : fma_avx2(LOOPS);
    w->sink[task] += (uint64_t)sum;
    w->seconds[task] = bench_now().thread - t.thread;
}
#endif

double bench_peak_gflops(hr_ctx *ctx)
{
#if defined(__x86_64__)
    work w = {.isa = hr_ctx_isa_level(ctx)};
    if (w.isa >= HR_ISA_AVX2)
        return best_rate(ctx, fma_task, &w, 2.0 * CHAINS * LOOPS * (w.isa >= HR_ISA_AVX512 ? 16 : 8));
#endif
    (void)ctx;
    return 0;
}

/* ---- bandwidth ---- */

enum { READ_MIB = 256 }; /* far more than any cache */

static void read_task(void *arg, int64_t task, int worker)
{
    work *w = arg;
    (void)worker;
    const bench_time t = bench_now();
    const uint64_t *p = w->data + task * w->n;
    uint64_t sum = 0;
    for (int64_t i = 0; i < w->n; i++)
        sum += p[i];
    w->sink[task] += sum;
    w->seconds[task] = bench_now().thread - t.thread;
}

double bench_read_gbs(hr_ctx *ctx)
{
    const size_t bytes = (size_t)READ_MIB << 20;
    uint64_t *data = malloc(bytes);
    if (!data)
        return 0;
    memset(data, 1, bytes);
    const int threads = hr_ctx_threads(ctx) < THREADS_MAX ? hr_ctx_threads(ctx) : THREADS_MAX;
    work w = {.data = data, .n = (int64_t)(bytes / sizeof *data) / threads};
    const double rate = best_rate(ctx, read_task, &w, (double)w.n * sizeof *data);
    free(data);
    return rate;
}
