/* SPDX-License-Identifier: MIT
 *
 * What one renderer holds of main's slabs. This is main's private knowledge: a renderer can only name a hold of its own
 * and give it back.
 *
 * A hold begins when main sends a block's place. It ends when the renderer returns it, when the message is dropped from
 * the outbox, or when the renderer has ended. If main closes its endpoint before that, the renderer may still read: then
 * its holds outlive the endpoint (lipc_leave_holds). A slab that was offered to the renderer is a hold, too: the renderer
 * returns that one when it has mapped the slab. No hold's id is used again.
 */
#ifndef LIPC_HOLDS_H
#define LIPC_HOLDS_H

#include "endpoint/slabs.h"
#include "ring/ring.h"

/* A renderer holds no more bytes of blocks than its share: this many high-water marks, or this part of the largest body
 * that goes into a block, whichever is more; except that any one block may be held. What is more goes through the ring. */
#define LIPC_SHARE 8
#define LIPC_SHARE_OF_MOST 2

/* Slabs that one renderer may have. */
#define LIPC_OFFERS 32

struct lipc_hold {
    uint64_t id; /* 0: no hold */
    struct lipc_block *block; /* NULL: the hold of an offer */
    uint32_t slab;
    bool viewed; /* the renderer has heard the event, and keeps views of it */
};

struct lipc_offer {
    uint32_t slab;
    uint64_t hold; /* of this offer: an earlier one of the same slab may be returned late */
    bool mapped; /* the renderer has said that it has mapped it */
};

struct lipc_holds {
    struct lipc_hold slots[LIPC_HOLDS]; /* that of id x is x % LIPC_HOLDS */
    struct lipc_offer offers[LIPC_OFFERS];
    struct lipc_ring returns;
    uint64_t last;     /* the last id, without its slot */
    uint64_t high_water;
    uint64_t bytes;  /* of the blocks that are held */
    uint64_t unread; /* of those that are not only viewed */
    uint64_t heard;  /* bytes of all blocks that were unread and are not any more */
    uint64_t by_ring; /* how many bodies went through the ring that a block could have had */
    uint32_t count, offer_count;
    bool crowded; /* so many bytes are unread that senders should wait */
    bool eased;   /* no more, and who waits has not been told: until the next lipc_flush */
};

/* Called by send.c. Does not block. Returns the id of a new hold, with the renderer as a further holder of the block.
 * lipc_may_hold has just allowed it. */
uint64_t lipc_hold_begin(struct lipc_holds *holds, struct lipc_block *block);

/* Called by send.c, outbox.c and for a return. Does not block. Ends a hold. Returns false if there is none with this
 * id. */
bool lipc_hold_end(struct lipc_holds *holds, uint64_t id);

/* Called by main, when it needs room. Does not block. Ends the holds that the renderer has returned. Returns 0, or
 * -EBADMSG if the renderer has returned what it does not hold. */
int lipc_holds_collect(struct lipc_holds *holds);

/* Called by topic.c and send.c. Does not block. Returns the share of a renderer of these slabs, in bytes. */
uint64_t lipc_share(const struct lipc_holds *holds, const struct lipc_slabs *slabs);

/* Called by send.c. Does not block. Returns whether the renderer's share has room for so many bytes. */
bool lipc_share_allows(const struct lipc_holds *holds, const struct lipc_slabs *slabs, uint64_t size);

/* Called by topic.c and send.c. Does not block. Returns whether the renderer may hold this block, with at most `unread`
 * bytes unread, and with at most its share. */
bool lipc_may_hold(const struct lipc_holds *holds, const struct lipc_block *block, uint64_t share);

/* Called by topic.c and send.c. Does not block. Returns whether this slab was not offered to the renderer, and could be. */
bool lipc_lacks_offer(const struct lipc_holds *holds, uint32_t slab);

/* Called by lipc_endpoint_close. Ends all holds and frees them. NULL is allowed. */
void lipc_holds_free(struct lipc_holds *holds);

#endif
