/* The checkpoint reader on any bytes. First byte even: the rest is the header of a safetensors file, in a folder whose
 * manifest is right; odd: the rest is the manifest, and its own checksum is made right. */
#include "fuzz.h"

#include "base/crc32c.h"
#include "checkpoint/internal.h"

#include <string.h>

static void put_manifest(char *text, size_t length)
{
    char sum[9], *at = strlen(text) == length ? hr_manifest_sum(text) : NULL;
    if (at) {
        memset(at, '0', 8);
        snprintf(sum, sizeof sum, "%08x", (unsigned)hr_crc32c(0, text, length));
        memcpy(at, sum, 8);
    }
    fuzz_put(HR_MANIFEST, text, length);
}

static void put_tensors(const uint8_t *header, size_t size)
{
    static uint8_t file[1 << 16];
    char manifest[512];
    const size_t n = (8 + size + HR_HEADER_ALIGN - 1) / HR_HEADER_ALIGN * HR_HEADER_ALIGN, whole = n + 64;
    memset(file, ' ', n);
    memset(file + n, 0, 64);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t)((n - 8) >> (8 * i));
    memcpy(file + 8, header, size);
    fuzz_put("a.safetensors", file, whole);
    int length = snprintf(manifest, sizeof manifest,
                          "{\"manifest_crc32c\":\"00000000\",\"format\":\"headroom-checkpoint\",\"version\":1,\"kind\":"
                          "\"model\",\"meta\":{},\"files\":[{\"name\":\"a.safetensors\",\"crc32c\":[\"%08x\"],\"bytes\":%zu}]}",
                          (unsigned)hr_crc32c(0, file, whole), whole);
    put_manifest(manifest, (size_t)length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[16384];
    if (size == 0 || size > 30000)
        return 0;
    if (data[0] % 2 == 0) {
        put_tensors(data + 1, size - 1);
    } else {
        char *text = malloc(size);
        if (!text)
            abort();
        memcpy(text, data + 1, size - 1);
        text[size - 1] = 0;
        fuzz_put("a.safetensors", "abc", 3);
        put_manifest(text, size - 1);
        free(text);
    }
    hr_ctx *ctx = fuzz_ctx();
    hr_checkpoint *ck;
    if (hr_checkpoint_open(ctx, fuzz_folder(), true, &ck) == HR_OK) {
        hr_tensor t;
        if (hr_checkpoint_shards(ck, "w") > 0 && hr_checkpoint_find(ck, "w", 0, &t) == HR_OK) {
            const size_t bytes = (size_t)t.rows * (size_t)t.cols * hr_tensor_element_bytes(t.type);
            if (hr_checkpoint_verify(ck, t.data, bytes) != HR_OK || bytes > sizeof copy)
                abort();
            if (bytes > 0)
                memcpy(copy, t.data, bytes);
        }
        hr_checkpoint_close(ck);
    }
    hr_ctx_destroy(ctx);
    return 0;
}
