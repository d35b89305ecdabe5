/* Stopping, killing, damage and resuming: a run that was stopped ends with the same bits as one that was not; what
 * cannot be continued is refused with a sentence. */
#include "tests/trainer/tiny.h"

#include <signal.h>
#include <sys/wait.h>

/* Removes "key":number, wherever it stands. */
static void cut_number(char *text, const char *key)
{
    char find[64], *at = text;
    snprintf(find, sizeof find, "\"%s\":", key);
    while ((at = strstr(at, find)) != NULL) {
        const char *end = at + strlen(find);
        end += strspn(end, "0123456789.e+-");
        memmove(at, end, strlen(end) + 1);
    }
}

static char *read_log(const fixture *f, const char *run)
{
    char path[2 * HR_PATH_MAX], relative[64];
    size_t n;
    snprintf(relative, sizeof relative, "%s/log.jsonl", run);
    char *text = tiny_slurp(fixture_path(f, relative, path), &n);
    assert_non_null(text);
    assert_int_equal(strlen(text), n);
    cut_number(text, "seconds");
    cut_number(text, "cpu_seconds");
    cut_number(text, "rows_per_second");
    cut_number(text, "rss");
    return text;
}

static void same_log(const fixture *f, const char *a, const char *b)
{
    char *x = read_log(f, a), *y = read_log(f, b);
    assert_string_equal(x, y);
    free(x);
    free(y);
}

/* Name of the newest checkpoint of a run, "b/ckpt/step-000000012". */
static hr_status keep_last(void *arg, const char *name)
{
    snprintf(arg, 64, "%s", name);
    return HR_OK;
}

static const char *newest(const fixture *f, const char *run, char out[128])
{
    char path[2 * HR_PATH_MAX], relative[64], name[64] = "";
    snprintf(relative, sizeof relative, "%s/ckpt", run);
    check_ok(f->ctx, hr_dir_each(f->ctx, fixture_path(f, relative, path), keep_last, name));
    assert_memory_equal(name, "step-", 5);
    assert_null(strstr(name, ".tmp"));
    snprintf(out, 128, "%s/ckpt/%s", run, name);
    return out;
}

/* Final checkpoint with all state, model and log. */
static void same_run(const fixture *f, const char *a, const char *b)
{
    char x[128], y[128];
    newest(f, a, x);
    newest(f, b, y);
    assert_string_equal(x + strlen(a), y + strlen(b));
    tiny_same_folder(f, x, y);
    snprintf(x, sizeof x, "%s/model", a);
    snprintf(y, sizeof y, "%s/model", b);
    tiny_same_folder(f, x, y);
    same_log(f, a, b);
}

static void remove_run(const fixture *f, const char *run)
{
    char path[2 * HR_PATH_MAX], command[2 * HR_PATH_MAX + 16];
    snprintf(command, sizeof command, "rm -rf '%s'", fixture_path(f, run, path));
    assert_int_equal(system(command), 0);
}

/* ---- stop and resume ---- */

static void test_matrix(void **state)
{
    static const char *const combinations[] = {
        "head.dtype=f32",
        "head.dtype=bf16 head.bias=per_label",
        "head.dtype=e4m3",
        "head.dtype=i8r",
        "head.dtype=e4m3 head.gradient=sparse head.weight_decay=0.4",
        "head.dtype=i8r head.gradient=sparse head.tau=0.02 head.bias=per_label",
        "head.dtype=e3m4 train.augment=true train.epochs=1 train.batch=512",
        "head.dtype=f16 head.bias=none head.init=1",
        "head.dtype=e5m2 head.rounding=nearest head.init=1 encoder.residual=false",
        "head.dtype=bf16 head.rounding=stochastic-elmo head.arith=elmo",
        "head.dtype=e4m3 head.rounding=stochastic-elmo loss.type=squared_hinge head.lr=0.05",
        "head.dtype=e4m3 head.kahan_top=100 head.weight_decay=0.4",
        "head.dtype=bf16 head.kahan_top=3000 head.rounding=nearest",
        "head.dtype=f32 head.momentum=0.9 head.state_dtype=f32 head.lr=0.1",
        "head.dtype=e4m3 head.momentum=0.8 head.state_dtype=e4m3 head.kahan_top=1500 head.bias=per_label",
        "head.dtype=i8r head.momentum=0.9 head.weight_decay=0.4 head.rounding=nearest head.init=1",
        "head.dtype=i8r loss.type=squared_hinge head.lr=0.05 head.bias=per_label",
        "head.dtype=e4m3 head.weight_decay=0.4 head.decay=eager",
        "head.dtype=bf16 encoder.optimizer=adagrad head.arith=bf16",
        "head.dtype=bf16 train.accumulate=2",
        "head.dtype=e4m3 train.accumulate=4 checkpoint.every=1 head.weight_decay=0.4",
        "head.dtype=f32 train.patience=1 train.epochs=8 encoder.lr=0 head.lr=0",
        "head.dtype=e4m3 train.patience=1 train.epochs=8 train.accumulate=5",
        "head.dtype=e4m3 train.schedule=plateau train.plateau_patience=0 train.gamma=0.5 train.epochs=8 head.lr=0.01",
        "head.dtype=e4m3 train.schedule=plateau train.plateau_patience=1 train.plateau_min_delta=2 train.plateau_min_factor=0.3 "
        "train.gamma=0.5 train.epochs=8 train.patience=5 train.min_delta=0.05 head.lr=2 train.accumulate=3",
        "head.dtype=e4m3 aux.weight=0.5 aux.until=0.5 head.weight_decay=0.02 loss.every=1",
        "head.dtype=f32 head.momentum=0.5 aux.weight=0.9 aux.until=1 aux.group=1 aux.dtype=i8r train.accumulate=2 head.lr=0.1",
        "head.dtype=i8r head.gradient=sparse aux.weight=0.3 aux.until=0.3 aux.group=2 aux.dtype=e4m3 train.accumulate=3 checkpoint.every=1",
        "head.dtype=e4m3 head.family=fan_in head.fan_in=9 head.group=32 layer.width=100 head.init=1 aux.weight=0.7 aux.until=0.6 aux.lr=0.3 "
        "head.rewire=gradient head.rewire_every=2 aux.dtype=f32 train.augment=true train.epochs=1 train.batch=256",
        "head.dtype=bf16 encoder.feature_dropout=0.3 encoder.weight_decay=0.1 train.schedule=multistep eval.every=0",
        "head.dtype=e4m3 train.validation=0 loss.every=2 loss.reduction=mean_labels head.lr=50 train.max_steps=9",
        "head.dtype=e4m3 head.family=fan_in head.fan_in=12 head.weight_decay=0.02 head.lr=20 head.rewire=random head.rewire_every=3",
        "head.dtype=i8r head.family=fan_in head.fan_in=9 head.group=32 head.gradient=sparse head.dense_ratio=0.1 head.dense_dtype=bf16",
        "head.dtype=bf16 head.family=fan_in head.fan_in=16 head.optimizer=adam head.state_dtype=f32 head.lr=0.01 head.kahan_top=70 "
        "head.rewire=gradient head.rewire_every=2 head.rewire_until=1 head.prune=per_label head.grow_init=1",
        "head.dtype=e4m3 head.family=fan_in head.fan_in=16 head.group=16 head.grouping=random layer.width=100 layer.dtype=e4m3 head.init=1",
        "head.dtype=f32 head.optimizer=adam head.lr=0.01 layer.width=1500 layer.fan_in=5 layer.dtype=bf16 train.accumulate=2 head.init=1",
        "head.dtype=e4m3 layer.width=20 layer.activation=none layer.optimizer=sgd layer.lr=0.1 head.init=1",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=15 head.dtype=e4m3 head.weight_decay=0.1 head.lr=4 train.accumulate=2",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=9 head.group=32 head.dtype=i8r head.bias=per_label train.augment=true",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=30 head.dtype=bf16 head.kahan_top=100 head.momentum=0.9 "
        "head.candidates=covariance loss.every=1",
        "encoder.type=identity-sparse head.family=fan_in head.fan_in=30 head.dtype=f32 head.optimizer=adam head.lr=0.01 "
        "loss.type=squared_hinge encoder.dropout=0",
        "head.dtype=e2m3 train.schedule=linear train.augment=true train.batch=1024 train.epochs=1 train.validation_max=3",
    };
    const fixture *f = *state;
    for (size_t i = 0; i < sizeof combinations / sizeof *combinations; i++) {
        print_message("  %s\n", combinations[i]);
        tiny_run(f, "a", combinations[i], 2, 0);
        assert_true(tiny_run(f, "b", combinations[i], i % 3 ? 1 : 2, 1 + (int)i % 4) > 1);
        same_run(f, "a", "b");
        remove_run(f, "a");
        remove_run(f, "b");
    }
}

/* A run that is complete may be asked for again: the model is the same. */
static void test_again(void **state)
{
    const fixture *f = *state;
    tiny_run(f, "a", "", 2, 0);
    tiny_run(f, "b", "", 2, 0);
    assert_int_equal(tiny_run(f, "b", "", 2, 0), 1);
    same_run(f, "a", "b");
}

static void test_threads_and_chunks(void **state)
{
    const fixture *f = *state;
    static const char *const chunks[] = {"head.chunk=1", "head.chunk=1600"};
    static const char *const bases[] = {"head.dtype=e4m3 head.kahan_top=100 head.bias=per_label train.accumulate=2",
                                        "encoder.type=identity-sparse head.family=fan_in head.fan_in=20 head.bias=per_label"};
    for (int i = 0; i < 16; i++) {
        char more[256];
        static const int threads[] = {1, 2, 3, 7};
        if (i % 8 == 0)
            tiny_run(f, "a", bases[i / 8], 1, 0);
        snprintf(more, sizeof more, "%s %s", bases[i / 8], chunks[i % 2]);
        tiny_run(f, "b", more, threads[i % 8 / 2], 0);
        same_run(f, "a", "b");
        remove_run(f, "b");
        if (i == 7)
            remove_run(f, "a");
    }
}

/* ---- killed ---- */

/* Runs in a child that is killed: by itself at its step `die_at`, or by us after some time. Whether it came to its end. */
static bool killed_child(const fixture *f, const char *run, const char *more, int die_at, useconds_t after)
{
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        tiny_log log;
        hr_ctx *ctx = tiny_ctx(2, &log);
        log.die_at = die_at;
        _exit(tiny_train(f, ctx, run, more, NULL) == HR_OK ? 0 : 1);
    }
    if (!die_at) {
        usleep(after);
        kill(child, SIGKILL);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
    return WIFEXITED(status);
}

static void test_killed(void **state)
{
    const fixture *f = *state;
    const char *more = "head.dtype=e4m3 checkpoint.every=1 head.momentum=0.5 head.kahan_top=7";
    tiny_run(f, "a", more, 2, 0);
    for (int steps = 1; steps < 5; steps++) /* of each session: so far 0, 1, 3 and 6 steps are saved */
        assert_false(killed_child(f, "b", more, steps, 0));
    tiny_run(f, "b", more, 2, 0);
    same_run(f, "a", "b");
    remove_run(f, "b");
    /* at any moment: most of them fall into the writing of a checkpoint */
    int kills = 0;
    for (useconds_t after = 4000; kills < 40 && !killed_child(f, "b", more, 0, after); after += 7000)
        kills++;
    tiny_run(f, "b", more, 2, 0);
    same_run(f, "a", "b");
}

/* ---- damage ---- */

static void damage(const fixture *f, const char *folder, const char *name)
{
    char relative[256], path[2 * HR_PATH_MAX];
    snprintf(relative, sizeof relative, "%s/%s", folder, name);
    FILE *file = fopen(fixture_path(f, relative, path), "r+b");
    assert_non_null(file);
    fseek(file, -3, SEEK_END);
    const int c = fgetc(file);
    fseek(file, -3, SEEK_END);
    fputc(c ^ 4, file);
    fclose(file);
}

static void stop_at(const fixture *f, const char *run, const char *more, int steps)
{
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(2, &log);
    log.stop_every = steps;
    assert_int_equal(tiny_train(f, ctx, run, more, NULL), HR_INTERRUPTED);
    check_ctx_empty(ctx);
}

static void test_damaged_newest(void **state)
{
    static const char *const files[] = {"model.safetensors", "manifest.json", "head-00000-of-00001.safetensors", NULL};
    const fixture *f = *state;
    const char *more = "checkpoint.every=2 checkpoint.keep=3";
    tiny_run(f, "a", more, 2, 0);
    for (int i = 0; i < 4; i++) {
        char folder[128], path[2 * HR_PATH_MAX], relative[256];
        tiny_log log;
        stop_at(f, "b", more, 7);
        newest(f, "b", folder);
        assert_non_null(strstr(folder, "step-000000007"));
        if (files[i]) {
            damage(f, folder, files[i]);
        } else { /* gone */
            snprintf(relative, sizeof relative, "%s/manifest.json", folder);
            assert_int_equal(unlink(fixture_path(f, relative, path)), 0);
        }
        hr_ctx *ctx = tiny_ctx(2, &log);
        hr_status st = tiny_train(f, ctx, "b", "checkpoint.every=2 checkpoint.keep=3 resume=strict", NULL);
        assert_int_equal(st, files[i] ? HR_ERR_DATA : HR_ERR_NOINPUT);
        assert_int_equal(log.warnings, 0);
        check_ok(ctx, tiny_train(f, ctx, "b", more, NULL));
        assert_int_equal(log.warnings, 1);
        assert_non_null(strstr(log.warning, "going back to the checkpoint before it"));
        check_ctx_empty(ctx);
        same_run(f, "a", "b");
        remove_run(f, "b");
    }
}

/* Damaged checkpoints that were passed over do not count as the newest ones, and do not stay. */
static void test_passed_over(void **state)
{
    const fixture *f = *state;
    char path[2 * HR_PATH_MAX], folder[128];
    stop_at(f, "b", "checkpoint.every=2 checkpoint.keep=3", 6);
    damage(f, "b/ckpt/step-000000004", "model.safetensors");
    damage(f, "b/ckpt/step-000000006", "model.safetensors");
    stop_at(f, "b", "checkpoint.every=2 checkpoint.keep=2", 1);
    assert_non_null(strstr(newest(f, "b", folder), "step-000000003"));
    assert_true(hr_path_is_dir(fixture_path(f, "b/ckpt/step-000000002", path)));
    stop_at(f, "b", "checkpoint.every=2 checkpoint.keep=2 resume=strict", 1);
    assert_non_null(strstr(newest(f, "b", folder), "step-000000004"));
    tiny_run(f, "a", "checkpoint.every=2", 2, 0);
    tiny_run(f, "b", "checkpoint.every=2", 2, 0);
    same_run(f, "a", "b");
}

static void test_other_blocks(void **state)
{
    const fixture *f = *state;
    tiny_log log;
    stop_at(f, "b", "", 2);
    tiny_edit_manifest(f, "b/ckpt/step-000000002", "\"head.blocks\":\t\"2\"", "\"head.blocks\":\t\"4\"");
    hr_ctx *ctx = tiny_ctx(2, &log);
    assert_int_equal(tiny_train(f, ctx, "b", "", NULL), HR_ERR_DATA);
    assert_non_null(strstr(hr_ctx_message(ctx), "4 blocks, this build into 2"));
    check_ctx_empty(ctx);
}

/* A request that comes when there is no step left to stop at does not stop the next call. */
static void test_late_interrupt(void **state)
{
    const fixture *f = *state;
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(2, &log);
    check_ok(ctx, tiny_train(f, ctx, "b", "", NULL));
    hr_ctx_interrupt(ctx);
    check_ok(ctx, tiny_train(f, ctx, "b", "", NULL));
    assert_false(hr_ctx_interrupted(ctx));
    check_ctx_empty(ctx);
}

static hr_status damage_step(void *arg, const char *name)
{
    char folder[128];
    snprintf(folder, sizeof folder, "b/ckpt/%s", name);
    damage(arg, folder, "model.safetensors");
    return HR_OK;
}

static void test_all_damaged(void **state)
{
    fixture *f = *state;
    char path[2 * HR_PATH_MAX];
    tiny_log log;
    stop_at(f, "b", "checkpoint.every=2", 7);
    check_ok(f->ctx, hr_dir_each(f->ctx, fixture_path(f, "b/ckpt", path), damage_step, f));
    hr_ctx *ctx = tiny_ctx(2, &log);
    assert_int_equal(tiny_train(f, ctx, "b", "checkpoint.every=2", NULL), HR_ERR_DATA);
    assert_non_null(strstr(hr_ctx_message(ctx), "damaged"));
    assert_true(log.warnings >= 1);
    check_ctx_empty(ctx);
}

/* The best checkpoint is damaged when the model is to be written: a warning, and the model of the last step. */
static void test_damaged_best(void **state)
{
    const fixture *f = *state;
    const char *more = "train.epochs=5 checkpoint.keep=2 encoder.lr=0 head.lr=0";
    char folder[128], path[2 * HR_PATH_MAX];
    tiny_log log;
    tiny_run(f, "b", more, 2, 0);
    assert_true(hr_path_is_dir(fixture_path(f, "b/ckpt/step-000000006", path))); /* nothing is learnt: the first stays best */
    newest(f, "b", folder);
    damage(f, "b/ckpt/step-000000006", "model.safetensors");
    hr_ctx *ctx = tiny_ctx(2, &log);
    check_ok(ctx, tiny_train(f, ctx, "b", more, NULL));
    assert_non_null(strstr(log.warning, "the model is made of the last step"));
    check_ctx_empty(ctx);
}

/* The log was lost or cut: the run goes on, and no byte of the file is a hole. */
static void test_lost_log(void **state)
{
    const fixture *f = *state;
    char path[2 * HR_PATH_MAX];
    size_t n;
    stop_at(f, "b", "", 5);
    put_file(f, "b/log.jsonl", "");
    tiny_run(f, "b", "", 2, 0);
    char *text = tiny_slurp(fixture_path(f, "b/log.jsonl", path), &n);
    assert_int_equal(strlen(text), n);
    assert_memory_equal(text, "{\"event\":\"step\",\"step\":6,", 24);
    free(text);
}

/* ---- what is refused ---- */

static void refused(const fixture *f, const char *more, hr_status expected, const char *fragment)
{
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(2, &log);
    hr_status st = tiny_train(f, ctx, "b", more, NULL);
    if (st != expected || !strstr(hr_ctx_message(ctx), fragment))
        fail_msg("%s: status %d, message \"%s\", expected \"%s\"", more, (int)st, hr_ctx_message(ctx), fragment);
    check_ctx_empty(ctx);
}

static void test_refusals(void **state)
{
    const fixture *f = *state;
    refused(f, "resume=strict", HR_ERR_NOINPUT, "no checkpoint to resume from");
    refused(f, "train.milestones=0.5;0.7", HR_ERR_CONFIG, "train.milestones");
    refused(f, "train.milestones=0.7,0.5", HR_ERR_CONFIG, "ascending");
    refused(f, "run=", HR_ERR_CONFIG, "run=FOLDER");
    refused(f, "dataset=", HR_ERR_CONFIG, "dataset=FOLDER");
    refused(f, "dataset=/nonexistent", HR_ERR_NOINPUT, "/nonexistent");
    refused(f, "encoder.type=dense", HR_ERR_CONFIG, "set encoder.type=bow");
    refused(f, "encoder.type=identity-sparse", HR_ERR_CONFIG, "set head.family=fan_in, head.fan_in=128");
    refused(f, "encoder.type=identity-sparse head.family=unstructured", HR_ERR_CONFIG, "set head.family=fan_in");
    const char *identity = "encoder.type=identity-sparse head.family=fan_in";
    static const char *const others[][2] = {{"head.dense_ratio=0.1", "head.dense_ratio=0"}, {"layer.width=64", "layer.width=0"},
                                            {"aux.weight=0.5", "aux.weight=0"}, {"head.rewire=random", "head.rewire=none"},
                                            {"head.gradient=sparse", "head.gradient=dense"}, {"head.slice=0:64", "no head.slice"},
                                            {"head.arith=bf16", "head.arith=f32"}, {"head.fan_in=4000", "fan-in of 4000"}};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        char both[128];
        snprintf(both, sizeof both, "%s %s", identity, others[i][0]);
        refused(f, both, HR_ERR_CONFIG, others[i][1]);
    }
    refused(f, "head.dtype=i8r head.kahan_top=5", HR_ERR_CONFIG, "Kahan");
    stop_at(f, "b", "", 5);
    refused(f, "resume=never", HR_ERR_CANTCREATE, "has come to step 5");
    refused(f, "seed=43", HR_ERR_CONFIG, "another configuration");
    refused(f, "head.lr=0.4", HR_ERR_CONFIG, "another configuration");
    /* other data in the same place */
    put_file(f, "in/tst_X.txt", "x\n");
    put_file(f, "in/tst_X_Y.txt", "1 3000\n0:1\n");
    char input[2 * HR_PATH_MAX], output[2 * HR_PATH_MAX];
    hr_prepare_options o = hr_prepare_options_default();
    o.input = fixture_path(f, "in", input);
    o.output = fixture_path(f, "other", output);
    o.min_df = 1;
    check_ok(f->ctx, hr_prepare(f->ctx, &o));
    char more[2 * HR_PATH_MAX + 16];
    snprintf(more, sizeof more, "dataset=%s", output);
    refused(f, more, HR_ERR_CONFIG, "fingerprint");
    /* after all that the run goes on as if nothing had been asked; resume=strict is fine with it */
    tiny_run(f, "a", "", 2, 0);
    tiny_run(f, "b", "resume=strict", 2, 0);
    same_run(f, "a", "b");
    refused(f, "resume=never", HR_ERR_CANTCREATE, "has come to step 12");
}

static void second_process(tiny_log *log)
{
    const fixture *f = log->arg;
    if (log->lines == 3)
        refused(f, "", HR_ERR_CANTCREATE, "another process is using this run folder");
}

static void test_second_process(void **state)
{
    fixture *f = *state;
    tiny_log log;
    hr_ctx *ctx = tiny_ctx(2, &log);
    log.at_line = second_process;
    log.arg = f;
    check_ok(ctx, tiny_train(f, ctx, "b", "", NULL));
    assert_int_equal(log.lines, 12);
    check_ctx_empty(ctx);
}

/* What an unfinished save of a killed process left behind is removed; files of others are not. */
static void test_leftovers(void **state)
{
    const fixture *f = *state;
    char path[2 * HR_PATH_MAX];
    put_file(f, "b/ckpt/step-000000005.tmp/model.safetensors", "half");
    put_file(f, "b/ckpt/notes.txt", "mine");
    put_file(f, "b/ckpt/step-x/notes.txt", "mine");
    tiny_run(f, "b", "", 2, 0);
    assert_false(hr_path_exists(fixture_path(f, "b/ckpt/step-000000005.tmp", path)));
    assert_true(hr_path_exists(fixture_path(f, "b/ckpt/notes.txt", path)));
    assert_true(hr_path_exists(fixture_path(f, "b/ckpt/step-x/notes.txt", path)));
}

#define test(name) cmocka_unit_test_setup_teardown(name, tiny_setup, tiny_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        test(test_matrix),         test(test_again),    test(test_threads_and_chunks), test(test_killed),
        test(test_damaged_newest), test(test_all_damaged), test(test_damaged_best),    test(test_lost_log),
        test(test_refusals),       test(test_second_process), test(test_leftovers),         test(test_passed_over),
        test(test_other_blocks),   test(test_late_interrupt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
