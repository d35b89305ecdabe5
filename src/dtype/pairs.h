/* Pairs of bf16 in 32 bits, the operands of head.arith=bf16.
 *
 * Two products are added as c + hi * hi, rounded, then + lo * lo, rounded: what the instruction vdpbf16ps does, and what two fused
 * multiply-adds do, since a product of two bf16 is exact in f32. The instruction also takes subnormals as zero; operands
 * below 2^-50 are zero here, so that no product, sum or rest of a sum ever is one, and all machines agree to the bit. */
#ifndef HR_DTYPE_PAIRS_H
#define HR_DTYPE_PAIRS_H

#include "dtype/dtype.h"

/* bf16 to nearest even, 0 below 2^-50; v is finite. */
HR_INLINE uint32_t hr_bf16_operand(float v)
{
    const uint32_t u = hr_f32_bits(v), r = (u + 0x7fffu + (u >> 16 & 1)) >> 16;
    return hr_pick((u & 0x7fffffffu) < 0x26800000u, 0, r);
}

/* c + hi * hi + lo * lo */
HR_INLINE float hr_pair_dot(uint32_t a, uint32_t b, float c)
{
    const float hi = fmaf(hr_bits_f32(a & 0xffff0000u), hr_bits_f32(b & 0xffff0000u), c);
    return fmaf(hr_bits_f32(a << 16), hr_bits_f32(b << 16), hi);
}

#endif
