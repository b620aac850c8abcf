/* SPDX-License-Identifier: MIT
 *
 * Python functions over the C core. None of them blocks. An endpoint or topic is given as its address, an int, which its
 * owner in lensipc/endpoint.py keeps from being used once it is closed.
 */
#include "calls.h"

#include "../lensipc.h"
#include "plain.h"

static PyObject *scan(PyObject *module, PyObject *message)
{
    char *data;
    Py_ssize_t size;
    (void)module;
    if (PyBytes_AsStringAndSize(message, &data, &size))
        return NULL;
    return PyLong_FromLong(lipc_scan(data, (size_t)size, NULL));
}

static PyObject *encode(PyObject *module, PyObject *value)
{
    (void)module;
    return lipc_plain_encode(value);
}

static PyObject *decode(PyObject *module, PyObject *message)
{
    char *data;
    Py_ssize_t size;
    (void)module;
    if (PyBytes_AsStringAndSize(message, &data, &size))
        return NULL;
    PyObject *value = lipc_plain_decode((const unsigned char *)data, (size_t)size);
    if (value == NULL && !PyErr_Occurred()) {
        value = Py_NotImplemented;
        Py_INCREF(value);
    }
    return value;
}

static PyMethodDef functions[] = {
    {"scan", scan, METH_O, "scan(message): what lipc_scan finds, as an int."},
    {"encode", encode, METH_O, "encode(value): the bytes of a small message of plain data, or None."},
    {"decode", decode, METH_O, "decode(message): the value of such a message, or NotImplemented."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "lensipc._core.calls", NULL, -1, functions,
                                        NULL, NULL, NULL, NULL};

PyObject *lipc_calls(void)
{
    return PyModule_Create(&definition);
}
