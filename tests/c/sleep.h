/* SPDX-License-Identifier: MIT
 *
 * What a test does that has nothing to do until there is work.
 */
#ifndef SLEEP_H
#define SLEEP_H

#include "../../csrc/lensipc.h"
#include "../../csrc/ring/wakeup.h"

/* Sleeps until there is work, however often it is woken before: 1, or 0 after `nanoseconds`; -EINTR. */
static inline int sleep_until_work(struct lipc_endpoint *endpoint, uint64_t nanoseconds)
{
    uint64_t start = lipc_clock(), passed = 0;
    int woken;
    do {
        woken = lipc_sleep(endpoint, passed < nanoseconds ? nanoseconds - passed : 0);
        passed = lipc_clock() - start;
    } while (woken == LIPC_WOKEN);
    return woken;
}

#endif
