/* layout.h: each index function against a second formulation, and against what it is for. */
#include "check.hpp"

#include "cuda/device.h"

#include <vector>

/* Marks places of a rows x cols matrix, each of which must come once. */
struct once {
    int rows, cols;
    std::vector<char> seen;

    once(int rows_, int cols_) : rows(rows_), cols(cols_), seen((size_t)(rows_ * cols_), 0)
    {
    }
    void mark(int row, int col)
    {
        CHECK(row >= 0 && row < rows && col >= 0 && col < cols);
        CHECK(!seen[(size_t)(row * cols + col)]);
        seen[(size_t)(row * cols + col)] = 1;
    }
    void check_all()
    {
        for (char s : seen)
            CHECK(s);
    }
};

static void check_place(hrc_place p, int row, int col)
{
    CHECK_EQUAL(p.row, row);
    CHECK_EQUAL(p.col, col);
}

/* The PTX ISA's conditions on i, as it writes them. */
static void test_mma_fragments()
{
    once a16(16, 16), b16(16, 8), a8(16, 32), b8(32, 8), c(16, 8);
    for (int lane = 0; lane < 32; lane++) {
        const int group = lane >> 2, in_group = lane & 3;
        for (int i = 0; i < 8; i++) {
            const hrc_place p = hrc_mma_a16(lane, i);
            const int row = (0 <= i && i < 2) || (4 <= i && i < 6) ? group : group + 8;
            check_place(p, row, i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8);
            a16.mark(p.row, p.col);
        }
        for (int i = 0; i < 4; i++) {
            const hrc_place p = hrc_mma_b16(lane, i);
            check_place(p, i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8, group);
            b16.mark(p.row, p.col);
        }
        for (int i = 0; i < 16; i++) {
            const hrc_place p = hrc_mma_a8(lane, i);
            const int row = (0 <= i && i < 4) || (8 <= i && i < 12) ? group : group + 8;
            check_place(p, row, i < 8 ? in_group * 4 + (i & 3) : in_group * 4 + (i & 3) + 16);
            a8.mark(p.row, p.col);
        }
        for (int i = 0; i < 8; i++) {
            const hrc_place p = hrc_mma_b8(lane, i);
            check_place(p, i < 4 ? in_group * 4 + (i & 3) : in_group * 4 + (i & 3) + 16, group);
            b8.mark(p.row, p.col);
        }
        for (int i = 0; i < 4; i++) {
            const hrc_place p = hrc_mma_c(lane, i);
            check_place(p, i < 2 ? group : group + 8, in_group * 2 + (i & 1));
            c.mark(p.row, p.col);
        }
    }
    a16.check_all(), b16.check_all(), a8.check_all(), b8.check_all(), c.check_all();
}

static void test_ldmatrix()
{
    once plain(8, 8), trans(8, 8), lanes(1, 32);
    for (int lane = 0; lane < 32; lane++)
        for (int e = 0; e < 2; e++) {
            const hrc_place p = hrc_ldmatrix(lane, e), t = hrc_ldmatrix_trans(lane, e);
            plain.mark(p.row, p.col);
            trans.mark(t.row, t.col);
            check_place(t, p.col, p.row);
            CHECK_EQUAL(p.row * 4 + p.col / 2, lane); /* rows of four registers, in the order of the lanes */
        }
    for (int matrix = 0; matrix < 4; matrix++)
        for (int row = 0; row < 8; row++)
            lanes.mark(0, hrc_ldmatrix_lane(matrix, row));
    plain.check_all(), trans.check_all(), lanes.check_all();
}

/* A warpgroup's fragments are those of four warps' m16n8 (k16, k32) stacked; each eight columns more are four registers more. */
static void test_wgmma_fragments()
{
    for (int n = 8; n <= 256; n += 8) {
        once d(64, n);
        for (int t = 0; t < 128; t++)
            for (int i = 0; i < n / 2; i++) {
                const hrc_place p = hrc_wgmma_d(t, i), of_mma = hrc_mma_c(t & 31, i & 3);
                check_place(p, (t >> 5) * 16 + of_mma.row, (i >> 2) * 8 + of_mma.col);
                d.mark(p.row, p.col);
            }
        d.check_all();
    }
    once a16(64, 16), a8(64, 32);
    for (int t = 0; t < 128; t++) {
        for (int i = 0; i < 8; i++) {
            const hrc_place p = hrc_wgmma_a16(t, i), of_mma = hrc_mma_a16(t & 31, i);
            check_place(p, (t >> 5) * 16 + of_mma.row, of_mma.col);
            a16.mark(p.row, p.col);
        }
        for (int i = 0; i < 16; i++) {
            const hrc_place p = hrc_wgmma_a8(t, i), of_mma = hrc_mma_a8(t & 31, i);
            check_place(p, (t >> 5) * 16 + of_mma.row, of_mma.col);
            a8.mark(p.row, p.col);
        }
    }
    a16.check_all(), a8.check_all();
}

/* By lines of the swizzle's own width instead of address bits: a pattern of eight chunks high repeats every 8 * width bytes. */
static uint32_t swizzled_by_lines(uint32_t address, int width)
{
    if (width == 0)
        return address;
    const uint32_t w = (uint32_t)width, chunks = w / 16, line = address / w, chunk = address % w / 16, byte = address % 16;
    const uint32_t lines_of_128 = line / (128 / w); /* lines share a row of all banks */
    return line * w + (chunk ^ lines_of_128 % chunks) * 16 + byte;
}

static void test_swizzle_address()
{
    for (int width : {0, 32, 64, 128}) {
        once image(1, 8192);
        for (uint32_t address = 0; address < 8192; address++) {
            const uint32_t s = hrc_swizzle_address(address, width);
            CHECK_EQUAL(s, swizzled_by_lines(address, width));
            CHECK_EQUAL(hrc_swizzle_address(s, width), address);
            image.mark(0, (int)s);
        }
    }
    CHECK_EQUAL(hrc_swizzle_address(1024 + 3 * 128 + 5 * 16 + 7, 128), 1024 + 3 * 128 + 6 * 16 + 7);
}

/* Shapes and strides of the canonical layouts: an index is taken apart into digits, fastest first; the last digit is the rest. */
static uint32_t by_strides(int index, std::vector<int> shape, std::vector<uint32_t> stride)
{
    uint32_t offset = 0;
    for (size_t i = 0; i < stride.size(); i++) {
        const int digit = i < shape.size() ? index % shape[i] : index;
        index = i < shape.size() ? index / shape[i] : 0;
        offset += (uint32_t)digit * stride[i];
    }
    return offset;
}

static void test_wgmma_k_major()
{
    for (int width : {0, 32, 64, 128}) {
        const int rows = 64, bytes = width == 0 ? 64 : width;
        const uint32_t lbo = width == 0 ? rows * 16 : 1, sbo = width == 0 ? 128 : 8 * (uint32_t)width;
        once memory(1, rows * bytes);
        for (int mn = 0; mn < rows; mn++)
            for (int kb = 0; kb < bytes; kb++) {
                const uint32_t line = width == 0 ? 16 : (uint32_t)width;
                const uint32_t plain = by_strides(mn, {8}, {line, sbo}) +
                                       (width == 0 ? by_strides(kb, {16}, {1, lbo}) : by_strides(kb, {}, {1}));
                const uint32_t at = hrc_wgmma_k_major(mn, kb, lbo, sbo, width);
                CHECK_EQUAL(at, swizzled_by_lines(plain, width));
                memory.mark(0, (int)at);
            }
        memory.check_all();
    }
}

static void test_wgmma_mn_major()
{
    for (int width : {0, 32, 64, 128}) {
        const int depth = 64, bytes = 256; /* 128 rows or columns of 16 bits */
        const uint32_t line = width == 0 ? 16 : (uint32_t)width, group = 8 * line;
        const uint32_t to_k = group, to_mn = group * depth / 8; /* eight k further; a line's width of mn further */
        const uint32_t lbo = width == 0 ? to_k : to_mn, sbo = width == 0 ? to_mn : to_k;
        once memory(1, depth * bytes);
        for (int k = 0; k < depth; k++)
            for (int mnb = 0; mnb < bytes; mnb++) {
                const uint32_t plain = by_strides(k, {8}, {line, to_k}) + by_strides(mnb, {(int)line}, {1, to_mn});
                const uint32_t at = hrc_wgmma_mn_major(mnb, k, lbo, sbo, width);
                CHECK_EQUAL(at, swizzled_by_lines(plain, width));
                memory.mark(0, (int)at);
            }
        memory.check_all();
    }
}

/* K1's batch and K2's slice: the lanes of one q hold neighbours, in the order of their registers. */
static void test_column_trick()
{
    for (int N = 8; N <= 256; N += 8) {
        once columns(1, N);
        for (int n = 0; n < N; n++) {
            columns.mark(0, hrc_spread_column(n, N));
            CHECK_EQUAL(hrc_mma_column(hrc_spread_column(n, N), N), n);
        }
        for (int lane = 0; lane < 32; lane++) {
            int expected = N / 4 * (lane & 3);
            for (int j = 0; j < N / 8; j++)
                for (int e = 0; e < 2; e++) {
                    const int n = 8 * j + hrc_mma_c(lane, e).col;
                    CHECK_EQUAL(hrc_spread_column(n, N), expected++);
                }
        }
    }
}

/* Lane q's pairs of k in a fragment of A are the bytes 4q .. 4q + 3, in order; B has the same k at the same place. */
static void test_widened_k()
{
    once ks(1, 16);
    for (int k = 0; k < 16; k++) {
        ks.mark(0, hrc_widened_k(k));
        CHECK_EQUAL(hrc_mma_k(hrc_widened_k(k)), k);
    }
    for (int lane = 0; lane < 32; lane++) {
        const int of_row[4] = {0, 1, 4, 5}; /* elements of the fragment in the lane's first row */
        for (int i = 0; i < 4; i++) {
            CHECK_EQUAL(hrc_widened_k(hrc_mma_a16(lane, of_row[i]).col), 4 * (lane & 3) + i);
            CHECK_EQUAL(hrc_widened_k(hrc_mma_b16(lane, i).row), 4 * (lane & 3) + i);
        }
    }
}

static void test_swizzle_chunk()
{
    for (int chunks = 4; chunks <= 32; chunks += 4) {
        once tile(1, 64 * chunks);
        for (int row = 0; row < 64; row++)
            for (int chunk = 0; chunk < chunks; chunk++) {
                const uint32_t at = hrc_tile_offset(row, chunk, chunks);
                CHECK_EQUAL(at % 16, 0);
                CHECK_EQUAL(at / 16 / (uint32_t)chunks, row); /* rows stay together */
                tile.mark(0, (int)(at / 16));
            }
    }
    for (int row = 0; row < 4; row++)
        for (int chunk = 0; chunk < 16; chunk++)
            CHECK_EQUAL(hrc_code_chunk(row, chunk), row & 1 ? chunk ^ 4 : chunk);
}

/* ---- bank conflicts, counted by the emulator ---- */

/* Fills a tile of 64 rows by 16-byte stores, chunk after chunk, and reads all of it by ldmatrix, from every row that eight rows can
 * begin at. */
HRC_KERNEL(32, 1) fill_and_read(int chunks, int swizzled, uint32_t *out)
{
    unsigned char *tile = hrc_shared();
    for (int i = hrc_lane(); i < 64 * chunks; i += 32) {
        const uint32_t at = swizzled ? hrc_tile_offset(i / chunks, i % chunks, chunks) : (uint32_t)i * 16;
        hrc_store16(tile + at, hrc_vec16{{(uint32_t)i, 0, 0, 0}});
    }
    hrc_sync_warp();
    uint32_t sum = 0;
    for (int first = 0; first <= 64 - 32; first++)
        for (int chunk = 0; chunk < chunks; chunk++) {
            const int row = first + hrc_lane();
            uint32_t r[4];
            hrc_ldmatrix_x4(r, tile + (swizzled ? hrc_tile_offset(row, chunk, chunks) : (uint32_t)(row * chunks + chunk) * 16));
            if (hrc_lane() % 4 == 0) /* the first word of each row */
                sum += r[0] + r[1] + r[2] + r[3];
        }
    out[hrc_lane()] = sum;
}

static uint64_t sum_of(const uint32_t *v, int n)
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += v[i];
    return sum;
}

static void test_conflicts_of_tiles()
{
    for (int chunks : {4, 8, 12, 16}) {
        hre_launch launch;
        launch.kernel = "fill_and_read";
        launch.shared = (size_t)chunks * 64 * 16;
        launch.count_conflicts = true;
        uint32_t plain[32], swizzled[32];
        const hre_counts p = hre_run(launch, fill_and_read, chunks, 0, plain);
        const hre_counts s = hre_run(launch, fill_and_read, chunks, 1, swizzled);
        CHECK_EQUAL(sum_of(plain, 32), sum_of(swizzled, 32));
        CHECK_EQUAL(s.ldmatrix_phases, 33 * chunks * 4);
        CHECK_EQUAL(s.access_phases, 64 * chunks / 8);
        CHECK_EQUAL(s.ldmatrix_conflicts, 0);
        CHECK_EQUAL(s.access_conflicts, 0);
        /* without it, 8 rows fall on 1 or 2 of 8 groups of banks */
        CHECK_EQUAL(p.ldmatrix_conflicts, p.ldmatrix_phases * (chunks % 8 == 0 ? 7 : 3));
    }
}

/* K2's update: a lane reads its own neighbours of two rows of old codes, 16 bytes at a time. The warp has `width` columns of rows of
 * `bytes`, beginning at column `first`. */
HRC_KERNEL(32, 1) read_codes(int bytes, int first, int width, int swizzled, uint32_t *out)
{
    const int q = hrc_lane() % 4;
    uint32_t sum = 0;
    for (int row = hrc_lane() / 4; row < 16; row += 8)
        for (int i = 0; i < width / 64; i++) {
            const int chunk = first / 16 + width / 64 * q + i;
            sum += hrc_load16(hrc_shared() + row * bytes + (swizzled ? hrc_code_chunk(row, chunk) : chunk) * 16).word[0];
        }
    out[hrc_lane()] = sum;
}

static hre_counts count_codes(int bytes, int first, int width, int swizzled)
{
    hre_launch launch;
    launch.kernel = "read_codes";
    launch.shared = (size_t)bytes * 16;
    launch.count_conflicts = true;
    uint32_t out[32];
    const hre_counts counts = hre_run(launch, read_codes, bytes, first, width, swizzled, out);
    CHECK_EQUAL(counts.access_phases, width / 64 * 2 * 4);
    return counts;
}

static void test_conflicts_of_codes()
{
    CHECK_EQUAL(count_codes(192, 0, 192, 0).access_conflicts, 0);
    for (int first = 0; first < 128; first += 64) {
        const hre_counts plain = count_codes(128, first, 64, 0);
        CHECK_EQUAL(plain.access_conflicts, plain.access_phases); /* two passes each */
        CHECK_EQUAL(count_codes(128, first, 64, 1).access_conflicts, 0);
    }
    /* the swizzle is for warp tiles of 64 columns: of 128, a lane's chunks are two apart, and it does not help */
    const hre_counts wide = count_codes(128, 0, 128, 1);
    CHECK_EQUAL(wide.access_conflicts, wide.access_phases);
}

/* Lanes that want the same bytes are served together; 256 bytes apart they wait for each other. */
HRC_KERNEL(32, 1) read_apart(int apart, uint32_t *out)
{
    out[hrc_lane()] = hrc_load16(hrc_shared() + hrc_lane() / 4 * apart).word[0];
}
/* Even and odd lanes at two places of the text, and on the same banks. */
HRC_KERNEL(32, 1) read_twice(uint32_t *out)
{
    if (hrc_lane() % 2)
        out[hrc_lane()] = hrc_load16(hrc_shared() + hrc_lane() / 2 * 16).word[0];
    else
        out[hrc_lane()] = hrc_load16(hrc_shared() + hrc_lane() / 2 * 16 + 1024).word[0];
}

static void test_counting()
{
    hre_launch twice;
    twice.shared = 2048;
    twice.count_conflicts = true;
    uint32_t words[32];
    const hre_counts separate = hre_run(twice, read_twice, words);
    CHECK_EQUAL(separate.access_phases, 8);
    CHECK_EQUAL(separate.access_conflicts, 0);
    const int apart[] = {0, 16, 128, 256}, conflicts[] = {0, 0, 4, 4};
    for (int i = 0; i < 4; i++) {
        hre_launch launch;
        launch.shared = 2048;
        launch.count_conflicts = true;
        uint32_t out[32];
        const hre_counts counts = hre_run(launch, read_apart, apart[i], out);
        CHECK_EQUAL(counts.access_phases, 4);
        CHECK_EQUAL(counts.access_conflicts, conflicts[i]);
        launch.count_conflicts = false;
        CHECK_EQUAL(hre_run(launch, read_apart, apart[i], out).access_phases, 0);
    }
}

int main()
{
    const check_case cases[] = {
        {"mma fragments", test_mma_fragments},
        {"ldmatrix", test_ldmatrix},
        {"wgmma fragments", test_wgmma_fragments},
        {"swizzled addresses", test_swizzle_address},
        {"wgmma K-major", test_wgmma_k_major},
        {"wgmma MN-major", test_wgmma_mn_major},
        {"column trick", test_column_trick},
        {"widened k", test_widened_k},
        {"swizzled chunks", test_swizzle_chunk},
        {"counting conflicts", test_counting},
        {"conflicts of tiles", test_conflicts_of_tiles},
        {"conflicts of codes", test_conflicts_of_codes},
    };
    return check_run(cases);
}
