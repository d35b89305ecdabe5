/* A raw data set, whatever its format: rows of each part, one after another.
 *
 * A format is a small table of functions (read_rawtext.c, read_lf.c, read_xmlrepo.c). It says in `open` which
 * parts there are and how many labels; then each part may be read any number of times:
 *
 *     hr_source_begin(source, part);
 *     while (hr_source_next(source, &row, &got) == HR_OK && got) ...
 *     hr_source_end(source);
 */
#ifndef HR_DATASET_SOURCE_H
#define HR_DATASET_SOURCE_H

#include "dataset/input.h"
#include "dataset/npy.h"

/* What can be read: the three splits, and the labels themselves. */
enum { HR_PART_LABELS = HR_SPLITS, HR_PARTS };

typedef enum hr_source_kind {
    HR_SOURCE_TEXT,   /* rows have text */
    HR_SOURCE_SPARSE, /* rows have sparse features */
    HR_SOURCE_DENSE   /* rows have a vector */
} hr_source_kind;

/* One row, lent until the next. A label row has a text alone; its first name_length bytes are its name. */
typedef struct hr_row {
    const char *text;
    size_t length, name_length;
    int64_t num_labels, num_features;
    const uint32_t *labels;   /* ascending, distinct */
    const uint32_t *features; /* ascending, distinct */
    const float *values;
    const float *dense; /* (features) */
} hr_row;

typedef struct hr_source hr_source;

typedef struct hr_source_format {
    const char *name;
    /* *yes when the input looks like this format. */
    hr_status (*probe)(hr_ctx *ctx, const char *input, bool *yes);
    hr_status (*open)(hr_source *source, const hr_prepare_options *options);
    hr_status (*begin)(hr_source *source, int part);
    hr_status (*next)(hr_source *source, hr_row *row, bool *got);
} hr_source_format;

extern const hr_source_format hr_format_rawtext, hr_format_lf, hr_format_xmlrepo;

struct hr_source {
    hr_ctx *ctx;
    const hr_source_format *format;
    hr_source_kind kind;
    int64_t labels, features; /* L; F of sparse rows, width of dense rows, 0 for texts */
    bool present[HR_PARTS];
    bool label_texts;                   /* the label rows are worth features, not only names */
    char x_path[HR_PARTS][HR_PATH_MAX]; /* texts or features */
    char y_path[HR_PARTS][HR_PATH_MAX]; /* labels, where they are in another file */
    char filter_path[HR_SPLITS][HR_PATH_MAX];
    /* the part that is being read */
    int part;
    hr_input x, y;
    hr_npy dense;
    int64_t row, rows; /* the next row; rows the header promises */
    char *text;        /* the current row, where it cannot be lent from the input */
    uint32_t *label_ids, *feature_ids;
    float *feature_values;
    int64_t num_labels, num_features;
    size_t text_capacity, label_capacity, feature_capacity; /* elements */
};

/* Chooses the format (options->format, "auto" by default) and opens the input. */
hr_status hr_source_open(hr_ctx *ctx, const hr_prepare_options *options, hr_source **out);
void hr_source_close(hr_source *source);
hr_status hr_source_begin(hr_source *source, int part);
hr_status hr_source_next(hr_source *source, hr_row *row, bool *got);
void hr_source_end(hr_source *source);

/* The filter pairs of a split, as keys row << 32 | label, ascending and distinct; *pairs belongs to the
 * caller (HR_MEM_DATASET). None: *pairs NULL, *count 0. */
hr_status hr_source_filter(hr_source *source, hr_split split, int64_t rows, uint64_t **pairs, int64_t *count);

/* ---- for the formats ---- */

/* Collecting the current row. */
hr_status hr_source_add_label(hr_source *source, int64_t label);
hr_status hr_source_add_feature(hr_source *source, int64_t feature, float value);
/* Sorts what was collected. Equal labels become one; equal features are an error of line `in`. */
hr_status hr_source_take(hr_source *source, const hr_input *in, hr_row *row);
/* Blank-separated "feature:value" to the end of the line; a missing value is 1. */
hr_status hr_source_read_features(hr_source *source, hr_input *in);
/* Opens a file whose first line is `fields` whole numbers. */
hr_status hr_source_header(hr_ctx *ctx, const char *path, hr_input *in, int fields, int64_t *numbers);
/* Fails when the file has a line that is not blank. */
hr_status hr_source_expect_end(const hr_source *source, hr_input *in);
hr_status hr_source_count_lines(hr_ctx *ctx, const char *path, int64_t *lines);

#endif
