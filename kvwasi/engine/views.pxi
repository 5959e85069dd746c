# Values where they lie: read-only memory that maps the database's file.

@cython.no_gc_clear
cdef class MappedValue:
    """A value as a read-only buffer over the file's own pages; what a view's memoryview is of.

    It pins the moment at which it was read, until it is released with the last reference.
    """

    cdef SnapshotVerbs pin
    cdef kve_region *region
    cdef const uint8_t *start
    cdef Py_ssize_t length

    def __init__(self):
        raise TypeError("made by get(view=True) only")

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, <void *>self.start, self.length, 1, flags)

    def __dealloc__(self):
        if self.region == NULL:
            return
        kve_region_release(self.pin.c, self.region)
        self.pin.drop_view()


cdef SnapshotVerbs _pin_of(Reads reads):
    """What keeps what ``reads`` sees now: its snapshot, or one that is shared by the views of the store."""
    if isinstance(reads, SnapshotVerbs):
        return <SnapshotVerbs>reads
    if reads.view >= KV_VIEW_SNAPSHOT:
        return <SnapshotVerbs>reads.of
    cdef Session session = reads._session
    cdef SnapshotVerbs last = <SnapshotVerbs>session.view_pin
    if last is not None and (last.files != reads.c.files or last.life != reads.c.lives):
        last = None
    if last is not None and last.changes == reads.c.changes:
        return last
    try:
        session.view_pin = SnapshotVerbs(session)
    except _status.errors.TooManyIteratorsError:  # an older one keeps what is there now, too, and more
        if last is None:
            raise
    return <SnapshotVerbs>session.view_pin


cdef object _view(Reads reads, object key, object default):
    """See :meth:`Reads.get`."""
    cdef Bytes k
    cdef kv_value_ref ref
    cdef kve_failure failure
    cdef MappedValue mapped = MappedValue.__new__(MappedValue)
    cdef int status = 0
    if reads.transaction != 0:  # a rollback takes back what it has written, and its place
        return _copied(reads, key, default)
    memset(&failure, 0, sizeof(failure))
    _as_bytes(key, &k)
    try:
        _check_key(k.length)
        while True:
            mapped.pin = _pin_of(reads)
            reads.enter()
            if mapped.pin.files == reads.c.files or mapped.pin is reads or mapped.pin is reads.of:
                break
            kve_unlock(reads.c)  # a compaction has put another file in its place meanwhile
        status = kve_get(reads.c, reads.table, k.start, <uint32_t>k.length, reads.view, &ref, &failure)
        if status == KV_OK and ref.where == KV_WHERE_FILE and ref.length != 0:
            if ref.length <= KV_INLINE_MAX:
                status = kve_verify_small(reads.c, &ref, &failure)
            if status == KV_OK:
                mapped.start = kve_region_take(reads.c, &ref, &mapped.region)
        kve_unlock(reads.c)
    finally:
        _release(&k)
    if mapped.region != NULL:
        mapped.length = ref.length
        mapped.pin.views += 1
        reads._session.views += 1
        if ref.length > KV_INLINE_MAX:
            with nogil:
                status = kve_verify_large(reads.c, &ref, &failure)
    if status == KV_NOT_FOUND or reads.is_empty(status):
        return default
    if status != KV_OK:
        raise reads._session.error(status, &failure)
    return _copied(reads, key, default) if mapped.region == NULL else memoryview(mapped)


cdef object _copied(Reads reads, object key, object default):
    """Where a view cannot be: a read-only memoryview of a copy."""
    value = reads.fetch(key, None, False)
    return default if value is None else memoryview(value)
