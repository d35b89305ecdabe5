/* Quantisation, the list of kept entries, and the backward pass from it. Included with the vector operations of the ISA:
 * HRK_VL and HRK_FMA as for gemm_panel.h; for e4m3, BYTES codes at a time, largest_code and look_up;
 * sum_bytes; may_keep. */

/* ---- quantisation ---- */

/* int8 of an e4m3 code counted from eight binades below its row's largest: (8 + m) 2^d / 16 to nearest even, d = i / 8, m = i % 8. */
static const int8_t e4m3_int8[64] __attribute__((aligned(64))) = {
    0,  1,  1,  1,  1,  1,  1,  1,  1,  1,  1,  1,  2,  2,  2,  2,  2,  2,  2,  3,  3,   3,
    4,  4,  4,  4,  5,  6,  6,  6,  7,  8,  8,  9,  10, 11, 12, 13, 14, 15, 16, 18, 20,  22,
    24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 88, 96, 104, 112, 120};

static float quantize_e4m3(int64_t n, const uint8_t *codes, unsigned largest, int8_t *q)
{
    const unsigned top = largest >> 3, base = (top - 7) * 8; /* of a code: sign, 4 bits of exponent, 3 of mantissa */
    int64_t i = 0;
    for (; i + BYTES <= n; i += BYTES)
        look_up(codes + i, base, e4m3_int8, q + i);
    for (; i < n; i++) {
        const unsigned code = codes[i] & 0x7fu;
        const int v = code < base ? 0 : e4m3_int8[code - base];
        q[i] = (int8_t)(codes[i] & 0x80u ? -v : v);
    }
    return ldexpf(1.0f, (int)top - 13); /* the largest binade, 2^(top - 7), becomes 64 */
}

hrk_decode_fn HRK_NAME(decode);

/* Values to int8, in pieces that stay in the first cache. */
static void quantize_values(int64_t n, const uint8_t *codes, float row_scale, hr_dtype dtype, float inverse, int8_t *q)
{
    float v[256];
    for (int64_t i = 0; i < n; i += 256) {
        const int64_t m = n - i < 256 ? n - i : 256;
        HRK_NAME(decode)(m, codes + (size_t)i * dtype.bytes, row_scale, dtype, v);
        for (int64_t j = 0; j < m; j++)
            q[i + j] = (int8_t)rintf(v[j] * inverse);
    }
}

/* max |value|, as bits of a float: they order as integers */
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

static int32_t sum_of(int64_t n, const int8_t *q)
{
    int64_t i = 0;
    int32_t sum = 0;
    for (; i + BYTES <= n; i += BYTES)
        sum += sum_bytes(q + i);
    for (; i < n; i++)
        sum += q[i];
    return sum;
}

HRK_BEGIN(float, quantize, int64_t n, const void *codes, float row_scale, hr_dtype dtype, int8_t *q, int32_t *sum)
{
    float scale = 0;
    const unsigned code = dtype.id == HR_E4M3 ? largest_code(n, codes) : 0;
    if (dtype.id == HR_I8R) {
        memcpy(q, codes, (size_t)n);
        scale = row_scale;
    } else if (code >= 8 << 3) {
        scale = quantize_e4m3(n, codes, code, q);
    } else {
        const float most = largest_value(n, codes, row_scale, dtype);
        float inverse = 0;
        if (most >= 0x1p-100f) {
            const int exponent = (int)(hr_f32_bits(most) >> 23) - 127;
            scale = dtype.bytes == 1 ? ldexpf(1.0f, exponent - 6) : most / 127.0f;
            inverse = dtype.bytes == 1 ? ldexpf(1.0f, 6 - exponent) : 127.0f / most;
        }
        quantize_values(n, codes, row_scale, dtype, inverse, q);
    }
    *sum = sum_of(n, q);
    return scale;
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

typedef float vec __attribute__((vector_size(HRK_VL * 4), aligned(4), may_alias));
enum { NV = HRK_DP / HRK_VL };

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
