/* Puts of the open transaction that its tree does not have yet.
 *
 * Put one by one in random order, each key waits for a leaf of its own to come from memory. So puts are gathered, sorted, and
 * merged in key order: neighbours share a leaf, and mostly the way to it. The puts that follow merge the last batch a few at a
 * time, so that none of them waits for all of it; whoever looks at the tree has all of it merged first. The records are in the
 * log already, in the order of the puts: only the index is late. */
#include <stdlib.h>

#include "db.h"

#ifndef KV_PENDING_MAX
#define KV_PENDING_MAX 131000u /* puts a batch: the more, the more of them share a leaf */
#endif
#define KEY_BYTES_MAX ((2u << 20) - 64) /* with malloc's header still below the power of two to which some round up */
#ifndef KV_PENDING_CHUNK
#define KV_PENDING_CHUNK 1024u /* puts that are brought into order at a time */
#endif
#define CHUNK_KEY_BYTES (64u << 10)
#ifndef KV_PENDING_GROUP
#define KV_PENDING_GROUP 32u /* merged at once */
#endif
#define RADIX_FROM 512u /* below, its counting costs more than it saves */

typedef struct kv_pending_put {
    kv_place place;
    uint32_t key, key_length; /* in kv_pending_batch.keys */
} kv_pending_put;

/* What is sorted: the bytes behind the prefix that all keys share decide most of it. Equal keys stay in the order of their puts. */
typedef struct kv_pending_item {
    uint64_t head;
    uint32_t put;
} kv_pending_item;

static_assert(2 * KV_PENDING_MAX * (sizeof(kv_pending_put) + sizeof(kv_pending_item)) + 2 * KEY_BYTES_MAX + KV_HASH_BYTES_MAX <=
                  KV_CACHE_BESIDE_MAX,
              "two batches, and the order of one while it is sorted");

static kv_key key_of(const kv_pending_batch *batch, uint32_t put) {
    return (kv_key){batch->keys + batch->puts[put].key, batch->puts[put].key_length};
}

/* ---- gathering ---- */

static uint32_t grown(uint32_t capacity, uint32_t from, uint32_t to) {
    return capacity == 0 ? from : capacity < to / 4 ? 4 * capacity : to;
}

static bool need_room(kv_pending_batch *batch, uint32_t count, uint32_t key_bytes) {
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

/* Room for another key, and for putting them in order. */
static bool may_gather(kv_pending *pending, uint32_t key_length) {
    kv_pending_batch *batch = &pending->gathered;
    uint32_t count = batch->capacity, key_bytes = batch->key_capacity;
    if (batch->count == count) count = grown(count, 64, KV_PENDING_MAX);
    if (batch->key_bytes + key_length > key_bytes) key_bytes = grown(key_bytes, 4096, KEY_BYTES_MAX);
    return need_room(batch, count, key_bytes) && need_room(&pending->merging, KV_PENDING_CHUNK, CHUNK_KEY_BYTES);
}

static bool is_full(const kv_pending_batch *batch, uint32_t key_length) {
    return batch->count == KV_PENDING_MAX || batch->key_bytes + key_length > KEY_BYTES_MAX;
}

static void add(kv_pending_batch *batch, kv_key key, const kv_place *place) {
    memcpy(batch->keys + batch->key_bytes, key.data, key.length);
    batch->puts[batch->count++] = (kv_pending_put){*place, batch->key_bytes, key.length};
    batch->key_bytes += key.length;
}

static void gather(kv_pending_batch *batch, kv_key key, const kv_place *place) {
    if (batch->count == 0) {
        batch->shared = key.length;
        batch->sorted = true;
    } else {
        uint32_t shared = kv_common_prefix(key_of(batch, 0), key);
        if (shared < batch->shared) batch->shared = shared;
        batch->sorted = batch->sorted && kv_compare(key_of(batch, batch->count - 1), key) <= 0;
    }
    add(batch, key, place);
}

/* ---- sorting ---- */

static bool is_after(const kv_pending_batch *batch, const kv_pending_item *a, const kv_pending_item *b) {
    if (a->head != b->head) return a->head > b->head;
    return kv_compare(key_of(batch, a->put), key_of(batch, b->put)) > 0;
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
    for (uint32_t i = 0; i < batch->count; i++) items[i] = (kv_pending_item){kv_word(key_of(batch, i), batch->shared), i};
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

/* ---- merging ---- */

static void empty(kv_pending_batch *batch) { batch->count = batch->key_bytes = 0; }

/* The next puts of the batch into `merging`, in key order. Copied many at a time, for there the processor waits for many at once. */
static void take_chunk(kv_pending *pending) {
    const kv_pending_batch *from = &pending->turned;
    kv_pending_batch *to = &pending->merging;
    empty(to);
    pending->next = 0;
    while (pending->taken < from->count && to->count < KV_PENDING_CHUNK) {
        uint32_t put = pending->order != NULL ? pending->order[pending->taken].put : pending->taken;
        kv_key key = key_of(from, put);
        if (to->key_bytes + key.length > CHUNK_KEY_BYTES) break;
        add(to, key, &from->puts[put].place);
        pending->taken++;
    }
}

static bool is_in_order(const kv_pending *pending) { return pending->turned.sorted || pending->order != NULL; }

static kv_status find(kv_db *db, const kv_root *root, kv_key key) {
    kv_pending *pending = &db->pending;
    kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(root));
    if (status != KV_OK) return status;
    if (pending->near) return kv_tree_find_next(db->nodes, root, key, &pending->path);
    pending->near = is_in_order(pending) && root->node != 0;
    return kv_tree_find(db->nodes, root, key, &pending->path);
}

static kv_status merge_one(kv_db *db, kv_root *root) {
    kv_pending *pending = &db->pending;
    kv_key key = key_of(&pending->merging, pending->next);
    kv_status status = find(db, root, key);
    bool there = status == KV_OK;
    if (!there && status != KV_NOT_FOUND) return status;
    uint32_t before = pending->near ? kv_node_here(db->nodes, pending->path.steps[0].node)->count : 0;
    kv_place old;
    kv_tree_put(db->nodes, root, &pending->path, key, there, &pending->merging.puts[pending->next].place, &old);
    if (there) kv_live_add(db, key, &old, -1);
    pending->replacing = there;
    if (pending->table != 0) kv_table_changed(db, root);
    uint32_t after = kv_node_here(db->nodes, pending->path.steps[0].node)->count;
    if (after != before + !there) pending->near = false; /* split */
    pending->next++;
    return KV_OK;
}

/* What of a leaf is needed next: bytes [from, to). */
typedef struct kv_fetch {
    const kv_node *leaf;
    uint32_t from, to;
} kv_fetch;

/* In a loop of nothing else: the processor waits for as many lines at once as it has instructions in sight. */
static void fetch(const kv_fetch *fetches, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (fetches[i].from < fetches[i].to) kv_node_fetch(fetches[i].leaf, fetches[i].from, fetches[i].to);
}

/* Have what the next puts need of their leaves come from memory all at once, not one after the other: first the headers, then the
 * slots that the search goes on with, then the entries. A new key moves the slots behind it. */
static void touch(const kv_db *db, const kv_root *root, uint32_t count) {
    const kv_pending *pending = &db->pending;
    kv_fetch fetches[KV_PENDING_GROUP];
    kv_key keys[KV_PENDING_GROUP];
    kv_path path;
    if (root->height < 2 || count == 0) return;
    for (uint32_t i = 0; i < count; i++) {
        keys[i] = key_of(&pending->merging, pending->next + i);
        const kv_node *leaf = kv_tree_next_leaf(db->nodes, root, keys[i], &path, i == 0);
        if (leaf == NULL) return; /* it has to be read, which is another matter */
        fetches[i] = (kv_fetch){leaf, 0, i > 0 && leaf == fetches[i - 1].leaf ? 0 : KV_NODE_HEADER_BYTES};
    }
    fetch(fetches, count);
    for (uint32_t i = 0; i < count; i++) {
        kv_slots near = kv_node_near(fetches[i].leaf, keys[i]);
        uint32_t slots = fetches[i].leaf->count;
        fetches[i].from = KV_SLOT_OFFSET(near.from);
        fetches[i].to = KV_SLOT_OFFSET(pending->replacing && near.to < slots ? near.to + 1 : slots);
    }
    fetch(fetches, count);
    for (uint32_t i = 0; i < count; i++) {
        const kv_node *leaf = fetches[i].leaf;
        uint32_t index = kv_node_first_at_least(leaf, keys[i]);
        kv_slot slot = index < leaf->count ? leaf->slots[index] : (kv_slot){.offset = 0};
        fetches[i].from = slot.offset;
        fetches[i].to = slot.offset == 0 ? 0 : slot.offset + (uint32_t)sizeof(kv_place) + slot.length;
    }
    fetch(fetches, count);
}

static kv_status merge_some(kv_db *db, uint32_t limit) {
    kv_pending *pending = &db->pending;
    kv_live_settle(db);
    while (limit > 0) {
        if (pending->next == pending->merging.count) take_chunk(pending);
        uint32_t left = pending->merging.count - pending->next, group = left < KV_PENDING_GROUP ? left : KV_PENDING_GROUP;
        if (left == 0) break;
        kv_root *root;
        kv_status status = kv_table_without_pending(db, pending->table, &root);
        if (status == KV_OK && is_in_order(pending)) touch(db, root, group);
        for (uint32_t i = 0; i < group && status == KV_OK; i++) status = merge_one(db, root);
        if (status != KV_OK) return kv_txn_fail(db, status);
        limit -= group < limit ? group : limit;
    }
    return KV_OK;
}

static bool has_merged(const kv_pending *pending) {
    return pending->next == pending->merging.count && pending->taken == pending->turned.count;
}

static void empty_turned(kv_pending *pending) {
    empty(&pending->turned);
    empty(&pending->merging);
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
    kv_status status = merge_some(db, limit);
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
    if (status == KV_OK && is_full(&pending->gathered, key_length)) {
        status = merge_some(db, UINT32_MAX);
        if (status == KV_OK) turn(pending);
    }
    return status == KV_OK && !may_gather(pending, key_length) ? KV_AGAIN : status;
}

kv_status kv_pending_put_later(kv_db *db, kv_key key, const kv_place *place) {
    gather(&db->pending.gathered, key, place);
    kv_live_add(db, key, place, 1); /* already: the puts lie side by side now */
    return db->pending.gathered.count % KV_PENDING_GROUP == 0 ? merge_some(db, KV_PENDING_GROUP) : KV_OK;
}

void kv_pending_discard(kv_db *db) {
    empty(&db->pending.gathered);
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
