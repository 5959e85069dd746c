/* Commits of one record, and how any record reaches the index. */
#include "db.h"

#define FULL_COMMITS_A_TRY 64u /* on a full disk, to find out whether there is space again */

void kv_apply_put(kv_db *db, kv_root *root, kv_path *path, kv_key key, bool there, const kv_place *place) {
    kv_live_settle(db);
    kv_place old;
    kv_tree_put(db->nodes, root, path, key, there, place, &old);
    if (there) kv_live_add(db, key, &old, -1);
    kv_live_add(db, key, place, 1);
}

void kv_apply_delete(kv_db *db, kv_root *root, kv_path *path, kv_key key) {
    const kv_node *leaf = kv_node_here(db->nodes, path->steps[0].node);
    const kv_slot *slot = &leaf->slots[path->steps[0].index];
    uint32_t offset = slot->offset, bytes = (uint32_t)(sizeof *slot + sizeof(kv_place)) + slot->length;
    bool stays = kv_node_used(leaf) >= KV_MERGE_BELOW + bytes;
    if (db->txn.state == KV_TXN_NONE || !stays) {
        kv_live_settle(db);
        kv_place old = kv_tree_place(db->nodes, path);
        kv_live_add(db, key, &old, -1);
        kv_tree_delete(db->nodes, root, path, 1);
    } else { /* what led here came without the entry */
        stays = kv_tree_delete(db->nodes, root, path, 1);
        assert(stays);
        kv_live_remove_later(db, kv_node_here(db->nodes, path->steps[0].node), offset, key.length);
    }
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

/* What each commit pays for before it is made. KV_AGAIN: there is more that cannot wait. */
kv_status kv_maintain(kv_db *db, uint64_t bytes) {
    kv_file *file = db->file;
    file->urgent = true;
    kv_status status = kv_checkpoint_step(db, bytes);
    if (status == KV_OK) kv_collect_step(db, bytes);
    if (status == KV_AGAIN) status = kv_checkpoint_finish(db);
    file->urgent = false;
    bool try = !file->full || ++db->full_commits % FULL_COMMITS_A_TRY == 0;
    if (try && !file->poisoned && kv_sectors_spare(file) == KV_OK && file->full) file->full = false;
    return file->poisoned ? kv_db_fail(db, KV_POISONED) : status;
}

/* Write one record as a commit of its own. */
static kv_status commit_record(kv_db *db, kv_record *record, kv_place *place) {
    kv_file *file = db->file;
    kv_log_mark mark = kv_log_now(file);
    record->commit = ++db->last_commit;
    record->confirmed = db->durable;
    record->flags |= KV_FLAG_COMMIT;
    kv_status status = kv_log_append(file, record, place);
    if (status == KV_OK) status = kv_log_write(file, true);
    if (status == KV_OK) return KV_OK;
    kv_log_rewind(file, &mark);
    kv_publish_release(db);
    return kv_db_fail(db, status);
}

/* What comes before a commit of one record, in the order in which it may fail: then the commit's own write is all that can. */
static kv_status prepare(kv_db *db, kv_record *record, uint32_t flags, kv_target *target) {
    kv_status status = kv_db_writable(db, flags);
    if (status == KV_OK) status = kv_check_key(record->key);
    bool urgent = db->file->urgent;
    if (status == KV_OK) status = kv_maintain(db, kv_record_bytes(record));
    db->file->urgent = urgent;
    if (status == KV_OK && (flags & KV_DURABLE)) status = kv_publish_hold(db);
    if (status != KV_OK) return status;
    if (flags & KV_APPEND) return kv_target_find_last(db, &db->head, record->table, record->key, target);
    return kv_target_find(db, &db->head, record->table, record->key, target);
}

kv_status kv_db_put(kv_db *db, uint32_t table, kv_key key, const uint8_t *value, uint32_t length, uint32_t flags,
                    kv_value_ref *existing) {
    if (length > KV_INLINE_MAX) return KV_VALUE_TOO_LARGE;
    kv_record record = {.type = KV_RECORD_PUT, .table = table, .key = key, .value = value, .value_length = length};
    kv_target target;
    kv_status status = prepare(db, &record, flags, &target);
    if (status == KV_OK && (flags & KV_NO_OVERWRITE)) {
        kv_place there;
        status = kv_tree_get(db->nodes, &target.root, key, &there);
        if (status == KV_OK) *existing = kv_db_value_ref(db, db->file, &there);
        status = status == KV_OK ? KV_EXISTS : kv_db_fail(db, status);
    }
    kv_place place;
    if (status == KV_OK || status == KV_NOT_FOUND) {
        record.value_sum = kv_value_sum(value, length);
        status = commit_record(db, &record, &place);
    } else {
        kv_publish_release(db);
    }
    if (status != KV_OK) return status;
    kv_apply_put(db, &target.root, &target.path, key, target.there, &place);
    kv_target_store(db, &db->head, table, &target);
    kv_hash_drop(&db->hash, table, key);
    return kv_publish_commit(db, 1, kv_record_bytes(&record));
}

/* A delete makes space: on a full disk it may use what is spared for that. */
static kv_status delete_record(kv_db *db, kv_record *record, uint32_t flags, kv_target *target) {
    kv_status status = prepare(db, record, flags, target);
    if (status == KV_OK && db->file->urgent) {
        status = kv_log_secure_urgent(db->file, kv_record_bytes(record));
        if (status != KV_OK) (void)kv_db_fail(db, status);
    }
    if (status == KV_OK) return commit_record(db, record, NULL);
    kv_publish_release(db);
    return status;
}

kv_status kv_db_delete(kv_db *db, uint32_t table, kv_key key, uint32_t flags) {
    kv_record record = {.type = KV_RECORD_DELETE, .table = table, .key = key};
    kv_target target;
    db->file->urgent = db->file->full;
    kv_status status = delete_record(db, &record, flags, &target);
    if (status == KV_DISK_FULL && !db->file->urgent) {
        db->file->urgent = true;
        status = delete_record(db, &record, flags, &target);
    }
    db->file->urgent = false;
    if (status != KV_OK) return status;
    kv_apply_delete(db, &target.root, &target.path, key);
    kv_target_store(db, &db->head, table, &target);
    kv_hash_drop(&db->hash, table, key);
    return kv_publish_commit(db, 1, kv_record_bytes(&record));
}
