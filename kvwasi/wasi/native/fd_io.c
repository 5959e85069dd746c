/* Bytes in and out of descriptors: fd_read, fd_write, fd_pread, fd_pwrite, fd_seek, fd_tell. */
#include <errno.h>

#include "behind.h"
#include "file.h"
#include "os.h"
#include "storage.h"

/* Turn the guest's vector into the host's: read once, each range checked. */
static uint32_t gather(const kvw_memory *memory, uint32_t vector, uint32_t count, struct iovec *parts,
                       uint64_t *total)
{
    const uint8_t *at = kvw_range(memory, vector, (uint64_t)count * WASI_IOVEC_SIZE);
    if (KVW_UNLIKELY(!at))
        return WASI_EFAULT;
    *total = 0;
    for (uint32_t i = 0; i < count; i++, at += WASI_IOVEC_SIZE) {
        uint32_t length = kvw_load32(at + 4);
        parts[i].iov_base = kvw_range(memory, kvw_load32(at), length);
        parts[i].iov_len = length;
        if (KVW_UNLIKELY(!parts[i].iov_base))
            return WASI_EFAULT;
        *total += length;
    }
    return WASI_OK;
}

/* After an append the OS alone knows where the descriptor stands. */
static void settle_position(kvw_descriptor *d)
{
    if (KVW_UNLIKELY(d->position_in_os)) {
        off_t at = kvw_os_lseek(d->os_fd, 0, SEEK_CUR);
        d->position = at < 0 ? 0 : (uint64_t)at;
        d->position_in_os = false;
    }
}

static ssize_t stream_transfer(kvw_stream *stream, const struct iovec *parts, int count, bool writing)
{
    ssize_t done = 0;
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len == 0)
            continue;
        ssize_t moved = writing ? stream->write(stream->context, parts[i].iov_base, parts[i].iov_len)
                                : stream->read(stream->context, parts[i].iov_base, parts[i].iov_len);
        if (moved < 0)
            return done > 0 ? done : moved;
        done += moved;
        if (!writing || (size_t)moved < parts[i].iov_len)
            break; /* a read that would fill more may block */
    }
    return done;
}

static ssize_t read_at(kvw_host *host, kvw_descriptor *d, uint64_t offset, const struct iovec *parts,
                       int count, uint64_t total)
{
    if (d->file) {
        if (!KVW_UNLIKELY(host->hook) && kvw_file_read(d->file, d->os_fd, offset, parts, count, total))
            return (ssize_t)total;
        ssize_t got = kvw_storage_read(host, d->os_fd, parts, count, offset);
        if (got > 0)
            kvw_file_grown_to(d->file, offset + (uint64_t)got); /* somebody else may have appended */
        return got;
    }
    return kvw_storage_read(host, d->os_fd, parts, count, offset);
}

static ssize_t write_at(kvw_host *host, kvw_descriptor *d, uint64_t offset, const struct iovec *parts,
                        int count, uint64_t total, uint32_t flags)
{
    bool plain = d->file && d->map_writable && !(d->flags & (WASI_FD_DSYNC | WASI_FD_SYNC));
    if (KVW_UNLIKELY(host->defers) && plain && kvw_behind_take(host, d->os_fd, parts, count, total, offset)) {
        kvw_file_grown_to(d->file, offset + total);
        return (ssize_t)total;
    }
    if (KVW_UNLIKELY(kvw_behind_settle(host)))
        return -EIO;
    if (!d->file)
        return kvw_storage_write(host, d->os_fd, parts, count, offset, flags);
    if (plain && !KVW_UNLIKELY(host->hook) && kvw_file_write(d->file, d->os_fd, offset, parts, count, total))
        return (ssize_t)total;
    ssize_t put = kvw_storage_write(host, d->os_fd, parts, count, offset, flags);
    if (put > 0)
        kvw_file_grown_to(d->file, offset + (uint64_t)put);
    return put;
}

static ssize_t read_next(kvw_host *host, kvw_descriptor *d, const struct iovec *parts, int count,
                         uint64_t total)
{
    if (KVW_UNLIKELY(!d->typed))
        kvw_filetype(d);
    if (KVW_UNLIKELY(d->stream))
        return stream_transfer(d->stream, parts, count, false);
    if (KVW_UNLIKELY(d->flags_behind))
        kvw_flags_settle(d);
    if (!d->positioned)
        return kvw_storage_read(host, d->os_fd, parts, count, KVW_AT_POSITION);
    settle_position(d);
    ssize_t got = read_at(host, d, d->position, parts, count, total);
    if (got > 0)
        d->position += (uint64_t)got;
    return got;
}

static ssize_t write_next(kvw_host *host, kvw_descriptor *d, const struct iovec *parts, int count,
                          uint64_t total)
{
    if (KVW_UNLIKELY(!d->typed))
        kvw_filetype(d);
    if (KVW_UNLIKELY(d->stream))
        return stream_transfer(d->stream, parts, count, true);
    if (KVW_UNLIKELY(d->flags_behind))
        kvw_flags_settle(d);
    if (!d->positioned)
        return kvw_storage_write(host, d->os_fd, parts, count, KVW_AT_POSITION, d->own_flags);
    if (d->flags & WASI_FD_APPEND) {
        ssize_t put = kvw_storage_write(host, d->os_fd, parts, count, KVW_AT_POSITION, d->own_flags);
        if (put > 0) {
            d->position_in_os = true;
            if (d->file) {
                settle_position(d);
                kvw_file_grown_to(d->file, d->position);
            }
        }
        return put;
    }
    settle_position(d);
    ssize_t put = write_at(host, d, d->position, parts, count, total, d->own_flags);
    if (put > 0)
        d->position += (uint64_t)put;
    return put;
}

/* fd_read and fd_write (`offset` KVW_AT_POSITION), fd_pread and fd_pwrite. */
static inline ssize_t move(kvw_host *host, kvw_descriptor *d, bool writing, uint64_t offset,
                           const struct iovec *parts, int count, uint64_t total)
{
    if (offset == KVW_AT_POSITION)
        return writing ? write_next(host, d, parts, count, total) : read_next(host, d, parts, count, total);
    if (d->stream)
        return -ESPIPE;
    if (KVW_UNLIKELY(d->flags_behind))
        kvw_flags_settle(d);
    uint32_t flags = d->own_flags | (d->flags & WASI_FD_APPEND);
    return writing ? write_at(host, d, offset, parts, count, total, flags)
                   : read_at(host, d, offset, parts, count, total);
}

static __attribute__((noinline)) uint32_t move_many(kvw_host *host, const kvw_memory *memory,
                                                    kvw_descriptor *d, bool writing, uint64_t offset,
                                                    uint32_t vector, uint32_t count, ssize_t *moved)
{
    struct iovec parts[KVW_IOVECS_MAX];
    uint64_t total;
    if (count > KVW_IOVECS_MAX)
        return WASI_EINVAL;
    uint32_t error = gather(memory, vector, count, parts, &total);
    if (!error)
        *moved = move(host, d, writing, offset, parts, (int)count, total);
    return error;
}

static inline uint32_t transfer(kvw_host *host, const kvw_memory *memory, bool writing, uint32_t fd,
                                uint32_t vector, uint32_t count, uint64_t offset, uint32_t result_address)
{
    kvw_descriptor *d = kvw_descriptor_of(host, fd);
    if (KVW_UNLIKELY(!d))
        return WASI_EBADF;
    uint32_t error = kvw_may(d, writing ? KVW_ACCESS_WRITE : KVW_ACCESS_READ,
                             writing ? WASI_RIGHT_FD_WRITE : WASI_RIGHT_FD_READ);
    if (KVW_UNLIKELY(error))
        return error;
    uint8_t *result = kvw_range(memory, result_address, 4);
    if (KVW_UNLIKELY(!result))
        return WASI_EFAULT;
    ssize_t moved;
    if (count == 1) {
        struct iovec part;
        uint64_t total;
        error = gather(memory, vector, 1, &part, &total);
        if (!error)
            moved = move(host, d, writing, offset, &part, 1, total);
    } else {
        error = move_many(host, memory, d, writing, offset, vector, count, &moved);
    }
    if (KVW_UNLIKELY(error))
        return error;
    if (KVW_UNLIKELY(moved < 0)) /* a directory is no descriptor for bytes */
        return moved == -EISDIR ? WASI_EBADF : kvw_errno((int)-moved);
    kvw_store32(result, (uint32_t)moved);
    return WASI_OK;
}

uint32_t kvw_fd_read(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    return transfer(host, memory, false, kvw_u32(a), kvw_u32(a + 1), kvw_u32(a + 2), KVW_AT_POSITION,
                    kvw_u32(a + 3));
}

uint32_t kvw_fd_write(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    return transfer(host, memory, true, kvw_u32(a), kvw_u32(a + 1), kvw_u32(a + 2), KVW_AT_POSITION,
                    kvw_u32(a + 3));
}

uint32_t kvw_fd_pread(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    if (kvw_u64(a + 3) > INT64_MAX)
        return kvw_descriptor_of(host, kvw_u32(a)) ? WASI_EINVAL : WASI_EBADF;
    return transfer(host, memory, false, kvw_u32(a), kvw_u32(a + 1), kvw_u32(a + 2), kvw_u64(a + 3),
                    kvw_u32(a + 4));
}

uint32_t kvw_fd_pwrite(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    if (kvw_u64(a + 3) > INT64_MAX)
        return kvw_descriptor_of(host, kvw_u32(a)) ? WASI_EINVAL : WASI_EBADF;
    return transfer(host, memory, true, kvw_u32(a), kvw_u32(a + 1), kvw_u32(a + 2), kvw_u64(a + 3),
                    kvw_u32(a + 4));
}

/* The base of `whence` in `d`, whose position the host keeps. */
static uint32_t seek_base(kvw_descriptor *d, uint32_t whence, uint64_t *base)
{
    *base = 0;
    if (whence == WASI_SEEK_CUR) {
        settle_position(d);
        *base = d->position;
    } else if (whence == WASI_SEEK_END) {
        off_t end = kvw_os_lseek(d->os_fd, 0, SEEK_END);
        if (end < 0)
            return kvw_errno(errno);
        *base = (uint64_t)end;
        if (d->file)
            d->file->size = *base;
    }
    return WASI_OK;
}

static uint32_t seek(kvw_descriptor *d, int64_t offset, uint32_t whence, uint64_t *position)
{
    static const int os_whence[] = {SEEK_SET, SEEK_CUR, SEEK_END};
    if (!d->typed)
        kvw_filetype(d);
    if (d->filetype == WASI_FILETYPE_DIRECTORY)
        return WASI_EBADF;
    if (whence > WASI_SEEK_END)
        return WASI_EINVAL;
    if (d->stream)
        return WASI_ESPIPE;
    if (!d->positioned) {
        off_t at = kvw_os_lseek(d->os_fd, offset, os_whence[whence]);
        *position = (uint64_t)at;
        return at < 0 ? kvw_errno(errno) : WASI_OK;
    }
    uint64_t base;
    uint32_t error = seek_base(d, whence, &base);
    if (error)
        return error;
    int64_t target;
    if (__builtin_add_overflow((int64_t)base, offset, &target))
        return WASI_EOVERFLOW;
    if (target < 0)
        return WASI_EINVAL;
    *position = (uint64_t)target;
    d->position = *position;
    d->position_in_os = false;
    return WASI_OK;
}

uint32_t kvw_fd_seek(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    int64_t offset = a[1].i64;
    uint32_t whence = kvw_u32(a + 2);
    uint64_t right =
        offset == 0 && whence == WASI_SEEK_CUR ? WASI_RIGHT_FD_SEEK | WASI_RIGHT_FD_TELL : WASI_RIGHT_FD_SEEK;
    uint32_t error = kvw_may(d, 0, right);
    if (error)
        return error;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 3), 8);
    if (!result)
        return WASI_EFAULT;
    uint64_t position;
    error = seek(d, offset, whence, &position);
    if (!error)
        kvw_store64(result, position);
    return error;
}

uint32_t kvw_fd_tell(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    uint32_t error = kvw_may(d, 0, WASI_RIGHT_FD_TELL);
    if (error)
        return error;
    uint8_t *result = kvw_range(memory, kvw_u32(a + 1), 8);
    if (!result)
        return WASI_EFAULT;
    uint64_t position;
    error = seek(d, 0, WASI_SEEK_CUR, &position);
    if (!error)
        kvw_store64(result, position);
    return error;
}
