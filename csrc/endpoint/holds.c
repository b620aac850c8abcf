/* SPDX-License-Identifier: MIT
 *
 * Main's record of what a renderer holds, and the ring by which the renderer returns it.
 *
 * Main reads the returns when it needs room, and sleeps for them only while the renderer is crowded: as a producer does
 * with a ring's read position. So a return is no message. It costs main no wake, and a renderer whose messages stay in
 * its ring for a while can still return blocks.
 */
#include "endpoint/holds.h"

#include "endpoint/endpoint.h"

#include <errno.h>
#include <stdlib.h>

static struct lipc_offer *find_offer(struct lipc_holds *holds, uint32_t slab)
{
    for (uint32_t i = 0; i < holds->offer_count; i++)
        if (holds->offers[i].slab == slab)
            return &holds->offers[i];
    return NULL;
}

bool lipc_lacks_offer(const struct lipc_holds *holds, uint32_t slab)
{
    for (uint32_t i = 0; i < holds->offer_count; i++)
        if (holds->offers[i].slab == slab)
            return false;
    return holds->offer_count < LIPC_OFFERS;
}

uint64_t lipc_share(const struct lipc_holds *holds, const struct lipc_slabs *slabs)
{
    uint64_t marks = LIPC_SHARE * holds->high_water, part = slabs->most / LIPC_SHARE_OF_MOST;
    return marks > part ? marks : part;
}

bool lipc_share_allows(const struct lipc_holds *holds, const struct lipc_slabs *slabs, uint64_t size)
{
    return !holds->bytes || holds->bytes + size <= lipc_share(holds, slabs);
}

bool lipc_may_hold(const struct lipc_holds *holds, const struct lipc_block *block, uint64_t unread)
{
    if (holds->count == LIPC_HOLDS || (holds->unread && holds->unread + block->size > unread) ||
        !lipc_share_allows(holds, block->slab->owner, block->size))
        return false;
    for (uint32_t i = 0; i < holds->offer_count; i++)
        if (holds->offers[i].slab == block->slab->number)
            return holds->offers[i].mapped;
    return false;
}

/* Returns the id of a new hold. There is a free slot. */
static uint64_t begin(struct lipc_holds *holds, struct lipc_block *block, uint32_t slab)
{
    do
        holds->last++;
    while (holds->slots[holds->last % LIPC_HOLDS].id);
    holds->slots[holds->last % LIPC_HOLDS] = (struct lipc_hold){.id = holds->last, .block = block, .slab = slab};
    holds->count++;
    return holds->last;
}

uint64_t lipc_hold_begin(struct lipc_holds *holds, struct lipc_block *block)
{
    block->holders++;
    holds->bytes += block->size;
    holds->unread += block->size;
    holds->crowded |= holds->unread > LIPC_SHARE / 2 * holds->high_water;
    return begin(holds, block, block->slab->number);
}

/* The renderer has heard an event in a block of so many bytes, or will never hear it. */
static void is_heard(struct lipc_holds *holds, uint64_t size)
{
    holds->unread -= size;
    holds->heard += size;
    if (holds->crowded && holds->unread <= LIPC_SHARE / 4 * holds->high_water) {
        holds->crowded = false;
        holds->eased = true;
    }
}

/* The renderer has heard the event of a hold, and keeps views of it. Returns false if there is no such hold. */
static bool view(struct lipc_holds *holds, uint64_t id)
{
    struct lipc_hold *slot = &holds->slots[id % LIPC_HOLDS];
    if (slot->id != id || !slot->block || slot->viewed)
        return false;
    slot->viewed = true;
    is_heard(holds, slot->block->size);
    return true;
}

bool lipc_hold_end(struct lipc_holds *holds, uint64_t id)
{
    struct lipc_hold *slot = &holds->slots[id % LIPC_HOLDS], hold = *slot;
    if (id == 0 || hold.id != id)
        return false;
    *slot = (struct lipc_hold){0};
    holds->count--;
    if (hold.block) {
        holds->bytes -= hold.block->size;
        if (!hold.viewed)
            is_heard(holds, hold.block->size);
        lipc_block_give(hold.block);
    } else {
        struct lipc_offer *offer = find_offer(holds, hold.slab);
        if (offer && offer->hold == id)
            offer->mapped = true;
    }
    return true;
}

int lipc_holds_collect(struct lipc_holds *holds)
{
    struct lipc_frame frame;
    const char *body; /* is not read */
    int got;
    while ((got = lipc_ring_peek(&holds->returns, &frame, &body)) > 0) {
        if (lipc_frame_bytes(frame.size) != LIPC_RETURN_BYTES)
            return -EBADMSG;
        if (!(frame.kind == LIPC_VIEWED ? view : lipc_hold_end)(holds, frame.correlation))
            return -EBADMSG;
        lipc_ring_take(&holds->returns, &frame);
        lipc_ring_release(&holds->returns);
    }
    return got;
}

void lipc_holds_free(struct lipc_holds *holds)
{
    for (uint32_t i = 0; holds && i < LIPC_HOLDS; i++)
        if (holds->slots[i].block)
            lipc_block_give(holds->slots[i].block);
    free(holds);
}

void lipc_leave_holds(struct lipc_endpoint *endpoint, struct lipc_holds **left)
{
    struct lipc_holds *holds = endpoint->outbox.holds;
    if (*left || !holds)
        return;
    lipc_outbox_clear(&endpoint->outbox); /* what the renderer never gets it does not hold */
    (void)lipc_holds_collect(holds);      /* nonsense that it has returned ends no hold */
    if (!holds->bytes)
        return;
    endpoint->outbox.holds = NULL;
    *left = holds;
}

void lipc_end_holds(struct lipc_holds **left)
{
    lipc_holds_free(*left);
    *left = NULL;
}

uint64_t lipc_holds_bytes(const struct lipc_holds *holds)
{
    return holds ? holds->bytes : 0;
}

uint64_t lipc_holds_time(const struct lipc_holds *holds)
{
    uint64_t longest = 0, now = lipc_clock();
    for (uint32_t i = 0; holds && i < LIPC_HOLDS; i++)
        if (holds->slots[i].block && now - holds->slots[i].block->since > longest)
            longest = now - holds->slots[i].block->since;
    return longest;
}

int64_t lipc_offer_slab(struct lipc_endpoint *endpoint, uint32_t slab)
{
    struct lipc_holds *holds = endpoint->outbox.holds;
    if (!holds) {
        holds = calloc(1, sizeof *holds);
        if (!holds)
            return -ENOMEM;
        struct lipc_segment *segment = endpoint->mapping.segment;
        lipc_ring_init(&holds->returns, &segment->returns, segment->returned, LIPC_RETURNS);
        holds->high_water = endpoint->high_water < UINT32_MAX ? endpoint->high_water : UINT32_MAX;
        endpoint->outbox.holds = holds;
    }
    if (find_offer(holds, slab))
        return -EINVAL;
    if (holds->offer_count == LIPC_OFFERS || holds->count == LIPC_HOLDS)
        return -ENOBUFS;
    uint64_t hold = begin(holds, NULL, slab);
    holds->offers[holds->offer_count++] = (struct lipc_offer){.slab = slab, .hold = hold};
    return (int64_t)hold;
}

void lipc_withdraw_slab(struct lipc_endpoint *endpoint, uint32_t slab, uint64_t unsent)
{
    struct lipc_holds *holds = endpoint->outbox.holds;
    struct lipc_offer *offer = holds ? find_offer(holds, slab) : NULL;
    if (offer)
        *offer = holds->offers[--holds->offer_count];
    if (holds && unsent)
        (void)lipc_hold_end(holds, unsent);
}

int lipc_collect(struct lipc_endpoint *endpoint)
{
    return endpoint->outbox.holds ? lipc_holds_collect(endpoint->outbox.holds) : 0;
}

uint64_t lipc_held_bytes(const struct lipc_endpoint *endpoint)
{
    return lipc_holds_bytes(endpoint->outbox.holds);
}

uint64_t lipc_by_ring(const struct lipc_endpoint *endpoint)
{
    return endpoint->outbox.holds ? endpoint->outbox.holds->by_ring : 0;
}

uint64_t lipc_held_time(const struct lipc_endpoint *endpoint)
{
    return lipc_holds_time(endpoint->outbox.holds);
}
