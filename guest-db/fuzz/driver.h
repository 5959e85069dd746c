/* What the fuzz targets share: their loop where there is no libFuzzer. */
#ifndef KV_FUZZ_DRIVER_H
#define KV_FUZZ_DRIVER_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#ifndef KV_LIBFUZZER
#define HANG_SECONDS 20u /* a hang is a finding */

static volatile uint64_t seed_now;
static void report_hang(int signal_number) {
    (void)signal_number;
    fprintf(stderr, "hangs at seed %llu\n", (unsigned long long)seed_now); /* not signal-safe, but the last thing done */
    _exit(1);
}

/* Sanitizers call this before they end the program, a failed check exits. */
void __asan_on_error(void);
void __asan_on_error(void) { fprintf(stderr, "at seed %llu\n", (unsigned long long)seed_now); }

static bool over;
static void report_end(void) {
    if (!over) __asan_on_error();
}

/* `inputs(seed, &random)` makes and runs inputs; how many. Arguments: SECONDS [SEED [ONE]], the last to repeat one seed. */
static int fuzz(int count, char **arguments, uint64_t (*inputs)(uint64_t seed, uint64_t *random)) {
    double seconds = count > 1 ? atof(arguments[1]) : 5;
    uint64_t seed = count > 2 ? strtoull(arguments[2], NULL, 10) : 1, runs = 0;
    signal(SIGALRM, report_hang);
    atexit(report_end);
    time_t end = time(NULL) + (time_t)seconds;
    for (bool one = count > 3, first = true; first || (!one && time(NULL) < end); seed++, first = false) {
        uint64_t random = seed * 0x9E3779B97F4A7C15u | 1;
        seed_now = seed;
        if (first || seed % 64 == 0) fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        runs += inputs(seed, &random);
    }
    alarm(0);
    over = true;
    fprintf(stderr, "\r%llu inputs, no finding\n", (unsigned long long)runs);
    return 0;
}
#endif

#endif
