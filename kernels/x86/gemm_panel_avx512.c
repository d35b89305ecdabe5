/* 32 registers: 12 x 2 and 6 x 4 vectors of 16. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#define HRK_VL 16
#define HRK_BP_MR 12
#define HRK_BP_NV 2
#define HRK_DP_MR 6
#define HRK_DP_NV 4
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define HRK_KEEP(x) (void)0
#include "kernels/body/gemm_panel.h"
