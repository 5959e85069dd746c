/* Repair without an index: every record of the log that is valid where it stands, the newest commit of each key. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "repair.h"

#define RECORDS_A_STEP 1024u
#define PROBE_SECTORS 4096u

/* ---- geometry ---- */

/* Does a sector validate with this id and size? */
static bool fits(kv_file *file, uint64_t id, uint32_t bytes) {
    if (bytes < KV_SECTOR_BYTES_MIN || bytes > KV_SECTOR_BYTES_MAX || (bytes & (bytes - 1)) != 0) return false;
    kv_file_set_sector_bytes(file, bytes);
    uint64_t size;
    if (kv_file_size(file, &size) != KV_OK) return false;
    for (uint64_t i = 0; i < PROBE_SECTORS && kv_sector_offset(file, i) < size; i++) {
        uint8_t both[KV_SECTOR_DATA] = {0};
        uint64_t got;
        if (kv_file_read_some(file, kv_sector_offset(file, i), both, sizeof both, &got) != KV_OK) continue;
        for (const uint8_t *header = both; header < both + sizeof both; header += KV_SECTOR_HEADER_BYTES)
            if (kv_load32(header + KV_SH_MAGIC) == KV_SECTOR_MAGIC &&
                kv_load64(header) == kv_xxh64(header + KV_SH_MAGIC, KV_SECTOR_HEADER_BYTES - KV_SH_MAGIC, id))
                return true;
    }
    return false;
}

/* A slot whose own sum is wrong may still have the right id and size; any size will do that makes headers valid. */
static bool find_geometry(kv_file *file) {
    for (uint32_t any_size = 0; any_size < 2; any_size++)
        for (uint32_t slot = 0; slot < 2; slot++) {
            uint8_t bytes[KV_SUPERBLOCK_BYTES] = {0};
            uint64_t got;
            if (kv_file_read_some(file, slot * KV_SUPERBLOCK_SLOT, bytes, sizeof bytes, &got) != KV_OK) continue;
            file->super.database_id = kv_load64(bytes + KV_SB_DATABASE_ID);
            if (!any_size && fits(file, file->super.database_id, kv_load32(bytes + KV_SB_SECTOR_BYTES))) return true;
            for (uint32_t size = KV_SECTOR_BYTES_MIN; any_size && size <= KV_SECTOR_BYTES_MAX; size *= 2)
                if (fits(file, file->super.database_id, size)) return true;
        }
    return false;
}

/* ---- the order of the log ---- */

static const kv_file *sorted_file; /* one guest, one thread */
static int newest_first(const void *a, const void *b) {
    uint64_t x = sorted_file->sectors[((const kv_log_part *)a)->sector].generation;
    uint64_t y = sorted_file->sectors[((const kv_log_part *)b)->sector].generation;
    return x > y ? -1 : x < y;
}

/* From the newest sector back: what lies between a sector and the one that it says it follows was superseded. */
static kv_status find_parts(kv_repair *r) {
    const kv_file *file = r->source->file;
    uint64_t count = 0, kept = 0, expected = UINT64_MAX;
    for (uint64_t i = 0; i < file->sector_count; i++) count += file->sectors[i].type == KV_SECTOR_LOG;
    r->parts = malloc((size_t)(count + 1) * sizeof *r->parts);
    if (r->parts == NULL) return KV_NO_MEMORY;
    count = 0;
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].type == KV_SECTOR_LOG) r->parts[count++] = (kv_log_part){.sector = i};
    sorted_file = file;
    qsort(r->parts, (size_t)count, sizeof *r->parts, newest_first);
    for (uint64_t i = 0; i < count; i++) {
        const kv_sector *s = &file->sectors[r->parts[i].sector];
        if (s->generation > expected) continue;
        kv_log_part part = {.sector = r->parts[i].sector};
        if (kept > 0 && s->generation == expected) {
            part.limit = kv_position_offset(file, file->sectors[r->parts[kept - 1].sector].previous);
            r->parts[kept - 1].linked = true;
        }
        r->parts[kept++] = part;
        if (s->previous != 0) expected = kv_position_generation(file, s->previous);
        else expected = s->generation - 1;
    }
    for (uint64_t i = 0; i < kept / 2; i++) { /* oldest first */
        kv_log_part swapped = r->parts[i];
        r->parts[i] = r->parts[kept - 1 - i];
        r->parts[kept - 1 - i] = swapped;
    }
    r->part_count = kept;
    return KV_OK;
}

kv_status kv_repair_scan_begin(kv_repair *r) {
    r->source = calloc(1, sizeof *r->source);
    if (r->source == NULL) return KV_NO_MEMORY;
    kv_db_init(r->source, r->cache_bytes);
    int fd = open(r->from, O_RDONLY);
    if (fd < 0) {
        r->error = (kv_error){.os_error = errno};
        return errno == ENOENT ? KV_NO_SUCH_FILE : KV_IO;
    }
    kv_file *file = r->source->file = kv_file_new(fd, KV_SECTOR_BYTES_DEFAULT, r->seed);
    if (file == NULL) {
        close(fd);
        return KV_NO_MEMORY;
    }
    file->read_only = true;
    if (!find_geometry(file)) return KV_NOT_A_DATABASE;
    file->super.generation = 0; /* no header is too old */
    kv_map none = {.sectors = 0};
    kv_status status = kv_sectors_read(file, &none);
    if (status != KV_OK) return status;
    for (uint64_t i = 0; i < file->sector_count; i++) {
        uint8_t header[KV_SECTOR_DATA] = {0};
        uint64_t got;
        if (file->sectors[i].type != 0) continue;
        if (kv_file_read_some(file, kv_sector_offset(file, i), header, sizeof header, &got) != KV_OK) continue;
        bool index = false; /* kv_sectors_read passes over those */
        for (uint32_t at = 0; at < KV_SECTOR_DATA; at += KV_SECTOR_HEADER_BYTES)
            index = index || (kv_load16(header + at + KV_SH_TYPE) == KV_SECTOR_INDEX &&
                              kv_load64(header + at) == kv_xxh64(header + at + KV_SH_MAGIC, KV_SECTOR_HEADER_BYTES - KV_SH_MAGIC,
                                                                 file->super.database_id));
        if (index) continue;
        r->result.sectors_lost++;
        kv_repair_problem(r, kv_sector_offset(file, i), KV_DETAIL_SECTOR_HEADER, (kv_key){NULL, 0});
    }
    status = find_parts(r);
    r->at = (kv_log_cursor){.offset = KV_SECTOR_DATA, .gap = true};
    r->table = 0;
    r->last.any = r->group = false;
    return status == KV_OK ? kv_repair_make_target(r) : status;
}

/* ---- tables and entries ---- */

static void placeholder(kv_repair *r, uint32_t table, char *to) {
    uint32_t other;
    int length = snprintf(to, 64, "table-%u", table);
    while (length < 60 && kv_table_find(r->target, r->target->nodes, &r->target->head, (kv_key){(uint8_t *)to, (uint32_t)length},
                                        &other) == KV_OK)
        to[length++] = '_';
    to[length] = 0;
}

kv_status kv_repair_need_table(kv_repair *r, uint32_t table, kv_repair_table **found) {
    uint32_t low = 0, high = r->table_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (r->tables[middle].table < table) low = middle + 1;
        else high = middle;
    }
    *found = &r->tables[low];
    if (low < r->table_count && r->tables[low].table == table) return KV_OK;
    if (r->table_count == r->table_capacity) {
        uint32_t capacity = r->table_capacity == 0 ? 64 : 2 * r->table_capacity;
        kv_repair_table *grown = capacity > (1u << 28) ? NULL : realloc(r->tables, capacity * sizeof *grown);
        if (grown == NULL) return KV_NO_MEMORY;
        r->tables = grown;
        r->table_capacity = capacity;
    }
    memmove(r->tables + low + 1, r->tables + low, (r->table_count - low) * sizeof *r->tables);
    r->table_count++;
    r->tables[low] = (kv_repair_table){.table = table};
    *found = &r->tables[low];
    char name[64];
    placeholder(r, table, name);
    return kv_table_apply_create(r->target, &r->target->head, (kv_key){(uint8_t *)name, (uint32_t)strlen(name)}, table);
}

/* Give a table a name in place of the one that it has; what is in it stays. */
static kv_status rename_table(kv_repair *r, uint32_t table, kv_key old, kv_key name) {
    kv_db *target = r->target;
    kv_root root;
    kv_target t;
    kv_status status = kv_table_root(target, target->nodes, &target->head, table, &root);
    if (status == KV_OK) status = kv_table_apply_drop(target, &target->head, old, table);
    if (status == KV_OK) status = kv_table_apply_create(target, &target->head, name, table);
    if (status == KV_OK) status = kv_target_find(target, &target->head, table, name, &t);
    if (status != KV_NOT_FOUND) return status;
    t.root = root;
    kv_target_store(target, &target->head, table, &t);
    return KV_OK;
}

static kv_status find_placeholder(kv_repair *r, uint32_t table, char *to) {
    uint32_t other;
    int length = snprintf(to, 64, "table-%u", table);
    for (; length < 60; to[length++] = '_') {
        kv_key name = {(uint8_t *)to, (uint32_t)length};
        kv_status status = kv_table_find(r->target, r->target->nodes, &r->target->head, name, &other);
        to[length] = 0;
        if (status == KV_OK && other == table) return KV_OK;
        if (status != KV_OK && status != KV_NOT_FOUND) return status;
    }
    return KV_NO_SUCH_TABLE;
}

/* A table was made: if another has the name, that one was dropped, or only a placeholder. */
static kv_status name_table(kv_repair *r, const kv_record *record) {
    if (record->key.length > KV_TABLE_NAME_MAX) return KV_OK;
    kv_repair_table *t;
    uint32_t holder;
    char mine[64], other[64];
    kv_status status = kv_repair_need_table(r, record->table, &t);
    if (status != KV_OK || t->named || t->dropped) return status;
    status = kv_table_find(r->target, r->target->nodes, &r->target->head, record->key, &holder);
    if (status == KV_OK && holder == record->table) {
        t->named = true;
        return KV_OK;
    }
    if (status == KV_OK) {
        kv_repair_table *h;
        status = kv_repair_need_table(r, holder, &h);
        if (status != KV_OK) return status;
        h->dropped = h->dropped || h->named;
        placeholder(r, holder, other);
        status = rename_table(r, holder, record->key, (kv_key){(uint8_t *)other, (uint32_t)strlen(other)});
        if (status != KV_OK) return status;
    } else if (status != KV_NOT_FOUND) {
        return status;
    }
    status = find_placeholder(r, record->table, mine);
    if (status == KV_OK) status = rename_table(r, record->table, (kv_key){(uint8_t *)mine, (uint32_t)strlen(mine)}, record->key);
    if (status == KV_OK && kv_repair_need_table(r, record->table, &t) == KV_OK) t->named = true;
    return status;
}

static uint64_t commit_of(kv_repair *r, kv_key key, const kv_place *place) {
    uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    kv_record record;
    if (place->length == KV_MARKER) return place->offset;
    return kv_stored_record(r->source->file, key, place, &record, bytes, 0) == KV_OK ? record.commit : 0;
}

kv_status kv_repair_enter(kv_repair *r, uint32_t table, kv_key key, const kv_place *place, uint64_t commit) {
    kv_db *target = r->target;
    kv_target t;
    kv_place old;
    kv_status status = kv_target_find(target, &target->head, table, key, &t);
    if (status == KV_OK && commit != UINT64_MAX) {
        status = kv_tree_get(target->nodes, &t.root, key, &old);
        if (status != KV_OK) return status;
        if (commit_of(r, key, &old) > commit) return KV_OK;
    }
    if (status != KV_OK && status != KV_NOT_FOUND) return status;
    kv_tree_put(target->nodes, &t.root, &t.path, key, t.there, place, &old);
    kv_target_store(target, &target->head, table, &t);
    return KV_OK;
}

/* ---- records ---- */

static kv_status apply(kv_repair *r, const kv_record *record, uint64_t file_offset) {
    if (record->commit > r->commit && record->commit < UINT64_MAX / 2) r->commit = record->commit;
    kv_repair_table *t = NULL;
    kv_status status = record->table == 0 ? KV_OK : kv_repair_need_table(r, record->table, &t);
    if (status != KV_OK || (t != NULL && t->dropped)) return status;
    if (record->type == KV_RECORD_TABLE) return name_table(r, record);
    if (record->type == KV_RECORD_DROP) t->dropped = true;
    if (record->type != KV_RECORD_PUT && record->type != KV_RECORD_DELETE) return KV_OK;
    kv_place place = {record->commit, KV_MARKER, KV_MARKER_DELETED};
    if (record->type == KV_RECORD_PUT) {
        bool external = record->flags & KV_FLAG_EXTERNAL;
        uint64_t at = external ? record->external : file_offset + KV_RECORD_HEADER_BYTES + record->key.length;
        kv_place there = {at, record->value_length, record->value_sum};
        kv_record stored;
        uint8_t bytes[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
        bool good = external ? kv_stored_record(r->source->file, record->key, &there, &stored, bytes, 0) == KV_OK
                             : kv_value_sum(record->value, record->value_length) == record->value_sum;
        place.sum = KV_MARKER_LOST;
        if (good) place = there;
    }
    return kv_repair_enter(r, record->table, record->key, &place, record->commit);
}

/* The next record that is valid where it stands; KV_NOT_FOUND: no more. */
static kv_status next_record(kv_repair *r, kv_log_cursor *c, kv_record *record, uint64_t *file_offset) {
    kv_file *file = r->source->file;
    for (; c->part < r->part_count; c->part++, c->offset = KV_SECTOR_DATA) {
        const kv_log_part *part = &r->parts[c->part];
        const kv_sector *s = &file->sectors[part->sector];
        if (c->offset == KV_SECTOR_DATA && !part->linked) c->gap = true;
        kv_status status = kv_sector_load(file, &r->loaded, part->sector, 0);
        if (status == KV_NO_MEMORY) return status;
        uint64_t limit = file->sector_bytes - KV_SECTOR_TAIL;
        if (part->limit != 0 && part->limit < limit) limit = part->limit;
        uint64_t available = status == KV_OK ? r->loaded.available : 0;
        for (; c->offset + KV_RECORD_HEADER_BYTES <= limit && c->offset < available; c->offset += 8) {
            uint64_t left = (available < limit ? available : limit) - c->offset;
            bool good = kv_record_decode(record, r->loaded.bytes + c->offset, left, s->salt, kv_position(file, s->generation, c->offset));
            if (good && record->type != KV_RECORD_VALUE) {
                *file_offset = kv_sector_offset(file, part->sector) + c->offset;
                c->gap = c->gap || record->chain != c->sum;
                c->offset += kv_record_bytes(record);
                c->sum = record->sum;
                return KV_OK;
            }
            c->gap = true;
            c->skipped += 8;
        }
        if (part->limit > c->offset) { /* cut, or damaged up to its end */
            c->skipped += part->limit - c->offset;
            c->gap = true;
        } else if (part->limit == 0) {
            c->skipped = 0; /* behind the end of the log, as far as can be told */
        }
    }
    return KV_NOT_FOUND;
}

static void count_gap(kv_repair *r, uint64_t file_offset) {
    if (r->at.skipped == 0) return;
    r->result.bytes_skipped += r->at.skipped;
    kv_repair_problem(r, file_offset - r->at.skipped, KV_DETAIL_RECORD, (kv_key){NULL, 0});
    r->at.skipped = 0;
}

/* Is the record with this number taken back by an undo further on? Transactions with savepoints that were rolled back are rare: the
 * rest is read again for each. */
static kv_status is_undone(kv_repair *r, kv_log_cursor from, uint32_t number, bool *undone) {
    *undone = false;
    for (uint32_t n = number + 1; n < r->group_count && !*undone; n++) {
        kv_record record;
        uint64_t at;
        kv_status status = next_record(r, &from, &record, &at);
        if (status != KV_OK) return status == KV_NOT_FOUND ? KV_OK : status;
        *undone = record.type == KV_RECORD_UNDO && record.value_length <= number;
    }
    return KV_OK;
}

/* The group's records count. */
static kv_status apply_group(kv_repair *r, bool undo) {
    kv_log_cursor c = r->group_start;
    r->group = false;
    for (uint32_t number = 0; number < r->group_count; number++) {
        kv_record record;
        uint64_t at;
        bool undone = false;
        kv_status status = next_record(r, &c, &record, &at);
        if (status == KV_OK && undo) status = is_undone(r, c, number, &undone);
        if (status == KV_OK && undo) {
            kv_log_cursor again = {c.part, (uint32_t)(c.offset - kv_record_bytes(&record)), 0, false, 0};
            status = next_record(r, &again, &record, &at);
        }
        if (status == KV_OK && !undone) status = apply(r, &record, at);
        if (status != KV_OK) return status == KV_NOT_FOUND ? KV_OK : status;
    }
    return KV_OK;
}

/* The group ends without a mark. What damage may have taken it from is taken all the same. */
static kv_status give_up_group(kv_repair *r, bool undo) {
    if (!r->group_damaged) {
        r->result.left_out += r->group_count;
        r->group = false;
        return KV_OK;
    }
    r->result.uncertain += r->group_count;
    return apply_group(r, undo);
}

kv_status kv_repair_scan_some(kv_repair *r) {
    static bool undo; /* the group has such records */
    for (uint32_t n = 0; n < RECORDS_A_STEP && *r->count + 8 < r->capacity; n++) {
        kv_log_cursor before = r->at;
        kv_record record;
        uint64_t at;
        r->at.gap = false;
        kv_status status = next_record(r, &r->at, &record, &at);
        if (status == KV_NOT_FOUND) {
            count_gap(r, at = 0);
            return r->group ? give_up_group(r, undo) : KV_OK;
        }
        if (status != KV_OK) return status;
        count_gap(r, at);
        bool gap = r->at.gap, mark = record.type == KV_RECORD_COMMIT;
        if (r->group && gap) r->group_damaged = true;
        if (r->group && (record.commit != r->group_commit || (!mark && (record.flags & KV_FLAG_COMMIT)))) {
            kv_log_cursor here = r->at;
            status = give_up_group(r, undo);
            r->at = here;
            r->at.offset -= kv_record_bytes(&record); /* again: the sector loaded may be another now */
            r->at.sum = record.chain;
            if (status != KV_OK) return status;
            continue;
        }
        if (mark) {
            if (!r->group) continue;
            if (record.value_length == r->group_count || r->group_damaged) status = apply_group(r, undo);
            else status = give_up_group(r, undo);
        } else if (record.flags & KV_FLAG_COMMIT) {
            status = apply(r, &record, at);
        } else {
            if (!r->group) {
                r->group_start = before;
                r->group_start.skipped = 0;
                r->group_commit = record.commit;
                r->group_count = 0;
                r->group_damaged = gap;
                undo = false;
            }
            r->group = true;
            r->group_count++;
            undo = undo || record.type == KV_RECORD_UNDO;
        }
        if (status != KV_OK) return status;
    }
    return KV_AGAIN;
}
