/* Waiting until a moment of the monotonic clock. */
#include <errno.h>
#include <time.h>

#include "session.h"

#define SECOND_NS (1000ull * 1000 * 1000)

uint64_t kve_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS)};
}

void kve_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
#ifndef __APPLE__
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
#endif
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

bool kve_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, uint64_t until_ns)
{
#ifdef __APPLE__ /* conditions know the wall clock only, but also relative times */
    const uint64_t now = kve_now_ns();
    const struct timespec left = timespec_of(until_ns > now ? until_ns - now : 0);
    return pthread_cond_timedwait_relative_np(cond, lock, &left) == ETIMEDOUT;
#else
    const struct timespec until = timespec_of(until_ns);
    return pthread_cond_timedwait(cond, lock, &until) == ETIMEDOUT;
#endif
}
