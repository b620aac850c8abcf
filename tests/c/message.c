/* SPDX-License-Identifier: MIT
 *
 * Messages as frames: batches, sizes around every border, streams in both directions, and sequences of frames that
 * cannot be.
 */

#include "pair.h"

#include <pthread.h>

#define CAPACITY LIPC_CAPACITY_MIN
#define FRAME_MAX (CAPACITY / 4 - (uint32_t)sizeof(struct lipc_frame))

static void a_message_arrives_with_its_header(void)
{
    struct pair pair = open_pair(CAPACITY);
    const struct lipc_header header = {
        .correlation = UINT64_MAX, .channel = UINT32_MAX, .detail = 7, .pid = 8, .kind = UINT16_MAX};
    struct received received;
    CHECK(lipc_send(pair.main, &header, "body", 4, LIPC_REFUSE) == 0);
    CHECK(receive(pair.renderer, &received) == 1);
    const struct lipc_record *record = &received.record;
    CHECK(record->correlation == header.correlation && record->channel == header.channel);
    CHECK(record->detail == 7 && record->pid == 8 && record->kind == header.kind && record->size == 4);
    CHECK(memcmp(received.body, "body", 4) == 0);
    free(received.body);
    CHECK(receive(pair.renderer, &received) == 0);
    close_pair(pair);
}

static void a_kind_is_not_zero_and_has_16_bits(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct lipc_header header = numbered(1);
    header.kind = 0;
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == -EINVAL);
    CHECK(lipc_send_parts(pair.main, &header, NULL, 0, LIPC_REFUSE) == -EINVAL);
    header.kind = 1;
    CHECK(lipc_send(pair.main, &header, "", 0, -1) == -EINVAL);
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_KEEP + 1) == -EINVAL);
    header.kind = UINT16_MAX + 1;
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == -EINVAL);
    close_pair(pair);
}

static void a_body_in_pieces_is_one_body(void)
{
    struct pair pair = open_pair(CAPACITY);
    const struct lipc_header header = numbered(1);
    const size_t sizes[] = {0, 1, 0, 7, 8, 9, 1000, FRAME_MAX, 0, 3 * FRAME_MAX + 5, 1, 0};
    const size_t count = sizeof sizes / sizeof sizes[0];
    struct lipc_part parts[sizeof sizes / sizeof sizes[0]];
    for (size_t used = 1; used <= count; used++) {
        size_t total = 0;
        for (size_t i = 0; i < used; i++)
            total += sizes[i];
        char *body = make_body(used, total), *at = body;
        for (size_t i = 0; i < used; at += sizes[i++])
            parts[i] = (struct lipc_part){.data = at, .size = sizes[i]};
        CHECK(lipc_send_parts(pair.main, &header, parts, used, LIPC_REFUSE) == 0);
        free(body);
        struct received received;
        int got;
        while ((got = receive(pair.renderer, &received)) == 0)
            CHECK(lipc_flush(pair.main) >= 0);
        CHECK(got == 1 && received.record.size == total && is_body(used, received.body, total));
        free(received.body);
    }
    const struct lipc_part endless[] = {{.data = NULL, .size = SIZE_MAX}, {.data = NULL, .size = SIZE_MAX}};
    CHECK(lipc_send_parts(pair.main, &header, endless, 2, LIPC_REFUSE) == -EMSGSIZE);
    CHECK(lipc_send_parts(pair.main, &header, NULL, 0, LIPC_REFUSE) == 0);
    struct received received;
    CHECK(receive(pair.renderer, &received) == 1 && received.record.size == 0);
    free(received.body);
    close_pair(pair);
}

static void a_batch_keeps_within_its_records_and_bytes(void)
{
    struct pair pair = open_pair(CAPACITY * 4);
    const uint32_t size = 3001;
    char *body = make_body(1, size);
    for (uint64_t i = 0; i < 40; i++) {
        struct lipc_header header = numbered(i);
        CHECK(lipc_send(pair.main, &header, body, size, LIPC_REFUSE) == 0);
    }
    struct lipc_record records[64];
    uint64_t wanted;
    char *buffer = malloc(LIPC_INLINE + 5);
    CHECK(lipc_recv(pair.renderer, records, 3, buffer, LIPC_INLINE, &wanted) == 3 && wanted == 0);
    CHECK(records[2].correlation == 2 && records[2].offset == 2 * 3008);
    CHECK(lipc_recv(pair.renderer, records, 64, buffer, LIPC_INLINE + 5, &wanted) == 10 && wanted == 0);
    for (uint32_t i = 0; i < 10; i++) {
        CHECK(records[i].correlation == 3 + i && records[i].offset % 8 == 0 && records[i].size == size);
        CHECK(is_body(1, buffer + records[i].offset, size));
    }
    CHECK(lipc_recv(pair.renderer, records, 0, buffer, LIPC_INLINE, &wanted) == -EINVAL);
    CHECK(lipc_recv(pair.renderer, records, 1, buffer, LIPC_INLINE - 1, &wanted) == -EINVAL);
    free(buffer);
    free(body);
    close_pair(pair);
}

static void a_message_larger_than_the_peer_takes_is_refused_whole(void)
{
    struct pair pair = open_pair(CAPACITY * 4);
    const struct lipc_header header = numbered(1);
    const struct lipc_part halves[] = {{.data = "12345", .size = 5}, {.data = "67890", .size = 5}};
    struct received received;
    lipc_limit_message(pair.main, 9);
    CHECK(lipc_send_parts(pair.main, &header, halves, 2, LIPC_REFUSE) == -EMSGSIZE);
    CHECK(lipc_send(pair.main, &header, "1234567890", 10, LIPC_REFUSE) == -EMSGSIZE);
    CHECK(receive(pair.renderer, &received) == 0);
    CHECK(lipc_send(pair.main, &header, "123456789", 9, LIPC_REFUSE) == 0);
    CHECK(lipc_send(pair.main, &header, "1234567890", 10, LIPC_KEEP) == 0);
    for (size_t size = 9; size <= 10; size++) {
        CHECK(receive(pair.renderer, &received) == 1 && received.record.size == size);
        free(received.body);
    }
    close_pair(pair);
}

static void a_large_message_stands_apart(void)
{
    struct pair pair = open_pair(CAPACITY * 4);
    const struct lipc_header header = numbered(1);
    char *body = make_body(1, LIPC_INLINE), *memory = malloc(LIPC_INLINE), buffer[LIPC_INLINE];
    struct lipc_record records[8];
    uint64_t wanted;
    CHECK(lipc_assemble(pair.renderer, memory, LIPC_INLINE) == -EINVAL);
    CHECK(lipc_send(pair.main, &header, "small", 5, LIPC_REFUSE) == 0);
    CHECK(lipc_send(pair.main, &header, body, LIPC_INLINE, LIPC_REFUSE) == 0);
    CHECK(lipc_send(pair.main, &header, body, LIPC_INLINE - 1, LIPC_REFUSE) == 0);
    CHECK(lipc_recv(pair.renderer, records, 8, buffer, sizeof buffer, &wanted) == 1 && wanted == 0);
    for (int i = 0; i < 2; i++) /* it asks as often as it is asked */
        CHECK(lipc_recv(pair.renderer, records, 8, buffer, sizeof buffer, &wanted) == 0 && wanted == LIPC_INLINE);
    CHECK(lipc_assemble(pair.renderer, memory, LIPC_INLINE - 1) == -EINVAL);
    CHECK(lipc_assemble(pair.renderer, memory, LIPC_INLINE) == 0);
    CHECK(lipc_assemble(pair.renderer, memory, LIPC_INLINE) == -EINVAL);
    CHECK(lipc_recv(pair.renderer, records, 8, buffer, sizeof buffer, &wanted) == 1 && wanted == 0);
    CHECK(records[0].offset == LIPC_ASSEMBLED && records[0].size == LIPC_INLINE);
    CHECK(is_body(1, memory, LIPC_INLINE));
    CHECK(lipc_recv(pair.renderer, records, 8, buffer, sizeof buffer, &wanted) == 1 && wanted == 0);
    CHECK(records[0].offset == 0 && is_body(1, buffer, LIPC_INLINE - 1));
    free(body);
    free(memory);
    close_pair(pair);
}

/* Sizes around every border: of a frame, of the inline limit, of the ring. */
static size_t size_of(uint64_t number)
{
    const size_t borders[] = {0,           FRAME_MAX,       2 * FRAME_MAX, LIPC_INLINE,
                              4 * FRAME_MAX, CAPACITY, 3 * CAPACITY,  12 * FRAME_MAX};
    size_t border = borders[number % 8];
    size_t around = number / 8 % 17;
    return border + around < 8 ? 0 : border + around - 8;
}

#define MESSAGES (2 * 8 * 17) /* every size twice: once in one piece, once in two */

static void *send_all(void *argument)
{
    struct lipc_endpoint *endpoint = argument;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        struct lipc_header header = numbered(i);
        size_t size = size_of(i);
        char *body = make_body(i, size);
        const struct lipc_part parts[] = {{.data = body, .size = size / 3},
                                          {.data = body + size / 3, .size = size - size / 3}};
        int dropped = i < MESSAGES / 2 ? lipc_send(endpoint, &header, body, size, LIPC_REFUSE)
                                       : lipc_send_parts(endpoint, &header, parts, 2, LIPC_REFUSE);
        CHECK(dropped == 0);
        free(body);
        while (lipc_flush(endpoint) > (int64_t)CAPACITY)
            (void)sched_yield();
    }
    while (lipc_flush(endpoint) > 0)
        (void)sched_yield();
    return NULL;
}

static void stream(struct lipc_endpoint *from, struct lipc_endpoint *to)
{
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, send_all, from) == 0);
    struct received received;
    for (uint64_t i = 0; i < MESSAGES;) {
        int got = receive(to, &received);
        CHECK(got >= 0);
        if (got) {
            CHECK(received.record.correlation == i && received.record.size == size_of(i));
            CHECK(is_body(i, received.body, size_of(i)));
            free(received.body);
            i++;
        } else
            (void)lipc_busy_poll((struct lipc_endpoint *[]){to}, 1, 1000000);
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(lipc_outbox_bytes(from) == 0 && receive(to, &received) == 0);
}

static void messages_of_all_sizes_stream_in_both_directions(void)
{
    struct pair pair = open_pair(CAPACITY);
    stream(pair.main, pair.renderer);
    stream(pair.renderer, pair.main);
    close_pair(pair);
}

static void progress_counts_what_the_peer_has_taken(void)
{
    struct pair pair = open_pair(CAPACITY);
    const struct lipc_header header = numbered(1);
    struct received received;
    CHECK(lipc_send(pair.main, &header, "", 0, LIPC_REFUSE) == 0);
    CHECK(lipc_bytes_taken(pair.main) == 0);
    CHECK(receive(pair.renderer, &received) == 1);
    free(received.body);
    CHECK(lipc_bytes_taken(pair.main) == sizeof(struct lipc_frame));
    close_pair(pair);
}

/* A frame as an honest sender would not write it. */
static void put_raw(struct lipc_endpoint *endpoint, struct lipc_frame frame)
{
    char *at;
    if (frame.kind == 0)
        frame.kind = 1;
    CHECK(lipc_ring_claim(&endpoint->out, lipc_frame_bytes(frame.size), &at) == 1);
    memcpy(at, &frame, sizeof frame);
    lipc_ring_commit(&endpoint->out, lipc_frame_bytes(frame.size));
}

/* What the receiver makes of two frames. */
static int receive_frames(struct lipc_frame first, struct lipc_frame second)
{
    struct pair pair = open_pair(CAPACITY);
    struct received received = {.body = NULL};
    put_raw(pair.main, first);
    put_raw(pair.main, second);
    int got = receive(pair.renderer, &received);
    free(received.body);
    close_pair(pair);
    return got;
}

static void frames_that_make_no_message_are_refused(void)
{
    const uint16_t more = LIPC_FRAME_MORE, continued = LIPC_FRAME_CONTINUED;
    const struct lipc_frame first = {.total = 300, .size = 100, .flags = more, .channel = 1, .detail = 2, .pid = 3};
    const struct lipc_frame last = {.total = 300, .size = 200, .flags = continued, .channel = 1, .detail = 2, .pid = 3};
    struct lipc_frame bad;
    CHECK(receive_frames(first, last) == 1);

    /* firsts that cannot be */
    CHECK(receive_frames(last, last) == -EBADMSG);
    bad = first, bad.flags = 0;
    CHECK(receive_frames(bad, last) == -EBADMSG); /* ends before its total */
    bad = first, bad.size = 300;
    CHECK(receive_frames(bad, last) == -EBADMSG); /* complete, and more to come */
    bad = first, bad.size = 0;
    CHECK(receive_frames(bad, last) == -EBADMSG); /* empty, and more to come */
    bad = first, bad.flags = more | continued;
    CHECK(receive_frames(bad, last) == -EBADMSG);
    bad = first, bad.total = LIPC_TOTAL_MAX + 1;
    CHECK(receive_frames(bad, last) == -EBADMSG);
    bad = first, bad.total = UINT64_MAX;
    CHECK(receive_frames(bad, last) == -EBADMSG);

    /* seconds that cannot be */
    CHECK(receive_frames(first, first) == -EBADMSG);
    bad = last, bad.size = 201, bad.total = 300;
    CHECK(receive_frames(first, bad) == -EBADMSG); /* beyond the total */
    bad.flags = more | continued;
    CHECK(receive_frames(first, bad) == -EBADMSG); /* and even more to come */
    bad = last, bad.size = 199;
    CHECK(receive_frames(first, bad) == -EBADMSG); /* short of the total */
    bad = last, bad.flags = more | continued;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = last, bad.size = 0, bad.flags = more | continued;
    CHECK(receive_frames(first, bad) == -EBADMSG); /* brings the end no nearer */
    bad = last, bad.total = 301;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = last, bad.kind = 2;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = last, bad.channel++;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = last, bad.detail++;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = last, bad.pid++;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = last, bad.correlation++;
    CHECK(receive_frames(first, bad) == -EBADMSG);
    bad = (struct lipc_frame){.total = 4, .size = 4};
    CHECK(receive_frames(first, bad) == -EBADMSG); /* another message in between */
}

static void whole_messages_before_a_bad_frame_are_delivered(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct received received;
    put_raw(pair.main, (struct lipc_frame){.total = 8, .size = 8});
    put_raw(pair.main, (struct lipc_frame){.total = 8, .size = 8, .reserved = 1});
    struct lipc_record records[4];
    char buffer[LIPC_INLINE];
    uint64_t wanted;
    CHECK(lipc_recv(pair.renderer, records, 4, buffer, sizeof buffer, &wanted) == 1);
    CHECK(receive(pair.renderer, &received) == -EBADMSG);
    CHECK(receive(pair.renderer, &received) == -EBADMSG);
    CHECK(lipc_park(pair.renderer, 1) == 0); /* not to be slept over */
    close_pair(pair);
}

static void bad_positions_are_told_by_whoever_meets_them(void)
{
    struct pair pair = open_pair(CAPACITY);
    struct lipc_segment *segment = pair.main->mapping.segment;
    const struct lipc_header header = numbered(1);
    struct received received;
    char body[4000] = {0};
    while (lipc_outbox_bytes(pair.main) == 0)
        CHECK(lipc_send(pair.main, &header, body, sizeof body, LIPC_REFUSE) == 0);
    CHECK(lipc_park(pair.main, 1) == 1);
    lipc_unpark(pair.main);
    atomic_store(&segment->rings[LIPC_SIDE_MAIN].read_pos, 3 * CAPACITY);
    CHECK(lipc_park(pair.main, 1) == 0); /* not to be slept over */
    CHECK(lipc_flush(pair.main) == -EBADMSG);
    CHECK(lipc_send(pair.main, &header, body, 10, LIPC_REFUSE) == -EBADMSG);
    CHECK(lipc_bytes_taken(pair.main) == 0);
    atomic_store(&segment->rings[LIPC_SIDE_RENDERER].write_pos, 7);
    CHECK(lipc_busy_poll((struct lipc_endpoint *[]){pair.main}, 1, 0) == 1 && receive(pair.main, &received) == -EBADMSG);
    close_pair(pair);
}

int main(void)
{
    RUN(a_message_arrives_with_its_header);
    RUN(a_kind_is_not_zero_and_has_16_bits);
    RUN(a_body_in_pieces_is_one_body);
    RUN(a_batch_keeps_within_its_records_and_bytes);
    RUN(a_message_larger_than_the_peer_takes_is_refused_whole);
    RUN(a_large_message_stands_apart);
    RUN(messages_of_all_sizes_stream_in_both_directions);
    RUN(progress_counts_what_the_peer_has_taken);
    RUN(frames_that_make_no_message_are_refused);
    RUN(whole_messages_before_a_bad_frame_are_delivered);
    RUN(bad_positions_are_told_by_whoever_meets_them);
    return 0;
}
