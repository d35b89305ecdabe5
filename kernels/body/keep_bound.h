/* The quick test of sparsify, in units of draws. 2^23 (log2 y + 127) bounds the bits of y, read as an integer, from above, and read back
 * as a float it bounds y; sigmoid z < e^z; so an entry with fma(z, LOG2E_BITS, keep_bound(tau)) = b can only be kept if its draw is at
 * most the whole part of the float whose bits are b, rounded. The slack, 2^-11 of a binade, covers all roundings.
 * Below z = -80, where hr_sigmoid stays at e^-80, 65536 g / tau < 2^-58 for tau >= 2^-40: only a draw of 0 could do, and it passes. */
#ifndef HRK_BODY_KEEP_BOUND_H
#define HRK_BODY_KEEP_BOUND_H

#include "dtype/dtype.h"

#define LOG2E_BITS 0x1.715476p+23f
#define MOST_BITS  ((float)0x477fff00) /* of 65535 */

/* Bits of e^0 65536 / tau; of a y that is no power of two they are up to 0.0861 binades less than 2^23 (log2 y + 127). */
static inline float keep_bound(float tau)
{
    return tau > 0 ? (float)hr_f32_bits(65536.0f / tau) + 0.0861f * 0x1p23f + 4096.0f : INFINITY;
}

#endif
