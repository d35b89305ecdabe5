/* .npy files: what is written is read back; what is not exactly right is refused with a sentence. */
#include "tests/dataset/fixture.h"

#include "dataset/npy.h"

static void round_trip_of_rows(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a.npy", path);
    static float rows[5000 * 7];
    for (int i = 0; i < 5000 * 7; i++)
        rows[i] = (float)i / 3;
    hr_npy_writer writer;
    assert_ok(&f, hr_npy_begin(f.ctx, path, HR_NPY_F32, 2, 7, &writer));
    assert_ok(&f, hr_npy_write(&writer, rows, 7));
    assert_ok(&f, hr_npy_write(&writer, rows + 7, 4999 * 7));
    assert_ok(&f, hr_npy_end(&writer));
    assert_ok(&f, hr_npy_end(&writer));

    hr_npy npy;
    assert_ok(&f, hr_npy_open(f.ctx, path, HR_NPY_F32, 2, &npy));
    assert_int_equal(npy.shape[0], 5000);
    assert_int_equal(npy.shape[1], 7);
    assert_memory_equal(npy.data, rows, sizeof rows);
    assert_int_equal((uintptr_t)npy.data % 64, 0);
    hr_npy_close(&npy);

    assert_int_equal(hr_npy_open(f.ctx, path, HR_NPY_I64, 2, &npy), HR_ERR_DATA);
    assert_message(&f, "elements are '<f4', expected '<i8'");
    assert_int_equal(hr_npy_open(f.ctx, path, HR_NPY_F32, 1, &npy), HR_ERR_DATA);
    assert_message(&f, "2 dimensions, expected 1");
    fixture_end(&f);
}

static void round_trip_of_nothing(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a.npy", path);
    hr_npy_writer writer;
    assert_ok(&f, hr_npy_begin(f.ctx, path, HR_NPY_U64, 1, 1, &writer));
    assert_ok(&f, hr_npy_end(&writer));
    hr_npy npy;
    assert_ok(&f, hr_npy_open(f.ctx, path, HR_NPY_U64, 1, &npy));
    assert_int_equal(npy.shape[0], 0);
    hr_npy_close(&npy);
    assert_int_equal(hr_npy_open(f.ctx, "/no/such/file.npy", HR_NPY_U64, 1, &npy), HR_ERR_NOINPUT);
    fixture_end(&f);
}

/* Files as NumPy writes them, and as it does not. `data` bytes follow the header. */
static const struct {
    const char *header;
    size_t data;
    const char *message; /* NULL: fine */
} headers[] = {
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (3,), }", 12, NULL},
    {"{\"shape\": (3), 'fortran_order':True,'descr':'<u4'}  \n", 12, NULL},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (3,), }", 11, "needs 12 bytes, the file has 11"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (3,), }", 16, "needs 12 bytes, the file has 16"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (), }", 4, "one or two dimensions"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (1,1,3), }", 12, "one or two dimensions"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (3,)", 12, "',' or '}'"},
    {"{'descr': '<u4', 'fortran_order': False}", 12, "lacks shape"},
    {"{'fortran_order': False, 'shape': (3,)}", 12, "lacks descr"},
    {"{'descr': '<u4', 'descr': '<u4', 'fortran_order': False, 'shape': (3,)}", 12, "'descr' twice"},
    {"{'descr': '<u4', 'x': False, 'shape': (3,)}", 12, "the key 'x'"},
    {"{'descr': '<u4', 'fortran_order': Maybe, 'shape': (3,)}", 12, "True or False"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (-3,)}", 12, "a size"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (9223372036854775808,)}", 12, "a size below 2^63"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (9223372036854775807,)}", 12,
     "needs 18446744073709551615"},
    {"{'descr': [('a', '<u4')], 'fortran_order': False, 'shape': (3,)}", 12, "a quoted word"},
    {"{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", 12, "elements are '|O'"},
    {"{'descr': '<u4', 'fortran_order': False, 'shape': (3,)} x", 12, "blanks to the end"},
    {"{'descr': '<u4", 12, "a closing quote"},
    {"", 12, "expected '{'"},
};

static void hostile_headers(void **state)
{
    (void)state;
    fixture f;
    fixture_begin(&f);
    char path[2 * HR_PATH_MAX];
    fixture_path(&f, "a.npy", path);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        char file[512] = "\x93NUMPY\x01";
        size_t length = (strlen(headers[i].header) + 10 + 7) / 8 * 8 - 10;
        file[8] = (char)length;
        memset(file + 10, ' ', length);
        memcpy(file + 10, headers[i].header, strlen(headers[i].header));
        put_bytes(&f, "a.npy", file, 10 + length + headers[i].data);
        hr_npy npy;
        hr_status st = hr_npy_open(f.ctx, path, HR_NPY_U32, 1, &npy);
        if (headers[i].message) {
            assert_int_equal(st, HR_ERR_DATA);
            assert_message(&f, headers[i].message);
        } else {
            assert_ok(&f, st);
        }
        hr_npy_close(&npy);
        /* every cut of the file is refused too */
        for (size_t cut = 0; cut < 10 + length && i == 0; cut++) {
            put_bytes(&f, "a.npy", file, cut);
            assert_int_equal(hr_npy_open(f.ctx, path, HR_NPY_U32, 1, &npy), HR_ERR_DATA);
        }
    }
    put_bytes(&f, "a.npy", "\x93NUMPY\x03\0\x04\0{}  ", 14);
    hr_npy npy;
    assert_int_equal(hr_npy_open(f.ctx, path, HR_NPY_U32, 1, &npy), HR_ERR_DATA);
    assert_message(&f, "version 3.0, expected 1.0 or 2.0");
    put_bytes(&f, "a.npy", "\x93NUMPY\x02\0\xff\xff\xff\xff{}  ", 16);
    assert_int_equal(hr_npy_open(f.ctx, path, HR_NPY_U32, 1, &npy), HR_ERR_DATA);
    assert_message(&f, "a .npy header of 4294967295 bytes");
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip_of_rows),
        cmocka_unit_test(round_trip_of_nothing),
        cmocka_unit_test(hostile_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
