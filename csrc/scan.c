/* SPDX-License-Identifier: MIT
 *
 * Proves a pickle harmless before any unpickler sees it: one pass, no recursion, no byte of it believed.
 *
 * This is an abstract interpreter. It runs the opcodes as an unpickler would, over a stack and a memo of cells that
 * tell only the kind of each value and what it would cost to hash it. It refuses
 *
 *   - every opcode that a protocol 5 pickler of plain data does not write: GLOBAL, INST, OBJ, NEWOBJ, BUILD, EXT, PUT,
 *     DUP, persistent ids, the text opcodes, buffers;
 *   - names, but those of our own constructors in lensipc.values, and these anywhere but as the callee of a REDUCE
 *     whose arguments were made for it;
 *   - lengths beyond the message, frames that opcodes straddle, a memo or stack that is not there;
 *   - items put into anything but the dict, list or set that they belong in, and unhashable keys;
 *   - keys whose hashing, probing or comparing takes more work, and containers that take more memory, than the size of
 *     the message warrants.
 *
 * What it holds itself is at most 16 bytes for each byte of the message, and 12 for each slot of the tables in keys.c.
 */
#include "keys.h"
#include "lensipc.h"

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

/* hash() recurses into tuples, by about 60 bytes of C stack for a level: 150 KB of them crash CPython 3.11. */
#define HASH_DEPTH 1000
/* A heavier key is refused by itself. */
#define HASH_WEIGHT (UINT32_C(1) << 24)

/* Comparing two values whose hash only Python code knows, like Fractions: 300 ns. */
#define OPAQUE_COMPARISON 16

/* Strings up to this length are hashed when they turn out to be in a tuple or frozenset; longer ones at once, so that
 * many references to one cost nothing; those beyond LONG_STRING never, since many of them do not fit a message. */
#define SHORT_STRING 64
#define LONG_STRING 65536

#define INLINE_CELLS 64
#define INLINE_MARKS 32

enum kind {
    NONE,
    INT,       /* value: the number; also True and False */
    LONG,      /* value: offset of its bytes, size: how many; never one that fits an INT */
    FLOAT,     /* value: its bits */
    STR,       /* value: offset of its bytes, size: how many; or value: a hash, size: HASHED */
    BYTES,     /* likewise */
    TUPLE,     /* value: index of its node */
    FROZENSET, /* likewise */
    RANDOM,    /* made by a constructor; nobody can foresee its hash. value: tells it from others */
    OPAQUE,    /* made by a constructor; its hash can be foreseen, not here */
    LAST_HASHABLE = OPAQUE,
    LIST,
    DICT, /* value: its number among the containers */
    SET,  /* likewise */
    MUTABLE,
    CALLABLE, /* value: index in `constructors` */
};

#define HASHED UINT32_MAX

struct cell {
    uint64_t value;
    uint32_t size;
    uint32_t kind;
};

/* What became of the values in a tuple or frozenset. */
struct node {
    struct lipc_key key;
    uint32_t depth;
    uint16_t hashable;
    uint16_t opaque;
};

/* What a constructor's result is to its surroundings. */
enum result {
    MAKES_DICT,    /* takes nothing, gives an empty dict */
    MAKES_LIST,    /* takes nothing, gives an empty list */
    GIVES_ONE,     /* takes one value and gives it back, or one with the same hash */
    GIVES_LAST,    /* gives the last of the values it takes */
    MAKES_MUTABLE, /* an unhashable value */
    MAKES_RANDOM,  /* a value whose hash is keyed, its address, or of too narrow a range to be chosen freely */
    MAKES_OPAQUE,  /* a value whose hash the peer can choose */
};

static const char MODULE[] = "lensipc.values";

static const struct {
    const char *name;
    enum result result;
} constructors[] = {
    {"as_dict", MAKES_DICT},         {"as_list", MAKES_LIST},         {"as_is", GIVES_ONE},
    {"as_last", GIVES_LAST},         {"as_uuid", GIVES_ONE},          {"as_datetime", MAKES_RANDOM},
    {"as_date", MAKES_RANDOM},       {"as_time", MAKES_RANDOM},       {"as_timedelta", MAKES_RANDOM},
    {"as_timezone", MAKES_RANDOM},   {"as_complex", MAKES_OPAQUE},    {"as_decimal", MAKES_OPAQUE},
    {"as_fraction", MAKES_OPAQUE},   {"as_range", MAKES_OPAQUE},      {"as_pattern", MAKES_RANDOM},
    {"as_path", MAKES_RANDOM},       {"as_address", MAKES_RANDOM},    {"as_error", MAKES_RANDOM},
    {"as_packed", MAKES_MUTABLE},    {"as_array", MAKES_MUTABLE},     {"as_scalar", MAKES_OPAQUE},
    {"as_registered", MAKES_OPAQUE},
};
#define CONSTRUCTORS (sizeof constructors / sizeof constructors[0])

struct scan {
    const unsigned char *data;
    const char *reason;

    struct cell *cells; /* the stack */
    size_t top, cell_room;
    struct cell *memo;
    size_t memoized, memo_room;
    size_t *marks; /* heights of the stack */
    size_t marked, mark_room;
    size_t floor; /* the topmost mark, or 0: what an opcode may take */

    struct node *nodes;
    size_t node_count, node_room;

    uint32_t containers;       /* dicts and sets so far */
    uint32_t *table_of;        /* for each container, 1 + the index of its keys, or 0 */
    size_t table_of_room;
    struct lipc_keys *tables;
    size_t table_count, table_room;

    struct lipc_budget budget;
    size_t arguments;     /* of the last tuple made */
    struct cell argument; /* the last of them */
    size_t pending;       /* callables on the stack that no REDUCE has taken */
    int named;            /* a constructor was named */

    struct cell inline_cells[INLINE_CELLS];
    struct cell inline_memo[INLINE_CELLS];
    size_t inline_marks[INLINE_MARKS];
};

static int refuse(struct scan *s, const char *reason)
{
    s->reason = reason;
    return -EBADMSG;
}

/* Doubles an array that began inline. */
static int enlarge(void **array, size_t *room, size_t item, const void *inline_array)
{
    size_t larger = *room < 16 ? 16 : *room * 2;
    if (larger > SIZE_MAX / item)
        return -ENOMEM;
    void *moved = realloc(*array == inline_array ? NULL : *array, larger * item);
    if (moved == NULL)
        return -ENOMEM;
    if (*array == inline_array && *room)
        memcpy(moved, inline_array, *room * item);
    *array = moved;
    *room = larger;
    return 0;
}

static inline int push(struct scan *s, enum kind kind, uint64_t value, uint32_t size)
{
    if (s->top == s->cell_room && enlarge((void **)&s->cells, &s->cell_room, sizeof *s->cells, s->inline_cells))
        return refuse(s, "no memory to check it");
    s->cells[s->top++] = (struct cell){value, size, kind};
    return 0;
}

static uint64_t little_endian(const unsigned char *bytes, size_t size)
{
    uint64_t value = 0;
    for (size_t i = size; i-- > 0;)
        value = value << 8 | bytes[i];
    return value;
}

/* A string's cell: where it is, or its hash. */
static int push_string(struct scan *s, enum kind kind, const unsigned char *bytes, uint64_t size)
{
    uint64_t offset = (uint64_t)(bytes - s->data);
    if (size <= SHORT_STRING)
        return push(s, kind, offset, (uint32_t)size);
    return push(s, kind, size <= LONG_STRING ? lipc_hash_bytes(bytes, size) : lipc_mix(offset), HASHED);
}

static int push_long(struct scan *s, const unsigned char *bytes, size_t size)
{
    while (size > 1 && bytes[size - 1] == (bytes[size - 2] >= 0x80 ? 0xff : 0)) /* digits that say nothing */
        size--;
    if (size > sizeof(uint64_t))
        return push(s, LONG, (uint64_t)(bytes - s->data), (uint32_t)size);
    uint64_t value = little_endian(bytes, size);
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
    key->ident = (uint32_t)lipc_mix(value);
}

/* What hashing a value comes to. Fills all of *node. */
static void weigh(const struct scan *s, const struct cell *cell, struct node *node)
{
    *node = (struct node){{0, cell->kind, 1}, 0, cell->kind <= LAST_HASHABLE, cell->kind == OPAQUE};
    struct lipc_key *key = &node->key;
    double value;
    switch (cell->kind) {
    case INT:
        int_key(key, cell->value);
        break;
    case LONG:
        key->hash = lipc_hash_int(s->data + cell->value, cell->size);
        key->ident = (uint32_t)lipc_hash_bytes(s->data + cell->value, cell->size);
        key->weight = 1 + cell->size / 16;
        break;
    case FLOAT:
        memcpy(&value, &cell->value, sizeof value);
        if (value >= -9007199254740992.0 && value <= 9007199254740992.0 && value == floor(value)) {
            int_key(key, (uint64_t)(int64_t)value); /* 1.0 is the key 1 */
        } else {
            key->hash = isnan(value) ? lipc_mix(cell->value) : lipc_hash_float(value);
            key->ident = (uint32_t)lipc_mix(cell->value);
        }
        break;
    case STR:
    case BYTES:
        key->hash = cell->size == HASHED ? cell->value : lipc_hash_bytes(s->data + cell->value, cell->size);
        key->ident += (uint32_t)(key->hash >> 32);
        break;
    case TUPLE:
    case FROZENSET:
        *node = s->nodes[cell->value];
        break;
    case RANDOM:
        key->hash = lipc_mix(cell->value);
        break;
    default:
        break;
    }
}

/* Adds a tuple or frozenset of the `count` topmost cells: its node's index, or SIZE_MAX without memory. */
static size_t add_node(struct scan *s, size_t count, enum kind kind)
{
    if (s->node_count == s->node_room && enlarge((void **)&s->nodes, &s->node_room, sizeof *s->nodes, NULL))
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
static struct lipc_keys *keys_of(struct scan *s, uint64_t container)
{
    while (container >= s->table_of_room) {
        size_t before = s->table_of_room;
        if (enlarge((void **)&s->table_of, &s->table_of_room, sizeof *s->table_of, NULL))
            return NULL;
        memset(s->table_of + before, 0, (s->table_of_room - before) * sizeof *s->table_of);
    }
    if (s->table_of[container] == 0) {
        if (s->table_count == s->table_room &&
            enlarge((void **)&s->tables, &s->table_room, sizeof *s->tables, NULL))
            return NULL;
        s->tables[s->table_count] = (struct lipc_keys){NULL, 0, 0, 0};
        s->table_of[container] = (uint32_t)++s->table_count;
    }
    return &s->tables[s->table_of[container] - 1];
}

/* A key that is no string enters a container: `container` of the scan, or `own` keys where that is not NULL. */
static int enter(struct scan *s, const struct cell *cell, uint64_t container, struct lipc_keys *own, int is_set)
{
    if (cell->kind > LAST_HASHABLE)
        return refuse(s, "a key or element that is not hashable");
    if (cell->kind == NONE || cell->kind == RANDOM)
        return 0;
    struct node node;
    weigh(s, cell, &node);
    if (!node.hashable)
        return refuse(s, "a key or element that is not hashable");
    if (node.depth > HASH_DEPTH)
        return refuse(s, "a key or element nested too deep to be hashed");
    if (node.key.weight >= HASH_WEIGHT)
        return refuse(s, "a key or element too large to be hashed");
    s->budget.work += node.key.weight;
    struct lipc_keys *keys = own ? own : keys_of(s, container);
    if (keys == NULL)
        return refuse(s, "no memory to check it");
    int error = 0;
    if (node.opaque)
        s->budget.work += (uint64_t)keys->opaque++ * OPAQUE_COMPARISON * node.key.weight;
    else
        error = lipc_keys_add(keys, &node.key, is_set, &s->budget);
    if (error == -EEXIST)
        return refuse(s, "a key or element that is there already");
    if (error == -ENOMEM)
        return refuse(s, "no memory to check it");
    if (error || s->budget.work > s->budget.work_limit)
        return refuse(s, "keys that collide, or take too much hashing");
    return 0;
}

/* Enters every `step`-th cell from `first` on. */
static int enter_all(struct scan *s, size_t first, size_t step, uint64_t container, struct lipc_keys *own, int is_set)
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

static int take_memory(struct scan *s, uint64_t bytes)
{
    s->budget.memory += bytes;
    if (s->budget.memory > s->budget.memory_limit)
        return refuse(s, "more memory than its size warrants");
    return 0;
}

static int make_tuple(struct scan *s, size_t count)
{
    if (s->top - s->floor < count)
        return refuse(s, "a stack too short");
    int error = take_memory(s, TUPLE_BYTES + 8 * (uint64_t)count);
    if (error)
        return error;
    size_t node = add_node(s, count, TUPLE);
    if (node == SIZE_MAX)
        return refuse(s, "no memory to check it");
    s->arguments = count;
    if (count)
        s->argument = s->cells[s->top - 1];
    s->top -= count;
    return push(s, TUPLE, node, 0);
}

static int make_frozenset(struct scan *s, size_t first)
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
        return refuse(s, "no memory to check it");
    s->top = first;
    return push(s, FROZENSET, node, 0);
}

static int make_container(struct scan *s, enum kind kind, uint64_t bytes)
{
    int error = take_memory(s, bytes);
    return error ? error : push(s, kind, s->containers++, 0);
}

/* The cells from `first` on go into the dict below them. */
static int set_items(struct scan *s, size_t first)
{
    if ((s->top - first) % 2)
        return refuse(s, "a key without a value");
    const struct cell *dict = &s->cells[first - 1];
    if (dict->kind != DICT)
        return refuse(s, "items for what is no dict");
    int error = enter_all(s, first, 2, dict->value, NULL, 0);
    if (!error && s->top > first)
        error = take_memory(s, FIRST_ITEM_BYTES);
    s->top = first;
    return error;
}

static int add_items(struct scan *s, size_t first)
{
    const struct cell *set = &s->cells[first - 1];
    if (set->kind != SET)
        return refuse(s, "elements for what is no set");
    int error = enter_all(s, first, 1, set->value, NULL, 1);
    s->top = first;
    return error;
}

static int matches(const struct scan *s, const struct cell *cell, const char *text)
{
    size_t size = strlen(text);
    return cell->kind == STR && cell->size == size && memcmp(s->data + cell->value, text, size) == 0;
}

static int name_constructor(struct scan *s)
{
    if (s->top - s->floor < 2)
        return refuse(s, "a stack too short");
    const struct cell *name = &s->cells[s->top - 1];
    if (!matches(s, name - 1, MODULE))
        return refuse(s, "a name that is none of lensipc's constructors");
    for (size_t i = 0; i < CONSTRUCTORS; i++) {
        if (matches(s, name, constructors[i].name)) {
            s->top -= 2;
            s->pending++;
            s->named = 1;
            return push(s, CALLABLE, i, 0);
        }
    }
    return refuse(s, "a name that is none of lensipc's constructors");
}

static int call_constructor(struct scan *s, uint64_t offset)
{
    if (s->top - s->floor < 2 || s->cells[s->top - 2].kind != CALLABLE)
        return refuse(s, "a call of what is no constructor");
    enum result result = constructors[s->cells[s->top - 2].value].result;
    s->top -= 2;
    s->pending--;
    if ((result == MAKES_DICT || result == MAKES_LIST) != (s->arguments == 0))
        return refuse(s, "a call with the wrong number of arguments");
    switch (result) {
    case MAKES_DICT:
        return make_container(s, DICT, DICT_BYTES);
    case MAKES_LIST:
        return make_container(s, LIST, LIST_BYTES);
    case GIVES_ONE:
        if (s->arguments != 1)
            return refuse(s, "a call with the wrong number of arguments");
        return push(s, s->argument.kind, s->argument.value, s->argument.size);
    case GIVES_LAST:
        return push(s, s->argument.kind, s->argument.value, s->argument.size);
    case MAKES_MUTABLE:
        return push(s, MUTABLE, 0, 0);
    case MAKES_RANDOM:
        return push(s, RANDOM, offset, 0);
    default:
        return push(s, OPAQUE, 0, 0);
    }
}

static int memoize(struct scan *s)
{
    if (s->memoized == s->memo_room && enlarge((void **)&s->memo, &s->memo_room, sizeof *s->memo, s->inline_memo))
        return refuse(s, "no memory to check it");
    s->memo[s->memoized++] = s->cells[s->top - 1];
    return 0;
}

static int recall(struct scan *s, uint64_t index)
{
    if (index >= s->memoized)
        return refuse(s, "a memo that is not there");
    const struct cell *cell = &s->memo[index];
    if (cell->kind == CALLABLE)
        s->pending++;
    return push(s, cell->kind, cell->value, cell->size);
}

static int mark(struct scan *s)
{
    if (s->marked == s->mark_room &&
        enlarge((void **)&s->marks, &s->mark_room, sizeof *s->marks, s->inline_marks))
        return refuse(s, "no memory to check it");
    s->marks[s->marked++] = s->floor = s->top;
    return 0;
}

/* Takes the topmost mark away and returns where it was, or -EBADMSG. `below` cells must lie under it. */
static int64_t unmark(struct scan *s, size_t below)
{
    if (s->marked == 0)
        return refuse(s, "a mark that is not there");
    size_t at = s->marks[--s->marked];
    s->floor = s->marked ? s->marks[s->marked - 1] : 0;
    if (at - s->floor < below)
        return refuse(s, "a stack too short");
    return (int64_t)at;
}

/* Runs the opcodes. *at is left at the one that was refused. */
static int run(struct scan *s, size_t size, size_t *at)
{
    const unsigned char *p = s->data;
    const unsigned char *const limit = p + size;
    const unsigned char *end = limit;   /* of the frame, or of the message */
    const unsigned char *fresh = NULL;  /* where MEMOIZE may stand: behind what made a value */
    const unsigned char *called = NULL; /* where REDUCE may stand: behind what made a tuple */
    int framed = 0;
    int error = 0;

    *at = 0;
    if (size < 2 || p[0] != 0x80 || p[1] != 5)
        return refuse(s, "no pickle of protocol 5");
    p += 2;
    while (!error) {
        if (p == end) {
            *at = (size_t)(p - s->data);
            if (end == limit)
                return refuse(s, "the end before STOP");
            end = limit;
            framed = 0;
        }
        const unsigned char *const opcode = p;
        *at = (size_t)(opcode - s->data);
        size_t left = (size_t)(end - ++p);
        size_t prefix; /* bytes of a length in front of an argument */
        uint64_t length;
        int64_t base;
        switch (*opcode) {
        case 'N':
            error = push(s, NONE, 0, 0);
            break;
        case 0x88: /* NEWTRUE */
        case 0x89: /* NEWFALSE */
            error = push(s, INT, *opcode == 0x88, 0);
            break;
        case 'K': /* BININT1 */
        case 'M': /* BININT2 */
        case 'J': /* BININT */
            length = *opcode == 'K' ? 1 : *opcode == 'M' ? 2 : 4;
            if (left < length)
                return refuse(s, "the end inside an opcode");
            uint64_t number = little_endian(p, length);
            error = push(s, INT, length == 4 ? (uint64_t)(int32_t)(uint32_t)number : number, 0);
            p += length;
            break;
        case 'G': /* BINFLOAT, big endian */
            if (left < 8)
                return refuse(s, "the end inside an opcode");
            uint64_t bits = 0;
            for (size_t i = 0; i < 8; i++)
                bits = bits << 8 | p[i];
            error = push(s, FLOAT, bits, 0);
            p += 8;
            break;
        case 0x8c: /* SHORT_BINUNICODE */
        case 'C':  /* SHORT_BINBYTES */
        case 0x8a: /* LONG1 */
            prefix = 1;
            goto argument;
        case 'X':  /* BINUNICODE */
        case 'B':  /* BINBYTES */
        case 0x8b: /* LONG4 */
            prefix = 4;
            goto argument;
        case 0x8d: /* BINUNICODE8 */
        case 0x8e: /* BINBYTES8 */
        case 0x96: /* BYTEARRAY8 */
            prefix = 8;
        argument:
            if (left < prefix)
                return refuse(s, "the end inside an opcode");
            length = little_endian(p, prefix);
            if (length > left - prefix)
                return refuse(s, "a length beyond the end");
            p += prefix;
            if (*opcode == 0x8c || *opcode == 'X' || *opcode == 0x8d)
                error = push_string(s, STR, p, length);
            else if (*opcode == 0x8a || *opcode == 0x8b)
                error = push_long(s, p, (size_t)length);
            else if (*opcode == 0x96)
                error = push(s, MUTABLE, 0, 0);
            else
                error = push_string(s, BYTES, p, length);
            p += length;
            if (*opcode != 0x8a && *opcode != 0x8b)
                fresh = p;
            break;
        case ']':
            error = make_container(s, LIST, LIST_BYTES);
            fresh = p;
            break;
        case '}':
            error = make_container(s, DICT, DICT_BYTES);
            fresh = p;
            break;
        case 0x8f: /* EMPTY_SET */
            error = make_container(s, SET, SET_BYTES);
            fresh = p;
            break;
        case ')': /* EMPTY_TUPLE */
            error = make_tuple(s, 0);
            called = p;
            break;
        case 0x85: /* TUPLE1 */
        case 0x86:
        case 0x87: /* TUPLE3 */
            error = make_tuple(s, *opcode - 0x84U);
            fresh = called = p;
            break;
        case 't': /* TUPLE */
            if ((base = unmark(s, 0)) < 0)
                return (int)base;
            error = make_tuple(s, s->top - (size_t)base);
            fresh = called = p;
            break;
        case 0x91: /* FROZENSET */
            if ((base = unmark(s, 0)) < 0)
                return (int)base;
            error = make_frozenset(s, (size_t)base);
            fresh = p;
            break;
        case '(':
            error = mark(s);
            break;
        case 'a': /* APPEND */
            if (s->top - s->floor < 2)
                return refuse(s, "a stack too short");
            if (s->cells[s->top - 2].kind != LIST)
                return refuse(s, "items for what is no list");
            s->top--;
            break;
        case 'e': /* APPENDS */
            if ((base = unmark(s, 1)) < 0)
                return (int)base;
            if (s->cells[base - 1].kind != LIST)
                return refuse(s, "items for what is no list");
            s->top = (size_t)base;
            break;
        case 's': /* SETITEM */
            if (s->top - s->floor < 3)
                return refuse(s, "a stack too short");
            error = set_items(s, s->top - 2);
            break;
        case 'u': /* SETITEMS */
            if ((base = unmark(s, 1)) < 0)
                return (int)base;
            error = set_items(s, (size_t)base);
            break;
        case 0x90: /* ADDITEMS */
            if ((base = unmark(s, 1)) < 0)
                return (int)base;
            error = add_items(s, (size_t)base);
            break;
        case 0x94: /* MEMOIZE */
            if (fresh != opcode)
                return refuse(s, "a memo of what was not just made");
            error = memoize(s);
            called = called == opcode ? p : NULL;
            break;
        case 'h': /* BINGET */
        case 'j': /* LONG_BINGET */
            length = *opcode == 'h' ? 1 : 4;
            if (left < length)
                return refuse(s, "the end inside an opcode");
            error = recall(s, little_endian(p, length));
            p += length;
            break;
        case '0': /* POP: how a tuple that holds itself ends */
            if (s->top == s->floor || s->cells[s->top - 1].kind == CALLABLE)
                return refuse(s, "a stack too short");
            s->top--;
            break;
        case '1': /* POP_MARK */
            if ((base = unmark(s, 0)) < 0)
                return (int)base;
            s->top = (size_t)base;
            break;
        case 0x93: /* STACK_GLOBAL */
            error = name_constructor(s);
            fresh = p;
            break;
        case 'R': /* REDUCE */
            if (called != opcode)
                return refuse(s, "a call without arguments of its own");
            error = call_constructor(s, (uint64_t)*at);
            fresh = p;
            break;
        case 0x95: /* FRAME */
            if (framed)
                return refuse(s, "a frame in a frame");
            if (left < 8 || little_endian(p, 8) > left - 8)
                return refuse(s, "a frame beyond the end");
            end = p + 8 + little_endian(p, 8);
            p += 8;
            framed = 1;
            fresh = fresh == opcode ? p : NULL; /* a frame may begin behind any opcode */
            called = called == opcode ? p : NULL;
            break;
        case '.':
            if (p != limit)
                return refuse(s, "bytes behind the end");
            if (s->top != 1 || s->marked || s->pending)
                return refuse(s, "not one value");
            return s->named;
        default:
            return refuse(s, "an opcode that plain data does not need");
        }
    }
    return error;
}

int lipc_scan(const char *data, size_t size, struct lipc_scan_report *report)
{
    struct scan s;
    memset(&s, 0, offsetof(struct scan, inline_cells));
    s.data = (const unsigned char *)data;
    s.cells = s.inline_cells;
    s.memo = s.inline_memo;
    s.cell_room = s.memo_room = INLINE_CELLS;
    s.marks = s.inline_marks;
    s.mark_room = INLINE_MARKS;
    s.budget.work_limit = WORK_BASE + WORK_PER_BYTE * (uint64_t)size;
    s.budget.memory_limit = MEMORY_BASE > MEMORY_PER_BYTE * (uint64_t)size ? MEMORY_BASE
                                                                          : MEMORY_PER_BYTE * (uint64_t)size;
    size_t offset;
    int found = run(&s, size, &offset);
    if (s.cells != s.inline_cells)
        free(s.cells);
    if (s.memo != s.inline_memo)
        free(s.memo);
    if (s.marks != s.inline_marks)
        free(s.marks);
    for (size_t i = 0; i < s.table_count; i++)
        lipc_keys_free(&s.tables[i]);
    free(s.tables);
    free(s.table_of);
    free(s.nodes);
    if (report != NULL)
        *report = (struct lipc_scan_report){offset, s.reason};
    return found;
}
