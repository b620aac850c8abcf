/* SPDX-License-Identifier: MIT
 *
 * The rows of the table, and how arguments are checked against them.
 */
#include "clone/constructors.h"

#include "clone/ndarray.h"

#define ROWS 48

/* These references are never released: the table does not change after it is registered. */
static struct lipc_row rows[ROWS];
static size_t row_count;
static PyObject *numbers; /* a dict: from a row's name to its number */

static int read_argument(PyObject *given, struct lipc_argument *argument)
{
    unsigned takes;
    long long low, high, size;
    if (!PyArg_ParseTuple(given, "ILLL", &takes, &low, &high, &size))
        return -1;
    *argument = (struct lipc_argument){takes, low, high, size};
    return 0;
}

static int read_row(PyObject *given, struct lipc_row *row)
{
    PyObject *arguments, *rest;
    int does;
    if (!PyArg_ParseTuple(given, "UOOipIIInO!O", &row->name, &row->make, &row->price, &does, &row->plain, &row->cost,
                          &row->per_byte, &row->hash_cost, &row->required, &PyTuple_Type, &arguments, &rest))
        return -1;
    row->does = (enum lipc_row_action)does;
    row->count = PyTuple_Size(arguments);
    if (row->count > LIPC_ARGUMENTS || row->required > row->count) {
        PyErr_SetString(PyExc_ValueError, "a row with too many arguments");
        return -1;
    }
    for (Py_ssize_t i = 0; i < row->count; i++)
        if (read_argument(PyTuple_GetItem(arguments, i), &row->arguments[i]))
            return -1;
    row->has_rest = rest != Py_None;
    if (row->has_rest && read_argument(rest, &row->rest))
        return -1;
    Py_INCREF(row->name);
    Py_INCREF(row->make);
    Py_INCREF(row->price);
    return 0;
}

int lipc_rows_register(PyObject *given)
{
    if (numbers != NULL)
        return 0;
    numbers = PyDict_New();
    Py_ssize_t count = PySequence_Size(given);
    if (numbers == NULL || count < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *each = PySequence_GetItem(given, i);
        PyObject *number = each == NULL || row_count == ROWS ? NULL : PyLong_FromSize_t(row_count);
        int failed = number == NULL || read_row(each, &rows[row_count]) ||
                     PyDict_SetItem(numbers, rows[row_count].name, number);
        Py_XDECREF(number);
        Py_XDECREF(each);
        if (failed) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "too many rows");
            return -1;
        }
        row_count++;
    }
    return 0;
}

const struct lipc_row *lipc_row_of(PyObject *name)
{
    PyObject *number = numbers == NULL ? NULL : PyDict_GetItemWithError(numbers, name);
    return number == NULL ? NULL : &rows[PyLong_AsSize_t(number)];
}

uint32_t lipc_row_number(const struct lipc_row *row)
{
    return (uint32_t)(row - rows);
}

const struct lipc_row *lipc_row_at(uint32_t number)
{
    return &rows[number];
}

/* Whether an argument may be this int. If the int has more than eight bytes, they are added to *bytes. */
static int takes_int(const struct lipc_argument *argument, PyObject *value, uint64_t *bytes)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (argument->high >= argument->low)
        return !overflow && number >= argument->low && number <= argument->high;
    if (!overflow)
        return 1;
    PyObject *length = PyObject_CallMethod(value, "bit_length", NULL); /* int's own method: the type is exact */
    long long bits = length == NULL ? -1 : PyLong_AsLongLong(length);
    Py_XDECREF(length);
    if (bits < 0 || bits > argument->size)
        return 0;
    *bytes += (uint64_t)bits / 8;
    return 1;
}

static int takes(const struct lipc_argument *argument, PyObject *value, uint64_t *bytes)
{
    const PyTypeObject *type = Py_TYPE(value);
    uint32_t kinds = argument->takes;
    Py_ssize_t size;
    if (kinds & LIPC_TAKES_ANY)
        return 1;
    if (value == Py_None)
        return (kinds & LIPC_TAKES_NONE) != 0;
    if (type == &PyBool_Type)
        return (kinds & LIPC_TAKES_BOOL) != 0;
    if (type == &PyLong_Type)
        return (kinds & LIPC_TAKES_INT) && takes_int(argument, value, bytes);
    if (type == &PyFloat_Type)
        return (kinds & LIPC_TAKES_FLOAT) != 0;
    if (type == &PyUnicode_Type && kinds & LIPC_TAKES_STR) {
        size = PyUnicode_GetLength(value);
    } else if (type == &PyBytes_Type && kinds & LIPC_TAKES_BYTES) {
        size = PyBytes_Size(value);
    } else if (type == &PyTuple_Type && kinds & (LIPC_TAKES_SCALARS | LIPC_TAKES_TUPLE)) {
        static const struct lipc_argument scalar = {LIPC_TAKES_NONE | LIPC_TAKES_BOOL | LIPC_TAKES_INT |
                                                        LIPC_TAKES_FLOAT | LIPC_TAKES_STR | LIPC_TAKES_BYTES,
                                                    INT64_MIN, INT64_MAX, LIPC_TEXT_LIMIT};
        size = PyTuple_Size(value);
        for (Py_ssize_t i = 0; kinds & LIPC_TAKES_SCALARS && i < size && i < argument->size; i++)
            if (!takes(&scalar, PyTuple_GetItem(value, i), bytes))
                return 0;
    } else {
        return (kinds & LIPC_TAKES_ARRAY && lipc_is_array(value)) ||
               (kinds & LIPC_TAKES_ERROR && PyExceptionInstance_Check(value));
    }
    *bytes += (uint64_t)size;
    return size <= argument->size;
}

const char *lipc_row_refuses(const struct lipc_row *row, PyObject *arguments, uint64_t *bytes)
{
    Py_ssize_t count = PyTuple_Size(arguments);
    *bytes = 0;
    if (count < row->required || (count > row->count && !row->has_rest))
        return "a call with the wrong number of arguments";
    for (Py_ssize_t i = 0; i < count; i++)
        if (!takes(i < row->count ? &row->arguments[i] : &row->rest, PyTuple_GetItem(arguments, i), bytes))
            return "a call with an argument that its constructor does not take";
    return NULL;
}
