/* SPDX-License-Identifier: MIT
 *
 * Runs the shipped C core as two threads in every order that C11's memory model lets them be seen, and finds races,
 * lost wakes and wrong frames.
 *
 * The memory is that of the "promising" semantics without promises (RC11 less its treatment of plain accesses): an
 * atomic variable is the list of all values ever stored to it, in modification order; a thread has a view, which is
 * how far along each list it is bound to look, and may be given any value from there on, however stale; a store may
 * go anywhere in the list behind its thread's view, a read-modify-write right behind what it has read. A release
 * hands the thread's view on with the value, an acquire takes it over, and seq_cst fences join one view that is common
 * to all. Bytes of a ring are plain memory: two accesses of which neither happens before the other are a race, and
 * an error. A signal (semaphore, eventfd, socket) is given no order of memory at all, so none is relied on.
 *
 * A state is explored once, however it was reached, and all of them are.
 *
 * What is trusted: this model, and that processors and compilers keep to it. It has no load buffering: no load
 * is given a value that is stored only after it in the order of execution. Two states are taken for one when 64 bits
 * of hash agree.
 */
#ifndef EXPLORER_H
#define EXPLORER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- what the shim puts in the place of C11's atomics, memcpy, malloc and the system calls; delays.c has other bodies
 * for them ---- */

uint64_t model_load(const volatile void *object, size_t size, memory_order order, const char *file, int line);
void model_store(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file, int line);
uint64_t model_or(volatile void *object, size_t size, uint64_t bits, memory_order order, const char *file, int line);
uint64_t model_add(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file, int line);
uint64_t model_exchange(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file,
                        int line);
void model_fence(memory_order order, const char *file, int line);
void *model_copy(void *to, const void *from, size_t size);
void *model_allocate(size_t size);
void model_free(void *memory);
uint64_t model_clock(void);
int model_yield(void); /* an hour passes */

/* A signal, told by the address that it is sent to. A wait takes all that there are; it returns false when it was
 * interrupted. */
void model_signal(const void *where);
bool model_wait(const void *where);

/* FUTEX_WAKE; FUTEX_WAIT_BITSET for as long as the word is 0. */
long model_futex(const volatile void *word, ...);

/* ---- what scenarios are made of ---- */

/* Plain memory touched by the running thread, other than by memcpy to or from the ring. */
void model_touch(const void *at, size_t size, bool writes);

/* Whether the other thread is dead or done: what an end of file tells. */
bool model_peer_is_gone(void);

/* The last value that an atomic variable was given. */
uint64_t model_latest(const volatile void *object);

#define HOLDS(condition) ((condition) ? (void)0 : model_fail(#condition, __FILE__, __LINE__))

_Noreturn void model_fail(const char *what, const char *file, int line);

struct scenario {
    const char *name;
    void (*threads[2])(void);
    void (*setup)(void); /* registers what the threads share */
    int interrupts;      /* sleeps of each thread that may end for no reason */
    bool kill;           /* thread 0 may be killed at any step */
};

/* For setup: an atomic variable with its first value; the place of signals; a buffer that stands for a mapping of
 * `size` bytes twice in a row. All that threads change has to lie in memory given by model_allocate or in these. */
void model_atomic(const volatile void *object, uint64_t value);
void model_memory(char *twice, size_t size);

/* Explores all of it; returns the number of states. Errors end the process. */
uint64_t model_explore(const struct scenario *scenario);

/* Makes the accesses at FILE:LINE that are stronger than relaxed only as strong as `order`; or, with `plain`, an exchange
 * there a store, whose result is 0. */
void model_weaken(const char *file, int line, memory_order order, bool plain);

/* Prints each line of the source that an access stronger than relaxed was made from. */
void model_print_sites(void);

#endif
