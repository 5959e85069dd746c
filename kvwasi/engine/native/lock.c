/* The store lock, forks, and what finalizers leave to be done. */
#include <errno.h>
#include <time.h>

#include <string.h>

#include "verbs.h"

uint32_t kve_fork_generation = 1;

static void after_fork_in_child(void)
{
    kve_fork_generation++;
}

int kve_watch_forks(void)
{
    return pthread_atfork(NULL, NULL, after_fork_in_child);
}

void kve_lock(kve_session *session)
{
    if (kve_try_lock(session)) return;
    atomic_fetch_add(&session->wanted, 1);
    pthread_mutex_lock(&session->lock);
    atomic_fetch_sub(&session->wanted, 1);
    if (atomic_load_explicit(&session->pending, memory_order_acquire)) kve_drain(session);
}

void kve_want_lock(kve_session *session)
{
    atomic_fetch_add(&session->wanted, 1);
}

void kve_got_lock(kve_session *session)
{
    atomic_fetch_sub(&session->wanted, 1);
}

void kve_wait_lock(kve_session *session)
{
    pthread_mutex_lock(&session->lock);
    pthread_mutex_unlock(&session->lock);
}

/* A mutex is not fair: a thread that runs step after step would take it back before anyone woke up. The ones that
 * wait may need the GIL first, which takes up to its switch interval of 5 ms. */
void kve_make_room(kve_session *session)
{
    const struct timespec pause = {.tv_sec = 0, .tv_nsec = 50 * 1000};
    for (int i = 0; i < 200 && atomic_load(&session->wanted) != 0; i++)
        nanosleep(&pause, NULL);
}

void kve_drop_cursor(kve_session *session, uint32_t handle, uint64_t transaction)
{
    pthread_mutex_lock(&session->pending_lock);
    if (session->pending_count < KV_CURSORS_MAX) {
        uint32_t at = session->pending_count++;
        session->pending_cursors[at].handle = handle;
        session->pending_cursors[at].transaction = transaction;
    }
    atomic_store_explicit(&session->pending, true, memory_order_release);
    pthread_mutex_unlock(&session->pending_lock);
}

void kve_drop_snapshot(kve_session *session, uint32_t handle)
{
    pthread_mutex_lock(&session->pending_lock);
    if (session->pending_snapshot_count < KV_SNAPSHOTS_MAX)
        session->pending_snapshots[session->pending_snapshot_count++] = handle;
    atomic_store_explicit(&session->pending, true, memory_order_release);
    pthread_mutex_unlock(&session->pending_lock);
}

void kve_drop_transaction(kve_session *session, uint64_t transaction)
{
    pthread_mutex_lock(&session->pending_lock);
    session->pending_rollback = transaction;
    atomic_store_explicit(&session->pending, true, memory_order_release);
    pthread_mutex_unlock(&session->pending_lock);
}

void kve_drain(kve_session *session)
{
    uint32_t cursors[KV_CURSORS_MAX], snapshots[KV_SNAPSHOTS_MAX];
    uint32_t count = 0;
    pthread_mutex_lock(&session->pending_lock);
    uint64_t transaction = session->pending_rollback;
    for (uint32_t i = 0; i < session->pending_count; i++) {
        /* The cursors of a transaction end with it; their handles may be in use again. */
        uint64_t of = session->pending_cursors[i].transaction;
        if (of == 0 || of == session->transaction) cursors[count++] = session->pending_cursors[i].handle;
    }
    session->pending_count = 0;
    uint32_t snapshot_count = session->pending_snapshot_count;
    memcpy(snapshots, session->pending_snapshots, snapshot_count * sizeof *snapshots);
    session->pending_snapshot_count = 0;
    session->pending_rollback = 0;
    atomic_store_explicit(&session->pending, false, memory_order_release);
    pthread_mutex_unlock(&session->pending_lock);

    if (kve_usable(session) != 0) return;
    /* A status is of no use here: an unknown cursor ended with its transaction, a trap marks the session. */
    for (uint32_t i = 0; i < count && !session->broken; i++)
        (void)kve_call(session, KVE_cursor_close, cursors[i], 0, 0, 0, 0);
    for (uint32_t i = 0; i < snapshot_count && !session->broken; i++)
        kve_snapshot_close(session, snapshots[i]);
    if (transaction != 0 && transaction == session->transaction && !session->broken) {
        (void)kve_call(session, KVE_txn_rollback, 0, 0, 0, 0, 0);
        kve_set_transaction(session, 0);
        kve_writer_release(session);
    }
}
