#include "reader.h"

#include <stdlib.h>

typedef struct by_generation {
    uint64_t generation, sector;
} by_generation;

static int compare_generations(const void *a, const void *b) {
    uint64_t x = ((const by_generation *)a)->generation, y = ((const by_generation *)b)->generation;
    return x < y ? -1 : x > y;
}

/* Index in `sorted` of a generation, or `count`. */
static uint64_t find(const by_generation *sorted, uint64_t count, uint64_t generation) {
    uint64_t low = 0, high = count;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (sorted[middle].generation < generation)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && sorted[low].generation == generation ? low : count;
}

/* Number of sectors on the way back from sorted[tip] to the log's first sector, 0 when it does not lead there. */
static uint64_t way_back(const kv_file *file, const by_generation *sorted, uint64_t count, uint64_t tip) {
    uint64_t length = 1;
    while (sorted[tip].generation != kv_position_generation(file, file->super.replay)) {
        uint64_t before = kv_position_generation(file, file->sectors[sorted[tip].sector].previous);
        tip = find(sorted, count, before); /* generations fall: this ends */
        if (tip == count) return 0;
        length++;
    }
    return sorted[tip].sector == file->super.log_sector ? length : 0;
}

kv_status kv_chain_find(kv_file *file, kv_chain *chain) {
    *chain = (kv_chain){NULL, 0};
    uint64_t count = 0, length = 0;
    for (uint64_t i = 0; i < file->sector_count; i++) count += file->sectors[i].type == KV_SECTOR_LOG;
    by_generation *sorted = malloc((size_t)(count + 1) * sizeof *sorted);
    if (sorted == NULL) return KV_NO_MEMORY;
    count = 0;
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].type == KV_SECTOR_LOG) sorted[count++] = (by_generation){file->sectors[i].generation, i};
    qsort(sorted, (size_t)count, sizeof *sorted, compare_generations);

    uint64_t tip = count;
    while (tip > 0 && length == 0) length = way_back(file, sorted, count, --tip);
    kv_status status = KV_OK;
    if (length == 0) {
        uint64_t offset = KV_SECTORS_START + (file->super.log_sector << file->sector_shift);
        status = kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SECTOR_HEADER, offset);
    } else if ((chain->sectors = malloc((size_t)length * sizeof *chain->sectors)) == NULL) {
        status = KV_NO_MEMORY;
    } else {
        chain->count = length;
        while (length-- > 0) {
            chain->sectors[length] = sorted[tip].sector;
            if (length > 0)
                tip = find(sorted, count, kv_position_generation(file, file->sectors[sorted[tip].sector].previous));
        }
    }
    free(sorted);
    return status;
}

uint64_t kv_chain_branch(const kv_file *file, const kv_chain *chain) {
    uint64_t newest = 0;
    for (uint64_t i = 0; i < file->sector_count; i++) {
        if (file->sectors[i].type != KV_SECTOR_LOG) continue;
        uint64_t generation = file->sectors[i].generation, low = 0, high = chain->count;
        while (low < high) { /* the first of the chain that is not older */
            uint64_t middle = (low + high) / 2;
            if (file->sectors[chain->sectors[middle]].generation < generation)
                low = middle + 1;
            else
                high = middle;
        }
        if (low == 0 || low == chain->count || chain->sectors[low] == i) continue;
        uint64_t behind = file->sectors[chain->sectors[low]].generation;
        if (behind > newest) newest = behind;
    }
    return newest;
}

void kv_chain_free(kv_chain *chain) {
    free(chain->sectors);
    *chain = (kv_chain){NULL, 0};
}

kv_status kv_sector_load(kv_file *file, kv_sector_bytes *loaded, uint64_t sector, uint64_t from) {
    if (loaded->bytes == NULL) {
        loaded->bytes = malloc(file->sector_bytes);
        if (loaded->bytes == NULL) return KV_NO_MEMORY;
        loaded->sector = UINT64_MAX;
    }
    if (loaded->sector == sector && loaded->from <= from) return KV_OK;
    loaded->sector = UINT64_MAX;
    loaded->partial = false;
    loaded->from = from & ~(uint64_t)(KV_PAGE_BYTES - 1);
    uint64_t got;
    kv_status status = kv_file_read_some(file, kv_sector_offset(file, sector) + loaded->from, loaded->bytes + loaded->from,
                                         file->sector_bytes - loaded->from, &got);
    if (status != KV_OK) return status;
    if (got == 0 && loaded->from > 0) return kv_sector_load(file, loaded, sector, 0); /* the file may end anywhere before */
    loaded->available = loaded->from + got;
    loaded->sector = sector;
    return KV_OK;
}

void kv_reader_begin(kv_reader *reader, kv_file *file, const kv_chain *chain, kv_sector_bytes *loaded) {
    *reader = (kv_reader){.file = file,
                          .chain = chain,
                          .loaded = loaded,
                          .offset = kv_position_offset(file, file->super.replay),
                          .sum = file->super.chain};
}

uint64_t kv_reader_position(const kv_reader *reader) {
    const kv_sector *s = &reader->file->sectors[reader->chain->sectors[reader->index]];
    return kv_position(reader->file, s->generation, reader->offset);
}

uint64_t kv_reader_file_offset(const kv_reader *reader) {
    return kv_sector_offset(reader->file, reader->chain->sectors[reader->index]) + reader->offset;
}

/* A record in the sector at hand, or KV_NOT_FOUND. */
static kv_status record_here(kv_reader *reader, kv_record *record) {
    kv_file *file = reader->file;
    uint64_t sector = reader->chain->sectors[reader->index];
    const uint64_t record_bytes_max = KV_RECORD_HEADER_BYTES + KV_KEY_MAX + KV_INLINE_MAX + 8;
    uint64_t from = reader->offset;
    if (reader->loaded->partial && reader->offset + record_bytes_max > reader->loaded->available) {
        if (reader->loaded->sector == sector) from = reader->loaded->from; /* a second pass begins there */
        reader->loaded->sector = UINT64_MAX;
    }
    kv_status status = kv_sector_load(file, reader->loaded, sector, from);
    if (status != KV_OK) return status;
    uint64_t available = reader->loaded->available, usable = file->sector_bytes - KV_SECTOR_TAIL;
    if (available > usable) available = usable;
    if (reader->offset >= available) return KV_NOT_FOUND;
    bool valid = kv_record_decode(record, reader->loaded->bytes + reader->offset, available - reader->offset,
                                  file->sectors[sector].salt, kv_reader_position(reader)) &&
                 record->chain == reader->sum && record->type != KV_RECORD_VALUE;
    return valid ? KV_OK : KV_NOT_FOUND;
}

kv_status kv_reader_next(kv_reader *reader, kv_record *record, uint64_t *position) {
    const kv_file *file = reader->file;
    kv_status status;
    while (reader->index + 1 < reader->chain->count) { /* does the next sector begin here? */
        const kv_sector *next = &file->sectors[reader->chain->sectors[reader->index + 1]];
        if (next->previous != kv_reader_position(reader)) break;
        if (next->chain != reader->sum) return KV_NOT_FOUND;
        status = record_here(reader, record);
        if (status == KV_OK) reader->branch = next->generation; /* what follows there was written once more */
        if (status != KV_OK && status != KV_NOT_FOUND) return status;
        reader->index++;
        reader->offset = KV_SECTOR_DATA;
    }
    *position = kv_reader_position(reader);
    status = record_here(reader, record);
    if (status != KV_OK) return status;
    reader->offset += kv_record_bytes(record);
    reader->sum = record->sum;
    return KV_OK;
}

/* No record begins in the 64 bytes from here: its type would not be zero. Most of a sector may be space that was never used. */
static bool is_empty(const kv_sector_bytes *loaded, uint64_t offset) {
    const uint64_t from = offset + KV_RH_TYPE / 8 * 8;
    if (from + 64 > loaded->available) return false;
    uint64_t any = 0;
    for (uint64_t at = from; at < from + 64; at += 8) any |= kv_load64(loaded->bytes + at);
    return any == 0;
}

/* Look through the loaded sector for records that are valid where they stand, whatever lies between them: the highest
 * position that one confirms, and where the last of them ends. */
static void search(const kv_file *file, const kv_sector_bytes *loaded, uint64_t offset, uint64_t *confirmed,
                   uint64_t *end) {
    const kv_sector *s = &file->sectors[loaded->sector];
    *confirmed = *end = 0;
    while (offset + KV_RECORD_HEADER_BYTES <= loaded->available) {
        kv_record record;
        if (loaded->bytes[offset + KV_RH_TYPE] == 0) {
            offset += is_empty(loaded, offset) ? 64 : 8;
            continue;
        }
        if (!kv_record_decode(&record, loaded->bytes + offset, loaded->available - offset, s->salt,
                              kv_position(file, s->generation, offset))) {
            offset += 8;
            continue;
        }
        if (record.confirmed > *confirmed) *confirmed = record.confirmed;
        offset += record.type == KV_RECORD_VALUE ? 8 : kv_record_bytes(&record);
        *end = offset;
    }
}

uint64_t kv_sector_leftovers(const kv_file *file, const kv_sector_bytes *loaded, uint64_t offset) {
    uint64_t confirmed, end;
    search(file, loaded, offset, &confirmed, &end);
    return end;
}

kv_status kv_log_proven(kv_file *file, kv_sector_bytes *loaded, uint64_t position, bool *proven) {
    *proven = file->super.durable > position;
    kv_status status = KV_OK;
    uint64_t generation = kv_position_generation(file, position);
    for (uint64_t i = 0; i < file->sector_count && !*proven; i++) {
        const kv_sector *s = &file->sectors[i];
        if (s->type != KV_SECTOR_LOG || s->generation < generation) continue;
        uint64_t from = s->generation == generation ? kv_position_offset(file, position) + 8u : KV_SECTOR_DATA;
        status = kv_sector_load(file, loaded, i, from);
        if (status != KV_OK) break;
        uint64_t confirmed, end;
        search(file, loaded, from, &confirmed, &end);
        *proven = confirmed > position;
    }
    return status;
}
