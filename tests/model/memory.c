/* SPDX-License-Identifier: MIT
 *
 * The memory: what the shim calls, where a thread stops before each access, and what each access may be answered.
 */

#define _GNU_SOURCE

#include "world.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define SITES 64

static struct {
    const char *file;
    int line;
} sites[SITES];
static int site_count;
static const char *weak_file;
static int weak_line;
static memory_order weak_order;
static bool weak_plain;

const char *model_base(const char *file)
{
    const char *slash = file ? strrchr(file, '/') : NULL;
    return slash ? slash + 1 : file;
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

static bool is_weak(const char *file, int line)
{
    return weak_file && line == weak_line && strcmp(model_base(file), weak_file) == 0;
}

static memory_order strength(memory_order order, const char *file, int line)
{
    if (order == memory_order_relaxed)
        return order;
    int i = 0;
    while (i < site_count && !(sites[i].line == line && strcmp(model_base(sites[i].file), model_base(file)) == 0))
        i++;
    if (i == site_count) {
        HOLDS(site_count < SITES);
        sites[site_count].file = file;
        sites[site_count++].line = line;
    }
    return is_weak(file, line) ? weak_order : order;
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
    if (weak_plain && is_weak(file, line)) {
        model_store(object, size, value, order, file, line);
        return 0;
    }
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

bool model_answer(struct thread *me, int way, bool orphan)
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
        bool peer_gone = orphan && (world.thread[me == world.thread].dead || world.thread[me == world.thread].done);
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

/* ---- what an access is weakened to ---- */

void model_weaken(const char *file, int line, memory_order order, bool plain)
{
    weak_file = file;
    weak_line = line;
    weak_order = order;
    weak_plain = plain;
}

void model_print_sites(void)
{
    for (int i = 0; i < site_count; i++)
        (void)printf("%s:%d\n", model_base(sites[i].file), sites[i].line);
}
