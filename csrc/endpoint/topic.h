/* SPDX-License-Identifier: MIT
 *
 * The renderers that subscribe to one channel of an extension. Main's: nothing of it is shared with another process.
 */
#ifndef LIPC_TOPIC_H
#define LIPC_TOPIC_H

#include "lensipc.h"

#include <pthread.h>
#include <stdbool.h>

struct lipc_subscription {
    struct lipc_endpoint *endpoint;
    uint64_t sequence; /* of the last event sent to it */
    uint32_t number; /* the channel's, as that renderer knows it */
    int when_full;
};

struct lipc_topic {
    struct lipc_subscription *subscriptions;
    size_t count, room;
    bool main_listens; /* then no event is relayed: main is handed each of them first */
    pthread_t owner; /* who made it: no other thread may send */
};

#endif
