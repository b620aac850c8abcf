/* SPDX-License-Identifier: MIT
 *
 * The slabs that a renderer has mapped, and how it returns what it holds.
 */
#ifndef LIPC_MAPPED_SLABS_H
#define LIPC_MAPPED_SLABS_H

#include "ring/layout.h"
#include "lensipc.h"

#include <stdbool.h>

struct lipc_mapped_slab {
    char *memory; /* a private mapping: what is written there is seen in this process only */
    uint64_t size;
    atomic_size_t users; /* references: the endpoint, and each view */
    uint32_t number;
    bool writable;   /* something was read in place, so pages may have private copies */
    uint64_t *clean; /* of each page: the faults that this process had had when the page was found clean; may be NULL */
};

/* Called by lipc_slab_receive, and by the tests. Does not block. Maps a slab, and returns the hold of its offer. `fd` may
 * be closed afterwards. Returns 0, -EPROTO if `fd` is no slab, or another -errno. */
int lipc_slab_map(struct lipc_endpoint *endpoint, uint32_t number, int fd, uint64_t hold);

/* Called by receive.c in a renderer. Does not block. Returns the slab where a body lies, or NULL if there is no such slab
 * or the body would not be within it. */
struct lipc_mapped_slab *lipc_slab_of(const struct lipc_endpoint *endpoint, const struct lipc_place *place);

/* Called by views.c, in any thread. Does not block. Adds a reference. */
void lipc_mapped_slab_retain(struct lipc_mapped_slab *slab);

/* Called by mapped_slabs.c and views.c, in any thread. Does not block. Removes a reference. With the last one the slab is
 * unmapped. */
void lipc_mapped_slab_release(struct lipc_mapped_slab *slab);

/* Called by receive.c and views.c in a renderer. Does not block. Tells main of a hold: LIPC_RETURN or LIPC_VIEWED. Another
 * thread must not do so meanwhile. The caller then wakes main if it is parked for space. Returns 0, or -EBADMSG if main
 * has broken the ring of returns. */
int lipc_tell_hold(struct lipc_endpoint *endpoint, uint64_t hold, uint16_t what);

/* Called by lipc_endpoint_close. Does not block. Drops all slabs. */
void lipc_unmap_slabs(struct lipc_endpoint *endpoint);

#endif
