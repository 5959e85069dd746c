/* Readers beside a writer, all of them on one simulated disk: whatever the writer does, is killed and opened again, a reader shows one
 * commit, the same until it is refreshed, then the newest; and nothing stays kept for those that are gone. The test is the host: it
 * knows on which superblock each reader stands. */
#include "disk.h"
#include "replay.h"
#include "workload.h"

#define READERS 4u

typedef struct reader {
    kv_db *db;
    uint64_t stands; /* on this superblock */
    uint32_t commit; /* that it shows */
} reader;

static reader readers[READERS];
static history h;
static uint64_t seeds = 8;
static kv_db *writer;
static uint32_t kept_most, followed, reopened, quarantined, overflowed;

static bool stands(uint64_t first, uint64_t last) {
    for (uint32_t i = 0; i < READERS; i++)
        if (readers[i].db != NULL && readers[i].stands >= first && readers[i].stands <= last) return true;
    return false;
}

/* As a host does after a flush. */
static void ask(void) {
    for (uint32_t i = writer->held_count; i-- > 0;) {
        kv_held held = writer->held[i];
        if (!stands(held.first, held.last)) CHECK_EQUAL(kv_readers_release(writer, held.first), KV_OK);
    }
    if (writer->held_count > kept_most) kept_most = writer->held_count;
    overflowed += writer->nodes->catch_all != KV_NO_PIN;
}

static void open_writer(void) {
    kv_open_options options = {.path = DATABASE, .random_seed = test_random(&h.random), .cache_bytes = KV_CACHE_MIN};
    CHECK_EQUAL(kv_db_open_begin(&options, &writer), KV_OK);
    writer->shared = true;
    writer->readers = stands(0, UINT64_MAX);
    writer->older_readers = stands(0, writer->file->super.sequence - 1);
    quarantined += writer->older_readers;
    CHECK_EQUAL(kv_db_open_finish(writer), KV_OK);
    find_commit(writer, &h, h.commits, h.commits, "writer opened");
}

static uint32_t shown; /* while a writer does something: the commit that a reader shows at least */

static void open_reader(reader *r) {
    kv_open_options options = {.path = DATABASE, .flags = KV_OPEN_READ_ONLY, .cache_bytes = KV_CACHE_MIN};
    CHECK_EQUAL(kv_db_open_begin(&options, &r->db), KV_OK);
    r->stands = r->db->file->super.sequence;
    CHECK_EQUAL(kv_db_open_finish(r->db), KV_OK);
    kv_status status = kv_follow_settle(r->db);
    if (status == KV_EXISTS) {
        kv_db_free(r->db);
        open_reader(r);
        return;
    }
    CHECK_EQUAL(status, KV_OK);
    r->commit = find_commit(r->db, &h, shown != 0 ? shown : h.commits, h.commits, "reader opened");
}

static void close_reader(reader *r) {
    kv_db_free(r->db);
    *r = (reader){NULL, 0, 0};
}

static void refresh(reader *r) {
    uint64_t commits;
    kv_status status;
    while ((status = kv_follow_step(r->db, &commits)) == KV_AGAIN) {}
    if (status == KV_EXISTS) {
        close_reader(r);
        open_reader(r);
        reopened++;
        return;
    }
    CHECK_EQUAL(status, KV_OK);
    r->commit = find_commit(r->db, &h, shown != 0 ? shown : h.commits, h.commits, "followed");
    followed++;
}

static void begun(uint32_t commit) { (void)commit; }

static void commit_some(uint64_t *random) {
    for (uint64_t n = test_random(random) % 16; n > 0; n--) {
        kv_status status = commit_random(writer, &h, test_random(random) % 3 == 0, begun);
        CHECK(status == KV_OK || status == KV_DISK_FULL);
        ask();
    }
}

static void step(uint64_t *random) {
    reader *r = &readers[test_random(random) % READERS];
    switch (test_random(random) % 16) {
    case 0:
    case 1:
    case 2:
        if (r->db == NULL) open_reader(r);
        break;
    case 3:
        if (r->db != NULL) close_reader(r);
        break;
    case 4:
    case 5:
    case 6:
        if (r->db != NULL) refresh(r);
        break;
    case 7:
        if (r->db != NULL) find_commit(r->db, &h, r->commit, r->commit, "reader");
        break;
    case 8:
        if (r->db != NULL) check_clean(r->db, "reader");
        break;
    case 9:
        if (test_random(random) % 3 != 0) break;
        if (test_random(random) % 2 == 0)
            close_cleanly(writer);
        else
            kv_db_free(writer); /* killed */
        open_writer();
        break;
    case 10:
        CHECK_EQUAL(kv_db_flush(writer), KV_OK);
        ask();
        break;
    default: commit_some(random);
    }
}

static void history_of(uint64_t seed, bool large, uint32_t steps) {
    uint64_t random = seed;
    disk_reset();
    history_begin(&h, seed, large);
    h.medium = true;
    close_cleanly(open_database(KV_OPEN_CREATE));
    open_writer();
    for (uint32_t n = 0; n < steps; n++) {
        step(&random);
        for (uint32_t i = 0; i < READERS && n % 10 == 0; i++)
            if (readers[i].db != NULL) find_commit(readers[i].db, &h, readers[i].commit, readers[i].commit, "meanwhile");
    }
    for (uint32_t i = 0; i < READERS; i++)
        if (readers[i].db != NULL) close_reader(&readers[i]);
    for (int n = 0; n < 3; n++) {
        CHECK_EQUAL(kv_db_flush(writer), KV_OK);
        ask();
    }
    CHECK_EQUAL(writer->held_count, 0);
    check_clean(writer, "at the end");
    close_cleanly(writer);
    history_free(&h);
}

static void test_histories(void) {
    for (uint64_t seed = 1; seed <= seeds; seed++) history_of(seed * 7919, seed % 3 == 0, 500);
    fprintf(stderr, "    followed %u times, reopened %u times, at most %u checkpoints kept, %u times everything\n", followed, reopened,
            kept_most, quarantined);
    CHECK(followed > 100 && reopened > 20 && kept_most == KV_HELD_MAX && quarantined > 2 && overflowed > 0);
}

/* What a writer does between any two reads of a reader that opens the file, or follows the log: the reader shows all that there was
 * before, and nothing by halves. */
/* One was killed with a long tail that nothing proves, and the next one recovers that. */
static void recover(void) { open_writer(); }

/* Commits, each of them proven by the next. */
static void go_on(void) {
    for (int i = 0; i < 25; i++) {
        CHECK_EQUAL(commit_random(writer, &h, true, begun), KV_OK);
        CHECK_EQUAL(kv_db_flush(writer), KV_OK);
    }
}

static void long_tail(reader *early, bool killed) {
    disk_reset();
    shown = 0;
    history_begin(&h, 5, false);
    h.medium = true;
    close_cleanly(open_database(KV_OPEN_CREATE));
    open_writer();
    for (int i = 0; i < 5; i++) CHECK_EQUAL(commit_random(writer, &h, false, begun), KV_OK);
    open_reader(early);
    while (h.commits < 70) CHECK_EQUAL(commit_random(writer, &h, false, begun), KV_OK);
    CHECK(writer->file->sector_count > 6);
    shown = h.commits;
    if (!killed) return;
    kv_db_free(writer);
    writer = NULL;
}

static void meanwhile(void (*what)(void), bool follows) {
    uint64_t tried = 0, stride = seeds > 8 ? 1 : 3;
    for (bool called = true; called; tried += stride) {
        reader *r = &readers[0];
        long_tail(r, what == recover);
        if (!follows) close_reader(r);
        disk_before_read(tried, what);
        if (follows) refresh(r); else open_reader(r);
        called = disk_has_called();
        disk_before_read(0, NULL);
        find_commit(r->db, &h, shown, h.commits, "meanwhile");
        close_reader(r);
        if (writer != NULL) kv_db_free(writer);
        writer = NULL;
        history_free(&h);
    }
    fprintf(stderr, "    %llu moments\n", (unsigned long long)tried);
    CHECK(tried > 20);
    shown = 0;
}

static void test_recovery_while_a_reader_opens(void) { meanwhile(recover, false); }
static void test_recovery_while_a_reader_follows(void) { meanwhile(recover, true); }
static void test_commits_while_a_reader_opens(void) { meanwhile(go_on, false); }
static void test_commits_while_a_reader_follows(void) { meanwhile(go_on, true); }

int main(int count, char **arguments) {
    if (count > 1) seeds = strtoull(arguments[1], NULL, 10);
    fprintf(stderr, "test_readers\n");
    RUN(test_histories);
    RUN(test_recovery_while_a_reader_opens);
    RUN(test_recovery_while_a_reader_follows);
    RUN(test_commits_while_a_reader_opens);
    RUN(test_commits_while_a_reader_follows);
    return 0;
}
