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
    nodes->kept_pin = nodes->catch_all = KV_NO_PIN;
    kv_nodes_set_cache(nodes, cache_bytes);
    return kv_nodes_ready(nodes, 8);
}

void kv_nodes_set_cache(kv_nodes *nodes, uint64_t cache_bytes) {
    nodes->beside = cache_bytes / 4 < KV_CACHE_BESIDE_MAX ? cache_bytes / 4 : KV_CACHE_BESIDE_MAX;
    uint64_t frames = (cache_bytes - nodes->beside) / KV_NODE_BYTES, most = (uint64_t)KV_CHUNKS_MAX * KV_FRAMES_PER_CHUNK;
    nodes->frames_max = (uint32_t)(frames > most ? most : frames < KV_FRAMES_MIN ? KV_FRAMES_MIN : frames);
}

void kv_nodes_destroy(kv_nodes *nodes) {
    kv_frames_destroy(nodes);
    kv_pages_destroy(nodes);
    for (uint32_t i = 0; i < KV_PINS_MAX; i++) free(nodes->pins[i].held.entries);
    free(nodes->taken.pages);
    free(nodes->retired.pages);
    memset(nodes, 0, sizeof *nodes);
}

kv_status kv_nodes_reserve(kv_nodes *nodes, uint32_t count) {
    if (nodes->journaling && (!kv_page_list_room(&nodes->taken, count) || !kv_page_list_room(&nodes->retired, count)))
        return KV_NO_MEMORY;
    kv_status status = kv_nodes_reserve_pages(nodes, count + kv_frames_spared(nodes->file));
    return status == KV_OK ? kv_nodes_ready(nodes, 2 * count) : status;
}

uint32_t kv_nodes_take(kv_nodes *nodes) {
    uint32_t page = kv_nodes_take_page(nodes);
    kv_frames_take(nodes, page);
    return page;
}

uint32_t kv_nodes_copy(kv_nodes *nodes, uint32_t page) {
    uint32_t copy = kv_nodes_take_page(nodes);
    kv_frames_copy(nodes, page, copy);
    kv_nodes_retire(nodes, page);
    return copy;
}

/* ---- retiring: a page goes to the newest pin that can see it, then to the next older one, and then is free ---- */

static void settle(kv_nodes *nodes, kv_retired entry) {
    uint64_t made = kv_page_made(nodes, entry.page) & ~KV_RETIRED;
    kv_pin *holder = nodes->catch_all == KV_NO_PIN ? NULL : &nodes->pins[nodes->catch_all];
    if (holder == NULL && nodes->oldest_pin < entry.epoch && made <= nodes->newest_pin) {
        for (uint32_t i = 0; i < nodes->pin_limit; i++) {
            kv_pin *pin = &nodes->pins[i];
            if (pin->epoch == 0 || pin->epoch < made || pin->epoch >= entry.epoch) continue;
            if (holder == NULL || pin->epoch > holder->epoch) holder = pin;
        }
    }
    if (holder == NULL)
        kv_nodes_free_page(nodes, entry.page);
    else
        kv_pin_hold(holder, entry);
}

void kv_nodes_retire(kv_nodes *nodes, uint32_t page) {
    if (!kv_nodes_look(nodes, page)) return; /* lost until the database is opened again, as in kv_pin_hold */
    uint64_t *made = &kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)];
    if (*made == 0 || (*made & KV_RETIRED)) return; /* a damaged tree names it twice */
    if (*made == nodes->epoch) {
        kv_nodes_free_page(nodes, page);
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

void kv_nodes_keep_all(kv_nodes *nodes, uint32_t pin) { nodes->catch_all = pin; }

void kv_nodes_unpin(kv_nodes *nodes, uint32_t pin) {
    if (pin == KV_NO_PIN) return;
    if (pin == nodes->catch_all) nodes->catch_all = KV_NO_PIN;
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
    if (pin == nodes->kept_pin) kv_nodes_give_up_kept(nodes);
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
        if (kv_page_made(nodes, page) >= mark.epoch) kv_nodes_free_page(nodes, page);
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
