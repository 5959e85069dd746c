/* A database file: reading and writing it, its superblocks, its sectors. */
#ifndef KV_FILE_H
#define KV_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "format.h"
#include "tree.h"

/* What went wrong, beside the status. */
typedef struct kv_error {
    uint64_t offset; /* in the file */
    int32_t os_error;
    uint32_t detail; /* kv_detail */
} kv_error;

/* What is known of a sector. `type` 0: free, or never written. */
typedef struct kv_sector {
    uint64_t generation, salt;
    uint64_t previous;      /* log, and as `chain` only known of those behind the checkpoint */
    uint64_t emptied_epoch; /* with `emptied`: versions pinned in it or later do not refer to the sector */
    uint32_t chain, span, erases;
    uint32_t live; /* bytes of records that the newest version refers to; of a run: in all of it */
    uint16_t type;
    bool blocked; /* holds a damaged record, which is never moved */
    bool emptied; /* nothing in it is live; it becomes free when nobody can need it any more */
} kv_sector;
#define KV_SECTOR_INSIDE KV_SECTOR_INSIDE_RUN /* type, in memory and in the map: a later sector of a run */

typedef struct kv_superblock {
    uint32_t version, sector_bytes;
    uint64_t compatible, read_compatible, incompatible;
    uint64_t sequence, database_id;
    uint64_t replay, log_sector;
    uint32_t chain, installed;
    uint64_t generation;
    kv_root root, catalog;
    uint32_t map_page, map_pages;
    uint64_t map_sectors;
    uint64_t durable, commit, file_bytes;
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

#define KV_SPARE_SECTORS 3u /* free, and with their space: for deletes, collection and checkpoints on a full disk */
#define KV_SPARE_PAGES 64u  /* the same of the index */

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
    uint64_t written_end; /* of what was written since opening, and of what was durable then */
    bool full;   /* the last attempt to grow found no space */
    bool urgent; /* what is being done makes space: it may use what is spared for that */
    kv_superblock super;
    bool slot_damaged;   /* one superblock is not valid */
    kv_sector *sectors;
    uint64_t sector_count, sector_capacity;
    uint64_t next_generation;
    uint64_t random; /* state of the generator of salts */
    kv_superblock other; /* the other slot's when the file was opened; sequence 0: not valid */
    uint64_t slot_generation[2]; /* from which each slot, as far as it is durable, replays the log; UINT64_MAX: not valid */
    kv_nodes *nodes;
    kv_sector_list free;
    kv_log log;
    kv_run run;
    kv_error error;
} kv_file;

kv_file *kv_file_new(int fd, uint32_t sector_bytes, uint64_t random_seed);
void kv_file_set_sector_bytes(kv_file *file, uint32_t sector_bytes);
/* The pool of its nodes, once the size of sectors is known. */
kv_status kv_file_need_nodes(kv_file *file, uint64_t cache_bytes);
/* Drop one reference; the last closes. */
void kv_file_release(kv_file *file);

/* Read exactly `length` bytes: KV_CORRUPT (truncated) when the file ends before. */
kv_status kv_file_read(kv_file *file, uint64_t offset, void *to, uint64_t length);
/* Read what there is. */
kv_status kv_file_read_some(kv_file *file, uint64_t offset, void *to, uint64_t length, uint64_t *got);
/* KV_DISK_FULL leaves the file usable, KV_IO poisons it. `written` may be NULL. */
kv_status kv_file_write(kv_file *file, uint64_t offset, const void *from, uint64_t length, uint64_t *written);
kv_status kv_file_write_zeros(kv_file *file, uint64_t offset, uint64_t length);
/* fsync(2), or with `data_only` fdatasync(2), out of the drive's cache, too. -1 and errno. */
int kv_sync_fd(int fd, bool data_only);
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
kv_status kv_superblock_newest(kv_file *file, uint64_t *sequence); /* its number; 0: none is valid */
/* Write file->super into the slot of its next sequence number. */
kv_status kv_superblock_write(kv_file *file);

/* map.c: the space map of a checkpoint. */
typedef struct kv_map {
    uint8_t *bytes;
    uint64_t sectors;
    uint32_t *pages, page_count; /* in which it lies */
} kv_map;
/* KV_CORRUPT when it is damaged. A superblock without a map gives an empty one. */
kv_status kv_map_read(kv_file *file, const kv_superblock *super, kv_map *map);
void kv_map_free(kv_map *map);
kv_sector kv_map_sector(const kv_map *map, uint64_t sector);
/* The pages of the next index sector, a bit each, and its number: begins with sector 0 and `before` NULL. NULL: there is none. */
const uint8_t *kv_map_next_pages(const kv_file *file, const kv_map *map, uint64_t *sector, const uint8_t *before);
uint64_t kv_map_bytes(const kv_file *file); /* that a map of the file as it is takes */
void kv_map_encode(const kv_file *file, uint8_t *to);
/* One page of a map, made ready to be written. */
void kv_map_page(const kv_file *file, uint64_t sequence, uint32_t page, uint32_t next, const uint8_t *piece, uint64_t bytes,
                 uint8_t *to);
uint64_t kv_page_sum(const kv_file *file, uint32_t page, const uint8_t *bytes);

/* sector.c */
/* Take over what the map says, then read the headers of all other sectors there are. */
kv_status kv_sectors_read(kv_file *file, const kv_map *map);
/* In a file that somebody else writes: read the headers of those once more that were given out since the checkpoint, or may have
 * been. */
kv_status kv_sectors_look_again(kv_file *file, bool *changed);
/* The highest generation of a sector of the type; 0: there is none. */
uint64_t kv_sectors_newest(const kv_file *file, uint16_t type);
/* Give out `span` sectors, free ones if there are such, else at the end of the file; nothing is written. */
kv_status kv_sectors_add(kv_file *file, uint16_t type, uint32_t span, uint64_t previous, uint32_t chain, uint64_t *sector);
/* Have one more spare sector, if there are too few and the file is not tiny. KV_DISK_FULL: there is no space for it. */
kv_status kv_sectors_spare(kv_file *file);
void kv_sectors_give_back(kv_file *file, uint64_t sector); /* one that was just given out */
/* The sector, or its whole run, is free. */
kv_status kv_sectors_free(kv_file *file, uint64_t sector);
kv_status kv_sector_list_push(kv_sector_list *list, uint64_t number);
static inline uint64_t kv_sector_list_count(const kv_sector_list *list) { return list->end - list->first; }
/* Both copies of a sector's header, KV_SECTOR_DATA bytes. */
void kv_sector_encode(const kv_file *file, uint64_t sector, uint8_t *to);
/* Do the sector's headers on disk say what is known of it? */
kv_status kv_sector_verify(kv_file *file, uint64_t sector, bool *good);
int kv_compare_numbers(const void *a, const void *b); /* of uint64_t, for qsort */

#endif
