/* SPDX-License-Identifier: MIT
 *
 * Structured clones in C: the writer of plain data, and the one reader of all messages.
 *
 * A message is a pickle of protocol 5. writer.c writes trees of plain builtins, with large arrays in them. CPython's
 * own pickler writes everything else (lensipc/clone/codec.py). reader.c reads all messages, and builds each value while
 * it checks the value. No unpickler ever sees a peer's bytes. Large buffers may travel beside the pickle (LIPC_HEAD).
 */
#ifndef LIPC_CLONE_H
#define LIPC_CLONE_H

#include <Python.h>

#include <stdint.h>

#include "lensipc.h"

/* Bytes of the largest pickle that lipc_write makes on the stack. */
#define LIPC_PICKLE_MAX 32768

/* Levels of containers that the writer follows. Each takes 150 bytes of C stack. Deeper values are left to the
 * pickler. */
#define LIPC_WRITER_DEPTH 64

/* Levels of containers in any value. This bounds the stack of code that recurses into a value, such as hash(). */
#define LIPC_DEPTH 1000

/* From this many bytes on, memory is not copied into a pickle. The memory of an array travels beside the pickle.
 * CPython's pickler passes on a str, bytes or bytearray without a copy, from the same size on. For less memory one more
 * copy (5 us at most) is cheaper. */
#define LIPC_OUT_OF_BAND 65536

/* The most arrays that lipc_write puts beside a pickle. */
#define LIPC_ARRAYS 8

/* The alignment of each buffer's memory: a cache line, which is enough for any vector instruction. */
#define LIPC_ALIGNMENT 64

/* A message with memory beside its pickle begins with LIPC_MESSAGE_MAGIC. No pickle begins with this magic. LIPC_HEAD
 * is the length of the message's head: the magic, the number of buffers (4 bytes), the pickle's length (8), and each
 * buffer's length (8). The pickle and the buffers follow. */
#define LIPC_MESSAGE_MAGIC "LIB\x01"
#define LIPC_HEAD(buffers) (16 + 8 * (size_t)(buffers))

/* The bytes of memory that a message's containers may take: LIPC_MEMORY_BASE, and LIPC_MEMORY_PER_BYTE for each byte of
 * the pickle. {1: None} takes 40 for each byte. The other numbers are the most bytes that CPython 3.11 to 3.14 take,
 * including the garbage collector's part. A list has room for more items than it holds. hash_cost.h has the tables of
 * dicts and sets. */
#define LIPC_MEMORY_BASE (UINT64_C(8) << 20)
#define LIPC_MEMORY_PER_BYTE 48
#define LIPC_LIST_BYTES 72
#define LIPC_DICT_BYTES 80
#define LIPC_SET_BYTES 232
#define LIPC_TUPLE_BYTES 64
#define LIPC_ITEMS_BYTES(count) (8 * (uint64_t)(count))
#define LIPC_LIST_ITEMS_BYTES(count) (9 * (uint64_t)(count) + 32)
#define LIPC_CALL_BYTES 256

/* If a container has more than LIPC_FEW_KEYS keys, the keys whose hashes a peer can choose are counted. Fewer keys cost
 * next to nothing. In units of 10 ns, each key costs LIPC_KEY_COST. To compare two keys costs LIPC_COMPARISON, and
 * LIPC_COMPARISON_PER_VALUE more for each value that hash() visits, because numpy may make an array of a tuple to
 * compare it. */
#define LIPC_FEW_KEYS 16
#define LIPC_KEY_COST 4
#define LIPC_COMPARISON 7
#define LIPC_COMPARISON_PER_VALUE 16

/* Called by the reader and the writer. Does not block. Returns whether a key is not counted: no peer can choose its
 * hash, or it is one of a few constants. */
static inline int lipc_is_free_key(PyObject *key)
{
    const PyTypeObject *type = Py_TYPE(key);
    return type == &PyUnicode_Type || type == &PyBytes_Type || type == &PyBool_Type || key == Py_None;
}

/* Called by the writer and measure.c. Does not block. Returns where a table of objects begins to look for this
 * address. */
static inline size_t lipc_address_hash(const void *address)
{
    return (size_t)((uint64_t)(uintptr_t)address * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

/* Converts a float's bits to a pickle's byte order, and back. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BIG_ENDIAN_OF(bits) __builtin_bswap64(bits)
#else
#define BIG_ENDIAN_OF(bits) (bits)
#endif

/* A message as the pieces that are sent. */
struct lipc_written {
    struct lipc_part parts[2 + 2 * LIPC_ARRAYS];
    size_t count; /* number of parts */
    size_t size;  /* of all parts */
    PyObject *arrays[LIPC_ARRAYS]; /* the arrays whose memory is among the parts; the struct has references to them */
    size_t array_count;
    unsigned char *pickle; /* `inline_pickle`, or memory from malloc if that is too short */
    unsigned char head[LIPC_HEAD(LIPC_ARRAYS)];
    unsigned char inline_pickle[LIPC_PICKLE_MAX + LIPC_ALIGNMENT];
};

/* Called by module.c, with the GIL. Does not block. Writes `obj` as a message and returns the message's size. The parts
 * are valid until lipc_written_release. Returns 0 if `obj` is not a tree of plain builtins and, if `with_arrays`, large
 * arrays; if the pickle would have more than `most` bytes; if the reader might refuse the message; and always on a
 * free-threaded Python. Runs no user code. Sets no exception. */
size_t lipc_write(PyObject *obj, int with_arrays, size_t most, struct lipc_written *message);

/* Called by module.c, with the GIL, after lipc_write has returned a size. Does not block. Frees what the message
 * holds. */
void lipc_written_release(struct lipc_written *message);

/* How a message is read. */
enum {
    LIPC_READ_OWNED = 1, /* nobody else has the memory: arrays of the result may live in it, if it is writable */
    LIPC_READ_PLAIN = 2, /* refuse everything but builtins and arrays of simple dtypes */
    LIPC_READ_ALL = 4,   /* plain data counts against the budget, too */
    /* Only find out whether the message would be refused. Instances of registered types and the arrays beside the
     * pickle are not made, and these arrays need not be there. */
    LIPC_READ_TRIAL = 8,
    LIPC_READ_QUIET = 16, /* read only what needs no call, and set no exception if the message is refused */
    /* The memory stays as it is, and is read-only: arrays of the result live in it, and long bytes are memoryviews of it.
     * Other arrays are read-only, too. If bytes are in a key or an element of a set, or a registered type is met, all bytes
     * are bytes. */
    LIPC_READ_VIEW = 32
};

struct lipc_message {
    PyObject *owner; /* the object that owns the memory; NULL if there is nothing beside the pickle */
    const unsigned char *data;
    size_t size;
    uint64_t budget; /* what its keys and constructors may cost, in units of 10 ns */
    unsigned flags;
    uint64_t weight; /* out: the most bytes of memory that its value takes beside the message's own memory */
};

/* Called by module.c, with the GIL. Does not block, but a constructor may (constructors.h): unless LIPC_READ_QUIET is
 * set, this calls constructors, which may run Python code. Returns a new reference to the value of a message. Returns
 * NULL with DecodeError, UnknownValueError or MemoryError set, or with an exception of a constructor that is no
 * Exception. With LIPC_READ_QUIET, returns NULL with MemoryError set or without an exception. `data` must not change
 * during the call. The reader trusts none of it. */
PyObject *lipc_read(struct lipc_message *message);

/* Called once by module.c, with the GIL. Does not block. Says which classes of lensipc.errors lipc_read raises:
 * DecodeError, and UnknownValueError, which a constructor raises. Takes references of its own. */
void lipc_read_errors(PyObject *decode_error, PyObject *unknown_error);

#endif
