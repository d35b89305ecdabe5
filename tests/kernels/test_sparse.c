/* The kernels of the int8 product and the sparse gradient: every level gives the bits of the reference, and the reference does
 * what its contract says. */
#include "check.h"
#include "tests/kernels/fixture.h"

#include "dtype/keep.h"
#include "dtype/pairs.h"
#include "dtype/sigmoid.h"
#include "kernels/kernels.h"

#include <math.h>

enum { GUARD = 64, MOST = 1100 };

static float uniform(uint32_t i, uint32_t j, uint64_t seed)
{
    uint32_t w[4];
    hr_rng_block(hr_rng_make(seed, 0, 0, 0), i, j, w);
    return (float)(w[0] >> 8) / 8388608.0f - 1.0f;
}

static void each_level(void (*check)(hrk_table k))
{
    for (int isa = 0; isa <= (int)hr_isa_detect(); isa++)
        check(hrk_table_make(isa));
}

static const int64_t sizes[] = {0, 1, 7, 31, 32, 33, 63, 64, 65, 127, 128, 130, 257, 768, 1000};
enum { SIZES = sizeof sizes / sizeof *sizes };
static const char *const types[] = {"f32", "bf16", "f16", "e4m3", "e5m2", "i8r", "e3m4", "e2m1"};
enum { TYPES = sizeof types / sizeof *types };

/* Codes whose largest value runs over all binades, so that every table and every fallback is met. */
static void fill_codes(hr_dtype d, void *codes, int64_t n, float size, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++) {
        const float u = uniform((uint32_t)i, 3, seed), v = size * u * u * u;
        if (d.id == HR_I8R)
            ((int8_t *)codes)[i] = (int8_t)rintf(127 * u);
        else
            hr_dtype_store(d, codes, i, hr_dtype_round(d, HR_ROUND_NEAREST, v, 0), 1);
    }
}

static void check_quantize(hrk_table k)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    static uint32_t codes[MOST];
    static int8_t one[MOST + GUARD], two[MOST + GUARD];
    for (int t = 0; t < TYPES; t++)
        for (int s = 0; s < SIZES; s++)
            for (int e = -12; e <= 9; e++) {
                hr_dtype d;
                assert_true(hr_dtype_parse(types[t], &d));
                memset(codes, 0, sizeof codes);
                fill_codes(d, codes, sizes[s], ldexpf(1, e), (uint64_t)(e + 50));
                memset(one, 0x55, sizeof one);
                memset(two, 0x55, sizeof two);
                const hrk_quantized r = ref.quantize(sizes[s], codes, 0.25f, d, true, one);
                const hrk_quantized fast = k.quantize(sizes[s], codes, 0.25f, d, true, two);
                assert_memory_equal(one, two, sizeof one);
                assert_memory_equal(&r, &fast, sizeof r);
                const hrk_quantized less = k.quantize(sizes[s], codes, 0.25f, d, false, two);
                assert_memory_equal(one, two, sizeof one);
                assert_true(less.sum == r.sum && less.square == 0 && less.rounded == 0 && !memcmp(&less.scale, &r.scale, sizeof r.scale));
                /* half a unit from the value (and the rounding of v * (127 / most)), and the largest one uses the range */
                int most = 0, sum = 0, square = 0, rounded = 0;
                for (int64_t i = 0; i < sizes[s]; i++) {
                    const double v = hr_dtype_load(d, codes, i, 0.25f);
                    assert_true(fabs(v - (double)r.scale * one[i]) <= (0.5 + 127 * 0x1p-22) * (double)r.scale);
                    most = abs(one[i]) > most ? abs(one[i]) : most;
                    sum += one[i];
                    square += one[i] * one[i];
                    rounded += (float)v != r.scale * (float)one[i];
                }
                assert_true(sum == r.sum && square == r.square && rounded == r.rounded);
                if (r.scale > 0 && sizes[s] > 0 && d.id != HR_I8R)
                    assert_true(most >= 64 && most <= 127);
            }
}

/* All 64 exact codes of a row of e4m3, and the ties below them. */
static void test_quantize_e4m3(void **state)
{
    (void)state;
    hr_dtype d;
    assert_true(hr_dtype_parse("e4m3", &d));
    for (unsigned top = 1; top < 0x7f; top++) {
        uint8_t codes[256];
        int8_t q[256];
        int n = 0;
        for (unsigned c = 0; c <= top; c++) {
            codes[n++] = (uint8_t)c;
            codes[n++] = (uint8_t)(c | (c ? 0x80u : 0));
        }
        for (int isa = 0; isa <= (int)hr_isa_detect(); isa++) {
            const hrk_quantized r = hrk_table_make(isa).quantize(n, codes, 0, d, true, q);
            int rounded = 0;
            for (int i = 0; i < n; i++) {
                assert_true(q[i] == rint((double)hr_e4m3_decode(codes[i]) / r.scale));
                rounded += hr_e4m3_decode(codes[i]) != (float)q[i] * r.scale;
            }
            assert_true(r.sum == 0 && r.rounded == rounded);
        }
    }
}

/* A row that has diverged: the scale says so, and no code is taken for a number. */
static void check_quantize_diverged(hrk_table k)
{
    static const char *const with_infinity[] = {"f32", "bf16"}; /* the others saturate */
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < 100; i += 33)
            for (int nan = 0; nan < 2; nan++) {
                hr_dtype d;
                assert_true(hr_dtype_parse(with_infinity[t], &d));
                uint32_t codes[100] = {0};
                int8_t q[100];
                const uint32_t infinity[] = {0x7f800000, 0x7f80}, sign[] = {UINT32_C(1) << 31, 1 << 15};
                fill_codes(d, codes, 100, 1, 5);
                const uint32_t code = infinity[t] | (nan ? 1u : sign[t]);
                memcpy((uint8_t *)codes + (size_t)i * d.bytes, &code, d.bytes);
                const hrk_quantized r = k.quantize(100, codes, 1, d, true, q);
                assert_true(isnan(r.scale) && r.sum == 0 && r.square == 0 && r.rounded == 100);
                for (int j = 0; j < 100; j++)
                    assert_int_equal(q[j], 0);
            }
}

/* Pairs of bf16: every level, the instruction included, gives the bits of two fused multiply-adds; and the sum is right. */
static void check_gemm16(hrk_table k)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    static const int64_t rows[] = {0, 1, 3, 4, 5, 6, 8, 11, 12, 13, 29}, sums[] = {0, 1, 5, 32, 33, 100};
    static float v[2 * 64 * 128];
    static uint32_t a[64 * 128], panel[128 * HRK_DP];
    static float one[32 * HRK_DP + GUARD], two[32 * HRK_DP + GUARD];
    for (int64_t i = 0; i < 2 * 64 * 128; i++) {
        const float u = uniform((uint32_t)i, 1, 9);
        v[i] = i % 97 == 0 ? u * 1e-18f : i % 89 == 0 ? u * 1e-38f : i % 83 == 0 ? u * 1e15f : i % 79 == 0 ? 0 : u;
    }
    k.pair(64 * 128, v, v + 64 * 128, a);
    k.pair_row(2 * 128 * HRK_DP < 2 * 64 * 128 ? 2 * 128 * HRK_DP : 2 * 64 * 128, v, panel);
    for (int64_t i = 0; i < 64 * 128; i++) {
        assert_int_equal(a[i], hr_bf16_operand(v[i]) | hr_bf16_operand(v[64 * 128 + i]) << 16);
        const float rounded = hr_round_nearest(v[i], HR_GRID_BF16);
        assert_true(hr_bits_f32(a[i] << 16) == (fabsf(v[i]) < 0x1p-50f ? 0 : rounded));
    }
    for (int wide = 0; wide < 2; wide++)
        for (size_t r = 0; r < 11; r++)
            for (size_t s = 0; s < 6; s++)
                for (int accumulate = 0; accumulate < 2; accumulate++) {
                    const hrk_left16 left[] = {{a, 100, 1, 100, 0}, {a, 1, 32, 1000, 0}, {a, 16, 1, 16, 16 * 29}};
                    for (int l = 0; l < 3; l++) {
                        memset(one, 0xff, sizeof one);
                        for (int64_t i = 0; accumulate && i < 29 * HRK_DP; i++)
                            one[i] = (float)i;
                        memcpy(two, one, sizeof one);
                        (wide ? ref.gemm16_dp : ref.gemm16_bp)(rows[r], sums[s], left[l], panel, one, HRK_DP, 0.37f, accumulate);
                        (wide ? k.gemm16_dp : k.gemm16_bp)(rows[r], sums[s], left[l], panel, two, HRK_DP, 0.37f, accumulate);
                        assert_memory_equal(one, two, sizeof one);
                    }
                }
    double exact = 0, size = 0;
    const hrk_left16 left = {a, 1, 32, 1000, 0};
    ref.gemm16_bp(1, 100, left, panel, one, HRK_BP, 1, 0);
    for (int64_t i = 0; i < 100; i++)
        for (int half = 0; half < 2; half++) {
            const double x = (double)hr_bits_f32(a[i * 32] >> 16 * half << 16) * (double)hr_bits_f32(panel[i * HRK_BP] >> 16 * half << 16);
            exact += x;
            size += fabs(x);
        }
    assert_true(fabs((double)one[0] - exact) <= 200 * 0x1p-24 * size);
}

static void check_gemm_i8(hrk_table k)
{
    enum { M = 96 };
    static const int64_t rows[] = {0, 1, 2, 3, 4, 5, 11, 12, 13, 29, 31, 32, 33, 64, 95, 96}, groups[] = {0, 1, 16, 48, 100};
    static int8_t w[M * 448];
    static uint8_t x[100 * HRK_BP * 4];
    static float c[M * HRK_BP + GUARD], w_scale[M], x_scale[HRK_BP];
    int32_t w_sum[M];
    for (int64_t i = 0; i < M * 448; i++)
        w[i] = (int8_t)(i % 5 == 0 ? -127 : i % 7 == 0 ? 127 : i * 37 % 255 - 127);
    for (int64_t i = 0; i < 100 * HRK_BP * 4; i++)
        x[i] = (uint8_t)(i % 3 == 0 ? 255 : i % 11 == 0 ? 1 : 1 + i * 91 % 255);
    for (int64_t i = 0; i < M; i++)
        w_scale[i] = 0.001f * (float)(i + 1);
    for (int64_t i = 0; i < HRK_BP; i++)
        x_scale[i] = 0.37f / (float)(i + 1);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
        for (size_t g = 0; g < 5; g++) {
            for (int64_t m = 0; m < M; m++) {
                w_sum[m] = 0;
                for (int64_t i = 0; i < 4 * groups[g]; i++)
                    w_sum[m] += w[m * 448 + i];
            }
            memset(c, 0xff, sizeof c);
            k.gemm_i8(rows[r], groups[g], w, 448, w_sum, w_scale, x, x_scale, c, x, sizeof x);
            for (int64_t m = 0; m < rows[r]; m++)
                for (int64_t j = 0; j < HRK_BP; j++) {
                    int64_t s = 0;
                    for (int64_t i = 0; i < 4 * groups[g]; i++)
                        s += (int64_t)w[m * 448 + i] * (x[(i / 4 * HRK_BP + j) * 4 + i % 4] - 128);
                    assert_true(c[m * HRK_BP + j] == (float)s * (w_scale[m] * x_scale[j]));
                }
            for (int64_t i = rows[r] * HRK_BP; i < M * HRK_BP + GUARD; i++)
                assert_true(isnan(c[i]));
        }
}

/* The widest row: the sum reaches 127 * 127 * 131,072 < 2^31, and through the unsigned operand passes 2^32 on the way. */
static void check_gemm_i8_widest(hrk_table k)
{
    enum { D = 131072 };
    int8_t *w = malloc(D);
    uint8_t *x = malloc(D * HRK_BP);
    memset(w, 127, D);
    memset(x, 255, D * HRK_BP);
    const int32_t sum = 127 * D;
    float c[HRK_BP], x_scale[HRK_BP];
    for (int j = 0; j < HRK_BP; j++)
        x_scale[j] = 1;
    k.gemm_i8(1, D / 4, w, D, &sum, (float[]){1}, x, x_scale, c, x, 64);
    for (int j = 0; j < HRK_BP; j++)
        assert_true(c[j] == (float)(127.0 * 127 * D));
    free(w), free(x);
}

static void check_dot(hrk_table k)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    enum { M = 7 };
    static uint32_t codes[M * MOST];
    static float x[MOST], scale[M] = {1, 0.25f, 3, 1, 2, 0.01f, 1};
    for (int64_t i = 0; i < MOST; i++)
        x[i] = uniform((uint32_t)i, 1, 8);
    for (int t = 0; t < TYPES; t++)
        for (int s = 0; s < SIZES; s++)
            for (int64_t rows = 0; rows <= M; rows++) {
                hr_dtype d;
                assert_true(hr_dtype_parse(types[t], &d));
                const size_t pitch = (size_t)sizes[s] * d.bytes;
                fill_codes(d, codes, M * sizes[s], 4, 1);
                float one[M + 1], two[M + 1];
                memset(one, 0xff, sizeof one);
                memset(two, 0xff, sizeof two);
                ref.dot(rows, sizes[s], codes, pitch, scale, d, x, one);
                k.dot(rows, sizes[s], codes, pitch, scale, d, x, two);
                assert_memory_equal(one, two, sizeof one);
                for (int64_t m = 0; m < rows; m++) {
                    double exact = 0, size = 0;
                    for (int64_t i = 0; i < sizes[s]; i++) {
                        const double v = (double)hr_dtype_load(d, (uint8_t *)codes + (size_t)m * pitch, i, 1) *
                                         (d.id == HR_I8R ? (double)scale[m] : 1) * (double)x[i];
                        exact += v;
                        size += fabs(v);
                    }
                    assert_true(fabs((double)two[m] - exact) <= ((double)sizes[s] / 16 + 6) * 0x1p-24 * size);
                }
            }
}

static void check_reach(hrk_table k)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    float z[HRK_BP], error[HRK_BP], size[HRK_BP], limit[HRK_BP];
    for (uint32_t round = 0; round < 500; round++) {
        for (uint32_t j = 0; j < HRK_BP; j++) {
            z[j] = uniform(round, j, 1);
            error[j] = fabsf(uniform(round, j, 2));
            size[j] = fabsf(uniform(round, j, 3));
            limit[j] = j % 7 == 6 ? NAN : j % 5 == 4 ? INFINITY : j % 11 == 3 ? -INFINITY : uniform(round, j, 4);
        }
        const hrk_reach_args args = {.zscale = 0.7f, .bias = -0.2f, .size = 0.1f, .error = 0.3f};
        const uint32_t bits = k.reach(z, args, error, size, limit);
        assert_int_equal(bits, ref.reach(z, args, error, size, limit));
        for (int j = 0; j < HRK_BP; j++) {
            const double most = 0.7 * (double)(z[j] + 0.1f * error[j] + 0.3f * size[j]) - 0.2;
            if (fabs(most - (double)limit[j]) > 1e-5 || isnan(limit[j]))
                assert_int_equal(bits >> j & 1, !(most < (double)limit[j]));
        }
    }
}

static void check_sparsify(hrk_table k)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    enum { M = 5, STRIDE = (M + 1) * HRK_BP, PANELS = MOST / HRK_BP + 1, PITCH = MOST + HRK_BP };
    static float z[PANELS * STRIDE], g1[M * MOST + GUARD], g2[M * MOST + GUARD];
    static uint32_t r1[M * MOST + GUARD], r2[M * MOST + GUARD];
    static uint16_t draws[M * PITCH];
    static const float taus[] = {0, 0x1p-40f, 1e-6f, 0.0003f, 0.01f, 0.05f, 0.7f}, biases[] = {-60, -14, -8, -3, 0};
    for (int64_t i = 0; i < PANELS * STRIDE; i++)
        z[i] = 4 * uniform((uint32_t)i, 1, 5) * uniform((uint32_t)i, 2, 5);
    z[3] = 500, z[4] = -500, z[STRIDE + 5] = 1e30f, z[STRIDE + 6] = -1e30f;
    for (int s = 0; s < SIZES; s++)
        for (int t = 0; t < 7; t++)
            for (int b = 0; b < 5; b++) {
                const float bias[M] = {biases[b], biases[b] - 0.5f, biases[b], -100, biases[b] + 1};
                const hrk_sparsify_args args = {.zscale = 0.9f, .bias = bias, .gscale = 0.5f, .tau = taus[t],
                                                .refine = hr_rng_make(4, (uint64_t)s, 0, HR_STREAM_REFINE), .label = 77};
                for (uint32_t m = 0; m < M; m++)
                    ref.draws(hr_rng_make(4, (uint64_t)s, 0, HR_STREAM_SPARSE), 77 + m, PITCH, draws + m * PITCH);
                for (int64_t i = 0; i < M * PITCH; i += 3) { /* the draws that just do, just do not, or need the refining bits */
                    const int64_t m = i / PITCH, at = i % PITCH;
                    const float logit = fmaf(args.zscale, z[at / HRK_BP % PANELS * STRIDE + m * HRK_BP + at % HRK_BP], bias[m]);
                    const double whole = floor((double)(hr_sigmoid(logit) * (65536.0f / fmaxf(taus[t], 0x1p-40f)))) + (double)(i / 3 % 4) - 1;
                    draws[i] = i % 17 == 0 ? 0 : i / 3 % 4 == 3 ? 65535 : (uint16_t)fmax(0, fmin(65535, whole));
                }
                memset(r1, 0xff, sizeof r1), memset(r2, 0xff, sizeof r2);
                memset(g1, 0xff, sizeof g1), memset(g2, 0xff, sizeof g2);
                int64_t end1[M], end2[M + 1] = {0};
                ref.sparsify(M, sizes[s], z, STRIDE, draws, PITCH, args, r1, g1, end1);
                k.sparsify(M, sizes[s], z, STRIDE, draws, PITCH, args, r2, g2, end2 + 1);
                assert_memory_equal(end1, end2 + 1, sizeof end1);
                assert_memory_equal(r1, r2, (size_t)end1[M - 1] * sizeof *r1);
                assert_memory_equal(g1, g2, (size_t)end1[M - 1] * sizeof *g1);
                for (int64_t i = M * sizes[s]; i < M * MOST + GUARD; i++)
                    assert_true(r2[i] == UINT32_MAX && isnan(g2[i]));
                for (int m = 0; m < M; m++) {
                    for (int64_t i = end2[m] + 1; i < end2[m + 1]; i++)
                        assert_true(r2[i] > r2[i - 1]);
                    if (taus[t] == 0)
                        assert_int_equal(end2[m + 1] - end2[m], sizes[s]);
                }
            }
}

/* Backward and update from lists: the bits of the reference, for every type and width, and the reference against sums in double. */
static void check_sparse_sgd(hrk_table k)
{
    const hrk_table ref = hrk_table_make(HR_ISA_REF);
    enum { B = 40, M = 9, ROWS = 30, PITCH = 4 * HRK_DP + 64 };
    static const int64_t widths[] = {1, 7, 16, 33, HRK_DP - 1, HRK_DP};
    static float x[B * HRK_DP], all[B * HRK_DP], dx1[B * HRK_DP], dx2[B * HRK_DP], g[M * B], old[M], fresh[M];
    static uint8_t one[ROWS * PITCH], two[ROWS * PITCH];
    static uint16_t draws[M * HRK_DP];
    uint32_t row[M * B];
    int64_t start[M + 1] = {0}, label[M];
    for (int64_t i = 0; i < B * HRK_DP; i++)
        all[i] = uniform((uint32_t)i, 1, 6);
    for (int64_t m = 0; m < M; m++) { /* 0, 5, 10, ... entries, a row twice: the negative's and the positive's */
        start[m + 1] = start[m] + 5 * m;
        for (int64_t e = start[m]; e < start[m + 1]; e++) {
            row[e] = (uint32_t)((e - start[m]) / 2 * 2 % B);
            g[e] = uniform((uint32_t)e, 4, 6);
        }
        label[m] = m * m / 3 + m; /* with gaps */
        old[m] = ldexpf(1, (int)m - 9);
        fresh[m] = m % 3 ? old[m] : 2 * old[m];
    }
    ref.draws_panel(hr_rng_make(3, 1, 0, 0), 8, M, label, 64, draws);
    const hrk_lists l = {.count = M, .label = label, .start = start, .row = row, .g = g, .old = old, .fresh = fresh};
    for (int t = 0; t < TYPES; t++)
        for (size_t s = 0; s < sizeof widths / sizeof *widths; s++)
#if defined(__aarch64__) /* there the sign of a NaN depends on the order of operands, and eXmY, which has no NaN, keeps the sign */
            for (int r = 0; r < 3; r++) {
#else
            for (int r = 0; r < 6; r++) {
#endif
                const int64_t n = widths[s];
                const bool diverged = r >= 3; /* infinities, NaN and the largest codes: the same bits still */
                hrk_sgd_args args = {.step = diverged ? 1e30f : 0.37f, .keep = 0.99f, .rounding = (hr_rounding)(r % 3)};
                assert_true(hr_dtype_parse(types[t], &args.dtype));
                const bool i8r = args.dtype.id == HR_I8R;
                memset(one, 0x11, sizeof one);
                for (int64_t m = 0; m < M; m++)
                    fill_codes(args.dtype, (uint32_t *)(void *)(one + label[m] * PITCH), n, 1, (uint64_t)m);
                memcpy(two, one, sizeof one);
                for (int64_t i = 0; i < B * HRK_DP; i++) {
                    x[i] = i % HRK_DP >= n ? 0 : diverged && i % 5 == 0 ? (i % 2 ? INFINITY : -INFINITY) : all[i];
                    dx1[i] = dx2[i] = uniform((uint32_t)i, 2, 6);
                }
                if (i8r) {
                    float most1[M] = {0.01f}, most2[M] = {0.01f};
                    ref.sparse_absmax(&l, x, n, (int8_t *)one, PITCH, args, most1);
                    k.sparse_absmax(&l, x, n, (int8_t *)two, PITCH, args, most2);
                    assert_memory_equal(most1, most2, sizeof most1);
                }
                double w[HRK_DP], dw[HRK_DP] = {0}, first = dx1[row[start[8]] * HRK_DP];
                for (int64_t j = 0; j < n; j++)
                    w[j] = hr_dtype_load(args.dtype, one + label[8] * PITCH, j, old[8]);
                for (int64_t m = 0; m < M; m++)
                    for (int64_t e = start[m]; e < start[m + 1]; e++) {
                        if (row[e] == row[start[8]])
                            first += 0.25 * (double)g[e] * hr_dtype_load(args.dtype, one + label[m] * PITCH, 0, old[m]);
                        for (int64_t j = 0; m == 8 && j < n; j++)
                            dw[j] += (double)g[e] * x[row[e] * HRK_DP + (uint32_t)j];
                    }
                ref.sparse_sgd(&l, 0.25f, x, dx1, n, one, PITCH, draws, args);
                k.sparse_sgd(&l, 0.25f, x, dx2, n, two, PITCH, draws, args);
                assert_memory_equal(dx1, dx2, sizeof dx1);
                one_nan(args.dtype, one, sizeof one);
                one_nan(args.dtype, two, sizeof two);
                assert_memory_equal(one, two, sizeof one);
                if (diverged)
                    continue;
                assert_true(fabs(dx2[row[start[8]] * HRK_DP] - first) < 200 * 0x1p-23 * 40);
                for (int64_t j = 0; j < n; j++) {
                    const double v = 0.99 * w[j] - 0.37 * dw[j], got = hr_dtype_load(args.dtype, two + label[8] * PITCH, j, fresh[8]);
                    const hr_grid grid = i8r || args.dtype.id == HR_F32 ? (hr_grid){0} : hr_dtype_grid(args.dtype);
                    const double step = i8r ? fresh[8] : args.dtype.id == HR_F32 ? 1e-5 : ldexp(1, (ilogb(v) > grid.emin ? ilogb(v) : grid.emin) - grid.man);
                    assert_true(fabs(got - v) <= step * 1.001 || fabs(v) > (i8r ? 126 * fresh[8] : grid.max));
                }
            }
}

/* The expectation of hr_keep is its argument, from far above tau to far below 2^-16 of it: relative error within five standard
 * errors, with as many draws as the probability needs, taken by hr_keep from the streams the head uses. */
static void test_unbiased(void **state)
{
    (void)state;
    static const float values[] = {0.9f, 0.05f, 0.02f, 0.003f, 1e-4f, 3e-7f, 2e-8f};
    const float tau = 0.02f;
    for (size_t v = 0; v < 7; v++) {
        const double p = fmin(1, (double)values[v] / tau);
        /* 2^-16 of draws reach the refining bits; for tiny p only those with draw 0 are worth simulating */
        const bool tiny = p * 65536 < 0.5;
        const int64_t n = 1 << 21;
        int64_t kept = 0;
        double sum = 0;
        for (int64_t i = 0; i < n; i++) {
            const uint32_t label = (uint32_t)(i >> 10), b = (uint32_t)(i & 1023);
            const uint32_t draw = tiny ? 0 : hr_rng_draw16(hr_rng_make(9, 1, 0, HR_STREAM_SPARSE), label, b);
            const float got = hr_keep(values[v], tau, draw, hr_rng_make(9, 1, 0, HR_STREAM_REFINE), label, b);
            kept += got > 0;
            sum += got;
            assert_true(got == 0 || got == (values[v] >= tau ? values[v] : tau));
        }
        const double each = tiny ? p * 65536 : p, error = sqrt(each * (1 - each) / (double)n);
        assert_true(fabs((double)kept / (double)n - each) <= 5 * error + 1e-7);
        assert_true(sum > 0);
    }
}

static void test_quantize(void **state)
{
    (void)state;
    each_level(check_quantize);
    each_level(check_quantize_diverged);
}
static void test_gemm16(void **state)
{
    (void)state;
    each_level(check_gemm16);
}
static void test_gemm_i8(void **state)
{
    (void)state;
    each_level(check_gemm_i8);
    each_level(check_gemm_i8_widest);
}
static void test_scores(void **state)
{
    (void)state;
    each_level(check_dot);
    each_level(check_reach);
}
static void test_sparsify(void **state)
{
    (void)state;
    each_level(check_sparsify);
}
static void test_sparse_sgd(void **state)
{
    (void)state;
    each_level(check_sparse_sgd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quantize), cmocka_unit_test(test_quantize_e4m3),
                                       cmocka_unit_test(test_gemm16), cmocka_unit_test(test_gemm_i8), cmocka_unit_test(test_scores), cmocka_unit_test(test_sparsify),
                                       cmocka_unit_test(test_sparse_sgd), cmocka_unit_test(test_unbiased)};
    return cmocka_run_group_tests_name("sparse kernels", tests, NULL, NULL);
}
