/* Whatever is done to a database, in whatever order: it is what a table in memory says that it is.
 *
 * The input is a sequence of operations, a byte each, with what they are done to: single commits, transactions with savepoints,
 * range deletes and cursors, snapshots, tables that come and go, compaction, collection, clean and unclean ends, a full disk. Made for
 * libFuzzer (`make fuzz_operations CC=clang FUZZ="-fsanitize=fuzzer -DKV_LIBFUZZER"`); without it, main() below draws sequences. */
#include "driver.h"

#include "disk.h"
#include "workload.h"

#define NAMES 64u /* keys */
#define PLACES 2u /* the default table, and a named one */
#define DEPTH_MAX 6u
#define SNAPSHOTS 3u

typedef struct table_model {
    uint32_t values[NAMES]; /* 0: not there; else as in workload.h */
} table_model;

typedef struct model {
    table_model tables[PLACES];
    bool named; /* there is the second one */
} model;

typedef struct state {
    const uint8_t *at, *end; /* of the input */
    kv_db *db;
    model committed, now; /* `now`: of the open transaction */
    model saved[DEPTH_MAX];
    uint32_t depth;
    bool open, failed; /* the transaction */
    bool full;         /* the disk has a limit: anything that writes may be refused */
    uint64_t limit;
    uint32_t next_value;
    struct {
        bool open;
        uint32_t handle;
        model then;
    } snapshots[SNAPSHOTS];
} state;

static uint8_t names[NAMES][KV_KEY_MAX];
static uint32_t lengths[NAMES];
static uint8_t bytes[KV_INLINE_MAX + 400000];

static kv_key name_of(uint32_t name) { return (kv_key){names[name], lengths[name]}; }

/* Short ones, ones with a long prefix in common, zeros and 255, and very long ones; numbered in their order. */
static void make_names(void) {
    if (lengths[0] != 0) return;
    for (uint32_t i = 0; i < NAMES; i++) {
        uint32_t at = i;
        uint8_t name[KV_KEY_MAX] = {0};
        uint32_t length = (uint32_t)sprintf((char *)name, "%s%02u", i % 4 == 1 ? "prefix/prefix/prefix/prefix/prefix/" : "k", i);
        if (i % 4 == 2) memset(name, i % 8 == 2 ? 0 : 255, length = 1 + i / 4);
        if (i % 4 == 3) length = 3 + (i * i * 37) % (KV_KEY_MAX - 2);
        for (; at > 0 && kv_compare((kv_key){name, length}, name_of(at - 1)) < 0; at--) {
            memcpy(names[at], names[at - 1], KV_KEY_MAX);
            lengths[at] = lengths[at - 1];
        }
        memcpy(names[at], name, KV_KEY_MAX);
        lengths[at] = length;
    }
}

static uint8_t next(state *s) { return s->at < s->end ? *s->at++ : 0; }

/* ---- comparing ---- */

static void expect_value(const state *s, const kv_file *file, const kv_value_ref *ref, uint32_t value) {
    static uint8_t found[sizeof bytes];
    (void)s;
    CHECK_EQUAL(ref->length, value_length(value));
    if (ref->where == KV_WHERE_MEMORY)
        memcpy(found, (const void *)(uintptr_t)ref->offset, ref->length);
    else
        CHECK_EQUAL(kv_file_read((kv_file *)(uintptr_t)file, ref->offset, found, ref->length), KV_OK);
    value_bytes(value, bytes, 0, ref->length);
    CHECK(memcmp(found, bytes, ref->length) == 0);
    CHECK_EQUAL(kv_value_sum(found, ref->length), ref->sum);
}

/* The named table's number; UINT32_MAX: there is none. */
static uint32_t table_of(const state *s, uint32_t place, uint32_t view) {
    const kv_state *version;
    kv_file *file;
    uint32_t table = 0;
    if (place == 0) return 0;
    CHECK_EQUAL(kv_db_state(s->db, view, &version, &file), KV_OK);
    kv_status status = kv_table_find(s->db, file->nodes, version, (kv_key){(const uint8_t *)"table", 5}, &table);
    CHECK(status == KV_OK || status == KV_NOT_FOUND);
    return status == KV_OK ? table : UINT32_MAX;
}

static void compare_range(const state *s, const model *expected, uint32_t place, uint32_t view, uint32_t from, uint32_t to,
                          uint32_t flags) {
    static _Alignas(8) uint8_t batch[1 << 16];
    uint32_t table = table_of(s, place, view), handle;
    CHECK_EQUAL(table != UINT32_MAX, place == 0 || expected->named);
    if (table == UINT32_MAX) return;
    const kv_state *version;
    kv_file *file;
    CHECK_EQUAL(kv_db_state(s->db, view, &version, &file), KV_OK);
    if (to < NAMES) flags |= KV_CURSOR_HAS_STOP;
    CHECK_EQUAL(kv_cursor_open(s->db, table, name_of(from), to < NAMES ? name_of(to) : (kv_key){NULL, 0}, view,
                               flags | KV_CURSOR_HAS_START, &handle), KV_OK);
    bool reverse = flags & KV_CURSOR_REVERSE;
    uint64_t count;
    uint32_t at = reverse ? to : from;
    do {
        CHECK_EQUAL(kv_cursor_next(s->db, handle, 1 + from % 9, batch, sizeof batch, &count), KV_OK);
        const uint8_t *place_in = batch;
        for (uint64_t i = 0; i < count; i++) {
            const kv_entry *entry = (const kv_entry *)(const void *)place_in;
            if (reverse)
                while (at > from && expected->tables[place].values[at - 1] == 0) at--;
            else
                while (at < to && expected->tables[place].values[at] == 0) at++;
            CHECK(reverse ? at > from : at < to);
            uint32_t name = reverse ? --at : at++;
            CHECK(kv_compare((kv_key){place_in + sizeof *entry, entry->key_length}, name_of(name)) == 0);
            expect_value(s, file, &entry->value, expected->tables[place].values[name]);
            place_in += entry->next;
        }
    } while (count > 0);
    while (reverse ? at > from : at < to) CHECK_EQUAL(expected->tables[place].values[reverse ? --at : at++], 0);
    CHECK_EQUAL(kv_cursor_close(s->db, handle), KV_OK);
}

static void compare_all(const state *s, const model *expected, uint32_t view) {
    for (uint32_t place = 0; place < PLACES; place++) {
        compare_range(s, expected, place, view, 0, NAMES, place == 0 ? 0 : KV_CURSOR_REVERSE);
        uint32_t table = table_of(s, place, view), there = 0;
        uint64_t count;
        for (uint32_t name = 0; name < NAMES; name++) there += expected->tables[place].values[name] != 0;
        if (table == UINT32_MAX) continue;
        CHECK_EQUAL(kv_db_count(s->db, table, view, &count), KV_OK);
        CHECK_EQUAL(count, there);
    }
}

static void compare_one(const state *s, const model *expected, uint32_t place, uint32_t view, uint32_t name) {
    uint32_t table = table_of(s, place, view);
    if (table == UINT32_MAX) return;
    const kv_state *version;
    kv_file *file;
    kv_value_ref ref;
    kv_status status = kv_db_get(s->db, table, name_of(name), view, &ref);
    CHECK_EQUAL(status, expected->tables[place].values[name] == 0 ? KV_NOT_FOUND : KV_OK);
    CHECK_EQUAL(kv_db_state(s->db, view, &version, &file), KV_OK);
    if (status == KV_OK) expect_value(s, file, &ref, expected->tables[place].values[name]);
}

/* ---- changing ---- */

static void flush(state *s) {
    kv_status status = kv_db_flush(s->db);
    CHECK(status == KV_OK || (s->full && status == KV_DISK_FULL));
}

static uint32_t new_value(state *s, uint8_t kind) {
    uint32_t value = s->next_value++ * 1000;
    return value + (kind % 16 == 0 ? 999 : kind % 16 == 1 ? 900u + kind / 16 : kind * 3u);
}

static bool is_last(const model *m, uint32_t place, uint32_t name) {
    for (uint32_t i = name; i < NAMES; i++)
        if (m->tables[place].values[i] != 0) return false;
    return true;
}

/* What a put says that is refused because of what is there. */
static bool is_refused(const model *m, uint32_t place, uint32_t name, uint32_t flags) {
    if (flags & KV_NO_OVERWRITE) return m->tables[place].values[name] != 0;
    return flags & KV_APPEND && !is_last(m, place, name);
}

static kv_status put(state *s, uint32_t table, uint32_t name, uint32_t value, uint32_t flags) {
    kv_value_ref ref;
    uint32_t length = value_length(value);
    value_bytes(value, bytes, 0, length);
    if (s->open && length <= KV_INLINE_MAX) return kv_txn_put(s->db, table, name_of(name), bytes, length, flags, &ref);
    if (!s->open) return kv_db_put(s->db, table, name_of(name), bytes, length, flags, &ref);
    kv_status status = kv_value_begin(s->db, table, name_of(name), length, flags);
    for (uint32_t done = 0; status == KV_OK && done < length;) {
        uint32_t piece = length - done < 60000 ? length - done : 60000;
        status = kv_value_chunk(s->db, bytes + done, piece);
        done += piece;
    }
    return status == KV_OK ? kv_value_end(s->db) : status;
}

/* The outcome of a change: on a full disk it may be refused, and with it a transaction that it belongs to. */
static bool is_done(state *s, kv_status status) {
    if (status == KV_DISK_FULL || status == KV_TRANSACTION_FAILED) {
        CHECK(s->full);
        CHECK(!s->db->file->poisoned);
        s->failed = s->failed || (s->open && s->db->txn.state == KV_TXN_FAILED);
        return false;
    }
    if (status == KV_NEEDS_SYNC) flush(s);
    CHECK(status == KV_OK || status == KV_NEEDS_SYNC);
    return true;
}

static void change(state *s, bool remove) {
    model *m = s->open ? &s->now : &s->committed;
    uint32_t place = next(s) % PLACES, name = next(s) % NAMES;
    uint8_t how = next(s);
    uint32_t table = table_of(s, place, s->open ? KV_VIEW_TRANSACTION : KV_VIEW_PUBLISHED);
    uint32_t flags = how % 8 == 0 ? KV_NO_OVERWRITE : how % 8 == 1 ? KV_APPEND : 0, durable = !s->open && how & 64 ? KV_DURABLE : 0;
    if (table == UINT32_MAX) return;
    kv_status status;
    if (remove) {
        do
            status = s->open ? kv_txn_delete(s->db, table, name_of(name)) : kv_db_delete(s->db, table, name_of(name), durable);
        while (status == KV_AGAIN);
        if (status == KV_NOT_FOUND) CHECK_EQUAL(m->tables[place].values[name], 0);
        if (status != KV_NOT_FOUND && is_done(s, status)) m->tables[place].values[name] = 0;
        return;
    }
    uint32_t value = new_value(s, next(s));
    if (!s->open && value_length(value) > KV_INLINE_MAX) return;
    if (value_length(value) > KV_INLINE_MAX && flags & KV_APPEND) flags = 0;
    bool refused = is_refused(m, place, name, flags);
    do
        status = put(s, table, name, value, flags | durable);
    while (status == KV_AGAIN);
    if (status == KV_EXISTS) CHECK(refused);
    if (status == KV_EXISTS || !is_done(s, status)) return;
    CHECK(!refused);
    m->tables[place].values[name] = value;
}

static void delete_range(state *s) {
    uint32_t place = next(s) % PLACES, from = next(s) % NAMES, to = from + next(s) % (NAMES - from + 1);
    uint32_t table = table_of(s, place, KV_VIEW_TRANSACTION), limit = 1 + next(s) % 40, gone = 0;
    if (table == UINT32_MAX) return;
    kv_key stop = to < NAMES ? name_of(to) : (kv_key){NULL, 0};
    uint64_t count;
    kv_status status = kv_txn_delete_range(s->db, table, name_of(from), to < NAMES ? &stop : NULL, limit, &count);
    if (!is_done(s, status)) return;
    for (uint32_t name = from; name < to && gone < limit; name++) {
        gone += s->now.tables[place].values[name] != 0;
        s->now.tables[place].values[name] = 0;
    }
    CHECK_EQUAL(count, gone);
}

static void change_table(state *s) {
    kv_key name = {(const uint8_t *)"table", 5};
    uint32_t table;
    kv_status status;
    if (!s->now.named) {
        if (is_done(s, kv_table_create(s->db, name, &table))) s->now.named = true;
        return;
    }
    do
        status = kv_table_drop(s->db, name);
    while (status == KV_AGAIN);
    if (!is_done(s, status)) return;
    s->now.named = false;
    memset(&s->now.tables[1], 0, sizeof s->now.tables[1]);
}

static void begin(state *s) {
    kv_status status;
    while ((status = kv_txn_begin(s->db)) == KV_AGAIN) {}
    if (!is_done(s, status)) return;
    s->open = true;
    s->failed = false;
    s->depth = 0;
    s->now = s->committed;
}

static void roll_back(state *s) {
    CHECK_EQUAL(kv_txn_rollback(s->db), KV_OK);
    s->open = false;
}

static void commit(state *s, bool durable) {
    uint32_t flags = durable ? KV_DURABLE : 0;
    kv_status status = kv_txn_commit(s->db, flags);
    if (status == KV_SYNC_FIRST) {
        CHECK_EQUAL(kv_file_sync(s->db->file), KV_OK);
        status = kv_txn_commit(s->db, flags | KV_BARRIER_DONE);
    }
    if (!is_done(s, status)) {
        roll_back(s);
        return;
    }
    s->open = false;
    s->committed = s->now;
}

/* Savepoints, in the open transaction. */
static void save(state *s, uint8_t how) {
    if (how % 3 == 0 && s->depth < DEPTH_MAX) {
        kv_status status = kv_savepoint_begin(s->db);
        if (is_done(s, status)) s->saved[s->depth++] = s->now;
    } else if (how % 3 == 1 && s->depth > 0) {
        if (is_done(s, kv_savepoint_release(s->db))) s->depth--;
    } else if (how % 3 == 2 && s->depth > 0) {
        if (is_done(s, kv_savepoint_roll_back(s->db))) s->now = s->saved[--s->depth];
    }
}

static void close_snapshots(state *s) {
    for (uint32_t i = 0; i < SNAPSHOTS; i++) {
        if (s->snapshots[i].open) CHECK_EQUAL(kv_snapshot_close(s->db, s->snapshots[i].handle), KV_OK);
        s->snapshots[i].open = false;
    }
}

static void look_back(state *s) {
    uint32_t which = next(s) % SNAPSHOTS;
    if (!s->snapshots[which].open) {
        CHECK_EQUAL(kv_snapshot_open(s->db, &s->snapshots[which].handle), KV_OK);
        s->snapshots[which].open = true;
        s->snapshots[which].then = s->committed;
        return;
    }
    compare_all(s, &s->snapshots[which].then, KV_VIEW_SNAPSHOT + s->snapshots[which].handle);
    if (next(s) % 2 == 0) return;
    CHECK_EQUAL(kv_snapshot_close(s->db, s->snapshots[which].handle), KV_OK);
    s->snapshots[which].open = false;
}

/* Whatever waits in memory is written first, for which there has to be space. */
static void check(const state *s, const char *where) {
    disk_limit(0);
    check_clean(s->db, where);
    if (s->full) disk_limit(s->limit);
}

static void reopen(state *s, bool cleanly) {
    if (s->open) roll_back(s);
    if (!cleanly) { /* what waits in memory to be written is the store's to lose only where it said so: after a commit nothing does */
        flush(s);
        kv_db_free(s->db);
    } else {
        close_snapshots(s);
        kv_status status;
        for (int i = 0; i < 1000 && (status = kv_db_close_mark(s->db)) != KV_OK; i++) {
            CHECK(status == KV_AGAIN || status == KV_NEEDS_SYNC || (s->full && status == KV_DISK_FULL));
            if (status == KV_NEEDS_SYNC) CHECK_EQUAL(kv_db_synced(s->db, s->db->position), KV_OK);
            if (status == KV_DISK_FULL) break;
        }
        kv_db_free(s->db);
    }
    memset(s->snapshots, 0, sizeof s->snapshots);
    kv_status status = try_open(0, &s->db);
    if (status == KV_DISK_FULL && s->full) { /* it needs a bit of space to secure what was not proven */
        disk_limit(0);
        s->full = false;
        status = try_open(0, &s->db);
    }
    CHECK_EQUAL(status, KV_OK);
    compare_all(s, &s->committed, KV_VIEW_PUBLISHED);
    check(s, "reopened");
}

static void limit_disk(state *s, uint8_t how) {
    uint64_t size;
    s->full = how % 2;
    CHECK_EQUAL(kv_file_size(s->db->file, &size), KV_OK);
    s->limit = s->full ? size + how / 2 * 4096u : 0;
    disk_limit(s->limit);
}

static void maintain(state *s, uint8_t how) {
    kv_status status;
    if (how % 4 == 0) {
        compare_all(s, &s->committed, KV_VIEW_PUBLISHED);
        check(s, "between operations");
    } else if (how % 4 == 1) {
        flush(s); /* nothing may wait for one */
        status = compact_database(s->db);
        if (status != KV_OK) CHECK_EQUAL(s->full ? status : 0, KV_DISK_FULL);
    } else if (how % 4 == 2) {
        while ((status = kv_checkpoint_finish(s->db)) == KV_AGAIN) {}
        if (status != KV_OK) CHECK_EQUAL(s->full ? status : 0, KV_DISK_FULL);
    } else {
        limit_disk(s, how / 4);
    }
    flush(s);
}

static void in_transaction(state *s, uint8_t what) {
    if (s->failed) {
        roll_back(s);
        return;
    }
    switch (what % 16) {
    case 0: case 1: case 2: case 3: case 4: change(s, false); break;
    case 5: case 6: change(s, true); break;
    case 7: delete_range(s); break;
    case 8: change_table(s); break;
    case 9: case 10: save(s, next(s)); break;
    case 11:
        if (is_done(s, kv_pending_merge(s->db, UINT32_MAX))) /* what a read does first; on a full disk it may fail the transaction */
            compare_one(s, &s->now, next(s) % PLACES, KV_VIEW_TRANSACTION, next(s) % NAMES);
        break;
    case 12: {
        if (!is_done(s, kv_pending_merge(s->db, UINT32_MAX))) break;
        uint32_t from = next(s) % NAMES, to = from + next(s) % (NAMES - from + 1);
        compare_range(s, &s->now, next(s) % PLACES, KV_VIEW_TRANSACTION, from, to, what & 16 ? KV_CURSOR_REVERSE : 0);
        break;
    }
    case 13: look_back(s); break;
    case 14: roll_back(s); break;
    default: commit(s, what & 16);
    }
}

static void outside(state *s, uint8_t what) {
    switch (what % 16) {
    case 0: case 1: case 2: case 3: change(s, false); break;
    case 4: case 5: change(s, true); break;
    case 6: case 7: case 8: case 9: begin(s); break;
    case 10: compare_one(s, &s->committed, next(s) % PLACES, KV_VIEW_PUBLISHED, next(s) % NAMES); break;
    case 11: compare_range(s, &s->committed, what / 16 % 2, KV_VIEW_PUBLISHED, 0, NAMES, what & 32 ? KV_CURSOR_REVERSE : 0); break;
    case 12: look_back(s); break;
    case 13: flush(s); break;
    case 14: reopen(s, what & 16); break;
    default: maintain(s, next(s));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static state s;
    if (size > 4096) return 0;
    make_names();
    disk_reset();
    memset(&s, 0, sizeof s);
    s.at = data;
    s.end = data + size;
    s.next_value = 1;
    CHECK_EQUAL(try_open(KV_OPEN_CREATE, &s.db), KV_OK);
    while (s.at < s.end) {
        uint8_t what = next(&s);
        if (s.open)
            in_transaction(&s, what);
        else
            outside(&s, what);
    }
    reopen(&s, size % 2);
    kv_db_free(s.db);
    disk_reset();
    return 0;
}

#ifndef KV_LIBFUZZER
static uint64_t inputs(uint64_t seed, uint64_t *random) {
    uint8_t input[3000];
    size_t size = 50 + test_random(random) % (seed % 8 == 0 ? sizeof input - 50 : 600);
    for (size_t i = 0; i < size; i++) input[i] = (uint8_t)(test_random(random) >> 32);
    alarm(HANG_SECONDS);
    (void)LLVMFuzzerTestOneInput(input, size);
    return 1;
}

int main(int count, char **arguments) { return fuzz(count, arguments, inputs); }
#endif
