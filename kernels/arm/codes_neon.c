/* The reference text, which the compiler turns into vectors: the types are simple enough for it, the speed of the products matters more. */
#define HRK_VARIANT neon
#include "kernels/ref/codes_ref.c"
