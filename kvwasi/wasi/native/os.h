/* The OS's calls that the data plane makes often: the C library's, or on x86-64 Linux the bare instruction,
 * which is no point of thread cancellation and can be followed by a refill of the processor's return stack
 * (os.c says why). Each behaves like the C library's function of its name: -1 and errno. */
#ifndef KVW_OS_H
#define KVW_OS_H

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* The sanitizers check what the C library's functions are given. */
#if defined(__linux__) && defined(__x86_64__) && defined(__LP64__) && !defined(__SANITIZE_ADDRESS__)
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
    KVW_OS_CALL(int, fallocate(fd, 0, offset, length), SYS_fallocate, fd, 0, offset, length);
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
/* posix_fadvise with its errno in errno. */
static inline int kvw_os_fadvise(int fd, off_t offset, off_t length, int advice)
{
    KVW_OS_CALL(int, (errno = posix_fadvise(fd, offset, length, advice)) ? -1 : 0, SYS_fadvise64, fd, offset,
                length, advice);
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
/* openat2 has no function in most C libraries. */
static inline int kvw_os_openat2(int directory, const char *path, const struct open_how *how)
{
    KVW_OS_CALL(int, (int)syscall(SYS_openat2, directory, path, how, sizeof *how), SYS_openat2, directory,
                path, how, sizeof *how);
}
static inline ssize_t kvw_os_getdents(int fd, void *to, size_t size)
{
    KVW_OS_CALL(ssize_t, syscall(SYS_getdents64, fd, to, size), SYS_getdents64, fd, to, size, 0);
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
