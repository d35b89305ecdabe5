/* kernels/body/codes_plain.h, compiled for ref. */
#include "kernels/body/codes_plain.h"
