/* Reading the log into the index: by recovery, and by a reader that follows what another process writes. */
#ifndef KV_REPLAY_H
#define KV_REPLAY_H

#include "db.h"

/* Where a record of the commit at hand is. */
typedef struct kv_place_in_log {
    uint64_t index;
    uint32_t offset, sum; /* as in kv_reader, before it is read */
    uint32_t number;      /* in its commit */
} kv_place_in_log;

/* What scanning has found. */
typedef struct kv_tail {
    kv_reader end;      /* behind the last commit mark */
    uint64_t confirmed; /* all before it is proven durable */
    uint64_t last_commit;
    uint64_t branch; /* kv_reader.branch of what was read, whole or not */
    bool clean; /* all is proven, and no record follows that could come back */
    bool cut;   /* the file ends within what follows: when it grows, zeros may make that a record */
    uint64_t discarded_bytes;
} kv_tail;

typedef struct kv_replay {
    kv_db *db;
    kv_file *file;
    const kv_chain *chain;
    kv_sector_bytes *loaded;
    kv_tail tail;
    bool rewriting; /* what is applied goes into the new log as well */
    bool following; /* another process writes: a record that is not whole may be on its way */
    uint64_t commits; /* applied */
    /* the commit at hand: applied when its mark is found */
    uint64_t commit;
    uint32_t records; /* so far */
    kv_place_in_log *pending;
    uint32_t pending_count, pending_capacity;
} kv_replay;

/* Read on from `reader` to the first record that is not valid, or past `limit` records to a commit's end; sets tail.end, and raises
 * tail.confirmed and tail.last_commit. KV_NOT_FOUND: `reader` stands before a record that is not valid. KV_OK: at the limit. */
kv_status kv_replay_scan(kv_replay *r, kv_reader *reader, uint64_t limit);
/* Take the records up to log position `until`, commit by commit; the reader ends there. */
kv_status kv_replay_until(kv_replay *r, kv_reader *reader, uint64_t until);
/* Write the bytes [from, to) of the file once more: what the page cache shows will then be on the device, too. */
kv_status kv_replay_write_again(kv_file *file, uint64_t from, uint64_t to);

/* follow.c: in a read-only database whose writer goes on. */
/* Take what was committed since; `*commits` of them. KV_AGAIN: there is more; KV_EXISTS: the way leads over a newer checkpoint, so the
 * file has to be opened anew. */
kv_status kv_follow_step(kv_db *db, uint64_t *commits);
/* After opening: the sectors' headers were not read at one moment. KV_EXISTS: the file has to be opened anew, because of what a writer did
 * meanwhile. */
kv_status kv_follow_settle(kv_db *db);
/* Whatever reads the database goes on to `fresh`, which is given up; snapshots and cursors keep what they read. */
void kv_follow_take_over(kv_db *db, kv_db *fresh);
void kv_follow_begin(kv_db *db, kv_chain *chain, const kv_tail *tail); /* takes the chain */
void kv_follow_end(kv_db *db);

#endif
