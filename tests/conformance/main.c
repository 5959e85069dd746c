/* conformance NAME: runs one group of checks in the empty preopened directory, which it leaves empty. */
#include "check.h"

int checks, failures;

static const struct {
    int error;
    const char *name;
} NAMES[] = {
#define NAME(name) {__WASI_ERRNO_##name, #name}
    NAME(SUCCESS), NAME(ACCES),  NAME(AGAIN),    NAME(BADF),     NAME(EXIST),       NAME(FAULT),  NAME(FBIG),
    NAME(ILSEQ),   NAME(INVAL),  NAME(IO),       NAME(ISDIR),    NAME(LOOP),        NAME(MFILE),  NAME(NAMETOOLONG),
    NAME(NOENT),   NAME(NOTDIR), NAME(NOTEMPTY), NAME(NOTSOCK),  NAME(NOTSUP),      NAME(NXIO),   NAME(OVERFLOW),
    NAME(PERM),    NAME(ROFS),   NAME(SPIPE),    NAME(XDEV),     NAME(NOTCAPABLE),
#undef NAME
};

const char *errno_name(int error) {
    static char number[16];
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        if (NAMES[i].error == error)
            return NAMES[i].name;
    snprintf(number, sizeof number, "errno %d", error);
    return number;
}

void expect_errno(int found, int expected, const char *what, const char *file, int line) {
    checks++;
    if (found == expected)
        return;
    failures++;
    printf("%s:%d: %s is %s", file, line, what, errno_name(found));
    printf(", not %s\n", errno_name(expected));
}

void expect_value(long long found, long long expected, const char *what, const char *file, int line) {
    checks++;
    if (found == expected)
        return;
    failures++;
    printf("%s:%d: %s is %lld, not %lld\n", file, line, what, found, expected);
}

int open_at(fd_t dir, const char *path, int oflags, __wasi_rights_t rights, int fdflags, fd_t *fd) {
    return __wasi_path_open(dir, 0, path, (__wasi_oflags_t)oflags, rights, 0, (__wasi_fdflags_t)fdflags, fd);
}

fd_t must_open(fd_t dir, const char *path, int oflags, __wasi_rights_t rights, int fdflags) {
    fd_t fd = NO_FD;
    OK(open_at(dir, path, oflags, rights, fdflags, &fd));
    TRUE_(fd > 2);
    return fd;
}

fd_t open_dir(fd_t dir, const char *path) {
    fd_t fd = NO_FD;
    __wasi_fdstat_t status = fdstat_of(dir);
    OK(__wasi_path_open(dir, 0, path, DIRECTORY, status.fs_rights_base, status.fs_rights_inheriting, 0, &fd));
    return fd;
}

int try_open(fd_t dir, int lookup, const char *path, int oflags, __wasi_rights_t rights) {
    fd_t fd;
    int error = __wasi_path_open(dir, (__wasi_lookupflags_t)lookup, path, (__wasi_oflags_t)oflags, rights, 0, 0, &fd);
    if (error == 0)
        OK(__wasi_fd_close(fd));
    return error;
}

int try_read(fd_t fd, void *buffer, size_t size, size_t *read) {
    __wasi_iovec_t vector = {buffer, size};
    return __wasi_fd_read(fd, &vector, 1, read);
}

int try_write(fd_t fd, const char *text, size_t *written) {
    __wasi_ciovec_t vector = {(const uint8_t *)text, strlen(text)};
    return __wasi_fd_write(fd, &vector, 1, written);
}

void make_file(fd_t dir, const char *path, const char *content) {
    size_t written = 0;
    fd_t fd = must_open(dir, path, CREAT | EXCL, ALL_FILE_RIGHTS, 0);
    OK(try_write(fd, content, &written));
    IS(written, strlen(content));
    OK(__wasi_fd_close(fd));
}

__wasi_filestat_t stat_of(fd_t dir, const char *path) {
    __wasi_filestat_t status = {0};
    OK(__wasi_path_filestat_get(dir, 0, path, &status));
    return status;
}

__wasi_filestat_t fstat_of(fd_t fd) {
    __wasi_filestat_t status = {0};
    OK(__wasi_fd_filestat_get(fd, &status));
    return status;
}

__wasi_fdstat_t fdstat_of(fd_t fd) {
    __wasi_fdstat_t status = {0};
    OK(__wasi_fd_fdstat_get(fd, &status));
    return status;
}

#define GROUPS(X)                                                                                                     \
    X(paths) X(symlinks) X(open_flags) X(links) X(renames) X(removals) X(symlink_names) X(readlink_sizes)             \
    X(listing) X(long_listing) X(directory_descriptors) X(positions) X(positioned) X(sizes) X(append) X(times)        \
    X(path_times) X(rights) X(dropped_rights) X(truncation_rights) X(renumbering) X(closed) X(unlinked)               \
    X(preopen_rights) X(preopen_renumbered) X(preopen_closed) X(standard_streams) X(polling) X(sockets) X(others)

#define DECLARE(name) void test_##name(void);
GROUPS(DECLARE)

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {
#define ROW(name) {#name, test_##name},
        GROUPS(ROW)};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        if (argc < 2) {
            puts(groups[i].name);
        } else if (strcmp(groups[i].name, argv[1]) == 0) {
            groups[i].run();
            printf("%d checks, %d failed\n", checks, failures);
            return failures > 0;
        }
    }
    return argc < 2 ? 0 : 2;
}
