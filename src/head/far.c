/* A head whose weights are on a device (backend/device.h). */
#include "head/internal.h"

static const hr_device_ops *ops_of(const hr_head *head)
{
    return head->o.device->ops;
}

hr_status hr_far_create(hr_head *head)
{
    return ops_of(head)->head_create(head->o.device, &head->o, 4 * head->o.max_batch, &head->far);
}

void hr_far_destroy(hr_head *head)
{
    if (head->far)
        ops_of(head)->head_destroy(head->far);
}

hr_status hr_far_check(hr_head *head, const hr_head_batch *batch)
{
    for (int64_t i = 0; i < batch->rows * head->o.dim; i++)
        if (fabsf(batch->x[i]) > 65504.0f)
            return hr_fail(head->ctx, HR_ERR_NUMERIC, "head: X[%lld][%lld] = %g, on a device expected at most 65504; nothing was changed. Set "
                           "encoder.norm=1", (long long)(i / head->o.dim), (long long)(i % head->o.dim), (double)batch->x[i]);
    return HR_OK;
}

hr_status hr_far_step(hr_head *head, const hr_head_batch *batch, float lr, const float *new_alpha, const hr_adam_law *adam, uint64_t step,
                      float *dx, double *loss)
{
    const double factor = hr_head_loss_factor(&head->o, batch);
    hr_device_rates rates[HR_SEGMENTS_MAX];
    for (int i = 0; i < head->o.num_segments; i++) {
        const hr_segment *seg = &head->segment[i];
        const float own = lr * seg->o.lr_scale;
        rates[i] = (hr_device_rates){.zscale = hr_rows_scale(seg),
                                     .step = ldexpf(own, seg->o.scale_log2) / new_alpha[i],
                                     .keep = head->o.eager_decay ? 1.0f - own * head->o.weight_decay : 1.0f,
                                     .lr = own,
                                     .adam = adam[i]};
    }
    HR_TRY(ops_of(head)->head_step(head->far, batch, rates, (float)factor, step, dx, loss));
    if (loss)
        *loss *= factor;
    return HR_OK;
}

hr_status hr_far_halve(hr_head *head, int segment, uint64_t step)
{
    return ops_of(head)->head_halve(head->far, segment, step);
}

hr_status hr_far_top(hr_head *head, int64_t batch, const float *x, int64_t k, const uint32_t *external, uint32_t *ids, float *scores)
{
    float zscale[HR_SEGMENTS_MAX];
    for (int i = 0; i < head->o.num_segments; i++)
        zscale[i] = hr_rows_scale(&head->segment[i]);
    return ops_of(head)->head_top(head->far, batch, x, k, zscale, external, ids, scores);
}

/* ---- its arrays ---- */

static hr_status get(void *owner, int part, int64_t row, int64_t rows, size_t row_bytes, void *to)
{
    hr_head *head = owner;
    return ops_of(head)->head_read(head->far, part / HR_DEVICE_ARRAYS, (hr_device_array)(part % HR_DEVICE_ARRAYS), row, rows, row_bytes, to);
}

static hr_status put(void *owner, int part, int64_t row, int64_t rows, size_t row_bytes, const void *from)
{
    hr_head *head = owner;
    return ops_of(head)->head_write(head->far, part / HR_DEVICE_ARRAYS, (hr_device_array)(part % HR_DEVICE_ARRAYS), row, rows, row_bytes, from);
}

void hr_far_tensor(hr_head *head, int segment, hr_device_array array, hr_tensor *t)
{
    static const hr_tensor_far far = {get, put};
    t->far = &far;
    t->owner = head;
    t->part = segment * HR_DEVICE_ARRAYS + (int)array;
}
