/* sock_*: sockets that the embedder handed over as stdio; everything else is no socket. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host.h"
#include "os.h"

#define RECV_PEEK 1u
#define RECV_WAITALL 2u
#define RECV_DATA_TRUNCATED 1u
#define SHUT_READ 1u
#define SHUT_WRITE 2u

typedef __typeof__(((struct msghdr *)0)->msg_iovlen) part_count; /* size_t in Linux, int in POSIX */

static uint32_t socket_of(kvw_host *host, uint32_t fd, uint32_t access, uint64_t right, kvw_descriptor **d)
{
    *d = kvw_descriptor_of(host, fd);
    if (!*d)
        return WASI_EBADF;
    uint32_t filetype = kvw_filetype(*d);
    if (filetype != WASI_FILETYPE_SOCKET_STREAM && filetype != WASI_FILETYPE_SOCKET_DGRAM)
        return WASI_ENOTSOCK;
    return kvw_may(*d, access, right);
}

static uint32_t gather(const kvw_memory *memory, uint32_t vector, uint32_t count, struct iovec *parts)
{
    if (count > KVW_IOVECS_MAX)
        return WASI_EINVAL;
    const uint8_t *at = kvw_range(memory, vector, (uint64_t)count * WASI_IOVEC_SIZE);
    if (!at)
        return WASI_EFAULT;
    for (uint32_t i = 0; i < count; i++, at += WASI_IOVEC_SIZE) {
        parts[i].iov_len = kvw_load32(at + 4);
        parts[i].iov_base = kvw_range(memory, kvw_load32(at), parts[i].iov_len);
        if (!parts[i].iov_base)
            return WASI_EFAULT;
    }
    return WASI_OK;
}

uint32_t kvw_sock_accept(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d;
    uint32_t error = socket_of(host, kvw_u32(a), 0, WASI_RIGHT_SOCK_ACCEPT, &d);
    if (error)
        return error;
    uint32_t flags = kvw_u32(a + 1);
    uint8_t *result = kvw_range(memory, kvw_u32(a + 2), 4);
    if (!result)
        return WASI_EFAULT;
    if (flags & ~WASI_FD_NONBLOCK)
        return WASI_EINVAL;
    kvw_descriptor connection = {.access = KVW_ACCESS_READ | KVW_ACCESS_WRITE, .rights = WASI_RIGHTS_ALL};
    connection.flags = (uint16_t)flags;
    connection.os_fd = kvw_os_accept(d->os_fd, flags);
    if (connection.os_fd < 0)
        return kvw_errno(errno);
    uint32_t fd;
    error = kvw_descriptor_add(host, &connection, &fd);
    if (error)
        close(connection.os_fd);
    else
        kvw_store32(result, fd);
    return error;
}

uint32_t kvw_sock_recv(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d;
    uint32_t error = socket_of(host, kvw_u32(a), KVW_ACCESS_READ, WASI_RIGHT_FD_READ, &d);
    if (error)
        return error;
    struct iovec parts[KVW_IOVECS_MAX];
    uint8_t *length = kvw_range(memory, kvw_u32(a + 4), 4);
    uint8_t *out_flags = kvw_range(memory, kvw_u32(a + 5), 2);
    uint32_t flags = kvw_u32(a + 3);
    error = gather(memory, kvw_u32(a + 1), kvw_u32(a + 2), parts);
    if (error)
        return error;
    if (!length || !out_flags)
        return WASI_EFAULT;
    if (flags & ~(RECV_PEEK | RECV_WAITALL))
        return WASI_EINVAL;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (part_count)kvw_u32(a + 2)};
    ssize_t got = recvmsg(d->os_fd, &message,
                          (flags & RECV_PEEK ? MSG_PEEK : 0) | (flags & RECV_WAITALL ? MSG_WAITALL : 0));
    if (got < 0)
        return kvw_errno(errno);
    kvw_store32(length, (uint32_t)got);
    kvw_store16(out_flags, message.msg_flags & MSG_TRUNC ? RECV_DATA_TRUNCATED : 0);
    return WASI_OK;
}

uint32_t kvw_sock_send(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d;
    uint32_t error = socket_of(host, kvw_u32(a), KVW_ACCESS_WRITE, WASI_RIGHT_FD_WRITE, &d);
    if (error)
        return error;
    struct iovec parts[KVW_IOVECS_MAX];
    uint8_t *result = kvw_range(memory, kvw_u32(a + 4), 4);
    error = gather(memory, kvw_u32(a + 1), kvw_u32(a + 2), parts);
    if (error)
        return error;
    if (!result)
        return WASI_EFAULT;
    if (kvw_u32(a + 3)) /* no flags are defined */
        return WASI_EINVAL;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = (part_count)kvw_u32(a + 2)};
    ssize_t put = sendmsg(d->os_fd, &message, MSG_NOSIGNAL);
    if (put < 0)
        return kvw_errno(errno);
    kvw_store32(result, (uint32_t)put);
    return WASI_OK;
}

uint32_t kvw_sock_shutdown(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)memory;
    kvw_descriptor *d;
    uint32_t error = socket_of(host, kvw_u32(a), 0, WASI_RIGHT_SOCK_SHUTDOWN, &d);
    if (error)
        return error;
    uint32_t how = kvw_u32(a + 1);
    if (how == 0 || how > (SHUT_READ | SHUT_WRITE))
        return WASI_EINVAL;
    int os_how = how == SHUT_READ ? SHUT_RD : how == SHUT_WRITE ? SHUT_WR : SHUT_RDWR;
    return shutdown(d->os_fd, os_how) < 0 ? kvw_errno(errno) : WASI_OK;
}
