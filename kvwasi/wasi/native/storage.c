#include "storage.h"

#include <errno.h>
#include <fcntl.h>

#include "os.h"

static ssize_t result_of(ssize_t result) { return result < 0 ? -errno : result; }

static ssize_t read_parts(int os_fd, const struct iovec *parts, int count, uint64_t offset)
{
    if (offset == KVW_AT_POSITION)
        return result_of(count == 1 ? kvw_os_read(os_fd, parts->iov_base, parts->iov_len)
                                    : kvw_os_readv(os_fd, parts, count));
    if (count == 1)
        return result_of(kvw_os_pread(os_fd, parts->iov_base, parts->iov_len, (off_t)offset));
    return result_of(kvw_os_preadv(os_fd, parts, count, (off_t)offset));
}

static ssize_t write_parts(int os_fd, const struct iovec *parts, int count, uint64_t offset, uint32_t flags)
{
    if (flags) {
        uint32_t how = (flags & WASI_FD_SYNC ? KVW_OS_SYNC : flags & WASI_FD_DSYNC ? KVW_OS_DSYNC : 0) |
                       (flags & WASI_FD_APPEND ? KVW_OS_NOAPPEND : 0);
        off_t at = offset == KVW_AT_POSITION ? -1 : (off_t)offset;
        return result_of(kvw_os_pwritev_with(os_fd, parts, count, at, how));
    }
    if (offset == KVW_AT_POSITION)
        return result_of(count == 1 ? kvw_os_write(os_fd, parts->iov_base, parts->iov_len)
                                    : kvw_os_writev(os_fd, parts, count));
    if (count == 1)
        return result_of(kvw_os_pwrite(os_fd, parts->iov_base, parts->iov_len, (off_t)offset));
    return result_of(kvw_os_pwritev(os_fd, parts, count, (off_t)offset));
}

static uint64_t total_of(const struct iovec *parts, int count)
{
    uint64_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    return total;
}

/* Copy the parts of the first `length` bytes to `cut`; how many they are. */
static int cut_parts(struct iovec *cut, const struct iovec *parts, int count, uint64_t length)
{
    int used = 0;
    for (; used < count && length > 0; used++) {
        cut[used] = parts[used];
        if (cut[used].iov_len > length)
            cut[used].iov_len = (size_t)length;
        length -= cut[used].iov_len;
    }
    return used;
}

static ssize_t hooked_transfer(kvw_host *host, kvw_storage_operation operation, int os_fd,
                               const struct iovec *parts, int count, uint64_t offset, uint32_t flags)
{
    struct iovec cut[KVW_IOVECS_MAX];
    uint64_t total = total_of(parts, count);
    kvw_storage_call call = {
        .operation = operation,
        .os_fd = os_fd,
        .flags = flags,
        .offset = offset,
        .length = total,
        .parts = parts,
        .part_count = count,
    };
    int error = kvw_storage_before(host, &call);
    ssize_t result = -error;
    if (!error) {
        if (call.length < total) {
            call.part_count = cut_parts(cut, parts, count, call.length);
            call.parts = cut;
        }
        result = operation == KVW_STORAGE_READ
                     ? read_parts(os_fd, call.parts, call.part_count, offset)
                     : write_parts(os_fd, call.parts, call.part_count, offset, flags);
    }
    kvw_storage_after(host, &call, result < 0 ? 0 : result, result < 0 ? (int)-result : 0);
    return result;
}

ssize_t kvw_storage_read(kvw_host *host, int os_fd, const struct iovec *parts, int count, uint64_t offset)
{
    if (KVW_UNLIKELY(host->hook))
        return hooked_transfer(host, KVW_STORAGE_READ, os_fd, parts, count, offset, 0);
    return read_parts(os_fd, parts, count, offset);
}

ssize_t kvw_storage_write(kvw_host *host, int os_fd, const struct iovec *parts, int count, uint64_t offset,
                          uint32_t flags)
{
    if (KVW_UNLIKELY(host->hook))
        return hooked_transfer(host, KVW_STORAGE_WRITE, os_fd, parts, count, offset, flags);
    return write_parts(os_fd, parts, count, offset, flags);
}

/* Run `expression`, which sets errno on -1, between the hook's two halves. */
#define HOOKED(host, call, expression)                                                                       \
    do {                                                                                                     \
        int error_ = kvw_storage_before(host, call);                                                         \
        if (!error_)                                                                                         \
            error_ = (expression) < 0 ? errno : 0;                                                           \
        kvw_storage_after(host, call, 0, error_);                                                            \
        return error_;                                                                                       \
    } while (0)

int kvw_storage_truncate(kvw_host *host, int os_fd, uint64_t size)
{
    kvw_storage_call call = {.operation = KVW_STORAGE_TRUNCATE, .os_fd = os_fd, .length = size};
    HOOKED(host, &call, kvw_os_ftruncate(os_fd, (off_t)size));
}

int kvw_storage_allocate(kvw_host *host, int os_fd, uint64_t offset, uint64_t length)
{
    kvw_storage_call call = {
        .operation = KVW_STORAGE_ALLOCATE, .os_fd = os_fd, .offset = offset, .length = length};
    HOOKED(host, &call, kvw_os_fallocate(os_fd, (off_t)offset, (off_t)length));
}

int kvw_storage_sync(kvw_host *host, int os_fd, bool data_only)
{
    kvw_storage_call call = {.operation = data_only ? KVW_STORAGE_DATASYNC : KVW_STORAGE_SYNC,
                             .os_fd = os_fd};
    HOOKED(host, &call, kvw_os_sync(os_fd, data_only));
}

int kvw_storage_close(kvw_host *host, int os_fd)
{
    kvw_storage_call call = {.operation = KVW_STORAGE_CLOSE, .os_fd = os_fd};
    /* Linux frees the descriptor whatever close answers, so the hook cannot keep it open. */
    int injected = kvw_storage_before(host, &call);
    int error = kvw_os_close(os_fd) < 0 && errno != EINTR ? errno : 0;
    error = injected ? injected : error;
    kvw_storage_after(host, &call, 0, error);
    return error;
}

int kvw_storage_link(kvw_host *host, int from, const char *old_name, int to, const char *new_name)
{
    kvw_storage_call call = {
        .operation = KVW_STORAGE_LINK, .os_fd = from, .os_fd2 = to, .path = old_name, .path2 = new_name};
    HOOKED(host, &call, kvw_os_linkat(from, old_name, to, new_name, 0));
}

int kvw_storage_rename(kvw_host *host, int from, const char *old_name, int to, const char *new_name)
{
    kvw_storage_call call = {
        .operation = KVW_STORAGE_RENAME, .os_fd = from, .os_fd2 = to, .path = old_name, .path2 = new_name};
    HOOKED(host, &call, kvw_os_renameat(from, old_name, to, new_name));
}

int kvw_storage_unlink(kvw_host *host, int directory, const char *name)
{
    kvw_storage_call call = {.operation = KVW_STORAGE_UNLINK, .os_fd = directory, .path = name};
    HOOKED(host, &call, kvw_os_unlinkat(directory, name, 0));
}

int kvw_storage_symlink(kvw_host *host, const char *target, int directory, const char *name)
{
    kvw_storage_call call = {
        .operation = KVW_STORAGE_SYMLINK, .os_fd = directory, .path = target, .path2 = name};
    HOOKED(host, &call, kvw_os_symlinkat(target, directory, name));
}

int kvw_storage_create_directory(kvw_host *host, int directory, const char *name)
{
    kvw_storage_call call = {.operation = KVW_STORAGE_CREATE_DIRECTORY, .os_fd = directory, .path = name};
    HOOKED(host, &call, kvw_os_mkdirat(directory, name, 0777));
}

int kvw_storage_remove_directory(kvw_host *host, int directory, const char *name)
{
    kvw_storage_call call = {.operation = KVW_STORAGE_REMOVE_DIRECTORY, .os_fd = directory, .path = name};
    HOOKED(host, &call, kvw_os_unlinkat(directory, name, AT_REMOVEDIR));
}
