/* What all formats share: choosing one, collecting a row, filter files. */
#include "dataset/source.h"

#include <stdlib.h>
#include <string.h>

static const hr_source_format *const formats[] = {&hr_format_lf, &hr_format_rawtext, &hr_format_xmlrepo};
#define NUM_FORMATS (sizeof formats / sizeof formats[0])

/* ---- opening ---- */

static hr_status choose_format(hr_ctx *ctx, const hr_prepare_options *options, const hr_source_format **out)
{
    const char *wanted = options->format ? options->format : "auto";
    bool automatic = strcmp(wanted, "auto") == 0;
    if (!hr_path_exists(options->input))
        return hr_fail(ctx, HR_ERR_NOINPUT, "%s: no such file or folder", options->input);
    for (size_t i = 0; i < NUM_FORMATS; i++) {
        bool yes = false;
        if (automatic)
            HR_TRY(formats[i]->probe(ctx, options->input, &yes));
        if (yes || strcmp(wanted, formats[i]->name) == 0) {
            *out = formats[i];
            return HR_OK;
        }
    }
    if (!automatic)
        return hr_fail(ctx, HR_ERR_USAGE, "format '%s' is unknown, expected auto, rawtext, lf or xmlrepo",
                       wanted);
    return hr_fail(
        ctx, HR_ERR_NOINPUT,
        "%s: no data set that we know; expected trn.json (lf), trn_X_Y.txt with trn_X.txt, trn_X_Xf.txt or "
        "trn_X.npy (rawtext), or train.txt (xmlrepo), each plain, .gz, .xz or .zst",
        options->input);
}

/* Filter files carry two names in the wild, and sit in the folder or in its raw_text/. */
static hr_status find_filters(hr_source *source, const char *input)
{
    static const char *const names[HR_SPLITS][2] = {
        [HR_SPLIT_TRAIN] = {"trn_filter_labels.txt", "filter_labels_train.txt"},
        [HR_SPLIT_DEV] = {"dev_filter_labels.txt", "filter_labels_dev.txt"},
        [HR_SPLIT_TEST] = {"tst_filter_labels.txt", "filter_labels_test.txt"},
    };
    if (!hr_path_is_dir(input))
        return HR_OK;
    char raw_text[HR_PATH_MAX];
    HR_TRY(hr_path_format(source->ctx, raw_text, "%s/raw_text", input));
    for (int split = 0; split < HR_SPLITS; split++)
        for (int i = 0; i < 4 && source->filter_path[split][0] == 0; i++)
            HR_TRY(hr_input_find(source->ctx, i < 2 ? input : raw_text, names[split][i % 2],
                                 source->filter_path[split]));
    return HR_OK;
}

static hr_status open_source(hr_source *source, const hr_prepare_options *options)
{
    HR_TRY(choose_format(source->ctx, options, &source->format));
    HR_TRY(find_filters(source, options->input));
    HR_TRY(source->format->open(source, options));
    if (!source->present[HR_SPLIT_TRAIN])
        return hr_fail(source->ctx, HR_ERR_NOINPUT, "%s: has no training rows in format %s", options->input,
                       source->format->name);
    if (source->labels < 1 || source->labels > UINT32_MAX)
        return hr_fail(source->ctx, HR_ERR_DATA, "%s: %lld labels, expected 1 to 2^32 - 1", options->input,
                       (long long)source->labels);
    if (source->features > UINT32_MAX)
        return hr_fail(source->ctx, HR_ERR_DATA, "%s: %lld features, expected at most 2^32 - 1",
                       options->input, (long long)source->features);
    return HR_OK;
}

hr_status hr_source_open(hr_ctx *ctx, const hr_prepare_options *options, hr_source **out)
{
    *out = NULL;
    hr_source *source = HR_NEW(ctx, HR_MEM_DATASET, hr_source);
    if (!source)
        return HR_ERR_NOMEM;
    source->ctx = ctx;
    source->dense.map.ctx = ctx;
    hr_status st = open_source(source, options);
    if (st != HR_OK) {
        hr_source_close(source);
        return st;
    }
    *out = source;
    return HR_OK;
}

void hr_source_close(hr_source *source)
{
    if (!source)
        return;
    hr_source_end(source);
    hr_free(source->ctx, source->text);
    hr_free(source->ctx, source->label_ids);
    hr_free(source->ctx, source->feature_ids);
    hr_free(source->ctx, source->feature_values);
    hr_free(source->ctx, source);
}

hr_status hr_source_begin(hr_source *source, int part)
{
    source->part = part;
    source->row = source->rows = 0;
    hr_status st = source->format->begin(source, part);
    if (st != HR_OK)
        hr_source_end(source);
    return st;
}

hr_status hr_source_next(hr_source *source, hr_row *row, bool *got)
{
    *row = (hr_row){0};
    *got = false;
    source->num_labels = source->num_features = 0;
    HR_TRY(source->format->next(source, row, got));
    source->row += *got;
    if (source->row > (int64_t)1 << 32)
        return hr_input_fail(&source->x, NULL, "more than 2^32 rows");
    return HR_OK;
}

void hr_source_end(hr_source *source)
{
    hr_input_close(&source->x);
    hr_input_close(&source->y);
    hr_npy_close(&source->dense);
}

/* ---- a row ---- */

/* Makes room for one more element of each of the blocks; all have the same capacity. */
static hr_status grow(hr_ctx *ctx, void **block, size_t element, size_t capacity)
{
    void *wider = hr_realloc(ctx, HR_MEM_DATASET, *block, hr_mul(capacity, element));
    if (!wider)
        return HR_ERR_NOMEM;
    *block = wider;
    return HR_OK;
}

hr_status hr_source_add_label(hr_source *source, int64_t label)
{
    if ((size_t)source->num_labels == source->label_capacity) {
        size_t capacity = source->label_capacity ? 2 * source->label_capacity : 64;
        HR_TRY(grow(source->ctx, (void **)&source->label_ids, sizeof(uint32_t), capacity));
        source->label_capacity = capacity;
    }
    source->label_ids[source->num_labels++] = (uint32_t)label;
    return HR_OK;
}

hr_status hr_source_add_feature(hr_source *source, int64_t feature, float value)
{
    if ((size_t)source->num_features == source->feature_capacity) {
        size_t capacity = source->feature_capacity ? 2 * source->feature_capacity : 256;
        HR_TRY(grow(source->ctx, (void **)&source->feature_ids, sizeof(uint32_t), capacity));
        HR_TRY(grow(source->ctx, (void **)&source->feature_values, sizeof(float), capacity));
        source->feature_capacity = capacity;
    }
    source->feature_ids[source->num_features] = (uint32_t)feature;
    source->feature_values[source->num_features++] = value;
    return HR_OK;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static void sort_labels(hr_source *source)
{
    uint32_t *ids = source->label_ids;
    int64_t n = source->num_labels, kept = 0;
    bool sorted = true;
    for (int64_t i = 1; i < n; i++)
        sorted = sorted && ids[i - 1] < ids[i];
    if (sorted)
        return;
    qsort(ids, (size_t)n, sizeof *ids, compare_u32);
    for (int64_t i = 0; i < n; i++)
        if (i == 0 || ids[i] != ids[i - 1])
            ids[kept++] = ids[i];
    source->num_labels = kept;
}

/* Heap sort of (id, value) by id: in place, and no row can make it slow. */
static void sift_down(uint32_t *ids, float *values, int64_t at, int64_t n)
{
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && ids[child + 1] > ids[child])
            child++;
        if (ids[at] >= ids[child])
            return;
        uint32_t id = ids[at];
        float value = values[at];
        ids[at] = ids[child];
        values[at] = values[child];
        ids[child] = id;
        values[child] = value;
    }
}

static void sort_features(uint32_t *ids, float *values, int64_t n)
{
    bool sorted = true;
    for (int64_t i = 1; i < n; i++)
        sorted = sorted && ids[i - 1] <= ids[i];
    if (sorted)
        return;
    for (int64_t at = n / 2 - 1; at >= 0; at--)
        sift_down(ids, values, at, n);
    for (int64_t end = n - 1; end > 0; end--) {
        uint32_t id = ids[0];
        float value = values[0];
        ids[0] = ids[end];
        values[0] = values[end];
        ids[end] = id;
        values[end] = value;
        sift_down(ids, values, 0, end);
    }
}

hr_status hr_source_take(hr_source *source, const hr_input *in, hr_row *row)
{
    sort_labels(source);
    sort_features(source->feature_ids, source->feature_values, source->num_features);
    for (int64_t i = 1; i < source->num_features; i++)
        if (source->feature_ids[i] == source->feature_ids[i - 1])
            return hr_input_fail(in, in->line, "feature %u is given twice in this row",
                                 source->feature_ids[i]);
    row->num_labels = source->num_labels;
    row->labels = source->label_ids;
    row->num_features = source->num_features;
    row->features = source->feature_ids;
    row->values = source->feature_values;
    return HR_OK;
}

hr_status hr_source_read_features(hr_source *source, hr_input *in)
{
    for (hr_input_blanks(in); !hr_input_done(in); hr_input_blanks(in)) {
        int64_t feature = 0;
        float value = 1;
        HR_TRY(hr_input_count(in, "feature id", source->features, &feature));
        if (!hr_input_done(in) && *in->at == ':') {
            in->at++;
            HR_TRY(hr_input_number(in, "feature value", &value));
        }
        if (!hr_input_done(in) && *in->at != ' ' && *in->at != '\t')
            return hr_input_expect(in, ' ', "after a feature");
        HR_TRY(hr_source_add_feature(source, feature, value));
    }
    return HR_OK;
}

/* ---- files ---- */

hr_status hr_source_header(hr_ctx *ctx, const char *path, hr_input *in, int fields, int64_t *numbers)
{
    static const char *const what[] = {"number of rows", "number of columns", "number of labels"};
    HR_TRY(hr_input_open(ctx, path, in));
    bool got = false;
    hr_status st = hr_input_next(in, &got);
    if (st == HR_OK && !got)
        st = hr_fail(ctx, HR_ERR_DATA, "%s: the file is empty, expected a first line of %d numbers", path,
                     fields);
    for (int i = 0; i < fields && st == HR_OK; i++) {
        hr_input_blanks(in);
        st = hr_input_count(in, what[i], INT64_MAX, &numbers[i]);
    }
    if (st == HR_OK)
        st = hr_input_finish(in);
    if (st != HR_OK)
        hr_input_close(in);
    return st;
}

hr_status hr_source_expect_end(const hr_source *source, hr_input *in)
{
    for (;;) {
        bool got = false;
        HR_TRY(hr_input_next(in, &got));
        if (!got)
            return HR_OK;
        hr_input_blanks(in);
        if (!hr_input_done(in))
            return hr_input_fail(in, in->at, "a line after row %lld, expected the end of the file",
                                 (long long)source->rows);
    }
}

hr_status hr_source_count_lines(hr_ctx *ctx, const char *path, int64_t *lines)
{
    hr_input in;
    HR_TRY(hr_input_open(ctx, path, &in));
    bool got = true;
    hr_status st = HR_OK;
    while (st == HR_OK && got)
        st = hr_input_next(&in, &got);
    *lines = in.number;
    hr_input_close(&in);
    return st;
}

/* ---- filter pairs ---- */

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static hr_status read_pair(hr_source *source, hr_input *in, int64_t rows, uint64_t *pair)
{
    int64_t row = 0, label = 0;
    HR_TRY(hr_input_count(in, "row of a filter pair", rows, &row));
    if (hr_input_done(in) || (*in->at != ' ' && *in->at != '\t'))
        return hr_input_expect(in, ' ', "between row and label");
    hr_input_blanks(in);
    HR_TRY(hr_input_count(in, "label of a filter pair", source->labels, &label));
    HR_TRY(hr_input_finish(in));
    *pair = (uint64_t)row << 32 | (uint64_t)label;
    return HR_OK;
}

static hr_status read_pairs(hr_source *source, hr_input *in, int64_t rows, uint64_t **pairs, int64_t *count)
{
    int64_t capacity = 0;
    for (;;) {
        bool got = false;
        HR_TRY(hr_input_next(in, &got));
        if (!got)
            return HR_OK;
        hr_input_blanks(in);
        if (hr_input_done(in))
            continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 4096;
            HR_TRY(grow(source->ctx, (void **)pairs, sizeof **pairs, (size_t)capacity));
        }
        HR_TRY(read_pair(source, in, rows, &(*pairs)[*count]));
        ++*count;
    }
}

hr_status hr_source_filter(hr_source *source, hr_split split, int64_t rows, uint64_t **pairs, int64_t *count)
{
    *pairs = NULL;
    *count = 0;
    if (source->filter_path[split][0] == 0)
        return HR_OK;
    hr_input in;
    HR_TRY(hr_input_open(source->ctx, source->filter_path[split], &in));
    hr_status st = read_pairs(source, &in, rows, pairs, count);
    hr_input_close(&in);
    if (st != HR_OK || *count == 0) {
        hr_free(source->ctx, *pairs);
        *pairs = NULL;
        *count = 0;
        return st;
    }
    qsort(*pairs, (size_t)*count, sizeof **pairs, compare_u64);
    int64_t kept = 0;
    for (int64_t i = 0; i < *count; i++)
        if (i == 0 || (*pairs)[i] != (*pairs)[i - 1])
            (*pairs)[kept++] = (*pairs)[i];
    *count = kept;
    return HR_OK;
}
