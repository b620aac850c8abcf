/* SPDX-License-Identifier: MIT
 *
 * What the two threads do with the shipped core: main (thread 0) and a renderer (thread 1) send, receive and sleep, over
 * rings so small that frames wrap and that each message has to wait for room.
 * Usage: model [+MORE | sites | FILE:LINE:ORDER]. With MORE messages than usual; with the places printed of all
 * accesses that could be weakened; with the access at that place made as weak as ORDER (relaxed, or acq_rel for a
 * fence, or plain: an exchange becomes a store), whereupon an error is to be found.
 */

#include "../../csrc/endpoint/endpoint.c"

#include <inttypes.h>
#include <stdio.h>

/* header.c: a segment is made by one thread and looked at by the other. */
extern const struct scenario header_scenario;

#define MOST 256

static struct lipc_segment segment;
static _Alignas(8) char rings[2][2 * MOST];
static struct lipc_endpoint *ends[2];

/* What a scenario is about. */
static uint32_t capacity;
static uint32_t more;
static uint32_t messages;       /* of each sender */
static const uint32_t *sizes;   /* of their bodies, in turn */
static uint32_t size_count;
static int kind = LIPC_WAKEUP_SEMAPHORE;

static struct lipc_endpoint *end_of(int side)
{
    return ends[side];
}

static void share(void)
{
    for (int side = 0; side < 2; side++) {
        model_atomic(&segment.rings[side].write_pos, 0);
        model_atomic(&segment.rings[side].read_pos, 0);
        model_atomic(&segment.sleepers[side].parked, 0);
        model_atomic(&segment.sleepers[side].posted, 0);
        memset(rings[side], 0, sizeof rings[side]);
        model_memory(rings[side], capacity);
    }
    for (int side = 0; side < 2; side++) {
        struct lipc_endpoint *end = model_allocate(sizeof *end);
        end->mapping =
            (struct lipc_mapping){.segment = &segment, .rings = {rings[0], rings[1]}, .capacity = capacity};
        attach(end, side, kind, kind == LIPC_WAKEUP_SEMAPHORE ? -1 : side);
        end->high_water = end->limit = UINT64_MAX / 2;
        ends[side] = end;
    }
}

static uint32_t size_of(uint64_t number)
{
    return sizes[number % size_count];
}

static void send_one(struct lipc_endpoint *end, uint64_t number)
{
    char body[MOST];
    const struct lipc_header header = {.correlation = number, .channel = 1, .kind = 1};
    memset(body, (int)('a' + number), sizeof body);
    HOLDS(lipc_send(end, &header, body, size_of(number), LIPC_REFUSE) == 0);
}

/* As a script does it, by semaphore; or as an event loop does, by a descriptor that it has drained when it wakes. */
static void rest(struct lipc_endpoint *end, int side)
{
    if (kind == LIPC_WAKEUP_SEMAPHORE) {
        int woken;
        do
            woken = lipc_sleep(end, UINT64_MAX);
        while (woken == LIPC_WOKEN);
        HOLDS(woken == 1 || woken == -EINTR);
    } else if (lipc_park(end, 1)) {
        (void)model_wait((const void *)(intptr_t)(1 - side)); /* the peer's descriptor has the peer's number */
        lipc_unpark(end);
    }
}

static void send_all(int side)
{
    struct lipc_endpoint *end = end_of(side);
    for (uint64_t i = 0; i < messages; i++)
        send_one(end, i);
    for (;;) {
        int64_t waiting = lipc_flush(end);
        HOLDS(waiting >= 0);
        if (waiting == 0)
            return;
        rest(end, side);
    }
}

/* Takes what there is; returns how many have come so far, the one with number `next` being the next. */
static uint64_t take(struct lipc_endpoint *end, uint64_t next, char **memory, bool *idle)
{
    struct lipc_record records[2];
    char buffer[2 * MOST]; /* smaller than is said: what comes here is small */
    uint64_t wanted;
    int got = lipc_recv(end, records, 2, buffer, LIPC_INLINE, &wanted);
    HOLDS(got >= 0);
    *idle = got == 0 && wanted == 0;
    if (wanted) {
        *memory = model_allocate(wanted);
        HOLDS(wanted == size_of(next) && lipc_assemble(end, *memory, wanted) == 0);
        return next;
    }
    for (int i = 0; i < got; i++, next++) {
        HOLDS(records[i].correlation == next && records[i].size == size_of(next));
        const char *body = records[i].offset == LIPC_ASSEMBLED ? *memory : buffer + records[i].offset;
        for (uint32_t j = 0; j < records[i].size; j++)
            HOLDS(body[j] == (char)('a' + next));
        if (body == *memory)
            model_free(*memory);
    }
    return next;
}

static void receive_all(int side)
{
    struct lipc_endpoint *end = end_of(side);
    char *memory = NULL;
    bool idle;
    for (uint64_t next = 0; next < messages;) {
        next = take(end, next, &memory, &idle);
        if (idle && next < messages)
            rest(end, side);
    }
}

static void main_sends(void) { send_all(0); }
static void renderer_receives(void) { receive_all(1); }

static const uint32_t one_word[] = {8};
static const uint32_t mixed[] = {0, 8, 24};
static const uint32_t full[] = {24};

/* Frames of 64 bytes, of which the ring holds two. */
static void ring_of_two(void)
{
    capacity = 128, messages = 3 + more, sizes = full, size_count = 1;
    share();
}

/* Frames of 40 bytes: the ring holds three, and every other one crosses its end. */
static void ring_of_three(void)
{
    capacity = 128, messages = 4 + more, sizes = mixed, size_count = 1;
    share();
}

static void ring_of_three_by_descriptor(void)
{
    kind = LIPC_WAKEUP_EVENTFD;
    ring_of_three();
}

static void ring_of_two_by_descriptor(void)
{
    kind = LIPC_WAKEUP_EVENTFD;
    ring_of_two();
}

static void mixed_sizes(void)
{
    capacity = 128, messages = 3 + more, sizes = mixed, size_count = 3;
    share();
}

/* A body of five frames into a ring of four, which streams; and one of two frames that follows another. */
static const uint32_t large[] = {100};
static void larger_than_the_ring(void)
{
    capacity = 256, messages = 1, sizes = large, size_count = 1;
    share();
}

static const uint32_t two_frames[] = {30};
static void several_frames(void)
{
    capacity = 256, messages = 2 + more, sizes = two_frames, size_count = 1;
    share();
}

/* Both send, then both receive. */
static void two_words(void)
{
    capacity = 128, messages = 2, sizes = one_word, size_count = 1;
    share();
}

static void main_talks(void)
{
    send_all(0);
    receive_all(0);
}

static void renderer_talks(void)
{
    send_all(1);
    receive_all(1);
}

/* An event loop that has parked already when a callback sends more than there is room for. */
static void main_sends_parked(void)
{
    struct lipc_endpoint *end = end_of(0);
    HOLDS(lipc_park(end, 1) == 1);
    send_all(0);
}

static void three_of_two(void)
{
    capacity = 128, messages = 3, sizes = full, size_count = 1;
    kind = LIPC_WAKEUP_EVENTFD;
    share();
}

/* Main is killed; the renderer takes all that was published, whole, and no more. */
static void renderer_outlives(void)
{
    struct lipc_endpoint *end = end_of(1);
    char *memory = NULL;
    uint64_t next = 0;
    for (;;) {
        bool idle, gone = model_peer_is_gone(); /* before the last look */
        next = take(end, next, &memory, &idle);
        if (idle && gone)
            break;
        if (idle)
            rest(end, 1);
    }
    HOLDS(next * 64 == model_latest(&segment.rings[0].write_pos));
}

static const struct scenario scenarios[] = {
    {"a ring of two frames", {main_sends, renderer_receives}, ring_of_two, 0, false},
    {"a ring of three frames", {main_sends, renderer_receives}, ring_of_three, 0, false},
    {"sleeps that end for no reason", {main_sends, renderer_receives}, ring_of_two, 1, false},
    {"frames of several sizes", {main_sends, renderer_receives}, mixed_sizes, 0, false},
    {"messages of several frames", {main_sends, renderer_receives}, several_frames, 0, false},
    {"a message larger than the ring", {main_sends, renderer_receives}, larger_than_the_ring, 0, false},
    {"both send and receive", {main_talks, renderer_talks}, two_words, 0, false},
    {"main is killed at every step", {main_sends, renderer_outlives}, ring_of_two_by_descriptor, 0, true},
    {"a ring of two frames, event loops", {main_sends, renderer_receives}, ring_of_two_by_descriptor, 0, false},
    {"a ring of three frames, event loops", {main_sends, renderer_receives}, ring_of_three_by_descriptor, 0, false},
    {"an event loop sends after it has parked", {main_sends_parked, renderer_receives}, three_of_two, 0, false},
};

int main(int argc, char **argv)
{
    const char *argument = argc > 1 ? argv[1] : "";
    char file[64], order[16];
    int line;
    if (sscanf(argument, "+%" SCNu32, &more) != 1 && sscanf(argument, "%63[^:]:%d:%15s", file, &line, order) == 3)
        model_weaken(file, line, strcmp(order, "acq_rel") == 0 ? memory_order_acq_rel : memory_order_relaxed,
                     strcmp(order, "plain") == 0);
    uint64_t all = 0;
    for (size_t i = 0; i <= sizeof scenarios / sizeof scenarios[0]; i++) {
        const struct scenario *scenario = i ? &scenarios[i - 1] : &header_scenario;
        kind = LIPC_WAKEUP_SEMAPHORE;
        uint64_t states = model_explore(scenario);
        (void)printf("%s: %" PRIu64 " states, no error\n", scenario->name, states);
        (void)fflush(stdout);
        all += states;
    }
    (void)printf("%" PRIu64 " states\n", all);
    if (strcmp(argument, "sites") == 0)
        model_print_sites();
    return 0;
}
