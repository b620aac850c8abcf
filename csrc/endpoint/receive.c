/* SPDX-License-Identifier: MIT
 *
 * Frames become messages. The peer may be hostile. ring.c has copied each header and checked it by itself. This file
 * checks that the frames form a message.
 */

#include "endpoint/endpoint.h"
#include "endpoint/topic.h"

#include <errno.h>
#include <string.h>

/* The alignment of bodies in the caller's buffer: enough for any scalar. */
#define BODY_ALIGN 8

/* Bytes of a body that one call copies out of a block. */
#define BLOCK_STEP 1048576

/* RELAY_NS is about how long one call relays. RELAY_CLOCK_COST is the work after which the call reads the clock. Work
 * is counted in copied bytes, and sending a message to one subscriber counts as RELAY_SEND_COST bytes. A batch of small
 * events to one or two subscribers stays below RELAY_CLOCK_COST. */
#define RELAY_NS 1000000
#define RELAY_SEND_COST 2048
#define RELAY_CLOCK_COST 262144

/* Whether `frame` must come next in a message whose first frame was `first` and of which `filled` bytes have come.
 * Every frame holds something, except the frame of an empty message. So each frame brings the end of the message
 * nearer. */
static bool continues(const struct lipc_frame *first, uint64_t filled, const struct lipc_frame *frame)
{
    uint64_t left = first->total - filled;
    bool last = frame->size == left;
    uint16_t flags = (uint16_t)((filled ? LIPC_FRAME_CONTINUED : 0) | (last ? 0 : LIPC_FRAME_MORE));
    return frame->total == first->total && frame->correlation == first->correlation &&
           frame->channel == first->channel && frame->detail == first->detail && frame->pid == first->pid &&
           frame->kind == first->kind && frame->flags == flags && frame->size <= left && (frame->size || last);
}

static struct lipc_record to_record(const struct lipc_frame *frame, uint32_t offset)
{
    return (struct lipc_record){
        .correlation = frame->correlation,
        .size = frame->total,
        .offset = offset,
        .channel = frame->channel,
        .detail = frame->detail,
        .pid = frame->pid,
        .kind = frame->kind,
    };
}

/* Writes into an event's record how many events are missing before it. This is not in to_record, because there it would
 * double the time for messages of channels that nobody counts. */
static void count_event(struct lipc_endpoint *endpoint, struct lipc_record *record)
{
    if (record->kind != LIPC_EVENT || record->channel >= endpoint->incoming_count)
        return;
    struct lipc_incoming *incoming = &endpoint->incoming[record->channel];
    uint64_t sequence = record->correlation;
    record->correlation = sequence - incoming->next;
    record->follows = record->correlation == 0 && record->detail == incoming->sender;
    incoming->next = sequence + 1;
    incoming->sender = record->detail;
}

/* Gives the room of all taken frames back to the peer. */
static void release(struct lipc_endpoint *endpoint)
{
    lipc_ring_release(&endpoint->in);
    lipc_wakeup_wake(&endpoint->wakeup, LIPC_PARKED_FOR_SPACE);
}

/* Takes frames of the message that is being assembled, at most a ring full of them. Returns 1 with the message's record
 * if the last frame has come, 0 if more frames must come, or -EBADMSG. */
static int assemble(struct lipc_endpoint *endpoint, struct lipc_record *record)
{
    struct lipc_assembly *assembly = &endpoint->assembly;
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
        release(endpoint); /* after each frame, so that the peer writes the next frame in the meantime */
        if (assembly->filled == assembly->first.total) {
            *record = to_record(&assembly->first, LIPC_ASSEMBLED);
            count_event(endpoint, record);
            *assembly = (struct lipc_assembly){0};
            return 1;
        }
        budget -= budget < lipc_frame_bytes(frame.size) ? budget : lipc_frame_bytes(frame.size);
    }
    return 0;
}

/* Copies the next step of a body out of its block. One step takes some 50 us. When all is copied, takes the message's
 * frame, and gives the block back. Returns as assemble does. */
static int copy_out(struct lipc_endpoint *endpoint, struct lipc_record *record)
{
    struct lipc_assembly *assembly = &endpoint->assembly;
    uint64_t left = assembly->place.size - assembly->filled, step = left < BLOCK_STEP ? left : BLOCK_STEP;
    memcpy(assembly->memory + assembly->filled, assembly->block + assembly->filled, step);
    assembly->filled += step;
    if (step < left)
        return 0;
    lipc_ring_take(&endpoint->in, &assembly->first);
    *record = to_record(&assembly->first, LIPC_ASSEMBLED);
    record->size = assembly->place.size;
    count_event(endpoint, record);
    int returned = lipc_return_hold(endpoint, assembly->place.hold);
    *assembly = (struct lipc_assembly){0};
    release(endpoint);
    return returned < 0 ? returned : 1;
}

/* Begins a message whose body lies in a block. Returns 0 if the frame is one, and names memory of a slab here; else -EBADMSG,
 * or another -errno. Main has no slab mapped in this way, so a renderer cannot send it such a frame. */
static int find_block(struct lipc_endpoint *endpoint, const struct lipc_frame *frame, const char *body)
{
    struct lipc_place place;
    if (frame->flags != LIPC_FRAME_BLOCK || frame->size != sizeof place || frame->total != sizeof place)
        return -EBADMSG;
    memcpy(&place, body, sizeof place);
    const struct lipc_mapped_slab *slab = lipc_slab_of(endpoint, &place);
    if (!slab)
        return -EBADMSG;
    const char *block = slab->memory + place.offset;
    endpoint->assembly = (struct lipc_assembly){.first = *frame, .wanted = true, .block = block, .place = place};
    return lipc_view_clean(endpoint, slab, &place);
}

int lipc_may_view(struct lipc_endpoint *endpoint)
{
    const struct lipc_assembly *assembly = &endpoint->assembly;
    const struct lipc_frame *frame = &assembly->first;
    if (!assembly->block || assembly->memory)
        return 0;
    /* Main puts what is no event into a block only if this side has asked to read it in place. */
    if (frame->kind == LIPC_EVENT &&
        (frame->channel >= endpoint->incoming_count || !endpoint->incoming[frame->channel].views))
        return 0;
    struct lipc_mapped_slab *slab = lipc_slab_of(endpoint, &assembly->place);
    if (slab->writable) /* and so it is clean */
        return 1;
    int error = lipc_view_allowed(endpoint, slab) ? lipc_view_clean(endpoint, slab, &assembly->place) : 0;
    return error ? error : slab->writable;
}

struct lipc_view *lipc_take_view(struct lipc_endpoint *endpoint, struct lipc_record *record, int *error)
{
    struct lipc_assembly *assembly = &endpoint->assembly;
    struct lipc_view *view =
        lipc_view_begin(endpoint, lipc_slab_of(endpoint, &assembly->place), &assembly->place, error);
    if (!view)
        return NULL;
    lipc_ring_take(&endpoint->in, &assembly->first);
    *record = to_record(&assembly->first, LIPC_ASSEMBLED);
    record->size = assembly->place.size;
    count_event(endpoint, record);
    *assembly = (struct lipc_assembly){0};
    release(endpoint);
    return view;
}

/* Returns the topic to which a frame is relayed, or NULL if the frame is handed out to the caller. */
static struct lipc_topic *topic_of(const struct lipc_endpoint *endpoint, const struct lipc_frame *frame)
{
    const struct lipc_routes *routes = &endpoint->routes;
    if (frame->kind != LIPC_EVENT || frame->detail != LIPC_ALL || frame->channel >= routes->count || routes->stopped ||
        routes->topics[frame->channel]->main_listens)
        return NULL;
    return routes->topics[frame->channel];
}

/* How much a call has relayed. */
struct lipc_relaying {
    uint64_t work;  /* since the clock was last read */
    uint64_t until; /* when to stop; 0 if the clock was not read yet */
};

static int relay(const struct lipc_endpoint *endpoint, struct lipc_topic *topic, const char *body, uint32_t size)
{
    const struct lipc_part part = {.data = body, .size = size};
    const struct lipc_header header = {
        .kind = LIPC_EVENT, .detail = endpoint->routes.sender, .pid = endpoint->routes.pid};
    return lipc_topic_send(topic, NULL, &header, &part, 1);
}

/* Counts an event that has just been relayed. Returns whether one call has relayed enough. */
static bool is_enough(struct lipc_relaying *relaying, const struct lipc_topic *topic, uint32_t size)
{
    relaying->work += (topic->count + 1) * (RELAY_SEND_COST + (uint64_t)size);
    if (relaying->work < RELAY_CLOCK_COST)
        return false;
    relaying->work = 0;
    uint64_t now = lipc_clock();
    if (!relaying->until)
        relaying->until = now + RELAY_NS;
    return now >= relaying->until;
}

int lipc_recv(struct lipc_endpoint *endpoint, struct lipc_record *records, uint32_t max, char *buffer, size_t size,
              uint64_t *wanted)
{
    struct lipc_assembly *assembly = &endpoint->assembly;
    struct lipc_routes *routes = &endpoint->routes;
    *wanted = routes->relayed = 0;
    routes->status = 0;
    if (max == 0 || size < LIPC_INLINE || size > LIPC_ASSEMBLED)
        return -EINVAL;
    if (assembly->memory)
        return assembly->block ? copy_out(endpoint, &records[0]) : assemble(endpoint, &records[0]);
    assembly->wanted = false;

    uint32_t count = 0;
    size_t used = 0;
    size -= size % BODY_ALIGN; /* so that `used` never exceeds `size` */
    int got = 0;
    struct lipc_relaying relaying = {0};
    while (count + routes->relayed < max) {
        /* To look for more would take the cache line from the peer, who is writing there: a sixth of a sender's time. */
        if (count + routes->relayed && lipc_ring_known_empty(&endpoint->in))
            break;
        struct lipc_frame frame;
        const char *body;
        got = lipc_ring_peek(&endpoint->in, &frame, &body);
        if (got <= 0)
            break;
        if (frame.total > LIPC_TOTAL_MAX || !continues(&frame, 0, &frame)) {
            if (count)
                break; /* a block's message comes alone; the next call reports an error */
            got = find_block(endpoint, &frame, body);
            if (got == 0)
                *wanted = assembly->place.size;
            break;
        }
        if (frame.size != frame.total || frame.size >= LIPC_INLINE) {
            if (count == 0) {
                /* A claim of any size: the caller checks it before it gives memory (endpoint.py: _admit). */
                *assembly = (struct lipc_assembly){.first = frame, .wanted = true};
                *wanted = frame.total;
            }
            break;
        }
        struct lipc_topic *topic = topic_of(endpoint, &frame);
        if (frame.size > size - used || (topic && count))
            break;
        memcpy(buffer + used, body, frame.size); /* relayed events too: all subscribers must get the same bytes */
        lipc_ring_take(&endpoint->in, &frame);
        if (topic) {
            routes->status |= relay(endpoint, topic, buffer, frame.size);
            routes->relayed++;
            if (is_enough(&relaying, topic, frame.size))
                break;
            continue;
        }
        records[count] = to_record(&frame, (uint32_t)used);
        count_event(endpoint, &records[count++]);
        used += (frame.size + BODY_ALIGN - 1) / BODY_ALIGN * BODY_ALIGN;
    }
    if (count || routes->relayed) { /* the next call reports an error behind them */
        release(endpoint);
        return (int)count;
    }
    return got < 0 ? got : 0;
}

uint32_t lipc_relayed(const struct lipc_endpoint *endpoint, int *status)
{
    *status = endpoint->routes.status;
    return endpoint->routes.relayed;
}

int lipc_assemble(struct lipc_endpoint *endpoint, char *memory, uint64_t size)
{
    struct lipc_assembly *assembly = &endpoint->assembly;
    if (!assembly->wanted || assembly->memory || !memory ||
        size != (assembly->block ? assembly->place.size : assembly->first.total))
        return -EINVAL;
    assembly->memory = memory;
    return 0;
}
