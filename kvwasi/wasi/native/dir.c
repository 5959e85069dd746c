/* fd_readdir over the kernel's own listing: a cookie is the kernel's position after an entry, so any
 * cookie restarts. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "host.h"
#include "os.h"

struct kvw_listing {
    uint64_t start;  /* cookie of the first entry in the buffer */
    uint64_t cookie; /* of the entry at `at` */
    size_t at;
    size_t filled;
    void *stream; /* of kvw_os_list */
    bool root; /* a preopen, whose ".." is itself */
    uint64_t own_inode;
    _Alignas(8) char buffer[KVW_LISTING_BYTES];
};

void kvw_listing_free(kvw_listing *listing)
{
    if (listing)
        kvw_os_list_end(listing->stream);
    free(listing);
}

static int refill(kvw_listing *l, int os_fd)
{
    ssize_t got = kvw_os_list(&l->stream, os_fd, l->buffer, sizeof l->buffer);
    if (got < 0)
        return errno;
    l->start = l->cookie;
    l->at = 0;
    l->filled = (size_t)got;
    return 0;
}

/* Stand at the entry that `cookie` names: usually there already, or a little back because the last did not
 * fit. */
static int listing_seek(kvw_listing *l, int os_fd, uint64_t cookie)
{
    if (cookie != 0 && cookie == l->cookie)
        return 0;
    if (cookie != 0 && l->filled > 0) {
        uint64_t here = l->start;
        for (size_t at = 0; at < l->filled; at += ((kvw_os_entry *)(void *)(l->buffer + at))->bytes) {
            if (here == cookie) {
                l->at = at;
                l->cookie = cookie;
                return 0;
            }
            here = (uint64_t)((kvw_os_entry *)(void *)(l->buffer + at))->next;
        }
    }
    if (kvw_os_list_from(&l->stream, os_fd, cookie) < 0)
        return errno;
    l->cookie = cookie;
    l->at = l->filled = 0;
    return 0;
}

static uint32_t listing_of(kvw_host *host, kvw_descriptor *d)
{
    if (d->listing)
        return WASI_OK;
    struct stat st;
    if (kvw_os_fstat(d->os_fd, &st) < 0)
        return kvw_errno(errno);
    kvw_listing *l = malloc(sizeof *l); /* the buffer need not be cleared */
    if (!l)
        return WASI_ENOMEM;
    l->start = l->cookie = 0;
    l->at = l->filled = 0;
    l->stream = NULL;
    l->own_inode = st.st_ino;
    l->root = false;
    for (uint32_t i = 0; i < host->roots; i++)
        l->root = l->root || (host->root_inodes[i] == st.st_ino && host->root_devices[i] == st.st_dev);
    d->listing = l;
    return WASI_OK;
}

static uint32_t filetype_of_entry(int os_fd, const kvw_os_entry *e)
{
    struct stat st;
    switch (e->type) {
    case DT_REG:
        return WASI_FILETYPE_REGULAR_FILE;
    case DT_DIR:
        return WASI_FILETYPE_DIRECTORY;
    case DT_LNK:
        return WASI_FILETYPE_SYMBOLIC_LINK;
    case DT_CHR:
        return WASI_FILETYPE_CHARACTER_DEVICE;
    case DT_BLK:
        return WASI_FILETYPE_BLOCK_DEVICE;
    case DT_SOCK:
        return WASI_FILETYPE_SOCKET_STREAM;
    case DT_UNKNOWN: /* some file systems leave it to stat */
        if (strcmp(e->name, "..") != 0 && kvw_os_fstatat(os_fd, e->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
            return kvw_filetype_of_mode(st.st_mode);
        return e->name[0] == '.' ? WASI_FILETYPE_DIRECTORY : WASI_FILETYPE_UNKNOWN;
    default:
        return WASI_FILETYPE_UNKNOWN;
    }
}

/* Append the entry, cut short at the end of the guest's buffer. */
static void put_entry(const kvw_listing *l, int os_fd, const kvw_os_entry *e, uint8_t *buffer, uint32_t capacity,
                      uint32_t *used)
{
    uint8_t head[WASI_DIRENT_SIZE] = {0};
    uint32_t length = (uint32_t)strlen(e->name);
    bool outside = l->root && !strcmp(e->name, "..");
    kvw_store64(head, (uint64_t)e->next);
    kvw_store64(head + 8, outside ? l->own_inode : e->inode);
    kvw_store32(head + 16, length);
    head[20] = (uint8_t)filetype_of_entry(os_fd, e);
    uint32_t room = capacity - *used;
    uint32_t part = room < sizeof head ? room : (uint32_t)sizeof head;
    memcpy(buffer + *used, head, part);
    *used += part;
    room -= part;
    part = room < length ? room : length;
    memcpy(buffer + *used, e->name, part);
    *used += part;
}

uint32_t kvw_fd_readdir(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_u32(a));
    if (!d)
        return WASI_EBADF;
    if (kvw_filetype(d) != WASI_FILETYPE_DIRECTORY)
        return WASI_ENOTDIR;
    uint32_t error = kvw_may(d, 0, WASI_RIGHT_FD_READDIR);
    if (error)
        return error;
    uint32_t capacity = kvw_u32(a + 2);
    uint8_t *buffer = kvw_range(memory, kvw_u32(a + 1), capacity);
    uint8_t *result = kvw_range(memory, kvw_u32(a + 4), 4);
    if (!buffer || !result)
        return WASI_EFAULT;
    error = listing_of(host, d);
    if (error)
        return error;
    kvw_listing *l = d->listing;
    int os_error = listing_seek(l, d->os_fd, kvw_u64(a + 3));
    uint32_t used = 0;
    while (!os_error && used < capacity) {
        if (l->at == l->filled) {
            os_error = refill(l, d->os_fd);
            if (os_error || l->filled == 0)
                break;
        }
        const kvw_os_entry *e = (const kvw_os_entry *)(const void *)(l->buffer + l->at);
        uint32_t whole = WASI_DIRENT_SIZE + (uint32_t)strlen(e->name);
        bool fits = whole <= capacity - used;
        put_entry(l, d->os_fd, e, buffer, capacity, &used);
        if (!fits)
            break; /* stay at it: the guest asks again from the cookie before */
        l->at += e->bytes;
        l->cookie = (uint64_t)e->next;
    }
    if (os_error && used == 0)
        return kvw_errno(os_error);
    kvw_store32(result, used);
    return WASI_OK;
}
