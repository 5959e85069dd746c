/* A guest's linear memory during one call: every range is checked, without overflow, before it is touched. */
#ifndef KVW_GUEST_MEMORY_H
#define KVW_GUEST_MEMORY_H

#include <stdint.h>
#include <string.h>

typedef struct kvw_memory {
    uint8_t *base;
    uint64_t size;
} kvw_memory;

/* The `length` bytes at guest address `address`, or NULL when they do not lie within memory. */
static inline uint8_t *kvw_range(const kvw_memory *memory, uint32_t address, uint64_t length)
{
    if (length > memory->size || address > memory->size - length)
        return NULL;
    return memory->base + address;
}

/* WASI is little-endian; so is every machine that wasmtime's package supports. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "kvwasi needs a little-endian machine"
#endif

static inline uint32_t kvw_load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline uint64_t kvw_load64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void kvw_store16(uint8_t *at, uint16_t value) { memcpy(at, &value, sizeof value); }
static inline void kvw_store32(uint8_t *at, uint32_t value) { memcpy(at, &value, sizeof value); }
static inline void kvw_store64(uint8_t *at, uint64_t value) { memcpy(at, &value, sizeof value); }

#endif
