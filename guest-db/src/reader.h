/* Reading the log forward, sector after sector. */
#ifndef KV_READER_H
#define KV_READER_H

#include "file.h"
#include "record.h"

/* The sectors of the log in order, from the one at which replaying begins to the newest. */
typedef struct kv_chain {
    uint64_t *sectors;
    uint64_t count;
} kv_chain;

/* Find them: the newest sector from which one can go back to the first. KV_CORRUPT when there is none. */
kv_status kv_chain_find(kv_file *file, kv_chain *chain);
void kv_chain_free(kv_chain *chain);
/* Generation of the newest sector of the chain between which and its predecessor others were given out to the log; 0: there is none. */
uint64_t kv_chain_branch(const kv_file *file, const kv_chain *chain);

/* Sectors in memory, one at a time. */
typedef struct kv_sector_bytes {
    uint8_t *bytes;
    uint64_t sector; /* UINT64_MAX: none */
    uint64_t from;   /* what lies before is not there */
    uint64_t available;
    bool partial; /* there is more in the file */
} kv_sector_bytes;

/* Have a sector from byte `from` on at least: the log's last is read from where replaying begins, mostly near its end. */
kv_status kv_sector_load(kv_file *file, kv_sector_bytes *loaded, uint64_t sector, uint64_t from);

typedef struct kv_reader {
    kv_file *file;
    const kv_chain *chain;
    kv_sector_bytes *loaded;
    uint64_t index;  /* in the chain */
    uint32_t offset; /* of the next record in its sector */
    uint32_t sum;    /* of the record before */
    uint64_t branch; /* generation of the newest sector, of those read, that begins before a record of its predecessor; 0: none */
} kv_reader;

/* Begin where the superblock says that the log is to be replayed from. */
void kv_reader_begin(kv_reader *reader, kv_file *file, const kv_chain *chain, kv_sector_bytes *loaded);
/* Position of the next record. */
uint64_t kv_reader_position(const kv_reader *reader);
uint64_t kv_reader_file_offset(const kv_reader *reader);
/* KV_OK: a record, whose key and value lie in the loaded sector. KV_NOT_FOUND: none, or none that is valid, at the reader's
 * place. */
kv_status kv_reader_next(kv_reader *reader, kv_record *record, uint64_t *position);

/* How far valid records reach in the loaded sector from `offset` on: 0 without any. Records of the sector's earlier lives are not. */
uint64_t kv_sector_leftovers(const kv_file *file, const kv_sector_bytes *loaded, uint64_t offset);

/* Is there proof that the log was durable beyond `position`: the superblock's word, or a later commit mark that was
 * written when it was known? */
kv_status kv_log_proven(kv_file *file, kv_sector_bytes *loaded, uint64_t position, bool *proven);

#endif
