/* SPDX-License-Identifier: MIT
 *
 * A process is single-stepped through lipc_send, lipc_flush or lipc_recv, and killed. Its peer, which is this process,
 * finds what was there before or all of what is new, never a part, and can go on.
 * Usage: killed [--count N] [--seed N]. After each instruction the victim is stopped and its peer looks, whereupon
 * what the peer did is undone. Besides, victims are really killed: one at each instruction if N is large enough, else
 * some, at instructions evenly spread, in about N * 1000 steps for each thing that they do. Messages of more than a few
 * bytes from N = 100 on.
 */

#define _GNU_SOURCE

#include "../../csrc/endpoint/endpoint.h"
#include "options.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define CAPACITY LIPC_CAPACITY_MIN
#define FRAME_MAX (CAPACITY / 4 - (uint32_t)sizeof(struct lipc_frame))
#define OLD 3 /* messages that were there before, each of OLD_SIZE bytes */
#define OLD_SIZE 24
#define OLD_BYTES (OLD * lipc_frame_bytes(OLD_SIZE))
#define MOST (3 * CAPACITY / 2)
#define NO_LIMIT (UINT64_MAX / 2)

enum { SEND, FLUSH, RECEIVE };

struct death {
    int act;
    uint32_t size; /* of the message that the victim sends or takes */
    uint64_t at;   /* where in the ring it begins */
    bool parked;   /* the peer sleeps */
};

static int segment, event, ends[2];
static struct lipc_endpoint *survivor; /* main; its peer, the victim, is a renderer */
static char body[MOST];
static uint64_t looks, kills;

static void send_numbered(struct lipc_endpoint *endpoint, uint64_t number, uint32_t size)
{
    const struct lipc_header header = {.correlation = number, .channel = 2, .detail = 3, .pid = 4, .kind = 5};
    CHECK(lipc_send(endpoint, &header, body, size, LIPC_REFUSE) == 0);
}

/* Takes the next message if it is there: that with this number, whole. */
static bool takes(struct lipc_endpoint *endpoint, uint64_t number, uint32_t size)
{
    static char buffer[LIPC_INLINE], large[MOST];
    struct lipc_record record;
    uint64_t wanted;
    int got = lipc_recv(endpoint, &record, 1, buffer, sizeof buffer, &wanted);
    if (got == 0 && wanted) {
        CHECK(wanted == size && lipc_assemble(endpoint, large, wanted) == 0);
        got = lipc_recv(endpoint, &record, 1, buffer, sizeof buffer, &wanted);
    }
    if (got == 0)
        return false;
    CHECK(got == 1 && record.correlation == number && record.size == size && record.kind == 5 && record.pid == 4);
    CHECK(memcmp(record.offset == LIPC_ASSEMBLED ? large : buffer + record.offset, body, size) == 0);
    return true;
}

/* ---- the peer ---- */

/* What the peer finds: a number that only grows while the victim lives. */
static uint64_t look(const struct death *death)
{
    looks++;
    if (death->act == RECEIVE) { /* the writer sees how far the reader is, and goes on */
        uint64_t progress = lipc_bytes_taken(survivor);
        CHECK(progress - death->at <= survivor->out.write_pos - death->at);
        send_numbered(survivor, 1, 100);
        CHECK(lipc_flush(survivor) >= 0);
        return progress;
    }
    for (uint64_t i = 0; i < OLD; i++)
        CHECK(takes(survivor, i, OLD_SIZE));
    bool new = takes(survivor, OLD, death->size);
    CHECK(!takes(survivor, OLD + 1, 0));
    return new;
}

/* All that a look changes. */
struct kept {
    struct lipc_endpoint endpoint;
    uint64_t read_pos, write_pos;
    uint32_t parked[2];
};

static struct kept keep(void)
{
    struct lipc_sleeper *sleepers = survivor->mapping.segment->sleepers;
    return (struct kept){*survivor,
                         atomic_load(&survivor->in.shared->read_pos),
                         atomic_load(&survivor->out.shared->write_pos),
                         {atomic_load(&sleepers[0].parked), atomic_load(&sleepers[1].parked)}};
}

static void undo(const struct kept *kept)
{
    lipc_outbox_clear(&survivor->outbox);
    *survivor = kept->endpoint;
    atomic_store(&survivor->in.shared->read_pos, kept->read_pos);
    atomic_store(&survivor->out.shared->write_pos, kept->write_pos);
    for (int i = 0; i < 2; i++)
        atomic_store(&survivor->mapping.segment->sleepers[i].parked, kept->parked[i]);
}

/* ---- the victim ---- */

static void start_ring(struct lipc_ring *ring, uint64_t position)
{
    ring->read_pos = ring->write_pos = position;
    atomic_store(&ring->shared->read_pos, position);
    atomic_store(&ring->shared->write_pos, position);
}

static void park(bool parked)
{
    const uint32_t reasons = LIPC_PARKED_FOR_DATA | LIPC_PARKED_FOR_SPACE;
    atomic_store(&survivor->mapping.segment->sleepers[0].parked, parked ? reasons : 0);
}

/* Up to where it stops for the first time. */
static struct lipc_endpoint *get_ready(const struct death *death)
{
    int error;
    struct lipc_endpoint *me =
        lipc_endpoint_open(segment, LIPC_SIDE_RENDERER, LIPC_WAKEUP_EVENTFD, event, NO_LIMIT, NO_LIMIT, &error);
    CHECK(me);
    me->in.read_pos = me->in.write_pos = death->at;
    me->out.read_pos = me->out.write_pos = death->at - OLD_BYTES;
    for (uint64_t i = 0; death->act != RECEIVE && i < OLD; i++)
        send_numbered(me, i, OLD_SIZE);
    if (death->act == FLUSH) { /* the ring is full when the message is sent, and then there is room */
        uint64_t read = atomic_load(&me->out.shared->read_pos);
        me->out.read_pos = me->out.write_pos - CAPACITY;
        atomic_store(&me->out.shared->read_pos, me->out.read_pos);
        send_numbered(me, OLD, death->size);
        CHECK(lipc_outbox_bytes(me) == lipc_weight(death->size));
        atomic_store(&me->out.shared->read_pos, read);
    }
    return me;
}

static _Noreturn void be_victim(const struct death *death)
{
    CHECK(close(ends[0]) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    struct lipc_endpoint *me = get_ready(death);
    (void)kill(getpid(), SIGSTOP);
    switch (death->act) {
    case SEND: send_numbered(me, OLD, death->size); break;
    case FLUSH: CHECK(lipc_flush(me) >= 0); break;
    case RECEIVE: CHECK(takes(me, 0, death->size));
    }
    (void)kill(getpid(), SIGSTOP);
    _exit(0);
}

/* A victim before its first step. */
static pid_t start(const struct death *death)
{
    int status;
    uint64_t ignored;
    (void)alarm(100);
    lipc_outbox_clear(&survivor->outbox);
    survivor->assembly = (struct lipc_assembly){0};
    memset(survivor->mapping.rings[0], 0xee, CAPACITY);
    memset(survivor->mapping.rings[1], 0xee, CAPACITY);
    start_ring(&survivor->in, death->at - OLD_BYTES);
    start_ring(&survivor->out, death->at);
    (void)!read(event, &ignored, sizeof ignored);
    park(false);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    survivor->wakeup.fd = ends[0];
    if (death->act == RECEIVE)
        send_numbered(survivor, 0, death->size);

    pid_t victim = fork();
    CHECK(victim >= 0);
    if (victim == 0)
        be_victim(death);
    CHECK(close(ends[1]) == 0);
    CHECK(waitpid(victim, &status, 0) == victim && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
    park(death->parked);
    return victim;
}

/* One instruction; false when the victim is through. */
static bool step(pid_t victim)
{
    int status;
    CHECK(ptrace(PTRACE_SINGLESTEP, victim, 0, 0) == 0);
    CHECK(waitpid(victim, &status, 0) == victim && WIFSTOPPED(status));
    CHECK(WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP);
    return WSTOPSIG(status) == SIGTRAP;
}

/* Its death is told by the kernel: a peer that no signal has woken is woken by this. */
static void finish(pid_t victim)
{
    int status;
    char byte;
    CHECK(kill(victim, SIGKILL) == 0 && waitpid(victim, &status, 0) == victim && WIFSIGNALED(status));
    ssize_t got = recv(ends[0], &byte, 1, MSG_DONTWAIT);
    CHECK(got == 0 || (got < 0 && errno == ECONNRESET));
    CHECK(close(ends[0]) == 0);
}

/* The peer looks after each instruction. Returns how many there are. */
static uint64_t stop_everywhere(const struct death *death)
{
    uint64_t steps = 0, seen = 0;
    pid_t victim = start(death);
    do {
        struct kept kept = keep();
        uint64_t sees = look(death);
        undo(&kept);
        CHECK(steps == 0 || sees >= seen);
        seen = sees;
        if (++steps % 1000 == 0)
            (void)alarm(100);
    } while (step(victim));
    if (death->act == RECEIVE)
        CHECK(seen == survivor->out.write_pos);
    else /* what the ring cannot hold is there in part, and so not at all */
        CHECK(seen == (death->size <= 3 * CAPACITY / 4));
    finish(victim);
    return steps;
}

static void die(struct death death, const struct options *options)
{
    static const char *const acts[] = {"lipc_send", "lipc_flush", "lipc_recv"};
    uint64_t state = options->seed, before = kills;
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 7 + (i >> 8) + death.size);
    uint64_t steps = stop_everywhere(&death);
    uint64_t stride = options->count * 1000 / steps;
    stride = stride > steps ? 1 : stride ? (steps + stride - 1) / stride : steps;
    for (uint64_t at = next_random(&state) % stride; at < steps; at += stride) {
        pid_t victim = start(&death);
        for (uint64_t i = 0; i < at; i++)
            CHECK(step(victim));
        finish(victim);
        (void)look(&death);
        kills++;
    }
    (void)printf("%s of %u bytes at %#" PRIx64 "%s: %" PRIu64 " instructions, killed at %" PRIu64 "\n",
                 acts[death.act], death.size, death.at, death.parked ? ", peer asleep" : "", steps, kills - before);
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv, 20);
    int error;
    cpu_set_t one; /* a step that need not wake another processor is far cheaper */
    CPU_ZERO(&one);
    CPU_SET((size_t)sched_getcpu(), &one);
    CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
    segment = lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY);
    event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    survivor = lipc_endpoint_open(segment, LIPC_SIDE_MAIN, LIPC_WAKEUP_SOCKET, -1, NO_LIMIT, NO_LIMIT, &error);
    CHECK(segment >= 0 && event >= 0 && survivor);

    const bool thorough = options.count >= 100;
    const uint64_t turn = 5 * (uint64_t)CAPACITY;
    const uint32_t sizes[] = {1000, FRAME_MAX, FRAME_MAX + 1, LIPC_INLINE, MOST};
    for (int act = SEND; act <= RECEIVE; act++) {
        /* In the middle, and with the ring's end before, in and after the header, in the body, and after the frame. */
        const uint64_t small[] = {turn + 4096, turn - 8, turn - 40, turn - 24, turn - 48, 0};
        for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
            for (int parked = 0; parked < (i == 0 || thorough ? 2 : 1); parked++)
                die((struct death){act, i == 1 ? 0 : 8, small[i], parked}, &options);
        for (size_t i = 0; thorough && i < sizeof sizes / sizeof sizes[0] - (act == RECEIVE); i++)
            die((struct death){act, sizes[i], turn - sizes[i] / 2 / 8 * 8, i % 2 == 0}, &options);
    }
    (void)printf("%" PRIu64 " looks, %" PRIu64 " kills\n", looks, kills);
    lipc_endpoint_close(survivor);
    CHECK(close(segment) == 0 && close(event) == 0);
    return 0;
}
