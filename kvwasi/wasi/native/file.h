/* A regular file in exclusive mode: what all descriptors of one inode share, and the window onto its
 * bytes. */
#ifndef KVW_FILE_H
#define KVW_FILE_H

#include "host.h"

struct kvw_file {
    kvw_host *host;
    kvw_file *next;
    dev_t device;
    ino_t inode;
    uint32_t references;
    bool unmappable; /* its file system, or the OS, does not give a coherent mapping */
    bool window_writable;
    bool mtime_behind; /* written through the window since the last kvw_file_settle */
    int writer_fd;     /* while mtime_behind: the OS's descriptor of the last such write */
    uint64_t size;     /* as this host knows it; the window is never touched past it */
    uint8_t
        *window; /* maps the file from its start, far past its end, so that growth seldom remaps; or NULL */
    size_t window_length;
    /* Nobody else who takes the same lock has a window that this one would disturb: see lock() in file.c. */
    int lock_fd; /* the descriptor that holds it, -1: none, and the window is not used */
    bool lock_writes;
    bool lock_refused; /* since the file was opened last */
    /* How far a copy may reach from and to the window: 0 without the lock for it. */
    uint64_t readable_end;
    uint64_t writable_end;
    /* Which writes pay through the window, see window_pays(). */
    atomic_uint flushes; /* counted by any thread */
    unsigned flushes_seen;
    uint32_t credit;
    uint64_t last_page;
    uint64_t hot_first; /* pages [hot_first, hot_end) were stored to since the last flush */
    uint64_t hot_end;
};

/* The object of the inode, with one more reference and the size of `st`. NULL: no memory. */
kvw_file *kvw_file_acquire(kvw_host *host, const struct stat *st);
/* `os_fd`: the descriptor of the reference that goes, still open. */
void kvw_file_release(kvw_host *host, kvw_file *file, int os_fd);
/* Let go of the file that is kept after its last close: it may have lost its name. */
void kvw_file_unpark(kvw_host *host);

/* Copy [offset, offset + length of parts) out of the window. False: it is not wholly within the known
 * size, or cannot be had: read through the OS. */
bool kvw_file_read(kvw_file *file, int os_fd, uint64_t offset, const struct iovec *parts, int count,
                   uint64_t total);
/* Store the parts through the window if that is the cheaper way. False: write through the OS. */
bool kvw_file_write(kvw_file *file, int os_fd, uint64_t offset, const struct iovec *parts, int count,
                    uint64_t total);
/* Whether mappings of the file and system calls see the same bytes. */
bool kvw_file_is_coherent(int os_fd);

static inline void kvw_file_grown_to(kvw_file *file, uint64_t size)
{
    if (size > file->size)
        file->size = size;
}
/* After a flush a page is write-protected anew. */
static inline void kvw_file_flushed(kvw_file *file)
{
    atomic_fetch_add_explicit(&file->flushes, 1, memory_order_relaxed);
}
/* It was changed through `os_fd` without the OS's noticing: kvw_file_settle() is due. */
void kvw_file_touched(kvw_file *file, int os_fd);
/* Stores to a mapping move mtime only at their first fault: bring it up to date before it is looked at. */
void kvw_file_settle(kvw_file *file);

/* The object of an inode that is open in exclusive mode, or NULL. */
kvw_file *kvw_file_find(kvw_host *host, const struct stat *st);

#endif
