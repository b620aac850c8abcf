/* SPDX-License-Identifier: MIT
 *
 * The end of a process whose parent has died, whatever it is doing. Its event loop sees the death by the socket's end
 * of file and ends in good order; but code that never returns to the loop would go on for ever.
 */

#define _GNU_SOURCE /* SA_RESTART, timer_create, under -std=c11 */
#include "lensipc.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static timer_t executioner;
static struct itimerspec grace;

/* Only async-signal-safe calls: timer_settime is one. */
static void on_orphaned(int signal)
{
    (void)signal;
    int saved = errno;
    (void)timer_settime(executioner, 0, &grace, NULL);
    errno = saved;
}

int lipc_end_with_parent(int parent, int seconds)
{
    struct sigevent kill_me = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    grace.it_value.tv_sec = seconds;
    if (timer_create(CLOCK_MONOTONIC, &kill_me, &executioner))
        return -errno;
    /* A realtime signal, so that none with a meaning of its own is taken. */
    struct sigaction action = {.sa_handler = on_orphaned, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(SIGRTMAX, &action, NULL) || prctl(PR_SET_PDEATHSIG, SIGRTMAX))
        return -errno;
    if (getppid() != parent) /* it died before it could be told of */
        on_orphaned(0);
    return 0;
}
