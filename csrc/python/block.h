/* SPDX-License-Identifier: MIT
 *
 * A body that is read in place, as Python objects that export its memory.
 */
#ifndef LIPC_PYTHON_BLOCK_H
#define LIPC_PYTHON_BLOCK_H

#include <Python.h>

#include "endpoint/views.h"

/* Called once by module.c, with the GIL. Does not block. Adds the types Block and Lease to the module. Returns 0, or -1 with
 * an exception set. */
int lipc_block_types(PyObject *module);

/* Called by module.c, with the GIL. Does not block. Returns the Block of a Lease as a borrowed reference, or NULL if
 * `object` is no Lease. */
PyObject *lipc_leased_block(PyObject *object);

/* Called by module.c, with the GIL. Does not block. Returns a new Block that has no memory yet, or NULL with an exception
 * set. */
PyObject *lipc_block_new(void);

/* Called by module.c, once, with the GIL. Does not block. The Block has this view from now on, and frees it in the end. */
void lipc_block_set(PyObject *object, struct lipc_view *view);

#endif
