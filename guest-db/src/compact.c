/* Compaction: what is live goes, table by table and in key order, into a new database, which then takes the old one's place.
 * Until the rename the old file is the database; a crash leaves a file beside it that the next open removes. Reads go on
 * meanwhile, and snapshots and cursors opened before keep the old file. */
#include <stdlib.h>
#include <unistd.h>

#include "db.h"

enum { PHASE_COPY, PHASE_INDEX, PHASE_FLUSH, PHASE_INSTALL };
#define BYTES_A_STEP (1u << 20)

/* An empty database under another name, in which generations go on from the old one's: log positions never fall while a
 * database is open. */
static kv_status make_target(kv_db *db, const char *path) {
    kv_compaction *c = &db->compaction;
    kv_db *target = calloc(1, sizeof *target);
    if (target == NULL) return KV_NO_MEMORY;
    c->target = target;
    kv_db_init(target, KV_CACHE_MIN);
    kv_status status = kv_create_file(path, db->file->sector_bytes, kv_file_random(db->file), db->file->next_generation,
                                      &target->file);
    for (int slot = 0; slot < 2 && status == KV_OK; slot++) status = kv_superblock_write(target->file);
    if (status == KV_OK) status = kv_file_need_nodes(target->file, KV_CACHE_MIN); /* it is filled in order: enough */
    if (target->file != NULL) target->nodes = target->file->nodes;
    if (status != KV_OK && target->file != NULL) db->error = target->file->error;
    return status;
}

kv_status kv_compact_begin(kv_db *db) {
    kv_status status = kv_db_writable(db, 0);
    if (status != KV_OK) return status;
    if (db->published.pin != KV_NO_PIN) return KV_BUSY; /* commits that wait for their flush */
    status = kv_db_settle(db);
    if (status != KV_OK) return status;
    kv_compaction *c = &db->compaction;
    *c = (kv_compaction){.source = {db->head, KV_NO_PIN}, .root = db->head.main};
    char path[KV_PATH_MAX + 16];
    kv_side_path(db->path, KV_COMPACT_SUFFIX, path);
    c->source.pin = kv_nodes_pin(db->nodes);
    if (c->source.pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    c->open = true;
    status = make_target(db, path);
    if (status == KV_OK) return KV_OK;
    (void)kv_compact_abort(db);
    return status;
}

kv_status kv_compact_abort(kv_db *db) {
    kv_compaction *c = &db->compaction;
    if (!c->open) return KV_INVALID;
    char path[KV_PATH_MAX + 16];
    kv_side_path(db->path, KV_COMPACT_SUFFIX, path);
    unlink(path);
    kv_db_free(c->target);
    kv_nodes_unpin(db->nodes, c->source.pin);
    *c = (kv_compaction){.source = {.pin = KV_NO_PIN}};
    return KV_OK;
}

/* Append the record of an inline value, which was read with it, to the new log. */
static kv_status copy_inline(kv_db *db, kv_record *record, const kv_place *from, kv_place *to) {
    kv_file *target = db->compaction.target->file;
    if (kv_value_sum(record->value, from->length) != from->sum)
        return kv_db_fail(db, kv_file_fail(db->file, KV_CORRUPT, KV_DETAIL_VALUE, from->offset));
    kv_status status = kv_log_append(target, record, to);
    if (status != KV_OK) db->error = target->error;
    return status;
}

/* The record that stands before a large value, and the one in the log that refers to it. */
static kv_status finish_large(kv_db *db, kv_record *record, uint64_t header) {
    kv_compaction *c = &db->compaction;
    kv_file *target = c->target->file;
    uint8_t encoded[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_record stored = *record;
    stored.type = KV_RECORD_VALUE;
    stored.flags = 0;
    stored.chain = 0;
    kv_record_encode(&stored, encoded, target->run.salt, kv_position(target, target->run.generation, c->large_header));
    kv_status status = kv_file_write(target, header, encoded, KV_RECORD_HEADER_BYTES + record->key.length, NULL);
    record->flags = KV_FLAG_COMMIT | KV_FLAG_EXTERNAL | KV_FLAG_FLUSHED; /* true before the file is installed */
    record->external = header + KV_RECORD_HEADER_BYTES + record->key.length;
    return status == KV_OK ? kv_log_append(target, record, NULL) : status;
}

/* Copy one piece of a large value; `*done` after the last, when the log has its record. */
static kv_status copy_large(kv_db *db, kv_record *record, const kv_place *from, kv_place *to, bool *done) {
    kv_compaction *c = &db->compaction;
    kv_file *target = c->target->file;
    kv_status status = KV_OK;
    if (c->large_copied == 0) {
        kv_xxh64_begin(&c->large_sum, 0);
        status = kv_run_reserve(target, record->key.length, from->length, &c->large_header);
    }
    uint64_t header = kv_sector_offset(target, target->run.sector) + c->large_header;
    uint64_t value = header + KV_RECORD_HEADER_BYTES + record->key.length;
    uint32_t left = from->length - c->large_copied, bytes = left < KV_PIECE_BYTES ? left : KV_PIECE_BYTES;
    uint8_t *piece = malloc(KV_PIECE_BYTES);
    if (piece == NULL) return KV_NO_MEMORY;
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
    *to = (kv_place){value, from->length, from->sum};
    if (status == KV_OK) status = finish_large(db, record, header);
    if (status != KV_OK) db->error = target->error;
    return status;
}

static kv_status copy_entry(kv_db *db, kv_key key, const kv_place *from, bool *done) {
    kv_compaction *c = &db->compaction;
    kv_db *target = c->target;
    static uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX + KV_INLINE_MAX];
    bool large = from->length > KV_INLINE_MAX;
    kv_record record;
    kv_place to;
    kv_target place;
    *done = true;
    kv_status status = kv_stored_record(db->file, key, from, &record, bytes, large ? 0 : from->length);
    if (status != KV_OK) return kv_db_fail(db, status);
    record.type = KV_RECORD_PUT;
    record.flags = KV_FLAG_COMMIT;
    record.confirmed = 0;
    status = large ? copy_large(db, &record, from, &to, done) : copy_inline(db, &record, from, &to);
    if (status != KV_OK || !*done) return status;
    status = kv_target_find_last(target, &target->head, c->table, key, &place);
    if (status == KV_OK || status == KV_EXISTS) return kv_db_fail(db, kv_nodes_fail(db->nodes, c->root.node)); /* keys out of order */
    if (status != KV_NOT_FOUND) {
        db->error = target->error;
        return status;
    }
    kv_apply_put(target, &place.root, &place.path, key, false, &to);
    kv_target_store(target, &target->head, c->table, &place);
    return KV_OK;
}

/* Make the next table in the target. KV_NOT_FOUND: there is no more. */
static kv_status next_table(kv_db *db) {
    kv_compaction *c = &db->compaction;
    kv_db *target = c->target;
    static _Alignas(8) uint8_t entry[sizeof(kv_entry) + KV_KEY_MAX];
    uint64_t count;
    kv_key after = {c->last_table.data, c->last_table.any ? c->last_table.length : 0};
    kv_status status = kv_table_names(db, db->nodes, &c->source.state, after, entry, sizeof entry, &count);
    if (status != KV_OK || count == 0) return status == KV_OK ? KV_NOT_FOUND : status;
    kv_key name = {entry + sizeof(kv_entry), ((kv_entry *)(void *)entry)->key_length};
    c->table = (uint32_t)((kv_entry *)(void *)entry)->value.offset;
    kv_last_key_set(&c->last_table, name);
    c->last.any = false;
    kv_record record = {.type = KV_RECORD_TABLE, .flags = KV_FLAG_COMMIT, .table = c->table, .key = name, .commit = 1};
    status = kv_table_root(db, db->nodes, &c->source.state, c->table, &c->root);
    if (status == KV_OK) status = kv_log_append(target->file, &record, NULL);
    if (status == KV_OK) status = kv_table_apply_create(target, &target->head, name, c->table);
    if (status != KV_OK) db->error = target->file->error;
    return status;
}

static kv_status copy_some(kv_db *db) {
    kv_compaction *c = &db->compaction;
    kv_walk walk = {.nodes = db->nodes, .root = c->root};
    uint8_t buffer[KV_KEY_MAX];
    kv_status status = kv_last_key_seek(&c->last, &walk);
    uint64_t moved = 0;
    for (uint32_t n = 0; status == KV_OK && walk.valid && moved < BYTES_A_STEP && n < KV_COMPACT_ENTRIES_A_STEP; n++) {
        kv_key key = kv_walk_key(&walk, buffer);
        kv_place from = kv_walk_place(&walk);
        bool done;
        status = copy_entry(db, key, &from, &done);
        if (status != KV_OK || !done) return status;
        kv_last_key_set(&c->last, key);
        moved += kv_record_span(key.length, from.length);
        status = kv_walk_next(&walk);
    }
    if (status != KV_OK) return kv_db_fail(db, status);
    if (walk.valid) return KV_OK;
    status = next_table(db);
    if (status == KV_NOT_FOUND) c->phase = PHASE_INDEX;
    return status == KV_NOT_FOUND ? KV_OK : status;
}

uint32_t kv_compact_ahead(const kv_db *db, kv_value_ref *refs) {
    const kv_compaction *c = &db->compaction;
    if (!c->open || c->phase != PHASE_COPY) return 0;
    kv_walk walk = {.nodes = db->nodes, .root = c->root};
    kv_status status = kv_last_key_seek(&c->last, &walk);
    uint8_t buffer[KV_KEY_MAX];
    uint32_t count = 0;
    uint64_t moved = 0;
    while (status == KV_OK && walk.valid && moved < BYTES_A_STEP && count < KV_COMPACT_ENTRIES_A_STEP) {
        kv_place place = kv_walk_place(&walk);
        uint32_t before = KV_RECORD_HEADER_BYTES + kv_walk_key(&walk, buffer).length;
        if (place.length > KV_INLINE_MAX || place.offset < before) break;
        refs[count++] = (kv_value_ref){place.offset - before, before + place.length, 0, KV_WHERE_FILE, db->file->fd};
        moved += before + place.length;
        status = kv_walk_next(&walk);
    }
    return count;
}

/* The new database's index; KV_SYNC_FIRST when all of it is written. */
static kv_status write_index(kv_db *db) {
    kv_db *target = db->compaction.target;
    target->last_commit = db->last_commit;
    kv_status status = kv_log_write(target->file, false);
    target->committed_end = kv_log_position(target->file);
    if (status == KV_OK) status = kv_checkpoint_finish(target);
    if (status == KV_OK) status = kv_db_sync_begin(target);
    if (status == KV_NEEDS_SYNC) {
        db->compaction.phase = PHASE_FLUSH;
        return KV_SYNC_FIRST;
    }
    if (status != KV_AGAIN) db->error = target->file->error;
    return status;
}

/* A flush is done: the first has made the index durable, the second the superblock that refers to it. */
static kv_status flushed(kv_db *db) {
    kv_db *target = db->compaction.target;
    kv_status status = kv_db_synced(target, target->flushing_end);
    if (status == KV_OK) status = kv_db_sync_begin(target);
    if (status == KV_NEEDS_SYNC) return KV_SYNC_FIRST;
    if (status == KV_OK) db->compaction.phase = PHASE_INSTALL;
    if (status != KV_OK) db->error = target->file->error;
    return status == KV_OK ? KV_AGAIN : status;
}

/* The target's state becomes the database's; what reads the old file goes on to. */
static void take_over(kv_db *db) {
    kv_compaction *c = &db->compaction;
    kv_db *target = c->target;
    kv_nodes_unpin(db->nodes, c->source.pin);
    kv_nodes_unpin(db->nodes, db->flushing.pin);
    for (int slot = 0; slot < 2; slot++) kv_nodes_unpin(db->nodes, db->slot_pin[slot]);
    kv_readers_forget(db);
    kv_checkpoint_end(db);
    kv_collect_end(db);
    kv_file_release(db->file);
    db->file = target->file;
    db->file->super.installed = 1;
    db->nodes = target->nodes;
    kv_nodes_set_cache(db->nodes, db->cache_bytes);
    db->head = target->head;
    db->flushing = target->flushing;
    db->durable = target->durable;
    db->committed_end = target->committed_end;
    db->tail_records = target->tail_records;
    db->tail_bytes = target->tail_bytes;
    db->map_pages = target->map_pages;
    db->map_page_count = target->map_page_count;
    for (int slot = 0; slot < 2; slot++) db->slot_pin[slot] = target->slot_pin[slot];
    kv_hash_clear(&db->hash);
    target->file = NULL;
    target->nodes = NULL;
    target->map_pages = NULL;
    kv_db_free(target);
    *c = (kv_compaction){.source = {.pin = KV_NO_PIN}};
}

static kv_status install(kv_db *db) {
    kv_compaction *c = &db->compaction;
    char path[KV_PATH_MAX + 16];
    kv_side_path(db->path, KV_COMPACT_SUFFIX, path);
    bool named;
    kv_status status = kv_install_file(c->target->file, path, db->path, true, &named);
    if (status == KV_OK) {
        take_over(db);
        return KV_OK;
    }
    db->error = c->target->file->error;
    if (named) db->file->poisoned = true; /* which of the two files the path names after a power cut is not known */
    return status;
}

kv_status kv_compact_step(kv_db *db, uint32_t flags) {
    kv_compaction *c = &db->compaction;
    if (!c->open) return KV_INVALID;
    kv_status status = db->file->poisoned ? KV_POISONED : KV_OK;
    if (status == KV_OK && c->phase == PHASE_COPY) {
        status = copy_some(db);
        if (status == KV_OK) return KV_AGAIN;
    } else if (status == KV_OK && c->phase == PHASE_INDEX) {
        status = write_index(db);
    } else if (status == KV_OK && c->phase == PHASE_FLUSH) {
        status = flags & KV_BARRIER_DONE ? flushed(db) : KV_SYNC_FIRST;
    } else if (status == KV_OK) {
        status = install(db);
        if (status == KV_OK) return KV_OK;
    }
    if (status == KV_AGAIN || status == KV_SYNC_FIRST) return status;
    kv_error error = db->error;
    (void)kv_compact_abort(db);
    db->error = error;
    return status;
}
