/* SPDX-License-Identifier: MIT
 *
 * One side's view of a one-way ring of frames. It has one producer and one consumer, each with a view of its own;
 * claim and commit are the producer's, peek, take and release the consumer's. No call blocks, none makes a system
 * call. The peer may write anything to the ring and to its position at any time: what cannot be is -EBADMSG.
 */
#ifndef LIPC_RING_H
#define LIPC_RING_H

#include "ring/layout.h"

struct lipc_ring {
    struct lipc_positions *shared;
    char *data; /* `capacity` bytes, mapped twice back to back, so that every frame is contiguous */
    uint64_t capacity;
    uint64_t write_pos; /* the producer's own and authoritative; the consumer's is the last that it accepted */
    uint64_t read_pos;  /* the mirror of it */
};

/* Bytes that a frame with `size` bytes of a body takes in a ring. */
static inline uint64_t lipc_frame_bytes(uint64_t size)
{
    return (sizeof(struct lipc_frame) + size + (LIPC_FRAME_ALIGN - 1)) & ~(uint64_t)(LIPC_FRAME_ALIGN - 1);
}

/* Most bytes of a body in one frame. A quarter of the ring lets the two sides work on it at the same time. */
static inline uint32_t lipc_ring_frame_max(const struct lipc_ring *ring)
{
    return (uint32_t)(ring->capacity / 4 - sizeof(struct lipc_frame));
}

/* Either side, once, over a segment that nobody has used in this side's role: both positions begin at 0 and are
 * not read from the shared memory. `capacity` is a power of two. */
void lipc_ring_init(struct lipc_ring *ring, struct lipc_positions *shared, char *data, uint32_t capacity);

/* Producer. Free bytes; looks at the consumer's position only where fewer than `enough` are known to be free. */
int64_t lipc_ring_room(struct lipc_ring *ring, uint64_t enough);

/* Producer. 1 with *bytes_at pointing to `bytes` writable bytes, 0 when there is no room. Nothing is reserved by it: a claim
 * that is not committed never was. */
int lipc_ring_claim(struct lipc_ring *ring, uint64_t bytes, char **bytes_at);

/* Producer. Publishes the first `bytes` of what was claimed: whole frames only. */
void lipc_ring_commit(struct lipc_ring *ring, uint64_t bytes);

/* Consumer. 1 when there is a frame, 0 when there is none. */
int lipc_ring_readable(struct lipc_ring *ring);

/* Consumer. 1 with the next frame's header copied to *frame and checked, and *body pointing to its bytes in the ring
 * (which may change under the reader: copy them out once); 0 when there is none. */
int lipc_ring_peek(struct lipc_ring *ring, struct lipc_frame *frame, const char **body);

/* Consumer. Steps over the frame that peek gave; its bytes stay valid until the release. */
void lipc_ring_take(struct lipc_ring *ring, const struct lipc_frame *frame);

/* Consumer. Gives the bytes of all frames taken back to the producer. */
void lipc_ring_release(struct lipc_ring *ring);

#endif
