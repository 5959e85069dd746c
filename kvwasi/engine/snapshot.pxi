# A store as it was at one moment.

@cython.no_gc_clear
cdef class SnapshotVerbs(Reads):
    """A snapshot that is open from its making until close, or until the last reference is gone."""

    cdef uint32_t handle
    cdef bint opened
    cdef bint released     # by the engine
    cdef Py_ssize_t views  # that keep it, closed or not
    cdef uint64_t files    # of the session when it was taken
    cdef uint64_t changes

    def __cinit__(self, Session session not None, *args):
        cdef kve_failure failure
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self._session = session
        self.c = session.c
        session.enter()
        status = kve_snapshot_open(self.c, &self.handle, &failure)
        self.opened = status == KV_OK
        self.life = self.c.lives
        self.files = self.c.files
        self.changes = self.c.changes
        kve_unlock(self.c)
        if status != KV_OK:
            raise session.error(status, &failure)
        self.view = KV_VIEW_SNAPSHOT + self.handle

    def __dealloc__(self):
        if self.c != NULL and self.opened:
            self.drop()

    cdef int drop(self) noexcept:
        """Have it given back by whoever takes the lock next."""
        if not self.released and kve_alive(self.c) == 0 and self.life == self.c.lives:
            self.released = True
            kve_drop_snapshot(self.c, self.handle)
        return 0

    cdef int drop_view(self) noexcept:
        """A view that it keeps is gone."""
        cdef Session session = self._session
        self.views -= 1
        session.views -= 1
        if self.views == 0 and self.ended:
            self.drop()
        if session.views == 0:
            session.view_pin = None
        return 0

    @property
    def closed(self):
        """Whether it is closed, or its store."""
        return self.ended or not self.c.open or self.c.closing

    def close(self):
        """Let the moment go: what only it, or a view of a value in it, still needs can be used again.

        A second call does nothing.
        """
        if self.ended or kve_alive(self.c) != 0 or not self.c.open or self.c.closing or self.life != self.c.lives:
            return
        self.enter()
        if not self.ended:  # by another thread, just before
            self.ended = True
            if self.views == 0:
                self.released = True
                kve_snapshot_close(self.c, self.handle)
        kve_unlock(self.c)

    def __enter__(self):
        self._check_usable()
        return self

    def __exit__(self, kind, error, traceback):
        self.close()


@cython.no_gc_clear
cdef class SnapshotTableVerbs(Reads):
    """The reading verbs of a table of a snapshot."""

    def __cinit__(self, SnapshotVerbs of not None, bytes name not None):
        _bind(self, of, name, None)
