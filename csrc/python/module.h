/* SPDX-License-Identifier: MIT
 *
 * The calls that every message makes, as functions of Python's own. In cffi's glue such a call takes two to four times as
 * long: it converts each argument by its C type, and hands over the GIL, for which busy threads can make one wait 5 ms.
 */
#ifndef LIPC_MODULE_H
#define LIPC_MODULE_H

#include <Python.h>

/* With the GIL. A new module object of the functions in module.c, or NULL with an exception set. */
PyObject *lipc_calls(void);

#endif
