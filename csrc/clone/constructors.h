/* SPDX-License-Identifier: MIT
 *
 * The constructors that a message may call: TABLE of lensipc/clone/constructors.py, as the reader uses it. Its rows say of each
 * argument what it may be, and what a call costs. All of that is checked here, before anything is called.
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
    LIPC_TAKES_TUPLE = 128,  /* a tuple of anything: the row's price checks it */
    LIPC_TAKES_ARRAY = 256,  /* a numpy.ndarray */
    LIPC_TAKES_ERROR = 512,  /* an exception that another row made */
    LIPC_TAKES_ANY = 1024,
};

/* The most characters of a text in an exception, and characters or bytes of an item of a tuple of scalars. An int there has 64
 * bits at most. */
#define LIPC_TEXT_LIMIT 32768

/* What a row does. */
enum lipc_does {
    LIPC_MAKES_DICT,  /* gives an empty dict, which items are put into */
    LIPC_MAKES_LIST,  /* likewise */
    LIPC_GIVES_LAST,  /* gives its last argument back */
    LIPC_CALLS,       /* calls `make` */
    LIPC_CALLS_USER,  /* the same, of code that is not lensipc's own */
    LIPC_MAKES_ARRAY, /* the same; its third argument may be one of the message's buffers */
    LIPC_MAKES_ERROR, /* the same; gives an exception */
};

struct lipc_argument {
    uint32_t takes;
    int64_t low, high; /* of an int, if high >= low; else it has at most `size` bits */
    int64_t size;      /* of a str, bytes or tuple at most */
};

#define LIPC_ARGUMENTS 8

struct lipc_row {
    PyObject *name; /* a str */
    PyObject *make, *price; /* price: takes the arguments, gives what the call costs besides; or None */
    enum lipc_does does;
    int plain;           /* the result is a builtin, or an array of a simple dtype */
    uint32_t cost;       /* of a call, in units of 10 ns */
    uint32_t per_byte;   /* and for each byte of its arguments */
    uint32_t hash_cost;  /* of the result; UINT32_MAX: it is no key */
    Py_ssize_t required, count;
    struct lipc_argument arguments[LIPC_ARGUMENTS];
    int has_rest; /* any number of others like `rest` may follow */
    struct lipc_argument rest;
};

/* With the GIL, once. Takes the table's rows as tuples: 0, or -1 with an exception set. */
int lipc_rows_register(PyObject *rows);

/* With the GIL. The row of that name; NULL if there is none, with no exception set. */
const struct lipc_row *lipc_row_of(PyObject *name);

/* The number of a row, and the row of a number. */
uint32_t lipc_row_number(const struct lipc_row *row);
const struct lipc_row *lipc_row_at(uint32_t number);

/* With the GIL. Whether a row takes these arguments: NULL if so, with the bytes that they have in *bytes; else why not. May
 * set MemoryError. Runs no code of anybody's. */
const char *lipc_row_refuses(const struct lipc_row *row, PyObject *arguments, uint64_t *bytes);

#endif
