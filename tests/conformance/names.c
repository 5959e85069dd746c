/* Calls that change names: link, rename, unlink, remove, symlink, readlink. */
#include "check.h"

void test_links(void) {
    make_file(ROOT, "file", "text");
    OK(__wasi_path_create_directory(ROOT, "dir"));
    fd_t dir = open_dir(ROOT, "dir"), file, linked;

    OK(__wasi_path_link(ROOT, 0, "file", dir, "link"));
    file = must_open(ROOT, "file", 0, ALL_FILE_RIGHTS, 0);
    linked = must_open(dir, "link", 0, ALL_FILE_RIGHTS, 0);
    __wasi_filestat_t a = fstat_of(file), b = fstat_of(linked);
    IS(memcmp(&a, &b, sizeof a), 0);
    IS(a.nlink, 2);
    __wasi_fdstat_t c = fdstat_of(file), d = fdstat_of(linked);
    IS(c.fs_rights_base, d.fs_rights_base);
    IS(c.fs_rights_inheriting, d.fs_rights_inheriting);
    IS(c.fs_filetype, d.fs_filetype);
    OK(__wasi_fd_close(file));
    OK(__wasi_fd_close(linked));
    OK(__wasi_path_unlink_file(dir, "link"));
    IS(stat_of(ROOT, "file").nlink, 1);

    make_file(ROOT, "other", "");
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "other"), EXIST);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "file"), EXIST);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "dir"), EXIST);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "dir/"), EXIST);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "other/"), NOTDIR);
    FAILS(__wasi_path_link(ROOT, 0, "dir", ROOT, "link"), PERM);
    FAILS(__wasi_path_link(ROOT, 0, "nothing", ROOT, "link"), NOENT);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "nothing/link"), NOENT);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "link/"), NOENT);
    FAILS(__wasi_path_link(ROOT, 0, "file/", ROOT, "link"), NOTDIR);
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "other/link"), NOTDIR);

    OK(__wasi_path_symlink("target", ROOT, "symlink"));
    FAILS(__wasi_path_link(ROOT, 0, "file", ROOT, "symlink"), EXIST);
    OK(__wasi_path_link(ROOT, 0, "symlink", ROOT, "link")); /* the link, not what it names */
    IS(stat_of(ROOT, "link").filetype, __WASI_FILETYPE_SYMBOLIC_LINK);
    OK(__wasi_path_unlink_file(ROOT, "link"));
    int error = __wasi_path_link(ROOT, FOLLOW, "symlink", ROOT, "link"); /* following may be unsupported */
    TRUE_(error == __WASI_ERRNO_INVAL || error == __WASI_ERRNO_NOENT);

    OK(__wasi_fd_close(dir));
    OK(__wasi_path_unlink_file(ROOT, "symlink"));
    OK(__wasi_path_unlink_file(ROOT, "file"));
    OK(__wasi_path_unlink_file(ROOT, "other"));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}

void test_renames(void) {
    /* Directories: to a new name, over an empty one, over a full one. */
    OK(__wasi_path_create_directory(ROOT, "source"));
    OK(__wasi_path_rename(ROOT, "source", ROOT, "target"));
    FAILS(try_open(ROOT, 0, "source", DIRECTORY, 0), NOENT);
    OK(try_open(ROOT, 0, "target", DIRECTORY, 0));
    OK(__wasi_path_create_directory(ROOT, "source"));
    OK(__wasi_path_rename(ROOT, "source", ROOT, "target"));
    OK(__wasi_path_create_directory(ROOT, "source"));
    make_file(ROOT, "target/file", "");
    FAILS(__wasi_path_rename(ROOT, "source", ROOT, "target"), NOTEMPTY);
    FAILS(__wasi_path_rename(ROOT, "source", ROOT, "target/file"), NOTDIR);
    FAILS(__wasi_path_rename(ROOT, "target", ROOT, "target/below"), INVAL);
    OK(__wasi_path_rename(ROOT, "source", ROOT, "target/moved"));
    OK(__wasi_path_remove_directory(ROOT, "target/moved"));

    /* Trailing slashes say "a directory". */
    OK(__wasi_path_create_directory(ROOT, "a"));
    OK(__wasi_path_rename(ROOT, "a/", ROOT, "b"));
    OK(__wasi_path_rename(ROOT, "b", ROOT, "a/"));
    OK(__wasi_path_rename(ROOT, "a/", ROOT, "b/"));
    OK(__wasi_path_rename(ROOT, "b", ROOT, "a"));

    /* Files. */
    make_file(ROOT, "f", "f");
    make_file(ROOT, "g", "gg");
    FAILS(__wasi_path_rename(ROOT, "f", ROOT, "a"), ISDIR);
    FAILS(__wasi_path_rename(ROOT, "f/", ROOT, "h"), NOTDIR);
    FAILS(__wasi_path_rename(ROOT, "f", ROOT, "h/"), NOTDIR);
    FAILS(__wasi_path_rename(ROOT, "nothing", ROOT, "h"), NOENT);
    FAILS(__wasi_path_rename(ROOT, "f", ROOT, "nothing/h"), NOENT);
    OK(__wasi_path_rename(ROOT, "f", ROOT, "f"));
    OK(__wasi_path_rename(ROOT, "f", ROOT, "g"));
    FAILS(try_open(ROOT, 0, "f", 0, 0), NOENT);
    IS(stat_of(ROOT, "g").size, 1);
    fd_t target = open_dir(ROOT, "target");
    OK(__wasi_path_rename(ROOT, "g", target, "file"));
    IS(stat_of(ROOT, "target/file").size, 1);

    /* Two names of one file: both stay. */
    OK(__wasi_path_link(target, 0, "file", ROOT, "f"));
    OK(__wasi_path_rename(ROOT, "f", target, "file"));
    IS(stat_of(ROOT, "f").nlink, 2);
    FAILS(__wasi_path_rename(NO_FD, "f", ROOT, "g"), BADF);
    FAILS(__wasi_path_rename(ROOT, "f", NO_FD, "g"), BADF);

    OK(__wasi_fd_close(target));
    OK(__wasi_path_unlink_file(ROOT, "f"));
    OK(__wasi_path_unlink_file(ROOT, "target/file"));
    OK(__wasi_path_remove_directory(ROOT, "target"));
    OK(__wasi_path_remove_directory(ROOT, "a"));
}

void test_removals(void) {
    OK(__wasi_path_create_directory(ROOT, "dir"));
    make_file(ROOT, "file", "");
    FAILS(__wasi_path_create_directory(ROOT, "dir"), EXIST);
    FAILS(__wasi_path_create_directory(ROOT, "dir/"), EXIST);
    FAILS(__wasi_path_create_directory(ROOT, "file"), EXIST);
    FAILS(__wasi_path_create_directory(ROOT, "file/x"), NOTDIR);
    FAILS(__wasi_path_create_directory(ROOT, "nothing/x"), NOENT);
    FAILS(__wasi_path_unlink_file(ROOT, "dir"), ISDIR);
    FAILS(__wasi_path_unlink_file(ROOT, "dir/"), ISDIR);
    FAILS(__wasi_path_unlink_file(ROOT, "file/"), NOTDIR);
    FAILS(__wasi_path_unlink_file(ROOT, "nothing"), NOENT);
    FAILS(__wasi_path_remove_directory(ROOT, "file"), NOTDIR);
    FAILS(__wasi_path_remove_directory(ROOT, "file/"), NOTDIR);
    FAILS(__wasi_path_remove_directory(ROOT, "nothing"), NOENT);
    FAILS(__wasi_path_remove_directory(ROOT, "dir/."), INVAL);
    OK(__wasi_path_create_directory(ROOT, "dir/below/"));
    FAILS(__wasi_path_remove_directory(ROOT, "dir"), NOTEMPTY);
    FAILS(__wasi_path_remove_directory(ROOT, "dir/"), NOTEMPTY);
    FAILS(__wasi_path_remove_directory(ROOT, "dir/below/.."), NOTEMPTY);
    OK(__wasi_path_remove_directory(ROOT, "dir/below/"));
    OK(__wasi_path_symlink("dir", ROOT, "link"));
    FAILS(__wasi_path_remove_directory(ROOT, "link"), NOTDIR);
    OK(__wasi_path_unlink_file(ROOT, "link"));
    IS(stat_of(ROOT, "dir").filetype, __WASI_FILETYPE_DIRECTORY);
    OK(__wasi_path_remove_directory(ROOT, "dir"));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_symlink_names(void) {
    FAILS(__wasi_path_symlink("source", ROOT, "target/"), NOENT);
    OK(__wasi_path_symlink("source", ROOT, "target"));
    FAILS(__wasi_path_symlink("source", ROOT, "target"), EXIST);
    OK(__wasi_path_unlink_file(ROOT, "target"));
    OK(__wasi_path_create_directory(ROOT, "dir"));
    FAILS(__wasi_path_symlink("source", ROOT, "dir"), EXIST);
    FAILS(__wasi_path_symlink("source", ROOT, "dir/"), EXIST);
    make_file(ROOT, "file", "");
    FAILS(__wasi_path_symlink("source", ROOT, "file"), EXIST);
    FAILS(__wasi_path_symlink("source", ROOT, "file/"), NOTDIR);
    FAILS(__wasi_path_symlink("source", ROOT, "file/link"), NOTDIR);
    FAILS(__wasi_path_symlink("source", ROOT, "nothing/link"), NOENT);
    FAILS(__wasi_path_symlink("", ROOT, "link"), NOENT);
    FAILS(__wasi_path_symlink("/source", ROOT, "link"), PERM);
    OK(__wasi_path_symlink("..", ROOT, "dir/link")); /* within the directory */
    OK(try_open(ROOT, FOLLOW, "dir/link/dir", DIRECTORY, 0));
    OK(__wasi_path_unlink_file(ROOT, "dir/link"));
    OK(__wasi_path_unlink_file(ROOT, "file"));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}

void test_readlink_sizes(void) {
    uint8_t buffer[10];
    __wasi_size_t used = 0;
    OK(__wasi_path_symlink("target", ROOT, "link"));
    memset(buffer, '?', sizeof buffer);
    OK(__wasi_path_readlink(ROOT, "link", buffer, sizeof buffer, &used));
    IS(used, 6);
    IS(memcmp(buffer, "target????", sizeof buffer), 0); /* nothing after it, no NUL either */
    memset(buffer, '?', sizeof buffer);
    OK(__wasi_path_readlink(ROOT, "link", buffer, 4, &used));
    IS(used, 4);
    IS(memcmp(buffer, "targ??????", sizeof buffer), 0);
    make_file(ROOT, "file", "");
    FAILS(__wasi_path_readlink(ROOT, "file", buffer, sizeof buffer, &used), INVAL);
    FAILS(__wasi_path_readlink(ROOT, ".", buffer, sizeof buffer, &used), INVAL);
    FAILS(__wasi_path_readlink(ROOT, "nothing", buffer, sizeof buffer, &used), NOENT);
    OK(__wasi_path_unlink_file(ROOT, "file"));
    OK(__wasi_path_unlink_file(ROOT, "link"));
}
