/* SPDX-License-Identifier: MIT
 *
 * The memory, the two threads, and the search. Each thread is a coroutine that stops before every access to an
 * atomic and every signal; the search makes each access in each way that memory allows. All that can change is in
 * `world` and on the coroutines' stacks, so a state is kept and taken up again by copying those.
 */

#define _GNU_SOURCE

#include "explorer.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define LOCATIONS 8
#define MESSAGES 12
#define MEMORIES 2
#define GRANULE 8
#define GRANULES 40
#define SIGNALS 4
#define BLOCK 384
#define BLOCKS 8
#define STACK 16384
#define DEEPER 2048 /* than the stack is when a thread stops, it is in between at most */
#define DEPTH 1000
#define SITES 64

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

static struct {
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
} world;

static _Alignas(64) char stacks[2][STACK];
static ucontext_t scheduler;
static const struct scenario *current;

static struct step {
    int thread;
    struct access access;
    uint64_t result;
    bool kill;
} trace[DEPTH];
static int steps;

static struct {
    const char *file;
    int line;
} sites[SITES];
static int site_count;
static const char *weak_file;
static int weak_line;
static memory_order weak_order;

/* ---- errors ---- */

static const char *base(const char *file)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    return slash ? slash + 1 : file;
}

_Noreturn void model_fail(const char *what, const char *file, int line)
{
    static const char *const kinds[] = {"starts", "load",  "store",  "or",   "add",
                                        "exchange", "fence", "signal", "wait", "futex"};
    (void)printf("%s: %s (%s:%d) after\n", current ? current->name : "setup", what, base(file), line);
    for (int i = 0; i < steps; i++) {
        const struct step *step = &trace[i];
        if (step->kill)
            (void)printf("  %d is killed\n", step->thread);
        else
            (void)printf("  %d %s %s:%d %d = %" PRIu64 "\n", step->thread, kinds[step->access.kind],
                         step->access.file ? base(step->access.file) : "", step->access.line, step->access.where,
                         step->result);
    }
    (void)fflush(stdout);
    exit(1);
}

/* ---- plain memory ---- */

static struct memory *memory_of(const void *at, size_t *offset)
{
    for (int i = 0; i < world.memories; i++) {
        uintptr_t from = (uintptr_t)at - (uintptr_t)world.memory[i].twice;
        if (from < 2 * world.memory[i].size) {
            *offset = from % world.memory[i].size;
            return &world.memory[i];
        }
    }
    return NULL;
}

void model_touch(const void *at, size_t size, bool writes)
{
    size_t offset;
    struct memory *memory = memory_of(at, &offset);
    int me = world.running, other = 1 - me;
    struct view *view = &world.thread[me].cur;
    if (memory && world.thread[me].handed_on) {
        world.thread[me].handed_on = false;
        world.thread[me].acq.clock[me] = ++view->clock[me];
    }
    for (size_t i = offset / GRANULE; memory && size && i <= (offset + size - 1) / GRANULE; i++) {
        size_t word = i % (memory->size / GRANULE);
        if (memory->wrote[other][word] > view->clock[other])
            model_fail("a race with a write", NULL, (int)word);
        if (writes && memory->read[other][word] > view->clock[other])
            model_fail("a race with a read", NULL, (int)word);
        (writes ? memory->wrote : memory->read)[me][word] = view->clock[me];
    }
}

void *model_copy(void *to, const void *from, size_t size)
{
    size_t target = 0, source = 0;
    struct memory *written = memory_of(to, &target), *read = memory_of(from, &source);
    model_touch(from, size, false);
    model_touch(to, size, true);
    for (size_t i = 0; i < size; i++) {
        char byte = read ? read->twice[(source + i) % read->size] : ((const char *)from)[i];
        *(written ? &written->twice[(target + i) % written->size] : (char *)to + i) = byte;
    }
    return to;
}

/* The first block that is free, so that what was freed before leaves no trace. */
void *model_allocate(size_t size)
{
    int i = 0;
    while (i < BLOCKS && world.used[i])
        i++;
    HOLDS(i < BLOCKS && size <= BLOCK);
    world.used[i] = true;
    return world.block[i];
}

void model_free(void *memory)
{
    if (!memory)
        return;
    size_t i = (size_t)((char *)memory - world.block[0]) / BLOCK;
    HOLDS(i < BLOCKS && world.used[i]);
    world.used[i] = false;
    memset(memory, 0, BLOCK);
}

uint64_t model_clock(void)
{
    return world.thread[world.running].clock;
}

int model_yield(void)
{
    world.thread[world.running].clock += 3600;
    return 0;
}

/* ---- a thread comes to an access ---- */

static int location_of(const volatile void *object)
{
    for (int i = 0; i < world.locations; i++)
        if (world.location[i].object == object)
            return i;
    return -1;
}

static int signal_of(const void *where)
{
    for (int i = 0; i < world.signals; i++)
        if (world.signal[i].where == where)
            return i;
    HOLDS(world.signals < SIGNALS);
    world.signal[world.signals].where = where;
    return world.signals++;
}

static memory_order strength(memory_order order, const char *file, int line)
{
    if (order == memory_order_relaxed)
        return order;
    int i = 0;
    while (i < site_count && !(sites[i].line == line && strcmp(base(sites[i].file), base(file)) == 0))
        i++;
    if (i == site_count) {
        HOLDS(site_count < SITES);
        sites[site_count].file = file;
        sites[site_count++].line = line;
    }
    return weak_file && line == weak_line && strcmp(base(file), weak_file) == 0 ? weak_order : order;
}

/* Below it, nothing of its caller's is on the stack. */
__attribute__((noinline)) static char *stack_end(void)
{
    return __builtin_frame_address(0);
}

__attribute__((noinline)) static uint64_t stop_before(struct access access)
{
    struct thread *me = &world.thread[world.running];
    access.order = strength(access.order, access.file, access.line);
    if (access.where < 0)
        model_fail("an atomic that no scenario knows", access.file, access.line);
    me->access = access;
    me->low = stack_end();
    HOLDS(me->low > stacks[world.running] + DEEPER);
    (void)swapcontext(&me->context, &scheduler);
    return me->result;
}

uint64_t model_load(const volatile void *object, size_t size, memory_order order, const char *file, int line)
{
    size_t offset;
    int where = location_of(object);
    (void)size;
    if (where < 0 && memory_of((const void *)object, &offset)) { /* a word of a header: it has to be as free of races as a plain one */
        uint64_t word;
        (void)model_copy(&word, (const void *)object, sizeof word);
        return word;
    }
    return stop_before((struct access){LOAD, where, 0, order, file, line});
}

void model_store(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file, int line)
{
    (void)size;
    (void)stop_before((struct access){STORE, location_of(object), value, order, file, line});
}

uint64_t model_or(volatile void *object, size_t size, uint64_t bits, memory_order order, const char *file, int line)
{
    (void)size;
    return stop_before((struct access){OR, location_of(object), bits, order, file, line});
}

uint64_t model_add(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file, int line)
{
    (void)size;
    return stop_before((struct access){ADD, location_of(object), value, order, file, line});
}

uint64_t model_exchange(volatile void *object, size_t size, uint64_t value, memory_order order, const char *file,
                        int line)
{
    (void)size;
    return stop_before((struct access){EXCHANGE, location_of(object), value, order, file, line});
}

void model_fence(memory_order order, const char *file, int line)
{
    (void)stop_before((struct access){FENCE, 0, 0, order, file, line});
}

void model_signal(const void *where)
{
    (void)stop_before((struct access){.kind = SIGNAL, .where = signal_of(where)});
}

bool model_wait(const void *where)
{
    return stop_before((struct access){.kind = WAIT, .where = signal_of(where)}) != 0;
}

long model_futex(const volatile void *word, ...)
{
    va_list arguments;
    va_start(arguments, word);
    int operation = va_arg(arguments, int);
    va_end(arguments);
    if (operation == FUTEX_WAKE) /* who sleeps on the word is awake since it is no longer 0 */
        return 0;
    HOLDS(operation == FUTEX_WAIT_BITSET);
    bool woken = stop_before((struct access){.kind = FUTEX_SLEEP, .where = location_of(word)}) != 0;
    errno = EINTR;
    return woken ? 0 : -1;
}

bool model_peer_is_gone(void)
{
    const struct thread *peer = &world.thread[1 - world.running];
    if (!peer->dead && !peer->done)
        return false;
    /* The kernel tells it, and what it tells of happened before. */
    struct thread *me = &world.thread[world.running];
    for (int i = 0; i < LOCATIONS; i++)
        if (me->cur.seen[i] < peer->cur.seen[i])
            me->cur.seen[i] = me->acq.seen[i] = peer->cur.seen[i];
    return true;
}

uint64_t model_latest(const volatile void *object)
{
    const struct location *location = &world.location[location_of(object)];
    return location->messages[location->count - 1].value;
}

/* ---- memory answers ---- */

static void join(struct view *view, const struct view *other)
{
    for (int i = 0; i < LOCATIONS; i++)
        if (view->seen[i] < other->seen[i])
            view->seen[i] = other->seen[i];
    for (int i = 0; i < 2; i++)
        if (view->clock[i] < other->clock[i])
            view->clock[i] = other->clock[i];
}

static bool acquires(memory_order order)
{
    return order == memory_order_acquire || order == memory_order_acq_rel || order == memory_order_seq_cst;
}

static bool releases(memory_order order)
{
    return order == memory_order_release || order == memory_order_acq_rel || order == memory_order_seq_cst;
}

/* Makes room for a message at `index` of a location: whoever looks there or beyond looks one further. */
static void shift(struct view *view, int where, int index)
{
    if (view->seen[where] >= index)
        view->seen[where]++;
}

static struct message *insert(int where, int index)
{
    struct location *location = &world.location[where];
    HOLDS(location->count < MESSAGES);
    memmove(&location->messages[index + 1], &location->messages[index],
            (size_t)(location->count - index) * sizeof location->messages[0]);
    location->messages[index] = (struct message){0};
    location->count++;
    shift(&world.common, where, index);
    for (int t = 0; t < 2; t++) {
        shift(&world.thread[t].cur, where, index);
        shift(&world.thread[t].acq, where, index);
        shift(&world.thread[t].rel, where, index);
    }
    for (int l = 0; l < world.locations; l++)
        for (int m = 0; m < world.location[l].count; m++)
            shift(&world.location[l].messages[m].view, where, index);
    return &location->messages[index];
}

static void read_message(struct thread *me, int where, int index, memory_order order)
{
    const struct message *message = &world.location[where].messages[index];
    me->cur.seen[where] = (uint8_t)index;
    join(&me->acq, &me->cur);
    join(&me->acq, &message->view);
    if (acquires(order))
        join(&me->cur, &message->view);
    me->result = message->value;
}

/* Stores behind the message before `index`; `from` is what a read-modify-write has read. */
static void write_message(struct thread *me, int where, int index, const struct message *from, uint64_t value,
                          memory_order order)
{
    struct view inherited = from ? from->view : (struct view){0};
    struct message *message = insert(where, index);
    shift(&inherited, where, index);
    me->cur.seen[where] = (uint8_t)index;
    join(&me->acq, &me->cur);
    message->value = value;
    message->chained = from != NULL;
    message->view = releases(order) ? me->cur : me->rel;
    message->view.seen[where] = (uint8_t)index;
    join(&message->view, &inherited);
}

static void fence(struct thread *me, memory_order order)
{
    if (acquires(order))
        me->cur = me->acq;
    if (order == memory_order_seq_cst) /* coherence only: it makes nothing happen before anything */
        for (int i = 0; i < LOCATIONS; i++) {
            if (me->cur.seen[i] < world.common.seen[i])
                me->cur.seen[i] = world.common.seen[i];
            world.common.seen[i] = me->cur.seen[i];
        }
    join(&me->acq, &me->cur);
    if (releases(order))
        me->rel = me->cur;
}

/* Calls of this with way = 0, 1, ... make the access in each way there is; false when there is no such way. */
static bool answer(struct thread *me, int way)
{
    const struct access *access = &me->access;
    struct location *location = &world.location[access->where];
    me->result = 0;
    switch (access->kind) {
    case START:
        if (way)
            return false;
        break;
    case LOAD: {
        int index = me->cur.seen[access->where] + way;
        if (index >= location->count)
            return false;
        read_message(me, access->where, index, access->order);
        break;
    }
    case STORE:
    case OR:
    case ADD:
    case EXCHANGE: { /* a store goes behind any message that it may come after; the others read that one */
        int index = me->cur.seen[access->where];
        for (;; index++) {
            if (index >= location->count)
                return false;
            bool taken = index + 1 < location->count && location->messages[index + 1].chained;
            if (!taken && way-- == 0)
                break;
        }
        if (access->kind == STORE) {
            write_message(me, access->where, index + 1, NULL, access->value, access->order);
            break;
        }
        read_message(me, access->where, index, access->order);
        struct message from = location->messages[index];
        uint64_t value = access->kind == OR    ? from.value | access->value
                         : access->kind == ADD ? from.value + access->value
                                               : access->value;
        write_message(me, access->where, index + 1, &from, value, access->order);
        break;
    }
    case FENCE:
        if (way)
            return false;
        fence(me, access->order);
        break;
    case SIGNAL:
        if (way)
            return false;
        world.signal[access->where].count++;
        break;
    case WAIT:
    case FUTEX_SLEEP: { /* the kernel looks at the word as it is */
        int *signals = &world.signal[access->where].count;
        bool peer_gone = current->kill && (world.thread[me == world.thread].dead || world.thread[me == world.thread].done);
        bool woken = access->kind == WAIT ? *signals || peer_gone : location->messages[location->count - 1].value != 0;
        if (way == 0 && woken) {
            if (access->kind == WAIT)
                *signals = 0;
            me->result = 1;
        } else if (way <= 1 && me->interrupts && (way == 1 || !woken)) {
            me->interrupts--;
            me->result = 0;
        } else
            return false;
        break;
    }
    }
    me->handed_on = true;
    return true;
}

/* ---- the search ---- */

static struct snapshot {
    __typeof__(world) world;
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
        for (int way = 0; answer(&world.thread[t], way); way++) {
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

void model_weaken(const char *file, int line, memory_order order)
{
    weak_file = file;
    weak_line = line;
    weak_order = order;
}

void model_print_sites(void)
{
    for (int i = 0; i < site_count; i++)
        (void)printf("%s:%d\n", base(sites[i].file), sites[i].line);
}
