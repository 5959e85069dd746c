/* The guest in wasmtime: instantiate, call an export, tell what went wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime.h"
#include "session.h"

static const char *const export_names[KVE_EXPORT_COUNT] = {
#define KVE_EXPORT_NAME(name) "kv_guest_" #name,
    KVE_EXPORTS(KVE_EXPORT_NAME)
#undef KVE_EXPORT_NAME
};

int kve_break(kve_session *session, const char *what)
{
    if (!session->broken) snprintf(session->message, sizeof session->message, "%s", what);
    session->broken = true;
    kve_writer_wake_all(session);
    return KVE_BROKEN;
}

static int call_raw(kve_session *session, kve_export which, wasmtime_val_raw_t *values, size_t count)
{
    const kvw_wasmtime *wasmtime = session->wasmtime;
    char message[KVE_MESSAGE_SIZE];
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error =
        wasmtime->wasmtime_func_call_unchecked(session->context, &session->exports[which], values, count, &trap);
    if (__builtin_expect(error == NULL && trap == NULL, 1)) return values[0].i32;
    if (error != NULL)
        kve_take_error(wasmtime, error, message);
    else
        kve_take_trap(wasmtime, trap, message);
    return kve_break(session, message);
}

int kve_call(kve_session *session, kve_export which, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e)
{
    /* The export takes as many of them as it has parameters. */
    wasmtime_val_raw_t values[5];
    values[0].i32 = (int32_t)a;
    values[1].i32 = (int32_t)b;
    values[2].i32 = (int32_t)c;
    values[3].i32 = (int32_t)d;
    values[4].i32 = (int32_t)e;
    return call_raw(session, which, values, 5);
}

int kve_call_number(kve_session *session, kve_export which, uint64_t number)
{
    wasmtime_val_raw_t value;
    value.i64 = (int64_t)number;
    return call_raw(session, which, &value, 1);
}

int kve_status_of(kve_session *session, int status, kve_failure *failure)
{
    if (status == KV_NEEDS_SYNC || (status >= KV_INVALID && status < KVE_CLOSED)) {
        const kv_guest_block *block = kve_block(session);
        failure->position = block->position;
        failure->detail = block->detail;
        failure->os_error = block->os_error;
    }
    if (status < KVE_CLOSED && kve_block(session)->flush_wanted) kve_wish_flush(session);
    return status;
}

static bool instantiate(kve_session *session, wasmtime_linker_t *linker, char *message)
{
    const kvw_wasmtime *wasmtime = session->wasmtime;
    wasm_trap_t *trap = NULL;
    wasmtime_instance_t instance;
    wasmtime->wasmtime_linker_allow_shadowing(linker, true);
    wasmtime_error_t *error = wasmtime->wasmtime_linker_define_wasi(linker);
    if (error == NULL) error = wasmtime->wasmtime_context_set_wasi(session->context, wasmtime->wasi_config_new());
    if (error == NULL) error = session->api->define(session->host, linker);
    if (error == NULL)
        error = wasmtime->wasmtime_linker_instantiate(linker, session->context, kve_the_runtime.module, &instance,
                                                      &trap);
    if (error != NULL || trap != NULL) {
        if (error != NULL)
            kve_take_error(wasmtime, error, message);
        else
            kve_take_trap(wasmtime, trap, message);
        return false;
    }
    wasmtime_extern_t found;
    if (!wasmtime->wasmtime_instance_export_get(session->context, &instance, "memory", strlen("memory"), &found) ||
        found.kind != WASMTIME_EXTERN_MEMORY) {
        snprintf(message, KVE_MESSAGE_SIZE, "the engine's module exports no memory");
        return false;
    }
    session->memory = found.of.memory;
    session->base = wasmtime->wasmtime_memory_data(session->context, &session->memory);
    session->api->attach(session->host, session->context, &session->memory);
    for (int i = 0; i < KVE_EXPORT_COUNT; i++) {
        const char *name = export_names[i];
        if (!wasmtime->wasmtime_instance_export_get(session->context, &instance, name, strlen(name), &found) ||
            found.kind != WASMTIME_EXTERN_FUNC) {
            snprintf(message, KVE_MESSAGE_SIZE, "the engine's module does not export %s", name);
            return false;
        }
        session->exports[i] = found.of.func;
    }
    /* A reactor: its constructors run before anything else. */
    if (wasmtime->wasmtime_instance_export_get(session->context, &instance, "_initialize", strlen("_initialize"), &found) &&
        found.kind == WASMTIME_EXTERN_FUNC) {
        wasmtime_val_raw_t none = {.i32 = 0};
        wasmtime_func_t before = session->exports[KVE_init];
        session->exports[KVE_init] = found.of.func;
        int status = call_raw(session, KVE_init, &none, 1);
        session->exports[KVE_init] = before;
        if (status == KVE_BROKEN) {
            snprintf(message, KVE_MESSAGE_SIZE, "%s", session->message);
            return false;
        }
    }
    return true;
}

/* The block and the buffer must lie in the memory, and stay there: memory never shrinks. */
static bool find_block(kve_session *session, char *message)
{
    session->block_address = (uint32_t)kve_call(session, KVE_init, 0, 0, 0, 0, 0);
    if (session->broken) {
        snprintf(message, KVE_MESSAGE_SIZE, "%s", session->message);
        return false;
    }
    uint64_t size = session->wasmtime->wasmtime_memory_data_size(session->context, &session->memory);
    bool fits = session->block_address != 0 && session->block_address % 8 == 0 &&
                (uint64_t)session->block_address + sizeof(kv_guest_block) <= size;
    if (fits) {
        const kv_guest_block *block = kve_block(session);
        session->data_address = block->data_address;
        if (kve_the_runtime.seed != 0) kve_block(session)->random_seed = kve_the_runtime.seed++;
        fits = block->abi == KV_GUEST_ABI && session->data_address % 8 == 0 &&
               (uint64_t)session->data_address + KV_DATA_CAPACITY <= size;
    }
    if (!fits) snprintf(message, KVE_MESSAGE_SIZE, "the engine's module is of another version");
    return fits;
}

static bool session_start(kve_session *session, const char *directory, int *os_error, char *message)
{
    const kvw_wasmtime *wasmtime = session->wasmtime;
    session->host = session->api->host_new();
    session->store = wasmtime->wasmtime_store_new(kve_the_runtime.engine, NULL, NULL);
    wasmtime_linker_t *linker = wasmtime->wasmtime_linker_new(kve_the_runtime.engine);
    if (session->host == NULL || session->store == NULL || linker == NULL) {
        snprintf(message, KVE_MESSAGE_SIZE, "no memory for the engine");
        if (linker != NULL) wasmtime->wasmtime_linker_delete(linker);
        return false;
    }
    if (kve_the_runtime.memory_limit > 0)
        wasmtime->wasmtime_store_limiter(session->store, kve_the_runtime.memory_limit, -1, -1, -1, -1);
    session->context = wasmtime->wasmtime_store_context(session->store);
    uint32_t flags = KVW_PREOPEN_EXCLUSIVE | (session->read_only ? KVW_PREOPEN_READ_ONLY | KVW_PREOPEN_ALONGSIDE : 0);
    *os_error = session->api->preopen(session->host, directory, "/", flags);
    bool ok = *os_error == 0 && instantiate(session, linker, message) && find_block(session, message);
    wasmtime->wasmtime_linker_delete(linker);
    return ok;
}

/* The advice is no more than that, so its failure is of no interest. */
void kve_advise_huge_pages(kve_session *session)
{
#ifdef MADV_HUGEPAGE
    const uintptr_t huge = 2u << 20, large = 16u << 20, grown = 128u << 20;
    const size_t used = session->wasmtime->wasmtime_memory_data_size(session->context, &session->memory);
    const uintptr_t base = (uintptr_t)session->base, end = base + KVE_MEMORY_RESERVATION;
    const uintptr_t first = (base + (used < large ? grown : 0) + huge - 1) & ~(huge - 1);
    (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)session;
#endif
}

/* Of zeros. */
static void init(kve_session *session, const kvw_api *api, bool read_only)
{
    session->api = api;
    session->wasmtime = api->wasmtime;
    session->read_only = read_only;
    pthread_mutex_init(&session->lock, NULL);
    pthread_mutex_init(&session->flush_lock, NULL);
    pthread_mutex_init(&session->pending_lock, NULL);
    kve_cond_init(&session->flush_done);
    kve_cond_init(&session->gathered);
    kve_cond_init(&session->flusher_wake);
}

kve_session *kve_session_new(const kvw_api *api, const char *directory, bool read_only, int *os_error,
                             char *message)
{
    *os_error = 0;
    kve_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        snprintf(message, KVE_MESSAGE_SIZE, "no memory for the engine");
        return NULL;
    }
    init(session, api, read_only);
    session->fork_generation = kve_fork_generation;
    session->open = session_start(session, directory, os_error, message);
    if (session->open) return session;
    kve_session_drop(session);
    kve_session_free(session);
    return NULL;
}

bool kve_session_revive(kve_session *session, const char *directory, int *os_error, char *message)
{
    const kvw_api *api = session->api;
    const bool still = session->still;
    const uint32_t generation = session->fork_generation;
    const uint64_t lives = session->lives + 1, files = session->files + 1;
    *os_error = 0;
    memset(session, 0, sizeof *session);
    init(session, api, true);
    session->still = still;
    session->lives = lives;
    session->files = files;
    session->fork_generation = generation; /* until it is open */
    session->open = session_start(session, directory, os_error, message);
    return session->open;
}

void kve_session_revived(kve_session *session)
{
    session->fork_generation = kve_fork_generation;
}

void kve_session_abandon(kve_session *session)
{
    if (session->host != NULL) session->api->abandon(session->host);
}

void kve_session_drop(kve_session *session)
{
    session->open = false;
    session->transaction = 0;
    if (session->host != NULL) (void)session->api->settle(session->host); /* it may be busy with the guest's memory */
    if (session->store != NULL) session->wasmtime->wasmtime_store_delete(session->store);
    if (session->host != NULL) session->api->host_free(session->host);
    session->store = NULL;
    session->host = NULL;
    session->context = NULL;
    kve_writer_wake_all(session);
}

void kve_session_free(kve_session *session)
{
    /* A child process leaves the parent's locks and memory as they are. */
    if (session == NULL || kve_alive(session) != 0) return;
    kve_regions_trim(session, true);
    pthread_mutex_destroy(&session->lock);
    pthread_mutex_destroy(&session->flush_lock);
    pthread_mutex_destroy(&session->pending_lock);
    pthread_cond_destroy(&session->flush_done);
    pthread_cond_destroy(&session->gathered);
    pthread_cond_destroy(&session->flusher_wake);
    free(session);
}
