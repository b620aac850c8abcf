/* SPDX-License-Identifier: MIT
 *
 * The messages that wait until the ring has room for them, oldest first. Only the endpoint's thread calls these
 * functions.
 */
#ifndef LIPC_OUTBOX_H
#define LIPC_OUTBOX_H

#include "endpoint/account.h"
#include "endpoint/holds.h"
#include "ring/layout.h"
#include "lensipc.h"

/* A message, and how much of it is in the ring. */
struct lipc_outgoing {
    struct lipc_frame frame; /* the fields that all its frames have in common */
    uint64_t sent;           /* bytes of its body that are in the ring */
    const struct lipc_part *part;
    size_t offset; /* the next byte is at this offset in *part */
};

/* A copy of a body, or of its end. The outboxes in which it waits share it. These outboxes belong to one thread, so
 * `users` is not atomic. */
struct lipc_body {
    size_t users; /* waiting messages that share this, and 1 while it is sent */
    uint64_t from; /* the bytes from this offset on have been copied; there is room for all bytes */
    /* The bytes after this struct. message.part of each waiting message points here. */
    struct lipc_part whole;
};

struct lipc_waiting {
    struct lipc_waiting *before, *behind; /* in the order in which they are sent */
    struct lipc_waiting *later;           /* the next one in its channel's queue */
    struct lipc_outgoing message;
    struct lipc_body *body;
};

/* The waiting messages of one channel that may be dropped, oldest first. No byte of them is in the ring. */
struct lipc_queue {
    struct lipc_waiting *oldest, *newest;
};

struct lipc_outbox {
    struct lipc_waiting *head, *tail;
    struct lipc_queue *queues; /* by the channel's number */
    uint32_t queue_count;
    uint64_t bytes; /* the weight of all messages, less the bytes of the first message that are in the ring */
    /* Counts the weight of each message until the message is freed. NULL if there is none. */
    struct lipc_account *account;
    /* What the peer holds of main's slabs. NULL if it was offered none. */
    struct lipc_holds *holds;
};

/* The most bytes that malloc takes in addition to the bytes asked for: its header and rounding. */
#define LIPC_ALLOCATION 24

/* Called by send.c and outbox.c. Does not block. Returns the weight of a waiting message: the memory that it takes. A
 * shared body counts for each message that shares it. */
static inline uint64_t lipc_weight(uint64_t total)
{
    return sizeof(struct lipc_waiting) + LIPC_ALLOCATION + sizeof(struct lipc_body) + LIPC_ALLOCATION + total;
}

/* Called by lipc_endpoint_close. Does not block. Frees all waiting messages. */
void lipc_outbox_clear(struct lipc_outbox *outbox);

/* Called by send.c and outbox.c. Does not block. Copies the next `size` bytes of a message's body to `to`, and steps
 * over them. */
void lipc_outgoing_copy(struct lipc_outgoing *message, char *to, size_t size);

/* Called by send.c. Does not block. Allocates room for a copy of a body of `size` bytes, with the caller as its user.
 * Returns NULL if there is no memory. */
struct lipc_body *lipc_body_create(uint64_t size);

/* Called by each user of a body, in the endpoint's thread. Does not block. Removes one user. The last user frees the
 * body. */
void lipc_body_release(struct lipc_body *body);

/* Called by send.c. Does not block. Makes a queue for a channel below LIPC_CHANNELS, if the channel has none. Returns 0
 * or -ENOMEM. */
int lipc_outbox_make_queue(struct lipc_outbox *outbox, uint32_t channel);

/* Called by send.c. Does not block. Appends a message in `waiting`, which is from malloc. The rest of the message's
 * body is copied to `body`, which has the body's size, unless the rest is there already. If the message may be dropped
 * and no byte of it is in the ring, it joins its channel's queue, which must exist. Cannot fail. */
void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body, bool may_be_dropped);

/* Called by send.c and topic.c. Does not block. Returns whether at least `mark` bytes wait behind the first message, or
 * the account is full without the first message. The first message is not counted, whatever its size. It is on its way,
 * and only messages behind it show that the peer is slow. */
bool lipc_outbox_full(const struct lipc_outbox *outbox, uint64_t mark);

/* Called by lipc_flush. Does not block. Notes that `size` more bytes of the first message's body are in the ring.
 * Removes the message if all of it is there. */
void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size);

/* Called by send.c. Does not block. Drops the oldest message of a channel that may be dropped, in constant time.
 * Returns the message's weight, or 0 if there is none. */
uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel);

#endif
