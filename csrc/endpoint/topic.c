/* SPDX-License-Identifier: MIT
 *
 * Sends one event to all subscribers. All subscribers receive a topic's events in the order of these calls.
 */
#include "endpoint/topic.h"

#include "endpoint/endpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lipc_topic *lipc_topic_create(void)
{
    struct lipc_topic *topic = calloc(1, sizeof *topic);
    if (topic)
        topic->owner = pthread_self();
    return topic;
}

void lipc_topic_free(struct lipc_topic *topic)
{
    if (topic) {
        free(topic->subscriptions);
        lipc_slabs_release(topic->slabs);
    }
    free(topic);
}

void lipc_topic_use_slabs(struct lipc_topic *topic, struct lipc_slabs *slabs)
{
    lipc_slabs_retain(slabs);
    lipc_slabs_release(topic->slabs);
    topic->slabs = slabs;
}

int lipc_topic_add(struct lipc_topic *topic, struct lipc_endpoint *endpoint, uint32_t number, int when_full,
                   uint64_t sequence)
{
    if (topic->count == topic->room) {
        size_t room = topic->room ? 2 * topic->room : 4;
        struct lipc_subscription *larger = realloc(topic->subscriptions, room * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        topic->subscriptions = larger;
        topic->room = room;
    }
    topic->subscriptions[topic->count++] =
        (struct lipc_subscription){.endpoint = endpoint, .sequence = sequence, .number = number, .when_full = when_full};
    return 0;
}

uint64_t lipc_topic_remove(struct lipc_topic *topic, const struct lipc_endpoint *endpoint)
{
    for (size_t i = 0; i < topic->count; i++)
        if (topic->subscriptions[i].endpoint == endpoint) {
            uint64_t sequence = topic->subscriptions[i].sequence;
            topic->viewers -= topic->subscriptions[i].views;
            topic->count--;
            /* Keeps the order: the first subscriber is the first to be sent an event. */
            memmove(&topic->subscriptions[i], &topic->subscriptions[i + 1],
                    (topic->count - i) * sizeof topic->subscriptions[0]);
            return sequence;
        }
    return 0;
}

void lipc_topic_view(struct lipc_topic *topic, const struct lipc_endpoint *endpoint, int views)
{
    for (size_t i = 0; i < topic->count; i++)
        if (topic->subscriptions[i].endpoint == endpoint) {
            topic->viewers -= topic->subscriptions[i].views;
            topic->subscriptions[i].views = views != 0;
            topic->viewers += topic->subscriptions[i].views;
        }
}

size_t lipc_topic_count(const struct lipc_topic *topic)
{
    return topic->count;
}

void lipc_topic_main_listens(struct lipc_topic *topic, int listens)
{
    topic->main_listens = listens != 0;
}

/* A reader has this long to read high_water bytes of what waits. */
#define TIME_TO_READ_NS 1000000000

/* Whether a reader has had its time to read what waits. If its outbox is still full then, the reader has failed. */
static bool has_had_its_time(const struct lipc_endpoint *endpoint, uint64_t now)
{
    return endpoint->late || (endpoint->waits_since && now - endpoint->waits_since >= TIME_TO_READ_NS);
}

/* Whether an outbox is full of messages that its reader has had no time to read yet. */
static bool is_full_too_soon(struct lipc_endpoint *endpoint, int when_full)
{
    if (!endpoint->outbox.head) {
        endpoint->waits_since = 0;
        return false;
    }
    uint64_t taken = lipc_bytes_taken(endpoint), now = lipc_clock();
    if (!endpoint->waits_since || taken - endpoint->taken >= endpoint->high_water) {
        endpoint->waits_since = now;
        endpoint->taken = taken;
    }
    if (when_full != LIPC_REFUSE || has_had_its_time(endpoint, now))
        return false;
    return lipc_outbox_full(&endpoint->outbox, endpoint->limit) && lipc_make_room(endpoint) >= 0 &&
           lipc_outbox_full(&endpoint->outbox, endpoint->limit);
}

/* How many bytes of these slabs a subscriber may leave unread, beyond one event. A channel whose events may be dropped does not fill with old
 * ones: there no more is held than would wait in the outbox, which is one event where the newest alone waits. */
static uint64_t most_unread(const struct lipc_subscription *subscription, const struct lipc_slabs *slabs)
{
    const struct lipc_holds *holds = subscription->endpoint->outbox.holds;
    if (subscription->when_full == LIPC_REFUSE)
        return lipc_share(holds, slabs);
    return subscription->when_full == LIPC_KEEP_NEWEST ? 0 : holds->high_water;
}

/* Whether a subscriber may hold this block. */
static bool may_hold(const struct lipc_subscription *subscription, const struct lipc_block *block)
{
    struct lipc_endpoint *endpoint = subscription->endpoint;
    struct lipc_holds *holds = endpoint->outbox.holds;
    if (endpoint->failure || !holds)
        return false;
    uint64_t unread = most_unread(subscription, block->slab->owner);
    if (lipc_may_hold(holds, block, unread))
        return true;
    int collected = lipc_holds_collect(holds);
    if (collected < 0)
        endpoint->failure = collected;
    return collected == 0 && lipc_may_hold(holds, block, unread);
}

/* Takes a block from the topic's slabs, if need be after the subscribers' returns were collected. */
static struct lipc_block *take_block(const struct lipc_topic *topic, uint64_t size)
{
    struct lipc_block *block = lipc_block_take(topic->slabs, size);
    for (size_t i = 0; !block && i < topic->count; i++) {
        struct lipc_endpoint *endpoint = topic->subscriptions[i].endpoint;
        int collected = endpoint->failure ? 0 : lipc_collect(endpoint);
        if (collected < 0)
            endpoint->failure = collected;
    }
    if (!block)
        block = lipc_block_take(topic->slabs, size);
    if (!block && size > topic->slabs->wanted)
        topic->slabs->wanted = size;
    return block;
}

/* How many subscribers may hold a block. */
struct readers {
    size_t all, viewers;
};

static struct readers count_readers(const struct lipc_topic *topic, const struct lipc_block *block, int *status)
{
    struct readers readers = {0};
    for (size_t i = 0; i < topic->count; i++) {
        const struct lipc_holds *holds = topic->subscriptions[i].endpoint->outbox.holds;
        if (!holds || lipc_lacks_offer(holds, block->slab->number))
            *status |= LIPC_WANTS_SLAB;
        if (may_hold(&topic->subscriptions[i], block)) {
            readers.all++;
            readers.viewers += topic->subscriptions[i].views;
        }
    }
    return readers;
}

/* Copies a large event into a block, if at least two subscribers may hold it, or one that reads in place: to one that
 * copies, the ring is quicker. Returns the block with the caller as a holder, or NULL: the event goes through the rings. */
static struct lipc_block *fill_block(const struct lipc_topic *topic, const struct lipc_part *parts, size_t count,
                                     uint64_t size, int *status)
{
    struct lipc_block *block = take_block(topic, size);
    if (!block) {
        *status |= LIPC_WANTS_SLAB;
        return NULL;
    }
    const struct readers readers = count_readers(topic, block, status);
    if (readers.all < 2 && !readers.viewers) {
        lipc_block_give(block);
        return NULL;
    }
    lipc_join(parts, count, lipc_block_memory(block));
    return block;
}

/* Has an event lie where its last part, the array of a loan, lies already, if a subscriber may hold that block. If not, the
 * event is sent as any other. */
static struct lipc_placed place_loan(const struct lipc_topic *topic, const struct lipc_loan *loan,
                                     const struct lipc_part *parts, size_t count, int *status)
{
    const struct lipc_placed nowhere = {0};
    struct lipc_block *block = loan->block;
    char *array = lipc_loan_memory(loan);
    uint64_t head = 0;
    for (size_t i = 0; i + 1 < count && head <= LIPC_LOAN_HEAD; i++)
        head = parts[i].size <= LIPC_LOAN_HEAD ? head + parts[i].size : UINT64_MAX;
    if (block->slab->owner != topic->slabs || count == 0 || head > LIPC_LOAN_HEAD || parts[count - 1].data != array ||
        parts[count - 1].size != loan->size || count_readers(topic, block, status).all == 0)
        return nowhere;
    block->holders++;
    block->since = lipc_clock();
    lipc_join(parts, count - 1, array - head);
    return (struct lipc_placed){.block = block, .offset = LIPC_LOAN_HEAD - head, .size = head + loan->size};
}

/* Does as lipc_topic_send, or as lipc_topic_send_loan if `loan` is not NULL. */
static int send_event(struct lipc_topic *topic, const struct lipc_endpoint *only, const struct lipc_loan *loan,
                      const struct lipc_header *header, const struct lipc_part *parts, size_t count)
{
    struct lipc_header own = *header;
    struct lipc_copies copies = {.many = !only && topic->count > 1};
    int status = 0;
    const struct lipc_subscription *end = topic->subscriptions + topic->count;
    for (struct lipc_subscription *each = topic->subscriptions; header->detail == 0 && each < end; each++)
        if (!each->endpoint->failure && (!only || each->endpoint == only) &&
            is_full_too_soon(each->endpoint, each->when_full))
            return -ENOBUFS;
    bool to_slab = !only && topic->slabs && (topic->count > 1 || topic->viewers);
    struct lipc_placed body = {0};
    if (loan)
        body = place_loan(topic, loan, parts, count, &status);
    if (!body.block && to_slab && (body.size = lipc_block_size(topic->slabs, parts, count)) > 0)
        body.block = fill_block(topic, parts, count, body.size, &status);
    for (struct lipc_subscription *each = topic->subscriptions; each < end; each++) {
        struct lipc_endpoint *endpoint = each->endpoint;
        if (endpoint->failure || (only && endpoint != only)) {
            status |= endpoint->failure ? LIPC_FAILED : 0;
            continue;
        }
        own.channel = each->number;
        own.correlation = ++each->sequence;
        bool in_place = body.block && may_hold(each, body.block);
        if (!in_place && to_slab && body.size && endpoint->outbox.holds)
            endpoint->outbox.holds->by_ring++;
        int sent = in_place ? lipc_send_place(endpoint, &own, &body, each->when_full)
                            : lipc_send_to(endpoint, &own, parts, count, each->when_full, &copies);
        /* No outbox was full when main began to send its own event. So the subscribers before this one have filled the
         * account that they share. This reader has done nothing wrong. It is sent this event, and the next event is
         * refused. */
        if (sent == -ENOBUFS && header->detail == 0 && !has_had_its_time(endpoint, lipc_clock()))
            sent = lipc_send_to(endpoint, &own, parts, count, LIPC_KEEP, &copies);
        if (sent < 0) {
            endpoint->failure = sent;
            status |= LIPC_FAILED;
        } else if (lipc_unread_bytes(endpoint) > endpoint->high_water) {
            status |= LIPC_CONGESTED;
        }
    }
    if (copies.body)
        lipc_body_release(copies.body);
    if (body.block)
        lipc_block_give(body.block);
    return status;
}

int lipc_topic_send(struct lipc_topic *topic, const struct lipc_endpoint *only, const struct lipc_header *header,
                    const struct lipc_part *parts, size_t count)
{
    return send_event(topic, only, NULL, header, parts, count);
}

int lipc_topic_send_loan(struct lipc_topic *topic, const struct lipc_loan *loan, const struct lipc_header *header,
                         const struct lipc_part *parts, size_t count)
{
    return send_event(topic, NULL, loan, header, parts, count);
}
