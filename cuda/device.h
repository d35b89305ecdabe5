/* The primitives that kernels may use, spelled once.
 *
 * A kernel is written in a .cuh file over this header alone. nvcc compiles it for the device (device_ptx.h: intrinsics and inline
 * PTX); a C++ compiler compiles the same text for the emulator (emulator/device_emulated.h), which runs it on the CPU and
 * reports what a device would not (emulator/emulator.h). Blocks are one-dimensional, of whole warps; all 32 lanes of a warp take
 * part in a warp's primitive, at the same place of the text.
 *
 * Declarations
 *   HRC_KERNEL(threads, blocks) name(...)   a kernel of at most `threads` threads, `blocks` of them resident on a multiprocessor
 *   HRC_DEVICE type name(...)               a function that kernels call; always inlined
 *   HRC_UNROLL                              before a loop of constant length: unrolled, so that arrays stay in registers
 *   HRC_HAS_E4M3_MMA                        1 where hrc_mma_e4m3 exists: sm_89 and above, and the emulator (on sm_90 it exists but is
 *                                           twelve conversions and two 16-bit products: take those, or wgmma)
 *   hrc_vec16                               16 bytes, aligned, as uint32_t word[4]
 * Pointers say __restrict__, which both compilers know. Shared memory is what hrc_shared() returns, nothing else.
 *
 * Where am I
 *   int hrc_thread()    thread of the block       int hrc_threads()    threads in a block
 *   int hrc_lane()      lane of the warp          int hrc_warp()       warp of the block
 *   int hrc_block()     block, x                  int hrc_blocks()     blocks, x
 *   int hrc_block_y()   block, y                  int hrc_blocks_y()   blocks, y
 *   unsigned char *hrc_shared()   the block's dynamic shared memory, aligned to 1024 bytes
 *
 * Meeting
 *   void hrc_sync()        all threads of the block, and their shared and global memory
 *   void hrc_sync_warp()   the lanes of the warp
 *
 * Within a warp (T: uint32_t, int32_t, float)
 *   T hrc_shuffle(T v, int lane)       v of lane `lane` mod 32
 *   T hrc_shuffle_xor(T v, int mask)   v of lane xor mask
 *   T hrc_shuffle_up(T v, int d)       v of lane - d; the own v where there is none
 *   T hrc_shuffle_down(T v, int d)     v of lane + d; the own v where there is none
 *   uint32_t hrc_ballot(bool p)        bit l: p of lane l
 *   bool hrc_any(bool p)               one p is true
 *
 * Atomic, on shared or global memory; they return the old value
 *   T hrc_atomic_add(T *p, T v)        int32_t, uint32_t, float (float: global memory only, elsewhere it is a loop)
 *   T hrc_atomic_max(T *p, T v)        int32_t, uint32_t
 *   T hrc_atomic_or(T *p, T v)         uint32_t
 *
 * 16 bytes at a time, aligned
 *   hrc_vec16 hrc_load16(const void *p)
 *   void hrc_store16(void *p, hrc_vec16 v)
 *   void hrc_copy16_async(void *shared, const void *global, int bytes)   the first `bytes` (0..16) of 16, zeros after them; both
 *                                 addresses aligned, bytes = 0 reads nothing. The destination holds garbage until waited for
 *   void hrc_copy_commit()        what this thread asked for since the last commit is one group
 *   void hrc_copy_wait<N>()       until at most the last N groups of this thread are under way; others see them after hrc_sync
 *
 * Matrices (fragments: layout.h)
 *   void hrc_ldmatrix_x1(uint32_t *r, const void *row), _x2, _x4, and each with _trans: r[m] <- fragment of the 8 x 8 matrix m, whose
 *                                 rows are at `row` of lanes 8m .. 8m + 7; of the other lanes it does not matter
 *   void hrc_mma_f16(float *d, const uint32_t *a, const uint32_t *b)     d[4] += A B, m16n8k16, f16; a[4], b[2]
 *   void hrc_mma_bf16(...)        the same, bf16
 *   void hrc_mma_e4m3(...)        m16n8k32, e4m3; not on sm_80
 *                                 Products are exact. The emulator adds them to d one by one in the order of k, in f32; hardware
 *                                 adds several at a time and cuts off low bits, so only sums that are exact in f32 agree
 *
 * Numbers (numbers.h has those that are the same text for both)
 *   uint32_t hrc_f16x2(float lo, float hi)      to nearest, overflow to infinity; lo in the low half
 *   uint32_t hrc_bf16x2(float lo, float hi)
 *   float hrc_f16_low(uint32_t v), hrc_f16_high
 *   uint32_t hrc_f16x2_mul(uint32_t a, uint32_t b)
 *   uint32_t hrc_e4m3x2_to_f16x2(uint16_t v)    exact; the hardware's conversion where there is one. The codes 0x7f and 0xff (NaN) never
 *                                 occur: for them hardware gives NaN, the software of sm_80 gives +-480
 *   uint16_t hrc_e4m3x2(float lo, float hi)     to nearest, saturating, keeps the sign of zero; not for NaN
 *   uint32_t hrc_byte_perm(uint32_t a, uint32_t b, uint32_t s)   byte i of the result is byte (s >> 4 i & 7) of the eight bytes b:a
 *   uint32_t hrc_float_bits(float v); float hrc_bits_float(uint32_t u); int hrc_popcount(uint32_t v)
 *   float hrc_exp2(float v), hrc_rcp(float v)   within 2 units of the last place; the device and the emulator differ in the last bits */
#ifndef HRC_DEVICE_H
#define HRC_DEVICE_H

#include <stdint.h>

#include "cuda/layout.h"

struct alignas(16) hrc_vec16 {
    uint32_t word[4];
};

#ifdef __CUDACC__
#include "cuda/device_ptx.h"
#else
#include "cuda/emulator/device_emulated.h"
#endif

#include "cuda/numbers.h"

#endif
