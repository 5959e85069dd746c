/* The index: an ordered copy-on-write B+-tree from key to the place of its value. */
#ifndef KV_TREE_H
#define KV_TREE_H

#include "node.h"

#define KV_HEIGHT_MAX 16u

/* A version of the tree. The empty tree has no node. */
typedef struct kv_root {
    uint32_t node; /* 0: none */
    uint32_t height;
    uint64_t count;      /* keys */
    uint64_t live_bytes;  /* of the log's records that it refers to; kept by the caller, */
    uint64_t large_bytes; /* and of the large values outside the log */
} kv_root;

typedef struct kv_step {
    uint32_t node;
    uint32_t index; /* of the slot in a leaf, of the child in an inner node */
} kv_step;

/* The way from the root to a leaf, by level: steps[0] is the leaf. */
typedef struct kv_path {
    kv_step steps[KV_HEIGHT_MAX];
} kv_path;

bool kv_tree_get(const kv_nodes *nodes, const kv_root *root, kv_key key, kv_place *place);

/* Nodes that a put or a delete may need: to be reserved before it, so that neither can fail. */
static inline uint32_t kv_tree_reserve(const kv_root *root) { return 2 * root->height + 4; }

/* Set `key` to `place`. True: it was there, at `*old`. */
bool kv_tree_put(kv_nodes *nodes, kv_root *root, kv_key key, const kv_place *place, kv_place *old);
/* Remove `key`. True: it was there, at `*old`. */
bool kv_tree_delete(kv_nodes *nodes, kv_root *root, kv_key key, kv_place *old);
/* Retire every node of the tree and leave it empty; kv_nodes_reserve_retired(in_use) comes before. */
void kv_tree_clear(kv_nodes *nodes, kv_root *root);

/* A position between or at keys of one version, which must stay unchanged while it is used. */
typedef struct kv_walk {
    const kv_nodes *nodes;
    kv_root root;
    kv_path path;
    bool valid; /* at a key */
} kv_walk;

/* Go to the first key >= `key` (> `key` with `after`); to the first of all with key.data == NULL. */
void kv_walk_forward_from(kv_walk *walk, kv_key key, bool after);
/* Go to the last key < `key`; to the last of all with key.data == NULL. */
void kv_walk_backward_from(kv_walk *walk, kv_key key);
void kv_walk_next(kv_walk *walk);
void kv_walk_previous(kv_walk *walk);
static inline const kv_node *kv_walk_leaf(const kv_walk *walk) {
    return kv_node_get(walk->nodes, walk->path.steps[0].node);
}
static inline uint32_t kv_walk_slot(const kv_walk *walk) { return walk->path.steps[0].index; }
kv_place kv_walk_place(const kv_walk *walk);

#endif
