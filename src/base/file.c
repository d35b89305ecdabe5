/* Files over POSIX descriptors. Every system call that may fail first asks the fault hook (call_fails). */
#define _GNU_SOURCE 1
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* True when the fault hook wants this call to fail; errno is then EIO. */
static bool call_fails(hr_ctx *ctx)
{
    bool fail = hr_ctx_fault(ctx, HR_FAULT_FILE);
    if (fail)
        errno = EIO;
    return fail;
}

static hr_status fail_errno(hr_ctx *ctx, hr_status usual, const char *path, const char *what)
{
    int e = errno;
    hr_status st = usual;
    const char *advice = "";
    if (e == ENOENT && usual != HR_ERR_CANTCREATE)
        st = HR_ERR_NOINPUT;
    if (e == EACCES || e == EPERM || e == EROFS)
        st = HR_ERR_PERMISSION;
    if (e == ENOSPC || e == EDQUOT)
        advice = "; free some space and run again";
    if (e == ENOMEM)
        st = HR_ERR_NOMEM;
    char text[128] = "";
    const char *reason = strerror_r(e, text, sizeof text);
    return hr_fail(ctx, st, "%s: cannot %s: %s%s", path, what, reason, advice);
}

hr_status hr_path_format(hr_ctx *ctx, char path[HR_PATH_MAX], const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(path, HR_PATH_MAX, format, args);
    va_end(args);
    if (n < 0 || n >= HR_PATH_MAX)
        return hr_fail(ctx, HR_ERR_USAGE, "path too long (%d bytes, at most %d): %.80s...", n, HR_PATH_MAX - 1, path);
    return HR_OK;
}

static hr_status open_file(hr_ctx *ctx, const char *path, int flags, hr_status usual, const char *what, hr_file *out)
{
    *out = (hr_file){.ctx = ctx, .fd = -1};
    HR_TRY(hr_path_format(ctx, out->path, "%s", path));
    int fd = call_fails(ctx) ? -1 : open(path, flags | O_CLOEXEC, 0666);
    if (fd < 0)
        return fail_errno(ctx, usual, path, what);
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISDIR(info.st_mode)) {
        close(fd);
        return hr_fail(ctx, HR_ERR_DATA, "%s: is a folder, expected a file", path);
    }
    out->fd = fd;
    return HR_OK;
}

hr_status hr_file_open(hr_ctx *ctx, const char *path, hr_file *out)
{
    return open_file(ctx, path, O_RDONLY, HR_ERR_NOINPUT, "open", out);
}

hr_status hr_file_create(hr_ctx *ctx, const char *path, hr_file *out)
{
    return open_file(ctx, path, O_RDWR | O_CREAT | O_TRUNC, HR_ERR_CANTCREATE, "create", out);
}

hr_status hr_file_append(hr_ctx *ctx, const char *path, hr_file *out)
{
    return open_file(ctx, path, O_RDWR | O_CREAT | O_APPEND, HR_ERR_CANTCREATE, "open for appending", out);
}

hr_status hr_file_read(hr_file *file, void *data, size_t bytes, size_t *got)
{
    *got = 0;
    while (*got < bytes) {
        ssize_t n = call_fails(file->ctx) ? -1 : read(file->fd, (char *)data + *got, bytes - *got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(file->ctx, HR_ERR_IO, file->path, "read");
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return HR_OK;
}

hr_status hr_file_write(hr_file *file, const void *data, size_t bytes)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = call_fails(file->ctx) ? -1 : write(file->fd, (const char *)data + done, bytes - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(file->ctx, HR_ERR_IO, file->path, "write");
        done += (size_t)n;
    }
    return HR_OK;
}

hr_status hr_file_truncate(hr_file *file, uint64_t bytes)
{
    if (call_fails(file->ctx) || ftruncate(file->fd, (off_t)bytes) != 0 || lseek(file->fd, 0, SEEK_END) < 0)
        return fail_errno(file->ctx, HR_ERR_IO, file->path, "truncate");
    return HR_OK;
}

hr_status hr_file_size(hr_file *file, uint64_t *out)
{
    struct stat info;
    if (call_fails(file->ctx) || fstat(file->fd, &info) != 0)
        return fail_errno(file->ctx, HR_ERR_IO, file->path, "stat");
    *out = (uint64_t)info.st_size;
    return HR_OK;
}

hr_status hr_file_pwrite(hr_file *file, const void *data, size_t bytes, uint64_t offset)
{
    for (size_t done = 0; done < bytes;) {
        ssize_t n = call_fails(file->ctx) ? -1
                                          : pwrite(file->fd, (const char *)data + done, bytes - done,
                                                   (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(file->ctx, HR_ERR_IO, file->path, "write");
        done += (size_t)n;
    }
    return HR_OK;
}

hr_status hr_file_sync(hr_file *file)
{
    if (call_fails(file->ctx) || fsync(file->fd) != 0)
        return fail_errno(file->ctx, HR_ERR_IO, file->path, "sync");
    return HR_OK;
}

hr_status hr_file_close(hr_file *file)
{
    if (file->fd < 0)
        return HR_OK;
    bool fail = call_fails(file->ctx); /* the descriptor is released in any case */
    int rc = close(file->fd);
    file->fd = -1;
    if (fail || rc != 0)
        return fail_errno(file->ctx, HR_ERR_IO, file->path, "close");
    return HR_OK;
}

hr_status hr_map_open(hr_ctx *ctx, const char *path, hr_map *out)
{
    *out = (hr_map){.ctx = ctx};
    hr_file file;
    HR_TRY(hr_file_open(ctx, path, &file));
    uint64_t size = 0;
    hr_status st = hr_file_size(&file, &size);
    if (st == HR_OK && size > 0) {
        void *p = call_fails(ctx) ? MAP_FAILED : mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, file.fd, 0);
        if (p == MAP_FAILED)
            st = fail_errno(ctx, HR_ERR_IO, path, "map");
        else
            *out = (hr_map){.ctx = ctx, .data = p, .size = (size_t)size};
    }
    close(file.fd); /* nothing was written through it */
    return st;
}

void hr_map_close(hr_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (hr_map){.ctx = map->ctx};
}

void hr_map_drop(const void *data, size_t bytes)
{
    const uintptr_t begin = ((uintptr_t)data + 4095) & ~(uintptr_t)4095, end = ((uintptr_t)data + bytes) & ~(uintptr_t)4095;
    if (end > begin)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* advice only */
}

hr_status hr_file_slurp(hr_ctx *ctx, const char *path, size_t limit, char **text, size_t *length)
{
    *text = NULL;
    *length = 0;
    hr_file file;
    HR_TRY(hr_file_open(ctx, path, &file));
    uint64_t size = 0;
    hr_status st = hr_file_size(&file, &size);
    if (st == HR_OK && size > limit)
        st = hr_fail(ctx, HR_ERR_DATA, "%s: %llu bytes, expected at most %zu", path, (unsigned long long)size, limit);
    if (st == HR_OK && !(*text = hr_alloc(ctx, HR_MEM_OTHER, (size_t)size + 1)))
        st = HR_ERR_NOMEM;
    if (st == HR_OK)
        st = hr_file_read(&file, *text, (size_t)size, length);
    close(file.fd);
    if (st != HR_OK) {
        hr_free(ctx, *text);
        *text = NULL;
        return st;
    }
    (*text)[*length] = 0;
    return HR_OK;
}

bool hr_path_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool hr_path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

hr_status hr_dir_make(hr_ctx *ctx, const char *path)
{
    char part[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, part, "%s", path));
    for (char *p = part + 1;; p++) {
        if (*p != '/' && *p != 0)
            continue;
        char kept = *p;
        *p = 0;
        if (!hr_path_is_dir(part) && (call_fails(ctx) || (mkdir(part, 0777) != 0 && errno != EEXIST)))
            return fail_errno(ctx, HR_ERR_CANTCREATE, part, "make the folder");
        *p = kept;
        if (kept == 0)
            break;
    }
    if (!hr_path_is_dir(path))
        return hr_fail(ctx, HR_ERR_CANTCREATE, "%s: exists and is not a folder", path);
    return HR_OK;
}

hr_status hr_dir_sync(hr_ctx *ctx, const char *path)
{
    int fd = call_fails(ctx) ? -1 : open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno(ctx, HR_ERR_IO, path, "open the folder");
    bool fail = call_fails(ctx) || fsync(fd) != 0;
    hr_status st = fail ? fail_errno(ctx, HR_ERR_IO, path, "sync the folder") : HR_OK;
    close(fd);
    return st;
}

hr_status hr_dir_each(hr_ctx *ctx, const char *path, hr_dir_fn *fn, void *arg)
{
    struct dirent **names = NULL;
    int n = call_fails(ctx) ? -1 : scandir(path, &names, NULL, alphasort);
    if (n < 0)
        return fail_errno(ctx, HR_ERR_NOINPUT, path, "list the folder");
    hr_status st = HR_OK;
    for (int i = 0; i < n; i++) {
        const char *name = names[i]->d_name;
        if (st == HR_OK && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            st = fn(arg, name);
        free(names[i]);
    }
    free(names);
    return st;
}

typedef struct remove_work {
    hr_ctx *ctx;
    const char *folder;
    int depth;
} remove_work;

static hr_status remove_folder(hr_ctx *ctx, const char *path, int depth);

static hr_status remove_entry(void *arg, const char *name)
{
    const remove_work *work = arg;
    char path[HR_PATH_MAX];
    HR_TRY(hr_path_format(work->ctx, path, "%s/%s", work->folder, name));
    struct stat info;
    if (work->depth > 0 && lstat(path, &info) == 0 && S_ISDIR(info.st_mode))
        return remove_folder(work->ctx, path, work->depth - 1);
    return hr_path_remove(work->ctx, path);
}

static hr_status remove_folder(hr_ctx *ctx, const char *path, int depth)
{
    remove_work work = {.ctx = ctx, .folder = path, .depth = depth};
    HR_TRY(hr_dir_each(ctx, path, remove_entry, &work));
    if (call_fails(ctx) || rmdir(path) != 0)
        return fail_errno(ctx, HR_ERR_IO, path, "remove the folder");
    return HR_OK;
}

hr_status hr_dir_remove(hr_ctx *ctx, const char *path)
{
    struct stat info; /* a link is removed, never followed */
    if (lstat(path, &info) == 0 && S_ISLNK(info.st_mode))
        return hr_path_remove(ctx, path);
    return hr_path_is_dir(path) ? remove_folder(ctx, path, 1) : HR_OK;
}

hr_status hr_path_rename(hr_ctx *ctx, const char *from, const char *to)
{
    if (call_fails(ctx) || rename(from, to) != 0)
        return fail_errno(ctx, HR_ERR_IO, from, "rename");
    return HR_OK;
}

/* In three steps, for file systems that cannot exchange (NFS, some FUSE). Stopped in between, b is missing and its content
 * stands in b.exchange, which the next exchange removes. */
static hr_status exchange_slowly(hr_ctx *ctx, const char *a, const char *b)
{
    char aside[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, aside, "%s.exchange", b));
    HR_TRY(hr_dir_remove(ctx, aside));
    HR_TRY(hr_path_rename(ctx, b, aside));
    hr_status st = hr_path_rename(ctx, a, b);
    if (st != HR_OK) {
        (void)rename(aside, b); /* back again; the failure is already told */
        return st;
    }
    return hr_path_rename(ctx, aside, a);
}

hr_status hr_path_exchange(hr_ctx *ctx, const char *a, const char *b)
{
    if (!call_fails(ctx) && renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE) == 0)
        return HR_OK;
    if (errno == EINVAL || errno == ENOSYS || errno == ENOTSUP)
        return exchange_slowly(ctx, a, b);
    return fail_errno(ctx, HR_ERR_IO, a, "exchange with the older one");
}

hr_status hr_path_remove(hr_ctx *ctx, const char *path)
{
    if (call_fails(ctx) || (unlink(path) != 0 && errno != ENOENT))
        return fail_errno(ctx, HR_ERR_IO, path, "remove");
    return HR_OK;
}

/* The folder that holds `path`, synced. */
static hr_status sync_parent(hr_ctx *ctx, const char *path)
{
    char parent[HR_PATH_MAX];
    HR_TRY(hr_path_format(ctx, parent, "%s", path));
    char *slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent] = 0; /* "/name" is in "/" */
    return hr_dir_sync(ctx, slash ? parent : ".");
}

hr_status hr_dir_replace(hr_ctx *ctx, const char *fresh, const char *path)
{
    const bool replaces = hr_path_is_dir(path);
    HR_TRY(hr_dir_sync(ctx, fresh));
    HR_TRY(replaces ? hr_path_exchange(ctx, fresh, path) : hr_path_rename(ctx, fresh, path));
    hr_status st = sync_parent(ctx, path);
    if (st != HR_OK) { /* not known to be durable: everything as it was before */
        (void)(replaces ? renameat2(AT_FDCWD, fresh, AT_FDCWD, path, RENAME_EXCHANGE) : rename(path, fresh));
        return st;
    }
    /* the new one is in place: an old one that cannot be removed is a nuisance, not a failure */
    if (replaces && hr_dir_remove(ctx, fresh) != HR_OK && hr_dir_remove(ctx, fresh) != HR_OK)
        hr_log(ctx, HR_LOG_WARNING, "%s; it is no longer needed and may be removed by hand", hr_ctx_message(ctx));
    return HR_OK;
}

hr_status hr_file_lock(hr_ctx *ctx, const char *path, hr_file *out)
{
    HR_TRY(open_file(ctx, path, O_RDWR | O_CREAT, HR_ERR_CANTCREATE, "create", out));
    if (call_fails(ctx) || flock(out->fd, LOCK_EX | LOCK_NB) != 0) {
        hr_status st = errno == EWOULDBLOCK
                           ? hr_fail(ctx, HR_ERR_CANTCREATE, "%s: another process is using this run folder", path)
                           : fail_errno(ctx, HR_ERR_IO, path, "lock");
        close(out->fd);
        out->fd = -1;
        return st;
    }
    return HR_OK;
}
