/* Arbitrary arguments to every call, natively under the sanitizers: the guest's memory is a heap block of
 * just its size, so that the address sanitizer sees each byte the host touches beyond it.
 *
 * fuzz_calls DIRECTORY SEED COUNT
 *
 * DIRECTORY/shared, DIRECTORY/exclusive and DIRECTORY/read-only must exist. Prints the calls made and
 * their outcomes' number. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "behind.h"
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
#define CALLS_OF_HOSTS 400u /* by then their preopens are closed */
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

/* What the arguments of a call are, a letter each; those of calls.h say only their types. */
typedef struct shape {
    const char *name;
    const char *kinds;
} shape;

static const shape shapes[] = {
    {"clock_res_get", "wr"},
    {"clock_time_get", "wor"},
    {"fd_advise", "dooa"},
    {"fd_allocate", "doo"},
    {"fd_close", "e"},
    {"fd_datasync", "d"},
    {"fd_fdstat_get", "dr"},
    {"fd_fdstat_set_flags", "df"},
    {"fd_fdstat_set_rights", "dRR"},
    {"fd_filestat_get", "dr"},
    {"fd_filestat_set_size", "do"},
    {"fd_filestat_set_times", "doot"},
    {"fd_pread", "dvnor"},
    {"fd_prestat_dir_name", "DbB"},
    {"fd_prestat_get", "Dr"},
    {"fd_pwrite", "dvnor"},
    {"fd_read", "dvnr"},
    {"fd_readdir", "DbBor"},
    {"fd_renumber", "ee"},
    {"fd_seek", "dowr"},
    {"fd_sync", "d"},
    {"fd_tell", "dr"},
    {"fd_write", "dvnr"},
    {"path_create_directory", "DpP"},
    {"path_filestat_get", "DlpPr"},
    {"path_filestat_set_times", "DlpPoot"},
    {"path_link", "D0pPDpP"},
    {"path_open", "DlpPORRfr"},
    {"path_readlink", "DpPbBr"},
    {"path_remove_directory", "DpP"},
    {"path_rename", "DpPDpP"},
    {"path_symlink", "pPDpP"},
    {"path_unlink_file", "DpP"},
    {"poll_oneoff", "bbnr"},
    {"sock_accept", "dfr"},
    {"sock_recv", "dvn0rr"},
    {"sock_send", "dvn0r"},
    {"sock_shutdown", "dw"},
};
_Static_assert(sizeof shapes / sizeof *shapes == TARGETS, "one for each call, in their order");

/* A value of the kind, likely to make the call succeed. `before` is the argument before it. */
static uint64_t sane_value(char kind, uint32_t before)
{
    static const uint64_t rights[] = {WASI_RIGHT_FD_READ, WASI_RIGHT_FD_READ | WASI_RIGHT_FD_WRITE,
                                      WASI_RIGHT_FD_WRITE, WASI_RIGHTS_ALL};
    static const uint32_t oflags[] = {0, 0, WASI_O_CREAT, WASI_O_CREAT, WASI_O_CREAT | WASI_O_TRUNC,
                                      WASI_O_DIRECTORY};
    switch (kind) {
    case 'D': /* a directory: a preopen */
        return 3 + below(3);
    case 'd': /* what path_open gave, likely */
        return below(8) ? 6 + below(6) : 3 + below(10);
    case 'e': /* one to end */
        return 6 + below(24);
    case 'v':
        return VECTORS + 8 * below(60);
    case 'n':
        return 1 + below(3);
    case 'p':
        return PATHS + PATH_BYTES * below(below(2) ? 4 : WORDS);
    case 'P':
        return path_length(before);
    case 'l':
        return below(2);
    case 'O':
        return oflags[below(sizeof oflags / sizeof *oflags)];
    case 'f':
        return below(3) ? 0 : below(32) & (below(16) ? WASI_FD_APPEND | WASI_FD_NONBLOCK : WASI_FD_FLAGS_ALL);
    case 'R':
        return rights[below(sizeof rights / sizeof *rights)];
    case 'w':
        return below(3);
    case 'a':
        return below(6);
    case 't':
        return below(16);
    case 'o':
        return below(2) ? below(9000) : below(200);
    case 'B':
        return below(1000);
    case '0':
        return 0;
    default: /* room for a result or a buffer */
        return ROOM + 8 * below((MEMORY_BYTES - ROOM) / 8 - 200);
    }
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

/* The calls that most of a program's are. */
static bool is_common(const char *name)
{
    return !strcmp(name, "path_open") || !strcmp(name, "fd_read") || !strcmp(name, "fd_write") ||
           !strcmp(name, "fd_pread") || !strcmp(name, "fd_pwrite");
}

static void make_call(kvw_host *host, kvw_memory *memory, uint64_t outcomes[80])
{
    const target *t = &targets[below(TARGETS)];
    for (bool bytes = below(3) == 0; bytes && !is_common(t->name);)
        t = &targets[below(TARGETS)];
    if (strstr(t->name, "sync") && below(32)) /* a disk takes its time */
        return;
    wasmtime_val_raw_t arguments[16];
    size_t count = strlen(t->parameters);
    bool sane = below(4);
    const shape *s = &shapes[t - targets];
    assert(!strcmp(s->name, t->name) && strlen(s->kinds) == count);
    for (size_t i = 0; i < count; i++) {
        uint32_t before = i ? (uint32_t)arguments[i - 1].i32 : 0;
        if (sane)
            arguments[i].i64 = (int64_t)sane_value(s->kinds[i], before);
        else
            arguments[i] = argument(t, i, before);
    }
    if (!strcmp(t->name, "poll_oneoff")) { /* its first subscription is due at once, so that none waits */
        arguments[0].i32 = (int32_t)ROOM;
        memset(memory->base + ROOM, 0, WASI_SUBSCRIPTION_SIZE);
    }
    /* A run of them is what windows are for. */
    bool moves = strstr(s->kinds, "vn") != NULL;
    for (uint32_t left = moves && below(4) == 0 ? 30 : 1; left > 0; left--) {
        uint32_t outcome = kvw_behind_call(host, t->call, memory, arguments);
        if (outcome > WASI_ENOTCAPABLE) {
            fprintf(stderr, "%s answers %u\n", t->name, outcome);
            abort();
        }
        outcomes[outcome] += left == 1;
    }
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

static kvw_host *new_host(const char *directory)
{
    kvw_host *host = kvw_host_new();
    host->walk_only = below(2);
    preopen(host, directory, "shared", 0);
    preopen(host, directory, "exclusive", KVW_PREOPEN_EXCLUSIVE);
    preopen(host, directory, "read-only", KVW_PREOPEN_READ_ONLY);
    return host;
}

/* Somebody else cuts a file, or makes it longer, under the windows. */
static void disturb(const char *directory)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/exclusive/%s", directory, words[below(2)]);
    int fd = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC); /* the guest makes links, too */
    if (fd < 0)
        return;
    if (ftruncate(fd, below(9000)) < 0) {
        perror(path);
        exit(2);
    }
    close(fd);
}

/* Two hosts over the same directories, whose locks and windows meet. */
static void two_hosts(const char *directory, uint64_t count, uint64_t outcomes[80])
{
    unsigned before = open_descriptors();
    kvw_host *hosts[] = {new_host(directory), new_host(directory)};
    kvw_memory memory = {malloc(MEMORY_BYTES), MEMORY_BYTES};
    memset(memory.base, '?', MEMORY_BYTES);
    for (uint64_t i = 0; i < count; i++) {
        if (i % 16 == 0)
            fill(memory.base);
        if (below(40) == 0)
            disturb(directory);
        kvw_host *host = hosts[below(3) == 0];
        if (below(20) == 0)
            host->defers = (kvw_defer)below(3);
        make_call(host, &memory, outcomes);
    }
    kvw_host_free(hosts[0]);
    kvw_host_free(hosts[1]);
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
    for (uint64_t done = 0; done < count; done += CALLS_OF_HOSTS)
        two_hosts(argv[1], CALLS_OF_HOSTS, outcomes);
    uint64_t succeeded = outcomes[0];
    unsigned kinds = 0;
    for (unsigned i = 0; i < 80; i++)
        kinds += outcomes[i] > 0;
    printf("%llu %llu %u\n", (unsigned long long)count, (unsigned long long)succeeded, kinds);
    return 0;
}
