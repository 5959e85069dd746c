/* Repair: every record whose checksum holds goes into a new database.
 *
 * First the target's trees get places in the source: out of the source's index where all of it can be read, else out of its log,
 * newest commit first served. Then each place is followed, its value verified and copied. Nothing has the target's name before all of
 * that is durable. */
#include "repair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum { PHASE_OPEN, PHASE_INDEX, PHASE_SCAN, PHASE_DROP, PHASE_COPY, PHASE_WRITE, PHASE_FLUSH, PHASE_INSTALL };
#define ENTRIES_A_STEP 512u

static const kv_key no_key = {NULL, 0};

void kv_repair_problem(kv_repair *r, uint64_t offset, uint32_t detail, kv_key key) {
    if (*r->count >= r->capacity) return;
    kv_problem *problem = &r->problems[(*r->count)++];
    *problem = (kv_problem){.offset = offset, .detail = detail, .key_length = key.length};
    if (key.length > 0) memcpy(problem->key, key.data, key.length < sizeof problem->key ? key.length : sizeof problem->key);
}

static bool problems_fit(const kv_repair *r) { return *r->count + 4 < r->capacity; }

/* ---- the target ---- */

static void drop_target(kv_repair *r) {
    if (r->target == NULL) return;
    unlink(r->temporary);
    kv_db_free(r->target);
    r->target = NULL;
    free(r->tables);
    r->tables = NULL;
    r->table_count = r->table_capacity = 0;
}

kv_status kv_repair_make_target(kv_repair *r) {
    drop_target(r);
    kv_db *target = calloc(1, sizeof *target);
    if (target == NULL) return KV_NO_MEMORY;
    r->target = target;
    kv_db_init(target, r->cache_bytes);
    kv_status status = kv_create_file(r->temporary, r->source->file->sector_bytes, r->seed, 1, &target->file);
    for (int slot = 0; slot < 2 && status == KV_OK; slot++) status = kv_superblock_write(target->file);
    if (status == KV_OK) status = kv_file_need_nodes(target->file, target->cache_bytes);
    if (target->file != NULL) target->nodes = target->file->nodes;
    if (status != KV_OK) r->error = target->file != NULL ? target->file->error : (kv_error){.os_error = errno};
    return status;
}

kv_status kv_repair_begin(const char *source, const char *target, uint64_t random_seed, uint64_t cache_bytes, kv_repair **repair) {
    *repair = NULL;
    size_t from = strlen(source), to = strlen(target);
    if (from == 0 || from >= KV_PATH_MAX || to == 0 || to >= KV_PATH_MAX || strcmp(source, target) == 0) return KV_INVALID;
    kv_status status = kv_random_seed(&random_seed);
    if (status != KV_OK) return status;
    int fd = open(target, O_RDONLY);
    if (fd >= 0) close(fd);
    if (fd >= 0) return KV_EXISTS;
    kv_repair *r = calloc(1, sizeof *r);
    if (r == NULL) return KV_NO_MEMORY;
    *repair = r;
    memcpy(r->from, source, from + 1);
    memcpy(r->to, target, to + 1);
    kv_side_path(target, KV_NEW_SUFFIX, r->temporary);
    r->seed = random_seed;
    r->cache_bytes = cache_bytes;
    r->loaded.sector = UINT64_MAX;
    return KV_OK;
}

void kv_repair_free(kv_repair *r) {
    if (r == NULL) return;
    drop_target(r);
    kv_db_free(r->source);
    free(r->loaded.bytes);
    free(r->parts);
    free(r);
}

/* ---- the source's index ---- */

static kv_status fall_back(kv_repair *r) {
    kv_db_free(r->source);
    r->source = NULL;
    drop_target(r);
    kv_status status = kv_repair_scan_begin(r);
    r->phase = PHASE_SCAN;
    r->result.bytes_skipped = 0;
    r->result.may_reappear = 1;
    return status;
}

static kv_status open_source(kv_repair *r) {
    kv_open_options options = {.path = r->from, .flags = KV_OPEN_READ_ONLY, .random_seed = r->seed, .cache_bytes = r->cache_bytes};
    kv_status status = kv_db_open(&options, &r->source);
    if (status == KV_CORRUPT || (status == KV_NOT_A_DATABASE && r->source->file != NULL)) {
        kv_repair_problem(r, r->source->error.offset, r->source->error.detail, no_key);
        return fall_back(r);
    }
    if (status != KV_OK) {
        if (r->source != NULL) r->error = r->source->error;
        return status;
    }
    if (r->source->file->slot_damaged)
        kv_repair_problem(r, ((r->source->file->super.sequence + 1) & 1) * KV_SUPERBLOCK_SLOT, KV_DETAIL_SUPERBLOCK, no_key);
    status = kv_repair_make_target(r);
    r->root = r->source->head.main;
    r->commit = r->source->last_commit;
    r->result.bytes_skipped = r->source->recovered.discarded_bytes;
    r->phase = PHASE_INDEX;
    return status;
}

/* Go on to the table after the one at hand; KV_NOT_FOUND: there is none. */
static kv_status next_table(kv_repair *r) {
    static _Alignas(8) uint8_t entry[sizeof(kv_entry) + KV_KEY_MAX];
    static kv_last_key name_before;
    kv_db *source = r->source;
    if (r->table == 0) name_before.any = false;
    kv_key after = {name_before.data, name_before.any ? name_before.length : 0};
    uint64_t count;
    kv_status status = kv_table_names(source, source->nodes, &source->head, after, entry, sizeof entry, &count);
    if (status != KV_OK || count == 0) return status == KV_OK ? KV_NOT_FOUND : status;
    kv_key name = {entry + sizeof(kv_entry), ((kv_entry *)(void *)entry)->key_length};
    kv_last_key_set(&name_before, name);
    r->table = (uint32_t)((kv_entry *)(void *)entry)->value.offset;
    r->last.any = false;
    status = r->table == 0 ? KV_CORRUPT : kv_table_root(source, source->nodes, &source->head, r->table, &r->root);
    if (status == KV_NO_SUCH_TABLE) status = KV_CORRUPT;
    if (status == KV_OK) status = kv_table_apply_create(r->target, &r->target->head, name, r->table);
    return status;
}

static kv_status take_index(kv_repair *r) {
    kv_walk walk = {.nodes = r->source->nodes, .root = r->root};
    uint8_t buffer[KV_KEY_MAX];
    kv_status status = kv_last_key_seek(&r->last, &walk);
    for (uint32_t n = 0; status == KV_OK && walk.valid && n < ENTRIES_A_STEP; n++) {
        kv_key key = kv_walk_key(&walk, buffer);
        kv_place place = kv_walk_place(&walk);
        bool rising = !r->last.any || kv_compare((kv_key){r->last.data, r->last.length}, key) < 0;
        status = rising && key.length > 0 ? kv_repair_enter(r, r->table, key, &place, UINT64_MAX) : KV_CORRUPT;
        if (status == KV_OK) kv_last_key_set(&r->last, key);
        if (status == KV_OK) status = kv_walk_next(&walk);
    }
    if (status == KV_OK && walk.valid) return KV_OK;
    if (status == KV_OK) status = next_table(r);
    if (status == KV_NOT_FOUND) {
        r->result.index_used = 1;
        r->phase = PHASE_COPY;
        r->table = 0;
        r->last.any = false;
        return KV_OK;
    }
    if (status != KV_CORRUPT) return status;
    r->result.pages_lost++;
    kv_repair_problem(r, r->source->file->error.offset, KV_DETAIL_INDEX, no_key);
    return fall_back(r);
}

/* ---- tables that are gone ---- */

static kv_status name_of(kv_repair *r, uint32_t table, uint8_t *to, uint32_t *length) {
    static _Alignas(8) uint8_t entry[sizeof(kv_entry) + KV_KEY_MAX];
    *length = 0;
    for (uint64_t count = 1; count > 0;) {
        kv_key after = {to, *length};
        kv_status status = kv_table_names(r->target, r->target->nodes, &r->target->head, after, entry, sizeof entry, &count);
        if (status != KV_OK) return status;
        if (count == 0) break;
        const kv_entry *e = (const kv_entry *)(const void *)entry;
        *length = e->key_length;
        memcpy(to, entry + sizeof *e, e->key_length);
        if (e->value.offset == table) return KV_OK;
    }
    return KV_NO_SUCH_TABLE;
}

static kv_status drop_tables(kv_repair *r) {
    kv_db *target = r->target;
    for (uint32_t i = 0; i < r->table_count; i++) {
        kv_repair_table *t = &r->tables[i];
        uint8_t name[KV_KEY_MAX];
        uint32_t length;
        kv_root root;
        if (!t->dropped) {
            r->result.unnamed += !t->named;
            continue;
        }
        kv_status status = kv_table_root(target, target->nodes, &target->head, t->table, &root);
        if (status == KV_NO_SUCH_TABLE) continue;
        do
            status = status == KV_OK ? kv_tree_empty_some(target, &root, 4096) : status;
        while (status == KV_AGAIN && (status = KV_OK, true));
        if (status == KV_OK) status = name_of(r, t->table, name, &length);
        if (status == KV_OK) status = kv_table_apply_drop(target, &target->head, (kv_key){name, length}, t->table);
        if (status != KV_OK) return status;
    }
    r->phase = PHASE_COPY;
    r->table = 0;
    r->last.any = false;
    return KV_OK;
}

/* ---- copying ---- */

static kv_status copy_large(kv_repair *r, kv_record *record, const kv_place *from, kv_place *to) {
    kv_file *source = r->source->file, *target = r->target->file;
    uint64_t offset, size;
    kv_status status = kv_file_size(source, &size);
    if (status == KV_OK && (from->offset > size || from->length > size - from->offset)) return KV_CORRUPT;
    if (status == KV_OK) status = kv_run_reserve(target, record->key.length, from->length, &offset);
    if (status != KV_OK) return status;
    uint64_t header = kv_sector_offset(target, target->run.sector) + offset;
    uint8_t *piece = malloc(KV_PIECE_BYTES), encoded[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    if (piece == NULL) return KV_NO_MEMORY;
    *to = (kv_place){header + KV_RECORD_HEADER_BYTES + record->key.length, from->length, from->sum};
    kv_xxh64_state sum;
    kv_xxh64_begin(&sum, 0);
    for (uint64_t done = 0; done < from->length && status == KV_OK; done += KV_PIECE_BYTES) {
        uint64_t bytes = from->length - done < KV_PIECE_BYTES ? from->length - done : KV_PIECE_BYTES;
        status = kv_file_read(source, from->offset + done, piece, bytes);
        if (status == KV_OK) status = kv_file_write(target, to->offset + done, piece, bytes, NULL);
        kv_xxh64_add(&sum, piece, (size_t)bytes);
    }
    free(piece);
    if (status == KV_OK && (uint32_t)kv_xxh64_end(&sum) != from->sum) status = KV_CORRUPT;
    if (status != KV_OK) return status;
    kv_record stored = *record;
    stored.type = KV_RECORD_VALUE;
    stored.flags = 0;
    stored.chain = 0;
    kv_record_encode(&stored, encoded, target->run.salt, kv_position(target, target->run.generation, offset));
    status = kv_file_write(target, header, encoded, KV_RECORD_HEADER_BYTES + record->key.length, NULL);
    record->flags = KV_FLAG_COMMIT | KV_FLAG_EXTERNAL | KV_FLAG_FLUSHED;
    record->external = to->offset;
    return status == KV_OK ? kv_log_append(target, record, NULL) : status;
}

/* KV_CORRUPT: the record or the value is damaged. */
static kv_status copy_value(kv_repair *r, kv_key key, const kv_place *from, kv_place *to) {
    static uint8_t value[KV_INLINE_MAX];
    uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_record record;
    kv_status status = kv_stored_record(r->source->file, key, from, &record, bytes, 0);
    if (status == KV_OK && record.table != r->table) status = KV_CORRUPT;
    if (status != KV_OK) return status;
    bool large = from->length > KV_INLINE_MAX;
    record.type = KV_RECORD_PUT;
    record.flags = KV_FLAG_COMMIT;
    record.confirmed = 0;
    if (record.commit > r->commit) r->commit = record.commit;
    if (large) return copy_large(r, &record, from, to);
    status = kv_file_read(r->source->file, from->offset, value, from->length);
    if (status == KV_OK && kv_value_sum(value, from->length) != from->sum) status = KV_CORRUPT;
    record.value = value;
    return status == KV_OK ? kv_log_append(r->target->file, &record, to) : status;
}

/* Follow one entry: it gets its place in the target, or goes. */
static kv_status settle(kv_repair *r, kv_key key, const kv_place *from) {
    kv_db *target = r->target;
    kv_place to, old;
    kv_target t;
    bool marker = from->length == KV_MARKER, lost = marker && from->sum == KV_MARKER_LOST;
    kv_status status = marker ? KV_NOT_FOUND : copy_value(r, key, from, &to);
    if (status == KV_CORRUPT) lost = true;
    if (lost) {
        r->result.values_lost++;
        kv_repair_problem(r, marker ? 0 : from->offset, KV_DETAIL_VALUE, key);
    }
    bool keep = status == KV_OK;
    if (!keep && !lost && status != KV_NOT_FOUND) {
        r->error = target->file->error;
        return status;
    }
    status = kv_target_find(target, &target->head, r->table, key, &t);
    if (status != KV_OK) return status == KV_NOT_FOUND ? KV_CORRUPT : status;
    if (keep)
        kv_tree_put(target->nodes, &t.root, &t.path, key, true, &to, &old);
    else
        kv_tree_delete(target->nodes, &t.root, &t.path, 1);
    if (keep) kv_live_add(target, key, &to, 1);
    r->result.records += keep;
    kv_target_store(target, &target->head, r->table, &t);
    return KV_OK;
}

/* The record that tells the table's name, and its entries. */
static kv_status begin_table(kv_repair *r) {
    kv_db *target = r->target;
    kv_root root;
    kv_status status = kv_table_next(target, target->nodes, &target->head, r->table, &r->table, &root);
    if (status != KV_OK) return status;
    r->last.any = false;
    uint8_t name[KV_KEY_MAX];
    uint32_t length;
    status = name_of(r, r->table, name, &length);
    kv_record record = {.type = KV_RECORD_TABLE, .flags = KV_FLAG_COMMIT, .table = r->table, .key = {name, length}, .commit = 1};
    return status == KV_OK ? kv_log_append(target->file, &record, NULL) : status;
}

static kv_status copy_some(kv_repair *r) {
    kv_db *target = r->target;
    uint8_t buffer[KV_KEY_MAX];
    kv_status status = KV_OK;
    for (uint64_t moved = 0; status == KV_OK && moved < (1u << 20) && problems_fit(r);) {
        kv_walk walk = {.nodes = target->nodes};
        status = kv_table_root(target, target->nodes, &target->head, r->table, &walk.root);
        if (status == KV_OK) status = kv_last_key_seek(&r->last, &walk);
        if (status == KV_OK && !walk.valid) {
            status = begin_table(r);
            if (status == KV_NOT_FOUND) {
                r->phase = PHASE_WRITE;
                return KV_OK;
            }
            continue;
        }
        if (status != KV_OK) break;
        kv_key key = kv_walk_key(&walk, buffer);
        kv_place from = kv_walk_place(&walk);
        kv_last_key_set(&r->last, key);
        moved += 64u + key.length + (from.length == KV_MARKER ? 0 : from.length);
        status = settle(r, key, &from);
    }
    return status;
}

/* ---- the end, as of a compaction ---- */

static kv_status write_index(kv_repair *r) {
    kv_db *target = r->target;
    target->last_commit = r->commit;
    kv_status status = kv_log_write(target->file, false);
    target->committed_end = kv_log_position(target->file);
    if (status == KV_OK) status = kv_checkpoint_finish(target);
    if (status == KV_OK) status = kv_db_sync_begin(target);
    if (status == KV_NEEDS_SYNC) r->phase = PHASE_FLUSH;
    return status == KV_NEEDS_SYNC ? KV_SYNC_FIRST : status;
}

static kv_status flushed(kv_repair *r) {
    kv_status status = kv_db_synced(r->target, r->target->flushing_end);
    if (status == KV_OK) status = kv_db_sync_begin(r->target);
    if (status == KV_NEEDS_SYNC) return KV_SYNC_FIRST;
    if (status == KV_OK) r->phase = PHASE_INSTALL;
    return status == KV_OK ? KV_AGAIN : status;
}

kv_status kv_repair_step(kv_repair *r, uint32_t flags, kv_problem *problems, uint32_t capacity, uint64_t *count) {
    *count = 0;
    r->problems = problems;
    r->capacity = capacity;
    r->count = count;
    kv_status status = KV_OK;
    bool named;
    switch (r->phase) {
    case PHASE_OPEN: status = open_source(r); break;
    case PHASE_INDEX: status = take_index(r); break;
    case PHASE_SCAN:
        status = kv_repair_scan_some(r);
        if (status == KV_OK) r->phase = PHASE_DROP;
        if (status == KV_AGAIN) status = KV_OK;
        break;
    case PHASE_DROP: status = drop_tables(r); break;
    case PHASE_COPY: status = copy_some(r); break;
    case PHASE_WRITE: status = write_index(r); break;
    case PHASE_FLUSH: status = flags & KV_BARRIER_DONE ? flushed(r) : KV_SYNC_FIRST; break;
    default:
        status = kv_install_file(r->target->file, r->temporary, r->to, false, &named);
        if (status == KV_OK) return KV_OK;
    }
    if (status == KV_OK || status == KV_AGAIN) return KV_AGAIN;
    if (status != KV_SYNC_FIRST && r->error.offset == 0 && r->error.os_error == 0 && r->target != NULL && r->target->file != NULL)
        r->error = r->target->file->error;
    return status;
}
