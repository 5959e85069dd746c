/* The write transaction: a private version of the tree, records in the log without a mark until it commits. */
#include "db.h"

#ifndef KV_ERA_FROM_RECORDS
#define KV_ERA_FROM_RECORDS 256u /* eras are few: small transactions do without */
#endif

kv_status kv_txn_begin(kv_db *db) {
    kv_status status = kv_db_writable(db, 0);
    if (status != KV_OK) return status;
    kv_collect_step(db, db->last_txn_bytes);
    uint32_t pin = kv_nodes_pin(&db->nodes);
    if (pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    kv_hash_fit(&db->hash, db->head.count);
    db->txn = (kv_txn){.state = KV_TXN_OPEN,
                       .root = db->head,
                       .base_pin = pin,
                       .retired_end = db->nodes.retired_end,
                       .log_mark = kv_log_now(db->file),
                       .commit = ++db->last_commit};
    return KV_OK;
}

kv_status kv_txn_append(kv_db *db, kv_record *record, kv_place *place) {
    kv_status status = kv_nodes_reserve(&db->nodes, kv_tree_reserve(&db->txn.root));
    record->commit = db->txn.commit;
    if (status == KV_OK && db->txn.records == UINT32_MAX) status = KV_INVALID;
    if (status == KV_OK) status = kv_log_append(db->file, record, place);
    if (status != KV_OK) {
        db->txn.state = KV_TXN_FAILED;
        return kv_db_fail(db, status);
    }
    db->txn.log_bytes += kv_record_bytes(record);
    if (++db->txn.records % KV_ERA_FROM_RECORDS == 0) kv_hash_fit(&db->hash, db->txn.root.count);
    if (db->txn.records == KV_ERA_FROM_RECORDS) db->txn.era = kv_hash_begin_era(&db->hash);
    return KV_OK;
}

void kv_txn_apply_put(kv_db *db, kv_key key, const kv_place *place) {
    kv_apply_put(&db->nodes, &db->txn.root, key, place);
    if (db->txn.era == 0) {
        kv_hash_drop(&db->hash, key);
        return;
    }
    kv_hash_put(&db->hash, key, place->offset - key.length - KV_RECORD_HEADER_BYTES, db->txn.era);
}

kv_status kv_txn_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                     kv_value_ref *existing) {
    kv_record record = {.type = KV_RECORD_PUT, .table = table, .key = key, .value = value, .value_length = length};
    kv_status status = kv_prepare_put(db, &db->txn.root, &record, flags | KV_IN_TRANSACTION, existing);
    if (status != KV_OK) return status;
    kv_place place;
    status = kv_txn_append(db, &record, &place);
    if (status == KV_OK) kv_txn_apply_put(db, key, &place);
    return status;
}

kv_status kv_txn_delete(kv_db *db, uint32_t table, kv_key key) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status == KV_OK) status = kv_check_key(key);
    if (status != KV_OK) return status;
    kv_place place;
    if (!kv_tree_get(&db->nodes, &db->txn.root, key, &place)) return KV_NOT_FOUND;
    kv_record record = {.type = KV_RECORD_DELETE, .table = table, .key = key};
    status = kv_txn_append(db, &record, NULL);
    if (status != KV_OK) return status;
    kv_apply_delete(&db->nodes, &db->txn.root, key);
    kv_hash_drop(&db->hash, key);
    return KV_OK;
}

static void end(kv_db *db) {
    db->txn.state = KV_TXN_NONE;
    db->incoming.open = false;
    kv_cursors_end_transaction(db);
}

kv_status kv_txn_rollback(kv_db *db) {
    if (db->txn.state == KV_TXN_NONE) return KV_NO_TRANSACTION;
    kv_nodes_roll_back(&db->nodes, db->txn.base_pin, db->txn.retired_end);
    kv_nodes_unpin(&db->nodes, db->txn.base_pin);
    kv_log_rewind(db->file, &db->txn.log_mark);
    if (db->txn.era != 0) kv_hash_abandon_era(&db->hash);
    end(db);
    return KV_OK;
}

kv_status kv_txn_commit(kv_db *db, uint32_t flags) {
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status != KV_OK) return status;
    kv_txn *txn = &db->txn;
    if (db->incoming.open) return KV_INVALID;
    if (txn->records == 0) return kv_txn_rollback(db);
    bool durable = flags & KV_DURABLE, barrier_done = flags & KV_BARRIER_DONE;
    if (durable && txn->has_external && !barrier_done) return KV_SYNC_FIRST;

    kv_record mark = {.type = KV_RECORD_COMMIT,
                      .flags = (uint8_t)(KV_FLAG_COMMIT | (barrier_done ? KV_FLAG_FLUSHED : 0)),
                      .commit = txn->commit,
                      .confirmed = db->durable,
                      .value_length = txn->records};
    status = kv_log_append(db->file, &mark, NULL);
    if (status == KV_OK) status = kv_log_write(db->file, durable);
    db->last_txn_bytes = txn->log_bytes;
    if (status != KV_OK) {
        txn->state = KV_TXN_FAILED;
        return kv_db_fail(db, status);
    }
    if (durable && db->published.pin == KV_NO_PIN)
        db->published = (kv_version){db->head, txn->base_pin}; /* what readers go on to see */
    else
        kv_nodes_unpin(&db->nodes, txn->base_pin);
    db->head = txn->root;
    if (txn->era != 0) kv_hash_commit_era(&db->hash, db->published.pin == KV_NO_PIN);
    end(db);
    return kv_publish_commit(db);
}
