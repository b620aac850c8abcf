/* SPDX-License-Identifier: MIT
 *
 * Writes a tree of plain builtins as the opcodes of a pickle, without a memo. A message of 80 bytes takes 0.3 of the
 * time of pickle.dumps.
 */
#include "clone/clone.h"

#include "clone/hash_cost.h"
#include "clone/ndarray.h"
#include "clone/opcodes.h"

#include <stdlib.h>
#include <string.h>

/* The most objects with more than one reference that are listed without a table. Most messages have no more of them. */
#define FEW_SHARED 16

/* Strings from this many bytes on are written only once. If such a string occurs again, the value is left to the
 * pickler, which has a memo. */
#define LONG_STRING 256

struct writer {
    unsigned char *at;
    unsigned char *end;
    size_t most; /* the most bytes of the pickle */
    struct lipc_written *message;
    int with_arrays;
    uint64_t memory; /* bytes that the reader's containers will take */
    uint64_t budget; /* what keys may still cost the reader */
    size_t shared_count;         /* number of written objects that may occur again */
    const PyObject **table;      /* has these objects, in mask + 1 slots; NULL if `few` has them */
    size_t mask;
    const PyObject *few[FEW_SHARED];
};

/* Makes room for `size` bytes, and for STOP after them. Returns 0 if there is no memory, or if the pickle would exceed
 * `most` bytes. */
static int make_room(struct writer *w, size_t size)
{
    unsigned char *pickle = w->message->pickle;
    size_t used = (size_t)(w->at - pickle);
    if (used + size >= w->most)
        return 0;
    size_t room = 2 * (used + size);
    int is_inline = pickle == w->message->inline_pickle;
    unsigned char *larger = realloc(is_inline ? NULL : pickle, room + LIPC_ALIGNMENT);
    if (larger == NULL)
        return 0;
    if (is_inline)
        memcpy(larger, pickle, used);
    w->message->pickle = larger;
    w->at = larger + used;
    w->end = larger + room;
    return 1;
}

static inline int has_room(struct writer *w, size_t size)
{
    return (size_t)(w->end - w->at) > size || make_room(w, size);
}

static void put(unsigned char *to, uint64_t value, int size)
{
    for (int i = 0; i < size; i++)
        to[i] = (unsigned char)(value >> 8 * i);
}

static int write_number(struct writer *w, long long value)
{
    if (!has_room(w, 10))
        return 0;
    int size;
    if (value >= 0 && value < 1 << 16) {
        *w->at++ = value < 1 << 8 ? BININT1 : BININT2;
        size = value < 1 << 8 ? 1 : 2;
    } else if (value >= INT32_MIN && value <= INT32_MAX) {
        *w->at++ = BININT;
        size = 4;
    } else {
        *w->at++ = LONG1;
        *w->at++ = 8;
        size = 8;
    }
    put(w->at, (uint64_t)value, size);
    w->at += size;
    return 1;
}

static int write_int(struct writer *w, PyObject *obj)
{
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(obj, &overflow);
    return !overflow && write_number(w, value);
}

static int write_float(struct writer *w, PyObject *obj)
{
    double value = PyFloat_AsDouble(obj);
    uint64_t bits;
    if (!has_room(w, 9))
        return 0;
    memcpy(&bits, &value, sizeof bits);
    bits = BIG_ENDIAN_OF(bits);
    *w->at++ = BINFLOAT;
    memcpy(w->at, &bits, sizeof bits);
    w->at += sizeof bits;
    return 1;
}

static int write_opcode(struct writer *w, enum opcode opcode)
{
    if (!has_room(w, 1))
        return 0;
    *w->at++ = (unsigned char)opcode;
    return 1;
}

static const PyObject **slot_of(const PyObject **table, size_t mask, const PyObject *obj)
{
    size_t at = lipc_address_hash(obj) & mask;
    while (table[at] != NULL && table[at] != obj)
        at = (at + 1) & mask;
    return &table[at];
}

/* Makes the table, or makes it larger. Returns 0 if there is no memory. */
static int enlarge_table(struct writer *w)
{
    size_t mask = w->table == NULL ? 8 * FEW_SHARED - 1 : 4 * w->mask + 3;
    const PyObject **larger = calloc(mask + 1, sizeof *larger), **known = w->table == NULL ? w->few : w->table;
    if (larger == NULL)
        return 0;
    for (size_t i = 0; i < (w->table == NULL ? w->shared_count : w->mask + 1); i++)
        if (known[i] != NULL)
            *slot_of(larger, mask, known[i]) = known[i];
    free(w->table);
    w->table = larger;
    w->mask = mask;
    return 1;
}

/* Whether an object with more than one reference is written for the first time. Returns 0, too, if there is no
 * memory. */
static int is_first(struct writer *w, const PyObject *obj)
{
    if (w->table == NULL) {
        for (size_t i = 0; i < w->shared_count; i++)
            if (w->few[i] == obj)
                return 0;
        if (w->shared_count < FEW_SHARED) {
            w->few[w->shared_count++] = obj;
            return 1;
        }
    }
    if ((w->table == NULL || w->shared_count > w->mask / 2) && !enlarge_table(w))
        return 0;
    const PyObject **slot = slot_of(w->table, w->mask, obj);
    if (*slot != NULL)
        return 0;
    *slot = obj;
    w->shared_count++;
    return 1;
}

/* Whether an object is written for the first time. An object with one reference cannot occur twice. */
static inline int is_new(struct writer *w, PyObject *obj)
{
    return Py_REFCNT(obj) == 1 || is_first(w, obj);
}

/* Writes the bytes of a long str or bytes. */
static int write_long_bytes(struct writer *w, PyObject *obj, enum opcode opcode, const char *data, Py_ssize_t size)
{
    /* The pickler passes large data on without a copy. */
    if (size >= LIPC_OUT_OF_BAND || !is_new(w, obj) || !has_room(w, (size_t)size + 5))
        return 0;
    *w->at++ = (unsigned char)opcode;
    put(w->at, (uint64_t)size, 4);
    memcpy(w->at + 4, data, (size_t)size);
    w->at += 4 + size;
    return 1;
}

/* Writes the bytes of a str or bytes. `opcode` is the opcode for up to 255 bytes, and `longer` is the opcode for
 * more. */
static inline int write_bytes(struct writer *w, PyObject *obj, enum opcode opcode, enum opcode longer, const char *data,
                              Py_ssize_t size)
{
    if (size >= LONG_STRING)
        return write_long_bytes(w, obj, longer, data, size);
    if (!has_room(w, (size_t)size + 2))
        return 0;
    w->at[0] = (unsigned char)opcode;
    w->at[1] = (unsigned char)size;
    memcpy(w->at + 2, data, (size_t)size);
    w->at += 2 + size;
    return 1;
}

static int write_text(struct writer *w, const char *text)
{
    return write_bytes(w, NULL, SHORT_BINUNICODE, BINUNICODE, text, (Py_ssize_t)strlen(text));
}

/* Whether a key costs a dict's reader no more than allowed. Only keys whose hashes a peer can choose cost anything. The
 * key takes `size` bytes in the pickle. */
static int take_key(struct writer *w, struct lipc_hashes *hashes, PyObject *key, size_t size)
{
    if (lipc_is_free_key(key))
        return 1;
    uint64_t cost = LIPC_KEY_COST + 2 * (uint64_t)size; /* hash() visits no more values than there are bytes */
    Py_hash_t hash = PyObject_Hash(key);                /* the key is written, so it has only builtins */
    if (hash == -1 || w->budget < cost)
        return 0;
    w->budget -= cost;
    uint32_t comparing = size < 1 << 20 ? LIPC_COMPARISON + LIPC_COMPARISON_PER_VALUE * (uint32_t)size : UINT32_MAX;
    return lipc_hashes_add(hashes, hash, comparing, 0, &w->budget) == 0;
}

static int write_value(struct writer *w, PyObject *obj, int depth);

static int write_dict(struct writer *w, PyObject *obj, int depth)
{
    PyObject *key, *value;
    Py_ssize_t position = 0, count = PyDict_Size(obj);
    struct lipc_hashes hashes = {.slots = NULL};
    w->memory += LIPC_DICT_BYTES + lipc_dict_bytes((size_t)count);
    if (!is_new(w, obj) || !write_opcode(w, EMPTY_DICT))
        return 0;
    if (count == 0)
        return 1;
    if (!write_opcode(w, MARK))
        return 0;
    int written = 1;
    while (written && PyDict_Next(obj, &position, &key, &value)) {
        size_t before = (size_t)(w->at - w->message->pickle);
        written = write_value(w, key, depth + 1) &&
                  (count <= LIPC_FEW_KEYS ||
                   take_key(w, &hashes, key, (size_t)(w->at - w->message->pickle) - before)) &&
                  write_value(w, value, depth + 1);
    }
    lipc_hashes_free(&hashes);
    return written && write_opcode(w, SETITEMS);
}

static int write_array(struct writer *w, PyObject *obj)
{
    struct lipc_written *message = w->message;
    struct lipc_array array;
    if (!w->with_arrays || message->array_count == LIPC_ARRAYS || !lipc_array_of(obj, &array))
        return 0;
    for (size_t i = 0; i < message->array_count; i++)
        if (message->parts[2 + 2 * i].data == array.data) /* left to the pickler: both may share memory */
            return 0;
    if (!write_text(w, LIPC_WIRE_MODULE) || !write_text(w, LIPC_ARRAY_NAME) || !write_opcode(w, STACK_GLOBAL) ||
        !write_opcode(w, MARK))
        return 0;
    if (!write_text(w, array.dtype) || !write_text(w, "C") || !write_number(w, (long long)message->array_count))
        return 0;
    for (int i = 0; i < array.dimensions; i++)
        if (!write_number(w, array.shape[i]))
            return 0;
    message->parts[2 + 2 * message->array_count] = (struct lipc_part){array.data, array.size};
    message->arrays[message->array_count++] = obj;
    Py_INCREF(obj);
    return write_opcode(w, TUPLE) && write_opcode(w, REDUCE);
}

/* Writes a value. Returns 1, or 0 if the value is left to the pickler. Types are compared exactly, so no code of a
 * subclass runs. */
static int write_value(struct writer *w, PyObject *obj, int depth)
{
    const PyTypeObject *type = Py_TYPE(obj);
    if (type == &PyUnicode_Type) {
        Py_ssize_t size;
        const char *data = PyUnicode_AsUTF8AndSize(obj, &size); /* NULL: a surrogate; lipc_write clears it */
        return data != NULL && write_bytes(w, obj, SHORT_BINUNICODE, BINUNICODE, data, size);
    }
    if (type == &PyLong_Type)
        return write_int(w, obj);
    if (type == &PyFloat_Type)
        return write_float(w, obj);
    if (obj == Py_None)
        return write_opcode(w, NONE);
    if (type == &PyBool_Type)
        return write_opcode(w, obj == Py_True ? NEWTRUE : NEWFALSE);
    if (type == &PyBytes_Type)
        return write_bytes(w, obj, SHORT_BINBYTES, BINBYTES, PyBytes_AsString(obj), PyBytes_Size(obj));
    if (depth == LIPC_WRITER_DEPTH)
        return 0;
    if (type == &PyDict_Type)
        return write_dict(w, obj, depth);
    if (type == &PyList_Type) {
        Py_ssize_t count = PyList_Size(obj);
        w->memory += LIPC_LIST_BYTES + LIPC_LIST_ITEMS_BYTES(count);
        if (!is_new(w, obj) || !write_opcode(w, EMPTY_LIST))
            return 0;
        if (count == 0)
            return 1;
        if (!write_opcode(w, MARK))
            return 0;
        for (Py_ssize_t i = 0; i < count; i++)
            if (!write_value(w, PyList_GetItem(obj, i), depth + 1))
                return 0;
        return write_opcode(w, APPENDS);
    }
    if (type == &PyTuple_Type) {
        Py_ssize_t count = PyTuple_Size(obj);
        w->memory += LIPC_TUPLE_BYTES + LIPC_ITEMS_BYTES(count);
        if (count == 0)
            return write_opcode(w, EMPTY_TUPLE);
        if (!is_new(w, obj) || (count > 3 && !write_opcode(w, MARK)))
            return 0;
        for (Py_ssize_t i = 0; i < count; i++)
            if (!write_value(w, PyTuple_GetItem(obj, i), depth + 1))
                return 0;
        return write_opcode(w, count > 3 ? TUPLE : TUPLE1 + (enum opcode)(count - 1));
    }
    return write_array(w, obj);
}

/* Adds the head in front of the pickle, and the padding in front of each array. */
static void add_head(struct lipc_written *message, size_t pickle_size)
{
    static const char zeros[LIPC_ALIGNMENT];
    size_t arrays = message->array_count;
    memcpy(message->head, LIPC_MESSAGE_MAGIC, 4);
    put(message->head + 4, arrays, 4);
    put(message->head + 8, pickle_size, 8);
    message->parts[0] = (struct lipc_part){(const char *)message->head, LIPC_HEAD(arrays)};
    message->parts[1] = (struct lipc_part){(const char *)message->pickle, pickle_size};
    size_t end = LIPC_HEAD(arrays) + pickle_size;
    for (size_t i = 0; i < arrays; i++) {
        struct lipc_part *array = &message->parts[2 + 2 * i];
        size_t padding = -end % LIPC_ALIGNMENT;
        put(message->head + LIPC_HEAD(i), array->size, 8);
        if (i == 0) { /* one piece fewer */
            memset(message->pickle + pickle_size, 0, padding);
            message->parts[1].size += padding;
        } else {
            array[-1] = (struct lipc_part){zeros, padding};
        }
        end += padding + array->size;
    }
    message->count = 1 + 2 * arrays;
    message->size = end;
}

size_t lipc_write(PyObject *obj, int with_arrays, size_t most, struct lipc_written *message)
{
    message->size = message->array_count = 0;
    message->pickle = message->inline_pickle;
#ifdef Py_GIL_DISABLED
    (void)obj; /* another thread may change a dict during the write */
    (void)with_arrays;
    (void)most;
#else
    struct writer w; /* not cleared: clearing takes longer than writing a small message */
    w.at = message->pickle;
    w.end = message->pickle + (most < LIPC_PICKLE_MAX ? most : LIPC_PICKLE_MAX);
    w.most = most;
    w.message = message;
    w.with_arrays = with_arrays;
    w.memory = 0;
    w.budget = LIPC_BUDGET;
    w.table = NULL;
    w.shared_count = 0;
    *w.at++ = PROTO;
    *w.at++ = LIPC_PICKLE_PROTOCOL;
    int written = write_value(&w, obj, 0);
    free(w.table);
    if (!written || w.memory > LIPC_MEMORY_BASE + LIPC_MEMORY_PER_BYTE * (uint64_t)(w.at - message->pickle)) {
        PyErr_Clear();
        lipc_written_release(message);
        return 0;
    }
    *w.at++ = STOP;
    size_t size = (size_t)(w.at - message->pickle);
    message->parts[0] = (struct lipc_part){(const char *)message->pickle, size};
    message->count = 1;
    message->size = size;
    if (message->array_count)
        add_head(message, size);
#endif
    return message->size;
}

void lipc_written_release(struct lipc_written *message)
{
    while (message->array_count)
        Py_DECREF(message->arrays[--message->array_count]);
    if (message->pickle != message->inline_pickle)
        free(message->pickle);
}
