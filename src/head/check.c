/* Which options of a head go together. */
#include "head/internal.h"

static const int64_t MOST_ENTRIES = UINT32_MAX - 1; /* of sparse X in a batch */

const char *hr_head_not_sparse(const hr_head_options *o)
{
    for (int i = 0; i < o->num_segments; i++) {
        if (o->segment[i].kahan || o->segment[i].momentum > 0)
            return o->segment[i].kahan ? "head.kahan_top" : "head.momentum";
        if (o->segment[i].optimizer != HR_HEAD_SGD)
            return "head.optimizer=adam";
    }
    if (o->loss == HR_LOSS_GIVEN)
        return "a hidden layer";
    if (o->sparse_x)
        return "sparse X";
    if (o->loss != HR_LOSS_BCE)
        return "loss.type=squared_hinge";
    if (o->arith == HR_ARITH_ELMO)
        return "head.arith=elmo";
    return o->eager_decay ? "head.decay=eager" : NULL;
}

static hr_status check_sparse(hr_ctx *ctx, const hr_head_options *o)
{
    const char *what = hr_head_not_sparse(o);
    if (what)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: the sparse gradient is not defined with %s; set head.gradient=dense", what);
    if (!(o->tau < 1))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: tau is %g, expected below 1 (below 0: chosen)", (double)o->tau);
    return HR_OK;
}

/* Which columns a segment reads, and how many inputs of them; `first_row` on the axis. */
static hr_status check_inputs(hr_ctx *ctx, const hr_head_options *o, int i, int64_t first_row)
{
    const hr_segment_options *s = &o->segment[i];
    const int64_t dim = s->columns > 0 ? s->columns : o->dim - s->first_column;
    if (o->sparse_x && (s->family != HR_FAMILY_FAN_IN || s->first_column != 0 || (s->columns != 0 && s->columns != o->dim)))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: over sparse X, labels have a fan-in of all columns; set head.family=fan_in, "
                       "head.dense_ratio=0 and no head.slice");
    if (s->first_column < 0 || s->first_column % 64 || dim < 1 || s->first_column + dim > o->dim)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: segment %d reads columns [%lld, %lld) of %lld; expected a slice that begins at a "
                       "multiple of 64", i, (long long)s->first_column, (long long)(s->first_column + dim), (long long)o->dim);
    if (s->family == HR_FAMILY_DENSE)
        return HR_OK;
    if (o->arith != HR_ARITH_F32)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: labels with some of the inputs compute in f32; set head.arith=f32");
    const int64_t most = s->rows * (dim < HR_FAN_IN_MAX ? dim : HR_FAN_IN_MAX);
    if (s->family == HR_FAMILY_UNSTRUCTURED && (s->connections < 1 || s->connections > most || s->connections > UINT32_MAX))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld unstructured connections over a width of %lld, expected 1 to %lld, and below 2^32",
                       (long long)s->connections, (long long)dim, (long long)most);
    if (s->family == HR_FAMILY_UNSTRUCTURED)
        return HR_OK;
    if (s->fan_in < 1 || s->fan_in > dim || s->fan_in > HR_FAN_IN_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: fan-in of %lld, expected 1 to the width before the head, %lld, and at most %d", (long long)s->fan_in,
                       (long long)dim, HR_FAN_IN_MAX);
    if (s->group > 1 && s->group != 16 && s->group != 32 && s->group != 64)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: groups of %lld labels, expected 1, 16, 32 or 64", (long long)s->group);
    if (s->group > 1 && first_row % s->group)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: segment %d begins at label %lld, expected a multiple of its group, %lld", i,
                       (long long)first_row, (long long)s->group);
    return HR_OK;
}

/* What does not go with sparse X. */
static hr_status check_sparse_x(hr_ctx *ctx, const hr_head_options *o)
{
    if (o->dim > INT64_C(1) << 31)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld columns of sparse X, expected at most 2^31", (long long)o->dim);
    if (o->max_entries < 0 || o->max_entries > MOST_ENTRIES)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld entries of sparse X in a batch, expected below 2^32; lower train.batch",
                       (long long)o->max_entries);
    if (o->gradient == HR_GRADIENT_SPARSE)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: over sparse X the exact gradient costs no more than X's entries; set head.gradient=dense");
    if (o->rewire)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: over sparse X, inputs drawn at random would hardly ever be of use; set head.rewire=none");
    if (o->loss == HR_LOSS_GIVEN)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: a hidden layer needs X that is not sparse");
    return HR_OK;
}

hr_status hr_head_check(hr_ctx *ctx, const hr_head_options *o)
{
    int64_t rows = 0;
    if (o->labels < 1 || o->labels >= INT64_C(1) << 32)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %lld labels, expected 1 to 2^32 - 1", (long long)o->labels);
    if (o->dim < 1 || (o->dim > HR_WIDTH_MAX && !o->sparse_x))
        return hr_fail(ctx, HR_ERR_CONFIG, "head: width %lld, expected 1 to 131072", (long long)o->dim);
    if (o->sparse_x)
        HR_TRY(check_sparse_x(ctx, o));
    if (o->max_batch < 1 || o->max_batch > 65536)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: batch of %lld, expected 1 to 65536", (long long)o->max_batch);
    if (o->num_segments < 1 || o->num_segments > HR_SEGMENTS_MAX)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %d segments, expected 1 to %d", o->num_segments, HR_SEGMENTS_MAX);
    for (int i = 0; i < o->num_segments; i++) {
        const hr_segment_options *s = &o->segment[i];
        rows += s->rows;
        if (s->rows < 1)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: segment %d has %lld rows, expected at least 1", i, (long long)s->rows);
        HR_TRY(check_inputs(ctx, o, i, rows - s->rows));
        if (s->kahan && s->dtype.id == HR_I8R)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: Kahan compensation is not defined for i8r (its scale moves); "
                                               "set head.kahan_top=0 or another head.dtype");
        if (s->optimizer == HR_HEAD_ADAM && s->state_dtype.id != HR_F32 && s->state_dtype.id != HR_BF16)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: Adam's second moment spans more than 8 bits hold; set the state's type to f32 or "
                                               "bf16");
        if (s->optimizer == HR_HEAD_ADAM && s->momentum > 0)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: momentum is SGD's; Adam has its own first moment");
        if (s->rounding == HR_ROUND_ELMO && s->dtype.id == HR_I8R)
            return hr_fail(ctx, HR_ERR_CONFIG, "head: rounding stochastic-elmo is defined for floats; head.dtype is i8r");
    }
    if (o->gradient == HR_GRADIENT_SPARSE)
        HR_TRY(check_sparse(ctx, o));
    const char *why = o->device ? o->device->ops->head_not_possible(o) : NULL;
    if (why)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: %s", why);
    if (rows != o->labels)
        return hr_fail(ctx, HR_ERR_CONFIG, "head: segments have %lld rows, labels are %lld", (long long)rows,
                       (long long)o->labels);
    return HR_OK;
}
