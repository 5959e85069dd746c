#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

kv_file *kv_file_new(int fd, uint32_t sector_bytes, uint64_t random_seed) {
    kv_file *file = calloc(1, sizeof *file);
    if (file == NULL) return NULL;
    file->fd = fd;
    file->references = 1;
    kv_file_set_sector_bytes(file, sector_bytes);
    file->random = random_seed | 1;
    file->next_generation = 1;
    return file;
}

void kv_file_set_sector_bytes(kv_file *file, uint32_t sector_bytes) {
    file->sector_bytes = sector_bytes;
    file->sector_shift = (uint32_t)__builtin_ctz(sector_bytes);
}

kv_status kv_file_need_nodes(kv_file *file, uint64_t cache_bytes) {
    file->nodes = malloc(sizeof *file->nodes);
    if (file->nodes == NULL) return KV_NO_MEMORY;
    return kv_nodes_init(file->nodes, file, file->sector_shift - (uint32_t)__builtin_ctz(KV_PAGE_BYTES), cache_bytes);
}

void kv_file_release(kv_file *file) {
    if (file == NULL || --file->references > 0) return;
    if (file->fd >= 0) close(file->fd);
    free(file->sectors);
    if (file->nodes != NULL) kv_nodes_destroy(file->nodes);
    free(file->nodes);
    free(file->free.numbers);
    free(file->log.buffer);
    free(file);
}

kv_status kv_file_fail(kv_file *file, kv_status status, uint32_t detail, uint64_t offset) {
    file->error = (kv_error){.offset = offset, .detail = detail, .os_error = 0};
    return status;
}

static kv_status os_failure(kv_file *file, kv_status status, uint64_t offset) {
    file->error = (kv_error){.offset = offset, .os_error = errno, .detail = KV_DETAIL_NONE};
    return status;
}

kv_status kv_file_read_some(kv_file *file, uint64_t offset, void *to, uint64_t length, uint64_t *got) {
    *got = 0;
    while (*got < length) {
        ssize_t n = pread(file->fd, (uint8_t *)to + *got, (size_t)(length - *got), (off_t)(offset + *got));
        if (n < 0) {
            if (errno == EINTR) continue;
            return os_failure(file, KV_IO, offset + *got);
        }
        if (n == 0) break;
        *got += (uint64_t)n;
    }
    return KV_OK;
}

kv_status kv_file_read(kv_file *file, uint64_t offset, void *to, uint64_t length) {
    uint64_t got;
    kv_status status = kv_file_read_some(file, offset, to, length, &got);
    if (status != KV_OK) return status;
    return got == length ? KV_OK : kv_file_fail(file, KV_CORRUPT, KV_DETAIL_TRUNCATED, offset + got);
}

kv_status kv_file_write(kv_file *file, uint64_t offset, const void *from, uint64_t length, uint64_t *written) {
    uint64_t done = 0;
    kv_status status = KV_OK;
    while (done < length && status == KV_OK) {
        ssize_t n = pwrite(file->fd, (const uint8_t *)from + done, (size_t)(length - done), (off_t)(offset + done));
        if (n > 0) {
            done += (uint64_t)n;
        } else if (n == 0) {
            errno = EIO;
            status = KV_IO;
        } else if (errno == ENOSPC || errno == EDQUOT || errno == EFBIG) {
            status = KV_DISK_FULL;
            file->full = true;
        } else if (errno != EINTR) {
            status = KV_IO;
        }
    }
    if (written != NULL) *written = done;
    if (done > 0 && offset + done > file->written_end) file->written_end = offset + done;
    if (status == KV_OK) return KV_OK;
    if (status == KV_IO) file->poisoned = true;
    return os_failure(file, status, offset + done);
}

kv_status kv_file_write_zeros(kv_file *file, uint64_t offset, uint64_t length) {
    static const uint8_t zeros[64u << 10];
    kv_status status = KV_OK;
    for (uint64_t done = 0; done < length && status == KV_OK; done += sizeof zeros) {
        uint64_t left = length - done;
        status = kv_file_write(file, offset + done, zeros, left < sizeof zeros ? left : sizeof zeros, NULL);
    }
    return status;
}

int kv_sync_fd(int fd, bool data_only) {
#ifdef F_FULLFSYNC /* fsync(2) of macOS leaves it in the drive's cache, which a power cut empties */
    (void)data_only;
    if (fcntl(fd, F_FULLFSYNC) == 0) return 0;
    return errno == ENOTSUP || errno == EINVAL || errno == ENOTTY ? fsync(fd) : -1;
#else
    return data_only ? fdatasync(fd) : fsync(fd);
#endif
}

kv_status kv_file_sync(kv_file *file) {
    if (kv_sync_fd(file->fd, true) == 0) return KV_OK;
    file->poisoned = true;
    return os_failure(file, KV_IO, 0);
}

kv_status kv_file_size(kv_file *file, uint64_t *size) {
    struct stat status;
    if (fstat(file->fd, &status) != 0) return os_failure(file, KV_IO, 0);
    *size = status.st_size < 0 ? 0 : (uint64_t)status.st_size;
    return KV_OK;
}

uint64_t kv_file_random(kv_file *file) { /* xorshift64*; unpredictability comes from its seed */
    file->random ^= file->random >> 12;
    file->random ^= file->random << 25;
    file->random ^= file->random >> 27;
    return file->random * 0x2545F4914F6CDD1Du;
}
