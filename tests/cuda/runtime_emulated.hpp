/* cuda/runtime.h on the processor: kernels run in the emulator, matrix products are plain loops. Memory is what malloc gives, so that the address
 * sanitizer sees each of its edges. Include once in a test. */
#ifndef HR_TESTS_CUDA_RUNTIME_EMULATED_HPP
#define HR_TESTS_CUDA_RUNTIME_EMULATED_HPP

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <map>
#include <set>

#include "cuda/emulator/emulator.h"

extern "C" {
#include "cuda/runtime.h"
}
#include "cuda/device.h"
#include "dtype/dtype.h"

struct hrc_runtime {
    hr_ctx *ctx;
    std::map<void *, size_t> memory;
    size_t allocated, peak;
    std::set<uint64_t> keys; /* of work that came to be recorded */
    uint64_t next_key;
    uint32_t order; /* of threads and blocks in the emulator */
};

#define HRC_LAUNCH(rt, kernel_function, number, ...)                                                                   \
    do {                                                                                                               \
        hre_launch launch;                                                                                             \
        launch.kernel = #kernel_function;                                                                              \
        launch.threads = HRC_THREADS;                                                                                  \
        launch.blocks = (number);                                                                                      \
        launch.order = (rt)->order;                                                                                    \
        if (launch.blocks > 0)                                                                                         \
            hre_run(launch, kernel_function, __VA_ARGS__);                                                             \
    } while (0)

extern "C" {

hr_status hrc_open(hr_ctx *ctx, int ordinal, size_t, hrc_runtime **out)
{
    *out = new hrc_runtime{ctx, {}, 0, 0, {}, 0, (uint32_t)ordinal};
    return HR_OK;
}
void hrc_close(hrc_runtime *rt)
{
    for (const auto &m : rt->memory)
        free(m.first);
    delete rt;
}
hr_ctx *hrc_ctx(const hrc_runtime *rt)
{
    return rt->ctx;
}
void *hrc_alloc(hrc_runtime *rt, size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    memset(p, 0, bytes);
    rt->memory[p] = bytes;
    rt->allocated += bytes;
    rt->peak = rt->peak > rt->allocated ? rt->peak : rt->allocated;
    return p;
}
void hrc_free(hrc_runtime *rt, void *p)
{
    if (p) {
        rt->allocated -= rt->memory.at(p);
        rt->memory.erase(p);
        free(p);
    }
}
size_t hrc_allocated(const hrc_runtime *rt)
{
    return rt->allocated;
}
size_t hrc_peak(const hrc_runtime *rt)
{
    return rt->peak;
}
size_t hrc_total(const hrc_runtime *)
{
    return (size_t)1 << 30;
}
size_t hrc_overhead(const hrc_runtime *)
{
    return 0;
}
void hrc_describe(const hrc_runtime *, char text[96])
{
    snprintf(text, 96, "emulator");
}
void hrc_profile(hrc_runtime *, bool, char *text, size_t bytes)
{
    if (text)
        snprintf(text, bytes, "{}");
}
void hrc_upload(hrc_runtime *, void *device, const void *host, size_t bytes)
{
    if (bytes > 0)
        memcpy(device, host, bytes);
}
void hrc_upload_rows(hrc_runtime *, void *device, size_t device_pitch, const void *host, size_t host_pitch, size_t bytes, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        memcpy((char *)device + (size_t)r * device_pitch, (const char *)host + (size_t)r * host_pitch, bytes);
}
void hrc_download_rows(hrc_runtime *, void *host, size_t host_pitch, const void *device, size_t device_pitch, size_t bytes, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++)
        memcpy((char *)host + (size_t)r * host_pitch, (const char *)device + (size_t)r * device_pitch, bytes);
}
void hrc_zero(hrc_runtime *, void *device, size_t bytes)
{
    memset(device, 0, bytes);
}
bool hrc_replay(hrc_runtime *rt, uint64_t key)
{
    rt->keys.insert(key);
    return false;
}
void hrc_recorded(hrc_runtime *)
{
}
uint64_t hrc_new_key(hrc_runtime *rt)
{
    return ++rt->next_key << 24;
}
hr_status hrc_wait(hrc_runtime *)
{
    return HR_OK;
}

} // extern "C"

static float operand_at(hrc_operand type, const void *p, int64_t i)
{
    return type == HRC_F16 ? hrc_f16_low(((const uint16_t *)p)[i]) : type == HRC_BF16 ? hr_bf16_decode(((const uint16_t *)p)[i])
                                                                                        : ((const float *)p)[i];
}

extern "C" void hrc_gemm(hrc_runtime *, hrc_product product, hrc_operand type, int64_t m, int64_t n, int64_t k, const float *alpha, hrc_matrix a,
                         hrc_matrix b, bool add, float *c, int64_t c_pitch)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum = fmaf(operand_at(type, a.device, product == HRC_TN ? l * a.pitch + i : i * a.pitch + l),
                           operand_at(type, b.device, product == HRC_NT ? j * b.pitch + l : l * b.pitch + j), sum);
            c[i * c_pitch + j] = *alpha * sum + (add ? c[i * c_pitch + j] : 0.0f);
        }
}

#endif
