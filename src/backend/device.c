/* Opening a device by its name. */
#include "backend/device.h"

#include "base/number.h"

#include <string.h>

#ifndef HR_WITH_CUDA /* else it is cuda/device_cuda.cu's; weak, so that a test may have a device of its own */
__attribute__((weak)) hr_status hr_cuda_open(hr_ctx *ctx, int64_t ordinal, hr_device **out)
{
    (void)ordinal, (void)out;
    return hr_fail(ctx, HR_ERR_CONFIG, "device: this build has no CUDA; set device=cpu, or build with `cmake --preset cuda`");
}
#endif

hr_status hr_device_open(hr_ctx *ctx, const char *name, hr_device **out)
{
    int64_t ordinal = 0;
    const char *number = strncmp(name, "cuda:", 5) == 0 ? name + 5 : NULL;
    *out = NULL;
    if (strcmp(name, "cpu") == 0)
        return HR_OK;
    if ((strcmp(name, "cuda") == 0) || (number && hr_parse_int(number, strlen(number), &ordinal) && ordinal >= 0 && ordinal < 1024))
        return hr_cuda_open(ctx, ordinal, out);
    return hr_fail(ctx, HR_ERR_CONFIG, "device is '%.80s', expected cpu, cuda or cuda:N", name);
}

size_t hr_device_overhead(const hr_device *device)
{
    return device->ops->overhead(device) + device->ops->allocated(device);
}

size_t hr_device_peak(const hr_device *device)
{
    return device ? device->ops->overhead(device) + device->ops->peak(device) : 0;
}

void hr_device_close(hr_device *device)
{
    if (device)
        device->ops->close(device);
}
