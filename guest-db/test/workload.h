/* What the database tests share: a random history of commits, and the contents after each of them. */
#ifndef KV_TEST_WORKLOAD_H
#define KV_TEST_WORKLOAD_H

#include "db.h"
#include "test.h"

#define KEYS 48u /* keys "k0".. */
#define TABLES 3u /* key n is in table n % TABLES: the default one, and two named ones */
#define DATABASE "/db/test.kv"

/* A value is told by its number: length and bytes follow from it. 0: no such key. */
typedef struct contents {
    uint32_t values[KEYS];
} contents;

/* The contents after each commit; commit 0 is the beginning. */
typedef struct history {
    contents *after;
    uint32_t commits, capacity;
    uint32_t next_value;
    uint64_t random;
    bool large;  /* values above KV_INLINE_MAX as well */
    bool medium; /* half of the values take tens of kilobytes: sectors fill, and are collected */
} history;

void history_begin(history *h, uint64_t seed, bool large);
void history_free(history *h);

uint32_t value_length(uint32_t value);
void value_bytes(uint32_t value, uint8_t *to, uint32_t from, uint32_t length);

kv_db *open_database(uint32_t flags); /* must succeed; makes the tables of a new database */
/* The number of the table of a key, or KV_NOT_FOUND. */
kv_status find_table(kv_db *db, uint32_t key, uint32_t view, uint32_t *table);
kv_status try_open(uint32_t flags, kv_db **db); /* frees on failure */

void close_cleanly(kv_db *db); /* flush, mark, free */
kv_status compact_database(kv_db *db);

/* Make one random commit (a put, a delete, a transaction) and, with `sync`, flush it. `begun` is called with the
 * history grown, before anything can reach the disk. On failure the status is returned and a transaction rolled back. */
kv_status commit_random(kv_db *db, history *h, bool durable, void (*begun)(uint32_t commit));

#define NO_COMMIT UINT32_MAX
/* The number of the commit in [low, high] after which the contents are those of the database, or NO_COMMIT. Fails the test
 * when get, cursor and count disagree. */
uint32_t search_commit(kv_db *db, const history *h, uint32_t low, uint32_t high);
/* The same, but fails the test when there is none. */
uint32_t find_commit(kv_db *db, const history *h, uint32_t low, uint32_t high, const char *where);
extern uint64_t guesses_settled; /* by search_commit, from the hash */
void check_clean(kv_db *db, const char *where); /* the check finds nothing */

#endif
