/* From counted terms to the files of a text model.
 *
 * The vocabulary is the `vocabulary` terms of highest document frequency that reach min_df; of equal ones the
 * first by bytes. Since there are many more character n-grams than words, and frequent ones at that, the two
 * groups are ranked apart: words and pairs (kinds 'w' and 't') get at least half of the places, n-grams the
 * rest, and a group that is smaller than its share leaves its places to the other. Ids go by falling
 * frequency over both, so that what is used often lies together. */
#include "dataset/npy.h"
#include "tokenizer/learner.h"

#include <cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A term that may be kept. */
typedef struct candidate {
    const char *bytes;
    uint64_t hash;
    uint32_t df;
    uint16_t length;
    uint8_t kind;
} candidate;

typedef struct vocabulary {
    candidate *terms;
    int64_t count;
} vocabulary;

/* ---- choosing ---- */

static int compare_bytes(const candidate *a, const candidate *b)
{
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

/* Higher frequency first, then by bytes. */
static int compare_terms(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->df != y->df)
        return x->df > y->df ? -1 : 1;
    return compare_bytes(x, y);
}

static bool in_group(const hr_term_entry *e, bool chars)
{
    return (e->kind == HR_TERM_CHARS) == chars;
}

/* The lowest frequency with which a term of the group can be among its `places` best; *count terms reach it.
 */
static uint32_t lowest_df(const hr_vocabulary_source *from, bool chars, int64_t places, int64_t *histogram,
                          int64_t *count)
{
    memset(histogram, 0, ((size_t)from->texts + 1) * sizeof *histogram);
    for (int s = 0; s < from->num_shards; s++)
        for (size_t i = 0; i < from->shards[s].count; i++)
            histogram[from->shards[s].entries[i].df] += in_group(&from->shards[s].entries[i], chars);
    uint32_t df = from->texts + 1;
    *count = 0;
    while ((int64_t)df > from->options->min_df && *count < places)
        *count += histogram[--df];
    return df;
}

static int64_t count_group(const hr_vocabulary_source *from, bool chars)
{
    int64_t count = 0;
    for (int s = 0; s < from->num_shards; s++)
        for (size_t i = 0; i < from->shards[s].count; i++) {
            const hr_term_entry *e = &from->shards[s].entries[i];
            count += in_group(e, chars) && e->df >= from->options->min_df;
        }
    return count;
}

/* The best `places` terms of a group, sorted, behind those that are in `out` already. */
static hr_status choose_group(const hr_vocabulary_source *from, bool chars, int64_t places,
                              int64_t *histogram, vocabulary *out)
{
    int64_t reach = 0, n = 0;
    uint32_t lowest = lowest_df(from, chars, places, histogram, &reach);
    candidate *all = HR_ARRAY(from->ctx, HR_MEM_DATASET, candidate, reach);
    if (!all)
        return HR_ERR_NOMEM;
    for (int s = 0; s < from->num_shards; s++) {
        const hr_term_shard *shard = &from->shards[s];
        for (size_t i = 0; i < shard->count; i++) {
            const hr_term_entry *e = &shard->entries[i];
            if (in_group(e, chars) && e->df >= lowest)
                all[n++] = (candidate){shard->bytes + e->where, e->hash, e->df, e->length, e->kind};
        }
    }
    qsort(all, (size_t)n, sizeof *all, compare_terms);
    n = n < places ? n : places;
    if (n > 0)
        memcpy(out->terms + out->count, all, (size_t)n * sizeof *all);
    out->count += n;
    hr_free(from->ctx, all);
    return HR_OK;
}

static hr_status choose(const hr_vocabulary_source *from, vocabulary *out)
{
    int64_t places = from->options->vocabulary, words = count_group(from, false),
            chars = count_group(from, true);
    int64_t half = places - places / 2, rest = chars < places ? places - chars : 0;
    int64_t word_places = half > rest ? half : rest;
    word_places = word_places < words ? word_places : words;
    int64_t char_places = places - word_places < chars ? places - word_places : chars;
    out->terms = HR_ARRAY(from->ctx, HR_MEM_DATASET, candidate, word_places + char_places);
    int64_t *histogram = HR_ARRAY(from->ctx, HR_MEM_DATASET, int64_t, (int64_t)from->texts + 1);
    hr_status st = out->terms && histogram ? HR_OK : HR_ERR_NOMEM;
    if (st == HR_OK)
        st = choose_group(from, false, word_places, histogram, out);
    if (st == HR_OK)
        st = choose_group(from, true, char_places, histogram, out);
    hr_free(from->ctx, histogram);
    if (st == HR_OK)
        qsort(out->terms, (size_t)out->count, sizeof *out->terms, compare_terms);
    return st;
}

/* ---- writing ---- */

static hr_status write_array(hr_ctx *ctx, const char *folder, const char *name, hr_npy_type type,
                             const void *data, int64_t count)
{
    char path[HR_PATH_MAX];
    hr_npy_writer writer;
    HR_TRY(hr_path_format(ctx, path, "%s/%s", folder, name));
    HR_TRY(hr_npy_begin(ctx, path, type, 1, 1, &writer));
    hr_status st = hr_npy_write(&writer, data, count);
    hr_status ended = hr_npy_end(&writer);
    return st == HR_OK ? ended : st;
}

/* Each term as its kind, one byte, and its bytes. */
static hr_status write_terms(hr_ctx *ctx, const char *folder, const vocabulary *v)
{
    uint64_t *offsets = HR_ARRAY(ctx, HR_MEM_DATASET, uint64_t, v->count + 1);
    if (!offsets)
        return HR_ERR_NOMEM;
    offsets[0] = 0;
    for (int64_t i = 0; i < v->count; i++)
        offsets[i + 1] = offsets[i] + 1 + v->terms[i].length;
    uint8_t *bytes = hr_alloc(ctx, HR_MEM_DATASET, (size_t)offsets[v->count]);
    hr_status st = bytes ? HR_OK : HR_ERR_NOMEM;
    for (int64_t i = 0; i < v->count && bytes; i++) {
        bytes[offsets[i]] = v->terms[i].kind;
        memcpy(bytes + offsets[i] + 1, v->terms[i].bytes, v->terms[i].length);
    }
    if (st == HR_OK)
        st = write_array(ctx, folder, "text.terms.npy", HR_NPY_U8, bytes, (int64_t)offsets[v->count]);
    if (st == HR_OK)
        st = write_array(ctx, folder, "text.offsets.npy", HR_NPY_U64, offsets, v->count + 1);
    hr_free(ctx, bytes);
    hr_free(ctx, offsets);
    return st;
}

static hr_status write_slots(hr_ctx *ctx, const char *folder, const vocabulary *v)
{
    int64_t count = 0;
    if (v->count > 0)
        for (count = 64; count < 2 * v->count;)
            count *= 2;
    uint64_t *slots = HR_ARRAY0(ctx, HR_MEM_DATASET, uint64_t, count);
    if (!slots)
        return HR_ERR_NOMEM;
    uint64_t mask = (uint64_t)count - 1;
    for (int64_t i = 0; i < v->count; i++) {
        uint64_t hash = v->terms[i].hash, at = hash & mask;
        while (slots[at])
            at = (at + 1) & mask;
        slots[at] = (hash & ~(uint64_t)UINT32_MAX) | ((uint64_t)i + 1);
    }
    hr_status st = write_array(ctx, folder, "text.slots.npy", HR_NPY_U64, slots, count);
    hr_free(ctx, slots);
    return st;
}

/* idf(t) = ln((1 + N) / (1 + df(t))) + 1, the smoothed form of scikit-learn's TfidfTransformer. */
static hr_status write_idf(const hr_vocabulary_source *from, const char *folder, const vocabulary *v)
{
    int64_t count = from->bin_df ? from->options->hash_bins : v->count;
    float *idf = HR_ARRAY(from->ctx, HR_MEM_DATASET, float, count);
    if (!idf)
        return HR_ERR_NOMEM;
    for (int64_t i = 0; i < count; i++) {
        double df = from->bin_df ? from->bin_df[i] : v->terms[i].df;
        idf[i] = (float)(log((1 + (double)from->texts) / (1 + df)) + 1);
    }
    hr_status st = write_array(from->ctx, folder, "text.idf.npy", HR_NPY_F32, idf, count);
    hr_free(from->ctx, idf);
    return st;
}

static hr_status write_options(const hr_vocabulary_source *from, const char *folder, int64_t features)
{
    const hr_text_options *o = from->options;
    const struct {
        const char *key;
        int64_t value;
    } numbers[] = {
        {"texts", from->texts},
        {"features", features},
        {"vocabulary", o->vocabulary},
        {"min_df", o->min_df},
        {"hash_bins", o->hash_bins},
        {"max_words", o->max_words},
        {"word_ngrams", o->word_ngrams},
        {"char_ngram_min", o->char_ngram_min},
        {"char_ngram_max", o->char_ngram_max},
        {"char_words", o->char_words},
    };
    cJSON *root = cJSON_CreateObject();
    bool fine = root && cJSON_AddStringToObject(root, "format", "headroom-text") &&
                cJSON_AddNumberToObject(root, "version", 1) &&
                cJSON_AddBoolToObject(root, "title_field", o->title_field);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0] && fine; i++)
        fine = cJSON_AddNumberToObject(root, numbers[i].key, (double)numbers[i].value);
    char *text = fine ? cJSON_Print(root) : NULL;
    cJSON_Delete(root);
    char path[HR_PATH_MAX];
    hr_status st = text ? hr_path_format(from->ctx, path, "%s/text.json", folder)
                        : hr_fail(from->ctx, HR_ERR_NOMEM, "%s: no memory to write text.json", folder);
    hr_file file = {.fd = -1};
    if (st == HR_OK)
        st = hr_file_create(from->ctx, path, &file);
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

hr_status hr_vocabulary_write(const hr_vocabulary_source *from, const char *folder)
{
    vocabulary v = {0};
    hr_status st = from->bin_df ? HR_OK : choose(from, &v);
    if (st == HR_OK && !from->bin_df && v.count == 0)
        st = hr_fail(from->ctx, HR_ERR_DATA,
                     "no term is in at least %lld of the %lu training texts; lower min_df",
                     (long long)from->options->min_df, (unsigned long)from->texts);
    if (st == HR_OK)
        st = write_terms(from->ctx, folder, &v);
    if (st == HR_OK)
        st = write_slots(from->ctx, folder, &v);
    if (st == HR_OK)
        st = write_idf(from, folder, &v);
    if (st == HR_OK)
        st = write_options(from, folder, from->bin_df ? from->options->hash_bins : v.count);
    hr_free(from->ctx, v.terms);
    return st;
}
