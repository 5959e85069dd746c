/* The log: appending records, and giving them to the file in as few writes as can be. */
#ifndef KV_LOG_H
#define KV_LOG_H

#include "file.h"
#include "record.h"

#define KV_LOG_SPILL_BYTES (256u << 10) /* a transaction's records go to the file at latest when so many are waiting */
#define KV_LOG_AHEAD_BYTES (128u << 10) /* written with zeros ahead of small commits, at a time */
#define KV_LOG_SMALL_COMMIT (64u << 10)
#define KV_LOG_BUFFER_BYTES (KV_LOG_SPILL_BYTES + KV_INLINE_MAX + KV_KEY_MAX + 2 * KV_LOG_AHEAD_BYTES)

/* Where the log ended at some moment, to go back to. */
typedef struct kv_log_mark {
    uint64_t generation;
    uint32_t end, chain;
} kv_log_mark;

static inline uint64_t kv_log_position(const kv_file *file) {
    return kv_position(file, file->log.generation, file->log.end);
}
static inline kv_log_mark kv_log_now(const kv_file *file) {
    return (kv_log_mark){file->log.generation, file->log.end, file->log.chain};
}

/* Begin the log in a fresh sector that follows `previous`. With `withhold_header` the header is not written
 * before kv_log_write_header. */
kv_status kv_log_begin(kv_file *file, uint64_t previous, uint32_t chain, bool withhold_header);
/* Go on in `sector` at `offset`, behind a record with the sum `chain`. */
kv_status kv_log_resume(kv_file *file, uint64_t sector, uint32_t offset, uint32_t chain);

/* Make sure that the file has space for a record of so many bytes. KV_DISK_FULL: nothing has changed. */
kv_status kv_log_secure(kv_file *file, uint32_t bytes);
/* The same for what makes space (file->urgent): go on in a spare sector if need be. What is waiting is written first. */
kv_status kv_log_secure_urgent(kv_file *file, uint32_t bytes);
/* Append a record; sets its chain and sum. `place`, if wanted: where its inline value will lie. On failure the log is to
 * be rewound. */
kv_status kv_log_append(kv_file *file, kv_record *record, kv_place *place);
/* Give what is waiting to the file, followed by zeros when `ahead` and the commit is small. */
kv_status kv_log_write(kv_file *file, bool ahead);
/* Forget the records appended since `mark` (what was written of them stays as dead bytes: their commit has no mark). */
void kv_log_rewind(kv_file *file, const kv_log_mark *mark);
/* Nothing since `mark` was written: kv_log_rewind leaves no trace. */
bool kv_log_can_rewind(const kv_file *file, const kv_log_mark *mark);
kv_status kv_log_write_header(kv_file *file, uint64_t sector);

/* Are there records that the file does not have yet? */
bool kv_log_is_waiting(const kv_file *file);
/* Address of the file's byte `offset` when it is waiting in the buffer, else NULL. */
const uint8_t *kv_log_waiting(const kv_file *file, uint64_t offset);

#endif
