/* SPDX-License-Identifier: MIT
 *
 * Slabs and their blocks.
 *
 * A slab is mapped writable here first, and then sealed. From then on nobody can map it writable, write to it by a
 * descriptor, or change its size. All its pages are reserved when it is made: so neither main nor a renderer can get
 * SIGBUS there, and a lack of memory is an error of lipc_slab_add alone. The seals also keep main from giving single
 * pages back. So memory goes back to the kernel by the slab: once every process has unmapped it.
 *
 * The first block with room is taken. So blocks at the front are used again soonest, while they are in the cache.
 *
 *   label  access                     pairs with  what it orders
 *   S1     subtract  release, acquire S1          all other users' accesses come before the last user frees the slabs
 *   S2     push      release          S3          the loan, and all accesses to its memory, come before main ends it
 *   S3     take      acquire          S2
 */
#define _GNU_SOURCE /* for MAP_POPULATE, MADV_DONTFORK, F_ADD_SEALS, F_SETLEASE */

#include "endpoint/slabs.h"

#include "ring/segment.h"
#include "ring/wakeup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct lipc_slabs *lipc_slabs_create(uint64_t most)
{
    struct lipc_slabs *slabs = calloc(1, sizeof *slabs);
    if (!slabs)
        return NULL;
    slabs->most = most;
    atomic_init(&slabs->users, 1);
    atomic_init(&slabs->dropped, NULL);
    return slabs;
}

static void free_slab(struct lipc_slab *slab)
{
    while (slab->first) {
        struct lipc_block *block = slab->first;
        slab->first = block->after;
        free(block);
    }
    (void)munmap(slab->memory, slab->state.size);
    if (slab->fd >= 0)
        (void)close(slab->fd);
    free(slab);
}

void lipc_slabs_retain(struct lipc_slabs *slabs)
{
    if (slabs)
        atomic_fetch_add_explicit(&slabs->users, 1, memory_order_relaxed); /* relaxed: the caller is or has a user */
}

void lipc_slabs_release(struct lipc_slabs *slabs)
{
    /* S1 release, acquire: pairs with S1. */
    if (!slabs || atomic_fetch_sub_explicit(&slabs->users, 1, memory_order_acq_rel) != 1)
        return;
    while (slabs->first) {
        struct lipc_slab *slab = slabs->first;
        slabs->first = slab->next;
        free_slab(slab);
    }
    free(slabs);
}

/* Opens the file of a descriptor once more, and closes the descriptor. The kernel counts for leases who has opened a file,
 * but not who has made it. Returns the new descriptor or -errno. */
static int open_again(int fd)
{
    char path[32];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    int error = again < 0 ? -errno : 0;
    (void)close(fd);
    return error ? error : again;
}

/* Makes a file of `size` bytes, maps it at *memory, and seals it. Returns its descriptor or -errno. */
static int make_file(uint64_t size, char **memory)
{
    int fd = lipc_memfd_open();
    if (fd < 0)
        return fd;
    int error = ftruncate(fd, (off_t)size) < 0 ? -errno : lipc_reserve(fd, (off_t)size);
    void *mapped = error ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (!error && mapped == MAP_FAILED)
        error = -errno;
    if (!error && (madvise(mapped, size, MADV_DONTFORK) < 0 || fcntl(fd, F_ADD_SEALS, LIPC_SLAB_SEALS) < 0))
        error = -errno;
    int opened = error ? error : open_again(fd);
    if (error)
        (void)close(fd);
    if (opened < 0) {
        if (mapped != MAP_FAILED)
            (void)munmap(mapped, size);
        return opened;
    }
    *memory = mapped;
    return opened;
}

int lipc_slab_add(struct lipc_slabs *slabs, uint32_t number, uint64_t size)
{
    if (size == 0 || size % lipc_page_size() || size > INT64_MAX / 2)
        return -EINVAL;
    struct lipc_slab *slab = calloc(1, sizeof *slab);
    struct lipc_block *whole = calloc(1, sizeof *whole);
    int fd = slab && whole ? make_file(size, &slab->memory) : -ENOMEM;
    if (fd < 0) {
        free(slab);
        free(whole);
        return fd;
    }
    whole->slab = slab;
    whole->size = slab->state.size = size;
    slab->first = whole;
    slab->number = number;
    slab->fd = fd;
    slab->owner = slabs;
    struct lipc_slab **last = &slabs->first;
    while (*last)
        last = &(*last)->next;
    *last = slab;
    slabs->wanted = 0;
    return 0;
}

/* Returns what points to the slab of that number, or to NULL. */
static struct lipc_slab **find(struct lipc_slabs *slabs, uint32_t number)
{
    struct lipc_slab **at = &slabs->first;
    while (*at && (*at)->number != number)
        at = &(*at)->next;
    return at;
}

/* Main has this loan no more. */
static void end_loan(struct lipc_loan *loan)
{
    loan->block->lent = false;
    lipc_block_give(loan->block);
    free(loan);
}

/* Ends the loans that were dropped. The caller has a reference. */
static void end_dropped(struct lipc_slabs *slabs)
{
    if (!atomic_load_explicit(&slabs->dropped, memory_order_relaxed)) /* relaxed: if there is one now, it ends later */
        return;
    /* S3 acquire: pairs with S2. */
    struct lipc_loan *loan = atomic_exchange_explicit(&slabs->dropped, NULL, memory_order_acquire);
    while (loan) {
        struct lipc_loan *next = loan->next;
        end_loan(loan);
        loan = next;
    }
}

void lipc_slabs_free(struct lipc_slabs *slabs)
{
    if (slabs) {
        end_dropped(slabs);
        lipc_slabs_release(slabs);
    }
}

int lipc_slab_remove(struct lipc_slabs *slabs, uint32_t number)
{
    end_dropped(slabs);
    struct lipc_slab **at = find(slabs, number), *slab = *at;
    if (!slab)
        return -EINVAL;
    if (slab->state.taken)
        return -EBUSY;
    *at = slab->next;
    free_slab(slab);
    return 0;
}

int lipc_slab_look(struct lipc_slabs *slabs, uint32_t number, struct lipc_slab_state *state)
{
    end_dropped(slabs);
    const struct lipc_slab *slab = *find(slabs, number);
    if (!slab)
        return -EINVAL;
    *state = slab->state;
    uint64_t now = lipc_clock();
    for (const struct lipc_block *block = slab->first; block; block = block->after)
        if (block->lent) {
            state->loans++;
            state->lent += block->size;
            if (now - block->since > state->oldest)
                state->oldest = now - block->since;
        }
    return 0;
}

int lipc_slab_fd(struct lipc_slabs *slabs, uint32_t number)
{
    const struct lipc_slab *slab = *find(slabs, number);
    return slab ? slab->fd : -1;
}

int lipc_slab_is_had(struct lipc_slabs *slabs, uint32_t number)
{
    int fd = lipc_slab_fd(slabs, number);
    /* If somebody opens the file just now, the kernel sends a signal. SIGIO would end this process. */
    if (fcntl(fd, F_SETSIG, SIGURG) < 0 || fcntl(fd, F_SETLEASE, F_WRLCK) < 0)
        return 1;
    return fcntl(fd, F_SETLEASE, F_UNLCK) < 0;
}

static void close_files(struct lipc_slabs *slabs)
{
    for (struct lipc_slab *slab = slabs->first; slab; slab = slab->next) {
        if (slab->fd >= 0)
            (void)close(slab->fd);
        slab->fd = -1;
    }
}

/* Unmaps the slabs that nobody holds a block of. */
static void remove_unused(struct lipc_slabs *slabs)
{
    for (struct lipc_slab *slab = slabs->first, *next; slab; slab = next) {
        next = slab->next;
        if (!slab->state.taken)
            (void)lipc_slab_remove(slabs, slab->number);
    }
}

void lipc_slabs_close(struct lipc_slabs *slabs)
{
    end_dropped(slabs);
    slabs->closed = true;
    remove_unused(slabs);
    close_files(slabs);
}

void lipc_slabs_disown(struct lipc_slabs *slabs)
{
    slabs->disowned = true;
    close_files(slabs);
    for (const struct lipc_slab *slab = slabs->first; slab; slab = slab->next)
        if (slab->forks)
            (void)mmap(slab->memory, slab->state.size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

uint64_t lipc_slabs_wanted(struct lipc_slabs *slabs)
{
    uint64_t wanted = slabs->wanted;
    slabs->wanted = 0;
    return wanted;
}

/* Makes what is left of a block behind `size` bytes a block of its own. Without memory for that, the block stays as large
 * as it is. */
static void cut(struct lipc_block *block, uint64_t size)
{
    struct lipc_block *rest = block->size > size ? malloc(sizeof *rest) : NULL;
    if (!rest)
        return;
    *rest = (struct lipc_block){.before = block,
                                .after = block->after,
                                .slab = block->slab,
                                .offset = block->offset + size,
                                .size = block->size - size};
    if (rest->after)
        rest->after->before = rest;
    block->after = rest;
    block->size = size;
}

struct lipc_block *lipc_block_take(struct lipc_slabs *slabs, uint64_t size)
{
    /* Blocks share no page: a reader that drops the copies of its pages (views.c) drops those of this block alone. */
    uint64_t page = lipc_page_size(), room = (size + page - 1) / page * page;
    end_dropped(slabs);
    for (struct lipc_slab *slab = slabs->first; slab; slab = slab->next) {
        if (slab->state.size - slab->state.taken < room)
            continue;
        for (struct lipc_block *block = slab->first; block; block = block->after) {
            if (block->holders || block->size < room)
                continue;
            cut(block, room);
            block->holders = 1;
            block->since = lipc_clock();
            slab->state.taken += block->size;
            slab->state.blocks++;
            slab->state.uses++;
            lipc_slabs_retain(slabs);
            return block;
        }
    }
    return NULL;
}

uint64_t lipc_block_size(const struct lipc_slabs *slabs, const struct lipc_part *parts, size_t count)
{
    uint64_t size = 0;
    for (size_t i = 0; i < count && size <= slabs->most; i++)
        size = parts[i].size <= slabs->most ? size + parts[i].size : UINT64_MAX;
    return size >= LIPC_BLOCK_LEAST && size <= slabs->most ? size : 0;
}

/* Makes one block of a free block and the free block behind it. */
static void join(struct lipc_block *block)
{
    struct lipc_block *after = block->after;
    block->size += after->size;
    block->after = after->after;
    if (block->after)
        block->after->before = block;
    free(after);
}

void lipc_block_give(struct lipc_block *block)
{
    if (--block->holders)
        return;
    struct lipc_slabs *slabs = block->slab->owner;
    block->slab->state.taken -= block->size;
    block->slab->state.blocks--;
    if (block->after && !block->after->holders)
        join(block);
    if (block->before && !block->before->holders)
        join(block->before);
    lipc_slabs_release(slabs);
}

struct lipc_loan *lipc_loan_take(struct lipc_slabs *slabs, uint64_t size)
{
    struct lipc_loan *loan = size <= slabs->most ? malloc(sizeof *loan) : NULL;
    struct lipc_block *block = loan ? lipc_block_take(slabs, LIPC_LOAN_HEAD + size) : NULL;
    if (!block) {
        free(loan);
        return NULL;
    }
    struct lipc_slab *slab = block->slab;
    if (!slab->forks)
        slab->forks = madvise(slab->memory, slab->state.size, MADV_DOFORK) == 0;
    if (!slab->forks) {
        lipc_block_give(block);
        free(loan);
        return NULL;
    }
    block->lent = true;
    *loan = (struct lipc_loan){.block = block, .size = size};
    return loan;
}

char *lipc_loan_memory(const struct lipc_loan *loan)
{
    return loan->block->slab->memory + loan->block->offset + LIPC_LOAN_HEAD;
}

void lipc_loan_drop(struct lipc_loan *loan)
{
    struct lipc_slabs *slabs = loan->block->slab->owner; /* the block, and the caller, have references to them */
    if (slabs->disowned)
        return;
    if (slabs->closed) { /* with the GIL, so one at a time */
        end_loan(loan);
        remove_unused(slabs);
        return;
    }
    loan->next = atomic_load_explicit(&slabs->dropped, memory_order_relaxed); /* relaxed: only compared */
    /* S2 release: pairs with S3. */
    while (!atomic_compare_exchange_weak_explicit(&slabs->dropped, &loan->next, loan, memory_order_release,
                                                  memory_order_relaxed)) /* relaxed: only compared */
        ;
}
