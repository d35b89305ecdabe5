/* NumPy .npy files. The header is a Python dictionary; we read exactly the closed grammar NumPy writes:
 *
 *     { 'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
 *
 * with the keys in any order, each once. Everything else is an error that says where it was found.
 * Source: the .npy format page of the NumPy manual (numpy.lib.format). */
#include "dataset/npy.h"

#include <stdio.h>
#include <string.h>

#define NPY_HEADER_MAX     10000
#define NPY_WRITTEN_HEADER 128 /* bytes of magic and header in the files we write; a multiple of 64 */
#define NPY_BUFFER         ((size_t)1 << 16)

typedef struct npy_kind {
    const char *descr;
    size_t bytes;
} npy_kind;

static const npy_kind npy_kinds[] = {
    [HR_NPY_U8] = {"|u1", 1},  [HR_NPY_I32] = {"<i4", 4}, [HR_NPY_U32] = {"<u4", 4},
    [HR_NPY_I64] = {"<i8", 8}, [HR_NPY_U64] = {"<u8", 8}, [HR_NPY_F32] = {"<f4", 4},
};

/* ---- reading ---- */

typedef struct npy_header {
    hr_ctx *ctx;
    const char *path;
    const char *begin, *at, *end; /* the dictionary; begin is `offset` bytes into the file */
    size_t offset;
    char descr[16];
    bool fortran, has_descr, has_order, has_shape;
    int dims;
    int64_t shape[2];
} npy_header;

static hr_status fail_at(const npy_header *h, const char *expected)
{
    size_t byte = h->offset + (size_t)(h->at - h->begin);
    if (h->at >= h->end)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: the .npy header ends at byte %zu, expected %s", h->path,
                       byte, expected);
    return hr_fail(h->ctx, HR_ERR_DATA, "%s: byte %zu of the .npy header is 0x%02x, expected %s", h->path,
                   byte, (unsigned)(unsigned char)*h->at, expected);
}

static void skip_blanks(npy_header *h)
{
    while (h->at < h->end && (*h->at == ' ' || *h->at == '\n'))
        h->at++;
}

/* True, and moves on, when the next character is c. */
static bool take(npy_header *h, char c)
{
    skip_blanks(h);
    if (h->at >= h->end || *h->at != c)
        return false;
    h->at++;
    return true;
}

static hr_status read_quoted(npy_header *h, char *text, size_t capacity)
{
    skip_blanks(h);
    if (h->at >= h->end || (*h->at != '\'' && *h->at != '"'))
        return fail_at(h, "a quoted word");
    char quote = *h->at++;
    size_t n = 0;
    while (h->at < h->end && *h->at != quote) {
        if (n + 1 >= capacity)
            return fail_at(h, "the closing quote of a short word");
        text[n++] = *h->at++;
    }
    if (h->at >= h->end)
        return fail_at(h, "a closing quote");
    h->at++;
    text[n] = 0;
    return HR_OK;
}

static hr_status read_bool(npy_header *h, bool *out)
{
    skip_blanks(h);
    size_t left = (size_t)(h->end - h->at);
    *out = left >= 4 && memcmp(h->at, "True", 4) == 0;
    if (!*out && !(left >= 5 && memcmp(h->at, "False", 5) == 0))
        return fail_at(h, "True or False");
    h->at += *out ? 4 : 5;
    return HR_OK;
}

static hr_status read_size(npy_header *h, int64_t *out)
{
    skip_blanks(h);
    if (h->at >= h->end || *h->at < '0' || *h->at > '9')
        return fail_at(h, "a size");
    int64_t value = 0;
    while (h->at < h->end && *h->at >= '0' && *h->at <= '9') {
        if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, *h->at - '0', &value))
            return fail_at(h, "a size below 2^63");
        h->at++;
    }
    *out = value;
    return HR_OK;
}

static hr_status read_shape(npy_header *h)
{
    if (!take(h, '('))
        return fail_at(h, "'('");
    while (!take(h, ')')) {
        if (h->dims == 2)
            return fail_at(h, "')': one or two dimensions");
        HR_TRY(read_size(h, &h->shape[h->dims]));
        h->dims++;
        if (take(h, ','))
            continue;
        if (!take(h, ')'))
            return fail_at(h, "',' or ')'");
        break;
    }
    if (h->dims == 0)
        return fail_at(h, "one or two dimensions before this");
    return HR_OK;
}

static hr_status read_entry(npy_header *h)
{
    char key[24];
    HR_TRY(read_quoted(h, key, sizeof key));
    bool *seen = strcmp(key, "descr") == 0           ? &h->has_descr
                 : strcmp(key, "fortran_order") == 0 ? &h->has_order
                 : strcmp(key, "shape") == 0         ? &h->has_shape
                                                     : NULL;
    if (!seen || *seen)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: the .npy header has the key '%s' %s", h->path, key,
                       seen ? "twice" : ", expected descr, fortran_order and shape");
    *seen = true;
    if (!take(h, ':'))
        return fail_at(h, "':'");
    if (seen == &h->has_descr)
        return read_quoted(h, h->descr, sizeof h->descr);
    if (seen == &h->has_order)
        return read_bool(h, &h->fortran);
    return read_shape(h);
}

static hr_status read_dictionary(npy_header *h)
{
    if (!take(h, '{'))
        return fail_at(h, "'{'");
    while (!take(h, '}')) {
        HR_TRY(read_entry(h));
        if (take(h, ','))
            continue;
        if (!take(h, '}'))
            return fail_at(h, "',' or '}'");
        break;
    }
    skip_blanks(h);
    if (h->at != h->end)
        return fail_at(h, "blanks to the end of the header");
    if (!h->has_descr || !h->has_order || !h->has_shape)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: the .npy header lacks %s", h->path,
                       !h->has_descr   ? "descr"
                       : !h->has_order ? "fortran_order"
                                       : "shape");
    return HR_OK;
}

/* Finds the dictionary behind the magic and the version. */
static hr_status read_preamble(npy_header *h, const hr_map *map)
{
    static const uint8_t magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    const uint8_t *p = map->data;
    if (map->size < 10 || memcmp(p, magic, sizeof magic) != 0)
        return hr_fail(h->ctx, HR_ERR_DATA,
                       "%s: not a .npy file (%zu bytes, expected to begin with \\x93NUMPY)", h->path,
                       map->size);
    if ((p[6] != 1 && p[6] != 2) || p[7] != 0)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: .npy version %d.%d, expected 1.0 or 2.0", h->path, p[6],
                       p[7]);
    h->offset = p[6] == 1 ? 10 : 12;
    if (map->size < h->offset)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: the file ends inside the .npy header", h->path);
    size_t length = (size_t)p[8] | (size_t)p[9] << 8;
    if (p[6] == 2)
        length |= (size_t)p[10] << 16 | (size_t)p[11] << 24;
    if (length > NPY_HEADER_MAX || length > map->size - h->offset)
        return hr_fail(h->ctx, HR_ERR_DATA,
                       "%s: a .npy header of %zu bytes in a file of %zu, expected at most %d", h->path,
                       length, map->size, NPY_HEADER_MAX);
    h->begin = h->at = (const char *)p + h->offset;
    h->end = h->begin + length;
    return HR_OK;
}

/* Holds the header against what the caller wants and against the size of the file. */
static hr_status check_header(const npy_header *h, const hr_map *map, hr_npy_type type, int dims)
{
    if (strcmp(h->descr, npy_kinds[type].descr) != 0)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: elements are '%s', expected '%s'", h->path, h->descr,
                       npy_kinds[type].descr);
    if (h->fortran && h->dims == 2)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: the array is in Fortran order, expected C order", h->path);
    if (h->dims != dims)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: the array has %d dimension%s, expected %d", h->path, h->dims,
                       h->dims == 1 ? "" : "s", dims);
    size_t cols = dims == 2 ? (size_t)h->shape[1] : 1;
    size_t bytes = hr_mul(hr_mul((size_t)h->shape[0], cols), npy_kinds[type].bytes);
    size_t start = h->offset + (size_t)(h->end - h->begin);
    if (bytes != map->size - start)
        return hr_fail(h->ctx, HR_ERR_DATA,
                       "%s: shape (%lld, %lld) of '%s' needs %zu bytes, the file has %zu after its header; "
                       "is the copy complete?",
                       h->path, (long long)h->shape[0], (long long)cols, h->descr, bytes, map->size - start);
    if (start % npy_kinds[type].bytes != 0)
        return hr_fail(h->ctx, HR_ERR_DATA, "%s: data begin at byte %zu, expected a multiple of %zu", h->path,
                       start, npy_kinds[type].bytes);
    return HR_OK;
}

hr_status hr_npy_open(hr_ctx *ctx, const char *path, hr_npy_type type, int dims, hr_npy *out)
{
    *out = (hr_npy){.map.ctx = ctx};
    hr_map map;
    HR_TRY(hr_map_open(ctx, path, &map));
    npy_header header = {.ctx = ctx, .path = path, .shape = {0, 1}};
    hr_status st = read_preamble(&header, &map);
    if (st == HR_OK)
        st = read_dictionary(&header);
    if (st == HR_OK)
        st = check_header(&header, &map, type, dims);
    if (st != HR_OK) {
        hr_map_close(&map);
        return st;
    }
    *out = (hr_npy){.map = map, .type = type, .dims = dims, .shape = {header.shape[0], header.shape[1]}};
    out->data = header.end;
    return HR_OK;
}

void hr_npy_close(hr_npy *npy)
{
    hr_map_close(&npy->map);
    *npy = (hr_npy){.map.ctx = npy->map.ctx};
}

/* ---- writing ---- */

/* Fills `header` for an array of `rows` rows, padded with blanks to its fixed size. */
static void make_header(const hr_npy_writer *writer, int64_t rows, char header[NPY_WRITTEN_HEADER])
{
    char shape[64];
    if (writer->dims == 1)
        snprintf(shape, sizeof shape, "(%lld,)", (long long)rows);
    else
        snprintf(shape, sizeof shape, "(%lld, %lld)", (long long)rows, (long long)writer->cols);
    memset(header, ' ', NPY_WRITTEN_HEADER);
    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = NPY_WRITTEN_HEADER - 10;
    header[9] = 0;
    char text[NPY_WRITTEN_HEADER];
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }",
                     npy_kinds[writer->type].descr, shape);
    memcpy(header + 10, text, (size_t)n); /* at most 60 + 42 bytes */
    header[NPY_WRITTEN_HEADER - 1] = '\n';
}

hr_status hr_npy_begin(hr_ctx *ctx, const char *path, hr_npy_type type, int dims, int64_t cols,
                       hr_npy_writer *out)
{
    *out = (hr_npy_writer){
        .file = {.ctx = ctx, .fd = -1}, .type = type, .dims = dims, .cols = dims == 2 ? cols : 1};
    out->buffer = hr_alloc(ctx, HR_MEM_DATASET, NPY_BUFFER);
    if (!out->buffer)
        return HR_ERR_NOMEM;
    hr_status st = hr_file_create(ctx, path, &out->file);
    if (st == HR_OK) {
        make_header(out, 0, (char *)out->buffer);
        out->used = NPY_WRITTEN_HEADER;
        return HR_OK;
    }
    hr_free(ctx, out->buffer);
    out->buffer = NULL;
    return st;
}

static hr_status flush(hr_npy_writer *writer)
{
    size_t used = writer->used;
    writer->used = 0;
    return used ? hr_file_write(&writer->file, writer->buffer, used) : HR_OK;
}

hr_status hr_npy_write(hr_npy_writer *writer, const void *elements, int64_t count)
{
    size_t bytes = (size_t)count * npy_kinds[writer->type].bytes;
    if (bytes > NPY_BUFFER - writer->used)
        HR_TRY(flush(writer));
    if (bytes > NPY_BUFFER) {
        HR_TRY(hr_file_write(&writer->file, elements, bytes));
    } else if (bytes > 0) {
        memcpy(writer->buffer + writer->used, elements, bytes);
        writer->used += bytes;
    }
    writer->written += count;
    return HR_OK;
}

/* The last steps of a good file: the rest of the data, the true header, and a sync. */
static hr_status finish(hr_npy_writer *writer)
{
    hr_file *file = &writer->file;
    if (writer->cols > 0 && writer->written % writer->cols != 0)
        return hr_fail(file->ctx, HR_ERR_BUG, "%s: %lld elements written, expected whole rows of %lld",
                       file->path, (long long)writer->written, (long long)writer->cols);
    char header[NPY_WRITTEN_HEADER];
    make_header(writer, writer->cols > 0 ? writer->written / writer->cols : 0, header);
    HR_TRY(flush(writer));
    HR_TRY(hr_file_pwrite(file, header, sizeof header, 0));
    return hr_file_sync(file);
}

hr_status hr_npy_end(hr_npy_writer *writer)
{
    if (!writer->buffer)
        return HR_OK;
    hr_status st = finish(writer);
    hr_status closed = hr_file_close(&writer->file);
    hr_free(writer->file.ctx, writer->buffer);
    writer->buffer = NULL;
    return st == HR_OK ? closed : st;
}
