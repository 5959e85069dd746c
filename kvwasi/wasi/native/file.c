#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __APPLE__
#include <mach/vm_inherit.h>
#include <sys/mount.h>
#else
#include <sys/vfs.h>
#endif

#include "fault.h"
#include "os.h"

#define PAGE_SHIFT 12
#define NO_PAGE UINT64_MAX
#define WINDOW_STEP (64ull << 20) /* bytes of address space, which cost nothing until touched */
#define WINDOW_BYTES_MAX (1ull << 40)
/* Above these sizes a system call costs less than the page faults of a copy. */
#define WINDOW_READ_MAX (128u << 10)
#define WINDOW_WRITE_MAX 2048u
/* In units of what a pwrite costs more than a store to a page already written: the first store to a page
 * after a flush is a fault with the file system's bookkeeping. */
#define FAULT_COST 8u
#define CREDIT_MAX 64u

/* Far beyond the bytes that programs lock for themselves; a lock of a whole file covers it. */
#define LOCK_BYTE (INT64_MAX - 1)

static kvw_file **bucket_of(kvw_host *host, ino_t inode) { return &host->files[inode % KVW_FILE_BUCKETS]; }

kvw_file *kvw_file_find(kvw_host *host, const struct stat *st)
{
    kvw_file *file = *bucket_of(host, st->st_ino);
    while (file && (file->inode != st->st_ino || file->device != st->st_dev))
        file = file->next;
    return file;
}

kvw_file *kvw_file_acquire(kvw_host *host, const struct stat *st)
{
    kvw_file *file = kvw_file_find(host, st);
    if (file) {
        if (file == host->parked)
            host->parked = NULL;
        file->references++;
        file->lock_refused = false;
        file->size = (uint64_t)st->st_size;
        return file;
    }
    file = calloc(1, sizeof *file);
    if (!file)
        return NULL;
    kvw_file **bucket = bucket_of(host, st->st_ino);
    file->host = host;
    file->device = st->st_dev;
    file->inode = st->st_ino;
    file->references = 1;
    file->size = (uint64_t)st->st_size;
    file->last_page = NO_PAGE;
    file->lock_fd = -1;
    file->next = *bucket;
    *bucket = file;
    return file;
}

static void set_ends(kvw_file *file)
{
    bool usable = file->window && file->lock_fd >= 0;
    file->readable_end = usable ? file->window_length : 0;
    file->writable_end = usable && file->window_writable && file->lock_writes ? file->window_length : 0;
}

static void unmap(kvw_file *file)
{
    if (file->window)
        munmap(file->window, file->window_length);
    file->window = NULL;
    set_ends(file);
}

static int set_lock(int os_fd, short type)
{
    struct flock request = {.l_type = type, .l_whence = SEEK_SET, .l_start = LOCK_BYTE, .l_len = 1};
    return fcntl(os_fd, F_OFD_SETLK, &request) < 0 ? errno : 0;
}

static void unlock(kvw_file *file)
{
    set_lock(file->lock_fd, F_UNLCK); /* a child process may have the descriptor, too */
    file->lock_fd = -1;
    set_ends(file);
}

/* Have the lock under which the window may be read, or also written. Two hosts may read a file through
 * their windows; one that stores through its own is alone. False: somebody else has it, and this host uses
 * the file as in shared mode until it is opened anew. */
static bool lock(kvw_file *file, int os_fd, bool writes)
{
    if (file->lock_fd >= 0 && (file->lock_writes || !writes))
        return true;
    if (file->lock_refused)
        return false;
    if (!writes && file->host->alongside) {
        file->lock_fd = os_fd; /* as if it were locked */
        return true;
    }
    if (file->lock_fd >= 0 && file->lock_fd != os_fd)
        unlock(file); /* it would be in the way of the other descriptor's */
    int error = set_lock(os_fd, writes ? F_WRLCK : F_RDLCK);
    file->lock_refused = error == EAGAIN || error == EACCES;
    if (file->lock_refused)
        return false;
    file->lock_fd = os_fd; /* also where the file system has no locks */
    file->lock_writes = writes;
    return true;
}

/* Whether it has no name any more: nobody can open it again, and its blocks wait for the last who uses them. */
static bool is_nameless(int os_fd)
{
    struct stat found;
    return fstat(os_fd, &found) == 0 && found.st_nlink == 0;
}

void kvw_file_release(kvw_host *host, kvw_file *file, int os_fd)
{
    if (file->lock_fd == os_fd)
        unlock(file); /* the next access through another descriptor takes it again */
    if (--file->references > 0)
        return;
    kvw_file_unpark(host);
    host->parked =
        file; /* an inode that is mapped is not given to another file, so (dev, ino) stays its name */
    if (!file->window || is_nameless(os_fd))
        kvw_file_unpark(host);
}

void kvw_file_unpark(kvw_host *host)
{
    kvw_file *file = host->parked;
    if (!file)
        return;
    host->parked = NULL;
    kvw_file **link = bucket_of(host, file->inode);
    while (*link != file)
        link = &(*link)->next;
    *link = file->next;
    unmap(file);
    free(file);
}

/* Network, FUSE and stacked file systems do not promise that mappings and system calls see one page cache. */
bool kvw_file_is_coherent(int os_fd)
{
    struct statfs fs;
    if (fstatfs(os_fd, &fs) < 0)
        return false;
#ifdef __APPLE__
    return !strcmp(fs.f_fstypename, "apfs") || !strcmp(fs.f_fstypename, "hfs");
#else
    static const unsigned long incoherent[] = {
        0x6969,     /* NFS */
        0xff534d42, /* CIFS */
        0xfe534d42, /* SMB2 */
        0x517b,     /* SMB */
        0x65735546, /* FUSE */
        0x01021997, /* 9P */
        0x794c7630, /* overlay */
        0x5346414f, /* AFS */
        0x00c36400, /* Ceph */
        0x47504653, /* GPFS */
        0x0bd00bd0, /* Lustre */
    };
    for (size_t i = 0; i < sizeof incoherent / sizeof *incoherent; i++)
        if ((unsigned long)(unsigned)fs.f_type == incoherent[i])
            return false;
    return true;
#endif
}

/* Map at least `end` bytes. False: the file stays unmapped for good. */
static bool map(kvw_file *file, int os_fd, uint64_t end, bool writable)
{
    uint64_t length = ((end | 1) * 2 + WINDOW_STEP - 1) / WINDOW_STEP * WINDOW_STEP;
    unmap(file);
    if (end > WINDOW_BYTES_MAX || !kvw_file_is_coherent(os_fd) || !kvw_fault_install()) {
        file->unmappable = true;
        return false;
    }
    int protection = writable ? PROT_READ | PROT_WRITE : PROT_READ;
    void *window = mmap(NULL, (size_t)length, protection, MAP_SHARED, os_fd, 0);
    if (window == MAP_FAILED) {
        file->unmappable = true;
        return false;
    }
    /* A child's copy would hold the lock that goes with the window. */
#ifdef __APPLE__
    minherit(window, (size_t)length, VM_INHERIT_NONE);
#else
    madvise(window, (size_t)length, MADV_DONTFORK);
#endif
    file->window = window;
    file->window_length = (size_t)length;
    file->window_writable = writable;
    return true;
}

/* Have a window of at least `end` bytes and the lock for it. */
static bool open_window(kvw_file *file, int os_fd, uint64_t end, bool writable)
{
    if (file->unmappable || !lock(file, os_fd, writable))
        return false;
    if (!file->window || end > file->window_length || (writable && !file->window_writable)) {
        /* One that was writable is mapped again for reading only: the next write that wants it tells. */
        if (!map(file, os_fd, file->size, writable))
            return false;
    }
    set_ends(file);
    return true;
}

static bool copy_parts(kvw_file *file, uint64_t offset, const struct iovec *parts, int count, bool out)
{
    uint8_t *at = file->window + offset;
    for (int i = 0; i < count; i++) {
        void *part = parts[i].iov_base;
        size_t length = parts[i].iov_len;
        if (!kvw_fault_copy(out ? part : at, out ? at : part, length, file->window, file->window_length))
            return false;
        at += length;
    }
    return true;
}

/* Somebody cut the file: its size is asked for anew, for stores past its end would be lost without a
 * fault. False. */
static bool faulted(kvw_file *file, int os_fd)
{
    struct stat st;
    if (kvw_os_fstat(os_fd, &st) == 0)
        file->size = (uint64_t)st.st_size;
    return false;
}

bool kvw_file_read(kvw_file *file, int os_fd, uint64_t offset, const struct iovec *parts, int count,
                   uint64_t total)
{
    if (total > file->size || offset > file->size - total || total > WINDOW_READ_MAX ||
        total == 0)
        return false;
    if (KVW_UNLIKELY(offset + total > file->readable_end) &&
        !open_window(file, os_fd, offset + total, false))
        return false;
    return copy_parts(file, offset, parts, count, true) || faulted(file, os_fd);
}

/* A store to a page already stored to since the last flush costs nothing; the first store costs a fault,
 * more than a pwrite. So a page is stored to only after a run of writes to pages already written has shown
 * that more will follow. */
static bool window_pays(kvw_file *file, uint64_t offset, uint64_t total)
{
    uint64_t first = offset >> PAGE_SHIFT;
    uint64_t last = (offset + total - 1) >> PAGE_SHIFT;
    unsigned flushes = atomic_load_explicit(&file->flushes, memory_order_relaxed);
    if (flushes != file->flushes_seen) {
        file->flushes_seen = flushes;
        file->hot_first = file->hot_end = 0;
        file->last_page = NO_PAGE;
    }
    bool hot = first >= file->hot_first && last < file->hot_end;
    if ((hot || first == file->last_page) && file->credit < CREDIT_MAX)
        file->credit++;
    file->last_page = last;
    if (hot)
        return true;
    if (file->credit < FAULT_COST)
        return false;
    file->credit -= FAULT_COST;
    if (file->hot_first == file->hot_end || first > file->hot_end || last + 1 < file->hot_first) {
        file->hot_first = first;
        file->hot_end = last + 1;
    } else {
        file->hot_first = first < file->hot_first ? first : file->hot_first;
        file->hot_end = last + 1 > file->hot_end ? last + 1 : file->hot_end;
    }
    return true;
}

bool kvw_file_write(kvw_file *file, int os_fd, uint64_t offset, const struct iovec *parts, int count,
                    uint64_t total)
{
    if (total > file->size || offset > file->size - total || total > WINDOW_WRITE_MAX || total == 0)
        return false;
    if (file->unmappable || !window_pays(file, offset, total))
        return false;
    if (KVW_UNLIKELY(offset + total > file->writable_end) &&
        !open_window(file, os_fd, offset + total, true))
        return false;
    if (!copy_parts(file, offset, parts, count, false))
        return faulted(file, os_fd);
    kvw_file_touched(file, os_fd);
    return true;
}

void kvw_file_touched(kvw_file *file, int os_fd)
{
    file->host->files_behind += !file->mtime_behind;
    file->mtime_behind = true;
    file->writer_fd = os_fd;
}

void kvw_file_settle(kvw_file *file)
{
    if (!file->mtime_behind)
        return;
    file->mtime_behind = false;
    file->host->files_behind--;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
    /* Only the owner may move mtime alone; who may write may set both. */
    if (kvw_os_futimens(file->writer_fd, times) < 0 && (errno == EPERM || errno == EACCES))
        kvw_os_futimens(file->writer_fd, NULL);
}
