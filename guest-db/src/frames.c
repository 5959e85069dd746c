/* Frames: which nodes are in memory, reading and writing them. The clock's hand goes round the frames and evicts what was not
 * used since it last came by. */
#include "frames.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "log.h"
#include "node.h"

#define CHUNK_BYTES (KV_FRAMES_PER_CHUNK * KV_NODE_BYTES)
#define GATHER_PAGES 32u /* written at once where they are neighbours */
#define BLOCK_CHUNKS_MAX 16u /* allocated at once */

/* What `dirty` says of a frame. A frame that never held a node is not looked at: touching all of a chunk is most of the time
 * that opening a small database takes. */
enum { CLEAN = 0, DIRTY = 1, UNTOUCHED = 2 };

static kv_node *frame_at(const kv_nodes *nodes, uint32_t frame) {
    return (kv_node *)(void *)(nodes->chunks[frame / KV_FRAMES_PER_CHUNK] + (frame % KV_FRAMES_PER_CHUNK) * KV_NODE_BYTES);
}

static uint8_t **place_of(const kv_nodes *nodes, uint32_t page) {
    return &kv_pages_of(nodes, page)->bytes[kv_page_index(nodes, page)];
}

void kv_frames_destroy(kv_nodes *nodes) {
    for (uint32_t i = 0; i < KV_CHUNKS_MAX && nodes->chunks[i] != NULL; i++)
        if (nodes->begins_block[i]) free(nodes->chunks[i]);
    free(nodes->dirty);
    free(nodes->free_frames);
    free(nodes->gather);
}

/* As many again as there are, up to a limit: the system has huge pages only for what lies in one piece. */
static uint32_t chunks_to_add(const kv_nodes *nodes) {
    uint32_t chunks = nodes->frames / KV_FRAMES_PER_CHUNK, more = 1;
    while (more * 2 <= chunks && more * 2 <= BLOCK_CHUNKS_MAX && chunks + more * 2 <= KV_CHUNKS_MAX &&
           nodes->frames + more * 2 * KV_FRAMES_PER_CHUNK <= nodes->frames_max)
        more *= 2;
    return more;
}

static kv_status add_chunks(kv_nodes *nodes) {
    uint32_t chunk = nodes->frames / KV_FRAMES_PER_CHUNK, more = chunks_to_add(nodes);
    uint32_t frames = nodes->frames + more * KV_FRAMES_PER_CHUNK;
    if (chunk >= KV_CHUNKS_MAX) return KV_NO_MEMORY;
    uint8_t *dirty = realloc(nodes->dirty, frames);
    if (dirty == NULL) return KV_NO_MEMORY;
    nodes->dirty = dirty;
    uint32_t *free_frames = realloc(nodes->free_frames, frames * sizeof *free_frames);
    if (free_frames == NULL) return KV_NO_MEMORY;
    nodes->free_frames = free_frames;
    uint8_t *block = malloc(more * CHUNK_BYTES);
    if (block == NULL) return KV_NO_MEMORY;
    for (uint32_t i = 0; i < more; i++) {
        nodes->chunks[chunk + i] = block + i * CHUNK_BYTES;
        nodes->begins_block[chunk + i] = i == 0;
    }
    for (uint32_t frame = frames; frame-- > nodes->frames;) {
        nodes->dirty[frame] = UNTOUCHED;
        nodes->free_frames[nodes->free_frame_count++] = frame;
    }
    nodes->frames = frames;
    return KV_OK;
}

static void set_dirty(kv_nodes *nodes, uint32_t frame, bool dirty) {
    bool before = nodes->dirty[frame] == DIRTY;
    nodes->dirty[frame] = dirty ? DIRTY : CLEAN;
    if (before != dirty) nodes->dirty_count += dirty ? 1u : UINT32_MAX;
}

void kv_frames_take(kv_nodes *nodes, uint32_t page) {
    assert(nodes->free_frame_count > 0);
    uint32_t frame = nodes->free_frames[--nodes->free_frame_count];
    kv_node *node = frame_at(nodes, frame);
    node->page = page;
    node->frame = frame;
    node->used = 1;
    node->learned = 0;
    set_dirty(nodes, frame, true);
    *place_of(nodes, page) = (uint8_t *)node;
}

void kv_frames_copy(kv_nodes *nodes, uint32_t from, uint32_t to) {
    uint8_t *source = *place_of(nodes, from);
    kv_node *node = (kv_node *)(void *)source;
    if (nodes->dirty[node->frame] == CLEAN) { /* whoever needs the other version finds it in the file */
        *place_of(nodes, from) = NULL;
        set_dirty(nodes, node->frame, true);
    } else {
        kv_frames_take(nodes, to);
        node = (kv_node *)(void *)*place_of(nodes, to);
        uint32_t frame = node->frame;
        memcpy(node, source, KV_NODE_BYTES);
        node->frame = frame;
    }
    node->page = to;
    *place_of(nodes, to) = (uint8_t *)node;
}

/* Whether something in its memory is still to be looked at (live.c). */
static bool has_removed(const kv_nodes *nodes, const kv_node *node) {
    for (uint32_t i = 0; i < nodes->removed_count; i++)
        if (nodes->removed[i].leaf == node) return true;
    return false;
}

static void release(kv_nodes *nodes, kv_node *node) {
    assert(!has_removed(nodes, node));
    *place_of(nodes, node->page) = NULL;
    set_dirty(nodes, node->frame, false);
    node->page = 0;
    nodes->free_frames[nodes->free_frame_count++] = node->frame;
}

void kv_frames_drop(kv_nodes *nodes, uint32_t page) {
    uint8_t *bytes = *place_of(nodes, page);
    if (bytes != NULL) release(nodes, (kv_node *)(void *)bytes);
}

void kv_node_change(kv_nodes *nodes, kv_node *node) { set_dirty(nodes, node->frame, true); }

/* ---- to and from the file ---- */

/* Make ready for the disk: what only means something in memory is zero there. */
static void encode(const kv_file *file, const kv_node *node, uint8_t *to) {
    memcpy(to, node, KV_NODE_BYTES);
    kv_node *copy = (kv_node *)(void *)to;
    uint32_t slots_end = KV_NODE_HEADER_BYTES + copy->count * (uint32_t)sizeof(kv_slot);
    memset(to + slots_end, 0, copy->heap - slots_end); /* whatever lay in this memory before */
    copy->used = 0;
    copy->learned = 0;
    copy->frame = 0;
    copy->sum = kv_page_sum(file, copy->page, to);
}

kv_status kv_nodes_fail(kv_nodes *nodes, uint32_t page) {
    nodes->failure = KV_CORRUPT;
    if (nodes->file != NULL) (void)kv_file_fail(nodes->file, KV_CORRUPT, KV_DETAIL_INDEX, (uint64_t)page * KV_PAGE_BYTES);
    return KV_CORRUPT;
}

uint8_t *kv_nodes_load(kv_nodes *nodes, uint32_t page) {
    kv_file *file = nodes->file;
    uint64_t offset = (uint64_t)page * KV_PAGE_BYTES;
    nodes->failure = KV_NO_MEMORY;
    if (!kv_nodes_look(nodes, page)) return NULL;
    if (kv_page_made(nodes, page) == 0) { /* free, says the map: it may be given out at any moment */
        (void)kv_nodes_fail(nodes, page);
        return NULL;
    }
    if (nodes->free_frame_count == 0 && add_chunks(nodes) != KV_OK) return NULL;
    uint32_t frame = nodes->free_frames[nodes->free_frame_count - 1];
    kv_node *node = frame_at(nodes, frame);
    nodes->failure = file == NULL ? KV_CORRUPT : kv_file_read(file, offset, node, KV_NODE_BYTES);
    bool right = nodes->failure == KV_OK && node->page == page && node->sum == kv_page_sum(file, page, (const uint8_t *)node);
    if (nodes->failure == KV_OK && !(right && kv_node_is_sound(nodes, node)))
        nodes->failure = kv_file_fail(file, KV_CORRUPT, KV_DETAIL_INDEX, offset);
    if (nodes->failure != KV_OK) {
        node->page = 0; /* it stays free */
        return NULL;
    }
    nodes->free_frame_count--;
    nodes->loads++;
    node->frame = frame;
    node->used = 1;
    node->learned = 0;
    set_dirty(nodes, frame, false);
    *place_of(nodes, page) = (uint8_t *)node;
    return (uint8_t *)node;
}

static kv_status need_gather(kv_nodes *nodes) {
    if (nodes->gather == NULL) nodes->gather = malloc(GATHER_PAGES * KV_NODE_BYTES);
    return nodes->gather == NULL ? KV_NO_MEMORY : KV_OK;
}

static kv_node *changed(const kv_nodes *nodes, uint32_t page) {
    kv_node *node = (kv_node *)(void *)*place_of(nodes, page);
    return node != NULL && nodes->dirty[node->frame] == DIRTY ? node : NULL;
}

kv_status kv_nodes_changed(const kv_nodes *nodes, uint32_t **pages, uint32_t *count) {
    const size_t words = (((size_t)nodes->sector_count << nodes->shift) + 63) / 64;
    uint64_t *bits = calloc(words + 1, sizeof *bits); /* so that they need not be sorted */
    *count = 0;
    *pages = malloc((nodes->dirty_count + 1u) * sizeof **pages);
    if (bits == NULL || *pages == NULL) {
        free(bits);
        return KV_NO_MEMORY;
    }
    for (uint32_t frame = 0; frame < nodes->frames; frame++) {
        if (nodes->dirty[frame] != DIRTY) continue;
        uint32_t page = frame_at(nodes, frame)->page, at = page - KV_FIRST_PAGE;
        if (!(kv_page_made(nodes, page) & KV_RETIRED)) bits[at / 64] |= (uint64_t)1 << at % 64;
    }
    for (size_t word = 0; word < words; word++)
        for (uint64_t left = bits[word]; left != 0; left &= left - 1)
            (*pages)[(*count)++] = (uint32_t)(word * 64) + (uint32_t)__builtin_ctzll(left) + KV_FIRST_PAGE;
    free(bits);
    return KV_OK;
}

kv_status kv_nodes_write(kv_nodes *nodes, const uint32_t *pages, uint32_t count, uint32_t *next, uint32_t limit) {
    kv_status status = need_gather(nodes);
    while (status == KV_OK && *next < count && limit > 0) {
        uint32_t first = *next, n = 0;
        while (first + n < count && n < GATHER_PAGES && n < limit && pages[first + n] == pages[first] + n) {
            const kv_node *node = changed(nodes, pages[first + n]);
            if (node == NULL) break;
            encode(nodes->file, node, nodes->gather + n++ * KV_NODE_BYTES);
        }
        if (n == 0) {
            ++*next;
            continue;
        }
        status = kv_file_write(nodes->file, (uint64_t)pages[first] * KV_PAGE_BYTES, nodes->gather,
                               (uint64_t)n * KV_NODE_BYTES, NULL);
        if (status != KV_OK) return status;
        for (uint32_t i = 0; i < n; i++) set_dirty(nodes, changed(nodes, pages[first + i])->frame, false);
        nodes->writes += n;
        *next += n;
        limit -= n;
    }
    return status;
}

/* Free one frame, writing its node first if need be. KV_NOT_FOUND: there is none to be had. */
static kv_status evict(kv_nodes *nodes) {
    bool writable = nodes->file != NULL && !nodes->file->read_only && !nodes->file->poisoned;
    for (uint32_t n = 0; n < 2 * nodes->frames; n++) {
        nodes->hand = nodes->hand + 1 < nodes->frames ? nodes->hand + 1 : 0;
        kv_node *node = frame_at(nodes, nodes->hand);
        if (nodes->dirty[nodes->hand] == UNTOUCHED || node->page == 0 || has_removed(nodes, node)) continue;
        if (node->used) {
            node->used = 0;
            continue;
        }
        if (nodes->dirty[nodes->hand] == DIRTY) {
            if (!writable) continue;
            uint32_t page = node->page, next = 0;
            kv_status status = kv_nodes_write(nodes, &page, 1, &next, 1);
            if (status != KV_OK) return status;
        }
        release(nodes, node);
        nodes->evictions++;
        return KV_OK;
    }
    return KV_NOT_FOUND;
}

kv_status kv_nodes_ready(kv_nodes *nodes, uint32_t count) {
    while (nodes->free_frame_count < count) {
        kv_status status = nodes->frames + KV_FRAMES_PER_CHUNK <= nodes->frames_max || nodes->file == NULL ? KV_NOT_FOUND
                                                                                                          : evict(nodes);
        if (status == KV_NOT_FOUND) status = add_chunks(nodes);
        if (status != KV_OK) return status;
    }
    return KV_OK;
}

uint32_t kv_frames_spared(const kv_file *file) {
    return file == NULL || file->read_only || file->urgent ? 0 : KV_SPARE_PAGES;
}

kv_status kv_frames_new_sector(kv_file *file, uint64_t *sector) {
    if (file->read_only) { /* pages that are never written: any number does that is no page's of the file */
        *sector = 0;
        while (*sector < file->nodes->sector_count && file->nodes->sectors[*sector].bytes != NULL) ++*sector;
        return KV_OK;
    }
    uint64_t before = file->sector_count;
    kv_status status = kv_sectors_add(file, KV_SECTOR_INDEX, 1, 0, 0, sector);
    if (status != KV_OK) return status;
    if (*sector >= before) /* nodes must never fail to be written for want of space: take it now */
        status = kv_file_write_zeros(file, kv_sector_offset(file, *sector), file->sector_bytes);
    if (status == KV_OK) status = kv_log_write_header(file, *sector);
    if (status != KV_OK) kv_sectors_give_back(file, *sector);
    return status;
}
