/* Time each file call in a loop. On WASI the calls are made directly, natively they are the system calls
 * that a C program would make for the same; for paths also with the confinement that a host owes
 * ("confined"). argv[1] scales the loops. Prints a line for each call: its name, the variant and the
 * nanoseconds a call took in each of the loops, with tabs between them. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __wasi__
#include <wasi/api.h>
#define ROOT 3
#else
#include <linux/openat2.h>
#include <sys/syscall.h>
static int root;
#define ROOT root
#endif

static int file; /* 64 KiB */
static char buffer[65536];
static volatile int confined;

static void check(int failed, const char *what)
{
    if (failed) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

#ifdef __wasi__
#define DO(wasi, native) check((wasi) != 0, #wasi)
#else
#define DO(wasi, native) check((native) < 0, #native)
#endif

#ifdef __wasi__
static __wasi_errno_t transfer(int writing, size_t length, int positioned)
{
    size_t moved;
    __wasi_iovec_t to = {(uint8_t *)buffer, length};
    __wasi_ciovec_t from = {(uint8_t *)buffer, length};
    if (positioned)
        return writing ? __wasi_fd_pwrite(file, &from, 1, 4096, &moved)
                       : __wasi_fd_pread(file, &to, 1, 4096, &moved);
    return writing ? __wasi_fd_write(file, &from, 1, &moved) : __wasi_fd_read(file, &to, 1, &moved);
}

static __wasi_errno_t open_close(const char *path, __wasi_oflags_t oflags)
{
    __wasi_fd_t fd;
    __wasi_rights_t rights = __WASI_RIGHTS_FD_READ;
    __wasi_errno_t error =
        __wasi_path_open(ROOT, __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW, path, oflags, rights, rights, 0, &fd);
    return error ? error : __wasi_fd_close(fd);
}

static __wasi_errno_t wasi_seek(int64_t offset, int whence)
{
    __wasi_filesize_t at;
    return __wasi_fd_seek(file, offset, (__wasi_whence_t)whence, &at);
}
#else
static int beneath(const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned)flags | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, root, path, &how, sizeof how);
}

/* The directory in which `path`'s last component lives, and that component. */
static int parent(const char *path, const char **name)
{
    const char *slash = strrchr(path, '/');
    char directory[256];
    *name = slash ? slash + 1 : path;
    if (!slash)
        return root;
    memcpy(directory, path, (size_t)(slash - path));
    directory[slash - path] = 0;
    return beneath(directory, O_PATH | O_DIRECTORY);
}

static int leave(int directory, int result)
{
    if (directory != root)
        close(directory);
    return result;
}

static int open_close(const char *path, int flags)
{
    int fd = confined ? beneath(path, flags) : openat(root, path, flags | O_CLOEXEC);
    return fd < 0 ? fd : close(fd);
}

static int stat_path(const char *path)
{
    struct stat st;
    if (!confined)
        return fstatat(root, path, &st, 0);
    int fd = beneath(path, O_PATH);
    int result = fd < 0 ? fd : fstat(fd, &st);
    close(fd);
    return result;
}

static int on_name(const char *path, int (*operation)(int, const char *))
{
    const char *name;
    if (!confined)
        return operation(root, path);
    int directory = parent(path, &name);
    return leave(directory, operation(directory, name));
}

static int do_mkdir(int directory, const char *name) { return mkdirat(directory, name, 0777); }
static int do_rmdir(int directory, const char *name) { return unlinkat(directory, name, AT_REMOVEDIR); }
static int do_unlink(int directory, const char *name) { return unlinkat(directory, name, 0); }
static int do_symlink(int directory, const char *name) { return symlinkat("target", directory, name); }
static int do_readlink(int directory, const char *name)
{
    return (int)readlinkat(directory, name, buffer, sizeof buffer);
}
static int do_times(int directory, const char *name)
{
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 2}};
    return utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW);
}

static int on_names(const char *from, const char *to, int linking)
{
    const char *old_name = from;
    const char *new_name = to;
    int old = confined ? parent(from, &old_name) : root;
    int new = confined ? parent(to, &new_name) : root;
    int result = linking ? linkat(old, old_name, new, new_name, 0) : renameat(old, old_name, new, new_name);
    return leave(old, leave(new, result));
}
#endif

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static int loops;

/* `body` is one call, or a pair that leaves the tree as it was. A first loop warms up. */
#define TIME(name, count, body)                                                                              \
    do {                                                                                                     \
        int rounds_ = (count) * loops;                                                                       \
        printf("%s\t%s", name, confined ? "confined" : "bare");                                              \
        for (int r_ = 0; r_ < 6; r_++) {                                                                     \
            double start_ = now();                                                                           \
            for (int i_ = 0; i_ < rounds_; i_++) {                                                           \
                body;                                                                                        \
            }                                                                                                \
            if (r_ > 0)                                                                                      \
                printf("\t%.1f", (now() - start_) / rounds_);                                                \
        }                                                                                                    \
        putchar('\n');                                                                                       \
    } while (0)

static void time_descriptors(void)
{
#ifdef __wasi__
    __wasi_filestat_t filestat;
    __wasi_fdstat_t fdstat;
    __wasi_filesize_t at;
#else
    struct stat st;
    struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 2}};
#endif
    TIME("fd_seek", 2000, DO(wasi_seek(i_ & 1023, SEEK_SET), lseek(file, i_ & 1023, SEEK_SET)));
    TIME("fd_tell", 2000, DO(__wasi_fd_tell(file, &at), lseek(file, 0, SEEK_CUR)));
    TIME("fd_pread 13", 2000, DO(transfer(0, 13, 1), pread(file, buffer, 13, 4096)));
    TIME("fd_pread 4096", 2000, DO(transfer(0, 4096, 1), pread(file, buffer, 4096, 4096)));
    TIME("fd_pwrite 13", 500, DO(transfer(1, 13, 1), pwrite(file, buffer, 13, 4096)));
    TIME("fd_pwrite 4096", 500, DO(transfer(1, 4096, 1), pwrite(file, buffer, 4096, 4096)));
    DO(wasi_seek(0, SEEK_SET), lseek(file, 0, SEEK_SET));
    TIME("fd_read 1", 1000, DO(transfer(0, 1, 0), read(file, buffer, 1)));
    DO(wasi_seek(0, SEEK_SET), lseek(file, 0, SEEK_SET));
    TIME("fd_write 1", 500, DO(transfer(1, 1, 0), write(file, buffer, 1)));
    TIME("fd_filestat_get", 2000, DO(__wasi_fd_filestat_get(file, &filestat), fstat(file, &st)));
    TIME("fd_fdstat_get", 2000, DO(__wasi_fd_fdstat_get(file, &fdstat), fcntl(file, F_GETFL)));
    TIME("fd_fdstat_set_flags", 500,
         DO(__wasi_fd_fdstat_set_flags(file, (__wasi_fdflags_t)(i_ & 1)),
            fcntl(file, F_SETFL, fcntl(file, F_GETFL) ^ O_APPEND)));
    DO(__wasi_fd_fdstat_set_flags(file, 0), fcntl(file, F_SETFL, 0));
    TIME("fd_advise", 1000,
         DO(__wasi_fd_advise(file, 0, 0, 0), posix_fadvise(file, 0, 0, POSIX_FADV_NORMAL)));
#ifdef __wasi__
    if (__wasi_fd_allocate(file, 0, 4096) == 0) /* some hosts have none */
#endif
        TIME("fd_allocate", 500, DO(__wasi_fd_allocate(file, 0, 4096), fallocate(file, 0, 0, 4096)));
    TIME("fd_filestat_set_size", 300, DO(__wasi_fd_filestat_set_size(file, 65536), ftruncate(file, 65536)));
    TIME("fd_filestat_set_size, shorter and longer", 100, {
        DO(__wasi_fd_filestat_set_size(file, 61440), ftruncate(file, 61440));
        DO(__wasi_fd_filestat_set_size(file, 65536), ftruncate(file, 65536));
    });
    TIME("fd_filestat_set_times", 300,
         DO(__wasi_fd_filestat_set_times(file, 1, 2, 5), futimens(file, times)));
    TIME("fd_datasync, clean", 20, DO(__wasi_fd_datasync(file), fdatasync(file)));
}

static void time_paths(void)
{
#ifdef __wasi__
    __wasi_filestat_t st;
    size_t used;
#define NAME_CALL(call, path) __wasi_path_##call(ROOT, path)
#endif
    TIME("path_open + fd_close", 300, DO(open_close("file", 0), open_close("file", O_RDONLY)));
    TIME("path_open + fd_close a/b/f", 300, DO(open_close("a/b/f", 0), open_close("a/b/f", O_RDONLY)));
    TIME("path_filestat_get", 500, DO(__wasi_path_filestat_get(ROOT, 1, "file", &st), stat_path("file")));
    TIME("path_filestat_get a/b/f", 500,
         DO(__wasi_path_filestat_get(ROOT, 1, "a/b/f", &st), stat_path("a/b/f")));
    TIME("path_filestat_set_times a/b/f", 200,
         DO(__wasi_path_filestat_set_times(ROOT, 0, "a/b/f", 1, 2, 5), on_name("a/b/f", do_times)));
    TIME("path_readlink a/b/l", 300,
         DO(__wasi_path_readlink(ROOT, "a/b/l", (uint8_t *)buffer, 4096, &used),
            on_name("a/b/l", do_readlink)));
    TIME("path_create_directory + path_remove_directory a/b/d", 50, {
        DO(NAME_CALL(create_directory, "a/b/d"), on_name("a/b/d", do_mkdir));
        DO(NAME_CALL(remove_directory, "a/b/d"), on_name("a/b/d", do_rmdir));
    });
    TIME("path_symlink + path_unlink_file a/b/s", 50, {
        DO(__wasi_path_symlink("target", ROOT, "a/b/s"), on_name("a/b/s", do_symlink));
        DO(NAME_CALL(unlink_file, "a/b/s"), on_name("a/b/s", do_unlink));
    });
    TIME("path_link + path_unlink_file a/b/h", 50, {
        DO(__wasi_path_link(ROOT, 0, "file", ROOT, "a/b/h"), on_names("file", "a/b/h", 1));
        DO(NAME_CALL(unlink_file, "a/b/h"), on_name("a/b/h", do_unlink));
    });
    TIME("path_rename there and back", 50, {
        DO(__wasi_path_rename(ROOT, "a/b/f", ROOT, "a/g"), on_names("a/b/f", "a/g", 0));
        DO(__wasi_path_rename(ROOT, "a/g", ROOT, "a/b/f"), on_names("a/g", "a/b/f", 0));
    });
}

static void time_listing(void)
{
    int directory = open("many", O_RDONLY | O_DIRECTORY);
    check(directory < 0, "many");
    TIME("fd_readdir, 10,000 entries", 1, {
        long total = 0;
#ifdef __wasi__
        __wasi_dircookie_t cookie = 0;
        for (size_t used = sizeof buffer; used == sizeof buffer;) {
            check(__wasi_fd_readdir(directory, (uint8_t *)buffer, sizeof buffer, cookie, &used) != 0,
                  "readdir");
            for (size_t at = 0; at + sizeof(__wasi_dirent_t) <= used;) {
                __wasi_dirent_t entry;
                memcpy(&entry, buffer + at, sizeof entry);
                at += sizeof entry + entry.d_namlen;
                if (at <= used) {
                    cookie = entry.d_next;
                    total++;
                }
            }
        }
#else
        lseek(directory, 0, SEEK_SET);
        for (long got; (got = syscall(SYS_getdents64, directory, buffer, sizeof buffer)) > 0;)
            for (long at = 0; at < got; total++) {
                uint16_t bytes;
                memcpy(&bytes, buffer + at + 16, sizeof bytes);
                at += bytes;
            }
#endif
        check(total != 10002, "entries");
    });
    close(directory);
}

int main(int argc, char **argv)
{
    loops = argc > 1 ? atoi(argv[1]) : 1;
#ifndef __wasi__
    root = open(".", O_RDONLY | O_DIRECTORY);
#endif
    file = open("file", O_RDWR);
    check(file < 0, "file");
    time_descriptors();
    time_listing();
    time_paths();
#ifndef __wasi__
    confined = 1;
    time_paths();
#endif
    return 0;
}
