/* Snapshots: versions that readers keep. */
#include <stdlib.h>

#include "db.h"

kv_status kv_snapshot_open(kv_db *db, uint32_t *handle) {
    if (db->file->poisoned) return KV_POISONED;
    uint32_t at = 0;
    while (at < KV_SNAPSHOTS_MAX && db->snapshots[at] != NULL) at++;
    if (at == KV_SNAPSHOTS_MAX) return KV_TOO_MANY_CURSORS;
    kv_snapshot *snapshot = malloc(sizeof *snapshot);
    if (snapshot == NULL) return KV_NO_MEMORY;
    const kv_state *state;
    kv_file *file;
    (void)kv_db_state(db, KV_VIEW_PUBLISHED, &state, &file);
    kv_state now = *state;
    uint32_t pin = kv_pin_published(db);
    if (pin == KV_NO_PIN) {
        free(snapshot);
        return KV_TOO_MANY_CURSORS;
    }
    *snapshot = (kv_snapshot){.version = {now, pin}, .file = file};
    file->references++;
    db->snapshots[at] = snapshot;
    db->snapshot_count++;
    *handle = at;
    return KV_OK;
}

/* Cursors that read it keep it until they are closed, too. */
kv_status kv_snapshot_close(kv_db *db, uint32_t handle) {
    if (handle >= KV_SNAPSHOTS_MAX || db->snapshots[handle] == NULL) return KV_INVALID;
    kv_snapshot *snapshot = db->snapshots[handle];
    kv_nodes_unpin(snapshot->file->nodes, snapshot->version.pin);
    kv_file_release(snapshot->file);
    free(snapshot);
    db->snapshots[handle] = NULL;
    db->snapshot_count--;
    return KV_OK;
}
