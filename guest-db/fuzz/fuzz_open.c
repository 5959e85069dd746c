/* Opening and using whatever bytes are found: a typed status or right behaviour, never a crash, a hang or a trap.
 *
 * The input is a file's bytes behind one byte of choices. Choice 1: open read-only; 2: repair the checksums first, so that
 * what is wrong is wrong in fields that are trusted once they validate. Made for libFuzzer (`make fuzz CC=clang
 * FUZZ=-fsanitize=fuzzer`); without it, main() below mutates databases of its own for a given time and seed. */
#include "driver.h"

#include "disk.h"
#include "repair.h"
#include "workload.h"

enum { READ_ONLY = 1, REPAIR = 2 };

static void repair_superblocks(uint8_t *bytes, size_t size) {
    for (size_t at = 0; at <= KV_SUPERBLOCK_SLOT; at += KV_SUPERBLOCK_SLOT) {
        if (at + KV_SUPERBLOCK_BYTES > size) return;
        kv_store64(bytes + at, kv_xxh64(bytes + at + 8, KV_SUPERBLOCK_BYTES - 8, 0));
    }
}

/* Make each record of a log sector valid where it stands, as far as the lengths lead. */
static void repair_records(uint8_t *bytes, size_t size, uint64_t generation, uint64_t salt, uint32_t sector_bytes,
                           uint32_t chain) {
    for (uint64_t at = KV_SECTOR_DATA; at + KV_RECORD_HEADER_BYTES <= size;) {
        uint8_t *record = bytes + at;
        if (record[KV_RH_TYPE] == 0) return;
        uint64_t key = kv_load16(record + KV_RH_KEY_LENGTH);
        bool external = record[KV_RH_FLAGS] & KV_FLAG_EXTERNAL;
        uint64_t covered = KV_RECORD_HEADER_BYTES + key + (external ? KV_EXTERNAL_BYTES : 0);
        uint64_t value = record[KV_RH_TYPE] == KV_RECORD_PUT && !external ? kv_load32(record + KV_RH_VALUE_LENGTH) : 0;
        if (at + covered + value > size) return;
        kv_store32(record + KV_RH_CHAIN, chain);
        if (value > 0) kv_store32(record + KV_RH_VALUE_SUM, kv_value_sum(record + covered, value));
        uint64_t seed = kv_record_seed(salt, generation * sector_bytes + at);
        chain = (uint32_t)kv_xxh64(record + 4, covered - 4, seed);
        kv_store32(record, chain);
        at += KV_ALIGN8(covered + value);
    }
}

/* Make each page of an index sector valid, whatever its fields say. */
static void repair_pages(uint8_t *bytes, size_t size, size_t sector, uint32_t sector_bytes, uint64_t id) {
    kv_file file = {.super = {.database_id = id}};
    for (size_t at = sector + KV_PAGE_BYTES; at + KV_PAGE_BYTES <= size && at < sector + sector_bytes; at += KV_PAGE_BYTES) {
        uint32_t page = (uint32_t)(at / KV_PAGE_BYTES);
        kv_store32(bytes + at + KV_PG_PAGE, page);
        kv_store64(bytes + at + KV_PG_SUM, kv_page_sum(&file, page, bytes + at));
    }
}

static void repair(uint8_t *bytes, size_t size) {
    repair_superblocks(bytes, size);
    if (size < KV_SUPERBLOCK_BYTES) return;
    uint32_t sector_bytes = kv_load32(bytes + KV_SB_SECTOR_BYTES);
    uint64_t id = kv_load64(bytes + KV_SB_DATABASE_ID);
    if (sector_bytes < 4096 || (sector_bytes & (sector_bytes - 1)) != 0) return;
    for (size_t at = KV_SECTORS_START; at + KV_SECTOR_DATA <= size; at += sector_bytes) {
        uint8_t *header = bytes + at;
        if (kv_load32(header + KV_SH_MAGIC) != KV_SECTOR_MAGIC) continue;
        kv_store64(header, kv_xxh64(header + 8, KV_SECTOR_HEADER_BYTES - 8, id));
        if (kv_load16(header + KV_SH_TYPE) == KV_SECTOR_INDEX) repair_pages(bytes, size, at, sector_bytes, id);
        if (kv_load16(header + KV_SH_TYPE) != KV_SECTOR_LOG) continue;
        size_t end = at + sector_bytes < size ? sector_bytes : size - at;
        repair_records(header, end, kv_load64(header + KV_SH_GENERATION), kv_load64(header + KV_SH_SALT), sector_bytes,
                       kv_load32(header + KV_SH_CHAIN));
    }
}

static void walk(kv_db *db, uint32_t table) {
    static _Alignas(8) uint8_t batch[1 << 16];
    static uint8_t value[1 << 20];
    uint32_t handle;
    uint64_t count;
    if (kv_cursor_open(db, table, (kv_key){NULL, 0}, (kv_key){NULL, 0}, 0, 0, &handle) != KV_OK) return;
    for (int n = 0; n < 10000 && kv_cursor_next(db, handle, 64, batch, sizeof batch, &count) == KV_OK && count > 0; n++) {
        const uint8_t *at = batch;
        for (uint64_t i = 0; i < count; i++) {
            const kv_entry *entry = (const kv_entry *)(const void *)at;
            kv_value_ref ref;
            kv_status status = kv_db_get(db, table, (kv_key){at + sizeof *entry, entry->key_length}, 0, &ref);
            if (status == KV_OK && ref.where == KV_WHERE_FILE && ref.length <= sizeof value)
                (void)kv_file_read(db->file, ref.offset, value, ref.length);
            at += entry->next;
        }
    }
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
}

/* What a writer answers where the index may be damaged. */
static bool is_typed(kv_status status) {
    return status == KV_OK || status == KV_NEEDS_SYNC || status == KV_NOT_FOUND || status == KV_CORRUPT || status == KV_READ_ONLY ||
           status == KV_NO_SUCH_TABLE || status == KV_EXISTS || status == KV_INVALID || status == KV_TRANSACTION_FAILED ||
           status == KV_NO_MEMORY || status == KV_DISK_FULL;
}

static void write_some(kv_db *db) {
    static uint8_t value[3000];
    char name[32];
    kv_value_ref ref;
    kv_status status;
    for (uint32_t i = 0; i < 60; i++) {
        kv_key key = {(const uint8_t *)name, (uint32_t)sprintf(name, i % 3 ? "k%u" : "fuzz%u", i)};
        uint32_t table;
        if (find_table(db, i, KV_VIEW_PUBLISHED, &table) != KV_OK) table = 0;
        if (i % 4 == 3)
            while ((status = kv_db_delete(db, table, key, 0)) == KV_AGAIN) {}
        else
            while ((status = kv_db_put(db, table, key, value, i * 50, KV_DURABLE, &ref)) == KV_AGAIN) {}
        CHECK(is_typed(status));
        if (i % 8 == 0) (void)kv_db_flush(db);
    }
    while ((status = kv_txn_begin(db)) == KV_AGAIN) {}
    CHECK(is_typed(status));
    if (status != KV_OK) return;
    uint32_t table;
    CHECK(is_typed(kv_table_create(db, (kv_key){(const uint8_t *)"third", 5}, &table)));
    do
        status = kv_table_drop(db, (kv_key){(const uint8_t *)"first", 5});
    while (status == KV_AGAIN);
    CHECK(is_typed(status));
    status = kv_txn_commit(db, 0);
    if (status != KV_OK && status != KV_NEEDS_SYNC) (void)kv_txn_rollback(db);
}

static void use(kv_db *db) {
    static kv_problem problems[16];
    uint64_t count;
    uint32_t table;
    walk(db, 0);
    for (uint32_t i = 1; i < TABLES; i++)
        if (find_table(db, i, KV_VIEW_PUBLISHED, &table) == KV_OK) walk(db, table);
    if (kv_check_begin(db) == KV_OK)
        for (int i = 0; i < 100000 && kv_check_step(db, problems, 16, &count) == KV_AGAIN; i++) {}
    if (db->read_only) return;
    write_some(db);
    (void)kv_db_flush(db);
    kv_status status = compact_database(db);
    CHECK(is_typed(status));
    for (int i = 0; i < 1000 && (status = kv_db_close_mark(db)) != KV_OK; i++) {
        if (status != KV_AGAIN && status != KV_NEEDS_SYNC) break;
        if (status == KV_NEEDS_SYNC) (void)kv_db_synced(db, db->position);
    }
    CHECK(is_typed(status));
}

/* What repair makes of it must be sound, whatever it is made of. */
static void salvage(void) {
    static const char target[] = "/db/repaired.kv";
    static kv_problem problems[16];
    kv_repair *r;
    uint64_t count;
    CHECK_EQUAL(kv_repair_begin(DATABASE, target, 7, 1, &r), KV_OK);
    kv_status status = KV_AGAIN;
    while (status == KV_AGAIN || status == KV_SYNC_FIRST)
        status = kv_repair_step(r, status == KV_SYNC_FIRST ? KV_BARRIER_DONE : 0, problems, 16, &count);
    kv_repair_free(r);
    if (status != KV_OK) {
        CHECK(status == KV_NOT_A_DATABASE || status == KV_VERSION_UNSUPPORTED || status == KV_NO_MEMORY || status == KV_DISK_FULL);
        return;
    }
    kv_open_options options = {.path = target, .random_seed = 5, .cache_bytes = 1};
    kv_db *db;
    CHECK_EQUAL(kv_db_open(&options, &db), KV_OK);
    check_clean(db, "repaired");
    walk(db, 0);
    kv_db_free(db);
    disk_unlink(target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > (4u << 20)) return 0;
    disk_reset();
    uint8_t *bytes = malloc(size);
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & REPAIR) repair(bytes, size - 1);
    disk_put(DATABASE, bytes, size - 1);
    free(bytes);
    salvage();
    for (int round = 0; round < 2; round++) {
        kv_db *db;
        kv_status status = try_open(data[0] & READ_ONLY ? KV_OPEN_READ_ONLY : 0, &db);
        if (status != KV_OK) {
            CHECK(status == KV_NOT_A_DATABASE || status == KV_VERSION_UNSUPPORTED || status == KV_CORRUPT ||
                  status == KV_NO_MEMORY || status == KV_DISK_FULL);
            break;
        }
        use(db);
        kv_db_free(db);
    }
    disk_reset();
    return 0;
}

#ifndef KV_LIBFUZZER
static void nothing(uint32_t commit) { (void)commit; }

/* A database with some history, closed or not. */
static uint8_t *make_database(uint64_t seed, size_t *size) {
    disk_reset();
    history h;
    history_begin(&h, seed, seed % 2);
    kv_db *db = open_database(KV_OPEN_CREATE);
    for (uint64_t i = 0; i < 5 + seed % 97; i++) {
        CHECK_EQUAL(commit_random(db, &h, seed % 3, nothing), KV_OK);
        if (i % 4 == 0) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    if (seed % 5 == 0)
        close_cleanly(db);
    else
        kv_db_free(db);
    uint8_t *bytes = disk_bytes(DATABASE, size), *copy = malloc(*size + 1);
    memcpy(copy + 1, bytes, *size);
    ++*size;
    history_free(&h);
    return copy;
}

static void mutate(uint8_t *bytes, size_t *size, uint64_t *random) {
    static const uint64_t numbers[] = {0, 1, 0x7F, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, UINT64_MAX, 1u << 20};
    bytes[0] = (uint8_t)test_random(random);
    for (uint64_t n = 1 + test_random(random) % 6; n > 0; n--) {
        size_t dense = *size < 16384 ? *size - 1 : 16384; /* most fields lie near the front */
        size_t at = 1 + (size_t)(test_random(random) % (test_random(random) % 4 ? dense : *size - 1));
        if (test_random(random) % 3 == 0) at = 1 + KV_SECTORS_START + (size_t)(test_random(random) % 2048);
        if (test_random(random) % 3 == 0) /* pages of the index lie behind the first sectors */
            at = 1 + KV_SECTORS_START + (1 + test_random(random) % 3) * KV_SECTOR_BYTES_MIN +
                 KV_PAGE_BYTES * (1 + test_random(random) % 24) + (size_t)(test_random(random) % 160);
        if (at + 8 >= *size) continue;
        uint64_t number = numbers[test_random(random) % (sizeof numbers / sizeof *numbers)];
        switch (test_random(random) % 6) {
        case 0: bytes[at] ^= (uint8_t)(1 << (test_random(random) % 8)); break;
        case 1: bytes[at] = (uint8_t)test_random(random); break;
        case 2: memcpy(bytes + at, &number, 1u << (test_random(random) % 4)); break;
        case 3: { /* copy some bytes from elsewhere */
            size_t from = 1 + (size_t)(test_random(random) % (*size - 1)), length = (size_t)(test_random(random) % 600);
            if (from + length < *size && at + length < *size) memmove(bytes + at, bytes + from, length);
            break;
        }
        case 4: bytes[at & ~(size_t)7] = (uint8_t)(bytes[at] + (test_random(random) % 17) - 8); break;
        default:
            if (test_random(random) % 4 == 0) *size = 1 + (size_t)(test_random(random) % *size);
        }
    }
}

static uint64_t inputs(uint64_t seed, uint64_t *random) {
    enum { MUTATIONS = 8 };
    size_t size;
    uint8_t *bytes = make_database(seed % 97, &size);
    for (int i = 0; i < MUTATIONS; i++) {
        alarm(HANG_SECONDS);
        size_t cut = size;
        uint8_t *copy = malloc(size);
        memcpy(copy, bytes, size);
        mutate(copy, &cut, random);
        (void)LLVMFuzzerTestOneInput(copy, cut);
        free(copy);
    }
    free(bytes);
    return MUTATIONS;
}

int main(int count, char **arguments) { return fuzz(count, arguments, inputs); }
#endif
