/* XXH64, as specified in the xxHash fast digest algorithm, version 0.1.1 (public specification, section XXH64). */
#ifndef KV_CHECKSUM_H
#define KV_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

typedef struct kv_xxh64_state {
    uint64_t lanes[4];
    uint64_t seed;
    uint64_t total;      /* bytes seen */
    uint8_t pending[32]; /* the last total % 32 of them */
} kv_xxh64_state;

uint64_t kv_xxh64(const void *data, size_t length, uint64_t seed);

void kv_xxh64_begin(kv_xxh64_state *state, uint64_t seed);
void kv_xxh64_add(kv_xxh64_state *state, const void *data, size_t length);
uint64_t kv_xxh64_end(const kv_xxh64_state *state);

/* The checksum of a value: the low 32 bits of its XXH64 with seed 0. */
static inline uint32_t kv_value_sum(const void *value, size_t length) {
    return (uint32_t)kv_xxh64(value, length, 0);
}

#endif
