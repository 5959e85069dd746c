/* Put before the C library of a process (LD_PRELOAD), this writes down what it asks of the files of one directory, as
 * trace.py describes, and fails calls on request. Built when it is needed, on the machine where it is needed.
 *
 * Stores into a shared mapping pass by the C library: at each call that could end or flush them, and at each mark,
 * the pages that differ from what is known of the file are taken for writes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 1024
#define FILES 64
#define PAGE 4096u
#define IOVECS 64

/* trace.py: KINDS */
enum kind { BASE, CREATE, WRITE, TRUNCATE, SYNC, SYNC_WRITE, SYNC_NAMES, LINK, RENAME, UNLINK, BEGUN, DURABLE };
/* preload.py: OPERATIONS */
enum operation { OP_NONE, OP_ANY, OP_FLUSH, OP_WRITE, OP_TRUNCATE, OP_OPEN, OP_READ };

struct record {
    uint8_t kind, flags;
    uint16_t name_length, name2_length, zero;
    int32_t error;
    uint32_t file;
    uint64_t offset, length;
} __attribute__((packed));

struct file {
    ino_t inode;
    uint8_t *shadow; /* what is known of its content; only while it is mapped */
    size_t shadow_size;
    int fd; /* of our own */
    void *map;
    size_t map_length;
};

static struct {
    char directory[4096];
    int trace; /* descriptor; 0: nothing is written down */
    uint8_t file_of[FDS], synchronous[FDS];
    struct file files[FILES];
    unsigned file_count;
    enum operation fault;
    long fault_at, fault_calls, calls[OP_READ + 1];
    int fault_error;
    bool fault_sticky;
} state;

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void put(const void *bytes, size_t length) {
    for (const char *at = bytes; length > 0;) {
        ssize_t done = REAL(write)(state.trace, at, length);
        if (done <= 0) abort();
        at += done;
        length -= (size_t)done;
    }
}

static void tell(enum kind kind, uint32_t file, uint64_t offset, const void *data, size_t length, const char *name,
                 const char *name2, int error) {
    struct record record = {.kind = (uint8_t)kind,
                            .name_length = (uint16_t)strlen(name),
                            .name2_length = (uint16_t)strlen(name2),
                            .error = error,
                            .file = file,
                            .offset = offset,
                            .length = length};
    put(&record, sizeof record);
    put(name, record.name_length);
    put(name2, record.name2_length);
    put(data, length);
}

/* Whether this call is to fail; errno is then set. */
static bool failing(enum operation operation) {
    state.calls[operation]++;
    if (state.fault == OP_NONE || (state.fault != OP_ANY && state.fault != operation)) return false;
    long number = state.fault_calls++;
    if (number != state.fault_at && !(state.fault_sticky && number > state.fault_at)) return false;
    errno = state.fault_error;
    return true;
}

static const char *name_within(const char *path) {
    size_t length = strlen(state.directory);
    if (!state.trace || strncmp(path, state.directory, length) != 0 || path[length] != '/') return NULL;
    const char *name = path + length + 1, *suffix = strrchr(name, '-');
    return suffix != NULL && strcmp(suffix, "-lock") == 0 ? NULL : name;
}

static unsigned number_of(int fd) {
    struct stat found;
    if (fstat(fd, &found) != 0) abort();
    for (unsigned i = 1; i <= state.file_count; i++)
        if (state.files[i].inode == found.st_ino) return i;
    if (state.file_count + 1 == FILES) abort();
    state.files[++state.file_count] = (struct file){.inode = found.st_ino, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 900)};
    return state.file_count;
}

static unsigned tracked(int fd) { return state.trace && fd >= 0 && fd < FDS ? state.file_of[fd] : 0; }

static void opened(int fd, const char *name, int flags, bool existed) {
    if (fd < 0 || fd >= FDS) return;
    unsigned file = number_of(fd);
    state.file_of[fd] = (uint8_t)file;
    state.synchronous[fd] = (flags & O_DSYNC) != 0;
    if (!existed)
        tell(CREATE, file, 0, "", 0, name, "", 0);
    else if (flags & O_TRUNC)
        tell(TRUNCATE, file, 0, "", 0, "", "", 0);
}

static int open_path(int directory, const char *path, int flags, mode_t mode) {
    const char *name = name_within(path);
    if (name == NULL) return REAL(openat)(directory, path, flags, mode);
    if (failing(OP_OPEN)) return -1;
    bool existed = access(path, F_OK) == 0;
    int fd = REAL(openat)(directory, path, flags, mode);
    int error = errno;
    opened(fd, name, flags, existed);
    errno = error;
    return fd;
}

#define OPEN_FUNCTION(name)                              \
    int name(const char *path, int flags, ...) {         \
        va_list arguments;                               \
        va_start(arguments, flags);                      \
        mode_t mode = va_arg(arguments, mode_t);         \
        va_end(arguments);                               \
        return open_path(AT_FDCWD, path, flags, mode);   \
    }
OPEN_FUNCTION(open)
OPEN_FUNCTION(open64)

int close(int fd) {
    if (fd >= 0 && fd < FDS) state.file_of[fd] = 0;
    return REAL(close)(fd);
}

static void shadow_write(struct file *file, uint64_t offset, const void *data, size_t length) {
    if (file->shadow == NULL) return;
    if (offset + length > file->shadow_size) {
        file->shadow = realloc(file->shadow, offset + length);
        memset(file->shadow + file->shadow_size, 0, offset + length - file->shadow_size);
        file->shadow_size = offset + length;
    }
    memcpy(file->shadow + offset, data, length);
}

/* What was stored through the mapping since the last look. */
static void look(unsigned number) {
    struct file *file = &state.files[number];
    struct stat found;
    if (file->map == NULL || fstat(file->fd, &found) != 0) return;
    uint8_t page[PAGE];
    for (uint64_t at = 0; at < (uint64_t)found.st_size; at += PAGE) {
        ssize_t length = REAL(pread)(file->fd, page, PAGE, (off_t)at);
        if (length <= 0) break;
        bool known = at + (uint64_t)length <= file->shadow_size;
        if (known && memcmp(file->shadow + at, page, (size_t)length) == 0) continue;
        shadow_write(file, at, page, (size_t)length);
        tell(WRITE, number, at, page, (size_t)length, "", "", 0);
    }
}

static void look_all(void) {
    for (unsigned i = 1; i <= state.file_count; i++)
        look(i);
}

static void wrote(int fd, uint64_t offset, const struct iovec *parts, int count, ssize_t done) {
    unsigned number = tracked(fd);
    if (done <= 0) return;
    for (int i = 0; i < count && done > 0; i++) {
        size_t length = parts[i].iov_len < (size_t)done ? parts[i].iov_len : (size_t)done;
        shadow_write(&state.files[number], offset, parts[i].iov_base, length);
        tell(WRITE, number, offset, parts[i].iov_base, length, "", "", 0);
        if (state.synchronous[fd]) tell(SYNC_WRITE, number, 0, "", 0, "", "", 0);
        offset += length;
        done -= (ssize_t)length;
    }
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    if (!tracked(fd)) return REAL(pwrite)(fd, data, length, offset);
    if (failing(OP_WRITE)) return -1;
    ssize_t done = REAL(pwrite)(fd, data, length, offset);
    int error = errno;
    wrote(fd, (uint64_t)offset, &(struct iovec){(void *)data, length}, 1, done);
    errno = error;
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) { return pwrite(fd, data, length, offset); }

ssize_t writev(int fd, const struct iovec *parts, int count) {
    if (!tracked(fd)) return REAL(writev)(fd, parts, count);
    if (failing(OP_WRITE)) return -1;
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = REAL(writev)(fd, parts, count);
    int error = errno;
    wrote(fd, (uint64_t)offset, parts, count, done);
    errno = error;
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!tracked(fd)) return REAL(write)(fd, data, length);
    return writev(fd, &(struct iovec){(void *)data, length}, 1);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    if (!tracked(fd)) return REAL(pwritev)(fd, parts, count, offset);
    if (failing(OP_WRITE)) return -1;
    ssize_t done = REAL(pwritev)(fd, parts, count, offset);
    int error = errno;
    wrote(fd, (uint64_t)offset, parts, count, done);
    errno = error;
    return done;
}

ssize_t pread(int fd, void *to, size_t length, off_t offset) {
    if (tracked(fd) && failing(OP_READ)) return -1;
    return REAL(pread)(fd, to, length, offset);
}

int ftruncate(int fd, off_t size) {
    unsigned number = tracked(fd);
    if (!number) return REAL(ftruncate)(fd, size);
    if (failing(OP_TRUNCATE)) return -1;
    look(number);
    int result = REAL(ftruncate)(fd, size);
    int error = errno;
    if (result == 0) tell(TRUNCATE, number, (uint64_t)size, "", 0, "", "", 0);
    errno = error;
    return result;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

/* `range`: the first byte and the one behind the last; NULL: the whole file. */
static int flush(unsigned number, const uint64_t *range, int (*call)(int), int fd) {
    look(number);
    int result = failing(OP_FLUSH) ? -1 : call(fd);
    int error = errno;
    tell(SYNC, number, 0, range, range ? 2 * sizeof *range : 0, "", "", result == 0 ? 0 : error);
    errno = error;
    return result;
}

int fdatasync(int fd) {
    unsigned number = tracked(fd);
    return number ? flush(number, NULL, REAL(fdatasync), fd) : REAL(fdatasync)(fd);
}

int fsync(int fd) {
    unsigned number = tracked(fd);
    return number ? flush(number, NULL, REAL(fsync), fd) : REAL(fsync)(fd);
}

int msync(void *address, size_t length, int flags) {
    for (unsigned i = 1; i <= state.file_count; i++) {
        struct file *file = &state.files[i];
        char *start = file->map, *from = address;
        if (start == NULL || from < start || from >= start + file->map_length) continue;
        if (!(flags & MS_SYNC)) return REAL(msync)(address, length, flags);
        uint64_t first = (uint64_t)(from - start) & ~(uint64_t)(PAGE - 1);
        uint64_t range[2] = {first, ((uint64_t)(from - start) + length + PAGE - 1) & ~(uint64_t)(PAGE - 1)};
        return flush(i, range, REAL(fdatasync), file->fd);
    }
    return REAL(msync)(address, length, flags);
}

static void *map(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    void *result = REAL(mmap)(address, length, protection, flags, fd, offset);
    unsigned number = tracked(fd);
    if (!number || result == MAP_FAILED || !(flags & MAP_SHARED) || !(protection & PROT_WRITE)) return result;
    struct file *file = &state.files[number];
    struct stat found;
    if (offset != 0 || fstat(file->fd, &found) != 0) abort();
    file->map = result;
    file->map_length = length;
    free(file->shadow);
    file->shadow_size = (size_t)found.st_size;
    file->shadow = malloc(file->shadow_size + 1);
    if (REAL(pread)(file->fd, file->shadow, file->shadow_size, 0) != (ssize_t)file->shadow_size) abort();
    return result;
}
void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    return map(address, length, protection, flags, fd, offset);
}
void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset) {
    return map(address, length, protection, flags, fd, offset);
}

int munmap(void *address, size_t length) {
    for (unsigned i = 1; i <= state.file_count; i++)
        if (state.files[i].map != NULL && state.files[i].map == address) {
            look(i);
            state.files[i].map = NULL;
        }
    return REAL(munmap)(address, length);
}

int rename(const char *from, const char *to) {
    const char *name = name_within(from), *name2 = name_within(to);
    int result = REAL(rename)(from, to);
    if (result == 0 && name != NULL && name2 != NULL) tell(RENAME, 0, 0, "", 0, name, name2, 0);
    return result;
}

int unlink(const char *path) {
    const char *name = name_within(path);
    int result = REAL(unlink)(path);
    if (result == 0 && name != NULL) tell(UNLINK, 0, 0, "", 0, name, "", 0);
    return result;
}

/* What preload.py calls. */

int kvwasi_trace_begin(const char *directory, const char *path) {
    if (strlen(directory) >= sizeof state.directory) return ENAMETOOLONG;
    strcpy(state.directory, directory);
    int fd = REAL(open)(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return errno;
    state.trace = fcntl(fd, F_DUPFD_CLOEXEC, 899);
    REAL(close)(fd);
    put("kvwasi trace 1\n", 15);
    return 0;
}

void kvwasi_trace_mark(int durable, unsigned lane, unsigned long number) {
    look_all();
    tell(durable ? DURABLE : BEGUN, lane, number, "", 0, "", "", 0);
}

void kvwasi_trace_fault(int operation, long at, int error, int sticky) {
    state.fault = (enum operation)operation;
    state.fault_at = at;
    state.fault_calls = 0;
    state.fault_error = error;
    state.fault_sticky = sticky != 0;
}

/* Of an operation, since the beginning. */
int kvwasi_trace_calls(int operation) { return (int)state.calls[operation]; }

void kvwasi_trace_end(void) {
    look_all();
    int fd = state.trace;
    state.trace = 0;
    REAL(close)(fd);
}
