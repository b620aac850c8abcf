/* SPDX-License-Identifier: MIT
 *
 * A depth-first walk, with a table of the containers that it has met.
 */
#include "clone/measure.h"

#include "clone/clone.h"
#include "clone/ndarray.h"

#include <stdlib.h>
#include <string.h>

/* Every LEAF_BYTES of a text count as one value. PRINTED_ARRAY is the bytes that numpy prints of an array: a thousand
 * items. */
#define LEAF_BYTES 64
#define PRINTED_ARRAY 16384

/* A container that the walk has met. If the walk meets a container that is still open, a cycle closes. */
struct seen {
    PyObject *object; /* NULL if this slot is free */
    uint64_t size;
    unsigned depth;
    int open;
};

/* A container that is being walked. */
struct frame {
    PyObject *object;
    PyObject *holds;    /* the object itself, or the tuple of what it was made of */
    PyObject *iterator; /* of a set; otherwise NULL */
    PyObject *value;    /* the value of the key that a dict has just given; it comes next */
    Py_ssize_t next;
    uint64_t size;
    unsigned depth; /* of what the container holds */
};

struct walk {
    struct seen *seen;
    size_t mask, count;
    struct frame *frames;
    size_t top, room;
};

static int is_container(PyObject *object)
{
    const PyTypeObject *type = Py_TYPE(object);
    return type == &PyList_Type || type == &PyTuple_Type || type == &PyDict_Type || type == &PySet_Type ||
           type == &PyFrozenSet_Type;
}

/* Returns what to walk of an object, or NULL if it is a leaf. *fails is set if there was no memory to find out. */
static PyObject *held_by(PyObject *object, PyObject *kept, int *fails)
{
    if (is_container(object))
        return object;
    if (kept == NULL)
        return NULL;
    PyObject *address = PyLong_FromVoidPtr(object);
    PyObject *pair = address == NULL ? NULL : PyDict_GetItemWithError(kept, address);
    *fails |= address == NULL;
    Py_XDECREF(address);
    return pair == NULL ? NULL : PyTuple_GetItem(pair, 1);
}

/* Returns the slot of `object` in a table, or the free slot where it belongs. */
static struct seen *slot_of(struct seen *table, size_t mask, const PyObject *object)
{
    size_t at = lipc_address_hash(object) & mask;
    while (table[at].object != NULL && table[at].object != object)
        at = (at + 1) & mask;
    return &table[at];
}

static int enlarge_seen(struct walk *w)
{
    size_t mask = 2 * w->mask + 1;
    struct seen *larger = calloc(mask + 1, sizeof *larger);
    if (larger == NULL)
        return 0;
    for (size_t i = 0; i <= w->mask; i++)
        if (w->seen[i].object != NULL)
            *slot_of(larger, mask, w->seen[i].object) = w->seen[i];
    free(w->seen);
    w->seen = larger;
    w->mask = mask;
    return 1;
}

/* Begins a container that the walk has not met. */
static int enter(struct walk *w, PyObject *object, PyObject *holds)
{
    if (w->top == w->room) {
        size_t room = w->room ? 2 * w->room : 64;
        struct frame *larger = realloc(w->frames, room * sizeof *larger);
        if (larger == NULL)
            return 0;
        w->frames = larger;
        w->room = room;
    }
    if (2 * w->count > w->mask && !enlarge_seen(w))
        return 0;
    PyObject *iterator = NULL;
    if (Py_TYPE(holds) == &PySet_Type || Py_TYPE(holds) == &PyFrozenSet_Type) {
        iterator = PyObject_GetIter(holds);
        if (iterator == NULL)
            return 0;
    }
    *slot_of(w->seen, w->mask, object) = (struct seen){.object = object, .open = 1};
    w->count++;
    w->frames[w->top++] = (struct frame){.object = object, .holds = holds, .iterator = iterator, .size = 1};
    return 1;
}

/* Returns the next value that a container holds, as a borrowed reference, or NULL at the end. */
static PyObject *next_of(struct frame *f)
{
    PyObject *key, *item;
    if (f->value != NULL) {
        item = f->value;
        f->value = NULL;
        return item;
    }
    if (f->iterator != NULL) {
        item = PyIter_Next(f->iterator);
        Py_XDECREF(item); /* the set still has a reference */
        return item;
    }
    if (PyDict_CheckExact(f->holds))
        return PyDict_Next(f->holds, &f->next, &key, &f->value) ? key : NULL;
    if (PyList_CheckExact(f->holds))
        return f->next < PyList_Size(f->holds) ? PyList_GetItem(f->holds, f->next++) : NULL;
    return f->next < PyTuple_Size(f->holds) ? PyTuple_GetItem(f->holds, f->next++) : NULL;
}

/* Returns the bytes of an int that has more than eight, or 0 for a smaller int. */
static Py_ssize_t long_bytes(PyObject *number)
{
    int overflows;
    (void)PyLong_AsLongLongAndOverflow(number, &overflows);
    PyObject *bits = overflows ? PyObject_CallMethod(number, "bit_length", NULL) : NULL;
    Py_ssize_t bytes = bits == NULL ? 0 : PyLong_AsSsize_t(bits) / 8;
    Py_XDECREF(bits);
    PyErr_Clear();
    return bytes;
}

uint64_t lipc_leaf_size(PyObject *leaf)
{
    const PyTypeObject *type = Py_TYPE(leaf);
    Py_ssize_t bytes = 0;
    if (type == &PyUnicode_Type)
        bytes = PyUnicode_GetLength(leaf);
    else if (type == &PyBytes_Type)
        bytes = PyBytes_Size(leaf);
    else if (type == &PyByteArray_Type)
        bytes = PyByteArray_Size(leaf);
    else if (type == &PyLong_Type)
        bytes = long_bytes(leaf);
    else if (lipc_is_array(leaf))
        bytes = PRINTED_ARRAY;
    return 1 + (uint64_t)bytes / LEAF_BYTES;
}

static enum lipc_measured walk(struct walk *w, struct lipc_measurement *measurement)
{
    int fails = 0;
    while (w->top) {
        struct frame *f = &w->frames[w->top - 1];
        PyObject *item = next_of(f), *holds = item == NULL ? NULL : held_by(item, measurement->kept, &fails);
        measurement->visited++;
        if (fails)
            return LIPC_NO_MEMORY;
        if (holds != NULL) {
            const struct seen *known = slot_of(w->seen, w->mask, item);
            if (known->object == NULL) {
                if (w->top == measurement->depth_limit)
                    return LIPC_TOO_DEEP;
                if (!enter(w, item, holds))
                    return LIPC_NO_MEMORY;
                continue;
            }
            f->size += known->open ? 1 : known->size;
            if (!known->open && known->depth > f->depth)
                f->depth = known->depth;
        } else if (item != NULL) {
            f->size += lipc_leaf_size(item);
        } else {
            struct seen *done = slot_of(w->seen, w->mask, f->object);
            done->size = f->size;
            done->depth = f->depth + 1;
            done->open = 0;
            Py_XDECREF(f->iterator);
            w->top--;
            if (w->top) {
                w->frames[w->top - 1].size += done->size;
                if (done->depth > w->frames[w->top - 1].depth)
                    w->frames[w->top - 1].depth = done->depth;
            }
            if (done->depth > measurement->depth_limit)
                return LIPC_TOO_DEEP;
            if (done->size > measurement->size_limit)
                return LIPC_TOO_LARGE;
            measurement->size = done->size;
            continue;
        }
        if (f->size > measurement->size_limit)
            return LIPC_TOO_LARGE;
    }
    return LIPC_FITS;
}

enum lipc_measured lipc_measure(PyObject *value, struct lipc_measurement *measurement)
{
    struct walk w = {.mask = 63};
    int fails = 0;
    PyObject *holds = held_by(value, measurement->kept, &fails);
    measurement->visited = measurement->size = 1;
    if (holds == NULL)
        return fails ? (PyErr_Clear(), LIPC_NO_MEMORY) : LIPC_FITS;
    w.seen = calloc(w.mask + 1, sizeof *w.seen);
    enum lipc_measured found = w.seen != NULL && enter(&w, value, holds) ? walk(&w, measurement) : LIPC_NO_MEMORY;
    while (w.top)
        Py_XDECREF(w.frames[--w.top].iterator);
    free(w.frames);
    free(w.seen);
    if (found == LIPC_NO_MEMORY)
        PyErr_Clear();
    return found;
}
