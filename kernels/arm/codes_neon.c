/* kernels/body/codes_plain.h, which the compiler turns into vectors: the speed of the products matters more. */
#define HRK_VARIANT neon
#include "kernels/body/codes_plain.h"
