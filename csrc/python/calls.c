/* SPDX-License-Identifier: MIT
 *
 * Python functions over the C core. None of them blocks but `poll`, which gives the GIL away meanwhile. An endpoint or
 * topic is given as its address, an int, which its owner in lensipc/endpoint.py keeps from being used once it is closed.
 */
#include "calls.h"

#include "../lensipc.h"
#include "plain.h"

/* Messages of one call of `receive`, and endpoints of one of `poll`. */
#define BATCH 64
#define POLLED 64

static PyObject *scan(PyObject *module, PyObject *message)
{
    char *data;
    Py_ssize_t size;
    (void)module;
    if (PyBytes_AsStringAndSize(message, &data, &size))
        return NULL;
    return PyLong_FromLong(lipc_scan(data, (size_t)size, NULL));
}

static PyObject *encode(PyObject *module, PyObject *value)
{
    (void)module;
    return lipc_plain_encode(value);
}

static PyObject *decode(PyObject *module, PyObject *message)
{
    char *data;
    Py_ssize_t size;
    (void)module;
    if (PyBytes_AsStringAndSize(message, &data, &size))
        return NULL;
    PyObject *value = lipc_plain_decode((const unsigned char *)data, (size_t)size);
    if (value == NULL && !PyErr_Occurred()) {
        value = Py_NotImplemented;
        Py_INCREF(value);
    }
    return value;
}

/* The address that an argument gives: NULL with an exception set where it gives none. */
static void *address(PyObject *argument)
{
    void *found = PyLong_AsVoidPtr(argument);
    if (found == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "no address");
    return found;
}

static int count_is(Py_ssize_t count, Py_ssize_t expected)
{
    if (count == expected)
        return 1;
    PyErr_Format(PyExc_TypeError, "%zd arguments expected, not %zd", expected, count);
    return 0;
}

static PyObject *send(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    char *body;
    Py_ssize_t size;
    (void)module;
    if (!count_is(count, 8))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    const struct lipc_header header = {
        .kind = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .channel = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
        .peer = (uint32_t)PyLong_AsUnsignedLong(arguments[3]),
        .pid = (uint32_t)PyLong_AsUnsignedLong(arguments[4]),
        .correlation = PyLong_AsUnsignedLongLong(arguments[5]),
    };
    long when_full = PyLong_AsLong(arguments[7]);
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(arguments[6], &body, &size))
        return NULL;
    return PyLong_FromLong(lipc_send(endpoint, &header, body, (size_t)size, (int)when_full));
}

static PyObject *publish(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    char *body;
    Py_ssize_t size;
    (void)module;
    if (!count_is(count, 4))
        return NULL;
    struct lipc_topic *topic = address(arguments[0]);
    const struct lipc_header header = {
        .kind = LIPC_EVENT,
        .peer = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .pid = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
    };
    if (PyErr_Occurred() || PyBytes_AsStringAndSize(arguments[3], &body, &size))
        return NULL;
    const struct lipc_part part = {.data = body, .size = (size_t)size};
    return PyLong_FromLong(lipc_topic_send(topic, NULL, &header, &part, 1));
}

static PyObject *none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

/* A record as a tuple: its body as bytes, None where the caller has it (`body` is NULL), or None and the value that it
 * is. */
static PyObject *tuple_of(const struct lipc_record *record, const char *body, unsigned long decoded)
{
    PyObject *value = NULL;
    if (body != NULL && record->kind < 32 && decoded >> record->kind & 1) {
        value = lipc_plain_decode((const unsigned char *)body, (size_t)record->size);
        if (value == NULL && PyErr_Occurred())
            return NULL;
    }
    PyObject *items[] = {
        PyLong_FromUnsignedLong(record->kind),
        value || !body ? none() : PyBytes_FromStringAndSize(body, (Py_ssize_t)record->size),
        PyLong_FromUnsignedLong(record->channel),
        PyLong_FromUnsignedLong(record->peer),
        PyLong_FromUnsignedLong(record->pid),
        PyLong_FromUnsignedLongLong(record->correlation),
        value ? value : none(),
    };
    PyObject *tuple = PyTuple_New(sizeof items / sizeof items[0]);
    for (Py_ssize_t i = 0; i < (Py_ssize_t)(sizeof items / sizeof items[0]); i++) {
        if (items[i] == NULL || tuple == NULL) {
            Py_CLEAR(tuple);
            Py_XDECREF(items[i]);
        } else {
            PyTuple_SetItem(tuple, i, items[i]);
        }
    }
    return tuple;
}

static PyObject *receive(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_record records[BATCH];
    _Alignas(8) char bodies[LIPC_INLINE];
    uint64_t wanted;
    (void)module;
    if (!count_is(count, 3))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    unsigned long max = PyLong_AsUnsignedLong(arguments[1]);
    unsigned long decoded = PyLong_AsUnsignedLong(arguments[2]);
    if (PyErr_Occurred())
        return NULL;
    int got = lipc_recv(endpoint, records, max < BATCH ? (uint32_t)max : BATCH, bodies, sizeof bodies, &wanted);
    if (got < 0)
        return PyLong_FromLong(got);
    if (wanted)
        return PyLong_FromUnsignedLongLong(wanted);
    PyObject *list = PyList_New(got);
    for (int i = 0; list != NULL && i < got; i++) {
        const char *body = records[i].offset == LIPC_ASSEMBLED ? NULL : bodies + records[i].offset;
        PyObject *tuple = tuple_of(&records[i], body, decoded);
        if (tuple == NULL)
            Py_CLEAR(list);
        else
            PyList_SetItem(list, i, tuple);
    }
    return list;
}

static PyObject *relayed(PyObject *module, PyObject *endpoint)
{
    const struct lipc_endpoint *relaying = address(endpoint);
    int told;
    (void)module;
    if (relaying == NULL)
        return NULL;
    uint32_t events = lipc_relayed(relaying, &told);
    return PyLong_FromUnsignedLong(4UL * events + (unsigned long)told);
}

static PyObject *flush(PyObject *module, PyObject *endpoint)
{
    struct lipc_endpoint *flushed = address(endpoint);
    (void)module;
    return flushed == NULL ? NULL : PyLong_FromLongLong(lipc_flush(flushed));
}

static PyObject *park(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (!count_is(count, 2))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    int for_data = PyObject_IsTrue(arguments[1]);
    if (endpoint == NULL || for_data < 0)
        return NULL;
    return PyBool_FromLong(lipc_park(endpoint, for_data));
}

static PyObject *unpark(PyObject *module, PyObject *endpoint)
{
    struct lipc_endpoint *awake = address(endpoint);
    (void)module;
    if (awake == NULL)
        return NULL;
    lipc_unpark(awake);
    return none();
}

static PyObject *poll(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_endpoint *endpoints[POLLED];
    (void)module;
    if (count < 1 || count > POLLED + 1) {
        PyErr_SetString(PyExc_TypeError, "a time and a few endpoints expected");
        return NULL;
    }
    unsigned long long nanoseconds = PyLong_AsUnsignedLongLong(arguments[0]);
    for (Py_ssize_t i = 1; i < count; i++)
        endpoints[i - 1] = address(arguments[i]);
    if (PyErr_Occurred())
        return NULL;
    int found;
    Py_BEGIN_ALLOW_THREADS
    found = lipc_poll(endpoints, (size_t)count - 1, nanoseconds);
    Py_END_ALLOW_THREADS
    return PyBool_FromLong(found);
}

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef functions[] = {
    {"scan", scan, METH_O, "scan(message): what lipc_scan finds, as an int."},
    {"encode", encode, METH_O, "encode(value): the bytes of a small message of plain data, or None."},
    {"decode", decode, METH_O, "decode(message): the value of such a message, or NotImplemented."},
    {"send", FASTCALL(send), METH_FASTCALL,
     "send(endpoint, kind, channel, peer, pid, correlation, body, when_full): lipc_send of bytes."},
    {"publish", FASTCALL(publish), METH_FASTCALL,
     "publish(topic, peer, pid, body): lipc_topic_send of bytes to all who listen."},
    {"receive", FASTCALL(receive), METH_FASTCALL,
     "receive(endpoint, max, decoded): lipc_recv as a list of (kind, body, channel, peer, pid, correlation, value), or what "
     "is wanted, or -errno. Bodies of the kinds whose bits are set in `decoded` are decoded if they are small plain data; "
     "body is then None."},
    {"relayed", relayed, METH_O, "relayed(endpoint): what lipc_relayed tells, as 4 * events + told."},
    {"flush", flush, METH_O, "flush(endpoint): lipc_flush."},
    {"park", FASTCALL(park), METH_FASTCALL, "park(endpoint, for_data): lipc_park, as a bool."},
    {"unpark", unpark, METH_O, "unpark(endpoint): lipc_unpark."},
    {"poll", FASTCALL(poll), METH_FASTCALL,
     "poll(nanoseconds, *endpoints): lipc_poll of at most 64 endpoints, as a bool."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "lensipc._core.calls", NULL, -1, functions,
                                        NULL, NULL, NULL, NULL};

PyObject *lipc_calls(void)
{
    return PyModule_Create(&definition);
}
