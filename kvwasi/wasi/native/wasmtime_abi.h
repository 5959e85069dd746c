/* The part of wasmtime's C API (release 50) that kvwasi uses, declared here because the `wasmtime` package
 * ships its library without headers. The functions are looked up at run time and called through one
 * `kvw_wasmtime`. */
#ifndef KVW_WASMTIME_ABI_H
#define KVW_WASMTIME_ABI_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct wasm_config_t wasm_config_t;
typedef struct wasm_engine_t wasm_engine_t;
typedef struct wasm_functype_t wasm_functype_t;
typedef struct wasm_valtype_t wasm_valtype_t;
typedef struct wasm_trap_t wasm_trap_t;
typedef struct wasi_config_t wasi_config_t;
typedef struct wasmtime_error wasmtime_error_t;
typedef struct wasmtime_module wasmtime_module_t;
typedef struct wasmtime_linker wasmtime_linker_t;
typedef struct wasmtime_store wasmtime_store_t;
typedef struct wasmtime_context wasmtime_context_t;
typedef struct wasmtime_caller wasmtime_caller_t;
typedef struct wasmtime_sharedmemory wasmtime_sharedmemory_t;

typedef struct wasm_byte_vec_t {
    size_t size;
    char *data;
} wasm_byte_vec_t;

typedef struct wasm_valtype_vec_t {
    size_t size;
    wasm_valtype_t **data;
} wasm_valtype_vec_t;

/* wasm_valtype_new */
#define WASM_I32 0u
#define WASM_I64 1u
#define WASM_F32 2u
#define WASM_F64 3u

typedef struct wasmtime_func {
    uint64_t store_id;
    void *private_;
} wasmtime_func_t;

typedef struct wasmtime_memory {
    struct {
        uint64_t store_id;
        uint32_t private1;
    };
    uint32_t private2;
} wasmtime_memory_t;

typedef struct wasmtime_table {
    struct {
        uint64_t store_id;
        uint32_t private1;
    };
    uint32_t private2;
} wasmtime_table_t;

typedef struct wasmtime_global {
    uint64_t store_id;
    uint32_t private1;
    uint32_t private2;
    uint32_t private3;
} wasmtime_global_t;

typedef struct wasmtime_instance {
    uint64_t store_id;
    size_t private_;
} wasmtime_instance_t;

/* wasmtime_extern_t.kind */
#define WASMTIME_EXTERN_FUNC 0u
#define WASMTIME_EXTERN_GLOBAL 1u
#define WASMTIME_EXTERN_TABLE 2u
#define WASMTIME_EXTERN_MEMORY 3u
#define WASMTIME_EXTERN_SHAREDMEMORY 4u

typedef struct wasmtime_extern {
    uint8_t kind;
    union {
        wasmtime_func_t func;
        wasmtime_global_t global;
        wasmtime_table_t table;
        wasmtime_memory_t memory;
        wasmtime_sharedmemory_t *sharedmemory;
    } of;
} wasmtime_extern_t;

typedef union wasmtime_val_raw {
    int32_t i32;
    int64_t i64;
    float f32;
    double f64;
    uint8_t v128[16];
    void *funcref;
} wasmtime_val_raw_t;

static_assert(sizeof(wasmtime_func_t) == 16 && sizeof(wasmtime_instance_t) == 16, "wasmtime's layout");
static_assert(sizeof(wasmtime_memory_t) == 24 && sizeof(wasmtime_global_t) == 24, "wasmtime's layout");
static_assert(sizeof(wasmtime_extern_t) == 32 && sizeof(wasmtime_val_raw_t) == 16, "wasmtime's layout");

/* wasmtime_config_cranelift_opt_level_set */
#define WASMTIME_OPT_LEVEL_NONE 0u
#define WASMTIME_OPT_LEVEL_SPEED 1u
#define WASMTIME_OPT_LEVEL_SPEED_AND_SIZE 2u

/* wasmtime_trap_code */
#define WASMTIME_TRAP_CODE_STACK_OVERFLOW 0u
#define WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS 1u
#define WASMTIME_TRAP_CODE_UNREACHABLE 9u
#define WASMTIME_TRAP_CODE_INTERRUPT 10u

/* Arguments arrive in `args_and_results[0..]`, results go there too. A returned trap is raised in the
 * caller. */
typedef wasm_trap_t *(*wasmtime_func_unchecked_callback_t)(void *env, wasmtime_caller_t *caller,
                                                           wasmtime_val_raw_t *args_and_results,
                                                           size_t length);
typedef void (*kvw_finalizer_t)(void *env);

/* X(result, name, parameters) for each function in use. Errors and traps returned belong to the caller. */
#define KVW_WASMTIME_FUNCTIONS(X)                                                                            \
    X(wasm_config_t *, wasm_config_new, (void))                                                              \
    X(void, wasm_config_delete, (wasm_config_t *))                                                           \
    X(void, wasmtime_config_cranelift_opt_level_set, (wasm_config_t *, uint8_t level))                       \
    X(void, wasmtime_config_parallel_compilation_set, (wasm_config_t *, bool))                               \
    X(void, wasmtime_config_max_wasm_stack_set, (wasm_config_t *, size_t bytes))                             \
    X(void, wasmtime_config_memory_may_move_set, (wasm_config_t *, bool))                                    \
    X(void, wasmtime_config_memory_reservation_set, (wasm_config_t *, uint64_t bytes))                       \
    X(void, wasmtime_config_memory_guard_size_set, (wasm_config_t *, uint64_t bytes))                        \
    X(void, wasmtime_config_memory_init_cow_set, (wasm_config_t *, bool))                                    \
    X(void, wasmtime_config_epoch_interruption_set, (wasm_config_t *, bool))                                 \
    X(wasm_engine_t *, wasm_engine_new, (void))                                                              \
    X(wasm_engine_t *, wasm_engine_new_with_config, (wasm_config_t * consumed))                              \
    X(void, wasm_engine_delete, (wasm_engine_t *))                                                           \
    X(wasmtime_error_t *, wasmtime_module_new,                                                               \
      (wasm_engine_t *, const uint8_t *wasm, size_t length, wasmtime_module_t **out))                        \
    X(wasmtime_error_t *, wasmtime_module_validate, (wasm_engine_t *, const uint8_t *wasm, size_t length))   \
    X(wasmtime_error_t *, wasmtime_module_serialize, (wasmtime_module_t *, wasm_byte_vec_t * out))           \
    X(wasmtime_error_t *, wasmtime_module_deserialize,                                                       \
      (wasm_engine_t *, const uint8_t *bytes, size_t length, wasmtime_module_t **out))                       \
    X(wasmtime_error_t *, wasmtime_module_deserialize_file,                                                  \
      (wasm_engine_t *, const char *path, wasmtime_module_t **out))                                          \
    X(void, wasmtime_module_delete, (wasmtime_module_t *))                                                   \
    X(wasm_valtype_t *, wasm_valtype_new, (uint8_t kind))                                                    \
    X(void, wasm_valtype_vec_new, (wasm_valtype_vec_t * out, size_t, wasm_valtype_t *const *consumed))       \
    X(void, wasm_valtype_vec_delete, (wasm_valtype_vec_t *))                                                 \
    X(wasm_functype_t *, wasm_functype_new,                                                                  \
      (wasm_valtype_vec_t * consumed_parameters, wasm_valtype_vec_t * consumed_results))                     \
    X(void, wasm_functype_delete, (wasm_functype_t *))                                                       \
    X(wasmtime_linker_t *, wasmtime_linker_new, (wasm_engine_t *))                                           \
    X(void, wasmtime_linker_delete, (wasmtime_linker_t *))                                                   \
    X(void, wasmtime_linker_allow_shadowing, (wasmtime_linker_t *, bool))                                    \
    X(wasmtime_error_t *, wasmtime_linker_define_wasi, (wasmtime_linker_t *))                                \
    X(wasmtime_error_t *, wasmtime_linker_define_func_unchecked,                                             \
      (wasmtime_linker_t *, const char *module, size_t module_length, const char *name, size_t name_length,  \
       const wasm_functype_t *, wasmtime_func_unchecked_callback_t, void *env, kvw_finalizer_t))             \
    X(wasmtime_error_t *, wasmtime_linker_instantiate,                                                       \
      (const wasmtime_linker_t *, wasmtime_context_t *, const wasmtime_module_t *, wasmtime_instance_t *,    \
       wasm_trap_t **))                                                                                      \
    X(wasmtime_store_t *, wasmtime_store_new, (wasm_engine_t *, void *data, kvw_finalizer_t))                \
    X(wasmtime_context_t *, wasmtime_store_context, (wasmtime_store_t *))                                    \
    X(void, wasmtime_store_delete, (wasmtime_store_t *))                                                     \
    X(void, wasmtime_store_limiter, (wasmtime_store_t *, int64_t memory_bytes, int64_t table_elements,       \
                                     int64_t instances, int64_t tables, int64_t memories))                   \
    X(wasmtime_error_t *, wasmtime_context_set_wasi, (wasmtime_context_t *, wasi_config_t * consumed))       \
    X(void, wasmtime_context_set_epoch_deadline, (wasmtime_context_t *, uint64_t ticks))                     \
    X(void, wasmtime_engine_increment_epoch, (wasm_engine_t *))                                              \
    X(wasi_config_t *, wasi_config_new, (void))                                                              \
    X(void, wasi_config_delete, (wasi_config_t *))                                                           \
    X(bool, wasi_config_set_argv, (wasi_config_t *, size_t count, const char *const *argv))                  \
    X(bool, wasi_config_set_env,                                                                             \
      (wasi_config_t *, size_t, const char *const *names, const char *const *values))                        \
    X(bool, wasmtime_instance_export_get,                                                                    \
      (wasmtime_context_t *, const wasmtime_instance_t *, const char *name, size_t length,                   \
       wasmtime_extern_t *))                                                                                 \
    X(void, wasmtime_extern_delete, (wasmtime_extern_t *))                                                   \
    X(wasmtime_error_t *, wasmtime_func_call_unchecked,                                                      \
      (wasmtime_context_t *, const wasmtime_func_t *, wasmtime_val_raw_t *args_and_results, size_t length,   \
       wasm_trap_t **))                                                                                      \
    X(uint8_t *, wasmtime_memory_data, (const wasmtime_context_t *, const wasmtime_memory_t *))              \
    X(size_t, wasmtime_memory_data_size, (const wasmtime_context_t *, const wasmtime_memory_t *))            \
    X(bool, wasmtime_caller_export_get,                                                                      \
      (wasmtime_caller_t *, const char *name, size_t, wasmtime_extern_t *))                                  \
    X(wasmtime_context_t *, wasmtime_caller_context, (wasmtime_caller_t *))                                  \
    X(wasm_trap_t *, wasmtime_trap_new, (const char *message, size_t length))                                \
    X(void, wasm_trap_message, (const wasm_trap_t *, wasm_byte_vec_t *out))                                  \
    X(bool, wasmtime_trap_code, (const wasm_trap_t *, uint8_t *code))                                        \
    X(void, wasm_trap_delete, (wasm_trap_t *))                                                               \
    X(wasmtime_error_t *, wasmtime_error_new, (const char *message))                                         \
    X(void, wasmtime_error_message, (const wasmtime_error_t *, wasm_byte_vec_t *out))                        \
    X(bool, wasmtime_error_exit_status, (const wasmtime_error_t *, int *status))                             \
    X(void, wasmtime_error_delete, (wasmtime_error_t *))                                                     \
    X(void, wasm_byte_vec_new, (wasm_byte_vec_t * out, size_t, const char *bytes))                           \
    X(void, wasm_byte_vec_new_uninitialized, (wasm_byte_vec_t * out, size_t))                                \
    X(void, wasm_byte_vec_delete, (wasm_byte_vec_t *))

typedef struct kvw_wasmtime {
#define KVW_WASMTIME_FIELD(result, name, parameters) result(*name) parameters;
    KVW_WASMTIME_FUNCTIONS(KVW_WASMTIME_FIELD)
#undef KVW_WASMTIME_FIELD
} kvw_wasmtime;

/* Load the library at `path` and look up every function. False: `message` says what is missing. */
bool kvw_wasmtime_load(kvw_wasmtime *out, const char *path, char *message, size_t message_capacity);

/* Compile and run a small module that exercises each layout above. False: `message` says what disagrees. */
bool kvw_wasmtime_self_test(const kvw_wasmtime *wasmtime, char *message, size_t message_capacity);

/* The type of a function of up to 16 parameters, one letter each ('i' 32, 'l' 64 bits), that returns an i32.
 * NULL: no memory. */
wasm_functype_t *kvw_functype(const kvw_wasmtime *wasmtime, const char *parameters);

#endif
