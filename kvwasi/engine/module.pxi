# The guest's module: compiled once a process.


cdef int _need_api() except -1:
    global _api
    if _api != NULL:
        return 0
    import kvwasi.wasi._host  # noqa: F401  (makes the capsule)

    cdef const kvw_api *api = <const kvw_api *>PyCapsule_Import(KVW_API_CAPSULE, 0)
    if api.version != KVW_API_VERSION:
        raise ImportError(f"kvwasi.wasi._host has API version {api.version}, not {KVW_API_VERSION}")
    if kve_watch_forks() != 0:
        raise MemoryError
    _api = api
    return 0


def hash64(data not None, unsigned long long seed=0):
    """XXH64 of a bytes-like object."""
    cdef const unsigned char[::1] view = data
    cdef size_t length = view.shape[0]
    return kv_xxh64(&view[0] if length else NULL, length, seed)


def module_loaded():
    """Whether this process has the module already."""
    return kve_the_runtime.module != NULL


def limit_memory(long long bytes_max):
    """Refuse the guests of sessions that are opened from now on more linear memory; 0: no limit. For tests."""
    if bytes_max < 0:
        raise ValueError("a limit is no negative number")
    kve_the_runtime.memory_limit = bytes_max


def make_repeatable(unsigned long long seed):
    """Have sessions that are opened from now on do the same each time; 0: no more. For tests.

    Their salts come from ``seed``, and they have no flusher thread: :meth:`Session.take_flush_wish` tells when it
    would have flushed, beside the times of its interval.
    """
    kve_the_runtime.seed = seed
    kve_the_runtime.no_flushers = seed != 0


def module_load(bytes compiled not None):
    """Take the module as :func:`module_compile` returned it. False when it is of another version or machine.

    The bytes are native code: they must come from a place where nobody else can write.
    """
    _need_api()
    return kve_runtime_load(_api.wasmtime, PyBytes_AS_STRING(compiled), PyBytes_GET_SIZE(compiled))


def module_compile(bytes wasm not None):
    """Compile the module, and return it compiled for :func:`module_load`."""
    cdef char message[KVE_MESSAGE_SIZE]
    cdef wasm_byte_vec_t out
    _need_api()
    if not kve_runtime_compile(_api.wasmtime, PyBytes_AS_STRING(wasm), PyBytes_GET_SIZE(wasm), message):
        raise _status.errors.EngineError((<bytes>message).decode("utf-8", "replace"))
    if not kve_runtime_serialize(_api.wasmtime, &out):
        return b""
    try:
        return PyBytes_FromStringAndSize(out.data, out.size)
    finally:
        _api.wasmtime.wasm_byte_vec_delete(&out)
