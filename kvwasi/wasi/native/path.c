/* The path_* calls. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "file.h"
#include "os.h"
#include "resolve.h"
#include "storage.h"

/* The directory descriptor `fd` for a call that needs `right`, and that changes something when `change`. */
static uint32_t directory_of(kvw_host *host, uint32_t fd, uint64_t right, bool change, kvw_descriptor **d)
{
    *d = kvw_descriptor_of(host, fd);
    if (!*d)
        return WASI_EBADF;
    if ((*d)->os_fd < 0)
        return WASI_ENOTDIR;
    if (KVW_UNLIKELY(!(*d)->typed))
        kvw_filetype(*d);
    if ((*d)->filetype != WASI_FILETYPE_DIRECTORY)
        return WASI_ENOTDIR;
    uint32_t error = kvw_may(*d, 0, right);
    if (error)
        return error;
    return change && (*d)->read_only ? WASI_EROFS : WASI_OK;
}

/* A directory descriptor and a path within it: arguments `fd`, `path`, `path_len` of most calls. */
typedef struct target {
    kvw_descriptor *d;
    char path[KVW_PATH_MAX];
} target;

static uint32_t target_of(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *fd,
                          const wasmtime_val_raw_t *path, uint64_t right, bool change, target *t)
{
    uint32_t error = directory_of(host, kvw_u32(fd), right, false, &t->d);
    if (!error)
        error = kvw_path_copy(memory, kvw_u32(path), kvw_u32(path + 1), t->path);
    if (!error && change && t->d->read_only)
        error = WASI_EROFS;
    return error;
}

/* Do `operation` on the name that `t` denotes. */
static uint32_t on_name(kvw_host *host, target *t,
                        int (*operation)(kvw_host *, int directory, const char *name))
{
    kvw_place place;
    int error = kvw_place_of(host, t->d->os_fd, t->path, &place);
    if (!error) {
        error = operation(host, place.directory, place.name);
        kvw_place_release(&place);
    }
    return kvw_errno(error);
}

uint32_t kvw_path_create_directory(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target t;
    uint32_t error = target_of(host, memory, a, a + 1, WASI_RIGHT_PATH_CREATE_DIRECTORY, true, &t);
    return error ? error : on_name(host, &t, kvw_storage_create_directory);
}

uint32_t kvw_path_remove_directory(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target t;
    uint32_t error = target_of(host, memory, a, a + 1, WASI_RIGHT_PATH_REMOVE_DIRECTORY, true, &t);
    return error ? error : on_name(host, &t, kvw_storage_remove_directory);
}

uint32_t kvw_path_unlink_file(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target t;
    uint32_t error = target_of(host, memory, a, a + 1, WASI_RIGHT_PATH_UNLINK_FILE, true, &t);
    kvw_file_unpark(host);
    return error ? error : on_name(host, &t, kvw_storage_unlink);
}

uint32_t kvw_path_filestat_get(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target t;
    uint32_t error = target_of(host, memory, a, a + 2, WASI_RIGHT_PATH_FILESTAT_GET, false, &t);
    if (error)
        return error;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 4), WASI_FILESTAT_SIZE);
    if (!result)
        return WASI_EFAULT;
    uint32_t lookup = kvw_u32(a + 1);
    if (lookup & ~WASI_LOOKUP_FOLLOW)
        return WASI_EINVAL;
    struct stat st;
    int os_error = kvw_stat_beneath(host, t.d->os_fd, t.path, lookup, &st);
    kvw_file *file = os_error || !host->files_behind ? NULL : kvw_file_find(host, &st);
    if (file && file->mtime_behind) {
        kvw_file_settle(file);
        os_error = kvw_stat_beneath(host, t.d->os_fd, t.path, lookup, &st);
    }
    if (!os_error)
        kvw_store_filestat(result, &st);
    return kvw_errno(os_error);
}

/* Of what was opened with KVW_O_PATH. */
static int set_times_of(int fd, const char *name, void *times)
{
    (void)name;
    if (kvw_os_path_utimens(fd, times) == 0)
        return 0;
    if (errno != EINVAL)
        return errno;
    char proc[64];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    return kvw_os_utimensat(AT_FDCWD, proc, times, 0) < 0 ? errno : 0;
}

static int set_times_at(int directory, const char *name, void *times)
{
    return kvw_os_utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
}

static int set_times_beneath(kvw_host *host, int directory, char *path, bool follow,
                             struct timespec times[2])
{
    if (!follow) {
        kvw_place place;
        int error = kvw_place_of(host, directory, path, &place);
        if (error)
            return error;
        if (place.plain)
            error = set_times_at(place.directory, place.name, times);
        kvw_place_release(&place);
        if (place.plain)
            return error;
    }
    return kvw_act_beneath(host, directory, path, follow, set_times_at, set_times_of, times);
}

uint32_t kvw_path_filestat_set_times(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target t;
    uint32_t error = target_of(host, memory, a, a + 2, WASI_RIGHT_PATH_FILESTAT_SET_TIMES, true, &t);
    if (error)
        return error;
    struct timespec times[2];
    error = kvw_times(kvw_u64(a + 4), kvw_u64(a + 5), kvw_u32(a + 6), times);
    if (error || (kvw_u32(a + 1) & ~WASI_LOOKUP_FOLLOW))
        return WASI_EINVAL;
    /* What is written through a window has its time before, not after, the one that is set here. */
    struct stat st;
    bool follow = kvw_u32(a + 1);
    if (host->files_behind && kvw_stat_beneath(host, t.d->os_fd, t.path, follow, &st) == 0) {
        kvw_file *file = kvw_file_find(host, &st);
        if (file)
            kvw_file_settle(file);
    }
    return kvw_errno(set_times_beneath(host, t.d->os_fd, t.path, follow, times));
}

/* The error of making a name that is there already. One that ends in a slash and leads to no directory is ENOTDIR by POSIX (link,
 * symlink); Linux says EEXIST. */
static int taken_name(kvw_host *host, const target *t, const kvw_place *place, int error)
{
    struct stat st;
    if (error != EEXIST || place->plain)
        return error;
    return kvw_stat_beneath(host, t->d->os_fd, t->path, true, &st) == ENOTDIR ? ENOTDIR : error;
}

/* The old name of a link: WASI follows no last component, and a trailing slash would make linkat follow
 * it. */
static int link_beneath(kvw_host *host, target *from, target *to)
{
    kvw_place old_place;
    kvw_place new_place;
    int error = kvw_place_of(host, from->d->os_fd, from->path, &old_place);
    if (error)
        return error;
    if (!old_place.plain) {
        struct stat st;
        error = kvw_stat_beneath(host, from->d->os_fd, from->path, false, &st);
        error = error ? error : S_ISDIR(st.st_mode) ? EPERM : ENOTDIR;
    } else {
        error = kvw_place_of(host, to->d->os_fd, to->path, &new_place);
        if (!error) {
            error = kvw_storage_link(host, old_place.directory, old_place.name, new_place.directory,
                                     new_place.name);
            error = taken_name(host, to, &new_place, error);
            kvw_place_release(&new_place);
        }
    }
    kvw_place_release(&old_place);
    return error;
}

uint32_t kvw_path_link(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target from;
    target to;
    uint32_t error = target_of(host, memory, a, a + 2, WASI_RIGHT_PATH_LINK_SOURCE, false, &from);
    if (!error)
        error = target_of(host, memory, a + 4, a + 5, WASI_RIGHT_PATH_LINK_TARGET, true, &to);
    if (error)
        return error;
    if (kvw_u32(a + 1)) /* following is not supported, as in other hosts */
        return WASI_EINVAL;
    if (from.d->read_only) /* a second name in a writable directory would make the file writable */
        return WASI_EXDEV;
    return kvw_errno(link_beneath(host, &from, &to));
}

uint32_t kvw_path_rename(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target from;
    target to;
    uint32_t error = target_of(host, memory, a, a + 1, WASI_RIGHT_PATH_RENAME_SOURCE, true, &from);
    if (!error)
        error = target_of(host, memory, a + 3, a + 4, WASI_RIGHT_PATH_RENAME_TARGET, true, &to);
    if (error)
        return error;
    kvw_file_unpark(host);
    kvw_place old_place;
    kvw_place new_place;
    int os_error = kvw_place_of(host, from.d->os_fd, from.path, &old_place);
    if (os_error)
        return kvw_errno(os_error);
    os_error = kvw_place_of(host, to.d->os_fd, to.path, &new_place);
    if (!os_error) {
        kvw_file_unpark(host); /* it may be what is replaced */
        os_error = kvw_storage_rename(host, old_place.directory, old_place.name, new_place.directory,
                                      new_place.name);
        kvw_place_release(&new_place);
    }
    kvw_place_release(&old_place);
    return kvw_errno(os_error);
}

uint32_t kvw_path_symlink(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    char content[KVW_PATH_MAX];
    target t;
    uint32_t error = target_of(host, memory, a + 2, a + 3, WASI_RIGHT_PATH_SYMLINK, false, &t);
    if (!error)
        error = kvw_path_copy(memory, kvw_u32(a), kvw_u32(a + 1), content);
    if (!error && t.d->read_only)
        error = WASI_EROFS;
    if (error)
        return error;
    kvw_place place;
    int os_error = kvw_place_of(host, t.d->os_fd, t.path, &place);
    if (!os_error) {
        os_error = kvw_storage_symlink(host, content, place.directory, place.name);
        os_error = taken_name(host, &t, &place, os_error);
        kvw_place_release(&place);
    }
    return kvw_errno(os_error);
}

uint32_t kvw_path_readlink(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    target t;
    uint32_t error = target_of(host, memory, a, a + 1, WASI_RIGHT_PATH_READLINK, false, &t);
    if (error)
        return error;
    uint32_t capacity = kvw_u32(a + 4);
    uint8_t *buffer = kvw_range(memory, kvw_u32(a + 3), capacity);
    uint8_t *result = kvw_range(memory, kvw_u32(a + 5), 4);
    if (!buffer || !result)
        return WASI_EFAULT;
    kvw_place place;
    int os_error = kvw_place_of(host, t.d->os_fd, t.path, &place);
    if (os_error)
        return kvw_errno(os_error);
    char content[KVW_PATH_MAX];
    ssize_t length = -1;
    if (place.plain) {
        length = kvw_os_readlinkat(place.directory, place.name, content, sizeof content);
        os_error = length < 0 ? errno : 0;
    } else { /* what a trailing slash leads to is a directory, or an error */
        struct stat st;
        os_error = kvw_stat_beneath(host, t.d->os_fd, t.path, false, &st);
        os_error = os_error ? os_error : EINVAL;
    }
    kvw_place_release(&place);
    if (os_error)
        return kvw_errno(os_error);
    uint32_t used = (size_t)length < capacity ? (uint32_t)length : capacity;
    memcpy(buffer, content, used);
    kvw_store32(result, used);
    return WASI_OK;
}
