/* SPDX-License-Identifier: MIT
 *
 * Shared memory for large events. Main writes it, and renderers read it in their own time. A slab is one memfd, cut into
 * blocks. A block holds the body of one event, for all subscribers that read it there. The slabs of one `lipc_slabs`
 * belong to one extension, or to one renderer: whoever maps a slab can read all that was ever written there.
 *
 * All of this is private to main, except the slabs' memory. It belongs to one thread, except that any thread may drop
 * its reference to a `lipc_slabs`, or a loan: a block in which main itself writes an array. Main is one holder of that
 * block, also when it has sent the array: until nothing in main can reach the memory any more. So whatever user code has
 * kept never shows another message.
 */
#ifndef LIPC_SLABS_H
#define LIPC_SLABS_H

#include "lensipc.h"

#include <stdatomic.h>
#include <stdbool.h>

/* A run of pages of a slab. Free neighbours are one block. */
struct lipc_block {
    struct lipc_block *before, *after; /* the neighbours in the slab */
    struct lipc_slab *slab;
    uint64_t offset, size; /* whole pages */
    uint64_t since;        /* lipc_clock when it was taken, or, of a loan, last sent */
    uint32_t holders;      /* 0: the block is free */
    bool lent;             /* main has it on loan */
};

struct lipc_loan {
    struct lipc_loan *next; /* of those that were dropped */
    struct lipc_block *block;
    uint64_t size; /* of the array */
};

struct lipc_slab {
    struct lipc_slab *next;
    struct lipc_slabs *owner;
    struct lipc_block *first;
    char *memory;
    struct lipc_slab_state state;
    uint32_t number;
    int fd;     /* -1: closed */
    bool forks; /* there was a loan: a forked child inherits the mapping, until lipc_slabs_disown */
};

struct lipc_slabs {
    struct lipc_slab *first;
    uint64_t most;       /* bytes of the largest body that goes into a block */
    uint64_t wanted;     /* bytes of the largest body for which there was no room lately */
    atomic_size_t users; /* references: the owner, the topics, and blocks that are held */
    _Atomic(struct lipc_loan *) dropped; /* loans that were dropped: main ends them when it needs room */
    bool closed;                         /* main does not look there any more: who drops a loan ends it */
    bool disowned;                       /* this is a fork of main */
};

/* Called by topic.c, in any thread. Does not block. Adds a reference. NULL is allowed. */
void lipc_slabs_retain(struct lipc_slabs *slabs);

/* Called by topic.c and slabs.c, in any thread. Does not block. Drops a reference. The last one frees the slabs. NULL is
 * allowed. */
void lipc_slabs_release(struct lipc_slabs *slabs);

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

/* Called by python/loan.c, in main. Does not block. Lends main a block for an array of `size` bytes. Returns NULL if the
 * array is larger than a body in these slabs may be, if no slab has room for it and what comes before it in a message, or
 * if there is no memory. */
struct lipc_loan *lipc_loan_take(struct lipc_slabs *slabs, uint64_t size);

/* Called by python/loan.c and topic.c. Does not block. Returns the array's memory. It is not cleared. */
char *lipc_loan_memory(const struct lipc_loan *loan);

/* Called by python/loan.c, once, with the GIL, in any thread, when nothing in this process can reach the array's memory any
 * more. Does not block. Main looks at what was dropped when it next needs room. In a fork this does nothing. */
void lipc_loan_drop(struct lipc_loan *loan);

/* Called by python/loan.c, in main, with the GIL, when main sends nothing more and no renderer holds anything. Does not
 * block. Unmaps the slabs without loans, and closes the descriptors of all. Each other slab is unmapped when its last loan
 * is dropped. */
void lipc_slabs_close(struct lipc_slabs *slabs);

#endif
