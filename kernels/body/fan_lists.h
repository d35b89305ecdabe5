/* A label's few inputs within a panel are too few for vectors. */
#include "kernels/body/variant.h"

static inline uint32_t input_at(const int wide, const void *inputs, int64_t i)
{
    return wide ? ((const uint32_t *)inputs)[i] : ((const uint16_t *)inputs)[i];
}

/* What the stores might change, for all the compiler knows, is read before them. */
static inline __attribute__((always_inline)) void lists_of(const int wide, const hrk_lists *l, int64_t K, const hrk_fan_lists_args a)
{
    const uint32_t *rows = l->row;
    const float *g = l->g;
    for (int64_t m = 0; m < l->count; m++) {
        int64_t k = a.at[m];
        const int64_t first = l->start[m], last = l->start[m + 1];
        for (; k < K; k++) {
            const uint32_t column = input_at(wide, a.inputs, a.input[m] + k);
            if (column >= a.end)
                break;
            const int64_t place = column / HRK_DP * a.step + column % HRK_DP;
            const float *x = a.x + place, w = a.sw[m * K + k];
            float *dx = a.dx + place, dw = a.dw[m * K + k];
            for (int64_t e = first; e < last; e++) {
                const int64_t row = (int64_t)rows[e] * HRK_DP;
                dx[row] = __builtin_fmaf(w, g[e], dx[row]);
                dw = __builtin_fmaf(g[e], x[row], dw);
            }
            a.dw[m * K + k] = dw;
        }
        a.at[m] = k;
    }
}

HRK_BEGIN(void, fan_lists, const hrk_lists *l, int64_t K, hrk_fan_lists_args a)
{
    if (a.wide)
        lists_of(1, l, K, a);
    else
        lists_of(0, l, K, a);
}
