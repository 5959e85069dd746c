/* Cursors: a range, handed over in batches. What is left of the range is remembered as keys, so that a batch costs one seek
 * and a cursor over the transaction follows its changes. */
#include <stdlib.h>

#include "db.h"

/* One more pin on the version that `view` reads. */
static uint32_t pin_view(kv_db *db, uint32_t view) {
    if (view == KV_VIEW_PUBLISHED) return kv_pin_published(db);
    const kv_snapshot *snapshot = db->snapshots[view - KV_VIEW_SNAPSHOT];
    return kv_nodes_pin_again(snapshot->file->nodes, snapshot->version.pin);
}

kv_status kv_cursor_open(kv_db *db, uint32_t table, kv_key start, kv_key stop, uint32_t view, uint32_t flags,
                         uint32_t *handle) {
    if (db->file->poisoned) return KV_POISONED;
    const kv_state *state;
    kv_file *file;
    kv_status status = kv_db_state(db, view, &state, &file);
    if (status != KV_OK) return status;
    uint32_t free_handle = 0;
    while (free_handle < KV_CURSORS_MAX && db->cursors[free_handle] != NULL) free_handle++;
    if (free_handle == KV_CURSORS_MAX) return KV_TOO_MANY_CURSORS;
    kv_root root = {.node = 0}, *changing;
    bool own = view == KV_VIEW_TRANSACTION;
    status = own ? kv_table_in_txn(db, table, &changing) : kv_table_root(db, file->nodes, state, table, &root);
    if (status != KV_OK) return status;
    kv_cursor *cursor = calloc(1, sizeof *cursor);
    if (cursor == NULL) return KV_NO_MEMORY;
    *cursor = (kv_cursor){.view = view, .flags = flags, .table = table, .root = root, .pin = KV_NO_PIN, .file = file};
    if (!own && (cursor->pin = pin_view(db, view)) == KV_NO_PIN) {
        free(cursor);
        return KV_TOO_MANY_CURSORS;
    }
    file->references++;
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

kv_status kv_cursor_since(kv_db *db, uint32_t handle, uint64_t generation) {
    kv_cursor *cursor = get(db, handle);
    if (cursor == NULL) return KV_INVALID;
    cursor->since = generation;
    return KV_OK;
}

kv_status kv_cursor_close(kv_db *db, uint32_t handle) {
    kv_cursor *cursor = get(db, handle);
    if (cursor == NULL) return KV_INVALID;
    kv_nodes_unpin(cursor->file->nodes, cursor->pin);
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

/* In a damaged tree the keys may be out of order: a cursor still comes to its end. */
static bool follows(const kv_cursor *cursor, kv_key key) {
    if (cursor->flags & KV_CURSOR_REVERSE)
        return !cursor->has_stop || kv_compare(key, (kv_key){cursor->stop, cursor->stop_length}) < 0;
    if (!cursor->has_start) return true;
    int order = kv_compare(key, (kv_key){cursor->start, cursor->start_length});
    return order > 0 || (order == 0 && !cursor->after_start);
}

static kv_status begin(const kv_cursor *cursor, kv_walk *walk) {
    kv_key start = {cursor->has_start ? cursor->start : NULL, cursor->start_length};
    kv_key stop = {cursor->has_stop ? cursor->stop : NULL, cursor->stop_length};
    return cursor->flags & KV_CURSOR_REVERSE ? kv_walk_backward_from(walk, stop)
                                             : kv_walk_forward_from(walk, start, cursor->after_start);
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

/* To the first entry of what is left of the range. */
static kv_status start_walk(kv_db *db, const kv_cursor *cursor, kv_walk *walk) {
    kv_root root = cursor->root, *changing;
    kv_status status = cursor->view == KV_VIEW_TRANSACTION ? kv_table_in_txn(db, cursor->table, &changing) : KV_OK;
    if (status != KV_OK) return status;
    if (cursor->view == KV_VIEW_TRANSACTION) root = *changing;
    *walk = (kv_walk){.nodes = cursor->file->nodes, .root = root};
    status = begin(cursor, walk);
    if (status != KV_OK || !walk->valid) return status;
    uint8_t buffer[KV_KEY_MAX];
    return follows(cursor, kv_walk_key(walk, buffer)) ? KV_OK : kv_nodes_fail(walk->nodes, walk->path.steps[0].node);
}

/* A failure behind entries that were found is told with the next batch. */
static kv_status end_batch(kv_db *db, kv_cursor *cursor, const kv_walk *walk, kv_status status, uint64_t count) {
    if (status != KV_OK && count > 0) return KV_OK;
    if (status != KV_OK) {
        db->error = cursor->file->error;
        return status;
    }
    cursor->done = !walk->valid;
    return KV_OK;
}

/* Does a value lie in a sector that was given out before the cursor's generation? */
static bool is_older(const kv_cursor *cursor, const kv_place *place) {
    uint64_t sector;
    return cursor->since != 0 && kv_stored_sector(cursor->file, place->offset, &sector) &&
           cursor->file->sectors[sector].generation < cursor->since;
}

kv_status kv_cursor_next(kv_db *db, uint32_t handle, uint32_t limit, uint8_t *to, uint32_t capacity, uint64_t *count) {
    *count = 0;
    kv_cursor *cursor = get(db, handle);
    if (cursor == NULL) return KV_INVALID;
    if (db->file->poisoned) return KV_POISONED;
    if (cursor->done) return KV_OK;
    const bool reverse = cursor->flags & KV_CURSOR_REVERSE;
    kv_walk walk;
    uint8_t *last = NULL;
    kv_status status = start_walk(db, cursor, &walk);
    while (status == KV_OK && walk.valid && *count < limit && capacity >= sizeof(kv_entry) + KV_KEY_MAX) {
        kv_entry *entry = (kv_entry *)(void *)to;
        kv_key key = kv_walk_key(&walk, to + sizeof *entry);
        if (beyond(cursor, key)) {
            walk.valid = false;
            break;
        }
        kv_place place = kv_walk_place(&walk);
        entry->value = kv_db_value_ref(db, cursor->file, &place);
        if (is_older(cursor, &place)) entry->value.where = KV_WHERE_OLDER;
        entry->key_length = key.length;
        entry->next = (uint32_t)KV_ALIGN8(sizeof *entry + key.length);
        last = to;
        to += entry->next;
        capacity -= entry->next;
        ++*count;
        status = reverse ? kv_walk_previous(&walk) : kv_walk_next(&walk);
    }
    if (last != NULL) remember(cursor, (kv_key){last + sizeof(kv_entry), ((kv_entry *)(void *)last)->key_length});
    return end_batch(db, cursor, &walk, status, *count);
}

/* How many entries of a leaf, from slot `from` on, lie below the end of the range. */
static uint32_t entries_in_range(const kv_cursor *cursor, const kv_node *leaf, uint32_t from) {
    uint8_t buffer[KV_KEY_MAX];
    uint32_t low = from, high = leaf->count;
    if (!beyond(cursor, kv_node_key(leaf, high - 1, buffer))) return high - from; /* as most leaves */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (beyond(cursor, kv_node_key(leaf, middle, buffer)))
            high = middle;
        else
            low = middle + 1;
    }
    return low - from;
}

kv_status kv_cursor_count(kv_db *db, uint32_t handle, uint32_t leaves, uint64_t *count) {
    *count = 0;
    kv_cursor *cursor = get(db, handle);
    if (cursor == NULL || cursor->flags & KV_CURSOR_REVERSE) return KV_INVALID;
    if (db->file->poisoned) return KV_POISONED;
    if (cursor->done) return KV_OK;
    kv_walk walk;
    kv_status status = start_walk(db, cursor, &walk);
    while (status == KV_OK && walk.valid && leaves-- > 0) {
        uint8_t buffer[KV_KEY_MAX];
        const kv_node *leaf = kv_walk_leaf(&walk);
        uint32_t from = kv_walk_slot(&walk), found = entries_in_range(cursor, leaf, from);
        if (found == 0) {
            walk.valid = false;
            break;
        }
        kv_key last = kv_node_key(leaf, from + found - 1, buffer);
        if (!follows(cursor, last)) {
            status = kv_nodes_fail(walk.nodes, walk.path.steps[0].node);
            break;
        }
        remember(cursor, last);
        *count += found;
        walk.path.steps[0].index = leaf->count - 1;
        if (from + found < leaf->count)
            walk.valid = false;
        else
            status = kv_walk_next(&walk);
    }
    return end_batch(db, cursor, &walk, status, *count);
}
