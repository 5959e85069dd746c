#include "tree.h"

#include <string.h>

#define MERGE_UP_TO (KV_NODE_BYTES * 3 / 4) /* and joins it when the two together stay below this */

kv_status kv_tree_find(kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path) {
    if (root->node == 0) return KV_NOT_FOUND;
    uint32_t at = root->node;
    for (uint32_t level = root->height - 1;; level--) {
        const kv_node *node = kv_node_get(nodes, at);
        if (node == NULL) return nodes->failure;
        if (node->level != level || key.length < node->prefix) return kv_nodes_fail(nodes, at);
        bool equal;
        uint32_t index = kv_node_search(node, key, &equal);
        if (level > 0) index += equal;
        path->steps[level] = (kv_step){at, index};
        if (level == 0) return equal ? KV_OK : KV_NOT_FOUND;
        at = kv_node_child(node, index);
        const kv_node *leaf = level == 1 ? kv_node_in_memory(nodes, at) : NULL;
        if (leaf != NULL) kv_node_fetch(leaf, 0, KV_NODE_SLOTS_BYTES);
    }
}

/* The level of the lowest node of the path, to a key not above `key`, that `key` belongs to, too. */
static uint32_t shared_level(const kv_nodes *nodes, const kv_root *root, const kv_path *path, kv_key key) {
    uint32_t shared = 0;
    for (uint32_t level = 1; level < root->height; level++) {
        const kv_node *node = kv_node_here(nodes, path->steps[level].node);
        uint32_t index = path->steps[level].index;
        if (index >= node->count) continue; /* its last child ends where it ends itself */
        if (kv_node_is_below(node, key, index)) break;
        shared = level;
    }
    return shared;
}

bool kv_tree_is_on_leaf(const kv_nodes *nodes, const kv_root *root, const kv_path *path, kv_key key) {
    return shared_level(nodes, root, path, key) == 0;
}

/* The slot of `key` in a leaf; that of `index` is not above it. */
static uint32_t search_from(const kv_node *leaf, kv_key key, uint32_t index, bool *equal) {
    if (index + 1 != leaf->count) return kv_node_search(leaf, key, equal);
    kv_key rest = {key.data + leaf->prefix, key.length - leaf->prefix}; /* as when keys are appended */
    *equal = kv_compare((kv_key){kv_suffix(leaf, index), leaf->slots[index].length}, rest) == 0;
    return index + !*equal;
}

kv_status kv_tree_find_next(kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path) {
    for (uint32_t level = 0; level < root->height; level++)
        if (kv_node_get(nodes, path->steps[level].node) == NULL) return nodes->failure; /* it may have been evicted */
    uint32_t level = shared_level(nodes, root, path, key), at = path->steps[level].node, from = path->steps[0].index;
    bool same = level == 0, equal;
    for (;; level--) {
        const kv_node *node = kv_node_get(nodes, at);
        if (node == NULL) return nodes->failure;
        if (node->level != level || key.length < node->prefix) return kv_nodes_fail(nodes, at);
        uint32_t index = same ? search_from(node, key, from, &equal) : kv_node_search(node, key, &equal);
        if (level > 0) index += equal;
        path->steps[level] = (kv_step){at, index};
        if (level == 0) return equal ? KV_OK : KV_NOT_FOUND;
        at = kv_node_child(node, index);
    }
}

const kv_node *kv_tree_next_leaf(const kv_nodes *nodes, const kv_root *root, kv_key key, kv_path *path, bool first) {
    uint32_t level = first ? root->height - 1 : shared_level(nodes, root, path, key);
    uint32_t at = first ? root->node : path->steps[level].node;
    for (;; level--) {
        const kv_node *node = kv_node_in_memory(nodes, at);
        path->steps[level].node = at;
        if (level == 0 || node == NULL) return node;
        if (node->level != level || key.length < node->prefix) return NULL;
        path->steps[level].index = kv_node_child_index(node, key);
        at = kv_node_child(node, path->steps[level].index);
    }
}

kv_status kv_tree_get(kv_nodes *nodes, const kv_root *root, kv_key key, kv_place *place) {
    if (root->node == 0) return KV_NOT_FOUND;
    uint32_t at = root->node;
    for (uint32_t level = root->height - 1;; level--) {
        const kv_node *node = kv_node_get(nodes, at);
        if (__builtin_expect(node == NULL, 0)) return nodes->failure;
        if (__builtin_expect(node->level != level || key.length < node->prefix, 0)) return kv_nodes_fail(nodes, at);
        bool equal;
        uint32_t index = kv_node_search(node, key, &equal);
        if (level == 0) {
            if (equal) *place = kv_node_place(node, index);
            return equal ? KV_OK : KV_NOT_FOUND;
        }
        at = kv_node_child(node, index + equal);
    }
}

/* Make every node of the path the writer's own, copying those that others can reach. */
static void own_path(kv_nodes *nodes, kv_root *root, kv_path *path) {
    if (!kv_node_is_own(nodes, path->steps[0].node)) { /* else all above it are, too */
        for (uint32_t level = root->height; level-- > 0;) {
            kv_step *step = &path->steps[level];
            if (kv_node_is_own(nodes, step->node)) continue;
            step->node = kv_nodes_copy(nodes, step->node);
            if (level + 1 == root->height) {
                root->node = step->node;
            } else {
                const kv_step *above = &path->steps[level + 1];
                kv_node *parent = kv_node_here(nodes, above->node);
                kv_node_change(nodes, parent);
                kv_node_set_child(parent, above->index, step->node);
            }
        }
    }
    kv_node_change(nodes, kv_node_here(nodes, path->steps[0].node));
}

/* The separator left of child `index` of the node at `level`, or of the first ancestor that has one; data NULL: none. */
static kv_key low_fence(const kv_nodes *nodes, const kv_root *root, const kv_path *path, uint32_t level,
                        uint32_t index, uint8_t *buffer) {
    for (; level < root->height; index = path->steps[++level].index) {
        if (index > 0) return kv_node_key(kv_node_here(nodes, path->steps[level].node), index - 1, buffer);
        if (level + 1 == root->height) break;
    }
    return (kv_key){NULL, 0};
}

static kv_key high_fence(const kv_nodes *nodes, const kv_root *root, const kv_path *path, uint32_t level,
                         uint32_t index, uint8_t *buffer) {
    for (; level < root->height; index = path->steps[++level].index) {
        const kv_node *node = kv_node_here(nodes, path->steps[level].node);
        if (index < node->count) return kv_node_key(node, index, buffer);
        if (level + 1 == root->height) break;
    }
    return (kv_key){NULL, 0};
}

/* ---- splitting ---- */

typedef struct split {
    uint8_t source[KV_NODE_BYTES]; /* the node as it was */
    kv_insert entries[KV_NODE_SLOTS_MAX + 1]; /* on their way into a new one; suffixes behind the prefix of `source` */
    uint32_t count;
    uint8_t low[KV_KEY_MAX], high[KV_KEY_MAX], separator[KV_KEY_MAX], full[KV_KEY_MAX];
} split;

static split work; /* one guest, one thread: too large for the stack of a wasm module */

static void gather(split *s, uint32_t index, kv_key suffix, const void *payload) {
    const kv_node *source = (const kv_node *)(const void *)s->source;
    s->count = 0;
    for (uint32_t i = 0; i <= source->count; i++) {
        if (i == index) s->entries[s->count++] = (kv_insert){.suffix = suffix, .payload = payload};
        if (i == source->count) break;
        s->entries[s->count++] =
            (kv_insert){.suffix = {kv_suffix(source, i), source->slots[i].length}, .payload = kv_payload(source, i)};
    }
}

/* How many entries stay on the left: half of the bytes, or nearly all where keys come in order. */
static uint32_t split_point(const split *s, uint32_t index, bool first, bool last) {
    const kv_node *source = (const kv_node *)(const void *)s->source;
    bool inner = source->level > 0;
    if (last && index + 1 == s->count) return inner ? s->count - 2 : s->count - 1;
    if (first && index == 0) return 1;
    uint32_t total = 0, left = 0, n = 0;
    for (uint32_t i = 0; i < s->count; i++) total += s->entries[i].suffix.length + (uint32_t)sizeof(kv_slot) + 16;
    while (n < s->count - 1 && left < total / 2) left += s->entries[n++].suffix.length + (uint32_t)sizeof(kv_slot) + 16;
    if (n == 0) n = 1;
    if (inner && n > s->count - 2) n = s->count - 2;
    return n;
}

/* Append entries [from, to) to a node that was just begun. */
static void append_entries(split *s, kv_node *node, uint32_t from, uint32_t to) {
    const kv_node *source = (const kv_node *)(const void *)s->source;
    if (node->prefix >= source->prefix) { /* fences grew tighter: drop what became prefix */
        uint32_t drop = node->prefix - source->prefix, count = 0, bytes = 0;
        kv_insert *entries = &s->entries[from];
        for (uint32_t i = 0; i < to - from; i++) {
            kv_insert e = entries[i];
            if (e.suffix.length < drop) continue; /* only a damaged node has such a key */
            entries[count++] = (kv_insert){node->count, {e.suffix.data + drop, e.suffix.length - drop}, e.payload};
            bytes += e.suffix.length - drop;
        }
        while (!kv_node_has_room(node, count, bytes)) bytes -= entries[--count].suffix.length; /* as above */
        kv_node_insert_many(node, entries, count);
        return;
    }
    for (uint32_t i = from; i < to; i++) { /* wider: take some of the old prefix back */
        kv_key suffix = s->entries[i].suffix;
        uint32_t back = source->prefix - node->prefix;
        memcpy(s->full, kv_prefix(source) + node->prefix, back);
        memcpy(s->full + back, suffix.data, suffix.length);
        bool fits = kv_node_insert(node, node->count, (kv_key){s->full, back + suffix.length}, s->entries[i].payload);
        assert(fits);
        (void)fits;
    }
}

/* Build s->separator, the shortest key that is above the left part and not above the right. */
static kv_key find_separator(split *s, uint32_t point) {
    const kv_node *source = (const kv_node *)(const void *)s->source;
    kv_key right = s->entries[point].suffix;
    uint32_t length = right.length;
    if (source->level == 0) {
        uint32_t common = kv_common_prefix(s->entries[point - 1].suffix, right);
        if (common < length) length = common + 1;
    }
    memcpy(s->separator, kv_prefix(source), source->prefix);
    memcpy(s->separator + source->prefix, right.data, length);
    return (kv_key){s->separator, source->prefix + length};
}

static void add_root(kv_nodes *nodes, kv_root *root, uint32_t left, kv_key separator, uint32_t right) {
    uint32_t top = kv_nodes_take(nodes);
    kv_node *node = kv_node_here(nodes, top);
    kv_node_begin(node, root->height, (kv_key){NULL, 0}, (kv_key){NULL, 0});
    node->first = left;
    bool fits = kv_node_insert(node, 0, separator, &right);
    assert(fits);
    (void)fits;
    root->node = top;
    root->height++;
}

/* Put an entry at the path's place in `level`, splitting as far up as needed. `key` is a whole key. */
static void insert_at(kv_nodes *nodes, kv_root *root, kv_path *path, kv_key key, const void *payload) {
    uint32_t child = 0;
    for (uint32_t level = 0;; level++) {
        kv_step *step = &path->steps[level];
        kv_node *node = kv_node_here(nodes, step->node);
        kv_node_change(nodes, node);
        if (key.length < node->prefix) return; /* a damaged tree: the key is lost to it */
        kv_key suffix = {key.data + node->prefix, key.length - node->prefix};
        if (kv_node_insert(node, step->index, suffix, payload)) return;

        split *s = &work;
        uint8_t carried[KV_KEY_MAX]; /* the key may lie in s->separator, which is about to be written */
        memcpy(carried, suffix.data, suffix.length);
        memcpy(s->source, node, KV_NODE_BYTES);
        gather(s, step->index, (kv_key){carried, suffix.length}, payload);
        kv_key low = {NULL, 0}, high = {NULL, 0};
        if (level + 1 < root->height) {
            low = low_fence(nodes, root, path, level + 1, path->steps[level + 1].index, s->low);
            high = high_fence(nodes, root, path, level + 1, path->steps[level + 1].index, s->high);
        }
        uint32_t point = split_point(s, step->index, low.data == NULL, high.data == NULL);
        kv_key separator = find_separator(s, point);
        uint32_t right = kv_nodes_take(nodes);
        kv_node *right_node = kv_node_here(nodes, right);
        uint32_t first = ((const kv_node *)(const void *)s->source)->first;
        kv_node_begin(node, level, low, separator);
        kv_node_begin(right_node, level, separator, high);
        right_node->learned = node->learned;
        node->first = first;
        append_entries(s, node, 0, point);
        if (level > 0) { /* the middle key moves up, its child becomes the right node's first */
            memcpy(&right_node->first, s->entries[point].payload, sizeof right_node->first);
            point++;
        }
        append_entries(s, right_node, point, s->count);
        child = right;
        key = separator;
        payload = &child;
        if (level + 1 == root->height) {
            add_root(nodes, root, step->node, separator, right);
            return;
        }
    }
}

kv_node *kv_tree_own_leaf(kv_nodes *nodes, kv_root *root, kv_path *path) {
    own_path(nodes, root, path);
    return kv_node_here(nodes, path->steps[0].node);
}

void kv_tree_put(kv_nodes *nodes, kv_root *root, kv_path *path, kv_key key, bool there, const kv_place *place,
                 kv_place *old) {
    if (root->node == 0) {
        root->node = kv_nodes_take(nodes);
        root->height = 1;
        kv_node_begin(kv_node_here(nodes, root->node), 0, (kv_key){NULL, 0}, (kv_key){NULL, 0});
        path->steps[0] = (kv_step){root->node, 0};
    }
    own_path(nodes, root, path);
    if (there) {
        uint8_t *payload = kv_payload(kv_node_here(nodes, path->steps[0].node), path->steps[0].index);
        memcpy(old, payload, sizeof *old);
        memcpy(payload, place, sizeof *place);
        return;
    }
    if (root->height + 1 >= KV_HEIGHT_MAX) return; /* no tree of sound nodes gets there */
    insert_at(nodes, root, path, key, place);
    root->count++;
}

/* ---- deleting ---- */

/* Join the node at `level` with a sibling when both fit one node. */
static bool join(kv_nodes *nodes, kv_root *root, kv_path *path, uint32_t level, bool with_right) {
    kv_step *up = &path->steps[level + 1];
    kv_node *parent = kv_node_here(nodes, up->node);
    uint32_t left_index = with_right ? up->index : up->index - 1;
    uint32_t mine = path->steps[level].node;
    uint32_t other = kv_node_child(parent, with_right ? left_index + 1 : left_index);
    kv_node *node = kv_node_here(nodes, mine), *sibling = kv_node_get(nodes, other);
    if (sibling == NULL || sibling->level != level || other == mine) return false; /* it can stay as small as it is */
    const kv_node *left = with_right ? node : sibling, *right = with_right ? sibling : node;

    split *s = &work;
    kv_key low = low_fence(nodes, root, path, level + 1, left_index, s->low);
    kv_key high = high_fence(nodes, root, path, level + 1, left_index + 1, s->high);
    kv_key separator = kv_node_key(parent, left_index, s->separator);
    uint32_t prefix = low.data == NULL || high.data == NULL ? 0 : kv_common_prefix(low, high);
    uint32_t grown = kv_node_used(left) + (left->prefix - prefix) * left->count + kv_node_used(right) +
                     (right->prefix - prefix) * right->count + separator.length + (uint32_t)sizeof(kv_slot) + 4;
    if (grown > MERGE_UP_TO) return false;

    static uint8_t joined[KV_NODE_BYTES];
    kv_node *target = (kv_node *)(void *)joined;
    kv_node_begin(target, level, low, high);
    target->first = left->first;
    memcpy(s->source, left, KV_NODE_BYTES);
    gather(s, UINT32_MAX, (kv_key){NULL, 0}, NULL);
    append_entries(s, target, 0, s->count);
    if (level > 0) {
        bool fits = kv_node_insert(target, target->count,
                                   (kv_key){separator.data + prefix, separator.length - prefix}, &right->first);
        assert(fits);
        (void)fits;
    }
    memcpy(s->source, right, KV_NODE_BYTES);
    gather(s, UINT32_MAX, (kv_key){NULL, 0}, NULL);
    append_entries(s, target, 0, s->count);
    target->page = mine;
    target->frame = node->frame;
    memcpy(node, joined, KV_NODE_BYTES);
    kv_nodes_retire(nodes, other);
    kv_node_change(nodes, parent);
    kv_node_set_child(parent, left_index, mine);
    kv_node_remove(parent, left_index, 1);
    return true;
}

/* True: the parent lost a child. The left one, too: where the first keys go one after the other, that is what they have left empty. */
static bool join_sibling(kv_nodes *nodes, kv_root *root, kv_path *path, uint32_t level) {
    const kv_step *up = &path->steps[level + 1];
    if (up->index < kv_node_here(nodes, up->node)->count && join(nodes, root, path, level, true)) return true;
    return up->index > 0 && join(nodes, root, path, level, false);
}

/* A top without keys gives way to its only child. */
static void shrink(kv_nodes *nodes, kv_root *root) {
    while (root->node != 0) {
        const kv_node *top = kv_node_here(nodes, root->node);
        if (top->count > 0) break;
        uint32_t below = top->level > 0 ? top->first : 0;
        kv_nodes_retire(nodes, root->node);
        root->node = below;
        root->height--;
        if (below == 0 || kv_node_get(nodes, below) == NULL) break;
    }
}

kv_status kv_tree_free_first_leaf(kv_nodes *nodes, kv_root *root) {
    kv_path path;
    uint32_t at = root->node;
    for (uint32_t level = root->height; level-- > 0;) {
        const kv_node *node = kv_node_get(nodes, at);
        if (node == NULL) return nodes->failure;
        if (node->level != level) return kv_nodes_fail(nodes, at);
        path.steps[level] = (kv_step){at, 0};
        at = node->first;
    }
    own_path(nodes, root, &path);
    for (uint32_t level = 0; level < root->height; level++) {
        kv_nodes_retire(nodes, path.steps[level].node);
        if (level + 1 == root->height) break;
        kv_node *parent = kv_node_here(nodes, path.steps[level + 1].node);
        if (parent->count == 0) continue; /* it was the only child */
        kv_node_change(nodes, parent);
        parent->first = kv_node_child(parent, 1);
        kv_node_remove(parent, 0, 1);
        shrink(nodes, root);
        return KV_OK;
    }
    *root = (kv_root){.node = 0};
    return KV_OK;
}

bool kv_tree_delete(kv_nodes *nodes, kv_root *root, kv_path *path, uint32_t count) {
    own_path(nodes, root, path);
    kv_node_remove(kv_node_here(nodes, path->steps[0].node), path->steps[0].index, count);
    root->count -= count;
    uint32_t level = 0;
    for (; level + 1 < root->height; level++) {
        if (kv_node_used(kv_node_here(nodes, path->steps[level].node)) >= KV_MERGE_BELOW) break;
        if (!join_sibling(nodes, root, path, level)) break;
    }
    shrink(nodes, root);
    return level == 0 && root->node != 0;
}
