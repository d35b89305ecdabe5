/* Writing a checkpoint. Tensors that have a row for each label go into head-*.safetensors, cut by rows; the others
 * into model.safetensors. */
#include "checkpoint/internal.h"

#include "base/crc32c.h"

#include <cjson/cJSON.h>
#include <stdio.h>

/* A file being written, with the checksum of every MiB. */
typedef struct sum_file {
    hr_file file;
    uint64_t bytes;
    uint32_t crc;
    cJSON *sums; /* of the finished blocks; owned by the manifest */
} sum_file;

static hr_status no_json_memory(hr_ctx *ctx)
{
    return hr_fail(ctx, HR_ERR_NOMEM, "no memory for the manifest of a checkpoint");
}

static hr_status end_block(sum_file *f)
{
    char hex[9];
    snprintf(hex, sizeof hex, "%08x", (unsigned)f->crc);
    f->crc = 0;
    return cJSON_AddItemToArray(f->sums, cJSON_CreateString(hex)) ? HR_OK : no_json_memory(f->file.ctx);
}

static hr_status put(sum_file *f, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes > 0) {
        const size_t room = HR_CRC_BLOCK - f->bytes % HR_CRC_BLOCK, n = bytes < room ? bytes : room;
        HR_TRY(hr_file_write(&f->file, p, n));
        f->crc = hr_crc32c(f->crc, p, n);
        f->bytes += n;
        p += n;
        bytes -= n;
        if (n == room)
            HR_TRY(end_block(f));
    }
    return HR_OK;
}

/* Opens folder/name and adds its entry to the manifest's list of files. */
static hr_status begin_file(hr_ctx *ctx, const char *folder, const char *name, cJSON *files, sum_file *f, cJSON **entry)
{
    char path[HR_PATH_MAX];
    *f = (sum_file){.file = {.ctx = ctx, .fd = -1}};
    HR_TRY(hr_path_format(ctx, path, "%s/%s", folder, name));
    cJSON *e = cJSON_CreateObject();
    if (!e || !cJSON_AddItemToArray(files, e)) {
        cJSON_Delete(e);
        return no_json_memory(ctx);
    }
    if (!cJSON_AddStringToObject(e, "name", name) || !(f->sums = cJSON_AddArrayToObject(e, "crc32c")))
        return no_json_memory(ctx);
    *entry = e;
    return hr_file_create(ctx, path, &f->file);
}

static hr_status end_file(sum_file *f, cJSON *entry, hr_status st)
{
    if (st == HR_OK && f->bytes % HR_CRC_BLOCK)
        st = end_block(f);
    if (st == HR_OK && !cJSON_AddNumberToObject(entry, "bytes", (double)f->bytes))
        st = no_json_memory(f->file.ctx);
    if (st == HR_OK)
        st = hr_file_sync(&f->file);
    hr_status closed = hr_file_close(&f->file);
    return st == HR_OK ? closed : st;
}

/* ---- safetensors ---- */

/* The rows [row, row + rows) of a tensor that go into one file. */
static void slice(const hr_tensor *t, int64_t shard, int64_t shard_rows, int64_t *row, int64_t *rows)
{
    const int64_t most = t->shard_group ? shard_rows / t->shard_group : t->rows;
    *row = t->shard_group ? shard * most : 0;
    *rows = t->rows - *row;
    if (*rows > most)
        *rows = most;
    if (*rows < 0)
        *rows = 0;
}

static size_t row_bytes(const hr_tensor *t)
{
    return (size_t)t->cols * hr_tensor_element_bytes(t->type);
}

static bool belongs(const hr_checkpoint_content *content, const hr_tensor *t, bool sharded)
{
    return (t->shard_group > 0) == sharded && (content->with_state || !t->state);
}

/* The order of tensors in a file, without gaps and with every element where it may be read in place: first those of whole cache lines,
 * then the others from wide to narrow elements. */
static int file_order(const hr_tensor_list *list, int order[HR_TENSORS_MAX])
{
    int count = 0;
    for (size_t size = 64; size > 0; size /= 2)
        for (int i = 0; i < list->count; i++) {
            const hr_tensor *t = &list->item[i];
            const bool lines = row_bytes(t) % 64 == 0;
            if (size == (lines ? 64 : hr_tensor_element_bytes(t->type)))
                order[count++] = i;
        }
    return count;
}

/* {"name":{"dtype":..,"shape":[..],"data_offsets":[..]},...}, padded so that data begin at a multiple of 4 KiB. */
static hr_status put_header(sum_file *f, const hr_checkpoint_content *content, bool sharded, int64_t shard)
{
    hr_ctx *ctx = f->file.ctx;
    const size_t room = 256 * (HR_TENSORS_MAX + 1) + 8192;
    char *text = hr_alloc(ctx, HR_MEM_CHECKPOINT, room);
    if (!text)
        return HR_ERR_NOMEM;
    size_t at = 8, offset = 0;
    int order[HR_TENSORS_MAX];
    at += (size_t)snprintf(text + at, room - at, "{");
    for (int i = 0, n = file_order(content->tensors, order); i < n; i++) {
        const hr_tensor *t = &content->tensors->item[order[i]];
        int64_t row, rows;
        slice(t, shard, content->shard_rows, &row, &rows);
        if (!belongs(content, t, sharded) || rows == 0)
            continue;
        const size_t bytes = (size_t)rows * row_bytes(t);
        at += (size_t)snprintf(text + at, room - at, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld,%lld],\"data_offsets\":[%zu,%zu]}",
                               at > 9 ? "," : "", t->name, hr_tensor_type_name(t->type), (long long)rows, (long long)t->cols,
                               offset, offset + bytes);
        offset += bytes;
    }
    at += (size_t)snprintf(text + at, room - at, "}");
    while (at % HR_HEADER_ALIGN)
        text[at++] = ' ';
    for (int i = 0; i < 8; i++)
        text[i] = (char)((at - 8) >> (8 * i));
    hr_status st = put(f, text, at);
    hr_free(ctx, text);
    return st;
}

/* Rows that are elsewhere come by way of a piece of memory. */
static hr_status put_far(sum_file *f, const hr_tensor *t, int64_t row, int64_t rows)
{
    enum { PIECE = 4 << 20 };
    const size_t bytes = row_bytes(t);
    const int64_t most = bytes < PIECE ? (int64_t)(PIECE / bytes) : 1, room = most < rows ? most : rows;
    uint8_t *piece = hr_alloc(f->file.ctx, HR_MEM_CHECKPOINT, hr_mul((size_t)room, bytes));
    hr_status st = piece ? HR_OK : HR_ERR_NOMEM;
    for (int64_t at = row, n; at < row + rows && st == HR_OK; at += n) {
        n = row + rows - at < room ? row + rows - at : room;
        memset(piece, 0, (size_t)n * bytes);
        st = t->far->get(t->owner, t->part, at, n, bytes, piece);
        if (st == HR_OK)
            st = put(f, piece, (size_t)n * bytes);
    }
    hr_free(f->file.ctx, piece);
    return st;
}

static hr_status put_rows(sum_file *f, const hr_tensor *t, int64_t row, int64_t rows)
{
    return t->far ? put_far(f, t, row, rows) : put(f, (const uint8_t *)t->data + (size_t)row * row_bytes(t), (size_t)rows * row_bytes(t));
}

static hr_status write_tensors(hr_ctx *ctx, const char *folder, const char *name, const hr_checkpoint_content *content,
                               bool sharded, int64_t shard, cJSON *files)
{
    sum_file f;
    cJSON *entry = NULL;
    hr_status st = begin_file(ctx, folder, name, files, &f, &entry);
    if (st == HR_OK)
        st = put_header(&f, content, sharded, shard);
    int order[HR_TENSORS_MAX];
    for (int i = 0, n = file_order(content->tensors, order); st == HR_OK && i < n; i++) {
        const hr_tensor *t = &content->tensors->item[order[i]];
        int64_t row, rows;
        slice(t, shard, content->shard_rows, &row, &rows);
        if (belongs(content, t, sharded) && rows > 0)
            st = put_rows(&f, t, row, rows);
    }
    return end_file(&f, entry, st);
}

static hr_status write_extra(hr_ctx *ctx, const char *folder, const hr_checkpoint_extra *extra, cJSON *files)
{
    hr_map map;
    HR_TRY(hr_map_open(ctx, extra->from, &map));
    sum_file f;
    cJSON *entry = NULL;
    hr_status st = begin_file(ctx, folder, extra->name, files, &f, &entry);
    if (st == HR_OK)
        st = put(&f, map.data, map.size);
    st = end_file(&f, entry, st);
    hr_map_close(&map);
    return st;
}

/* ---- the folder ---- */

static int64_t count_shards(const hr_checkpoint_content *content)
{
    int64_t shards = 0;
    for (int i = 0; i < content->tensors->count; i++) {
        const hr_tensor *t = &content->tensors->item[i];
        const int64_t rows = t->shard_group ? content->shard_rows / t->shard_group : 0;
        const int64_t n = rows ? (t->rows + rows - 1) / rows : 0;
        shards = n > shards ? n : shards;
    }
    return shards;
}

static hr_status write_files(hr_ctx *ctx, const char *folder, const hr_checkpoint_content *content, cJSON *files)
{
    const int64_t shards = count_shards(content);
    if (shards + content->num_extra + 1 > HR_CHECKPOINT_FILES_MAX)
        return hr_fail(ctx, HR_ERR_BUG, "%s: %lld shards are too many", folder, (long long)shards);
    for (int64_t s = 0; s < shards; s++) {
        char name[HR_FILE_NAME_MAX];
        snprintf(name, sizeof name, "head-%05lld-of-%05lld.safetensors", (long long)s, (long long)shards);
        HR_TRY(write_tensors(ctx, folder, name, content, true, s, files));
    }
    HR_TRY(write_tensors(ctx, folder, "model.safetensors", content, false, 0, files));
    for (int i = 0; i < content->num_extra; i++)
        HR_TRY(write_extra(ctx, folder, &content->extra[i], files));
    return HR_OK;
}

static cJSON *make_manifest(const hr_checkpoint_content *content)
{
    cJSON *root = cJSON_CreateObject(), *meta = NULL;
    if (!root || !cJSON_AddStringToObject(root, HR_MANIFEST_SUM, "00000000") ||
        !cJSON_AddStringToObject(root, "format", HR_CHECKPOINT_FORMAT) ||
        !cJSON_AddNumberToObject(root, "version", HR_CHECKPOINT_VERSION) ||
        !cJSON_AddStringToObject(root, "kind", content->kind) ||
        !cJSON_AddNumberToObject(root, "shard_rows", (double)content->shard_rows) ||
        !(meta = cJSON_AddObjectToObject(root, "meta"))) {
        cJSON_Delete(root);
        return NULL;
    }
    for (int i = 0; i < content->meta->count; i++)
        if (!cJSON_AddStringToObject(meta, content->meta->item[i].key, content->meta->item[i].value)) {
            cJSON_Delete(root);
            return NULL;
        }
    return root;
}

static hr_status write_manifest(hr_ctx *ctx, const char *folder, const cJSON *root)
{
    char *text = cJSON_Print(root), path[HR_PATH_MAX];
    if (!text)
        return no_json_memory(ctx);
    char sum[9];
    snprintf(sum, sizeof sum, "%08x", (unsigned)hr_crc32c(0, text, strlen(text)));
    memcpy(hr_manifest_sum(text), sum, 8);
    hr_file file = {.ctx = ctx, .fd = -1};
    hr_status st = hr_path_format(ctx, path, "%s/" HR_MANIFEST, folder);
    if (st == HR_OK)
        st = hr_file_create(ctx, path, &file);
    if (st == HR_OK)
        st = hr_file_write(&file, text, strlen(text));
    if (st == HR_OK)
        st = hr_file_sync(&file);
    hr_status closed = hr_file_close(&file);
    cJSON_free(text);
    return st == HR_OK ? closed : st;
}

static hr_status write_folder(hr_ctx *ctx, const char *folder, const hr_checkpoint_content *content)
{
    HR_TRY(hr_dir_remove(ctx, folder)); /* left behind by a killed process of the same number */
    HR_TRY(hr_dir_make(ctx, folder));
    cJSON *root = make_manifest(content), *files = root ? cJSON_AddArrayToObject(root, "files") : NULL;
    hr_status st = files ? write_files(ctx, folder, content, files) : no_json_memory(ctx);
    if (st == HR_OK)
        st = write_manifest(ctx, folder, root);
    cJSON_Delete(root);
    return st;
}

hr_status hr_checkpoint_write(hr_ctx *ctx, const char *path, const hr_checkpoint_content *content)
{
    char fresh[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, fresh, "%s.tmp", path));
    hr_status st = write_folder(ctx, fresh, content);
    if (st == HR_OK)
        st = hr_dir_replace(ctx, fresh, path);
    if (st != HR_OK) { /* the message of the failure must survive the cleaning */
        char message[512];
        snprintf(message, sizeof message, "%s", hr_ctx_message(ctx));
        (void)hr_dir_remove(ctx, fresh);
        return hr_fail(ctx, st, "%s", message);
    }
    return HR_OK;
}
