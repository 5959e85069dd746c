#include "db.h"

bool kv_stored_sector(const kv_file *file, uint64_t offset, uint64_t *sector) {
    if (offset < KV_SECTORS_START) return false;
    *sector = (offset - KV_SECTORS_START) >> file->sector_shift;
    if (*sector >= file->sector_count) return false;
    while (*sector > 0 && file->sectors[*sector].type == KV_SECTOR_INSIDE) --*sector;
    return true;
}

kv_status kv_stored_record(kv_file *file, kv_key key, const kv_place *place, kv_record *record, uint8_t *bytes,
                           uint32_t value_bytes) {
    uint64_t before = KV_SECTORS_START + KV_SECTOR_DATA + KV_RECORD_HEADER_BYTES + key.length;
    if (place->offset < before) return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_INDEX, place->offset);
    uint64_t at = kv_record_offset(place, key);
    uint64_t sector;
    if (at % 8 != 0 || !kv_stored_sector(file, at, &sector)) return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_INDEX, at);
    kv_status status = kv_file_read(file, at, bytes, KV_RECORD_HEADER_BYTES + key.length + value_bytes);
    if (status != KV_OK) return status;
    const kv_sector *s = &file->sectors[sector];
    uint64_t position = kv_position(file, s->generation, at - kv_sector_offset(file, sector));
    bool fits = kv_load16(bytes + KV_RH_KEY_LENGTH) == key.length && !(bytes[KV_RH_FLAGS] & KV_FLAG_EXTERNAL); /* in what was read */
    bool valid = fits && kv_record_decode(record, bytes, UINT64_MAX / 2, s->salt, position) &&
                 (record->type == KV_RECORD_PUT || record->type == KV_RECORD_VALUE);
    if (!valid) return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_RECORD, at);
    if (kv_compare(record->key, key) != 0 || record->value_length != place->length || record->value_sum != place->sum)
        return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_INDEX, at);
    return KV_OK;
}

void kv_last_key_set(kv_last_key *last, kv_key key) {
    last->any = true;
    last->length = key.length;
    memcpy(last->data, key.data, key.length);
}

kv_status kv_last_key_seek(const kv_last_key *last, kv_walk *walk) {
    kv_key key = {last->any ? last->data : NULL, last->length};
    kv_status status = kv_walk_forward_from(walk, key, true);
    if (status != KV_OK || !walk->valid || !last->any) return status;
    uint8_t buffer[KV_KEY_MAX];
    if (kv_compare(kv_walk_key(walk, buffer), key) > 0) return KV_OK;
    walk->valid = false; /* keys out of order: the walk would not end */
    return kv_nodes_fail(walk->nodes, walk->path.steps[0].node);
}
