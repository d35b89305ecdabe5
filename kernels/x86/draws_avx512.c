/* 8 Philox blocks = 64 draws at once. */
#define HRK_VARIANT avx512
#include <immintrin.h>

enum { BLOCKS = 8 };
typedef __m512i ivec;
#define SET1(x) _mm512_set1_epi64((int64_t)(uint64_t)(x))
#define LANES _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7)
#define ADD _mm512_add_epi64
#define MUL _mm512_mul_epu32
#define HIGH(x) _mm512_srli_epi64(x, 32)
#define MIX(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)
#define JOIN(a, b) _mm512_mask_shuffle_epi32(a, 0xAAAA, b, _MM_PERM_CCAA)
#define UNPACKLO64 _mm512_unpacklo_epi64
#define UNPACKHI64 _mm512_unpackhi_epi64
#define STORE(p, v) _mm512_storeu_si512((void *)(p), v)
#include "kernels/body/draws.h"
