/* The guest's exports as typed calls. Each returns a kv_status or one of the layer's own outcomes; 16 and above are
 * errors. `thread` identifies the caller, `turn` says that it came through kve_writer_wait. */
#ifndef KVE_VERBS_H
#define KVE_VERBS_H

#include "format.h"
#include "session.h"

/* --- under the lock, short; `view` and `flags` as in kv_guest.h --- */
int kve_get(kve_session *session, uint32_t table, const void *key, uint32_t key_length, uint32_t view,
            kv_value_ref *out, kve_failure *failure);
/* `keys` packed as kv_guest_get_many wants them; `*out` points into the data buffer: use it before the next call. */
int kve_get_many(kve_session *session, uint32_t table, const void *keys, uint32_t bytes, uint32_t count,
                 uint32_t view, const kv_value_ref **out, kve_failure *failure);
int kve_count(kve_session *session, uint32_t table, uint32_t view, uint64_t *out, kve_failure *failure);

/* A put of a value that a record holds, or a delete. */
typedef struct kve_write {
    const void *key;
    const void *value;
    uint32_t key_length;
    uint32_t value_length;
    uint32_t table;
    uint32_t flags;
    bool remove;
} kve_write;
int kve_apply(kve_session *session, const kve_write *write, kve_failure *failure);

typedef struct kve_range {
    const void *start; /* NULL: from the first key */
    const void *stop;  /* exclusive; NULL: to the last */
    uint32_t start_length;
    uint32_t stop_length;
    bool reverse;
    uint64_t since; /* generation; what lies in older sectors comes as KV_WHERE_OLDER; 0: all as it is */
} kve_range;

/* Its bounds, of at most KV_KEY_MAX bytes, into the block; the flags that say so. Under the lock. */
uint32_t kve_put_range(kve_session *session, const kve_range *range);
int kve_cursor_open(kve_session *session, uint32_t table, const kve_range *range, uint32_t view,
                    uint32_t *handle, kve_failure *failure);
/* A batch of `*count` entries in the data buffer, for kve_entry_at. */
int kve_cursor_next(kve_session *session, uint32_t handle, uint32_t limit, uint32_t *count, kve_failure *failure);
/* How many entries lie in the next at most `leaves` leaves of the index; 0: the range is at its end. */
int kve_cursor_count(kve_session *session, uint32_t handle, uint32_t leaves, uint64_t *count,
                     kve_failure *failure);
void kve_cursor_close(kve_session *session, uint32_t handle);
/* The entry at `offset` of the data buffer; advances it. NULL (and the session is broken) when it does not fit there. */
const kv_entry *kve_entry_at(kve_session *session, uint32_t *offset, const uint8_t **key);

/* --- tables.c: the first three under the lock, short; `name` has 1..KV_KEY_MAX - 1 bytes --- */

/* KV_NOT_FOUND: there is none of that name. */
int kve_table_find(kve_session *session, const void *name, uint32_t length, uint32_t view, uint32_t *table,
                   kve_failure *failure);
/* In the open transaction; KV_OK also when it is there already. */
int kve_table_create(kve_session *session, const void *name, uint32_t length, uint32_t *table,
                     kve_failure *failure);
/* Names behind `after`, `*count` entries for kve_entry_at; 0 at the end. */
int kve_table_names(kve_session *session, const void *after, uint32_t length, uint32_t view, uint32_t *count,
                    kve_failure *failure);

/* Before a row of kve_read: what lies scattered over the file takes longer to reach than to copy. */
static inline void kve_prefetch(kve_session *session, const kv_value_ref *ref)
{
    if (ref->where == KV_WHERE_FILE || ref->where == KV_WHERE_GUESS) /* a guess: the record's header, and likely more */
        session->api->prefetch(session->host, (uint32_t)ref->fd, ref->offset,
                               ref->where == KV_WHERE_FILE ? ref->length : 2 * KV_RECORD_HEADER_BYTES);
}

/* Copy a value out: 0, KVE_SHORT, KVE_HOST_IO, KVE_BROKEN. Then kve_verify, which needs no lock: 0 or KVE_CHECKSUM. */
int kve_read(kve_session *session, const kv_value_ref *ref, void *to, kve_failure *failure);
int kve_verify(const kv_value_ref *ref, const void *value, kve_failure *failure);

/* --- without the lock and without the GIL --- */

/* A value that a cursor or a snapshot of the caller's pins. */
int kve_read_large(kve_session *session, const kv_value_ref *ref, void *to, kve_failure *failure);

/* Read it to see whether it is what was stored: 0, KVE_CHECKSUM, or why it can't be read. */
int kve_verify_large(kve_session *session, const kv_value_ref *ref, kve_failure *failure);
/* The same of one of at most KV_INLINE_MAX bytes, under the lock. */
int kve_verify_small(kve_session *session, const kv_value_ref *ref, kve_failure *failure);

int kve_write_commit(kve_session *session, uint64_t thread, bool turn, const kve_write *write, kve_failure *failure);

/* The caller has its turn; gives it back on failure. */
int kve_txn_begin(kve_session *session, uint64_t *transaction, kve_failure *failure);
int kve_txn_commit(kve_session *session, uint64_t transaction, bool durable, kve_failure *failure);
int kve_txn_rollback(kve_session *session, uint64_t transaction, kve_failure *failure);
/* `count` kv_put_entry, packed as kv_guest_put_many wants them. */
int kve_put_many(kve_session *session, uint64_t transaction, uint32_t table, const void *entries, uint32_t bytes,
                 uint32_t count, kve_failure *failure);
/* Delete a range, in steps; how many keys that were. */
int kve_delete_range(kve_session *session, uint64_t transaction, uint32_t table, const kve_range *range, uint64_t *count,
                     kve_failure *failure);
int kve_value_write(kve_session *session, uint64_t transaction, uint32_t table, const void *key,
                    uint32_t key_length, const void *value, uint32_t value_length, uint32_t flags,
                    kve_failure *failure);

/* Copy such a value into an open transaction of another session, a piece at a time. `*reading` is set when the failure
 * is that of `from`. */
int kve_value_copy(kve_session *from, const kv_value_ref *ref, kve_session *to, uint64_t transaction,
                   uint32_t table, const void *key, uint32_t key_length, int *reading, kve_failure *failure);

/* A transaction of its own that makes the table, if it is not there. The caller has its turn. */
int kve_table_make(kve_session *session, const void *name, uint32_t length, bool durable, uint32_t *table,
                   kve_failure *failure);
/* A table with all that is in it, in steps. */
int kve_table_drop(kve_session *session, uint64_t transaction, const void *name, uint32_t length,
                   kve_failure *failure);

typedef enum kve_savepoint_step {
    KVE_SAVEPOINT_BEGIN,
    KVE_SAVEPOINT_RELEASE,
    KVE_SAVEPOINT_ROLLBACK,
} kve_savepoint_step;
int kve_savepoint(kve_session *session, uint64_t transaction, kve_savepoint_step step, kve_failure *failure);

/* Parts of the above. With the lock: leave it to others between two steps of one call; 0, or as kve_usable. */
int kve_make_room_locked(kve_session *session);
int kve_check_transaction(kve_session *session, uint64_t transaction); /* 0, KVE_ENDED, or as kve_usable */

/* --- views.c: with the GIL --- */
/* Where a value lies in memory that maps its file, until the region is released. NULL: it cannot be mapped. Under the lock. */
const uint8_t *kve_region_take(kve_session *session, const kv_value_ref *ref, kve_region **region);
void kve_region_release(kve_session *session, kve_region *region);

/* --- snapshot.c: under the lock, short --- */
int kve_snapshot_open(kve_session *session, uint32_t *handle, kve_failure *failure);
void kve_snapshot_close(kve_session *session, uint32_t handle);
uint64_t kve_snapshot_oldest_ns(const kve_session *session); /* age of the oldest; 0: there is none */

/* --- readers.c --- */
/* Show what was committed since; with `replaced` in another file of that name. `*moved`: there was something. */
int kve_refresh(kve_session *session, bool replaced, int *moved, kve_failure *failure);

int kve_open(kve_session *session, const char *name, uint32_t name_length, uint32_t flags, uint32_t sector_bytes,
             uint64_t cache_bytes, kve_failure *failure);
/* Sync, write the mark of a clean close, give everything back. The session is closed whatever is returned. */
int kve_close(kve_session *session, kve_failure *failure);

/* `*age_ns`: of the oldest snapshot, 0: none is open. `*readers_age_ns`: since when a checkpoint is kept for readers in other processes,
 * 0: none is. */
int kve_stats(kve_session *session, kv_guest_stats_result *out, uint64_t *age_ns, uint64_t *readers_age_ns,
              kve_failure *failure);
/* `*out` is the caller's to free. */
int kve_check(kve_session *session, kv_problem **out, size_t *count, kve_failure *failure);
/* The caller has its turn, and gives it back afterwards. */
int kve_compact(kve_session *session, kve_failure *failure);

/* --- repair.c --- */

int kve_repair_begin(kve_session *session, const char *source, uint32_t source_length, const char *target,
                     uint32_t target_length, kve_failure *failure);
int kve_repair_step(kve_session *session, uint32_t *flags, kv_guest_repair_result *result, kv_problem *problems,
                    size_t capacity, size_t *count, kve_failure *failure);
void kve_repair_end(kve_session *session);

#endif
