/* Small floats by their definition: sign, exponent and mantissa as numbers, rounding by comparison with the grid. Slow and plain on
 * purpose; src/dtype and numbers.h do the same by bit arithmetic, and tests compare them. */
#include "cuda/device.h"

#include <math.h>

/* The value of a code of `exp_bits` and `man_bits`; infinities and NaN are the caller's. */
static float value_of(unsigned code, int exp_bits, int man_bits)
{
    const int bias = (1 << (exp_bits - 1)) - 1;
    const int exponent = (int)(code >> man_bits) & ((1 << exp_bits) - 1);
    const int mantissa = (int)code & ((1 << man_bits) - 1);
    const bool negative = code >> (exp_bits + man_bits) & 1;
    const float magnitude = exponent == 0 ? ldexpf((float)mantissa, 1 - bias - man_bits)
                                          : ldexpf((float)(mantissa + (1 << man_bits)), exponent - bias - man_bits);
    return negative ? -magnitude : magnitude;
}

/* The code of the nearest number of the grid to a finite |v|, ties to even; codes go on above the largest, if there were more. */
static unsigned nearest_code(float v, int exp_bits, int man_bits)
{
    const int bias = (1 << (exp_bits - 1)) - 1;
    int exponent = 0;
    frexpf(v, &exponent); /* |v| in [2^(exponent - 1), 2^exponent) */
    exponent = v == 0 || exponent - 1 < 1 - bias ? 1 - bias : exponent - 1;
    const int units = (int)lrint(ldexp(fabs((double)v), man_bits - exponent)); /* of the grid's step */
    return (unsigned)(units + ((exponent + bias - 1) << man_bits));
}

float hre_f16_value(uint16_t c)
{
    const bool negative = c >> 15;
    if ((c & 0x7c00) == 0x7c00)
        return c & 0x3ff ? NAN : negative ? -INFINITY : INFINITY;
    return value_of(c, 5, 10);
}

float hre_bf16_value(uint16_t c)
{
    return hrc_bits_float((uint32_t)c << 16);
}

float hre_e4m3_value(uint8_t c)
{
    return (c & 0x7f) == 0x7f ? NAN : value_of(c, 4, 3);
}

uint16_t hre_f16_of(float v)
{
    if (isnan(v))
        return 0x7fff;
    const unsigned sign = signbit(v) ? 0x8000 : 0;
    const unsigned code = isinf(v) ? 0x7c00 : nearest_code(fabsf(v) < 131072.0f ? v : 131072.0f, 5, 10);
    return (uint16_t)(sign | (code < 0x7c00 ? code : 0x7c00));
}

uint16_t hre_bf16_of(float v)
{
    if (isnan(v))
        return 0x7fff;
    const uint32_t bits = hrc_float_bits(v); /* the upper half of an f32, whose grid and exponents it shares */
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint8_t hre_e4m3_of(float v)
{
    if (isnan(v))
        return 0x7f;
    const unsigned sign = signbit(v) ? 0x80 : 0;
    const unsigned code = nearest_code(fabsf(v) < 512.0f ? v : 512.0f, 4, 3);
    return (uint8_t)(sign | (code < 0x7e ? code : 0x7e));
}
