/* SPDX-License-Identifier: MIT
 *
 * Buffers for large bodies, kept and reused.
 *
 * The first access to a fresh page causes a fault, and in a virtual machine it causes another fault in the host. On an
 * AMD EPYC guest a copy into fresh memory runs at 2 GiB/s, into huge pages at 4 to 24, and into memory that was used
 * before at 17 to 57. malloc gives allocations of more than 32 MiB back to the kernel at once. So a buffer is made of
 * huge pages where possible, and a buffer that is given back is kept for the next body. At most KEPT_MOST buffers are
 * kept, with KEPT_BYTES in all. Buffers larger than FIRM are marked with MADV_FREE, so that the kernel may take their
 * pages when it needs memory. So at most 32 MiB are withheld from other programs. MADV_FREE costs 80 us for 256 MiB.
 * Messages of 1 MiB would lose a fifth of their rate by it.
 *
 * The thread that drops the last reference to an array gives the array's buffer back. This can be any thread. No thread
 * waits for the list of kept buffers. If another thread is using the list, a thread does without it. This also holds
 * after a fork, if another thread of the parent was using the list.
 *
 *   label  access            pairs with  what it orders
 *   B1     set    acquire    B2          the last user's changes to the list come before ours
 *   B2     clear  release    B1
 */

#define _GNU_SOURCE /* for MADV_HUGEPAGE, MADV_FREE */

#include "lensipc.h"
#include "ring/layout.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE ((size_t)4096)
#define HUGE_PAGE ((size_t)1 << 21)
#define KEPT_MOST 8
#define KEPT_BYTES ((size_t)512 << 20) /* as much as the largest message that main accepts by default */
#define FIRM ((size_t)4 << 20)

/* The header in front of the memory that is handed out. It aligns this memory to a cache line. */
struct buffer {
    alignas(LIPC_CACHE_LINE) size_t room; /* of the whole mapping */
};

static struct kept {
    struct buffer *buffer; /* must not be read: the kernel may have taken its pages */
    size_t room;
} kept[KEPT_MOST]; /* the last entry is the buffer that was given back last */
static size_t count, bytes;
static atomic_flag in_use = ATOMIC_FLAG_INIT;

static bool enter(void)
{
    return !atomic_flag_test_and_set_explicit(&in_use, memory_order_acquire); /* B1: pairs with B2 */
}

static void leave(void)
{
    atomic_flag_clear_explicit(&in_use, memory_order_release); /* B2: pairs with B1 */
}

/* Called between enter and leave. Takes a buffer out of the list. */
static struct kept take_out(size_t i)
{
    struct kept out = kept[i];
    bytes -= out.room;
    memmove(&kept[i], &kept[i + 1], (--count - i) * sizeof kept[0]);
    return out;
}

/* Returns a kept buffer of at least `room` bytes that is not far too large, or NULL if there is none. */
static struct buffer *reuse(size_t room)
{
    struct kept found = {0};
    if (!enter())
        return NULL;
    for (size_t i = count; i-- > 0 && !found.buffer;)
        if (kept[i].room >= room && kept[i].room / 2 <= room)
            found = take_out(i);
    leave();
    if (found.buffer)
        found.buffer->room = found.room;
    return found.buffer;
}

/* Makes a new buffer, which begins where a huge page may begin. */
static struct buffer *map(size_t room)
{
    char *mapped = mmap(NULL, room + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED)
        return NULL;
    size_t before = -(uintptr_t)mapped % HUGE_PAGE;
    if (before)
        (void)munmap(mapped, before);
    (void)munmap(mapped + before + room, HUGE_PAGE - before);
    struct buffer *buffer = (struct buffer *)(void *)(mapped + before);
    (void)madvise(buffer, room, MADV_HUGEPAGE); /* fails if the kernel has no huge pages */
    buffer->room = room;
    return buffer;
}

/* Called between enter and leave. Unmaps the oldest kept buffers until at most `most` buffers and `most_bytes` bytes
 * are left. */
static void shrink(size_t most, size_t most_bytes)
{
    while (count > most || bytes > most_bytes) {
        struct kept oldest = take_out(0);
        (void)munmap(oldest.buffer, oldest.room);
    }
}

void *lipc_buffer_take(size_t size)
{
    size_t room = (sizeof(struct buffer) + size + PAGE - 1) / PAGE * PAGE;
    struct buffer *buffer = reuse(room);
    if (!buffer)
        buffer = map(room);
    if (!buffer && enter()) { /* the kept buffers may be what uses up the memory */
        shrink(0, 0);
        leave();
        buffer = map(room);
    }
    return buffer ? buffer + 1 : NULL;
}

void lipc_join(const struct lipc_part *parts, size_t pieces, char *to)
{
    for (size_t i = 0; i < pieces; i++) {
        if (parts[i].size)
            memcpy(to, parts[i].data, parts[i].size);
        to += parts[i].size;
    }
}

void lipc_buffer_give(void *memory)
{
    struct buffer *buffer = (struct buffer *)memory - 1;
    size_t room = buffer->room; /* read first, because MADV_FREE may erase it */
    if (room > KEPT_BYTES || (room > FIRM && madvise(buffer, room, MADV_FREE) < 0) || !enter()) {
        (void)munmap(buffer, room);
        return;
    }
    shrink(KEPT_MOST - 1, KEPT_BYTES - room);
    kept[count++] = (struct kept){buffer, room};
    bytes += room;
    leave();
}
