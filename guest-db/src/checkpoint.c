/* Checkpoints: the index goes to the file, a bit with each commit, so that opening needs only the end of the log.
 *
 * A checkpoint is a pinned version. Its changed nodes and the space map are written to pages that neither superblock refers to;
 * when a flush has covered them, a superblock that refers to them is written; when the next flush has covered that, the
 * checkpoint that this slot held before is given up, and with it the pages and sectors that only it needed. */
#include <stdlib.h>

#include "db.h"

#ifndef KV_CHECKPOINT_BYTES_MIN
#define KV_CHECKPOINT_BYTES_MIN (2u << 20)
#endif
#define KV_CHECKPOINT_BYTES_MAX (32u << 20) /* of log behind the last checkpoint, before the next begins */
/* What replaying the log may cost: 1 for a record, and so much more for a leaf that it is the first to change, which has to be read. */
#ifndef KV_CHECKPOINT_COST
#define KV_CHECKPOINT_COST 150000u
#endif
#ifndef KV_CHECKPOINT_LEAF_COST
#define KV_CHECKPOINT_LEAF_COST 3u
#endif
#define HARD 2u              /* times as much: commits wait for it */
#define PAUSES_FROM 112u     /* of 64 * HARD: from there some pause, one in PAUSES_APART times what is left, so that none has to */
#define PAUSES_APART 4u
#define PAGES_A_STEP 512u
#define SMALL_TAIL_BYTES (256u << 10) /* a close leaves so much to be replayed rather than write a checkpoint */
#define SMALL_TAIL_RECORDS 2000u

static uint64_t interval(const kv_db *db) {
    uint64_t bytes = db->file->sector_count << db->file->sector_shift >> 3;
    if (bytes < KV_CHECKPOINT_BYTES_MIN) bytes = KV_CHECKPOINT_BYTES_MIN;
    return bytes < KV_CHECKPOINT_BYTES_MAX ? bytes : KV_CHECKPOINT_BYTES_MAX;
}

static uint64_t replay_cost(const kv_db *db) {
    uint64_t pages = db->nodes->pages_in_use, leaves = db->tail_records < pages ? db->tail_records : pages;
    return db->tail_records + KV_CHECKPOINT_LEAF_COST * leaves;
}

static bool costs_more(const kv_db *db, uint64_t times) { return replay_cost(db) > times * KV_CHECKPOINT_COST; }

static bool tail_exceeds(const kv_db *db, uint64_t times) {
    return db->tail_bytes > times * interval(db) || costs_more(db, times);
}

bool kv_checkpoint_is_behind(const kv_db *db) {
    return db->tail_bytes > HARD * KV_CHECKPOINT_BYTES_MAX || costs_more(db, HARD);
}

bool kv_checkpoint_is_current(const kv_db *db) {
    return db->checkpoint.phase == KV_CHECKPOINT_IDLE && db->file->super.replay >= db->committed_end &&
           !kv_log_is_waiting(db->file);
}

static void forget(kv_checkpoint *c) {
    free(c->pages);
    free(c->map);
    free(c->map_pages);
    *c = (kv_checkpoint){.pin = KV_NO_PIN};
}

/* Nothing comes of it: its map's pages are free again. */
static void drop(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    kv_nodes_unpin(db->nodes, c->pin);
    for (uint32_t i = 0; i < c->map_page_count && c->map_pages != NULL; i++) kv_nodes_retire(db->nodes, c->map_pages[i]);
    forget(c);
}

/* Pages for the space map, and the map itself, which says that they are in use. */
static kv_status make_map(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    uint32_t wanted = (uint32_t)((kv_map_bytes(db->file) + KV_MP_BYTES - 1) / KV_MP_BYTES) + 2; /* it may grow by this very step */
    kv_status status = kv_nodes_reserve_pages(db->nodes, wanted);
    if (status != KV_OK) return status;
    c->map_bytes = kv_map_bytes(db->file);
    uint32_t count = (uint32_t)((c->map_bytes + KV_MP_BYTES - 1) / KV_MP_BYTES);
    c->map = malloc((size_t)c->map_bytes);
    c->map_pages = malloc(count * sizeof *c->map_pages);
    if (c->map == NULL || c->map_pages == NULL || count > wanted) return KV_NO_MEMORY;
    while (c->map_page_count < count) c->map_pages[c->map_page_count++] = kv_nodes_take_page(db->nodes);
    for (uint32_t i = 0; i < db->map_page_count; i++) kv_nodes_retire(db->nodes, db->map_pages[i]);
    db->map_page_count = 0;
    kv_map_encode(db->file, c->map);
    return KV_OK;
}

static kv_status begin(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    kv_file *file = db->file;
    kv_status status = kv_db_settle(db);
    /* The sector at whose beginning replaying will begin: its header is not to wait for the first record. */
    if (status == KV_OK && file->log.start == 0) status = kv_log_write(file, false);
    if (status == KV_OK) status = kv_nodes_changed(db->nodes, &c->pages, &c->page_count);
    if (status == KV_OK) status = make_map(db);
    if (status == KV_OK && (c->pin = kv_nodes_pin(db->nodes)) == KV_NO_PIN) status = KV_TOO_MANY_CURSORS;
    if (status != KV_OK) {
        drop(db);
        return status;
    }
    c->super = file->super;
    c->super.replay = kv_log_position(file);
    c->super.log_sector = file->log.sector;
    c->super.chain = file->log.chain;
    c->super.generation = file->next_generation;
    c->super.root = db->head.main;
    c->super.catalog = db->head.catalog;
    c->super.map_page = c->map_pages[0];
    c->super.map_pages = c->map_page_count;
    c->super.map_sectors = file->sector_count;
    c->super.commit = db->last_commit;
    c->tail_records = db->tail_records;
    c->tail_bytes = db->tail_bytes;
    c->phase = KV_CHECKPOINT_WRITING;
    return KV_OK;
}

static kv_status write_map(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    uint8_t bytes[KV_PAGE_BYTES];
    for (uint32_t n = 0; n < PAGES_A_STEP && c->map_next < c->map_page_count; n++, c->map_next++) {
        uint64_t from = (uint64_t)c->map_next * KV_MP_BYTES, left = c->map_bytes - from;
        uint32_t page = c->map_pages[c->map_next];
        uint32_t next = c->map_next + 1 < c->map_page_count ? c->map_pages[c->map_next + 1] : 0;
        kv_map_page(db->file, c->super.sequence + 1, page, next, c->map + from, left < KV_MP_BYTES ? left : KV_MP_BYTES, bytes);
        kv_status status = kv_file_write(db->file, (uint64_t)page * KV_PAGE_BYTES, bytes, sizeof bytes, NULL);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

/* Write up to `limit` nodes. */
static kv_status write_some(kv_db *db, uint32_t limit) {
    kv_checkpoint *c = &db->checkpoint;
    kv_status status = KV_OK;
    if (c->next < c->page_count)
        status = kv_nodes_write(db->nodes, c->pages, c->page_count, &c->next, limit);
    else
        status = write_map(db);
    if (status != KV_OK) {
        drop(db);
        return kv_db_fail(db, status);
    }
    if (c->next == c->page_count && c->map_next == c->map_page_count) {
        c->phase = KV_CHECKPOINT_WRITTEN;
        free(c->pages);
        free(c->map);
        c->pages = NULL;
        c->map = NULL;
    }
    return KV_OK;
}

kv_status kv_checkpoint_step(kv_db *db, uint64_t bytes) {
    kv_checkpoint *c = &db->checkpoint;
    if (db->txn.state != KV_TXN_NONE || db->read_only || db->file->poisoned) return KV_OK;
    bool for_space = db->file->full && (db->tail_bytes > SMALL_TAIL_BYTES || db->collection.waiting > 0);
    if (c->phase == KV_CHECKPOINT_IDLE && (tail_exceeds(db, 1) || db->collection.waiting >= 8 || for_space)) {
        kv_status status = begin(db);
        if (status != KV_OK && tail_exceeds(db, HARD)) return status;
        if (status != KV_OK) return KV_OK; /* it is tried again with the next commit */
    }
    if (c->phase != KV_CHECKPOINT_WRITING) return KV_OK;
    if (tail_exceeds(db, HARD)) return KV_AGAIN;
    /* Be done when half as much log again has been written. */
    uint64_t pages = (uint64_t)(c->page_count + c->map_page_count) * 2 * (bytes + KV_RECORD_HEADER_BYTES) / interval(db) + 2;
    (void)write_some(db, pages > PAGES_A_STEP ? PAGES_A_STEP : (uint32_t)pages);
    return KV_OK;
}

kv_status kv_checkpoint_finish(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    if (c->phase == KV_CHECKPOINT_IDLE) {
        kv_status status = begin(db);
        if (status != KV_OK) return status;
    }
    c->wanted = true;
    if (c->phase != KV_CHECKPOINT_WRITING) return KV_OK;
    kv_status status = write_some(db, PAGES_A_STEP);
    return status == KV_OK && c->phase == KV_CHECKPOINT_WRITING ? KV_AGAIN : status;
}

kv_status kv_checkpoint_catch_up(kv_db *db) {
    if (db->txn.state != KV_TXN_NONE || db->compaction.open || db->read_only || db->file->poisoned) return KV_OK;
    if (!kv_checkpoint_is_behind(db)) return KV_OK;
    kv_status status = kv_checkpoint_finish(db);
    if (status == KV_AGAIN) return status;
    if (status == KV_OK) return KV_NEEDS_SYNC;
    db->flush_wanted = 0; /* what went wrong the next write will tell, if it still does */
    return KV_OK;
}

/* ---- flushes ---- */

bool kv_checkpoint_waits_for_flush(const kv_db *db) {
    return db->checkpoint.phase == KV_CHECKPOINT_WRITTEN || db->checkpoint.phase == KV_CHECKPOINT_SUPERBLOCK;
}

bool kv_checkpoint_wants_flush(const kv_db *db) {
    return db->superblock_pending ||
           (kv_checkpoint_waits_for_flush(db) && (db->checkpoint.wanted || tail_exceeds(db, HARD)));
}

bool kv_checkpoint_wants_pause(const kv_db *db) {
    if (!kv_checkpoint_waits_for_flush(db)) return false;
    uint64_t used = db->tail_bytes * 64 / interval(db), cost = replay_cost(db) * 64 / KV_CHECKPOINT_COST;
    if (cost > used) used = cost;
    return used >= PAUSES_FROM && (used >= 64 * HARD || db->last_commit % (PAUSES_APART * (64 * HARD - used)) == 0);
}

void kv_checkpoint_flush_begins(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    db->superblock_flushing = db->superblock_pending;
    c->flushing = kv_checkpoint_waits_for_flush(db);
    db->flushing_size = db->file->written_end;
}

static void complete(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    kv_file *file = db->file;
    uint32_t slot = file->super.sequence & 1;
    uint32_t given_up = db->slot_pin[slot];
    db->slot_pin[slot] = c->pin;
    file->slot_generation[slot] = kv_position_generation(file, c->super.replay);
    db->tail_records -= c->tail_records;
    db->tail_bytes -= c->tail_bytes;
    free(db->map_pages);
    db->map_pages = c->map_pages;
    db->map_page_count = c->map_page_count;
    c->map_pages = NULL;
    forget(c);
    kv_readers_give_up(db, file->super.sequence - 2, given_up);
    kv_collect_release(db);
}

/* The superblock of update_superblock: both slots refer to the same checkpoint now. */
static void superblock_durable(kv_db *db) {
    uint32_t slot = db->file->super.sequence & 1, given_up = db->slot_pin[slot];
    db->superblock_pending = db->superblock_flushing = false;
    db->slot_pin[slot] = kv_nodes_pin_again(db->nodes, db->slot_pin[!slot]);
    db->file->slot_generation[slot] = db->file->slot_generation[!slot];
    kv_readers_give_up(db, db->file->super.sequence - 2, given_up);
}

void kv_checkpoint_flushed(kv_db *db) {
    kv_checkpoint *c = &db->checkpoint;
    kv_file *file = db->file;
    db->durable_size = db->flushing_size;
    if (db->superblock_flushing) superblock_durable(db);
    if (!c->flushing) return;
    c->flushing = false;
    if (c->phase == KV_CHECKPOINT_SUPERBLOCK) {
        complete(db);
        return;
    }
    c->super.sequence = file->super.sequence;
    c->super.durable = db->durable > c->super.replay ? db->durable : c->super.replay; /* the flush has covered both */
    c->super.file_bytes = db->durable_size;
    kv_superblock before = file->super;
    file->super = c->super;
    c->phase = KV_CHECKPOINT_SUPERBLOCK;
    if (kv_superblock_write(file) != KV_OK) { /* into allocated space: it poisons, and the next call says so */
        file->super = before;
        file->poisoned = true;
    }
}

/* ---- closing ---- */

/* A superblock that refers to the newest checkpoint, and tells what is durable now. */
static kv_status update_superblock(kv_db *db) {
    kv_file *file = db->file;
    file->super.durable = db->durable > file->super.durable ? db->durable : file->super.durable;
    file->super.commit = db->last_commit;
    if (db->durable_size > file->super.file_bytes) file->super.file_bytes = db->durable_size;
    kv_status status = kv_superblock_write(file);
    if (status == KV_OK) db->superblock_pending = true;
    return status == KV_OK ? KV_OK : kv_db_fail(db, status);
}

kv_status kv_db_close_mark(kv_db *db) {
    if (db->file->poisoned) return KV_POISONED;
    if (db->read_only) return KV_OK;
    if (db->txn.state != KV_TXN_NONE || db->compaction.open) return KV_BUSY;
    bool small = db->tail_bytes <= SMALL_TAIL_BYTES && db->tail_records <= SMALL_TAIL_RECORDS;
    kv_status status = KV_OK;
    if (db->checkpoint.phase != KV_CHECKPOINT_IDLE || (!small && !kv_checkpoint_is_current(db)))
        status = kv_checkpoint_finish(db);
    if (status == KV_AGAIN || status == KV_IO) return status; /* without space or memory the log has it all the same */
    status = kv_db_sync_begin(db);
    if (status != KV_OK) return status;
    if (db->checkpoint.phase != KV_CHECKPOINT_IDLE) return KV_AGAIN;
    if (db->file->super.durable >= db->durable) return KV_OK;
    status = update_superblock(db);
    return status == KV_OK ? kv_db_sync_begin(db) : status;
}

void kv_checkpoint_end(kv_db *db) {
    forget(&db->checkpoint);
    free(db->map_pages);
    db->map_pages = NULL;
    db->map_page_count = 0;
}
