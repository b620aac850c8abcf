/* SPDX-License-Identifier: MIT
 *
 * A tree of plain builtins as the opcodes of a pickle.
 */
#include "plain.h"

#include <string.h>

/* Containers that more than one thing refers to: the second time that one turns up, this is no tree. */
#define SHARED 16

struct writer {
    unsigned char *at;
    unsigned char *end;
    const PyObject *shared[SHARED];
    int shared_count;
};

/* Room for an opcode and the fixed part of its argument; and for STOP behind it all. */
static int has_room(const struct writer *w, size_t size)
{
    return (size_t)(w->end - w->at) > size;
}

static int write_bytes(struct writer *w, enum opcode opcode, const char *data, Py_ssize_t size)
{
    if (size > 255 || !has_room(w, (size_t)size + 2))
        return 0;
    *w->at++ = (unsigned char)opcode;
    *w->at++ = (unsigned char)size;
    memcpy(w->at, data, (size_t)size);
    w->at += size;
    return 1;
}

static int write_int(struct writer *w, PyObject *obj)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    if (overflow || !has_room(w, 10))
        return 0;
    uint64_t bits = (uint64_t)value;
    int size;
    if (value >= 0 && value < 1 << 16) {
        *w->at++ = value < 1 << 8 ? BININT1 : BININT2;
        size = value < 1 << 8 ? 1 : 2;
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        *w->at++ = BININT;
        size = 4;
    } else {
        *w->at++ = LONG1;
        *w->at++ = 8;
        size = 8;
    }
    for (int i = 0; i < size; i++)
        *w->at++ = (unsigned char)(bits >> 8 * i);
    return 1;
}

static int write_float(struct writer *w, PyObject *obj)
{
    double value = PyFloat_AsDouble(obj);
    uint64_t bits;
    if (!has_room(w, 9))
        return 0;
    memcpy(&bits, &value, sizeof bits);
    bits = BIG_ENDIAN_OF(bits);
    *w->at++ = BINFLOAT;
    memcpy(w->at, &bits, sizeof bits);
    w->at += sizeof bits;
    return 1;
}

static int write_opcode(struct writer *w, enum opcode opcode)
{
    if (!has_room(w, 1))
        return 0;
    *w->at++ = (unsigned char)opcode;
    return 1;
}

/* Whether a container has not been written before. One that only its parent refers to cannot turn up twice. */
static int is_new(struct writer *w, const PyObject *obj)
{
    if (Py_REFCNT(obj) == 1)
        return 1;
    for (int i = 0; i < w->shared_count; i++)
        if (w->shared[i] == obj)
            return 0;
    if (w->shared_count == SHARED)
        return 0;
    w->shared[w->shared_count++] = obj;
    return 1;
}

/* Writes a value: 1, or 0 when it is left to the pickler. Types are compared exactly: no code of a subclass runs. */
static int write_value(struct writer *w, PyObject *obj, int depth)
{
    const PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyUnicode_Type) {
        Py_ssize_t size;
        const char *data = PyUnicode_AsUTF8AndSize(obj, &size); /* NULL: a surrogate; cleared by our caller */
        return data != NULL && write_bytes(w, SHORT_BINUNICODE, data, size);
    }
    if (type == &PyLong_Type)
        return write_int(w, obj);
    if (type == &PyFloat_Type)
        return write_float(w, obj);
    if (obj == Py_None)
        return write_opcode(w, NONE);
    if (type == &PyBool_Type)
        return write_opcode(w, obj == Py_True ? NEWTRUE : NEWFALSE);
    if (type == &PyBytes_Type)
        return PyBytes_Size(obj) <= 255 && write_bytes(w, SHORT_BINBYTES, PyBytes_AsString(obj), PyBytes_Size(obj));
    if (depth == LIPC_PLAIN_DEPTH)
        return 0;
    if (type == &PyDict_Type) {
        PyObject *key, *value;
        Py_ssize_t position = 0;
        if (!is_new(w, obj) || !write_opcode(w, EMPTY_DICT))
            return 0;
        if (PyDict_Size(obj) == 0)
            return 1;
        if (!write_opcode(w, MARK))
            return 0;
        while (PyDict_Next(obj, &position, &key, &value))
            if (!write_value(w, key, depth + 1) || !write_value(w, value, depth + 1))
                return 0;
        return write_opcode(w, SETITEMS);
    }
    if (type == &PyList_Type) {
        Py_ssize_t count = PyList_Size(obj);
        if (!is_new(w, obj) || !write_opcode(w, EMPTY_LIST))
            return 0;
        if (count == 0)
            return 1;
        if (!write_opcode(w, MARK))
            return 0;
        for (Py_ssize_t i = 0; i < count; i++)
            if (!write_value(w, PyList_GetItem(obj, i), depth + 1))
                return 0;
        return write_opcode(w, APPENDS);
    }
    if (type == &PyTuple_Type) {
        Py_ssize_t count = PyTuple_Size(obj);
        if (count == 0)
            return write_opcode(w, EMPTY_TUPLE);
        if (!is_new(w, obj) || (count > 3 && !write_opcode(w, MARK)))
            return 0;
        for (Py_ssize_t i = 0; i < count; i++)
            if (!write_value(w, PyTuple_GetItem(obj, i), depth + 1))
                return 0;
        return write_opcode(w, count > 3 ? TUPLE : TUPLE1 + (enum opcode)(count - 1));
    }
    return 0;
}

size_t lipc_plain_write(PyObject *obj, unsigned char *buffer)
{
#ifdef Py_GIL_DISABLED
    (void)obj; /* another thread may change a dict while it is read */
    (void)buffer;
#else
    struct writer w = {.at = buffer, .end = buffer + LIPC_PLAIN_MAX};
    *w.at++ = PROTO;
    *w.at++ = 5;
    if (write_value(&w, obj, 0)) {
        *w.at++ = STOP;
        return (size_t)(w.at - buffer);
    }
    PyErr_Clear();
#endif
    return 0;
}
