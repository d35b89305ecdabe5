/* 4 Philox blocks = 32 draws at once. */
#define HRK_VARIANT avx2
#include <immintrin.h>

enum { BLOCKS = 4 };
typedef __m256i ivec;
#define SET1(x) _mm256_set1_epi64x((int64_t)(uint64_t)(x))
#define LANES _mm256_setr_epi64x(0, 2, 1, 3)
#define ADD _mm256_add_epi64
#define MUL _mm256_mul_epu32
#define HIGH(x) _mm256_srli_epi64(x, 32)
#define MIX(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define JOIN(a, b) _mm256_blend_epi32(a, _mm256_slli_epi64(b, 32), 0xAA)
#define UNPACKLO64 _mm256_unpacklo_epi64
#define UNPACKHI64 _mm256_unpackhi_epi64
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#include "kernels/body/draws.h"
