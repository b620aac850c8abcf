/* SPDX-License-Identifier: MIT
 *
 * Messages on their way into a ring: those that wait until it has room, oldest first.
 */
#ifndef LIPC_OUTBOX_H
#define LIPC_OUTBOX_H

#include "endpoint/account.h"
#include "ring/layout.h"
#include "lensipc.h"

/* A message, and how much of it is in the ring. */
struct lipc_outgoing {
    struct lipc_frame frame; /* the fields that its frames have in common */
    uint64_t sent;           /* bytes of the body that are in the ring */
    const struct lipc_part *part;
    size_t offset; /* the next byte is at this offset in *part */
};

/* A copy of a body, or of its end, for all the outboxes that it waits in. Main's thread alone counts its users. */
struct lipc_body {
    size_t users; /* waiting messages that share it, and the sender while it sends */
    uint64_t from; /* the bytes from this offset on have been copied; there is room for all of them */
    struct lipc_part whole; /* the bytes after this struct: message.part of each waiting message points here */
};

struct lipc_waiting {
    struct lipc_waiting *before, *behind; /* in the order that they are sent in */
    struct lipc_waiting *later;           /* the next one in its channel's queue */
    struct lipc_outgoing message;
    struct lipc_body *body;
};

/* The waiting messages of a channel that may be dropped, oldest first: no byte of any of them is in the ring. */
struct lipc_queue {
    struct lipc_waiting *oldest, *newest;
};

struct lipc_outbox {
    struct lipc_waiting *head, *tail;
    struct lipc_queue *queues; /* by the channel's number */
    uint32_t queue_count;
    uint64_t bytes; /* the weight of what waits, less what of the first message is in the ring */
    struct lipc_account *account; /* it counts the weight of each message until that is freed; NULL: there is none */
};

/* Bytes that malloc takes at most beyond what it is asked for: its header and the rounding up. */
#define LIPC_ALLOCATION 24

/* The weight of a waiting message: the memory that it takes. A shared body counts for each of its users. */
static inline uint64_t lipc_weight(uint64_t total)
{
    return sizeof(struct lipc_waiting) + LIPC_ALLOCATION + sizeof(struct lipc_body) + LIPC_ALLOCATION + total;
}

/* Frees all waiting messages. */
void lipc_outbox_clear(struct lipc_outbox *outbox);

/* Copies the next `size` bytes of a message's body, and steps over them. */
void lipc_outgoing_copy(struct lipc_outgoing *message, char *to, size_t size);

/* Makes room for a copy of a body of `size` bytes, with the caller as its user; NULL: no memory. */
struct lipc_body *lipc_body_create(uint64_t size);

/* One user fewer: the last one frees it. */
void lipc_body_release(struct lipc_body *body);

/* Makes a queue for a channel below LIPC_CHANNELS, if it has none. 0, -ENOMEM. */
int lipc_outbox_make_queue(struct lipc_outbox *outbox, uint32_t channel);

/* Appends a message in `waiting`, which is from malloc. What is left of its body is copied to `body`, which has its size, unless it
 * is there already. A message that may be dropped, and of which no byte is in the ring, joins its channel's queue, which has been
 * made. Cannot fail. */
void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body, bool may_be_dropped);

/* Whether at least `mark` bytes wait behind the first message, or the account is full without it. The first message is not
 * counted, however large it is: it is on its way, and only what waits behind it shows that the peer is too slow. */
bool lipc_outbox_full(const struct lipc_outbox *outbox, uint64_t mark);

/* The first message has just sent `size` bytes of its body; removes it when that was all. */
void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size);

/* Drops the oldest message of a channel that may be dropped, in constant time. Returns its weight, 0 when there is none. */
uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel);

#endif
