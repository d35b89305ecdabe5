/* A dense head on a device, stage 1: matrix products of the library, chunk after chunk, and kernels of our own between them. */
#ifndef HRC_HEAD_LIB_H
#define HRC_HEAD_LIB_H

#include "backend/device.h"
#include "cuda/runtime.h"
#include "head/head.h"

typedef struct hrc_head hrc_head;

/* NULL, or why a device cannot do it, as a sentence. */
const char *hrc_head_not_possible(const hr_head_options *options);
/* Device bytes that hrc_head_create allocates, for chunks of `chunk` labels (a multiple of 16) and up to `positives` positives of a batch. */
size_t hrc_head_memory(const hr_head_options *options, int64_t chunk, int64_t positives);
/* Weights begin as hr_head_create's, state at zero. `rt` is borrowed. */
hr_status hrc_head_create(hrc_runtime *rt, const hr_head_options *options, int64_t chunk, int64_t positives, hrc_head **out);
void hrc_head_destroy(hrc_head *head);

/* Bytes of a row of an array, without padding; 0: the head has none. */
size_t hrc_head_row_bytes(const hrc_head *head, int segment, hr_device_array array);
/* Rows [row, row + rows); `pitch` host bytes from one to the next. Wait. */
hr_status hrc_head_write(hrc_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, const void *data);
hr_status hrc_head_read(hrc_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, void *data);

/* One step as hr_head_step's, of a batch whose x is in host memory; dx (B, D) in host memory, or NULL; loss: the sum without `factor`, the loss
 * factor, or NULL. Waits. */
hr_status hrc_head_step(hrc_head *head, const hr_head_batch *batch, const hr_device_rates *rates, float factor, uint64_t step, float *dx, double *loss);
/* The codes of a segment are halved, as hr_rows_halve does; `step` numbers the draws. */
hr_status hrc_head_halve(hrc_head *head, int segment, uint64_t step);
/* The best k as hr_head_top's, all in host memory; zscale of each segment as in hr_device_rates. Not before the batch of `rows` <= max_batch has scores that
 * are numbers: HR_ERR_NUMERIC. Waits. */
hr_status hrc_head_top(hrc_head *head, int64_t rows, const float *x, int64_t k, const float *zscale, const uint32_t *external, uint32_t *ids,
                       float *scores);

#endif
