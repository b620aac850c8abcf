/* SPDX-License-Identifier: MIT
 *
 * One side's view of a one-way ring of frames. A ring has one producer and one consumer, and each has its own view. The
 * producer calls claim and commit. The consumer calls peek, take and release. No function here makes a system call. The
 * peer may write anything to the ring and to the peer's own position at any time. A function that finds an impossible
 * value returns -EBADMSG.
 */
#ifndef LIPC_RING_H
#define LIPC_RING_H

#include "ring/layout.h"

#include <stdbool.h>

struct lipc_ring {
    struct lipc_positions *shared;
    char *data; /* `capacity` bytes, mapped twice in a row, so that every frame is contiguous */
    uint64_t capacity;
    /* In the producer this is the true position. In the consumer it is the last position that the consumer accepted. */
    uint64_t write_pos;
    /* In the consumer this is the true position. In the producer it is the last position that the producer accepted. */
    uint64_t read_pos;
};

/* Called by either side. Does not block. Returns the bytes that a frame with `size` bytes of body takes in a ring. */
static inline uint64_t lipc_frame_bytes(uint64_t size)
{
    return (sizeof(struct lipc_frame) + size + (LIPC_FRAME_ALIGN - 1)) & ~(uint64_t)(LIPC_FRAME_ALIGN - 1);
}

/* Called by either side. Does not block. Returns the most bytes of body that one frame may have: a quarter of the ring,
 * less the header. So both sides can work on the ring at the same time. */
static inline uint32_t lipc_ring_frame_max(const struct lipc_ring *ring)
{
    return (uint32_t)(ring->capacity / 4 - sizeof(struct lipc_frame));
}

/* Called once by either side. Does not block. Nobody may have used the segment in this side's role before. Both
 * positions begin at 0, and are not read from the shared memory. `capacity` is a power of two. */
void lipc_ring_init(struct lipc_ring *ring, struct lipc_positions *shared, char *data, uint32_t capacity);

/* Called by the producer. Does not block. Returns the number of free bytes, or -EBADMSG. Loads the consumer's position
 * only if fewer than `enough` bytes are known to be free. */
int64_t lipc_ring_room(struct lipc_ring *ring, uint64_t enough);

/* Called by the producer. Does not block. Returns 1 with *bytes_at pointing to `bytes` writable bytes, 0 if there is no
 * room, or -EBADMSG. A claim reserves nothing: a claim without a commit has no effect. */
int lipc_ring_claim(struct lipc_ring *ring, uint64_t bytes, char **bytes_at);

/* Called by the producer. Does not block. Publishes the first `bytes` bytes of the claim, which must be whole
 * frames. */
void lipc_ring_commit(struct lipc_ring *ring, uint64_t bytes);

/* Called by the consumer. Does not block. Returns whether all frames are taken that the producer had published when the
 * consumer last looked. */
static inline bool lipc_ring_known_empty(const struct lipc_ring *ring)
{
    return ring->write_pos == ring->read_pos;
}

/* Called by the consumer. Does not block. Returns 1 if there is a frame, 0 if there is none, or -EBADMSG. */
int lipc_ring_readable(struct lipc_ring *ring);

/* Called by the consumer. Does not block. Returns 1 with a checked copy of the next frame's header in *frame, and with
 * *body pointing to the frame's bytes in the ring; 0 if there is no frame; or -EBADMSG. The peer may change the bytes
 * at any time, so the caller must copy them out once. */
int lipc_ring_peek(struct lipc_ring *ring, struct lipc_frame *frame, const char **body);

/* Called by the consumer. Does not block. Steps over the frame that peek returned. The frame's bytes stay valid until
 * the next release. */
void lipc_ring_take(struct lipc_ring *ring, const struct lipc_frame *frame);

/* Called by the consumer. Does not block. Gives the bytes of all taken frames back to the producer. */
void lipc_ring_release(struct lipc_ring *ring);

#endif
