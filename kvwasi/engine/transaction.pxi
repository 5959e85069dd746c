# A store, and the transaction that is open in it.

@cython.no_gc_clear
cdef class TransactionVerbs(Verbs):
    """A transaction that is open from its making until commit, rollback, or the last reference is gone."""

    cdef bint durable
    cdef list savepoints  # numbers of those that are open, outermost first
    cdef uint64_t savepoint_count

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

    cdef int savepoint_step(self, kve_savepoint_step step) except -1:
        cdef kve_failure failure
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.enter()
        if step == KVE_SAVEPOINT_ROLLBACK:
            self.undone += 1
        kve_unlock(self.c)
        with nogil:
            status = kve_savepoint(self.c, self.transaction, step, &failure)
        if status == KV_TOO_MANY_CURSORS:
            raise _status.errors.TooManySavepointsError("a transaction has at most 63 savepoints at once")
        if status != KV_OK:
            raise self._session.error(status, &failure)
        return 0

    # Here and not in Python, so that no signal's exception comes between the engine's savepoints and ours.

    def _savepoint_begin(self):
        """Begin one on top of those there are; returns its number."""
        if self.savepoints is None:
            self.savepoints = []
        self.savepoint_step(KVE_SAVEPOINT_BEGIN)
        self.savepoint_count += 1
        self.savepoints.append(self.savepoint_count)
        return self.savepoint_count

    def _savepoint_is_open(self, number):
        return self.savepoints is not None and number in self.savepoints

    def _savepoint_end(self, number, bint keep):
        """Keep or undo what was done since; it ends with those within it."""
        self._check_usable()
        if number not in self.savepoints:
            raise _status.errors.ClosedError("the savepoint has ended")
        while number in self.savepoints:
            self.savepoint_step(KVE_SAVEPOINT_RELEASE if keep else KVE_SAVEPOINT_ROLLBACK)
            self.savepoints.pop()

    def _drop(self, bytes name not None):
        """Remove the table of that name with all that is in it."""
        cdef kve_failure failure
        cdef const char *start = name
        cdef uint32_t length = <uint32_t>len(name)
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.enter()
        kve_unlock(self.c)
        with nogil:
            status = kve_table_drop(self.c, self.transaction, start, length, &failure)
        if status != KV_OK:
            raise self._session.error(status, &failure)


@cython.no_gc_clear
cdef class StoreVerbs(Verbs):
    """The verbs of a store: each write is a commit of its own."""

    def __cinit__(self, Session session not None, *args, **kwargs):
        self._session = session
        self.c = session.c
        self.view = KV_VIEW_PUBLISHED
        self.flags = KV_DURABLE if session.durable else 0
        self.plain = True
