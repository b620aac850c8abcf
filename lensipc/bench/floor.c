/* SPDX-License-Identifier: MIT
 *
 * A cache line that goes back and forth between two processors, neither of them asleep: nanoseconds one way.
 *
 *   cc -std=c11 -O2 -pthread -o floor floor.c && ./floor ROUNDS PROCESSOR PROCESSOR
 */

#define _GNU_SOURCE

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static _Alignas(64) _Atomic uint64_t turn;
static uint64_t rounds;
static int processors[2];

static void *play(void *argument)
{
    uint64_t mine = (uint64_t)(uintptr_t)argument;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(processors[mine], &set);
    (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    for (uint64_t i = mine; i < 2 * rounds; i += 2) {
        while (atomic_load_explicit(&turn, memory_order_acquire) != i)
            ;
        atomic_store_explicit(&turn, i + 1, memory_order_release);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    rounds = strtoull(argv[1], NULL, 10);
    processors[0] = atoi(argv[2]);
    processors[1] = atoi(argv[3]);
    struct timespec begin, end;
    pthread_t other;
    (void)clock_gettime(CLOCK_MONOTONIC, &begin);
    if (pthread_create(&other, NULL, play, (void *)(uintptr_t)1))
        return 1;
    (void)play(NULL);
    (void)pthread_join(other, NULL);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    double took = (double)(end.tv_sec - begin.tv_sec) * 1e9 + (double)(end.tv_nsec - begin.tv_nsec);
    (void)printf("%.1f\n", took / (double)(2 * rounds));
    return 0;
}
