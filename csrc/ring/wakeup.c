/* SPDX-License-Identifier: MIT
 *
 * Why no wake is lost
 *
 *   sleeper  S1  parked |= reasons        waker  P1  publish (a ring's position)
 *            S2  fence                           P2  fence
 *            S3  look at the position            P3  if parked & reason:
 *            S4  nothing there: sleep            P4      if exchange(parked, 0) & any: signal
 *
 * Both fences are seq_cst, so one comes first in their single order. If P2 precedes S2, then S3 sees what P1 published
 * and the sleeper does not sleep. If S2 precedes P2, then P3 sees what S1 stored, or a later value: a later value is
 * another park (then P3 is true as well) or 0, and 0 was stored by this waker, who has then signalled already, or by
 * the sleeper, who is then awake and comes by S1, S2 and S3 again before it sleeps. Without either fence the store
 * before it may still sit in its processor's store buffer when the load after it is done, on both sides at once: each
 * finds nothing, and the sleeper sleeps over a published frame (tests/test_model.py shows it).
 *
 * P4 takes all reasons at once and signals once for all of them: whoever is woken looks for everything. That gives one
 * signal for each park at most. A signal is sticky: an eventfd's edge, a byte in a socket or a semaphore's count waits
 * for a sleeper that is not asleep yet. One that comes late makes a sleeper look for nothing, once.
 *
 * The accesses to `parked` are relaxed: it carries no data, the fences order it, and the positions publish the frames.
 * Nothing is ordered by a signal, so those to `posted` are relaxed, too.
 *
 * The signal never blocks, whatever the peer does to its end. A file description shared with the peer could be
 * turned to blocking and filled by it, so main, who does not trust renderers, wakes them by its own end of a socket
 * and with MSG_DONTWAIT; only a renderer writes to an eventfd. The semaphore is a word and two futex calls of our own:
 * glibc takes the futex operation from a field of the sem_t, so whoever can write to that makes another's sem_post sleep,
 * or abort. Errors of a signal are no errors here: full means that wakes are pending, and a peer that is gone is told
 * by the end of file of its socket.
 */

#define _GNU_SOURCE /* syscall */

#include "ring/wakeup.h"

#include "lensipc.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S UINT64_C(1000000000)

/* In this order, which the system call keeps. */
static void post(struct lipc_sleeper *sleeper)
{
    atomic_fetch_add_explicit(&sleeper->posted, 1, memory_order_relaxed);
    (void)syscall(SYS_futex, &sleeper->posted, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void lipc_wakeup_wake_self(struct lipc_wakeup *wakeup)
{
    post(wakeup->own);
}

static void signal_peer(struct lipc_wakeup *wakeup)
{
    const uint64_t one = 1;
    switch (wakeup->kind) {
    case LIPC_WAKEUP_EVENTFD: {
        ssize_t ignored = write(wakeup->fd, &one, sizeof one);
        (void)ignored;
        break;
    }
    case LIPC_WAKEUP_SOCKET:
        (void)send(wakeup->fd, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    default:
        post(wakeup->peer);
    }
}

void lipc_wakeup_park(struct lipc_wakeup *wakeup, uint32_t reasons)
{
    atomic_fetch_or_explicit(&wakeup->own->parked, reasons, memory_order_relaxed); /* S1 */
    atomic_thread_fence(memory_order_seq_cst);                                     /* S2: pairs P2 */
}

void lipc_wakeup_unpark(struct lipc_wakeup *wakeup)
{
    /* Relaxed: a waker that still sees the park sends a signal too many. */
    atomic_store_explicit(&wakeup->own->parked, 0, memory_order_relaxed);
}

bool lipc_wakeup_parked(const struct lipc_wakeup *wakeup)
{
    /* Relaxed: only the peer takes the flag away, and its signal is then on the way. */
    return atomic_load_explicit(&wakeup->own->parked, memory_order_relaxed) != 0;
}

void lipc_wakeup_wake(struct lipc_wakeup *wakeup, uint32_t reason)
{
    atomic_thread_fence(memory_order_seq_cst);                                            /* P2: pairs S2 */
    if (atomic_load_explicit(&wakeup->peer->parked, memory_order_relaxed) & reason &&     /* P3 */
        atomic_exchange_explicit(&wakeup->peer->parked, 0, memory_order_relaxed) != 0)    /* P4 */
        signal_peer(wakeup);
}

uint64_t lipc_clock(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

static struct timespec to_timespec(uint64_t nanoseconds)
{
    return (struct timespec){.tv_sec = (time_t)(nanoseconds / NS_PER_S), .tv_nsec = (long)(nanoseconds % NS_PER_S)};
}

int lipc_wakeup_sleep(struct lipc_wakeup *wakeup, uint64_t deadline)
{
    _Atomic uint32_t *posted = &wakeup->own->posted;
    struct timespec until = to_timespec(deadline);
    if (atomic_exchange_explicit(posted, 0, memory_order_relaxed) != 0)
        return 1;
    /* Sleeps if it is 0 still. One call and no loop: a peer that plays with the word is met by our caller's clock. */
    long slept = syscall(SYS_futex, posted, FUTEX_WAIT_BITSET, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    if (slept < 0 && errno != EAGAIN)
        return errno == ETIMEDOUT ? 0 : -errno;
    /* No plain store: that could reach memory after the next park, and wipe out the signal which that was given. */
    (void)atomic_exchange_explicit(posted, 0, memory_order_relaxed);
    return 1;
}

int lipc_timer_create(void)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int lipc_timer_set(int fd, uint64_t deadline)
{
    struct itimerspec when = {.it_value = to_timespec(deadline)};
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL) < 0 ? -errno : 0;
}
