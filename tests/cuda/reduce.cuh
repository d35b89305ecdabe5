/* Demonstration kernel, for tests only: one sum for each block of x (n), in a fixed order. */
#ifndef HR_TESTS_CUDA_REDUCE_CUH
#define HR_TESTS_CUDA_REDUCE_CUH

#include "cuda/device.h"

HRC_DEVICE float reduce_warp(float v)
{
    HRC_UNROLL
    for (int mask = 16; mask > 0; mask /= 2)
        v += hrc_shuffle_xor(v, mask);
    return v;
}

/* sum[block] = sum of x[i], i = block * threads + thread + j * blocks * threads. With BARRIER = 0 the barrier is missing. Shared
 * memory: one float for each warp. */
template <int BARRIER> HRC_KERNEL(1024, 1) reduce_sum(int n, const float *x, float *sum)
{
    float *of_warp = reinterpret_cast<float *>(hrc_shared());
    float v = 0;
    for (int i = hrc_block() * hrc_threads() + hrc_thread(); i < n; i += hrc_blocks() * hrc_threads())
        v += x[i];
    v = reduce_warp(v);
    if (hrc_lane() == 0)
        of_warp[hrc_warp()] = v;
    if (BARRIER)
        hrc_sync();
    if (hrc_warp() != 0)
        return;
    v = reduce_warp(hrc_lane() < hrc_threads() / 32 ? of_warp[hrc_lane()] : 0);
    if (hrc_lane() == 0)
        sum[hrc_block()] = v;
}

#endif
