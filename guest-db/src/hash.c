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

static void renumber(kv_hash *hash) {
    if (++hash->number == 0) hash->number = 1;
}

void kv_hash_clear(kv_hash *hash) {
    renumber(hash);
    if (hash->buckets > 0) memset(hash->entries, 0, hash->buckets * BUCKET_BYTES);
    memset(hash->dead, 0, sizeof hash->dead);
}

/* Zeros, in memory that is not touched where it is new: a WebAssembly module's is zero until it writes there, which calloc does not
 * know. Else the first read of a large database would wait for all of it. */
static void *zeros(size_t bytes) {
#ifdef __wasm__
    uintptr_t end = __builtin_wasm_memory_size(0) << 16;
    uint8_t *block = malloc(bytes);
    if (block != NULL && (uintptr_t)block < end) memset(block, 0, end - (uintptr_t)block < bytes ? end - (uintptr_t)block : bytes);
    return block;
#else
    return calloc(1, bytes);
#endif
}

void kv_hash_fit(kv_hash *hash, uint64_t keys) {
    uint64_t entries = (uint64_t)hash->buckets * KV_HASH_WAYS, bytes = KV_HASH_BYTES_MIN;
    if (keys * 2 <= entries || (entries + 8 * KV_HASH_WAYS) * sizeof(uint64_t) >= KV_HASH_BYTES_MAX) return;
    while (bytes < keys * 2 * sizeof(uint64_t) && bytes < KV_HASH_BYTES_MAX) bytes *= 8;
    if (bytes > KV_HASH_BYTES_MAX) bytes = KV_HASH_BYTES_MAX;
    bytes -= 2 * BUCKET_BYTES; /* with malloc's header still below the power of two to which some round up */
    void *block = zeros((size_t)bytes);
    if (block == NULL) return; /* the smaller one goes on serving */
    free(hash->block);
    hash->block = block;
    hash->entries = (uint64_t *)(((uintptr_t)block + BUCKET_BYTES - 1) & ~(uintptr_t)(BUCKET_BYTES - 1));
    hash->buckets = (uint32_t)(bytes / BUCKET_BYTES - 1);
    renumber(hash);
    memset(hash->dead, 0, sizeof hash->dead);
}

static inline uint64_t *bucket_of(const kv_hash *hash, uint64_t sum) {
    return hash->entries + ((sum & UINT32_MAX) * hash->buckets >> 32) * KV_HASH_WAYS;
}
#define TAG_MASK ((((uint64_t)1 << TAG_BITS) - 1) << ERA_BITS)
/* Never 0, so that an empty place matches none. */
static inline uint64_t tag_of(uint64_t sum) {
    uint64_t tag = (sum >> (64 - TAG_BITS)) << ERA_BITS;
    return tag != 0 ? tag : (uint64_t)1 << ERA_BITS;
}
/* The ways of a bucket, a bit each, that have `wanted` under `mask`. Without a branch on what is read: the processor goes on
 * to the next key while it waits for the bucket. */
static inline uint32_t ways(const uint64_t *bucket, uint64_t mask, uint64_t wanted) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < KV_HASH_WAYS; i++) found |= (uint32_t)((bucket[i] & mask) == wanted) << i;
    return found;
}
static inline uint32_t first_of(uint32_t found) { return (uint32_t)__builtin_ctz(found); }

uint64_t kv_hash_sum(const kv_hash *hash, uint32_t table, kv_key key) {
    return kv_xxh64(key.data, key.length, hash->seed + table);
}

uint64_t kv_hash_find(const kv_hash *hash, uint32_t table, kv_key key) {
    if (hash->buckets == 0) return 0;
    uint64_t sum = kv_hash_sum(hash, table, key), tag = tag_of(sum);
    const uint64_t *bucket = bucket_of(hash, sum);
    uint32_t found = ways(bucket, TAG_MASK, tag);
    if (found == 0) return 0;
    uint64_t entry = bucket[first_of(found)];
    uint8_t era = (uint8_t)entry;
    return era != 0 && (era == hash->hidden || hash->dead[era]) ? 0 : (entry >> OFFSET_SHIFT) << 3;
}

static inline void put(const kv_hash *hash, uint64_t sum, uint64_t record, uint8_t era) {
    uint64_t tag = tag_of(sum), *bucket = bucket_of(hash, sum);
    uint32_t same = ways(bucket, TAG_MASK, tag), empty = ways(bucket, UINT64_MAX, 0);
    uint32_t at = (uint32_t)(sum >> 32) % KV_HASH_WAYS; /* in a full bucket: any */
    if (empty != 0) at = first_of(empty);
    if (same != 0) at = first_of(same); /* one entry a tag: what is dropped by tag is gone */
    bucket[at] = record < OFFSET_LIMIT && record % 8 == 0 ? (record >> 3) << OFFSET_SHIFT | tag | era : 0;
}

void kv_hash_put(kv_hash *hash, uint32_t table, kv_key key, uint64_t record, uint8_t era) {
    if (hash->buckets > 0) put(hash, kv_hash_sum(hash, table, key), record, era);
}

void kv_hash_put_many(kv_hash *hash, const kv_hash_entry *entries, uint32_t count, uint8_t era) {
    if (hash->buckets == 0) return;
    uint64_t any = 0; /* the processor waits for many of these loads at once */
    for (uint32_t i = 0; i < count; i++) any |= *bucket_of(hash, entries[i].sum);
    __asm__ volatile("" : : "r"(any)); /* it counts as used */
    for (uint32_t i = 0; i < count; i++) put(hash, entries[i].sum, entries[i].record, era);
}

void kv_hash_drop(kv_hash *hash, uint32_t table, kv_key key) {
    if (hash->buckets == 0) return;
    uint64_t sum = kv_hash_sum(hash, table, key);
    uint64_t *bucket = bucket_of(hash, sum);
    uint32_t found = ways(bucket, TAG_MASK, tag_of(sum));
    if (found != 0) bucket[first_of(found)] = 0;
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
