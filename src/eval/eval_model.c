/* Evaluation of models: of one being trained (validation) and of a model folder. */
#include "eval/eval_model.h"

#include <string.h>

enum { EVAL_BATCH = 256 };

size_t hr_eval_work_memory(int64_t batch, int64_t wanted, int64_t max_features, int64_t dense_width)
{
    const size_t b = (size_t)batch;
    return b * (size_t)wanted * (sizeof(uint32_t) + sizeof(float)) + (b + 1) * sizeof(int64_t) + b * sizeof(int64_t) +
           b * (size_t)max_features * (sizeof(uint32_t) + sizeof(float)) + b * (size_t)dense_width * sizeof(float);
}

hr_status hr_eval_work_create(hr_model *model, int64_t wanted, int64_t max_features, int64_t dense_width, hr_eval_work *out)
{
    hr_ctx *ctx = model->ctx;
    const int64_t b = model->max_batch;
    *out = (hr_eval_work){.batch = b, .wanted = wanted};
    HR_TRY(hr_model_want_top(model, wanted));
    out->ids = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, b * wanted);
    out->scores = HR_ARRAY(ctx, HR_MEM_EVAL, float, b * wanted);
    out->indptr = HR_ARRAY(ctx, HR_MEM_EVAL, int64_t, b + 1);
    out->rows = HR_ARRAY(ctx, HR_MEM_EVAL, int64_t, b);
    out->indices = HR_ARRAY(ctx, HR_MEM_EVAL, uint32_t, b * max_features);
    out->values = HR_ARRAY(ctx, HR_MEM_EVAL, float, b * max_features);
    out->dense = HR_ARRAY(ctx, HR_MEM_EVAL, float, b * dense_width);
    if (!out->ids || !out->scores || !out->indptr || !out->rows || !out->indices || !out->values || !out->dense) {
        hr_eval_work_destroy(ctx, out);
        return HR_ERR_NOMEM;
    }
    return HR_OK;
}

void hr_eval_work_destroy(hr_ctx *ctx, hr_eval_work *work)
{
    hr_free(ctx, work->ids);
    hr_free(ctx, work->scores);
    hr_free(ctx, work->indptr);
    hr_free(ctx, work->rows);
    hr_free(ctx, work->indices);
    hr_free(ctx, work->values);
    hr_free(ctx, work->dense);
    *work = (hr_eval_work){0};
}

/* Copies the features of work->rows[0..n) into the work buffers. */
static hr_encoder_batch gather(const hr_dataset *ds, const hr_split_data *split, hr_eval_work *w, int64_t n)
{
    if (split->dense) {
        for (int64_t i = 0; i < n; i++)
            memcpy(w->dense + i * ds->features, split->dense + w->rows[i] * ds->features, (size_t)ds->features * sizeof(float));
        return (hr_encoder_batch){.rows = n, .dense = w->dense};
    }
    const hr_csr *m = &split->features;
    w->indptr[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t begin = m->indptr[w->rows[i]], count = m->indptr[w->rows[i] + 1] - begin, at = w->indptr[i];
        memcpy(w->indices + at, m->indices + begin, (size_t)count * sizeof(uint32_t));
        for (int64_t j = 0; j < count; j++)
            w->values[at + j] = m->values ? m->values[begin + j] : 1.0f;
        w->indptr[i + 1] = at + count;
    }
    return (hr_encoder_batch){.rows = n, .indptr = w->indptr, .indices = w->indices, .values = w->values};
}

hr_status hr_eval_run(hr_model *model, const hr_dataset *ds, const hr_eval_rows *rows, hr_eval_work *w, hr_ranking *ranking)
{
    const hr_split_data *split = &ds->split[rows->split];
    for (int64_t at = 0; at < rows->count; at += w->batch) {
        const int64_t n = rows->count - at < w->batch ? rows->count - at : w->batch;
        for (int64_t i = 0; i < n; i++)
            w->rows[i] = rows->row ? rows->row(rows->arg, at + i) : at + i;
        const hr_encoder_batch batch = rows->row ? gather(ds, split, w, n) : hr_model_rows(ds, rows->split, at, n);
        HR_TRY(hr_model_top(model, &batch, w->wanted, w->ids, w->scores));
        for (int64_t i = 0; i < n; i++)
            HR_TRY(hr_ranking_add(ranking, w->rows[i], w->ids + i * w->wanted, w->scores + i * w->wanted, w->wanted));
        if (rows->stoppable && hr_ctx_interrupted(model->ctx))
            return hr_fail(model->ctx, HR_INTERRUPTED, "evaluation interrupted after %lld of %lld rows", (long long)(at + n),
                           (long long)rows->count);
    }
    return HR_OK;
}

/* The model must have been trained for this kind of data. */
static hr_status check_fit(hr_ctx *ctx, const hr_model *model, const hr_dataset *ds)
{
    if (model->labels != ds->labels || model->features != ds->features)
        return hr_fail(ctx, HR_ERR_DATA, "the model has %lld labels and %lld features, %s has %lld and %lld: it was trained on "
                       "other data", (long long)model->labels, (long long)model->features, ds->path, (long long)ds->labels,
                       (long long)ds->features);
    const bool dense = ds->split[HR_SPLIT_TRAIN].dense != NULL;
    if (dense != (hr_encoder_get_options(model->encoder)->type == HR_ENCODER_DENSE))
        return hr_fail(ctx, HR_ERR_DATA, "the model takes %s features, %s has %s ones: it was trained on other data",
                       dense ? "sparse" : "dense", ds->path, dense ? "dense" : "sparse");
    const char *trained = hr_meta_get(hr_checkpoint_meta(model->ck), "data.fingerprint");
    if (trained && strcmp(trained, ds->fingerprint) != 0)
        hr_log(ctx, HR_LOG_WARNING, "the model was trained on data with fingerprint %s, this data set has %s", trained,
               ds->fingerprint);
    return HR_OK;
}

static hr_status run_on(hr_ctx *ctx, hr_model *model, const hr_dataset *ds, const hr_eval_options *o, hr_metrics *out)
{
    hr_ranking *ranking = NULL;
    hr_eval_work work = {0};
    HR_TRY(check_fit(ctx, model, ds));
    HR_TRY(hr_ranking_create(ctx, ds, o, &ranking));
    int64_t wanted = hr_ranking_wanted(ranking);
    wanted = wanted > model->labels ? model->labels : wanted;
    hr_status st = hr_eval_work_create(model, wanted, 0, 0, &work);
    const hr_eval_rows rows = {.split = o->split, .count = ds->split[o->split].rows, .stoppable = true};
    if (st == HR_OK)
        st = hr_eval_run(model, ds, &rows, &work, ranking);
    if (st == HR_OK)
        st = hr_ranking_finish(ranking, out);
    hr_eval_work_destroy(ctx, &work);
    hr_ranking_destroy(ranking);
    return st;
}

hr_status hr_eval_model(hr_ctx *ctx, const char *path, const char *dataset, const hr_eval_options *options, hr_metrics *out)
{
    hr_model *model = NULL;
    hr_dataset *ds = NULL;
    const hr_eval_options o = options ? *options : hr_eval_options_default();
    char folder[HR_PATH_MAX];
    hr_status st = hr_model_folder(ctx, path, folder);
    if (st == HR_OK)
        st = hr_model_open(ctx, folder, false, EVAL_BATCH, &model);
    if (st == HR_OK)
        st = hr_dataset_open(ctx, dataset, &ds);
    if (st == HR_OK)
        st = run_on(ctx, model, ds, &o, out);
    hr_dataset_close(ds);
    hr_model_destroy(model);
    return st;
}
