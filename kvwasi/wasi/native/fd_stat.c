/* What a descriptor is: fd_filestat_*, fd_fdstat_*, fd_advise, fd_allocate, fd_sync, fd_datasync,
 * fd_prestat_*, fd_close, fd_renumber. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "file.h"
#include "os.h"
#include "storage.h"

static uint64_t nanoseconds(struct timespec time)
{
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void kvw_store_filestat(uint8_t *to, const struct stat *st)
{
    memset(to, 0, WASI_FILESTAT_SIZE);
    kvw_store64(to, (uint64_t)st->st_dev);
    kvw_store64(to + 8, st->st_ino);
    to[16] = (uint8_t)kvw_filetype_of_mode(st->st_mode);
    kvw_store64(to + 24, st->st_nlink);
    kvw_store64(to + 32, (uint64_t)st->st_size);
    kvw_store64(to + 40, nanoseconds(st->st_atim));
    kvw_store64(to + 48, nanoseconds(st->st_mtim));
    kvw_store64(to + 56, nanoseconds(st->st_ctim));
}

static uint32_t one_time(uint64_t value, bool set, bool now, struct timespec *time)
{
    if (set && now)
        return WASI_EINVAL;
    time->tv_sec = set ? (time_t)(value / 1000000000u) : 0;
    time->tv_nsec = set ? (long)(value % 1000000000u) : now ? UTIME_NOW : UTIME_OMIT;
    return WASI_OK;
}

uint32_t kvw_times(uint64_t atim, uint64_t mtim, uint32_t flags, struct timespec times[2])
{
    if (flags & ~WASI_TIME_FLAGS_ALL)
        return WASI_EINVAL;
    uint32_t error = one_time(atim, flags & WASI_TIME_ATIM, flags & WASI_TIME_ATIM_NOW, &times[0]);
    return error ? error : one_time(mtim, flags & WASI_TIME_MTIM, flags & WASI_TIME_MTIM_NOW, &times[1]);
}

static bool is_directory(kvw_descriptor *d) { return kvw_filetype(d) == WASI_FILETYPE_DIRECTORY; }

uint32_t kvw_fd_filestat_get(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    uint32_t error = kvw_may(d, 0, WASI_RIGHT_FD_FILESTAT_GET);
    if (error)
        return error;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 1), WASI_FILESTAT_SIZE);
    if (!result)
        return WASI_EFAULT;
    struct stat st = {0};
    if (d->file)
        kvw_file_settle(d->file);
    if (d->os_fd >= 0 && kvw_os_fstat(d->os_fd, &st) < 0)
        return kvw_errno(errno);
    kvw_store_filestat(result, &st);
    result[16] = (uint8_t)kvw_filetype(d); /* tells kinds of sockets apart */
    return WASI_OK;
}

/* Whether a file in exclusive mode has the size already: then only its time moves, and its pages stay
 * mapped. The OS is asked, for somebody else may have changed it. */
static bool size_stays(const kvw_host *host, const kvw_descriptor *d, uint64_t size)
{
    struct stat st;
    return d->file && d->map_writable && !(d->flags & WASI_FD_APPEND) && !host->hook &&
           size == d->file->size && kvw_os_fstat(d->os_fd, &st) == 0 && (uint64_t)st.st_size == size;
}

uint32_t kvw_fd_filestat_set_size(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d || is_directory(d))
        return WASI_EBADF;
    uint32_t error = kvw_may(d, KVW_ACCESS_WRITE, WASI_RIGHT_FD_FILESTAT_SET_SIZE);
    if (error)
        return error == WASI_EBADF ? WASI_EINVAL : error; /* POSIX's for ftruncate */
    uint64_t size = kvw_u64(a + 1);
    if (size > INT64_MAX || d->os_fd < 0)
        return WASI_EINVAL;
    if (size_stays(host, d, size)) {
        kvw_file_touched(d->file, d->os_fd);
        return WASI_OK;
    }
    error = kvw_errno(kvw_storage_truncate(host, d->os_fd, size));
    if (!error && d->file)
        d->file->size = size;
    return error;
}

uint32_t kvw_fd_filestat_set_times(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    uint32_t error = kvw_may(d, 0, WASI_RIGHT_FD_FILESTAT_SET_TIMES);
    if (error)
        return error;
    if (d->read_only)
        return WASI_EROFS;
    struct timespec times[2];
    error = kvw_times(kvw_u64(a + 1), kvw_u64(a + 2), kvw_u32(a + 3), times);
    if (error)
        return error;
    if (d->os_fd < 0)
        return WASI_EINVAL;
    if (d->file)
        kvw_file_settle(d->file);
    return kvw_os_futimens(d->os_fd, times) < 0 ? kvw_errno(errno) : WASI_OK;
}

/* What the kind and the access leave of the rights. */
static uint64_t rights_of(kvw_descriptor *d)
{
    uint64_t rights = d->rights;
    switch (kvw_filetype(d)) {
    case WASI_FILETYPE_DIRECTORY:
        if (!d->sync_asked)
            rights &= ~(WASI_RIGHT_FD_SYNC | WASI_RIGHT_FD_DATASYNC);
        return rights & WASI_RIGHTS_DIRECTORY;
    case WASI_FILETYPE_REGULAR_FILE:
    case WASI_FILETYPE_BLOCK_DEVICE:
        rights &= WASI_RIGHTS_FILE;
        break;
    default:
        rights &= WASI_RIGHTS_STREAM; /* without seek and tell: that is how wasi-libc knows a terminal */
    }
    if (!(d->access & KVW_ACCESS_READ))
        rights &= ~WASI_RIGHT_FD_READ;
    if (!(d->access & KVW_ACCESS_WRITE))
        rights &= ~(WASI_RIGHT_FD_WRITE | WASI_RIGHT_FD_ALLOCATE | WASI_RIGHT_FD_FILESTAT_SET_SIZE);
    return rights;
}

uint32_t kvw_fd_fdstat_get(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 1), WASI_FDSTAT_SIZE);
    if (!result)
        return WASI_EFAULT;
    uint64_t rights = rights_of(d);
    memset(result, 0, WASI_FDSTAT_SIZE);
    result[0] = d->filetype;
    kvw_store16(result + 2, d->flags);
    kvw_store64(result + 8, rights);
    kvw_store64(result + 16, d->filetype == WASI_FILETYPE_DIRECTORY ? d->inheriting : 0);
    return WASI_OK;
}

uint32_t kvw_fd_fdstat_set_flags(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    uint32_t flags = kvw_u32(a + 1);
    if (!d || is_directory(d))
        return WASI_EBADF;
    uint32_t error = kvw_may(d, 0, WASI_RIGHT_FD_FDSTAT_SET_FLAGS);
    if (error)
        return error;
    if (flags & ~WASI_FD_FLAGS_ALL)
        return WASI_EINVAL;
    if (d->os_fd < 0)
        return flags ? WASI_ENOTSUP : WASI_OK;
    d->flags_behind = d->flags_behind || ((d->flags ^ flags) & (WASI_FD_APPEND | WASI_FD_NONBLOCK));
    /* F_SETFL cannot change the synchronous flags: each write carries them. Those of the opening stay in
     * the OS. */
    d->own_flags = (uint16_t)(flags & (WASI_FD_DSYNC | WASI_FD_SYNC));
    d->flags = (uint16_t)flags;
    /* The next call that moves bytes tells the OS, unless other processes share the descriptor. */
    return d->inherited ? kvw_errno(kvw_flags_settle(d)) : WASI_OK;
}

int kvw_flags_settle(kvw_descriptor *d)
{
    d->flags_behind = false;
    int os_flags = fcntl(d->os_fd, F_GETFL);
    if (os_flags < 0)
        return errno;
    int wanted = (os_flags & ~(O_APPEND | O_NONBLOCK)) | (d->flags & WASI_FD_APPEND ? O_APPEND : 0) |
                 (d->flags & WASI_FD_NONBLOCK ? O_NONBLOCK : 0);
    return wanted != os_flags && fcntl(d->os_fd, F_SETFL, wanted) < 0 ? errno : 0;
}

uint32_t kvw_fd_fdstat_set_rights(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    uint64_t inheriting_now = is_directory(d) ? d->inheriting : 0;
    if ((kvw_u64(a + 1) & ~rights_of(d)) || (kvw_u64(a + 2) & ~inheriting_now))
        return WASI_ENOTCAPABLE; /* rights can only be dropped */
    d->rights = kvw_u64(a + 1);
    d->inheriting = kvw_u64(a + 2);
    return WASI_OK;
}

uint32_t kvw_fd_advise(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    uint32_t advice = kvw_u32(a + 3);
    if (!d || is_directory(d))
        return WASI_EBADF;
    uint32_t error = kvw_may(d, 0, WASI_RIGHT_FD_ADVISE);
    if (error)
        return error;
    if (advice > WASI_ADVICE_MAX || kvw_u64(a + 1) > INT64_MAX ||
        kvw_u64(a + 2) > INT64_MAX)
        return WASI_EINVAL;
    if (d->os_fd < 0)
        return WASI_ESPIPE;
    return kvw_os_fadvise(d->os_fd, a[1].i64, a[2].i64, advice) < 0 ? kvw_errno(errno) : WASI_OK;
}

uint32_t kvw_fd_allocate(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    uint64_t offset = kvw_u64(a + 1);
    uint64_t length = kvw_u64(a + 2);
    if (!d || is_directory(d))
        return WASI_EBADF;
    uint32_t error = kvw_may(d, KVW_ACCESS_WRITE, WASI_RIGHT_FD_ALLOCATE);
    if (error)
        return error;
    if (offset > INT64_MAX || length > INT64_MAX || length == 0)
        return WASI_EINVAL;
    if (offset > INT64_MAX - length)
        return WASI_EFBIG;
    if (d->os_fd < 0)
        return WASI_ESPIPE;
    error = kvw_errno(kvw_storage_allocate(host, d->os_fd, offset, length));
    if (!error && d->file)
        kvw_file_grown_to(d->file, offset + length);
    return error;
}

static uint32_t flush(kvw_host *host, uint32_t fd, bool data_only)
{
    kvw_descriptor *d = kvw_descriptor_of(host, fd);
    if (!d)
        return WASI_EBADF;
    if (is_directory(d) && !d->sync_asked)
        return WASI_EBADF;
    uint64_t right = data_only ? WASI_RIGHT_FD_DATASYNC | WASI_RIGHT_FD_SYNC : WASI_RIGHT_FD_SYNC;
    uint32_t error = kvw_may(d, 0, right);
    if (error)
        return error;
    if (d->os_fd < 0)
        return WASI_EINVAL;
    if (d->file) {
        if (!data_only)
            kvw_file_settle(d->file);
        kvw_file_flushed(d->file);
    }
    return kvw_errno(kvw_storage_sync(host, d->os_fd, data_only));
}

uint32_t kvw_fd_sync(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    return flush(host, kvw_u32(a), false);
}

uint32_t kvw_fd_datasync(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    return flush(host, kvw_u32(a), true);
}

uint32_t kvw_fd_prestat_get(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d || !d->guest_path)
        return WASI_EBADF;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 1), WASI_PRESTAT_SIZE);
    if (!result)
        return WASI_EFAULT;
    kvw_store32(result, 0); /* a directory; the padding is zero */
    kvw_store32(result + 4, (uint32_t)strlen(d->guest_path));
    return WASI_OK;
}

uint32_t kvw_fd_prestat_dir_name(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d || !d->guest_path)
        return WASI_EBADF;
    size_t length = strlen(d->guest_path);
    if (kvw_u32(a + 2) < length)
        return WASI_ENAMETOOLONG;
    uint8_t *to = kvw_range(memory, kvw_u32(a + 1), kvw_u32(a + 2));
    if (!to)
        return WASI_EFAULT;
    memcpy(to, d->guest_path, length);
    return WASI_OK;
}

uint32_t kvw_fd_close(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    return kvw_descriptor_of(host, kvw_u32(a)) ? kvw_descriptor_close(host, kvw_u32(a)) : WASI_EBADF;
}

uint32_t kvw_fd_renumber(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    uint32_t from = kvw_u32(a);
    uint32_t to = kvw_u32(a + 1);
    if (!kvw_descriptor_of(host, from) || !kvw_descriptor_of(host, to))
        return WASI_EBADF;
    if (from == to)
        return WASI_OK;
    kvw_descriptor_close(host, to); /* like dup2, without its errors */
    kvw_descriptor_move(host, from, to);
    return WASI_OK;
}
