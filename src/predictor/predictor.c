/* From texts to labels with a self-contained model folder. */
#include "dataset/dataset.h"
#include "model/model.h"
#include "tokenizer/text_features.h"

#include "dtype/sigmoid.h"

#include <stdio.h>

enum { PREDICT_BATCH = 64 };

struct hr_predictor {
    hr_ctx *ctx;
    char path[HR_PATH_MAX], dtype[8];
    hr_model *model;
    hr_text_model *text;
    hr_text_work *work;
    hr_npy name_bytes, name_offsets;
    hr_strings names;
    int64_t indptr[PREDICT_BATCH + 1];
    uint32_t *indices; /* features of a batch of texts; grows to the longest batch seen */
    float *values;
    int64_t room;
};

static hr_status open_names(hr_predictor *p)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(p->ctx, path, "%s/label.names.offsets.npy", p->path));
    if (!hr_path_exists(path))
        return HR_OK;
    HR_TRY(hr_checkpoint_verify_file(p->model->ck, "label.names.offsets.npy"));
    HR_TRY(hr_checkpoint_verify_file(p->model->ck, "label.names.bytes.npy"));
    HR_TRY(hr_npy_open(p->ctx, path, HR_NPY_U64, 1, &p->name_offsets));
    HR_TRY(hr_path_format(p->ctx, path, "%s/label.names.bytes.npy", p->path));
    HR_TRY(hr_npy_open(p->ctx, path, HR_NPY_U8, 1, &p->name_bytes));
    const uint64_t *offsets = p->name_offsets.data;
    const int64_t n = p->name_offsets.shape[0] - 1;
    bool good = n == p->model->labels && offsets[n] == (uint64_t)p->name_bytes.shape[0];
    for (int64_t i = 0; good && i < n; i++)
        good = offsets[i] <= offsets[i + 1];
    if (!good)
        return hr_fail(p->ctx, HR_ERR_DATA, "%s: the offsets do not fit the names and labels", path);
    p->names = (hr_strings){.count = n, .offsets = offsets, .bytes = p->name_bytes.data};
    return HR_OK;
}

static hr_status open_text(hr_predictor *p)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(p->ctx, path, "%s/text.json", p->path));
    if (!hr_path_exists(path))
        return HR_OK;
    if (hr_encoder_get_options(p->model->encoder)->type == HR_ENCODER_DENSE)
        return hr_fail(p->ctx, HR_ERR_DATA, "%s: a text model, but an encoder of dense vectors", p->path);
    for (const char *const *name = hr_text_model_files(); *name; name++) {
        HR_TRY(hr_path_format(p->ctx, path, "%s/%s", p->path, *name));
        if (hr_path_exists(path))
            HR_TRY(hr_checkpoint_verify_file(p->model->ck, *name));
    }
    HR_TRY(hr_text_model_open(p->ctx, p->path, &p->text));
    if (hr_text_model_features(p->text) != p->model->features)
        return hr_fail(p->ctx, HR_ERR_DATA, "%s: the text model has %lld features, the encoder %lld", p->path,
                       (long long)hr_text_model_features(p->text), (long long)p->model->features);
    return hr_text_work_create(p->text, &p->work);
}

static hr_status open_parts(hr_predictor *p, const char *path, bool verify_all)
{
    HR_TRY(hr_model_folder(p->ctx, path, p->path));
    HR_TRY(hr_model_open(p->ctx, p->path, verify_all, PREDICT_BATCH, &p->model));
    HR_TRY(open_names(p));
    return open_text(p);
}

hr_status hr_predictor_open(hr_ctx *ctx, const char *path, bool verify_all, hr_predictor **out)
{
    *out = NULL;
    hr_predictor *p = HR_NEW(ctx, HR_MEM_OTHER, hr_predictor);
    if (!p)
        return HR_ERR_NOMEM;
    p->ctx = ctx;
    hr_status st = open_parts(p, path, verify_all);
    if (st != HR_OK) {
        hr_predictor_close(p);
        return st;
    }
    *out = p;
    return HR_OK;
}

void hr_predictor_close(hr_predictor *p)
{
    if (!p)
        return;
    hr_text_work_destroy(p->work);
    hr_text_model_close(p->text);
    hr_npy_close(&p->name_bytes);
    hr_npy_close(&p->name_offsets);
    hr_model_destroy(p->model);
    hr_free(p->ctx, p->indices);
    hr_free(p->ctx, p->values);
    hr_free(p->ctx, p);
}

void hr_predictor_describe(const hr_predictor *p, hr_predictor_info *out)
{
    hr_predictor *self = (hr_predictor *)(uintptr_t)p;
    hr_dtype_name(hr_head_get_options(p->model->head)->segment[0].dtype, self->dtype);
    *out = (hr_predictor_info){.labels = p->model->labels, .width = p->model->dim, .head_dtype = p->dtype,
                               .takes_text = p->text != NULL, .mapped = hr_checkpoint_bytes(p->model->ck)};
}

const char *hr_predictor_label(const hr_predictor *p, uint32_t id, size_t *length)
{
    const bool has = id < (uint64_t)p->names.count;
    if (length)
        *length = has ? (size_t)(p->names.offsets[id + 1] - p->names.offsets[id]) : 0;
    return has ? p->names.bytes + p->names.offsets[id] : "";
}

static hr_status make_room(hr_predictor *p, int64_t entries)
{
    if (entries <= p->room)
        return HR_OK;
    const int64_t room = entries < 2 * p->room ? 2 * p->room : entries + 1024;
    uint32_t *indices = hr_realloc(p->ctx, HR_MEM_BATCH, p->indices, hr_mul((size_t)room, sizeof *indices));
    if (!indices)
        return HR_ERR_NOMEM;
    p->indices = indices;
    float *values = hr_realloc(p->ctx, HR_MEM_BATCH, p->values, hr_mul((size_t)room, sizeof *values));
    if (!values)
        return HR_ERR_NOMEM;
    p->values = values;
    p->room = room;
    return HR_OK;
}

/* Features of up to PREDICT_BATCH texts into the buffers. */
static hr_status featurise(hr_predictor *p, int64_t rows, const char *const *text, const size_t *length)
{
    p->indptr[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        const uint32_t *ids;
        const float *values;
        int64_t n;
        HR_TRY(hr_text_features(p->text, p->work, text[i], length[i], &ids, &values, &n));
        HR_TRY(make_room(p, p->indptr[i] + n));
        if (n > 0) {
            memcpy(p->indices + p->indptr[i], ids, (size_t)n * sizeof *ids);
            memcpy(p->values + p->indptr[i], values, (size_t)n * sizeof *values);
        }
        p->indptr[i + 1] = p->indptr[i] + n;
    }
    return HR_OK;
}

hr_status hr_predictor_texts(hr_predictor *p, int64_t rows, const char *const *text, const size_t *length, int k,
                             uint32_t *ids, float *scores)
{
    if (!p->text)
        return hr_fail(p->ctx, HR_ERR_USAGE, "%s: this model takes vectors, not texts (it holds no text model)", p->path);
    if (k < 1 || k > p->model->labels)
        return hr_fail(p->ctx, HR_ERR_USAGE, "top %d asked for, expected 1 to %lld (the number of labels)", k,
                       (long long)p->model->labels);
    const bool probabilities = hr_head_get_options(p->model->head)->loss == HR_LOSS_BCE;
    HR_TRY(hr_model_want_top(p->model, k));
    for (int64_t at = 0; at < rows; at += PREDICT_BATCH) {
        const int64_t n = rows - at < PREDICT_BATCH ? rows - at : PREDICT_BATCH;
        HR_TRY(featurise(p, n, text + at, length + at));
        const hr_encoder_batch batch = {.rows = n, .indptr = p->indptr, .indices = p->indices, .values = p->values};
        HR_TRY(hr_model_top(p->model, &batch, k, ids + at * k, scores + at * k));
        for (int64_t i = 0; i < n * k && probabilities; i++)
            scores[at * k + i] = hr_sigmoid(scores[at * k + i]);
    }
    return HR_OK;
}
