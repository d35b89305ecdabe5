/* device.h for the emulator. Contracts are in device.h. Each primitive that can be used wrongly knows its place in the kernel's text,
 * from default arguments, for messages and to tell whether the lanes of a warp are at the same place. */
#ifndef HRE_DEVICE_EMULATED_H
#define HRE_DEVICE_EMULATED_H

#ifndef HRC_DEVICE_H
#error "include cuda/device.h"
#endif

#include <math.h>
#include <string.h>

#define HRC_KERNEL(threads, blocks) inline void
#define HRC_DEVICE                  inline
#define HRC_UNROLL
#define HRC_HAS_E4M3_MMA 1

struct hre_where {
    const char *file;
    int line;
};
#define HRE_WHERE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define HRE_THERE hre_where{file, line}

/* The running thread and its block. */
struct hre_position {
    int thread, threads, block, block_y, blocks, blocks_y;
    unsigned char *shared;
};
const hre_position &hre_here();

/* The rest is in warp.cpp and shared.cpp. `name` is the primitive as the kernel spelled it. */
void hre_meet_block(const char *name, hre_where where);
void hre_meet_warp(const char *name, hre_where where);
uint32_t hre_shuffle(const char *name, uint32_t value, int source, hre_where where);
uint32_t hre_ballot(const char *name, bool p, hre_where where);
void hre_ldmatrix(const char *name, int count, bool trans, uint32_t *r, const void *row, hre_where where);
enum hre_mma_type { HRE_MMA_F16, HRE_MMA_BF16, HRE_MMA_E4M3 };
void hre_mma(const char *name, hre_mma_type type, float *d, const uint32_t *a, const uint32_t *b, hre_where where);
void hre_check_access(const char *name, const void *p, int bytes, hre_where where);
void hre_check_global(const char *name, const void *p, hre_where where);
void hre_copy(const char *name, void *shared, const void *global, int bytes, hre_where where);
void hre_commit();
void hre_wait(int groups);
/* numbers.cpp */
uint16_t hre_f16_of(float v);
uint16_t hre_bf16_of(float v);
uint8_t hre_e4m3_of(float v);
float hre_f16_value(uint16_t c);
float hre_bf16_value(uint16_t c);
float hre_e4m3_value(uint8_t c);

/* ---- where am I ---- */

inline int hrc_thread()
{
    return hre_here().thread;
}
inline int hrc_threads()
{
    return hre_here().threads;
}
inline int hrc_lane()
{
    return hre_here().thread % 32;
}
inline int hrc_warp()
{
    return hre_here().thread / 32;
}
inline int hrc_block()
{
    return hre_here().block;
}
inline int hrc_block_y()
{
    return hre_here().block_y;
}
inline int hrc_blocks()
{
    return hre_here().blocks;
}
inline int hrc_blocks_y()
{
    return hre_here().blocks_y;
}
inline unsigned char *hrc_shared()
{
    return hre_here().shared;
}

/* ---- meeting, and within a warp ---- */

inline void hrc_sync(HRE_WHERE)
{
    hre_meet_block("hrc_sync", HRE_THERE);
}
inline void hrc_sync_warp(HRE_WHERE)
{
    hre_meet_warp("hrc_sync_warp", HRE_THERE);
}
/* T: 4 bytes */
template <typename T> inline T hre_shuffle_value(const char *name, T v, int source, hre_where where)
{
    static_assert(sizeof(T) == 4, "shuffles move 32 bits");
    uint32_t u;
    memcpy(&u, &v, 4);
    u = hre_shuffle(name, u, source, where);
    memcpy(&v, &u, 4);
    return v;
}
template <typename T> inline T hrc_shuffle(T v, int lane, HRE_WHERE)
{
    return hre_shuffle_value("hrc_shuffle", v, lane & 31, HRE_THERE);
}
template <typename T> inline T hrc_shuffle_xor(T v, int mask, HRE_WHERE)
{
    const int source = hrc_lane() ^ mask;
    return hre_shuffle_value("hrc_shuffle_xor", v, source >= 0 && source < 32 ? source : hrc_lane(), HRE_THERE);
}
template <typename T> inline T hrc_shuffle_up(T v, int d, HRE_WHERE)
{
    return hre_shuffle_value("hrc_shuffle_up", v, hrc_lane() >= d ? hrc_lane() - d : hrc_lane(), HRE_THERE);
}
template <typename T> inline T hrc_shuffle_down(T v, int d, HRE_WHERE)
{
    return hre_shuffle_value("hrc_shuffle_down", v, hrc_lane() + d < 32 ? hrc_lane() + d : hrc_lane(), HRE_THERE);
}
inline uint32_t hrc_ballot(bool p, HRE_WHERE)
{
    return hre_ballot("hrc_ballot", p, HRE_THERE);
}
inline bool hrc_any(bool p, HRE_WHERE)
{
    return hre_ballot("hrc_any", p, HRE_THERE) != 0;
}

/* ---- atomic: one thread runs at a time ---- */

template <typename T> inline T hrc_atomic_add(T *p, T v, HRE_WHERE)
{
    hre_check_access("hrc_atomic_add", p, (int)sizeof(T), HRE_THERE);
    const T old = *p;
    *p = (T)((uint32_t)old + (uint32_t)v); /* wraps */
    return old;
}
template <> inline float hrc_atomic_add(float *p, float v, const char *file, int line)
{
    hre_check_access("hrc_atomic_add", p, 4, HRE_THERE);
    hre_check_global("hrc_atomic_add of float", p, HRE_THERE);
    const float old = *p;
    *p = old + v;
    return old;
}
template <typename T> inline T hrc_atomic_max(T *p, T v, HRE_WHERE)
{
    hre_check_access("hrc_atomic_max", p, (int)sizeof(T), HRE_THERE);
    const T old = *p;
    *p = old < v ? v : old;
    return old;
}
inline uint32_t hrc_atomic_or(uint32_t *p, uint32_t v, HRE_WHERE)
{
    hre_check_access("hrc_atomic_or", p, 4, HRE_THERE);
    const uint32_t old = *p;
    *p = old | v;
    return old;
}

/* ---- 16 bytes at a time ---- */

inline hrc_vec16 hrc_load16(const void *p, HRE_WHERE)
{
    hre_check_access("hrc_load16", p, 16, HRE_THERE);
    hrc_vec16 v;
    memcpy(&v, p, 16);
    return v;
}
inline void hrc_store16(void *p, hrc_vec16 v, HRE_WHERE)
{
    hre_check_access("hrc_store16", p, 16, HRE_THERE);
    memcpy(p, &v, 16);
}
inline void hrc_copy16_async(void *shared, const void *global, int bytes, HRE_WHERE)
{
    hre_copy("hrc_copy16_async", shared, global, bytes, HRE_THERE);
}
inline void hrc_copy_commit()
{
    hre_commit();
}
template <int N> inline void hrc_copy_wait()
{
    hre_wait(N);
}

/* ---- matrices ---- */

inline void hrc_ldmatrix_x1(uint32_t *r, const void *row, HRE_WHERE)
{
    hre_ldmatrix("hrc_ldmatrix_x1", 1, false, r, row, HRE_THERE);
}
inline void hrc_ldmatrix_x1_trans(uint32_t *r, const void *row, HRE_WHERE)
{
    hre_ldmatrix("hrc_ldmatrix_x1_trans", 1, true, r, row, HRE_THERE);
}
inline void hrc_ldmatrix_x2(uint32_t *r, const void *row, HRE_WHERE)
{
    hre_ldmatrix("hrc_ldmatrix_x2", 2, false, r, row, HRE_THERE);
}
inline void hrc_ldmatrix_x2_trans(uint32_t *r, const void *row, HRE_WHERE)
{
    hre_ldmatrix("hrc_ldmatrix_x2_trans", 2, true, r, row, HRE_THERE);
}
inline void hrc_ldmatrix_x4(uint32_t *r, const void *row, HRE_WHERE)
{
    hre_ldmatrix("hrc_ldmatrix_x4", 4, false, r, row, HRE_THERE);
}
inline void hrc_ldmatrix_x4_trans(uint32_t *r, const void *row, HRE_WHERE)
{
    hre_ldmatrix("hrc_ldmatrix_x4_trans", 4, true, r, row, HRE_THERE);
}
inline void hrc_mma_f16(float *d, const uint32_t *a, const uint32_t *b, HRE_WHERE)
{
    hre_mma("hrc_mma_f16", HRE_MMA_F16, d, a, b, HRE_THERE);
}
inline void hrc_mma_bf16(float *d, const uint32_t *a, const uint32_t *b, HRE_WHERE)
{
    hre_mma("hrc_mma_bf16", HRE_MMA_BF16, d, a, b, HRE_THERE);
}
inline void hrc_mma_e4m3(float *d, const uint32_t *a, const uint32_t *b, HRE_WHERE)
{
    hre_mma("hrc_mma_e4m3", HRE_MMA_E4M3, d, a, b, HRE_THERE);
}

/* ---- numbers ---- */

inline uint32_t hrc_f16x2(float lo, float hi)
{
    return hre_f16_of(lo) | (uint32_t)hre_f16_of(hi) << 16;
}
inline uint32_t hrc_bf16x2(float lo, float hi)
{
    return hre_bf16_of(lo) | (uint32_t)hre_bf16_of(hi) << 16;
}
inline float hrc_f16_low(uint32_t v)
{
    return hre_f16_value((uint16_t)(v & 0xffff));
}
inline float hrc_f16_high(uint32_t v)
{
    return hre_f16_value((uint16_t)(v >> 16));
}
inline uint32_t hrc_f16x2_mul(uint32_t a, uint32_t b)
{
    return hrc_f16x2(hrc_f16_low(a) * hrc_f16_low(b), hrc_f16_high(a) * hrc_f16_high(b)); /* exact in f32, then one rounding */
}
inline uint32_t hrc_e4m3x2_to_f16x2(uint16_t v)
{
    return hrc_f16x2(hre_e4m3_value((uint8_t)(v & 0xff)), hre_e4m3_value((uint8_t)(v >> 8)));
}
inline uint16_t hrc_e4m3x2(float lo, float hi)
{
    return (uint16_t)(hre_e4m3_of(lo) | hre_e4m3_of(hi) << 8);
}
inline uint32_t hrc_byte_perm(uint32_t a, uint32_t b, uint32_t s)
{
    const uint64_t bytes = (uint64_t)b << 32 | a;
    uint32_t r = 0;
    for (int i = 0; i < 4; i++)
        r |= (uint32_t)(bytes >> 8 * (s >> 4 * i & 7) & 0xff) << 8 * i;
    return r;
}
inline uint32_t hrc_float_bits(float v)
{
    uint32_t u;
    memcpy(&u, &v, 4);
    return u;
}
inline float hrc_bits_float(uint32_t u)
{
    float v;
    memcpy(&v, &u, 4);
    return v;
}
inline int hrc_popcount(uint32_t v)
{
    return __builtin_popcount(v);
}
inline float hrc_exp2(float v)
{
    return exp2f(v);
}
inline float hrc_rcp(float v)
{
    return 1.0f / v;
}

#endif
