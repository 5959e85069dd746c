/* The catalog: a tree like any other, whose entries are the other tables' roots and names.
 *
 *   00           -> the number that the next new table gets
 *   01 number    -> root of the table of that number (big-endian)
 *   02 name      -> number of the table of that name
 *
 * Where a table's entry has a place, these have a root or a number in the same 16 bytes. */
#include "db.h"

enum { NEXT = 0, TABLE = 1, NAME = 2 };
#define ENTRIES_A_STEP 512u

static const uint8_t next_key[1] = {NEXT};

static kv_key table_key(uint32_t table, uint8_t *to) {
    to[0] = TABLE;
    kv_store32(to + 1, __builtin_bswap32(table));
    return (kv_key){to, 5};
}

static kv_key name_key(kv_key name, uint8_t *to) {
    to[0] = NAME;
    memcpy(to + 1, name.data, name.length);
    return (kv_key){to, name.length + 1};
}

static kv_place from_root(const kv_root *root) {
    return (kv_place){.offset = (uint64_t)root->height << 32 | root->node,
                      .length = (uint32_t)root->count,
                      .sum = (uint32_t)(root->count >> 32)};
}

static bool to_root(const kv_nodes *nodes, const kv_place *place, kv_root *root) {
    *root = (kv_root){.node = (uint32_t)place->offset,
                      .height = (uint32_t)(place->offset >> 32),
                      .count = (uint64_t)place->sum << 32 | place->length};
    return kv_root_is_sane(root) && (root->node == 0 || kv_nodes_holds(nodes, root->node));
}

static kv_status damaged(kv_db *db, kv_nodes *nodes, const kv_root *catalog) {
    kv_status status = kv_nodes_fail(nodes, catalog->node);
    db->error = nodes->file->error;
    return status;
}

static kv_status get(kv_db *db, kv_nodes *nodes, const kv_root *catalog, kv_key key, kv_place *place) {
    kv_status status = kv_nodes_ready(nodes, KV_HEIGHT_MAX);
    if (status == KV_OK) status = kv_tree_get(nodes, catalog, key, place);
    if (status != KV_OK && status != KV_NOT_FOUND) db->error = nodes->file->error;
    return status;
}

kv_status kv_table_root(kv_db *db, kv_nodes *nodes, const kv_state *state, uint32_t table, kv_root *root) {
    if (table == 0) {
        *root = state->main;
        return KV_OK;
    }
    uint8_t buffer[8];
    kv_place place;
    kv_status status = get(db, nodes, &state->catalog, table_key(table, buffer), &place);
    if (status == KV_OK && !to_root(nodes, &place, root)) status = damaged(db, nodes, &state->catalog);
    return status == KV_NOT_FOUND ? KV_NO_SUCH_TABLE : status;
}

/* ---- one change of one table ---- */

static kv_status target_find(kv_db *db, const kv_state *state, uint32_t table, kv_key key, bool last, kv_target *target) {
    kv_status status = kv_table_root(db, db->nodes, state, table, &target->root);
    uint32_t count = kv_tree_reserve(&target->root) + (table == 0 ? 0 : kv_tree_reserve(&state->catalog));
    if (status == KV_OK) status = kv_nodes_reserve(db->nodes, count);
    uint8_t buffer[8];
    if (status == KV_OK && table != 0)
        status = kv_tree_find(db->nodes, &state->catalog, table_key(table, buffer), &target->catalog_path);
    if (status == KV_OK && last)
        status = kv_tree_find_last(db->nodes, &target->root, key, &target->path);
    else if (status == KV_OK)
        status = kv_tree_find(db->nodes, &target->root, key, &target->path);
    target->there = status == KV_OK;
    if (status == KV_OK || status == KV_NOT_FOUND || status == KV_NO_SUCH_TABLE) return status;
    return status == KV_NO_MEMORY || status == KV_EXISTS || status == KV_AGAIN ? status : kv_db_fail(db, status);
}

kv_status kv_target_find(kv_db *db, const kv_state *state, uint32_t table, kv_key key, kv_target *target) {
    return target_find(db, state, table, key, false, target);
}

kv_status kv_target_find_last(kv_db *db, const kv_state *state, uint32_t table, kv_key key, kv_target *target) {
    kv_status status = target_find(db, state, table, key, true, target);
    return status == KV_AGAIN ? target_find(db, state, table, key, false, target) : status;
}

void kv_target_store(kv_db *db, kv_state *state, uint32_t table, kv_target *target) {
    if (table == 0) {
        state->main = target->root;
        return;
    }
    uint8_t buffer[8];
    kv_place place = from_root(&target->root), old;
    kv_tree_put(db->nodes, &state->catalog, &target->catalog_path, table_key(table, buffer), true, &place, &old);
}

/* ---- in a transaction ---- */

kv_status kv_table_in_txn(kv_db *db, uint32_t table, kv_root **root) {
    kv_status status = kv_pending_merge(db, UINT32_MAX);
    return status == KV_OK ? kv_table_without_pending(db, table, root) : status;
}

kv_status kv_table_without_pending(kv_db *db, uint32_t table, kv_root **root) {
    kv_txn *txn = &db->txn;
    if (table == 0) {
        *root = &txn->now.main;
        return KV_OK;
    }
    for (uint32_t i = txn->table_count; i-- > 0;) {
        if (txn->tables[i].table != table) continue;
        *root = &txn->tables[i].root;
        return KV_OK;
    }
    if (txn->table_count == KV_OPEN_TABLES_MAX) {
        kv_status status = kv_tables_flush(db);
        if (status != KV_OK) return status;
        txn->table_count = 0;
    }
    kv_open_table *opened = &txn->tables[txn->table_count];
    *opened = (kv_open_table){.table = table};
    kv_status status = kv_table_root(db, db->nodes, &txn->now, table, &opened->root);
    if (status != KV_OK) return status;
    txn->table_count++;
    *root = &opened->root;
    return KV_OK;
}

void kv_table_changed(kv_db *db, const kv_root *root) {
    kv_txn *txn = &db->txn;
    for (uint32_t i = 0; i < txn->table_count; i++)
        if (root == &txn->tables[i].root) txn->tables[i].changed = true;
}

/* Set an entry of the catalog. */
static kv_status set(kv_db *db, kv_state *state, kv_key key, const kv_place *place) {
    kv_path path;
    kv_place old;
    kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(&state->catalog));
    if (status == KV_OK) status = kv_tree_find(db->nodes, &state->catalog, key, &path);
    if (status != KV_OK && status != KV_NOT_FOUND) return kv_db_fail(db, status);
    kv_tree_put(db->nodes, &state->catalog, &path, key, status == KV_OK, place, &old);
    return KV_OK;
}

static kv_status unset(kv_db *db, kv_state *state, kv_key key) {
    kv_path path;
    kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(&state->catalog));
    if (status == KV_OK) status = kv_tree_find(db->nodes, &state->catalog, key, &path);
    if (status == KV_OK) kv_tree_delete(db->nodes, &state->catalog, &path, 1);
    return status == KV_NOT_FOUND ? KV_OK : status;
}

kv_status kv_tables_flush(kv_db *db) {
    kv_txn *txn = &db->txn;
    kv_status status = kv_pending_merge(db, UINT32_MAX);
    if (status != KV_OK) return status;
    for (uint32_t i = 0; i < txn->table_count; i++) {
        if (!txn->tables[i].changed) continue;
        uint8_t buffer[8];
        kv_place place = from_root(&txn->tables[i].root);
        status = set(db, &txn->now, table_key(txn->tables[i].table, buffer), &place);
        if (status != KV_OK) return status;
        txn->tables[i].changed = false;
    }
    return KV_OK;
}

/* ---- making and dropping ---- */

static kv_status check_name(kv_key name) {
    if (name.length == 0) return KV_KEY_EMPTY;
    return name.length <= KV_TABLE_NAME_MAX ? KV_OK : KV_KEY_TOO_LARGE;
}

kv_status kv_table_find(kv_db *db, kv_nodes *nodes, const kv_state *state, kv_key name, uint32_t *table) {
    kv_status status = check_name(name);
    if (status != KV_OK) return status;
    uint8_t buffer[KV_KEY_MAX];
    kv_place place;
    status = get(db, nodes, &state->catalog, name_key(name, buffer), &place);
    if (status == KV_OK) *table = (uint32_t)place.offset;
    return status;
}

kv_status kv_table_apply_create(kv_db *db, kv_state *state, kv_key name, uint32_t table) {
    uint8_t buffer[KV_KEY_MAX];
    kv_root empty = {.node = 0};
    kv_place next = {.offset = 0}, number = {.offset = table}, root = from_root(&empty);
    kv_status status = get(db, db->nodes, &state->catalog, (kv_key){next_key, sizeof next_key}, &next);
    if (status == KV_NOT_FOUND) status = KV_OK;
    if (next.offset <= table) next.offset = (uint64_t)table + 1;
    if (status == KV_OK) status = set(db, state, (kv_key){next_key, sizeof next_key}, &next);
    if (status == KV_OK) status = set(db, state, name_key(name, buffer), &number);
    if (status == KV_OK) status = set(db, state, table_key(table, buffer), &root);
    return status;
}

kv_status kv_table_create(kv_db *db, kv_key name, uint32_t *table) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status != KV_OK) return status;
    kv_txn *txn = &db->txn;
    status = kv_table_find(db, db->nodes, &txn->now, name, table);
    if (status != KV_NOT_FOUND) return status == KV_OK ? KV_EXISTS : status;
    kv_place next = {.offset = 1};
    status = get(db, db->nodes, &txn->now.catalog, (kv_key){next_key, sizeof next_key}, &next);
    if (status != KV_OK && status != KV_NOT_FOUND) return status;
    if (next.offset == 0 || next.offset >= UINT32_MAX) return KV_INVALID;
    *table = (uint32_t)next.offset;
    kv_record record = {.type = KV_RECORD_TABLE, .table = *table, .key = name};
    status = kv_txn_append(db, &record, NULL);
    if (status == KV_OK) status = kv_table_apply_create(db, &txn->now, name, *table);
    return status == KV_OK ? KV_OK : kv_txn_fail(db, status);
}

kv_status kv_tree_empty_some(kv_db *db, kv_root *root, uint32_t limit) {
    kv_walk walk = {.nodes = db->nodes};
    for (uint32_t n = 0; root->node != 0 && n < limit; n++) {
        kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(root));
        walk.root = *root;
        if (status == KV_OK) status = kv_walk_forward_from(&walk, (kv_key){NULL, 0}, false);
        if (status != KV_OK) return status;
        if (!walk.valid) {
            root->count = 0; /* whatever it said */
            break;
        }
        uint8_t buffer[KV_KEY_MAX];
        kv_key key = kv_walk_key(&walk, buffer);
        kv_apply_delete(db, root, &walk.path, key);
    }
    kv_live_settle(db); /* a leaf whose prefix fills it stays although it is empty */
    for (uint32_t n = 0; root->count == 0 && root->node != 0 && n < limit; n++) {
        kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(root));
        if (status == KV_OK) status = kv_tree_free_first_leaf(db->nodes, root);
        if (status != KV_OK) return status;
    }
    return root->node != 0 ? KV_AGAIN : KV_OK;
}

kv_status kv_table_apply_drop(kv_db *db, kv_state *state, kv_key name, uint32_t table) {
    uint8_t buffer[KV_KEY_MAX];
    kv_status status = unset(db, state, table_key(table, buffer));
    return status == KV_OK ? unset(db, state, name_key(name, buffer)) : status;
}

kv_status kv_table_drop(kv_db *db, kv_key name) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    uint32_t table;
    if (status == KV_OK) status = kv_table_find(db, db->nodes, &db->txn.now, name, &table);
    if (status != KV_OK) return status == KV_NOT_FOUND ? KV_NO_SUCH_TABLE : status;
    kv_root *root;
    status = kv_table_in_txn(db, table, &root);
    if (status == KV_OK) {
        kv_table_changed(db, root);
        status = kv_tree_empty_some(db, root, ENTRIES_A_STEP);
        if (status == KV_AGAIN) return status;
    }
    kv_hash_clear(&db->hash); /* it is asked before the catalog */
    db->txn.rehashed_count = 0;
    kv_record record = {.type = KV_RECORD_DROP, .table = table, .key = name};
    if (status == KV_OK) status = kv_txn_append(db, &record, NULL);
    if (status == KV_OK) status = kv_tables_flush(db);
    db->txn.table_count = 0;
    if (status == KV_OK) status = kv_table_apply_drop(db, &db->txn.now, name, table);
    return status == KV_OK ? KV_OK : kv_txn_fail(db, status);
}

/* ---- listing ---- */

kv_status kv_table_next(kv_db *db, kv_nodes *nodes, const kv_state *state, uint32_t after, uint32_t *table,
                        kv_root *root) {
    uint8_t buffer[KV_KEY_MAX];
    kv_walk walk = {.nodes = nodes, .root = state->catalog};
    kv_status status = kv_walk_forward_from(&walk, table_key(after, buffer), true);
    if (status != KV_OK) return kv_db_fail(db, status);
    if (!walk.valid) return KV_NOT_FOUND;
    kv_key key = kv_walk_key(&walk, buffer);
    if (key.length != 5 || key.data[0] != TABLE) return KV_NOT_FOUND;
    *table = __builtin_bswap32(kv_load32(key.data + 1));
    if (*table <= after) return damaged(db, nodes, &state->catalog); /* out of order: there would be no end */
    kv_place place = kv_walk_place(&walk);
    return to_root(nodes, &place, root) ? KV_OK : damaged(db, nodes, &state->catalog);
}

kv_status kv_table_names(kv_db *db, kv_nodes *nodes, const kv_state *state, kv_key after, uint8_t *to,
                         uint32_t capacity, uint64_t *count) {
    uint8_t buffer[KV_KEY_MAX], seek[KV_KEY_MAX];
    kv_walk walk = {.nodes = nodes, .root = state->catalog};
    *count = 0;
    if (after.length > KV_TABLE_NAME_MAX) return KV_KEY_TOO_LARGE;
    kv_status status = kv_walk_forward_from(&walk, name_key(after, seek), after.length > 0);
    uint8_t last[KV_KEY_MAX];
    while (status == KV_OK && walk.valid && capacity >= sizeof(kv_entry) + KV_KEY_MAX) {
        kv_key key = kv_walk_key(&walk, buffer);
        if (key.length < 2 || key.data[0] != NAME) break;
        if (kv_compare((kv_key){key.data + 1, key.length - 1}, after) <= 0) return damaged(db, nodes, &state->catalog);
        kv_entry *entry = (kv_entry *)(void *)to;
        *entry = (kv_entry){.value = {.offset = kv_walk_place(&walk).offset}, .key_length = key.length - 1};
        entry->next = (uint32_t)KV_ALIGN8(sizeof *entry + entry->key_length);
        memcpy(to + sizeof *entry, key.data + 1, entry->key_length);
        memcpy(last, key.data + 1, entry->key_length);
        after = (kv_key){last, entry->key_length};
        to += entry->next;
        capacity -= entry->next;
        ++*count;
        status = kv_walk_next(&walk);
    }
    return status == KV_OK ? KV_OK : kv_db_fail(db, status);
}
