/* What ends in a commit, and values larger than a call carries. Everything here runs without the GIL. */
#include <string.h>

#include "checksum.h"
#include "verbs.h"

/* After a write of its own: give the turn back, and wait for the disk if it must. */
static int finish_write(kve_session *session, bool turn, int status, kve_failure *failure)
{
    if (turn) kve_writer_release(session);
    kve_unlock(session);
    return status == KV_NEEDS_SYNC ? kve_flush_until(session, failure->position, failure) : status;
}

static int begin_write(kve_session *session, uint64_t thread, bool turn)
{
    kve_lock(session);
    int status = kve_usable(session);
    return status == 0 && !turn ? kve_writer_check(session, thread) : status;
}

int kve_put_commit(kve_session *session, uint64_t thread, bool turn, uint32_t table, const void *key,
                   uint32_t key_length, const void *value, uint32_t value_length, uint32_t flags,
                   kve_failure *failure)
{
    int status = begin_write(session, thread, turn);
    if (status == 0) status = kve_put(session, table, key, key_length, value, value_length, flags, failure);
    return finish_write(session, turn, status, failure);
}

int kve_delete_commit(kve_session *session, uint64_t thread, bool turn, uint32_t table, const void *key,
                      uint32_t key_length, uint32_t flags, kve_failure *failure)
{
    int status = begin_write(session, thread, turn);
    if (status == 0) status = kve_delete(session, table, key, key_length, flags, failure);
    return finish_write(session, turn, status, failure);
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
    if (status == KV_OK)
        *transaction = session->transaction = ++session->transactions;
    else
        kve_writer_release(session);
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
    status = commit_steps(session, durable ? KV_DURABLE : 0, failure);
    if (status != KV_OK && status != KV_NEEDS_SYNC && kve_reachable(session) == 0) {
        kve_failure ignored; /* the commit's failure is what counts */
        (void)end_transaction(session, &ignored);
    }
    session->transaction = 0;
    return finish_write(session, true, status, failure);
}

int kve_txn_rollback(kve_session *session, uint64_t transaction, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status == 0) {
        status = end_transaction(session, failure);
        session->transaction = 0;
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
        memcpy(kve_data(session), entries, bytes);
        status = kve_status_of(session, kve_call(session, KVE_put_many, table, count, bytes, 0, 0), failure);
    }
    kve_unlock(session);
    return status;
}

/* --- values larger than a call carries --- */

static int value_begin(kve_session *session, uint64_t transaction, uint32_t table, const void *key,
                       uint32_t key_length, uint32_t value_length, uint32_t flags, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status == 0 && key_length == 0) status = KV_KEY_EMPTY;
    if (status == 0 && key_length > KV_KEY_MAX) status = KV_KEY_TOO_LARGE;
    if (status == 0) {
        memcpy(kve_block(session)->key, key, key_length);
        status = kve_call(session, KVE_value_begin, table, key_length, value_length, flags, 0);
    }
    status = kve_status_of(session, status, failure);
    kve_unlock(session);
    return status;
}

int kve_value_write(kve_session *session, uint64_t transaction, uint32_t table, const void *key,
                    uint32_t key_length, const void *value, uint32_t value_length, uint32_t flags,
                    kve_failure *failure)
{
    int status = value_begin(session, transaction, table, key, key_length, value_length, flags, failure);
    const uint8_t *at = value;
    for (uint32_t left = value_length; status == KV_OK && left != 0;) {
        uint32_t bytes = left < KV_DATA_CAPACITY ? left : KV_DATA_CAPACITY;
        kve_lock(session);
        status = kve_check_transaction(session, transaction);
        if (status == 0) {
            memcpy(kve_data(session), at, bytes);
            status = kve_status_of(session, kve_call(session, KVE_value_chunk, bytes, 0, 0, 0, 0), failure);
        }
        kve_unlock(session);
        at += bytes;
        left -= bytes;
    }
    if (status != KV_OK) return status;
    kve_lock(session);
    status = kve_check_transaction(session, transaction);
    session->changes++;
    if (status == 0) status = kve_status_of(session, kve_call(session, KVE_value_end, 0, 0, 0, 0, 0), failure);
    kve_unlock(session);
    return status;
}

/* The caller pins the value by a cursor, so that the lock can be left between the pieces. */
int kve_read_large(kve_session *session, const kv_value_ref *ref, void *to, kve_failure *failure)
{
    int status = 0;
    uint8_t *at = to;
    kv_value_ref piece = *ref;
    for (uint32_t left = ref->length; status == 0 && left != 0;) {
        piece.length = left < KV_DATA_CAPACITY ? left : KV_DATA_CAPACITY;
        kve_lock(session);
        status = kve_usable(session);
        if (status == 0) status = kve_read(session, &piece, at, failure);
        kve_unlock(session);
        at += piece.length;
        piece.offset += piece.length;
        left -= piece.length;
    }
    return status == 0 ? kve_verify(ref, to, failure) : status;
}
