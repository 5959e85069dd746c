/* Pages: which are in use, which are free.
 *
 * A checkpoint's map says that of all pages at once. Nothing is made of it for a sector before one of its pages is needed, so that
 * the time to open does not grow with the index. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"

bool kv_page_list_room(kv_page_list *list, uint32_t more) {
    uint64_t wanted = (uint64_t)list->count + more, capacity = list->capacity == 0 ? 256 : list->capacity;
    if (wanted <= list->capacity) return true;
    while (capacity < wanted) capacity *= 2;
    if (capacity > UINT32_MAX / sizeof *list->pages) return false;
    uint32_t *grown = realloc(list->pages, (size_t)capacity * sizeof *grown);
    if (grown == NULL) return false;
    list->pages = grown;
    list->capacity = (uint32_t)capacity;
    return true;
}

void kv_pages_destroy(kv_nodes *nodes) {
    for (uint32_t i = 0; i < nodes->sector_count; i++)
        if (nodes->sectors[i].bytes != nodes->nothing) free(nodes->sectors[i].bytes);
    free(nodes->sectors);
    free(nodes->nothing);
    free(nodes->maps[0]);
    free(nodes->maps[1]);
    free(nodes->free.pages);
}

static uint32_t pages_a_sector(const kv_nodes *nodes) { return 1u << nodes->shift; }

static uint32_t first_page(const kv_nodes *nodes, uint64_t sector) {
    return (uint32_t)((sector << nodes->shift) + KV_FIRST_PAGE);
}

static bool bit(const uint8_t *bits, uint32_t index) { return bits != NULL && bits[index / 8] >> index % 8 & 1; }

/* Of eight pages: those in use, and those that are kept without being in use. The first page of a sector is its header's. */
static uint8_t used_byte(const kv_pages *s, uint32_t at) { return s->used[at] & (at == 0 ? 0xFE : 0xFF); }
static uint8_t kept_byte(const kv_pages *s, uint32_t at) {
    return s->kept == NULL ? 0 : s->kept[at] & (uint8_t)~s->used[at] & (at == 0 ? 0xFE : 0xFF);
}
static uint32_t bytes_a_sector(const kv_nodes *nodes) { return pages_a_sector(nodes) / 8; }

bool kv_nodes_holds(const kv_nodes *nodes, uint32_t page) {
    if (page < KV_FIRST_PAGE) return false;
    uint32_t sector = (page - KV_FIRST_PAGE) >> nodes->shift;
    return sector < nodes->sector_count && nodes->sectors[sector].bytes != NULL && kv_page_index(nodes, page) != 0;
}

/* ---- sectors ---- */

static kv_status need_sector(kv_nodes *nodes, uint64_t sector) {
    if (sector >= (UINT32_MAX - KV_FIRST_PAGE) >> nodes->shift) return KV_DISK_FULL; /* page numbers end at 16 TiB */
    if (sector < nodes->sector_count) return KV_OK;
    uint32_t count = nodes->sector_count == 0 ? 16 : nodes->sector_count;
    while (count <= sector) count *= 2;
    kv_pages *grown = realloc(nodes->sectors, count * sizeof *grown);
    if (grown == NULL) return KV_NO_MEMORY;
    memset(grown + nodes->sector_count, 0, (count - nodes->sector_count) * sizeof *grown);
    nodes->sectors = grown;
    nodes->sector_count = count;
    return KV_OK;
}

/* Room for what is known of each page of a sector: all are free. */
static bool make(const kv_nodes *nodes, kv_pages *s) {
    uint8_t **bytes = calloc(pages_a_sector(nodes), sizeof *bytes + sizeof *s->made);
    if (bytes == NULL) return false;
    s->bytes = bytes;
    s->made = (uint64_t *)(void *)(bytes + pages_a_sector(nodes));
    return true;
}

/* A sector without a page in use. */
static kv_status give_pages(kv_nodes *nodes, uint64_t sector) {
    const uint32_t pages = pages_a_sector(nodes);
    if (!kv_page_list_room(&nodes->free, nodes->pages_in_use + pages)) return KV_NO_MEMORY; /* for all that there are */
    kv_status status = need_sector(nodes, sector);
    if (status != KV_OK) return status;
    if (nodes->sectors[sector].bytes == NULL && !make(nodes, &nodes->sectors[sector])) return KV_NO_MEMORY;
    for (uint32_t i = pages - 1; i > 0; i--) /* the lowest on top: what is made together lies together */
        nodes->free.pages[nodes->free.count++] = first_page(nodes, sector) + i;
    return KV_OK;
}

/* ---- what a checkpoint knows ---- */

kv_status kv_nodes_know(kv_nodes *nodes, uint64_t sector, const uint8_t *used, const uint8_t *kept) {
    if (nodes->nothing == NULL) nodes->nothing = calloc(pages_a_sector(nodes), sizeof *nodes->nothing);
    if (nodes->nothing == NULL || !kv_page_list_room(&nodes->free, nodes->pages_known + pages_a_sector(nodes))) return KV_NO_MEMORY;
    kv_status status = need_sector(nodes, sector);
    if (status != KV_OK) return status;
    kv_pages *s = &nodes->sectors[sector];
    *s = (kv_pages){.bytes = nodes->nothing, .used = used, .kept = kept};
    nodes->pages_known += pages_a_sector(nodes);
    for (uint32_t at = 0; at < bytes_a_sector(nodes); at++)
        nodes->pages_in_use += (uint32_t)__builtin_popcount(used_byte(s, at) | kept_byte(s, at));
    return KV_OK;
}

void kv_nodes_keep(kv_nodes *nodes, uint32_t pin) {
    nodes->kept_pin = pin;
    nodes->kept_epoch = nodes->epoch;
}

static void look_at(kv_nodes *nodes, uint32_t sector) {
    kv_pages *s = &nodes->sectors[sector];
    if (s->bytes != nodes->nothing || !make(nodes, s)) return;
    for (uint32_t i = pages_a_sector(nodes) - 1; i > 0; i--) {
        uint32_t page = first_page(nodes, sector) + i;
        if (bit(s->used, i)) {
            s->made[i] = 1;
        } else if (bit(s->kept, i)) {
            s->made[i] = 1 | KV_RETIRED;
            kv_pin_hold(&nodes->pins[nodes->kept_pin], (kv_retired){page, nodes->kept_epoch});
        } else {
            nodes->free.pages[nodes->free.count++] = page; /* there is room: kv_nodes_know */
        }
    }
    s->used = s->kept = NULL;
}

bool kv_nodes_look(kv_nodes *nodes, uint32_t page) {
    look_at(nodes, (page - KV_FIRST_PAGE) >> nodes->shift);
    return kv_pages_of(nodes, page)->made != NULL;
}

void kv_nodes_give_up_kept(kv_nodes *nodes) {
    for (uint32_t sector = 0; sector < nodes->sector_count; sector++) {
        kv_pages *s = &nodes->sectors[sector];
        if (s->kept != NULL && nodes->catch_all != KV_NO_PIN) look_at(nodes, sector); /* each goes its way, with the pin's others */
        for (uint32_t at = 0; s->kept != NULL && at < bytes_a_sector(nodes); at++)
            nodes->pages_in_use -= (uint32_t)__builtin_popcount(kept_byte(s, at));
        s->kept = NULL;
    }
    nodes->kept_pin = KV_NO_PIN;
    nodes->unseen = 0; /* there may be free ones again */
}

bool kv_nodes_in_use(const kv_nodes *nodes, uint32_t page) {
    const kv_pages *s = kv_pages_of(nodes, page);
    uint32_t index = kv_page_index(nodes, page);
    return s->made == NULL ? index > 0 && bit(s->used, index) : s->made[index] != 0 && !(s->made[index] & KV_RETIRED);
}

void kv_nodes_bits(const kv_nodes *nodes, uint64_t sector, uint8_t *to) {
    const kv_pages *s = &nodes->sectors[sector];
    if (s->made == NULL) {
        memcpy(to, s->used, bytes_a_sector(nodes));
        to[0] = used_byte(s, 0);
        return;
    }
    memset(to, 0, bytes_a_sector(nodes));
    for (uint32_t i = 1; i < pages_a_sector(nodes); i++)
        if (kv_nodes_in_use(nodes, first_page(nodes, sector) + i)) to[i / 8] = (uint8_t)(to[i / 8] | 1u << i % 8);
}

void kv_nodes_quarantine(kv_nodes *nodes, uint32_t pin) {
    for (uint32_t sector = 0; sector < nodes->sector_count; sector++)
        if (nodes->sectors[sector].bytes != NULL) look_at(nodes, sector);
    while (nodes->free.count > 0) {
        uint32_t page = nodes->free.pages[--nodes->free.count];
        kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)] = 1 | KV_RETIRED;
        nodes->pages_in_use++;
        kv_pin_hold(&nodes->pins[pin], (kv_retired){page, nodes->epoch});
    }
}

/* ---- taking and freeing ---- */

/* Look at sectors that may have free pages, until there are enough. */
static void find_free(kv_nodes *nodes, uint32_t count) {
    for (; nodes->free.count < count && nodes->unseen < nodes->sector_count; nodes->unseen++) {
        const kv_pages *s = &nodes->sectors[nodes->unseen];
        bool any = false;
        for (uint32_t at = 0; s->used != NULL && at < bytes_a_sector(nodes) && !any; at++)
            any = (used_byte(s, at) | kept_byte(s, at)) != (at == 0 ? 0xFE : 0xFF);
        if (any) look_at(nodes, nodes->unseen);
    }
}

kv_status kv_nodes_reserve_pages(kv_nodes *nodes, uint32_t count) {
    if (nodes->free.count < count) find_free(nodes, count);
    while (nodes->free.count < count) {
        uint64_t sector = 0;
        kv_status status;
        if (nodes->file == NULL) {
            while (sector < nodes->sector_count && nodes->sectors[sector].bytes != NULL) sector++;
        } else {
            status = kv_frames_new_sector(nodes->file, &sector);
            if (status != KV_OK) return status;
        }
        status = give_pages(nodes, sector);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

uint32_t kv_nodes_take_page(kv_nodes *nodes) {
    assert(nodes->free.count > 0);
    uint32_t page = nodes->free.pages[--nodes->free.count];
    kv_pages *s = kv_pages_of(nodes, page);
    s->made[kv_page_index(nodes, page)] = nodes->epoch;
    nodes->pages_in_use++;
    if (nodes->journaling) nodes->taken.pages[nodes->taken.count++] = page; /* there is room: kv_nodes_reserve */
    return page;
}

void kv_nodes_free_page(kv_nodes *nodes, uint32_t page) {
    kv_frames_drop(nodes, page);
    kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)] = 0;
    nodes->pages_in_use--;
    if (nodes->free.count < nodes->free.capacity) nodes->free.pages[nodes->free.count++] = page; /* there is room: give_pages */
}

void kv_pin_hold(kv_pin *pin, kv_retired entry) {
    kv_retired_list *list = &pin->held;
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        if (capacity > UINT32_MAX / sizeof *list->entries) return;
        kv_retired *grown = realloc(list->entries, capacity * sizeof *grown);
        if (grown == NULL) return;
        list->entries = grown;
        list->capacity = capacity;
    }
    list->entries[list->count++] = entry;
}
