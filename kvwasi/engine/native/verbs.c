/* The verbs that take microseconds: made under the lock by a thread that may hold the GIL. */
#include "verbs.h"

#include <string.h>

#include "checksum.h"

/* A call whose arguments are in place; goes on while the guest has steps to make. */
static int call(kve_session *session, kve_export which, uint32_t a, uint32_t b, uint32_t c, uint32_t d, uint32_t e,
                kve_failure *failure)
{
    int status;
    do
        status = kve_call(session, which, a, b, c, d, e);
    while (status == KV_AGAIN);
    return kve_status_of(session, status, failure);
}

static int check_key(uint32_t key_length)
{
    if (key_length == 0) return KV_KEY_EMPTY;
    return key_length > KV_KEY_MAX ? KV_KEY_TOO_LARGE : 0;
}

enum { SMALL_VALUE = 128 }; /* bytes of it that are waited for together with its key */

/* Only what is published is guessed at. */
static uint32_t may_guess(uint32_t view)
{
    return view == KV_VIEW_PUBLISHED ? KV_VIEW_PUBLISHED | KV_VIEW_MAY_GUESS : view;
}

/* Compare the record of a guess with the key; on success `ref` describes its value as the index would. */
static bool settle_guess(kve_session *session, uint32_t table, const void *key, uint32_t key_length, kv_value_ref *ref)
{
    uint8_t record[KV_RECORD_HEADER_BYTES + KV_KEY_MAX];
    const size_t length = KV_RECORD_HEADER_BYTES + key_length;
    size_t got = 0;
    if (session->api->read(session->host, (uint32_t)ref->fd, ref->offset, record, length, &got) != 0 || got != length)
        return false;
    if (kv_load16(record + KV_RH_KEY_LENGTH) != key_length || kv_load32(record + KV_RH_TABLE) != table ||
        memcmp(record + KV_RECORD_HEADER_BYTES, key, key_length) != 0)
        return false;
    const uint8_t type = record[KV_RH_TYPE];
    const bool inside = type == KV_RECORD_PUT && !(record[KV_RH_FLAGS] & KV_FLAG_EXTERNAL);
    ref->length = kv_load32(record + KV_RH_VALUE_LENGTH);
    if (!(inside && ref->length <= KV_INLINE_MAX) && !(type == KV_RECORD_VALUE && ref->length <= KV_VALUE_MAX))
        return false;
    ref->sum = kv_load32(record + KV_RH_VALUE_SUM);
    ref->offset += length;
    ref->where = KV_WHERE_FILE;
    return true;
}

int kve_get(kve_session *session, uint32_t table, const void *key, uint32_t key_length, uint32_t view,
            kv_value_ref *out, kve_failure *failure)
{
    int status = check_key(key_length);
    if (status != 0) return status;
    memcpy(kve_block(session)->key, key, key_length);
    status = call(session, KVE_get, table, key_length, may_guess(view), 0, 0, failure);
    if (status != KV_OK) return status;
    *out = kve_block(session)->value;
    if (out->where == KV_WHERE_GUESS) /* the value comes from memory together with its key, not after it */
        session->api->prefetch(session->host, (uint32_t)out->fd, out->offset,
                               KV_RECORD_HEADER_BYTES + key_length + SMALL_VALUE);
    if (out->where != KV_WHERE_GUESS || settle_guess(session, table, key, key_length, out)) return KV_OK;
    status = call(session, KVE_get, table, key_length, view, 0, 0, failure);
    if (status == KV_OK) *out = kve_block(session)->value;
    return status;
}

/* What get_many could only guess: settled, or asked for one by one. */
static int settle_guesses(kve_session *session, uint32_t table, const uint8_t *keys, uint32_t count, uint32_t view,
                          kv_value_ref *refs, kve_failure *failure)
{
    enum { AHEAD = 16 };
    for (uint32_t i = 0; i < AHEAD && i < count; i++) kve_prefetch(session, &refs[i]);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t length;
        memcpy(&length, keys, sizeof length);
        if (i + AHEAD < count) kve_prefetch(session, &refs[i + AHEAD]);
        if (refs[i].where == KV_WHERE_GUESS &&
            !settle_guess(session, table, keys + sizeof length, length, &refs[i])) {
            memcpy(kve_block(session)->key, keys + sizeof length, length);
            int status = call(session, KVE_get, table, length, view, 0, 0, failure);
            if (status == KV_NOT_FOUND)
                refs[i].where = KV_WHERE_MISSING;
            else if (status != KV_OK)
                return status;
            else
                refs[i] = kve_block(session)->value;
        }
        keys += sizeof length + ((length + 3u) & ~3u);
    }
    return KV_OK;
}

int kve_get_many(kve_session *session, uint32_t table, const void *keys, uint32_t bytes, uint32_t count,
                 uint32_t view, const kv_value_ref **out, kve_failure *failure)
{
    if (bytes > KV_DATA_CAPACITY || count > KV_DATA_CAPACITY / sizeof(kv_value_ref)) return KV_INVALID;
    memcpy(kve_data(session), keys, bytes);
    int status = call(session, KVE_get_many, table, count, bytes, may_guess(view), 0, failure);
    kv_value_ref *refs = (kv_value_ref *)(void *)kve_data(session);
    *out = refs;
    return status == KV_OK ? settle_guesses(session, table, keys, count, view, refs, failure) : status;
}

int kve_count(kve_session *session, uint32_t table, uint32_t view, uint64_t *out, kve_failure *failure)
{
    int status = call(session, KVE_count, table, view, 0, 0, 0, failure);
    if (status == KV_OK) *out = kve_block(session)->count;
    return status;
}

int kve_apply(kve_session *session, const kve_write *write, kve_failure *failure)
{
    int status = check_key(write->key_length);
    if (status != 0) return status;
    if (write->value_length > KV_INLINE_MAX) return KV_VALUE_TOO_LARGE;
    session->changes++;
    kve_wrote(session, KV_RECORD_HEADER_BYTES + write->key_length + write->value_length);
    uint8_t *base = kve_base(session);
    memcpy(((kv_guest_block *)(void *)(base + session->block_address))->key, write->key, write->key_length);
    if (write->remove) return call(session, KVE_delete, write->table, write->key_length, write->flags, 0, 0, failure);
    if (write->value_length != 0) memcpy(base + session->data_address, write->value, write->value_length);
    return call(session, KVE_put, write->table, write->key_length, write->value_length, write->flags, 0, failure);
}

uint32_t kve_put_range(kve_session *session, const kve_range *range)
{
    kv_guest_block *block = kve_block(session);
    uint32_t flags = range->reverse ? KV_CURSOR_REVERSE : 0;
    if (range->start != NULL) {
        memcpy(block->key, range->start, range->start_length);
        flags |= KV_CURSOR_HAS_START;
    }
    if (range->stop != NULL) {
        memcpy(block->key2, range->stop, range->stop_length);
        flags |= KV_CURSOR_HAS_STOP;
    }
    return flags;
}

int kve_cursor_open(kve_session *session, uint32_t table, const kve_range *range, uint32_t view, uint32_t *handle,
                    kve_failure *failure)
{
    if (range->start_length > KV_KEY_MAX || range->stop_length > KV_KEY_MAX) return KV_KEY_TOO_LARGE;
    uint32_t flags = kve_put_range(session, range);
    kv_guest_block *block = kve_block(session);
    if (range->since != 0) {
        block->position = range->since;
        flags |= KV_CURSOR_SINCE;
    }
    int status =
        call(session, KVE_cursor_open, table, range->start_length, range->stop_length, view, flags, failure);
    if (status == KV_OK) *handle = kve_block(session)->handle;
    return status;
}

int kve_cursor_next(kve_session *session, uint32_t handle, uint32_t limit, uint32_t *count, kve_failure *failure)
{
    int status = call(session, KVE_cursor_next, handle, limit, 0, 0, 0, failure);
    uint64_t found = status == KV_OK ? kve_block(session)->count : 0;
    *count = found <= limit ? (uint32_t)found : 0;
    return found <= limit ? status : kve_break(session, "the engine gave more entries than were asked for");
}

int kve_cursor_count(kve_session *session, uint32_t handle, uint32_t leaves, uint64_t *count,
                     kve_failure *failure)
{
    int status = call(session, KVE_cursor_count, handle, leaves, 0, 0, 0, failure);
    *count = status == KV_OK ? kve_block(session)->count : 0;
    return status;
}

void kve_cursor_close(kve_session *session, uint32_t handle)
{
    (void)kve_call(session, KVE_cursor_close, handle, 0, 0, 0, 0);
}

const kv_entry *kve_entry_at(kve_session *session, uint32_t *offset, const uint8_t **key)
{
    const uint32_t left = KV_DATA_CAPACITY - *offset;
    const uint8_t *at = kve_data(session) + *offset;
    const kv_entry *entry = (const kv_entry *)(const void *)at;
    if (left < sizeof *entry || entry->key_length > KV_KEY_MAX || entry->next % 8 != 0 || entry->next > left ||
        entry->next < sizeof *entry + entry->key_length) {
        (void)kve_break(session, "the engine gave an entry that does not fit its buffer");
        return NULL;
    }
    *key = at + sizeof *entry;
    *offset += entry->next;
    return entry;
}

int kve_read(kve_session *session, const kv_value_ref *ref, void *to, kve_failure *failure)
{
    failure->position = ref->offset;
    failure->detail = KV_DETAIL_VALUE;
    if (ref->length == 0) return 0;
    if (ref->where == KV_WHERE_MEMORY) {
        uint64_t size = session->wasmtime->wasmtime_memory_data_size(session->context, &session->memory);
        if (ref->offset > size || ref->length > size - ref->offset)
            return kve_break(session, "the engine gave a value outside of its memory");
        memcpy(to, kve_base(session) + ref->offset, ref->length);
        return 0;
    }
    size_t got = 0;
    int error = session->api->read(session->host, (uint32_t)ref->fd, ref->offset, to, ref->length, &got);
    failure->os_error = error;
    if (error != 0) return KVE_HOST_IO;
    return got == ref->length ? 0 : KVE_SHORT;
}

int kve_verify(const kv_value_ref *ref, const void *value, kve_failure *failure)
{
    if (__builtin_expect(kv_value_sum(value, ref->length) == ref->sum, 1)) return 0;
    failure->position = ref->where == KV_WHERE_FILE ? ref->offset : 0;
    failure->detail = KV_DETAIL_VALUE;
    return KVE_CHECKSUM;
}
