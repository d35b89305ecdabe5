/* The checkpoint folder: every type comes back, every damaged byte is found, hostile files are answered with a sentence,
 * and a write that fails at any call leaves the old folder or the new one, whole. */
#include "tests/check.h"

#include "base/crc32c.h"
#include "checkpoint/internal.h"
#include "tests/dataset/fixture.h"

#include <fcntl.h>
#include <math.h>
#include <unistd.h>

enum { ROWS = 10, COLS = 3, SHARD_ROWS = 4, TYPES = 8 };

/* A tensor of each type: codes with shards, the same without, and a piece of state. */
typedef struct content {
    uint8_t bytes[2 * TYPES + 2][ROWS * COLS * 4];
    hr_tensor_list list;
    hr_meta meta;
    hr_checkpoint_extra extra[1];
    char extra_from[2 * HR_PATH_MAX];
    hr_checkpoint_content c;
} content;

static void add_tensor(content *x, const char *kind, hr_tensor_type type, bool sharded, bool state)
{
    const int at = x->list.count;
    hr_tensor *t = &x->list.item[x->list.count++];
    *t = (hr_tensor){.type = type, .rows = ROWS, .cols = COLS, .data = x->bytes[at], .shard_group = sharded, .state = state};
    snprintf(t->name, sizeof t->name, "%s.%s", kind, hr_tensor_type_name(type));
}

static void make_content(const fixture *f, content *x, unsigned generation)
{
    memset(x, 0, sizeof *x);
    for (unsigned i = 0; i < sizeof x->bytes; i++)
        ((uint8_t *)x->bytes)[i] = (uint8_t)(i * 7 + generation * 101 + i / 256);
    for (int t = 0; t < TYPES; t++) {
        add_tensor(x, "sharded", (hr_tensor_type)t, true, false);
        add_tensor(x, "whole", (hr_tensor_type)t, false, false);
    }
    add_tensor(x, "state", HR_T_BF16, true, true);
    if (generation > 1) { /* rows that belong to two labels each */
        add_tensor(x, "shared", HR_T_U16, true, false);
        hr_tensor *t = &x->list.item[x->list.count - 1];
        t->shard_group = 2;
        t->rows = ROWS / 2;
    }
    hr_meta_set(&x->meta, "generation", "%u", generation);
    hr_meta_set(&x->meta, "text", "a \"quoted\" \\ word");
    hr_meta_set_number(&x->meta, "number", 1.0 / 3);
    hr_meta_set_number(&x->meta, "nan", NAN);
    hr_meta_set(&x->meta, "hex", "0x1.5555555555555p-2");
    hr_meta_set(&x->meta, "hex.small", "-0x0.0000000000001p-1022");
    hr_meta_set(&x->meta, "hex.bad", "0x1.8p");
    put_file(f, "extra.src", "one line of an extra file\n");
    x->extra[0] = (hr_checkpoint_extra){.from = fixture_path(f, "extra.src", x->extra_from), .name = "extra.txt"};
    x->c = (hr_checkpoint_content){.kind = "run", .tensors = &x->list, .with_state = true, .shard_rows = SHARD_ROWS,
                                   .meta = &x->meta, .extra = x->extra, .num_extra = 1};
}

static void check_content(hr_ctx *ctx, hr_checkpoint *ck, const content *x)
{
    for (int i = 0; i < x->list.count; i++) {
        uint8_t loaded[sizeof x->bytes[0]] = {0};
        hr_tensor t = x->list.item[i];
        const size_t n = (size_t)(t.rows * t.cols) * hr_tensor_element_bytes(t.type);
        t.data = loaded;
        check_ok(ctx, hr_checkpoint_load(ck, &t));
        assert_memory_equal(loaded, x->bytes[i], n);
        assert_int_equal(hr_checkpoint_shards(ck, t.name), t.shard_group ? 3 : 1);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    fixture f;
    content x;
    char path[2 * HR_PATH_MAX];
    hr_checkpoint *ck = NULL;
    hr_tensor t;
    const char *text;
    double number;
    int64_t n;
    fixture_begin(&f);
    make_content(&f, &x, 1);
    fixture_path(&f, "a/b/ck", path);
    check_ok(f.ctx, hr_checkpoint_write(f.ctx, path, &x.c));
    check_ok(f.ctx, hr_checkpoint_open(f.ctx, path, true, &ck));
    assert_string_equal(hr_checkpoint_kind(ck), "run");
    check_content(f.ctx, ck, &x);
    check_ok(f.ctx, hr_checkpoint_text(ck, "text", &text));
    assert_string_equal(text, "a \"quoted\" \\ word");
    check_ok(f.ctx, hr_checkpoint_number(ck, "number", &number));
    assert_true(number == 1.0 / 3);
    check_ok(f.ctx, hr_checkpoint_number(ck, "nan", &number));
    assert_true(isnan(number));
    check_ok(f.ctx, hr_checkpoint_number(ck, "hex", &number));
    assert_true(number == 1.0 / 3);
    check_ok(f.ctx, hr_checkpoint_number(ck, "hex.small", &number));
    assert_true(number == -0x1p-1074);
    assert_int_equal(hr_checkpoint_number(ck, "hex.bad", &number), HR_ERR_DATA);
    check_ok(f.ctx, hr_checkpoint_int(ck, "generation", 0, 1, &n));
    assert_int_equal(n, 1);
    assert_int_equal(hr_checkpoint_int(ck, "generation", 2, 3, &n), HR_ERR_DATA);
    assert_int_equal(hr_checkpoint_int(ck, "text", 0, 3, &n), HR_ERR_DATA);
    assert_int_equal(hr_checkpoint_number(ck, "none", &number), HR_ERR_DATA);
    check_ok(f.ctx, hr_checkpoint_verify_file(ck, "extra.txt"));
    assert_int_equal(hr_checkpoint_verify_file(ck, "other.txt"), HR_ERR_DATA);
    /* shards 4, 4, 2 */
    check_ok(f.ctx, hr_checkpoint_find(ck, "sharded.F32", 2, &t));
    assert_int_equal(t.rows, 2);
    check_ok(f.ctx, hr_checkpoint_verify(ck, t.data, 24));
    assert_int_equal(hr_checkpoint_find(ck, "sharded.F32", 3, &t), HR_ERR_DATA);
    /* another shape or type than what is there */
    t = x.list.item[0];
    t.rows++;
    assert_int_equal(hr_checkpoint_load(ck, &t), HR_ERR_DATA);
    t.rows -= 2;
    assert_int_equal(hr_checkpoint_load(ck, &t), HR_ERR_DATA);
    t = x.list.item[0];
    t.type = HR_T_U32;
    assert_int_equal(hr_checkpoint_load(ck, &t), HR_ERR_DATA);
    hr_checkpoint_close(ck);
    /* a model: without state, in place of the run */
    x.c.with_state = false;
    x.c.kind = "model";
    check_ok(f.ctx, hr_checkpoint_write(f.ctx, path, &x.c));
    check_ok(f.ctx, hr_checkpoint_open(f.ctx, path, false, &ck));
    assert_string_equal(hr_checkpoint_kind(ck), "model");
    assert_int_equal(hr_checkpoint_shards(ck, "state.BF16"), 0);
    assert_int_equal(hr_checkpoint_load(ck, &x.list.item[2 * TYPES]), HR_ERR_DATA);
    hr_checkpoint_close(ck);
    assert_false(hr_path_exists(fixture_path(&f, "a/b/ck.tmp", path)));
    fixture_end(&f);
}

static bool same_bytes(const char *a, const char *b)
{
    hr_ctx *ctx = check_ctx(1, "ref");
    hr_map x, y;
    check_ok(ctx, hr_map_open(ctx, a, &x));
    check_ok(ctx, hr_map_open(ctx, b, &y));
    const bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    hr_map_close(&x);
    hr_map_close(&y);
    check_ctx_empty(ctx);
    return same;
}

/* tests/golden/checkpoint_v1 holds generation 1 as the first version wrote it, checkpoint_v2 generation 2 with tensors in the order that
 * keeps them aligned: both can be read, the latter is written the same. */
static void test_golden(void **state)
{
    (void)state;
    static const char *const golden[] = {HR_SOURCE_DIR "/tests/golden/checkpoint_v1", HR_SOURCE_DIR "/tests/golden/checkpoint_v2"};
    static const char *const files[] = {"model.safetensors", "head-00000-of-00003.safetensors", "head-00001-of-00003.safetensors",
                                        "head-00002-of-00003.safetensors", "extra.txt"};
    fixture f;
    content x;
    char path[2 * HR_PATH_MAX], written[3 * HR_PATH_MAX], kept[512];
    hr_checkpoint *ck = NULL;
    fixture_begin(&f);
    for (unsigned v = 1; v <= 2; v++) {
        make_content(&f, &x, v);
        check_ok(f.ctx, hr_checkpoint_open(f.ctx, golden[v - 1], true, &ck));
        check_content(f.ctx, ck, &x);
        assert_string_equal(hr_meta_get(hr_checkpoint_meta(ck), "text"), "a \"quoted\" \\ word");
        hr_checkpoint_close(ck);
    }
    check_ok(f.ctx, hr_checkpoint_write(f.ctx, fixture_path(&f, "ck", path), &x.c));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(written, sizeof written, "%s/%s", path, files[i]);
        snprintf(kept, sizeof kept, "%s/%s", golden[1], files[i]);
        if (!same_bytes(written, kept))
            fail_msg("%s is not written as it was", files[i]);
    }
    fixture_end(&f);
}

/* Blocks of a MiB: damage in the third is not seen by who reads the first. */
static void test_large(void **state)
{
    (void)state;
    fixture f;
    char path[2 * HR_PATH_MAX], file[2 * HR_PATH_MAX];
    enum { N = 3 << 20 };
    fixture_begin(&f);
    uint8_t *data = malloc(N), *loaded = malloc(N);
    for (int i = 0; i < N; i++)
        data[i] = (uint8_t)(i ^ i >> 9);
    hr_tensor_list list = {.count = 1};
    list.item[0] = (hr_tensor){.name = "w", .type = HR_T_U8, .rows = N / 64, .cols = 64, .data = data, .shard_group = 1};
    const hr_meta meta = {0};
    const hr_checkpoint_content c = {.kind = "model", .tensors = &list, .shard_rows = N / 64, .meta = &meta};
    check_ok(f.ctx, hr_checkpoint_write(f.ctx, fixture_path(&f, "ck", path), &c));
    fixture_path(&f, "ck/head-00000-of-00001.safetensors", file);
    FILE *damaged = fopen(file, "r+b");
    assert_non_null(damaged);
    fseek(damaged, (5 << 20) / 2, SEEK_SET);
    fputc(data[(5 << 20) / 2 - 4096] ^ 1, damaged);
    fclose(damaged);
    hr_checkpoint *ck = NULL;
    assert_int_equal(hr_checkpoint_open(f.ctx, path, true, &ck), HR_ERR_DATA);
    assert_message(&f, "block of 1048576 bytes at offset 2097152");
    check_ok(f.ctx, hr_checkpoint_open(f.ctx, path, false, &ck));
    hr_tensor t;
    check_ok(f.ctx, hr_checkpoint_find(ck, "w", 0, &t));
    check_ok(f.ctx, hr_checkpoint_verify(ck, t.data, (2 << 20) - 4096));
    assert_int_equal(hr_checkpoint_verify(ck, t.data, (2 << 20) - 4095), HR_ERR_DATA);
    t.data = loaded;
    assert_int_equal(hr_checkpoint_load(ck, &t), HR_ERR_DATA);
    hr_checkpoint_close(ck);
    free(data);
    free(loaded);
    fixture_end(&f);
}

/* ---- damage ---- */

static const char *const files[] = {"ck/manifest.json", "ck/model.safetensors", "ck/extra.txt",
                                    "ck/head-00000-of-00003.safetensors", "ck/head-00001-of-00003.safetensors",
                                    "ck/head-00002-of-00003.safetensors"};
enum { FILES = sizeof files / sizeof *files };

static hr_status try_open(const fixture *f)
{
    char path[2 * HR_PATH_MAX];
    hr_checkpoint *ck = NULL;
    hr_status st = hr_checkpoint_open(f->ctx, fixture_path(f, "ck", path), true, &ck);
    assert_true((st == HR_OK) == (ck != NULL));
    hr_checkpoint_close(ck);
    return st;
}

static void write_first(const fixture *f, content *x)
{
    char path[2 * HR_PATH_MAX];
    make_content(f, x, 1);
    check_ok(f->ctx, hr_checkpoint_write(f->ctx, fixture_path(f, "ck", path), &x->c));
    assert_int_equal(try_open(f), HR_OK);
}

static int64_t file_size(int fd)
{
    return (int64_t)lseek(fd, 0, SEEK_END);
}

static void test_every_byte(void **state)
{
    (void)state;
    fixture f;
    content x;
    char path[2 * HR_PATH_MAX];
    fixture_begin_threads(&f, 1);
    write_first(&f, &x);
    for (int i = 0; i < FILES; i++) {
        const int fd = open(fixture_path(&f, files[i], path), O_RDWR);
        const int64_t size = file_size(fd);
        assert_true(size > 0);
        for (int64_t at = 0; at < size; at++) {
            uint8_t kept, wrong;
            assert_int_equal(pread(fd, &kept, 1, at), 1);
            wrong = kept ^ (uint8_t)(1 << at % 8);
            assert_int_equal(pwrite(fd, &wrong, 1, at), 1);
            if (try_open(&f) != HR_ERR_DATA)
                fail_msg("%s: byte %lld changed from %02x to %02x was not noticed", files[i], (long long)at, kept, wrong);
            assert_int_equal(pwrite(fd, &kept, 1, at), 1);
        }
        close(fd);
    }
    assert_int_equal(try_open(&f), HR_OK);
    fixture_end(&f);
}

static void test_sizes_and_absence(void **state)
{
    (void)state;
    fixture f;
    content x;
    char path[2 * HR_PATH_MAX], away[2 * HR_PATH_MAX], *all = malloc(1 << 16);
    fixture_begin_threads(&f, 1);
    write_first(&f, &x);
    for (int i = 0; i < FILES; i++) {
        const int fd = open(fixture_path(&f, files[i], path), O_RDWR);
        const int64_t size = file_size(fd);
        assert_true(size < 1 << 16 && pread(fd, all, (size_t)size, 0) == size);
        for (int64_t cut = 0; cut < size; cut += cut < 16 || cut > size - 16 ? 1 : 61) {
            assert_int_equal(ftruncate(fd, cut), 0);
            assert_int_equal(try_open(&f), HR_ERR_DATA);
            assert_int_equal(pwrite(fd, all, (size_t)size, 0), size);
        }
        for (int extra = 1; extra < 5000; extra *= 17) {
            assert_int_equal(ftruncate(fd, size + extra), 0);
            assert_int_equal(try_open(&f), HR_ERR_DATA);
        }
        assert_int_equal(ftruncate(fd, size), 0);
        close(fd);
        assert_int_equal(rename(path, fixture_path(&f, "away", away)), 0);
        assert_int_equal(try_open(&f), HR_ERR_NOINPUT);
        assert_int_equal(rename(away, path), 0);
    }
    assert_int_equal(try_open(&f), HR_OK);
    free(all);
    fixture_end(&f);
}

/* ---- hostile files, with checksums that agree ---- */

static void crc_list(const uint8_t *data, size_t n, char *out)
{
    *out = 0;
    for (size_t at = 0; at < n; at += HR_CRC_BLOCK) {
        const size_t m = n - at < HR_CRC_BLOCK ? n - at : HR_CRC_BLOCK;
        out += sprintf(out, "%s\"%08x\"", at ? "," : "", (unsigned)hr_crc32c(0, data + at, m));
    }
}

/* Writes `text` as the manifest, with its own checksum where HR_MANIFEST_SUM stands. */
static void put_manifest(const fixture *f, char *text)
{
    char sum[9];
    snprintf(sum, sizeof sum, "%08x", (unsigned)hr_crc32c(0, text, strlen(text)));
    if (hr_manifest_sum(text))
        memcpy(hr_manifest_sum(text), sum, 8);
    put_file(f, "ck/manifest.json", text);
}

#define HEAD "{\"manifest_crc32c\":\"00000000\",\"format\":\"headroom-checkpoint\",\"version\":1,\"kind\":\"model\""

/* model.safetensors with this header and 96 bytes of data; header_bytes < 0: as it should be, padded to 4096. */
static void put_tensors(const fixture *f, const char *header, int64_t header_bytes)
{
    static uint8_t data[8 + 8192 + 96];
    char text[1024], sums[64];
    const size_t n = header_bytes < 0 ? 4096 - 8 : strlen(header);
    const uint64_t told = header_bytes < 0 ? n : (uint64_t)header_bytes;
    memset(data, ' ', sizeof data);
    for (int i = 0; i < 8; i++)
        data[i] = (uint8_t)(told >> (8 * i));
    memcpy(data + 8, header, strlen(header));
    memset(data + 8 + n, 0x55, 96);
    put_bytes(f, "ck/model.safetensors", data, 8 + n + 96);
    crc_list(data, 8 + n + 96, sums);
    snprintf(text, sizeof text, HEAD ",\"meta\":{},\"files\":[{\"name\":\"model.safetensors\",\"crc32c\":[%s],\"bytes\":%zu}]}", sums,
             8 + n + 96);
    put_manifest(f, text);
}

static void expect(const fixture *f, hr_status expected, const char *what)
{
    hr_status st = try_open(f);
    if (st != expected || (st != HR_OK && strlen(hr_ctx_message(f->ctx)) < 10))
        fail_msg("%.200s: status %d, expected %d; message \"%s\"", what, (int)st, (int)expected, hr_ctx_message(f->ctx));
}

static void test_hostile_headers(void **state)
{
    (void)state;
    fixture f;
    fixture_begin_threads(&f, 1);
    static const char good[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,8],\"data_offsets\":[0,64]},"
                               "\"b\":{\"dtype\":\"U8\",\"shape\":[32,1],\"data_offsets\":[64,96]}}";
    put_tensors(&f, good, -1);
    expect(&f, HR_OK, good);
    put_tensors(&f, "{\"__metadata__\":{\"x\":\"y\"},\"b\":{\"dtype\":\"U8\",\"shape\":[96,1],\"data_offsets\":[0,96]}}", -1);
    expect(&f, HR_OK, "metadata");
#define ONE(dtype, shape, span) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" span "}}"
    static const char *const bad[] = {
        "", "{", "[]", "null", "7", "\"a\"", "{\"a\":1}", "{\"a\":{}}", "{\"a\":[]}",
        ONE("\"F64\"", "[12,1]", "[0,96]"), ONE("7", "[96,1]", "[0,96]"), ONE("\"U8\"", "[96]", "[0,96]"),
        ONE("\"U8\"", "[96,1,1]", "[0,96]"), ONE("\"U8\"", "7", "[0,96]"), ONE("\"U8\"", "[96,1]", "[0]"),
        ONE("\"U8\"", "[96,\"1\"]", "[0,96]"), ONE("\"U8\"", "[96,1]", "[0,95]"), ONE("\"U8\"", "[95,1]", "[0,95]"),
        ONE("\"U8\"", "[97,1]", "[0,97]"), ONE("\"U8\"", "[96,1]", "[1,97]"), ONE("\"U8\"", "[95,1]", "[1,96]"),
        ONE("\"U8\"", "[-96,-1]", "[0,96]"), ONE("\"U8\"", "[96,1]", "[96,0]"), ONE("\"U8\"", "[96,1]", "[-96,0]"),
        ONE("\"U8\"", "[9.6,10]", "[0,96]"), ONE("\"U8\"", "[4294967296,4294967296]", "[0,0]"),
        ONE("\"F32\"", "[4611686018427387904,1]", "[0,0]"), ONE("\"U8\"", "[1e300,1]", "[0,96]"),
        ONE("\"U8\"", "[9007199254740992,9007199254740992]", "[0,96]"), ONE("\"U8\"", "[96,1]", "[0,1e300]"),
        ONE("\"U8\"", "[96,1]", "[0,18446744073709551615]"),
        /* twice the same name; overlap; hole */
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[48,1],\"data_offsets\":[0,48]},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[48,1],\"data_offsets\":[48,96]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[96,1],\"data_offsets\":[0,96]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[48,1],\"data_offsets\":[48,96]}}",
        "{\"a\":{\"dtype\":\"U8\",\"shape\":[40,1],\"data_offsets\":[0,40]},"
        "\"b\":{\"dtype\":\"U8\",\"shape\":[48,1],\"data_offsets\":[48,96]}}",
        "{\"a_name_of_more_than_sixty_three_bytes_that_does_not_fit_the_field_of_a_tensor\":"
        "{\"dtype\":\"U8\",\"shape\":[96,1],\"data_offsets\":[0,96]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_tensors(&f, bad[i], -1);
        expect(&f, HR_ERR_DATA, bad[i]);
    }
    /* lengths of the header: too short, too long, huge, and one that does not end at 4096 */
    static const int64_t lengths[] = {0, 1, 5, (int64_t)sizeof good - 1, 4000, INT64_MAX, INT64_MIN, -2};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        put_tensors(&f, good, lengths[i] < 0 ? lengths[i] & INT64_MAX : lengths[i]);
        expect(&f, HR_ERR_DATA, "length of the header");
    }
    /* too many tensors */
    char many[4096] = "{";
    for (int i = 0; i <= HR_TENSORS_MAX; i++)
        sprintf(many + strlen(many), "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[0,1],\"data_offsets\":[0,0]}", i ? "," : "", i);
    strcat(many, "}");
    put_tensors(&f, many, -1);
    expect(&f, HR_ERR_DATA, "many");
    fixture_end(&f);
}

static void test_hostile_manifests(void **state)
{
    (void)state;
    fixture f;
    fixture_begin_threads(&f, 1);
    put_file(&f, "ck/a.txt", "abc");
    put_file(&f, "b.txt", "abc");
    put_file(&f, "ck/empty", "");
    char sum[64], text[4096];
    crc_list((const uint8_t *)"abc", 3, sum);
    static const struct {
        hr_status expected;
        const char *text; /* %s: the checksum of "abc" in quotes */
    } all[] = {
        {HR_OK, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s],\"bytes\":3}]}"},
        {HR_OK, HEAD ",\"meta\":{\"a\":\"b\"},\"files\":[{\"name\":\"empty\",\"crc32c\":[],\"bytes\":0}]}"},
        {HR_ERR_DATA, ""},
        {HR_ERR_DATA, "{}"},
        {HR_ERR_DATA, "{\"manifest_crc32c\":\"\"}"},
        {HR_ERR_DATA, "{\"manifest_crc32c\":\"00000000"},
        {HR_ERR_DATA, "{\"manifest_crc32c\":\"00000000\""},
        {HR_ERR_DATA, "[\"manifest_crc32c\",\"00000000\"]"},
        {HR_ERR_DATA, "{\"manifest_crc32c\":\"00000000\",\"format\":\"other\",\"version\":1,\"kind\":\"model\",\"meta\":{}}"},
        {HR_ERR_DATA, "{\"manifest_crc32c\":\"00000000\",\"format\":\"headroom-checkpoint\",\"version\":2,\"kind\":\"model\"}"},
        {HR_ERR_DATA, "{\"manifest_crc32c\":\"00000000\",\"format\":\"headroom-checkpoint\",\"version\":1}"},
        {HR_ERR_DATA, HEAD "}"},
        {HR_ERR_DATA, HEAD ",\"meta\":[\"x\"],\"files\":[]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":\"x\",\"files\":[]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{\"a\":1},\"files\":[]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{\"a\":\"1\",\"a\":\"2\"},\"files\":[]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{\"a_key_that_is_longer_than_a_key_may_be_here\":\"1\"},\"files\":[]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[7]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s]}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s],\"bytes\":4}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s],\"bytes\":-3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s],\"bytes\":1e300}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s,\"00000000\"],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[7],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[\"0000000g\"],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[\"00000000\"],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"../b.txt\",\"crc32c\":[%s],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"/etc/passwd\",\"crc32c\":[%s],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"..\",\"crc32c\":[%s],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"\",\"crc32c\":[%s],\"bytes\":3}]}"},
        {HR_ERR_DATA, HEAD ",\"meta\":{},\"files\":[{\"name\":\"a.txt\",\"crc32c\":[%s],\"bytes\":3},"
                      "{\"name\":\"a.txt\",\"crc32c\":[],\"bytes\":3}]}"},
        {HR_ERR_NOINPUT, HEAD ",\"meta\":{},\"files\":[{\"name\":\"c.txt\",\"crc32c\":[%s],\"bytes\":3}]}"},
    };
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        const char *at = strstr(all[i].text, "%s");
        snprintf(text, sizeof text, "%.*s%s%s", at ? (int)(at - all[i].text) : 4000, all[i].text, at ? sum : "", at ? at + 2 : "");
        put_manifest(&f, text);
        expect(&f, all[i].expected, all[i].text);
    }
    /* depth, and more files than a folder may have */
    memset(text, '[', 3000);
    memcpy(text, "{\"manifest_crc32c\":\"00000000\",\"x\":", 34);
    text[3000] = 0;
    put_manifest(&f, text);
    expect(&f, HR_ERR_DATA, "depth");
    char *many = malloc(1 << 16);
    strcpy(many, HEAD ",\"meta\":{},\"files\":[");
    for (int i = 0; i <= HR_CHECKPOINT_FILES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof name, "ck/f%d", i);
        put_file(&f, name, "");
        sprintf(many + strlen(many), "%s{\"name\":\"f%d\",\"crc32c\":[],\"bytes\":0}", i ? "," : "", i);
    }
    strcat(many, "]}");
    put_manifest(&f, many);
    expect(&f, HR_ERR_DATA, "many files");
    free(many);
    fixture_end(&f);
}

/* ---- writes that fail ---- */

/* The folder is one whole generation: 1 or 2. */
static int64_t check_whole(const fixture *f, const content *first, const content *second)
{
    char path[2 * HR_PATH_MAX];
    hr_checkpoint *ck = NULL;
    int64_t generation = 0;
    check_ok(f->ctx, hr_checkpoint_open(f->ctx, fixture_path(f, "ck", path), true, &ck));
    check_ok(f->ctx, hr_checkpoint_int(ck, "generation", 1, 2, &generation));
    check_content(f->ctx, ck, generation == 1 ? first : second);
    hr_checkpoint_close(ck);
    return generation;
}

static void fail_each_call(hr_fault what, bool persistent)
{
    fixture f;
    content first, second;
    char path[2 * HR_PATH_MAX], tmp[2 * HR_PATH_MAX];
    fixture_begin_threads(&f, 1);
    make_content(&f, &first, 1);
    make_content(&f, &second, 2);
    fixture_path(&f, "ck", path);
    fixture_path(&f, "ck.tmp", tmp);
    hr_status st = HR_ERR_BUG;
    int64_t found = 2;
    int k = 1;
    for (; st != HR_OK; k++) {
        if (found == 2)
            check_ok(f.ctx, hr_checkpoint_write(f.ctx, path, &first.c));
        hr_ctx_fail_next(f.ctx, what, k, persistent);
        st = hr_checkpoint_write(f.ctx, path, &second.c);
        hr_ctx_fail_next(f.ctx, what, 0, false);
        if (st != HR_OK)
            assert_true(what == HR_FAULT_ALLOC ? st == HR_ERR_NOMEM
                                               : st == HR_ERR_IO || st == HR_ERR_CANTCREATE || st == HR_ERR_NOINPUT);
        assert_true(st == HR_OK || strlen(hr_ctx_message(f.ctx)) > 10);
        found = check_whole(&f, &first, &second);
        assert_true(persistent || !hr_path_exists(tmp));
        assert_no_leak(&f);
        assert_true(k < 1000);
    }
    assert_true(k > (what == HR_FAULT_ALLOC ? 4 : 40)); /* the hooks were reached */
    fixture_end(&f);
}

static void test_failing_writes(void **state)
{
    (void)state;
    fail_each_call(HR_FAULT_ALLOC, false);
    fail_each_call(HR_FAULT_ALLOC, true);
    fail_each_call(HR_FAULT_FILE, false);
    fail_each_call(HR_FAULT_FILE, true);
}

static void test_failing_reads(void **state)
{
    (void)state;
    fixture f;
    content x;
    fixture_begin_threads(&f, 1);
    write_first(&f, &x);
    for (int what = 0; what < HR_FAULTS; what++) {
        hr_status st = HR_ERR_BUG;
        for (int k = 1; st != HR_OK; k++) {
            hr_ctx_fail_next(f.ctx, (hr_fault)what, k, false);
            st = try_open(&f);
            hr_ctx_fail_next(f.ctx, (hr_fault)what, 0, false);
            assert_no_leak(&f);
            assert_true(k < 1000);
        }
    }
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_every_byte),        cmocka_unit_test(test_sizes_and_absence),
        cmocka_unit_test(test_hostile_headers),   cmocka_unit_test(test_hostile_manifests),
        cmocka_unit_test(test_failing_writes),    cmocka_unit_test(test_failing_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
