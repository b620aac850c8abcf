/* SPDX-License-Identifier: MIT
 *
 * Kills a process some time after its parent has died, whatever the process is doing. Its event loop notices the death
 * by the end of file of its socket, and ends normally. But code that never returns to the loop would run for ever.
 */

#define _GNU_SOURCE /* for SA_RESTART and timer_create, under -std=c11 */
#include "lensipc.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static timer_t kill_timer;
static struct itimerspec grace; /* how long after the parent's death the timer fires */

/* A signal handler. It makes only async-signal-safe calls, and timer_settime is one. */
static void on_parent_death(int signal)
{
    (void)signal;
    int saved = errno;
    (void)timer_settime(kill_timer, 0, &grace, NULL);
    errno = saved;
}

int lipc_end_with_parent(int parent, int seconds)
{
    struct sigevent kill_me = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    grace.it_value.tv_sec = seconds;
    if (timer_create(CLOCK_MONOTONIC, &kill_me, &kill_timer))
        return -errno;
    /* A realtime signal, because the other signals have meanings of their own. */
    struct sigaction action = {.sa_handler = on_parent_death, .sa_flags = SA_RESTART};
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(SIGRTMAX, &action, NULL) || prctl(PR_SET_PDEATHSIG, SIGRTMAX))
        return -errno;
    if (getppid() != parent) /* the parent died before the line above, so no signal comes */
        on_parent_death(0);
    return 0;
}
