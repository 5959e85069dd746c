/* Life of a host, its definition in a linker, and the table of functions for the layers above. */
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "behind.h"
#include "file.h"
#include "host_internal.h"
#include "os.h"
#include "storage.h"

static const char module_name[] = "wasi_snapshot_preview1";

/* What the linker keeps for one function. */
typedef struct binding {
    kvw_host *host;
    kvw_call *call;
} binding;

static const kvw_wasmtime *library;
static const kvw_storage_hook *_Atomic default_hook;

void kvw_host_default_hook(const kvw_storage_hook *hook) { atomic_store(&default_hook, hook); }

void kvw_host_use_library(const kvw_wasmtime *wasmtime)
{
    kvw_os_tune();
    library = wasmtime;
}

kvw_host *kvw_host_new(void)
{
    kvw_host *host = calloc(1, sizeof *host);
    if (!host)
        return NULL;
    host->wasmtime = library;
    host->hook = atomic_load(&default_hook);
    atomic_init(&host->references, 1);
    host->first_free = 3; /* 0, 1, 2 are stdio's, open or not */
    pthread_mutex_init(&host->table_lock, NULL);
    return host;
}

void kvw_release(kvw_host *host)
{
    if (atomic_fetch_sub(&host->references, 1) > 1)
        return;
    for (uint32_t i = 0; i < KVW_BLOCKS; i++)
        free(host->blocks[i]);
    pthread_mutex_destroy(&host->table_lock);
    free(host);
}

void kvw_host_close(kvw_host *host)
{
    kvw_behind_free(host);
    for (uint32_t fd = 0; fd < host->slots; fd++)
        if (kvw_slot(host, fd)->open)
            kvw_descriptor_close(host, fd);
    kvw_file_unpark(host);
    host->context = NULL;
}

/* Whatever a linker still holds finds every descriptor closed. */
void kvw_host_free(kvw_host *host)
{
    kvw_host_close(host);
    host->hook = NULL;
    kvw_release(host);
}

int kvw_host_preopen(kvw_host *host, const char *host_path, const char *guest_path, uint32_t flags)
{
    struct stat st;
    int os_fd = open(host_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (os_fd < 0 && errno == EACCES) /* may be entered, if not listed */
        os_fd = open(host_path, KVW_O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (os_fd < 0)
        return errno;
    char *name = strdup(guest_path);
    kvw_descriptor d = {
        .os_fd = os_fd,
        .access = KVW_ACCESS_READ,
        .read_only = flags & KVW_PREOPEN_READ_ONLY,
        .exclusive = flags & KVW_PREOPEN_EXCLUSIVE,
        .sync_asked = true,
        .rights = WASI_RIGHTS_ALL,
        .inheriting = WASI_RIGHTS_ALL,
        .guest_path = name,
    };
    uint32_t fd;
    if (!name || fstat(os_fd, &st) < 0 || kvw_descriptor_add(host, &d, &fd)) {
        free(name);
        close(os_fd);
        return ENOMEM;
    }
    host->alongside = (flags & KVW_PREOPEN_ALONGSIDE) && (flags & KVW_PREOPEN_READ_ONLY);
    if (host->roots < sizeof host->root_inodes / sizeof *host->root_inodes) {
        host->root_inodes[host->roots] = st.st_ino;
        host->root_devices[host->roots++] = st.st_dev;
    }
    return 0;
}

int kvw_host_stdio_fd(kvw_host *host, uint32_t fd, int os_fd, bool owned)
{
    int copy = owned ? os_fd : fcntl(os_fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return errno;
    int mode = fcntl(copy, F_GETFL);
    uint32_t access = (mode & O_ACCMODE) == O_RDONLY   ? KVW_ACCESS_READ
                      : (mode & O_ACCMODE) == O_WRONLY ? KVW_ACCESS_WRITE
                                                       : KVW_ACCESS_READ | KVW_ACCESS_WRITE;
    kvw_descriptor d = {
        .os_fd = copy,
        .access = (uint8_t)access,
        .inherited = true,
        .sync_asked = true,
        .flags =
            (uint16_t)((mode & O_APPEND ? WASI_FD_APPEND : 0) | (mode & O_NONBLOCK ? WASI_FD_NONBLOCK : 0)),
        .rights = WASI_RIGHTS_ALL,
    };
    return kvw_descriptor_put(host, fd, &d) ? ENOMEM : 0;
}

int kvw_host_stdio_stream(kvw_host *host, uint32_t fd, const kvw_stream *stream, bool terminal)
{
    kvw_stream *copy = malloc(sizeof *copy);
    if (!copy)
        return ENOMEM;
    *copy = *stream;
    kvw_descriptor d = {
        .os_fd = -1,
        .access = (uint8_t)((stream->read ? KVW_ACCESS_READ : 0) | (stream->write ? KVW_ACCESS_WRITE : 0)),
        .typed = true,
        .filetype = terminal ? WASI_FILETYPE_CHARACTER_DEVICE : WASI_FILETYPE_UNKNOWN,
        .rights = WASI_RIGHTS_ALL,
        .stream = copy,
    };
    return kvw_descriptor_put(host, fd, &d) ? ENOMEM : 0;
}

/* The caller's memory, for hosts that are not attached to an instance. */
static bool memory_of_caller(const kvw_wasmtime *w, wasmtime_caller_t *caller, kvw_memory *memory)
{
    wasmtime_extern_t item;
    if (!w->wasmtime_caller_export_get(caller, "memory", 6, &item))
        return false;
    bool found = item.kind == WASMTIME_EXTERN_MEMORY;
    if (found) {
        const wasmtime_context_t *context = w->wasmtime_caller_context(caller);
        memory->base = w->wasmtime_memory_data(context, &item.of.memory);
        memory->size = w->wasmtime_memory_data_size(context, &item.of.memory);
    }
    w->wasmtime_extern_delete(&item);
    return found;
}

/* The memory has grown. */
static __attribute__((noinline)) void look_at_memory(kvw_host *host, uint64_t size)
{
    const uint64_t before = host->seen.size;
    host->seen = (kvw_memory){host->wasmtime->wasmtime_memory_data(host->context, &host->memory), size};
    if (host->defers && size > before)
        kvw_behind_populate(host, host->seen.base + before, size - before);
}

static wasm_trap_t *on_call(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw, size_t length)
{
    static const char no_memory[] = "a module that calls WASI must export its memory as \"memory\"";
    const binding *b = env;
    kvw_host *host = b->host;
    const kvw_wasmtime *w = host->wasmtime;
    kvw_memory memory; /* its address and size may change at every call */
    (void)length;
    /* Another store's instance may use the same linker: then the memory is that of the caller, too. */
    if (host->context && w->wasmtime_caller_context(caller) == host->context) {
        memory.size = w->wasmtime_memory_data_size(host->context, &host->memory);
        if (KVW_UNLIKELY(memory.size != host->seen.size)) /* only growing moves it */
            look_at_memory(host, memory.size);
        memory.base = host->seen.base;
    } else if (!memory_of_caller(w, caller, &memory)) {
        return w->wasmtime_trap_new(no_memory, sizeof no_memory - 1);
    }
    raw[0].i32 = (int32_t)kvw_behind_call(host, b->call, &memory, raw);
    return NULL;
}

static void binding_free(void *env)
{
    binding *b = env;
    kvw_release(b->host);
    free(b);
}

static wasmtime_error_t *define_one(kvw_host *host, wasmtime_linker_t *linker, const char *name,
                                    const char *parameters, kvw_call *call)
{
    const kvw_wasmtime *w = host->wasmtime;
    binding *b = malloc(sizeof *b);
    if (!b)
        return w->wasmtime_error_new("out of memory");
    *b = (binding){host, call};
    atomic_fetch_add(&host->references, 1);
    wasm_functype_t *type = kvw_functype(w, parameters);
    wasmtime_error_t *error = w->wasmtime_linker_define_func_unchecked(
        linker, module_name, sizeof module_name - 1, name, strlen(name), type, on_call, b, binding_free);
    w->wasm_functype_delete(type);
    return error;
}

wasmtime_error_t *kvw_host_define(kvw_host *host, wasmtime_linker_t *linker)
{
    host->wasmtime->wasmtime_linker_allow_shadowing(linker, true);
    wasmtime_error_t *error = NULL;
#define KVW_DEFINE(name, parameters)                                                                         \
    if (!error)                                                                                              \
        error = define_one(host, linker, #name, parameters, kvw_##name);
    KVW_CALLS(KVW_DEFINE)
#undef KVW_DEFINE
    return error;
}

void kvw_host_attach(kvw_host *host, wasmtime_context_t *context, const wasmtime_memory_t *memory)
{
    host->memory = *memory;
    host->seen = (kvw_memory){NULL, UINT64_MAX};
    host->context = context;
}

static int host_datasync(kvw_host *host, uint32_t fd)
{
    int error = kvw_behind_settle(host);
    if (error)
        return error;
    int copy = kvw_descriptor_duplicate(host, fd);
    if (copy < 0)
        return errno;
    error = kvw_storage_sync(host, copy, true);
    close(copy);
    return error;
}

static void host_defer_writes(kvw_host *host, kvw_defer how) { host->defers = host->hook ? KVW_DEFER_NOTHING : how; }

static int host_settle(kvw_host *host) { return kvw_behind_settle(host); }

static int host_read(kvw_host *host, uint32_t fd, uint64_t offset, void *to, size_t length, size_t *got)
{
    const kvw_descriptor *d = kvw_descriptor_of(host, fd);
    *got = 0;
    if (KVW_UNLIKELY(!d || d->os_fd < 0))
        return EBADF;
    if (KVW_UNLIKELY(offset > INT64_MAX))
        return EINVAL;
    int error = kvw_behind_settle(host);
    if (error)
        return error;
    struct iovec part = {to, length};
    if (d->file && !KVW_UNLIKELY(host->hook) && kvw_file_read(d->file, d->os_fd, offset, &part, 1, length)) {
        *got = length;
        return 0;
    }
    while (*got < length) {
        part = (struct iovec){(uint8_t *)to + *got, length - *got};
        ssize_t more = kvw_storage_read(host, d->os_fd, &part, 1, offset + *got);
        if (more == -EINTR)
            continue;
        if (more < 0)
            return (int)-more;
        if (more == 0)
            break;
        *got += (size_t)more;
    }
    if (d->file)
        kvw_file_grown_to(d->file, offset + *got);
    return 0;
}

static void host_prefetch(kvw_host *host, uint32_t fd, uint64_t offset, size_t length)
{
    enum { LINE = 64, LINES_MAX = 8 }; /* after those the processor sees the pattern by itself */
    const kvw_descriptor *d = kvw_descriptor_of(host, fd);
    if (!d || !d->file || !d->file->window || offset > d->file->window_length ||
        length > d->file->window_length - offset)
        return;
    const uint8_t *at = d->file->window + offset;
    size_t ahead = (uintptr_t)at % LINE; /* the last line, too, however the first byte lies in its own */
    length += ahead;
    for (size_t i = 0; i < length && i < (size_t)LINE * LINES_MAX; i += LINE)
        __builtin_prefetch(at - ahead + i);
}

static int host_map(kvw_host *host, uint32_t fd, uint64_t offset, size_t length, void **address)
{
    const kvw_descriptor *d = kvw_descriptor_of(host, fd);
    if (!d || d->os_fd < 0)
        return EBADF;
    int error = kvw_behind_settle(host);
    if (error)
        return error;
    if (!d->file || !kvw_file_is_coherent(d->os_fd) || offset > INT64_MAX)
        return ENODEV;
    *address = mmap(NULL, length, PROT_READ, MAP_SHARED, d->os_fd, (off_t)offset);
    return *address == MAP_FAILED ? errno : 0;
}

static int range_request(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, int command,
                         struct flock *request)
{
    kvw_descriptor *d = kvw_descriptor_of(host, fd);
    if (!d || d->os_fd < 0)
        return EBADF;
    if (start > INT64_MAX || length > INT64_MAX - start)
        return EINVAL;
    request->l_whence = SEEK_SET;
    request->l_start = (off_t)start;
    request->l_len = (off_t)length;
    if (command == F_OFD_SETLK && request->l_type != F_UNLCK)
        d->range_locked = true;
    return fcntl(d->os_fd, command, request) < 0 ? errno : 0;
}

static int host_lock_shared(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, bool on)
{
    struct flock request = {.l_type = on ? F_RDLCK : F_UNLCK};
    return range_request(host, fd, start, length, F_OFD_SETLK, &request);
}

static int host_is_locked(kvw_host *host, uint32_t fd, uint64_t start, uint64_t length, bool *locked)
{
    struct flock request = {.l_type = F_WRLCK};
    int error = range_request(host, fd, start, length, F_OFD_GETLK, &request);
    *locked = error == 0 && request.l_type != F_UNLCK;
    return error;
}

static void host_abandon(kvw_host *host)
{
    for (uint32_t fd = 0; fd < host->slots; fd++) {
        const kvw_descriptor *d = kvw_slot(host, fd);
        if (d->open && d->os_fd >= 0)
            close(d->os_fd);
    }
}

void kvw_host_api(kvw_api *api)
{
    *api = (kvw_api){
        .version = KVW_API_VERSION,
        .wasmtime = library,
        .host_new = kvw_host_new,
        .host_free = kvw_host_free,
        .preopen = kvw_host_preopen,
        .define = kvw_host_define,
        .attach = kvw_host_attach,
        .datasync = host_datasync,
        .defer_writes = host_defer_writes,
        .settle = host_settle,
        .has_room = kvw_behind_has_room,
        .read = host_read,
        .prefetch = host_prefetch,
        .map = host_map,
        .lock_shared = host_lock_shared,
        .is_locked = host_is_locked,
        .abandon = host_abandon,
    };
}
