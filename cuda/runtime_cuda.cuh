/* The runtime of a device, as the files of cuda/ see it. */
#ifndef HRC_RUNTIME_CUDA_CUH
#define HRC_RUNTIME_CUDA_CUH

#include <cublasLt.h>
#include <cuda_runtime.h>

extern "C" {
#include "cuda/runtime.h"
}

enum { HRC_PLANS = 32, HRC_ALLOCATIONS = 64, HRC_MARKS = 16384, HRC_RECORDS = 16 };

typedef struct hrc_allocation {
    void *device;
    size_t bytes;
} hrc_allocation;

/* A matrix product that was asked for before, and how the library does it. */
struct hrc_plan {
    hrc_product product;
    hrc_operand type;
    int64_t m, n, k, a_pitch, b_pitch, c_pitch;
    bool add;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c; /* of the library's operands: columns first, so B is its first one */
    cublasLtMatmulAlgo_t algo;
};

/* A part of the work whose time is noted: between two events. */
struct hrc_mark {
    const char *name;
    cudaEvent_t begin, end;
};

/* Work under a key: seen once, then recorded, then replayed. */
struct hrc_record {
    uint64_t key;
    cudaGraphExec_t graph;
};

struct hrc_runtime {
    hr_ctx *ctx;
    cudaStream_t stream;
    cublasLtHandle_t lt;
    void *workspace;
    size_t workspace_bytes, allocated, peak, total, overhead;
    char name[96];
    float *numbers;      /* on the device: 0, 1 */
    hr_status failed;
    hrc_record record[HRC_RECORDS];
    hrc_record *recording; /* what is being recorded, or NULL */
    int next_record;
    uint64_t next_key;
    hrc_mark *mark;      /* (HRC_MARKS) while it profiles, else NULL */
    int marks;
    hrc_allocation block[HRC_ALLOCATIONS];
    hrc_plan plan[HRC_PLANS];
    int plans, next_plan;
};

/* Whether `rt` has not failed and `error` is none; else the failure is kept with its message. */
bool hrc_good(hrc_runtime *rt, cudaError_t error, const char *what);

/* Around each part of the work: it takes time only while the runtime profiles. */
void hrc_begin(hrc_runtime *rt, const char *name);
void hrc_end(hrc_runtime *rt);

/* Blocks of HRC_THREADS threads, one for each 8 elements or so. */
#define HRC_LAUNCH(rt, kernel, blocks, ...)                                                                            \
    do {                                                                                                               \
        const int hrc_blocks_wanted = (blocks);                                                                        \
        if (hrc_blocks_wanted > 0 && (rt)->failed == HR_OK) {                                                          \
            hrc_begin((rt), #kernel);                                                                                  \
            kernel<<<hrc_blocks_wanted, HRC_THREADS, 0, (rt)->stream>>>(__VA_ARGS__);                                  \
            hrc_end(rt);                                                                                               \
            hrc_good((rt), cudaGetLastError(), #kernel);                                                               \
        }                                                                                                              \
    } while (0)

#endif
