/* SPDX-License-Identifier: MIT
 *
 * numpy's arrays, as the writer and the reader handle them: large arrays of simple dtypes, contiguous in C order.
 *
 * Their fields are read without a call, because getting one attribute of an array in Python takes as long as all of
 * this. The struct is numpy's ABI since 1.0: the macros of numpy's headers read these fields inline.
 * lensipc/clone/ndarray.py registers numpy when it is imported. Before that there are no arrays.
 */
#ifndef LIPC_NDARRAY_H
#define LIPC_NDARRAY_H

#include <Python.h>

#include <stdint.h>

/* The most dimensions of an array that is handled here. */
#define LIPC_ARRAY_DIMENSIONS 32

/* Describes an array. Its pointers point into the array, and are valid until the array is changed. */
struct lipc_array {
    const char *dtype; /* the dtype's text */
    const char *data;
    size_t size; /* in bytes */
    int dimensions;
    const Py_ssize_t *shape;
};

/* Called by module.c, with the GIL. Does not block. `type` is numpy.ndarray and `from_buffer` is numpy.frombuffer.
 * `dtypes` has a (dtype, text, size of an item) for each dtype. `probe` is an array of 2 times 3 whose memory is at
 * `address`, and was never exported as a buffer. `build_view` is the constructor of read-only arrays. Returns 1; 0 if
 * `probe` does not match the struct; or -1 with an exception set. */
int lipc_arrays_register(PyObject *type, PyObject *from_buffer, PyObject *dtypes, PyObject *probe, const void *address,
                         PyObject *build_view);

/* Called by the writer, with the GIL. Does not block. Returns whether `obj` is an array of at least LIPC_OUT_OF_BAND
 * bytes that is handled here. If it is, describes it in *array. Runs no user code. */
int lipc_array_of(PyObject *obj, struct lipc_array *array);

/* Called by constructors.c and measure.c, with the GIL. Does not block. Returns whether `obj` is exactly a
 * numpy.ndarray. */
int lipc_is_array(PyObject *obj);

/* Called by the reader, with the GIL. Does not block. Returns a new reference to some array, for a trial; to an empty
 * list if numpy is not registered; or NULL with MemoryError set. */
PyObject *lipc_placeholder_array(void);

/* Called by the reader, with the GIL. Does not block. Returns a new reference to the array of `size` bytes at `offset`
 * of `body` that the arguments of as_array describe. `body` must be writable, or the array is to be read-only. With
 * `view`, the array has another one for its base, as lipc_array_empty needs it. Returns NULL with an exception set on
 * failure. Returns NULL without an exception if the constructor in Python must make the array: the dtype is not handled
 * here or is bool, the order is not C's, or shape and size differ. */
PyObject *lipc_array_in(PyObject *body, uint64_t offset, uint64_t size, PyObject *arguments, int view);

/* Called by the reader, with the GIL. Does not block, but may run Python code. Calls `build_view`. Returns a new reference,
 * or NULL with an exception set. */
PyObject *lipc_build_view(PyObject *arguments);

/* Called by module.c, with the GIL. Does not block. Returns the base of an array that does not own its memory and has at
 * least one dimension, as a borrowed reference; else NULL. */
PyObject *lipc_array_base(PyObject *array);

/* Called by module.c, with the GIL. Does not block. Gives an array with a lipc_array_base the length 0. It then has `base`
 * for its base, and a reference to it. Its own base stays if `base` is NULL, or if a buffer was ever made of the array:
 * who has that refers to the array alone. */
void lipc_array_empty(PyObject *array, PyObject *base);

/* Called by module.c, with the GIL. Does not block. `type` is the class Loan of lensipc/clone/loan.py, a subclass of
 * numpy.ndarray. The writer handles its instances as arrays. */
void lipc_loans_register(PyObject *type);

/* Called by python/loan.c and module.c, with the GIL. Does not block. Returns the root of an array on loan as a borrowed
 * reference: the plain array that is its base. Returns NULL if `array` is something else, a view of one, or emptied. */
PyObject *lipc_loan_root(PyObject *array);

/* Called by module.c, with the GIL. Does not block. Gives an array the shape (0,). Its base is not its base any more. No
 * Python code of a signal's handler runs meanwhile. Returns 0, or -1 with an exception set. */
int lipc_array_reset(PyObject *array);

#endif
