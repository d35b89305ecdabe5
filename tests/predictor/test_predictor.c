/* A model folder that answers texts: the ranking of hr_eval_model, the same bits whatever the batch and the threads,
 * and damage that is found when it is first touched. */
#include "tests/trainer/tiny.h"

#include "dtype/sigmoid.h"

#include <cjson/cJSON.h>

enum { K = 7 };

typedef struct bench {
    fixture f;
    char model[2 * HR_PATH_MAX], data[2 * HR_PATH_MAX];
    char *file;                      /* the test texts */
    const char *text[TINY_TEST_ROWS];
    size_t length[TINY_TEST_ROWS];
} bench;

static const char *const recipe = "head.lr=5 train.epochs=15 head.kahan_top=50 head.bias=per_label";

static int setup(void **state)
{
    bench *b = malloc(sizeof *b);
    char path[2 * HR_PATH_MAX];
    size_t n;
    tiny_begin(&b->f);
    tiny_run(&b->f, "run", recipe, 2, 0);
    fixture_path(&b->f, "run/model", b->model);
    fixture_path(&b->f, "data", b->data);
    b->file = tiny_slurp(fixture_path(&b->f, "in/tst_X.txt", path), &n);
    char *at = b->file;
    for (int i = 0; i < TINY_TEST_ROWS; i++) {
        char *end = strchr(at, '\n');
        b->text[i] = at;
        b->length[i] = (size_t)(end - at);
        at = end + 1;
    }
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bench *b = *state;
    fixture_end(&b->f);
    free(b->file);
    free(b);
    return 0;
}

static hr_predictor *open_model(const bench *b, hr_ctx *ctx)
{
    hr_predictor *p = NULL;
    check_ok(ctx, hr_predictor_open(ctx, b->model, true, &p));
    return p;
}

/* ---- against hr_eval_model ---- */

static void test_like_eval(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    char saved[2 * HR_PATH_MAX];
    hr_metrics m, from_file;
    hr_eval_options o = hr_eval_options_default();
    o.top_k = K;
    o.save_predictions = fixture_path(&b->f, "saved.txt", saved);
    check_ok(ctx, hr_eval_model(ctx, b->model, b->data, &o, &m));
    assert_int_equal(m.rows, TINY_TEST_ROWS);
    assert_true(m.precision[0] > 0.5); /* it has learnt something */
    hr_predictor *p = open_model(b, ctx);
    uint32_t ids[TINY_TEST_ROWS * K];
    float scores[TINY_TEST_ROWS * K];
    check_ok(ctx, hr_predictor_texts(p, TINY_TEST_ROWS, b->text, b->length, K, ids, scores));
    hr_predictor_close(p);
    FILE *file = fopen(saved, "r");
    assert_non_null(file);
    for (int i = 0; i < TINY_TEST_ROWS * K; i++) {
        unsigned id;
        float logit;
        assert_int_equal(fscanf(file, "%u:%f", &id, &logit), 2);
        assert_int_equal(ids[i], id);
        assert_true(scores[i] == hr_sigmoid(logit));
        assert_true(scores[i] >= 0 && scores[i] <= 1);
        assert_true(i % K == 0 || scores[i] <= scores[i - 1]);
    }
    fclose(file);
    o.save_predictions = NULL;
    check_ok(ctx, hr_eval_file(ctx, saved, b->data, &o, &from_file));
    assert_memory_equal(&m, &from_file, sizeof m);
    check_ok(ctx, hr_eval_file(ctx, saved, b->data, NULL, &from_file)); /* the defaults */
    check_ok(ctx, hr_baseline_run(ctx, b->data, HR_BASELINE_KNN, 0, NULL, &from_file));
}

/* Scores of the first text: `bce` says whether they are probabilities or the logits that evaluation saves. */
static void compare_scores(bench *b, const char *model, const char *data, bool bce)
{
    hr_ctx *ctx = b->f.ctx;
    char saved[2 * HR_PATH_MAX];
    hr_metrics m;
    hr_eval_options o = hr_eval_options_default();
    o.save_predictions = fixture_path(&b->f, "saved.txt", saved);
    check_ok(ctx, hr_eval_model(ctx, model, data, &o, &m));
    hr_predictor *p = NULL;
    uint32_t ids[5], id;
    float scores[5], logit;
    check_ok(ctx, hr_predictor_open(ctx, model, false, &p));
    check_ok(ctx, hr_predictor_texts(p, 1, b->text, b->length, 5, ids, scores));
    hr_predictor_close(p);
    FILE *file = fopen(saved, "r");
    assert_non_null(file);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(fscanf(file, "%u:%f", &id, &logit), 2);
        assert_int_equal(ids[i], id);
        assert_true(scores[i] == (bce ? hr_sigmoid(logit) : logit));
    }
    fclose(file);
}

/* The loss is a part of the model: margins come out as they are. Folders that do not say are BCE. */
static void test_losses(void **state)
{
    bench *b = *state;
    char model[2 * HR_PATH_MAX];
    hr_predictor *p = NULL;
    compare_scores(b, b->model, b->data, true);
    tiny_edit_manifest(&b->f, "run/model", "\"head.loss\"", "\"head.lost\"");
    compare_scores(b, b->model, b->data, true);
    tiny_run(&b->f, "hinge", "loss.type=squared_hinge head.lr=0.05 train.epochs=1", 2, 0);
    compare_scores(b, fixture_path(&b->f, "hinge/model", model), b->data, false);
    tiny_edit_manifest(&b->f, "hinge/model", "squared_hinge", "cubic");
    assert_int_equal(hr_predictor_open(b->f.ctx, model, false, &p), HR_ERR_DATA);
    assert_message(&b->f, "expected bce or squared_hinge");
}

/* A head over the features themselves: the ranking of the evaluation, whatever the batch, and a model of no other kind. */
static void test_identity(void **state)
{
    bench *b = *state;
    char model[2 * HR_PATH_MAX];
    hr_metrics m;
    hr_predictor *p = NULL;
    hr_predictor_info info;
    tiny_run(&b->f, "sparse", "encoder.type=identity-sparse head.family=fan_in head.fan_in=25 head.lr=20 train.epochs=15 "
             "head.dtype=e4m3 encoder.dropout=0", 2, 0);
    fixture_path(&b->f, "sparse/model", model);
    compare_scores(b, model, b->data, true);
    check_ok(b->f.ctx, hr_eval_model(b->f.ctx, model, b->data, NULL, &m));
    assert_true(m.precision[0] > 0.4);
    check_ok(b->f.ctx, hr_predictor_open(b->f.ctx, model, true, &p));
    hr_predictor_describe(p, &info);
    assert_true(info.takes_text && info.labels == TINY_LABELS);
    uint32_t ids[TINY_TEST_ROWS * K], one[K];
    float scores[TINY_TEST_ROWS * K], own[K];
    check_ok(b->f.ctx, hr_predictor_texts(p, TINY_TEST_ROWS, b->text, b->length, K, ids, scores));
    for (int i = TINY_TEST_ROWS - 1; i >= 0; i--) {
        check_ok(b->f.ctx, hr_predictor_texts(p, 1, &b->text[i], &b->length[i], K, one, own));
        assert_memory_equal(one, ids + i * K, sizeof one);
        assert_memory_equal(own, scores + i * K, sizeof own);
    }
    hr_predictor_close(p);
    tiny_edit_manifest(&b->f, "sparse/model", "identity-sparse", "identity-sparze");
    assert_int_equal(hr_predictor_open(b->f.ctx, model, false, &p), HR_ERR_DATA);
    assert_message(&b->f, "expected bow, dense or identity-sparse");
}

/* A model that says it takes dense vectors, as wide as the sparse data set it is given. */
static void test_dense_encoder(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX], more[2 * HR_PATH_MAX + 64], model[2 * HR_PATH_MAX];
    hr_prepare_options o = hr_prepare_options_default();
    o.input = fixture_path(&b->f, "in", input);
    o.output = fixture_path(&b->f, "hashed", output);
    o.hash_bins = 32;
    check_ok(ctx, hr_prepare(ctx, &o));
    snprintf(more, sizeof more, "dataset=%s train.epochs=1", output);
    tiny_run(&b->f, "hashed_run", more, 2, 0);
    tiny_edit_manifest(&b->f, "hashed_run/model", "\"bow\"", "\"dense\"");
    hr_metrics m;
    hr_predictor *p = NULL;
    assert_int_equal(hr_eval_model(ctx, fixture_path(&b->f, "hashed_run/model", model), output, NULL, &m), HR_ERR_DATA);
    assert_message(&b->f, "the model takes dense features");
    assert_int_equal(hr_predictor_open(ctx, model, false, &p), HR_ERR_DATA);
    assert_message(&b->f, "an encoder of dense vectors");
}

/* A host program with a decimal comma: log and meta stay JSON, saved predictions are read back. */
static void test_comma_locale(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    if (!setlocale(LC_ALL, "de_DE.UTF-8"))
        skip();
    char saved[2 * HR_PATH_MAX], path[2 * HR_PATH_MAX], *save = NULL;
    size_t n;
    int lines = 0;
    tiny_run(&b->f, "comma", "loss.every=1 train.epochs=2", 2, 3);
    char *text = tiny_slurp(fixture_path(&b->f, "comma/log.jsonl", path), &n);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
        cJSON *json = cJSON_Parse(line);
        if (!json)
            fail_msg("not JSON: %s", line);
        cJSON_Delete(json);
    }
    free(text);
    assert_true(lines > 10);
    hr_metrics m, from_file;
    hr_eval_options o = hr_eval_options_default();
    o.save_predictions = fixture_path(&b->f, "saved.txt", saved);
    check_ok(ctx, hr_eval_model(ctx, fixture_path(&b->f, "comma/model", path), b->data, &o, &m));
    o.save_predictions = NULL;
    check_ok(ctx, hr_eval_file(ctx, saved, b->data, &o, &from_file));
    assert_memory_equal(&m, &from_file, sizeof m);
    setlocale(LC_ALL, "C");
    tiny_run(&b->f, "point", "loss.every=1 train.epochs=2", 2, 0);
    tiny_same_folder(&b->f, "comma/model", "point/model");
}

/* The report of a run that is complete, asked for again. */
static void test_report(void **state)
{
    bench *b = *state;
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(3, &log);
    hr_train_report r;
    check_ok(ctx, tiny_train(&b->f, ctx, "run", recipe, &r));
    assert_true(r.finished && r.best_metric > 0.5 && r.best_metric <= 1 && r.best_step > 0);
    check_ctx_empty(ctx);
}

/* ---- same bits ---- */

static void test_batches_and_threads(void **state)
{
    bench *b = *state;
    enum { ROWS = 3 * TINY_TEST_ROWS };
    const char *text[ROWS];
    size_t length[ROWS];
    uint32_t first[ROWS * K], ids[ROWS * K];
    float first_scores[ROWS * K], scores[ROWS * K];
    for (int i = 0; i < ROWS; i++) {
        text[i] = b->text[i * 11 % TINY_TEST_ROWS];
        length[i] = b->length[i * 11 % TINY_TEST_ROWS];
    }
    static const struct {
        int threads;
        int64_t rows;
    } ways[] = {{1, ROWS}, {1, 1}, {2, 3}, {3, 64}, {7, 65}, {2, 33}};
    for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
        hr_ctx *ctx = check_ctx(ways[w].threads, "auto");
        hr_predictor *p = open_model(b, ctx);
        for (int64_t at = 0; at < ROWS; at += ways[w].rows) {
            const int64_t n = ROWS - at < ways[w].rows ? ROWS - at : ways[w].rows;
            check_ok(ctx, hr_predictor_texts(p, n, text + at, length + at, K, ids + at * K, scores + at * K));
        }
        hr_predictor_close(p);
        check_ctx_empty(ctx);
        if (w == 0) {
            memcpy(first, ids, sizeof first);
            memcpy(first_scores, scores, sizeof first_scores);
        }
        assert_memory_equal(ids, first, sizeof first);
        assert_memory_equal(scores, first_scores, sizeof scores);
    }
    /* the answer for the best k does not depend on k */
    hr_predictor *p = open_model(b, b->f.ctx);
    for (int k = 1; k < K; k++) {
        check_ok(b->f.ctx, hr_predictor_texts(p, 1, text, length, k, ids, scores));
        assert_memory_equal(ids, first, (size_t)k * sizeof *ids);
        assert_memory_equal(scores, first_scores, (size_t)k * sizeof *scores);
    }
    hr_predictor_close(p);
}

/* ---- description, names, arguments ---- */

static void test_describe(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    char run[2 * HR_PATH_MAX];
    hr_predictor *p = NULL;
    hr_predictor_info info;
    check_ok(ctx, hr_predictor_open(ctx, fixture_path(&b->f, "run", run), false, &p));
    hr_predictor_describe(p, &info);
    assert_int_equal(info.labels, TINY_LABELS);
    assert_int_equal(info.width, 32);
    assert_string_equal(info.head_dtype, "e4m3");
    assert_true(info.takes_text && info.mapped > TINY_LABELS * 32);
    for (uint32_t l = 0; l < TINY_LABELS; l += 997) {
        char expected[32];
        size_t n = 0;
        const char *name = hr_predictor_label(p, l, &n);
        snprintf(expected, sizeof expected, "label%u topic%u", l, l % 40);
        assert_int_equal(n, strlen(expected));
        assert_memory_equal(name, expected, n);
    }
    size_t n = 1;
    assert_string_equal(hr_predictor_label(p, TINY_LABELS, &n), "");
    assert_int_equal(n, 0);
    assert_string_equal(hr_predictor_label(p, UINT32_MAX, NULL), "");
    hr_predictor_close(p);
}

static void test_arguments(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    hr_predictor *p = open_model(b, ctx);
    uint32_t *ids = malloc(TINY_LABELS * sizeof *ids);
    float *scores = malloc(TINY_LABELS * sizeof *scores);
    assert_int_equal(hr_predictor_texts(p, 1, b->text, b->length, 0, ids, scores), HR_ERR_USAGE);
    assert_int_equal(hr_predictor_texts(p, 1, b->text, b->length, TINY_LABELS + 1, ids, scores), HR_ERR_USAGE);
    assert_non_null(strstr(hr_ctx_message(ctx), "expected 1 to 3000"));
    check_ok(ctx, hr_predictor_texts(p, 0, NULL, NULL, 1, ids, scores));
    /* all labels: each once */
    check_ok(ctx, hr_predictor_texts(p, 1, b->text, b->length, TINY_LABELS, ids, scores));
    uint8_t *seen = calloc(TINY_LABELS, 1);
    for (int i = 0; i < TINY_LABELS; i++) {
        assert_true(ids[i] < TINY_LABELS && !seen[ids[i]]);
        seen[ids[i]] = 1;
    }
    /* texts that nobody expects */
    char *large = malloc(1 << 20);
    memset(large, 'x', 1 << 20);
    const char *odd[] = {"", "\xff\xfe\x80", "\0\0\0", "qqq", large};
    const size_t lengths[] = {0, 3, 3, 3, 1 << 20};
    check_ok(ctx, hr_predictor_texts(p, 5, odd, lengths, 3, ids, scores));
    for (int i = 3; i < 12; i++) /* without a known word every text is the empty one */
        assert_int_equal(ids[i], ids[i % 3]);
    free(large);
    free(seen);
    free(ids);
    free(scores);
    hr_predictor_close(p);
    assert_int_equal(hr_predictor_open(ctx, b->data, false, &p), HR_ERR_DATA);
    assert_null(p);
    assert_int_equal(hr_predictor_open(ctx, "/nonexistent", false, &p), HR_ERR_NOINPUT);
    /* a checkpoint of a run can be read as a model, but holds no text model */
    hr_metrics m;
    assert_int_equal(hr_eval_model(ctx, b->model, "/nonexistent", NULL, &m), HR_ERR_NOINPUT);
    assert_int_equal(hr_eval_model(ctx, "/nonexistent", b->data, NULL, &m), HR_ERR_NOINPUT);
}

/* A model of sparse vectors takes no texts; it is evaluated all the same. */
static void test_vectors(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX], more[2 * HR_PATH_MAX + 64], model[2 * HR_PATH_MAX];
    put_file(&b->f, "sparse/train.txt", "4 3 5\n0,1 0:1 1:.5\n2 1:1\n3 2:1\n0,4 0:.5 2:.5\n");
    put_file(&b->f, "sparse/test.txt", "2 3 5\n0 0:1\n2 1:1\n");
    hr_prepare_options o = hr_prepare_options_default();
    o.input = fixture_path(&b->f, "sparse", input);
    o.output = fixture_path(&b->f, "vectors", output);
    check_ok(ctx, hr_prepare(ctx, &o));
    snprintf(more, sizeof more, "dataset=%s train.validation=0 train.epochs=40", output);
    tiny_run(&b->f, "sparse_run", more, 2, 0);
    hr_predictor *p = NULL;
    hr_predictor_info info;
    uint32_t ids[5];
    float scores[5];
    check_ok(ctx, hr_predictor_open(ctx, fixture_path(&b->f, "sparse_run/model", model), true, &p));
    hr_predictor_describe(p, &info);
    assert_false(info.takes_text);
    assert_string_equal(hr_predictor_label(p, 0, NULL), "");
    assert_int_equal(hr_predictor_texts(p, 1, b->text, b->length, 1, ids, scores), HR_ERR_USAGE);
    assert_non_null(strstr(hr_ctx_message(ctx), "takes vectors"));
    hr_predictor_close(p);
    hr_metrics m;
    check_ok(ctx, hr_eval_model(ctx, model, output, NULL, &m));
    assert_true(m.precision[0] == 1);
    /* a model and a data set that do not belong together */
    assert_int_equal(hr_eval_model(ctx, model, b->data, NULL, &m), HR_ERR_DATA);
    assert_non_null(strstr(hr_ctx_message(ctx), "trained on other data"));
}

/* ---- damage ---- */

static void flip(const bench *b, const char *name, long offset)
{
    char relative[128], path[2 * HR_PATH_MAX];
    snprintf(relative, sizeof relative, "run/model/%s", name);
    FILE *file = fopen(fixture_path(&b->f, relative, path), "r+b");
    assert_non_null(file);
    fseek(file, offset, offset < 0 ? SEEK_END : SEEK_SET);
    const long at = ftell(file);
    const int c = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(c ^ 16, file);
    fclose(file);
}

static void test_damage(void **state)
{
    bench *b = *state;
    hr_ctx *ctx = b->f.ctx;
    static const char *const files[] = {"manifest.json", "model.safetensors", "head-00000-of-00001.safetensors", "text.json",
                                        "label.names.bytes.npy", "label.names.offsets.npy"};
    hr_predictor *p = NULL;
    hr_metrics m;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        flip(b, files[i], -2);
        assert_int_equal(hr_predictor_open(ctx, b->model, false, &p), HR_ERR_DATA);
        assert_null(p);
        assert_message(&b->f, files[i]);
        flip(b, files[i], -2);
    }
    /* 3000 rows of 400 floats: blocks that opening does not need are not read, and found when they are */
    char run[2 * HR_PATH_MAX], command[4 * HR_PATH_MAX + 64];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(&b->f, "run", run));
    assert_int_equal(system(command), 0);
    tiny_run(&b->f, "run", "head.dtype=f32 encoder.dim=400 train.epochs=1", 2, 0);
    flip(b, "head-00000-of-00001.safetensors", 3 << 20);
    check_ok(ctx, hr_predictor_open(ctx, b->model, false, &p));
    uint32_t ids[K];
    float scores[K];
    assert_int_equal(hr_predictor_texts(p, 1, b->text, b->length, K, ids, scores), HR_ERR_DATA);
    assert_message(&b->f, "head-00000-of-00001.safetensors: damaged: block of 1048576 bytes at offset 3145728");
    hr_predictor_close(p);
    assert_int_equal(hr_predictor_open(ctx, b->model, true, &p), HR_ERR_DATA);
    assert_int_equal(hr_eval_model(ctx, b->model, b->data, NULL, &m), HR_ERR_DATA);
}

static void test_faults(void **state)
{
    bench *b = *state;
    for (int what = 0; what < HR_FAULTS; what++) {
        hr_status st = HR_ERR_BUG;
        int k = 1;
        for (; st != HR_OK; k++) {
            uint32_t ids[2 * K];
            float scores[2 * K];
            hr_predictor *p = NULL;
            hr_ctx *ctx = check_ctx(2, "auto");
            hr_ctx_fail_next(ctx, (hr_fault)what, k, false);
            st = hr_predictor_open(ctx, b->model, false, &p);
            assert_true((st == HR_OK) == (p != NULL));
            if (st == HR_OK)
                st = hr_predictor_texts(p, 2, b->text, b->length, K, ids, scores);
            assert_true(st == HR_OK || strlen(hr_ctx_message(ctx)) > 10);
            if (p && st != HR_OK) /* it can be asked again */
                check_ok(ctx, hr_predictor_texts(p, 2, b->text, b->length, K, ids, scores));
            hr_predictor_close(p);
            check_ctx_empty(ctx);
            assert_true(k < 1000);
        }
        assert_true(k > 10);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(test_like_eval), test(test_report), test(test_batches_and_threads), test(test_describe),
        test(test_arguments), test(test_vectors),           test(test_damage),              test(test_faults),
        test(test_losses),    test(test_identity),         test(test_dense_encoder),     test(test_comma_locale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
