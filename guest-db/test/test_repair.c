/* Repair of a healthy database, and of one with damage anywhere: what is in the new file is right, or the report says that something
 * was lost. The damaged file is left as it is. */
#include "disk.h"
#include "repair.h"
#include "workload.h"

#define REPAIRED "/db/repaired.kv"

static void nothing(uint32_t commit) { (void)commit; }

static uint8_t *make(history *h, uint64_t seed, bool clean, size_t *size) {
    disk_reset();
    history_begin(h, seed, true);
    h->medium = seed % 2;
    kv_db *db = open_database(KV_OPEN_CREATE);
    while (h->commits < 60) {
        CHECK_EQUAL(commit_random(db, h, false, nothing), KV_OK);
        if (h->commits % 8 == 0) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    if (clean) close_cleanly(db);
    else kv_db_free(db);
    uint8_t *bytes = disk_bytes(DATABASE, size), *copy = malloc(*size);
    memcpy(copy, bytes, *size);
    return copy;
}

static kv_status repair(kv_guest_repair_result *result) {
    static kv_problem problems[64];
    kv_repair *r;
    uint64_t count;
    CHECK_EQUAL(kv_repair_begin(DATABASE, REPAIRED, 7, 1, &r), KV_OK);
    kv_status status;
    uint32_t flags = 0;
    do {
        status = kv_repair_step(r, flags, problems, 64, &count);
        CHECK(count <= 64);
        flags = status == KV_SYNC_FIRST ? KV_BARRIER_DONE : 0;
        if (flags) CHECK_EQUAL(kv_file_sync(r->target->file), KV_OK);
    } while (status == KV_AGAIN || status == KV_SYNC_FIRST);
    *result = r->result;
    kv_repair_free(r);
    return status;
}

/* Keys that differ from what was last committed; the database is sound. */
static uint32_t differences(const history *h) {
    kv_db *db;
    kv_open_options options = {.path = REPAIRED, .sector_bytes = KV_SECTOR_BYTES_MIN, .random_seed = 5, .cache_bytes = 1};
    CHECK_EQUAL(kv_db_open(&options, &db), KV_OK);
    check_clean(db, "repaired");
    static uint8_t found[KV_INLINE_MAX + 400000], expected[KV_INLINE_MAX + 400000];
    uint32_t wrong = 0;
    for (uint32_t key = 0; key < KEYS; key++) {
        char name[16];
        kv_value_ref ref;
        uint32_t table, value = h->after[h->commits].values[key], length = value_length(value);
        kv_status status = find_table(db, key, KV_VIEW_PUBLISHED, &table);
        kv_key k = {(const uint8_t *)name, (uint32_t)sprintf(name, "k%u", key)};
        if (status == KV_OK) status = kv_db_get(db, table, k, KV_VIEW_PUBLISHED, &ref);
        if (status == KV_NOT_FOUND) {
            wrong += value != 0;
            continue;
        }
        CHECK_EQUAL(status, KV_OK);
        CHECK_EQUAL(kv_file_read(db->file, ref.offset, found, ref.length), KV_OK);
        CHECK_EQUAL(kv_value_sum(found, ref.length), ref.sum); /* nothing of it is damaged */
        value_bytes(value, expected, 0, length);
        wrong += value == 0 || ref.length != length || memcmp(found, expected, length) != 0;
    }
    kv_db_free(db);
    return wrong;
}

static bool lost(const kv_guest_repair_result *result) {
    return !result->index_used || result->values_lost > 0 || result->bytes_skipped > 0;
}

static void test_healthy(void) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        history h;
        size_t size, after;
        uint8_t *bytes = make(&h, seed, seed % 2, &size);
        kv_guest_repair_result result;
        CHECK_EQUAL(repair(&result), KV_OK);
        CHECK(!lost(&result) && !result.may_reappear);
        CHECK_EQUAL(differences(&h), 0);
        const uint8_t *now = disk_bytes(DATABASE, &after);
        CHECK(after == size && memcmp(now, bytes, size) == 0);
        free(bytes);
        history_free(&h);
    }
}

/* Both superblocks' sums are wrong: the log alone tells, and of it all but what collection has taken is there. */
static void test_without_superblocks(void) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        history h;
        size_t size;
        uint8_t *bytes = make(&h, seed, seed % 2, &size);
        bytes[0] ^= 1;
        bytes[KV_SUPERBLOCK_SLOT] ^= 1;
        disk_reset();
        disk_put(DATABASE, bytes, size);
        kv_guest_repair_result result;
        CHECK_EQUAL(repair(&result), KV_OK);
        CHECK(!result.index_used && result.may_reappear);
        CHECK(result.records > 0);
        uint32_t wrong = differences(&h);
        if (!h.medium) CHECK_EQUAL(wrong, 0); /* nothing was collected */
        free(bytes);
        history_free(&h);
    }
}

/* Of a database that was closed, so that all of it was proven durable: what is cut off an end that was not is no damage. */
static void test_damage(void) {
    uint64_t used = 0, scanned = 0, told = 0;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        history h;
        size_t size;
        uint8_t *bytes = make(&h, seed, true, &size);
        uint64_t random = seed * 77;
        for (int i = 0; i < 60; i++) {
            uint8_t *copy = malloc(size);
            memcpy(copy, bytes, size);
            size_t at = (size_t)(test_random(&random) % (i % 3 ? size : 20000)), page = at & ~(size_t)4095, length = size;
            if (i % 10 == 9) length = at;
            else if (i % 10 == 8) memset(copy + page, 0, size - page < 4096 ? size - page : 4096);
            else copy[at] ^= (uint8_t)(1 << (at % 8));
            disk_reset();
            disk_put(DATABASE, copy, length);
            kv_guest_repair_result result;
            kv_status status = repair(&result);
            if (status != KV_OK) {
                CHECK(status == KV_NOT_A_DATABASE || status == KV_CORRUPT);
                CHECK(length < size);
            } else {
                uint32_t wrong = differences(&h);
                if (wrong > 0 && !lost(&result)) {
                    fprintf(stderr, "seed %llu, damage %d at %zu: %u wrong, nothing said\n", (unsigned long long)seed, i, at, wrong);
                    exit(1);
                }
                told += lost(&result);
                used += result.index_used;
                scanned += !result.index_used;
            }
            free(copy);
        }
        free(bytes);
        history_free(&h);
    }
    fprintf(stderr, "    index used %llu times, log %llu times, loss told %llu times\n", (unsigned long long)used,
            (unsigned long long)scanned, (unsigned long long)told);
    CHECK(used > 20 && scanned > 5 && told > 10);
}

int main(void) {
    RUN(test_healthy);
    RUN(test_without_superblocks);
    RUN(test_damage);
    disk_reset();
    return 0;
}
