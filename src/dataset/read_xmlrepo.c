/* One-file sparse text of the Extreme Classification Repository:
 *
 *     N F L
 *     label,label,... feature:value feature:value ...
 *
 * with ids from 0. A row without labels begins with a blank or with its first feature; features may come in
 * any order; a missing value is 1. The input is a folder with train.txt and test.txt (dev.txt and labels.txt,
 * a name a line, are optional), or a training file with the test file named apart. */
#include "dataset/source.h"

#include <string.h>

static hr_status xmlrepo_probe(hr_ctx *ctx, const char *input, bool *yes)
{
    char path[HR_PATH_MAX];
    *yes = true;
    if (!hr_path_is_dir(input))
        return HR_OK;
    HR_TRY(hr_input_find(ctx, input, "train.txt", path));
    *yes = path[0] != 0;
    return HR_OK;
}

static hr_status find_files(hr_source *source, const hr_prepare_options *options)
{
    static const char *const names[HR_PARTS] = {"train.txt", "dev.txt", "test.txt", "labels.txt"};
    hr_ctx *ctx = source->ctx;
    if (hr_path_is_dir(options->input)) {
        for (int part = 0; part < HR_PARTS; part++)
            HR_TRY(hr_input_find(ctx, options->input, names[part], source->x_path[part]));
    } else {
        HR_TRY(hr_path_format(ctx, source->x_path[HR_SPLIT_TRAIN], "%s", options->input));
    }
    if (options->test_input)
        HR_TRY(hr_path_format(ctx, source->x_path[HR_SPLIT_TEST], "%s", options->test_input));
    if (options->label_names)
        HR_TRY(hr_path_format(ctx, source->x_path[HR_PART_LABELS], "%s", options->label_names));
    for (int part = 0; part < HR_PARTS; part++)
        source->present[part] = source->x_path[part][0] != 0;
    return HR_OK;
}

static hr_status xmlrepo_open(hr_source *source, const hr_prepare_options *options)
{
    source->kind = HR_SOURCE_SPARSE;
    HR_TRY(find_files(source, options));
    if (!source->present[HR_SPLIT_TRAIN])
        return HR_OK;
    int64_t numbers[3] = {0, 0, 0};
    HR_TRY(hr_source_header(source->ctx, source->x_path[HR_SPLIT_TRAIN], &source->x, 3, numbers));
    hr_input_close(&source->x);
    source->features = numbers[1];
    source->labels = numbers[2];
    if (!source->present[HR_PART_LABELS])
        return HR_OK;
    int64_t lines = 0;
    HR_TRY(hr_source_count_lines(source->ctx, source->x_path[HR_PART_LABELS], &lines));
    if (lines != source->labels)
        return hr_fail(source->ctx, HR_ERR_DATA,
                       "%s: %lld lines, expected %lld: the labels in the first line of %s",
                       source->x_path[HR_PART_LABELS], (long long)lines, (long long)source->labels,
                       source->x_path[HR_SPLIT_TRAIN]);
    return HR_OK;
}

static hr_status xmlrepo_begin(hr_source *source, int part)
{
    if (part == HR_PART_LABELS) {
        source->rows = source->labels;
        return hr_input_open(source->ctx, source->x_path[part], &source->x);
    }
    int64_t numbers[3] = {0, 0, 0};
    HR_TRY(hr_source_header(source->ctx, source->x_path[part], &source->x, 3, numbers));
    source->rows = numbers[0];
    if (numbers[1] > source->features || numbers[2] > source->labels)
        return hr_input_fail(
            &source->x, source->x.line,
            "the header says %lld features and %lld labels, the training file has %lld and %lld",
            (long long)numbers[1], (long long)numbers[2], (long long)source->features,
            (long long)source->labels);
    return HR_OK;
}

/* True when the line has labels: its first word has no ':'. */
static bool has_labels(const hr_input *in)
{
    const char *p = in->at;
    while (p < in->stop && *p != ' ' && *p != '\t' && *p != ':')
        p++;
    return p > in->at && (p == in->stop || *p != ':');
}

static hr_status read_labels(hr_source *source, hr_input *in)
{
    for (;;) {
        int64_t label = 0;
        HR_TRY(hr_input_count(in, "label id", source->labels, &label));
        HR_TRY(hr_source_add_label(source, label));
        if (hr_input_done(in) || *in->at == ' ' || *in->at == '\t')
            return HR_OK;
        HR_TRY(hr_input_expect(in, ',', "or a blank after a label"));
    }
}

static hr_status xmlrepo_next(hr_source *source, hr_row *row, bool *got)
{
    hr_input *in = &source->x;
    if (source->row == source->rows)
        return hr_source_expect_end(source, in);
    bool line = false;
    HR_TRY(hr_input_next(in, &line));
    if (!line)
        return hr_input_fail(in, NULL, "the file ends after %lld rows, expected %lld", (long long)source->row,
                             (long long)source->rows);
    *got = true;
    if (source->part == HR_PART_LABELS) {
        row->text = in->line;
        row->length = row->name_length = hr_input_length(in);
        return HR_OK;
    }
    if (has_labels(in))
        HR_TRY(read_labels(source, in));
    HR_TRY(hr_source_read_features(source, in));
    return hr_source_take(source, in, row);
}

const hr_source_format hr_format_xmlrepo = {"xmlrepo", xmlrepo_probe, xmlrepo_open, xmlrepo_begin,
                                            xmlrepo_next};
