/* Every call of preview1 that the host defines: X(name, its parameters as for kvw_functype). */
#ifndef KVW_CALLS_H
#define KVW_CALLS_H

#define KVW_CALLS(X)                                                                                         \
    X(clock_res_get, "ii")                                                                                   \
    X(clock_time_get, "ili")                                                                                 \
    X(fd_advise, "illi")                                                                                     \
    X(fd_allocate, "ill")                                                                                    \
    X(fd_close, "i")                                                                                         \
    X(fd_datasync, "i")                                                                                      \
    X(fd_fdstat_get, "ii")                                                                                   \
    X(fd_fdstat_set_flags, "ii")                                                                             \
    X(fd_fdstat_set_rights, "ill")                                                                           \
    X(fd_filestat_get, "ii")                                                                                 \
    X(fd_filestat_set_size, "il")                                                                            \
    X(fd_filestat_set_times, "illi")                                                                         \
    X(fd_pread, "iiili")                                                                                     \
    X(fd_prestat_dir_name, "iii")                                                                            \
    X(fd_prestat_get, "ii")                                                                                  \
    X(fd_pwrite, "iiili")                                                                                    \
    X(fd_read, "iiii")                                                                                       \
    X(fd_readdir, "iiili")                                                                                   \
    X(fd_renumber, "ii")                                                                                     \
    X(fd_seek, "ilii")                                                                                       \
    X(fd_sync, "i")                                                                                          \
    X(fd_tell, "ii")                                                                                         \
    X(fd_write, "iiii")                                                                                      \
    X(path_create_directory, "iii")                                                                          \
    X(path_filestat_get, "iiiii")                                                                            \
    X(path_filestat_set_times, "iiiilli")                                                                    \
    X(path_link, "iiiiiii")                                                                                  \
    X(path_open, "iiiiillii")                                                                                \
    X(path_readlink, "iiiiii")                                                                               \
    X(path_remove_directory, "iii")                                                                          \
    X(path_rename, "iiiiii")                                                                                 \
    X(path_symlink, "iiiii")                                                                                 \
    X(path_unlink_file, "iii")                                                                               \
    X(poll_oneoff, "iiii")                                                                                   \
    X(sock_accept, "iii")                                                                                    \
    X(sock_recv, "iiiiii")                                                                                   \
    X(sock_send, "iiiii")                                                                                    \
    X(sock_shutdown, "ii")

#endif
