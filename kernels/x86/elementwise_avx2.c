/* kernels/body/elementwise.h, compiled for avx2. */
#define HRK_VARIANT avx2
#include "kernels/body/elementwise.h"
