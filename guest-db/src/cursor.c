/* Cursors: a range, handed over in batches. What is left of the range is remembered as keys, so that a batch costs one seek
 * and a cursor over the transaction follows its changes. */
#include <stdlib.h>

#include "db.h"

kv_status kv_cursor_open(kv_db *db, kv_key start, kv_key stop, uint32_t view, uint32_t flags, uint32_t *handle) {
    if (db->file->poisoned) return KV_POISONED;
    const kv_root *root = kv_db_root(db, view);
    if (root == NULL) return view == KV_VIEW_TRANSACTION ? KV_NO_TRANSACTION : KV_INVALID;
    uint32_t free_handle = 0;
    while (free_handle < KV_CURSORS_MAX && db->cursors[free_handle] != NULL) free_handle++;
    if (free_handle == KV_CURSORS_MAX) return KV_TOO_MANY_CURSORS;
    kv_cursor *cursor = calloc(1, sizeof *cursor);
    if (cursor == NULL) return KV_NO_MEMORY;
    *cursor = (kv_cursor){.view = view, .flags = flags, .version = {.pin = KV_NO_PIN}};
    if (view == KV_VIEW_PUBLISHED) {
        uint32_t held = db->published.pin;
        uint32_t pin = held != KV_NO_PIN ? kv_nodes_pin_again(&db->nodes, held) : kv_pin_head(db);
        if (pin == KV_NO_PIN) {
            free(cursor);
            return KV_TOO_MANY_CURSORS;
        }
        cursor->version = (kv_version){*root, pin};
        cursor->file = db->file;
        db->file->references++;
    }
    cursor->has_start = flags & KV_CURSOR_HAS_START;
    cursor->has_stop = flags & KV_CURSOR_HAS_STOP;
    if (cursor->has_start) memcpy(cursor->start, start.data, cursor->start_length = start.length);
    if (cursor->has_stop) memcpy(cursor->stop, stop.data, cursor->stop_length = stop.length);
    db->cursors[free_handle] = cursor;
    db->cursor_count++;
    *handle = free_handle;
    return KV_OK;
}

static kv_cursor *get(const kv_db *db, uint32_t handle) {
    return handle < KV_CURSORS_MAX ? db->cursors[handle] : NULL;
}

kv_status kv_cursor_close(kv_db *db, uint32_t handle) {
    kv_cursor *cursor = get(db, handle);
    if (cursor == NULL) return KV_INVALID;
    kv_nodes_unpin(&db->nodes, cursor->version.pin);
    kv_file_release(cursor->file);
    free(cursor);
    db->cursors[handle] = NULL;
    db->cursor_count--;
    return KV_OK;
}

void kv_cursors_end_transaction(kv_db *db) {
    for (uint32_t handle = 0; db->cursor_count > 0 && handle < KV_CURSORS_MAX; handle++)
        if (db->cursors[handle] != NULL && db->cursors[handle]->view == KV_VIEW_TRANSACTION)
            (void)kv_cursor_close(db, handle);
}

static void begin(const kv_cursor *cursor, kv_walk *walk) {
    kv_key start = {cursor->has_start ? cursor->start : NULL, cursor->start_length};
    kv_key stop = {cursor->has_stop ? cursor->stop : NULL, cursor->stop_length};
    if (cursor->flags & KV_CURSOR_REVERSE)
        kv_walk_backward_from(walk, stop);
    else
        kv_walk_forward_from(walk, start, cursor->after_start);
}

/* Is the key beyond the end of the range towards which the cursor moves? */
static bool beyond(const kv_cursor *cursor, kv_key key) {
    if (cursor->flags & KV_CURSOR_REVERSE)
        return cursor->has_start && kv_compare(key, (kv_key){cursor->start, cursor->start_length}) < 0;
    return cursor->has_stop && kv_compare(key, (kv_key){cursor->stop, cursor->stop_length}) >= 0;
}

/* The next batch begins behind `key`. */
static void remember(kv_cursor *cursor, kv_key key) {
    if (cursor->flags & KV_CURSOR_REVERSE) {
        memcpy(cursor->stop, key.data, key.length);
        cursor->stop_length = key.length;
        cursor->has_stop = true;
    } else {
        memcpy(cursor->start, key.data, key.length);
        cursor->start_length = key.length;
        cursor->has_start = cursor->after_start = true;
    }
}

kv_status kv_cursor_next(kv_db *db, uint32_t handle, uint32_t limit, uint8_t *to, uint32_t capacity, uint64_t *count) {
    *count = 0;
    kv_cursor *cursor = get(db, handle);
    if (cursor == NULL) return KV_INVALID;
    if (db->file->poisoned) return KV_POISONED;
    if (cursor->done) return KV_OK;
    bool own = cursor->view == KV_VIEW_TRANSACTION;
    kv_walk walk = {.nodes = &db->nodes, .root = own ? db->txn.root : cursor->version.root};
    const kv_file *file = own ? db->file : cursor->file;
    uint8_t *last = NULL;
    begin(cursor, &walk);
    for (; walk.valid && *count < limit; cursor->flags & KV_CURSOR_REVERSE ? kv_walk_previous(&walk) : kv_walk_next(&walk)) {
        if (capacity < sizeof(kv_entry) + KV_KEY_MAX) break;
        kv_entry *entry = (kv_entry *)(void *)to;
        kv_key key = kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), to + sizeof *entry);
        if (beyond(cursor, key)) {
            walk.valid = false;
            break;
        }
        kv_place place = kv_walk_place(&walk);
        entry->value = kv_db_value_ref(db, file, &place);
        entry->key_length = key.length;
        entry->next = (uint32_t)KV_ALIGN8(sizeof *entry + key.length);
        last = to;
        to += entry->next;
        capacity -= entry->next;
        ++*count;
    }
    if (last != NULL) remember(cursor, (kv_key){last + sizeof(kv_entry), ((kv_entry *)(void *)last)->key_length});
    cursor->done = !walk.valid;
    return KV_OK;
}
