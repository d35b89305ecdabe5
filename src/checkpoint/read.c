/* Reading a checkpoint. The reader trusts nothing: sizes are compared with the files, offsets must follow each other
 * without hole or overlap, and every block is checked before its bytes are used. */
#include "checkpoint/internal.h"

#include "base/crc32c.h"

#include <cjson/cJSON.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct mapped_file {
    char name[HR_FILE_NAME_MAX];
    hr_map map;
    int64_t blocks;
    uint32_t *crc;           /* (blocks) */
    _Atomic uint8_t *good;   /* (blocks) 1: verified */
} mapped_file;

typedef struct entry {
    hr_tensor tensor;
    int file;
} entry;

struct hr_checkpoint {
    hr_ctx *ctx;
    char path[HR_PATH_MAX], kind[16];
    hr_meta meta;
    int num_files;
    mapped_file file[HR_CHECKPOINT_FILES_MAX];
    int num_entries, room;
    entry *entries; /* tensors in the order of the files: the shards of a tensor ascend */
};

enum { COPY_PIECE = 8 << 20 };
enum { MANIFEST_LIMIT = 256 << 20, HEADER_LIMIT = 100 << 20 };

/* ---- blocks ---- */

static hr_status verify_blocks(hr_checkpoint *ck, mapped_file *f, size_t begin, size_t end)
{
    for (size_t b = begin / HR_CRC_BLOCK; b * HR_CRC_BLOCK < end; b++) {
        if (atomic_load_explicit(&f->good[b], memory_order_relaxed))
            continue;
        const size_t at = b * HR_CRC_BLOCK, n = f->map.size - at < HR_CRC_BLOCK ? f->map.size - at : HR_CRC_BLOCK;
        const uint32_t crc = hr_crc32c(0, f->map.data + at, n);
        if (crc != f->crc[b])
            return hr_fail(ck->ctx, HR_ERR_DATA,
                           "%s/%s: damaged: block of %zu bytes at offset %zu has CRC-32C %08x, expected %08x; "
                           "restore the file or use an older checkpoint",
                           ck->path, f->name, n, at, (unsigned)crc, (unsigned)f->crc[b]);
        atomic_store_explicit(&f->good[b], 1, memory_order_relaxed);
    }
    return HR_OK;
}

hr_status hr_checkpoint_verify_file(hr_checkpoint *ck, const char *name)
{
    for (int i = 0; i < ck->num_files; i++)
        if (strcmp(ck->file[i].name, name) == 0)
            return verify_blocks(ck, &ck->file[i], 0, ck->file[i].map.size);
    return hr_fail(ck->ctx, HR_ERR_DATA, "%s: the file %s is not in the manifest", ck->path, name);
}

hr_status hr_checkpoint_verify(hr_checkpoint *ck, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    for (int i = 0; i < ck->num_files; i++) {
        mapped_file *f = &ck->file[i];
        if (p >= f->map.data && p < f->map.data + f->map.size)
            return verify_blocks(ck, f, (size_t)(p - f->map.data), (size_t)(p - f->map.data) + bytes);
    }
    return bytes == 0 ? HR_OK : hr_fail(ck->ctx, HR_ERR_BUG, "%s: a range outside of all files", ck->path);
}

/* ---- manifest ---- */

static hr_status bad(hr_checkpoint *ck, const char *what)
{
    return hr_fail(ck->ctx, HR_ERR_DATA, "%s/" HR_MANIFEST ": %s", ck->path, what);
}

static hr_status read_meta(hr_checkpoint *ck, const cJSON *meta)
{
    const cJSON *item;
    if (!cJSON_IsObject(meta))
        return bad(ck, "\"meta\" is not an object");
    cJSON_ArrayForEach(item, meta)
    {
        if (ck->meta.count == HR_META_MAX || !cJSON_IsString(item) || strlen(item->string) >= HR_META_KEY ||
            strlen(item->valuestring) >= HR_META_VALUE || hr_meta_get(&ck->meta, item->string))
            return bad(ck, "an entry of \"meta\" is not a short string, or stands twice");
        hr_meta_set(&ck->meta, item->string, "%s", item->valuestring);
    }
    return HR_OK;
}

static bool plain_name(const char *name)
{
    return *name && *name != '.' && strlen(name) < HR_FILE_NAME_MAX && !strchr(name, '/');
}

static bool has_file(const hr_checkpoint *ck, const char *name)
{
    int i = 0;
    while (i < ck->num_files && strcmp(ck->file[i].name, name) != 0)
        i++;
    return i < ck->num_files;
}

static hr_status read_file_entry(hr_checkpoint *ck, const cJSON *item)
{
    const cJSON *name = cJSON_GetObjectItemCaseSensitive(item, "name");
    const cJSON *bytes = cJSON_GetObjectItemCaseSensitive(item, "bytes");
    const cJSON *sums = cJSON_GetObjectItemCaseSensitive(item, "crc32c");
    if (!cJSON_IsString(name) || !plain_name(name->valuestring) || !cJSON_IsNumber(bytes) || !cJSON_IsArray(sums))
        return bad(ck, "an entry of \"files\" has no proper name, bytes or crc32c");
    if (ck->num_files == HR_CHECKPOINT_FILES_MAX)
        return bad(ck, "too many files");
    if (has_file(ck, name->valuestring))
        return bad(ck, "a file stands twice in \"files\"");
    mapped_file *f = &ck->file[ck->num_files];
    snprintf(f->name, sizeof f->name, "%s", name->valuestring);
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(ck->ctx, path, "%s/%s", ck->path, f->name));
    HR_TRY(hr_map_open(ck->ctx, path, &f->map));
    ck->num_files++;
    f->blocks = (int64_t)((f->map.size + HR_CRC_BLOCK - 1) / HR_CRC_BLOCK);
    if ((double)f->map.size != bytes->valuedouble || f->blocks != cJSON_GetArraySize(sums))
        return hr_fail(ck->ctx, HR_ERR_DATA, "%s: %zu bytes, expected %.0f in %d blocks; the file was cut or replaced", path,
                       f->map.size, bytes->valuedouble, cJSON_GetArraySize(sums));
    f->crc = HR_ARRAY(ck->ctx, HR_MEM_CHECKPOINT, uint32_t, f->blocks);
    f->good = hr_calloc(ck->ctx, HR_MEM_CHECKPOINT, (size_t)f->blocks, 1);
    if (!f->crc || !f->good)
        return HR_ERR_NOMEM;
    int64_t i = 0;
    const cJSON *sum;
    cJSON_ArrayForEach(sum, sums)
    {
        char *end = NULL;
        if (!cJSON_IsString(sum) || strlen(sum->valuestring) != 8)
            return bad(ck, "a checksum is not eight hexadecimal digits");
        f->crc[i++] = (uint32_t)strtoul(sum->valuestring, &end, 16);
        if (*end)
            return bad(ck, "a checksum is not eight hexadecimal digits");
    }
    return HR_OK;
}

static hr_status read_manifest(hr_checkpoint *ck, const cJSON *root)
{
    const cJSON *format = cJSON_GetObjectItemCaseSensitive(root, "format");
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, "version");
    const cJSON *kind = cJSON_GetObjectItemCaseSensitive(root, "kind");
    if (!cJSON_IsString(format) || strcmp(format->valuestring, HR_CHECKPOINT_FORMAT) != 0 || !cJSON_IsNumber(version) ||
        !cJSON_IsString(kind))
        return bad(ck, "not the manifest of a headroom checkpoint");
    if (version->valuedouble != HR_CHECKPOINT_VERSION)
        return hr_fail(ck->ctx, HR_ERR_DATA, "%s: checkpoint format %g, this build reads %d", ck->path, version->valuedouble,
                       HR_CHECKPOINT_VERSION);
    snprintf(ck->kind, sizeof ck->kind, "%s", kind->valuestring);
    HR_TRY(read_meta(ck, cJSON_GetObjectItemCaseSensitive(root, "meta")));
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(root, "files"))
        HR_TRY(read_file_entry(ck, item));
    return HR_OK;
}

/* ---- safetensors ---- */

static hr_status bad_file(hr_checkpoint *ck, const mapped_file *f, const char *what)
{
    return hr_fail(ck->ctx, HR_ERR_DATA, "%s/%s: %s", ck->path, f->name, what);
}

/* A whole number in [0, 2^53]; false otherwise. */
static bool whole(const cJSON *item, uint64_t *out)
{
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 0x1p53))
        return false;
    *out = (uint64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

/* A file holds a tensor, or a shard of it, once. */
static hr_status check_new(hr_checkpoint *ck, const hr_tensor *t, int file)
{
    int count = 0;
    for (int i = ck->num_entries - 1; i >= 0 && ck->entries[i].file == file; i--, count++)
        if (strcmp(ck->entries[i].tensor.name, t->name) == 0)
            return bad_file(ck, &ck->file[file], "a tensor stands twice in the header");
    return count < HR_TENSORS_MAX ? HR_OK : bad_file(ck, &ck->file[file], "too many tensors");
}

static hr_status add_entry(hr_checkpoint *ck, const hr_tensor *t, int file)
{
    HR_TRY(check_new(ck, t, file));
    if (ck->num_entries == ck->room) {
        const int room = ck->room ? 2 * ck->room : 32;
        entry *grown = hr_realloc(ck->ctx, HR_MEM_CHECKPOINT, ck->entries, (size_t)room * sizeof *grown);
        if (!grown)
            return HR_ERR_NOMEM;
        ck->entries = grown;
        ck->room = room;
    }
    ck->entries[ck->num_entries++] = (entry){.tensor = *t, .file = file};
    return HR_OK;
}

static hr_status read_tensor(hr_checkpoint *ck, int file, const cJSON *item, size_t data_at, uint64_t *expected)
{
    const mapped_file *f = &ck->file[file];
    const cJSON *type = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *span = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    uint64_t rows, cols, begin, end, n;
    hr_tensor t = {0};
    if (strlen(item->string) >= HR_TENSOR_NAME_MAX || !cJSON_IsString(type) || hr_tensor_type_parse(type->valuestring) < 0 ||
        cJSON_GetArraySize(shape) != 2 || cJSON_GetArraySize(span) != 2 || !whole(cJSON_GetArrayItem(shape, 0), &rows) ||
        !whole(cJSON_GetArrayItem(shape, 1), &cols) || !whole(cJSON_GetArrayItem(span, 0), &begin) ||
        !whole(cJSON_GetArrayItem(span, 1), &end))
        return bad_file(ck, f, "a tensor has an unknown dtype, or a shape or data_offsets that are not two numbers");
    snprintf(t.name, sizeof t.name, "%s", item->string);
    t.type = (hr_tensor_type)hr_tensor_type_parse(type->valuestring);
    if (__builtin_mul_overflow(rows, cols, &n) || __builtin_mul_overflow(n, hr_tensor_element_bytes(t.type), &n) ||
        begin != *expected || end < begin || end - begin != n || end > f->map.size - data_at)
        return bad_file(ck, f, "a tensor's shape, data_offsets and the file do not agree");
    *expected = end;
    t.rows = (int64_t)rows;
    t.cols = (int64_t)cols;
    t.data = (void *)(uintptr_t)(f->map.data + data_at + begin);
    return add_entry(ck, &t, file);
}

static hr_status read_safetensors(hr_checkpoint *ck, int file)
{
    mapped_file *f = &ck->file[file];
    uint64_t n = 0;
    if (f->map.size < 8)
        return bad_file(ck, f, "shorter than a safetensors header");
    HR_TRY(verify_blocks(ck, f, 0, 8));
    for (int i = 7; i >= 0; i--)
        n = n << 8 | f->map.data[i];
    if (n > f->map.size - 8 || n > HEADER_LIMIT || n < 2)
        return bad_file(ck, f, "the header is longer than the file");
    if ((8 + n) % HR_HEADER_ALIGN != 0)
        return bad_file(ck, f, "the data do not begin at a multiple of 4096 bytes");
    HR_TRY(verify_blocks(ck, f, 0, 8 + (size_t)n));
    cJSON *root = cJSON_ParseWithLength((const char *)f->map.data + 8, (size_t)n);
    hr_status st = cJSON_IsObject(root) ? HR_OK : bad_file(ck, f, "the header is not a JSON object");
    uint64_t expected = 0;
    const cJSON *item;
    cJSON_ArrayForEach(item, root)
    {
        if (st == HR_OK && strcmp(item->string, "__metadata__") != 0)
            st = read_tensor(ck, file, item, 8 + (size_t)n, &expected);
    }
    if (st == HR_OK && expected != f->map.size - 8 - n)
        st = bad_file(ck, f, "bytes after the last tensor");
    cJSON_Delete(root);
    return st;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Compares the manifest with its own checksum; the digits in `text` become zeros. */
static hr_status verify_manifest(hr_checkpoint *ck, char *text, size_t length)
{
    char *at = strlen(text) == length ? hr_manifest_sum(text) : NULL, found[9], sum[9];
    if (!at)
        return bad(ck, "not the manifest of a headroom checkpoint, or damaged");
    snprintf(found, sizeof found, "%.8s", at);
    memset(at, '0', 8);
    snprintf(sum, sizeof sum, "%08x", (unsigned)hr_crc32c(0, text, length));
    if (strcmp(found, sum) != 0)
        return hr_fail(ck->ctx, HR_ERR_DATA, "%s/" HR_MANIFEST ": damaged: CRC-32C %s, expected %s; restore the folder or use "
                       "an older checkpoint", ck->path, sum, found);
    return HR_OK;
}

/* Lets go of each block, so that a file that is only looked through never counts as memory in use. */
static hr_status verify_whole(hr_checkpoint *ck, mapped_file *f)
{
    for (size_t at = 0; at < f->map.size; at += HR_CRC_BLOCK) {
        const size_t n = f->map.size - at < HR_CRC_BLOCK ? f->map.size - at : HR_CRC_BLOCK;
        HR_TRY(verify_blocks(ck, f, at, at + n));
        hr_map_drop(f->map.data + at, n);
    }
    return HR_OK;
}

static hr_status open_all(hr_checkpoint *ck, bool verify_all)
{
    char path[HR_PATH_MAX], *text;
    size_t length;
    HR_TRY(hr_path_format(ck->ctx, path, "%s/" HR_MANIFEST, ck->path));
    if (!hr_path_exists(path))
        return hr_fail(ck->ctx, HR_ERR_NOINPUT, "%s: not a model or checkpoint folder (no " HR_MANIFEST " in it)", ck->path);
    HR_TRY(hr_file_slurp(ck->ctx, path, MANIFEST_LIMIT, &text, &length));
    hr_status st = verify_manifest(ck, text, length);
    cJSON *root = st == HR_OK ? cJSON_ParseWithLength(text, length) : NULL;
    hr_free(ck->ctx, text);
    if (st != HR_OK)
        return st;
    st = root ? read_manifest(ck, root) : bad(ck, "not JSON; the file is damaged");
    cJSON_Delete(root);
    for (int i = 0; st == HR_OK && i < ck->num_files; i++)
        if (ends_with(ck->file[i].name, ".safetensors"))
            st = read_safetensors(ck, i);
    for (int i = 0; st == HR_OK && verify_all && i < ck->num_files; i++)
        st = verify_whole(ck, &ck->file[i]);
    return st;
}

hr_status hr_checkpoint_open(hr_ctx *ctx, const char *path, bool verify_all, hr_checkpoint **out)
{
    *out = NULL;
    hr_checkpoint *ck = HR_NEW(ctx, HR_MEM_CHECKPOINT, hr_checkpoint);
    if (!ck)
        return HR_ERR_NOMEM;
    ck->ctx = ctx;
    hr_status st = hr_path_format(ctx, ck->path, "%s", path);
    if (st == HR_OK)
        st = open_all(ck, verify_all);
    if (st != HR_OK) {
        hr_checkpoint_close(ck);
        return st;
    }
    *out = ck;
    return HR_OK;
}

void hr_checkpoint_close(hr_checkpoint *ck)
{
    if (!ck)
        return;
    for (int i = 0; i < ck->num_files; i++) {
        hr_map_close(&ck->file[i].map);
        hr_free(ck->ctx, ck->file[i].crc);
        hr_free(ck->ctx, (void *)(uintptr_t)ck->file[i].good);
    }
    hr_free(ck->ctx, ck->entries);
    hr_free(ck->ctx, ck);
}

/* ---- asking ---- */

const hr_meta *hr_checkpoint_meta(const hr_checkpoint *ck)
{
    return &ck->meta;
}

const char *hr_checkpoint_kind(const hr_checkpoint *ck)
{
    return ck->kind;
}

size_t hr_checkpoint_bytes(const hr_checkpoint *ck)
{
    size_t bytes = 0;
    for (int i = 0; i < ck->num_files; i++)
        bytes += ck->file[i].map.size;
    return bytes;
}

hr_status hr_checkpoint_text(const hr_checkpoint *ck, const char *key, const char **out)
{
    *out = hr_meta_get(&ck->meta, key);
    return *out ? HR_OK : hr_fail(ck->ctx, HR_ERR_DATA, "%s/" HR_MANIFEST ": \"meta\" has no \"%s\"", ck->path, key);
}

hr_status hr_checkpoint_int(const hr_checkpoint *ck, const char *key, int64_t low, int64_t high, int64_t *out)
{
    const char *text;
    HR_TRY(hr_checkpoint_text(ck, key, &text));
    char *end;
    long long v = strtoll(text, &end, 10);
    if (end == text || *end || v < low || v > high)
        return hr_fail(ck->ctx, HR_ERR_DATA, "%s/" HR_MANIFEST ": \"%s\" is \"%s\", expected a number from %lld to %lld", ck->path,
                       key, text, (long long)low, (long long)high);
    *out = v;
    return HR_OK;
}

hr_status hr_checkpoint_number(const hr_checkpoint *ck, const char *key, double *out)
{
    const char *text;
    HR_TRY(hr_checkpoint_text(ck, key, &text));
    if (!hr_meta_parse_number(text, out))
        return hr_fail(ck->ctx, HR_ERR_DATA, "%s/" HR_MANIFEST ": \"%s\" is \"%s\", expected a number", ck->path, key, text);
    return HR_OK;
}

int hr_checkpoint_shards(const hr_checkpoint *ck, const char *name)
{
    int n = 0;
    for (int i = 0; i < ck->num_entries; i++)
        n += strcmp(ck->entries[i].tensor.name, name) == 0;
    return n;
}

hr_status hr_checkpoint_find(const hr_checkpoint *ck, const char *name, int shard, hr_tensor *out)
{
    for (int i = 0, n = 0; i < ck->num_entries; i++) {
        if (strcmp(ck->entries[i].tensor.name, name) == 0 && n++ == shard) {
            *out = ck->entries[i].tensor;
            return HR_OK;
        }
    }
    return hr_fail(ck->ctx, HR_ERR_DATA, "%s: tensor \"%s\" is missing (shard %d)", ck->path, name, shard);
}

/* Verifies and copies piece by piece, and lets go of each piece, so that the file never counts as memory in use. */
static hr_status copy_out(hr_checkpoint *ck, uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += COPY_PIECE) {
        const size_t n = bytes - at < COPY_PIECE ? bytes - at : COPY_PIECE;
        HR_TRY(hr_checkpoint_verify(ck, from + at, n));
        memcpy(to + at, from + at, n);
        hr_map_drop(from + at, n);
    }
    return HR_OK;
}

/* The same for rows that go elsewhere. */
static hr_status put_out(hr_checkpoint *ck, const hr_tensor *into, int64_t row, const hr_tensor *from, size_t row_bytes)
{
    const int64_t most = row_bytes < COPY_PIECE ? (int64_t)(COPY_PIECE / row_bytes) : 1;
    for (int64_t at = 0, n; at < from->rows; at += n) {
        const uint8_t *p = (const uint8_t *)from->data + (size_t)at * row_bytes;
        n = from->rows - at < most ? from->rows - at : most;
        HR_TRY(hr_checkpoint_verify(ck, p, (size_t)n * row_bytes));
        HR_TRY(into->far->put(into->owner, into->part, row + at, n, row_bytes, p));
        hr_map_drop(p, (size_t)n * row_bytes);
    }
    return HR_OK;
}

hr_status hr_checkpoint_load(hr_checkpoint *ck, const hr_tensor *into)
{
    int64_t row = 0;
    const size_t row_bytes = (size_t)into->cols * hr_tensor_element_bytes(into->type);
    const int shards = hr_checkpoint_shards(ck, into->name);
    for (int s = 0; s < shards || s == 0; s++) {
        hr_tensor t;
        HR_TRY(hr_checkpoint_find(ck, into->name, s, &t));
        if (t.type != into->type || t.cols != into->cols || t.rows > into->rows - row)
            return hr_fail(ck->ctx, HR_ERR_DATA, "%s: tensor \"%s\" is %s (%lld rows, %lld columns), expected %s (%lld, %lld)",
                           ck->path, t.name, hr_tensor_type_name(t.type), (long long)(row + t.rows), (long long)t.cols,
                           hr_tensor_type_name(into->type), (long long)into->rows, (long long)into->cols);
        if (into->far)
            HR_TRY(put_out(ck, into, row, &t, row_bytes));
        else
            HR_TRY(copy_out(ck, (uint8_t *)into->data + (size_t)row * row_bytes, t.data, (size_t)t.rows * row_bytes));
        row += t.rows;
    }
    if (row != into->rows)
        return hr_fail(ck->ctx, HR_ERR_DATA, "%s: tensor \"%s\" has %lld rows, expected %lld", ck->path, into->name,
                       (long long)row, (long long)into->rows);
    return HR_OK;
}
