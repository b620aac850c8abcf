/* SPDX-License-Identifier: MIT
 *
 * The interface of the C core. This file has plain declarations only, because build.py passes it to cffi. The functions
 * that every message and every wait needs are in fast.h. They are bound by hand, not by cffi.
 *
 *   ring/layout.h             the bytes of a segment                                    no code
 *   ring/ring.c               a one-way ring of frames in memory given to it            no system call
 *   ring/wakeup.c             the parked flags; eventfd, socket and semaphore           system calls
 *   ring/segment.c            shared memory made, sealed, mapped twice, checked         system calls
 *   endpoint/buffer_pool.c    buffers for large bodies, kept and reused                 system calls
 *   endpoint/outbox.c         messages that wait until the ring has room                malloc
 *   endpoint/account.c        the bytes that wait in several outboxes together          malloc
 *   endpoint/endpoint.c       two rings, an outbox and a wakeup as one side of a pair
 *   endpoint/send.c           turns messages into frames
 *   endpoint/receive.c        turns frames into messages; relays events to subscribers
 *   endpoint/topic.c          the subscribers of a channel                              malloc
 *   endpoint/slabs.c          memory for large events that several renderers read       system calls
 *   endpoint/holds.c          what each renderer holds of it                            malloc
 *   endpoint/mapped_slabs.c   the same memory in a renderer                             system calls
 *   endpoint/views.c          blocks of it that are read in place                       system calls
 *   endpoint/parent_death.c   kills a renderer some time after its main has died        system calls
 *
 * clone/ writes and reads values. python/ has the Python functions for fast.h and clone/.
 *
 * Words. A segment is one shared-memory object. It holds two rings: main writes one, and the renderer writes the other.
 * A frame is a header and bytes in a ring. A message is one frame, or several frames if it is larger than one frame. Of
 * each ring, the producer is the side that writes it, and the consumer is the side that reads it.
 *
 * Rules. Every function that can fail returns 0 or a positive number on success, and -errno on failure. No function
 * changes the caller's errno, prints or aborts. Only lipc_busy_poll and lipc_sleep block. A function that sends may wait for
 * moments, where its comment says so. An endpoint belongs to one thread at a time. The peer can change anything in a
 * segment at any instant. So each value there is loaded once and checked in a private copy, and only the copy is used.
 */
#ifndef LENSIPC_H
#define LENSIPC_H

#include <stddef.h>
#include <stdint.h>

#define LIPC_VERSION 7

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

/* What happens to a message when the outbox is full. */
#define LIPC_REFUSE 0
#define LIPC_DROP_OLDEST 1
#define LIPC_DROP_NEWEST 2
#define LIPC_KEEP_NEWEST 3 /* a message that must wait takes the place of those of its channel that wait already */
#define LIPC_KEEP 4 /* the message waits anyway: only for the few messages that must never be lost */

/* A channel whose messages are sent with LIPC_DROP_OLDEST or LIPC_KEEP_NEWEST must have a number below this. Each such
 * channel has a queue. */
#define LIPC_CHANNELS 16384

/* A body of at least this many bytes is copied straight into memory that its receiver provides. */
#define LIPC_INLINE 32768

/* A body of at least this many bytes goes into a buffer of the pool. */
#define LIPC_POOLED 1048576

/* A body of at least this many bytes may go into a block of a slab. Below, it is quicker through the rings. */
#define LIPC_BLOCK_LEAST 65536

/* Bytes in front of a loan's array, for what comes before the array in a message. */
#define LIPC_LOAN_HEAD 4096

/* The default budget for reading a message: what its keys and constructors may cost, in units of 10 ns (clone/). */
#define LIPC_BUDGET 5000000

/* LIPC_EVENT is lipc_header.kind of an event. LIPC_ALL is lipc_header.detail of an event for all subscribers. Main relays
 * such an event without reading it. */
#define LIPC_EVENT 1
#define LIPC_ALL 4294967295

/* Bits of the status that is returned when an event is sent to all subscribers. */
#define LIPC_FAILED 1    /* a subscriber must be disconnected: see lipc_failure */
#define LIPC_CONGESTED 2 /* more than high_water bytes wait for a subscriber */
#define LIPC_WANTS_SLAB 4 /* a slab is missing: see lipc_slabs_wanted, lipc_offer_slab */

/* What lipc_send_in_block returns if the message was sent. */
#define LIPC_IN_BLOCK 1

struct lipc_account;
struct lipc_endpoint;
struct lipc_holds;
struct lipc_slabs;
struct lipc_topic;

/* All that is sent with a message's body. lensipc/runtime/protocol.py defines what the fields mean. */
struct lipc_header {
    uint64_t correlation;
    uint32_t channel;
    uint32_t detail;
    uint32_t pid;
    uint32_t kind;
};

/* A slab, as it is used. */
struct lipc_slab_state {
    uint64_t size;
    uint64_t taken;  /* bytes in blocks that somebody holds */
    uint64_t blocks; /* that somebody holds */
    uint64_t uses;   /* blocks that were ever taken */
    uint64_t loans;  /* blocks that main has on loan */
    uint64_t lent;   /* bytes in these */
    uint64_t oldest; /* how long main has had the oldest of these, in ns */
};

/* A piece of a message's body. */
struct lipc_part {
    const char *data;
    size_t size;
};

/* ---- segment.c ---- */

/* Called by main. Does not block. Makes a segment for two rings of `capacity` data bytes each and reserves all of its
 * pages. `capacity` is a power of two, from 64 KiB to 1 GiB. Returns a close-on-exec descriptor. When this returns, no
 * part of the segment has a name.
 * -EINVAL: capacity or form. -ENOMEM, -ENOSPC: no memory for it. -EMFILE, -ENFILE: no descriptor for it. */
int lipc_segment_create(int form, uint32_t capacity);

/* ---- endpoint.c ---- */

/* Called once by each side. Does not block. Maps the segment `fd` and returns this side's endpoint. `fd` may be closed
 * afterwards. On failure returns NULL with -errno in *error: -EPROTO if `fd` is not a segment of this version, -EINVAL
 * for `side` or `wakeup`, -ENOMEM, or another -errno.
 * `wakeup` says how the peer is woken. An eventfd or a socket is named by `wakeup_fd`, which stays the caller's and
 * must outlive the endpoint. With the segment's semaphore, `wakeup_fd` is -1.
 * A LIPC_REFUSE message is refused while at least `limit` bytes wait in the outbox. LIPC_DROP_* drop messages while at
 * least `high_water` bytes wait there. The outbox's first message is not counted, because it is on its way. */
struct lipc_endpoint *lipc_endpoint_open(int fd, int side, int wakeup, int wakeup_fd, uint64_t high_water,
                                         uint64_t limit, int *error);

/* Called by main, once, before it sends. Does not block. From now on what waits in this outbox also counts in
 * `account`. This outbox is full while the account or one of its parents is at its limit. The outbox's first message is
 * not counted here, because it is on its way. Returns 0, or -EINVAL if a message waits already or there is an account
 * already. */
int lipc_set_account(struct lipc_endpoint *endpoint, struct lipc_account *account);

/* Called by either side, before it sends. Does not block. From now on a message of more than `most` bytes is refused,
 * because the peer would not accept it. LIPC_KEEP messages are not refused. Without this call no message is too
 * large. */
void lipc_limit_message(struct lipc_endpoint *endpoint, uint64_t most);

/* Called by main. Does not block. Says whether the peer has had enough time to read what waits. If this outbox is full
 * and `late` is set, the peer is disconnected. If the outbox is full and `late` is not set, the sender gets an
 * error. */
void lipc_set_late(struct lipc_endpoint *endpoint, int late);

/* Called by any thread of this process, while the endpoint is open. Does not block. Ends this side's current
 * lipc_sleep, or its next one. */
void lipc_wake_self(struct lipc_endpoint *endpoint);

/* Called by main. Does not block. If a topic's event could not be sent to this endpoint, returns the error of
 * lipc_send_parts. Otherwise returns 0. */
int lipc_failure(const struct lipc_endpoint *endpoint);

/* Called by main. Does not block. From now on events for LIPC_ALL that come from `endpoint` on channel `number` are
 * relayed to `topic`. Subscribers see them as events of `peer` and `pid`. `number` must be the next channel without a
 * topic. Returns 0, -ENOMEM, or -EINVAL for another number. */
int lipc_relay(struct lipc_endpoint *endpoint, uint32_t number, struct lipc_topic *topic, uint32_t sender, uint32_t pid);

/* Called by the consumer. Does not block. From now on nothing that comes from `endpoint` is relayed: lipc_recv hands
 * out all of its events. */
void lipc_stop_relaying(struct lipc_endpoint *endpoint);

/* Called by the consumer. Does not block. Events will come on channel `number`. `number` is the next channel; for an
 * earlier channel nothing changes. From now on the record of each such event has in `correlation` how many events are
 * missing before it. The record's `follows` is set if no event is missing and the event has the same peer as the event
 * before it on this channel. Returns 0, -ENOMEM, or -EINVAL for another number. */
int lipc_count_gaps(struct lipc_endpoint *endpoint, uint32_t number);

/* What lipc_sleep returns if it was woken. */
#define LIPC_WOKEN 2

/* Called by a consumer whose wakeup is LIPC_WAKEUP_SEMAPHORE. Blocks: parks this side and sleeps until there is work.
 * Returns 1 if there is work, and 0 after `nanoseconds`. Returns LIPC_WOKEN if it was woken before that: there may be
 * work or not, because another thread may have called lipc_wake_self. Returns -EINTR if a signal handler ran. */
int lipc_sleep(struct lipc_endpoint *endpoint, uint64_t nanoseconds);

/* Called by either side. Does not block. Unmaps the segment and frees the endpoint. NULL is allowed. */
void lipc_endpoint_close(struct lipc_endpoint *endpoint);

/* ---- send.c ---- */

/* Called by the producer. Sends a message, whole or not at all. `header` is copied. `parts` are the `count` pieces of
 * the body. The message goes into the ring as far as the ring has room. The rest of it is copied to the outbox. The
 * peer is woken if it is parked.
 * Blocks only while a message larger than the ring streams: the peer reads while this function writes, and this
 * function waits up to 50 us for the room for each frame, and 1 ns for each 20 bytes of the message in all; and once as
 * long, and 200 us, for what waits before it.
 * `when_full` is LIPC_REFUSE, LIPC_KEEP or LIPC_DROP_*. LIPC_DROP_OLDEST drops the oldest waiting messages that were
 * sent with LIPC_DROP_OLDEST on the same channel, until the new message fits. A message with bytes in the ring is not
 * dropped. The new message fits if the outbox is below the mark, or is no larger with the new message than before. If
 * the new message still does not fit, it is dropped too.
 * Returns the number of dropped messages, which is mostly 0.
 * -EMSGSIZE: the message is larger than lipc_limit_message allows, or the sum of the pieces' sizes overflows. -ENOBUFS:
 * the outbox is full. -ENOMEM. -EINVAL: `when_full`, a kind that is 0 or has more than 16 bits, or a channel that is
 * too large for LIPC_DROP_OLDEST. -EBADMSG: the peer wrote an impossible value to the ring's positions. */
int lipc_send_parts(struct lipc_endpoint *endpoint, const struct lipc_header *header, const struct lipc_part *parts,
                    size_t count, int when_full);

/* Called by main. Does not block. Sends a message to a renderer that reads it in place: it lies in a block of `slabs`, which
 * no other renderer has. Returns LIPC_IN_BLOCK. If it was not sent, returns 0, because its size is none for a block or the
 * renderer may hold no more, or LIPC_WANTS_SLAB. -ENOBUFS: the outbox is full. -EBADMSG, -ENOMEM, -EINVAL: as
 * lipc_send_parts. */
int lipc_send_in_block(struct lipc_endpoint *endpoint, struct lipc_slabs *slabs, const struct lipc_header *header,
                       const struct lipc_part *parts, size_t count);

/* Called by the producer. Does not block. Returns the bytes of memory that the messages in the outbox take, less the
 * bytes of the first message that are in the ring already. If the peer has left so much unread in the slabs that senders
 * should wait, that counts, too. */
uint64_t lipc_outbox_bytes(const struct lipc_endpoint *endpoint);

/* Called by the producer. Does not block. Returns how many bytes the peer has taken from the ring so far, and how many it
 * has read in slabs, as last seen. The number grows while the peer reads. */
uint64_t lipc_bytes_taken(struct lipc_endpoint *endpoint);

/* ---- receive.c ---- */

/* Called by the consumer, after lipc_recv has set *wanted to `size`. Does not block. Gives the memory that the message
 * is assembled in. `memory` has exactly `size` bytes. It must stay until the message's record has come or the endpoint
 * is closed. Returns 0, or -EINVAL if no message waits for memory or `size` is wrong. */
int lipc_assemble(struct lipc_endpoint *endpoint, char *memory, uint64_t size);

/* ---- buffer_pool.c ---- */

/* Called by any thread. Does not block. Returns a buffer for a body of `size` bytes, or NULL if there is no memory. The
 * buffer is aligned to 64 bytes and is not cleared. */
void *lipc_buffer_take(size_t size);

/* Called by any thread. Does not block. Gives a buffer of lipc_buffer_take back to the pool. */
void lipc_buffer_give(void *memory);

/* Called by any thread. Does not block, but for the copying. Copies so many pieces to `to`, one behind the other. */
void lipc_join(const struct lipc_part *parts, size_t pieces, char *to);

/* ---- topic.c: main only ---- */

/* Called by main. Does not block. Makes a topic: a channel of an extension, with its subscribers. Returns NULL if there
 * is no memory. */
struct lipc_topic *lipc_topic_create(void);

/* Called by main. Does not block. Frees a topic that no endpoint relays to any more. NULL is allowed. */
void lipc_topic_free(struct lipc_topic *topic);

/* Called by main. Does not block. Subscribes `endpoint`, which knows the channel by `number`. The endpoint's events are
 * numbered from `sequence` + 1 on. The endpoint must be removed before it is closed. Returns 0 or -ENOMEM. */
int lipc_topic_add(struct lipc_topic *topic, struct lipc_endpoint *endpoint, uint32_t number, int when_full,
                   uint64_t sequence);

/* Called by main. Does not block. Unsubscribes `endpoint`. Returns the sequence number of the last event that was sent
 * to this endpoint, or 0 if it was not subscribed. */
uint64_t lipc_topic_remove(struct lipc_topic *topic, const struct lipc_endpoint *endpoint);

/* Called by main. Does not block. Says whether this subscriber reads large events in place. Then they lie in slabs even
 * if it is the only one. */
void lipc_topic_view(struct lipc_topic *topic, const struct lipc_endpoint *endpoint, int views);

/* Called by main. Does not block. Returns the number of subscribers. */
size_t lipc_topic_count(const struct lipc_topic *topic);

/* Called by main. Does not block. Says whether main itself listens. If main listens, lipc_recv hands out the topic's
 * events and does not relay them. The caller then sends them on with lipc_topic_send. */
void lipc_topic_main_listens(struct lipc_topic *topic, int listens);

/* Called by main. Sends an event to all subscribers, or only to `only` if it is subscribed and not NULL. Each
 * subscriber gets `header` with its own number of the channel in `channel` and with the event's sequence number in
 * `correlation`. If the event must wait for several subscribers, they share one copy of it. A subscriber that has
 * failed is sent nothing more.
 * Does not block if there are several receivers. For one receiver it may wait as lipc_send_parts does. Returns the bits
 * LIPC_FAILED and LIPC_CONGESTED.
 * -ENOBUFS: nothing was sent to anybody. Main itself sends (`header` has a peer of 0), and an outbox is full of what
 * its reader has had no time to read. */
int lipc_topic_send(struct lipc_topic *topic, const struct lipc_endpoint *only, const struct lipc_header *header,
                    const struct lipc_part *parts, size_t count);

/* Called by main. Does not block. From now on large events for several subscribers, or for one that reads in place, lie in
 * these slabs, where there is room and the subscribers have them. */
void lipc_topic_use_slabs(struct lipc_topic *topic, struct lipc_slabs *slabs);

/* ---- slabs.c: main only ---- */

/* Called by main. Does not block. Makes an empty set of slabs for bodies of at most `most` bytes. Returns NULL if there
 * is no memory. */
struct lipc_slabs *lipc_slabs_create(uint64_t most);

/* Called by any thread, once nothing in main has a loan of these slabs. Does not block. Drops the caller's reference. The
 * slabs are unmapped when no topic uses them and nobody holds a block of them any more. NULL is allowed. */
void lipc_slabs_free(struct lipc_slabs *slabs);

/* Called by main. Does not block. Makes one more slab, of whole pages, with a number that no other slab had. Returns
 * 0. -EINVAL: `size`, or a kernel without F_SEAL_FUTURE_WRITE. -ENOMEM, -ENOSPC, -EMFILE, or another -errno. */
int lipc_slab_add(struct lipc_slabs *slabs, uint32_t number, uint64_t size);

/* Called by main. Does not block. Returns the close-on-exec descriptor of a slab, which stays the slab's; or -1. */
int lipc_slab_fd(struct lipc_slabs *slabs, uint32_t number);

/* Called by main. Does not block. Returns 0 if no other process has the slab's file open or mapped, and 1 if one may: the
 * kernel grants a lease to write only where nobody else has the file open, and a mapping keeps a file open. Who has it as
 * O_PATH alone, or its pages in a pipe, is not seen. */
int lipc_slab_is_had(struct lipc_slabs *slabs, uint32_t number);

/* Called in a fork of main. Does not block. Closes all slabs' descriptors, and unmaps nothing. Where main has loans there are
 * zeros here, and memory of the child's own. */
void lipc_slabs_disown(struct lipc_slabs *slabs);

/* Called by main. Does not block. Unmaps a slab and closes its descriptor. Returns 0, -EBUSY while somebody holds a block
 * of it, or -EINVAL if there is none of this number. */
int lipc_slab_remove(struct lipc_slabs *slabs, uint32_t number);

/* Called by main. Does not block. Gives the state of a slab. Returns 0, or -EINVAL if there is none of this number. */
int lipc_slab_look(struct lipc_slabs *slabs, uint32_t number, struct lipc_slab_state *state);

/* Called by main. Does not block. Returns the size of the largest body for which there was no room since the last call or
 * the last lipc_slab_add, or 0. */
uint64_t lipc_slabs_wanted(struct lipc_slabs *slabs);

/* ---- holds.c: main only ---- */

/* Called by main, before it gives a slab's descriptor to the renderer. Does not block. Returns the id of the hold by which
 * the renderer says that it has mapped the slab. Only then is it sent places there. -ENOBUFS: it has too many. -EINVAL:
 * it was offered this one. -ENOMEM. */
int64_t lipc_offer_slab(struct lipc_endpoint *endpoint, uint32_t slab);

/* Called by main. Does not block. The renderer is sent no more places in this slab. If the offer did not reach it, `unsent`
 * is the offer's hold, which ends. Otherwise `unsent` is 0. */
void lipc_withdraw_slab(struct lipc_endpoint *endpoint, uint32_t slab, uint64_t unsent);

/* Called by main. Does not block. Ends the holds that the renderer has returned. Returns 0, or -EBADMSG if it has returned
 * what it does not hold. lipc_flush does this, too. */
int lipc_collect(struct lipc_endpoint *endpoint);

/* Called by main. Does not block. Returns how many bytes of blocks the renderer holds, as last collected. */
uint64_t lipc_held_bytes(const struct lipc_endpoint *endpoint);

/* Called by main. Does not block. Returns how many messages went through the ring to a renderer that has slabs, though a
 * block could have had them. */
uint64_t lipc_by_ring(const struct lipc_endpoint *endpoint);

/* Called by main. Does not block. Returns for how many ns the renderer has held the oldest of these blocks, or 0. */
uint64_t lipc_held_time(const struct lipc_endpoint *endpoint);

/* Called by main, before it closes the endpoint of a renderer that may go on to read. Does not block. Drops what waits in
 * the outbox. Sets *left to what the renderer holds, which lipc_endpoint_close then leaves alone. Does nothing if *left is
 * set already, and sets nothing if the renderer holds nothing. */
void lipc_leave_holds(struct lipc_endpoint *endpoint, struct lipc_holds **left);

/* Called by main. Does not block. Returns how many bytes of blocks these are. NULL is allowed. */
uint64_t lipc_holds_bytes(const struct lipc_holds *holds);

/* Called by main. Does not block. Returns for how many ns the oldest of these blocks is held, or 0. NULL is allowed. */
uint64_t lipc_holds_time(const struct lipc_holds *holds);

/* Called by main, when the renderer has hung up. Does not block. Ends all holds, frees them, and sets *left to NULL. */
void lipc_end_holds(struct lipc_holds **left);

/* ---- mapped_slabs.c: renderers only ---- */

/* Called by a renderer. Does not block. Receives a datagram of at most `size` bytes into `data`, and maps the slab whose
 * descriptor came with it: in one call, so that no signal's handler can lose the descriptor. *mapped is what lipc_slab_map
 * returns, or -EMFILE if no descriptor came. Returns the datagram's size, 0 at the end of file, or -errno. */
int64_t lipc_slab_receive(struct lipc_endpoint *endpoint, int sock, uint32_t number, uint64_t hold, char *data,
                          uint64_t size, int *mapped);

/* Called by a renderer. Does not block. Unmaps a slab, if it is mapped; the memory stays until no view of it is left.
 * Returns 0, or -EBUSY while a body is copied out of it. */
int lipc_slab_unmap(struct lipc_endpoint *endpoint, uint32_t number);

/* ---- views.c: renderers only ---- */

/* Called by a renderer, before it receives. Does not block. Names the socket by which main sees that this renderer has hung
 * up. It stays the caller's. */
void lipc_set_socket(struct lipc_endpoint *endpoint, int fd);

/* Called by a renderer. Does not block. Says whether large events of channel `number`, of which gaps are counted, are
 * read in place. */
void lipc_view_channel(struct lipc_endpoint *endpoint, uint32_t number, int views);

/* ---- account.c ---- */

/* Called by main. Does not block. Makes an account, which counts the bytes that wait in several outboxes of one thread.
 * The account is full from `limit` bytes on. Unless `parent` is NULL, the bytes also count in `parent`. Returns NULL if
 * there is no memory. */
struct lipc_account *lipc_account_create(uint64_t limit, struct lipc_account *parent);

/* Called by any thread. Does not block. Drops the caller's reference. The account is freed when no endpoint and no
 * account uses it any more. NULL is allowed. */
void lipc_account_free(struct lipc_account *account);

/* Called by main. Does not block. Returns the number of bytes that wait. */
uint64_t lipc_account_bytes(const struct lipc_account *account);

/* ---- wakeup.c ---- */

/* Called by either side. Does not block. Returns a descriptor that becomes readable at the deadline of lipc_timer_set
 * and stays readable until it is set again. Returns -errno on failure. */
int lipc_timer_create(void);

/* Called by either side. Does not block. Sets the time at which `fd` becomes readable, in nanoseconds of
 * CLOCK_MONOTONIC. With a `deadline` of 0 it never does. Returns 0 or -errno. */
int lipc_timer_set(int fd, uint64_t deadline);

/* ---- parent_death.c ---- */

/* Called once, by a child of `parent`. Does not block. From now on the kernel kills this process `seconds` after its
 * parent has died: the parent's death sends SIGRTMAX, which starts a timer. Returns 0. -EAGAIN: no timer is left.
 * -EINVAL, -ENOSYS, -EPERM: the platform cannot do it. */
int lipc_end_with_parent(int parent, int seconds);

#endif
