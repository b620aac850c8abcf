/* SPDX-License-Identifier: MIT
 *
 * numpy's arrays, as the codec of plain messages meets them: large ones of simple dtypes, contiguous in C's order.
 *
 * They are looked at without a call: the stable ABI of Python 3.10 has no buffers, and each attribute that Python's side
 * would ask an array for takes as long as all of this. The struct is numpy's ABI since 1.0: its headers' macros read
 * these fields inline. lensipc.arrays tells what it needs to know, once that is imported; before, there are no arrays.
 */
#ifndef LIPC_ARRAYS_H
#define LIPC_ARRAYS_H

#include <Python.h>

#include <stdint.h>

/* Bytes from which on an array's memory travels beside the pickle: OUT_OF_BAND of lensipc.arrays. */
#define LIPC_ARRAY_MIN 65536

/* Dimensions of an array that is handled here. */
#define LIPC_ARRAY_DIMENSIONS 32

/* What there is to tell of an array. All of it is the array's, and stays until its owner changes it. */
struct lipc_array {
    const char *dtype; /* its text */
    const char *data;
    size_t size; /* in bytes */
    int dimensions;
    const Py_ssize_t *shape;
};

/* With the GIL. Takes `numpy.ndarray`, `numpy.frombuffer`, (dtype, text, size of an item) of each dtype, and an array of
 * 2 times 3 with the address of its memory: 1, 0 if that one is not as the struct has it, -1 with an exception set. */
int lipc_arrays_know(PyObject *type, PyObject *from_buffer, PyObject *dtypes, PyObject *probe, const void *address);

/* With the GIL. Whether `obj` is an array that is handled here, and then what there is to tell of it. Runs no code. */
int lipc_array_of(PyObject *obj, struct lipc_array *array);

/* With the GIL. An array of `size` bytes at `offset` of `body`, writable memory: a new reference. NULL with no exception
 * set if none of that dtype and shape has that size; NULL with an exception set. */
PyObject *lipc_array_make(PyObject *body, uint64_t offset, uint64_t size, const char *dtype, size_t dtype_size,
                          const Py_ssize_t *shape, int dimensions);

#endif
