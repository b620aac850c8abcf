/* SPDX-License-Identifier: MIT
 *
 * The ring. Positions are free-running counts of bytes. They are only compared by unsigned subtraction. A byte's place
 * is its position modulo the capacity. Only the producer writes write_pos, and only the consumer writes read_pos. No
 * side reads back the position that it writes: its private copy is the true value, and the shared one announces it to
 * the peer.
 *
 *   label  side      access                        pairs with  what it orders
 *   W1     producer  load  acquire of read_pos     R2          bytes are copied out before they are overwritten
 *   W2     producer  store release of write_pos    R1          the frames' bytes are written before they are announced
 *   R1     consumer  load  acquire of write_pos    W2          the announcement is seen before the bytes are read
 *   R2     consumer  store release of read_pos     W1          the bytes are copied out before their room is given back
 *
 * A side loads the peer's position once, into a local variable. It accepts the position only if the position moved
 * forward, and by no more than the ring's state allows. From then on it uses the private copy. So nothing that a peer
 * writes can move an index out of the ring.
 */

#include "ring/ring.h"

#include <errno.h>
#include <string.h>

#define HEADER_WORDS (sizeof(struct lipc_frame) / sizeof(uint64_t))

_Static_assert(sizeof(struct lipc_frame) % sizeof(uint64_t) == 0, "a header is whole words");

void lipc_ring_init(struct lipc_ring *ring, struct lipc_positions *shared, char *data, uint32_t capacity)
{
    *ring = (struct lipc_ring){.shared = shared, .data = data, .capacity = capacity};
}

static char *at(const struct lipc_ring *ring, uint64_t position)
{
    return ring->data + (position & (ring->capacity - 1));
}

int64_t lipc_ring_room(struct lipc_ring *ring, uint64_t enough)
{
    uint64_t used = ring->write_pos - ring->read_pos;
    if (ring->capacity - used < enough) {
        /* W1 acquire: pairs with R2. */
        uint64_t moved = atomic_load_explicit(&ring->shared->read_pos, memory_order_acquire) - ring->read_pos;
        if (moved > used || moved % LIPC_FRAME_ALIGN) /* past what was written, or backwards */
            return -EBADMSG;
        ring->read_pos += moved;
        used -= moved;
    }
    return (int64_t)(ring->capacity - used);
}

int lipc_ring_claim(struct lipc_ring *ring, uint64_t bytes, char **bytes_at)
{
    int64_t room = lipc_ring_room(ring, bytes);
    if (room < 0)
        return (int)room;
    if ((uint64_t)room < bytes)
        return 0;
    *bytes_at = at(ring, ring->write_pos);
    return 1;
}

void lipc_ring_commit(struct lipc_ring *ring, uint64_t bytes)
{
    ring->write_pos += bytes;
    /* W2 release: pairs with R1. */
    atomic_store_explicit(&ring->shared->write_pos, ring->write_pos, memory_order_release);
}

int lipc_ring_readable(struct lipc_ring *ring)
{
    uint64_t unread = ring->write_pos - ring->read_pos;
    if (unread == 0) {
        /* R1 acquire: pairs with W2. */
        uint64_t moved = atomic_load_explicit(&ring->shared->write_pos, memory_order_acquire) - ring->write_pos;
        if (moved > ring->capacity || moved % LIPC_FRAME_ALIGN) /* more than the ring holds, or backwards */
            return -EBADMSG;
        ring->write_pos += moved;
        unread = moved;
    }
    return unread != 0;
}

/* Copies a header out. Each word is loaded as an atomic, because the compiler may load a plain word again after the
 * word has been checked. Relaxed is enough, because R1 has ordered the whole frame. */
static void load_header(struct lipc_frame *frame, const char *from)
{
    const _Atomic uint64_t *words = (const _Atomic uint64_t *)(const void *)from;
    uint64_t copy[HEADER_WORDS];
    for (size_t i = 0; i < HEADER_WORDS; i++)
        copy[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
    memcpy(frame, copy, sizeof *frame);
}

int lipc_ring_peek(struct lipc_ring *ring, struct lipc_frame *frame, const char **body)
{
    int readable = lipc_ring_readable(ring);
    if (readable <= 0)
        return readable;
    uint64_t unread = ring->write_pos - ring->read_pos;
    const char *from = at(ring, ring->read_pos);
    if (unread < sizeof *frame)
        return -EBADMSG;
    load_header(frame, from);
    if (frame->kind == 0 || frame->flags > (LIPC_FRAME_MORE | LIPC_FRAME_CONTINUED | LIPC_FRAME_BLOCK) ||
        frame->reserved != 0 || frame->size > lipc_ring_frame_max(ring) || frame->size > frame->total ||
        lipc_frame_bytes(frame->size) > unread)
        return -EBADMSG;
    *body = from + sizeof *frame;
    return 1;
}

void lipc_ring_take(struct lipc_ring *ring, const struct lipc_frame *frame)
{
    ring->read_pos += lipc_frame_bytes(frame->size);
}

void lipc_ring_release(struct lipc_ring *ring)
{
    /* R2 release: pairs with W1. */
    atomic_store_explicit(&ring->shared->read_pos, ring->read_pos, memory_order_release);
}
