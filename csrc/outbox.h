/* SPDX-License-Identifier: MIT
 *
 * Messages on their way into a ring, and those of them that wait until it has room, oldest first.
 */
#ifndef LIPC_OUTBOX_H
#define LIPC_OUTBOX_H

#include "layout.h"
#include "lensipc.h"

/* A message, and how much of it is in the ring. */
struct lipc_outgoing {
    struct lipc_frame frame; /* what its frames have in common */
    uint64_t sent;           /* bytes of the body that are in the ring */
    const struct lipc_part *part;
    size_t offset; /* the next byte is at this offset in *part */
};

/* A copy of a body, or of its end, for all the outboxes that it waits in. Main's thread alone counts its users. */
struct lipc_body {
    size_t users; /* messages that wait with it, and the sender while it sends */
    uint64_t from; /* the bytes from here on have been copied; all of them have their place */
    struct lipc_part whole; /* what message.part of those that wait points to: the bytes after this struct */
};

struct lipc_waiting {
    struct lipc_waiting *next;
    struct lipc_outgoing message;
    struct lipc_body *body;
};

struct lipc_outbox {
    struct lipc_waiting *head;
    struct lipc_waiting **tail; /* where the next one is linked in */
    uint64_t bytes;             /* of bodies not in the ring yet, and a header for each message */
    struct lipc_waiting **sought; /* before this one there is none that may be dropped for `channel` */
    uint32_t channel;
};

void lipc_outbox_init(struct lipc_outbox *outbox);

/* Frees all that waits. */
void lipc_outbox_clear(struct lipc_outbox *outbox);

/* Copies the next `size` bytes of a message's body, and steps over them. */
void lipc_outgoing_copy(struct lipc_outgoing *message, char *to, size_t size);

/* Room for a body of `size` bytes to wait in, with the caller as its user; NULL: no memory. */
struct lipc_body *lipc_body_create(uint64_t size);

/* One user fewer: the last one frees it. */
void lipc_body_release(struct lipc_body *body);

/* Lets what is left of a message's body wait in `waiting`, from malloc, last: in `body`, which is of its size. What is
 * not there yet of what is left is copied. Cannot fail. */
void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body);

/* Bytes that wait behind the first message. That one is on its way, however large it is: what waits behind it tells
 * whether the peer is too slow. */
uint64_t lipc_outbox_behind(const struct lipc_outbox *outbox);

/* The first message has just sent `size` bytes of its body; removes it when that was all. */
void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size);

/* Gives up the oldest event of a channel of which no byte is in the ring. Returns the bytes that no longer wait,
 * 0 when there is no such message. */
uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel);

#endif
