# cython: language_level=3, boundscheck=False, wraparound=False, freethreading_compatible=False
"""Entries of a time series in columns, from and to the blocks in which they are stored."""

cimport cython
from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLong
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.number cimport PyNumber_Index
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, INT64_MAX, UINT32_MAX
from libc.string cimport memcpy, memset

from time import time_ns

from kvwasi.engine._engine cimport KV_APPEND, Verbs
from kvwasi.engine._engine import as_bytes
from kvwasi.errors import CorruptionError

cdef extern from "Python.h":
    double PyFloat_AsDouble(object) except? -1

cdef extern from "block.h":
    enum:
        KVS_BYTES, KVS_FLOAT, KVS_INT
        KVS_COUNT_MAX

    ctypedef struct kvs_block:
        uint8_t kind
        uint32_t count
        uint64_t before
        uint64_t bytes_before
        int64_t first
        int64_t last
        const uint8_t *statuses
        const uint8_t *payload
        size_t payload_bytes

    bint kvs_open(kvs_block *, const uint8_t *, size_t) nogil
    bint kvs_read_times(const kvs_block *, int64_t *) nogil
    bint kvs_read_lengths(const kvs_block *, uint32_t *) nogil
    unsigned kvs_status(const kvs_block *, uint32_t) nogil
    size_t kvs_head_bound(uint32_t) nogil
    size_t kvs_write_head(uint8_t *, int, uint64_t, uint64_t, uint32_t, const int64_t *, const uint8_t *,
                          const uint32_t *) nogil

KIND_BYTES, KIND_FLOAT, KIND_INT = KVS_BYTES, KVS_FLOAT, KVS_INT
TIME_MAX = INT64_MAX
ENTRIES_MAX = KVS_COUNT_MAX  # of a block

cdef int DELETED = 3  # the status of that name
cdef int ANY = -1  # of the filters: any status; -2: any but deleted
cdef int ANY_BUT_DELETED = -2


cdef object _damaged():
    return CorruptionError("a time series is damaged: what is stored is no block of entries", 0, "value")


cdef inline bint _open(kvs_block *block, bytes data) except 0:
    if not kvs_open(block, <const uint8_t *>PyBytes_AS_STRING(data), <size_t>PyBytes_GET_SIZE(data)):
        raise _damaged()
    return True


include "pieces.pxi"
include "appender.pxi"


@cython.final
cdef class Columns:
    """Entries in the order of their times: times, values and statuses, each an array."""

    cdef readonly int kind
    cdef readonly bint altered
    """Whether any status is another than written."""
    cdef int64_t *times
    cdef uint64_t *numbers
    cdef uint8_t *statuses
    cdef list blobs
    cdef Py_ssize_t count, capacity

    def __cinit__(self, int kind):
        self.kind = kind
        if kind == KVS_BYTES:
            self.blobs = []

    def __dealloc__(self):
        PyMem_Free(self.times)
        PyMem_Free(self.numbers)
        PyMem_Free(self.statuses)

    def __len__(self):
        return self.count

    cdef int grow(self, Py_ssize_t more) except -1:
        """Make room for so many more."""
        cdef Py_ssize_t capacity = self.count + more
        cdef void *p
        if capacity <= self.capacity:
            return 0
        capacity = max(capacity, 2 * self.capacity)
        p = PyMem_Realloc(self.times, <size_t>capacity * 8)
        if p == NULL:
            raise MemoryError
        self.times = <int64_t *>p
        p = PyMem_Realloc(self.statuses, <size_t>capacity)
        if p == NULL:
            raise MemoryError
        self.statuses = <uint8_t *>p
        if self.kind != KVS_BYTES:
            p = PyMem_Realloc(self.numbers, <size_t>capacity * 8)
            if p == NULL:
                raise MemoryError
            self.numbers = <uint64_t *>p
        self.capacity = capacity
        return 0

    def reserve(self, Py_ssize_t count):
        """Expect so many more."""
        self.grow(count)

    # from what a user gives

    cdef int set_number(self, Py_ssize_t index, object value) except -1:
        cdef double real
        cdef int64_t whole
        if self.kind == KVS_FLOAT:
            real = PyFloat_AsDouble(value)
            memcpy(&self.numbers[index], &real, 8)
        else:
            whole = _whole(value)
            memcpy(&self.numbers[index], &whole, 8)
        return 0

    def add_values(self, values):
        """Values without times yet, of an iterable or a buffer of 8-byte numbers; :meth:`set_times` has to follow."""
        cdef Py_buffer view
        cdef Py_ssize_t count, at = self.count
        cdef char code = b"d" if self.kind == KVS_FLOAT else b"q"
        if isinstance(values, (bytes, bytearray, str)):
            raise TypeError(f"values are given as a sequence of them, not as {type(values).__name__}")
        if self.kind != KVS_BYTES and not isinstance(values, (list, tuple)):
            try:
                PyObject_GetBuffer(values, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
            except (BufferError, TypeError, ValueError):
                pass
            else:
                try:
                    if view.ndim == 1 and view.itemsize == 8 and _has_code(view.format, code):
                        count = view.len // 8
                        self.grow(count)
                        memcpy(self.numbers + at, view.buf, <size_t>view.len)
                        memset(self.statuses + at, 0, <size_t>count)
                        self.count += count
                        return
                finally:
                    PyBuffer_Release(&view)
        if not isinstance(values, (list, tuple)):
            values = list(values)
        self.grow(len(values))
        memset(self.statuses + at, 0, <size_t>len(values))
        try:
            for value in values:
                if self.kind == KVS_BYTES:
                    self.blobs.append(as_bytes(value))
                else:
                    self.set_number(at, value)
                at += 1
        except BaseException:
            if self.kind == KVS_BYTES:
                del self.blobs[self.count:]
            raise
        self.count = at

    def set_times(self, Py_ssize_t begin, times):
        """The times of the entries from ``begin`` on: an iterable, or a buffer of 8-byte integers."""
        cdef Py_buffer view
        cdef Py_ssize_t at = begin
        try:
            PyObject_GetBuffer(times, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT)
        except (BufferError, TypeError, ValueError):
            pass
        else:
            try:
                if view.ndim == 1 and view.itemsize == 8 and _has_code(view.format, b"q"):
                    if view.len // 8 != self.count - begin:
                        raise ValueError(f"{view.len // 8} times for {self.count - begin} values")
                    memcpy(self.times + begin, view.buf, <size_t>view.len)
                    for at in range(begin, self.count):
                        if self.times[at] < 0:
                            raise ValueError(f"a time is from 0 to 2**63 - 1 ns, not {self.times[at]}")
                    return
            finally:
                PyBuffer_Release(&view)
        for time in times:
            if at < self.count:
                try:
                    self.times[at] = PyLong_AsLongLong(PyNumber_Index(time))
                except OverflowError:
                    raise ValueError(f"a time is from 0 to 2**63 - 1 ns, not {time}") from None
            at += 1
            if self.times[min(at, self.count) - 1] < 0:
                raise ValueError(f"a time is from 0 to 2**63 - 1 ns, not {time}")
        if at != self.count:
            raise ValueError(f"{at - begin} times for {self.count - begin} values")

    def set_times_from(self, Py_ssize_t begin, int64_t first):
        """Times of one nanosecond after the other."""
        cdef Py_ssize_t i
        for i in range(begin, self.count):
            self.times[i] = first + (i - begin)

    def settle(self, Py_ssize_t begin, int64_t last, bint bump):
        """Make the times from ``begin`` on increase, beginning after ``last``.

        With ``bump`` each that does not takes the nanosecond after the one before it. Returns the place of
        the first that is wrong, -1 if none is.
        """
        cdef Py_ssize_t i
        for i in range(begin, self.count):
            if self.times[i] <= last:
                if not bump or last == INT64_MAX:
                    return i
                self.times[i] = last + 1
            last = self.times[i]
        return -1

    # from what is stored

    def add_single(self, bytes key, bytes data):
        """An entry of its own, as it is stored."""
        self.add_stored(<const uint8_t *>PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key),
                        <const uint8_t *>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    def add_packed(self, bytes packed, bint reverse=False):
        """Such entries, as an iterator over packed items gives them; ``reverse``: the newest come first."""
        cdef const uint8_t *at = <const uint8_t *>PyBytes_AS_STRING(packed)
        cdef const uint8_t *end = at + PyBytes_GET_SIZE(packed)
        cdef Py_ssize_t begin = self.count
        cdef uint32_t lengths[2]
        while at < end:
            memcpy(lengths, at, 8)
            at += 8
            self.add_stored(at, lengths[0], at + lengths[0], lengths[1])
            at += lengths[0]
            at += lengths[1]
        if reverse:
            self.reverse_from(begin)

    cdef int add_stored(self, const uint8_t *key, Py_ssize_t key_length, const uint8_t *data,
                        Py_ssize_t length) except -1:
        cdef int64_t time = 0
        cdef int i
        if key_length != 9 or length == 0:
            raise _damaged()
        for i in range(8):
            time = time << 8 | key[1 + i]
        if time < 0 or data[0] >> 2 != self.kind:
            raise _damaged()
        return self.add_entry(time, data[0] & 3, data + 1, length - 1)

    cdef int add_entry(self, int64_t time, int status, const uint8_t *payload, Py_ssize_t length) except -1:
        """One entry, with the bytes of its value."""
        self.grow(1)
        if self.kind == KVS_BYTES:
            self.blobs.append(PyBytes_FromStringAndSize(<const char *>payload, length))
        elif length == 8:
            memcpy(&self.numbers[self.count], payload, 8)
        else:
            raise _damaged()
        self.times[self.count] = time
        self.statuses[self.count] = <uint8_t>status
        self.altered |= status != 0
        self.count += 1
        return 0

    cdef int reverse_from(self, Py_ssize_t begin) except -1:
        """Turn the order of the entries from there on."""
        cdef Py_ssize_t low = begin, high = self.count - 1
        while low < high:
            self.times[low], self.times[high] = self.times[high], self.times[low]
            self.statuses[low], self.statuses[high] = self.statuses[high], self.statuses[low]
            if self.kind != KVS_BYTES:
                self.numbers[low], self.numbers[high] = self.numbers[high], self.numbers[low]
            low += 1
            high -= 1
        if self.kind == KVS_BYTES:
            self.blobs[begin:] = self.blobs[begin:][::-1]
        return 0

    def single(self, Py_ssize_t index):
        """Key and value under which an entry is stored on its own."""
        self.check_place(index)
        return _key(self.times[index]), bytes((self.kind << 2 | self.statuses[index],)) + self.payload(index)

    def add_block(self, bytes data, int64_t start=0, uint64_t stop=1 << 63, int status=ANY):
        """The entries of a block from ``start`` to below ``stop`` that have a status (-1: any)."""
        cdef kvs_block block
        cdef uint32_t *lengths = NULL
        cdef int64_t *times
        cdef Py_ssize_t begin = 0, end, i, kept
        cdef const uint8_t *payload
        cdef unsigned own
        _open(&block, data)
        if block.kind != self.kind:
            raise _damaged()
        self.grow(block.count)
        times = self.times + self.count
        if not kvs_read_times(&block, times):
            raise _damaged()
        end = block.count
        while begin < end and times[begin] < start:
            begin += 1
        while end > begin and <uint64_t>times[end - 1] >= stop:
            end -= 1
        if self.kind == KVS_BYTES:
            lengths = <uint32_t *>PyMem_Malloc(block.count * sizeof(uint32_t))
            if lengths == NULL:
                raise MemoryError
        try:
            if lengths != NULL and not kvs_read_lengths(&block, lengths):
                raise _damaged()
            payload = block.payload
            kept = 0
            if lengths == NULL and block.statuses == NULL:
                if status > 0:
                    return
                memcpy(self.numbers + self.count, payload + begin * 8, <size_t>(end - begin) * 8)
                if begin > 0:
                    for i in range(begin, end):
                        times[i - begin] = times[i]
                memset(self.statuses + self.count, 0, <size_t>(end - begin))
                self.count += end - begin
                return
            for i in range(end):
                own = kvs_status(&block, <uint32_t>i)
                if i >= begin and (status == ANY or <int>own == status or
                                   (status == ANY_BUT_DELETED and <int>own != DELETED)):
                    times[kept] = times[i]
                    self.statuses[self.count + kept] = <uint8_t>own
                    self.altered |= own != 0
                    if lengths != NULL:
                        self.blobs.append(PyBytes_FromStringAndSize(<const char *>payload, lengths[i]))
                    else:
                        memcpy(&self.numbers[self.count + kept], payload, 8)
                    kept += 1
                payload += 8 if lengths == NULL else lengths[i]
            self.count += kept
        finally:
            PyMem_Free(lengths)

    def add_columns(self, Columns other):
        """The entries of others behind these."""
        self.grow(other.count)
        memcpy(self.times + self.count, other.times, <size_t>other.count * 8)
        memcpy(self.statuses + self.count, other.statuses, <size_t>other.count)
        if self.kind == KVS_BYTES:
            self.blobs += other.blobs
        else:
            memcpy(self.numbers + self.count, other.numbers, <size_t>other.count * 8)
        self.altered |= other.altered
        self.count += other.count

    def having(self, int status):
        """Those of the entries that have a status (-2: any but deleted)."""
        cdef Columns found = Columns(self.kind)
        cdef bytes payload
        cdef Py_ssize_t i
        for i in range(self.count):
            if <int>self.statuses[i] == status or (status == ANY_BUT_DELETED and <int>self.statuses[i] != DELETED):
                payload = self.payload(i)
                found.add_entry(self.times[i], self.statuses[i], <const uint8_t *>PyBytes_AS_STRING(payload),
                                PyBytes_GET_SIZE(payload))
        return found

    # one entry

    cdef int check_place(self, Py_ssize_t index) except -1:
        if not 0 <= index < self.count:
            raise IndexError(index)
        return 0

    def time(self, Py_ssize_t index):
        """The time of an entry."""
        self.check_place(index)
        return self.times[index]

    def status(self, Py_ssize_t index):
        """The status of an entry."""
        self.check_place(index)
        return self.statuses[index]

    def set_status(self, Py_ssize_t index, int status):
        """Change it."""
        self.check_place(index)
        self.statuses[index] = <uint8_t>(status & 3)
        self.altered = True

    cdef bytes payload(self, Py_ssize_t index):
        """The value of an entry as it is stored."""
        if self.kind == KVS_BYTES:
            return self.blobs[index]
        return PyBytes_FromStringAndSize(<const char *>&self.numbers[index], 8)

    cdef object value(self, Py_ssize_t index):
        cdef double real
        cdef int64_t whole
        if self.kind == KVS_BYTES:
            return self.blobs[index]
        if self.kind == KVS_FLOAT:
            memcpy(&real, &self.numbers[index], 8)
            return real
        memcpy(&whole, &self.numbers[index], 8)
        return whole

    def place(self, int64_t time):
        """How many entries are before a time."""
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) // 2
            if self.times[middle] < time:
                low = middle + 1
            else:
                high = middle
        return low

    def count_statuses(self):
        """How many entries have each status."""
        cdef uint32_t counts[4]
        cdef Py_ssize_t i
        memset(counts, 0, sizeof(counts))
        for i in range(self.count):
            counts[self.statuses[i] & 3] += 1
        return counts[0], counts[1], counts[2], counts[3]

    # to what is stored

    def fitting(self, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t entries, size_t size):
        """The end of a block from ``begin`` on: at most so many entries and (if more than one) bytes of values."""
        cdef Py_ssize_t at = begin
        cdef size_t used = 0
        end = min(end, begin + min(entries, <Py_ssize_t>KVS_COUNT_MAX))
        if self.kind != KVS_BYTES:
            return min(end, begin + max(1, <Py_ssize_t>(size // 8)))
        while at < end:
            used += <size_t>len(<bytes>self.blobs[at])
            if used > size and at > begin:
                break
            at += 1
        return at

    def size(self, Py_ssize_t count):
        """Bytes of the first values."""
        return count * 8 if self.kind != KVS_BYTES else sum(map(len, self.blobs[:count]))

    def block(self, Py_ssize_t begin, Py_ssize_t end, uint64_t before, uint64_t bytes_before):
        """The block of some entries."""
        cdef uint32_t count = <uint32_t>(end - begin)
        cdef uint32_t *lengths = NULL
        cdef const uint8_t *statuses = NULL
        cdef uint8_t *head
        cdef uint8_t *to
        cdef size_t used, total = 0
        cdef Py_ssize_t i
        cdef bytes result
        if not 0 <= begin < end <= self.count or end - begin > <Py_ssize_t>KVS_COUNT_MAX:
            raise IndexError((begin, end))
        for i in range(begin, end):
            if self.statuses[i] != 0:
                statuses = self.statuses + begin
                break
        head = <uint8_t *>PyMem_Malloc(kvs_head_bound(count) + (count * sizeof(uint32_t) if self.kind == KVS_BYTES else 0))
        if head == NULL:
            raise MemoryError
        try:
            if self.kind == KVS_BYTES:
                lengths = <uint32_t *><void *>head  # at the end they would have to be aligned
                for i in range(count):
                    total += <size_t>len(<bytes>self.blobs[begin + i])
                    lengths[i] = <uint32_t>len(<bytes>self.blobs[begin + i])
                to = head + count * sizeof(uint32_t)
            else:
                total = <size_t>count * 8
                to = head
            used = kvs_write_head(to, self.kind, before, bytes_before, count, self.times + begin, statuses, lengths)
            result = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(used + total))
            memcpy(PyBytes_AS_STRING(result), to, used)
            to = <uint8_t *>PyBytes_AS_STRING(result) + used
            if self.kind != KVS_BYTES:
                memcpy(to, self.numbers + begin, total)
            else:
                for i in range(count):
                    memcpy(to, PyBytes_AS_STRING(<bytes>self.blobs[begin + i]), lengths[i])
                    to += lengths[i]
            return result
        finally:
            PyMem_Free(head)

    # to the user

    def pairs(self):
        """(time, value) of each entry."""
        cdef Py_ssize_t i
        return [(self.times[i], self.value(i)) for i in range(self.count)]

    def triples(self):
        """(time, value, status) of each entry."""
        cdef Py_ssize_t i
        return [(self.times[i], self.value(i), self.statuses[i]) for i in range(self.count)]

    def take(self):
        """The times and the values, as two columns (values that are bytes: a list); they are no longer here then."""
        cdef Column times = Column()
        cdef Column numbers = Column()
        cdef list blobs = self.blobs
        times.data, times.count = self.times, self.count
        numbers.data, numbers.count = self.numbers, self.count
        self.times = NULL
        self.numbers = NULL
        self.count = self.capacity = 0
        if self.kind != KVS_BYTES:
            return times, numbers
        self.blobs = []
        return times, blobs


cdef bint _has_code(const char *format, char code) noexcept:
    """Whether a buffer's items are of a type; `l` is as good as `q` where it has 8 bytes."""
    if format == NULL:
        return False
    if format[0] in (b"=", b"<", b"@"):
        format += 1
    return format[1] == 0 and (format[0] == code or (code == b"q" and format[0] == b"l"))
