#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

#define FILES 8
#define DESCRIPTORS 16
#define DIRECTORY (-2)

typedef struct file {
    uint8_t *bytes;
    size_t size, capacity;
    int references; /* names and descriptors */
} file;

static struct { char path[64]; file *file; } names[FILES];
static file *descriptors[DESCRIPTORS];
static file directory;

static struct { uint64_t left, done; int error; bool armed, sticky, reads, broken; } fault;

static uint64_t limit;
void disk_limit(uint64_t bytes) { limit = bytes; }

static disk_trace trace;
static file *traced;

static bool fails(bool is_read) {
    if (is_read && !fault.reads) return false;
    fault.done++;
    if (fault.broken) {
        errno = fault.error;
        return true;
    }
    if (!fault.armed || fault.left-- > 0) return false;
    fault.armed = false;
    fault.broken = fault.sticky;
    errno = fault.error;
    return true;
}

void disk_fail(uint64_t n, int error, bool sticky, bool reads) {
    fault.left = n;
    fault.done = 0;
    fault.error = error;
    fault.armed = true;
    fault.sticky = sticky;
    fault.reads = reads;
    fault.broken = false;
}

void disk_heal(void) { fault.armed = fault.broken = false; }
uint64_t disk_operations(void) { return fault.done; }

static void drop(file *f) {
    if (--f->references > 0 || f == &directory) return;
    CHECK(f != traced);
    free(f->bytes);
    free(f);
}

static int find(const char *path) {
    for (int i = 0; i < FILES; i++)
        if (names[i].file != NULL && strcmp(names[i].path, path) == 0) return i;
    return -1;
}

static int add_name(const char *path, file *f) {
    for (int i = 0; i < FILES; i++) {
        if (names[i].file != NULL) continue;
        CHECK(strlen(path) < sizeof names[i].path);
        strcpy(names[i].path, path);
        names[i].file = f;
        f->references++;
        return i;
    }
    CHECK(false); /* room for names */
    return -1;
}

static void resize(file *f, size_t size) {
    if (size > f->capacity) {
        f->capacity = size * 2;
        f->bytes = realloc(f->bytes, f->capacity);
        CHECK(f->bytes != NULL);
    }
    if (size > f->size) memset(f->bytes + f->size, 0, size - f->size);
    f->size = size;
}

int disk_open(const char *path, int flags, ...) {
    file *f;
    if (flags & O_DIRECTORY) {
        f = &directory;
    } else {
        int i = find(path);
        if (i < 0 && !(flags & O_CREAT)) {
            errno = ENOENT;
            return -1;
        }
        if ((flags & O_CREAT) && fails(false)) return -1;
        if (i < 0) i = add_name(path, calloc(1, sizeof(file)));
        f = names[i].file;
        if (flags & O_TRUNC) f->size = 0;
    }
    for (int fd = 3; fd < DESCRIPTORS; fd++) {
        if (descriptors[fd] != NULL) continue;
        descriptors[fd] = f;
        f->references++;
        return fd;
    }
    CHECK(false); /* room for descriptors: one is leaked */
    return -1;
}

static file *get(int fd) {
    CHECK(fd >= 3 && fd < DESCRIPTORS && descriptors[fd] != NULL);
    return descriptors[fd];
}

int disk_close(int fd) {
    drop(get(fd));
    descriptors[fd] = NULL;
    return 0;
}

static void (*before_read)(void);
static uint64_t reads_left;

void disk_before_read(uint64_t n, void (*call)(void)) {
    before_read = call;
    reads_left = n;
}

bool disk_has_called(void) { return before_read == NULL; }

ssize_t disk_pread(int fd, void *to, size_t length, off_t offset) {
    if (before_read != NULL && reads_left-- == 0) {
        void (*call)(void) = before_read;
        before_read = NULL;
        call();
    }
    const file *f = get(fd);
    CHECK(offset >= 0);
    if (fails(true)) return -1;
    size_t at = (size_t)offset;
    if (at >= f->size) return 0;
    if (length > f->size - at) length = f->size - at;
    if (length > 1 && length % 7 == 3) length /= 2; /* short reads are legal */
    memcpy(to, f->bytes + at, length);
    return (ssize_t)length;
}

static disk_event *add_event(void) {
    if (trace.length == trace.capacity) {
        trace.capacity = trace.capacity == 0 ? 64 : 2 * trace.capacity;
        trace.events = realloc(trace.events, trace.capacity * sizeof *trace.events);
        CHECK(trace.events != NULL);
    }
    disk_event *event = &trace.events[trace.length++];
    memset(event, 0, sizeof *event);
    return event;
}

ssize_t disk_pwrite(int fd, const void *from, size_t length, off_t offset) {
    file *f = get(fd);
    CHECK(offset >= 0);
    bool grows = (size_t)offset + length > f->size, filling = fault.error == ENOSPC && (fault.armed || fault.broken);
    if ((!filling || grows) && fails(false)) { /* a full disk still takes what needs no new space, */
        if (fault.error != ENOSPC || length < 2) return -1;
        length /= 2; /* and, of what does, what it can */
        fault.armed = !fault.broken;
        fault.left = 0;
    }
    if (limit != 0 && (uint64_t)offset + length > limit && (size_t)offset + length > f->size) {
        if ((uint64_t)offset >= limit) {
            errno = ENOSPC;
            return -1;
        }
        length = (size_t)(limit - (uint64_t)offset);
    }
    if ((size_t)offset + length > f->size) resize(f, (size_t)offset + length);
    memcpy(f->bytes + offset, from, length);
    if (f == traced) {
        disk_event *event = add_event();
        event->type = DISK_WRITE;
        event->offset = (uint64_t)offset;
        event->length = length;
        event->bytes = malloc(length);
        memcpy(event->bytes, from, length);
    }
    return (ssize_t)length;
}

int disk_sync(int fd) {
    const file *f = get(fd);
    if (fails(false)) return -1;
    if (f == traced) add_event()->type = DISK_SYNC;
    return 0;
}

int disk_fstat(int fd, struct stat *to) {
    const file *f = get(fd);
    memset(to, 0, sizeof *to);
    to->st_mode = S_IFREG | 0644;
    to->st_size = (off_t)f->size;
    return 0;
}

int disk_link(const char *from, const char *to) {
    int i = find(from);
    CHECK(i >= 0);
    if (fails(false)) return -1;
    if (find(to) >= 0) {
        errno = EEXIST;
        return -1;
    }
    add_name(to, names[i].file);
    return 0;
}

int disk_unlink(const char *path) {
    int i = find(path);
    if (i < 0) {
        errno = ENOENT;
        return -1;
    }
    if (fails(false)) return -1;
    file *f = names[i].file;
    names[i].file = NULL;
    drop(f);
    return 0;
}

int disk_rename(const char *from, const char *to) {
    int i = find(from), j = find(to);
    CHECK(i >= 0);
    if (fails(false)) return -1;
    if (j >= 0) {
        file *f = names[j].file;
        names[j].file = NULL;
        drop(f);
    }
    strcpy(names[i].path, to);
    return 0;
}

uint8_t *disk_bytes(const char *path, size_t *size) {
    int i = find(path);
    if (i < 0) return NULL;
    *size = names[i].file->size;
    return names[i].file->bytes;
}

void disk_put(const char *path, const uint8_t *bytes, size_t size) {
    int i = find(path);
    if (i < 0) i = add_name(path, calloc(1, sizeof(file)));
    resize(names[i].file, size);
    if (size > 0) memcpy(names[i].file->bytes, bytes, size);
}

void disk_reset(void) {
    CHECK(traced == NULL);
    disk_heal();
    limit = 0;
    fault.done = 0;
    fault.reads = false;
    for (int fd = 0; fd < DESCRIPTORS; fd++) CHECK(descriptors[fd] == NULL); /* leaked */
    for (int i = 0; i < FILES; i++) {
        if (names[i].file == NULL) continue;
        file *f = names[i].file;
        names[i].file = NULL;
        drop(f);
    }
}

void disk_trace_begin(const char *path) {
    int i = find(path);
    CHECK(i >= 0 && traced == NULL);
    traced = names[i].file;
    memset(&trace, 0, sizeof trace);
    trace.base_size = traced->size;
    trace.base = malloc(traced->size + 1);
    if (traced->size > 0) memcpy(trace.base, traced->bytes, traced->size);
}

void disk_trace_mark(uint64_t mark) {
    disk_event *event = add_event();
    event->type = DISK_MARK;
    event->mark = mark;
}

disk_trace disk_trace_take(void) {
    traced = NULL;
    return trace;
}

void disk_trace_free(disk_trace *taken) {
    for (size_t i = 0; i < taken->length; i++) free(taken->events[i].bytes);
    free(taken->events);
    free(taken->base);
    memset(taken, 0, sizeof *taken);
}
