/* A failing disk: EIO and ENOSPC at every single operation of a workload, once and for good. The answer is a typed error; what was
 * acknowledged is there after reopening; a full disk changes nothing and work goes on once there is room. */
#include <errno.h>

#include "disk.h"
#include "workload.h"

static void nothing(uint32_t commit) { (void)commit; }

static bool is_fault(kv_status status) {
    return status == KV_IO || status == KV_DISK_FULL || status == KV_POISONED || status == KV_TRANSACTION_FAILED;
}

/* One workload with the n-th operation failing. False when it ended before. */
static bool run(uint64_t n, int error, bool sticky, bool reads) {
    disk_reset();
    history h;
    history_begin(&h, 21, true);
    kv_db *db = open_database(KV_OPEN_CREATE);
    uint32_t acknowledged = 0;
    disk_fail(n, error, sticky, reads);
    for (int i = 0; i < 25; i++) {
        kv_status status = commit_random(db, &h, true, nothing);
        if (status == KV_OK) status = kv_db_flush(db);
        if (status == KV_OK) {
            acknowledged = h.commits;
            continue;
        }
        CHECK(is_fault(status));
        if (status != KV_DISK_FULL) break;
        CHECK(!db->file->poisoned);
        /* nothing changed: the contents are as before, and with room the work goes on */
        find_commit(db, &h, acknowledged, acknowledged, "after a full disk");
        h.commits = acknowledged;
        if (sticky && i > 20) break;
        disk_heal();
        find_commit(db, &h, acknowledged, acknowledged, "with room again");
    }
    bool reached = disk_operations() > n;
    disk_heal();
    kv_db_free(db);
    db = open_database(0);
    find_commit(db, &h, acknowledged, h.commits, "reopened after a fault");
    check_clean(db, "after a fault");
    kv_db_free(db);
    history_free(&h);
    return reached;
}

static void everywhere(int error, bool sticky, bool reads) {
    uint64_t n = 0;
    while (run(n, error, sticky, reads)) n++;
    CHECK(n > 20);
}

static void test_eio(void) { everywhere(EIO, false, false); }
static void test_eio_for_good(void) { everywhere(EIO, true, false); }
static void test_full_disk(void) { everywhere(ENOSPC, false, false); }
static void test_full_disk_for_good(void) { everywhere(ENOSPC, true, false); }

/* Opening, with every operation failing in turn, leaves the database as it was. */
static void opening(int error, bool sticky, bool clean) {
    for (uint64_t n = 0;; n++) {
        disk_reset();
        history h;
        history_begin(&h, 22, true);
        kv_db *db = open_database(KV_OPEN_CREATE);
        for (int i = 0; i < 12; i++) CHECK_EQUAL(commit_random(db, &h, !clean, nothing), KV_OK);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        if (!clean) CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
        if (clean)
            close_cleanly(db);
        else
            kv_db_free(db);
        disk_fail(n, error, sticky, true);
        kv_status status = try_open(0, &db);
        bool reached = disk_operations() > n;
        CHECK(status == KV_OK || is_fault(status));
        if (status == KV_OK) kv_db_free(db);
        disk_heal();
        db = open_database(0);
        find_commit(db, &h, h.commits, h.commits, "opened after a failed opening");
        kv_db_free(db);
        history_free(&h);
        if (!reached) break;
    }
}

static void test_opening(void) {
    for (int clean = 0; clean < 2; clean++) {
        opening(EIO, false, clean);
        opening(EIO, true, clean);
        opening(ENOSPC, true, clean);
    }
}

static void compacting(int error, bool sticky) {
    for (uint64_t n = 0;; n++) {
        disk_reset();
        history h;
        history_begin(&h, 23, true);
        kv_db *db = open_database(KV_OPEN_CREATE);
        for (int i = 0; i < 20; i++) CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
        disk_fail(n, error, sticky, true);
        kv_status status = compact_database(db);
        CHECK(!db->compaction.open);
        bool reached = disk_operations() > n;
        disk_heal();
        CHECK(status == KV_OK || is_fault(status));
        if (!db->file->poisoned) {
            find_commit(db, &h, h.commits, h.commits, "after a failed compaction");
            CHECK_EQUAL(commit_random(db, &h, false, nothing), KV_OK);
            check_clean(db, "after a failed compaction");
        }
        kv_db_free(db);
        db = open_database(0);
        find_commit(db, &h, h.commits, h.commits, "reopened after a failed compaction");
        kv_db_free(db);
        history_free(&h);
        if (!reached) break;
    }
}

static void test_compacting(void) {
    compacting(EIO, false);
    compacting(EIO, true);
    compacting(ENOSPC, false);
}

/* Creation: the name stands for a whole database or for nothing. */
static void test_creating(void) {
    for (uint64_t n = 0;; n++) {
        disk_reset();
        disk_fail(n, n % 2 ? EIO : ENOSPC, true, true);
        kv_db *db;
        kv_status status = try_open(KV_OPEN_CREATE, &db);
        bool reached = disk_operations() > n;
        if (status == KV_OK) kv_db_free(db);
        CHECK(status == KV_OK || is_fault(status));
        disk_heal();
        kv_db_free(open_database(KV_OPEN_CREATE));
        if (!reached) break;
    }
}

/* A flush fails whose commit had begun a sector. The kernel calls its pages clean, and they never reach the device: recovery gives
 * the sector up, and has to write its header again, since the next checkpoint speaks of it. */
static void test_header_that_no_flush_has_covered(void) {
    static uint8_t value[40000];
    disk_reset();
    kv_db *db = open_database(KV_OPEN_CREATE);
    disk_trace_begin(DATABASE);
    kv_value_ref existing;
    uint64_t lost_sector = db->file->log.sector;
    for (uint32_t i = 0; db->file->log.sector == lost_sector; i++) {
        CHECK(i < 100);
        kv_key key = {(const uint8_t *)&i, sizeof i};
        kv_status status;
        disk_trace_mark(1); /* the last of these begins what is lost */
        while ((status = kv_db_put(db, 0, key, value, sizeof value, KV_DURABLE, &existing)) == KV_AGAIN) {}
        CHECK_EQUAL(status, KV_NEEDS_SYNC);
        if (db->file->log.sector != lost_sector) break;
        CHECK_EQUAL(kv_db_flush(db), KV_OK);
    }
    lost_sector = db->file->log.sector;
    disk_fail(0, EIO, false, false);
    CHECK_EQUAL(kv_db_flush(db), KV_IO);
    disk_heal();
    disk_trace_mark(2);
    kv_db_free(db);
    db = open_database(0);
    CHECK(db->file->log.sector != lost_sector);
    close_cleanly(db);

    disk_trace trace = disk_trace_take();
    size_t size = trace.base_size, from = 0, until = 0;
    for (size_t i = 0; i < trace.length; i++) {
        if (trace.events[i].type == DISK_WRITE && trace.events[i].offset + trace.events[i].length > size)
            size = trace.events[i].offset + trace.events[i].length;
        if (trace.events[i].type == DISK_MARK) *(trace.events[i].mark == 1 ? &from : &until) = i;
    }
    CHECK(from < until);
    uint8_t *left = calloc(1, size); /* on the device after a power cut */
    memcpy(left, trace.base, trace.base_size);
    for (size_t i = 0; i < trace.length; i++) {
        const disk_event *e = &trace.events[i];
        if (e->type == DISK_WRITE && (i < from || i > until)) memcpy(left + e->offset, e->bytes, e->length);
    }
    disk_put(DATABASE, left, size);
    free(left);
    disk_trace_free(&trace);
    db = open_database(0);
    check_clean(db, "after a power cut that followed a failed flush");
    kv_db_free(db);
}

int main(void) {
    RUN(test_creating);
    RUN(test_opening);
    RUN(test_compacting);
    RUN(test_header_that_no_flush_has_covered);
    RUN(test_eio);
    RUN(test_eio_for_good);
    RUN(test_full_disk);
    RUN(test_full_disk_for_good);
    disk_reset();
    return 0;
}
