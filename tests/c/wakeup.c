/* SPDX-License-Identifier: MIT
 *
 * Two threads that sleep and wake each other, by each kind of signal, for data and for room.
 */

#include "pair.h"

#include "sleep.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define CYCLES 10000
#define SECOND UINT64_C(1000000000)

/* What one thread does: send CYCLES messages that the other echoes, sleeping whenever there is nothing to take. */
struct player {
    struct lipc_endpoint *endpoint;
    int sleep_fd; /* -1: the semaphore */
    bool edge;    /* sleep_fd is an epoll that reports edges, and is never read */
    bool starts;
};

static void sleep_until_woken(struct player *player)
{
    if (player->sleep_fd < 0) {
        CHECK(sleep_until_work(player->endpoint, 60 * SECOND) == 1);
        return;
    }
    if (!lipc_park(player->endpoint, 1))
        return;
    if (player->edge) {
        struct epoll_event event;
        CHECK(epoll_wait(player->sleep_fd, &event, 1, 60000) == 1);
    } else {
        struct pollfd poll_fd = {.fd = player->sleep_fd, .events = POLLIN};
        char drained[64];
        CHECK(poll(&poll_fd, 1, 60000) == 1);
        CHECK(recv(player->sleep_fd, drained, sizeof drained, MSG_DONTWAIT) > 0);
    }
    lipc_unpark(player->endpoint);
}

static void *play(void *argument)
{
    struct player *player = argument;
    for (uint64_t i = 0; i < CYCLES; i++) {
        struct lipc_header header = numbered(i);
        struct received received;
        if (player->starts)
            CHECK(lipc_send(player->endpoint, &header, "ping", 4, LIPC_REFUSE) == 0);
        while (receive(player->endpoint, &received) == 0)
            sleep_until_woken(player);
        CHECK(received.record.correlation == i && received.record.size == 4);
        free(received.body);
        if (!player->starts)
            CHECK(lipc_send(player->endpoint, &header, "pong", 4, LIPC_REFUSE) == 0);
    }
    return NULL;
}

static void play_both(struct player *one, struct player *other)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, play, other) == 0);
    (void)play(one);
    CHECK(pthread_join(thread, NULL) == 0);
}

static void no_wake_is_lost_by_semaphore(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    play_both(&(struct player){.endpoint = pair.main, .sleep_fd = -1, .starts = true},
              &(struct player){.endpoint = pair.renderer, .sleep_fd = -1});
    close_pair(pair);
}

/* As main and a renderer do it: main sleeps in epoll on an eventfd that it never reads, the renderer on a socket. */
static void no_wake_is_lost_by_eventfd_and_socket(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int ends[2];
    struct epoll_event edge = {.events = EPOLLIN | EPOLLET};
    CHECK(event >= 0 && epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, event, &edge) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    attach(pair.main, LIPC_SIDE_MAIN, LIPC_WAKEUP_SOCKET, ends[0]);
    attach(pair.renderer, LIPC_SIDE_RENDERER, LIPC_WAKEUP_EVENTFD, event);
    play_both(&(struct player){.endpoint = pair.main, .sleep_fd = epoll, .edge = true, .starts = true},
              &(struct player){.endpoint = pair.renderer, .sleep_fd = ends[1]});
    CHECK(close(event) == 0 && close(epoll) == 0 && close(ends[0]) == 0 && close(ends[1]) == 0);
    close_pair(pair);
}

#define FLOOD 3000
#define FLOOD_BODY 6000

/* Sends more than the ring holds, and sleeps for room. */
static void *flood(void *argument)
{
    struct lipc_endpoint *endpoint = argument;
    char *body = make_body(0, FLOOD_BODY);
    for (uint64_t i = 0; i < FLOOD; i++) {
        struct lipc_header header = numbered(i);
        CHECK(lipc_send(endpoint, &header, body, FLOOD_BODY, LIPC_REFUSE) == 0);
        while (lipc_flush(endpoint) > 0)
            CHECK(sleep_until_work(endpoint, 60 * SECOND) == 1);
    }
    free(body);
    return NULL;
}

static void no_wake_for_room_is_lost(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, flood, pair.main) == 0);
    for (uint64_t i = 0; i < FLOOD;) {
        struct received received;
        int got = receive(pair.renderer, &received);
        CHECK(got >= 0);
        if (got == 0) {
            CHECK(sleep_until_work(pair.renderer, 60 * SECOND) == 1);
            continue;
        }
        CHECK(received.record.correlation == i++ && is_body(0, received.body, FLOOD_BODY));
        free(received.body);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    close_pair(pair);
}

static uint32_t posts(struct lipc_endpoint *endpoint)
{
    return atomic_load(&endpoint->wakeup.own->posted);
}

static void one_signal_per_park(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(posts(pair.renderer) == 0); /* not parked */
    CHECK(lipc_park(pair.renderer, 1) == 0);
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(posts(pair.renderer) == 0); /* not parked, because there was work */
    struct received received;
    for (int i = 0; i < 2; i++) {
        CHECK(receive(pair.renderer, &received) == 1);
        free(received.body);
    }
    CHECK(lipc_park(pair.renderer, 1) == 1);
    for (int i = 0; i < 5; i++)
        CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(posts(pair.renderer) == 1);
    close_pair(pair);
}

static void an_unparked_side_is_not_signalled(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    CHECK(lipc_park(pair.renderer, 1) == 1);
    lipc_unpark(pair.renderer);
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(posts(pair.renderer) == 0);
    close_pair(pair);
}

/* A sender whose loop sleeps already when a callback fills the ring. */
static void a_message_that_starts_to_wait_parks_for_room_too(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    char body[4000] = {0};
    CHECK(lipc_park(pair.main, 1) == 1);
    while (lipc_outbox_bytes(pair.main) == 0)
        CHECK(lipc_send(pair.main, &header, body, sizeof body, LIPC_REFUSE) == 0);
    CHECK(posts(pair.main) == 0);
    struct received received;
    CHECK(receive(pair.renderer, &received) == 1);
    free(received.body);
    CHECK(posts(pair.main) == 1);
    CHECK(lipc_flush(pair.main) == 0);
    close_pair(pair);
}

static void a_side_that_waits_for_room_only_parks_while_there_is_none(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    char body[4000] = {0};
    while (lipc_outbox_bytes(pair.main) == 0)
        CHECK(lipc_send(pair.main, &header, body, sizeof body, LIPC_REFUSE) == 0);
    CHECK(lipc_park(pair.main, 1) == 1);
    lipc_unpark(pair.main);
    struct received received;
    CHECK(receive(pair.renderer, &received) == 1);
    free(received.body);
    CHECK(posts(pair.main) == 0);
    CHECK(lipc_park(pair.main, 1) == 0);
    close_pair(pair);
}

static void a_peer_that_reads_no_signals_does_not_stop_the_waker(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    attach(pair.main, LIPC_SIDE_MAIN, LIPC_WAKEUP_SOCKET, ends[0]);
    for (int i = 0; i < 2000; i++) {
        struct received received;
        CHECK(lipc_park(pair.renderer, 1) == 1);
        CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
        CHECK(receive(pair.renderer, &received) == 1);
        free(received.body);
    }
    CHECK(close(ends[1]) == 0); /* and one that is gone raises no SIGPIPE */
    CHECK(lipc_park(pair.renderer, 1) == 1);
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(close(ends[0]) == 0);
    close_pair(pair);
}

struct poster {
    _Atomic uint32_t *posted;
    atomic_bool stop;
};

static void *post_without_end(void *argument)
{
    struct poster *poster = argument;
    for (uint32_t i = 0; !atomic_load(&poster->stop); i++)
        atomic_store(poster->posted, i % 2);
    return NULL;
}

/* glibc's sem_post, in this memory, would have slept or aborted: this is why it is not used. */
static void what_a_peer_writes_to_where_it_sleeps_does_not_stop_the_waker(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    struct lipc_sleeper *sleeper = pair.main->wakeup.peer;
    for (uint32_t value = 0; value < 2000; value++) {
        uint32_t words[sizeof *sleeper / sizeof(uint32_t)];
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            words[i] = value < 300 ? value : value * UINT32_C(0x9e3779b9);
        memcpy((void *)sleeper, words, sizeof words);
        atomic_store(&sleeper->parked, UINT32_MAX);
        CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
        CHECK(atomic_load(&sleeper->parked) == 0);
        struct received received;
        CHECK(receive(pair.renderer, &received) == 1);
        free(received.body);
    }
    close_pair(pair);
}

static void a_wait_ends_at_its_deadline_even_if_signals_keep_coming(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct poster poster = {&pair.main->wakeup.own->posted, false};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, post_without_end, &poster) == 0);
    uint64_t start = lipc_clock();
    CHECK(sleep_until_work(pair.main, 2000000) == 0);
    CHECK(lipc_clock() - start >= 2000000);
    atomic_store(&poster.stop, true);
    CHECK(pthread_join(thread, NULL) == 0);
    atomic_store(&pair.main->wakeup.own->posted, 0);
    CHECK(sleep_until_work(pair.main, 0) == 0);
    close_pair(pair);
}

static void a_poll_finds_a_frame_or_ends(void)
{
    struct pair pair = open_pair(LIPC_CAPACITY_MIN);
    struct lipc_header header = numbered(1);
    CHECK(lipc_busy_poll((struct lipc_endpoint *[]){pair.renderer}, 1, 0) == 0);
    CHECK(lipc_busy_poll((struct lipc_endpoint *[]){pair.renderer}, 1, 100000) != 1); /* LIPC_PREEMPTED on a busy machine */
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(lipc_busy_poll((struct lipc_endpoint *[]){pair.renderer}, 1, 0) == 1);
    CHECK(lipc_busy_poll((struct lipc_endpoint *[]){pair.renderer}, 1, UINT64_MAX) == 1);
    close_pair(pair);
}

static void a_timer_is_readable_from_its_deadline_until_it_is_set_again(void)
{
    int fd = lipc_timer_create();
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    CHECK(fd >= 0 && poll(&poll_fd, 1, 0) == 0);
    CHECK(lipc_timer_set(fd, lipc_clock() + 1000000) == 0);
    CHECK(poll(&poll_fd, 1, 60000) == 1 && poll(&poll_fd, 1, 0) == 1);
    CHECK(lipc_timer_set(fd, lipc_clock() + 3600 * SECOND) == 0 && poll(&poll_fd, 1, 0) == 0);
    CHECK(lipc_timer_set(fd, 1) == 0 && poll(&poll_fd, 1, 60000) == 1); /* in the past */
    CHECK(lipc_timer_set(fd, 0) == 0 && poll(&poll_fd, 1, 0) == 0);
    CHECK(close(fd) == 0);
    CHECK(lipc_timer_set(-1, 1) == -EBADF);
}

int main(void)
{
    RUN(one_signal_per_park);
    RUN(an_unparked_side_is_not_signalled);
    RUN(a_message_that_starts_to_wait_parks_for_room_too);
    RUN(a_side_that_waits_for_room_only_parks_while_there_is_none);
    RUN(a_peer_that_reads_no_signals_does_not_stop_the_waker);
    RUN(what_a_peer_writes_to_where_it_sleeps_does_not_stop_the_waker);
    RUN(a_wait_ends_at_its_deadline_even_if_signals_keep_coming);
    RUN(a_poll_finds_a_frame_or_ends);
    RUN(a_timer_is_readable_from_its_deadline_until_it_is_set_again);
    RUN(no_wake_is_lost_by_semaphore);
    RUN(no_wake_is_lost_by_eventfd_and_socket);
    RUN(no_wake_for_room_is_lost);
    return 0;
}
