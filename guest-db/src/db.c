#include "db.h"

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

kv_status kv_db_open(const kv_open_options *options, kv_db **opened) {
    *opened = NULL;
    size_t length = strlen(options->path);
    if (length == 0 || length >= KV_PATH_MAX) return KV_INVALID;
    kv_db *db = calloc(1, sizeof *db);
    if (db == NULL) return KV_NO_MEMORY;
    *opened = db; /* also on failure: it holds the error */
    memcpy(db->path, options->path, length + 1);
    db->published.pin = db->flushing.pin = db->txn.base_pin = KV_NO_PIN;
    db->check.version.pin = db->compaction.source.pin = db->sweep.version.pin = KV_NO_PIN;
    db->collection.loaded.sector = UINT64_MAX;
    kv_status status = kv_nodes_init(&db->nodes);
    if (status == KV_OK) status = open_file(db, options);
    if (status != KV_OK) return status;
    if (!db->read_only) remove_leftovers(db->path);
    status = kv_superblock_read(db->file);
    if (status == KV_OK) status = kv_sectors_read(db->file);
    if (status == KV_OK) status = kv_recover(db);
    return status == KV_OK ? KV_OK : kv_db_fail(db, status);
}

kv_status kv_db_close_mark(kv_db *db) {
    if (db->file->poisoned) return KV_POISONED;
    if (db->read_only || db->close_marked) return KV_OK;
    bool waiting = kv_log_is_waiting(db->file) && db->committed_end != kv_log_position(db->file);
    if (db->txn.state != KV_TXN_NONE || db->durable < db->committed_end || waiting) return KV_BUSY;
    kv_record mark = {
        .type = KV_RECORD_CLOSE, .flags = KV_FLAG_COMMIT, .commit = ++db->last_commit, .confirmed = db->durable};
    kv_status status = kv_log_append(db->file, &mark, NULL);
    if (status == KV_OK) status = kv_log_write(db->file, false);
    db->file->super.durable = db->durable;
    db->file->super.commit = db->last_commit;
    if (status == KV_OK) status = kv_superblock_write(db->file);
    if (status != KV_OK) return kv_db_fail(db, status);
    db->close_marked = true;
    db->position = kv_log_position(db->file);
    return KV_NEEDS_SYNC;
}

void kv_db_free(kv_db *db) {
    if (db == NULL) return;
    if (db->compaction.open) (void)kv_compact_abort(db);
    for (uint32_t handle = 0; handle < KV_CURSORS_MAX; handle++) {
        if (db->cursors[handle] == NULL) continue;
        kv_file_release(db->cursors[handle]->file);
        free(db->cursors[handle]);
    }
    kv_check_end(db);
    kv_collect_end(db);
    kv_file_release(db->file);
    kv_nodes_destroy(&db->nodes);
    kv_hash_destroy(&db->hash);
    free(db);
}

const kv_root *kv_db_root(const kv_db *db, uint32_t view) {
    if (view == KV_VIEW_PUBLISHED) return db->published.pin == KV_NO_PIN ? &db->head : &db->published.root;
    return view == KV_VIEW_TRANSACTION && db->txn.state != KV_TXN_NONE ? &db->txn.root : NULL;
}

kv_value_ref kv_db_value_ref(const kv_db *db, const kv_file *file, const kv_place *place) {
    const uint8_t *waiting = file == db->file ? kv_log_waiting(file, place->offset) : NULL;
    return (kv_value_ref){.offset = waiting != NULL ? (uint64_t)(uintptr_t)waiting : place->offset,
                          .length = place->length,
                          .sum = place->sum,
                          .where = waiting != NULL ? KV_WHERE_MEMORY : KV_WHERE_FILE,
                          .fd = file->fd};
}

kv_status kv_db_get(kv_db *db, kv_key key, uint32_t view, kv_value_ref *value) {
    if (db->file->poisoned) return KV_POISONED;
    bool may_guess = view == (KV_VIEW_PUBLISHED | KV_VIEW_MAY_GUESS);
    if (may_guess) {
        uint64_t record = kv_hash_find(&db->hash, key);
        if (record != 0) {
            *value = (kv_value_ref){.offset = record, .where = KV_WHERE_GUESS, .fd = db->file->fd};
            return KV_OK;
        }
    }
    const kv_root *root = kv_db_root(db, view & ~KV_VIEW_MAY_GUESS);
    if (root == NULL) return view & KV_VIEW_TRANSACTION ? KV_NO_TRANSACTION : KV_INVALID;
    kv_place place;
    if (!kv_tree_get(&db->nodes, root, key, &place)) {
        if (key.length == 0) return KV_KEY_EMPTY;
        return key.length <= KV_KEY_MAX ? KV_NOT_FOUND : KV_KEY_TOO_LARGE;
    }
    *value = kv_db_value_ref(db, db->file, &place);
    bool settled = db->published.pin == KV_NO_PIN && db->txn.state == KV_TXN_NONE && value->where == KV_WHERE_FILE;
    if (may_guess && settled) {
        kv_hash_fit(&db->hash, root->count);
        kv_hash_put(&db->hash, key, place.offset - key.length - KV_RECORD_HEADER_BYTES, 0);
    }
    return KV_OK;
}

kv_status kv_db_count(const kv_db *db, uint32_t view, uint64_t *count) {
    const kv_root *root = kv_db_root(db, view);
    if (root == NULL) return view == KV_VIEW_TRANSACTION ? KV_NO_TRANSACTION : KV_INVALID;
    *count = root->count;
    return KV_OK;
}

kv_status kv_db_stats(kv_db *db, kv_guest_stats_result *stats) {
    kv_file *file = db->file;
    const kv_root *root = kv_db_root(db, KV_VIEW_PUBLISHED);
    uint64_t size;
    kv_status status = kv_file_size(file, &size);
    if (status != KV_OK) return kv_db_fail(db, status);
    *stats = (kv_guest_stats_result){.keys = root->count,
                                     .file_bytes = size,
                                     .live_bytes = root->live_bytes + root->large_bytes,
                                     .sectors = file->sector_count,
                                     .sector_bytes = file->sector_bytes,
                                     .commits = db->last_commit,
                                     .durable_position = db->durable,
                                     .end_position = db->committed_end,
                                     .index_nodes = db->nodes.in_use,
                                     .index_height = root->height,
                                     .recovered_commits = db->recovered.commits,
                                     .discarded_bytes = db->recovered.discarded_bytes,
                                     .cursors = db->cursor_count,
                                     .format_version = KV_FORMAT_VERSION};
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].erases > stats->erase_max) stats->erase_max = file->sectors[i].erases;
#ifdef __wasm__
    stats->memory_bytes = (uint64_t)__builtin_wasm_memory_size(0) * 65536;
#endif
    return KV_OK;
}
