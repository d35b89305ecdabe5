/* What the host does with a device: memory, copies, matrix products, all in the order of the calls. Two implementations: runtime_cuda.cu, and
 * one of the tests, which runs everything on the processor (tests/cuda/runtime_emulated.cpp).
 *
 * Pointers named device_* are of the device; the host does not look behind them. Work is asked for and done later, except where it says "waits". A
 * failure is remembered, later calls do nothing, and hrc_wait tells it. */
#ifndef HRC_RUNTIME_H
#define HRC_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#include "base/ctx.h"

typedef struct hrc_runtime hrc_runtime;

/* Device `ordinal`, with a stream of its own. `workspace`: bytes that the matrix products may use. */
hr_status hrc_open(hr_ctx *ctx, int ordinal, size_t workspace, hrc_runtime **out);
void hrc_close(hrc_runtime *rt);
hr_ctx *hrc_ctx(const hrc_runtime *rt);

/* Memory of zeros; waits. NULL with a message when there is none. */
void *hrc_alloc(hrc_runtime *rt, size_t bytes);
void hrc_free(hrc_runtime *rt, void *device);
size_t hrc_allocated(const hrc_runtime *rt); /* bytes now */
size_t hrc_peak(const hrc_runtime *rt);
size_t hrc_total(const hrc_runtime *rt);     /* what the device has */
size_t hrc_overhead(const hrc_runtime *rt);  /* what opening it took besides hrc_allocated: the context */
void hrc_describe(const hrc_runtime *rt, char text[96]);

/* See hr_device_ops.profile; `text` may be NULL. */
void hrc_profile(hrc_runtime *rt, bool on, char *text, size_t bytes);

/* Host memory may be used again when the call returns (upload), or after hrc_wait (download). Rows: `bytes` of each, pitches in bytes. */
void hrc_upload(hrc_runtime *rt, void *device, const void *host, size_t bytes);
void hrc_upload_rows(hrc_runtime *rt, void *device, size_t device_pitch, const void *host, size_t host_pitch, size_t bytes, int64_t rows);
void hrc_download_rows(hrc_runtime *rt, void *host, size_t host_pitch, const void *device, size_t device_pitch, size_t bytes, int64_t rows);
void hrc_zero(hrc_runtime *rt, void *device, size_t bytes);
/* Work that is asked for again and again in the same way, on the same memory, is recorded once under a key. True: it has been asked for, and there is
 * nothing left to do. False: the caller asks for it now, and says hrc_recorded after it. Uploads and downloads do not belong into it. */
bool hrc_replay(hrc_runtime *rt, uint64_t key);
void hrc_recorded(hrc_runtime *rt);
uint64_t hrc_new_key(hrc_runtime *rt); /* one that nobody had before, a multiple of 2^24 */
/* Until all is done that was asked for. The first failure since the last wait, with its message in the context. */
hr_status hrc_wait(hrc_runtime *rt);

/* ---- matrix products ---- */

typedef enum hrc_operand { HRC_F16, HRC_BF16, HRC_F32 } hrc_operand;

/* Row-major, numbers from one row to the next beside each pointer. C is f32; sums are f32. *device_alpha scales the product; with `add` it is
 * added to C, else it takes C's place.
 *   nt: C (m, n) = A (m, k) B (n, k)^T      tn: C (m, n) = A (k, m)^T B (k, n)      nn: C (m, n) = A (m, k) B (k, n) */
typedef enum hrc_product { HRC_NT, HRC_TN, HRC_NN } hrc_product;
typedef struct hrc_matrix {
    const void *device;
    int64_t pitch;
} hrc_matrix;
void hrc_gemm(hrc_runtime *rt, hrc_product product, hrc_operand type, int64_t m, int64_t n, int64_t k, const float *device_alpha, hrc_matrix a,
              hrc_matrix b, bool add, float *device_c, int64_t c_pitch);

#endif
