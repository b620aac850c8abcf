/* SPDX-License-Identifier: MIT
 *
 * A walk in depth, with a table of the containers that it has met.
 */
#include "extent.h"

#include <stdlib.h>
#include <string.h>

/* A container that has been met. While it is open, to meet it again closes a cycle. */
struct seen {
    PyObject *object; /* NULL: this place is free */
    uint64_t size;
    unsigned depth;
    int open;
};

/* A container that is being walked. */
struct frame {
    PyObject *object;
    PyObject *iterator; /* of a set; NULL otherwise */
    PyObject *value;    /* of the key that a dict has just given, which comes next */
    Py_ssize_t next;
    uint64_t size;
    unsigned depth; /* of what it holds */
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

/* The place of `object` in a table, or the free one where it belongs. */
static struct seen *place_of(struct seen *table, size_t mask, const PyObject *object)
{
    uint64_t hash = (uint64_t)(uintptr_t)object * UINT64_C(0x9e3779b97f4a7c15);
    size_t at = (size_t)(hash >> 32) & mask;
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
            *place_of(larger, mask, w->seen[i].object) = w->seen[i];
    free(w->seen);
    w->seen = larger;
    w->mask = mask;
    return 1;
}

/* Begins a container that has not been met. */
static int enter(struct walk *w, PyObject *object)
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
    if (Py_TYPE(object) == &PySet_Type || Py_TYPE(object) == &PyFrozenSet_Type) {
        iterator = PyObject_GetIter(object);
        if (iterator == NULL)
            return 0;
    }
    *place_of(w->seen, w->mask, object) = (struct seen){.object = object, .open = 1};
    w->count++;
    w->frames[w->top++] = (struct frame){.object = object, .iterator = iterator, .size = 1};
    return 1;
}

/* What a container holds, one after the other: a borrowed reference; NULL at the end. */
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
        Py_XDECREF(item); /* the set has one too */
        return item;
    }
    if (PyDict_CheckExact(f->object))
        return PyDict_Next(f->object, &f->next, &key, &f->value) ? key : NULL;
    if (PyList_CheckExact(f->object))
        return f->next < PyList_Size(f->object) ? PyList_GetItem(f->object, f->next++) : NULL;
    return f->next < PyTuple_Size(f->object) ? PyTuple_GetItem(f->object, f->next++) : NULL;
}

static enum lipc_extent walk(struct walk *w, unsigned depth_limit, uint64_t size_limit)
{
    while (w->top) {
        struct frame *f = &w->frames[w->top - 1];
        PyObject *item = next_of(f);
        if (item != NULL && is_container(item)) {
            const struct seen *known = place_of(w->seen, w->mask, item);
            if (known->object == NULL) {
                if (w->top == depth_limit)
                    return LIPC_TOO_DEEP;
                if (!enter(w, item))
                    return LIPC_NO_MEMORY;
                continue;
            }
            f->size += known->open ? 1 : known->size;
            if (!known->open && known->depth > f->depth)
                f->depth = known->depth;
        } else if (item != NULL) {
            f->size++;
        } else {
            struct seen *done = place_of(w->seen, w->mask, f->object);
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
            if (done->depth > depth_limit)
                return LIPC_TOO_DEEP;
            if (done->size > size_limit)
                return LIPC_TOO_LARGE;
            continue;
        }
        if (f->size > size_limit)
            return LIPC_TOO_LARGE;
    }
    return LIPC_FITS;
}

enum lipc_extent lipc_measure(PyObject *value, unsigned depth_limit, uint64_t size_limit)
{
    struct walk w = {.mask = 63};
    if (!is_container(value))
        return LIPC_FITS;
    w.seen = calloc(w.mask + 1, sizeof *w.seen);
    enum lipc_extent found = w.seen != NULL && enter(&w, value) ? walk(&w, depth_limit, size_limit) : LIPC_NO_MEMORY;
    while (w.top)
        Py_XDECREF(w.frames[--w.top].iterator);
    free(w.frames);
    free(w.seen);
    if (found == LIPC_NO_MEMORY)
        PyErr_Clear();
    return found;
}
