/* Quantisation, scores, the list of kept entries, and the backward pass from it. Included with the vector operations of the ISA:
 * HRK_VL and HRK_FMA as for gemm_panel.h; BYTES, look_up, sum_bytes, ..._values32, add_chains, not_less, may_keep. */

/* ---- quantisation ---- */

static int largest_code(int64_t n, const uint8_t *codes)
{
    uint8_t most = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint8_t code = codes[i] & 0x7f;
        most = code > most ? code : most;
    }
    return most;
}

/* int8 of an e4m3 code counted from eight binades below its row's largest: (8 + m) 2^d / 16 to nearest even, d = i / 8, m = i % 8; bit 7
 * says that it was rounded. */
#define R(q) (uint8_t)((q) | 128)
static const uint8_t e4m3_int8[64] __attribute__((aligned(64))) = {
    R(0), R(1), R(1), R(1), R(1), R(1), R(1), R(1), 1,  R(1), R(1), R(1), R(2), R(2), R(2), R(2), 2,  R(2), R(2), R(3), 3,   R(3),
    R(4), R(4), 4,    R(4), 5,    R(6), 6,    R(6), 7,  R(8), 8,    9,    10,   11,   12,   13,   14, 15,   16,   18,   20,  22,
    24,   26,   28,   30,   32,   36,   40,   44,   48, 52,   56,   60,   64,   72,   80,   88,   96, 104,  112,  120};
#undef R

/* Codes with a largest exponent field of 8 or more: eight binades from `base` on, by the table. Returns how many were rounded. */
static int32_t quantize_e4m3(int64_t n, const uint8_t *codes, int base, int8_t *q)
{
    int64_t i = 0;
    int32_t rounded = 0;
    for (; i + BYTES <= n; i += BYTES)
        rounded += look_up(codes + i, base, e4m3_int8, q + i);
    for (; i < n; i++) {
        const int code = codes[i] & 0x7f, v = code < base ? code ? 128 : 0 : e4m3_int8[code - base];
        q[i] = (int8_t)(codes[i] & 0x80u ? -(v & 127) : v & 127);
        rounded += v >> 7;
    }
    return rounded;
}

hrk_decode_fn HRK_NAME(decode);

/* Values to int8, in pieces that stay in the first cache. Returns how many were rounded. */
static int32_t quantize_values(int64_t n, const uint8_t *codes, float row_scale, hr_dtype dtype, float inverse, float scale, int8_t *q)
{
    float v[256];
    int32_t rounded = 0;
    for (int64_t i = 0; i < n; i += 256) {
        const int64_t m = n - i < 256 ? n - i : 256;
        HRK_NAME(decode)(m, codes + (size_t)i * dtype.bytes, row_scale, dtype, v);
        for (int64_t j = 0; j < m; j++) {
            const float r = rintf(v[j] * inverse);
            q[i + j] = (int8_t)r;
            rounded += v[j] != r * scale;
        }
    }
    return rounded;
}

/* max |value|, a NaN above all; bits of floats order as integers */
static float largest_value(int64_t n, const uint8_t *codes, float row_scale, hr_dtype dtype)
{
    uint32_t most = 0;
    float v[256];
    for (int64_t i = 0; i < n; i += 256) {
        const int64_t m = n - i < 256 ? n - i : 256;
        HRK_NAME(decode)(m, codes + (size_t)i * dtype.bytes, row_scale, dtype, v);
        for (int64_t j = 0; j < m; j++) {
            const uint32_t u = hr_f32_bits(v[j]) & 0x7fffffffu;
            most = u > most ? u : most;
        }
    }
    return hr_bits_f32(most);
}

static void sums(int64_t n, const int8_t *q, hrk_quantized *r)
{
    int64_t i = sum_bytes(n, q, r);
    for (; i < n; i++) {
        r->sum += q[i];
        r->square += q[i] * q[i];
    }
}

HRK_BEGIN(hrk_quantized, quantize, int64_t n, const void *codes, float row_scale, hr_dtype dtype, int8_t *q)
{
    hrk_quantized r = {.scale = row_scale};
    const int largest = dtype.id == HR_E4M3 ? largest_code(n, codes) : 1, top = largest >> 3; /* a code: sign, 4 bits of exponent, 3 of mantissa */
    if (dtype.id == HR_I8R) {
        memcpy(q, codes, (size_t)n);
    } else if (largest == 0) { /* a label that has never been seen */
        memset(q, 0, (size_t)n);
        return (hrk_quantized){0};
    } else if (dtype.id == HR_E4M3 && top >= 8) {
        r.scale = hr_bits_f32((uint32_t)(top + 127 - 13) << 23); /* the largest binade, 2^(top - 7), becomes 64 */
        r.rounded = quantize_e4m3(n, codes, (top - 7) * 8, q);
    } else {
        const float most = largest_value(n, codes, row_scale, dtype);
        float inverse = 0;
        r.scale = 0;
        if (!(most < INFINITY)) {
            r.scale = NAN;
        } else if (most >= 0x1p-100f) {
            const int exponent = (int)(hr_f32_bits(most) >> 23) - 127;
            r.scale = dtype.bytes == 1 ? ldexpf(1.0f, exponent - 6) : most / 127.0f;
            inverse = dtype.bytes == 1 ? ldexpf(1.0f, 6 - exponent) : 127.0f / most;
        }
        if (most < INFINITY) {
            r.rounded = quantize_values(n, codes, row_scale, dtype, inverse, r.scale, q);
        } else { /* diverged */
            memset(q, 0, (size_t)n);
            r.rounded = (int32_t)n;
        }
    }
    sums(n, q, &r);
    return r;
}

/* ---- scores ---- */

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
enum { CHAINS = 16 / HRK_VL, NV = HRK_DP / HRK_VL, AHEAD = 12288 };
#define INLINE static inline __attribute__((always_inline))

/* 32 values of hrk_dot_fn's v. The types that matter have instructions of their own; the others are decoded first. */
INLINE void values32(hr_dtype dtype, const uint8_t *codes, vec *v)
{
    switch (dtype.id) {
    case HR_F32:
        memcpy(v, codes, 32 * sizeof(float));
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

/* 2^23 (log2 e^z + 127) bounds the bits of e^z, read as an integer, from above, and sigmoid z < e^z: an entry can only be kept if
 * the bits of draw / 65536 * tau do not exceed it. The slack, 2^-11 of a binade, covers the rounding of both sides. Almost all
 * entries end here: may_keep gives a bit for each of BP that may go on. */
HRK_SPARSIFY(sparsify)
{
    const float unit = args.tau * 0x1p-16f;
    int64_t count = 0;
    for (int64_t b = 0; b < n; b += HRK_BP, z += stride) {
        uint32_t left = may_keep(z, draws + b, args.zscale, args.bias, unit);
        if (n - b < HRK_BP)
            left &= (UINT32_C(1) << (n - b)) - 1;
        if (!left)
            continue;
        float g[HRK_BP];
        for (int j = 0; j < HRK_BP; j++)
            g[j] = hr_sigmoid(fmaf(args.zscale, z[j], args.bias));
        for (; left; left &= left - 1) {
            const int j = __builtin_ctz(left);
            const float kept = hr_keep(g[j], args.tau, draws[b + j], args.refine, args.label, (uint32_t)(b + j));
            row[count] = (uint32_t)(b + j);
            g_out[count] = args.gscale * kept;
            count += kept > 0;
        }
    }
    return count;
}

/* ---- backward ---- */

/* w and dw of one label stay in registers over its entries. */
HRK_SPARSE_PANEL(sparse_panel)
{
    for (int64_t m = 0; m < M; m++, w += HRK_DP) {
        vec *wm = (vec *)(void *)w;
        vec old[NV], dw[NV];
        for (int v = 0; v < NV; v++) {
            old[v] = wm[v];
            dw[v] = (vec){0};
        }
        for (int64_t e = start[m]; e < start[m + 1]; e++) {
            const vec *xb = (const vec *)(const void *)(x + (int64_t)row[e] * HRK_DP);
            vec *dxb = (vec *)(void *)(dx + (int64_t)row[e] * HRK_DP);
            const vec ge = g[e] - (vec){0}, factor = scale * g[e] - (vec){0};
            for (int v = 0; v < NV; v++) {
                dw[v] = HRK_FMA(ge, xb[v], dw[v]);
                dxb[v] = HRK_FMA(factor, old[v], dxb[v]);
            }
        }
        for (int v = 0; v < NV; v++)
            wm[v] = dw[v];
    }
}
