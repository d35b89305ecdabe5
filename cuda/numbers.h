/* Conversions in plain integer arithmetic, the same text for the device and the emulator. Included by device.h. */
#ifndef HRC_NUMBERS_H
#define HRC_NUMBERS_H

#include "cuda/device.h"

/* Two e4m3 codes, each in the high half of 16 bits, to f16: the exponent field of e4m3 has one bit less and its mantissa seven bits
 * less than that of f16, so a shift by one puts both in place, off by 2^(15 - 7); the product makes subnormals right. */
HRC_DEVICE uint32_t hrc_widen_e4m3(uint32_t high_bytes)
{
    return hrc_f16x2_mul((high_bytes >> 1 & 0x3f803f80u) | (high_bytes & 0x80008000u), 0x5c005c00u);
}
HRC_DEVICE uint32_t hrc_e4m3x2_to_f16x2_soft(uint16_t v)
{
    return hrc_widen_e4m3(hrc_byte_perm(v, 0, 0x1404));
}
/* Four codes to out[2]; what kernels read is four bytes, and sm_80 then needs no instruction to take them apart. */
HRC_DEVICE void hrc_e4m3x4_to_f16x4(uint32_t v, uint32_t *out)
{
#if HRC_HAS_E4M3_MMA
    out[0] = hrc_e4m3x2_to_f16x2((uint16_t)(v & 0xffffu));
    out[1] = hrc_e4m3x2_to_f16x2((uint16_t)(v >> 16));
#else
    out[0] = hrc_widen_e4m3(hrc_byte_perm(v, 0, 0x1404));
    out[1] = hrc_widen_e4m3(hrc_byte_perm(v, 0, 0x3424));
#endif
}
#if !HRC_HAS_E4M3_MMA
HRC_DEVICE uint32_t hrc_e4m3x2_to_f16x2(uint16_t v)
{
    return hrc_e4m3x2_to_f16x2_soft(v);
}
#endif

/* One f32 to e4m3, to nearest with ties to even, saturating at 448. Below 2^-6 one addition rounds to the grid of subnormals:
 * the last place of 2^14 is 2^-9. */
HRC_DEVICE uint32_t hrc_e4m3_soft(float v)
{
    const uint32_t bits = hrc_float_bits(v), sign = bits >> 24 & 0x80, magnitude = bits & 0x7fffffffu;
    uint32_t code;
    if (magnitude < (127u - 6) << 23)
        code = hrc_float_bits(hrc_bits_float(magnitude) + 16384.0f) - hrc_float_bits(16384.0f);
    else
        code = ((magnitude + 0x7ffffu + (magnitude >> 20 & 1)) >> 20) - (120u << 3);
    return sign | (code < 0x7e ? code : 0x7e);
}
HRC_DEVICE uint16_t hrc_e4m3x2_soft(float lo, float hi)
{
    return (uint16_t)(hrc_e4m3_soft(lo) | hrc_e4m3_soft(hi) << 8);
}
#if !HRC_HAS_E4M3_MMA
HRC_DEVICE uint16_t hrc_e4m3x2(float lo, float hi)
{
    return hrc_e4m3x2_soft(lo, hi);
}
#endif

#endif
