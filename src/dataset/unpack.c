/* Streams through zlib, liblzma and libzstd behind one read call.
 *
 * A codec is a row of a table: its magic bytes and three functions. `step` moves bytes from `in` to `out`
 * and says when a packed stream is complete; what may follow a complete stream is the same rule for all:
 * the end of the file, or another stream of the same kind. */
#include "dataset/unpack.h"

#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define UNPACK_CHUNK       ((size_t)1 << 17)
#define UNPACK_LZMA_MEMORY ((uint64_t)1 << 30) /* an .xz file that needs more is refused */

typedef struct unpack_codec {
    const char *name;
    uint8_t magic[6];
    size_t magic_bytes;
    hr_status (*begin)(hr_unpack *u); /* also called again for the next stream of the file */
    hr_status (*step)(hr_unpack *u, uint8_t *data, size_t bytes, size_t *got, bool *complete);
    void (*end)(hr_unpack *u);
} unpack_codec;

struct hr_unpack {
    hr_ctx *ctx;
    hr_file file;
    const unpack_codec *codec; /* NULL: plain */
    uint8_t *in;               /* packed bytes: in[at] .. in[have - 1] are not used yet */
    size_t at, have;
    bool file_ended, in_stream;
    bool zlib_ready;
    z_stream zlib;
    lzma_stream lzma;
    lzma_allocator lzma_memory;
    ZSTD_DCtx *zstd;
};

static hr_status fail_damaged(hr_unpack *u, const char *why)
{
    return hr_fail(u->ctx, HR_ERR_DATA, "%s: damaged %s data: %s", u->file.path, u->codec->name, why);
}

/* ---- zlib ---- */

static void *zlib_alloc(void *opaque, unsigned count, unsigned size)
{
    return hr_alloc(opaque, HR_MEM_DATASET, hr_mul(count, size));
}

static void codec_free(void *opaque, void *block)
{
    hr_free(opaque, block);
}

static hr_status gzip_begin(hr_unpack *u)
{
    if (u->zlib_ready)
        return inflateReset(&u->zlib) == Z_OK ? HR_OK
                                              : hr_fail(u->ctx, HR_ERR_BUG, "zlib: inflateReset failed");
    u->zlib = (z_stream){.zalloc = zlib_alloc, .zfree = codec_free, .opaque = u->ctx};
    if (inflateInit2(&u->zlib, 15 + 16) != Z_OK)
        return hr_fail(u->ctx, HR_ERR_NOMEM, "%s: no memory to unpack gzip data", u->file.path);
    u->zlib_ready = true;
    return HR_OK;
}

static hr_status gzip_step(hr_unpack *u, uint8_t *data, size_t bytes, size_t *got, bool *complete)
{
    z_stream *z = &u->zlib;
    z->next_in = u->in + u->at;
    z->avail_in = (unsigned)(u->have - u->at);
    z->next_out = data;
    z->avail_out = (unsigned)bytes;
    int result = inflate(z, Z_NO_FLUSH);
    u->at = u->have - z->avail_in;
    *got = bytes - z->avail_out;
    *complete = result == Z_STREAM_END;
    if (result == Z_MEM_ERROR)
        return hr_fail(u->ctx, HR_ERR_NOMEM, "%s: no memory to unpack gzip data", u->file.path);
    if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
        return fail_damaged(u, z->msg ? z->msg : "invalid stream");
    return HR_OK;
}

static void gzip_end(hr_unpack *u)
{
    if (u->zlib_ready)
        inflateEnd(&u->zlib);
}

/* ---- liblzma ---- */

static void *lzma_alloc(void *opaque, size_t count, size_t size)
{
    return hr_alloc(opaque, HR_MEM_DATASET, hr_mul(count, size));
}

static hr_status xz_begin(hr_unpack *u)
{
    u->lzma_memory = (lzma_allocator){.alloc = lzma_alloc, .free = codec_free, .opaque = u->ctx};
    u->lzma.allocator = &u->lzma_memory;
    if (lzma_stream_decoder(&u->lzma, UNPACK_LZMA_MEMORY, 0) != LZMA_OK)
        return hr_fail(u->ctx, HR_ERR_NOMEM, "%s: no memory to unpack xz data", u->file.path);
    return HR_OK;
}

static hr_status xz_step(hr_unpack *u, uint8_t *data, size_t bytes, size_t *got, bool *complete)
{
    lzma_stream *x = &u->lzma;
    x->next_in = u->in + u->at;
    x->avail_in = u->have - u->at;
    x->next_out = data;
    x->avail_out = bytes;
    lzma_ret result = lzma_code(x, LZMA_RUN);
    u->at = u->have - x->avail_in;
    *got = bytes - x->avail_out;
    *complete = result == LZMA_STREAM_END;
    if (result == LZMA_MEM_ERROR || result == LZMA_MEMLIMIT_ERROR)
        return hr_fail(u->ctx, HR_ERR_NOMEM, "%s: no memory to unpack xz data", u->file.path);
    if (result != LZMA_OK && result != LZMA_STREAM_END && result != LZMA_BUF_ERROR)
        return fail_damaged(u, result == LZMA_DATA_ERROR ? "checksum or stream is wrong" : "invalid stream");
    return HR_OK;
}

static void xz_end(hr_unpack *u)
{
    lzma_end(&u->lzma);
}

/* ---- libzstd (its allocator hooks are not part of its stable interface, so it uses malloc) ---- */

static hr_status zstd_begin(hr_unpack *u)
{
    if (!u->zstd)
        u->zstd = ZSTD_createDCtx();
    if (!u->zstd)
        return hr_fail(u->ctx, HR_ERR_NOMEM, "%s: no memory to unpack zstd data", u->file.path);
    return HR_OK;
}

static hr_status zstd_step(hr_unpack *u, uint8_t *data, size_t bytes, size_t *got, bool *complete)
{
    ZSTD_inBuffer in = {u->in + u->at, u->have - u->at, 0};
    ZSTD_outBuffer out = {data, bytes, 0};
    size_t left = ZSTD_decompressStream(u->zstd, &out, &in);
    u->at += in.pos;
    *got = out.pos;
    if (ZSTD_isError(left))
        return fail_damaged(u, ZSTD_getErrorName(left));
    *complete = left == 0;
    return HR_OK;
}

static void zstd_end(hr_unpack *u)
{
    ZSTD_freeDCtx(u->zstd);
}

/* ---- all of them ---- */

static const unpack_codec codecs[] = {
    {"gzip", {0x1f, 0x8b}, 2, gzip_begin, gzip_step, gzip_end},
    {"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, xz_begin, xz_step, xz_end},
    {"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, zstd_begin, zstd_step, zstd_end},
};
#define NUM_CODECS (sizeof codecs / sizeof codecs[0])

/* Refills `in` when it is empty; keeps unused bytes at its front. */
static hr_status fill(hr_unpack *u)
{
    memmove(u->in, u->in + u->at, u->have - u->at);
    u->have -= u->at;
    u->at = 0;
    size_t got = 0;
    HR_TRY(hr_file_read(&u->file, u->in + u->have, UNPACK_CHUNK - u->have, &got));
    u->have += got;
    u->file_ended = got == 0;
    return HR_OK;
}

static bool magic_matches(const hr_unpack *u, const unpack_codec *codec)
{
    return u->have - u->at >= codec->magic_bytes &&
           memcmp(u->in + u->at, codec->magic, codec->magic_bytes) == 0;
}

hr_status hr_unpack_open(hr_ctx *ctx, const char *path, hr_unpack **out)
{
    *out = NULL;
    hr_unpack *u = HR_NEW(ctx, HR_MEM_DATASET, hr_unpack);
    if (!u)
        return HR_ERR_NOMEM;
    u->ctx = ctx;
    u->lzma = (lzma_stream)LZMA_STREAM_INIT;
    u->file.fd = -1;
    u->in = hr_alloc(ctx, HR_MEM_DATASET, UNPACK_CHUNK);
    hr_status st = u->in ? hr_file_open(ctx, path, &u->file) : HR_ERR_NOMEM;
    if (st == HR_OK)
        st = fill(u);
    for (size_t i = 0; i < NUM_CODECS && st == HR_OK && !u->codec; i++)
        if (magic_matches(u, &codecs[i]))
            u->codec = &codecs[i];
    if (st != HR_OK) {
        hr_unpack_close(u);
        return st;
    }
    *out = u;
    return HR_OK;
}

static hr_status read_plain(hr_unpack *u, void *data, size_t bytes, size_t *got)
{
    if (u->at == u->have)
        return hr_file_read(&u->file, data, bytes, got);
    *got = u->have - u->at < bytes ? u->have - u->at : bytes;
    memcpy(data, u->in + u->at, *got);
    u->at += *got;
    return HR_OK;
}

/* Begins the next packed stream; *ended when the file is used up instead. */
static hr_status next_stream(hr_unpack *u, bool *ended)
{
    while (!u->file_ended && u->have - u->at < u->codec->magic_bytes)
        HR_TRY(fill(u));
    *ended = u->at == u->have;
    if (*ended)
        return HR_OK;
    if (!magic_matches(u, u->codec))
        return fail_damaged(u, "bytes after its end that are not packed data");
    HR_TRY(u->codec->begin(u));
    u->in_stream = true;
    return HR_OK;
}

hr_status hr_unpack_read(hr_unpack *u, void *data, size_t bytes, size_t *got)
{
    *got = 0;
    if (!u->codec)
        return read_plain(u, data, bytes, got);
    bytes = bytes < (size_t)1 << 30 ? bytes : (size_t)1 << 30; /* zlib counts in 32 bits */
    while (*got == 0) {
        if (!u->in_stream) {
            bool ended = false;
            HR_TRY(next_stream(u, &ended));
            if (ended)
                return HR_OK;
        }
        if (u->at == u->have && !u->file_ended)
            HR_TRY(fill(u));
        bool complete = false;
        size_t before = u->at;
        HR_TRY(u->codec->step(u, data, bytes, got, &complete));
        if (complete)
            u->in_stream = false;
        else if (*got == 0 && u->at == before && u->file_ended)
            return fail_damaged(u, "the file ends early; is the copy complete?");
    }
    return HR_OK;
}

void hr_unpack_close(hr_unpack *u)
{
    if (!u)
        return;
    if (u->codec)
        u->codec->end(u);
    if (u->file.fd >= 0)
        hr_file_close(&u->file);
    hr_free(u->ctx, u->in);
    hr_free(u->ctx, u);
}
