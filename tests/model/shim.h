/* SPDX-License-Identifier: MIT
 *
 * Compiled before each source of the core (cc -include): from here on its atomics, copies, allocations, clocks and
 * signals are the explorer's. An operation that is not listed here stays what it was, and test_model.py finds it.
 */
#ifndef SHIM_H
#define SHIM_H

#define _GNU_SOURCE

#include "explorer.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_fetch_or_explicit
#undef atomic_fetch_add_explicit
#undef atomic_exchange_explicit
#undef atomic_thread_fence
#define atomic_load_explicit(object, order) model_load(object, sizeof *(object), order, __FILE__, __LINE__)
#define atomic_store_explicit(object, value, order) model_store(object, sizeof *(object), value, order, __FILE__, __LINE__)
#define atomic_fetch_or_explicit(object, bits, order) model_or(object, sizeof *(object), bits, order, __FILE__, __LINE__)
#define atomic_fetch_add_explicit(object, value, order) \
    model_add(object, sizeof *(object), value, order, __FILE__, __LINE__)
#define atomic_exchange_explicit(object, value, order) \
    model_exchange(object, sizeof *(object), value, order, __FILE__, __LINE__)
#define atomic_thread_fence(order) model_fence(order, __FILE__, __LINE__)

#undef memcpy
#define memcpy(to, from, size) model_copy(to, from, size)
#define malloc(size) model_allocate(size)
#define calloc(count, size) model_allocate((count) * (size))
#define free(memory) model_free(memory)

/* Signals: a descriptor is the address that the scenario gave as its number. Of the system calls made by syscall(), the
 * scenarios come to futex only. */
#define syscall(number, ...) ((void)(number), model_futex(__VA_ARGS__))
#define write(fd, bytes, size) (model_signal((const void *)(intptr_t)(fd)), (void)(bytes), (ssize_t)(size))
#define send(fd, bytes, size, flags) (model_signal((const void *)(intptr_t)(fd)), (ssize_t)(size))

#define clock_gettime(clock, now) (*(now) = (struct timespec){.tv_sec = (time_t)model_clock()}, 0)
#define sched_yield() model_yield()

#endif
