/* Where things lie: which element of a matrix a lane holds, and where a matrix lies in shared memory.
 *
 * Index functions only: integers in, integers out, the same text for kernels, the emulator and the tests
 * (tests/cuda/test_layout.cpp). Rows, columns and lanes count from 0. The layouts of instructions are those of the PTX ISA
 * (sections "Matrix Fragments for mma", "ldmatrix" and "wgmma"); the others are our own choices and say what they are for.
 *
 * The lanes of a warp form 8 groups of 4: lane = 4 * group + q. */
#ifndef HRC_LAYOUT_H
#define HRC_LAYOUT_H

#include <stdint.h>

#ifdef __CUDACC__
#define HRC_INDEX __host__ __device__ inline constexpr
#else
#define HRC_INDEX inline constexpr
#endif

struct hrc_place {
    int row, col;
};

/* ---- mma.sync: element i of a lane, in the order of its registers, low bits first ---- */

/* A (16 x 16) of m16n8k16, 16-bit: i = 0..7 */
HRC_INDEX hrc_place hrc_mma_a16(int lane, int i)
{
    return {lane / 4 + i / 2 % 2 * 8, lane % 4 * 2 + i % 2 + i / 4 * 8};
}
/* B (16 x 8; row = k) of m16n8k16, 16-bit: i = 0..3 */
HRC_INDEX hrc_place hrc_mma_b16(int lane, int i)
{
    return {lane % 4 * 2 + i % 2 + i / 2 * 8, lane / 4};
}
/* A (16 x 32) of m16n8k32, 8-bit: i = 0..15 */
HRC_INDEX hrc_place hrc_mma_a8(int lane, int i)
{
    return {lane / 4 + i / 4 % 2 * 8, lane % 4 * 4 + i % 4 + i / 8 * 16};
}
/* B (32 x 8; row = k) of m16n8k32, 8-bit: i = 0..7 */
HRC_INDEX hrc_place hrc_mma_b8(int lane, int i)
{
    return {lane % 4 * 4 + i % 4 + i / 4 * 16, lane / 4};
}
/* C and D (16 x 8), f32, of both: i = 0..3 */
HRC_INDEX hrc_place hrc_mma_c(int lane, int i)
{
    return {lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2};
}

/* ---- ldmatrix: 8 x 8 matrices of 16-bit elements, a row being 16 bytes ---- */

/* The lane whose address names row `row` of matrix `matrix`. */
HRC_INDEX int hrc_ldmatrix_lane(int matrix, int row)
{
    return 8 * matrix + row;
}
/* Element e (0, 1: low and high half of the register) that a lane receives of each matrix. */
HRC_INDEX hrc_place hrc_ldmatrix(int lane, int e)
{
    return {lane / 4, lane % 4 * 2 + e};
}
/* The same with .trans */
HRC_INDEX hrc_place hrc_ldmatrix_trans(int lane, int e)
{
    return {lane % 4 * 2 + e, lane / 4};
}

/* ---- wgmma: thread t = 0..127 of a warpgroup ---- */

/* Accumulator d[i] of m64nNk16 and m64nNk32, f32: i = 0 .. N / 2 - 1 */
HRC_INDEX hrc_place hrc_wgmma_d(int t, int i)
{
    return {t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, t % 4 * 2 + i % 2 + i / 4 * 8};
}
/* A (64 x 16) from registers, 16-bit: i = 0..7 */
HRC_INDEX hrc_place hrc_wgmma_a16(int t, int i)
{
    return {t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, t % 4 * 2 + i % 2 + i / 4 * 8};
}
/* A (64 x 32) from registers, 8-bit: i = 0..15 */
HRC_INDEX hrc_place hrc_wgmma_a8(int t, int i)
{
    return {t / 32 * 16 + t % 32 / 4 + i / 4 % 2 * 8, t % 4 * 4 + i % 4 + i / 8 * 16};
}

/* The swizzle of shared memory that bulk tensor copies and wgmma share: `width` is 128, 64 or 32 (bytes), or 0 for none. 16-byte
 * chunks move within their 128 bytes: with 128, chunk c of 128-byte line r (counted from a multiple of 1024) stands at c xor r mod 8.
 * Addresses are those of shared memory, not offsets into a tile. Its own inverse. */
HRC_INDEX uint32_t hrc_swizzle_address(uint32_t address, int width)
{
    return address ^ (address >> 3 & (width == 128 ? 0x70u : width == 64 ? 0x30u : width == 32 ? 0x10u : 0u));
}

/* Operands of wgmma in shared memory, by the two strides of their descriptor (in bytes; lbo: leading, sbo: stride dimension byte
 * offset). `mn` is the row of A or the column of B; `kb` and `mnb` are k and mn in bytes (element size * index). The result is an
 * offset from the operand's start, which has to be a multiple of eight lines of the swizzle (1024 bytes with 128).
 *
 * K-major: consecutive k are neighbours. Eight mn form a group; sbo leads from one group to the next.
 *   width = 0        core matrices of 8 mn x 16 bytes of k, 128 bytes in one piece; lbo leads to the next 16 bytes of k
 *   width = 128..32  lines of `width` bytes of k, one for each mn; lbo is not used, and kb < width */
HRC_INDEX uint32_t hrc_wgmma_k_major(int mn, int kb, uint32_t lbo, uint32_t sbo, int width)
{
    const uint32_t group = (uint32_t)(mn / 8) * sbo, line = (uint32_t)(mn % 8);
    if (width == 0)
        return group + (uint32_t)(kb / 16) * lbo + line * 16 + (uint32_t)(kb % 16);
    return hrc_swizzle_address(group + line * (uint32_t)width + (uint32_t)kb, width);
}
/* MN-major: consecutive mn are neighbours; 16-bit elements only. Eight k form a group.
 *   width = 0        core matrices of 16 bytes of mn x 8 k; lbo leads to the next eight k, sbo to the next 16 bytes of mn
 *   width = 128..32  lines of `width` bytes of mn, one for each k; sbo leads to the next eight k, lbo to the next `width` bytes of mn */
HRC_INDEX uint32_t hrc_wgmma_mn_major(int mnb, int k, uint32_t lbo, uint32_t sbo, int width)
{
    const uint32_t group = (uint32_t)(k / 8), line = (uint32_t)(k % 8);
    if (width == 0)
        return group * lbo + (uint32_t)(mnb / 16) * sbo + line * 16 + (uint32_t)(mnb % 16);
    const uint32_t box = (uint32_t)(mnb / width), within = (uint32_t)(mnb % width);
    return hrc_swizzle_address(group * sbo + box * lbo + line * (uint32_t)width + within, width);
}

/* ---- our own orders ---- */

/* The column trick of K1 and K2: of N MMA columns (N a multiple of 8; N / 8 products side by side), column n = 8 j + 2 q + e holds
 * batch index (K1) or column of the slice (K2) (N / 4) q + 2 j + e. The lanes with this q then hold N / 4 neighbours of a row of the
 * accumulator, in the order of their registers, which leave (N = 32: 8 of 16 bits) or arrive (N = 64: 16 of 8 bits) 16 bytes at a time. */
HRC_INDEX int hrc_spread_column(int n, int N)
{
    return N / 4 * (n % 8 / 2) + n / 8 * 2 + n % 2;
}
/* Its inverse: the MMA column of a batch index or column of the slice. */
HRC_INDEX int hrc_mma_column(int column, int N)
{
    return column % (N / 4) / 2 * 8 + column / (N / 4) * 2 + column % 2;
}

/* The K permutation of 8-bit W widened to 16 bits: lane q reads the bytes 4q .. 4q + 3 of each 16 of a row and uses them as the two
 * pairs of k that m16n8k16 wants of it, 2q + {0, 1} and 8 + 2q + {0, 1}. Position `mma_k` (0..15) of the product is thus column
 * hrc_widened_k(mma_k) of W; X is stored in that order. */
HRC_INDEX int hrc_widened_k(int mma_k)
{
    return mma_k % 8 / 2 * 4 + mma_k / 8 * 2 + mma_k % 2;
}
/* Its inverse: where column k of each 16 is stored. */
HRC_INDEX int hrc_mma_k(int k)
{
    return k / 4 * 2 + k / 2 % 2 * 8 + k % 2;
}

/* Tiles in shared memory whose rows are `chunks` chunks of 16 bytes, a multiple of 4, without padding: chunk `chunk` of row `row`
 * stands at place hrc_swizzle_chunk of that row. Eight neighbouring rows at the same chunk (a matrix of ldmatrix) fall on all 32
 * banks, and so do eight lanes that store neighbouring chunks. */
HRC_INDEX int hrc_swizzle_chunk(int row, int chunk, int chunks)
{
    return chunk ^ (chunks % 8 == 0 ? row % 8 : row / 2 % 4);
}
/* The offset in bytes of that chunk from the start of the tile, which is aligned to 128 bytes. */
HRC_INDEX uint32_t hrc_tile_offset(int row, int chunk, int chunks)
{
    return (uint32_t)(row * chunks + hrc_swizzle_chunk(row, chunk, chunks)) * 16;
}

/* K2's tile of old codes, read by warp tiles of 64 columns of which a lane owns 16 (hrc_spread_column, N = 64), where rows are a
 * multiple of 128 bytes: chunk c of row r stands at c xor 4 (r mod 2). The eight lanes that read together, 4 chunks of each of two
 * rows, then fall on all banks. (Rows of 192 bytes, of which a lane owns 48, need no swizzle.) */
HRC_INDEX int hrc_code_chunk(int row, int chunk)
{
    return chunk ^ 4 * (row % 2);
}

#endif
