#include "node.h"

#include <string.h>

#include "format.h"

#define SKIP_FROM 8u /* slots: fewer are found as fast with the same heads */

/* Eight bytes at a time: memcmp goes byte by byte where the compiler's runtime has it. */
uint32_t kv_common_prefix(kv_key a, kv_key b) {
    uint32_t shorter = a.length < b.length ? a.length : b.length, n = 0;
    for (; n + 8 <= shorter; n += 8) {
        uint64_t differing = kv_load64(a.data + n) ^ kv_load64(b.data + n);
        if (differing != 0) return n + (uint32_t)__builtin_ctzll(differing) / 8;
    }
    while (n < shorter && a.data[n] == b.data[n]) n++;
    return n;
}

int kv_compare(kv_key a, kv_key b) {
    uint32_t common = kv_common_prefix(a, b);
    if (common < a.length && common < b.length) return a.data[common] < b.data[common] ? -1 : 1;
    return a.length < b.length ? -1 : a.length > b.length;
}

static inline uint32_t head_of(const uint8_t *suffix, uint32_t length) {
    if (length >= 4) return __builtin_bswap32(kv_load32(suffix));
    uint32_t head = 0;
    for (uint32_t i = 0; i < length; i++) head |= (uint32_t)suffix[i] << (24 - 8 * i);
    return head;
}

void kv_node_begin(kv_node *node, uint32_t level, kv_key low, kv_key high) {
    uint32_t prefix = low.data == NULL || high.data == NULL ? 0 : kv_common_prefix(low, high);
    uint32_t page = node->page, frame = node->frame;
    uint8_t learned = node->learned;
    memset(node, 0, sizeof *node);
    node->page = page;
    node->frame = frame;
    node->learned = learned;
    node->level = (uint8_t)level;
    node->prefix = (uint16_t)prefix;
    node->heap = (uint16_t)(KV_NODE_BYTES - prefix);
    if (prefix > 0) memcpy((uint8_t *)node + node->heap, low.data, prefix);
}

/* First slot in [from, from + count) whose head is >= `head`; the loop has no branch on the data. */
static inline uint32_t lower_bound(const kv_slot *slots, uint32_t from, uint32_t count, uint32_t head) {
    const kv_slot *base = slots + from;
    while (count > 1) {
        uint32_t half = count / 2;
        base = base[half - 1].head < head ? base + half : base;
        count -= half;
    }
    return (uint32_t)(base - slots) + (count == 1 && base->head < head ? 1 : 0);
}

static inline uint32_t hint_distance(const kv_node *node) { return node->count / (KV_NODE_HINTS + 1); }

/* After a slot was added or removed at `index`: set the hints that it moved. */
static void update_hints(kv_node *node, uint32_t index, uint32_t distance_before) {
    uint32_t distance = hint_distance(node);
    if (distance == 0) return;
    uint32_t i = distance == distance_before && index >= distance ? index / distance - 1 : 0;
    for (; i < KV_NODE_HINTS; i++) node->hints[i] = node->slots[(i + 1) * distance].head;
}

typedef uint32_t four __attribute__((vector_size(16)));

/* Between which slots the first one whose head is >= `head` is, by the hints: [*from, *to]. */
static inline void hinted(const kv_node *node, uint32_t head, uint32_t *from, uint32_t *to) {
    uint32_t distance = hint_distance(node);
    *from = 0;
    *to = node->count;
    if (distance == 0) return;
    four wanted = {head, head, head, head}, below = {0};
    for (uint32_t i = 0; i < KV_NODE_HINTS; i += 4) {
        four hints;
        memcpy(&hints, node->hints + i, sizeof hints);
        below -= (four)(hints < wanted); /* a true lane is all ones: minus one */
    }
    uint32_t passed = below[0] + below[1] + below[2] + below[3];
    if (passed > 0) *from = passed * distance + 1;
    if (passed < KV_NODE_HINTS) *to = (passed + 1) * distance;
}

/* First slot whose head is >= `head`. */
static inline uint32_t first_at_least(const kv_node *node, uint32_t head) {
    uint32_t from, to;
    hinted(node, head, &from, &to);
    return lower_bound(node->slots, from, to - from, head);
}

/* The head of a suffix in this node. False: it does not begin with what is left out of heads, and is below all of them, or above. */
static inline bool find_head(const kv_node *node, kv_key suffix, uint32_t *head, bool *below) {
    uint32_t skip = node->skip;
    if (skip > 0) {
        kv_key shared = {kv_suffix(node, 0), skip};
        uint32_t common = kv_common_prefix(shared, suffix);
        *below = common < skip && (common == suffix.length || suffix.data[common] < shared.data[common]);
        if (common < skip) return false;
    }
    *head = head_of(suffix.data + skip, suffix.length - skip);
    return true;
}

static inline uint32_t head_behind(const kv_node *node, kv_key key) {
    uint32_t head = 0;
    bool below = true;
    if (key.length < node->prefix || find_head(node, (kv_key){key.data + node->prefix, key.length - node->prefix}, &head, &below))
        return head;
    return below ? 0 : UINT32_MAX;
}

kv_slots kv_node_near(const kv_node *node, kv_key key) {
    kv_slots near;
    hinted(node, head_behind(node, key), &near.from, &near.to);
    return near;
}

uint32_t kv_node_first_at_least(const kv_node *node, kv_key key) { return first_at_least(node, head_behind(node, key)); }

static inline kv_key suffix_of(const kv_node *node, uint32_t index) {
    return (kv_key){kv_suffix(node, index), node->slots[index].length};
}

/* First slot in [low, high) whose word is >= `word`, or > `word` with `above`. All its suffixes share their first `skip` bytes. */
static uint32_t word_bound(const kv_node *node, uint32_t low, uint32_t high, uint32_t skip, uint64_t word, bool above) {
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        uint64_t other = kv_word(suffix_of(node, middle), skip);
        if (other < word || (above && other == word))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The slots in [low, high) have the head of `suffix`: leave of them those that only a comparison of whole suffixes can tell from
 * it. Where fences are open there is no prefix, and heads are the same in a whole node. */
static void narrow(const kv_node *node, kv_key suffix, uint32_t *low, uint32_t *high) {
    kv_key first = suffix_of(node, *low), last = suffix_of(node, *high - 1);
    if (kv_compare(last, suffix) < 0) { /* as when keys are appended */
        *low = *high;
        return;
    }
    uint32_t shared = kv_common_prefix(first, last), common = kv_common_prefix(first, suffix);
    if (common < shared) { /* before them all */
        *high = *low;
        return;
    }
    uint64_t word = kv_word(suffix, shared);
    *low = word_bound(node, *low, *high, shared, word, false);
    if (*low == *high) return;
    *high = kv_word(suffix_of(node, *low), shared) == word ? word_bound(node, *low + 1, *high, shared, word, true) : *low;
}

/* A slot's suffix against one with the same head. Where both end within it their lengths decide, and the slot's entry, which lies in
 * memory elsewhere, is not looked at. */
static inline int compare_behind_head(const kv_node *node, uint32_t index, kv_key suffix) {
    uint32_t covered = node->skip + (uint32_t)sizeof node->slots[index].head, length = node->slots[index].length;
    if (length <= covered && suffix.length <= covered) return length < suffix.length ? -1 : length > suffix.length;
    return kv_compare(suffix_of(node, index), suffix);
}

uint32_t kv_node_search(const kv_node *node, kv_key key, bool *equal) {
    assert(key.length >= node->prefix);
    kv_key suffix = {key.data + node->prefix, key.length - node->prefix};
    uint32_t head;
    bool below;
    *equal = false;
    if (!find_head(node, suffix, &head, &below)) return below ? 0 : node->count;
    uint32_t low = first_at_least(node, head);
    if (low == node->count || node->slots[low].head != head) return low;
    uint32_t high = low + 1; /* heads are equal in [low, high): compare whole suffixes there */
    if (high < node->count && node->slots[high].head == head)
        high = head == UINT32_MAX ? node->count : lower_bound(node->slots, high, node->count - high, head + 1);
    if (high - low > 1) narrow(node, suffix, &low, &high);
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = compare_behind_head(node, middle, suffix);
        if (order == 0) {
            *equal = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t kv_node_used(const kv_node *node) {
    return KV_NODE_HEADER_BYTES + node->count * (uint32_t)sizeof(kv_slot) + (KV_NODE_BYTES - node->heap) - node->dead;
}

bool kv_node_is_below(const kv_node *node, kv_key key, uint32_t index) {
    kv_key prefix = {kv_prefix(node), node->prefix};
    uint32_t common = kv_common_prefix(prefix, key);
    if (common < prefix.length) return common == key.length || key.data[common] < prefix.data[common];
    return kv_compare((kv_key){key.data + common, key.length - common}, suffix_of(node, index)) < 0;
}

/* Close the gaps that removed entries left in the heap. */
static void tidy(kv_node *node) {
    uint8_t copy[KV_NODE_BYTES];
    memcpy(copy, node, KV_NODE_BYTES);
    const kv_node *old = (const kv_node *)(const void *)copy;
    uint32_t heap = KV_NODE_BYTES - node->prefix, payload = kv_payload_bytes(node);
    for (uint32_t i = 0; i < node->count; i++) {
        uint32_t bytes = payload + old->slots[i].length;
        heap -= bytes;
        memcpy((uint8_t *)node + heap, copy + old->slots[i].offset, bytes);
        node->slots[i].offset = (uint16_t)heap;
    }
    node->heap = (uint16_t)heap;
    node->dead = 0;
}

/* ---- what heads leave out ---- */

static void set_skip(kv_node *node, uint32_t skip) {
    node->skip = (uint8_t)skip;
    for (uint32_t i = 0; i < node->count; i++) {
        kv_key suffix = suffix_of(node, i);
        node->slots[i].head = suffix.length < skip ? 0 : head_of(suffix.data + skip, suffix.length - skip); /* 0: a damaged node */
    }
    update_hints(node, 0, 0);
}

/* The suffix is about to come into the node: no more may be left out than it shares. */
static void make_shared(kv_node *node, kv_key suffix) {
    uint32_t common = kv_common_prefix((kv_key){kv_suffix(node, 0), node->skip}, suffix);
    if (common < node->skip) set_skip(node, common);
}

/* Leave out what all suffixes share, if heads tell nothing with it. */
static void skip_shared(kv_node *node) {
    if (node->slots[0].head != node->slots[node->count - 1].head) return;
    uint32_t common = kv_common_prefix(suffix_of(node, 0), suffix_of(node, node->count - 1u));
    if (common > UINT8_MAX) common = UINT8_MAX;
    if (common > node->skip) set_skip(node, common);
}

/* Whether, between these numbers of slots, it was time to look at what keys share. */
static bool is_time_to_look(uint32_t before, uint32_t count) {
    return count >= SKIP_FROM && __builtin_clz(before | 1) != __builtin_clz(count);
}

bool kv_node_has_room(const kv_node *node, uint32_t count, uint32_t suffix_bytes) {
    uint32_t bytes = count * ((uint32_t)sizeof(kv_slot) + kv_payload_bytes(node)) + suffix_bytes;
    return KV_NODE_HEADER_BYTES + node->count * (uint32_t)sizeof(kv_slot) + bytes <= (uint32_t)node->heap + node->dead;
}

/* Into the heap, where there is room for it; the slot of the entry. */
static inline kv_slot add_entry(kv_node *node, kv_key suffix, const void *payload) {
    uint32_t payload_bytes = kv_payload_bytes(node);
    node->heap = (uint16_t)(node->heap - payload_bytes - suffix.length);
    uint8_t *entry = (uint8_t *)node + node->heap;
    memcpy(entry, payload, payload_bytes);
    if (suffix.length > 0) memcpy(entry + payload_bytes, suffix.data, suffix.length);
    return (kv_slot){
        .head = head_of(suffix.data + node->skip, suffix.length - node->skip), .offset = node->heap, .length = (uint16_t)suffix.length};
}

void kv_node_insert_many(kv_node *node, const kv_insert *inserts, uint32_t count) {
    if (count == 0) return;
    uint32_t before = node->count, distance = hint_distance(node), slots_end = KV_SLOT_OFFSET(before + count), end = before;
    uint32_t bytes = count * kv_payload_bytes(node);
    for (uint32_t i = 0; i < count; i++) bytes += inserts[i].suffix.length;
    if (slots_end + bytes > node->heap) tidy(node);
    if (node->skip > 0) { /* what the first and the last share with all, those between do, too */
        make_shared(node, inserts[0].suffix);
        make_shared(node, inserts[count - 1].suffix);
    }
    for (uint32_t i = count; i-- > 0; end = inserts[i].index) { /* from the end on, so that each slot moves once */
        memmove(node->slots + inserts[i].index + i + 1, node->slots + inserts[i].index, (end - inserts[i].index) * sizeof(kv_slot));
        node->slots[inserts[i].index + i] = add_entry(node, inserts[i].suffix, inserts[i].payload);
    }
    node->count = (uint16_t)(before + count);
    update_hints(node, inserts[0].index, distance);
    if (is_time_to_look(before, node->count)) skip_shared(node);
}

bool kv_node_insert(kv_node *node, uint32_t index, kv_key suffix, const void *payload) {
    if (!kv_node_has_room(node, 1, suffix.length)) return false;
    kv_node_insert_many(node, &(kv_insert){index, suffix, payload}, 1);
    return true;
}

void kv_node_remove(kv_node *node, uint32_t index, uint32_t count) {
    uint32_t distance = hint_distance(node), end = index + count;
    for (uint32_t i = index; i < end; i++) node->dead = (uint16_t)(node->dead + kv_payload_bytes(node) + node->slots[i].length);
    memmove(node->slots + index, node->slots + end, (node->count - end) * sizeof(kv_slot));
    node->count = (uint16_t)(node->count - count);
    if (node->count == 0) node->skip = 0;
    update_hints(node, index, distance);
}

kv_key kv_node_key(const kv_node *node, uint32_t index, uint8_t *to) {
    uint32_t suffix = node->slots[index].length;
    memcpy(to, kv_prefix(node), node->prefix);
    memcpy(to + node->prefix, kv_suffix(node, index), suffix);
    return (kv_key){to, node->prefix + suffix};
}

uint32_t kv_node_child(const kv_node *node, uint32_t index) {
    return index == 0 ? node->first : kv_load32(kv_payload(node, index - 1));
}

void kv_node_set_child(kv_node *node, uint32_t index, uint32_t child) {
    if (index == 0)
        node->first = child;
    else
        kv_store32(kv_payload(node, index - 1), child);
}

bool kv_node_is_sound(const kv_nodes *nodes, const kv_node *node) {
    uint32_t payload = kv_payload_bytes(node), slots_end = KV_NODE_HEADER_BYTES + node->count * (uint32_t)sizeof(kv_slot);
    if (node->level >= KV_HEIGHT_MAX || node->prefix > KV_KEY_MAX || node->heap > KV_NODE_BYTES - node->prefix) return false;
    if (slots_end > node->heap || node->dead > KV_NODE_BYTES - node->heap) return false;
    if (node->level > 0 && !kv_nodes_holds(nodes, node->first)) return false;
    if (node->count == 0 && node->skip > 0) return false;
    uint32_t before = 0, live = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        const kv_slot *slot = &node->slots[i];
        uint32_t end = (uint32_t)slot->offset + payload + slot->length;
        if (slot->offset < node->heap || end > KV_NODE_BYTES - (uint32_t)node->prefix) return false;
        if (node->prefix + (uint32_t)slot->length > KV_KEY_MAX || slot->length < node->skip || slot->head < before) return false;
        if (node->level > 0 && !kv_nodes_holds(nodes, kv_load32(kv_payload(node, i)))) return false;
        before = slot->head;
        live += payload + slot->length;
    }
    return live + node->dead == KV_NODE_BYTES - (uint32_t)node->prefix - node->heap;
}
