/* Records as they stand in the log and in runs of value sectors. */
#ifndef KV_RECORD_H
#define KV_RECORD_H

#include <stdbool.h>

#include "format.h"
#include "node.h"

typedef struct kv_record {
    uint8_t type, flags;
    uint32_t table;
    uint64_t commit;
    uint64_t confirmed;
    uint32_t chain;
    kv_key key;
    uint32_t value_length; /* KV_RECORD_COMMIT: number of records in the commit */
    uint32_t value_sum;
    uint64_t external;    /* with KV_FLAG_EXTERNAL: file offset of the value */
    const uint8_t *value; /* else, of a put: the value */
    uint32_t sum;         /* set by encode and decode */
} kv_record;

/* Bytes in the log, padding included. */
static inline uint32_t kv_record_bytes(const kv_record *record) {
    uint32_t bytes = KV_RECORD_HEADER_BYTES + record->key.length;
    if (record->flags & KV_FLAG_EXTERNAL)
        bytes += KV_EXTERNAL_BYTES;
    else if (record->type == KV_RECORD_PUT)
        bytes += record->value_length;
    return (uint32_t)KV_ALIGN8(bytes);
}

static inline bool kv_record_has_inline_value(const kv_record *record) {
    return record->type == KV_RECORD_PUT && !(record->flags & KV_FLAG_EXTERNAL);
}

/* Write all but the value of a KV_RECORD_VALUE. Sets record->sum. */
void kv_record_encode(kv_record *record, uint8_t *to, uint64_t salt, uint64_t position);
/* Read and verify what lies at `from`; false when it is no record of this place. The value's own sum is not verified. */
bool kv_record_decode(kv_record *record, const uint8_t *from, uint64_t available, uint64_t salt, uint64_t position);

#endif
