/* What the disk allows: records appended to a file whose space was written before, each flushed; and with several
 * threads the barest group commit. Called from Python's threads through ctypes, which lets go of the GIL. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct reference {
    int fd;
    pthread_mutex_t lock;
    pthread_cond_t flushed;
    uint64_t end;     /* bytes appended */
    uint64_t durable; /* of these a flush has covered */
    int flushing;     /* a leader is at work */
    int error;        /* of a flush; final */
} reference;

/* A file of `bytes` zeros, on disk. NULL with errno. */
reference *reference_open(const char *path, uint64_t bytes)
{
    static const char zeros[1 << 16];
    reference *file = calloc(1, sizeof *file);
    if (file == NULL) return NULL;
    pthread_mutex_init(&file->lock, NULL);
    pthread_cond_init(&file->flushed, NULL);
    file->fd = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    int failed = file->fd < 0;
    for (uint64_t at = 0; !failed && at < bytes; at += sizeof zeros)
        failed = pwrite(file->fd, zeros, sizeof zeros, (off_t)at) != (ssize_t)sizeof zeros;
    if (!failed && fsync(file->fd) == 0) return file;
    int error = errno;
    if (file->fd >= 0) close(file->fd);
    free(file);
    errno = error;
    return NULL;
}

void reference_close(reference *file)
{
    close(file->fd);
    free(file);
}

/* One write and one flush. 0 or an errno. */
int reference_put(reference *file, const void *record, size_t length)
{
    if (pwrite(file->fd, record, length, (off_t)file->end) != (ssize_t)length) return errno;
    file->end += length;
    return fdatasync(file->fd) == 0 ? 0 : errno;
}

/* Nothing, the write alone, the flush alone: the steps of a profile. */
int reference_nothing(reference *file, const void *record, size_t length)
{
    (void)file;
    (void)record;
    (void)length;
    return 0;
}

int reference_write(reference *file, const void *record, size_t length)
{
    if (pwrite(file->fd, record, length, (off_t)file->end) != (ssize_t)length) return errno;
    file->end += length;
    return 0;
}

int reference_flush(reference *file) { return fdatasync(file->fd) == 0 ? 0 : errno; }

/* The same from many threads: one leader flushes for all who wait. Records are written as they come. */
int reference_group_put(reference *file, const void *record, size_t length)
{
    pthread_mutex_lock(&file->lock);
    if (pwrite(file->fd, record, length, (off_t)file->end) != (ssize_t)length) file->error = errno;
    file->end += length;
    const uint64_t wanted = file->end;
    while (file->error == 0 && file->durable < wanted) {
        if (file->flushing) {
            pthread_cond_wait(&file->flushed, &file->lock);
            continue;
        }
        file->flushing = 1;
        const uint64_t covered = file->end;
        pthread_mutex_unlock(&file->lock);
        int error = fdatasync(file->fd) == 0 ? 0 : errno;
        pthread_mutex_lock(&file->lock);
        file->flushing = 0;
        file->error = error;
        if (error == 0) file->durable = covered;
        pthread_cond_broadcast(&file->flushed);
    }
    int error = file->error;
    pthread_mutex_unlock(&file->lock);
    return error;
}
