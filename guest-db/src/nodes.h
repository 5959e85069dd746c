/* The node pool: the pages of the index, those in memory and those that only the file has.
 *
 * A node is known by its page, which is given to it when it is made and never changes. The trees are copy-on-write: a node is
 * changed in place only when nobody but the writer can reach it. `epoch` is the version that the writer works on; a pin keeps
 * all nodes of its version. A node that was made in the current epoch is the writer's own; taking a pin begins a new epoch.
 * The checkpoints of both superblock slots are pinned versions, so that their pages are not written to.
 *
 * Memory holds a bounded number of nodes. One that is needed again is read from its page; a changed one is written there
 * first. Nothing leaves memory but in kv_nodes_ready: between two such calls, addresses of nodes stay good. */
#ifndef KV_NODES_H
#define KV_NODES_H

#include <stdbool.h>
#include <stdint.h>

#include "format.h"
#include "kv_guest.h"

#define KV_NODE_BYTES KV_PAGE_BYTES
#ifndef KV_FRAMES_PER_CHUNK
#define KV_FRAMES_PER_CHUNK 255u /* with malloc's header just below 1 MiB: some round up to powers of two */
#endif
#define KV_CHUNKS_MAX 3072u /* 3 GiB of nodes in memory */
#ifndef KV_FRAMES_MIN
#define KV_FRAMES_MIN 128u
#endif
/* What of the cache's memory is for others than nodes: at most 32 MiB the hash takes, 32 MiB the puts that wait (pending.c). */
#define KV_CACHE_BESIDE_MAX (64u << 20)
#define KV_PINS_MAX (KV_CURSORS_MAX + KV_SNAPSHOTS_MAX + KV_HELD_MAX + 16u)
#define KV_NO_PIN UINT32_MAX
#define KV_RETIRED ((uint64_t)1 << 63) /* in kv_pages.made: the newest version does not refer to it */

struct kv_file;
struct kv_node;

/* The pages of one sector of the file. */
typedef struct kv_pages {
    uint8_t **bytes; /* of each page: where it lies in memory, or NULL. NULL: no index sector */
    uint64_t *made;  /* epoch in which each page's node was made; 0: free. NULL: nobody has looked yet, and `bytes` is kv_nodes.nothing */
    const uint8_t *used, *kept; /* a bit a page: what the checkpoint says as long as nobody has looked. `kept` may be NULL */
} kv_pages;

/* A page that waits for a pin to go. */
typedef struct kv_retired {
    uint32_t page;
    uint64_t epoch; /* in which it was replaced: pins of this epoch and later do not see it */
} kv_retired;

typedef struct kv_retired_list {
    kv_retired *entries;
    uint32_t count, capacity;
} kv_retired_list;

typedef struct kv_pin {
    uint64_t epoch; /* 0: not in use */
    kv_retired_list held;
} kv_pin;

typedef struct kv_page_list {
    uint32_t *pages;
    uint32_t count, capacity;
} kv_page_list;

/* An entry that was taken out of a leaf of the open transaction: the leaf's memory has it still. */
typedef struct kv_removed {
    const struct kv_node *leaf;
    uint32_t offset, key_length;
} kv_removed;
#define KV_REMOVED_MAX 16u

typedef struct kv_nodes {
    struct kv_file *file; /* NULL: there is no file, all stays in memory */
    kv_pages *sectors;
    uint32_t sector_count, shift; /* pages a sector: 1 << shift */
    uint32_t pages_in_use;        /* retired ones included */
    uint32_t pages_known;         /* in sectors that the checkpoint knew */
    kv_page_list free;            /* of the sectors that were looked at */
    uint32_t unseen;              /* sectors before it have no free pages that are not in the list */
    uint8_t **nothing;            /* `bytes` of sectors at which nobody has looked */
    uint8_t *maps[2];             /* to which `used` and `kept` point */
    uint32_t kept_pin;            /* that holds the pages in `kept`, and since when; KV_NO_PIN: none */
    uint64_t kept_epoch;
    uint32_t catch_all;           /* a pin that keeps every page that is given up, whoever sees it; KV_NO_PIN: none does */
    uint64_t epoch;
    kv_pin pins[KV_PINS_MAX];
    uint32_t pin_limit; /* pins behind it are not in use */
    uint64_t oldest_pin, newest_pin; /* UINT64_MAX and 0 without pins */
    /* frames: the memory for nodes */
    uint8_t *chunks[KV_CHUNKS_MAX];
    bool begins_block[KV_CHUNKS_MAX]; /* of several that were allocated together */
    uint8_t *dirty; /* of each frame, see frames.c */
    uint64_t beside; /* bytes of the cache that are for others */
    uint32_t frames, frames_max, dirty_count;
    uint32_t *free_frames;
    uint32_t free_frame_count;
    uint32_t hand; /* of the clock that finds what to evict */
    uint64_t loads, evictions, writes;
    kv_removed removed[KV_REMOVED_MAX]; /* see live.c; their leaves stay in memory */
    uint32_t removed_count;
    uint8_t *gather; /* where pages are made ready for a write */
    kv_status failure; /* why kv_node_get gave NULL */
    /* of the open transaction: what a rollback takes back */
    bool journaling;
    kv_page_list taken, retired;
} kv_nodes;

/* How far the journal had come. */
typedef struct kv_nodes_mark {
    uint32_t taken, retired;
    uint64_t epoch; /* nodes made since are younger than it */
} kv_nodes_mark;

/* `shift`: see kv_nodes; `cache_bytes` of memory are used for nodes, as far as that can be. */
kv_status kv_nodes_init(kv_nodes *nodes, struct kv_file *file, uint32_t shift, uint64_t cache_bytes);
void kv_nodes_set_cache(kv_nodes *nodes, uint64_t cache_bytes);
void kv_nodes_destroy(kv_nodes *nodes);

/* Make sure that `count` nodes can be taken without asking for memory or space, and have room for what is read meanwhile. No
 * address of a node outlives this. */
kv_status kv_nodes_reserve(kv_nodes *nodes, uint32_t count);
kv_status kv_nodes_reserve_pages(kv_nodes *nodes, uint32_t count); /* pages alone */
/* Have room in memory for `count` nodes, evicting others. No address of a node outlives this. */
kv_status kv_nodes_ready(kv_nodes *nodes, uint32_t count);
uint32_t kv_nodes_take(kv_nodes *nodes); /* after kv_nodes_reserve: a new page with a node in memory */
uint32_t kv_nodes_take_page(kv_nodes *nodes); /* the page alone */
/* A node of one's own with the contents of another, which is retired. After kv_nodes_reserve. */
uint32_t kv_nodes_copy(kv_nodes *nodes, uint32_t page);
/* The writer's tree no longer refers to the page. */
void kv_nodes_retire(kv_nodes *nodes, uint32_t page);

/* Keep the version that the writer has now, and begin a new epoch. KV_NO_PIN when none is left. */
uint32_t kv_nodes_pin(kv_nodes *nodes);
/* One more pin on the version of `pin`. */
uint32_t kv_nodes_pin_again(kv_nodes *nodes, uint32_t pin);
void kv_nodes_unpin(kv_nodes *nodes, uint32_t pin); /* KV_NO_PIN: nothing */
/* From now on, and until it goes, the pin keeps whatever is given up: it stands for versions that have no pin of their own. */
void kv_nodes_keep_all(kv_nodes *nodes, uint32_t pin);

/* Begin to note what is taken and retired; with nothing noted yet, or, for a savepoint, on top of what is. */
kv_nodes_mark kv_nodes_journal(kv_nodes *nodes);
/* Forget every node taken and every retirement since the mark. */
void kv_nodes_roll_back(kv_nodes *nodes, kv_nodes_mark mark);
void kv_nodes_journal_end(kv_nodes *nodes); /* what was noted is for good */

/* What a checkpoint says of an index sector: pages in use, and (NULL: none) those that only the older slot's refers to, if they are
 * not. Both last as long as `nodes`. */
kv_status kv_nodes_know(kv_nodes *nodes, uint64_t sector, const uint8_t *used, const uint8_t *kept);
void kv_nodes_keep(kv_nodes *nodes, uint32_t pin); /* which holds the latter; after all are known */
void kv_nodes_give_up_kept(kv_nodes *nodes);       /* it is gone */
void kv_nodes_quarantine(kv_nodes *nodes, uint32_t pin); /* after that: all pages that are free are kept by `pin` */
/* Before what is known of a page is changed. False: there is no memory for it. */
bool kv_nodes_look(kv_nodes *nodes, uint32_t page);
bool kv_nodes_in_use(const kv_nodes *nodes, uint32_t page); /* by the newest version */
void kv_nodes_bits(const kv_nodes *nodes, uint64_t sector, uint8_t *to); /* of all its pages */
void kv_nodes_free_page(kv_nodes *nodes, uint32_t page); /* nobody refers to it any more */
/* Without memory for that the page is lost until the database is opened again. */
void kv_pin_hold(kv_pin *pin, kv_retired entry);
bool kv_page_list_room(kv_page_list *list, uint32_t more);
void kv_pages_destroy(kv_nodes *nodes);

/* The pages of changed nodes of the newest version, in their order; to be freed, whatever the status. */
kv_status kv_nodes_changed(const kv_nodes *nodes, uint32_t **pages, uint32_t *count);
/* Write changed nodes, of `pages` from `*next` on, up to `limit` of them; those that were written or dropped meanwhile are
 * passed over. */
kv_status kv_nodes_write(kv_nodes *nodes, const uint32_t *pages, uint32_t count, uint32_t *next, uint32_t limit);
/* Is there such a page in an index sector? */
bool kv_nodes_holds(const kv_nodes *nodes, uint32_t page);
/* What the page holds cannot be a part of the tree: KV_CORRUPT, with its offset. */
kv_status kv_nodes_fail(kv_nodes *nodes, uint32_t page);
uint8_t *kv_nodes_load(kv_nodes *nodes, uint32_t page);

static inline kv_pages *kv_pages_of(const kv_nodes *nodes, uint32_t page) {
    return &nodes->sectors[(page - KV_FIRST_PAGE) >> nodes->shift];
}
static inline uint32_t kv_page_index(const kv_nodes *nodes, uint32_t page) {
    return (page - KV_FIRST_PAGE) & ((1u << nodes->shift) - 1);
}
/* Of a page that was looked at: one that is in memory, or is being retired. */
static inline uint64_t kv_page_made(const kv_nodes *nodes, uint32_t page) {
    return kv_pages_of(nodes, page)->made[kv_page_index(nodes, page)];
}

static inline bool kv_node_is_own(const kv_nodes *nodes, uint32_t page) {
    return kv_page_made(nodes, page) == nodes->epoch;
}

#endif
