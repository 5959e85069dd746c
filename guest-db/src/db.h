/* One open database. */
#ifndef KV_DB_H
#define KV_DB_H

#include "checksum.h"
#include "hash.h"
#include "log.h"
#include "reader.h"
#include "tree.h"

#define KV_PATH_MAX 4096u

/* What a version consists of: the tree of the default table, and the catalog, the tree of all others. */
typedef struct kv_state {
    kv_root main, catalog;
} kv_state;

/* A version that is kept: a state, and the pin that keeps its nodes. */
typedef struct kv_version {
    kv_state state;
    uint32_t pin; /* KV_NO_PIN: not kept */
} kv_version;

/* Changes of kv_sector.live that a transaction has not committed yet. */
typedef struct kv_live_change {
    uint64_t sector;
    int64_t bytes;
} kv_live_change;

typedef struct kv_live {
    kv_live_change *changes;
    uint32_t count, capacity;
    uint32_t floor; /* those before it belong to an outer savepoint */
} kv_live;

/* A table that the transaction has touched: its tree, which the catalog does not have yet. */
typedef struct kv_open_table {
    uint32_t table;
    bool changed;
    kv_root root;
} kv_open_table;
#define KV_OPEN_TABLES_MAX 64u /* more of them go through the catalog */

typedef enum kv_txn_state { KV_TXN_NONE, KV_TXN_OPEN, KV_TXN_FAILED } kv_txn_state;

/* Where a transaction may be rolled back to. */
typedef struct kv_savepoint {
    kv_state state;
    kv_nodes_mark nodes_mark;
    kv_log_mark log_mark;
    uint32_t records, live_count, live_floor;
} kv_savepoint;
#define KV_SAVEPOINTS_MAX 64u

/* The write transaction. */
#define KV_REHASHED_MAX 256u
typedef struct kv_txn {
    kv_txn_state state;
    kv_state now;
    uint32_t base_pin; /* keeps the version it began with */
    uint64_t commit;
    uint32_t records;
    uint64_t log_bytes;
    bool has_external;
    uint8_t era; /* of its entries in the hash; 0: its writes drop theirs */
    kv_hash_entry rehashed[KV_REHASHED_MAX]; /* changes of the hash that wait */
    uint32_t rehashed_count;
    kv_open_table tables[KV_OPEN_TABLES_MAX];
    uint32_t table_count;
    kv_savepoint savepoints[KV_SAVEPOINTS_MAX]; /* the first is the beginning */
    uint32_t depth;                             /* how many there are */
} kv_txn;

/* Puts of the transaction. */
typedef struct kv_pending_batch {
    struct kv_pending_put *puts;
    uint8_t *keys;
    uint32_t count, capacity, key_bytes, key_capacity;
    uint32_t shared; /* length of what all keys begin with */
    bool sorted;     /* keys are in order, and the same ones in the order of their puts */
} kv_pending_batch;

/* Those that the transaction's tree does not have yet, see pending.c. */
typedef struct kv_pending {
    uint32_t table; /* of them all */
    kv_pending_batch gathered;
    kv_pending_batch turned;       /* those before */
    struct kv_pending_item *order; /* of its keys; NULL: as they were put */
    uint32_t taken;                /* so many of them, in that order */
    kv_pending_batch merging;      /* the last of these */
    uint32_t next;                 /* of `merging`: to be merged */
    bool replacing; /* the key of the last one was there */
    bool near; /* `path` leads to the last one that was */
    kv_path path;
} kv_pending;

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
    uint32_t view, flags, table;
    kv_root root;   /* but for KV_VIEW_TRANSACTION */
    uint32_t pin;   /* of its own, or KV_NO_PIN: the snapshot's */
    kv_file *file;  /* in which the values lie */
    uint64_t since; /* of this generation on; 0: all */
    bool has_start, has_stop;
    uint32_t start_length, stop_length;
    uint8_t start[KV_KEY_MAX], stop[KV_KEY_MAX]; /* what is left of the range */
    bool after_start;                            /* start itself was delivered */
} kv_cursor;

/* A version that a reader keeps. */
typedef struct kv_snapshot {
    kv_version version;
    kv_file *file;
    uint64_t commit;
    uint32_t cursors; /* that read it */
} kv_snapshot;

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
    kv_sector_bytes loaded;
    uint64_t sector, sector_end; /* headers, records */
    uint64_t position_end;       /* log */
    bool counts;                 /* nothing has changed since the beginning: the counts can be compared */
    uint64_t commit;
    uint64_t *live;              /* found so far, of each sector */
    uint8_t *reached;            /* pages, a bit each */
    uint32_t reached_bits;
    kv_step stack[KV_HEIGHT_MAX]; /* from the root of the tree at hand */
    uint32_t depth;
    uint32_t table;
    kv_root root;                /* of the table at hand */
    kv_last_key last;
    uint64_t keys;
    uint32_t large_read; /* bytes of the large value at hand that were read */
    kv_xxh64_state large_sum;
} kv_check;

/* Copying what is live into a new database that takes this one's place. */
typedef struct kv_compaction {
    bool open;
    uint32_t phase;
    struct kv_db *target;
    kv_version source;
    uint32_t table;
    kv_root root; /* of the table at hand, in the source */
    kv_last_key last, last_table;
    uint64_t large_header; /* offset in the target's run of the large value at hand */
    uint32_t large_copied;
    kv_xxh64_state large_sum;
} kv_compaction;

/* Emptying the emptiest sector. */
typedef struct kv_collection {
    kv_sector_bytes loaded;
    uint64_t sector; /* UINT64_MAX: none at hand */
    uint32_t offset; /* in it, of the next record */
    uint32_t waiting; /* sectors, or runs, that are emptied, but not free */
    uint64_t looked_at;   /* next_generation when there was nothing to do */
    uint64_t released_at; /* the oldest pin when those that could be were made free */
} kv_collection;

/* Writing the index to the file. */
typedef struct kv_checkpoint {
    enum { KV_CHECKPOINT_IDLE, KV_CHECKPOINT_WRITING, KV_CHECKPOINT_WRITTEN, KV_CHECKPOINT_SUPERBLOCK } phase;
    bool flushing;  /* the flush under way covers the phase */
    bool wanted;    /* somebody waits for it: no pacing */
    uint32_t pin;
    kv_superblock super; /* to be written */
    uint32_t *pages, page_count, next;
    uint8_t *map;
    uint32_t *map_pages, map_page_count, map_next;
    uint64_t map_bytes;
    uint64_t tail_records, tail_bytes; /* that it covers */
} kv_checkpoint;

/* A checkpoint that has left its slot (or all that had when the database was opened), on which readers in other processes may
 * stand. */
typedef struct kv_held {
    uint64_t first, last; /* numbers of superblocks */
    uint32_t pin;
} kv_held;

/* How far a reader has come with the log. */
typedef struct kv_follow {
    kv_chain chain;
    kv_reader end;       /* behind the last commit that it has */
    uint64_t branch;     /* kv_tail.branch of all that was read */
    uint64_t known;      /* generation of the newest sector of the log when their headers were read last; 0: not yet since opening */
    uint64_t generation; /* of the sector in which that is */
    kv_sector_bytes loaded;
} kv_follow;

typedef struct kv_recovery_report {
    uint64_t commits, discarded_bytes;
} kv_recovery_report;

typedef struct kv_db {
    kv_file *file;
    kv_nodes *nodes; /* the file's */
    bool read_only;
    uint64_t cache_bytes;
    kv_hash hash;
    kv_state head;        /* the newest commit */
    kv_version published; /* what readers see; without a pin it is `head` */
    kv_version flushing;  /* what the flush under way will publish */
    uint64_t flushing_end, flushing_size;
    uint64_t durable;       /* log position: all before it is durable */
    uint64_t durable_size;  /* the file is durable up to here */
    uint64_t committed_end; /* log position behind the last commit */
    uint64_t last_commit;
    uint64_t last_txn_bytes; /* what the next one will probably take */
    uint64_t position; /* result: where KV_NEEDS_SYNC is satisfied */
    uint64_t full_commits; /* while the disk was full */
    uint32_t flush_wanted; /* result: KV_WANTS_FLUSH, KV_WANTS_CATCH_UP, as in the block */
    bool superblock_pending, superblock_flushing; /* one was written at the close, and waits for its flush */
    uint64_t tail_records, tail_bytes; /* of the log behind the newest checkpoint that is durable */
    uint32_t slot_pin[2];              /* the version that each superblock slot refers to */
    uint32_t *map_pages, map_page_count; /* of the newest checkpoint */
    kv_txn txn;
    kv_pending pending;
    kv_live live;
    kv_incoming incoming;
    kv_cursor *cursors[KV_CURSORS_MAX];
    uint32_t cursor_count;
    kv_snapshot *snapshots[KV_SNAPSHOTS_MAX];
    uint32_t snapshot_count;
    kv_check check;
    kv_compaction compaction;
    kv_collection collection;
    kv_checkpoint checkpoint;
    kv_recovery_report recovered;
    bool shared;                 /* the host asks which checkpoints readers in other processes stand on */
    bool readers, older_readers; /* when it was opened there were such, and on older checkpoints than the newest */
    kv_held held[KV_HELD_MAX];
    uint32_t held_count;
    kv_follow follow; /* read only */
    kv_error error;
    char path[KV_PATH_MAX];
} kv_db;

typedef struct kv_open_options {
    const char *path;
    uint32_t flags;        /* KV_OPEN_* */
    uint32_t sector_bytes; /* at creation; 0: default */
    uint64_t random_seed;  /* 0: ask the system */
    uint64_t cache_bytes;  /* 0: KV_CACHE_DEFAULT */
} kv_open_options;
#define KV_CACHE_DEFAULT (256u << 20)
#ifndef KV_CACHE_MIN
#define KV_CACHE_MIN (4u << 20)
#endif

/* db.c: opening, closing, reading, and what all writes begin with. */
kv_status kv_db_open(const kv_open_options *options, kv_db **db);
/* The same in two: up to the superblocks, and the rest. In between, db->shared, readers and older_readers may be set. */
kv_status kv_db_open_begin(const kv_open_options *options, kv_db **db);
kv_status kv_db_open_finish(kv_db *db);
void kv_db_init(kv_db *db, uint64_t cache_bytes); /* of zeros */
/* A step towards a clean close: KV_AGAIN; KV_NEEDS_SYNC (then kv_db_synced, and again); KV_OK: all is done. */
kv_status kv_db_close_mark(kv_db *db);
void kv_db_free(kv_db *db);
kv_status kv_db_get(kv_db *db, uint32_t table, kv_key key, uint32_t view, kv_value_ref *value);
kv_status kv_db_count(kv_db *db, uint32_t table, uint32_t view, uint64_t *count);
kv_status kv_db_stats(kv_db *db, kv_guest_stats_result *stats);
/* The state that `view` reads, and the file in which its values lie. */
kv_status kv_db_state(kv_db *db, uint32_t view, const kv_state **state, kv_file **file);
kv_value_ref kv_db_value_ref(const kv_db *db, const kv_file *file, const kv_place *place);
kv_status kv_db_fail(kv_db *db, kv_status status); /* take over the file's error */
kv_status kv_check_key(kv_key key);
/* Bytes that the record of a value takes where it lies, in the log or in a run. */
uint64_t kv_record_span(uint32_t key_length, uint32_t value_length);

/* create.c */
kv_status kv_create(const kv_open_options *options);
kv_status kv_create_file(const char *path, uint32_t sector_bytes, uint64_t random_seed, uint64_t first_generation,
                         kv_file **file);
kv_status kv_random_seed(uint64_t *seed);
/* Give the file its name and make the directory entry durable. Without `replace`: KV_EXISTS if there is one of that name.
 * On failure `*named` tells whether it has the name all the same. */
kv_status kv_install_file(kv_file *file, const char *from, const char *path, bool replace, bool *named);
/* Flush the directory that holds `path`: 0, or -1 with errno. Hosts that cannot (errno says so) leave it to their file system. */
int kv_sync_directory(const char *path);
void kv_side_path(const char *path, const char *suffix, char *to);
#define KV_NEW_SUFFIX "-new"
#define KV_COMPACT_SUFFIX "-compact"

/* recover.c: take the newest checkpoint, replay the log behind it; in a writable database secure what was not proven durable. */
kv_status kv_recover(kv_db *db);

/* catalog.c: which tables there are. */
/* The tree of a table in a state, or KV_NO_SUCH_TABLE. */
kv_status kv_table_root(kv_db *db, kv_nodes *nodes, const kv_state *state, uint32_t table, kv_root *root);
/* A key's place in a table, and all that is needed so that changing it cannot fail. */
typedef struct kv_target {
    kv_root root;
    kv_path path, catalog_path;
    bool there;
} kv_target;
/* KV_OK: the key is there, KV_NOT_FOUND: it is not, KV_NO_SUCH_TABLE. */
kv_status kv_target_find(kv_db *db, const kv_state *state, uint32_t table, kv_key key, kv_target *target);
/* Of a key that comes after all others: KV_NOT_FOUND, or KV_EXISTS if it does not. */
kv_status kv_target_find_last(kv_db *db, const kv_state *state, uint32_t table, kv_key key, kv_target *target);
void kv_target_store(kv_db *db, kv_state *state, uint32_t table, kv_target *target); /* its root has changed */
/* The tree of a table in the open transaction, with all that was put; tell of a change, so that kv_tables_flush gives it to the catalog. */
kv_status kv_table_in_txn(kv_db *db, uint32_t table, kv_root **root);
kv_status kv_table_without_pending(kv_db *db, uint32_t table, kv_root **root);
void kv_table_changed(kv_db *db, const kv_root *root);
kv_status kv_tables_flush(kv_db *db);
kv_status kv_table_find(kv_db *db, kv_nodes *nodes, const kv_state *state, kv_key name, uint32_t *table);
/* In the open transaction. KV_EXISTS: `*table` is the one that is there. */
kv_status kv_table_create(kv_db *db, kv_key name, uint32_t *table);
kv_status kv_table_drop(kv_db *db, kv_key name); /* KV_AGAIN until it is done */
/* What their records do, in a transaction or in recovery. */
kv_status kv_table_apply_create(kv_db *db, kv_state *state, kv_key name, uint32_t table);
kv_status kv_table_apply_drop(kv_db *db, kv_state *state, kv_key name, uint32_t table); /* of a table that is empty */
kv_status kv_tree_empty_some(kv_db *db, kv_root *root, uint32_t limit);
/* The table with the lowest number above `after`. KV_NOT_FOUND: no more. */
kv_status kv_table_next(kv_db *db, kv_nodes *nodes, const kv_state *state, uint32_t after, uint32_t *table,
                        kv_root *root);
/* Names behind `after` in order, as kv_entry with the table's number as offset. */
kv_status kv_table_names(kv_db *db, kv_nodes *nodes, const kv_state *state, kv_key after, uint8_t *to,
                         uint32_t capacity, uint64_t *count);

/* write.c: commits of one record. */
kv_status kv_db_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                    kv_value_ref *existing);
kv_status kv_db_delete(kv_db *db, uint32_t table, kv_key key, uint32_t flags);
kv_status kv_maintain(kv_db *db, uint64_t bytes);
/* What stands in the way of any change; KV_OK: nothing. */
kv_status kv_db_writable(const kv_db *db, uint32_t flags);
/* Put a record into a tree, and count: the same for a commit, a transaction and recovery. */
void kv_apply_put(kv_db *db, kv_root *root, kv_path *path, kv_key key, bool there, const kv_place *place);
void kv_apply_delete(kv_db *db, kv_root *root, kv_path *path, kv_key key);

/* pending.c: puts that the transaction's tree does not have yet. */
/* Merge at most `limit` of them. KV_OK: there are no more, KV_AGAIN: there may be. On failure the transaction has failed. */
kv_status kv_pending_merge(kv_db *db, uint32_t limit);
/* Before the record of such a put is made: all that could stand in its way. KV_AGAIN: put it at once instead. */
kv_status kv_pending_ready(kv_db *db, uint32_t table, uint32_t key_length);
kv_status kv_pending_put_later(kv_db *db, kv_key key, const kv_place *place);
void kv_pending_discard(kv_db *db);
void kv_pending_free(kv_db *db);

/* live.c: how many bytes of each sector are referred to. */
void kv_live_add(kv_db *db, kv_key key, const kv_place *place, int sign);
/* The entry at `offset` of a leaf was removed from it. Its place, which the leaf's memory still has, is counted by kv_live_settle, which is
 * to come before anything but reads and such deletes as leave their leaf alone. */
void kv_live_remove_later(kv_db *db, const kv_node *leaf, uint32_t offset, uint32_t key_length);
void kv_live_settle(kv_db *db);
void kv_live_commit(kv_db *db);
void kv_live_roll_back(kv_db *db, uint32_t count, uint32_t floor);
uint64_t kv_live_total(const kv_db *db, uint16_t type);

/* publish.c: which version readers see, and when it moves. */
/* Before a commit that is to be published when durable: keep what readers see now. */
kv_status kv_publish_hold(kv_db *db);
void kv_publish_release(kv_db *db); /* nothing came of it */
/* `head` has moved, by so many records and bytes of the log: KV_OK, or KV_NEEDS_SYNC (db->position) when held. */
kv_status kv_publish_commit(kv_db *db, uint64_t records, uint64_t bytes);
uint32_t kv_pin_head(kv_db *db);
uint32_t kv_pin_published(kv_db *db);
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
/* Delete the keys from `start` to below `stop` (NULL: to the last), at most `limit`; fewer only if there are no more. */
kv_status kv_txn_delete_range(kv_db *db, uint32_t table, kv_key start, const kv_key *stop, uint32_t limit, uint64_t *count);
kv_status kv_txn_commit(kv_db *db, uint32_t flags);
kv_status kv_txn_rollback(kv_db *db);
kv_status kv_txn_append(kv_db *db, kv_record *record, kv_place *place); /* counts; a failure fails the transaction */
/* Where a key is in the transaction's version of a table: KV_OK, KV_NOT_FOUND. It may be changed now. With KV_APPEND among the
 * flags KV_NOT_FOUND if it comes after all others, and KV_EXISTS. */
kv_status kv_txn_find(kv_db *db, uint32_t table, kv_key key, uint32_t flags, kv_root **root, kv_path *path);
kv_status kv_txn_fail(kv_db *db, kv_status status); /* only rollback is possible now */
/* A savepoint on top of those there are; undo or keep everything since the last one. */
kv_status kv_savepoint_begin(kv_db *db);
kv_status kv_savepoint_release(kv_db *db);
kv_status kv_savepoint_roll_back(kv_db *db);
/* Put a record of the transaction into the table's tree, to which `path` leads. */
void kv_txn_apply_put(kv_db *db, uint32_t table, kv_root *root, kv_path *path, kv_key key, bool there,
                      const kv_place *place);

/* values.c: values outside the log; only in a transaction. */
kv_status kv_value_begin(kv_db *db, uint32_t table, kv_key key, uint32_t length, uint32_t flags);
kv_status kv_value_chunk(kv_db *db, const uint8_t *data, uint32_t length);
kv_status kv_value_end(kv_db *db);
/* Room for an external value with its record header in the open run, or in a new one. Sets the offset in the run. */
kv_status kv_run_reserve(kv_file *file, uint32_t key_length, uint32_t value_length, uint64_t *header);

/* snapshot.c */
kv_status kv_snapshot_open(kv_db *db, uint32_t *handle);
kv_status kv_snapshot_close(kv_db *db, uint32_t handle);

/* cursor.c */
kv_status kv_cursor_open(kv_db *db, uint32_t table, kv_key start, kv_key stop, uint32_t view, uint32_t flags,
                         uint32_t *handle);
/* From now on, what lies in sectors of an older generation comes as KV_WHERE_OLDER; 0: all as it is. */
kv_status kv_cursor_since(kv_db *db, uint32_t handle, uint64_t generation);
kv_status kv_cursor_next(kv_db *db, uint32_t handle, uint32_t limit, uint8_t *to, uint32_t capacity, uint64_t *count);
/* Move over at most `leaves` leaves of the index; `*count` entries of the range were there, 0 at its end. Not in reverse. */
kv_status kv_cursor_count(kv_db *db, uint32_t handle, uint32_t leaves, uint64_t *count);
kv_status kv_cursor_close(kv_db *db, uint32_t handle);
void kv_cursors_end_transaction(kv_db *db); /* close those over the transaction */

/* stored.c: the record behind an entry of the index. */
#define KV_PIECE_BYTES (256u << 10) /* large values are read and copied by pieces */
/* Read and verify the header and key of the record whose value lies at `place`; KV_CORRUPT when they do not agree with
 * `key` and `place`. `bytes` takes header and key, KV_RECORD_HEADER_BYTES + KV_KEY_MAX at most, and `value_bytes` of what follows:
 * the value, which is not verified. */
kv_status kv_stored_record(kv_file *file, kv_key key, const kv_place *place, kv_record *record, uint8_t *bytes,
                           uint32_t value_bytes);
/* The sector, or the first of the run, in which the file's byte `offset` lies. */
bool kv_stored_sector(const kv_file *file, uint64_t offset, uint64_t *sector);
void kv_last_key_set(kv_last_key *last, kv_key key);
/* Go to the first key behind `last`. */
kv_status kv_last_key_seek(const kv_last_key *last, kv_walk *walk);

/* check.c */
kv_status kv_check_begin(kv_db *db);
kv_status kv_check_step(kv_db *db, kv_problem *problems, uint32_t capacity, uint64_t *count);
void kv_check_end(kv_db *db);

/* checkpoint.c: the index goes to the file. */
/* Before a commit of so many bytes, with no transaction open: begin one if it is time, and write a bit. */
kv_status kv_checkpoint_step(kv_db *db, uint64_t bytes);
/* The log behind the newest one is longer than its limit: a large transaction. */
bool kv_checkpoint_is_behind(const kv_db *db);
/* Then a step towards one: KV_AGAIN; KV_NEEDS_SYNC: the next comes after a flush. */
kv_status kv_checkpoint_catch_up(kv_db *db);
/* All of it, as far as it goes without a flush: KV_AGAIN until then. */
kv_status kv_checkpoint_finish(kv_db *db);
void kv_checkpoint_flush_begins(kv_db *db);
void kv_checkpoint_flushed(kv_db *db);
bool kv_checkpoint_waits_for_flush(const kv_db *db); /* it would go on with one */
bool kv_checkpoint_wants_flush(const kv_db *db);     /* it has waited long enough: somebody has to make one */
bool kv_checkpoint_wants_pause(const kv_db *db);     /* the commit just made should wait a moment, or soon one waits for all of a flush */
void kv_checkpoint_end(kv_db *db); /* give its memory back */
/* Nothing has happened since the newest one. */
bool kv_checkpoint_is_current(const kv_db *db);

/* collect.c: space that dead records take is used again. */
/* After recovery: which sectors are free. The first `count` of the chain are the log. */
kv_status kv_collect_begin(kv_db *db, const kv_chain *chain, uint64_t count);
void kv_collect_end(kv_db *db);
/* Before a commit of so many bytes, with no transaction open: move some live records of the emptiest sector to the log's end,
 * where they wait to be written with the commit. */
void kv_collect_step(kv_db *db, uint64_t bytes);
void kv_collect_release(kv_db *db); /* sectors that nobody needs any more are free */

/* readers.c */
/* A superblock has left its slot: its pin goes, at once or when no reader stands on it. */
void kv_readers_give_up(kv_db *db, uint64_t sequence, uint32_t pin);
void kv_readers_hold_older(kv_db *db, uint64_t newest, uint32_t pin); /* the pin of all that readers on older ones may need */
/* No reader stands on what is held as `first`. KV_INVALID: nothing is. */
kv_status kv_readers_release(kv_db *db, uint64_t first);
void kv_readers_forget(kv_db *db); /* the file is another one now */

/* compact.c */
kv_status kv_compact_begin(kv_db *db);
/* KV_SYNC_FIRST, twice: flush the target's descriptor. */
kv_status kv_compact_step(kv_db *db, uint32_t flags);
#define KV_COMPACT_ENTRIES_A_STEP 256u
/* The records that the next step reads, at most so many: they lie scattered, and come from memory sooner when it is known before. */
uint32_t kv_compact_ahead(const kv_db *db, kv_value_ref *refs);
kv_status kv_compact_abort(kv_db *db);

#endif
