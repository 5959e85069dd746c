/* Commits of one record, and how any record reaches the index. */
#include "db.h"

uint64_t kv_live_bytes(uint32_t key_length, uint32_t value_length) {
    bool large = value_length > KV_INLINE_MAX;
    return KV_ALIGN8((uint64_t)KV_RECORD_HEADER_BYTES + key_length + (large ? KV_EXTERNAL_BYTES : value_length));
}

static void count_in(kv_root *root, kv_key key, const kv_place *place) {
    root->live_bytes += kv_live_bytes(key.length, place->length);
    if (place->length > KV_INLINE_MAX) root->large_bytes += place->length;
}

static void count_out(kv_root *root, kv_key key, const kv_place *place) {
    root->live_bytes -= kv_live_bytes(key.length, place->length);
    if (place->length > KV_INLINE_MAX) root->large_bytes -= place->length;
}

void kv_apply_put(kv_nodes *nodes, kv_root *root, kv_key key, const kv_place *place) {
    kv_place old;
    if (kv_tree_put(nodes, root, key, place, &old)) count_out(root, key, &old);
    count_in(root, key, place);
}

bool kv_apply_delete(kv_nodes *nodes, kv_root *root, kv_key key) {
    kv_place old;
    if (!kv_tree_delete(nodes, root, key, &old)) return false;
    count_out(root, key, &old);
    return true;
}

kv_status kv_check_key(kv_key key) {
    if (key.length == 0) return KV_KEY_EMPTY;
    return key.length <= KV_KEY_MAX ? KV_OK : KV_KEY_TOO_LARGE;
}

kv_status kv_db_writable(const kv_db *db, uint32_t flags) {
    if (db->file->poisoned) return KV_POISONED;
    if (db->read_only) return KV_READ_ONLY;
    if (flags & KV_IN_TRANSACTION) {
        if (db->txn.state == KV_TXN_NONE) return KV_NO_TRANSACTION;
        return db->txn.state == KV_TXN_FAILED ? KV_TRANSACTION_FAILED : KV_OK;
    }
    return db->txn.state != KV_TXN_NONE || db->compaction.open ? KV_BUSY : KV_OK;
}

/* Write one record as a commit of its own. */
static kv_status commit_record(kv_db *db, kv_record *record, uint32_t flags, kv_place *place) {
    kv_file *file = db->file;
    kv_status status = flags & KV_DURABLE ? kv_publish_hold(db) : KV_OK;
    if (status != KV_OK) return status;
    kv_collect_step(db, kv_record_bytes(record));
    status = kv_nodes_reserve(&db->nodes, kv_tree_reserve(&db->head)); /* the step has used some */
    if (status != KV_OK) return status;
    kv_log_mark mark = kv_log_now(file);
    record->commit = ++db->last_commit;
    record->confirmed = db->durable;
    record->flags |= KV_FLAG_COMMIT;
    status = kv_log_append(file, record, place);
    if (status == KV_OK) status = kv_log_write(file, flags & KV_DURABLE);
    if (status == KV_OK) return KV_OK;
    kv_log_rewind(file, &mark);
    kv_publish_release(db);
    return kv_db_fail(db, status);
}

kv_status kv_prepare_put(kv_db *db, const kv_root *root, kv_record *record, uint32_t flags, kv_value_ref *existing) {
    kv_status status = kv_db_writable(db, flags);
    if (status == KV_OK) status = kv_check_key(record->key);
    if (status != KV_OK) return status;
    if (record->value_length > KV_INLINE_MAX) return KV_VALUE_TOO_LARGE;
    kv_place place;
    if ((flags & KV_NO_OVERWRITE) && kv_tree_get(&db->nodes, root, record->key, &place)) {
        *existing = kv_db_value_ref(db, db->file, &place);
        return KV_EXISTS;
    }
    record->value_sum = kv_value_sum(record->value, record->value_length);
    return KV_OK;
}

kv_status kv_db_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                    kv_value_ref *existing) {
    kv_record record = {.type = KV_RECORD_PUT, .table = table, .key = key, .value = value, .value_length = length};
    kv_status status = kv_prepare_put(db, &db->head, &record, flags, existing);
    if (status != KV_OK) return status;
    kv_place place;
    status = commit_record(db, &record, flags, &place);
    if (status != KV_OK) return status;
    kv_apply_put(&db->nodes, &db->head, key, &place);
    kv_hash_drop(&db->hash, key);
    return kv_publish_commit(db);
}

kv_status kv_db_delete(kv_db *db, uint32_t table, kv_key key, uint32_t flags) {
    kv_status status = kv_db_writable(db, flags);
    if (status == KV_OK) status = kv_check_key(key);
    if (status != KV_OK) return status;
    kv_place place;
    if (!kv_tree_get(&db->nodes, &db->head, key, &place)) return KV_NOT_FOUND;
    kv_record record = {.type = KV_RECORD_DELETE, .table = table, .key = key};
    status = commit_record(db, &record, flags, NULL);
    if (status != KV_OK) return status;
    kv_apply_delete(&db->nodes, &db->head, key);
    kv_hash_drop(&db->hash, key);
    return kv_publish_commit(db);
}
