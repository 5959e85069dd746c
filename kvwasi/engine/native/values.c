/* Values larger than a call carries, in pieces. The lock is left between them; everything here runs without the GIL. */
#include <stdlib.h>
#include <string.h>

#include "checksum.h"
#include "verbs.h"

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

static int value_chunk(kve_session *session, uint64_t transaction, const void *data, uint32_t bytes,
                       kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    if (status == 0) {
        kve_wrote(session, bytes);
        memcpy(kve_data(session), data, bytes);
        status = kve_status_of(session, kve_call(session, KVE_value_chunk, bytes, 0, 0, 0, 0), failure);
    }
    kve_unlock_throttled(session);
    return status;
}

static int value_end(kve_session *session, uint64_t transaction, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_check_transaction(session, transaction);
    session->changes++;
    if (status == 0) status = kve_status_of(session, kve_call(session, KVE_value_end, 0, 0, 0, 0, 0), failure);
    kve_unlock(session);
    return status;
}

static uint32_t piece_of(uint32_t left)
{
    return left < KV_DATA_CAPACITY ? left : KV_DATA_CAPACITY;
}

int kve_value_write(kve_session *session, uint64_t transaction, uint32_t table, const void *key,
                    uint32_t key_length, const void *value, uint32_t value_length, uint32_t flags,
                    kve_failure *failure)
{
    int status = value_begin(session, transaction, table, key, key_length, value_length, flags, failure);
    const uint8_t *at = value;
    for (uint32_t left = value_length; status == KV_OK && left != 0;) {
        uint32_t bytes = piece_of(left);
        status = value_chunk(session, transaction, at, bytes, failure);
        at += bytes;
        left -= bytes;
    }
    return status == KV_OK ? value_end(session, transaction, failure) : status;
}

/* A piece of a value that a cursor or a snapshot of the caller's pins. */
static int read_piece(kve_session *session, const kv_value_ref *piece, void *to, kve_failure *failure)
{
    kve_lock(session);
    int status = kve_usable(session);
    if (status == 0) status = kve_read(session, piece, to, failure);
    kve_unlock(session);
    return status;
}

int kve_read_large(kve_session *session, const kv_value_ref *ref, void *to, kve_failure *failure)
{
    int status = 0;
    uint8_t *at = to;
    kv_value_ref piece = *ref;
    for (uint32_t left = ref->length; status == 0 && left != 0;) {
        piece.length = piece_of(left);
        status = read_piece(session, &piece, at, failure);
        at += piece.length;
        piece.offset += piece.length;
        left -= piece.length;
    }
    return status == 0 ? kve_verify(ref, to, failure) : status;
}

static int check_sum(const kv_value_ref *ref, const kv_xxh64_state *sum, kve_failure *failure)
{
    if ((uint32_t)kv_xxh64_end(sum) == ref->sum) return 0;
    failure->position = ref->offset;
    failure->detail = KV_DETAIL_VALUE;
    return KVE_CHECKSUM;
}

int kve_verify_small(kve_session *session, const kv_value_ref *ref, kve_failure *failure)
{
    uint8_t buffer[KV_INLINE_MAX];
    int status = kve_read(session, ref, buffer, failure);
    return status == 0 ? kve_verify(ref, buffer, failure) : status;
}

int kve_verify_large(kve_session *session, const kv_value_ref *ref, kve_failure *failure)
{
    uint8_t *buffer = malloc(KV_DATA_CAPACITY);
    if (buffer == NULL) return KV_NO_MEMORY;
    kv_xxh64_state sum;
    kv_xxh64_begin(&sum, 0);
    kv_value_ref piece = *ref;
    int status = 0;
    for (uint32_t left = ref->length; status == 0 && left != 0; left -= piece.length) {
        piece.length = piece_of(left);
        status = read_piece(session, &piece, buffer, failure);
        if (status == 0) kv_xxh64_add(&sum, buffer, piece.length);
        piece.offset += piece.length;
    }
    free(buffer);
    return status == 0 ? check_sum(ref, &sum, failure) : status;
}

int kve_value_copy(kve_session *from, const kv_value_ref *ref, kve_session *to, uint64_t transaction,
                   uint32_t table, const void *key, uint32_t key_length, int *reading, kve_failure *failure)
{
    *reading = 0;
    uint8_t *buffer = malloc(KV_DATA_CAPACITY);
    if (buffer == NULL) return KV_NO_MEMORY;
    kv_xxh64_state sum;
    kv_xxh64_begin(&sum, 0);
    kv_value_ref piece = *ref;
    int status = value_begin(to, transaction, table, key, key_length, ref->length, 0, failure);
    for (uint32_t left = ref->length; status == KV_OK && left != 0; left -= piece.length) {
        piece.length = piece_of(left);
        status = read_piece(from, &piece, buffer, failure);
        *reading = status != 0;
        if (*reading) break;
        kv_xxh64_add(&sum, buffer, piece.length);
        status = value_chunk(to, transaction, buffer, piece.length, failure);
        piece.offset += piece.length;
    }
    free(buffer);
    if (status != KV_OK) return status;
    status = check_sum(ref, &sum, failure); /* before the end, so that a damaged value never becomes an entry */
    *reading = status != 0;
    return status == 0 ? value_end(to, transaction, failure) : status;
}
