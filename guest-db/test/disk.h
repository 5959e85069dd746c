/* A disk in memory: a few named files, faults at chosen operations, and a trace from which the states that a power cut may
 * leave behind are built. */
#ifndef KV_TEST_DISK_H
#define KV_TEST_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

int disk_open(const char *path, int flags, ...);
int disk_close(int fd);
ssize_t disk_pread(int fd, void *to, size_t length, off_t offset);
ssize_t disk_pwrite(int fd, const void *from, size_t length, off_t offset);
int disk_sync(int fd);
int disk_fstat(int fd, struct stat *to);
int disk_link(const char *from, const char *to);
int disk_rename(const char *from, const char *to);
int disk_unlink(const char *path);

/* Forget all files, faults and the trace. */
void disk_reset(void);

/* The `n`th operation from now (0: the next) fails with `error`; all after it too when `sticky`. Reads count only
 * with `reads`. */
void disk_fail(uint64_t n, int error, bool sticky, bool reads);
/* Before the `n`th read from now (0: the next) `call` is called, once; NULL: no more. Whether it was. */
void disk_before_read(uint64_t n, void (*call)(void));
bool disk_has_called(void);
/* Files may not grow beyond so many bytes: ENOSPC. 0: no limit. */
void disk_limit(uint64_t bytes);
void disk_heal(void);
/* Operations since disk_fail or disk_reset. */
uint64_t disk_operations(void);

/* Contents of a file; NULL when there is none. */
uint8_t *disk_bytes(const char *path, size_t *size);
void disk_put(const char *path, const uint8_t *bytes, size_t size);

/* ---- trace of one file ---- */

typedef struct disk_event {
    enum { DISK_WRITE, DISK_SYNC, DISK_MARK } type;
    uint64_t offset; /* of a write */
    size_t length;
    uint8_t *bytes;
    uint64_t mark; /* of a DISK_MARK */
} disk_event;

typedef struct disk_trace {
    disk_event *events;
    size_t length, capacity;
    uint8_t *base; /* the file at the beginning: durable */
    size_t base_size;
} disk_trace;

/* Record what happens to `path` from now on. */
void disk_trace_begin(const char *path);
void disk_trace_mark(uint64_t mark);
/* Stop, and hand over what was recorded. */
disk_trace disk_trace_take(void);
void disk_trace_free(disk_trace *trace);

#endif
