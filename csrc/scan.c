/* SPDX-License-Identifier: MIT
 *
 * Proves a pickle harmless before any unpickler sees it: one pass, no recursion, no byte of it believed.
 *
 * This is an abstract interpreter. It runs the opcodes as an unpickler would, over a stack and a memo of cells that
 * tell only the kind of each value and what it would cost to hash it. It refuses
 *
 *   - every opcode that a protocol 5 pickler of plain data does not write: GLOBAL, INST, OBJ, NEWOBJ, BUILD, EXT, PUT,
 *     DUP, persistent ids, the text opcodes, buffers;
 *   - names, but those of our own constructors in lensipc.values, and these anywhere but as the callee of a REDUCE
 *     whose arguments were made for it;
 *   - lengths beyond the message, frames that opcodes straddle, a memo or stack that is not there;
 *   - items put into anything but the dict, list or set that they belong in, and unhashable keys;
 *   - keys whose hashing, probing or comparing takes more work, and containers that take more memory, than the size of
 *     the message warrants.
 *
 * What it holds itself is at most 16 bytes for each byte of the message, and 12 for each slot of the tables in keys.c.
 */
#include "lensipc.h"
#include "scan.h"

#include <errno.h>

/* What nearly every value is followed by, so that `made` below reads it at once. */
#define MEMOIZE 0x94

/* Runs the opcodes. *at is left at the one that was refused.
 *
 * The stack's top is in a local, and in s->top only while a function of effects.c runs; with every opcode in a function
 * of its own this took twice as long. Interleaved with an unpickler, whose dispatch spoils the branch predictor, an
 * opcode takes about 5 ns. */
static int run(struct lipc_scan *s, const struct lipc_part *part, size_t parts, size_t *at)
{
    const unsigned char *p = (const unsigned char *)part->data;
    const unsigned char *limit = p + part->size;
    const unsigned char *end = limit;   /* of the frame, or of this part of the message */
    const unsigned char *start = p;     /* of this part */
    const unsigned char *opcode = p;
    size_t before = 0; /* bytes of the parts before this one */
    const unsigned char *fresh = NULL;  /* where MEMOIZE may stand: behind what made a value */
    const unsigned char *called = NULL; /* where REDUCE may stand: behind what made a tuple */
    struct cell *top = s->cells;
    struct cell *floor = s->cells; /* the topmost mark, or the bottom: what an opcode may take */
    struct cell *room = s->cells + s->cell_room;
    int framed = 0;
    uint64_t length;
    size_t base;

#define REFUSE(why)        \
    do {                   \
        s->reason = (why); \
        goto refused;      \
    } while (0)
#define NEED(count)                       \
    if ((size_t)(end - p) < (size_t)(count)) \
    REFUSE("the end inside an opcode")
#define TAKE(count)                              \
    if ((size_t)(top - floor) < (size_t)(count)) \
    REFUSE("a stack too short")
#define PUSH(the_kind, the_value, the_size) (*top++ = (struct cell){(the_value), (the_size), (the_kind)})
#define EFFECT(call)                      \
    do {                                  \
        s->top = (size_t)(top - s->cells); \
        if (call)                         \
            goto refused;                 \
        top = s->cells + s->top;          \
    } while (0)
    /* Takes the topmost mark away; `base` is where it was. */
#define UNMARK()                                                      \
    do {                                                              \
        if (s->marked == 0)                                           \
            REFUSE("a mark that is not there");                       \
        base = s->marks[--s->marked];                                 \
        floor = s->cells + (s->marked ? s->marks[s->marked - 1] : 0); \
    } while (0)
    /* The same, of opcodes that put what is above the mark into the cell below it. */
#define UNMARK_CONTAINER()                  \
    do {                                    \
        UNMARK();                           \
        if (s->cells + base == floor)       \
            REFUSE("a stack too short");    \
    } while (0)

    if (part->size < 2 || p[0] != 0x80 || p[1] != 5)
        REFUSE("no pickle of protocol 5");
    p += 2;
    for (;;) {
        opcode = p;
        if (p == end) {
            framed = 0;
            if (end != limit) {
                end = limit;
            } else {
                if (--parts == 0)
                    REFUSE("the end before STOP");
                before += part++->size;
                opcode = start = p = (const unsigned char *)part->data;
                end = limit = p + part->size;
                continue;
            }
        }
        if (top == room) {
            size_t height = s->cell_room;
            size_t bottom = (size_t)(floor - s->cells);
            if (lipc_enlarge((void **)&s->cells, &s->cell_room, sizeof *s->cells, s->inline_cells))
                REFUSE("no memory to check it");
            top = s->cells + height;
            floor = s->cells + bottom;
            room = s->cells + s->cell_room;
        }
        switch (*p++) {
        case 0x8c: /* SHORT_BINUNICODE */
            NEED(1);
            length = *p++;
            NEED(length);
            if (length <= SHORT_STRING)
                PUSH(STR, (uint64_t)(uintptr_t)p, (uint32_t)length);
            else
                EFFECT(lipc_make_string(s, STR, p, length));
            p += length;
            goto made;
        case 'h': /* BINGET */
            NEED(1);
            length = *p++;
            goto recalled;
        case 'j': /* LONG_BINGET */
            NEED(4);
            length = lipc_little_endian(p, 4);
            p += 4;
        recalled:
            if (length >= s->memoized)
                REFUSE("a memo that is not there");
            *top = s->memo[length];
            s->pending += top++->kind == CALLABLE;
            continue;
        case 'K': /* BININT1 */
            NEED(1);
            PUSH(INT, *p, 0);
            p += 1;
            continue;
        case 'M': /* BININT2 */
            NEED(2);
            PUSH(INT, lipc_little_endian(p, 2), 0);
            p += 2;
            continue;
        case 'J': /* BININT */
            NEED(4);
            PUSH(INT, (uint64_t)(int32_t)(uint32_t)lipc_little_endian(p, 4), 0);
            p += 4;
            continue;
        case 'G': /* BINFLOAT, big endian */
            NEED(8);
            length = 0;
            for (int i = 0; i < 8; i++)
                length = length << 8 | *p++;
            PUSH(FLOAT, length, (uint32_t)(uintptr_t)p);
            continue;
        case 'N':
            PUSH(NONE, 0, 0);
            continue;
        case 0x88: /* NEWTRUE */
        case 0x89: /* NEWFALSE */
            PUSH(INT, *opcode == 0x88, 0);
            continue;
        case '(':
            if (s->marked == s->mark_room &&
                lipc_enlarge((void **)&s->marks, &s->mark_room, sizeof *s->marks, s->inline_marks))
                REFUSE("no memory to check it");
            s->marks[s->marked++] = (size_t)(top - s->cells);
            floor = top;
            continue;
        case ']':
            EFFECT(lipc_make_container(s, LIST));
            goto made;
        case '}':
            EFFECT(lipc_make_container(s, DICT));
            goto made;
        case 0x8f: /* EMPTY_SET */
            EFFECT(lipc_make_container(s, SET));
            goto made;
        case 'a': /* APPEND */
            TAKE(2);
            if (top[-2].kind != LIST)
                REFUSE("items for what is no list");
            top--;
            continue;
        case 'e': /* APPENDS */
            UNMARK_CONTAINER();
            if (s->cells[base - 1].kind != LIST)
                REFUSE("items for what is no list");
            top = s->cells + base;
            continue;
        case 's': /* SETITEM */
            TAKE(3);
            EFFECT(lipc_set_items(s, (size_t)(top - s->cells) - 2));
            continue;
        case 'u': /* SETITEMS */
            UNMARK_CONTAINER();
            EFFECT(lipc_set_items(s, base));
            continue;
        case 0x90: /* ADDITEMS */
            UNMARK_CONTAINER();
            EFFECT(lipc_add_items(s, base));
            continue;
        case 'X': /* BINUNICODE */
        case 'B': /* BINBYTES */
        case 'C': /* SHORT_BINBYTES */
            base = *opcode == 'C' ? 1 : 4;
            goto string;
        case 0x8d: /* BINUNICODE8 */
        case 0x8e: /* BINBYTES8 */
            base = 8;
        string:
            NEED(base);
            length = lipc_little_endian(p, base);
            p += base;
            if (p == limit && parts > 1 && part[1].size == length)
                goto apart;
            NEED(length);
            EFFECT(lipc_make_string(s, *opcode == 'X' || *opcode == 0x8d ? STR : BYTES, p, length));
            p += length;
            goto made;
        case 0x96: /* BYTEARRAY8 */
            NEED(8);
            length = lipc_little_endian(p, 8);
            p += 8;
            if (p == limit && parts > 1 && part[1].size == length)
                goto apart;
            NEED(length);
            PUSH(MUTABLE, 0, 0);
            p += length;
            goto made;
        apart: /* the bytes are the next part, and the pickle goes on in the one behind it */
            if (parts < 3)
                REFUSE("the end before STOP");
            if (*opcode == 0x96)
                PUSH(MUTABLE, 0, 0);
            else
                EFFECT(lipc_make_string(s, *opcode == 'X' || *opcode == 0x8d ? STR : BYTES,
                                        (const unsigned char *)part[1].data, length));
            before += part[0].size + part[1].size;
            part += 2;
            parts -= 2;
            start = p = (const unsigned char *)part->data;
            end = limit = p + part->size;
            framed = 0;
            goto made;
        case 0x8a: /* LONG1 */
        case 0x8b: /* LONG4 */
            base = *opcode == 0x8a ? 1 : 4;
            NEED(base);
            length = lipc_little_endian(p, base);
            p += base;
            NEED(length);
            EFFECT(lipc_make_long(s, p, (size_t)length));
            p += length;
            continue;
        case ')': /* EMPTY_TUPLE: has no memo */
            EFFECT(lipc_make_tuple(s, 0));
            called = p;
            continue;
        case 0x85: /* TUPLE1 */
        case 0x86:
        case 0x87: /* TUPLE3 */
            TAKE(*opcode - 0x84);
            EFFECT(lipc_make_tuple(s, *opcode - 0x84U));
            called = p + (p != end && *p == MEMOIZE);
            goto made;
        case 't': /* TUPLE */
            UNMARK();
            EFFECT(lipc_make_tuple(s, (size_t)(top - s->cells) - base));
            called = p + (p != end && *p == MEMOIZE);
            goto made;
        case 0x91: /* FROZENSET */
            UNMARK();
            EFFECT(lipc_make_frozenset(s, base));
            goto made;
        case '0': /* POP: how a tuple that holds itself ends */
            TAKE(1);
            if (top[-1].kind == CALLABLE)
                REFUSE("a constructor that nothing calls");
            top--;
            continue;
        case '1': /* POP_MARK */
            UNMARK();
            top = s->cells + base;
            continue;
        case 0x93: /* STACK_GLOBAL */
            TAKE(2);
            EFFECT(lipc_name_constructor(s));
            goto made;
        case 'R': /* REDUCE */
            TAKE(2);
            if (called != opcode)
                REFUSE("a call without arguments of its own");
            EFFECT(lipc_call_constructor(s, (uint64_t)(uintptr_t)opcode));
            goto made;
        case MEMOIZE: /* not right behind what made the value: a frame began in between */
            if (fresh != opcode)
                REFUSE("a memo of what was not just made");
            if (called == opcode)
                called = p;
            p--;
            goto made;
        case 0x95: /* FRAME */
            if (framed)
                REFUSE("a frame in a frame");
            NEED(8);
            length = lipc_little_endian(p, 8);
            p += 8;
            if (length > (size_t)(limit - p))
                REFUSE("a frame beyond the end");
            end = p + length;
            framed = 1;
            fresh = fresh == opcode ? p : NULL; /* a frame may begin behind any opcode */
            called = called == opcode ? p : NULL;
            continue;
        case '.':
            if (p != limit || parts != 1)
                REFUSE("bytes behind the end");
            if (top - s->cells != 1 || s->marked || s->pending)
                REFUSE("not one value");
            return s->named;
        default:
            REFUSE("an opcode that plain data does not need");
        }
    made:
        if (p == end || *p != MEMOIZE) {
            fresh = p;
            continue;
        }
        if (s->memoized == s->memo_room &&
            lipc_enlarge((void **)&s->memo, &s->memo_room, sizeof *s->memo, s->inline_memo))
            REFUSE("no memory to check it");
        s->memo[s->memoized++] = top[-1];
        p++;
    }
refused:
    *at = before + (size_t)(opcode - start);
    return -EBADMSG;
}

int lipc_scan(const char *data, size_t size, struct lipc_scan_report *report)
{
    struct lipc_part part = {data, size};
    return lipc_scan_parts(&part, 1, report);
}

int lipc_scan_parts(const struct lipc_part *parts, size_t count, struct lipc_scan_report *report)
{
    struct lipc_scan s;
    size_t offset = 0;
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += parts[i].size;
    lipc_scan_begin(&s, size);
    int found = count ? run(&s, parts, count, &offset) : lipc_refuse(&s, "no pickle of protocol 5");
    lipc_scan_end(&s);
    if (report != NULL)
        *report = (struct lipc_scan_report){offset, s.reason};
    return found;
}
