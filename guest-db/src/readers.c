/* Readers in other processes: what they stand on is kept.
 *
 * A reader stands on a checkpoint, and may read all that this refers to, and the log from there on. The checkpoints of the two
 * superblock slots are pinned anyway. When one leaves its slot its pin stays, until the host has found that no reader stands on it
 * (kv_guest_held): then what only it referred to is free. */
#include "db.h"

void kv_readers_give_up(kv_db *db, uint64_t sequence, uint32_t pin) {
    if (pin == KV_NO_PIN) return;
    if (!db->shared) {
        kv_nodes_unpin(db->nodes, pin);
        return;
    }
    if (db->held_count < KV_HELD_MAX) {
        db->held[db->held_count++] = (kv_held){sequence, sequence, pin};
        return;
    }
    kv_held *all = &db->held[KV_HELD_MAX - 1]; /* no more pins: one stands for all that come now, and keeps whatever is given up */
    for (uint32_t i = 0; i < db->held_count; i++)
        if (db->held[i].pin == db->nodes->catch_all) all = &db->held[i];
    all->last = sequence;
    kv_nodes_keep_all(db->nodes, all->pin);
    kv_nodes_unpin(db->nodes, pin);
}

void kv_readers_hold_older(kv_db *db, uint64_t newest, uint32_t pin) { /* at opening: it is the first */
    db->held[db->held_count++] = (kv_held){0, newest - 1, pin};
}

kv_status kv_readers_release(kv_db *db, uint64_t first) {
    for (uint32_t i = 0; i < db->held_count; i++) {
        if (db->held[i].first != first) continue;
        uint32_t pin = db->held[i].pin;
        db->held_count--;
        memmove(db->held + i, db->held + i + 1, (db->held_count - i) * sizeof *db->held);
        kv_nodes_unpin(db->nodes, pin);
        kv_collect_release(db);
        return KV_OK;
    }
    return KV_INVALID;
}

void kv_readers_forget(kv_db *db) {
    for (uint32_t i = 0; i < db->held_count; i++) kv_nodes_unpin(db->nodes, db->held[i].pin);
    db->held_count = 0;
}
