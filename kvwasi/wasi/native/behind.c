#include "behind.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

#include "os.h"

#define QUEUE_BYTES (4u << 20)
#define QUEUE_TASKS 256u
#define ROOM_BYTES (1u << 20)
/* Smaller writes cost less than handing them to a thread; not so when they would have to wait for it. */
#ifndef KVW_BEHIND_WRITE_MIN
#define KVW_BEHIND_WRITE_MIN (64u << 10)
#endif
#define WRITE_MAX (1u << 20)
#define DEVICE_STEP (8u << 20)
#define POPULATE_STEP (1u << 20) /* the address space cannot change meanwhile */
/* With less left, a write is made at once, so that a full disk is told by the call that it concerns. */
#define SPACE_MIN (64u << 20)

typedef struct task {
    uint8_t *bytes; /* in the queue, or of the guest's memory */
    uint64_t length;
    uint64_t offset;
    uint64_t end; /* of the queue's bytes, behind this task's */
    int os_fd;    /* -1: memory is to be made present */
    bool to_device;
} task;

struct kvw_behind {
    pthread_mutex_t lock;
    pthread_cond_t added;
    pthread_cond_t done;
    pthread_t thread;
    task tasks[QUEUE_TASKS];
    uint64_t task_first, task_end; /* numbers of the one in work, and behind the newest */
    uint8_t *bytes;                /* of the writes; a write lies in one piece */
    uint64_t byte_first, byte_end; /* counted on */
    uint64_t unpushed; /* bytes that the OS has, since the device was last asked to begin */
    int error;
    bool stop;
};

static int write_all(const task *t)
{
    for (uint64_t done = 0; done < t->length;) {
        ssize_t moved = kvw_os_pwrite(t->os_fd, t->bytes + done, t->length - done, (off_t)(t->offset + done));
        if (moved > 0)
            done += (uint64_t)moved;
        else if (moved == 0)
            return EIO;
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

static void populate(const task *t)
{
#ifdef MADV_POPULATE_WRITE
    for (uint64_t done = 0; done < t->length; done += POPULATE_STEP) {
        uint64_t left = t->length - done;
        if (madvise(t->bytes + done, left < POPULATE_STEP ? left : POPULATE_STEP, MADV_POPULATE_WRITE) != 0)
            return; /* Linux before 5.14: a page becomes present when it is touched */
    }
#else
    (void)t;
#endif
}

static int carry_out(struct kvw_behind *behind, const task *t)
{
    if (t->os_fd < 0) {
        populate(t);
        return 0;
    }
    int error = write_all(t);
    behind->unpushed += t->length;
    if (error == 0 && t->to_device && behind->unpushed >= DEVICE_STEP) {
        behind->unpushed = 0;
        kvw_os_write_behind(t->os_fd);
    }
    return error;
}

static void *run(void *argument)
{
    struct kvw_behind *behind = argument;
    pthread_mutex_lock(&behind->lock);
    for (;;) {
        while (behind->task_first == behind->task_end && !behind->stop)
            pthread_cond_wait(&behind->added, &behind->lock);
        if (behind->task_first == behind->task_end)
            break;
        const task t = behind->tasks[behind->task_first % QUEUE_TASKS];
        int error = behind->error;
        pthread_mutex_unlock(&behind->lock);
        if (error == 0)
            error = carry_out(behind, &t);
        pthread_mutex_lock(&behind->lock);
        behind->error = error;
        behind->byte_first = t.end;
        behind->task_first++;
        pthread_cond_broadcast(&behind->done);
    }
    pthread_mutex_unlock(&behind->lock);
    return NULL;
}

static bool start(struct kvw_behind *behind)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all); /* signals are for the embedder's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&behind->thread, NULL, run, behind);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0;
}

/* NULL: there is no memory, or no thread, for it. */
static struct kvw_behind *need(kvw_host *host)
{
    struct kvw_behind *behind = atomic_load_explicit(&host->behind, memory_order_relaxed);
    if (behind)
        return behind;
    behind = calloc(1, sizeof *behind);
    if (!behind)
        return NULL;
    pthread_mutex_init(&behind->lock, NULL);
    pthread_cond_init(&behind->added, NULL);
    pthread_cond_init(&behind->done, NULL);
    behind->bytes = malloc(QUEUE_BYTES);
    if (!behind->bytes || !start(behind)) {
        free(behind->bytes);
        free(behind);
        return NULL;
    }
    atomic_store(&host->behind, behind);
    return behind;
}

/* Whether it can hardly fail. */
static bool has_space(int os_fd, uint64_t end)
{
    struct statvfs fs;
    struct rlimit limit;
    return fstatvfs(os_fd, &fs) == 0 && fs.f_bavail >= SPACE_MIN / fs.f_frsize &&
           getrlimit(RLIMIT_FSIZE, &limit) == 0 && end <= limit.rlim_cur;
}

/* Where `total` bytes would begin: a piece that does not fit before the queue's end goes to its start. */
static uint64_t place_of(const struct kvw_behind *behind, uint64_t total)
{
    uint64_t left = QUEUE_BYTES - behind->byte_end % QUEUE_BYTES;
    return behind->byte_end + (total > left ? left : 0);
}

/* Wait for a task's place and `total` bytes in one piece. With the lock; only one thread adds. */
static uint64_t await_place(struct kvw_behind *behind, uint64_t total)
{
    const uint64_t at = place_of(behind, total);
    while (behind->task_end - behind->task_first == QUEUE_TASKS || at + total - behind->byte_first > QUEUE_BYTES)
        pthread_cond_wait(&behind->done, &behind->lock);
    return at;
}

static void add(kvw_host *host, struct kvw_behind *behind, const task *t)
{
    behind->tasks[behind->task_end % QUEUE_TASKS] = *t;
    behind->byte_end = t->end;
    atomic_store_explicit(&host->is_behind, true, memory_order_release);
    if (behind->task_first == behind->task_end++)
        pthread_cond_signal(&behind->added);
}

bool kvw_behind_take(kvw_host *host, int os_fd, const struct iovec *parts, int count, uint64_t total, uint64_t offset)
{
    const uint64_t least = atomic_load_explicit(&host->is_behind, memory_order_relaxed) ? 1 : KVW_BEHIND_WRITE_MIN;
    if (total < least || total > WRITE_MAX || offset > INT64_MAX - total || !has_space(os_fd, offset + total))
        return false;
    struct kvw_behind *behind = need(host);
    if (!behind)
        return false;
    pthread_mutex_lock(&behind->lock);
    const uint64_t at = await_place(behind, total);
    const bool failed = behind->error != 0;
    pthread_mutex_unlock(&behind->lock);
    if (failed)
        return false;
    task t = {.bytes = behind->bytes + at % QUEUE_BYTES, .length = total, .offset = offset, .end = at + total,
              .os_fd = os_fd, .to_device = host->defers == KVW_DEFER_TO_DEVICE};
    uint8_t *to = t.bytes;
    for (int i = 0; i < count; i++) {
        memcpy(to, parts[i].iov_base, parts[i].iov_len);
        to += parts[i].iov_len;
    }
    pthread_mutex_lock(&behind->lock);
    add(host, behind, &t);
    pthread_mutex_unlock(&behind->lock);
    return true;
}

void kvw_behind_populate(kvw_host *host, uint8_t *from, uint64_t bytes)
{
    struct kvw_behind *behind = need(host);
    if (!behind)
        return;
    pthread_mutex_lock(&behind->lock);
    const task t = {.bytes = from, .length = bytes, .end = await_place(behind, 0), .os_fd = -1};
    add(host, behind, &t);
    pthread_mutex_unlock(&behind->lock);
}

static bool has_room(const struct kvw_behind *behind)
{
    return behind->task_end - behind->task_first <= QUEUE_TASKS / 2 &&
           behind->byte_end - behind->byte_first <= QUEUE_BYTES - ROOM_BYTES - WRITE_MAX;
}

bool kvw_behind_has_room(kvw_host *host, bool wait)
{
    struct kvw_behind *behind = atomic_load(&host->behind);
    if (!behind)
        return true;
    pthread_mutex_lock(&behind->lock);
    while (wait && !has_room(behind))
        pthread_cond_wait(&behind->done, &behind->lock);
    const bool room = has_room(behind);
    pthread_mutex_unlock(&behind->lock);
    return room;
}

int kvw_behind_wait(kvw_host *host)
{
    struct kvw_behind *behind = atomic_load(&host->behind);
    pthread_mutex_lock(&behind->lock);
    const uint64_t end = behind->task_end;
    while (behind->task_first < end)
        pthread_cond_wait(&behind->done, &behind->lock);
    const int error = behind->error;
    if (error == 0 && behind->task_first == behind->task_end)
        atomic_store_explicit(&host->is_behind, false, memory_order_release);
    pthread_mutex_unlock(&behind->lock);
    return error;
}

void kvw_behind_free(kvw_host *host)
{
    struct kvw_behind *behind = atomic_load(&host->behind);
    if (!behind)
        return;
    pthread_mutex_lock(&behind->lock);
    behind->stop = true;
    pthread_cond_signal(&behind->added);
    pthread_mutex_unlock(&behind->lock);
    pthread_join(behind->thread, NULL);
    pthread_cond_destroy(&behind->done);
    pthread_cond_destroy(&behind->added);
    pthread_mutex_destroy(&behind->lock);
    free(behind->bytes);
    free(behind);
    atomic_store(&host->behind, NULL);
    atomic_store(&host->is_behind, false);
}
