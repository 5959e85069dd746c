/* Which version readers see.
 *
 * Normally that is `head`, the newest commit. A commit that must be durable before anyone sees it holds the version of
 * before: `published` gets a pin, and moves on only when a flush that covers the commit is reported. */
#include <errno.h>

#include "db.h"

uint32_t kv_pin_head(kv_db *db) {
    /* the nodes made since the transaction began are its own */
    return db->txn.state != KV_TXN_NONE ? kv_nodes_pin_again(db->nodes, db->txn.base_pin) : kv_nodes_pin(db->nodes);
}

uint32_t kv_pin_published(kv_db *db) {
    uint32_t held = db->published.pin;
    return held != KV_NO_PIN ? kv_nodes_pin_again(db->nodes, held) : kv_pin_head(db);
}

kv_status kv_publish_hold(kv_db *db) {
    if (db->published.pin != KV_NO_PIN) return KV_OK;
    uint32_t pin = kv_pin_head(db);
    if (pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    db->published = (kv_version){db->head, pin};
    return KV_OK;
}

void kv_publish_release(kv_db *db) {
    if (db->published.pin == KV_NO_PIN || db->durable < db->committed_end) return;
    kv_nodes_unpin(db->nodes, db->published.pin);
    db->published.pin = KV_NO_PIN;
}

/* What is wished for as long as nobody has done it: not a call longer, or who flushes would never rest. */
static void update_wishes(kv_db *db) {
    db->flush_wanted = (kv_checkpoint_waits_for_flush(db) ? KV_WANTS_FLUSH : 0) |
                       (kv_checkpoint_is_behind(db) ? KV_WANTS_CATCH_UP : 0) | (kv_checkpoint_wants_pause(db) ? KV_WANTS_PAUSE : 0);
}

kv_status kv_publish_commit(kv_db *db, uint64_t records, uint64_t bytes) {
    db->committed_end = kv_log_position(db->file);
    db->tail_records += records;
    db->tail_bytes += bytes;
    db->position = db->committed_end;
    update_wishes(db);
    return db->published.pin == KV_NO_PIN && !kv_checkpoint_wants_flush(db) ? KV_OK : KV_NEEDS_SYNC;
}

kv_status kv_db_settle(kv_db *db) {
    if (db->read_only || db->txn.state != KV_TXN_NONE || !kv_log_is_waiting(db->file)) return KV_OK;
    kv_log_mark mark = kv_log_now(db->file);
    kv_status status = kv_log_write(db->file, false);
    if (status == KV_OK) {
        db->committed_end = kv_log_position(db->file);
        return KV_OK;
    }
    kv_log_rewind(db->file, &mark); /* they go on waiting */
    return kv_db_fail(db, status);
}

kv_status kv_db_sync_begin(kv_db *db) {
    if (db->file->poisoned) return KV_POISONED;
    kv_status status = kv_db_settle(db);
    if (status == KV_IO) return status;
    db->position = db->committed_end;
    if (db->durable >= db->committed_end && !kv_checkpoint_waits_for_flush(db) && !db->superblock_pending) return KV_OK;
    uint32_t pin = kv_pin_head(db);
    if (pin == KV_NO_PIN) return KV_TOO_MANY_CURSORS;
    kv_nodes_unpin(db->nodes, db->flushing.pin);
    db->flushing = (kv_version){db->head, pin};
    db->flushing_end = db->committed_end;
    kv_checkpoint_flush_begins(db);
    return KV_NEEDS_SYNC;
}

kv_status kv_db_synced(kv_db *db, uint64_t position) {
    if (db->file->poisoned) return KV_POISONED;
    if (db->flushing.pin == KV_NO_PIN || position != db->flushing_end) return KV_INVALID;
    if (position > db->durable) db->durable = position;
    kv_checkpoint_flushed(db);
    update_wishes(db);
    kv_version flushed = db->flushing;
    db->flushing.pin = KV_NO_PIN;
    if (db->published.pin != KV_NO_PIN) {
        kv_nodes_unpin(db->nodes, db->published.pin);
        db->published = flushed;
        if (db->committed_end > position) return KV_OK; /* later commits wait for their own flush */
        db->published.pin = KV_NO_PIN;
        kv_hash_published(&db->hash);
    }
    kv_nodes_unpin(db->nodes, flushed.pin);
    return KV_OK;
}

kv_status kv_db_sync_failed(kv_db *db, int32_t os_error) {
    db->file->poisoned = true;
    db->error = (kv_error){.os_error = os_error};
    return KV_OK;
}

kv_status kv_db_flush(kv_db *db) {
    kv_status status = kv_db_sync_begin(db);
    if (status != KV_NEEDS_SYNC) return status;
    status = kv_file_sync(db->file);
    return status == KV_OK ? kv_db_synced(db, db->flushing_end) : kv_db_fail(db, status);
}
