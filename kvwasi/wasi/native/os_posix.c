#include "os.h"

#if !KVW_OS_LINUX

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

int kvw_posix_fallocate(int fd, off_t offset, off_t length)
{
#ifdef __APPLE__
    struct stat st;
    if (kvw_os_fstat(fd, &st) < 0)
        return -1;
    if (offset + length <= st.st_size)
        return 0;
    fstore_t space = {.fst_flags = F_ALLOCATEALL, .fst_posmode = F_PEOFPOSMODE, .fst_length = offset + length - st.st_size};
    if (fcntl(fd, F_PREALLOCATE, &space) < 0 && errno != ENOTSUP)
        return -1;
    return kvw_os_ftruncate(fd, offset + length);
#else
    errno = posix_fallocate(fd, offset, length);
    return errno ? -1 : 0;
#endif
}

/* fsync(2) of macOS leaves it in the drive's cache, which a power cut empties. */
int kvw_posix_sync(int fd)
{
#ifdef F_FULLFSYNC
    if (fcntl(fd, F_FULLFSYNC) == 0)
        return 0;
    if (errno != ENOTSUP && errno != EINVAL && errno != ENOTTY)
        return -1;
#endif
    return fsync(fd);
}

/* A cookie is how many entries are before it: a stream's own positions hold only as long as the stream. */
typedef struct stream {
    DIR *directory;
    struct dirent *held; /* read already, and did not fit */
    int64_t next;        /* the cookie of the entry that comes next, `held` or not */
} stream;

static stream *stream_of(void **of, int fd)
{
    if (*of)
        return *of;
    stream *s = malloc(sizeof *s);
    int own = s ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    DIR *directory = own < 0 ? NULL : fdopendir(own);
    if (!directory) {
        int error = errno;
        if (own >= 0)
            close(own);
        free(s);
        errno = error;
        return NULL;
    }
    rewinddir(directory); /* the position is the descriptor's */
    *s = (stream){.directory = directory};
    return *of = s;
}

static struct dirent *next_entry(stream *s)
{
    struct dirent *e = s->held ? s->held : readdir(s->directory);
    s->held = NULL;
    return e;
}

ssize_t kvw_posix_list(void **of, int fd, void *to, size_t size)
{
    stream *s = stream_of(of, fd);
    if (!s)
        return -1;
    size_t used = 0;
    errno = 0;
    for (struct dirent *e; (e = next_entry(s)) != NULL;) {
        size_t length = strlen(e->d_name);
        size_t bytes = (sizeof(kvw_os_entry) + length + 1 + 7) & ~(size_t)7;
        if (bytes > size - used) {
            s->held = e;
            break;
        }
        kvw_os_entry *entry = (kvw_os_entry *)(void *)((char *)to + used);
        *entry = (kvw_os_entry){
            .inode = e->d_ino, .next = ++s->next, .bytes = (uint16_t)bytes, .type = (uint8_t)e->d_type};
        memcpy(entry->name, e->d_name, length + 1);
        used += bytes;
    }
    struct stat st;
    if (used == 0 && !errno && kvw_os_fstat(fd, &st) == 0 && st.st_nlink == 0)
        errno = ENOENT; /* it was removed, which the C library keeps to itself */
    return used == 0 && errno ? -1 : (ssize_t)used;
}

int kvw_posix_list_from(void **of, int fd, uint64_t cookie)
{
    stream *s = stream_of(of, fd);
    if (!s)
        return -1;
    if (cookie < (uint64_t)s->next || cookie == 0) {
        rewinddir(s->directory);
        s->held = NULL;
        s->next = 0;
    }
    errno = 0;
    while ((uint64_t)s->next < cookie && next_entry(s) != NULL)
        s->next++;
    return errno ? -1 : 0;
}

void kvw_posix_list_end(void *of)
{
    stream *s = of;
    if (s)
        closedir(s->directory);
    free(s);
}

int kvw_posix_poll(struct pollfd *fds, uint32_t count, const struct timespec *timeout)
{
    int milliseconds = -1;
    if (timeout && timeout->tv_sec >= INT_MAX / 1000)
        milliseconds = INT_MAX; /* whoever waits asks again */
    else if (timeout)
        milliseconds = (int)timeout->tv_sec * 1000 + (int)((timeout->tv_nsec + 999999) / 1000000);
    return poll(fds, count, milliseconds);
}

int kvw_posix_accept(int fd, bool nonblocking)
{
    int accepted = accept(fd, NULL, NULL);
    if (accepted < 0)
        return -1;
    int flags = fcntl(accepted, F_GETFL);
    flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK; /* some systems pass the listener's on */
    if (fcntl(accepted, F_SETFD, FD_CLOEXEC) < 0 || fcntl(accepted, F_SETFL, flags) < 0) {
        int error = errno;
        close(accepted);
        errno = error;
        return -1;
    }
    return accepted;
}

#else
typedef int kvw_linux_needs_none_of_it; /* ISO C wants a declaration */
#endif
