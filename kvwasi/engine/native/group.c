/* Group commit: one leader flushes for all who wait. */
#include "session.h"

/* Until the flush that runs has ended. With `flush_lock`, which is left meanwhile. */
static void wait_for_turn(kve_session *session)
{
    atomic_fetch_add(&session->flush_waiters, 1);
    pthread_cond_wait(&session->flush_done, &session->flush_lock);
    atomic_fetch_sub(&session->flush_waiters, 1);
}

/* Threads that commit one thing after the other come back soon after a flush. The first of them would flush for itself alone, and all
 * others wait for that flush and the next one. So it waits for those who were there last time, as long as they come one close behind
 * the other; where they do not, it leaves that for a while. With `flush_lock`, which is left meanwhile. */
static void gather(kve_session *session)
{
    enum {
        WORTHWHILE_NS = 40000, /* a shorter flush is not worth waiting for */
        APART_NS = 15000,      /* to wake up, to take the GIL, to commit */
        DISCOURAGED_MAX = 63,  /* flushes */
    };
    if (session->company <= session->committers || session->flush_ns < WORTHWHILE_NS) return;
    if (session->discouraged > 0) {
        session->discouraged--;
        return;
    }
    const uint32_t before = session->committers;
    const uint64_t began = kve_now_ns(), enough = (session->company - before + 1) * APART_NS;
    const uint64_t until = began + (enough < session->flush_ns / 2 ? enough : session->flush_ns / 2);
    session->awaited = session->company;
    bool late = false;
    while (session->committers < session->awaited && !late)
        late = kve_cond_wait_until(&session->gathered, &session->flush_lock, until);
    session->awaited = 0;
    if ((session->committers - before + 1) * APART_NS >= kve_now_ns() - began) {
        session->next_discouragement /= 2;
    } else {
        session->discouraged = session->next_discouragement;
        if (session->next_discouragement < DISCOURAGED_MAX) session->next_discouragement = 2 * session->next_discouragement + 1;
    }
}

/* Lead a flush if none runs, else wait for its end. With `flush_lock`, which is left meanwhile. */
static int flush_or_wait(kve_session *session, bool gathering, bool *all_durable, kve_failure *failure)
{
    *all_durable = false;
    if (session->flush_error != 0) {
        failure->os_error = session->flush_error;
        return KVE_SYNC_FAILED;
    }
    if (session->flushing) {
        wait_for_turn(session);
        return 0;
    }
    session->flushing = true;
    if (gathering) gather(session);
    uint64_t number = ++session->flushes_begun;
    const uint32_t committers = session->committers;
    pthread_mutex_unlock(&session->flush_lock);
    uint64_t covered = 0;
    const uint64_t began = kve_now_ns();
    int status = kve_flush_once(session, &covered, failure);
    pthread_mutex_lock(&session->flush_lock);
    session->flush_ns = kve_now_ns() - began;
    session->company = session->committers;
    session->committers -= committers;
    session->counted = number;
    session->flushing = false;
    if (status == KVE_SYNC_FAILED) session->flush_error = failure->os_error;
    if (status == 0) {
        session->flushes_done = number;
        *all_durable = covered == UINT64_MAX;
        if (!*all_durable && covered > session->durable) session->durable = covered;
    }
    pthread_cond_broadcast(&session->flush_done);
    return status;
}

int kve_flush_until(kve_session *session, uint64_t position, kve_failure *failure)
{
    int status = 0;
    bool all_durable = false;
    pthread_mutex_lock(&session->flush_lock);
    const uint64_t entered = session->flushes_begun;
    if (++session->committers == session->awaited) pthread_cond_signal(&session->gathered);
    while (status == 0 && !all_durable && session->durable < position)
        status = flush_or_wait(session, true, &all_durable, failure);
    if (session->counted <= entered) session->committers--;
    pthread_mutex_unlock(&session->flush_lock);
    return status;
}

/* Only a flush that begins after the call covers all that was committed before it. */
int kve_sync(kve_session *session, kve_failure *failure)
{
    bool all_durable = false;
    pthread_mutex_lock(&session->flush_lock);
    int status = session->flush_error != 0 ? KV_POISONED : 0;
    uint64_t number = session->flushes_begun + 1;
    while (status == 0 && session->flushes_done < number)
        status = flush_or_wait(session, false, &all_durable, failure);
    pthread_mutex_unlock(&session->flush_lock);
    return status;
}

void kve_flush_acquire(kve_session *session)
{
    pthread_mutex_lock(&session->flush_lock);
    while (session->flushing)
        wait_for_turn(session);
    session->flushing = true;
    pthread_mutex_unlock(&session->flush_lock);
}

void kve_flush_release(kve_session *session, bool replaced)
{
    pthread_mutex_lock(&session->flush_lock);
    session->flushing = false;
    if (replaced) session->durable = 0; /* positions of the old file say nothing of the new one */
    pthread_cond_broadcast(&session->flush_done);
    pthread_mutex_unlock(&session->flush_lock);
}
