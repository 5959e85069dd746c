/* Blocks of a time series out of whatever bytes: they are refused, or their times increase and their values lie within them.
 *
 *     fuzz_block SEED BLOCKS
 *
 * Writes random blocks, reads them back, then reads mutations of them, each in memory of exactly its size, so that the address
 * sanitizer sees a byte too far. Prints how many mutations were taken and how many refused. With clang also for libFuzzer:
 * -fsanitize=fuzzer -DKV_LIBFUZZER. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block.h"

enum { COUNT_MAX = 300, MUTATIONS = 60 };

static uint64_t state;

static uint64_t chance(void) {
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545F4914F6CDD1Du;
}

static void fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    abort();
}

/* Read everything; false: refused. */
static bool read_all(const uint8_t *data, size_t size) {
    kvs_block block;
    if (!kvs_open(&block, data, size)) return false;
    int64_t *times = malloc(block.count * sizeof *times);
    uint32_t *lengths = malloc(block.count * sizeof *lengths);
    if (times == NULL || lengths == NULL) fail("no memory");
    bool good = kvs_read_times(&block, times) && kvs_read_lengths(&block, lengths);
    uint64_t total = 0, sum = 0;
    for (uint32_t i = 0; good && i < block.count; i++) {
        if (i > 0 && times[i] <= times[i - 1]) fail("times do not increase");
        sum += kvs_status(&block, i);
        for (uint32_t at = 0; at < lengths[i]; at++) sum += block.payload[total + at];
        total += lengths[i];
    }
    if (good && (total != block.payload_bytes || times[0] != block.first || times[block.count - 1] != block.last || sum == UINT64_MAX))
        fail("a block is not what it says");
    free(times);
    free(lengths);
    return good;
}

#ifdef KV_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    (void)read_all(data, size);
    return 0;
}
#else

/* A block of random entries; what it holds is compared with what went in. */
static uint8_t *make_block(size_t *size) {
    static int64_t times[COUNT_MAX], read[COUNT_MAX];
    static uint32_t lengths[COUNT_MAX], read_lengths[COUNT_MAX];
    static uint8_t statuses[COUNT_MAX];
    uint32_t count = 1 + (uint32_t)(chance() % COUNT_MAX);
    int kind = (int)(chance() % 3);
    bool regular = chance() % 2, equal = chance() % 2, altered = chance() % 2;
    uint64_t most = chance() % 4 == 0 ? INT64_MAX / COUNT_MAX : 100000, step = 1 + chance() % most, payload = 0;
    int64_t now = (int64_t)(chance() % 1000);
    for (uint32_t i = 0; i < count; i++) {
        times[i] = now;
        now += (int64_t)(regular ? step : 1 + chance() % most);
        statuses[i] = (uint8_t)(chance() % 4);
        lengths[i] = kind != KVS_BYTES ? 8 : equal ? 5 : (uint32_t)(chance() % 200);
        payload += lengths[i];
    }
    uint8_t *bytes = malloc(kvs_head_bound(count) + payload);
    if (bytes == NULL) fail("no memory");
    size_t head = kvs_write_head(bytes, kind, chance(), chance(), count, times, altered ? statuses : NULL,
                                 kind == KVS_BYTES ? lengths : NULL);
    if (head > kvs_head_bound(count)) fail("a head is longer than its bound");
    for (uint64_t i = 0; i < payload; i++) bytes[head + i] = (uint8_t)chance();
    *size = head + payload;
    kvs_block block;
    if (!kvs_open(&block, bytes, *size) || !kvs_read_times(&block, read) || !kvs_read_lengths(&block, read_lengths))
        fail("a block that was written is refused");
    if (block.count != count || memcmp(read, times, count * sizeof *times) != 0 ||
        memcmp(read_lengths, lengths, count * sizeof *lengths) != 0)
        fail("a block reads as other than it was written");
    for (uint32_t i = 0; i < count; i++)
        if (kvs_status(&block, i) != (altered ? statuses[i] : 0)) fail("a status reads as other than it was written");
    return bytes;
}

static size_t mutate(uint8_t *bytes, size_t size) {
    static const uint32_t lies[] = {0, 1, 39, 65535, 65536, 65537, 0x7fffffff, 0x80000000, 0xffffffff};
    static const size_t fields[] = {4, 40, 44};
    switch (chance() % 4) {
    case 0: return chance() % (size + 1);
    case 1: {
        uint32_t lie = lies[chance() % (sizeof lies / sizeof *lies)];
        memcpy(bytes + fields[chance() % 3], &lie, sizeof lie);
        return size;
    }
    default:
        for (uint64_t n = 1 + chance() % 4; n > 0; n--) {
            uint64_t at = chance() % 2 ? chance() % size : chance() % KVS_HEADER_BYTES;
            bytes[at] = (uint8_t)(chance() % 2 ? chance() : bytes[at] ^ UINT64_C(1) << chance() % 8);
        }
        return size;
    }
}

int main(int count, char **arguments) {
    state = count > 1 ? strtoull(arguments[1], NULL, 10) * 0x9E3779B97F4A7C15u | 1 : 1;
    unsigned long blocks = count > 2 ? strtoul(arguments[2], NULL, 10) : 1000, taken = 0, refused = 0;
    for (unsigned long i = 0; i < blocks; i++) {
        size_t size;
        uint8_t *bytes = make_block(&size);
        for (int n = 0; n < MUTATIONS; n++) {
            uint8_t *copy = malloc(size);
            if (copy == NULL) fail("no memory");
            memcpy(copy, bytes, size);
            size_t cut = mutate(copy, size);
            uint8_t *exact = malloc(cut + (cut == 0));
            if (exact == NULL) fail("no memory");
            memcpy(exact, copy, cut);
            if (read_all(exact, cut))
                taken++;
            else
                refused++;
            free(exact);
            free(copy);
        }
        free(bytes);
    }
    printf("%lu %lu\n", taken, refused);
    return 0;
}
#endif
