/* SPDX-License-Identifier: MIT
 *
 * What every message and every wait needs: lensipc._fast has a function of Python's own for each (python/module.c), and cffi
 * binds none of them. The words and rules are those of lensipc.h.
 */
#ifndef LIPC_FAST_H
#define LIPC_FAST_H

#include "lensipc.h"

/* lipc_record.offset of a message that was assembled in the caller's memory. */
#define LIPC_ASSEMBLED 4294967295

/* What lipc_poll returns when the scheduler ran somebody else meanwhile: it is better to sleep. */
#define LIPC_PREEMPTED 2

/* One received message. */
struct lipc_record {
    uint64_t correlation;
    uint64_t size;    /* bytes of the body */
    uint32_t offset;  /* where the body begins in the caller's buffer, or LIPC_ASSEMBLED */
    uint32_t channel;
    uint32_t peer;
    uint32_t pid;
    uint32_t kind;
    uint32_t follows; /* an event of which only the body is new: see lipc_count_gaps */
};

/* ---- endpoint/send.c ---- */

/* Producer. lipc_send_parts of a body in one piece. */
int lipc_send(struct lipc_endpoint *endpoint, const struct lipc_header *header, const char *body, size_t size,
              int when_full);

/* Producer. Moves what waits in the outbox to the ring as far as there is room, and wakes the peer if it is parked.
 * Returns the bytes still waiting, -EBADMSG as lipc_send_parts. */
int64_t lipc_flush(struct lipc_endpoint *endpoint);

/* ---- endpoint/receive.c ---- */

/* Consumer. Copies messages out of the ring, at most `max` of them and `size` bytes of bodies (at least
 * LIPC_INLINE), to `buffer`, each body at an 8-byte boundary, and describes each in `records`; wakes the peer if it
 * waits for room. Returns how many.
 * Events that come before the first message that a call hands out, and that have a topic by lipc_relay, are relayed instead;
 * they count against `max`, too (see lipc_relayed). Those behind that message may depend on it, and wait for the next call; so do
 * those that are left after about 1 ms of relaying.
 * A message of LIPC_INLINE bytes or more, or of several frames, stands apart: it ends the batch before it, and when it
 * is first, 0 is returned with its size in *wanted; lipc_assemble then says where it goes, and it comes as a record of
 * its own with offset LIPC_ASSEMBLED when all of it is there, with at most a ring full of it copied by one call.
 * *wanted is 0 otherwise.
 * -EBADMSG: the peer wrote a position, a header or a length that cannot be; the endpoint is to be closed. */
int lipc_recv(struct lipc_endpoint *endpoint, struct lipc_record *records, uint32_t max, char *buffer, size_t size,
              uint64_t *wanted);

/* Consumer. How many events the last lipc_recv has relayed. *status has LIPC_FAILED and LIPC_CONGESTED of all of them. */
uint32_t lipc_relayed(const struct lipc_endpoint *endpoint, int *status);

/* ---- endpoint/endpoint.c ---- */

/* Consumer, before it sleeps. Returns 1 when this side is parked: from now on the room that a waiting outbox needs
 * wakes it and, if `for_data`, the peer's next frame. Returns 0, not parked, when there is work of that kind already:
 * something for lipc_recv or lipc_flush to do, or to report. */
int lipc_park(struct lipc_endpoint *endpoint, int for_data);

/* Consumer, which is awake for another reason. The peer need not wake it any more. */
void lipc_unpark(struct lipc_endpoint *endpoint);

/* Consumer. Looks for work (as lipc_park defines it) at any of `count` endpoints for at most `nanoseconds`, and yields the
 * processor now and then. Returns 1 when there is some, 0 when there is none, and LIPC_PREEMPTED when a yield took long: then there
 * may be work or not. */
int lipc_poll(struct lipc_endpoint *const *endpoints, size_t count, uint64_t nanoseconds);

#endif
