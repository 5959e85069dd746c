/* Marks for callgrind: what runs between them is counted under a name. Nothing outside of valgrind. */
#include <valgrind/callgrind.h>

void counted_begin(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

void counted_end(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
