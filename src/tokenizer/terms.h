/* A text as words, and the terms made of them.
 *
 * Words are runs of letters, marks and digits in lower case (Unicode simple mapping). Han, Hiragana and
 * Katakana characters are words by themselves. Everything else, invalid bytes included, separates. The words
 * are written one after the other with one blank around each, so that every term is a slice of that buffer:
 *
 *     words        " open source licence "
 *     word          ^^^^                       kind 'w'
 *     pair          ^^^^^^^^^^^                kind 'w'
 *     n-gram       ^^^^                        kind 'c': " ope", marked at the word's begin by the blank
 *
 * Words and pairs before the first TAB are terms of kind 't' too. Pairs do not cross that TAB, and an n-gram
 * that is the whole marked word is left out, since the word says the same. A term is known by the XXH64 of
 * its bytes with its kind as seed. */
#ifndef HR_TOKENIZER_TERMS_H
#define HR_TOKENIZER_TERMS_H

#include "tokenizer/text_features.h"

#define HR_WORD_POINTS 40 /* code points of a word that count */

enum { HR_TERM_WORD = 'w', HR_TERM_TITLE = 't', HR_TERM_CHARS = 'c' };

typedef struct hr_words {
    char *bytes;     /* used bytes, a blank first and last */
    uint32_t *start; /* (count + 1) where word i begins; it ends before the blank at start[i + 1] - 1 */
    size_t used;
    int count, title; /* words; words before the TAB */
    int max;
} hr_words;

/* A sentence for each option that makes no sense. */
hr_status hr_text_options_check(hr_ctx *ctx, const hr_text_options *options);

hr_status hr_words_init(hr_ctx *ctx, int max_words, hr_words *out);
void hr_words_deinit(hr_ctx *ctx, hr_words *words);
/* Never fails: at most max_words words of HR_WORD_POINTS code points fit by construction. */
void hr_words_split(hr_words *words, const char *text, size_t length);

uint64_t hr_term_hash(unsigned kind, const char *bytes, size_t length);

/* Calls emit(arg, kind, where, length) for each term of the text, slices of words->bytes; equal terms come
 * again. */
typedef void hr_term_fn(void *arg, unsigned kind, uint32_t where, uint32_t length);

static inline __attribute__((always_inline)) void hr_chars_each(const hr_words *words, int i, int min,
                                                                int max, hr_term_fn *emit, void *arg)
{
    uint32_t point[HR_WORD_POINTS + 3]; /* where each code point of the marked word begins, and its end */
    int points = 0;
    for (uint32_t at = words->start[i] - 1; at < words->start[i + 1]; at++)
        if (((unsigned char)words->bytes[at] & 0xc0) != 0x80)
            point[points++] = at;
    point[points] = words->start[i + 1];
    for (int n = min; n <= max && n < points; n++)
        for (int p = 0; p + n <= points; p++)
            emit(arg, HR_TERM_CHARS, point[p], point[p + n] - point[p]);
}

static inline __attribute__((always_inline)) void
hr_terms_each(const hr_words *words, const hr_text_options *options, hr_term_fn *emit, void *arg)
{
    for (int i = 0; i < words->count; i++) {
        bool title = i < words->title;
        int end = title ? words->title : words->count; /* of the field this word is in */
        for (int n = 1; n <= options->word_ngrams && i + n <= end; n++) {
            uint32_t length = words->start[i + n] - 1 - words->start[i];
            emit(arg, HR_TERM_WORD, words->start[i], length);
            if (title && options->title_field)
                emit(arg, HR_TERM_TITLE, words->start[i], length);
        }
        if (options->char_ngram_max > 0 && (options->char_words == 0 || i < options->char_words))
            hr_chars_each(words, i, options->char_ngram_min, options->char_ngram_max, emit, arg);
    }
}

#endif
