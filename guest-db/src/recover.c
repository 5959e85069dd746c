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
    bool ends_with_close;
    bool clean; /* all is proven, and no record follows that could come back */
    uint64_t discarded_bytes;
} tail;

typedef struct recovery {
    kv_db *db;
    kv_file *file;
    kv_chain chain;
    kv_sector_bytes loaded;
    tail tail;
    bool rewriting;
    /* the commit being applied */
    bool in_commit;
    uint64_t commit;
    kv_root base;
    uint32_t base_pin;
    uint64_t retired_end;
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

/* One pass over the log behind what the superblock proves, up to the first record that is not valid. */
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
            status = kv_log_proven(file, position, &matches);
            if (status == KV_OK && !matches) status = KV_NOT_FOUND;
        }
        if (status == KV_OK && (record.flags & KV_FLAG_EXTERNAL)) {
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
        t->ends_with_close = record.type == KV_RECORD_CLOSE;
        if (record.confirmed > t->confirmed) t->confirmed = record.confirmed;
        commit = 0; /* numbers of moved records need not rise */
    }
    if (status != KV_NOT_FOUND) return status;
    bool proven;
    uint64_t stop = kv_reader_position(&reader);
    status = kv_log_proven(file, stop, &proven);
    if (status == KV_OK && proven) {
        uint64_t size = 0;
        (void)kv_file_size(file, &size);
        bool cut = kv_reader_file_offset(&reader) >= size;
        return kv_file_fail(file, KV_CORRUPT, cut ? KV_DETAIL_TRUNCATED : KV_DETAIL_RECORD,
                            kv_reader_file_offset(&reader));
    }
    if (status == KV_OK) status = kv_sector_load(file, &r->loaded, r->chain.sectors[t->end.index]);
    if (status != KV_OK) return status;
    uint64_t leftover = kv_sector_leftovers(file, &r->loaded, t->end.offset);
    t->discarded_bytes = leftover > t->end.offset ? leftover - t->end.offset : 0;
    bool last = t->end.index + 1 == r->chain.count;
    uint64_t generation = file->sectors[r->chain.sectors[t->end.index]].generation;
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].type == KV_SECTOR_LOG && file->sectors[i].generation > generation) last = false;
    bool all_proven = t->confirmed == kv_reader_position(&t->end) - (t->ends_with_close ? KV_RECORD_HEADER_BYTES : 0);
    t->clean = last && t->discarded_bytes == 0 && all_proven;
    return KV_OK;
}

/* ---- applying ---- */

static void abandon(recovery *r) {
    if (!r->in_commit) return;
    kv_nodes_roll_back(&r->db->nodes, r->base_pin, r->retired_end);
    kv_nodes_unpin(&r->db->nodes, r->base_pin);
    r->db->head = r->base;
    r->in_commit = false;
}

static kv_status follow_commit(recovery *r, const kv_record *record) {
    if (r->in_commit && record->commit != r->commit) abandon(r);
    if (r->in_commit || (record->flags & KV_FLAG_COMMIT)) return KV_OK;
    r->base = r->db->head;
    r->retired_end = r->db->nodes.retired_end;
    r->base_pin = kv_nodes_pin(&r->db->nodes);
    if (r->base_pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    r->commit = record->commit;
    r->in_commit = true;
    return KV_OK;
}

static kv_status apply(recovery *r, kv_record *record, uint64_t file_offset) {
    kv_db *db = r->db;
    kv_status status = follow_commit(r, record);
    if (status == KV_OK) status = kv_nodes_reserve(&db->nodes, kv_tree_reserve(&db->head));
    if (status != KV_OK) return status;
    bool external = record->flags & KV_FLAG_EXTERNAL;
    kv_place place = {external ? record->external : file_offset + KV_RECORD_HEADER_BYTES + record->key.length,
                      record->value_length, record->value_sum};
    if (r->rewriting && record->type != KV_RECORD_CLOSE) {
        if (external) status = write_external_again(r->file, record);
        if (record->confirmed != 0) record->confirmed = r->tail.confirmed;
        if (status == KV_OK) status = kv_log_append(r->file, record, external ? NULL : &place);
        if (status != KV_OK) return status;
        if (record->flags & KV_FLAG_COMMIT) db->recovered.commits++;
    }
    if (record->type == KV_RECORD_PUT) kv_apply_put(&db->nodes, &db->head, record->key, &place);
    if (record->type == KV_RECORD_DELETE) kv_apply_delete(&db->nodes, &db->head, record->key);
    if (record->commit > db->last_commit) db->last_commit = record->commit;
    if (r->in_commit && (record->flags & KV_FLAG_COMMIT)) {
        kv_nodes_unpin(&db->nodes, r->base_pin);
        r->in_commit = false;
    }
    return KV_OK;
}

/* Apply the records up to log position `until`; the reader ends there. */
static kv_status apply_until(recovery *r, kv_reader *reader, uint64_t until) {
    while (kv_reader_position(reader) < until) {
        kv_record record;
        uint64_t position;
        kv_status status = kv_reader_next(reader, &record, &position);
        if (status == KV_NOT_FOUND) {
            uint64_t offset = kv_reader_file_offset(reader);
            return kv_file_fail(r->file, KV_CORRUPT, KV_DETAIL_RECORD, offset);
        }
        if (status != KV_OK) return status;
        status = apply(r, &record, kv_reader_file_offset(reader) - kv_record_bytes(&record));
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

/* Write what is not proven into a fresh sector, then the header that makes it the log. */
static kv_status rewrite_tail(recovery *r, kv_reader *reader) {
    kv_file *file = r->file;
    uint64_t end = kv_reader_position(&r->tail.end), begun = kv_reader_position(reader);
    kv_status status = kv_log_begin(file, begun, reader->sum, begun < end);
    if (status != KV_OK || begun >= end) return status;
    uint64_t first = file->log.sector;
    r->rewriting = true;
    status = apply_until(r, reader, end);
    if (status == KV_OK) status = kv_log_write(file, false);
    if (status == KV_OK) status = kv_file_sync(file);
    if (status == KV_OK) status = kv_log_write_header(file, first);
    if (status == KV_OK) status = kv_file_sync(file);
    return status;
}

static kv_status resume_clean(recovery *r) {
    const tail *t = &r->tail;
    uint64_t sector = r->chain.sectors[t->end.index];
    r->db->close_marked = true;
    if (!t->ends_with_close) return kv_log_resume(r->file, sector, t->end.offset, t->end.sum, NULL);
    kv_status status = kv_sector_load(r->file, &r->loaded, sector);
    if (status != KV_OK) return status;
    uint32_t offset = t->end.offset - KV_RECORD_HEADER_BYTES;
    const uint8_t *mark = r->loaded.bytes + offset;
    return kv_log_resume(r->file, sector, offset, kv_load32(mark + KV_RH_CHAIN), mark);
}

static kv_status run(recovery *r) {
    kv_db *db = r->db;
    kv_file *file = r->file;
    kv_status status = kv_chain_find(file, &r->chain);
    if (status != KV_OK) return status;
    kv_reader reader;
    kv_reader_begin(&reader, file, &r->chain, &r->loaded);
    status = apply_until(r, &reader, file->super.durable);
    if (status == KV_OK) status = find_end(r, reader);
    if (status != KV_OK) return status;
    uint64_t end = kv_reader_position(&r->tail.end);
    bool in_place = db->read_only || r->tail.clean;
    status = apply_until(r, &reader, in_place ? end : r->tail.confirmed);
    uint64_t last = in_place ? r->tail.end.index : reader.index; /* what comes behind is about to be superseded */
    for (uint64_t i = 0; i <= last && status == KV_OK; i++)
        status = kv_sector_list_push(&file->log_sectors, r->chain.sectors[i]);
    if (status != KV_OK) return status;
    if (!db->read_only) status = r->tail.clean ? resume_clean(r) : rewrite_tail(r, &reader);
    abandon(r);
    if (r->tail.last_commit > db->last_commit) db->last_commit = r->tail.last_commit;
    if (file->super.commit > db->last_commit) db->last_commit = file->super.commit;
    db->recovered.discarded_bytes = r->tail.discarded_bytes;
    /* The mark of a clean close and a fresh sector's header are written (again) with the next commit: not durable yet. */
    db->durable = db->committed_end = r->rewriting ? kv_log_position(file) : r->tail.confirmed;
    if (status == KV_OK && !db->read_only) status = kv_collect_begin(db);
    if (status == KV_OK && !db->read_only) status = kv_sweep_at_open(db);
    return status;
}

kv_status kv_recover(kv_db *db) {
    recovery r = {.db = db, .file = db->file, .base_pin = KV_NO_PIN};
    r.loaded.sector = UINT64_MAX;
    kv_status status = run(&r);
    kv_chain_free(&r.chain);
    free(r.loaded.bytes);
    return status;
}
