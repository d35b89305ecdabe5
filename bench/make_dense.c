/* Writes a synthetic set of given vectors with any number of labels, to measure memory and speed at scale:
 *   make_dense FOLDER ROWS DIM LABELS      trn_X.npy, trn_X_Y.txt, tst_X.npy, tst_X_Y.txt for `headroom prepare`.
 * Vectors are uniform in [-1, 1) / sqrt(DIM / 3); every row has five random labels. */
#include "base/rng.h"
#include "dataset/npy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static hr_status write_vectors(hr_ctx *ctx, const char *path, int64_t rows, int64_t dim, uint64_t seed)
{
    hr_npy_writer w;
    hr_status st = hr_npy_begin(ctx, path, HR_NPY_F32, 2, dim, &w);
    const float scale = sqrtf(3.0f / (float)dim);
    for (int64_t r = 0; st == HR_OK && r < rows; r++)
        for (int64_t d = 0; st == HR_OK && d < dim; d++) {
            const uint16_t u = hr_rng_draw16(hr_rng_make(seed, 0, 0, HR_STREAM_INIT), (uint32_t)r, (uint32_t)d);
            const float v = scale * ((float)u / 32768.0f - 1.0f);
            st = hr_npy_write(&w, &v, 1);
        }
    hr_status closed = hr_npy_end(&w);
    return st == HR_OK ? closed : st;
}

static int by_id(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int write_labels(const char *path, int64_t rows, int64_t labels, uint64_t seed)
{
    enum { EACH = 5 };
    FILE *f = fopen(path, "w");
    if (!f)
        return 73;
    fprintf(f, "%lld %lld\n", (long long)rows, (long long)labels);
    for (int64_t r = 0; r < rows; r++) {
        uint32_t id[EACH];
        for (uint32_t i = 0; i < EACH; i++) {
            uint32_t w[4];
            hr_rng_block(hr_rng_make(seed, 0, 1, HR_STREAM_INIT), (uint32_t)r, i, w);
            id[i] = (uint32_t)((uint64_t)w[0] * (uint64_t)labels >> 32);
        }
        qsort(id, EACH, sizeof *id, by_id);
        for (int i = 0; i < EACH; i++)
            if (i == 0 || id[i] != id[i - 1])
                fprintf(f, "%s%u:1", i ? " " : "", id[i]);
        fprintf(f, "\n");
    }
    return fclose(f) ? 74 : 0;
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: make_dense FOLDER ROWS DIM LABELS\n");
        return 64;
    }
    const int64_t rows = atoll(argv[2]), dim = atoll(argv[3]), labels = atoll(argv[4]);
    hr_ctx *ctx;
    if (rows < 10 || dim < 1 || labels < 1 || hr_ctx_create(NULL, &ctx) != HR_OK)
        return 64;
    static const char *const split[] = {"trn", "tst"};
    hr_status st = hr_dir_make(ctx, argv[1]);
    int rc = 0;
    for (int i = 0; i < 2 && st == HR_OK && rc == 0; i++) {
        char path[HR_PATH_MAX];
        const int64_t n = i ? rows / 10 : rows;
        st = hr_path_format(ctx, path, "%s/%s_X.npy", argv[1], split[i]);
        if (st == HR_OK)
            st = write_vectors(ctx, path, n, dim, (uint64_t)i + 1);
        if (st == HR_OK)
            st = hr_path_format(ctx, path, "%s/%s_X_Y.txt", argv[1], split[i]);
        if (st == HR_OK)
            rc = write_labels(path, n, labels, (uint64_t)i + 1);
    }
    if (st != HR_OK)
        fprintf(stderr, "make_dense: %s\n", hr_ctx_message(ctx));
    hr_ctx_destroy(ctx);
    return st == HR_OK ? rc : (int)st;
}
