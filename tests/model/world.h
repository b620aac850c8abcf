/* SPDX-License-Identifier: MIT
 *
 * All that can change while the core is explored, as memory.c and explorer.c share it: a state is kept and taken up
 * again by copying it, the plain memory that it points to, and the two threads' stacks.
 */
#ifndef WORLD_H
#define WORLD_H

#include "explorer.h"

#include <ucontext.h>

#define LOCATIONS 8
#define MESSAGES 12
#define MEMORIES 2
#define GRANULE 8
#define GRANULES 40
#define SIGNALS 4
#define BLOCK 512
#define BLOCKS 8
#define STACK 16384
#define DEEPER 2048 /* than the stack is when a thread stops, it is in between at most */

/* How far a thread is bound to look: an index into each location's messages; and how many of each thread's rounds of
 * plain accesses happened before. */
struct view {
    uint8_t seen[LOCATIONS];
    uint16_t clock[2];
};

struct message {
    uint64_t value;
    struct view view;
    bool chained; /* to the one before it, which a read-modify-write has read: nothing comes between */
};

struct location {
    const volatile void *object;
    int count;
    struct message messages[MESSAGES];
};

/* Plain memory, with the last round of each thread that wrote and that read each of its words. */
struct memory {
    char *twice;
    size_t size;
    uint16_t wrote[2][GRANULES], read[2][GRANULES];
};

enum kind { START, LOAD, STORE, OR, ADD, EXCHANGE, FENCE, SIGNAL, WAIT, FUTEX_SLEEP };

struct access {
    enum kind kind;
    int where; /* of a location or a signal */
    uint64_t value;
    memory_order order;
    const char *file;
    int line;
};

struct thread {
    ucontext_t context;
    char *low; /* nothing below it on the stack is in use */
    struct access access; /* what it does next */
    uint64_t result;
    struct view cur, acq, rel;
    uint64_t clock;
    int interrupts;
    bool handed_on; /* its plain accesses so far may have been: the next one begins a new round */
    bool done, dead;
};

struct world {
    int running;
    int locations, memories, signals;
    struct location location[LOCATIONS];
    struct view common; /* of the seq_cst fences */
    struct memory memory[MEMORIES];
    struct {
        const void *where;
        int count;
    } signal[SIGNALS];
    struct thread thread[2];
    bool used[BLOCKS];
    _Alignas(16) char block[BLOCKS][BLOCK];
};

extern struct world world;

extern char stacks[2][STACK];
extern ucontext_t scheduler; /* where threads stop */

/* Calls of this with way = 0, 1, ... make the access that a thread has come to in each way there is; false when there is
 * no such way. `orphan`: its sleep also ends when the other thread is gone. */
bool model_answer(struct thread *me, int way, bool orphan);

const char *model_base(const char *file);

#endif
