/* The readers of raw data sets on any bytes. The first byte chooses the format; a zero byte divides what follows into
 * two files. Every row that is given out must keep what source.h promises. */
#include "fuzz.h"

#include "dataset/source.h"

#include <string.h>

static void check_row(const hr_source *source, const hr_row *row)
{
    for (int64_t i = 0; i < row->num_labels; i++)
        if (row->labels[i] >= source->labels || (i > 0 && row->labels[i] <= row->labels[i - 1]))
            abort();
    for (int64_t i = 0; i < row->num_features; i++)
        if (row->features[i] >= source->features || (i > 0 && row->features[i] <= row->features[i - 1]))
            abort();
    if (row->length > 0 && !memchr(row->text, row->text[row->length - 1], row->length))
        abort();
}

static void read_all(hr_source *source)
{
    for (int part = 0; part < HR_PARTS; part++) {
        hr_row row;
        bool got = true;
        if (!source->present[part] || hr_source_begin(source, part) != HR_OK)
            continue;
        while (got && hr_source_next(source, &row, &got) == HR_OK && got)
            check_row(source, &row);
        hr_source_end(source);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const files[][3] = {{"xmlrepo", "train.txt", "test.txt"},
                                           {"rawtext", "trn_X_Y.txt", "trn_X.txt"},
                                           {"rawtext", "trn_X_Y.txt", "trn_X_Xf.txt"},
                                           {"lf", "trn.json", "lbl.json"}};
    if (size == 0)
        return 0;
    const char *const *f = files[data[0] % 4];
    const uint8_t *first = data + 1, *zero = memchr(first, 0, size - 1);
    const size_t length = zero ? (size_t)(zero - first) : size - 1;
    for (int i = 0; i < 4; i++)
        for (int j = 1; j < 3; j++) {
            char path[128];
            snprintf(path, sizeof path, "%s/%s", fuzz_folder(), files[i][j]);
            unlink(path);
        }
    fuzz_put(f[1], first, length);
    if (zero)
        fuzz_put(f[2], zero + 1, size - 2 - length);

    hr_ctx *ctx = fuzz_ctx();
    hr_prepare_options options = hr_prepare_options_default();
    options.format = f[0];
    options.input = fuzz_folder();
    hr_source *source;
    if (hr_source_open(ctx, &options, &source) == HR_OK) {
        read_all(source);
        hr_source_close(source);
    }
    hr_ctx_destroy(ctx);
    return 0;
}
