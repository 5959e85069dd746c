#include "workload.h"

#define LARGE_EVERY 12u
#define SECTOR KV_SECTOR_BYTES_MIN

uint64_t guesses_settled;

void history_begin(history *h, uint64_t seed, bool large) {
    memset(h, 0, sizeof *h);
    h->random = seed;
    h->next_value = 1;
    h->large = large;
    h->capacity = 64;
    h->after = calloc(h->capacity, sizeof *h->after);
}

void history_free(history *h) { free(h->after); }

static uint64_t mix(uint64_t x) {
    x ^= x >> 33;
    x *= 0xFF51AFD7ED558CCDu;
    x ^= x >> 33;
    x *= 0xC4CEB9FE1A85EC53u;
    return x ^ (x >> 33);
}

uint32_t value_length(uint32_t value) {
    uint64_t m = mix(value);
    if (value % 1000 >= 900 && value % 1000 < 999) return 20000 + (uint32_t)(m % 40000); /* medium */
    if (value % 1000 == 999) return KV_INLINE_MAX + 1 + (uint32_t)(m % 300000); /* large */
    switch (m % 10) {
    case 0: return 0;
    case 1: return (uint32_t)(m >> 8) % 20000;
    default: return (uint32_t)(m >> 8) % 300;
    }
}

void value_bytes(uint32_t value, uint8_t *to, uint32_t from, uint32_t length) {
    for (uint32_t at = from, end = from + length; at < end;) {
        const uint8_t mixed = (uint8_t)mix(value * 8191u + at / 64);
        for (uint32_t part = at + 64 - at % 64; at < end && at < part; at++) *to++ = mixed ^ (uint8_t)at;
    }
}

kv_status try_open(uint32_t flags, kv_db **db) {
    kv_open_options options = {.path = DATABASE, .flags = flags, .sector_bytes = SECTOR, .random_seed = 99, .cache_bytes = 1};
    kv_status status = kv_db_open(&options, db);
    if (status != KV_OK) {
        kv_db_free(*db);
        *db = NULL;
    }
    return status;
}

static kv_key table_name(uint32_t index) { return (kv_key){(const uint8_t *)(index == 1 ? "first" : "second"), index == 1 ? 5 : 6}; }

kv_status find_table(kv_db *db, uint32_t key, uint32_t view, uint32_t *table) {
    const kv_state *state;
    kv_file *file;
    *table = 0;
    if (key % TABLES == 0) return KV_OK;
    CHECK_EQUAL(kv_db_state(db, view, &state, &file), KV_OK);
    return kv_table_find(db, file->nodes, state, table_name(key % TABLES), table);
}

/* UINT32_MAX: there is none. */
static uint32_t table_of(kv_db *db, uint32_t key, uint32_t view) {
    uint32_t table;
    kv_status status = find_table(db, key, view, &table);
    CHECK(status == KV_OK || status == KV_NOT_FOUND);
    return status == KV_OK ? table : UINT32_MAX;
}

static void make_tables(kv_db *db) {
    CHECK_EQUAL(kv_txn_begin(db), KV_OK);
    for (uint32_t i = 1; i < TABLES; i++) {
        uint32_t table;
        kv_status status = kv_table_create(db, table_name(i), &table);
        CHECK(status == KV_OK || status == KV_EXISTS);
    }
    CHECK_EQUAL(kv_txn_commit(db, 0), KV_OK);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
}

kv_db *open_database(uint32_t flags) {
    kv_db *db;
    kv_status status = try_open(flags, &db);
    CHECK_EQUAL(status, KV_OK);
    if ((flags & KV_OPEN_CREATE) && db->last_commit == 0) make_tables(db);
    return db;
}

void close_cleanly(kv_db *db) {
    kv_status status;
    while ((status = kv_db_close_mark(db)) != KV_OK) {
        CHECK(status == KV_AGAIN || status == KV_NEEDS_SYNC);
        if (status == KV_AGAIN) continue;
        CHECK_EQUAL(kv_file_sync(db->file), KV_OK);
        CHECK_EQUAL(kv_db_synced(db, db->position), KV_OK);
    }
    kv_db_free(db);
}

kv_status compact_database(kv_db *db) {
    kv_status status = kv_compact_begin(db);
    for (uint32_t flags = 0; status == KV_OK || status == KV_AGAIN || status == KV_SYNC_FIRST;) {
        status = kv_compact_step(db, flags);
        if (status == KV_OK) break;
        flags = 0;
        if (status != KV_SYNC_FIRST) continue;
        status = kv_file_sync(db->compaction.target->file);
        if (status != KV_OK) {
            CHECK_EQUAL(kv_compact_abort(db), KV_OK);
            break;
        }
        flags = KV_BARRIER_DONE;
    }
    return status;
}

static kv_key key_of(uint32_t key, char *to) {
    return (kv_key){(const uint8_t *)to, (uint32_t)sprintf(to, "k%u", key)};
}

static kv_status put_in_transaction(kv_db *db, uint32_t key, uint32_t value) {
    static uint8_t bytes[KV_INLINE_MAX + 1];
    char name[16];
    kv_value_ref existing;
    uint32_t length = value_length(value);
    uint32_t table = table_of(db, key, KV_VIEW_TRANSACTION);
    if (length <= KV_INLINE_MAX) {
        value_bytes(value, bytes, 0, length);
        return kv_txn_put(db, table, key_of(key, name), bytes, length, 0, &existing);
    }
    kv_status status = kv_value_begin(db, table, key_of(key, name), length, 0);
    for (uint32_t done = 0; done < length && status == KV_OK;) {
        uint32_t chunk = length - done < 50000 ? length - done : 50000;
        value_bytes(value, bytes, done, chunk);
        status = kv_value_chunk(db, bytes, chunk);
        done += chunk;
    }
    return status == KV_OK ? kv_value_end(db) : status;
}

static uint32_t new_value(history *h, bool may_be_large) {
    uint32_t value = h->next_value;
    if (value % 1000 >= 900) value += 1000 - value % 1000;
    if (h->medium && test_random(&h->random) % 2) value += 900 + (uint32_t)(test_random(&h->random) % 99) - value % 1000;
    if (h->large && may_be_large && test_random(&h->random) % LARGE_EVERY == 0) value += 999 - value % 1000;
    h->next_value = value + 1;
    return value;
}

/* Drop a table and make it again: its keys are gone. */
static kv_status renew_table(kv_db *db, contents *now, uint32_t index) {
    kv_status status;
    while ((status = kv_table_drop(db, table_name(index))) == KV_AGAIN) {}
    uint32_t table;
    if (status == KV_OK) status = kv_table_create(db, table_name(index), &table);
    for (uint32_t key = index; key < KEYS; key += TABLES) now->values[key] = 0;
    return status;
}

static kv_status random_operation(kv_db *db, history *h, contents *now) {
    uint32_t key = (uint32_t)(test_random(&h->random) % KEYS);
    char name[16];
    if (test_random(&h->random) % 40 == 0) return renew_table(db, now, 1 + key % (TABLES - 1));
    if (test_random(&h->random) % 4 != 0) {
        uint32_t value = new_value(h, true);
        kv_status status = put_in_transaction(db, key, value);
        now->values[key] = value;
        return status;
    }
    kv_status status = kv_txn_delete(db, table_of(db, key, KV_VIEW_TRANSACTION), key_of(key, name));
    if (status == KV_NOT_FOUND) status = now->values[key] == 0 ? KV_OK : KV_CORRUPT;
    now->values[key] = 0;
    return status;
}

static kv_status random_transaction(kv_db *db, history *h, contents *now, uint32_t operations) {
    kv_status status;
    contents kept[4];
    uint32_t depth = 0;
    while ((status = kv_txn_begin(db)) == KV_AGAIN) {}
    if (status != KV_OK) return status;
    for (uint32_t i = 0; i < operations && status == KV_OK; i++) {
        uint32_t kind = (uint32_t)(test_random(&h->random) % 8);
        if (kind == 0 && depth < 4) {
            kept[depth++] = *now;
            status = kv_savepoint_begin(db);
        } else if (kind == 1 && depth > 0) {
            *now = kept[--depth];
            status = kv_savepoint_roll_back(db);
        } else if (kind == 2 && depth > 0) {
            depth--;
            status = kv_savepoint_release(db);
        } else {
            status = random_operation(db, h, now);
        }
    }
    return status;
}

kv_status commit_random(kv_db *db, history *h, bool durable, void (*begun)(uint32_t commit)) {
    if (h->commits + 2 > h->capacity) {
        h->capacity *= 2;
        h->after = realloc(h->after, h->capacity * sizeof *h->after);
    }
    contents now = h->after[h->commits];
    uint32_t flags = durable ? KV_DURABLE : 0;
    uint32_t kind = (uint32_t)(test_random(&h->random) % 10);
    if (kind < 5 && db->published.pin != KV_NO_PIN) kind = 5; /* what is published may have another table of that name */
    if (kind == 9) { /* a transaction that is rolled back */
        contents unused = now;
        kv_status status = random_transaction(db, h, &unused, 3);
        if (db->txn.state != KV_TXN_NONE) CHECK_EQUAL(kv_txn_rollback(db), KV_OK);
        if (status != KV_OK) return status;
    }
    kv_status status;
    if (kind < 5) {
        static uint8_t bytes[KV_INLINE_MAX + 1];
        char name[16];
        kv_value_ref existing;
        uint32_t key = (uint32_t)(test_random(&h->random) % KEYS), value = new_value(h, false);
        uint32_t length = value_length(value);
        value_bytes(value, bytes, 0, length);
        bool remove = kind == 4 && now.values[key] != 0;
        now.values[key] = remove ? 0 : value;
        h->after[++h->commits] = now;
        begun(h->commits);
        do
            status = remove ? kv_db_delete(db, table_of(db, key, KV_VIEW_PUBLISHED), key_of(key, name), flags)
                            : kv_db_put(db, table_of(db, key, KV_VIEW_PUBLISHED), key_of(key, name), bytes, length, flags, &existing);
        while (status == KV_AGAIN);
    } else {
        begun(h->commits + 1);
        status = random_transaction(db, h, &now, 1 + (uint32_t)(test_random(&h->random) % 12));
        h->after[++h->commits] = now;
        if (status == KV_OK) status = kv_txn_commit(db, flags);
        if (status == KV_SYNC_FIRST) {
            status = kv_file_sync(db->file);
            if (status == KV_OK) status = kv_txn_commit(db, flags | KV_BARRIER_DONE);
        }
        if (db->txn.state != KV_TXN_NONE) CHECK_EQUAL(kv_txn_rollback(db), KV_OK);
    }
    return status == KV_NEEDS_SYNC ? KV_OK : status;
}

static void read_value(const kv_db *db, const kv_value_ref *ref, uint8_t *to) {
    if (ref->where == KV_WHERE_MEMORY)
        memcpy(to, (const void *)(uintptr_t)ref->offset, ref->length);
    else
        CHECK_EQUAL(kv_file_read(db->file, ref->offset, to, ref->length), KV_OK);
    CHECK_EQUAL(kv_value_sum(to, ref->length), ref->sum);
}

static bool equal(const contents *expected, const uint32_t *found_length, uint8_t *const *found) {
    static uint8_t bytes[KV_INLINE_MAX + 400000];
    for (uint32_t key = 0; key < KEYS; key++) {
        uint32_t value = expected->values[key];
        if ((value == 0) != (found[key] == NULL)) return false;
        if (value == 0) continue;
        uint32_t length = value_length(value);
        if (found_length[key] != length) return false;
        value_bytes(value, bytes, 0, length);
        if (length > 0 && memcmp(bytes, found[key], length) != 0) return false;
    }
    return true;
}

/* A guess whose key is right must name the very record that the tree names. */
static void check_guess(kv_db *db, uint32_t table, kv_key key, kv_status status, const kv_value_ref *ref) {
    kv_value_ref guess;
    for (int again = 0; again < 2; again++) { /* the first call may put the entry in */
        if (kv_db_get(db, table, key, KV_VIEW_PUBLISHED | KV_VIEW_MAY_GUESS, &guess) != KV_OK) {
            CHECK_EQUAL(status, KV_NOT_FOUND);
            continue;
        }
        if (guess.where != KV_WHERE_GUESS) continue;
        uint8_t record[KV_RECORD_HEADER_BYTES + 16];
        CHECK_EQUAL(kv_file_read(db->file, guess.offset, record, KV_RECORD_HEADER_BYTES + key.length), KV_OK);
        if (kv_load16(record + KV_RH_KEY_LENGTH) != key.length) continue;
        if (memcmp(record + KV_RECORD_HEADER_BYTES, key.data, key.length) != 0) continue;
        if (kv_load32(record + KV_RH_TABLE) != table) continue;
        CHECK_EQUAL(status, KV_OK);
        CHECK_EQUAL(guess.offset + KV_RECORD_HEADER_BYTES + key.length, ref->offset);
        CHECK_EQUAL(kv_load32(record + KV_RH_VALUE_LENGTH), ref->length);
        CHECK_EQUAL(kv_load32(record + KV_RH_VALUE_SUM), ref->sum);
        guesses_settled++;
    }
}

/* How many keys a cursor finds in a table, and that the count agrees. */
static uint64_t walk_table(kv_db *db, uint32_t table) {
    static _Alignas(8) uint8_t buffer[1 << 16];
    uint32_t handle;
    uint64_t batch, walked = 0, counted;
    CHECK_EQUAL(kv_cursor_open(db, table, (kv_key){NULL, 0}, (kv_key){NULL, 0}, KV_VIEW_PUBLISHED, 0, &handle), KV_OK);
    do {
        CHECK_EQUAL(kv_cursor_next(db, handle, 7, buffer, sizeof buffer, &batch), KV_OK);
        walked += batch;
    } while (batch > 0);
    CHECK_EQUAL(kv_cursor_close(db, handle), KV_OK);
    CHECK_EQUAL(kv_db_count(db, table, KV_VIEW_PUBLISHED, &counted), KV_OK);
    CHECK_EQUAL(counted, walked);
    return walked;
}

uint32_t search_commit(kv_db *db, const history *h, uint32_t low, uint32_t high) {
    uint32_t lengths[KEYS] = {0};
    uint8_t *found[KEYS] = {NULL};
    uint64_t present = 0, walked = 0;
    for (uint32_t key = 1; key < TABLES; key++)
        if (table_of(db, key, KV_VIEW_PUBLISHED) == UINT32_MAX) return NO_COMMIT; /* each commit leaves them all */
    for (uint32_t key = 0; key < KEYS; key++) {
        char name[16];
        kv_value_ref ref;
        uint32_t table = table_of(db, key, KV_VIEW_PUBLISHED);
        if (key < TABLES) walked += walk_table(db, table);
        kv_status status = kv_db_get(db, table, key_of(key, name), KV_VIEW_PUBLISHED, &ref);
        check_guess(db, table, key_of(key, name), status, &ref);
        if (status == KV_NOT_FOUND) continue;
        CHECK_EQUAL(status, KV_OK);
        lengths[key] = ref.length;
        found[key] = malloc(ref.length + 1);
        read_value(db, &ref, found[key]);
        present++;
    }
    CHECK_EQUAL(walked, present);
    uint32_t commit = NO_COMMIT;
    for (uint32_t i = high + 1; i-- > low && commit == NO_COMMIT;)
        if (equal(&h->after[i], lengths, found)) commit = i;
    for (uint32_t key = 0; key < KEYS; key++) free(found[key]);
    return commit;
}

uint32_t find_commit(kv_db *db, const history *h, uint32_t low, uint32_t high, const char *where) {
    uint32_t commit = search_commit(db, h, low, high);
    if (commit != NO_COMMIT) return commit;
    fprintf(stderr, "contents are of no commit in [%u, %u]: %s\n", low, high, where);
    exit(1);
}

void check_clean(kv_db *db, const char *where) {
    kv_problem problems[8];
    uint64_t count;
    CHECK_EQUAL(kv_check_begin(db), KV_OK);
    kv_status status;
    do {
        status = kv_check_step(db, problems, 8, &count);
        if (count > 0) {
            fprintf(stderr, "check: problem %u at %llu: %s\n", problems[0].detail,
                    (unsigned long long)problems[0].offset, where);
            exit(1);
        }
    } while (status == KV_AGAIN);
    CHECK_EQUAL(status, KV_OK);
}
