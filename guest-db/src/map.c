/* The space map: what a checkpoint knows of each sector, and which pages its trees use. Opening reads it in place of every
 * sector's header, so that the time to open does not grow with what is stored. */
#include <stdlib.h>

#include "checksum.h"
#include "file.h"

static uint32_t pages_a_sector(const kv_file *file) { return file->sector_bytes / KV_PAGE_BYTES; }

uint64_t kv_page_sum(const kv_file *file, uint32_t page, const uint8_t *bytes) {
    kv_xxh64_state state;
    const uint64_t zero = 0;
    kv_xxh64_begin(&state, kv_page_seed(file->super.database_id, page));
    kv_xxh64_add(&state, bytes, KV_PG_SUM);
    kv_xxh64_add(&state, &zero, sizeof zero);
    kv_xxh64_add(&state, bytes + KV_PG_SUM + sizeof zero, KV_PAGE_BYTES - KV_PG_SUM - sizeof zero);
    return kv_xxh64_end(&state);
}

/* ---- reading ---- */

static kv_status read_page(kv_file *file, const kv_superblock *super, uint32_t page, uint8_t *bytes) {
    uint64_t offset = (uint64_t)page * KV_PAGE_BYTES;
    kv_status status = kv_file_read(file, offset, bytes, KV_PAGE_BYTES);
    if (status != KV_OK) return status;
    bool good = page >= KV_FIRST_PAGE && kv_load32(bytes + KV_MP_MAGIC) == KV_MAP_MAGIC &&
                kv_load32(bytes + KV_PG_PAGE) == page && kv_load64(bytes + KV_PG_SUM) == kv_page_sum(file, page, bytes) &&
                kv_load64(bytes + KV_MP_SEQUENCE) <= super->sequence;
    return good ? KV_OK : kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, offset);
}

/* Does each entry keep to its bounds, and do the bits of all index sectors fit? */
static bool is_sound(const kv_file *file, const kv_map *map) {
    uint64_t needed = map->sectors * KV_MAP_ENTRY_BYTES, has = (uint64_t)map->page_count * KV_MP_BYTES;
    if (map->sectors > has / KV_MAP_ENTRY_BYTES) return false;
    for (uint64_t i = 0; i < map->sectors;) {
        kv_sector s = kv_map_sector(map, i);
        if (s.type == KV_SECTOR_INSIDE || s.type > KV_SECTOR_INDEX) return false;
        if (s.type == KV_SECTOR_INDEX) needed += pages_a_sector(file) / 8;
        if (s.type == 0) {
            i++;
            continue;
        }
        bool bounded = s.span >= 1 && (s.type == KV_SECTOR_VALUES || s.span == 1) && s.span <= map->sectors - i &&
                       s.generation >= 1 && s.generation < file->super.generation;
        if (!bounded) return false;
        for (uint32_t inside = 1; inside < s.span; inside++)
            if (kv_map_sector(map, i + inside).type != KV_SECTOR_INSIDE) return false;
        i += s.span;
    }
    return needed <= has;
}

kv_status kv_map_read(kv_file *file, const kv_superblock *super, kv_map *map) {
    *map = (kv_map){.sectors = 0}; /* of a damaged one nothing is known */
    if (super->map_page == 0) return super->map_sectors == 0 ? KV_OK : kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, 0);
    uint64_t size;
    kv_status status = kv_file_size(file, &size);
    if (status != KV_OK) return status;
    uint64_t most = super->map_sectors * (KV_MAP_ENTRY_BYTES + pages_a_sector(file) / 8) / KV_MP_BYTES + 1;
    if (super->map_pages == 0 || super->map_pages > most || super->map_pages > size / KV_PAGE_BYTES)
        return kv_file_fail(file, KV_CORRUPT, KV_DETAIL_TRUNCATED, size);
    if ((uint64_t)super->map_pages * KV_MP_BYTES > SIZE_MAX / 4) return KV_NO_MEMORY;
    map->bytes = malloc((size_t)super->map_pages * KV_MP_BYTES);
    map->pages = malloc((size_t)super->map_pages * sizeof *map->pages);
    if (map->bytes == NULL || map->pages == NULL) status = KV_NO_MEMORY;
    map->sectors = super->map_sectors;
    uint32_t page = super->map_page;
    while (status == KV_OK && map->page_count < super->map_pages) {
        uint8_t bytes[KV_PAGE_BYTES];
        status = read_page(file, super, page, bytes);
        if (status != KV_OK) break;
        memcpy(map->bytes + (size_t)map->page_count * KV_MP_BYTES, bytes + KV_MP_DATA, KV_MP_BYTES);
        map->pages[map->page_count++] = page;
        page = kv_load32(bytes + KV_MP_NEXT);
    }
    if (status == KV_OK && !is_sound(file, map))
        status = kv_file_fail(file, KV_CORRUPT, KV_DETAIL_SUPERBLOCK, (uint64_t)super->map_page * KV_PAGE_BYTES);
    if (status != KV_OK) kv_map_free(map);
    return status;
}

void kv_map_free(kv_map *map) {
    free(map->bytes);
    free(map->pages);
    *map = (kv_map){.sectors = 0};
}

kv_sector kv_map_sector(const kv_map *map, uint64_t sector) {
    const uint8_t *from = map->bytes + sector * KV_MAP_ENTRY_BYTES;
    return (kv_sector){.type = from[KV_ME_TYPE],
                       .span = kv_load32(from + KV_ME_SPAN),
                       .erases = kv_load32(from + KV_ME_ERASES),
                       .live = kv_load32(from + KV_ME_LIVE),
                       .generation = kv_load64(from + KV_ME_GENERATION),
                       .salt = kv_load64(from + KV_ME_SALT)};
}

const uint8_t *kv_map_next_pages(const kv_file *file, const kv_map *map, uint64_t *sector, const uint8_t *before) {
    if (map->sectors == 0) return NULL;
    const uint8_t *bits = before == NULL ? map->bytes + map->sectors * KV_MAP_ENTRY_BYTES : before + pages_a_sector(file) / 8;
    for (*sector += before != NULL; *sector < map->sectors; ++*sector)
        if (map->bytes[*sector * KV_MAP_ENTRY_BYTES + KV_ME_TYPE] == KV_SECTOR_INDEX) return bits;
    return NULL;
}

/* ---- writing ---- */

uint64_t kv_map_bytes(const kv_file *file) {
    uint64_t bytes = file->sector_count * KV_MAP_ENTRY_BYTES;
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].type == KV_SECTOR_INDEX) bytes += pages_a_sector(file) / 8;
    return bytes;
}

static void encode_sector(const kv_sector *s, uint8_t *to) {
    memset(to, 0, KV_MAP_ENTRY_BYTES);
    kv_store32(to + KV_ME_ERASES, s->erases);
    if (s->emptied || s->type == 0) return;
    to[KV_ME_TYPE] = (uint8_t)s->type;
    kv_store32(to + KV_ME_SPAN, s->span);
    kv_store32(to + KV_ME_LIVE, s->live);
    kv_store64(to + KV_ME_GENERATION, s->generation);
    kv_store64(to + KV_ME_SALT, s->salt);
}

void kv_map_encode(const kv_file *file, uint8_t *to) {
    uint8_t *bits = to + file->sector_count * KV_MAP_ENTRY_BYTES;
    for (uint64_t i = 0; i < file->sector_count; i++) {
        const kv_sector *s = &file->sectors[i];
        encode_sector(s, to + i * KV_MAP_ENTRY_BYTES);
        if (s->emptied) /* the rest of its run is as free as its first sector */
            for (uint32_t inside = 1; inside < s->span; inside++) encode_sector(s, to + ++i * KV_MAP_ENTRY_BYTES);
        if (s->type != KV_SECTOR_INDEX) continue;
        kv_nodes_bits(file->nodes, i, bits);
        bits += pages_a_sector(file) / 8;
    }
}

void kv_map_page(const kv_file *file, uint64_t sequence, uint32_t page, uint32_t next, const uint8_t *piece, uint64_t bytes,
                 uint8_t *to) {
    memset(to, 0, KV_PAGE_BYTES);
    kv_store32(to + KV_MP_MAGIC, KV_MAP_MAGIC);
    kv_store32(to + KV_MP_NEXT, next);
    kv_store64(to + KV_MP_SEQUENCE, sequence);
    kv_store32(to + KV_PG_PAGE, page);
    memcpy(to + KV_MP_DATA, piece, (size_t)bytes);
    kv_store64(to + KV_PG_SUM, kv_page_sum(file, page, to));
}
