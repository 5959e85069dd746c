/* What concerns the database as a whole: open, close, statistics, check, compaction. Without the GIL. */
#include <stdlib.h>
#include <string.h>

#include "verbs.h"

/* --- close --- */

/* Bring the guest to a clean end: flush as often as it asks for that. */
static int close_steps(kve_session *session, kve_failure *failure)
{
    for (;;) {
        int status = kve_status_of(session, kve_call(session, KVE_close_mark, 0, 0, 0, 0, 0), failure);
        if (status == KV_AGAIN) continue;
        if (status != KV_NEEDS_SYNC) return status;
        int error = session->api->datasync(session->host, (uint32_t)kve_block(session)->fd);
        if (error == 0) {
            status = kve_status_of(session, kve_call_number(session, KVE_synced, failure->position), failure);
            if (status != KV_OK) return status;
            continue;
        }
        failure->os_error = error;
        return KVE_SYNC_FAILED;
    }
}

static int close_guest(kve_session *session, kve_failure *failure)
{
    int status = kve_reachable(session);
    if (status != 0) return status;
    if (session->transaction != 0) (void)kve_call(session, KVE_txn_rollback, 0, 0, 0, 0, 0);
    kve_set_transaction(session, 0);
    if (session->compacting) (void)kve_call(session, KVE_compact_abort, 0, 0, 0, 0, 0);
    if (!session->read_only) status = close_steps(session, failure);
    int closed = session->broken ? KVE_BROKEN : kve_call(session, KVE_close, 0, 0, 0, 0, 0);
    return status != KV_OK ? status : closed;
}

int kve_close(kve_session *session, kve_failure *failure)
{
    kve_flusher_stop(session);
    kve_lock(session);
    int status = kve_usable(session);
    bool ours = !session->closing && session->open;
    session->closing = true;
    kve_writer_wake_all(session);
    kve_unlock(session);
    if (!ours) return 0;

    /* Who waits for a flush is let through first: the leader needs the guest to report it. */
    kve_flush_acquire(session);
    kve_lock(session);
    status = close_guest(session, failure);
    kve_session_drop(session);
    kve_unlock(session);
    pthread_mutex_lock(&session->flush_lock);
    if (status == KV_OK) session->durable = UINT64_MAX;
    pthread_mutex_unlock(&session->flush_lock);
    kve_flush_release(session, false);
    return status;
}

/* --- statistics and check --- */

int kve_stats(kve_session *session, kv_guest_stats_result *out, uint64_t *age_ns, uint64_t *readers_age_ns,
              kve_failure *failure)
{
    kve_lock(session);
    int status = kve_usable(session);
    if (status == 0 && !session->read_only) kve_release_readers(session, true);
    if (status == 0) status = kve_status_of(session, kve_call(session, KVE_stats, 0, 0, 0, 0, 0), failure);
    if (status == KV_OK) memcpy(out, kve_data(session), sizeof *out);
    *age_ns = kve_snapshot_oldest_ns(session);
    *readers_age_ns = session->held_since_ns == 0 ? 0 : kve_now_ns() - session->held_since_ns;
    kve_unlock(session);
    return status;
}

static int take_problems(kve_session *session, kv_problem **list, size_t *count)
{
    uint64_t found = kve_block(session)->count;
    if (found == 0) return 0;
    if (found > KV_DATA_CAPACITY / sizeof(kv_problem))
        return kve_break(session, "the engine gave more problems than fit its buffer");
    kv_problem *grown = realloc(*list, (*count + (size_t)found) * sizeof **list);
    if (grown == NULL) return KV_NO_MEMORY;
    memcpy(grown + *count, kve_data(session), (size_t)found * sizeof *grown);
    *list = grown;
    *count += (size_t)found;
    return 0;
}

int kve_check(kve_session *session, kv_problem **out, size_t *count, kve_failure *failure)
{
    *out = NULL;
    *count = 0;
    kve_export next = KVE_check_begin;
    for (;;) {
        kve_lock(session);
        int status = kve_usable(session);
        if (status == 0) status = kve_status_of(session, kve_call(session, next, 0, 0, 0, 0, 0), failure);
        if (next == KVE_check_step && (status == KV_OK || status == KV_AGAIN)) {
            int error = take_problems(session, out, count);
            if (error != 0) status = error;
        }
        kve_unlock(session);
        bool begun = next == KVE_check_begin && status == KV_OK;
        next = KVE_check_step;
        if (!begun && status != KV_AGAIN) return status;
        kve_make_room(session);
    }
}

/* --- compaction --- */

static int prefetch_next(kve_session *session)
{
    const kv_value_ref *refs = (const void *)kve_data(session);
    const uint64_t count = kve_block(session)->count;
    if (count > KV_DATA_CAPACITY / sizeof *refs)
        return kve_break(session, "the engine told of more than fits its buffer");
    for (uint64_t i = 0; i < count; i++)
        kve_prefetch(session, &refs[i]);
    return KV_AGAIN;
}

/* One step; KV_SYNC_FIRST sets `*fd`, the new file's. */
static int compact_call(kve_session *session, kve_export which, uint32_t flags, int32_t *fd, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_usable(session);
    if (status != 0) {
        kve_unlock(session);
        return status;
    }
    status = kve_status_of(session, kve_call(session, which, flags, 0, 0, 0, 0), failure);
    if (status == KV_SYNC_FIRST) *fd = kve_block(session)->fd;
    if (status == KV_AGAIN) status = prefetch_next(session);
    if (which == KVE_compact_step && status == KV_OK) session->files++;
    session->compacting = which == KVE_compact_begin ? status == KV_OK
                          : which == KVE_compact_step ? status != KV_OK
                                                      : false;
    kve_unlock(session);
    return status;
}

int kve_compact(kve_session *session, kve_failure *failure)
{
    int32_t fd = -1;
    uint32_t flags = 0;
    bool holding = false; /* no flush may run on the old file while it is replaced */
    int status = kve_sync(session, failure);
    if (status == KV_OK) status = compact_call(session, KVE_compact_begin, 0, &fd, failure);
    if (status != KV_OK) return status;
    do {
        status = compact_call(session, KVE_compact_step, flags, &fd, failure);
        flags = 0;
        if (status == KV_AGAIN) kve_make_room(session);
        if (status != KV_SYNC_FIRST) continue;
        if (!holding) kve_flush_acquire(session);
        holding = true;
        flags = KV_BARRIER_DONE;
        int error = kve_flush_file(session, fd, failure);
        if (error != 0) status = error; /* the old file is as it was */
    } while (status == KV_AGAIN || status == KV_SYNC_FIRST);
    if (holding) kve_flush_release(session, status == KV_OK);
    if (status != KV_OK) {
        kve_failure ignored;
        (void)compact_call(session, KVE_compact_abort, 0, &fd, &ignored);
    }
    return status;
}
