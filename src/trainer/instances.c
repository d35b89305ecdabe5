/* Instances and batches. Held-out rows are the first ones of a permutation of all training rows that no epoch uses. */
#include "trainer/instances.h"

#include "base/sort.h"

#include <math.h>
#include <string.h>

/* Epoch number of the permutation that chooses validation rows. */
static const uint64_t holdout_epoch = UINT64_C(0xffffffff);

static void longest(const hr_csr *m, int64_t *most)
{
    for (int64_t r = 0; m->indptr && r < m->rows; r++) {
        const int64_t n = m->indptr[r + 1] - m->indptr[r];
        *most = n > *most ? n : *most;
    }
}

static int64_t held_out(const hr_config *config, int64_t rows)
{
    const double share = hr_config_number(config, "train.validation");
    int64_t n = llrint(share * (double)rows);
    if (share > 0 && n == 0)
        n = 1;
    const int64_t most = hr_config_int(config, "train.validation_max");
    n = n > most ? most : n;
    return n < rows ? n : rows - 1;
}

hr_status hr_instances_make(const hr_config *config, const hr_dataset *ds, hr_instances *out)
{
    hr_ctx *ctx = hr_config_ctx(config);
    const hr_split_data *train = &ds->split[HR_SPLIT_TRAIN], *dev = &ds->split[HR_SPLIT_DEV];
    if (!train->present || train->rows < 2)
        return hr_fail(ctx, HR_ERR_DATA, "%s: %lld training rows, expected at least 2", ds->path, (long long)train->rows);
    *out = (hr_instances){.dataset = ds, .seed = (uint64_t)hr_config_int(config, "seed"), .train_rows = train->rows};
    if (dev->present && hr_config_number(config, "train.validation") > 0) {
        out->validation_split = HR_SPLIT_DEV;
        const int64_t most = hr_config_int(config, "train.validation_max");
        out->validation_rows = dev->rows < most ? dev->rows : most;
        out->holdout = hr_order_make(out->seed, holdout_epoch, (uint64_t)dev->rows);
        longest(&dev->features, &out->max_features);
    } else {
        out->validation_split = HR_SPLIT_TRAIN;
        out->validation_rows = held_out(config, train->rows);
        out->train_rows -= out->validation_rows;
        out->holdout = hr_order_make(out->seed, holdout_epoch, (uint64_t)train->rows);
    }
    longest(&train->features, &out->max_features);
    longest(&train->labels, &out->max_labels);
    out->mean_positives = (double)hr_csr_nnz(&train->labels) / (double)train->rows;
    if (hr_config_bool(config, "train.augment")) {
        if (ds->label_features.rows == 0)
            return hr_fail(ctx, HR_ERR_CONFIG, "train.augment=true, but %s has no label texts; set train.augment=false",
                           ds->path);
        out->label_rows = ds->labels;
        longest(&ds->label_features, &out->max_features);
        out->max_labels = out->max_labels ? out->max_labels : 1;
        out->mean_positives = (double)(hr_csr_nnz(&train->labels) + ds->labels) / (double)(train->rows + ds->labels);
    }
    out->count = out->train_rows + out->label_rows;
    return HR_OK;
}

int64_t hr_instances_validation_row(const hr_instances *in, int64_t i)
{
    return (int64_t)hr_order_at(&in->holdout, (uint64_t)i);
}

/* Training row of instance i < train_rows. */
static int64_t train_row(const hr_instances *in, int64_t i)
{
    if (in->validation_split != HR_SPLIT_TRAIN)
        return i;
    return (int64_t)hr_order_at(&in->holdout, (uint64_t)(in->validation_rows + i));
}

/* ---- batches ---- */

size_t hr_batch_memory(const hr_instances *in, int64_t max_batch, int64_t dim)
{
    const size_t b = (size_t)max_batch, ds_dense = in->dataset->split[HR_SPLIT_TRAIN].dense ? 1 : 0;
    size_t bytes = b * sizeof(uint32_t) + b * (size_t)dim * sizeof(float);
    bytes = hr_add(bytes, hr_mul(2 * b * (size_t)in->max_labels, sizeof(uint64_t)));
    if (ds_dense)
        return hr_add(bytes, hr_mul(b * (size_t)in->dataset->features, sizeof(float)));
    return hr_add(bytes, hr_add((b + 1) * sizeof(int64_t),
                                hr_mul(b * (size_t)in->max_features, sizeof(uint32_t) + sizeof(float))));
}

hr_status hr_batch_create(hr_ctx *ctx, const hr_instances *in, int64_t max_batch, int64_t dim, hr_batch *out)
{
    *out = (hr_batch){0};
    const bool dense = in->dataset->split[HR_SPLIT_TRAIN].dense != NULL;
    out->ids = HR_ARRAY(ctx, HR_MEM_BATCH, uint32_t, max_batch);
    out->dx = HR_ARRAY(ctx, HR_MEM_BATCH, float, max_batch *dim);
    out->positives = HR_ARRAY(ctx, HR_MEM_BATCH, uint64_t, max_batch * in->max_labels);
    out->scratch = HR_ARRAY(ctx, HR_MEM_BATCH, uint64_t, max_batch * in->max_labels);
    bool ok = out->ids && out->dx && out->positives && out->scratch;
    if (dense) {
        out->dense = HR_ARRAY(ctx, HR_MEM_BATCH, float, max_batch * in->dataset->features);
        ok = ok && out->dense;
    } else {
        out->indptr = HR_ARRAY(ctx, HR_MEM_BATCH, int64_t, max_batch + 1);
        out->indices = HR_ARRAY(ctx, HR_MEM_BATCH, uint32_t, max_batch * in->max_features);
        out->values = HR_ARRAY(ctx, HR_MEM_BATCH, float, max_batch * in->max_features);
        ok = ok && out->indptr && out->indices && out->values;
    }
    if (!ok) {
        hr_batch_destroy(ctx, out);
        return HR_ERR_NOMEM;
    }
    return HR_OK;
}

void hr_batch_destroy(hr_ctx *ctx, hr_batch *batch)
{
    hr_free(ctx, batch->ids);
    hr_free(ctx, batch->dx);
    hr_free(ctx, batch->positives);
    hr_free(ctx, batch->scratch);
    hr_free(ctx, batch->dense);
    hr_free(ctx, batch->indptr);
    hr_free(ctx, batch->indices);
    hr_free(ctx, batch->values);
    *batch = (hr_batch){0};
}

static void copy_features(hr_batch *batch, int64_t at, const hr_csr *m, int64_t row)
{
    const int64_t begin = m->indptr[row], n = m->indptr[row + 1] - begin, to = batch->indptr[at];
    memcpy(batch->indices + to, m->indices + begin, (size_t)n * sizeof(uint32_t));
    for (int64_t i = 0; i < n; i++)
        batch->values[to + i] = m->values ? m->values[begin + i] : 1.0f;
    batch->indptr[at + 1] = to + n;
}

static void add_positive(hr_batch *batch, int64_t at, uint32_t internal)
{
    batch->positives[batch->num_positives++] = (uint64_t)internal << 32 | (uint64_t)at;
}

static void add_instance(hr_batch *batch, const hr_instances *in, int64_t at, int64_t instance, const uint32_t *internal)
{
    const hr_dataset *ds = in->dataset;
    const hr_split_data *train = &ds->split[HR_SPLIT_TRAIN];
    if (instance >= in->train_rows) {
        const int64_t label = instance - in->train_rows;
        batch->ids[at] = (uint32_t)(train->rows + label);
        copy_features(batch, at, &ds->label_features, label);
        add_positive(batch, at, internal[label]);
        return;
    }
    const int64_t row = train_row(in, instance);
    batch->ids[at] = (uint32_t)row;
    if (batch->dense)
        memcpy(batch->dense + at * ds->features, train->dense + row * ds->features, (size_t)ds->features * sizeof(float));
    else
        copy_features(batch, at, &train->features, row);
    for (int64_t i = train->labels.indptr[row]; i < train->labels.indptr[row + 1]; i++)
        add_positive(batch, at, internal[train->labels.indices[i]]);
}

void hr_batch_fill(hr_batch *batch, const hr_instances *in, uint64_t epoch, int64_t position, int64_t rows,
                   const uint32_t *internal)
{
    const hr_order order = hr_order_make(in->seed, epoch, (uint64_t)in->count);
    batch->rows = rows;
    batch->num_positives = 0;
    if (batch->indptr)
        batch->indptr[0] = 0;
    for (int64_t b = 0; b < rows; b++)
        add_instance(batch, in, b, (int64_t)hr_order_at(&order, (uint64_t)(position + b)), internal);
    /* rows were added in ascending batch order, and the sort is stable: (label, batch row) ascends */
    hr_sort_high(batch->positives, batch->scratch, batch->num_positives, (uint32_t)(in->dataset->labels - 1));
}

hr_encoder_batch hr_batch_features(const hr_batch *batch)
{
    return (hr_encoder_batch){.rows = batch->rows, .indptr = batch->indptr, .indices = batch->indices,
                              .values = batch->values, .dense = batch->dense, .ids = batch->ids};
}
