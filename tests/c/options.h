/* SPDX-License-Identifier: MIT
 *
 * What a program that can run long is told: --count N of what it does, --seed N of its randomness. It prints both, so
 * that a run can be repeated.
 */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "check.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

struct options {
    uint64_t count;
    uint64_t seed;
};

/* Without --seed, one of its own for each run. */
static inline struct options parse_options(int argc, char **argv, uint64_t count)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    struct options options = {.count = count, .seed = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000};
    for (int i = 1; i < argc; i += 2) {
        CHECK(i + 1 < argc && (strcmp(argv[i], "--count") == 0 || strcmp(argv[i], "--seed") == 0));
        *(argv[i][2] == 'c' ? &options.count : &options.seed) = strtoull(argv[i + 1], NULL, 10);
    }
    const char *name = strrchr(argv[0], '/');
    (void)printf("%s --count %" PRIu64 " --seed %" PRIu64 "\n", name ? name + 1 : argv[0], options.count,
                 options.seed);
    (void)fflush(stdout);
    return options;
}

/* Seconds since some time. */
static inline double seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
