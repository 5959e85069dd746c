/* Merging sorted puts (pending.c) into the tree of their transaction.
 *
 * Neighbours belong to the same leaf, the more of them the larger the batch: such a run is merged in one go, its leaf found once and
 * each of its slots moved once. And the leaves of many runs come from memory together, while none of them is being used. */
#include "pending.h"

#ifndef KV_MERGE_CHUNK
#define KV_MERGE_CHUNK 1024u /* puts that are brought into order at a time */
#endif
#ifndef KV_MERGE_RUNS
#define KV_MERGE_RUNS 32u /* whose leaves are fetched at a time */
#endif
#ifndef KV_MERGE_RUN_MAX
#define KV_MERGE_RUN_MAX 128u
#endif
#define DENSE 4u /* puts of a run: of its leaf all is fetched that they may need, not just what the first one does */
#define DENSE_RUNS 6u /* at a time: what is fetched has to stay in the fastest cache */

typedef struct run {
    const kv_node *leaf; /* as it was when the run was planned: only to be fetched */
    uint32_t first, count; /* puts in pending->merging */
} run;

static bool is_dense(const run *r) { return r->count >= DENSE; }

/* What of a leaf is needed next: bytes [from, to). */
typedef struct fetch {
    const kv_node *leaf;
    uint32_t from, to;
} fetch;

/* The next puts of the batch into `merging`, in key order. Copied many at a time, for there the processor waits for many at once. */
static void take_chunk(kv_pending *pending) {
    const kv_pending_batch *from = &pending->turned;
    kv_pending_batch *to = &pending->merging;
    kv_pending_empty(to);
    pending->next = 0;
    while (pending->taken < from->count && to->count < KV_MERGE_CHUNK) {
        uint32_t put = pending->order != NULL ? pending->order[pending->taken].put : pending->taken;
        kv_key key = kv_pending_key(from, put);
        if (to->key_bytes + key.length > KV_MERGE_KEY_BYTES) break;
        kv_pending_add(to, key, &from->puts[put].place);
        pending->taken++;
    }
}

bool kv_merge_need(kv_pending *pending) { return kv_pending_room(&pending->merging, KV_MERGE_CHUNK, KV_MERGE_KEY_BYTES); }

static bool is_in_order(const kv_pending *pending) { return pending->turned.sorted || pending->order != NULL; }

/* ---- planning ---- */

/* How many of at most `most` puts from `first` on belong to the leaf to which `path` leads. */
static uint32_t run_length(const kv_db *db, const kv_root *root, const kv_path *path, uint32_t first, uint32_t most) {
    const kv_pending_batch *puts = &db->pending.merging;
    uint32_t known = 1, step = 1;
    while (known < most) { /* ever further, then halving what is left */
        uint32_t end = known + step < most ? known + step : most;
        if (kv_tree_is_on_leaf(db->nodes, root, path, kv_pending_key(puts, first + end - 1))) {
            known = end;
            step *= 2;
        } else if (end == known + 1) {
            break;
        } else {
            most = end - 1;
            step = (most - known + 1) / 2;
        }
    }
    return known;
}

/* The runs that come next, as far as their leaves are in memory: each of a leaf of its own, for merging one may split it. */
static uint32_t plan(const kv_db *db, const kv_root *root, run *runs) {
    const kv_pending *pending = &db->pending;
    uint32_t count = 0, dense = 0, put = pending->next;
    kv_path path;
    if (root->node == 0) return 0;
    while (put < pending->merging.count && count < KV_MERGE_RUNS && dense < DENSE_RUNS) {
        const kv_node *leaf = kv_tree_next_leaf(db->nodes, root, kv_pending_key(&pending->merging, put), &path, count == 0);
        if (leaf == NULL) break;
        uint32_t left = pending->merging.count - put;
        runs[count] = (run){leaf, put, run_length(db, root, &path, put, left < KV_MERGE_RUN_MAX ? left : KV_MERGE_RUN_MAX)};
        dense += is_dense(&runs[count]);
        put += runs[count++].count;
        if (runs[count - 1].count == KV_MERGE_RUN_MAX) break; /* what comes next may belong to the same */
    }
    return count;
}

/* In a loop of nothing else: the processor waits for as many lines at once as it has instructions in sight. */
static void fetch_all(const fetch *fetches, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (fetches[i].from < fetches[i].to) kv_node_fetch(fetches[i].leaf, fetches[i].from, fetches[i].to);
}

/* First the headers, then the slots with which the search goes on, then entries: where keys are there already, their places change.
 * A new key moves the slots behind it. */
static void fetch_leaves(const kv_pending *pending, const run *runs, uint32_t count) {
    fetch fetches[KV_MERGE_RUNS];
    for (uint32_t i = 0; i < count; i++) fetches[i] = (fetch){runs[i].leaf, 0, KV_NODE_HEADER_BYTES};
    fetch_all(fetches, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slots = runs[i].leaf->count;
        kv_slots near = {0, slots};
        if (!is_dense(&runs[i])) near = kv_node_near(runs[i].leaf, kv_pending_key(&pending->merging, runs[i].first));
        fetches[i].from = KV_SLOT_OFFSET(near.from);
        fetches[i].to = KV_SLOT_OFFSET(pending->replacing && near.to < slots ? near.to + 1 : slots);
    }
    fetch_all(fetches, count);
    for (uint32_t i = 0; i < count; i++) {
        const kv_node *leaf = runs[i].leaf;
        if (is_dense(&runs[i])) {
            fetches[i].from = pending->replacing ? leaf->heap : KV_NODE_BYTES;
            fetches[i].to = KV_NODE_BYTES;
            continue;
        }
        uint32_t index = kv_node_first_at_least(leaf, kv_pending_key(&pending->merging, runs[i].first));
        kv_slot slot = index < leaf->count ? leaf->slots[index] : (kv_slot){.offset = 0};
        fetches[i].from = slot.offset;
        fetches[i].to = slot.offset == 0 ? 0 : slot.offset + (uint32_t)sizeof(kv_place) + slot.length;
    }
    fetch_all(fetches, count);
}

/* ---- merging ---- */

static kv_status find(kv_db *db, const kv_root *root, kv_key key) {
    kv_pending *pending = &db->pending;
    kv_status status = kv_nodes_reserve(db->nodes, kv_tree_reserve(root));
    if (status != KV_OK) return status;
    if (pending->near) return kv_tree_find_next(db->nodes, root, key, &pending->path);
    pending->near = is_in_order(pending) && root->node != 0;
    return kv_tree_find(db->nodes, root, key, &pending->path);
}

/* A key that is not there and does not fit its leaf, or the tree's first: the path leads nowhere afterwards. */
static void put_one(kv_db *db, kv_root *root) {
    kv_pending *pending = &db->pending;
    kv_place none;
    kv_tree_put(db->nodes, root, &pending->path, kv_pending_key(&pending->merging, pending->next), false,
                &pending->merging.puts[pending->next].place, &none);
    pending->near = false;
    pending->next++;
}

/* As many of the next `count` puts, all of the leaf to which the path leads, as go into it. `there`: the first one's key is. */
static void put_run(kv_db *db, kv_root *root, uint32_t count, bool there) {
    kv_pending *pending = &db->pending;
    kv_node *leaf = kv_tree_own_leaf(db->nodes, root, &pending->path);
    kv_insert inserts[KV_MERGE_RUN_MAX];
    uint32_t waiting = 0, bytes = 0, at = pending->path.steps[0].index, last = at;
    for (uint32_t i = 0; i < count; i++, pending->next++, last = at) {
        kv_key key = kv_pending_key(&pending->merging, pending->next);
        const kv_place *place = &pending->merging.puts[pending->next].place;
        if (key.length < leaf->prefix) break; /* a damaged tree: to be found out */
        if (i > 0 && at < leaf->count) at = kv_node_search(leaf, key, &there);
        kv_key suffix = {key.data + leaf->prefix, key.length - leaf->prefix};
        kv_place old;
        if (there) {
            memcpy(&old, kv_payload(leaf, at), sizeof old);
            memcpy(kv_payload(leaf, at), place, sizeof *place);
        } else if (waiting > 0 && kv_compare(inserts[waiting - 1].suffix, suffix) == 0) { /* the same key was put twice */
            memcpy(&old, inserts[waiting - 1].payload, sizeof old);
            inserts[waiting - 1].payload = place;
        } else if (kv_node_has_room(leaf, waiting + 1, bytes + suffix.length)) {
            inserts[waiting++] = (kv_insert){at, suffix, place};
            bytes += suffix.length;
            continue;
        } else {
            break;
        }
        kv_live_add(db, key, &old, -1);
    }
    kv_node_insert_many(leaf, inserts, waiting);
    root->count += waiting;
    pending->replacing = waiting == 0;
    pending->path.steps[0].index = last + waiting - (waiting > 0); /* not above what comes next */
}

/* The next run, or its beginning. */
static kv_status merge_run(kv_db *db, kv_root *root, uint32_t count) {
    kv_pending *pending = &db->pending;
    kv_key key = kv_pending_key(&pending->merging, pending->next);
    bool anew = !pending->near; /* the leaf of the plan may have been split */
    kv_status status = find(db, root, key);
    bool there = status == KV_OK;
    if (!there && status != KV_NOT_FOUND) return status;
    if (anew && count > 1) count = run_length(db, root, &pending->path, pending->next, count);
    const kv_node *leaf = root->node == 0 ? NULL : kv_node_here(db->nodes, pending->path.steps[0].node);
    if (leaf == NULL || (!there && !kv_node_has_room(leaf, 1, key.length - leaf->prefix)))
        put_one(db, root);
    else
        put_run(db, root, count, there);
    if (pending->table != 0) kv_table_changed(db, root);
    return KV_OK;
}

kv_status kv_merge_some(kv_db *db, uint32_t limit) {
    kv_pending *pending = &db->pending;
    kv_live_settle(db);
    for (uint32_t merged = 0; merged < limit;) {
        if (pending->next == pending->merging.count) take_chunk(pending);
        if (pending->merging.count == 0) break;
        run runs[KV_MERGE_RUNS];
        kv_root *root;
        uint32_t before = pending->next, count = 0;
        kv_status status = kv_table_without_pending(db, pending->table, &root);
        if (status == KV_OK && is_in_order(pending)) count = plan(db, root, runs);
        fetch_leaves(pending, runs, count);
        if (status == KV_OK && count == 0) status = merge_run(db, root, 1);
        for (uint32_t i = 0; i < count && status == KV_OK && pending->next - before + merged < limit; i++) {
            uint32_t end = runs[i].first + runs[i].count;
            while (pending->next < end && status == KV_OK) status = merge_run(db, root, end - pending->next);
        }
        if (status != KV_OK) return kv_txn_fail(db, status);
        merged += pending->next - before;
    }
    return KV_OK;
}
