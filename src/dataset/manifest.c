#include "dataset/manifest.h"

#include <cJSON.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define FORMAT       "headroom-dataset"
#define MANIFEST_MAX ((size_t)1 << 20)
#define COUNT_MAX    9007199254740992.0 /* 2^53: JSON numbers are doubles */

/* ---- writing ---- */

static bool add_split(cJSON *splits, const hr_manifest *m, int split)
{
    cJSON *entry = cJSON_AddObjectToObject(splits, hr_split_name((hr_split)split));
    return entry && cJSON_AddNumberToObject(entry, "rows", (double)m->rows[split]) &&
           cJSON_AddNumberToObject(entry, "label_pairs", (double)m->label_pairs[split]) &&
           cJSON_AddNumberToObject(entry, "feature_pairs", (double)m->feature_pairs[split]) &&
           cJSON_AddNumberToObject(entry, "filter_pairs", (double)m->filter_pairs[split]);
}

static bool fill(cJSON *root, const hr_manifest *m)
{
    bool fine = root && cJSON_AddStringToObject(root, "format", FORMAT) &&
                cJSON_AddNumberToObject(root, "version", HR_MANIFEST_VERSION) &&
                cJSON_AddStringToObject(root, "name", m->name) &&
                cJSON_AddStringToObject(root, "source", m->source) &&
                cJSON_AddStringToObject(root, "source_format", m->format) &&
                cJSON_AddStringToObject(root, "fingerprint", m->fingerprint) &&
                cJSON_AddNumberToObject(root, "labels", (double)m->labels) &&
                cJSON_AddNumberToObject(root, "features", (double)m->features) &&
                cJSON_AddBoolToObject(root, "dense", m->dense) &&
                cJSON_AddBoolToObject(root, "text_model", m->text_model) &&
                cJSON_AddBoolToObject(root, "label_features", m->label_features) &&
                cJSON_AddBoolToObject(root, "label_names", m->label_names) &&
                cJSON_AddNumberToObject(root, "propensity_a", m->propensity_a) &&
                cJSON_AddNumberToObject(root, "propensity_b", m->propensity_b);
    cJSON *splits = fine ? cJSON_AddObjectToObject(root, "splits") : NULL;
    fine = fine && splits;
    for (int split = 0; split < HR_SPLITS && fine; split++)
        if (m->present[split])
            fine = add_split(splits, m, split);
    return fine;
}

hr_status hr_manifest_write(hr_ctx *ctx, const char *folder, const hr_manifest *m)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, path, "%s/manifest.json", folder));
    cJSON *root = cJSON_CreateObject();
    char *text = fill(root, m) ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        return hr_fail(ctx, HR_ERR_NOMEM, "%s: no memory to write it", path);
    hr_file file;
    hr_status st = hr_file_create(ctx, path, &file);
    if (st == HR_OK) {
        st = hr_file_write(&file, text, strlen(text));
        if (st == HR_OK)
            st = hr_file_sync(&file);
        hr_status closed = hr_file_close(&file);
        st = st == HR_OK ? closed : st;
    }
    cJSON_free(text);
    return st;
}

/* ---- reading ---- */

typedef struct reader {
    hr_ctx *ctx;
    const char *path;
} reader;

static hr_status read_count(const reader *r, const cJSON *object, const char *key, int64_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= COUNT_MAX) || value != floor(value))
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: \"%s\" is missing or not a whole number", r->path, key);
    *out = (int64_t)value;
    return HR_OK;
}

static hr_status read_text(const reader *r, const cJSON *object, const char *key, char *out, size_t capacity)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsString(item) || strlen(item->valuestring) >= capacity)
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: \"%s\" is missing or not a text of less than %zu bytes",
                       r->path, key, capacity);
    memcpy(out, item->valuestring, strlen(item->valuestring) + 1);
    return HR_OK;
}

static hr_status read_bool(const reader *r, const cJSON *object, const char *key, bool *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsBool(item))
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: \"%s\" is missing or not true or false", r->path, key);
    *out = cJSON_IsTrue(item);
    return HR_OK;
}

static hr_status read_real(const reader *r, const cJSON *object, const char *key, double *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!cJSON_IsNumber(item) || !isfinite(item->valuedouble))
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: \"%s\" is missing or not a number", r->path, key);
    *out = item->valuedouble;
    return HR_OK;
}

static hr_status read_splits(const reader *r, const cJSON *root, hr_manifest *out)
{
    const cJSON *splits = cJSON_GetObjectItemCaseSensitive(root, "splits");
    for (int split = 0; split < HR_SPLITS; split++) {
        const cJSON *entry = cJSON_GetObjectItemCaseSensitive(splits, hr_split_name((hr_split)split));
        if (!entry)
            continue;
        out->present[split] = true;
        HR_TRY(read_count(r, entry, "rows", &out->rows[split]));
        HR_TRY(read_count(r, entry, "label_pairs", &out->label_pairs[split]));
        HR_TRY(read_count(r, entry, "feature_pairs", &out->feature_pairs[split]));
        HR_TRY(read_count(r, entry, "filter_pairs", &out->filter_pairs[split]));
    }
    if (!out->present[HR_SPLIT_TRAIN])
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: has no training split", r->path);
    return HR_OK;
}

static hr_status read_fields(const reader *r, const cJSON *root, hr_manifest *out)
{
    char format[32] = "";
    int64_t version = 0;
    HR_TRY(read_text(r, root, "format", format, sizeof format));
    if (strcmp(format, FORMAT) != 0)
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: format is '%s', expected '" FORMAT "'", r->path, format);
    HR_TRY(read_count(r, root, "version", &version));
    if (version != HR_MANIFEST_VERSION)
        return hr_fail(r->ctx, HR_ERR_DATA,
                       "%s: data set version %lld, this build reads %d; run 'headroom prepare' again",
                       r->path, (long long)version, HR_MANIFEST_VERSION);
    HR_TRY(read_text(r, root, "name", out->name, sizeof out->name));
    HR_TRY(read_text(r, root, "source", out->source, sizeof out->source));
    HR_TRY(read_text(r, root, "source_format", out->format, sizeof out->format));
    HR_TRY(read_text(r, root, "fingerprint", out->fingerprint, sizeof out->fingerprint));
    HR_TRY(read_count(r, root, "labels", &out->labels));
    HR_TRY(read_count(r, root, "features", &out->features));
    if (out->labels < 1 || out->labels > UINT32_MAX || out->features > UINT32_MAX)
        return hr_fail(r->ctx, HR_ERR_DATA,
                       "%s: %lld labels and %lld features, expected less than 2^32 of each and a label",
                       r->path, (long long)out->labels, (long long)out->features);
    HR_TRY(read_bool(r, root, "dense", &out->dense));
    HR_TRY(read_bool(r, root, "text_model", &out->text_model));
    HR_TRY(read_bool(r, root, "label_features", &out->label_features));
    HR_TRY(read_bool(r, root, "label_names", &out->label_names));
    HR_TRY(read_real(r, root, "propensity_a", &out->propensity_a));
    HR_TRY(read_real(r, root, "propensity_b", &out->propensity_b));
    if (out->propensity_a < 0 || out->propensity_b <= 0)
        return hr_fail(r->ctx, HR_ERR_DATA, "%s: \"propensity_a\" must be 0 or more, \"propensity_b\" above 0", r->path);
    return read_splits(r, root, out);
}

hr_status hr_manifest_read(hr_ctx *ctx, const char *folder, hr_manifest *out)
{
    *out = (hr_manifest){0};
    char path[HR_PATH_MAX], *text = NULL;
    size_t length = 0;
    HR_TRY(hr_path_format(ctx, path, "%s/manifest.json", folder));
    if (!hr_path_exists(path))
        return hr_fail(ctx, HR_ERR_NOINPUT,
                       "%s: not a prepared data set (no manifest.json); make one with "
                       "'headroom prepare'",
                       folder);
    HR_TRY(hr_file_slurp(ctx, path, MANIFEST_MAX, &text, &length));
    cJSON *root = cJSON_ParseWithLength(text, length);
    reader r = {.ctx = ctx, .path = path};
    hr_status st = root ? read_fields(&r, root, out) : hr_fail(ctx, HR_ERR_DATA, "%s: not valid JSON", path);
    cJSON_Delete(root);
    hr_free(ctx, text);
    return st;
}

bool hr_manifest_exists(hr_ctx *ctx, const char *folder)
{
    char path[HR_PATH_MAX], *text = NULL;
    size_t length = 0;
    if (hr_path_format(ctx, path, "%s/manifest.json", folder) != HR_OK || !hr_path_exists(path) ||
        hr_file_slurp(ctx, path, MANIFEST_MAX, &text, &length) != HR_OK)
        return false;
    cJSON *root = cJSON_ParseWithLength(text, length);
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
    bool ours = cJSON_IsString(format) && strcmp(format->valuestring, FORMAT) == 0;
    cJSON_Delete(root);
    hr_free(ctx, text);
    return ours;
}
