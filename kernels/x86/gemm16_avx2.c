/* kernels/body/gemm_panel.h without an instruction for it: both halves widened to f32, two multiply-adds. */
#define HRK_VARIANT avx2
#include <immintrin.h>

#define HRK_VL 8
#define HRK_BP_MR 4
#define HRK_BP_NV 2
#define HRK_DP_MR 4
#define HRK_DP_NV 2
#define HRK_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define HIGH(x) ((vec)((x) & 0xffff0000u))
#define LOW(x) ((vec)((x) << 16))
#define HRK_PAIRS(a, b, c) HRK_FMA(LOW(a), LOW(b), HRK_FMA(HIGH(a), HIGH(b), c))
#define HRK_KEEP(x) (void)0
#include "kernels/body/gemm_panel.h"
