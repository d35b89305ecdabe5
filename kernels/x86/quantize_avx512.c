#define HRK_VARIANT avx512
#include "kernels/body/quantize_avx512.h"
