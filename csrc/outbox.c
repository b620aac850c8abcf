/* SPDX-License-Identifier: MIT
 *
 * A first-in-first-out list. Each message waits in one allocation of its own, made before the first byte of it goes
 * anywhere: so a message that cannot be kept has not been sent in part either.
 */

#include "outbox.h"

#include <stdlib.h>
#include <string.h>

void lipc_outbox_init(struct lipc_outbox *outbox)
{
    *outbox = (struct lipc_outbox){.tail = &outbox->head};
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

struct lipc_waiting *lipc_waiting_create(uint64_t size)
{
    return malloc(sizeof(struct lipc_waiting) + size);
}

void lipc_outbox_append(struct lipc_outbox *outbox, struct lipc_waiting *waiting, struct lipc_outgoing *message)
{
    char *body = (char *)(waiting + 1);
    uint64_t left = message->frame.total - message->sent;
    lipc_outgoing_copy(message, body, left);
    *waiting = (struct lipc_waiting){.message = *message, .rest = {.data = body, .size = left}};
    waiting->message.part = &waiting->rest;
    waiting->message.offset = 0;
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

uint64_t lipc_outbox_drop(struct lipc_outbox *outbox, uint32_t channel)
{
    for (struct lipc_waiting **link = &outbox->head; *link; link = &(*link)->next)
        if ((*link)->message.frame.channel == channel && (*link)->message.sent == 0) {
            uint64_t dropped = weight(*link);
            unlink_and_free(outbox, link);
            return dropped;
        }
    return 0;
}
