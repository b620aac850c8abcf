/* SPDX-License-Identifier: MIT
 *
 * Structured clones in C: the writer of plain data, and the one reader of all messages.
 *
 * A message is a pickle of protocol 5. writer.c writes trees of plain builtins, and large arrays among them; CPython's own
 * pickler writes everything else (lensipc/clone/codec.py). reader.c reads them all, and builds each value as it checks it: no
 * unpickler ever sees a peer's bytes. Large buffers may travel beside the pickle (LIPC_HEAD).
 */
#ifndef LIPC_CLONE_H
#define LIPC_CLONE_H

#include <Python.h>

#include <stdint.h>

#include "lensipc.h"

/* Bytes of the largest pickle that lipc_write makes on the stack. */
#define LIPC_PICKLE_MAX 32768

/* Levels of containers that the writer follows, at 150 bytes of C stack each. Deeper values are left to the pickler. */
#define LIPC_WRITER_DEPTH 64

/* Levels of containers in any value. It bounds the stack of code that recurses into a value, as hash() does. */
#define LIPC_DEPTH 1000

/* Bytes from which on memory is not copied into a pickle: that of an array travels beside it, and that of a str, bytes or bytearray
 * is handed on by CPython's pickler as it is, from as many bytes on. Below, one more copy (5 us at most) is cheaper. */
#define LIPC_OUT_OF_BAND 65536

/* Arrays that lipc_write puts beside a pickle. */
#define LIPC_ARRAYS 8

/* Where the memory of each buffer begins: a cache line, and as much as any vector instruction asks for. */
#define LIPC_ALIGNMENT 64

/* How a message with memory beside its pickle begins, with which no pickle does, and how long its head is with so many buffers:
 * the magic, their number (4 bytes), the pickle's length (8), and each buffer's (8). The pickle and the buffers follow. */
#define LIPC_MESSAGE_MAGIC "LIB\x01"
#define LIPC_HEAD(buffers) (16 + 8 * (size_t)(buffers))

/* What a message's containers may take in bytes of memory, and for each of its bytes: {1: None} takes 40. What CPython 3.11 to
 * 3.14 take for each at most, with the garbage collector's part; a list's items have more room than they need. What the tables of
 * dicts and sets take says hash_cost.h. */
#define LIPC_MEMORY_BASE (UINT64_C(8) << 20)
#define LIPC_MEMORY_PER_BYTE 48
#define LIPC_LIST_BYTES 72
#define LIPC_DICT_BYTES 80
#define LIPC_SET_BYTES 232
#define LIPC_TUPLE_BYTES 64
#define LIPC_ITEMS_BYTES(count) (8 * (uint64_t)(count))
#define LIPC_LIST_ITEMS_BYTES(count) (9 * (uint64_t)(count) + 32)
#define LIPC_CALL_BYTES 256

/* Keys of a container whose hashes a peer can choose are counted from this many on: fewer cost nothing to speak of. Each takes so
 * much, in units of 10 ns; to compare two of them so much, and more for each value that hash() visits, since numpy may make an
 * array of a tuple for it. */
#define LIPC_FEW_KEYS 16
#define LIPC_KEY_COST 4
#define LIPC_COMPARISON 7
#define LIPC_COMPARISON_PER_VALUE 16

/* Whether a key is one whose hash no peer can choose, or one of a few constants: such keys are not counted. */
static inline int lipc_is_free_key(PyObject *key)
{
    const PyTypeObject *type = Py_TYPE(key);
    return type == &PyUnicode_Type || type == &PyBytes_Type || type == &PyBool_Type || key == Py_None;
}

/* Where a table of objects begins to look for one, by its address. */
static inline size_t lipc_address_hash(const void *address)
{
    return (size_t)((uint64_t)(uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* A float's bits in the order that a pickle has them in, and back. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BIG_ENDIAN_OF(bits) __builtin_bswap64(bits)
#else
#define BIG_ENDIAN_OF(bits) (bits)
#endif

/* A message as the pieces that are sent. */
struct lipc_written {
    struct lipc_part parts[2 + 2 * LIPC_ARRAYS];
    size_t count; /* of parts */
    size_t size;  /* of all of them */
    PyObject *arrays[LIPC_ARRAYS]; /* whose memory is among them: references of its own */
    size_t array_count;
    unsigned char *pickle; /* `inline_pickle`, or memory from malloc where that is too short */
    unsigned char head[LIPC_HEAD(LIPC_ARRAYS)];
    unsigned char inline_pickle[LIPC_PICKLE_MAX + LIPC_ALIGNMENT];
};

/* With the GIL. Writes `obj` as a message and returns its size, with parts that are good until lipc_written_release; 0 where it
 * is no tree of plain builtins and, if `with_arrays`, large arrays, where its pickle has more than `most` bytes, or where its reader
 * might refuse it. Runs no code of anyone's. Sets no exception. */
size_t lipc_write(PyObject *obj, int with_arrays, size_t most, struct lipc_written *message);

/* With the GIL, after lipc_write has returned a size. */
void lipc_written_release(struct lipc_written *message);

/* How a message is read. */
enum {
    LIPC_READ_OWNED = 1, /* nobody else has the memory: arrays of the result may live in it, if it is writable */
    LIPC_READ_PLAIN = 2, /* refuse everything but builtins and arrays of simple dtypes */
    LIPC_READ_ALL = 4,   /* plain data counts against the budget, too */
    LIPC_READ_TRIAL = 8, /* only find out whether the message would be refused: instances of registered types and the arrays
                            beside the pickle are not made, and the latter need not be there */
    LIPC_READ_QUIET = 16 /* read only what needs no call, and set no exception where the message is refused */
};

struct lipc_message {
    PyObject *owner; /* what the memory belongs to; NULL: there is nothing beside the pickle */
    const unsigned char *data;
    size_t size;
    uint64_t budget; /* what its keys and constructors may cost, in units of 10 ns */
    unsigned flags;
    uint64_t weight; /* out: bytes of memory that its value takes beside the message's own, at most */
};

/* With the GIL. The value of a message: a new reference. NULL with DecodeError set, or with what a constructor has raised that is
 * no Exception; with LIPC_READ_QUIET, NULL with MemoryError set or nothing. `data` must not change meanwhile, and the reader does
 * not believe any of it. Calls constructors (constructors.h), which may run Python code, unless it is quiet. */
PyObject *lipc_read(struct lipc_message *message);

/* With the GIL, once: the classes of lensipc.errors that lipc_read raises. Takes references of its own. */
void lipc_read_errors(PyObject *decode_error, PyObject *unknown_error);

#endif
