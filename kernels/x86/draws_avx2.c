/* 8 Philox blocks = 64 draws at once. */
#define HRK_VARIANT avx2
#include <immintrin.h>

typedef __m256i ivec;
#define HRK_Q 2
#define SET1(x) _mm256_set1_epi32((int)(x))
#define LANES _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7)
#define ADD _mm256_add_epi32
#define XOR _mm256_xor_si256
#define UNPACKLO32 _mm256_unpacklo_epi32
#define UNPACKHI32 _mm256_unpackhi_epi32
#define UNPACKLO64 _mm256_unpacklo_epi64
#define UNPACKHI64 _mm256_unpackhi_epi64
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)

/* 32 x 32 -> 64 bits in each lane: even lanes, odd lanes, then put together again. */
static inline void mulhilo(ivec m, ivec x, ivec *hi, ivec *lo)
{
    const ivec even = _mm256_mul_epu32(m, x), odd = _mm256_mul_epu32(m, _mm256_srli_epi64(x, 32));
    *hi = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
    *lo = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
}
#include "kernels/body/draws.h"
