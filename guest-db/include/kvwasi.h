/* kvwasi for C programs: the same engine, the same files, without Python or WebAssembly.
 *
 *     kvwasi *store;
 *     if (kvwasi_open("my.kv", KVWASI_CREATE, &store) == KV_OK) {
 *         kvwasi_put(store, 0, "greeting", 8, "hello", 5);   // on disk when it returns
 *         kvwasi_close(store);
 *     }
 *
 * Build with the sources of guest-db/src but exports.c, and guest-db/native/kvwasi.c; see guest-db/Makefile, `example`. Linux and macOS.
 *
 * One thread at a time may be inside the library, with any number of stores. A file is open in one process at a time to be
 * written, then in no other, or in several to be read (Python's kvwasi keeps to the same lock, `<path>-lock`; its readers may also be
 * beside its writer). Keys have 1..1024 bytes, values up to
 * 2^30. Tables are named by number: 0 is the store itself, kvwasi_table() finds the others. */
#ifndef KVWASI_H
#define KVWASI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kv_guest.h" /* kv_status, and limits */

typedef struct kvwasi kvwasi;

/* kvwasi_open */
#define KVWASI_READ_ONLY 1u /* changes nothing; other readers may have it open */
#define KVWASI_CREATE 2u    /* make the file if it is missing */
#define KVWASI_NO_SYNC 8u   /* commits are durable after kvwasi_sync() or kvwasi_close() only; whole or not at all they always are */

/* KV_BUSY: another process, or this one, has it open. On failure `*store` is NULL. */
kv_status kvwasi_open(const char *path, uint32_t flags, kvwasi **store);
/* Roll back an open transaction, make all commits durable and close. The store is gone, also when that fails. */
kv_status kvwasi_close(kvwasi *store);
/* What is wrong, in English; of KV_IO and KV_DISK_FULL kvwasi_errno() is the system's errno. */
const char *kvwasi_message(kv_status status);
int kvwasi_errno(const kvwasi *store);

/* The number of a named table; with `create` it is made, in the open transaction or in one of its own. KV_NO_SUCH_TABLE. */
kv_status kvwasi_table(kvwasi *store, const char *name, bool create, uint32_t *table);

/* In the open transaction, or a commit of its own, which is on disk when it returns. */
kv_status kvwasi_put(kvwasi *store, uint32_t table, const void *key, size_t key_length, const void *value, size_t value_length);
/* KV_NOT_FOUND */
kv_status kvwasi_delete(kvwasi *store, uint32_t table, const void *key, size_t key_length);
/* The value in memory of its own, with a zero byte behind it; to be given to free(). KV_NOT_FOUND, KV_CORRUPT. */
kv_status kvwasi_get(kvwasi *store, uint32_t table, const void *key, size_t key_length, void **value, size_t *value_length);
/* How many keys there are. */
kv_status kvwasi_count(kvwasi *store, uint32_t table, uint64_t *count);

/* One transaction at a time; it reads its own writes. After an error in it only a rollback is possible. */
kv_status kvwasi_begin(kvwasi *store);
kv_status kvwasi_commit(kvwasi *store);
kv_status kvwasi_rollback(kvwasi *store);

/* Called for each entry; what it is given is gone when it returns. False ends the walk. It must not write to the store. */
typedef bool kvwasi_visit(void *context, const void *key, size_t key_length, const void *value, size_t value_length);
/* The entries in the order of their keys, from `start` (NULL: the first) to below `stop` (NULL: the last). */
kv_status kvwasi_each(kvwasi *store, uint32_t table, const void *start, size_t start_length, const void *stop, size_t stop_length,
                      kvwasi_visit *visit, void *context);

/* Make all commits durable. */
kv_status kvwasi_sync(kvwasi *store);

#endif
