/* SPDX-License-Identifier: MIT
 *
 * The pickle opcodes that messages consist of: what a pickler of protocol 5 writes for plain data, and nothing else.
 * The names are from Python's pickletools.
 */
#ifndef LIPC_OPCODES_H
#define LIPC_OPCODES_H

enum opcode {
    PROTO = 0x80,
    FRAME = 0x95,
    STOP = '.',
    MARK = '(',
    POP = '0',
    POP_MARK = '1',
    MEMOIZE = 0x94,
    BINGET = 'h',
    LONG_BINGET = 'j',
    NONE = 'N',
    NEWTRUE = 0x88,
    NEWFALSE = 0x89,
    BININT1 = 'K',
    BININT2 = 'M',
    BININT = 'J',
    LONG1 = 0x8a,
    LONG4 = 0x8b,
    BINFLOAT = 'G',
    SHORT_BINUNICODE = 0x8c,
    BINUNICODE = 'X',
    BINUNICODE8 = 0x8d,
    SHORT_BINBYTES = 'C',
    BINBYTES = 'B',
    BINBYTES8 = 0x8e,
    BYTEARRAY8 = 0x96,
    EMPTY_LIST = ']',
    APPEND = 'a',
    APPENDS = 'e',
    EMPTY_DICT = '}',
    SETITEM = 's',
    SETITEMS = 'u',
    EMPTY_SET = 0x8f,
    ADDITEMS = 0x90,
    FROZENSET = 0x91,
    EMPTY_TUPLE = ')',
    TUPLE1 = 0x85,
    TUPLE2 = 0x86,
    TUPLE3 = 0x87,
    TUPLE = 't',
    STACK_GLOBAL = 0x93,
    REDUCE = 'R',
};

/* The byte after PROTO. */
#define LIPC_PICKLE_PROTOCOL 5

/* LIPC_WIRE_MODULE is the module of all constructors. LIPC_ARRAY_NAME is the constructor that makes arrays. */
#define LIPC_WIRE_MODULE "lensipc.values"
#define LIPC_ARRAY_NAME "as_array"

#endif
