/* SPDX-License-Identifier: MIT
 *
 * The messages that wait until the ring has room for them, oldest first.
 */
#ifndef LIPC_OUTBOX_H
#define LIPC_OUTBOX_H

#include "endpoint/account.h"
#include "ring/layout.h"
#include "lensipc.h"

/* A message, and how much of it is in the ring. */
struct lipc_outgoing {
    struct lipc_frame frame; /* the fields that its frames have in common */
    uint64_t sent;           /* bytes of its body in the ring */
    const struct lipc_part *part;
    size_t offset; /* the next byte is at this offset in *part */
};

/* A copy of a body, or of its end. The outboxes that it waits in share it. Only main's thread counts users. */
struct lipc_body {
    size_t users; /* waiting messages that share this, and 1 while it is sent */
    uint64_t from; /* the bytes from this offset on have been copied; there is room for all of them */
    struct lipc_part whole; /* the bytes after this struct: message.part of each waiting message points here */
};

struct lipc_waiting {
    struct lipc_waiting *before, *behind; /* in the order that they are sent in */
    struct lipc_waiting *later;           /* the next one in its channel's queue */
    struct lipc_outgoing message;
    struct lipc_body *body;
};

/* The waiting messages of a channel that may be dropped, oldest first. The ring has no byte of them yet. */
struct lipc_queue {
    struct lipc_waiting *oldest, *newest;
};

struct lipc_outbox {
    struct lipc_waiting *head, *tail;
    struct lipc_queue *queues; /* by the channel's number */
    uint32_t queue_count;
    uint64_t bytes; /* the weight of all messages, less the bytes of the first in the ring */
    struct lipc_account *account; /* counts the weight of each message until it is freed; NULL: none */
};

/* At most this many bytes malloc takes besides those asked for: header and rounding. */
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

/* Removes one user. The last frees it. */
void lipc_body_release(struct lipc_body *body);

/* Makes a queue for a channel below LIPC_CHANNELS, if it has none. 0, -ENOMEM. */
int lipc_outbox_make_queue(struct lipc_outbox *outbox, uint32_t channel);

/* Appends a message in `waiting`, which is from malloc. The rest of its body is copied to `body`, which has its size, unless it
 * is there already. A message that may be dropped joins its channel's queue, which must exist, if the ring has no byte of it.
 * Cannot fail. */
void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body, bool may_be_dropped);

/* Whether at least `mark` bytes wait behind the first message, or the account is full without it. A first message of any size
 * is not counted. It is on its way, and only messages behind it show that the peer is slow. */
bool lipc_outbox_full(const struct lipc_outbox *outbox, uint64_t mark);

/* The first message has just sent `size` bytes of its body; removes it when that was all. */
void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size);

/* Drops the oldest message of a channel that may be dropped, in constant time. Returns its weight, 0 when there is none. */
uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel);

#endif
