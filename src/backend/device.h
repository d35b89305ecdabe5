/* A device that keeps a head's weights in memory of its own and runs its steps, such as a GPU. What it can do stands in a table of functions, so that
 * portable code neither knows nor links it; without a device there is no table, and the processor does everything.
 *
 * All calls wait until the device is done, and take and give host memory. They fail with a message in the context of the device. */
#ifndef HR_BACKEND_DEVICE_H
#define HR_BACKEND_DEVICE_H

#include "base/ctx.h"
#include "dtype/update.h"

struct hr_head_options;
struct hr_head_batch;

/* Arrays of a head: of a segment's rows its codes, scales (i8r), compensation (Kahan), first and second moments (momentum, Adam); of all labels their
 * biases and those' moments, as segment 0. */
typedef enum hr_device_array {
    HR_DEVICE_CODES, HR_DEVICE_SCALES, HR_DEVICE_COMPENSATION, HR_DEVICE_FIRST, HR_DEVICE_SECOND, HR_DEVICE_BIAS, HR_DEVICE_BIAS_FIRST,
    HR_DEVICE_BIAS_SECOND, HR_DEVICE_ARRAYS
} hr_device_array;

/* What a step multiplies by, of each segment: logits are zscale z + bias, dX takes zscale G W; code <- round(keep code - step dW), bias <- bias -
 * lr dbias. */
typedef struct hr_device_rates {
    float zscale, step, keep, lr;
    hr_adam_law adam;
} hr_device_rates;

typedef struct hr_device hr_device;
typedef struct hr_device_head hr_device_head; /* the device's own */

typedef struct hr_device_ops {
    /* "NVIDIA H200" */
    void (*describe)(const hr_device *device, char text[96]);
    void (*close)(hr_device *device);
    /* Bytes of its memory that are taken now, and were at most; what the device has. */
    size_t (*allocated)(const hr_device *device);
    size_t (*peak)(const hr_device *device);
    size_t (*total)(const hr_device *device);
    /* What opening it took besides `allocated`: its context. */
    size_t (*overhead)(const hr_device *device);

    /* From now on, `on`, the device notes how long each part of its work takes; then `text` gets the sum for each part so far, in ms, as a JSON
     * object. For benches: it makes steps slower. */
    void (*profile)(hr_device *device, bool on, char *text, size_t bytes);

    /* NULL, or why it cannot have such a head, as a sentence. */
    const char *(*head_not_possible)(const struct hr_head_options *options);
    /* Bytes of device memory that head_create takes, with so many positives in a batch. */
    size_t (*head_memory)(const struct hr_head_options *options, int64_t positives);
    /* Weights begin as hr_head_create's, state at zero. */
    hr_status (*head_create)(hr_device *device, const struct hr_head_options *options, int64_t positives, hr_device_head **out);
    void (*head_destroy)(hr_device_head *head);
    /* Rows [row, row + rows) of an array, `pitch` host bytes from one to the next; what lies between them is left alone. */
    hr_status (*head_write)(hr_device_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, const void *data);
    hr_status (*head_read)(hr_device_head *head, int segment, hr_device_array array, int64_t row, int64_t rows, size_t pitch, void *data);
    /* One step as hr_head_step's; dx (B, D) or NULL; loss: the sum without `factor`, which scales the gradient, or NULL. */
    hr_status (*head_step)(hr_device_head *head, const struct hr_head_batch *batch, const hr_device_rates *rates, float factor, uint64_t step,
                           float *dx, double *loss);
    /* The codes of a segment are halved, as hr_rows_halve does; `step` numbers the draws. */
    hr_status (*head_halve)(hr_device_head *head, int segment, uint64_t step);
    /* The best k as hr_head_top's; zscale of each segment as in hr_device_rates. */
    hr_status (*head_top)(hr_device_head *head, int64_t rows, const float *x, int64_t k, const float *zscale, const uint32_t *external,
                          uint32_t *ids, float *scores);
} hr_device_ops;

/* The head of every device's own struct. */
struct hr_device {
    const hr_device_ops *ops;
    hr_ctx *ctx;
};

/* "cpu": *out is NULL. "cuda", "cuda:1": that GPU. HR_ERR_CONFIG: another name, or a build without it; HR_ERR_DEVICE: there is none, or it fails. */
hr_status hr_device_open(hr_ctx *ctx, const char *name, hr_device **out);
hr_status hr_cuda_open(hr_ctx *ctx, int64_t ordinal, hr_device **out); /* the GPU `ordinal` */
void hr_device_close(hr_device *device); /* NULL is fine */
/* What it takes without a head: context and workspaces. Of a device just opened. */
size_t hr_device_overhead(const hr_device *device);
/* The most that was taken so far, the context included; NULL: 0. */
size_t hr_device_peak(const hr_device *device);

#endif
