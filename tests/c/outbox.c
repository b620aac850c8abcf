/* SPDX-License-Identifier: MIT
 *
 * Messages that wait: their order, their limits, what is dropped, and what becomes of them without memory.
 */

#include "pair.h"

#define CAPACITY LIPC_CAPACITY_MIN
#define BODY 1000

static int send_kind(struct lipc_endpoint *endpoint, uint32_t kind, uint64_t number, uint32_t channel, size_t size,
                     int when_full)
{
    struct lipc_header header = numbered(number);
    header.kind = kind;
    header.channel = channel;
    char *body = make_body(number, size);
    int dropped = lipc_send(endpoint, &header, body, size, when_full);
    free(body);
    return dropped;
}

static int send_one(struct lipc_endpoint *endpoint, uint64_t number, uint32_t channel, size_t size, int when_full)
{
    return send_kind(endpoint, LIPC_EVENT, number, channel, size, when_full);
}

/* Sends until the first message waits; returns the number of the next one. */
static uint64_t fill(struct lipc_endpoint *endpoint, uint64_t number)
{
    while (lipc_outbox(endpoint) == 0)
        CHECK(send_one(endpoint, number++, 2, BODY, LIPC_REFUSE) == 0);
    return number;
}

/* Takes all that comes, flushing the sender, and checks that it is whole; returns how many came, their numbers in
 * `numbers`. */
static int drain(struct pair pair, uint64_t *numbers, int max)
{
    int count = 0;
    struct received received;
    for (;;) {
        int got = receive(pair.renderer, &received);
        CHECK(got >= 0);
        if (got == 0) {
            CHECK(lipc_flush(pair.main) >= 0);
            if (lipc_ring_readable(&pair.renderer->in) == 0)
                return count;
            continue;
        }
        CHECK(count < max);
        CHECK(is_body(received.record.correlation, received.body, received.record.size));
        numbers[count++] = received.record.correlation;
        free(received.body);
    }
}

static void what_waits_arrives_in_order(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t numbers[1000];
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(send_one(pair.main, i, 2, i * 13 % 40000, LIPC_REFUSE) == 0);
    CHECK(lipc_outbox(pair.main) > 6000000);
    CHECK(drain(pair, numbers, 1000) == 1000);
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(numbers[i] == i);
    CHECK(lipc_outbox(pair.main) == 0);
    close_pair(pair);
}

static void the_outbox_counts_bodies_and_headers(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t number = fill(pair.main, 0);
    const uint64_t each = sizeof(struct lipc_frame) + BODY;
    CHECK(lipc_outbox(pair.main) == each);
    CHECK(send_one(pair.main, number, 2, 0, LIPC_REFUSE) == 0);
    CHECK(lipc_outbox(pair.main) == each + sizeof(struct lipc_frame));
    CHECK(lipc_flush(pair.main) == (int64_t)(each + sizeof(struct lipc_frame)));
    close_pair(pair);
}

static void a_full_outbox_refuses(void)
{
    struct pair pair = open_pair(CAPACITY);
    const uint64_t each = sizeof(struct lipc_frame) + BODY;
    pair.main->limit = 2 * each; /* behind the one on its way */
    uint64_t number = fill(pair.main, 0);
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number, 2, BODY, LIPC_REFUSE) == -ENOBUFS);
    CHECK(send_one(pair.main, number, 2, 0, LIPC_REFUSE) == -ENOBUFS);
    CHECK(lipc_outbox(pair.main) == 3 * each);
    uint64_t numbers[200];
    CHECK(drain(pair, numbers, 200) == (int)number);
    close_pair(pair);
}

/* Or else one large message would make any receiver look slow. */
static void what_is_on_its_way_does_not_count_as_waiting(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t numbers[4];
    pair.main->limit = 1;
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, 1, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, 2, 2, BODY, LIPC_REFUSE) == -ENOBUFS);
    CHECK(drain(pair, numbers, 4) == 2 && numbers[0] == 0 && numbers[1] == 1);
    close_pair(pair);
}

static void what_is_kept_waits_though_the_outbox_is_full(void)
{
    struct pair pair = open_pair(CAPACITY);
    pair.main->limit = 1;
    uint64_t number = fill(pair.main, 0), numbers[200];
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number, 2, BODY, LIPC_REFUSE) == -ENOBUFS);
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_KEEP) == 0);
    CHECK(drain(pair, numbers, 200) == (int)number);
    for (uint64_t i = 0; i < number; i++)
        CHECK(numbers[i] == i);
    close_pair(pair);
}

/* A side whose messages are to wait is woken by room, and not by them. */
static void parked_for_room_alone_is_not_woken_by_data(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t number = fill(pair.main, 0), numbers[200];
    CHECK(send_one(pair.renderer, 0, 2, 0, LIPC_REFUSE) == 0);
    CHECK(lipc_park(pair.main, 1) == 0);
    CHECK(lipc_park(pair.main, 0) == 1);
    CHECK(drain(pair, numbers, 200) == (int)number);
    CHECK(lipc_park(pair.main, 0) == 1); /* nothing waits any more */
    close_pair(pair);
}

static void drop_newest_gives_up_the_message_itself(void)
{
    struct pair pair = open_pair(CAPACITY);
    pair.main->high_water = sizeof(struct lipc_frame) + BODY;
    uint64_t number = fill(pair.main, 0), numbers[200];
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_DROP_NEWEST) == 0);
    for (int i = 0; i < 10; i++)
        CHECK(send_one(pair.main, 1000, 2, BODY, LIPC_DROP_NEWEST) == 1);
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(drain(pair, numbers, 200) == (int)number);
    close_pair(pair);
}

static void drop_oldest_gives_up_the_oldest_of_its_channel(void)
{
    struct pair pair = open_pair(CAPACITY);
    const uint64_t each = sizeof(struct lipc_frame) + BODY;
    pair.main->high_water = 3 * each;
    uint64_t number = fill(pair.main, 0), numbers[200]; /* one of channel 2 waits */
    CHECK(send_one(pair.main, number, 7, BODY, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, number + 1, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number + 2, 7, BODY, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, number + 3, 7, BODY, LIPC_DROP_OLDEST) == 1);
    CHECK(send_one(pair.main, number + 4, 7, BODY, LIPC_DROP_OLDEST) == 1);
    CHECK(lipc_outbox(pair.main) == 4 * each);
    CHECK(send_one(pair.main, number + 5, 9, BODY, LIPC_DROP_OLDEST) == 1); /* itself: nothing of channel 9 waits */
    CHECK(drain(pair, numbers, 200) == (int)number + 3);
    CHECK(numbers[number - 1] == number - 1 && numbers[number] == number + 1);
    CHECK(numbers[number + 1] == number + 3 && numbers[number + 2] == number + 4);
    close_pair(pair);
}

static void what_is_no_event_is_not_dropped_whatever_channel_it_names(void)
{
    struct pair pair = open_pair(CAPACITY);
    pair.main->high_water = sizeof(struct lipc_frame) + BODY;
    uint64_t number = fill(pair.main, 0), numbers[200];
    for (int i = 0; i < 3; i++)
        CHECK(send_kind(pair.main, LIPC_EVENT + 3, number++, 7, BODY, LIPC_KEEP) == 0);
    CHECK(send_one(pair.main, number, 7, BODY, LIPC_DROP_OLDEST) == 1); /* itself */
    CHECK(drain(pair, numbers, 200) == (int)number);
    close_pair(pair);
}

static void drop_oldest_makes_as_much_room_as_it_takes(void)
{
    struct pair pair = open_pair(CAPACITY);
    pair.main->high_water = 1;
    uint64_t number = fill(pair.main, 0);
    CHECK(lipc_outbox(pair.main) == sizeof(struct lipc_frame) + BODY);
    pair.main->high_water = 100000;
    for (int i = 0; i < 5; i++)
        CHECK(send_one(pair.main, number++, 7, 100, LIPC_REFUSE) == 0);
    const uint64_t before = lipc_outbox(pair.main);
    pair.main->high_water = before - sizeof(struct lipc_frame) - BODY; /* all but the one on its way */
    CHECK(send_one(pair.main, number++, 7, 200, LIPC_DROP_OLDEST) == 1); /* below the mark after one */
    pair.main->high_water = 1;
    const uint64_t now = lipc_outbox(pair.main);
    CHECK(send_one(pair.main, number++, 7, 200, LIPC_DROP_OLDEST) == 2); /* no larger than it was, after two */
    CHECK(lipc_outbox(pair.main) <= now);
    close_pair(pair);
}

/* The drops go on where the last one has left off, whatever is dropped, sent and freed between them. */
static void drop_oldest_finds_the_oldest_after_anything_else(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t random = 1, number = fill(pair.main, 1);
    static uint64_t alive[20000]; /* the numbers that are to come, by number: the channel, or 0 */
    for (uint64_t i = 1; i < number; i++)
        alive[i] = 2;
    uint64_t taken = 1;
    for (int step = 0; step < 10000; step++) {
        uint32_t channel = 2 + (uint32_t)(next_random(&random) % 3);
        if (next_random(&random) % 4 == 0) {
            struct received received;
            CHECK(receive(pair.renderer, &received) == 1);
            while (!alive[taken])
                taken++;
            CHECK(received.record.correlation == taken++);
            free(received.body);
            CHECK(lipc_flush(pair.main) >= 0);
        } else if (next_random(&random) % 2) {
            pair.main->high_water = NO_LIMIT;
            CHECK(send_one(pair.main, number, channel, BODY, LIPC_REFUSE) == 0);
            alive[number++] = channel;
        } else if (lipc_outbox_behind(&pair.main->outbox)) {
            pair.main->high_water = 1;
            uint64_t oldest = pair.main->outbox.head->message.frame.correlation;
            while (oldest < number && alive[oldest] != channel)
                oldest++;
            CHECK(send_one(pair.main, number, channel, BODY, LIPC_DROP_OLDEST) == 1);
            if (oldest < number) {
                alive[oldest] = 0;
                alive[number] = channel;
            }
            number++;
        }
    }
    uint64_t numbers[20000];
    int left = drain(pair, numbers, 20000);
    for (int i = 0; i < left; i++) {
        while (!alive[taken])
            taken++;
        CHECK(numbers[i] == taken++);
    }
    while (taken < number)
        CHECK(!alive[taken++]);
    close_pair(pair);
}

static void a_message_begun_is_not_dropped(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t numbers[4];
    pair.main->high_water = 1;
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_DROP_OLDEST) == 0);
    CHECK(lipc_outbox(pair.main) > 0 && pair.main->outbox.head->message.sent > 0);
    CHECK(send_one(pair.main, 1, 2, 200000, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, 2, 2, 200000, LIPC_DROP_OLDEST) == 1);
    CHECK(drain(pair, numbers, 4) == 2 && numbers[0] == 0 && numbers[1] == 2);
    close_pair(pair);
}

/* Without memory a message has left no trace, and the endpoint works on. */
static void a_failed_allocation_sends_nothing(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t number = fill(pair.main, 0), numbers[200];
    CHECK(drain(pair, numbers, 200) == (int)number);

    allocations_left = 0;
    const uint64_t written = pair.main->out.write_pos;
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_REFUSE) == -ENOMEM); /* would stream into an empty ring */
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_DROP_OLDEST) == -ENOMEM);
    CHECK(pair.main->out.write_pos == written && lipc_outbox(pair.main) == 0);
    for (number = 0; number < CAPACITY / (sizeof(struct lipc_frame) + BODY); number++)
        CHECK(send_one(pair.main, number, 2, BODY, LIPC_REFUSE) == 0); /* the ring has room: no memory is needed */
    CHECK(send_one(pair.main, 0, 2, BODY, LIPC_REFUSE) == -ENOMEM);

    allocations_left = -1;
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    pair.main->high_water = 1;
    allocations_left = 0;
    const uint64_t waiting = lipc_outbox(pair.main);
    CHECK(send_one(pair.main, 0, 2, BODY, LIPC_DROP_OLDEST) == -ENOMEM); /* and has dropped nothing for it */
    CHECK(lipc_outbox(pair.main) == waiting);
    CHECK(drain(pair, numbers, 200) == (int)number);
    for (uint64_t i = 0; i < number; i++)
        CHECK(numbers[i] == i);
    allocations_left = -1;
    close_pair(pair);
}

static void an_endpoint_needs_one_allocation_and_says_so(void)
{
    int error = 0;
    int fd = lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY);
    allocations_left = 0;
    CHECK(!lipc_endpoint_open(fd, 0, LIPC_WAKEUP_SEMAPHORE, -1, 0, 0, &error) && error == -ENOMEM);
    allocations_left = -1;
    CHECK(!lipc_endpoint_open(-1, 0, LIPC_WAKEUP_SEMAPHORE, -1, 0, 0, &error) && error == -EBADF);
    CHECK(!lipc_endpoint_open(fd, 2, LIPC_WAKEUP_SEMAPHORE, -1, 0, 0, &error) && error == -EINVAL);
    CHECK(!lipc_endpoint_open(fd, 0, 3, -1, 0, 0, &error) && error == -EINVAL);
    CHECK(allocations_alive == 0);
    CHECK(close(fd) == 0);
    lipc_endpoint_close(NULL);
}

static void what_waits_is_freed_with_its_endpoint(void)
{
    struct pair pair = open_pair(CAPACITY);
    for (uint64_t i = fill(pair.main, 0); i < 300; i++)
        CHECK(send_one(pair.main, i, 2, 20000, LIPC_REFUSE) == 0);
    close_pair(pair);
}

int main(void)
{
    RUN(what_waits_arrives_in_order);
    RUN(the_outbox_counts_bodies_and_headers);
    RUN(a_full_outbox_refuses);
    RUN(what_is_on_its_way_does_not_count_as_waiting);
    RUN(what_is_kept_waits_though_the_outbox_is_full);
    RUN(parked_for_room_alone_is_not_woken_by_data);
    RUN(drop_newest_gives_up_the_message_itself);
    RUN(drop_oldest_gives_up_the_oldest_of_its_channel);
    RUN(what_is_no_event_is_not_dropped_whatever_channel_it_names);
    RUN(drop_oldest_makes_as_much_room_as_it_takes);
    RUN(drop_oldest_finds_the_oldest_after_anything_else);
    RUN(a_message_begun_is_not_dropped);
    RUN(a_failed_allocation_sends_nothing);
    RUN(an_endpoint_needs_one_allocation_and_says_so);
    RUN(what_waits_is_freed_with_its_endpoint);
    return 0;
}
