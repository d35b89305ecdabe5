/* device=cuda. */
#include "cuda/runtime_cuda.cuh"

#include "cuda/device.cuh"

extern "C" hr_status hr_cuda_open(hr_ctx *ctx, int64_t ordinal, hr_device **out)
{
    enum { WORKSPACE = 32 << 20 };
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess)
        return hr_fail(ctx, HR_ERR_DEVICE, "device=cuda: %s; set device=cpu", cudaGetErrorString(error));
    if (ordinal >= count)
        return hr_fail(ctx, HR_ERR_DEVICE, "device=cuda:%lld: this machine has %d, numbered from 0", (long long)ordinal, count);
    return hrc_device_open(ctx, (int)ordinal, WORKSPACE, out);
}
