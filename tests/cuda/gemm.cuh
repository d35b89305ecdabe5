/* Demonstration kernels, for tests only: matrix products as the kernels of the head will do them, in their plainest form. */
#ifndef HR_TESTS_CUDA_GEMM_CUH
#define HR_TESTS_CUDA_GEMM_CUH

#include "cuda/device.h"

/* C (m, n) = A (m, k) B (n, k)^T. Rows of A and B are `bytes` bytes of f16 or e4m3, row pitches (bytes) and pointers multiples of 16;
 * nothing is read beyond `bytes`. C has row stride ldc and is written where it exists.
 *
 * A block computes 64 x 64 with four warps of 32 x 32. Two stages of shared memory hold 64 bytes of k of both operands: while one is
 * multiplied the next arrives. Rows of a stage are four chunks of 16 bytes, swizzled (layout.h). */
struct gemm_args {
    int m, n, bytes;
    const unsigned char *a, *b;
    int pitch_a, pitch_b;
    float *c;
    int ldc;
};
enum { GEMM_TILE = 64, GEMM_THREADS = 128, GEMM_CHUNKS = 4, GEMM_STAGE = 2 * GEMM_TILE * GEMM_CHUNKS * 16, GEMM_SHARED = 2 * GEMM_STAGE };

/* Asks for bytes k .. k + 63 of the block's rows of A, then of B. */
HRC_DEVICE void gemm_load(const gemm_args &args, int k, unsigned char *stage)
{
    HRC_UNROLL
    for (int i = hrc_thread(); i < 2 * GEMM_TILE * GEMM_CHUNKS; i += GEMM_THREADS) {
        const int line = i / GEMM_CHUNKS, chunk = i % GEMM_CHUNKS;
        const bool in_a = line < GEMM_TILE;
        const int row = in_a ? hrc_block() * GEMM_TILE + line : hrc_block_y() * GEMM_TILE + line - GEMM_TILE;
        const int left = row < (in_a ? args.m : args.n) ? args.bytes - k - 16 * chunk : 0;
        const int bytes = left < 0 ? 0 : left < 16 ? left : 16;
        const unsigned char *from = in_a ? args.a : args.b;
        if (bytes > 0)
            from += (int64_t)row * (in_a ? args.pitch_a : args.pitch_b) + k + 16 * chunk;
        hrc_copy16_async(stage + hrc_tile_offset(line, chunk, GEMM_CHUNKS), from, bytes);
    }
}

/* Multiplies one stage into d[2][4][4]: two times 16 rows, four times 8 columns. 32 bytes of k at a time, which are 16 f16 or 32
 * e4m3: bytes reach the registers that want them in both cases by the same ldmatrix. */
template <bool E4M3> HRC_DEVICE void gemm_multiply(const unsigned char *stage, float (&d)[2][4][4])
{
    const int lane = hrc_lane(), first_row = hrc_warp() / 2 * 32, first_col = hrc_warp() % 2 * 32;
    HRC_UNROLL
    for (int step = 0; step < GEMM_CHUNKS / 2; step++) {
        uint32_t a[2][4], b[2][4];
        HRC_UNROLL
        for (int i = 0; i < 2; i++) {
            const int row = first_row + 16 * i + lane % 16;
            hrc_ldmatrix_x4(a[i], stage + hrc_tile_offset(row, 2 * step + lane / 16, GEMM_CHUNKS));
        }
        HRC_UNROLL
        for (int j = 0; j < 2; j++) {
            const int row = GEMM_TILE + first_col + 16 * j + lane / 16 * 8 + lane % 8;
            hrc_ldmatrix_x4(b[j], stage + hrc_tile_offset(row, 2 * step + lane / 8 % 2, GEMM_CHUNKS));
        }
        HRC_UNROLL
        for (int i = 0; i < 2; i++) {
            HRC_UNROLL
            for (int j = 0; j < 4; j++) {
                if (E4M3)
                    hrc_mma_e4m3(d[i][j], a[i], b[j / 2] + j % 2 * 2);
                else
                    hrc_mma_f16(d[i][j], a[i], b[j / 2] + j % 2 * 2);
            }
        }
    }
}

HRC_DEVICE void gemm_store(const gemm_args &args, const float (&d)[2][4][4])
{
    const int first_row = hrc_block() * GEMM_TILE + hrc_warp() / 2 * 32, first_col = hrc_block_y() * GEMM_TILE + hrc_warp() % 2 * 32;
    HRC_UNROLL
    for (int i = 0; i < 2; i++) {
        HRC_UNROLL
        for (int j = 0; j < 4; j++) {
            HRC_UNROLL
            for (int e = 0; e < 4; e++) {
                const hrc_place at = hrc_mma_c(hrc_lane(), e);
                const int row = first_row + 16 * i + at.row, col = first_col + 8 * j + at.col;
                if (row < args.m && col < args.n)
                    args.c[(int64_t)row * args.ldc + col] = d[i][j][e];
            }
        }
    }
}

/* FAULT leaves something out, for the tests of the emulator: 1 the wait for a stage, 2 the barrier after it, 3 the barrier before a
 * stage is overwritten. */
template <bool E4M3, int FAULT> HRC_KERNEL(GEMM_THREADS, 2) gemm_nt(gemm_args args)
{
    unsigned char *shared = hrc_shared();
    float d[2][4][4] = {};
    gemm_load(args, 0, shared);
    hrc_copy_commit();
    for (int k = 0, stage = 0; k < args.bytes; k += 16 * GEMM_CHUNKS, stage ^= 1) {
        if (k + 16 * GEMM_CHUNKS < args.bytes)
            gemm_load(args, k + 16 * GEMM_CHUNKS, shared + (stage ^ 1) * GEMM_STAGE);
        hrc_copy_commit(); /* a group for each stage, also if it is empty: the count of wait stays right */
        if (FAULT != 1)
            hrc_copy_wait<1>();
        if (FAULT != 2)
            hrc_sync();
        gemm_multiply<E4M3>(shared + stage * GEMM_STAGE, d);
        if (FAULT != 3)
            hrc_sync();
    }
    gemm_store(args, d);
}

/* C (m, n) = W (m, k) X (n, k)^T of e4m3 W and f16 X where no e4m3 product exists: W is widened in registers. m and n are multiples
 * of 16 and 8, k is one of 16; W and X have k columns, and X is stored in the order of hrc_widened_k. A warp of the block has 16 x 8
 * of C: block x and y count them. */
HRC_KERNEL(32, 1) gemm_widened(int k, const unsigned char *w, const uint16_t *x, float *c, int ldc)
{
    const int group = hrc_lane() / 4, q = hrc_lane() % 4, row = hrc_block() * 16, col = hrc_block_y() * 8;
    float d[4] = {};
    for (int k0 = 0; k0 < k; k0 += 16) {
        uint32_t upper[2], lower[2];
        hrc_e4m3x4_to_f16x4(*reinterpret_cast<const uint32_t *>(w + (int64_t)(row + group) * k + k0 + 4 * q), upper);
        hrc_e4m3x4_to_f16x4(*reinterpret_cast<const uint32_t *>(w + (int64_t)(row + group + 8) * k + k0 + 4 * q), lower);
        const uint32_t a[4] = {upper[0], lower[0], upper[1], lower[1]};
        const uint32_t *pair = reinterpret_cast<const uint32_t *>(x + (int64_t)(col + group) * k + k0);
        const uint32_t b[2] = {pair[q], pair[q + 4]};
        hrc_mma_f16(d, a, b);
    }
    for (int e = 0; e < 4; e++) {
        const hrc_place at = hrc_mma_c(hrc_lane(), e);
        c[(int64_t)(row + at.row) * ldc + col + at.col] = d[e];
    }
}

/* C (16, 8) = A^T B of A (16, 16) and B (16, 8), both stored with k as rows, bf16: transposed matrix loads. One warp; A and B are
 * copied to shared memory, 16 x 32 and 16 x 16 bytes. */
HRC_KERNEL(32, 1) gemm_tn_tile(const unsigned char *a, const unsigned char *b, float *c)
{
    unsigned char *shared_a = hrc_shared(), *shared_b = hrc_shared() + 512;
    const int lane = hrc_lane();
    hrc_store16(shared_a + 16 * lane, hrc_load16(a + 16 * lane));
    if (lane < 16)
        hrc_store16(shared_b + 16 * lane, hrc_load16(b + 16 * lane));
    hrc_sync_warp();
    /* matrices of A as the fragment wants them: (m 0, k 0), (m 8, k 0), (m 0, k 8), (m 8, k 8) */
    uint32_t fragment_a[4], fragment_b[2];
    hrc_ldmatrix_x4_trans(fragment_a, shared_a + (lane / 16 * 8 + lane % 8) * 32 + lane / 8 % 2 * 16);
    hrc_ldmatrix_x2_trans(fragment_b, shared_b + lane % 16 * 16);
    float d[4] = {};
    hrc_mma_bf16(d, fragment_a, fragment_b);
    for (int e = 0; e < 4; e++) {
        const hrc_place at = hrc_mma_c(lane, e);
        c[at.row * 8 + at.col] = d[e];
    }
}

#endif
