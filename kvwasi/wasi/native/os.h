/* The OS's calls. On Linux those that the data plane makes often are the C library's, or on x86-64 the bare
 * instruction, which is no point of thread cancellation and can be followed by a refill of the processor's return
 * stack (os.c says why). Each behaves like the C library's function of its name: -1 and errno.
 *
 * This is the one place where it matters which system it is: what Linux has beyond POSIX is made of POSIX's means
 * elsewhere (os_posix.c), and on Linux, too, when it is built with KVW_PORTABLE, so that it can be tested there. */
#ifndef KVW_OS_H
#define KVW_OS_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#if defined(__linux__) && !defined(KVW_PORTABLE)
#define KVW_OS_LINUX 1
#include <linux/openat2.h>
#include <sys/syscall.h>
#ifndef RWF_DSYNC /* older headers lack them */
#define RWF_DSYNC 0x2
#define RWF_SYNC 0x4
#endif
#ifndef RWF_NOAPPEND
#define RWF_NOAPPEND 0x20
#endif
#else
#define KVW_OS_LINUX 0
#include "os_posix.h"
#endif

#ifdef __APPLE__ /* has them under the names that they had before POSIX */
#define st_atim st_atimespec
#define st_mtim st_mtimespec
#define st_ctim st_ctimespec
#endif

/* Opens a directory to go through it, which needs no right to list it. On Linux also anything else, to stat it. */
#if KVW_OS_LINUX
#define KVW_O_PATH O_PATH
#elif defined(O_SEARCH)
#define KVW_O_PATH O_SEARCH
#else
#define KVW_O_PATH O_DIRECTORY
#endif

/* How far a write is on disk when it returns, and that its place counts although the descriptor appends. */
#define KVW_OS_DSYNC 1u
#define KVW_OS_SYNC 2u
#define KVW_OS_NOAPPEND 4u

/* An entry of a directory, as getdents64(2) has it; no header declares it. */
typedef struct kvw_os_entry {
    uint64_t inode;
    int64_t next;   /* the cookie of the entry behind */
    uint16_t bytes; /* of this one */
    uint8_t type;   /* DT_* */
    char name[];
} kvw_os_entry;

/* The sanitizers check what the C library's functions are given. */
#if KVW_OS_LINUX && defined(__x86_64__) && defined(__LP64__) && !defined(__SANITIZE_ADDRESS__)
#define KVW_OS_BARE 1
#else
#define KVW_OS_BARE 0
#endif

/* Whether the return stack is refilled after each call: what kvw_os_tune() found faster. */
extern bool kvw_os_refills;
/* Time both ways, some 0.2 ms, and take the faster one for this process. */
void kvw_os_tune(void);

#if KVW_OS_BARE

/* More than there are frames between a host call and the guest's own. */
#define KVW_OS_REFILL_CALLS "16"

static inline __attribute__((always_inline)) void kvw_os_refill(void)
{
    /* 128: the red zone, which may be in use. The calls' return addresses are dropped, never returned to. */
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
                     ".rept " KVW_OS_REFILL_CALLS "\n\t"
                     "call 771f\n\t"
                     "int3\n"
                     "771:\n\t"
                     ".endr\n\t"
                     "lea 128 + 8 * " KVW_OS_REFILL_CALLS "(%%rsp), %%rsp" ::
                         : "memory");
}

/* The result, or minus an errno. */
static inline __attribute__((always_inline)) long kvw_os_bare(long number, long a, long b, long c, long d,
                                                              long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    if (kvw_os_refills)
        kvw_os_refill();
    return result;
}

static inline __attribute__((always_inline)) long kvw_os_result(long result)
{
    if (__builtin_expect((unsigned long)result > -4096ul, 0)) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

#define KVW_OS_CALL5(type, libc, number, a, b, c, d, e)                                                      \
    return (type)kvw_os_result(                                                                              \
        kvw_os_bare(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e)))
#else
#define KVW_OS_CALL5(type, libc, number, a, b, c, d, e) return libc
#endif
#define KVW_OS_CALL(type, libc, number, a, b, c, d) KVW_OS_CALL5(type, libc, number, a, b, c, d, 0)

static inline ssize_t kvw_os_read(int fd, void *to, size_t length)
{
    KVW_OS_CALL(ssize_t, read(fd, to, length), SYS_read, fd, to, length, 0);
}
static inline ssize_t kvw_os_write(int fd, const void *from, size_t length)
{
    KVW_OS_CALL(ssize_t, write(fd, from, length), SYS_write, fd, from, length, 0);
}
static inline ssize_t kvw_os_readv(int fd, const struct iovec *parts, int count)
{
    KVW_OS_CALL(ssize_t, readv(fd, parts, count), SYS_readv, fd, parts, count, 0);
}
static inline ssize_t kvw_os_writev(int fd, const struct iovec *parts, int count)
{
    KVW_OS_CALL(ssize_t, writev(fd, parts, count), SYS_writev, fd, parts, count, 0);
}
static inline ssize_t kvw_os_pread(int fd, void *to, size_t length, off_t offset)
{
    KVW_OS_CALL(ssize_t, pread(fd, to, length, offset), SYS_pread64, fd, to, length, offset);
}
static inline ssize_t kvw_os_pwrite(int fd, const void *from, size_t length, off_t offset)
{
    KVW_OS_CALL(ssize_t, pwrite(fd, from, length, offset), SYS_pwrite64, fd, from, length, offset);
}
static inline ssize_t kvw_os_preadv(int fd, const struct iovec *parts, int count, off_t offset)
{
    KVW_OS_CALL(ssize_t, preadv(fd, parts, count, offset), SYS_preadv, fd, parts, count, offset);
}
static inline ssize_t kvw_os_pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    KVW_OS_CALL(ssize_t, pwritev(fd, parts, count, offset), SYS_pwritev, fd, parts, count, offset);
}
static inline off_t kvw_os_lseek(int fd, off_t offset, int whence)
{
    KVW_OS_CALL(off_t, lseek(fd, offset, whence), SYS_lseek, fd, offset, whence, 0);
}
static inline int kvw_os_close(int fd) { KVW_OS_CALL(int, close(fd), SYS_close, fd, 0, 0, 0); }
static inline int kvw_os_fstat(int fd, struct stat *st)
{
    KVW_OS_CALL(int, fstat(fd, st), SYS_fstat, fd, st, 0, 0);
}
static inline int kvw_os_fstatat(int directory, const char *path, struct stat *st, int flags)
{
    KVW_OS_CALL(int, fstatat(directory, path, st, flags), SYS_newfstatat, directory, path, st, flags);
}
static inline int kvw_os_ftruncate(int fd, off_t size)
{
    KVW_OS_CALL(int, ftruncate(fd, size), SYS_ftruncate, fd, size, 0, 0);
}
static inline int kvw_os_fallocate(int fd, off_t offset, off_t length)
{
#if KVW_OS_LINUX
    KVW_OS_CALL(int, fallocate(fd, 0, offset, length), SYS_fallocate, fd, 0, offset, length);
#else
    return kvw_posix_fallocate(fd, offset, length);
#endif
}
static inline int kvw_os_futimens(int fd, const struct timespec *times)
{
    KVW_OS_CALL(int, futimens(fd, times), SYS_utimensat, fd, 0, times, 0);
}
static inline int kvw_os_utimensat(int directory, const char *path, const struct timespec *times, int flags)
{
    KVW_OS_CALL(int, utimensat(directory, path, times, flags), SYS_utimensat, directory, path, times, flags);
}
static inline ssize_t kvw_os_readlinkat(int directory, const char *path, char *to, size_t size)
{
    KVW_OS_CALL(ssize_t, readlinkat(directory, path, to, size), SYS_readlinkat, directory, path, to, size);
}
/* posix_fadvise with its errno in errno; `advice` is one of preview1's. Where there is no such call it is only advice. */
static inline int kvw_os_fadvise(int fd, off_t offset, off_t length, uint32_t advice)
{
#ifdef POSIX_FADV_NORMAL
    static const int advices[] = {POSIX_FADV_NORMAL,   POSIX_FADV_SEQUENTIAL, POSIX_FADV_RANDOM,
                                  POSIX_FADV_WILLNEED, POSIX_FADV_DONTNEED,   POSIX_FADV_NOREUSE};
    KVW_OS_CALL(int, (errno = posix_fadvise(fd, offset, length, advices[advice])) ? -1 : 0, SYS_fadvise64, fd, offset,
                length, advices[advice]);
#else
    (void)fd;
    (void)offset;
    (void)length;
    (void)advice;
    return 0;
#endif
}

/* Have all that is known of the file on disk, or only the bytes and what is needed to find them. */
static inline int kvw_os_sync(int fd, bool data_only)
{
#if KVW_OS_LINUX
    return data_only ? fdatasync(fd) : fsync(fd);
#else
    (void)data_only;
    return kvw_posix_sync(fd);
#endif
}

/* Write at `offset`, or where the descriptor stands (-1), with KVW_OS_* flags. */
static inline ssize_t kvw_os_pwritev_with(int fd, const struct iovec *parts, int count, off_t offset, uint32_t flags)
{
    ssize_t result;
#if KVW_OS_LINUX
    const int sync = flags & KVW_OS_SYNC ? RWF_SYNC : flags & KVW_OS_DSYNC ? RWF_DSYNC : 0;
    const int place = flags & KVW_OS_NOAPPEND ? RWF_NOAPPEND : 0;
    result = pwritev2(fd, parts, count, offset, sync | place);
    /* Before Linux 6.9 a positioned write to an O_APPEND descriptor appends. */
    if (result < 0 && errno == EOPNOTSUPP && place)
        result = pwritev2(fd, parts, count, offset, sync);
    if (result >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS))
        return result;
#endif
    /* A positioned write does not append, says POSIX. */
    result = offset < 0 ? writev(fd, parts, count) : pwritev(fd, parts, count, offset);
    const bool sync_too = flags & (KVW_OS_DSYNC | KVW_OS_SYNC);
    return result > 0 && sync_too && kvw_os_sync(fd, !(flags & KVW_OS_SYNC)) < 0 ? -1 : result;
}

/* Begin to write dirty pages to the device, without waiting for any (but for room in its queue). What fails the next fdatasync
 * tells: sync_file_range(2) does not take errors off the file when it is not asked to wait. */
static inline void kvw_os_write_behind(int fd)
{
#ifdef SYNC_FILE_RANGE_WRITE
    (void)sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#else
    (void)fd;
#endif
}

static inline int kvw_os_openat(int directory, const char *path, int flags, mode_t mode)
{
    KVW_OS_CALL(int, openat(directory, path, flags, mode), SYS_openat, directory, path, flags, mode);
}
/* openat2, which has no function in most C libraries, beneath `directory`. ENOSYS where there is none. */
static inline int kvw_os_open_beneath(int directory, const char *path, int flags, mode_t mode)
{
#if KVW_OS_LINUX
    struct open_how how = {
        .flags = (uint64_t)(unsigned)flags,
        .mode = flags & O_CREAT ? mode : 0,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
    };
    KVW_OS_CALL(int, (int)syscall(SYS_openat2, directory, path, &how, sizeof how), SYS_openat2, directory, path, &how,
                sizeof how);
#else
    (void)directory;
    (void)path;
    (void)flags;
    (void)mode;
    errno = ENOSYS;
    return -1;
#endif
}

/* The times of what was opened with KVW_O_PATH; only for Linux. EINVAL: not before 5.8. */
static inline int kvw_os_path_utimens(int fd, const struct timespec *times)
{
#if KVW_OS_LINUX
    return kvw_os_utimensat(fd, "", times, AT_EMPTY_PATH);
#else
    return kvw_os_futimens(fd, times);
#endif
}

/* List the open directory `fd`: whole kvw_os_entry from where the last call ended; 0 bytes at the end. `stream`, at first NULL,
 * is the listing's own and ends with kvw_os_list_end. */
static inline ssize_t kvw_os_list(void **stream, int fd, void *to, size_t size)
{
#if KVW_OS_LINUX
    (void)stream;
    KVW_OS_CALL(ssize_t, syscall(SYS_getdents64, fd, to, size), SYS_getdents64, fd, to, size, 0);
#else
    return kvw_posix_list(stream, fd, to, size);
#endif
}
/* Go on with the entry that `cookie` names; 0: with the first. */
static inline int kvw_os_list_from(void **stream, int fd, uint64_t cookie)
{
#if KVW_OS_LINUX
    (void)stream;
    return kvw_os_lseek(fd, (off_t)cookie, SEEK_SET) < 0 ? -1 : 0;
#else
    return kvw_posix_list_from(stream, fd, cookie);
#endif
}
static inline void kvw_os_list_end(void *stream)
{
#if KVW_OS_LINUX
    (void)stream;
#else
    kvw_posix_list_end(stream);
#endif
}

/* `timeout` NULL: for ever. */
static inline int kvw_os_poll(struct pollfd *fds, uint32_t count, const struct timespec *timeout)
{
#if KVW_OS_LINUX
    return ppoll(fds, count, timeout, NULL);
#else
    return kvw_posix_poll(fds, count, timeout);
#endif
}

static inline int kvw_os_accept(int fd, bool nonblocking)
{
#if KVW_OS_LINUX
    return accept4(fd, NULL, NULL, SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0));
#else
    return kvw_posix_accept(fd, nonblocking);
#endif
}

static inline int kvw_os_mkdirat(int directory, const char *path, mode_t mode)
{
    KVW_OS_CALL(int, mkdirat(directory, path, mode), SYS_mkdirat, directory, path, mode, 0);
}
static inline int kvw_os_unlinkat(int directory, const char *path, int flags)
{
    KVW_OS_CALL(int, unlinkat(directory, path, flags), SYS_unlinkat, directory, path, flags, 0);
}
static inline int kvw_os_symlinkat(const char *target, int directory, const char *path)
{
    KVW_OS_CALL(int, symlinkat(target, directory, path), SYS_symlinkat, target, directory, path, 0);
}
static inline int kvw_os_renameat(int from, const char *old_name, int to, const char *new_name)
{
    KVW_OS_CALL(int, renameat(from, old_name, to, new_name), SYS_renameat, from, old_name, to, new_name);
}
static inline int kvw_os_linkat(int from, const char *old_name, int to, const char *new_name, int flags)
{
    KVW_OS_CALL5(int, linkat(from, old_name, to, new_name, flags), SYS_linkat, from, old_name, to,
                 new_name, flags);
}

#undef KVW_OS_CALL
#undef KVW_OS_CALL5
#endif
