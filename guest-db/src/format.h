/* The bytes on disk: every offset and limit, once. FORMAT.md explains them; tests/guest/test_format.py holds both together.
 * All numbers are little-endian. */
#ifndef KV_FORMAT_H
#define KV_FORMAT_H

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "kv_guest.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "fields are copied as they lie in memory");

#define KV_FORMAT_VERSION 2u

/* ---- superblocks: two slots at the start of the file; the valid one with the higher sequence counts ---- */
#define KV_PAGE_BYTES 4096u                        /* unit of the index; a page number is a file offset divided by it */
#define KV_SUPERBLOCK_SLOT KV_PAGE_BYTES           /* bytes from one slot to the other */
#define KV_SECTORS_START (2u * KV_SUPERBLOCK_SLOT) /* file offset of sector 0 */
#define KV_FIRST_PAGE 2u                           /* of sector 0 */
#define KV_SUPERBLOCK_BYTES 256u                   /* what is written of a slot */

#define KV_SB_SUM 0              /* u64: XXH64 of the other bytes, seed 0 */
#define KV_SB_MAGIC 8            /* 8 bytes */
#define KV_SB_VERSION 16         /* u32: KV_FORMAT_VERSION */
#define KV_SB_SECTOR_BYTES 20    /* u32: a power of two */
#define KV_SB_COMPATIBLE 24      /* u64: features that an older reader and writer may ignore */
#define KV_SB_READ_COMPATIBLE 32 /* u64: features that forbid writing to those who do not know them */
#define KV_SB_INCOMPATIBLE 40    /* u64: features that forbid opening */
#define KV_SB_SEQUENCE 48        /* u64: of this superblock */
#define KV_SB_DATABASE_ID 56     /* u64: random, seeds the checksums of headers and pages */
/* the checkpoint: an index, and the place in the log that it includes everything before */
#define KV_SB_REPLAY 64         /* u64: log position from which the log is to be replayed */
#define KV_SB_LOG_SECTOR 72     /* u64: number of the sector of that position */
#define KV_SB_CHAIN 80          /* u32: sum of the last record before that position */
#define KV_SB_INSTALLED 84      /* u32: 1: the file's name was durable; 0: whoever opens it for writing flushes its directory first */
#define KV_SB_GENERATION 88     /* u64: no sector had this generation or a higher one yet when the checkpoint began */
#define KV_SB_ROOT_PAGE 96      /* u32: root of the default table's tree, 0: empty */
#define KV_SB_ROOT_HEIGHT 100   /* u32: levels of that tree */
#define KV_SB_ROOT_COUNT 104    /* u64: keys in it */
#define KV_SB_CATALOG_PAGE 112  /* u32: the same of the catalog, the tree of all other tables */
#define KV_SB_CATALOG_HEIGHT 116
#define KV_SB_CATALOG_COUNT 120
#define KV_SB_MAP_PAGE 128      /* u32: first page of the space map, 0: none, all sectors are told by their headers */
#define KV_SB_MAP_PAGES 132     /* u32 */
#define KV_SB_MAP_SECTORS 136   /* u64: sectors that the map describes */
/* what was known when this superblock was written, at its checkpoint or later */
#define KV_SB_DURABLE 144       /* u64: log position; all before it was durable */
#define KV_SB_COMMIT 152        /* u64: number of the last commit before that */
#define KV_SB_FILE_BYTES 160    /* u64: the file was durable up to here; one that is shorter was cut */
#define KV_SB_RESERVED_2 168    /* 88 zero bytes */

#define KV_MAGIC "kvwasi\r\n"
#define KV_KNOWN_READ_COMPATIBLE 0u
#define KV_FEATURE_SKIP 1u /* incompatible: heads may leave out what all keys of a node share */
#define KV_KNOWN_INCOMPATIBLE KV_FEATURE_SKIP

/* ---- sectors: the header stands twice at the start, so that one damaged copy costs nothing ---- */
#define KV_SECTOR_BYTES_DEFAULT (1u << 20)
#define KV_SECTOR_BYTES_MIN (256u << 10) /* the largest record in the log fits */
#define KV_SECTOR_BYTES_MAX (64u << 20)
#define KV_SECTOR_HEADER_BYTES 64u
#define KV_SECTOR_DATA (2u * KV_SECTOR_HEADER_BYTES) /* offset in the sector of the first record */
#define KV_SECTOR_TAIL 8u                            /* bytes at the end that are never used, so that an end has one position */

#define KV_SH_SUM 0          /* u64: XXH64 of the other bytes, seed: database id */
#define KV_SH_MAGIC 8        /* u32 */
#define KV_SH_TYPE 12        /* u16: KV_SECTOR_* */
#define KV_SH_RESERVED 14    /* u16: zero */
#define KV_SH_SPAN 16        /* u32: sectors in this run, 1 for the log */
#define KV_SH_ERASES 20      /* u32: how often it was given out before */
#define KV_SH_GENERATION 24  /* u64: rises with each sector that is given out; a run takes `span` of them */
#define KV_SH_NUMBER 32      /* u64: of the sector in the file */
#define KV_SH_SALT 40        /* u64: random, seeds the checksums of the records in it */
#define KV_SH_PREVIOUS 48    /* u64: log: position at which the preceding sector of the log ends, 0 for the first */
#define KV_SH_CHAIN 56       /* u32: log: header checksum of the last record before this sector */
#define KV_SH_RESERVED_2 60  /* u32: zero */

#define KV_SECTOR_MAGIC 0x5365766Bu /* "kveS" */
#define KV_SECTOR_LOG 1u
#define KV_SECTOR_VALUES 2u
#define KV_SECTOR_INDEX 3u

/* ---- pages: in index sectors, all but the first page of a sector ---- */
/* A node of a tree; what lies in it otherwise is node.h's. */
#define KV_PG_LEVEL 0  /* u8: 0 leaf; 1.. inner node */
#define KV_PG_SKIP 10  /* u8: bytes that heads leave out */
#define KV_PG_PAGE 16  /* u32: its own number */
#define KV_PG_FRAME 20 /* u32: zero */
#define KV_PG_SUM 24   /* u64: XXH64 of the other bytes, this field taken as zero; seed: kv_page_seed */
/* A page of the space map. */
#define KV_MP_MAGIC 0    /* u32 */
#define KV_MP_NEXT 4     /* u32: the map's next page, 0: none */
#define KV_MP_SEQUENCE 8 /* u64: of the superblock to whose checkpoint it belongs */
#define KV_MP_DATA 32    /* KV_MP_BYTES: a piece of the map */
#define KV_MP_BYTES (KV_PAGE_BYTES - KV_MP_DATA)
#define KV_MAP_MAGIC 0x4D65766Bu /* "kveM": no node begins so */

/* The space map: for each sector an entry; then, for each index sector in order, a bit a page: in use. */
#define KV_ME_TYPE 0       /* u8: KV_SECTOR_*, 0: free, KV_SECTOR_INSIDE_RUN */
#define KV_ME_RESERVED 1   /* 3 zero bytes */
#define KV_ME_SPAN 4       /* u32 */
#define KV_ME_ERASES 8     /* u32 */
#define KV_ME_LIVE 12      /* u32: bytes of records in it that the index refers to; of a run: in all of it */
#define KV_ME_GENERATION 16 /* u64 */
#define KV_ME_SALT 24      /* u64 */
#define KV_MAP_ENTRY_BYTES 32u
#define KV_SECTOR_INSIDE_RUN 0xFFu /* a later sector of a run */

/* ---- records: a header, the key, the value or a reference to it; padded to 8 bytes ---- */
#define KV_RECORD_HEADER_BYTES 40u

#define KV_RH_SUM 0           /* u32: low half of XXH64 of the rest of the header, the key and the reference; seed below */
#define KV_RH_CHAIN 4         /* u32: KV_RH_SUM of the record before, across sectors */
#define KV_RH_COMMIT 8        /* u64: number of the commit to which it belongs; kept when the record moves */
#define KV_RH_CONFIRMED 16    /* u64: commit marks: all before this log position was known durable; else 0 */
#define KV_RH_VALUE_LENGTH 24 /* u32 */
#define KV_RH_VALUE_SUM 28    /* u32: low half of XXH64 of the value, seed 0 */
#define KV_RH_TABLE 32        /* u32: 0: the default table */
#define KV_RH_KEY_LENGTH 36   /* u16 */
#define KV_RH_TYPE 38         /* u8: KV_RECORD_* */
#define KV_RH_FLAGS 39        /* u8 */

#define KV_RECORD_PUT 1u
#define KV_RECORD_DELETE 2u
#define KV_RECORD_COMMIT 3u /* mark of a transaction of several records; the value length counts them, no value follows */
#define KV_RECORD_VALUE 5u  /* in a run of value sectors: what a KV_FLAG_EXTERNAL record refers to */
#define KV_RECORD_TABLE 6u  /* a table is made: its name is the key, its number the table */
#define KV_TABLE_NAME_MAX (KV_KEY_MAX - 1u) /* in the catalog a byte stands in front of it */
#define KV_RECORD_DROP 7u   /* a table is dropped: its name is the key, its number the table */
#define KV_RECORD_UNDO 8u   /* of its commit only the first so many records count, and what follows; the value length is that number */

#define KV_FLAG_COMMIT 1u   /* this record ends its commit */
#define KV_FLAG_EXTERNAL 2u /* the value lies in a run of value sectors: a u64 file offset follows the key */
#define KV_FLAG_FLUSHED 4u  /* commit marks: the external values of this commit were durable before the mark was written */

#define KV_EXTERNAL_BYTES 8u

#define KV_ALIGN8(n) (((n) + 7u) & ~(uint64_t)7u)

static inline uint16_t kv_load16(const uint8_t *p) {
    uint16_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline uint32_t kv_load32(const uint8_t *p) {
    uint32_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline uint64_t kv_load64(const uint8_t *p) {
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void kv_store16(uint8_t *p, uint16_t x) { memcpy(p, &x, sizeof x); }
static inline void kv_store32(uint8_t *p, uint32_t x) { memcpy(p, &x, sizeof x); }
static inline void kv_store64(uint8_t *p, uint64_t x) { memcpy(p, &x, sizeof x); }

/* A record's checksum is seeded with where and when it was written: its sector's salt (random each time the sector is
 * given out) and its log position. Stale, misplaced or revived bytes therefore never validate. */
static inline uint64_t kv_record_seed(uint64_t salt, uint64_t position) {
    return salt ^ (position * 0x9E3779B97F4A7C15u);
}

static inline uint64_t kv_page_seed(uint64_t database_id, uint32_t page) {
    return database_id ^ (page * 0x9E3779B97F4A7C15u);
}

static_assert(KV_SB_RESERVED_2 + 88 == KV_SUPERBLOCK_BYTES, "superblock");
static_assert(KV_SECTORS_START == KV_FIRST_PAGE * KV_PAGE_BYTES, "pages");
static_assert(KV_SH_RESERVED_2 + 4 == KV_SECTOR_HEADER_BYTES, "sector header");
static_assert(KV_RH_FLAGS + 1 == KV_RECORD_HEADER_BYTES, "record header");
static_assert(KV_RECORD_HEADER_BYTES + KV_KEY_MAX + KV_INLINE_MAX + KV_SECTOR_DATA + KV_SECTOR_TAIL + 8 <=
                  KV_SECTOR_BYTES_MIN,
              "any record of the log fits a sector");

#endif
