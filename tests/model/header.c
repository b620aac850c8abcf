/* SPDX-License-Identifier: MIT
 *
 * A segment is made by one thread while the other looks whether it is one.
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
