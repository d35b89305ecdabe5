/* device=cuda on the processor, for tests of what is above the device. */
#include "tests/cuda/runtime_emulated.hpp"

#include "cuda/device.cuh"

extern "C" hr_status hr_cuda_open(hr_ctx *ctx, int64_t ordinal, hr_device **out)
{
    return hrc_device_open(ctx, (int)ordinal, 0, out);
}
