/* SPDX-License-Identifier: MIT
 *
 * The opcodes of a pickle of plain builtins, each built as it is checked.
 */
#include "plain.h"

#include "arrays.h"

#include <string.h>

/* Marks that may be open at once; and values on the stack before it moves to the heap. */
#define MARKS LIPC_PLAIN_DEPTH
#define INLINE_STACK 128

struct reader {
    const unsigned char *at;
    const unsigned char *end;
    PyObject **stack;
    size_t top;
    size_t room;
    size_t floor; /* what an opcode may take lies at or above it: the topmost mark */
    size_t marks[MARKS];
    size_t marked;
    PyObject *inline_stack[INLINE_STACK];
    PyObject *body; /* the memory of the arrays; NULL: there are none */
    struct {
        uint64_t offset, size;
    } arrays[LIPC_PLAIN_ARRAYS];
    size_t array_count, taken;
};

static uint64_t little_endian(const unsigned char *bytes, int size)
{
    uint64_t value = 0;
    for (int i = size - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static PyObject *make_float(const unsigned char *bytes)
{
    uint64_t bits;
    double value;
    memcpy(&bits, bytes, sizeof bits);
    bits = BIG_ENDIAN_OF(bits);
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
}

#ifndef Py_GIL_DISABLED
/* Keys of dicts that came lately: to find one takes a third of making it, and its hash is known. Direct mapped, and
 * guarded by the GIL. A peer can fill it, with short strings. */
#define RECENT 512
#define RECENT_SIZE 24

static struct {
    PyObject *string;
    size_t size;
    unsigned char data[RECENT_SIZE];
} recent[RECENT];
#endif

/* A string where a key of a dict may stand. */
static PyObject *make_key(const unsigned char *data, size_t size)
{
#ifndef Py_GIL_DISABLED
    if (size <= RECENT_SIZE) {
        uint64_t hash = size;
        for (size_t i = 0; i < size; i++)
            hash = (hash ^ data[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
        size_t slot = (hash ^ hash >> 32) % RECENT;
        PyObject *string = recent[slot].string;
        if (string == NULL || recent[slot].size != size || memcmp(recent[slot].data, data, size)) {
            string = PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, NULL);
            if (string == NULL)
                return NULL;
            Py_XDECREF(recent[slot].string);
            recent[slot].string = string;
            recent[slot].size = size;
            memcpy(recent[slot].data, data, size);
        }
        Py_INCREF(string);
        return string;
    }
#endif
    return PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, NULL);
}

/* The tuple of the values from `first` on, in the place of them. 0 without memory. */
static int make_tuple(struct reader *r, size_t first)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)(r->top - first));
    if (tuple == NULL)
        return 0;
    for (size_t i = first; i < r->top; i++)
        PyTuple_SetItem(tuple, (Py_ssize_t)(i - first), r->stack[i]); /* which takes the reference over */
    r->stack[first] = tuple;
    r->top = first + 1;
    return 1;
}

/* Puts the values from `first` on into the empty list before them. Nobody else has seen it: another takes its place,
 * made in its size, which takes the references over. */
static int make_list(struct reader *r, size_t first)
{
    PyObject *empty = r->stack[first - 1];
    if (!PyList_CheckExact(empty) || PyList_Size(empty))
        return 0;
    PyObject *list = PyList_New((Py_ssize_t)(r->top - first));
    if (list == NULL)
        return 0;
    for (size_t i = first; i < r->top; i++)
        PyList_SetItem(list, (Py_ssize_t)(i - first), r->stack[i]);
    r->stack[first - 1] = list;
    r->top = first;
    Py_DECREF(empty);
    return 1;
}

/* Drops the values from `first` on. */
static void drop(struct reader *r, size_t first)
{
    while (r->top > first)
        Py_DECREF(r->stack[--r->top]);
}

/* A key whose hash takes a step: what a tuple of tuples takes is the scan's business. */
static int is_simple_key(const PyObject *key)
{
    const PyTypeObject *type = Py_TYPE(key);
    return type == &PyUnicode_Type || type == &PyLong_Type || type == &PyFloat_Type || type == &PyBool_Type ||
           type == &PyBytes_Type || key == Py_None;
}

/* Puts the values from `first` on into the empty dict before them. */
static int fill_dict(struct reader *r, size_t first)
{
    PyObject *dict = r->stack[first - 1];
    Py_ssize_t count = (Py_ssize_t)(r->top - first) / 2;
    if (!PyDict_CheckExact(dict) || (r->top - first) % 2 || PyDict_Size(dict))
        return 0;
    for (size_t i = first; i < r->top; i += 2)
        if (!is_simple_key(r->stack[i]) || PyDict_SetItem(dict, r->stack[i], r->stack[i + 1]))
            return 0;
    drop(r, first);
    return PyDict_Size(dict) == count; /* no key came twice */
}

static int enlarge(struct reader *r)
{
    PyObject **larger = PyMem_Malloc(2 * r->room * sizeof(PyObject *));
    if (larger == NULL)
        return 0;
    memcpy(larger, r->stack, r->top * sizeof(PyObject *));
    if (r->stack != r->inline_stack)
        PyMem_Free(r->stack);
    r->stack = larger;
    r->room *= 2;
    return 1;
}

/* Steps over a whole number as plain_encode.c writes one: 0 where none is there. */
static int read_number(struct reader *r, Py_ssize_t *number)
{
    size_t left = (size_t)(r->end - r->at);
    if (left >= 2 && r->at[0] == BININT1) {
        *number = r->at[1];
        r->at += 2;
    } else if (left >= 3 && r->at[0] == BININT2) {
        *number = (Py_ssize_t)little_endian(r->at + 1, 2);
        r->at += 3;
    } else if (left >= 5 && r->at[0] == BININT) {
        *number = (int32_t)(uint32_t)little_endian(r->at + 1, 4);
        r->at += 5;
    } else if (left >= 10 && r->at[0] == LONG1 && r->at[1] == 8) {
        *number = (Py_ssize_t)little_endian(r->at + 2, 8);
        r->at += 10;
    } else {
        return 0;
    }
    return 1;
}

static int step_over(struct reader *r, const char *expected, size_t size)
{
    if ((size_t)(r->end - r->at) < size || memcmp(r->at, expected, size))
        return 0;
    r->at += size;
    return 1;
}

static int is_text(PyObject *value, const char *text)
{
    return PyUnicode_CheckExact(value) && PyUnicode_CompareWithASCIIString(value, text) == 0;
}

/* Each of the two callers of `decode` has a copy of its own, in which it is known whether there are arrays, and the reading
 * of one is apart: a small message takes 15 ns of 240 less so. */
#define IN_EACH_CALLER static inline __attribute__((always_inline))
#define APART static __attribute__((noinline))

/* The array behind its constructor's name, in the one form that plain_encode.c writes: each takes the next memory. */
APART PyObject *read_array(struct reader *r)
{
    Py_ssize_t shape[LIPC_ARRAY_DIMENSIONS], number;
    int dimensions = 0;
    if (!step_over(r, "(\x8c", 2) || r->end == r->at || r->end - r->at - 1 < *r->at)
        return NULL;
    const char *dtype = (const char *)r->at + 1;
    size_t dtype_size = *r->at;
    r->at += 1 + dtype_size;
    if (!step_over(r, "\x8c\x01" "C", 3) || !read_number(r, &number) || number != (Py_ssize_t)r->taken ||
        r->taken == r->array_count)
        return NULL;
    while (dimensions < LIPC_ARRAY_DIMENSIONS && read_number(r, &shape[dimensions]))
        dimensions++;
    if (!step_over(r, "tR", 2))
        return NULL;
    size_t taken = r->taken++;
    return lipc_array_make(r->body, r->arrays[taken].offset, r->arrays[taken].size, dtype, dtype_size, shape, dimensions);
}

/* Runs the opcodes up to STOP: 1 when one value is left, 0 when this is left to the scan. */
IN_EACH_CALLER int read_value(struct reader *r)
{
    while (r->at != r->end) {
        unsigned opcode = *r->at++;
        size_t left = (size_t)(r->end - r->at);
        size_t size = 0; /* of what stands behind the opcode */
        PyObject *made = NULL;
        switch (opcode) {
        case SHORT_BINUNICODE:
        case SHORT_BINBYTES:
            if (left == 0 || left - 1 < *r->at)
                return 0;
            size = *r->at++;
            if (opcode == SHORT_BINBYTES)
                made = PyBytes_FromStringAndSize((const char *)r->at, (Py_ssize_t)size);
            else if ((r->top - r->floor) % 2 == 0 && r->floor && PyDict_CheckExact(r->stack[r->floor - 1]))
                made = make_key(r->at, size);
            else
                made = PyUnicode_DecodeUTF8((const char *)r->at, (Py_ssize_t)size, NULL);
            break;
        case BININT1:
        case BININT2:
            size = opcode == BININT1 ? 1 : 2;
            if (left < size)
                return 0;
            made = PyLong_FromLong((long)little_endian(r->at, (int)size));
            break;
        case BININT:
            size = 4;
            if (left < size)
                return 0;
            made = PyLong_FromLong((int32_t)(uint32_t)little_endian(r->at, 4));
            break;
        case LONG1:
            size = 9;
            if (left < size || *r->at != 8)
                return 0;
            made = PyLong_FromLongLong((int64_t)little_endian(r->at + 1, 8));
            break;
        case BINFLOAT:
            size = 8;
            if (left < size)
                return 0;
            made = make_float(r->at);
            break;
        case STACK_GLOBAL:
            if (r->body == NULL || r->top - r->floor < 2 || !is_text(r->stack[r->top - 2], "lensipc.values") ||
                !is_text(r->stack[r->top - 1], "as_array"))
                return 0;
            drop(r, r->top - 2);
            made = read_array(r);
            break;
        case NONE:
            made = Py_None;
            Py_INCREF(made);
            break;
        case NEWTRUE:
        case NEWFALSE:
            made = opcode == NEWTRUE ? Py_True : Py_False;
            Py_INCREF(made);
            break;
        case EMPTY_LIST:
            made = PyList_New(0);
            break;
        case EMPTY_DICT:
            made = PyDict_New();
            break;
        case EMPTY_TUPLE:
            made = PyTuple_New(0);
            break;
        case MARK:
            if (r->marked == MARKS)
                return 0;
            r->marks[r->marked++] = r->floor = r->top;
            continue;
        case TUPLE1:
        case TUPLE2:
        case TUPLE3:
            if (r->top - r->floor < opcode - TUPLE1 + 1 || !make_tuple(r, r->top - (opcode - TUPLE1 + 1)))
                return 0;
            continue;
        case TUPLE:
        case APPENDS:
        case SETITEMS: {
            if (r->marked == 0)
                return 0;
            size_t mark = r->marks[--r->marked];
            r->floor = r->marked ? r->marks[r->marked - 1] : 0;
            if (opcode == TUPLE) {
                if (!make_tuple(r, mark))
                    return 0;
                made = r->stack[--r->top];
                break;
            }
            if (mark == r->floor || !(opcode == APPENDS ? make_list(r, mark) : fill_dict(r, mark)))
                return 0;
            continue;
        }
        case STOP:
            return r->at == r->end && r->top == 1 && r->marked == 0;
        default:
            return 0;
        }
        if (made == NULL)
            return 0;
        r->at += size;
        r->stack[r->top++] = made;
        if (r->top == r->room && !enlarge(r))
            return 0;
    }
    return 0;
}

/* The value of the pickle from `data` on, as lipc_plain_decode. */
IN_EACH_CALLER PyObject *decode(struct reader *r, const unsigned char *data, size_t size)
{
    PyObject *value = NULL;
    if (size < 4 || size > LIPC_PLAIN_MAX || data[0] != PROTO || data[1] != 5)
        return NULL;
    r->at = data + 2;
    r->end = data + size;
    r->stack = r->inline_stack;
    r->room = INLINE_STACK;
    r->top = r->floor = r->marked = 0;
    if (read_value(r)) {
        value = r->stack[0];
    } else {
        drop(r, 0);
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_MemoryError))
            PyErr_Clear();
    }
    if (r->stack != r->inline_stack)
        PyMem_Free(r->stack);
    return value;
}

PyObject *lipc_plain_decode(const unsigned char *data, size_t size)
{
    struct reader r; /* not cleared: that takes longer than many a message */
    r.body = NULL;
    return decode(&r, data, size);
}

PyObject *lipc_plain_decode_arrays(const unsigned char *head, size_t size, uint64_t total, PyObject *body)
{
    struct reader r;
    if (size < LIPC_PLAIN_HEAD(0) || memcmp(head, LIPC_PLAIN_MAGIC, 4))
        return NULL;
    uint64_t count = little_endian(head + 4, 4), pickle_size = little_endian(head + 8, 8);
    if (count > LIPC_PLAIN_ARRAYS || LIPC_PLAIN_HEAD(count) > size || pickle_size > size - LIPC_PLAIN_HEAD(count))
        return NULL;
    uint64_t end = LIPC_PLAIN_HEAD(count) + pickle_size;
    for (size_t i = 0; i < count; i++) {
        uint64_t length = little_endian(head + LIPC_PLAIN_HEAD(i), 8);
        end += -end % LIPC_PLAIN_ALIGNMENT;
        if (end > total || length > total - end)
            return NULL;
        r.arrays[i].offset = end;
        r.arrays[i].size = length;
        end += length;
    }
    if (end != total)
        return NULL;
    r.body = body;
    r.array_count = count;
    r.taken = 0;
    return decode(&r, head + LIPC_PLAIN_HEAD(count), (size_t)pickle_size);
}
