/* Records, commit by commit, into the index. */
#include "replay.h"

#include <stdlib.h>

/* Is what a record refers to whole: run, record header and value? */
static kv_status verify_external(kv_file *file, const kv_record *record, bool *whole) {
    kv_place place = {record->external, record->value_length, record->value_sum};
    kv_record stored;
    uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_status status = kv_stored_record(file, record->key, &place, &stored, bytes, 0);
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

/* ---- scanning ---- */

kv_status kv_replay_scan(kv_replay *r, kv_reader *reader, uint64_t limit) {
    kv_file *file = r->file;
    kv_tail *t = &r->tail;
    uint64_t commit = 0, seen = 0;
    uint32_t records = 0;
    bool external_bad = false;
    while (seen < limit || commit != 0) {
        kv_reader before = *reader;
        kv_record record;
        uint64_t position;
        kv_status status = kv_reader_next(reader, &record, &position);
        if (reader->branch > t->branch) t->branch = reader->branch;
        if (status != KV_OK) return status;
        if (record.commit != commit) {
            commit = record.commit;
            records = 0;
            external_bad = false;
        }
        if (commit > t->last_commit) t->last_commit = commit;
        bool matches = true;
        if (kv_record_has_inline_value(&record))
            matches = kv_value_sum(record.value, record.value_length) == record.value_sum;
        if (!matches && !r->following) { /* torn, unless it was durable once: then only this value is lost, and reads will say so */
            kv_sector_bytes others = {.sector = UINT64_MAX}; /* the record lies in the reader's */
            status = kv_log_proven(file, &others, position, &matches);
            free(others.bytes);
        }
        if (status == KV_OK && !matches) status = KV_NOT_FOUND;
        /* Who follows reads the page cache, to which the value went before the mark. */
        if (status == KV_OK && (record.flags & KV_FLAG_EXTERNAL) && position >= file->super.durable && !r->following) {
            status = verify_external(file, &record, &matches);
            external_bad = external_bad || !matches;
        }
        bool mark = record.flags & KV_FLAG_COMMIT;
        if (status == KV_OK && mark && external_bad && !(record.flags & KV_FLAG_FLUSHED)) status = KV_NOT_FOUND;
        if (status == KV_OK && record.type == KV_RECORD_COMMIT && record.value_length != records) status = KV_NOT_FOUND;
        if (status != KV_OK) {
            *reader = before;
            return status;
        }
        records++;
        seen++;
        if (!mark) continue;
        t->end = *reader;
        if (record.confirmed > t->confirmed) t->confirmed = record.confirmed;
        commit = 0; /* numbers of moved records need not rise */
    }
    return KV_OK;
}

kv_status kv_replay_write_again(kv_file *file, uint64_t from, uint64_t to) {
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
    kv_status status = kv_replay_write_again(file, header, header + KV_SECTOR_DATA);
    return status == KV_OK ? kv_replay_write_again(file, start, record->external + record->value_length) : status;
}

/* ---- applying ---- */

/* Put one record of a whole commit into the index; when the tail is being rewritten, into the new log as well. */
static kv_status apply(kv_replay *r, kv_record *record, uint64_t file_offset, bool ends_commit) {
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
    r->commits += ends_commit;
    db->tail_records++;
    db->tail_bytes += kv_record_bytes(record) + (external ? record->value_length : 0);
    if (record->type == KV_RECORD_PUT) kv_apply_put(db, &target.root, &target.path, record->key, target.there, &place);
    if (record->type == KV_RECORD_DELETE && target.there) kv_apply_delete(db, &target.root, &target.path, record->key);
    if (keyed) kv_target_store(db, &db->head, record->table, &target);
    if (keyed) kv_hash_drop(&db->hash, record->table, record->key);
    if (record->commit > db->last_commit) db->last_commit = record->commit;
    if (record->type == KV_RECORD_TABLE) return kv_table_apply_create(db, &db->head, record->key, record->table);
    if (record->type != KV_RECORD_DROP) return KV_OK;
    kv_root root;
    status = kv_table_root(db, db->nodes, &db->head, record->table, &root);
    if (status != KV_OK) return status == KV_NO_SUCH_TABLE ? KV_OK : status;
    do
        status = kv_tree_empty_some(db, &root, 4096);
    while (status == KV_AGAIN);
    kv_hash_clear(&db->hash); /* it is asked before the catalog */
    return status == KV_OK ? kv_table_apply_drop(db, &db->head, record->key, record->table) : status;
}

static kv_status damaged_at(kv_replay *r, const kv_reader *reader) {
    return kv_file_fail(r->file, KV_CORRUPT, KV_DETAIL_RECORD, kv_reader_file_offset(reader));
}

/* Apply the records of a commit, now that its mark is found. */
static kv_status apply_pending(kv_replay *r, kv_record *mark) {
    kv_reader reader;
    kv_reader_begin(&reader, r->file, r->chain, r->loaded);
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

static kv_status note_pending(kv_replay *r, const kv_reader *before) {
    if (r->pending_count == r->pending_capacity) {
        uint32_t capacity = r->pending_capacity == 0 ? 256 : 2 * r->pending_capacity;
        kv_place_in_log *grown =
            capacity > UINT32_MAX / sizeof *grown ? NULL : realloc(r->pending, capacity * sizeof *grown);
        if (grown == NULL) return KV_NO_MEMORY;
        r->pending = grown;
        r->pending_capacity = capacity;
    }
    r->pending[r->pending_count++] = (kv_place_in_log){before->index, before->offset, before->sum, r->records};
    return KV_OK;
}

kv_status kv_replay_until(kv_replay *r, kv_reader *reader, uint64_t until) {
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
