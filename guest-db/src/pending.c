/* Puts of the open transaction that its tree does not have yet.
 *
 * Put one by one in random order, each key waits for a leaf of its own to come from memory. So puts are gathered, sorted, and
 * merged in key order: neighbours share a leaf, and mostly the way to it. The puts that follow merge the last batch a few at a
 * time, so that none of them waits for all of it; whoever looks at the tree has all of it merged first. The records are in the
 * log already, in the order of the puts: only the index is late. */
#include <stdlib.h>

#include "pending.h"

/* Puts a batch: the more, the more of them share a leaf. Half as many where the cache does not leave the memory for it. */
#ifndef KV_PENDING_MAX
#define KV_PENDING_MAX 262000u
#endif
#define KEY_BYTES_MAX ((4u << 20) - 64) /* with malloc's header still below the power of two to which some round up */
#ifndef KV_PENDING_STEP
#define KV_PENDING_STEP 32u /* every so many puts, as many of the last batch are merged */
#endif
#define RADIX_FROM 512u /* below, its counting costs more than it saves */

static_assert(2 * KV_PENDING_MAX * (sizeof(kv_pending_put) + sizeof(kv_pending_item)) + 2 * KEY_BYTES_MAX + KV_HASH_BYTES_MAX <=
                  KV_CACHE_BESIDE_MAX,
              "two batches, and the order of one while it is sorted");

/* ---- gathering ---- */

static uint32_t grown(uint32_t capacity, uint32_t from, uint32_t to) {
    return capacity == 0 ? from : capacity < to / 4 ? 4 * capacity : to;
}

bool kv_pending_room(kv_pending_batch *batch, uint32_t count, uint32_t key_bytes) {
    if (batch->capacity < count) {
        kv_pending_put *puts = realloc(batch->puts, count * sizeof *puts);
        if (puts == NULL) return false;
        batch->puts = puts;
        batch->capacity = count;
    }
    if (batch->key_capacity < key_bytes) {
        uint8_t *keys = realloc(batch->keys, key_bytes);
        if (keys == NULL) return false;
        batch->keys = keys;
        batch->key_capacity = key_bytes;
    }
    return true;
}

static uint32_t limit_of(const kv_db *db, uint32_t most) {
    return db->file->nodes->beside < KV_CACHE_BESIDE_MAX ? most / 2 : most;
}

/* Room for another key, and for putting them in order. */
static bool may_gather(kv_db *db, uint32_t key_length) {
    kv_pending *pending = &db->pending;
    kv_pending_batch *batch = &pending->gathered;
    uint32_t count = batch->capacity, key_bytes = batch->key_capacity;
    if (batch->count == count) count = grown(count, 64, limit_of(db, KV_PENDING_MAX));
    if (batch->key_bytes + key_length > key_bytes) key_bytes = grown(key_bytes, 4096, limit_of(db, KEY_BYTES_MAX));
    return kv_pending_room(batch, count, key_bytes) && kv_merge_need(pending);
}

static bool is_full(const kv_db *db, uint32_t key_length) {
    const kv_pending_batch *batch = &db->pending.gathered;
    return batch->count >= limit_of(db, KV_PENDING_MAX) || batch->key_bytes + key_length > limit_of(db, KEY_BYTES_MAX);
}

static void gather(kv_pending_batch *batch, kv_key key, const kv_place *place) {
    if (batch->count == 0) {
        batch->shared = key.length;
        batch->sorted = true;
    } else {
        uint32_t shared = kv_common_prefix(kv_pending_key(batch, 0), key);
        if (shared < batch->shared) batch->shared = shared;
        batch->sorted = batch->sorted && kv_compare(kv_pending_key(batch, batch->count - 1), key) <= 0;
    }
    kv_pending_add(batch, key, place);
}

/* ---- sorting ---- */

static bool is_after(const kv_pending_batch *batch, const kv_pending_item *a, const kv_pending_item *b) {
    if (a->head != b->head) return a->head > b->head;
    return kv_compare(kv_pending_key(batch, a->put), kv_pending_key(batch, b->put)) > 0;
}

/* Stable, by whole keys; `spare` is as large. */
static void merge_sort(const kv_pending_batch *batch, kv_pending_item *items, kv_pending_item *spare, uint32_t count) {
    for (uint32_t width = 1; width < count; width *= 2) {
        for (uint32_t from = 0; from < count; from += 2 * width) {
            uint32_t a = from, a_end = from + width < count ? from + width : count;
            uint32_t b = a_end, b_end = a_end + width < count ? a_end + width : count;
            for (uint32_t to = from; to < b_end; to++)
                spare[to] = b == b_end || (a < a_end && !is_after(batch, &items[a], &items[b])) ? items[a++] : items[b++];
        }
        memcpy(items, spare, count * sizeof *items);
    }
}

/* Stable, by heads: a pass for each of their bytes that is not the same in all. The result is in `*items`. */
static void radix_sort(kv_pending_item **items, kv_pending_item **spare, uint32_t count) {
    static uint32_t starts[8][256];
    memset(starts, 0, sizeof starts);
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t byte = 0; byte < 8; byte++) starts[byte][(*items)[i].head >> 8 * byte & 255]++;
    for (uint32_t byte = 0; byte < 8; byte++) {
        if (starts[byte][(*items)[0].head >> 8 * byte & 255] == count) continue;
        for (uint32_t value = 0, sum = 0; value < 256; value++) {
            uint32_t those = starts[byte][value];
            starts[byte][value] = sum;
            sum += those;
        }
        for (uint32_t i = 0; i < count; i++) {
            uint32_t *start = &starts[byte][(*items)[i].head >> 8 * byte & 255];
            (*spare)[(*start)++] = (*items)[i];
        }
        kv_pending_item *sorted = *spare;
        *spare = *items;
        *items = sorted;
    }
}

/* The order of the batch's keys; NULL: there is no memory for it. */
static kv_pending_item *order_of(const kv_pending_batch *batch) {
    kv_pending_item *items = malloc(batch->count * sizeof *items), *spare = malloc(batch->count * sizeof *spare);
    if (items == NULL || spare == NULL) {
        free(items);
        free(spare);
        return NULL;
    }
    for (uint32_t i = 0; i < batch->count; i++) items[i] = (kv_pending_item){kv_word(kv_pending_key(batch, i), batch->shared), i};
    if (batch->count < RADIX_FROM) {
        merge_sort(batch, items, spare, batch->count);
    } else {
        radix_sort(&items, &spare, batch->count);
        for (uint32_t from = 0, to; from < batch->count; from = to) { /* heads are the same: the rest of the keys decides */
            for (to = from + 1; to < batch->count && items[to].head == items[from].head; to++) {}
            if (to - from > 1) merge_sort(batch, items + from, spare, to - from);
        }
    }
    free(spare);
    return items;
}

static bool has_merged(const kv_pending *pending) {
    return pending->next == pending->merging.count && pending->taken == pending->turned.count;
}

static void empty_turned(kv_pending *pending) {
    kv_pending_empty(&pending->turned);
    kv_pending_empty(&pending->merging);
    free(pending->order);
    pending->order = NULL;
    pending->taken = pending->next = 0;
    pending->near = false;
}

/* What was gathered is what is merged next. All of the batch before has been. */
static void turn(kv_pending *pending) {
    empty_turned(pending);
    kv_pending_batch emptied = pending->turned;
    pending->turned = pending->gathered;
    pending->gathered = emptied;
    if (pending->turned.count > 0 && !pending->turned.sorted) pending->order = order_of(&pending->turned);
}

kv_status kv_pending_merge(kv_db *db, uint32_t limit) {
    kv_pending *pending = &db->pending;
    if (pending->gathered.count == 0 && pending->turned.count == 0) return KV_OK;
    if (db->txn.state == KV_TXN_FAILED) return KV_TRANSACTION_FAILED;
    kv_status status = kv_merge_some(db, limit);
    if (status != KV_OK || !has_merged(pending)) return status == KV_OK ? KV_AGAIN : status;
    turn(pending);
    return pending->turned.count == 0 ? KV_OK : limit == UINT32_MAX ? kv_pending_merge(db, limit) : KV_AGAIN;
}

kv_status kv_pending_ready(kv_db *db, uint32_t table, uint32_t key_length) {
    kv_pending *pending = &db->pending;
    kv_status status = KV_OK;
    if (pending->table != table || pending->gathered.count + pending->turned.count == 0) {
        kv_root *root;
        status = kv_table_in_txn(db, table, &root); /* is there such a table? */
        pending->table = table;
    }
    if (status == KV_OK && is_full(db, key_length)) {
        status = kv_merge_some(db, UINT32_MAX);
        if (status == KV_OK) turn(pending);
    }
    return status == KV_OK && !may_gather(db, key_length) ? KV_AGAIN : status;
}

kv_status kv_pending_put_later(kv_db *db, kv_key key, const kv_place *place) {
    gather(&db->pending.gathered, key, place);
    kv_live_add(db, key, place, 1); /* already: the puts lie side by side now */
    return db->pending.gathered.count % KV_PENDING_STEP == 0 ? kv_merge_some(db, KV_PENDING_STEP) : KV_OK;
}

void kv_pending_discard(kv_db *db) {
    kv_pending_empty(&db->pending.gathered);
    empty_turned(&db->pending);
}

void kv_pending_free(kv_db *db) {
    kv_pending *pending = &db->pending;
    free(pending->gathered.puts);
    free(pending->gathered.keys);
    free(pending->turned.puts);
    free(pending->turned.keys);
    free(pending->merging.puts);
    free(pending->merging.keys);
    free(pending->order);
}
