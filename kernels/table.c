/* Fills the table from kernels.def: references first, then what the level allows. */
#include "kernels/kernels.h"

#define HRK(operation, variant, level) hrk_##operation##_fn hrk_##operation##_##variant;
typedef hrk_gemm_panel_fn hrk_gemm_panel_bp_fn, hrk_gemm_panel_dp_fn;
typedef hrk_gemm16_fn hrk_gemm16_bp_fn, hrk_gemm16_dp_fn;
#include "kernels/kernels.def"
#undef HRK

hrk_table hrk_table_make(int isa)
{
    hrk_table t = {0};
#define HRK(operation, variant, level)                                                                                 \
    if (isa >= (level))                                                                                                \
        t.operation = hrk_##operation##_##variant;
#include "kernels/kernels.def"
#undef HRK
    return t;
}
