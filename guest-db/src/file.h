/* A database file: reading and writing it, its superblocks, its sectors. */
#ifndef KV_FILE_H
#define KV_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "format.h"
#include "node.h"

/* What went wrong, beside the status. */
typedef struct kv_error {
    uint64_t offset; /* in the file */
    int32_t os_error;
    uint32_t detail; /* kv_detail */
} kv_error;

/* What is known of a sector. `type` 0: no valid header (free, never written, or damaged). */
typedef struct kv_sector {
    uint64_t generation, salt, previous;
    uint64_t emptied;       /* log: position behind the last record that was moved out of it; 0: still in use */
    uint64_t emptied_epoch; /* versions pinned in it or later do not refer to the sector */
    uint32_t chain, span, erases;
    uint16_t type;
    bool copies_differ; /* one of the two headers is damaged */
} kv_sector;
#define KV_SECTOR_INSIDE 0xFFFFu /* type, in memory: a later sector of a run */

typedef struct kv_superblock {
    uint32_t version, sector_bytes;
    uint64_t compatible, read_compatible, incompatible;
    uint64_t sequence, database_id;
    uint64_t log_generation, log_sector;
    uint64_t durable, commit, generation;
} kv_superblock;

/* The end of the log, and what was appended but not yet written. */
typedef struct kv_log {
    uint64_t sector, generation, salt;
    uint32_t end;           /* offset in the sector behind the last record */
    uint32_t chain;         /* its checksum */
    uint8_t *buffer;        /* bytes [start, end) of the sector */
    uint32_t start;
    uint32_t written_chain; /* of the last record before `start` */
    uint32_t ahead;         /* the sector was written, if only with zeros, up to here */
    uint32_t torn;          /* a write that failed reached up to here; 0: none */
} kv_log;

/* Numbers of sectors, taken from the front and added at the back (or taken from there). */
typedef struct kv_sector_list {
    uint64_t *numbers;
    uint64_t first, end, capacity;
} kv_sector_list;

/* The run of value sectors being filled. */
typedef struct kv_run {
    uint64_t sector, generation, salt;
    uint64_t end, limit; /* offsets in the run */
    bool open;
} kv_run;

typedef struct kv_file {
    int fd;
    uint32_t references;
    uint32_t sector_bytes, sector_shift;
    bool read_only, poisoned;
    kv_superblock super;
    bool slot_damaged; /* one superblock is not valid */
    kv_sector *sectors;
    uint64_t sector_count, sector_capacity;
    uint64_t next_generation;
    uint64_t random; /* state of the generator of salts */
    uint64_t slot_start[2]; /* log_generation in each superblock slot as far as it is durable; UINT64_MAX: not valid */
    uint64_t slot_written[2]; /* as written, durable or not */
    uint64_t slot_durable[2], slot_written_durable[2]; /* the same of the field `durable` */
    kv_sector_list log_sectors; /* the log, oldest first; the last is the one being written */
    kv_sector_list free;
    kv_log log;
    kv_run run;
    kv_error error;
} kv_file;

kv_file *kv_file_new(int fd, uint32_t sector_bytes, uint64_t random_seed);
/* Drop one reference; the last closes. */
void kv_file_release(kv_file *file);

/* Read exactly `length` bytes: KV_CORRUPT (truncated) when the file ends before. */
kv_status kv_file_read(kv_file *file, uint64_t offset, void *to, uint64_t length);
/* Read what there is. */
kv_status kv_file_read_some(kv_file *file, uint64_t offset, void *to, uint64_t length, uint64_t *got);
/* KV_DISK_FULL leaves the file usable, KV_IO poisons it. `written` may be NULL. */
kv_status kv_file_write(kv_file *file, uint64_t offset, const void *from, uint64_t length, uint64_t *written);
kv_status kv_file_sync(kv_file *file); /* data and size; a failure poisons */
kv_status kv_file_size(kv_file *file, uint64_t *size);
uint64_t kv_file_random(kv_file *file);
kv_status kv_file_fail(kv_file *file, kv_status status, uint32_t detail, uint64_t offset);

static inline uint64_t kv_sector_offset(const kv_file *file, uint64_t sector) {
    return KV_SECTORS_START + (sector << file->sector_shift);
}
/* A log position: the sector's generation and the offset in it, as one rising number. */
static inline uint64_t kv_position(const kv_file *file, uint64_t generation, uint64_t offset) {
    return (generation << file->sector_shift) + offset;
}
static inline uint64_t kv_position_generation(const kv_file *file, uint64_t position) {
    return position >> file->sector_shift;
}
static inline uint32_t kv_position_offset(const kv_file *file, uint64_t position) {
    return (uint32_t)(position & (file->sector_bytes - 1));
}

/* superblock.c */
kv_status kv_superblock_read(kv_file *file);
/* Write file->super into the slot of its next sequence number. */
kv_status kv_superblock_write(kv_file *file);

/* sector.c */
/* Read the header of each sector there is into file->sectors. */
kv_status kv_sectors_read(kv_file *file);
/* Give out `span` sectors, a free one for the log if there is one, else at the end of the file; nothing is written. */
kv_status kv_sectors_add(kv_file *file, uint16_t type, uint32_t span, uint64_t previous, uint32_t chain, uint64_t *sector);
int kv_compare_numbers(const void *a, const void *b); /* of uint64_t, for qsort */
kv_status kv_sector_list_push(kv_sector_list *list, uint64_t number);
static inline uint64_t kv_sector_list_count(const kv_sector_list *list) { return list->end - list->first; }
/* Both copies of a sector's header, KV_SECTOR_DATA bytes. */
void kv_sector_encode(const kv_file *file, uint64_t sector, uint8_t *to);
/* The sector in whose header the generation stands, or of whose run it is a part; false: none. */
bool kv_sector_find(const kv_file *file, uint16_t type, uint64_t generation, uint64_t *sector);

#endif
