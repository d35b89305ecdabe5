/* Sparse X by columns: lists of a few entries each, too short for vectors. */
#include "kernels/body/variant.h"

static inline __attribute__((always_inline)) int64_t hits(const int wide, int64_t K, const void *inputs, const hrk_columns *x,
                                                          uint32_t *which, uint32_t *list)
{
    int64_t n = 0;
    for (int64_t k = 0; k < K; k++) {
        const uint32_t input = wide ? ((const uint32_t *)inputs)[k] : ((const uint16_t *)inputs)[k];
        if (input >= x->columns)
            return -1;
        which[n] = (uint32_t)k; /* no branch: whether a column has entries cannot be foreseen */
        list[n] = input;
        n += x->present[input / 32] >> input % 32 & 1;
    }
    for (int64_t i = 0; i < n; i++)
        list[i] = x->list[list[i]];
    return n;
}

HRK_BEGIN(int64_t, column_hits, int64_t K, const void *inputs, int wide, const hrk_columns *x, uint32_t *which, uint32_t *list)
{
    return wide ? hits(1, K, inputs, x, which, list) : hits(0, K, inputs, x, which, list);
}

/* What the stores might change, for all the compiler knows, is read before them. */
HRK_BEGIN(void, column_logits, int64_t n, const uint32_t *which, const uint32_t *list, const hrk_columns *x, const float *w, float *z)
{
    const uint16_t *row = x->row;
    const float *value = x->value;
    for (int64_t i = 0; i < n; i++) {
        const float weight = w[which[i]];
        const uint32_t end = x->start[list[i] + 1];
        for (uint32_t e = x->start[list[i]]; e < end; e++)
            z[row[e]] = __builtin_fmaf(weight, value[e], z[row[e]]);
    }
}

HRK_BEGIN(void, column_dw, int64_t n, const uint32_t *which, const uint32_t *list, const hrk_columns *x, const float *g, float *dw)
{
    const uint16_t *row = x->row;
    const float *value = x->value;
    for (int64_t i = 0; i < n; i++) {
        float sum = 0;
        const uint32_t end = x->start[list[i] + 1];
        for (uint32_t e = x->start[list[i]]; e < end; e++)
            sum = __builtin_fmaf(g[row[e]], value[e], sum);
        dw[which[i]] = sum;
    }
}
