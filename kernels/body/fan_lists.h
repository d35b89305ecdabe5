/* A label's few inputs within a panel are too few for vectors. */
#include "kernels/body/variant.h"

static inline uint32_t input_at(const hrk_fan_lists_args *a, int64_t i)
{
    return a->wide ? ((const uint32_t *)a->inputs)[i] : ((const uint16_t *)a->inputs)[i];
}

HRK_BEGIN(void, fan_lists, const hrk_lists *l, int64_t K, hrk_fan_lists_args a)
{
    for (int64_t m = 0; m < l->count; m++) {
        int64_t k = a.at[m];
        for (; k < K; k++) {
            const uint32_t column = input_at(&a, a.input[m] + k);
            if (column >= a.end)
                break;
            const int64_t place = column / HRK_DP * a.step + column % HRK_DP;
            const float *x = a.x + place, w = a.sw[m * K + k];
            float *dx = a.dx + place, dw = a.dw[m * K + k];
            for (int64_t e = l->start[m]; e < l->start[m + 1]; e++) {
                const int64_t row = (int64_t)l->row[e] * HRK_DP;
                dx[row] = __builtin_fmaf(w, l->g[e], dx[row]);
                dw = __builtin_fmaf(l->g[e], x[row], dw);
            }
            a.dw[m * K + k] = dw;
        }
        a.at[m] = k;
    }
}
