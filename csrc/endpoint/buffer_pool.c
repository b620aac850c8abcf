/* SPDX-License-Identifier: MIT
 *
 * Memory for large bodies, used again.
 *
 * A fresh page costs a fault, and in a virtual machine another one of its host's: on an AMD EPYC guest a copy into fresh
 * memory runs at 2 GiB/s, into huge pages at 4 to 24, into memory that was used before at 17 to 57. malloc gives blocks
 * of more than 32 MiB back at once. So blocks are made of huge pages where they can be, and those that are given
 * back are kept for the next ones: at most KEPT_MOST, of KEPT_BYTES in all. Those larger than FIRM are the kernel's
 * to take when it needs memory, by MADV_FREE, which costs 80 us for 256 MiB; so 32 MiB at most are kept from others. A
 * message of 1 MiB would lose a fifth of its rate by it.
 *
 * Blocks are given back by whatever thread drops the last reference to an array. Nobody waits for the list of those
 * kept: who finds it in use, or left in use by the parent's other thread after a fork, does without.
 *
 *   label  access            pairs with  what it orders
 *   B1     set    acquire    B2          the last user's changes of the list before ours
 *   B2     clear  release    B1
 */

#define _GNU_SOURCE /* MADV_HUGEPAGE, MADV_FREE */

#include "lensipc.h"
#include "ring/layout.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define HUGE_PAGE ((size_t)1 << 21)
#define KEPT_MOST 8
#define KEPT_BYTES ((size_t)512 << 20) /* as much as the largest message that main takes by default */
#define FIRM ((size_t)4 << 20)

/* Precedes the memory that is handed out, and aligns it to a cache line. */
struct block {
    alignas(LIPC_CACHE_LINE) size_t room; /* of the whole mapping */
};

static struct kept {
    struct block *block; /* its pages may be gone: nothing in it is to be read */
    size_t room;
} kept[KEPT_MOST]; /* the one given back last is the last */
static size_t count, bytes;
static atomic_flag in_use = ATOMIC_FLAG_INIT;

static bool enter(void)
{
    return !atomic_flag_test_and_set_explicit(&in_use, memory_order_acquire); /* B1: pairs B2 */
}

static void leave(void)
{
    atomic_flag_clear_explicit(&in_use, memory_order_release); /* B2: pairs B1 */
}

/* Takes one out of the list, within enter and leave. */
static struct kept take_out(size_t i)
{
    struct kept out = kept[i];
    bytes -= out.room;
    memmove(&kept[i], &kept[i + 1], (--count - i) * sizeof kept[0]);
    return out;
}

/* One of at least `room` bytes that is not far too large; NULL: there is none. */
static struct block *reuse(size_t room)
{
    struct kept found = {0};
    if (!enter())
        return NULL;
    for (size_t i = count; i-- > 0 && !found.block;)
        if (kept[i].room >= room && kept[i].room / 2 <= room)
            found = take_out(i);
    leave();
    if (found.block)
        found.block->room = found.room;
    return found.block;
}

/* A new one, which begins where a huge page may. */
static struct block *map(size_t room)
{
    char *mapped = mmap(NULL, room + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)mapped % HUGE_PAGE;
    if (before)
        (void)munmap(mapped, before);
    (void)munmap(mapped + before + room, HUGE_PAGE - before);
    struct block *block = (struct block *)(void *)(mapped + before);
    (void)madvise(block, room, MADV_HUGEPAGE); /* a kernel that has none says no */
    block->room = room;
    return block;
}

/* Unmaps the oldest of those kept until so many are left and so many bytes, within enter and leave. */
static void shrink(size_t most, size_t most_bytes)
{
    while (count > most || bytes > most_bytes) {
        struct kept oldest = take_out(0);
        (void)munmap(oldest.block, oldest.room);
    }
}

void *lipc_block_take(size_t size)
{
    size_t room = (sizeof(struct block) + size + PAGE - 1) / PAGE * PAGE;
    struct block *block = reuse(room);
    if (!block)
        block = map(room);
    if (!block && enter()) { /* it may be what is kept that is in the way */
        shrink(0, 0);
        leave();
        block = map(room);
    }
    return block ? block + 1 : NULL;
}

void lipc_block_give(void *memory)
{
    struct block *block = (struct block *)memory - 1;
    size_t room = block->room; /* which is lost with the pages */
    if (room > KEPT_BYTES || (room > FIRM && madvise(block, room, MADV_FREE) < 0) || !enter()) {
        (void)munmap(block, room);
        return;
    }
    shrink(KEPT_MOST - 1, KEPT_BYTES - room);
    kept[count++] = (struct kept){block, room};
    bytes += room;
    leave();
}
