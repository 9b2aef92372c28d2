/* sqlite DATABASE SQL: runs the statements and prints their rows, columns separated by tabs. */
#include <sqlite3.h>
#include <stdio.h>

static int print(void *unused, int columns, char **values, char **names)
{
    for (int i = 0; i < columns; i++)
        printf("%s%c", values[i] ? values[i] : "", i + 1 < columns ? '\t' : '\n');
    return 0;
}

int main(int argc, char **argv)
{
    sqlite3 *database;
    char *message = NULL;
    if (argc != 3) {
        fputs("usage: sqlite DATABASE SQL\n", stderr);
        return 2;
    }
    if (sqlite3_open(argv[1], &database) || sqlite3_exec(database, argv[2], print, NULL, &message)) {
        fprintf(stderr, "sqlite: %s\n", message ? message : sqlite3_errmsg(database));
        return 1;
    }
    return sqlite3_close(database);
}
