# From one database into another.


def copy_value(Reads source not None, bytes key not None, Verbs to not None, /):
    """Copy a value, however large, into an open transaction (or a table in it) of another store, in pieces.

    Raises:
        KeyNotFoundError: the source does not have the key.
        CorruptionError: the value is damaged; the key is not there then.
    """
    cdef EntryIterator pin = EntryIterator(source, key, key + b"\0", False, 1, 1)
    cdef kve_failure failure
    cdef const char *start = key
    cdef uint32_t length = <uint32_t>len(key)
    cdef kv_value_ref ref
    cdef int reading = 0
    cdef int status
    memset(&failure, 0, sizeof(failure))
    for _ in pin:
        break
    else:
        raise _status.errors.KeyNotFoundError(key)
    ref = pin.refs[0]
    if to.name is not None:
        to.need_table()
    to.enter()
    kve_unlock(to.c)
    with nogil:
        status = kve_value_copy(source.c, &ref, to.c, to.transaction, to.table, start, length, &reading, &failure)
    if status != KV_OK:
        raise (source if reading else to)._session.error(status, &failure)
