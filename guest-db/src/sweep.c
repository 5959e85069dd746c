/* Sweeping: runs of value sectors in which nothing is live are used again.
 *
 * When many more sectors hold large values than the last time round, the index is walked, a bit with each commit, and the sectors
 * of every large value are marked. What is neither marked, nor log, nor free, nor newer than the walk is dead. It is free
 * when no version in use refers to it, when both superblocks begin recovery behind the records that replaced its values (what they
 * prove is never compared with its value again), and when the run's header has been erased for good: its later sectors must
 * not be taken for a part of it any more. */
#include <stdlib.h>

#include "db.h"

#ifndef KV_SWEEP_RESERVE
#define KV_SWEEP_RESERVE 8u /* sectors by which large values may grow before a sweep */
#endif
#define ENTRIES_A_STEP 1024u

static uint64_t value_sectors(const kv_db *db) {
    const kv_file *file = db->file;
    return file->sector_count - kv_sector_list_count(&file->log_sectors) - kv_sector_list_count(&file->free);
}

static void stop(kv_db *db) {
    kv_sweep *s = &db->sweep;
    kv_nodes_unpin(&db->nodes, s->version.pin);
    free(s->state);
    uint64_t next = s->next_at;
    *s = (kv_sweep){.version = {.pin = KV_NO_PIN}, .next_at = next};
}

void kv_sweep_end(kv_db *db) {
    stop(db);
    db->sweep.next_at = 0;
}

enum { OTHER, CANDIDATE, MARKED, ERASED };

static void begin(kv_db *db) {
    kv_sweep *s = &db->sweep;
    kv_file *file = db->file;
    s->state = calloc((size_t)file->sector_count, 1);
    if (s->state == NULL) return;
    uint32_t pin = kv_pin_head(db);
    if (pin == KV_NO_PIN) {
        stop(db);
        return;
    }
    s->version = (kv_version){db->head, pin};
    s->sectors = file->sector_count;
    s->position = db->committed_end;
    s->phase = KV_SWEEP_MARKING;
    for (uint64_t i = 0; i < s->sectors; i++) s->state[i] = file->sectors[i].type == KV_SECTOR_LOG ? OTHER : CANDIDATE;
    for (uint64_t i = file->free.first; i < file->free.end; i++) s->state[file->free.numbers[i]] = OTHER;
    if (file->run.open)
        for (uint64_t i = file->run.sector; i < s->sectors && i < file->run.sector + file->sectors[file->run.sector].span; i++)
            s->state[i] = OTHER;
}

/* Mark the sectors from the value's record header to its end; with them the run in which it lies. */
static void mark(kv_db *db, uint32_t key_length, const kv_place *place) {
    kv_sweep *s = &db->sweep;
    const kv_file *file = db->file;
    uint64_t from, start = place->offset - key_length - KV_RECORD_HEADER_BYTES;
    if (!kv_stored_sector(file, start, &from)) return;
    uint64_t to = (place->offset + place->length - KV_SECTORS_START) >> file->sector_shift;
    uint64_t run_end = from + (file->sectors[from].type == KV_SECTOR_VALUES ? file->sectors[from].span : 1);
    if (to + 1 < run_end) to = run_end - 1;
    for (uint64_t i = from; i <= to && i < s->sectors; i++)
        if (s->state[i] == CANDIDATE) s->state[i] = MARKED;
}

static void mark_some(kv_db *db) {
    kv_sweep *s = &db->sweep;
    kv_walk walk = {.nodes = &db->nodes, .root = s->version.root};
    uint8_t buffer[KV_KEY_MAX];
    kv_last_key_seek(&s->last, &walk);
    for (uint32_t n = 0; walk.valid && n < ENTRIES_A_STEP; n++, kv_walk_next(&walk)) {
        kv_place place = kv_walk_place(&walk);
        kv_key key = kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer);
        if (place.length > KV_INLINE_MAX) mark(db, key.length, &place);
        kv_last_key_set(&s->last, key);
    }
    if (walk.valid) return;
    uint64_t marked = 0, dead = 0;
    for (uint64_t i = 0; i < s->sectors; i++) {
        marked += s->state[i] == MARKED;
        dead += s->state[i] == CANDIDATE;
    }
    kv_nodes_unpin(&db->nodes, s->version.pin);
    s->version.pin = KV_NO_PIN;
    s->epoch = db->nodes.epoch; /* later pins are of versions without the dead values: these were replaced before the walk */
    s->next_at = marked + marked / 2 + KV_SWEEP_RESERVE;
    s->phase = KV_SWEEP_WAITING;
    if (dead == 0) stop(db);
}

void kv_sweep_step(kv_db *db) {
    kv_sweep *s = &db->sweep;
    if (s->phase == KV_SWEEP_IDLE) {
        uint64_t least = s->next_at > KV_SWEEP_RESERVE ? s->next_at : KV_SWEEP_RESERVE;
        if (value_sectors(db) > least) begin(db);
    }
    if (s->phase == KV_SWEEP_MARKING) mark_some(db);
}

bool kv_sweep_wants_superblock(const kv_db *db) {
    const kv_sweep *s = &db->sweep;
    const kv_file *file = db->file;
    return s->phase == KV_SWEEP_WAITING && s->position <= db->durable &&
           (file->slot_written_durable[0] < s->position || file->slot_written_durable[1] < s->position);
}

bool kv_sweep_wants_flush(const kv_db *db) {
    const kv_sweep *s = &db->sweep;
    return s->phase == KV_SWEEP_ERASING || (s->phase == KV_SWEEP_WAITING && db->nodes.oldest_pin >= s->epoch);
}

/* Overwrite the headers of dead runs. */
static void erase(kv_db *db) {
    static const uint8_t zeros[KV_SECTOR_DATA];
    kv_sweep *s = &db->sweep;
    kv_file *file = db->file;
    for (uint64_t i = 0; i < s->sectors; i++) {
        if (s->state[i] != CANDIDATE) continue;
        if (file->sectors[i].type == KV_SECTOR_VALUES &&
            kv_file_write(file, kv_sector_offset(file, i), zeros, sizeof zeros, NULL) != KV_OK)
            return; /* as it was, or poisoned */
        file->sectors[i].type = 0;
        s->state[i] = ERASED;
    }
    s->phase = KV_SWEEP_ERASING;
}

void kv_sweep_flush_begins(kv_db *db) { db->sweep.erased_before_flush = db->sweep.phase == KV_SWEEP_ERASING; }

void kv_sweep_flushed(kv_db *db) {
    kv_sweep *s = &db->sweep;
    kv_file *file = db->file;
    if (s->phase == KV_SWEEP_ERASING && s->erased_before_flush) {
        for (uint64_t i = 0; i < s->sectors; i++)
            if (s->state[i] == ERASED) (void)kv_sector_list_push(&file->free, i); /* without memory: not this time */
        stop(db);
    } else if (s->phase == KV_SWEEP_WAITING && file->slot_durable[0] >= s->position &&
               file->slot_durable[1] >= s->position && db->nodes.oldest_pin >= s->epoch) {
        erase(db);
    }
}

/* The whole of it at once: who opens a database for one large value never sees the flushes that the steps wait for. */
kv_status kv_sweep_at_open(kv_db *db) {
    kv_sweep *s = &db->sweep;
    kv_file *file = db->file;
    if (value_sectors(db) <= KV_SWEEP_RESERVE) return KV_OK;
    begin(db);
    while (s->phase == KV_SWEEP_MARKING) mark_some(db);
    if (s->phase != KV_SWEEP_WAITING) return KV_OK;
    file->super.durable = db->durable;
    file->super.commit = db->last_commit;
    kv_status status = KV_OK;
    for (int slot = 0; slot < 2 && status == KV_OK; slot++) {
        status = kv_superblock_write(file);
        if (status == KV_OK) status = kv_file_sync(file);
    }
    if (status == KV_OK) {
        for (int slot = 0; slot < 2; slot++) {
            file->slot_start[slot] = file->slot_written[slot];
            file->slot_durable[slot] = file->slot_written_durable[slot];
        }
        erase(db);
        if (s->phase == KV_SWEEP_ERASING) status = kv_file_sync(file);
        s->erased_before_flush = status == KV_OK;
        if (status == KV_OK) kv_sweep_flushed(db);
    }
    if (s->phase != KV_SWEEP_IDLE) stop(db);
    return file->poisoned ? status : KV_OK;
}
