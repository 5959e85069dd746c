/* clock_time_get and clock_res_get: of the operating system's clocks, CPU time included, and on the time scale
 * that poll_oneoff waits on. */
#include <errno.h>
#include <time.h>

#include "host.h"

static uint32_t clock_of(uint32_t id, clockid_t *clock)
{
    static const clockid_t clocks[] = {
        [WASI_CLOCK_REALTIME] = CLOCK_REALTIME,
        [WASI_CLOCK_MONOTONIC] = CLOCK_MONOTONIC,
        [WASI_CLOCK_PROCESS_CPU] = CLOCK_PROCESS_CPUTIME_ID,
        [WASI_CLOCK_THREAD_CPU] = CLOCK_THREAD_CPUTIME_ID,
    };
    if (id >= sizeof clocks / sizeof clocks[0])
        return WASI_EINVAL;
    *clock = clocks[id];
    return WASI_OK;
}

static uint32_t read_clock(const kvw_memory *memory, uint32_t id, uint32_t address,
                           int (*read)(clockid_t, struct timespec *))
{
    uint8_t *result = kvw_range(memory, address, 8);
    if (!result)
        return WASI_EFAULT;
    clockid_t clock;
    uint32_t error = clock_of(id, &clock);
    if (error)
        return error;
    struct timespec time;
    if (read(clock, &time) != 0)
        return kvw_errno(errno);
    kvw_store64(result, (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec);
    return WASI_OK;
}

uint32_t kvw_clock_res_get(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)host;
    return read_clock(memory, kvw_u32(a), kvw_u32(a + 1), clock_getres);
}

uint32_t kvw_clock_time_get(kvw_host *host, const kvw_memory *memory, const wasmtime_val_raw_t *a)
{
    (void)host; /* the precision that is asked for is what there is anyway */
    return read_clock(memory, kvw_u32(a), kvw_u32(a + 2), clock_gettime);
}
