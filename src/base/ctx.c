/* The context and its allocator, message, log and fault hooks. The thread pool is in pool.c.
 *
 * Each block carries a 64-byte header with its size and kind, so that freeing needs only the pointer and every
 * byte is accounted for. Blocks of 4 MiB and more come straight from mmap: fresh zero pages, returned at once. */
#define _GNU_SOURCE 1
#include "base/ctx.h"

#include "base/pool.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#elif defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

enum { MESSAGE_MAX = 2048, HEADER = 64, LOG_LINE_MAX = 2048, GROUP_MAX = 4096 };
static const size_t map_threshold = (size_t)4 << 20;

typedef struct block_header {
    size_t bytes;  /* asked for */
    size_t mapped; /* length of the mapping, 0: from malloc */
    hr_mem_kind kind;
    uint32_t magic;
} block_header;

static const uint32_t block_magic = 0x68726d65;

struct hr_ctx {
    pthread_mutex_t lock; /* message, fault counters, memory counters, log */
    char message[MESSAGE_MAX];
    atomic_int interrupted; /* set by signal handlers and any thread: must be lock-free */
    hr_mem_report memory;
    int64_t fault_after[HR_FAULTS];
    bool fault_persistent[HR_FAULTS];
    hr_log_fn *log;
    void *log_user;
    hr_isa isa;
    hr_pool *pool;
    int threads;
};

_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "hr_ctx_interrupt must be async-signal-safe");

/* ---- failing ---- */

hr_status hr_fail(hr_ctx *ctx, hr_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&ctx->lock);
    vsnprintf(ctx->message, sizeof ctx->message, format, args);
    if (status == HR_INTERRUPTED) /* the request is answered */
        atomic_store(&ctx->interrupted, 0);
    pthread_mutex_unlock(&ctx->lock);
    va_end(args);
    return status;
}

const char *hr_ctx_message(const hr_ctx *ctx)
{
    return ctx->message;
}

const char *hr_status_name(hr_status status)
{
    switch (status) {
    case HR_OK: return "HR_OK";
    case HR_ERR_USAGE: return "HR_ERR_USAGE";
    case HR_ERR_DATA: return "HR_ERR_DATA";
    case HR_ERR_NOINPUT: return "HR_ERR_NOINPUT";
    case HR_ERR_DEVICE: return "HR_ERR_DEVICE";
    case HR_ERR_BUG: return "HR_ERR_BUG";
    case HR_ERR_NOMEM: return "HR_ERR_NOMEM";
    case HR_ERR_CANTCREATE: return "HR_ERR_CANTCREATE";
    case HR_ERR_IO: return "HR_ERR_IO";
    case HR_INTERRUPTED: return "HR_INTERRUPTED";
    case HR_ERR_NUMERIC: return "HR_ERR_NUMERIC";
    case HR_ERR_PERMISSION: return "HR_ERR_PERMISSION";
    case HR_ERR_CONFIG: return "HR_ERR_CONFIG";
    }
    return "unknown status";
}

/* ---- memory ---- */

static const char *const kind_names[HR_MEM_KINDS] = {
    [HR_MEM_HEAD_WEIGHTS] = "head weights",       [HR_MEM_HEAD_STATE] = "head state",
    [HR_MEM_HEAD_SCRATCH] = "head scratch",       [HR_MEM_ENCODER_WEIGHTS] = "encoder weights",
    [HR_MEM_ENCODER_STATE] = "encoder state",     [HR_MEM_ENCODER_SCRATCH] = "encoder scratch",
    [HR_MEM_BATCH] = "batch",                     [HR_MEM_DATASET] = "data set",
    [HR_MEM_CHECKPOINT] = "checkpoint",           [HR_MEM_EVAL] = "evaluation",
    [HR_MEM_OTHER] = "other",
};

const char *hr_mem_kind_name(hr_mem_kind kind)
{
    return (unsigned)kind < HR_MEM_KINDS ? kind_names[kind] : "unknown kind";
}

static void account(hr_ctx *ctx, hr_mem_kind kind, size_t add, size_t take)
{
    pthread_mutex_lock(&ctx->lock);
    hr_mem_report *m = &ctx->memory;
    m->now[kind] += add;
    m->now[kind] -= take;
    m->now_total += add;
    m->now_total -= take;
    if (m->now[kind] > m->peak[kind])
        m->peak[kind] = m->now[kind];
    if (m->now_total > m->peak_total)
        m->peak_total = m->now_total;
    if (add)
        m->calls++;
    pthread_mutex_unlock(&ctx->lock);
}

enum { HUGE_FROM = 8 << 20 };

static void *allocate(hr_ctx *ctx, hr_mem_kind kind, size_t bytes, bool zero)
{
    size_t total = hr_add(bytes, HEADER);
    block_header *head = NULL;
    size_t mapped = 0;
    if (!hr_ctx_fault(ctx, HR_FAULT_ALLOC) && total < SIZE_MAX / 2) {
        if (total >= map_threshold) {
            mapped = hr_round_up(total, 4096);
            void *p = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            head = p == MAP_FAILED ? NULL : p;
#ifdef MADV_HUGEPAGE
            if (head && mapped >= HUGE_FROM)
                (void)madvise(head, mapped, MADV_HUGEPAGE); /* fewer page faults and TLB misses; a wish only */
#endif
        } else {
            head = aligned_alloc(HEADER, hr_round_up(total, HEADER));
            if (head && zero)
                memset(head, 0, total);
        }
    }
    if (!head) {
        hr_fail(ctx, HR_ERR_NOMEM, "no memory: %zu bytes for %s", bytes, hr_mem_kind_name(kind));
        return NULL;
    }
    *head = (block_header){.bytes = bytes, .mapped = mapped, .kind = kind, .magic = block_magic};
    account(ctx, kind, bytes, 0);
    return (uint8_t *)head + HEADER;
}

void *hr_alloc(hr_ctx *ctx, hr_mem_kind kind, size_t bytes)
{
    return allocate(ctx, kind, bytes, false);
}

void *hr_calloc(hr_ctx *ctx, hr_mem_kind kind, size_t count, size_t size)
{
    return allocate(ctx, kind, hr_mul(count, size), true);
}

static block_header *header_of(void *block)
{
    return (block_header *)(void *)((uint8_t *)block - HEADER);
}

void *hr_realloc(hr_ctx *ctx, hr_mem_kind kind, void *block, size_t bytes)
{
    void *fresh = hr_alloc(ctx, kind, bytes);
    if (!fresh || !block)
        return fresh;
    size_t old = header_of(block)->bytes;
    memcpy(fresh, block, old < bytes ? old : bytes);
    hr_free(ctx, block);
    return fresh;
}

void hr_free(hr_ctx *ctx, void *block)
{
    if (!block)
        return;
    block_header *head = header_of(block);
    if (head->magic != block_magic)
        abort(); /* our own mistake: not a block of hr_alloc, or freed twice */
    head->magic = 0;
    account(ctx, head->kind, 0, head->bytes);
    const size_t mapped = head->mapped;
#if defined(__SANITIZE_ADDRESS__)
    if (mapped)
        ASAN_UNPOISON_MEMORY_REGION(head, mapped); /* what its owner forbade of it; free does that itself, munmap does not */
#endif
    if (mapped)
        munmap(head, mapped);
    else
        free(head);
}

char *hr_strdup(hr_ctx *ctx, hr_mem_kind kind, const char *text)
{
    size_t n = strlen(text) + 1;
    char *copy = hr_alloc(ctx, kind, n);
    return copy ? memcpy(copy, text, n) : NULL;
}

/* The number that a small file such as a cgroup limit begins with; SIZE_MAX when there is none ("max"). */
static size_t read_number(const char *path)
{
    char line[64] = "", *end;
    FILE *f = fopen(path, "re");
    if (!f)
        return SIZE_MAX;
    const bool got = fgets(line, sizeof line, f) != NULL;
    fclose(f);
    const unsigned long long v = strtoull(line, &end, 10);
    return got && end != line ? (size_t)v : SIZE_MAX;
}

/* The smallest limit of a cgroup and its parents; cuts `group` to "". Groups that are not visible here have none. */
static size_t group_limit(const char *root, char *group, const char *file)
{
    size_t limit = SIZE_MAX;
    for (char *slash = group; slash;) {
        char path[GROUP_MAX + 128];
        snprintf(path, sizeof path, "%s%s/%s", root, group, file);
        const size_t v = read_number(path);
        limit = v < limit ? v : limit;
        slash = strrchr(group, '/');
        if (slash)
            *slash = 0;
    }
    return limit;
}

/* Whether a list such as "cpu,memory" names the memory controller. */
static bool names_memory(const char *list)
{
    for (const char *at = list; (at = strstr(at, "memory")) != NULL; at += 6)
        if ((at == list || at[-1] == ',') && (at[6] == 0 || at[6] == ','))
            return true;
    return false;
}

/* One line of /proc/self/cgroup: "0::/path" (version 2) or "4:memory:/path" (version 1). */
static size_t line_limit(char *line)
{
    char *list = strchr(line, ':'), *group = list ? strchr(list + 1, ':') : NULL;
    if (!group)
        return SIZE_MAX;
    *list++ = *group++ = 0;
    group[strcspn(group, "\n")] = 0;
    if (*list == 0)
        return group_limit("/sys/fs/cgroup", group, "memory.max");
    return names_memory(list) ? group_limit("/sys/fs/cgroup/memory", group, "memory.limit_in_bytes") : SIZE_MAX;
}

size_t hr_machine_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t limit = pages > 0 && page > 0 ? hr_mul((size_t)pages, (size_t)page) : SIZE_MAX;
    char line[GROUP_MAX];
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        const size_t v = line_limit(line);
        limit = v < limit ? v : limit;
    }
    if (f)
        fclose(f);
    return limit;
}

size_t hr_process_rss(void)
{
    /* "size resident ..." in pages; read without stdio, which would allocate at each line of a training log */
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = 0;
    const char *space = strchr(text, ' ');
    return space ? (size_t)strtoull(space, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

void hr_ctx_memory(const hr_ctx *ctx, hr_mem_report *out)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)&ctx->lock;
    pthread_mutex_lock(lock);
    *out = ctx->memory;
    pthread_mutex_unlock(lock);
    struct rusage usage;
    out->rss_now = hr_process_rss();
    out->machine = hr_machine_memory();
    out->rss_peak = getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}

/* ---- faults ---- */

void hr_ctx_fail_next(hr_ctx *ctx, hr_fault what, int64_t k, bool persistent)
{
    pthread_mutex_lock(&ctx->lock);
    ctx->fault_after[what] = k;
    ctx->fault_persistent[what] = persistent;
    pthread_mutex_unlock(&ctx->lock);
}

bool hr_ctx_fault(hr_ctx *ctx, hr_fault what)
{
    pthread_mutex_lock(&ctx->lock);
    bool fail = ctx->fault_after[what] == 1;
    if (ctx->fault_after[what] > 1 || (fail && !ctx->fault_persistent[what]))
        ctx->fault_after[what]--;
    pthread_mutex_unlock(&ctx->lock);
    return fail;
}

/* ---- log, stop, clock ---- */

void hr_log(hr_ctx *ctx, hr_log_level level, const char *format, ...)
{
    if (!ctx->log)
        return;
    char line[LOG_LINE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->log(ctx->log_user, level, line);
}

void hr_ctx_interrupt(hr_ctx *ctx)
{
    atomic_store(&ctx->interrupted, 1);
}

bool hr_ctx_interrupted(const hr_ctx *ctx)
{
    return atomic_load(&ctx->interrupted) != 0;
}

void hr_ctx_interrupt_clear(hr_ctx *ctx)
{
    atomic_store(&ctx->interrupted, 0);
}

double hr_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- instruction sets ---- */

#if defined(__aarch64__)
static const char *const isa_names[HR_ISAS] = {"ref", "neon"};
#else
static const char *const isa_names[HR_ISAS] = {"ref", "avx2", "avx512", "avx512vnni", "avx512bf16", "amx"};
#endif

const char *hr_isa_name(hr_isa isa)
{
    return (unsigned)isa < HR_ISAS ? isa_names[isa] : "unknown isa";
}

#if defined(__x86_64__)
/* Linux hands out the tile registers on request, to the whole process and for good (arch_prctl(2)): asked only by a context that wants them. */
enum { GET_XCOMP_SUPP = 0x1021, REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };

static bool has_tiles(void)
{
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || !(edx >> 24 & 1) || !(edx >> 25 & 1)) /* AMX-TILE, AMX-INT8 */
        return false;
    uint64_t supported = 0;
    return syscall(SYS_arch_prctl, GET_XCOMP_SUPP, &supported) == 0 && (supported >> TILE_DATA & 1);
}

static bool take_tiles(void)
{
    return syscall(SYS_arch_prctl, REQ_XCOMP_PERM, TILE_DATA) == 0;
}
#endif

hr_isa hr_isa_detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init(); /* also asks the operating system (xgetbv) */
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma"))
        return HR_ISA_REF;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return HR_ISA_AVX2;
    if (!__builtin_cpu_supports("avx512vnni"))
        return HR_ISA_AVX512;
    if (!__builtin_cpu_supports("avx512bf16") || !__builtin_cpu_supports("avx512vbmi"))
        return HR_ISA_AVX512VNNI;
    return has_tiles() ? HR_ISA_AMX : HR_ISA_AVX512BF16;
#elif defined(__aarch64__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? HR_ISA_NEON : HR_ISA_REF;
#else
    return HR_ISA_REF;
#endif
}

/* The level of "auto": the best one that has been tested on hardware. */
static hr_isa best_proven(void)
{
    const hr_isa best = hr_isa_detect();
#if defined(__x86_64__)
    return best == HR_ISA_AMX ? HR_ISA_AVX512BF16 : best;
#else
    return best;
#endif
}

const char *hr_isa_level(int level)
{
    return level >= 0 && level < HR_ISAS ? isa_names[level] : NULL;
}

/* "auto" or NULL: the best proven level. HR_ERR_USAGE: no such name; HR_ERR_DEVICE: the machine cannot. */
static hr_status choose_isa(const char *wanted, hr_isa *out)
{
    hr_isa best = hr_isa_detect();
    *out = best_proven();
    if (!wanted || strcmp(wanted, "auto") == 0)
        return HR_OK;
    for (int i = 0; i < HR_ISAS; i++)
        if (strcmp(wanted, isa_names[i]) == 0) {
            *out = (hr_isa)i;
#if defined(__x86_64__)
            if (i == HR_ISA_AMX && best == HR_ISA_AMX && !take_tiles())
                return HR_ERR_DEVICE;
#endif
            return (hr_isa)i <= best ? HR_OK : HR_ERR_DEVICE;
        }
    return HR_ERR_USAGE;
}

/* ---- creation ---- */

const char *hr_version(void)
{
    return "0.1.0";
}

hr_ctx_options hr_ctx_options_default(void)
{
    return (hr_ctx_options){.threads = 0, .isa = "auto"};
}

hr_status hr_ctx_create(const hr_ctx_options *options, hr_ctx **out)
{
    *out = NULL;
    hr_ctx_options o = options ? *options : hr_ctx_options_default();
    hr_isa isa;
    hr_status st = choose_isa(o.isa, &isa);
    if (st != HR_OK)
        return st;
    if (o.threads < 0 || o.threads > 1024)
        return HR_ERR_USAGE;
    hr_ctx *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return HR_ERR_NOMEM;
    pthread_mutex_init(&ctx->lock, NULL);
    ctx->log = o.log;
    ctx->log_user = o.log_user;
    ctx->isa = isa;
    ctx->threads = o.threads ? o.threads : hr_pool_processors();
    ctx->pool = hr_pool_create(ctx->threads);
    if (!ctx->pool) {
        hr_ctx_destroy(ctx);
        return HR_ERR_NOMEM;
    }
    *out = ctx;
    return HR_OK;
}

void hr_ctx_destroy(hr_ctx *ctx)
{
    if (!ctx)
        return;
    hr_pool_destroy(ctx->pool);
    pthread_mutex_destroy(&ctx->lock);
    free(ctx);
}

int hr_ctx_threads(const hr_ctx *ctx)
{
    return ctx->threads;
}

const char *hr_ctx_isa(const hr_ctx *ctx)
{
    return hr_isa_name(ctx->isa);
}

hr_isa hr_ctx_isa_level(const hr_ctx *ctx)
{
    return ctx->isa;
}

void hr_parallel_for(hr_ctx *ctx, int64_t tasks, hr_task_fn *fn, void *arg)
{
    hr_pool_run(ctx->pool, tasks, fn, arg);
}
