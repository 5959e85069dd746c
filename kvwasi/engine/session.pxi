# An open database.

cdef uint64_t NS = 1000000000


cdef inline uint64_t _deadline(object timeout) except? 0:
    if timeout is None:
        return 0
    cdef double seconds = timeout
    return kve_now_ns() + <uint64_t>(max(seconds, 0.0) * NS)


cdef class Session:
    """One open database: its guest, its lock, its modes. Shared by the store, its transactions and iterators."""

    def __cinit__(self, str path, bytes directory, bytes name, *, uint32_t flags, uint32_t sector_bytes,
                  uint64_t cache_bytes, bint durable, uint32_t interval_ms, timeout):
        cdef char message[KVE_MESSAGE_SIZE]
        cdef kve_failure failure
        cdef const char *directory_c = directory
        cdef const char *name_c = name
        cdef uint32_t name_length = <uint32_t>len(name)
        cdef bint read_only = (flags & KV_OPEN_READ_ONLY) != 0
        cdef int status
        cdef int os_error
        memset(&failure, 0, sizeof(failure))
        self.path = path
        self.durable = durable
        self.timeout = timeout
        _need_api()
        with nogil:
            self.c = kve_session_new(_api, directory_c, read_only, &os_error, message)
        if self.c == NULL and os_error != 0:
            raise _status.error(KVE_HOST_IO, os.fsdecode(directory), 0, 0, os_error, "")
        if self.c == NULL:
            raise _status.errors.EngineError(f"{path}: {(<bytes>message).decode('utf-8', 'replace')}")
        with nogil:
            status = kve_open(self.c, name_c, name_length, flags, sector_bytes, cache_bytes, &failure)
        if status == KV_OK and not durable and not read_only:
            failure.os_error = kve_flusher_start(self.c, interval_ms)
            if failure.os_error != 0:
                self.close()
                raise _status.errors.OutOfMemoryError("cannot start the flusher thread")
        if status != KV_OK:
            error = self.error(status, &failure)
            with nogil:
                kve_lock(self.c)
                kve_session_drop(self.c)
                kve_unlock(self.c)
            raise error

    def __dealloc__(self):
        # Only a closed or failed one gets here: open ones are held by kvwasi.store until they are closed.
        if self.c != NULL and (not self.c.open or kve_alive(self.c) != 0):
            kve_session_free(self.c)

    cdef object error(self, int status, const kve_failure *failure):
        return _status.error(
            status, self.path, failure.position, failure.detail, failure.os_error,
            (<bytes>self.c.message).decode("utf-8", "replace"),
        )

    cdef int check_alive(self) except -1:
        """Raise in a child process: what it inherited of locks may be in any state."""
        cdef kve_failure failure
        cdef int status = kve_alive(self.c)
        if status == 0:
            return 0
        memset(&failure, 0, sizeof(failure))
        raise self.error(status, &failure)

    cdef int enter(self) except -1:
        """Take the lock, holding the GIL."""
        cdef kve_failure failure
        cdef int status = kve_alive(self.c)
        if status == 0:
            if not kve_try_lock(self.c):
                kve_want_lock(self.c)
                while not kve_try_lock(self.c):
                    with nogil:
                        kve_wait_lock(self.c)
                kve_got_lock(self.c)
            status = kve_usable(self.c)
            if status == 0:
                return 0
            kve_unlock(self.c)
        memset(&failure, 0, sizeof(failure))
        raise self.error(status, &failure)

    cdef int take_turn(self) except -1:
        """Become the writer; wait for another thread's transaction at most the store's timeout."""
        cdef kve_waiter waiter
        cdef kve_failure failure
        cdef uint64_t thread = PyThread_get_thread_ident()
        cdef uint64_t deadline = _deadline(self.timeout)
        cdef int status = kve_alive(self.c)
        memset(&failure, 0, sizeof(failure))
        if status == 0:
            kve_waiter_init(&waiter)
            while True:
                with nogil:
                    status = kve_writer_wait(self.c, &waiter, thread, deadline)
                if status != KVE_SLICE:
                    break
                try:
                    PyErr_CheckSignals()
                except:
                    with nogil:
                        kve_writer_abandon(self.c, &waiter)
                    raise
        if status != 0:
            raise self.error(status, &failure)
        return 0

    cdef int leave_turn(self) noexcept:
        with nogil:
            kve_lock(self.c)
            kve_writer_release(self.c)
            kve_unlock(self.c)
        return 0

    @property
    def closed(self):
        """Whether the handle can't be used any more."""
        return not self.c.open or self.c.closing

    @property
    def inherited(self):
        """Whether the handle was opened by the parent process."""
        return kve_alive(self.c) != 0

    @property
    def read_only(self):
        return self.c.read_only

    @property
    def writers_waiting(self):
        """How many threads wait for their turn to write."""
        self.enter()
        cdef uint32_t count = kve_writers_waiting(self.c)
        kve_unlock(self.c)
        return count

    def check_open(self):
        """Raise if the handle can't be used."""
        self.enter()
        kve_unlock(self.c)

    def close(self):
        """Sync, write the mark of a clean close, give everything back. The handle is closed even if that fails."""
        cdef kve_failure failure
        cdef int status
        if kve_alive(self.c) != 0 or not self.c.open or self.c.closing:
            return
        memset(&failure, 0, sizeof(failure))
        with nogil:
            status = kve_close(self.c, &failure)
        # After a failure that has been told, what was acknowledged as durable is safe; what was not may be lost.
        if self.durable and (status == KV_POISONED or status == KVE_BROKEN):
            return
        if status != KV_OK:
            raise self.error(status, &failure)

    def sync(self):
        """Make everything committed so far durable."""
        cdef kve_failure failure
        memset(&failure, 0, sizeof(failure))
        self.check_alive()
        with nogil:
            status = kve_sync(self.c, &failure)
        if status != KV_OK:
            raise self.error(status, &failure)

    def stats(self):
        """The guest's statistics, as a dict."""
        cdef kve_failure failure
        cdef kv_guest_stats_result result
        cdef uint64_t age_ns = 0
        memset(&failure, 0, sizeof(failure))
        self.check_alive()
        with nogil:
            status = kve_stats(self.c, &result, &age_ns, &failure)
        if status != KV_OK:
            raise self.error(status, &failure)
        return <dict>result | {"snapshot_age_seconds": age_ns / 1e9}

    def check(self):
        """Walk everything: a list of (offset, kind, first bytes of the key)."""
        cdef kve_failure failure
        cdef kv_problem *problems = NULL
        cdef size_t count = 0, i
        cdef Py_ssize_t length
        cdef list found = []
        memset(&failure, 0, sizeof(failure))
        self.check_alive()
        with nogil:
            status = kve_check(self.c, &problems, &count, &failure)
        try:
            if status != KV_OK:
                raise self.error(status, &failure)
            for i in range(count):
                length = min(problems[i].key_length, sizeof(problems[i].key))
                key = PyBytes_FromStringAndSize(<char *>problems[i].key, length)
                found.append((problems[i].offset, _status.problem_kind(problems[i].detail), key))
        finally:
            free(problems)
        return found

    def compact(self):
        """Rewrite the database without its dead space. Other threads read meanwhile, and wait to write."""
        cdef kve_failure failure
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.take_turn()
        with nogil:
            status = kve_compact(self.c, &failure)
        self.leave_turn()
        if status != KV_OK:
            raise self.error(status, &failure)
