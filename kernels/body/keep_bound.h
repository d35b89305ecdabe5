/* Constants of the quick test of sparsify: bits of e^z are at most z * LOG2E_BITS + ONE_BITS (body/sparse.h). */
#ifndef HRK_BODY_KEEP_BOUND_H
#define HRK_BODY_KEEP_BOUND_H

#define LOG2E_BITS 0x1.715476p+23f
#define ONE_BITS   (127.0f * 0x1p23f + 4096.0f) /* with slack for rounding */

#endif
