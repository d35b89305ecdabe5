/* What both tests of kernels use. */
#ifndef TESTS_KERNELS_FIXTURE_H
#define TESTS_KERNELS_FIXTURE_H

#include "dtype/dtype.h"

#include <math.h>
#include <string.h>

/* The sign and payload of a NaN that an operation makes belong to the processor: all NaN get the same bits. */
static inline void one_nan(hr_dtype d, void *codes, size_t bytes)
{
    for (size_t i = 0; i < bytes / d.bytes; i++)
        if (isnan(hr_dtype_load(d, codes, (int64_t)i, 1)))
            memset((uint8_t *)codes + i * d.bytes, 0x7f, d.bytes);
}

#endif
