/* The head that the tests look at: with TEST_ON_DEVICE the one of a GPU, which is linked, else the same text on the processor. */
#ifndef HR_TESTS_CUDA_HEAD_HPP
#define HR_TESTS_CUDA_HEAD_HPP

#ifdef TEST_ON_DEVICE
extern "C" {
#include "cuda/head_lib.h"
}
enum { TEST_ORDERS = 1, TEST_TIMES = 4, TEST_WORKSPACE = 32 << 20 };

inline hr_status test_runtime(hr_ctx *ctx, unsigned, hrc_runtime **out)
{
    return hrc_open(ctx, 0, TEST_WORKSPACE, out);
}
inline hr_status test_device(hr_ctx *ctx, unsigned, hr_device **out)
{
    return hr_cuda_open(ctx, 0, out);
}
#else
#include "tests/cuda/runtime_emulated.hpp"

#include "cuda/device.cuh"
enum { TEST_ORDERS = 2, TEST_TIMES = 1 };

/* `order`: in which threads and blocks run. */
inline hr_status test_runtime(hr_ctx *ctx, unsigned order, hrc_runtime **out)
{
    return hrc_open(ctx, (int)order, 0, out);
}
inline hr_status test_device(hr_ctx *ctx, unsigned order, hr_device **out)
{
    return hrc_device_open(ctx, (int)order, 0, out);
}
#endif

#endif
