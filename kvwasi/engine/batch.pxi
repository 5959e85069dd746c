# Many keys in one call.

cdef uint32_t BATCH_KEYS = 1024
cdef uint32_t BATCH_BYTES = 256 << 10
cdef uint32_t AHEAD = 32  # values on their way from memory at once


cdef inline uint32_t _aligned(uint32_t length, uint32_t to) noexcept nogil:
    return (length + to - 1) & ~(to - 1)


cdef Py_ssize_t _get_batch(Reads verbs, list keys, list values, Py_ssize_t begin) except -1:
    """Fetch keys[begin:end] into values; returns `end`."""
    cdef char *packed = <char *>PyMem_Malloc(BATCH_BYTES + KV_KEY_MAX + 8)
    cdef kv_value_ref *refs = <kv_value_ref *>PyMem_Malloc(BATCH_KEYS * (sizeof(kv_value_ref) + sizeof(void *)))
    cdef PyObject **found = <PyObject **>(refs + BATCH_KEYS)
    cdef const kv_value_ref *answers = NULL
    cdef kve_failure failure
    cdef uint32_t bytes_packed = 0, count = 0, i, length, filled = 0
    cdef Py_ssize_t end = begin
    cdef int status
    cdef bytes key
    try:
        if packed == NULL or refs == NULL:
            raise MemoryError
        while end < len(keys) and count < BATCH_KEYS and bytes_packed < BATCH_BYTES:
            key = <bytes>keys[end]
            length = <uint32_t>PyBytes_GET_SIZE(key)
            memcpy(packed + bytes_packed, &length, 4)
            memcpy(packed + bytes_packed + 4, PyBytes_AS_STRING(key), length)
            bytes_packed += 4 + _aligned(length, 4)
            count += 1
            end += 1
        verbs.enter()
        status = kve_get_many(verbs.c, verbs.table, packed, bytes_packed, count, verbs.view, &answers, &failure)
        if status == KV_OK:
            memcpy(refs, answers, count * sizeof(kv_value_ref))
        while status == KV_OK and filled < count:
            if filled + AHEAD < count:
                kve_prefetch(verbs.c, &refs[filled + AHEAD])
            found[filled] = NULL
            if refs[filled].where != KV_WHERE_MISSING and refs[filled].length <= KV_INLINE_MAX:
                found[filled] = new_bytes(NULL, refs[filled].length)
                if found[filled] == NULL:
                    status = KV_NO_MEMORY
                else:
                    status = kve_read(verbs.c, &refs[filled], raw_bytes(found[filled]), &failure)
            filled += 1
        kve_unlock(verbs.c)
        if verbs.is_empty(status):
            return end
        for i in range(filled):
            if status == KV_OK and found[i] != NULL:
                status = kve_verify(&refs[i], raw_bytes(found[i]), &failure)
                values[begin + i] = <object>found[i]
        if status != KV_OK:
            PyErr_Clear()
            raise verbs._session.error(status, &failure)
        for i in range(count):
            if refs[i].where != KV_WHERE_MISSING and found[i] == NULL:
                values[begin + i] = verbs.fetch_large(keys[begin + i])
    finally:
        for i in range(filled):
            Py_XDECREF(found[i])
        PyMem_Free(packed)
        PyMem_Free(refs)
    return end


cdef int _flush_entries(Verbs verbs, const char *packed, uint32_t used, uint32_t count) except -1:
    cdef kve_failure failure
    cdef int status
    if count == 0:
        return 0
    memset(&failure, 0, sizeof(failure))
    verbs._session.check_alive()
    with nogil:
        status = kve_put_many(verbs.c, verbs.transaction, verbs.table, packed, used, count, &failure)
    if status != KV_OK:
        raise verbs._session.error(status, &failure)
    return 0


cdef int _put_all(Verbs verbs, object pairs) except -1:
    """Put the pairs; nothing is called back while the lock is held."""
    cdef uint32_t capacity = BATCH_BYTES + KV_KEY_MAX + KV_INLINE_MAX + 16
    cdef char *packed = <char *>PyMem_Malloc(capacity)
    cdef uint32_t used = 0, count = 0
    cdef kv_put_entry entry
    cdef Bytes k
    cdef Bytes v
    if packed == NULL:
        raise MemoryError
    try:
        if verbs.name is not None:
            verbs.need_table()
        for key, value in pairs.items() if hasattr(pairs, "items") else pairs:
            _as_bytes(key, &k)
            try:
                _check_key(k.length)
                memcpy(packed + used + sizeof(entry), k.start, k.length)
                entry.key_length = <uint32_t>k.length
            finally:
                _release(&k)
            _as_bytes(value, &v)
            try:
                if v.length > KV_INLINE_MAX:
                    _flush_entries(verbs, packed, used, count)
                    used = count = 0
                    verbs.store(key, value, 0)
                    continue
                entry.value_length = <uint32_t>v.length
                memcpy(packed + used, &entry, sizeof(entry))
                memcpy(packed + used + sizeof(entry) + entry.key_length, v.start, v.length)
            finally:
                _release(&v)
            used += _aligned(<uint32_t>sizeof(entry) + entry.key_length + entry.value_length, 8)
            count += 1
            if used >= BATCH_BYTES:
                _flush_entries(verbs, packed, used, count)
                used = count = 0
    except:
        _flush_entries(verbs, packed, used, count)  # as if they had been put one by one
        PyMem_Free(packed)
        raise
    try:
        _flush_entries(verbs, packed, used, count)
    finally:
        PyMem_Free(packed)
    return 0
