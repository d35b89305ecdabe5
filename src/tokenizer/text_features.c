/* A text model in use: terms are looked up in a mapped hash table, a batch of them at a time so that the
 * table's cache misses overlap; counts are kept by feature id, and a bitmap of two levels gives them back in
 * order.
 *
 * The weight of a term is (1 + ln tf) * idf; the row is scaled to unit Euclidean length. */
#include "tokenizer/text_features.h"

#include "dataset/npy.h"
#include "tokenizer/learner.h"

#include <cJSON.h>
#include <math.h>
#include <string.h>

#define BATCH    64  /* terms looked up together */
#define TF_TABLE 256 /* counts whose 1 + ln tf is kept in a table */

struct hr_text_model {
    hr_ctx *ctx;
    hr_text_options options;
    int64_t features;
    hr_npy terms, offsets, slots, idf;
    float tf_weight[TF_TABLE];
};

struct hr_text_work {
    const hr_text_model *model;
    hr_words words;
    uint32_t *tf;              /* (features) zero between texts */
    uint64_t *seen, *seen_top; /* bit i: feature i, word i of `seen` is not zero */
    uint32_t *ids;
    float *values;
    int64_t distinct;
    uint64_t batch[BATCH]; /* hashes whose slots are on their way to the cache */
    int waiting;
};

const char *const *hr_text_model_files(void)
{
    static const char *const files[] = {"text.json",      "text.terms.npy", "text.offsets.npy",
                                        "text.slots.npy", "text.idf.npy",   NULL};
    return files;
}

/* ---- opening ---- */

typedef struct json_reader {
    hr_ctx *ctx;
    const char *path;
    const cJSON *root;
} json_reader;

static hr_status read_number(const json_reader *reader, const char *key, int64_t most, int64_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(reader->root, key);
    double value = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(value >= 0 && value <= (double)most))
        return hr_fail(reader->ctx, HR_ERR_DATA, "%s: \"%s\" is missing or not a number from 0 to %lld",
                       reader->path, key, (long long)most);
    *out = (int64_t)value;
    return HR_OK;
}

static hr_status read_int(const json_reader *reader, const char *key, int *out)
{
    int64_t value = 0;
    HR_TRY(read_number(reader, key, 1000000, &value));
    *out = (int)value;
    return HR_OK;
}

static hr_status read_fields(const json_reader *reader, hr_text_model *model)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(reader->root, "format");
    int64_t version = 0;
    if (!cJSON_IsString(format) || strcmp(format->valuestring, "headroom-text") != 0)
        return hr_fail(reader->ctx, HR_ERR_DATA, "%s: not a text model (no \"format\": \"headroom-text\")",
                       reader->path);
    HR_TRY(read_number(reader, "version", INT32_MAX, &version));
    if (version != 1)
        return hr_fail(reader->ctx, HR_ERR_DATA, "%s: text model version %lld, this build reads 1",
                       reader->path, (long long)version);
    hr_text_options *o = &model->options;
    HR_TRY(read_number(reader, "features", (int64_t)1 << 28, &model->features));
    HR_TRY(read_number(reader, "vocabulary", (int64_t)1 << 28, &o->vocabulary));
    HR_TRY(read_number(reader, "min_df", UINT32_MAX, &o->min_df));
    HR_TRY(read_number(reader, "hash_bins", (int64_t)1 << 28, &o->hash_bins));
    HR_TRY(read_int(reader, "max_words", &o->max_words));
    HR_TRY(read_int(reader, "word_ngrams", &o->word_ngrams));
    HR_TRY(read_int(reader, "char_ngram_min", &o->char_ngram_min));
    HR_TRY(read_int(reader, "char_ngram_max", &o->char_ngram_max));
    HR_TRY(read_int(reader, "char_words", &o->char_words));
    o->title_field = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(reader->root, "title_field"));
    HR_TRY(hr_text_options_check(reader->ctx, o));
    if (model->features < 1 || (o->hash_bins > 0 && model->features != o->hash_bins))
        return hr_fail(reader->ctx, HR_ERR_DATA, "%s: %lld features do not fit %lld hash bins", reader->path,
                       (long long)model->features, (long long)o->hash_bins);
    return HR_OK;
}

static hr_status read_options(hr_text_model *model, const char *folder)
{
    char path[HR_PATH_MAX], *text = NULL;
    size_t length = 0;
    HR_TRY(hr_path_format(model->ctx, path, "%s/text.json", folder));
    HR_TRY(hr_file_slurp(model->ctx, path, 1 << 20, &text, &length));
    cJSON *root = cJSON_ParseWithLength(text, length);
    json_reader reader = {.ctx = model->ctx, .path = path, .root = root};
    hr_status st =
        root ? read_fields(&reader, model) : hr_fail(model->ctx, HR_ERR_DATA, "%s: not valid JSON", path);
    cJSON_Delete(root);
    hr_free(model->ctx, text);
    return st;
}

static hr_status open_array(hr_text_model *model, const char *folder, const char *name, hr_npy_type type,
                            hr_npy *out)
{
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(model->ctx, path, "%s/%s", folder, name));
    return hr_npy_open(model->ctx, path, type, 1, out);
}

static hr_status open_arrays(hr_text_model *model, const char *folder)
{
    HR_TRY(open_array(model, folder, "text.terms.npy", HR_NPY_U8, &model->terms));
    HR_TRY(open_array(model, folder, "text.offsets.npy", HR_NPY_U64, &model->offsets));
    HR_TRY(open_array(model, folder, "text.slots.npy", HR_NPY_U64, &model->slots));
    HR_TRY(open_array(model, folder, "text.idf.npy", HR_NPY_F32, &model->idf));
    bool hashed = model->options.hash_bins > 0;
    int64_t slots = model->slots.shape[0];
    if (hashed ? slots != 0 : (slots < model->features || (slots & (slots - 1)) != 0))
        return hr_fail(model->ctx, HR_ERR_DATA, "%s/text.slots.npy: %lld slots do not fit %lld features",
                       folder, (long long)slots, (long long)model->features);
    if (model->idf.shape[0] != model->features)
        return hr_fail(model->ctx, HR_ERR_DATA, "%s/text.idf.npy: %lld elements, expected %lld", folder,
                       (long long)model->idf.shape[0], (long long)model->features);
    if (model->offsets.shape[0] != (hashed ? 1 : model->features + 1))
        return hr_fail(model->ctx, HR_ERR_DATA, "%s/text.offsets.npy: %lld elements, expected %lld", folder,
                       (long long)model->offsets.shape[0], (long long)model->features + 1);
    const float *idf = model->idf.data;
    for (int64_t i = 0; i < model->features; i++)
        if (!(idf[i] > 0 && idf[i] < 1000))
            return hr_fail(model->ctx, HR_ERR_DATA,
                           "%s/text.idf.npy: element %lld is %g, expected a small positive "
                           "number",
                           folder, (long long)i, (double)idf[i]);
    return HR_OK;
}

hr_status hr_text_model_open(hr_ctx *ctx, const char *folder, hr_text_model **out)
{
    *out = NULL;
    hr_text_model *model = HR_NEW(ctx, HR_MEM_DATASET, hr_text_model);
    if (!model)
        return HR_ERR_NOMEM;
    model->ctx = ctx;
    for (int tf = 1; tf < TF_TABLE; tf++)
        model->tf_weight[tf] = (float)(1 + log(tf));
    hr_status st = read_options(model, folder);
    if (st == HR_OK)
        st = open_arrays(model, folder);
    if (st != HR_OK) {
        hr_text_model_close(model);
        return st;
    }
    *out = model;
    return HR_OK;
}

void hr_text_model_close(hr_text_model *model)
{
    if (!model)
        return;
    hr_npy_close(&model->terms);
    hr_npy_close(&model->offsets);
    hr_npy_close(&model->slots);
    hr_npy_close(&model->idf);
    hr_free(model->ctx, model);
}

int64_t hr_text_model_features(const hr_text_model *model)
{
    return model->features;
}

/* ---- one text ---- */

void hr_text_work_destroy(hr_text_work *work)
{
    if (!work)
        return;
    hr_ctx *ctx = work->model->ctx;
    hr_words_deinit(ctx, &work->words);
    hr_free(ctx, work->tf);
    hr_free(ctx, work->seen);
    hr_free(ctx, work->seen_top);
    hr_free(ctx, work->ids);
    hr_free(ctx, work->values);
    hr_free(ctx, work);
}

/* No text can have more distinct terms than this. */
static size_t most_terms(const hr_text_options *o)
{
    size_t word = 2 * (size_t)o->word_ngrams;
    for (int n = o->char_ngram_min; n <= o->char_ngram_max; n++)
        word += HR_WORD_POINTS + 2;
    return word * (size_t)o->max_words;
}

hr_status hr_text_work_create(const hr_text_model *model, hr_text_work **out)
{
    *out = NULL;
    hr_ctx *ctx = model->ctx;
    hr_text_work *work = HR_NEW(ctx, HR_MEM_DATASET, hr_text_work);
    if (!work)
        return HR_ERR_NOMEM;
    work->model = model;
    size_t features = (size_t)model->features, most = most_terms(&model->options);
    most = most < features ? most : features;
    work->tf = HR_ARRAY0(ctx, HR_MEM_DATASET, uint32_t, features);
    work->seen = HR_ARRAY0(ctx, HR_MEM_DATASET, uint64_t, features / 64 + 1);
    work->seen_top = HR_ARRAY0(ctx, HR_MEM_DATASET, uint64_t, features / 4096 + 1);
    work->ids = HR_ARRAY(ctx, HR_MEM_DATASET, uint32_t, most);
    work->values = HR_ARRAY(ctx, HR_MEM_DATASET, float, most);
    hr_status st =
        work->tf && work->seen && work->seen_top && work->ids && work->values ? HR_OK : HR_ERR_NOMEM;
    if (st == HR_OK)
        st = hr_words_init(ctx, model->options.max_words, &work->words);
    if (st != HR_OK) {
        hr_text_work_destroy(work);
        return st;
    }
    *out = work;
    return HR_OK;
}

/* Feature of a hash; -1 for an unknown term. A broken table ends the search, never the process. */
static inline int64_t find_feature(const hr_text_model *model, uint64_t hash)
{
    if (model->options.hash_bins > 0)
        return (int64_t)(hash % (uint64_t)model->options.hash_bins);
    const uint64_t *slots = model->slots.data;
    uint64_t mask = (uint64_t)model->slots.shape[0] - 1, at = hash & mask;
    for (uint64_t probes = 0; probes <= mask && slots[at]; probes++, at = (at + 1) & mask)
        if (hr_slot_matches(slots[at], hash)) {
            int64_t id = (int64_t)(slots[at] & UINT32_MAX) - 1;
            return id < model->features ? id : -1;
        }
    return -1;
}

static void count_batch(hr_text_work *work)
{
    for (int i = 0; i < work->waiting; i++) {
        int64_t id = find_feature(work->model, work->batch[i]);
        if (id < 0)
            continue;
        work->distinct += work->tf[id] == 0;
        work->tf[id]++;
        work->seen[id / 64] |= UINT64_C(1) << (id % 64);
        work->seen_top[id / 4096] |= UINT64_C(1) << (id / 64 % 64);
    }
    work->waiting = 0;
}

static inline void add_term(void *arg, unsigned kind, uint32_t where, uint32_t length)
{
    hr_text_work *work = arg;
    const hr_npy *slots = &work->model->slots;
    uint64_t hash = hr_term_hash(kind, work->words.bytes + where, length);
    if (slots->shape[0] > 0)
        __builtin_prefetch((const uint64_t *)slots->data + (hash & ((uint64_t)slots->shape[0] - 1)));
    work->batch[work->waiting++] = hash;
    if (work->waiting == BATCH)
        count_batch(work);
}

static float weigh(const hr_text_model *model, int64_t id, uint32_t tf)
{
    float weight = tf < TF_TABLE ? model->tf_weight[tf] : (float)(1 + log(tf));
    return weight * ((const float *)model->idf.data)[id];
}

/* Empties the counts into ids and values, ids ascending; returns the sum of squares. */
static double gather(hr_text_work *work)
{
    double squares = 0;
    int64_t n = 0, tops = work->model->features / 4096 + 1;
    for (int64_t t = 0; t < tops; t++) {
        for (uint64_t top = work->seen_top[t]; top; top &= top - 1) {
            int64_t w = t * 64 + __builtin_ctzll(top);
            for (uint64_t bits = work->seen[w]; bits; bits &= bits - 1) {
                int64_t id = w * 64 + __builtin_ctzll(bits);
                float value = weigh(work->model, id, work->tf[id]);
                work->tf[id] = 0;
                work->ids[n] = (uint32_t)id;
                work->values[n++] = value;
                squares += (double)value * (double)value;
            }
            work->seen[w] = 0;
        }
        work->seen_top[t] = 0;
    }
    return squares;
}

hr_status hr_text_features(const hr_text_model *model, hr_text_work *work, const char *text, size_t length,
                           const uint32_t **ids, const float **values, int64_t *count)
{
    work->distinct = 0;
    hr_words_split(&work->words, text, length);
    hr_terms_each(&work->words, &model->options, add_term, work);
    count_batch(work);
    double squares = gather(work);
    float scale = squares > 0 ? (float)(1 / sqrt(squares)) : 0;
    for (int64_t i = 0; i < work->distinct; i++)
        work->values[i] *= scale;
    *ids = work->ids;
    *values = work->values;
    *count = work->distinct;
    return HR_OK;
}
