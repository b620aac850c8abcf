/* SPDX-License-Identifier: MIT
 *
 * The one reader of messages. It is a machine with a stack and a memo, as an unpickler is, and builds each value while
 * it checks the value.
 *
 * It knows the opcodes that a pickler of protocol 5 writes for plain data (opcodes.h), and refuses all others. It calls
 * the constructors of a table (constructors.h), with arguments that it has checked against the table, and nothing else.
 * It refuses
 *
 *   - lengths beyond the message, missing marks and memos, and items for anything but a fresh dict, list or set;
 *   - keys that are not hashable, occur twice, or take more hashing and probing than the budget (hash_cost.h);
 *   - calls that cost more than the budget;
 *   - containers that take more memory than the message's size warrants;
 *   - values of more than LIPC_DEPTH levels, or that a few bytes make huge by sharing (measure.h).
 *
 * `stack` has a reference to each value. A note has the other facts about a container, a call's result or a long int.
 * `notes` is in the order of the values' positions on the stack. A str, a float or a small int has no note. So most
 * values cost no more than the time to make them.
 */
#include "clone/clone.h"

#include "clone/constructors.h"
#include "clone/measure.h"
#include "clone/hash_cost.h"
#include "clone/ndarray.h"
#include "clone/opcodes.h"

#include <errno.h>
#include <string.h>

/* While a message of at least this many bytes is read, Python's garbage collector is off, because all new objects are
 * in use. */
#define GC_OFF_BYTES 4096

/* Entries of each array that need no memory from the heap. */
#define INLINE_STACK 128
#define INLINE_MARKS 32
#define INLINE_NOTES 48
#define INLINE_MEMO 32
#define INLINE_BUFFERS 8

/* The most values of a message: WRITTEN_BASE, and WRITTEN_PER_BYTE for each byte of the pickle. A shared value counts
 * at each place. The most that hash() of a tuple or frozenset may take, in units of 10 ns: WRITTEN_BASE and
 * HASHING_PER_BYTE. */
#define WRITTEN_BASE (UINT64_C(1) << 20)
#define WRITTEN_PER_BYTE 16
#define HASHING_PER_BYTE 32
#define BUFFER_BYTES_A_VALUE 16 /* this many bytes of the message allow one more value */

/* What keys and constructors may cost in addition to the budget, for each byte of the message. So honest keys pass,
 * whatever their number: a key of 2 bytes takes 60 ns. */
#define WORK_PER_BYTE 2

/* The most levels of nested exceptions, and the most bytes of all their texts when written out: a traceback prints all.
 * Each exception counts ERROR_BYTES more. */
#define ERROR_DEPTH 100
#define ERROR_TEXT (UINT32_C(1) << 20)
#define ERROR_BYTES 64

/* The cost of each lone surrogate in a string, because each takes a call in Python. */
#define SURROGATE_COST 100

/* The cost of plain data, in units of 10 ns: VALUE_COST units for a value, and one unit for BYTES_A_UNIT bytes of
 * memory. */
#define VALUE_COST 3
#define BYTES_A_UNIT 8

/* The most bytes that a str of one character, an int or a float takes, and the most for each byte of the pickle. A few
 * values are not counted. */
#define ATOM_BYTES 88
#define ATOM_BYTES_PER_BYTE 22
#define FEW_VALUES 64

/* Bytes by which an array may grow for one unit of the plain budget. */
#define ROOM_A_UNIT 32

/* What hash() takes for each value of which an object of a user's class was made. */
#define HASHED_VALUE 4

/* The fewest bytes of a call's arguments that hash() of its result gets through in 10 ns, if it looks at them. */
#define HASHED_BYTES_A_UNIT 4

/* The value of a macro as a text. */
#define TEXT_OF(macro) TEXT_OF_TOKENS(macro)
#define TEXT_OF_TOKENS(tokens) #tokens

#define UNHASHABLE UINT32_MAX
#define WEIGHT_MAX (UINT32_C(1) << 30) /* weights stop growing here */

enum kind { CONTAINER, WHOLE, ERROR, CALLABLE };

/* The facts about a value beside its reference. */
struct note {
    uint32_t position; /* on the stack */
    uint32_t hashing;  /* what hash() of the value takes, in units of 10 ns; UNHASHABLE: it cannot be a key */
    /* CONTAINER: 1 + the index of its hashes, or 0. ERROR and a WHOLE tuple of errors: their text. CALLABLE: the row's
     * number. */
    uint32_t extra;
    uint16_t depth;
    uint8_t kind;
    uint8_t fresh; /* a CONTAINER to which items may still be added */
};

struct memo {
    PyObject *value;
    struct note note;
    int noted; /* whether there is a note */
};

struct buffer {
    uint64_t offset, size;
    int taken;
};

struct reader {
    const unsigned char *at, *end, *start;
    PyObject **stack;
    size_t top, room, floor; /* opcodes may only take values at or above `floor`, the topmost mark */
    size_t *marks; /* heights of the stack */
    size_t marked, mark_room;
    struct note *notes;
    size_t noted, note_room;
    struct memo *memo;
    size_t memoized, memo_room;
    struct lipc_hashes *hashes;
    size_t hashes_count, hashes_room;
    struct buffer *buffers;
    size_t buffer_count;
    struct lipc_message *message;
    const char *reason;
    uint64_t budget;      /* what is left of the budget */
    uint64_t plain, plain_left; /* what plain data may cost, and what is left of that */
    uint64_t memory, memory_limit;
    uint64_t written_limit, hash_limit;
    PyObject *kept; /* what objects of users' classes were made of (measure.h); NULL if there are none */
    int viewed; /* long bytes are memoryviews in what was read so far */
    int solid;  /* long bytes are to be bytes from now on */
    int shared; /* a container or tuple was taken from the memo, so the value's parts do not tell its size */
    uint64_t repeated; /* the size of all other values taken from the memo */
    PyObject *inline_stack[INLINE_STACK];
    size_t inline_marks[INLINE_MARKS];
    struct note inline_notes[INLINE_NOTES];
    struct memo inline_memo[INLINE_MEMO];
    struct buffer inline_buffers[INLINE_BUFFERS];
};

static const char TOO_DEEP[] = "more than " TEXT_OF(LIPC_DEPTH) " levels of containers";
static const char AGAIN[] = "memoryviews where they must not be"; /* the message is read once more, without them */
static const char TOO_OFTEN[] = "parts shared so often that it would be too large if it were written out";

static PyObject *decode_error, *unknown_error;

void lipc_read_errors(PyObject *decode, PyObject *unknown)
{
    Py_INCREF(decode);
    Py_INCREF(unknown);
    decode_error = decode;
    unknown_error = unknown;
}

static int refuse(struct reader *r, const char *reason)
{
    r->reason = reason;
    return 0;
}

/* Refuses what Python has refused with an Exception, and clears the Exception. A MemoryError stays. An exception that
 * is no Exception stays too, such as a KeyboardInterrupt of a signal handler. */
static int refused_by_python(struct reader *r, const char *reason)
{
    if (PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_Clear();
        r->reason = reason;
    }
    return 0;
}

static int no_memory(void)
{
    PyErr_NoMemory();
    return 0;
}

static uint64_t little_endian(const unsigned char *bytes, int size)
{
    uint64_t value = 0;
    for (int i = size - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

/* Doubles an array that began inline. Returns 0 with a reason, or with MemoryError set. The array's memory counts as
 * plain data, because values are counted only when they go into a container, and they may never do so. */
static int enlarge(struct reader *r, void **array, size_t *room, size_t item, const void *inline_array)
{
    uint64_t cost = *room * item / ROOM_A_UNIT;
    if (r->plain_left < cost)
        return refuse(r, "more values and memos than decode_budget allows");
    r->plain_left -= cost;
    void *larger = PyMem_Malloc(2 * *room * item);
    if (larger == NULL)
        return no_memory();
    memcpy(larger, *array, *room * item);
    if (*array != inline_array)
        PyMem_Free(*array);
    *array = larger;
    *room *= 2;
    return 1;
}

/* ---- budgets ---- */

static inline int take_memory(struct reader *r, uint64_t bytes)
{
    r->memory += bytes;
    return r->memory <= r->memory_limit || refuse(r, "more memory than its size warrants");
}

static int take_work(struct reader *r, uint64_t cost)
{
    if (r->budget < cost)
        return refuse(r, "keys or constructors that take longer than decode_budget allows");
    r->budget -= cost;
    return 1;
}

/* Counts `values` values that go into something. */
static inline int take_plain(struct reader *r, size_t values)
{
    uint64_t cost = (uint64_t)values * VALUE_COST;
    if (r->plain_left < cost)
        return refuse(r, "more plain data than decode_budget allows");
    r->plain_left -= cost;
    return 1;
}

static uint32_t sum(uint32_t one, uint32_t other)
{
    uint64_t both = (uint64_t)one + other;
    return both < WEIGHT_MAX ? (uint32_t)both : WEIGHT_MAX;
}

/* ---- the stack ---- */

/* Pushes a value, and takes over the reference. Returns 0 with a reason, or with MemoryError set. */
static inline int push(struct reader *r, PyObject *value)
{
    r->stack[r->top++] = value;
    return r->top < r->room || enlarge(r, (void **)&r->stack, &r->room, sizeof *r->stack, r->inline_stack);
}

/* Adds a note about the topmost value. */
static inline int add_note(struct reader *r, struct note note)
{
    if (r->top > WEIGHT_MAX)
        return refuse(r, "more values than there may be");
    note.position = (uint32_t)r->top - 1;
    r->notes[r->noted++] = note;
    return r->noted < r->note_room || enlarge(r, (void **)&r->notes, &r->note_room, sizeof *r->notes, r->inline_notes);
}

/* Pushes a value with a note. */
static inline int push_noted(struct reader *r, PyObject *value, struct note note)
{
    return value != NULL && push(r, value) && add_note(r, note);
}

/* Returns the index of the first note of the values at `first` or above. */
static inline size_t notes_from(const struct reader *r, size_t first)
{
    size_t at = r->noted;
    while (at && r->notes[at - 1].position >= first)
        at--;
    return at;
}

/* Returns the note of the container right below `first`, to which items may be added, or NULL if there is none. `at` is
 * notes_from(first). */
static inline struct note *container_below(struct reader *r, size_t first, size_t at)
{
    if (first == r->floor || at == 0 || r->notes[at - 1].position != first - 1 || !r->notes[at - 1].fresh)
        return NULL;
    return &r->notes[at - 1];
}

/* Drops the values from `first` on. */
static inline void drop(struct reader *r, size_t first)
{
    while (r->top > first)
        Py_DECREF(r->stack[--r->top]);
}

/* Adds up the notes from `at` on in *whole, for values that go into one value. Returns 0 with a reason if that is not
 * allowed. */
static inline int add_up_notes(struct reader *r, size_t at, struct note *whole)
{
    for (const struct note *part = r->notes + at; part < r->notes + r->noted; part++) {
        if (part->kind == CALLABLE)
            return refuse(r, "a constructor that nothing calls");
        if (part->depth >= whole->depth)
            whole->depth = (uint16_t)(part->depth + 1);
        whole->hashing = part->hashing == UNHASHABLE ? UNHASHABLE
                         : whole->hashing == UNHASHABLE ? UNHASHABLE
                                                        : sum(whole->hashing, part->hashing - 1);
        if (part->kind == ERROR || (part->kind == WHOLE && part->extra))
            whole->extra = sum(whole->extra, part->extra);
    }
    /* The tuple of a call's arguments is one level more. */
    return whole->depth <= LIPC_DEPTH + (whole->kind == WHOLE) || refuse(r, TOO_DEEP);
}

/* Makes a tuple of the values from `first` on, which lie above the mark. */
static int make_tuple(struct reader *r, size_t first)
{
    size_t count = r->top - first;
    size_t at = notes_from(r, first);
    struct note whole = {.hashing = sum(1, count < WEIGHT_MAX ? (uint32_t)count : WEIGHT_MAX), .depth = 1, .kind = WHOLE};
    if (at < r->noted && !add_up_notes(r, at, &whole))
        return 0;
    if (whole.hashing != UNHASHABLE && whole.hashing > r->hash_limit)
        return refuse(r, "a tuple that would be too large if it were written out");
    if (!take_plain(r, count) || !take_memory(r, LIPC_TUPLE_BYTES + LIPC_ITEMS_BYTES(count)))
        return 0;
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    if (tuple == NULL)
        return 0;
    for (size_t i = first; i < r->top; i++)
        PyTuple_SetItem(tuple, (Py_ssize_t)(i - first), r->stack[i]); /* takes over the reference */
    r->top = first;
    r->noted = at;
    return push_noted(r, tuple, whole);
}

/* Adds the values from `first` on to the list below them. */
static int extend_list(struct reader *r, size_t first)
{
    size_t count = r->top - first;
    size_t at = notes_from(r, first);
    struct note *note = container_below(r, first, at);
    PyObject *list = note == NULL ? NULL : r->stack[first - 1];
    if (list == NULL || !PyList_CheckExact(list))
        return refuse(r, "items for what is no fresh list");
    struct note whole = {.depth = note->depth, .hashing = 1, .kind = CONTAINER};
    if ((at < r->noted && !add_up_notes(r, at, &whole)) || !take_plain(r, count) || !take_memory(r, LIPC_LIST_ITEMS_BYTES(count)))
        return 0;
    note->depth = whole.depth;
    Py_ssize_t before = PyList_Size(list);
    if (count == 1) {
        if (PyList_Append(list, r->stack[first]))
            return 0;
        drop(r, first);
    } else {
        PyObject *items = PyList_New((Py_ssize_t)count);
        if (items == NULL)
            return 0;
        for (size_t i = first; i < r->top; i++)
            PyList_SetItem(items, (Py_ssize_t)(i - first), r->stack[i]);
        r->top = first;
        if (before == 0 && Py_REFCNT(list) == 1) { /* nobody else has seen the list: the new one replaces it */
            r->stack[first - 1] = items;
            Py_DECREF(list);
        } else {
            int failed = PyList_SetSlice(list, before, before, items);
            Py_DECREF(items);
            if (failed)
                return 0;
        }
    }
    r->noted = at;
    return 1;
}

/* ---- keys ---- */

/* Whether a key is a memoryview, or a tuple with one in it. No other hashable value has any. */
static int has_view(PyObject *key)
{
    if (PyMemoryView_Check(key))
        return 1;
    if (PyTuple_CheckExact(key))
        for (Py_ssize_t i = 0; i < PyTuple_Size(key); i++)
            if (has_view(PyTuple_GetItem(key, i)))
                return 1;
    return 0;
}

/* Whether the keys among the values from `first` on (each `step`-th value) may enter a container with `size` keys.
 * Takes the cost from the budget. *hashes is the number of the container's hashes, as in its note. */
static int may_enter(struct reader *r, size_t first, size_t step, Py_ssize_t size, int is_set, uint32_t *hashes)
{
    size_t note = notes_from(r, first);
    /* Comparing values that have notes may take long, however few there are. */
    int counted = (size_t)size + (r->top - first) / step > LIPC_FEW_KEYS || note < r->noted || *hashes;
    if (counted && *hashes == 0) {
        if (r->hashes_count == r->hashes_room) {
            size_t room = r->hashes_room ? 2 * r->hashes_room : 8;
            struct lipc_hashes *larger = PyMem_Realloc(r->hashes, room * sizeof *larger);
            if (larger == NULL)
                return no_memory();
            r->hashes = larger;
            r->hashes_room = room;
        }
        r->hashes[r->hashes_count] = (struct lipc_hashes){.slots = NULL};
        *hashes = (uint32_t)++r->hashes_count;
    }
    for (size_t i = first; i < r->top; i += step) {
        PyObject *key = r->stack[i];
        if (lipc_is_free_key(key))
            continue;
        while (note < r->noted && r->notes[note].position < i)
            note++;
        const struct note *noted = note < r->noted && r->notes[note].position == i ? &r->notes[note] : NULL;
        if (noted != NULL && (noted->kind == CONTAINER || noted->hashing == UNHASHABLE))
            return refuse(r, "a key or element that is not hashable");
        uint32_t hashing = noted == NULL ? 1 : noted->hashing;
        if (!take_work(r, LIPC_KEY_COST + 2 * (uint64_t)hashing)) /* hashed here and again when it enters */
            return 0;
        if (r->viewed && has_view(key)) /* once it is released, nothing would equal it */
            return refuse(r, AGAIN);
        Py_hash_t hash = PyObject_Hash(key);
        if (hash == -1)
            return refused_by_python(r, "a key or element that is not hashable");
        uint32_t each = PyLong_CheckExact(key) ? 1 : LIPC_COMPARISON_PER_VALUE;
        uint32_t comparing = hashing < WEIGHT_MAX / each ? LIPC_COMPARISON + each * hashing : WEIGHT_MAX;
        int error = counted ? lipc_hashes_add(&r->hashes[*hashes - 1], hash, comparing, is_set, &r->budget) : 0;
        if (error == -ENOMEM)
            return no_memory();
        if (error)
            return take_work(r, UINT64_MAX); /* this sets the reason */
    }
    return 1;
}

/* Adds the values from `first` on to the dict below them: keys and values in turn. */
static int fill_dict(struct reader *r, size_t first)
{
    size_t count = r->top - first;
    size_t at = notes_from(r, first);
    struct note *note = container_below(r, first, at);
    PyObject *dict = note == NULL ? NULL : r->stack[first - 1];
    if (dict == NULL || !PyDict_CheckExact(dict))
        return refuse(r, "items for what is no fresh dict");
    if (count % 2)
        return refuse(r, "a key without a value");
    Py_ssize_t before = PyDict_Size(dict);
    struct note whole = {.depth = note->depth, .hashing = 1, .kind = CONTAINER};
    if ((at < r->noted && !add_up_notes(r, at, &whole)) || !take_plain(r, count) ||
        !take_memory(r, lipc_dict_bytes((size_t)before + count / 2) - lipc_dict_bytes((size_t)before)))
        return 0;
    note->depth = whole.depth;
    /* Whether the keys were checked against the budget. The first key that is not free causes that. */
    int entered = 0;
    for (size_t i = first; i < r->top; i += 2) {
        if (!entered && !lipc_is_free_key(r->stack[i])) {
            if (!may_enter(r, i, 2, before + (Py_ssize_t)(i - first) / 2, 0, &note->extra))
                return 0;
            entered = 1;
        }
        if (PyDict_SetItem(dict, r->stack[i], r->stack[i + 1]))
            return refused_by_python(r, "a key that is not hashable");
    }
    if (PyDict_Size(dict) != before + (Py_ssize_t)count / 2)
        return refuse(r, "a key that is there already");
    drop(r, first);
    r->noted = at;
    return 1;
}

/* Adds the values from `first` on to `set`, which may be a new frozenset. Adds up their notes in *whole. */
static int fill_set(struct reader *r, size_t first, PyObject *set, struct note *whole, uint32_t *hashes)
{
    size_t count = r->top - first;
    size_t at = notes_from(r, first);
    Py_ssize_t before = PySet_Size(set);
    if ((at < r->noted && !add_up_notes(r, at, whole)) || !may_enter(r, first, 1, before, 1, hashes) || !take_plain(r, count) ||
        !take_memory(r, lipc_set_bytes((size_t)before + count) - lipc_set_bytes((size_t)before)))
        return 0;
    for (size_t i = first; i < r->top; i++)
        if (PySet_Add(set, r->stack[i]))
            return refused_by_python(r, "an element that is not hashable");
    if (PySet_Size(set) != before + (Py_ssize_t)count)
        return refuse(r, "an element that is there already");
    drop(r, first);
    r->noted = at;
    return 1;
}

static int extend_set(struct reader *r, size_t first)
{
    struct note *note = container_below(r, first, notes_from(r, first));
    PyObject *set = note == NULL ? NULL : r->stack[first - 1];
    if (set == NULL || Py_TYPE(set) != &PySet_Type)
        return refuse(r, "elements for what is no fresh set");
    struct note whole = {.depth = note->depth, .hashing = 1, .kind = CONTAINER};
    if (!fill_set(r, first, set, &whole, &note->extra))
        return 0;
    note->depth = whole.depth;
    return 1;
}

static int make_frozenset(struct reader *r, size_t first)
{
    size_t count = r->top - first;
    struct note whole = {.hashing = sum(1, count < WEIGHT_MAX ? (uint32_t)count : WEIGHT_MAX), .depth = 1, .kind = WHOLE};
    uint32_t hashes = 0;
    PyObject *set = take_memory(r, LIPC_SET_BYTES) ? PyFrozenSet_New(NULL) : NULL;
    if (set == NULL)
        return 0;
    int filled = fill_set(r, first, set, &whole, &hashes);
    if (filled && whole.hashing > r->hash_limit)
        filled = refuse(r, "a frozenset that would be too large if it were written out");
    if (!filled) {
        Py_DECREF(set);
        return 0;
    }
    return push_noted(r, set, whole);
}

static inline int make_container(struct reader *r, PyObject *made, uint64_t bytes)
{
    return push_noted(r, made, (struct note){.hashing = 1, .depth = 1, .kind = CONTAINER, .fresh = 1}) &&
           take_memory(r, bytes);
}

/* ---- atoms ---- */

static PyObject *make_float(const unsigned char *bytes)
{
    uint64_t bits;
    double value;
    memcpy(&bits, bytes, sizeof bits);
    bits = BIG_ENDIAN_OF(bits);
    memcpy(&value, &bits, sizeof value);
    return PyFloat_FromDouble(value);
}

/* Makes a str with lone surrogates. Each of them takes a call in Python, and costs accordingly. */
static PyObject *make_surrogates(struct reader *r, const unsigned char *data, size_t size)
{
    size_t surrogates = 0;
    const unsigned char *end = data + size;
    for (const unsigned char *at = data; (at = memchr(at, 0xed, (size_t)(end - at))) != NULL; at++)
        surrogates += at + 1 < end && at[1] >= 0xa0;
    if (!take_work(r, (surrogates + 1) * SURROGATE_COST))
        return NULL;
    return PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, "surrogatepass");
}

/* Makes a str. */
static PyObject *make_text(struct reader *r, const unsigned char *data, size_t size)
{
    PyObject *made = PyUnicode_DecodeUTF8((const char *)data, (Py_ssize_t)size, NULL);
    if (made != NULL || !PyErr_ExceptionMatches(PyExc_UnicodeDecodeError))
        return made;
    PyErr_Clear();
    return make_surrogates(r, data, size);
}

/* Makes an int of more than eight bytes from its hexadecimal digits. The stable ABI has no other quick way to make
 * one. */
static PyObject *make_long(const unsigned char *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    char inline_text[128];
    int negative = bytes[size - 1] >= 0x80;
    char *text = 2 * size + 2 <= sizeof inline_text ? inline_text : PyMem_Malloc(2 * size + 2);
    if (text == NULL)
        return PyErr_NoMemory();
    unsigned carry = 1; /* for the two's complement */
    char *to = text + 1 + 2 * size;
    *to = 0;
    text[0] = negative ? '-' : '+';
    for (size_t i = 0; i < size; i++) {
        unsigned byte = bytes[i];
        if (negative) {
            byte = (byte ^ 0xff) + carry;
            carry = byte >> 8;
        }
        *--to = digits[byte & 15];
        *--to = digits[byte >> 4 & 15];
    }
    PyObject *made = PyLong_FromString(text, NULL, 16);
    if (text != inline_text)
        PyMem_Free(text);
    return made;
}

/* Pushes an int of `size` bytes. */
static int push_long(struct reader *r, const unsigned char *bytes, size_t size)
{
    if (size <= 8) {
        uint64_t value = little_endian(bytes, (int)size);
        if (size > 0 && size < 8 && bytes[size - 1] >= 0x80)
            value |= UINT64_MAX << size * 8;
        PyObject *made = PyLong_FromLongLong((int64_t)value);
        return made != NULL && push(r, made);
    }
    struct note note = {.hashing = size / 16 < WEIGHT_MAX ? 1 + (uint32_t)(size / 16) : WEIGHT_MAX, .kind = WHOLE};
    return take_plain(r, 4 + size / 16) && push_noted(r, make_long(bytes, size), note);
}

#ifndef Py_GIL_DISABLED
/* A cache of recent dict keys. Finding a key takes a third of the time of making it, and its hash is known. The cache
 * is direct mapped and guarded by the GIL. A peer can fill the cache, but only with short strings. */
#define RECENT 512
#define RECENT_SIZE 24

static struct {
    PyObject *string;
    size_t size;
    unsigned char data[RECENT_SIZE];
} recent[RECENT];
#endif

/* Makes a string where a dict key may stand. */
static PyObject *make_key(struct reader *r, const unsigned char *data, size_t size)
{
#ifndef Py_GIL_DISABLED
    if (size <= RECENT_SIZE) {
        uint64_t hash = size;
        for (size_t i = 0; i < size; i++)
            hash = (hash ^ data[i]) * UINT64_C(0x100000001b3); /* FNV-1a */
        size_t slot = (hash ^ hash >> 32) % RECENT;
        PyObject *string = recent[slot].string;
        if (string == NULL || recent[slot].size != size || memcmp(recent[slot].data, data, size)) {
            string = make_text(r, data, size);
            if (string == NULL)
                return NULL;
            Py_XDECREF(recent[slot].string);
            recent[slot].string = string;
            recent[slot].size = size;
            memcpy(recent[slot].data, data, size);
        }
        Py_INCREF(string);
        return string;
    }
#endif
    return make_text(r, data, size);
}

/* ---- the memo ---- */

/* Remembers the topmost value. */
static int memoize(struct reader *r)
{
    if (r->top == r->floor)
        return refuse(r, "a memo of nothing");
    struct memo *memo = &r->memo[r->memoized++];
    memo->value = r->stack[r->top - 1];
    memo->noted = r->noted && r->notes[r->noted - 1].position == r->top - 1;
    if (memo->noted) {
        memo->note = r->notes[r->noted - 1];
        memo->note.fresh = 0;
    }
    Py_INCREF(memo->value);
    return r->memoized < r->memo_room || enlarge(r, (void **)&r->memo, &r->memo_room, sizeof *r->memo, r->inline_memo);
}

static int recall(struct reader *r, uint64_t index)
{
    if (index >= r->memoized)
        return refuse(r, "a memo that is not there");
    const struct memo *memo = &r->memo[index];
    Py_INCREF(memo->value);
    if (memo->noted && memo->note.depth)
        r->shared = 1;
    else
        r->repeated += lipc_leaf_size(memo->value);
    return memo->noted ? push_noted(r, memo->value, memo->note) : push(r, memo->value);
}

/* ---- constructors ---- */

/* STACK_GLOBAL: replaces the two topmost strings by the constructor that they name. On the stack a constructor is None
 * with a note that has its number. The note keeps the constructor from becoming a value. */
static int find_constructor(struct reader *r)
{
    if (r->top - r->floor < 2)
        return refuse(r, "a stack too short");
    PyObject *module = r->stack[r->top - 2], *name = r->stack[r->top - 1];
    const struct lipc_row *row = NULL;
    if (PyUnicode_CheckExact(module) && PyUnicode_CheckExact(name) &&
        PyUnicode_CompareWithASCIIString(module, LIPC_WIRE_MODULE) == 0)
        row = lipc_row_of(name);
    if (row == NULL)
        return PyErr_Occurred() ? 0 : refuse(r, "a name that is none of lensipc's constructors");
    r->noted = notes_from(r, r->top - 2); /* drops the notes of strings that a call returned */
    drop(r, r->top - 2);
    struct note note = {.kind = CALLABLE, .extra = lipc_row_number(row)};
    Py_INCREF(Py_None);
    return push_noted(r, Py_None, note);
}

/* Whether code other than the reader may see what a value holds. *measurement gets what was measured. */
static int fits(struct reader *r, PyObject *value, struct lipc_measurement *measurement)
{
    static const char *reasons[] = {NULL, TOO_DEEP, TOO_OFTEN, NULL};
    *measurement = (struct lipc_measurement){.kept = r->kept, .depth_limit = LIPC_DEPTH, .size_limit = r->written_limit};
    enum lipc_measured found = lipc_measure(value, measurement);
    if (found == LIPC_NO_MEMORY)
        return no_memory();
    return found == LIPC_FITS || refuse(r, reasons[found]);
}

/* Remembers what an object of a user's class was made of, because the object may hold all of it. */
static int keep(struct reader *r, PyObject *made, PyObject *arguments)
{
    if (r->kept == NULL && (r->kept = PyDict_New()) == NULL)
        return 0;
    PyObject *address = PyLong_FromVoidPtr(made), *pair = PyTuple_Pack(2, made, arguments);
    int error = address == NULL || pair == NULL || PyDict_SetItem(r->kept, address, pair) < 0;
    Py_XDECREF(address);
    Py_XDECREF(pair);
    return !error;
}

/* Calls a constructor that a user has registered. Returns a new reference. *hashing grows by what hash() of the result
 * may take. */
static PyObject *call_user(struct reader *r, const struct lipc_row *row, PyObject *arguments, uint32_t *hashing)
{
    struct lipc_measurement measurement;
    if (r->message->flags & LIPC_READ_QUIET || !fits(r, arguments, &measurement) || !take_work(r, measurement.visited))
        return NULL;
    *hashing = sum(*hashing, measurement.size < WEIGHT_MAX / HASHED_VALUE ? HASHED_VALUE * (uint32_t)measurement.size
                                                                          : WEIGHT_MAX);
    PyObject *made = r->message->flags & LIPC_READ_TRIAL ? PyObject_CallObject((PyObject *)&PyBaseObject_Type, NULL)
                                                         : PyObject_Call(row->make, arguments, NULL);
    if (made != NULL && !keep(r, made, arguments)) {
        Py_DECREF(made);
        return NULL;
    }
    return made;
}

/* Returns a view of `size` bytes of the message. */
static PyObject *view_of(struct reader *r, uint64_t offset, uint64_t size)
{
    PyObject *whole = PyMemoryView_FromObject(r->message->owner);
    PyObject *view = whole == NULL ? NULL : PySequence_GetSlice(whole, (Py_ssize_t)offset, (Py_ssize_t)(offset + size));
    Py_XDECREF(whole);
    return view;
}

/* Returns bytes, a bytearray, or a memoryview where long ones are views. */
static PyObject *make_bytes(struct reader *r, int is_array, const unsigned char *data, uint64_t size)
{
    if (r->message->flags & LIPC_READ_VIEW && size >= LIPC_OUT_OF_BAND && !r->solid) {
        r->viewed = 1;
        return view_of(r, (uint64_t)(data - r->message->data), size);
    }
    return (is_array ? PyByteArray_FromStringAndSize : PyBytes_FromStringAndSize)((const char *)data, (Py_ssize_t)size);
}

/* Has bytes in place of views among the arguments of a constructor, which knows none. Returns 0 with an exception set if
 * there is no memory. */
static int without_views(PyObject **arguments)
{
    for (Py_ssize_t i = 0; i < PyTuple_Size(*arguments); i++) {
        if (!PyMemoryView_Check(PyTuple_GetItem(*arguments, i)))
            continue;
        PyObject *items = PySequence_List(*arguments), *copy = PyBytes_FromObject(PyTuple_GetItem(*arguments, i));
        PyObject *changed = NULL;
        if (items != NULL && copy != NULL && PyList_SetItem(items, i, copy) == 0)
            changed = PyList_AsTuple(items);
        else if (items == NULL)
            Py_XDECREF(copy);
        Py_XDECREF(items);
        if (changed == NULL)
            return 0;
        Py_DECREF(*arguments);
        *arguments = changed;
    }
    return 1;
}

/* Returns the buffer whose number as_array has for its memory, and marks it as taken. Returns NULL with a reason if
 * this buffer is missing or taken, and without a reason if there is no number. */
static struct buffer *buffer_of(struct reader *r, PyObject *arguments)
{
    PyObject *memory = PyTuple_GetItem(arguments, 2);
    if (!PyLong_CheckExact(memory))
        return NULL;
    size_t number = PyLong_AsSize_t(memory); /* the row bounds this */
    if (number >= r->buffer_count || r->buffers[number].taken) {
        refuse(r, "a buffer that is not there, or is taken");
        return NULL;
    }
    r->buffers[number].taken = 1;
    return &r->buffers[number];
}

/* Returns a new reference to the same arguments, with a view in place of the buffer's number. */
static PyObject *with_view(struct reader *r, PyObject *arguments, const struct buffer *buffer)
{
    Py_ssize_t count = PyTuple_Size(arguments);
    PyObject *view = view_of(r, buffer->offset, buffer->size);
    PyObject *changed = view == NULL ? NULL : PyTuple_New(count);
    if (changed == NULL) {
        Py_XDECREF(view);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *each = i == 2 ? view : PyTuple_GetItem(arguments, i);
        if (i != 2)
            Py_INCREF(each);
        PyTuple_SetItem(changed, i, each);
    }
    return changed;
}

/* Takes what a call costs in addition to its row's fixed cost. Returns 0 with an exception set, or with a reason. */
static int take_price(struct reader *r, const struct lipc_row *row, PyObject *arguments)
{
    if (row->price == Py_None)
        return 1;
    PyObject *answer = PyObject_Call(row->price, arguments, NULL);
    unsigned long long price = answer == NULL ? 0 : PyLong_AsUnsignedLongLong(answer);
    Py_XDECREF(answer);
    return !PyErr_Occurred() && take_work(r, price);
}

/* Returns a new reference to the array that a message describes. */
static PyObject *make_array(struct reader *r, const struct lipc_row *row, PyObject *arguments)
{
    if (r->message->flags & LIPC_READ_PLAIN && !PyUnicode_CheckExact(PyTuple_GetItem(arguments, 0))) {
        refuse(r, "an array of a dtype with fields, where only plain values cross");
        return NULL;
    }
    if (r->message->flags & LIPC_READ_TRIAL)
        return lipc_placeholder_array();
    struct buffer *buffer = buffer_of(r, arguments);
    if (r->reason != NULL)
        return NULL;
    int view = (r->message->flags & LIPC_READ_VIEW) != 0;
    if (buffer != NULL && (view || r->message->flags & LIPC_READ_OWNED)) {
        PyObject *made = lipc_array_in(r->message->owner, buffer->offset, buffer->size, arguments, view);
        if (made != NULL || PyErr_Occurred())
            return made;
    }
    if (r->message->flags & LIPC_READ_QUIET)
        return NULL;
    if (buffer == NULL)
        Py_INCREF(arguments);
    else
        arguments = with_view(r, arguments, buffer);
    PyObject *made = NULL;
    if (arguments != NULL && take_price(r, row, arguments))
        made = view ? lipc_build_view(arguments) : PyObject_Call(row->make, arguments, NULL);
    Py_XDECREF(arguments);
    return made;
}

/* Calls the row's `make`. Returns a new reference. */
static PyObject *make_value(struct reader *r, const struct lipc_row *row, PyObject *arguments)
{
    if (row->does == LIPC_MAKES_ARRAY)
        return make_array(r, row, arguments);
    if (r->message->flags & LIPC_READ_QUIET)
        return NULL;
    return take_price(r, row, arguments) ? PyObject_Call(row->make, arguments, NULL) : NULL;
}

/* REDUCE: calls the constructor below the topmost tuple, with this tuple as arguments. */
static int call_constructor(struct reader *r)
{
    size_t callee = r->top - 2;
    if (r->top - r->floor < 2 || r->noted < 2 || r->notes[r->noted - 2].position != callee ||
        r->notes[r->noted - 2].kind != CALLABLE)
        return refuse(r, "a call of what is no constructor");
    if (!PyTuple_CheckExact(r->stack[callee + 1]))
        return refuse(r, "a call without a tuple of arguments");
    const struct lipc_row *row = lipc_row_at(r->notes[r->noted - 2].extra);
    if (row->does == LIPC_CALLS_USER) {
        /* A user's code gets bytes, wherever they lie in the arguments. It is not called twice, so there are no more views. */
        if (r->viewed)
            return refuse(r, AGAIN);
        r->solid = 1;
    }
    if (r->viewed && row->does != LIPC_GIVES_LAST && !without_views(&r->stack[callee + 1]))
        return 0;
    PyObject *arguments = r->stack[callee + 1];
    struct note given = r->notes[r->noted - 1];
    uint64_t bytes;
    r->reason = lipc_row_refuses(row, arguments, &bytes);
    if (r->reason != NULL || PyErr_Occurred())
        return 0;
    if (r->message->flags & LIPC_READ_PLAIN && !row->plain)
        return refuse(r, "a value that is not plain, where only plain values cross");
    uint64_t beside = row->plain && row->does != LIPC_MAKES_ARRAY ? 0 : LIPC_CALL_BYTES;
    if (!take_work(r, row->cost + bytes * row->per_byte) || !take_memory(r, bytes + beside))
        return 0;
    r->top = callee + 1; /* the reference to `arguments` is ours now */
    drop(r, callee);
    r->noted -= 2;
    struct note note = {.hashing = row->hash_cost, .kind = WHOLE};
    if (row->does == LIPC_CALLS_USER)
        note.depth = given.depth; /* the object may hold what it was made of */
    PyObject *made;
    int pushed;
    if (row->does == LIPC_MAKES_DICT) {
        pushed = make_container(r, PyDict_New(), LIPC_DICT_BYTES);
    } else if (row->does == LIPC_MAKES_LIST) {
        pushed = make_container(r, PyList_New(0), LIPC_LIST_BYTES);
    } else if (row->does == LIPC_GIVES_LAST) {
        /* Hashing the last argument takes no more than hashing all arguments, and it is no deeper than all of them. */
        made = PyTuple_GetItem(arguments, PyTuple_Size(arguments) - 1);
        Py_INCREF(made);
        note = given;
        note.depth--;
        note.kind = PyExceptionInstance_Check(made) ? ERROR : WHOLE;
        pushed = push_noted(r, made, note);
    } else {
        if (row->does == LIPC_MAKES_ERROR) {
            note.kind = ERROR;
            note.depth = given.depth;
            note.extra = sum(given.extra, bytes < WEIGHT_MAX ? ERROR_BYTES + (uint32_t)bytes : WEIGHT_MAX);
            if (note.depth > ERROR_DEPTH + 2 || note.extra > ERROR_TEXT)
                refuse(r, "exceptions nested too deep, or with too much text");
        }
        if (note.hashing != UNHASHABLE)
            note.hashing = sum(note.hashing, (uint32_t)(bytes / HASHED_BYTES_A_UNIT));
        if (r->reason != NULL)
            made = NULL;
        else if (row->does == LIPC_CALLS_USER)
            made = call_user(r, row, arguments, &note.hashing);
        else
            made = make_value(r, row, arguments);
        pushed = push_noted(r, made, note);
    }
    Py_DECREF(arguments);
    return pushed;
}

/* ---- the machine ---- */

/* Removes the topmost mark. *first gets the position of the mark. Returns 0 with a reason if there is none. */
static int unmark(struct reader *r, size_t *first)
{
    if (r->marked == 0)
        return refuse(r, "a mark that is not there");
    *first = r->marks[--r->marked];
    r->floor = r->marked ? r->marks[r->marked - 1] : 0;
    return 1;
}

static int set_mark(struct reader *r)
{
    r->marks[r->marked++] = r->floor = r->top;
    return r->marked < r->mark_room ||
           enlarge(r, (void **)&r->marks, &r->mark_room, sizeof *r->marks, r->inline_marks);
}

static int pop(struct reader *r, size_t first)
{
    size_t at = notes_from(r, first);
    for (size_t i = at; i < r->noted; i++)
        if (r->notes[i].kind == CALLABLE)
            return refuse(r, "a constructor that nothing calls");
    r->noted = at;
    if (!take_plain(r, r->top - first))
        return 0;
    drop(r, first);
    return 1;
}

/* STOP: returns whether exactly one value is left, and the value is within the limits. */
static int stop(struct reader *r)
{
    struct lipc_measurement measurement;
    if (r->at != r->end)
        return refuse(r, "bytes behind the end");
    if (r->top != 1 || r->marked || (r->noted && r->notes[0].kind == CALLABLE))
        return refuse(r, "not one value");
    if (r->noted && r->notes[0].depth > LIPC_DEPTH)
        return refuse(r, TOO_DEEP);
    if (r->shared)
        return fits(r, r->stack[0], &measurement);
    return r->repeated <= r->written_limit || refuse(r, TOO_OFTEN);
}

/* Whether `size` bytes follow. */
static inline int follow(struct reader *r, uint64_t size)
{
    return size <= (uint64_t)(r->end - r->at) || refuse(r, "the end inside an opcode");
}

/* Reads a length of `width` bytes. That many bytes must follow the length. */
static inline int read_length(struct reader *r, int width, uint64_t *size)
{
    if (!follow(r, (uint64_t)width))
        return 0;
    *size = little_endian(r->at, width);
    r->at += width;
    return follow(r, *size);
}

/* Runs the opcodes up to STOP. Returns 1 if one value is left, or 0 with a reason or an exception set. *last is left at
 * the last opcode. */
static int run(struct reader *r, const unsigned char **last)
{
    while (r->at != r->end) {
        const unsigned char *begin = r->at;
        unsigned opcode = *r->at++;
        size_t first;
        uint64_t size = 0; /* of what follows the opcode */
        PyObject *made = NULL;
        int width;
        *last = begin;
        switch (opcode) {
        case SHORT_BINUNICODE:
        case SHORT_BINBYTES:
            if (!read_length(r, 1, &size))
                return 0;
            if (opcode == SHORT_BINBYTES)
                made = PyBytes_FromStringAndSize((const char *)r->at, (Py_ssize_t)size);
            else if ((r->top - r->floor) % 2 == 0 && r->floor && PyDict_CheckExact(r->stack[r->floor - 1]))
                made = make_key(r, r->at, size);
            else
                made = make_text(r, r->at, size);
            break;
        case BININT1:
        case BININT2:
            size = opcode == BININT1 ? 1 : 2;
            if (!follow(r, size))
                return 0;
            made = PyLong_FromLong((long)little_endian(r->at, (int)size));
            break;
        case BININT:
            size = 4;
            if (!follow(r, size))
                return 0;
            made = PyLong_FromLong((int32_t)(uint32_t)little_endian(r->at, 4));
            break;
        case BINFLOAT:
            size = 8;
            if (!follow(r, size))
                return 0;
            made = make_float(r->at);
            break;
        case NONE:
            made = Py_None;
            Py_INCREF(made);
            break;
        case NEWTRUE:
        case NEWFALSE:
            made = opcode == NEWTRUE ? Py_True : Py_False;
            Py_INCREF(made);
            break;
        case MEMOIZE:
            if (!memoize(r))
                return 0;
            continue;
        case BINGET:
        case LONG_BINGET:
            width = opcode == BINGET ? 1 : 4;
            if (!follow(r, (uint64_t)width) || !recall(r, little_endian(r->at, width)))
                return 0;
            r->at += width;
            continue;
        case EMPTY_LIST:
            if (!make_container(r, PyList_New(0), LIPC_LIST_BYTES))
                return 0;
            continue;
        case EMPTY_DICT:
            if (!make_container(r, PyDict_New(), LIPC_DICT_BYTES))
                return 0;
            continue;
        case EMPTY_SET:
            if (!make_container(r, PySet_New(NULL), LIPC_SET_BYTES))
                return 0;
            continue;
        case EMPTY_TUPLE:
            if (!make_tuple(r, r->top))
                return 0;
            continue;
        case TUPLE1:
        case TUPLE2:
        case TUPLE3:
            first = opcode - TUPLE1 + 1;
            if (r->top - r->floor < first)
                return refuse(r, "a stack too short");
            if (!make_tuple(r, r->top - first))
                return 0;
            continue;
        case MARK:
            if (!set_mark(r))
                return 0;
            continue;
        case TUPLE:
            if (!unmark(r, &first) || !make_tuple(r, first))
                return 0;
            continue;
        case APPENDS:
            if (!unmark(r, &first) || !extend_list(r, first))
                return 0;
            continue;
        case SETITEMS:
            if (!unmark(r, &first) || !fill_dict(r, first))
                return 0;
            continue;
        case ADDITEMS:
            if (!unmark(r, &first) || !extend_set(r, first))
                return 0;
            continue;
        case FROZENSET:
            if (!unmark(r, &first) || !make_frozenset(r, first))
                return 0;
            continue;
        case APPEND:
        case SETITEM:
            first = opcode == APPEND ? 1 : 2;
            if (r->top - r->floor <= first)
                return refuse(r, "a stack too short");
            if (!(opcode == APPEND ? extend_list(r, r->top - 1) : fill_dict(r, r->top - 2)))
                return 0;
            continue;
        case LONG1:
        case LONG4:
            if (!read_length(r, opcode == LONG1 ? 1 : 4, &size) || !push_long(r, r->at, size))
                return 0;
            r->at += size;
            continue;
        case BINUNICODE:
        case BINBYTES:
        case BINUNICODE8:
        case BINBYTES8:
        case BYTEARRAY8:
            if (!read_length(r, opcode == BINUNICODE || opcode == BINBYTES ? 4 : 8, &size))
                return 0;
            if (opcode == BINUNICODE || opcode == BINUNICODE8)
                made = make_text(r, r->at, size);
            else
                made = make_bytes(r, opcode == BYTEARRAY8, r->at, size);
            if (opcode == BYTEARRAY8) {
                if (!push_noted(r, made, (struct note){.hashing = UNHASHABLE, .kind = WHOLE}))
                    return 0;
                r->at += size;
                continue;
            }
            break;
        case STACK_GLOBAL:
            if (!find_constructor(r))
                return 0;
            continue;
        case REDUCE:
            if (!call_constructor(r))
                return 0;
            continue;
        case POP:
            if (r->top == r->floor)
                return refuse(r, "a stack too short");
            if (!pop(r, r->top - 1))
                return 0;
            continue;
        case POP_MARK:
            if (!unmark(r, &first) || !pop(r, first))
                return 0;
            continue;
        case FRAME: /* the reader never reads ahead, so it needs no frames */
            if (r->end - r->at < 8 || little_endian(r->at, 8) > (uint64_t)(r->end - r->at) - 8)
                return refuse(r, "a frame beyond the end");
            r->at += 8;
            continue;
        case STOP:
            return stop(r);
        default:
            return refuse(r, "an opcode that plain data does not need");
        }
        if (made == NULL)
            return r->reason == NULL && refused_by_python(r, "text that is no UTF-8");
        if (!push(r, made))
            return 0;
        r->at += size;
    }
    *last = r->at;
    return refuse(r, "the end before STOP");
}

/* Finds the pickle of a message, and the buffers beside it. Returns 0 with a reason, or with MemoryError set. */
static int open_message(struct reader *r)
{
    const struct lipc_message *message = r->message;
    r->at = message->data;
    r->end = message->data + message->size;
    if (message->size < 4 || memcmp(message->data, LIPC_MESSAGE_MAGIC, 4))
        return 1;
    if (message->owner == NULL)
        return refuse(r, "buffers, where there can be none");
    if (message->size < LIPC_HEAD(0))
        return refuse(r, "the end inside the header");
    uint64_t count = little_endian(r->at + 4, 4), pickle_size = little_endian(r->at + 8, 8), total = message->size;
    if (count > (total - LIPC_HEAD(0)) / 8 || pickle_size > total - LIPC_HEAD(count))
        return refuse(r, "a header that says more than there is");
    if (count > INLINE_BUFFERS) {
        r->buffers = PyMem_Malloc(count * sizeof *r->buffers);
        if (r->buffers == NULL)
            return no_memory();
    }
    uint64_t end = LIPC_HEAD(count) + pickle_size;
    for (size_t i = 0; i < count; i++) {
        uint64_t size = little_endian(message->data + LIPC_HEAD(i), 8);
        end += -end % LIPC_ALIGNMENT;
        if (end > total || size > total - end)
            return refuse(r, "a buffer beyond the end");
        r->buffers[i] = (struct buffer){.offset = end, .size = size};
        end += size;
    }
    if (end != total)
        return refuse(r, "bytes behind the end");
    r->buffer_count = count;
    r->at = message->data + LIPC_HEAD(count);
    r->end = r->at + pickle_size;
    return 1;
}

static void set_limits(struct reader *r)
{
    uint64_t size = (uint64_t)(r->end - r->at);
    r->budget = r->message->budget + (r->message->flags & LIPC_READ_ALL ? 0 : WORK_PER_BYTE * size);
    r->memory_limit = LIPC_MEMORY_BASE + LIPC_MEMORY_PER_BYTE * size;
    r->written_limit = WRITTEN_BASE + WRITTEN_PER_BYTE * size + r->message->size / BUFFER_BYTES_A_VALUE;
    r->hash_limit = WRITTEN_BASE + HASHING_PER_BYTE * size;
    r->plain = UINT64_MAX;
    if (r->message->flags & LIPC_READ_ALL) {
        r->plain = r->budget;
        if (r->memory_limit / BYTES_A_UNIT > r->budget)
            r->memory_limit = r->budget * BYTES_A_UNIT;
    }
    r->plain_left = r->plain;
}

/* Returns the most bytes of memory that the value takes. The first few values are not counted. */
static uint64_t weight_of(const struct reader *r, uint64_t pickle_size)
{
    uint64_t values = (r->plain - r->plain_left) / VALUE_COST;
    if (values <= FEW_VALUES)
        return r->memory;
    uint64_t atoms = (values - FEW_VALUES) * ATOM_BYTES;
    return r->memory + (atoms < ATOM_BYTES_PER_BYTE * pickle_size ? atoms : ATOM_BYTES_PER_BYTE * pickle_size);
}

/* Sets DecodeError in place of the exception that is set. That exception becomes the cause. */
static void raise_from_current(size_t offset)
{
    PyObject *type, *value, *traceback, *other_type, *error, *other_traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    PyObject *text = PyObject_Str(value);
    if (text == NULL) { /* the exception's class is a user's */
        PyErr_Clear();
        text = PyObject_Str(type);
    }
    if (text != NULL) {
        PyErr_Format(decode_error, "byte %zu: %.200U", offset, text);
        Py_DECREF(text);
    }
    PyErr_Fetch(&other_type, &error, &other_traceback);
    PyErr_NormalizeException(&other_type, &error, &other_traceback);
    PyException_SetCause(error, value); /* takes over the reference */
    PyErr_Restore(other_type, error, other_traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
}

/* Sets DecodeError: for a reason, or in place of an Exception that a constructor has raised. */
static void raise_refusal(struct reader *r, size_t offset)
{
    if (r->message->flags & LIPC_READ_QUIET) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_MemoryError))
            PyErr_Clear();
        return;
    }
    if (PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(unknown_error) || !PyErr_ExceptionMatches(PyExc_Exception) ||
            PyErr_ExceptionMatches(PyExc_MemoryError))
            return;
        raise_from_current(offset);
        return;
    }
    PyErr_Format(decode_error, "byte %zu: %s", offset, r->reason ? r->reason : "no structured clone");
}

/* Reads a message. *solid says that long bytes are to be bytes, not memoryviews. It is set if they have to be; then NULL is
 * returned, and no exception is set. */
static PyObject *read_once(struct lipc_message *message, int *solid)
{
    struct reader r; /* not cleared: clearing takes longer than reading a small message */
    const unsigned char *last = message->data;
    PyObject *value = NULL;
    message->weight = 0;
    r.message = message;
    r.reason = NULL;
    r.stack = r.inline_stack;
    r.marks = r.inline_marks;
    r.notes = r.inline_notes;
    r.memo = r.inline_memo;
    r.buffers = r.inline_buffers;
    r.room = INLINE_STACK;
    r.mark_room = INLINE_MARKS;
    r.note_room = INLINE_NOTES;
    r.memo_room = INLINE_MEMO;
    r.top = r.floor = r.marked = r.noted = r.memoized = r.buffer_count = 0;
    r.hashes = NULL;
    r.hashes_count = r.hashes_room = 0;
    r.memory = 0;
    r.viewed = 0;
    r.solid = *solid;
    r.shared = 0;
    r.repeated = 0;
    r.kept = NULL;
    int collects = message->size >= GC_OFF_BYTES && PyGC_Disable();
    if (open_message(&r)) {
        set_limits(&r);
        last = r.at;
        if (r.end - r.at < 2 || r.at[0] != PROTO || r.at[1] != LIPC_PICKLE_PROTOCOL) {
            r.reason = "no pickle of protocol 5";
        } else {
            uint64_t pickle_size = (uint64_t)(r.end - r.at);
            r.at += 2;
            if (run(&r, &last)) {
                value = r.stack[--r.top];
                message->weight = weight_of(&r, pickle_size);
            }
        }
    }
    if (r.reason == AGAIN)
        *solid = 1;
    else if (value == NULL)
        raise_refusal(&r, (size_t)(last - message->data));
    drop(&r, 0);
    while (r.memoized)
        Py_DECREF(r.memo[--r.memoized].value);
    for (size_t i = 0; i < r.hashes_count; i++)
        lipc_hashes_free(&r.hashes[i]);
    PyMem_Free(r.hashes);
    Py_XDECREF(r.kept);
    if (collects)
        PyGC_Enable();
    if (r.stack != r.inline_stack)
        PyMem_Free(r.stack);
    if (r.marks != r.inline_marks)
        PyMem_Free(r.marks);
    if (r.notes != r.inline_notes)
        PyMem_Free(r.notes);
    if (r.memo != r.inline_memo)
        PyMem_Free(r.memo);
    if (r.buffers != r.inline_buffers)
        PyMem_Free(r.buffers);
    return value;
}

PyObject *lipc_read(struct lipc_message *message)
{
    int solid = 0;
    PyObject *value = read_once(message, &solid);
    return solid ? read_once(message, &solid) : value;
}
