/* Checkpoints: a folder of safetensors files, other files, and manifest.json, which is written last.
 * docs/checkpoint_format.md is the truth about the format.
 *
 * A save is written beside its final name, each file synced, the manifest last; then the folder is renamed into place
 * and the parent synced. A stopped save never harms an older one. Every byte is covered by CRC-32C per MiB.
 * Reading maps the files; a block is verified when it is first needed, or all at once. */
#ifndef HR_CHECKPOINT_CHECKPOINT_H
#define HR_CHECKPOINT_CHECKPOINT_H

#include "base/file.h"
#include "dtype/tensor.h"

/* ---- key-values ---- */

enum { HR_META_MAX = 128, HR_META_KEY = 40, HR_META_VALUE = 128 };

typedef struct hr_meta {
    int count;
    struct {
        char key[HR_META_KEY], value[HR_META_VALUE];
    } item[HR_META_MAX];
} hr_meta;

/* Adds or replaces; too long or too many is our own mistake (assert). */
void hr_meta_set(hr_meta *meta, const char *key, const char *format, ...) HR_PRINTF(3, 4);
/* The shortest decimal that reads back to the same bits; "nan". Independent of the locale, which "%g" and "%a" are not. */
void hr_meta_set_number(hr_meta *meta, const char *key, double value);
/* NULL: no such key. */
const char *hr_meta_get(const hr_meta *meta, const char *key);

/* ---- writing ---- */

typedef struct hr_checkpoint_extra {
    const char *from, *name; /* a file to copy into the folder, and its name there */
} hr_checkpoint_extra;

typedef struct hr_checkpoint_content {
    const char *kind;              /* "run" or "model" */
    const hr_tensor_list *tensors;
    bool with_state;               /* false: tensors marked `state` are left out */
    int64_t shard_rows;            /* labels of a shard; a multiple of every shard_group */
    const hr_meta *meta;
    const hr_checkpoint_extra *extra;
    int num_extra;
} hr_checkpoint_content;

/* Writes or replaces the folder `path`. On failure whatever was there before is untouched. */
hr_status hr_checkpoint_write(hr_ctx *ctx, const char *path, const hr_checkpoint_content *content);

/* ---- reading ---- */

typedef struct hr_checkpoint hr_checkpoint;

hr_status hr_checkpoint_open(hr_ctx *ctx, const char *path, bool verify_all, hr_checkpoint **out);
void hr_checkpoint_close(hr_checkpoint *ck);
const hr_meta *hr_checkpoint_meta(const hr_checkpoint *ck);
const char *hr_checkpoint_kind(const hr_checkpoint *ck);
size_t hr_checkpoint_bytes(const hr_checkpoint *ck);

/* A required key of the meta, read whole; HR_ERR_DATA when it is missing or not such a number. Numbers may also stand
 * in the hexadecimal notation of C, as the first builds wrote them. */
hr_status hr_checkpoint_int(const hr_checkpoint *ck, const char *key, int64_t low, int64_t high, int64_t *out);
hr_status hr_checkpoint_number(const hr_checkpoint *ck, const char *key, double *out);
hr_status hr_checkpoint_text(const hr_checkpoint *ck, const char *key, const char **out);

/* Number of shards of a tensor; 0: no such tensor. */
int hr_checkpoint_shards(const hr_checkpoint *ck, const char *name);
/* The view of one shard (rows and data of that shard; do not write). Not verified yet. Shards of a tensor hold
 * the same number of rows but the last. */
hr_status hr_checkpoint_find(const hr_checkpoint *ck, const char *name, int shard, hr_tensor *out);
/* Verifies the blocks behind a range of a tensor; cheap when they are known to be good. Any thread may call it. */
hr_status hr_checkpoint_verify(hr_checkpoint *ck, const void *data, size_t bytes);
/* Verifies a whole file of the folder. */
hr_status hr_checkpoint_verify_file(hr_checkpoint *ck, const char *name);
/* Copies all shards of a tensor, verified, into `into`, whose type, rows and columns must agree. */
hr_status hr_checkpoint_load(hr_checkpoint *ck, const hr_tensor *into);

#endif
