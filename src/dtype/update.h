/* Laws of the update that are not rounding: the scale of an i8r row, and what momentum, Adam and Kahan compensation keep of a weight. One text for
 * the processor and the device. */
#ifndef HR_DTYPE_UPDATE_H
#define HR_DTYPE_UPDATE_H

#include "dtype/dtype.h"

/* The new scale of an i8r row whose largest new weight has the size `most`: it grows by powers of two until that fits, and shrinks, exactly, when
 * four times finer would still fit. A step of 0 leaves everything as it is. */
HR_INLINE float hr_i8r_fresh_scale(float scale, float most, float step)
{
    while (most > 127.0f * scale)
        scale *= 2.0f;
    while (step != 0 && most < 31.0f * scale && most > 0 && scale > 0x1p-40f)
        scale *= 0.5f;
    return scale;
}

/* The first scale of an i8r row: a power of two with room for +-unit, or 2^-10 for rows of zeros. */
HR_INLINE float hr_i8r_first_scale(float unit)
{
    return unit > 0 ? exp2f(ceilf(log2f(unit / 127.0f))) : 0x1p-10f;
}

/* Adam (Kingma & Ba 2015, Alg. 1). rate, scale: 1 / (1 - beta1^t) and 1 / sqrt(1 - beta2^t). */
typedef struct hr_adam_law {
    float beta1, beta2, eps, rate, scale;
} hr_adam_law;
HR_INLINE float hr_adam_first(hr_adam_law a, float m, float g)
{
    return fmaf(1.0f - a.beta1, g - m, m);
}
HR_INLINE float hr_adam_second(hr_adam_law a, float v, float g)
{
    return fmaf(1.0f - a.beta2, g * g - v, v);
}
HR_INLINE float hr_adam_direction(hr_adam_law a, float m, float v)
{
    return m * a.rate / (sqrtf(v) * a.scale + a.eps);
}

#endif
