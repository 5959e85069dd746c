/* What the Cython module needs of the host beyond host_api.h. */
#ifndef KVW_HOST_INTERNAL_H
#define KVW_HOST_INTERNAL_H

#include "host.h"
#include "storage.h"

/* Before anything else, and for good. */
void kvw_host_use_library(const kvw_wasmtime *wasmtime);
void kvw_host_api(kvw_api *api);

kvw_host *kvw_host_new(void);
/* The hook of hosts made from now on; NULL for none. It must live as long as they do. */
void kvw_host_default_hook(const kvw_storage_hook *hook);
/* Close every descriptor and forget the instance; the host stays usable, and answers EBADF. */
void kvw_host_close(kvw_host *host);
void kvw_host_free(kvw_host *host);
int kvw_host_preopen(kvw_host *host, const char *host_path, const char *guest_path, uint32_t flags);
wasmtime_error_t *kvw_host_define(kvw_host *host, wasmtime_linker_t *linker);
void kvw_host_attach(kvw_host *host, wasmtime_context_t *context, const wasmtime_memory_t *memory);

/* Make `os_fd` (a duplicate, or itself when `owned`) descriptor `fd` (0, 1, 2), which must be closed. 0 or
 * an errno. */
int kvw_host_stdio_fd(kvw_host *host, uint32_t fd, int os_fd, bool owned);
int kvw_host_stdio_stream(kvw_host *host, uint32_t fd, const kvw_stream *stream, bool terminal);

#endif
