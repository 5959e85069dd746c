/* Names: what leads where, and what is refused. */
#include "check.h"

void test_paths(void) {
    OK(__wasi_path_create_directory(ROOT, "dir"));
    OK(__wasi_path_create_directory(ROOT, "dir/nested"));
    make_file(ROOT, "dir/nested/file", "");
    fd_t dir = open_dir(ROOT, "dir");

    OK(try_open(ROOT, 0, "./dir/.//nested/../../dir/nested/../nested///./file", 0, 0));
    OK(try_open(ROOT, 0, "dir/nested/", 0, 0));
    OK(try_open(ROOT, 0, "dir/nested///", DIRECTORY, 0));
    OK(try_open(dir, 0, "nested/..", DIRECTORY, 0));
    OK(try_open(dir, 0, ".", 0, 0));
    FAILS(try_open(ROOT, 0, "dir/nested/file/", 0, 0), NOTDIR);
    FAILS(try_open(ROOT, 0, "dir/nested/file///", 0, 0), NOTDIR);
    FAILS(try_open(ROOT, 0, "dir/nested/file/.", 0, 0), NOTDIR);
    FAILS(try_open(ROOT, 0, "dir/nested/file/../file", 0, 0), NOTDIR);
    FAILS(try_open(ROOT, 0, "dir/nothing/../nested", 0, 0), NOENT);
    FAILS(try_open(ROOT, 0, "nothing", 0, RIGHT(FD_READ)), NOENT);
    FAILS(try_open(ROOT, 0, "nothing", DIRECTORY, 0), NOENT);
    FAILS(try_open(ROOT, 0, "", 0, 0), NOENT);

    /* The sandbox. */
    FAILS(try_open(ROOT, 0, "/dir/nested/file", 0, 0), PERM);
    FAILS(try_open(ROOT, 0, "..", 0, 0), PERM);
    FAILS(try_open(ROOT, 0, "dir/../..", 0, 0), PERM);
    FAILS(try_open(dir, 0, "../dir/nested/file", 0, 0), PERM);
    FAILS(try_open(dir, 0, "nested/../../dir", 0, 0), PERM);
    FAILS(__wasi_path_create_directory(dir, "../new"), PERM);
    FAILS(__wasi_path_create_directory(ROOT, "/new"), PERM);
    FAILS(__wasi_path_unlink_file(dir, "../dir/nested/file"), PERM);
    FAILS(__wasi_path_remove_directory(dir, "../dir/nested"), PERM);
    FAILS(__wasi_path_rename(dir, "nested/file", dir, "../file"), PERM);
    FAILS(__wasi_path_link(dir, 0, "nested/file", dir, "../file"), PERM);
    __wasi_filestat_t status;
    FAILS(__wasi_path_filestat_get(dir, 0, "../dir/nested/file", &status), PERM);

    static char name[300];
    memset(name, 'n', sizeof name - 1);
    FAILS(try_open(ROOT, 0, name, 0, 0), NAMETOOLONG);
    FAILS(__wasi_path_create_directory(ROOT, name), NAMETOOLONG);
    name[255] = 0;
    OK(try_open(ROOT, 0, name, CREAT, 0));
    OK(__wasi_path_unlink_file(ROOT, name));

    FAILS(try_open(NO_FD, 0, "dir", 0, 0), BADF);
    fd_t file = must_open(ROOT, "dir/nested/file", 0, ALL_FILE_RIGHTS, 0);
    FAILS(try_open(file, 0, ".", 0, 0), NOTDIR);
    FAILS(try_open(file, 0, "x", CREAT, 0), NOTDIR);
    OK(__wasi_fd_close(file));

    OK(__wasi_fd_close(dir));
    OK(__wasi_path_unlink_file(ROOT, "dir/nested/file"));
    OK(__wasi_path_remove_directory(ROOT, "dir/nested"));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}

void test_symlinks(void) {
    OK(__wasi_path_create_directory(ROOT, "dir"));
    make_file(ROOT, "dir/file", "text");
    OK(__wasi_path_symlink("dir", ROOT, "to-dir"));
    OK(__wasi_path_symlink("dir/file", ROOT, "to-file"));
    OK(__wasi_path_symlink("nothing", ROOT, "dangling"));
    OK(__wasi_path_symlink("loop2", ROOT, "loop1"));
    OK(__wasi_path_symlink("loop1", ROOT, "loop2"));
    OK(__wasi_path_symlink("self", ROOT, "self"));
    OK(__wasi_path_symlink("../outside", ROOT, "out"));

    /* Not followed at the end, whatever the flags. */
    FAILS(try_open(ROOT, 0, "to-file", 0, 0), LOOP);
    FAILS(try_open(ROOT, 0, "to-dir", 0, 0), LOOP);
    FAILS(try_open(ROOT, 0, "dangling", 0, 0), LOOP);
    FAILS(try_open(ROOT, 0, "dangling", CREAT, 0), LOOP);
    FAILS(try_open(ROOT, 0, "self", 0, 0), LOOP);
    FAILS(try_open(ROOT, 0, "to-dir", DIRECTORY, 0), NOTDIR);
    FAILS(try_open(ROOT, 0, "dangling", DIRECTORY, 0), NOTDIR);
    FAILS(try_open(ROOT, 0, "to-file", CREAT | EXCL, 0), EXIST);
    FAILS(try_open(ROOT, FOLLOW, "dangling", CREAT | EXCL, 0), EXIST);

    /* Followed when asked to, and always on the way. */
    OK(try_open(ROOT, FOLLOW, "to-file", 0, RIGHT(FD_READ)));
    OK(try_open(ROOT, FOLLOW, "to-dir", DIRECTORY, 0));
    OK(try_open(ROOT, 0, "to-dir/file", 0, RIGHT(FD_READ)));
    FAILS(try_open(ROOT, FOLLOW, "to-file", DIRECTORY, 0), NOTDIR);
    FAILS(try_open(ROOT, FOLLOW, "dangling", 0, 0), NOENT);
    FAILS(try_open(ROOT, FOLLOW, "self", 0, 0), LOOP);
    FAILS(try_open(ROOT, FOLLOW, "loop1", 0, 0), LOOP);
    FAILS(try_open(ROOT, 0, "loop1/file", 0, 0), LOOP);
    FAILS(try_open(ROOT, 0, "to-file/x", 0, 0), NOTDIR);
    FAILS(try_open(ROOT, FOLLOW, "out", 0, 0), PERM);
    FAILS(try_open(ROOT, 0, "out/x", 0, 0), PERM);

    IS(stat_of(ROOT, "to-file").filetype, __WASI_FILETYPE_SYMBOLIC_LINK);
    IS(stat_of(ROOT, "to-file").size, 8);
    IS(stat_of(ROOT, "to-dir").filetype, __WASI_FILETYPE_SYMBOLIC_LINK);
    IS(stat_of(ROOT, "to-dir/file").filetype, __WASI_FILETYPE_REGULAR_FILE);
    __wasi_filestat_t status;
    OK(__wasi_path_filestat_get(ROOT, FOLLOW, "to-file", &status));
    IS(status.filetype, __WASI_FILETYPE_REGULAR_FILE);
    IS(status.size, 4);
    IS(status.ino, stat_of(ROOT, "dir/file").ino);
    OK(__wasi_path_filestat_get(ROOT, FOLLOW, "to-dir", &status));
    IS(status.filetype, __WASI_FILETYPE_DIRECTORY);
    FAILS(__wasi_path_filestat_get(ROOT, FOLLOW, "dangling", &status), NOENT);
    FAILS(__wasi_path_filestat_get(ROOT, FOLLOW, "loop1", &status), LOOP);
    FAILS(__wasi_path_filestat_get(ROOT, FOLLOW, "out", &status), PERM);

    OK(try_open(ROOT, FOLLOW, "dangling", CREAT, 0));
    IS(stat_of(ROOT, "nothing").filetype, __WASI_FILETYPE_REGULAR_FILE);
    static const char *const names[] = {"nothing", "to-dir", "to-file", "dangling", "loop1", "loop2", "self", "out",
                                        "dir/file"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        OK(__wasi_path_unlink_file(ROOT, names[i]));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}

void test_open_flags(void) {
    make_file(ROOT, "file", "text");
    OK(__wasi_path_create_directory(ROOT, "dir"));
    FAILS(try_open(ROOT, 0, "file", CREAT | EXCL, ALL_FILE_RIGHTS), EXIST);
    FAILS(try_open(ROOT, 0, "dir", CREAT | EXCL, RIGHT(FD_READ)), EXIST);
    OK(try_open(ROOT, 0, "file", CREAT, ALL_FILE_RIGHTS));
    IS(stat_of(ROOT, "file").size, 4);
    FAILS(try_open(ROOT, 0, "file", DIRECTORY, RIGHT(FD_READ)), NOTDIR);
    FAILS(try_open(ROOT, 0, "dir", 0, RIGHT(FD_READ) | RIGHT(FD_WRITE)), ISDIR);
    FAILS(try_open(ROOT, 0, "dir", DIRECTORY, RIGHT(FD_READ) | RIGHT(FD_WRITE)), ISDIR);
    FAILS(try_open(ROOT, 0, ".", DIRECTORY, RIGHT(FD_READ) | RIGHT(FD_WRITE)), ISDIR);
    OK(try_open(ROOT, 0, "dir", DIRECTORY, RIGHT(FD_READ)));
    FAILS(try_open(ROOT, 0, "dir", TRUNC, RIGHT(FD_WRITE)), ISDIR);
    FAILS(try_open(ROOT, 0, "new/", CREAT, RIGHT(FD_WRITE)), ISDIR);
    FAILS(try_open(ROOT, 0, "nothing/new", CREAT, RIGHT(FD_WRITE)), NOENT);
    FAILS(try_open(ROOT, 0, "file/new", CREAT, RIGHT(FD_WRITE)), NOTDIR);
    OK(try_open(ROOT, 0, "file", TRUNC, RIGHT(FD_READ) | RIGHT(FD_WRITE)));
    IS(stat_of(ROOT, "file").size, 0);
    fd_t fd = must_open(ROOT, "file", 0, ALL_FILE_RIGHTS, __WASI_FDFLAGS_NONBLOCK);
    IS(fdstat_of(fd).fs_flags & __WASI_FDFLAGS_NONBLOCK, __WASI_FDFLAGS_NONBLOCK);
    OK(__wasi_fd_close(fd));
    fd = must_open(ROOT, "file", 0, ALL_FILE_RIGHTS, __WASI_FDFLAGS_APPEND | __WASI_FDFLAGS_SYNC);
    IS(fdstat_of(fd).fs_flags & (__WASI_FDFLAGS_APPEND | __WASI_FDFLAGS_SYNC),
       __WASI_FDFLAGS_APPEND | __WASI_FDFLAGS_SYNC);
    OK(__wasi_fd_close(fd));
    OK(__wasi_path_unlink_file(ROOT, "file"));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}
