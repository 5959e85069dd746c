/* Rights, and descriptors that are moved, closed or stand for something else than a file. */
#include "check.h"

void test_rights(void) {
    uint8_t buffer[64];
    size_t size = 0;
    make_file(ROOT, "file", "");
    fd_t fd = must_open(ROOT, "file", 0, RIGHT(FD_READ), 0);
    IS(fdstat_of(fd).fs_rights_base & (RIGHT(FD_READ) | RIGHT(FD_WRITE)), RIGHT(FD_READ));
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 0);
    FAILS(try_write(fd, "x", &size), BADF);
    OK(__wasi_fd_close(fd));
    fd = must_open(ROOT, "file", 0, RIGHT(FD_WRITE), 0);
    IS(fdstat_of(fd).fs_rights_base & (RIGHT(FD_READ) | RIGHT(FD_WRITE)), RIGHT(FD_WRITE));
    FAILS(try_read(fd, buffer, sizeof buffer, &size), BADF);
    OK(try_write(fd, "four", &size));
    OK(__wasi_fd_close(fd));
    fd = must_open(ROOT, "file", 0, RIGHT(FD_READ) | RIGHT(FD_WRITE) | RIGHT(FD_FILESTAT_GET), 0);
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 4);
    OK(try_write(fd, "more", &size));
    IS(fstat_of(fd).size, 8);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_dropped_rights(void) {
    uint8_t buffer[4];
    size_t size;
    __wasi_filesize_t at;
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    OK(try_write(fd, "text", &size));
    __wasi_rights_t had = fdstat_of(fd).fs_rights_base, both = RIGHT(FD_READ) | RIGHT(FD_WRITE);
    OK(__wasi_fd_fdstat_set_rights(fd, had & ~both, 0));
    IS(fdstat_of(fd).fs_rights_base & both, 0);
    IS(fdstat_of(fd).fs_rights_base & RIGHT(FD_SEEK), RIGHT(FD_SEEK));
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    int error = try_read(fd, buffer, sizeof buffer, &size);
    TRUE_(error == __WASI_ERRNO_BADF || error == __WASI_ERRNO_NOTCAPABLE);
    error = try_write(fd, "x", &size);
    TRUE_(error == __WASI_ERRNO_BADF || error == __WASI_ERRNO_NOTCAPABLE);
    FAILS(__wasi_fd_fdstat_set_rights(fd, had, 0), NOTCAPABLE); /* none come back */
    FAILS(__wasi_fd_fdstat_set_rights(NO_FD, 0, 0), BADF);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_truncation_rights(void) {
    make_file(ROOT, "file", "text");
    fd_t dir = open_dir(ROOT, ".");
    __wasi_fdstat_t status = fdstat_of(dir);
    IS(status.fs_filetype, __WASI_FILETYPE_DIRECTORY);
    IS(status.fs_flags, 0);
    IS(status.fs_rights_base & RIGHT(FD_FILESTAT_SET_SIZE), 0);
    OK(try_open(dir, 0, "file", TRUNC, 0));
    IS(stat_of(ROOT, "file").size, 0);
    __wasi_rights_t inheriting = status.fs_rights_inheriting & ~RIGHT(FD_FILESTAT_SET_SIZE);
    OK(__wasi_fd_fdstat_set_rights(dir, status.fs_rights_base, inheriting));
    OK(try_open(dir, 0, "file", TRUNC, 0));
    OK(__wasi_fd_fdstat_set_rights(dir, status.fs_rights_base & ~RIGHT(PATH_FILESTAT_SET_SIZE), inheriting));
    IS(fdstat_of(dir).fs_rights_base & RIGHT(PATH_FILESTAT_SET_SIZE), 0);
    fd_t fd = must_open(ROOT, "file", 0, ALL_FILE_RIGHTS, 0);
    OK(__wasi_fd_filestat_set_size(fd, 5));
    OK(__wasi_fd_close(fd));
    int error = try_open(dir, 0, "file", TRUNC, 0);
    TRUE_(error == __WASI_ERRNO_NOTCAPABLE || error == __WASI_ERRNO_PERM);
    IS(stat_of(ROOT, "file").size, 5);
    OK(__wasi_fd_close(dir));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_renumbering(void) {
    size_t size;
    fd_t from = must_open(ROOT, "from", CREAT, RIGHT(FD_READ) | RIGHT(FD_WRITE) | RIGHT(FD_FILESTAT_GET), 0);
    fd_t to = must_open(ROOT, "to", CREAT, ALL_FILE_RIGHTS, __WASI_FDFLAGS_APPEND);
    __wasi_fdstat_t before = fdstat_of(from), after;
    __wasi_inode_t inode = fstat_of(from).ino;
    OK(__wasi_fd_renumber(from, to));
    FAILS(__wasi_fd_close(from), BADF);
    after = fdstat_of(to);
    IS(memcmp(&before, &after, sizeof before), 0);
    IS(fstat_of(to).ino, inode);
    OK(try_write(to, "x", &size));
    FAILS(__wasi_fd_renumber(to, from), BADF);
    FAILS(__wasi_fd_renumber(from, to), BADF);
    FAILS(__wasi_fd_renumber(to, NO_FD), BADF);
    OK(__wasi_fd_renumber(to, to));
    IS(fstat_of(to).ino, inode);
    OK(__wasi_fd_close(to));
    OK(__wasi_path_unlink_file(ROOT, "from"));
    OK(__wasi_path_unlink_file(ROOT, "to"));
}

void test_closed(void) {
    uint8_t byte;
    size_t size;
    __wasi_filesize_t at;
    __wasi_fdstat_t fdstat;
    __wasi_filestat_t filestat;
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    OK(__wasi_fd_close(fd));
    FAILS(__wasi_fd_close(fd), BADF);
    FAILS(try_read(fd, &byte, 1, &size), BADF);
    FAILS(try_write(fd, "x", &size), BADF);
    FAILS(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at), BADF);
    FAILS(__wasi_fd_tell(fd, &at), BADF);
    FAILS(__wasi_fd_sync(fd), BADF);
    FAILS(__wasi_fd_datasync(fd), BADF);
    FAILS(__wasi_fd_advise(fd, 0, 0, 0), BADF);
    FAILS(__wasi_fd_allocate(fd, 0, 1), BADF);
    FAILS(__wasi_fd_fdstat_get(fd, &fdstat), BADF);
    FAILS(__wasi_fd_fdstat_set_flags(fd, 0), BADF);
    FAILS(__wasi_fd_filestat_get(fd, &filestat), BADF);
    FAILS(__wasi_fd_filestat_set_size(fd, 0), BADF);
    FAILS(__wasi_fd_filestat_set_times(fd, 0, 0, 0), BADF);
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_unlinked(void) {
    uint8_t buffer[8];
    size_t size;
    __wasi_filesize_t at;
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0), again;
    OK(try_write(fd, "text", &size));
    OK(__wasi_path_unlink_file(ROOT, "file"));
    IS(fstat_of(fd).nlink, 0);
    again = must_open(ROOT, "file", CREAT | EXCL, ALL_FILE_RIGHTS, 0); /* another file of that name */
    IS(fstat_of(again).size, 0);
    TRUE_(fstat_of(again).ino != fstat_of(fd).ino);
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 4);
    OK(try_write(fd, "more", &size));
    IS(fstat_of(fd).size, 8);
    OK(__wasi_fd_close(fd));
    OK(__wasi_fd_close(again));
    OK(__wasi_path_unlink_file(ROOT, "file"));

    OK(__wasi_path_create_directory(ROOT, "dir"));
    fd_t dir = open_dir(ROOT, "dir");
    OK(__wasi_path_remove_directory(ROOT, "dir"));
    FAILS(try_open(dir, 0, "file", CREAT, 0), NOENT);
    OK(__wasi_fd_close(dir));
    OK(__wasi_path_create_directory(ROOT, "dir"));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}

void test_preopen_rights(void) {
    __wasi_prestat_t prestat;
    uint8_t name[64];
    OK(__wasi_fd_prestat_get(ROOT, &prestat));
    IS(prestat.tag, __WASI_PREOPENTYPE_DIR);
    IS(prestat.u.dir.pr_name_len, 1);
    memset(name, '?', sizeof name);
    OK(__wasi_fd_prestat_dir_name(ROOT, name, 1));
    IS(memcmp(name, "/??", 3), 0);
    OK(__wasi_fd_prestat_dir_name(ROOT, name, sizeof name));
    FAILS(__wasi_fd_prestat_dir_name(ROOT, name, 0), NAMETOOLONG);
    FAILS(__wasi_fd_prestat_get(0, &prestat), BADF);
    FAILS(__wasi_fd_prestat_get(ROOT + 1, &prestat), BADF);
    const __wasi_rights_t base = RIGHT(PATH_CREATE_DIRECTORY) | RIGHT(PATH_CREATE_FILE) | RIGHT(PATH_LINK_SOURCE) |
                                 RIGHT(PATH_LINK_TARGET) | RIGHT(PATH_OPEN) | RIGHT(FD_READDIR) |
                                 RIGHT(PATH_READLINK) | RIGHT(PATH_RENAME_SOURCE) | RIGHT(PATH_RENAME_TARGET) |
                                 RIGHT(PATH_SYMLINK) | RIGHT(PATH_REMOVE_DIRECTORY) | RIGHT(PATH_UNLINK_FILE) |
                                 RIGHT(PATH_FILESTAT_GET) | RIGHT(PATH_FILESTAT_SET_TIMES) | RIGHT(FD_FILESTAT_GET) |
                                 RIGHT(FD_FILESTAT_SET_TIMES);
    __wasi_fdstat_t status = fdstat_of(ROOT);
    IS(status.fs_rights_base & base, base);
    IS(status.fs_rights_inheriting & (base | ALL_FILE_RIGHTS), base | ALL_FILE_RIGHTS);
    fd_t again = open_dir(ROOT, ".");
    __wasi_fdstat_t same = fdstat_of(again);
    IS(same.fs_rights_base, status.fs_rights_base);
    IS(same.fs_rights_inheriting, status.fs_rights_inheriting);
    OK(__wasi_fd_close(again));
    OK(try_open(ROOT, 0, ".", 0, 0));
}

void test_preopen_renumbered(void) {
    OK(__wasi_path_create_directory(ROOT, "dir"));
    fd_t dir = open_dir(ROOT, "dir");
    fd_t parent = open_dir(ROOT, ".");
    __wasi_inode_t inode = fstat_of(dir).ino;
    __wasi_fdstat_t status;
    OK(__wasi_fd_renumber(dir, ROOT));
    FAILS(__wasi_fd_fdstat_get(dir, &status), BADF);
    IS(fstat_of(ROOT).ino, inode);
    OK(__wasi_fd_close(ROOT));
    OK(__wasi_path_remove_directory(parent, "dir"));
}

void test_preopen_closed(void) {
    fd_t other = open_dir(ROOT, ".");
    __wasi_fdstat_t status;
    __wasi_prestat_t prestat;
    OK(__wasi_fd_close(ROOT));
    FAILS(__wasi_fd_fdstat_get(ROOT, &status), BADF);
    FAILS(__wasi_fd_prestat_get(ROOT, &prestat), BADF);
    FAILS(__wasi_path_create_directory(ROOT, "dir"), BADF);
    IS(fdstat_of(other).fs_filetype, __WASI_FILETYPE_DIRECTORY);
    OK(__wasi_path_create_directory(other, "dir"));
    OK(__wasi_path_remove_directory(other, "dir"));
}
