/* One node of the tree: its layout, and what can be done inside it.
 *
 * A header, an array of slots in key order, free space, and a heap that grows down from the end. All keys of a node share a
 * prefix, which is stored once at the node's end: it is what the separators on both sides of the node share, so every
 * key that may ever belong here begins with it. A slot carries the first four bytes of the rest of its key, and most
 * searches touch nothing else. The header repeats sixteen of them, evenly spread: a search begins with two cache lines that are
 * fetched together and goes on in one more, where a binary search over all slots would wait for one line after the other. Where these
 * bytes are the same in all slots, as at the edges of a tree, which have no separator on one side, and in its root, what the keys
 * happen to share is left out of them (`skip`); a key that comes later may have to put it back. */
#ifndef KV_NODE_H
#define KV_NODE_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "nodes.h"

typedef struct kv_key {
    const uint8_t *data;
    uint32_t length;
} kv_key;

/* Where a value lies in the file. */
typedef struct kv_place {
    uint64_t offset;
    uint32_t length;
    uint32_t sum;
} kv_place;

/* Where the record of that value begins. */
static inline uint64_t kv_record_offset(const kv_place *place, kv_key key) {
    return place->offset - key.length - KV_RECORD_HEADER_BYTES;
}

typedef struct kv_slot {
    uint32_t head;   /* four bytes of the suffix behind the `skip` first ones, big-endian, zeros behind a shorter one */
    uint16_t offset; /* of the entry in the node: payload, then suffix */
    uint16_t length; /* of the suffix */
} kv_slot;

/* A leaf's payload is a kv_place; that of an inner node the page of the child that holds the keys >= the slot's. */
typedef struct kv_node {
    uint8_t level; /* 0: leaf */
    uint8_t used;  /* in memory: since the clock's hand last came by */
    uint16_t count;
    uint16_t heap;   /* offset of the lowest byte of the heap */
    uint16_t dead;   /* bytes of the heap that are no longer used */
    uint16_t prefix; /* length */
    uint8_t skip;    /* bytes that all suffixes begin with and heads leave out; 0 without slots */
    uint8_t learned; /* in memory: the hash that has its keys (kv_hash.number) */
    uint32_t first; /* inner: the child that holds the keys below slot 0's */
    uint32_t page;  /* its own; 0: no node */
    uint32_t frame; /* in memory: where */
    uint64_t sum;   /* on disk */
    uint32_t hints[16]; /* [i]: head of slot (i + 1) * (count / 17); not used below 17 slots */
    kv_slot slots[];
} kv_node;

#define KV_HEIGHT_MAX 16u
#define KV_NODE_HINTS 16u
#define KV_NODE_HEADER_BYTES 96u
#define KV_SLOT_OFFSET(index) (KV_NODE_HEADER_BYTES + (index) * (uint32_t)sizeof(kv_slot)) /* in the node */
static_assert(sizeof(kv_node) == KV_NODE_HEADER_BYTES && sizeof(kv_slot) == 8 && sizeof(kv_place) == 16, "layout");
static_assert(offsetof(kv_node, level) == KV_PG_LEVEL && offsetof(kv_node, skip) == KV_PG_SKIP &&
                  offsetof(kv_node, page) == KV_PG_PAGE && offsetof(kv_node, frame) == KV_PG_FRAME && offsetof(kv_node, sum) == KV_PG_SUM,
              "FORMAT.md");

/* The smallest entry of an inner node takes a slot and a child. */
#define KV_NODE_SLOTS_MAX ((KV_NODE_BYTES - KV_NODE_HEADER_BYTES) / (sizeof(kv_slot) + 4) + 1)
#define KV_PAYLOAD_MAX 16u

/* The node of a page that kv_nodes_holds, if it is in memory; else NULL. */
static inline kv_node *kv_node_in_memory(const kv_nodes *nodes, uint32_t page) {
    return (kv_node *)(void *)kv_pages_of(nodes, page)->bytes[kv_page_index(nodes, page)];
}
/* The node of a page that kv_nodes_holds, read if need be; NULL when that fails, for the reason in nodes->failure. */
static inline kv_node *kv_node_get(kv_nodes *nodes, uint32_t page) {
    kv_node *node = kv_node_in_memory(nodes, page);
    if (__builtin_expect(node == NULL, 0)) node = (kv_node *)(void *)kv_nodes_load(nodes, page);
    if (node != NULL) node->used = 1;
    return node;
}
/* Have these bytes of a node come from memory, all at once: what uses them would take them one after the other. */
static inline void kv_node_fetch(const kv_node *node, uint32_t from, uint32_t to) {
    uint64_t any = *((const uint8_t *)node + to - 1);
    for (uint32_t at = from; at < to; at += 64) any |= *((const uint8_t *)node + at);
    __asm__ volatile("" : : "r"(any)); /* it counts as used; WebAssembly has no prefetch */
}
#define KV_NODE_SLOTS_BYTES 640u /* header and slots of most small leaves; what more there is costs less when it is needed */
/* One that is known to be in memory: its path was just walked, or it was just made. */
static inline kv_node *kv_node_here(const kv_nodes *nodes, uint32_t page) {
    kv_node *node = kv_node_in_memory(nodes, page);
    assert(node != NULL);
    return node;
}
/* Before a node is changed. */
void kv_node_change(kv_nodes *nodes, kv_node *node);
/* Whether what was read can be used without looking beyond its bounds. */
bool kv_node_is_sound(const kv_nodes *nodes, const kv_node *node);

static inline uint32_t kv_payload_bytes(const kv_node *node) {
    return node->level == 0 ? (uint32_t)sizeof(kv_place) : (uint32_t)sizeof(uint32_t);
}
static inline uint8_t *kv_payload(const kv_node *node, uint32_t index) {
    return (uint8_t *)node + node->slots[index].offset;
}
/* Of a leaf. */
static inline kv_place kv_node_place(const kv_node *leaf, uint32_t index) {
    kv_place place;
    memcpy(&place, kv_payload(leaf, index), sizeof place);
    return place;
}
static inline const uint8_t *kv_suffix(const kv_node *node, uint32_t index) {
    return kv_payload(node, index) + kv_payload_bytes(node);
}
static inline const uint8_t *kv_prefix(const kv_node *node) {
    return (const uint8_t *)node + KV_NODE_BYTES - node->prefix;
}

/* Empty the node, for keys in [low, high); a fence with data == NULL is open. */
void kv_node_begin(kv_node *node, uint32_t level, kv_key low, kv_key high);
/* Index of the first slot whose key is >= `key`, which is not shorter than the node's prefix. */
uint32_t kv_node_search(const kv_node *node, kv_key key, bool *equal);
/* Where that search goes on after the node's header: the slots [from, to], where `to` may be the count. */
typedef struct kv_slots {
    uint32_t from, to;
} kv_slots;
kv_slots kv_node_near(const kv_node *node, kv_key key);
/* What it finds by the slots alone: that index, or one of the same first bytes before it. */
uint32_t kv_node_first_at_least(const kv_node *node, kv_key key);
/* Whether `key`, any key, is below that of a slot. */
bool kv_node_is_below(const kv_node *node, kv_key key, uint32_t index);
/* Put an entry at `index`: false when it does not fit. `suffix` is the key behind the prefix. */
bool kv_node_insert(kv_node *node, uint32_t index, kv_key suffix, const void *payload);
typedef struct kv_insert {
    uint32_t index; /* among the slots as they are before */
    kv_key suffix;
    const void *payload;
} kv_insert;
/* Many at once, in key order, for which there is room; each slot is moved once. */
void kv_node_insert_many(kv_node *node, const kv_insert *inserts, uint32_t count);
/* Whether so many entries fit, whose suffixes take so many bytes. */
bool kv_node_has_room(const kv_node *node, uint32_t count, uint32_t suffix_bytes);
void kv_node_remove(kv_node *node, uint32_t index, uint32_t count);
/* Bytes in use: header, slots, prefix and live entries. */
uint32_t kv_node_used(const kv_node *node);
/* The whole key of a slot into `to` (KV_KEY_MAX bytes). */
kv_key kv_node_key(const kv_node *node, uint32_t index, uint8_t *to);

/* Child number `index` of count + 1. */
uint32_t kv_node_child(const kv_node *node, uint32_t index);
void kv_node_set_child(kv_node *node, uint32_t index, uint32_t child);
/* Number of the child that holds `key`. */
static inline uint32_t kv_node_child_index(const kv_node *node, kv_key key) {
    bool equal;
    uint32_t index = kv_node_search(node, key, &equal);
    return index + (equal ? 1 : 0);
}

/* The eight bytes from `skip` on as a number that is ordered as they are; zeros behind a shorter key. */
static inline uint64_t kv_word(kv_key key, uint32_t skip) {
    if (key.length < skip) return 0; /* only in a damaged node */
    const uint8_t *from = key.data + skip;
    uint32_t length = key.length - skip;
    if (length >= 8) return __builtin_bswap64(kv_load64(from));
    uint64_t word = 0;
    for (uint32_t i = 0; i < length; i++) word |= (uint64_t)from[i] << (56 - 8 * i);
    return word;
}

uint32_t kv_common_prefix(kv_key a, kv_key b);
int kv_compare(kv_key a, kv_key b);

#endif
