/* SPDX-License-Identifier: MIT
 *
 * The interface of the C core. Plain declarations only: build.py hands this file to cffi as it stands. What every message and
 * every wait needs is in fast.h, for which Python has functions of its own.
 *
 *   ring/layout.h             the bytes of a segment                                    no code
 *   ring/ring.c               a one-way ring of frames over memory given to it          no system call
 *   ring/wakeup.c             the parked flags; eventfd, socket and semaphore           system calls
 *   ring/segment.c            shared memory made, sealed, mapped twice, checked         system calls
 *   endpoint/buffer_pool.c    buffers for large bodies, kept and reused                 system calls
 *   endpoint/outbox.c         messages that wait until the ring has room                malloc
 *   endpoint/account.c        how much waits in several outboxes together               malloc
 *   endpoint/endpoint.c       two rings, an outbox and a wakeup as one side of a pair
 *   endpoint/send.c           messages into frames
 *   endpoint/receive.c        frames into messages; relays events to their subscribers
 *   endpoint/topic.c          the subscribers of a channel                              malloc
 *   endpoint/parent_death.c   kills a renderer some time after its main has died        system calls
 *
 * Beside it: clone/ writes and reads values, and python/ has functions of Python's own for that and for fast.h.
 *
 * Words. A segment is one shared-memory object. It holds two rings: main writes one and the renderer the other.
 * A frame is a header and bytes in a ring. A message is one frame, or several when it is larger than a frame.
 *
 * Rules. Every function returns 0 or a positive number on success and -errno on failure; none touches errno for
 * its caller, prints, or aborts. None blocks but lipc_poll and lipc_sleep, and those that send for moments where they say so.
 * An endpoint belongs to one thread at a time. All that lies in a segment can be changed by the peer at any instant:
 * it is loaded once, checked against private copies, and only then used.
 */
#ifndef LENSIPC_H
#define LENSIPC_H

#include <stddef.h>
#include <stdint.h>

#define LIPC_VERSION 2

/* What a segment is made of. */
#define LIPC_FORM_MEMFD 0
#define LIPC_FORM_SHM 1

/* Which side of a segment an endpoint is. */
#define LIPC_SIDE_MAIN 0
#define LIPC_SIDE_RENDERER 1

/* How a parked side is woken. */
#define LIPC_WAKEUP_EVENTFD 0
#define LIPC_WAKEUP_SOCKET 1
#define LIPC_WAKEUP_SEMAPHORE 2

/* What is done with a message when the outbox is full. */
#define LIPC_REFUSE 0
#define LIPC_DROP_OLDEST 1
#define LIPC_DROP_NEWEST 2
#define LIPC_KEEP 3 /* it waits all the same: for the few messages that must never be lost */

/* A channel whose messages are sent with LIPC_DROP_OLDEST has a number below this: each has a queue of its own. */
#define LIPC_CHANNELS 16384

/* A body of at least this many bytes is copied straight into memory that its receiver provides for it. */
#define LIPC_INLINE 32768

/* A body of at least this many bytes is put into a buffer of the pool. */
#define LIPC_POOLED 1048576

/* The default budget for reading a message: what its keys and constructors may cost, in units of 10 ns (clone/). */
#define LIPC_BUDGET 5000000

/* lipc_header.kind of an event, and lipc_header.peer of an event for all subscribers, which main relays without reading it. */
#define LIPC_EVENT 1
#define LIPC_ALL 4294967295

/* Bits of the status that sending an event to all subscribers returns. */
#define LIPC_FAILED 1    /* a subscriber has to be disconnected: see lipc_failure */
#define LIPC_CONGESTED 2 /* more than high_water bytes wait for a subscriber */

struct lipc_account;
struct lipc_endpoint;
struct lipc_topic;

/* Everything that is sent with a message's body. What the fields mean is defined by lensipc/runtime/protocol.py. */
struct lipc_header {
    uint64_t correlation;
    uint32_t channel;
    uint32_t peer;
    uint32_t pid;
    uint32_t kind;
};

/* A piece of a message's body. */
struct lipc_part {
    const char *data;
    size_t size;
};

/* ---- segment.c ---- */

/* Main. Makes a segment for two rings of `capacity` data bytes each (a power of two, 64 KiB to 1 GiB) with every
 * page reserved, and returns its descriptor (close-on-exec). Nothing of it has a name when this returns.
 * -EINVAL: capacity or form. -ENOMEM, -ENOSPC: no memory for it. -EMFILE, -ENFILE: no descriptor for it. */
int lipc_segment_create(int form, uint32_t capacity);

/* ---- endpoint.c ---- */

/* Either side, once. Maps the segment `fd` (which may be closed afterwards) and returns this side's endpoint, or
 * NULL with -errno in *error: -EPROTO when fd is no segment of this version, -ENOMEM.
 * The peer is woken as `wakeup` says: by an eventfd or a socket, both named by `wakeup_fd` (which stays the
 * caller's and must outlive the endpoint), or by the segment's semaphore (wakeup_fd is then -1).
 * A message that finds `limit` bytes waiting in the outbox behind the one on its way is refused or dropped as its
 * sender said; LIPC_DROP_* already act at `high_water` bytes. */
struct lipc_endpoint *lipc_endpoint_open(int fd, int side, int wakeup, int wakeup_fd, uint64_t high_water,
                                         uint64_t limit, int *error);

/* Either side, once, before it sends. What waits in this outbox is counted in `account`, too. This outbox is full while that
 * account or one of its parents is at its limit, without counting the first message here, which is on its way.
 * 0; -EINVAL: something has been sent already, or there is an account already. */
int lipc_charge(struct lipc_endpoint *endpoint, struct lipc_account *account);

/* Either side, before it sends. Refuses messages of more than `most` bytes, which the peer would not accept, unless they are
 * sent with LIPC_KEEP. Without this call no message is too large. */
void lipc_limit_message(struct lipc_endpoint *endpoint, uint64_t most);

/* Producer. Says whether the peer has had enough time to read what waits. If it has, and its outbox is full, it is
 * disconnected; if it has not, the sender gets an error. */
void lipc_lag(struct lipc_endpoint *endpoint, int late);

/* Anyone, in any thread, while the endpoint is open; does not block. Ends this side's lipc_sleep, or the next one. */
void lipc_wake(struct lipc_endpoint *endpoint);

/* Main. The error of lipc_send_parts for a topic's event that could not be sent to this endpoint; 0 if all went well. */
int lipc_failure(const struct lipc_endpoint *endpoint);

/* Main. Relays the events for LIPC_ALL that come by `endpoint` on channel `number`, the next one that has no topic yet, to `topic`
 * from now on, as coming from `peer` and `pid`. 0; -ENOMEM; -EINVAL: another number. */
int lipc_relay(struct lipc_endpoint *endpoint, uint32_t number, struct lipc_topic *topic, uint32_t peer, uint32_t pid);

/* Consumer. Relays nothing of `endpoint` from now on: lipc_recv hands all of its events out. */
void lipc_stop_relaying(struct lipc_endpoint *endpoint);

/* Consumer. Events will come on channel `number`, the next one (or one of those before: then nothing changes). From now on the
 * correlation of each such event's record is how many events are missing before it, and `follows` is set if none is and the
 * event comes from the same peer as the one before on this channel. 0; -ENOMEM; -EINVAL: another number. */
int lipc_count_gaps(struct lipc_endpoint *endpoint, uint32_t number);

/* What lipc_sleep returns when it was woken. */
#define LIPC_WOKEN 2

/* Consumer woken by LIPC_WAKEUP_SEMAPHORE. Parks and sleeps until there is work: 1, or 0 after `nanoseconds`. LIPC_WOKEN: it was
 * woken before, and there may be work or not: another thread may have called lipc_wake. -EINTR: a signal came. */
int lipc_sleep(struct lipc_endpoint *endpoint, uint64_t nanoseconds);

/* Either side. Unmaps and frees; NULL is fine. */
void lipc_endpoint_close(struct lipc_endpoint *endpoint);

/* ---- send.c ---- */

/* Producer. Takes a message, whose body is in pieces, whole or not at all: into the ring if it has room, else the rest of it is
 * copied to the outbox, and the peer is woken if it is parked. `header` is copied. `when_full` is LIPC_REFUSE, LIPC_KEEP or
 * LIPC_DROP_*; LIPC_DROP_OLDEST gives up the oldest waiting messages that were sent so on the same channel, of which no byte has
 * been written, until this one fits (the outbox is below the mark, or no larger with it than before), and this one if it does
 * not even so.
 * Returns the number of messages dropped: 0 as a rule.
 * A message larger than the ring streams: while the peer reads, this writes on, and waits up to 50 us for each room.
 * -EMSGSIZE: it is larger than lipc_limit_message allows, or the sizes of its pieces do not add up to a size. -ENOBUFS: the outbox
 * is full. -ENOMEM. -EINVAL: a kind that is 0 or has more than 16 bits, when_full, or a channel that it cannot be for. -EBADMSG: the
 * peer wrote nonsense to the ring's positions. */
int lipc_send_parts(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                    size_t count, int when_full);

/* Producer. The bytes of memory that the messages in the outbox take, without what of the first is in the ring already. */
uint64_t lipc_outbox(const struct lipc_endpoint *endpoint);

/* Producer. How many bytes the peer has taken from the ring so far, as last seen. It grows while the peer reads. */
uint64_t lipc_progress(struct lipc_endpoint *endpoint);

/* ---- receive.c ---- */

/* Consumer, after *wanted. `memory` (of exactly that many bytes) must stay until the message's record has come or
 * the endpoint is closed. -EINVAL: no message waits for memory, or another size. */
int lipc_assemble(struct lipc_endpoint *endpoint, char *memory, uint64_t size);

/* ---- buffer_pool.c ---- */

/* Anyone, in any thread. A buffer for a body of `size` bytes, aligned to 64 and not cleared; NULL: no memory. */
void *lipc_buffer_take(size_t size);

/* Anyone, in any thread. Gives a buffer back to the pool. */
void lipc_buffer_give(void *memory);

/* ---- topic.c: main only ---- */

/* A topic is a channel of an extension, with its subscribers. NULL: no memory. */
struct lipc_topic *lipc_topic_create(void);

/* Once no endpoint relays to it any more. NULL is fine. */
void lipc_topic_free(struct lipc_topic *topic);

/* Subscribes `endpoint`, which knows the channel by `number`. Its events are numbered from `sequence` + 1 on. It has to be
 * removed before it is closed. 0, -ENOMEM. */
int lipc_topic_add(struct lipc_topic *topic, struct lipc_endpoint *endpoint, uint32_t number, int when_full,
                   uint64_t sequence);

/* Unsubscribes `endpoint`. Returns the sequence number of the last event that it was sent. */
uint64_t lipc_topic_remove(struct lipc_topic *topic, const struct lipc_endpoint *endpoint);

/* The number of subscribers. */
size_t lipc_topic_count(const struct lipc_topic *topic);

/* Says whether main itself listens. If it does, lipc_recv hands the topic's events out instead of relaying them, and the caller
 * sends them on with lipc_topic_send. */
void lipc_topic_main_listens(struct lipc_topic *topic, int listens);

/* Sends an event to all subscribers, or to `only` if that is not NULL and subscribed. Each gets `header` with its own number of
 * the channel in `channel` and the event's sequence number in `correlation`. If the event has to wait for several, they share one
 * copy of it, and this waits for none of them. Returns LIPC_FAILED and LIPC_CONGESTED as they apply. A subscriber that has failed
 * is sent nothing more.
 * -ENOBUFS: nothing was sent to anybody, because main itself sends (`header` has a peer of 0), and an outbox is full of what its
 * reader has had no time to read. */
int lipc_topic_send(struct lipc_topic *topic, const struct lipc_endpoint *only, const struct lipc_header *header,
                    const struct lipc_part *parts, size_t count);

/* ---- account.c ---- */

/* An account counts what waits in several outboxes of one thread. It is full from `limit` bytes on. Unless `parent` is NULL, all
 * that it counts is counted there, too. NULL: no memory. */
struct lipc_account *lipc_account_create(uint64_t limit, struct lipc_account *parent);

/* Anyone, in any thread. Gives the caller's reference up: the account is freed once no endpoint or account uses it. NULL is
 * fine. */
void lipc_account_free(struct lipc_account *account);

/* The bytes that wait. */
uint64_t lipc_account_bytes(const struct lipc_account *account);

/* ---- wakeup.c ---- */

/* Either. A descriptor that becomes readable at lipc_timer_set's `deadline` (nanoseconds of CLOCK_MONOTONIC; 0:
 * never) and stays so until it is set again. */
int lipc_timer_create(void);
int lipc_timer_set(int fd, uint64_t deadline);

/* ---- parent_death.c ---- */

/* A child of `parent`, once. From now on the kernel kills this process `seconds` after its parent has died: SIGRTMAX starts a
 * timer. 0; -EAGAIN: no timer is left; -EINVAL, -ENOSYS, -EPERM: the platform cannot do it. */
int lipc_end_with_parent(int parent, int seconds);

#endif
