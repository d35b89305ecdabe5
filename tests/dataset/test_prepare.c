/* Preparing: the same bytes for any number of threads, nothing lost when a call fails, and a reader that
 * looks at what it opens. */
#include "tests/dataset/fixture.h"

#include "dataset/dataset.h"
#include "dataset/manifest.h"
#include "tokenizer/text_features.h"

/* A small set with every kind of file: texts, labels, filters, three splits. */
static void put_small_set(const fixture *f)
{
    static const char *const words[] = {"red",  "green", "Haus",  "straße", "tree",
                                        "日本", "xml",   "zebra", "oak",    "1999"};
    static char x[1 << 16], y[1 << 16];
    size_t nx = 0, ny = (size_t)snprintf(y, sizeof y, "120 6\n");
    for (unsigned r = 0; r < 120; r++) {
        for (unsigned w = 0; w < 3 + r % 5; w++)
            nx += (size_t)snprintf(x + nx, sizeof x - nx, "%s%s", w == 2 ? "\t" : " ",
                                   words[(r * 7 + w * w * 3) % 10]);
        nx += (size_t)snprintf(x + nx, sizeof x - nx, "\n");
        ny += (size_t)snprintf(y + ny, sizeof y - ny, "%u:1 %u:1\n", r % 6, (r / 6) % 6);
    }
    put_bytes(f, "in/trn_X.txt", x, nx);
    put_bytes(f, "in/trn_X_Y.txt", y, ny);
    put_file(f, "in/tst_X.txt", "red oak\ttree\n\nnothing known\n");
    put_file(f, "in/tst_X_Y.txt", "3 6\n0:1\n\n5:1\n");
    put_file(f, "in/dev_X.txt", "zebra\n");
    put_file(f, "in/dev_X_Y.txt", "1 6\n3:1\n");
    put_file(f, "in/Y.txt", "red\ngreen tree\nHaus\nXML\n\nzebra\n");
    put_file(f, "in/tst_filter_labels.txt", "2 1\n0 5\n");
}

static hr_prepare_options options_for(const fixture *f, char input[2 * HR_PATH_MAX],
                                      char output[2 * HR_PATH_MAX])
{
    hr_prepare_options options = hr_prepare_options_default();
    options.input = fixture_path(f, "in", input);
    options.output = fixture_path(f, "out", output);
    return options;
}

static void prepared_and_opened(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    put_small_set(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(&f, input, output);
    options.name = "small";
    assert_ok(&f, hr_prepare(f.ctx, &options));
    hr_dataset *ds = NULL;
    assert_ok(&f, hr_dataset_open(f.ctx, options.output, &ds));
    hr_dataset_info info;
    hr_dataset_describe(ds, &info);
    assert_string_equal(info.name, "small");
    assert_int_equal(info.labels, 6);
    assert_int_equal(info.rows[HR_SPLIT_TRAIN], 120);
    assert_int_equal(info.rows[HR_SPLIT_DEV], 1);
    assert_int_equal(info.rows[HR_SPLIT_TEST], 3);
    assert_int_equal(info.label_pairs[HR_SPLIT_TRAIN], 220); /* 20 of the 240 are pairs of equals */
    assert_int_equal(info.filter_pairs[HR_SPLIT_TEST], 2);
    assert_int_equal(strlen(info.fingerprint), 32);
    assert_true(info.has_text_model && info.has_label_names && info.has_label_features && !info.dense);
    assert_int_equal(ds->label_features.indptr[5] - ds->label_features.indptr[4],
                     0); /* the empty label text */

    /* the text model that lies there gives the same features again */
    hr_text_model *model = NULL;
    hr_text_work *work = NULL;
    assert_ok(&f, hr_text_model_open(f.ctx, options.output, &model));
    assert_ok(&f, hr_text_work_create(model, &work));
    const uint32_t *ids;
    const float *values;
    int64_t count = 0;
    assert_ok(&f, hr_text_features(model, work, "red oak\ttree", 12, &ids, &values, &count));
    const hr_csr *m = &ds->split[HR_SPLIT_TEST].features;
    assert_int_equal(count, m->indptr[1]);
    assert_true(count > 5);
    assert_memory_equal(ids, m->indices, (size_t)count * sizeof *ids);
    assert_memory_equal(values, m->values, (size_t)count * sizeof *values);
    hr_text_work_destroy(work);
    hr_text_model_close(model);
    hr_dataset_close(ds);
    fixture_end(&f);
}

static void any_number_of_threads(void **state)
{
    (void)state;
    char first[33] = "";
    const int threads[] = {1, 2, 7};
    for (int bins = 0; bins < 2; bins++) {
        for (int i = 0; i < 3; i++) {
            fixture f;
            fixture_begin_threads(&f, threads[i]);
            put_small_set(&f);
            char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
            hr_prepare_options options = options_for(&f, input, output);
            options.hash_bins = bins ? 257 : 0;
            options.vocabulary = 100;
            assert_ok(&f, hr_prepare(f.ctx, &options));
            hr_manifest manifest;
            assert_ok(&f, hr_manifest_read(f.ctx, options.output, &manifest));
            assert_int_equal(manifest.features, bins ? 257 : 100);
            if (i == 0)
                memcpy(first, manifest.fingerprint, sizeof first);
            assert_string_equal(manifest.fingerprint, first);
            fixture_end(&f);
        }
    }
}

static void only_a_data_set_is_replaced(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    put_small_set(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX], path[2 * HR_PATH_MAX], before[33];
    hr_prepare_options options = options_for(&f, input, output);
    put_file(&f, "out/precious.txt", "data");
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_CANTCREATE);
    assert_message(&f, "is not a prepared data set");
    assert_true(hr_path_exists(fixture_path(&f, "out/precious.txt", path)));

    options.output = fixture_path(&f, "new/deep/out/", output);
    assert_ok(&f, hr_prepare(f.ctx, &options));
    hr_manifest manifest;
    assert_ok(&f, hr_manifest_read(f.ctx, options.output, &manifest));
    memcpy(before, manifest.fingerprint, sizeof before);
    assert_ok(&f, hr_prepare(f.ctx, &options));
    assert_ok(&f, hr_manifest_read(f.ctx, options.output, &manifest));
    assert_string_equal(manifest.fingerprint, before);

    /* a failing run leaves the old one as it was, and nothing beside it */
    put_file(&f, "in/tst_X_Y.txt", "3 6\n0:1\n\n6:1\n");
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_DATA);
    assert_message(&f, "tst_X_Y.txt:4:1: label id is 6");
    assert_ok(&f, hr_manifest_read(f.ctx, options.output, &manifest));
    assert_string_equal(manifest.fingerprint, before);
    assert_false(hr_path_exists(fixture_path(&f, "new/deep/out.headroom-new", path)));
    assert_false(hr_path_exists(fixture_path(&f, "new/deep/out.headroom-old", path)));

    /* a change of one label changes the fingerprint */
    put_file(&f, "in/tst_X_Y.txt", "3 6\n1:1\n\n5:1\n");
    assert_ok(&f, hr_prepare(f.ctx, &options));
    assert_ok(&f, hr_manifest_read(f.ctx, options.output, &manifest));
    assert_string_not_equal(manifest.fingerprint, before);
    fixture_end(&f);
}

static void options_are_judged(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    put_small_set(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    const hr_prepare_options good = options_for(&f, input, output);
    hr_prepare_options bad[11];
    for (int i = 0; i < 11; i++)
        bad[i] = good;
    bad[0].input = NULL;
    bad[1].output = "";
    bad[2].vocabulary = 0;
    bad[3].min_df = 0;
    bad[4].max_words = 0;
    bad[5].word_ngrams = 9;
    bad[6].char_ngram_min = 6;
    bad[7].hash_bins = -1;
    bad[8].propensity_a = -1;
    bad[9].name = "";
    bad[10].propensity_b = 0;
    for (int i = 0; i < 11; i++) {
        assert_int_equal(hr_prepare(f.ctx, &bad[i]), HR_ERR_USAGE);
        assert_true(strlen(hr_ctx_message(f.ctx)) > 10);
    }
    bad[0] = good;
    bad[0].min_df = 1000;
    assert_int_equal(hr_prepare(f.ctx, &bad[0]), HR_ERR_DATA);
    assert_message(&f, "lower min_df");
    fixture_end(&f);
}

/* The k-th allocation or file call fails, for k = 1, 2, ... until there are no more. */
static void every_call_fails_once(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    put_small_set(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(&f, input, output);
    options.vocabulary = 50;
    assert_ok(&f, hr_prepare(f.ctx, &options));
    for (int what = 0; what < HR_FAULTS; what++) {
        /* closing a file that was only read may fail unnoticed, so one success does not mean the end */
        int64_t k = 0;
        for (int good = 0; good < 10; k += k < 300 ? 1 : 7) {
            hr_ctx_fail_next(f.ctx, (hr_fault)what, k + 1, false);
            hr_status st = hr_prepare(f.ctx, &options);
            hr_dataset *ds = NULL;
            if (st == HR_OK)
                st = hr_dataset_open(f.ctx, options.output, &ds);
            hr_ctx_fail_next(f.ctx, (hr_fault)what, 0, false);
            hr_dataset_close(ds);
            assert_no_leak(&f);
            good = st == HR_OK ? good + 1 : 0;
            if (st != HR_OK) {
                assert_int_not_equal(st, HR_ERR_BUG);
                assert_true(strlen(hr_ctx_message(f.ctx)) > 0);
                hr_manifest manifest; /* the old one is still whole */
                assert_ok(&f, hr_manifest_read(f.ctx, options.output, &manifest));
            }
        }
        assert_true(k > 100);
    }
    fixture_end(&f);
}

/* Overwrites bytes of an array of the prepared set. */
static void patch(const fixture *f, const char *name, long offset, const void *data, size_t bytes)
{
    char path[2 * HR_PATH_MAX];
    FILE *file = fopen(fixture_path(f, name, path), "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, offset, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, bytes, file), bytes);
    assert_int_equal(fclose(file), 0);
}

static void damaged_sets_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        long offset;
        uint64_t value;
        size_t bytes;
        const char *message;
    } cases[] = {
        {"out/train.labels.indices.npy", 128, 6, 4, "train.labels.indices.npy: row 0 does not rise below 6"},
        {"out/train.labels.indptr.npy", 128, 1, 8, "train.labels.indptr.npy: goes from 1"},
        {"out/train.labels.indptr.npy", 136, 1 << 20, 8, "train.labels.indptr.npy: falls after row"},
        {"out/train.labels.indptr.npy", 144, UINT64_MAX, 8, "train.labels.indptr.npy: falls after row"},
        {"out/test.features.indices.npy", 128, UINT32_MAX, 4, "test.features.indices.npy: row 0"},
        {"out/label.names.offsets.npy", 136, UINT64_MAX, 8, "label.names.offsets.npy: does not rise"},
        {"out/test.filter.indices.npy", 0, 0, 4, "test.filter.indices.npy: not a .npy file"},
        {"out/manifest.json", 0, 0, 4, "manifest.json: not valid JSON"},
    };
    fixture f;
    fixture_begin(&f);
    put_small_set(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX], path[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(&f, input, output);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[2 * HR_PATH_MAX + 16];
        snprintf(command, sizeof command, "rm -rf '%s'", options.output);
        assert_int_equal(system(command), 0);
        assert_ok(&f, hr_prepare(f.ctx, &options));
        patch(&f, cases[i].name, cases[i].offset, &cases[i].value, cases[i].bytes);
        hr_dataset *ds = NULL;
        assert_int_equal(hr_dataset_open(f.ctx, options.output, &ds), HR_ERR_DATA);
        assert_null(ds);
        assert_message(&f, cases[i].message);
        assert_no_leak(&f);
    }
    hr_dataset *ds = NULL;
    assert_int_equal(hr_dataset_open(f.ctx, fixture_path(&f, "nowhere", path), &ds), HR_ERR_NOINPUT);
    put_file(&f, "later/manifest.json", "{\"format\":\"headroom-dataset\",\"version\":2}");
    assert_int_equal(hr_dataset_open(f.ctx, fixture_path(&f, "later", path), &ds), HR_ERR_DATA);
    assert_message(&f, "data set version 2, this build reads 1");
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prepared_and_opened),         cmocka_unit_test(any_number_of_threads),
        cmocka_unit_test(only_a_data_set_is_replaced), cmocka_unit_test(options_are_judged),
        cmocka_unit_test(every_call_fails_once),       cmocka_unit_test(damaged_sets_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
