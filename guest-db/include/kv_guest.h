/* The guest's ABI: what a host calls and the block through which arguments and results pass.
 *
 * Numbers are little-endian and fixed in size; the block never moves. Every export returns a kv_status and
 * never traps. The data buffer carries values and batches in both directions; it is overwritten by any call.
 *
 * How a commit becomes durable: an export that changes something writes it and returns KV_NEEDS_SYNC with
 * `position` set. The host then asks kv_guest_sync_begin() for the position that a flush starting now would cover,
 * flushes the file (`fd`) without holding the guest, and reports kv_guest_synced(position) or
 * kv_guest_sync_failed(). Only kv_guest_synced() publishes the commit to readers. A host without threads calls
 * kv_guest_flush(), which does the three in one. */
#ifndef KV_GUEST_H
#define KV_GUEST_H

#include <stdint.h>

#define KV_GUEST_ABI 5

#define KV_KEY_MAX 1024u            /* bytes; keys have 1..KV_KEY_MAX */
#define KV_VALUE_MAX (1u << 30)     /* bytes */
#define KV_INLINE_MAX (64u << 10)   /* bytes; a longer value goes through kv_guest_value_* */
#define KV_DATA_CAPACITY (1u << 20) /* bytes in the data buffer */
#define KV_CURSORS_MAX 1024u        /* cursors open at once */
#define KV_SNAPSHOTS_MAX 1024u      /* snapshots open at once */
#ifndef KV_HELD_MAX
#define KV_HELD_MAX 1024u           /* checkpoints kept for readers in other processes, besides the newest two */
#endif

typedef enum kv_status {
    KV_OK = 0,
    KV_NOT_FOUND = 1,
    KV_EXISTS = 2,     /* put with KV_NO_OVERWRITE: the key is there; its value is described as by get */
    KV_NEEDS_SYNC = 3, /* done; durable after kv_guest_synced(p) with p >= position. Any commit may ask for it */
    KV_AGAIN = 4,      /* a bounded step is done: make the same call again */
    KV_SYNC_FIRST = 5, /* flush `fd`, then make the same call again with KV_BARRIER_DONE */
    /* errors */
    KV_INVALID = 16, /* an argument out of its range, or a handle that is not open */
    KV_KEY_EMPTY = 17,
    KV_KEY_TOO_LARGE = 18,
    KV_VALUE_TOO_LARGE = 19,
    KV_READ_ONLY = 20,
    KV_BUSY = 21, /* a write transaction or a compaction is open */
    KV_NO_TRANSACTION = 22,
    KV_TRANSACTION_FAILED = 23, /* an earlier write of this transaction failed: only rollback is possible */
    KV_NO_SUCH_FILE = 24,
    KV_NOT_A_DATABASE = 25,
    KV_VERSION_UNSUPPORTED = 26,
    KV_CORRUPT = 27,   /* `position` is the offset in the file, `detail` a kv_detail */
    KV_IO = 28,        /* `os_error` is WASI's errno */
    KV_DISK_FULL = 29, /* nothing changed; the database goes on */
    KV_POISONED = 30,  /* an earlier write or flush failed: close and open again */
    KV_NO_MEMORY = 31, /* nothing changed */
    KV_CLOSED = 32,
    KV_TOO_MANY_CURSORS = 33, /* or snapshots, or savepoints */
    KV_NO_SUCH_TABLE = 34,
} kv_status;

/* Why KV_CORRUPT; also the kinds of problem that check reports. */
typedef enum kv_detail {
    KV_DETAIL_NONE = 0,
    KV_DETAIL_SUPERBLOCK = 1,    /* neither superblock is valid, or one is damaged */
    KV_DETAIL_SECTOR_HEADER = 2, /* a sector of the log is missing or its header is damaged */
    KV_DETAIL_RECORD = 3,        /* a record that was durable once is damaged */
    KV_DETAIL_VALUE = 4,         /* a value does not match its checksum */
    KV_DETAIL_TRUNCATED = 5,     /* the file ends before what was durable once */
    KV_DETAIL_INDEX = 6,         /* a node is damaged, or does not agree with the records */
    KV_DETAIL_PAGES = 7,         /* what is counted as used is not what is used */
} kv_detail;

/* kv_guest_open */
#define KV_OPEN_READ_ONLY 1u /* changes no byte */
#define KV_OPEN_CREATE 2u    /* create when missing */
#define KV_OPEN_REPLACE 4u   /* begin with an empty database, replacing a file that is there */
#define KV_OPEN_SHARED 8u    /* beside readers in other processes, or as one: see kv_guest_open */
#define KV_OPEN_READERS 16u  /* in a later call: some reader stands on a checkpoint, */
#define KV_OPEN_OLDER_READERS 32u /* or on an older one than the newest */
#define KV_OPEN_AS_IS 64u /* to read: when it has answered KV_EXISTS too often */

/* writes */
#define KV_NO_OVERWRITE 1u   /* put: KV_EXISTS when the key is there */
#define KV_IN_TRANSACTION 2u /* belongs to the open write transaction; without it the call is its own commit */
#define KV_DURABLE 4u        /* a commit that is to be published only once it is durable: returns KV_NEEDS_SYNC */
#define KV_BARRIER_DONE 8u   /* after KV_SYNC_FIRST */
#define KV_APPEND 16u        /* put: KV_EXISTS unless the key comes after all that there are; no value is described */

/* what a read sees */
#define KV_VIEW_PUBLISHED 0u
#define KV_VIEW_TRANSACTION 1u
#define KV_VIEW_SNAPSHOT 256u /* plus the snapshot's handle */
#define KV_VIEW_MAY_GUESS (1u << 31) /* or-ed in by who can settle a KV_WHERE_GUESS */

/* cursors */
#define KV_CURSOR_HAS_START 1u /* start key in block.key, inclusive */
#define KV_CURSOR_HAS_STOP 2u  /* stop key in block.key2, exclusive */
#define KV_CURSOR_REVERSE 4u   /* the same range, from its end */
#define KV_CURSOR_SINCE 8u     /* what lies in sectors of a generation below block.position comes as KV_WHERE_OLDER */

/* where a value lies */
#define KV_WHERE_FILE 0u    /* at `offset` in the file `fd` */
#define KV_WHERE_MEMORY 1u  /* at the address `offset` of linear memory */
#define KV_WHERE_MISSING 2u /* in the results of get_many: no such key */
#define KV_WHERE_GUESS 3u   /* with KV_VIEW_MAY_GUESS: at `offset` of the file lies a record (src/format.h); when its key is the
                             * one asked for, it is the current one, with its value's length and sum. Else ask again, without */
#define KV_WHERE_OLDER 4u   /* not for this cursor to be read: see KV_CURSOR_SINCE */

/* Where a value is and what it must hash to: the low 32 bits of XXH64(value, seed 0). */
typedef struct kv_value_ref {
    uint64_t offset;
    uint32_t length; /* bytes */
    uint32_t sum;
    uint32_t where; /* KV_WHERE_* */
    int32_t fd;
} kv_value_ref;

typedef struct kv_guest_block {
    kv_value_ref value;    /* result of get and of a put that found KV_EXISTS */
    uint64_t position;     /* of KV_NEEDS_SYNC, of kv_guest_sync_begin; offset in the file of KV_CORRUPT */
    uint64_t count;        /* result of count, number of entries in a batch */
    uint64_t random_seed;  /* in: kv_guest_open; 0 asks the host for randomness (tests set it) */
    int32_t fd;            /* the database's descriptor, set by open and compact */
    int32_t os_error;      /* WASI errno of KV_IO and KV_DISK_FULL */
    uint32_t detail;       /* kv_detail of KV_CORRUPT */
    uint32_t handle;       /* of the cursor or snapshot just opened */
    uint32_t data_address; /* the data buffer, KV_DATA_CAPACITY bytes */
    uint32_t abi;          /* KV_GUEST_ABI */
    uint64_t cache_bytes;  /* in: kv_guest_open; memory for the index, 0: 256 MiB */
    uint32_t table;        /* number of the table that was found or made */
    uint32_t flush_wanted; /* 0, or what would be good to do though nobody has to wait for it: KV_WANTS_* */
    uint8_t key[KV_KEY_MAX];
    uint8_t key2[KV_KEY_MAX];
} kv_guest_block;

#define KV_WANTS_FLUSH 1u    /* a flush would let space be used again */
#define KV_WANTS_CATCH_UP 2u /* a large commit was made, and opening would have to replay it: kv_guest_catch_up */
#define KV_WANTS_PAUSE 4u    /* commits come faster than the disk takes them: whoever made this one should rest a moment */

/* One entry of a cursor's batch, at multiples of 8; the key follows. */
typedef struct kv_entry {
    kv_value_ref value;
    uint32_t key_length;
    uint32_t next; /* bytes from this entry to the next */
} kv_entry;

/* One record of kv_guest_put_many, packed at multiples of 8; key, then value follow. */
typedef struct kv_put_entry {
    uint32_t key_length;
    uint32_t value_length; /* <= KV_INLINE_MAX */
} kv_put_entry;

/* kv_guest_stats writes this to the start of the data buffer. */
typedef struct kv_guest_stats_result {
    uint64_t keys; /* in the published state */
    uint64_t file_bytes;
    uint64_t live_bytes; /* records, with their headers, that the published state refers to */
    uint64_t sectors;
    uint64_t sector_bytes;
    uint64_t commits; /* number of the last commit */
    uint64_t durable_position;
    uint64_t end_position;
    uint64_t index_nodes; /* in use, of 4096 bytes */
    uint64_t index_height;
    uint64_t memory_bytes;      /* size of linear memory */
    uint64_t recovered_commits; /* rewritten by this open after an unclean stop */
    uint64_t discarded_bytes;   /* torn tail not accepted by this open */
    uint64_t cursors;
    uint64_t erase_max; /* highest erase counter of a sector */
    uint64_t format_version;
    uint64_t snapshots;
    uint64_t cached_nodes, changed_nodes; /* in memory; of them, not yet written */
    uint64_t node_loads;                  /* nodes read since opening */
    uint64_t tail_bytes, tail_records;    /* of the log behind the newest checkpoint: what a crash leaves to be replayed */
    uint64_t checkpoint;                  /* number of the newest superblock */
    uint64_t cache_bytes;                 /* limit of the memory for nodes */
    uint64_t erases;                      /* sum of all sectors' erase counters */
    uint64_t sectors_free;
    uint64_t pinned_bytes; /* of sectors that only old snapshots or checkpoints need */
    uint64_t database_id;
    uint64_t generation; /* what is stored from now on lies in sectors of this generation or a later one */
} kv_guest_stats_result;

/* One problem found by kv_guest_check_step; an array of them lies in the data buffer, `count` in the block. */
typedef struct kv_problem {
    uint64_t offset;     /* in the file */
    uint32_t detail;     /* kv_detail */
    uint32_t key_length; /* of the key it concerns, else 0; the key's first bytes follow */
    uint8_t key[48];
} kv_problem;

/* What kv_guest_repair_step has done so far; the problems follow it in the data buffer. */
typedef struct kv_guest_repair_result {
    uint64_t records;       /* salvaged: keys in the target */
    uint64_t values_lost;   /* keys whose newest record or value is damaged */
    uint64_t pages_lost;    /* the index could not be used for want of one; found until then */
    uint64_t sectors_lost;  /* without a readable header */
    uint64_t bytes_skipped; /* of the log, between records that are valid */
    uint64_t left_out;      /* records of transactions that were not committed */
    uint64_t uncertain;     /* records taken though damage hides whether they were committed */
    uint64_t unnamed;       /* tables whose name is lost: "table-N" */
    uint32_t index_used;
    uint32_t may_reappear; /* deleted keys and older values may have come back */
} kv_guest_repair_result;

#ifdef __wasm__
#define KV_EXPORT(name) __attribute__((export_name(#name)))
#else
#define KV_EXPORT(name)
#endif

/* Address of the one kv_guest_block. Once, before anything else. */
KV_EXPORT(kv_guest_init) uint32_t kv_guest_init(void);
/* Open the path in the data buffer. `sector_bytes` (0: 1 MiB) only counts at creation.
 *
 * With KV_OPEN_SHARED the first call answers KV_AGAIN when the superblocks are read: block.position is the newest one's number,
 * block.fd the file. Readers stand on a checkpoint by holding a lock that names its superblock, and
 * that ends with them. Who writes now asks for such locks, and calls again with what it found. Who reads takes one on block.position
 * and all higher numbers, and calls again: KV_AGAIN when that superblock was gone already (let go, and take one on the new number);
 * after KV_OK only the one on block.position is needed. */
KV_EXPORT(kv_guest_open) kv_status kv_guest_open(uint32_t path_length, uint32_t flags, uint32_t sector_bytes);
/* Read only: show what was committed since, block.count commits. KV_AGAIN: there is more, call again. KV_EXISTS: there is a newer
 * checkpoint, or another file of this name: call with KV_REFRESH_REOPEN, which goes as kv_guest_open does with KV_OPEN_SHARED (in
 * later calls the flags are of no matter). The lock of before ends with its descriptor, which the guest closes when no snapshot or
 * cursor needs it any more. After an error all is as it was. */
#define KV_REFRESH_REOPEN 1u /* KV_EXISTS, as of kv_guest_open to read: a writer has recovered the file meanwhile; call again */
#define KV_REFRESH_AS_IS 4u  /* the same with KV_OPEN_AS_IS */
#define KV_REFRESH_ABORT 2u /* give up a reopening that was begun */
KV_EXPORT(kv_guest_refresh) kv_status kv_guest_refresh(uint32_t flags);
/* Superblocks that are in neither slot any more, on whose checkpoints readers may stand, as block.count pairs (first number, last
 * number) of uint64 in the data buffer. To be asked for after kv_guest_synced: those on which nobody stands are to be released, by
 * their first number. Only with KV_OPEN_SHARED there are any. */
KV_EXPORT(kv_guest_held) kv_status kv_guest_held(void);
KV_EXPORT(kv_guest_release) kv_status kv_guest_release(uint64_t first);
/* A step towards a clean close, after which opening has nothing to replay. KV_AGAIN: make the same call again. KV_NEEDS_SYNC: flush,
 * kv_guest_synced, and again. KV_OK: done; then kv_guest_close(). */
KV_EXPORT(kv_guest_close_mark) kv_status kv_guest_close_mark(void);
/* Give back file and memory; everything after it answers KV_CLOSED. */
KV_EXPORT(kv_guest_close) kv_status kv_guest_close(void);

/* In each call that has one, `table` is 0 for the default table, else the number of a named one (KV_NO_SUCH_TABLE).
 * `view`: KV_VIEW_*. The key is in block.key. */
KV_EXPORT(kv_guest_get) kv_status kv_guest_get(uint32_t table, uint32_t key_length, uint32_t view);
/* Keys in the data buffer as `count` times (uint32 length, bytes, padded to 4). Results replace them: kv_value_ref[count].
 * `count` <= KV_DATA_CAPACITY / sizeof(kv_value_ref). */
KV_EXPORT(kv_guest_get_many)
kv_status kv_guest_get_many(uint32_t table, uint32_t count, uint32_t bytes, uint32_t view);
KV_EXPORT(kv_guest_count) kv_status kv_guest_count(uint32_t table, uint32_t view);

/* Key in block.key, value (<= KV_INLINE_MAX) in the data buffer. `flags`: KV_NO_OVERWRITE, KV_APPEND, KV_IN_TRANSACTION,
 * KV_DURABLE. Outside the transaction while one is open: KV_BUSY. */
KV_EXPORT(kv_guest_put)
kv_status kv_guest_put(uint32_t table, uint32_t key_length, uint32_t value_length, uint32_t flags);
KV_EXPORT(kv_guest_delete) kv_status kv_guest_delete(uint32_t table, uint32_t key_length, uint32_t flags);
/* The keys from block.key to below block.key2 (with KV_CURSOR_HAS_STOP; else to the last), at most `limit`: how many in block.count, fewer
 * only if there are no more. Only in a transaction. */
KV_EXPORT(kv_guest_delete_range)
kv_status kv_guest_delete_range(uint32_t table, uint32_t start_length, uint32_t stop_length, uint32_t limit, uint32_t flags);
/* `count` kv_put_entry in the data buffer, `bytes` in all; only in a transaction. */
KV_EXPORT(kv_guest_put_many) kv_status kv_guest_put_many(uint32_t table, uint32_t count, uint32_t bytes);
/* A value above KV_INLINE_MAX; only in a transaction: begin, chunks in the data buffer, end. A rollback abandons it. */
KV_EXPORT(kv_guest_value_begin)
kv_status kv_guest_value_begin(uint32_t table, uint32_t key_length, uint32_t value_length, uint32_t flags);
KV_EXPORT(kv_guest_value_chunk) kv_status kv_guest_value_chunk(uint32_t bytes);
KV_EXPORT(kv_guest_value_end) kv_status kv_guest_value_end(void);

KV_EXPORT(kv_guest_txn_begin) kv_status kv_guest_txn_begin(void);
/* A step of what a commit has to do first. Calling it is not needed; it lets others have their turn. KV_AGAIN: there is more. */
KV_EXPORT(kv_guest_txn_settle) kv_status kv_guest_txn_settle(void);
/* `flags`: KV_DURABLE, KV_BARRIER_DONE. KV_SYNC_FIRST when values outside the log must be durable first. */
KV_EXPORT(kv_guest_txn_commit) kv_status kv_guest_txn_commit(uint32_t flags);
/* A step of what a large commit leaves to be done: a checkpoint, so that opening need not replay all of it. Calling it is not needed; the
 * next commits do it else, and wait. KV_AGAIN: there is more; KV_NEEDS_SYNC: after the next flush there is more. */
KV_EXPORT(kv_guest_catch_up) kv_status kv_guest_catch_up(void);
KV_EXPORT(kv_guest_txn_rollback) kv_status kv_guest_txn_rollback(void);
/* Savepoints nest: everything since the last one is kept (release) or undone. At most 63 at once. */
KV_EXPORT(kv_guest_savepoint_begin) kv_status kv_guest_savepoint_begin(void);
KV_EXPORT(kv_guest_savepoint_release) kv_status kv_guest_savepoint_release(void);
KV_EXPORT(kv_guest_savepoint_rollback) kv_status kv_guest_savepoint_rollback(void);

/* Named tables; the name (1..KV_KEY_MAX - 1 bytes) is in block.key, the number goes to block.table. */
/* KV_NOT_FOUND: there is none of that name. */
KV_EXPORT(kv_guest_table_find) kv_status kv_guest_table_find(uint32_t name_length, uint32_t view);
/* In a transaction. KV_EXISTS: it is there, and block.table says which. */
KV_EXPORT(kv_guest_table_create) kv_status kv_guest_table_create(uint32_t name_length);
/* In a transaction; with all that is in it. KV_AGAIN: make the same call again. Its number is never used again. */
KV_EXPORT(kv_guest_table_drop) kv_status kv_guest_table_drop(uint32_t name_length);
/* The names behind the one in block.key in order, as kv_entry whose value's offset is the number; how many in block.count. */
KV_EXPORT(kv_guest_table_names) kv_status kv_guest_table_names(uint32_t after_length, uint32_t view);

/* The published state as it is now, for reads with KV_VIEW_SNAPSHOT + block.handle until it is closed. */
KV_EXPORT(kv_guest_snapshot_open) kv_status kv_guest_snapshot_open(void);
KV_EXPORT(kv_guest_snapshot_close) kv_status kv_guest_snapshot_close(uint32_t handle);

/* KV_NEEDS_SYNC with `position`, or KV_OK when all is durable already. */
KV_EXPORT(kv_guest_sync_begin) kv_status kv_guest_sync_begin(void);
KV_EXPORT(kv_guest_synced) kv_status kv_guest_synced(uint64_t position);
KV_EXPORT(kv_guest_sync_failed) kv_status kv_guest_sync_failed(int32_t os_error);
/* For hosts without threads: sync_begin, fdatasync, synced. */
KV_EXPORT(kv_guest_flush) kv_status kv_guest_flush(void);

/* A cursor over KV_VIEW_PUBLISHED or a snapshot keeps that state until closed; over KV_VIEW_TRANSACTION it follows the
 * transaction and is closed with it. */
KV_EXPORT(kv_guest_cursor_open)
kv_status kv_guest_cursor_open(uint32_t table, uint32_t start_length, uint32_t stop_length, uint32_t view,
                               uint32_t flags);
/* Up to `limit` kv_entry to the data buffer, how many in block.count; 0 at the end. */
KV_EXPORT(kv_guest_cursor_next) kv_status kv_guest_cursor_next(uint32_t handle, uint32_t limit);
/* Pass over at most `leaves` leaves of the index, without touching a value; how many entries there were in block.count, 0 at
 * the end. Not for a cursor in reverse. */
KV_EXPORT(kv_guest_cursor_count) kv_status kv_guest_cursor_count(uint32_t handle, uint32_t leaves);
KV_EXPORT(kv_guest_cursor_close) kv_status kv_guest_cursor_close(uint32_t handle);

KV_EXPORT(kv_guest_stats) kv_status kv_guest_stats(void);
/* Walk everything in steps: begin, then step until KV_OK; each answer of step lists block.count kv_problem. */
KV_EXPORT(kv_guest_check_begin) kv_status kv_guest_check_begin(void);
KV_EXPORT(kv_guest_check_step) kv_status kv_guest_check_step(void);
/* Rewrite what is live into a new file that replaces the old. begin when no transaction is open (KV_BUSY); writes answer
 * KV_BUSY until it ends, reads go on. step: KV_AGAIN, with block.count kv_value_ref in the data buffer of what the next one reads;
 * then KV_SYNC_FIRST twice (flush block.fd, which is the new file's here, and call again with KV_BARRIER_DONE), then KV_OK, with
 * block.fd the new file. abort undoes it before that. */
KV_EXPORT(kv_guest_compact_begin) kv_status kv_guest_compact_begin(void);
KV_EXPORT(kv_guest_compact_step) kv_status kv_guest_compact_step(uint32_t flags);
KV_EXPORT(kv_guest_compact_abort) kv_status kv_guest_compact_abort(void);

/* Salvage a damaged database into a new file, with no database open. begin: the path of the damaged one, then that of the new one,
 * which must not exist (KV_EXISTS), in the data buffer. step: KV_AGAIN, then KV_SYNC_FIRST twice as for compact, then KV_OK; each puts a
 * kv_guest_repair_result and block.count kv_problem behind it into the data buffer. abort after an error or before the end. */
KV_EXPORT(kv_guest_repair_begin) kv_status kv_guest_repair_begin(uint32_t source_length, uint32_t target_length);
KV_EXPORT(kv_guest_repair_step) kv_status kv_guest_repair_step(uint32_t flags);
KV_EXPORT(kv_guest_repair_abort) kv_status kv_guest_repair_abort(void);

#endif
