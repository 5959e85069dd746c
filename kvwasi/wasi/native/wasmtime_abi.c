#include "wasmtime_abi.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool kvw_wasmtime_load(kvw_wasmtime *out, const char *path, char *message, size_t message_capacity)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(message, message_capacity, "%s", dlerror());
        return false;
    }
    /* POSIX lets dlsym's pointer stand for a function; memcpy keeps ISO C content. */
#define KVW_LOOK_UP(result, name, parameters)                                                                \
    do {                                                                                                     \
        void *symbol = dlsym(library, #name);                                                                \
        if (!symbol) {                                                                                       \
            snprintf(message, message_capacity, "%s has no function %s", path, #name);                       \
            dlclose(library);                                                                                \
            return false;                                                                                    \
        }                                                                                                    \
        memcpy(&out->name, &symbol, sizeof symbol);                                                          \
    } while (0);
    KVW_WASMTIME_FUNCTIONS(KVW_LOOK_UP)
#undef KVW_LOOK_UP
    return true; /* the library stays loaded for good: code of open stores runs in it */
}

wasm_functype_t *kvw_functype(const kvw_wasmtime *wasmtime, const char *parameters)
{
    wasm_valtype_t *types[16];
    size_t count = strlen(parameters);
    assert(count <= sizeof types / sizeof *types);
    for (size_t i = 0; i < count; i++)
        types[i] = wasmtime->wasm_valtype_new(parameters[i] == 'l' ? WASM_I64 : WASM_I32);
    wasm_valtype_t *result = wasmtime->wasm_valtype_new(WASM_I32);
    wasm_valtype_vec_t parameter_types;
    wasm_valtype_vec_t result_types;
    wasmtime->wasm_valtype_vec_new(&parameter_types, count, types);
    wasmtime->wasm_valtype_vec_new(&result_types, 1, &result);
    return wasmtime->wasm_functype_new(&parameter_types, &result_types);
}
