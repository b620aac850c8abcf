/* SPDX-License-Identifier: MIT
 *
 * What the opcodes of a pickle do, as far as it matters to whether the pickle is harmless: the kinds of the values they
 * make, what it costs to hash them, what memory they take, and what lensipc's constructors make of their arguments.
 */
#include "scan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What a message of any size may cost to load: 33 million probes are 0.3 s at worst. Honest data needs about one unit
 * for each key, which is 2 bytes at least. */
#define WORK_BASE (UINT64_C(1) << 25)
#define WORK_PER_BYTE 8

/* Containers are what makes much of few bytes: one byte is an empty set of 216. Rows like {"id": 1} take 29 bytes of
 * memory for each byte of pickle, so 32 lets honest data pass. */
#define MEMORY_BASE (UINT64_C(64) << 20)
#define MEMORY_PER_BYTE 32

/* What CPython 3.10 to 3.13 takes for them at most, with the header of the garbage collector. */
#define LIST_BYTES 72
#define DICT_BYTES 80
#define FIRST_ITEM_BYTES 120
#define SET_BYTES 232
#define TUPLE_BYTES 56

/* hash() recurses into tuples, by about 60 bytes of C stack for a level: 8000 of them crash a thread with 256 KiB. No
 * pickler up to CPython 3.13 goes deeper than 5000. */
#define HASH_DEPTH 5000
/* A heavier key is refused by itself. */
#define HASH_WEIGHT (UINT32_C(1) << 24)


/* A value made by a constructor, with all that it holds: what an ipaddress network takes. No call is written in less
 * than 8 bytes, so this is no more than the message's size warrants. */
#define VALUE_BYTES 256

/* What hashing such a value, or comparing it with another one, takes: in C; in Python, like a Fraction; of text longer
 * than SHORT_STRING, or of a pattern's code. */
#define WEIGHT_C 16
#define WEIGHT_PYTHON 128
#define WEIGHT_LONG 2048

/* Exceptions in exceptions. Those with a memory layout of their own, like OSError, are freed by recursion. */
#define ERROR_DEPTH 1000

/* What a constructor's result is to its surroundings. */
enum result {
    MAKES_DICT,    /* takes nothing, gives an empty dict */
    MAKES_LIST,    /* takes nothing, gives an empty list */
    GIVES_ONE,     /* takes one value and gives it back, or one with the same hash */
    GIVES_LAST,    /* gives the last of the values it takes, or one with the same hash */
    MAKES_MUTABLE, /* an unhashable value */
    MAKES_RANDOM,  /* a value whose hash is keyed, its address, or of too narrow a range to be chosen freely */
    MAKES_ERROR,   /* likewise */
    MAKES_OPAQUE,  /* a value whose hash the peer can choose */
    MAKES_COSTLY,  /* likewise; hashed and compared by Python code */
    MAKES_PATTERN, /* a value whose hash is taken of all of it each time */
};

static const char MODULE[] = "lensipc.values";

static const struct {
    const char *name;
    enum result result;
} constructors[] = {
    {"as_dict", MAKES_DICT},
    {"as_list", MAKES_LIST},
    {"as_is", GIVES_ONE},
    {"as_last", GIVES_LAST},
    {"as_uuid", GIVES_ONE},
    {"as_number", GIVES_LAST},
    {"as_datetime", MAKES_RANDOM},
    {"as_date", MAKES_RANDOM},
    {"as_time", MAKES_RANDOM},
    {"as_timedelta", MAKES_RANDOM},
    {"as_timezone", MAKES_RANDOM},
    {"as_path", MAKES_RANDOM},
    {"as_address", MAKES_RANDOM},
    {"as_network", MAKES_COSTLY},
    {"as_complex", MAKES_OPAQUE},
    {"as_decimal", MAKES_OPAQUE},
    {"as_range", MAKES_OPAQUE},
    {"as_fraction", MAKES_COSTLY},
    {"as_scalar", MAKES_COSTLY},
    {"as_registered", MAKES_COSTLY},
    {"as_pattern", MAKES_PATTERN},
    {"as_error", MAKES_ERROR},
    {"as_packed", MAKES_MUTABLE},
    {"as_array", MAKES_MUTABLE},
};
#define CONSTRUCTORS (sizeof constructors / sizeof constructors[0])

int lipc_refuse(struct lipc_scan *s, const char *reason)
{
    s->reason = reason;
    return -EBADMSG;
}

/* Doubles an array that began inline. */
int lipc_enlarge(void **array, size_t *room, size_t item, const void *inline_array)
{
    size_t larger = *room < 16 ? 16 : *room * 2;
    if (larger > SIZE_MAX / item)
        return -ENOMEM;
    void *moved = realloc(inline_array != NULL && *array == inline_array ? NULL : *array, larger * item);
    if (moved == NULL)
        return -ENOMEM;
    if (inline_array != NULL && *array == inline_array)
        memcpy(moved, inline_array, *room * item);
    *array = moved;
    *room = larger;
    return 0;
}

/* Puts a value on the stack. run() has made room for one. */
static inline int push(struct lipc_scan *s, enum kind kind, uint64_t value, uint32_t size)
{
    struct cell *cell = &s->cells[s->top++];
    cell->value = value;
    cell->size = size;
    cell->kind = kind;
    return 0;
}

uint64_t lipc_little_endian(const unsigned char *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

static uint64_t address(const unsigned char *bytes)
{
    return (uint64_t)(uintptr_t)bytes;
}

/* The bytes of a LONG, or of a string that is not HASHED. */
static const unsigned char *bytes_of(const struct cell *cell)
{
    return (const unsigned char *)(uintptr_t)cell->value;
}

/* A string's cell: where it is, or its hash. */
int lipc_make_string(struct lipc_scan *s, enum kind kind, const unsigned char *bytes, uint64_t size)
{
    if (size <= SHORT_STRING)
        return push(s, kind, address(bytes), (uint32_t)size);
    return push(s, kind, size <= LONG_STRING ? lipc_hash_bytes(bytes, size) : lipc_mix(address(bytes)), HASHED);
}

int lipc_make_long(struct lipc_scan *s, const unsigned char *bytes, size_t size)
{
    while (size > 1 && bytes[size - 1] == (bytes[size - 2] >= 0x80 ? 0xff : 0)) /* digits that say nothing */
        size--;
    if (size > sizeof(uint64_t))
        return push(s, LONG, address(bytes), (uint32_t)size);
    uint64_t value = lipc_little_endian(bytes, size);
    if (size > 0 && size < sizeof value && bytes[size - 1] >= 0x80)
        value |= UINT64_MAX << size * 8;
    return push(s, INT, value, 0);
}

static void int_key(struct lipc_key *key, uint64_t value)
{
    unsigned char bytes[sizeof value];
    for (size_t i = 0; i < sizeof value; i++)
        bytes[i] = (unsigned char)(value >> i * 8);
    key->hash = value < UINT64_C(1) << 60 ? value : lipc_hash_int(bytes, sizeof bytes);
    key->ident = (uint32_t)lipc_mix(value + INT);
}

/* What hashing a value comes to. Fills all of *node. */
static void weigh(const struct lipc_scan *s, const struct cell *cell, struct node *node)
{
    *node = (struct node){{0, cell->kind, 1}, 0, cell->kind <= LAST_HASHABLE, cell->kind == OPAQUE};
    struct lipc_key *key = &node->key;
    double value;
    switch (cell->kind) {
    case INT:
        int_key(key, cell->value);
        break;
    case LONG:
        key->hash = lipc_hash_int(bytes_of(cell), cell->size);
        key->ident = (uint32_t)lipc_hash_bytes(bytes_of(cell), cell->size);
        key->weight = 1 + cell->size / 16;
        break;
    case FLOAT:
        memcpy(&value, &cell->value, sizeof value);
        if (value >= -9007199254740992.0 && value <= 9007199254740992.0 && value == (double)(int64_t)value) {
            int_key(key, (uint64_t)(int64_t)value); /* 1.0 is the key 1 */
        } else {
            /* Every nan is another key, with another hash. */
            key->hash = isnan(value) ? lipc_mix(cell->size) : lipc_hash_float(value);
            key->ident = (uint32_t)lipc_mix(cell->value);
        }
        break;
    case STR:
    case BYTES:
        key->hash = cell->size == HASHED ? cell->value : lipc_hash_bytes(bytes_of(cell), cell->size);
        key->ident += (uint32_t)(key->hash >> 32);
        break;
    case TUPLE:
    case FROZENSET:
        *node = s->nodes[cell->value];
        break;
    case OPAQUE:
        key->weight = cell->size;
        break;
    case NONE: /* an address, or a constant, by the version of CPython */
    case RANDOM:
        key->hash = lipc_mix(cell->value + cell->kind + 1);
        node->depth = cell->size;
        break;
    default:
        break;
    }
}

/* Adds a tuple or frozenset of the `count` topmost cells: its node's index, or SIZE_MAX without memory. */
static size_t add_node(struct lipc_scan *s, size_t count, enum kind kind)
{
    if (s->node_count == s->node_room && lipc_enlarge((void **)&s->nodes, &s->node_room, sizeof *s->nodes, NULL))
        return SIZE_MAX;
    struct node whole = {{kind == TUPLE ? lipc_hash_tuple_begin() : 0, kind, 1}, 1, 1, 0};
    uint64_t weight = 1;
    uint64_t ident = 0;
    for (const struct cell *cell = s->cells + s->top - count; cell < s->cells + s->top; cell++) {
        struct node part;
        weigh(s, cell, &part);
        weight += part.key.weight;
        whole.hashable &= part.hashable;
        whole.opaque |= part.opaque;
        if (kind == TUPLE) {
            whole.key.hash = lipc_hash_tuple_add(whole.key.hash, part.key.hash);
            ident = lipc_mix(ident + part.key.ident);
            if (whole.depth <= part.depth)
                whole.depth = part.depth + 1;
        } else {
            whole.key.hash = lipc_hash_frozenset_add(whole.key.hash, part.key.hash);
            ident += lipc_mix(part.key.ident);
        }
    }
    whole.key.hash = kind == TUPLE ? lipc_hash_tuple_end(whole.key.hash, count)
                                   : lipc_hash_frozenset_end(whole.key.hash, count);
    whole.key.ident += (uint32_t)ident;
    whole.key.weight = weight < HASH_WEIGHT ? (uint32_t)weight : HASH_WEIGHT;
    s->nodes[s->node_count] = whole;
    return s->node_count++;
}

/* The keys of a container, made on first use; NULL without memory. */
static struct lipc_keys *keys_of(struct lipc_scan *s, uint64_t container)
{
    while (container >= s->table_of_room) {
        size_t before = s->table_of_room;
        if (lipc_enlarge((void **)&s->table_of, &s->table_of_room, sizeof *s->table_of, NULL))
            return NULL;
        memset(s->table_of + before, 0, (s->table_of_room - before) * sizeof *s->table_of);
    }
    if (s->table_of[container] == 0) {
        if (s->table_count == s->table_room &&
            lipc_enlarge((void **)&s->tables, &s->table_room, sizeof *s->tables, NULL))
            return NULL;
        s->tables[s->table_count] = (struct lipc_keys){NULL, 0, 0, 0};
        s->table_of[container] = (uint32_t)++s->table_count;
    }
    return &s->tables[s->table_of[container] - 1];
}

/* A key that is no string enters a container: `container` of the scan, or `own` keys where that is not NULL. */
static int enter(struct lipc_scan *s, const struct cell *cell, uint64_t container, struct lipc_keys *own, int is_set)
{
    if (cell->kind > LAST_HASHABLE)
        return lipc_refuse(s, "a key or element that is not hashable");
    if (cell->kind == NONE || cell->kind == RANDOM)
        return 0;
    struct node node;
    weigh(s, cell, &node);
    if (!node.hashable)
        return lipc_refuse(s, "a key or element that is not hashable");
    if (node.depth > HASH_DEPTH)
        return lipc_refuse(s, "a key or element nested too deep to be hashed");
    if (node.key.weight >= HASH_WEIGHT)
        return lipc_refuse(s, "a key or element too large to be hashed");
    s->budget.work += node.key.weight;
    struct lipc_keys *keys = own ? own : keys_of(s, container);
    if (keys == NULL)
        return lipc_refuse(s, "no memory to check it");
    int error = 0;
    if (node.opaque)
        s->budget.work += (uint64_t)keys->opaque++ * node.key.weight;
    else
        error = lipc_keys_add(keys, &node.key, is_set, &s->budget);
    if (error == -EEXIST)
        return lipc_refuse(s, "a key or element that is there already");
    if (error == -ENOMEM)
        return lipc_refuse(s, "no memory to check it");
    if (error || s->budget.work > s->budget.work_limit)
        return lipc_refuse(s, "keys that collide, or take too much hashing");
    return 0;
}

/* Enters every `step`-th cell from `first` on. */
static int enter_all(struct lipc_scan *s, size_t first, size_t step, uint64_t container, struct lipc_keys *own, int is_set)
{
    for (size_t i = first; i < s->top; i += step) {
        const struct cell *cell = &s->cells[i];
        if (cell->kind == STR || cell->kind == BYTES)
            continue;
        int error = enter(s, cell, container, own, is_set);
        if (error)
            return error;
    }
    return 0;
}

static int take_memory(struct lipc_scan *s, uint64_t bytes)
{
    s->budget.memory += bytes;
    if (s->budget.memory > s->budget.memory_limit)
        return lipc_refuse(s, "more memory than its size warrants");
    return 0;
}

int lipc_make_tuple(struct lipc_scan *s, size_t count)
{
    int error = take_memory(s, TUPLE_BYTES + 8 * (uint64_t)count);
    if (error)
        return error;
    size_t node = add_node(s, count, TUPLE);
    if (node == SIZE_MAX)
        return lipc_refuse(s, "no memory to check it");
    s->arguments = count;
    if (count)
        s->argument = s->cells[s->top - 1];
    s->top -= count;
    return push(s, TUPLE, node, 0);
}

int lipc_make_frozenset(struct lipc_scan *s, size_t first)
{
    struct lipc_keys keys = {NULL, 0, 0, 0};
    int error = take_memory(s, SET_BYTES);
    if (!error)
        error = enter_all(s, first, 1, 0, &keys, 1);
    lipc_keys_free(&keys);
    if (error)
        return error;
    size_t node = add_node(s, s->top - first, FROZENSET);
    if (node == SIZE_MAX)
        return lipc_refuse(s, "no memory to check it");
    s->top = first;
    return push(s, FROZENSET, node, 0);
}

int lipc_make_container(struct lipc_scan *s, enum kind kind)
{
    int error = take_memory(s, kind == LIST ? LIST_BYTES : kind == DICT ? DICT_BYTES : SET_BYTES);
    return error ? error : push(s, kind, s->containers++, 0);
}

/* The cells from `first` on go into the dict below them. */
int lipc_set_items(struct lipc_scan *s, size_t first)
{
    if ((s->top - first) % 2)
        return lipc_refuse(s, "a key without a value");
    const struct cell *dict = &s->cells[first - 1];
    if (dict->kind != DICT)
        return lipc_refuse(s, "items for what is no dict");
    int error = enter_all(s, first, 2, dict->value, NULL, 0);
    if (!error && s->top > first)
        error = take_memory(s, FIRST_ITEM_BYTES);
    s->top = first;
    return error;
}

int lipc_add_items(struct lipc_scan *s, size_t first)
{
    const struct cell *set = &s->cells[first - 1];
    if (set->kind != SET)
        return lipc_refuse(s, "elements for what is no set");
    int error = enter_all(s, first, 1, set->value, NULL, 1);
    s->top = first;
    return error;
}

static int matches(const struct cell *cell, const char *text)
{
    size_t size = strlen(text);
    return cell->kind == STR && cell->size == size && memcmp(bytes_of(cell), text, size) == 0;
}

int lipc_name_constructor(struct lipc_scan *s)
{
    const struct cell *name = &s->cells[s->top - 1];
    if (!matches(name - 1, MODULE))
        return lipc_refuse(s, "a name that is none of lensipc's constructors");
    for (size_t i = 0; i < CONSTRUCTORS; i++) {
        if (matches(name, constructors[i].name)) {
            s->top -= 2;
            s->pending++;
            s->named = 1;
            return push(s, CALLABLE, i, 0);
        }
    }
    return lipc_refuse(s, "a name that is none of lensipc's constructors");
}

int lipc_call_constructor(struct lipc_scan *s, uint64_t unique)
{
    if (s->cells[s->top - 2].kind != CALLABLE)
        return lipc_refuse(s, "a call of what is no constructor");
    enum result result = constructors[s->cells[s->top - 2].value].result;
    const struct cell *argument = &s->argument;
    uint32_t depth = s->nodes[s->cells[s->top - 1].value].depth;
    s->top -= 2;
    s->pending--;
    if ((result == MAKES_DICT || result == MAKES_LIST) != (s->arguments == 0))
        return lipc_refuse(s, "a call with the wrong number of arguments");
    int error = result < MAKES_MUTABLE ? 0 : take_memory(s, VALUE_BYTES);
    if (error)
        return error;
    int is_long = argument->kind == LONG || argument->size == HASHED;
    switch (result) {
    case MAKES_DICT:
        return lipc_make_container(s, DICT);
    case MAKES_LIST:
        return lipc_make_container(s, LIST);
    case GIVES_ONE:
        if (s->arguments != 1)
            return lipc_refuse(s, "a call with the wrong number of arguments");
        return push(s, argument->kind, argument->value, argument->size);
    case GIVES_LAST:
        return push(s, argument->kind, argument->value, argument->size);
    case MAKES_MUTABLE:
        return push(s, MUTABLE, 0, 0);
    case MAKES_RANDOM:
        return push(s, RANDOM, unique, 0);
    case MAKES_ERROR:
        if (depth > ERROR_DEPTH)
            return lipc_refuse(s, "exceptions nested too deep");
        return push(s, RANDOM, unique, depth);
    case MAKES_PATTERN:
        return push(s, OPAQUE, 0, WEIGHT_LONG);
    case MAKES_COSTLY:
        return push(s, OPAQUE, 0, is_long ? WEIGHT_LONG : WEIGHT_PYTHON);
    default:
        return push(s, OPAQUE, 0, is_long ? WEIGHT_LONG : WEIGHT_C);
    }
}

void lipc_scan_begin(struct lipc_scan *s, uint64_t size)
{
    /* One by one: a memset of them takes longer than many a message. */
    s->reason = NULL;
    s->cells = s->inline_cells;
    s->memo = s->inline_memo;
    s->marks = s->inline_marks;
    s->cell_room = s->memo_room = INLINE_CELLS;
    s->mark_room = INLINE_MARKS;
    s->top = s->memoized = s->marked = 0;
    s->nodes = NULL;
    s->table_of = NULL;
    s->tables = NULL;
    s->node_count = s->node_room = s->table_of_room = s->table_count = s->table_room = 0;
    s->containers = 0;
    s->budget.work = s->budget.memory = 0;
    s->arguments = s->pending = 0;
    s->named = 0;
    s->budget.work_limit = WORK_BASE + WORK_PER_BYTE * size;
    s->budget.memory_limit = MEMORY_PER_BYTE * size;
    if (s->budget.memory_limit < MEMORY_BASE)
        s->budget.memory_limit = MEMORY_BASE;
}

void lipc_scan_end(struct lipc_scan *s)
{
    if (s->cells != s->inline_cells)
        free(s->cells);
    if (s->memo != s->inline_memo)
        free(s->memo);
    if (s->marks != s->inline_marks)
        free(s->marks);
    for (size_t i = 0; i < s->table_count; i++)
        lipc_keys_free(&s->tables[i]);
    free(s->tables);
    free(s->table_of);
    free(s->nodes);
}
