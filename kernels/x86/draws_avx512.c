/* 16 Philox blocks = 128 draws at once. */
#define HRK_VARIANT avx512
#include <immintrin.h>

typedef __m512i ivec;
#define HRK_Q 4
#define SET1(x) _mm512_set1_epi32((int)(x))
#define LANES _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)
#define ADD _mm512_add_epi32
#define XOR _mm512_xor_si512
#define UNPACKLO32 _mm512_unpacklo_epi32
#define UNPACKHI32 _mm512_unpackhi_epi32
#define UNPACKLO64 _mm512_unpacklo_epi64
#define UNPACKHI64 _mm512_unpackhi_epi64
#define STORE(p, v) _mm512_storeu_si512((void *)(p), v)

/* 32 x 32 -> 64 bits in each lane: even lanes, odd lanes, then put together again. */
static inline void mulhilo(ivec m, ivec x, ivec *hi, ivec *lo)
{
    const ivec even = _mm512_mul_epu32(m, x), odd = _mm512_mul_epu32(m, _mm512_srli_epi64(x, 32));
    *hi = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xAAAA, odd);
    *lo = _mm512_mask_mov_epi32(even, 0xAAAA, _mm512_slli_epi64(odd, 32));
}
#include "kernels/body/draws.h"
