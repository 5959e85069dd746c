/* Values above KV_INLINE_MAX: written straight into a run of value sectors, a record header and the key before them; the log
 * gets a record that refers to them. They never lie whole in memory. */
#include "db.h"

static uint64_t value_offset(const kv_file *file, uint64_t header, uint32_t key_length) {
    return kv_sector_offset(file, file->run.sector) + header + KV_RECORD_HEADER_BYTES + key_length;
}

kv_status kv_run_reserve(kv_file *file, uint32_t key_length, uint32_t value_length, uint64_t *header) {
    kv_run *run = &file->run;
    uint64_t bytes = KV_ALIGN8((uint64_t)KV_RECORD_HEADER_BYTES + key_length + value_length);
    if (!run->open || run->end + bytes > run->limit) {
        uint32_t span = (uint32_t)((KV_SECTOR_DATA + bytes + file->sector_bytes - 1) >> file->sector_shift);
        uint64_t sector;
        kv_status status = kv_sectors_add(file, KV_SECTOR_VALUES, span, 0, 0, &sector);
        if (status != KV_OK) return status;
        *run = (kv_run){.sector = sector,
                        .generation = file->sectors[sector].generation,
                        .salt = file->sectors[sector].salt,
                        .end = KV_SECTOR_DATA,
                        .limit = (uint64_t)span << file->sector_shift,
                        .open = true};
        status = kv_log_write_header(file, sector);
        if (status != KV_OK) {
            run->open = false;
            kv_sectors_give_back(file, sector);
            return status;
        }
    }
    *header = run->end;
    run->end += bytes;
    return KV_OK;
}

kv_status kv_value_begin(kv_db *db, uint32_t table, kv_key key, uint32_t length, uint32_t flags) {
    if (length > KV_VALUE_MAX) return KV_VALUE_TOO_LARGE;
    if (length <= KV_INLINE_MAX || db->incoming.open) return KV_INVALID;
    kv_root *root;
    kv_path path;
    kv_status status = kv_txn_find(db, table, key, flags, &root, &path);
    if (status != KV_OK && status != KV_NOT_FOUND) return status;
    if (status == KV_OK && (flags & KV_NO_OVERWRITE)) return KV_EXISTS;
    uint64_t header;
    status = kv_run_reserve(db->file, key.length, length, &header);
    if (status != KV_OK) return kv_txn_fail(db, status);
    kv_incoming *in = &db->incoming;
    in->open = true;
    in->table = table;
    in->length = length;
    in->received = 0;
    in->header = header;
    in->key_length = key.length;
    memcpy(in->key, key.data, key.length);
    kv_xxh64_begin(&in->sum, 0);
    db->txn.has_external = true;
    return KV_OK;
}

kv_status kv_value_chunk(kv_db *db, const uint8_t *data, uint32_t length) {
    kv_incoming *in = &db->incoming;
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status != KV_OK) return status;
    if (!in->open || length > in->length - in->received) return KV_INVALID;
    status = kv_file_write(db->file, value_offset(db->file, in->header, in->key_length) + in->received, data, length, NULL);
    if (status != KV_OK) return kv_txn_fail(db, status);
    kv_xxh64_add(&in->sum, data, length);
    in->received += length;
    return KV_OK;
}

kv_status kv_value_end(kv_db *db) {
    kv_incoming *in = &db->incoming;
    kv_status status = kv_db_writable(db, KV_IN_TRANSACTION);
    if (status != KV_OK) return status;
    if (!in->open || in->received != in->length) return KV_INVALID;
    in->open = false;
    kv_file *file = db->file;
    kv_key key = {in->key, in->key_length};
    kv_record record = {.type = KV_RECORD_VALUE,
                        .table = in->table,
                        .commit = db->txn.commit,
                        .key = key,
                        .value_length = in->length,
                        .value_sum = (uint32_t)kv_xxh64_end(&in->sum)};
    uint8_t header[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    uint64_t position = kv_position(file, file->run.generation, in->header);
    kv_record_encode(&record, header, file->run.salt, position);
    status = kv_file_write(file, kv_sector_offset(file, file->run.sector) + in->header, header,
                           KV_RECORD_HEADER_BYTES + key.length, NULL);
    if (status != KV_OK) return kv_txn_fail(db, status);
    kv_place place = {value_offset(file, in->header, key.length), in->length, record.value_sum};
    kv_root *root;
    kv_path path;
    status = kv_txn_find(db, in->table, key, 0, &root, &path);
    bool there = status == KV_OK;
    if (!there && status != KV_NOT_FOUND) return kv_txn_fail(db, status);
    record.type = KV_RECORD_PUT;
    record.flags = KV_FLAG_EXTERNAL;
    record.external = place.offset;
    status = kv_txn_append(db, &record, NULL);
    db->txn.log_bytes += in->length; /* it counts towards the next checkpoint, after which dead values' space can be used */
    if (status == KV_OK) kv_txn_apply_put(db, in->table, root, &path, key, there, &place);
    return status;
}
