/* The engine for C programs: include/kvwasi.h over src/. What the WASI host and Python's layer do for Python is done here: the
 * lock between processes, the flush behind a commit, values read from the file and compared with their checksum. */
#include "kvwasi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "checksum.h"
#include "db.h"

struct kvwasi {
    kv_db *db;
    int lock;
    bool no_sync;
    int os_error;
};

/* Make a call again and again while it is done a step at a time. */
#define WHOLE(status, call)   \
    do {                      \
        (status) = (call);    \
    } while ((status) == KV_AGAIN)

enum { BATCH_BYTES = 1 << 16, LOCK_SUFFIX_BYTES = 6 };

static kv_status fail(kvwasi *store, kv_status status) {
    if (status >= KV_INVALID) {
        store->os_error = store->db != NULL && store->db->error.os_error != 0 ? store->db->error.os_error : errno;
        if (store->db != NULL) store->db->error = (kv_error){0};
    }
    return status;
}

/* ---- opening and closing ---- */

/* Nobody writes meanwhile: Python's kvwasi, which lets readers be beside a writer, has an exclusive lock on this byte when it writes. */
static kv_status keep_writers_out(int lock) {
#ifdef F_OFD_SETLK
    struct flock request = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = INT64_MAX - 1, .l_len = 1};
    if (fcntl(lock, F_OFD_SETLK, &request) == 0) return KV_OK;
    return errno == EAGAIN || errno == EACCES ? KV_BUSY : KV_IO;
#else
    (void)lock; /* no such locks, and no such readers */
    return KV_OK;
#endif
}

/* The lock that Python's kvwasi takes, too: flock on `<real path>-lock`, which is never deleted and holds the writer's id. Alone to write:
 * this knows of no readers beside it. */
static kv_status take_lock(kvwasi *store, const char *path, bool exclusive) {
    char name[KV_PATH_MAX + LOCK_SUFFIX_BYTES];
    char *real = realpath(path, NULL);
    (void)snprintf(name, sizeof name, "%s-lock", real != NULL ? real : path);
    free(real);
    store->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (store->lock < 0 && !exclusive) {
        store->lock = open(name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (store->lock < 0 && errno == ENOENT) return KV_OK; /* where nobody can write, nobody does */
    }
    if (store->lock < 0) return errno == ENOENT ? KV_NO_SUCH_FILE : KV_IO;
    if (flock(store->lock, (exclusive ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0) return errno == EWOULDBLOCK ? KV_BUSY : KV_IO;
    if (!exclusive) return keep_writers_out(store->lock);
    char text[24];
    int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
    bool told = ftruncate(store->lock, 0) == 0 && pwrite(store->lock, text, (size_t)length, 0) == length;
    return told ? KV_OK : KV_IO;
}

static void give_up(kvwasi *store) {
    kv_db_free(store->db);
    if (store->lock >= 0) {
        (void)flock(store->lock, LOCK_UN);
        (void)close(store->lock);
    }
    free(store);
}

kv_status kvwasi_open(const char *path, uint32_t flags, kvwasi **opened) {
    *opened = NULL;
    if (strlen(path) >= KV_PATH_MAX || (flags & ~(KVWASI_READ_ONLY | KVWASI_CREATE | KVWASI_NO_SYNC)) != 0) return KV_INVALID;
    kvwasi *store = calloc(1, sizeof *store);
    if (store == NULL) return KV_NO_MEMORY;
    store->lock = -1;
    store->no_sync = flags & KVWASI_NO_SYNC;
    bool read_only = flags & KVWASI_READ_ONLY;
    kv_status status = read_only && access(path, F_OK) != 0 ? KV_NO_SUCH_FILE : take_lock(store, path, !read_only);
    if (status == KV_OK) {
        uint32_t how = (read_only ? KV_OPEN_READ_ONLY : 0) | (flags & KVWASI_CREATE ? KV_OPEN_CREATE : 0);
        kv_open_options options = {.path = path, .flags = how};
        status = kv_db_open(&options, &store->db);
    }
    if (status == KV_OK) {
        *opened = store;
    } else {
        int reason = errno;
        give_up(store);
        errno = reason;
    }
    return status;
}

kv_status kvwasi_close(kvwasi *store) {
    kv_db *db = store->db;
    kv_status status = KV_OK;
    if (db->txn.state != KV_TXN_NONE) (void)kv_txn_rollback(db);
    if (!db->read_only) {
        do {
            status = kv_db_close_mark(db);
            if (status != KV_NEEDS_SYNC) continue;
            status = kv_file_sync(db->file);
            if (status == KV_OK) status = kv_db_synced(db, db->position);
            if (status == KV_OK) status = KV_AGAIN;
        } while (status == KV_AGAIN);
    }
    give_up(store);
    return status;
}

int kvwasi_errno(const kvwasi *store) { return store->os_error; }

const char *kvwasi_message(kv_status status) {
    switch (status) {
    case KV_OK: return "done";
    case KV_NOT_FOUND: return "the key is not there";
    case KV_EXISTS: return "it is there already";
    case KV_INVALID: return "an argument is out of its range";
    case KV_KEY_EMPTY: return "a key has at least one byte";
    case KV_KEY_TOO_LARGE: return "a key has at most 1024 bytes";
    case KV_VALUE_TOO_LARGE: return "a value has at most 1 GiB";
    case KV_READ_ONLY: return "the store was opened to be read only";
    case KV_BUSY: return "a transaction is open, or another process has the file open";
    case KV_NO_TRANSACTION: return "no transaction is open";
    case KV_TRANSACTION_FAILED: return "an earlier call of the transaction failed: it can only be rolled back";
    case KV_NO_SUCH_FILE: return "there is no such file";
    case KV_NOT_A_DATABASE: return "the file is no kvwasi database";
    case KV_VERSION_UNSUPPORTED: return "the file has another version of the format";
    case KV_CORRUPT: return "the file is damaged";
    case KV_IO: return "the system failed a read, a write or a flush";
    case KV_DISK_FULL: return "no space is left";
    case KV_POISONED: return "an earlier write or flush failed: close and open again";
    case KV_NO_MEMORY: return "no memory is left";
    case KV_TOO_MANY_CURSORS: return "too much is open at once";
    case KV_NO_SUCH_TABLE: return "there is no such table";
    default: return "an unexpected answer of the engine";
    }
}

/* ---- transactions ---- */

static bool in_transaction(const kvwasi *store) { return store->db->txn.state != KV_TXN_NONE; }

/* A commit may ask for a flush even if nobody waits for it. */
static kv_status make_durable(kvwasi *store, kv_status status) {
    return fail(store, status == KV_NEEDS_SYNC ? kv_db_flush(store->db) : status);
}

kv_status kvwasi_begin(kvwasi *store) {
    kv_status status;
    WHOLE(status, kv_txn_begin(store->db));
    return fail(store, status);
}

kv_status kvwasi_rollback(kvwasi *store) { return fail(store, kv_txn_rollback(store->db)); }

kv_status kvwasi_commit(kvwasi *store) {
    uint32_t flags = store->no_sync ? 0 : KV_DURABLE;
    kv_status status;
    WHOLE(status, kv_txn_commit(store->db, flags));
    if (status == KV_SYNC_FIRST) { /* values outside the log go to disk before the mark */
        status = kv_file_sync(store->db->file);
        if (status == KV_OK) WHOLE(status, kv_txn_commit(store->db, flags | KV_BARRIER_DONE));
    }
    return make_durable(store, status);
}

/* Do something in a transaction of its own, unless one is open. */
static kv_status own_begin(kvwasi *store, bool *own) {
    *own = !in_transaction(store);
    return *own ? kvwasi_begin(store) : KV_OK;
}

static kv_status own_end(kvwasi *store, bool own, kv_status status) {
    if (!own) return fail(store, status);
    if (status == KV_OK) return kvwasi_commit(store);
    kv_status reason = fail(store, status);
    (void)kv_txn_rollback(store->db);
    return reason;
}

kv_status kvwasi_table(kvwasi *store, const char *name, bool create, uint32_t *table) {
    const kv_state *state;
    kv_file *file;
    kv_key key = {(const uint8_t *)name, (uint32_t)strlen(name)};
    if (key.length == 0 || strlen(name) >= KV_KEY_MAX) return KV_INVALID;
    uint32_t view = in_transaction(store) ? KV_VIEW_TRANSACTION : KV_VIEW_PUBLISHED;
    kv_status status = kv_db_state(store->db, view, &state, &file);
    if (status == KV_OK) status = kv_table_find(store->db, file->nodes, state, key, table);
    if (status != KV_NOT_FOUND) return fail(store, status);
    if (!create) return KV_NO_SUCH_TABLE;
    bool own;
    status = own_begin(store, &own);
    if (status != KV_OK) return status;
    return own_end(store, own, kv_table_create(store->db, key, table));
}

/* ---- entries ---- */

static kv_status put_large(kvwasi *store, uint32_t table, kv_key key, const uint8_t *value, uint32_t length) {
    kv_status status = kv_value_begin(store->db, table, key, length, 0);
    for (uint32_t done = 0; status == KV_OK && done < length;) {
        uint32_t part = length - done < KV_DATA_CAPACITY ? length - done : KV_DATA_CAPACITY;
        status = kv_value_chunk(store->db, value + done, part);
        done += part;
    }
    return status == KV_OK ? kv_value_end(store->db) : status;
}

kv_status kvwasi_put(kvwasi *store, uint32_t table, const void *key, size_t key_length, const void *value, size_t value_length) {
    if (key_length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    if (value_length > KV_VALUE_MAX) return KV_VALUE_TOO_LARGE;
    kv_key k = {key, (uint32_t)key_length};
    uint32_t length = (uint32_t)value_length;
    kv_value_ref existing;
    if (length > KV_INLINE_MAX) {
        bool own;
        kv_status status = own_begin(store, &own);
        return status == KV_OK ? own_end(store, own, put_large(store, table, k, value, length)) : status;
    }
    kv_status status;
    if (in_transaction(store)) {
        WHOLE(status, kv_txn_put(store->db, table, k, value, length, 0, &existing));
        return fail(store, status);
    }
    WHOLE(status, kv_db_put(store->db, table, k, value, length, store->no_sync ? 0 : KV_DURABLE, &existing));
    return make_durable(store, status);
}

kv_status kvwasi_delete(kvwasi *store, uint32_t table, const void *key, size_t key_length) {
    if (key_length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    kv_key k = {key, (uint32_t)key_length};
    kv_status status;
    if (in_transaction(store)) {
        WHOLE(status, kv_txn_delete(store->db, table, k));
        return fail(store, status);
    }
    WHOLE(status, kv_db_delete(store->db, table, k, store->no_sync ? 0 : KV_DURABLE));
    return make_durable(store, status);
}

/* Read a value and compare it with its checksum. */
static kv_status read_value(kvwasi *store, const kv_value_ref *ref, uint8_t *to) {
    if (ref->where == KV_WHERE_MEMORY) {
        memcpy(to, (const void *)(uintptr_t)ref->offset, ref->length);
    } else {
        for (uint32_t done = 0; done < ref->length;) {
            ssize_t got = pread(ref->fd, to + done, ref->length - done, (off_t)(ref->offset + done));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) return fail(store, KV_IO);
            if (got == 0) return KV_CORRUPT;
            done += (uint32_t)got;
        }
    }
    return kv_value_sum(to, ref->length) == ref->sum ? KV_OK : KV_CORRUPT;
}

static uint32_t view_of(const kvwasi *store) { return in_transaction(store) ? KV_VIEW_TRANSACTION : KV_VIEW_PUBLISHED; }

kv_status kvwasi_get(kvwasi *store, uint32_t table, const void *key, size_t key_length, void **value, size_t *value_length) {
    *value = NULL;
    if (key_length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    kv_value_ref ref;
    kv_status status = kv_db_get(store->db, table, (kv_key){key, (uint32_t)key_length}, view_of(store), &ref);
    if (status != KV_OK) return fail(store, status);
    uint8_t *bytes = malloc((size_t)ref.length + 1);
    if (bytes == NULL) return KV_NO_MEMORY;
    status = read_value(store, &ref, bytes);
    if (status != KV_OK) {
        free(bytes);
        return status;
    }
    bytes[ref.length] = 0;
    *value = bytes;
    *value_length = ref.length;
    return KV_OK;
}

kv_status kvwasi_count(kvwasi *store, uint32_t table, uint64_t *count) {
    return fail(store, kv_db_count(store->db, table, view_of(store), count));
}

/* Visit the entries of a batch; `*going` tells whether to go on. */
static kv_status visit_batch(kvwasi *store, const uint8_t *batch, uint64_t count, kvwasi_visit *visit, void *context, bool *going) {
    kv_status status = KV_OK;
    for (uint64_t i = 0; i < count && *going && status == KV_OK; i++) {
        const kv_entry *entry = (const kv_entry *)(const void *)batch;
        uint8_t *value = malloc((size_t)entry->value.length + 1);
        if (value == NULL) return KV_NO_MEMORY;
        status = read_value(store, &entry->value, value);
        if (status == KV_OK) *going = visit(context, entry + 1, entry->key_length, value, entry->value.length);
        free(value);
        batch += entry->next;
    }
    return status;
}

kv_status kvwasi_each(kvwasi *store, uint32_t table, const void *start, size_t start_length, const void *stop, size_t stop_length,
                      kvwasi_visit *visit, void *context) {
    if (start_length > KV_KEY_MAX || stop_length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    uint32_t handle, flags = (start != NULL ? KV_CURSOR_HAS_START : 0) | (stop != NULL ? KV_CURSOR_HAS_STOP : 0);
    kv_key first = {start, (uint32_t)start_length}, last = {stop, (uint32_t)stop_length};
    kv_status status = kv_cursor_open(store->db, table, first, last, view_of(store), flags, &handle);
    if (status != KV_OK) return fail(store, status);
    uint8_t *batch = aligned_alloc(8, BATCH_BYTES);
    bool going = batch != NULL;
    if (batch == NULL) status = KV_NO_MEMORY;
    while (going && status == KV_OK) {
        uint64_t count = 0;
        status = kv_cursor_next(store->db, handle, UINT32_MAX, batch, BATCH_BYTES, &count);
        if (status == KV_OK) status = visit_batch(store, batch, count, visit, context, &going);
        if (count == 0) break;
    }
    free(batch);
    (void)kv_cursor_close(store->db, handle);
    return fail(store, status);
}

kv_status kvwasi_sync(kvwasi *store) { return fail(store, kv_db_flush(store->db)); }
