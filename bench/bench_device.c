/* The training step of a head on a device: time, what its parts take, memory planned and taken.
 *
 *   bench_device [DEVICE [L D B [TYPE [rounds]]]]       bench_device cuda 2812281 768 128 e4m3 20
 *
 * One JSON object. X and dX go between host and device in every step, as in a run; parts_ms is of one more step, which is not recorded as a graph, and
 * leaves out copies. Weights and X are noise; three positives an instance. */
#include "machine.h"

#include "backend/device.h"
#include "base/rng.h"
#include "head/head.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 200, WARM = 3 };

static int64_t number(int argc, char **argv, int i, int64_t otherwise)
{
    return argc > i ? atoll(argv[i]) : otherwise;
}

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Three different labels for each instance, ascending. */
static int64_t make_positives(int64_t L, int64_t B, uint64_t *positives)
{
    int64_t count = 0;
    for (int64_t b = 0; b < B; b++)
        for (uint64_t i = 0; i < 3; i++)
            positives[count++] = ((uint64_t)(b * 7919) * 104729 + i * (uint64_t)(L / 3)) % (uint64_t)L << 32 | (uint64_t)b;
    qsort(positives, (size_t)count, sizeof *positives, by_value);
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++)
        if (i == 0 || positives[i] != positives[i - 1])
            positives[kept++] = positives[i];
    return kept;
}

static int run(hr_ctx *ctx, hr_device *device, const char *name, const char *type, int64_t L, int64_t D, int64_t B, int rounds)
{
    hr_head_options o = {.labels = L, .dim = D, .max_batch = B, .training = true, .num_segments = 1, .bias_value = -12, .seed = 1,
                         .device = device};
    o.segment[0] = (hr_segment_options){.rows = L, .lr_scale = 1, .init = 0.05f};
    if (!hr_dtype_parse(type, &o.segment[0].dtype)) {
        fprintf(stderr, "bench_device: unknown type %s\n", type);
        return 64;
    }
    o.segment[0].scale_log2 = o.segment[0].dtype.bytes == 1 && o.segment[0].dtype.id != HR_I8R ? 6 : 0;
    const size_t planned = device ? hr_head_device_memory(&o) + hr_device_overhead(device) : 0; /* before there is a head */
    hr_head *head;
    if (hr_head_create(ctx, &o, &head) != HR_OK) {
        fprintf(stderr, "bench_device: %s\n", hr_ctx_message(ctx));
        return 71;
    }
    float *x = malloc((size_t)(B * D) * sizeof *x), *dx = malloc((size_t)(B * D) * sizeof *dx);
    uint64_t *positives = malloc((size_t)(3 * B) * sizeof *positives);
    const hr_rng rng = hr_rng_make(2, 0, 0, HR_STREAM_INIT);
    for (int64_t i = 0; i < B * D; i++)
        x[i] = ((float)hr_rng_draw16(rng, (uint32_t)(i / D), (uint32_t)(i % D)) / 32768.0f - 1.0f) * 0.0625f;
    const hr_head_batch batch = {.rows = B, .x = x, .num_positives = make_positives(L, B, positives), .positives = positives};
    double ms[MOST_ROUNDS];
    hr_status st = HR_OK;
    for (int r = 0; r < rounds + WARM && st == HR_OK; r++) {
        const double begin = bench_now().wall;
        st = hr_head_step(head, &batch, 8, (uint64_t)r, dx, NULL);
        if (r >= WARM)
            ms[r - WARM] = 1e3 * (bench_now().wall - begin);
    }
    char parts[4096] = "{}", about[96] = "processor";
    if (device && st == HR_OK) {
        device->ops->describe(device, about);
        device->ops->profile(device, true, NULL, 0);
        st = hr_head_step(head, &batch, 8, (uint64_t)(rounds + WARM), dx, NULL);
        device->ops->profile(device, false, parts, sizeof parts);
    }
    if (st != HR_OK)
        fprintf(stderr, "bench_device: %s\n", hr_ctx_message(ctx));
    else
        printf("{\"bench\":\"device\",\"device\":\"%s\",\"name\":\"%s\",\"type\":\"%s\",\"L\":%lld,\"D\":%lld,\"B\":%lld,\"rounds\":%d,\"step_ms\":%.4g,"
               "\"weights\":%lld,\"planned\":%zu,\"peak\":%zu,\"parts_ms\":%s}\n", name, about, type, (long long)L, (long long)D, (long long)B, rounds,
               bench_median(ms, rounds), (long long)(L * D) * (long long)o.segment[0].dtype.bytes,
               planned, hr_device_peak(device), parts);
    free(x), free(dx), free(positives);
    hr_head_destroy(head);
    return st == HR_OK ? 0 : 70;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "cuda", *type = argc > 5 ? argv[5] : "e4m3";
    const int64_t L = number(argc, argv, 2, 131072), D = number(argc, argv, 3, 768), B = number(argc, argv, 4, 128);
    const int rounds = (int)number(argc, argv, 6, 20);
    hr_ctx *ctx;
    hr_device *device;
    if (L < 3 || D < 1 || B < 1 || rounds < 1 || rounds > MOST_ROUNDS) {
        fprintf(stderr, "usage: bench_device [DEVICE [L D B [TYPE [rounds]]]]\n");
        return 64;
    }
    if (hr_ctx_create(NULL, &ctx) != HR_OK)
        return 71;
    int status = 69;
    if (hr_device_open(ctx, name, &device) != HR_OK)
        fprintf(stderr, "bench_device: %s\n", hr_ctx_message(ctx));
    else
        status = run(ctx, device, name, type, L, D, B, rounds);
    hr_device_close(status == 69 ? NULL : device);
    hr_ctx_destroy(ctx);
    return status;
}
