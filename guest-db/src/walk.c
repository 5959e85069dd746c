/* Moving through one version of the tree in key order. */
#include <string.h>

#include "tree.h"

static kv_status damaged(kv_walk *walk, uint32_t page) {
    walk->valid = false;
    return kv_nodes_fail(walk->nodes, page);
}

/* Go down from the node of `level` to the leaf at its outermost side; `at` is the child to begin with. */
static kv_status go_to_edge(kv_walk *walk, uint32_t level, uint32_t at, bool last) {
    while (level-- > 0) {
        const kv_node *node = kv_node_get(walk->nodes, at);
        if (node == NULL) {
            walk->valid = false;
            return walk->nodes->failure;
        }
        if (node->level != level) return damaged(walk, at);
        uint32_t index = last ? node->count : 0;
        walk->path.steps[level] = (kv_step){at, index};
        if (level > 0) at = kv_node_child(node, index);
    }
    return KV_OK;
}

/* The path's nodes are in memory again, whatever was evicted, and stay there until the next such call. */
static kv_status refresh(kv_walk *walk) {
    kv_status status = kv_nodes_ready(walk->nodes, 2 * KV_HEIGHT_MAX);
    for (uint32_t level = 0; level < walk->root.height && status == KV_OK; level++)
        if (kv_node_get(walk->nodes, walk->path.steps[level].node) == NULL) status = walk->nodes->failure;
    if (status != KV_OK) walk->valid = false;
    return status;
}

/* Step to the first slot of the next leaf that has one; `walk` stands behind the last slot of its leaf. */
static kv_status climb_right(kv_walk *walk) {
    kv_status status = refresh(walk);
    kv_step *steps = walk->path.steps;
    for (uint32_t level = 1; status == KV_OK && level < walk->root.height; level++) {
        const kv_node *node = kv_node_here(walk->nodes, steps[level].node);
        if (steps[level].index >= node->count) continue;
        steps[level].index++;
        status = go_to_edge(walk, level, kv_node_child(node, steps[level].index), false);
        if (status != KV_OK) return status;
        if (kv_walk_leaf(walk)->count > 0) return KV_OK;
        status = refresh(walk);
        level = 0; /* an empty leaf: go on */
    }
    walk->valid = false;
    return status;
}

static kv_status climb_left(kv_walk *walk) {
    kv_status status = refresh(walk);
    kv_step *steps = walk->path.steps;
    for (uint32_t level = 1; status == KV_OK && level < walk->root.height; level++) {
        const kv_node *node = kv_node_here(walk->nodes, steps[level].node);
        if (steps[level].index == 0) continue;
        steps[level].index--;
        status = go_to_edge(walk, level, kv_node_child(node, steps[level].index), true);
        if (status != KV_OK) return status;
        if (kv_walk_leaf(walk)->count > 0) {
            steps[0].index--;
            return KV_OK;
        }
        status = refresh(walk);
        level = 0;
    }
    walk->valid = false;
    return status;
}

/* Descend towards `key`; without one to the outermost leaf on the side of `last`. `*there`: the key is there. */
static kv_status go_down(kv_walk *walk, kv_key key, bool last, bool *there) {
    *there = false;
    walk->valid = walk->root.node != 0;
    if (!walk->valid) return KV_NOT_FOUND;
    kv_status status = kv_nodes_ready(walk->nodes, 2 * KV_HEIGHT_MAX);
    if (status == KV_OK && key.data == NULL) return go_to_edge(walk, walk->root.height, walk->root.node, last);
    uint32_t at = walk->root.node;
    for (uint32_t level = walk->root.height; status == KV_OK && level-- > 0;) {
        const kv_node *node = kv_node_get(walk->nodes, at);
        if (node == NULL) {
            status = walk->nodes->failure;
            break;
        }
        if (node->level != level || key.length < node->prefix) return damaged(walk, at);
        bool equal;
        uint32_t index = kv_node_search(node, key, &equal);
        *there = equal;
        if (level > 0) index += equal;
        walk->path.steps[level] = (kv_step){at, index};
        if (level > 0) at = kv_node_child(node, index);
    }
    if (status != KV_OK) walk->valid = false;
    return status;
}

kv_status kv_walk_forward_from(kv_walk *walk, kv_key key, bool after) {
    bool there;
    kv_status status = go_down(walk, key, false, &there);
    if (status != KV_OK) return status == KV_NOT_FOUND ? KV_OK : status;
    if (there && after) walk->path.steps[0].index++;
    return walk->path.steps[0].index >= kv_walk_leaf(walk)->count ? climb_right(walk) : KV_OK;
}

kv_status kv_walk_backward_from(kv_walk *walk, kv_key key) {
    bool there;
    kv_status status = go_down(walk, key, true, &there);
    if (status != KV_OK) return status == KV_NOT_FOUND ? KV_OK : status;
    return kv_walk_previous(walk);
}

kv_status kv_tree_find_last(kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path) {
    if (root->node == 0) return KV_NOT_FOUND;
    uint32_t at = root->node;
    for (uint32_t level = root->height - 1;; level--) {
        const kv_node *node = kv_node_get(nodes, at);
        if (node == NULL) return nodes->failure;
        if (node->level != level) return kv_nodes_fail(nodes, at);
        path->steps[level] = (kv_step){at, node->count};
        if (level == 0) {
            if (node->count == 0 || node->prefix != 0) break;
            kv_key last = {kv_suffix(node, node->count - 1u), node->slots[node->count - 1u].length};
            return kv_compare(last, key) < 0 ? KV_NOT_FOUND : KV_EXISTS;
        }
        at = kv_node_child(node, node->count);
    }
    kv_walk walk = {.nodes = nodes, .root = *root}; /* the outermost leaf may be empty, and others before it */
    kv_status status = kv_walk_forward_from(&walk, key, false);
    if (status != KV_OK) return status;
    return walk.valid ? KV_EXISTS : KV_AGAIN;
}

kv_status kv_walk_next(kv_walk *walk) {
    return ++walk->path.steps[0].index >= kv_walk_leaf(walk)->count ? climb_right(walk) : KV_OK;
}

kv_status kv_walk_previous(kv_walk *walk) {
    if (walk->path.steps[0].index == 0) return climb_left(walk);
    walk->path.steps[0].index--;
    return KV_OK;
}

kv_place kv_walk_place(const kv_walk *walk) { return kv_node_place(kv_walk_leaf(walk), kv_walk_slot(walk)); }
