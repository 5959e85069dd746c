/* What ends in a commit. Everything here runs without the GIL. */
#include <string.h>

#include "checksum.h"
#include "verbs.h"

int kve_write_commit(kve_session *session, uint64_t thread, bool turn, const kve_write *write, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_usable(session);
    if (status == 0 && !turn) status = kve_writer_check(session, thread);
    if (status == 0) status = kve_apply(session, write, failure);
    if (turn) kve_writer_release(session);
    kve_unlock(session);
    return status == KV_NEEDS_SYNC ? kve_flush_until(session, failure->position, failure) : status;
}

int kve_make_room_locked(kve_session *session)
{
    kve_unlock(session);
    kve_make_room(session);
    kve_lock(session);
    return kve_usable(session);
}

int kve_txn_begin(kve_session *session, uint64_t *transaction, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_usable(session);
    while (status == 0 && (status = kve_call(session, KVE_txn_begin, 0, 0, 0, 0, 0)) == KV_AGAIN)
        status = kve_make_room_locked(session);
    status = kve_status_of(session, status, failure);
    if (status == KV_OK) {
        *transaction = ++session->transactions;
        kve_set_transaction(session, *transaction);
    } else {
        kve_writer_release(session);
    }
    kve_unlock(session);
    return status;
}

int kve_check_transaction(kve_session *session, uint64_t transaction)
{
    int status = kve_usable(session);
    return status == 0 && session->transaction != transaction ? KVE_ENDED : status;
}

/* The commit's steps; between them, and during its barrier, others may call the guest. */
static int commit_steps(kve_session *session, uint32_t flags, kve_failure *failure)
{
    for (;;) {
        int status = kve_reachable(session);
        if (status != 0) return status;
        status = kve_call(session, KVE_txn_commit, flags, 0, 0, 0, 0);
        if (status != KV_AGAIN && status != KV_SYNC_FIRST) return kve_status_of(session, status, failure);
        int32_t fd = kve_block(session)->fd;
        kve_unlock(session);
        int error = 0;
        if (status == KV_SYNC_FIRST) {
            error = kve_flush_barrier(session, fd, failure);
            flags |= KV_BARRIER_DONE;
        } else {
            kve_make_room(session);
        }
        kve_lock(session);
        if (error != 0) return error;
    }
}

/* What a large transaction has to do before its commit; others may call the guest meanwhile. */
static int settle(kve_session *session, kve_failure *failure)
{
    for (;;) {
        int status = kve_call(session, KVE_txn_settle, 0, 0, 0, 0, 0);
        if (status != KV_AGAIN) return kve_status_of(session, status, failure);
        kve_unlock(session);
        kve_lock(session);
        status = kve_reachable(session);
        if (status != 0) return status;
    }
}

static int end_transaction(kve_session *session, kve_failure *failure)
{
    int status = kve_status_of(session, kve_call(session, KVE_txn_rollback, 0, 0, 0, 0, 0), failure);
    return status == KV_NO_TRANSACTION ? KV_OK : status;
}

int kve_txn_commit(kve_session *session, uint64_t transaction, bool durable, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status != 0) {
        kve_unlock(session);
        return status;
    }
    status = settle(session, failure);
    if (status == KV_OK) status = commit_steps(session, durable ? KV_DURABLE : 0, failure);
    if (status != KV_OK && status != KV_NEEDS_SYNC && kve_reachable(session) == 0) {
        kve_failure ignored; /* the commit's failure is what counts */
        (void)end_transaction(session, &ignored);
    }
    kve_set_transaction(session, 0);
    if (status == KV_OK) status = kve_settle(session, failure);
    const bool reachable = kve_reachable(session) == 0;
    const bool behind = reachable && kve_block(session)->flush_wanted & KV_WANTS_CATCH_UP;
    const bool pause = reachable && status == KV_OK && kve_wants_pause(session);
    kve_writer_release(session);
    kve_unlock(session);
    kve_failure ignored; /* what fails there the flush tells, or the next call */
    if (status == KV_NEEDS_SYNC && durable && behind) (void)kve_catch_up(session, &ignored); /* else the flusher does that */
    if (status == KV_NEEDS_SYNC) status = kve_flush_until(session, failure->position, failure);
    if (pause) kve_pause();
    return status;
}

int kve_txn_rollback(kve_session *session, uint64_t transaction, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status == 0) {
        status = end_transaction(session, failure);
        kve_set_transaction(session, 0);
        kve_writer_release(session);
    }
    kve_unlock(session);
    return status;
}

int kve_savepoint(kve_session *session, uint64_t transaction, kve_savepoint_step step, kve_failure *failure)
{
    static const kve_export exports[] = {KVE_savepoint_begin, KVE_savepoint_release, KVE_savepoint_rollback};
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status == 0) {
        session->changes++;
        status = kve_status_of(session, kve_call(session, exports[step], 0, 0, 0, 0, 0), failure);
    }
    kve_unlock(session);
    return status;
}

int kve_put_many(kve_session *session, uint64_t transaction, uint32_t table, const void *entries, uint32_t bytes,
                 uint32_t count, kve_failure *failure)
{
    if (bytes > KV_DATA_CAPACITY) return KV_INVALID;
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status == 0) {
        session->changes++;
        kve_wrote(session, bytes);
        memcpy(kve_data(session), entries, bytes);
        status = kve_status_of(session, kve_call(session, KVE_put_many, table, count, bytes, 0, 0), failure);
    }
    kve_unlock_throttled(session);
    return status;
}

int kve_delete_range(kve_session *session, uint64_t transaction, uint32_t table, const kve_range *range, uint64_t *count,
                     kve_failure *failure)
{
    enum { STEP = 512 };
    uint64_t found = STEP;
    *count = 0;
    if (range->start_length > KV_KEY_MAX || range->stop_length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    session->changes++;
    while (status == 0 && found == STEP) {
        uint32_t flags = kve_put_range(session, range);
        status = kve_call(session, KVE_delete_range, table, range->start_length, range->stop_length, STEP, flags);
        status = kve_status_of(session, status, failure);
        found = kve_block(session)->count;
        *count += found;
        if (status == KV_OK && found == STEP) status = kve_make_room_locked(session);
        if (status == KV_OK) status = kve_check_transaction(session, transaction);
    }
    kve_unlock(session);
    return status;
}
