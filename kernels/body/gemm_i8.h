/* The int8 product in pairs of labels. Included with micro(rows, ...), which computes one or two rows of c and asks for the bytes at
 * `ahead`, `step` more for each group. */
#include "kernels/body/variant.h"

HRK_GEMM_I8(gemm_i8)
{
    (void)w_sum;
    const size_t step = M > 0 && groups > 0 ? ahead_bytes / (size_t)(groups * ((M + 1) / 2)) : 0;
    for (; M >= 2; M -= 2, w += 2 * pitch, w_scale += 2, c += 2 * HRK_BP, ahead += (size_t)groups * step)
        micro(2, groups, w, pitch, w_scale, x, x_scale, c, ahead, step);
    if (M > 0)
        micro(1, groups, w, pitch, w_scale, x, x_scale, c, ahead, step);
}
