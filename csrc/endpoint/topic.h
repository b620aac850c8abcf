/* SPDX-License-Identifier: MIT
 *
 * The renderers that subscribe to one channel of an extension. A topic is private to main.
 */
#ifndef LIPC_TOPIC_H
#define LIPC_TOPIC_H

#include "endpoint/slabs.h"
#include "lensipc.h"

#include <pthread.h>
#include <stdbool.h>

struct lipc_subscription {
    struct lipc_endpoint *endpoint;
    uint64_t sequence; /* of the last event that was sent to it */
    uint32_t number; /* the channel's number in that renderer */
    int when_full;
    bool views; /* it reads large events in place */
};

struct lipc_topic {
    struct lipc_subscription *subscriptions;
    size_t count, room;
    bool main_listens; /* then no event is relayed: main gets each event first */
    size_t viewers; /* subscribers that read in place */
    struct lipc_slabs *slabs; /* where large events for several subscribers lie, or for a viewer; NULL: none lie there */
    pthread_t owner; /* the thread that made it; no other thread may send */
};

/* Called by python/loan.c. Sends an event to all subscribers, as lipc_topic_send does. Its last part is the array of `loan`,
 * and no other part is. Subscribers that may hold the loan's block read it there: the parts in front of the array are copied
 * into the block, and the array is not copied. If there is no such subscriber, if the loan is of other slabs than the topic,
 * or if the parts do not fit, the event is sent as any other. Main still holds the block, and must not write to it any
 * more. */
int lipc_topic_send_loan(struct lipc_topic *topic, const struct lipc_loan *loan, const struct lipc_header *header,
                         const struct lipc_part *parts, size_t count);

#endif
