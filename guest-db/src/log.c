#include "log.h"

#include <stdlib.h>

static uint32_t waiting_bytes(const kv_log *log) { return log->end - log->start; }

static kv_status need_buffer(kv_file *file) {
    if (file->log.buffer == NULL) file->log.buffer = malloc(KV_LOG_BUFFER_BYTES);
    return file->log.buffer == NULL ? KV_NO_MEMORY : KV_OK;
}

kv_status kv_log_begin(kv_file *file, uint64_t previous, uint32_t chain, bool withhold_header) {
    kv_status status = need_buffer(file);
    if (status != KV_OK) return status;
    kv_log *log = &file->log;
    uint64_t sector;
    status = kv_sectors_add(file, KV_SECTOR_LOG, 1, previous, chain, &sector);
    if (status != KV_OK) return status;
    log->sector = sector;
    log->generation = file->sectors[sector].generation;
    log->salt = file->sectors[sector].salt;
    log->end = KV_SECTOR_DATA;
    log->chain = log->written_chain = chain;
    log->start = withhold_header ? KV_SECTOR_DATA : 0;
    log->ahead = file->sectors[sector].erases > 0 ? file->sector_bytes : 0; /* a used sector has its space already */
    if (!withhold_header) kv_sector_encode(file, sector, log->buffer);
    return KV_OK;
}

kv_status kv_log_resume(kv_file *file, uint64_t sector, uint32_t offset, uint32_t chain) {
    kv_status status = need_buffer(file);
    if (status != KV_OK) return status;
    kv_log *log = &file->log;
    log->sector = sector;
    log->generation = file->sectors[sector].generation;
    log->salt = file->sectors[sector].salt;
    log->start = offset;
    log->end = offset;
    log->chain = log->written_chain = chain;
    log->ahead = offset;
    return KV_OK;
}

kv_status kv_log_write_header(kv_file *file, uint64_t sector) {
    uint8_t header[KV_SECTOR_DATA];
    kv_sector_encode(file, sector, header);
    return kv_file_write(file, kv_sector_offset(file, sector), header, sizeof header, NULL);
}

kv_status kv_log_write(kv_file *file, bool ahead) {
    kv_log *log = &file->log;
    uint32_t bytes = waiting_bytes(log), total = bytes;
    if (bytes == 0) return KV_OK;
    if (ahead && bytes <= KV_LOG_SMALL_COMMIT && log->end > log->ahead) {
        uint64_t until = ((uint64_t)log->end + KV_LOG_AHEAD_BYTES) & ~(uint64_t)(KV_LOG_AHEAD_BYTES - 1);
        if (until > file->sector_bytes) until = file->sector_bytes;
        memset(log->buffer + bytes, 0, (size_t)(until - log->end));
        total = (uint32_t)(until - log->start);
    }
    uint64_t written;
    kv_status status =
        kv_file_write(file, kv_sector_offset(file, log->sector) + log->start, log->buffer, total, &written);
    if (status != KV_OK && !(status == KV_DISK_FULL && written >= bytes)) {
        log->torn = (uint32_t)(log->start + written);
        return status;
    }
    if (log->start + written > log->ahead) log->ahead = (uint32_t)(log->start + written);
    log->start = log->end;
    log->written_chain = log->chain;
    return KV_OK;
}

kv_status kv_log_append(kv_file *file, kv_record *record, kv_place *place) {
    kv_log *log = &file->log;
    uint32_t bytes = kv_record_bytes(record);
    kv_status status = KV_OK;
    if (log->end + bytes > file->sector_bytes - KV_SECTOR_TAIL) {
        status = kv_log_write(file, false);
        if (status == KV_OK) status = kv_log_begin(file, kv_log_position(file), log->chain, false);
    } else if (waiting_bytes(log) >= KV_LOG_SPILL_BYTES) {
        status = kv_log_write(file, false);
    }
    if (status != KV_OK) return status;
    record->chain = log->chain;
    kv_record_encode(record, log->buffer + waiting_bytes(log), log->salt, kv_log_position(file));
    if (place != NULL) {
        uint64_t at = kv_sector_offset(file, log->sector) + log->end + KV_RECORD_HEADER_BYTES + record->key.length;
        *place = (kv_place){at, record->value_length, record->value_sum};
    }
    log->chain = record->sum;
    log->end += bytes;
    return KV_OK;
}

kv_status kv_log_secure(kv_file *file, uint32_t bytes) {
    kv_log *log = &file->log;
    kv_status status = KV_OK;
    if (log->end + bytes > file->sector_bytes - KV_SECTOR_TAIL) {
        status = kv_log_write(file, false);
        if (status == KV_OK) status = kv_log_begin(file, kv_log_position(file), log->chain, false);
    }
    if (status != KV_OK || log->end + bytes <= log->ahead) return status;
    uint64_t until = ((uint64_t)log->end + bytes + KV_LOG_AHEAD_BYTES) & ~(uint64_t)(KV_LOG_AHEAD_BYTES - 1);
    if (until > file->sector_bytes) until = file->sector_bytes;
    uint64_t from = log->ahead > log->start ? log->ahead : log->start; /* what is waiting will be written over it */
    status = kv_file_write_zeros(file, kv_sector_offset(file, log->sector) + from, until - from);
    if (status == KV_OK) log->ahead = (uint32_t)until;
    return status;
}

kv_status kv_log_secure_urgent(kv_file *file, uint32_t bytes) {
    kv_log *log = &file->log;
    kv_status status = kv_log_secure(file, bytes);
    if (status != KV_DISK_FULL) return status;
    if (kv_log_is_waiting(file)) {
        status = kv_log_write(file, false);
        if (status != KV_OK) return status;
    }
    uint64_t previous = kv_log_position(file), behind = log->sector;
    uint32_t chain = log->chain;
    bool unused = log->start == 0; /* nothing of it is in the file: as if it had never been begun */
    if (unused) {
        previous = file->sectors[behind].previous;
        chain = file->sectors[behind].chain;
        if (previous == 0) return KV_DISK_FULL; /* the very first one */
    }
    uint64_t spare = kv_sector_list_count(&file->free);
    if (spare == 0) return KV_DISK_FULL;
    status = kv_log_begin(file, previous, chain, false);
    if (status == KV_OK && unused) kv_sectors_give_back(file, behind);
    return status == KV_OK ? kv_log_secure(file, bytes) : status;
}

bool kv_log_is_waiting(const kv_file *file) {
    const kv_log *log = &file->log;
    return log->end > log->start && log->end > KV_SECTOR_DATA;
}

/* A write that failed may all the same have left a whole record: it must not be found by the next open. */
static void erase_torn(kv_file *file) {
    static const uint8_t zeros[KV_RECORD_HEADER_BYTES];
    kv_log *log = &file->log;
    uint32_t from = log->start < KV_SECTOR_DATA ? KV_SECTOR_DATA : log->start;
    uint32_t bytes = log->torn > from ? log->torn - from : 0;
    if (bytes > sizeof zeros) bytes = sizeof zeros;
    log->torn = 0;
    if (bytes > 0 && kv_file_write(file, kv_sector_offset(file, log->sector) + from, zeros, bytes, NULL) != KV_OK)
        file->poisoned = true;
}

bool kv_log_can_rewind(const kv_file *file, const kv_log_mark *mark) {
    return file->log.generation == mark->generation && mark->end >= file->log.start;
}

void kv_log_rewind(kv_file *file, const kv_log_mark *mark) {
    kv_log *log = &file->log;
    if (log->torn != 0 && !file->poisoned) erase_torn(file);
    if (kv_log_can_rewind(file, mark)) {
        log->end = mark->end;
        log->chain = mark->chain;
        return;
    }
    log->end = log->start < KV_SECTOR_DATA ? KV_SECTOR_DATA : log->start; /* the header, if waiting, stays */
    log->chain = log->written_chain;
}

const uint8_t *kv_log_waiting(const kv_file *file, uint64_t offset) {
    const kv_log *log = &file->log;
    uint64_t base = kv_sector_offset(file, log->sector);
    if (log->buffer == NULL || offset < base + log->start || offset >= base + log->end) return NULL;
    return log->buffer + (offset - base - log->start);
}
