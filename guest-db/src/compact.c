/* Compaction: what is live goes in key order into a new file, which then takes the old one's place. Until the rename the
 * old file is the database; a crash leaves a file beside it that the next open removes. Reads go on meanwhile, and cursors
 * opened before keep the old file. */
#include <stdlib.h>
#include <unistd.h>

#include "db.h"

enum { PHASE_COPY, PHASE_FLUSH, PHASE_INSTALL };
#define BYTES_A_STEP (1u << 20)

kv_status kv_compact_begin(kv_db *db) {
    kv_status status = kv_db_writable(db, 0);
    if (status != KV_OK) return status;
    if (db->published.pin != KV_NO_PIN) return KV_BUSY; /* commits that wait for their flush */
    status = kv_db_settle(db);
    if (status != KV_OK) return status;
    kv_compaction *c = &db->compaction;
    *c = (kv_compaction){.source = {db->head, KV_NO_PIN}};
    char path[KV_PATH_MAX + 16];
    kv_side_path(db->path, KV_COMPACT_SUFFIX, path);
    c->retired_end = db->nodes.retired_end;
    c->source.pin = kv_nodes_pin(&db->nodes);
    if (c->source.pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    c->open = true;
    /* generations go on from the old file's: log positions never fall while the database is open */
    status = kv_create_file(path, db->file->sector_bytes, kv_file_random(db->file), db->file->next_generation, &c->target);
    if (status == KV_OK) return KV_OK;
    if (c->target != NULL) db->error = c->target->error;
    (void)kv_compact_abort(db);
    return status;
}

kv_status kv_compact_abort(kv_db *db) {
    kv_compaction *c = &db->compaction;
    if (!c->open) return KV_INVALID;
    char path[KV_PATH_MAX + 16];
    kv_side_path(db->path, KV_COMPACT_SUFFIX, path);
    unlink(path);
    kv_file_release(c->target);
    kv_nodes_roll_back(&db->nodes, c->source.pin, c->retired_end);
    kv_nodes_unpin(&db->nodes, c->source.pin);
    *c = (kv_compaction){.source = {.pin = KV_NO_PIN}};
    return KV_OK;
}

/* Append the record of an inline value to the new log, verified. */
static kv_status copy_inline(kv_db *db, kv_record *record, const kv_place *from, kv_place *to) {
    uint8_t *value = malloc(from->length + 1u);
    if (value == NULL) return KV_NO_MEMORY;
    kv_status status = kv_file_read(db->file, from->offset, value, from->length);
    if (status == KV_OK && kv_value_sum(value, from->length) != from->sum)
        status = kv_file_fail(db->file, KV_CORRUPT, KV_DETAIL_VALUE, from->offset);
    if (status != KV_OK) db->error = db->file->error;
    record->value = value;
    if (status == KV_OK) {
        status = kv_log_append(db->compaction.target, record, to);
        if (status != KV_OK) db->error = db->compaction.target->error;
    }
    free(value);
    return status;
}

/* Copy one piece of a large value; `*done` after the last, when the log has its record. */
static kv_status copy_large(kv_db *db, kv_record *record, const kv_place *from, kv_place *to, bool *done) {
    kv_compaction *c = &db->compaction;
    kv_file *target = c->target;
    kv_key key = record->key;
    kv_status status = KV_OK;
    if (c->large_copied == 0) status = kv_run_reserve(target, key.length, from->length, &c->large_header);
    uint64_t header = kv_sector_offset(target, target->run.sector) + c->large_header;
    uint64_t value = header + KV_RECORD_HEADER_BYTES + key.length;
    uint32_t bytes = from->length - c->large_copied < KV_PIECE_BYTES ? from->length - c->large_copied : KV_PIECE_BYTES;
    uint8_t *piece = malloc(KV_PIECE_BYTES);
    if (piece == NULL) return KV_NO_MEMORY;
    if (c->large_copied == 0) kv_xxh64_begin(&c->large_sum, 0);
    if (status == KV_OK) {
        status = kv_file_read(db->file, from->offset + c->large_copied, piece, bytes);
        if (status != KV_OK) target->error = db->file->error;
    }
    if (status == KV_OK) status = kv_file_write(target, value + c->large_copied, piece, bytes, NULL);
    if (status == KV_OK) kv_xxh64_add(&c->large_sum, piece, bytes);
    free(piece);
    c->large_copied += bytes;
    *done = status != KV_OK || c->large_copied == from->length;
    if (!*done) return KV_OK;
    c->large_copied = 0;
    if (status == KV_OK && (uint32_t)kv_xxh64_end(&c->large_sum) != from->sum)
        status = kv_file_fail(target, KV_CORRUPT, KV_DETAIL_VALUE, from->offset);
    uint8_t encoded[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_record stored = *record;
    stored.type = KV_RECORD_VALUE;
    stored.flags = 0;
    stored.chain = 0;
    kv_record_encode(&stored, encoded, target->run.salt, kv_position(target, target->run.generation, c->large_header));
    if (status == KV_OK) status = kv_file_write(target, header, encoded, KV_RECORD_HEADER_BYTES + key.length, NULL);
    *to = (kv_place){value, from->length, from->sum};
    record->flags = KV_FLAG_COMMIT | KV_FLAG_EXTERNAL | KV_FLAG_FLUSHED; /* true before the file is installed */
    record->external = value;
    if (status == KV_OK) status = kv_log_append(target, record, NULL);
    if (status != KV_OK) db->error = target->error;
    return status;
}

static kv_status copy_some(kv_db *db) {
    kv_compaction *c = &db->compaction;
    kv_walk walk = {.nodes = &db->nodes, .root = c->source.root};
    uint8_t buffer[KV_KEY_MAX], bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_last_key_seek(&c->last, &walk);
    for (uint64_t moved = 0; walk.valid && moved < BYTES_A_STEP; kv_walk_next(&walk)) {
        kv_key key = kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer);
        kv_place from = kv_walk_place(&walk), to;
        kv_record record;
        kv_status status = kv_stored_record(db->file, key, &from, &record, bytes);
        if (status != KV_OK) return kv_db_fail(db, status);
        status = kv_nodes_reserve(&db->nodes, kv_tree_reserve(&c->root));
        if (status != KV_OK) return status;
        record.type = KV_RECORD_PUT;
        record.flags = KV_FLAG_COMMIT;
        record.confirmed = 0;
        bool done = true;
        status = from.length > KV_INLINE_MAX ? copy_large(db, &record, &from, &to, &done)
                                             : copy_inline(db, &record, &from, &to);
        if (status != KV_OK || !done) return status;
        kv_apply_put(&db->nodes, &c->root, key, &to);
        kv_last_key_set(&c->last, key);
        moved += kv_live_bytes(key.length, from.length);
    }
    if (!walk.valid) c->phase = PHASE_FLUSH;
    return KV_OK;
}

/* Everything is written: its superblocks may say so, as nobody reads them before the flush. */
static kv_status finish_target(kv_db *db) {
    kv_file *target = db->compaction.target;
    kv_status status = kv_log_write(target, false);
    target->super.durable = kv_log_position(target);
    target->super.commit = db->last_commit;
    for (int slot = 0; slot < 2 && status == KV_OK; slot++) status = kv_superblock_write(target);
    if (status != KV_OK) db->error = target->error;
    return status;
}

static kv_status install(kv_db *db) {
    kv_compaction *c = &db->compaction;
    kv_status status = kv_nodes_reserve_retired(&db->nodes, db->nodes.in_use);
    if (status != KV_OK) return status;
    char path[KV_PATH_MAX + 16];
    kv_side_path(db->path, KV_COMPACT_SUFFIX, path);
    status = kv_install_file(c->target, path, db->path, true);
    if (status != KV_OK) {
        db->error = c->target->error;
        db->file->poisoned = true; /* which of the two files the path names is not known */
        return status;
    }
    kv_tree_clear(&db->nodes, &db->head);
    kv_nodes_unpin(&db->nodes, c->source.pin);
    kv_file_release(db->file);
    db->file = c->target;
    db->head = c->root;
    for (int slot = 0; slot < 2; slot++) {
        db->file->slot_start[slot] = db->file->slot_written[slot];
        db->file->slot_durable[slot] = db->file->slot_written_durable[slot];
    }
    db->durable = db->committed_end = kv_log_position(db->file);
    db->close_marked = false;
    kv_hash_clear(&db->hash);
    kv_collect_end(db);
    *c = (kv_compaction){.source = {.pin = KV_NO_PIN}};
    return KV_OK;
}

kv_status kv_compact_step(kv_db *db, uint32_t flags) {
    kv_compaction *c = &db->compaction;
    if (!c->open) return KV_INVALID;
    kv_status status = db->file->poisoned ? KV_POISONED : KV_OK;
    if (status == KV_OK && c->phase == PHASE_COPY) {
        status = copy_some(db);
        if (status == KV_OK) return KV_AGAIN;
    } else if (status == KV_OK && c->phase == PHASE_FLUSH) {
        status = finish_target(db);
        c->phase = PHASE_INSTALL;
        if (status == KV_OK) return KV_SYNC_FIRST;
    } else if (status == KV_OK) {
        if (!(flags & KV_BARRIER_DONE)) return KV_SYNC_FIRST;
        status = install(db);
        if (status == KV_OK) return KV_OK;
    }
    kv_error error = db->error;
    (void)kv_compact_abort(db);
    db->error = error;
    return status;
}
