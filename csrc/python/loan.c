/* SPDX-License-Identifier: MIT
 *
 * What can reach a loan's memory in main refers to its Lent. numpy's arrays do so by their bases, and a memoryview or a
 * tensor by the array that it was made of. So the block is used again when, and only when, nothing can reach it.
 */
#include "python/loan.h"

#include "clone/ndarray.h"

struct lent {
    PyObject_HEAD
    struct lipc_loan *loan;
    PyObject *owner; /* a reference: the slabs stay, and a fork finds them */
};

static PyObject *lent_type;

static int get_buffer(PyObject *self, Py_buffer *buffer, int flags)
{
    const struct lent *lent = (const struct lent *)self;
    return PyBuffer_FillInfo(buffer, self, lipc_loan_memory(lent->loan), (Py_ssize_t)lent->loan->size, 0, flags);
}

static void dealloc(PyObject *self)
{
    struct lent *lent = (struct lent *)self;
    PyObject *owner = lent->owner;
    PyTypeObject *of = Py_TYPE(self);
    lipc_loan_drop(lent->loan);
    PyObject_Free(self);
    Py_DECREF(owner);
    Py_DECREF(of);
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "A block of main's memory that main has on loan: a writable buffer."},
    {Py_tp_dealloc, dealloc},
    {Py_bf_getbuffer, get_buffer},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "lensipc._fast.Lent",
    .basicsize = sizeof(struct lent),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};

int lipc_lent_type(PyObject *module)
{
    if (lent_type == NULL)
        lent_type = PyType_FromSpec(&spec);
    return lent_type == NULL ? -1 : PyModule_AddObjectRef(module, "Lent", lent_type);
}

PyObject *lipc_lend(struct lipc_slabs *slabs, PyObject *owner, uint64_t size)
{
    struct lipc_loan *loan = lipc_loan_take(slabs, size);
    if (loan == NULL)
        return NULL;
    struct lent *lent = PyObject_New(struct lent, (PyTypeObject *)lent_type);
    if (lent == NULL) {
        lipc_loan_drop(loan);
        return NULL;
    }
    Py_INCREF(owner);
    lent->owner = owner;
    lent->loan = loan;
    return (PyObject *)lent;
}

struct lipc_loan *lipc_loan_of(PyObject *array)
{
    PyObject *root = lipc_loan_root(array);
    PyObject *lent = root == NULL ? NULL : lipc_array_base(root);
    return lent != NULL && (PyObject *)Py_TYPE(lent) == lent_type ? ((struct lent *)lent)->loan : NULL;
}
