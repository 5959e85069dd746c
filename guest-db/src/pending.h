/* Puts that wait for the index: what gathering and sorting (pending.c) and merging (merge.c) share. */
#ifndef KV_PENDING_H
#define KV_PENDING_H

#include "db.h"

#define KV_MERGE_KEY_BYTES (64u << 10)

typedef struct kv_pending_put {
    kv_place place;
    uint32_t key, key_length; /* in kv_pending_batch.keys */
} kv_pending_put;

/* What is sorted: the bytes behind the prefix that all keys share decide most of it. Equal keys stay in the order of their puts. */
typedef struct kv_pending_item {
    uint64_t head;
    uint32_t put;
} kv_pending_item;

static inline kv_key kv_pending_key(const kv_pending_batch *batch, uint32_t put) {
    return (kv_key){batch->keys + batch->puts[put].key, batch->puts[put].key_length};
}
/* Have memory for so many. */
bool kv_pending_room(kv_pending_batch *batch, uint32_t count, uint32_t key_bytes);
static inline void kv_pending_add(kv_pending_batch *batch, kv_key key, const kv_place *place) {
    memcpy(batch->keys + batch->key_bytes, key.data, key.length);
    batch->puts[batch->count++] = (kv_pending_put){*place, batch->key_bytes, key.length};
    batch->key_bytes += key.length;
}
static inline void kv_pending_empty(kv_pending_batch *batch) { batch->count = batch->key_bytes = 0; }

/* merge.c */
bool kv_merge_need(kv_pending *pending); /* the memory for it */
/* Merge so many of the last batch, or a few more to the end of a run. */
kv_status kv_merge_some(kv_db *db, uint32_t limit);

#endif
