#include "resolve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "os.h"

#define AGAIN_MAX 16
#define LINKS_MAX 40
#define WALK_DEPTH_MAX 256 /* descriptors held at once by the walk */

/* Whether `length` bytes are well-formed UTF-8 (Unicode 15, table 3-7). */
static bool is_utf8(const uint8_t *s, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint8_t lead = s[i++];
        if (lead < 0x80)
            continue;
        size_t more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || more > length - i)
            return false;
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (s[i] < low || s[i] > high)
            return false;
        for (size_t j = 1; j < more; j++)
            if ((s[i + j] & 0xc0) != 0x80)
                return false;
        i += more;
    }
    return true;
}

uint32_t kvw_path_copy(const kvw_memory *memory, uint32_t address, uint32_t length, char to[KVW_PATH_MAX])
{
    const uint8_t *path = kvw_range(memory, address, length);
    if (!path)
        return WASI_EFAULT;
    if (length == 0)
        return WASI_ENOENT;
    if (length >= KVW_PATH_MAX)
        return WASI_ENAMETOOLONG;
    memcpy(to, path, length); /* judged after the copy: another thread may change the guest's */
    to[length] = 0;
    if (memchr(to, 0, length))
        return WASI_EINVAL;
    if (!is_utf8((const uint8_t *)to, length))
        return WASI_EILSEQ;
    return to[0] == '/' ? WASI_EPERM : WASI_OK;
}

bool kvw_has_openat2(void)
{
    static atomic_int known; /* 0: not asked, 1: yes, 2: no */
    int state = atomic_load(&known);
    if (state == 0) {
        /* Old kernels answer ENOSYS, sandboxes EPERM. */
        int fd = kvw_os_open_beneath(AT_FDCWD, ".", KVW_O_PATH | O_DIRECTORY | O_CLOEXEC, 0);
        state = fd < 0 && (errno == ENOSYS || errno == EPERM) ? 2 : 1;
        if (fd >= 0)
            kvw_os_close(fd);
        atomic_store(&known, state);
    }
    return state == 1;
}

static bool walks(const kvw_host *host) { return host->walk_only || !kvw_has_openat2(); }

/* The walk: a stack of directory descriptors, so that ".." goes back to where the walk came from, whatever
 * was renamed meanwhile. */
typedef struct walk {
    int root;
    int stack[WALK_DEPTH_MAX];
    int depth;
    int links;
    char rest[KVW_PATH_MAX]; /* still to be walked */
} walk;

/* What is done to the name at its end: `act`, or else it is opened. */
typedef struct ending {
    int flags; /* O_NOFOLLOW: not to what a link there leads to */
    mode_t mode;
    kvw_act *act;
    void *context;
} ending;

static int walk_directory(const walk *w) { return w->depth ? w->stack[w->depth - 1] : w->root; }

/* Replace the component just taken by the target of the link `name`. 0, -EINVAL when it is no link, or
 * another error. */
static int walk_link(walk *w, const char *name, const char *after)
{
    char target[KVW_PATH_MAX];
    ssize_t length = kvw_os_readlinkat(walk_directory(w), name, target, sizeof target - 1);
    if (length < 0)
        return -errno;
    target[length] = 0;
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    if (length == 0)
        return -ENOENT;
    if (target[0] == '/')
        return -EPERM;
    char joined[2 * KVW_PATH_MAX];
    int total = snprintf(joined, sizeof joined, "%s%s", target, after);
    if (total >= (int)sizeof w->rest)
        return -ENAMETOOLONG;
    memcpy(w->rest, joined, (size_t)total + 1);
    return 0;
}

/* Enter the directory `name`, or its link. */
static int walk_enter(walk *w, const char *name, const char *after)
{
    int fd = openat(walk_directory(w), name, KVW_O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        int error = errno;
        if (error != ENOTDIR && error != ELOOP)
            return -error;
        int linked = walk_link(w, name, after);
        return linked == -EINVAL ? -error : linked;
    }
    if (w->depth == WALK_DEPTH_MAX) {
        kvw_os_close(fd);
        return -ENAMETOOLONG;
    }
    w->stack[w->depth++] = fd;
    memmove(w->rest, after, strlen(after) + 1);
    return 0;
}

static int end_at(const walk *w, const char *name, int flags, const ending *end)
{
    if (end->act)
        return -end->act(walk_directory(w), name, end->context);
    int fd = openat(walk_directory(w), name, flags | O_CLOEXEC, end->mode);
    return fd < 0 ? -errno : fd;
}

/* At the last component. `*again`: it was a link and the walk goes on. */
static int walk_last(walk *w, const char *name, const ending *end, bool *again)
{
    *again = false;
    if (end->act) {
        int linked = end->flags & O_NOFOLLOW ? -EINVAL : walk_link(w, name, "");
        *again = linked == 0;
        return linked == -EINVAL ? end_at(w, name, 0, end) : linked;
    }
    int fd = end_at(w, name, end->flags | O_NOFOLLOW, end);
    if (end->flags & O_NOFOLLOW)
        return fd;
    if (fd >= 0) {
        struct stat st;
        if (!(end->flags & KVW_O_PATH) || kvw_os_fstat(fd, &st) < 0 || !S_ISLNK(st.st_mode))
            return fd;
        kvw_os_close(fd);
        fd = -ELOOP; /* should it not be a link any more when it is read */
    } else if ((fd != -ELOOP && fd != -ENOTDIR) || (end->flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL)) {
        return fd;
    }
    int linked = walk_link(w, name, "");
    *again = linked == 0;
    return linked == -EINVAL ? fd : linked;
}

static int walk_step(walk *w, const ending *end, bool *again)
{
    char name[KVW_PATH_MAX];
    size_t start = strspn(w->rest, "/");
    size_t length = strcspn(w->rest + start, "/");
    const char *after = w->rest + start + length;
    bool last = after[strspn(after, "/")] == 0;
    bool slash = last && *after;
    memcpy(name, w->rest + start, length);
    name[length] = 0;
    *again = true;
    if (!strcmp(name, "..")) {
        if (w->depth == 0)
            return -EPERM;
        kvw_os_close(w->stack[--w->depth]);
    } else if (strcmp(name, ".") != 0 && name[0]) {
        if (last && !slash)
            return walk_last(w, name, end, again);
        return walk_enter(w, name, slash ? "/." : after);
    }
    if (!last) {
        memmove(w->rest, after, strlen(after) + 1);
        return 0;
    }
    *again = false;
    return end_at(w, ".", end->flags, end);
}

static int walk_to(int directory, const char *path, const ending *end)
{
    walk w = {.root = directory};
    memcpy(w.rest, path, strlen(path) + 1);
    bool again = true;
    int result = 0;
    /* Each step takes a component; links, which add some, are bounded. */
    while (again && result >= 0)
        result = walk_step(&w, end, &again);
    while (w.depth > 0)
        kvw_os_close(w.stack[--w.depth]);
    return result;
}

bool kvw_is_plain(const char *path)
{
    return !strchr(path, '/') && strcmp(path, ".") != 0 && strcmp(path, "..") != 0;
}

int kvw_open_beneath(const kvw_host *host, int directory, const char *path, int flags, mode_t mode)
{
    if (!host->walk_only && !(flags & KVW_O_PATH) && kvw_is_plain(path)) {
        /* One component that is not followed cannot lead out, and costs less than what asks for that. */
        int fd = kvw_os_openat(directory, path, flags | O_NOFOLLOW | O_CLOEXEC, mode);
        if (fd >= 0)
            return fd;
        if ((flags & O_NOFOLLOW) || (errno != ELOOP && errno != ENOTDIR)) /* the errnos of a link */
            return -errno;
    }
    if (!walks(host)) {
        /* EAGAIN: something was renamed meanwhile. A guest that races with itself must not keep us here. */
        for (int i = 0; i < AGAIN_MAX; i++) {
            int fd = kvw_os_open_beneath(directory, path, flags | O_CLOEXEC, mode);
            if (fd >= 0)
                return fd;
            if (errno != EAGAIN)
                return errno == EXDEV ? -EPERM : -errno;
        }
    }
    return walk_to(directory, path, &(ending){.flags = flags, .mode = mode});
}

/* Where a path is walked, nothing has to be opened for what can be done to a name. */
int kvw_act_beneath(const kvw_host *host, int directory, const char *path, bool follow, kvw_act *act,
                    kvw_act *act_on, void *context)
{
    const int flags = follow ? 0 : O_NOFOLLOW;
    if (walks(host))
        return -walk_to(directory, path, &(ending){.flags = flags, .act = act, .context = context});
    int fd = kvw_open_beneath(host, directory, path, KVW_O_PATH | flags, 0);
    if (fd < 0)
        return -fd;
    int error = act_on(fd, NULL, context);
    kvw_os_close(fd);
    return error;
}

static int stat_name(int directory, const char *name, void *context)
{
    return kvw_os_fstatat(directory, name, context, AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
}

static int stat_opened(int fd, const char *name, void *context)
{
    (void)name;
    return kvw_os_fstat(fd, context) < 0 ? errno : 0;
}

int kvw_stat_beneath(const kvw_host *host, int directory, const char *path, bool follow, struct stat *st)
{
    if (kvw_is_plain(path)) { /* one component that is not followed cannot lead out */
        int error = stat_name(directory, path, st);
        if (error || !follow || !S_ISLNK(st->st_mode))
            return error;
    }
    return kvw_act_beneath(host, directory, path, follow, stat_name, stat_opened, st);
}

int kvw_place_of(const kvw_host *host, int directory, char *path, kvw_place *place)
{
    size_t end = strlen(path);
    size_t stop = end;
    while (stop > 0 && path[stop - 1] == '/')
        stop--;
    if (stop < end)
        path[stop + 1] = 0; /* one slash says as much as several */
    size_t start = stop;
    while (start > 0 && path[start - 1] != '/')
        start--;
    place->name = path + start;
    size_t length = stop - start;
    bool dots = (length == 1 || length == 2) && place->name[0] == '.' && place->name[length - 1] == '.';
    place->plain = !dots && stop == end;
    place->directory = directory;
    place->opened = false;
    if (dots && length == 2) { /* the kernel refuses it in any case; whether it leads out is for us to say */
        int up = kvw_open_beneath(host, directory, path, KVW_O_PATH, 0);
        if (up < 0)
            return -up;
        kvw_os_close(up);
    }
    place->opened = start > 0;
    if (start == 0)
        return 0;
    char parent[KVW_PATH_MAX];
    memcpy(parent, path, start);
    parent[start] = 0;
    int fd = kvw_open_beneath(host, directory, parent, KVW_O_PATH | O_DIRECTORY, 0);
    place->directory = fd;
    return fd < 0 ? -fd : 0;
}

void kvw_place_release(const kvw_place *place)
{
    if (place->opened)
        kvw_os_close(place->directory);
}
