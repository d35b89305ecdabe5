/* From raw input to a prepared data set.
 *
 *   1. texts only: learn the vocabulary from the training rows
 *   2. each split: labels as they are, features of its texts; then the label texts
 *   3. filter pairs, fingerprint, manifest
 *
 * Everything is written to OUTPUT.headroom-new, which takes the place of OUTPUT when it is complete: until
 * then the data set that was there stays as it is. Texts are turned into features in blocks, a block in
 * parallel. */
#include "dataset/arrays.h"
#include "dataset/manifest.h"
#include "dataset/source.h"
#include "dataset/text_block.h"
#include "tokenizer/terms.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct prepare {
    hr_ctx *ctx;
    const hr_prepare_options *options;
    char output[HR_PATH_MAX], folder[HR_PATH_MAX]; /* OUTPUT; the new one aside */
    hr_source *source;
    hr_text_model *model; /* NULL unless rows are texts */
    hr_text_block *block;
    hr_manifest manifest;
} prepare;

hr_prepare_options hr_prepare_options_default(void)
{
    return (hr_prepare_options){
        .format = "auto",
        .vocabulary = 200000,
        .min_df = 2,
        .max_words = 300,
        .word_ngrams = 2,
        .char_ngram_min = 3,
        .char_ngram_max = 4,
        .char_words = 12,
        .title_field = true,
        .propensity_a = 0.55,
        .propensity_b = 1.5,
    };
}

/* ---- options and folders ---- */

static hr_text_options text_options(const hr_prepare_options *o)
{
    const bool pieces = o->char_ngram_min != 0 && o->char_ngram_max != 0; /* either being 0 means none */
    return (hr_text_options){.vocabulary = o->vocabulary,
                             .min_df = o->min_df,
                             .hash_bins = o->hash_bins,
                             .max_words = o->max_words,
                             .word_ngrams = o->word_ngrams,
                             .char_ngram_min = pieces ? o->char_ngram_min : 0,
                             .char_ngram_max = pieces ? o->char_ngram_max : 0,
                             .char_words = o->char_words,
                             .title_field = o->title_field};
}

/* The last part of a path, cut to `capacity`. */
static void base_name(const char *path, char *out, size_t capacity)
{
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t begin = end;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    size_t length = end - begin < capacity - 1 ? end - begin : capacity - 1;
    memcpy(out, path + begin, length);
    out[length] = 0;
}

static hr_status check_options(prepare *p)
{
    const hr_prepare_options *o = p->options;
    if (!o->input || !o->input[0] || !o->output || !o->output[0])
        return hr_fail(p->ctx, HR_ERR_USAGE, "prepare needs an input and an output");
    if (!(isfinite(o->propensity_a) && o->propensity_a >= 0 && isfinite(o->propensity_b) &&
          o->propensity_b > 0))
        return hr_fail(p->ctx, HR_ERR_USAGE, "propensity constants A and B are %g and %g, expected A of 0 or more and B above 0",
                       o->propensity_a, o->propensity_b);
    if (o->name && (!o->name[0] || strlen(o->name) >= sizeof p->manifest.name))
        return hr_fail(p->ctx, HR_ERR_USAGE, "the name must have 1 to %zu bytes",
                       sizeof p->manifest.name - 1);
    hr_text_options text = text_options(o);
    return hr_text_options_check(p->ctx, &text);
}

/* Makes an empty folder beside the output; refuses to replace what is not ours. */
static hr_status make_folder(prepare *p)
{
    HR_TRY(hr_path_format(p->ctx, p->output, "%s", p->options->output));
    for (size_t n = strlen(p->output); n > 1 && p->output[n - 1] == '/'; n--)
        p->output[n - 1] = 0;
    HR_TRY(hr_path_format(p->ctx, p->folder, "%s.headroom-new", p->output));
    if (hr_path_exists(p->output) && !hr_manifest_exists(p->ctx, p->output))
        return hr_fail(p->ctx, HR_ERR_CANTCREATE,
                       "%s: exists and is not a prepared data set; choose another output or remove it",
                       p->output);
    HR_TRY(hr_dir_remove(p->ctx, p->folder));
    return hr_dir_make(p->ctx, p->folder);
}

/* ---- pass 1 ---- */

/* Says where the reading is, and stops when asked to. */
static hr_status report(const prepare *p, const char *what, int64_t rows)
{
    if (rows % 65536 == 0)
        hr_log(p->ctx, HR_LOG_PROGRESS, "%s: %lld rows", what, (long long)rows);
    if (rows % 4096 == 0 && hr_ctx_interrupted(p->ctx))
        return hr_fail(p->ctx, HR_INTERRUPTED, "prepare was stopped; nothing was written to %s", p->output);
    return HR_OK;
}

static hr_status add_texts(prepare *p, hr_text_learner *learner)
{
    for (int64_t rows = 0;; rows++) {
        hr_row row;
        bool got = false;
        HR_TRY(report(p, "learning the vocabulary", rows));
        HR_TRY(hr_source_next(p->source, &row, &got));
        if (!got)
            return HR_OK;
        HR_TRY(hr_text_learner_add(learner, row.text, row.length));
    }
}

static hr_status learn(prepare *p)
{
    hr_text_options options = text_options(p->options);
    hr_text_learner *learner = NULL;
    HR_TRY(hr_text_learner_create(p->ctx, &options, &learner));
    hr_status st = hr_source_begin(p->source, HR_SPLIT_TRAIN);
    if (st == HR_OK)
        st = add_texts(p, learner);
    hr_source_end(p->source);
    if (st == HR_OK)
        st = hr_text_learner_write(learner, p->folder);
    hr_text_learner_destroy(learner);
    if (st == HR_OK)
        st = hr_text_model_open(p->ctx, p->folder, &p->model);
    if (st != HR_OK)
        return st;
    p->manifest.features = hr_text_model_features(p->model);
    p->manifest.text_model = true;
    return hr_text_block_create(p->ctx, p->model, &p->block);
}

/* ---- pass 2 ---- */

typedef struct split_writer {
    hr_csr_writer labels, features;
    hr_npy_writer dense;
    hr_strings_writer names;
    int64_t rows;
} split_writer;

static hr_status begin_split(prepare *p, int part, split_writer *w)
{
    const char *name = part == HR_PART_LABELS ? "label" : hr_split_name((hr_split)part);
    char prefix[64], path[HR_PATH_MAX];
    bool labels = part == HR_PART_LABELS;
    if (labels) {
        HR_TRY(hr_strings_begin(p->ctx, p->folder, "label.names", &w->names));
    } else {
        snprintf(prefix, sizeof prefix, "%s.labels", name);
        HR_TRY(hr_csr_begin(p->ctx, p->folder, prefix, false, &w->labels));
    }
    if (p->source->kind == HR_SOURCE_DENSE && !labels) {
        HR_TRY(hr_path_format(p->ctx, path, "%s/%s.dense.npy", p->folder, name));
        return hr_npy_begin(p->ctx, path, HR_NPY_F32, 2, p->source->features, &w->dense);
    }
    if (labels && !p->source->label_texts)
        return HR_OK;
    snprintf(prefix, sizeof prefix, "%s.features", name);
    return hr_csr_begin(p->ctx, p->folder, prefix, true, &w->features);
}

static hr_status write_row(prepare *p, int part, const hr_row *row, split_writer *w)
{
    if (part == HR_PART_LABELS) {
        HR_TRY(hr_strings_add(&w->names, row->text, row->name_length));
        if (!p->source->label_texts)
            return HR_OK;
    } else {
        HR_TRY(hr_csr_add(&w->labels, row->labels, NULL, row->num_labels));
    }
    if (row->dense)
        return hr_npy_write(&w->dense, row->dense, p->source->features);
    if (p->source->kind == HR_SOURCE_SPARSE)
        return hr_csr_add(&w->features, row->features, row->values, row->num_features);
    HR_TRY(hr_text_block_add(p->block, row->text, row->length));
    return hr_text_block_is_full(p->block) ? hr_text_block_flush(p->block, &w->features) : HR_OK;
}

static hr_status write_rows(prepare *p, int part, split_writer *w)
{
    const char *name = part == HR_PART_LABELS ? "labels" : hr_split_name((hr_split)part);
    for (;; w->rows++) {
        hr_row row;
        bool got = false;
        HR_TRY(report(p, name, w->rows));
        HR_TRY(hr_source_next(p->source, &row, &got));
        if (!got)
            break;
        HR_TRY(write_row(p, part, &row, w));
    }
    return p->block ? hr_text_block_flush(p->block, &w->features) : HR_OK;
}

static hr_status end_split(split_writer *w)
{
    hr_status st[] = {hr_csr_end(&w->labels), hr_csr_end(&w->features), hr_npy_end(&w->dense),
                      hr_strings_end(&w->names)};
    for (size_t i = 0; i < sizeof st / sizeof st[0]; i++)
        HR_TRY(st[i]);
    return HR_OK;
}

static hr_status write_part(prepare *p, int part)
{
    split_writer w = {0};
    hr_status st = hr_source_begin(p->source, part);
    if (st == HR_OK)
        st = begin_split(p, part, &w);
    if (st == HR_OK)
        st = write_rows(p, part, &w);
    hr_source_end(p->source);
    hr_status ended = end_split(&w);
    st = st == HR_OK ? ended : st;
    if (st != HR_OK)
        return st;
    if (part == HR_PART_LABELS) {
        p->manifest.label_names = true;
        p->manifest.label_features = p->source->label_texts;
        return HR_OK;
    }
    p->manifest.present[part] = true;
    p->manifest.rows[part] = w.rows;
    p->manifest.label_pairs[part] = w.labels.nnz;
    p->manifest.feature_pairs[part] =
        p->source->kind == HR_SOURCE_DENSE ? w.rows * p->source->features : w.features.nnz;
    if (part == HR_SPLIT_TRAIN && (w.rows == 0 || w.labels.nnz == 0))
        return hr_fail(p->ctx, HR_ERR_DATA,
                       "%s: %lld training rows with %lld labels; there is nothing to learn from",
                       p->options->input, (long long)w.rows, (long long)w.labels.nnz);
    return HR_OK;
}

/* ---- filter pairs ---- */

static hr_status add_pairs(hr_csr_writer *writer, int64_t rows, const uint64_t *pairs, uint32_t *labels,
                           int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        labels[i] = (uint32_t)pairs[i];
    for (int64_t row = 0, at = 0; row < rows; row++) {
        int64_t begin = at;
        while (at < count && (int64_t)(pairs[at] >> 32) == row)
            at++;
        HR_TRY(hr_csr_add(writer, labels + begin, NULL, at - begin));
    }
    return HR_OK;
}

static hr_status write_pairs(prepare *p, int split, const uint64_t *pairs, int64_t count)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s.filter", hr_split_name((hr_split)split));
    uint32_t *labels = HR_ARRAY(p->ctx, HR_MEM_DATASET, uint32_t, count);
    if (!labels)
        return HR_ERR_NOMEM;
    hr_csr_writer writer;
    hr_status st = hr_csr_begin(p->ctx, p->folder, prefix, false, &writer);
    if (st == HR_OK)
        st = add_pairs(&writer, p->manifest.rows[split], pairs, labels, count);
    hr_status ended = hr_csr_end(&writer);
    hr_free(p->ctx, labels);
    return st == HR_OK ? ended : st;
}

static hr_status write_filter(prepare *p, int split)
{
    uint64_t *pairs = NULL;
    int64_t count = 0;
    HR_TRY(hr_source_filter(p->source, (hr_split)split, p->manifest.rows[split], &pairs, &count));
    hr_status st = count ? write_pairs(p, split, pairs, count) : HR_OK;
    hr_free(p->ctx, pairs);
    p->manifest.filter_pairs[split] = count;
    return st;
}

/* ---- all of it ---- */

static hr_status take_fingerprint(prepare *p)
{
    static const char *const arrays[] = {"train.labels.indptr.npy",   "train.labels.indices.npy",
                                         "train.features.indptr.npy", "train.features.indices.npy",
                                         "train.features.values.npy", "train.dense.npy",
                                         "train.filter.indptr.npy",   "train.filter.indices.npy",
                                         "dev.labels.indptr.npy",     "dev.labels.indices.npy",
                                         "dev.features.indptr.npy",   "dev.features.indices.npy",
                                         "dev.features.values.npy",   "dev.dense.npy",
                                         "dev.filter.indptr.npy",     "dev.filter.indices.npy",
                                         "test.labels.indptr.npy",    "test.labels.indices.npy",
                                         "test.features.indptr.npy",  "test.features.indices.npy",
                                         "test.features.values.npy",  "test.dense.npy",
                                         "test.filter.indptr.npy",    "test.filter.indices.npy",
                                         "label.features.indptr.npy", "label.features.indices.npy",
                                         "label.features.values.npy", "label.names.bytes.npy",
                                         "label.names.offsets.npy",   NULL};
    return hr_fingerprint(p->ctx, p->folder, arrays, p->manifest.fingerprint);
}

static void fill_manifest(prepare *p)
{
    hr_manifest *m = &p->manifest;
    if (p->options->name)
        snprintf(m->name, sizeof m->name, "%s", p->options->name);
    else
        base_name(p->options->output, m->name, sizeof m->name);
    base_name(p->options->input, m->source, sizeof m->source);
    snprintf(m->format, sizeof m->format, "%s", p->source->format->name);
    m->labels = p->source->labels;
    m->features = p->source->features; /* of texts: known after learning */
    m->dense = p->source->kind == HR_SOURCE_DENSE;
    m->propensity_a = p->options->propensity_a;
    m->propensity_b = p->options->propensity_b;
}

static hr_status write_all(prepare *p)
{
    if (p->source->kind == HR_SOURCE_TEXT)
        HR_TRY(learn(p));
    for (int part = 0; part < HR_PARTS; part++) {
        if (!p->source->present[part])
            continue;
        HR_TRY(write_part(p, part));
        if (part != HR_PART_LABELS)
            HR_TRY(write_filter(p, part));
    }
    HR_TRY(take_fingerprint(p));
    HR_TRY(hr_manifest_write(p->ctx, p->folder, &p->manifest));
    return hr_dir_replace(p->ctx, p->folder, p->output);
}

/* Removes what was written aside. The failure that led here is the one to tell, whatever happens meanwhile.
 */
static hr_status clean_up(prepare *p, hr_status st)
{
    char message[1024];
    snprintf(message, sizeof message, "%s", hr_ctx_message(p->ctx));
    hr_dir_remove(p->ctx, p->folder);
    return hr_fail(p->ctx, st, "%s", message);
}

hr_status hr_prepare(hr_ctx *ctx, const hr_prepare_options *options)
{
    prepare p = {.ctx = ctx, .options = options};
    HR_TRY(check_options(&p));
    HR_TRY(hr_source_open(ctx, options, &p.source));
    fill_manifest(&p);
    hr_status st = make_folder(&p);
    if (st == HR_OK)
        st = write_all(&p);
    if (st != HR_OK)
        st = clean_up(&p, st);
    hr_text_block_destroy(p.block);
    hr_text_model_close(p.model);
    hr_source_close(p.source);
    return st;
}
