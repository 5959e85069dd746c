# Appending one entry, for as long as that is no more than putting it.

cdef int64_t NEVER = -1


@cython.auto_pickle(False)  # the subclass has its own
cdef class Appender:
    """The `append` of a series, without Python's part. What is more than a put is left to the subclass.

    It has `_append(values, times, bump)`, which appends in a transaction, and `_after(time, bump)`, for a time that was refused.
    """

    cdef Verbs table
    cdef object nanoseconds
    cdef readonly int _kind
    cdef readonly Py_ssize_t _weight, _weight_max
    cdef readonly int64_t _next_trim

    def __cinit__(self):
        self._next_trim = NEVER

    def _appends_to(self, Verbs table not None, nanoseconds):
        """Where entries are stored, and what makes a time of what is no number."""
        self.table = table
        self.nanoseconds = nanoseconds

    def _know(self, int kind, Py_ssize_t weight, Py_ssize_t weight_max, int64_t next_trim):
        """What is remembered of the series: until the entries that are in no block weigh so much, or one of a time behind
        `next_trim` comes, an append is a put."""
        self._kind = kind
        self._weight = weight
        self._weight_max = weight_max
        self._next_trim = next_trim

    def _forget(self):
        """Let the next append look."""
        self._know(0, 0, 0, NEVER)

    def append(self, value, ts=None, *, on_conflict="error"):
        """Append an entry; durable when it returns, if the store's commits are. Its time.

        Args:
            value: bytes-like or str, a float, or an int of 64 bits, as the entries before it.
            ts: its time, None: now.
            on_conflict: what to do if that is not after the newest entry: ``"error"``, or ``"bump"`` to take
                the next nanosecond after that.

        Raises:
            TimeOrderError: it is not after the newest entry.
            TypeError, ValueError: the value or the time is none for this series.
            Otherwise as ``put`` does.
        """
        cdef int64_t at
        cdef bint bump = _bumps(on_conflict)
        cdef Single single
        if ts is None:
            at = time_ns()
        elif type(ts) is int and 0 <= ts <= INT64_MAX:
            at = ts
        else:
            at = self.nanoseconds(ts)
        if self._weight >= self._weight_max or at > self._next_trim:
            return self._append([value], [at], bump)[1]
        held = _set_data(&single, self._kind, value)
        _set_key(single.key, at)
        while not self.table.store_bytes(single.key, KEY_BYTES, single.data, single.length, KV_APPEND):
            at = self._after(at, bump)
            _set_key(single.key, at)
        self._weight += _weight(single.length)
        return at


cdef bint _bumps(object on_conflict) except -1:
    if on_conflict == "error":
        return False
    if on_conflict != "bump":
        raise ValueError(f"on_conflict is error or bump, not {on_conflict!r}")
    return True


cdef inline Py_ssize_t _weight(Py_ssize_t size) noexcept:
    return 1 + size // 64


def weight_of(bytes data):
    """What an entry of its own counts, so that neither many nor large ones wait long for their block."""
    return _weight(PyBytes_GET_SIZE(data))


def bumps(on_conflict):
    """Whether a time that was refused is to be moved behind the newest."""
    return _bumps(on_conflict)
