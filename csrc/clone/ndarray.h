/* SPDX-License-Identifier: MIT
 *
 * numpy's arrays, as the writer and the reader handle them: large ones of simple dtypes, contiguous in C's order.
 *
 * Their fields are read without a call: to get one attribute of an array in Python takes as long as all of this. The struct is
 * numpy's ABI since 1.0: the macros of its headers read these fields inline. lensipc/clone/ndarray.py registers numpy when it is
 * imported; before, there are no arrays.
 */
#ifndef LIPC_NDARRAY_H
#define LIPC_NDARRAY_H

#include <Python.h>

#include <stdint.h>

/* Most dimensions of an array that is handled here. */
#define LIPC_ARRAY_DIMENSIONS 32

/* Describes an array. What it points to belongs to the array, and is valid until that is changed. */
struct lipc_array {
    const char *dtype; /* its text */
    const char *data;
    size_t size; /* in bytes */
    int dimensions;
    const Py_ssize_t *shape;
};

/* With the GIL. Takes `numpy.ndarray`, `numpy.frombuffer`, (dtype, text, size of an item) of each dtype, and an array of
 * 2 times 3 with the address of its memory: 1, 0 if that one is not as the struct has it, -1 with an exception set. */
int lipc_arrays_register(PyObject *type, PyObject *from_buffer, PyObject *dtypes, PyObject *probe, const void *address);

/* With the GIL. Whether `obj` is an array of at least LIPC_OUT_OF_BAND bytes that is handled here; if so, describes it in *array.
 * Runs no code. */
int lipc_array_of(PyObject *obj, struct lipc_array *array);

/* With the GIL. Whether `obj` is exactly a numpy.ndarray. */
int lipc_is_array(PyObject *obj);

/* With the GIL. Some array, for a trial: a new reference. NULL with MemoryError set. */
PyObject *lipc_any_array(void);

/* With the GIL. The array of `size` bytes at `offset` of `body` that the arguments of as_array describe: a new
 * reference. NULL with no exception set where that is left to the constructor in Python: `body` is not writable, the dtype is
 * none that is handled here, the order is not C's, or shape and size differ. NULL with an exception set. */
PyObject *lipc_array_in(PyObject *body, uint64_t offset, uint64_t size, PyObject *arguments);

#endif
