/* The guest as native code in place of one in wasmtime: kvwasi/engine/native/session.h as instance.c and runtime.c fill
 * it, so that everything above (Cython, locks, group commit) is the very same code. One database at a time. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime.h"
#include "session.h"

/* Called with as many arguments as any export takes: what a callee does not take, it does not see (x86-64, arm64). */
typedef int (*any_export)(uint32_t, uint32_t, uint32_t, uint32_t, uint32_t);

static const any_export exports[KVE_EXPORT_COUNT] = {
#define NATIVE_EXPORT(name) (any_export)(void *)kv_guest_##name,
    KVE_EXPORTS(NATIVE_EXPORT)
#undef NATIVE_EXPORT
};

static char directory[1024];
static bool in_use;
static struct {
    int fd;
    uint8_t *start;
    size_t length;
} window = {.fd = -1};

/* --- what the engine layer asks of the WASI host --- */

static void window_drop(void)
{
    if (window.start != NULL) munmap(window.start, window.length);
    window.start = NULL;
    window.length = 0;
    window.fd = -1;
}

/* The bytes of the file in memory, as the host's read-only windows give them; NULL past its end. */
static const uint8_t *window_of(int fd, uint64_t offset, size_t length)
{
    if (fd != window.fd || offset + length > window.length) {
        struct stat status;
        window_drop();
        if (fstat(fd, &status) != 0 || offset + length > (uint64_t)status.st_size) return NULL;
        void *start = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (start == MAP_FAILED) return NULL;
        window.fd = fd;
        window.start = start;
        window.length = (size_t)status.st_size;
    }
    return window.start + offset;
}

static int host_read(kvw_host *host, uint32_t fd, uint64_t offset, void *to, size_t length, size_t *got)
{
    (void)host;
    const uint8_t *from = window_of((int)fd, offset, length);
    if (from != NULL) {
        memcpy(to, from, length);
        *got = length;
        return 0;
    }
    ssize_t count = pread((int)fd, to, length, (off_t)offset);
    *got = count < 0 ? 0 : (size_t)count;
    return count < 0 ? errno : 0;
}

static void host_prefetch(kvw_host *host, uint32_t fd, uint64_t offset, size_t length)
{
    (void)host;
    if ((int)fd != window.fd || offset + length > window.length) return;
    const uint8_t *at = window.start + offset, *end = at + length;
    for (at -= (uintptr_t)at % 64; at < end; at += 64) /* whole lines, as the WASI host does */
        __builtin_prefetch(at);
}

/* The guest makes its writes itself; what a large transaction gives the device to do meanwhile is the same. */
static struct {
    bool to_device;
    int fd;
    unsigned mebibytes;
} deferred;

static void host_defer_writes(kvw_host *host, kvw_defer how)
{
    (void)host;
    deferred.to_device = how == KVW_DEFER_TO_DEVICE;
}

static int host_settle(kvw_host *host)
{
    (void)host;
    return 0;
}

static bool host_has_room(kvw_host *host, bool wait)
{
    (void)host;
    if (!wait) return ++deferred.mebibytes % 8 != 0 || !deferred.to_device;
    (void)sync_file_range(deferred.fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    return true;
}

static int host_datasync(kvw_host *host, uint32_t fd)
{
    (void)host;
    return fdatasync((int)fd) == 0 ? 0 : errno;
}

/* There are no readers in other processes here. */
static int host_lock_shared(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, bool on)
{
    (void)host, (void)fd, (void)start, (void)length, (void)on;
    return ENOSYS;
}

static int host_is_locked(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, bool *locked)
{
    *locked = false;
    return host_lock_shared(host, fd, start, length, false);
}

static size_t memory_size(const wasmtime_context_t *context, const wasmtime_memory_t *memory)
{
    (void)context;
    (void)memory;
    return SIZE_MAX;
}

/* --- runtime.h --- */

kve_runtime kve_the_runtime = {.module = (wasmtime_module_t *)&kve_the_runtime};

bool kve_runtime_load(const kvw_wasmtime *wasmtime, const void *compiled, size_t length)
{
    (void)wasmtime;
    (void)compiled;
    (void)length;
    return true;
}

bool kve_runtime_compile(const kvw_wasmtime *wasmtime, const void *wasm, size_t length, char *message)
{
    (void)message;
    return kve_runtime_load(wasmtime, wasm, length);
}

bool kve_runtime_serialize(const kvw_wasmtime *wasmtime, wasm_byte_vec_t *out)
{
    (void)wasmtime;
    (void)out;
    return false;
}

/* --- session.h --- */

int kve_break(kve_session *session, const char *what)
{
    if (!session->broken) snprintf(session->message, sizeof session->message, "%s", what);
    session->broken = true;
    kve_writer_wake_all(session);
    return KVE_BROKEN;
}

/* References into memory are addresses of the process here; the layer adds the base to them. */
static void rebase(const kve_session *session, kv_value_ref *ref)
{
    if (ref->where == KV_WHERE_MEMORY) ref->offset -= (uint64_t)(uintptr_t)session->base;
}

static void rebase_results(kve_session *session, kve_export which, uint32_t count)
{
    uint8_t *at = kve_data(session);
    if (which == KVE_get || which == KVE_put) {
        rebase(session, &kve_block(session)->value);
    } else if (which == KVE_get_many) {
        for (uint32_t i = 0; i < count; i++)
            rebase(session, (kv_value_ref *)(void *)at + i);
    } else if (which == KVE_cursor_next) {
        for (uint64_t i = 0; i < kve_block(session)->count; i++) {
            kv_entry *entry = (kv_entry *)(void *)at;
            rebase(session, &entry->value);
            at += entry->next;
        }
    }
}

/* The guest sees the machine's file system, not its directory as `/`. */
static int open_database(kve_session *session, uint32_t length, uint32_t flags, uint32_t sector_bytes)
{
    uint8_t *path = kve_data(session);
    const size_t prefix = strlen(directory);
    memmove(path + prefix, path, length);
    memcpy(path, directory, prefix);
    int status = exports[KVE_open](length + (uint32_t)prefix, flags, sector_bytes, 0, 0);
    deferred.fd = kve_block(session)->fd;
    return status;
}

int kve_call(kve_session *session, kve_export which, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e)
{
    if (which == KVE_open) return open_database(session, a, b, c);
    if (which == KVE_close || which == KVE_compact_step) window_drop();
    int status = exports[which](a, b, c, d, e);
    if (status == KV_OK || status == KV_EXISTS) rebase_results(session, which, b);
    return status;
}

int kve_call_number(kve_session *session, kve_export which, uint64_t number)
{
    (void)session;
    return ((int (*)(uint64_t))(void *)exports[which])(number);
}

int kve_status_of(kve_session *session, int status, kve_failure *failure)
{
    if (status == KV_NEEDS_SYNC || (status >= KV_INVALID && status < KVE_CLOSED)) {
        const kv_guest_block *block = kve_block(session);
        failure->position = block->position;
        failure->detail = block->detail;
        failure->os_error = block->os_error;
    }
    return status;
}

/* Block and buffer are given as the low halves of their addresses: the layer adds them to the high half, as it adds
 * addresses of linear memory to its base. False: they lie on both sides of a multiple of 4 GiB. */
static bool find_block(kve_session *session)
{
    session->base = (uint8_t *)((uintptr_t)directory & ~(uintptr_t)UINT32_MAX);
    session->block_address = kv_guest_init();
    const uintptr_t last = (uintptr_t)kve_block(session) + sizeof(kv_guest_block) + KV_DATA_CAPACITY;
    if ((last & ~(uintptr_t)UINT32_MAX) != (uintptr_t)session->base) return false;
    session->data_address = kve_block(session)->data_address;
    return kve_block(session)->abi == KV_GUEST_ABI;
}

static void prepare(kve_session *session)
{
    static kvw_wasmtime wasmtime;
    static kvw_api api;
    wasmtime.wasmtime_memory_data_size = memory_size;
    api = (kvw_api){.wasmtime = &wasmtime,
                    .datasync = host_datasync,
                    .defer_writes = host_defer_writes,
                    .settle = host_settle,
                    .has_room = host_has_room,
                    .read = host_read,
                    .prefetch = host_prefetch,
                    .lock_shared = host_lock_shared,
                    .is_locked = host_is_locked};
    session->api = &api;
    session->wasmtime = &wasmtime;
    session->fork_generation = kve_fork_generation;
    pthread_mutex_init(&session->lock, NULL);
    pthread_mutex_init(&session->flush_lock, NULL);
    pthread_mutex_init(&session->pending_lock, NULL);
    kve_cond_init(&session->flush_done);
    kve_cond_init(&session->gathered);
    kve_cond_init(&session->flusher_wake);
}

kve_session *kve_session_new(const kvw_api *api, const char *place, bool read_only, int *os_error, char *message)
{
    (void)api;
    *os_error = 0;
    const size_t length = strlen(place);
    kve_session *session = in_use || length >= sizeof directory ? NULL : calloc(1, sizeof *session);
    if (session == NULL) {
        snprintf(message, KVE_MESSAGE_SIZE, "one database at a time");
        return NULL;
    }
    memcpy(directory, place, length + 1);
    prepare(session);
    session->read_only = read_only;
    session->open = in_use = find_block(session);
    if (session->open) return session;
    snprintf(message, KVE_MESSAGE_SIZE, "the guest's memory lies too far apart");
    kve_session_free(session);
    return NULL;
}

bool kve_session_revive(kve_session *session, const char *place, int *os_error, char *message)
{
    (void)session, (void)place;
    *os_error = ENOSYS;
    snprintf(message, KVE_MESSAGE_SIZE, "not after a fork");
    return false;
}

void kve_session_revived(kve_session *session) { (void)session; }

void kve_session_abandon(kve_session *session) { (void)session; }

void kve_advise_huge_pages(kve_session *session) { (void)session; }

void kve_session_drop(kve_session *session)
{
    if (session->open) in_use = false;
    window_drop();
    session->open = false;
    session->transaction = 0;
    kve_writer_wake_all(session);
}

void kve_session_free(kve_session *session)
{
    if (session == NULL || kve_alive(session) != 0) return;
    pthread_mutex_destroy(&session->lock);
    pthread_mutex_destroy(&session->flush_lock);
    pthread_mutex_destroy(&session->pending_lock);
    pthread_cond_destroy(&session->flush_done);
    pthread_cond_destroy(&session->gathered);
    pthread_cond_destroy(&session->flusher_wake);
    free(session);
}
