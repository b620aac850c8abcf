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
    if (topic)
        free(topic->subscriptions);
    free(topic);
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
            topic->count--;
            /* Keeps the order: the first subscriber is the first to be sent an event. */
            memmove(&topic->subscriptions[i], &topic->subscriptions[i + 1],
                    (topic->count - i) * sizeof topic->subscriptions[0]);
            return sequence;
        }
    return 0;
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
    return lipc_outbox_full(&endpoint->outbox, endpoint->limit) && lipc_flush(endpoint) >= 0 &&
           lipc_outbox_full(&endpoint->outbox, endpoint->limit);
}

int lipc_topic_send(struct lipc_topic *topic, const struct lipc_endpoint *only, const struct lipc_header *header,
                    const struct lipc_part *parts, size_t count)
{
    struct lipc_header own = *header;
    struct lipc_copies copies = {.many = !only && topic->count > 1};
    int status = 0;
    const struct lipc_subscription *end = topic->subscriptions + topic->count;
    for (struct lipc_subscription *each = topic->subscriptions; header->detail == 0 && each < end; each++)
        if (!each->endpoint->failure && (!only || each->endpoint == only) &&
            is_full_too_soon(each->endpoint, each->when_full))
            return -ENOBUFS;
    for (struct lipc_subscription *each = topic->subscriptions; each < end; each++) {
        struct lipc_endpoint *endpoint = each->endpoint;
        if (endpoint->failure || (only && endpoint != only)) {
            status |= endpoint->failure ? LIPC_FAILED : 0;
            continue;
        }
        own.channel = each->number;
        own.correlation = ++each->sequence;
        int sent = lipc_send_to(endpoint, &own, parts, count, each->when_full, &copies);
        /* No outbox was full when main began to send its own event. So the subscribers before this one have filled the
         * account that they share. This reader has done nothing wrong. It is sent this event, and the next event is
         * refused. */
        if (sent == -ENOBUFS && header->detail == 0 && !has_had_its_time(endpoint, lipc_clock()))
            sent = lipc_send_to(endpoint, &own, parts, count, LIPC_KEEP, &copies);
        if (sent < 0) {
            endpoint->failure = sent;
            status |= LIPC_FAILED;
        } else if (endpoint->outbox.bytes > endpoint->high_water) {
            status |= LIPC_CONGESTED;
        }
    }
    if (copies.body)
        lipc_body_release(copies.body);
    return status;
}
