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
    while (lipc_outbox_bytes(endpoint) == 0)
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
    CHECK(lipc_outbox_bytes(pair.main) > 6000000);
    CHECK(drain(pair, numbers, 1000) == 1000);
    for (uint64_t i = 0; i < 1000; i++)
        CHECK(numbers[i] == i);
    CHECK(lipc_outbox_bytes(pair.main) == 0);
    close_pair(pair);
}

static void the_outbox_counts_what_a_message_takes(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t number = fill(pair.main, 0);
    const uint64_t each = lipc_weight(BODY);
    CHECK(lipc_outbox_bytes(pair.main) == each);
    CHECK(send_one(pair.main, number, 2, 0, LIPC_REFUSE) == 0);
    CHECK(lipc_outbox_bytes(pair.main) == each + lipc_weight(0));
    CHECK(lipc_flush(pair.main) == (int64_t)(each + lipc_weight(0)));
    close_pair(pair);
}

static void a_full_outbox_refuses(void)
{
    struct pair pair = open_pair(CAPACITY);
    const uint64_t each = lipc_weight(BODY);
    pair.main->limit = 2 * each; /* behind the one on its way */
    uint64_t number = fill(pair.main, 0);
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number, 2, BODY, LIPC_REFUSE) == -ENOBUFS);
    CHECK(send_one(pair.main, number, 2, 0, LIPC_REFUSE) == -ENOBUFS);
    CHECK(lipc_outbox_bytes(pair.main) == 3 * each);
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
    pair.main->high_water = lipc_weight(BODY);
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
    const uint64_t each = lipc_weight(BODY);
    pair.main->high_water = 3 * each;
    uint64_t number = fill(pair.main, 0), numbers[200]; /* one of channel 2 waits */
    CHECK(send_one(pair.main, number, 7, BODY, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, number + 1, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number + 2, 7, BODY, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, number + 3, 7, BODY, LIPC_DROP_OLDEST) == 1);
    CHECK(send_one(pair.main, number + 4, 7, BODY, LIPC_DROP_OLDEST) == 1);
    CHECK(lipc_outbox_bytes(pair.main) == 4 * each);
    CHECK(send_one(pair.main, number + 5, 9, BODY, LIPC_DROP_OLDEST) == 1); /* itself: nothing of channel 9 waits */
    CHECK(drain(pair, numbers, 200) == (int)number + 3);
    CHECK(numbers[number - 1] == number - 1 && numbers[number] == number + 1);
    CHECK(numbers[number + 1] == number + 3 && numbers[number + 2] == number + 4);
    close_pair(pair);
}

static void what_is_no_event_is_not_dropped_whatever_channel_it_names(void)
{
    struct pair pair = open_pair(CAPACITY);
    pair.main->high_water = lipc_weight(BODY);
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
    CHECK(lipc_outbox_bytes(pair.main) == lipc_weight(BODY));
    pair.main->high_water = NO_LIMIT;
    for (int i = 0; i < 5; i++)
        CHECK(send_one(pair.main, number++, 7, 100, LIPC_DROP_OLDEST) == 0);
    const uint64_t before = lipc_outbox_bytes(pair.main);
    pair.main->high_water = before - lipc_weight(BODY); /* all but the one on its way */
    CHECK(send_one(pair.main, number++, 7, 200, LIPC_DROP_OLDEST) == 1); /* below the mark after one */
    pair.main->high_water = 1;
    const uint64_t now = lipc_outbox_bytes(pair.main);
    CHECK(send_one(pair.main, number++, 7, 200, LIPC_DROP_OLDEST) == 2); /* no larger than it was, after two */
    CHECK(lipc_outbox_bytes(pair.main) <= now);
    close_pair(pair);
}

static void what_was_sent_otherwise_is_not_dropped(void)
{
    struct pair pair = open_pair(CAPACITY);
    pair.main->high_water = 1;
    uint64_t number = fill(pair.main, 0), numbers[200];
    CHECK(send_one(pair.main, number++, 7, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number++, 7, BODY, LIPC_KEEP) == 0);
    CHECK(send_one(pair.main, 0, 7, BODY, LIPC_DROP_OLDEST) == 1); /* itself */
    CHECK(drain(pair, numbers, 200) == (int)number);
    close_pair(pair);
}

static void a_channel_of_too_high_a_number_has_no_queue(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t number = fill(pair.main, 0), numbers[200];
    CHECK(send_one(pair.main, number, LIPC_CHANNELS, BODY, LIPC_DROP_OLDEST) == -EINVAL);
    CHECK(send_one(pair.main, number++, LIPC_CHANNELS - 1, BODY, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, number++, UINT32_MAX, BODY, LIPC_REFUSE) == 0);
    CHECK(drain(pair, numbers, 200) == (int)number);
    close_pair(pair);
}

/* Two channels take turns behind 300,000 messages of another: a walk from the head would take more than the watchdog's
 * time. */
static void to_drop_the_oldest_takes_no_longer_however_much_waits(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t number = fill(pair.main, 0);
    for (int i = 0; i < 300000; i++)
        CHECK(send_one(pair.main, number++, 2, 1, LIPC_REFUSE) == 0);
    CHECK(send_one(pair.main, number++, 3, 1, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, number++, 4, 1, LIPC_DROP_OLDEST) == 0);
    pair.main->high_water = 1;
    const uint64_t waiting = lipc_outbox_bytes(pair.main);
    for (uint32_t i = 0; i < 300000; i++)
        CHECK(send_one(pair.main, number++, 3 + i % 2, 1, LIPC_DROP_OLDEST) == 1);
    CHECK(lipc_outbox_bytes(pair.main) == waiting);
    close_pair(pair);
}

/* ---- random operations, beside a list that is walked from its head for everything ---- */

#define MOST 2000

struct naive {
    struct {
        uint64_t number;
        uint32_t channel;
        size_t size;
        bool may_be_dropped;
    } waiting[MOST];
    int count;
};

static uint64_t naive_bytes(const struct naive *naive, int from)
{
    uint64_t bytes = 0;
    for (int i = from; i < naive->count; i++)
        bytes += lipc_weight(naive->waiting[i].size);
    return bytes;
}

static void naive_remove(struct naive *naive, int at)
{
    memmove(&naive->waiting[at], &naive->waiting[at + 1], (size_t)(--naive->count - at) * sizeof naive->waiting[0]);
}

static bool naive_full(const struct lipc_endpoint *endpoint, const struct naive *both, int which, uint64_t mark)
{
    const uint64_t head = both[which].count ? lipc_weight(both[which].waiting[0].size) : 0;
    const uint64_t own = naive_bytes(&both[which], 0), all = own + naive_bytes(&both[1 - which], 0);
    const struct lipc_account *account = endpoint->outbox.account;
    return own - head >= mark || own - head >= account->limit || all - head >= account->parent->limit;
}

/* What lipc_send gives where something waits already; what is waiting then. */
static int naive_send(const struct lipc_endpoint *endpoint, struct naive *both, int which, int when_full, uint64_t number,
                      uint32_t channel, size_t size)
{
    struct naive *naive = &both[which];
    int dropped = 0;
    if (when_full == LIPC_DROP_NEWEST && naive_full(endpoint, both, which, endpoint->high_water))
        return 1;
    if (when_full == LIPC_REFUSE && naive_full(endpoint, both, which, endpoint->limit))
        return -ENOBUFS;
    const bool queues = when_full == LIPC_DROP_OLDEST || when_full == LIPC_KEEP_NEWEST;
    for (uint64_t freed = 0; queues;) {
        const bool fits = freed >= lipc_weight(size) || !naive_full(endpoint, both, which, endpoint->high_water);
        if (fits && when_full == LIPC_DROP_OLDEST)
            break;
        int oldest = naive->count && endpoint->outbox.head->message.sent > 0; /* which nothing takes out of its place */
        while (oldest < naive->count &&
               !(naive->waiting[oldest].may_be_dropped && naive->waiting[oldest].channel == channel))
            oldest++;
        if (oldest == naive->count) {
            if (fits)
                break;
            return dropped + 1;
        }
        freed += lipc_weight(naive->waiting[oldest].size);
        naive_remove(naive, oldest);
        dropped++;
    }
    naive->waiting[naive->count].number = number;
    naive->waiting[naive->count].channel = channel;
    naive->waiting[naive->count].size = size;
    naive->waiting[naive->count++].may_be_dropped = queues;
    CHECK(naive->count < MOST);
    return dropped;
}

/* What has gone into the ring waits no longer; the rest is what is there. */
static void compare(const struct lipc_endpoint *endpoint, struct naive *naive)
{
    const struct lipc_waiting *head = endpoint->outbox.head, *before = NULL;
    while (naive->count && (!head || naive->waiting[0].number != head->message.frame.correlation))
        naive_remove(naive, 0);
    int i = 0;
    for (const struct lipc_waiting *each = head; each; before = each, each = each->behind, i++) {
        CHECK(i < naive->count && each->message.frame.correlation == naive->waiting[i].number);
        CHECK(each->before == before && (i == 0 || each->message.sent == 0));
    }
    CHECK(i == naive->count && endpoint->outbox.tail == before);
    CHECK(endpoint->outbox.bytes == naive_bytes(naive, 0) - (head ? head->message.sent : 0));
    for (uint32_t channel = 0; channel < endpoint->outbox.queue_count; channel++) {
        const struct lipc_waiting *queued = endpoint->outbox.queues[channel].oldest;
        for (i = head && head->message.sent; i < naive->count; i++)
            if (naive->waiting[i].may_be_dropped && naive->waiting[i].channel == channel) {
                CHECK(queued && queued->message.frame.correlation == naive->waiting[i].number);
                queued = queued->later;
            }
        CHECK(!queued);
    }
}

static void random_sends_drop_refuse_and_keep_as_a_naive_list_does(void)
{
    static const uint32_t channels[] = {0, 1, 2, 200};
    struct pair pairs[] = {open_pair(CAPACITY), open_pair(CAPACITY)};
    struct lipc_account *all = lipc_account_create(200000, NULL), *own[2];
    static struct naive both[2];
    uint64_t random = 5, number = 1, dropped = 0, refused = 0, received[2] = {0};
    for (int which = 0; which < 2; which++) {
        own[which] = lipc_account_create(which ? 100000 : 200000, all);
        CHECK(lipc_set_account(pairs[which].main, own[which]) == 0);
        pairs[which].main->high_water = which ? 50000 : 130000;
        pairs[which].main->limit = which ? 150000 : 160000;
    }
    for (int step = 0; step < 40000; step++) {
        const int which = (int)(next_random(&random) % 2);
        struct lipc_endpoint *endpoint = pairs[which].main;
        CHECK(lipc_flush(endpoint) >= 0);
        compare(endpoint, &both[which]);
        if (next_random(&random) % 8 < (uint64_t)(step / 5000 % 2 ? 5 : 2)) {
            struct received next = {0};
            if (receive(pairs[which].renderer, &next) == 1) {
                CHECK(next.record.correlation > received[which]);
                received[which] = next.record.correlation;
                CHECK(is_body(received[which], next.body, next.record.size));
                free(next.body);
            }
            continue;
        }
        const int chance = (int)(next_random(&random) % 32);
        const int when_full = chance == 0   ? LIPC_KEEP
                              : chance == 1 ? LIPC_KEEP_NEWEST
                                            : (int)(next_random(&random) % 3);
        const uint32_t channel = channels[next_random(&random) % 4];
        const size_t size = next_random(&random) % (next_random(&random) % 64 ? 3000 : 30000);
        const bool waited = both[which].count > 0;
        const int expected = naive_send(endpoint, both, which, when_full, number, channel, size);
        const int sent = send_one(endpoint, number++, channel, size, when_full);
        CHECK(sent == expected || (!waited && sent == 0)); /* the ring may have had room */
        if (sent == 0 && expected)
            continue;
        compare(endpoint, &both[which]);
        dropped += sent > 0;
        refused += sent < 0;
        CHECK(lipc_account_bytes(own[which]) == naive_bytes(&both[which], 0));
        CHECK(lipc_account_bytes(all) == lipc_account_bytes(own[0]) + lipc_account_bytes(own[1]));
    }
    CHECK(dropped > 1000 && refused > 1000);
    lipc_account_free(own[0]);
    lipc_account_free(own[1]);
    close_pair(pairs[0]);
    CHECK(lipc_account_bytes(all) == naive_bytes(&both[1], 0));
    lipc_account_free(all);
    close_pair(pairs[1]);
}

static void a_message_begun_is_not_dropped(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t numbers[4];
    pair.main->high_water = 1;
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_DROP_OLDEST) == 0);
    CHECK(lipc_outbox_bytes(pair.main) > 0 && pair.main->outbox.head->message.sent > 0);
    CHECK(send_one(pair.main, 1, 2, 200000, LIPC_DROP_OLDEST) == 0);
    CHECK(send_one(pair.main, 2, 2, 200000, LIPC_DROP_OLDEST) == 1);
    CHECK(drain(pair, numbers, 4) == 2 && numbers[0] == 0 && numbers[1] == 2);
    close_pair(pair);
}

static void the_newest_waits_alone_behind_what_is_begun_and_what_other_channels_have(void)
{
    struct pair pair = open_pair(CAPACITY);
    uint64_t numbers[5];
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_KEEP_NEWEST) == 0); /* begun */
    CHECK(send_one(pair.main, 1, 2, 1000, LIPC_KEEP_NEWEST) == 0);
    CHECK(send_one(pair.main, 2, 3, 1000, LIPC_KEEP_NEWEST) == 0);
    CHECK(send_one(pair.main, 3, 2, 1000, LIPC_KEEP_NEWEST) == 1);
    pair.main->high_water = 1;
    CHECK(send_one(pair.main, 4, 2, 1000, LIPC_KEEP_NEWEST) == 1); /* it takes the place of one as large */
    CHECK(send_one(pair.main, 5, 4, 1000, LIPC_KEEP_NEWEST) == 1); /* and has none */
    CHECK(drain(pair, numbers, 5) == 3 && numbers[0] == 0 && numbers[1] == 2 && numbers[2] == 4);
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
    CHECK(pair.main->out.write_pos == written && lipc_outbox_bytes(pair.main) == 0);
    for (number = 0; number < CAPACITY / (sizeof(struct lipc_frame) + BODY); number++)
        CHECK(send_one(pair.main, number, 2, BODY, LIPC_REFUSE) == 0); /* the ring has room: no memory is needed */
    CHECK(send_one(pair.main, 0, 2, BODY, LIPC_REFUSE) == -ENOMEM);

    allocations_left = -1;
    CHECK(send_one(pair.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    pair.main->high_water = 1;
    const uint64_t waiting = lipc_outbox_bytes(pair.main);
    for (allocations_left = 0; allocations_left < 3;) { /* of its place, its body and its channel's queue */
        const int left = allocations_left;
        CHECK(send_one(pair.main, 0, 2, BODY, LIPC_DROP_OLDEST) == -ENOMEM); /* and has dropped nothing for it */
        CHECK(lipc_outbox_bytes(pair.main) == waiting);
        allocations_left = left + 1;
    }
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

/* ---- accounts ---- */

static void an_account_that_is_full_refuses_for_all_that_count_in_it(void)
{
    struct pair first = open_pair(CAPACITY), second = open_pair(CAPACITY), other = open_pair(CAPACITY);
    struct lipc_account *account = lipc_account_create(3 * lipc_weight(BODY), NULL);
    uint64_t numbers[200];
    CHECK(lipc_set_account(first.main, account) == 0 && lipc_set_account(second.main, account) == 0);
    uint64_t number = fill(first.main, 0);
    CHECK(lipc_set_account(other.main, account) == 0 && lipc_set_account(other.main, account) == -EINVAL);
    for (int i = 0; i < 3; i++) /* behind the one on its way, as with a limit of its own */
        CHECK(send_one(first.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(first.main, 0, 2, BODY, LIPC_REFUSE) == -ENOBUFS);
    CHECK(lipc_account_bytes(account) == 4 * lipc_weight(BODY));

    uint64_t sent = 0;
    int code;
    while ((code = send_one(second.main, sent, 2, BODY, LIPC_REFUSE)) == 0) /* as long as its ring has room */
        sent++;
    CHECK(code == -ENOBUFS && lipc_outbox_bytes(second.main) == 0);
    CHECK(send_one(second.main, 0, 2, BODY, LIPC_DROP_NEWEST) == 1);
    CHECK(send_one(second.main, 0, 2, BODY, LIPC_DROP_OLDEST) == 1);
    CHECK(send_one(second.main, sent++, 2, BODY, LIPC_KEEP) == 0);
    CHECK(drain(first, numbers, 200) == (int)number && drain(second, numbers, 200) == (int)sent);
    CHECK(lipc_account_bytes(account) == 0);
    CHECK(send_one(second.main, 0, 2, 200000, LIPC_REFUSE) == 0);
    lipc_account_free(account); /* it stays for those that count in it */
    close_pair(first);
    close_pair(second);
    close_pair(other);
}

static void what_counts_in_an_account_counts_in_its_parents(void)
{
    struct pair first = open_pair(CAPACITY), second = open_pair(CAPACITY);
    struct lipc_account *all = lipc_account_create(3 * lipc_weight(BODY), NULL);
    struct lipc_account *one = lipc_account_create(NO_LIMIT, all), *another = lipc_account_create(NO_LIMIT, all);
    CHECK(lipc_set_account(first.main, one) == 0 && lipc_set_account(second.main, another) == 0);
    uint64_t number = fill(first.main, 0);
    CHECK(send_one(first.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    while (lipc_outbox_bytes(second.main) == 0)
        CHECK(send_one(second.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(lipc_account_bytes(one) == 2 * lipc_weight(BODY) && lipc_account_bytes(another) == lipc_weight(BODY));
    CHECK(lipc_account_bytes(all) == 3 * lipc_weight(BODY));
    CHECK(send_one(first.main, number++, 2, BODY, LIPC_REFUSE) == 0);
    CHECK(send_one(first.main, number++, 2, BODY, LIPC_REFUSE) == -ENOBUFS);
    lipc_account_free(all);
    lipc_account_free(one);
    lipc_account_free(another);
    close_pair(first);
    close_pair(second);
    lipc_account_free(NULL);
    allocations_left = 0;
    CHECK(!lipc_account_create(1, NULL));
    allocations_left = -1;
}

/* All of it is held until its last byte is in the ring. */
static void a_message_counts_in_its_account_until_it_is_freed(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct lipc_account *account = lipc_account_create(NO_LIMIT, NULL);
    uint64_t numbers[1];
    CHECK(lipc_set_account(pair.main, account) == 0);
    CHECK(send_one(pair.main, 0, 2, 200000, LIPC_REFUSE) == 0);
    CHECK(lipc_outbox_bytes(pair.main) < lipc_weight(200000) && lipc_account_bytes(account) == lipc_weight(200000));
    CHECK(drain(pair, numbers, 1) == 1 && lipc_account_bytes(account) == 0);
    lipc_account_free(account);
    close_pair(pair);
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
    RUN(the_outbox_counts_what_a_message_takes);
    RUN(a_full_outbox_refuses);
    RUN(what_is_on_its_way_does_not_count_as_waiting);
    RUN(what_is_kept_waits_though_the_outbox_is_full);
    RUN(parked_for_room_alone_is_not_woken_by_data);
    RUN(drop_newest_gives_up_the_message_itself);
    RUN(drop_oldest_gives_up_the_oldest_of_its_channel);
    RUN(what_is_no_event_is_not_dropped_whatever_channel_it_names);
    RUN(drop_oldest_makes_as_much_room_as_it_takes);
    RUN(what_was_sent_otherwise_is_not_dropped);
    RUN(a_channel_of_too_high_a_number_has_no_queue);
    RUN(to_drop_the_oldest_takes_no_longer_however_much_waits);
    RUN(random_sends_drop_refuse_and_keep_as_a_naive_list_does);
    RUN(a_message_begun_is_not_dropped);
    RUN(the_newest_waits_alone_behind_what_is_begun_and_what_other_channels_have);
    RUN(a_failed_allocation_sends_nothing);
    RUN(an_endpoint_needs_one_allocation_and_says_so);
    RUN(an_account_that_is_full_refuses_for_all_that_count_in_it);
    RUN(what_counts_in_an_account_counts_in_its_parents);
    RUN(a_message_counts_in_its_account_until_it_is_freed);
    RUN(what_waits_is_freed_with_its_endpoint);
    return 0;
}
