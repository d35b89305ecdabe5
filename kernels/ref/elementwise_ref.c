/* kernels/body/elementwise.h, compiled for ref. */
#define HRK_VARIANT ref
#include "kernels/body/elementwise.h"
