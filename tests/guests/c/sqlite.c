// SQLite, whose source is compiled in, in a directory that two processes write to.
//
//     sandpool run --dir DIR:/data sqlite.wasm -- ROWS

#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include "sqlite3.h"
#include "sandpool.h"

SANDPOOL_GUEST

static int rows;

static sqlite3 *opened(void) {
    sqlite3 *db;
    // WASI has no locks of files. SQLite has a way to do without: a directory beside the file.
    if (sqlite3_open_v2("/data/numbers.db", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "unix-dotfile") != SQLITE_OK) {
        fprintf(stderr, "cannot open: %s\n", sqlite3_errmsg(db));
        exit(1);
    }
    sqlite3_busy_timeout(db, 60000);
    return db;
}

static void run(sqlite3 *db, const char *sql) {
    char *error;
    if (sqlite3_exec(db, sql, 0, 0, &error) != SQLITE_OK) {
        fprintf(stderr, "%s: %s\n", sql, error);
        exit(1);
    }
}

static int insert(void *argument) {
    int first = *(int *)argument;
    sqlite3 *db = opened();
    for (int at = 0; at < rows; at++) {
        char sql[100];
        snprintf(sql, sizeof sql, "BEGIN IMMEDIATE; INSERT INTO numbers VALUES (%d); COMMIT", first + at);
        run(db, sql);
    }
    return sqlite3_close(db);
}

static int print(void *nothing, int columns, char **values, char **names) {
    (void)nothing, (void)names;
    for (int at = 0; at < columns; at++) {
        printf("%s%s", at ? " " : "", values[at]);
    }
    printf("\n");
    return 0;
}

int main(int argc, char **argv) {
    rows = argc > 1 ? atoi(argv[1]) : 100;
    sqlite3 *db = opened();
    run(db, "CREATE TABLE numbers (number INTEGER PRIMARY KEY)");
    sqlite3_close(db);
    uint64_t children[2];
    for (int at = 0; at < 2; at++) {
        int first = at * rows;
        int64_t child = sandpool_fork(insert, &first);
        if (child < 0) {
            fprintf(stderr, "cannot fork: %s\n", sandpool_strerror(child));
            return 1;
        }
        children[at] = (uint64_t)child;
    }
    for (int at = 0; at < 2; at++) {
        struct sandpool_status status;
        if (sandpool_join(children[at], &status) != 0 || status.exitcode != 0) {
            return 1;
        }
    }
    db = opened();
    char *error;
    sqlite3_exec(db, "SELECT count(*), sum(number) FROM numbers; PRAGMA integrity_check; SELECT json_extract('{\"a\":[1,2.5]}', '$.a[1]')", print, 0, &error);
    return sqlite3_close(db);
}
