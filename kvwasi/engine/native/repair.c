/* Repair: the guest without a database, one bounded step a call. Without the GIL. */
#include <string.h>

#include "verbs.h"

int kve_repair_begin(kve_session *session, const char *source, uint32_t source_length, const char *target,
                     uint32_t target_length, kve_failure *failure)
{
    if (source_length > KV_DATA_CAPACITY / 2 || target_length > KV_DATA_CAPACITY / 2) return KV_INVALID;
    kve_lock(session);
    memcpy(kve_data(session), source, source_length);
    memcpy(kve_data(session) + source_length, target, target_length);
    int status = kve_call(session, KVE_repair_begin, source_length, target_length, 0, 0, 0);
    status = kve_status_of(session, status, failure);
    kve_unlock(session);
    return status;
}

/* A step, and the flush that it asks for: KV_AGAIN, KV_OK, or an error. The result and `*count` problems (at most `capacity`) are
 * copied out. */
int kve_repair_step(kve_session *session, uint32_t *flags, kv_guest_repair_result *result, kv_problem *problems,
                    size_t capacity, size_t *count, kve_failure *failure)
{
    *count = 0;
    kve_lock(session);
    int status = kve_reachable(session);
    if (status == 0) status = kve_status_of(session, kve_call(session, KVE_repair_step, *flags, 0, 0, 0, 0), failure);
    *flags = 0;
    if (status == KV_OK || status == KV_AGAIN || status == KV_SYNC_FIRST) {
        uint64_t found = kve_block(session)->count;
        *count = found < capacity ? (size_t)found : capacity;
        memcpy(result, kve_data(session), sizeof *result);
        memcpy(problems, kve_data(session) + sizeof *result, *count * sizeof *problems);
    }
    if (status == KV_SYNC_FIRST) {
        failure->os_error = session->api->datasync(session->host, (uint32_t)kve_block(session)->fd);
        *flags = KV_BARRIER_DONE;
        status = failure->os_error == 0 ? KV_AGAIN : KVE_HOST_IO;
    }
    kve_unlock(session);
    return status;
}

/* The guest is given up; a target that is not complete goes. */
void kve_repair_end(kve_session *session)
{
    kve_lock(session);
    if (kve_reachable(session) == 0) (void)kve_call(session, KVE_repair_abort, 0, 0, 0, 0, 0);
    kve_session_drop(session);
    kve_unlock(session);
}
