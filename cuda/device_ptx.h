/* device.h for the device: intrinsics and inline PTX. Contracts are in device.h. */
#ifndef HRC_DEVICE_PTX_H
#define HRC_DEVICE_PTX_H

#ifndef HRC_DEVICE_H
#error "include cuda/device.h"
#endif

#define HRC_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)
#define HRC_DEVICE                  __device__ __forceinline__
#define HRC_UNROLL                  _Pragma("unroll")

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 890
#define HRC_HAS_E4M3_MMA 0
#else
#define HRC_HAS_E4M3_MMA 1
#endif

#define HRC_ALL_LANES 0xffffffffu

/* ---- where am I ---- */

HRC_DEVICE int hrc_thread()
{
    return (int)threadIdx.x;
}
HRC_DEVICE int hrc_threads()
{
    return (int)blockDim.x;
}
HRC_DEVICE int hrc_lane()
{
    return (int)(threadIdx.x % 32);
}
HRC_DEVICE int hrc_warp()
{
    return (int)(threadIdx.x / 32);
}
HRC_DEVICE int hrc_block()
{
    return (int)blockIdx.x;
}
HRC_DEVICE int hrc_block_y()
{
    return (int)blockIdx.y;
}
HRC_DEVICE int hrc_blocks()
{
    return (int)gridDim.x;
}
HRC_DEVICE int hrc_blocks_y()
{
    return (int)gridDim.y;
}
HRC_DEVICE unsigned char *hrc_shared()
{
    extern __shared__ __align__(1024) unsigned char hrc_shared_bytes[];
    return hrc_shared_bytes;
}
HRC_DEVICE uint32_t hrc_shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- meeting, and within a warp ---- */

HRC_DEVICE void hrc_sync()
{
    __syncthreads();
}
HRC_DEVICE void hrc_sync_warp()
{
    __syncwarp(HRC_ALL_LANES);
}
template <typename T> HRC_DEVICE T hrc_shuffle(T v, int lane)
{
    return __shfl_sync(HRC_ALL_LANES, v, lane);
}
template <typename T> HRC_DEVICE T hrc_shuffle_xor(T v, int mask)
{
    return __shfl_xor_sync(HRC_ALL_LANES, v, mask);
}
template <typename T> HRC_DEVICE T hrc_shuffle_up(T v, int d)
{
    return __shfl_up_sync(HRC_ALL_LANES, v, (unsigned)d);
}
template <typename T> HRC_DEVICE T hrc_shuffle_down(T v, int d)
{
    return __shfl_down_sync(HRC_ALL_LANES, v, (unsigned)d);
}
HRC_DEVICE uint32_t hrc_ballot(bool p)
{
    return __ballot_sync(HRC_ALL_LANES, p);
}
HRC_DEVICE bool hrc_any(bool p)
{
    return __any_sync(HRC_ALL_LANES, p) != 0;
}

/* ---- atomic ---- */

template <typename T> HRC_DEVICE T hrc_atomic_add(T *p, T v)
{
    return atomicAdd(p, v);
}
template <typename T> HRC_DEVICE T hrc_atomic_max(T *p, T v)
{
    return atomicMax(p, v);
}
HRC_DEVICE uint32_t hrc_atomic_or(uint32_t *p, uint32_t v)
{
    return atomicOr(p, v);
}

/* ---- 16 bytes at a time ---- */

HRC_DEVICE hrc_vec16 hrc_load16(const void *p)
{
    const uint4 v = *static_cast<const uint4 *>(p);
    return {{v.x, v.y, v.z, v.w}};
}
HRC_DEVICE void hrc_store16(void *p, hrc_vec16 v)
{
    *static_cast<uint4 *>(p) = make_uint4(v.word[0], v.word[1], v.word[2], v.word[3]);
}
HRC_DEVICE void hrc_copy16_async(void *shared, const void *global, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(hrc_shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(bytes)
                 : "memory");
}
HRC_DEVICE void hrc_copy_commit()
{
    asm volatile("cp.async.commit_group;" : : : "memory");
}
template <int N> HRC_DEVICE void hrc_copy_wait()
{
    asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory");
}

/* ---- matrices ---- */

HRC_DEVICE void hrc_ldmatrix_x1(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(hrc_shared_address(row)) : "memory");
}
HRC_DEVICE void hrc_ldmatrix_x1_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(hrc_shared_address(row))
                 : "memory");
}
HRC_DEVICE void hrc_ldmatrix_x2(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(hrc_shared_address(row))
                 : "memory");
}
HRC_DEVICE void hrc_ldmatrix_x2_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(hrc_shared_address(row))
                 : "memory");
}
HRC_DEVICE void hrc_ldmatrix_x4(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(hrc_shared_address(row))
                 : "memory");
}
HRC_DEVICE void hrc_ldmatrix_x4_trans(uint32_t *r, const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(hrc_shared_address(row))
                 : "memory");
}

HRC_DEVICE void hrc_mma_f16(float *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
HRC_DEVICE void hrc_mma_bf16(float *d, const uint32_t *a, const uint32_t *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
HRC_DEVICE void hrc_mma_e4m3(float *d, const uint32_t *a, const uint32_t *b)
{
#if HRC_HAS_E4M3_MMA
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
    (void)d, (void)a, (void)b;
    __trap(); /* a launcher has chosen a kernel that this architecture cannot run */
#endif
}

/* ---- numbers ---- */

HRC_DEVICE uint32_t hrc_f16x2(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
HRC_DEVICE uint32_t hrc_bf16x2(float lo, float hi)
{
    uint32_t r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
HRC_DEVICE float hrc_f16_low(uint32_t v)
{
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"((uint16_t)v));
    return r;
}
HRC_DEVICE float hrc_f16_high(uint32_t v)
{
    return hrc_f16_low(v >> 16);
}
HRC_DEVICE uint32_t hrc_f16x2_mul(uint32_t a, uint32_t b)
{
    uint32_t r;
    asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
#if HRC_HAS_E4M3_MMA
HRC_DEVICE uint32_t hrc_e4m3x2_to_f16x2(uint16_t v)
{
    uint32_t r;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(r) : "h"(v));
    return r;
}
HRC_DEVICE uint16_t hrc_e4m3x2(float lo, float hi)
{
    uint16_t r;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(r) : "f"(hi), "f"(lo));
    return r;
}
#endif
HRC_DEVICE uint32_t hrc_byte_perm(uint32_t a, uint32_t b, uint32_t s)
{
    return __byte_perm(a, b, s);
}
HRC_DEVICE uint32_t hrc_float_bits(float v)
{
    return __float_as_uint(v);
}
HRC_DEVICE float hrc_bits_float(uint32_t u)
{
    return __uint_as_float(u);
}
HRC_DEVICE int hrc_popcount(uint32_t v)
{
    return __popc(v);
}
HRC_DEVICE float hrc_exp2(float v)
{
    float r;
    asm("ex2.approx.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}
HRC_DEVICE float hrc_rcp(float v)
{
    float r;
    asm("rcp.approx.f32 %0, %1;" : "=f"(r) : "f"(v));
    return r;
}

#endif
