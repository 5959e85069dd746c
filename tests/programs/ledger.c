/* A small program that does what programs do: a log it appends to and rotates, a table it changes in place,
 * a tree of notes it lists, renames and removes. What it prints depends on nothing but the file system's answers. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ROWS = 300, ROW_BYTES = 25, NOTES = 25 };

static void report(const char *what, int result) {
    printf("%s: %s\n", what, result == 0 ? "ok" : strerror(errno));
}

static void show_size(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0)
        printf("%s: %s\n", path, strerror(errno));
    else
        printf("%s: %s of %lld bytes, %d links\n", path, S_ISDIR(status.st_mode) ? "directory" : "file",
               S_ISDIR(status.st_mode) ? 0LL : (long long)status.st_size,
               S_ISDIR(status.st_mode) ? 0 : (int)status.st_nlink);
}

/* Rows of fixed size, written in order, then changed and summed through seeks. */
static void table(void) {
    FILE *file = fopen("table", "w+b");
    char row[ROW_BYTES + 1];
    long sum = 0;
    if (!file) {
        report("table", -1);
        return;
    }
    for (int i = 0; i < ROWS; i++)
        fprintf(file, "row %05d value %07d \n", i, i * 37 % 1000);
    for (int i = 0; i < ROWS; i += 7) {
        fseek(file, (long)i * ROW_BYTES + 16, SEEK_SET);
        fprintf(file, "%07d", i);
    }
    rewind(file);
    while (fread(row, ROW_BYTES, 1, file) == 1) {
        row[ROW_BYTES] = 0;
        sum += strtol(row + 16, NULL, 10);
    }
    printf("table: sum %ld, ends at %ld, eof %d\n", sum, ftell(file), feof(file) != 0);
    fseek(file, 10, SEEK_END); /* a hole of ten zeros */
    fputc('!', file);
    fflush(file);
    report("cut", ftruncate(fileno(file), ROWS * ROW_BYTES + 5));
    fseek(file, -3, SEEK_END);
    for (int c; (c = fgetc(file)) != EOF;)
        printf("byte %d\n", c);
    report("close", fclose(file));
    show_size("table");
}

/* Appended to through one descriptor, read through another, moved away at 500 bytes. */
static void log_lines(void) {
    int reader = -1, rotations = 0;
    for (int i = 0; i < 60; i++) {
        char line[64], name[32];
        int length = snprintf(line, sizeof line, "event %d happened\n", i);
        int fd = open("log", O_WRONLY | O_CREAT | O_APPEND, 0666);
        struct stat status;
        if (fd < 0 || write(fd, line, (size_t)length) != length || fstat(fd, &status) != 0)
            report("append", -1);
        close(fd);
        if (status.st_size > 500) {
            snprintf(name, sizeof name, "log.%d", rotations++);
            report(name, rename("log", name));
        }
    }
    char start[13] = {0}, end[13] = {0};
    reader = open("log.0", O_RDONLY);
    if (pread(reader, start, 12, 0) < 0 || lseek(reader, -12, SEEK_END) < 0 || read(reader, end, 12) < 0)
        report("read", -1);
    printf("log.0 from %s to %s", start, end);
    report("write to a file opened for reading", write(reader, "x", 1) == 1 ? 0 : -1);
    report("close", close(reader));
    report("close again", close(reader));
    show_size("log");
    show_size("log.1");
}

static int by_name(const void *a, const void *b) {
    return strcmp((const char *)a, (const char *)b);
}

static void list(const char *path) {
    char names[2 * NOTES][64];
    size_t count = 0;
    DIR *directory = opendir(path);
    if (!directory) {
        report(path, -1);
        return;
    }
    for (struct dirent *entry; (entry = readdir(directory)) && count < 2 * NOTES;)
        snprintf(names[count++], sizeof names[0], "%.40s", entry->d_name);
    closedir(directory);
    qsort(names, count, sizeof names[0], by_name);
    printf("%s:", path);
    for (size_t i = 0; i < count; i++)
        printf(" %s", names[i]);
    putchar('\n');
}

static void notes(void) {
    char path[64], other[64];
    report("mkdir", mkdir("notes", 0777));
    report("mkdir again", mkdir("notes", 0777));
    report("mkdir below", mkdir("notes/old", 0777));
    for (int i = 0; i < NOTES; i++) {
        snprintf(path, sizeof path, "notes/note-%02d", i);
        FILE *file = fopen(path, "wx");
        if (!file || fprintf(file, "%*d\n", i, i) < 0 || fclose(file) != 0)
            report(path, -1);
    }
    for (int i = 0; i < NOTES; i += 3) {
        snprintf(path, sizeof path, "notes/note-%02d", i);
        snprintf(other, sizeof other, "notes/old/note-%02d", i % 9);
        if (rename(path, other) != 0)
            report(path, -1);
    }
    list("notes");
    list("notes/old");
    report("link", link("notes/note-01", "notes/old/linked"));
    show_size("notes/old/linked");
    report("symlink", symlink("old/linked", "notes/pointer"));
    show_size("notes/pointer");
    char target[16] = {0};
    printf("readlink: %zd %s\n", readlink("notes/pointer", target, sizeof target - 1), target);
    report("rmdir of a full directory", rmdir("notes/old"));
    report("unlink of a directory's entry", unlink("notes/old/linked"));
    show_size("notes/pointer");
    report("rename of a directory below itself", rename("notes", "notes/old/notes"));
    report("rename of a file onto a directory", rename("notes/note-01", "notes/old"));
    report("open of a directory for writing", open("notes", O_WRONLY));
    report("a file as a directory", open("table/x", O_RDONLY));
    report("exclusive creation", open("table", O_WRONLY | O_CREAT | O_EXCL, 0666));
    report("what is not there", unlink("notes/nothing"));
}

int main(int argc, char **argv) {
    char line[80];
    printf("%d arguments, the last is %s\n", argc, argv[argc - 1]);
    while (fgets(line, sizeof line, stdin))
        printf("read %zu: %s", strlen(line), line);
    table();
    log_lines();
    notes();
    list(".");
    fputs("done\n", stderr);
    return 7;
}
