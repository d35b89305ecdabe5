/* The context: message, allocator with kinds, log, thread pool, stop flag, fault hooks.
 *
 * Everything that would be a global variable lives here. One context belongs to one thread of control;
 * hr_alloc, hr_free and hr_fail may also be called from its pool's workers. */
#ifndef HR_BASE_CTX_H
#define HR_BASE_CTX_H

#include "headroom.h"

#include <stdarg.h>

/* ---- failing ---- */

/* Keeps the sentence in place of the one before, and returns `status`. Of failures on several workers the last one
 * to come here is kept. Never allocates. */
hr_status hr_fail(hr_ctx *ctx, hr_status status, const char *format, ...) HR_PRINTF(3, 4);

/* Forwards a failure when there is nothing to release. */
#define HR_TRY(call)                                                                                                   \
    do {                                                                                                               \
        hr_status hr_try_status = (call);                                                                              \
        if (hr_try_status != HR_OK)                                                                                    \
            return hr_try_status;                                                                                      \
    } while (0)

/* ---- memory ---- */

/* Products and sums of sizes that stay at SIZE_MAX once they overflow; hr_alloc(SIZE_MAX) fails cleanly. */
static inline size_t hr_mul(size_t a, size_t b)
{
    size_t r;
    return __builtin_mul_overflow(a, b, &r) ? SIZE_MAX : r;
}
static inline size_t hr_add(size_t a, size_t b)
{
    size_t r;
    return __builtin_add_overflow(a, b, &r) ? SIZE_MAX : r;
}
static inline size_t hr_round_up(size_t a, size_t multiple)
{
    size_t r = hr_add(a, multiple - 1);
    return r == SIZE_MAX ? r : r / multiple * multiple;
}

/* `bytes` at a 64-byte boundary, content undefined; NULL with the message set when there is no memory.
 * 0 bytes gives a pointer that may be freed. */
void *hr_alloc(hr_ctx *ctx, hr_mem_kind kind, size_t bytes);
/* count * size bytes of zeros; large blocks are fresh pages that cost memory only when touched. */
void *hr_calloc(hr_ctx *ctx, hr_mem_kind kind, size_t count, size_t size);
/* Grows or shrinks a block from hr_alloc (NULL is fine), keeping its content; on failure the old block stays. */
void *hr_realloc(hr_ctx *ctx, hr_mem_kind kind, void *block, size_t bytes);
void hr_free(hr_ctx *ctx, void *block);
char *hr_strdup(hr_ctx *ctx, hr_mem_kind kind, const char *text);

#define HR_NEW(ctx, kind, type) ((type *)hr_calloc((ctx), (kind), 1, sizeof(type)))
#define HR_ARRAY(ctx, kind, type, count) ((type *)hr_alloc((ctx), (kind), hr_mul((size_t)(count), sizeof(type))))
#define HR_ARRAY0(ctx, kind, type, count) ((type *)hr_calloc((ctx), (kind), (size_t)(count), sizeof(type)))

/* Memory this process may use: the smallest of the machine's and the limits of its cgroup and those above it, in bytes. */
size_t hr_machine_memory(void);
size_t hr_process_rss(void);

/* ---- faults, for tests ---- */

/* The k-th allocation (or file call) from now on fails, k = 1, 2, ...; 0: none. `persistent`: all later ones too. */
typedef enum hr_fault { HR_FAULT_ALLOC, HR_FAULT_FILE, HR_FAULTS } hr_fault;
void hr_ctx_fail_next(hr_ctx *ctx, hr_fault what, int64_t k, bool persistent);
/* Asked by the allocator and the file layer before each call: true means "fail now". */
bool hr_ctx_fault(hr_ctx *ctx, hr_fault what);

/* ---- log, stop, threads ---- */

void hr_log(hr_ctx *ctx, hr_log_level level, const char *format, ...) HR_PRINTF(3, 4);
bool hr_ctx_interrupted(const hr_ctx *ctx);
/* Drops a request that came too late to be answered. */
void hr_ctx_interrupt_clear(hr_ctx *ctx);

/* fn is called once for each task in [0, tasks), in any order, on any worker; `worker` in [0, threads) names the
 * scratch it may use and must not influence results. Not reentrant. */
typedef void hr_task_fn(void *arg, int64_t task, int worker);
void hr_parallel_for(hr_ctx *ctx, int64_t tasks, hr_task_fn *fn, void *arg);

/* ISA level, an index into the ladder of the processor's family. x86: ref < avx2 (with FMA and F16C) < avx512 (F, BW, DQ, VL) <
 * avx512vnni < avx512bf16 (with VBMI) < amx (int8). Arm: ref < neon (with the dot product of Armv8.2). */
#if defined(__aarch64__)
typedef enum hr_isa { HR_ISA_REF, HR_ISA_NEON, HR_ISAS } hr_isa;
#else
typedef enum hr_isa {
    HR_ISA_REF,
    HR_ISA_AVX2,
    HR_ISA_AVX512,
    HR_ISA_AVX512VNNI,
    HR_ISA_AVX512BF16,
    HR_ISA_AMX,
    HR_ISAS
} hr_isa;
#endif
hr_isa hr_ctx_isa_level(const hr_ctx *ctx);
const char *hr_isa_name(hr_isa isa);
/* The highest level this machine and its operating system can run. */
hr_isa hr_isa_detect(void);

/* Seconds on a clock that never goes back. */
double hr_clock(void);

#endif
