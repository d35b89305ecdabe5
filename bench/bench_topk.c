/* Scoring: the time of the k best labels for 1, 2, 32 and 256 queries, beside the time to read the codes once.
 *
 *   bench_topk [L D K [threads [rounds [isa]]]]
 *
 * Weights are uniform noise, the worst case for the search: no label stands out. The reading is a sum over all codes in wide vectors,
 * by one thread, in the same process and in turns. */
#include "machine.h"

#include "base/ctx.h"
#include "base/rng.h"
#include "head/head.h"

#include <stdio.h>
#include <stdlib.h>

static volatile uint64_t sink; /* so that the reading is not left out */
enum { MOST_BATCH = 256, MOST_ROUNDS = 64 };

typedef uint64_t words __attribute__((vector_size(64), aligned(8), may_alias));

__attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4"))) static uint64_t read_all(const void *codes, size_t bytes)
{
    const words *p = codes;
    words sum[4] = {{0}};
    for (size_t i = 0; i + 4 <= bytes / sizeof *p; i += 4)
        for (size_t j = 0; j < 4; j++) {
            __builtin_prefetch(p + i + j + 128); /* 8 KiB ahead, as in the kernel that is compared */
            sum[j] += p[i + j];
        }
    sum[0] += sum[1] + sum[2] + sum[3];
    return sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3] + sum[0][4] + sum[0][5] + sum[0][6] + sum[0][7];
}

static int measure(hr_ctx *ctx, const char *type, int64_t L, int64_t D, int64_t K, int rounds)
{
    hr_head_options o = {.labels = L, .dim = D, .max_batch = MOST_BATCH, .training = true, .num_segments = 1, .seed = 1,
                         .gradient = HR_GRADIENT_SPARSE};
    o.segment[0] = (hr_segment_options){.rows = L, .lr_scale = 1, .init = 0.1f};
    hr_dtype_parse(type, &o.segment[0].dtype);
    o.segment[0].scale_log2 = o.segment[0].dtype.id == HR_E4M3 ? 6 : 0;
    hr_head *head;
    hr_head_topk *work;
    if (hr_head_create(ctx, &o, &head) != HR_OK || hr_head_topk_create(ctx, MOST_BATCH, K, &work) != HR_OK) {
        fprintf(stderr, "%s\n", hr_ctx_message(ctx));
        return 71;
    }
    hr_tensor_list list = {0};
    hr_head_tensors(head, &list);
    const size_t bytes = (size_t)(list.item[0].rows * list.item[0].cols) * o.segment[0].dtype.bytes;
    uint32_t *external = malloc((size_t)L * sizeof *external), *ids = malloc((size_t)(MOST_BATCH * K) * sizeof *ids);
    float *scores = malloc((size_t)(MOST_BATCH * K) * sizeof *scores), *x = malloc((size_t)(MOST_BATCH * D) * sizeof *x);
    const hr_rng rng = hr_rng_make(2, 0, 0, HR_STREAM_INIT);
    for (int64_t l = 0; l < L; l++)
        external[l] = (uint32_t)l;
    for (int64_t i = 0; i < MOST_BATCH * D; i++)
        x[i] = (float)hr_rng_draw16(rng, (uint32_t)(i / D), (uint32_t)(i % D)) / 32768.0f - 1.0f;
    static const int64_t batches[] = {1, 2, 32, MOST_BATCH};
    int status = 0;
    for (int b = 0; b < 4 && status == 0; b++) {
        double reading[MOST_ROUNDS], scoring[MOST_ROUNDS];
        for (int r = -1; r < rounds; r++) {
            double t = hr_clock();
            sink += read_all(list.item[0].data, bytes);
            reading[r < 0 ? 0 : r] = hr_clock() - t;
            t = hr_clock();
            if (hr_head_top(head, work, batches[b], x, K, external, ids, scores, NULL, NULL) != HR_OK)
                status = 70;
            scoring[r < 0 ? 0 : r] = hr_clock() - t;
        }
        const double read = bench_median(reading, rounds), score = bench_median(scoring, rounds);
        printf("%-5s batch %3lld  %8.2f ms  (%.3f ms a query)  reading the codes once %6.2f ms (%.1f GB/s), ratio %.2f\n", type,
               (long long)batches[b], score * 1e3, score * 1e3 / (double)batches[b], read * 1e3, (double)bytes / read * 1e-9, read / score);
    }
    free(external), free(ids), free(scores), free(x);
    hr_head_topk_destroy(ctx, work);
    hr_head_destroy(head);
    return status;
}

int main(int argc, char **argv)
{
    const int64_t L = argc > 1 ? atoll(argv[1]) : 670091, D = argc > 2 ? atoll(argv[2]) : 768, K = argc > 3 ? atoll(argv[3]) : 10;
    hr_ctx_options o = hr_ctx_options_default();
    o.threads = argc > 4 ? atoi(argv[4]) : 1;
    const int rounds = argc > 5 ? atoi(argv[5]) : 7;
    o.isa = argc > 6 ? argv[6] : "auto";
    hr_ctx *ctx;
    if (rounds < 1 || rounds > MOST_ROUNDS || hr_ctx_create(&o, &ctx) != HR_OK)
        return 64;
    printf("L %lld  D %lld  K %lld  threads %d  isa %s  rounds %d\n", (long long)L, (long long)D, (long long)K, o.threads,
           hr_ctx_isa(ctx), rounds);
    static const char *const types[] = {"e4m3", "i8r", "bf16"};
    int status = 0;
    for (int i = 0; i < 3 && status == 0; i++)
        status = measure(ctx, types[i], L, D, K, rounds);
    hr_ctx_destroy(ctx);
    return status;
}
