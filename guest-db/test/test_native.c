/* The library for C programs on a real file system. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvwasi.h"
#include "test.h"

static char directory[64], path[96];

static kvwasi *open_store(uint32_t flags) {
    kvwasi *store;
    CHECK_EQUAL(kvwasi_open(path, flags, &store), KV_OK);
    return store;
}

static void put(kvwasi *store, uint32_t table, const char *key, const char *value) {
    CHECK_EQUAL(kvwasi_put(store, table, key, strlen(key), value, strlen(value)), KV_OK);
}

/* NULL: the key is not there. */
static void expect(kvwasi *store, uint32_t table, const char *key, const char *expected) {
    void *value;
    size_t length;
    kv_status status = kvwasi_get(store, table, key, strlen(key), &value, &length);
    CHECK_EQUAL(status, expected == NULL ? KV_NOT_FOUND : KV_OK);
    if (expected != NULL) CHECK(length == strlen(expected) && strcmp(value, expected) == 0);
    free(value);
}

static void test_entries(void) {
    kvwasi *store = open_store(KVWASI_CREATE);
    put(store, 0, "one", "1");
    put(store, 0, "two", "");
    expect(store, 0, "one", "1");
    expect(store, 0, "two", "");
    expect(store, 0, "three", NULL);
    CHECK_EQUAL(kvwasi_delete(store, 0, "one", 3), KV_OK);
    CHECK_EQUAL(kvwasi_delete(store, 0, "one", 3), KV_NOT_FOUND);
    uint64_t count;
    CHECK_EQUAL(kvwasi_count(store, 0, &count), KV_OK);
    CHECK_EQUAL(count, 1);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
    store = open_store(KVWASI_READ_ONLY);
    expect(store, 0, "two", "");
    CHECK_EQUAL(kvwasi_put(store, 0, "k", 1, "v", 1), KV_READ_ONLY);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
}

static void test_transactions_and_tables(void) {
    kvwasi *store = open_store(KVWASI_CREATE);
    uint32_t table;
    CHECK_EQUAL(kvwasi_table(store, "t", false, &table), KV_NO_SUCH_TABLE);
    CHECK_EQUAL(kvwasi_begin(store), KV_OK);
    CHECK_EQUAL(kvwasi_begin(store), KV_BUSY);
    CHECK_EQUAL(kvwasi_table(store, "t", true, &table), KV_OK);
    put(store, table, "k", "of t");
    put(store, 0, "k", "of the store");
    expect(store, table, "k", "of t");
    CHECK_EQUAL(kvwasi_rollback(store), KV_OK);
    expect(store, 0, "k", NULL);
    CHECK_EQUAL(kvwasi_table(store, "t", false, &table), KV_NO_SUCH_TABLE);
    CHECK_EQUAL(kvwasi_commit(store), KV_NO_TRANSACTION);
    CHECK_EQUAL(kvwasi_table(store, "t", true, &table), KV_OK);
    put(store, table, "k", "of t");
    CHECK_EQUAL(kvwasi_begin(store), KV_OK);
    put(store, 0, "left", "open"); /* rolled back by the close */
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
    store = open_store(0);
    CHECK_EQUAL(kvwasi_table(store, "t", false, &table), KV_OK);
    expect(store, table, "k", "of t");
    expect(store, 0, "left", NULL);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
}

enum { LARGE = 3 * (1 << 20) + 17 };

static void test_large_values(void) {
    uint8_t *value = malloc(LARGE);
    CHECK(value != NULL);
    uint64_t random = 5;
    for (size_t i = 0; i < LARGE; i++) value[i] = (uint8_t)test_random(&random);
    for (int no_sync = 0; no_sync < 2; no_sync++) {
        kvwasi *store = open_store(KVWASI_CREATE | (no_sync ? KVWASI_NO_SYNC : 0));
        CHECK_EQUAL(kvwasi_put(store, 0, "large", 5, value, LARGE), KV_OK);
        CHECK_EQUAL(kvwasi_begin(store), KV_OK);
        CHECK_EQUAL(kvwasi_put(store, 0, "other", 5, value, KV_INLINE_MAX + 1), KV_OK);
        CHECK_EQUAL(kvwasi_commit(store), KV_OK);
        CHECK_EQUAL(kvwasi_sync(store), KV_OK);
        CHECK_EQUAL(kvwasi_close(store), KV_OK);
        store = open_store(KVWASI_READ_ONLY);
        void *read;
        size_t length;
        CHECK_EQUAL(kvwasi_get(store, 0, "large", 5, &read, &length), KV_OK);
        CHECK(length == LARGE && memcmp(read, value, LARGE) == 0);
        free(read);
        CHECK_EQUAL(kvwasi_get(store, 0, "other", 5, &read, &length), KV_OK);
        CHECK(length == KV_INLINE_MAX + 1 && memcmp(read, value, length) == 0);
        free(read);
        CHECK_EQUAL(kvwasi_close(store), KV_OK);
    }
    free(value);
}

typedef struct visited {
    int next, step, left;
} visited;

static bool in_order(void *context, const void *key, size_t key_length, const void *value, size_t value_length) {
    visited *v = context;
    char expected[16];
    int length = snprintf(expected, sizeof expected, "%06d", v->next);
    CHECK(key_length == (size_t)length && memcmp(key, expected, key_length) == 0);
    CHECK(value_length == (size_t)v->next % 50 && (value_length == 0 || *(const char *)value == 'v'));
    v->next += v->step;
    return --v->left > 0;
}

static void test_ranges(void) {
    kvwasi *store = open_store(KVWASI_CREATE | KVWASI_NO_SYNC);
    char key[16], value[64];
    memset(value, 'v', sizeof value);
    CHECK_EQUAL(kvwasi_begin(store), KV_OK);
    for (int i = 0; i < 20000; i += 2) {
        int length = snprintf(key, sizeof key, "%06d", i);
        CHECK_EQUAL(kvwasi_put(store, 0, key, (size_t)length, value, (size_t)i % 50), KV_OK);
    }
    visited all = {0, 2, 1 << 30};
    CHECK_EQUAL(kvwasi_each(store, 0, NULL, 0, NULL, 0, in_order, &all), KV_OK); /* its own writes */
    CHECK_EQUAL(all.next, 20000);
    CHECK_EQUAL(kvwasi_commit(store), KV_OK);
    visited some = {1002, 2, 1 << 30};
    CHECK_EQUAL(kvwasi_each(store, 0, "001001", 6, "009000", 6, in_order, &some), KV_OK);
    CHECK_EQUAL(some.next, 9000);
    visited few = {0, 2, 3};
    CHECK_EQUAL(kvwasi_each(store, 0, NULL, 0, NULL, 0, in_order, &few), KV_OK);
    CHECK_EQUAL(few.next, 6);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
}

static void test_wrong_arguments(void) {
    kvwasi *store;
    CHECK_EQUAL(kvwasi_open(path, 0, &store), KV_NO_SUCH_FILE);
    CHECK(store == NULL);
    CHECK_EQUAL(kvwasi_open(path, KVWASI_READ_ONLY, &store), KV_NO_SUCH_FILE);
    CHECK_EQUAL(kvwasi_open(path, 64, &store), KV_INVALID);
    CHECK_EQUAL(kvwasi_open("/nowhere/at/all", KVWASI_CREATE, &store), KV_NO_SUCH_FILE);
    store = open_store(KVWASI_CREATE);
    static uint8_t long_key[KV_KEY_MAX + 1];
    CHECK_EQUAL(kvwasi_put(store, 0, long_key, 0, "v", 1), KV_KEY_EMPTY);
    CHECK_EQUAL(kvwasi_put(store, 0, long_key, sizeof long_key, "v", 1), KV_KEY_TOO_LARGE);
    CHECK_EQUAL(kvwasi_put(store, 0, "k", 1, "v", (size_t)KV_VALUE_MAX + 1), KV_VALUE_TOO_LARGE);
    CHECK_EQUAL(kvwasi_put(store, 99, "k", 1, "v", 1), KV_NO_SUCH_TABLE);
    void *value;
    size_t length;
    CHECK_EQUAL(kvwasi_get(store, 0, long_key, sizeof long_key, &value, &length), KV_KEY_TOO_LARGE);
    CHECK_EQUAL(kvwasi_delete(store, 0, long_key, 0), KV_KEY_EMPTY);
    CHECK_EQUAL(kvwasi_rollback(store), KV_NO_TRANSACTION);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
    int fd = open(path, O_WRONLY | O_TRUNC);
    CHECK(fd >= 0 && write(fd, "junk", 4) == 4 && close(fd) == 0);
    CHECK_EQUAL(kvwasi_open(path, 0, &store), KV_NOT_A_DATABASE);
    for (int status = 0; status <= KV_NO_SUCH_TABLE; status++) CHECK(strlen(kvwasi_message((kv_status)status)) > 3);
}

static void test_one_writer(void) {
    kvwasi *store = open_store(KVWASI_CREATE), *other;
    CHECK_EQUAL(kvwasi_open(path, 0, &other), KV_BUSY);
    CHECK_EQUAL(kvwasi_open(path, KVWASI_READ_ONLY, &other), KV_BUSY);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
    store = open_store(KVWASI_READ_ONLY);
    other = open_store(KVWASI_READ_ONLY);
    CHECK_EQUAL(kvwasi_close(other), KV_OK);
    CHECK_EQUAL(kvwasi_open(path, 0, &other), KV_BUSY);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
}

/* A process that is killed has lost nothing that was acknowledged, and leaves no lock. */
static void test_killed(void) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        kvwasi *store = open_store(KVWASI_CREATE);
        put(store, 0, "acknowledged", "yes");
        CHECK_EQUAL(kvwasi_begin(store), KV_OK);
        put(store, 0, "not yet", "no");
        (void)raise(SIGKILL);
    }
    int how;
    CHECK(waitpid(child, &how, 0) == child && WIFSIGNALED(how));
    kvwasi *store = open_store(0);
    expect(store, 0, "acknowledged", "yes");
    expect(store, 0, "not yet", NULL);
    CHECK_EQUAL(kvwasi_close(store), KV_OK);
}

static void remove_files(void) {
    char lock[128];
    (void)unlink(path);
    (void)snprintf(lock, sizeof lock, "%s-lock", path);
    (void)unlink(lock);
}

int main(void) {
    (void)snprintf(directory, sizeof directory, "/tmp/kvwasi-native-XXXXXX");
    CHECK(mkdtemp(directory) != NULL);
    (void)snprintf(path, sizeof path, "%s/my.kv", directory);
    void (*tests[])(void) = {test_entries,         test_transactions_and_tables, test_large_values, test_ranges,
                             test_wrong_arguments, test_one_writer,              test_killed};
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++) {
        tests[i]();
        remove_files();
    }
    CHECK(rmdir(directory) == 0);
    return 0;
}
