/* SPDX-License-Identifier: MIT
 *
 * The bytes of a segment. Fixed-width fields, offsets and never pointers. Any change here raises LIPC_VERSION.
 *
 *   0                 struct lipc_segment, padded to LIPC_DATA_OFFSET
 *   LIPC_DATA_OFFSET  ring 0: `capacity` bytes that main writes and the renderer reads
 *   + capacity        ring 1: `capacity` bytes that the renderer writes and main reads
 */
#ifndef LIPC_LAYOUT_H
#define LIPC_LAYOUT_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define LIPC_SEGMENT_MAGIC UINT64_C(0x31637069736e656c) /* "lensipc1" */
#define LIPC_CACHE_LINE 64
#define LIPC_DATA_OFFSET 65536 /* the largest page in use: the rings are mapped apart from the header anywhere */
#define LIPC_CAPACITY_MIN (UINT32_C(1) << 16)
#define LIPC_CAPACITY_MAX (UINT32_C(1) << 30)
#define LIPC_FRAME_ALIGN 8
#define LIPC_TOTAL_MAX (UINT64_MAX / 4) /* of a message's body; leaves room to add and round without overflow */

/* lipc_frame.flags */
#define LIPC_FRAME_MORE 1      /* another frame of the same message follows */
#define LIPC_FRAME_CONTINUED 2 /* not the first frame of its message */

/* Precedes every frame's bytes. A frame takes sizeof(struct lipc_frame) + size bytes, rounded up to 8. */
struct lipc_frame {
    uint64_t total; /* bytes of the message's body, all frames together; the same in each of them */
    uint64_t correlation;
    uint32_t size; /* bytes of the body in this frame */
    uint32_t channel;
    uint32_t peer;
    uint32_t pid;
    uint16_t kind; /* never 0, so that memory turned to zeros is no frame */
    uint16_t flags;
    uint32_t reserved; /* 0 */
};

/* The two positions of a ring: free-running counts of bytes, each on its own cache line. */
struct lipc_positions {
    alignas(LIPC_CACHE_LINE) _Atomic uint64_t write_pos; /* only the producer writes it */
    alignas(LIPC_CACHE_LINE) _Atomic uint64_t read_pos;  /* only the consumer writes it */
};

/* What one side sleeps on. Index in lipc_segment.sleepers: the side that sleeps. */
struct lipc_sleeper {
    alignas(LIPC_CACHE_LINE) _Atomic uint32_t parked; /* LIPC_PARKED_* */
    _Atomic uint32_t posted; /* the semaphore: signals that have not been taken */
};

#define LIPC_PARKED_FOR_DATA 1  /* wake me when you publish a frame */
#define LIPC_PARKED_FOR_SPACE 2 /* wake me when you have read some */

struct lipc_segment {
    _Atomic uint64_t magic; /* stored last */
    uint32_t version;
    uint32_t capacity;
    struct lipc_positions rings[2]; /* index: the side that writes */
    struct lipc_sleeper sleepers[2];
};

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "positions must be lock-free");
_Static_assert(sizeof(size_t) == 8, "lensipc is for 64-bit machines");
_Static_assert(sizeof(struct lipc_frame) == 40 && offsetof(struct lipc_frame, size) == 16 &&
                   offsetof(struct lipc_frame, kind) == 32,
               "frame layout");
_Static_assert(sizeof(struct lipc_positions) == 128 && offsetof(struct lipc_positions, read_pos) == 64, "ring layout");
_Static_assert(sizeof(struct lipc_sleeper) == 64, "sleeper layout");
_Static_assert(offsetof(struct lipc_segment, rings) == 64 && offsetof(struct lipc_segment, sleepers) == 320 &&
                   sizeof(struct lipc_segment) <= LIPC_DATA_OFFSET,
               "segment layout");

#endif
