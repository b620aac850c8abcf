/* SPDX-License-Identifier: MIT
 *
 * A tree of plain builtins as the opcodes of a pickle.
 */
#include "plain.h"

#include "arrays.h"

#include <string.h>

/* Containers that more than one thing refers to: the second time that one turns up, this is no tree. */
#define SHARED 16

/* What an array begins with: the name of its constructor, and the mark of what that is called with. */
#define ARRAY "\x8c\x0elensipc.values\x8c\x08" "as_array\x93("

struct writer {
    unsigned char *at;
    unsigned char *end;
    struct lipc_plain *message; /* which takes the arrays; NULL: there may be none */
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

static int write_number(struct writer *w, long long value)
{
    if (!has_room(w, 10))
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

static int write_int(struct writer *w, PyObject *obj)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    return !overflow && write_number(w, value);
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

static int write_array(struct writer *w, PyObject *obj)
{
    struct lipc_plain *message = w->message;
    struct lipc_array array;
    if (message == NULL || message->array_count == LIPC_PLAIN_ARRAYS || !lipc_array_of(obj, &array) ||
        !has_room(w, sizeof ARRAY))
        return 0;
    for (size_t i = 0; i < message->array_count; i++)
        if (message->parts[2 + 2 * i].data == array.data) /* the pickler's business: they may share their memory */
            return 0;
    memcpy(w->at, ARRAY, sizeof ARRAY - 1);
    w->at += sizeof ARRAY - 1;
    if (!write_bytes(w, SHORT_BINUNICODE, array.dtype, (Py_ssize_t)strlen(array.dtype)) ||
        !write_bytes(w, SHORT_BINUNICODE, "C", 1) || !write_number(w, (long long)message->array_count))
        return 0;
    for (int i = 0; i < array.dimensions; i++)
        if (!write_number(w, array.shape[i]))
            return 0;
    message->parts[2 + 2 * message->array_count] = (struct lipc_part){array.data, array.size};
    message->arrays[message->array_count++] = obj;
    Py_INCREF(obj);
    return write_opcode(w, TUPLE) && write_opcode(w, REDUCE);
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
    return write_array(w, obj);
}

static void put(unsigned char *to, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (unsigned char)(value >> 8 * i);
}

/* Puts what comes before the pickle, and between it and the arrays, in its place. */
static void add_head(struct lipc_plain *message, size_t pickle_size)
{
    static const char zeros[LIPC_PLAIN_ALIGNMENT];
    size_t arrays = message->array_count;
    memcpy(message->head, LIPC_PLAIN_MAGIC, 4);
    put(message->head + 4, arrays, 4);
    put(message->head + 8, pickle_size, 8);
    message->parts[0] = (struct lipc_part){(const char *)message->head, LIPC_PLAIN_HEAD(arrays)};
    message->parts[1] = (struct lipc_part){(const char *)message->pickle, pickle_size};
    size_t end = LIPC_PLAIN_HEAD(arrays) + pickle_size;
    for (size_t i = 0; i < arrays; i++) {
        struct lipc_part *array = &message->parts[2 + 2 * i];
        size_t padding = -end % LIPC_PLAIN_ALIGNMENT;
        put(message->head + LIPC_PLAIN_HEAD(i), array->size, 8);
        if (i == 0) { /* one piece fewer */
            memset(message->pickle + pickle_size, 0, padding);
            message->parts[1].size += padding;
        } else {
            array[-1] = (struct lipc_part){zeros, padding};
        }
        end += padding + array->size;
    }
    message->count = 1 + 2 * arrays;
    message->size = end;
}

size_t lipc_plain_write(PyObject *obj, int with_arrays, struct lipc_plain *message)
{
    message->size = message->array_count = 0;
#ifdef Py_GIL_DISABLED
    (void)obj; /* another thread may change a dict while it is read */
    (void)with_arrays;
#else
    struct writer w = {.at = message->pickle,
                       .end = message->pickle + LIPC_PLAIN_MAX,
                       .message = with_arrays ? message : NULL};
    *w.at++ = PROTO;
    *w.at++ = 5;
    if (!write_value(&w, obj, 0)) {
        PyErr_Clear();
        lipc_plain_release(message);
        return 0;
    }
    *w.at++ = STOP;
    size_t size = (size_t)(w.at - message->pickle);
    message->parts[0] = (struct lipc_part){(const char *)message->pickle, size};
    message->count = 1;
    message->size = size;
    if (message->array_count)
        add_head(message, size);
#endif
    return message->size;
}

void lipc_plain_release(struct lipc_plain *message)
{
    while (message->array_count)
        Py_DECREF(message->arrays[--message->array_count]);
}
