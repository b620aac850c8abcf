/* SPDX-License-Identifier: MIT
 *
 * How deep a value is, and how large it would be if every shared part were written out at each place. In a few bytes a
 * message can share lists in such a way that walking them takes a year: repr, ==, json and hash visit a part as often
 * as it occurs.
 */
#ifndef LIPC_MEASURE_H
#define LIPC_MEASURE_H

#include <Python.h>

#include <stdint.h>

enum lipc_measured { LIPC_FITS, LIPC_TOO_DEEP, LIPC_TOO_LARGE, LIPC_NO_MEMORY };

/* The limits for a value, and the result. */
struct lipc_measurement {
    /* NULL or a dict. Its keys are the addresses of objects of users' classes. Its values are tuples of the object and
     * what it holds. */
    PyObject *kept;
    unsigned depth_limit;
    uint64_t size_limit;
    uint64_t visited; /* values that the walk has visited: each took some 10 ns */
    uint64_t size; /* of the value, if it fits */
};

/* Called by the reader and measure.c, with the GIL. Does not block. Returns how many values a leaf counts for. A leaf
 * is no container. A text, bytes or an int counts by its length. An array counts by what numpy prints of it. Runs no
 * user code. Sets no exception. */
uint64_t lipc_leaf_size(PyObject *leaf);

/* Called by the reader, with the GIL. Does not block. Checks `value` against both limits. Follows exact builtin
 * containers and what `kept` has, and counts all other objects as leaves. A cycle ends where it closes. Returns
 * LIPC_FITS or why not. Does not recurse. Runs no user code. Sets no exception. */
enum lipc_measured lipc_measure(PyObject *value, struct lipc_measurement *measurement);

#endif
