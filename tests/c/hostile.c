/* SPDX-License-Identifier: MIT
 *
 * A renderer that writes what it likes, at random: main either takes it or says -EBADMSG, and never leaves its memory.
 * Usage: hostile [--count N] [--seed N], N being states. The buffers have exactly the size they are said to have, so that a sanitizer sees a
 * byte too many; what it cannot see, the positions, is checked after every step.
 */

#include "pair.h"

#include "options.h"
#include "sleep.h"

#include <pthread.h>

#define CAPACITY LIPC_CAPACITY_MIN
#define MAX_RECORDS 8

static _Thread_local uint64_t seed;

static uint64_t below(uint64_t bound)
{
    return next_random(&seed) % bound;
}

static bool sometimes(uint64_t one_in)
{
    return below(one_in) == 0;
}

/* A number that is wrong in the way that numbers are: near a border, or anything. */
static uint64_t any_number(uint64_t near)
{
    const uint64_t borders[] = {0, 1, near, CAPACITY, CAPACITY / 4, UINT32_MAX, UINT64_MAX, LIPC_INLINE};
    uint64_t border = borders[below(8)];
    switch (below(4)) {
    case 0: return next_random(&seed) >> below(64);
    case 1: return border + 8 * below(16);
    case 2: return border - 8 * below(16);
    default: return border + below(64) - 32;
    }
}

/* Frames as they should be, for the most part: whole messages, or sequences with a field changed. */
static void send_something(struct lipc_endpoint *renderer)
{
    static char body[3 * CAPACITY];
    const size_t sizes[] = {0, 90, 4000, CAPACITY / 4, LIPC_INLINE, sizeof body};
    const struct lipc_header header = numbered(below(4));
    (void)lipc_send(renderer, &header, body, below(sizes[below(6)] + 1), LIPC_REFUSE);
}

/* Where a frame begins that main has not read: the next one, or one of those behind it. */
static char *some_frame(const struct lipc_endpoint *renderer)
{
    struct lipc_frame frame;
    uint64_t position = atomic_load(&renderer->out.shared->read_pos);
    for (uint64_t i = below(4); i; i--) {
        memcpy(&frame, renderer->out.data + position % CAPACITY, sizeof frame);
        if (lipc_frame_bytes(frame.size) + sizeof frame > renderer->out.write_pos - position)
            break;
        position += lipc_frame_bytes(frame.size);
    }
    return renderer->out.data + position % CAPACITY;
}

/* Bits of whatever is shared: positions, flags, the semaphores, the header of the segment, frames. */
static void flip_bits(struct lipc_segment *segment, char *ring, uint64_t most)
{
    for (uint64_t i = below(most); i; i--) {
        char *at = sometimes(4) ? (char *)segment + below(sizeof *segment) : ring + below(CAPACITY);
        __atomic_fetch_xor(at, (char)(1 << below(8)), __ATOMIC_RELAXED);
    }
}

/* A header made of fields that are right one by one, or nearly so. */
static void forge_frame(char *at)
{
    const uint32_t most = CAPACITY / 4 - sizeof(struct lipc_frame);
    struct lipc_frame frame = {.size = (uint32_t)below(sometimes(4) ? most + 9 : 200), .channel = 2, .detail = 3, .pid = 4};
    frame.total = frame.size + (sometimes(2) ? 0 : any_number(most) % (3 * CAPACITY));
    frame.kind = (uint16_t)(sometimes(50) ? 0 : 5);
    frame.flags = (uint16_t)below(sometimes(20) ? 8 : 4);
    frame.reserved = sometimes(50);
    frame.correlation = below(4);
    memcpy(at, &frame, sizeof frame);
}

static void attack(struct lipc_endpoint *renderer)
{
    struct lipc_segment *segment = renderer->mapping.segment;
    struct lipc_positions *written = &segment->rings[LIPC_SIDE_RENDERER], *read = &segment->rings[LIPC_SIDE_MAIN];
    char *frame = some_frame(renderer);
    switch (below(16)) {
    case 0:
        atomic_store(&written->write_pos, any_number(atomic_load(&written->write_pos)));
        break;
    case 1:
        atomic_store(&read->read_pos, any_number(atomic_load(&read->write_pos)));
        break;
    case 2: { /* any word of a header */
        uint64_t word = any_number(0);
        memcpy(frame + 8 * below(5), &word, sizeof word);
        break;
    }
    case 3: { /* its size or its total */
        uint32_t size = (uint32_t)any_number(LIPC_INLINE);
        memcpy(frame + (sometimes(2) ? 0 : offsetof(struct lipc_frame, size)), &size, sizeof size);
        break;
    }
    case 4: { /* its kind and flags */
        uint16_t flags[2] = {(uint16_t)below(3), (uint16_t)below(5)};
        memcpy(frame + offsetof(struct lipc_frame, kind), flags, sizeof flags);
        break;
    }
    case 5: /* a hole in the file */
        if (sometimes(16))
            memset(renderer->out.data + CAPACITY / 16 * below(16), 0, CAPACITY / 16);
        break;
    case 6: {
        struct lipc_sleeper *sleeper = &segment->sleepers[below(2)];
        atomic_store(sometimes(2) ? &sleeper->parked : &sleeper->posted, (uint32_t)any_number(0));
        break;
    }
    case 7:
        atomic_store(&read->read_pos, atomic_load(&read->write_pos)); /* reads on */
        break;
    case 8:
        flip_bits(segment, renderer->out.data, 8);
        break;
    case 9:
        forge_frame(frame);
        break;
    default:
        send_something(renderer);
        (void)lipc_flush(renderer);
    }
}

static void check_ring(const struct lipc_ring *ring)
{
    CHECK(ring->write_pos - ring->read_pos <= CAPACITY);
    CHECK(ring->write_pos % 8 == 0 && ring->read_pos % 8 == 0);
}

/* One thing that main does. False when it has met nonsense. */
static bool defend(struct lipc_endpoint *victim, char *buffer, size_t size, char **memory)
{
    static const char body[2 * CAPACITY];
    struct lipc_record records[MAX_RECORDS];
    const struct lipc_header header = numbered(1);
    uint64_t wanted;
    int64_t result;
    switch (below(8)) {
    case 0:
        result = lipc_send(victim, &header, body, below(sometimes(8) ? sizeof body : 3000), (int)below(3));
        CHECK(result >= 0 || result == -EBADMSG || result == -ENOBUFS);
        return result != -EBADMSG;
    case 1:
        result = lipc_flush(victim);
        CHECK(result >= 0 || result == -EBADMSG);
        return result >= 0;
    case 2:
        (void)lipc_park(victim, 1);
        lipc_unpark(victim);
        (void)lipc_bytes_taken(victim);
        (void)lipc_busy_poll((struct lipc_endpoint *[]){victim}, 1, 0);
        CHECK(sleep_until_work(victim, below(2000)) >= 0);
        return true;
    default:
        result = lipc_recv(victim, records, MAX_RECORDS, buffer, size, &wanted);
        CHECK(result == -EBADMSG || (result >= 0 && result <= MAX_RECORDS));
        CHECK(wanted == 0 || (result == 0 && wanted <= LIPC_TOTAL_MAX));
        for (int64_t i = 0; i < result; i++) {
            if (records[i].offset == LIPC_ASSEMBLED) {
                CHECK(result == 1 && *memory);
                free(*memory);
                *memory = NULL;
            } else
                CHECK(records[i].offset % 8 == 0 && records[i].offset + records[i].size <= size);
            CHECK(records[i].kind != 0);
        }
        if (wanted > 4 * CAPACITY)
            return false; /* over the quota */
        if (wanted) {
            CHECK(*memory == NULL);
            *memory = malloc(wanted);
            CHECK(*memory && lipc_assemble(victim, *memory, wanted) == 0);
        }
        return result >= 0;
    }
}

static void start_again(struct pair pair)
{
    struct lipc_segment *segment = pair.main->mapping.segment;
    struct lipc_endpoint *both[] = {pair.main, pair.renderer};
    for (int side = 0; side < 2; side++) {
        lipc_outbox_clear(&both[side]->outbox);
        both[side]->assembly = (struct lipc_assembly){0};
        attach(both[side], side, LIPC_WAKEUP_SEMAPHORE, -1);
        both[side]->high_water = CAPACITY;
        both[side]->limit = 4 * CAPACITY;
        atomic_store(&segment->rings[side].write_pos, 0);
        atomic_store(&segment->rings[side].read_pos, 0);
        atomic_store(&segment->sleepers[side].posted, 0);
    }
}

/* One renderer that attacks between main's steps. Returns how often main has met nonsense. */
static uint64_t attack_in_turns(struct pair pair, uint64_t states)
{
    char *buffer = malloc(LIPC_INLINE), *memory = NULL;
    uint64_t caught = 0;
    for (uint64_t i = 0; i < states; i++) {
        if (i % 100000 == 0)
            (void)alarm(100);
        attack(pair.renderer);
        bool sane = defend(pair.main, buffer, LIPC_INLINE, &memory);
        check_ring(&pair.main->in);
        check_ring(&pair.main->out);
        if (!sane) {
            caught++;
            free(memory);
            memory = NULL;
            start_again(pair);
        }
    }
    free(memory);
    free(buffer);
    return caught;
}

struct flipper {
    struct lipc_mapping mapping;
    uint64_t seed;
    atomic_bool stop;
};

/* Publishes a frame over and over and makes it longer than what is published, and short again, all the while: between
 * a check of its size and a use of it, if the two should load it twice. */
static void *flip(void *argument)
{
    struct flipper *flipper = argument;
    struct lipc_positions *written = &flipper->mapping.segment->rings[LIPC_SIDE_RENDERER];
    char *ring = flipper->mapping.rings[LIPC_SIDE_RENDERER];
    seed = flipper->seed;
    while (!atomic_load_explicit(&flipper->stop, memory_order_relaxed)) {
        const uint32_t sizes[] = {0, 100, 4000, 12000};
        struct lipc_frame frame = {.total = 40000 * below(3), .kind = 1, .size = sizes[below(3)]};
        frame.flags = (uint16_t)(frame.total ? LIPC_FRAME_MORE | (sometimes(2) ? LIPC_FRAME_CONTINUED : 0) : 0);
        frame.total = frame.total ? frame.total : frame.size;
        const uint64_t position = atomic_load(&written->read_pos);
        _Atomic uint64_t *at = (_Atomic uint64_t *)(void *)(ring + position % CAPACITY);
        uint64_t words[sizeof frame / sizeof(uint64_t)];
        memcpy(words, &frame, sizeof frame);
        for (size_t i = 0; i < sizeof frame / sizeof(uint64_t); i++)
            atomic_store_explicit(&at[i], words[i], memory_order_relaxed);
        atomic_store(&written->write_pos, position + lipc_frame_bytes(frame.size));
        for (int i = 0; i < 100; i++) { /* the low half of the third word is the size */
            atomic_store_explicit(&at[2], sizes[3], memory_order_relaxed);
            atomic_store_explicit(&at[2], frame.size, memory_order_relaxed);
        }
    }
    return NULL;
}

/* Flips bits of all that is shared while main reads, and publishes whole frames in between. */
static void *flip_everything(void *argument)
{
    struct flipper *flipper = argument;
    struct lipc_segment *segment = flipper->mapping.segment;
    struct lipc_positions *written = &segment->rings[LIPC_SIDE_RENDERER];
    char *ring = flipper->mapping.rings[LIPC_SIDE_RENDERER];
    seed = flipper->seed;
    while (!atomic_load_explicit(&flipper->stop, memory_order_relaxed)) {
        const uint64_t position = atomic_load(&written->read_pos) & ~UINT64_C(7);
        for (uint64_t i = 0, at = position; i < 4; i++, at += 240)
            forge_frame(ring + at % CAPACITY);
        atomic_store(&written->write_pos, position + 960);
        flip_bits(segment, ring, 30);
    }
    return NULL;
}

/* One that attacks meanwhile. */
static uint64_t attack_meanwhile(struct pair pair, uint64_t states, void *(*attacker)(void *))
{
    char *buffer = malloc(LIPC_INLINE), *memory = NULL;
    struct flipper flipper = {.mapping = pair.main->mapping, .seed = seed};
    uint64_t caught = 0;
    pthread_t thread;
    start_again(pair);
    CHECK(pthread_create(&thread, NULL, attacker, &flipper) == 0);
    for (uint64_t i = 0; i < states || caught < 100; i++) { /* until it has really been attacked */
        if (i % 10000 == 0)
            (void)alarm(100);
        bool sane = defend(pair.main, buffer, LIPC_INLINE, &memory);
        check_ring(&pair.main->in);
        if (!sane) {
            caught++;
            free(memory);
            memory = NULL;
            start_again(pair);
        }
    }
    atomic_store(&flipper.stop, true);
    CHECK(pthread_join(thread, NULL) == 0);
    free(memory);
    free(buffer);
    return caught;
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv, 200000);
    uint64_t states = options.count;
    seed = options.seed;

    struct pair pair = open_pair(CAPACITY);
    uint64_t in_turns = attack_in_turns(pair, states);
    uint64_t meanwhile = attack_meanwhile(pair, states / 10, flip) + attack_meanwhile(pair, states / 10, flip_everything);
    (void)printf("caught %" PRIu64 " in turns, %" PRIu64 " meanwhile\n", in_turns, meanwhile);
    CHECK(states < 1000 || in_turns > states / 100); /* attacks that never hit would be no test */
    close_pair(pair);
    return 0;
}
