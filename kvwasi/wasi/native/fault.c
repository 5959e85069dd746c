#include "fault.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

/* The copy under way in this thread. */
typedef struct guard {
    sigjmp_buf back;
    uintptr_t window;
    size_t window_length;
} guard;

/* initial-exec: the handler may run anywhere and must not allocate. */
static __thread guard *volatile current __attribute__((tls_model("initial-exec")));

/* Two handlers that each have the other as their previous one must not call each other for ever. */
static __thread bool chaining __attribute__((tls_model("initial-exec")));

static struct sigaction previous;
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    guard *g = current;
    if (g && info->si_code > 0 && (uintptr_t)info->si_addr - g->window < g->window_length) {
        current = NULL;
        siglongjmp(g->back, 1); /* only frames of kvw_fault_copy and memcpy lie between */
    }
    bool ignored = !(previous.sa_flags & SA_SIGINFO) && previous.sa_handler == SIG_IGN;
    bool fatal_by_default = !(previous.sa_flags & SA_SIGINFO) && previous.sa_handler == SIG_DFL;
    if (chaining || fatal_by_default || (ignored && info->si_code > 0)) {
        /* The fault repeats at return and ends the process as it would have without us. */
        struct sigaction fatal = {.sa_handler = SIG_DFL};
        sigaction(SIGBUS, &fatal, NULL);
        if (info->si_code <= 0)
            raise(SIGBUS);
    } else if (!ignored) {
        chaining = true;
        if (previous.sa_flags & SA_SIGINFO)
            previous.sa_sigaction(number, info, context);
        else
            previous.sa_handler(number);
        chaining = false;
    }
}

bool kvw_fault_install(void)
{
    bool installed = true;
    pthread_mutex_lock(&install_lock);
    struct sigaction now;
    if (sigaction(SIGBUS, NULL, &now) < 0) {
        installed = false;
    } else if (!(now.sa_flags & SA_SIGINFO) || now.sa_sigaction != on_sigbus) {
        /* SA_NODEFER: the jump out of the handler leaves the signal mask as it is, which saves a system
         * call a copy. */
        struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK};
        sigemptyset(&ours.sa_mask);
        previous = now;
        installed = sigaction(SIGBUS, &ours, NULL) == 0;
    }
    pthread_mutex_unlock(&install_lock);
    return installed;
}

__attribute__((noinline)) bool kvw_fault_copy(void *to, const void *from, size_t length, const void *window,
                                              size_t window_length)
{
    guard g; /* not initialised as a whole: the jump buffer is large */
    g.window = (uintptr_t)window;
    g.window_length = window_length;
    if (sigsetjmp(g.back, 0))
        return false;
    current = &g;
    memcpy(to, from, length);
    __asm__ volatile("" ::: "memory"); /* the copy ends before the guard does */
    current = NULL;
    return true;
}
