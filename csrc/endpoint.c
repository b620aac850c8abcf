/* SPDX-License-Identifier: MIT
 *
 * One side of a pair: a ring to write, a ring to read, an outbox and a wakeup. This is where messages become frames
 * and frames messages. All state is private to this process but what ring.c and wakeup.c keep in the segment.
 */

#include "lensipc.h"
#include "outbox.h"
#include "ring.h"
#include "segment.h"
#include "wakeup.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* How long a large message waits for room for its next frame before the rest of it goes to the outbox. A reader that
 * runs takes a frame in a few microseconds; one that has just been woken starts within about 50. */
#define STREAM_PATIENCE_NS 50000

/* Bodies in the caller's buffer begin where any scalar may. */
#define BODY_ALIGN 8

/* The message that comes in frame by frame into the caller's memory. */
struct assembly {
    struct lipc_frame first; /* what every frame of it has to agree with */
    bool wanted;             /* `first` waits in the ring, or some of the message has been taken */
    char *memory;            /* NULL until the caller gives it */
    uint64_t filled;
};

struct lipc_endpoint {
    struct lipc_ring out;
    struct lipc_ring in;
    struct lipc_wakeup wakeup;
    struct lipc_outbox outbox;
    struct assembly assembly;
    uint64_t high_water;
    uint64_t limit;
    struct lipc_mapping mapping;
};

/* Makes an endpoint of zeros one side of the segment that it has mapped. */
static void attach(struct lipc_endpoint *endpoint, int side, int wakeup, int wakeup_fd)
{
    const struct lipc_mapping *mapping = &endpoint->mapping;
    struct lipc_segment *segment = mapping->segment;
    int peer = 1 - side;
    lipc_ring_init(&endpoint->out, &segment->rings[side], mapping->rings[side], mapping->capacity);
    lipc_ring_init(&endpoint->in, &segment->rings[peer], mapping->rings[peer], mapping->capacity);
    lipc_outbox_init(&endpoint->outbox);
    endpoint->wakeup = (struct lipc_wakeup){
        .own = &segment->sleepers[side], .peer = &segment->sleepers[peer], .kind = wakeup, .fd = wakeup_fd};
}

struct lipc_endpoint *lipc_endpoint_open(int fd, int side, int wakeup, int wakeup_fd, uint64_t high_water,
                                         uint64_t limit, int *error)
{
    *error = -EINVAL;
    if (side < LIPC_SIDE_MAIN || side > LIPC_SIDE_RENDERER || wakeup < LIPC_WAKEUP_EVENTFD ||
        wakeup > LIPC_WAKEUP_SEMAPHORE)
        return NULL;
    *error = -ENOMEM;
    struct lipc_endpoint *endpoint = calloc(1, sizeof *endpoint);
    if (!endpoint)
        return NULL;
    *error = lipc_segment_map(fd, &endpoint->mapping);
    if (*error) {
        free(endpoint);
        return NULL;
    }
    attach(endpoint, side, wakeup, wakeup_fd);
    endpoint->high_water = high_water < limit ? high_water : limit;
    endpoint->limit = limit;
    return endpoint;
}

void lipc_endpoint_close(struct lipc_endpoint *endpoint)
{
    if (!endpoint)
        return;
    lipc_outbox_clear(&endpoint->outbox);
    lipc_segment_unmap(&endpoint->mapping);
    free(endpoint);
}

/* ---- sending ---- */

static struct lipc_frame common_frame(const struct lipc_header *header, uint64_t total)
{
    return (struct lipc_frame){
        .total = total,
        .correlation = header->correlation,
        .channel = header->channel,
        .peer = header->peer,
        .pid = header->pid,
        .kind = (uint16_t)header->kind,
    };
}

static bool is_kind(uint32_t kind)
{
    return kind != 0 && kind <= UINT16_MAX;
}

/* Bytes of the body in the next frame of a message. */
static uint32_t next_size(const struct lipc_endpoint *endpoint, const struct lipc_outgoing *message)
{
    uint64_t left = message->frame.total - message->sent;
    uint32_t most = lipc_ring_frame_max(&endpoint->out);
    return left < most ? (uint32_t)left : most;
}

/* Bytes that all frames of a body take in the ring. */
static uint64_t ring_bytes(const struct lipc_endpoint *endpoint, uint64_t total)
{
    uint64_t most = lipc_ring_frame_max(&endpoint->out);
    uint64_t last = total % most;
    return total / most * lipc_frame_bytes(most) + (last || total == 0 ? lipc_frame_bytes(last) : 0);
}

/* Puts the next frame of a message into the ring: 1, 0 when it has no room, -EBADMSG. */
static int put_frame(struct lipc_endpoint *endpoint, struct lipc_outgoing *message)
{
    uint32_t size = next_size(endpoint, message);
    char *at;
    int claimed = lipc_ring_claim(&endpoint->out, lipc_frame_bytes(size), &at);
    if (claimed <= 0)
        return claimed;
    struct lipc_frame frame = message->frame;
    frame.size = size;
    frame.flags = (uint16_t)((message->sent ? LIPC_FRAME_CONTINUED : 0) |
                             (message->sent + size < frame.total ? LIPC_FRAME_MORE : 0));
    memcpy(at, &frame, sizeof frame);
    lipc_outgoing_copy(message, at + sizeof frame, size);
    lipc_ring_commit(&endpoint->out, lipc_frame_bytes(size));
    message->sent += size;
    return 1;
}

int64_t lipc_flush(struct lipc_endpoint *endpoint)
{
    bool published = false;
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
    return (int64_t)endpoint->outbox.bytes;
}

/* Waits a little for room for a message's next frame: 1, 0 when there is still none, -EBADMSG. A slow or hostile
 * reader costs STREAM_PATIENCE_NS for each quarter of the ring at most. */
static int await_room(struct lipc_endpoint *endpoint, const struct lipc_outgoing *message)
{
    uint64_t bytes = lipc_frame_bytes(next_size(endpoint, message));
    uint64_t deadline = lipc_clock() + STREAM_PATIENCE_NS;
    for (;;) {
        int64_t room = lipc_ring_room(&endpoint->out, bytes);
        if (room < 0)
            return (int)room;
        if ((uint64_t)room >= bytes)
            return 1;
        if (lipc_clock() >= deadline)
            return 0;
        (void)sched_yield();
    }
}

/* Writes a message's frames while the ring takes them. One that is larger than the ring streams: the reader makes room
 * as it is written. Returns 1 when all is written, 0, -EBADMSG. */
static int write_message(struct lipc_endpoint *endpoint, struct lipc_outgoing *message)
{
    bool streams = ring_bytes(endpoint, message->frame.total) > endpoint->out.capacity;
    int put;
    do {
        put = put_frame(endpoint, message);
        if (put == 0 && streams) {
            lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
            put = await_room(endpoint, message);
        }
    } while (put > 0 && message->sent < message->frame.total);
    lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
    return put;
}

/* Gives up the oldest waiting messages of the channel until a new one fits: until what waits is below
 * the high-water mark, or at least no larger with the new one than it was before. False when it does not fit even so;
 * *dropped counts those given up either way. */
static bool drop_until_fits(struct lipc_endpoint *endpoint, const struct lipc_frame *message, int *dropped)
{
    uint64_t freed = 0;
    while (lipc_outbox_behind(&endpoint->outbox) >= endpoint->high_water && freed < sizeof *message + message->total) {
        uint64_t bytes = lipc_outbox_drop(&endpoint->outbox, message->channel);
        if (bytes == 0)
            return false;
        freed += bytes;
        ++*dropped;
    }
    return true;
}

/* The way of every message that is not one frame into a ring with room. The order of its steps makes it whole or not
 * at all: what can fail comes before the first byte that the peer can see. */
static int send_message(struct lipc_endpoint *endpoint, struct lipc_outgoing *message, int when_full)
{
    struct lipc_outbox *outbox = &endpoint->outbox;
    uint64_t total = message->frame.total;
    int64_t waiting = outbox->head ? lipc_flush(endpoint) : 0;
    if (waiting < 0)
        return (int)waiting;
    if (!outbox->head) {
        uint64_t bytes = ring_bytes(endpoint, total);
        int64_t room = lipc_ring_room(&endpoint->out, bytes);
        if (room < 0)
            return (int)room;
        if ((uint64_t)room >= bytes) {
            int put = write_message(endpoint, message);
            return put < 0 ? put : 0;
        }
    }

    uint64_t behind = lipc_outbox_behind(outbox);
    if (when_full == LIPC_DROP_NEWEST && behind >= endpoint->high_water)
        return 1;
    if (when_full == LIPC_REFUSE && behind >= endpoint->limit)
        return -ENOBUFS;
    /* Memory for all of the body, though the ring may take some of it: pages never touched cost nothing. */
    struct lipc_waiting *node = lipc_waiting_create(total);
    if (!node)
        return -ENOMEM;
    int dropped = 0;
    if (when_full == LIPC_DROP_OLDEST && !drop_until_fits(endpoint, &message->frame, &dropped)) {
        free(node);
        return dropped + 1;
    }
    if (!outbox->head) {
        int put = write_message(endpoint, message);
        if (put != 0) {
            free(node);
            return put < 0 ? put : dropped;
        }
    }
    lipc_outbox_append(outbox, node, message);
    /* An event loop sends after it has parked, too: its next wake has to come for room as well. */
    if (lipc_wakeup_parked(&endpoint->wakeup)) {
        lipc_wakeup_park(&endpoint->wakeup, LIPC_PARKED_FOR_SPACE);
        (void)lipc_flush(endpoint); /* the look after the fence; an error stays, and the next flush reports it */
    }
    return dropped;
}

int lipc_send(struct lipc_endpoint *endpoint, const struct lipc_header *header, const char *body, size_t size,
              int when_full)
{
    if (!is_kind(header->kind))
        return -EINVAL;
    struct lipc_frame frame = common_frame(header, size);
    if (size <= lipc_ring_frame_max(&endpoint->out) && !endpoint->outbox.head) {
        char *at;
        int claimed = lipc_ring_claim(&endpoint->out, lipc_frame_bytes(size), &at);
        if (claimed < 0)
            return claimed;
        if (claimed) {
            frame.size = (uint32_t)size;
            memcpy(at, &frame, sizeof frame);
            if (size)
                memcpy(at + sizeof frame, body, size);
            lipc_ring_commit(&endpoint->out, lipc_frame_bytes(size));
            lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_DATA);
            return 0;
        }
    }
    const struct lipc_part part = {.data = body, .size = size};
    struct lipc_outgoing message = {.frame = frame, .part = &part};
    return send_message(endpoint, &message, when_full);
}

int lipc_send_parts(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                    size_t count, int when_full)
{
    if (!is_kind(header->kind))
        return -EINVAL;
    uint64_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].size > LIPC_TOTAL_MAX - total)
            return -EMSGSIZE;
        total += parts[i].size;
    }
    struct lipc_outgoing message = {.frame = common_frame(header, total), .part = parts};
    return send_message(endpoint, &message, when_full);
}

uint64_t lipc_outbox(const struct lipc_endpoint *endpoint)
{
    return endpoint->outbox.bytes;
}

uint64_t lipc_progress(struct lipc_endpoint *endpoint)
{
    (void)lipc_ring_room(&endpoint->out, endpoint->out.capacity); /* a bad position counts as none; a send reports it */
    return endpoint->out.read_pos;
}

/* ---- receiving ---- */

/* Whether `frame` is the one that has to come next in a message whose first frame was `first` and of which `filled`
 * bytes have come. All frames but those of an empty message hold something, so each brings the end nearer. */
static bool continues(const struct lipc_frame *first, uint64_t filled, const struct lipc_frame *frame)
{
    uint64_t left = first->total - filled;
    bool last = frame->size == left;
    uint16_t flags = (uint16_t)((filled ? LIPC_FRAME_CONTINUED : 0) | (last ? 0 : LIPC_FRAME_MORE));
    return frame->total == first->total && frame->correlation == first->correlation &&
           frame->channel == first->channel && frame->peer == first->peer && frame->pid == first->pid &&
           frame->kind == first->kind && frame->flags == flags && frame->size <= left && (frame->size || last);
}

static struct lipc_record to_record(const struct lipc_frame *frame, uint32_t offset)
{
    return (struct lipc_record){
        .correlation = frame->correlation,
        .size = frame->total,
        .offset = offset,
        .channel = frame->channel,
        .peer = frame->peer,
        .pid = frame->pid,
        .kind = frame->kind,
    };
}

/* Gives the room of all frames taken back to the peer. */
static void release(struct lipc_endpoint *endpoint)
{
    lipc_ring_release(&endpoint->in);
    lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_SPACE);
}

/* Takes frames of the message that is being assembled, at most a ring full. Returns 1 with its record when that was
 * the last of them, 0, -EBADMSG. */
static int assemble(struct lipc_endpoint *endpoint, struct lipc_record *record)
{
    struct assembly *assembly = &endpoint->assembly;
    uint64_t budget = endpoint->in.capacity;
    while (budget) {
        struct lipc_frame frame;
        const char *body;
        int got = lipc_ring_peek(&endpoint->in, &frame, &body);
        if (got <= 0)
            return got;
        if (!continues(&assembly->first, assembly->filled, &frame))
            return -EBADMSG;
        memcpy(assembly->memory + assembly->filled, body, frame.size);
        assembly->filled += frame.size;
        lipc_ring_take(&endpoint->in, &frame);
        release(endpoint); /* each frame by itself: the peer writes the next one meanwhile */
        if (assembly->filled == assembly->first.total) {
            *record = to_record(&assembly->first, LIPC_ASSEMBLED);
            *assembly = (struct assembly){0};
            return 1;
        }
        budget -= budget < lipc_frame_bytes(frame.size) ? budget : lipc_frame_bytes(frame.size);
    }
    return 0;
}

int lipc_recv(struct lipc_endpoint *endpoint, struct lipc_record *records, uint32_t max, char *buffer, size_t size,
              uint64_t *wanted)
{
    struct assembly *assembly = &endpoint->assembly;
    *wanted = 0;
    if (max == 0 || size < LIPC_INLINE || size > LIPC_ASSEMBLED)
        return -EINVAL;
    if (assembly->memory)
        return assemble(endpoint, &records[0]);
    assembly->wanted = false;

    uint32_t count = 0;
    size_t used = 0;
    size -= size % BODY_ALIGN; /* so that `used` never passes it */
    int got = 0;
    while (count < max) {
        struct lipc_frame frame;
        const char *body;
        got = lipc_ring_peek(&endpoint->in, &frame, &body);
        if (got <= 0)
            break;
        if (frame.total > LIPC_TOTAL_MAX || !continues(&frame, 0, &frame)) {
            got = -EBADMSG;
            break;
        }
        if (frame.size != frame.total || frame.size >= LIPC_INLINE) {
            if (count == 0) {
                *assembly = (struct assembly){.first = frame, .wanted = true};
                *wanted = frame.total;
            }
            break;
        }
        if (frame.size > size - used)
            break;
        memcpy(buffer + used, body, frame.size);
        records[count++] = to_record(&frame, (uint32_t)used);
        used += (frame.size + BODY_ALIGN - 1) / BODY_ALIGN * BODY_ALIGN;
        lipc_ring_take(&endpoint->in, &frame);
    }
    if (count) { /* what is wrong behind them is told by the next call */
        release(endpoint);
        return (int)count;
    }
    return got < 0 ? got : 0;
}

int lipc_assemble(struct lipc_endpoint *endpoint, char *memory, uint64_t size)
{
    struct assembly *assembly = &endpoint->assembly;
    if (!assembly->wanted || assembly->memory || !memory || size != assembly->first.total)
        return -EINVAL;
    assembly->memory = memory;
    return 0;
}

/* ---- sleeping ---- */

/* Whether there is a frame to take, or room for the next that waits. Nonsense counts as work: whoever takes it up is
 * told. */
static bool has_work(struct lipc_endpoint *endpoint)
{
    if (lipc_ring_readable(&endpoint->in) != 0)
        return true;
    if (!endpoint->outbox.head)
        return false;
    char *at;
    uint64_t bytes = lipc_frame_bytes(next_size(endpoint, &endpoint->outbox.head->message));
    return lipc_ring_claim(&endpoint->out, bytes, &at) != 0;
}

int lipc_park(struct lipc_endpoint *endpoint)
{
    uint32_t room = endpoint->outbox.head ? LIPC_PARKED_FOR_SPACE : 0;
    lipc_wakeup_park(&endpoint->wakeup, LIPC_PARKED_FOR_DATA | room);
    if (!has_work(endpoint))
        return 1;
    lipc_wakeup_unpark(&endpoint->wakeup);
    return 0;
}

void lipc_unpark(struct lipc_endpoint *endpoint)
{
    lipc_wakeup_unpark(&endpoint->wakeup);
}

int lipc_poll(struct lipc_endpoint *endpoint, uint64_t nanoseconds)
{
    uint64_t start = lipc_clock();
    while (lipc_ring_readable(&endpoint->in) == 0) {
        if (lipc_clock() - start >= nanoseconds)
            return 0;
        (void)sched_yield();
    }
    return 1;
}

int lipc_wait(struct lipc_endpoint *endpoint, uint64_t nanoseconds)
{
    uint64_t start = lipc_clock();
    uint64_t deadline = nanoseconds < UINT64_MAX - start ? start + nanoseconds : UINT64_MAX;
    while (lipc_park(endpoint)) {
        int woken = lipc_wakeup_sleep(&endpoint->wakeup, deadline);
        /* The clock is asked even after a wake: a peer that posts without end must not keep us past the deadline. */
        if (woken < 0 || lipc_clock() >= deadline) {
            lipc_unpark(endpoint);
            if (has_work(endpoint))
                return 1;
            return woken < 0 ? woken : 0;
        }
    }
    return 1;
}
