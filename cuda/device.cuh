/* The table of functions of a device (backend/device.h) over a runtime and stage 1 of the head. The includer has a runtime. */
#ifndef HRC_DEVICE_CUH
#define HRC_DEVICE_CUH

#include "cuda/head_lib.cuh"

/* What hr_device points to. */
struct hrc_device {
    hr_device base;
    hrc_runtime *rt;
};

namespace {

/* Labels of a chunk: scratch of about 100 MiB, products large enough to fill a device, few enough launches. */
int64_t chunk_of(const hr_head_options *o)
{
    const int64_t width = std::max(padded(o->dim, HRC_COLUMNS), padded(o->max_batch, 16)), all = padded(o->labels, 16);
    int64_t most = 16384;
    while (most > 256 && most * width > 1 << 24) /* numbers of z or dw */
        most /= 2;
    return std::min(all, most);
}

hrc_runtime *runtime_of(const hr_device *device)
{
    return ((const hrc_device *)device)->rt;
}
hrc_head *own(hr_device_head *head)
{
    return (hrc_head *)head;
}

void device_describe(const hr_device *device, char text[96])
{
    hrc_describe(runtime_of(device), text);
}
void device_close(hr_device *device)
{
    hr_ctx *ctx = device->ctx;
    hrc_close(runtime_of(device));
    hr_free(ctx, device);
}
size_t device_allocated(const hr_device *device)
{
    return hrc_allocated(runtime_of(device));
}
size_t device_peak(const hr_device *device)
{
    return hrc_peak(runtime_of(device));
}
size_t device_total(const hr_device *device)
{
    return hrc_total(runtime_of(device));
}
size_t device_overhead(const hr_device *device)
{
    return hrc_overhead(runtime_of(device));
}
void device_profile(hr_device *device, bool on, char *text, size_t bytes)
{
    hrc_profile(runtime_of(device), on, text, bytes);
}
size_t device_head_memory(const hr_head_options *o, int64_t positives)
{
    return hrc_head_memory(o, chunk_of(o), positives);
}
hr_status device_head_create(hr_device *device, const hr_head_options *o, int64_t positives, hr_device_head **out)
{
    return hrc_head_create(runtime_of(device), o, chunk_of(o), positives, (hrc_head **)out);
}
void device_head_destroy(hr_device_head *head)
{
    hrc_head_destroy(own(head));
}
hr_status device_head_write(hr_device_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, const void *data)
{
    return hrc_head_write(own(head), segment, array, row, rows, pitch, data);
}
hr_status device_head_read(hr_device_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, void *data)
{
    return hrc_head_read(own(head), segment, array, row, rows, pitch, data);
}
hr_status device_head_step(hr_device_head *head, const hr_head_batch *batch, const hr_device_rates *rates, float factor, uint64_t step, float *dx,
                           double *loss)
{
    return hrc_head_step(own(head), batch, rates, factor, step, dx, loss);
}
hr_status device_head_halve(hr_device_head *head, int segment, uint64_t step)
{
    return hrc_head_halve(own(head), segment, step);
}
hr_status device_head_top(hr_device_head *head, int64_t rows, const float *x, int64_t k, const float *zscale, const uint32_t *external, uint32_t *ids,
                          float *scores)
{
    return hrc_head_top(own(head), rows, x, k, zscale, external, ids, scores);
}

const hr_device_ops hrc_device_ops = {
    device_describe, device_close, device_allocated, device_peak, device_total, device_overhead, device_profile,
    hrc_head_not_possible, device_head_memory, device_head_create, device_head_destroy, device_head_write, device_head_read, device_head_step, device_head_halve, device_head_top,
};

} // namespace

/* A device over a new runtime; `workspace`: bytes for the matrix products. */
static hr_status hrc_device_open(hr_ctx *ctx, int ordinal, size_t workspace, hr_device **out)
{
    hrc_device *device = (hrc_device *)hr_alloc(ctx, HR_MEM_OTHER, sizeof *device);
    if (!device)
        return HR_ERR_NOMEM;
    device->base.ops = &hrc_device_ops;
    device->base.ctx = ctx;
    const hr_status st = hrc_open(ctx, ordinal, workspace, &device->rt);
    if (st != HR_OK) {
        hr_free(ctx, device);
        return st;
    }
    *out = &device->base;
    return HR_OK;
}

#endif
