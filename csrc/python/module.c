/* SPDX-License-Identifier: MIT
 *
 * lensipc._fast: what every message needs, as native Python functions. Through cffi such a call takes two to four times
 * as long. cffi converts each argument by its C type, and releases the GIL. Busy threads can then make the caller wait
 * 5 ms for the GIL.
 *
 * Only `busy_poll` blocks, and it releases the GIL. A function that sends may wait for moments, as lipc_send_parts does. It
 * releases the GIL if the message is large (WITHOUT_GIL_IF_LARGE). An endpoint or topic is passed as its address, an int. The
 * Python object that owns it (lensipc/transport/endpoint.py) does not pass the address once the endpoint or topic is
 * closed.
 */
#include <Python.h>

#include "clone/clone.h"
#include "clone/constructors.h"
#include "clone/ndarray.h"
#include "clone/opcodes.h"
#include "endpoint/endpoint.h"
#include "endpoint/topic.h"
#include "python/block.h"
#include "python/loan.h"
#include "python/message.h"

#include <errno.h>

/* The most messages that one call of `receive` takes, and the most endpoints of one call of `busy_poll`. */
#define BATCH 64
#define POLLED 64

/* What the keys of a small message may cost when `receive` decodes it, in units of 10 ns. A message that needs more is
 * handed out as bytes, and then decoded with its receiver's budget. */
#define QUIET_BUDGET 100000

/* Does `what`, which takes longer the larger `size` is. Releases the GIL if it takes long enough for other threads to
 * want the GIL. */
#define WITHOUT_GIL_IF_LARGE(size, what)  \
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

/* Raises the exception that a negative number of the core stands for. */
static PyObject *raises;

static PyObject *fail_with(PyObject *module, PyObject *function)
{
    (void)module;
    Py_INCREF(function);
    Py_XDECREF(raises);
    raises = function;
    return none();
}

/* Returns NULL, with the exception set that -errno stands for. */
static PyObject *failed(int64_t code)
{
    PyObject *never = PyObject_CallFunction(raises, "L", (long long)code);
    if (never != NULL) {
        Py_DECREF(never);
        PyErr_SetString(PyExc_SystemError, "a failure that raised nothing");
    }
    return NULL;
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

/* Returns the value of a message in any memory. *weight gets the most bytes of memory that the value takes. */
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
        message.flags &= ~(unsigned)(buffer.readonly ? LIPC_READ_OWNED : LIPC_READ_VIEW);
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

/* Returns the address in an argument, or NULL with an exception set if there is none. */
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
    if (!count_is(count, 6))
        return NULL;
    void *memory = address(arguments[4]);
    int known =
        memory ? lipc_arrays_register(arguments[0], arguments[1], arguments[2], arguments[3], memory, arguments[5]) : -1;
    return known < 0 ? NULL : PyBool_FromLong(known);
}

/* Whether this thread is the owner. No other thread may send. */
static int is_own(pthread_t owner)
{
    return pthread_equal(owner, pthread_self());
}

/* A body in one piece: a contiguous buffer. Most bodies are bytes, and bytes need no view. That saves 10 of 130 ns. */
struct body {
    const char *data;
    size_t size;
    Py_buffer view; /* its obj is NULL if there is no view */
};

/* Returns whether `object` is a body in one piece. If it is not, an exception is set. */
static int open_body(PyObject *object, struct body *body)
{
    body->view.obj = NULL;
    if (PyBytes_CheckExact(object)) {
        body->data = PyBytes_AsString(object);
        body->size = (size_t)PyBytes_Size(object);
        return 1;
    }
    if (PyObject_GetBuffer(object, &body->view, PyBUF_SIMPLE))
        return 0;
    body->data = body->view.buf;
    body->size = (size_t)body->view.len;
    return 1;
}

static void close_body(struct body *body)
{
    if (body->view.obj != NULL)
        PyBuffer_Release(&body->view);
}

static PyObject *send(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct body body;
    int sent;
    (void)module;
    if (!count_is(count, 8))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    const struct lipc_header header = {
        .kind = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .channel = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
        .detail = (uint32_t)PyLong_AsUnsignedLong(arguments[3]),
        .pid = (uint32_t)PyLong_AsUnsignedLong(arguments[4]),
        .correlation = PyLong_AsUnsignedLongLong(arguments[5]),
    };
    int when_full = (int)PyLong_AsLong(arguments[7]);
    if (PyErr_Occurred() || !open_body(arguments[6], &body))
        return NULL;
    WITHOUT_GIL_IF_LARGE(body.size, sent = lipc_send(endpoint, &header, body.data, body.size, when_full));
    close_body(&body);
    return PyLong_FromLong(sent);
}

static PyObject *send_value(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_written message;
    int sent;
    (void)module;
    if (!count_is(count, 6))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    const struct lipc_header header = {
        .kind = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .channel = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
        .detail = (uint32_t)PyLong_AsUnsignedLong(arguments[3]),
        .correlation = PyLong_AsUnsignedLongLong(arguments[4]),
    };
    if (PyErr_Occurred())
        return NULL;
    if (!is_own(endpoint->owner) || !lipc_write(arguments[5], 1, LIPC_PICKLE_MAX, &message))
        return PyBool_FromLong(0);
    WITHOUT_GIL_IF_LARGE(message.size, sent = lipc_send_parts(endpoint, &header, message.parts, message.count, LIPC_REFUSE));
    lipc_written_release(&message);
    return sent >= 0 || sent == -EMSGSIZE ? PyBool_FromLong(sent >= 0) : failed(sent);
}

/* Reads the arguments of `publish` and `publish_value`, except the body. Returns 0 with an exception set if they are
 * wrong. */
static int read_publish(PyObject *const *arguments, Py_ssize_t count, struct lipc_topic **topic,
                        struct lipc_header *header)
{
    if (!count_is(count, 4))
        return 0;
    *topic = address(arguments[0]);
    *header = (struct lipc_header){
        .kind = LIPC_EVENT,
        .detail = (uint32_t)PyLong_AsUnsignedLong(arguments[1]),
        .pid = (uint32_t)PyLong_AsUnsignedLong(arguments[2]),
    };
    return !PyErr_Occurred();
}

static PyObject *publish(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_topic *topic;
    struct lipc_header header;
    struct body body;
    int status;
    (void)module;
    if (!read_publish(arguments, count, &topic, &header) || !open_body(arguments[3], &body))
        return NULL;
    const struct lipc_part part = {.data = body.data, .size = body.size};
    WITHOUT_GIL_IF_LARGE(part.size, status = lipc_topic_send(topic, NULL, &header, &part, 1));
    close_body(&body);
    return status >= 0 ? PyLong_FromLong(status) : failed(status);
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
    WITHOUT_GIL_IF_LARGE(message.size, status = lipc_topic_send(topic, NULL, &header, message.parts, message.count));
    lipc_written_release(&message);
    return status >= 0 ? PyLong_FromLong(status) : failed(status);
}

static PyObject *lend(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (!count_is(count, 3))
        return NULL;
    struct lipc_slabs *slabs = address(arguments[0]);
    uint64_t size = PyLong_AsUnsignedLongLong(arguments[2]);
    if (PyErr_Occurred())
        return NULL;
    PyObject *lent = lipc_lend(slabs, arguments[1], size);
    return lent != NULL || PyErr_Occurred() ? lent : none();
}

static PyObject *close_slabs(PyObject *module, PyObject *slabs)
{
    struct lipc_slabs *closed = address(slabs);
    (void)module;
    if (closed == NULL)
        return NULL;
    lipc_slabs_close(closed);
    return none();
}

static PyObject *register_loans(PyObject *module, PyObject *type)
{
    (void)module;
    lipc_loans_register(type);
    return none();
}

/* The references to a loan's root where there is no view of it: the array's base, and its slot (lensipc/clone/loan.py). No
 * Python code has the root, and numpy's bases are references of C. So their number is the same in every Python. */
#define ALONE 2

static PyObject *is_lent(PyObject *module, PyObject *array)
{
    (void)module;
    return PyBool_FromLong(lipc_loan_of(array) != NULL);
}

static PyObject *reset_array(PyObject *module, PyObject *array)
{
    (void)module;
    return lipc_array_reset(array) ? NULL : none();
}

/* The most pieces of a body that lies in a loan. */
#define PIECES 8

/* A body as parts: those of a value that the writer has written, or pieces of memory. */
struct parts {
    struct lipc_written message; /* its count is 0 if there are pieces */
    Py_buffer pieces[PIECES];
    struct lipc_part of_pieces[PIECES];
    const struct lipc_part *parts;
    size_t count, size;
};

static void close_parts(struct parts *body)
{
    if (body->message.count)
        lipc_written_release(&body->message);
    else
        while (body->count)
            PyBuffer_Release(&body->pieces[--body->count]);
}

/* Opens a body: a list of contiguous buffers, or a value. Returns 0 if it has too many pieces, or is no value that the writer
 * writes, or with an exception set. */
static int open_parts(PyObject *object, struct parts *body)
{
    body->message.count = body->count = body->size = 0;
    if (!PyList_CheckExact(object)) {
        body->size = lipc_write(object, 1, LIPC_PICKLE_MAX, &body->message);
        if (body->size == 0)
            return 0;
        body->parts = body->message.parts;
        body->count = body->message.count;
        return 1;
    }
    if (PyList_Size(object) > PIECES)
        return 0;
    body->parts = body->of_pieces;
    for (Py_ssize_t i = 0; i < PyList_Size(object); i++) {
        Py_buffer *piece = &body->pieces[i];
        if (PyObject_GetBuffer(PyList_GetItem(object, i), piece, PyBUF_SIMPLE)) {
            close_parts(body);
            return 0;
        }
        body->of_pieces[body->count++] = (struct lipc_part){.data = piece->buf, .size = (size_t)piece->len};
        body->size += (size_t)piece->len;
    }
    return 1;
}

/* How many of the buffers in a list are those of an array whose base is `root`. */
static Py_ssize_t shown_by(PyObject *body, PyObject *root)
{
    Py_ssize_t count = 0;
    for (Py_ssize_t i = 0; PyList_Check(body) && i < PyList_Size(body); i++) {
        PyObject *piece = PyList_GetItem(body, i);
        PyObject *array = PyMemoryView_Check(piece) ? PyObject_GetAttrString(piece, "obj") : NULL;
        count += array != NULL && lipc_array_base(array) == root;
        Py_XDECREF(array);
    }
    PyErr_Clear();
    return count;
}

/* Returns the array of a tuple whose loan is the memory of `part`, if numpy has no view of it but those in `body`; else
 * NULL. */
static PyObject *find_loan(PyObject *arrays, const struct lipc_part *part, PyObject *body)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(arrays); i++) {
        PyObject *array = PyTuple_GetItem(arrays, i);
        const struct lipc_loan *loan = lipc_loan_of(array);
        if (loan != NULL && lipc_loan_memory(loan) == part->data && loan->size == part->size)
            /* Only now: encoders of users' classes may have made views. */
            return Py_REFCNT(lipc_loan_root(array)) == ALONE + shown_by(body, lipc_loan_root(array)) ? array : NULL;
    }
    return NULL;
}

static PyObject *publish_loan(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_topic *topic;
    struct lipc_header header;
    struct parts body;
    int status;
    (void)module;
    if (!count_is(count, 5) || !read_publish(arguments, 4, &topic, &header))
        return NULL;
    if (!PyTuple_Check(arguments[4])) {
        PyErr_SetString(PyExc_TypeError, "a tuple expected");
        return NULL;
    }
    if (!is_own(topic->owner) || !open_parts(arguments[3], &body))
        return PyErr_Occurred() ? NULL : none();
    PyObject *array = body.count ? find_loan(arguments[4], &body.parts[body.count - 1], arguments[3]) : NULL;
    if (array == NULL) {
        close_parts(&body);
        return none();
    }
    const struct lipc_loan *loan = lipc_loan_of(array);
    WITHOUT_GIL_IF_LARGE(body.size, status = lipc_topic_send_loan(topic, loan, &header, body.parts, body.count));
    close_parts(&body);
    if (status < 0)
        return failed(status);
    return lipc_array_reset(array) ? NULL : PyLong_FromLong(status);
}

/* Returns the value of a small message of plain data. Returns NULL for any other or refused message, with MemoryError
 * set or without an exception. */
static PyObject *read_quietly(const char *body, size_t size)
{
    struct lipc_message message = {.data = (const unsigned char *)body,
                                   .size = size,
                                   .budget = QUIET_BUDGET,
                                   .flags = LIPC_READ_QUIET | LIPC_READ_PLAIN};
    return lipc_read(&message);
}

/* Appends `made` to the list and takes over the reference. Returns whether that succeeded. */
static int append(PyObject *list, PyObject *made)
{
    int appended = made != NULL && PyList_Append(list, made) == 0;
    Py_XDECREF(made);
    return appended;
}

/* Makes a message of a record. If `value` is not NULL, the message has the value, and the reference is taken over. If
 * it is NULL, the message has the body: the bytes at `body`, or `assembled` if `body` is NULL. */
static PyObject *message_of(const struct lipc_record *record, const char *body, PyObject *assembled, PyObject *value)
{
    if (value != NULL)
        return lipc_message_new(record, none(), value);
    if (body == NULL)
        Py_INCREF(assembled);
    return lipc_message_new(record, body ? PyBytes_FromStringAndSize(body, (Py_ssize_t)record->size) : assembled, none());
}

/* Returns the object that stands for the channel of an event that can be in a batch, or NULL if the event comes
 * alone. */
static PyObject *channel_of(const struct lipc_record *record, PyObject *value, PyObject *channels)
{
    if (!record->follows || value == NULL || !PyTuple_CheckExact(value) || record->channel >= PyList_Size(channels))
        return NULL;
    return PyList_GetItem(channels, record->channel);
}

/* What one call of `receive` hands out, and how. */
struct handed_out {
    PyObject *into;     /* the list to which messages and batches are added */
    PyObject *channels; /* a list: the object that stands for each channel in a batch */
    unsigned long decoded; /* a bit for each kind whose bodies are decoded */
    uint64_t most;         /* the most bytes of a body that is decoded */
};

/* Adds messages to the list. Returns whether that succeeded. An assembled message has the body `assembled`. */
static int hand_out(const struct handed_out *to, const struct lipc_record *records, int count, const char *bodies,
                    PyObject *assembled)
{
    PyObject *batch = NULL; /* a borrowed reference: `into` holds the batch */
    int added = 1;
    for (const struct lipc_record *record = records; added && record < records + count; record++) {
        const char *body = record->offset == LIPC_ASSEMBLED ? NULL : bodies + record->offset;
        PyObject *value = NULL;
        if (body != NULL && record->size <= to->most && record->kind < 32 && to->decoded >> record->kind & 1)
            value = read_quietly(body, (size_t)record->size);
        PyObject *channel = channel_of(record, value, to->channels);
        if (channel != NULL) {
            if (batch == NULL && !append(to->into, batch = PyList_New(0)))
                batch = NULL;
            added = batch != NULL && PyList_Append(batch, channel) == 0 && PyList_Append(batch, value) == 0;
            Py_DECREF(value);
        } else {
            batch = NULL;
            added = !PyErr_Occurred() && append(to->into, message_of(record, body, assembled, value));
        }
    }
    return added;
}

/* Hands out the message that lipc_may_view has allowed to be read in place. Returns whether that succeeded. */
static int hand_out_view(const struct handed_out *to, struct lipc_endpoint *endpoint)
{
    struct lipc_record record;
    PyObject *block = lipc_block_new();
    if (block == NULL)
        return 0;
    int error;
    struct lipc_view *view = lipc_take_view(endpoint, &record, &error);
    if (view == NULL) {
        Py_DECREF(block);
        (void)failed(error);
        return 0;
    }
    lipc_block_set(block, view);
    int added = hand_out(to, &record, 1, NULL, block);
    Py_DECREF(block);
    return added;
}

static PyObject *receive(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_record records[BATCH];
    _Alignas(8) char bodies[LIPC_INLINE];
    uint64_t wanted;
    int status;
    (void)module;
    if (!count_is(count, 9))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    PyObject *memory = arguments[1], *provide = arguments[2];
    unsigned long made_here = PyLong_AsUnsignedLong(arguments[3]);
    unsigned long max = PyLong_AsUnsignedLong(arguments[5]);
    const struct handed_out to = {
        .channels = arguments[4],
        .decoded = PyLong_AsUnsignedLong(arguments[6]),
        .most = PyLong_AsUnsignedLong(arguments[7]),
        .into = arguments[8],
    };
    if (PyErr_Occurred())
        return NULL;
    if (!PyList_Check(to.channels) || !PyList_Check(memory) || PyList_Size(memory) != 1 || !PyList_Check(to.into)) {
        PyErr_SetString(PyExc_TypeError, "lists expected");
        return NULL;
    }
    int got = lipc_recv(endpoint, records, max < BATCH ? (uint32_t)max : BATCH, bodies, sizeof bodies, &wanted);
    uint32_t relayed = lipc_relayed(endpoint, &status);
    int viewed = wanted && !relayed ? lipc_may_view(endpoint) : 0;
    if (viewed)
        return viewed < 0 ? failed(viewed) : hand_out_view(&to, endpoint) ? PyLong_FromLong(0) : NULL;
    if (wanted && !relayed) { /* else the next call does this: relayed events are reported first */
        if (wanted > made_here) {
            /* Python code may close the endpoint. So the memory that `provide` gives is used by the next call. */
            PyObject *provided = PyObject_CallFunction(provide, "K", (unsigned long long)wanted);
            Py_XDECREF(provided);
            return provided == NULL ? NULL : PyLong_FromLong(0);
        }
        PyObject *made = PyByteArray_FromStringAndSize(NULL, (Py_ssize_t)wanted);
        /* The list `memory` holds the bytearray before the core writes to it. So the bytearray stays, whatever a signal
         * handler raises. */
        if (made == NULL || PyList_SetItem(memory, 0, made))
            return NULL;
        (void)lipc_assemble(endpoint, PyByteArray_AsString(made), wanted); /* lipc_recv just asked for it */
        got = lipc_recv(endpoint, records, 1, bodies, sizeof bodies, &wanted);
    }
    /* The peer may have woken this side because there is room for the outbox. An error is raised once there is nothing
     * to hand out. */
    int64_t waiting = got >= 0 && lipc_should_flush(endpoint) ? lipc_flush(endpoint) : 0;
    if (waiting < 0 && got == 0)
        got = (int)waiting;
    /* From here on Python code may run, for example a finalizer, and it may close the endpoint. */
    if (got < 0)
        return failed(got);
    if (got > 0) {
        PyObject *assembled = PyList_GetItem(memory, 0);
        Py_INCREF(assembled);
        int added = hand_out(&to, records, got, bodies, assembled);
        Py_DECREF(assembled);
        if (!added || (records[0].offset == LIPC_ASSEMBLED && PyList_SetItem(memory, 0, none())))
            return NULL;
    }
    return PyLong_FromUnsignedLong(relayed);
}

static PyObject *relay_status(PyObject *module, PyObject *endpoint)
{
    struct lipc_endpoint *relaying = address(endpoint);
    int status;
    (void)module;
    if (relaying == NULL)
        return NULL;
    (void)lipc_relayed(relaying, &status);
    return PyLong_FromLong(status);
}

static PyObject *flush(PyObject *module, PyObject *endpoint)
{
    struct lipc_endpoint *flushed = address(endpoint);
    (void)module;
    if (flushed == NULL)
        return NULL;
    int64_t waiting = lipc_flush(flushed);
    return waiting >= 0 ? PyLong_FromLongLong(waiting) : failed(waiting);
}

static PyObject *park(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    (void)module;
    if (count != 1 && !count_is(count, 2))
        return NULL;
    struct lipc_endpoint *endpoint = address(arguments[0]);
    int for_data = count == 1 ? 1 : PyObject_IsTrue(arguments[1]);
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

static PyObject *detach_views(PyObject *module, PyObject *endpoint)
{
    struct lipc_endpoint *detached = address(endpoint);
    (void)module;
    if (detached == NULL)
        return NULL;
    lipc_views_detach(detached);
    return none();
}

static PyObject *disown_views(PyObject *module, PyObject *endpoint)
{
    struct lipc_endpoint *inherited = address(endpoint);
    (void)module;
    if (inherited == NULL)
        return NULL;
    lipc_views_disown(inherited);
    return none();
}

/* Returns a new reference to the Block where an array lies. Returns NULL if it lies in none, or is not one that a message
 * has made: such an array has a base, which is one, too, and so has every slice of it. Were the array itself the one that
 * slices have for their base, it could not be given back without them. */
static PyObject *block_of(PyObject *array)
{
    PyObject *base = lipc_array_base(array);
    PyObject *owner = base != NULL && lipc_is_array(base) ? lipc_array_base(base) : NULL;
    PyObject *block = owner != NULL ? lipc_leased_block(owner) : NULL;
    Py_XINCREF(block);
    return block;
}

static PyObject *empty_array(PyObject *module, PyObject *array)
{
    (void)module;
    if (lipc_array_base(array) == NULL) {
        PyErr_SetString(PyExc_TypeError, "an array with dimensions that does not own its memory expected");
        return NULL;
    }
    PyObject *block = block_of(array);
    lipc_array_empty(array, block);
    Py_XDECREF(block);
    return none();
}

static PyObject *busy_poll(PyObject *module, PyObject *const *arguments, Py_ssize_t count)
{
    struct lipc_endpoint *endpoints[POLLED];
    (void)module;
    if (count < 1 || count > POLLED + 1) {
        PyErr_SetString(PyExc_TypeError, "a few endpoints and a time expected");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count - 1; i++)
        endpoints[i] = address(arguments[i]);
    unsigned long long nanoseconds = PyLong_AsUnsignedLongLong(arguments[count - 1]);
    if (PyErr_Occurred())
        return NULL;
    int found;
    Py_BEGIN_ALLOW_THREADS
    found = lipc_busy_poll(endpoints, (size_t)count - 1, nanoseconds);
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
     "register_arrays(ndarray, frombuffer, dtypes, array, address, build_view): lipc_arrays_register, as a bool."},
    {"send", FASTCALL(send), METH_FASTCALL,
     "send(endpoint, kind, channel, detail, pid, correlation, body, when_full): lipc_send of a contiguous buffer."},
    {"send_value", FASTCALL(send_value), METH_FASTCALL,
     "send_value(endpoint, kind, channel, detail, correlation, value): send small plain data, and large arrays in it; whether the "
     "value is that, no larger than the peer takes, and this thread the endpoint's."},
    {"publish", FASTCALL(publish), METH_FASTCALL,
     "publish(topic, sender, pid, body): lipc_topic_send of a contiguous buffer to all who listen."},
    {"publish_value", FASTCALL(publish_value), METH_FASTCALL,
     "publish_value(topic, sender, pid, value): the same of such a value, or None."},
    {"lend", FASTCALL(lend), METH_FASTCALL,
     "lend(slabs, owner, size): lipc_loan_take, as a Lent, or None. It refers to `owner`, which owns the slabs."},
    {"close_slabs", close_slabs, METH_O, "close_slabs(slabs): lipc_slabs_close."},
    {"register_loans", register_loans, METH_O, "register_loans(Loan): lipc_loans_register."},
    {"is_lent", is_lent, METH_O, "is_lent(array): whether an array lies in a Lent."},
    {"reset_array", reset_array, METH_O, "reset_array(array): lipc_array_reset."},
    {"publish_loan", FASTCALL(publish_loan), METH_FASTCALL,
     "publish_loan(topic, sender, pid, body, arrays): lipc_topic_send_loan of such a value, or of a list of contiguous buffers, that "
     "ends with the memory of one of these arrays on loan. That array is empty afterwards. None: nothing was sent, because it is "
     "another body or another thread."},
    {"receive", FASTCALL(receive), METH_FASTCALL,
     "receive(endpoint, memory, provide, made_here, channels, max, decoded, most, into): lipc_recv, and lipc_flush if something "
     "waits. Adds messages to `into`, and gives how many events it has sent on. `memory` is a list of what the message under "
     "way is assembled in: of at most `made_here` bytes it is made here, of more by `provide(size)`. If its channel's listeners "
     "read in place, and it lies in a block, its body is a Block. Bodies of at most `most` "
     "bytes of the kinds whose bits are set in `decoded` are decoded if they are small plain data. Events that follow then "
     "come as a batch: a list of, for each, what stands for its channel in `channels`, and its arguments."},
    {"relay_status", relay_status, METH_O, "relay_status(endpoint): FAILED and CONGESTED of what the last `receive` has sent on."},
    {"flush", flush, METH_O, "flush(endpoint): lipc_flush."},
    {"park", FASTCALL(park), METH_FASTCALL, "park(endpoint, for_data=True): lipc_park, as a bool."},
    {"unpark", unpark, METH_O, "unpark(endpoint): lipc_unpark."},
    {"busy_poll", FASTCALL(busy_poll), METH_FASTCALL,
     "busy_poll(*endpoints, nanoseconds): lipc_busy_poll of at most POLLED endpoints, as a bool; None: LIPC_PREEMPTED."},
    {"detach_views", detach_views, METH_O, "detach_views(endpoint): lipc_views_detach."},
    {"disown_views", disown_views, METH_O, "disown_views(endpoint): lipc_views_disown."},
    {"empty_array", empty_array, METH_O,
     "empty_array(array): give the length 0 to an array that does not own its memory, and its part of a Block back."},
    {"fail_with", fail_with, METH_O, "fail_with(function): what raises the exception that -errno means."},
    {NULL, NULL, 0, NULL},
};

/* Adds the constants that Python needs too, and the type of a message. */
static int add_members(PyObject *module)
{
    static const struct {
        const char *name;
        long value;
    } numbers[] = {
        {"ALIGNMENT", LIPC_ALIGNMENT},     {"DEPTH", LIPC_DEPTH},
        {"OUT_OF_BAND", LIPC_OUT_OF_BAND}, {"POLLED", POLLED},
        {"PROTOCOL", LIPC_PICKLE_PROTOCOL}, {"READ_ALL", LIPC_READ_ALL},
        {"READ_OWNED", LIPC_READ_OWNED},   {"READ_PLAIN", LIPC_READ_PLAIN},
        {"READ_TRIAL", LIPC_READ_TRIAL},   {"READ_VIEW", LIPC_READ_VIEW},
        {"TEXT_LIMIT", LIPC_TEXT_LIMIT},   {"WRITER_DEPTH", LIPC_WRITER_DEPTH},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if (PyModule_AddIntConstant(module, numbers[i].name, numbers[i].value))
            return -1;
    PyObject *magic = PyBytes_FromString(LIPC_MESSAGE_MAGIC);
    PyObject *message = lipc_message_type();
    int missing = magic == NULL || PyModule_AddObjectRef(module, "MAGIC", magic) || message == NULL ||
                  PyModule_AddObjectRef(module, "Message", message) || lipc_block_types(module) || lipc_lent_type(module);
    Py_XDECREF(magic);
    Py_XDECREF(message);
    return missing ? -1 : PyModule_AddStringConstant(module, "WIRE_MODULE", LIPC_WIRE_MODULE);
}

/* cffi declares lensipc._core safe without the GIL, but nobody has shown that for the C core. On a free-threaded
 * Python, importing this module enables the GIL again. That is enough, because nothing of lensipc runs without this
 * module. */
static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)add_members},
#ifdef Py_MOD_GIL_USED /* not in the stable ABI of 3.11 */
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
