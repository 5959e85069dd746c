/* Write-behind: while an embedder asks for it (kvw_api.defer_writes), positioned writes return before the OS has
 * their bytes. A thread of the host passes them on in their order while the guest computes; whatever could tell
 * the difference waits for it first, every other call of the guest included. */
#ifndef KVW_BEHIND_H
#define KVW_BEHIND_H

#include "host.h"

/* Take over a write to the OS's descriptor `os_fd`, which stays open until somebody has waited. False: it is to be
 * made at once, once nothing is behind. Needs host->defers. */
bool kvw_behind_take(kvw_host *host, int os_fd, const struct iovec *parts, int count, uint64_t total, uint64_t offset);

/* The guest's memory has grown by these bytes, which stay mapped until somebody has waited: have the thread make
 * them present, so that the guest's first touch of each page is no fault. Needs host->defers. */
void kvw_behind_populate(kvw_host *host, uint8_t *from, uint64_t bytes);

/* Whether a MiB of writes can be taken over without waiting; with `wait`, once it can. From any thread. */
bool kvw_behind_has_room(kvw_host *host, bool wait);

/* Wait for what is behind now. 0, or the errno of a write that failed: all behind it were dropped, and it stays so. From
 * any thread. */
int kvw_behind_wait(kvw_host *host);

/* The same where mostly there is nothing to wait for. */
static inline int kvw_behind_settle(kvw_host *host)
{
    return KVW_UNLIKELY(atomic_load_explicit(&host->is_behind, memory_order_acquire)) ? kvw_behind_wait(host) : 0;
}

/* A call of the guest. */
static inline uint32_t kvw_behind_call(kvw_host *host, kvw_call *call, const kvw_memory *memory,
                                       const wasmtime_val_raw_t *arguments)
{
    if (KVW_UNLIKELY(atomic_load_explicit(&host->is_behind, memory_order_relaxed)) && call != kvw_fd_pwrite &&
        kvw_behind_wait(host) && call != kvw_fd_close)
        return WASI_EIO;
    return call(host, memory, arguments); /* a positioned write may be put behind the others */
}

void kvw_behind_free(kvw_host *host); /* waits */

#endif
