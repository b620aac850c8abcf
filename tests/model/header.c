/* SPDX-License-Identifier: MIT
 *
 * A segment is made by one thread while the other looks whether it is one; and closed by one, which then writes a block
 * anew, while the other reads the block.
 */

#include "shim.h"

#include "../../csrc/ring/layout.h"

static struct lipc_segment made;

/* The magic comes last: what was stored before it is all of the header. */
static void *the_segment(const void *at, int fd)
{
    static struct lipc_segment *volatile where = &made; /* so that no compiler sees how small it is */
    (void)at;
    (void)fd;
    model_touch(where, sizeof made, true);
    return where;
}

#define mmap(at, size, protection, flags, fd, offset) ((void)(size), (void)(offset), the_segment(at, fd))
#define munmap(at, size) ((void)(at), 0)
#undef syscall /* not reached here */
#include "../../csrc/ring/segment.c"

static void set_up(void)
{
    memset(&made, 0, sizeof made);
    model_atomic(&made.magic, 0);
    model_memory((char *)&made, 320);
}

static void make(void)
{
    HOLDS(initialise(-1, LIPC_CAPACITY_MIN) == 0);
}

static void look(void)
{
    if (is_valid(&made, LIPC_CAPACITY_MIN))
        model_touch(&made, sizeof made, false); /* as is_valid itself has just done */
}

const struct scenario header_scenario = {"a segment is made", {make, look}, set_up, 0, false};

/* The bytes of a block are atomic here, because they may be read while they are written. */
static _Atomic uint32_t block;

static void set_up_open(void)
{
    model_atomic(&made.closed, 0);
    model_atomic(&block, 0);
}

static void close_and_write(void)
{
    lipc_segment_close(&made);
    atomic_store_explicit(&block, 1, memory_order_relaxed);
}

static void read_block(void)
{
    bool nothing_new_was_read = atomic_load_explicit(&block, memory_order_relaxed) == 0;
    if (!lipc_segment_is_closed(&made))
        HOLDS(nothing_new_was_read);
}

const struct scenario closed_scenario = {"a segment is closed", {close_and_write, read_block}, set_up_open, 0, false};
