/* Shows what a command gets from its host: argv[1] says which part. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static volatile int zero;

static int deep(volatile char *below)
{
    volatile char here[1024];
    here[0] = below[0];
    return here[0] ? 0 : deep(here) + here[0];
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "args")) {
        for (int i = 0; i < argc; i++)
            puts(argv[i]);
    } else if (!strcmp(what, "env")) {
        for (char **e = environ; *e; e++)
            puts(*e);
    } else if (!strcmp(what, "exit")) {
        exit(atoi(argv[2]));
    } else if (!strcmp(what, "abort")) {
        abort();
    } else if (!strcmp(what, "divide")) {
        zero = argc / zero;
    } else if (!strcmp(what, "overflow")) {
        volatile char start[1] = {0};
        return deep(start);
    } else if (!strcmp(what, "cat")) {
        char buffer[1000];
        for (ssize_t got; (got = read(0, buffer, sizeof buffer)) != 0;)
            if (got < 0 || write(1, buffer, (size_t)got) != got)
                return 1;
    } else if (!strcmp(what, "copy")) {
        FILE *from = fopen(argv[2], "rb");
        FILE *to = fopen(argv[3], "wb");
        if (!from || !to) {
            perror("copy");
            return 1;
        }
        for (int c; (c = getc(from)) != EOF;)
            putc(c, to);
        return fclose(from) || fclose(to);
    } else if (!strcmp(what, "tty")) {
        for (int fd = 0; fd < 3; fd++)
            printf("%d", isatty(fd));
        fflush(stdout);
    } else {
        fprintf(stderr, "unknown: %s\n", what);
        return 2;
    }
    return 0;
}
