/* SPDX-License-Identifier: MIT
 *
 * The functions that every message and every wait needs. lensipc._fast has a Python function for each of them
 * (python/module.c), and cffi binds none of them. The words and rules of lensipc.h apply here.
 */
#ifndef LIPC_FAST_H
#define LIPC_FAST_H

#include "lensipc.h"

/* lipc_record.offset of a message that was assembled in the caller's memory. */
#define LIPC_ASSEMBLED 4294967295

/* What lipc_busy_poll returns if the scheduler ran another thread in the meantime. Then it is better to sleep. */
#define LIPC_PREEMPTED 2

/* One received message. */
struct lipc_record {
    uint64_t correlation;
    uint64_t size;    /* bytes of the body */
    uint32_t offset;  /* where the body begins in the caller's buffer, or LIPC_ASSEMBLED */
    uint32_t channel;
    uint32_t detail;
    uint32_t pid;
    uint32_t kind;
    uint32_t follows; /* only the body of this event is new: see lipc_count_gaps */
};

/* ---- endpoint/send.c ---- */

/* Called by the producer. Sends a message whose body is in one piece. Blocks, fails and returns as lipc_send_parts
 * does. */
int lipc_send(struct lipc_endpoint *endpoint, const struct lipc_header *header, const char *body, size_t size,
              int when_full);

/* Called by the producer. Does not block. Moves what waits in the outbox to the ring as far as there is room, and wakes
 * the peer if the peer is parked. Returns the number of bytes that still wait, or -EBADMSG as lipc_send_parts does. */
int64_t lipc_flush(struct lipc_endpoint *endpoint);

/* Called by the producer. Does not block. Returns whether something waits for the peer, or did, and lipc_flush has not
 * said yet that it does no more. */
int lipc_should_flush(const struct lipc_endpoint *endpoint);

/* ---- endpoint/receive.c ---- */

/* Called by the consumer. Does not block. Copies at most `max` messages out of the ring, with at most `size` bytes of
 * bodies, to `buffer`. Each body begins at an 8-byte boundary, and `records` describes each message. `size` is at least
 * LIPC_INLINE. Wakes the peer if the peer waits for room. Returns the number of messages.
 * An event that has a topic by lipc_relay is relayed, and is not handed out. Relayed events count against `max`, too
 * (see lipc_relayed). Once a call has handed out a message, it relays no more events, because they may depend on that
 * message: they wait for the next call. A call also stops after about 1 ms of relaying.
 * A message of LIPC_INLINE bytes or more, or of several frames, is large and comes alone. It ends the batch before it.
 * If it is first, this returns 0 with the message's size in *wanted. lipc_assemble then gives the memory for it. The
 * message comes as a record of its own, with the offset LIPC_ASSEMBLED, when all of it is there. One call copies at
 * most a ring full of it. In all other cases *wanted is 0.
 * -EBADMSG: the peer wrote an impossible position, header or length, and the endpoint must be closed. -EINVAL: `max` or
 * `size`. */
int lipc_recv(struct lipc_endpoint *endpoint, struct lipc_record *records, uint32_t max, char *buffer, size_t size,
              uint64_t *wanted);

/* Called by the consumer. Does not block. Returns how many events the last lipc_recv has relayed. *status gets
 * LIPC_FAILED and LIPC_CONGESTED of all of them. */
uint32_t lipc_relayed(const struct lipc_endpoint *endpoint, int *status);

/* ---- endpoint/endpoint.c ---- */

/* Called by the consumer before it sleeps. Does not block. Returns 1 if this side is now parked. Then the peer wakes it
 * when there is room for the outbox and, if `for_data` is set, when there is a new frame. Returns 0 if this side is not
 * parked, because there is work of that kind already: lipc_recv or lipc_flush has something to do or to report. */
int lipc_park(struct lipc_endpoint *endpoint, int for_data);

/* Called by the consumer when it is awake for another reason. Does not block. The peer need not wake this side any
 * more. */
void lipc_unpark(struct lipc_endpoint *endpoint);

/* Called by the consumer. Blocks for at most `nanoseconds`, without sleeping: looks for work (see lipc_park) at any of
 * `count` endpoints, and yields the processor now and then. Returns 1 if there is work and 0 if there is none. Returns
 * LIPC_PREEMPTED if a yield took long: there may be work or not. */
int lipc_busy_poll(struct lipc_endpoint *const *endpoints, size_t count, uint64_t nanoseconds);

#endif
