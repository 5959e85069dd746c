/* What a flush is, and the flushes that no commit waits for. The guest is not held while the disk works. */
#include <errno.h>
#include <signal.h>
#include <time.h>

#include "runtime.h"
#include "session.h"

/* The guest knows WASI's numbers. */
static int32_t wasi_errno(int os_errno)
{
    switch (os_errno) {
    case ENOSPC: return 51;
    case EDQUOT: return 19;
    case EROFS: return 69;
    case EBADF: return 8;
    default: return 29; /* EIO */
    }
}

/* Begin a flush: the descriptor, and the position that it will cover. KV_OK when there is nothing to flush. */
static int flush_begin(kve_session *session, int32_t *fd, uint64_t *position, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_reachable(session);
    if (status == 0) {
        status = kve_call(session, KVE_sync_begin, 0, 0, 0, 0, 0);
        if (status == KV_NEEDS_SYNC) {
            *fd = kve_block(session)->fd;
            *position = kve_block(session)->position;
        }
        status = kve_status_of(session, status, failure);
    }
    kve_unlock(session);
    return status;
}

/* A flush, or a write, has failed. Under the lock. */
static int flush_failed(kve_session *session, int error, kve_failure *failure)
{
    (void)kve_call(session, KVE_sync_failed, (uint32_t)wasi_errno(error), 0, 0, 0, 0);
    failure->os_error = error;
    return KVE_SYNC_FAILED;
}

static int flush_end(kve_session *session, int error, uint64_t position, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_reachable(session);
    if (status == 0) {
        if (error == 0)
            status = kve_status_of(session, kve_call_number(session, KVE_synced, position), failure);
        else
            status = flush_failed(session, error, failure);
    }
    if (error == 0 && status == KV_OK) kve_release_readers(session, false);
    kve_unlock(session);
    if (error == 0) return status;
    failure->os_error = error;
    return KVE_SYNC_FAILED;
}

int kve_flush_once(kve_session *session, uint64_t *covered, kve_failure *failure)
{
    int32_t fd = -1;
    uint64_t position = 0;
    int status = flush_begin(session, &fd, &position, failure);
    if (status != KV_NEEDS_SYNC) {
        *covered = status == KV_OK ? UINT64_MAX : 0;
        return status;
    }
    int error = session->api->datasync(session->host, (uint32_t)fd);
    status = flush_end(session, error, position, failure);
    *covered = position;
    return status;
}

int kve_flush_file(kve_session *session, int32_t fd, kve_failure *failure)
{
    /* Who closes needs the turn to flush that we have: if the guest is there now, it stays. */
    kve_lock(session);
    int status = kve_reachable(session);
    kve_unlock(session);
    if (status != 0) return status;
    failure->os_error = session->api->datasync(session->host, (uint32_t)fd);
    return failure->os_error == 0 ? 0 : KVE_HOST_IO;
}

int kve_flush_barrier(kve_session *session, int32_t fd, kve_failure *failure)
{
    kve_flush_acquire(session);
    int status = kve_flush_file(session, fd, failure);
    if (status == KVE_HOST_IO) {
        int error = failure->os_error;
        pthread_mutex_lock(&session->flush_lock);
        session->flush_error = error;
        pthread_mutex_unlock(&session->flush_lock);
        status = flush_end(session, error, 0, failure);
    }
    kve_flush_release(session, false);
    return status;
}

/* --- write-behind --- */

void kve_defer(kve_session *session, bool on)
{
    if (!session->open) return; /* closed meanwhile: there is no host any more */
    session->api->defer_writes(session->host, !on                     ? KVW_DEFER_NOTHING
                                              : session->flusher_runs ? KVW_DEFER_TO_OS
                                                                      : KVW_DEFER_TO_DEVICE);
}

int kve_settle(kve_session *session, kve_failure *failure)
{
    const int error = session->api->settle(session->host);
    return error == 0 ? 0 : flush_failed(session, error, failure);
}

static bool is_too_far_ahead(kve_session *session)
{
    kve_lock(session);
    session->unthrottled = 0;
    const bool ahead = kve_reachable(session) == 0 && !session->api->has_room(session->host, false);
    kve_unlock(session);
    return ahead;
}

void kve_throttle(kve_session *session)
{
    if (!is_too_far_ahead(session)) return;
    kve_flush_acquire(session); /* holds off a close */
    kve_lock(session);
    const bool reachable = kve_reachable(session) == 0;
    kve_unlock(session);
    if (reachable) (void)session->api->has_room(session->host, true);
    kve_flush_release(session, false);
}

/* --- checkpoints behind large commits --- */

/* One step. It ends in a flush, so that its writes may be deferred as a transaction's are. */
static int catch_up_step(kve_session *session, kve_failure *failure)
{
    kve_defer(session, true);
    const int status = kve_call(session, KVE_catch_up, 0, 0, 0, 0, 0);
    kve_defer(session, session->transaction != 0);
    return kve_status_of(session, status, failure);
}

int kve_catch_up(kve_session *session, kve_failure *failure)
{
    for (;;) {
        kve_lock(session);
        int status = kve_reachable(session);
        if (status == 0) status = catch_up_step(session, failure);
        kve_unlock(session);
        if (status == KV_AGAIN)
            kve_make_room(session);
        else if (status != KV_NEEDS_SYNC || (status = kve_sync(session, failure)) != 0)
            return status;
    }
}

/* --- the flusher --- */

/* Sleep until it is time, or somebody wishes a flush. With `flush_lock`. */
static void wait_for_work(kve_session *session)
{
    const uint64_t until = kve_now_ns() + (uint64_t)session->interval_ms * 1000000u;
    bool late = false;
    while (!session->flusher_stop && !atomic_load(&session->flush_wished) && !late) {
        if (session->interval_ms == 0)
            pthread_cond_wait(&session->flusher_wake, &session->flush_lock);
        else
            late = kve_cond_wait_until(&session->flusher_wake, &session->flush_lock, until);
    }
}

static void *flusher_main(void *argument)
{
    kve_session *session = argument;
    pthread_mutex_lock(&session->flush_lock);
    for (int status = 0; status == 0;) {
        wait_for_work(session);
        if (session->flusher_stop) break;
        atomic_store(&session->flush_wished, false);
        pthread_mutex_unlock(&session->flush_lock);
        kve_failure failure;
        status = kve_catch_up(session, &failure);
        if (status == 0) status = kve_sync(session, &failure); /* a failure poisons the engine: the next call tells */
        pthread_mutex_lock(&session->flush_lock);
    }
    pthread_mutex_unlock(&session->flush_lock);
    return NULL;
}

void kve_pause(void)
{
    const struct timespec moment = {.tv_nsec = 100 * 1000};
    if (!kve_the_runtime.no_flushers) nanosleep(&moment, NULL); /* else no flush runs meanwhile */
}

void kve_wish_flush(kve_session *session)
{
    if (atomic_exchange(&session->flush_wished, true) || !session->flusher_runs) return;
    pthread_mutex_lock(&session->flush_lock);
    pthread_cond_signal(&session->flusher_wake);
    pthread_mutex_unlock(&session->flush_lock);
}

bool kve_take_flush_wish(kve_session *session) { return atomic_exchange(&session->flush_wished, false); }

int kve_flusher_start(kve_session *session, uint32_t interval_ms)
{
    if (kve_the_runtime.no_flushers) return 0;
    /* Signals are for Python's threads; the faults of this very thread must stay deliverable. */
    sigset_t blocked, before;
    sigfillset(&blocked);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&blocked, faults[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, &before);
    session->interval_ms = interval_ms;
    int error = pthread_create(&session->flusher, NULL, flusher_main, session);
    session->flusher_runs = error == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void kve_flusher_stop(kve_session *session)
{
    if (!session->flusher_runs) return;
    pthread_mutex_lock(&session->flush_lock);
    session->flusher_stop = true;
    pthread_cond_broadcast(&session->flusher_wake);
    pthread_mutex_unlock(&session->flush_lock);
    pthread_join(session->flusher, NULL);
    session->flusher_runs = false;
}
