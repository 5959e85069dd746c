/* The node pool: numbered nodes of 4096 bytes, which versions of the tree share.
 *
 * A tree is copy-on-write: a node is changed in place only when nobody but the writer can reach it. `epoch` is the
 * version that the writer works on; a pin keeps all nodes of its version alive. A node that was made in the current epoch
 * is the writer's own; taking a pin begins a new epoch. */
#ifndef KV_NODES_H
#define KV_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "kv_guest.h"

#define KV_NODE_BYTES 4096u
#define KV_NODES_PER_CHUNK 256u
#define KV_CHUNKS_MAX 3072u /* 3 GiB of nodes */
#define KV_PINS_MAX (KV_CURSORS_MAX + 8u)
#define KV_NO_PIN UINT32_MAX

typedef struct kv_retired {
    uint32_t node;
    uint64_t epoch; /* in which it was replaced: pins of this epoch and later do not see it */
} kv_retired;

typedef struct kv_nodes {
    uint8_t *chunks[KV_CHUNKS_MAX];
    uint64_t *made; /* epoch in which each node was made; 0 when it is free */
    uint32_t made_capacity;
    uint32_t capacity; /* nodes in chunks; node 0 is never given out */
    uint32_t in_use;   /* given out and not free, retired ones included */
    uint32_t *free;    /* stack of free nodes */
    uint32_t free_count, free_capacity;
    uint64_t epoch;
    kv_retired *retired; /* queue, in order of epoch: [retired_first, retired_end) modulo capacity */
    uint64_t retired_first, retired_end;
    uint32_t retired_capacity; /* a power of two */
    uint64_t pins[KV_PINS_MAX]; /* epoch, or 0: not in use */
    uint32_t pin_count;
    uint64_t oldest_pin; /* UINT64_MAX without pins */
} kv_nodes;

kv_status kv_nodes_init(kv_nodes *nodes);
void kv_nodes_destroy(kv_nodes *nodes);

/* Make sure that `count` nodes can be taken and as many retired without asking for memory. */
kv_status kv_nodes_reserve(kv_nodes *nodes, uint32_t count);
/* Room for `count` retirements alone. */
kv_status kv_nodes_reserve_retired(kv_nodes *nodes, uint32_t count);
uint32_t kv_nodes_take(kv_nodes *nodes); /* after kv_nodes_reserve */
/* The writer's tree no longer refers to the node. */
void kv_nodes_retire(kv_nodes *nodes, uint32_t node);

/* Keep the version that the writer has now, and begin a new epoch. KV_NO_PIN when none is left. */
uint32_t kv_nodes_pin(kv_nodes *nodes);
/* One more pin on the version of `pin`. */
uint32_t kv_nodes_pin_again(kv_nodes *nodes, uint32_t pin);
void kv_nodes_unpin(kv_nodes *nodes, uint32_t pin);
/* Forget every node made and every retirement since `pin` was taken: the version of `pin` is the writer's again. */
void kv_nodes_roll_back(kv_nodes *nodes, uint32_t pin, uint64_t retired_end);

static inline void *kv_node_bytes(const kv_nodes *nodes, uint32_t node) {
    return nodes->chunks[node / KV_NODES_PER_CHUNK] + (node % KV_NODES_PER_CHUNK) * KV_NODE_BYTES;
}

static inline bool kv_node_is_own(const kv_nodes *nodes, uint32_t node) {
    return nodes->made[node] == nodes->epoch;
}

#endif
