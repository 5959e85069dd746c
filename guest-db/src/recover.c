/* Opening: find the log's end, read the log into the index, secure what was not proven durable.
 *
 * What a commit mark confirms was durable; what lies behind the last such position may or may not be on the device,
 * whatever the page cache shows. Those commits are written once more, into a fresh sector, before anyone is answered. The
 * sector's header goes last: until it is there, the old tail is still the log. */
#include "db.h"
#include "reader.h"

#include <stdlib.h>

typedef struct tail {
    kv_reader end;      /* behind the last commit mark */
    uint64_t confirmed; /* all before it is proven durable */
    uint64_t last_commit;
    bool clean; /* all is proven, and no record follows that could come back */
    bool cut;   /* the file ends within what follows: when it grows, zeros may make that a record */
    uint64_t discarded_bytes;
} tail;

/* Where a record of the commit at hand is. */
typedef struct place_in_log {
    uint64_t index;
    uint32_t offset, sum; /* as in kv_reader, before it is read */
    uint32_t number;      /* in its commit */
} place_in_log;

typedef struct recovery {
    kv_db *db;
    kv_file *file;
    kv_map map, other_map;
    kv_chain chain;
    kv_sector_bytes loaded;
    tail tail;
    bool rewriting;
    /* the commit at hand: applied when its mark is found */
    uint64_t commit;
    uint32_t records; /* so far */
    place_in_log *pending;
    uint32_t pending_count, pending_capacity;
} recovery;

/* Is what a record refers to whole: run, record header and value? */
static kv_status verify_external(kv_file *file, const kv_record *record, bool *whole) {
    kv_place place = {record->external, record->value_length, record->value_sum};
    kv_record stored;
    uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_status status = kv_stored_record(file, record->key, &place, &stored, bytes);
    *whole = status == KV_OK;
    if (status == KV_CORRUPT) return KV_OK;
    uint8_t *piece = malloc(KV_PIECE_BYTES);
    if (piece == NULL) return KV_NO_MEMORY;
    kv_xxh64_state sum;
    kv_xxh64_begin(&sum, 0);
    for (uint64_t done = 0; done < record->value_length && status == KV_OK; done += KV_PIECE_BYTES) {
        uint64_t wanted = record->value_length - done, got;
        if (wanted > KV_PIECE_BYTES) wanted = KV_PIECE_BYTES;
        status = kv_file_read_some(file, record->external + done, piece, wanted, &got);
        kv_xxh64_add(&sum, piece, (size_t)got);
    }
    free(piece);
    *whole = (uint32_t)kv_xxh64_end(&sum) == record->value_sum;
    return status;
}

/* Write the bytes [from, to) of the file once more: what the page cache shows will then be on the device, too. */
static kv_status write_again(kv_file *file, uint64_t from, uint64_t to) {
    uint8_t *piece = malloc(KV_PIECE_BYTES);
    if (piece == NULL) return KV_NO_MEMORY;
    kv_status status = KV_OK;
    for (; from < to && status == KV_OK; from += KV_PIECE_BYTES) {
        uint64_t bytes = to - from < KV_PIECE_BYTES ? to - from : KV_PIECE_BYTES;
        status = kv_file_read(file, from, piece, bytes);
        if (status == KV_OK) status = kv_file_write(file, from, piece, bytes, NULL);
    }
    free(piece);
    return status;
}

static kv_status write_external_again(kv_file *file, const kv_record *record) {
    uint64_t sector, start = record->external - KV_RECORD_HEADER_BYTES - record->key.length;
    if (!kv_stored_sector(file, start, &sector)) return KV_OK; /* damaged: reading it will say so */
    uint64_t header = kv_sector_offset(file, sector);
    kv_status status = write_again(file, header, header + KV_SECTOR_DATA);
    return status == KV_OK ? write_again(file, start, record->external + record->value_length) : status;
}

/* Does the file end within what stands where the reader found no record? */
static kv_status is_cut(recovery *r, const kv_reader *reader, bool *cut) {
    kv_status status = kv_sector_load(r->file, &r->loaded, r->chain.sectors[reader->index]);
    *cut = false;
    if (status != KV_OK || r->loaded.available >= r->file->sector_bytes) return status;
    for (uint64_t at = reader->offset; at < r->loaded.available && !*cut; at++) *cut = r->loaded.bytes[at] != 0;
    return KV_OK;
}

/* One pass over the log behind the checkpoint, up to the first record that is not valid. */
static kv_status find_end(recovery *r, kv_reader from) {
    kv_file *file = r->file;
    tail *t = &r->tail;
    kv_reader reader = from;
    t->end = from;
    t->confirmed = kv_reader_position(&from);
    uint64_t commit = 0;
    uint32_t records = 0;
    bool external_bad = false;
    kv_status status = KV_OK;
    for (;;) {
        kv_reader before = reader;
        kv_record record;
        uint64_t position;
        status = kv_reader_next(&reader, &record, &position);
        if (status != KV_OK) break;
        if (record.commit != commit) {
            commit = record.commit;
            records = 0;
            external_bad = false;
        }
        if (commit > t->last_commit) t->last_commit = commit;
        bool matches = true;
        if (kv_record_has_inline_value(&record))
            matches = kv_value_sum(record.value, record.value_length) == record.value_sum;
        if (!matches) { /* torn, unless it was durable once: then only this value is lost, and reads will say so */
            kv_sector_bytes others = {NULL, UINT64_MAX, 0}; /* the record lies in the reader's */
            status = kv_log_proven(file, &others, position, &matches);
            free(others.bytes);
            if (status == KV_OK && !matches) status = KV_NOT_FOUND;
        }
        if (status == KV_OK && (record.flags & KV_FLAG_EXTERNAL) && position >= file->super.durable) {
            status = verify_external(file, &record, &matches);
            external_bad = external_bad || !matches;
        }
        bool mark = record.flags & KV_FLAG_COMMIT;
        if (status == KV_OK && mark && external_bad && !(record.flags & KV_FLAG_FLUSHED)) status = KV_NOT_FOUND;
        if (status == KV_OK && record.type == KV_RECORD_COMMIT && record.value_length != records) status = KV_NOT_FOUND;
        if (status != KV_OK) {
            reader = before;
            break;
        }
        records++;
        if (!mark) continue;
        t->end = reader;
        if (record.confirmed > t->confirmed) t->confirmed = record.confirmed;
        commit = 0; /* numbers of moved records need not rise */
    }
    if (status != KV_NOT_FOUND) return status;
    uint64_t end = kv_reader_position(&t->end), durable = file->super.durable < end ? file->super.durable : end;
    if (durable > t->confirmed) t->confirmed = durable;
    bool proven;
    uint64_t stop = kv_reader_position(&reader);
    status = kv_log_proven(file, &r->loaded, stop, &proven);
    if (status == KV_OK && proven) {
        uint64_t size = 0;
        (void)kv_file_size(file, &size);
        bool cut = kv_reader_file_offset(&reader) >= size;
        return kv_file_fail(file, KV_CORRUPT, cut ? KV_DETAIL_TRUNCATED : KV_DETAIL_RECORD,
                            kv_reader_file_offset(&reader));
    }
    if (status == KV_OK) status = is_cut(r, &reader, &t->cut);
    if (status == KV_OK) status = kv_sector_load(file, &r->loaded, r->chain.sectors[t->end.index]);
    if (status != KV_OK) return status;
    uint64_t leftover = kv_sector_leftovers(file, &r->loaded, t->end.offset);
    t->discarded_bytes = leftover > t->end.offset ? leftover - t->end.offset : 0;
    bool last = t->end.index + 1 == r->chain.count;
    uint64_t generation = file->sectors[r->chain.sectors[t->end.index]].generation;
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].type == KV_SECTOR_LOG && file->sectors[i].generation > generation) last = false;
    t->clean = last && t->discarded_bytes == 0 && t->confirmed == end && !t->cut;
    return KV_OK;
}

/* ---- applying ---- */

/* Put one record of a whole commit into the index; when the tail is being rewritten, into the new log as well. */
static kv_status apply(recovery *r, kv_record *record, uint64_t file_offset, bool ends_commit) {
    kv_db *db = r->db;
    bool external = record->flags & KV_FLAG_EXTERNAL;
    kv_place place = {external ? record->external : file_offset + KV_RECORD_HEADER_BYTES + record->key.length,
                      record->value_length, record->value_sum};
    kv_target target;
    kv_status status = KV_OK;
    bool keyed = record->type == KV_RECORD_PUT || record->type == KV_RECORD_DELETE;
    if (keyed) status = kv_target_find(db, &db->head, record->table, record->key, &target);
    if (status != KV_OK && status != KV_NOT_FOUND) return status == KV_NO_SUCH_TABLE ? KV_CORRUPT : status;
    if (r->rewriting) {
        status = external ? write_external_again(r->file, record) : KV_OK;
        if (record->confirmed != 0) record->confirmed = r->tail.confirmed;
        if (status == KV_OK) status = kv_log_append(r->file, record, external ? NULL : &place);
        if (status != KV_OK) return status;
        db->recovered.commits += ends_commit;
    }
    db->tail_records++;
    db->tail_bytes += kv_record_bytes(record) + (external ? record->value_length : 0);
    if (record->type == KV_RECORD_PUT) kv_apply_put(db, &target.root, &target.path, record->key, target.there, &place);
    if (record->type == KV_RECORD_DELETE && target.there) kv_apply_delete(db, &target.root, &target.path, record->key);
    if (keyed) kv_target_store(db, &db->head, record->table, &target);
    if (record->commit > db->last_commit) db->last_commit = record->commit;
    if (record->type == KV_RECORD_TABLE) return kv_table_apply_create(db, &db->head, record->key, record->table);
    if (record->type != KV_RECORD_DROP) return KV_OK;
    kv_root root;
    status = kv_table_root(db, db->nodes, &db->head, record->table, &root);
    if (status != KV_OK) return status == KV_NO_SUCH_TABLE ? KV_OK : status;
    do
        status = kv_tree_empty_some(db, &root, 4096);
    while (status == KV_AGAIN);
    return status == KV_OK ? kv_table_apply_drop(db, &db->head, record->key, record->table) : status;
}

static kv_status damaged_at(recovery *r, const kv_reader *reader) {
    return kv_file_fail(r->file, KV_CORRUPT, KV_DETAIL_RECORD, kv_reader_file_offset(reader));
}

/* Apply the records of a commit, now that its mark is found. */
static kv_status apply_pending(recovery *r, kv_record *mark) {
    kv_reader reader;
    kv_reader_begin(&reader, r->file, &r->chain, &r->loaded);
    kv_status status = KV_OK;
    for (uint32_t i = 0; i < r->pending_count && status == KV_OK; i++) {
        kv_record record;
        uint64_t position;
        reader.index = r->pending[i].index;
        reader.offset = r->pending[i].offset;
        reader.sum = r->pending[i].sum;
        status = kv_reader_next(&reader, &record, &position);
        if (status == KV_NOT_FOUND) return damaged_at(r, &reader);
        uint64_t at = kv_reader_file_offset(&reader) - kv_record_bytes(&record);
        if (status == KV_OK) status = apply(r, &record, at, false);
    }
    mark->value_length = r->pending_count;
    return status == KV_OK ? apply(r, mark, 0, true) : status;
}

static kv_status note_pending(recovery *r, const kv_reader *before) {
    if (r->pending_count == r->pending_capacity) {
        uint32_t capacity = r->pending_capacity == 0 ? 256 : 2 * r->pending_capacity;
        place_in_log *grown =
            capacity > UINT32_MAX / sizeof *grown ? NULL : realloc(r->pending, capacity * sizeof *grown);
        if (grown == NULL) return KV_NO_MEMORY;
        r->pending = grown;
        r->pending_capacity = capacity;
    }
    r->pending[r->pending_count++] = (place_in_log){before->index, before->offset, before->sum, r->records};
    return KV_OK;
}

/* Take the records up to log position `until`, commit by commit; the reader ends there. */
static kv_status apply_until(recovery *r, kv_reader *reader, uint64_t until) {
    while (kv_reader_position(reader) < until) {
        kv_record record;
        uint64_t position;
        kv_reader before = *reader;
        kv_status status = kv_reader_next(reader, &record, &position);
        if (status == KV_NOT_FOUND) return damaged_at(r, reader);
        if (status != KV_OK) return status;
        if (record.commit != r->commit) r->records = r->pending_count = 0; /* rolled back, or cut off */
        r->commit = record.commit;
        if (record.type == KV_RECORD_COMMIT) {
            status = apply_pending(r, &record);
        } else if (record.flags & KV_FLAG_COMMIT) {
            status = apply(r, &record, kv_reader_file_offset(reader) - kv_record_bytes(&record), true);
        } else if (record.type == KV_RECORD_UNDO) {
            r->records++;
            while (r->pending_count > 0 && r->pending[r->pending_count - 1].number >= record.value_length) r->pending_count--;
            continue;
        } else {
            status = note_pending(r, &before);
            r->records++;
            if (status == KV_OK) continue;
        }
        if (status != KV_OK) return status;
        r->commit = 0; /* numbers of moved records need not rise */
        r->records = r->pending_count = 0;
    }
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
    kv_file *file = r->file;
    uint64_t proven = kv_position_generation(file, r->tail.confirmed);
    kv_status status = KV_OK;
    for (uint64_t i = 0; i < file->sector_count && status == KV_OK; i++) {
        const kv_sector *s = &file->sectors[i];
        bool headed = s->type == KV_SECTOR_LOG || s->type == KV_SECTOR_VALUES;
        if (headed && s->generation > proven && s->generation >= file->super.generation)
            status = write_again(file, kv_sector_offset(file, i), kv_sector_offset(file, i) + KV_SECTOR_DATA);
    }
    return status;
}

/* Write what is not proven into a fresh sector, then the header that makes it the log. */
static kv_status rewrite_tail(recovery *r, kv_reader *reader) {
    kv_file *file = r->file;
    uint64_t end = kv_reader_position(&r->tail.end), begun = kv_reader_position(reader);
    kv_status status = write_headers_again(r);
    if (status == KV_OK) status = kv_log_begin(file, begun, reader->sum, begun < end);
    if (status != KV_OK) return status;
    if (begun >= end) return r->tail.cut ? supersede(file) : KV_OK;
    uint64_t first = file->log.sector;
    r->rewriting = true;
    r->commit = 0;
    status = apply_until(r, reader, end);
    if (status == KV_OK) status = kv_log_write(file, false);
    if (status == KV_OK) status = kv_file_sync(file);
    if (status == KV_OK) status = kv_log_write_header(file, first);
    if (status == KV_OK) status = kv_file_sync(file);
    return status;
}

/* ---- the checkpoint ---- */

typedef struct page_marking {
    kv_nodes *nodes;
    uint32_t pin; /* KV_NO_PIN: in use; else retired, and this pin keeps it */
} page_marking;

static void mark_page(void *context, uint32_t page) {
    const page_marking *m = context;
    if (m->pin == KV_NO_PIN)
        kv_nodes_known(m->nodes, page);
    else if (kv_nodes_holds(m->nodes, page))
        kv_nodes_known_retired(m->nodes, page, m->pin);
}

/* What only the checkpoint of the other slot refers to stays as it is, until that slot has been written again. */
static void keep_other(recovery *r, uint32_t pin) {
    kv_file *file = r->file;
    page_marking keep = {r->db->nodes, pin};
    kv_map_visit(file, &r->other_map, mark_page, &keep);
    for (uint64_t i = 0; i < r->other_map.sectors && i < file->sector_count; i++) {
        kv_sector old = kv_map_sector(&r->other_map, i);
        if (file->sectors[i].type != 0 || (old.type != KV_SECTOR_LOG && old.type != KV_SECTOR_VALUES)) continue;
        bool whole = i + old.span <= file->sector_count;
        for (uint32_t inside = 1; whole && inside < old.span; inside++) whole = file->sectors[i + inside].type == 0;
        if (!whole) continue;
        file->sectors[i] = old;
        file->sectors[i].live = 0;
        file->sectors[i].emptied = true;
        file->sectors[i].emptied_epoch = r->db->nodes->epoch;
        for (uint32_t inside = 1; inside < old.span; inside++) file->sectors[i + inside].type = KV_SECTOR_INSIDE;
        r->db->collection.waiting++;
    }
}

static kv_status take_checkpoint(recovery *r) {
    kv_db *db = r->db;
    kv_file *file = r->file;
    kv_status status = kv_map_read(file, &file->super, &r->map);
    if (status == KV_OK) status = kv_sectors_read(file, &r->map);
    uint64_t size = 0;
    if (status == KV_OK) status = kv_file_size(file, &size);
    if (status == KV_OK && size < file->super.file_bytes)
        status = kv_file_fail(file, KV_CORRUPT, KV_DETAIL_TRUNCATED, size);
    for (uint64_t i = 0; i < r->map.sectors && status == KV_OK; i++)
        if (file->sectors[i].type == KV_SECTOR_INDEX) status = kv_nodes_add_sector(db->nodes, i);
    if (status != KV_OK) return status;
    page_marking in_use = {db->nodes, KV_NO_PIN};
    kv_map_visit(file, &r->map, mark_page, &in_use);
    db->head = (kv_state){file->super.root, file->super.catalog};
    bool known = (db->head.main.node == 0 || kv_nodes_holds(db->nodes, db->head.main.node)) &&
                 (db->head.catalog.node == 0 || kv_nodes_holds(db->nodes, db->head.catalog.node));
    if (!known) return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, 0);
    uint32_t slot = file->super.sequence & 1;
    file->slot_generation[slot] = kv_position_generation(file, file->super.replay);
    file->slot_generation[!slot] = UINT64_MAX;
    bool other = file->other.sequence != 0;
    if (other) {
        status = kv_map_read(file, &file->other, &r->other_map);
        if (status != KV_OK && status != KV_CORRUPT) return status;
        other = status == KV_OK; /* a damaged one is of no use to anybody */
        status = KV_OK;
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
    kv_nodes_collect_free(db->nodes);
    db->last_commit = file->super.commit;
    return status;
}

static kv_status run(recovery *r) {
    kv_db *db = r->db;
    kv_file *file = r->file;
    kv_status status = take_checkpoint(r);
    if (status == KV_OK) status = kv_chain_find(file, &r->chain);
    if (status != KV_OK) return status;
    kv_reader reader;
    kv_reader_begin(&reader, file, &r->chain, &r->loaded);
    status = find_end(r, reader);
    if (status != KV_OK) return status;
    uint64_t end = kv_reader_position(&r->tail.end);
    bool in_place = db->read_only || r->tail.clean;
    if (!db->read_only) status = kv_collect_begin(db, &r->chain, in_place ? r->tail.end.index + 1 : r->chain.count);
    if (status == KV_OK) status = apply_until(r, &reader, in_place ? end : r->tail.confirmed);
    if (status == KV_OK && r->tail.clean && !db->read_only)
        status = kv_log_resume(file, r->chain.sectors[r->tail.end.index], r->tail.end.offset, r->tail.end.sum);
    else if (status == KV_OK && !db->read_only)
        status = rewrite_tail(r, &reader);
    if (r->tail.last_commit > db->last_commit) db->last_commit = r->tail.last_commit;
    db->recovered.discarded_bytes = r->tail.discarded_bytes;
    /* The header of a fresh sector without records is written with the next commit, if nothing follows that may come back. */
    db->durable = db->committed_end = r->rewriting ? kv_log_position(file) : r->tail.confirmed;
    return status;
}

kv_status kv_recover(kv_db *db) {
    recovery r = {.db = db, .file = db->file};
    r.loaded.sector = UINT64_MAX;
    r.file->urgent = true; /* on a full disk it may use what is spared */
    kv_status status = run(&r);
    r.file->urgent = false;
    if (status == KV_OK && !db->read_only) (void)kv_sectors_spare(r.file); /* and finds out that it is full */
    kv_chain_free(&r.chain);
    kv_map_free(&r.map);
    kv_map_free(&r.other_map);
    free(r.loaded.bytes);
    free(r.pending);
    return status;
}
