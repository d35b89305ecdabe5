/* Text features: words as a reader expects them, weights by the formula, files that can be trusted. */
#include "tests/dataset/fixture.h"

#include "dataset/npy.h"
#include "tokenizer/terms.h"

#include <math.h>

static const hr_text_options small = {
    .vocabulary = 1000, .min_df = 1, .max_words = 100, .word_ngrams = 2, .title_field = true};

static void words_of_a_text(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words;
        int count, title;
    } cases[] = {
        {"", " ", 0, 0},
        {"  ...\n", " ", 0, 0},
        {"Open-Source licence 2.0", " open source licence 2 0 ", 5, 0},
        {"A title\tand a body\twith tabs", " a title and a body with tabs ", 7, 2},
        {"\tbody", " body ", 1, 0},
        {"title\t", " title ", 1, 1},
        {"ÄRGER Straße ЖУК ΣΊΣΥΦΟΣ", " ärger straße жук σίσυφοσ ", 4, 0},
        {"İstanbul", " istanbul ", 1, 0},
        {"e\xcc\x81t\xc3\xa9", " e\xcc\x81t\xc3\xa9 ", 1, 0}, /* a combining accent belongs to the word */
        {"日本語 text", " 日 本 語 text ", 4, 0},
        {"x日y", " x 日 y ", 3, 0},
        {"٣٤ Ⅷ ½", " ٣٤ ⅷ ½ ", 3, 0},
        {"ab\xff"
         "cd",
         " ab cd ", 2, 0},              /* an invalid byte separates */
        {"ab\xe2\x82", " ab ", 1, 0},   /* a character cut off */
        {"\xed\xa0\x80x", " x ", 1, 0}, /* a surrogate is not UTF-8 */
        {"\xc0\xafx", " x ", 1, 0},     /* nor is an overlong form */
        {"a—b “c”", " a b c ", 3, 0},
    };
    fixture f;
    fixture_begin(&f);
    hr_words words;
    assert_ok(&f, hr_words_init(f.ctx, 100, &words));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_words_split(&words, cases[i].text, strlen(cases[i].text));
        words.bytes[words.used] = 0; /* room is there: these texts are short */
        assert_string_equal(words.bytes, cases[i].words);
        assert_int_equal(words.count, cases[i].count);
        assert_int_equal(words.title, cases[i].title);
    }
    hr_words_split(&words, "a\0b", 3);
    assert_int_equal(words.count, 2);
    hr_words_deinit(f.ctx, &words);
    fixture_end(&f);
}

static void limits_of_a_text(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    hr_words words;
    assert_ok(&f, hr_words_init(f.ctx, 3, &words));
    hr_words_split(&words, "a b c d e", 9);
    assert_int_equal(words.count, 3);
    hr_words_split(&words, "a b c d\te", 9);
    assert_int_equal(words.title, 3);
    /* the widest there is: 3 words of 4-byte letters, each cut at HR_WORD_POINTS; ASAN watches the end */
    char text[3 * 401];
    size_t n = 0;
    for (int w = 0; w < 3; w++) {
        for (int i = 0; i < 100; i++, n += 4)
            memcpy(text + n, "\xf0\x90\x90\x80", 4); /* U+10400, a Deseret capital */
        text[n++] = ' ';
    }
    hr_words_split(&words, text, n);
    assert_int_equal(words.count, 3);
    assert_int_equal(words.used, 1 + 3 * (4 * HR_WORD_POINTS + 1));
    hr_words_deinit(f.ctx, &words);
    fixture_end(&f);
}

/* Terms of a text as "kind:bytes|kind:bytes|...". */
typedef struct listed {
    const hr_words *words;
    char text[2048];
} listed;

static void list_term(void *arg, unsigned kind, uint32_t where, uint32_t length)
{
    listed *l = arg;
    size_t used = strlen(l->text);
    snprintf(l->text + used, sizeof l->text - used, "%c:%.*s|", (int)kind, (int)length,
             l->words->bytes + where);
}

static void terms_of_a_text(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int word_ngrams, min, max;
        bool title;
        const char *terms;
    } cases[] = {
        {"Red fox", 1, 0, 0, true, "w:red|w:fox|"},
        {"red fox\truns far", 2, 0, 0, true,
         "w:red|t:red|w:red fox|t:red fox|w:fox|t:fox|w:runs|w:runs far|w:far|"},
        {"red\truns", 2, 0, 0, false, "w:red|w:runs|"},
        {"a b c", 3, 0, 0, true, "w:a|w:a b|w:a b c|w:b|w:b c|w:c|"},
        {"ab é", 1, 2, 3, true, "w:ab|c: a|c:ab|c:b |c: ab|c:ab |w:é|c: é|c:é |"},
        {"abc", 1, 3, 5, true, "w:abc|c: ab|c:abc|c:bc |c: abc|c:abc |"},
    };
    fixture f;
    fixture_begin(&f);
    hr_words words;
    assert_ok(&f, hr_words_init(f.ctx, 100, &words));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hr_text_options options = small;
        options.word_ngrams = cases[i].word_ngrams;
        options.char_ngram_min = cases[i].min;
        options.char_ngram_max = cases[i].max;
        options.title_field = cases[i].title;
        static listed l;
        l = (listed){.words = &words};
        hr_words_split(&words, cases[i].text, strlen(cases[i].text));
        hr_terms_each(&words, &options, list_term, &l);
        assert_string_equal(l.text, cases[i].terms);
    }
    hr_words_deinit(f.ctx, &words);
    fixture_end(&f);
}

static void only_the_first_words_give_ngrams(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    hr_words words;
    assert_ok(&f, hr_words_init(f.ctx, 100, &words));
    hr_text_options options = small;
    options.word_ngrams = 1;
    options.char_ngram_min = options.char_ngram_max = 3;
    options.char_words = 1;
    static listed l;
    l = (listed){.words = &words};
    hr_words_split(&words, "ab cd ef", 8);
    hr_terms_each(&words, &options, list_term, &l);
    assert_string_equal(l.text, "w:ab|c: ab|c:ab |w:cd|w:ef|");
    options.char_words = -1;
    assert_int_equal(hr_text_options_check(f.ctx, &options), HR_ERR_USAGE);
    hr_words_deinit(f.ctx, &words);
    fixture_end(&f);
}

static hr_text_model *learn(fixture *f, const hr_text_options *options, const char *const *texts, int count)
{
    hr_text_learner *learner = NULL;
    hr_text_model *model = NULL;
    assert_ok(f, hr_text_learner_create(f->ctx, options, &learner));
    for (int i = 0; i < count; i++)
        assert_ok(f, hr_text_learner_add(learner, texts[i], strlen(texts[i])));
    assert_ok(f, hr_text_learner_write(learner, f->folder));
    hr_text_learner_destroy(learner);
    assert_ok(f, hr_text_model_open(f->ctx, f->folder, &model));
    return model;
}

/* Term i as "kind:bytes". */
static const char *term_at(fixture *f, int64_t i, char out[64])
{
    char path[2 * HR_PATH_MAX];
    hr_npy terms, offsets;
    assert_ok(f, hr_npy_open(f->ctx, fixture_path(f, "text.terms.npy", path), HR_NPY_U8, 1, &terms));
    assert_ok(f, hr_npy_open(f->ctx, fixture_path(f, "text.offsets.npy", path), HR_NPY_U64, 1, &offsets));
    const uint64_t *at = offsets.data;
    const char *bytes = (const char *)terms.data + at[i];
    snprintf(out, 64, "%c:%.*s", bytes[0], (int)(at[i + 1] - at[i]) - 1, bytes + 1);
    hr_npy_close(&terms);
    hr_npy_close(&offsets);
    return out;
}

static void weights_by_the_formula(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    static const char *const texts[] = {"red fox", "Red red", "oak", "fox red oak"};
    hr_text_options options = small;
    options.word_ngrams = 1;
    hr_text_model *model = learn(&f, &options, texts, 4);
    char term[64];
    assert_int_equal(hr_text_model_features(model), 3);
    assert_string_equal(term_at(&f, 0, term), "w:red"); /* in 3 texts */
    assert_string_equal(term_at(&f, 1, term), "w:fox"); /* in 2, before "oak" by bytes */
    assert_string_equal(term_at(&f, 2, term), "w:oak");

    hr_text_work *work = NULL;
    assert_ok(&f, hr_text_work_create(model, &work));
    const uint32_t *ids;
    const float *values;
    int64_t count = 0;
    assert_ok(&f, hr_text_features(model, work, "fox RED red unknown", 19, &ids, &values, &count));
    assert_int_equal(count, 2);
    assert_int_equal(ids[0], 0);
    assert_int_equal(ids[1], 1);
    double red = (1 + log(2)) * (log(5.0 / 4) + 1), fox = log(5.0 / 3) + 1,
           norm = sqrt(red * red + fox * fox);
    assert_true(fabs((double)values[0] - red / norm) < 1e-6);
    assert_true(fabs((double)values[1] - fox / norm) < 1e-6);
    assert_ok(&f, hr_text_features(model, work, "nothing of it", 13, &ids, &values, &count));
    assert_int_equal(count, 0);
    assert_ok(&f, hr_text_features(model, work, "oak", 3, &ids, &values, &count));
    assert_int_equal(count, 1);
    assert_true(values[0] == 1);
    hr_text_work_destroy(work);
    hr_text_model_close(model);
    fixture_end(&f);
}

static void words_get_half_of_the_places(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    static const char *const texts[] = {"abcdefgh", "abcdefgx", "abcdefgy", "one", "two", "three"};
    hr_text_options options = small;
    options.char_ngram_min = options.char_ngram_max = 3;
    options.word_ngrams = 1;
    options.vocabulary = 8;
    hr_text_model *model = learn(&f, &options, texts, 6);
    int words = 0;
    char term[64];
    assert_int_equal(hr_text_model_features(model), 8);
    for (int i = 0; i < 8; i++)
        words += term_at(&f, i, term)[0] == 'w';
    assert_int_equal(words, 4);
    hr_text_model_close(model);

    /* where there are fewer n-grams than places, words take the rest */
    options.min_df = 3;
    options.vocabulary = 100;
    static const char *const rare[] = {"abc one", "abc one", "abc one", "abc one", "x1", "x2"};
    model = learn(&f, &options, rare, 6);
    assert_int_equal(hr_text_model_features(model), 2 + 6);
    hr_text_model_close(model);
    fixture_end(&f);
}

/* More distinct terms than a learner keeps: the rare ones go, the frequent ones stay with their exact counts.
 */
static void rare_terms_are_dropped(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    hr_text_options options = small;
    options.word_ngrams = 1;
    options.max_words = 2000;
    options.vocabulary = 3;
    hr_text_learner *learner = NULL;
    assert_ok(&f, hr_text_learner_create(f.ctx, &options, &learner));
    static char text[2000 * 10];
    unsigned number = 0;
    for (int i = 0; i < 2500; i++) {
        size_t n = (size_t)snprintf(text, sizeof text,
                                    i % 2   ? "always often"
                                    : i % 5 ? "always"
                                            : "always seldom");
        for (int w = 0; w < 1900; w++)
            n += (size_t)snprintf(text + n, sizeof text - n, " z%x", number++);
        assert_ok(&f, hr_text_learner_add(learner, text, n));
    }
    assert_ok(&f, hr_text_learner_write(learner, f.folder));
    hr_text_learner_destroy(learner);
    char term[64], path[2 * HR_PATH_MAX];
    assert_string_equal(term_at(&f, 0, term), "w:always");
    assert_string_equal(term_at(&f, 1, term), "w:often");
    assert_string_equal(term_at(&f, 2, term), "w:seldom");
    hr_npy idf;
    assert_ok(&f, hr_npy_open(f.ctx, fixture_path(&f, "text.idf.npy", path), HR_NPY_F32, 1, &idf));
    const float *values = idf.data;
    assert_true(values[0] == 1);
    assert_true(fabs((double)values[1] - (log(2501.0 / 1251) + 1)) < 1e-6);
    assert_true(fabs((double)values[2] - (log(2501.0 / 251) + 1)) < 1e-6);
    hr_npy_close(&idf);
    fixture_end(&f);
}

static void hashed_terms(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    static const char *const texts[] = {"red fox", "red", "oak"};
    hr_text_options options = small;
    options.hash_bins = 1 << 20;
    options.word_ngrams = 1;
    hr_text_model *model = learn(&f, &options, texts, 3);
    assert_int_equal(hr_text_model_features(model), 1 << 20);
    hr_text_work *work = NULL;
    assert_ok(&f, hr_text_work_create(model, &work));
    const uint32_t *ids;
    const float *values;
    int64_t count = 0;
    assert_ok(&f, hr_text_features(model, work, "red oak", 7, &ids, &values, &count));
    assert_int_equal(count, 2);
    int red = ids[0] == hr_term_hash('w', "red", 3) % (1 << 20) ? 0 : 1;
    double a = log(4.0 / 3) + 1, b = log(4.0 / 2) + 1, norm = sqrt(a * a + b * b);
    assert_true(fabs((double)values[red] - a / norm) < 1e-6);
    assert_true(fabs((double)values[1 - red] - b / norm) < 1e-6);
    hr_text_work_destroy(work);
    hr_text_model_close(model);
    fixture_end(&f);
}

/* Every byte of the model's files is changed in turn: opening may fail or not, using must stay in bounds. */
static void damaged_models(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    static const char *const texts[] = {"red fox", "Red red", "oak", "fox red oak"};
    hr_text_model_close(learn(&f, &small, texts, 4));
    for (const char *const *name = hr_text_model_files(); *name; name++) {
        char path[2 * HR_PATH_MAX];
        FILE *file = fopen(fixture_path(&f, *name, path), "r+b");
        assert_non_null(file);
        uint8_t bytes[2048];
        size_t size = fread(bytes, 1, sizeof bytes, file);
        for (size_t i = 0; i < size; i++) {
            uint8_t changed = (uint8_t)(bytes[i] ^ 0xa5);
            fseek(file, (long)i, SEEK_SET);
            fwrite(&changed, 1, 1, file);
            fflush(file);
            hr_text_model *model = NULL;
            hr_text_work *work = NULL;
            if (hr_text_model_open(f.ctx, f.folder, &model) == HR_OK &&
                hr_text_work_create(model, &work) == HR_OK) {
                const uint32_t *ids;
                const float *values;
                int64_t count = 0;
                assert_ok(&f, hr_text_features(model, work, "red fox oak\tred", 15, &ids, &values, &count));
                for (int64_t k = 0; k < count; k++)
                    assert_true(ids[k] < hr_text_model_features(model));
            }
            hr_text_work_destroy(work);
            hr_text_model_close(model);
            fseek(file, (long)i, SEEK_SET);
            fwrite(&bytes[i], 1, 1, file);
            fflush(file);
        }
        fclose(file);
    }
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_of_a_text),        cmocka_unit_test(limits_of_a_text),
        cmocka_unit_test(terms_of_a_text),        cmocka_unit_test(only_the_first_words_give_ngrams),
        cmocka_unit_test(weights_by_the_formula), cmocka_unit_test(words_get_half_of_the_places),
        cmocka_unit_test(rare_terms_are_dropped), cmocka_unit_test(hashed_terms),
        cmocka_unit_test(damaged_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
