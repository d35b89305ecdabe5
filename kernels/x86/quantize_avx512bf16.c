/* The level asks for VBMI too, a table of 64 bytes in one instruction: Zen 4 and Sapphire Rapids have both, Cooper Lake has not. */
#define HRK_VARIANT avx512bf16
#include "kernels/body/quantize_avx512.h"
