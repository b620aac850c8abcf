/* SPDX-License-Identifier: MIT
 *
 * A segment in this process's memory.
 */
#ifndef LIPC_SEGMENT_H
#define LIPC_SEGMENT_H

#include "ring/layout.h"

struct lipc_mapping {
    struct lipc_segment *segment;
    char *rings[2];    /* each mapped twice back to back */
    uint32_t capacity; /* of each ring; checked against the file's real size */
    size_t length;     /* of the whole mapping, which begins at `segment` */
};

/* Either side. Maps a segment and checks it: 0, -EPROTO when `fd` is no segment of this version or could shrink under
 * its users, or another -errno. A forked child does not inherit the mapping. */
int lipc_segment_map(int fd, struct lipc_mapping *mapping);

void lipc_segment_unmap(const struct lipc_mapping *mapping);

#endif
