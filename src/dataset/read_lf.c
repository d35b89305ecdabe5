/* Label-features sets of the Extreme Classification Repository: JSON, one object a line.
 *
 *     trn.json, tst.json, dev.json   {"uid": .., "title": .., "content": .., "target_ind": [..],
 * "target_rel": [..]} lbl.json                       {"uid": .., "title": .., "content": ..}, line i is label
 * i
 *
 * The text of a row is "title TAB content"; a row without content is its title alone. Without lbl.json the
 * labels are those of the training rows. */
#include "dataset/source.h"

#include <cJSON.h>
#include <string.h>

static const char *const names[HR_PARTS] = {
    [HR_SPLIT_TRAIN] = "trn.json",
    [HR_SPLIT_DEV] = "dev.json",
    [HR_SPLIT_TEST] = "tst.json",
    [HR_PART_LABELS] = "lbl.json",
};

static hr_status lf_probe(hr_ctx *ctx, const char *input, bool *yes)
{
    char path[HR_PATH_MAX];
    *yes = false;
    if (!hr_path_is_dir(input))
        return HR_OK;
    HR_TRY(hr_input_find(ctx, input, names[HR_SPLIT_TRAIN], path));
    *yes = path[0] != 0;
    return HR_OK;
}

/* One line as an object; *out belongs to the caller. */
static hr_status parse_line(hr_input *in, cJSON **out)
{
    const char *end = NULL;
    cJSON *object = cJSON_ParseWithLengthOpts(in->line, hr_input_length(in), &end, 0);
    *out = NULL;
    if (!object)
        return hr_input_fail(in, end, "not valid JSON here, expected one JSON object a line");
    in->at = end;
    hr_status st = cJSON_IsObject(object) ? hr_input_finish(in)
                                          : hr_input_fail(in, in->line, "a JSON value that is not an object");
    if (st == HR_OK)
        *out = object;
    else
        cJSON_Delete(object);
    return st;
}

/* Skips lines of blanks at the end, where some writers leave them. Elsewhere they would shift the rows behind them. */
static hr_status next_object(hr_input *in, cJSON **out, bool *got)
{
    *out = NULL;
    for (bool blank = false;; blank = true) {
        HR_TRY(hr_input_next(in, got));
        if (!*got)
            return HR_OK;
        hr_input_blanks(in);
        if (hr_input_done(in))
            continue;
        if (blank)
            return hr_input_fail(in, in->line, "the line before this one is blank; line i must hold the object of row i");
        return parse_line(in, out);
    }
}

/* Adds the labels of an object; with `limit` 0 any id is fine. *largest is raised to the largest id. */
static hr_status read_targets(hr_source *source, const hr_input *in, const cJSON *object, int64_t limit,
                              int64_t *largest)
{
    const cJSON *targets = cJSON_GetObjectItemCaseSensitive(object, "target_ind");
    const cJSON *weights = cJSON_GetObjectItemCaseSensitive(object, "target_rel");
    if (!cJSON_IsArray(targets))
        return hr_input_fail(in, in->line, "found no array \"target_ind\" of label ids");
    if (weights && cJSON_GetArraySize(weights) != cJSON_GetArraySize(targets))
        return hr_input_fail(in, in->line, "\"target_rel\" has %d entries, \"target_ind\" has %d",
                             cJSON_GetArraySize(weights), cJSON_GetArraySize(targets));
    const cJSON *target;
    cJSON_ArrayForEach(target, targets)
    {
        double id = cJSON_IsNumber(target) ? target->valuedouble : -1;
        double most = limit ? (double)limit : (double)UINT32_MAX;
        if (!(id >= 0 && id < most) || id != (double)(int64_t)id)
            return hr_input_fail(in, in->line,
                                 "label id %g in \"target_ind\", expected a whole number from 0 to %.0f", id,
                                 most - 1);
        *largest = (int64_t)id > *largest ? (int64_t)id : *largest;
        HR_TRY(hr_source_add_label(source, (int64_t)id));
    }
    return HR_OK;
}

/* Without a label file: L is one more than the largest label id of the training rows. */
static hr_status scan_labels(hr_source *source)
{
    int64_t largest = -1;
    bool got = true;
    HR_TRY(hr_input_open(source->ctx, source->x_path[HR_SPLIT_TRAIN], &source->x));
    while (got) {
        cJSON *object = NULL;
        source->num_labels = 0;
        HR_TRY(next_object(&source->x, &object, &got));
        if (!got)
            break;
        hr_status st = read_targets(source, &source->x, object, 0, &largest);
        cJSON_Delete(object);
        HR_TRY(st);
    }
    hr_input_close(&source->x);
    source->labels = largest + 1;
    return HR_OK;
}

static hr_status count_labels(hr_source *source)
{
    bool got = true;
    HR_TRY(hr_input_open(source->ctx, source->x_path[HR_PART_LABELS], &source->x));
    while (got) {
        HR_TRY(hr_input_next(&source->x, &got));
        hr_input_blanks(&source->x);
        source->labels += got && !hr_input_done(&source->x);
    }
    hr_input_close(&source->x);
    return HR_OK;
}

static hr_status lf_open(hr_source *source, const hr_prepare_options *options)
{
    if (!hr_path_is_dir(options->input))
        return hr_fail(source->ctx, HR_ERR_NOINPUT, "%s: not a folder, expected one with trn.json",
                       options->input);
    source->kind = HR_SOURCE_TEXT;
    for (int part = 0; part < HR_PARTS; part++) {
        HR_TRY(hr_input_find(source->ctx, options->input, names[part], source->x_path[part]));
        source->present[part] = source->x_path[part][0] != 0;
    }
    source->label_texts = source->present[HR_PART_LABELS];
    if (!source->present[HR_SPLIT_TRAIN])
        return HR_OK;
    return source->present[HR_PART_LABELS] ? count_labels(source) : scan_labels(source);
}

static hr_status lf_begin(hr_source *source, int part)
{
    return hr_input_open(source->ctx, source->x_path[part], &source->x);
}

/* "title TAB content" in source->text. A TAB inside the title becomes a blank. */
static hr_status make_text(hr_source *source, const hr_input *in, const cJSON *object, hr_row *row)
{
    const cJSON *title = cJSON_GetObjectItemCaseSensitive(object, "title");
    const cJSON *content = cJSON_GetObjectItemCaseSensitive(object, "content");
    if (!cJSON_IsString(title) && !cJSON_IsString(content))
        return hr_input_fail(in, in->line, "found neither a \"title\" nor a \"content\" string");
    const char *head = cJSON_IsString(title) ? title->valuestring : "";
    const char *body = cJSON_IsString(content) ? content->valuestring : "";
    size_t head_length = strlen(head), body_length = strlen(body);
    size_t length = head_length + (body_length ? 1 + body_length : 0);
    if (length > source->text_capacity || !source->text) {
        char *wider = hr_realloc(source->ctx, HR_MEM_DATASET, source->text, 2 * length + 256);
        if (!wider)
            return HR_ERR_NOMEM;
        source->text = wider;
        source->text_capacity = 2 * length + 256;
    }
    for (size_t i = 0; i < head_length; i++)
        source->text[i] = head[i] == '\t' ? ' ' : head[i];
    if (body_length) {
        source->text[head_length] = '\t';
        memcpy(source->text + head_length + 1, body, body_length);
    }
    row->text = source->text;
    row->length = length;
    row->name_length = head_length;
    return HR_OK;
}

static hr_status lf_next(hr_source *source, hr_row *row, bool *got)
{
    const hr_input *in = &source->x;
    cJSON *object = NULL;
    HR_TRY(next_object(&source->x, &object, got));
    if (!*got)
        return HR_OK;
    int64_t largest = -1;
    hr_status st = make_text(source, in, object, row);
    if (st == HR_OK && source->part != HR_PART_LABELS)
        st = read_targets(source, in, object, source->labels, &largest);
    cJSON_Delete(object);
    if (st == HR_OK && source->part != HR_PART_LABELS)
        st = hr_source_take(source, in, row);
    *got = st == HR_OK;
    return st;
}

const hr_source_format hr_format_lf = {"lf", lf_probe, lf_open, lf_begin, lf_next};
