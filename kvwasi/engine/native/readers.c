/* Readers beside a writer in another process, on the host's side. A reader stands on a checkpoint by a shared lock on the database file,
 * on a byte of the number of that superblock: so the kernel is the table of readers, in which nobody stays who is gone. A writer asks it
 * for the checkpoints that have left their slot. */
#include <errno.h>
#include <string.h>

#include "verbs.h"

/* Far from the bytes that a file has, and from the one that guards the host's windows. */
#define READERS_AT (1ull << 62)
#define READERS_END (READERS_AT + (1ull << 61))
#define OPEN_TRIES 8 /* each time a writer has just recovered the file, or a damaged one looks like it */
#define ASK_AGAIN_NS (100ull * 1000 * 1000) /* of readers that stay where they are */

/* What a file system says that has no such locks: then no reader can have one. */
static bool without_locks(int error)
{
    return error == EINVAL || error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS;
}

static bool stands(kve_session *session, uint32_t fd, uint64_t first, uint64_t last)
{
    bool locked = false;
    int error = session->api->is_locked(session->host, fd, READERS_AT + first, last - first + 1, &locked);
    return locked || (error != 0 && !without_locks(error));
}

/* Stand on superblock `number`, and on all later ones. */
static int stand_from(kve_session *session, uint32_t fd, uint64_t number)
{
    const kvw_api *api = session->api;
    if (number >= READERS_END - READERS_AT) return EINVAL;
    int error = api->lock_shared(session->host, fd, READERS_AT, READERS_END - READERS_AT, false);
    if (error == 0)
        error = api->lock_shared(session->host, fd, READERS_AT + number, READERS_END - READERS_AT - number, true);
    return without_locks(error) && session->still ? 0 : error;
}

/* Stand on `number` alone. */
static void stand_on(kve_session *session, uint32_t fd, uint64_t number)
{
    const kvw_api *api = session->api;
    uint64_t after = READERS_AT + number + 1;
    (void)api->lock_shared(session->host, fd, READERS_AT, number, false);
    (void)api->lock_shared(session->host, fd, after, READERS_END - after, false);
}

/* The guest has read the superblocks and wants to know who reads. Whether it can go on: 0 or an errno. */
static int look(kve_session *session, uint32_t *flags)
{
    const kv_guest_block *block = kve_block(session);
    const uint32_t fd = (uint32_t)block->fd;
    const uint64_t newest = block->position;
    if (session->read_only) return stand_from(session, fd, newest);
    *flags &= ~(KV_OPEN_READERS | KV_OPEN_OLDER_READERS);
    if (stands(session, fd, 0, READERS_END - READERS_AT - 1)) *flags |= KV_OPEN_READERS;
    if ((*flags & KV_OPEN_READERS) && stands(session, fd, 0, newest - 1)) *flags |= KV_OPEN_OLDER_READERS;
    return 0;
}

int kve_open(kve_session *session, const char *name, uint32_t name_length, uint32_t flags, uint32_t sector_bytes,
             uint64_t cache_bytes, kve_failure *failure)
{
    if (name_length > KV_DATA_CAPACITY) return KV_INVALID;
    kve_lock(session);
    int status, error = 0, tries = OPEN_TRIES;
    do {
        memcpy(kve_data(session), name, name_length);
        kve_block(session)->cache_bytes = cache_bytes;
        status = kve_call(session, KVE_open, name_length, flags, sector_bytes, 0, 0);
        if (status == KV_AGAIN) error = look(session, &flags);
        if (status == KV_EXISTS && --tries == 0) flags |= KV_OPEN_AS_IS;
    } while (error == 0 && (status == KV_AGAIN || (status == KV_EXISTS && session->read_only && tries >= 0)));
    status = kve_status_of(session, status, failure);
    if (error != 0) {
        failure->os_error = error;
        status = KVE_HOST_IO;
    }
    if (status == KV_OK) kve_advise_huge_pages(session);
    if (status == KV_OK && session->read_only)
        stand_on(session, (uint32_t)kve_block(session)->fd, kve_block(session)->position);
    kve_unlock(session);
    return status;
}

static int reopen_once(kve_session *session, uint32_t flags, kve_failure *failure)
{
    int status = kve_call(session, KVE_refresh, flags, 0, 0, 0, 0);
    while (status == KV_AGAIN) {
        int error = stand_from(session, (uint32_t)kve_block(session)->fd, kve_block(session)->position);
        if (error != 0) {
            (void)kve_call(session, KVE_refresh, KV_REFRESH_ABORT, 0, 0, 0, 0);
            failure->os_error = error;
            return KVE_HOST_IO;
        }
        status = kve_call(session, KVE_refresh, flags, 0, 0, 0, 0);
    }
    return status;
}

/* Open the file anew, in place of the one that is open, with the session's lock. */
static int reopen(kve_session *session, kve_failure *failure)
{
    int status = KV_EXISTS;
    for (int tries = OPEN_TRIES; status == KV_EXISTS && tries >= 0; tries--)
        status = reopen_once(session, KV_REFRESH_REOPEN | (tries == 0 ? KV_REFRESH_AS_IS : 0), failure);
    session->files++;
    if (status == KV_OK) stand_on(session, (uint32_t)kve_block(session)->fd, kve_block(session)->position);
    return kve_status_of(session, status, failure);
}

int kve_refresh(kve_session *session, bool replaced, int *moved, kve_failure *failure)
{
    *moved = false;
    for (;;) {
        kve_lock(session);
        int status = kve_usable(session);
        if (status == 0 && !session->read_only) status = KV_INVALID;
        if (status == 0) status = replaced ? KV_EXISTS : kve_call(session, KVE_refresh, 0, 0, 0, 0, 0);
        if (status == KV_OK || status == KV_AGAIN) *moved = *moved || kve_block(session)->count != 0;
        if (status == KV_EXISTS) {
            status = reopen(session, failure);
            *moved = *moved || status == KV_OK;
        } else {
            status = kve_status_of(session, status, failure);
        }
        if (*moved) session->changes++;
        kve_unlock(session);
        if (status != KV_AGAIN) return status;
        kve_make_room(session);
    }
}

void kve_release_readers(kve_session *session, bool all)
{
    if (kve_call(session, KVE_held, 0, 0, 0, 0, 0) != KV_OK) return;
    const uint64_t count = kve_block(session)->count;
    if (count == 0) {
        session->held_count = session->held_since_ns = 0;
        return;
    }
    const uint64_t now = kve_now_ns();
    if (!all && count == session->held_count && now - session->held_asked_ns < ASK_AGAIN_NS) return;
    if (count > KV_HELD_MAX) {
        (void)kve_break(session, "the engine keeps more checkpoints than it can");
        return;
    }
    uint64_t held[2 * KV_HELD_MAX];
    memcpy(held, kve_data(session), (size_t)count * 16);
    session->held_asked_ns = now;
    session->held_count = 0;
    for (uint64_t i = 0; i < count && !session->broken; i++) {
        if (stands(session, (uint32_t)kve_block(session)->fd, held[2 * i], held[2 * i + 1])) {
            if (session->held_count++ == 0 && session->held_oldest != held[2 * i + 1]) session->held_since_ns = now;
            if (session->held_count == 1) session->held_oldest = held[2 * i + 1];
        } else {
            (void)kve_call_number(session, KVE_release, held[2 * i]);
        }
    }
    if (session->held_count == 0) session->held_since_ns = session->held_oldest = 0;
}
