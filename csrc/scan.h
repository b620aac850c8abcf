/* SPDX-License-Identifier: MIT
 *
 * The abstract interpreter's state, shared by scan.c, which reads opcodes, and effects.c, which knows what they do.
 */
#ifndef LIPC_SCAN_H
#define LIPC_SCAN_H

#include "keys.h"

#include <stddef.h>
#include <stdint.h>

/* Strings up to this length are hashed when they turn out to be in a tuple or frozenset; longer ones at once, so that
 * many references to one cost nothing; those beyond LONG_STRING never, since many of them do not fit a message. */
#define SHORT_STRING 64
#define LONG_STRING 65536

#define INLINE_CELLS 64
#define INLINE_MARKS 32

enum kind {
    NONE,
    INT,       /* value: the number; also True and False */
    LONG,      /* value: address of its bytes, size: how many; never one that fits an INT */
    FLOAT,     /* value: its bits; size: tells one nan from others */
    STR,       /* value: address of its bytes, size: how many; or value: a hash, size: HASHED */
    BYTES,     /* likewise */
    TUPLE,     /* value: index of its node */
    FROZENSET, /* likewise */
    RANDOM,    /* made by a constructor; nobody can foresee its hash. value: tells it from others, size: its depth */
    OPAQUE,    /* made by a constructor; its hash can be foreseen, not here. size: what hashing it takes */
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

struct lipc_scan {
    const char *reason;

    struct cell *cells; /* the stack */
    size_t top, cell_room;
    struct cell *memo;
    size_t memoized, memo_room;
    size_t *marks; /* heights of the stack */
    size_t marked, mark_room;


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

/* Notes why the message is refused, and gives -EBADMSG. */
int lipc_refuse(struct lipc_scan *s, const char *reason);

/* Doubles an array of `room` items, which may have begun as `inline_array`. 0 or -ENOMEM. */
int lipc_enlarge(void **array, size_t *room, size_t item, const void *inline_array);

uint64_t lipc_little_endian(const unsigned char *bytes, size_t size);

/* What follows does to the stack what opcodes do; all give 0 or -EBADMSG. The caller has made room for one cell more,
 * and has checked that no cell below the topmost mark is taken. */
int lipc_make_tuple(struct lipc_scan *s, size_t count);
int lipc_make_frozenset(struct lipc_scan *s, size_t first);
int lipc_make_container(struct lipc_scan *s, enum kind kind);
int lipc_make_long(struct lipc_scan *s, const unsigned char *bytes, size_t size);
int lipc_make_string(struct lipc_scan *s, enum kind kind, const unsigned char *bytes, uint64_t size);
/* The cells from `first` on go into the dict, or the set, below them. */
int lipc_set_items(struct lipc_scan *s, size_t first);
int lipc_add_items(struct lipc_scan *s, size_t first);
/* STACK_GLOBAL, and REDUCE; `unique` tells this value from others. */
int lipc_name_constructor(struct lipc_scan *s);
int lipc_call_constructor(struct lipc_scan *s, uint64_t unique);

/* Begins the scan of a pickle of `size` bytes, which sets its limits; and frees all that a scan holds. */
void lipc_scan_begin(struct lipc_scan *s, uint64_t size);
void lipc_scan_end(struct lipc_scan *s);

#endif
