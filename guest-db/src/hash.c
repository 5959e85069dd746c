#include "hash.h"

#include <stdlib.h>
#include <string.h>

#include "checksum.h"

#define ERA_BITS 8u
#define TAG_BITS 15u
#define OFFSET_SHIFT (ERA_BITS + TAG_BITS)
#define OFFSET_LIMIT ((uint64_t)1 << (64 - OFFSET_SHIFT + 3)) /* records are at multiples of 8 */
#define BUCKET_BYTES (KV_HASH_WAYS * sizeof(uint64_t))

void kv_hash_destroy(kv_hash *hash) {
    free(hash->block);
    memset(hash, 0, sizeof *hash);
}

void kv_hash_clear(kv_hash *hash) {
    if (hash->buckets > 0) memset(hash->entries, 0, hash->buckets * BUCKET_BYTES);
    memset(hash->dead, 0, sizeof hash->dead);
}

void kv_hash_fit(kv_hash *hash, uint64_t keys) {
    uint64_t entries = (uint64_t)hash->buckets * KV_HASH_WAYS, bytes = KV_HASH_BYTES_MIN;
    if (keys * 2 <= entries || (entries + 8 * KV_HASH_WAYS) * sizeof(uint64_t) >= KV_HASH_BYTES_MAX) return;
    while (bytes < keys * 2 * sizeof(uint64_t) && bytes < KV_HASH_BYTES_MAX) bytes *= 8;
    if (bytes > KV_HASH_BYTES_MAX) bytes = KV_HASH_BYTES_MAX;
    bytes -= 2 * BUCKET_BYTES; /* with malloc's header still below the power of two to which some round up */
    void *block = calloc(1, (size_t)bytes);
    if (block == NULL) return; /* the smaller one goes on serving */
    free(hash->block);
    hash->block = block;
    hash->entries = (uint64_t *)(((uintptr_t)block + BUCKET_BYTES - 1) & ~(uintptr_t)(BUCKET_BYTES - 1));
    hash->buckets = (uint32_t)(bytes / BUCKET_BYTES - 1);
    memset(hash->dead, 0, sizeof hash->dead);
}

static inline uint64_t *bucket_of(const kv_hash *hash, uint64_t sum) {
    return hash->entries + ((sum & UINT32_MAX) * hash->buckets >> 32) * KV_HASH_WAYS;
}
static inline uint64_t tag_of(uint64_t sum) { return (sum >> (64 - TAG_BITS)) << ERA_BITS; }
static inline bool same_tag(uint64_t entry, uint64_t tag) {
    return entry != 0 && (entry & (((uint64_t)1 << OFFSET_SHIFT) - ((uint64_t)1 << ERA_BITS))) == tag;
}

uint64_t kv_hash_find(const kv_hash *hash, uint32_t table, kv_key key) {
    if (hash->buckets == 0) return 0;
    uint64_t sum = kv_xxh64(key.data, key.length, hash->seed + table), tag = tag_of(sum);
    const uint64_t *bucket = bucket_of(hash, sum);
    for (uint32_t i = 0; i < KV_HASH_WAYS; i++) {
        if (!same_tag(bucket[i], tag)) continue;
        uint8_t era = (uint8_t)bucket[i];
        if (era != 0 && (era == hash->hidden || hash->dead[era])) return 0;
        return (bucket[i] >> OFFSET_SHIFT) << 3;
    }
    return 0;
}

void kv_hash_put(kv_hash *hash, uint32_t table, kv_key key, uint64_t record, uint8_t era) {
    if (hash->buckets == 0) return;
    uint64_t sum = kv_xxh64(key.data, key.length, hash->seed + table), tag = tag_of(sum);
    uint64_t *bucket = bucket_of(hash, sum);
    uint32_t at = (uint32_t)(sum >> 32) % KV_HASH_WAYS; /* in a full bucket: any */
    for (uint32_t i = 0; i < KV_HASH_WAYS; i++) { /* one entry a tag: what is dropped by tag is gone */
        if (same_tag(bucket[i], tag)) {
            at = i;
            break;
        }
        if (bucket[i] == 0 && bucket[at] != 0) at = i;
    }
    bucket[at] = record < OFFSET_LIMIT && record % 8 == 0 ? (record >> 3) << OFFSET_SHIFT | tag | era : 0;
}

void kv_hash_drop(kv_hash *hash, uint32_t table, kv_key key) {
    if (hash->buckets == 0) return;
    uint64_t sum = kv_xxh64(key.data, key.length, hash->seed + table), tag = tag_of(sum);
    uint64_t *bucket = bucket_of(hash, sum);
    for (uint32_t i = 0; i < KV_HASH_WAYS; i++)
        if (same_tag(bucket[i], tag)) bucket[i] = 0;
}

uint8_t kv_hash_begin_era(kv_hash *hash) {
    if (hash->hidden != 0 || hash->buckets == 0) return 0;
    for (uint32_t tries = 0; tries < 255; tries++) {
        hash->last_era = (uint8_t)(hash->last_era % 255 + 1);
        if (hash->dead[hash->last_era]) continue;
        hash->committed = false;
        return hash->hidden = hash->last_era;
    }
    kv_hash_clear(hash); /* every era is dead */
    hash->committed = false;
    return hash->hidden = hash->last_era;
}

void kv_hash_commit_era(kv_hash *hash, bool published) {
    hash->committed = true;
    if (published) kv_hash_published(hash);
}

void kv_hash_abandon_era(kv_hash *hash) {
    hash->dead[hash->hidden] = true;
    hash->hidden = 0;
}

void kv_hash_published(kv_hash *hash) {
    if (hash->committed) hash->hidden = 0;
}
