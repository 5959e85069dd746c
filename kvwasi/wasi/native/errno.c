#include <errno.h>

#include "host.h"

/* The numbers differ from the OS's, the names do not. */
#define SHARED_NAMES(X)                                                                                      \
    X(2BIG)                                                                                                  \
    X(ACCES) X(ADDRINUSE) X(ADDRNOTAVAIL) X(AFNOSUPPORT) X(AGAIN) X(ALREADY) X(BADF) X(BADMSG) X(BUSY)       \
        X(CANCELED) X(CHILD) X(CONNABORTED) X(CONNREFUSED) X(CONNRESET) X(DEADLK) X(DESTADDRREQ) X(DOM)      \
            X(DQUOT) X(EXIST) X(FAULT) X(FBIG) X(HOSTUNREACH) X(IDRM) X(ILSEQ) X(INPROGRESS) X(INTR)         \
                X(INVAL) X(IO) X(ISCONN) X(ISDIR) X(LOOP) X(MFILE) X(MLINK) X(MSGSIZE) X(MULTIHOP)           \
                    X(NAMETOOLONG) X(NETDOWN) X(NETRESET) X(NETUNREACH) X(NFILE) X(NOBUFS) X(NODEV) X(NOENT) \
                        X(NOEXEC) X(NOLCK) X(NOLINK) X(NOMEM) X(NOMSG) X(NOPROTOOPT) X(NOSPC) X(NOSYS)       \
                            X(NOTCONN) X(NOTDIR) X(NOTEMPTY) X(NOTRECOVERABLE) X(NOTSOCK) X(NOTSUP) X(NOTTY) \
                                X(NXIO) X(OVERFLOW) X(OWNERDEAD) X(PERM) X(PIPE) X(PROTO) X(PROTONOSUPPORT)  \
                                    X(PROTOTYPE) X(RANGE) X(ROFS) X(SPIPE) X(SRCH) X(STALE) X(TIMEDOUT)      \
                                        X(TXTBSY) X(XDEV)

uint32_t kvw_errno(int os_error)
{
    switch (os_error) {
    case 0:
        return WASI_OK;
#define SAME_NAME(name)                                                                                      \
    case E##name:                                                                                            \
        return WASI_E##name;
        SHARED_NAMES(SAME_NAME)
    default:
        return WASI_EIO; /* nothing in the standard's list says it better */
    }
}
