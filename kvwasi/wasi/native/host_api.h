/* What the layers above may ask of the WASI host, from C. `kvwasi.wasi._host` publishes one `kvw_api` as the capsule
 * KVW_API_CAPSULE; nothing else crosses between the two extension modules. */
#ifndef KVW_HOST_API_H
#define KVW_HOST_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wasmtime_abi.h"

#define KVW_API_VERSION 6
#define KVW_API_CAPSULE "kvwasi.wasi._host._api"

typedef struct kvw_host kvw_host;

/* kvw_api.preopen flags */
#define KVW_PREOPEN_READ_ONLY 1u
#define KVW_PREOPEN_EXCLUSIVE 2u
/* Of a host whose preopens are all read-only: the embedder knows that whoever writes the files never cuts them. Windows are read beside
 * one that is stored to, and do not stand in its way. */
#define KVW_PREOPEN_ALONGSIDE 4u

/* kvw_api.defer_writes */
typedef enum kvw_defer {
    KVW_DEFER_NOTHING,
    KVW_DEFER_TO_OS,
    /* Every 8 MiB the device is asked to begin as well (sync_file_range(2), on Linux only), so that a datasync has less to wait
     * for. Only a wish: what fails there, the datasync tells. */
    KVW_DEFER_TO_DEVICE,
} kvw_defer;

typedef struct kvw_api {
    uint32_t version;             /* KVW_API_VERSION */
    const kvw_wasmtime *wasmtime; /* the C API of the wasmtime package's library, resolved */

    /* A host for one instance, without preopens and with 0, 1, 2 closed (the Python class connects them). NULL: no memory. */
    kvw_host *(*host_new)(void);
    void (*host_free)(kvw_host *host);
    /* Preopen `host_path` as `guest_path`. 0 or an errno of the OS. */
    int (*preopen)(kvw_host *host, const char *host_path, const char *guest_path, uint32_t flags);
    /* Define the file calls in `linker` (over wasmtime's own, shadowing allowed). NULL or an error the caller owns. */
    wasmtime_error_t *(*define)(kvw_host *host, wasmtime_linker_t *linker);
    /* The memory of the one instance that uses the host. Before it, each call looks the memory up in its caller. */
    void (*attach)(kvw_host *host, wasmtime_context_t *context, const wasmtime_memory_t *memory);

    /* Flush the data of guest descriptor `fd` to the device. 0 or an errno of the OS. May be called from any thread,
     * while another thread is inside the guest; never retried by the host. */
    int (*datasync)(kvw_host *host, uint32_t fd);
    /* Write-behind: from now on, or no longer, positioned writes to regular files in exclusive mode may return before the OS has
     * their bytes; a thread passes them on. Whatever could tell the difference, such as another call of the guest, waits for it.
     * When one fails (of which a full disk should be no reason: where there is little space, nothing is deferred) all behind it are
     * dropped, and every call but fd_close fails from then on, with EIO. A hook gets every write when it is made. Under the lock. */
    void (*defer_writes)(kvw_host *host, kvw_defer how);
    /* Wait until the OS has what was deferred: before anything is acknowledged. 0 or the errno of a write that failed. From any
     * thread, as `datasync`, which waits for it, too. */
    int (*settle)(kvw_host *host);
    /* Whether a MiB of writes can be deferred without waiting; with `wait`, once it can: whoever does that now and then, where nobody
     * waits for it, is not held up by a slow device in the midst of a call. From any thread. */
    bool (*has_room)(kvw_host *host, bool wait);
    /* Copy bytes of the file behind guest descriptor `fd`: through its window in exclusive mode (a memcpy under the SIGBUS
     * guard), else pread. `*got` < `length` only at the end of the file. 0 or an errno of the OS. The caller holds the
     * lock under which it calls the guest. */
    int (*read)(kvw_host *host, uint32_t fd, uint64_t offset, void *to, size_t length, size_t *got);
    /* Have the bytes on their way to the cache, for a `read` soon. Under the same lock; never fails. */
    void (*prefetch)(kvw_host *host, uint32_t fd, uint64_t offset, size_t length);
    /* Map bytes of the file behind guest descriptor `fd`, to be read, from `offset`, a multiple of 4096 (and of the page size, where
     * that is larger: else EINVAL); beyond its end there is nothing until it grows. The mapping is the caller's, and outlives the
     * descriptor. Under the same lock. 0 or an errno of the OS: not every file can be mapped. */
    int (*map)(kvw_host *host, uint32_t fd, uint64_t offset, size_t length, void **address);

    /* Locks of open file descriptions on ranges of a file, which end with the descriptor or its process. `on`: share the range with
     * others who read; else let go of it. 0 or an errno of the OS. */
    int (*lock_shared)(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, bool on);
    /* Whether others have a lock in the range. 0 or an errno of the OS. */
    int (*is_locked)(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, bool *locked);
    /* In a child process after a fork: close its copies of all descriptors, so that what the parent has locked ends with the parent. */
    void (*abandon)(kvw_host *host);
} kvw_api;

#endif
