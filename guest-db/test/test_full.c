/* A full disk: puts are refused and change nothing, and a full database can be emptied, by deletes that commit one by one or
 * many together, until there is room to go on; whatever is closed, killed and opened meanwhile. */
#include "disk.h"
#include "workload.h"

#define LIMIT (KV_SECTORS_START + 24u * KV_SECTOR_BYTES_MIN)

static uint8_t value[2000];

static kv_key key_of(uint32_t key, char *to) {
    return (kv_key){(const uint8_t *)to, (uint32_t)sprintf(to, "%08x", key * 2654435761u)};
}

static kv_status put(kv_db *db, uint32_t key) {
    char name[16];
    kv_value_ref existing;
    kv_status status;
    while ((status = kv_db_put(db, 0, key_of(key, name), value, 700 + key % 1000, KV_DURABLE, &existing)) == KV_AGAIN) {}
    return status == KV_NEEDS_SYNC ? kv_db_flush(db) : status;
}

static kv_status erase(kv_db *db, uint32_t key) {
    char name[16];
    kv_status status;
    while ((status = kv_db_delete(db, 0, key_of(key, name), KV_DURABLE)) == KV_AGAIN) {}
    return status == KV_NEEDS_SYNC ? kv_db_flush(db) : status;
}

/* Put until the disk is full. How many are there. */
static uint32_t fill(kv_db *db) {
    uint32_t keys = 0, refused = 0;
    while (refused < 3) {
        kv_status status = put(db, keys);
        if (status == KV_OK) {
            keys++;
            continue;
        }
        CHECK_EQUAL(status, KV_DISK_FULL);
        CHECK(!db->file->poisoned);
        refused++;
    }
    uint64_t count;
    CHECK_EQUAL(kv_db_count(db, 0, KV_VIEW_PUBLISHED, &count), KV_OK);
    CHECK_EQUAL(count, keys);
    return keys;
}

static kv_db *reopen(kv_db *db, int how) {
    if (how == 0) return db;
    if (how == 1)
        close_cleanly(db);
    else
        kv_db_free(db);
    return open_database(0);
}

/* `together`: deletes a transaction; 1: each its own commit. */
static void emptied(uint32_t together, int how) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    disk_limit(LIMIT);
    uint32_t keys = fill(db);
    db = reopen(db, how);
    check_clean(db, "full");
    for (uint32_t key = 0; key < keys;) {
        if (together == 1) {
            CHECK_EQUAL(erase(db, key++), KV_OK);
        } else {
            kv_status status;
            char name[16];
            while ((status = kv_txn_begin(db)) == KV_AGAIN) {}
            for (uint32_t i = 0; i < together && key + i < keys && status == KV_OK; i++)
                status = kv_txn_delete(db, 0, key_of(key + i, name));
            if (status == KV_OK) status = kv_txn_commit(db, KV_DURABLE);
            if (status == KV_NEEDS_SYNC) status = kv_db_flush(db);
            CHECK_EQUAL(status, KV_OK);
            key += together < keys - key ? together : keys - key;
        }
        if (how == 2 && key % 500 < together) db = reopen(db, 2);
    }
    uint64_t count;
    CHECK_EQUAL(kv_db_count(db, 0, KV_VIEW_PUBLISHED, &count), KV_OK);
    CHECK_EQUAL(count, 0);
    check_clean(db, "emptied");
    for (int i = 0; i < 200; i++) CHECK_EQUAL(erase(db, 1), KV_NOT_FOUND); /* each of these pays for a bit of collection */
    uint32_t again = fill(db);
    fprintf(stderr, "    %u keys, and %u after all were deleted\n", keys, again);
    CHECK(again > keys / 2);
    check_clean(db, "filled again");
    close_cleanly(db);
}

static void test_a_full_database_can_be_emptied(void) {
    emptied(1, 0);
    emptied(1, 1);
    emptied(1, 2);
    emptied(40, 0);
    emptied(40, 2);
}

/* A write that was refused as a whole, behind the end of the file, has not made it longer: the superblock said so, and the next opening
 * missed what had never been there. */
static void test_a_refused_write_does_not_count(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    CHECK_EQUAL(put(db, 1), KV_OK);
    uint64_t size, before = db->file->written_end;
    CHECK_EQUAL(kv_file_size(db->file, &size), KV_OK);
    disk_limit(size);
    CHECK_EQUAL(kv_file_write(db->file, size + 1000, "x", 1, NULL), KV_DISK_FULL);
    CHECK_EQUAL(db->file->written_end, before);
    for (uint32_t key = 2; put(db, key) == KV_OK; key++) {}
    close_cleanly(db);
    db = open_database(0);
    check_clean(db, "opened on a full disk");
    close_cleanly(db);
}

/* What waits to be merged cannot be, and whoever wants to look at the tree is told so. */
static void test_a_merge_that_is_refused(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    char name[16];
    kv_value_ref ref;
    uint64_t size;
    CHECK_EQUAL(put(db, 1), KV_OK);
    CHECK_EQUAL(kv_file_size(db->file, &size), KV_OK);
    disk_limit(size);
    while (db->nodes->free.count > KV_SPARE_PAGES) (void)kv_nodes_take_page(db->nodes); /* as if they were used */
    CHECK_EQUAL(kv_txn_begin(db), KV_OK);
    CHECK_EQUAL(kv_txn_put(db, 0, key_of(2, name), (const uint8_t *)"x", 1, 0, &ref), KV_OK);
    CHECK_EQUAL(kv_value_begin(db, 0, key_of(3, name), KV_INLINE_MAX + 1, 0), KV_DISK_FULL);
    CHECK_EQUAL(kv_txn_delete(db, 0, key_of(1, name)), KV_TRANSACTION_FAILED);
    CHECK_EQUAL(kv_txn_rollback(db), KV_OK);
    kv_db_free(db);
    disk_limit(0);
    db = open_database(0);
    check_clean(db, "after a refused merge");
    close_cleanly(db);
}

int main(void) {
    RUN(test_a_refused_write_does_not_count);
    RUN(test_a_merge_that_is_refused);
    RUN(test_a_full_database_can_be_emptied);
    disk_reset();
    return 0;
}
