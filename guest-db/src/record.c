#include "record.h"

#include "checksum.h"

/* Header, key and reference: what the header's checksum covers, but for the sum itself. */
static uint32_t covered_bytes(const kv_record *record) {
    return KV_RECORD_HEADER_BYTES + record->key.length + (record->flags & KV_FLAG_EXTERNAL ? KV_EXTERNAL_BYTES : 0);
}

static uint32_t sum_of(const uint8_t *bytes, uint32_t covered, uint64_t salt, uint64_t position) {
    return (uint32_t)kv_xxh64(bytes + KV_RH_CHAIN, covered - KV_RH_CHAIN, kv_record_seed(salt, position));
}

void kv_record_encode(kv_record *record, uint8_t *to, uint64_t salt, uint64_t position) {
    kv_store32(to + KV_RH_CHAIN, record->chain);
    kv_store64(to + KV_RH_COMMIT, record->commit);
    kv_store64(to + KV_RH_CONFIRMED, record->confirmed);
    kv_store32(to + KV_RH_VALUE_LENGTH, record->value_length);
    kv_store32(to + KV_RH_VALUE_SUM, record->value_sum);
    kv_store32(to + KV_RH_TABLE, record->table);
    kv_store16(to + KV_RH_KEY_LENGTH, (uint16_t)record->key.length);
    to[KV_RH_TYPE] = record->type;
    to[KV_RH_FLAGS] = record->flags;
    uint8_t *after = to + KV_RECORD_HEADER_BYTES;
    if (record->key.length > 0) memcpy(after, record->key.data, record->key.length);
    after += record->key.length;
    if (record->flags & KV_FLAG_EXTERNAL) {
        kv_store64(after, record->external);
        after += KV_EXTERNAL_BYTES;
    } else if (record->type == KV_RECORD_PUT) {
        if (record->value_length > 0) memcpy(after, record->value, record->value_length);
        after += record->value_length;
    }
    if (record->type != KV_RECORD_VALUE)
        while ((uintptr_t)(after - to) % 8 != 0) *after++ = 0;
    record->sum = sum_of(to, covered_bytes(record), salt, position);
    kv_store32(to + KV_RH_SUM, record->sum);
}

/* Could these fields have been written by us? Settled before any of them is used. */
static bool plausible(const kv_record *record, uint64_t position) {
    bool commit = record->flags & KV_FLAG_COMMIT, external = record->flags & KV_FLAG_EXTERNAL;
    if (record->flags & ~(KV_FLAG_COMMIT | KV_FLAG_EXTERNAL | KV_FLAG_FLUSHED)) return false;
    if (record->commit == 0 || record->confirmed > position || (record->confirmed != 0 && !commit)) return false;
    if ((record->flags & KV_FLAG_FLUSHED) && !commit) return false;
    bool keyed = record->key.length >= 1 && record->key.length <= KV_KEY_MAX;
    switch (record->type) {
    case KV_RECORD_PUT: return keyed && record->value_length <= (external ? KV_VALUE_MAX : KV_INLINE_MAX);
    case KV_RECORD_DELETE: return keyed && !external && record->value_length == 0;
    case KV_RECORD_COMMIT: return record->key.length == 0 && commit && !external;
    case KV_RECORD_UNDO: return record->key.length == 0 && record->flags == 0;
    case KV_RECORD_TABLE:
    case KV_RECORD_DROP:
        return keyed && record->key.length <= KV_TABLE_NAME_MAX && !external && record->value_length == 0 && record->table != 0;
    case KV_RECORD_VALUE: return keyed && record->flags == 0 && record->value_length <= KV_VALUE_MAX;
    default: return false;
    }
}

bool kv_record_decode(kv_record *record, const uint8_t *from, uint64_t available, uint64_t salt, uint64_t position) {
    if (available < KV_RECORD_HEADER_BYTES) return false;
    record->type = from[KV_RH_TYPE];
    if (record->type == 0) return false;
    record->flags = from[KV_RH_FLAGS];
    record->chain = kv_load32(from + KV_RH_CHAIN);
    record->commit = kv_load64(from + KV_RH_COMMIT);
    record->confirmed = kv_load64(from + KV_RH_CONFIRMED);
    record->value_length = kv_load32(from + KV_RH_VALUE_LENGTH);
    record->value_sum = kv_load32(from + KV_RH_VALUE_SUM);
    record->table = kv_load32(from + KV_RH_TABLE);
    record->key = (kv_key){from + KV_RECORD_HEADER_BYTES, kv_load16(from + KV_RH_KEY_LENGTH)};
    record->sum = kv_load32(from + KV_RH_SUM);
    record->external = 0;
    record->value = NULL;
    if (!plausible(record, position)) return false;
    uint32_t covered = covered_bytes(record);
    if (covered > available || (record->type != KV_RECORD_VALUE && kv_record_bytes(record) > available)) return false;
    if (record->sum != sum_of(from, covered, salt, position)) return false;
    const uint8_t *after = record->key.data + record->key.length;
    if (record->flags & KV_FLAG_EXTERNAL)
        record->external = kv_load64(after);
    else
        record->value = after;
    return true;
}
