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

/* The topics that events from the peer are relayed to. */
struct lipc_routes {
    struct lipc_topic **topics; /* by the channel's number */
    uint32_t count, room;
    uint32_t peer, pid; /* the sender that subscribers are shown */
    bool stopped;       /* nothing is relayed any more */
    uint32_t relayed;   /* by the last lipc_recv */
    int status;         /* of relaying these */
};

/* A channel that events come on. */
struct lipc_incoming {
    uint64_t next; /* the sequence number of the next event, if none is missing */
    uint32_t peer; /* the sender of the last one */
};

struct lipc_endpoint {
    struct lipc_ring out;
    struct lipc_ring in;
    struct lipc_wakeup wakeup;
    struct lipc_outbox outbox;
    struct lipc_assembly assembly;
    struct lipc_routes routes;
    struct lipc_incoming *incoming; /* by the channel's number: see lipc_count_gaps */
    uint32_t incoming_count, incoming_room;
    int failure;         /* of a topic's event, 0 or -errno */
    uint64_t high_water; /* at most `limit` */
    uint64_t limit;
    uint64_t waits_since; /* lipc_clock when the peer had taken `taken` bytes, and something waited; 0: nothing did */
    uint64_t taken;
    bool late; /* the peer has had its time to read what waits */
    uint64_t most; /* that a message's body may have */
    struct lipc_mapping mapping;
    pthread_t owner; /* who opened it: no other thread may send */
};

/* send.c. Whether lipc_flush has something to do: there is room for the first message that waits, or a position that
 * it would report. */
bool lipc_can_flush(struct lipc_endpoint *endpoint);

/* One message that is sent to several endpoints. */
struct lipc_copies {
    struct lipc_body *body; /* the copy that waits in their outboxes, with the sender as a user; NULL: it waits nowhere */
    bool many; /* then no reader is waited for: of many readers on few cores, mostly another one runs */
};

/* send.c, for lipc_topic_send. As lipc_send_parts, for one of several endpoints that are sent the same parts. */
int lipc_send_to(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                 size_t count, int when_full, struct lipc_copies *copies);

#endif
