/* The step as one would write it with a BLAS, in f32: what ours is measured against. */
#ifndef HR_BENCH_BLAS_STEP_H
#define HR_BENCH_BLAS_STEP_H

#include <stdint.h>

/* Labels between two products. Smaller chunks repack X more often, larger ones push the logits out of the cache; of 1024 to 16384
 * this is the fastest for OpenBLAS, or within 1 % of it, at every shape tried. */
enum { BLAS_CHUNK = 2048 };

/* dx (B, D) = G^T-products of the old weights, w (L, D) -= lr G X; z has room for B * BLAS_CHUNK. Positives as in hr_head_batch. */
void blas_step(int64_t B, int64_t D, int64_t L, const float *x, float *w, float *z, float *dx, const uint64_t *positives,
               int64_t num_positives, float bias, float lr);

#endif
