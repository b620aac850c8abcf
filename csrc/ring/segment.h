/* SPDX-License-Identifier: MIT
 *
 * A segment in this process's memory.
 */
#ifndef LIPC_SEGMENT_H
#define LIPC_SEGMENT_H

#include "ring/layout.h"

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

/* Called by either side. Does not block. Unmaps all of a segment. */
void lipc_segment_unmap(const struct lipc_mapping *mapping);

#endif
