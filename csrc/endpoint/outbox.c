/* SPDX-License-Identifier: MIT
 *
 * A first-in-first-out list of messages. A message gets its memory before its first byte is sent. So if there is no
 * memory for a message to wait in, no part of the message has been sent. If an event waits for many receivers, it is
 * copied once, and the receivers' outboxes share the copy.
 *
 * A message that may be dropped is also in its channel's queue, in the same order. So if the first message of the list
 * is in a queue, it is the oldest message of that queue. Messages leave a queue only at its front. They leave the list
 * at its front too, except that a dropped message may leave from the middle.
 */

#include "endpoint/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Returns the channel's queue, or NULL if it has none. */
static struct lipc_queue *queue_of(const struct lipc_outbox *outbox, uint32_t channel)
{
    return channel < outbox->queue_count ? &outbox->queues[channel] : NULL;
}

/* Takes a message that is in no queue out of the list, and frees it. */
static void unlink_and_free(struct lipc_outbox *outbox, struct lipc_waiting *waiting)
{
    uint64_t weight = lipc_weight(waiting->message.frame.total);
    *(waiting->before ? &waiting->before->behind : &outbox->head) = waiting->behind;
    *(waiting->behind ? &waiting->behind->before : &outbox->tail) = waiting->before;
    outbox->bytes -= weight - waiting->message.sent;
    lipc_account_count(outbox->account, 0, weight);
    if (waiting->message.frame.flags & LIPC_FRAME_BLOCK && waiting->message.sent == 0) { /* the peer never gets it */
        const struct lipc_place *place = (const struct lipc_place *)(const void *)(waiting->body + 1);
        (void)lipc_hold_end(outbox->holds, place->hold); /* false: a hostile renderer has guessed and returned it */
    }
    lipc_body_release(waiting->body);
    free(waiting);
}

void lipc_outbox_clear(struct lipc_outbox *outbox)
{
    free(outbox->queues);
    outbox->queues = NULL;
    outbox->queue_count = 0;
    while (outbox->head)
        unlink_and_free(outbox, outbox->head);
}

void lipc_outgoing_copy(struct lipc_outgoing *message, char *to, size_t size)
{
    while (size) {
        size_t left = message->part->size - message->offset;
        size_t chunk = size < left ? size : left;
        if (chunk)
            memcpy(to, message->part->data + message->offset, chunk);
        to += chunk;
        size -= chunk;
        message->offset += chunk;
        if (message->offset == message->part->size) {
            message->part++;
            message->offset = 0;
        }
    }
}

struct lipc_body *lipc_body_create(uint64_t size)
{
    size_t bytes = sizeof(struct lipc_body) + size;
    struct lipc_body *body = bytes < LIPC_POOLED ? malloc(bytes) : lipc_buffer_take(bytes);
    if (body)
        *body = (struct lipc_body){.users = 1, .from = size, .whole = {.data = (char *)(body + 1), .size = size}};
    return body;
}

void lipc_body_release(struct lipc_body *body)
{
    if (--body->users)
        return;
    if (sizeof *body + body->whole.size < LIPC_POOLED)
        free(body);
    else
        lipc_buffer_give(body);
}

int lipc_outbox_make_queue(struct lipc_outbox *outbox, uint32_t channel)
{
    if (channel < outbox->queue_count)
        return 0;
    uint32_t count = outbox->queue_count ? outbox->queue_count : 8;
    while (count <= channel)
        count *= 2;
    struct lipc_queue *larger = realloc(outbox->queues, count * sizeof *larger);
    if (!larger)
        return -ENOMEM;
    memset(larger + outbox->queue_count, 0, (count - outbox->queue_count) * sizeof *larger);
    outbox->queues = larger;
    outbox->queue_count = count;
    return 0;
}

void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body, bool may_be_dropped)
{
    if (message->sent < body->from) {
        lipc_outgoing_copy(message, (char *)(body + 1) + message->sent, body->from - message->sent);
        body->from = message->sent;
    }
    body->users++;
    *waiting = (struct lipc_waiting){.before = outbox->tail, .message = *message, .body = body};
    waiting->message.part = &body->whole;
    waiting->message.offset = message->sent;
    *(outbox->tail ? &outbox->tail->behind : &outbox->head) = waiting;
    outbox->tail = waiting;
    if (may_be_dropped && message->sent == 0) {
        struct lipc_queue *queue = queue_of(outbox, message->frame.channel);
        *(queue->oldest ? &queue->newest->later : &queue->oldest) = waiting;
        queue->newest = waiting;
    }
    uint64_t weight = lipc_weight(message->frame.total);
    outbox->bytes += weight - message->sent;
    lipc_account_count(outbox->account, weight, 0);
}

bool lipc_outbox_full(const struct lipc_outbox *outbox, uint64_t mark)
{
    const struct lipc_waiting *head = outbox->head;
    uint64_t weight = head ? lipc_weight(head->message.frame.total) : 0;
    uint64_t behind = head ? outbox->bytes - (weight - head->message.sent) : 0;
    return behind >= mark || lipc_account_full(outbox->account, weight);
}

void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size)
{
    struct lipc_waiting *head = outbox->head;
    struct lipc_queue *queue = queue_of(outbox, head->message.frame.channel);
    outbox->bytes -= size;
    if (queue && queue->oldest == head)
        queue->oldest = head->later;
    if (head->message.sent == head->message.frame.total)
        unlink_and_free(outbox, head);
}

uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel)
{
    struct lipc_queue *queue = queue_of(outbox, channel);
    struct lipc_waiting *oldest = queue ? queue->oldest : NULL;
    if (!oldest)
        return 0;
    queue->oldest = oldest->later;
    uint64_t weight = lipc_weight(oldest->message.frame.total);
    unlink_and_free(outbox, oldest);
    return weight;
}
