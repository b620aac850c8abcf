/* SPDX-License-Identifier: MIT
 *
 * The slabs that a renderer has mapped, and how it returns what it holds.
 */
#ifndef LIPC_MAPPED_SLABS_H
#define LIPC_MAPPED_SLABS_H

#include "ring/layout.h"
#include "lensipc.h"

struct lipc_mapped_slab {
    char *memory; /* read-only */
    uint64_t size;
    uint32_t number;
};

/* Called by lipc_slab_receive, and by the tests. Does not block. Maps a slab, and returns the hold of its offer. `fd` may be closed afterwards.
 * Returns 0, -EPROTO if `fd` is no slab, or another -errno. */
int lipc_slab_map(struct lipc_endpoint *endpoint, uint32_t number, int fd, uint64_t hold);

/* Called by receive.c in a renderer. Does not block. Returns where a body lies, or NULL if there is no such slab or the
 * body would not be within it. */
const char *lipc_place_memory(const struct lipc_endpoint *endpoint, const struct lipc_place *place);

/* Called by receive.c in a renderer. Does not block. Tells main that a hold has ended. The caller then wakes main if it
 * is parked for space. Returns 0, or -EBADMSG if main has broken the ring of returns. */
int lipc_return_hold(struct lipc_endpoint *endpoint, uint64_t hold);

/* Called by lipc_endpoint_close. Does not block. Unmaps all slabs. */
void lipc_unmap_slabs(struct lipc_endpoint *endpoint);

#endif
