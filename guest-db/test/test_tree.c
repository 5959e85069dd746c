/* The tree against a sorted array: shapes of keys, versions, walks in both directions. */
#include "test.h"
#include "tree.h"

#define MODEL_MAX 4000u

typedef struct model_entry {
    uint8_t key[KV_KEY_MAX];
    uint32_t length;
    kv_place place;
} model_entry;

typedef struct model {
    model_entry *entries[MODEL_MAX];
    uint32_t count;
} model;

static kv_key key_of(const model_entry *entry) { return (kv_key){entry->key, entry->length}; }

static uint32_t model_find(const model *m, kv_key key, bool *there) {
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (kv_compare(key_of(m->entries[middle]), key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *there = low < m->count && kv_compare(key_of(m->entries[low]), key) == 0;
    return low;
}

static void model_put(model *m, kv_key key, kv_place place) {
    bool there;
    uint32_t at = model_find(m, key, &there);
    if (!there) {
        CHECK(m->count < MODEL_MAX);
        memmove(m->entries + at + 1, m->entries + at, (m->count - at) * sizeof *m->entries);
        m->entries[at] = malloc(sizeof(model_entry));
        memcpy(m->entries[at]->key, key.data, key.length);
        m->entries[at]->length = key.length;
        m->count++;
    }
    m->entries[at]->place = place;
}

static void model_delete(model *m, uint32_t at) {
    free(m->entries[at]);
    m->count--;
    memmove(m->entries + at, m->entries + at + 1, (m->count - at) * sizeof *m->entries);
}

static void model_clear(model *m) {
    while (m->count > 0) model_delete(m, m->count - 1);
}

static uint32_t skips; /* nodes seen whose heads leave something out */

/* Heads are what they are said to be, and what they leave out is the same in all keys. */
static void verify_heads(const kv_node *node) {
    CHECK(node->count > 0 || node->skip == 0);
    skips += node->skip > 0;
    for (uint32_t i = 0; i < node->count; i++) {
        const kv_slot *slot = &node->slots[i];
        uint8_t bytes[4] = {0};
        CHECK(slot->length >= node->skip && memcmp(kv_suffix(node, i), kv_suffix(node, 0), node->skip) == 0);
        uint32_t left = slot->length - node->skip;
        memcpy(bytes, kv_suffix(node, i) + node->skip, left < 4 ? left : 4);
        CHECK_EQUAL(slot->head, __builtin_bswap32(kv_load32(bytes)));
    }
    uint32_t distance = node->count / (KV_NODE_HINTS + 1);
    for (uint32_t i = 0; distance > 0 && i < KV_NODE_HINTS; i++) CHECK_EQUAL(node->hints[i], node->slots[(i + 1) * distance].head);
}

/* Structure: order, fences, levels, and the numbers of keys and of nodes reached. */
static uint32_t verify_node(kv_nodes *nodes, uint32_t at, uint32_t level, kv_key low, kv_key high,
                            uint32_t *reached) {
    const kv_node *node = kv_node_get(nodes, at);
    CHECK(kv_page_made(nodes, at) != 0);
    CHECK_EQUAL(node->level, level);
    verify_heads(node);
    (*reached)++;
    uint8_t buffers[2][KV_KEY_MAX], fence_low[KV_KEY_MAX], fence_high[KV_KEY_MAX];
    uint32_t keys = level == 0 ? node->count : 0;
    for (uint32_t i = 0; i < node->count; i++) {
        kv_key key = kv_node_key(node, i, buffers[i & 1]);
        if (low.data != NULL) CHECK(kv_compare(low, key) <= 0);
        if (high.data != NULL) CHECK(kv_compare(key, high) < 0);
        if (i > 0) {
            kv_key before = kv_node_key(node, i - 1, buffers[(i & 1) ^ 1]);
            CHECK(kv_compare(before, key) < 0);
        }
    }
    for (uint32_t i = 0; level > 0 && i <= node->count; i++) {
        kv_key from = i == 0 ? low : kv_node_key(node, i - 1, fence_low);
        kv_key to = i == node->count ? high : kv_node_key(node, i, fence_high);
        keys += verify_node(nodes, kv_node_child(node, i), level - 1, from, to, reached);
    }
    return keys;
}

static void verify(kv_nodes *nodes, const kv_root *root, const model *m) {
    CHECK_EQUAL(root->count, m->count);
    uint32_t reached = 0;
    if (root->node != 0) {
        uint32_t keys = verify_node(nodes, root->node, root->height - 1, (kv_key){NULL, 0}, (kv_key){NULL, 0}, &reached);
        CHECK_EQUAL(keys, m->count);
    }
    if (nodes->pin_limit == 0) CHECK_EQUAL(nodes->pages_in_use, reached);
    kv_walk walk = {.nodes = nodes, .root = *root};
    CHECK_EQUAL(kv_walk_forward_from(&walk, (kv_key){NULL, 0}, false), KV_OK);
    uint8_t buffer[KV_KEY_MAX];
    for (uint32_t i = 0; i < m->count; i++, (void)kv_walk_next(&walk)) {
        CHECK(walk.valid);
        kv_key key = kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer);
        CHECK(kv_compare(key, key_of(m->entries[i])) == 0);
        CHECK_EQUAL(kv_walk_place(&walk).offset, m->entries[i]->place.offset);
    }
    CHECK(!walk.valid);
    CHECK_EQUAL(kv_walk_backward_from(&walk, (kv_key){NULL, 0}), KV_OK);
    for (uint32_t i = m->count; i-- > 0; (void)kv_walk_previous(&walk)) {
        CHECK(walk.valid);
        kv_key key = kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer);
        CHECK(kv_compare(key, key_of(m->entries[i])) == 0);
    }
    CHECK(!walk.valid);
}

static void check_seeks(kv_nodes *nodes, const kv_root *root, const model *m, kv_key key) {
    bool there;
    uint32_t at = model_find(m, key, &there);
    uint8_t buffer[KV_KEY_MAX];
    kv_walk walk = {.nodes = nodes, .root = *root};
    for (int after = 0; after <= 1; after++) {
        uint32_t expected = at + (after && there ? 1u : 0u);
        CHECK_EQUAL(kv_walk_forward_from(&walk, key, after), KV_OK);
        CHECK_EQUAL(walk.valid, expected < m->count);
        if (walk.valid)
            CHECK(kv_compare(kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer),
                             key_of(m->entries[expected])) == 0);
    }
    CHECK_EQUAL(kv_walk_backward_from(&walk, key), KV_OK);
    CHECK_EQUAL(walk.valid, at > 0);
    if (walk.valid)
        CHECK(kv_compare(kv_node_key(kv_walk_leaf(&walk), kv_walk_slot(&walk), buffer), key_of(m->entries[at - 1])) == 0);
}

/* Whether the way had to be found again. */
static bool check_last(kv_nodes *nodes, const kv_root *root, const model *m, kv_key key) {
    bool there;
    uint32_t at = model_find(m, key, &there);
    kv_path path, expected;
    kv_status status = kv_tree_find_last(nodes, root, key, &path);
    CHECK(status == KV_NOT_FOUND || status == KV_EXISTS || status == KV_AGAIN);
    CHECK_EQUAL(status != KV_EXISTS, !there && at == m->count);
    if (status != KV_NOT_FOUND) return status == KV_AGAIN;
    CHECK_EQUAL(kv_tree_find(nodes, root, key, &expected), KV_NOT_FOUND);
    CHECK(memcmp(path.steps, expected.steps, root->height * sizeof path.steps[0]) == 0);
    return false;
}

/* Shapes: 0 short binary, 1 decimal counters, 2 long shared prefix, 3 anything up to the longest, 4 few letters */
static kv_key make_key(uint64_t *random, int shape, uint32_t range, uint8_t *to) {
    uint32_t n = (uint32_t)(test_random(random) % range), length = 0;
    switch (shape) {
    case 0:
        length = 1 + n % 8;
        for (uint32_t i = 0; i < length; i++) to[i] = (uint8_t)(test_random(random) % 7);
        break;
    case 1: length = (uint32_t)sprintf((char *)to, "%016u", n); break;
    case 2:
        memset(to, 'p', 600);
        length = 600 + (uint32_t)sprintf((char *)to + 600, "%u", n);
        break;
    case 3:
        length = 1 + (uint32_t)(test_random(random) % KV_KEY_MAX);
        memset(to, (int)(n % 3), length);
        to[test_random(random) % length] = (uint8_t)(n % 251);
        break;
    default:
        length = 1 + n % 30;
        for (uint32_t i = 0; i < length; i++) to[i] = (uint8_t)('a' + test_random(random) % 2);
    }
    return (kv_key){to, length};
}

static void put(kv_nodes *nodes, kv_root *root, model *m, kv_key key, uint64_t offset) {
    kv_place place = {offset, (uint32_t)offset * 3, 7}, old = {0, 0, 0};
    bool there;
    uint32_t at = model_find(m, key, &there);
    uint64_t before = there ? m->entries[at]->place.offset : 0;
    kv_path path;
    CHECK_EQUAL(kv_nodes_reserve(nodes, kv_tree_reserve(root)), KV_OK);
    CHECK_EQUAL(kv_tree_find(nodes, root, key, &path), there ? KV_OK : KV_NOT_FOUND);
    kv_tree_put(nodes, root, &path, key, there, &place, &old);
    if (there) CHECK_EQUAL(old.offset, before);
    model_put(m, key, place);
}

/* The key at `at` and up to `more` that follow it in its leaf. */
static void delete_run(kv_nodes *nodes, kv_root *root, model *m, uint32_t at, uint32_t more) {
    kv_path path;
    CHECK_EQUAL(kv_nodes_reserve(nodes, kv_tree_reserve(root)), KV_OK);
    CHECK_EQUAL(kv_tree_find(nodes, root, key_of(m->entries[at]), &path), KV_OK);
    CHECK_EQUAL(kv_tree_place(nodes, &path).offset, m->entries[at]->place.offset);
    uint32_t leaf = path.steps[0].node, left = kv_node_here(nodes, leaf)->count - path.steps[0].index - 1;
    uint32_t count = 1 + (more < left ? more : left);
    bool last = count == left + 1;
    if (kv_tree_delete(nodes, root, &path, count) && !last)
        CHECK(kv_compare(kv_node_key(kv_node_here(nodes, path.steps[0].node), path.steps[0].index, (uint8_t[KV_KEY_MAX]){0}),
                         key_of(m->entries[at + count])) == 0);
    while (count-- > 0) model_delete(m, at);
}

static void delete_at(kv_nodes *nodes, kv_root *root, model *m, uint32_t at) { delete_run(nodes, root, m, at, 0); }

static void random_operations(int shape, uint64_t seed) {
    static model m;
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    kv_root root = {.node = 0};
    uint64_t random = seed;
    uint8_t buffer[KV_KEY_MAX];
    for (uint32_t i = 1; i <= 6000; i++) {
        bool shrinking = (i / 1500) % 2 == 1;
        kv_key key = make_key(&random, shape, 3000, buffer);
        bool there;
        uint32_t at = model_find(&m, key, &there);
        if (test_random(&random) % 10 < (shrinking ? 8u : 2u) && m.count > 0) {
            delete_run(&nodes, &root, &m, at == m.count ? at - 1 : at, i % 16 == 0 ? i % 100 : 0);
        } else if (m.count < MODEL_MAX) {
            put(&nodes, &root, &m, key, i);
        }
        kv_place place;
        at = model_find(&m, key, &there);
        CHECK_EQUAL(kv_tree_get(&nodes, &root, key, &place), there ? KV_OK : KV_NOT_FOUND);
        (void)check_last(&nodes, &root, &m, key);
        (void)check_last(&nodes, &root, &m, (kv_key){(const uint8_t *)"\xff", 1});
        if (i % 100 == 0) check_seeks(&nodes, &root, &m, key);
        if (i % 500 == 0) verify(&nodes, &root, &m);
    }
    while (m.count > 0) delete_at(&nodes, &root, &m, (uint32_t)(test_random(&random) % m.count));
    verify(&nodes, &root, &m);
    CHECK_EQUAL(root.node, 0);
    kv_nodes_destroy(&nodes);
}

static void test_random_operations(void) {
    for (int shape = 0; shape < 5; shape++) random_operations(shape, 11u + (uint64_t)shape);
}

/* Keys share their beginnings until others come, which are longer, shorter, below and above all of them, or go. */
static void test_what_heads_leave_out(void) {
    static const char *const beginnings[] = {"", "user:", "user:0000000000000000:", "user:000", "usfr", "a", "z", "user:0000000000000000;"};
    static model m;
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    uint64_t random = 77;
    uint32_t before = skips;
    for (int round = 0; round < 300; round++) {
        kv_root root = {.node = 0};
        uint8_t buffer[600] = {0};
        uint32_t some = (uint32_t)(test_random(&random) % 400), long_one = round % 3 == 0 ? 300 : 0;
        for (uint32_t i = 0; i < some; i++) {
            bool other = test_random(&random) % 64 == 0 && round % 2 == 0;
            const char *beginning = beginnings[other ? test_random(&random) % 8 : 2];
            uint32_t at = other ? 0 : long_one; /* more than can be left out */
            memset(buffer, 'k', at);
            at += (uint32_t)sprintf((char *)buffer + at, "%s", beginning);
            at += (uint32_t)sprintf((char *)buffer + at, "%d", (int)(test_random(&random) % 1000));
            put(&nodes, &root, &m, (kv_key){buffer, at}, i);
            if (i % 16 == 0) check_seeks(&nodes, &root, &m, (kv_key){buffer, (uint32_t)(test_random(&random) % (at + 1))});
            if (m.count > 0 && test_random(&random) % 4 == 0) delete_at(&nodes, &root, &m, (uint32_t)(test_random(&random) % m.count));
        }
        verify(&nodes, &root, &m);
        for (uint32_t i = 0; i < m.count; i++) {
            kv_place place;
            CHECK_EQUAL(kv_tree_get(&nodes, &root, key_of(m.entries[i]), &place), KV_OK);
            CHECK_EQUAL(place.length, m.entries[i]->place.length);
        }
        while (m.count > 0) delete_at(&nodes, &root, &m, m.count - 1);
        CHECK_EQUAL(root.node, 0);
    }
    CHECK(skips > before + 200);
    kv_nodes_destroy(&nodes);
}

/* The last leaf may be emptied without going away, and what is behind the last key then leads elsewhere. */
static void test_last_after_the_end_was_deleted(void) {
    static model m;
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    kv_root root = {.node = 0};
    uint8_t buffer[32];
    bool again = false;
    for (int i = 0; i < 2000; i++) {
        kv_key key = {buffer, (uint32_t)sprintf((char *)buffer, "%016d", i)};
        put(&nodes, &root, &m, key, (uint64_t)i + 1);
    }
    while (m.count > 0) {
        delete_at(&nodes, &root, &m, m.count - 1);
        for (int n = (int)m.count - 1; n < (int)m.count + 2; n++) {
            kv_key key = {buffer, (uint32_t)sprintf((char *)buffer, "%016d", n)};
            again |= check_last(&nodes, &root, &m, key);
        }
    }
    CHECK(again);
    kv_nodes_destroy(&nodes);
}

static void sequence(int step) {
    static model m;
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    kv_root root = {.node = 0};
    uint8_t buffer[32];
    for (int i = 0; i < 3000; i++) {
        int n = step > 0 ? i : 3000 - i;
        kv_key key = {buffer, (uint32_t)sprintf((char *)buffer, "%016d", n)};
        put(&nodes, &root, &m, key, (uint64_t)n + 1);
    }
    verify(&nodes, &root, &m);
    CHECK(nodes.pages_in_use < 45); /* sequential keys fill their nodes */
    model_clear(&m);
    kv_nodes_destroy(&nodes);
}

static void test_sequences_fill_nodes(void) {
    sequence(1);
    sequence(-1);
}

/* What the first keys leave empty, one after the other, is given up though the leaf behind it is full. */
static void test_a_queue_stays_small(void) {
    static model m;
    for (int run = 0; run < 2; run++) {
        kv_nodes nodes;
        CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
        kv_root root = {.node = 0};
        uint8_t buffer[32];
        for (uint32_t i = 0; i < 40000; i++) {
            kv_key key = {buffer, (uint32_t)sprintf((char *)buffer, "%016u", i)};
            put(&nodes, &root, &m, key, i + 1);
            while (m.count > 500) delete_run(&nodes, &root, &m, 0, run == 0 ? 0 : 60);
            CHECK(nodes.pages_in_use < 12);
        }
        verify(&nodes, &root, &m);
        model_clear(&m);
        kv_nodes_destroy(&nodes);
    }
}

static void test_versions_stay_as_they_were(void) {
    enum { VERSIONS = 8 };
    static model m, kept[VERSIONS];
    kv_root roots[VERSIONS], root = {.node = 0};
    uint32_t pins[VERSIONS];
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    uint64_t random = 5;
    uint8_t buffer[KV_KEY_MAX];
    for (int version = 0; version < VERSIONS; version++) {
        for (uint32_t i = 0; i < 400; i++) put(&nodes, &root, &m, make_key(&random, 1, 900, buffer), i + 1);
        for (uint32_t i = 0; i < 150; i++)
            delete_at(&nodes, &root, &m, (uint32_t)(test_random(&random) % m.count));
        for (uint32_t i = 0; i < m.count; i++) model_put(&kept[version], key_of(m.entries[i]), m.entries[i]->place);
        roots[version] = root;
        pins[version] = kv_nodes_pin(&nodes);
    }
    for (int version = 0; version < VERSIONS; version++) verify(&nodes, &roots[version], &kept[version]);
    static const int order[VERSIONS] = {3, 0, 7, 1, 2, 6, 5, 4};
    for (int i = 0; i < VERSIONS; i++) {
        verify(&nodes, &roots[order[i]], &kept[order[i]]);
        kv_nodes_unpin(&nodes, pins[order[i]]);
        put(&nodes, &root, &m, make_key(&random, 1, 900, buffer), 1);
        for (int j = i + 1; j < VERSIONS; j++) verify(&nodes, &roots[order[j]], &kept[order[j]]);
        model_clear(&kept[order[i]]);
    }
    verify(&nodes, &root, &m);
    model_clear(&m);
    kv_nodes_destroy(&nodes);
}

static void test_roll_back(void) {
    static model m, before;
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    kv_root root = {.node = 0};
    uint64_t random = 6;
    uint8_t buffer[KV_KEY_MAX];
    for (int round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 100; i++) put(&nodes, &root, &m, make_key(&random, 4, 900, buffer), i + 1);
        for (uint32_t i = 0; i < m.count; i++) model_put(&before, key_of(m.entries[i]), m.entries[i]->place);
        kv_root kept = root;
        uint32_t pin = kv_nodes_pin(&nodes);
        kv_nodes_mark mark = kv_nodes_journal(&nodes);
        for (uint32_t i = 0; i < 60; i++) {
            put(&nodes, &root, &m, make_key(&random, 4, 900, buffer), i + 1);
            delete_at(&nodes, &root, &m, (uint32_t)(test_random(&random) % m.count));
        }
        kv_nodes_roll_back(&nodes, mark);
        kv_nodes_journal_end(&nodes);
        kv_nodes_unpin(&nodes, pin);
        root = kept;
        verify(&nodes, &root, &before);
        model_clear(&m);
        for (uint32_t i = 0; i < before.count; i++)
            model_put(&m, key_of(before.entries[i]), before.entries[i]->place);
        model_clear(&before);
    }
    while (m.count > 0) delete_at(&nodes, &root, &m, 0);
    CHECK_EQUAL(nodes.pages_in_use, 0);
    kv_nodes_destroy(&nodes);
}

/* Savepoints: what the inner one did is undone, or stays with the outer one. */
static void test_nested_roll_back(void) {
    static model m, outer, inner;
    kv_nodes nodes;
    CHECK_EQUAL(kv_nodes_init(&nodes, NULL, 8, 1u << 30), KV_OK);
    kv_root root = {.node = 0};
    uint64_t random = 8;
    uint8_t buffer[KV_KEY_MAX];
    for (uint32_t i = 0; i < 600; i++) put(&nodes, &root, &m, make_key(&random, 1, 900, buffer), i + 1);
    for (int round = 0; round < 40; round++) {
        for (uint32_t i = 0; i < m.count; i++) model_put(&outer, key_of(m.entries[i]), m.entries[i]->place);
        kv_root before = root;
        uint32_t pin = kv_nodes_pin(&nodes);
        kv_nodes_mark first = kv_nodes_journal(&nodes);
        for (uint32_t i = 0; i < 80; i++) put(&nodes, &root, &m, make_key(&random, 1, 900, buffer), i + 1);
        for (uint32_t i = 0; i < m.count; i++) model_put(&inner, key_of(m.entries[i]), m.entries[i]->place);
        kv_root middle = root;
        nodes.epoch++;
        kv_nodes_mark second = kv_nodes_journal(&nodes);
        for (uint32_t i = 0; i < 80; i++) {
            put(&nodes, &root, &m, make_key(&random, 1, 900, buffer), i + 1);
            delete_at(&nodes, &root, &m, (uint32_t)(test_random(&random) % m.count));
        }
        bool undo_inner = round % 2 == 0, undo_outer = round % 4 < 2;
        const model *left = undo_outer ? &outer : undo_inner ? &inner : NULL;
        if (undo_inner) {
            kv_nodes_roll_back(&nodes, second);
            root = middle;
        }
        if (undo_outer) {
            kv_nodes_roll_back(&nodes, first);
            root = before;
        }
        kv_nodes_journal_end(&nodes);
        kv_nodes_unpin(&nodes, pin);
        if (left != NULL) {
            model_clear(&m);
            for (uint32_t i = 0; i < left->count; i++) model_put(&m, key_of(left->entries[i]), left->entries[i]->place);
        }
        verify(&nodes, &root, &m);
        model_clear(&outer);
        model_clear(&inner);
    }
    model_clear(&m);
    kv_nodes_destroy(&nodes);
}

int main(void) {
    RUN(test_what_heads_leave_out);
    RUN(test_random_operations);
    RUN(test_last_after_the_end_was_deleted);
    RUN(test_sequences_fill_nodes);
    RUN(test_a_queue_stays_small);
    RUN(test_versions_stay_as_they_were);
    RUN(test_roll_back);
    RUN(test_nested_roll_back);
    return 0;
}
