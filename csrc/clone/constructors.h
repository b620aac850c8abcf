/* SPDX-License-Identifier: MIT
 *
 * The constructors that a message may call: TABLE of lensipc/clone/constructors.py, as the reader uses it. A row says
 * what each argument may be and what a call costs. The reader checks all of that before it calls anything.
 */
#ifndef LIPC_CONSTRUCTORS_H
#define LIPC_CONSTRUCTORS_H

#include <Python.h>

#include <stdint.h>

/* What an argument may be, as bits. */
enum {
    LIPC_TAKES_NONE = 1,
    LIPC_TAKES_BOOL = 2,
    LIPC_TAKES_INT = 4,
    LIPC_TAKES_FLOAT = 8,
    LIPC_TAKES_STR = 16,
    LIPC_TAKES_BYTES = 32,
    LIPC_TAKES_SCALARS = 64, /* a tuple of the kinds above */
    LIPC_TAKES_TUPLE = 128,  /* a tuple of anything: the row's price function checks it */
    LIPC_TAKES_ARRAY = 256,  /* a numpy.ndarray */
    LIPC_TAKES_ERROR = 512,  /* an exception that another row made */
    LIPC_TAKES_ANY = 1024,
};

/* The most characters of a text in an exception, and the most characters or bytes of an item in a tuple of scalars. An
 * int in such a tuple has at most 64 bits. */
#define LIPC_TEXT_LIMIT 32768

/* What a row does. */
enum lipc_row_action {
    LIPC_MAKES_DICT,  /* gives an empty dict, to which items are added */
    LIPC_MAKES_LIST,  /* gives an empty list, to which items are added */
    LIPC_GIVES_LAST,  /* returns its last argument */
    LIPC_CALLS,       /* calls `make` */
    LIPC_CALLS_USER,  /* calls `make`, which is not lensipc's own code */
    LIPC_MAKES_ARRAY, /* calls `make`; its third argument may be the number of one of the message's buffers */
    LIPC_MAKES_ERROR, /* calls `make`, which gives an exception */
};

struct lipc_argument {
    uint32_t takes;
    int64_t low, high; /* the range of an int if high >= low; else the int has at most `size` bits */
    int64_t size;      /* the most characters, bytes or items of a str, bytes or tuple */
};

#define LIPC_ARGUMENTS 8

struct lipc_row {
    PyObject *name; /* a str */
    /* `price` takes the arguments and returns what the call costs in addition. It may be None. */
    PyObject *make, *price;
    enum lipc_row_action does;
    int plain;           /* the result is a builtin, or an array of a simple dtype */
    uint32_t cost;       /* of a call, in units of 10 ns */
    uint32_t per_byte;   /* for each byte of its arguments, in addition */
    uint32_t hash_cost;  /* of hash() of the result; UINT32_MAX: the result cannot be a key */
    Py_ssize_t required, count;
    struct lipc_argument arguments[LIPC_ARGUMENTS];
    int has_rest; /* any number of further arguments like `rest` may follow */
    struct lipc_argument rest;
};

/* Called once by module.c, with the GIL. Does not block. Takes the table's rows as tuples. Returns 0, or -1 with an
 * exception set. */
int lipc_rows_register(PyObject *rows);

/* Called by the reader, with the GIL. Does not block. Returns the row with this name. Returns NULL if there is none,
 * with no exception set. */
const struct lipc_row *lipc_row_of(PyObject *name);

/* Called by the reader. Does not block. Returns the number of a row. */
uint32_t lipc_row_number(const struct lipc_row *row);

/* Called by the reader. Does not block. Returns the row with this number. */
const struct lipc_row *lipc_row_at(uint32_t number);

/* Called by the reader, with the GIL. Does not block. Returns NULL if the row takes these arguments, with the number of
 * their bytes in *bytes. Otherwise returns the reason. May set MemoryError. Runs no user code. */
const char *lipc_row_refuses(const struct lipc_row *row, PyObject *arguments, uint64_t *bytes);

#endif
