# Salvaging a damaged database.


cdef extern from "kv_guest.h" nogil:
    enum:
        KV_AGAIN
    ctypedef struct kv_guest_repair_result:
        uint64_t records
        uint64_t values_lost
        uint64_t pages_lost
        uint64_t sectors_lost
        uint64_t bytes_skipped
        uint64_t left_out
        uint64_t uncertain
        uint64_t unnamed
        uint32_t index_used
        uint32_t may_reappear


cdef extern from "verbs.h" nogil:
    int kve_repair_begin(kve_session *, const char *source, uint32_t source_length, const char *target,
                         uint32_t target_length, kve_failure *)
    int kve_repair_step(kve_session *, uint32_t *flags, kv_guest_repair_result *, kv_problem *, size_t capacity,
                        size_t *count, kve_failure *)
    void kve_repair_end(kve_session *)


def repair(str path, bytes directory, bytes source, bytes target, uint64_t cache_bytes):
    """Salvage ``source`` into ``target``, both in ``directory``: the counts, and a list of problems as check gives."""
    cdef char message[KVE_MESSAGE_SIZE]
    cdef kve_failure failure
    cdef kv_guest_repair_result result
    cdef kv_problem *problems
    cdef const char *directory_c = directory
    cdef const char *source_c = source
    cdef const char *target_c = target
    cdef uint32_t source_length = <uint32_t>len(source), target_length = <uint32_t>len(target), flags = 0
    cdef size_t count = 0, i, capacity = KV_DATA_CAPACITY // sizeof(kv_problem)
    cdef kve_session *c
    cdef int status, os_error = 0
    cdef list found = []
    memset(&failure, 0, sizeof(failure))
    memset(&result, 0, sizeof(result))
    _need_api()
    with nogil:
        c = kve_session_new(_api, directory_c, False, &os_error, message)
    if c == NULL and os_error != 0:
        raise _status.error(KVE_HOST_IO, os.fsdecode(directory), 0, 0, os_error, "")
    if c == NULL:
        raise _status.errors.EngineError(f"{path}: {(<bytes>message).decode('utf-8', 'replace')}")
    problems = <kv_problem *>PyMem_Malloc(capacity * sizeof(kv_problem))
    try:
        if problems == NULL:
            raise MemoryError
        with nogil:
            status = kve_repair_begin(c, source_c, source_length, target_c, target_length, &failure)
            if status == KV_OK:
                status = KV_AGAIN
        while status == KV_AGAIN:
            with nogil:
                status = kve_repair_step(c, &flags, &result, problems, capacity, &count, &failure)
            for i in range(count):
                key = PyBytes_FromStringAndSize(<char *>problems[i].key, min(problems[i].key_length, sizeof(problems[i].key)))
                found.append((problems[i].offset, _status.problem_kind(problems[i].detail), key))
            PyErr_CheckSignals()
        if status == KV_EXISTS:
            raise FileExistsError(f"{os.fsdecode(target)} is there already")
        if status != KV_OK:
            raise _status.error(status, path, failure.position, failure.detail, failure.os_error,
                                (<bytes>c.message).decode("utf-8", "replace"))
        return result, found
    finally:
        PyMem_Free(problems)
        with nogil:
            kve_repair_end(c)
        kve_session_free(c)
