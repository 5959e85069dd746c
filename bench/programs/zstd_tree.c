/* Packs a directory tree into one compressed file and unpacks it elsewhere.
 *
 *     zstd_tree pack TREE ARCHIVE LEVEL | unpack ARCHIVE TREE
 *
 * The stream: for each entry a line "D path" or "F size path", then the file's bytes; in order of names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "zstd.h"

enum { CHUNK = 128 * 1024, PATH_BYTES = 1024 };

static char chunk[CHUNK], packed[CHUNK];
static int archive;
static long long raw_bytes, files, directories;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static void write_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0)
            fail("write");
        bytes += n;
        size -= (size_t)n;
    }
}

static void check(size_t result) {
    if (ZSTD_isError(result)) {
        fprintf(stderr, "zstd: %s\n", ZSTD_getErrorName(result));
        exit(1);
    }
}

/* ---- pack */

static ZSTD_CCtx *compressor;

static void put(const char *bytes, size_t size, ZSTD_EndDirective mode) {
    ZSTD_inBuffer in = {bytes, size, 0};
    size_t left;
    do {
        ZSTD_outBuffer out = {packed, CHUNK, 0};
        left = ZSTD_compressStream2(compressor, &out, &in, mode);
        check(left);
        write_all(archive, packed, out.pos);
    } while (in.pos < in.size || (mode == ZSTD_e_end && left > 0));
    raw_bytes += (long long)size;
}

static void pack_file(const char *path, const char *name, long long size) {
    char line[PATH_BYTES + 40];
    int length = snprintf(line, sizeof line, "F %lld %s\n", size, name);
    put(line, (size_t)length, ZSTD_e_continue);
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        fail(path);
    ssize_t n;
    while ((n = read(fd, chunk, CHUNK)) > 0)
        put(chunk, (size_t)n, ZSTD_e_continue);
    if (n < 0 || close(fd) != 0)
        fail(path);
    files++;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void pack_directory(const char *path, size_t prefix) {
    DIR *directory = opendir(path);
    if (!directory)
        fail(path);
    char **names = NULL;
    size_t count = 0;
    struct dirent *entry;
    while ((entry = readdir(directory)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            names = realloc(names, (count + 1) * sizeof *names);
            names[count++] = strdup(entry->d_name);
        }
    closedir(directory);
    if (count)
        qsort(names, count, sizeof *names, by_name);
    for (size_t i = 0; i < count; i++) {
        char below[PATH_BYTES];
        struct stat status;
        snprintf(below, sizeof below, "%s/%s", path, names[i]);
        if (lstat(below, &status) != 0)
            fail(below);
        if (S_ISDIR(status.st_mode)) {
            char line[PATH_BYTES + 4];
            put(line, (size_t)snprintf(line, sizeof line, "D %s\n", below + prefix), ZSTD_e_continue);
            directories++;
            pack_directory(below, prefix);
        } else if (S_ISREG(status.st_mode)) {
            pack_file(below, below + prefix, (long long)status.st_size);
        }
        free(names[i]);
    }
    free(names);
}

/* ---- unpack */

static ZSTD_DCtx *decompressor;
static ZSTD_inBuffer input = {packed, 0, 0};
static size_t have, used;

static int more(void) { /* fills chunk; 0 at the end */
    have = used = 0;
    while (have == 0) {
        if (input.pos == input.size) {
            ssize_t n = read(archive, packed, CHUNK);
            if (n < 0)
                fail("read");
            if (n == 0)
                return 0;
            input.size = (size_t)n;
            input.pos = 0;
        }
        ZSTD_outBuffer out = {chunk, CHUNK, 0};
        check(ZSTD_decompressStream(decompressor, &out, &input));
        have = out.pos;
    }
    raw_bytes += (long long)have;
    return 1;
}

static int get_line(char *line, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (used == have && !more())
            return 0;
        line[i] = chunk[used++];
        if (line[i] == '\n') {
            line[i] = 0;
            return 1;
        }
    }
    fprintf(stderr, "a line is too long\n");
    exit(1);
}

static void unpack_file(const char *path, long long size) {
    char partial[PATH_BYTES + 8];
    snprintf(partial, sizeof partial, "%s.part", path);
    int fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    if (fd < 0)
        fail(partial);
    for (long long left = size; left > 0;) {
        if (used == have && !more()) {
            fprintf(stderr, "the archive is cut off\n");
            exit(1);
        }
        size_t n = have - used;
        if ((long long)n > left)
            n = (size_t)left;
        write_all(fd, chunk + used, n);
        used += n;
        left -= (long long)n;
    }
    if (close(fd) != 0 || rename(partial, path) != 0)
        fail(path);
    files++;
}

static void unpack_tree(const char *tree) {
    char line[PATH_BYTES + 40], path[2 * PATH_BYTES + 40];
    while (get_line(line, sizeof line)) {
        if (line[0] == 'D') {
            snprintf(path, sizeof path, "%s/%s", tree, line + 2);
            if (mkdir(path, 0777) != 0)
                fail(path);
            directories++;
        } else {
            char *name;
            long long size = strtoll(line + 2, &name, 10);
            snprintf(path, sizeof path, "%s/%s", tree, name + 1);
            path[PATH_BYTES - 1] = 0;
            unpack_file(path, size);
        }
    }
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "pack") == 0) {
        compressor = ZSTD_createCCtx();
        check(ZSTD_CCtx_setParameter(compressor, ZSTD_c_compressionLevel, atoi(argv[4])));
        archive = open(argv[3], O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (archive < 0)
            fail(argv[3]);
        pack_directory(argv[2], strlen(argv[2]) + 1);
        put("", 0, ZSTD_e_end);
    } else if (argc == 4 && strcmp(argv[1], "unpack") == 0) {
        decompressor = ZSTD_createDCtx();
        archive = open(argv[2], O_RDONLY);
        if (archive < 0 || mkdir(argv[3], 0777) != 0)
            fail(argv[2]);
        unpack_tree(argv[3]);
    } else {
        return 2;
    }
    struct stat status;
    if (fstat(archive, &status) != 0 || close(archive) != 0)
        fail("archive");
    printf("%s: %lld files, %lld directories, %lld bytes, %lld packed\n", argv[1], files, directories, raw_bytes,
           (long long)status.st_size);
    return 0;
}
