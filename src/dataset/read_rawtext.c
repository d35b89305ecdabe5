/* The raw-text layout of the Extreme Classification Repository, and its relatives that differ in X alone:
 *
 *     trn_X_Y.txt      "N L", then N lines "label:value label:value ..."
 *     trn_X.txt        N lines of text, "title TAB body" or one field; or
 *     trn_X_Xf.txt     "N F", then N lines "feature:value ..."; or
 *     trn_X.npy        (N, D) 32-bit floats
 *     Y.txt            L lines, the text of each label (optional)
 *
 * and the same with dev_ and tst_. A label with value 0 is no label. */
#include "dataset/source.h"

#include <math.h>
#include <string.h>

static const char *const prefixes[HR_SPLITS] = {
    [HR_SPLIT_TRAIN] = "trn", [HR_SPLIT_DEV] = "dev", [HR_SPLIT_TEST] = "tst"};

static hr_status find(hr_ctx *ctx, const char *folder, const char *prefix, const char *rest,
                      char path[HR_PATH_MAX])
{
    char name[64];
    size_t n = strlen(prefix);
    memcpy(name, prefix, n);
    memcpy(name + n, rest, strlen(rest) + 1); /* both are short literals of this file */
    return hr_input_find(ctx, folder, name, path);
}

/* The file with the rows' content, and which kind it is; path is "" when there is none. */
static hr_status find_x(hr_ctx *ctx, const char *folder, const char *prefix, hr_source_kind *kind,
                        char path[HR_PATH_MAX])
{
    static const char *const rest[] = {"_X.txt", "_X_Xf.txt"};
    static const hr_source_kind kinds[] = {HR_SOURCE_TEXT, HR_SOURCE_SPARSE};
    for (size_t i = 0; i < 2; i++) {
        *kind = kinds[i];
        HR_TRY(find(ctx, folder, prefix, rest[i], path));
        if (path[0])
            return HR_OK;
    }
    *kind = HR_SOURCE_DENSE;
    HR_TRY(hr_path_format(ctx, path, "%s/%s_X.npy", folder, prefix));
    if (!hr_path_exists(path))
        path[0] = 0;
    return HR_OK;
}

static hr_status rawtext_probe(hr_ctx *ctx, const char *input, bool *yes)
{
    char path[HR_PATH_MAX];
    hr_source_kind kind;
    *yes = false;
    if (!hr_path_is_dir(input))
        return HR_OK;
    HR_TRY(find(ctx, input, prefixes[HR_SPLIT_TRAIN], "_X_Y.txt", path));
    if (path[0] == 0)
        return HR_OK;
    HR_TRY(find_x(ctx, input, prefixes[HR_SPLIT_TRAIN], &kind, path));
    *yes = path[0] != 0;
    return HR_OK;
}

static hr_status open_split(hr_source *source, const char *input, hr_split split)
{
    hr_source_kind kind;
    HR_TRY(find(source->ctx, input, prefixes[split], "_X_Y.txt", source->y_path[split]));
    HR_TRY(find_x(source->ctx, input, prefixes[split], &kind, source->x_path[split]));
    bool x = source->x_path[split][0] != 0, y = source->y_path[split][0] != 0;
    if (x != y && (split == HR_SPLIT_TRAIN || y))
        return hr_fail(source->ctx, HR_ERR_NOINPUT,
                       "%s: %s_X_Y.txt and one of %s_X.txt, %s_X_Xf.txt, %s_X.npy belong together, "
                       "found only %s",
                       input, prefixes[split], prefixes[split], prefixes[split], prefixes[split],
                       x ? source->x_path[split] : source->y_path[split]);
    source->present[split] = x && y;
    if (!source->present[split])
        return HR_OK;
    if (split != HR_SPLIT_TRAIN && kind != source->kind)
        return hr_fail(source->ctx, HR_ERR_DATA, "%s: not of the same kind as %s", source->x_path[split],
                       source->x_path[HR_SPLIT_TRAIN]);
    source->kind = kind;
    return HR_OK;
}

/* L from the training labels, F from the training features. */
static hr_status read_sizes(hr_source *source)
{
    hr_input in;
    int64_t numbers[2] = {0, 0};
    HR_TRY(hr_source_header(source->ctx, source->y_path[HR_SPLIT_TRAIN], &in, 2, numbers));
    hr_input_close(&in);
    source->labels = numbers[1];
    if (source->kind == HR_SOURCE_SPARSE) {
        HR_TRY(hr_source_header(source->ctx, source->x_path[HR_SPLIT_TRAIN], &in, 2, numbers));
        hr_input_close(&in);
        source->features = numbers[1];
    }
    if (source->kind == HR_SOURCE_DENSE) {
        hr_npy npy;
        HR_TRY(hr_npy_open(source->ctx, source->x_path[HR_SPLIT_TRAIN], HR_NPY_F32, 2, &npy));
        source->features = npy.shape[1];
        hr_npy_close(&npy);
    }
    return HR_OK;
}

static hr_status rawtext_open(hr_source *source, const hr_prepare_options *options)
{
    if (!hr_path_is_dir(options->input))
        return hr_fail(source->ctx, HR_ERR_NOINPUT, "%s: not a folder, expected one with trn_X_Y.txt",
                       options->input);
    for (int split = 0; split < HR_SPLITS; split++)
        HR_TRY(open_split(source, options->input, (hr_split)split));
    if (!source->present[HR_SPLIT_TRAIN])
        return HR_OK;
    HR_TRY(read_sizes(source));
    char *names = source->x_path[HR_PART_LABELS];
    HR_TRY(hr_input_find(source->ctx, options->input, "Y.txt", names));
    source->present[HR_PART_LABELS] = names[0] != 0;
    source->label_texts = names[0] != 0 && source->kind == HR_SOURCE_TEXT;
    if (!source->present[HR_PART_LABELS])
        return HR_OK;
    int64_t lines = 0;
    HR_TRY(hr_source_count_lines(source->ctx, names, &lines));
    if (lines != source->labels)
        return hr_fail(source->ctx, HR_ERR_DATA,
                       "%s: %lld lines, expected %lld: the labels in the first line of %s", names,
                       (long long)lines, (long long)source->labels, source->y_path[HR_SPLIT_TRAIN]);
    return HR_OK;
}

/* Opens X and holds its size against the header of Y. */
static hr_status begin_x(hr_source *source, const char *path)
{
    int64_t shape[2] = {source->rows, source->features};
    if (source->kind == HR_SOURCE_TEXT)
        return hr_input_open(source->ctx, path, &source->x);
    if (source->kind == HR_SOURCE_SPARSE) {
        HR_TRY(hr_source_header(source->ctx, path, &source->x, 2, shape));
    } else {
        HR_TRY(hr_npy_open(source->ctx, path, HR_NPY_F32, 2, &source->dense));
        memcpy(shape, source->dense.shape, sizeof shape);
    }
    if (shape[0] != source->rows || shape[1] != source->features)
        return hr_fail(source->ctx, HR_ERR_DATA, "%s: %lld rows of %lld, expected %lld rows (%s) of %lld",
                       path, (long long)shape[0], (long long)shape[1], (long long)source->rows,
                       source->y_path[source->part], (long long)source->features);
    return HR_OK;
}

static hr_status rawtext_begin(hr_source *source, int part)
{
    if (part == HR_PART_LABELS) {
        source->rows = source->labels;
        return hr_input_open(source->ctx, source->x_path[part], &source->x);
    }
    int64_t numbers[2] = {0, 0};
    HR_TRY(hr_source_header(source->ctx, source->y_path[part], &source->y, 2, numbers));
    source->rows = numbers[0];
    if (numbers[1] != source->labels)
        return hr_input_fail(&source->y, NULL, "the header says %lld labels, %s says %lld",
                             (long long)numbers[1], source->y_path[HR_SPLIT_TRAIN],
                             (long long)source->labels);
    return begin_x(source, source->x_path[part]);
}

static hr_status read_labels(hr_source *source, hr_input *in)
{
    for (hr_input_blanks(in); !hr_input_done(in); hr_input_blanks(in)) {
        int64_t label = 0;
        float value = 1;
        HR_TRY(hr_input_count(in, "label id", source->labels, &label));
        if (!hr_input_done(in) && *in->at == ':') {
            const char *start = ++in->at;
            HR_TRY(hr_input_number(in, "label value", &value));
            if (value < 0)
                return hr_input_fail(in, start, "the value of label %lld is %g, expected 0 or more",
                                     (long long)label, (double)value);
        }
        if (!hr_input_done(in) && *in->at != ' ' && *in->at != '\t')
            return hr_input_expect(in, ' ', "after a label");
        if (value > 0)
            HR_TRY(hr_source_add_label(source, label));
    }
    return HR_OK;
}

/* Moves `in` to its next line, or says which row is missing. */
static hr_status next_line(hr_source *source, hr_input *in)
{
    bool got = false;
    HR_TRY(hr_input_next(in, &got));
    if (!got)
        return hr_input_fail(in, NULL, "the file ends after %lld rows, expected %lld", (long long)source->row,
                             (long long)source->rows);
    return HR_OK;
}

static hr_status check_finite(const hr_source *source, const float *vector)
{
    for (int64_t d = 0; d < source->features; d++)
        if (!isfinite(vector[d]))
            return hr_fail(source->ctx, HR_ERR_DATA, "%s: element (%lld, %lld) is not finite",
                           source->x_path[source->part], (long long)source->row, (long long)d);
    return HR_OK;
}

static void lend_text(const hr_input *in, hr_row *row)
{
    row->text = in->line;
    row->length = hr_input_length(in);
    const char *tab = row->length ? memchr(row->text, '\t', row->length) : NULL;
    row->name_length = tab ? (size_t)(tab - row->text) : row->length;
}

static hr_status rawtext_next(hr_source *source, hr_row *row, bool *got)
{
    bool labels = source->part == HR_PART_LABELS;
    bool dense = source->kind == HR_SOURCE_DENSE && !labels;
    if (source->row == source->rows) {
        if (!dense)
            HR_TRY(hr_source_expect_end(source, &source->x));
        return labels ? HR_OK : hr_source_expect_end(source, &source->y);
    }
    if (!dense)
        HR_TRY(next_line(source, &source->x));
    if (labels || source->kind == HR_SOURCE_TEXT)
        lend_text(&source->x, row);
    else if (source->kind == HR_SOURCE_SPARSE)
        HR_TRY(hr_source_read_features(source, &source->x));
    if (!labels) {
        HR_TRY(next_line(source, &source->y));
        HR_TRY(read_labels(source, &source->y));
        HR_TRY(hr_source_take(source, &source->x, row));
    }
    if (dense) {
        row->dense = (const float *)source->dense.data + source->row * source->features;
        HR_TRY(check_finite(source, row->dense));
    }
    *got = true;
    return HR_OK;
}

const hr_source_format hr_format_rawtext = {"rawtext", rawtext_probe, rawtext_open, rawtext_begin,
                                            rawtext_next};
