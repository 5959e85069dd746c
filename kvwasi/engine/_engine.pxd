"""The engine's C layer (native/*.h), and the types of the extension module."""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t


cdef extern from "kv_guest.h" nogil:
    enum:
        KV_KEY_MAX, KV_VALUE_MAX, KV_INLINE_MAX, KV_DATA_CAPACITY
        KV_OK, KV_NOT_FOUND, KV_EXISTS, KV_NEEDS_SYNC, KV_KEY_EMPTY, KV_KEY_TOO_LARGE, KV_VALUE_TOO_LARGE
        KV_POISONED, KV_NO_MEMORY, KV_NO_SUCH_TABLE, KV_TOO_MANY_CURSORS
        KV_OPEN_READ_ONLY, KV_OPEN_CREATE, KV_OPEN_REPLACE, KV_OPEN_SHARED
        KV_NO_OVERWRITE, KV_APPEND, KV_IN_TRANSACTION, KV_DURABLE
        KV_VIEW_PUBLISHED, KV_VIEW_TRANSACTION, KV_VIEW_SNAPSHOT, KV_VIEW_MAY_GUESS
        KV_WHERE_FILE, KV_WHERE_MEMORY, KV_WHERE_MISSING, KV_WHERE_OLDER
    ctypedef struct kv_value_ref:
        uint64_t offset
        uint32_t length
        uint32_t sum
        uint32_t where
    ctypedef struct kv_entry:
        kv_value_ref value
        uint32_t key_length
    ctypedef struct kv_put_entry:
        uint32_t key_length
        uint32_t value_length
    ctypedef struct kv_problem:
        uint64_t offset
        uint32_t detail
        uint32_t key_length
        uint8_t key[48]
    ctypedef struct kv_guest_stats_result:
        uint64_t keys
        uint64_t file_bytes
        uint64_t live_bytes
        uint64_t sectors
        uint64_t sector_bytes
        uint64_t commits
        uint64_t durable_position
        uint64_t end_position
        uint64_t index_nodes
        uint64_t index_height
        uint64_t memory_bytes
        uint64_t recovered_commits
        uint64_t discarded_bytes
        uint64_t cursors
        uint64_t erase_max
        uint64_t format_version
        uint64_t snapshots
        uint64_t cached_nodes
        uint64_t changed_nodes
        uint64_t node_loads
        uint64_t tail_bytes
        uint64_t tail_records
        uint64_t checkpoint
        uint64_t cache_bytes
        uint64_t erases
        uint64_t sectors_free
        uint64_t pinned_bytes
        uint64_t database_id
        uint64_t generation


cdef extern from "wasmtime_abi.h" nogil:
    ctypedef struct wasm_byte_vec_t:
        size_t size
        char *data
    ctypedef struct kvw_wasmtime:
        void (*wasm_byte_vec_delete)(wasm_byte_vec_t *)


cdef extern from "host_api.h" nogil:
    const char *KVW_API_CAPSULE
    enum:
        KVW_API_VERSION
    ctypedef struct kvw_api:
        uint32_t version
        const kvw_wasmtime *wasmtime


cdef extern from "checksum.h" nogil:
    uint64_t kv_xxh64(const void *data, size_t length, uint64_t seed)


cdef extern from "runtime.h" nogil:
    enum:
        KVE_MESSAGE_SIZE
    ctypedef struct kve_runtime:
        void *module
        int64_t memory_limit
        uint64_t seed
        bint no_flushers
    kve_runtime kve_the_runtime
    bint kve_runtime_load(const kvw_wasmtime *, const void *compiled, size_t length)
    bint kve_runtime_compile(const kvw_wasmtime *, const void *wasm, size_t length, char *message)
    bint kve_runtime_serialize(const kvw_wasmtime *, wasm_byte_vec_t *out)


cdef extern from "session.h" nogil:
    enum:
        KVE_HOST_IO, KVE_CLOSED, KVE_FORKED, KVE_BROKEN, KVE_OWN_TRANSACTION, KVE_MUST_WAIT, KVE_SLICE, KVE_ENDED, KVE_UNPINNED
    ctypedef struct kve_failure:
        uint64_t position
        uint32_t detail
        int32_t os_error
    ctypedef struct kve_region:
        pass
    ctypedef struct kve_waiter:
        bint granted
    ctypedef struct kve_session:
        bint open
        bint closing
        bint read_only
        bint still
        uint64_t lives
        uint64_t held_count
        uint64_t transaction
        uint64_t changes
        uint64_t files
        unsigned int flush_waiters
        char *message
    kve_session *kve_session_new(const kvw_api *, const char *directory, bint read_only, int *os_error,
                                 char *message)
    bint kve_session_revive(kve_session *, const char *directory, int *os_error, char *message)
    void kve_session_revived(kve_session *)
    void kve_session_abandon(kve_session *)
    void kve_session_drop(kve_session *)
    void kve_session_free(kve_session *)
    int kve_watch_forks()
    int kve_alive(const kve_session *)
    int kve_usable(const kve_session *)
    bint kve_try_lock(kve_session *)
    void kve_lock(kve_session *)
    void kve_unlock(kve_session *)
    void kve_want_lock(kve_session *)
    void kve_got_lock(kve_session *)
    void kve_wait_lock(kve_session *)
    void kve_drop_cursor(kve_session *, uint32_t handle, uint64_t transaction)
    void kve_drop_snapshot(kve_session *, uint32_t handle)
    void kve_drop_transaction(kve_session *, uint64_t transaction)
    int kve_writer_check(const kve_session *, uint64_t thread)
    void kve_waiter_init(kve_waiter *)
    int kve_writer_wait(kve_session *, kve_waiter *, uint64_t thread, uint64_t deadline_ns)
    void kve_writer_abandon(kve_session *, kve_waiter *)
    void kve_writer_release(kve_session *)
    uint32_t kve_writers_waiting(const kve_session *)
    uint64_t kve_now_ns()
    int kve_flush_until(kve_session *, uint64_t position, kve_failure *)
    int kve_sync(kve_session *, kve_failure *)
    void kve_regions_trim(kve_session *, bint all)
    int kve_flusher_start(kve_session *, uint32_t interval_ms)
    bint kve_wants_pause(kve_session *)
    void kve_pause()
    bint kve_wants_throttle(const kve_session *)
    void kve_throttle(kve_session *)
    bint kve_take_flush_wish(kve_session *)


cdef extern from "verbs.h" nogil:
    const uint8_t *kve_region_take(kve_session *, const kv_value_ref *, kve_region **)
    void kve_region_release(kve_session *, kve_region *)
    int kve_verify_small(kve_session *, const kv_value_ref *, kve_failure *)
    int kve_verify_large(kve_session *, const kv_value_ref *, kve_failure *)
    ctypedef enum kve_savepoint_step:
        KVE_SAVEPOINT_BEGIN, KVE_SAVEPOINT_RELEASE, KVE_SAVEPOINT_ROLLBACK
    ctypedef struct kve_range:
        const void *start
        const void *stop
        uint32_t start_length
        uint32_t stop_length
        bint reverse
        uint64_t since
    int kve_get(kve_session *, uint32_t table, const void *key, uint32_t key_length, uint32_t view, kv_value_ref *,
                kve_failure *)
    int kve_get_many(kve_session *, uint32_t table, const void *keys, uint32_t bytes, uint32_t count, uint32_t view,
                     const kv_value_ref **, kve_failure *)
    int kve_count(kve_session *, uint32_t table, uint32_t view, uint64_t *, kve_failure *)
    ctypedef struct kve_write:
        const void *key
        const void *value
        uint32_t key_length
        uint32_t value_length
        uint32_t table
        uint32_t flags
        bint remove
    int kve_apply(kve_session *, const kve_write *, kve_failure *)
    int kve_put_many(kve_session *, uint64_t transaction, uint32_t table, const void *entries, uint32_t bytes,
                     uint32_t count, kve_failure *)
    int kve_cursor_open(kve_session *, uint32_t table, const kve_range *, uint32_t view, uint32_t *handle, kve_failure *)
    int kve_cursor_next(kve_session *, uint32_t handle, uint32_t limit, uint32_t *count, kve_failure *)
    int kve_cursor_count(kve_session *, uint32_t handle, uint32_t leaves, uint64_t *count, kve_failure *)
    void kve_cursor_close(kve_session *, uint32_t handle)
    const kv_entry *kve_entry_at(kve_session *, uint32_t *offset, const uint8_t **key)
    void kve_prefetch(kve_session *, const kv_value_ref *)
    int kve_read(kve_session *, const kv_value_ref *, void *to, kve_failure *)
    int kve_verify(const kv_value_ref *, const void *value, kve_failure *)
    int kve_read_large(kve_session *, const kv_value_ref *, void *to, kve_failure *)
    int kve_write_commit(kve_session *, uint64_t thread, bint turn, const kve_write *, kve_failure *)
    int kve_txn_begin(kve_session *, uint64_t *transaction, kve_failure *)
    int kve_txn_commit(kve_session *, uint64_t transaction, bint durable, kve_failure *)
    int kve_txn_rollback(kve_session *, uint64_t transaction, kve_failure *)
    int kve_delete_range(kve_session *, uint64_t transaction, uint32_t table, const kve_range *, uint64_t *count,
                         kve_failure *)
    int kve_value_write(kve_session *, uint64_t transaction, uint32_t table, const void *key,
                        uint32_t key_length, const void *value, uint32_t value_length, uint32_t flags, kve_failure *)
    int kve_table_find(kve_session *, const void *name, uint32_t length, uint32_t view, uint32_t *table, kve_failure *)
    int kve_table_create(kve_session *, const void *name, uint32_t length, uint32_t *table, kve_failure *)
    int kve_table_names(kve_session *, const void *after, uint32_t length, uint32_t view, uint32_t *count,
                        kve_failure *)
    int kve_table_make(kve_session *, const void *name, uint32_t length, bint durable, uint32_t *table, kve_failure *)
    int kve_table_drop(kve_session *, uint64_t transaction, const void *name, uint32_t length, kve_failure *)
    int kve_savepoint(kve_session *, uint64_t transaction, kve_savepoint_step step, kve_failure *)
    int kve_snapshot_open(kve_session *, uint32_t *handle, kve_failure *)
    void kve_snapshot_close(kve_session *, uint32_t handle)
    int kve_value_copy(kve_session *, const kv_value_ref *, kve_session *to, uint64_t transaction, uint32_t table,
                       const void *key, uint32_t key_length, int *reading, kve_failure *)
    int kve_open(kve_session *, const char *name, uint32_t name_length, uint32_t flags, uint32_t sector_bytes,
                 uint64_t cache_bytes, kve_failure *)
    int kve_close(kve_session *, kve_failure *)
    int kve_refresh(kve_session *, bint replaced, bint *moved, kve_failure *)
    int kve_stats(kve_session *, kv_guest_stats_result *, uint64_t *age_ns, uint64_t *readers_age_ns, kve_failure *)
    int kve_check(kve_session *, kv_problem **, size_t *count, kve_failure *)
    int kve_compact(kve_session *, kve_failure *)


cdef struct Bytes:
    const char *start
    Py_ssize_t length
    bint held  # by `buffer`
    Py_buffer buffer


cdef class Session:
    cdef kve_session *c
    cdef readonly str path
    cdef readonly bint durable
    cdef object timeout
    cdef bint opened
    cdef bytes directory   # and the rest of what it takes to open it again
    cdef bytes name
    cdef uint32_t open_flags
    cdef readonly uint64_t cache_bytes
    cdef Py_ssize_t views  # of values, that are in use
    cdef object view_pin   # a SnapshotVerbs that keeps what the last of them shows
    cdef public object on_fork  # called in a child process when the session is used there: opens it again
    cdef int not_started(self, int os_error, const char *message) except -1
    cdef int start(self, uint32_t sector_bytes) except -1
    cdef object error(self, int status, const kve_failure *failure)
    cdef object views_open(self)
    cdef int check_alive(self) except -1
    cdef int enter(self) except -1
    cdef int take_turn(self) except -1
    cdef int leave_turn(self) noexcept


@cython.no_gc_clear
cdef class Reads:
    cdef readonly Session _session
    cdef kve_session *c
    cdef uint32_t view
    cdef uint32_t table    # number of the table, 0: the default one
    cdef uint32_t flags
    cdef bint plain        # a store's default table: nothing but the session can end
    cdef bint ended        # by a call that ends the transaction or the snapshot
    cdef uint32_t undone   # how often what tables there are may have been undone
    cdef uint32_t seen     # of that, by the last look at the name
    cdef uint64_t transaction
    cdef uint64_t life     # of the session, when a snapshot was taken
    cdef Reads of          # what it is a table of
    cdef bytes name        # of the table, None: the default one
    cdef int enter(self) except -1
    cdef int standing(self, kve_failure *failure) noexcept
    cdef int look_up(self, kve_failure *failure) noexcept
    cdef bint is_empty(self, int status) noexcept
    cdef object fetch(self, object key, object default, bint strict)
    cdef object fetch_large(self, object key)


@cython.no_gc_clear
cdef class Verbs(Reads):
    cdef int need_table(self) except -1
    cdef int store(self, object key, object value, uint32_t flags) except -1
    cdef int store_bytes(self, const char *key, Py_ssize_t key_length, const char *value, Py_ssize_t value_length,
                         uint32_t flags) except -1
    cdef int apply(self, kve_write *write) except -1
    cdef int apply_inside(self, kve_write *write, kve_failure *failure) except -1
    cdef int apply_outside(self, kve_write *write, kve_failure *failure) except -1
    cdef int store_large(self, const char *key, uint32_t key_length, const char *value, uint32_t value_length,
                         uint32_t flags) except -1
    cdef int remove(self, object key) except -1


cdef class EntryIterator:
    cdef Reads owner
    cdef kve_session *c
    cdef int what
    cdef bint digesting
    cdef readonly uint64_t digest
    cdef uint32_t handle
    cdef uint64_t life     # of the session
    cdef bint is_open
    cdef Py_ssize_t left
    cdef uint32_t batch
    cdef uint32_t position
    cdef uint32_t filled
    cdef uint32_t packed
    cdef uint32_t capacity
    cdef PyObject **keys
    cdef PyObject **values
    cdef kv_value_ref *refs
    cdef int enter(self) except -1
    cdef int refill(self) except -1
    cdef int reserve(self, uint32_t wanted) except -1
    cdef int take_entries(self, uint32_t count) noexcept
    cdef bint take_value(self, uint32_t at, uint64_t *budget) noexcept
    cdef object late_value(self, uint32_t at)
    cdef int read_late(self, uint32_t at, char *to) except -1
    cdef int take_packed(self, uint32_t count, kve_failure *failure) noexcept
    cdef object late_packed(self)
