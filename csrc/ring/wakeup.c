/* SPDX-License-Identifier: MIT
 *
 * Why no wake is lost
 *
 *   sleeper  S1  parked |= reasons        waker  P1  publish (a ring's position)
 *            S2  fence                           P2  fence
 *            S3  look at the position            P3  if parked & reason:
 *            S4  nothing there: sleep            P4      if exchange(parked, 0) & any: signal
 *
 * Both fences are seq_cst, so they have a single order. If P2 comes before S2, then S3 sees what P1 published, and the
 * sleeper does not sleep. If S2 comes before P2, then P3 sees the value that S1 stored, or a later value. A later value
 * is one of three. It is another park: then P3 is true as well. It is a 0 that this waker stored: then this waker has
 * already signalled. Or it is a 0 that the sleeper stored: then the sleeper is awake, and does S1, S2 and S3 again
 * before it sleeps.
 *
 * If a fence is missing, the store before it may still sit in the processor's store buffer when the load after it is
 * done. Then both sides find nothing, and the sleeper sleeps although a frame is published (tests/test_model.py shows
 * this).
 *
 * P4 takes all reasons at once and sends one signal for all of them, because a woken side looks for everything. So each
 * park causes at most one signal. A signal is sticky: an eventfd's edge, a byte in a socket or a semaphore's count
 * waits for a sleeper that is not asleep yet. A late signal makes a sleeper look once more and find nothing.
 *
 * The accesses to `parked` are relaxed: `parked` carries no data, the fences order it, and the positions publish the
 * frames. The accesses to `posted` are relaxed too, because a signal orders nothing.
 *
 * A signal never blocks, whatever the peer does to its end. The peer could set a shared file description to blocking
 * mode and fill it. Main does not trust renderers. So main wakes a renderer through main's own end of a socket, with
 * MSG_DONTWAIT, and only a renderer writes to the eventfd that both share, which main watches (main/core.py:
 * MainCore.attach). The semaphore is one word and two futex calls of our own, not glibc's sem_t. glibc takes the futex
 * operation from a field of the sem_t, so a peer that writes to this field could make sem_post sleep or abort. A failed
 * signal is not an error here. A full eventfd or socket means that wakes are pending. If the peer is gone, the end of
 * file of its socket says so.
 */

#define _GNU_SOURCE /* for syscall */

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

/* Counts first and wakes second. The system call keeps this order. */
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
    atomic_thread_fence(memory_order_seq_cst);                                     /* S2: pairs with P2 */
}

void lipc_wakeup_unpark(struct lipc_wakeup *wakeup)
{
    /* Relaxed: a waker that still sees the old flag only sends one signal too many. */
    atomic_store_explicit(&wakeup->own->parked, 0, memory_order_relaxed);
}

bool lipc_wakeup_parked(const struct lipc_wakeup *wakeup)
{
    /* Relaxed: apart from this thread only the peer clears the flag, and then the peer's signal is on its way. */
    return atomic_load_explicit(&wakeup->own->parked, memory_order_relaxed) != 0;
}

void lipc_wakeup_wake(struct lipc_wakeup *wakeup, uint32_t reason)
{
    atomic_thread_fence(memory_order_seq_cst);                                            /* P2: pairs with S2 */
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
    /* Sleeps if `posted` is still 0. There is one call and no loop: a peer may post without end, and the caller's clock
     * then ends the wait. */
    long slept = syscall(SYS_futex, posted, FUTEX_WAIT_BITSET, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    if (slept < 0 && errno != EAGAIN)
        return errno == ETIMEDOUT ? 0 : -errno;
    /* This is an exchange, because a plain store could reach memory after the next park. The store would then erase the
     * signal for that park. */
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
