/* device.h: every primitive against its definition. */
#include "check.hpp"

#include "cuda/device.h"
#include "dtype/dtype.h"

#include <vector>

static hre_launch one_warp(const char *kernel, size_t shared = 0)
{
    hre_launch launch;
    launch.kernel = kernel;
    launch.shared = shared;
    return launch;
}

/* ---- where am I ---- */

HRC_KERNEL(128, 1) write_position(int *out)
{
    const int block = hrc_block_y() * hrc_blocks() + hrc_block();
    int *p = out + (block * hrc_threads() + hrc_thread()) * 8;
    const int v[8] = {hrc_thread(), hrc_threads(), hrc_lane(), hrc_warp(), hrc_block(), hrc_blocks(), hrc_block_y(), hrc_blocks_y()};
    for (int i = 0; i < 8; i++)
        p[i] = v[i];
}

static void test_position()
{
    for (uint32_t order = 0; order < 3; order++) {
        std::vector<int> out(3 * 2 * 96 * 8, -1);
        hre_launch launch = one_warp("write_position");
        launch.threads = 96;
        launch.blocks = 3;
        launch.blocks_y = 2;
        launch.order = order;
        hre_run(launch, write_position, out.data());
        for (int y = 0; y < 2; y++)
            for (int x = 0; x < 3; x++)
                for (int t = 0; t < 96; t++) {
                    const int expected[8] = {t, 96, t % 32, t / 32, x, 3, y, 2};
                    CHECK(memcmp(&out[(size_t)(((y * 3 + x) * 96 + t) * 8)], expected, sizeof expected) == 0);
                }
    }
}

/* Who comes when, in a grid of two blocks. */
HRC_KERNEL(64, 1) note_turn(int *next, int *turns)
{
    turns[hrc_atomic_add(next, 1)] = hrc_block() * hrc_threads() + hrc_thread();
}

static std::vector<int> turns_of(uint32_t order)
{
    int next = 0;
    std::vector<int> turns(128, -1);
    hre_launch launch = one_warp("note_turn");
    launch.threads = 64;
    launch.blocks = 2;
    launch.order = order;
    hre_run(launch, note_turn, &next, turns.data());
    CHECK_EQUAL(next, 128);
    return turns;
}

static void test_orders()
{
    const std::vector<int> up = turns_of(0), down = turns_of(1);
    int same = 0, lanes_in_order = 0;
    for (int i = 0; i < 128; i++) {
        CHECK_EQUAL(up[(size_t)i], i);
        CHECK_EQUAL(down[(size_t)i], 127 - i);
    }
    const std::vector<int> random = turns_of(2), again = turns_of(2), other = turns_of(3);
    CHECK(random == again && random != other);
    std::vector<char> seen(128, 0);
    for (size_t i = 0; i < 128; i++) {
        seen[(size_t)random[i]]++;
        same += random[i] == (int)i;
        lanes_in_order += i > 0 && random[i] == random[i - 1] + 1;
    }
    CHECK(same < 32 && lanes_in_order < 32);
    for (char s : seen)
        CHECK_EQUAL(s, 1);
}

/* ---- within a warp ---- */

struct warp_out {
    uint32_t idx[32], exchanged[32], up[32], down[32], ballot[32];
    int32_t negative[32];
    float real[32];
    bool any_none[32], any_one[32];
};

HRC_KERNEL(32, 1) use_warp(int d, uint32_t bits, warp_out *out)
{
    const int lane = hrc_lane();
    const uint32_t v = 1000u + (uint32_t)lane;
    out->idx[lane] = hrc_shuffle(v, lane * 3 + d);
    out->exchanged[lane] = hrc_shuffle_xor(v, d);
    out->up[lane] = hrc_shuffle_up(v, d);
    out->down[lane] = hrc_shuffle_down(v, d);
    out->negative[lane] = hrc_shuffle_xor(-1 - lane, d);
    out->real[lane] = hrc_shuffle_xor(0.5f + (float)lane, d);
    out->ballot[lane] = hrc_ballot(bits >> lane & 1);
    out->any_none[lane] = hrc_any(false);
    out->any_one[lane] = hrc_any(lane == d);
}

static void test_warp()
{
    for (int d = 0; d < 32; d++)
        for (uint32_t order = 0; order < 3; order++) {
            hre_launch launch = one_warp("use_warp");
            launch.order = order;
            warp_out out;
            const uint32_t bits = 0x9e3779b9u * (uint32_t)d;
            hre_run(launch, use_warp, d, bits, &out);
            for (int lane = 0; lane < 32; lane++) {
                CHECK_EQUAL(out.idx[lane], 1000 + (lane * 3 + d) % 32);
                CHECK_EQUAL(out.exchanged[lane], 1000 + (lane ^ d));
                CHECK_EQUAL(out.up[lane], 1000 + (lane - d < 0 ? lane : lane - d));
                CHECK_EQUAL(out.down[lane], 1000 + (lane + d > 31 ? lane : lane + d));
                CHECK_EQUAL(out.negative[lane], -1 - (lane ^ d));
                CHECK(out.real[lane] == 0.5f + (float)(lane ^ d));
                CHECK_EQUAL(out.ballot[lane], bits);
                CHECK(!out.any_none[lane] && out.any_one[lane]);
            }
        }
}

/* ---- atomics ---- */

HRC_KERNEL(64, 1) use_atomics(int32_t *sum, uint32_t *wrap, float *real, int32_t *most, uint32_t *bits, int32_t *slots)
{
    int32_t *count = reinterpret_cast<int32_t *>(hrc_shared());
    const int i = hrc_block() * hrc_threads() + hrc_thread();
    if (hrc_thread() == 0)
        *count = 0;
    hrc_sync();
    const int32_t slot = hrc_atomic_add(count, 1);
    slots[hrc_block() * hrc_threads() + slot] = i;
    hrc_atomic_add(sum, i - 100);
    hrc_atomic_add(wrap, 0xfffffff0u);
    hrc_atomic_add(real, 0.5f);
    hrc_atomic_max(most, i * 7 % 31 - 20);
    hrc_atomic_or(bits, 1u << i % 20);
}

static void test_atomics()
{
    int32_t sum = 0, most = -1000, slots[128] = {};
    uint32_t wrap = 5, bits = 0;
    float real = 1;
    hre_launch launch = one_warp("use_atomics", 4);
    launch.threads = 64;
    launch.blocks = 2;
    launch.order = 7;
    hre_run(launch, use_atomics, &sum, &wrap, &real, &most, &bits, slots);
    CHECK_EQUAL(sum, 128 * 127 / 2 - 100 * 128);
    CHECK_EQUAL(wrap, (uint32_t)(5 - 16 * 128));
    CHECK(real == 65.0f);
    CHECK_EQUAL(most, 10);
    CHECK_EQUAL(bits, 0xfffff);
    int32_t all = 0;
    for (int32_t s : slots)
        all += s;
    CHECK_EQUAL(all, 128 * 127 / 2); /* each thread once, at the slot it was given */
}

/* ---- 16 bytes at a time ---- */

struct copy_out {
    unsigned char before[32], first[32], both[32];
};

/* Copies bytes 0..15 of lane's source in one group and 16..31 in another; `bytes` of each. */
HRC_KERNEL(32, 1) use_copies(const unsigned char *from, int bytes, copy_out *out)
{
    unsigned char *to = hrc_shared() + 32 * hrc_lane();
    const unsigned char *source = from + 32 * hrc_lane();
    hrc_store16(to, hrc_vec16{{1, 2, 3, 4}});
    hrc_store16(to + 16, hrc_vec16{{5, 6, 7, 8}});
    hrc_copy16_async(to, source, bytes);
    hrc_copy_commit();
    hrc_copy16_async(to + 16, source + 16, bytes);
    hrc_copy_wait<0>(); /* the second is in no group yet */
    for (int i = 0; i < 32; i++)
        out[hrc_lane()].first[i] = to[i];
    hrc_copy_commit();
    hrc_copy_wait<1>();
    for (int i = 0; i < 32; i++)
        out[hrc_lane()].before[i] = to[i];
    hrc_copy_wait<0>();
    hrc_store16(out[hrc_lane()].both, hrc_load16(to));
    hrc_store16(out[hrc_lane()].both + 16, hrc_load16(to + 16));
}

static void test_copies()
{
    alignas(16) unsigned char from[1024];
    alignas(16) static copy_out out[32];
    static_assert(sizeof(copy_out) % 16 == 0 && offsetof(copy_out, both) % 16 == 0, "aligned");
    for (int i = 0; i < 1024; i++)
        from[i] = (unsigned char)(i % 251);
    for (int bytes = 0; bytes <= 16; bytes++) {
        hre_run(one_warp("use_copies", 1024), use_copies, from, bytes, out);
        for (int lane = 0; lane < 32; lane++)
            for (int i = 0; i < 32; i++) {
                const int arrived = i % 16 < bytes ? from[32 * lane + i] : 0;
                CHECK_EQUAL(out[lane].first[i], i < 16 ? arrived : 0xff);
                CHECK_EQUAL(out[lane].before[i], i < 16 ? arrived : 0xff);
                CHECK_EQUAL(out[lane].both[i], arrived);
            }
    }
}

/* ---- matrices ---- */

HRC_KERNEL(32, 1) use_ldmatrix(const uint16_t *from, const int *rows, uint32_t *out)
{
    uint16_t *shared = reinterpret_cast<uint16_t *>(hrc_shared());
    for (int i = hrc_lane(); i < 64 * 8; i += 32)
        shared[i] = from[i];
    hrc_sync_warp();
    const unsigned char *row = hrc_shared() + 16 * rows[hrc_lane()], *anywhere = reinterpret_cast<const unsigned char *>(3);
    uint32_t *r = out + hrc_lane() * 14;
    hrc_ldmatrix_x1(r, hrc_lane() < 8 ? row : anywhere);
    hrc_ldmatrix_x1_trans(r + 1, hrc_lane() < 8 ? row : anywhere);
    hrc_ldmatrix_x2(r + 2, hrc_lane() < 16 ? row : anywhere);
    hrc_ldmatrix_x2_trans(r + 4, hrc_lane() < 16 ? row : anywhere);
    hrc_ldmatrix_x4(r + 6, row);
    hrc_ldmatrix_x4_trans(r + 10, row);
}

static void test_ldmatrix()
{
    std::vector<uint16_t> from(64 * 8);
    int rows[32];
    unsigned seed = 1;
    for (uint16_t &v : from)
        v = (uint16_t)check_random(&seed);
    for (int &row : rows)
        row = (int)(check_random(&seed) % 64);
    std::vector<uint32_t> out(32 * 14);
    hre_run(one_warp("use_ldmatrix", 1024), use_ldmatrix, from.data(), rows, out.data());
    const int first[3] = {0, 2, 6}, count[3] = {1, 2, 4};
    for (int lane = 0; lane < 32; lane++)
        for (int which = 0; which < 3; which++)
            for (int m = 0; m < count[which]; m++)
                for (int e = 0; e < 2; e++) {
                    const uint32_t *r = &out[(size_t)(lane * 14 + first[which])];
                    const int line = lane >> 2, pair = 2 * (lane & 3) + e;
                    const uint16_t plain = from[(size_t)(rows[8 * m + line] * 8 + pair)];
                    const uint16_t trans = from[(size_t)(rows[8 * m + pair] * 8 + line)];
                    CHECK_EQUAL(r[m] >> 16 * e & 0xffff, plain);
                    CHECK_EQUAL(r[count[which] + m] >> 16 * e & 0xffff, trans);
                }
}

HRC_KERNEL(32, 1) use_mma(int type, const uint32_t *a, const uint32_t *b, float *d)
{
    uint32_t ra[4], rb[2];
    for (int i = 0; i < 4; i++)
        ra[i] = a[hrc_lane() * 4 + i];
    for (int i = 0; i < 2; i++)
        rb[i] = b[hrc_lane() * 2 + i];
    float *rd = d + hrc_lane() * 4;
    if (type == HRE_MMA_F16)
        hrc_mma_f16(rd, ra, rb);
    else if (type == HRE_MMA_BF16)
        hrc_mma_bf16(rd, ra, rb);
    else
        hrc_mma_e4m3(rd, ra, rb);
}

static uint32_t code_of(float v, int type)
{
    return type == HRE_MMA_F16 ? hre_f16_of(v) : type == HRE_MMA_BF16 ? hre_bf16_of(v) : hre_e4m3_of(v);
}

/* d (16, 8) += a (16, depth) b (depth, 8) with fragments packed by the PTX ISA's words: the lane group g = lane / 4 and its member q
 * hold rows g and g + 8 and, of each half of k, `per` neighbours from per * q, where a register has `per` elements of `bits`. */
static void run_mma(int type, const std::vector<float> &a, const std::vector<float> &b, std::vector<float> *d)
{
    const int depth = type == HRE_MMA_E4M3 ? 32 : 16, per = depth / 8, bits = 32 / per;
    uint32_t ra[128] = {}, rb[64] = {};
    float rd[128];
    for (int g = 0; g < 8; g++)
        for (int q = 0; q < 4; q++)
            for (int half = 0; half < 2; half++)
                for (int i = 0; i < per; i++) {
                    const int k = half * depth / 2 + per * q + i, lane = 4 * g + q;
                    for (int low = 0; low < 2; low++)
                        ra[lane * 4 + 2 * half + low] |= code_of(a[(size_t)((g + 8 * low) * depth + k)], type) << bits * i;
                    rb[lane * 2 + half] |= code_of(b[(size_t)(k * 8 + g)], type) << bits * i;
                }
    for (int i = 0; i < 128; i++)
        rd[i] = (*d)[(size_t)((i / 16 + i / 2 % 2 * 8) * 8 + i / 4 % 4 * 2 + i % 2)];
    hre_run(one_warp("use_mma"), use_mma, type, ra, rb, rd);
    for (int i = 0; i < 128; i++)
        (*d)[(size_t)((i / 16 + i / 2 % 2 * 8) * 8 + i / 4 % 4 * 2 + i % 2)] = rd[i];
}

static void test_mma()
{
    unsigned seed = 9;
    for (int type = HRE_MMA_F16; type <= HRE_MMA_E4M3; type++) {
        const int depth = type == HRE_MMA_E4M3 ? 32 : 16;
        std::vector<float> a((size_t)(16 * depth)), b((size_t)(depth * 8)), d(128);
        for (std::vector<float> *v : {&a, &b, &d})
            for (float &x : *v)
                x = (float)((int)(check_random(&seed) % 31) - 15) / 4;
        for (float &x : a)
            x = hre_e4m3_value(hre_e4m3_of(x));
        for (float &x : b)
            x = hre_e4m3_value(hre_e4m3_of(x));
        std::vector<float> expected = d;
        for (int m = 0; m < 16; m++)
            for (int n = 0; n < 8; n++)
                for (int k = 0; k < depth; k++)
                    expected[(size_t)(m * 8 + n)] += a[(size_t)(m * depth + k)] * b[(size_t)(k * 8 + n)];
        run_mma(type, a, b, &d);
        for (size_t i = 0; i < 128; i++)
            CHECK(d[i] == expected[i]);
    }
}

/* The emulator's order: 2^24 first, to which ones are added one by one and lost. Products of subnormals are exact. */
static void test_mma_order()
{
    std::vector<float> a(256, 0), b(128, 0), d(128, 0);
    for (int k = 0; k < 16; k++) {
        a[(size_t)k] = k == 0 ? 4096 : 1; /* row 0: the largest first */
        a[(size_t)(16 + k)] = k == 15 ? 4096 : 1;
        b[(size_t)(k * 8)] = k == 0 || k == 15 ? 4096 : 1;
    }
    a[15] = a[16] = 0;
    a[2 * 16 + 3] = 0x1p-24f; /* the smallest f16 */
    b[3 * 8 + 1] = 0x1p-24f;
    run_mma(HRE_MMA_F16, a, b, &d);
    CHECK(d[0] == 0x1p24f);
    CHECK(d[8] == 0x1p24f + 14);
    CHECK(d[2 * 8 + 1] == 0x1p-48f);
}

/* ---- numbers ---- */

HRC_KERNEL(32, 1) convert_codes(uint32_t *hardware, uint32_t *software, uint32_t *four)
{
    for (int v = hrc_lane(); v < 65536; v += 32) {
        hardware[v] = hrc_e4m3x2_to_f16x2((uint16_t)v);
        software[v] = hrc_e4m3x2_to_f16x2_soft((uint16_t)v);
        hrc_e4m3x4_to_f16x4((uint32_t)v << 16 | (uint32_t)(65535 - v), four + 2 * v);
    }
}

static bool is_nan_code(int c)
{
    return (c & 0x7f) == 0x7f;
}

/* All pairs of codes: hardware's rule, the software of sm_80 and src/dtype agree but for NaN, which does not occur. */
static void test_e4m3_to_f16()
{
    std::vector<uint32_t> hardware(65536), software(65536), four(2 * 65536);
    hre_run(one_warp("convert_codes"), convert_codes, hardware.data(), software.data(), four.data());
    for (int v = 0; v < 65536; v++) {
        for (int half = 0; half < 2; half++) {
            const int code = v >> 8 * half & 0xff;
            const uint16_t h = (uint16_t)(hardware[(size_t)v] >> 16 * half), s = (uint16_t)(software[(size_t)v] >> 16 * half);
            if (is_nan_code(code)) {
                CHECK_EQUAL(h, 0x7fff);
                CHECK_EQUAL(s, code == 0x7f ? 0x5f80 : 0xdf80); /* +-480 */
                continue;
            }
            CHECK_EQUAL(h, s);
            CHECK(hre_f16_value(h) == hr_e4m3_decode((uint8_t)code));
            CHECK_EQUAL(h >> 15, code >> 7);
        }
        CHECK_EQUAL(four[(size_t)(2 * v + 1)], hardware[(size_t)v]);
        CHECK_EQUAL(four[(size_t)(2 * v)], hardware[(size_t)(65535 - v)]);
    }
}

/* What lies on, below and above every code and every midpoint of two codes, and beyond the largest. */
static std::vector<float> near_codes(const std::vector<float> &grid)
{
    std::vector<float> values;
    for (size_t i = 0; i + 1 < grid.size(); i++)
        for (float v : {grid[i], (grid[i] + grid[i + 1]) / 2})
            for (float x : {v, nextafterf(v, -1.0f), nextafterf(v, INFINITY)})
                if (x >= 0) {
                    values.push_back(x);
                    values.push_back(-x);
                }
    return values;
}

HRC_KERNEL(32, 1) round_numbers(int n, const float *v, uint16_t *e4m3, uint16_t *e4m3_soft, uint32_t *f16, uint32_t *bf16)
{
    for (int i = hrc_lane(); i < n; i += 32) {
        e4m3[i] = hrc_e4m3x2(v[i], -v[i]);
        e4m3_soft[i] = hrc_e4m3x2_soft(v[i], -v[i]);
        f16[i] = hrc_f16x2(v[i], -v[i]);
        bf16[i] = hrc_bf16x2(v[i], -v[i]);
    }
}

static void test_rounding()
{
    std::vector<float> grid;
    for (int c = 0; c < 0x7f; c++)
        grid.push_back(hr_e4m3_decode((uint8_t)c));
    for (int c = 0; c < 0x7c00; c += 1)
        grid.push_back(hr_f16_decode((uint16_t)c));
    std::vector<float> values = near_codes(grid);
    for (float v : {448.0f, 463.9f, 464.0f, 480.0f, 1e6f, 65519.0f, 1e-30f, 1e-45f, 3e38f, INFINITY})
        values.push_back(v);
    const int n = (int)values.size();
    std::vector<uint16_t> e4m3((size_t)n), soft((size_t)n);
    std::vector<uint32_t> f16((size_t)n), bf16((size_t)n);
    hre_run(one_warp("round_numbers"), round_numbers, n, values.data(), e4m3.data(), soft.data(), f16.data(), bf16.data());
    for (int i = 0; i < n; i++) {
        const float v = values[(size_t)i];
        const uint32_t other_zero = fabsf(v) <= 0x1p-10f; /* src/dtype has one zero: the sign is not compared */
        const uint32_t sign = other_zero ? 0u : ~0u;
        CHECK_EQUAL(e4m3[(size_t)i], soft[(size_t)i]);
        CHECK_EQUAL(e4m3[(size_t)i] >> 8, (e4m3[(size_t)i] & 0xff) ^ 0x80); /* the other half got -v */
        const uint8_t code = hr_e4m3_encode(hr_round_nearest(v, HR_GRID_E4M3));
        CHECK_EQUAL(e4m3[(size_t)i] & (0x7f | (sign & 0x80)), code & (0x7f | (sign & 0x80)));
        if (fabsf(v) < 65520.0f) {
            const uint16_t half = hr_f16_encode(hr_round_nearest(v, HR_GRID_F16));
            CHECK_EQUAL(f16[(size_t)i] & 0x7fff, half & 0x7fff);
        } else {
            CHECK_EQUAL(f16[(size_t)i] & 0x7fff, 0x7c00);
        }
        CHECK_EQUAL(f16[(size_t)i] >> 16, (f16[(size_t)i] & 0xffff) ^ 0x8000);
        CHECK_EQUAL(f16[(size_t)i] >> 15 & 1, signbit(v) != 0);
        if (isfinite(v))
            CHECK_EQUAL(bf16[(size_t)i] & 0x7fff, hr_bf16_encode(hr_round_nearest(v, HR_GRID_BF16)) & 0x7fff);
        CHECK_EQUAL(bf16[(size_t)i] >> 16, (bf16[(size_t)i] & 0xffff) ^ 0x8000);
    }
}

HRC_KERNEL(32, 1) use_bits(const uint32_t *a, const uint32_t *b, const uint32_t *s, uint32_t *perm, int *count, uint32_t *product,
                           float *low, float *high, float *exp2, float *rcp)
{
    const int lane = hrc_lane();
    perm[lane] = hrc_byte_perm(a[lane], b[lane], s[lane]);
    count[lane] = hrc_popcount(a[lane]);
    product[lane] = hrc_f16x2_mul(hrc_f16x2(1.5f, -3.0f), hrc_f16x2((float)lane, 0.25f));
    low[lane] = hrc_f16_low(product[lane]);
    high[lane] = hrc_f16_high(product[lane]);
    exp2[lane] = hrc_exp2((float)lane - 16);
    rcp[lane] = hrc_rcp(hrc_bits_float(hrc_float_bits((float)lane + 1)));
}

static void test_bits()
{
    uint32_t a[32], b[32], s[32], perm[32], product[32];
    int count[32];
    float low[32], high[32], power[32], rcp[32];
    unsigned seed = 11;
    for (int i = 0; i < 32; i++) {
        a[i] = check_random(&seed) << 16 ^ check_random(&seed);
        b[i] = check_random(&seed) << 16 ^ check_random(&seed);
        s[i] = check_random(&seed) & 0x7777;
    }
    hre_run(one_warp("use_bits"), use_bits, a, b, s, perm, count, product, low, high, power, rcp);
    for (int i = 0; i < 32; i++) {
        unsigned char bytes[8], expected[4];
        memcpy(bytes, &a[i], 4);
        memcpy(bytes + 4, &b[i], 4);
        for (int j = 0; j < 4; j++)
            expected[j] = bytes[s[i] >> 4 * j & 7];
        CHECK(memcmp(&perm[i], expected, 4) == 0);
        int ones = 0;
        for (int j = 0; j < 32; j++)
            ones += (int)(a[i] >> j & 1);
        CHECK_EQUAL(count[i], ones);
        CHECK(low[i] == 1.5f * (float)i && high[i] == -0.75f);
        CHECK(power[i] == ldexpf(1, i - 16));
        CHECK(fabsf(rcp[i] * (float)(i + 1) - 1) < 1e-6f);
    }
}

int main()
{
    const check_case cases[] = {
        {"position", test_position},
        {"orders of threads", test_orders},
        {"shuffles and votes", test_warp},
        {"atomics", test_atomics},
        {"asynchronous copies", test_copies},
        {"ldmatrix", test_ldmatrix},
        {"mma", test_mma},
        {"order of mma", test_mma_order},
        {"e4m3 to f16", test_e4m3_to_f16},
        {"rounding", test_rounding},
        {"bits", test_bits},
    };
    return check_run(cases);
}
