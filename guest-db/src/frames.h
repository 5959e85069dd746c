/* The memory for nodes, and the way of nodes between it and their pages: what nodes.c needs of it. */
#ifndef KV_FRAMES_H
#define KV_FRAMES_H

#include "nodes.h"

void kv_frames_destroy(kv_nodes *nodes);
/* Give the page a node in memory, changed and otherwise undefined. After kv_nodes_ready. */
void kv_frames_take(kv_nodes *nodes, uint32_t page);
/* Give the page a node with the contents of another page's, which is in memory, and may leave it. After kv_nodes_ready. */
void kv_frames_copy(kv_nodes *nodes, uint32_t from, uint32_t to);
void kv_frames_drop(kv_nodes *nodes, uint32_t page);
/* An index sector whose space is there: a used one, or a new one, filled with zeros. */
kv_status kv_frames_new_sector(struct kv_file *file, uint64_t *sector);

uint32_t kv_frames_spared(const struct kv_file *file); /* pages that are to stay free */

#endif
