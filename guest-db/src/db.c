#include "replay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

kv_status kv_db_fail(kv_db *db, kv_status status) {
    db->error = db->file->error;
    return status;
}

static kv_status os_status(kv_db *db) {
    db->error = (kv_error){.os_error = errno};
    switch (errno) {
    case ENOENT: return KV_NO_SUCH_FILE;
    case ENOSPC: return KV_DISK_FULL;
    case EROFS: return KV_READ_ONLY;
    default: return KV_IO;
    }
}

/* Open the file, creating it where that is asked for. */
static kv_status open_file(kv_db *db, const kv_open_options *options) {
    bool read_only = options->flags & KV_OPEN_READ_ONLY;
    kv_status status = KV_OK;
    uint64_t seed = options->random_seed;
    int fd = -1;
    if (!(options->flags & KV_OPEN_REPLACE)) {
        fd = open(options->path, read_only ? O_RDONLY : O_RDWR);
        if (fd < 0 && (errno != ENOENT || !(options->flags & KV_OPEN_CREATE))) return os_status(db);
    }
    if (fd < 0) {
        status = kv_create(options);
        if (status != KV_OK) {
            db->error = (kv_error){.os_error = errno};
            return status;
        }
        fd = open(options->path, O_RDWR);
        if (fd < 0) return os_status(db);
    }
    struct stat attributes;
    if (fstat(fd, &attributes) == 0 && !S_ISREG(attributes.st_mode)) {
        close(fd);
        return KV_NOT_A_DATABASE;
    }
    if (!read_only) status = kv_random_seed(&seed);
    db->file = status == KV_OK ? kv_file_new(fd, KV_SECTOR_BYTES_DEFAULT, seed) : NULL;
    if (db->file == NULL) {
        close(fd);
        return status == KV_OK ? KV_NO_MEMORY : status;
    }
    db->file->read_only = db->read_only = read_only;
    db->hash.seed = kv_file_random(db->file);
    return KV_OK;
}

/* What a creation or a compaction that was cut short has left. */
static void remove_leftovers(const char *path) {
    char side[KV_PATH_MAX + 16];
    kv_side_path(path, KV_NEW_SUFFIX, side);
    unlink(side);
    kv_side_path(path, KV_COMPACT_SUFFIX, side);
    unlink(side);
}

/* Whoever gave the file its name may have been killed before the directory was flushed: nothing is acknowledged in a file that a
 * power cut could still take away. The next superblock remembers that this was done. */
static kv_status secure_name(kv_db *db) {
    if (db->file->super.installed) return KV_OK;
    if (kv_sync_directory(db->path) != 0) {
        db->file->error = (kv_error){.os_error = errno};
        return KV_IO;
    }
    db->file->super.installed = 1;
    return KV_OK;
}

void kv_db_init(kv_db *db, uint64_t cache_bytes) {
    db->published.pin = db->flushing.pin = db->txn.base_pin = KV_NO_PIN;
    db->check.version.pin = db->compaction.source.pin = db->checkpoint.pin = KV_NO_PIN;
    db->slot_pin[0] = db->slot_pin[1] = KV_NO_PIN;
    db->collection.loaded.sector = db->collection.sector = UINT64_MAX;
    if (cache_bytes == 0) cache_bytes = KV_CACHE_DEFAULT;
    db->cache_bytes = cache_bytes < KV_CACHE_MIN ? KV_CACHE_MIN : cache_bytes;
}

kv_status kv_db_open(const kv_open_options *options, kv_db **opened) {
    kv_status status = kv_db_open_begin(options, opened);
    return status == KV_OK ? kv_db_open_finish(*opened) : status;
}

kv_status kv_db_open_begin(const kv_open_options *options, kv_db **opened) {
    *opened = NULL;
    size_t length = strlen(options->path);
    if (length == 0 || length >= KV_PATH_MAX) return KV_INVALID;
    kv_db *db = calloc(1, sizeof *db);
    if (db == NULL) return KV_NO_MEMORY;
    *opened = db; /* also on failure: it holds the error */
    memcpy(db->path, options->path, length + 1);
    kv_db_init(db, options->cache_bytes);
    kv_status status = open_file(db, options);
    if (status != KV_OK) return status;
    if (!db->read_only) remove_leftovers(db->path);
    status = kv_superblock_read(db->file);
    return status == KV_OK ? KV_OK : kv_db_fail(db, status);
}

kv_status kv_db_open_finish(kv_db *db) {
    kv_status status = db->read_only ? KV_OK : secure_name(db);
    if (status == KV_OK) status = kv_file_need_nodes(db->file, db->cache_bytes);
    db->nodes = db->file->nodes;
    if (status == KV_OK) status = kv_recover(db);
    return status == KV_OK ? KV_OK : kv_db_fail(db, status);
}

void kv_db_free(kv_db *db) {
    if (db == NULL) return;
    if (db->compaction.open) (void)kv_compact_abort(db);
    for (uint32_t handle = 0; handle < KV_CURSORS_MAX; handle++)
        if (db->cursors[handle] != NULL) (void)kv_cursor_close(db, handle);
    for (uint32_t handle = 0; handle < KV_SNAPSHOTS_MAX; handle++)
        if (db->snapshots[handle] != NULL) (void)kv_snapshot_close(db, handle);
    kv_check_end(db);
    kv_follow_end(db);
    kv_collect_end(db);
    kv_checkpoint_end(db);
    kv_file_release(db->file);
    kv_hash_destroy(&db->hash);
    kv_pending_free(db);
    free(db->live.changes);
    free(db);
}

kv_status kv_db_state(kv_db *db, uint32_t view, const kv_state **state, kv_file **file) {
    *file = db->file;
    if (view == KV_VIEW_PUBLISHED) {
        *state = db->published.pin == KV_NO_PIN ? &db->head : &db->published.state;
        return KV_OK;
    }
    if (view == KV_VIEW_TRANSACTION) {
        *state = &db->txn.now;
        return db->txn.state != KV_TXN_NONE ? KV_OK : KV_NO_TRANSACTION;
    }
    if (view < KV_VIEW_SNAPSHOT || view - KV_VIEW_SNAPSHOT >= KV_SNAPSHOTS_MAX) return KV_INVALID;
    const kv_snapshot *snapshot = db->snapshots[view - KV_VIEW_SNAPSHOT];
    if (snapshot == NULL) return KV_INVALID;
    *state = &snapshot->version.state;
    *file = snapshot->file;
    return KV_OK;
}

/* The root of a table as `view` sees it, and the file in which its values lie. */
static kv_status find_root(kv_db *db, uint32_t table, uint32_t view, kv_root *root, kv_file **file) {
    const kv_state *state;
    kv_status status = kv_db_state(db, view, &state, file);
    if (status != KV_OK || view != KV_VIEW_TRANSACTION)
        return status == KV_OK ? kv_table_root(db, (*file)->nodes, state, table, root) : status;
    kv_root *changing;
    status = kv_table_in_txn(db, table, &changing);
    if (status == KV_OK) *root = *changing;
    return status;
}

kv_value_ref kv_db_value_ref(const kv_db *db, const kv_file *file, const kv_place *place) {
    const uint8_t *waiting = file == db->file ? kv_log_waiting(file, place->offset) : NULL;
    return (kv_value_ref){.offset = waiting != NULL ? (uint64_t)(uintptr_t)waiting : place->offset,
                          .length = place->length,
                          .sum = place->sum,
                          .where = waiting != NULL ? KV_WHERE_MEMORY : KV_WHERE_FILE,
                          .fd = file->fd};
}

/* A point read came to this leaf, so others will: put all of its keys into the hash, once. That is some microseconds for a
 * leaf, and after as many reads as there are leaves most others need no walk. */
static void learn(kv_db *db, uint32_t table, kv_node *leaf) {
    static kv_hash_entry entries[KV_NODE_SLOTS_MAX];
    uint8_t bytes[KV_KEY_MAX];
    uint32_t count = 0;
    leaf->learned = db->hash.number;
    memcpy(bytes, kv_prefix(leaf), leaf->prefix);
    for (uint32_t i = 0; i < leaf->count; i++) {
        kv_place place = kv_node_place(leaf, i);
        if (kv_log_waiting(db->file, place.offset) != NULL) continue;
        memcpy(bytes + leaf->prefix, kv_suffix(leaf, i), leaf->slots[i].length);
        kv_key key = {bytes, leaf->prefix + (uint32_t)leaf->slots[i].length};
        entries[count++] = (kv_hash_entry){kv_hash_sum(&db->hash, table, key), kv_record_offset(&place, key)};
    }
    kv_hash_put_many(&db->hash, entries, count, 0);
}

kv_status kv_db_get(kv_db *db, uint32_t table, kv_key key, uint32_t view, kv_value_ref *value) {
    if (db->file->poisoned) return KV_POISONED;
    bool may_guess = view == (KV_VIEW_PUBLISHED | KV_VIEW_MAY_GUESS);
    if (may_guess) {
        uint64_t record = kv_hash_find(&db->hash, table, key);
        if (record != 0) {
            *value = (kv_value_ref){.offset = record, .where = KV_WHERE_GUESS, .fd = db->file->fd};
            return KV_OK;
        }
    }
    if (key.length == 0) return KV_KEY_EMPTY;
    if (key.length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    kv_root root;
    kv_file *file;
    kv_status status = find_root(db, table, view & ~KV_VIEW_MAY_GUESS, &root, &file);
    if (status == KV_OK) status = kv_nodes_ready(file->nodes, KV_HEIGHT_MAX);
    kv_path path;
    if (status == KV_OK) status = kv_tree_find(file->nodes, &root, key, &path);
    if (status == KV_CORRUPT || status == KV_IO) db->error = file->error;
    if (status != KV_OK) return status;
    kv_node *leaf = kv_node_here(file->nodes, path.steps[0].node);
    kv_place place = kv_node_place(leaf, path.steps[0].index);
    *value = kv_db_value_ref(db, file, &place);
    bool settled = db->published.pin == KV_NO_PIN && db->txn.state == KV_TXN_NONE && value->where == KV_WHERE_FILE;
    if (may_guess && settled) {
        kv_hash_fit(&db->hash, root.count);
        if (leaf->learned != db->hash.number && kv_hash_holds(&db->hash, root.count))
            learn(db, table, leaf);
        else
            kv_hash_put(&db->hash, table, key, kv_record_offset(&place, key), 0);
    }
    return KV_OK;
}

kv_status kv_db_count(kv_db *db, uint32_t table, uint32_t view, uint64_t *count) {
    kv_root root;
    kv_file *file;
    kv_status status = find_root(db, table, view, &root, &file);
    if (status == KV_OK) *count = root.count;
    return status;
}

/* What the published state does not have lies in the log behind what that has, or in a run that is open or still to come. Which
 * one is open a reader does not know: no other than the newest. */
static uint64_t generation_from_now(const kv_db *db) {
    const kv_file *file = db->file;
    uint64_t log = (db->published.pin == KV_NO_PIN ? db->committed_end : db->durable) >> file->sector_shift;
    uint64_t run = file->run.open ? file->run.generation : 0;
    if (db->read_only) run = kv_sectors_newest(file, KV_SECTOR_VALUES);
    return run != 0 && run < log ? run : log;
}

kv_status kv_db_stats(kv_db *db, kv_guest_stats_result *stats) {
    kv_file *file = db->file;
    const kv_nodes *nodes = db->nodes;
    const kv_state *state;
    (void)kv_db_state(db, KV_VIEW_PUBLISHED, &state, &file);
    uint64_t size;
    kv_status status = kv_file_size(file, &size);
    if (status != KV_OK) return kv_db_fail(db, status);
    *stats = (kv_guest_stats_result){
        .keys = state->main.count,
        .file_bytes = size,
        .live_bytes = kv_live_total(db, KV_SECTOR_LOG) + kv_live_total(db, KV_SECTOR_VALUES),
        .sectors = file->sector_count,
        .sector_bytes = file->sector_bytes,
        .commits = db->last_commit,
        .durable_position = db->durable,
        .end_position = db->committed_end,
        .index_nodes = nodes->pages_in_use,
        .index_height = state->main.height,
        .recovered_commits = db->recovered.commits,
        .discarded_bytes = db->recovered.discarded_bytes,
        .cursors = db->cursor_count,
        .format_version = KV_FORMAT_VERSION,
        .snapshots = db->snapshot_count,
        .cached_nodes = nodes->frames - nodes->free_frame_count,
        .changed_nodes = nodes->dirty_count,
        .node_loads = nodes->loads,
        .tail_bytes = db->tail_bytes,
        .tail_records = db->tail_records,
        .checkpoint = file->super.sequence,
        .cache_bytes = db->cache_bytes,
        .database_id = file->super.database_id,
        .generation = generation_from_now(db),
    };
    for (uint64_t i = 0; i < file->sector_count; i++) {
        const kv_sector *s = &file->sectors[i];
        if (s->erases > stats->erase_max) stats->erase_max = s->erases;
        stats->erases += s->erases;
        stats->sectors_free += s->type == 0;
        if (s->emptied && s->emptied_epoch > nodes->oldest_pin) stats->pinned_bytes += (uint64_t)s->span << file->sector_shift;
    }
#ifdef __wasm__
    stats->memory_bytes = (uint64_t)__builtin_wasm_memory_size(0) * 65536;
#endif
    return KV_OK;
}
