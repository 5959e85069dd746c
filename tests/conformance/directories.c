/* Directories: what is listed, and what a directory's descriptor refuses. */
#include <stdlib.h>

#include "check.h"

enum { HEADER = sizeof(__wasi_dirent_t), MOST = 16 };

typedef struct {
    __wasi_dirent_t entry;
    char name[64];
} item_t;

/* Whole entries of one call; *more says whether the buffer was filled. */
static size_t list(fd_t fd, size_t size, uint64_t cookie, item_t *items, size_t most, int *more) {
    uint8_t *buffer = malloc(size);
    __wasi_size_t used = 0;
    size_t count = 0;
    memset(buffer, 0xAA, size);
    OK(__wasi_fd_readdir(fd, buffer, size, cookie, &used));
    TRUE_(used <= size);
    *more = used == size;
    for (size_t at = 0; at + HEADER <= used && count < most; count++) {
        item_t *item = &items[count];
        memset(item, 0, sizeof *item);
        memcpy(&item->entry, buffer + at, HEADER);
        if (at + HEADER + item->entry.d_namlen > used)
            break;
        size_t length = item->entry.d_namlen < 63 ? item->entry.d_namlen : 63;
        memcpy(item->name, buffer + at + HEADER, length);
        at += HEADER + item->entry.d_namlen;
    }
    for (size_t at = used; at < size; at++) /* not written beyond what is used */
        if (buffer[at] != 0xAA)
            IS(buffer[at], 0xAA);
    free(buffer);
    return count;
}

static const item_t *find(const item_t *items, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(items[i].name, name) == 0)
            return &items[i];
    TRUE_(!"the name is listed");
    return items;
}

void test_listing(void) {
    item_t items[MOST], again[MOST];
    int more;
    OK(__wasi_path_create_directory(ROOT, "dir"));
    fd_t dir = open_dir(ROOT, "dir");
    IS(list(dir, 512, 0, items, MOST, &more), 2);
    IS(more, 0);
    IS(find(items, 2, ".")->entry.d_type, __WASI_FILETYPE_DIRECTORY);
    IS(find(items, 2, ".")->entry.d_ino, fstat_of(dir).ino);
    IS(find(items, 2, "..")->entry.d_type, __WASI_FILETYPE_DIRECTORY);

    make_file(dir, "file", "");
    OK(__wasi_path_create_directory(dir, "sub"));
    OK(__wasi_path_symlink("file", dir, "link"));
    size_t count = list(dir, 512, 0, items, MOST, &more);
    IS(count, 5);
    IS(find(items, count, "file")->entry.d_type, __WASI_FILETYPE_REGULAR_FILE);
    IS(find(items, count, "file")->entry.d_ino, stat_of(dir, "file").ino);
    IS(find(items, count, "sub")->entry.d_type, __WASI_FILETYPE_DIRECTORY);
    IS(find(items, count, "link")->entry.d_type, __WASI_FILETYPE_SYMBOLIC_LINK);
    for (size_t i = 0; i < count; i++) { /* each cookie goes on after its entry, in any order */
        size_t j = (i * 3 + 1) % count;
        IS(list(dir, 512, items[j].entry.d_next, again, MOST, &more), count - 1 - j);
        if (j + 1 < count)
            IS(strcmp(again[0].name, items[j + 1].name), 0);
    }
    for (size_t size = 0; size < 2 * HEADER; size++) { /* cut off anywhere: it is full */
        list(dir, size, 0, again, MOST, &more);
        IS(more, 1);
    }
    __wasi_size_t used;
    uint8_t byte;
    FAILS(__wasi_fd_readdir(NO_FD, &byte, 1, 0, &used), BADF);
    fd_t file = must_open(dir, "file", 0, ALL_FILE_RIGHTS | RIGHT(FD_READDIR), 0);
    FAILS(__wasi_fd_readdir(file, &byte, 1, 0, &used), NOTDIR);
    OK(__wasi_fd_close(file));
    OK(__wasi_path_unlink_file(dir, "link"));
    OK(__wasi_path_unlink_file(dir, "file"));
    OK(__wasi_path_remove_directory(dir, "sub"));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
    OK(__wasi_fd_close(dir));
}

void test_long_listing(void) {
    enum { FILES = 1000 };
    static item_t items[FILES];
    static char seen[FILES];
    char name[16];
    int more = 1;
    OK(__wasi_path_create_directory(ROOT, "dir"));
    fd_t dir = open_dir(ROOT, "dir");
    for (int i = 0; i < FILES; i++) {
        snprintf(name, sizeof name, "file.%d", i);
        OK(try_open(dir, 0, name, CREAT, 0));
    }
    size_t total = 0;
    for (uint64_t cookie = 0; more;) {
        size_t count = list(dir, 256, cookie, items, FILES, &more);
        TRUE_(count > 0 || !more);
        for (size_t i = 0; i < count; i++)
            if (strncmp(items[i].name, "file.", 5) == 0)
                seen[atoi(items[i].name + 5)]++;
        total += count;
        if (count)
            cookie = items[count - 1].entry.d_next;
        else if (more)
            return;
    }
    IS(total, FILES + 2);
    for (int i = 0; i < FILES; i++) {
        if (seen[i] != 1)
            IS(seen[i], 1);
        snprintf(name, sizeof name, "file.%d", i);
        OK(__wasi_path_unlink_file(dir, name));
    }
    OK(__wasi_fd_close(dir));
    OK(__wasi_path_remove_directory(ROOT, "dir"));
}

void test_directory_descriptors(void) {
    uint8_t buffer[16];
    size_t size;
    __wasi_filesize_t position;
    __wasi_iovec_t in = {buffer, sizeof buffer};
    __wasi_ciovec_t out = {buffer, sizeof buffer};
    IS(fstat_of(ROOT).filetype, __WASI_FILETYPE_DIRECTORY);
    IS(fdstat_of(ROOT).fs_filetype, __WASI_FILETYPE_DIRECTORY);
    /* POSIX says "is a directory" where the rights would allow it; the standard that a directory has no such right. */
    int error = __wasi_fd_read(ROOT, &in, 1, &size);
    TRUE_(error == __WASI_ERRNO_ISDIR || error == __WASI_ERRNO_BADF || error == __WASI_ERRNO_NOTCAPABLE);
    IS(__wasi_fd_pread(ROOT, &in, 1, 0, &size), error);
    error = __wasi_fd_write(ROOT, &out, 1, &size);
    TRUE_(error == __WASI_ERRNO_ISDIR || error == __WASI_ERRNO_BADF || error == __WASI_ERRNO_NOTCAPABLE);
    IS(__wasi_fd_pwrite(ROOT, &out, 1, 0, &size), error);
    for (__wasi_whence_t whence = 0; whence < 3; whence++) {
        error = __wasi_fd_seek(ROOT, 0, whence, &position);
        TRUE_(error == __WASI_ERRNO_ISDIR || error == __WASI_ERRNO_BADF || error == __WASI_ERRNO_NOTCAPABLE);
    }
    TRUE_(__wasi_fd_tell(ROOT, &position) != 0);
    TRUE_(__wasi_fd_allocate(ROOT, 0, 1) != 0);
    TRUE_(__wasi_fd_filestat_set_size(ROOT, 0) != 0);
    OK(__wasi_fd_sync(ROOT));
}
