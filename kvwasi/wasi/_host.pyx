# cython: language_level=3, boundscheck=False, embedsignature=True
"""The C data plane as Python objects, and the capsule through which other extension modules reach it."""

import errno as _errno
import importlib.util
import os
import sys

from kvwasi.wasi.errors import UnsupportedWasmtimeError

from cpython.pycapsule cimport PyCapsule_New
from libc.stdint cimport int64_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy


cdef extern from "sys/types.h":
    ctypedef long ssize_t


cdef extern from "sys/uio.h":
    cdef struct iovec:
        void *iov_base
        size_t iov_len


cdef extern from "wasmtime_abi.h":
    ctypedef struct wasmtime_error_t
    ctypedef struct wasmtime_linker_t
    ctypedef struct wasmtime_context_t
    ctypedef struct wasmtime_memory_t:
        pass
    ctypedef struct wasm_byte_vec_t:
        size_t size
        char *data
    ctypedef struct kvw_wasmtime:
        void (*wasmtime_error_message)(const wasmtime_error_t *, wasm_byte_vec_t *) noexcept nogil
        void (*wasmtime_error_delete)(wasmtime_error_t *) noexcept nogil
        void (*wasm_byte_vec_delete)(wasm_byte_vec_t *) noexcept nogil
    bint kvw_wasmtime_load(kvw_wasmtime *, const char *, char *, size_t) noexcept
    bint kvw_wasmtime_self_test(const kvw_wasmtime *, char *, size_t) noexcept nogil


cdef extern from "os.h":
    bint KVW_OS_LINUX
    bint kvw_os_refills


cdef extern from "host_internal.h":
    const char *KVW_API_CAPSULE
    uint32_t KVW_PREOPEN_READ_ONLY
    uint32_t KVW_PREOPEN_EXCLUSIVE
    ctypedef enum kvw_defer:
        KVW_DEFER_NOTHING
        KVW_DEFER_TO_DEVICE
    ctypedef struct kvw_api:
        int (*datasync)(kvw_host *, uint32_t) noexcept nogil
        void (*defer_writes)(kvw_host *, kvw_defer) noexcept nogil
        int (*settle)(kvw_host *) noexcept nogil
        bint (*has_room)(kvw_host *, bint) noexcept nogil
        int (*read)(kvw_host *, uint32_t, uint64_t, void *, size_t, size_t *) noexcept nogil
    ctypedef struct kvw_stream:
        ssize_t (*read)(void *, void *, size_t) noexcept nogil
        ssize_t (*write)(void *, const void *, size_t) noexcept nogil
        void *context
    ctypedef struct kvw_storage_call:
        int operation
        int os_fd
        int os_fd2
        uint32_t flags
        uint64_t offset
        uint64_t length
        const iovec *parts
        int part_count
        const char *path
        const char *path2
    ctypedef struct kvw_storage_hook:
        void *context
        int (*before)(void *, kvw_storage_call *) noexcept nogil
        void (*after)(void *, const kvw_storage_call *, int64_t, int) noexcept nogil
    ctypedef struct kvw_host:
        bint walk_only
        const kvw_storage_hook *hook
    void kvw_host_default_hook(const kvw_storage_hook *) noexcept
    void kvw_host_use_library(const kvw_wasmtime *) noexcept
    void kvw_host_api(kvw_api *) noexcept
    kvw_host *kvw_host_new() noexcept
    void kvw_host_close(kvw_host *) noexcept nogil
    void kvw_host_free(kvw_host *) noexcept nogil
    int kvw_host_preopen(kvw_host *, const char *, const char *, uint32_t) noexcept nogil
    wasmtime_error_t *kvw_host_define(kvw_host *, wasmtime_linker_t *) noexcept nogil
    void kvw_host_attach(kvw_host *, wasmtime_context_t *, const wasmtime_memory_t *) noexcept
    int kvw_host_stdio_fd(kvw_host *, uint32_t, int, bint) noexcept
    int kvw_host_stdio_stream(kvw_host *, uint32_t, const kvw_stream *, bint) noexcept


cdef kvw_wasmtime _wasmtime
cdef kvw_api _the_api


def _find_library():
    """Path of the library that ``import wasmtime`` would load, without the 50 ms of importing it."""
    spec = importlib.util.find_spec("wasmtime")
    if spec is None or not spec.submodule_search_locations:
        raise UnsupportedWasmtimeError("the package wasmtime is not installed")
    platform = "android" if hasattr(sys, "getandroidapilevel") else sys.platform
    name = "_libwasmtime.dylib" if platform == "darwin" else "_libwasmtime.so"
    machine = os.uname().machine
    machine = {"AMD64": "x86_64", "arm64": "aarch64", "ARM64": "aarch64"}.get(machine, machine)
    path = os.path.join(list(spec.submodule_search_locations)[0], f"{platform}-{machine}", name)
    if not os.path.exists(path):
        raise UnsupportedWasmtimeError(f"the package wasmtime has no library for this machine: {path}")
    return path


cdef str _load():
    cdef char message[512]
    path = _find_library()
    if not kvw_wasmtime_load(&_wasmtime, os.fsencode(path), message, sizeof(message)):
        raise UnsupportedWasmtimeError(
            f"kvwasi needs wasmtime 50: {(<bytes> message).decode('utf-8', 'replace')}")
    kvw_host_use_library(&_wasmtime)
    kvw_host_api(&_the_api)
    return path


LINUX_CALLS = bool(KVW_OS_LINUX)  # False: only what POSIX has (``native/os_posix.c``)


def refills_return_stack(wanted=None):
    """Whether the processor's return stack is refilled after each system call (``native/os.c``).

    ``wanted``, if given, sets it for this process. What it was before.
    """
    global kvw_os_refills
    was = bool(kvw_os_refills)
    if wanted is not None:
        kvw_os_refills = wanted
    return was


library_path = _load()
_api = PyCapsule_New(&_the_api, KVW_API_CAPSULE, NULL)


def self_test():
    """Prove that the loaded library has the layouts that this module was built for.

    Raises UnsupportedWasmtimeError otherwise.
    """
    cdef char message[512]
    cdef bint passed
    with nogil:
        passed = kvw_wasmtime_self_test(&_wasmtime, message, sizeof(message))
    if not passed:
        raise UnsupportedWasmtimeError(
            f"{library_path}: {(<bytes> message).decode('utf-8', 'replace')}")


cdef str _message_of(wasmtime_error_t *error):
    cdef wasm_byte_vec_t text
    _wasmtime.wasmtime_error_message(error, &text)
    message = text.data[:text.size].decode("utf-8", "replace")
    _wasmtime.wasm_byte_vec_delete(&text)
    _wasmtime.wasmtime_error_delete(error)
    return message


cdef int _raise(int error, path=None) except -1:
    if error:
        raise OSError(error, os.strerror(error), path)
    return 0


cdef class _Stream:
    """A file object in the place of a descriptor, and the exception that it raised."""

    cdef object file
    cdef object pending
    cdef bint text

    def __cinit__(self, file):
        self.file = file
        # Text files are known by their encoding; both io.StringIO and the captures of test runners have one.
        self.text = hasattr(file, "encoding")

    cdef ssize_t fail(self, error) noexcept:
        self.pending = error
        if isinstance(error, OSError) and error.errno:
            return -(<ssize_t> error.errno)
        return -(<ssize_t> _errno.EIO)


cdef ssize_t _stream_read(void *context, void *to, size_t length) noexcept with gil:
    cdef _Stream stream = <_Stream> context
    cdef const unsigned char[::1] view
    try:
        if stream.text:
            # at most four bytes a character
            data = stream.file.read(max(1, length // 4)).encode(stream.file.encoding or "utf-8")
        elif hasattr(stream.file, "read1"):
            data = stream.file.read1(length)
        else:
            data = stream.file.read(length)
        if not data:
            return 0
        view = data
        if <size_t> view.shape[0] > length:
            raise ValueError("the file object read more than it was asked for")
        memcpy(to, &view[0], view.shape[0])
        return view.shape[0]
    except BaseException as error:
        return stream.fail(error)


cdef ssize_t _stream_write(void *context, const void *source, size_t length) noexcept with gil:
    cdef _Stream stream = <_Stream> context
    try:
        data = (<const char *> source)[:length]
        if stream.text:
            stream.file.write(data.decode(stream.file.encoding or "utf-8", "replace"))
            return <ssize_t> length
        written = stream.file.write(data)
        return <ssize_t> length if written is None else <ssize_t> written
    except BaseException as error:
        return stream.fail(error)


# As kvw_storage_operation numbers them.
OPERATIONS = (
    "open", "close", "read", "write", "truncate", "allocate", "sync", "datasync", "link", "rename", "unlink",
    "symlink", "create_directory", "remove_directory",
)
cdef enum:
    OPERATION_WRITE = 3


cdef object _call_tuple(const kvw_storage_call *call):
    """The fields of kvwasi.wasi.trace.StorageCall."""
    cdef int i
    data = None
    if call.operation == OPERATION_WRITE:
        data = b"".join([
            (<const char *> call.parts[i].iov_base)[:call.parts[i].iov_len] for i in range(call.part_count)
        ])
    return (
        OPERATIONS[call.operation],
        call.os_fd,
        call.os_fd2 if call.path2 != NULL else None,
        call.flags,
        None if call.offset == <uint64_t> -1 else call.offset,
        call.length,
        data,
        os.fsdecode(<bytes> call.path) if call.path != NULL else None,
        os.fsdecode(<bytes> call.path2) if call.path2 != NULL else None,
    )


cdef int _hook_before(void *context, kvw_storage_call *call) noexcept with gil:
    cdef Hook hook = <Hook> context
    try:
        error, length = hook.before(_call_tuple(call))
        if length is not None and <uint64_t> length < call.length:
            call.length = length
        return error
    except BaseException as failure:
        hook.pending = failure
        return _errno.EIO


cdef void _hook_after(void *context, const kvw_storage_call *call, int64_t result, int error) noexcept with gil:
    cdef Hook hook = <Hook> context
    try:
        hook.after(_call_tuple(call), result, error)
    except BaseException as failure:
        hook.pending = failure


cdef class Hook:
    """Python's side of the hook around storage calls: see kvwasi.wasi.trace."""

    cdef kvw_storage_hook _hook
    cdef object before
    cdef object after
    cdef readonly object pending

    def __cinit__(self, before, after):
        self.before = before
        self.after = after
        self._hook.context = <void *> self
        self._hook.before = _hook_before
        self._hook.after = _hook_after


_default_hooks = []  # for good: hosts that outlive their hook's owner may still call it


def hook_new_hosts(Hook hook):
    """Give ``hook`` (or None) to every host made from now on."""
    if hook is None:
        kvw_host_default_hook(NULL)
        return
    _default_hooks.append(hook)
    kvw_host_default_hook(&hook._hook)


cdef class Host:
    """The descriptor table of one guest. ``kvwasi.wasi.Wasi`` is its public face."""

    cdef kvw_host *_host
    cdef list _streams
    cdef Hook _hook

    def __cinit__(self):
        self._streams = []
        self._host = kvw_host_new()
        if self._host == NULL:
            raise MemoryError

    def __dealloc__(self):
        if self._host != NULL:
            kvw_host_free(self._host)

    def close(self):
        """Close every descriptor. What a linker still holds of the host answers EBADF."""
        with nogil:
            kvw_host_close(self._host)

    def preopen(self, host_path, guest_path, *, bint write, bint exclusive):
        """Open a directory for the guest. Raises OSError."""
        cdef bytes host_bytes = os.fsencode(host_path)
        cdef bytes guest_bytes = os.fsencode(guest_path)
        if b"\0" in host_bytes or b"\0" in guest_bytes:
            raise ValueError("a path has no NUL byte")
        cdef const char *host_c = host_bytes
        cdef const char *guest_c = guest_bytes
        cdef int error
        cdef uint32_t flags = (0 if write else KVW_PREOPEN_READ_ONLY) | (KVW_PREOPEN_EXCLUSIVE if exclusive else 0)
        with nogil:
            error = kvw_host_preopen(self._host, host_c, guest_c, flags)
        _raise(error, host_path)

    def stdio_fd(self, uint32_t guest_fd, int os_fd, *, bint owned=False):
        """Give the guest a duplicate of ``os_fd``, or, if ``owned``, itself, as descriptor 0, 1 or 2."""
        _raise(kvw_host_stdio_fd(self._host, guest_fd, os_fd, owned))

    def stdio_file(self, uint32_t guest_fd, file, *, bint read, bint write, bint terminal):
        """Give the guest a file object as descriptor 0, 1 or 2."""
        cdef _Stream stream = _Stream(file)
        cdef kvw_stream calls
        calls.read = NULL
        calls.write = NULL
        if read:
            calls.read = _stream_read
        if write:
            calls.write = _stream_write
        calls.context = <void *> stream
        self._streams.append(stream)
        _raise(kvw_host_stdio_stream(self._host, guest_fd, &calls, terminal))

    def pending_exception(self):
        """The exception that a file object raised since the last call, or None."""
        cdef _Stream stream
        for stream in self._streams:
            if stream.pending is not None:
                error = stream.pending
                stream.pending = None
                return error
        return None

    def define(self, uintptr_t linker):
        """Define the file calls in a ``wasmtime_linker_t``. Raises RuntimeError with wasmtime's message."""
        cdef wasmtime_error_t *error
        with nogil:
            error = kvw_host_define(self._host, <wasmtime_linker_t *> linker)
        if error != NULL:
            raise RuntimeError(_message_of(error))

    def attach(self, uintptr_t context, uintptr_t memory):
        """Name the memory of the one instance that uses this host, and its store's context, by address."""
        kvw_host_attach(self._host, <wasmtime_context_t *> context, <const wasmtime_memory_t *> memory)

    def set_hook(self, Hook hook):
        """Have ``hook`` called around every storage call, or none. Not while the guest runs."""
        self._hook = hook
        if hook is None:
            self._host.hook = NULL
        else:
            self._host.hook = &hook._hook

    def resolve_by_walking(self, bint always):
        """Resolve paths component by component even where the OS has openat2."""
        self._host.walk_only = always

    def read(self, uint32_t guest_fd, uint64_t offset, size_t length):
        """``kvw_api.read``: up to ``length`` bytes of the file behind a guest's descriptor. Raises OSError."""
        cdef bytearray buffer = bytearray(length)
        cdef unsigned char[::1] view = buffer
        cdef size_t got = 0
        cdef int error
        cdef void *to = &view[0] if length else NULL
        with nogil:
            error = _the_api.read(self._host, guest_fd, offset, to, length, &got)
        _raise(error)
        del view
        return bytes(buffer[:got])

    def defer_writes(self, bint on):
        """``kvw_api.defer_writes``, to the device."""
        _the_api.defer_writes(self._host, KVW_DEFER_TO_DEVICE if on else KVW_DEFER_NOTHING)

    def settle(self):
        """``kvw_api.settle``. Raises OSError."""
        cdef int error
        with nogil:
            error = _the_api.settle(self._host)
        _raise(error)

    def has_room(self, bint wait):
        """``kvw_api.has_room``."""
        cdef bint room
        with nogil:
            room = _the_api.has_room(self._host, wait)
        return room

    def datasync(self, uint32_t guest_fd):
        """``kvw_api.datasync``. Raises OSError."""
        cdef int error
        with nogil:
            error = _the_api.datasync(self._host, guest_fd)
        _raise(error)
