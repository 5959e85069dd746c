/* Records, sector headers and superblocks: what is written is read, and nothing else is. */
#include <fcntl.h>

#include "disk.h"
#include "workload.h"

#define SALT 0x1122334455667788u
#define POSITION 0x40080u

static const uint8_t key_bytes[] = "a key", value_bytes_[] = "some value";

static kv_record example(uint8_t type, uint8_t flags) {
    bool keyed = type != KV_RECORD_COMMIT && type != KV_RECORD_UNDO;
    bool put = type == KV_RECORD_PUT;
    return (kv_record){.type = type,
                       .flags = flags,
                       .commit = 77,
                       .table = 3,
                       .confirmed = flags & KV_FLAG_COMMIT ? POSITION - 8 : 0,
                       .chain = 0xABCD1234,
                       .key = {key_bytes, keyed ? 5 : 0},
                       .value = value_bytes_,
                       .value_length = flags & KV_FLAG_EXTERNAL ? 100000 : put ? 10 : type == KV_RECORD_COMMIT ? 3 : 0,
                       .value_sum = put ? 0x55AA55AA : 0,
                       .external = flags & KV_FLAG_EXTERNAL ? 0x123456 : 0};
}

static const uint8_t kinds[][2] = {{KV_RECORD_PUT, 0},
                                   {KV_RECORD_PUT, KV_FLAG_COMMIT},
                                   {KV_RECORD_PUT, KV_FLAG_EXTERNAL},
                                   {KV_RECORD_PUT, KV_FLAG_EXTERNAL | KV_FLAG_COMMIT | KV_FLAG_FLUSHED},
                                   {KV_RECORD_DELETE, KV_FLAG_COMMIT},
                                   {KV_RECORD_COMMIT, KV_FLAG_COMMIT},
                                   {KV_RECORD_UNDO, 0},
                                   {KV_RECORD_TABLE, 0},
                                   {KV_RECORD_DROP, KV_FLAG_COMMIT}};
#define KINDS (sizeof kinds / sizeof *kinds)

static void test_what_is_encoded_is_decoded(void) {
    for (size_t i = 0; i < KINDS; i++) {
        kv_record record = example(kinds[i][0], kinds[i][1]), found;
        uint8_t bytes[128];
        uint32_t length = kv_record_bytes(&record);
        CHECK(length <= sizeof bytes && length % 8 == 0);
        kv_record_encode(&record, bytes, SALT, POSITION);
        CHECK(kv_record_decode(&found, bytes, length, SALT, POSITION));
        CHECK(found.type == record.type && found.flags == record.flags && found.commit == 77);
        CHECK(found.chain == record.chain && found.confirmed == record.confirmed && found.sum == record.sum);
        CHECK(found.value_length == record.value_length && found.value_sum == record.value_sum);
        CHECK(found.external == record.external && kv_compare(found.key, record.key) == 0);
        if (kv_record_has_inline_value(&record)) CHECK(memcmp(found.value, value_bytes_, 10) == 0);
        CHECK(!kv_record_decode(&found, bytes, length, SALT + 1, POSITION));     /* another life of the sector */
        CHECK(!kv_record_decode(&found, bytes, length, SALT, POSITION + 8));     /* another place */
        for (uint32_t cut = 0; cut < length; cut++) CHECK(!kv_record_decode(&found, bytes, cut, SALT, POSITION));
    }
}

static void test_every_flipped_bit_is_seen(void) {
    for (size_t i = 0; i < KINDS; i++) {
        kv_record record = example(kinds[i][0], kinds[i][1]), found;
        uint8_t bytes[128] = {0};
        kv_record_encode(&record, bytes, SALT, POSITION);
        uint32_t covered = KV_RECORD_HEADER_BYTES + record.key.length + (record.flags & KV_FLAG_EXTERNAL ? 8 : 0);
        for (uint32_t bit = 0; bit < covered * 8; bit++) {
            bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
            CHECK(!kv_record_decode(&found, bytes, sizeof bytes, SALT, POSITION));
            bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        }
    }
}

/* Valid sums do not make fields sane. */
static void test_implausible_records_are_refused(void) {
    kv_record record, found;
    uint8_t bytes[256] = {0};
    for (int i = 0; i < 8; i++) {
        record = example(KV_RECORD_PUT, KV_FLAG_COMMIT);
        switch (i) {
        case 0: record.key.length = 0; break;
        case 1: record.commit = 0; break;
        case 2: record.confirmed = POSITION + 8; break;
        case 3: record.flags = 0; break; /* confirmed without a mark */
        case 4: record.flags |= 0x80; break;
        case 5: record.type = 9; break;
        case 6: record.flags = KV_FLAG_FLUSHED; record.confirmed = 0; break;
        default: record = example(KV_RECORD_DELETE, KV_FLAG_COMMIT); record.value_length = 1;
        }
        kv_record_encode(&record, bytes, SALT, POSITION);
        CHECK(!kv_record_decode(&found, bytes, sizeof bytes, SALT, POSITION));
    }
}

static void test_a_torn_superblock_leaves_the_other(void) {
    disk_reset();
    kv_db_free(open_database(KV_OPEN_CREATE));
    kv_file *file = kv_file_new(disk_open(DATABASE, O_RDWR), KV_SECTOR_BYTES_MIN, 1);
    CHECK_EQUAL(kv_superblock_read(file), KV_OK);
    uint64_t sequence = file->super.sequence;
    for (int i = 0; i < 4; i++) { /* the slots take turns */
        file->super.durable += 8;
        CHECK_EQUAL(kv_superblock_write(file), KV_OK);
        CHECK_EQUAL(file->super.sequence, ++sequence);
    }
    uint64_t durable = file->super.durable;
    size_t size;
    uint8_t *bytes = disk_bytes(DATABASE, &size);
    uint8_t *newest = bytes + (sequence & 1) * KV_SUPERBLOCK_SLOT;
    for (uint32_t at = 0; at < KV_SUPERBLOCK_BYTES; at++) {
        newest[at] ^= 0x10;
        CHECK_EQUAL(kv_superblock_read(file), KV_OK);
        CHECK(file->slot_damaged);
        CHECK_EQUAL(file->super.sequence, sequence - 1);
        CHECK_EQUAL(file->super.durable, durable - 8);
        newest[at] ^= 0x10;
    }
    memset(bytes, 0, KV_SUPERBLOCK_BYTES);
    memset(bytes + KV_SUPERBLOCK_SLOT, 0, KV_SUPERBLOCK_BYTES);
    CHECK_EQUAL(kv_superblock_read(file), KV_NOT_A_DATABASE);
    kv_file_release(file);
}

/* Change a byte of a field in both superblocks, whatever their sums were. */
static void change_superblocks(int field, uint8_t bits) {
    size_t size;
    uint8_t *bytes = disk_bytes(DATABASE, &size);
    for (uint32_t slot = 0; slot < 2; slot++) {
        uint8_t *super = bytes + slot * KV_SUPERBLOCK_SLOT;
        super[field] ^= bits;
        kv_store64(super, kv_xxh64(super + 8, KV_SUPERBLOCK_BYTES - 8, 0));
    }
}

static void test_newer_formats_are_told_apart(void) {
    static const struct { int field; kv_status to_write, to_read; } cases[] = {
        {KV_SB_VERSION, KV_VERSION_UNSUPPORTED, KV_VERSION_UNSUPPORTED},
        {KV_SB_INCOMPATIBLE, KV_VERSION_UNSUPPORTED, KV_VERSION_UNSUPPORTED},
        {KV_SB_READ_COMPATIBLE, KV_VERSION_UNSUPPORTED, KV_OK},
        {KV_SB_COMPATIBLE, KV_OK, KV_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        disk_reset();
        kv_db_free(open_database(KV_OPEN_CREATE));
        change_superblocks(cases[i].field, 0x40);
        kv_db *db;
        CHECK_EQUAL(try_open(KV_OPEN_READ_ONLY, &db), cases[i].to_read);
        kv_db_free(db);
        CHECK_EQUAL(try_open(0, &db), cases[i].to_write);
        kv_db_free(db);
    }
}

static void test_one_copy_of_a_sector_header_is_enough(void) {
    for (uint32_t copy = 0; copy < 3; copy++) {
        disk_reset();
        kv_db *db = open_database(KV_OPEN_CREATE);
        kv_value_ref ref;
        CHECK_EQUAL(kv_db_put(db, 0, (kv_key){key_bytes, 5}, value_bytes_, 10, KV_DURABLE, &ref), KV_NEEDS_SYNC);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        kv_db_free(db);
        size_t size;
        uint8_t *header = disk_bytes(DATABASE, &size) + KV_SECTORS_START;
        if (copy != 1) header[20] ^= 1;
        if (copy != 0) header[KV_SECTOR_HEADER_BYTES + 20] ^= 1;
        CHECK_EQUAL(try_open(0, &db), copy < 2 ? KV_OK : KV_CORRUPT);
        if (copy < 2) CHECK_EQUAL(kv_db_get(db, 0, (kv_key){key_bytes, 5}, 0, &ref), KV_OK);
        kv_db_free(db);
    }
}

/* Made before nodes could leave anything out: opened as ever, and marked when it is written. */
static void test_a_file_without_the_feature(void) {
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    CHECK_EQUAL(db->file->super.incompatible, KV_FEATURE_SKIP);
    kv_db_free(db);
    change_superblocks(KV_SB_INCOMPATIBLE, KV_FEATURE_SKIP);
    db = open_database(0);
    CHECK_EQUAL(db->file->super.incompatible, 0);
    CHECK_EQUAL(kv_superblock_write(db->file), KV_OK);
    CHECK_EQUAL(db->file->super.incompatible, KV_FEATURE_SKIP);
    kv_db_free(db);
}

int main(void) {
    RUN(test_what_is_encoded_is_decoded);
    RUN(test_every_flipped_bit_is_seen);
    RUN(test_implausible_records_are_refused);
    RUN(test_a_torn_superblock_leaves_the_other);
    RUN(test_newer_formats_are_told_apart);
    RUN(test_a_file_without_the_feature);
    RUN(test_one_copy_of_a_sector_header_is_enough);
    disk_reset();
    return 0;
}
