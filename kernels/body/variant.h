/* Names of the variant being compiled: HRK_VARIANT, ref unless the file defines it. */
#ifndef HRK_BODY_VARIANT_H
#define HRK_BODY_VARIANT_H

#include "kernels/kernels.h"

#ifndef HRK_VARIANT
#define HRK_VARIANT ref
#endif
#define HRK_PASTE2(operation, variant) hrk_##operation##_##variant
#define HRK_PASTE(operation, variant)  HRK_PASTE2(operation, variant)
#define HRK_NAME(operation)            HRK_PASTE(operation, HRK_VARIANT)

/* Declares and begins the definition of one kernel. */
#define HRK_BEGIN(type, operation, ...)                                                                                \
    type HRK_NAME(operation)(__VA_ARGS__);                                                                             \
    type HRK_NAME(operation)(__VA_ARGS__)
#define HRK_GEMM_PANEL(operation)                                                                                      \
    HRK_BEGIN(void, operation, int64_t M, int64_t K, hrk_left A, const float *panel, float *c, int64_t ldc,            \
              float scale, int accumulate)
#define HRK_GEMM16(operation)                                                                                          \
    HRK_BEGIN(void, operation, int64_t M, int64_t K, hrk_left16 A, const uint32_t *panel, float *c, int64_t ldc,       \
              float scale, int accumulate)
#define HRK_DRAWS(operation) HRK_BEGIN(void, operation, hr_rng rng, uint32_t row, int64_t n, uint16_t *out)
#define HRK_GEMM_I8(operation)                                                                                         \
    HRK_BEGIN(void, operation, int64_t M, int64_t groups, const int8_t *w, int64_t pitch, const int32_t *w_sum,        \
              const float *w_scale, const uint8_t *x, const float *x_scale, float *c, const uint8_t *ahead,            \
              size_t ahead_bytes)
#define HRK_SPARSIFY(operation)                                                                                        \
    HRK_BEGIN(void, operation, int64_t M, int64_t n, const float *z, int64_t stride, const uint16_t *draws,            \
              int64_t pitch, hrk_sparsify_args args, uint32_t *row, float *g_out, int64_t *end)
#define HRK_SPARSE_SGD(operation)                                                                                      \
    HRK_BEGIN(void, operation, const hrk_lists *l, float scale, const float *x, float *dx, int64_t n, void *codes,     \
              size_t pitch, const uint16_t *draws, hrk_sgd_args args)
#define HRK_SPARSE_ABSMAX(operation)                                                                                   \
    HRK_BEGIN(void, operation, const hrk_lists *l, const float *x, int64_t n, const int8_t *codes, size_t pitch,       \
              hrk_sgd_args args, float *most)

#endif
