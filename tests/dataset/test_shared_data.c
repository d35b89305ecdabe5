/* The real data sets: the counts that their READMEs give are the counts we read. The folder is HR_DATA, or
 * ../shared/data beside the source tree; a set that is not there is skipped. */
#include "tests/dataset/fixture.h"

#include "dataset/dataset.h"

typedef struct known_set {
    const char *name;
    int64_t labels, features; /* features 0: texts */
    int64_t rows[HR_SPLITS], pairs[HR_SPLITS], filter[HR_SPLITS];
    int64_t once, at_least_2, at_least_10, most; /* labels by training frequency; once -1: not given */
} known_set;

static const known_set sets[] = {
    {.name = "bibtex",
     .labels = 159,
     .features = 1836,
     .rows = {4880, 0, 2515},
     .pairs = {11616, 0, 6146},
     .once = -1},
    {.name = "delicious",
     .labels = 983,
     .features = 500,
     .rows = {10791, 0, 5314},
     .pairs = {205034, 0, 101283},
     .once = -1},
    {.name = "lf-msdocs-links-144k",
     .labels = 144318,
     .rows = {116944, 0, 27868},
     .pairs = {559285, 0, 120135},
     .filter = {75378, 0, 18091},
     .once = 72667,
     .at_least_2 = 71651,
     .at_least_10 = 8427,
     .most = 2816},
    {.name = "tibkat-gnd-41k",
     .labels = 41218,
     .rows = {90452, 19949, 26168},
     .pairs = {257989, 58149, 71448},
     .once = 14764,
     .at_least_2 = 20352,
     .at_least_10 = 4964,
     .most = 1187},
    {.name = "yso-finna-en-25k",
     .labels = 24980,
     .rows = {588543, 0, 64853},
     .pairs = {1430969, 0, 158914},
     .once = 1435,
     .at_least_2 = 23545,
     .at_least_10 = -1,
     .most = 300},
};

static void check_frequencies(const fixture *f, const known_set *set, const hr_dataset *ds)
{
    const hr_csr *m = &ds->split[HR_SPLIT_TRAIN].labels;
    int64_t *times = HR_ARRAY0(f->ctx, HR_MEM_OTHER, int64_t, set->labels);
    assert_non_null(times);
    for (int64_t i = 0; i < hr_csr_nnz(m); i++)
        times[m->indices[i]]++;
    int64_t once = 0, two = 0, ten = 0, most = 0;
    for (int64_t l = 0; l < set->labels; l++) {
        once += times[l] == 1;
        two += times[l] >= 2;
        ten += times[l] >= 10;
        most = times[l] > most ? times[l] : most;
    }
    hr_free(f->ctx, times);
    assert_int_equal(once, set->once);
    assert_int_equal(two, set->at_least_2);
    assert_int_equal(most, set->most);
    if (set->at_least_10 >= 0)
        assert_int_equal(ten, set->at_least_10);
}

static void check_set(const fixture *f, const known_set *set, const char *input)
{
    char output[2 * HR_PATH_MAX];
    hr_prepare_options options = hr_prepare_options_default();
    options.input = input;
    options.output = fixture_path(f, set->name, output);
    options.hash_bins = 64; /* the texts are read, but little is kept of them */
    options.char_ngram_min = options.char_ngram_max = 0;
    options.word_ngrams = 1;
    options.max_words = 4;
    assert_ok(f, hr_prepare(f->ctx, &options));
    hr_dataset *ds = NULL;
    assert_ok(f, hr_dataset_open(f->ctx, options.output, &ds));
    hr_dataset_info info;
    hr_dataset_describe(ds, &info);
    assert_string_equal(info.name, set->name);
    assert_int_equal(info.labels, set->labels);
    assert_int_equal(info.features, set->features ? set->features : 64);
    assert_true(info.has_label_names);
    for (int split = 0; split < HR_SPLITS; split++) {
        assert_int_equal(info.rows[split], set->rows[split]);
        assert_int_equal(info.label_pairs[split], set->pairs[split]);
        assert_int_equal(info.filter_pairs[split], set->filter[split]);
    }
    if (set->once >= 0)
        check_frequencies(f, set, ds);
    hr_dataset_close(ds);
}

static void counts_of_the_readmes(void **state)
{
    (void)state;
    const char *folder = getenv("HR_DATA") ? getenv("HR_DATA") : HR_SOURCE_DIR "/../shared/data";
    fixture f;
    fixture_begin(&f);
    int found = 0;
    for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
        char input[HR_PATH_MAX];
        snprintf(input, sizeof input, "%s/%s", folder, sets[i].name);
        if (!hr_path_is_dir(input)) {
            print_message("%s: not there, skipped (HR_DATA names the folder of the data sets)\n", input);
            continue;
        }
        check_set(&f, &sets[i], input);
        found++;
    }
    fixture_end(&f);
    if (found == 0)
        skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_of_the_readmes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
