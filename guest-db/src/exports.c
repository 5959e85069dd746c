/* The guest's ABI over the one database that a guest holds: arguments out of the block, results into it. */
#include <stdlib.h>

#include "repair.h"
#include "replay.h"

static kv_db *db;
static kv_guest_block block;
static _Alignas(8) uint8_t data[KV_DATA_CAPACITY];

static void describe(const kv_error *error) {
    block.position = error->offset;
    block.os_error = error->os_error;
    block.detail = error->detail;
}

/* Results that accompany a status. */
static kv_status answer(kv_status status) {
    if (db != NULL) block.flush_wanted = db->flush_wanted;
    if (status == KV_NEEDS_SYNC) {
        block.position = db->position;
    } else if (status >= KV_INVALID && db != NULL) {
        describe(&db->error);
        db->error = (kv_error){0};
    }
    return status;
}

static kv_key key_argument(uint32_t length) { return (kv_key){block.key, length}; }

uint32_t kv_guest_init(void) {
    block.data_address = (uint32_t)(uintptr_t)data;
    block.abi = KV_GUEST_ABI;
    block.fd = -1;
    return (uint32_t)(uintptr_t)&block;
}

static bool as_is; /* what opening to read has found is taken, whatever others do */
static kv_db *opening; /* its superblocks are read, and the host asks for readers */

static kv_status opening_failed(kv_status status) {
    describe(&opening->error);
    kv_db_free(opening);
    opening = NULL;
    return status;
}

/* Have the host look: which superblock is the newest, and in which file. */
static kv_status ask_host(void) {
    block.fd = opening->file->fd;
    block.position = opening->file->super.sequence;
    return KV_AGAIN;
}

/* After the host's look. What a reader has locked must still be in a slot; else it is another one now. */
static kv_status open_on(uint32_t flags) {
    kv_status status = KV_OK;
    if (opening->read_only) {
        const uint64_t locked = opening->file->super.sequence;
        status = kv_superblock_read(opening->file);
        if (status != KV_OK) return opening_failed(kv_db_fail(opening, status));
        if (opening->file->super.sequence != locked && opening->file->other.sequence != locked) return ask_host();
    }
    opening->shared = true;
    opening->readers = flags & (KV_OPEN_READERS | KV_OPEN_OLDER_READERS);
    opening->older_readers = flags & KV_OPEN_OLDER_READERS;
    status = kv_db_open_finish(opening);
    if (status == KV_OK && opening->read_only && !as_is) status = kv_follow_settle(opening);
    if (status != KV_OK) return opening_failed(status);
    if (db != NULL) kv_follow_take_over(db, opening);
    db = opening;
    opening = NULL;
    block.fd = db->file->fd;
    block.position = db->file->super.sequence;
    return KV_OK;
}

static kv_status open_begin(const kv_open_options *options) {
    kv_status status = kv_db_open_begin(options, &opening);
    return status == KV_OK ? ask_host() : opening_failed(status);
}

kv_status kv_guest_refresh(uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    block.count = 0;
    if (!db->read_only) return KV_INVALID;
    if (flags & KV_REFRESH_ABORT) {
        kv_db_free(opening);
        opening = NULL;
        return KV_OK;
    }
    as_is = flags & KV_REFRESH_AS_IS;
    if (opening != NULL) return open_on(0);
    if (!(flags & KV_REFRESH_REOPEN)) return answer(kv_follow_step(db, &block.count));
    kv_open_options options = {.path = db->path, .flags = KV_OPEN_READ_ONLY, .cache_bytes = db->cache_bytes};
    return open_begin(&options);
}

kv_status kv_guest_held(void) {
    if (db == NULL) return KV_CLOSED;
    for (uint32_t i = 0; i < db->held_count; i++) {
        kv_store64(data + 16 * i, db->held[i].first);
        kv_store64(data + 16 * i + 8, db->held[i].last);
    }
    block.count = db->held_count;
    return KV_OK;
}

kv_status kv_guest_release(uint64_t first) { return db == NULL ? KV_CLOSED : kv_readers_release(db, first); }

kv_status kv_guest_open(uint32_t path_length, uint32_t flags, uint32_t sector_bytes) {
    if (db != NULL) return KV_BUSY;
    as_is = flags & KV_OPEN_AS_IS;
    if (opening != NULL) return open_on(flags);
    if (path_length == 0 || path_length >= KV_PATH_MAX) return KV_INVALID;
    char path[KV_PATH_MAX];
    memcpy(path, data, path_length);
    path[path_length] = 0;
    if (strlen(path) != path_length) return KV_INVALID;
    kv_open_options options = {
        .path = path, .flags = flags, .sector_bytes = sector_bytes, .random_seed = block.random_seed,
        .cache_bytes = block.cache_bytes};
    if (flags & KV_OPEN_SHARED) return open_begin(&options);
    kv_status status = kv_db_open(&options, &db);
    if (status == KV_OK && db->read_only && !as_is) status = kv_follow_settle(db);
    if (status == KV_OK) {
        block.fd = db->file->fd;
    } else {
        (void)answer(status);
        kv_db_free(db);
        db = NULL;
    }
    return status;
}

kv_status kv_guest_close_mark(void) { return db == NULL ? KV_CLOSED : answer(kv_db_close_mark(db)); }

kv_status kv_guest_close(void) {
    if (db == NULL) return KV_CLOSED;
    kv_db_free(db);
    db = NULL;
    block.fd = -1;
    return KV_OK;
}

kv_status kv_guest_get(uint32_t table, uint32_t key_length, uint32_t view) {
    if (db == NULL) return KV_CLOSED;
    return answer(kv_db_get(db, table, key_argument(key_length), view, &block.value));
}

kv_status kv_guest_get_many(uint32_t table, uint32_t count, uint32_t bytes, uint32_t view) {
    if (db == NULL) return KV_CLOSED;
    if (bytes > sizeof data || count > sizeof data / sizeof(kv_value_ref)) return KV_INVALID;
    /* results may be larger than the keys, which they replace */
    uint8_t *keys = malloc((size_t)bytes + 1);
    if (keys == NULL) return KV_NO_MEMORY;
    memcpy(keys, data, bytes);
    kv_value_ref *results = (kv_value_ref *)(void *)data;
    kv_status status = KV_OK;
    uint64_t at = 0;
    for (uint32_t i = 0; i < count && status == KV_OK; i++) {
        uint32_t length = at + 4 <= bytes ? kv_load32(keys + at) : UINT32_MAX;
        if (length > KV_KEY_MAX || at + 4 + length > bytes) {
            status = KV_INVALID;
            break;
        }
        status = kv_db_get(db, table, (kv_key){keys + at + 4, length}, view, &results[i]);
        if (status == KV_NOT_FOUND) {
            results[i] = (kv_value_ref){.where = KV_WHERE_MISSING};
            status = KV_OK;
        }
        at += 4 + ((length + 3u) & ~3u);
    }
    free(keys);
    return answer(status);
}

kv_status kv_guest_count(uint32_t table, uint32_t view) {
    if (db == NULL) return KV_CLOSED;
    return answer(kv_db_count(db, table, view, &block.count));
}

kv_status kv_guest_put(uint32_t table, uint32_t key_length, uint32_t value_length, uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    kv_key key = key_argument(key_length);
    return answer(flags & KV_IN_TRANSACTION ? kv_txn_put(db, table, key, data, value_length, flags, &block.value)
                                            : kv_db_put(db, table, key, data, value_length, flags, &block.value));
}

kv_status kv_guest_delete(uint32_t table, uint32_t key_length, uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    kv_key key = key_argument(key_length);
    return answer(flags & KV_IN_TRANSACTION ? kv_txn_delete(db, table, key) : kv_db_delete(db, table, key, flags));
}

kv_status kv_guest_delete_range(uint32_t table, uint32_t start_length, uint32_t stop_length, uint32_t limit, uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    if (start_length > KV_KEY_MAX || stop_length > KV_KEY_MAX) return KV_INVALID;
    kv_key start = {block.key, start_length}, stop = {block.key2, stop_length};
    return answer(kv_txn_delete_range(db, table, start, flags & KV_CURSOR_HAS_STOP ? &stop : NULL, limit, &block.count));
}

kv_status kv_guest_put_many(uint32_t table, uint32_t count, uint32_t bytes) {
    if (db == NULL) return KV_CLOSED;
    if (bytes > sizeof data) return KV_INVALID;
    uint64_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (at + sizeof(kv_put_entry) > bytes) return KV_INVALID;
        kv_put_entry entry;
        memcpy(&entry, data + at, sizeof entry);
        at += sizeof entry;
        if (entry.key_length > bytes - at || entry.value_length > bytes - at - entry.key_length) return KV_INVALID;
        kv_key key = {data + at, entry.key_length};
        const uint8_t *value = data + at + entry.key_length;
        kv_status status = kv_txn_put(db, table, key, value, entry.value_length, 0, &block.value);
        if (status != KV_OK) return answer(status);
        at += KV_ALIGN8((uint64_t)entry.key_length + entry.value_length);
    }
    return KV_OK;
}

kv_status kv_guest_value_begin(uint32_t table, uint32_t key_length, uint32_t value_length, uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    return answer(kv_value_begin(db, table, key_argument(key_length), value_length, flags));
}

kv_status kv_guest_value_chunk(uint32_t bytes) {
    if (db == NULL) return KV_CLOSED;
    return bytes > sizeof data ? KV_INVALID : answer(kv_value_chunk(db, data, bytes));
}

kv_status kv_guest_value_end(void) { return db == NULL ? KV_CLOSED : answer(kv_value_end(db)); }

kv_status kv_guest_txn_begin(void) { return db == NULL ? KV_CLOSED : answer(kv_txn_begin(db)); }
kv_status kv_guest_txn_settle(void) {
    enum { PUTS_A_STEP = 2048 };
    return db == NULL ? KV_CLOSED : answer(kv_pending_merge(db, PUTS_A_STEP));
}
kv_status kv_guest_txn_commit(uint32_t flags) { return db == NULL ? KV_CLOSED : answer(kv_txn_commit(db, flags)); }
kv_status kv_guest_catch_up(void) { return db == NULL ? KV_CLOSED : answer(kv_checkpoint_catch_up(db)); }
kv_status kv_guest_txn_rollback(void) { return db == NULL ? KV_CLOSED : answer(kv_txn_rollback(db)); }

kv_status kv_guest_savepoint_begin(void) {
    if (db == NULL) return KV_CLOSED;
    return db->txn.state == KV_TXN_NONE ? KV_NO_TRANSACTION : answer(kv_savepoint_begin(db));
}
kv_status kv_guest_savepoint_release(void) { return db == NULL ? KV_CLOSED : answer(kv_savepoint_release(db)); }
kv_status kv_guest_savepoint_rollback(void) { return db == NULL ? KV_CLOSED : answer(kv_savepoint_roll_back(db)); }

kv_status kv_guest_table_find(uint32_t name_length, uint32_t view) {
    if (db == NULL) return KV_CLOSED;
    const kv_state *state;
    kv_file *file;
    kv_status status = kv_db_state(db, view, &state, &file);
    if (status != KV_OK) return status;
    return answer(kv_table_find(db, file->nodes, state, key_argument(name_length), &block.table));
}

kv_status kv_guest_table_create(uint32_t name_length) {
    return db == NULL ? KV_CLOSED : answer(kv_table_create(db, key_argument(name_length), &block.table));
}

kv_status kv_guest_table_drop(uint32_t name_length) {
    return db == NULL ? KV_CLOSED : answer(kv_table_drop(db, key_argument(name_length)));
}

kv_status kv_guest_table_names(uint32_t after_length, uint32_t view) {
    if (db == NULL) return KV_CLOSED;
    const kv_state *state;
    kv_file *file;
    kv_status status = kv_db_state(db, view, &state, &file);
    if (status != KV_OK) return status;
    return answer(
        kv_table_names(db, file->nodes, state, key_argument(after_length), data, sizeof data, &block.count));
}

kv_status kv_guest_snapshot_open(void) { return db == NULL ? KV_CLOSED : answer(kv_snapshot_open(db, &block.handle)); }
kv_status kv_guest_snapshot_close(uint32_t handle) {
    return db == NULL ? KV_CLOSED : answer(kv_snapshot_close(db, handle));
}

kv_status kv_guest_sync_begin(void) { return db == NULL ? KV_CLOSED : answer(kv_db_sync_begin(db)); }
kv_status kv_guest_synced(uint64_t position) { return db == NULL ? KV_CLOSED : answer(kv_db_synced(db, position)); }
kv_status kv_guest_sync_failed(int32_t os_error) {
    return db == NULL ? KV_CLOSED : answer(kv_db_sync_failed(db, os_error));
}
kv_status kv_guest_flush(void) { return db == NULL ? KV_CLOSED : answer(kv_db_flush(db)); }

kv_status kv_guest_cursor_open(uint32_t table, uint32_t start_length, uint32_t stop_length, uint32_t view,
                               uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    if (start_length > KV_KEY_MAX || stop_length > KV_KEY_MAX) return KV_INVALID;
    kv_key start = {block.key, start_length}, stop = {block.key2, stop_length};
    kv_status status = kv_cursor_open(db, table, start, stop, view, flags, &block.handle);
    if (status == KV_OK && (flags & KV_CURSOR_SINCE) != 0) status = kv_cursor_since(db, block.handle, block.position);
    return answer(status);
}

kv_status kv_guest_cursor_next(uint32_t handle, uint32_t limit) {
    return db == NULL ? KV_CLOSED : answer(kv_cursor_next(db, handle, limit, data, sizeof data, &block.count));
}

kv_status kv_guest_cursor_count(uint32_t handle, uint32_t leaves) {
    return db == NULL ? KV_CLOSED : answer(kv_cursor_count(db, handle, leaves, &block.count));
}

kv_status kv_guest_cursor_close(uint32_t handle) { return db == NULL ? KV_CLOSED : answer(kv_cursor_close(db, handle)); }

kv_status kv_guest_stats(void) {
    return db == NULL ? KV_CLOSED : answer(kv_db_stats(db, (kv_guest_stats_result *)(void *)data));
}

kv_status kv_guest_check_begin(void) { return db == NULL ? KV_CLOSED : answer(kv_check_begin(db)); }

kv_status kv_guest_check_step(void) {
    if (db == NULL) return KV_CLOSED;
    return answer(kv_check_step(db, (kv_problem *)(void *)data, sizeof data / sizeof(kv_problem), &block.count));
}

static_assert(sizeof data >= KV_COMPACT_ENTRIES_A_STEP * sizeof(kv_value_ref), "what a step tells of the next");

kv_status kv_guest_compact_begin(void) { return db == NULL ? KV_CLOSED : answer(kv_compact_begin(db)); }

kv_status kv_guest_compact_step(uint32_t flags) {
    if (db == NULL) return KV_CLOSED;
    kv_status status = answer(kv_compact_step(db, flags));
    block.fd = status == KV_SYNC_FIRST ? db->compaction.target->file->fd : db->file->fd;
    block.count = status == KV_AGAIN ? kv_compact_ahead(db, (kv_value_ref *)(void *)data) : 0;
    return status;
}

kv_status kv_guest_compact_abort(void) { return db == NULL ? KV_CLOSED : answer(kv_compact_abort(db)); }

static kv_repair *repair;

kv_status kv_guest_repair_begin(uint32_t source_length, uint32_t target_length) {
    if (db != NULL || repair != NULL) return KV_BUSY;
    if (source_length >= KV_PATH_MAX || target_length >= KV_PATH_MAX) return KV_INVALID;
    static char source[KV_PATH_MAX], target[KV_PATH_MAX];
    memcpy(source, data, source_length);
    memcpy(target, data + source_length, target_length);
    source[source_length] = target[target_length] = 0;
    if (strlen(source) != source_length || strlen(target) != target_length) return KV_INVALID;
    return kv_repair_begin(source, target, block.random_seed, block.cache_bytes, &repair);
}

kv_status kv_guest_repair_step(uint32_t flags) {
    if (repair == NULL) return KV_INVALID;
    kv_problem *problems = (kv_problem *)(void *)(data + sizeof(kv_guest_repair_result));
    uint32_t capacity = (sizeof data - sizeof(kv_guest_repair_result)) / sizeof *problems;
    kv_status status = kv_repair_step(repair, flags, problems, capacity, &block.count);
    memcpy(data, &repair->result, sizeof repair->result);
    if (status == KV_SYNC_FIRST) block.fd = repair->target->file->fd;
    if (status >= KV_INVALID) describe(&repair->error);
    return status;
}

kv_status kv_guest_repair_abort(void) {
    if (repair == NULL) return KV_INVALID;
    kv_repair_free(repair);
    repair = NULL;
    block.fd = -1;
    return KV_OK;
}
