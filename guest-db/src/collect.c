/* Collection: the log's oldest sector is emptied, in steps that commits pay for, and then used again.
 *
 * The oldest sector is read record by record. What the index still refers to is appended to the log, as a commit of its own with
 * its old number; the rest is dead. Oldest first means that a delete needs no keeping: whatever it deleted was older still. When
 * everything that was moved is durable, a superblock says that the log begins one sector later. When both superblocks say so
 * and no version that is in use refers to the sector, it is free. No flush is made for any of this: each step waits for one
 * that commits ask for, unless nobody asks for long. */
#include <stdlib.h>

#include "db.h"

#ifndef KV_COLLECT_RESERVE
#define KV_COLLECT_RESERVE 8u /* sectors that a log may have whatever is live */
#endif
#define KV_COLLECT_STEP_BYTES (512u << 10)
#define KV_COLLECT_WAITING 4u /* empty sectors that may wait for a flush that nobody needs */

static uint64_t in_use(const kv_db *db) {
    return kv_sector_list_count(&db->file->log_sectors) - db->collection.emptied;
}

static bool is_due(const kv_db *db) {
    uint64_t sectors = in_use(db), live = db->head.live_bytes;
    return sectors > KV_COLLECT_RESERVE &&
           ((sectors - KV_COLLECT_RESERVE) << db->file->sector_shift) > 2 * live;
}

static uint64_t log_sector(const kv_db *db, uint64_t index) {
    return db->file->log_sectors.numbers[db->file->log_sectors.first + index];
}

static uint64_t lowest_start(const kv_file *file) {
    return file->slot_start[0] < file->slot_start[1] ? file->slot_start[0] : file->slot_start[1];
}

/* Move one record to the log's end if the index refers to it. False: not now. */
static bool move_if_live(kv_db *db, const kv_record *old, uint64_t value_offset) {
    kv_file *file = db->file;
    bool external = old->flags & KV_FLAG_EXTERNAL;
    kv_place place;
    if (!kv_tree_get(&db->nodes, &db->head, old->key, &place)) return true;
    if (place.offset != (external ? old->external : value_offset)) return true;
    if (place.length != old->value_length || place.sum != old->value_sum) return true; /* an older value in a run since reused */
    if (!external && kv_value_sum(old->value, old->value_length) != old->value_sum) {
        db->collection.blocked = true; /* it stays where it is, for `check` to report */
        return false;
    }
    if (kv_nodes_reserve(&db->nodes, kv_tree_reserve(&db->head)) != KV_OK) return false;
    kv_record record = *old;
    record.flags = (uint8_t)(KV_FLAG_COMMIT | (external ? KV_FLAG_EXTERNAL | KV_FLAG_FLUSHED : 0));
    record.confirmed = db->durable;
    kv_log_mark mark = kv_log_now(file);
    if (kv_log_append(file, &record, &place) != KV_OK) {
        kv_log_rewind(file, &mark);
        return false;
    }
    if (external) return true; /* the value is where it was */
    kv_apply_put(&db->nodes, &db->head, record.key, &place);
    kv_hash_drop(&db->hash, record.key);
    return true;
}

static void finish_sector(kv_db *db, uint64_t sector) {
    kv_collection *c = &db->collection;
    kv_sector *s = &db->file->sectors[sector];
    s->emptied = kv_log_position(db->file);
    s->emptied_epoch = db->nodes.epoch;
    c->emptied++;
    c->offset = KV_SECTOR_DATA;
    c->loaded.sector = UINT64_MAX; /* its number may mean other bytes one day */
}

void kv_collect_step(kv_db *db, uint64_t bytes) {
    kv_collection *c = &db->collection;
    kv_file *file = db->file;
    if (db->txn.state != KV_TXN_NONE || db->compaction.open) return;
    kv_sweep_step(db);
    if (c->blocked || !is_due(db)) return;
    uint64_t sector = log_sector(db, c->emptied);
    uint64_t until = file->sectors[log_sector(db, c->emptied + 1)].previous;
    if (until > db->durable) { /* what is moved must have been durable, or recovery could not tell what to trust */
        c->starved = true;
        return;
    }
    if (kv_sector_load(file, &c->loaded, sector) != KV_OK) return;
    uint32_t end = kv_position_offset(file, until), begun = c->offset;
    uint64_t budget = 3 * bytes + 4096;
    if (budget > KV_COLLECT_STEP_BYTES) budget = KV_COLLECT_STEP_BYTES;
    while (c->offset < end && c->offset - begun < budget) {
        kv_record record;
        uint64_t position = kv_position(file, file->sectors[sector].generation, c->offset);
        uint64_t available = c->loaded.available > c->offset ? c->loaded.available - c->offset : 0;
        if (!kv_record_decode(&record, c->loaded.bytes + c->offset, available, file->sectors[sector].salt, position)) {
            c->blocked = true;
            return;
        }
        uint64_t value = kv_sector_offset(file, sector) + c->offset + KV_RECORD_HEADER_BYTES + record.key.length;
        if (record.type == KV_RECORD_PUT && !move_if_live(db, &record, value)) return;
        c->offset += kv_record_bytes(&record);
    }
    if (c->offset >= end) finish_sector(db, sector);
}

/* ---- giving sectors back ---- */

void kv_collect_flush_begins(kv_db *db) {
    for (int slot = 0; slot < 2; slot++) {
        db->collection.slot_generation[slot] = db->file->slot_written[slot];
        db->collection.slot_durable[slot] = db->file->slot_written_durable[slot];
    }
    kv_sweep_flush_begins(db);
}

/* Sectors that neither superblock nor any version in use refers to are free. */
static void release(kv_db *db) {
    kv_collection *c = &db->collection;
    kv_file *file = db->file;
    while (c->emptied > 0) {
        uint64_t number = log_sector(db, 0);
        kv_sector *s = &file->sectors[number];
        if (s->generation >= lowest_start(file) || s->emptied_epoch > db->nodes.oldest_pin) return;
        if (kv_sector_list_push(&file->free, number) != KV_OK) return;
        s->type = 0;
        file->log_sectors.first++;
        c->emptied--;
    }
}

void kv_collect_flushed(kv_db *db) {
    kv_collection *c = &db->collection;
    kv_file *file = db->file;
    c->starved = false;
    for (int slot = 0; slot < 2; slot++) {
        file->slot_start[slot] = c->slot_generation[slot];
        file->slot_durable[slot] = c->slot_durable[slot];
    }
    release(db);
    kv_sweep_flushed(db);
    uint64_t durable = 0;
    while (durable < c->emptied && file->sectors[log_sector(db, durable)].emptied <= db->durable) durable++;
    uint64_t start = log_sector(db, durable), generation = file->sectors[start].generation;
    bool moved = file->slot_written[0] < generation || file->slot_written[1] < generation;
    if (!moved && !kv_sweep_wants_superblock(db)) return;
    file->super.log_generation = generation;
    file->super.log_sector = start;
    file->super.durable = db->durable;
    file->super.commit = db->last_commit;
    (void)kv_superblock_write(file); /* into allocated space: a failure poisons, and the next call says so */
}

bool kv_collect_wants_flush(const kv_db *db) {
    const kv_collection *c = &db->collection;
    if (c->starved || kv_sweep_wants_flush(db)) return true;
    return c->emptied >= KV_COLLECT_WAITING &&
           db->file->sectors[log_sector(db, 0)].generation >= lowest_start(db->file);
}

/* ---- after opening ---- */

/* Log sectors off the log are free, but for those in front of it that the older superblock may still begin with. */
kv_status kv_collect_begin(kv_db *db) {
    kv_file *file = db->file;
    db->collection.offset = KV_SECTOR_DATA;
    uint64_t oldest = file->sectors[log_sector(db, 0)].generation, waiting = 0;
    bool *is_log = calloc((size_t)file->sector_count + 1, sizeof *is_log);
    uint64_t *generations = malloc((size_t)(file->sector_count + 1) * sizeof *generations);
    kv_status status = is_log == NULL || generations == NULL ? KV_NO_MEMORY : KV_OK;
    for (uint64_t i = 0; status == KV_OK && i < kv_sector_list_count(&file->log_sectors); i++)
        is_log[log_sector(db, i)] = true;
    for (uint64_t i = 0; status == KV_OK && i < file->sector_count; i++) {
        kv_sector *s = &file->sectors[i];
        if (s->type != KV_SECTOR_LOG || is_log[i]) continue;
        if (s->generation >= lowest_start(file) && s->generation < oldest) {
            generations[waiting++] = s->generation;
            continue;
        }
        s->type = 0;
        status = kv_sector_list_push(&file->free, i);
    }
    if (status == KV_OK && waiting > 0) { /* they are empty already: put them in front again */
        qsort(generations, (size_t)waiting, sizeof *generations, kv_compare_numbers);
        kv_sector_list all = {0};
        for (uint64_t i = 0; i < waiting && status == KV_OK; i++) {
            uint64_t number = 0;
            if (kv_sector_find(file, KV_SECTOR_LOG, generations[i], &number))
                status = kv_sector_list_push(&all, number);
        }
        uint64_t put = kv_sector_list_count(&all);
        for (uint64_t i = 0; i < kv_sector_list_count(&file->log_sectors) && status == KV_OK; i++)
            status = kv_sector_list_push(&all, log_sector(db, i));
        if (status == KV_OK) {
            free(file->log_sectors.numbers);
            file->log_sectors = all;
            db->collection.emptied = put;
        } else {
            free(all.numbers);
        }
    }
    free(is_log);
    free(generations);
    return status;
}

void kv_collect_end(kv_db *db) {
    free(db->collection.loaded.bytes);
    db->collection = (kv_collection){.offset = KV_SECTOR_DATA};
    db->collection.loaded.sector = UINT64_MAX;
    kv_sweep_end(db);
}
