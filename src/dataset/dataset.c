/* Opening a prepared data set: map the arrays, then look at every count and every index once, so that nobody
 * after this has to. Values are not looked at. */
#include "dataset/dataset.h"

#include "dataset/manifest.h"

#include <stdio.h>
#include <string.h>

const char *hr_split_name(hr_split split)
{
    static const char *const names[HR_SPLITS] = {
        [HR_SPLIT_TRAIN] = "train", [HR_SPLIT_DEV] = "dev", [HR_SPLIT_TEST] = "test"};
    return split >= 0 && split < HR_SPLITS ? names[split] : "?";
}

/* ---- arrays ---- */

static hr_status open_array(hr_dataset *ds, const char *prefix, const char *name, hr_npy_type type, int dims,
                            const hr_npy **out)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(ds->ctx, path, "%s/%s.%s.npy", ds->path, prefix, name));
    if (ds->num_maps == (int)(sizeof ds->maps / sizeof ds->maps[0]))
        return hr_fail(ds->ctx, HR_ERR_BUG, "%s: more arrays than a data set has", path);
    hr_npy *npy = &ds->maps[ds->num_maps];
    HR_TRY(hr_npy_open(ds->ctx, path, type, dims, npy));
    ds->num_maps++;
    ds->mapped_bytes += npy->map.size;
    *out = npy;
    return HR_OK;
}

static hr_status check_length(const hr_dataset *ds, const char *prefix, const char *name, const hr_npy *npy,
                              int64_t expected)
{
    if (npy->shape[0] == expected)
        return HR_OK;
    return hr_fail(ds->ctx, HR_ERR_DATA, "%s/%s.%s.npy: %lld elements, expected %lld", ds->path, prefix, name,
                   (long long)npy->shape[0], (long long)expected);
}

/* Row pointers rise from 0 to nnz; within a row, indices rise and stay below cols. */
static hr_status check_rows(const hr_dataset *ds, const char *prefix, const hr_csr *m, int64_t nnz)
{
    if (m->indptr[0] != 0 || m->indptr[m->rows] != nnz)
        return hr_fail(ds->ctx, HR_ERR_DATA, "%s/%s.indptr.npy: goes from %lld to %lld, expected 0 to %lld",
                       ds->path, prefix, (long long)m->indptr[0], (long long)m->indptr[m->rows],
                       (long long)nnz);
    for (int64_t r = 0; r < m->rows; r++)
        if (m->indptr[r] > m->indptr[r + 1])
            return hr_fail(ds->ctx, HR_ERR_DATA, "%s/%s.indptr.npy: falls after row %lld", ds->path, prefix,
                           (long long)r);
    for (int64_t r = 0; r < m->rows; r++) {
        int64_t begin = m->indptr[r], end = m->indptr[r + 1];
        unsigned bad = end > begin && m->indices[end - 1] >= m->cols;
        for (int64_t i = begin + 1; i < end; i++)
            bad |= m->indices[i - 1] >= m->indices[i];
        if (bad)
            return hr_fail(ds->ctx, HR_ERR_DATA, "%s/%s.indices.npy: row %lld does not rise below %lld",
                           ds->path, prefix, (long long)r, (long long)m->cols);
    }
    return HR_OK;
}

static hr_status open_csr(hr_dataset *ds, const char *prefix, int64_t rows, int64_t cols, bool values,
                          hr_csr *out)
{
    const hr_npy *indptr = NULL, *indices = NULL, *weights = NULL;
    HR_TRY(open_array(ds, prefix, "indptr", HR_NPY_I64, 1, &indptr));
    HR_TRY(check_length(ds, prefix, "indptr", indptr, rows + 1));
    HR_TRY(open_array(ds, prefix, "indices", HR_NPY_U32, 1, &indices));
    hr_csr m = {.rows = rows, .cols = cols, .indptr = indptr->data, .indices = indices->data};
    if (values) {
        HR_TRY(open_array(ds, prefix, "values", HR_NPY_F32, 1, &weights));
        HR_TRY(check_length(ds, prefix, "values", weights, indices->shape[0]));
        m.values = weights->data;
    }
    HR_TRY(check_rows(ds, prefix, &m, indices->shape[0]));
    *out = m;
    return HR_OK;
}

/* ---- parts ---- */

static hr_status open_split(hr_dataset *ds, const hr_manifest *manifest, hr_split split)
{
    const char *name = hr_split_name(split);
    hr_split_data *data = &ds->split[split];
    char prefix[64];
    data->present = true;
    data->rows = manifest->rows[split];
    snprintf(prefix, sizeof prefix, "%s.labels", name);
    HR_TRY(open_csr(ds, prefix, data->rows, ds->labels, false, &data->labels));
    if (manifest->dense) {
        const hr_npy *dense = NULL;
        HR_TRY(open_array(ds, name, "dense", HR_NPY_F32, 2, &dense));
        if (dense->shape[0] != data->rows || dense->shape[1] != ds->features)
            return hr_fail(ds->ctx, HR_ERR_DATA, "%s/%s.dense.npy: (%lld, %lld), expected (%lld, %lld)",
                           ds->path, name, (long long)dense->shape[0], (long long)dense->shape[1],
                           (long long)data->rows, (long long)ds->features);
        data->dense = dense->data;
    } else {
        snprintf(prefix, sizeof prefix, "%s.features", name);
        HR_TRY(open_csr(ds, prefix, data->rows, ds->features, true, &data->features));
    }
    if (manifest->filter_pairs[split] == 0)
        return HR_OK;
    snprintf(prefix, sizeof prefix, "%s.filter", name);
    return open_csr(ds, prefix, data->rows, ds->labels, false, &data->filter);
}

static hr_status open_names(hr_dataset *ds)
{
    const hr_npy *bytes = NULL, *offsets = NULL;
    HR_TRY(open_array(ds, "label.names", "bytes", HR_NPY_U8, 1, &bytes));
    HR_TRY(open_array(ds, "label.names", "offsets", HR_NPY_U64, 1, &offsets));
    HR_TRY(check_length(ds, "label.names", "offsets", offsets, ds->labels + 1));
    const uint64_t *at = offsets->data;
    bool fine = at[0] == 0 && at[ds->labels] == (uint64_t)bytes->shape[0];
    for (int64_t l = 0; l < ds->labels && fine; l++)
        fine = at[l] <= at[l + 1];
    if (!fine)
        return hr_fail(ds->ctx, HR_ERR_DATA, "%s/label.names.offsets.npy: does not rise from 0 to %lld",
                       ds->path, (long long)bytes->shape[0]);
    ds->label_names = (hr_strings){.count = ds->labels, .offsets = at, .bytes = bytes->data};
    return HR_OK;
}

/* The manifest's counts are read by people; they have to be those of the arrays. */
static hr_status check_counts(const hr_dataset *ds, const hr_manifest *m)
{
    for (int split = 0; split < HR_SPLITS; split++) {
        const hr_split_data *data = &ds->split[split];
        int64_t features = m->dense ? data->rows * ds->features : hr_csr_nnz(&data->features);
        if (hr_csr_nnz(&data->labels) != m->label_pairs[split] || features != m->feature_pairs[split] ||
            hr_csr_nnz(&data->filter) != m->filter_pairs[split])
            return hr_fail(ds->ctx, HR_ERR_DATA,
                           "%s/manifest.json: its counts for %s are not those of the arrays", ds->path,
                           hr_split_name((hr_split)split));
    }
    return HR_OK;
}

static hr_status open_parts(hr_dataset *ds, const hr_manifest *m)
{
    memcpy(ds->name, m->name, sizeof ds->name);
    memcpy(ds->fingerprint, m->fingerprint, sizeof ds->fingerprint);
    ds->labels = m->labels;
    ds->features = m->features;
    ds->propensity_a = m->propensity_a;
    ds->propensity_b = m->propensity_b;
    ds->has_text_model = m->text_model;
    for (int split = 0; split < HR_SPLITS; split++)
        if (m->present[split])
            HR_TRY(open_split(ds, m, (hr_split)split));
    if (m->label_features)
        HR_TRY(open_csr(ds, "label.features", ds->labels, ds->features, true, &ds->label_features));
    if (m->label_names)
        HR_TRY(open_names(ds));
    return check_counts(ds, m);
}

/* ---- open, close, describe ---- */

hr_status hr_dataset_open(hr_ctx *ctx, const char *path, hr_dataset **out)
{
    *out = NULL;
    hr_manifest manifest;
    HR_TRY(hr_manifest_read(ctx, path, &manifest));
    hr_dataset *ds = HR_NEW(ctx, HR_MEM_DATASET, hr_dataset);
    if (!ds)
        return HR_ERR_NOMEM;
    ds->ctx = ctx;
    hr_status st = hr_path_format(ctx, ds->path, "%s", path);
    if (st == HR_OK)
        st = open_parts(ds, &manifest);
    if (st != HR_OK) {
        hr_dataset_close(ds);
        return st;
    }
    *out = ds;
    return HR_OK;
}

void hr_dataset_close(hr_dataset *ds)
{
    if (!ds)
        return;
    for (int i = 0; i < ds->num_maps; i++)
        hr_npy_close(&ds->maps[i]);
    hr_free(ds->ctx, ds);
}

void hr_dataset_describe(const hr_dataset *ds, hr_dataset_info *out)
{
    *out = (hr_dataset_info){.name = ds->name,
                             .path = ds->path,
                             .labels = ds->labels,
                             .features = ds->features,
                             .dense = ds->split[HR_SPLIT_TRAIN].dense != NULL,
                             .has_text_model = ds->has_text_model,
                             .has_label_names = ds->label_names.count > 0,
                             .has_label_features = ds->label_features.rows > 0,
                             .propensity_a = ds->propensity_a,
                             .propensity_b = ds->propensity_b};
    memcpy(out->fingerprint, ds->fingerprint, sizeof out->fingerprint);
    for (int split = 0; split < HR_SPLITS; split++) {
        const hr_split_data *data = &ds->split[split];
        out->rows[split] = data->rows;
        out->label_pairs[split] = hr_csr_nnz(&data->labels);
        out->feature_pairs[split] = data->dense ? data->rows * ds->features : hr_csr_nnz(&data->features);
        out->filter_pairs[split] = hr_csr_nnz(&data->filter);
    }
}
