/* SPDX-License-Identifier: MIT
 *
 * A segment in this process's memory.
 */
#ifndef LIPC_SEGMENT_H
#define LIPC_SEGMENT_H

#include "ring/layout.h"

#include <sys/types.h>
#include <unistd.h>

/* Older headers lack these names. An older kernel refuses the seals with an error. */
#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 1
#define F_SEAL_SHRINK 2
#define F_SEAL_GROW 4
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 16
#endif

/* The seals of a slab: nobody changes its size or writes to it, except by a mapping that was there before. */
#define LIPC_SLAB_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL)

/* Does not block. Returns the bytes of a page of this machine. */
static inline uint64_t lipc_page_size(void)
{
    return (uint64_t)sysconf(_SC_PAGESIZE);
}

struct lipc_mapping {
    struct lipc_segment *segment;
    char *rings[2];    /* each ring is mapped twice in a row */
    uint32_t capacity; /* of each ring; checked against the file's real size */
    size_t length;     /* of the whole mapping, which begins at `segment` */
};

/* Called by lipc_endpoint_open, on either side. Does not block. Maps a segment and checks it. Returns 0; -EPROTO if
 * `fd` is not a segment of this version, or could shrink while it is in use; or another -errno. A forked child does not
 * inherit the mapping. */
int lipc_segment_map(int fd, struct lipc_mapping *mapping);

/* Called by main. Does not block. Returns the close-on-exec descriptor of an empty memfd that can be sealed, or
 * -errno. */
int lipc_memfd_open(void);

/* Called by main. Does not block. Allocates all pages of a file of `size` bytes now. Returns 0 or -errno. */
int lipc_reserve(int fd, off_t size);

/* Called by either side. Does not block. Unmaps all of a segment. */
void lipc_segment_unmap(const struct lipc_mapping *mapping);

#endif
