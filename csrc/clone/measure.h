/* SPDX-License-Identifier: MIT
 *
 * How deep a value is, and how large it would be if every shared part were written out wherever it occurs. A few bytes of a
 * message can share lists in such a way that walking them takes a year: repr, ==, json and hash visit a part as often as it occurs.
 */
#ifndef LIPC_MEASURE_H
#define LIPC_MEASURE_H

#include <Python.h>

#include <stdint.h>

enum lipc_measured { LIPC_FITS, LIPC_TOO_DEEP, LIPC_TOO_LARGE, LIPC_NO_MEMORY };

/* The limits that a value is measured against, and the result. */
struct lipc_measurement {
    PyObject *kept; /* NULL, or a dict: from the address of an object of a user's class to a tuple of it and what it holds */
    unsigned depth_limit;
    uint64_t size_limit;
    uint64_t visited; /* values that the walk has come by: it took some 10 ns for each */
    uint64_t size; /* of the value, where it fits */
};

/* With the GIL. How many values one that is no container counts for: text, bytes and ints are as much as they have, and an array as
 * much as numpy prints of one. Runs no code of anybody's. Sets no exception. */
uint64_t lipc_leaf_size(PyObject *leaf);

/* With the GIL. Holds `value` against both limits; a cycle ends where it closes. Of exact builtins, and of what `kept` tells:
 * whatever else is in it is a leaf. Does not recurse, and runs no code of anybody's. Sets no exception. */
enum lipc_measured lipc_measure(PyObject *value, struct lipc_measurement *measurement);

#endif
