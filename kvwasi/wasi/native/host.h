/* Inside the WASI host: one `kvw_host` is the descriptor table of one guest and what hangs on it. */
#ifndef KVW_HOST_H
#define KVW_HOST_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "guest_memory.h"
#include "host_api.h"
#include "preview1.h"

#define KVW_UNLIKELY(condition) __builtin_expect(!!(condition), 0)

/* Bounds on what a guest can make the host hold. */
#define KVW_BLOCK_DESCRIPTORS 64u
#define KVW_BLOCKS 1024u
#define KVW_DESCRIPTORS_MAX (KVW_BLOCK_DESCRIPTORS * KVW_BLOCKS)
#define KVW_IOVECS_MAX 1024u /* POSIX's IOV_MAX on Linux */
#define KVW_PATH_MAX 4096u   /* bytes of a path, its NUL included */
#define KVW_POLL_MAX 4096u   /* subscriptions of one poll_oneoff */
#define KVW_FILE_BUCKETS 64u
#define KVW_LISTING_BYTES 32768u

#define KVW_ACCESS_READ 1u
#define KVW_ACCESS_WRITE 2u

typedef struct kvw_file kvw_file;
typedef struct kvw_listing kvw_listing;

/* A Python object in the place of a stdio descriptor. Each returns a byte count or minus an errno of the
 * OS. */
typedef struct kvw_stream {
    ssize_t (*read)(void *context, void *to, size_t length);
    ssize_t (*write)(void *context, const void *from, size_t length);
    void *context;
} kvw_stream;

typedef struct kvw_descriptor {
    int os_fd; /* -1: a free slot, or a stream */
    bool open;
    bool typed;          /* `filetype` and `positioned` are known: kvw_filetype() asks the OS once */
    uint8_t filetype;    /* WASI_FILETYPE_* */
    bool positioned;     /* the host keeps the position and every transfer names it */
    uint8_t access;      /* KVW_ACCESS_* that the guest asked for */
    bool read_only;      /* reached through a read-only preopen */
    bool exclusive;      /* reached through an exclusive preopen */
    bool sync_asked;     /* opened with the right to sync, without which a directory is not flushed */
    bool map_writable;   /* the OS lets it be mapped for writing */
    bool inherited;      /* stdio: the position is the OS's, shared with other processes */
    bool flags_behind;   /* the OS does not yet have what `flags` says of APPEND and NONBLOCK */
    bool position_in_os; /* after an append only the OS knows the position */
    bool range_locked;   /* through kvw_api.lock_shared */
    uint16_t flags;      /* WASI_FD_* */
    uint16_t own_flags;  /* those of them that the host adds to each write, the OS not knowing */
    uint64_t position;
    uint64_t rights; /* WASI_RIGHT_* not dropped */
    uint64_t inheriting;
    kvw_file *file; /* regular file in exclusive mode */
    kvw_listing *listing;
    kvw_stream *stream;
    char *guest_path; /* preopens */
} kvw_descriptor;

struct kvw_host {
    const kvw_wasmtime *wasmtime;
    atomic_uint references;      /* the owner's and one for each function defined in a linker */
    wasmtime_context_t *context; /* of the attached instance, else NULL */
    wasmtime_memory_t memory;
    kvw_memory seen;            /* where the memory was at the last call */
    pthread_mutex_t table_lock; /* changes of the table against kvw_api.datasync from other threads */
    kvw_descriptor *blocks[KVW_BLOCKS];
    uint32_t slots;                    /* allocated in blocks */
    uint32_t first_free;               /* no free slot below */
    kvw_file *files[KVW_FILE_BUCKETS]; /* of exclusive descriptors, by inode */
    uint32_t files_behind;             /* whose mtime waits for kvw_file_settle */
    kvw_file *parked; /* the last one closed: a guest that opens it again finds its window in place */
    const struct kvw_storage_hook *hook;
    bool walk_only;         /* resolve paths component by component even where openat2 works */
    dev_t root_devices[16]; /* of the preopens, whose ".." is themselves */
    ino_t root_inodes[16];
    bool alongside; /* KVW_PREOPEN_ALONGSIDE */
    uint32_t roots;
    /* behind.c */
    kvw_defer defers;
    struct kvw_behind *_Atomic behind; /* NULL until it is needed */
    atomic_bool is_behind;             /* something may be behind, or has failed */
};

/* fd_table.c */
static inline kvw_descriptor *kvw_slot(kvw_host *host, uint32_t fd)
{
    return &host->blocks[fd / KVW_BLOCK_DESCRIPTORS][fd % KVW_BLOCK_DESCRIPTORS];
}
/* NULL when `fd` is not open. */
static inline kvw_descriptor *kvw_descriptor_of(kvw_host *host, uint32_t fd)
{
    if (KVW_UNLIKELY(fd >= host->slots))
        return NULL;
    kvw_descriptor *d = kvw_slot(host, fd);
    return KVW_UNLIKELY(!d->open) ? NULL : d;
}
/* Put `d` (whose resources the table then owns) into the lowest free slot. WASI_OK, WASI_EMFILE or
 * WASI_ENOMEM. */
uint32_t kvw_descriptor_add(kvw_host *host, const kvw_descriptor *d, uint32_t *fd);
/* Put `d` at `fd`, replacing nothing: for stdio. */
uint32_t kvw_descriptor_put(kvw_host *host, uint32_t fd, const kvw_descriptor *d);
/* The errno of closing counts only for what the OS failed to write. */
uint32_t kvw_descriptor_close(kvw_host *host, uint32_t fd);
void kvw_descriptor_move(kvw_host *host, uint32_t from, uint32_t to);
/* What kind of file it is, asking the OS once. */
uint32_t kvw_filetype(kvw_descriptor *d);
void kvw_descriptor_typed(kvw_descriptor *d, mode_t mode);
uint32_t kvw_filetype_of_mode(mode_t mode);
/* A duplicate of the OS's descriptor behind `fd`, from any thread; -1 and errno. The caller closes it. */
int kvw_descriptor_duplicate(kvw_host *host, uint32_t fd);
/* Give the OS the flags that fd_fdstat_set_flags only noted. 0 or an errno. */
int kvw_flags_settle(kvw_descriptor *d);

/* errno.c */
uint32_t kvw_errno(int os_error);

/* host.c: a host call. `arguments[i]` are its WASI parameters; returns a wasi_errno. */
typedef uint32_t kvw_call(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *arguments);
void kvw_release(kvw_host *host);

static inline uint32_t kvw_u32(const wasmtime_val_raw_t *argument) { return (uint32_t)argument->i32; }
static inline uint64_t kvw_u64(const wasmtime_val_raw_t *argument) { return (uint64_t)argument->i64; }

/* calls.h lists them */
#define KVW_DECLARE(name, parameters) kvw_call kvw_##name;
#include "calls.h"
KVW_CALLS(KVW_DECLARE)
#undef KVW_DECLARE

/* WASI_OK when `d` was opened for `access` and has not dropped `right`. */
static inline uint32_t kvw_may(const kvw_descriptor *d, uint32_t access, uint64_t right)
{
    if (KVW_UNLIKELY((d->access & access) != access))
        return WASI_EBADF;
    return KVW_UNLIKELY(!(d->rights & right)) ? WASI_ENOTCAPABLE : WASI_OK;
}

/* fd_stat.c */
void kvw_store_filestat(uint8_t *to, const struct stat *st);
/* The two timespecs of utimensat. WASI_EINVAL for contradicting flags. */
uint32_t kvw_times(uint64_t atim, uint64_t mtim, uint32_t flags, struct timespec times[2]);

/* dir.c */
void kvw_listing_free(kvw_listing *listing);

#endif
