/* What Linux has beyond POSIX, for systems without it: each as the function of os.h that calls it. */
#ifndef KVW_OS_POSIX_H
#define KVW_OS_POSIX_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

int kvw_posix_fallocate(int fd, off_t offset, off_t length);
int kvw_posix_sync(int fd);
ssize_t kvw_posix_list(void **stream, int fd, void *to, size_t size);
int kvw_posix_list_from(void **stream, int fd, uint64_t cookie);
void kvw_posix_list_end(void *stream);
int kvw_posix_poll(struct pollfd *fds, uint32_t count, const struct timespec *timeout);
int kvw_posix_accept(int fd, bool nonblocking);

#endif
