/* Put before every source of the engine in test builds: its file calls go to the simulated disk. */
#ifndef KV_INTERPOSE_H
#define KV_INTERPOSE_H

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "disk.h"

#define open(...) disk_open(__VA_ARGS__)
#define close(fd) disk_close(fd)
#define pread(fd, to, length, offset) disk_pread(fd, to, length, offset)
#define pwrite(fd, from, length, offset) disk_pwrite(fd, from, length, offset)
#define fdatasync(fd) disk_sync(fd)
#define fsync(fd) disk_sync(fd)
#define fstat(fd, to) disk_fstat(fd, to)
#define link(from, to) disk_link(from, to)
#define rename(from, to) disk_rename(from, to)
#define unlink(path) disk_unlink(path)

#endif
