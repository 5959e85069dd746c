/* A block of a time series: entries in the order of their times, packed. The layout is in guest-db/FORMAT.md, "Time series". */
#ifndef KVS_BLOCK_H
#define KVS_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KVS_BYTES = 0, KVS_FLOAT = 1, KVS_INT = 2 }; /* what the values are */

#define KVS_VERSION 1
#define KVS_HEADER_BYTES 48u
#define KVS_COUNT_MAX 65536u /* entries of a block */

/* A block that was found to be sound as far as its sections go. */
typedef struct kvs_block {
    uint8_t kind;
    uint32_t count;
    uint64_t before; /* entries of the series before it, since the series was last empty */
    uint64_t bytes_before; /* of the blocks before it, likewise */
    int64_t first, last;
    const uint8_t *times; /* time_bytes == 0: equally spaced */
    uint32_t time_bytes;
    const uint8_t *statuses; /* two bits an entry; NULL: all are 0 */
    const uint8_t *lengths;  /* NULL: all are equal_length */
    uint32_t length_bytes, equal_length;
    const uint8_t *payload;
    size_t payload_bytes;
} kvs_block;

/* False: these bytes are no block. */
bool kvs_open(kvs_block *block, const uint8_t *bytes, size_t length);
/* `count` times, in nanoseconds. False: they do not increase strictly from `first` to `last`. */
bool kvs_read_times(const kvs_block *block, int64_t *to);
/* `count` lengths of values. False: they are not those of the payload. */
bool kvs_read_lengths(const kvs_block *block, uint32_t *to);

static inline unsigned kvs_status(const kvs_block *block, uint32_t index) {
    return block->statuses == NULL ? 0 : (unsigned)block->statuses[index / 4] >> 2 * (index % 4) & 3;
}

/* Bytes that the part before the payload takes at most. */
size_t kvs_head_bound(uint32_t count);
/* Write all but the payload; how many bytes that are. `times` increase strictly from 0 on, `statuses` (NULL: all 0) are 0..3,
 * `lengths` NULL: 8 each; `count` is 1..KVS_COUNT_MAX. */
size_t kvs_write_head(uint8_t *to, int kind, uint64_t before, uint64_t bytes_before, uint32_t count,
                      const int64_t *times, const uint8_t *statuses, const uint32_t *lengths);

#endif
