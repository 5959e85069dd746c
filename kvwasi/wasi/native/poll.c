/* poll_oneoff over poll(2). */
#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

#include "host.h"
#include "os.h"

typedef struct waiting {
    const uint8_t *subscriptions; /* a copy, which the guest cannot change */
    uint32_t count;
    struct pollfd *fds;  /* one a subscription; fd -1 for clocks and descriptors in error */
    uint16_t *errors;    /* wasi_errno of each subscription */
    uint64_t *deadlines; /* of clocks, in CLOCK_MONOTONIC ns */
} waiting;

static uint64_t clock_now(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t saturating_add(uint64_t a, uint64_t b) { return a > UINT64_MAX - b ? UINT64_MAX : a + b; }

/* When a clock subscription is due, on CLOCK_MONOTONIC. */
static uint16_t deadline_of(const uint8_t *subscription, uint64_t *deadline)
{
    uint32_t id = kvw_load32(subscription + 16);
    uint64_t timeout = kvw_load64(subscription + 24);
    bool absolute = subscription[40] & WASI_CLOCK_ABSTIME;
    uint64_t now = clock_now(CLOCK_MONOTONIC);
    if (id == WASI_CLOCK_PROCESS_CPU || id == WASI_CLOCK_THREAD_CPU)
        return WASI_ENOTSUP;
    if (id > WASI_CLOCK_THREAD_CPU)
        return WASI_EINVAL;
    if (absolute) {
        uint64_t then = id == WASI_CLOCK_REALTIME ? clock_now(CLOCK_REALTIME) : now;
        timeout = timeout > then ? timeout - then : 0;
    }
    *deadline = saturating_add(now, timeout);
    return WASI_OK;
}

static bool is_object(const struct pollfd *p) { return p->fd < 0 && p->events; }

static void prepare(kvw_host *host, waiting *w, uint32_t i, uint64_t *first, bool *ready)
{
    const uint8_t *s = w->subscriptions + (size_t)i * WASI_SUBSCRIPTION_SIZE;
    w->fds[i] = (struct pollfd){.fd = -1};
    w->deadlines[i] = UINT64_MAX;
    if (s[8] == WASI_EVENT_CLOCK) {
        w->errors[i] = deadline_of(s, &w->deadlines[i]);
        *first = w->deadlines[i] < *first ? w->deadlines[i] : *first;
    } else if (s[8] == WASI_EVENT_FD_READ || s[8] == WASI_EVENT_FD_WRITE) {
        bool writing = s[8] == WASI_EVENT_FD_WRITE;
        kvw_descriptor *d = kvw_descriptor_of(host, kvw_load32(s + 16));
        w->errors[i] = (uint16_t)(!d ? WASI_EBADF
                                     : kvw_may(d, writing ? KVW_ACCESS_WRITE : KVW_ACCESS_READ,
                                               WASI_RIGHT_POLL_FD_READWRITE));
        if (!w->errors[i]) /* a Python object has no descriptor and is always taken to be ready */
            w->fds[i] = (struct pollfd){.fd = d->os_fd, .events = writing ? POLLOUT : POLLIN};
    } else {
        w->errors[i] = WASI_EINVAL;
    }
    *ready = *ready || w->errors[i] || is_object(&w->fds[i]);
}

static int wait_for(waiting *w, uint64_t first, bool ready)
{
    for (;;) {
        uint64_t now = clock_now(CLOCK_MONOTONIC);
        uint64_t left = ready || first <= now ? 0 : first - now;
        struct timespec timeout = {.tv_sec = (time_t)(left / 1000000000u),
                                   .tv_nsec = (long)(left % 1000000000u)};
        bool forever = !ready && first == UINT64_MAX;
        if (left > (uint64_t)INT64_MAX)
            timeout.tv_sec = INT32_MAX;
        int answer = kvw_os_poll(w->fds, w->count, forever ? NULL : &timeout);
        if (answer < 0)
            return errno;
        if (answer > 0 || ready || clock_now(CLOCK_MONOTONIC) >= first)
            return 0;
    }
}

static uint64_t readable_bytes(kvw_host *host, const uint8_t *subscription)
{
    kvw_descriptor *d = kvw_descriptor_of(host, kvw_load32(subscription + 16));
    if (kvw_filetype(d) == WASI_FILETYPE_REGULAR_FILE) {
        struct stat st;
        if (fstat(d->os_fd, &st) < 0 || (uint64_t)st.st_size < d->position)
            return 0;
        return (uint64_t)st.st_size - d->position;
    }
    int bytes = 0;
    if (d->os_fd < 0 || ioctl(d->os_fd, FIONREAD, &bytes) < 0 || bytes < 0)
        return 1;
    return (uint64_t)bytes;
}

/* Write the events that have happened; how many. */
static uint32_t report(kvw_host *host, const waiting *w, uint8_t *events)
{
    uint64_t now = clock_now(CLOCK_MONOTONIC);
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        const uint8_t *s = w->subscriptions + (size_t)i * WASI_SUBSCRIPTION_SIZE;
        bool clock = s[8] == WASI_EVENT_CLOCK;
        short got = is_object(&w->fds[i]) ? w->fds[i].events : w->fds[i].revents;
        if (!w->errors[i] && (clock ? now < w->deadlines[i] : !got))
            continue;
        uint8_t event[WASI_EVENT_SIZE] = {0};
        memcpy(event, s, 8);
        kvw_store16(event + 8, got & POLLNVAL ? WASI_EBADF : w->errors[i]);
        event[10] = s[8];
        if (!w->errors[i] && !clock) {
            kvw_store64(event + 16, s[8] == WASI_EVENT_FD_READ ? readable_bytes(host, s) : 1);
            kvw_store16(event + 24, got & POLLHUP ? WASI_EVENT_HANGUP : 0);
        }
        memcpy(events + (size_t)count++ * WASI_EVENT_SIZE, event, sizeof event);
    }
    return count;
}

uint32_t kvw_poll_oneoff(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    uint32_t count = kvw_u32(a + 2);
    const uint8_t *subscriptions = kvw_range(memory, kvw_u32(a), (uint64_t)count * WASI_SUBSCRIPTION_SIZE);
    uint8_t *events = kvw_range(memory, kvw_u32(a + 1), (uint64_t)count * WASI_EVENT_SIZE);
    uint8_t *result = kvw_range(memory, kvw_u32(a + 3), 4);
    if (!subscriptions || !events || !result)
        return WASI_EFAULT;
    if (count == 0 || count > KVW_POLL_MAX)
        return WASI_EINVAL;
    size_t each = WASI_SUBSCRIPTION_SIZE + sizeof(uint64_t) + sizeof(struct pollfd) + sizeof(uint16_t);
    uint8_t *room = malloc(count * each);
    if (!room)
        return WASI_ENOMEM;
    waiting w = {.subscriptions = room, .count = count};
    w.deadlines = (uint64_t *)(void *)(room + (size_t)count * WASI_SUBSCRIPTION_SIZE);
    w.fds = (struct pollfd *)(void *)(w.deadlines + count);
    w.errors = (uint16_t *)(void *)(w.fds + count);
    memcpy(room, subscriptions, (size_t)count * WASI_SUBSCRIPTION_SIZE);
    uint64_t first = UINT64_MAX;
    bool ready = false;
    for (uint32_t i = 0; i < count; i++)
        prepare(host, &w, i, &first, &ready);
    int error = wait_for(&w, first, ready);
    if (!error)
        kvw_store32(result, report(host, &w, events));
    free(room);
    return kvw_errno(error);
}
