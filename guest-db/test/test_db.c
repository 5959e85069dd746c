/* The database against its history: reopening after a clean close and after none, compaction, snapshots, arguments. */
#include "disk.h"
#include "workload.h"

static void nothing(uint32_t commit) { (void)commit; }

static void close_database(kv_db *db) { close_cleanly(db); }

static void compact(kv_db *db) {
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK_EQUAL(compact_database(db), KV_OK);
}

static void run_history(uint64_t seed, bool durable) {
    disk_reset();
    history h;
    history_begin(&h, seed, true);
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 12; i++) {
            CHECK_EQUAL(commit_random(db, &h, durable, nothing), KV_OK);
            if (durable) CHECK_EQUAL(kv_db_flush(db), KV_OK);
            find_commit(db, &h, h.commits, h.commits, "after a commit");
        }
        if (round % 9 == 4) compact(db);
        if (round % 3 == 2) check_clean(db, "while open");
        if (round % 2 == 0)
            close_database(db);
        else
            kv_db_free(db); /* as after kill -9: all that was written is there */
        size_t size, size_after;
        uint8_t *before = disk_bytes(DATABASE, &size), *copy = malloc(size);
        memcpy(copy, before, size);
        db = open_database(KV_OPEN_READ_ONLY);
        find_commit(db, &h, h.commits, h.commits, "opened read-only");
        kv_db_free(db);
        before = disk_bytes(DATABASE, &size_after);
        CHECK(size == size_after && memcmp(copy, before, size) == 0);
        free(copy);
        db = open_database(0);
        find_commit(db, &h, h.commits, h.commits, "reopened");
        check_clean(db, "reopened");
    }
    close_database(db);
    history_free(&h);
}

/* Under overwriting the file stays within twice its live data and a reserve, whoever reopens it and however. */
static void space_is_used_again(bool durable, bool reopening, bool large) {
    disk_reset();
    history h;
    history_begin(&h, 41, large);
    h.medium = !large;
    kv_db *db = open_database(KV_OPEN_CREATE);
    uint64_t most = 0, written = 0;
    kv_guest_stats_result stats = {0};
    for (int i = 0; i < 600; i++) {
        uint64_t before = kv_log_position(db->file);
        CHECK_EQUAL(commit_random(db, &h, durable, nothing), KV_OK);
        written += kv_log_position(db->file) > before ? kv_log_position(db->file) - before : 0;
        if (durable || i % 16 == 15 || db->flush_wanted) CHECK_EQUAL(kv_db_flush(db), KV_OK);
        CHECK_EQUAL(kv_db_stats(db, &stats), KV_OK);
        if (stats.file_bytes > most) most = stats.file_bytes;
        if (i % 50 == 49) find_commit(db, &h, h.commits, h.commits, "while collecting");
        if (!reopening || i % 40 != 39) continue;
        check_clean(db, "while collecting");
        if (i % 80 == 39)
            close_database(db);
        else
            kv_db_free(db);
        db = open_database(0);
        find_commit(db, &h, h.commits, h.commits, "reopened while collecting");
        check_clean(db, "reopened while collecting");
    }
    fprintf(stderr, "    file at most %llu KiB for %llu KiB of live data; %llu KiB written\n", (unsigned long long)most >> 10,
            (unsigned long long)stats.live_bytes >> 10, (unsigned long long)written >> 10);
    CHECK(stats.erase_max >= 3);
    uint64_t reserve = 24; /* sectors: the index, what is spared, and what waits for the next checkpoint */
    if (large) reserve += 8 + 2 * KEYS;  /* a large value may take two sectors, most of them empty */
    CHECK(most <= 2 * stats.live_bytes + reserve * KV_SECTOR_BYTES_MIN);
    CHECK(2 * written > 3 * most);
    close_database(db);
    history_free(&h);
}

static void test_space_is_used_again(void) {
    for (int how = 0; how < 8; how++) space_is_used_again(how & 1, how & 2, how & 4);
}

/* A cursor keeps the sectors that its version refers to. */
static void test_a_cursor_keeps_its_sectors(void) {
    disk_reset();
    history h;
    history_begin(&h, 42, false);
    h.medium = true;
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (int i = 0; i < 100; i++) CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    const kv_key none = {NULL, 0};
    uint32_t handle, kept = h.commits;
    CHECK_EQUAL(kv_cursor_open(db, 0, none, none, KV_VIEW_PUBLISHED, 0, &handle), KV_OK);
    for (int i = 0; i < 200; i++) {
        CHECK_EQUAL(commit_random(db, &h, true, nothing), KV_OK);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    static _Alignas(8) uint8_t batch[1 << 16];
    static uint8_t value[KV_INLINE_MAX], expected[KV_INLINE_MAX];
    uint64_t count, seen = 0;
    CHECK_EQUAL(kv_cursor_next(db, handle, KEYS, batch, sizeof batch, &count), KV_OK);
    for (const uint8_t *at = batch; seen < count; seen++) {
        const kv_entry *entry = (const kv_entry *)(const void *)at;
        char name[8] = {0};
        memcpy(name, at + sizeof *entry, entry->key_length);
        uint32_t number = h.after[kept].values[(uint32_t)atoi(name + 1)];
        CHECK_EQUAL(entry->value.length, value_length(number));
        CHECK_EQUAL(kv_file_read(db->file, entry->value.offset, value, entry->value.length), KV_OK);
        value_bytes(number, expected, 0, entry->value.length);
        CHECK(memcmp(value, expected, entry->value.length) == 0);
        at += entry->next;
    }
    CHECK(seen > 8);
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
    for (int i = 0; i < 200; i++) {
        CHECK_EQUAL(commit_random(db, &h, true, nothing), KV_OK);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    kv_guest_stats_result stats;
    CHECK_EQUAL(kv_db_stats(db, &stats), KV_OK);
    CHECK(stats.erase_max > 0);
    close_database(db);
    history_free(&h);
}

static void test_histories(void) {
    for (uint64_t seed = 1; seed <= 3; seed++) {
        run_history(seed, true);
        run_history(seed + 100, false);
    }
}

static void test_what_is_not_durable_is_not_seen(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    kv_key key = {(const uint8_t *)"a", 1};
    kv_value_ref ref;
    CHECK_EQUAL(kv_db_put(db, 0, key, (const uint8_t *)"1", 1, KV_DURABLE, &ref), KV_NEEDS_SYNC);
    uint64_t first = db->position;
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_NOT_FOUND);
    CHECK_EQUAL(kv_db_sync_begin(db), KV_NEEDS_SYNC);
    CHECK_EQUAL(db->position, first);
    /* a commit while the flush runs is not covered by it */
    CHECK_EQUAL(kv_db_put(db, 0, key, (const uint8_t *)"22", 2, KV_DURABLE, &ref), KV_NEEDS_SYNC);
    CHECK_EQUAL(kv_db_synced(db, first), KV_OK);
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_OK);
    CHECK_EQUAL(ref.length, 1);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_OK);
    CHECK_EQUAL(ref.length, 2);
    /* one that need not be durable is seen at once, but never before an earlier one that must */
    CHECK_EQUAL(kv_db_put(db, 0, key, (const uint8_t *)"333", 3, 0, &ref), KV_OK);
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_OK);
    CHECK_EQUAL(ref.length, 3);
    CHECK_EQUAL(kv_db_delete(db, 0, key, KV_DURABLE), KV_NEEDS_SYNC);
    CHECK_EQUAL(kv_db_put(db, 0, key, (const uint8_t *)"4444", 4, 0, &ref), KV_NEEDS_SYNC);
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_OK);
    CHECK_EQUAL(ref.length, 3);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_OK);
    CHECK_EQUAL(ref.length, 4);
    uint32_t pins = 0; /* those of the two superblock slots are left */
    for (uint32_t i = 0; i < KV_PINS_MAX; i++) pins += db->nodes->pins[i].epoch != 0;
    CHECK_EQUAL(pins, 2);
    close_database(db);
}

static void test_a_failed_flush_poisons(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    kv_key key = {(const uint8_t *)"a", 1};
    kv_value_ref ref;
    CHECK_EQUAL(kv_db_put(db, 0, key, (const uint8_t *)"1", 1, KV_DURABLE, &ref), KV_NEEDS_SYNC);
    disk_fail(0, 5, false, false);
    CHECK_EQUAL(kv_db_flush(db), KV_IO);
    CHECK_EQUAL(db->error.os_error, 5);
    CHECK_EQUAL(kv_db_flush(db), KV_POISONED);
    CHECK_EQUAL(kv_db_put(db, 0, key, (const uint8_t *)"1", 1, KV_DURABLE, &ref), KV_POISONED);
    CHECK_EQUAL(kv_db_get(db, 0, key, KV_VIEW_PUBLISHED, &ref), KV_POISONED);
    CHECK_EQUAL(kv_txn_begin(db), KV_POISONED);
    CHECK_EQUAL(kv_db_close_mark(db), KV_POISONED);
    kv_db_free(db);
}

static void test_arguments(void) {
    disk_reset();
    kv_db *db;
    CHECK_EQUAL(try_open(0, &db), KV_NO_SUCH_FILE);
    CHECK_EQUAL(try_open(KV_OPEN_READ_ONLY, &db), KV_NO_SUCH_FILE);
    disk_put(DATABASE, (const uint8_t *)"hello", 5);
    CHECK_EQUAL(try_open(KV_OPEN_CREATE, &db), KV_NOT_A_DATABASE);
    disk_put(DATABASE, NULL, 0);
    CHECK_EQUAL(try_open(KV_OPEN_CREATE, &db), KV_NOT_A_DATABASE);
    db = open_database(KV_OPEN_REPLACE);
    uint8_t key[KV_KEY_MAX + 1] = {0};
    kv_value_ref ref;
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, 0}, key, 1, 0, &ref), KV_KEY_EMPTY);
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, KV_KEY_MAX + 1}, key, 1, 0, &ref), KV_KEY_TOO_LARGE);
    CHECK_EQUAL(kv_db_get(db, 0, (kv_key){key, 0}, 0, &ref), KV_KEY_EMPTY);
    CHECK_EQUAL(kv_db_get(db, 0, (kv_key){key, KV_KEY_MAX + 1}, 0, &ref), KV_KEY_TOO_LARGE);
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, KV_KEY_MAX}, key, 1, 0, &ref), KV_OK);
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, KV_KEY_MAX}, key, 1, KV_NO_OVERWRITE, &ref), KV_EXISTS);
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, 1}, key, KV_INLINE_MAX + 1, 0, &ref), KV_VALUE_TOO_LARGE);
    CHECK_EQUAL(kv_db_delete(db, 0, (kv_key){key, 1}, 0), KV_NOT_FOUND);
    CHECK_EQUAL(kv_txn_commit(db, 0), KV_NO_TRANSACTION);
    CHECK_EQUAL(kv_txn_rollback(db), KV_NO_TRANSACTION);
    CHECK_EQUAL(kv_txn_begin(db), KV_OK);
    CHECK_EQUAL(kv_txn_begin(db), KV_BUSY);
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, 1}, key, 1, 0, &ref), KV_BUSY);
    CHECK_EQUAL(kv_compact_begin(db), KV_BUSY);
    CHECK_EQUAL(kv_value_begin(db, 0, (kv_key){key, 1}, KV_VALUE_MAX + 1, 0), KV_VALUE_TOO_LARGE);
    CHECK_EQUAL(kv_value_chunk(db, key, 1), KV_INVALID);
    CHECK_EQUAL(kv_txn_commit(db, 0), KV_OK);
    kv_db_free(db);
    db = open_database(KV_OPEN_READ_ONLY);
    CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key, 1}, key, 1, 0, &ref), KV_READ_ONLY);
    CHECK_EQUAL(kv_txn_begin(db), KV_READ_ONLY);
    kv_db_free(db);
}

/* Each step of a compaction tells which records the next one reads: of all entries, each once and in order. */
static void test_a_compaction_tells_what_it_reads_next(void) {
    enum { MANY = 3 * KV_COMPACT_ENTRIES_A_STEP + 7 };
    static kv_value_ref refs[KV_COMPACT_ENTRIES_A_STEP];
    char key[16];
    kv_value_ref ref;
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    CHECK_EQUAL(kv_compact_ahead(db, refs), 0);
    CHECK_EQUAL(kv_txn_begin(db), KV_OK);
    for (uint32_t i = 0; i < MANY; i++) { /* 7 has no common divisor with their number: out of order */
        (void)sprintf(key, "%06u", i * 7 % MANY);
        CHECK_EQUAL(kv_txn_put(db, 0, (kv_key){(const uint8_t *)key, 6}, NULL, 0, 0, &ref), KV_OK);
    }
    CHECK_EQUAL(kv_txn_commit(db, 0), KV_OK);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK_EQUAL(kv_compact_begin(db), KV_OK);
    uint32_t told = 0, before = 0, count;
    while ((count = kv_compact_ahead(db, refs)) > 0) {
        for (uint32_t i = 0; i < count; i++, told++) {
            uint8_t bytes[KV_RECORD_HEADER_BYTES + 6];
            CHECK_EQUAL(refs[i].length, sizeof bytes);
            CHECK_EQUAL(kv_file_read(db->file, refs[i].offset, bytes, sizeof bytes), KV_OK);
            CHECK(memcmp(bytes + KV_RECORD_HEADER_BYTES, key, (size_t)sprintf(key, "%06u", told)) == 0);
        }
        CHECK_EQUAL(db->compaction.target->head.main.count, before);
        CHECK_EQUAL(kv_compact_step(db, 0), KV_AGAIN);
        CHECK_EQUAL(db->compaction.target->head.main.count, before += count);
    }
    CHECK_EQUAL(told, MANY);
    CHECK_EQUAL(kv_compact_abort(db), KV_OK);
    close_database(db);
}

static void test_cursors_keep_their_version(void) {
    disk_reset();
    history h;
    history_begin(&h, 5, false);
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (int i = 0; i < 50; i++) CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
    uint64_t keys = db->head.main.count, batch, seen = 0;
    uint32_t handle;
    CHECK_EQUAL(kv_cursor_open(db, 0, (kv_key){NULL, 0}, (kv_key){NULL, 0}, 0, KV_CURSOR_REVERSE, &handle), KV_OK);
    static _Alignas(8) uint8_t buffer[1 << 16];
    do {
        CHECK_EQUAL(kv_cursor_next(db, handle, 2, buffer, sizeof buffer, &batch), KV_OK);
        seen += batch;
        CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
        if (seen == 6) compact(db);
    } while (batch > 0);
    CHECK_EQUAL(seen, keys);
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_INVALID);
    find_commit(db, &h, h.commits, h.commits, "after the cursor");
    close_database(db);
    history_free(&h);
}

/* The hash must not show a transaction's records before they are published, nor ever when it was rolled back. */
static void test_readers_between_a_large_commit_and_its_flush(void) {
    disk_reset();
    history h;
    history_begin(&h, 77, false);
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (int round = 0; round < 300; round++) {
        uint32_t seen = h.commits;
        CHECK_EQUAL(commit_random(db, &h, true, nothing), KV_OK);
        find_commit(db, &h, seen, seen, "before the flush");
        if (round % 3 == 0) {
            CHECK_EQUAL(commit_random(db, &h, true, nothing), KV_OK);
            find_commit(db, &h, seen, seen, "before the flush of both");
        }
        if (kv_db_sync_begin(db) == KV_OK) continue; /* it changed nothing */
        uint64_t position = db->position;
        uint32_t flushed = h.commits;
        if (round % 5 == 0) CHECK_EQUAL(commit_random(db, &h, true, nothing), KV_OK);
        find_commit(db, &h, seen, seen, "while the flush runs");
        CHECK_EQUAL(kv_db_synced(db, position), KV_OK);
        find_commit(db, &h, flushed, flushed, "after the flush");
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        find_commit(db, &h, h.commits, h.commits, "after all");
    }
    kv_db_free(db);
    history_free(&h);
}

static void test_cursors_of_a_transaction_are_closed_with_it(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    const kv_key none = {NULL, 0};
    uint32_t handle;
    uint64_t count;
    static _Alignas(8) uint8_t buffer[4096];
    for (uint32_t i = 0; i < KV_CURSORS_MAX + 8; i++) { /* none is left behind */
        CHECK_EQUAL(kv_txn_begin(db), KV_OK);
        CHECK_EQUAL(kv_cursor_open(db, 0, none, none, KV_VIEW_TRANSACTION, 0, &handle), KV_OK);
        CHECK_EQUAL(i % 2 ? kv_txn_commit(db, 0) : kv_txn_rollback(db), KV_OK);
        CHECK_EQUAL(kv_cursor_next(db, handle, 1, buffer, sizeof buffer, &count), KV_INVALID);
    }
    CHECK_EQUAL(db->cursor_count, 0);
    kv_db_free(db);
}

static kv_key numbered(char name[8], uint32_t number) {
    return (kv_key){(const uint8_t *)name, (uint32_t)snprintf(name, 8, "%04u", number)};
}

static void begin(kv_db *db) {
    kv_status status;
    while ((status = kv_txn_begin(db)) == KV_AGAIN) continue;
    CHECK_EQUAL(status, KV_OK);
}

static void test_ranges_are_deleted(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    char first[8], last[8];
    kv_value_ref ref;
    begin(db);
    for (uint32_t number = 0; number < 3000; number++)
        CHECK_EQUAL(kv_txn_put(db, 0, numbered(first, number), (const uint8_t *)"v", 1, 0, &ref), KV_OK);
    CHECK_EQUAL(kv_txn_commit(db, KV_DURABLE), KV_NEEDS_SYNC);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    uint64_t count;
    kv_key start = numbered(first, 500), stop = numbered(last, 1500);
    CHECK_EQUAL(kv_txn_delete_range(db, 0, start, &stop, 10, &count), KV_NO_TRANSACTION);
    begin(db);
    CHECK_EQUAL(kv_txn_delete_range(db, 0, start, &stop, 600, &count), KV_OK);
    CHECK_EQUAL(count, 600);
    CHECK_EQUAL(kv_txn_delete_range(db, 0, start, &stop, 600, &count), KV_OK);
    CHECK_EQUAL(count, 400);
    CHECK_EQUAL(kv_txn_delete_range(db, 0, start, &stop, 600, &count), KV_OK);
    CHECK_EQUAL(count, 0);
    start = numbered(first, 2990); /* and one that was put just now */
    CHECK_EQUAL(kv_txn_put(db, 0, numbered(last, 9999), (const uint8_t *)"v", 1, 0, &ref), KV_OK);
    CHECK_EQUAL(kv_txn_delete_range(db, 0, start, NULL, 600, &count), KV_OK);
    CHECK_EQUAL(count, 11);
    CHECK_EQUAL(kv_txn_delete_range(db, 7, start, NULL, 600, &count), KV_NO_SUCH_TABLE);
    CHECK_EQUAL(kv_txn_commit(db, KV_DURABLE), KV_NEEDS_SYNC);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    for (uint32_t number = 0; number < 3000; number++) {
        bool gone = (number >= 500 && number < 1500) || number >= 2990;
        CHECK_EQUAL(kv_db_get(db, 0, numbered(first, number), KV_VIEW_PUBLISHED, &ref), gone ? KV_NOT_FOUND : KV_OK);
    }
    CHECK_EQUAL(kv_db_count(db, 0, KV_VIEW_PUBLISHED, &count), KV_OK);
    CHECK_EQUAL(count, 1990);
    close_database(db);
}

/* What was stored before a moment lies in sectors that are older than the generation that it names. */
static void test_a_cursor_leaves_out_what_is_older(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    static uint8_t value[30000];
    static _Alignas(8) uint8_t batch[1 << 16];
    char name[8];
    kv_value_ref ref;
    kv_guest_stats_result stats = {.generation = 0};
    for (uint32_t number = 0; number < 60; number++) {
        if (number == 30) CHECK_EQUAL(kv_db_stats(db, &stats), KV_OK);
        kv_status status = kv_db_put(db, 0, numbered(name, number), value, sizeof value, KV_DURABLE, &ref);
        CHECK(status == KV_OK || status == KV_NEEDS_SYNC);
        if (status == KV_NEEDS_SYNC) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    uint32_t handle, older = 0;
    uint64_t count, place = 0;
    kv_key none = {NULL, 0};
    CHECK_EQUAL(kv_cursor_open(db, 0, none, none, KV_VIEW_PUBLISHED, 0, &handle), KV_OK);
    CHECK_EQUAL(kv_cursor_since(db, handle, stats.generation), KV_OK);
    CHECK_EQUAL(kv_cursor_next(db, handle, 100, batch, sizeof batch, &count), KV_OK);
    CHECK_EQUAL(count, 60);
    for (const uint8_t *at = batch; place < count; place++) {
        const kv_entry *entry = (const kv_entry *)(const void *)at;
        CHECK(entry->value.where == KV_WHERE_OLDER ? place < 30 : entry->value.where == KV_WHERE_FILE);
        older += entry->value.where == KV_WHERE_OLDER;
        at += entry->next;
    }
    CHECK(older > 15); /* all but those in the sector that was being written */
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
    CHECK_EQUAL(kv_cursor_since(db, handle, 1), KV_INVALID);
    close_database(db);
}

/* What a large transaction leaves to be replayed is made a checkpoint at once, and nothing of it is lost. */
static void test_a_large_commit_is_caught_up_with(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    char name[8];
    kv_value_ref ref;
    kv_status status;
    CHECK_EQUAL(kv_txn_begin(db), KV_OK);
    CHECK_EQUAL(kv_checkpoint_catch_up(db), KV_OK); /* nothing before its commit */
    for (uint32_t number = 0; number < 900; number++)
        CHECK_EQUAL(kv_txn_put(db, 0, numbered(name, number), (const uint8_t *)name, 4, 0, &ref), KV_OK);
    CHECK_EQUAL(kv_txn_commit(db, KV_DURABLE), KV_NEEDS_SYNC);
    CHECK(db->flush_wanted & KV_WANTS_CATCH_UP);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK(db->tail_records > 900);
    for (uint32_t flushes = 0; (status = kv_checkpoint_catch_up(db)) != KV_OK; flushes += status == KV_NEEDS_SYNC) {
        CHECK(status == KV_AGAIN || (status == KV_NEEDS_SYNC && flushes < 3));
        if (status == KV_NEEDS_SYNC) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    CHECK_EQUAL(db->tail_records, 0);
    CHECK_EQUAL(db->flush_wanted, 0); /* whoever reads now wakes nobody */
    kv_db_free(db); /* without a close */
    db = open_database(0);
    CHECK_EQUAL(db->tail_records, 0);
    CHECK_EQUAL(db->head.main.count, 900);
    check_clean(db, "caught up");
    CHECK_EQUAL(kv_db_put(db, 0, numbered(name, 1), (const uint8_t *)"x", 1, KV_DURABLE, &ref), KV_NEEDS_SYNC);
    CHECK(!(db->flush_wanted & KV_WANTS_CATCH_UP));
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    close_database(db);
}

/* Where nobody flushes, commits are to pause, some of them, before one has to wait for a flush; behind it none. */
static void test_commits_pause_before_one_has_to_wait(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    char name[8];
    kv_value_ref ref;
    uint32_t commits = 0, first = 0, pauses = 0;
    kv_status status;
    do {
        status = kv_db_put(db, 0, numbered(name, commits++ % 500), (const uint8_t *)name, 4, 0, &ref);
        bool pause = db->flush_wanted & KV_WANTS_PAUSE;
        CHECK(!pause || db->flush_wanted & KV_WANTS_FLUSH);
        if (pause && pauses++ == 0) first = commits;
    } while (status == KV_OK && commits < 100000);
    CHECK_EQUAL(status, KV_NEEDS_SYNC);
    CHECK(pauses > 0 && first > commits * 3 / 4 && first < commits);
    while (kv_checkpoint_waits_for_flush(db)) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    CHECK_EQUAL(kv_db_put(db, 0, numbered(name, 1), (const uint8_t *)name, 4, 0, &ref), KV_OK);
    CHECK(!(db->flush_wanted & KV_WANTS_PAUSE));
    close_database(db);
}

int main(void) {
    RUN(test_arguments);
    RUN(test_what_is_not_durable_is_not_seen);
    RUN(test_a_failed_flush_poisons);
    RUN(test_a_compaction_tells_what_it_reads_next);
    RUN(test_cursors_keep_their_version);
    RUN(test_cursors_of_a_transaction_are_closed_with_it);
    RUN(test_histories);
    RUN(test_space_is_used_again);
    RUN(test_a_cursor_keeps_its_sectors);
    RUN(test_ranges_are_deleted);
    RUN(test_a_cursor_leaves_out_what_is_older);
    CHECK(guesses_settled > 1000);
    RUN(test_a_large_commit_is_caught_up_with);
    RUN(test_commits_pause_before_one_has_to_wait);
    RUN(test_readers_between_a_large_commit_and_its_flush);
    disk_reset();
    return 0;
}
