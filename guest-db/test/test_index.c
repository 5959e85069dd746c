/* An index that does not fit the memory for it: thousands of keys against an array, with reopening, snapshots, rolled-back
 * transactions and compaction; everything that is evicted comes back as it was. */
#include "disk.h"
#include "workload.h"

#define MANY 9000u

typedef struct model {
    uint32_t version[MANY]; /* 0: no such key */
    uint64_t present;
} model;

static bool neighbours; /* keys are in the order of their numbers, and begin with the same: most of them */

static kv_key key_of(uint32_t key, char *to) {
    if (neighbours) return (kv_key){(const uint8_t *)to, (uint32_t)sprintf(to, "%s%06u", key % 97 == 0 ? "u/" : "user:", key)};
    return (kv_key){(const uint8_t *)to, (uint32_t)sprintf(to, "%08x-%u", key * 2654435761u, key)};
}

static uint32_t length_of(uint32_t version) { return version * 37u % 90u; }

static void set(model *m, uint32_t key, uint32_t version) {
    m->present += (uint64_t)(version != 0) - (m->version[key] != 0);
    m->version[key] = version;
}

static kv_status write_one(kv_db *db, model *m, uint32_t key, uint32_t version, uint32_t flags) {
    uint8_t value[KV_INLINE_MAX];
    char name[32];
    kv_value_ref existing;
    kv_status status;
    uint32_t length = length_of(version);
    memset(value, (int)(version & 0xFF), length);
    bool in_txn = flags & KV_IN_TRANSACTION, remove = version == 0;
    if (remove && m->version[key] == 0) return KV_OK;
    do
        status = remove ? (in_txn ? kv_txn_delete(db, 0, key_of(key, name)) : kv_db_delete(db, 0, key_of(key, name), flags))
                        : (in_txn ? kv_txn_put(db, 0, key_of(key, name), value, length, 0, &existing)
                                  : kv_db_put(db, 0, key_of(key, name), value, length, flags, &existing));
    while (status == KV_AGAIN);
    set(m, key, version);
    return status == KV_NEEDS_SYNC ? kv_db_flush(db) : status;
}

static void expect(kv_db *db, const model *m, uint32_t view, uint32_t every) {
    uint64_t count;
    CHECK_EQUAL(kv_db_count(db, 0, view, &count), KV_OK);
    CHECK_EQUAL(count, m->present);
    for (uint32_t key = 0; key < MANY; key += every) {
        char name[32];
        kv_value_ref ref;
        kv_status status = kv_db_get(db, 0, key_of(key, name), view, &ref);
        CHECK_EQUAL(status, m->version[key] == 0 ? KV_NOT_FOUND : KV_OK);
        if (status == KV_OK) CHECK_EQUAL(ref.length, length_of(m->version[key]));
    }
}

/* Both ways through all keys, in batches between which others use the memory. */
static void expect_order(kv_db *db, const model *m, uint32_t view) {
    static _Alignas(8) uint8_t batch[1 << 15];
    for (uint32_t flags = 0; flags <= KV_CURSOR_REVERSE; flags += KV_CURSOR_REVERSE) {
        uint32_t handle;
        uint64_t count, seen = 0;
        uint8_t last[KV_KEY_MAX];
        uint32_t last_length = 0;
        CHECK_EQUAL(kv_cursor_open(db, 0, (kv_key){NULL, 0}, (kv_key){NULL, 0}, view, flags, &handle), KV_OK);
        do {
            CHECK_EQUAL(kv_cursor_next(db, handle, 300, batch, sizeof batch, &count), KV_OK);
            const uint8_t *at = batch;
            for (uint64_t i = 0; i < count; i++, seen++) {
                const kv_entry *entry = (const kv_entry *)(const void *)at;
                kv_key key = {at + sizeof *entry, entry->key_length}, before = {last, last_length};
                if (seen > 0) CHECK(flags ? kv_compare(key, before) < 0 : kv_compare(before, key) < 0);
                memcpy(last, key.data, last_length = key.length);
                at += entry->next;
            }
        } while (count > 0);
        CHECK_EQUAL(seen, m->present);
        CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
    }
}

/* Ranges as the index counts them, three leaves a step. */
static void expect_counts(kv_db *db, const model *m, uint32_t view) {
    for (uint32_t low = 0; low < MANY; low += MANY / 5) {
        for (uint32_t high = low; high < MANY; high += MANY / 7) {
            char start[32], stop[32];
            uint32_t handle;
            uint64_t count, total = 0, expected = 0;
            kv_key first = key_of(low, start), end = key_of(high, stop);
            for (uint32_t key = 0; key < MANY; key++) {
                char name[32];
                kv_key one = key_of(key, name);
                expected += m->version[key] != 0 && kv_compare(one, first) >= 0 && kv_compare(one, end) < 0;
            }
            CHECK_EQUAL(kv_cursor_open(db, 0, first, end, view, KV_CURSOR_HAS_START | KV_CURSOR_HAS_STOP, &handle), KV_OK);
            do {
                CHECK_EQUAL(kv_cursor_count(db, handle, 3, &count), KV_OK);
                total += count;
            } while (count > 0);
            CHECK_EQUAL(total, expected);
            CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
        }
    }
    uint32_t handle;
    uint64_t count;
    CHECK_EQUAL(kv_cursor_open(db, 0, (kv_key){NULL, 0}, (kv_key){NULL, 0}, view, KV_CURSOR_REVERSE, &handle), KV_OK);
    CHECK_EQUAL(kv_cursor_count(db, handle, 3, &count), KV_INVALID);
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
}

static void test_more_than_fits(void) {
    static model now, kept, before;
    uint64_t random = 17;
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (uint32_t round = 1; round <= 12; round++) {
        bool large = round % 3 == 1, undo = round % 4 == 2;
        uint32_t snapshot = UINT32_MAX;
        if (round % 5 == 3) {
            CHECK_EQUAL(kv_snapshot_open(db, &snapshot), KV_OK);
            kept = now;
        }
        before = now;
        if (large || undo) CHECK_EQUAL(kv_txn_begin(db) == KV_AGAIN ? kv_txn_begin(db) : KV_OK, KV_OK);
        for (uint32_t i = 0; i < (large ? 6000u : 700u); i++) {
            uint32_t key = (uint32_t)(test_random(&random) % MANY), version = test_random(&random) % 5 == 0 ? 0 : round * 7 + i % 7;
            CHECK_EQUAL(write_one(db, &now, key, version, large || undo ? KV_IN_TRANSACTION : 0), KV_OK);
        }
        if (large || undo) expect(db, &now, KV_VIEW_TRANSACTION, 13);
        if (large || undo) expect(db, &before, KV_VIEW_PUBLISHED, 13);
        if (undo) {
            CHECK_EQUAL(kv_txn_rollback(db), KV_OK);
            now = before;
        } else if (large) {
            kv_status status = kv_txn_commit(db, KV_DURABLE);
            CHECK(status == KV_NEEDS_SYNC);
        }
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        expect(db, &now, KV_VIEW_PUBLISHED, 1);
        if (snapshot != UINT32_MAX) {
            expect(db, &kept, KV_VIEW_SNAPSHOT + snapshot, 3);
            expect_order(db, &kept, KV_VIEW_SNAPSHOT + snapshot);
            expect_counts(db, &kept, KV_VIEW_SNAPSHOT + snapshot);
            CHECK_EQUAL(kv_snapshot_close(db, snapshot), KV_OK);
        }
        if (round % 2 == 0) expect_order(db, &now, KV_VIEW_PUBLISHED);
        if (round % 4 == 0) expect_counts(db, &now, KV_VIEW_PUBLISHED);
        check_clean(db, "more than fits");
        if (round == 7) CHECK_EQUAL(compact_database(db), KV_OK);
        if (round % 3 == 2) {
            if (round % 2) close_cleanly(db); else kv_db_free(db);
            db = open_database(KV_OPEN_READ_ONLY);
            expect(db, &now, KV_VIEW_PUBLISHED, 5);
            kv_db_free(db);
            db = open_database(0);
            expect(db, &now, KV_VIEW_PUBLISHED, 1);
            check_clean(db, "more than fits, reopened");
        }
    }
    kv_guest_stats_result stats;
    CHECK_EQUAL(kv_db_stats(db, &stats), KV_OK);
    fprintf(stderr, "    %llu nodes, %llu in memory, %llu read, %llu evicted\n", (unsigned long long)stats.index_nodes,
            (unsigned long long)stats.cached_nodes, (unsigned long long)stats.node_loads,
            (unsigned long long)db->nodes->evictions);
    CHECK(db->nodes->evictions > 1000 && stats.cached_nodes < stats.index_nodes);
    close_cleanly(db);
}

/* The keys of a range, all of them: some 30 of the model's. */
static void delete_some(kv_db *db, model *m, uint32_t from) {
    char start[32], stop[32], name[32];
    uint64_t count;
    kv_key first = key_of(from, start), end = {(const uint8_t *)stop, (uint32_t)sprintf(stop, "%08x", from * 2654435761u + (1u << 24))};
    if (kv_compare(first, end) >= 0) return;
    CHECK_EQUAL(kv_txn_delete_range(db, 0, first, &end, MANY, &count), KV_OK);
    for (uint32_t key = 0; key < MANY; key++) {
        kv_key one = key_of(key, name);
        if (kv_compare(one, first) >= 0 && kv_compare(one, end) < 0) set(m, key, 0);
    }
}

static kv_key neighbour_of(uint32_t key, uint32_t n, char *to) {
    uint32_t length = key_of(key, to).length;
    return (kv_key){(const uint8_t *)to, length + (uint32_t)sprintf(to + length, "+%u", n)};
}

/* Transactions whose puts belong to a few leaves, which they fill, split and fill again. */
static void batches_of_neighbours(uint64_t random) {
    static model now, before;
    memset(&now, 0, sizeof now);
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (uint32_t round = 1; round <= 24; round++) {
        uint32_t first = round % 3 == 0 ? 0 : (uint32_t)(test_random(&random) % 600), span = 40 + (uint32_t)(test_random(&random) % 300);
        uint32_t puts = 1 + (uint32_t)(test_random(&random) % (round % 4 == 1 ? 300 : 60));
        bool undo = round % 7 == 3, in_order = round % 5 == 1;
        before = now;
        CHECK_EQUAL(kv_txn_begin(db) == KV_AGAIN ? kv_txn_begin(db) : KV_OK, KV_OK);
        for (uint32_t i = 0; i < puts; i++) {
            uint32_t key = first + (in_order ? i * span / puts : (uint32_t)(test_random(&random) % span));
            if (round <= 5 && key % 97 == 0) key++; /* at first they all begin with the same */
            CHECK_EQUAL(write_one(db, &now, key, round * 7 + i % 7, KV_IN_TRANSACTION), KV_OK);
        }
        if (round % 3 == 0) expect(db, &now, KV_VIEW_TRANSACTION, 1);
        kv_status status = undo ? kv_txn_rollback(db) : kv_txn_commit(db, 0);
        CHECK(status == KV_OK || (!undo && status == KV_NEEDS_SYNC));
        if (undo) now = before;
        if (db->flush_wanted || status == KV_NEEDS_SYNC) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    expect(db, &now, KV_VIEW_PUBLISHED, 1);
    expect_order(db, &now, KV_VIEW_PUBLISHED);
    check_clean(db, "after neighbours");
    close_cleanly(db);
}

static void test_batches_of_neighbours(void) {
    neighbours = true;
    for (uint64_t seed = 1; seed <= 80; seed++) batches_of_neighbours(seed);
    neighbours = false;
}

/* Deletes leave it to what comes next to count what they removed, whatever that is: every count is right afterwards. */
static void test_what_deletes_leave_to_be_counted(void) {
    static model now, before, outer;
    uint64_t random = 23, left = 0, evictions_meanwhile = 0;
    char name[32];
    kv_value_ref existing;
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (uint32_t round = 0; round < 24; round++) {
        before = now;
        CHECK_EQUAL(kv_txn_begin(db) == KV_AGAIN ? kv_txn_begin(db) : KV_OK, KV_OK);
        for (uint32_t key = 0; key < MANY; key++)
            if (now.version[key] == 0) CHECK_EQUAL(write_one(db, &now, key, round + 1, KV_IN_TRANSACTION), KV_OK);
        bool within = false;
        for (uint32_t i = 0; i < 400; i++) {
            uint32_t key = (uint32_t)(test_random(&random) % MANY);
            CHECK_EQUAL(write_one(db, &now, key, 0, KV_IN_TRANSACTION), KV_OK);
            left += db->nodes->removed_count > 0;
            uint64_t evictions = db->nodes->evictions;
            uint32_t what = (uint32_t)(test_random(&random) % 40);
            if (what == 0) expect(db, &now, KV_VIEW_TRANSACTION, 97);
            if (what == 1) CHECK_EQUAL(write_one(db, &now, (uint32_t)(test_random(&random) % MANY), 99, KV_IN_TRANSACTION), KV_OK);
            if (what == 5) delete_some(db, &now, key);
            for (uint32_t n = 0; what == 6 && n < 40; n++) /* until the leaf closes its gaps, or is split */
                CHECK_EQUAL(kv_txn_put(db, 0, neighbour_of(key, n, name), NULL, 0, KV_NO_OVERWRITE, &existing), KV_OK);
            for (uint32_t n = 0; what == 6 && n < 40; n++) CHECK_EQUAL(kv_txn_delete(db, 0, neighbour_of(key, n, name)), KV_OK);
            if (what == 2 && !within) {
                CHECK_EQUAL(kv_savepoint_begin(db), KV_OK);
                outer = now;
                within = true;
            } else if (what <= 4 && within) {
                CHECK_EQUAL(what == 3 ? kv_savepoint_roll_back(db) : kv_savepoint_release(db), KV_OK);
                if (what == 3) now = outer;
                within = false;
            }
            evictions_meanwhile += db->nodes->removed_count > 0 ? db->nodes->evictions - evictions : 0;
        }
        if (round % 4 == 3) {
            CHECK_EQUAL(kv_txn_rollback(db), KV_OK);
            now = before;
        } else {
            CHECK_EQUAL(kv_txn_commit(db, KV_DURABLE), KV_NEEDS_SYNC);
        }
        CHECK_EQUAL(db->nodes->removed_count, 0);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        check_clean(db, "deletes");
    }
    expect(db, &now, KV_VIEW_PUBLISHED, 1);
    CHECK(left > 1000 && evictions_meanwhile > 100);
    close_cleanly(db);
}

/* A leaf whose prefix fills it never becomes so small that it joins another, and so is there, empty, when a drop frees it. */
static void test_a_drop_after_deletes_of_long_keys(void) {
    enum { SHARED = 950, LONG_KEYS = 400 };
    char name[SHARED + 8];
    kv_key key = {(const uint8_t *)name, SHARED + 6};
    memset(name, 'k', SHARED);
    for (uint32_t tail = 0; tail <= 64; tail += tail < 20 ? 1 : 11) {
        disk_reset();
        kv_db *db = open_database(KV_OPEN_CREATE);
        uint32_t table;
        CHECK_EQUAL(kv_txn_begin(db) == KV_AGAIN ? kv_txn_begin(db) : KV_OK, KV_OK);
        CHECK_EQUAL(kv_table_create(db, (kv_key){(const uint8_t *)"t", 1}, &table), KV_OK);
        for (uint32_t i = 0; i < LONG_KEYS; i++) {
            (void)sprintf(name + SHARED, "%06u", i);
            CHECK_EQUAL(kv_txn_put(db, table, key, NULL, 0, 0, NULL), KV_OK);
        }
        CHECK_EQUAL(kv_txn_commit(db, KV_DURABLE), KV_NEEDS_SYNC);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        CHECK_EQUAL(kv_txn_begin(db) == KV_AGAIN ? kv_txn_begin(db) : KV_OK, KV_OK);
        for (uint32_t i = LONG_KEYS - tail; i < LONG_KEYS; i++) {
            (void)sprintf(name + SHARED, "%06u", i);
            CHECK_EQUAL(kv_txn_delete(db, table, key), KV_OK);
        }
        kv_status status = KV_AGAIN;
        for (uint32_t i = 0; i < LONG_KEYS && status == KV_AGAIN; i++) status = kv_table_drop(db, (kv_key){(const uint8_t *)"t", 1});
        CHECK_EQUAL(status, KV_OK);
        CHECK_EQUAL(kv_txn_commit(db, KV_DURABLE), KV_NEEDS_SYNC);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        check_clean(db, "a drop after deletes");
        close_cleanly(db);
    }
}

/* Opening reads no leaf: a database that was closed cleanly costs as many reads with many keys as with few. */
static void test_opening_reads_little(void) {
    static model now;
    uint64_t reads[2];
    for (int i = 0; i < 2; i++) {
        disk_reset();
        memset(&now, 0, sizeof now);
        kv_db *db = open_database(KV_OPEN_CREATE);
        for (uint32_t key = 0; key < (i ? MANY : 60u); key++) CHECK_EQUAL(write_one(db, &now, key, 3, 0), KV_OK);
        close_cleanly(db);
        disk_fail(UINT64_MAX, 0, false, true);
        db = open_database(KV_OPEN_READ_ONLY);
        reads[i] = disk_operations();
        disk_heal();
        expect(db, &now, KV_VIEW_PUBLISHED, 7);
        kv_db_free(db);
    }
    fprintf(stderr, "    %llu reads with 60 keys, %llu with %u\n", (unsigned long long)reads[0], (unsigned long long)reads[1], MANY);
    CHECK(reads[1] < reads[0] + 60);
}

/* A new database with MANY keys. */
static kv_db *filled(model *now) {
    disk_reset();
    memset(now, 0, sizeof *now);
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (uint32_t key = 0; key < MANY; key++) CHECK_EQUAL(write_one(db, now, key, 3, 0), KV_OK);
    return db;
}

/* How many sectors of the index somebody has looked at. */
static uint32_t looked_at(const kv_nodes *nodes, uint32_t *sectors) {
    uint32_t looked = *sectors = 0;
    for (uint32_t i = 0; i < nodes->sector_count; i++) {
        *sectors += nodes->sectors[i].bytes != NULL;
        looked += nodes->sectors[i].made != NULL;
    }
    return looked;
}

/* So that nothing is replayed when it is opened. */
static void finish_checkpoint(kv_db *db) {
    while (db->tail_records > 0) {
        kv_status status;
        while ((status = kv_checkpoint_finish(db)) == KV_AGAIN) {}
        CHECK_EQUAL(status, KV_OK);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
}

/* Opening makes nothing of a sector's pages before one of them is needed; what is in use and what is free is known all the same. */
static void test_pages_are_looked_at_when_needed(void) {
    static model now;
    kv_db *db = filled(&now);
    for (uint32_t key = 0; key < MANY; key += 7) CHECK_EQUAL(write_one(db, &now, key, 5, 0), KV_OK);
    uint32_t sectors, known, in_use = 0;
    finish_checkpoint(db);
    close_cleanly(db);
    db = open_database(0);
    CHECK_EQUAL(looked_at(db->nodes, &sectors), 0);
    CHECK(sectors >= 6);
    known = db->nodes->pages_in_use;
    for (uint32_t sector = 0; sector < db->nodes->sector_count; sector++)
        if (db->nodes->sectors[sector].bytes != NULL)
            for (uint32_t i = 1; i < 1u << db->nodes->shift; i++)
                in_use += kv_nodes_in_use(db->nodes, (sector << db->nodes->shift) + i + KV_FIRST_PAGE);
    CHECK(in_use > 100 && in_use <= known); /* those of the other slot's checkpoint are kept beside */
    check_clean(db, "before anything was looked at");
    kv_db_free(db);

    db = open_database(0); /* free pages in sectors that nobody has looked at are used before the file grows */
    uint64_t size = db->file->sector_count;
    for (uint32_t key = 0; key < 200; key++) CHECK_EQUAL(write_one(db, &now, key, 9, 0), KV_OK);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK(db->file->sector_count <= size + 3);
    expect(db, &now, KV_VIEW_PUBLISHED, 7);
    check_clean(db, "after some was");
    close_cleanly(db);
}

/* What `check` says first; 0: nothing. */
static uint32_t first_problem(kv_db *db) {
    kv_problem problems[8];
    uint64_t count;
    kv_status status;
    uint32_t detail = 0;
    CHECK_EQUAL(kv_check_begin(db), KV_OK);
    do {
        status = kv_check_step(db, problems, 8, &count);
        if (count > 0 && detail == 0) detail = problems[0].detail;
    } while (status == KV_AGAIN);
    CHECK_EQUAL(status, KV_OK);
    return detail;
}

/* A page or a sector that nobody has any more, or that two have, is told. */
static void test_lost_space_is_told(void) {
    static model now;
    kv_db *db = filled(&now);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    while (db->checkpoint.phase != KV_CHECKPOINT_IDLE) {
        while (kv_checkpoint_finish(db) == KV_AGAIN) {}
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    CHECK_EQUAL(first_problem(db), 0);
    kv_page_list *pages = &db->nodes->free;
    CHECK(pages->count > 2);
    uint32_t page = pages->pages[--pages->count];
    CHECK_EQUAL(first_problem(db), KV_DETAIL_PAGES);
    pages->pages[pages->count++] = pages->pages[0]; /* and another twice */
    CHECK_EQUAL(first_problem(db), KV_DETAIL_INDEX);
    pages->pages[pages->count - 1] = page;
    CHECK_EQUAL(first_problem(db), 0);
    kv_sector_list *sectors = &db->file->free;
    CHECK(kv_sector_list_count(sectors) > 0);
    sectors->first++;
    CHECK_EQUAL(first_problem(db), KV_DETAIL_PAGES);
    sectors->first--;
    CHECK_EQUAL(first_problem(db), 0);
    close_cleanly(db);
}

/* The older superblock, whole by its checksum, speaks of a map that cannot be: it is of no use to anybody, and does no harm. */
static void test_an_older_map_that_cannot_be(void) {
    static model now;
    for (int how = 0; how < 2; how++) {
        kv_db *db = filled(&now);
        close_cleanly(db);
        size_t size;
        uint8_t *file = disk_bytes(DATABASE, &size), *other = file + KV_SUPERBLOCK_SLOT;
        CHECK(kv_load64(file + KV_SB_MAP_SECTORS) > 0 && kv_load64(other + KV_SB_MAP_SECTORS) > 0);
        if (kv_load64(file + KV_SB_SEQUENCE) < kv_load64(other + KV_SB_SEQUENCE)) other = file;
        kv_store32(other + (how == 0 ? KV_SB_MAP_PAGE : KV_SB_MAP_PAGES), how == 0 ? 0 : UINT32_MAX);
        kv_store64(other + KV_SB_SUM, kv_xxh64(other + 8, KV_SUPERBLOCK_BYTES - 8, 0));
        db = open_database(0);
        expect(db, &now, KV_VIEW_PUBLISHED, 7);
        for (uint32_t key = 0; key < 500; key++) CHECK_EQUAL(write_one(db, &now, key, 5, 0), KV_OK);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        expect(db, &now, KV_VIEW_PUBLISHED, 7);
        close_cleanly(db);
    }
}

static uint32_t leaf_of(kv_db *db, kv_key key) {
    kv_path path;
    CHECK_EQUAL(kv_nodes_ready(db->nodes, KV_HEIGHT_MAX), KV_OK);
    CHECK_EQUAL(kv_tree_find(db->nodes, &db->head.main, key, &path), KV_OK);
    return path.steps[0].node;
}

/* A leaf that the map calls free is damage: it could be given out while the way that leads to it is being changed. */
static void test_a_page_that_is_free_is_no_leaf(void) {
    static model now;
    char names[2][16];
    const uint8_t byte = 1;
    kv_value_ref ref;
    kv_db *db = filled(&now);
    finish_checkpoint(db);
    kv_key key = key_of(0, names[0]), other = key;
    uint32_t leaf = leaf_of(db, key), index = (leaf - KV_FIRST_PAGE) & ((1u << db->nodes->shift) - 1);
    for (uint32_t i = 1; leaf_of(db, other) == leaf; i++) other = key_of(i, names[1]);
    close_cleanly(db);

    db = open_database(0);
    kv_pages *s = &db->nodes->sectors[(leaf - KV_FIRST_PAGE) >> db->nodes->shift];
    CHECK(s->used != NULL && s->used[index / 8] >> index % 8 & 1);
    ((uint8_t *)(uintptr_t)s->used)[index / 8] ^= (uint8_t)(1u << index % 8);
    s->kept = NULL; /* nor does the older checkpoint have it */
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_CORRUPT);
    CHECK_EQUAL(db->error.detail, KV_DETAIL_INDEX);
    CHECK_EQUAL(db->error.offset, (uint64_t)leaf * KV_PAGE_BYTES);
    CHECK_EQUAL(kv_db_put(db, 0, key, &byte, 1, 0, &ref), KV_CORRUPT);
    CHECK_EQUAL(kv_db_delete(db, 0, key, 0), KV_CORRUPT);
    CHECK_EQUAL(kv_db_put(db, 0, other, &byte, 1, 0, &ref), KV_OK); /* the rest is whole */
    kv_db_free(db);
}

int main(void) {
    RUN(test_more_than_fits);
    RUN(test_batches_of_neighbours);
    RUN(test_what_deletes_leave_to_be_counted);
    RUN(test_a_drop_after_deletes_of_long_keys);
    RUN(test_opening_reads_little);
    RUN(test_pages_are_looked_at_when_needed);
    RUN(test_lost_space_is_told);
    RUN(test_an_older_map_that_cannot_be);
    RUN(test_a_page_that_is_free_is_no_leaf);
    disk_reset();
    return 0;
}
