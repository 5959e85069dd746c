#include "nodes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES (KV_NODES_PER_CHUNK * KV_NODE_BYTES)

kv_status kv_nodes_init(kv_nodes *nodes) {
    memset(nodes, 0, sizeof *nodes);
    nodes->epoch = 1;
    nodes->oldest_pin = UINT64_MAX;
    return kv_nodes_reserve(nodes, 8);
}

void kv_nodes_destroy(kv_nodes *nodes) {
    for (uint32_t i = 0; i < KV_CHUNKS_MAX && nodes->chunks[i] != NULL; i++) free(nodes->chunks[i]);
    free(nodes->made);
    free(nodes->free);
    free(nodes->retired);
    memset(nodes, 0, sizeof *nodes);
}

/* Free what no pin can see any more. */
static void reclaim(kv_nodes *nodes) {
    uint32_t mask = nodes->retired_capacity - 1;
    while (nodes->retired_first < nodes->retired_end) {
        const kv_retired *entry = &nodes->retired[nodes->retired_first & mask];
        if (entry->epoch > nodes->oldest_pin) return;
        nodes->made[entry->node] = 0;
        nodes->free[nodes->free_count++] = entry->node;
        nodes->in_use--;
        nodes->retired_first++;
    }
}

static kv_status add_chunk(kv_nodes *nodes) {
    uint32_t chunk = nodes->capacity / KV_NODES_PER_CHUNK;
    if (chunk >= KV_CHUNKS_MAX) return KV_NO_MEMORY;
    uint32_t capacity = nodes->capacity + KV_NODES_PER_CHUNK;
    if (capacity > nodes->made_capacity) {
        uint32_t wanted = nodes->made_capacity == 0 ? KV_NODES_PER_CHUNK : 2 * nodes->made_capacity;
        uint64_t *made = realloc(nodes->made, wanted * sizeof *made);
        if (made == NULL) return KV_NO_MEMORY;
        nodes->made = made;
        uint32_t *free_nodes = realloc(nodes->free, wanted * sizeof *free_nodes);
        if (free_nodes == NULL) return KV_NO_MEMORY;
        nodes->free = free_nodes;
        nodes->made_capacity = nodes->free_capacity = wanted;
    }
    uint8_t *bytes = malloc(CHUNK_BYTES);
    if (bytes == NULL) return KV_NO_MEMORY;
    nodes->chunks[chunk] = bytes;
    for (uint32_t node = capacity - 1; node >= nodes->capacity && node > 0; node--) {
        nodes->made[node] = 0;
        nodes->free[nodes->free_count++] = node;
    }
    nodes->capacity = capacity;
    return KV_OK;
}

kv_status kv_nodes_reserve_retired(kv_nodes *nodes, uint32_t count) {
    uint64_t held = nodes->retired_end - nodes->retired_first;
    if (held + count <= nodes->retired_capacity) return KV_OK;
    uint32_t capacity = nodes->retired_capacity == 0 ? 1024 : nodes->retired_capacity;
    while (held + count > capacity) {
        if (capacity > UINT32_MAX / 4 / sizeof(kv_retired)) return KV_NO_MEMORY;
        capacity *= 2;
    }
    kv_retired *grown = malloc(capacity * sizeof *grown);
    if (grown == NULL) return KV_NO_MEMORY;
    for (uint64_t i = nodes->retired_first; i < nodes->retired_end; i++)
        grown[i & (capacity - 1)] = nodes->retired[i & (nodes->retired_capacity - 1)];
    free(nodes->retired);
    nodes->retired = grown;
    nodes->retired_capacity = capacity;
    return KV_OK;
}

kv_status kv_nodes_reserve(kv_nodes *nodes, uint32_t count) {
    if (nodes->free_count >= count && nodes->retired_end - nodes->retired_first + count <= nodes->retired_capacity)
        return KV_OK;
    reclaim(nodes);
    while (nodes->free_count < count) {
        kv_status status = add_chunk(nodes);
        if (status != KV_OK) return status;
    }
    return kv_nodes_reserve_retired(nodes, count);
}

uint32_t kv_nodes_take(kv_nodes *nodes) {
    assert(nodes->free_count > 0);
    uint32_t node = nodes->free[--nodes->free_count];
    nodes->made[node] = nodes->epoch;
    nodes->in_use++;
    return node;
}

void kv_nodes_retire(kv_nodes *nodes, uint32_t node) {
    if (kv_node_is_own(nodes, node)) {
        nodes->made[node] = 0;
        nodes->free[nodes->free_count++] = node;
        nodes->in_use--;
        return;
    }
    assert(nodes->retired_end - nodes->retired_first < nodes->retired_capacity);
    kv_retired entry = {.node = node, .epoch = nodes->epoch};
    nodes->retired[nodes->retired_end++ & (nodes->retired_capacity - 1)] = entry;
}

static uint32_t add_pin(kv_nodes *nodes, uint64_t epoch) {
    for (uint32_t pin = 0; pin < KV_PINS_MAX; pin++) {
        if (nodes->pins[pin] != 0) continue;
        nodes->pins[pin] = epoch;
        nodes->pin_count++;
        if (epoch < nodes->oldest_pin) nodes->oldest_pin = epoch;
        return pin;
    }
    return KV_NO_PIN;
}

uint32_t kv_nodes_pin(kv_nodes *nodes) {
    uint32_t pin = add_pin(nodes, nodes->epoch);
    if (pin != KV_NO_PIN) nodes->epoch++;
    return pin;
}

uint32_t kv_nodes_pin_again(kv_nodes *nodes, uint32_t pin) {
    assert(pin < KV_PINS_MAX && nodes->pins[pin] != 0);
    return add_pin(nodes, nodes->pins[pin]);
}

void kv_nodes_unpin(kv_nodes *nodes, uint32_t pin) {
    if (pin == KV_NO_PIN) return;
    assert(pin < KV_PINS_MAX && nodes->pins[pin] != 0);
    uint64_t epoch = nodes->pins[pin];
    nodes->pins[pin] = 0;
    nodes->pin_count--;
    if (epoch != nodes->oldest_pin) return;
    nodes->oldest_pin = UINT64_MAX;
    uint32_t left = nodes->pin_count;
    for (uint32_t i = 0; left > 0; i++) {
        if (nodes->pins[i] == 0) continue;
        left--;
        if (nodes->pins[i] < nodes->oldest_pin) nodes->oldest_pin = nodes->pins[i];
    }
}

void kv_nodes_roll_back(kv_nodes *nodes, uint32_t pin, uint64_t retired_end) {
    uint64_t kept = nodes->pins[pin];
    nodes->retired_end = retired_end;
    for (uint32_t node = 1; node < nodes->capacity; node++) {
        if (nodes->made[node] <= kept) continue;
        nodes->made[node] = 0;
        nodes->free[nodes->free_count++] = node;
        nodes->in_use--;
    }
}
