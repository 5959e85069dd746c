/* What all of the conformance programs use: checks that name what they saw, and the calls with short arguments. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <wasi/api.h>

typedef __wasi_fd_t fd_t;

enum { ROOT = 3, NO_FD = 1000 }; /* the preopened directory; a descriptor that nobody has */

#define RIGHT(name) __WASI_RIGHTS_##name
#define ALL_FILE_RIGHTS                                                                                               \
    (RIGHT(FD_READ) | RIGHT(FD_WRITE) | RIGHT(FD_SEEK) | RIGHT(FD_TELL) | RIGHT(FD_FDSTAT_SET_FLAGS) |                \
     RIGHT(FD_SYNC) | RIGHT(FD_DATASYNC) | RIGHT(FD_ADVISE) | RIGHT(FD_ALLOCATE) | RIGHT(FD_FILESTAT_GET) |           \
     RIGHT(FD_FILESTAT_SET_SIZE) | RIGHT(FD_FILESTAT_SET_TIMES) | RIGHT(POLL_FD_READWRITE))
#define FOLLOW __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW

extern int checks, failures;
const char *errno_name(int error);

/* An errno that the call must give; the strict, POSIX one. */
#define FAILS(call, name) expect_errno(call, __WASI_ERRNO_##name, #call, __FILE__, __LINE__)
#define OK(call) expect_errno(call, __WASI_ERRNO_SUCCESS, #call, __FILE__, __LINE__)
#define IS(value, expected) expect_value((long long)(value), (long long)(expected), #value, __FILE__, __LINE__)
#define TRUE_(condition) expect_value((condition) ? 1 : 0, 1, #condition, __FILE__, __LINE__)
void expect_errno(int found, int expected, const char *what, const char *file, int line);
void expect_value(long long found, long long expected, const char *what, const char *file, int line);

/* Opens for everything that a file can do; `flags` are __WASI_OFLAGS_. */
int open_at(fd_t dir, const char *path, int oflags, __wasi_rights_t rights, int fdflags, fd_t *fd);
fd_t must_open(fd_t dir, const char *path, int oflags, __wasi_rights_t rights, int fdflags);
fd_t open_dir(fd_t dir, const char *path); /* with all rights that `dir` has */
void make_file(fd_t dir, const char *path, const char *content);
int try_open(fd_t dir, int lookup, const char *path, int oflags, __wasi_rights_t rights); /* and closes it again */
int try_read(fd_t fd, void *buffer, size_t size, size_t *read);
int try_write(fd_t fd, const char *text, size_t *written);
__wasi_filestat_t stat_of(fd_t dir, const char *path);
__wasi_filestat_t fstat_of(fd_t fd);
__wasi_fdstat_t fdstat_of(fd_t fd);

#define CREAT __WASI_OFLAGS_CREAT
#define EXCL __WASI_OFLAGS_EXCL
#define TRUNC __WASI_OFLAGS_TRUNC
#define DIRECTORY __WASI_OFLAGS_DIRECTORY

#endif
