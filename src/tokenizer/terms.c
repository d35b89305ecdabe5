/* Splitting a text into lower-case words, with utf8proc's tables for what is not ASCII. */
#include "tokenizer/terms.h"

#include <string.h>
#include <utf8proc.h>
#include <xxhash.h>

hr_status hr_text_options_check(hr_ctx *ctx, const hr_text_options *o)
{
    if (o->hash_bins < 0 || o->hash_bins > (int64_t)1 << 28)
        return hr_fail(ctx, HR_ERR_USAGE, "hash_bins is %lld, expected 0 to 2^28", (long long)o->hash_bins);
    if (o->vocabulary < 1 || o->vocabulary > (int64_t)1 << 28)
        return hr_fail(ctx, HR_ERR_USAGE, "vocabulary is %lld, expected 1 to 2^28", (long long)o->vocabulary);
    if (o->min_df < 1 || o->min_df > UINT32_MAX)
        return hr_fail(ctx, HR_ERR_USAGE, "min_df is %lld, expected 1 to 2^32 - 1", (long long)o->min_df);
    if (o->max_words < 1 || o->max_words > 100000)
        return hr_fail(ctx, HR_ERR_USAGE, "max_words is %d, expected 1 to 100000", o->max_words);
    if (o->word_ngrams < 1 || o->word_ngrams > 3)
        return hr_fail(ctx, HR_ERR_USAGE, "word_ngrams is %d, expected 1 to 3", o->word_ngrams);
    bool none = o->char_ngram_min == 0 && o->char_ngram_max == 0;
    bool fine = o->char_ngram_min >= 2 && o->char_ngram_max >= o->char_ngram_min && o->char_ngram_max <= 10;
    if (!none && !fine)
        return hr_fail(
            ctx, HR_ERR_USAGE,
            "character n-grams of %d to %d, expected 2 <= shortest <= longest <= 10, or 0 for none",
            o->char_ngram_min, o->char_ngram_max);
    if (o->char_words < 0)
        return hr_fail(ctx, HR_ERR_USAGE, "char_words is %d, expected 0 (all) or more", o->char_words);
    return HR_OK;
}

hr_status hr_words_init(hr_ctx *ctx, int max_words, hr_words *out)
{
    *out = (hr_words){.max = max_words};
    size_t n = (size_t)max_words;
    out->start = HR_ARRAY(ctx, HR_MEM_DATASET, uint32_t, n + 1);
    out->bytes =
        out->start ? hr_alloc(ctx, HR_MEM_DATASET, hr_add(hr_mul(n, 4 * HR_WORD_POINTS + 1), 2)) : NULL;
    if (out->bytes)
        return HR_OK;
    hr_words_deinit(ctx, out);
    return HR_ERR_NOMEM;
}

void hr_words_deinit(hr_ctx *ctx, hr_words *words)
{
    hr_free(ctx, words->start);
    hr_free(ctx, words->bytes);
    *words = (hr_words){0};
}

/* The lower-case form of an ASCII letter or digit, 0 for a separator. */
static inline unsigned char ascii_lower(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return (unsigned char)(c + ('a' - 'A'));
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ? c : 0;
}

static bool is_word_point(int32_t point)
{
    utf8proc_category_t category = utf8proc_category(point);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_NO; /* letters, marks, numbers */
}

/* Scripts written without blanks whose characters carry meaning alone. */
static bool is_ideograph(int32_t point)
{
    return (point >= 0x3040 && point <= 0x30ff) || (point >= 0x3400 && point <= 0x4dbf) ||
           (point >= 0x4e00 && point <= 0x9fff) || (point >= 0xf900 && point <= 0xfaff) ||
           (point >= 0x20000 && point <= 0x3ffff);
}

static inline void end_word(hr_words *words, int *points)
{
    if (*points == 0)
        return;
    *points = 0;
    words->bytes[words->used++] = ' ';
    words->count++;
    words->start[words->count] = (uint32_t)words->used;
}

/* One code point that is not ASCII, at text[0]; returns its bytes. */
static size_t split_point(hr_words *words, const char *text, size_t length, int *points)
{
    int32_t point = -1;
    size_t left = length < 4 ? length : 4;
    utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)left, &point);
    if (n <= 0 || !is_word_point(point)) {
        end_word(words, points);
        return n <= 0 ? 1 : (size_t)n;
    }
    bool alone = is_ideograph(point);
    if (alone)
        end_word(words, points);
    if (words->count < words->max && *points < HR_WORD_POINTS) {
        utf8proc_uint8_t *out = (utf8proc_uint8_t *)words->bytes + words->used;
        words->used += (size_t)utf8proc_encode_char(utf8proc_tolower(point), out);
        ++*points;
    }
    if (alone)
        end_word(words, points);
    return (size_t)n;
}

void hr_words_split(hr_words *words, const char *text, size_t length)
{
    int points = 0; /* code points of the word being written */
    bool tab = false;
    words->count = words->title = 0;
    words->bytes[0] = ' ';
    words->used = 1;
    words->start[0] = 1;
    for (size_t i = 0; i < length && words->count < words->max;) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 128) {
            i += split_point(words, text + i, length - i, &points);
            continue;
        }
        i++;
        unsigned char lower = ascii_lower(c);
        if (lower) {
            words->bytes[words->used] = (char)lower;
            words->used += points < HR_WORD_POINTS;
            points += points < HR_WORD_POINTS;
            continue;
        }
        end_word(words, &points);
        if (c == '\t' && !tab) {
            tab = true;
            words->title = words->count;
        }
    }
    end_word(words, &points);
    if (!tab && words->count == words->max && length > 0) {
        /* the word limit may have come before the TAB: then all of it is title */
        words->title = memchr(text, '\t', length) ? words->count : 0;
    }
}

uint64_t hr_term_hash(unsigned kind, const char *bytes, size_t length)
{
    return XXH64(bytes, length, kind);
}
