/* SPDX-License-Identifier: MIT
 *
 * Events to all who listen: from main, and from one renderer to the others without main's Python.
 */

#include "pair.h"

/* The clock that relaying looks at: it goes on at each look. */
static uint64_t looks, each_look;

static uint64_t test_clock(void)
{
    return ++looks * each_look;
}

#define lipc_clock test_clock
#include "../../csrc/endpoint/receive.c"
#undef lipc_clock

#define CAPACITY LIPC_CAPACITY_MIN
#define ALL UINT32_C(0xffffffff)

static struct lipc_header event(uint32_t channel, uint32_t target)
{
    return (struct lipc_header){.channel = channel, .detail = target, .kind = LIPC_EVENT};
}

static void raise_event(struct lipc_endpoint *renderer, uint32_t channel, uint32_t target, uint64_t seed, size_t size)
{
    const struct lipc_header header = event(channel, target);
    char *body = make_body(seed, size);
    CHECK(lipc_send(renderer, &header, body, size, LIPC_REFUSE) == 0);
    free(body);
}

static int send_all(struct lipc_topic *topic, const struct lipc_endpoint *only, const char *text)
{
    const struct lipc_header header = {.detail = 7, .pid = 70, .kind = LIPC_EVENT};
    const struct lipc_part part = {.data = text, .size = strlen(text)};
    return lipc_topic_send(topic, only, &header, &part, 1);
}

static void check_next(struct lipc_endpoint *renderer, uint32_t channel, uint64_t place, uint32_t detail, uint32_t pid)
{
    struct received received;
    CHECK(receive(renderer, &received) == 1);
    CHECK(received.record.kind == LIPC_EVENT && received.record.channel == channel);
    CHECK(received.record.correlation == place);
    CHECK(received.record.detail == detail && received.record.pid == pid);
    free(received.body);
}

static void all_who_listen_are_sent_an_event_under_their_own_number(void)
{
    struct pair pairs[] = {open_pair(CAPACITY), open_pair(CAPACITY), open_pair(CAPACITY)};
    struct lipc_topic *topic = lipc_topic_create();
    struct received none;
    for (uint32_t i = 0; i < 3; i++)
        CHECK(lipc_topic_add(topic, pairs[i].main, 10 + i, LIPC_REFUSE, 0) == 0);
    CHECK(send_all(topic, NULL, "one") == 0);
    CHECK(send_all(topic, pairs[1].main, "two") == 0);
    CHECK(lipc_topic_remove(topic, pairs[0].main) == 1);
    CHECK(send_all(topic, NULL, "three") == 0);
    check_next(pairs[0].renderer, 10, 1, 7, 70);
    CHECK(receive(pairs[0].renderer, &none) == 0);
    for (uint64_t place = 1; place <= 3; place++)
        check_next(pairs[1].renderer, 11, place, 7, 70);
    check_next(pairs[2].renderer, 12, 1, 7, 70);
    check_next(pairs[2].renderer, 12, 2, 7, 70);
    CHECK(lipc_topic_add(topic, pairs[0].main, 10, LIPC_REFUSE, 41) == 0);
    CHECK(send_all(topic, NULL, "four") == 0);
    check_next(pairs[0].renderer, 10, 42, 7, 70);
    lipc_topic_free(topic);
    for (int i = 0; i < 3; i++)
        close_pair(pairs[i]);
}

static void more_listeners_than_there_was_room_for_are_all_kept(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct lipc_topic *topic = lipc_topic_create();
    struct lipc_endpoint *others = calloc(100, sizeof *others); /* never sent to: they have failed */
    CHECK(others);
    for (uint32_t i = 0; i < 100; i++) {
        others[i].failure = -EBADMSG;
        CHECK(lipc_topic_add(topic, &others[i], i, LIPC_REFUSE, 0) == 0);
    }
    CHECK(lipc_topic_add(topic, pair.main, 5, LIPC_REFUSE, 0) == 0);
    for (uint32_t i = 0; i < 100; i++)
        (void)lipc_topic_remove(topic, &others[i]);
    CHECK(send_all(topic, NULL, "x") == 0);
    check_next(pair.renderer, 5, 1, 7, 70);
    CHECK(lipc_topic_remove(topic, &others[3]) == 0); /* which does not listen */
    free(others);
    lipc_topic_free(topic);
    close_pair(pair);
}

static void who_cannot_be_sent_to_is_told_of_and_left_out(void)
{
    struct pair slow = open_pair(CAPACITY);
    struct pair quick = open_pair(CAPACITY);
    struct lipc_topic *topic = lipc_topic_create();
    slow.main->limit = slow.main->high_water = 1000;
    CHECK(lipc_topic_add(topic, slow.main, 0, LIPC_REFUSE, 0) == 0);
    CHECK(lipc_topic_add(topic, quick.main, 0, LIPC_REFUSE, 0) == 0);
    int told = 0;
    uint64_t sent = 0;
    while (told == 0) {
        told = send_all(topic, NULL, "a slow one holds up nobody");
        check_next(quick.renderer, 0, ++sent, 7, 70);
    }
    CHECK(told == LIPC_CONGESTED && lipc_failure(slow.main) == 0);
    while (!(told & LIPC_FAILED)) {
        told = send_all(topic, NULL, "a slow one holds up nobody");
        check_next(quick.renderer, 0, ++sent, 7, 70);
    }
    CHECK(lipc_failure(slow.main) == -ENOBUFS && lipc_failure(quick.main) == 0);
    uint64_t waiting = lipc_outbox_bytes(slow.main);
    CHECK(send_all(topic, NULL, "again") == LIPC_FAILED && lipc_outbox_bytes(slow.main) == waiting);
    check_next(quick.renderer, 0, ++sent, 7, 70);
    lipc_topic_free(topic);
    close_pair(slow);
    close_pair(quick);
}

/* Copied once, whatever each of them has of it in its ring already, and counted for each. */
static void an_event_that_waits_for_many_waits_once(void)
{
    enum { SIZE = 5 * CAPACITY, LISTENERS = 4 };
    struct pair pairs[LISTENERS];
    struct lipc_topic *topic = lipc_topic_create();
    char *body = make_body(1, SIZE);
    const struct lipc_header header = {.kind = LIPC_EVENT};
    const struct lipc_part parts[] = {{.data = body, .size = 1001}, {.data = body + 1001, .size = SIZE - 1001}};
    for (uint32_t i = 0; i < LISTENERS; i++) {
        pairs[i] = open_pair(CAPACITY);
        CHECK(lipc_topic_add(topic, pairs[i].main, i, LIPC_REFUSE, 0) == 0);
        for (uint32_t j = 0; j <= 3 * (i ^ 2); j++) /* so the second has room for less of it than the first */
            raise_event(pairs[i].main, i, 0, 7, 5000);
    }
    int before = allocations_alive;
    CHECK(lipc_topic_send(topic, NULL, &header, parts, 2) == 0);
    CHECK(allocations_alive == before + LISTENERS + 1);
    memset(body, 0, SIZE); /* the sender may do what it likes with it now */
    for (uint32_t i = 0; i < LISTENERS; i++) {
        const struct lipc_outgoing *waiting = &pairs[i].main->outbox.head->message;
        CHECK(lipc_outbox_bytes(pairs[i].main) == lipc_weight(SIZE) - waiting->sent);
        CHECK(i == 0 || waiting->sent != pairs[i - 1].main->outbox.head->message.sent);
    }
    for (uint32_t i = 0; i < LISTENERS; i++) {
        struct received received;
        if (i == 3)
            continue; /* which goes with it unread */
        do {
            while (receive(pairs[i].renderer, &received) == 0)
                CHECK(lipc_flush(pairs[i].main) >= 0);
            bool whole = received.record.size == SIZE;
            CHECK(is_body(whole ? 1 : 7, received.body, received.record.size));
            free(received.body);
        } while (received.record.size != SIZE);
    }
    lipc_topic_free(topic);
    for (int i = 0; i < LISTENERS; i++)
        close_pair(pairs[i]);
    free(body);
}

static void a_failed_allocation_costs_the_one_it_was_for(void)
{
    struct pair first = open_pair(CAPACITY), second = open_pair(CAPACITY);
    struct lipc_topic *topic = lipc_topic_create();
    char *body = make_body(1, 3 * CAPACITY);
    const struct lipc_header header = {.kind = LIPC_EVENT};
    const struct lipc_part part = {.data = body, .size = 3 * CAPACITY};
    CHECK(lipc_topic_add(topic, first.main, 0, LIPC_REFUSE, 0) == 0);
    CHECK(lipc_topic_add(topic, second.main, 0, LIPC_REFUSE, 0) == 0);
    allocations_left = 2; /* the first one's place, and the body */
    CHECK(lipc_topic_send(topic, NULL, &header, &part, 1) == LIPC_FAILED);
    allocations_left = -1;
    CHECK(lipc_failure(first.main) == 0 && lipc_failure(second.main) == -ENOMEM);
    CHECK(lipc_outbox_bytes(second.main) == 0 && second.main->out.write_pos == 0);
    struct received received;
    while (receive(first.renderer, &received) == 0)
        CHECK(lipc_flush(first.main) >= 0);
    CHECK(is_body(1, received.body, received.record.size));
    free(received.body);
    free(body);
    lipc_topic_free(topic);
    close_pair(first);
    close_pair(second);
}

static int take(struct lipc_endpoint *endpoint, struct lipc_record *records, uint32_t max, uint32_t *relayed)
{
    static char buffer[LIPC_INLINE];
    uint64_t wanted;
    int told;
    int count = lipc_recv(endpoint, records, max, buffer, sizeof buffer, &wanted);
    *relayed = lipc_relayed(endpoint, &told);
    return count;
}

static void events_are_relayed_where_main_does_not_listen(void)
{
    struct pair from = open_pair(CAPACITY);
    struct pair to = open_pair(CAPACITY);
    struct lipc_topic *relayed_topic = lipc_topic_create();
    struct lipc_topic *heard_topic = lipc_topic_create();
    struct lipc_record records[8];
    uint32_t relayed;
    CHECK(lipc_topic_add(relayed_topic, to.main, 4, LIPC_REFUSE, 0) == 0);
    CHECK(lipc_topic_add(relayed_topic, from.main, 0, LIPC_REFUSE, 0) == 0);
    CHECK(lipc_topic_add(heard_topic, to.main, 5, LIPC_REFUSE, 0) == 0);
    lipc_topic_main_listens(heard_topic, 1);
    CHECK(lipc_relay(from.main, 1, relayed_topic, 9, 90) == -EINVAL);
    CHECK(lipc_relay(from.main, 0, relayed_topic, 9, 90) == 0);
    CHECK(lipc_relay(from.main, 1, heard_topic, 9, 90) == 0);

    raise_event(from.renderer, 0, ALL, 1, 100);
    raise_event(from.renderer, 0, ALL, 2, 0);
    raise_event(from.renderer, 1, ALL, 3, 100); /* heard: handed out */
    raise_event(from.renderer, 0, 9, 4, 100);   /* for one: handed out */
    raise_event(from.renderer, 2, ALL, 5, 100); /* of no channel: handed out, to be refused */
    raise_event(from.renderer, 0, ALL, 6, 100); /* waits for those to be handled */
    CHECK(take(from.main, records, 8, &relayed) == 3 && relayed == 2);
    CHECK(records[0].channel == 1 && records[1].detail == 9 && records[2].channel == 2);
    CHECK(take(from.main, records, 8, &relayed) == 0 && relayed == 1);
    CHECK(take(from.main, records, 8, &relayed) == 0 && relayed == 0);
    for (uint64_t place = 1; place <= 3; place++) {
        check_next(to.renderer, 4, place, 9, 90);
        check_next(from.renderer, 0, place, 9, 90); /* the sender's own listeners are listeners */
    }
    struct received none;
    CHECK(receive(to.renderer, &none) == 0);

    lipc_topic_main_listens(heard_topic, 0);
    raise_event(from.renderer, 1, ALL, 7, 100);
    raise_event(from.renderer, 1, ALL, 8, 100);
    CHECK(take(from.main, records, 1, &relayed) == 0 && relayed == 1); /* counts as one of the most */
    CHECK(take(from.main, records, 1, &relayed) == 0 && relayed == 1);
    check_next(to.renderer, 5, 1, 9, 90);
    check_next(to.renderer, 5, 2, 9, 90);
    lipc_topic_free(relayed_topic);
    lipc_topic_free(heard_topic);
    close_pair(from);
    close_pair(to);
}

static void relaying_ends_with_its_time_and_the_rest_is_the_next_calls(void)
{
    enum { LISTENERS = 4, EVENTS = 10, SIZE = 20000 };
    struct pair from = open_pair(4 * CAPACITY), pairs[LISTENERS];
    struct lipc_topic *topic = lipc_topic_create();
    struct lipc_record records[64];
    uint32_t relayed;
    for (uint32_t i = 0; i < LISTENERS; i++) {
        pairs[i] = open_pair(CAPACITY);
        CHECK(lipc_topic_add(topic, pairs[i].main, 4, LIPC_REFUSE, 0) == 0);
    }
    CHECK(lipc_relay(from.main, 0, topic, 9, 90) == 0);
    for (uint64_t i = 0; i < EVENTS; i++)
        raise_event(from.renderer, 0, ALL, i, SIZE);
    raise_event(from.renderer, 0, 9, 7, 0); /* handed out, behind all of them */
    looks = 0;
    each_look = RELAY_NS; /* so the first look is the start, and the second is the end */
    CHECK(take(from.main, records, 64, &relayed) == 0 && relayed == 6 && looks == 2);
    CHECK(take(from.main, records, 64, &relayed) == 1 && relayed == 4 && looks == 3);
    for (uint32_t i = 0; i < LISTENERS; i++)
        for (uint64_t place = 1; place <= EVENTS; place++) {
            struct received received;
            while (receive(pairs[i].renderer, &received) == 0)
                CHECK(lipc_flush(pairs[i].main) >= 0);
            CHECK(received.record.correlation == place && is_body(place - 1, received.body, SIZE));
            free(received.body);
        }
    looks = 0;
    CHECK(lipc_topic_remove(topic, pairs[0].main) && lipc_topic_remove(topic, pairs[1].main) &&
          lipc_topic_remove(topic, pairs[2].main));
    for (uint64_t i = 0; i < EVENTS; i++)
        raise_event(from.renderer, 0, ALL, i, 64);
    CHECK(take(from.main, records, 64, &relayed) == 0 && relayed == EVENTS && looks == 0);
    lipc_topic_free(topic);
    close_pair(from);
    for (int i = 0; i < LISTENERS; i++)
        close_pair(pairs[i]);
}

static void nothing_of_one_that_is_watched_is_relayed(void)
{
    struct pair from = open_pair(CAPACITY);
    struct lipc_topic *topic = lipc_topic_create();
    struct lipc_record records[8];
    uint32_t relayed;
    CHECK(lipc_relay(from.main, 0, topic, 9, 90) == 0);
    raise_event(from.renderer, 0, ALL, 1, 100);
    CHECK(take(from.main, records, 8, &relayed) == 0 && relayed == 1);
    lipc_stop_relaying(from.main);
    CHECK(lipc_relay(from.main, 1, topic, 9, 90) == 0);
    raise_event(from.renderer, 0, ALL, 2, 100);
    raise_event(from.renderer, 1, ALL, 3, 100);
    CHECK(take(from.main, records, 8, &relayed) == 2 && relayed == 0);
    CHECK(records[0].channel == 0 && records[1].channel == 1);
    lipc_topic_free(topic);
    close_pair(from);
}

static void other_kinds_and_large_events_are_handed_out(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct lipc_topic *topic = lipc_topic_create();
    struct received received;
    CHECK(lipc_relay(pair.main, 0, topic, 9, 90) == 0);
    struct lipc_header header = event(0, ALL);
    header.kind = LIPC_EVENT + 1;
    CHECK(lipc_send(pair.renderer, &header, "x", 1, LIPC_REFUSE) == 0);
    CHECK(receive(pair.main, &received) == 1 && received.record.kind == LIPC_EVENT + 1);
    free(received.body);
    raise_event(pair.renderer, 0, ALL, 1, LIPC_INLINE);
    while (receive(pair.main, &received) == 0)
        (void)lipc_flush(pair.renderer);
    CHECK(received.record.kind == LIPC_EVENT && is_body(1, received.body, LIPC_INLINE));
    free(received.body);
    lipc_topic_free(topic);
    close_pair(pair);
}

static void check_heard(struct lipc_endpoint *renderer, uint32_t channel, uint64_t missing, uint32_t follows)
{
    struct received received;
    CHECK(receive(renderer, &received) == 1);
    CHECK(received.record.channel == channel && received.record.correlation == missing);
    CHECK(received.record.follows == follows);
    free(received.body);
}

static void tell(struct lipc_endpoint *main, uint32_t channel, uint64_t place, uint32_t detail)
{
    const struct lipc_header header = {.correlation = place, .channel = channel, .detail = detail, .kind = LIPC_EVENT};
    CHECK(lipc_send(main, &header, "x", 1, LIPC_REFUSE) == 0);
}

static void what_is_missing_before_an_event_that_is_heard_is_counted(void)
{
    struct pair pair = open_pair(CAPACITY);
    CHECK(lipc_count_gaps(pair.renderer, 1) == -EINVAL);
    CHECK(lipc_count_gaps(pair.renderer, 0) == 0 && lipc_count_gaps(pair.renderer, 1) == 0);
    tell(pair.main, 0, 1, 0);
    tell(pair.main, 1, 3, 0);
    CHECK(lipc_count_gaps(pair.renderer, 1) == 0); /* again: nothing is forgotten */
    tell(pair.main, 0, 2, 0);
    tell(pair.main, 1, 4, 0);
    tell(pair.main, 1, 5, 7); /* from another one */
    tell(pair.main, 1, 6, 7);
    tell(pair.main, 1, 8, 7);
    tell(pair.main, 2, 8, 7); /* is not heard */
    check_heard(pair.renderer, 0, 0, 0);
    check_heard(pair.renderer, 1, 2, 0);
    check_heard(pair.renderer, 0, 0, 1);
    check_heard(pair.renderer, 1, 0, 1);
    check_heard(pair.renderer, 1, 0, 0);
    check_heard(pair.renderer, 1, 0, 1);
    check_heard(pair.renderer, 1, 1, 0);
    check_heard(pair.renderer, 2, 8, 0);
    close_pair(pair);
}

static void without_memory_nothing_is_added(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct lipc_topic *topic = lipc_topic_create();
    allocations_left = 0;
    CHECK(lipc_relay(pair.main, 0, topic, 9, 90) == -ENOMEM && lipc_count_gaps(pair.renderer, 0) == -ENOMEM);
    allocations_left = -1;
    for (uint32_t i = 0; i < 100; i++)
        CHECK(lipc_relay(pair.main, i, topic, 9, 90) == 0 && lipc_count_gaps(pair.renderer, i) == 0);
    lipc_topic_free(topic);
    close_pair(pair);
}

int main(void)
{
    RUN(all_who_listen_are_sent_an_event_under_their_own_number);
    RUN(more_listeners_than_there_was_room_for_are_all_kept);
    RUN(who_cannot_be_sent_to_is_told_of_and_left_out);
    RUN(an_event_that_waits_for_many_waits_once);
    RUN(a_failed_allocation_costs_the_one_it_was_for);
    RUN(events_are_relayed_where_main_does_not_listen);
    RUN(relaying_ends_with_its_time_and_the_rest_is_the_next_calls);
    RUN(nothing_of_one_that_is_watched_is_relayed);
    RUN(other_kinds_and_large_events_are_handed_out);
    RUN(what_is_missing_before_an_event_that_is_heard_is_counted);
    RUN(without_memory_nothing_is_added);
    return 0;
}
