/* SPDX-License-Identifier: MIT
 *
 * Both sides of a segment in one process, over one mapping: a thread sanitizer keys by address, and would not see a
 * race between two mappings of the same memory. The endpoint's source is part of the program, so that its tests see
 * inside, and its allocations can be made to fail.
 */
#ifndef PAIR_H
#define PAIR_H

#define _GNU_SOURCE

#include "check.h"

#include <stdlib.h>
#include <string.h>

/* Allocations from now on that succeed before one fails; negative: all do. */
static int allocations_left = -1;
static int allocations_alive;
static int pairs_open;

static inline void *test_malloc(size_t size)
{
    if (allocations_left == 0)
        return NULL;
    if (allocations_left > 0)
        allocations_left--;
    allocations_alive++;
    return malloc(size);
}

static inline void *test_calloc(size_t count, size_t size)
{
    void *memory = test_malloc(count * size);
    return memory ? memset(memory, 0, count * size) : NULL;
}

static inline void *test_realloc(void *memory, size_t size)
{
    if (allocations_left == 0)
        return NULL;
    if (allocations_left > 0)
        allocations_left--;
    allocations_alive += memory == NULL;
    return realloc(memory, size);
}

static inline void test_free(void *memory)
{
    if (memory)
        allocations_alive--;
    free(memory);
}

#define malloc test_malloc
#define calloc test_calloc
#define realloc test_realloc
#define free test_free
#include "../../csrc/endpoint/account.c"
#include "../../csrc/endpoint/outbox.c"
#include "../../csrc/endpoint/endpoint.c"
#include "../../csrc/endpoint/send.c"
#undef malloc
#undef calloc
#undef realloc
#undef free

#define NO_LIMIT (UINT64_MAX / 2)

struct pair {
    struct lipc_endpoint *main;
    struct lipc_endpoint *renderer;
};

static inline struct pair open_pair(uint32_t capacity)
{
    int fd = lipc_segment_create(LIPC_FORM_MEMFD, capacity);
    CHECK(fd >= 0);
    pairs_open++;
    int error = 0;
    struct pair pair = {.main = lipc_endpoint_open(fd, LIPC_SIDE_MAIN, LIPC_WAKEUP_SEMAPHORE, -1, NO_LIMIT, NO_LIMIT,
                                                   &error)};
    CHECK(pair.main && error == 0);
    CHECK(close(fd) == 0);
    pair.renderer = test_calloc(1, sizeof *pair.renderer);
    CHECK(pair.renderer);
    pair.renderer->mapping = pair.main->mapping;
    attach(pair.renderer, LIPC_SIDE_RENDERER, LIPC_WAKEUP_SEMAPHORE, -1);
    pair.renderer->high_water = pair.renderer->limit = NO_LIMIT;
    return pair;
}

static inline void close_pair(struct pair pair)
{
    lipc_outbox_clear(&pair.renderer->outbox);
    test_free(pair.renderer->incoming);
    test_free(pair.renderer);
    lipc_endpoint_close(pair.main);
    CHECK(--pairs_open > 0 || allocations_alive == 0);
}

/* Byte i of a body that is told apart by its seed. */
static inline char pattern(uint64_t seed, uint64_t i)
{
    return (char)((seed * 31 + i * 7 + (i >> 8)) & 0xff);
}

static inline char *make_body(uint64_t seed, size_t size)
{
    char *body = malloc(size ? size : 1);
    CHECK(body);
    for (size_t i = 0; i < size; i++)
        body[i] = pattern(seed, i);
    return body;
}

static inline bool is_body(uint64_t seed, const char *body, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (body[i] != pattern(seed, i))
            return false;
    return true;
}

static inline struct lipc_header numbered(uint64_t number)
{
    return (struct lipc_header){.correlation = number, .channel = 2, .detail = 3, .pid = 4, .kind = 5};
}

/* A message as a test receives it. */
struct received {
    struct lipc_record record;
    char *body; /* for the test to free */
};

/* Takes the next message: 1, 0 when there is none (or no more of it: go on with the same `received`) yet, -errno. */
static inline int receive(struct lipc_endpoint *endpoint, struct received *received)
{
    char buffer[LIPC_INLINE];
    uint64_t wanted;
    int count = lipc_recv(endpoint, &received->record, 1, buffer, sizeof buffer, &wanted);
    if (count == 0 && wanted) {
        received->body = malloc(wanted);
        CHECK(received->body && lipc_assemble(endpoint, received->body, wanted) == 0);
        count = lipc_recv(endpoint, &received->record, 1, buffer, sizeof buffer, &wanted);
    }
    if (count < 1)
        return count;
    if (received->record.offset == LIPC_ASSEMBLED)
        return 1;
    received->body = malloc(received->record.size + 1);
    CHECK(received->body);
    memcpy(received->body, buffer + received->record.offset, received->record.size);
    return 1;
}

#endif
