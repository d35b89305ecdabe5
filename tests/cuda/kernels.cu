/* The demonstration kernels for the device: that nvcc compiles the text which the tests emulate (compile.sh). */
#include "gemm.cuh"
#include "reduce.cuh"

template __global__ void gemm_nt<false, 0>(gemm_args);
#if !defined(__CUDA_ARCH__) || HRC_HAS_E4M3_MMA
template __global__ void gemm_nt<true, 0>(gemm_args);
#endif
template __global__ void reduce_sum<1>(int, const float *, float *);
