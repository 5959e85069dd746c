/* How many bytes of each sector the newest version refers to. Collection looks for the emptiest sector by these counts, but frees
 * none before it has looked up every record in it: a wrong count can cost space, never data. */
#include <stdlib.h>
#include <string.h>

#include "db.h"

#define COMPACT_FROM (64u << 10) /* changes of a transaction before they are summed up by sector */

uint64_t kv_record_span(uint32_t key_length, uint32_t value_length) {
    return KV_ALIGN8((uint64_t)KV_RECORD_HEADER_BYTES + key_length + value_length);
}

static void change(kv_db *db, uint64_t sector, int64_t bytes) {
    if (sector >= db->file->sector_count) return;
    kv_sector *s = &db->file->sectors[sector];
    int64_t live = (int64_t)s->live + bytes;
    s->live = (uint32_t)(live < 0 ? 0 : live > UINT32_MAX ? UINT32_MAX : live);
}

/* Sum up what the innermost savepoint has, if there is memory for it. */
static void sum_up(const kv_db *db, kv_live *live) {
    uint64_t sectors = db->file->sector_count;
    int64_t *sums = sectors > SIZE_MAX / sizeof *sums ? NULL : calloc((size_t)sectors, sizeof *sums);
    if (sums == NULL) return;
    for (uint32_t i = live->floor; i < live->count; i++)
        if (live->changes[i].sector < sectors) sums[live->changes[i].sector] += live->changes[i].bytes;
    live->count = live->floor;
    for (uint64_t sector = 0; sector < sectors; sector++)
        if (sums[sector] != 0) live->changes[live->count++] = (kv_live_change){sector, sums[sector]};
    free(sums);
}

static bool note(kv_db *db, uint64_t sector, int64_t bytes) {
    kv_live *live = &db->live;
    for (uint32_t back = 1; back <= 2 && live->count >= live->floor + back; back++) {
        kv_live_change *last = &live->changes[live->count - back];
        if (last->sector != sector) continue;
        last->bytes += bytes;
        return true;
    }
    if (live->count == live->capacity) {
        if (live->count - live->floor >= COMPACT_FROM) sum_up(db, live);
        if (live->count >= live->capacity / 2) {
            uint32_t capacity = live->capacity == 0 ? 64 : 2 * live->capacity;
            kv_live_change *grown =
                capacity > UINT32_MAX / sizeof *grown ? NULL : realloc(live->changes, capacity * sizeof *grown);
            if (grown == NULL) return false;
            live->changes = grown;
            live->capacity = capacity;
        }
    }
    live->changes[live->count++] = (kv_live_change){sector, bytes};
    return true;
}

void kv_live_add(kv_db *db, kv_key key, const kv_place *place, int sign) {
    uint64_t sector, start = kv_record_offset(place, key);
    if (!kv_stored_sector(db->file, start, &sector)) return;
    int64_t bytes = sign * (int64_t)kv_record_span(key.length, place->length);
    if (db->txn.state == KV_TXN_NONE || !note(db, sector, bytes)) change(db, sector, bytes);
}

void kv_live_remove_later(kv_db *db, const kv_node *leaf, uint32_t offset, uint32_t key_length) {
    kv_nodes *nodes = db->nodes;
    if (nodes->removed_count == KV_REMOVED_MAX) kv_live_settle(db);
    nodes->removed[nodes->removed_count++] = (kv_removed){leaf, offset, key_length};
}

void kv_live_settle(kv_db *db) {
    kv_nodes *nodes = db->nodes;
    kv_place places[KV_REMOVED_MAX];
    for (uint32_t i = 0; i < nodes->removed_count; i++) /* in a loop of nothing else: one wait for memory for all of them */
        memcpy(&places[i], (const uint8_t *)nodes->removed[i].leaf + nodes->removed[i].offset, sizeof places[i]);
    for (uint32_t i = 0; i < nodes->removed_count; i++)
        kv_live_add(db, (kv_key){NULL, nodes->removed[i].key_length}, &places[i], -1);
    nodes->removed_count = 0;
}

void kv_live_commit(kv_db *db) {
    kv_live_settle(db);
    kv_live *live = &db->live;
    for (uint32_t i = 0; i < live->count; i++) change(db, live->changes[i].sector, live->changes[i].bytes);
    kv_live_roll_back(db, 0, 0);
}

void kv_live_roll_back(kv_db *db, uint32_t count, uint32_t floor) {
    kv_live *live = &db->live;
    db->nodes->removed_count = 0;
    live->count = count;
    live->floor = floor;
    if (count > 0 || live->capacity <= COMPACT_FROM) return;
    free(live->changes);
    *live = (kv_live){.changes = NULL};
}

uint64_t kv_live_total(const kv_db *db, uint16_t type) {
    uint64_t total = 0;
    for (uint64_t i = 0; i < db->file->sector_count; i++)
        if (db->file->sectors[i].type == type) total += db->file->sectors[i].live;
    return total;
}
