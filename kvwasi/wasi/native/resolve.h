/* Paths inside a directory that cannot lead out of it. */
#ifndef KVW_RESOLVE_H
#define KVW_RESOLVE_H

#include <sys/stat.h>

#include "host.h"

/* Copy a guest's path and end it with NUL. WASI_EFAULT, WASI_ENOENT (empty), WASI_ENAMETOOLONG,
 * WASI_EINVAL (a NUL inside), WASI_EILSEQ (not UTF-8), WASI_EPERM (absolute). */
uint32_t kvw_path_copy(const kvw_memory *memory, uint32_t address, uint32_t length, char to[KVW_PATH_MAX]);

/* open(2) of `path` below `directory`: a descriptor or minus an errno. -EPERM: the path leads out. */
int kvw_open_beneath(const kvw_host *host, int directory, const char *path, int flags, mode_t mode);

/* What is done to a name in a directory; a link there is not followed. 0 or an errno. */
typedef int kvw_act(int directory, const char *name, void *context);

/* Do something to what `path` names below `directory`, a link at its end followed or not: `act`, or `act_on` to a descriptor
 * (without a name) that KVW_O_PATH has opened. 0 or an errno; EPERM: the path leads out. */
int kvw_act_beneath(const kvw_host *host, int directory, const char *path, bool follow, kvw_act *act,
                    kvw_act *act_on, void *context);

/* stat what `path` names, as above. */
int kvw_stat_beneath(const kvw_host *host, int directory, const char *path, bool follow, struct stat *st);

/* Whether `path` is a single component other than "." and "..". */
bool kvw_is_plain(const char *path);

/* Where a path's last component lives: for calls on names, which never follow the last component. The kernel
 * refuses "." and ".." in each of them, and follows no link under a trailing slash. */
typedef struct kvw_place {
    int directory;
    bool opened;      /* `directory` was opened for this place */
    bool plain;       /* `name` is neither "." nor ".." and has no trailing slash */
    const char *name; /* inside the path; a trailing slash of the path stays */
} kvw_place;

/* Split `path` (which is changed) and open the directory of its last component. 0 or an errno. */
int kvw_place_of(const kvw_host *host, int directory, char *path, kvw_place *place);
void kvw_place_release(const kvw_place *place);

/* Whether the OS has a usable openat2. */
bool kvw_has_openat2(void);

#endif
