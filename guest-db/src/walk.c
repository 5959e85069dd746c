/* Moving through one version of the tree in key order. */
#include <string.h>

#include "tree.h"

/* Step to the first slot of the next leaf that has one; `walk` stands behind the last slot of its leaf. */
static void climb_right(kv_walk *walk) {
    kv_step *steps = walk->path.steps;
    for (uint32_t level = 1; level < walk->root.height; level++) {
        const kv_node *node = kv_node_get(walk->nodes, steps[level].node);
        if (steps[level].index >= node->count) continue;
        steps[level].index++;
        uint32_t at = kv_node_child(node, steps[level].index);
        while (level-- > 0) {
            steps[level] = (kv_step){at, 0};
            if (level > 0) at = kv_node_get(walk->nodes, at)->first;
        }
        if (kv_walk_leaf(walk)->count > 0) return;
        level = 0; /* an empty leaf: go on */
    }
    walk->valid = false;
}

static void climb_left(kv_walk *walk) {
    kv_step *steps = walk->path.steps;
    for (uint32_t level = 1; level < walk->root.height; level++) {
        const kv_node *node = kv_node_get(walk->nodes, steps[level].node);
        if (steps[level].index == 0) continue;
        steps[level].index--;
        uint32_t at = kv_node_child(node, steps[level].index);
        while (level-- > 0) {
            const kv_node *below = kv_node_get(walk->nodes, at);
            steps[level] = (kv_step){at, below->count};
            if (level > 0) at = kv_node_child(below, below->count);
        }
        if (kv_walk_leaf(walk)->count > 0) {
            steps[0].index--;
            return;
        }
        level = 0;
    }
    walk->valid = false;
}

/* Descend towards `key`; without one to the outermost leaf on the side of `last`. True when the key is there. */
static bool go_down(kv_walk *walk, kv_key key, bool last) {
    uint32_t at = walk->root.node;
    for (uint32_t level = walk->root.height - 1;; level--) {
        const kv_node *node = kv_node_get(walk->nodes, at);
        bool equal = false;
        uint32_t index = key.data == NULL ? (last ? node->count : 0) : kv_node_search(node, key, &equal);
        if (level == 0) {
            walk->path.steps[0] = (kv_step){at, index};
            return equal;
        }
        if (equal) index++;
        walk->path.steps[level] = (kv_step){at, index};
        at = kv_node_child(node, index);
    }
}

void kv_walk_forward_from(kv_walk *walk, kv_key key, bool after) {
    walk->valid = walk->root.node != 0;
    if (!walk->valid) return;
    bool there = go_down(walk, key, false);
    if (there && after) walk->path.steps[0].index++;
    if (walk->path.steps[0].index >= kv_walk_leaf(walk)->count) climb_right(walk);
}

void kv_walk_backward_from(kv_walk *walk, kv_key key) {
    walk->valid = walk->root.node != 0;
    if (!walk->valid) return;
    go_down(walk, key, true);
    if (walk->path.steps[0].index > 0)
        walk->path.steps[0].index--;
    else
        climb_left(walk);
}

void kv_walk_next(kv_walk *walk) {
    if (++walk->path.steps[0].index >= kv_walk_leaf(walk)->count) climb_right(walk);
}

void kv_walk_previous(kv_walk *walk) {
    if (walk->path.steps[0].index > 0)
        walk->path.steps[0].index--;
    else
        climb_left(walk);
}

kv_place kv_walk_place(const kv_walk *walk) {
    kv_place place;
    memcpy(&place, kv_payload(kv_walk_leaf(walk), kv_walk_slot(walk)), sizeof place);
    return place;
}
