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
                  uint64_t cache_bytes, bint durable, uint32_t interval_ms, timeout, bint still=False):
        cdef char message[KVE_MESSAGE_SIZE]
        cdef const char *directory_c = directory
        cdef bint read_only = (flags & KV_OPEN_READ_ONLY) != 0
        cdef int os_error
        self.path = path
        self.durable = durable
        self.timeout = timeout
        self.directory = directory
        self.name = name
        self.open_flags = flags
        self.cache_bytes = cache_bytes
        _need_api()
        with nogil:
            self.c = kve_session_new(_api, directory_c, read_only, &os_error, message)
        if self.c == NULL:
            self.not_started(os_error, message)
        self.c.still = still
        self.start(sector_bytes)
        if not durable and not read_only and kve_flusher_start(self.c, interval_ms) != 0:
            self.close()
            raise _status.errors.OutOfMemoryError("cannot start the flusher thread")

    cdef int not_started(self, int os_error, const char *message) except -1:
        if os_error != 0:
            raise _status.error(KVE_HOST_IO, os.fsdecode(self.directory), 0, 0, os_error, "")
        raise _status.errors.EngineError(f"{self.path}: {(<bytes>message).decode('utf-8', 'replace')}")

    cdef int start(self, uint32_t sector_bytes) except -1:
        """Open the database in the guest that has just been made."""
        cdef kve_failure failure
        cdef const char *name_c = self.name
        cdef uint32_t name_length = <uint32_t>len(self.name)
        cdef int status
        memset(&failure, 0, sizeof(failure))
        with nogil:
            status = kve_open(self.c, name_c, name_length, self.open_flags, sector_bytes, self.cache_bytes, &failure)
        if status != KV_OK:
            error = self.error(status, &failure)
            with nogil:
                kve_lock(self.c)
                kve_session_drop(self.c)
                kve_unlock(self.c)
            raise error
        return 0

    def abandon(self):
        """In a child process after a fork: close its copies of the descriptors."""
        kve_session_abandon(self.c)

    def revive(self):
        """In a child process: open it again, to be read as before. What was begun in the parent stays dead.

        By one thread at a time; another may have done it.
        """
        cdef char message[KVE_MESSAGE_SIZE]
        cdef const char *directory_c = self.directory
        cdef bint started
        cdef int os_error
        if kve_alive(self.c) == 0:
            return
        kve_regions_trim(self.c, True)  # those with views are the views' own from now on
        with nogil:
            started = kve_session_revive(self.c, directory_c, &os_error, message)
        if not started:
            with nogil:
                kve_session_drop(self.c)
            self.not_started(os_error, message)
        self.start(0)
        kve_session_revived(self.c)

    def refresh(self, bint replaced):
        """Show what was committed since; ``replaced``: in another file of that name. Whether there was something."""
        cdef kve_failure failure
        cdef bint moved = False
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.check_alive()
        with nogil:
            status = kve_refresh(self.c, replaced, &moved, &failure)
        kve_regions_trim(self.c, False)
        if status != KV_OK:
            raise self.error(status, &failure)
        return moved

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
        if status != 0 and self.on_fork is not None:
            self.on_fork()
            status = kve_alive(self.c)
        if status == 0:
            return 0
        memset(&failure, 0, sizeof(failure))
        raise self.error(status, &failure)

    cdef int enter(self) except -1:
        """Take the lock, holding the GIL."""
        cdef kve_failure failure
        cdef int status = kve_alive(self.c)
        if status != 0 and self.on_fork is not None:
            self.on_fork()
            status = kve_alive(self.c)
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

    cdef object views_open(self):
        what = "1 view of a value is" if self.views == 1 else f"{self.views} views of values are"
        return _status.errors.ViewsOpenError(f"{self.path}: {what} in use")

    def close(self, *, bint with_views=False):
        """Sync, write the mark of a clean close, give everything back. The handle is closed even if that fails.

        ``with_views``: also if there are views; what they show is not protected any more.
        """
        cdef kve_failure failure
        cdef int status
        if kve_alive(self.c) != 0 or not self.c.open or self.c.closing:
            return
        if self.views != 0 and not with_views:
            raise self.views_open()
        memset(&failure, 0, sizeof(failure))
        with nogil:
            status = kve_close(self.c, &failure)
        kve_regions_trim(self.c, True)
        # After a failure that has been told, what was acknowledged as durable is safe; what was not may be lost.
        if self.durable and (status == KV_POISONED or status == KVE_BROKEN):
            return
        if status != KV_OK:
            raise self.error(status, &failure)

    @property
    def flush_waiters(self):
        """How many threads wait for the end of a flush that another has begun."""
        return self.c.flush_waiters

    def take_flush_wish(self):
        """Whether the guest wishes a flush; once. For who plays the flusher: see :func:`make_repeatable`."""
        return kve_take_flush_wish(self.c)

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
        cdef uint64_t readers_age_ns = 0
        memset(&failure, 0, sizeof(failure))
        self.check_alive()
        with nogil:
            status = kve_stats(self.c, &result, &age_ns, &readers_age_ns, &failure)
        if status != KV_OK:
            raise self.error(status, &failure)
        return <dict>result | {
            "snapshot_age_seconds": age_ns / 1e9,
            "kept_checkpoints": self.c.held_count,
            "reader_age_seconds": readers_age_ns / 1e9,
        }

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
        kve_regions_trim(self.c, False)
        if status != KV_OK:
            raise self.error(status, &failure)
