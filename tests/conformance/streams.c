/* Standard streams, polling, sockets, and what has nothing to do with files. */
#include "check.h"

void test_standard_streams(void) {
    __wasi_fdstat_t status, was = fdstat_of(0);
    fd_t file = must_open(ROOT, "file", CREAT, 0, 0);
    TRUE_(was.fs_filetype != __WASI_FILETYPE_DIRECTORY);
    OK(__wasi_fd_renumber(0, file)); /* standard input moves onto a file's number */
    FAILS(__wasi_fd_fdstat_get(0, &status), BADF);
    status = fdstat_of(file);
    IS(memcmp(&status, &was, sizeof was), 0);
    OK(__wasi_fd_close(file));
    OK(open_at(ROOT, "file", TRUNC, ALL_FILE_RIGHTS, 0, &file));
    IS(file, 0); /* the lowest number that is free, as in POSIX */
    size_t size = 0;
    fd_t error = 2;
    OK(try_write(error, "", &size));
    IS(size, 0);
    OK(__wasi_fd_renumber(file, error)); /* and a file becomes standard error */
    OK(try_write(error, "to the file", &size));
    IS(stat_of(ROOT, "file").size, 11);
    OK(__wasi_fd_close(error));
    FAILS(try_write(error, "x", &size), BADF);
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

static __wasi_subscription_t on_fd(__wasi_userdata_t data, __wasi_eventtype_t type, fd_t fd) {
    __wasi_subscription_t subscription = {.userdata = data, .u = {.tag = type}};
    subscription.u.u.fd_read.file_descriptor = fd;
    return subscription;
}

static __wasi_subscription_t on_clock(__wasi_userdata_t data, __wasi_timestamp_t timeout, int flags) {
    __wasi_subscription_t subscription = {.userdata = data, .u = {.tag = __WASI_EVENTTYPE_CLOCK}};
    subscription.u.u.clock.id = __WASI_CLOCKID_MONOTONIC;
    subscription.u.u.clock.timeout = timeout;
    subscription.u.u.clock.flags = (__wasi_subclockflags_t)flags;
    return subscription;
}

void test_polling(void) {
    __wasi_event_t events[4];
    size_t count = 9;
    fd_t file = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS, 0);
    __wasi_subscription_t both[3] = {on_fd(1, __WASI_EVENTTYPE_FD_WRITE, 1), on_fd(2, __WASI_EVENTTYPE_FD_WRITE, 2),
                                     on_clock(3, 20000000000, 0)};
    OK(__wasi_poll_oneoff(both, events, 3, &count));
    IS(count, 2);
    for (size_t i = 0; i < count && i < 2; i++) {
        TRUE_(events[i].userdata == 1 || events[i].userdata == 2);
        IS(events[i].type, __WASI_EVENTTYPE_FD_WRITE);
        IS(events[i].error, __WASI_ERRNO_SUCCESS);
    }
    __wasi_subscription_t clock = on_clock(0x123456789ABCDEF0, 1000000, 0);
    OK(__wasi_poll_oneoff(&clock, events, 1, &count));
    IS(count, 1);
    IS(events[0].userdata, 0x123456789ABCDEF0);
    IS(events[0].type, __WASI_EVENTTYPE_CLOCK);
    IS(events[0].error, __WASI_ERRNO_SUCCESS);
    clock = on_clock(5, 1, __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME); /* long past */
    OK(__wasi_poll_oneoff(&clock, events, 1, &count));
    IS(count, 1);
    __wasi_timestamp_t now = 0, later = 0; /* its own time is what it waits for */
    OK(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 0, &now));
    clock = on_clock(6, now + 20000000, __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME);
    OK(__wasi_poll_oneoff(&clock, events, 1, &count));
    OK(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 0, &later));
    TRUE_(later >= now + 20000000);
    __wasi_subscription_t on_file[2] = {on_fd(7, __WASI_EVENTTYPE_FD_READ, file), on_clock(8, 20000000000, 0)};
    OK(__wasi_poll_oneoff(on_file, events, 2, &count)); /* a file is always ready */
    IS(count, 1);
    IS(events[0].userdata, 7);
    __wasi_subscription_t bad = on_fd(9, __WASI_EVENTTYPE_FD_READ, NO_FD);
    OK(__wasi_poll_oneoff(&bad, events, 1, &count));
    IS(count, 1);
    IS(events[0].error, __WASI_ERRNO_BADF);
    IS(events[0].userdata, 9);
    FAILS(__wasi_poll_oneoff(&bad, events, 0, &count), INVAL);
    OK(__wasi_fd_close(file));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_sockets(void) {
    uint8_t byte = 0;
    size_t size;
    __wasi_roflags_t flags;
    __wasi_iovec_t in = {&byte, 1};
    __wasi_ciovec_t out = {&byte, 1};
    fd_t file = must_open(ROOT, "file", CREAT, ALL_FILE_RIGHTS | RIGHT(SOCK_SHUTDOWN), 0), accepted;
    FAILS(__wasi_sock_shutdown(file, __WASI_SDFLAGS_RD), NOTSOCK);
    FAILS(__wasi_sock_recv(file, &in, 1, 0, &size, &flags), NOTSOCK);
    FAILS(__wasi_sock_send(file, &out, 1, 0, &size), NOTSOCK);
    FAILS(__wasi_sock_accept(file, 0, &accepted), NOTSOCK);
    FAILS(__wasi_sock_shutdown(NO_FD, __WASI_SDFLAGS_RD), BADF);
    FAILS(__wasi_sock_recv(NO_FD, &in, 1, 0, &size, &flags), BADF);
    FAILS(__wasi_sock_send(NO_FD, &out, 1, 0, &size), BADF);
    FAILS(__wasi_sock_accept(NO_FD, 0, &accepted), BADF);
    OK(__wasi_fd_close(file));
    OK(__wasi_path_unlink_file(ROOT, "file"));
}

void test_others(void) {
    static uint8_t random[1025];
    __wasi_timestamp_t first = 0, second = 0, resolution = 0;
    random[1024] = 77;
    OK(__wasi_random_get(random, 1024));
    int different = 0;
    for (int i = 1; i < 1024; i++)
        different += random[i] != random[0];
    TRUE_(different > 900);
    IS(random[1024], 77);
    OK(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 1, &first));
    OK(__wasi_clock_time_get(__WASI_CLOCKID_MONOTONIC, 0, &second));
    TRUE_(first <= second);
    OK(__wasi_clock_res_get(__WASI_CLOCKID_REALTIME, &resolution));
    TRUE_(resolution > 0);
    OK(__wasi_clock_time_get(__WASI_CLOCKID_PROCESS_CPUTIME_ID, 0, &first));
    OK(__wasi_clock_time_get(__WASI_CLOCKID_THREAD_CPUTIME_ID, 0, &second));
    TRUE_(first > 0 && second > 0);
    FAILS(__wasi_clock_time_get(9, 0, &first), INVAL);
    FAILS(__wasi_clock_res_get(9, &first), INVAL);
    OK(__wasi_sched_yield());
}
