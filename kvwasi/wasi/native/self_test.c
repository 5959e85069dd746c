/* Proves at run time that the loaded library has the layouts that wasmtime_abi.h declares. */
#include <stdio.h>
#include <string.h>

#include "wasmtime_abi.h"

/* (module
 *   (import "t" "f" (func $f (param i32 i64) (result i32)))
 *   (memory (export "memory") 1)
 *   (func (export "run") (param i32 i64) (result i32) local.get 0 local.get 1 call $f)) */
static const uint8_t probe_module[] = {
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x07, 0x01, 0x60, 0x02, 0x7f, 0x7e, 0x01, 0x7f,
    0x02, 0x07, 0x01, 0x01, 0x74, 0x01, 0x66, 0x00, 0x00, 0x03, 0x02, 0x01, 0x00, 0x05, 0x03, 0x01, 0x00,
    0x01, 0x07, 0x10, 0x02, 0x06, 0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79, 0x02, 0x00, 0x03, 0x72, 0x75, 0x6e,
    0x00, 0x01, 0x0a, 0x0a, 0x01, 0x08, 0x00, 0x20, 0x00, 0x20, 0x01, 0x10, 0x00, 0x0b,
};

#define PROBE_I32 0x1234567
#define PROBE_I64 0x123456789abcdef0
#define PROBE_RESULT (-77)
#define PROBE_TRAP_ARGUMENT 13
#define PROBE_ADDRESS 4711u
#define PROBE_BYTE 0xa5u
#define PAGE_BYTES 65536u

typedef struct probe {
    const kvw_wasmtime *wasmtime;
    const char *failure;
} probe;

static bool memory_of_extern(const wasmtime_extern_t *item) { return item->kind == WASMTIME_EXTERN_MEMORY; }

static wasm_trap_t *probe_callback(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *raw,
                                   size_t length)
{
    probe *p = env;
    const kvw_wasmtime *w = p->wasmtime;
    wasmtime_extern_t item;
    if (length < 2 || raw[1].i64 != PROBE_I64) {
        p->failure = "arguments of a host call";
    } else if (raw[0].i32 == PROBE_TRAP_ARGUMENT) {
        return w->wasmtime_trap_new("probe", 5);
    } else if (raw[0].i32 != PROBE_I32) {
        p->failure = "arguments of a host call";
    } else if (!w->wasmtime_caller_export_get(caller, "memory", 6, &item) || !memory_of_extern(&item)) {
        p->failure = "exports of a caller";
    } else {
        wasmtime_context_t *context = w->wasmtime_caller_context(caller);
        if (w->wasmtime_memory_data_size(context, &item.of.memory) != PAGE_BYTES)
            p->failure = "size of a memory";
        else
            w->wasmtime_memory_data(context, &item.of.memory)[PROBE_ADDRESS] = PROBE_BYTE;
        w->wasmtime_extern_delete(&item);
    }
    raw[0].i32 = PROBE_RESULT;
    return NULL;
}

static const char *probe_trap(const kvw_wasmtime *w, wasmtime_context_t *context, const wasmtime_func_t *run)
{
    wasmtime_val_raw_t raw[2] = {{.i32 = PROBE_TRAP_ARGUMENT}, {.i64 = PROBE_I64}};
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = w->wasmtime_func_call_unchecked(context, run, raw, 2, &trap);
    const char *failure = NULL;
    wasm_byte_vec_t text = {0, NULL};
    if (trap)
        w->wasm_trap_message(trap, &text);
    else if (error)
        w->wasmtime_error_message(error, &text);
    if (!text.data || !memmem(text.data, text.size, "probe", 5))
        failure = "message of a trap";
    if (text.data)
        w->wasm_byte_vec_delete(&text);
    if (trap)
        w->wasm_trap_delete(trap);
    if (error)
        w->wasmtime_error_delete(error);
    return failure;
}

static const char *probe_instance(const kvw_wasmtime *w, wasmtime_context_t *context,
                                  const wasmtime_instance_t *instance, probe *p)
{
    wasmtime_extern_t run;
    wasmtime_extern_t memory;
    if (!w->wasmtime_instance_export_get(context, instance, "run", 3, &run) ||
        run.kind != WASMTIME_EXTERN_FUNC)
        return "exports of an instance";
    if (!w->wasmtime_instance_export_get(context, instance, "memory", 6, &memory) ||
        !memory_of_extern(&memory))
        return "exports of an instance";
    wasmtime_val_raw_t raw[2] = {{.i32 = PROBE_I32}, {.i64 = PROBE_I64}};
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = w->wasmtime_func_call_unchecked(context, &run.of.func, raw, 2, &trap);
    if (error)
        w->wasmtime_error_delete(error);
    if (trap)
        w->wasm_trap_delete(trap);
    if (error || trap)
        return "call of a function";
    if (p->failure)
        return p->failure;
    if (raw[0].i32 != PROBE_RESULT)
        return "result of a function";
    if (w->wasmtime_memory_data(context, &memory.of.memory)[PROBE_ADDRESS] != PROBE_BYTE)
        return "address of a memory";
    return probe_trap(w, context, &run.of.func);
}

static const char *probe_linker(const kvw_wasmtime *w, wasm_engine_t *engine, wasmtime_linker_t *linker)
{
    probe p = {w, NULL};
    wasmtime_module_t *module = NULL;
    wasmtime_error_t *error = w->wasmtime_module_new(engine, probe_module, sizeof probe_module, &module);
    if (error) {
        w->wasmtime_error_delete(error);
        return "compilation of a module";
    }
    wasm_functype_t *type = kvw_functype(w, "il");
    error = w->wasmtime_linker_define_func_unchecked(linker, "t", 1, "f", 1, type, probe_callback, &p, NULL);
    w->wasm_functype_delete(type);
    const char *failure = NULL;
    wasmtime_store_t *store = w->wasmtime_store_new(engine, NULL, NULL);
    wasmtime_context_t *context = w->wasmtime_store_context(store);
    wasmtime_instance_t instance;
    wasm_trap_t *trap = NULL;
    if (!error)
        error = w->wasmtime_linker_instantiate(linker, context, module, &instance, &trap);
    if (error) {
        w->wasmtime_error_delete(error);
        failure = "instantiation of a module";
    } else if (trap) {
        w->wasm_trap_delete(trap);
        failure = "instantiation of a module";
    } else {
        failure = probe_instance(w, context, &instance, &p);
    }
    w->wasmtime_store_delete(store);
    w->wasmtime_module_delete(module);
    return failure;
}

bool kvw_wasmtime_self_test(const kvw_wasmtime *wasmtime, char *message, size_t message_capacity)
{
    wasm_config_t *config = wasmtime->wasm_config_new();
    wasmtime->wasmtime_config_parallel_compilation_set(config, false); /* its threads would stay */
    wasm_engine_t *engine = wasmtime->wasm_engine_new_with_config(config);
    wasmtime_linker_t *linker = wasmtime->wasmtime_linker_new(engine);
    const char *failure = probe_linker(wasmtime, engine, linker);
    wasmtime->wasmtime_linker_delete(linker);
    wasmtime->wasm_engine_delete(engine);
    if (failure)
        snprintf(message, message_capacity, "%s does not behave as in wasmtime 50", failure);
    return !failure;
}
