/* SPDX-License-Identifier: MIT
 *
 * Whatever shows a block's memory refers to a Lease: arrays, their slices, memoryviews. When the event is heard and the last
 * Lease is gone, main gets the block back, in whichever thread that is. This counts references and not buffers, because
 * numpy has arrays that refer to what exports their memory, and have no buffer of it.
 *
 * The Block itself keeps the memory mapped, so that nothing crashes that has kept the address alone.
 */
#include "python/block.h"

struct block {
    PyObject_HEAD
    struct lipc_view *view; /* NULL: there is no memory yet */
    Py_ssize_t leases;
    int heard; /* nothing is decoded from it any more */
};

struct lease {
    PyObject_HEAD
    struct block *block; /* a reference */
};

static PyObject *block_type, *lease_type;

static void end_if_unused(struct block *block)
{
    if (block->heard && block->leases == 0 && block->view != NULL)
        lipc_view_end(block->view);
}

static int fill(const struct block *block, PyObject *self, Py_buffer *buffer, int flags)
{
    return PyBuffer_FillInfo(buffer, self, lipc_view_memory(block->view), (Py_ssize_t)block->view->place.size, 1, flags);
}

/* ---- Block ---- */

static int get_block_buffer(PyObject *self, Py_buffer *buffer, int flags)
{
    const struct block *block = (const struct block *)self;
    if (block->view != NULL && !block->heard)
        return fill(block, self, buffer, flags);
    PyErr_SetString(PyExc_BufferError, "the block is given back to main without regard to this buffer");
    buffer->obj = NULL;
    return -1;
}

static void dealloc_block(PyObject *self)
{
    struct block *block = (struct block *)self;
    PyTypeObject *of = Py_TYPE(self);
    if (block->view != NULL)
        lipc_view_free(block->view);
    PyObject_Free(self);
    Py_DECREF(of);
}

static Py_ssize_t length(PyObject *self)
{
    const struct block *block = (const struct block *)self;
    return block->view == NULL ? 0 : (Py_ssize_t)block->view->place.size;
}

static PyObject *heard(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct block *block = (struct block *)self;
    block->heard = 1;
    end_if_unused(block);
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *lease(PyObject *self, PyObject *unused)
{
    (void)unused;
    struct block *block = (struct block *)self;
    if (block->view == NULL || block->heard) {
        PyErr_SetString(PyExc_ValueError, "the block is given back to main");
        return NULL;
    }
    struct lease *made = PyObject_New(struct lease, (PyTypeObject *)lease_type);
    if (made == NULL)
        return NULL;
    Py_INCREF(self);
    made->block = block;
    block->leases++;
    return (PyObject *)made;
}

static PyMethodDef methods[] = {
    {"heard", heard, METH_NOARGS, "heard(): all is decoded. With the last Lease the block is given back."},
    {"lease", lease, METH_NOARGS, "lease(): a Lease, before all is decoded."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot block_slots[] = {
    {Py_tp_doc, "A received body that lies in a block of main's memory: a read-only buffer, until it is heard."},
    {Py_tp_dealloc, dealloc_block},
    {Py_tp_methods, methods},
    {Py_sq_length, length},
    {Py_bf_getbuffer, get_block_buffer},
    {0, NULL},
};

static PyType_Spec block_spec = {
    .name = "lensipc._fast.Block",
    .basicsize = sizeof(struct block),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = block_slots,
};

/* ---- Lease ---- */

static int get_lease_buffer(PyObject *self, Py_buffer *buffer, int flags)
{
    return fill(((const struct lease *)self)->block, self, buffer, flags);
}

static void dealloc_lease(PyObject *self)
{
    struct block *block = ((struct lease *)self)->block;
    PyTypeObject *of = Py_TYPE(self);
    block->leases--;
    end_if_unused(block);
    Py_DECREF(block);
    PyObject_Free(self);
    Py_DECREF(of);
}

static PyType_Slot lease_slots[] = {
    {Py_tp_doc, "Holds a block of main's memory: a read-only buffer."},
    {Py_tp_dealloc, dealloc_lease},
    {Py_bf_getbuffer, get_lease_buffer},
    {0, NULL},
};

static PyType_Spec lease_spec = {
    .name = "lensipc._fast.Lease",
    .basicsize = sizeof(struct lease),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = lease_slots,
};

int lipc_block_types(PyObject *module)
{
    if (block_type == NULL)
        block_type = PyType_FromSpec(&block_spec);
    if (lease_type == NULL)
        lease_type = PyType_FromSpec(&lease_spec);
    if (block_type == NULL || lease_type == NULL)
        return -1;
    return PyModule_AddObjectRef(module, "Block", block_type) || PyModule_AddObjectRef(module, "Lease", lease_type) ? -1 : 0;
}

PyObject *lipc_leased_block(PyObject *object)
{
    return (PyObject *)Py_TYPE(object) == lease_type ? (PyObject *)((struct lease *)object)->block : NULL;
}

PyObject *lipc_block_new(void)
{
    struct block *block = PyObject_New(struct block, (PyTypeObject *)block_type);
    if (block != NULL) {
        block->view = NULL;
        block->leases = 0;
        block->heard = 0;
    }
    return (PyObject *)block;
}

void lipc_block_set(PyObject *object, struct lipc_view *view)
{
    ((struct block *)object)->view = view;
}
