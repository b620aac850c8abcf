/* SPDX-License-Identifier: MIT
 *
 * lensipc._fast: what every message needs, as functions of Python's own. In cffi's glue such a call takes two to four times
 * as long: it converts each argument by its C type, and hands over the GIL, for which busy threads can make one wait 5 ms.
 *
 * None of them blocks but `poll`, which gives the GIL away meanwhile. An endpoint or topic is given as its address, an int,
 * which its owner in lensipc/transport/endpoint.py keeps from being used once it is closed.
 */
#include <Python.h>

#include "clone/clone.h"
#include "clone/constructors.h"
#include "clone/ndarray.h"
#include "clone/opcodes.h"
#include "endpoint/endpoint.h"
#include "endpoint/topic.h"

/* The most messages of one call of `receive`, and endpoints of one call of `poll`. */
#define BATCH 64
#define POLLED 64

/* What the keys of a small message may cost when `receive` decodes it, in units of 10 ns. A message that needs more is handed out
 * as bytes, to be decoded with the budget that its receiver sets. */
#define QUIET_BUDGET 100000

/* Does what takes longer the larger `size` is, without the GIL if it takes long enough for others to want it. */
#define AT_LENGTH(size, what)  \
    if ((size) < LIPC_POOLED) { \
        what;                  \
    } else {                   \
        Py_BEGIN_ALLOW_THREADS \
        what;                  \
        Py_END_ALLOW_THREADS   \
    }

static PyObject *none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

static PyObject *encode(PyObject *module, PyObject *value)
{
    struct lipc_written message;
    size_t size = lipc_write(value, 0, SIZE_MAX / 4, &message);
    (void)module;
    if (size == 0)
        return none();
    PyObject *body = PyBytes_FromStringAndSize((const char *)message.pickle, (Py_ssize_t)size);
    lipc_written_release(&message);
    return body;
}

static int count_is(Py_ssize_t count, Py_ssize_t expected)
{
    if (count == expected)
        return 1;
    PyErr_Format(PyExc_TypeError, "%zd arguments expected, not %zd", expected, count);
    return 0;
}

/* The value of a message in any memory, and in *weight the bytes of memory that it takes at most. */
static PyObject *read_message(PyObject *const *arguments, Py_ssize_t count, uint64_t *weight)
{
    struct lipc_message message = {.budget = LIPC_BUDGET};
    Py_buffer buffer;
    PyObject *value;
    if (count != 1 && !count_is(count, 3))
        return NULL;
    message.owner = arguments[0];
    if (count == 3) {
        message.budget = PyLong_AsUnsignedLongLong(arguments[1]);
        message.flags = (unsigned)PyLong_AsUnsignedLong(arguments[2]);
        if (PyErr_Occurred())
            return NULL;
    }
    if (PyBytes_CheckExact(arguments[0])) {
        message.data = (const unsigned char *)PyBytes_AsString(arguments[0]);
        message.size = (size_t)PyBytes_Size(arguments[0]);
        message.flags &= ~(unsigned)LIPC_READ_OWNED;
        value = lipc_read(&message);
    } else {
        if (PyObject_GetBuffer(arguments[0], &buffer, PyBUF_SIMPLE))
            return NULL;
        message.data = buffer.buf;
        message.size = (size_t)buffer.len;
        if (buffer.readonly)
            message.flags &= ~(unsigned)LIPC_READ_OWNED;
        value = lipc_read(&message);
        PyBuffer_Release(&buffer);
    }
    *weight = message.weight;
    return value;
}

static PyObject *decode(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    uint64_t weight;
    (void)module;
    return read_message(arguments, count, &weight);
}

static PyObject *weigh(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    uint64_t weight;
    (void)module;
    PyObject *value = read_message(arguments, count, &weight);
    return value == NULL ? NULL : Py_BuildValue("NK", value, (unsigned long long)weight);
}

static PyObject *register_constructors(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (!count_is(count, 3) || lipc_rows_register(arguments[2]))
        return NULL;
    lipc_read_errors(arguments[0], arguments[1]);
    return none();
}

/* The address that an argument gives: NULL with an exception set where it gives none. */
static void *address(PyObject *argument)
{
    void *found = PyLong_AsVoidPtr(argument);
    if (found == NULL && !PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "no address");
    return found;
}

static PyObject *register_arrays(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (!count_is(count, 5))
        return NULL;
    void *memory = address(arguments[4]);
    int known = memory ? lipc_arrays_register(arguments[0], arguments[1], arguments[2], arguments[3], memory) : -1;
    return known < 0 ? NULL : PyBool_FromLong(known);
}

/* Whether this thread is the one that owns something, which no other may send by. */
static int is_own(pthread_t owner)
{
    return pthread_equal(owner, pthread_self());
}

/* Reads the arguments of `send` and `send_value` but for the body: 0 with an exception set where they are wrong. */
static int read_send(PyObject *const *arguments, Py_ssize_t count, struct lipc_endpoint **endpoint,
                     struct lipc_header *header, int *when_full)
{
    if (!count_is(count, 8))
        return 0;
    *endpoint = address(arguments[0]);
    *header = (struct lipc_header){
        .kind = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .channel = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
        .peer = (uint32_t)PyLong_AsUnsignedLong(arguments[3]),
        .pid = (uint32_t)PyLong_AsUnsignedLong(arguments[4]),
        .correlation = PyLong_AsUnsignedLongLong(arguments[5]),
    };
    *when_full = (int)PyLong_AsLong(arguments[7]);
    return !PyErr_Occurred();
}

static PyObject *send(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_endpoint *endpoint;
    struct lipc_header header;
    int when_full;
    char *body;
    Py_ssize_t size;
    (void)module;
    if (!read_send(arguments, count, &endpoint, &header, &when_full) ||
        PyBytes_AsStringAndSize(arguments[6], &body, &size))
        return NULL;
    return PyLong_FromLong(lipc_send(endpoint, &header, body, (size_t)size, when_full));
}

static PyObject *send_value(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_endpoint *endpoint;
    struct lipc_header header;
    int when_full, sent;
    struct lipc_written message;
    (void)module;
    if (!read_send(arguments, count, &endpoint, &header, &when_full))
        return NULL;
    if (!is_own(endpoint->owner) || !lipc_write(arguments[6], 1, LIPC_PICKLE_MAX, &message))
        return none();
    AT_LENGTH(message.size, sent = lipc_send_parts(endpoint, &header, message.parts, message.count, when_full));
    lipc_written_release(&message);
    return PyLong_FromLong(sent);
}

/* The same of `publish` and `publish_value`. */
static int read_publish(PyObject *const *arguments, Py_ssize_t count, struct lipc_topic **topic,
                        struct lipc_header *header)
{
    if (!count_is(count, 4))
        return 0;
    *topic = address(arguments[0]);
    *header = (struct lipc_header){
        .kind = LIPC_EVENT,
        .peer = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .pid = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
    };
    return !PyErr_Occurred();
}

static PyObject *publish(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_topic *topic;
    struct lipc_header header;
    char *body;
    Py_ssize_t size;
    (void)module;
    if (!read_publish(arguments, count, &topic, &header) || PyBytes_AsStringAndSize(arguments[3], &body, &size))
        return NULL;
    const struct lipc_part part = {.data = body, .size = (size_t)size};
    return PyLong_FromLong(lipc_topic_send(topic, NULL, &header, &part, 1));
}

static PyObject *publish_value(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_topic *topic;
    struct lipc_header header;
    struct lipc_written message;
    int status;
    (void)module;
    if (!read_publish(arguments, count, &topic, &header))
        return NULL;
    if (!is_own(topic->owner) || !lipc_write(arguments[3], 1, LIPC_PICKLE_MAX, &message))
        return none();
    AT_LENGTH(message.size, status = lipc_topic_send(topic, NULL, &header, message.parts, message.count));
    lipc_written_release(&message);
    return PyLong_FromLong(status);
}

/* A record as a tuple: its body as bytes, or None and the `value` that it is, whose reference is taken over; `assembled`
 * where `body` is NULL. */
static PyObject *tuple_of(const struct lipc_record *record, const char *body, PyObject *assembled, PyObject *value)
{
    if (body == NULL)
        Py_INCREF(assembled);
    PyObject *items[] = {
        PyLong_FromUnsignedLong(record->kind),
        value ? none() : body ? PyBytes_FromStringAndSize(body, (Py_ssize_t)record->size) : assembled,
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

/* Appends what `made` is, whose reference is taken over: whether that went well. */
static int append(PyObject *list, PyObject *made)
{
    int appended = made != NULL && PyList_Append(list, made) == 0;
    Py_XDECREF(made);
    return appended;
}

/* Begins a run at the end of `list`, which holds it. */
static PyObject *begin_run(PyObject *list)
{
    PyObject *run = PyList_New(0);
    PyObject *tuple = run == NULL ? NULL : Py_BuildValue("iNiiiiO", 0, run, 0, 0, 0, 0, Py_None);
    return append(list, tuple) ? run : NULL;
}

/* What stands for a record's channel in a run; NULL: it is to come by itself. */
static PyObject *hearer_of(const struct lipc_record *record, PyObject *value, PyObject *heard)
{
    if (!record->follows || value == NULL || !PyTuple_CheckExact(value) || record->channel >= PyList_Size(heard))
        return NULL;
    return PyList_GetItem(heard, record->channel);
}

/* The value of a small message of plain data; NULL where it is another, or refused, with an exception set or not. */
static PyObject *read_quietly(const char *body, size_t size)
{
    struct lipc_message message = {.data = (const unsigned char *)body,
                                   .size = size,
                                   .budget = QUIET_BUDGET,
                                   .flags = LIPC_READ_QUIET | LIPC_READ_PLAIN};
    return lipc_read(&message);
}

/* Adds messages to `list`: whether that went well. Those of the kinds in `decoded` that have no more than `most` bytes are
 * decoded. One that was assembled has the body `assembled`. */
static int add_to(PyObject *list, const struct lipc_record *records, int count, const char *bodies, PyObject *assembled,
                  unsigned long decoded, uint64_t most, PyObject *heard)
{
    PyObject *run = NULL;
    int added = 1;
    for (const struct lipc_record *record = records; added && record < records + count; record++) {
        const char *body = record->offset == LIPC_ASSEMBLED ? NULL : bodies + record->offset;
        PyObject *value = NULL;
        if (body != NULL && record->size <= most && record->kind < 32 && decoded >> record->kind & 1)
            value = read_quietly(body, (size_t)record->size);
        PyObject *hearer = hearer_of(record, value, heard);
        if (hearer != NULL) {
            if (run == NULL)
                run = begin_run(list);
            added = run != NULL && PyList_Append(run, hearer) == 0 && PyList_Append(run, value) == 0;
            Py_DECREF(value);
        } else {
            run = NULL;
            added = !PyErr_Occurred() && append(list, tuple_of(record, body, assembled, value));
        }
    }
    return added;
}

static PyObject *receive(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_record records[BATCH];
    _Alignas(8) char bodies[LIPC_INLINE];
    uint64_t wanted;
    int told;
    (void)module;
    if (!count_is(count, 8))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    unsigned long max = PyLong_AsUnsignedLong(arguments[1]);
    unsigned long decoded = PyLong_AsUnsignedLong(arguments[2]);
    unsigned long most = PyLong_AsUnsignedLong(arguments[3]);
    PyObject *heard = arguments[4];
    unsigned long given = PyLong_AsUnsignedLong(arguments[5]);
    PyObject *memory = arguments[6], *list = arguments[7];
    if (PyErr_Occurred())
        return NULL;
    if (!PyList_Check(heard) || !PyList_Check(memory) || PyList_Size(memory) != 1 || !PyList_Check(list)) {
        PyErr_SetString(PyExc_TypeError, "lists expected");
        return NULL;
    }
    int got = lipc_recv(endpoint, records, max < BATCH ? (uint32_t)max : BATCH, bodies, sizeof bodies, &wanted);
    uint32_t relayed = lipc_relayed(endpoint, &told);
    if (wanted && wanted <= given && relayed) {
        wanted = 0; /* it is the next call's: what has been sent on is told first */
    } else if (wanted && wanted <= given) {
        PyObject *made = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)wanted);
        /* Its owner has it before the core writes there: whatever a signal's handler raises, it stays. */
        if (made == NULL || PyList_SetItem(memory, 0, made))
            return NULL;
        (void)lipc_assemble(endpoint, PyByteArray_AsString(made), wanted); /* which has just asked for it */
        got = lipc_recv(endpoint, records, 1, bodies, sizeof bodies, &wanted);
    }
    /* What woke this side may have been room for what waits. An error is told once there is nothing to hand out. */
    int64_t waiting = got >= 0 && lipc_outbox(endpoint) ? lipc_flush(endpoint) : 0;
    if (waiting < 0 && got == 0)
        got = (int)waiting;
    /* From here on code of Python's may run, a finalizer say, which closes the endpoint. */
    if (got > 0) {
        PyObject *assembled = PyList_GetItem(memory, 0);
        Py_INCREF(assembled);
        int added = add_to(list, records, got, bodies, assembled, decoded, most, heard);
        Py_DECREF(assembled);
        if (!added || (records[0].offset == LIPC_ASSEMBLED && PyList_SetItem(memory, 0, none())))
            return NULL;
    }
    PyObject *result = got < 0 ? PyLong_FromLong(got) : PyLong_FromUnsignedLongLong(wanted);
    return result != NULL && relayed ? Py_BuildValue("NIi", result, relayed, told) : result;
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
    return found == LIPC_PREEMPTED ? none() : PyBool_FromLong(found);
}

#define FASTCALL(function) (PyCFunction)(void (*)(void))(function)

static PyMethodDef functions[] = {
    {"encode", encode, METH_O, "encode(value): the bytes of a message of plain data, or None."},
    {"decode", FASTCALL(decode), METH_FASTCALL,
     "decode(message, budget, flags): lipc_read of any memory, with the flags LIPC_READ_*; decode(message): with LIPC_BUDGET and "
     "none of them."},
    {"weigh", FASTCALL(weigh), METH_FASTCALL,
     "weigh(message, budget, flags): the same, as a tuple of the value and the bytes of memory that it takes at most."},
    {"register_constructors", FASTCALL(register_constructors), METH_FASTCALL,
     "register_constructors(DecodeError, UnknownValueError, rows): lipc_rows_register and lipc_read_errors."},
    {"register_arrays", FASTCALL(register_arrays), METH_FASTCALL,
     "register_arrays(ndarray, frombuffer, dtypes, array, address): lipc_arrays_register, as a bool."},
    {"send", FASTCALL(send), METH_FASTCALL,
     "send(endpoint, kind, channel, peer, pid, correlation, body, when_full): lipc_send of bytes."},
    {"send_value", FASTCALL(send_value), METH_FASTCALL,
     "send_value(endpoint, kind, channel, peer, pid, correlation, value, when_full): the same of small plain data, and of large "
     "arrays in it; None where the value is something else."},
    {"publish", FASTCALL(publish), METH_FASTCALL,
     "publish(topic, peer, pid, body): lipc_topic_send of bytes to all who listen."},
    {"publish_value", FASTCALL(publish_value), METH_FASTCALL,
     "publish_value(topic, peer, pid, value): the same of such a value, or None."},
    {"receive", FASTCALL(receive), METH_FASTCALL,
     "receive(endpoint, max, decoded, most, heard, given, memory, into): lipc_recv, and lipc_flush if something waits: 0, "
     "or what is wanted, or -errno; (that, events, told) if lipc_relayed has something to tell. Messages are added to the "
     "list `into` as (kind, body, channel, peer, pid, correlation, value). Bodies of at most `most` bytes of the kinds whose "
     "bits are set in `decoded` are decoded if they are small plain data; body is then None. Events that follow come then "
     "as (0, run, 0, 0, 0, 0, None): those that nothing else is between, for each what stands for its channel in `heard`, a "
     "list, and its value. `memory` is a list of what the message under way is assembled in: it is that one's body. One of "
     "at most `given` bytes has it made here."},
    {"flush", flush, METH_O, "flush(endpoint): lipc_flush."},
    {"park", FASTCALL(park), METH_FASTCALL, "park(endpoint, for_data): lipc_park, as a bool."},
    {"unpark", unpark, METH_O, "unpark(endpoint): lipc_unpark."},
    {"poll", FASTCALL(poll), METH_FASTCALL,
     "poll(nanoseconds, *endpoints): lipc_poll of at most POLLED endpoints, as a bool; None: LIPC_PREEMPTED."},
    {NULL, NULL, 0, NULL},
};

/* The constants that Python needs, too. */
static int add_constants(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } numbers[] = {
        {"ALIGNMENT", LIPC_ALIGNMENT},     {"DEPTH", LIPC_DEPTH},
        {"OUT_OF_BAND", LIPC_OUT_OF_BAND}, {"POLLED", POLLED},
        {"PROTOCOL", LIPC_PICKLE_PROTOCOL}, {"READ_ALL", LIPC_READ_ALL},
        {"READ_OWNED", LIPC_READ_OWNED},   {"READ_PLAIN", LIPC_READ_PLAIN},
        {"READ_TRIAL", LIPC_READ_TRIAL},   {"TEXT_LIMIT", LIPC_TEXT_LIMIT},
        {"WRITER_DEPTH", LIPC_WRITER_DEPTH},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (PyModule_AddIntConstant(module, numbers[i].name, numbers[i].value))
            return -1;
    PyObject *magic = PyBytes_FromString(LIPC_MESSAGE_MAGIC);
    int failed = magic == NULL || PyModule_AddObjectRef(module, "MAGIC", magic);
    Py_XDECREF(magic);
    return failed ? -1 : PyModule_AddStringConstant(module, "WIRE_MODULE", LIPC_WIRE_MODULE);
}

/* cffi says of lensipc._core that it is safe without the GIL, and nobody has shown that of the C core. Importing this module
 * enables the GIL again on a free-threaded Python: that is enough, since nothing of lensipc runs without it. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)add_constants},
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "lensipc._fast", .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC PyInit__fast(void)
{
    return PyModuleDef_Init(&definition);
}
