/* Random numbers against the published vectors, data order, sorting, checksums, allocator, pool. */
#include "check.h"

#include "base/crc32c.h"
#include "base/file.h"
#include "base/order.h"
#include "base/rng.h"
#include "base/sort.h"

#include <unistd.h>

/* Known answers of Philox4x32-7 from the Random123 distribution (Salmon et al., SC 2011). */
static void test_philox(void **state)
{
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], out[4];
    } known[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48}},
        {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x5207ddc2, 0x45165e59, 0x4d8ee751, 0x8c52f662}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a}},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        hr_rng rng = {known[i].key[0], known[i].key[1], known[i].counter[2], known[i].counter[3]};
        uint32_t out[4];
        hr_rng_block(rng, known[i].counter[0], known[i].counter[1], out);
        assert_memory_equal(out, known[i].out, sizeof out);
    }
}

static void test_packing(void **state)
{
    (void)state;
    const hr_rng rng = hr_rng_make(0x1122334455667788, 0xabcd12345678, 0x9a, 0x08);
    assert_int_equal(rng.k0, 0x55667788);
    assert_int_equal(rng.k1, 0x11223344);
    assert_int_equal(rng.c2, 0x12345678);
    assert_int_equal(rng.c3, 0xabcd9a08);
    uint32_t w[4];
    hr_rng_block(rng, 7, 3, w); /* columns 24..31 of row 7 */
    assert_int_equal(hr_rng_draw16(rng, 7, 24), w[0] & 0xffff);
    assert_int_equal(hr_rng_draw16(rng, 7, 25), w[0] >> 16);
    assert_int_equal(hr_rng_draw16(rng, 7, 31), w[3] >> 16);
}

static void test_order(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 2, 3, 5, 64, 65, 1000, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            hr_order order = hr_order_make(42, epoch, sizes[s]);
            uint8_t seen[4097] = {0};
            for (uint64_t p = 0; p < sizes[s]; p++) {
                const uint64_t v = hr_order_at(&order, p);
                assert_true(v < sizes[s] && !seen[v]);
                seen[v] = 1;
            }
        }
    }
    /* epochs and seeds differ; neighbours are spread */
    hr_order a = hr_order_make(42, 0, 100000), b = hr_order_make(42, 1, 100000), c = hr_order_make(43, 0, 100000);
    int same = 0, close = 0;
    for (uint64_t p = 0; p + 1 < 1000; p++) {
        same += hr_order_at(&a, p) == hr_order_at(&b, p) || hr_order_at(&a, p) == hr_order_at(&c, p);
        const int64_t d = (int64_t)hr_order_at(&a, p + 1) - (int64_t)hr_order_at(&a, p);
        close += d > -100 && d < 100;
    }
    assert_true(same < 5);
    assert_true(close < 20); /* 2 expected */
}

static void test_sort(void **state)
{
    (void)state;
    enum { N = 5000 };
    static uint64_t keys[N], scratch[N];
    const uint32_t most[] = {0, 1, 2047, 2048, 70000, UINT32_MAX};
    for (size_t m = 0; m < sizeof most / sizeof *most; m++) {
        hr_rng rng = hr_rng_make(1, m, 0, 0);
        for (uint32_t i = 0; i < N; i++) {
            uint32_t w[4];
            hr_rng_block(rng, i, 0, w);
            keys[i] = (uint64_t)(most[m] == UINT32_MAX ? w[0] : w[0] % (most[m] + 1)) << 32 | i;
        }
        hr_sort_high(keys, scratch, N, most[m]);
        for (int i = 1; i < N; i++)
            assert_true(keys[i - 1] < keys[i]); /* stable: equal high words keep ascending low words */
    }
}

static void test_crc32c(void **state)
{
    (void)state;
    uint8_t zeros[32] = {0}, counting[32]; /* RFC 3720, B.4 */
    for (uint8_t i = 0; i < 32; i++)
        counting[i] = i;
    assert_int_equal(hr_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(hr_crc32c(0, counting, 32), 0x46dd794e);
    assert_int_equal(hr_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(hr_crc32c(hr_crc32c(0, counting, 13), counting + 13, 19), 0x46dd794e);
}

static void test_memory(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(1, "auto");
    hr_mem_report m;
    void *a = hr_alloc(ctx, HR_MEM_BATCH, 100), *b = hr_calloc(ctx, HR_MEM_HEAD_WEIGHTS, 3, (size_t)4 << 20);
    assert_non_null(a);
    assert_non_null(b);
    assert_int_equal((uintptr_t)a % 64, 0);
    assert_int_equal((uintptr_t)b % 64, 0);
    hr_ctx_memory(ctx, &m);
    assert_int_equal(m.now[HR_MEM_BATCH], 100);
    assert_int_equal(m.now_total, 100 + ((size_t)12 << 20));
    hr_free(ctx, b);
    hr_free(ctx, NULL);
    a = hr_realloc(ctx, HR_MEM_BATCH, a, 50);
    hr_ctx_memory(ctx, &m);
    assert_int_equal(m.now_total, 50);
    assert_int_equal(m.peak[HR_MEM_HEAD_WEIGHTS], (size_t)12 << 20);
    hr_free(ctx, a);
    /* overflow and the fault hook */
    assert_null(hr_alloc(ctx, HR_MEM_OTHER, hr_mul(SIZE_MAX / 2, 3)));
    hr_ctx_fail_next(ctx, HR_FAULT_ALLOC, 2, false);
    a = hr_alloc(ctx, HR_MEM_OTHER, 1);
    assert_non_null(a);
    assert_null(hr_alloc(ctx, HR_MEM_OTHER, 1));
    assert_non_null(strstr(hr_ctx_message(ctx), "other"));
    b = hr_alloc(ctx, HR_MEM_OTHER, 1);
    assert_non_null(b);
    hr_free(ctx, a);
    hr_free(ctx, b);
    check_ctx_empty(ctx);
}

static void count_task(void *arg, int64_t task, int worker)
{
    (void)worker;
    ((int *)arg)[task]++;
}

static void test_pool(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 7; threads += 3) {
        hr_ctx *ctx = check_ctx(threads, "auto");
        for (int round = 0; round < 200; round++) {
            int done[37] = {0};
            hr_parallel_for(ctx, round % 38, count_task, done);
            for (int i = 0; i < 37; i++)
                assert_int_equal(done[i], i < round % 38);
        }
        hr_ctx_destroy(ctx);
    }
}

static void test_bad_options(void **state)
{
    (void)state;
    hr_ctx_options o = hr_ctx_options_default();
    hr_ctx *ctx;
    o.threads = -1;
    assert_int_equal(hr_ctx_create(&o, &ctx), HR_ERR_USAGE);
    assert_null(ctx);
    o.threads = 1;
    o.isa = "mmx";
    assert_int_equal(hr_ctx_create(&o, &ctx), HR_ERR_USAGE);
}

static void test_files(void **state)
{
    (void)state;
    hr_ctx *ctx = check_ctx(1, "auto");
    char folder[] = "/tmp/hr-test-XXXXXX", path[HR_PATH_MAX], copy[HR_PATH_MAX];
    assert_non_null(mkdtemp(folder));
    hr_file f;
    check_ok(ctx, hr_path_format(ctx, path, "%s/a/b", folder));
    check_ok(ctx, hr_dir_make(ctx, path));
    check_ok(ctx, hr_path_format(ctx, path, "%s/a/b/file", folder));
    check_ok(ctx, hr_path_format(ctx, copy, "%s/a/copy", folder));
    assert_int_equal(hr_file_open(ctx, path, &f), HR_ERR_NOINPUT);
    assert_non_null(strstr(hr_ctx_message(ctx), path));
    check_ok(ctx, hr_file_create(ctx, path, &f));
    check_ok(ctx, hr_file_write(&f, "hello", 5));
    check_ok(ctx, hr_file_sync(&f));
    check_ok(ctx, hr_file_close(&f));
    hr_map map;
    check_ok(ctx, hr_map_open(ctx, path, &map));
    assert_int_equal(map.size, 5);
    assert_memory_equal(map.data, "hello", 5);
    hr_map_close(&map);
    /* a lock is exclusive, also within a process */
    hr_file one, two;
    check_ok(ctx, hr_file_lock(ctx, copy, &one));
    assert_int_equal(hr_file_lock(ctx, copy, &two), HR_ERR_CANTCREATE);
    check_ok(ctx, hr_file_close(&one));
    check_ok(ctx, hr_file_lock(ctx, copy, &two));
    check_ok(ctx, hr_file_close(&two));
    /* the fault hook makes calls fail with a message */
    hr_ctx_fail_next(ctx, HR_FAULT_FILE, 2, false);
    check_ok(ctx, hr_file_create(ctx, path, &f));
    assert_int_equal(hr_file_write(&f, "x", 1), HR_ERR_IO);
    check_ok(ctx, hr_file_close(&f));
    /* removing a link leaves what it points to */
    char target[HR_PATH_MAX];
    check_ok(ctx, hr_path_format(ctx, target, "%s/a/b", folder));
    check_ok(ctx, hr_path_format(ctx, path, "%s/link", folder));
    assert_int_equal(symlink(target, path), 0);
    check_ok(ctx, hr_dir_remove(ctx, path));
    assert_false(hr_path_exists(path));
    assert_true(hr_path_is_dir(target));
    check_ok(ctx, hr_path_format(ctx, path, "%s/a", folder));
    check_ok(ctx, hr_dir_remove(ctx, path));
    assert_false(hr_path_exists(path));
    rmdir(folder);
    check_ctx_empty(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox), cmocka_unit_test(test_packing), cmocka_unit_test(test_order),
        cmocka_unit_test(test_sort),   cmocka_unit_test(test_crc32c),  cmocka_unit_test(test_memory),
        cmocka_unit_test(test_pool),   cmocka_unit_test(test_files),   cmocka_unit_test(test_bad_options),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
