/* SPDX-License-Identifier: MIT
 *
 * A received message as an object of Python's: its fields are read by name.
 */
#ifndef LIPC_MESSAGE_H
#define LIPC_MESSAGE_H

#include <Python.h>

#include "fast.h"

/* With the GIL, once. The type Message, whose constructor takes its fields by name: a new reference, or NULL with an exception
 * set. */
PyObject *lipc_message_type(void);

/* With the GIL. The message of `record`, with the body `body`, or the value that it is and the body None: both references are
 * taken over, and either may be NULL with an exception set. A new reference, or NULL with an exception set. */
PyObject *lipc_message_new(const struct lipc_record *record, PyObject *body, PyObject *value);

#endif
