/* Snapshots: versions that readers keep, and since when. */
#include "verbs.h"

int kve_snapshot_open(kve_session *session, uint32_t *handle, kve_failure *failure)
{
    int status = kve_status_of(session, kve_call(session, KVE_snapshot_open, 0, 0, 0, 0, 0), failure);
    if (status != KV_OK) return status;
    const uint32_t opened = kve_block(session)->handle;
    if (opened >= KV_SNAPSHOTS_MAX) return kve_break(session, "the engine gave a snapshot that cannot be");
    session->snapshot_since_ns[opened] = kve_now_ns();
    *handle = opened;
    return KV_OK;
}

void kve_snapshot_close(kve_session *session, uint32_t handle)
{
    session->snapshot_since_ns[handle] = 0;
    (void)kve_call(session, KVE_snapshot_close, handle, 0, 0, 0, 0);
}

uint64_t kve_snapshot_oldest_ns(const kve_session *session)
{
    uint64_t oldest = UINT64_MAX;
    for (uint32_t handle = 0; handle < KV_SNAPSHOTS_MAX; handle++) {
        uint64_t since = session->snapshot_since_ns[handle];
        if (since != 0 && since < oldest) oldest = since;
    }
    return oldest == UINT64_MAX ? 0 : kve_now_ns() - oldest;
}
