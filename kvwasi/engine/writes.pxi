# The verbs that change a store, a transaction, or a table of one of these.

ANYTHING = type("Anything", (), {"__slots__": (), "__repr__": lambda self: "<anything>"})()  # no `expect` was given


@cython.no_gc_clear
cdef class Verbs(Reads):
    """Get, put, delete, in a store (each a commit of its own) or in a transaction."""

    cdef int need_table(self) except -1:
        """Make the table that a write is for, if it has not been made."""
        cdef kve_failure failure
        cdef uint32_t table = NO_TABLE
        cdef const char *name = PyBytes_AS_STRING(self.name)
        cdef uint32_t length = <uint32_t>PyBytes_GET_SIZE(self.name)
        cdef bint durable = (self.flags & KV_DURABLE) != 0
        cdef int status = KV_OK
        memset(&failure, 0, sizeof(failure))
        self.enter()
        if self.table == NO_TABLE and self.transaction != 0:
            status = kve_table_create(self.c, name, length, &self.table, &failure)
            self.seen = self.of.undone
        kve_unlock(self.c)
        if self.table == NO_TABLE and self.transaction == 0:
            self._session.take_turn()
            with nogil:
                status = kve_table_make(self.c, name, length, durable, &table, &failure)
            if status == KV_OK:
                self.table = table
        if status != KV_OK:
            raise self._session.error(status, &failure)
        return 0

    cdef int store(self, object key, object value, uint32_t flags) except -1:
        """Put. 1: done, 0: refused by KV_NO_OVERWRITE or KV_APPEND."""
        cdef Bytes k
        cdef Bytes v
        v.held = False
        _as_bytes(key, &k)
        try:
            _as_bytes(value, &v)
            return self.store_bytes(k.start, k.length, v.start, v.length, flags)
        finally:
            _release(&k)
            _release(&v)

    cdef int store_bytes(self, const char *key, Py_ssize_t key_length, const char *value, Py_ssize_t value_length,
                         uint32_t flags) except -1:
        """The same, of bytes that stay where they are."""
        cdef kve_write write
        _check_key(key_length)
        if value_length > KV_VALUE_MAX:
            raise _status.error(KV_VALUE_TOO_LARGE, "", 0, 0, 0, "")
        if self.name is not None and (self.table == NO_TABLE or self.seen != self.of.undone):
            self.need_table()
        if value_length > KV_INLINE_MAX:
            return self.store_large(key, <uint32_t>key_length, value, <uint32_t>value_length, flags) == KV_OK
        write.remove = False
        write.key = key
        write.key_length = <uint32_t>key_length
        write.value = value
        write.value_length = <uint32_t>value_length
        write.flags = flags | self.flags
        return self.apply(&write) == KV_OK

    cdef int apply(self, kve_write *write) except -1:
        """Make a write, in the open transaction or as a commit of its own: KV_OK, KV_EXISTS or KV_NOT_FOUND."""
        cdef kve_failure failure
        cdef int status
        memset(&failure, 0, sizeof(failure))
        if self.transaction != 0:
            status = self.apply_inside(write, &failure)
        else:
            status = self.apply_outside(write, &failure)
        if status == KV_OK or status == KV_EXISTS or status == KV_NOT_FOUND:
            return status
        if write.remove and self.is_empty(status):
            return KV_NOT_FOUND
        raise self._session.error(status, &failure)

    cdef int apply_inside(self, kve_write *write, kve_failure *failure) except -1:
        cdef bint throttle
        cdef int status
        self.enter()
        write.table = self.table
        status = kve_apply(self.c, write, failure)
        throttle = kve_wants_throttle(self.c)
        kve_unlock(self.c)
        if throttle:
            with nogil:
                kve_throttle(self.c)
        return status

    cdef int apply_outside(self, kve_write *write, kve_failure *failure) except -1:
        cdef uint64_t thread = PyThread_get_thread_ident()
        cdef bint pause = False
        cdef int status
        if write.flags & KV_DURABLE:
            if self.plain:
                self._session.check_alive()
            else:
                self.enter()
                kve_unlock(self.c)
            write.table = self.table
            with nogil:
                status = kve_write_commit(self.c, thread, False, write, failure)
        else:
            self.enter()
            write.table = self.table
            status = kve_writer_check(self.c, thread)
            if status == 0:
                status = kve_apply(self.c, write, failure)
                pause = status == KV_OK and kve_wants_pause(self.c)
            kve_unlock(self.c)
            if status == KV_NEEDS_SYNC:  # emptied sectors wait for a flush that nobody else asks for
                with nogil:
                    status = kve_flush_until(self.c, failure.position, failure)
            elif pause:
                with nogil:
                    kve_pause()
        if status == KVE_MUST_WAIT:
            self._session.take_turn()
            with nogil:
                status = kve_write_commit(self.c, thread, True, write, failure)
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
                status = kve_value_write(self.c, transaction, self.table, key, key_length, value, value_length, flags,
                                         &failure)
            if own and status == KV_OK:
                status = kve_txn_commit(self.c, transaction, durable, &failure)
            elif own:
                kve_txn_rollback(self.c, transaction, &ignored)
        if status != KV_OK and status != KV_EXISTS:
            raise self._session.error(status, &failure)
        return status

    def __setitem__(self, key, value):
        self.store(key, value, 0)

    def put(self, key, value, *, bint overwrite=True, bint append=False, expect=ANYTHING):
        """Store ``value`` under ``key``. Whether it was stored.

        Args:
            key: 1 to 1024 bytes; bytes-like, or str (stored as UTF-8).
            value: up to 1 GiB; bytes-like or str.
            overwrite: if false, only if the key is not there.
            append: only if the key comes after all that are there.
            expect: only if this is the present value (None: if the key is not there). Nobody changes the key
                between the comparison and the change.

        Raises:
            DiskFullError: nothing was changed.
            StorageError: the write or the flush failed; the store must be reopened.
            ReadOnlyError, KeyEmptyError, KeyTooLargeError, ValueTooLargeError, ClosedError
        """
        if expect is not ANYTHING:
            if not overwrite or append:
                raise ValueError("expect excludes overwrite and append")
            if expect is not None:
                return self._change_if(key, expect, _to_bytes(value))
            overwrite = False
        return self.store(key, value, (0 if overwrite else KV_NO_OVERWRITE) | (KV_APPEND if append else 0)) != 0

    cdef int remove(self, object key) except -1:
        """Delete. 1: done, 0: the key is not there."""
        cdef Bytes k
        cdef kve_write write
        _as_bytes(key, &k)
        try:
            _check_key(k.length)
            write.remove = True
            write.key = k.start
            write.key_length = <uint32_t>k.length
            write.value = NULL
            write.value_length = 0
            write.flags = self.flags
            return self.apply(&write) == KV_OK
        finally:
            _release(&k)

    def __delitem__(self, key):
        if not self.remove(key):
            raise _status.errors.KeyNotFoundError(key)

    def _delete_range(self, start, stop, /):
        """Remove the keys from ``start`` to below ``stop`` (None: all on that side), in a transaction. How many."""
        cdef bytes first = _bound(b"" if start is None else start)
        cdef bytes last = _bound(stop)
        cdef kve_failure failure
        cdef kve_range range_
        cdef uint64_t count = 0
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.enter()  # which looks the table up
        kve_unlock(self.c)
        if _set_range(&range_, first, last) or self.table == NO_TABLE:
            return 0
        with nogil:
            status = kve_delete_range(self.c, self.transaction, self.table, &range_, &count, &failure)
        if status != KV_OK:
            raise self._session.error(status, &failure)
        return count

    def delete(self, key, /, *, expect=ANYTHING):
        """Remove ``key``, with ``expect`` only if that is its value. Whether it was removed."""
        if expect is not ANYTHING:
            return expect is not None and self._change_if(key, expect, None)
        return self.remove(key) != 0
