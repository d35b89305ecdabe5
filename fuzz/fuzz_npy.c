/* The .npy reader on any bytes; what it accepts must be readable to the last element. The first byte chooses what is
 * expected. */
#include "fuzz.h"

#include "dataset/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static volatile uint8_t sink;
    static const uint8_t bytes[] = {[HR_NPY_U8] = 1, [HR_NPY_I32] = 4, [HR_NPY_U32] = 4, [HR_NPY_I64] = 8,
                                    [HR_NPY_U64] = 8, [HR_NPY_F32] = 4};
    if (size == 0)
        return 0;
    const hr_npy_type type = (hr_npy_type)(data[0] % 6);
    hr_ctx *ctx = fuzz_ctx();
    hr_npy npy;
    char path[64];
    int fd = fuzz_file(data + 1, size - 1, path);
    if (hr_npy_open(ctx, path, type, 1 + data[0] / 6 % 2, &npy) == HR_OK) {
        const uint8_t *at = npy.data;
        for (int64_t i = 0; i < npy.shape[0] * npy.shape[1] * bytes[type]; i++)
            sink = (uint8_t)(sink + at[i]);
        hr_npy_close(&npy);
    }
    close(fd);
    hr_ctx_destroy(ctx);
    return 0;
}
