/* The guest's module, compiled once a process and shared by all databases. */
#ifndef KVE_RUNTIME_H
#define KVE_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>

#include "host_api.h"

#define KVE_MESSAGE_SIZE 256
#define KVE_MEMORY_RESERVATION (4ull << 30) /* bytes of address space a guest: all that its 32 bits can reach */

typedef struct kve_runtime {
    wasm_engine_t *engine;
    wasmtime_module_t *module;
    int64_t memory_limit; /* bytes of linear memory that a new session gets at most; 0: what wasm allows */
    uint64_t seed; /* from which new sessions draw their salts, one after the other; 0: from the host's randomness */
    bool no_flushers; /* of new sessions: whoever opens them flushes */
} kve_runtime;

extern kve_runtime kve_the_runtime;

/* Take the module from `compiled` (what kve_runtime_serialize gave, possibly of another version or machine). False: not
 * usable. */
bool kve_runtime_load(const kvw_wasmtime *wasmtime, const void *compiled, size_t length);
/* Compile it. False with `message` (KVE_MESSAGE_SIZE bytes) filled. */
bool kve_runtime_compile(const kvw_wasmtime *wasmtime, const void *wasm, size_t length, char *message);
bool kve_runtime_serialize(const kvw_wasmtime *wasmtime, wasm_byte_vec_t *out);
/* Copy the error's text and delete it. */
void kve_take_error(const kvw_wasmtime *wasmtime, wasmtime_error_t *error, char *message);
void kve_take_trap(const kvw_wasmtime *wasmtime, wasm_trap_t *trap, char *message);

#endif
