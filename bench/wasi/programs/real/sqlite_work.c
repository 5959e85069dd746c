/* SQLite at file work: a rollback journal, many transactions, an index, updates, a vacuum. argv[1] is the
 * database, argv[2] the number of rows. Prints what it found, the same on every host. */
#include <stdio.h>
#include <stdlib.h>

#include "sqlite3.h"

static sqlite3 *database;

static void run(const char *sql)
{
    char *message = NULL;
    if (sqlite3_exec(database, sql, NULL, NULL, &message) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, message);
        exit(1);
    }
}

static void print_number(const char *sql)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(database, sql, -1, &statement, NULL) != SQLITE_OK ||
        sqlite3_step(statement) != SQLITE_ROW) {
        fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(database));
        exit(1);
    }
    printf("%s = %lld\n", sql, sqlite3_column_int64(statement, 0));
    sqlite3_finalize(statement);
}

static void insert(int rows)
{
    sqlite3_stmt *statement;
    sqlite3_prepare_v2(database, "INSERT INTO t VALUES (?, ?, ?)", -1, &statement, NULL);
    for (int i = 0; i < rows; i++) {
        char text[64];
        if (i % 500 == 0)
            run(i ? "COMMIT; BEGIN" : "BEGIN");
        snprintf(text, sizeof text, "row %d with some text that makes it longer", i * 7919 % rows);
        sqlite3_bind_int(statement, 1, i);
        sqlite3_bind_int64(statement, 2, (sqlite3_int64)i * 2654435761 % 1000003);
        sqlite3_bind_text(statement, 3, text, -1, SQLITE_TRANSIENT);
        if (sqlite3_step(statement) != SQLITE_DONE) {
            fprintf(stderr, "insert: %s\n", sqlite3_errmsg(database));
            exit(1);
        }
        sqlite3_reset(statement);
    }
    sqlite3_finalize(statement);
    run("COMMIT");
}

int main(int argc, char **argv)
{
    /* No host has POSIX locks for its guests. */
    if (argc < 3 ||
        sqlite3_open_v2(argv[1], &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix-none")) {
        fprintf(stderr, "open: %s\n", database ? sqlite3_errmsg(database) : "no memory");
        return 1;
    }
    run("PRAGMA synchronous = OFF; PRAGMA cache_size = 100; PRAGMA temp_store = MEMORY");
    run("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, text TEXT)");
    insert(atoi(argv[2]));
    run("CREATE INDEX by_n ON t (n)");
    print_number("SELECT count(*) FROM t WHERE n < 500000");
    run("UPDATE t SET text = text || ' and more' WHERE id % 3 = 0");
    run("DELETE FROM t WHERE n % 5 = 0");
    print_number("SELECT sum(length(text)) FROM t");
    print_number("SELECT sum(n * id % 1009) FROM t INDEXED BY by_n WHERE n BETWEEN 1000 AND 900000");
    run("VACUUM");
    print_number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'");
    print_number("SELECT page_count FROM pragma_page_count");
    sqlite3_close(database);
    return 0;
}
