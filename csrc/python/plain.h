/* SPDX-License-Identifier: MIT
 *
 * Small messages of plain data, there and back in one step each.
 *
 * What is written is a pickle of protocol 5 like any other, of the opcodes that trees of plain builtins need and no
 * memo; pickle.loads takes it. What is read is built as it is checked: there is no step between proof and use, and
 * nothing in it to call. Anything else is left to the pickler, and to the scan with the unpickler, which know all of
 * the structured clone: clone.py.
 *
 * A few large arrays may be among it: see arrays.h. Their memory travels beside the pickle, in the form that clone.py
 * describes. One of 64 KiB takes 3.7 us on its way where the pickler, the unpickler and what goes with them make it 10.
 *
 * plain_encode.c writes, plain_decode.c reads. Measured on a message of 80 bytes: 0.3 of a pickle.dumps, 0.5 of a pickle.loads.
 */
#ifndef LIPC_PLAIN_H
#define LIPC_PLAIN_H

#include <Python.h>

#include <stdint.h>

#include "../lensipc.h"

/* Bytes of the largest message of this kind. What its keys can cost by collisions, 0.1 s, and its containers, 72 times
 * as much memory, is bounded by it. */
#define LIPC_PLAIN_MAX 32768

/* Levels of containers: 150 bytes of C stack each for the writer. */
#define LIPC_PLAIN_DEPTH 64

/* Arrays of one message, and where the memory of each begins: ALIGNMENT of clone.py. */
#define LIPC_PLAIN_ARRAYS 8
#define LIPC_PLAIN_ALIGNMENT 64

/* How a message with memory beside its pickle begins: as in clone.py, and as long as it is with so many arrays. */
#define LIPC_PLAIN_MAGIC "LIB\x01"
#define LIPC_PLAIN_HEAD(arrays) (16 + 8 * (size_t)(arrays))

/* A float's bits in the order that a pickle has them in, and back. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define BIG_ENDIAN_OF(bits) __builtin_bswap64(bits)
#else
#define BIG_ENDIAN_OF(bits) (bits)
#endif

enum opcode {
    PROTO = 0x80,
    STOP = '.',
    NONE = 'N',
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    BININT1 = 'K',
    BININT2 = 'M',
    BININT = 'J',
    LONG1 = 0x8a,
    BINFLOAT = 'G',
    SHORT_BINUNICODE = 0x8c,
    SHORT_BINBYTES = 'C',
    MARK = '(',
    EMPTY_LIST = ']',
    APPENDS = 'e',
    EMPTY_DICT = '}',
    SETITEMS = 'u',
    EMPTY_TUPLE = ')',
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    TUPLE = 't',
    STACK_GLOBAL = 0x93,
    REDUCE = 'R',
};

/* A message as the pieces that are sent. */
struct lipc_plain {
    struct lipc_part parts[2 + 2 * LIPC_PLAIN_ARRAYS];
    size_t count; /* of parts */
    size_t size;  /* of all of them */
    PyObject *arrays[LIPC_PLAIN_ARRAYS]; /* whose memory is among them: references of its own */
    size_t array_count;
    unsigned char head[LIPC_PLAIN_HEAD(LIPC_PLAIN_ARRAYS)];
    unsigned char pickle[LIPC_PLAIN_MAX + LIPC_PLAIN_ALIGNMENT];
};

/* With the GIL. Writes `obj` as a message and returns its size, with parts that are good until lipc_plain_release; 0 where
 * it is no small tree of plain builtins and, if `with_arrays`, large arrays. Runs no code of anyone's. */
size_t lipc_plain_write(PyObject *obj, int with_arrays, struct lipc_plain *message);

/* With the GIL, after a message was written. */
void lipc_plain_release(struct lipc_plain *message);

/* With the GIL. The value of a message: a new reference. NULL with no exception set where it is not one that this
 * knows, harmless or not; NULL with MemoryError set. `data` must not change meanwhile. */
PyObject *lipc_plain_decode(const unsigned char *data, size_t size);

/* The same of a message with arrays, which live in `body`: writable memory of `total` bytes that nobody else uses. `head`
 * is a copy of how it begins, with the pickle in it if this is to know it. */
PyObject *lipc_plain_decode_arrays(const unsigned char *head, size_t size, uint64_t total, PyObject *body);

#endif
