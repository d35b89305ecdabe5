/* The head's training step against a plain fp32 step of three OpenBLAS products, in one process, in turns.
 *
 *   bench_head [B D L [threads [rounds [isa]]]]
 *
 * The baseline is what one would write with a BLAS: for chunks of 4096 labels, Z = X W^T, a vectorised sigmoid,
 * the positives, dX += G^T W, W -= lr G X (beta = 1, no dW array). Prints the median time of each storage type and its
 * ratio to the baseline's median. */
#include "base/ctx.h"
#include "base/rng.h"
#include "dtype/sigmoid.h"
#include "head/head.h"

#include <cblas.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CHUNK = 4096, MOST_ROUNDS = 64 };

extern void openblas_set_num_threads(int);
extern char *openblas_get_corename(void);

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

static float *randoms(int64_t n, float scale, uint64_t seed)
{
    float *p = malloc((size_t)n * sizeof *p);
    hr_rng rng = hr_rng_make(seed, 0, 0, HR_STREAM_INIT);
    for (int64_t i = 0; i < n; i++)
        p[i] = scale * ((float)hr_rng_draw16(rng, (uint32_t)(i >> 16), (uint32_t)(i & 0xffff)) / 32768.0f - 1.0f);
    return p;
}

__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"))) static void sigmoid_all(int64_t n, float *z)
{
    for (int64_t i = 0; i < n; i++) {
        float v = z[i] < -80 ? -80 : z[i] > 80 ? 80 : z[i];
        float t = v * 1.44269504f + 12582912.0f, k = t - 12582912.0f, r = v - k * 0.693147181f;
        float p = 1 + r * (1 + r * (0.5f + r * (0.166666667f + r * (0.0416666667f + r * 0.00833333333f))));
        float e = hr_bits_f32(hr_f32_bits(p) + ((hr_f32_bits(t) - hr_f32_bits(12582912.0f)) << 23));
        z[i] = e / (1 + e);
    }
}

static void blas_step(int64_t B, int64_t D, int64_t L, const float *x, float *w, float *z, float *dx, const uint64_t *pos,
                      int64_t npos, float lr)
{
    const int b = (int)B, d = (int)D;
    memset(dx, 0, (size_t)(B * D) * sizeof *dx);
    for (int64_t l = 0, p = 0; l < L; l += CHUNK) {
        const int n = (int)(L - l < CHUNK ? L - l : CHUNK);
        float *wl = w + l * D;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, b, n, d, 1, x, d, wl, d, 0, z, n);
        sigmoid_all((int64_t)b * n, z);
        for (; p < npos && (int64_t)(pos[p] >> 32) < l + n; p++)
            z[(int64_t)(uint32_t)pos[p] * n + (int64_t)(pos[p] >> 32) - l] -= 1;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, b, d, n, 1, z, n, wl, d, 1, dx, d);
        cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, n, d, b, -lr, z, n, x, d, 1, wl, d);
    }
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *t, int n)
{
    qsort(t, (size_t)n, sizeof *t, by_value);
    return t[n / 2];
}

int main(int argc, char **argv)
{
    choose_blas_core(argv);
    const int64_t B = argc > 1 ? atoll(argv[1]) : 256, D = argc > 2 ? atoll(argv[2]) : 256;
    const int64_t L = argc > 3 ? atoll(argv[3]) : 65536;
    hr_ctx_options co = hr_ctx_options_default();
    co.threads = argc > 4 ? atoi(argv[4]) : 1;
    const int rounds = argc > 5 ? atoi(argv[5]) : 7;
    co.isa = argc > 6 ? argv[6] : "auto";
    hr_ctx *ctx;
    if (rounds < 1 || rounds > MOST_ROUNDS || hr_ctx_create(&co, &ctx) != HR_OK)
        return 64;
    openblas_set_num_threads(co.threads);

    static const char *const names[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r", "e3m4"};
    enum { TYPES = sizeof names / sizeof *names };
    hr_head *head[TYPES];
    for (int i = 0; i < TYPES; i++) {
        hr_head_options o = {.labels = L, .dim = D, .max_batch = B, .training = true, .num_segments = 1, .init = 0.05f,
                             .bias_value = -6, .seed = 1};
        o.segment[0] = (hr_segment_options){.rows = L, .lr_scale = 1};
        hr_dtype_parse(names[i], &o.segment[0].dtype);
        o.segment[0].scale_log2 = o.segment[0].dtype.bytes == 1 && o.segment[0].dtype.id != HR_I8R ? 6 : 0;
        if (hr_head_create(ctx, &o, &head[i]) != HR_OK) {
            fprintf(stderr, "%s\n", hr_ctx_message(ctx));
            return 71;
        }
    }
    float *x = randoms(B * D, 1, 2), *dx = malloc((size_t)(B * D) * sizeof *dx), *w = randoms(L * D, 0.05f, 3);
    float *z = malloc((size_t)(B * CHUNK) * sizeof *z);
    const int64_t npos = B * 4;
    uint64_t *pos = malloc((size_t)npos * sizeof *pos);
    for (int64_t i = 0; i < npos; i++)
        pos[i] = (uint64_t)(i * (L / npos)) << 32 | (uint64_t)(i % B);
    const hr_head_batch batch = {.rows = B, .x = x, .num_positives = npos, .positives = pos};

    static double base[MOST_ROUNDS], ours[TYPES][MOST_ROUNDS];
    for (int r = -1; r < rounds; r++) {
        double t = hr_clock();
        blas_step(B, D, L, x, w, z, dx, pos, npos, 0.01f);
        if (r >= 0)
            base[r] = hr_clock() - t;
        for (int i = 0; i < TYPES; i++) {
            t = hr_clock();
            if (hr_head_step(head[i], &batch, 0.01f, (uint64_t)(r + 2), dx, NULL) != HR_OK)
                return 70;
            if (r >= 0)
                ours[i][r] = hr_clock() - t;
        }
    }
    const double flop = 6.0 * (double)B * (double)D * (double)L, m = median(base, rounds);
    printf("B %lld  D %lld  L %lld  threads %d  isa %s  rounds %d\n", (long long)B, (long long)D, (long long)L, co.threads,
           hr_ctx_isa(ctx), rounds);
    printf("%-10s %9.1f ms  %6.1f GF/s  (%s kernels)\n", "openblas", m * 1e3, flop / m * 1e-9, openblas_get_corename());
    for (int i = 0; i < TYPES; i++) {
        const double t = median(ours[i], rounds);
        printf("%-10s %9.1f ms  %6.1f GF/s  %.2fx  (spread %.2f)\n", names[i], t * 1e3, flop / t * 1e-9, m / t,
               ours[i][rounds - 1] / ours[i][0]);
        hr_head_destroy(head[i]);
    }
    free(x), free(dx), free(w), free(z), free(pos);
    hr_ctx_destroy(ctx);
    return 0;
}
