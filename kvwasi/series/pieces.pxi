# Entries of their own, what a block says of itself, and arrays to be handed over.

cdef enum:
    KEY_BYTES = 9

cdef struct Single:
    char key[KEY_BYTES]
    char number[1 + 8]
    const char *data  # under the key: the number, or bytes that somebody else holds
    Py_ssize_t length


cdef inline void _set_key(char *to, int64_t time) noexcept:
    """The key of an entry of its own: ``SINGLE`` of the layout, and the time, big-endian."""
    cdef int i
    to[0] = 3
    for i in range(8):
        to[8 - i] = <char>(time >> 8 * i)


cdef bytes _key(int64_t time):
    cdef char key[KEY_BYTES]
    _set_key(key, time)
    return PyBytes_FromStringAndSize(key, KEY_BYTES)


cdef bytes _set_data(Single *single, int kind, object value):
    """The value under which a new entry is stored on its own: its status and kind stand before it. Returns who holds it."""
    cdef bytes payload, held
    cdef double real
    cdef int64_t whole
    if kind == KVS_BYTES:
        payload = as_bytes(value)
        held = bytes((kind << 2,)) + payload
        single.data = PyBytes_AS_STRING(held)
        single.length = PyBytes_GET_SIZE(held)
        return held
    if kind == KVS_FLOAT:
        real = PyFloat_AsDouble(value)
        memcpy(single.number + 1, &real, 8)
    else:
        whole = _whole(value)
        memcpy(single.number + 1, &whole, 8)
    single.number[0] = <char>(kind << 2)
    single.data = single.number
    single.length = sizeof(single.number)
    return None


cdef int64_t _whole(object value) except? -1:
    try:
        return PyLong_AsLongLong(PyNumber_Index(value))
    except OverflowError:
        raise ValueError(f"a series stores whole numbers of 64 bits, not {value}") from None


cdef class Header:
    """What a block says of itself. Its entries are read by :class:`Columns`."""

    cdef readonly int kind
    cdef readonly uint32_t count
    cdef readonly uint64_t before, bytes_before
    cdef readonly int64_t first, last
    cdef readonly bint altered
    cdef readonly size_t size

    def __init__(self, bytes data):
        cdef kvs_block block
        _open(&block, data)
        self.kind = block.kind
        self.count = block.count
        self.before = block.before
        self.bytes_before = block.bytes_before
        self.first = block.first
        self.last = block.last
        self.altered = block.statuses != NULL
        self.size = <size_t>PyBytes_GET_SIZE(data)


@cython.final
cdef class Column:
    """Numbers of 8 bytes that NumPy can take without a copy."""

    cdef void *data
    cdef Py_ssize_t count

    def __dealloc__(self):
        PyMem_Free(self.data)

    def __len__(self):
        return self.count

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.count * 8, 0, flags)

    def __releasebuffer__(self, Py_buffer *view):
        pass
