/* Arbitrary arguments to every call, natively under the sanitizers: the guest's memory is a heap block of
 * just its size, so that the address sanitizer sees each byte the host touches beyond it.
 *
 * fuzz_calls DIRECTORY SEED COUNT
 *
 * DIRECTORY/shared, DIRECTORY/exclusive and DIRECTORY/read-only must exist. Prints the calls made and
 * their outcomes' number. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "host_internal.h"

typedef struct target {
    const char *name;
    const char *parameters;
    kvw_call *call;
} target;

static const target targets[] = {
#define TARGET(name, parameters) {#name, parameters, kvw_##name},
    KVW_CALLS(TARGET)
#undef TARGET
};
#define TARGETS (sizeof targets / sizeof *targets)

static uint64_t state;

static uint64_t next(void) /* xorshift64* */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * 0x2545f4914f6cdd1dull;
}

static uint32_t below(uint32_t bound) { return (uint32_t)(next() >> 32) % bound; }

/* Guest memory: a table of vectors, a table of paths, and room. */
#define MEMORY_BYTES 20480u
#define VECTORS 0u
#define PATHS 4096u
#define PATH_BYTES 32u
#define ROOM 8192u

static const char *const words[] = {
    "a", "b",   "dir",  "dir/a", "dir/../b",  "..",  "../shared/a", "/",         "/etc", ".",
    "l", "l/x", "dir/", "a/",    "missing/x", "./a", "dir/..",      "dir/../..", "\xff", "d\0d"};
#define CALLS_OF_A_HOST 200u /* by then its preopens are closed */
#define WORDS (sizeof words / sizeof *words)

static uint32_t interesting_address(void)
{
    switch (below(6)) {
    case 0:
        return (uint32_t)next();
    case 1:
        return MEMORY_BYTES - below(40);
    case 2:
        return VECTORS + 8 * below(64);
    case 3:
        return PATHS + PATH_BYTES * below(WORDS);
    default:
        return ROOM + below(MEMORY_BYTES - ROOM);
    }
}

static uint32_t interesting_size(void)
{
    static const uint32_t sizes[] = {
        0, 1, 2, 3, 5, 8, 64, 100, 4095, 4096, 8192, 1024, 1025, MEMORY_BYTES, 0x7fffffff, 0xffffffff};
    return below(4) == 0 ? (uint32_t)next() : sizes[below(sizeof sizes / sizeof *sizes)];
}

static uint64_t interesting_u64(void)
{
    static const uint64_t values[] = {0, 1, 4095, 4096, 65536, 1 << 20, INT64_MAX, UINT64_MAX, 1ull << 63};
    return below(3) == 0 ? next() >> below(64) : values[below(sizeof values / sizeof *values)];
}

static void fill(uint8_t *memory)
{
    for (uint32_t i = 0; i < 64; i++) {
        kvw_store32(memory + VECTORS + 8 * i,
                    below(8) ? ROOM + below(MEMORY_BYTES - ROOM - 300) : interesting_address());
        kvw_store32(memory + VECTORS + 8 * i + 4, below(8) ? below(300) : interesting_size());
    }
    for (uint32_t i = 0; i < WORDS; i++)
        memcpy(memory + PATHS + PATH_BYTES * i, words[i], strlen(words[i]) + 1);
    for (uint32_t i = ROOM; i < MEMORY_BYTES; i += 64)
        kvw_store64(memory + i, next());
}

static size_t path_length(uint32_t address)
{
    if (address < PATHS || address >= PATHS + PATH_BYTES * WORDS || (address - PATHS) % PATH_BYTES)
        return interesting_size();
    return strlen(words[(address - PATHS) / PATH_BYTES]);
}

/* The descriptors that are likely to be what the call works on. */
static int32_t likely_descriptor(const target *t)
{
    if (!strncmp(t->name, "path_", 5))
        return (int32_t)(3 + below(3));
    bool ends_it = !strcmp(t->name, "fd_close") || !strcmp(t->name, "fd_renumber");
    return (int32_t)(ends_it ? 6 + below(16) : 3 + below(10));
}

/* An argument for a call that is meant to succeed. */
static wasmtime_val_raw_t tame_argument(const target *t, size_t index, uint32_t before)
{
    wasmtime_val_raw_t value = {.i64 = 0};
    uint32_t chance = below(100);
    if (t->parameters[index] == 'l')
        value.i64 = chance < 50 ? (int64_t)(WASI_RIGHT_FD_READ | WASI_RIGHT_FD_WRITE) : (int64_t)below(9000);
    else if (index == 0 && strcmp(t->name, "path_symlink") != 0)
        value.i32 = likely_descriptor(t);
    else if (before >= PATHS && before < ROOM)
        value.i32 = (int32_t)path_length(before);
    else if (before >= ROOM && before < MEMORY_BYTES)
        value.i32 = (int32_t)below(100);
    else if (before >= VECTORS + 8 && before < PATHS && before % 8 == 0)
        value.i32 = (int32_t)below(4);
    else if (chance < 30)
        value.i32 = (int32_t)(PATHS + PATH_BYTES * below(WORDS));
    else if (chance < 55)
        value.i32 = (int32_t)(ROOM + 8 * below((MEMORY_BYTES - ROOM) / 8 - 20));
    else if (chance < 75)
        value.i32 = (int32_t)(VECTORS + 8 * (1 + below(60)));
    else
        value.i32 = (int32_t)below(4);
    return value;
}

/* One argument, likely of a kind that gets past the first checks: an address is often followed by its
 * length. */
static wasmtime_val_raw_t argument(const target *t, size_t index, uint32_t before)
{
    wasmtime_val_raw_t value = {.i64 = 0};
    if (t->parameters[index] == 'l')
        value.i64 = below(3) ? (int64_t)interesting_u64() : (int64_t)below(20000);
    else if (index == 0 && strcmp(t->name, "path_symlink") != 0 && strcmp(t->name, "poll_oneoff") != 0)
        value.i32 = below(16) ? (int32_t)below(24) : (int32_t)next();
    else if (before >= PATHS && before < ROOM && below(8))
        value.i32 = (int32_t)path_length(before);
    else
        value.i32 = below(2)   ? (int32_t)interesting_address()
                    : below(3) ? (int32_t)below(6)
                               : (int32_t)interesting_size();
    return value;
}

static void make_call(kvw_host *host, kvw_memory *memory, uint64_t outcomes[80])
{
    const target *t = &targets[below(TARGETS)];
    wasmtime_val_raw_t arguments[16];
    size_t count = strlen(t->parameters);
    bool tame = below(4);
    for (size_t i = 0; i < count; i++) {
        uint32_t before = i ? (uint32_t)arguments[i - 1].i32 : 0;
        arguments[i] = tame ? tame_argument(t, i, before) : argument(t, i, before);
    }
    if (!strcmp(t->name, "poll_oneoff")) { /* its first subscription is due at once, so that none waits */
        arguments[0].i32 = (int32_t)ROOM;
        memset(memory->base + ROOM, 0, WASI_SUBSCRIPTION_SIZE);
    }
    uint32_t outcome = t->call(host, memory, arguments);
    if (outcome > WASI_ENOTCAPABLE) {
        fprintf(stderr, "%s answers %u\n", t->name, outcome);
        abort();
    }
    outcomes[outcome]++;
}

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    closedir(directory);
    return count;
}

static void preopen(kvw_host *host, const char *directory, const char *name, uint32_t flags)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (kvw_host_preopen(host, path, name, flags)) {
        perror(path);
        exit(2);
    }
}

static void one_host(const char *directory, uint64_t count, uint64_t outcomes[80])
{
    unsigned before = open_descriptors();
    kvw_host *host = kvw_host_new();
    host->walk_only = below(2);
    preopen(host, directory, "shared", 0);
    preopen(host, directory, "exclusive", KVW_PREOPEN_EXCLUSIVE);
    preopen(host, directory, "read-only", KVW_PREOPEN_READ_ONLY);
    kvw_memory memory = {malloc(MEMORY_BYTES), MEMORY_BYTES};
    memset(memory.base, '?', MEMORY_BYTES);
    for (uint64_t i = 0; i < count; i++) {
        if (i % 16 == 0)
            fill(memory.base);
        make_call(host, &memory, outcomes);
    }
    kvw_host_free(host);
    free(memory.base);
    if (open_descriptors() != before) {
        fprintf(stderr, "descriptors are left open\n");
        abort();
    }
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    uint64_t count = strtoull(argv[3], NULL, 10);
    uint64_t outcomes[80] = {0};
    /* The guest may ask for files of any size; the disk is not ours to fill. */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){1 << 22, 1 << 22});
    for (uint64_t done = 0; done < count; done += CALLS_OF_A_HOST)
        one_host(argv[1], CALLS_OF_A_HOST, outcomes);
    uint64_t succeeded = outcomes[0];
    unsigned kinds = 0;
    for (unsigned i = 0; i < 80; i++)
        kinds += outcomes[i] > 0;
    printf("%llu %llu %u\n", (unsigned long long)count, (unsigned long long)succeeded, kinds);
    return 0;
}
