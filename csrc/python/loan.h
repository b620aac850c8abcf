/* SPDX-License-Identifier: MIT
 *
 * A loan of main's as a Python object that exports its memory.
 */
#ifndef LIPC_PYTHON_LOAN_H
#define LIPC_PYTHON_LOAN_H

#include <Python.h>

#include "endpoint/slabs.h"

/* Called once by module.c, with the GIL. Does not block. Adds the type Lent to the module. Returns 0, or -1 with an exception
 * set. */
int lipc_lent_type(PyObject *module);

/* Called by module.c, with the GIL. Does not block. Returns a new reference to the Lent of a loan for an array of `size`
 * bytes. It has a reference to `owner`, which owns the slabs. Returns NULL without an exception if there is no room, or with
 * MemoryError set. */
PyObject *lipc_lend(struct lipc_slabs *slabs, PyObject *owner, uint64_t size);

/* Called by module.c, with the GIL. Does not block. Returns the loan in which an array lies, or NULL if there is none, or if
 * the array is not the one that lensipc/clone/loan.py has made there, or is empty now. It is valid while the array is
 * neither emptied nor gone. */
struct lipc_loan *lipc_loan_of(PyObject *array);

#endif
