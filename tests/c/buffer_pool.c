/* SPDX-License-Identifier: MIT
 *
 * Blocks: which one is used again, how much is kept, and what becomes of it without memory, without its list, and in
 * threads. The source is part of the program, which sees inside, and makes mmap fail.
 */

#define _GNU_SOURCE

#include "check.h"

#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

/* Maps from now on that fail. */
static int maps_that_fail;

static void *test_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (maps_that_fail) {
        maps_that_fail--;
        return MAP_FAILED;
    }
    return mmap(at, size, protection, flags, fd, offset);
}

#define mmap test_mmap
#include "../../csrc/endpoint/buffer_pool.c"
#undef mmap

#define MIB ((size_t)1 << 20)

static void forget_all(void)
{
    CHECK(enter());
    shrink(0, 0);
    leave();
    CHECK(count == 0 && bytes == 0);
}

static void one_given_back_is_used_again_and_is_all_there(void)
{
    const size_t sizes[] = {MIB, 3 * MIB + 1, 40 * MIB};
    for (int i = 0; i < 3; i++) {
        char *memory = lipc_buffer_take(sizes[i]);
        CHECK(memory && (uintptr_t)memory % 64 == 0);
        memset(memory, 1, sizes[i]);
        lipc_buffer_give(memory);
        CHECK(lipc_buffer_take(sizes[i]) == memory);
        memset(memory, 2, sizes[i]); /* its pages may have been taken meanwhile */
        lipc_buffer_give(memory);
        CHECK(lipc_buffer_take(sizes[i] - MIB / 4) == memory);
        lipc_buffer_give(memory);
        CHECK(count == 1);
        forget_all();
    }
}

static void one_too_small_or_far_too_large_is_not_used(void)
{
    char *memory = lipc_buffer_take(10 * MIB);
    lipc_buffer_give(memory);
    char *larger = lipc_buffer_take(11 * MIB), *smaller = lipc_buffer_take(4 * MIB);
    CHECK(larger && smaller && larger != memory && smaller != memory && count == 1);
    memset(larger, 1, 11 * MIB);
    lipc_buffer_give(larger);
    lipc_buffer_give(smaller);
    CHECK(count == 3);
    forget_all();
}

static void no_more_is_kept_than_is_said(void)
{
    char *memory[KEPT_MOST + 5];
    for (size_t i = 0; i < KEPT_MOST + 5; i++)
        memory[i] = lipc_buffer_take(MIB);
    for (size_t i = 0; i < KEPT_MOST + 5; i++) {
        lipc_buffer_give(memory[i]);
        CHECK(count <= KEPT_MOST);
    }
    CHECK(count == KEPT_MOST && lipc_buffer_take(MIB) == memory[KEPT_MOST + 4]); /* the oldest have gone */
    lipc_buffer_give(memory[KEPT_MOST + 4]);
    for (size_t i = 0; i < 4; i++)
        memory[i] = lipc_buffer_take(KEPT_BYTES / 3);
    for (size_t i = 0; i < 4; i++) {
        lipc_buffer_give(memory[i]);
        CHECK(bytes <= KEPT_BYTES);
    }
    CHECK(count == 2);
    lipc_buffer_give(lipc_buffer_take(KEPT_BYTES)); /* larger than all that may be kept, by its header: it is not kept */
    CHECK(count == 2);
    forget_all();
}

static void what_is_kept_goes_before_memory_is_refused(void)
{
    lipc_buffer_give(lipc_buffer_take(2 * MIB));
    maps_that_fail = 1;
    char *memory = lipc_buffer_take(8 * MIB);
    CHECK(memory && count == 0);
    lipc_buffer_give(memory);
    maps_that_fail = 2;
    CHECK(lipc_buffer_take(64 * MIB) == NULL && count == 0 && maps_that_fail == 0);
}

/* As in a child that was forked while another thread was at it. */
static void without_its_list_memory_is_fresh(void)
{
    lipc_buffer_give(lipc_buffer_take(MIB));
    CHECK(enter());
    char *memory = lipc_buffer_take(MIB);
    memset(memory, 1, MIB);
    lipc_buffer_give(memory);
    CHECK(count == 1);
    maps_that_fail = 1;
    CHECK(lipc_buffer_take(MIB) == NULL);
    leave();
    forget_all();
}

static void *use_blocks(void *own)
{
    uint64_t random = (uintptr_t)own;
    for (int i = 0; i < 300; i++) {
        size_t size = MIB + next_random(&random) % (8 * MIB);
        char *memory = lipc_buffer_take(size);
        CHECK(memory);
        for (size_t at = 0; at < size; at += MIB / 2)
            memory[at] = *(char *)own;
        for (size_t at = 0; at < size; at += MIB / 2)
            CHECK(memory[at] == *(char *)own);
        lipc_buffer_give(memory);
    }
    return NULL;
}

static void no_two_threads_are_given_the_same(void)
{
    pthread_t threads[4];
    char own[4] = {1, 2, 3, 4};
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, use_blocks, &own[i]) == 0);
    for (int i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    CHECK(count > 0 && count <= KEPT_MOST);
    forget_all();
}

int main(void)
{
    RUN(one_given_back_is_used_again_and_is_all_there);
    RUN(one_too_small_or_far_too_large_is_not_used);
    RUN(no_more_is_kept_than_is_said);
    RUN(what_is_kept_goes_before_memory_is_refused);
    RUN(without_its_list_memory_is_fresh);
    RUN(no_two_threads_are_given_the_same);
    return 0;
}
