/* Power loss: every state that the disk may be in after a crash at any moment of a workload must open, hold the contents
 * after some commit between the last acknowledged and the last begun, and go on working; also when the power fails
 * again during recovery.
 *
 * The model: what a finished sync covers is there. Of the writes since, any subset may be, each whole or by 512-byte blocks; the
 * file may have its old size, or be longer with zeros or garbage where nothing was written. */
#include "disk.h"
#include "workload.h"

#define BLOCK 512u

typedef struct bounds {
    uint32_t acknowledged, begun;
} bounds;

static uint64_t states, violations, sectors_used_again;
static bool violations_wanted, syncs_ignored;

static void nothing(uint32_t commit) { (void)commit; }
static void mark_begun(uint32_t commit) { disk_trace_mark(2 * (uint64_t)commit); }

typedef struct image {
    uint8_t *bytes;
    size_t size, capacity;
} image;

static void image_write(image *im, uint64_t offset, const uint8_t *bytes, size_t length) {
    if (offset + length > im->capacity) {
        im->capacity = 2 * (size_t)(offset + length);
        im->bytes = realloc(im->bytes, im->capacity);
        CHECK(im->bytes != NULL);
    }
    if (offset > im->size) memset(im->bytes + im->size, 0, (size_t)offset - im->size);
    memcpy(im->bytes + offset, bytes, length);
    if (offset + length > im->size) im->size = (size_t)(offset + length);
}

/* Some of a write's blocks. */
static void image_write_torn(image *im, const disk_event *write, uint64_t *random) {
    for (uint64_t at = write->offset, end = write->offset + write->length; at < end;) {
        uint64_t next = (at / BLOCK + 1) * BLOCK < end ? (at / BLOCK + 1) * BLOCK : end;
        if (test_random(random) % 2) image_write(im, at, write->bytes + (at - write->offset), (size_t)(next - at));
        at = next;
    }
}

static void check_image(const image *im, const history *h, bounds b, int depth, uint64_t seed);

/* Which of the pending writes are there. */
typedef enum choice { NOTHING, EVERYTHING, SUBSET, TORN, CHOICES } choice;

/* Write the pending writes (events [from, to)) of one choice over the durable image. */
static void choose(image *im, const disk_trace *trace, size_t from, size_t to, choice which, uint64_t *random) {
    uint64_t end = im->size;
    size_t torn = to - 1 - (size_t)(test_random(random) % (to - from));
    for (size_t i = from; i < to; i++) {
        const disk_event *event = &trace->events[i];
        if (event->type != DISK_WRITE) continue;
        if (event->offset + event->length > end) end = event->offset + event->length;
        if (which == TORN && i >= torn)
            image_write_torn(im, event, random);
        else if (which == EVERYTHING || which == TORN || (which == SUBSET && test_random(random) % 2))
            image_write(im, event->offset, event->bytes, event->length);
    }
    if (end <= im->size || test_random(random) % 3 == 0) return;
    size_t filled = im->size; /* the size may be there before the data */
    image_write(im, end - 1, (const uint8_t *)"", 1);
    memset(im->bytes + filled, test_random(random) % 2 ? 0 : 0xA5, im->size - filled);
}

/* Crash after each event. Bounds, where given, replace those that the marks tell. */
static void crash_everywhere(const disk_trace *trace, const history *h, const bounds *given, int depth, uint64_t seed) {
    image durable = {NULL, 0, 0}, im = {NULL, 0, 0};
    image_write(&durable, 0, trace->base, trace->base_size);
    bounds b = given != NULL ? *given : (bounds){0, 0};
    size_t from = 0;
    for (size_t to = 0; to < trace->length; to++) {
        const disk_event *event = &trace->events[to];
        if (event->type == DISK_MARK) {
            if (given == NULL && event->mark % 2 == 0) b.begun = (uint32_t)(event->mark / 2);
            if (given == NULL && event->mark % 2 == 1) b.acknowledged = (uint32_t)(event->mark / 2);
            continue;
        }
        if (event->type == DISK_SYNC) {
            if (syncs_ignored) continue;
            for (size_t i = from; i < to; i++)
                if (trace->events[i].type == DISK_WRITE)
                    image_write(&durable, trace->events[i].offset, trace->events[i].bytes, trace->events[i].length);
            from = to + 1;
            continue;
        }
        for (int which = 0; which < CHOICES + 2; which++) {
            uint64_t random = (seed + 1) * 0x9E3779B97F4A7C15u + to * 31 + (uint64_t)which;
            im.size = 0;
            image_write(&im, 0, durable.bytes, durable.size);
            choose(&im, trace, from, to + 1, which < CHOICES ? (choice)which : (choice)(SUBSET + which % 2), &random);
            check_image(&im, h, b, depth, random);
            if (violations_wanted && violations > 0) break;
        }
    }
    free(durable.bytes);
    free(im.bytes);
}

static void fail(const char *what, bounds b, uint64_t seed) {
    violations++;
    if (violations_wanted) return;
    fprintf(stderr, "%s: commits [%u, %u], state %llu, seed %llu\n", what, b.acknowledged, b.begun,
            (unsigned long long)states, (unsigned long long)seed);
    exit(1);
}

static void check_image(const image *im, const history *h, bounds b, int depth, uint64_t seed) {
    states++;
    disk_reset();
    disk_put(DATABASE, im->bytes, im->size);
    disk_trace_begin(DATABASE);
    kv_db *db;
    kv_status status = try_open(0, &db);
    disk_trace recovery = disk_trace_take();
    if (status != KV_OK) {
        disk_trace_free(&recovery);
        fail("does not open", b, seed);
        return;
    }
    uint32_t found = search_commit(db, h, b.acknowledged, b.begun);
    if (found == NO_COMMIT) {
        kv_db_free(db);
        disk_trace_free(&recovery);
        fail("contents of no commit", b, seed);
        return;
    }
    check_clean(db, "after a crash");
    history next; /* it goes on working */
    history_begin(&next, seed | 1, false);
    next.after[0] = h->after[found];
    next.next_value = h->next_value;
    for (int i = 0; i < 2; i++) CHECK_EQUAL(commit_random(db, &next, true, nothing), KV_OK);
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    kv_db_free(db);
    db = open_database(0);
    find_commit(db, &next, next.commits, next.commits, "written after a crash");
    kv_db_free(db);
    history_free(&next);
    if (depth < 2 && recovery.length > 0 && (seed >> 20) % 8 == 0) {
        bounds now = {b.acknowledged, b.begun};
        crash_everywhere(&recovery, h, &now, depth + 1, seed);
    }
    disk_trace_free(&recovery);
}

/* `sync_every` commits one flush; 1: each commit is durable when acknowledged. */
static void run(uint64_t seed, uint32_t commits, uint32_t sync_every, bool large, bool medium) {
    disk_reset();
    history h;
    history_begin(&h, seed, large);
    h.medium = medium;
    kv_db *db = open_database(KV_OPEN_CREATE);
    while (medium && h.commits < 60) { /* sectors enough that the oldest are about to be used again */
        CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
        if (h.commits % 4 == 0) CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    if (medium) commits += h.commits;
    disk_trace_begin(DATABASE);
    disk_trace_mark(2 * (uint64_t)h.commits);
    disk_trace_mark(2 * (uint64_t)h.commits + 1);
    while (h.commits < commits) {
        CHECK_EQUAL(commit_random(db, &h, sync_every == 1, mark_begun), KV_OK);
        if (h.commits % sync_every != 0) continue;
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        disk_trace_mark(2 * (uint64_t)h.commits + 1);
    }
    CHECK_EQUAL(kv_db_flush(db), KV_OK);
    disk_trace_mark(2 * (uint64_t)h.commits + 1);
    kv_guest_stats_result stats;
    CHECK_EQUAL(kv_db_stats(db, &stats), KV_OK);
    sectors_used_again += stats.erase_max;
    close_cleanly(db);
    disk_trace trace = disk_trace_take();
    crash_everywhere(&trace, &h, NULL, 1, seed);
    disk_trace_free(&trace);
    history_free(&h);
}

static void test_synced_commits(void) {
    run(1, 10, 1, false, false);
}
static void test_commits_between_syncs(void) {
    run(3, 14, 7, false, false);
}
static void test_large_values(void) {
    run(5, 6, 1, true, false);
    run(6, 6, 4, true, false);
}

static void test_collection(void) {
    run(8, 5, 1, false, true);
    run(9, 6, 4, true, true);
    CHECK(sectors_used_again > 0);
}

static void test_a_disk_that_ignores_sync_is_caught(void) {
    violations_wanted = syncs_ignored = true;
    run(7, 30, 1, false, false);
    CHECK(violations > 0);
    violations_wanted = syncs_ignored = false;
    violations = 0;
}

int main(int count, char **arguments) {
    uint64_t seeds = count > 1 ? strtoull(arguments[1], NULL, 10) : 0;
    RUN(test_a_disk_that_ignores_sync_is_caught);
    RUN(test_synced_commits);
    RUN(test_commits_between_syncs);
    RUN(test_large_values);
    RUN(test_collection);
    for (uint64_t seed = 100; seed < 100 + seeds; seed++)
        run(seed, 80, 1 + (uint32_t)(seed % 3) * 4, seed % 4 == 0, seed % 4 >= 2);
    disk_reset();
    fprintf(stderr, "  %llu states, %llu violations\n", (unsigned long long)states, (unsigned long long)violations);
    return 0;
}
