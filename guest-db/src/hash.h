/* The adaptive hash: from a key straight to its record, in front of the tree.
 *
 * It is a cache of guesses. An entry tells where a record with this key may begin; whoever uses it compares the key there.
 * A miss means nothing. What has to hold is only this: an entry that is found for a key names the record that both the
 * newest commit and what readers see have for it. So a write takes the key's entry out, and readers put entries in only while
 * the two are the same. A large transaction puts its records in as it goes, under an era of its own that nobody finds
 * before it is published, or ever when it is rolled back. */
#ifndef KV_HASH_H
#define KV_HASH_H

#include "node.h"

#define KV_HASH_WAYS 8u             /* entries a bucket: one cache line */
#define KV_HASH_BYTES_MIN (1u << 16)
#define KV_HASH_BYTES_MAX (1u << 25)

typedef struct kv_hash {
    uint64_t *entries; /* (record offset / 8) << 23 | tag << 8 | era; 0: none */
    void *block;       /* what was allocated: `entries` is aligned to a bucket */
    uint32_t buckets;  /* 0: no table yet */
    uint8_t number;    /* of this table: changes when it is emptied or replaced; never 0 */
    uint64_t seed;
    uint8_t hidden; /* era of a transaction that is not published; 0: none */
    bool committed; /* it is committed, but readers still see the version before it */
    uint8_t last_era;
    bool dead[256]; /* eras of transactions that were rolled back */
} kv_hash;

void kv_hash_destroy(kv_hash *hash);
/* Have a table for so many keys; a table that has become too small is replaced by an empty one. */
void kv_hash_fit(kv_hash *hash, uint64_t keys);
void kv_hash_clear(kv_hash *hash);

/* File offset of the record that the key may have, or 0. */
uint64_t kv_hash_find(const kv_hash *hash, uint32_t table, kv_key key);
void kv_hash_put(kv_hash *hash, uint32_t table, kv_key key, uint64_t record, uint8_t era);
/* Many at once: the processor waits for their places together. */
typedef struct kv_hash_entry {
    uint64_t sum, record; /* kv_hash_sum of the key; as for kv_hash_put, or KV_HASH_NONE to drop the key's */
} kv_hash_entry;
#define KV_HASH_NONE UINT64_MAX
uint64_t kv_hash_sum(const kv_hash *hash, uint32_t table, kv_key key);
void kv_hash_put_many(kv_hash *hash, const kv_hash_entry *entries, uint32_t count, uint8_t era);
void kv_hash_drop(kv_hash *hash, uint32_t table, kv_key key);

/* Whether a table with so many keys fits as a whole: then it pays to put in what was not asked for yet. */
static inline bool kv_hash_holds(const kv_hash *hash, uint64_t keys) {
    return keys <= (uint64_t)hash->buckets * KV_HASH_WAYS / 4 * 3;
}

/* An era for a transaction's entries, or 0 when there is none to be had: then its writes only drop. */
uint8_t kv_hash_begin_era(kv_hash *hash);
void kv_hash_commit_era(kv_hash *hash, bool published);
void kv_hash_abandon_era(kv_hash *hash);
/* Readers see the newest commit now. */
void kv_hash_published(kv_hash *hash);

#endif
