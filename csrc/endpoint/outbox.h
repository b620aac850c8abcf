/* SPDX-License-Identifier: MIT
 *
 * Messages on their way into a ring, and those of them that wait until it has room, oldest first.
 */
#ifndef LIPC_OUTBOX_H
#define LIPC_OUTBOX_H

#include "endpoint/account.h"
#include "ring/layout.h"
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
    struct lipc_waiting *before, *behind; /* in the order that they are sent in */
    struct lipc_waiting *later;           /* the next one in its channel's queue */
    struct lipc_outgoing message;
    struct lipc_body *body;
};

/* What waits of a channel and may be dropped, oldest first: no byte of it is in the ring. */
struct lipc_queue {
    struct lipc_waiting *oldest, *newest;
};

struct lipc_outbox {
    struct lipc_waiting *head, *tail;
    struct lipc_queue *queues; /* by the channel's number */
    uint32_t queue_count;
    uint64_t bytes; /* the weight of what waits, less what of the first message is in the ring */
    struct lipc_account *account; /* that counts the weight of what waits until it is freed; NULL: none does */
};

/* What malloc takes beyond what it is asked for, at most: its header, and what it rounds up by. */
#define LIPC_ALLOCATION 24

/* What a message weighs that waits: the memory that it takes. A body that waits for several counts for each. */
static inline uint64_t lipc_weight(uint64_t total)
{
    return sizeof(struct lipc_waiting) + LIPC_ALLOCATION + sizeof(struct lipc_body) + LIPC_ALLOCATION + total;
}

/* Frees all that waits. */
void lipc_outbox_clear(struct lipc_outbox *outbox);

/* Copies the next `size` bytes of a message's body, and steps over them. */
void lipc_outgoing_copy(struct lipc_outgoing *message, char *to, size_t size);

/* Room for a body of `size` bytes to wait in, with the caller as its user; NULL: no memory. */
struct lipc_body *lipc_body_create(uint64_t size);

/* One user fewer: the last one frees it. */
void lipc_body_release(struct lipc_body *body);

/* Makes a queue for a channel below LIPC_CHANNELS, if it has none. 0, -ENOMEM. */
int lipc_outbox_make_queue(struct lipc_outbox *outbox, uint32_t channel);

/* Lets what is left of a message's body wait in `waiting`, from malloc, last: in `body`, which is of its size. What is
 * not there yet of what is left is copied. One that may be dropped, and of which no byte is in the ring, joins its
 * channel's queue, which has been made. Cannot fail. */
void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body, bool may_be_dropped);

/* Whether `mark` bytes wait behind the first message, or the account is full without it. That one is on its way, however
 * large it is: what waits behind it tells whether the peer is too slow. */
bool lipc_outbox_full(const struct lipc_outbox *outbox, uint64_t mark);

/* The first message has just sent `size` bytes of its body; removes it when that was all. */
void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size);

/* Gives up the oldest of a channel that may be dropped, in the same time however much waits. Returns the bytes that no
 * longer wait, 0 when there is none. */
uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel);

#endif
