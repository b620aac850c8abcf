/* SPDX-License-Identifier: MIT
 *
 * How a side sleeps and is woken. What it waits for is none of this file's business.
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

/* Sleeper. Announces that it is about to sleep for `reasons` (LIPC_PARKED_*), in addition to those it sleeps for
 * already. It has to look for all of them once more after this, and may sleep when it finds none. */
void lipc_wakeup_park(struct lipc_wakeup *wakeup, uint32_t reasons);

/* Sleeper. Awake: no signal is needed. */
void lipc_wakeup_unpark(struct lipc_wakeup *wakeup);

/* Sleeper. Whether it has parked and has been neither woken nor unparked since. */
bool lipc_wakeup_parked(const struct lipc_wakeup *wakeup);

/* Waker, after it has published what `reason` stands for. Wakes the peer if it is parked for that; never blocks. */
void lipc_wakeup_wake(struct lipc_wakeup *wakeup, uint32_t reason);

/* Any thread of the sleeper's process. Ends its sleep, or the next one; never blocks. */
void lipc_wakeup_wake_self(struct lipc_wakeup *wakeup);

/* Sleeper that is woken by the semaphore, parked. Blocks until it is posted or the clock reads `deadline`. 1: posted;
 * 0: the deadline; -EINTR. */
int lipc_wakeup_sleep(struct lipc_wakeup *wakeup, uint64_t deadline);

/* Anyone. Nanoseconds of CLOCK_MONOTONIC. */
uint64_t lipc_clock(void);

#endif
