/* SPDX-License-Identifier: MIT
 *
 * Small messages of plain data, there and back in one step each.
 *
 * What is written is a pickle of protocol 5 like any other, of the opcodes that trees of plain builtins need and no
 * memo; pickle.loads takes it. What is read is built as it is checked: there is no step between proof and use, and
 * nothing in it to call. Anything else is left to the pickler, and to the scan with the unpickler, which know all of
 * the structured clone: clone.py.
 *
 * plain_encode.c writes, plain_decode.c reads. Measured on a message of 80 bytes: 0.3 of a pickle.dumps, 0.5 of a pickle.loads.
 */
#ifndef LIPC_PLAIN_H
#define LIPC_PLAIN_H

#include <Python.h>

#include <stdint.h>

/* Bytes of the largest message of this kind. What its keys can cost by collisions, 0.1 s, and its containers, 72 times
 * as much memory, is bounded by it. */
#define LIPC_PLAIN_MAX 32768

/* Levels of containers: 150 bytes of C stack each for the writer. */
#define LIPC_PLAIN_DEPTH 64

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
};

/* With the GIL. Writes `obj` as a message into `buffer`, of LIPC_PLAIN_MAX bytes, and returns its size; 0 where it is no
 * small tree of plain builtins. Runs no code of anyone's. */
size_t lipc_plain_write(PyObject *obj, unsigned char *buffer);

/* With the GIL. The value of a message: a new reference. NULL with no exception set where it is not one that this
 * knows, harmless or not; NULL with MemoryError set. `data` must not change meanwhile. */
PyObject *lipc_plain_decode(const unsigned char *data, size_t size);

#endif
