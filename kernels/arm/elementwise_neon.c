/* kernels/body/elementwise.h, compiled for neon. */
#define HRK_VARIANT neon
#include "kernels/body/elementwise.h"
