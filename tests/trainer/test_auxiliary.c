/* The auxiliary head over groups of labels: its groups, its targets, its weight, and that it is gone when it is gone. */
#include "tests/trainer/tiny.h"

#include "base/rng.h"
#include "base/sort.h"
#include "trainer/auxiliary.h"

/* ---- weight ---- */

static hr_auxiliary make(const fixture *f, const char *more, int64_t steps)
{
    hr_config *config = tiny_config(f, f->ctx, "run", more);
    const hr_auxiliary aux = hr_auxiliary_make(config, steps);
    hr_config_destroy(config);
    return aux;
}

static void test_weight(void **state)
{
    const fixture *f = *state;
    hr_auxiliary aux = make(f, "aux.weight=0.4 aux.until=0.1 aux.lr=3", 100);
    assert_int_equal(aux.until, 10);
    assert_true(aux.lr == 3);
    assert_true(hr_auxiliary_weight(&aux, 0) == 0.4);
    assert_true(fabs(hr_auxiliary_weight(&aux, 5) - 0.2) < 1e-15);
    assert_true(fabs(hr_auxiliary_weight(&aux, 2) - 0.2 * (1 + cos(0.2 * acos(-1)))) < 1e-15);
    for (int64_t step = 1; step < 10; step++)
        assert_true(hr_auxiliary_weight(&aux, step) < hr_auxiliary_weight(&aux, step - 1) && hr_auxiliary_weight(&aux, step) > 0);
    assert_true(hr_auxiliary_weight(&aux, 10) == 0 && hr_auxiliary_weight(&aux, 1000) == 0);
    assert_int_equal(make(f, "aux.weight=0.4 aux.until=0.07", 100).until, 7);
    assert_int_equal(make(f, "aux.weight=0.4 aux.until=0.001", 100).until, 1);
    assert_int_equal(make(f, "aux.weight=0.4 aux.until=1", 100).until, 100);
    assert_int_equal(make(f, "aux.weight=0.4 aux.until=0", 100).until, 0);
    aux = make(f, "aux.weight=0 aux.until=0.5", 100);
    assert_int_equal(aux.until, 0);
    assert_true(hr_auxiliary_weight(&aux, 0) == 0);
}

/* ---- targets ---- */

enum { LABELS = 700, ROWS = 33, GROUPS = 50, MOST = ROWS * LABELS / 4 };

/* Positives as hr_batch_fill leaves them: one in 40 of all pairs. */
static int64_t draw_positives(uint32_t seed, uint64_t *positives)
{
    int64_t n = 0;
    for (uint32_t l = 0; l < LABELS; l++)
        for (uint32_t b = 0; b < ROWS; b++)
            if (hr_rng_draw16(hr_rng_make(seed, 0, 0, 0), l, b) < 65536 / 40)
                positives[n++] = (uint64_t)l << 32 | b;
    return n;
}

static void test_targets(void **state)
{
    (void)state;
    static uint64_t positives[MOST], scratch[MOST], targets[MOST];
    static uint32_t external[LABELS], group[LABELS];
    for (uint32_t seed = 0; seed < 20; seed++) {
        static bool wanted[GROUPS][ROWS];
        memset(wanted, 0, sizeof wanted);
        for (uint32_t l = 0; l < LABELS; l++) {
            external[l] = (l * 37 + seed) % LABELS;
            const uint32_t draw = hr_rng_draw16(hr_rng_make(seed, 1, 0, 0), l, 0);
            group[l] = draw % 5 ? draw % GROUPS : HR_NO_GROUP;
        }
        hr_batch batch = {.rows = ROWS, .positives = positives, .scratch = scratch, .num_positives = draw_positives(seed, positives)};
        hr_auxiliary aux = {.group = group, .groups = GROUPS, .positives = targets, .labels = LABELS};
        int64_t expected = 0;
        for (int64_t i = 0; i < batch.num_positives; i++) {
            const uint32_t g = group[external[positives[i] >> 32]];
            if (g != HR_NO_GROUP)
                wanted[g][positives[i] & UINT32_MAX] = true;
        }
        hr_auxiliary_targets(&aux, &batch, external);
        for (uint64_t g = 0; g < GROUPS; g++)
            for (uint64_t b = 0; b < ROWS; b++)
                if (wanted[g][b]) {
                    assert_true(expected < aux.num_positives);
                    assert_true(targets[expected++] == (g << 32 | b));
                }
        assert_int_equal(aux.num_positives, expected);
        assert_true(expected > 100 && expected < batch.num_positives);
    }
    hr_batch none = {.rows = ROWS, .positives = positives, .scratch = scratch};
    hr_auxiliary aux = {.group = group, .groups = GROUPS, .positives = targets, .labels = LABELS};
    hr_auxiliary_targets(&aux, &none, external);
    assert_int_equal(aux.num_positives, 0);
}

/* ---- groups ---- */

static hr_dataset *open_data(const fixture *f, hr_ctx *ctx)
{
    char path[2 * HR_PATH_MAX];
    hr_dataset *ds;
    check_ok(ctx, hr_dataset_open(ctx, fixture_path(f, "data", path), &ds));
    return ds;
}

static void test_clusters(void **state)
{
    const fixture *f = *state;
    static const struct {
        const char *keys;
        int64_t size;
    } cases[] = {{"", 64}, {"aux.group=7", 7}, {"aux.group=1", 1}, {"aux.group=100000", 100000}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t first[TINY_LABELS];
        for (int threads = 1; threads < 4; threads++) {
            tiny_log log;
            hr_ctx *ctx = tiny_ctx(threads, &log);
            hr_dataset *ds = open_data(f, ctx);
            hr_config *config = tiny_config(f, ctx, "run", cases[i].keys);
            uint32_t *group, members[TINY_LABELS] = {0};
            int64_t groups, counted;
            check_ok(ctx, hr_groups_count(config, ds, &counted));
            check_ok(ctx, hr_groups_make(config, ds, 1 << 20, &group, &groups));
            assert_int_equal(groups, (TINY_LABELS + cases[i].size - 1) / cases[i].size);
            assert_int_equal(counted, groups);
            for (int l = 0; l < TINY_LABELS; l++) {
                assert_true(group[l] < groups);
                members[group[l]]++;
            }
            for (int64_t g = 0; g < groups; g++)
                assert_int_equal(members[g], g + 1 < groups ? cases[i].size : TINY_LABELS - (groups - 1) * cases[i].size);
            if (threads == 1)
                memcpy(first, group, sizeof first);
            assert_memory_equal(first, group, sizeof first);
            hr_free(ctx, group);
            hr_config_destroy(config);
            hr_dataset_close(ds);
            check_ctx_empty(ctx);
        }
    }
}

/* "KEYS aux.groups=FOLDER/groups.txt" */
static const char *with_file(const fixture *f, const char *keys, char out[1024])
{
    snprintf(out, 1024, "%.100s aux.groups=%.900s/groups.txt", keys, f->folder);
    return out;
}

/* The table of a file, or the message why there is none. */
static hr_status read_file(const fixture *f, const char *text, uint32_t **group, int64_t *groups)
{
    char keys[1024];
    put_file(f, "groups.txt", text);
    hr_dataset *ds = open_data(f, f->ctx);
    hr_config *config = tiny_config(f, f->ctx, "run", with_file(f, "", keys));
    int64_t counted = 0;
    hr_status st = hr_groups_count(config, ds, &counted);
    if (st == HR_OK)
        st = hr_groups_make(config, ds, 1 << 20, group, groups);
    if (st == HR_OK)
        assert_int_equal(counted, *groups);
    assert_int_equal(hr_groups_memory(config, ds, 1 << 20), 0);
    hr_config_destroy(config);
    hr_dataset_close(ds);
    return st;
}

static void test_file(void **state)
{
    const fixture *f = *state;
    static const char *const texts[] = {"5 7\n\n2999,0 , 3\r\n \t\n8", "\n5\t7 \n2999 0 3\n8\n", "7, 5\n3,0,2999\n  8  \n\n"};
    static const uint32_t members[][2] = {{5, 0}, {7, 0}, {2999, 1}, {0, 1}, {3, 1}, {8, 2}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        uint32_t *group, expected[TINY_LABELS];
        int64_t groups;
        check_ok(f->ctx, read_file(f, texts[i], &group, &groups));
        assert_int_equal(groups, 3);
        memset(expected, 0xff, sizeof expected);
        for (size_t j = 0; j < sizeof members / sizeof *members; j++)
            expected[members[j][0]] = members[j][1];
        assert_memory_equal(group, expected, sizeof expected);
        hr_free(f->ctx, group);
    }
}

static void test_file_errors(void **state)
{
    const fixture *f = *state;
    static const char *const cases[][2] = {
        {"1 2\n3 x\n", "groups.txt:2:3: found 'x', expected a label id"},
        {"1 2\n\n3 3000\n", "groups.txt:3:3: label id is 3000, expected less than 3000"},
        {"1 2\n4x\n", "groups.txt:2:2: found 'x', expected a label id"},
        {"1,,2\n", "groups.txt:1:3: found ',', expected a label id"},
        {",1\n", "groups.txt:1:1: found ',', expected a label id"},
        {"1, \r\n", "groups.txt:1:4: found the end of the line after a comma"},
        {"-1\n", "groups.txt:1:1: found '-', expected a label id"},
        {"1\n2 3\n4 1\n", "groups.txt:3:3: label 1 is in group 1 already"},
        {"1\n2 2\n", "groups.txt:2:3: label 2 is in group 2 already"},
        {"", "groups.txt: found no groups"},
        {" \n\t\r\n\n", "groups.txt: found no groups"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t *group = NULL;
        int64_t groups;
        assert_int_equal(read_file(f, cases[i][0], &group, &groups), HR_ERR_DATA);
        assert_message(f, cases[i][1]);
        assert_null(group);
    }
    hr_plan plan;
    hr_config *config = tiny_config(f, f->ctx, "run", "aux.weight=0.4 aux.groups=/nonexistent");
    assert_int_equal(hr_plan_make(f->ctx, config, &plan), HR_ERR_NOINPUT);
    assert_message(f, "/nonexistent");
    hr_config_destroy(config);
    config = tiny_config(f, f->ctx, "run", "aux.weight=0.4 aux.dtype=f33");
    assert_int_equal(hr_plan_make(f->ctx, config, &plan), HR_ERR_CONFIG);
    assert_message(f, "aux.dtype: unknown storage type 'f33'");
    hr_config_destroy(config);
}

/* ---- in a run of 12 steps ---- */

static char *read_log(const fixture *f, const char *run)
{
    char path[2 * HR_PATH_MAX], relative[64];
    size_t n;
    snprintf(relative, sizeof relative, "%s/log.jsonl", run);
    char *text = tiny_slurp(fixture_path(f, relative, path), &n);
    assert_non_null(text);
    return text;
}

/* The number behind `key` in the line of a step; NaN: it is not there. */
static double logged(const char *log, int step, const char *key)
{
    char start[64];
    snprintf(start, sizeof start, "{\"event\":\"step\",\"step\":%d,", step);
    const char *line = strstr(log, start);
    assert_non_null(line);
    const char *at = strstr(line, key);
    return at && at < strchr(line, '\n') ? strtod(at + strlen(key), NULL) : NAN;
}

static void test_log(void **state)
{
    const fixture *f = *state;
    tiny_run(f, "a", "aux.weight=0.4 aux.until=0.5", 2, 0);
    char *log = read_log(f, "a");
    for (int step = 1; step <= 12; step++) {
        const double found = logged(log, step, "\"aux_weight\":"), expected = 0.2 * (1 + cos(acos(-1) * (step - 1) / 6));
        assert_true(step <= 6 ? fabs(found - expected) < 1e-5 : isnan(found));
    }
    const char *stop = strstr(log, "{\"event\":\"aux_stop\",\"step\":6}\n");
    assert_non_null(stop);
    assert_null(strstr(stop + 20, "aux_stop"));
    assert_true(strstr(log, "\"step\":6,") < stop && stop < strstr(log, "\"step\":7,"));
    free(log);
    tiny_run(f, "b", "", 2, 0);
    log = read_log(f, "b");
    assert_null(strstr(log, "aux"));
    free(log);
}

/* The first step's weights are zero whatever a is, and so are the two losses: theirs is (1 - a) main + a aux. */
static void test_loss(void **state)
{
    const fixture *f = *state;
    static const char *const weights[] = {"0", "0.2", "0.6"};
    double loss[3];
    for (int i = 0; i < 3; i++) {
        char run[16], more[128];
        snprintf(run, sizeof run, "run%d", i);
        snprintf(more, sizeof more, "loss.every=1 train.max_steps=4 aux.group=10 aux.until=1 aux.weight=%s", weights[i]);
        tiny_run(f, run, more, 2, 0);
        char *log = read_log(f, run);
        loss[i] = logged(log, 1, "\"loss\":");
        free(log);
    }
    const double aux = (loss[1] - 0.8 * loss[0]) / 0.2;
    assert_true(fabs(loss[2] - (0.4 * loss[0] + 0.6 * aux)) < 1e-6 * loss[0]);
    /* 300 groups, all logits at log(2.1/300); 2.1 labels an instance, which like to share a group: 2.1 + targets log(300/2.1) */
    assert_true(aux > 2.1 + 1 * log(300 / 2.2) && aux < 2.2 * (1 + log(300 / 2.1)));
}

/* It is the trainer's alone: state, in one piece, with random draws of its own. */
static void test_tensors(void **state)
{
    const fixture *f = *state;
    hr_dataset *ds = open_data(f, f->ctx);
    hr_config *config = tiny_config(f, f->ctx, "run", "aux.weight=0.4 aux.dtype=i8r head.kahan_top=1000 head.momentum=0.5 head.dtype=bf16");
    hr_instances in;
    hr_model_spec spec;
    hr_head_options o;
    hr_tensor_list list = {0};
    check_ok(f->ctx, hr_instances_make(config, ds, &in));
    check_ok(f->ctx, hr_model_spec_make(config, ds, NULL, in.max_features, in.mean_positives, &spec));
    hr_auxiliary aux = hr_auxiliary_make(config, 100);
    check_ok(f->ctx, hr_auxiliary_group(config, ds, &spec, &aux));
    hr_auxiliary_tensors(&aux, &list);
    assert_int_equal(list.count, 0);
    check_ok(f->ctx, hr_auxiliary_create(config, &in, &spec, &aux));
    hr_auxiliary_tensors(&aux, &list);
    assert_int_equal(list.count, 3);
    for (int i = 0; i < list.count; i++) {
        static const char *const names[] = {"aux.0.codes", "aux.0.scales", "aux.groups"};
        assert_string_equal(list.item[i].name, names[i]);
        assert_true(list.item[i].state && list.item[i].shard_group == 0);
    }
    check_ok(f->ctx, hr_model_aux_options(config, &spec, 47, in.mean_positives, &o));
    assert_true(o.first_tensor >= spec.head.first_tensor + 2 * HR_SEGMENTS_MAX && o.first_tensor + 2 <= 32);
    hr_auxiliary_release(f->ctx, &aux);
    hr_auxiliary_release(f->ctx, &aux);
    hr_config_destroy(config);
    hr_dataset_close(ds);
}

static bool has_tensor(const fixture *f, const char *folder, const char *name)
{
    char path[2 * HR_PATH_MAX];
    hr_checkpoint *ck;
    check_ok(f->ctx, hr_checkpoint_open(f->ctx, fixture_path(f, folder, path), true, &ck));
    const bool has = hr_checkpoint_shards(ck, name) > 0 || hr_meta_get(hr_checkpoint_meta(ck), name);
    hr_checkpoint_close(ck);
    return has;
}

/* In checkpoints while it runs, in none afterwards, in no model; also when the best model is from before. */
static void test_state(void **state)
{
    const fixture *f = *state;
    static const char *const names[] = {"aux.0.codes", "aux.groups", "aux.0.rows", "aux.blocks", "aux.0.alpha"};
    tiny_run(f, "a", "aux.weight=0.4 aux.until=0.75 train.epochs=4 checkpoint.every=1 checkpoint.keep=100", 2, 0);
    tiny_run(f, "b", "aux.weight=0.4 aux.until=0.75 head.lr=0 encoder.lr=0", 2, 0);
    tiny_run(f, "c", "aux.weight=0.4 aux.until=1 head.lr=0 encoder.lr=0", 2, 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(has_tensor(f, "a/ckpt/step-000000001", names[i]));
        assert_true(has_tensor(f, "a/ckpt/step-000000017", names[i]));
        assert_false(has_tensor(f, "a/ckpt/step-000000018", names[i]));
        assert_false(has_tensor(f, "a/ckpt/step-000000024", names[i]));
        assert_false(has_tensor(f, "a/model", names[i]));
        assert_true(has_tensor(f, "b/ckpt/step-000000006", names[i]));
        assert_false(has_tensor(f, "b/model", names[i]));
        assert_false(has_tensor(f, "c/ckpt/step-000000012", names[i]));
        assert_false(has_tensor(f, "c/model", names[i]));
    }
    /* it did what it is for, and the model predicts */
    char model[2 * HR_PATH_MAX], data[2 * HR_PATH_MAX];
    hr_metrics m;
    check_ok(f->ctx, hr_eval_model(f->ctx, fixture_path(f, "a/model", model), fixture_path(f, "data", data), NULL, &m));
    assert_int_equal(m.rows, TINY_TEST_ROWS);
}

static void test_threads(void **state)
{
    const fixture *f = *state;
    const char *more = "aux.weight=0.6 aux.until=0.6 aux.group=1 aux.dtype=e4m3 train.accumulate=2 head.gradient=sparse";
    tiny_run(f, "a", more, 1, 0);
    tiny_run(f, "b", more, 3, 0);
    tiny_run(f, "c", "aux.until=0.6 aux.group=1 aux.dtype=e4m3 train.accumulate=2 head.gradient=sparse", 1, 0);
    tiny_run(f, "d", "aux.weight=0.6 aux.until=0 train.accumulate=2 head.gradient=sparse", 1, 0);
    tiny_same_folder(f, "a/ckpt/step-000000012", "b/ckpt/step-000000012");
    tiny_same_folder(f, "a/model", "b/model");
    /* without it, to the bit; with it, other weights of the labels */
    tiny_same_folder(f, "c/ckpt/step-000000012", "d/ckpt/step-000000012");
    assert_false(tiny_same_file(f, "a/ckpt/step-000000012", "c/ckpt/step-000000012", "head-00000-of-00001.safetensors"));
}

/* ---- memory ---- */

typedef struct usage {
    size_t now[64], before, after; /* at each line; before the run; when it is done, before it is torn down */
} usage;

static void note_usage(tiny_log *log)
{
    hr_mem_report m;
    hr_ctx_memory(log->ctx, &m);
    usage *u = log->arg;
    u->now[log->lines] = m.now_total - u->before;
}

static usage measure(const fixture *f, const char *run, const char *more)
{
    usage u = {{0}, 0, 0};
    hr_train_report report;
    tiny_log log;
    hr_mem_report m;
    hr_ctx *ctx = tiny_ctx(2, &log);
    hr_config *config = tiny_config(f, ctx, run, more);
    hr_ctx_memory(ctx, &m);
    u.before = m.now_total;
    log.at_line = note_usage;
    log.arg = &u;
    check_ok(ctx, hr_train_run(ctx, config, &report));
    u.after = report.memory.now_total - u.before;
    hr_config_destroy(config);
    check_ctx_empty(ctx);
    return u;
}

/* What it held is all that goes with it. */
static void test_memory(void **state)
{
    const fixture *f = *state;
    char path[2 * HR_PATH_MAX];
    const usage without = measure(f, "a", "");
    const usage with = measure(f, "b", "aux.weight=0.4 aux.until=0.5 aux.group=4 aux.dtype=f32");
    const size_t weights = 750 * 32 * sizeof(float), table = TINY_LABELS * sizeof(uint32_t), dx = 32 * 32 * sizeof(float);
    for (int step = 1; step <= 12; step++)
        if (step <= 6)
            assert_true(with.now[step] > without.now[step] + weights + table + dx);
        else
            assert_int_equal(with.now[step], without.now[step]);
    /* nor does it come back with the best model, when that is from its time */
    const usage best = measure(f, "c", "aux.weight=0.4 aux.until=0.75 head.lr=0 encoder.lr=0");
    assert_true(hr_path_is_dir(fixture_path(f, "c/ckpt/step-000000006", path)));
    assert_int_equal(best.after, without.after);
}

/* ---- resuming ---- */

static void stop_at(const fixture *f, const char *run, const char *more, int steps)
{
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(2, &log);
    log.stop_every = steps;
    assert_int_equal(tiny_train(f, ctx, run, more, NULL), HR_INTERRUPTED);
    check_ctx_empty(ctx);
}

/* The table is in the checkpoint: what has become of the file does not matter. */
static void test_file_is_edited(void **state)
{
    const fixture *f = *state;
    char more[1024], text[8192];
    size_t n = 0;
    for (int l = 0; l < 1500; l++) /* the other half is in no group */
        n += (size_t)sprintf(text + n, "%d%c", l, l % 50 == 49 ? '\n' : ' ');
    put_file(f, "groups.txt", text);
    with_file(f, "aux.weight=0.5 aux.until=0.8", more);
    tiny_run(f, "a", more, 2, 0);
    stop_at(f, "b", more, 4);
    put_file(f, "groups.txt", "1 2\n3 x\n");
    tiny_run(f, "b", more, 2, 0);
    tiny_same_folder(f, "a/ckpt/step-000000012", "b/ckpt/step-000000012");
    put_file(f, "groups.txt", "1 2\n3\n");
    tiny_run(f, "c", more, 2, 0);
    assert_false(tiny_same_file(f, "a/ckpt/step-000000012", "c/ckpt/step-000000012", "model.safetensors"));
}

static void test_wrong_state(void **state)
{
    const fixture *f = *state;
    static const char *const edits[][3] = {
        {"\"aux.blocks\":\t\"1\"", "\"aux.blocks\":\t\"2\"", "2 blocks, this build into 1"},
        {"\"aux.0.rows\":\t\"47\"", "\"aux.0.rows\":\t\"0\"", "aux.0.rows"},
        {"\"aux.0.rows\":\t\"47\"", "\"aux.0.rows\":\t\"40\"", "aux.0.codes"},
        {"\"aux.0.alpha\":\t\"1\"", "\"aux.0.alpha\":\t\"2\"", "aux.0.alpha"},
        {"\"aux.0.alpha\":\t\"1\"", "\"aux.0.omega\":\t\"1\"", "aux.0.alpha"},
    };
    const char *more = "aux.weight=0.4 aux.until=0.5";
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char path[2 * HR_PATH_MAX], command[2 * HR_PATH_MAX + 16];
        tiny_log log;
        stop_at(f, "b", more, 2);
        tiny_edit_manifest(f, "b/ckpt/step-000000002", edits[i][0], edits[i][1]);
        hr_ctx *ctx = tiny_ctx(2, &log);
        assert_int_equal(tiny_train(f, ctx, "b", more, NULL), HR_ERR_DATA);
        if (!strstr(hr_ctx_message(ctx), edits[i][2]))
            fail_msg("message is \"%s\", expected \"%s\"", hr_ctx_message(ctx), edits[i][2]);
        check_ctx_empty(ctx);
        snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(f, "b", path));
        assert_int_equal(system(command), 0);
    }
}

#define test(name) cmocka_unit_test_setup_teardown(name, tiny_setup, tiny_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(test_weight), cmocka_unit_test(test_targets), test(test_clusters), test(test_file),   test(test_file_errors),
        test(test_log),    test(test_loss),    test(test_state),    test(test_threads), test(test_memory), test(test_tensors),
        test(test_file_is_edited), test(test_wrong_state),
    };
    return cmocka_run_group_tests_name("auxiliary", tests, NULL, NULL);
}
