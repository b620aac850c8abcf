/* SPDX-License-Identifier: MIT
 *
 * A received message as a Python object, whose fields are read by name.
 */
#ifndef LIPC_MESSAGE_H
#define LIPC_MESSAGE_H

#include <Python.h>

#include "fast.h"

/* Called once by module.c, with the GIL. Does not block. Returns a new reference to the type Message, or NULL with an
 * exception set. The type's constructor takes the fields by name. */
PyObject *lipc_message_type(void);

/* Called by module.c, with the GIL. Does not block. Makes the message of `record`. If the body was decoded, `value` is
 * its value and `body` is None. Takes over both references, and either may be NULL with an exception set. Returns a new
 * reference, or NULL with an exception set. */
PyObject *lipc_message_new(const struct lipc_record *record, PyObject *body, PyObject *value);

#endif
