/* kernels/body/elementwise.h, compiled for avx512. */
#define HRK_VARIANT avx512
#include "kernels/body/elementwise.h"
