/* 32 registers: 4 x 4 vectors of 4 leave room for the panel and the broadcast. */
#define HRK_VARIANT neon
#include <arm_neon.h>

#define HRK_VL 4
#define HRK_BP_MR 4
#define HRK_BP_NV 4
#define HRK_DP_MR 4
#define HRK_DP_NV 4
#define HRK_FMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define HRK_KEEP(x) (void)0
#include "kernels/body/gemm_panel.h"
