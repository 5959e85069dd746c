#include "block.h"

#include <string.h>

enum { HAS_STATUSES = 1, EQUAL_LENGTHS = 2 };
enum { VARINT_BYTES_MAX = 10 };

static uint32_t load32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t load64(const uint8_t *p) { return load32(p) | (uint64_t)load32(p + 4) << 32; }

static void store32(uint8_t *p, uint32_t value) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(value >> 8 * i);
}

static void store64(uint8_t *p, uint64_t value) {
    store32(p, (uint32_t)value);
    store32(p + 4, (uint32_t)(value >> 32));
}

/* LEB128. NULL: it does not end within 64 bits or the section. */
static const uint8_t *read_varint(const uint8_t *at, const uint8_t *end, uint64_t *value) {
    uint64_t result = 0;
    for (unsigned shift = 0; at < end && shift < 64; shift += 7) {
        uint8_t byte = *at++;
        if (shift == 63 && byte > 1) return NULL;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *value = result;
            return at;
        }
    }
    return NULL;
}

static uint8_t *write_varint(uint8_t *to, uint64_t value) {
    for (; value >= 0x80; value >>= 7) *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    return to;
}

/* Small numbers of either sign become small ones. */
static uint64_t zigzag(uint64_t value) { return value << 1 ^ (0 - (value >> 63)); }
static uint64_t unzigzag(uint64_t value) { return value >> 1 ^ (0 - (value & 1)); }

bool kvs_open(kvs_block *block, const uint8_t *bytes, size_t length) {
    if (length < KVS_HEADER_BYTES || bytes[0] != KVS_VERSION || bytes[1] > KVS_INT) return false;
    uint8_t flags = bytes[2];
    if (flags > (HAS_STATUSES | EQUAL_LENGTHS) || bytes[3] != 0) return false;
    *block = (kvs_block){.kind = bytes[1],
                         .count = load32(bytes + 4),
                         .before = load64(bytes + 8),
                         .bytes_before = load64(bytes + 16),
                         .first = (int64_t)load64(bytes + 24),
                         .last = (int64_t)load64(bytes + 32),
                         .time_bytes = load32(bytes + 40)};
    uint32_t lengths = load32(bytes + 44);
    if (block->count == 0 || block->count > KVS_COUNT_MAX || block->first < 0 || block->last < block->first) return false;
    if (block->kind != KVS_BYTES && (!(flags & EQUAL_LENGTHS) || lengths != 8)) return false;

    const uint8_t *at = bytes + KVS_HEADER_BYTES;
    size_t left = length - KVS_HEADER_BYTES;
    if (block->time_bytes > left) return false;
    block->times = at;
    at += block->time_bytes;
    left -= block->time_bytes;
    if (flags & HAS_STATUSES) {
        size_t status_bytes = (block->count + 3) / 4;
        if (status_bytes > left) return false;
        block->statuses = at;
        at += status_bytes;
        left -= status_bytes;
    }
    if (flags & EQUAL_LENGTHS) {
        block->equal_length = lengths;
    } else {
        if (lengths > left) return false;
        block->lengths = at;
        block->length_bytes = lengths;
        at += lengths;
        left -= lengths;
    }
    block->payload = at;
    block->payload_bytes = left;
    return block->lengths != NULL || (uint64_t)block->count * block->equal_length == left;
}

static bool equally_spaced(const kvs_block *block, int64_t *to) {
    uint64_t span = (uint64_t)(block->last - block->first), steps = block->count - 1;
    if (steps == 0 ? span != 0 : span == 0 || span % steps != 0) return false;
    uint64_t step = steps == 0 ? 0 : span / steps;
    for (uint32_t i = 0; i < block->count; i++) to[i] = (int64_t)((uint64_t)block->first + step * i);
    return true;
}

bool kvs_read_times(const kvs_block *block, int64_t *to) {
    if (block->time_bytes == 0) return equally_spaced(block, to);
    const uint8_t *at = block->times, *end = at + block->time_bytes;
    int64_t now = block->first;
    uint64_t step = 0, change;
    to[0] = now;
    for (uint32_t i = 1; i < block->count; i++) {
        if (at < end && *at < 0x80)
            change = *at++;
        else if ((at = read_varint(at, end, &change)) == NULL)
            return false;
        step += unzigzag(change);
        if (step == 0 || step > (uint64_t)(INT64_MAX - now)) return false;
        now += (int64_t)step;
        to[i] = now;
    }
    return at == end && now == block->last;
}

bool kvs_read_lengths(const kvs_block *block, uint32_t *to) {
    if (block->lengths == NULL) {
        for (uint32_t i = 0; i < block->count; i++) to[i] = block->equal_length;
        return true;
    }
    const uint8_t *at = block->lengths, *end = at + block->length_bytes;
    uint64_t left = block->payload_bytes, length;
    for (uint32_t i = 0; i < block->count; i++) {
        if ((at = read_varint(at, end, &length)) == NULL || length > left || length > UINT32_MAX) return false;
        left -= length;
        to[i] = (uint32_t)length;
    }
    return at == end && left == 0;
}

size_t kvs_head_bound(uint32_t count) {
    return KVS_HEADER_BYTES + (size_t)count * (2 * VARINT_BYTES_MAX) + ((size_t)count + 3) / 4;
}

static bool are_equally_spaced(const int64_t *times, uint32_t count) {
    for (uint32_t i = 2; i < count; i++)
        if (times[i] - times[i - 1] != times[1] - times[0]) return false;
    return true;
}

static bool are_equal(const uint32_t *lengths, uint32_t count) {
    for (uint32_t i = 1; i < count; i++)
        if (lengths[i] != lengths[0]) return false;
    return true;
}

static uint8_t *write_times(uint8_t *at, const int64_t *times, uint32_t count) {
    uint64_t before = 0;
    for (uint32_t i = 1; i < count; i++) {
        uint64_t step = (uint64_t)times[i] - (uint64_t)times[i - 1];
        at = write_varint(at, zigzag(step - before));
        before = step;
    }
    return at;
}

size_t kvs_write_head(uint8_t *to, int kind, uint64_t before, uint64_t bytes_before, uint32_t count,
                      const int64_t *times, const uint8_t *statuses, const uint32_t *lengths) {
    bool equal = lengths == NULL || are_equal(lengths, count);
    uint8_t *at = to + KVS_HEADER_BYTES;
    if (!are_equally_spaced(times, count)) at = write_times(at, times, count);
    uint32_t time_bytes = (uint32_t)(at - to - KVS_HEADER_BYTES);
    if (statuses != NULL) {
        size_t status_bytes = (count + 3) / 4;
        memset(at, 0, status_bytes);
        for (uint32_t i = 0; i < count; i++) at[i / 4] |= (uint8_t)(statuses[i] << 2 * (i % 4));
        at += status_bytes;
    }
    uint8_t *section = at;
    if (!equal)
        for (uint32_t i = 0; i < count; i++) at = write_varint(at, lengths[i]);
    to[0] = KVS_VERSION;
    to[1] = (uint8_t)kind;
    to[2] = (uint8_t)((statuses != NULL ? HAS_STATUSES : 0) | (equal ? EQUAL_LENGTHS : 0));
    to[3] = 0;
    store32(to + 4, count);
    store64(to + 8, before);
    store64(to + 16, bytes_before);
    store64(to + 24, (uint64_t)times[0]);
    store64(to + 32, (uint64_t)times[count - 1]);
    store32(to + 40, time_bytes);
    store32(to + 44, !equal ? (uint32_t)(at - section) : lengths == NULL ? 8 : lengths[0]);
    return (size_t)(at - to);
}
