# The verbs that a store and a transaction have in common.

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


@cython.no_gc_clear
cdef class Verbs:
    """Get, put, delete, in a store (each a commit of its own) or in a transaction."""

    def __cinit__(self, *args, **kwargs):
        if type(self) is Verbs:
            raise TypeError("made by a store and a transaction only")

    cdef int enter(self) except -1:
        """Take the lock; a transaction must be the one that is open."""
        cdef kve_failure failure
        self._session.enter()
        if self.transaction == 0 or self.transaction == self.c.transaction:
            return 0
        kve_unlock(self.c)
        memset(&failure, 0, sizeof(failure))
        raise self._session.error(KVE_ENDED, &failure)

    # --- reading ---

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
            status = kve_get(self.c, k.start, <uint32_t>k.length, self.view, &ref, &failure)
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
        if status == KV_NOT_FOUND:
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

    def get(self, key, default=None, /):
        """The value of ``key``, or ``default`` when it is not there.

        Raises:
            CorruptionError: the value on disk is damaged.
            ClosedError: the store is closed, or the transaction has ended.
        """
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
            status = kve_get(self.c, k.start, <uint32_t>k.length, self.view, &ref, &failure)
            kve_unlock(self.c)
        finally:
            _release(&k)
        if status > KV_NOT_FOUND:
            raise self._session.error(status, &failure)
        return status == KV_OK

    def __len__(self):
        cdef kve_failure failure
        cdef uint64_t count = 0
        self.enter()
        status = kve_count(self.c, self.view, &count, &failure)
        kve_unlock(self.c)
        if status != KV_OK:
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

    # --- writing ---

    cdef int store(self, object key, object value, uint32_t flags) except -1:
        """Put. 1: done, 0: KV_NO_OVERWRITE and the key was there."""
        cdef Bytes k
        cdef Bytes v
        cdef kve_failure failure
        cdef int status
        v.held = False
        _as_bytes(key, &k)
        try:
            _as_bytes(value, &v)
            _check_key(k.length)
            if v.length > KV_VALUE_MAX:
                raise _status.error(KV_VALUE_TOO_LARGE, "", 0, 0, 0, "")
            if v.length > KV_INLINE_MAX:
                status = self.store_large(k.start, <uint32_t>k.length, v.start, <uint32_t>v.length, flags)
            elif self.transaction == 0:
                status = self.store_outside(k.start, <uint32_t>k.length, v.start, <uint32_t>v.length, flags)
            else:
                self.enter()
                status = kve_put(self.c, k.start, <uint32_t>k.length, v.start, <uint32_t>v.length,
                                 flags | self.flags, &failure)
                kve_unlock(self.c)
                if status != KV_OK and status != KV_EXISTS:
                    raise self._session.error(status, &failure)
        finally:
            _release(&k)
            _release(&v)
        return status == KV_OK

    cdef int store_outside(self, const char *key, uint32_t key_length, const char *value, uint32_t value_length,
                           uint32_t flags) except -1:
        """A put that is its own commit: KV_OK or KV_EXISTS."""
        cdef kve_failure failure
        cdef uint64_t thread = PyThread_get_thread_ident()
        cdef int status = KVE_MUST_WAIT
        flags |= self.flags
        memset(&failure, 0, sizeof(failure))
        if flags & KV_DURABLE:
            self._session.check_alive()
            with nogil:
                status = kve_put_commit(self.c, thread, False, key, key_length, value, value_length, flags, &failure)
        else:
            self.enter()
            status = kve_writer_check(self.c, thread)
            if status == 0:
                status = kve_put(self.c, key, key_length, value, value_length, flags, &failure)
            kve_unlock(self.c)
            if status == KV_NEEDS_SYNC:  # emptied sectors wait for a flush that nobody else asks for
                with nogil:
                    status = kve_flush_until(self.c, failure.position, &failure)
        if status == KVE_MUST_WAIT:
            self._session.take_turn()
            with nogil:
                status = kve_put_commit(self.c, thread, True, key, key_length, value, value_length, flags, &failure)
        if status != KV_OK and status != KV_EXISTS:
            raise self._session.error(status, &failure)
        return status

    cdef int store_large(self, const char *key, uint32_t key_length, const char *value, uint32_t value_length,
                         uint32_t flags) except -1:
        """A put in pieces, in the open transaction or in one of its own: KV_OK or KV_EXISTS."""
        cdef kve_failure failure
        cdef kve_failure ignored
        cdef uint64_t transaction = self.transaction
        cdef bint own = transaction == 0
        cdef bint durable = (self.flags & KV_DURABLE) != 0
        cdef int status = KV_OK
        memset(&failure, 0, sizeof(failure))
        self._session.check_alive()
        if own:
            self._session.take_turn()
        with nogil:
            if own:
                status = kve_txn_begin(self.c, &transaction, &failure)
                own = status == KV_OK
            if status == KV_OK:
                status = kve_value_write(self.c, transaction, key, key_length, value, value_length, flags, &failure)
            if own and status == KV_OK:
                status = kve_txn_commit(self.c, transaction, durable, &failure)
            elif own:
                kve_txn_rollback(self.c, transaction, &ignored)
        if status != KV_OK and status != KV_EXISTS:
            raise self._session.error(status, &failure)
        return status

    def __setitem__(self, key, value):
        self.store(key, value, 0)

    def put(self, key, value, *, bint overwrite=True):
        """Store ``value`` under ``key``; with ``overwrite=False`` only if the key is not there. Whether it was stored.

        Args:
            key: 1 to 1024 bytes; bytes-like, or str (stored as UTF-8).
            value: up to 1 GiB; bytes-like or str.

        Raises:
            DiskFullError: nothing was changed.
            StorageError: the write or the flush failed; the store must be reopened.
            ReadOnlyError, KeyEmptyError, KeyTooLargeError, ValueTooLargeError, ClosedError
        """
        return self.store(key, value, 0 if overwrite else KV_NO_OVERWRITE) != 0

    cdef int remove(self, object key) except -1:
        """Delete. 1: done, 0: the key is not there."""
        cdef Bytes k
        cdef kve_failure failure
        cdef uint64_t thread = PyThread_get_thread_ident()
        cdef uint32_t flags = self.flags
        cdef int status
        memset(&failure, 0, sizeof(failure))
        _as_bytes(key, &k)
        try:
            _check_key(k.length)
            self.enter()
            status = kve_writer_check(self.c, thread) if self.transaction == 0 else 0
            if status == 0 and not flags & KV_DURABLE:
                status = kve_delete(self.c, k.start, <uint32_t>k.length, flags, &failure)
                kve_unlock(self.c)
                if status == KV_NEEDS_SYNC:
                    with nogil:
                        status = kve_flush_until(self.c, failure.position, &failure)
            else:
                kve_unlock(self.c)
                if status == KVE_MUST_WAIT:
                    self._session.take_turn()
                if status != KVE_OWN_TRANSACTION:
                    with nogil:
                        status = kve_delete_commit(self.c, thread, status == KVE_MUST_WAIT, k.start,
                                                   <uint32_t>k.length, flags, &failure)
                    if status == KVE_MUST_WAIT:  # a transaction began just before
                        self._session.take_turn()
                        with nogil:
                            status = kve_delete_commit(self.c, thread, True, k.start, <uint32_t>k.length, flags,
                                                       &failure)
        finally:
            _release(&k)
        if status > KV_NOT_FOUND:
            raise self._session.error(status, &failure)
        return status == KV_OK

    def __delitem__(self, key):
        if not self.remove(key):
            raise _status.errors.KeyNotFoundError(key)

    def delete(self, key, /):
        """Remove ``key``. Whether it was there."""
        return self.remove(key) != 0


@cython.no_gc_clear
cdef class TransactionVerbs(Verbs):
    """A transaction that is open from its making until commit, rollback, or the last reference is gone."""

    cdef bint durable
    cdef bint ended  # by a call of commit or rollback

    def __cinit__(self, Session session not None, bint durable, *args):
        cdef kve_failure failure
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.c = session.c
        self._session = session
        self.durable = durable
        self.view = KV_VIEW_TRANSACTION
        self.flags = KV_IN_TRANSACTION
        session.take_turn()
        with nogil:
            status = kve_txn_begin(self.c, &self.transaction, &failure)
        if status != KV_OK:
            raise session.error(status, &failure)

    def __dealloc__(self):
        # One that has ended must not displace the wish of another.
        if self.c == NULL or self.transaction == 0 or kve_alive(self.c) != 0:
            return
        if self.c.transaction == self.transaction:
            kve_drop_transaction(self.c, self.transaction)

    @property
    def active(self):
        """Whether it is neither committed nor rolled back."""
        return kve_alive(self.c) == 0 and self.c.open and self.c.transaction == self.transaction

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        # Here and not in Python, so that no signal's exception comes between the block and its end.
        if kind is None and not self.ended:
            self.commit()
        elif self.active:
            self.rollback()

    def commit(self):
        """Make the changes, all at once; with ``sync="commit"`` they are on disk when this returns.

        Raises:
            DiskFullError: nothing was changed.
            StorageError: a write or the flush failed: whether the commit is on disk shows on reopening.
            ClosedError: it has ended already.
        """
        cdef kve_failure failure
        cdef int status
        self.enter()
        kve_unlock(self.c)
        self.ended = True
        memset(&failure, 0, sizeof(failure))
        with nogil:
            status = kve_txn_commit(self.c, self.transaction, self.durable, &failure)
        if status != KV_OK:
            raise self._session.error(status, &failure)

    def rollback(self):
        """Drop the changes.

        Raises:
            ClosedError: it has ended already.
        """
        cdef kve_failure failure
        cdef int status
        self.enter()
        kve_unlock(self.c)
        self.ended = True
        memset(&failure, 0, sizeof(failure))
        with nogil:
            status = kve_txn_rollback(self.c, self.transaction, &failure)
        if status != KV_OK:
            raise self._session.error(status, &failure)

    def put_many(self, pairs, /):
        """Store (key, value) pairs, or the items of a mapping, in their order."""
        _put_all(self, pairs)


@cython.no_gc_clear
cdef class StoreVerbs(Verbs):
    """The verbs of a store: each write is a commit of its own."""

    def __cinit__(self, Session session not None, *args, **kwargs):
        self._session = session
        self.c = session.c
        self.view = KV_VIEW_PUBLISHED
        self.flags = KV_DURABLE if session.durable else 0
