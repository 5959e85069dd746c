/* The descriptor table: fixed blocks of slots that never move, so that another thread may look one up. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "file.h"
#include "os.h"
#include "storage.h"

/* Make sure that slot `fd` exists. */
static uint32_t reserve(kvw_host *host, uint32_t fd)
{
    if (fd >= KVW_DESCRIPTORS_MAX)
        return WASI_EMFILE;
    while (fd >= host->slots) {
        kvw_descriptor *block = calloc(KVW_BLOCK_DESCRIPTORS, sizeof *block);
        if (!block)
            return WASI_ENOMEM;
        host->blocks[host->slots / KVW_BLOCK_DESCRIPTORS] = block;
        host->slots += KVW_BLOCK_DESCRIPTORS;
    }
    return WASI_OK;
}

uint32_t kvw_descriptor_put(kvw_host *host, uint32_t fd, const kvw_descriptor *d)
{
    pthread_mutex_lock(&host->table_lock);
    uint32_t error = reserve(host, fd);
    if (!error) {
        assert(!kvw_slot(host, fd)->open);
        *kvw_slot(host, fd) = *d;
        kvw_slot(host, fd)->open = true;
    }
    pthread_mutex_unlock(&host->table_lock);
    return error;
}

uint32_t kvw_descriptor_add(kvw_host *host, const kvw_descriptor *d, uint32_t *fd)
{
    uint32_t free_fd = host->first_free;
    while (free_fd < host->slots && kvw_slot(host, free_fd)->open)
        free_fd++;
    uint32_t error = kvw_descriptor_put(host, free_fd, d);
    if (!error) {
        host->first_free = free_fd + 1;
        *fd = free_fd;
    }
    return error;
}

uint32_t kvw_descriptor_close(kvw_host *host, uint32_t fd)
{
    kvw_descriptor *slot = kvw_slot(host, fd);
    pthread_mutex_lock(&host->table_lock);
    kvw_descriptor d = *slot;
    memset(slot, 0, sizeof *slot);
    if (fd < host->first_free)
        host->first_free = fd;
    if (d.file) {
        kvw_file_settle(d.file);
        kvw_file_release(host, d.file, d.os_fd);
    }
    pthread_mutex_unlock(&host->table_lock);
    if (d.range_locked) { /* locks last as long as a mapping that was made through the descriptor */
        struct flock all = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
        (void)fcntl(d.os_fd, F_OFD_SETLK, &all);
    }
    kvw_listing_free(d.listing);
    free(d.guest_path);
    free(d.stream);
    return d.os_fd < 0 ? WASI_OK : kvw_errno(kvw_storage_close(host, d.os_fd));
}

void kvw_descriptor_move(kvw_host *host, uint32_t from, uint32_t to)
{
    pthread_mutex_lock(&host->table_lock);
    assert(!kvw_slot(host, to)->open);
    *kvw_slot(host, to) = *kvw_slot(host, from);
    memset(kvw_slot(host, from), 0, sizeof(kvw_descriptor));
    if (from < host->first_free)
        host->first_free = from;
    pthread_mutex_unlock(&host->table_lock);
}

int kvw_descriptor_duplicate(kvw_host *host, uint32_t fd)
{
    pthread_mutex_lock(&host->table_lock);
    const kvw_descriptor *d = kvw_descriptor_of(host, fd);
    int copy = -1;
    errno = EBADF;
    if (d && d->os_fd >= 0) {
        copy = fcntl(d->os_fd, F_DUPFD_CLOEXEC, 0);
        if (copy >= 0 && d->file)
            kvw_file_flushed(d->file);
    }
    pthread_mutex_unlock(&host->table_lock);
    return copy;
}

uint32_t kvw_filetype_of_mode(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return WASI_FILETYPE_REGULAR_FILE;
    case S_IFDIR:
        return WASI_FILETYPE_DIRECTORY;
    case S_IFLNK:
        return WASI_FILETYPE_SYMBOLIC_LINK;
    case S_IFCHR:
        return WASI_FILETYPE_CHARACTER_DEVICE;
    case S_IFBLK:
        return WASI_FILETYPE_BLOCK_DEVICE;
    case S_IFSOCK:
        return WASI_FILETYPE_SOCKET_STREAM;
    default:
        return WASI_FILETYPE_UNKNOWN; /* FIFOs have no number of their own */
    }
}

uint32_t kvw_filetype(kvw_descriptor *d)
{
    if (d->typed)
        return d->filetype;
    struct stat st;
    if (d->os_fd < 0 || kvw_os_fstat(d->os_fd, &st) < 0)
        return WASI_FILETYPE_UNKNOWN;
    kvw_descriptor_typed(d, st.st_mode);
    return d->filetype;
}

void kvw_descriptor_typed(kvw_descriptor *d, mode_t mode)
{
    d->typed = true;
    d->filetype = (uint8_t)kvw_filetype_of_mode(mode);
    int type = 0;
    socklen_t length = sizeof type;
    if (S_ISSOCK(mode) && getsockopt(d->os_fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
        type == SOCK_DGRAM)
        d->filetype = WASI_FILETYPE_SOCKET_DGRAM;
    d->positioned = !d->inherited && (S_ISREG(mode) || S_ISBLK(mode));
}
