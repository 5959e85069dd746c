/* Who may write: one at a time, in the order of asking. A single put needs its turn only for its one call; a
 * transaction and a compaction keep it to their end. */
#include "session.h"

#define SLICE_NS (100ull * 1000 * 1000) /* so that a waiting thread sees Ctrl-C, and what finalizers dropped */

void kve_waiter_init(kve_waiter *waiter)
{
    kve_cond_init(&waiter->turn);
    waiter->next = NULL;
    waiter->queued = false;
    waiter->granted = false;
}

static void enqueue(kve_session *session, kve_waiter *waiter)
{
    if (session->queue_tail != NULL)
        session->queue_tail->next = waiter;
    else
        session->queue_head = waiter;
    session->queue_tail = waiter;
    waiter->queued = true;
}

static void dequeue(kve_session *session, kve_waiter *waiter)
{
    kve_waiter *previous = NULL;
    for (kve_waiter *at = session->queue_head; at != NULL; previous = at, at = at->next) {
        if (at != waiter) continue;
        if (previous != NULL)
            previous->next = at->next;
        else
            session->queue_head = at->next;
        if (session->queue_tail == at) session->queue_tail = previous;
        break;
    }
    waiter->next = NULL;
    waiter->queued = false;
}

/* The turn is handed over, not left to be grabbed: `writer` stays taken until the one who was woken claims it. */
#define HANDED_OVER UINT64_MAX

void kve_writer_release(kve_session *session)
{
    kve_waiter *next = session->queue_head;
    session->writer = 0;
    if (next == NULL) return;
    dequeue(session, next);
    next->granted = true;
    session->writer = HANDED_OVER;
    pthread_cond_signal(&next->turn);
}

void kve_writer_wake_all(kve_session *session)
{
    for (kve_waiter *at = session->queue_head; at != NULL; at = at->next)
        pthread_cond_signal(&at->turn);
}

uint32_t kve_writers_waiting(const kve_session *session)
{
    uint32_t count = 0;
    for (const kve_waiter *at = session->queue_head; at != NULL; at = at->next)
        count++;
    return count;
}

static int claim(kve_session *session, kve_waiter *waiter, uint64_t thread)
{
    session->writer = thread;
    waiter->granted = false;
    return 0;
}

static int wait_turn(kve_session *session, kve_waiter *waiter, uint64_t thread, uint64_t deadline_ns)
{
    int error = kve_usable(session);
    if (error == 0 && !waiter->queued && !waiter->granted) {
        error = kve_writer_check(session, thread);
        if (error == 0) return claim(session, waiter, thread);
        if (error == KVE_OWN_TRANSACTION) return error;
        enqueue(session, waiter);
        error = 0;
    }
    uint64_t until = kve_now_ns() + SLICE_NS;
    bool last = deadline_ns != 0 && deadline_ns < until;
    if (last) until = deadline_ns;
    while (error == 0 && !waiter->granted) {
        bool late = kve_cond_wait_until(&waiter->turn, &session->lock, until);
        error = kve_usable(session);
        if (error == 0 && atomic_load(&session->pending)) kve_drain(session);
        if (late && error == 0 && !waiter->granted) error = last ? KVE_TIMEOUT : KVE_SLICE;
    }
    if (error == 0) return claim(session, waiter, thread);
    if (error == KVE_SLICE) return error;
    if (waiter->queued) dequeue(session, waiter);
    if (waiter->granted) kve_writer_release(session);
    waiter->granted = false;
    return error;
}

int kve_writer_wait(kve_session *session, kve_waiter *waiter, uint64_t thread, uint64_t deadline_ns)
{
    kve_lock(session);
    int error = wait_turn(session, waiter, thread, deadline_ns);
    kve_unlock(session);
    if (error != KVE_SLICE) pthread_cond_destroy(&waiter->turn);
    return error;
}

void kve_writer_abandon(kve_session *session, kve_waiter *waiter)
{
    kve_lock(session);
    if (waiter->queued) dequeue(session, waiter);
    if (waiter->granted) kve_writer_release(session);
    kve_unlock(session);
    pthread_cond_destroy(&waiter->turn);
}
