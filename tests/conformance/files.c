/* Contents and attributes of files. */
#include "check.h"

void test_positions(void) {
    uint8_t buffer[100];
    size_t size = 0;
    __wasi_filesize_t at = 99;
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    OK(__wasi_fd_tell(fd, &at));
    IS(at, 0);
    OK(try_write(fd, "0123456789", &size));
    OK(__wasi_fd_tell(fd, &at));
    IS(at, 10);
    OK(__wasi_fd_seek(fd, -4, __WASI_WHENCE_CUR, &at));
    IS(at, 6);
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 4);
    IS(memcmp(buffer, "6789", 4), 0);
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 0);
    OK(__wasi_fd_seek(fd, -1, __WASI_WHENCE_END, &at));
    IS(at, 9);
    OK(__wasi_fd_seek(fd, 1000, __WASI_WHENCE_CUR, &at));
    IS(at, 1009);
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 0);
    FAILS(__wasi_fd_seek(fd, -2000, __WASI_WHENCE_CUR, &at), INVAL);
    FAILS(__wasi_fd_seek(fd, -1, __WASI_WHENCE_SET, &at), INVAL);
    FAILS(__wasi_fd_seek(fd, -11, __WASI_WHENCE_END, &at), INVAL);
    FAILS(__wasi_fd_seek(fd, 0, 9, &at), INVAL);
    OK(__wasi_fd_tell(fd, &at));
    IS(at, 1009); /* errors moved nothing */
    OK(try_write(fd, "x", &size));
    IS(fstat_of(fd).size, 1010);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_positioned(void) {
    uint8_t a[4], b[8];
    size_t size = 0;
    __wasi_filesize_t at;
    __wasi_ciovec_t out[3] = {{(const uint8_t *)"01", 2}, {NULL, 0}, {(const uint8_t *)"234", 3}};
    __wasi_iovec_t in[2] = {{a, 2}, {b, sizeof b}};
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    OK(__wasi_fd_pwrite(fd, out, 3, 3, &size));
    IS(size, 5);
    IS(fstat_of(fd).size, 8);
    OK(__wasi_fd_pread(fd, in, 2, 2, &size));
    IS(size, 6);
    IS(memcmp(a, "\0" "0", 2), 0);
    IS(memcmp(b, "1234", 4), 0);
    OK(__wasi_fd_pread(fd, in, 2, 7, &size));
    IS(size, 1);
    OK(__wasi_fd_pread(fd, in, 2, 8, &size));
    IS(size, 0);
    OK(__wasi_fd_pread(fd, in, 2, 1000, &size));
    IS(size, 0);
    OK(__wasi_fd_pread(fd, in, 0, 0, &size));
    IS(size, 0);
    OK(__wasi_fd_tell(fd, &at));
    IS(at, 0); /* the position is not theirs */
    FAILS(__wasi_fd_pwrite(fd, out, 3, (__wasi_filesize_t)-1, &size), INVAL);
    FAILS(__wasi_fd_pread(fd, in, 2, (__wasi_filesize_t)-1, &size), INVAL);
    FAILS(__wasi_fd_pread(NO_FD, in, 2, 0, &size), BADF);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_sizes(void) {
    uint8_t buffer[16];
    size_t size = 0;
    __wasi_filesize_t at;
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    OK(__wasi_fd_filestat_set_size(fd, 100));
    IS(fstat_of(fd).size, 100);
    OK(__wasi_fd_advise(fd, 10, 50, __WASI_ADVICE_NORMAL));
    OK(__wasi_fd_advise(fd, 0, 0, __WASI_ADVICE_DONTNEED));
    FAILS(__wasi_fd_advise(fd, 0, 0, 77), INVAL);
    IS(fstat_of(fd).size, 100);
    OK(__wasi_fd_allocate(fd, 10, 10));
    IS(fstat_of(fd).size, 100);
    OK(__wasi_fd_allocate(fd, 90, 20));
    IS(fstat_of(fd).size, 110);
    FAILS(__wasi_fd_allocate(fd, 0, 0), INVAL);
    OK(__wasi_fd_seek(fd, 50, __WASI_WHENCE_SET, &at));
    OK(__wasi_fd_filestat_set_size(fd, 20));
    IS(fstat_of(fd).size, 20);
    OK(__wasi_fd_tell(fd, &at));
    IS(at, 50); /* truncation leaves the position */
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 0);
    OK(try_write(fd, "end", &size));
    IS(fstat_of(fd).size, 53);
    OK(__wasi_fd_seek(fd, 40, __WASI_WHENCE_SET, &at));
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 13);
    IS(memcmp(buffer, "\0\0\0\0\0\0\0\0\0\0end", 13), 0);
    FAILS(__wasi_fd_filestat_set_size(fd, (__wasi_filesize_t)-1), INVAL);
    OK(__wasi_fd_datasync(fd));
    OK(__wasi_fd_sync(fd));
    OK(__wasi_fd_close(fd));
    fd = must_open(ROOT, "file", TRUNC, ALL_FILE_RIGHTS, 0);
    IS(fstat_of(fd).size, 0);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_append(void) {
    uint8_t buffer[16];
    size_t size = 0;
    __wasi_filesize_t at;
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, __WASI_FDFLAGS_APPEND);
    OK(try_write(fd, "one", &size));
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    OK(try_write(fd, "two", &size));
    OK(__wasi_fd_tell(fd, &at));
    IS(at, 6);
    OK(__wasi_fd_seek(fd, 0, __WASI_WHENCE_SET, &at));
    OK(try_read(fd, buffer, sizeof buffer, &size));
    IS(size, 6);
    IS(memcmp(buffer, "onetwo", 6), 0);
    OK(__wasi_fd_fdstat_set_flags(fd, 0));
    IS(fdstat_of(fd).fs_flags, 0);
    OK(__wasi_fd_seek(fd, 1, __WASI_WHENCE_SET, &at));
    OK(try_write(fd, "NE", &size));
    IS(fstat_of(fd).size, 6);
    OK(__wasi_fd_fdstat_set_flags(fd, __WASI_FDFLAGS_APPEND));
    IS(fdstat_of(fd).fs_flags, __WASI_FDFLAGS_APPEND);
    OK(try_write(fd, "three", &size));
    IS(fstat_of(fd).size, 11);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_times(void) {
    fd_t fd = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    __wasi_filestat_t before = fstat_of(fd);
    OK(__wasi_fd_filestat_set_times(fd, 5, before.mtim - 100, __WASI_FSTFLAGS_MTIM));
    IS(fstat_of(fd).mtim, before.mtim - 100);
    IS(fstat_of(fd).atim, before.atim);
    OK(__wasi_fd_filestat_set_times(fd, 1234567890123456789, 0, __WASI_FSTFLAGS_ATIM));
    IS(fstat_of(fd).atim, 1234567890123456789);
    IS(fstat_of(fd).mtim, before.mtim - 100);
    FAILS(__wasi_fd_filestat_set_times(fd, 1, 2, __WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_MTIM_NOW), INVAL);
    FAILS(__wasi_fd_filestat_set_times(fd, 1, 2, __WASI_FSTFLAGS_ATIM | __WASI_FSTFLAGS_ATIM_NOW), INVAL);
    IS(fstat_of(fd).mtim, before.mtim - 100);
    OK(__wasi_fd_filestat_set_times(fd, 0, 0, __WASI_FSTFLAGS_ATIM_NOW | __WASI_FSTFLAGS_MTIM_NOW));
    TRUE_(fstat_of(fd).mtim >= before.mtim);
    TRUE_(fstat_of(fd).atim >= before.mtim);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_path_times(void) {
    __wasi_filestat_t followed;
    make_file(ROOT, "file", "");
    OK(__wasi_path_symlink("file", ROOT, "link"));
    __wasi_filestat_t file = stat_of(ROOT, "file"), link = stat_of(ROOT, "link");
    OK(__wasi_path_filestat_set_times(ROOT, 0, "link", 0, link.mtim - 200, __WASI_FSTFLAGS_MTIM));
    IS(stat_of(ROOT, "link").mtim, link.mtim - 200);
    IS(stat_of(ROOT, "file").mtim, file.mtim);
    OK(__wasi_path_filestat_get(ROOT, FOLLOW, "link", &followed));
    IS(followed.mtim, file.mtim);
    OK(__wasi_path_filestat_set_times(ROOT, FOLLOW, "link", 0, 77, __WASI_FSTFLAGS_MTIM));
    IS(stat_of(ROOT, "file").mtim, 77);
    IS(stat_of(ROOT, "link").mtim, link.mtim - 200);
    __wasi_fstflags_t both = __WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_MTIM_NOW;
    FAILS(__wasi_path_filestat_set_times(ROOT, 0, "file", 0, 5, both), INVAL);
    IS(stat_of(ROOT, "file").mtim, 77);
    FAILS(__wasi_path_filestat_set_times(ROOT, 0, "nothing", 0, 5, __WASI_FSTFLAGS_MTIM), NOENT);
    FAILS(__wasi_path_filestat_set_times(ROOT, 0, "file/", 0, 5, __WASI_FSTFLAGS_MTIM), NOTDIR);
    OK(__wasi_path_unlink_file(ROOT, "link"));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}
