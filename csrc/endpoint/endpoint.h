/* SPDX-License-Identifier: MIT
 *
 * One side of a pair, as endpoint.c, send.c and receive.c share it. All of it is private to this process but what the
 * rings and the wakeup point to in the segment.
 */
#ifndef LIPC_ENDPOINT_H
#define LIPC_ENDPOINT_H

#include "endpoint/outbox.h"
#include "fast.h"
#include "ring/ring.h"
#include "ring/segment.h"
#include "ring/wakeup.h"

#include <pthread.h>

/* The message that comes in frame by frame into the caller's memory. */
struct lipc_assembly {
    struct lipc_frame first; /* what every frame of it has to agree with */
    bool wanted;             /* the caller has been asked for memory */
    char *memory;            /* and has given it */
    uint64_t filled;
};

/* Where the events that come in go. */
struct lipc_routes {
    struct lipc_topic **topics; /* by the channel's number */
    uint32_t count, room;
    uint32_t peer, pid; /* whom they come from */
    bool watched;       /* they are handed out, all of them */
    uint32_t relayed;   /* by the last lipc_recv */
    int told;
};

/* The events that come on a channel. */
struct lipc_heard {
    uint64_t next; /* the number of the next one */
    uint32_t peer; /* whom the last one came from */
};

struct lipc_endpoint {
    struct lipc_ring out;
    struct lipc_ring in;
    struct lipc_wakeup wakeup;
    struct lipc_outbox outbox;
    struct lipc_assembly assembly;
    struct lipc_routes routes;
    struct lipc_heard *heard; /* by the channel's number */
    uint32_t heard_count, heard_room;
    int failure;         /* of a topic's event, 0 or -errno */
    uint64_t high_water; /* at most `limit` */
    uint64_t limit;
    uint64_t waits_since; /* lipc_clock when the peer had taken `taken` bytes, and something waited; 0: nothing did */
    uint64_t taken;
    bool late; /* it has had its time to read what waits */
    uint64_t most; /* that a message's body may have */
    struct lipc_mapping mapping;
    pthread_t owner; /* who opened it: no other thread may send */
};

/* send.c. Whether lipc_flush has something to do: there is room for the first message that waits, or a position that
 * it would report. */
bool lipc_can_flush(struct lipc_endpoint *endpoint);

/* One message for several endpoints. */
struct lipc_copies {
    struct lipc_body *body; /* that it waits in where it has to, with the sender as its user; NULL: it waits nowhere */
    bool many; /* nobody is waited for: with 16 readers on 2 cores, the one waited for was mostly not the one that ran */
};

/* send.c, for lipc_topic_send. As lipc_send_parts, for one of several endpoints that are sent the same parts. */
int lipc_send_to(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                 size_t count, int when_full, struct lipc_copies *copies);

#endif
