/* SPDX-License-Identifier: MIT
 *
 * The ring: wrapping, filling up, and what it makes of positions and headers that cannot be.
 */

#define _GNU_SOURCE

#include "../../csrc/ring/ring.h"
#include "../../csrc/lensipc.h"
#include "../../csrc/ring/segment.h"
#include "check.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define CAPACITY LIPC_CAPACITY_MIN

static struct lipc_mapping mapping;
static struct lipc_ring producer;
static struct lipc_ring consumer;

/* Both views of the segment's first ring, with all positions at `position`. */
static void start_at(uint64_t position)
{
    lipc_ring_init(&producer, &mapping.segment->rings[0], mapping.rings[0], CAPACITY);
    lipc_ring_init(&consumer, &mapping.segment->rings[0], mapping.rings[0], CAPACITY);
    producer.read_pos = producer.write_pos = consumer.read_pos = consumer.write_pos = position;
    atomic_store(&mapping.segment->rings[0].read_pos, position);
    atomic_store(&mapping.segment->rings[0].write_pos, position);
}

static void set_write_pos(uint64_t position)
{
    atomic_store(&mapping.segment->rings[0].write_pos, position);
}

static void set_read_pos(uint64_t position)
{
    atomic_store(&mapping.segment->rings[0].read_pos, position);
}

static struct lipc_frame frame_of(uint32_t size)
{
    return (struct lipc_frame){.total = size, .size = size, .kind = 1, .correlation = size};
}

static int put(uint32_t size, char fill)
{
    struct lipc_frame frame = frame_of(size);
    char *at;
    int claimed = lipc_ring_claim(&producer, lipc_frame_bytes(size), &at);
    if (claimed <= 0)
        return claimed;
    memcpy(at, &frame, sizeof frame);
    memset(at + sizeof frame, fill, size);
    lipc_ring_commit(&producer, lipc_frame_bytes(size));
    return 1;
}

static int take(uint32_t size, char fill)
{
    struct lipc_frame frame;
    const char *body;
    int got = lipc_ring_peek(&consumer, &frame, &body);
    if (got <= 0)
        return got;
    CHECK(frame.size == size && frame.correlation == size);
    for (uint32_t i = 0; i < size; i++)
        CHECK(body[i] == fill);
    lipc_ring_take(&consumer, &frame);
    lipc_ring_release(&consumer);
    return 1;
}

static void a_frame_crosses_the_end_at_every_offset_and_size(void)
{
    for (uint64_t before = 0; before <= 208; before += LIPC_FRAME_ALIGN)
        for (uint32_t size = 0; size <= 160; size++) {
            start_at(5 * (uint64_t)CAPACITY - before);
            CHECK(put(size, 'a') == 1 && put(3, 'b') == 1);
            CHECK(take(size, 'a') == 1 && take(3, 'b') == 1 && take(0, 0) == 0);
        }
}

static void positions_wrap_around_at_two_to_the_64(void)
{
    start_at(0 - (uint64_t)CAPACITY / 2);
    for (int i = 0; i < 1000; i++)
        CHECK(put(1000, (char)i) == 1 && take(1000, (char)i) == 1);
    CHECK(consumer.read_pos < (UINT64_C(1) << 32));
}

static void a_ring_takes_its_capacity_and_not_a_byte_more(void)
{
    start_at(8);
    const uint32_t size = CAPACITY / 8 - sizeof(struct lipc_frame);
    for (int i = 0; i < 8; i++)
        CHECK(put(size, (char)i) == 1);
    CHECK(put(0, 0) == 0);
    CHECK(lipc_ring_room(&producer, 1) == 0);
    CHECK(take(size, 0) == 1);
    CHECK(put(size, 8) == 1 && put(0, 0) == 0);
    for (int i = 1; i < 9; i++)
        CHECK(take(size, (char)i) == 1);
    CHECK(take(0, 0) == 0 && lipc_ring_readable(&consumer) == 0);
}

static void a_claim_that_is_not_committed_never_was(void)
{
    start_at(0);
    char *at;
    CHECK(lipc_ring_claim(&producer, 4096, &at) == 1);
    CHECK(lipc_ring_readable(&consumer) == 0);
    CHECK(lipc_ring_claim(&producer, CAPACITY, &at) == 1);
}

static void a_producer_is_heard_only_within_the_ring_and_forwards(void)
{
    const uint64_t start = 3 * (uint64_t)CAPACITY;
    const uint64_t bad[] = {start + CAPACITY + 8, start + 1, start + 4,           start - 8,          0,
                            UINT64_MAX,           UINT64_MAX - 7, start + UINT32_MAX, start + (UINT64_C(1) << 63)};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct lipc_frame frame;
        const char *body;
        start_at(start);
        set_write_pos(bad[i]);
        CHECK(lipc_ring_readable(&consumer) == -EBADMSG);
        CHECK(lipc_ring_peek(&consumer, &frame, &body) == -EBADMSG);
        CHECK(consumer.write_pos == start && consumer.read_pos == start);
    }
}

static void a_consumer_is_heard_only_behind_the_producer_and_forwards(void)
{
    const uint64_t start = 3 * (uint64_t)CAPACITY;
    const uint64_t bad[] = {start + 4096 + 8, start + 1, start - 8, 0, UINT64_MAX, start + (UINT64_C(1) << 63)};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *at;
        start_at(start);
        CHECK(put(4096 - sizeof(struct lipc_frame), 0) == 1);
        set_read_pos(bad[i]);
        CHECK(lipc_ring_room(&producer, CAPACITY) == -EBADMSG);
        CHECK(lipc_ring_claim(&producer, CAPACITY, &at) == -EBADMSG);
        CHECK(producer.read_pos == start);
    }
}

static int peek_at(const struct lipc_frame *frame, uint64_t published)
{
    struct lipc_frame copy;
    const char *body;
    start_at(CAPACITY);
    memcpy(mapping.rings[0], frame, sizeof *frame);
    set_write_pos(CAPACITY + published);
    return lipc_ring_peek(&consumer, &copy, &body);
}

static void a_header_that_cannot_be_is_refused(void)
{
    const uint32_t most = CAPACITY / 4 - sizeof(struct lipc_frame);
    struct lipc_frame frame = frame_of(100);
    CHECK(peek_at(&frame, lipc_frame_bytes(100)) == 1);
    CHECK(peek_at(&frame, lipc_frame_bytes(100) - 8) == -EBADMSG); /* published in part */
    CHECK(peek_at(&frame, sizeof frame) == -EBADMSG);
    CHECK(peek_at(&frame, 8) == -EBADMSG);

    frame = frame_of(most);
    CHECK(peek_at(&frame, CAPACITY) == 1);
    frame = frame_of(most + 1);
    CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);
    frame = frame_of(UINT32_MAX);
    CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);

    memset(&frame, 0, sizeof frame); /* a hole punched in the file */
    CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);
    frame = frame_of(100);
    frame.kind = 0;
    CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);
    frame = frame_of(100);
    frame.reserved = 1;
    CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);
    frame = frame_of(100);
    frame.total = 99;
    CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);
    for (uint32_t flags = 8; flags <= UINT16_MAX; flags++) { /* receive.c refuses combinations below */
        frame = frame_of(100);
        frame.flags = (uint16_t)flags;
        CHECK(peek_at(&frame, CAPACITY) == -EBADMSG);
    }
}

#define STREAM 50000

static void *produce(void *seed)
{
    for (uint32_t i = 0; i < STREAM;) {
        uint32_t size = (i * 37 + *(uint32_t *)seed) % 3000;
        if (put(size, (char)i) == 1)
            i++;
        else
            (void)sched_yield();
    }
    return NULL;
}

static void two_threads_see_every_frame_once_and_in_order(void)
{
    uint32_t seed = 11;
    pthread_t thread;
    start_at(0 - (uint64_t)CAPACITY * 3);
    CHECK(pthread_create(&thread, NULL, produce, &seed) == 0);
    for (uint32_t i = 0; i < STREAM;) {
        int got = take((i * 37 + seed) % 3000, (char)i);
        CHECK(got >= 0);
        if (got)
            i++;
        else
            (void)sched_yield();
    }
    CHECK(pthread_join(thread, NULL) == 0);
}

int main(void)
{
    int fd = lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY);
    CHECK(fd >= 0 && lipc_segment_map(fd, &mapping) == 0 && close(fd) == 0);
    RUN(a_frame_crosses_the_end_at_every_offset_and_size);
    RUN(positions_wrap_around_at_two_to_the_64);
    RUN(a_ring_takes_its_capacity_and_not_a_byte_more);
    RUN(a_claim_that_is_not_committed_never_was);
    RUN(a_producer_is_heard_only_within_the_ring_and_forwards);
    RUN(a_consumer_is_heard_only_behind_the_producer_and_forwards);
    RUN(a_header_that_cannot_be_is_refused);
    RUN(two_threads_see_every_frame_once_and_in_order);
    lipc_segment_unmap(&mapping);
    return 0;
}
