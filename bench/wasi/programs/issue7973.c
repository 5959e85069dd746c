/* The case of wasmtime's issue 7973: many seeks and small writes to one file, opened anew and flushed each
 * round. argv[1] is the file; argv[2], when "nosync", leaves the flush out; argv[3] is the number of
 * rounds, 999 in the issue. Prints the seconds that it spent in fsync. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WRITES 1000
#define MESSAGE "hello, world\n"

static int fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    return 1;
}

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    int flush = argc < 3 || strcmp(argv[2], "nosync") != 0;
    int rounds = argc < 4 ? 999 : atoi(argv[3]);
    double flushing = 0;
    for (int i = 1; i <= rounds; i++) {
        int fd = open(argv[1], O_CREAT | O_WRONLY, 0666);
        if (fd < 0)
            return fail("open");
        for (int j = 0; j < WRITES; j++) {
            if (lseek(fd, 10 * i + 13 * j, SEEK_SET) < 0)
                return fail("lseek");
            if (write(fd, MESSAGE, 13) != 13)
                return fail("write");
        }
        double start = flush ? now() : 0;
        if (flush && fsync(fd) < 0)
            return fail("fsync");
        flushing += flush ? now() - start : 0;
        if (close(fd) < 0)
            return fail("close");
    }
    printf("%.6f\n", flushing);
    return 0;
}
