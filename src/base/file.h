/* Files: the only room that reads errno. Every call names the path in its message and can be made to fail
 * (hr_ctx_fail_next). Written files are made durable by hr_file_sync + hr_path_rename + hr_dir_sync. */
#ifndef HR_BASE_FILE_H
#define HR_BASE_FILE_H

#include "base/ctx.h"

#define HR_PATH_MAX 1024

/* printf into a path buffer; HR_ERR_USAGE if it does not fit. */
hr_status hr_path_format(hr_ctx *ctx, char path[HR_PATH_MAX], const char *format, ...) HR_PRINTF(3, 4);

typedef struct hr_file {
    hr_ctx *ctx;
    int fd; /* -1: closed */
    char path[HR_PATH_MAX];
} hr_file;

/* HR_ERR_NOINPUT when there is no such file. */
hr_status hr_file_open(hr_ctx *ctx, const char *path, hr_file *out);
/* Makes or empties a file; HR_ERR_CANTCREATE when it cannot be made. */
hr_status hr_file_create(hr_ctx *ctx, const char *path, hr_file *out);
hr_status hr_file_append(hr_ctx *ctx, const char *path, hr_file *out);
/* Reads up to `bytes`; *got = 0 at the end of the file. */
hr_status hr_file_read(hr_file *file, void *data, size_t bytes, size_t *got);
hr_status hr_file_write(hr_file *file, const void *data, size_t bytes);
/* Writes at a place and leaves the position alone. */
hr_status hr_file_pwrite(hr_file *file, const void *data, size_t bytes, uint64_t offset);
hr_status hr_file_truncate(hr_file *file, uint64_t bytes);
hr_status hr_file_size(hr_file *file, uint64_t *out);
hr_status hr_file_sync(hr_file *file);
/* Closing twice is fine. A failing close is a failing write. */
hr_status hr_file_close(hr_file *file);

/* A whole file mapped read-only. Empty files have data == NULL. */
typedef struct hr_map {
    hr_ctx *ctx;
    const uint8_t *data;
    size_t size;
} hr_map;

hr_status hr_map_open(hr_ctx *ctx, const char *path, hr_map *out);
void hr_map_close(hr_map *map);
/* Lets go of the pages behind a range of a mapped file; they are read again when touched. */
void hr_map_drop(const void *data, size_t bytes);

/* A whole small file in memory (kind HR_MEM_OTHER), NUL-terminated; free with hr_free.
 * HR_ERR_DATA when it is larger than `limit` bytes. */
hr_status hr_file_slurp(hr_ctx *ctx, const char *path, size_t limit, char **text, size_t *length);

bool hr_path_exists(const char *path);
bool hr_path_is_dir(const char *path);
hr_status hr_dir_make(hr_ctx *ctx, const char *path); /* with parents; existing is fine */
hr_status hr_dir_sync(hr_ctx *ctx, const char *path);
/* Calls fn for each entry but "." and "..", sorted by name; stops at the first failure. */
typedef hr_status hr_dir_fn(void *arg, const char *name);
hr_status hr_dir_each(hr_ctx *ctx, const char *path, hr_dir_fn *fn, void *arg);
/* Removes a folder and the plain files in it, one level of folders deep; missing is fine. A link is removed, not followed. */
hr_status hr_dir_remove(hr_ctx *ctx, const char *path);
hr_status hr_path_rename(hr_ctx *ctx, const char *from, const char *to);
/* Exchanges two existing paths, in one step where the file system can. */
hr_status hr_path_exchange(hr_ctx *ctx, const char *a, const char *b);
hr_status hr_path_remove(hr_ctx *ctx, const char *path); /* a file; missing is fine */
/* Puts the finished folder `fresh` in the place of `path`, durably; an older folder there is exchanged with it, then removed. */
hr_status hr_dir_replace(hr_ctx *ctx, const char *fresh, const char *path);

/* An advisory lock on a file that is made if missing; HR_ERR_CANTCREATE when somebody else holds it.
 * Released by hr_file_close, and by the system when the process dies. */
hr_status hr_file_lock(hr_ctx *ctx, const char *path, hr_file *out);

#endif
