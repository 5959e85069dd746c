/* Checking everything: superblocks, sector headers, the log behind the checkpoint, each tree with every record and value that it
 * refers to, the pages in use, and the counts. */
#include <stdlib.h>

#include "db.h"

enum { PHASE_HEADERS, PHASE_LOG, PHASE_TABLES, PHASE_PAGES, PHASE_DONE };
#define HEADERS_A_STEP 256u
#define SLOT_TRIES 100u
#define NODES_A_STEP 256u
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
static void begin_tree(kv_check *check, kv_root root);

kv_status kv_check_begin(kv_db *db) {
    if (db->file->poisoned) return KV_POISONED;
    kv_check_end(db);
    kv_check *check = &db->check;
    kv_status status = kv_db_settle(db);
    if (status != KV_OK) return status;
    kv_file *file;
    const kv_state *state;
    (void)kv_db_state(db, KV_VIEW_PUBLISHED, &state, &file);
    kv_state now = *state;
    uint32_t pin = kv_pin_published(db);
    if (pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    check->open = true;
    check->version = (kv_version){now, pin};
    check->file = file;
    file->references++;
    check->loaded.sector = UINT64_MAX;
    check->sector_end = file->sector_count;
    check->position_end = db->committed_end;
    begin_tree(check, now.main);
    check->counts = db->published.pin == KV_NO_PIN && db->txn.state == KV_TXN_NONE;
    check->commit = db->last_commit;
    check->live = calloc((size_t)file->sector_count + 1, sizeof *check->live);
    check->reached_bits = db->nodes->sector_count << db->nodes->shift;
    check->reached = calloc(check->reached_bits / 8 + 1, 1);
    if (check->live != NULL && check->reached != NULL) return KV_OK;
    kv_check_end(db);
    return KV_NO_MEMORY;
}

void kv_check_end(kv_db *db) {
    kv_check *check = &db->check;
    if (check->open) {
        kv_nodes_unpin(check->file->nodes, check->version.pin);
        free(check->loaded.bytes);
        free(check->live);
        free(check->reached);
        kv_file_release(check->file);
    }
    memset(check, 0, sizeof *check);
    check->version.pin = KV_NO_PIN;
}

/* ---- superblocks, headers, log ---- */

static kv_status check_superblocks(kv_db *db, report *r) {
    kv_file *file = db->check.file;
    kv_superblock known = file->super, other = file->other;
    uint64_t generation = file->next_generation, newest;
    kv_status status = KV_OK;
    if (file->read_only) { /* somebody else may write: what it writes now is no matter of what is shown here */
        status = kv_superblock_newest(file, &newest);
        if (status != KV_OK || newest > known.sequence) return status;
    }
    for (uint32_t tries = 0; status == KV_OK && tries < SLOT_TRIES; tries++) {
        status = kv_superblock_read(file);
        if (!file->read_only || !file->slot_damaged) break; /* else it may be half written at this moment */
    }
    if (status == KV_OK && file->super.sequence > known.sequence) file->super = known;
    if (status == KV_OK && file->slot_damaged) add(r, ((known.sequence + 1) & 1) * KV_SUPERBLOCK_SLOT, KV_DETAIL_SUPERBLOCK, no_key);
    kv_map map = {NULL, 0, NULL, 0};
    if (status == KV_OK) status = kv_map_read(file, &file->super, &map);
    kv_map_free(&map);
    if (status != KV_OK && status != KV_IO) {
        add(r, status == KV_CORRUPT ? file->error.offset : 0, KV_DETAIL_SUPERBLOCK, no_key);
        status = KV_OK;
    }
    file->super = known;
    file->other = other;
    file->next_generation = generation;
    return status;
}

static kv_status check_headers(kv_db *db, report *r) {
    kv_check *check = &db->check;
    kv_file *file = check->file;
    kv_status status = check->sector == 0 ? check_superblocks(db, r) : KV_OK;
    for (uint32_t n = 0; n < HEADERS_A_STEP && status == KV_OK && check->sector < check->sector_end; n++, check->sector++) {
        const kv_sector *s = &file->sectors[check->sector];
        if (s->type == KV_SECTOR_INSIDE || s->type == 0 || s->emptied) continue;
        if (check->sector == file->log.sector && file->log.start == 0) continue; /* not written yet */
        if (file->read_only && s->type == KV_SECTOR_INDEX && s->generation >= file->super.generation) continue; /* nor ever */
        bool good;
        status = kv_sector_verify(file, check->sector, &good);
        if (status == KV_OK && !good) add(r, kv_sector_offset(file, check->sector), KV_DETAIL_SECTOR_HEADER, no_key);
    }
    if (check->sector >= check->sector_end) check->phase = PHASE_LOG;
    return status;
}

/* What a crash would have to replay, all at once: the log behind the checkpoint is never long. */
static kv_status check_log(kv_db *db, report *r) {
    kv_check *check = &db->check;
    kv_file *file = check->file;
    kv_chain chain;
    check->phase = PHASE_TABLES;
    if (check->position_end <= file->super.replay) return KV_OK;
    kv_status status = kv_chain_find(file, &chain);
    if (status != KV_OK) {
        add(r, file->error.offset, KV_DETAIL_SECTOR_HEADER, no_key);
        return status == KV_CORRUPT ? KV_OK : status;
    }
    kv_reader reader;
    kv_reader_begin(&reader, file, &chain, &check->loaded);
    while (kv_reader_position(&reader) < check->position_end) {
        kv_record record;
        uint64_t position;
        status = kv_reader_next(&reader, &record, &position);
        if (status == KV_NOT_FOUND) {
            /* The end may be the beginning of a sector without a record yet, to which the reader has just gone. */
            if (kv_reader_position(&reader) < check->position_end)
                add(r, kv_reader_file_offset(&reader), KV_DETAIL_RECORD, no_key);
            status = KV_OK;
            break;
        }
        if (status != KV_OK) break; /* values are read where the index refers to them */
    }
    kv_chain_free(&chain);
    return status;
}

/* ---- trees ---- */

static void reach(kv_check *check, uint32_t page, report *r) {
    uint32_t bit = page - KV_FIRST_PAGE;
    if (bit >= check->reached_bits) return;
    uint8_t *byte = &check->reached[bit / 8], mask = (uint8_t)(1u << bit % 8);
    if (*byte & mask) add(r, (uint64_t)page * KV_PAGE_BYTES, KV_DETAIL_INDEX, no_key); /* two nodes refer to it */
    *byte |= mask;
}

static bool is_reached(const kv_check *check, uint32_t page) {
    uint32_t bit = page - KV_FIRST_PAGE;
    return check->reached[bit / 8] >> (bit % 8) & 1;
}

static void begin_tree(kv_check *check, kv_root root) {
    check->root = root;
    check->keys = 0;
    check->last.any = false;
    check->depth = 0;
    if (root.node != 0) check->stack[check->depth++] = (kv_step){root.node, 0};
}

/* A node for the first time: it is of this tree alone, and its keys are in order. */
static void check_node(kv_check *check, const kv_node *node, uint32_t page, report *r) {
    uint8_t before[KV_KEY_MAX], key[KV_KEY_MAX];
    reach(check, page, r);
    for (uint32_t i = 1; i < node->count; i++)
        if (kv_compare(kv_node_key(node, i - 1, before), kv_node_key(node, i, key)) >= 0)
            add(r, (uint64_t)page * KV_PAGE_BYTES, KV_DETAIL_INDEX, kv_node_key(node, i, key));
}

/* Some nodes of the tree at hand, parents before children. */
static kv_status check_nodes(kv_check *check, report *r) {
    kv_nodes *nodes = check->file->nodes;
    for (uint32_t n = 0; check->depth > 0 && n < NODES_A_STEP; n++) {
        kv_step *top = &check->stack[check->depth - 1];
        kv_status status = kv_nodes_ready(nodes, 2);
        const kv_node *node = status == KV_OK ? kv_node_get(nodes, top->node) : NULL;
        if (status == KV_OK && node == NULL) status = nodes->failure;
        if (status == KV_CORRUPT || (node != NULL && node->level != check->root.height - check->depth)) {
            add(r, (uint64_t)top->node * KV_PAGE_BYTES, KV_DETAIL_INDEX, no_key);
            check->depth--;
            continue;
        }
        if (status != KV_OK) return status;
        if (top->index == 0) check_node(check, node, top->node, r);
        if (node->level == 0 || top->index > node->count) {
            check->depth--;
            continue;
        }
        check->stack[check->depth++] = (kv_step){kv_node_child(node, top->index++), 0};
    }
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

static kv_status check_value(kv_check *check, kv_key key, const kv_place *place, bool *done, report *r) {
    static uint8_t value[KV_INLINE_MAX];
    bool matches = true;
    kv_status status;
    if (place->length > KV_INLINE_MAX) {
        status = check_large(check, place, done, &matches);
    } else {
        status = kv_file_read(check->file, place->offset, value, place->length);
        if (status == KV_CORRUPT) matches = false;
        if (status == KV_OK) matches = kv_value_sum(value, place->length) == place->sum;
    }
    if (*done && !matches) add(r, place->offset, KV_DETAIL_VALUE, key);
    return status == KV_CORRUPT ? KV_OK : status;
}

static kv_status check_entry(kv_check *check, kv_key key, const kv_place *place, bool *done, report *r) {
    uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_record record;
    *done = true;
    kv_status status = KV_OK;
    if (check->large_read == 0) {
        status = kv_stored_record(check->file, key, place, &record, bytes, 0);
        if (status == KV_OK && record.table != check->table)
            status = kv_file_fail(check->file, KV_CORRUPT, KV_DETAIL_INDEX, place->offset);
    }
    if (status == KV_CORRUPT) add(r, check->file->error.offset, check->file->error.detail, key);
    if (status == KV_OK) status = check_value(check, key, place, done, r);
    uint64_t sector;
    if (*done && kv_stored_sector(check->file, kv_record_offset(place, key), &sector) &&
        sector < check->sector_end)
        check->live[sector] += kv_record_span(key.length, place->length);
    return status == KV_CORRUPT ? KV_OK : status;
}

/* Some entries of the table at hand; behind the last one the next table. */
static kv_status check_tables(kv_db *db, report *r) {
    kv_check *check = &db->check;
    kv_walk walk = {.nodes = check->file->nodes, .root = check->root};
    uint8_t buffer[KV_KEY_MAX];
    if (check->depth > 0) return check_nodes(check, r);
    kv_status status = kv_last_key_seek(&check->last, &walk);
    for (uint32_t n = 0; status == KV_OK && walk.valid && n < ENTRIES_A_STEP; n++) {
        kv_key key = kv_walk_key(&walk, buffer);
        kv_place place = kv_walk_place(&walk);
        bool done;
        status = check_entry(check, key, &place, &done, r);
        if (status != KV_OK || !done) return status; /* the same entry again, at its next piece */
        kv_last_key_set(&check->last, key);
        check->keys++;
        status = kv_walk_next(&walk);
    }
    bool damaged = status == KV_CORRUPT; /* check_nodes has told where */
    if (status != KV_OK && !damaged) return status;
    if (walk.valid && !damaged) return KV_OK;
    if (!damaged && check->keys != check->root.count) add(r, 0, KV_DETAIL_INDEX, no_key);
    if (damaged) check->counts = false;
    kv_root next;
    status = kv_table_next(db, check->file->nodes, &check->version.state, check->table, &check->table, &next);
    begin_tree(check, status == KV_OK ? next : check->version.state.catalog);
    if (status == KV_OK) return KV_OK;
    check->phase = PHASE_PAGES;
    return status == KV_NOT_FOUND || status == KV_CORRUPT ? KV_OK : status;
}

/* ---- pages, sectors and counts, when nothing has changed since the beginning ---- */

/* Pages that no node uses are free, or wait for a pin to go; none is both, and none is lost. `check->reached` has those in use. */
static void check_spare_pages(kv_check *check, const kv_nodes *nodes, report *r) {
    for (uint32_t i = 0; i < nodes->free.count; i++) reach(check, nodes->free.pages[i], r);
    for (uint32_t pin = 0; pin < KV_PINS_MAX; pin++)
        for (uint32_t i = 0; i < nodes->pins[pin].held.count; i++) reach(check, nodes->pins[pin].held.entries[i].page, r);
    for (uint32_t bit = 0; bit < check->reached_bits; bit++) {
        uint32_t page = bit + KV_FIRST_PAGE;
        bool known = kv_nodes_holds(nodes, page) && kv_pages_of(nodes, page)->made != NULL;
        if (known && !is_reached(check, page)) add(r, (uint64_t)page * KV_PAGE_BYTES, KV_DETAIL_PAGES, no_key);
    }
}

/* The sectors that are free are those in the list, each once. `check->live` is used up. */
static void check_free_sectors(const kv_check *check, report *r) {
    const kv_file *file = check->file;
    uint64_t *listed = check->live;
    memset(listed, 0, (size_t)(check->sector_end + 1) * sizeof *listed);
    for (uint64_t i = file->free.first; i < file->free.end; i++)
        if (file->free.numbers[i] < check->sector_end) listed[file->free.numbers[i]]++;
    for (uint64_t i = 0; i < check->sector_end; i++)
        if (listed[i] != (file->sectors[i].type == 0)) add(r, kv_sector_offset(file, i), KV_DETAIL_PAGES, no_key);
}

static kv_status check_pages(kv_db *db, report *r) {
    kv_check *check = &db->check;
    kv_nodes *nodes = db->nodes;
    kv_file *file = db->file;
    kv_status status = check_nodes(check, r); /* the catalog's */
    if (status != KV_OK || check->depth > 0) return status;
    check->phase = PHASE_DONE;
    bool unchanged = check->counts && check->commit == db->last_commit && check->file == file && *r->count == 0 &&
                     db->txn.state == KV_TXN_NONE && db->checkpoint.phase == KV_CHECKPOINT_IDLE;
    if (status != KV_OK || !unchanged) return status;
    for (uint32_t i = 0; i < db->map_page_count; i++) reach(check, db->map_pages[i], r);
    for (uint32_t page = KV_FIRST_PAGE; page - KV_FIRST_PAGE < check->reached_bits; page++) {
        if (!kv_nodes_holds(nodes, page)) continue;
        if (is_reached(check, page) != kv_nodes_in_use(nodes, page))
            add(r, (uint64_t)page * KV_PAGE_BYTES, KV_DETAIL_PAGES, no_key);
    }
    for (uint64_t i = 0; i < check->sector_end; i++) {
        const kv_sector *s = &file->sectors[i];
        if ((s->type == KV_SECTOR_LOG || s->type == KV_SECTOR_VALUES) && s->live != check->live[i])
            add(r, kv_sector_offset(file, i), KV_DETAIL_PAGES, no_key);
    }
    if (file->read_only) return KV_OK; /* it gives nothing out */
    check_spare_pages(check, nodes, r);
    check_free_sectors(check, r);
    return KV_OK;
}

kv_status kv_check_step(kv_db *db, kv_problem *problems, uint32_t capacity, uint64_t *count) {
    kv_check *check = &db->check;
    *count = 0;
    if (!check->open) return KV_INVALID;
    report r = {problems, capacity, count};
    kv_status status;
    switch (check->phase) {
    case PHASE_HEADERS: status = check_headers(db, &r); break;
    case PHASE_LOG: status = check_log(db, &r); break;
    case PHASE_TABLES: status = check_tables(db, &r); break;
    default: status = check_pages(db, &r);
    }
    if (status == KV_OK && check->phase != PHASE_DONE) return KV_AGAIN;
    if (status != KV_OK) db->error = check->file->error;
    kv_check_end(db);
    return status;
}
