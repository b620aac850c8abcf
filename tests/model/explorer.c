/* SPDX-License-Identifier: MIT
 *
 * The search. Each thread is a coroutine that stops before every access to an atomic and every signal; the search makes
 * each access in each way that memory allows, and takes up again what it was before.
 */

#define _GNU_SOURCE

#include "world.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 1000

_Alignas(64) char stacks[2][STACK];
ucontext_t scheduler;
struct world world;
static const struct scenario *current;

static struct step {
    int thread;
    struct access access;
    uint64_t result;
    bool kill;
} trace[DEPTH];
static int steps;

/* ---- errors ---- */

_Noreturn void model_fail(const char *what, const char *file, int line)
{
    static const char *const kinds[] = {"starts", "load",  "store",  "or",   "add",
                                        "exchange", "fence", "signal", "wait", "futex"};
    (void)printf("%s: %s (%s:%d) after\n", current ? current->name : "setup", what, model_base(file), line);
    for (int i = 0; i < steps; i++) {
        const struct step *step = &trace[i];
        if (step->kill)
            (void)printf("  %d is killed\n", step->thread);
        else
            (void)printf("  %d %s %s:%d %d = %" PRIu64 "\n", step->thread, kinds[step->access.kind],
                         step->access.file ? model_base(step->access.file) : "", step->access.line, step->access.where,
                         step->result);
    }
    (void)fflush(stdout);
    exit(1);
}

/* ---- the search ---- */

static struct snapshot {
    struct world world;
    char memory[MEMORIES][2 * GRANULES * GRANULE];
    char stack[2][STACK];
} *snapshots;

static void save(struct snapshot *to)
{
    to->world = world;
    for (int i = 0; i < world.memories; i++)
        memcpy(to->memory[i], world.memory[i].twice, world.memory[i].size);
    for (int t = 0; t < 2; t++) {
        size_t unused = (size_t)(world.thread[t].low - stacks[t]);
        memcpy(to->stack[t] + unused, stacks[t] + unused, STACK - unused);
    }
}

static void restore(const struct snapshot *from)
{
    world = from->world;
    for (int i = 0; i < world.memories; i++)
        memcpy(world.memory[i].twice, from->memory[i], world.memory[i].size);
    for (int t = 0; t < 2; t++) {
        size_t unused = (size_t)(world.thread[t].low - stacks[t]);
        memcpy(stacks[t] + unused, from->stack[t] + unused, STACK - unused);
    }
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ (hash >> 29);
}

static uint64_t hash_bytes(uint64_t hash, const void *from, size_t size)
{
    uint64_t word;
    for (const char *at = from; size >= sizeof word; at += sizeof word, size -= sizeof word) {
        memcpy(&word, at, sizeof word);
        hash = mix(hash, word);
    }
    return hash;
}

static uint64_t hash_view(uint64_t hash, const struct view *view)
{
    for (int i = 0; i < LOCATIONS; i++)
        hash = mix(hash, view->seen[i]);
    return mix(hash, (uint64_t)view->clock[0] << 16 | view->clock[1]);
}

/* Forgets the messages that no thread can read any more, so that how often something was stored makes no difference. */
static void forget(int where)
{
    struct location *location = &world.location[where];
    int unseen = world.thread[0].cur.seen[where], other = world.thread[1].cur.seen[where];
    unseen = unseen < other ? unseen : other;
    if (unseen == 0)
        return;
    location->count -= unseen;
    memmove(location->messages, &location->messages[unseen], (size_t)location->count * sizeof location->messages[0]);
    location->messages[0].chained = false;
    struct view *views[7 + LOCATIONS * MESSAGES] = {&world.common,        &world.thread[0].cur, &world.thread[0].acq,
                                                    &world.thread[0].rel, &world.thread[1].cur, &world.thread[1].acq,
                                                    &world.thread[1].rel};
    int count = 7;
    for (int l = 0; l < world.locations; l++)
        for (int m = 0; m < world.location[l].count; m++)
            views[count++] = &world.location[l].messages[m].view;
    for (int i = 0; i < count; i++)
        views[i]->seen[where] = (uint8_t)(views[i]->seen[where] < unseen ? 0 : views[i]->seen[where] - unseen);
}

/* A thread is where its stack and registers say it is. */
static uint64_t hash_world(void)
{
    uint64_t hash = 1;
    for (int l = 0; l < world.locations; l++)
        forget(l);
    for (int t = 0; t < 2; t++) {
        const struct thread *thread = &world.thread[t];
        hash = mix(hash, thread->clock << 8 | (uint64_t)thread->interrupts << 3 | (uint64_t)thread->handed_on << 2 |
                             (uint64_t)thread->done << 1 | thread->dead);
        hash = hash_view(hash_view(hash_view(hash, &thread->cur), &thread->acq), &thread->rel);
        if (thread->done || thread->dead)
            continue;
        hash = hash_bytes(hash, &thread->context.uc_mcontext, sizeof thread->context.uc_mcontext);
        hash = hash_bytes(hash, thread->low, (size_t)(stacks[t] + STACK - thread->low));
    }
    for (int l = 0; l < world.locations; l++) {
        hash = mix(hash, (uint64_t)world.location[l].count);
        for (int m = 0; m < world.location[l].count; m++) {
            const struct message *message = &world.location[l].messages[m];
            hash = hash_view(mix(mix(hash, message->value), message->chained), &message->view);
        }
    }
    hash = hash_view(hash, &world.common);
    for (int i = 0; i < world.memories; i++) {
        hash = hash_bytes(hash, world.memory[i].twice, world.memory[i].size);
        hash = hash_bytes(hash, world.memory[i].wrote, sizeof world.memory[i].wrote + sizeof world.memory[i].read);
    }
    for (int i = 0; i < BLOCKS; i++)
        if (world.used[i])
            hash = hash_bytes(mix(hash, (uint64_t)i), world.block[i], BLOCK);
    uint64_t signals = 0; /* their places are numbered as they come up, so their sum must not depend on the order */
    for (int s = 0; s < world.signals; s++)
        signals += mix((uint64_t)(uintptr_t)world.signal[s].where, (uint64_t)world.signal[s].count) *
                   (world.signal[s].count != 0);
    return mix(hash, signals) | 1;
}

/* The states met so far: an open hash table of their hashes. */
static uint64_t *table;
static uint64_t table_size, states;

static bool is_new(uint64_t hash)
{
    if (2 * (states + 1) > table_size) {
        uint64_t *old = table, old_size = table_size;
        table_size = old_size ? 2 * old_size : 1 << 16;
        table = calloc(table_size, sizeof *table);
        HOLDS(table);
        states = 0;
        for (uint64_t i = 0; i < old_size; i++)
            if (old[i])
                (void)is_new(old[i]);
        free(old);
    }
    uint64_t at = (hash >> 1) % table_size;
    for (; table[at]; at = (at + 1) % table_size)
        if (table[at] == hash)
            return false;
    table[at] = hash;
    states++;
    return true;
}

static void begin(void)
{
    current->threads[world.running]();
    world.thread[world.running].done = true;
    (void)swapcontext(&world.thread[world.running].context, &scheduler);
}

static void run(int t)
{
    world.running = t;
    /* What earlier calls have left there would tell states apart that are one. */
    if (world.thread[t].low != stacks[t])
        memset(world.thread[t].low - DEEPER, 0, DEEPER);
    (void)swapcontext(&scheduler, &world.thread[t].context);
}

static void explore(int depth)
{
    struct snapshot *here = &snapshots[depth];
    bool moved = false;
    HOLDS(depth < DEPTH);
    save(here);
    for (int t = 0; t < 2; t++) {
        if (world.thread[t].done || world.thread[t].dead)
            continue;
        for (int way = 0; model_answer(&world.thread[t], way, current->kill); way++) {
            trace[depth] = (struct step){t, world.thread[t].access, world.thread[t].result, false};
            steps = depth + 1;
            run(t);
            if (is_new(hash_world()))
                explore(depth + 1);
            moved = true;
            restore(here);
        }
    }
    steps = depth;
    if (!moved && !((world.thread[0].done || world.thread[0].dead) && world.thread[1].done))
        model_fail("nobody can go on: a wake is lost", NULL, 0);
    if (current->kill && !world.thread[0].dead && !world.thread[0].done) {
        world.thread[0].dead = true;
        trace[depth] = (struct step){.thread = 0, .kill = true};
        steps = depth + 1;
        if (is_new(hash_world()))
            explore(depth + 1);
        restore(here);
    }
}

void model_atomic(const volatile void *object, uint64_t value)
{
    HOLDS(world.locations < LOCATIONS);
    struct location *location = &world.location[world.locations++];
    location->object = object;
    location->count = 1;
    location->messages[0].value = value;
}

void model_memory(char *twice, size_t size)
{
    HOLDS(world.memories < MEMORIES && size <= GRANULES * GRANULE);
    world.memory[world.memories++] = (struct memory){.twice = twice, .size = size};
}

uint64_t model_explore(const struct scenario *scenario)
{
    memset(&world, 0, sizeof world);
    current = scenario;
    steps = 0;
    states = table_size = 0;
    free(table);
    table = NULL;
    if (!snapshots)
        snapshots = malloc(DEPTH * sizeof *snapshots);
    HOLDS(snapshots);
    scenario->setup();
    for (int t = 0; t < 2; t++) {
        struct thread *thread = &world.thread[t];
        thread->cur.clock[t] = thread->acq.clock[t] = 1;
        thread->interrupts = scenario->interrupts;
        (void)getcontext(&thread->context);
        thread->context.uc_stack.ss_sp = stacks[t];
        thread->context.uc_stack.ss_size = STACK;
        makecontext(&thread->context, begin, 0);
        thread->low = stacks[t];
    }
    explore(0);
    return states;
}
