/* The write transaction: a private version of the tree, records in the log without a mark until it commits. */
#include "db.h"

#ifndef KV_ERA_FROM_RECORDS
#define KV_ERA_FROM_RECORDS 256u /* eras are few: small transactions do without */
#endif

kv_status kv_txn_begin(kv_db *db) {
    kv_status status = kv_db_writable(db, 0);
    if (status == KV_OK) status = kv_maintain(db, db->last_txn_bytes);
    if (status != KV_OK) return status;
    uint32_t pin = kv_nodes_pin(db->nodes);
    if (pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    kv_hash_fit(&db->hash, db->head.main.count);
    db->txn.state = KV_TXN_OPEN;
    db->txn.now = db->head;
    db->txn.base_pin = pin;
    db->txn.commit = ++db->last_commit;
    db->txn.records = db->txn.table_count = db->txn.depth = 0;
    db->txn.log_bytes = 0;
    db->txn.has_external = false;
    db->txn.era = 0;
    return kv_savepoint_begin(db);
}

/* What the transaction does to the hash is done many keys at a time. Until its commit nobody looks for its keys there. */
static void settle_hash(kv_db *db) {
    kv_hash_put_many(&db->hash, db->txn.rehashed, db->txn.rehashed_count, db->txn.era);
    db->txn.rehashed_count = 0;
}

static void tell_hash(kv_db *db, uint32_t table, kv_key key, uint64_t record) {
    kv_txn *txn = &db->txn;
    if (txn->rehashed_count == KV_REHASHED_MAX) settle_hash(db);
    txn->rehashed[txn->rehashed_count++] = (kv_hash_entry){kv_hash_sum(&db->hash, table, key), record};
}

kv_status kv_txn_fail(kv_db *db, kv_status status) {
    db->txn.state = KV_TXN_FAILED;
    db->incoming.open = false;
    return kv_db_fail(db, status);
}

kv_status kv_txn_append(kv_db *db, kv_record *record, kv_place *place) {
    kv_file *file = db->file;
    record->commit = db->txn.commit;
    kv_status status = db->txn.records == UINT32_MAX ? KV_INVALID : KV_OK;
    if (status == KV_OK && file->full) { /* a record that waits must not become one that cannot be written */
        file->urgent = record->type == KV_RECORD_DELETE || record->type == KV_RECORD_DROP;
        status = file->urgent ? kv_log_secure_urgent(file, kv_record_bytes(record)) : kv_log_secure(file, kv_record_bytes(record));
        file->urgent = false;
    }
    if (status == KV_OK) status = kv_log_append(file, record, place);
    if (status != KV_OK) return kv_txn_fail(db, status);
    db->txn.log_bytes += kv_record_bytes(record);
    if (++db->txn.records % KV_ERA_FROM_RECORDS == 0) kv_hash_fit(&db->hash, db->txn.now.main.count + db->pending.gathered.count);
    if (db->txn.records == KV_ERA_FROM_RECORDS) {
        settle_hash(db);
        db->txn.era = kv_hash_begin_era(&db->hash);
    }
    return KV_OK;
}

static void rehash(kv_db *db, uint32_t table, kv_key key, const kv_place *place) {
    tell_hash(db, table, key, db->txn.era == 0 ? KV_HASH_NONE : kv_record_offset(place, key));
}

void kv_txn_apply_put(kv_db *db, uint32_t table, kv_root *root, kv_path *path, kv_key key, bool there,
                      const kv_place *place) {
    kv_apply_put(db, root, path, key, there, place);
    if (table != 0) kv_table_changed(db, root);
    rehash(db, table, key, place);
}

static kv_status reserve(kv_db *db, const kv_root *root) {
    kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(root));
    if (status == KV_DISK_FULL) { /* a delete may use the spared pages; a put is refused where it wants a record */
        db->file->urgent = true;
        status = kv_nodes_reserve(db->nodes, kv_tree_reserve(root));
        db->file->urgent = false;
    }
    return status;
}

kv_status kv_txn_find(kv_db *db, uint32_t table, kv_key key, uint32_t flags, kv_root **root, kv_path *path) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status == KV_OK) status = kv_check_key(key);
    if (status == KV_OK) status = kv_table_in_txn(db, table, root);
    if (status != KV_OK) return status;
    bool last = flags & KV_APPEND;
    status = reserve(db, *root);
    if (status == KV_OK && last) {
        status = kv_tree_find_last(db->nodes, *root, key, path);
        last = status != KV_AGAIN;
        if (!last) status = reserve(db, *root);
    }
    if (status == KV_OK && !last) status = kv_tree_find(db->nodes, *root, key, path);
    if (status == KV_CORRUPT || status == KV_IO || status == KV_DISK_FULL) return kv_db_fail(db, status);
    return status;
}

/* A put that need not look at the tree. KV_AGAIN: it has to. */
static kv_status put_later(kv_db *db, kv_record *record) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status == KV_OK) status = kv_check_key(record->key);
    if (status == KV_OK) status = kv_pending_ready(db, record->table, record->key.length);
    if (status != KV_OK) return status;
    kv_place place;
    record->value_sum = kv_value_sum(record->value, record->value_length);
    status = kv_txn_append(db, record, &place);
    if (status != KV_OK) return status;
    rehash(db, record->table, record->key, &place);
    return kv_pending_put_later(db, record->key, &place);
}

kv_status kv_txn_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                     kv_value_ref *existing) {
    if (length > KV_INLINE_MAX) return KV_VALUE_TOO_LARGE;
    kv_record record = {.type = KV_RECORD_PUT, .table = table, .key = key, .value = value, .value_length = length};
    kv_place place;
    if (!(flags & (KV_NO_OVERWRITE | KV_APPEND)) && !db->file->full) {
        kv_status status = put_later(db, &record);
        if (status != KV_AGAIN) return status;
    }
    kv_root *root;
    kv_path path;
    kv_status status = kv_txn_find(db, table, key, flags, &root, &path);
    bool there = status == KV_OK;
    if (!there && status != KV_NOT_FOUND) return status;
    if (there && (flags & KV_NO_OVERWRITE)) {
        status = kv_tree_get(db->nodes, root, key, &place);
        if (status != KV_OK) return kv_db_fail(db, status);
        *existing = kv_db_value_ref(db, db->file, &place);
        return KV_EXISTS;
    }
    record.value_sum = kv_value_sum(value, length);
    status = kv_txn_append(db, &record, &place);
    if (status == KV_OK) kv_txn_apply_put(db, table, root, &path, key, there, &place);
    return status;
}

static kv_status append_delete(kv_db *db, uint32_t table, kv_key key) {
    kv_record record = {.type = KV_RECORD_DELETE, .table = table, .key = key};
    kv_status status = kv_txn_append(db, &record, NULL);
    if (status == KV_OK) tell_hash(db, table, key, KV_HASH_NONE);
    return status;
}

kv_status kv_txn_delete(kv_db *db, uint32_t table, kv_key key) {
    kv_root *root;
    kv_path path;
    kv_status status = kv_txn_find(db, table, key, 0, &root, &path);
    if (status == KV_OK) status = append_delete(db, table, key);
    if (status != KV_OK) return status;
    kv_apply_delete(db, root, &path, key);
    if (table != 0) kv_table_changed(db, root);
    return KV_OK;
}

/* Delete `key` and what follows it in its leaf: below `stop`, up to `limit` of them. */
static kv_status delete_in_leaf(kv_db *db, uint32_t table, kv_key key, const kv_key *stop, uint64_t limit, uint64_t *count) {
    uint8_t buffer[KV_KEY_MAX];
    kv_root *root;
    kv_path path;
    kv_status status = kv_txn_find(db, table, key, 0, &root, &path);
    if (status != KV_OK) return status;
    const kv_node *leaf = kv_node_here(db->nodes, path.steps[0].node);
    uint32_t end = path.steps[0].index;
    for (; end < leaf->count && *count < limit; ++end, ++*count) {
        key = kv_node_key(leaf, end, buffer);
        if (stop != NULL && kv_compare(key, *stop) >= 0) break;
        status = append_delete(db, table, key);
        if (status != KV_OK) return status; /* the transaction has failed */
        kv_place old = kv_node_place(leaf, end);
        kv_live_add(db, key, &old, -1);
    }
    kv_live_settle(db);
    kv_tree_delete(db->nodes, root, &path, end - path.steps[0].index);
    if (table != 0) kv_table_changed(db, root);
    return KV_OK;
}

kv_status kv_txn_delete_range(kv_db *db, uint32_t table, kv_key start, const kv_key *stop, uint32_t limit, uint64_t *count) {
    uint8_t buffer[KV_KEY_MAX];
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    for (*count = 0; status == KV_OK && *count < limit;) {
        kv_root *root;
        status = kv_table_in_txn(db, table, &root);
        if (status != KV_OK) break;
        kv_walk walk = {.nodes = db->nodes, .root = *root};
        status = kv_walk_forward_from(&walk, start, false);
        if (status != KV_OK) return kv_db_fail(db, status);
        if (!walk.valid) break;
        kv_key key = kv_walk_key(&walk, buffer);
        if (kv_compare(key, start) < 0) return kv_db_fail(db, kv_nodes_fail(db->nodes, walk.path.steps[0].node)); /* it would not end */
        if (stop != NULL && kv_compare(key, *stop) >= 0) break;
        status = delete_in_leaf(db, table, key, stop, limit, count);
    }
    return status;
}

/* ---- savepoints ---- */

kv_status kv_savepoint_begin(kv_db *db) {
    kv_txn *txn = &db->txn;
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status == KV_OK && txn->depth == KV_SAVEPOINTS_MAX) status = KV_TOO_MANY_CURSORS;
    if (status == KV_OK && db->incoming.open) status = KV_INVALID;
    if (status == KV_OK) status = kv_tables_flush(db);
    if (status != KV_OK) return status;
    kv_live_settle(db);
    if (txn->depth > 0) db->nodes->epoch++; /* what was made so far is changed by copying, too */
    txn->savepoints[txn->depth++] = (kv_savepoint){.state = txn->now,
                                                   .nodes_mark = kv_nodes_journal(db->nodes),
                                                   .log_mark = kv_log_now(db->file),
                                                   .records = txn->records,
                                                   .live_count = db->live.count,
                                                   .live_floor = db->live.floor};
    db->live.floor = db->live.count;
    return KV_OK;
}

kv_status kv_savepoint_release(kv_db *db) {
    kv_txn *txn = &db->txn;
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status != KV_OK) return status;
    if (txn->depth < 2 || db->incoming.open) return KV_INVALID;
    db->live.floor = txn->savepoints[--txn->depth].live_floor;
    return KV_OK;
}

static void restore(kv_db *db, const kv_savepoint *s) {
    db->txn.now = s->state;
    db->txn.table_count = 0;
    db->incoming.open = false;
    kv_pending_discard(db);
    kv_live_roll_back(db, s->live_count, s->live_floor);
    kv_nodes_roll_back(db->nodes, s->nodes_mark);
}

kv_status kv_savepoint_roll_back(kv_db *db) {
    kv_txn *txn = &db->txn;
    if (txn->state == KV_TXN_NONE) return KV_NO_TRANSACTION;
    if (txn->depth < 2) return KV_INVALID;
    const kv_savepoint *s = &txn->savepoints[--txn->depth];
    restore(db, s);
    settle_hash(db);
    if (txn->era != 0) { /* entries made since the savepoint cannot be told from those before */
        kv_hash_abandon_era(&db->hash);
        txn->era = 0;
    }
    if (txn->state == KV_TXN_FAILED || txn->records == s->records) return KV_OK;
    if (kv_log_can_rewind(db->file, &s->log_mark)) {
        kv_log_rewind(db->file, &s->log_mark);
        txn->records = s->records;
        return KV_OK;
    }
    kv_record undo = {.type = KV_RECORD_UNDO, .value_length = s->records}; /* they are in the file: recovery is told */
    return kv_txn_append(db, &undo, NULL);
}

static void end(kv_db *db) {
    db->txn.state = KV_TXN_NONE;
    db->txn.rehashed_count = 0;
    db->incoming.open = false;
    kv_cursors_end_transaction(db);
}

kv_status kv_txn_rollback(kv_db *db) {
    if (db->txn.state == KV_TXN_NONE) return KV_NO_TRANSACTION;
    restore(db, &db->txn.savepoints[0]);
    kv_nodes_journal_end(db->nodes);
    kv_nodes_unpin(db->nodes, db->txn.base_pin);
    kv_log_rewind(db->file, &db->txn.savepoints[0].log_mark);
    if (db->txn.era != 0) kv_hash_abandon_era(&db->hash);
    end(db);
    return KV_OK;
}

/* Write the mark that makes the transaction's records a commit. */
static kv_status write_mark(kv_db *db, bool flushed) {
    kv_txn *txn = &db->txn;
    kv_record mark = {.type = KV_RECORD_COMMIT,
                      .flags = (uint8_t)(KV_FLAG_COMMIT | (flushed ? KV_FLAG_FLUSHED : 0)),
                      .commit = txn->commit,
                      .confirmed = db->durable,
                      .value_length = txn->records};
    db->file->urgent = db->file->full;
    kv_status status = db->file->full ? kv_log_secure_urgent(db->file, KV_RECORD_HEADER_BYTES) : KV_OK;
    if (status == KV_OK) status = kv_log_append(db->file, &mark, NULL);
    if (status == KV_OK) status = kv_log_write(db->file, true);
    db->file->urgent = false;
    txn->log_bytes += KV_RECORD_HEADER_BYTES;
    db->last_txn_bytes = txn->log_bytes;
    return status == KV_OK ? KV_OK : kv_txn_fail(db, status);
}

kv_status kv_txn_commit(kv_db *db, uint32_t flags) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status != KV_OK) return status;
    kv_txn *txn = &db->txn;
    if (db->incoming.open) return KV_INVALID;
    bool durable = flags & KV_DURABLE, barrier_done = flags & KV_BARRIER_DONE;
    if (txn->records == 0) {
        status = kv_txn_rollback(db);
        db->position = db->committed_end; /* what it was made upon is durable when it is acknowledged */
        return status == KV_OK && durable && db->durable < db->committed_end ? KV_NEEDS_SYNC : status;
    }
    if (durable && txn->has_external && !barrier_done) return KV_SYNC_FIRST;
    status = kv_tables_flush(db);
    if (status != KV_OK) return kv_txn_fail(db, status);
    status = write_mark(db, barrier_done);
    if (status != KV_OK) return status;
    kv_live_settle(db);
    kv_nodes_journal_end(db->nodes);
    if (durable && db->published.pin == KV_NO_PIN)
        db->published = (kv_version){db->head, txn->base_pin}; /* what readers go on to see */
    else
        kv_nodes_unpin(db->nodes, txn->base_pin);
    db->head = txn->now;
    settle_hash(db);
    if (txn->era != 0) kv_hash_commit_era(&db->hash, db->published.pin == KV_NO_PIN);
    kv_live_commit(db);
    end(db);
    return kv_publish_commit(db, txn->records, txn->log_bytes);
}
