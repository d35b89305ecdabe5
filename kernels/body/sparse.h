/* Scores and the list of kept entries. Included with the vector operations of the ISA: HRK_VL and HRK_FMA as for gemm_panel.h;
 * ..._values32, add_chains, not_less, may_keep. */
#include "dtype/keep.h"
#include "kernels/body/keep_bound.h"
#include "kernels/body/variant.h"

#define INLINE static inline __attribute__((always_inline))

hrk_decode_fn HRK_NAME(decode);

/* ---- scores ---- */

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
enum { CHAINS = 16 / HRK_VL, AHEAD = 12288 };

/* 32 values of hrk_dot_fn's v. The types that matter have instructions of their own; the others are decoded first. */
INLINE void values32(hr_dtype dtype, const uint8_t *codes, vec *v)
{
    switch (dtype.id) {
    case HR_F32:
        for (int k = 0; k < 2 * CHAINS; k++) /* gcc makes a slow string instruction of a memcpy here */
            v[k] = *(const vec *)(const void *)(codes + (size_t)k * sizeof(vec));
        break;
    case HR_BF16: bf16_values32(codes, (native *)v); break;
    case HR_E4M3: e4m3_values32(codes, (native *)v); break;
    case HR_I8R: i8_values32(codes, (native *)v); break;
    default: HRK_NAME(decode)(32, codes, 1.0f, dtype, (float *)v); break;
    }
}

/* `rows` labels side by side: their chains are independent, which hides the latency of the multiply-adds. */
INLINE void dot_rows(const int rows, int64_t n, const uint8_t *codes, size_t pitch, const float *row_scale, hr_dtype dtype,
                     const float *x, float *out)
{
    vec sum[4][CHAINS] = {{{0}}};
    int64_t i = 0;
    for (; i + 32 <= n; i += 32)
#pragma GCC unroll 4
        for (int m = 0; m < rows; m++) {
            const uint8_t *at = codes + (size_t)m * pitch + (size_t)i * dtype.bytes;
            __builtin_prefetch(at + AHEAD); /* may lie beyond the end: no fault */
            if (dtype.bytes == 4)
                __builtin_prefetch(at + AHEAD + 64);
            vec v[2 * CHAINS];
            values32(dtype, at, v);
#pragma GCC unroll 4
            for (int c = 0; c < 2 * CHAINS; c++)
                sum[m][c % CHAINS] = HRK_FMA(v[c], *(const vec *)(const void *)(x + i + c * HRK_VL), sum[m][c % CHAINS]);
        }
    for (int m = 0; m < rows; m++) {
        if (i < n) {
            float last[32], chain[16];
            HRK_NAME(decode)(n - i, codes + (size_t)m * pitch + (size_t)i * dtype.bytes, 1.0f, dtype, last);
            memcpy(chain, sum[m], sizeof chain);
            for (int64_t k = 0; i + k < n; k++)
                chain[k % 16] = fmaf(dtype.id == HR_E4M3 ? 0x1p-8f * last[k] : last[k], x[i + k], chain[k % 16]);
            memcpy(sum[m], chain, sizeof chain);
        }
        out[m] = add_chains((const native *)sum[m]) * (dtype.id == HR_I8R ? row_scale[m] : dtype.id == HR_E4M3 ? 256.0f : 1.0f);
    }
}

#define DOTS(type, rows)                                                                                               \
    case type:                                                                                                         \
        for (; M >= (rows); M -= (rows), c += (rows)*pitch, row_scale += row_scale ? (rows) : 0, out += (rows))                      \
            dot_rows(rows, n, c, pitch, row_scale, (hr_dtype){.id = type, .bytes = dtype.bytes}, x, out);              \
        for (; M > 0; M--, c += pitch, row_scale += row_scale ? 1 : 0, out++)                                                             \
            dot_rows(1, n, c, pitch, row_scale, (hr_dtype){.id = type, .bytes = dtype.bytes}, x, out);                 \
        break;

HRK_BEGIN(void, dot, int64_t M, int64_t n, const void *codes, size_t pitch, const float *row_scale, hr_dtype dtype, const float *x,
          float *out)
{
    const uint8_t *c = codes;
    switch (dtype.id) {
        DOTS(HR_F32, 1)
        DOTS(HR_BF16, 1)
        DOTS(HR_E4M3, 4)
        DOTS(HR_I8R, 4)
    default:
        for (; M > 0; M--, c += pitch, row_scale += row_scale ? 1 : 0, out++)
            dot_rows(1, n, c, pitch, row_scale, dtype, x, out);
    }
}

HRK_BEGIN(uint32_t, reach, const float *z, hrk_reach_args args, const float *x_error, const float *x_size, const float *limit)
{
    uint32_t bits = 0;
    for (int j = 0; j < HRK_BP; j += HRK_VL) {
        const vec size = args.size - (vec){0}, error = args.error - (vec){0}, zscale = args.zscale - (vec){0},
                  bias = args.bias - (vec){0};
#define AT(p) (*(const vec *)(const void *)((p) + j))
        const vec most = HRK_FMA(error, AT(x_size), HRK_FMA(size, AT(x_error), AT(z)));
        bits |= not_less((native)HRK_FMA(zscale, most, bias), (native)AT(limit)) << j;
#undef AT
    }
    return bits;
}

/* ---- the list ---- */

enum { MANY = 128, LANES = 16 };

/* Entries that may be kept, in their order. */
typedef struct candidates {
    int count;
    uint32_t label[MANY], row[MANY];
    float logit[MANY], draw[MANY];
} candidates;

/* Those that are join the lists. */
static int64_t decide(candidates *c, hrk_sparsify_args args, int64_t count, uint32_t *row, float *g_out, int64_t *end)
{
    float g[MANY], kept[MANY];
    const float tau = args.tau, factor = 65536.0f / tau;
    for (int i = c->count; i % LANES; i++)
        c->logit[i] = c->draw[i] = 0;
    for (int i = 0; i < c->count; i += LANES)
        for (int j = i; j < i + LANES; j++) { /* hr_keep, -1 where the draw alone does not decide */
            g[j] = hr_sigmoid(c->logit[j]);
            const float q = g[j] * factor, whole = floorf(q);
            const float drawn = c->draw[j] < whole ? tau : 0.0f, coin = c->draw[j] == whole ? -1.0f : drawn;
            kept[j] = g[j] < tau ? coin : g[j];
        }
    for (int i = 0; i < c->count; i++) {
        if (kept[i] < 0)
            kept[i] = hr_keep(g[i], tau, (uint32_t)c->draw[i], args.refine, args.label + c->label[i], c->row[i]);
        row[count] = c->row[i];
        g_out[count] = args.gscale * kept[i];
        count += kept[i] > 0;
        end[c->label[i]] = count;
    }
    c->count = 0;
    return count;
}

/* Almost all entries end at may_keep (keep_bound.h), which gives a bit for each of BP that may go on. */
HRK_SPARSIFY(sparsify)
{
    const float bound = keep_bound(args.tau);
    candidates c;
    c.count = 0;
    int64_t count = 0;
    for (int64_t m = 0; m < M; m++) {
        end[m] = 0;
        for (int64_t b = 0; b < n; b += HRK_BP) {
            const float *zb = z + b / HRK_BP * stride + m * HRK_BP;
            const uint16_t *draw = draws + m * pitch + b;
            uint32_t left = may_keep(zb, draw, args.zscale, args.bias[m], bound);
            if (n - b < HRK_BP)
                left &= (UINT32_C(1) << (n - b)) - 1;
            for (; left; left &= left - 1) {
                const int j = __builtin_ctz(left);
                c.label[c.count] = (uint32_t)m;
                c.row[c.count] = (uint32_t)(b + j);
                c.draw[c.count] = draw[j];
                c.logit[c.count++] = fmaf(args.zscale, zb[j], args.bias[m]);
            }
            if (c.count > MANY - HRK_BP)
                count = decide(&c, args, count, row, g_out, end);
        }
    }
    decide(&c, args, count, row, g_out, end);
    for (int64_t m = 1; m < M; m++)
        end[m] = end[m] > end[m - 1] ? end[m] : end[m - 1];
}
