/* kernels/body/fan.h with 64 bytes in a vector. */
#define HRK_VARIANT avx512
#include <immintrin.h>

#include "kernels/body/variant.h"

#define HRK_VL 16
#define FAN_COLUMN 4
#define HRK_REGISTER(v) "+v"(v)
typedef __m512 native;
#define HRK_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

static inline __m128 add_to_four(const native *sum)
{
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(*sum), _mm512_extractf32x8_ps(*sum, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}
#include "kernels/body/fan.h"

/* Four columns of 64 instances to groups of four bytes: place (lane n, v, e) of a column is instance 16 v + 4 n + e. */
HRK_BEGIN(void, gather_i8, int64_t K, const uint32_t *inputs, const uint8_t *xc, int64_t pitch, uint8_t *out)
{
    const int64_t groups = (K + HRK_QP - 1) / HRK_QP * (HRK_QP / 4);
    uint8_t *second = out + groups * HRK_BP * 4;
    for (int64_t k = 0; k < 4 * groups; k += 4, out += 128, second += 128) {
        __m512i c[4];
        for (int i = 0; i < 4; i++)
            c[i] = k + i < K ? _mm512_loadu_si512(xc + (int64_t)inputs[k + i] * pitch) : _mm512_set1_epi8(-128);
        const __m512i lo01 = _mm512_unpacklo_epi8(c[0], c[1]), hi01 = _mm512_unpackhi_epi8(c[0], c[1]);
        const __m512i lo23 = _mm512_unpacklo_epi8(c[2], c[3]), hi23 = _mm512_unpackhi_epi8(c[2], c[3]);
        _mm512_storeu_si512(out, _mm512_unpacklo_epi16(lo01, lo23));
        _mm512_storeu_si512(out + 64, _mm512_unpackhi_epi16(lo01, lo23));
        _mm512_storeu_si512(second, _mm512_unpacklo_epi16(hi01, hi23));
        _mm512_storeu_si512(second + 64, _mm512_unpackhi_epi16(hi01, hi23));
    }
}

/* Sixteen inputs at a time. Those with entries are packed in a register and stored whole: a masked store of packed ones takes many times as
 * long on some processors. */
HRK_BEGIN(int64_t, column_hits, int64_t K, const void *inputs, int wide, const hrk_columns *x, uint32_t *which, uint32_t *list)
{
    const __m512i columns = _mm512_set1_epi32((int32_t)x->columns), one = _mm512_set1_epi32(1);
    __m512i k16 = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    int64_t n = 0;
    for (int64_t k = 0; k < K; k += 16, k16 = _mm512_add_epi32(k16, _mm512_set1_epi32(16))) {
        const __mmask16 some = (__mmask16)(K - k < 16 ? (1U << (K - k)) - 1 : 0xffffU);
        const __m512i in = wide ? _mm512_maskz_loadu_epi32(some, (const uint32_t *)inputs + k)
                                : _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, (const uint16_t *)inputs + k));
        if (_mm512_mask_cmp_epu32_mask(some, in, columns, _MM_CMPINT_NLT))
            return -1;
        const __m512i words = _mm512_mask_i32gather_epi32(in, some, _mm512_srli_epi32(in, 5), x->present, 4);
        const __m512i bits = _mm512_sllv_epi32(one, _mm512_and_si512(in, _mm512_set1_epi32(31)));
        const __mmask16 has = _mm512_mask_test_epi32_mask(some, words, bits);
        const __m512i lists = _mm512_mask_i32gather_epi32(in, has, in, x->list, 4);
        _mm512_storeu_si512(which + n, _mm512_maskz_compress_epi32(has, k16));
        _mm512_storeu_si512(list + n, _mm512_maskz_compress_epi32(has, lists));
        n += __builtin_popcount(has);
    }
    return n;
}
