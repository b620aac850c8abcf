/* SPDX-License-Identifier: MIT
 *
 * Large events in slabs: written once, read by several renderers, and given back. And a renderer that returns what it
 * likes. Usage: slabs [--count N] [--seed N], N being the steps of the hostile one, and the events that main sleeps for.
 */

#include "pair.h"

#include "../../csrc/endpoint/mapped_slabs.h"
#include "../../csrc/endpoint/slabs.h"
#include "../../csrc/endpoint/topic.h"
#include "options.h"
#include "sleep.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CAPACITY LIPC_CAPACITY_MIN
#define LARGE (2 * LIPC_BLOCK_LEAST)
#define SLAB (4 * (LARGE + 4096))
#define MOST 3

/* Main with some renderers that listen to one channel. */
static struct pair pairs[MOST];
static struct lipc_slabs *slabs;
static struct lipc_topic *topic;
static int slab_fd;
static uint32_t slab; /* its number */

static void offer(struct pair pair, uint32_t number, int fd)
{
    int64_t hold = lipc_offer_slab(pair.main, number);
    CHECK(hold > 0);
    CHECK(lipc_slab_map(pair.renderer, number, fd, (uint64_t)hold) == 0);
}

static void begin_with(int renderers, uint64_t high_water, int when_full)
{
    slabs = lipc_slabs_create(SLAB);
    topic = lipc_topic_create();
    CHECK(slabs && topic);
    lipc_topic_use_slabs(topic, slabs);
    CHECK(lipc_slab_add(slabs, ++slab, SLAB) == 0);
    slab_fd = lipc_slab_fd(slabs, slab);
    CHECK(slab_fd >= 0);
    for (int i = 0; i < renderers; i++) {
        pairs[i] = open_pair(CAPACITY);
        pairs[i].main->high_water = high_water;
        CHECK(lipc_topic_add(topic, pairs[i].main, (uint32_t)i, when_full, 0) == 0);
        offer(pairs[i], slab, slab_fd);
    }
}

static void begin(int renderers)
{
    begin_with(renderers, NO_LIMIT, LIPC_REFUSE);
}

static void close_renderer(int i)
{
    (void)lipc_topic_remove(topic, pairs[i].main);
    lipc_views_leave(pairs[i].renderer);
    lipc_unmap_slabs(pairs[i].renderer);
    close_pair(pairs[i]);
}

static struct lipc_slab_state look(void)
{
    struct lipc_slab_state state;
    CHECK(lipc_slab_look(slabs, slab, &state) == 0);
    return state;
}

static void end(int renderers)
{
    for (int i = 0; i < renderers; i++)
        close_renderer(i);
    CHECK(look().taken == 0 && look().blocks == 0);
    CHECK(slabs->first->first->after == NULL); /* all free blocks have become one again */
    lipc_topic_free(topic);
    lipc_slabs_free(slabs);
}

static int publish(uint64_t seed, size_t size)
{
    const struct lipc_header header = {.detail = 9, .pid = 90, .kind = LIPC_EVENT};
    char *body = make_body(seed, size);
    const struct lipc_part parts[] = {{.data = body, .size = 10}, {.data = NULL}, {.data = body + 10, .size = size - 10}};
    int status = lipc_topic_send(topic, NULL, &header, parts, 3);
    free(body);
    return status;
}

static void check_heard(int i, uint64_t seed, size_t size)
{
    struct received received = {0};
    int got;
    while ((got = receive(pairs[i].renderer, &received)) == 0)
        if (pairs[i].main->outbox.head)
            CHECK(lipc_flush(pairs[i].main) >= 0);
    CHECK(got == 1);
    CHECK(received.record.size == size && received.record.channel == (uint32_t)i);
    CHECK(is_body(seed, received.body, size));
    free(received.body);
}

static void a_large_event_is_written_once_and_each_subscriber_copies_it_out(void)
{
    begin(3);
    for (uint64_t seed = 1; seed <= 50; seed++) {
        CHECK(publish(seed, LARGE) == 0);
        CHECK(look().blocks == 1 && look().uses == seed && look().taken == LARGE);
        for (int i = 0; i < 3; i++)
            check_heard(i, seed, LARGE);
        for (int i = 0; i < 3; i++)
            CHECK(lipc_held_bytes(pairs[i].main) == LARGE && lipc_collect(pairs[i].main) == 0 &&
                  lipc_held_bytes(pairs[i].main) == 0);
        CHECK(look().blocks == 0);
    }
    end(3);
}

static void small_events_and_events_for_one_subscriber_go_through_the_ring(void)
{
    begin(2);
    CHECK(publish(1, LIPC_BLOCK_LEAST - 1) == 0 && look().uses == 0);
    check_heard(0, 1, LIPC_BLOCK_LEAST - 1);
    close_renderer(1);
    CHECK(publish(2, 50000) == 0 && look().uses == 0);
    check_heard(0, 2, 50000);
    end(1);
}

static void who_has_not_mapped_the_slab_is_sent_the_event_through_its_ring(void)
{
    begin(2);
    pairs[2] = open_pair(CAPACITY);
    CHECK(lipc_topic_add(topic, pairs[2].main, 2, LIPC_REFUSE, 0) == 0);
    CHECK(publish(1, LIPC_BLOCK_LEAST) == LIPC_WANTS_SLAB);
    CHECK(look().uses == 1 && pairs[2].main->outbox.head);
    int64_t hold = lipc_offer_slab(pairs[2].main, slab);
    CHECK(hold > 0 && lipc_offer_slab(pairs[2].main, slab) == -EINVAL);
    CHECK(publish(2, LARGE) == 0); /* offered, and not mapped: again through the ring */
    for (uint64_t seed = 1; seed <= 2; seed++)
        for (int i = 0; i < 2; i++)
            check_heard(i, seed, seed == 1 ? LIPC_BLOCK_LEAST : LARGE);
    CHECK(lipc_slab_map(pairs[2].renderer, slab, slab_fd, (uint64_t)hold) == 0);
    CHECK(publish(3, LARGE) == 0);
    CHECK(lipc_held_bytes(pairs[2].main) == LARGE);
    struct received received = {0};
    for (uint64_t seed = 1; seed <= 3;) { /* and all are heard in their order */
        CHECK(lipc_flush(pairs[2].main) >= 0);
        if (receive(pairs[2].renderer, &received) == 1) {
            CHECK(received.record.correlation == seed);
            CHECK(is_body(seed, received.body, seed == 1 ? LIPC_BLOCK_LEAST : LARGE));
            free(received.body);
            seed++;
        }
    }
    for (int i = 0; i < 2; i++)
        check_heard(i, 3, LARGE);
    end(3);
}

static void a_full_pool_asks_for_a_slab_and_events_go_through_the_rings(void)
{
    begin(2);
    for (uint64_t seed = 1; seed <= 4; seed++)
        CHECK(publish(seed, LARGE) == 0);
    CHECK(publish(5, LARGE + 1) == LIPC_WANTS_SLAB && lipc_slabs_wanted(slabs) == LARGE + 1);
    CHECK(lipc_slabs_wanted(slabs) == 0 && look().uses == 4);
    for (int i = 0; i < 2; i++) {
        for (uint64_t seed = 1; seed <= 4; seed++)
            check_heard(i, seed, LARGE);
        check_heard(i, 5, LARGE + 1);
    }
    CHECK(publish(6, LARGE) == 0 && look().uses == 5); /* what was returned is found without being asked for */
    end(2);
}

static void a_block_is_used_again_only_when_its_last_holder_has_returned_it(void)
{
    begin(3);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        CHECK(publish(seed, SLAB / 2) == 0);
        check_heard(0, seed, SLAB / 2);
        check_heard(1, seed, SLAB / 2);
        /* The third still holds it: there is room for one other block, which may not be this one. */
        CHECK(publish(100 + seed, SLAB / 2) == 0 && look().taken == SLAB);
        CHECK(publish(200, LARGE) == LIPC_WANTS_SLAB);
        check_heard(2, seed, SLAB / 2);
        for (int i = 0; i < 3; i++) {
            check_heard(i, 100 + seed, SLAB / 2);
            check_heard(i, 200, LARGE);
        }
    }
    end(3);
}

static void a_renderer_that_is_gone_holds_nothing(void)
{
    begin(3);
    CHECK(publish(1, LARGE) == 0 && publish(2, LARGE) == 0);
    check_heard(0, 1, LARGE); /* it has read one, and not the other */
    close_renderer(0);
    close_renderer(1);
    CHECK(look().blocks == 2);
    close_renderer(2);
    CHECK(look().blocks == 0);
    end(0);
}

static void a_slab_that_is_held_stays_and_another_is_given_back(void)
{
    begin(2);
    CHECK(lipc_slab_add(slabs, 1000, SLAB) == 0);
    int fd = lipc_slab_fd(slabs, 1000);
    CHECK(fd >= 0 && lipc_slab_add(slabs, 1001, 100) == -EINVAL && lipc_slab_add(slabs, 1001, 0) == -EINVAL);
    CHECK(publish(1, LARGE) == 0);
    CHECK(lipc_slab_remove(slabs, slab) == -EBUSY);
    CHECK(lipc_slab_remove(slabs, 1000) == 0 && lipc_slab_remove(slabs, 1000) == -EINVAL);
    struct lipc_slab_state state;
    CHECK(lipc_slab_look(slabs, 1000, &state) == -EINVAL && lipc_slab_fd(slabs, 1000) == -1);
    CHECK(fcntl(fd, F_GETFD) < 0 && lipc_slab_is_had(slabs, 1000));
    lipc_slabs_close(slabs);
    CHECK(fcntl(slab_fd, F_GETFD) < 0 && lipc_slab_fd(slabs, slab) == -1);
    for (int i = 0; i < 2; i++) {
        CHECK(lipc_slab_unmap(pairs[i].renderer, 1000) == 0);
        check_heard(i, 1, LARGE);
    }
    end(2);
}

static void a_slab_taken_back_from_a_renderer_is_not_used_toward_it(void)
{
    begin(3);
    lipc_withdraw_slab(pairs[2].main, slab, 0);
    CHECK(lipc_slab_unmap(pairs[2].renderer, slab) == 0);
    CHECK(publish(1, LARGE) == LIPC_WANTS_SLAB && lipc_held_bytes(pairs[2].main) == 0);
    int64_t hold = lipc_offer_slab(pairs[2].main, slab); /* and this offer does not reach it */
    CHECK(hold > 0);
    lipc_withdraw_slab(pairs[2].main, slab, (uint64_t)hold);
    CHECK(pairs[2].main->outbox.holds->count == 0);
    offer(pairs[2], slab, slab_fd);
    CHECK(publish(2, LARGE) == 0 && lipc_held_bytes(pairs[2].main) == LARGE);
    end(3);
}

static void an_offer_that_was_taken_back_says_nothing_of_the_next_one(void)
{
    begin(3);
    lipc_withdraw_slab(pairs[2].main, slab, 0);
    CHECK(lipc_slab_unmap(pairs[2].renderer, slab) == 0);
    int64_t first = lipc_offer_slab(pairs[2].main, slab);
    lipc_withdraw_slab(pairs[2].main, slab, 0);
    int64_t second = lipc_offer_slab(pairs[2].main, slab);
    CHECK(first > 0 && second > first);
    CHECK(lipc_slab_map(pairs[2].renderer, slab, slab_fd, (uint64_t)first) == 0); /* late, and it is told to unmap it */
    CHECK(publish(1, LARGE) == 0 && lipc_collect(pairs[2].main) == 0);
    CHECK(publish(2, LARGE) == 0 && lipc_held_bytes(pairs[2].main) == 0);
    CHECK(lipc_slab_unmap(pairs[2].renderer, slab) == 0);
    CHECK(lipc_slab_map(pairs[2].renderer, slab, slab_fd, (uint64_t)second) == 0);
    CHECK(publish(3, LARGE) == 0 && lipc_held_bytes(pairs[2].main) == LARGE);
    for (uint64_t seed = 1; seed <= 3; seed++)
        for (int i = 0; i < 3; i++)
            check_heard(i, seed, LARGE);
    end(3);
}

static void what_a_renderer_holds_that_main_has_closed_stays_as_it_is(void)
{
    begin(3);
    CHECK(publish(1, LARGE) == 0 && publish(2, LARGE) == 0);
    check_heard(0, 1, LARGE);
    struct lipc_endpoint *closed = pairs[0].main;
    CHECK(lipc_topic_remove(topic, closed) == 2);
    struct lipc_holds *left = NULL;
    lipc_leave_holds(closed, &left);
    CHECK(left && lipc_holds_bytes(left) == LARGE && lipc_held_bytes(closed) == 0);
    lipc_leave_holds(closed, &left); /* again, as after a signal that has raised */
    CHECK(lipc_holds_bytes(left) == LARGE);
    for (int i = 1; i < 3; i++)
        for (uint64_t seed = 1; seed <= 2; seed++)
            check_heard(i, seed, LARGE);
    CHECK(lipc_collect(pairs[1].main) == 0 && lipc_collect(pairs[2].main) == 0 && look().blocks == 1);
    CHECK(publish(3, LARGE) == 0 && publish(4, LARGE) == 0);
    check_heard(0, 2, LARGE);
    CHECK(look().blocks == 3);
    lipc_end_holds(&left); /* the renderer has hung up */
    lipc_end_holds(&left);
    CHECK(!left && lipc_holds_bytes(left) == 0 && look().blocks == 2);
    end(3);
}

static void a_renderer_that_main_has_closed_does_not_hold_what_it_never_got(void)
{
    begin(3);
    const struct lipc_header header = {.channel = 1, .kind = LIPC_EVENT};
    char *body = make_body(0, 4 * CAPACITY);
    CHECK(lipc_send(pairs[0].main, &header, body, 4 * CAPACITY, LIPC_KEEP) == 0); /* what comes now waits behind it */
    CHECK(publish(1, LARGE) == 0 && lipc_held_bytes(pairs[0].main) == LARGE);
    CHECK(lipc_topic_remove(topic, pairs[0].main) == 1);
    struct lipc_holds *left = NULL;
    lipc_leave_holds(pairs[0].main, &left);
    CHECK(!left && !pairs[0].main->outbox.head);
    free(body);
    end(3);
}

static void a_renderer_beyond_its_share_is_sent_the_rest_through_its_ring(void)
{
    begin_with(3, LARGE / LIPC_SHARE, LIPC_REFUSE);
    slabs->most = LIPC_SHARE_OF_MOST * LARGE; /* so that the share is one block, by both measures */
    CHECK(publish(1, LARGE) == LIPC_CONGESTED);
    check_heard(1, 1, LARGE);
    check_heard(2, 1, LARGE);
    CHECK((publish(2, LARGE) & ~LIPC_CONGESTED) == 0 && look().blocks == 2);
    CHECK(lipc_held_bytes(pairs[0].main) == LARGE && pairs[0].main->outbox.head);
    end(3);
}

static void who_holds_much_is_waited_for_as_if_it_lay_in_the_outbox(void)
{
    begin_with(2, LARGE, LIPC_REFUSE);
    CHECK(publish(1, LARGE) == 0 && lipc_outbox_bytes(pairs[0].main) == 0);
    for (uint64_t seed = 2; seed <= 3; seed++)
        CHECK(publish(seed, LARGE) == 0);
    pairs[0].main->outbox.holds->high_water = LARGE / 2; /* what is much */
    CHECK(publish(4, LARGE) == LIPC_CONGESTED && lipc_outbox_bytes(pairs[0].main) == 4 * LARGE);
    CHECK(lipc_park(pairs[0].main, 1) == 1);
    uint64_t before = lipc_bytes_taken(pairs[0].main);
    check_heard(0, 1, LARGE);
    CHECK(!lipc_wakeup_parked(&pairs[0].main->wakeup)); /* the return has woken it */
    CHECK(lipc_flush(pairs[0].main) == 3 * LARGE);
    CHECK(lipc_bytes_taken(pairs[0].main) >= before + LARGE);
    for (uint64_t seed = 2; seed <= 4; seed++)
        check_heard(0, seed, LARGE);
    CHECK(lipc_park(pairs[0].main, 1) == 0); /* there is something to collect */
    CHECK(lipc_flush(pairs[0].main) == 0 && lipc_park(pairs[0].main, 1) == 1);
    end(2);
}

static void who_waits_for_room_is_told_whoever_has_collected_what_was_returned(void)
{
    begin_with(2, LARGE / 4, LIPC_REFUSE); /* so that two blocks are a share */
    CHECK(publish(1, LARGE) >= 0 && publish(2, LARGE) == LIPC_CONGESTED);
    for (int i = 0; i < 2; i++)
        for (uint64_t seed = 1; seed <= 2; seed++)
            check_heard(i, seed, LARGE);
    CHECK(lipc_outbox_bytes(pairs[0].main) == 2 * LARGE);
    CHECK(lipc_collect(pairs[0].main) == 0 && lipc_outbox_bytes(pairs[0].main) == 0); /* as a send does it */
    CHECK(lipc_should_flush(pairs[0].main) && lipc_park(pairs[0].main, 1) == 0);
    CHECK(lipc_flush(pairs[0].main) == 0);
    CHECK(!lipc_should_flush(pairs[0].main) && lipc_park(pairs[0].main, 1) == 1);
    lipc_unpark(pairs[0].main);
    end(2);
}

static void drop(int when_full)
{
    begin_with(2, LARGE, when_full);
    const struct lipc_header header = {.channel = 1, .kind = LIPC_EVENT};
    char *body = make_body(0, 4 * CAPACITY);
    CHECK(lipc_send(pairs[0].main, &header, body, 4 * CAPACITY, LIPC_KEEP) == 0); /* what comes now waits behind it */
    CHECK(publish(1, LARGE) >= 0 && lipc_held_bytes(pairs[0].main) == LARGE);
    CHECK(lipc_send(pairs[0].main, &header, body, 4 * CAPACITY, LIPC_KEEP) == 0);
    CHECK(publish(2, LARGE) >= 0); /* beyond its share: through the ring, and the first one is dropped for it */
    CHECK(lipc_held_bytes(pairs[0].main) == 0);
    CHECK(lipc_held_bytes(pairs[1].main) == LARGE);
    free(body);
    end(2);
}

/* ---- views ---- */

static void view_in(int renderers)
{
    begin_with(renderers, LARGE, LIPC_REFUSE);
    for (int i = 0; i < renderers; i++) {
        for (uint32_t number = 0; number <= (uint32_t)i; number++)
            CHECK(lipc_count_gaps(pairs[i].renderer, number) == 0);
        lipc_view_channel(pairs[i].renderer, (uint32_t)i, 1);
        lipc_topic_view(topic, pairs[i].main, 1);
    }
}

/* Takes the next event, which comes as a view. */
static struct lipc_view *take(int i, uint64_t seed, size_t size)
{
    char buffer[LIPC_INLINE];
    struct lipc_record record;
    uint64_t wanted;
    int error = 0;
    CHECK(lipc_recv(pairs[i].renderer, &record, 1, buffer, sizeof buffer, &wanted) == 0 && wanted == size);
    CHECK(lipc_may_view(pairs[i].renderer) == 1);
    struct lipc_view *view = lipc_take_view(pairs[i].renderer, &record, &error);
    CHECK(view && record.size == size && record.offset == LIPC_ASSEMBLED);
    CHECK(is_body(seed, lipc_view_memory(view), size));
    return view;
}

static void an_event_for_one_that_reads_in_place_lies_in_a_block_until_its_view_ends(void)
{
    view_in(1);
    for (uint64_t seed = 1; seed <= 20; seed++) {
        CHECK(publish(seed, LARGE) == 0 && look().uses == seed);
        struct lipc_view *view = take(0, seed, LARGE);
        CHECK(lipc_collect(pairs[0].main) == 0 && lipc_held_bytes(pairs[0].main) == LARGE && look().blocks == 1);
        lipc_view_end(view);
        lipc_view_end(view);
        CHECK(lipc_collect(pairs[0].main) == 0 && look().blocks == 0);
        lipc_view_free(view);
    }
    lipc_topic_view(topic, pairs[0].main, 0);
    CHECK(publish(99, 50000) == 0 && look().uses == 20);
    check_heard(0, 99, 50000);
    end(1);
}

static int answer(struct lipc_endpoint *to, uint64_t seed, size_t size)
{
    const struct lipc_header header = {.correlation = seed, .kind = 4};
    char *body = make_body(seed, size);
    const struct lipc_part parts[] = {{.data = body, .size = 10}, {.data = NULL}, {.data = body + 10, .size = size - 10}};
    int status = lipc_send_in_block(to, slabs, &header, parts, 3);
    free(body);
    return status;
}

static void what_is_no_event_is_read_in_place_or_not_sent(void)
{
    view_in(1);
    struct lipc_view *views[4];
    lipc_view_channel(pairs[0].renderer, 0, 0); /* that is for events alone */
    CHECK(answer(pairs[0].main, 1, LIPC_BLOCK_LEAST - 1) == 0 && look().uses == 0);
    for (uint64_t seed = 1; seed <= 4; seed++) {
        CHECK(answer(pairs[0].main, seed, LARGE) == LIPC_IN_BLOCK);
        views[seed - 1] = take(0, seed, LARGE);
    }
    CHECK(answer(pairs[0].main, 5, LARGE) == LIPC_WANTS_SLAB && lipc_slabs_wanted(slabs) == LARGE);
    for (int i = 0; i < 4; i++) {
        CHECK(is_body((uint64_t)i + 1, lipc_view_memory(views[i]), LARGE));
        lipc_view_free(views[i]);
    }
    CHECK(lipc_collect(pairs[0].main) == 0);
    struct pair other = open_pair(CAPACITY); /* it has no slab */
    CHECK(answer(other.main, 6, LARGE) == LIPC_WANTS_SLAB && lipc_slabs_wanted(slabs) == 0);
    int64_t hold = lipc_offer_slab(other.main, slab);
    CHECK(hold > 0 && answer(other.main, 7, LARGE) == 0); /* nor has it mapped this one */
    close_pair(other);
    CHECK(answer(pairs[0].main, 8, LARGE) == LIPC_IN_BLOCK && look().blocks == 1);
    lipc_view_free(take(0, 8, LARGE));
    CHECK(lipc_collect(pairs[0].main) == 0);
    end(1);
}

static void what_is_viewed_is_neither_used_again_nor_waited_for(void)
{
    view_in(2);
    struct lipc_view *first[2], *second[2];
    for (int step = 0; step < 2; step++) {
        CHECK(publish(1 + (uint64_t)step, SLAB / 4) >= 0);
        for (int i = 0; i < 2; i++)
            (step ? second : first)[i] = take(i, 1 + (uint64_t)step, SLAB / 4);
    }
    pairs[0].main->outbox.holds->high_water = SLAB / 4 * 3 / 8; /* three blocks are a share, and two are much */
    CHECK(lipc_collect(pairs[0].main) == 0 && publish(3, SLAB / 4) >= 0);
    CHECK(lipc_held_bytes(pairs[0].main) == SLAB / 4 * 3 && lipc_outbox_bytes(pairs[0].main) == 0);
    CHECK(publish(4, LARGE) >= 0 && lipc_held_bytes(pairs[0].main) == SLAB / 4 * 3); /* beyond the share: by the ring */
    for (int i = 0; i < 2; i++) {
        CHECK(is_body(1, lipc_view_memory(first[i]), SLAB / 4) && is_body(2, lipc_view_memory(second[i]), SLAB / 4));
        lipc_view_free(first[i]);
        lipc_view_free(second[i]);
    }
    end(2);
}

static void what_is_written_to_a_view_is_seen_by_nobody_and_not_in_the_next_event(void)
{
    view_in(2);
    for (uint64_t seed = 1; seed <= 10; seed++) {
        CHECK(publish(seed, LARGE) == 0);
        struct lipc_view *one = take(0, seed, LARGE), *other = take(1, seed, LARGE);
        memset(lipc_view_memory(one), 'x', LARGE);
        CHECK(is_body(seed, lipc_view_memory(other), LARGE));
        if (seed == 5) { /* without the pagemap all pages are dropped */
            CHECK(pairs[0].renderer->views->pagemap >= 0 && close(pairs[0].renderer->views->pagemap) == 0);
            pairs[0].renderer->views->pagemap = -1;
        }
        lipc_view_free(one);
        lipc_view_free(other);
        CHECK(lipc_collect(pairs[0].main) == 0 && lipc_collect(pairs[1].main) == 0 && look().blocks == 0);
        if (seed == 7) { /* who copies reads what main has written, too */
            lipc_view_channel(pairs[0].renderer, 0, 0);
            CHECK(publish(100, LARGE) == 0);
            check_heard(0, 100, LARGE);
            lipc_view_free(take(1, 100, LARGE));
            lipc_view_channel(pairs[0].renderer, 0, 1);
        }
    }
    end(2);
}

static char *volatile written_by_a_thread;

static void *write_a_byte(void *unused)
{
    *written_by_a_thread = (char)(*written_by_a_thread + 1);
    return unused;
}

/* Pages are not looked at as long as this process has had no page fault. A write may be the only one for a long time. */
static void a_byte_that_is_written_at_any_time_by_any_thread_is_not_in_the_next_event(void)
{
    view_in(1);
    uint64_t state = 1;
    int unchanged = 0;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        size_t size = LIPC_BLOCK_LEAST + next_random(&state) % (LARGE - LIPC_BLOCK_LEAST);
        struct lipc_mapped_slab *mapped = pairs[0].renderer->slabs[0];
        CHECK(publish(seed, size) == 0);
        uint64_t before = mapped->clean ? mapped->clean[0] : 0;
        struct lipc_view *view = take(0, seed, size);
        unchanged += mapped->clean && mapped->clean[0] == before;
        written_by_a_thread = lipc_view_memory(view) + next_random(&state) % size;
        pthread_t thread;
        switch (next_random(&state) % 40) {
        case 0: (void)write_a_byte(NULL); break;
        case 1:
            CHECK(pthread_create(&thread, NULL, write_a_byte, NULL) == 0 && pthread_join(thread, NULL) == 0);
            break;
        case 2: /* into a place that is viewed in part next time, beyond what it was found clean for */
            lipc_view_memory(view)[size - 1] = 'x';
            break;
        case 3:
            if (seed > 1500) { /* as if there had been no memory for it */
                free(mapped->clean);
                mapped->clean = NULL;
            }
            break;
        default: break;
        }
        lipc_view_free(view);
        CHECK(lipc_collect(pairs[0].main) == 0 && look().blocks == 0);
    }
#if !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__ /* which have page faults of their own */
    CHECK(unchanged > 500); /* or this test has tried nothing */
#endif
    end(1);
}

static void a_view_outlives_its_slab_and_its_endpoint_as_it_was(void)
{
    view_in(2);
    CHECK(publish(1, LARGE) == 0);
    struct lipc_view *one = take(0, 1, LARGE), *other = take(1, 1, LARGE);
    struct lipc_slab *mains = slabs->first;
    CHECK(lipc_slab_unmap(pairs[0].renderer, slab) == 0 && pairs[0].renderer->slab_count == 0);
    CHECK(is_body(1, lipc_view_memory(one), LARGE));
    lipc_views_detach(pairs[1].renderer);
    memset(mains->memory, 'y', LARGE);
    CHECK(is_body(1, lipc_view_memory(other), LARGE)); /* and `one` is not detached */
    memcpy(mains->memory, lipc_view_memory(other), LARGE);
    close_renderer(0);
    close_renderer(1);
    CHECK(look().blocks == 0);
    memset(mains->memory, 'z', LARGE);
    CHECK(is_body(1, lipc_view_memory(one), LARGE) && is_body(1, lipc_view_memory(other), LARGE));
    lipc_view_end(one);
    lipc_view_free(one);
    lipc_view_free(other);
    end(0);
}

static void *end_views(void *argument)
{
    struct lipc_view **views = argument;
    for (int i = 0; i < 8; i++)
        lipc_view_free(views[i]);
    return NULL;
}

static void views_may_end_in_any_thread_while_the_renderer_reads_on(void)
{
    begin_with(1, SLAB, LIPC_REFUSE);
    CHECK(lipc_count_gaps(pairs[0].renderer, 0) == 0);
    lipc_view_channel(pairs[0].renderer, 0, 1);
    lipc_topic_view(topic, pairs[0].main, 1);
    for (uint64_t round = 0; round < 30; round++) {
        pthread_t threads[2];
        struct lipc_view *views[16];
        int begun = 0;
        for (uint64_t seed = 0; seed < 16; seed++) {
            if (publish(seed, LIPC_BLOCK_LEAST) != 0 || lipc_held_bytes(pairs[0].main) == 0)
                break;
            views[seed] = take(0, seed, LIPC_BLOCK_LEAST);
            if (seed % 8 == 7 && seed < 16)
                CHECK(pthread_create(&threads[begun++], NULL, end_views, views + seed - 7) == 0);
            CHECK(lipc_collect(pairs[0].main) == 0);
            if (seed == 7)
                CHECK(pthread_join(threads[0], NULL) == 0);
        }
        CHECK(begun == 2 && pthread_join(threads[1], NULL) == 0);
        CHECK(lipc_collect(pairs[0].main) == 0 && look().blocks == 0);
    }
    end(1);
}

static atomic_bool forks;

/* Reads all that is viewed in a forked child, again and again. */
static void *fork_on(void *argument)
{
    struct lipc_views *views = argument;
    while (atomic_load(&forks)) {
        pid_t pid = fork();
        if (pid == 0) {
            unsigned total = 0;
            for (struct lipc_view *view = views->first; view; view = view->after)
                for (uint64_t at = 0; at < view->place.size; at += 512)
                    total += (unsigned char)lipc_view_memory(view)[at];
            _exit(total == 1); /* which it hardly is */
        }
        int status;
        CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    }
    return NULL;
}

static void a_child_that_is_forked_at_any_moment_has_what_is_viewed(void)
{
    begin_with(1, SLAB, LIPC_REFUSE);
    CHECK(lipc_count_gaps(pairs[0].renderer, 0) == 0);
    lipc_view_channel(pairs[0].renderer, 0, 1);
    lipc_topic_view(topic, pairs[0].main, 1);
    CHECK(publish(0, LARGE) == 0);
    struct lipc_view *kept = take(0, 0, LARGE), *ended = kept;
    pthread_t thread;
    atomic_store(&forks, true);
    CHECK(pthread_create(&thread, NULL, fork_on, pairs[0].renderer->views) == 0);
    for (uint64_t seed = 1; seed < 300; seed++) {
        CHECK(publish(seed, LARGE) == 0);
        struct lipc_view *view = take(0, seed, LARGE);
        lipc_view_end(ended); /* what shows it may be read in a child all the same */
        if (ended != kept)
            lipc_view_free(ended);
        ended = view;
        CHECK(is_body(seed, lipc_view_memory(view), LARGE));
        CHECK(lipc_collect(pairs[0].main) == 0);
    }
    atomic_store(&forks, false);
    CHECK(pthread_join(thread, NULL) == 0);
    lipc_view_free(ended);
    lipc_view_free(kept);
    CHECK(lipc_collect(pairs[0].main) == 0 && look().blocks == 0);
    end(1);
}

static void what_a_renderer_cannot_view_disconnects_it(void)
{
    for (int which = 0; which < 4; which++) {
        view_in(2);
        CHECK(publish(1, LARGE) == 0);
        struct lipc_endpoint *hostile = pairs[0].renderer;
        uint64_t own = pairs[0].main->outbox.holds->last;
        if (which == 0)
            CHECK(lipc_tell_hold(hostile, own + 1, LIPC_VIEWED) == 0);
        if (which == 1) /* twice */
            CHECK(lipc_tell_hold(hostile, own, LIPC_VIEWED) == 0 && lipc_tell_hold(hostile, own, LIPC_VIEWED) == 0);
        if (which == 2) /* what it has returned */
            CHECK(lipc_return_hold(hostile, own) == 0 && lipc_tell_hold(hostile, own, LIPC_VIEWED) == 0);
        if (which == 3) { /* an offer */
            int64_t offered = lipc_offer_slab(pairs[0].main, slab + 7);
            CHECK(offered > 0 && lipc_tell_hold(hostile, (uint64_t)offered, LIPC_VIEWED) == 0);
        }
        CHECK(lipc_collect(pairs[0].main) == -EBADMSG && look().blocks == 1);
        end(2);
    }
}

static void a_renderer_can_tell_all_of_its_holds_at_once(void)
{
    view_in(1);
    pairs[0].main->outbox.holds->high_water = UINT32_MAX;
    struct lipc_block block = {.slab = slabs->first, .size = 4096, .holders = 1};
    uint64_t first = pairs[0].main->outbox.holds->last + 1;
    while (pairs[0].main->outbox.holds->count < LIPC_HOLDS)
        (void)lipc_hold_begin(pairs[0].main->outbox.holds, &block);
    uint64_t last = pairs[0].main->outbox.holds->last;
    for (uint16_t what = LIPC_VIEWED; what >= LIPC_RETURN; what--)
        for (uint64_t id = first; id <= last; id++)
            CHECK(lipc_tell_hold(pairs[0].renderer, id, what) == 0);
    CHECK(lipc_collect(pairs[0].main) == 0 && pairs[0].main->outbox.holds->bytes == 0 && block.holders == 1);
    end(1);
}

static void a_dropped_event_holds_nothing(void)
{
    drop(LIPC_DROP_OLDEST);
    drop(LIPC_KEEP_NEWEST);
}

static void what_a_renderer_does_not_hold_it_cannot_return(void)
{
    for (int which = 0; which < 7; which++) {
        begin(3);
        CHECK(publish(1, LARGE) == 0);
        struct lipc_endpoint *hostile = pairs[0].renderer, *victim = pairs[0].main;
        uint64_t own = victim->outbox.holds->last;
        uint64_t position = hostile->returns.write_pos;
        struct lipc_frame forged = {.total = 24, .size = 24, .kind = 1, .correlation = own};
        switch (which) {
        case 0: CHECK(lipc_return_hold(hostile, own + 1) == 0); break; /* one that comes next */
        case 1: CHECK(lipc_return_hold(hostile, 0) == 0); break;
        case 2: CHECK(lipc_return_hold(hostile, own + LIPC_HOLDS) == 0); break; /* in the same slot */
        case 3: /* twice */
            CHECK(lipc_return_hold(hostile, own) == 0 && lipc_return_hold(hostile, own) == 0);
            break;
        case 4: CHECK(lipc_return_hold(hostile, 1) == 0); break; /* that of the offer, which it has returned */
        case 5:
            forged.total = forged.size = 32;
            memcpy(hostile->returns.data + position % LIPC_RETURNS, &forged, sizeof forged);
            lipc_ring_commit(&hostile->returns, lipc_frame_bytes(32));
            break;
        default: lipc_ring_commit(&hostile->returns, LIPC_RETURNS + 8); break; /* more than there can be */
        }
        /* The others still hold it, and it is not used again. */
        CHECK(lipc_collect(victim) == -EBADMSG && look().blocks == 1);
        CHECK(lipc_flush(victim) == -EBADMSG);
        victim->outbox.holds->bytes = NO_LIMIT; /* so that its returns are looked at */
        CHECK(publish(2, LARGE) & LIPC_FAILED);
        CHECK(lipc_failure(victim) == -EBADMSG && lipc_failure(pairs[1].main) == 0);
        for (uint64_t seed = 1; seed <= 2; seed++)
            for (int i = 1; i < 3; i++)
                check_heard(i, seed, LARGE);
        end(3);
    }
}

/* An event whose body is said to lie at `place` ends the connection. */
static void check_refuses_place(struct lipc_endpoint *from, struct lipc_endpoint *to, uint32_t detail,
                                const struct lipc_place *place)
{
    const struct lipc_header header = {.kind = LIPC_EVENT, .detail = detail};
    const struct lipc_part part = {.data = (const char *)place, .size = sizeof *place};
    struct lipc_copies copies = {.flags = LIPC_FRAME_BLOCK};
    CHECK(lipc_send_to(from, &header, &part, 1, LIPC_REFUSE, &copies) == 0);
    struct received received;
    CHECK(receive(to, &received) == -EBADMSG);
}

static void a_place_outside_a_slab_is_refused(void)
{
    begin(2);
    const struct lipc_place places[] = {
        {.slab = slab + 1, .size = 1},
        {.slab = slab, .size = 0},
        {.slab = slab, .size = SLAB + 1},
        {.slab = slab, .offset = SLAB, .size = 1},
        {.slab = slab, .offset = SLAB - 1, .size = 2},
        {.slab = slab, .offset = UINT64_MAX, .size = 2},
        {.slab = slab, .offset = 2, .size = UINT64_MAX},
    };
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        CHECK(lipc_slab_of(pairs[0].renderer, &places[i]) == NULL);
    const struct lipc_place last = {.slab = slab, .offset = SLAB - 1, .size = 1};
    CHECK(lipc_slab_of(pairs[0].renderer, &last) != NULL);
    check_refuses_place(pairs[0].main, pairs[0].renderer, 0, &places[0]);
    end(2);
}

static void main_takes_no_place_of_a_renderer(void)
{
    begin(2);
    const struct lipc_place place = {.slab = slab, .size = LARGE};
    check_refuses_place(pairs[0].renderer, pairs[0].main, LIPC_ALL, &place);
    end(2);
}

static void nobody_but_main_writes_a_slab_and_nobody_changes_its_size(void)
{
    begin(2);
    CHECK(mmap(NULL, SLAB, PROT_READ | PROT_WRITE, MAP_SHARED, slab_fd, 0) == MAP_FAILED && errno == EPERM);
    void *memory = mmap(NULL, SLAB, PROT_READ, MAP_SHARED, slab_fd, 0);
    CHECK(memory != MAP_FAILED);
    CHECK(mprotect(memory, SLAB, PROT_READ | PROT_WRITE) < 0 && madvise(memory, SLAB, MADV_REMOVE) < 0);
    CHECK(munmap(memory, SLAB) == 0);
    CHECK(write(slab_fd, "x", 1) < 0 && ftruncate(slab_fd, 0) < 0 && ftruncate(slab_fd, 2 * SLAB) < 0);
    CHECK(fallocate(slab_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) < 0);
    CHECK(fcntl(slab_fd, F_ADD_SEALS, F_SEAL_WRITE) < 0);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", slab_fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    CHECK(again < 0 || (write(again, "x", 1) < 0 && close(again) == 0));
    end(2);
}

static void a_renderer_maps_nothing_that_could_shrink(void)
{
    begin(1);
    int fd = lipc_memfd_open();
    CHECK(fd >= 0 && ftruncate(fd, SLAB) == 0);
    CHECK(lipc_slab_map(pairs[0].renderer, 77, fd, 5) == -EPROTO);
    CHECK(lipc_slab_map(pairs[0].renderer, slab, slab_fd, 5) == -EPROTO); /* it has that one */
    CHECK(close(fd) == 0 && lipc_slab_map(pairs[0].renderer, 77, fd, 5) == -EBADF);
    end(1);
}

static void a_renderer_has_no_more_slabs_than_it_may(void)
{
    begin(1);
    int64_t hold = 0;
    for (uint32_t i = 1; i < LIPC_OFFERS; i++)
        CHECK((hold = lipc_offer_slab(pairs[0].main, slab + i)) > 0);
    CHECK(lipc_offer_slab(pairs[0].main, slab + LIPC_OFFERS) == -ENOBUFS);
    CHECK(!lipc_lacks_offer(pairs[0].main->outbox.holds, slab + LIPC_OFFERS)); /* it is not asked for again */
    lipc_withdraw_slab(pairs[0].main, slab + 1, 0);
    CHECK(lipc_offer_slab(pairs[0].main, slab + LIPC_OFFERS) > 0);
    end(1);
}

/* Sends the array of a loan, filled with a pattern, behind a head of `head` bytes. Returns the status. */
static int publish_loan(const struct lipc_loan *loan, uint64_t seed, size_t head)
{
    const struct lipc_header header = {.detail = 9, .pid = 90, .kind = LIPC_EVENT};
    char *body = make_body(seed, head + loan->size);
    memcpy(lipc_loan_memory(loan), body + head, loan->size);
    const struct lipc_part parts[] = {{.data = body, .size = head / 2},
                                      {.data = body + head / 2, .size = head - head / 2},
                                      {.data = lipc_loan_memory(loan), .size = loan->size}};
    int status = lipc_topic_send_loan(topic, loan, &header, parts, 3);
    free(body);
    return status;
}

static void a_loan_is_sent_where_it_lies_and_stays_mains_until_it_is_dropped(void)
{
    begin(3);
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct lipc_loan *loan = lipc_loan_take(slabs, LARGE);
        CHECK(loan && look().loans == 1 && look().lent == LARGE + LIPC_LOAN_HEAD);
        size_t head = (size_t)seed * 64 + (seed == 50 ? LIPC_LOAN_HEAD - 50 * 64 : 0);
        CHECK(publish_loan(loan, seed, head) == 0);
        CHECK(look().blocks == 1 && look().uses == 2 * seed - 1);
        for (int i = 0; i < 3; i++)
            check_heard(i, seed, head + LARGE);
        for (int i = 0; i < 3; i++)
            CHECK(lipc_held_bytes(pairs[i].main) == LARGE + LIPC_LOAN_HEAD && lipc_collect(pairs[i].main) == 0);
        CHECK(look().blocks == 1 && look().loans == 1); /* main's own */
        struct lipc_block *other = lipc_block_take(slabs, LARGE);
        CHECK(other != loan->block);
        lipc_block_give(other);
        CHECK(lipc_slab_remove(slabs, slab) == -EBUSY);
        if (seed % 2) { /* main may drop it before the renderers have read it, too */
            CHECK(publish_loan(loan, seed + 1, 64) == 0);
            lipc_loan_drop(loan);
            CHECK(look().blocks == 1 && look().loans == 0 && look().lent == 0);
            for (int i = 0; i < 3; i++) {
                check_heard(i, seed + 1, 64 + LARGE);
                CHECK(look().blocks == 1 && lipc_collect(pairs[i].main) == 0);
            }
        } else {
            lipc_loan_drop(loan);
        }
        CHECK(look().blocks == 0 && look().loans == 0);
    }
    end(3);
}

static void a_loan_is_read_in_place_by_one_subscriber_too_and_copied_for_those_without_the_slab(void)
{
    begin(1);
    pairs[1] = open_pair(CAPACITY);
    CHECK(lipc_topic_add(topic, pairs[1].main, 1, LIPC_REFUSE, 0) == 0);
    struct lipc_loan *loan = lipc_loan_take(slabs, LARGE);
    CHECK(publish_loan(loan, 1, 128) == LIPC_WANTS_SLAB);
    CHECK(look().uses == 1 && lipc_held_bytes(pairs[0].main) > LARGE && lipc_held_bytes(pairs[1].main) == 0);
    lipc_loan_drop(loan);
    check_heard(0, 1, 128 + LARGE);
    check_heard(1, 1, 128 + LARGE);
    end(2);
}

static void what_is_no_loan_of_these_slabs_is_copied(void)
{
    begin(2);
    const struct lipc_header header = {.kind = LIPC_EVENT};
    struct lipc_slabs *others = lipc_slabs_create(SLAB);
    CHECK(lipc_slab_add(others, 2000, SLAB) == 0);
    for (int i = 0; i < 2; i++) {
        offer(pairs[i], 2000, lipc_slab_fd(others, 2000));
        CHECK(lipc_collect(pairs[i].main) == 0);
    }
    struct lipc_loan *loan = lipc_loan_take(slabs, LIPC_BLOCK_LEAST), *other = lipc_loan_take(others, LIPC_BLOCK_LEAST);
    CHECK(loan && other && !lipc_loan_take(slabs, SLAB) && !lipc_loan_take(slabs, SLAB + 1) &&
          !lipc_loan_take(slabs, UINT64_MAX));
    CHECK(publish_loan(other, 1, 64) == 0); /* others who read there may not have the topic's extension */
    CHECK(look().blocks == 2 && other->block->holders == 1);
    CHECK(publish_loan(loan, 2, LIPC_LOAN_HEAD + 64) == 0);
    char *memory = lipc_loan_memory(loan), *body = make_body(3, LIPC_BLOCK_LEAST);
    memcpy(memory, body, LIPC_BLOCK_LEAST);
    const struct lipc_part behind[] = {{.data = memory, .size = LIPC_BLOCK_LEAST}, {.data = body, .size = 10}};
    CHECK(lipc_topic_send_loan(topic, loan, &header, behind, 2) == 0);
    const struct lipc_part some[] = {{.data = memory, .size = LIPC_BLOCK_LEAST - 1}};
    CHECK(lipc_topic_send_loan(topic, loan, &header, some, 1) == 0);
    CHECK(look().uses == 4 && look().loans == 1); /* the last one is too small for a block */
    for (int i = 0; i < 2; i++) {
        struct received received = {0};
        check_heard(i, 1, 64 + LIPC_BLOCK_LEAST);
        check_heard(i, 2, LIPC_LOAN_HEAD + 64 + LIPC_BLOCK_LEAST);
        CHECK(receive(pairs[i].renderer, &received) == 1 && received.record.size == LIPC_BLOCK_LEAST + 10);
        CHECK(is_body(3, received.body, LIPC_BLOCK_LEAST));
        free(received.body);
        check_heard(i, 3, LIPC_BLOCK_LEAST - 1);
    }
    free(body);
    lipc_loan_drop(loan);
    lipc_loan_drop(other);
    lipc_slabs_free(others);
    end(2);
}

static void *drop_it(void *loan)
{
    memset(lipc_loan_memory(loan), 2, LIPC_BLOCK_LEAST);
    lipc_loan_drop(loan);
    return NULL;
}

static void a_loan_may_be_dropped_in_any_thread_while_main_takes_others(void)
{
    begin(1);
    pthread_t threads[2];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 2; i++) {
            struct lipc_loan *loan = lipc_loan_take(slabs, LIPC_BLOCK_LEAST);
            CHECK(loan && pthread_create(&threads[i], NULL, drop_it, loan) == 0);
        }
        struct lipc_loan *own = lipc_loan_take(slabs, LIPC_BLOCK_LEAST);
        CHECK(own && publish_loan(own, 1, 64) == 0);
        lipc_loan_drop(own);
        check_heard(0, 1, 64 + LIPC_BLOCK_LEAST);
        for (int i = 0; i < 2; i++)
            CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(lipc_collect(pairs[0].main) == 0 && look().blocks == 0 && look().loans == 0);
    }
    end(1);
}

static void it_is_told_how_long_blocks_are_held(void)
{
    begin(1);
    CHECK(look().oldest == 0 && lipc_held_time(pairs[0].main) == 0 && lipc_holds_time(NULL) == 0);
    struct lipc_loan *loan = lipc_loan_take(slabs, LARGE);
    loan->block->since -= 5000000000;
    CHECK(look().oldest >= 5000000000 && look().oldest < 3600000000000);
    CHECK(publish_loan(loan, 1, 64) == 0);
    CHECK(look().oldest < 5000000000 && lipc_held_time(pairs[0].main) < 5000000000); /* since it was sent */
    loan->block->since -= 5000000000;
    CHECK(lipc_held_time(pairs[0].main) >= 5000000000 && lipc_held_time(pairs[0].main) < 3600000000000);
    lipc_loan_drop(loan);
    check_heard(0, 1, 64 + LARGE);
    end(1);
}

static void closed_slabs_go_one_by_one_with_their_loans(void)
{
    begin(0);
    CHECK(lipc_slab_add(slabs, 1000, SLAB) == 0 && lipc_slab_add(slabs, 1001, SLAB) == 0);
    struct lipc_loan *loans[4]; /* two in each of two slabs */
    for (int i = 0; i < 4; i++)
        CHECK((loans[i] = lipc_loan_take(slabs, 2 * LARGE - LIPC_LOAN_HEAD)) != NULL);
    struct lipc_slab_state state;
    lipc_topic_free(topic);
    lipc_loan_drop(loans[1]);
    lipc_slabs_close(slabs);
    CHECK(fcntl(slab_fd, F_GETFD) < 0 && lipc_slab_look(slabs, 1001, &state) == -EINVAL && look().loans == 1);
    memset(lipc_loan_memory(loans[0]), 1, loans[0]->size);
    lipc_loan_drop(loans[0]);
    CHECK(lipc_slab_look(slabs, slab, &state) == -EINVAL);
    memset(lipc_loan_memory(loans[2]), 1, loans[2]->size);
    lipc_loan_drop(loans[3]);
    CHECK(lipc_slab_look(slabs, 1000, &state) == 0 && state.loans == 1);
    lipc_loan_drop(loans[2]);
    CHECK(slabs->first == NULL);
    lipc_slabs_free(slabs);
}

static void slabs_that_were_never_closed_end_what_was_dropped(void)
{
    begin(0);
    lipc_loan_drop(lipc_loan_take(slabs, LARGE));
    lipc_loan_drop(lipc_loan_take(slabs, LARGE));
    lipc_topic_free(topic);
    lipc_slabs_free(slabs);
    lipc_slabs_free(NULL);
    CHECK(fcntl(slab_fd, F_GETFD) < 0);
}

static void a_forked_child_has_zeros_where_main_has_loans(void)
{
    begin(0);
    struct lipc_loan *loan = lipc_loan_take(slabs, LARGE);
    char *memory = lipc_loan_memory(loan);
    memset(memory, 7, LARGE);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        lipc_slabs_disown(slabs);
        int clean = memory[0] == 0 && memory[LARGE - 1] == 0 && fcntl(slab_fd, F_GETFD) < 0;
        memset(memory, 9, LARGE);
        lipc_loan_drop(loan);
        _exit(clean && memory[0] == 9 ? 0 : 1);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0 && memory[0] == 7);
    lipc_loan_drop(loan);
    end(0);
}

/* Two renderers that sleep until there is an event, and main, which sleeps while they hold much. All see a slab at one
 * address, so that a thread sanitizer sees who writes a block that another one reads. */

static uint64_t to_send;

static void *read_all(void *argument)
{
    int i = *(int *)argument;
    for (uint64_t seed = 1; seed <= to_send; seed++) {
        struct received received = {0};
        int got;
        while ((got = receive(pairs[i].renderer, &received)) == 0)
            CHECK(pairs[i].renderer->assembly.memory || sleep_until_work(pairs[i].renderer, UINT64_C(60000000000)) == 1);
        CHECK(got == 1 && received.record.correlation == seed && is_body(seed, received.body, received.record.size));
        free(received.body);
    }
    return NULL;
}

static void no_wake_is_lost_while_main_sleeps_for_what_is_returned(struct options options)
{
    pthread_t threads[2];
    int numbers[2] = {0, 1};
    begin_with(2, LARGE / 4, LIPC_REFUSE); /* with two blocks a renderer is crowded, and has its share */
    to_send = options.count;
    for (int i = 0; i < 2; i++) {
        CHECK(munmap(pairs[i].renderer->slabs[0]->memory, SLAB) == 0);
        pairs[i].renderer->slabs[0]->memory = slabs->first->memory;
        CHECK(pthread_create(&threads[i], NULL, read_all, &numbers[i]) == 0);
    }
    uint64_t slept = 0;
    for (uint64_t seed = 1; seed <= to_send; seed++) {
        (void)alarm(100);
        CHECK((publish(seed, LIPC_BLOCK_LEAST + seed % LARGE) & LIPC_FAILED) == 0);
        for (int i = 0; i < 2; i++)
            for (int64_t waiting; (waiting = lipc_flush(pairs[i].main)) != 0; slept++)
                CHECK(waiting > 0 && sleep_until_work(pairs[i].main, UINT64_C(60000000000)) == 1);
    }
    for (int i = 0; i < 2; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0 && lipc_collect(pairs[i].main) == 0);
        free(pairs[i].renderer->slabs[--pairs[i].renderer->slab_count]); /* its memory is main's */
    }
    (void)printf("no wake lost in %" PRIu64 " sleeps, %" PRIu64 " of %" PRIu64 " in blocks\n", slept, look().uses, to_send);
    CHECK(look().blocks == 0 && look().uses > to_send / 2);
    (void)alarm(0);
    end(2);
}

/* Random events, read by two honest renderers at random. The third returns what it likes, whenever. When main has met
 * nonsense it is closed, and another one comes. */
static void nothing_that_a_renderer_returns_takes_a_block_from_another(struct options options)
{
    uint64_t seed = options.seed, caught = 0, sent = 0, in_block = 0;
    uint64_t heard[2] = {0};
    size_t sizes[64] = {0};
    begin(3);
    for (uint64_t step = 0; step < options.count; step++) {
        if (step % 10000 == 0)
            (void)alarm(100);
        struct lipc_endpoint *hostile = pairs[2].renderer, *victim = pairs[2].main;
        struct lipc_positions *positions = &hostile->mapping.segment->returns;
        uint64_t last = victim->outbox.holds->last;
        switch (next_random(&seed) % 12) {
        case 0:
        case 1:
        case 2: {
            size_t size = LIPC_BLOCK_LEAST + next_random(&seed) % LARGE;
            if (sent - heard[0] >= 3 || sent - heard[1] >= 3 || (victim->outbox.bytes > LARGE && !victim->failure))
                break;
            sizes[++sent % 64] = size;
            uint64_t uses = look().uses;
            CHECK(publish(sent, size) >= 0);
            in_block += look().uses > uses;
            break;
        }
        case 3:
        case 4:
        case 5:
        case 6: {
            int i = (int)(next_random(&seed) % 2);
            struct received received = {0};
            CHECK(lipc_flush(pairs[i].main) >= 0);
            int got = receive(pairs[i].renderer, &received);
            CHECK(got >= 0);
            while (got == 0 && pairs[i].renderer->assembly.memory) { /* begun: to its end */
                CHECK(lipc_flush(pairs[i].main) >= 0);
                CHECK((got = receive(pairs[i].renderer, &received)) >= 0);
            }
            if (got) {
                heard[i]++;
                CHECK(received.record.size == sizes[heard[i] % 64] &&
                      is_body(heard[i], received.body, received.record.size));
                free(received.body);
            }
            break;
        }
        case 7:
            (void)lipc_tell_hold(hostile, last - next_random(&seed) % 8, (uint16_t)(LIPC_RETURN + next_random(&seed) % 2));
            break;
        case 8: (void)lipc_tell_hold(hostile, next_random(&seed) >> next_random(&seed) % 64, LIPC_VIEWED); break;
        case 9:
            if (next_random(&seed) % 4 == 0)
                atomic_store(&positions->write_pos, next_random(&seed) >> next_random(&seed) % 64);
            break;
        case 10:
            hostile->mapping.segment->returned[next_random(&seed) % LIPC_RETURNS] ^= (char)(1 << next_random(&seed) % 8);
            break;
        default:
            for (uint64_t id = last - next_random(&seed) % 4; id <= last; id++) /* early, and maybe its own */
                (void)lipc_return_hold(hostile, id);
        }
        if (lipc_flush(victim) == -EBADMSG || victim->failure) {
            caught++;
            close_renderer(2);
            pairs[2] = open_pair(CAPACITY);
            CHECK(lipc_topic_add(topic, pairs[2].main, 2, LIPC_REFUSE, 0) == 0);
            offer(pairs[2], slab, slab_fd);
        }
    }
    (void)printf("caught %" PRIu64 ", %" PRIu64 " events, %" PRIu64 " in blocks\n", caught, sent, in_block);
    CHECK(options.count < 10000 || (caught > options.count / 100 && in_block > options.count / 100));
    (void)alarm(0);
    end(3);
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv, 20000);
    RUN(a_large_event_is_written_once_and_each_subscriber_copies_it_out);
    RUN(small_events_and_events_for_one_subscriber_go_through_the_ring);
    RUN(who_has_not_mapped_the_slab_is_sent_the_event_through_its_ring);
    RUN(a_full_pool_asks_for_a_slab_and_events_go_through_the_rings);
    RUN(a_block_is_used_again_only_when_its_last_holder_has_returned_it);
    RUN(a_renderer_that_is_gone_holds_nothing);
    RUN(a_slab_that_is_held_stays_and_another_is_given_back);
    RUN(a_slab_taken_back_from_a_renderer_is_not_used_toward_it);
    RUN(an_offer_that_was_taken_back_says_nothing_of_the_next_one);
    RUN(what_a_renderer_holds_that_main_has_closed_stays_as_it_is);
    RUN(a_renderer_that_main_has_closed_does_not_hold_what_it_never_got);
    RUN(a_renderer_beyond_its_share_is_sent_the_rest_through_its_ring);
    RUN(who_holds_much_is_waited_for_as_if_it_lay_in_the_outbox);
    RUN(who_waits_for_room_is_told_whoever_has_collected_what_was_returned);
    RUN(a_dropped_event_holds_nothing);
    RUN(an_event_for_one_that_reads_in_place_lies_in_a_block_until_its_view_ends);
    RUN(what_is_no_event_is_read_in_place_or_not_sent);
    RUN(what_is_viewed_is_neither_used_again_nor_waited_for);
    RUN(what_is_written_to_a_view_is_seen_by_nobody_and_not_in_the_next_event);
    RUN(a_byte_that_is_written_at_any_time_by_any_thread_is_not_in_the_next_event);
    RUN(a_view_outlives_its_slab_and_its_endpoint_as_it_was);
    RUN(views_may_end_in_any_thread_while_the_renderer_reads_on);
    RUN(a_child_that_is_forked_at_any_moment_has_what_is_viewed);
    RUN(what_a_renderer_cannot_view_disconnects_it);
    RUN(a_renderer_can_tell_all_of_its_holds_at_once);
    RUN(what_a_renderer_does_not_hold_it_cannot_return);
    RUN(a_place_outside_a_slab_is_refused);
    RUN(main_takes_no_place_of_a_renderer);
    RUN(nobody_but_main_writes_a_slab_and_nobody_changes_its_size);
    RUN(a_renderer_maps_nothing_that_could_shrink);
    RUN(a_renderer_has_no_more_slabs_than_it_may);
    RUN(a_loan_is_sent_where_it_lies_and_stays_mains_until_it_is_dropped);
    RUN(a_loan_is_read_in_place_by_one_subscriber_too_and_copied_for_those_without_the_slab);
    RUN(what_is_no_loan_of_these_slabs_is_copied);
    RUN(a_loan_may_be_dropped_in_any_thread_while_main_takes_others);
    RUN(it_is_told_how_long_blocks_are_held);
    RUN(closed_slabs_go_one_by_one_with_their_loans);
    RUN(slabs_that_were_never_closed_end_what_was_dropped);
    RUN(a_forked_child_has_zeros_where_main_has_loans);
    nothing_that_a_renderer_returns_takes_a_block_from_another(options);
    no_wake_is_lost_while_main_sleeps_for_what_is_returned(options);
    return 0;
}
