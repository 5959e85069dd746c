/* Which way of calling the OS is the faster one on this machine.
 *
 * A processor predicts where a `ret` goes from a stack of its own, and in the kernel that is overwritten. The
 * guest is some ten frames above a host call, so ten returns are mispredicted after each system call. On the
 * virtual machines that this was measured on the first of them takes 145 ns, a third of a small pread, and
 * each further one 6 ns; once addresses of our own fill the stack, the first one takes no longer than the
 * others. Where the kernel leaves the stack as it was, filling it would be a loss: so it is measured. */
#include "os.h"

#include <stdint.h>
#include <time.h>

bool kvw_os_refills;

#if KVW_OS_BARE

#define FRAMES 10      /* from a system call to the guest */
#define CALLS 64       /* in one timing */
#define TIMINGS 8      /* of each way; the best counts */
#define GAIN_PERCENT 3 /* below it, nothing is done */

/* A system call below `depth` frames. */
static __attribute__((noinline)) long descend(int depth)
{
    if (depth == 0)
        return kvw_os_bare(SYS_getppid, 0, 0, 0, 0, 0);
    long result = descend(depth - 1);
    __asm__ volatile("" : "+r"(result)); /* neither a jump nor a loop */
    return result;
}

static int64_t time_calls(void)
{
    struct timespec start;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (int i = 0; i < CALLS; i++)
        descend(FRAMES);
    clock_gettime(CLOCK_MONOTONIC, &end);
    return (end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec;
}

/* With a shadow stack (CET) every `call` needs its `ret`. */
static bool shadow_stack(void)
{
    uint64_t pointer = 0;
    __asm__ volatile("rdsspq %0" : "+r"(pointer)); /* does nothing where there is none */
    return pointer != 0;
}

void kvw_os_tune(void)
{
    int64_t best[2] = {INT64_MAX, INT64_MAX};
    for (int i = 0; i < 2 * TIMINGS && !shadow_stack(); i++) {
        kvw_os_refills = i % 2;
        int64_t time = time_calls();
        best[i % 2] = time < best[i % 2] ? time : best[i % 2];
    }
    kvw_os_refills = best[1] < best[0] - best[0] / 100 * GAIN_PERCENT;
}

#else

void kvw_os_tune(void) {}

#endif
