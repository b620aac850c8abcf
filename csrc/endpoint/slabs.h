/* SPDX-License-Identifier: MIT
 *
 * Shared memory for large events. Main writes it, and renderers read it in their own time. A slab is one memfd, cut into
 * blocks. A block holds the body of one event, for all subscribers that read it there. The slabs of one `lipc_slabs`
 * belong to one extension, or to one renderer: whoever maps a slab can read all that was ever written there.
 *
 * All of this is private to main, except the slabs' memory. It belongs to one thread, except that any thread may drop
 * its reference to a `lipc_slabs`.
 */
#ifndef LIPC_SLABS_H
#define LIPC_SLABS_H

#include "lensipc.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A body of at least this many bytes may go into a block. Below, it is quicker through the rings. */
#define LIPC_BLOCK_LEAST 65536

/* A run of pages of a slab. Free neighbours are one block. */
struct lipc_block {
    struct lipc_block *before, *after; /* the neighbours in the slab */
    struct lipc_slab *slab;
    uint64_t offset, size; /* whole pages */
    uint32_t holders;      /* 0: the block is free */
};

struct lipc_slab {
    struct lipc_slab *next;
    struct lipc_slabs *owner;
    struct lipc_block *first;
    char *memory;
    struct lipc_slab_state state;
    uint32_t number;
    int fd; /* -1: closed */
};

struct lipc_slabs {
    struct lipc_slab *first;
    uint64_t most;       /* bytes of the largest body that goes into a block */
    uint64_t wanted;     /* bytes of the largest body for which there was no room lately */
    atomic_size_t users; /* references: the owner, the topics, and blocks that are held */
};

/* Called by topic.c, in any thread. Does not block. Adds a reference. NULL is allowed. */
void lipc_slabs_retain(struct lipc_slabs *slabs);

/* Called by topic.c and send.c. Does not block. Returns a block of at least `size` bytes with the caller as its one holder,
 * or NULL if no slab has that much room in one piece. */
struct lipc_block *lipc_block_take(struct lipc_slabs *slabs, uint64_t size);

/* Called by topic.c and send.c. Does not block. Returns the size of a body that may go into a block of these slabs, or 0. */
uint64_t lipc_block_size(const struct lipc_slabs *slabs, const struct lipc_part *parts, size_t count);

/* Called by topic.c and send.c. Does not block. Returns where a block's bytes are. */
static inline char *lipc_block_memory(const struct lipc_block *block)
{
    return block->slab->memory + block->offset;
}

/* Called by each holder. Does not block. Removes one holder. Without holders the block is free. */
void lipc_block_give(struct lipc_block *block);

#endif
