/* The demonstration kernels under the emulator: ragged shapes, exact sums, every order of threads. */
#include "check.hpp"

#include "gemm.cuh"
#include "reduce.cuh"

#include <vector>

enum { F16, E4M3 };

/* A matrix of small integers, as numbers and as bytes; what a row has beyond its columns is NaN. */
struct operand {
    int rows, cols, bytes, pitch;
    std::vector<float> value;
    std::vector<unsigned char> stored;

    operand(int rows_, int cols_, int type, unsigned seed)
        : rows(rows_), cols(cols_), bytes(type == F16 ? 2 * cols_ : cols_), pitch((bytes + 15) / 16 * 16 + 16),
          value((size_t)(rows_ * cols_)), stored((size_t)(rows_ * pitch + 15), 0xff)
    {
        for (int r = 0; r < rows; r++)
            for (int c = 0; c < cols; c++) {
                const float v = (float)((int)(check_random(&seed) % 17) - 8);
                value[(size_t)(r * cols + c)] = v;
                const uint16_t code = type == F16 ? hre_f16_of(v) : hre_e4m3_of(v);
                memcpy(data() + r * pitch + (type == F16 ? 2 * c : c), &code, type == F16 ? 2 : 1);
            }
    }
    unsigned char *data()
    {
        return stored.data() + (16 - reinterpret_cast<uintptr_t>(stored.data()) % 16) % 16;
    }
};

static float exact_sum(const operand &a, const operand &b, int m, int n)
{
    float sum = 0;
    for (int k = 0; k < a.cols; k++)
        sum += a.value[(size_t)(m * a.cols + k)] * b.value[(size_t)(n * b.cols + k)];
    return sum;
}

static void check_gemm(int m, int n, int k, int type, uint32_t order)
{
    operand a(m, k, type, 1), b(n, k, type, 2);
    const int ldc = n + 3;
    std::vector<float> c((size_t)(m * ldc), -12345.0f);
    hre_launch launch;
    launch.kernel = type == F16 ? "gemm_nt f16" : "gemm_nt e4m3";
    launch.threads = GEMM_THREADS;
    launch.blocks = (m + GEMM_TILE - 1) / GEMM_TILE;
    launch.blocks_y = (n + GEMM_TILE - 1) / GEMM_TILE;
    launch.shared = GEMM_SHARED;
    launch.order = order;
    launch.count_conflicts = true;
    const gemm_args args = {m, n, a.bytes, a.data(), b.data(), a.pitch, b.pitch, c.data(), ldc};
    const hre_counts counts = type == F16 ? hre_run(launch, gemm_nt<false, 0>, args) : hre_run(launch, gemm_nt<true, 0>, args);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < ldc; j++) {
            const float expected = j < n ? exact_sum(a, b, i, j) : -12345.0f;
            CHECK(c[(size_t)(i * ldc + j)] == expected);
        }
    CHECK(counts.ldmatrix_phases > 0 && counts.access_phases > 0);
    CHECK_EQUAL(counts.ldmatrix_conflicts, 0);
    CHECK_EQUAL(counts.access_conflicts, 0);
}

static void test_gemm()
{
    const int shapes[][3] = {{1, 1, 1},    {64, 64, 32},  {64, 64, 64},    {63, 65, 31},
                             {65, 63, 33}, {100, 70, 97}, {130, 129, 200}, {3, 200, 161}};
    for (int type : {F16, E4M3})
        for (const auto &s : shapes)
            for (uint32_t order = 0; order < (s[0] == 65 ? 6u : 2u); order++)
                check_gemm(s[0], s[1], s[2], type, order);
}

static void test_widened()
{
    const int m = 32, n = 24, k = 80;
    operand w(m, k, E4M3, 3), x(n, k, F16, 4);
    std::vector<unsigned char> rows((size_t)(m * k));
    std::vector<uint16_t> stored((size_t)(n * k));
    for (int i = 0; i < m; i++)
        memcpy(&rows[(size_t)(i * k)], w.data() + i * w.pitch, (size_t)k);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < k; i++)
            stored[(size_t)(j * k + i)] = hre_f16_of(x.value[(size_t)(j * k + i / 16 * 16 + hrc_widened_k(i % 16))]);
    std::vector<float> c((size_t)(m * n));
    hre_launch launch;
    launch.kernel = "gemm_widened";
    launch.blocks = m / 16;
    launch.blocks_y = n / 8;
    hre_run(launch, gemm_widened, k, rows.data(), stored.data(), c.data(), n);
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++)
            CHECK(c[(size_t)(i * n + j)] == exact_sum(w, x, i, j));
}

static void test_transposed()
{
    alignas(16) uint16_t a[16][16], b[16][8];
    unsigned seed = 5;
    for (auto &row : a)
        for (uint16_t &v : row)
            v = hre_bf16_of((float)((int)(check_random(&seed) % 17) - 8));
    for (auto &row : b)
        for (uint16_t &v : row)
            v = hre_bf16_of((float)((int)(check_random(&seed) % 17) - 8));
    float c[16 * 8];
    hre_launch launch;
    launch.kernel = "gemm_tn_tile";
    launch.shared = 768;
    hre_run(launch, gemm_tn_tile, reinterpret_cast<const unsigned char *>(a), reinterpret_cast<const unsigned char *>(b), c);
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 8; n++) {
            float sum = 0;
            for (int k = 0; k < 16; k++)
                sum += hre_bf16_value(a[k][m]) * hre_bf16_value(b[k][n]);
            CHECK(c[m * 8 + n] == sum);
        }
}

static void test_reduce()
{
    for (int threads : {32, 96, 256, 1024})
        for (int n : {0, 1, 31, 1000, 5000})
            for (uint32_t order = 0; order < 4; order++) {
                std::vector<float> x((size_t)n);
                float expected = 0, sum[3], total = 0;
                for (int i = 0; i < n; i++)
                    expected += x[(size_t)i] = (float)(i % 7);
                hre_launch launch;
                launch.kernel = "reduce_sum";
                launch.threads = threads;
                launch.blocks = 3;
                launch.shared = (size_t)threads / 32 * sizeof(float);
                launch.order = order;
                const hre_counts counts = hre_run(launch, reduce_sum<1>, n, x.data(), sum);
                for (float s : sum)
                    total += s;
                CHECK(total == expected);
                CHECK_EQUAL(counts.barriers, 3);
            }
}

int main()
{
    const check_case cases[] = {
        {"gemm", test_gemm},
        {"widened e4m3", test_widened},
        {"transposed bf16", test_transposed},
        {"block sums", test_reduce},
    };
    return check_run(cases);
}
