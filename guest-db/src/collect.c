/* Collection: the emptiest sector is emptied, in steps that commits pay for, and then used again.
 *
 * A log sector is read record by record. What the index still refers to is appended to the log, as a commit of its own with its
 * old number; the rest is dead. Only sectors are emptied from which neither superblock's checkpoint replays any more: what the
 * index says is all that matters there. A run of large values is given up when nothing in it is live. An emptied sector is free
 * when no version that is in use refers to it, the checkpoints of both superblock slots being such versions. */
#include <stdlib.h>

#include "db.h"

#ifndef KV_COLLECT_RESERVE
#define KV_COLLECT_RESERVE 4u /* sectors that the log may have whatever is live */
#endif
#define STEP_BYTES (512u << 10)
#define NONE UINT64_MAX

static uint64_t oldest_replay(const kv_file *file) {
    return file->slot_generation[0] < file->slot_generation[1] ? file->slot_generation[0] : file->slot_generation[1];
}

static bool may_be_emptied(const kv_db *db, uint64_t sector) {
    const kv_file *file = db->file;
    const kv_sector *s = &file->sectors[sector];
    if (s->emptied || s->blocked) return false;
    if (s->type == KV_SECTOR_VALUES) return s->live == 0 && !(file->run.open && file->run.sector == sector);
    return s->type == KV_SECTOR_LOG && s->generation < oldest_replay(file) && sector != file->log.sector;
}

/* The sector that costs least to empty, when it is time to: half as much again as is live, and a reserve, may be dead. */
static uint64_t choose(const kv_db *db) {
    const kv_file *file = db->file;
    uint64_t sectors = 0, live = 0, best = NONE;
    for (uint64_t i = 0; i < file->sector_count; i++) {
        const kv_sector *s = &file->sectors[i];
        if (s->type == KV_SECTOR_LOG && !s->emptied) {
            sectors++;
            live += s->live;
        }
        if (may_be_emptied(db, i) && (best == NONE || s->live < file->sectors[best].live)) best = i;
    }
    if (best == NONE || file->sectors[best].live == 0) return best;
    if (file->full) return file->sectors[best].live < file->sector_bytes / 8 * 7 ? best : NONE;
    bool due = sectors > KV_COLLECT_RESERVE && ((sectors - KV_COLLECT_RESERVE) << file->sector_shift) > live + live / 2;
    return due ? best : NONE;
}

/* Move one record to the log's end if the index refers to it. False: not now, or (blocked) never. */
static bool move_if_live(kv_db *db, const kv_record *old, uint64_t value_offset) {
    kv_file *file = db->file;
    kv_target target;
    kv_status status = kv_target_find(db, &db->head, old->table, old->key, &target);
    if (status == KV_NOT_FOUND || status == KV_NO_SUCH_TABLE) return true;
    kv_place place;
    if (status == KV_OK) status = kv_tree_get(db->nodes, &target.root, old->key, &place);
    if (status != KV_OK) return false;
    if (place.offset != value_offset) return true;
    bool good = place.length == old->value_length && place.sum == old->value_sum &&
                kv_value_sum(old->value, old->value_length) == old->value_sum;
    if (!good) {
        file->sectors[db->collection.sector].blocked = true; /* it stays where it is, for `check` to report */
        return false;
    }
    kv_record record = *old;
    record.flags = KV_FLAG_COMMIT;
    record.confirmed = db->durable;
    /* Its space is taken now: a record that waits for a commit must not become one that cannot be written. */
    if (kv_log_secure(file, kv_record_bytes(&record)) != KV_OK) return false;
    kv_log_mark mark = kv_log_now(file);
    if (kv_log_append(file, &record, &place) != KV_OK) {
        kv_log_rewind(file, &mark);
        return false;
    }
    kv_apply_put(db, &target.root, &target.path, record.key, true, &place);
    kv_target_store(db, &db->head, record.table, &target);
    kv_hash_drop(&db->hash, record.table, record.key);
    db->tail_records++;
    db->tail_bytes += kv_record_bytes(&record);
    return true;
}

static void give_up_sector(kv_db *db) {
    kv_collection *c = &db->collection;
    kv_sector *s = &db->file->sectors[c->sector];
    s->live = 0;
    s->emptied = true;
    s->emptied_epoch = db->nodes->epoch;
    c->waiting++;
    c->sector = NONE;
    c->loaded.sector = NONE; /* its number may mean other bytes one day */
}

/* Is the record one that the index does not refer to? */
static bool is_dead(kv_db *db, const kv_record *record, uint64_t value_offset) {
    kv_target target;
    kv_status status = kv_target_find(db, &db->head, record->table, record->key, &target);
    if (status == KV_NOT_FOUND || status == KV_NO_SUCH_TABLE) return true;
    kv_place place;
    if (status == KV_OK) status = kv_tree_get(db->nodes, &target.root, record->key, &place);
    return status == KV_OK && place.offset != value_offset;
}

/* The records of a run, by their headers. */
static void look_at_run(kv_db *db) {
    kv_collection *c = &db->collection;
    kv_file *file = db->file;
    kv_sector *s = &file->sectors[c->sector];
    uint64_t limit = ((uint64_t)s->span << file->sector_shift) - KV_RECORD_HEADER_BYTES;
    for (uint64_t offset = KV_SECTOR_DATA; offset < limit;) {
        uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
        uint64_t at = kv_sector_offset(file, c->sector) + offset, got;
        kv_record record;
        if (kv_file_read_some(file, at, bytes, sizeof bytes, &got) != KV_OK) return;
        uint64_t position = kv_position(file, s->generation, offset);
        if (!kv_record_decode(&record, bytes, got, s->salt, position) || record.type != KV_RECORD_VALUE) break;
        if (!is_dead(db, &record, at + KV_RECORD_HEADER_BYTES + record.key.length)) {
            s->blocked = true; /* the counts are wrong, and say so in `check` */
            c->sector = NONE;
            return;
        }
        offset += kv_record_span(record.key.length, record.value_length);
    }
    give_up_sector(db);
}

/* Every record was looked at. What is live all the same lies behind damage, and keeps the sector. */
static void end_of_sector(kv_db *db) {
    kv_collection *c = &db->collection;
    kv_sector *s = &db->file->sectors[c->sector];
    if (s->live == 0) {
        give_up_sector(db);
        return;
    }
    s->blocked = true;
    c->sector = NONE;
}

static void look_at_log(kv_db *db, uint64_t budget) {
    kv_collection *c = &db->collection;
    kv_file *file = db->file;
    const uint64_t sector = c->sector, generation = file->sectors[sector].generation, salt = file->sectors[sector].salt;
    if (kv_sector_load(file, &c->loaded, sector, 0) != KV_OK) return;
    uint64_t available = c->loaded.available, usable = file->sector_bytes - KV_SECTOR_TAIL, begun = c->offset;
    if (available > usable) available = usable;
    while (c->offset - begun < budget) {
        kv_record record;
        uint64_t left = available > c->offset ? available - c->offset : 0;
        if (!kv_record_decode(&record, c->loaded.bytes + c->offset, left, salt, kv_position(file, generation, c->offset))) {
            end_of_sector(db);
            return;
        }
        uint64_t value = kv_sector_offset(file, sector) + c->offset + KV_RECORD_HEADER_BYTES + record.key.length;
        if (kv_record_has_inline_value(&record) && !move_if_live(db, &record, value)) {
            if (file->sectors[sector].blocked) c->sector = NONE;
            return;
        }
        c->offset += kv_record_bytes(&record);
    }
}

void kv_collect_step(kv_db *db, uint64_t bytes) {
    kv_collection *c = &db->collection;
    if (db->txn.state != KV_TXN_NONE || db->compaction.open) return;
    if (c->waiting > 0 && c->released_at != db->nodes->oldest_pin) kv_collect_release(db);
    if (c->sector == NONE) {
        if (c->looked_at == db->file->next_generation && !db->file->full) return; /* nothing was given out since */
        c->looked_at = db->file->next_generation;
        c->sector = choose(db);
        c->offset = KV_SECTOR_DATA;
        if (c->sector == NONE) return;
    }
    uint64_t budget = 4 * bytes + 4096;
    if (budget > STEP_BYTES) budget = STEP_BYTES;
    if (db->file->full) budget = db->file->sector_bytes; /* whoever is killed again and again must get on, too */
    if (db->file->sectors[c->sector].type == KV_SECTOR_VALUES)
        look_at_run(db);
    else
        look_at_log(db, budget);
    if (c->sector == NONE) c->looked_at = 0; /* there may be another */
}

void kv_collect_release(kv_db *db) {
    kv_collection *c = &db->collection;
    kv_file *file = db->file;
    c->released_at = db->nodes->oldest_pin;
    for (uint64_t i = 0; i < file->sector_count && c->waiting > 0; i++) {
        kv_sector *s = &file->sectors[i];
        if (!s->emptied || s->emptied_epoch > db->nodes->oldest_pin) continue;
        if (kv_sectors_free(file, i) != KV_OK) return;
        c->waiting--;
        c->looked_at = 0;
    }
}

/* ---- after opening ---- */

/* Somebody may still read what lies in it: as if it had just been emptied. */
static void keep_free(kv_db *db, kv_sector *s, uint64_t epoch) {
    *s = (kv_sector){.type = KV_SECTOR_VALUES, .span = 1, .erases = s->erases, .emptied = true, .emptied_epoch = epoch};
    db->collection.waiting++;
}

/* Log sectors off the log that were given out since the checkpoint are of no use: recovery has left them behind. A reader that came
 * before may be behind, too. */
kv_status kv_collect_begin(kv_db *db, const kv_chain *chain, uint64_t count) {
    kv_file *file = db->file;
    for (uint64_t i = 0; i < file->sector_count; i++) {
        kv_sector *s = &file->sectors[i];
        bool superseded = s->type == KV_SECTOR_LOG && s->generation >= file->super.generation && !s->emptied;
        for (uint64_t at = 0; superseded && at < count; at++) superseded = chain->sectors[at] != i;
        if (superseded && db->readers)
            keep_free(db, s, db->nodes->epoch);
        else if (superseded)
            *s = (kv_sector){.erases = s->erases};
        if (s->type == 0 && db->held_count > 0) keep_free(db, s, db->nodes->pins[db->held[0].pin].epoch + 1);
        if (s->type != 0 || db->read_only) continue;
        kv_status status = kv_sector_list_push(&file->free, i);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

void kv_collect_end(kv_db *db) {
    free(db->collection.loaded.bytes);
    db->collection = (kv_collection){.sector = NONE, .loaded = {.sector = NONE}};
}
