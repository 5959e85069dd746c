/* Making a database: written under another name, made durable, then put in its place. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif

#include "db.h"

kv_status kv_random_seed(uint64_t *seed) {
    if (*seed != 0) return KV_OK;
    return getentropy(seed, sizeof *seed) == 0 ? KV_OK : KV_IO;
}

void kv_side_path(const char *path, const char *suffix, char *to) { snprintf(to, KV_PATH_MAX + 16, "%s%s", path, suffix); }

static kv_status os_status(void) { return errno == ENOSPC || errno == EDQUOT ? KV_DISK_FULL : KV_IO; }

int kv_sync_directory(const char *path) {
    char directory[KV_PATH_MAX];
    snprintf(directory, sizeof directory, "%s", path);
    char *slash = strrchr(directory, '/');
    if (slash == NULL)
        strcpy(directory, ".");
    else
        slash[slash == directory ? 1 : 0] = 0;
    int fd = open(directory, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return -1;
    int result = kv_sync_fd(fd, false);
    if (result != 0 && (errno == EINVAL || errno == EBADF || errno == ENOTSUP)) result = 0;
    int error = errno;
    close(fd);
    errno = error;
    return result;
}

kv_status kv_install_file(kv_file *file, const char *from, const char *path, bool replace, bool *named) {
    int result;
    *named = false;
    if (replace) {
        result = rename(from, path);
    } else { /* a link does not replace what someone else has put there meanwhile */
        result = link(from, path);
        if (result != 0 && errno == EEXIST) return KV_EXISTS;
        if (result != 0 && (errno == ENOTSUP || errno == EPERM || errno == ENOSYS)) result = rename(from, path);
        else if (result == 0) result = unlink(from);
    }
    *named = result == 0;
    if (result == 0) result = kv_sync_directory(path);
    if (result == 0) return KV_OK;
    file->error = (kv_error){.os_error = errno};
    return os_status();
}

kv_status kv_create_file(const char *path, uint32_t sector_bytes, uint64_t random_seed, uint64_t first_generation,
                         kv_file **created) {
    *created = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0666);
    if (fd < 0) return os_status();
    kv_file *file = kv_file_new(fd, sector_bytes, random_seed);
    if (file == NULL) {
        close(fd);
        return KV_NO_MEMORY;
    }
    *created = file;
    file->next_generation = first_generation;
    file->super = (kv_superblock){.version = KV_FORMAT_VERSION,
                                  .sector_bytes = sector_bytes,
                                  .database_id = kv_file_random(file),
                                  .replay = kv_position(file, first_generation, KV_SECTOR_DATA),
                                  .generation = first_generation,
                                  .durable = kv_position(file, first_generation, KV_SECTOR_DATA)};
    file->slot_generation[0] = file->slot_generation[1] = first_generation;
    return kv_log_begin(file, 0, 0, false);
}

kv_status kv_create(const kv_open_options *options) {
    uint32_t bytes = options->sector_bytes == 0 ? KV_SECTOR_BYTES_DEFAULT : options->sector_bytes;
    if (bytes < KV_SECTOR_BYTES_MIN || bytes > KV_SECTOR_BYTES_MAX || (bytes & (bytes - 1)) != 0) return KV_INVALID;
    uint64_t seed = options->random_seed;
    kv_status status = kv_random_seed(&seed);
    if (status != KV_OK) return status;
    char temporary[KV_PATH_MAX + 16];
    kv_side_path(options->path, KV_NEW_SUFFIX, temporary);
    unlink(temporary);
    kv_file *file;
    bool named;
    status = kv_create_file(temporary, bytes, seed, 1, &file);
    for (int slot = 0; slot < 2 && status == KV_OK; slot++) status = kv_superblock_write(file);
    if (status == KV_OK) status = kv_log_write_header(file, 0);
    if (status == KV_OK && kv_sync_fd(file->fd, false) != 0) status = os_status();
    if (status == KV_OK) status = kv_install_file(file, temporary, options->path, options->flags & KV_OPEN_REPLACE, &named);
    if (status != KV_OK) {
        int error = errno;
        unlink(temporary);
        errno = error;
    }
    kv_file_release(file);
    return status;
}
