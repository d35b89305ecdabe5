/* Each input format: what it means, and what is said about files that are wrong. */
#include "tests/dataset/fixture.h"

#include "dataset/dataset.h"

#define MAX_FILES 5

typedef struct raw_case {
    const char *files[MAX_FILES][2]; /* name, content */
    hr_status status;
    const char *message; /* NULL: fine */
} raw_case;

static hr_prepare_options options_for(const fixture *f, char input[2 * HR_PATH_MAX],
                                      char output[2 * HR_PATH_MAX])
{
    hr_prepare_options options = hr_prepare_options_default();
    options.input = fixture_path(f, "in", input);
    options.output = fixture_path(f, "out", output);
    options.min_df = 1;
    return options;
}

static void put_case(const fixture *f, const raw_case *c)
{
    char path[2 * HR_PATH_MAX], command[2 * HR_PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(f, "in", path));
    assert_int_equal(system(command), 0);
    for (int i = 0; i < MAX_FILES && c->files[i][0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "in/%s", c->files[i][0]);
        put_file(f, name, c->files[i][1]);
    }
}

#define X2                                                                                                   \
    {                                                                                                        \
        "trn_X.txt", "a\tb\nc\n"                                                                             \
    }
#define Y2                                                                                                   \
    {                                                                                                        \
        "trn_X_Y.txt", "2 3\n0:1 2:1\n1\n"                                                                   \
    }
#define S2                                                                                                   \
    {                                                                                                        \
        "train.txt", "2 4 3\n0,2 1:0.5 0:2\n 3:1\n"                                                          \
    }
#define J1                                                                                                   \
    "{\"uid\":\"u\",\"title\":\"red fox\",\"content\":\"runs\",\"target_ind\":[1,0],\"target_rel\":[1,1]}\n"
#define L2                                                                                                   \
    {                                                                                                        \
        "lbl.json", "{\"title\":\"zero\"}\n{\"title\":\"one\",\"content\":\"x\"}\n"                          \
    }

static const raw_case cases[] = {
    /* rawtext */
    {{X2, Y2}, HR_OK, NULL},
    {{X2, {"trn_X_Y.txt", "2 3\n0:1 2:x\n1\n"}},
     HR_ERR_DATA,
     "trn_X_Y.txt:2:7: found 'x', expected a label value"},
    {{X2, {"trn_X_Y.txt", "2 3\n0:1 3:1\n1\n"}},
     HR_ERR_DATA,
     "trn_X_Y.txt:2:5: label id is 3, expected less than 3"},
    {{X2, {"trn_X_Y.txt", "2 3\n-1:1\n1\n"}}, HR_ERR_DATA, "trn_X_Y.txt:2:1: found '-'"},
    {{X2, {"trn_X_Y.txt", "2 3\n0:-1\n1\n"}}, HR_ERR_DATA, "trn_X_Y.txt:2:3: the value of label 0 is -1"},
    {{X2, {"trn_X_Y.txt", "2 3\n0:1,2:1\n1\n"}},
     HR_ERR_DATA,
     "trn_X_Y.txt:2:4: found ',', expected ' ' after a label"},
    {{X2, {"trn_X_Y.txt", "2 3\n99999999999999999999\n1\n"}},
     HR_ERR_DATA,
     "trn_X_Y.txt:2:1: label id is too large"},
    {{X2, {"trn_X_Y.txt", "3 3\n0:1 2:1\n1\n"}},
     HR_ERR_DATA,
     "trn_X.txt:2:1: the file ends after 2 rows, expected 3"},
    {{X2, {"trn_X_Y.txt", "2 3\n0:1 2:1\n"}},
     HR_ERR_DATA,
     "trn_X_Y.txt:2:1: the file ends after 1 rows, expected 2"},
    {{X2, {"trn_X_Y.txt", "1 3\n0:1 2:1\n"}}, HR_ERR_DATA, "trn_X.txt:2:1: a line after row 1"},
    {{X2, {"trn_X_Y.txt", "2 3\n0:1\n1\n2\n"}}, HR_ERR_DATA, "trn_X_Y.txt:4:1: a line after row 2"},
    {{X2, {"trn_X_Y.txt", "2 3 4\n0:1 2:1\n1\n"}},
     HR_ERR_DATA,
     "trn_X_Y.txt:1:5: found '4', expected the end"},
    {{X2, {"trn_X_Y.txt", "2\n0:1 2:1\n1\n"}}, HR_ERR_DATA, "trn_X_Y.txt:1:2: found the end of the line"},
    {{X2, {"trn_X_Y.txt", ""}}, HR_ERR_DATA, "trn_X_Y.txt: the file is empty"},
    {{X2, {"trn_X_Y.txt", "2 0\n\n\n"}}, HR_ERR_DATA, "0 labels, expected 1 to 2^32 - 1"},
    {{X2, {"trn_X_Y.txt", "2 3\n\n\n"}}, HR_ERR_DATA, "2 training rows with 0 labels"},
    {{X2, Y2, {"Y.txt", "p\nq\n"}}, HR_ERR_DATA, "Y.txt: 2 lines, expected 3"},
    {{X2, Y2, {"tst_X_Y.txt", "1 3\n0\n"}}, HR_ERR_NOINPUT, "belong together"},
    {{X2, Y2, {"tst_X_Y.txt", "1 4\n0\n"}, {"tst_X.txt", "a\n"}},
     HR_ERR_DATA,
     "tst_X_Y.txt:1:1: the header says 4 labels"},
    {{X2, Y2, {"trn_filter_labels.txt", "0 1\n2 0\n"}},
     HR_ERR_DATA,
     "trn_filter_labels.txt:2:1: row of a filter pair is 2"},
    {{X2, Y2, {"trn_filter_labels.txt", "0 3\n"}},
     HR_ERR_DATA,
     "trn_filter_labels.txt:1:3: label of a filter pair is 3"},
    {{X2, Y2, {"trn_filter_labels.txt", "0 1 5\n"}}, HR_ERR_DATA, "trn_filter_labels.txt:1:5: found '5'"},
    {{{"trn_X_Xf.txt", "2 5\n0:1 4:2\n\n"}, Y2}, HR_OK, NULL},
    {{{"trn_X_Xf.txt", "2 5\n0:1 5:2\n\n"}, Y2}, HR_ERR_DATA, "trn_X_Xf.txt:2:5: feature id is 5"},
    {{{"trn_X_Xf.txt", "3 5\n0:1 4:2\n\n\n"}, Y2}, HR_ERR_DATA, "trn_X_Xf.txt: 3 rows of 5, expected 2 rows"},
    {{{"other.txt", ""}}, HR_ERR_NOINPUT, "no data set that we know"},
    /* one-file sparse text */
    {{S2}, HR_OK, NULL},
    {{S2, {"labels.txt", "a\nb\n"}}, HR_ERR_DATA, "labels.txt: 2 lines, expected 3"},
    {{S2, {"test.txt", "1 5 3\n0 1:1\n"}}, HR_ERR_DATA, "test.txt:1:1: the header says 5 features"},
    {{{"train.txt", "2 4 3\n0,3 1:1\n 3:1\n"}}, HR_ERR_DATA, "train.txt:2:3: label id is 3"},
    {{{"train.txt", "2 4 3\n0,1 4:1\n 3:1\n"}}, HR_ERR_DATA, "train.txt:2:5: feature id is 4"},
    {{{"train.txt", "2 4 3\n0;1 3:1\n 3:1\n"}}, HR_ERR_DATA, "train.txt:2:2: found ';'"},
    {{{"train.txt", "2 4 3\n0,1 3:1 3:1\n 3:1\n"}}, HR_ERR_DATA, "train.txt:2:1: feature 3 is given twice"},
    {{{"train.txt", "2 4 3\n0,1 3:nan\n 3:1\n"}},
     HR_ERR_DATA,
     "train.txt:2:7: found 'n', expected a feature value"},
    {{{"train.txt", "2 4 3\n0,1 3:1e99\n 3:1\n"}}, HR_ERR_DATA, "train.txt:2:7: feature value is '1e99'"},
    {{{"train.txt", "2 4 3\n0, 3:1\n 3:1\n"}},
     HR_ERR_DATA,
     "train.txt:2:3: found a blank, expected a label id"},
    {{{"train.txt", "2 4 3\n0,1 3:1\n"}}, HR_ERR_DATA, "train.txt:2:1: the file ends after 1 rows"},
    {{{"train.txt", "1 4 3\n0,1 3:1\n\n 2:1\n"}}, HR_ERR_DATA, "train.txt:4:2: a line after row 1"},
    {{{"train.txt", "1 4294967296 3\n0,1 3:1\n"}}, HR_ERR_DATA, "4294967296 features"},
    {{{"train.txt", "1 4 99999999999999999999\n0,1 3:1\n"}},
     HR_ERR_DATA,
     "train.txt:1:5: number of labels is too large"},
    /* label features in JSON */
    {{{"trn.json", J1 J1}, L2}, HR_OK, NULL},
    {{{"trn.json", J1 J1 "\n"}}, HR_OK, NULL},
    {{{"trn.json", J1 "\n \n"}, {"lbl.json", "{\"title\":\"a\"} \t\r\n{\"title\":\"b\"}\n\n"}}, HR_OK, NULL},
    {{{"trn.json", J1 "\n" J1}, L2}, HR_ERR_DATA, "trn.json:3:1: the line before this one is blank"},
    {{{"trn.json", J1}, {"lbl.json", "{\"title\":\"a\"}\n\n{\"title\":\"b\"}\n"}},
     HR_ERR_DATA,
     "lbl.json:3:1: the line before this one is blank"},
    {{{"trn.json", J1}, {"lbl.json", "\n{\"title\":\"a\"}\n{\"title\":\"b\"}\n"}},
     HR_ERR_DATA,
     "lbl.json:2:1: the line before this one is blank"},
    {{{"trn.json", J1 "{\"title\":\"x\",\"target_ind\":[0]} {}\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:32: found '{', expected the end of the line"},
    {{{"trn.json", J1 "{\"title\":\"x\",\"target_ind\":[0]}x\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:31: found 'x', expected the end of the line"},
    {{{"trn.json", J1 "{\"title\":\"x\",\"target_ind\":[2]}\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:1: label id 2"},
    {{{"trn.json", J1 "{\"title\":\"x\",\"target_ind\":[0.5]}\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:1: label id 0.5"},
    {{{"trn.json", J1 "{\"title\":\"x\",\"target_ind\":[\"0\"]}\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:1: label id"},
    {{{"trn.json", J1 "{\"title\":\"x\"}\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:1: found no array \"target_ind\""},
    {{{"trn.json", J1 "{\"title\":\"x\",\"target_ind\":[0],\"target_rel\":[]}\n"}, L2},
     HR_ERR_DATA,
     "trn.json:2:1: \"target_rel\" has 0 entries"},
    {{{"trn.json", J1 "{\"target_ind\":[0]}\n"}, L2}, HR_ERR_DATA, "trn.json:2:1: found neither a \"title\""},
    {{{"trn.json", J1 "{\"title\": \"x\",, }\n"}, L2}, HR_ERR_DATA, "trn.json:2:16: not valid JSON"},
    {{{"trn.json", J1 "[]\n"}, L2}, HR_ERR_DATA, "trn.json:2:1: a JSON value that is not an object"},
    {{{"trn.json", J1}, {"lbl.json", "{\"title\":\"a\"}\n{}\n"}}, HR_ERR_DATA, "lbl.json:2:1: found neither"},
    {{{"trn.json", ""}}, HR_ERR_DATA, "0 labels"},
};

static void good_and_bad_files(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(&f, input, output);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put_case(&f, &cases[i]);
        hr_status st = hr_prepare(f.ctx, &options);
        if (st != cases[i].status)
            fail_msg("case %zu: status %s (%s)", i, hr_status_name(st), hr_ctx_message(f.ctx));
        if (cases[i].message)
            assert_message(&f, cases[i].message);
        assert_no_leak(&f);
    }
    fixture_end(&f);
}

static void assert_row(const hr_csr *m, int64_t row, int count, const uint32_t *ids, const float *values)
{
    assert_int_equal(m->indptr[row + 1] - m->indptr[row], count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(m->indices[m->indptr[row] + i], ids[i]);
        if (values)
            assert_true(m->values[m->indptr[row] + i] == values[i]);
    }
}

static void assert_name(const hr_dataset *ds, int label, const char *name)
{
    const hr_strings *s = &ds->label_names;
    size_t length = (size_t)(s->offsets[label + 1] - s->offsets[label]);
    assert_int_equal(length, strlen(name));
    assert_memory_equal(s->bytes + s->offsets[label], name, length);
}

static hr_dataset *prepare_case(fixture *f, const raw_case *c)
{
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(f, input, output);
    put_case(f, c);
    assert_ok(f, hr_prepare(f->ctx, &options));
    hr_dataset *ds = NULL;
    assert_ok(f, hr_dataset_open(f->ctx, options.output, &ds));
    return ds;
}

static void sparse_text_means(void **state)
{
    (void)state;
    static const raw_case c = {{{"train.txt", "4 4 3\r\n2,0,2 1:0.5 0\n 3:1\n1\n2:1e-1 1:3\n"},
                                {"test.txt", "1 4 3\n0 1:1\n"},
                                {"labels.txt", "red\ngreen\n\n"}},
                               HR_OK,
                               NULL};
    fixture f;
    fixture_begin(&f);
    hr_dataset *ds = prepare_case(&f, &c);
    const hr_split_data *train = &ds->split[HR_SPLIT_TRAIN];
    assert_row(&train->labels, 0, 2, (uint32_t[]){0, 2}, NULL);
    assert_row(&train->features, 0, 2, (uint32_t[]){0, 1}, (float[]){1, 0.5f});
    assert_row(&train->labels, 1, 0, NULL, NULL);
    assert_row(&train->features, 1, 1, (uint32_t[]){3}, (float[]){1});
    assert_row(&train->labels, 2, 1, (uint32_t[]){1}, NULL);
    assert_row(&train->features, 2, 0, NULL, NULL);
    assert_row(&train->labels, 3, 0, NULL, NULL);
    assert_row(&train->features, 3, 2, (uint32_t[]){1, 2}, (float[]){3, 0.1f});
    assert_int_equal(ds->split[HR_SPLIT_TEST].rows, 1);
    assert_false(ds->split[HR_SPLIT_DEV].present);
    assert_name(ds, 0, "red");
    assert_name(ds, 2, "");
    assert_false(ds->has_text_model);
    hr_dataset_close(ds);
    fixture_end(&f);
}

static void raw_text_means(void **state)
{
    (void)state;
    static const raw_case c = {{X2,
                                {"trn_X_Y.txt", "2 3\n2:1 0:1.0 2 1:0\n1\n"},
                                {"Y.txt", "zero\tbody\none\nfox\n"},
                                {"trn_filter_labels.txt", "1 2\n1 0\n1 2\n"}},
                               HR_OK,
                               NULL};
    fixture f;
    fixture_begin(&f);
    hr_dataset *ds = prepare_case(&f, &c);
    const hr_split_data *train = &ds->split[HR_SPLIT_TRAIN];
    assert_row(&train->labels, 0, 2, (uint32_t[]){0, 2}, NULL);
    assert_row(&train->filter, 0, 0, NULL, NULL);
    assert_row(&train->filter, 1, 2, (uint32_t[]){0, 2}, NULL);
    assert_name(ds, 0, "zero");
    assert_true(ds->has_text_model);
    assert_int_equal(ds->label_features.rows, 3);
    hr_dataset_close(ds);
    fixture_end(&f);
}

static void json_lines_mean(void **state)
{
    (void)state;
    static const raw_case c = {{{"trn.json", J1 "{\"title\":\"a\\tb\",\"target_ind\":[1]}\n"},
                                {"tst.json", J1},
                                L2,
                                {"raw_text/filter_labels_test.txt", "0 1\n"}},
                               HR_OK,
                               NULL};
    fixture f;
    fixture_begin(&f);
    hr_dataset *ds = prepare_case(&f, &c);
    assert_int_equal(ds->labels, 2);
    assert_row(&ds->split[HR_SPLIT_TRAIN].labels, 0, 2, (uint32_t[]){0, 1}, NULL);
    assert_row(&ds->split[HR_SPLIT_TRAIN].labels, 1, 1, (uint32_t[]){1}, NULL);
    assert_row(&ds->split[HR_SPLIT_TEST].filter, 0, 1, (uint32_t[]){1}, NULL);
    assert_name(ds, 1, "one");
    hr_dataset_close(ds);
    fixture_end(&f);
}

static void vectors(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    static const raw_case c = {{Y2}, HR_OK, NULL};
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX], path[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(&f, input, output);
    put_case(&f, &c);
    float rows[] = {1, 2, 3, 4, 5, 6};
    hr_npy_writer writer;
    assert_ok(&f, hr_npy_begin(f.ctx, fixture_path(&f, "in/trn_X.npy", path), HR_NPY_F32, 2, 3, &writer));
    assert_ok(&f, hr_npy_write(&writer, rows, 6));
    assert_ok(&f, hr_npy_end(&writer));
    assert_ok(&f, hr_prepare(f.ctx, &options));
    hr_dataset *ds = NULL;
    assert_ok(&f, hr_dataset_open(f.ctx, options.output, &ds));
    assert_int_equal(ds->features, 3);
    assert_memory_equal(ds->split[HR_SPLIT_TRAIN].dense, rows, sizeof rows);
    hr_dataset_close(ds);

    rows[4] = (float)strtod("nan", NULL);
    assert_ok(&f, hr_npy_begin(f.ctx, path, HR_NPY_F32, 2, 3, &writer));
    assert_ok(&f, hr_npy_write(&writer, rows, 6));
    assert_ok(&f, hr_npy_end(&writer));
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_DATA);
    assert_message(&f, "element (1, 1) is not finite");
    fixture_end(&f);
}

static void one_file_and_options(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX], test[2 * HR_PATH_MAX], names[2 * HR_PATH_MAX];
    hr_prepare_options options = options_for(&f, input, output);
    put_file(&f, "in", "1 2 2\n0 1:1\n");
    put_file(&f, "t", "1 2 2\n1 1:1\n");
    put_file(&f, "n", "x\ny\n");
    options.test_input = fixture_path(&f, "t", test);
    options.label_names = fixture_path(&f, "n", names);
    assert_ok(&f, hr_prepare(f.ctx, &options));
    hr_dataset *ds = NULL;
    assert_ok(&f, hr_dataset_open(f.ctx, options.output, &ds));
    assert_int_equal(ds->split[HR_SPLIT_TEST].rows, 1);
    assert_name(ds, 1, "y");
    hr_dataset_close(ds);

    options.format = "csv";
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_USAGE);
    options.format = "lf";
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_NOINPUT);
    options.format = "rawtext";
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_NOINPUT);
    options.input = "/no/such/folder";
    assert_int_equal(hr_prepare(f.ctx, &options), HR_ERR_NOINPUT);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_and_bad_files),
        cmocka_unit_test(sparse_text_means),
        cmocka_unit_test(raw_text_means),
        cmocka_unit_test(json_lines_mean),
        cmocka_unit_test(vectors),
        cmocka_unit_test(one_file_and_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
