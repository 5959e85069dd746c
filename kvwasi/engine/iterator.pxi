# Iteration: a cursor of the guest, read in batches.

cdef uint32_t FIRST_BATCH = 16
cdef uint32_t FULL_BATCH = 256
cdef uint64_t BATCH_VALUE_BYTES = 1 << 20
cdef uint32_t COUNTED_LEAVES = 64  # of the index, a call: the lock is free between two

ITEMS = 0
KEYS = 1
VALUES = 2
COPIES = 3  # items, with None for a value that is copied in pieces, and OLDER for one of before ``since``
PACKED = 4  # a batch of items at a time, one behind the other: lengths of key and value, of 4 bytes each, key, value
OLDER = object()


cdef bytes _successor(bytes prefix):
    """The least key above all keys that begin with ``prefix``; None when there is none."""
    cdef bytes head = prefix.rstrip(b"\xff")
    cdef Py_ssize_t last = len(head) - 1
    return head[:last] + bytes((head[last] + 1,)) if head else None


def prefix_stop(prefix, /):
    """The exclusive end of the range of keys that begin with ``prefix``; None when it has no end."""
    return _successor(_to_bytes(prefix))


cdef bytes _bound(object given):
    """An end of a range; of one longer than any key the next that could be one. None: there is no end, or no such key."""
    if given is None:
        return None
    cdef bytes bound = _to_bytes(given)
    return bound if len(bound) <= KV_KEY_MAX else _successor(bound[:KV_KEY_MAX])


cdef bint _set_range(kve_range *range_, bytes first, bytes last) except -1:
    """A range as the C layer has it, of two bounds that outlive it. True: no key can lie in it."""
    memset(range_, 0, sizeof(range_[0]))
    if first:
        range_.start = PyBytes_AS_STRING(first)
        range_.start_length = <uint32_t>len(first)
    if last is not None:
        range_.stop = PyBytes_AS_STRING(last)
        range_.stop_length = <uint32_t>len(last)
    return first is None or (last is not None and not last)  # nothing is below an empty stop


cdef inline uint64_t _digest(object key, const kv_value_ref *ref) noexcept:
    return kv_xxh64(PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key), <uint64_t>ref.length << 32 | ref.sum)


def entry_digest(Reads reads not None, bytes key not None, /):
    """What an entry adds to the ``digest`` of an iterator; None: it is not there."""
    cdef kve_failure failure
    cdef kv_value_ref ref
    cdef int status
    _check_key(PyBytes_GET_SIZE(key))
    reads.enter()
    status = kve_get(reads.c, reads.table, PyBytes_AS_STRING(key), <uint32_t>PyBytes_GET_SIZE(key), reads.view, &ref,
                     &failure)
    kve_unlock(reads.c)
    if status == KV_NOT_FOUND or reads.is_empty(status):
        return None
    if status != KV_OK:
        raise reads._session.error(status, &failure)
    return _digest(key, &ref)


cdef inline bint _is_late(const kv_value_ref *ref) noexcept:
    """Whether a value is too large to be read under the lock; what lies in the guest's memory has to be."""
    return ref.where != KV_WHERE_MEMORY and ref.length > KV_INLINE_MAX


@cython.final
@cython.no_gc_clear
cdef class EntryIterator:
    """The entries of a range in key order, as the store was when the iterator was made.

    In a transaction it follows the transaction's own changes. It ends at exhaustion, or with its last reference.

    With ``since``, a generation of sectors, values that lie in older ones are not read (0: there are none), and
    ``digest`` tells of all entries so far: the same for the same keys and values, in whichever file they are.
    """

    def __cinit__(self, Reads owner not None, start, stop, bint reverse, int what, limit, since=None):
        cdef bytes first = _bound(b"" if start is None else start)
        cdef bytes last = _bound(stop)
        cdef kve_failure failure
        cdef kve_range range_
        cdef int status
        cdef bint empty = _set_range(&range_, first, last)
        range_.reverse = reverse
        self.digesting = since is not None
        range_.since = since or 0
        self.owner = owner
        self.what = what
        self.left = -1 if limit is None else max(<Py_ssize_t>limit, 0)
        self.batch = FIRST_BATCH
        owner.enter()
        self.c = owner.c
        self.life = self.c.lives
        if self.left == 0 or empty:
            kve_unlock(self.c)
            return
        status = kve_cursor_open(self.c, owner.table, &range_, owner.view, &self.handle, &failure)
        self.is_open = status == KV_OK
        kve_unlock(self.c)
        if status != KV_OK and not owner.is_empty(status):
            raise owner._session.error(status, &failure)

    def __dealloc__(self):
        while self.position < self.filled:
            Py_XDECREF(self.keys[self.position])
            Py_XDECREF(self.values[self.position])
            self.position += 1
        PyMem_Free(self.keys)
        PyMem_Free(self.values)
        PyMem_Free(self.refs)
        if not self.is_open or kve_alive(self.c) != 0 or self.life != self.c.lives:
            return
        if self.owner.transaction == 0 or self.owner.transaction == self.c.transaction:
            kve_drop_cursor(self.c, self.handle, self.owner.transaction)

    def __iter__(self):
        return self

    def __next__(self):
        cdef uint32_t at
        if self.position == self.filled:
            if not self.is_open or not self.refill():
                raise StopIteration
        at = self.position
        self.position += 1
        if self.what == 4:
            return self.late_packed()
        key = <object>self.keys[at]
        Py_XDECREF(self.keys[at])
        if self.digesting:
            self.digest += _digest(key, &self.refs[at])
        if self.what == 1:
            return key
        if self.refs[at].where == KV_WHERE_OLDER:
            return key, OLDER
        if self.what == 3 and self.refs[at].length > KV_INLINE_MAX:
            Py_XDECREF(self.values[at])  # a large one that lay in the guest's memory
            return key, None
        if self.values[at] != NULL:
            value = <object>self.values[at]
            Py_XDECREF(self.values[at])
        else:
            value = self.late_value(at)
        return value if self.what == 2 else (key, value)

    def count(self):
        """How many entries a new forward iterator would give. The index tells, no value is read; ends the iterator."""
        cdef kve_failure failure
        cdef uint64_t total = 0
        cdef uint64_t found = 1
        cdef int status = KV_OK
        while self.is_open and found != 0 and (self.left < 0 or total < <uint64_t>self.left):
            self.enter()
            status = kve_cursor_count(self.c, self.handle, COUNTED_LEAVES, &found, &failure)
            kve_unlock(self.c)
            if status != KV_OK:
                raise self.owner._session.error(status, &failure)
            total += found
        if self.is_open:
            self.enter()
            kve_cursor_close(self.c, self.handle)
            self.is_open = False
            kve_unlock(self.c)
        return total if self.left < 0 else min(total, <uint64_t>self.left)

    cdef int enter(self) except -1:
        """Take the lock; the cursor must be of this process."""
        cdef kve_failure failure
        self.owner.enter()
        if self.life == self.c.lives:
            return 0
        kve_unlock(self.c)
        memset(&failure, 0, sizeof(failure))
        raise self.owner._session.error(KVE_FORKED, &failure)

    cdef int refill(self) except -1:
        """Fetch the next batch. 0: there is none, and the cursor is closed."""
        cdef kve_failure failure
        cdef uint32_t count = 0
        cdef uint32_t wanted = self.batch
        cdef int status = KV_OK
        if self.left >= 0 and self.left < wanted:
            wanted = <uint32_t>self.left
        self.reserve(wanted)
        self.position = self.filled = 0
        self.enter()
        if wanted != 0:
            status = kve_cursor_next(self.c, self.handle, wanted, &count, &failure)
        if status == KV_OK and count != 0:
            status = self.take_packed(count, &failure) if self.what == 4 else self.take_entries(count)
        elif status == KV_OK:
            kve_cursor_close(self.c, self.handle)
            self.is_open = False
        kve_unlock(self.c)
        if status != KV_OK:
            PyErr_Clear()
            raise self.owner._session.error(status, &failure)
        if self.left >= 0:
            self.left -= count
        self.batch = min(self.batch * 4, FULL_BATCH)
        return count != 0

    cdef int reserve(self, uint32_t wanted) except -1:
        if wanted <= self.capacity:
            return 0
        keys = <PyObject **>PyMem_Realloc(self.keys, wanted * sizeof(PyObject *))
        if keys == NULL:
            raise MemoryError
        self.keys = keys
        values = <PyObject **>PyMem_Realloc(self.values, wanted * sizeof(PyObject *))
        if values == NULL:
            raise MemoryError
        self.values = values
        refs = <kv_value_ref *>PyMem_Realloc(self.refs, wanted * sizeof(kv_value_ref))
        if refs == NULL:
            raise MemoryError
        self.refs = refs
        self.capacity = wanted
        return 0

    cdef int take_entries(self, uint32_t count) noexcept:
        """Make the objects of a batch, under the lock. Values that are large, or many bytes, wait for their turn: the
        cursor pins them; but what lies in the guest's memory may move with the next call."""
        cdef const kv_entry *entry
        cdef const uint8_t *key = NULL
        cdef uint64_t budget = BATCH_VALUE_BYTES
        cdef uint32_t offset = 0
        cdef uint32_t at
        for at in range(count):
            entry = kve_entry_at(self.c, &offset, &key)
            if entry == NULL:
                return KVE_BROKEN
            self.refs[at] = entry.value
            self.keys[at] = new_bytes(<const char *>key, entry.key_length)
            self.values[at] = NULL
            if self.keys[at] == NULL:
                return KV_NO_MEMORY
            self.filled = at + 1
            if self.what != 1 and at < AHEAD:
                kve_prefetch(self.c, &self.refs[at])
        if self.what == 1:
            return KV_OK
        for at in range(count):
            if at + AHEAD < count:
                kve_prefetch(self.c, &self.refs[at + AHEAD])
            if not self.take_value(at, &budget):
                return KV_NO_MEMORY
        return KV_OK

    cdef bint take_value(self, uint32_t at, uint64_t *budget) noexcept:
        cdef kv_value_ref *ref = &self.refs[at]
        cdef kve_failure ignored
        cdef PyObject *value
        if ref.where == KV_WHERE_OLDER:
            return True
        if ref.where != KV_WHERE_MEMORY and (ref.length > KV_INLINE_MAX or ref.length > budget[0]):
            return True
        value = new_bytes(NULL, ref.length)
        if value == NULL:
            return False
        budget[0] -= min(budget[0], ref.length)
        if (kve_read(self.c, ref, raw_bytes(value), &ignored) == 0
                and kve_verify(ref, raw_bytes(value), &ignored) == 0):
            self.values[at] = value
        else:
            Py_XDECREF(value)  # the failure is told when its turn comes
        return True

    cdef object late_value(self, uint32_t at):
        value = PyBytes_FromStringAndSize(NULL, self.refs[at].length)
        self.read_late(at, PyBytes_AS_STRING(value))
        return value

    cdef int read_late(self, uint32_t at, char *to) except -1:
        cdef kv_value_ref ref = self.refs[at]
        cdef kve_failure failure
        cdef int status
        memset(&failure, 0, sizeof(failure))
        self.enter()
        kve_unlock(self.c)
        with nogil:
            status = kve_read_large(self.c, &ref, to, &failure)
        if status != KV_OK:
            raise self.owner._session.error(status, &failure)
        return 0

    cdef int take_packed(self, uint32_t count, kve_failure *failure) noexcept:
        """Make one object of a batch, under the lock. Large values have their place in it, but come later."""
        cdef const kv_entry *entry
        cdef const uint8_t *key = NULL
        cdef uint64_t size = 0
        cdef uint32_t offset = 0, at
        cdef char *to
        cdef int status = KV_OK
        for at in range(count):
            entry = kve_entry_at(self.c, &offset, &key)
            if entry == NULL:
                return KVE_BROKEN
            self.refs[at] = entry.value
            size += 8 + entry.key_length + entry.value.length
        self.values[0] = new_bytes(NULL, size)
        if self.values[0] == NULL:
            return KV_NO_MEMORY
        to = raw_bytes(self.values[0])
        offset = 0
        for at in range(count):
            if at + AHEAD < count:
                kve_prefetch(self.c, &self.refs[at + AHEAD])
            entry = kve_entry_at(self.c, &offset, &key)
            memcpy(to, &entry.key_length, 4)
            memcpy(to + 4, &entry.value.length, 4)
            memcpy(to + 8, key, entry.key_length)
            to += 8 + entry.key_length
            if not _is_late(&self.refs[at]) and status == KV_OK:
                status = kve_read(self.c, &self.refs[at], to, failure)
                if status == KV_OK:
                    status = kve_verify(&self.refs[at], to, failure)
            to += entry.value.length
        if status != KV_OK:
            Py_XDECREF(self.values[0])
            return status
        self.keys[0] = NULL
        self.packed = count
        self.filled = 1
        return KV_OK

    cdef object late_packed(self):
        """The object, with the values that came late."""
        packed = <object>self.values[0]
        Py_XDECREF(self.values[0])
        cdef char *to = PyBytes_AS_STRING(packed)
        cdef uint32_t at, key_length
        for at in range(self.packed):
            memcpy(&key_length, to, 4)
            to += 8 + key_length
            if _is_late(&self.refs[at]):
                self.read_late(at, to)
            to += self.refs[at].length
        return packed
