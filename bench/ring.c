/* SPDX-License-Identifier: MIT
 *
 * What the C core does without Python: one-way messages between two processes on two processors, none of them asleep.
 *
 *   cc -std=c11 -O2 -pthread -Icsrc -o /tmp/ring bench/ring.c csrc/ring/*.c csrc/endpoint/*.c -lrt &&
 *       /tmp/ring [CAPACITY [RUNS [SHARE]]]
 *
 * Small messages: lipc_send of each, lipc_recv of up to 256 at a time; every byte is copied in and copied out. Large
 * ones: into memory of the receiver's that is used again for each, so that no page is new to it. The best of five runs,
 * or of RUNS; with a SHARE of 10 a tenth of the messages.
 */

#define _GNU_SOURCE

#include "../csrc/fast.h"
#include "../csrc/ring/wakeup.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 256

static void pin(int processor)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        perror("not pinned");
}

static struct lipc_endpoint *open_side(int fd, int side)
{
    int error;
    /* No byte may wait: what the ring has no room for comes back, and is sent again; a stream goes on in the outbox. */
    struct lipc_endpoint *endpoint = lipc_endpoint_open(fd, side, LIPC_WAKEUP_SEMAPHORE, -1, 1, 1, &error);
    if (!endpoint) {
        (void)fprintf(stderr, "endpoint: %s\n", strerror(-error));
        exit(1);
    }
    return endpoint;
}

static void produce(struct lipc_endpoint *endpoint, const char *body, size_t size, uint64_t count)
{
    const struct lipc_header header = {.kind = 1};
    for (uint64_t i = 0; i < count;) {
        if (lipc_send(endpoint, &header, body, size, LIPC_REFUSE) == 0)
            i++;
        while (lipc_outbox_bytes(endpoint))
            if (lipc_flush(endpoint) < 0)
                exit(1);
    }
}

static void consume(struct lipc_endpoint *endpoint, char *memory, uint64_t count)
{
    static struct lipc_record records[BATCH];
    static char buffer[2 * LIPC_INLINE];
    while (count) {
        uint64_t wanted;
        int got = lipc_recv(endpoint, records, BATCH, buffer, sizeof buffer, &wanted);
        if (got < 0 || (wanted && lipc_assemble(endpoint, memory, wanted) < 0))
            exit(1);
        count -= (uint64_t)got;
    }
}

static void measure(uint32_t capacity, size_t size, uint64_t count, int runs)
{
    uint64_t best = UINT64_MAX;
    char *body = malloc(size), *memory = malloc(size);
    if (!body || !memory)
        exit(1);
    memset(body, 1, size);
    memset(memory, 1, size);
    for (int run = 0; run < runs; run++) {
        int fd = lipc_segment_create(LIPC_FORM_MEMFD, capacity);
        if (fd < 0)
            exit(1);
        pid_t child = fork();
        if (child == 0) {
            pin(1);
            struct lipc_endpoint *renderer = open_side(fd, LIPC_SIDE_RENDERER);
            produce(renderer, body, 0, 1); /* ready */
            consume(renderer, memory, count + count / 10);
            produce(renderer, body, 0, 1); /* done */
            _exit(0);
        }
        pin(0);
        struct lipc_endpoint *main_side = open_side(fd, LIPC_SIDE_MAIN);
        consume(main_side, memory, 1);
        produce(main_side, body, size, count / 10); /* warms up */
        uint64_t start = lipc_clock();
        produce(main_side, body, size, count);
        consume(main_side, memory, 1);
        uint64_t took = lipc_clock() - start;
        if (took < best)
            best = took;
        lipc_endpoint_close(main_side);
        (void)close(fd);
        if (waitpid(child, NULL, 0) != child)
            exit(1);
    }
    double seconds = (double)best / 1e9;
    (void)printf("%9zu bytes: %8.3f M messages/s %7.2f GiB/s\n", size, (double)count / seconds / 1e6,
                 (double)count * (double)size / seconds / (double)(1 << 30));
    (void)fflush(stdout);
    free(body);
    free(memory);
}

int main(int argc, char **argv)
{
    uint32_t capacity = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 0) : 1 << 20;
    int runs = argc > 2 ? atoi(argv[2]) : 5;
    uint64_t share = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    (void)printf("capacity %u\n", capacity);
    measure(capacity, 64, 10000000 / share, runs);
    measure(capacity, 1024, 2000000 / share, runs);
    measure(capacity, 64 << 10, 50000 / share, runs);
    measure(capacity, 1 << 20, 3000 / share, runs);
    measure(capacity, 16 << 20, 100 / share, runs);
    return 0;
}
