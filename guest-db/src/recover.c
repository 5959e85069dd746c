/* Opening: find the log's end, read the log into the index, secure what was not proven durable.
 *
 * What a commit mark confirms was durable; what lies behind the last such position may or may not be on the device,
 * whatever the page cache shows. Those commits are written once more, into a fresh sector, before anyone is answered. The
 * sector's header goes last: until it is there, the old tail is still the log. */
#include <stdlib.h>

#include "replay.h"

typedef struct recovery {
    kv_replay replay;
    kv_map map, other_map;
    kv_chain chain;
    kv_sector_bytes loaded;
} recovery;

/* Does the file end within what stands where the reader found no record? */
static kv_status is_cut(recovery *r, const kv_reader *reader, bool *cut) {
    kv_status status = kv_sector_load(r->replay.file, &r->loaded, r->chain.sectors[reader->index], reader->offset);
    *cut = false;
    if (status != KV_OK || r->loaded.available >= r->replay.file->sector_bytes) return status;
    for (uint64_t at = reader->offset; at < r->loaded.available && !*cut; at++) *cut = r->loaded.bytes[at] != 0;
    return KV_OK;
}

/* One pass over the log behind the checkpoint, up to the first record that is not valid. */
static kv_status find_end(recovery *r, kv_reader from) {
    kv_file *file = r->replay.file;
    kv_tail *t = &r->replay.tail;
    kv_reader reader;
    kv_status status;
    t->end = from;
    t->confirmed = kv_reader_position(&from);
    bool proven;
    uint64_t before, stop = 0, end;
    do { /* A sector is read in pieces while others write: one may have what comes behind a record that was passed too early. */
        before = stop;
        r->loaded.sector = UINT64_MAX;
        reader = t->end;
        status = kv_replay_scan(&r->replay, &reader, UINT64_MAX);
        if (status != KV_NOT_FOUND) return status;
        end = kv_reader_position(&t->end);
        stop = kv_reader_position(&reader);
        status = kv_log_proven(file, &r->loaded, stop, &proven);
    } while (status == KV_OK && proven && r->replay.db->read_only && stop > before);
    uint64_t durable = file->super.durable < end ? file->super.durable : end;
    if (durable > t->confirmed) t->confirmed = durable;
    if (status == KV_OK && proven) {
        uint64_t size = 0;
        (void)kv_file_size(file, &size);
        bool cut = kv_reader_file_offset(&reader) >= size;
        return kv_file_fail(file, KV_CORRUPT, cut ? KV_DETAIL_TRUNCATED : KV_DETAIL_RECORD,
                            kv_reader_file_offset(&reader));
    }
    if (status == KV_OK) status = is_cut(r, &reader, &t->cut);
    if (status == KV_OK) status = kv_sector_load(file, &r->loaded, r->chain.sectors[t->end.index], t->end.offset);
    if (status != KV_OK) return status;
    uint64_t leftover = kv_sector_leftovers(file, &r->loaded, t->end.offset);
    t->discarded_bytes = leftover > t->end.offset ? leftover - t->end.offset : 0;
    bool last = file->sectors[r->chain.sectors[t->end.index]].generation == kv_sectors_newest(file, KV_SECTOR_LOG);
    t->clean = last && t->discarded_bytes == 0 && t->confirmed == end && !t->cut;
    return KV_OK;
}

/* Have the fresh sector take the place of what follows the log's end. On a full disk that waits for the next commit. */
static kv_status supersede(kv_file *file) {
    kv_status status = kv_log_write(file, false);
    if (status == KV_DISK_FULL) return KV_OK;
    return status == KV_OK ? kv_file_sync(file) : status;
}

/* Headers that nothing proves to be on the device, of sectors that the next checkpoint will speak of all the same. */
static kv_status write_headers_again(recovery *r) {
    kv_file *file = r->replay.file;
    uint64_t proven = kv_position_generation(file, r->replay.tail.confirmed);
    kv_status status = KV_OK;
    for (uint64_t i = 0; i < file->sector_count && status == KV_OK; i++) {
        const kv_sector *s = &file->sectors[i];
        bool headed = s->type == KV_SECTOR_LOG || s->type == KV_SECTOR_VALUES;
        if (headed && s->generation > proven && s->generation >= file->super.generation)
            status = kv_replay_write_again(file, kv_sector_offset(file, i), kv_sector_offset(file, i) + KV_SECTOR_DATA);
    }
    return status;
}

/* Write what is not proven into a fresh sector, then the header that makes it the log. */
static kv_status rewrite_tail(recovery *r, kv_reader *reader) {
    kv_file *file = r->replay.file;
    uint64_t end = kv_reader_position(&r->replay.tail.end), begun = kv_reader_position(reader);
    kv_status status = write_headers_again(r);
    if (status == KV_OK) status = kv_log_begin(file, begun, reader->sum, begun < end);
    if (status != KV_OK) return status;
    if (begun >= end) return r->replay.tail.cut ? supersede(file) : KV_OK;
    uint64_t first = file->log.sector;
    r->replay.rewriting = true;
    r->replay.commit = 0;
    status = kv_replay_until(&r->replay, reader, end);
    if (status == KV_OK) status = kv_log_write(file, false);
    if (status == KV_OK) status = kv_file_sync(file);
    if (status == KV_OK) status = kv_log_write_header(file, first);
    if (status == KV_OK) status = kv_file_sync(file);
    return status;
}

/* ---- the checkpoint ---- */

/* Tell the index which pages are in use, or kept for the other slot's checkpoint. */
static kv_status know_pages(recovery *r) {
    kv_nodes *nodes = r->replay.db->nodes;
    const kv_file *file = r->replay.file;
    uint64_t sector = 0, other = 0;
    const uint8_t *kept = kv_map_next_pages(file, &r->other_map, &other, NULL);
    const uint8_t *used = kv_map_next_pages(file, &r->map, &sector, NULL);
    kv_status status = KV_OK;
    for (; used != NULL && status == KV_OK; used = kv_map_next_pages(file, &r->map, &sector, used)) {
        while (kept != NULL && other < sector) kept = kv_map_next_pages(file, &r->other_map, &other, kept);
        status = kv_nodes_know(nodes, sector, used, kept != NULL && other == sector ? kept : NULL);
    }
    return status;
}

/* What only the checkpoint of the other slot refers to stays as it is, until that slot has been written again. */
static void keep_other(recovery *r, uint32_t pin) {
    kv_file *file = r->replay.file;
    kv_nodes_keep(r->replay.db->nodes, pin);
    for (uint64_t i = 0; i < r->other_map.sectors && i < file->sector_count; i++) {
        kv_sector old = kv_map_sector(&r->other_map, i);
        if (file->sectors[i].type != 0 || (old.type != KV_SECTOR_LOG && old.type != KV_SECTOR_VALUES)) continue;
        bool whole = i + old.span <= file->sector_count;
        for (uint32_t inside = 1; whole && inside < old.span; inside++) whole = file->sectors[i + inside].type == 0;
        if (!whole) continue;
        file->sectors[i] = old;
        file->sectors[i].live = 0;
        file->sectors[i].emptied = true;
        file->sectors[i].emptied_epoch = r->replay.db->nodes->epoch;
        for (uint32_t inside = 1; inside < old.span; inside++) file->sectors[i + inside].type = KV_SECTOR_INSIDE;
        r->replay.db->collection.waiting++;
    }
}

static kv_status take_checkpoint(recovery *r) {
    kv_db *db = r->replay.db;
    kv_file *file = r->replay.file;
    kv_status status = kv_map_read(file, &file->super, &r->map);
    if (status == KV_OK) status = kv_sectors_read(file, &r->map);
    uint64_t size = 0;
    if (status == KV_OK) status = kv_file_size(file, &size);
    if (status == KV_OK && size < file->super.file_bytes)
        status = kv_file_fail(file, KV_CORRUPT, KV_DETAIL_TRUNCATED, size);
    bool other = file->other.sequence != 0;
    if (status == KV_OK && other) {
        status = kv_map_read(file, &file->other, &r->other_map);
        other = status == KV_OK; /* a damaged one is of no use to anybody */
        if (status == KV_CORRUPT) status = KV_OK;
    }
    if (status == KV_OK) status = know_pages(r);
    if (status != KV_OK) return status;
    db->head = (kv_state){file->super.root, file->super.catalog};
    bool known = (db->head.main.node == 0 || kv_nodes_holds(db->nodes, db->head.main.node)) &&
                 (db->head.catalog.node == 0 || kv_nodes_holds(db->nodes, db->head.catalog.node));
    if (!known) return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, 0);
    uint32_t slot = file->super.sequence & 1;
    file->slot_generation[slot] = kv_position_generation(file, file->super.replay);
    file->slot_generation[!slot] = UINT64_MAX;
    /* What a reader refers to that stands on an older one is not known, not even with its map: large values may have come and gone since.
     * So nothing that is free now may be used while it stands there. */
    uint32_t everything = KV_NO_PIN;
    if (db->older_readers) {
        everything = kv_nodes_pin(db->nodes);
        kv_readers_hold_older(db, file->super.sequence, everything);
    }
    if (other) {
        file->slot_generation[!slot] = kv_position_generation(file, file->other.replay);
        db->slot_pin[!slot] = kv_nodes_pin(db->nodes);
        keep_other(r, db->slot_pin[!slot]);
    }
    db->slot_pin[slot] = kv_nodes_pin(db->nodes);
    db->map_pages = r->map.pages;
    db->map_page_count = r->map.page_count;
    r->map.pages = NULL;
    if (everything != KV_NO_PIN) kv_nodes_quarantine(db->nodes, everything);
    db->last_commit = file->super.commit;
    return status;
}

static kv_status run(recovery *r) {
    kv_db *db = r->replay.db;
    kv_file *file = r->replay.file;
    kv_status status = take_checkpoint(r);
    if (status == KV_OK) status = kv_chain_find(file, &r->chain);
    if (status != KV_OK) return status;
    kv_reader reader;
    kv_reader_begin(&reader, file, &r->chain, &r->loaded);
    status = find_end(r, reader);
    if (status != KV_OK) return status;
    uint64_t end = kv_reader_position(&r->replay.tail.end);
    bool in_place = db->read_only || r->replay.tail.clean;
    status = kv_collect_begin(db, &r->chain, in_place ? r->replay.tail.end.index + 1 : r->chain.count);
    if (status == KV_OK) status = kv_replay_until(&r->replay, &reader, in_place ? end : r->replay.tail.confirmed);
    if (status == KV_OK && r->replay.tail.clean && !db->read_only)
        status = kv_log_resume(file, r->chain.sectors[r->replay.tail.end.index], r->replay.tail.end.offset, r->replay.tail.end.sum);
    else if (status == KV_OK && !db->read_only)
        status = rewrite_tail(r, &reader);
    if (r->replay.tail.last_commit > db->last_commit) db->last_commit = r->replay.tail.last_commit;
    db->recovered.discarded_bytes = r->replay.tail.discarded_bytes;
    /* The header of a fresh sector without records is written with the next commit, if nothing follows that may come back. */
    db->durable = db->committed_end = r->replay.rewriting ? kv_log_position(file) : r->replay.tail.confirmed;
    if (status == KV_OK && db->read_only) kv_follow_begin(db, &r->chain, &r->replay.tail);
    return status;
}

kv_status kv_recover(kv_db *db) {
    kv_file *file = db->file;
    recovery r = {.replay = {.db = db, .file = file}};
    r.replay.chain = &r.chain;
    r.replay.loaded = &r.loaded;
    r.loaded.sector = UINT64_MAX;
    file->urgent = true; /* on a full disk it may use what is spared */
    kv_status status = run(&r);
    file->urgent = false;
    if (status == KV_OK && !db->read_only) (void)kv_sectors_spare(file); /* and finds out that it is full */
    kv_chain_free(&r.chain);
    db->nodes->maps[0] = r.map.bytes; /* which looks at them later */
    db->nodes->maps[1] = r.other_map.bytes;
    r.map.bytes = r.other_map.bytes = NULL;
    kv_map_free(&r.map);
    kv_map_free(&r.other_map);
    free(r.loaded.bytes);
    free(r.replay.pending);
    return status;
}
