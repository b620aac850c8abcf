/* SPDX-License-Identifier: MIT
 *
 * Fields are slots that hold Python objects. Reading such a slot takes 2 ns. Reading a slot that holds a C number takes
 * 25.
 */
#include "python/message.h"

#include <stddef.h>
#include <structmember.h>

struct message {
    PyObject_HEAD
    PyObject *kind, *channel, *detail, *pid, *correlation, *body, *value;
};

static PyObject *type;

/* A header's field can mean different things in different kinds of messages (runtime/protocol.py). Each meaning has a
 * name. */
#define FIELD(name, slot) {name, T_OBJECT_EX, offsetof(struct message, slot), READONLY, NULL}

static PyMemberDef members[] = {
    FIELD("kind", kind),
    FIELD("channel", channel),
    FIELD("target", detail),
    FIELD("sender", detail),
    FIELD("extension", detail),
    FIELD("when_full", detail),
    FIELD("items", detail),
    FIELD("views", detail),
    FIELD("pid", pid),
    FIELD("correlation", correlation),
    FIELD("missed", correlation),
    FIELD("body", body),
    FIELD("value", value),
    {NULL, 0, 0, 0, NULL},
};

/* The garbage collector need not know about messages, because no cycle goes through a message: only lensipc has
 * messages, and lensipc puts no message into a value. */
static void dealloc(PyObject *self)
{
    struct message *message = (struct message *)self;
    PyTypeObject *of = Py_TYPE(self);
    Py_XDECREF(message->kind);
    Py_XDECREF(message->channel);
    Py_XDECREF(message->detail);
    Py_XDECREF(message->pid);
    Py_XDECREF(message->correlation);
    Py_XDECREF(message->body);
    Py_XDECREF(message->value);
    PyObject_Free(self);
    Py_DECREF(of);
}

/* Makes a message of these fields, and takes over their references. Returns NULL with an exception set if a field is
 * NULL or if there is no memory. */
static PyObject *made(PyTypeObject *of, PyObject *fields[7])
{
    struct message *message = PyObject_New(struct message, of);
    int whole = message != NULL;
    for (int i = 0; i < 7; i++)
        whole &= fields[i] != NULL;
    if (message == NULL) {
        for (int i = 0; i < 7; i++)
            Py_XDECREF(fields[i]);
        return NULL;
    }
    message->kind = fields[0];
    message->channel = fields[1];
    message->detail = fields[2];
    message->pid = fields[3];
    message->correlation = fields[4];
    message->body = fields[5];
    message->value = fields[6];
    if (!whole)
        Py_CLEAR(message);
    return (PyObject *)message;
}

PyObject *lipc_message_new(const struct lipc_record *record, PyObject *body, PyObject *value)
{
    PyObject *fields[] = {
        PyLong_FromUnsignedLong(record->kind),
        PyLong_FromUnsignedLong(record->channel),
        PyLong_FromUnsignedLong(record->detail),
        PyLong_FromUnsignedLong(record->pid),
        PyLong_FromUnsignedLongLong(record->correlation),
        body,
        value,
    };
    return made((PyTypeObject *)type, fields);
}

static PyObject *new(PyTypeObject *of, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"kind", "body", "channel", "detail", "pid", "correlation", "value", NULL};
    PyObject *kind, *body = Py_None, *channel = NULL, *detail = NULL, *pid = NULL, *correlation = NULL, *value = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|OO!O!O!O!O:Message", names, &PyLong_Type, &kind, &body, &PyLong_Type,
                                     &channel, &PyLong_Type, &detail, &PyLong_Type, &pid, &PyLong_Type, &correlation, &value))
        return NULL;
    PyObject *fields[] = {kind, channel, detail, pid, correlation, body, value};
    for (int i = 0; i < 7; i++) {
        if (fields[i] == NULL)
            fields[i] = PyLong_FromLong(0);
        else
            Py_INCREF(fields[i]);
    }
    return made(of, fields);
}

static PyObject *repr(PyObject *self)
{
    const struct message *message = (const struct message *)self;
    return PyUnicode_FromFormat("Message(kind=%R, body=%R, channel=%R, detail=%R, pid=%R, correlation=%R, value=%R)",
                                message->kind, message->body, message->channel, message->detail, message->pid,
                                message->correlation, message->value);
}

static PyType_Slot slots[] = {
    {Py_tp_doc, "Message(kind, body=None, channel=0, detail=0, pid=0, correlation=0, value=None)\n--\n\n"
                "A received message. Its body is None where its value is what that decodes to.\n\n"
                "target, sender, extension, when_full, items, views: other names of the header's `detail`; missed: of its correlation."},
    {Py_tp_new, new},
    {Py_tp_dealloc, dealloc},
    {Py_tp_members, members},
    {Py_tp_repr, repr},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "lensipc._fast.Message",
    .basicsize = sizeof(struct message),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

PyObject *lipc_message_type(void)
{
    if (type == NULL)
        type = PyType_FromSpec(&spec);
    Py_XINCREF(type);
    return type;
}
