/* Named tables: their numbers, their making and their end. */
#include <string.h>

#include "verbs.h"

static int put_name(kve_session *session, const void *name, uint32_t length)
{
    if (length == 0) return KV_KEY_EMPTY;
    if (length > KV_KEY_MAX - 1) return KV_KEY_TOO_LARGE;
    memcpy(kve_block(session)->key, name, length);
    return 0;
}

int kve_table_find(kve_session *session, const void *name, uint32_t length, uint32_t view, uint32_t *table,
                   kve_failure *failure)
{
    int status = put_name(session, name, length);
    if (status != 0) return status;
    status = kve_status_of(session, kve_call(session, KVE_table_find, length, view, 0, 0, 0), failure);
    if (status == KV_OK) *table = kve_block(session)->table;
    return status;
}

int kve_table_create(kve_session *session, const void *name, uint32_t length, uint32_t *table,
                     kve_failure *failure)
{
    int status = put_name(session, name, length);
    if (status != 0) return status;
    session->changes++;
    status = kve_status_of(session, kve_call(session, KVE_table_create, length, 0, 0, 0, 0), failure);
    if (status != KV_OK && status != KV_EXISTS) return status;
    *table = kve_block(session)->table;
    return KV_OK;
}

int kve_table_names(kve_session *session, const void *after, uint32_t length, uint32_t view, uint32_t *count,
                    kve_failure *failure)
{
    int status = length == 0 ? 0 : put_name(session, after, length);
    if (status == 0)
        status = kve_status_of(session, kve_call(session, KVE_table_names, length, view, 0, 0, 0), failure);
    *count = status == KV_OK ? (uint32_t)kve_block(session)->count : 0;
    return status;
}

int kve_table_drop(kve_session *session, uint64_t transaction, const void *name, uint32_t length,
                   kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    session->changes++;
    do {
        if (status == KV_AGAIN) status = kve_make_room_locked(session);
        if (status == 0) status = kve_check_transaction(session, transaction);
        if (status == 0) status = put_name(session, name, length); /* others have used the block meanwhile */
        if (status == 0)
            status = kve_status_of(session, kve_call(session, KVE_table_drop, length, 0, 0, 0, 0), failure);
    } while (status == KV_AGAIN);
    kve_unlock(session);
    return status;
}

int kve_table_make(kve_session *session, const void *name, uint32_t length, bool durable, uint32_t *table,
                   kve_failure *failure)
{
    uint64_t transaction = 0;
    int status = kve_txn_begin(session, &transaction, failure);
    if (status != KV_OK) return status;
    kve_lock(session);
    status = kve_check_transaction(session, transaction);
    if (status == 0) status = kve_table_create(session, name, length, table, failure);
    kve_unlock(session);
    if (status == KV_OK) return kve_txn_commit(session, transaction, durable, failure);
    kve_failure ignored;
    (void)kve_txn_rollback(session, transaction, &ignored);
    return status;
}
