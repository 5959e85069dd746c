# A store as it was at one moment.

@cython.no_gc_clear
cdef class SnapshotVerbs(Reads):
    """A snapshot that is open from its making until close, or until the last reference is gone."""

    cdef uint32_t handle
    cdef bint opened

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
        kve_unlock(self.c)
        if status != KV_OK:
            raise session.error(status, &failure)
        self.view = KV_VIEW_SNAPSHOT + self.handle

    def __dealloc__(self):
        if self.c == NULL or not self.opened or self.ended or kve_alive(self.c) != 0:
            return
        if self.life == self.c.lives:
            kve_drop_snapshot(self.c, self.handle)

    @property
    def closed(self):
        """Whether it is closed, or its store."""
        return self.ended or not self.c.open or self.c.closing

    def close(self):
        """Let the moment go: what only it still needs can be used again. A second call does nothing."""
        if self.ended or kve_alive(self.c) != 0 or not self.c.open or self.c.closing or self.life != self.c.lives:
            return
        self.enter()
        if not self.ended:  # by another thread, just before
            self.ended = True
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
