#include "runtime.h"

#include <stdio.h>
#include <string.h>

kve_runtime kve_the_runtime;

/* One line: the cause, without the frames that wasmtime puts before it. */
static void take_text(const kvw_wasmtime *wasmtime, wasm_byte_vec_t *text, char *message)
{
    static const char heading[] = "Caused by:";
    const char *from = memmem(text->data, text->size, heading, strlen(heading));
    const char *end = text->data + text->size;
    size_t length = 0;
    from = from != NULL ? from + strlen(heading) : text->data;
    for (; from < end && length < KVE_MESSAGE_SIZE - 1; from++) {
        bool space = *from == ' ' || *from == '\n' || *from == '\0';
        if (!space)
            message[length++] = *from;
        else if (length != 0 && message[length - 1] != ' ')
            message[length++] = ' ';
    }
    message[length] = '\0';
    wasmtime->wasm_byte_vec_delete(text);
}

void kve_take_error(const kvw_wasmtime *wasmtime, wasmtime_error_t *error, char *message)
{
    wasm_byte_vec_t text;
    wasmtime->wasmtime_error_message(error, &text);
    take_text(wasmtime, &text, message);
    wasmtime->wasmtime_error_delete(error);
}

void kve_take_trap(const kvw_wasmtime *wasmtime, wasm_trap_t *trap, char *message)
{
    wasm_byte_vec_t text;
    wasmtime->wasm_trap_message(trap, &text);
    take_text(wasmtime, &text, message);
    wasmtime->wasm_trap_delete(trap);
}

/* A memory that never moves lets compiled code and this layer keep its address. */
static bool have_engine(const kvw_wasmtime *wasmtime)
{
    if (kve_the_runtime.engine != NULL) return true;
    wasm_config_t *config = wasmtime->wasm_config_new();
    if (config == NULL) return false;
    wasmtime->wasmtime_config_parallel_compilation_set(config, false); /* its threads would stay, and a fork has none */
    wasmtime->wasmtime_config_memory_may_move_set(config, false);
    wasmtime->wasmtime_config_memory_reservation_set(config, KVE_MEMORY_RESERVATION);
    kve_the_runtime.engine = wasmtime->wasm_engine_new_with_config(config);
    return kve_the_runtime.engine != NULL;
}

bool kve_runtime_load(const kvw_wasmtime *wasmtime, const void *compiled, size_t length)
{
    char ignored[KVE_MESSAGE_SIZE];
    if (!have_engine(wasmtime)) return false;
    wasmtime_error_t *error =
        wasmtime->wasmtime_module_deserialize(kve_the_runtime.engine, compiled, length, &kve_the_runtime.module);
    if (error == NULL) return true;
    kve_take_error(wasmtime, error, ignored); /* of another wasmtime or machine: compile again */
    kve_the_runtime.module = NULL;
    return false;
}

bool kve_runtime_compile(const kvw_wasmtime *wasmtime, const void *wasm, size_t length, char *message)
{
    if (!have_engine(wasmtime)) {
        snprintf(message, KVE_MESSAGE_SIZE, "no memory for the WebAssembly engine");
        return false;
    }
    wasmtime_error_t *error =
        wasmtime->wasmtime_module_new(kve_the_runtime.engine, wasm, length, &kve_the_runtime.module);
    if (error == NULL) return true;
    kve_take_error(wasmtime, error, message);
    kve_the_runtime.module = NULL;
    return false;
}

bool kve_runtime_serialize(const kvw_wasmtime *wasmtime, wasm_byte_vec_t *out)
{
    char ignored[KVE_MESSAGE_SIZE];
    wasmtime_error_t *error = wasmtime->wasmtime_module_serialize(kve_the_runtime.module, out);
    if (error == NULL) return true;
    kve_take_error(wasmtime, error, ignored);
    return false;
}
