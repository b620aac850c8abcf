/* SPDX-License-Identifier: MIT
 *
 * A first-in-first-out list. Each message waits in allocations made before the first byte of it goes anywhere: so a
 * message that cannot be kept has not been sent in part either. An event that waits for many has one body, copied once:
 * of 1 MiB to 16 renderers, main wrote 16 copies before.
 */

#include "outbox.h"

#include <stdlib.h>
#include <string.h>

void lipc_outbox_init(struct lipc_outbox *outbox)
{
    *outbox = (struct lipc_outbox){.tail = &outbox->head, .sought = &outbox->head};
}

/* Bytes that a waiting message counts for. */
static uint64_t weight(const struct lipc_waiting *waiting)
{
    return sizeof(struct lipc_frame) + waiting->message.frame.total - waiting->message.sent;
}

/* Takes the message that *link points to out of the list. */
static void unlink_and_free(struct lipc_outbox *outbox, struct lipc_waiting **link)
{
    struct lipc_waiting *waiting = *link;
    outbox->bytes -= weight(waiting);
    *link = waiting->next;
    if (*link == NULL)
        outbox->tail = link;
    if (outbox->sought == &waiting->next)
        outbox->sought = link;
    lipc_body_release(waiting->body);
    free(waiting);
}

void lipc_outbox_clear(struct lipc_outbox *outbox)
{
    while (outbox->head)
        unlink_and_free(outbox, &outbox->head);
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
    struct lipc_body *body = bytes < LIPC_BLOCK ? malloc(bytes) : lipc_block_take(bytes);
    if (body)
        *body = (struct lipc_body){.users = 1, .from = size, .whole = {.data = (char *)(body + 1), .size = size}};
    return body;
}

void lipc_body_release(struct lipc_body *body)
{
    if (--body->users)
        return;
    if (sizeof *body + body->whole.size < LIPC_BLOCK)
        free(body);
    else
        lipc_block_give(body);
}

void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message,
                        struct lipc_body *body)
{
    if (message->sent < body->from) {
        lipc_outgoing_copy(message, (char *)(body + 1) + message->sent, body->from - message->sent);
        body->from = message->sent;
    }
    body->users++;
    *waiting = (struct lipc_waiting){.message = *message, .body = body};
    waiting->message.part = &body->whole;
    waiting->message.offset = message->sent;
    *outbox->tail = waiting;
    outbox->tail = &waiting->next;
    outbox->bytes += weight(waiting);
}

uint64_t lipc_outbox_behind(const struct lipc_outbox *outbox)
{
    return outbox->head ? outbox->bytes - weight(outbox->head) : 0;
}

void lipc_outbox_advance(struct lipc_outbox *outbox, uint32_t size)
{
    outbox->bytes -= size;
    if (outbox->head->message.sent == outbox->head->message.frame.total)
        unlink_and_free(outbox, &outbox->head);
}

/* Goes on where it has left off: with 64 MiB of another channel's before it, a walk from the head takes 13 ms.
 * Channels that take turns at dropping start from the head each time. */
uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel)
{
    if (outbox->channel != channel)
        outbox->sought = &outbox->head;
    outbox->channel = channel;
    for (struct lipc_waiting **link = outbox->sought; *link; link = &(*link)->next)
        if ((*link)->message.frame.kind == LIPC_EVENT && (*link)->message.frame.channel == channel &&
            (*link)->message.sent == 0) {
            uint64_t dropped = weight(*link);
            unlink_and_free(outbox, link);
            outbox->sought = link;
            return dropped;
        }
    outbox->sought = outbox->tail;
    return 0;
}
