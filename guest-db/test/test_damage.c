/* Damage to a database that was closed: bits of it flipped, and the lengths to which it may be cut; with `all` every one. It
 * either opens with the right contents, or says what is wrong: at opening, or when the value is read. Never wrong contents,
 * never fewer. */
#include "disk.h"
#include "workload.h"

static void nothing(uint32_t commit) { (void)commit; }

static bool thorough; /* every bit and every length, not some */

typedef struct outcome {
    uint64_t right, refused, told;
} outcome;

/* Open what lies on the disk; its contents must be those after the last commit, or something must have been said. */
static void look(const history *h, uint32_t flags, outcome *o, const char *what, uint64_t where) {
    kv_db *db;
    kv_status status = try_open(flags, &db);
    if (status != KV_OK) {
        CHECK(status == KV_CORRUPT || status == KV_NOT_A_DATABASE || status == KV_VERSION_UNSUPPORTED);
        o->refused++;
        return;
    }
    bool told = false;
    static uint8_t found[KV_INLINE_MAX], expected[KV_INLINE_MAX];
    for (uint32_t key = 0; key < KEYS; key++) {
        char name[16];
        kv_value_ref ref;
        kv_key k = {(const uint8_t *)name, (uint32_t)sprintf(name, "k%u", key)};
        uint32_t value = h->after[h->commits].values[key];
        uint32_t table;
        status = find_table(db, key, KV_VIEW_PUBLISHED, &table);
        if (status == KV_OK) status = kv_db_get(db, table, k, KV_VIEW_PUBLISHED, &ref);
        if (status == KV_CORRUPT) {
            told = true;
            continue;
        }
        if (status != (value == 0 ? KV_NOT_FOUND : KV_OK)) {
            fprintf(stderr, "%s %llu: key %u silently %s\n", what, (unsigned long long)where, key,
                    value == 0 ? "there" : "gone");
            exit(1);
        }
        if (value == 0) continue;
        if (ref.length > sizeof found || kv_file_read(db->file, ref.offset, found, ref.length) != KV_OK ||
            kv_value_sum(found, ref.length) != ref.sum) {
            told = true; /* the host raises CorruptionError */
            continue;
        }
        CHECK_EQUAL(ref.length, value_length(value));
        value_bytes(value, expected, 0, ref.length);
        CHECK(memcmp(found, expected, ref.length) == 0);
    }
    if (told) o->told++; else o->right++;
    kv_db_free(db);
}

static uint8_t *closed_database(history *h, size_t *size) {
    disk_reset();
    history_begin(h, 31, false);
    kv_db *db = open_database(KV_OPEN_CREATE);
    while (h->commits < 30) CHECK_EQUAL(commit_random(db, h, false, nothing), KV_OK);
    close_cleanly(db);
    uint8_t *bytes = disk_bytes(DATABASE, size), *copy = malloc(*size);
    memcpy(copy, bytes, *size);
    return copy;
}

static void test_flipped_bits(void) {
    history h;
    size_t size;
    uint8_t *bytes = closed_database(&h, &size);
    outcome o = {0, 0, 0};
    for (size_t at = 0; at < size; at += thorough || at < 400 ? 1 : at < 8190 ? 61 : 1 + at % 127) {
        for (uint32_t bit = thorough ? 0 : at % 8; bit < (thorough ? 8 : at % 8 + 1); bit++) {
            bytes[at] ^= (uint8_t)(1u << bit);
            disk_reset();
            disk_put(DATABASE, bytes, size);
            look(&h, (at + bit) % 2 ? KV_OPEN_READ_ONLY : 0, &o, "bit flipped at", 8 * at + bit);
            bytes[at] ^= (uint8_t)(1u << bit);
        }
    }
    fprintf(stderr, "    %llu right, %llu refused, %llu told on reading\n", (unsigned long long)o.right,
            (unsigned long long)o.refused, (unsigned long long)o.told);
    CHECK(o.refused > 100 && o.told > 100 && o.right > 100);
    free(bytes);
    history_free(&h);
}

static void test_cut_files(void) {
    history h;
    size_t size;
    uint8_t *bytes = closed_database(&h, &size);
    outcome o = {0, 0, 0};
    for (size_t length = 0; length < size; length += thorough || length < 400 ? 1 : 1 + length % 251) {
        disk_reset();
        disk_put(DATABASE, bytes, length);
        look(&h, KV_OPEN_READ_ONLY, &o, "cut to", length);
        bytes[length] ^= 0xFF; /* and with something else behind the cut */
        disk_put(DATABASE, bytes, length + 1);
        bytes[length] ^= 0xFF;
        if (length % 16 == 0) look(&h, 0, &o, "cut and written to", length);
    }
    CHECK(o.refused > 1000);
    free(bytes);
    history_free(&h);
}

int main(int count, char **arguments) {
    thorough = count > 1 && strcmp(arguments[1], "all") == 0;
    RUN(test_flipped_bits);
    RUN(test_cut_files);
    disk_reset();
    return 0;
}
