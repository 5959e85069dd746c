/* The storage operations of the data plane: the OS's calls, with one hook around each that records it,
 * fails it or cuts it short. Without a hook it costs one predicted branch. */
#ifndef KVW_STORAGE_H
#define KVW_STORAGE_H

#include "host.h"

typedef enum kvw_storage_operation {
    KVW_STORAGE_OPEN,
    KVW_STORAGE_CLOSE,
    KVW_STORAGE_READ,
    KVW_STORAGE_WRITE,
    KVW_STORAGE_TRUNCATE,
    KVW_STORAGE_ALLOCATE,
    KVW_STORAGE_SYNC,
    KVW_STORAGE_DATASYNC,
    KVW_STORAGE_LINK,
    KVW_STORAGE_RENAME,
    KVW_STORAGE_UNLINK,
    KVW_STORAGE_SYMLINK,
    KVW_STORAGE_CREATE_DIRECTORY,
    KVW_STORAGE_REMOVE_DIRECTORY,
} kvw_storage_operation;

typedef struct kvw_storage_call {
    kvw_storage_operation operation;
    int os_fd;       /* of the file; of the directory for operations on names; -1: not open yet */
    int os_fd2;      /* directory of `path2` */
    uint32_t flags;  /* OPEN: flags of open(2) */
    uint64_t offset; /* READ, WRITE, ALLOCATE; UINT64_MAX: at the OS's position or the end */
    uint64_t length; /* bytes; the new size for TRUNCATE. `before` may lower it for READ and WRITE */
    const struct iovec *parts; /* READ, WRITE */
    int part_count;
    const char *path;  /* within os_fd; the target for SYMLINK */
    const char *path2; /* LINK, RENAME: the new name; SYMLINK: the link */
} kvw_storage_call;

typedef struct kvw_storage_hook {
    void *context;
    /* 0: go on; otherwise the call fails with this errno of the OS and is not made. */
    int (*before)(void *context, kvw_storage_call *call);
    /* `result`: bytes moved, or the new descriptor; `error`: 0 or an errno of the OS. */
    void (*after)(void *context, const kvw_storage_call *call, int64_t result, int error);
} kvw_storage_hook;

#define KVW_AT_POSITION UINT64_MAX

/* Bytes moved or minus an errno. `offset` KVW_AT_POSITION reads and writes at the OS's position. `flags`:
 * WASI_FD_* of the descriptor that the OS's own flags do not carry (DSYNC, SYNC), or WASI_FD_APPEND to ask
 * for a positioned write in spite of O_APPEND. */
ssize_t kvw_storage_read(kvw_host *host, int os_fd, const struct iovec *parts, int count, uint64_t offset);
ssize_t kvw_storage_write(kvw_host *host, int os_fd, const struct iovec *parts, int count, uint64_t offset,
                          uint32_t flags);

/* 0 or an errno */
int kvw_storage_truncate(kvw_host *host, int os_fd, uint64_t size);
int kvw_storage_allocate(kvw_host *host, int os_fd, uint64_t offset, uint64_t length);
int kvw_storage_sync(kvw_host *host, int os_fd, bool data_only);
int kvw_storage_close(kvw_host *host, int os_fd);
int kvw_storage_link(kvw_host *host, int from, const char *old_name, int to, const char *new_name);
int kvw_storage_rename(kvw_host *host, int from, const char *old_name, int to, const char *new_name);
int kvw_storage_unlink(kvw_host *host, int directory, const char *name);
int kvw_storage_symlink(kvw_host *host, const char *target, int directory, const char *name);
int kvw_storage_create_directory(kvw_host *host, int directory, const char *name);
int kvw_storage_remove_directory(kvw_host *host, int directory, const char *name);

/* Around an open that resolve.c performs. `before` returns an errno that stands for the open's. */
static inline int kvw_storage_before(kvw_host *host, kvw_storage_call *call)
{
    return KVW_UNLIKELY(host->hook) ? host->hook->before(host->hook->context, call) : 0;
}
static inline void kvw_storage_after(kvw_host *host, const kvw_storage_call *call, int64_t result, int error)
{
    if (KVW_UNLIKELY(host->hook))
        host->hook->after(host->hook->context, call, result, error);
}

#endif
