/* SPDX-License-Identifier: MIT
 *
 * What the C tests share: a check, a runner with a watchdog, a seeded generator.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            (void)fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #condition); \
            abort();                                                                          \
        }                                                                                     \
    } while (0)

/* Runs a test function, whose name says what it shows. One that hangs is killed by SIGALRM. */
#define RUN(test)                  \
    do {                           \
        (void)printf("%s\n", #test); \
        (void)fflush(stdout);      \
        (void)alarm(100);          \
        test();                    \
        (void)alarm(0);            \
    } while (0)

/* splitmix64 */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

#endif
