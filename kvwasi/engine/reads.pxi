# What is read from a store, a transaction, a snapshot, and their tables.

cdef inline int _as_bytes(object data, Bytes *out) except -1:
    """The bytes of a key or value without a copy; then _release."""
    out.held = False
    if PyBytes_CheckExact(data):
        out.start = PyBytes_AS_STRING(data)
        out.length = PyBytes_GET_SIZE(data)
    elif PyUnicode_CheckExact(data) or isinstance(data, str):
        out.start = PyUnicode_AsUTF8AndSize(data, &out.length)
    else:
        try:
            PyObject_GetBuffer(data, &out.buffer, PyBUF_SIMPLE)
        except TypeError:
            raise TypeError(f"keys and values are bytes-like or str, not {type(data).__name__}") from None
        out.held = True
        out.start = <const char *>out.buffer.buf
        out.length = out.buffer.len
    return 0


cdef inline int _release(Bytes *data) except -1:
    if data.held:
        data.held = False
        PyBuffer_Release(&data.buffer)
    return 0


cdef bytes _to_bytes(object data):
    """The same as a bytes object."""
    cdef Bytes source
    if PyBytes_CheckExact(data):
        return <bytes>data
    _as_bytes(data, &source)
    try:
        return PyBytes_FromStringAndSize(source.start, source.length)
    finally:
        _release(&source)


def as_bytes(data, /):
    """A key or a value as bytes; str as UTF-8."""
    return _to_bytes(data)


cdef inline int _check_key(Py_ssize_t length) except -1:
    if 1 <= length <= KV_KEY_MAX:
        return 0
    raise _status.error(KV_KEY_EMPTY if length == 0 else KV_KEY_TOO_LARGE, "", 0, 0, 0, "")


cdef uint32_t NO_TABLE = 0xffffffff  # of a table that has not been made yet: the engine knows none of that number


@cython.no_gc_clear
cdef class Reads:
    """The reading verbs of a store, a transaction, a snapshot, or a table of one of these."""

    def __cinit__(self, *args, **kwargs):
        if type(self) is Reads or type(self) is Verbs:
            raise TypeError("made by a store and a transaction only")

    cdef int enter(self) except -1:
        """Take the lock; what the call is on must be there."""
        cdef kve_failure failure
        cdef int status
        self._session.enter()
        if self.plain:
            return 0
        memset(&failure, 0, sizeof(failure))
        status = self.standing(&failure)
        if status == 0:
            return 0
        kve_unlock(self.c)
        raise self._session.error(status, &failure)

    cdef int standing(self, kve_failure *failure) noexcept:
        """Whether its transaction or snapshot goes on, and which table a name means now. Under the lock."""
        if self.view >= KV_VIEW_SNAPSHOT and self.life != self.c.lives:
            return KVE_FORKED
        if self.transaction != 0 and self.transaction != self.c.transaction:
            return KVE_ENDED
        if self.ended or (self.of is not None and self.of.ended):
            return KVE_ENDED if self.transaction != 0 else KVE_UNPINNED
        if self.name is not None and (self.table == NO_TABLE or self.seen != self.of.undone):
            return self.look_up(failure)
        return 0

    cdef int look_up(self, kve_failure *failure) noexcept:
        """Find the table's number; NO_TABLE while it has none. Under the lock."""
        cdef int status
        self.table = NO_TABLE
        status = kve_table_find(self.c, PyBytes_AS_STRING(self.name), <uint32_t>PyBytes_GET_SIZE(self.name), self.view,
                                &self.table, failure)
        self.seen = self.of.undone
        return KV_OK if status == KV_NOT_FOUND else status

    cdef bint is_empty(self, int status) noexcept:
        """Whether a call failed only because the table has not been made yet."""
        return status == KV_NO_SUCH_TABLE and self.table == NO_TABLE

    @property
    def _usable(self):
        """Whether the handle is open, and its transaction or snapshot; a moment ago."""
        if kve_alive(self.c) != 0 or not self.c.open or self.c.closing or self.ended:
            return False
        if self.of is not None and self.of.ended:
            return False
        if self.view >= KV_VIEW_SNAPSHOT and self.life != self.c.lives:
            return False
        return self.transaction == 0 or self.transaction == self.c.transaction

    def _look_again(self):
        """Which tables there are may have changed: their names are looked up again."""
        self.undone += 1

    def _check_usable(self):
        """Raise if it can't be used."""
        self.enter()
        kve_unlock(self.c)

    @property
    def _changes(self):
        """How many writes there have been; what was read ahead of a transaction before one is stale."""
        return self.c.changes

    @property
    def _made(self):
        """Whether the table is there."""
        self.enter()
        kve_unlock(self.c)
        return self.table != NO_TABLE

    def _table_names(self):
        """The names of all tables, as bytes, in order."""
        cdef kve_failure failure
        cdef const uint8_t *name = NULL
        cdef const kv_entry *entry
        cdef uint32_t count = 1, offset
        cdef PyObject *made
        cdef int status = KV_OK
        cdef list names = []
        cdef bytes after = b""
        memset(&failure, 0, sizeof(failure))
        while status == KV_OK and count != 0:
            self.enter()
            status = kve_table_names(self.c, PyBytes_AS_STRING(after), <uint32_t>PyBytes_GET_SIZE(after), self.view,
                                     &count, &failure)
            offset = 0
            for _ in range(count):
                entry = kve_entry_at(self.c, &offset, &name)
                made = NULL if entry == NULL else new_bytes(<const char *>name, entry.key_length)
                if made == NULL:
                    status = KVE_BROKEN if entry == NULL else KV_NO_MEMORY
                    break
                names.append(<object>made)
                Py_XDECREF(made)
            kve_unlock(self.c)
            if names:
                after = <bytes>names[len(names) - 1]  # no negative indices here
        if status != KV_OK:
            PyErr_Clear()
            raise self._session.error(status, &failure)
        return names

    cdef object fetch(self, object key, object default, bint strict):
        cdef Bytes k
        cdef kv_value_ref ref
        cdef kve_failure failure
        cdef PyObject *value = NULL
        cdef int status
        _as_bytes(key, &k)
        try:
            _check_key(k.length)
            self.enter()
            status = kve_get(self.c, self.table, k.start, <uint32_t>k.length, self.view, &ref, &failure)
            if status == KV_OK and ref.length <= KV_INLINE_MAX:
                value = new_bytes(NULL, ref.length)
                status = KV_NO_MEMORY if value == NULL else kve_read(self.c, &ref, raw_bytes(value), &failure)
            kve_unlock(self.c)
        finally:
            _release(&k)
        if status == KV_OK and value != NULL:
            status = kve_verify(&ref, raw_bytes(value), &failure)
            if status == KV_OK:
                result = <object>value
                Py_XDECREF(value)
                return result
        elif status == KV_OK:
            found = self.fetch_large(_to_bytes(key))
            if found is not None:
                return found
            status = KV_NOT_FOUND
        if status == KV_NOT_FOUND or self.is_empty(status):
            if strict:
                raise _status.errors.KeyNotFoundError(key)
            return default
        Py_XDECREF(value)
        PyErr_Clear()
        raise self._session.error(status, &failure)

    cdef object fetch_large(self, object key):
        """A value that is not copied in one go: a cursor on its key pins it meanwhile. None: the key is gone."""
        cdef EntryIterator pin = EntryIterator(self, key, key + b"\0", False, 2, 1)
        for value in pin:
            return value
        return None

    def __getitem__(self, key):
        return self.fetch(key, None, True)

    def get(self, key, default=None, /, *, bint view=False):
        """The value of ``key``, or ``default`` when it is not there.

        Args:
            key: 1 to 1024 bytes.
            default: what to return if it is not there.
            view: return a read-only memoryview of the value where it lies in the file, mapped into memory,
                instead of a copy: for large values, and for ``numpy.frombuffer``. Until it and all that is made
                from it are gone (or ``release`` is called), it keeps the moment at which it was read, as a
                snapshot does, and the store can't be closed. In a transaction, and where files cannot be mapped
                (network and overlay file systems), it is a view of a copy. If something else cuts the file short,
                touching a view of what was cut off ends the process by SIGBUS.

        Raises:
            CorruptionError: the value on disk is damaged.
            TooManyIteratorsError: no snapshot can be made for the view.
            ClosedError: the store is closed, or the transaction or snapshot has ended.
        """
        if view:
            return _view(self, key, default)
        return self.fetch(key, default, False)

    def __contains__(self, key):
        cdef Bytes k
        cdef kv_value_ref ref
        cdef kve_failure failure
        cdef int status
        _as_bytes(key, &k)
        try:
            _check_key(k.length)
            self.enter()
            status = kve_get(self.c, self.table, k.start, <uint32_t>k.length, self.view, &ref, &failure)
            kve_unlock(self.c)
        finally:
            _release(&k)
        if status > KV_NOT_FOUND and not self.is_empty(status):
            raise self._session.error(status, &failure)
        return status == KV_OK

    def __len__(self):
        cdef kve_failure failure
        cdef uint64_t count = 0
        self.enter()
        status = kve_count(self.c, self.table, self.view, &count, &failure)
        kve_unlock(self.c)
        if status != KV_OK and not self.is_empty(status):
            raise self._session.error(status, &failure)
        return count

    def __bool__(self):
        return self.__len__() != 0

    def get_many(self, keys, /):
        """The values of ``keys``, in their order; None for those that are not there.

        One call into the engine serves about a thousand keys; each of these calls sees one state of the store.
        """
        cdef list wanted = [_to_bytes(key) for key in keys]
        cdef list values = [None] * len(wanted)
        cdef Py_ssize_t done = 0
        for key in wanted:
            _check_key(len(<bytes>key))
        while done < len(wanted):
            done = _get_batch(self, wanted, values, done)
        return values
