/* SPDX-License-Identifier: MIT
 *
 * The other bodies of what shim.h calls: real memory and real futexes, with a random delay before each access to an
 * atomic, each signal and each sleep, and in the middle of each copy. Two threads send each other messages, for data
 * and for room, and fall asleep whenever they can. Usage: delays [--count N] [--seed N], N being sleeps.
 */

#define _GNU_SOURCE

#include "../../csrc/fast.h"
#include "../c/options.h"
#include "explorer.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/syscall.h>

#define CAPACITY 65536
#define LARGE 20000 /* three of them, and the ring is full */
#define LOST_S 60   /* a sleep as long as that is taken for a lost wake */
#define NO_LIMIT (UINT64_MAX / 2)

static struct options options;
static _Atomic uint64_t sleeps, delays;
static _Thread_local uint64_t chance;

static void delay(void)
{
    uint64_t random = next_random(&chance);
    if (random % 16)
        return;
    atomic_fetch_add_explicit(&delays, 1, memory_order_relaxed);
    random >>= 4;
    if (random % 32 == 0) {
        const struct timespec moment = {.tv_nsec = (long)((random >> 8) % 20000)};
        (void)nanosleep(&moment, NULL);
    } else if (random % 4 == 0)
        (void)sched_yield();
    else
        for (uint64_t i = (random >> 8) % 512; i; i--)
            atomic_signal_fence(memory_order_seq_cst);
}

/* ---- the shim's calls; an order has to be a constant to be no stronger than it says ---- */

uint64_t model_load(const volatile void *object, size_t size, memory_order order, const char *file, int line)
{
    const volatile _Atomic uint64_t *wide = object;
    const volatile _Atomic uint32_t *narrow = object;
    (void)file, (void)line;
    delay();
    if (order == memory_order_acquire)
        return size == 8 ? atomic_load_explicit(wide, memory_order_acquire)
                         : atomic_load_explicit(narrow, memory_order_acquire);
    CHECK(order == memory_order_relaxed);
    return size == 8 ? atomic_load_explicit(wide, memory_order_relaxed)
                     : atomic_load_explicit(narrow, memory_order_relaxed);
}

void model_store(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file, int line)
{
    (void)file, (void)line;
    delay();
    if (size == 8) {
        CHECK(order == memory_order_release);
        atomic_store_explicit((volatile _Atomic uint64_t *)object, value, memory_order_release);
    } else {
        CHECK(order == memory_order_relaxed);
        atomic_store_explicit((volatile _Atomic uint32_t *)object, (uint32_t)value, memory_order_relaxed);
    }
    delay();
}

uint64_t model_or(volatile void *object, size_t size, uint64_t bits, memory_order order, const char *file, int line)
{
    (void)file, (void)line;
    delay();
    CHECK(size == 4 && order == memory_order_relaxed);
    return atomic_fetch_or_explicit((volatile _Atomic uint32_t *)object, (uint32_t)bits, memory_order_relaxed);
}

uint64_t model_add(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file, int line)
{
    (void)file, (void)line;
    delay();
    CHECK(size == 4 && order == memory_order_relaxed);
    return atomic_fetch_add_explicit((volatile _Atomic uint32_t *)object, (uint32_t)value, memory_order_relaxed);
}

uint64_t model_exchange(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file,
                        int line)
{
    (void)file, (void)line;
    delay();
    CHECK(size == 4 && order == memory_order_relaxed);
    return atomic_exchange_explicit((volatile _Atomic uint32_t *)object, (uint32_t)value, memory_order_relaxed);
}

void model_fence(memory_order order, const char *file, int line)
{
    (void)file, (void)line;
    delay();
    CHECK(order == memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
}

void *model_copy(void *to, const void *from, size_t size)
{
    memcpy(to, from, size / 2);
    delay();
    memcpy((char *)to + size / 2, (const char *)from + size / 2, size - size / 2);
    return to;
}

void *model_allocate(size_t size)
{
    return calloc(1, size);
}

void model_free(void *memory)
{
    free(memory);
}

uint64_t model_clock(void)
{
    return (uint64_t)seconds();
}

int model_yield(void)
{
    return sched_yield();
}

void model_signal(const void *where)
{
    CHECK(where == NULL); /* no descriptors here */
}

bool model_wait(const void *where)
{
    CHECK(where == NULL);
    return false;
}

long model_futex(const volatile void *word, ...)
{
    va_list arguments;
    va_start(arguments, word);
    int operation = va_arg(arguments, int);
    va_end(arguments);
    delay();
    if (operation == FUTEX_WAKE)
        return syscall(SYS_futex, word, operation, 1, NULL, NULL, 0);
    atomic_fetch_add_explicit(&sleeps, 1, memory_order_relaxed);
    const struct timespec until = {.tv_sec = (time_t)seconds() + LOST_S};
    long slept = syscall(SYS_futex, word, operation, 0, &until, NULL, FUTEX_BITSET_MATCH_ANY);
    CHECK(slept == 0 || errno == EAGAIN || errno == EINTR); /* not ETIMEDOUT */
    return slept;
}

/* ---- two threads ---- */

static size_t size_of(uint64_t number)
{
    uint64_t state = options.seed + number;
    uint64_t random = next_random(&state);
    return (random >> 8) % (random % 16 ? 64 : LARGE);
}

static void rest(struct lipc_endpoint *endpoint)
{
    int woken;
    do
        woken = lipc_sleep(endpoint, UINT64_MAX);
    while (woken == LIPC_WOKEN);
    CHECK(woken == 1 || woken == -EINTR);
}

static void say(struct lipc_endpoint *endpoint, uint64_t number, uint32_t kind)
{
    static char body[LARGE];
    const struct lipc_header header = {.correlation = number, .channel = 1, .kind = kind};
    CHECK(lipc_send(endpoint, &header, body, size_of(number), LIPC_REFUSE) == 0);
    for (;;) {
        int64_t waiting = lipc_flush(endpoint);
        CHECK(waiting >= 0);
        if (waiting <= LARGE)
            return;
        rest(endpoint);
    }
}

/* The kind of the next message, which is that with this number. */
static uint32_t hear(struct lipc_endpoint *endpoint, uint64_t number)
{
    char buffer[LIPC_INLINE];
    struct lipc_record record;
    for (;;) {
        uint64_t wanted;
        static _Thread_local char large[LARGE];
        int got = lipc_recv(endpoint, &record, 1, buffer, sizeof buffer, &wanted);
        CHECK(got >= 0);
        if (wanted)
            CHECK(lipc_assemble(endpoint, large, wanted) == 0);
        else if (got) {
            CHECK(record.correlation == number && record.size == size_of(number));
            return record.kind;
        } else {
            CHECK(lipc_flush(endpoint) >= 0);
            rest(endpoint);
        }
    }
}

enum { TELL = 1, ASK, END };

static void *answer(void *endpoint)
{
    uint32_t kind;
    chance = options.seed + 1;
    for (uint64_t i = 0; (kind = hear(endpoint, i)) != END; i++)
        if (kind == ASK)
            say(endpoint, i, TELL);
    return NULL;
}

static void ask(struct lipc_endpoint *endpoint)
{
    uint64_t i = 0;
    chance = options.seed;
    for (;; i++) {
        bool enough = atomic_load_explicit(&sleeps, memory_order_relaxed) >= options.count;
        if (i % 1000 == 0)
            (void)alarm(2 * LOST_S);
        say(endpoint, i, enough ? END : i % 3 ? ASK : TELL);
        if (enough)
            break;
        if (i % 3)
            CHECK(hear(endpoint, i) == TELL);
    }
    while (lipc_flush(endpoint) > 0)
        rest(endpoint);
    (void)printf("%" PRIu64 " messages, %" PRIu64 " sleeps, %" PRIu64 " delays, no wake lost\n", i, sleeps, delays);
}

int main(int argc, char **argv)
{
    int error, segment = lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY);
    struct lipc_endpoint *sides[2];
    pthread_t thread;
    double start = seconds();
    options = parse_options(argc, argv, 100000);
    for (int side = 0; side < 2; side++) {
        sides[side] = lipc_endpoint_open(segment, side, LIPC_WAKEUP_SEMAPHORE, -1, NO_LIMIT, NO_LIMIT, &error);
        CHECK(sides[side]);
    }
    CHECK(pthread_create(&thread, NULL, answer, sides[1]) == 0);
    ask(sides[0]);
    CHECK(pthread_join(thread, NULL) == 0);
    (void)printf("%.1f s\n", seconds() - start);
    for (int side = 0; side < 2; side++)
        lipc_endpoint_close(sides[side]);
    CHECK(close(segment) == 0);
    return 0;
}
