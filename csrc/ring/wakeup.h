/* SPDX-License-Identifier: MIT
 *
 * How a side sleeps and how the peer wakes it. The sleeper is the side that sleeps, and the waker is its peer. This
 * file does not know what a sleeper waits for.
 */
#ifndef LIPC_WAKEUP_H
#define LIPC_WAKEUP_H

#include "ring/layout.h"

#include <stdbool.h>

struct lipc_wakeup {
    struct lipc_sleeper *own;
    struct lipc_sleeper *peer;
    int kind; /* LIPC_WAKEUP_*: how the peer is woken */
    int fd;
};

/* Called by the sleeper. Does not block. Announces that the sleeper is about to sleep for `reasons` (LIPC_PARKED_*), in
 * addition to the reasons announced before. After this call the sleeper must look for all of them once more. It may
 * sleep if it finds none. */
void lipc_wakeup_park(struct lipc_wakeup *wakeup, uint32_t reasons);

/* Called by the sleeper when it is awake. Does not block. From now on the sleeper needs no signal. */
void lipc_wakeup_unpark(struct lipc_wakeup *wakeup);

/* Called by the sleeper. Does not block. Returns whether the sleeper has parked, and has not been woken or unparked
 * since. */
bool lipc_wakeup_parked(const struct lipc_wakeup *wakeup);

/* Called by the waker, after it has published what `reason` stands for. Does not block. Wakes the peer if the peer is
 * parked for that reason. */
void lipc_wakeup_wake(struct lipc_wakeup *wakeup, uint32_t reason);

/* Called by any thread of the sleeper's process. Does not block. Ends the sleeper's current sleep, or else its next
 * one. */
void lipc_wakeup_wake_self(struct lipc_wakeup *wakeup);

/* Called by a parked sleeper whose wakeup is the semaphore. Blocks until the semaphore is posted or the clock reads
 * `deadline`. Returns 1 if it was woken, 0 at the deadline, or -EINTR if a signal handler ran. */
int lipc_wakeup_sleep(struct lipc_wakeup *wakeup, uint64_t deadline);

/* Called by anyone. Does not block. Returns the nanoseconds of CLOCK_MONOTONIC. */
uint64_t lipc_clock(void);

#endif
