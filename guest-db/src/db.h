/* One open database. */
#ifndef KV_DB_H
#define KV_DB_H

#include "checksum.h"
#include "hash.h"
#include "log.h"
#include "reader.h"
#include "tree.h"

#define KV_PATH_MAX 4096u

/* A version that is kept: a root, and the pin that keeps its nodes. */
typedef struct kv_version {
    kv_root root;
    uint32_t pin; /* KV_NO_PIN: not kept */
} kv_version;

typedef enum kv_txn_state { KV_TXN_NONE, KV_TXN_OPEN, KV_TXN_FAILED } kv_txn_state;

/* The write transaction. */
typedef struct kv_txn {
    kv_txn_state state;
    kv_root root;
    uint32_t base_pin; /* keeps the version it began with */
    uint64_t retired_end;
    kv_log_mark log_mark;
    uint64_t commit;
    uint32_t records;
    uint64_t log_bytes;
    bool has_external;
    uint8_t era; /* of its entries in the hash; 0: its writes drop theirs */
} kv_txn;

/* A value above KV_INLINE_MAX on its way into its run. */
typedef struct kv_incoming {
    bool open;
    uint32_t table, length, received;
    uint64_t header; /* offset in the run of its record */
    kv_xxh64_state sum;
    uint32_t key_length;
    uint8_t key[KV_KEY_MAX];
} kv_incoming;

typedef struct kv_cursor {
    bool done;
    uint32_t view, flags;
    kv_version version; /* KV_VIEW_PUBLISHED */
    kv_file *file;      /* in which that version's values lie */
    bool has_start, has_stop;
    uint32_t start_length, stop_length;
    uint8_t start[KV_KEY_MAX], stop[KV_KEY_MAX]; /* what is left of the range */
    bool after_start;                            /* start itself was delivered */
} kv_cursor;

/* The last key that a walk in steps has dealt with. */
typedef struct kv_last_key {
    bool any;
    uint32_t length;
    uint8_t data[KV_KEY_MAX];
} kv_last_key;

typedef struct kv_check {
    bool open;
    uint32_t phase;
    kv_version version;
    kv_file *file;
    kv_chain chain;
    kv_sector_bytes loaded;
    kv_reader reader;
    uint64_t sector, sector_end; /* headers */
    uint64_t position_end;       /* log */
    kv_last_key last;            /* index */
    uint64_t keys;
    uint32_t large_read; /* bytes of the large value at hand that were read */
    kv_xxh64_state large_sum;
} kv_check;

typedef struct kv_compaction {
    bool open;
    uint32_t phase;
    kv_file *target;
    kv_root root;
    kv_version source;
    uint64_t retired_end;
    kv_last_key last;
    uint64_t large_header; /* offset in the target's run of the large value at hand */
    uint32_t large_copied;
    kv_xxh64_state large_sum;
} kv_compaction;

/* Emptying the oldest sector of the log. */
typedef struct kv_collection {
    kv_sector_bytes loaded;
    uint64_t emptied;   /* sectors at the front of the log that are empty, but not free yet */
    uint32_t offset;    /* in the sector behind them: of the next record */
    bool blocked;       /* by a damaged record, which is never moved */
    bool starved;       /* the sector to empty is not durable yet */
    uint64_t slot_generation[2], slot_durable[2]; /* what the flush under way makes durable of each superblock slot */
} kv_collection;

/* Finding dead runs of value sectors. */
typedef struct kv_sweep {
    enum { KV_SWEEP_IDLE, KV_SWEEP_MARKING, KV_SWEEP_WAITING, KV_SWEEP_ERASING } phase;
    uint8_t *state;    /* of each of the first `sectors` sectors */
    uint64_t sectors;
    uint64_t position; /* what replaced the dead values lies before */
    uint64_t epoch;    /* versions pinned in it or later do not refer to them */
    uint64_t next_at;  /* number of sectors with large values at which to sweep again */
    bool erased_before_flush;
    kv_version version;
    kv_last_key last;
} kv_sweep;

typedef struct kv_recovery_report {
    uint64_t commits, discarded_bytes;
} kv_recovery_report;

typedef struct kv_db {
    kv_file *file;
    bool read_only;
    kv_nodes nodes;
    kv_hash hash;
    kv_root head;         /* the newest commit */
    kv_version published; /* what readers see; without a pin it is `head` */
    kv_version flushing;  /* what the flush under way will publish */
    uint64_t flushing_end;
    uint64_t durable;       /* log position: all before it is durable */
    uint64_t committed_end; /* log position behind the last commit */
    uint64_t last_commit;
    uint64_t last_txn_bytes; /* what the next one will probably take */
    uint64_t position; /* result: where KV_NEEDS_SYNC is satisfied */
    bool close_marked; /* the log ends with the mark of a clean close */
    kv_txn txn;
    kv_incoming incoming;
    kv_cursor *cursors[KV_CURSORS_MAX];
    uint32_t cursor_count;
    kv_check check;
    kv_compaction compaction;
    kv_collection collection;
    kv_sweep sweep;
    kv_recovery_report recovered;
    kv_error error;
    char path[KV_PATH_MAX];
} kv_db;

typedef struct kv_open_options {
    const char *path;
    uint32_t flags;        /* KV_OPEN_* */
    uint32_t sector_bytes; /* at creation; 0: default */
    uint64_t random_seed;  /* 0: ask the system */
} kv_open_options;

/* db.c: opening, closing, reading, and what all writes begin with. */
kv_status kv_db_open(const kv_open_options *options, kv_db **db);
kv_status kv_db_close_mark(kv_db *db);
void kv_db_free(kv_db *db);
kv_status kv_db_get(kv_db *db, kv_key key, uint32_t view, kv_value_ref *value);
kv_status kv_db_count(const kv_db *db, uint32_t view, uint64_t *count);
kv_status kv_db_stats(kv_db *db, kv_guest_stats_result *stats);
/* The root that `view` reads, or NULL. */
const kv_root *kv_db_root(const kv_db *db, uint32_t view);
kv_value_ref kv_db_value_ref(const kv_db *db, const kv_file *file, const kv_place *place);
kv_status kv_db_fail(kv_db *db, kv_status status); /* take over the file's error */
kv_status kv_check_key(kv_key key);
/* Bytes that the record of a value takes in the log. */
uint64_t kv_live_bytes(uint32_t key_length, uint32_t value_length);

/* create.c */
kv_status kv_create(const kv_open_options *options);
kv_status kv_create_file(const char *path, uint32_t sector_bytes, uint64_t random_seed, uint64_t first_generation,
                         kv_file **file);
kv_status kv_random_seed(uint64_t *seed);
/* Rename over `path` and make the directory entry durable. */
kv_status kv_install_file(kv_file *file, const char *from, const char *path, bool replace);
void kv_side_path(const char *path, const char *suffix, char *to);
#define KV_NEW_SUFFIX "-new"
#define KV_COMPACT_SUFFIX "-compact"

/* recover.c: read the log into the index; in a writable database secure what was not proven durable. */
kv_status kv_recover(kv_db *db);

/* write.c: commits of one record. */
kv_status kv_db_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                    kv_value_ref *existing);
kv_status kv_db_delete(kv_db *db, uint32_t table, kv_key key, uint32_t flags);
/* What a put checks first, against the version it changes; KV_EXISTS as KV_NO_OVERWRITE wants it. Sets the value's sum. */
kv_status kv_prepare_put(kv_db *db, const kv_root *root, kv_record *record, uint32_t flags, kv_value_ref *existing);
/* What stands in the way of any change; KV_OK: nothing. */
kv_status kv_db_writable(const kv_db *db, uint32_t flags);
/* Put a record into an index: the same for a commit, a transaction and recovery. */
void kv_apply_put(kv_nodes *nodes, kv_root *root, kv_key key, const kv_place *place);
bool kv_apply_delete(kv_nodes *nodes, kv_root *root, kv_key key);

/* publish.c: which version readers see, and when it moves. */
/* Before a commit that is to be published when durable: keep what readers see now. */
kv_status kv_publish_hold(kv_db *db);
void kv_publish_release(kv_db *db); /* nothing came of it */
kv_status kv_publish_commit(kv_db *db); /* `head` has moved: KV_OK, or KV_NEEDS_SYNC (db->position) when held */
uint32_t kv_pin_head(kv_db *db);
kv_status kv_db_sync_begin(kv_db *db); /* sets db->position */
kv_status kv_db_synced(kv_db *db, uint64_t position);
kv_status kv_db_sync_failed(kv_db *db, int32_t os_error);
kv_status kv_db_flush(kv_db *db);
kv_status kv_db_settle(kv_db *db); /* write moved records that wait for a commit to take them along */

/* txn.c */
kv_status kv_txn_begin(kv_db *db);
kv_status kv_txn_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                     kv_value_ref *existing);
kv_status kv_txn_delete(kv_db *db, uint32_t table, kv_key key);
kv_status kv_txn_commit(kv_db *db, uint32_t flags);
kv_status kv_txn_rollback(kv_db *db);
kv_status kv_txn_append(kv_db *db, kv_record *record, kv_place *place); /* counts; a failure fails the transaction */

void kv_txn_apply_put(kv_db *db, kv_key key, const kv_place *place);

/* values.c: values outside the log; only in a transaction. */
kv_status kv_value_begin(kv_db *db, uint32_t table, kv_key key, uint32_t length, uint32_t flags);
kv_status kv_value_chunk(kv_db *db, const uint8_t *data, uint32_t length);
kv_status kv_value_end(kv_db *db);
/* Room for an external value with its record header in the open run, or in a new one. Sets the offset in the run. */
kv_status kv_run_reserve(kv_file *file, uint32_t key_length, uint32_t value_length, uint64_t *header);

/* cursor.c */
kv_status kv_cursor_open(kv_db *db, kv_key start, kv_key stop, uint32_t view, uint32_t flags, uint32_t *handle);
kv_status kv_cursor_next(kv_db *db, uint32_t handle, uint32_t limit, uint8_t *to, uint32_t capacity, uint64_t *count);
kv_status kv_cursor_close(kv_db *db, uint32_t handle);
void kv_cursors_end_transaction(kv_db *db); /* close those over the transaction */

/* stored.c: the record behind an entry of the index. */
#define KV_PIECE_BYTES (256u << 10) /* large values are read and copied by pieces */
/* Read and verify the header and key of the record whose value lies at `place`; KV_CORRUPT when they do not agree with
 * `key` and `place`. `bytes` takes header and key. */
kv_status kv_stored_record(kv_file *file, kv_key key, const kv_place *place, kv_record *record,
                           uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX]);
/* The sector, or the first of the run, in which the file's byte `offset` lies. */
bool kv_stored_sector(const kv_file *file, uint64_t offset, uint64_t *sector);
void kv_last_key_set(kv_last_key *last, kv_key key);
/* Go to the first key behind `last`. */
void kv_last_key_seek(const kv_last_key *last, kv_walk *walk);

/* check.c */
kv_status kv_check_begin(kv_db *db);
kv_status kv_check_step(kv_db *db, kv_problem *problems, uint32_t capacity, uint64_t *count);
void kv_check_end(kv_db *db);

/* collect.c: space that dead records take in the log is used again. */
kv_status kv_collect_begin(kv_db *db); /* after recovery: find the free sectors */
void kv_collect_end(kv_db *db);
/* Before a commit of so many bytes, with no transaction open: move some live records of the oldest sector to the log's end,
 * where they wait to be written with the commit. */
void kv_collect_step(kv_db *db, uint64_t bytes);
void kv_collect_flush_begins(kv_db *db);
void kv_collect_flushed(kv_db *db);
bool kv_collect_wants_flush(const kv_db *db); /* sectors wait for it that nobody else will ask for */

/* sweep.c: so is that of large values. */
void kv_sweep_step(kv_db *db); /* with no transaction open */
bool kv_sweep_wants_superblock(const kv_db *db);
bool kv_sweep_wants_flush(const kv_db *db);
void kv_sweep_flush_begins(kv_db *db);
void kv_sweep_flushed(kv_db *db);
void kv_sweep_end(kv_db *db);
kv_status kv_sweep_at_open(kv_db *db);

/* compact.c */
kv_status kv_compact_begin(kv_db *db);
kv_status kv_compact_step(kv_db *db, uint32_t flags);
kv_status kv_compact_abort(kv_db *db);

#endif
