/* Configuration: what is accepted, what is refused and in which words, and that writing reads back. */
#include "config/config.h"

#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* One context, one configuration and one folder to write files in. */
typedef struct bench {
    hr_ctx *ctx;
    hr_config *config;
    char folder[64];
} bench;

static int setup(void **state)
{
    bench *b = calloc(1, sizeof *b);
    strcpy(b->folder, "/tmp/hr_test_config_XXXXXX");
    if (!mkdtemp(b->folder) || hr_ctx_create(NULL, &b->ctx) != HR_OK ||
        hr_config_create(b->ctx, &b->config) != HR_OK)
        return -1;
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bench *b = *state;
    hr_config_destroy(b->config);
    hr_dir_remove(b->ctx, b->folder);
    hr_mem_report memory;
    hr_ctx_memory(b->ctx, &memory);
    hr_ctx_destroy(b->ctx);
    free(b);
    return memory.now[HR_MEM_OTHER] == 0 ? 0 : -1;
}

static void write_file(const bench *b, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", b->folder, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static hr_status read_back(const bench *b, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", b->folder, name);
    return hr_config_read(b->config, path);
}

static hr_status read_text(const bench *b, const char *text)
{
    write_file(b, "a.yaml", text);
    return read_back(b, "a.yaml");
}

static void test_defaults(void **state)
{
    bench *b = *state;
    assert_string_equal(hr_config_value(b->config, "head.dtype"), "e4m3");
    assert_null(hr_config_value(b->config, "no.such.key"));
    assert_int_equal(hr_config_int(b->config, "seed"), 42);
    assert_true(hr_config_number(b->config, "encoder.eps") == 1e-8);
    assert_true(hr_config_bool(b->config, "encoder.residual"));
    assert_string_equal(hr_config_text(b->config, "dataset"), "");
    assert_int_equal(hr_config_choice(b->config, "head.bias"), 0);
    assert_ptr_equal(hr_config_ctx(b->config), b->ctx);
}

/* Each default is a legal value in canonical form: giving it changes nothing but the origin. */
static void test_defaults_are_canonical(void **state)
{
    bench *b = *state;
    uint64_t hash = hr_config_hash(b->config);
    for (int i = 0; i < hr_config_count(b->config); i++) {
        hr_config_item item = hr_config_entry(b->config, i);
        char assignment[256], fallback[128];
        snprintf(fallback, sizeof fallback, "%s", item.fallback);
        snprintf(assignment, sizeof assignment, "%s=%s", item.key, item.fallback);
        assert_string_equal(item.origin, "default");
        if (hr_config_set(b->config, assignment, "command line") != HR_OK)
            fail_msg("%s", hr_ctx_message(b->ctx));
        item = hr_config_entry(b->config, i);
        assert_string_equal(item.value, fallback);
        assert_string_equal(item.origin, "command line");
    }
    assert_true(hr_config_hash(b->config) == hash);
}

static void test_nested_and_dotted(void **state)
{
    bench *b = *state;
    assert_int_equal(read_text(b, "# a comment\nseed: 7\nhead:\n  dtype: bf16\nrun: x: y\n"), HR_ERR_CONFIG);
    assert_string_equal(hr_config_value(b->config, "seed"), "42"); // nothing of a bad file stays
    assert_int_equal(
        read_text(b, "seed: 7\nhead:\n  dtype: bf16\n  lr: +0.250\nhead.bias: none\ntrain.augment: on\n"
                     "dataset: \"a \\\"b\\\" \\\\ \xc3\xa9\"\n"),
        HR_OK);
    assert_string_equal(hr_config_value(b->config, "seed"), "7");
    assert_string_equal(hr_config_value(b->config, "head.dtype"), "bf16");
    assert_string_equal(hr_config_value(b->config, "head.lr"), "0.25");
    assert_int_equal(hr_config_choice(b->config, "head.bias"), 1);
    assert_true(hr_config_bool(b->config, "train.augment"));
    assert_string_equal(hr_config_text(b->config, "dataset"), "a \"b\" \\ \xc3\xa9");
    assert_int_equal(read_text(b, ""), HR_OK);
    assert_int_equal(read_text(b, "# nothing\n"), HR_OK);
}

/* What is wrong, and a piece of the sentence that says so. */
static const struct {
    const char *text, *fragment;
} bad_files[] = {
    {"seed: 5x\n", "a.yaml:1: seed is '5x', expected a whole number"},
    {"seed: -1\n", "seed is -1, it must be at least 0"},
    {"seed: 99999999999999999999\n", "expected a whole number"},
    {"seed:\n", "seed is '', expected a whole number"},
    {"seed: ~\n", "seed has no value"},
    {"threads: 1025\n", "threads is 1025, it must be at most 1024"},
    {"head.lr: nan\n", "expected a finite number"},
    {"head.lr: .inf\n", "expected a finite number"},
    {"head.lr: 1e999\n", "expected a finite number"},
    {"head.lr: 0x10\n", "expected a finite number"},
    {"head.lr: 0,5\n", "expected a finite number"},
    {"encoder.dropout: 0.96\n", "it must be at most 0.95"},
    {"encoder.residual: maybe\n", "expected true, false, yes, no, on or off"},
    {"head.bias: scalars\n", "expected one of scalar|none|per_label"},
    {"head.bias: scalar|none\n", "expected one of"},
    {"head.bias: \"\"\n", "expected one of"},
    {"\nhead:\n  dtpye: e4m3\n", "line 3, column 3: unknown key 'head.dtpye'; did you mean 'head.dtype'?"},
    {"dtype: e4m3\n", "unknown key 'dtype'; did you mean 'head.dtype' or 'layer.dtype' or 'aux.dtype'?"},
    {"encoder:\n  dtype: e4m3\n", "did you mean 'head.dtype' or 'layer.dtype' or 'aux.dtype'?"},
    {"lr: 1\n", "did you mean 'encoder.lr' or 'head.lr' or 'layer.lr'?"},
    {"sede: 1\n", "did you mean 'seed'?"},
    {"haed: {lr: 1}\n", "unknown key 'haed'"},
    {"xyzzyxyzzy: 1\n", "unknown key 'xyzzyxyzzy'"},
    {"seed: 1\nhead.lr: 1\nseed: 2\n", "line 3, column 1: seed was already given on line 1"},
    {"head: {lr: 1}\nhead.lr: 2\n", "head.lr was already given on line 1"},
    {"head:\n  lr: 1\nhead:\n  init: 0\n", "section 'head' was already given on line 1"},
    {"seed: {a: 1}\n", "seed takes a single value, found a map"},
    {"train.milestones: [0.5, 0.75]\n", "a list where a single value is expected"},
    {"seed: &a 1\n", "anchors"},
    {"seed: *a\n", "not used here"},
    {"seed: !!int 1\n", "tags"},
    {"head: &h {lr: 1}\n", "anchors"},
    {"<<: {seed: 1}\n", "unknown key '<<'"},
    {"? {a: b}\n: 1\n", "expected a key, found a map"},
    {"seed: 1\n---\nseed: 2\n", "a second document"},
    {"seed\n", "expected 'key: value', found 'seed'"},
    {"- seed\n", "a list"},
    {"seed: 1\n\tthreads: 2\n", "not valid YAML"},
    {"seed: \"unfinished\n", "not valid YAML"},
    {"dataset: \"a\\0b\"\n", "zero byte"},
    {"dataset: \"a\\nb\"\n", "on one line"},
    {"dataset: \xff\n", "byte 9"},
    {"base: /etc/x.yaml\n", "must be a path beside or below this file"},
    {"base: ../x.yaml\n", "must be a path beside or below this file"},
    {"base: b/../../x.yaml\n", "must be a path beside or below this file"},
    {"base: a.yaml\n", "nested more than 8 deep"},
    {"seed: 1\nbase: b.yaml\n", "base must be the first key"},
    {"base: {a: b}\n", "base needs the name"},
    {"base:\n", "base needs the name"},
};

static void test_bad_files(void **state)
{
    bench *b = *state;
    uint64_t hash = hr_config_hash(b->config);
    for (size_t i = 0; i < sizeof bad_files / sizeof *bad_files; i++) {
        hr_status st = read_text(b, bad_files[i].text);
        const char *message = hr_ctx_message(b->ctx);
        if (st != HR_ERR_CONFIG || !strstr(message, bad_files[i].fragment) || !strstr(message, "a.yaml"))
            fail_msg("%s: status %d, message '%s', expected '%s'", bad_files[i].text, (int)st, message,
                     bad_files[i].fragment);
    }
    assert_true(hr_config_hash(b->config) == hash);
    assert_int_equal(read_text(b, "base: missing.yaml\n"), HR_ERR_NOINPUT);
    assert_int_equal(read_back(b, "missing.yaml"), HR_ERR_NOINPUT);
}

static void test_long_values(void **state)
{
    bench *b = *state;
    char text[3000];
    memset(text, 'x', sizeof text);
    memcpy(text, "dataset: ", 9);
    text[9 + 1023] = 0;
    assert_int_equal(read_text(b, text), HR_OK);
    text[9 + 1023] = 'x';
    text[9 + 1024] = 0;
    assert_int_equal(read_text(b, text), HR_ERR_CONFIG);
    memcpy(text, "head: {", 7);
    memcpy(text + 2000, ": 1}", 5);
    assert_int_equal(read_text(b, text), HR_ERR_CONFIG);
}

static void test_overrides(void **state)
{
    bench *b = *state;
    assert_int_equal(hr_config_set(b->config, "head.dtype=e5m2", "command line"), HR_OK);
    assert_string_equal(hr_config_value(b->config, "head.dtype"), "e5m2");
    assert_int_equal(hr_config_set(b->config, "dataset=a=b", "command line"), HR_OK);
    assert_string_equal(hr_config_value(b->config, "dataset"), "a=b");
    assert_int_equal(hr_config_set(b->config, "dataset=", "command line"), HR_OK);
    assert_string_equal(hr_config_value(b->config, "dataset"), "");

    static const struct {
        const char *assignment, *fragment;
    } bad[] = {
        {"head.dtype", "command line: found 'head.dtype', expected key=value"},
        {"=3", "expected key=value"},
        {"", "expected key=value"},
        {"head.dtyp=3", "command line: unknown key 'head.dtyp'; did you mean 'head.dtype'?"},
        {"seed=1 ", "expected a whole number"},
        {"base=x.yaml", "unknown key 'base'"},
        {"dataset=a\tb", "control characters"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(hr_config_set(b->config, bad[i].assignment, "command line"), HR_ERR_CONFIG);
        if (!strstr(hr_ctx_message(b->ctx), bad[i].fragment))
            fail_msg("%s: '%s'", bad[i].assignment, hr_ctx_message(b->ctx));
    }
}

static void test_base_and_origins(void **state)
{
    bench *b = *state;
    write_file(b, "base.yaml", "seed: 1\nhead:\n  lr: 3\n");
    write_file(b, "middle.yaml", "base: base.yaml\nhead.lr: 2\nthreads: 2\n");
    assert_int_equal(read_text(b, "base: ./middle.yaml\nthreads: 3\n"), HR_OK);
    assert_int_equal(hr_config_int(b->config, "seed"), 1);
    assert_true(hr_config_number(b->config, "head.lr") == 2);
    assert_int_equal(hr_config_int(b->config, "threads"), 3);
    for (int i = 0; i < hr_config_count(b->config); i++) {
        hr_config_item item = hr_config_entry(b->config, i);
        const char *expected = strcmp(item.key, "seed") == 0      ? "base.yaml:1"
                               : strcmp(item.key, "head.lr") == 0 ? "middle.yaml:2"
                               : strcmp(item.key, "threads") == 0 ? "a.yaml:2"
                                                                  : "default";
        assert_non_null(strstr(item.origin, expected));
    }
}

static void test_round_trip(void **state)
{
    bench *b = *state;
    assert_int_equal(hr_config_set(b->config, "dataset=C:\\x \"y\" # no: comment", "command line"), HR_OK);
    assert_int_equal(hr_config_set(b->config, "run=null", "strange\norigin"), HR_OK);
    assert_int_equal(hr_config_set(b->config, "head.lr=0.1", "command line"), HR_OK);
    assert_int_equal(hr_config_set(b->config, "encoder.eps=1.2345678901234567e-9", "command line"), HR_OK);
    assert_int_equal(hr_config_set(b->config, "train.augment=yes", "command line"), HR_OK);

    char path[256];
    snprintf(path, sizeof path, "%s/out.yaml", b->folder);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_true(fd >= 0);
    assert_int_equal(hr_config_write(b->config, fd), HR_OK);
    close(fd);

    hr_config *copy;
    assert_int_equal(hr_config_create(b->ctx, &copy), HR_OK);
    if (hr_config_read(copy, path) != HR_OK)
        fail_msg("%s", hr_ctx_message(b->ctx));
    for (int i = 0; i < hr_config_count(copy); i++)
        assert_string_equal(hr_config_entry(copy, i).value, hr_config_entry(b->config, i).value);
    assert_true(hr_config_hash(copy) == hr_config_hash(b->config));
    hr_config_destroy(copy);

    assert_int_equal(hr_config_write(b->config, -1), HR_ERR_IO);
}

static void test_hash(void **state)
{
    bench *b = *state;
    uint64_t hash = hr_config_hash(b->config);
    hr_config_set(b->config, "threads=3", "test");
    hr_config_set(b->config, "run=/somewhere", "test");
    hr_config_set(b->config, "checkpoint.every=7", "test");
    assert_true(hr_config_hash(b->config) == hash);
    hr_config_set(b->config, "seed=43", "test");
    assert_true(hr_config_hash(b->config) != hash);
    hr_config_set(b->config, "seed=042", "test"); // the same number, written differently
    assert_true(hr_config_hash(b->config) == hash);
}

static void test_faults(void **state)
{
    bench *b = *state;
    write_file(b, "a.yaml", "seed: 9\nhead: {lr: 1}\n");
    for (int what = 0; what < HR_FAULTS; what++) {
        hr_status st = HR_ERR_BUG;
        int k = 1;
        for (; st != HR_OK && k < 50; k++) {
            hr_ctx_fail_next(b->ctx, (hr_fault)what, k, false);
            st = read_back(b, "a.yaml");
            if (st != HR_OK)
                assert_string_equal(hr_config_value(b->config, "seed"), what == 0 ? "42" : "9");
        }
        hr_ctx_fail_next(b->ctx, (hr_fault)what, 0, false);
        assert_int_equal(st, HR_OK);
        assert_true(k > 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_defaults_are_canonical, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nested_and_dotted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_long_values, setup, teardown),
        cmocka_unit_test_setup_teardown(test_overrides, setup, teardown),
        cmocka_unit_test_setup_teardown(test_base_and_origins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
