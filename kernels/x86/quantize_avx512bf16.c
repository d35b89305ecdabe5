/* Processors with bf16 products have VBMI, a table of 64 bytes in one instruction, as well. */
#define HRK_VARIANT avx512bf16
#include "kernels/body/quantize_avx512.h"
