/* SPDX-License-Identifier: MIT
 *
 * One side of a pair: how it is opened, how it waits for work, and how it is closed.
 */

#include "endpoint/endpoint.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>

/* Makes a zeroed endpoint one side of the segment that it has mapped. */
static void attach(struct lipc_endpoint *endpoint, int side, int wakeup, int wakeup_fd)
{
    const struct lipc_mapping *mapping = &endpoint->mapping;
    struct lipc_segment *segment = mapping->segment;
    int peer = 1 - side;
    lipc_ring_init(&endpoint->out, &segment->rings[side], mapping->rings[side], mapping->capacity);
    lipc_ring_init(&endpoint->in, &segment->rings[peer], mapping->rings[peer], mapping->capacity);
    lipc_ring_init(&endpoint->returns, &segment->returns, segment->returned, LIPC_RETURNS);
    endpoint->outbox = (struct lipc_outbox){0};
    endpoint->most = LIPC_TOTAL_MAX;
    endpoint->wakeup = (struct lipc_wakeup){
        .own = &segment->sleepers[side], .peer = &segment->sleepers[peer], .kind = wakeup, .fd = wakeup_fd};
}

struct lipc_endpoint *lipc_endpoint_open(int fd, int side, int wakeup, int wakeup_fd, uint64_t high_water,
                                         uint64_t limit, int *error)
{
    *error = -EINVAL;
    if (side < LIPC_SIDE_MAIN || side > LIPC_SIDE_RENDERER || wakeup < LIPC_WAKEUP_EVENTFD ||
        wakeup > LIPC_WAKEUP_SEMAPHORE)
        return NULL;
    *error = -ENOMEM;
    struct lipc_endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return NULL;
    *error = lipc_segment_map(fd, &endpoint->mapping);
    if (*error) {
        free(endpoint);
        return NULL;
    }
    attach(endpoint, side, wakeup, wakeup_fd);
    endpoint->high_water = high_water < limit ? high_water : limit;
    endpoint->limit = limit;
    endpoint->socket = -1;
    endpoint->owner = pthread_self();
    return endpoint;
}

void lipc_endpoint_close(struct lipc_endpoint *endpoint)
{
    if (!endpoint)
        return;
    lipc_outbox_clear(&endpoint->outbox);
    lipc_account_free(endpoint->outbox.account);
    lipc_holds_free(endpoint->outbox.holds);
    lipc_views_leave(endpoint);
    lipc_unmap_slabs(endpoint);
    free(endpoint->routes.topics);
    free(endpoint->incoming);
    lipc_segment_unmap(&endpoint->mapping);
    free(endpoint);
}

int lipc_set_account(struct lipc_endpoint *endpoint, struct lipc_account *account)
{
    if (endpoint->outbox.account || endpoint->outbox.head)
        return -EINVAL;
    lipc_account_retain(account);
    endpoint->outbox.account = account;
    return 0;
}

void lipc_limit_message(struct lipc_endpoint *endpoint, uint64_t most)
{
    endpoint->most = most < LIPC_TOTAL_MAX ? most : LIPC_TOTAL_MAX;
}

void lipc_wake_self(struct lipc_endpoint *endpoint)
{
    lipc_wakeup_wake_self(&endpoint->wakeup);
}

void lipc_set_late(struct lipc_endpoint *endpoint, int late)
{
    endpoint->late = late != 0;
}

int lipc_failure(const struct lipc_endpoint *endpoint)
{
    return endpoint->failure;
}

int lipc_relay(struct lipc_endpoint *endpoint, uint32_t number, struct lipc_topic *topic, uint32_t sender, uint32_t pid)
{
    struct lipc_routes *routes = &endpoint->routes;
    if (number != routes->count)
        return -EINVAL;
    if (routes->count == routes->room) {
        uint32_t room = routes->room ? 2 * routes->room : 8;
        struct lipc_topic **larger = realloc(routes->topics, room * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        routes->topics = larger;
        routes->room = room;
    }
    routes->topics[routes->count++] = topic;
    routes->sender = sender;
    routes->pid = pid;
    return 0;
}

void lipc_stop_relaying(struct lipc_endpoint *endpoint)
{
    endpoint->routes.stopped = true;
}

int lipc_count_gaps(struct lipc_endpoint *endpoint, uint32_t number)
{
    if (number > endpoint->incoming_count)
        return -EINVAL;
    if (number == endpoint->incoming_room) {
        uint32_t room = number ? 2 * number : 8;
        struct lipc_incoming *larger = realloc(endpoint->incoming, room * sizeof *larger);
        if (!larger)
            return -ENOMEM;
        endpoint->incoming = larger;
        endpoint->incoming_room = room;
    }
    if (number == endpoint->incoming_count)
        endpoint->incoming[endpoint->incoming_count++] =
            (struct lipc_incoming){.next = 1, .sender = LIPC_ALL}; /* no sender has this number */
    return 0;
}

/* Whether there is a frame to take, or room for what waits in the outbox. An impossible value in the ring counts as
 * work too: lipc_recv or lipc_flush must report it, so this side must not sleep. */
static bool has_work(struct lipc_endpoint *endpoint)
{
    return lipc_ring_readable(&endpoint->in) != 0 || lipc_can_flush(endpoint);
}

/* How often a poll looks for work between two yields. A yield takes 0.2 us, and the poll sees nothing during that
 * time. */
#define LOOKS 8

/* If a yield takes at least this long, another thread is computing on this processor. The scheduler lets that thread
 * run for a time slice of some 3 ms, but it wakes a sleeping side at once. */
#define PREEMPTED_NS 100000

static void relax(void)
{
#if defined __x86_64__
    __builtin_ia32_pause();
#elif defined __aarch64__
    __asm__ volatile("yield");
#endif
}

int lipc_park(struct lipc_endpoint *endpoint, int for_data)
{
    uint32_t data = for_data ? LIPC_PARKED_FOR_DATA : 0;
    uint32_t room = endpoint->outbox.head || lipc_is_crowded(endpoint) ? LIPC_PARKED_FOR_SPACE : 0;
    lipc_wakeup_park(&endpoint->wakeup, data | room);
    if (!(for_data ? has_work(endpoint) : lipc_can_flush(endpoint)))
        return 1;
    lipc_wakeup_unpark(&endpoint->wakeup);
    return 0;
}

void lipc_unpark(struct lipc_endpoint *endpoint)
{
    lipc_wakeup_unpark(&endpoint->wakeup);
}

int lipc_busy_poll(struct lipc_endpoint *const *endpoints, size_t count, uint64_t nanoseconds)
{
    uint64_t start = lipc_clock(), now = start;
    for (;;) {
        for (int look = 0; look < LOOKS; look++) {
            for (size_t i = 0; i < count; i++)
                if (has_work(endpoints[i]))
                    return 1;
            relax();
        }
        if (now - start >= nanoseconds)
            return 0;
        (void)sched_yield(); /* the peer may share this processor */
        uint64_t before = now;
        now = lipc_clock();
        if (now - before >= PREEMPTED_NS)
            return LIPC_PREEMPTED;
    }
}

int lipc_sleep(struct lipc_endpoint *endpoint, uint64_t nanoseconds)
{
    uint64_t start = lipc_clock(), deadline = nanoseconds < UINT64_MAX - start ? start + nanoseconds : UINT64_MAX;
    if (!lipc_park(endpoint, 1))
        return 1;
    int woken = lipc_wakeup_sleep(&endpoint->wakeup, deadline);
    /* The clock is read even after a wake, so that a peer that posts without end cannot keep this side past the
     * deadline. */
    if (woken >= 0 && lipc_clock() < deadline)
        return LIPC_WOKEN;
    lipc_unpark(endpoint);
    if (has_work(endpoint))
        return 1;
    return woken < 0 ? woken : 0;
}
