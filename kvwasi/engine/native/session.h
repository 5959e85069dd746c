/* One open database: a guest instance, the lock under which it is called, and what threads wait for.
 *
 * Lock order and the GIL: nothing waits for `lock` while holding the GIL, nothing takes the GIL while holding `lock`.
 * So a thread with the GIL only tries the lock (kve_try_lock), and waits for it (kve_wait_lock) without the GIL. */
#ifndef KVE_SESSION_H
#define KVE_SESSION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "host_api.h"
#include "kv_guest.h"

/* Outcomes of this layer, beside kv_status. */
enum {
    KVE_CLOSED = 100,          /* the handle is closed */
    KVE_FORKED = 101,          /* opened by the parent process */
    KVE_BROKEN = 102,          /* a trap or a host error: `message` of the session says which */
    KVE_TIMEOUT = 103,         /* waited too long for another thread's transaction */
    KVE_OWN_TRANSACTION = 104, /* this thread has a transaction open */
    KVE_MUST_WAIT = 105,       /* another thread's transaction is open: wait with kve_writer_wait */
    KVE_SLICE = 106,           /* kve_writer_wait: nothing yet, look for signals and go on waiting */
    KVE_SYNC_FAILED = 107,     /* the flush of this commit failed; `os_error` is the OS's errno */
    KVE_SHORT = 108,           /* the file ends before the value does */
    KVE_CHECKSUM = 109,        /* the value does not match its checksum */
    KVE_ENDED = 110,           /* the transaction of this cursor or call has ended */
    KVE_HOST_IO = 111,         /* reading a value failed; `os_error` is the OS's errno */
    KVE_UNPINNED = 112,        /* the snapshot of this cursor or call is closed */
};

/* What there is to say of a status that is an error. */
typedef struct kve_failure {
    uint64_t position;
    uint32_t detail;
    int32_t os_error;
} kve_failure;

/* The exports that are called through kve_call, in the order of kve_export. */
#define KVE_EXPORTS(X)                                                                                       \
    X(init)                                                                                                  \
    X(open)                                                                                                  \
    X(refresh)                                                                                               \
    X(held)                                                                                                  \
    X(release)                                                                                               \
    X(close_mark)                                                                                            \
    X(close)                                                                                                 \
    X(get)                                                                                                   \
    X(get_many)                                                                                              \
    X(count)                                                                                                 \
    X(put)                                                                                                   \
    X(delete)                                                                                                \
    X(delete_range)                                                                                          \
    X(put_many)                                                                                              \
    X(value_begin)                                                                                           \
    X(value_chunk)                                                                                           \
    X(value_end)                                                                                             \
    X(txn_begin)                                                                                             \
    X(txn_settle)                                                                                            \
    X(catch_up)                                                                                              \
    X(txn_commit)                                                                                            \
    X(txn_rollback)                                                                                          \
    X(savepoint_begin)                                                                                       \
    X(savepoint_release)                                                                                     \
    X(savepoint_rollback)                                                                                    \
    X(table_find)                                                                                            \
    X(table_create)                                                                                          \
    X(table_drop)                                                                                            \
    X(table_names)                                                                                           \
    X(snapshot_open)                                                                                         \
    X(snapshot_close)                                                                                        \
    X(sync_begin)                                                                                            \
    X(synced)                                                                                                \
    X(sync_failed)                                                                                           \
    X(cursor_open)                                                                                           \
    X(cursor_next)                                                                                           \
    X(cursor_count)                                                                                          \
    X(cursor_close)                                                                                          \
    X(stats)                                                                                                 \
    X(check_begin)                                                                                           \
    X(check_step)                                                                                            \
    X(compact_begin)                                                                                         \
    X(compact_step)                                                                                          \
    X(compact_abort)                                                                                         \
    X(repair_begin)                                                                                          \
    X(repair_step)                                                                                           \
    X(repair_abort)

typedef enum kve_export {
#define KVE_EXPORT_ENUM(name) KVE_##name,
    KVE_EXPORTS(KVE_EXPORT_ENUM)
#undef KVE_EXPORT_ENUM
        KVE_EXPORT_COUNT
} kve_export;

/* A thread's place in the queue of writers; lives on its stack. */
typedef struct kve_waiter {
    pthread_cond_t turn;
    struct kve_waiter *next;
    bool queued;
    bool granted;
} kve_waiter;

typedef struct kve_region kve_region; /* see views.c */

typedef struct kve_session {
    const kvw_api *api;
    const kvw_wasmtime *wasmtime;
    kvw_host *host;
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_memory_t memory;
    uint8_t *base; /* of the memory, which never moves (runtime.c) */
    wasmtime_func_t exports[KVE_EXPORT_COUNT];
    uint32_t block_address;
    uint32_t data_address;
    uint32_t fork_generation;
    bool read_only;
    bool still; /* nobody can write meanwhile, so that no lock is needed to read */
    uint64_t lives; /* how often it was opened again after a fork */

    pthread_mutex_t lock; /* the guest, and everything down to `message` */
    bool open;
    bool closing; /* refuses calls, while what runs comes to its end */
    bool broken;
    bool compacting;
    uint64_t writer;       /* thread that owns the write side: a transaction, a compaction, or its turn; 0: none */
    uint64_t transaction;  /* number of the open transaction, 0: none */
    uint64_t transactions; /* begun so far */
    uint64_t unthrottled;  /* bytes of it since kve_throttle */
    uint64_t changes;      /* writes asked for so far, or refreshes: what was read ahead before one is stale */
    uint64_t snapshot_since_ns[KV_SNAPSHOTS_MAX]; /* when each was opened, 0: it is not */
    uint64_t held_count, held_asked_ns; /* checkpoints that were kept for readers in other processes when that was asked last */
    uint64_t held_oldest, held_since_ns; /* the oldest of them, and since when it is that; 0: there is none */
    uint64_t files; /* how often another file has taken the place of the database's */
    kve_region *regions;
    kve_waiter *queue_head;
    kve_waiter *queue_tail;
    char message[256];

    atomic_uint wanted; /* threads that wait for `lock`: bounded steps make room for them */

    pthread_mutex_t flush_lock; /* the group commit (group.c); taken alone, or before nothing */
    pthread_cond_t flush_done;
    bool flushing;
    atomic_uint flush_waiters; /* threads that wait until nobody is flushing */
    uint64_t durable; /* a flush has covered everything up to here */
    uint64_t flushes_begun;
    uint64_t flushes_done; /* number of the last that succeeded */
    int flush_error;  /* errno of the flush that failed; the engine is poisoned then */
    pthread_cond_t gathered; /* the leader no longer needs to wait for others */
    uint32_t committers;     /* threads whose commits no flush that has ended covers */
    uint64_t counted;        /* number of the flush that ended last */
    uint32_t company;        /* how many there were when the last flush ended, with those that it covered */
    uint32_t awaited;        /* the leader waits until there are so many; 0: it does not */
    uint32_t discouraged, next_discouragement; /* flushes to be made without waiting: now, and after it was in vain once more */
    uint64_t flush_ns;       /* how long the last flush took */

    pthread_t flusher; /* of the modes in which commits do not flush */
    pthread_cond_t flusher_wake;
    uint32_t interval_ms; /* 0: it only flushes when the guest wishes it */
    bool flusher_runs, flusher_stop;
    atomic_bool flush_wished;

    pthread_mutex_t pending_lock; /* what finalizers ask for */
    atomic_bool pending;
    struct {
        uint32_t handle;
        uint64_t transaction; /* that the cursor belongs to, 0: none */
    } pending_cursors[KV_CURSORS_MAX];
    uint32_t pending_count;
    uint32_t pending_snapshots[KV_SNAPSHOTS_MAX];
    uint32_t pending_snapshot_count;
    uint64_t pending_rollback; /* number of the transaction that was dropped */
} kve_session;

/* --- instance.c: the guest in wasmtime --- */

/* Instantiate the guest over `directory`. NULL: it can't be opened, with the OS's errno in `*os_error`; or, with 0 there,
 * `message` (KVE_MESSAGE_SIZE bytes) says what failed. */
kve_session *kve_session_new(const kvw_api *api, const char *directory, bool read_only, int *os_error,
                             char *message);
/* In a child process: begin the parent's read-only session anew, in the same place. False as NULL above; then it is dead as before. Once
 * the database is open, kve_session_revived. */
bool kve_session_revive(kve_session *session, const char *directory, int *os_error, char *message);
void kve_session_revived(kve_session *session);
/* In a child process: close its copies of the descriptors, whose locks are not to outlive the parent. */
void kve_session_abandon(kve_session *session);
/* With a database open. A large index is walked at random: with small pages each step would miss the TLB, too (four million keys: gets 5 %
 * faster so), and the first touch of each page is a fault. Where a database grows from little, small pages are no slower up to a million
 * keys, and a bulk load takes up to a fifth longer in a virtual machine whose host has to find large ones first. */
void kve_advise_huge_pages(kve_session *session);
/* Drop the guest's instance and descriptors; the session stays, closed. Under the lock. */
void kve_session_drop(kve_session *session);
/* Free a dropped session (or, in a child process, forget it). */
void kve_session_free(kve_session *session);
/* Call an export. A kv_status, or KVE_BROKEN. Under the lock. */
int kve_call(kve_session *session, kve_export which, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e);
int kve_call_number(kve_session *session, kve_export which, uint64_t number); /* the same with 64 bits */
/* Mark the session as broken: nothing is known of the guest's state any more. Returns KVE_BROKEN. */
int kve_break(kve_session *session, const char *what);
int kve_status_of(kve_session *session, int status, kve_failure *failure);

static inline uint8_t *kve_base(const kve_session *session)
{
    return session->base;
}

static inline kv_guest_block *kve_block(const kve_session *session)
{
    return (kv_guest_block *)(void *)(kve_base(session) + session->block_address);
}

static inline uint8_t *kve_data(const kve_session *session)
{
    return kve_base(session) + session->data_address;
}

/* --- lock.c --- */

extern uint32_t kve_fork_generation; /* counts forks: a handle of another generation is the parent's */
int kve_watch_forks(void);           /* once a process; 0 or an errno */

/* Whether the handle can be used: 0, KVE_FORKED. Needs no lock. */
static inline int kve_alive(const kve_session *session)
{
    return session->fork_generation == kve_fork_generation ? 0 : KVE_FORKED;
}

/* Whether there is a guest to call: 0, KVE_CLOSED, KVE_BROKEN. Under the lock. */
static inline int kve_reachable(const kve_session *session)
{
    if (session->broken) return KVE_BROKEN;
    return session->open ? 0 : KVE_CLOSED;
}

/* The same for calls that a user makes. */
static inline int kve_usable(const kve_session *session)
{
    return session->closing ? KVE_CLOSED : kve_reachable(session);
}

void kve_drain(kve_session *session); /* carry out what finalizers asked for; under the lock */

static inline bool kve_try_lock(kve_session *session)
{
    if (pthread_mutex_trylock(&session->lock) != 0) return false;
    if (atomic_load_explicit(&session->pending, memory_order_acquire)) kve_drain(session);
    return true;
}

static inline void kve_unlock(kve_session *session)
{
    pthread_mutex_unlock(&session->lock);
}

void kve_lock(kve_session *session);      /* without the GIL */
void kve_want_lock(kve_session *session); /* while these are open, bounded steps leave gaps */
void kve_got_lock(kve_session *session);
void kve_wait_lock(kve_session *session); /* returns when the lock was free; without the GIL */
void kve_make_room(kve_session *session); /* between two bounded steps, unlocked and without the GIL */

/* For finalizers: any thread, with or without the GIL; never waits for the guest. */
void kve_drop_cursor(kve_session *session, uint32_t handle, uint64_t transaction);
void kve_drop_snapshot(kve_session *session, uint32_t handle);
void kve_drop_transaction(kve_session *session, uint64_t transaction);

/* --- writer.c: who may write --- */

/* Whether a write outside a transaction may go on now: 0, KVE_OWN_TRANSACTION, KVE_MUST_WAIT. Under the lock. */
static inline int kve_writer_check(const kve_session *session, uint64_t thread)
{
    if (session->writer == 0 && session->queue_head == NULL) return 0;
    if (session->writer == thread) return KVE_OWN_TRANSACTION;
    return KVE_MUST_WAIT;
}

void kve_waiter_init(kve_waiter *waiter);
/* Become the writer: 0, KVE_SLICE (at most 100 ms passed), KVE_TIMEOUT, KVE_OWN_TRANSACTION, or an unusable handle.
 * `deadline_ns` on CLOCK_MONOTONIC, 0: none. Without the GIL; leaves the lock free. */
int kve_writer_wait(kve_session *session, kve_waiter *waiter, uint64_t thread, uint64_t deadline_ns);
/* Stop waiting after KVE_SLICE; gives the turn on if it came meanwhile. Without the GIL. */
void kve_writer_abandon(kve_session *session, kve_waiter *waiter);
void kve_writer_release(kve_session *session); /* the next one's turn; under the lock */
void kve_writer_wake_all(kve_session *session); /* on close; under the lock */
uint32_t kve_writers_waiting(const kve_session *session); /* under the lock */

/* --- clock.c --- */

uint64_t kve_now_ns(void); /* on CLOCK_MONOTONIC */
/* For kve_cond_wait_until. */
void kve_cond_init(pthread_cond_t *cond);
/* Whether that moment has come; false: it was signalled before, or woke up by itself. */
bool kve_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t until_ns);

/* --- readers.c --- */

/* After a flush: let go of checkpoints on which no reader in another process stands any more; readers that stay are not asked for at each
 * flush, unless `all`. Under the lock. */
void kve_release_readers(kve_session *session, bool all);

/* --- views.c --- */
/* Unmap regions without views: those of files that are not the database's any more, or all. With the GIL. */
void kve_regions_trim(kve_session *session, bool all);

/* --- flush.c, under the lock --- */

void kve_defer(kve_session *session, bool on);
/* Before anything is acknowledged that no flush covers: wait until the OS has it. 0 or KVE_SYNC_FAILED, as the guest then knows. */
int kve_settle(kve_session *session, kve_failure *failure);

/* --- group.c, flush.c: all without the GIL and without the lock --- */

/* Return once a flush has covered `position`. 0, KVE_SYNC_FAILED, or an unusable handle. */
int kve_flush_until(kve_session *session, uint64_t position, kve_failure *failure);
int kve_sync(kve_session *session, kve_failure *failure);
void kve_flush_acquire(kve_session *session); /* hold off all flushes, and a close (the file is about to be replaced) */
void kve_flush_release(kve_session *session, bool replaced);

/* Who has the turn to flush does so, up to the position `*covered`; UINT64_MAX when there was nothing to flush. */
int kve_flush_once(kve_session *session, uint64_t *covered, kve_failure *failure);
/* The same for the file of a descriptor. 0, KVE_HOST_IO, or an unusable handle. */
int kve_flush_file(kve_session *session, int32_t fd, kve_failure *failure);
/* Flush descriptor `fd`, which KV_SYNC_FIRST of a commit asked for. A failure is reported to the guest. */
int kve_flush_barrier(kve_session *session, int32_t fd, kve_failure *failure);
/* Make the checkpoint that a large commit leaves to be made: what opening has to replay stays bounded. */
int kve_catch_up(kve_session *session, kve_failure *failure);
/* A transaction's writes are deferred (kvw_api.defer_writes): the OS gets them while the guest goes on, and where commits flush the
 * device as well, so that the commit does not wait for all of it. Begin one, or with 0 end it; under the lock. */
static inline void kve_set_transaction(kve_session *session, uint64_t number)
{
    session->transaction = number;
    session->unthrottled = 0;
    kve_defer(session, number != 0);
}
/* Whoever is ahead of the device waits for it here, not in the guest. `kve_wrote` and the question under the lock. */
static inline void kve_wrote(kve_session *session, uint32_t bytes) { session->unthrottled += bytes; }
static inline bool kve_wants_throttle(const kve_session *session)
{
    enum { STEP = 1 << 20 };
    return session->unthrottled >= STEP;
}
void kve_throttle(kve_session *session);
/* Leave the lock after a write of a transaction, without the GIL. */
static inline void kve_unlock_throttled(kve_session *session)
{
    const bool throttle = kve_wants_throttle(session);
    kve_unlock(session);
    if (throttle) kve_throttle(session);
}
/* A thread that flushes every `interval_ms` (0: never), and when the guest wishes it. 0 or an errno. */
int kve_flusher_start(kve_session *session, uint32_t interval_ms);
void kve_wish_flush(kve_session *session); /* under the lock */
/* Under the lock, behind a commit that did not flush: should whoever made it rest for a moment, which kve_pause is? */
static inline bool kve_wants_pause(kve_session *session)
{
    return (kve_block(session)->flush_wanted & KV_WANTS_PAUSE) != 0;
}
void kve_pause(void);
bool kve_take_flush_wish(kve_session *session); /* for who plays the flusher: whether a flush is wished, once */
void kve_flusher_stop(kve_session *session);

#endif
