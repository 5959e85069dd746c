/* Checking everything: superblocks, sector headers, each record and value of the log, and that the index agrees. */
#include <stdlib.h>

#include "db.h"

enum { PHASE_HEADERS, PHASE_LOG, PHASE_INDEX };
#define HEADERS_A_STEP 256u
#define ENTRIES_A_STEP 512u

typedef struct report {
    kv_problem *problems;
    uint32_t capacity;
    uint64_t *count;
} report;

static void add(report *r, uint64_t offset, uint32_t detail, kv_key key) {
    if (*r->count >= r->capacity) return;
    kv_problem *problem = &r->problems[(*r->count)++];
    *problem = (kv_problem){.offset = offset, .detail = detail, .key_length = key.length};
    if (key.length > 0)
        memcpy(problem->key, key.data, key.length < sizeof problem->key ? key.length : sizeof problem->key);
}

static const kv_key no_key = {NULL, 0};

kv_status kv_check_begin(kv_db *db) {
    if (db->file->poisoned) return KV_POISONED;
    kv_check_end(db);
    kv_check *check = &db->check;
    kv_status status = kv_db_settle(db);
    if (status != KV_OK) return status;
    status = kv_chain_find(db->file, &check->chain);
    if (status != KV_OK) return kv_db_fail(db, status);
    uint32_t held = db->published.pin;
    uint32_t pin = held != KV_NO_PIN ? kv_nodes_pin_again(&db->nodes, held) : kv_pin_head(db);
    if (pin == KV_NO_PIN) {
        kv_chain_free(&check->chain);
        return KV_TOO_MANY_CURSORS;
    }
    check->version = (kv_version){*kv_db_root(db, KV_VIEW_PUBLISHED), pin};
    check->file = db->file;
    db->file->references++;
    check->loaded.sector = UINT64_MAX;
    kv_reader_begin(&check->reader, db->file, &check->chain, &check->loaded);
    check->sector_end = db->file->sector_count;
    check->position_end = db->committed_end;
    check->open = true;
    return KV_OK;
}

void kv_check_end(kv_db *db) {
    kv_check *check = &db->check;
    if (check->open) {
        kv_nodes_unpin(&db->nodes, check->version.pin);
        kv_chain_free(&check->chain);
        free(check->loaded.bytes);
        kv_file_release(check->file);
    }
    memset(check, 0, sizeof *check);
    check->version.pin = KV_NO_PIN;
}

static kv_status check_superblocks(kv_check *check, report *r) {
    kv_superblock known = check->file->super;
    uint64_t generation = check->file->next_generation;
    kv_status status = kv_superblock_read(check->file);
    if (status == KV_OK && check->file->slot_damaged)
        add(r, ((known.sequence + 1) & 1) * KV_SUPERBLOCK_SLOT, KV_DETAIL_SUPERBLOCK, no_key);
    if (status != KV_OK && status != KV_IO) {
        add(r, 0, KV_DETAIL_SUPERBLOCK, no_key);
        status = KV_OK;
    }
    check->file->super = known;
    check->file->next_generation = generation;
    return status;
}

static kv_status check_headers(kv_check *check, report *r) {
    kv_file *file = check->file;
    kv_status status = check->sector == 0 ? check_superblocks(check, r) : KV_OK;
    for (uint32_t n = 0; n < HEADERS_A_STEP && status == KV_OK && check->sector < check->sector_end; n++, check->sector++) {
        uint16_t type = file->sectors[check->sector].type;
        if (type == KV_SECTOR_INSIDE || type == 0) continue;
        uint64_t at = kv_sector_offset(file, check->sector), got;
        if (check->sector == file->log.sector && file->log.start == 0) continue; /* not written yet */
        uint8_t expected[KV_SECTOR_DATA], found[KV_SECTOR_DATA] = {0};
        kv_sector_encode(file, check->sector, expected);
        status = kv_file_read_some(file, at, found, sizeof found, &got);
        if (status == KV_OK && memcmp(expected, found, sizeof found) != 0) add(r, at, KV_DETAIL_SECTOR_HEADER, no_key);
    }
    if (check->sector >= check->sector_end) check->phase = PHASE_LOG;
    return status;
}

/* The records of one sector. */
static kv_status check_log(kv_check *check, report *r) {
    kv_reader *reader = &check->reader;
    uint64_t index = reader->index;
    while (kv_reader_position(reader) < check->position_end) {
        kv_record record;
        uint64_t position;
        kv_status status = kv_reader_next(reader, &record, &position);
        if (status == KV_NOT_FOUND) {
            /* The end may be the beginning of a sector without a record yet, to which the reader has just gone. */
            if (kv_reader_position(reader) < check->position_end)
                add(r, kv_reader_file_offset(reader), KV_DETAIL_RECORD, no_key);
            break;
        }
        if (status != KV_OK) return status;
        if (kv_record_has_inline_value(&record) &&
            kv_value_sum(record.value, record.value_length) != record.value_sum) {
            uint64_t value = kv_reader_file_offset(reader) - kv_record_bytes(&record) + KV_RECORD_HEADER_BYTES;
            add(r, value + record.key.length, KV_DETAIL_VALUE, record.key);
        }
        if (reader->index != index && kv_reader_position(reader) < check->position_end) return KV_OK;
    }
    check->phase = PHASE_INDEX;
    return KV_OK;
}

/* Read one piece of a large value; `*done` after the last. */
static kv_status check_large(kv_check *check, const kv_place *place, bool *done, bool *matches) {
    uint8_t *piece = malloc(KV_PIECE_BYTES);
    if (piece == NULL) return KV_NO_MEMORY;
    if (check->large_read == 0) kv_xxh64_begin(&check->large_sum, 0);
    uint64_t wanted = place->length - check->large_read, got;
    if (wanted > KV_PIECE_BYTES) wanted = KV_PIECE_BYTES;
    kv_status status = kv_file_read_some(check->file, place->offset + check->large_read, piece, wanted, &got);
    kv_xxh64_add(&check->large_sum, piece, (size_t)got);
    check->large_read += (uint32_t)wanted;
    *done = check->large_read == place->length || got < wanted;
    *matches = (uint32_t)kv_xxh64_end(&check->large_sum) == place->sum;
    if (*done) check->large_read = 0;
    free(piece);
    return status;
}

static kv_status check_index(kv_db *db, kv_check *check, report *r, bool *finished) {
    kv_walk walk = {.nodes = &db->nodes, .root = check->version.root};
    uint8_t buffer[KV_KEY_MAX], bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_last_key_seek(&check->last, &walk);
    for (uint32_t n = 0; walk.valid && n < ENTRIES_A_STEP; n++, kv_walk_next(&walk)) {
        kv_key key = kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer);
        kv_place place = kv_walk_place(&walk);
        kv_record record;
        kv_status status = check->large_read > 0 ? KV_OK : kv_stored_record(check->file, key, &place, &record, bytes);
        if (status == KV_CORRUPT)
            add(r, check->file->error.offset, check->file->error.detail, key);
        else if (status != KV_OK)
            return status;
        if (status == KV_OK && place.length > KV_INLINE_MAX) {
            bool done, matches;
            status = check_large(check, &place, &done, &matches);
            if (status != KV_OK || !done) return status; /* the same entry again, at its next piece */
            if (!matches) add(r, place.offset, KV_DETAIL_VALUE, key);
        }
        kv_last_key_set(&check->last, key);
        check->keys++;
    }
    *finished = !walk.valid;
    if (*finished && check->keys != check->version.root.count) add(r, 0, KV_DETAIL_INDEX, no_key);
    return KV_OK;
}

kv_status kv_check_step(kv_db *db, kv_problem *problems, uint32_t capacity, uint64_t *count) {
    kv_check *check = &db->check;
    *count = 0;
    if (!check->open) return KV_INVALID;
    report r = {problems, capacity, count};
    bool finished = false;
    kv_status status;
    switch (check->phase) {
    case PHASE_HEADERS: status = check_headers(check, &r); break;
    case PHASE_LOG: status = check_log(check, &r); break;
    default: status = check_index(db, check, &r, &finished);
    }
    if (status == KV_OK && !finished) return KV_AGAIN;
    if (status != KV_OK) db->error = check->file->error;
    kv_check_end(db);
    return status;
}
