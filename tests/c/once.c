/* SPDX-License-Identifier: MIT
 *
 * Exactly once and in order: two processes, one ring, messages of random sizes, each with its number and a checksum of
 * its bytes. Usage: once [--count N] [--seed N]. Both sides know the seed, so that the reader knows each size, too.
 */

#define _GNU_SOURCE

#include "../../csrc/endpoint/endpoint.h"
#include "options.h"
#include "sleep.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define CAPACITY (4 * LIPC_CAPACITY_MIN)
#define RECORDS 256
#define WAIT_NS UINT64_C(60000000000)
#define NO_LIMIT (UINT64_MAX / 2)

static char noise[2 * CAPACITY]; /* bodies are pieces of it */

/* Small, for the most part; one in 2^10 up to a frame or two, one in 2^16 larger than the ring. */
static size_t next_size(uint64_t *state)
{
    uint64_t random = next_random(state);
    if (random % 65536 == 0)
        return (random >> 16) % (CAPACITY + CAPACITY / 2);
    if (random % 1024 == 0)
        return (random >> 16) % (CAPACITY / 2);
    return (random >> 16) % 97;
}

/* CRC-32C, eight bits at a time. */
static uint32_t checksum(const char *bytes, size_t size)
{
    static uint32_t table[256];
    uint32_t sum = UINT32_MAX;
    for (uint32_t i = 0; !table[255] && i < 256; i++) {
        uint32_t entry = i;
        for (int bit = 0; bit < 8; bit++)
            entry = entry >> 1 ^ (entry & 1 ? UINT32_C(0x82f63b78) : 0);
        table[i] = entry;
    }
    for (size_t i = 0; i < size; i++)
        sum = sum >> 8 ^ table[(sum ^ (uint8_t)bytes[i]) & 0xff];
    return ~sum;
}

static struct lipc_endpoint *open_side(int segment, int side)
{
    int error;
    struct lipc_endpoint *endpoint =
        lipc_endpoint_open(segment, side, LIPC_WAKEUP_SEMAPHORE, -1, NO_LIMIT, NO_LIMIT, &error);
    CHECK(endpoint);
    return endpoint;
}

/* Where in `noise` a body is: it moves, so that a message of the last round is not this one. */
static const char *body_of(uint64_t number)
{
    return noise + number % (CAPACITY / 2);
}

static void produce(int segment, const struct options *options)
{
    struct lipc_endpoint *endpoint = open_side(segment, LIPC_SIDE_RENDERER);
    uint64_t state = options->seed;
    for (uint64_t i = 0; i < options->count; i++) {
        size_t size = next_size(&state);
        const struct lipc_header header = {
            .correlation = i, .channel = checksum(body_of(i), size), .detail = (uint32_t)i, .pid = ~(uint32_t)i, .kind = 1};
        CHECK(lipc_send(endpoint, &header, body_of(i), size, LIPC_REFUSE) == 0);
        while (lipc_outbox_bytes(endpoint) > (i + 1 < options->count ? CAPACITY : 0)) {
            CHECK(lipc_flush(endpoint) >= 0);
            if (lipc_outbox_bytes(endpoint)) {
                int woken = sleep_until_work(endpoint, WAIT_NS);
                CHECK(woken == 1 || woken == -EINTR);
            }
        }
    }
    lipc_endpoint_close(endpoint);
}

static void consume(struct lipc_endpoint *endpoint, const struct options *options)
{
    static char buffer[4 * LIPC_INLINE], large[2 * CAPACITY];
    struct lipc_record records[RECORDS];
    uint64_t state = options->seed, bytes = 0, next = 0, alarmed = 0;
    while (next < options->count) {
        uint64_t wanted;
        int got = lipc_recv(endpoint, records, RECORDS, buffer, sizeof buffer, &wanted);
        CHECK(got >= 0);
        if (wanted) {
            CHECK(wanted <= sizeof large && lipc_assemble(endpoint, large, wanted) == 0);
            continue;
        }
        if (got == 0)
            CHECK(sleep_until_work(endpoint, WAIT_NS) == 1);
        for (int i = 0; i < got; i++, next++) {
            const struct lipc_record *record = &records[i];
            const char *body = record->offset == LIPC_ASSEMBLED ? large : buffer + record->offset;
            CHECK(record->correlation == next && record->detail == (uint32_t)next && record->pid == ~(uint32_t)next);
            CHECK(record->size == next_size(&state) && record->channel == checksum(body, record->size));
            CHECK(record->channel == checksum(body_of(next), record->size));
            bytes += record->size;
        }
        if (next >= alarmed) { /* the watchdog: this many within 100 seconds */
            (void)alarm(100);
            alarmed = next + 100000;
        }
    }
    uint64_t wanted;
    CHECK(lipc_recv(endpoint, records, RECORDS, buffer, sizeof buffer, &wanted) == 0 && wanted == 0);
    (void)printf("%" PRIu64 " messages, %" PRIu64 " bytes: each once, in order, whole\n", next, bytes);
}

int main(int argc, char **argv)
{
    struct options options = parse_options(argc, argv, 1000000);
    uint64_t state = options.seed + 1;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)next_random(&state);

    int segment = lipc_segment_create(LIPC_FORM_MEMFD, CAPACITY), status;
    struct lipc_endpoint *endpoint = open_side(segment, LIPC_SIDE_MAIN);
    double start = seconds();
    pid_t producer = fork();
    CHECK(producer >= 0);
    if (producer == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        produce(segment, &options);
        _exit(0);
    }
    consume(endpoint, &options);
    CHECK(waitpid(producer, &status, 0) == producer && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    (void)printf("%.1f s\n", seconds() - start);
    lipc_endpoint_close(endpoint);
    CHECK(close(segment) == 0);
    return 0;
}
