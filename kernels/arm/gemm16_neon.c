/* kernels/body/gemm_panel.h by two multiply-adds: bfdot rounds otherwise than the contract. */
#define HRK_VARIANT neon
#include <arm_neon.h>

#define HRK_VL 4
#define HRK_BP_MR 4
#define HRK_BP_NV 2
#define HRK_DP_MR 4
#define HRK_DP_NV 2
#define HRK_FMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define HIGH(x) ((vec)((x) & 0xffff0000u))
#define LOW(x) ((vec)((x) << 16))
#define HRK_PAIRS(a, b, c) HRK_FMA(LOW(a), LOW(b), HRK_FMA(HIGH(a), HIGH(b), c))
#define HRK_KEEP(x) (void)0
#include "kernels/body/gemm_panel.h"
