/* SPDX-License-Identifier: MIT
 *
 * Messages become frames: in the ring while it has room, in the outbox when it has none.
 */

#include "endpoint/endpoint.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* How long a large message waits for room for its next frame. Then the rest of the message goes to the outbox. A reader
 * that is running takes a frame within a few microseconds. A reader that has just been woken starts within about 50. */
#define STREAM_WAIT_NS 50000

/* How long a large message waits beyond that, all its frames together: a nanosecond for so many of its bytes. That is half of
 * the time that it would take to copy it to the outbox. A reader may be woken late, or be away for a moment: and then it
 * would take a large message from the outbox in many small steps, with a wake for each. */
#define STREAM_BYTES_PER_NS 20

static struct lipc_frame common_frame(const struct lipc_header *header, uint64_t total)
{
    return (struct lipc_frame){
        .total = total,
        .correlation = header->correlation,
        .channel = header->channel,
        .detail = header->detail,
        .pid = header->pid,
        .kind = (uint16_t)header->kind,
    };
}

/* Returns whether a message that waits may be dropped later, for one of its channel that comes after it. */
static bool may_be_dropped(int when_full)
{
    return when_full == LIPC_DROP_OLDEST || when_full == LIPC_KEEP_NEWEST;
}

static bool is_valid(const struct lipc_header *header, int when_full)
{
    return header->kind != 0 && header->kind <= UINT16_MAX && when_full >= LIPC_REFUSE &&
           when_full <= LIPC_KEEP && (!may_be_dropped(when_full) || header->channel < LIPC_CHANNELS);
}

/* Returns the bytes of body in the next frame of a message. All frames except the last have the largest size. So the
 * room that the next frame needs does not depend on the room that there is. */
static uint32_t next_size(const struct lipc_endpoint *endpoint, const struct lipc_outgoing *message)
{
    uint64_t left = message->frame.total - message->sent;
    uint32_t most = lipc_ring_frame_max(&endpoint->out);
    return left < most ? (uint32_t)left : most;
}

/* Returns the bytes that all frames of a body take in the ring. */
static uint64_t ring_bytes(const struct lipc_endpoint *endpoint, uint64_t total)
{
    uint64_t most = lipc_ring_frame_max(&endpoint->out);
    uint64_t last = total % most;
    return total / most * lipc_frame_bytes(most) + (last || total == 0 ? lipc_frame_bytes(last) : 0);
}

/* Puts the next frame of a message into the ring. Returns 1, 0 if there is no room, or -EBADMSG. */
static int put_frame(struct lipc_endpoint *endpoint, struct lipc_outgoing *message)
{
    uint32_t size = next_size(endpoint, message);
    char *at;
    int claimed = lipc_ring_claim(&endpoint->out, lipc_frame_bytes(size), &at);
    if (claimed <= 0)
        return claimed;
    struct lipc_frame frame = message->frame;
    frame.size = size;
    frame.flags |= (uint16_t)((message->sent ? LIPC_FRAME_CONTINUED : 0) |
                              (message->sent + size < frame.total ? LIPC_FRAME_MORE : 0));
    memcpy(at, &frame, sizeof frame);
    lipc_outgoing_copy(message, at + sizeof frame, size);
    lipc_ring_commit(&endpoint->out, lipc_frame_bytes(size));
    message->sent += size;
    return 1;
}

int64_t lipc_make_room(struct lipc_endpoint *endpoint)
{
    bool published = false;
    int collected = lipc_collect(endpoint);
    if (collected < 0)
        return collected;
    while (endpoint->outbox.head) {
        struct lipc_outgoing *message = &endpoint->outbox.head->message;
        uint32_t size = next_size(endpoint, message);
        int put = put_frame(endpoint, message);
        if (put < 0)
            return put;
        if (put == 0)
            break;
        lipc_outbox_advance(&endpoint->outbox, size);
        published = true;
    }
    if (published)
        lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
    return (int64_t)lipc_unread_bytes(endpoint);
}

int64_t lipc_flush(struct lipc_endpoint *endpoint)
{
    int64_t waiting = lipc_make_room(endpoint);
    if (endpoint->outbox.holds)
        endpoint->outbox.holds->eased = false;
    return waiting;
}

bool lipc_can_flush(struct lipc_endpoint *endpoint)
{
    const struct lipc_waiting *first = endpoint->outbox.head;
    char *at;
    return (first &&
            lipc_ring_claim(&endpoint->out, lipc_frame_bytes(next_size(endpoint, &first->message)), &at) != 0) ||
           (endpoint->outbox.holds && endpoint->outbox.holds->eased) ||
           (lipc_is_crowded(endpoint) && lipc_ring_readable(&endpoint->outbox.holds->returns) != 0);
}

/* Waits a short time for room for a message's next frame, and takes what is longer than STREAM_WAIT_NS from *patience, in
 * nanoseconds. Returns 1, 0 if there is still no room, or -EBADMSG. A slow or hostile reader costs at most STREAM_WAIT_NS for
 * each quarter of the ring, and all patience once. */
static int await_room(struct lipc_endpoint *endpoint, const struct lipc_outgoing *message, uint64_t *patience)
{
    uint64_t bytes = lipc_frame_bytes(next_size(endpoint, message));
    uint64_t deadline = lipc_clock() + STREAM_WAIT_NS, now = 0;
    for (;;) {
        int64_t room = lipc_ring_room(&endpoint->out, bytes);
        if (room < 0)
            return (int)room;
        if ((uint64_t)room >= bytes)
            break;
        now = lipc_clock();
        if (now >= deadline + *patience)
            return 0;
        (void)sched_yield();
    }
    *patience -= now > deadline ? now - deadline : 0;
    return 1;
}

/* Returns whether a message streams: it is larger than the ring, and the reader makes room while it is written. */
static bool streams(const struct lipc_endpoint *endpoint, const struct lipc_outgoing *message,
                    const struct lipc_copies *copies)
{
    return !copies->many && ring_bytes(endpoint, message->frame.total) > endpoint->out.capacity;
}

/* Waits a short time until all that waits before a message that streams is in the ring, if that is little: it could not
 * stream behind it. Returns 0 or -EBADMSG. */
static int clear_the_way(struct lipc_endpoint *endpoint, const struct lipc_outgoing *message)
{
    uint64_t patience = message->frame.total / STREAM_BYTES_PER_NS;
    uint64_t deadline = lipc_clock() + 4 * STREAM_WAIT_NS + patience; /* for all that waits together */
    const struct lipc_outbox *outbox = &endpoint->outbox;
    int room = 1;
    while (room > 0 && outbox->head && outbox->bytes <= endpoint->out.capacity && lipc_clock() < deadline) {
        room = await_room(endpoint, &outbox->head->message, &patience);
        int64_t waiting = room > 0 ? lipc_make_room(endpoint) : 0;
        if (waiting < 0)
            return (int)waiting;
    }
    return room < 0 ? room : 0;
}

/* Writes a message's frames while the ring has room. A message larger than the ring streams: the reader makes room
 * while the message is written. Returns 1 if all is written, 0 if not, or -EBADMSG. */
static int write_message(struct lipc_endpoint *endpoint, struct lipc_outgoing *message, const struct lipc_copies *copies)
{
    bool waits = streams(endpoint, message, copies);
    uint64_t patience = message->frame.total / STREAM_BYTES_PER_NS;
    int put;
    do {
        put = put_frame(endpoint, message);
        if (put == 0 && waits) {
            lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
            put = await_room(endpoint, message, &patience);
        }
    } while (put > 0 && message->sent < message->frame.total);
    lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
    return put;
}

/* Drops the oldest messages of the channel that may be dropped, until the new message fits; or all of them. It fits when
 * the outbox is below its high-water mark and the account is below its limit, or when no more waits with the new message
 * than before. Returns false if the new message still does not fit. *dropped counts the dropped messages in both cases. */
static bool drop_until_fits(struct lipc_endpoint *endpoint, const struct lipc_frame *message, bool all, int *dropped)
{
    uint64_t freed = 0;
    for (;;) {
        bool fits = freed >= lipc_weight(message->total) || !lipc_outbox_full(&endpoint->outbox, endpoint->high_water);
        if (fits && !all)
            return true;
        uint64_t bytes = lipc_outbox_drop(&endpoint->outbox, message->channel);
        if (bytes == 0)
            return fits;
        freed += bytes;
        ++*dropped;
    }
}

/* Has the peer wake this side for space, too, if this side is parked: an event loop may send while it is. */
static void await_space(struct lipc_endpoint *endpoint)
{
    if (lipc_wakeup_parked(&endpoint->wakeup)) {
        lipc_wakeup_park(&endpoint->wakeup, LIPC_PARKED_FOR_SPACE);
        /* Parking needs this look after the fence. The next flush reports an error. */
        (void)lipc_make_room(endpoint);
    }
}

/* Sends a message for which the ring has no room as a whole. The message is sent whole or not at all, because every
 * step that can fail comes before the first byte that the peer can see. */
static int queue_message(struct lipc_endpoint *endpoint, struct lipc_outgoing *message, int when_full,
                         struct lipc_copies *copies)
{
    struct lipc_outbox *outbox = &endpoint->outbox;
    bool queues = may_be_dropped(when_full);
    if (when_full == LIPC_DROP_NEWEST && lipc_outbox_full(outbox, endpoint->high_water)) {
        copies->lost = true;
        return 1;
    }
    if (when_full == LIPC_REFUSE && lipc_outbox_full(outbox, endpoint->limit))
        return -ENOBUFS;
    struct lipc_waiting *node = malloc(sizeof *node);
    /* This is memory for the whole body, though the ring may take much of it. Pages that are never touched cost
     * nothing. */
    if (!copies->body)
        copies->body = lipc_body_create(message->frame.total);
    if (!node || !copies->body || (queues && lipc_outbox_make_queue(outbox, message->frame.channel) < 0)) {
        free(node);
        return -ENOMEM;
    }
    int dropped = 0;
    if (queues && !drop_until_fits(endpoint, &message->frame, when_full == LIPC_KEEP_NEWEST, &dropped)) {
        free(node);
        copies->lost = true;
        return dropped + 1;
    }
    /* Only the first message in line may write, because the frames of one message follow each other in the ring. */
    int written = outbox->head ? 0 : write_message(endpoint, message, copies);
    if (written != 0) {
        free(node);
        return written < 0 ? written : dropped;
    }
    lipc_outbox_append(outbox, node, message, copies->body, queues);
    await_space(endpoint);
    return dropped;
}

/* Sends any message except the usual case of lipc_send_to. */
static int send_message(struct lipc_endpoint *endpoint, struct lipc_outgoing *message, int when_full,
                        struct lipc_copies *copies)
{
    int64_t waiting = endpoint->outbox.head ? lipc_make_room(endpoint) : 0;
    if (waiting > 0 && streams(endpoint, message, copies))
        waiting = clear_the_way(endpoint, message);
    if (waiting < 0)
        return (int)waiting;
    if (!endpoint->outbox.head) {
        uint64_t bytes = ring_bytes(endpoint, message->frame.total);
        int64_t room = lipc_ring_room(&endpoint->out, bytes);
        if (room < 0)
            return (int)room;
        if ((uint64_t)room >= bytes) {
            int written = write_message(endpoint, message, copies);
            return written < 0 ? written : 0;
        }
    }
    return queue_message(endpoint, message, when_full, copies);
}

/* Handles the usual case right here: one frame, one pass, one copy, no allocation. */
int lipc_send_to(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                 size_t count, int when_full, struct lipc_copies *copies)
{
    if (!is_valid(header, when_full))
        return -EINVAL;
    uint64_t total = 0, most = when_full == LIPC_KEEP ? LIPC_TOTAL_MAX : endpoint->most;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].size > most - total)
            return -EMSGSIZE;
        total += parts[i].size;
    }
    struct lipc_frame frame = common_frame(header, total);
    frame.flags = copies->flags;
    if (count == 1 && total <= lipc_ring_frame_max(&endpoint->out) && !endpoint->outbox.head) {
        char *at;
        int claimed = lipc_ring_claim(&endpoint->out, lipc_frame_bytes(total), &at);
        if (claimed < 0)
            return claimed;
        if (claimed) {
            frame.size = (uint32_t)total;
            memcpy(at, &frame, sizeof frame);
            if (total)
                memcpy(at + sizeof frame, parts->data, total);
            lipc_ring_commit(&endpoint->out, lipc_frame_bytes(total));
            lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
            return 0;
        }
    }
    struct lipc_outgoing message = {.frame = frame, .part = parts};
    return send_message(endpoint, &message, when_full, copies);
}

int lipc_send_parts(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                    size_t count, int when_full)
{
    struct lipc_copies copies = {0};
    int sent = lipc_send_to(endpoint, header, parts, count, when_full, &copies);
    if (copies.body)
        lipc_body_release(copies.body);
    return sent;
}

int lipc_send_place(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_placed *body,
                    int when_full)
{
    struct lipc_holds *holds = endpoint->outbox.holds;
    const struct lipc_place place = {.hold = lipc_hold_begin(holds, body->block),
                                     .offset = body->block->offset + body->offset,
                                     .size = body->size,
                                     .slab = body->block->slab->number};
    const struct lipc_part part = {.data = (const char *)&place, .size = sizeof place};
    struct lipc_copies copies = {.flags = LIPC_FRAME_BLOCK};
    int sent = lipc_send_to(endpoint, header, &part, 1, when_full, &copies);
    if (copies.body)
        lipc_body_release(copies.body);
    if (sent < 0 || copies.lost)
        (void)lipc_hold_end(holds, place.hold);
    else if (holds->crowded)
        await_space(endpoint);
    return sent;
}

int lipc_send_in_block(struct lipc_endpoint *endpoint, struct lipc_slabs *slabs, const struct lipc_header *header,
                       const struct lipc_part *parts, size_t count)
{
    uint64_t size = lipc_block_size(slabs, parts, count);
    int status = size ? lipc_collect(endpoint) : 0;
    if (!size || status < 0)
        return status;
    struct lipc_holds *holds = endpoint->outbox.holds;
    if (holds && !lipc_share_allows(holds, slabs, size)) { /* it needs no slab either */
        holds->by_ring++;
        return 0;
    }
    struct lipc_block *block = lipc_block_take(slabs, size);
    if (!block && size > slabs->wanted)
        slabs->wanted = size;
    if (!block || !holds || lipc_lacks_offer(holds, block->slab->number)) {
        status = LIPC_WANTS_SLAB;
    } else if (lipc_may_hold(holds, block, lipc_share(holds, slabs))) {
        lipc_join(parts, count, lipc_block_memory(block));
        const struct lipc_placed body = {.block = block, .size = size};
        int sent = lipc_send_place(endpoint, header, &body, LIPC_REFUSE);
        status = sent < 0 ? sent : LIPC_IN_BLOCK;
    }
    if (holds && status != LIPC_IN_BLOCK)
        holds->by_ring++;
    if (block)
        lipc_block_give(block);
    return status;
}

int lipc_send(struct lipc_endpoint *endpoint, const struct lipc_header *header, const char *body, size_t size,
              int when_full)
{
    const struct lipc_part part = {.data = body, .size = size};
    return lipc_send_parts(endpoint, header, &part, 1, when_full);
}

int lipc_should_flush(const struct lipc_endpoint *endpoint)
{
    return lipc_unread_bytes(endpoint) != 0 || (endpoint->outbox.holds && endpoint->outbox.holds->eased);
}

uint64_t lipc_outbox_bytes(const struct lipc_endpoint *endpoint)
{
    return lipc_unread_bytes(endpoint);
}

uint64_t lipc_bytes_taken(struct lipc_endpoint *endpoint)
{
    (void)lipc_ring_room(&endpoint->out, endpoint->out.capacity); /* ignores a bad position: a send reports it */
    return endpoint->out.read_pos + (endpoint->outbox.holds ? endpoint->outbox.holds->heard : 0);
}
