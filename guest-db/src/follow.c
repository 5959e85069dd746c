/* A reader beside a writer in another process: it follows the log.
 *
 * What it stands on is kept for it (readers.c), so new records are all that it has to read. A record that is not whole may be on
 * its way: the reader stops before it. Sectors that were given out since are found by their headers, as in recovery. When a newer
 * checkpoint has been made, or the log goes on from elsewhere because a writer has recovered it, the file is to be opened anew. */
#include <stdlib.h>

#include "replay.h"

#define RECORDS_A_STEP 4096u
#define TRIES 8u /* to find the log's end while it moves */
#define RECORD_BYTES_MAX (KV_RECORD_HEADER_BYTES + KV_KEY_MAX + KV_INLINE_MAX + 8u)

/* Is the reader's way still the log's? */
static bool goes_on(const kv_file *file, const kv_chain *chain, const kv_reader *end, uint64_t generation) {
    if (end->index >= chain->count || file->sectors[chain->sectors[end->index]].generation != generation) return false;
    if (end->index + 1 == chain->count) return true;
    uint64_t here = kv_position(file, generation, end->offset);
    return file->sectors[chain->sectors[end->index + 1]].previous >= here;
}

/* Does a sector that the chain does not lead to come after it? It has just been begun, or its predecessor has. */
static bool is_behind(const kv_file *file, const kv_follow *f) {
    return f->known > file->sectors[f->chain.sectors[f->chain.count - 1]].generation;
}

/* Headers are read one after the other while others write. That the log grows meanwhile does no harm. But a recovery has the sectors
 * that it wrote take the place of the log's end all at once, with the header of the first: one that was passed before it was there
 * may be missing. So where the log branches off, its headers are read again once the branch is known. `before`: what was known
 * before they were read. */
static bool is_sure(const kv_file *file, const kv_follow *f, uint64_t before) {
    return f->branch <= before && kv_chain_branch(file, &f->chain) <= before;
}

/* Look for sectors that were given out since. KV_EXISTS: the log goes on from elsewhere. */
static kv_status look_again(kv_db *db) {
    kv_file *file = db->file;
    kv_follow *f = &db->follow;
    bool changed;
    kv_status status = kv_sectors_look_again(file, &changed);
    f->known = kv_sectors_newest(file, KV_SECTOR_LOG);
    if (status != KV_OK || !changed) return status;
    kv_chain chain;
    status = kv_chain_find(file, &chain);
    if (status != KV_OK) return status == KV_CORRUPT ? KV_EXISTS : status;
    if (!goes_on(file, &chain, &f->end, f->generation)) {
        kv_chain_free(&chain);
        return KV_EXISTS;
    }
    kv_chain_free(&f->chain);
    f->chain = chain;
    return KV_OK;
}

/* What a record at the log's end could take, so that finding none costs no whole sector. */
static kv_status load_end(kv_db *db) {
    kv_file *file = db->file;
    kv_follow *f = &db->follow;
    f->loaded.sector = UINT64_MAX;
    if (f->loaded.bytes == NULL && (f->loaded.bytes = malloc(file->sector_bytes)) == NULL) return KV_NO_MEMORY;
    uint64_t sector = f->chain.sectors[f->end.index], left = file->sector_bytes - f->end.offset, got;
    uint64_t wanted = left < RECORD_BYTES_MAX ? left : RECORD_BYTES_MAX;
    kv_status status =
        kv_file_read_some(file, kv_sector_offset(file, sector) + f->end.offset, f->loaded.bytes + f->end.offset, wanted, &got);
    if (status != KV_OK) return status;
    f->loaded.sector = sector;
    f->loaded.from = f->end.offset;
    f->loaded.available = f->end.offset + got;
    f->loaded.partial = got == wanted && wanted < left;
    return KV_OK;
}

/* Read on to the end, or as far as a step goes: KV_NOT_FOUND and KV_OK as kv_replay_scan. `wherever`: the end may be before what the
 * headers announce, as it is for who opens the file. */
static kv_status scan(kv_db *db, kv_replay *r, bool wherever) {
    kv_file *file = db->file;
    kv_follow *f = &db->follow;
    kv_status status = KV_NOT_FOUND;
    for (uint32_t try = 0; try < TRIES && status == KV_NOT_FOUND; try++) {
        const uint64_t before = f->known;
        status = look_again(db);
        if (status == KV_OK) status = load_end(db);
        if (status != KV_OK) break;
        kv_reader reader = f->end;
        r->tail = (kv_tail){.end = f->end, .last_commit = db->last_commit};
        status = kv_replay_scan(r, &reader, RECORDS_A_STEP);
        if (r->tail.branch > f->branch) f->branch = r->tail.branch;
        bool all = wherever || (reader.index + 1 == f->chain.count && !is_behind(file, f));
        if (status == KV_NOT_FOUND && all && is_sure(file, f, before)) return KV_NOT_FOUND;
    }
    return status == KV_NOT_FOUND ? KV_EXISTS : status; /* opening will tell whether that is damage */
}

/* Whole commits or none: what was begun is forgotten when it fails. */
static kv_status apply(kv_db *db, kv_replay *r) {
    kv_follow *f = &db->follow;
    const uint64_t until = kv_reader_position(&r->tail.end);
    if (until == kv_reader_position(&f->end)) return KV_OK;
    const kv_state before = db->head;
    uint32_t pin = kv_nodes_pin(db->nodes);
    if (pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    kv_reader reader = f->end;
    kv_status status = kv_replay_until(r, &reader, until);
    free(r->pending);
    if (status != KV_OK) {
        db->head = before;
        kv_hash_clear(&db->hash);
        kv_chain_free(&f->chain); /* it cannot be tried again: the trees have forgotten what they had retired */
        status = status == KV_CORRUPT ? KV_EXISTS : kv_db_fail(db, status);
        return status; /* the pin keeps the version */
    }
    kv_nodes_unpin(db->nodes, pin);
    return KV_OK;
}

/* KV_OK: all there is; KV_AGAIN: there is more. */
static kv_status read_on(kv_db *db, bool wherever, uint64_t *commits) {
    kv_file *file = db->file;
    kv_follow *f = &db->follow;
    f->end.chain = &f->chain;
    f->end.loaded = &f->loaded;
    kv_replay r = {.db = db, .file = file, .chain = &f->chain, .loaded = &f->loaded, .following = true};
    kv_status status = scan(db, &r, wherever);
    bool at_end = status == KV_NOT_FOUND;
    if (status != KV_OK && !at_end) return status == KV_EXISTS ? status : kv_db_fail(db, status);
    status = apply(db, &r);
    if (status != KV_OK) return status;
    *commits = r.commits;
    f->end = r.tail.end;
    f->generation = file->sectors[f->chain.sectors[f->end.index]].generation;
    if (r.tail.last_commit > db->last_commit) db->last_commit = r.tail.last_commit;
    if (r.tail.confirmed > db->durable) db->durable = db->committed_end = r.tail.confirmed;
    return at_end ? KV_OK : KV_AGAIN;
}

kv_status kv_follow_step(kv_db *db, uint64_t *commits) {
    *commits = 0;
    if (!db->read_only) return KV_INVALID;
    if (db->follow.chain.count == 0) return KV_EXISTS;
    uint64_t newest;
    kv_status status = kv_superblock_newest(db->file, &newest);
    if (status != KV_OK) return kv_db_fail(db, status);
    return newest == db->file->super.sequence ? read_on(db, false, commits) : KV_EXISTS;
}

kv_status kv_follow_settle(kv_db *db) {
    kv_follow *f = &db->follow;
    kv_status status = KV_AGAIN;
    uint64_t commits;
    f->known = kv_sectors_newest(db->file, KV_SECTOR_LOG);
    if (is_sure(db->file, f, 0)) return KV_OK;
    while (status == KV_AGAIN) status = read_on(db, true, &commits);
    return status;
}

void kv_follow_take_over(kv_db *db, kv_db *fresh) {
    kv_check_end(db);
    memcpy(fresh->cursors, db->cursors, sizeof db->cursors);
    memcpy(fresh->snapshots, db->snapshots, sizeof db->snapshots);
    fresh->cursor_count = db->cursor_count;
    fresh->snapshot_count = db->snapshot_count;
    memset(db->cursors, 0, sizeof db->cursors);
    memset(db->snapshots, 0, sizeof db->snapshots);
    kv_db_free(db); /* whose file stays open for those that read it */
}

void kv_follow_begin(kv_db *db, kv_chain *chain, const kv_tail *tail) {
    kv_follow_end(db);
    db->follow.chain = *chain;
    *chain = (kv_chain){NULL, 0};
    db->follow.end = tail->end;
    db->follow.branch = tail->branch;
    db->follow.generation = db->file->sectors[db->follow.chain.sectors[tail->end.index]].generation;
    db->follow.loaded.sector = UINT64_MAX;
}

void kv_follow_end(kv_db *db) {
    kv_chain_free(&db->follow.chain);
    free(db->follow.loaded.bytes);
    db->follow.loaded.bytes = NULL;
}
