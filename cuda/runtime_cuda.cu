/* runtime.h on a device: the CUDA runtime and cuBLASLt. */
#include "cuda/runtime_cuda.cuh"

#include <stdio.h>
#include <string.h>

bool hrc_good(hrc_runtime *rt, cudaError_t error, const char *what)
{
    if (rt->failed != HR_OK)
        return false;
    if (error != cudaSuccess) {
        (void)cudaGetLastError(); /* else the next launch would find it */
        rt->failed = hr_fail(rt->ctx, error == cudaErrorMemoryAllocation ? HR_ERR_NOMEM : HR_ERR_DEVICE, "device: %s: %s", what,
                             cudaGetErrorString(error));
    }
    return error == cudaSuccess;
}

static bool good(hrc_runtime *rt, cublasStatus_t status, const char *what)
{
    if (rt->failed != HR_OK)
        return false;
    if (status != CUBLAS_STATUS_SUCCESS)
        rt->failed = hr_fail(rt->ctx, HR_ERR_DEVICE, "device: %s: %s", what, cublasLtGetStatusString(status));
    return status == CUBLAS_STATUS_SUCCESS;
}

/* ---- how long parts take ---- */

void hrc_begin(hrc_runtime *rt, const char *name)
{
    if (!rt->mark || rt->marks == HRC_MARKS)
        return;
    hrc_mark *m = &rt->mark[rt->marks];
    m->name = name;
    if (hrc_good(rt, cudaEventCreate(&m->begin), "event") && hrc_good(rt, cudaEventCreate(&m->end), "event"))
        hrc_good(rt, cudaEventRecord(m->begin, rt->stream), "event");
}

void hrc_end(hrc_runtime *rt)
{
    if (rt->mark && rt->marks < HRC_MARKS)
        hrc_good(rt, cudaEventRecord(rt->mark[rt->marks++].end, rt->stream), "event");
}

/* The time of all marks of the name of mark i, or -1 when an earlier one has it. */
static double time_of(const hrc_runtime *rt, int i)
{
    double sum = 0;
    for (int j = 0; j < rt->marks; j++) {
        float ms = 0;
        if (strcmp(rt->mark[j].name, rt->mark[i].name) != 0)
            continue;
        if (j < i)
            return -1;
        cudaEventElapsedTime(&ms, rt->mark[j].begin, rt->mark[j].end);
        sum += (double)ms;
    }
    return sum;
}

void hrc_profile(hrc_runtime *rt, bool on, char *text, size_t bytes)
{
    size_t at = 0;
    cudaStreamSynchronize(rt->stream);
    for (int i = 0; text && i < rt->marks; i++) {
        const double ms = time_of(rt, i);
        if (ms >= 0 && at < bytes)
            at += (size_t)snprintf(text + at, bytes - at, "%s\"%s\":%.4g", at ? "," : "{", rt->mark[i].name, ms);
    }
    if (text && at + 3 < bytes)
        snprintf(text + at, bytes - at, at ? "}" : "{}");
    for (int i = 0; i < rt->marks; i++) {
        cudaEventDestroy(rt->mark[i].begin);
        cudaEventDestroy(rt->mark[i].end);
    }
    hr_free(rt->ctx, rt->mark);
    rt->marks = 0;
    rt->mark = on ? (hrc_mark *)hr_calloc(rt->ctx, HR_MEM_OTHER, HRC_MARKS, sizeof *rt->mark) : NULL;
}

/* ---- matrix products ---- */

static cudaDataType_t data_type(hrc_operand type)
{
    return type == HRC_F16 ? CUDA_R_16F : type == HRC_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static bool same(const hrc_plan *p, const hrc_plan *q)
{
    return p->product == q->product && p->type == q->type && p->m == q->m && p->n == q->n && p->k == q->k && p->a_pitch == q->a_pitch &&
           p->b_pitch == q->b_pitch && p->c_pitch == q->c_pitch && p->add == q->add;
}

static void forget(hrc_plan *p)
{
    if (p->a)
        cublasLtMatrixLayoutDestroy(p->a);
    if (p->b)
        cublasLtMatrixLayoutDestroy(p->b);
    if (p->c)
        cublasLtMatrixLayoutDestroy(p->c);
    if (p->op)
        cublasLtMatmulDescDestroy(p->op);
    memset(p, 0, sizeof *p);
}

/* The library stores columns first, so it sees each of our matrices transposed, and computes C^T = op(B) op(A):
 *   nt   C^T = B A^T   its first operand, B as (k, n), is to be transposed
 *   tn   C^T = B^T A   its second one, A as (m, k), is
 *   nn   C^T = B^T A^T neither is */
static bool describe(hrc_runtime *rt, hrc_plan *p)
{
    const cudaDataType_t type = data_type(p->type);
    const cublasOperation_t first = p->product == HRC_NT ? CUBLAS_OP_T : CUBLAS_OP_N, second = p->product == HRC_TN ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasLtPointerMode_t mode = CUBLASLT_POINTER_MODE_DEVICE;
    const int64_t b_rows = p->product == HRC_NT ? p->k : p->n, b_columns = p->product == HRC_NT ? p->n : p->k;
    const int64_t a_rows = p->product == HRC_TN ? p->m : p->k, a_columns = p->product == HRC_TN ? p->k : p->m;
    return good(rt, cublasLtMatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product") &&
           good(rt, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first), "product") &&
           good(rt, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second), "product") &&
           good(rt, cublasLtMatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode), "product") &&
           good(rt, cublasLtMatrixLayoutCreate(&p->b, type, (uint64_t)b_rows, (uint64_t)b_columns, p->b_pitch), "layout") &&
           good(rt, cublasLtMatrixLayoutCreate(&p->a, type, (uint64_t)a_rows, (uint64_t)a_columns, p->a_pitch), "layout") &&
           good(rt, cublasLtMatrixLayoutCreate(&p->c, CUDA_R_32F, (uint64_t)p->n, (uint64_t)p->m, p->c_pitch), "layout");
}

static bool choose(hrc_runtime *rt, hrc_plan *p)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    char what[128];
    snprintf(what, sizeof what, "a product of %lld x %lld x %lld, operands of type %d", (long long)p->m, (long long)p->n, (long long)p->k,
             (int)p->type);
    bool ok = good(rt, cublasLtMatmulPreferenceCreate(&preference), "product");
    ok = ok && good(rt, cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &rt->workspace_bytes,
                                                             sizeof rt->workspace_bytes), "product");
    ok = ok && good(rt, cublasLtMatmulAlgoGetHeuristic(rt->lt, p->op, p->b, p->a, p->c, p->c, preference, 1, &found, &count), what);
    if (preference)
        cublasLtMatmulPreferenceDestroy(preference);
    if (ok && count == 0) {
        rt->failed = hr_fail(rt->ctx, HR_ERR_DEVICE, "device: the library has no way to do %s", what);
        return false;
    }
    p->algo = found.algo;
    return ok;
}

static hrc_plan *plan_for(hrc_runtime *rt, const hrc_plan *wanted)
{
    for (int i = 0; i < rt->plans; i++)
        if (same(&rt->plan[i], wanted))
            return &rt->plan[i];
    hrc_plan *p = &rt->plan[rt->next_plan];
    forget(p);
    *p = *wanted;
    if (!describe(rt, p) || !choose(rt, p)) {
        forget(p);
        return NULL;
    }
    rt->next_plan = (rt->next_plan + 1) % HRC_PLANS;
    rt->plans += rt->plans < HRC_PLANS;
    return p;
}

void hrc_gemm(hrc_runtime *rt, hrc_product product, hrc_operand type, int64_t m, int64_t n, int64_t k, const float *alpha, hrc_matrix a,
              hrc_matrix b, bool add, float *c, int64_t c_pitch)
{
    if (rt->failed != HR_OK || m == 0 || n == 0)
        return;
    hrc_plan wanted = {};
    wanted.product = product;
    wanted.type = type;
    wanted.m = m;
    wanted.n = n;
    wanted.k = k;
    wanted.a_pitch = a.pitch;
    wanted.b_pitch = b.pitch;
    wanted.c_pitch = c_pitch;
    wanted.add = add;
    const hrc_plan *p = plan_for(rt, &wanted);
    if (!p)
        return;
    hrc_begin(rt, product == HRC_NT ? "product nt" : product == HRC_TN ? "product tn" : "product nn");
    good(rt, cublasLtMatmul(rt->lt, p->op, alpha, b.device, p->b, a.device, p->a, rt->numbers + add, c, p->c, c, p->c, &p->algo, rt->workspace,
                            rt->workspace_bytes, rt->stream), "product");
    hrc_end(rt);
}

/* ---- memory ---- */

static hrc_allocation *block_of(hrc_runtime *rt, const void *device)
{
    for (int i = 0; i < HRC_ALLOCATIONS; i++)
        if (rt->block[i].device == device)
            return &rt->block[i];
    return NULL;
}

void *hrc_alloc(hrc_runtime *rt, size_t bytes)
{
    hrc_allocation *block = block_of(rt, NULL);
    void *p = NULL;
    bytes = bytes > 0 ? bytes : 1;
    if (!block) {
        rt->failed = hr_fail(rt->ctx, HR_ERR_BUG, "device: more than %d allocations", HRC_ALLOCATIONS);
    } else if (rt->failed == HR_OK && hrc_good(rt, cudaMalloc(&p, bytes), "allocation")) {
        *block = hrc_allocation{p, bytes};
        rt->allocated += bytes;
        rt->peak = rt->allocated > rt->peak ? rt->allocated : rt->peak;
        hrc_zero(rt, p, bytes);
    }
    if (hrc_wait(rt) == HR_OK)
        return p;
    hrc_free(rt, p);
    return NULL;
}

void hrc_free(hrc_runtime *rt, void *device)
{
    hrc_allocation *block = device ? block_of(rt, device) : NULL;
    if (!block)
        return;
    cudaStreamSynchronize(rt->stream);
    cudaFree(device);
    rt->allocated -= block->bytes;
    *block = hrc_allocation{NULL, 0};
}

size_t hrc_allocated(const hrc_runtime *rt)
{
    return rt->allocated;
}

size_t hrc_peak(const hrc_runtime *rt)
{
    return rt->peak;
}

size_t hrc_total(const hrc_runtime *rt)
{
    return rt->total;
}

size_t hrc_overhead(const hrc_runtime *rt)
{
    return rt->overhead;
}

void hrc_describe(const hrc_runtime *rt, char text[96])
{
    memcpy(text, rt->name, sizeof rt->name);
}

/* Of pageable host memory a copy to the device has left it when the call returns. */
void hrc_upload(hrc_runtime *rt, void *device, const void *host, size_t bytes)
{
    if (bytes > 0 && rt->failed == HR_OK)
        hrc_good(rt, cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, rt->stream), "copy to the device");
}

void hrc_upload_rows(hrc_runtime *rt, void *device, size_t device_pitch, const void *host, size_t host_pitch, size_t bytes, int64_t rows)
{
    if (bytes == device_pitch && bytes == host_pitch)
        hrc_upload(rt, device, host, bytes * (size_t)rows);
    else if (bytes > 0 && rows > 0 && rt->failed == HR_OK)
        hrc_good(rt, cudaMemcpy2DAsync(device, device_pitch, host, host_pitch, bytes, (size_t)rows, cudaMemcpyHostToDevice, rt->stream),
                 "copy to the device");
}

void hrc_download_rows(hrc_runtime *rt, void *host, size_t host_pitch, const void *device, size_t device_pitch, size_t bytes, int64_t rows)
{
    if (bytes == device_pitch && bytes == host_pitch && rows > 0 && rt->failed == HR_OK)
        hrc_good(rt, cudaMemcpyAsync(host, device, bytes * (size_t)rows, cudaMemcpyDeviceToHost, rt->stream), "copy from the device");
    else if (bytes > 0 && rows > 0 && rt->failed == HR_OK)
        hrc_good(rt, cudaMemcpy2DAsync(host, host_pitch, device, device_pitch, bytes, (size_t)rows, cudaMemcpyDeviceToHost, rt->stream),
                 "copy from the device");
}

void hrc_zero(hrc_runtime *rt, void *device, size_t bytes)
{
    if (bytes > 0 && rt->failed == HR_OK)
        hrc_good(rt, cudaMemsetAsync(device, 0, bytes, rt->stream), "memory");
}

hr_status hrc_wait(hrc_runtime *rt)
{
    hrc_good(rt, cudaStreamSynchronize(rt->stream), "the work so far");
    const hr_status st = rt->failed;
    rt->failed = HR_OK;
    return st;
}

/* ---- work that comes again ---- */

uint64_t hrc_new_key(hrc_runtime *rt)
{
    return ++rt->next_key << 24;
}

static hrc_record *record_of(hrc_runtime *rt, uint64_t key)
{
    for (int i = 0; i < HRC_RECORDS; i++)
        if (rt->record[i].key == key)
            return &rt->record[i];
    return NULL;
}

/* The first time the work is done as it is asked for, which lets the library choose how to do its products; the second time it is recorded. */
bool hrc_replay(hrc_runtime *rt, uint64_t key)
{
    hrc_record *r = record_of(rt, key);
    if (rt->failed != HR_OK || rt->mark)
        return false;
    if (r && r->graph) {
        hrc_good(rt, cudaGraphLaunch(r->graph, rt->stream), "recorded work");
        return true;
    }
    if (r) {
        if (hrc_good(rt, cudaStreamBeginCapture(rt->stream, cudaStreamCaptureModeThreadLocal), "recording"))
            rt->recording = r;
        return false;
    }
    r = &rt->record[rt->next_record];
    rt->next_record = (rt->next_record + 1) % HRC_RECORDS;
    if (r->graph)
        cudaGraphExecDestroy(r->graph);
    *r = hrc_record{key, NULL};
    return false;
}

void hrc_recorded(hrc_runtime *rt)
{
    cudaGraph_t graph = NULL;
    hrc_record *r = rt->recording;
    if (!r)
        return;
    rt->recording = NULL;
    const cudaError_t ended = cudaStreamEndCapture(rt->stream, &graph); /* also after a failure: the stream must be free again */
    if (hrc_good(rt, ended, "recording") && hrc_good(rt, cudaGraphInstantiate(&r->graph, graph, 0), "recording"))
        hrc_good(rt, cudaGraphLaunch(r->graph, rt->stream), "recorded work");
    if (graph)
        cudaGraphDestroy(graph);
}

hr_ctx *hrc_ctx(const hrc_runtime *rt)
{
    return rt->ctx;
}

/* ---- life ---- */

/* Its name, and what of its memory is gone before the first allocation. Of a device that others use, their share is counted, too. */
static bool look_around(hrc_runtime *rt, int ordinal)
{
    cudaDeviceProp properties;
    size_t unused;
    if (!hrc_good(rt, cudaGetDeviceProperties(&properties, ordinal), "properties") || !hrc_good(rt, cudaMemGetInfo(&unused, &rt->total), "memory"))
        return false;
    rt->overhead = rt->total - unused;
    snprintf(rt->name, sizeof rt->name, "%.80s", properties.name);
    return true;
}

hr_status hrc_open(hr_ctx *ctx, int ordinal, size_t workspace, hrc_runtime **out)
{
    static const float numbers[] = {0.0f, 1.0f};
    hrc_runtime *rt = (hrc_runtime *)hr_calloc(ctx, HR_MEM_OTHER, 1, sizeof *rt);
    if (!rt)
        return HR_ERR_NOMEM;
    rt->ctx = ctx;
    bool ok = hrc_good(rt, cudaSetDevice(ordinal), "opening it") && hrc_good(rt, cudaStreamCreateWithFlags(&rt->stream, cudaStreamNonBlocking), "stream") &&
              good(rt, cublasLtCreate(&rt->lt), "cuBLASLt") && look_around(rt, ordinal);
    hr_status st = rt->failed;
    rt->failed = HR_OK;
    if (ok) {
        rt->numbers = (float *)hrc_alloc(rt, sizeof numbers);
        rt->workspace = rt->numbers ? hrc_alloc(rt, workspace) : NULL;
        rt->workspace_bytes = workspace;
        st = rt->workspace ? HR_OK : HR_ERR_NOMEM;
    }
    if (st == HR_OK) {
        hrc_upload(rt, rt->numbers, numbers, sizeof numbers);
        st = hrc_wait(rt);
    }
    if (st != HR_OK) {
        hrc_close(rt);
        return st;
    }
    *out = rt;
    return HR_OK;
}

void hrc_close(hrc_runtime *rt)
{
    if (!rt)
        return;
    hrc_profile(rt, false, NULL, 0);
    for (int i = 0; i < HRC_RECORDS; i++)
        if (rt->record[i].graph)
            cudaGraphExecDestroy(rt->record[i].graph);
    for (int i = 0; i < rt->plans; i++)
        forget(&rt->plan[i]);
    for (int i = 0; i < HRC_ALLOCATIONS; i++)
        hrc_free(rt, rt->block[i].device);
    if (rt->lt)
        cublasLtDestroy(rt->lt);
    if (rt->stream)
        cudaStreamDestroy(rt->stream);
    hr_free(rt->ctx, rt);
}
