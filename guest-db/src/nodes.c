#include "nodes.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "frames.h"

kv_status kv_nodes_init(kv_nodes *nodes, struct kv_file *file, uint32_t shift, uint64_t cache_bytes) {
    memset(nodes, 0, sizeof *nodes);
    nodes->file = file;
    nodes->shift = shift;
    nodes->epoch = 1;
    nodes->oldest_pin = UINT64_MAX;
    kv_nodes_set_cache(nodes, cache_bytes);
    return kv_nodes_ready(nodes, 8);
}

void kv_nodes_set_cache(kv_nodes *nodes, uint64_t cache_bytes) {
    uint64_t frames = cache_bytes / KV_NODE_BYTES, most = (uint64_t)KV_CHUNKS_MAX * KV_FRAMES_PER_CHUNK;
    nodes->frames_max = (uint32_t)(frames > most ? most : frames < KV_FRAMES_MIN ? KV_FRAMES_MIN : frames);
}

void kv_nodes_destroy(kv_nodes *nodes) {
    kv_frames_destroy(nodes);
    for (uint32_t i = 0; i < nodes->sector_count; i++) free(nodes->sectors[i].bytes);
    for (uint32_t i = 0; i < KV_PINS_MAX; i++) free(nodes->pins[i].held.entries);
    free(nodes->sectors);
    free(nodes->free.pages);
    free(nodes->taken.pages);
    free(nodes->retired.pages);
    memset(nodes, 0, sizeof *nodes);
}

/* ---- pages ---- */

static bool list_room(kv_page_list *list, uint32_t more) {
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

static uint32_t first_page(const kv_nodes *nodes, uint64_t sector) {
    return (uint32_t)((sector << nodes->shift) + KV_FIRST_PAGE);
}

bool kv_nodes_holds(const kv_nodes *nodes, uint32_t page) {
    if (page < KV_FIRST_PAGE) return false;
    uint32_t sector = (page - KV_FIRST_PAGE) >> nodes->shift;
    return sector < nodes->sector_count && nodes->sectors[sector].bytes != NULL && kv_page_index(nodes, page) != 0;
}

kv_status kv_nodes_add_sector(kv_nodes *nodes, uint64_t sector) {
    const size_t pages = (size_t)1 << nodes->shift;
    if (sector >= (UINT32_MAX - KV_FIRST_PAGE) >> nodes->shift) return KV_DISK_FULL; /* page numbers end at 16 TiB */
    if (sector >= nodes->sector_count) {
        uint32_t count = nodes->sector_count == 0 ? 16 : nodes->sector_count;
        while (count <= sector) count *= 2;
        kv_pages *grown = realloc(nodes->sectors, count * sizeof *grown);
        if (grown == NULL) return KV_NO_MEMORY;
        memset(grown + nodes->sector_count, 0, (count - nodes->sector_count) * sizeof *grown);
        nodes->sectors = grown;
        nodes->sector_count = count;
    }
    kv_pages *s = &nodes->sectors[sector];
    if (s->bytes != NULL) return KV_OK;
    s->bytes = calloc(pages, sizeof *s->bytes + sizeof *s->made);
    if (s->bytes == NULL) return KV_NO_MEMORY;
    s->made = (uint64_t *)(void *)(s->bytes + pages);
    return KV_OK;
}

static kv_status give_pages(kv_nodes *nodes, uint64_t sector) {
    const uint32_t pages = 1u << nodes->shift;
    if (!list_room(&nodes->free, nodes->pages_in_use + pages)) return KV_NO_MEMORY; /* for all that there are */
    kv_status status = kv_nodes_add_sector(nodes, sector);
    if (status != KV_OK) return status;
    for (uint32_t i = pages - 1; i > 0; i--) /* the lowest on top: what is made together lies together */
        nodes->free.pages[nodes->free.count++] = first_page(nodes, sector) + i;
    return KV_OK;
}

void kv_nodes_known(kv_nodes *nodes, uint32_t page) {
    uint64_t *made = &kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)];
    if (*made == 0) nodes->pages_in_use++;
    *made = 1;
}

static bool held_push(kv_retired_list *list, kv_retired entry) {
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity == 0 ? 64 : 2 * list->capacity;
        if (capacity > UINT32_MAX / sizeof *list->entries) return false;
        kv_retired *grown = realloc(list->entries, capacity * sizeof *grown);
        if (grown == NULL) return false;
        list->entries = grown;
        list->capacity = capacity;
    }
    list->entries[list->count++] = entry;
    return true;
}

void kv_nodes_known_retired(kv_nodes *nodes, uint32_t page, uint32_t pin) {
    uint64_t *made = &kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)];
    if (*made != 0) return;
    nodes->pages_in_use++;
    *made = 1 | KV_RETIRED;
    (void)held_push(&nodes->pins[pin].held, (kv_retired){page, nodes->epoch});
}

void kv_nodes_collect_free(kv_nodes *nodes) {
    nodes->free.count = 0;
    for (uint32_t sector = nodes->sector_count; sector-- > 0;) {
        if (nodes->sectors[sector].bytes == NULL) continue;
        uint32_t pages = 1u << nodes->shift;
        if (!list_room(&nodes->free, nodes->pages_in_use + pages)) return; /* fewer, then */
        for (uint32_t i = pages - 1; i > 0; i--)
            if (nodes->sectors[sector].made[i] == 0) nodes->free.pages[nodes->free.count++] = first_page(nodes, sector) + i;
    }
}

void kv_nodes_quarantine(kv_nodes *nodes, uint32_t pin) {
    for (uint32_t sector = 0; sector < nodes->sector_count; sector++) {
        if (nodes->sectors[sector].bytes == NULL) continue;
        for (uint32_t i = 1; i < 1u << nodes->shift; i++) kv_nodes_known_retired(nodes, first_page(nodes, sector) + i, pin);
    }
}

kv_status kv_nodes_reserve_pages(kv_nodes *nodes, uint32_t count) {
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

kv_status kv_nodes_reserve(kv_nodes *nodes, uint32_t count) {
    if (nodes->journaling && (!list_room(&nodes->taken, count) || !list_room(&nodes->retired, count))) return KV_NO_MEMORY;
    kv_status status = kv_nodes_reserve_pages(nodes, count + kv_frames_spared(nodes->file));
    return status == KV_OK ? kv_nodes_ready(nodes, 2 * count) : status;
}

/* Nobody refers to the page any more. */
static void free_page(kv_nodes *nodes, uint32_t page) {
    kv_frames_drop(nodes, page);
    kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)] = 0;
    nodes->pages_in_use--;
    if (nodes->free.count < nodes->free.capacity) nodes->free.pages[nodes->free.count++] = page; /* there is room: give_pages */
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

uint32_t kv_nodes_take(kv_nodes *nodes) {
    uint32_t page = kv_nodes_take_page(nodes);
    kv_frames_take(nodes, page);
    return page;
}

uint32_t kv_nodes_copy(kv_nodes *nodes, uint32_t page) {
    uint32_t copy = kv_nodes_take(nodes);
    kv_frames_copy(nodes, page, copy);
    kv_nodes_retire(nodes, page);
    return copy;
}

/* ---- retiring: a page goes to the newest pin that can see it, then to the next older one, and then is free ---- */

static void settle(kv_nodes *nodes, kv_retired entry) {
    uint64_t made = kv_page_made(nodes, entry.page) & ~KV_RETIRED;
    kv_pin *holder = NULL;
    if (nodes->oldest_pin < entry.epoch && made <= nodes->newest_pin) {
        for (uint32_t i = 0; i < nodes->pin_limit; i++) {
            kv_pin *pin = &nodes->pins[i];
            if (pin->epoch == 0 || pin->epoch < made || pin->epoch >= entry.epoch) continue;
            if (holder == NULL || pin->epoch > holder->epoch) holder = pin;
        }
    }
    if (holder == NULL)
        free_page(nodes, entry.page);
    else
        (void)held_push(&holder->held, entry); /* without memory the page is lost until the database is opened again */
}

void kv_nodes_retire(kv_nodes *nodes, uint32_t page) {
    uint64_t *made = &kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)];
    if (*made == 0 || (*made & KV_RETIRED)) return; /* a damaged tree names it twice */
    if (*made == nodes->epoch) {
        free_page(nodes, page);
        return;
    }
    *made |= KV_RETIRED;
    if (nodes->journaling)
        nodes->retired.pages[nodes->retired.count++] = page; /* the same */
    else
        settle(nodes, (kv_retired){page, nodes->epoch});
}

/* ---- pins ---- */

static uint32_t add_pin(kv_nodes *nodes, uint64_t epoch) {
    for (uint32_t pin = 0; pin < KV_PINS_MAX; pin++) {
        if (nodes->pins[pin].epoch != 0) continue;
        nodes->pins[pin].epoch = epoch;
        if (pin >= nodes->pin_limit) nodes->pin_limit = pin + 1;
        if (epoch < nodes->oldest_pin) nodes->oldest_pin = epoch;
        if (epoch > nodes->newest_pin) nodes->newest_pin = epoch;
        return pin;
    }
    return KV_NO_PIN;
}

uint32_t kv_nodes_pin(kv_nodes *nodes) {
    uint32_t pin = add_pin(nodes, nodes->epoch);
    if (pin != KV_NO_PIN) nodes->epoch++;
    return pin;
}

uint32_t kv_nodes_pin_again(kv_nodes *nodes, uint32_t pin) {
    assert(pin < KV_PINS_MAX && nodes->pins[pin].epoch != 0);
    return add_pin(nodes, nodes->pins[pin].epoch);
}

void kv_nodes_unpin(kv_nodes *nodes, uint32_t pin) {
    if (pin == KV_NO_PIN) return;
    assert(pin < KV_PINS_MAX && nodes->pins[pin].epoch != 0);
    nodes->pins[pin].epoch = 0;
    nodes->oldest_pin = UINT64_MAX;
    nodes->newest_pin = 0;
    uint32_t limit = 0;
    for (uint32_t i = 0; i < nodes->pin_limit; i++) {
        uint64_t epoch = nodes->pins[i].epoch;
        if (epoch == 0) continue;
        limit = i + 1;
        if (epoch < nodes->oldest_pin) nodes->oldest_pin = epoch;
        if (epoch > nodes->newest_pin) nodes->newest_pin = epoch;
    }
    nodes->pin_limit = limit;
    kv_retired_list held = nodes->pins[pin].held;
    nodes->pins[pin].held = (kv_retired_list){NULL, 0, 0};
    for (uint32_t i = 0; i < held.count; i++) settle(nodes, held.entries[i]);
    if (nodes->pins[pin].held.entries == NULL && held.capacity <= 1024) { /* keep the memory for the next one */
        held.count = 0;
        nodes->pins[pin].held = held;
    } else {
        free(held.entries);
    }
}

/* ---- the journal ---- */

kv_nodes_mark kv_nodes_journal(kv_nodes *nodes) {
    if (!nodes->journaling) nodes->taken.count = nodes->retired.count = 0;
    nodes->journaling = true;
    return (kv_nodes_mark){nodes->taken.count, nodes->retired.count, nodes->epoch};
}

void kv_nodes_roll_back(kv_nodes *nodes, kv_nodes_mark mark) {
    while (nodes->retired.count > mark.retired) {
        uint32_t page = nodes->retired.pages[--nodes->retired.count];
        kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)] &= ~KV_RETIRED;
    }
    while (nodes->taken.count > mark.taken) {
        uint32_t page = nodes->taken.pages[--nodes->taken.count];
        if (kv_page_made(nodes, page) >= mark.epoch) free_page(nodes, page);
    }
}

void kv_nodes_journal_end(kv_nodes *nodes) {
    nodes->journaling = false;
    for (uint32_t i = 0; i < nodes->retired.count; i++)
        settle(nodes, (kv_retired){nodes->retired.pages[i], nodes->epoch});
    nodes->taken.count = nodes->retired.count = 0;
    const uint32_t kept = 1u << 16;
    if (nodes->taken.capacity > kept || nodes->retired.capacity > kept) {
        free(nodes->taken.pages);
        free(nodes->retired.pages);
        nodes->taken = nodes->retired = (kv_page_list){NULL, 0, 0};
    }
}
