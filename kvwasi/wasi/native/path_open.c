/* path_open: from a path, flags and rights to a new descriptor. */
#include <errno.h>
#include <fcntl.h>

#include "file.h"
#include "os.h"
#include "resolve.h"
#include "storage.h"

typedef struct request {
    kvw_descriptor *directory;
    char path[KVW_PATH_MAX];
    int flags;       /* of open(2) */
    uint32_t access; /* KVW_ACCESS_* */
    uint32_t fdflags;
    uint64_t rights;
} request;

static uint32_t os_flags(uint32_t lookup, uint32_t oflags, uint32_t fdflags, uint32_t access, int *flags)
{
    if ((lookup & ~WASI_LOOKUP_FOLLOW) || (oflags & ~WASI_O_FLAGS_ALL) || (fdflags & ~WASI_FD_FLAGS_ALL))
        return WASI_EINVAL;
    if ((oflags & WASI_O_DIRECTORY) && (oflags & (WASI_O_CREAT | WASI_O_EXCL | WASI_O_TRUNC)))
        return WASI_EINVAL; /* as Linux has it for O_CREAT since 6.4; before, it made a file */
    *flags = O_NOCTTY;
    if (!(lookup & WASI_LOOKUP_FOLLOW))
        *flags |= O_NOFOLLOW;
    if (oflags & WASI_O_CREAT)
        *flags |= O_CREAT;
    if (oflags & WASI_O_DIRECTORY)
        *flags |= O_DIRECTORY;
    if (oflags & WASI_O_EXCL)
        *flags |= O_EXCL;
    if (oflags & WASI_O_TRUNC)
        *flags |= O_TRUNC;
    if (fdflags & WASI_FD_APPEND)
        *flags |= O_APPEND;
    if (fdflags & WASI_FD_NONBLOCK)
        *flags |= O_NONBLOCK;
    if (fdflags & (WASI_FD_SYNC | WASI_FD_RSYNC)) /* Linux's O_RSYNC is O_SYNC */
        *flags |= O_SYNC;
    else if (fdflags & WASI_FD_DSYNC)
        *flags |= O_DSYNC;
    bool write = access & KVW_ACCESS_WRITE;
    *flags |= !write ? O_RDONLY : (access & KVW_ACCESS_READ) ? O_RDWR : O_WRONLY;
    return WASI_OK;
}

/* In a read-only preopen nothing is created, truncated or opened for writing; errors come in POSIX's
 * order. */
static uint32_t check_read_only(kvw_host *host, request *r)
{
    bool write = (r->access & KVW_ACCESS_WRITE) || (r->flags & O_TRUNC);
    if (!write && !(r->flags & O_CREAT))
        return WASI_OK;
    bool nofollow = r->flags & (O_NOFOLLOW | O_EXCL);
    struct stat st;
    int error = kvw_stat_beneath(host, r->directory->os_fd, r->path, !nofollow, &st);
    if (error)
        return error == ENOENT && (r->flags & O_CREAT) ? WASI_EROFS : kvw_errno(error);
    bool directory = S_ISDIR(st.st_mode);
    if ((r->flags & O_CREAT) && (r->flags & O_EXCL))
        return WASI_EEXIST;
    if (write)
        return directory ? WASI_EISDIR : WASI_EROFS;
    r->flags &= ~O_CREAT;
    return WASI_OK;
}

static int open_hooked(kvw_host *host, const request *r, int flags)
{
    kvw_storage_call call = {.operation = KVW_STORAGE_OPEN,
                             .os_fd = r->directory->os_fd,
                             .flags = (uint32_t)flags,
                             .path = r->path};
    int error = kvw_storage_before(host, &call);
    int fd = error ? -error : kvw_open_beneath(host, r->directory->os_fd, r->path, flags, 0666);
    kvw_storage_after(host, &call, fd < 0 ? -1 : fd, fd < 0 ? -fd : 0);
    return fd;
}

/* A window for writing needs a descriptor that can also read: open that where it is permitted. */
static int open_exclusive(kvw_host *host, const request *r, kvw_descriptor *d)
{
    int wider = (r->flags & ~O_ACCMODE) | O_RDWR;
    bool widen = (r->flags & O_ACCMODE) == O_WRONLY;
    d->os_fd = open_hooked(host, r, widen ? wider : r->flags);
    if (widen && d->os_fd == -EACCES) {
        widen = false;
        d->os_fd = open_hooked(host, r, r->flags);
    }
    struct stat st;
    if (d->os_fd < 0)
        return -d->os_fd;
    if (kvw_os_fstat(d->os_fd, &st) < 0) {
        int error = errno;
        kvw_storage_close(host, d->os_fd);
        return error;
    }
    if (widen && !S_ISREG(st.st_mode)) { /* reading too would change what a FIFO does */
        kvw_storage_close(host, d->os_fd);
        d->os_fd = open_hooked(host, r, r->flags & ~(O_CREAT | O_EXCL | O_TRUNC));
        return d->os_fd < 0 ? -d->os_fd : 0;
    }
    kvw_descriptor_typed(d, st.st_mode);
    if (S_ISREG(st.st_mode)) {
        d->map_writable = widen || (r->flags & O_ACCMODE) == O_RDWR;
        d->file = kvw_file_acquire(host, &st);
        if (!d->file) {
            kvw_storage_close(host, d->os_fd);
            return ENOMEM;
        }
    }
    return 0;
}

static uint32_t open_request(kvw_host *host, const request *r, uint32_t *fd)
{
    kvw_descriptor d = {
        .os_fd = -1,
        .access = (uint8_t)r->access,
        .read_only = r->directory->read_only,
        .exclusive = r->directory->exclusive,
        .sync_asked = r->rights & WASI_RIGHT_FD_SYNC,
        .flags = (uint16_t)r->fdflags,
        .rights = r->directory->inheriting,
        .inheriting = r->directory->inheriting,
    };
    if (d.exclusive) {
        int error = open_exclusive(host, r, &d);
        if (error)
            return kvw_errno(error);
    } else {
        d.os_fd = open_hooked(host, r, r->flags);
        if (d.os_fd < 0)
            return kvw_errno(-d.os_fd);
    }
    uint32_t error = kvw_descriptor_add(host, &d, fd);
    if (error) {
        if (d.file)
            kvw_file_release(host, d.file, d.os_fd);
        kvw_storage_close(host, d.os_fd);
    }
    return error;
}

uint32_t kvw_path_open(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    request r;
    r.directory = kvw_descriptor_of(host, kvw_u32(a));
    if (!r.directory)
        return WASI_EBADF;
    if (r.directory->os_fd < 0 || kvw_filetype(r.directory) != WASI_FILETYPE_DIRECTORY)
        return WASI_ENOTDIR;
    uint32_t error = kvw_may(r.directory, 0, WASI_RIGHT_PATH_OPEN);
    if (!error)
        error = kvw_path_copy(memory, kvw_u32(a + 2), kvw_u32(a + 3), r.path);
    if (error)
        return error;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 8), 4);
    if (!result)
        return WASI_EFAULT;
    r.fdflags = kvw_u32(a + 7);
    r.rights = kvw_u64(a + 5);
    r.access = (r.rights & WASI_RIGHT_FD_READ ? KVW_ACCESS_READ : 0) |
               (r.rights & WASI_RIGHT_FD_WRITE ? KVW_ACCESS_WRITE : 0);
    /* Rights that were dropped from the directory stay dropped below it. */
    if (r.rights & ~r.directory->inheriting & (WASI_RIGHT_FD_READ | WASI_RIGHT_FD_WRITE))
        return WASI_ENOTCAPABLE;
    error = os_flags(kvw_u32(a + 1), kvw_u32(a + 4), r.fdflags, r.access, &r.flags);
    if (!error && (r.flags & O_CREAT))
        error = kvw_may(r.directory, 0, WASI_RIGHT_PATH_CREATE_FILE);
    if (!error && (r.flags & O_TRUNC))
        error = kvw_may(r.directory, 0, WASI_RIGHT_PATH_FILESTAT_SET_SIZE);
    if (!error && r.directory->read_only)
        error = check_read_only(host, &r);
    uint32_t fd;
    if (!error)
        error = open_request(host, &r, &fd);
    if (!error)
        kvw_store32(result, fd);
    return error;
}
