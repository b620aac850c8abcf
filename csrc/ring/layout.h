/* SPDX-License-Identifier: MIT
 *
 * The bytes of a segment. All fields have a fixed width. There are offsets and no pointers. Any change here raises
 * LIPC_VERSION.
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
#define LIPC_DATA_OFFSET 65536 /* the largest page size in use: any machine can map the rings apart from the header */
#define LIPC_CAPACITY_MIN (UINT32_C(1) << 16)
#define LIPC_CAPACITY_MAX (UINT32_C(1) << 30)
#define LIPC_FRAME_ALIGN 8
/* Bytes that a message's body may claim, so that sizes can be added and rounded without overflow. What a receiver accepts
 * is far less: endpoint.py: _admit checks it. */
#define LIPC_TOTAL_MAX (UINT64_MAX / 4)

/* Bits of lipc_frame.flags. */
#define LIPC_FRAME_MORE 1      /* another frame of the same message follows */
#define LIPC_FRAME_CONTINUED 2 /* this is not the first frame of its message */
#define LIPC_FRAME_BLOCK 4     /* the body lies in a block: the frame has a lipc_place. Only main sends this. */

/* The header in front of every frame's bytes. A frame takes sizeof(struct lipc_frame) + size bytes, rounded up to 8. */
struct lipc_frame {
    uint64_t total; /* bytes of the message's whole body; the same in each frame of the message */
    uint64_t correlation;
    uint32_t size; /* bytes of the body in this frame */
    uint32_t channel;
    uint32_t detail;
    uint32_t pid;
    uint16_t kind; /* never 0, so that zeroed memory is never a valid frame */
    uint16_t flags;
    uint32_t reserved; /* always 0 */
};

/* Where a body lies that is in a block of a slab: what a frame with LIPC_FRAME_BLOCK has for its bytes. */
struct lipc_place {
    uint64_t hold; /* what the renderer returns when it has read the body */
    uint64_t offset;
    uint64_t size;
    uint32_t slab;
    uint32_t reserved; /* always 0 */
};

/* The ring of returns: a renderer names there the holds that it gives back, and before that those of which it only has
 * views any more. All its frames have the same size, of which the capacity is a multiple: so no frame goes past the end,
 * and this ring need not be mapped twice. It has room for both of each hold that a renderer can have. */
#define LIPC_HOLDS 256
#define LIPC_RETURN_BYTES 64
#define LIPC_RETURNS 32768
#define LIPC_RETURN 1 /* lipc_frame.kind: the hold ends */
#define LIPC_VIEWED 2 /* the event is heard, and views of the block live on */

/* The two positions of a ring. Each is a free-running count of bytes, on a cache line of its own. */
struct lipc_positions {
    alignas(LIPC_CACHE_LINE) _Atomic uint64_t write_pos; /* only the producer writes this */
    alignas(LIPC_CACHE_LINE) _Atomic uint64_t read_pos;  /* only the consumer writes this */
};

/* What one side sleeps on. lipc_segment.sleepers has one for each side, indexed by the side that sleeps. */
struct lipc_sleeper {
    alignas(LIPC_CACHE_LINE) _Atomic uint32_t parked; /* LIPC_PARKED_* bits */
    _Atomic uint32_t posted; /* the semaphore: the number of signals not yet taken */
};

#define LIPC_PARKED_FOR_DATA 1  /* the peer must wake this side when it publishes a frame */
#define LIPC_PARKED_FOR_SPACE 2 /* the peer must wake this side when it has read frames */

struct lipc_segment {
    _Atomic uint64_t magic; /* stored last, when the rest is complete */
    uint32_t version;
    uint32_t capacity;
    struct lipc_positions rings[2]; /* indexed by the side that writes */
    struct lipc_sleeper sleepers[2];
    struct lipc_positions returns;
    alignas(LIPC_CACHE_LINE) char returned[LIPC_RETURNS];
};

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2, "positions must be lock-free");
_Static_assert(sizeof(size_t) == 8, "lensipc is for 64-bit machines");
_Static_assert(sizeof(struct lipc_frame) == 40 && offsetof(struct lipc_frame, size) == 16 &&
                   offsetof(struct lipc_frame, kind) == 32,
               "frame layout");
_Static_assert(sizeof(struct lipc_place) == 32, "place layout");
_Static_assert(LIPC_RETURNS == 2 * LIPC_HOLDS * LIPC_RETURN_BYTES && sizeof(struct lipc_frame) <= LIPC_RETURN_BYTES,
               "room for returns");
_Static_assert(sizeof(struct lipc_positions) == 128 && offsetof(struct lipc_positions, read_pos) == 64, "ring layout");
_Static_assert(sizeof(struct lipc_sleeper) == 64, "sleeper layout");
_Static_assert(offsetof(struct lipc_segment, rings) == 64 && offsetof(struct lipc_segment, sleepers) == 320 &&
                   offsetof(struct lipc_segment, returns) == 448 && offsetof(struct lipc_segment, returned) == 576 &&
                   sizeof(struct lipc_segment) <= LIPC_DATA_OFFSET,
               "segment layout");

#endif
