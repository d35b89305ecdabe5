/* Lines and numbers of plain and packed files. */
#include "tests/dataset/fixture.h"

#include "dataset/input.h"

#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

/* Packs `text` the way `ending` says; returns the packed bytes in `out`. */
static size_t pack(const char *ending, const char *text, size_t length, uint8_t *out, size_t capacity)
{
    size_t used = 0;
    if (strcmp(ending, "gz") == 0) {
        z_stream z = {0};
        assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (uint8_t *)(uintptr_t)text;
        z.avail_in = (unsigned)length;
        z.next_out = out;
        z.avail_out = (unsigned)capacity;
        assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
        used = capacity - z.avail_out;
        deflateEnd(&z);
    } else if (strcmp(ending, "xz") == 0) {
        assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, (const uint8_t *)text, length,
                                                 out, &used, capacity),
                         LZMA_OK);
    } else if (strcmp(ending, "zst") == 0) {
        used = ZSTD_compress(out, capacity, text, length, 3);
        assert_false(ZSTD_isError(used));
    } else {
        memcpy(out, text, length);
        used = length;
    }
    return used;
}

static void lines_of_every_kind(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a", path);
    static const char *const wanted[] = {"first", "", "third\twith\ttabs", "last without end"};
    const char text[] = "\xef\xbb\xbf"
                        "first\r\n\nthird\twith\ttabs\nlast without end";
    static const char *const endings[] = {"", "gz", "xz", "zst"};
    for (size_t e = 0; e < 4; e++) {
        uint8_t packed[4096];
        put_bytes(&f, "a", packed, pack(endings[e], text, sizeof text - 1, packed, sizeof packed));
        hr_input in;
        assert_ok(&f, hr_input_open(f.ctx, path, &in));
        bool got = false;
        for (int i = 0; i < 4; i++) {
            assert_ok(&f, hr_input_next(&in, &got));
            assert_true(got);
            assert_int_equal(in.number, i + 1);
            assert_int_equal(hr_input_length(&in), strlen(wanted[i]));
            assert_memory_equal(in.line, wanted[i], strlen(wanted[i]));
        }
        assert_ok(&f, hr_input_next(&in, &got));
        assert_false(got);
        hr_input_close(&in);
    }
    fixture_end(&f);
}

/* Many lines, in two packed streams one after the other, longer than every buffer. */
static void long_packed_files(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a", path);
    size_t bytes = 0, capacity = 3 << 20;
    char *text = test_malloc(capacity);
    uint8_t *packed = test_malloc(2 * capacity);
    while (bytes + 64 < capacity)
        bytes += (size_t)sprintf(text + bytes, "line %zu %08x\n", bytes, (unsigned)(bytes * 2654435761u));
    static const char *const endings[] = {"gz", "xz", "zst"};
    for (size_t e = 0; e < 3; e++) {
        size_t one = pack(endings[e], text, bytes, packed, 2 * capacity);
        assert_true(one <= capacity);
        memcpy(packed + one, packed, one);
        put_bytes(&f, "a", packed, 2 * one);
        hr_input in;
        bool got = true;
        size_t total = 0;
        assert_ok(&f, hr_input_open(f.ctx, path, &in));
        while (got) {
            assert_ok(&f, hr_input_next(&in, &got));
            if (got)
                assert_memory_equal(in.line, text + total % bytes, hr_input_length(&in));
            total += got ? hr_input_length(&in) + 1 : 0;
        }
        assert_int_equal(total, 2 * bytes);
        hr_input_close(&in);

        /* cut anywhere, or followed by something else, it is damaged */
        const size_t cuts[] = {1, 2, one / 2, one - 20};
        for (size_t c = 0; c < 4; c++) {
            hr_status st = HR_OK;
            put_bytes(&f, "a", packed, one - cuts[c]);
            assert_ok(&f, hr_input_open(f.ctx, path, &in));
            for (got = true; st == HR_OK && got;)
                st = hr_input_next(&in, &got);
            assert_int_equal(st, HR_ERR_DATA);
            assert_message(&f, "the file ends early");
            hr_input_close(&in);
        }
        packed[one] = 'x';
        put_bytes(&f, "a", packed, one + 1);
        assert_ok(&f, hr_input_open(f.ctx, path, &in));
        hr_status st = HR_OK;
        for (got = true; st == HR_OK && got;)
            st = hr_input_next(&in, &got);
        assert_int_equal(st, HR_ERR_DATA);
        assert_message(&f, "bytes after its end");
        hr_input_close(&in);
    }
    test_free(packed);
    test_free(text);
    fixture_end(&f);
}

static void a_line_longer_than_the_window(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a", path);
    size_t bytes = 1 << 20;
    char *text = test_malloc(bytes);
    memset(text, 'x', bytes);
    text[0] = text[bytes - 2] = '\n';
    put_bytes(&f, "a", text, bytes);
    hr_input in;
    bool got = false;
    assert_ok(&f, hr_input_open(f.ctx, path, &in));
    assert_ok(&f, hr_input_next(&in, &got));
    assert_int_equal(hr_input_length(&in), 0);
    assert_ok(&f, hr_input_next(&in, &got));
    assert_int_equal(hr_input_length(&in), bytes - 3);
    assert_ok(&f, hr_input_next(&in, &got));
    assert_int_equal(hr_input_length(&in), 1);
    hr_input_close(&in);
    test_free(text);
    fixture_end(&f);
}

static void numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        float value;
        const char *message;
    } cases[] = {
        {"1", 1, NULL},
        {"-0.5", -0.5f, NULL},
        {"+1.25e2", 125, NULL},
        {"1e-50", 0, NULL},
        {".5", 0.5f, NULL},
        {"0.1", 0.1f, NULL},
        {"nan", 0, "a:1:1: found 'n', expected a value"},
        {"inf", 0, "a:1:1: found 'i', expected a value"},
        {"1e40", 0, "value is '1e40'"},
        {"1.2.3", 0, "value is '1.2.3'"},
        {"e", 0, "value is 'e'"},
        {"", 0, "found the end of the line"},
    };
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a", path);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "%s\n", cases[i].text);
        put_file(&f, "a", text);
        hr_input in;
        bool got = false;
        float value = -1;
        assert_ok(&f, hr_input_open(f.ctx, path, &in));
        assert_ok(&f, hr_input_next(&in, &got));
        hr_status st = hr_input_number(&in, "value", &value);
        assert_int_equal(st, cases[i].message ? HR_ERR_DATA : HR_OK);
        if (cases[i].message)
            assert_message(&f, cases[i].message);
        else
            assert_true(value == cases[i].value);
        hr_input_close(&in);
    }
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_of_every_kind),
        cmocka_unit_test(long_packed_files),
        cmocka_unit_test(a_line_longer_than_the_window),
        cmocka_unit_test(numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
