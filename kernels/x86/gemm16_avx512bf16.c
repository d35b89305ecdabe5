/* kernels/body/gemm_panel.h with vdpbf16ps: twice the multiply-adds of f32. */
#define HRK_VARIANT avx512bf16
#include <immintrin.h>

#define HRK_VL 16
#define HRK_BP_MR 12
#define HRK_BP_NV 2
#define HRK_DP_MR 6
#define HRK_DP_NV 4
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define HRK_PAIRS(a, b, c) ((vec)_mm512_dpbf16_ps((__m512)(c), (__m512bh)(a), (__m512bh)(b)))
#define HRK_KEEP(x) (void)0
#include "kernels/body/gemm_panel.h"
