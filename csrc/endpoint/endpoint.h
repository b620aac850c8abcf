/* SPDX-License-Identifier: MIT
 *
 * One side of a pair, which endpoint.c, send.c and receive.c share. All of it is private to this process, except what
 * the rings and the wakeup point to in the segment.
 */
#ifndef LIPC_ENDPOINT_H
#define LIPC_ENDPOINT_H

#include "endpoint/mapped_slabs.h"
#include "endpoint/outbox.h"
#include "endpoint/views.h"
#include "fast.h"
#include "ring/ring.h"
#include "ring/segment.h"
#include "ring/wakeup.h"

#include <pthread.h>

/* The message that arrives frame by frame in the caller's memory. */
struct lipc_assembly {
    struct lipc_frame first; /* every frame of the message must agree with this one */
    bool wanted;             /* the caller was asked for memory */
    char *memory;            /* the memory that the caller has given */
    uint64_t filled;
    const char *block; /* where the body lies, if it lies in a block: then the message's one frame is still in the ring */
    struct lipc_place place;
};

/* The topics to which events from the peer are relayed. */
struct lipc_routes {
    struct lipc_topic **topics; /* by the channel's number */
    uint32_t count, room;
    uint32_t sender, pid; /* the sender that subscribers see */
    bool stopped;       /* no event is relayed any more */
    uint32_t relayed;   /* events relayed by the last lipc_recv */
    int status;         /* their status: LIPC_FAILED, LIPC_CONGESTED */
};

/* A channel that events come on. */
struct lipc_incoming {
    uint64_t next; /* the sequence number of the next event, if none is missing */
    uint32_t sender; /* the sender of the last event */
    bool views; /* its listeners read large events in place: see lipc_take_view */
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
    struct lipc_mapped_slab **slabs; /* in a renderer */
    uint32_t slab_count;
    struct lipc_ring returns; /* in a renderer: what it writes there, under the lock of `views`. Main's is in lipc_holds. */
    struct lipc_views *views; /* in a renderer; NULL: nothing was read in place yet */
    int socket;              /* in a renderer: see lipc_set_socket; or -1 */
    int failure;         /* of sending a topic's event: 0 or -errno */
    uint64_t high_water; /* at most `limit` */
    uint64_t limit;
    /* lipc_clock when something waited and the peer had taken `taken` bytes; 0 if nothing waited. */
    uint64_t waits_since;
    uint64_t taken;
    bool late; /* the peer has had its time to read what waits */
    uint64_t most; /* the most bytes that a message's body may have */
    struct lipc_mapping mapping;
    pthread_t owner; /* the thread that opened it; no other thread may send */
};

/* In send.c. Called by endpoint.c. Does not block. Returns whether lipc_flush has something to do: there is room for
 * the first message that waits, a bad position to report, or less held than before, for which somebody may wait. */
bool lipc_can_flush(struct lipc_endpoint *endpoint);

/* In send.c. Called by send.c and topic.c, which need room. As lipc_flush, but who waits for room is not told of it: the
 * next lipc_flush does that. */
int64_t lipc_make_room(struct lipc_endpoint *endpoint);

/* Called by endpoint.c and send.c. Does not block. Returns whether so much of what the peer holds of main's slabs is unread
 * that senders should wait. */
static inline bool lipc_is_crowded(const struct lipc_endpoint *endpoint)
{
    return endpoint->outbox.holds && endpoint->outbox.holds->crowded;
}

/* Called by send.c and topic.c. Does not block. Returns the bytes that wait for the peer: see lipc_outbox_bytes. */
static inline uint64_t lipc_unread_bytes(const struct lipc_endpoint *endpoint)
{
    return endpoint->outbox.bytes + (lipc_is_crowded(endpoint) ? endpoint->outbox.holds->unread : 0);
}

/* One message that is sent to several endpoints. */
struct lipc_copies {
    /* The copy that waits in their outboxes, with the sender as one user. NULL if the message waits nowhere. */
    struct lipc_body *body;
    bool many; /* there are many readers: wait for none of them, because on few cores mostly another reader runs */
    uint16_t flags; /* of the message's frames */
    bool lost; /* the message that is being sent was dropped itself */
};

/* In send.c. Called by lipc_topic_send and lipc_send_parts. Sends the parts to one of the endpoints that are sent the
 * same parts. Blocks and returns as lipc_send_parts does, but never waits for room if `copies->many` is set. */
int lipc_send_to(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                 size_t count, int when_full, struct lipc_copies *copies);

/* A body that lies in a block. */
struct lipc_placed {
    struct lipc_block *block; /* NULL: it lies nowhere */
    uint64_t offset; /* from the block's beginning */
    uint64_t size;
};

/* In send.c. Called by lipc_topic_send and lipc_send_in_block. Does not block. Sends the place of a body. The endpoint then
 * holds the block. lipc_may_hold has just allowed it. Returns as lipc_send_parts does. */
int lipc_send_place(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_placed *body,
                    int when_full);

#endif
