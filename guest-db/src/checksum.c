#include "checksum.h"

#include <string.h>

#define PRIME_1 0x9E3779B185EBCA87u
#define PRIME_2 0xC2B2AE3D27D4EB4Fu
#define PRIME_3 0x165667B19E3779F9u
#define PRIME_4 0x85EBCA77C2B2AE63u
#define PRIME_5 0x27D4EB2F165667C5u

static inline uint64_t rotate_left(uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

static inline uint64_t load_64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x); /* wasm, x86-64 and arm64 are little-endian; asserted in format.h */
    return x;
}

static inline uint32_t load_32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static inline uint64_t round_lane(uint64_t lane, uint64_t input) {
    return rotate_left(lane + input * PRIME_2, 31) * PRIME_1;
}

static inline uint64_t merge_lane(uint64_t sum, uint64_t lane) {
    return (sum ^ round_lane(0, lane)) * PRIME_1 + PRIME_4;
}

static inline void begin_lanes(uint64_t lanes[4], uint64_t seed) {
    lanes[0] = seed + PRIME_1 + PRIME_2;
    lanes[1] = seed + PRIME_2;
    lanes[2] = seed;
    lanes[3] = seed - PRIME_1;
}

/* Feed whole stripes of 32 bytes. */
static inline void add_stripes(uint64_t lanes[4], const uint8_t *p, size_t stripes) {
    uint64_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];
    for (; stripes > 0; stripes--, p += 32) {
        a = round_lane(a, load_64(p));
        b = round_lane(b, load_64(p + 8));
        c = round_lane(c, load_64(p + 16));
        d = round_lane(d, load_64(p + 24));
    }
    lanes[0] = a;
    lanes[1] = b;
    lanes[2] = c;
    lanes[3] = d;
}

static inline uint64_t merge_lanes(const uint64_t lanes[4]) {
    uint64_t sum = rotate_left(lanes[0], 1) + rotate_left(lanes[1], 7) + rotate_left(lanes[2], 12) +
                   rotate_left(lanes[3], 18);
    for (int i = 0; i < 4; i++) sum = merge_lane(sum, lanes[i]);
    return sum;
}

/* Feed the rest below one stripe, and mix. */
static inline uint64_t finish(uint64_t sum, const uint8_t *p, size_t rest) {
    for (; rest >= 8; rest -= 8, p += 8) sum = rotate_left(sum ^ round_lane(0, load_64(p)), 27) * PRIME_1 + PRIME_4;
    if (rest >= 4) {
        sum = rotate_left(sum ^ (load_32(p) * PRIME_1), 23) * PRIME_2 + PRIME_3;
        rest -= 4;
        p += 4;
    }
    for (; rest > 0; rest--, p++) sum = rotate_left(sum ^ (*p * PRIME_5), 11) * PRIME_1;
    sum = (sum ^ (sum >> 33)) * PRIME_2;
    sum = (sum ^ (sum >> 29)) * PRIME_3;
    return sum ^ (sum >> 32);
}

uint64_t kv_xxh64(const void *data, size_t length, uint64_t seed) {
    const uint8_t *p = data;
    uint64_t sum = seed + PRIME_5;
    if (length >= 32) {
        uint64_t lanes[4];
        begin_lanes(lanes, seed);
        add_stripes(lanes, p, length / 32);
        p += length & ~(size_t)31;
        sum = merge_lanes(lanes);
    }
    return finish(sum + length, p, length & 31);
}

void kv_xxh64_begin(kv_xxh64_state *state, uint64_t seed) {
    memset(state, 0, sizeof *state);
    begin_lanes(state->lanes, seed);
    state->seed = seed;
}

void kv_xxh64_add(kv_xxh64_state *state, const void *data, size_t length) {
    const uint8_t *p = data;
    size_t held = state->total & 31;
    state->total += length;
    if (held != 0) {
        size_t take = 32 - held < length ? 32 - held : length;
        memcpy(state->pending + held, p, take);
        p += take;
        length -= take;
        if (held + take < 32) return;
        add_stripes(state->lanes, state->pending, 1);
    }
    add_stripes(state->lanes, p, length / 32);
    if ((length & 31) != 0) memcpy(state->pending, p + (length & ~(size_t)31), length & 31);
}

uint64_t kv_xxh64_end(const kv_xxh64_state *state) {
    uint64_t sum = state->total >= 32 ? merge_lanes(state->lanes) : state->seed + PRIME_5;
    return finish(sum + state->total, state->pending, state->total & 31);
}
