/* The index: an ordered copy-on-write B+-tree from key to the place of its value. */
#ifndef KV_TREE_H
#define KV_TREE_H

#include "node.h"

/* A version of a tree. The empty tree has no node. */
typedef struct kv_root {
    uint32_t node; /* page; 0: none */
    uint32_t height;
    uint64_t count; /* keys */
} kv_root;

/* Could there be such a tree? Settled before its count is believed: a node has 2^9 slots at most. */
static inline bool kv_root_is_sane(const kv_root *root) {
    static_assert(KV_NODE_BYTES / sizeof(kv_slot) <= 512, "slots of a node");
    return root->height < KV_HEIGHT_MAX && (root->node == 0) == (root->height == 0) && (root->node != 0 || root->count == 0) &&
           (root->height > 6 || root->count <= (uint64_t)1 << 9 * root->height);
}

typedef struct kv_step {
    uint32_t node;
    uint32_t index; /* of the slot in a leaf, of the child in an inner node */
} kv_step;

/* The way from the root to a leaf, by level: steps[0] is the leaf. */
typedef struct kv_path {
    kv_step steps[KV_HEIGHT_MAX];
} kv_path;

/* KV_OK, KV_NOT_FOUND, or why a node cannot be read. */
kv_status kv_tree_get(kv_nodes *nodes, const kv_root *root, kv_key key, kv_place *place);

/* Nodes that a put or a delete may need: kv_nodes_reserve them before kv_tree_find. */
static inline uint32_t kv_tree_reserve(const kv_root *root) { return 2 * root->height + 4; }

/* The way to where a key is or would be; KV_OK: it is there, KV_NOT_FOUND. The two calls behind it then cannot fail, provided
 * that nothing else happens to the tree or to kv_nodes_ready in between. */
kv_status kv_tree_find(kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path);
/* The same for a key that comes after all others, and KV_EXISTS for one that does not. KV_AGAIN: it does, but only kv_tree_find, after
 * kv_nodes_reserve, finds the way. */
kv_status kv_tree_find_last(kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path);
/* The same as kv_tree_find from where the path leads: to a key that is not above this one, in the same version of the tree. */
kv_status kv_tree_find_next(kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path);
/* Only the leaf, untouched, and only if the way to it is in memory; else NULL. All nodes of the path have to be; the `first`
 * time it leads nowhere yet. Its slot in the leaf is not set. */
const kv_node *kv_tree_next_leaf(const kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path, bool first);
/* Set `key`, to which `path` leads, to `place`. With `there` it was at `*old`. */
void kv_tree_put(kv_nodes *nodes, kv_root *root, kv_path *path, kv_key key, bool there, const kv_place *place,
                 kv_place *old);
/* For changes within the leaf to which `path` leads, made by whoever calls, who adds what is new to root->count: the leaf, to be
 * written, of a tree that has one. */
kv_node *kv_tree_own_leaf(kv_nodes *nodes, kv_root *root, kv_path *path);
/* Whether a key not below that to which `path` leads belongs to the same leaf. All nodes of the path above it are in memory. */
bool kv_tree_is_on_leaf(const kv_nodes *nodes, const kv_root *root, const kv_path *path, kv_key key);
#define KV_MERGE_BELOW (KV_NODE_BYTES / 4) /* a node with less in use looks for a sibling */
/* Remove the key that `path` leads to and those behind it, `count` of its leaf in all. True: the leaf is where it was, and `path` leads
 * to what came behind them. */
bool kv_tree_delete(kv_nodes *nodes, kv_root *root, kv_path *path, uint32_t count);
/* Of the key that `path` leads to. */
static inline kv_place kv_tree_place(const kv_nodes *nodes, const kv_path *path) {
    return kv_node_place(kv_node_here(nodes, path->steps[0].node), path->steps[0].index);
}

/* Give up the first leaf of a tree that has no keys; after kv_nodes_reserve. Leaves between full ones may have been left empty. */
kv_status kv_tree_free_first_leaf(kv_nodes *nodes, kv_root *root);

/* A position between or at keys of one version, which must stay unchanged while it is used. */
typedef struct kv_walk {
    kv_nodes *nodes;
    kv_root root;
    kv_path path;
    bool valid; /* at a key */
} kv_walk;

/* Each may evict nodes, and fails where one cannot be read. */
/* Go to the first key >= `key` (> `key` with `after`); to the first of all with key.data == NULL. */
kv_status kv_walk_forward_from(kv_walk *walk, kv_key key, bool after);
/* Go to the last key < `key`; to the last of all with key.data == NULL. */
kv_status kv_walk_backward_from(kv_walk *walk, kv_key key);
kv_status kv_walk_next(kv_walk *walk);
kv_status kv_walk_previous(kv_walk *walk);
/* What stands where a valid walk is. */
static inline const kv_node *kv_walk_leaf(const kv_walk *walk) {
    return kv_node_here(walk->nodes, walk->path.steps[0].node);
}
static inline uint32_t kv_walk_slot(const kv_walk *walk) { return walk->path.steps[0].index; }
kv_place kv_walk_place(const kv_walk *walk);
static inline kv_key kv_walk_key(const kv_walk *walk, uint8_t *to) {
    return kv_node_key(kv_walk_leaf(walk), kv_walk_slot(walk), to);
}

#endif
