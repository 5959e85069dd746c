#include <stdlib.h>

#include "checksum.h"
#include "file.h"

void kv_sector_encode(const kv_file *file, uint64_t sector, uint8_t *to) {
    const kv_sector *s = &file->sectors[sector];
    memset(to, 0, KV_SECTOR_HEADER_BYTES);
    kv_store32(to + KV_SH_MAGIC, KV_SECTOR_MAGIC);
    kv_store16(to + KV_SH_TYPE, s->type);
    kv_store32(to + KV_SH_SPAN, s->span);
    kv_store32(to + KV_SH_ERASES, s->erases);
    kv_store64(to + KV_SH_GENERATION, s->generation);
    kv_store64(to + KV_SH_NUMBER, sector);
    kv_store64(to + KV_SH_SALT, s->salt);
    kv_store64(to + KV_SH_PREVIOUS, s->previous);
    kv_store32(to + KV_SH_CHAIN, s->chain);
    kv_store64(to + KV_SH_SUM, kv_xxh64(to + KV_SH_MAGIC, KV_SECTOR_HEADER_BYTES - KV_SH_MAGIC, file->super.database_id));
    memcpy(to + KV_SECTOR_HEADER_BYTES, to, KV_SECTOR_HEADER_BYTES);
}

static bool decode(const kv_file *file, uint64_t sector, const uint8_t *from, kv_sector *s) {
    if (kv_load32(from + KV_SH_MAGIC) != KV_SECTOR_MAGIC) return false;
    if (kv_load64(from + KV_SH_SUM) !=
        kv_xxh64(from + KV_SH_MAGIC, KV_SECTOR_HEADER_BYTES - KV_SH_MAGIC, file->super.database_id))
        return false;
    s->type = kv_load16(from + KV_SH_TYPE);
    s->span = kv_load32(from + KV_SH_SPAN);
    s->erases = kv_load32(from + KV_SH_ERASES);
    s->generation = kv_load64(from + KV_SH_GENERATION);
    s->salt = kv_load64(from + KV_SH_SALT);
    s->previous = kv_load64(from + KV_SH_PREVIOUS);
    s->chain = kv_load32(from + KV_SH_CHAIN);
    bool single = s->type == KV_SECTOR_LOG || s->type == KV_SECTOR_INDEX;
    bool known = single ? s->span == 1
                        : s->type == KV_SECTOR_VALUES && s->span >= 1 && s->span <= KV_VALUE_MAX / KV_SECTOR_BYTES_MIN + 2;
    return known && kv_load64(from + KV_SH_NUMBER) == sector && s->generation >= 1 &&
           s->generation < UINT64_MAX / KV_SECTOR_BYTES_MAX && (s->previous >> file->sector_shift) < s->generation;
}

/* The first valid of the two copies; false: none. */
static kv_status read_header(kv_file *file, uint64_t sector, kv_sector *s, bool *valid) {
    uint8_t header[KV_SECTOR_DATA] = {0};
    uint64_t got;
    kv_status status = kv_file_read_some(file, kv_sector_offset(file, sector), header, sizeof header, &got);
    if (status != KV_OK) return status;
    *valid = decode(file, sector, header, s) || decode(file, sector, header + KV_SECTOR_HEADER_BYTES, s);
    return KV_OK;
}

kv_status kv_sector_verify(kv_file *file, uint64_t sector, bool *good) {
    const kv_sector *s = &file->sectors[sector];
    uint8_t header[KV_SECTOR_DATA] = {0};
    uint64_t got;
    kv_status status = kv_file_read_some(file, kv_sector_offset(file, sector), header, sizeof header, &got);
    *good = memcmp(header, header + KV_SECTOR_HEADER_BYTES, KV_SECTOR_HEADER_BYTES) == 0;
    kv_sector found = {0};
    *good = *good && decode(file, sector, header, &found) && found.type == s->type && found.span == s->span &&
            found.generation == s->generation && found.salt == s->salt && found.erases == s->erases;
    return status;
}

static kv_status make_room(kv_file *file, uint64_t count) {
    if (count <= file->sector_capacity) return KV_OK;
    uint64_t capacity = file->sector_capacity == 0 ? 64 : file->sector_capacity;
    while (capacity < count) capacity *= 2;
    if (capacity > SIZE_MAX / sizeof(kv_sector)) return KV_NO_MEMORY;
    kv_sector *grown = realloc(file->sectors, (size_t)(capacity * sizeof *grown));
    if (grown == NULL) return KV_NO_MEMORY;
    file->sectors = grown;
    file->sector_capacity = capacity;
    return KV_OK;
}

kv_status kv_sectors_read(kv_file *file, const kv_map *map) {
    uint64_t size;
    kv_status status = kv_file_size(file, &size);
    if (status != KV_OK) return status;
    uint64_t bytes = size > KV_SECTORS_START ? size - KV_SECTORS_START : 0;
    uint64_t count = (bytes + file->sector_bytes - 1) >> file->sector_shift;
    if (count < map->sectors) count = map->sectors; /* the last run may reach beyond the end of the file */
    status = make_room(file, count);
    if (status != KV_OK) return status;
    file->sector_count = count;
    if (count > 0) memset(file->sectors, 0, (size_t)(count * sizeof *file->sectors));
    for (uint64_t sector = 0; sector < file->sector_count; sector++) {
        kv_sector *s = &file->sectors[sector];
        if (sector < map->sectors) *s = kv_map_sector(map, sector);
        if (s->type != 0) continue;
        kv_sector found = {0};
        bool valid;
        status = read_header(file, sector, &found, &valid);
        if (status != KV_OK) return status;
        if (!valid) continue;
        if (found.generation + found.span > file->next_generation) file->next_generation = found.generation + found.span;
        if (found.generation < file->super.generation || found.type == KV_SECTOR_INDEX) continue; /* of an earlier life, or in vain */
        bool free_run = true; /* what the checkpoint uses cannot have been given out since */
        for (uint64_t i = sector + 1; i < sector + found.span && i < map->sectors; i++)
            free_run = free_run && kv_map_sector(map, i).type == 0;
        if (!free_run) continue;
        *s = found;
        s->live = 0;
        status = make_room(file, sector + found.span); /* the whole run is taken, even where the file ends within it */
        if (status != KV_OK) return status;
        for (; file->sector_count < sector + found.span; file->sector_count++)
            file->sectors[file->sector_count] = (kv_sector){.type = 0};
        for (uint32_t i = 1; i < found.span; i++) file->sectors[++sector] = (kv_sector){.type = KV_SECTOR_INSIDE};
    }
    return KV_OK;
}

/* Forget a sector, or its whole run. */
static void forget(kv_file *file, uint64_t sector) {
    uint64_t end = sector + (file->sectors[sector].type == 0 ? 1 : file->sectors[sector].span);
    for (; sector < end && sector < file->sector_count; sector++) file->sectors[sector] = (kv_sector){.type = 0};
}

static kv_status take(kv_file *file, uint64_t sector, const kv_sector *found) {
    uint64_t end = sector + found->span;
    kv_status status = make_room(file, end);
    if (status != KV_OK) return status;
    for (; file->sector_count < end; file->sector_count++) file->sectors[file->sector_count] = (kv_sector){.type = 0};
    for (uint64_t i = sector; i < end; i++) {
        if (file->sectors[i].type != 0 && file->sectors[i].generation < file->super.generation) return KV_OK; /* in use: no run */
    }
    forget(file, sector);
    for (uint64_t i = sector + 1; i < end; i++) {
        forget(file, i);
        file->sectors[i] = (kv_sector){.type = KV_SECTOR_INSIDE, .generation = found->generation};
    }
    file->sectors[sector] = *found;
    file->sectors[sector].live = 0;
    return KV_OK;
}

kv_status kv_sectors_look_again(kv_file *file, bool *changed) {
    *changed = false;
    uint64_t size;
    kv_status status = kv_file_size(file, &size);
    if (status != KV_OK) return status;
    uint64_t count = size > KV_SECTORS_START ? (size - KV_SECTORS_START + file->sector_bytes - 1) >> file->sector_shift : 0;
    status = make_room(file, count);
    if (status != KV_OK) return status;
    for (; file->sector_count < count; file->sector_count++) file->sectors[file->sector_count] = (kv_sector){.type = 0};
    for (uint64_t sector = 0; sector < file->sector_count;) {
        const kv_sector *known = &file->sectors[sector];
        uint64_t next = sector + (known->type == 0 || known->type == KV_SECTOR_INSIDE ? 1 : known->span);
        bool settled = known->type != 0 && known->generation < file->super.generation; /* the checkpoint's: it is kept */
        kv_sector found = {0};
        bool valid = false;
        if (!settled && known->type != KV_SECTOR_INSIDE) status = read_header(file, sector, &found, &valid);
        if (status != KV_OK) return status;
        valid = valid && found.generation >= file->super.generation && found.type != KV_SECTOR_INDEX;
        bool same = valid ? known->type == found.type && known->generation == found.generation : known->type == 0;
        if (!settled && known->type != KV_SECTOR_INSIDE && !same) {
            *changed = true;
            forget(file, sector);
            if (valid) status = take(file, sector, &found);
            if (status != KV_OK) return status;
            next = sector + (file->sectors[sector].type == 0 ? 1 : file->sectors[sector].span);
        }
        sector = next;
    }
    return KV_OK;
}

uint64_t kv_sectors_newest(const kv_file *file, uint16_t type) {
    uint64_t newest = 0;
    for (uint64_t i = 0; i < file->sector_count; i++)
        if (file->sectors[i].type == type && file->sectors[i].generation > newest) newest = file->sectors[i].generation;
    return newest;
}

kv_status kv_sector_list_push(kv_sector_list *list, uint64_t number) {
    if (list->end == list->capacity && list->first > list->capacity / 2) {
        memmove(list->numbers, list->numbers + list->first, (size_t)(list->end - list->first) * sizeof *list->numbers);
        list->end -= list->first;
        list->first = 0;
    }
    if (list->end == list->capacity) {
        uint64_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        if (capacity > SIZE_MAX / sizeof *list->numbers) return KV_NO_MEMORY;
        uint64_t *grown = realloc(list->numbers, (size_t)(capacity * sizeof *grown));
        if (grown == NULL) return KV_NO_MEMORY;
        list->numbers = grown;
        list->capacity = capacity;
    }
    list->numbers[list->end++] = number;
    return KV_OK;
}

int kv_compare_numbers(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Take `span` free sectors in a row, if there are such. */
static bool take_free(kv_file *file, uint32_t span, uint64_t *sector) {
    kv_sector_list *list = &file->free;
    uint64_t count = kv_sector_list_count(list), spared = file->urgent ? 0 : KV_SPARE_SECTORS;
    if (count < span + spared) return false;
    if (span == 1) {
        *sector = list->numbers[--list->end];
        return true;
    }
    uint64_t *numbers = list->numbers + list->first;
    qsort(numbers, (size_t)count, sizeof *numbers, kv_compare_numbers);
    for (uint64_t i = 0; i + span <= count; i++) {
        if (numbers[i + span - 1] - numbers[i] != span - 1) continue;
        *sector = numbers[i];
        memmove(numbers + i, numbers + i + span, (size_t)(count - i - span) * sizeof *numbers);
        list->end -= span;
        return true;
    }
    return false;
}

kv_status kv_sectors_add(kv_file *file, uint16_t type, uint32_t span, uint64_t previous, uint32_t chain,
                         uint64_t *sector) {
    kv_status status = make_room(file, file->sector_count + span);
    if (status != KV_OK) return status;
    bool again = take_free(file, span, sector);
    if (!again) {
        *sector = file->sector_count;
        memset(file->sectors + *sector, 0, span * sizeof *file->sectors);
        file->sector_count += span;
    }
    uint32_t erases = again ? file->sectors[*sector].erases + 1 : 0;
    for (uint32_t i = 1; i < span; i++) {
        uint32_t before = again ? file->sectors[*sector + i].erases + 1 : 0;
        file->sectors[*sector + i] = (kv_sector){.type = KV_SECTOR_INSIDE, .erases = before};
    }
    file->sectors[*sector] = (kv_sector){.type = type,
                                         .span = span,
                                         .erases = erases,
                                         .generation = file->next_generation,
                                         .salt = kv_file_random(file),
                                         .previous = previous,
                                         .chain = chain};
    file->next_generation += span;
    return KV_OK;
}

kv_status kv_sectors_spare(kv_file *file) {
    if (file->sector_count < 2 * KV_SPARE_SECTORS || kv_sector_list_count(&file->free) >= KV_SPARE_SECTORS) return KV_OK;
    kv_status status = make_room(file, file->sector_count + 1);
    if (status != KV_OK) return status;
    status = kv_file_write_zeros(file, kv_sector_offset(file, file->sector_count), file->sector_bytes);
    if (status == KV_OK) status = kv_sector_list_push(&file->free, file->sector_count);
    if (status != KV_OK) return status;
    file->sectors[file->sector_count++] = (kv_sector){.type = 0};
    return KV_OK;
}

void kv_sectors_give_back(kv_file *file, uint64_t sector) {
    uint32_t span = file->sectors[sector].span;
    if (sector + span == file->sector_count)
        file->sector_count = sector;
    else
        (void)kv_sectors_free(file, sector); /* without memory it waits for the next opening */
}

kv_status kv_sectors_free(kv_file *file, uint64_t sector) {
    uint32_t span = file->sectors[sector].span;
    for (uint32_t i = 0; i < span; i++) {
        uint32_t erases = file->sectors[sector + i].erases;
        file->sectors[sector + i] = (kv_sector){.erases = erases};
        kv_status status = kv_sector_list_push(&file->free, sector + i);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}
