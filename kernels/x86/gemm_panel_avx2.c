/* 16 registers: 6 x 2 vectors of 8, as in the usual AVX2 matrix kernels. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#define HRK_VL 8
#define HRK_BP_MR 6
#define HRK_BP_NV 2
#define HRK_DP_MR 6
#define HRK_DP_NV 2
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define HRK_KEEP(x) __asm__("" : "+x"(x))
#include "kernels/body/gemm_panel.h"
