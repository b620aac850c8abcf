/* SPDX-License-Identifier: MIT
 *
 * What is registered of numpy, and how its arrays are read and made.
 */
#include "clone/ndarray.h"

#include "clone/clone.h"

#include <string.h>

#define DTYPES 32
#define TEXT_SIZE 8
#define C_CONTIGUOUS 1 /* NPY_ARRAY_C_CONTIGUOUS */
#define OWNS_DATA 4    /* NPY_ARRAY_OWNDATA */

/* The beginning of PyArrayObject_fields of numpy/ndarraytypes.h. */
struct fields {
    PyObject_HEAD
    char *data;
    int dimensions;
    Py_ssize_t *shape;
    Py_ssize_t *strides;
    PyObject *base;
    PyObject *dtype;
    int flags;
    PyObject *weak_references;
    void *buffers; /* what it has told those to whom it was ever exported as a buffer */
};

/* These references are never released: numpy is not unloaded either. */
static struct {
    PyObject *type; /* NULL if numpy is not registered */
    PyObject *from_buffer;
    PyObject *probe;
    PyObject *build_view;
    PyObject *loan;    /* the class of arrays on loan; NULL if there is none yet */
    int tells_buffers; /* whether `buffers` is where it should be */
    struct dtype {
        PyObject *dtype;
        size_t item;
        char text[TEXT_SIZE];
    } dtypes[DTYPES];
    size_t count;
} numpy;

/* Registers one dtype. Returns 0 with an exception set if that fails. */
static int register_dtype(PyObject *given)
{
    struct dtype *known = &numpy.dtypes[numpy.count];
    const char *text;
    Py_ssize_t item;
    if (numpy.count == DTYPES || !PyArg_ParseTuple(given, "Osn", &known->dtype, &text, &item))
        return 0;
    if (strlen(text) >= TEXT_SIZE || item <= 0) {
        PyErr_SetString(PyExc_ValueError, "no simple dtype");
        return 0;
    }
    strcpy(known->text, text);
    known->item = (size_t)item;
    Py_INCREF(known->dtype);
    numpy.count++;
    return 1;
}

/* Whether an array's field `buffers` is set once a buffer was made of it. */
static int tells_buffers(PyObject *probe)
{
    const struct fields *array = (const struct fields *)(const void *)probe;
    Py_buffer buffer;
    if (array->buffers != NULL || PyObject_GetBuffer(probe, &buffer, PyBUF_FULL_RO)) {
        PyErr_Clear();
        return 0;
    }
    PyBuffer_Release(&buffer);
    return array->buffers != NULL;
}

int lipc_arrays_register(PyObject *type, PyObject *from_buffer, PyObject *dtypes, PyObject *probe, const void *address,
                         PyObject *build_view)
{
    const struct fields *array = (const struct fields *)(const void *)probe;
    if (!PyTuple_Check(dtypes) || Py_TYPE(probe) != (PyTypeObject *)type) {
        PyErr_SetString(PyExc_TypeError, "dtypes and an array expected");
        return -1;
    }
    if (numpy.type != NULL)
        return 1;
    PyObject *dtype = PyObject_GetAttrString(probe, "dtype");
    if (dtype == NULL)
        return -1;
    Py_DECREF(dtype); /* the array has a reference */
    if (array->data != address || array->dimensions != 2 || array->shape[0] != 2 || array->shape[1] != 3 ||
        array->dtype != dtype || !(array->flags & C_CONTIGUOUS))
        return 0;
    for (Py_ssize_t i = 0; i < PyTuple_Size(dtypes); i++)
        if (!register_dtype(PyTuple_GetItem(dtypes, i)))
            return -1;
    Py_INCREF(from_buffer);
    numpy.from_buffer = from_buffer;
    Py_INCREF(probe);
    numpy.probe = probe;
    numpy.tells_buffers = tells_buffers(probe);
    Py_INCREF(build_view);
    numpy.build_view = build_view;
    Py_INCREF(type);
    numpy.type = type;
    return 1;
}

/* Whether items of `item` bytes in this shape take exactly `size` bytes, and `size` is not 0. */
static int fills(uint64_t size, size_t item, const Py_ssize_t *shape, int dimensions)
{
    uint64_t bytes = item;
    for (int i = 0; i < dimensions; i++) {
        if (shape[i] <= 0 || bytes > size / (uint64_t)shape[i])
            return 0;
        bytes *= (uint64_t)shape[i];
    }
    return bytes == size;
}

int lipc_is_array(PyObject *obj)
{
    return numpy.type != NULL && (PyObject *)Py_TYPE(obj) == numpy.type;
}

static int is_loan(PyObject *obj)
{
    return numpy.loan != NULL && (PyObject *)Py_TYPE(obj) == numpy.loan;
}

int lipc_array_of(PyObject *obj, struct lipc_array *array)
{
    const struct fields *fields = (const struct fields *)(const void *)obj;
    if (!(lipc_is_array(obj) || is_loan(obj)) || !(fields->flags & C_CONTIGUOUS) ||
        fields->dimensions > LIPC_ARRAY_DIMENSIONS)
        return 0;
    for (const struct dtype *known = numpy.dtypes; known < numpy.dtypes + numpy.count; known++)
        if (known->dtype == fields->dtype) {
            size_t size = known->item;
            for (int i = 0; i < fields->dimensions; i++)
                size *= (size_t)fields->shape[i]; /* numpy makes sure that this does not overflow */
            *array = (struct lipc_array){known->text, fields->data, size, fields->dimensions, fields->shape};
            return size >= LIPC_OUT_OF_BAND;
        }
    return 0;
}

PyObject *lipc_placeholder_array(void)
{
    Py_XINCREF(numpy.probe);
    return numpy.probe ? numpy.probe : PyList_New(0);
}

static const struct dtype *known_dtype(PyObject *text)
{
    Py_ssize_t size;
    const char *data = PyUnicode_CheckExact(text) ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    for (const struct dtype *known = numpy.dtypes; data && known < numpy.dtypes + numpy.count; known++)
        if (strlen(known->text) == (size_t)size && memcmp(known->text, data, (size_t)size) == 0)
            return known;
    PyErr_Clear(); /* a surrogate: no dtype has this name */
    return NULL;
}

PyObject *lipc_build_view(PyObject *arguments)
{
    return PyObject_Call(numpy.build_view, arguments, NULL); /* an array is described, so numpy is registered */
}

PyObject *lipc_array_base(PyObject *array)
{
    const struct fields *fields = (const struct fields *)(const void *)array;
    if (!lipc_is_array(array) || fields->flags & OWNS_DATA || fields->dimensions == 0)
        return NULL;
    return fields->base;
}

void lipc_array_empty(PyObject *array, PyObject *base)
{
    struct fields *fields = (struct fields *)(void *)array;
    PyObject *before = fields->base;
    fields->shape[0] = 0;
    if (base == NULL || !numpy.tells_buffers || fields->buffers != NULL)
        return;
    Py_INCREF(base);
    fields->base = base;
    Py_DECREF(before);
}

void lipc_loans_register(PyObject *type)
{
    Py_INCREF(type);
    Py_XDECREF(numpy.loan);
    numpy.loan = type;
}

PyObject *lipc_loan_root(PyObject *array)
{
    PyObject *base = is_loan(array) ? ((const struct fields *)(const void *)array)->base : NULL;
    return base != NULL && lipc_is_array(base) ? base : NULL;
}

int lipc_array_reset(PyObject *array)
{
    struct fields *fields = (struct fields *)(void *)array;
    PyObject *nothing = PyBytes_FromStringAndSize(NULL, 0);
    if (nothing == NULL)
        return -1;
    /* numpy 2.5 frees what memoryviews of the array still need. */
    void *buffers = numpy.tells_buffers ? fields->buffers : NULL;
    if (buffers != NULL)
        fields->buffers = NULL;
    /* As when an array is unpickled. `resize` refuses an array that does not own its memory. */
    PyObject *done = PyObject_CallMethod(array, "__setstate__", "((i(i)OON))", 1, 0, fields->dtype, Py_False, nothing);
    if (buffers != NULL)
        fields->buffers = buffers;
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

PyObject *lipc_array_in(PyObject *body, uint64_t offset, uint64_t size, PyObject *arguments, int view)
{
    Py_ssize_t shape[LIPC_ARRAY_DIMENSIONS];
    Py_ssize_t dimensions = PyTuple_Size(arguments) - 3;
    if (numpy.type == NULL || dimensions > LIPC_ARRAY_DIMENSIONS)
        return NULL;
    const struct dtype *known = known_dtype(PyTuple_GetItem(arguments, 0));
    PyObject *order = PyTuple_GetItem(arguments, 1);
    /* Bools are left to the constructor in Python, which checks each of them. */
    if (known == NULL || known->text[1] == 'b' || PyUnicode_CompareWithASCIIString(order, "C"))
        return NULL;
    for (Py_ssize_t i = 0; i < dimensions; i++)
        shape[i] = PyLong_AsSsize_t(PyTuple_GetItem(arguments, 3 + i)); /* the row bounds this */
    if (!fills(size, known->item, shape, (int)dimensions))
        return NULL;
    PyObject *array = PyObject_CallFunction(numpy.from_buffer, "OOnn", body, known->dtype,
                                            (Py_ssize_t)(size / known->item), (Py_ssize_t)offset);
    if (array == NULL || (dimensions == 1 && !view))
        return array;
    PyObject *lengths = PyTuple_GetSlice(arguments, 3, 3 + dimensions);
    PyObject *shaped = lengths == NULL ? NULL : PyObject_CallMethod(array, "reshape", "O", lengths);
    Py_XDECREF(lengths);
    Py_DECREF(array);
    return shaped;
}
