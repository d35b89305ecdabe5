/* Text to sparse features: lower-case words, word pairs and character n-grams within a word, looked up in a
 * vocabulary (or hashed), weighted by TF-IDF and scaled to unit length.
 *
 * The model is a few files that live in a prepared data set and are copied into a model folder:
 * text.json (options), text.terms.npy + text.offsets.npy (the terms), text.slots.npy (their hash table, mapped
 * as it is, so that opening takes no time), text.idf.npy. docs/dataset_format.md describes them. */
#ifndef HR_TOKENIZER_TEXT_FEATURES_H
#define HR_TOKENIZER_TEXT_FEATURES_H

#include "base/file.h"

typedef struct hr_text_options {
    int64_t vocabulary, min_df, hash_bins;
    int max_words, word_ngrams, char_ngram_min, char_ngram_max, char_words;
    bool title_field;
} hr_text_options;

typedef struct hr_text_model hr_text_model;

/* Learning a vocabulary: begin, add every training text once, end writes the files into `folder`. */
typedef struct hr_text_learner hr_text_learner;
hr_status hr_text_learner_create(hr_ctx *ctx, const hr_text_options *options, hr_text_learner **out);
hr_status hr_text_learner_add(hr_text_learner *learner, const char *text, size_t length);
hr_status hr_text_learner_write(hr_text_learner *learner, const char *folder);
void hr_text_learner_destroy(hr_text_learner *learner);

hr_status hr_text_model_open(hr_ctx *ctx, const char *folder, hr_text_model **out);
void hr_text_model_close(hr_text_model *model);
int64_t hr_text_model_features(const hr_text_model *model);
/* The names of the files of a model, NULL-terminated list, for those who copy it. */
const char *const *hr_text_model_files(void);

/* Working memory of one caller; a model may be used by many at once. */
typedef struct hr_text_work hr_text_work;
hr_status hr_text_work_create(const hr_text_model *model, hr_text_work **out);
void hr_text_work_destroy(hr_text_work *work);
/* Features of one text: *ids ascending, *values with unit Euclidean length, *count of them; all belong to `work`
 * until its next use. A text without known terms has count 0. Invalid UTF-8 bytes separate words. */
hr_status hr_text_features(const hr_text_model *model, hr_text_work *work, const char *text, size_t length,
                           const uint32_t **ids, const float **values, int64_t *count);

#endif
