/* A day in the life of a SQLite database: tables, indexes, transactions, queries, vacuum.
 *
 *     sqlite_work FILE ROWS TRANSACTIONS full|off
 *
 * What it prints depends on its arguments alone. The journal is a rollback journal, the VFS the one that takes no locks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sqlite3.h"

static sqlite3 *db;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
    exit(1);
}

static int print_row(void *unused, int columns, char **values, char **names) {
    (void)unused;
    (void)names;
    for (int i = 0; i < columns; i++)
        printf("%s%s", i ? "|" : "", values[i] ? values[i] : "null");
    putchar('\n');
    return 0;
}

static void run(const char *sql) {
    if (sqlite3_exec(db, sql, print_row, NULL, NULL) != SQLITE_OK)
        fail(sql);
}

static unsigned long long seed = 1;

static unsigned next_random(void) { /* splitmix64 */
    unsigned long long z = seed += 0x9E3779B97F4A7C15ULL;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return (unsigned)((z ^ (z >> 31)) >> 32);
}

static void insert_rows(int from, int to) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, "insert into item values (?, ?, ?, ?)", -1, &statement, NULL) != SQLITE_OK)
        fail("prepare");
    for (int i = from; i < to; i++) {
        char name[32];
        unsigned char blob[400];
        unsigned size = next_random() % sizeof blob;
        for (unsigned k = 0; k < size; k++)
            blob[k] = (unsigned char)next_random();
        snprintf(name, sizeof name, "name-%08x", next_random());
        sqlite3_bind_int(statement, 1, i);
        sqlite3_bind_text(statement, 2, name, -1, SQLITE_TRANSIENT);
        sqlite3_bind_double(statement, 3, next_random() / 1024.0);
        sqlite3_bind_blob(statement, 4, blob, (int)size, SQLITE_TRANSIENT);
        if (sqlite3_step(statement) != SQLITE_DONE)
            fail("insert");
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
}

static void point_queries(int rows, int count) {
    sqlite3_stmt *statement;
    long long bytes = 0;
    if (sqlite3_prepare_v2(db, "select name, content from item where id = ?", -1, &statement, NULL) != SQLITE_OK)
        fail("prepare");
    for (int i = 0; i < count; i++) {
        sqlite3_bind_int(statement, 1, (int)(next_random() % (unsigned)rows));
        while (sqlite3_step(statement) == SQLITE_ROW)
            bytes += sqlite3_column_bytes(statement, 0) + sqlite3_column_bytes(statement, 1);
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    printf("point queries: %lld bytes\n", bytes);
}

static void small_transactions(int rows, int count) {
    char sql[200];
    for (int i = 0; i < count; i++) {
        run("begin");
        snprintf(sql, sizeof sql, "update item set price = price + 1 where id = %d", (int)(next_random() % (unsigned)rows));
        run(sql);
        snprintf(sql, sizeof sql, "insert into event values (%d, 'update %d')", i, i);
        run(sql);
        run(i % 10 == 9 ? "rollback" : "commit");
    }
}

int main(int argc, char **argv) {
    if (argc != 5)
        return 2;
    int rows = atoi(argv[2]), transactions = atoi(argv[3]);
    if (sqlite3_open_v2(argv[1], &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix-none") != SQLITE_OK)
        fail(argv[1]);
    printf("sqlite %s\n", sqlite3_libversion());
    run("pragma journal_mode = delete; pragma cache_size = 200");
    run(strcmp(argv[4], "full") == 0 ? "pragma synchronous = full" : "pragma synchronous = off");
    run("create table item (id integer primary key, name text, price real, content blob);"
        "create table event (id integer primary key, what text)");
    for (int i = 0; i < 10; i++) {
        run("begin");
        insert_rows(rows / 10 * i, rows / 10 * (i + 1));
        run("commit");
    }
    run("create index item_name on item (name)");
    small_transactions(rows, transactions);
    point_queries(rows, rows);
    run("select count(*), sum(length(content)), round(sum(price), 2), min(name), max(name) from item;"
        "select id, name from item where name between 'name-40' and 'name-4008' order by name;"
        "select substr(name, 6, 1) as k, count(*), round(avg(price), 3) from item group by k order by k;"
        "select count(*) from event; select count(*) from item a join event b on a.id = b.id");
    run("delete from item where id % 3 = 0; vacuum; pragma integrity_check; pragma page_count");
    if (sqlite3_close(db) != SQLITE_OK)
        fail("close");
    return 0;
}
