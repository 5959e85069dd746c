/* Salvaging a damaged database into a new file. The damaged one is only read. */
#ifndef KV_REPAIR_H
#define KV_REPAIR_H

#include "db.h"

/* In the target's trees, before values are copied, places are those of the source, or markers: length KV_MARKER, offset the commit. */
#define KV_MARKER UINT32_MAX
enum { KV_MARKER_DELETED, KV_MARKER_LOST }; /* in `sum` */

typedef struct kv_log_part {
    uint64_t sector;
    uint32_t limit; /* offset at which the log leaves the sector; 0: not known */
    bool linked;    /* it follows the part before it */
} kv_log_part;

/* A place in the log, which is read across damage. */
typedef struct kv_log_cursor {
    uint64_t part;
    uint32_t offset, sum; /* of the next record; sum of the one before */
    bool gap;             /* what lies before the next record is not known */
    uint64_t skipped;     /* bytes of the gap */
} kv_log_cursor;

typedef struct kv_repair_table {
    uint32_t table;
    bool named, dropped;
} kv_repair_table;

typedef struct kv_repair {
    kv_db *source, *target;
    uint32_t phase;
    kv_guest_repair_result result;
    kv_error error;
    kv_problem *problems;
    uint32_t capacity;
    uint64_t *count;
    /* the index of the source, table by table */
    uint32_t table;
    kv_root root;
    kv_last_key last;
    /* the log */
    kv_log_part *parts;
    uint64_t part_count;
    kv_sector_bytes loaded;
    kv_log_cursor at, group_start; /* records of a transaction from group_start to `at` wait for their mark */
    bool group, group_damaged;
    uint64_t group_commit;
    uint32_t group_count;
    uint64_t commit; /* the highest */
    kv_repair_table *tables;
    uint32_t table_count, table_capacity;
    uint64_t seed, cache_bytes;
    char from[KV_PATH_MAX], to[KV_PATH_MAX], temporary[KV_PATH_MAX + 16];
} kv_repair;

kv_status kv_repair_begin(const char *source, const char *target, uint64_t random_seed, uint64_t cache_bytes, kv_repair **repair);
/* One bounded step: KV_AGAIN, KV_SYNC_FIRST (flush repair->target->file->fd), KV_OK: done. */
kv_status kv_repair_step(kv_repair *r, uint32_t flags, kv_problem *problems, uint32_t capacity, uint64_t *count);
void kv_repair_free(kv_repair *r);

/* repair_scan.c: without an index, the log. */
kv_status kv_repair_scan_begin(kv_repair *r);
kv_status kv_repair_scan_some(kv_repair *r); /* KV_OK: all is read */
/* Between the two: an entry of the target, a place in the source or a marker, if it is not older than the one there. */
kv_status kv_repair_enter(kv_repair *r, uint32_t table, kv_key key, const kv_place *place, uint64_t commit);
kv_status kv_repair_need_table(kv_repair *r, uint32_t table, kv_repair_table **found);
kv_status kv_repair_make_target(kv_repair *r);
void kv_repair_problem(kv_repair *r, uint64_t offset, uint32_t detail, kv_key key);

#endif
