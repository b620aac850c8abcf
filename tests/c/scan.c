/* SPDX-License-Identifier: MIT
 *
 * The scan under mutated pickles: scan [SEED [COUNT [FILE...]]]
 *
 * Each round takes a seed message (of the files, each one message; or of those below), changes it, and scans an exact
 * copy on the heap, whole and in pieces, so that a sanitizer sees any byte read beyond it. A message that passes must
 * pass again, and one that is refused must say why at a byte of it.
 */
#include "../../csrc/lensipc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LONGEST 8192
#define MESSAGES 256

static uint64_t state;

static uint32_t next(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(state >> 33);
}

struct message {
    unsigned char bytes[LONGEST];
    size_t size;
};

static struct message messages[MESSAGES];
static size_t message_count;

static void add(const void *bytes, size_t size)
{
    if (message_count < MESSAGES && size <= LONGEST) {
        memcpy(messages[message_count].bytes, bytes, size);
        messages[message_count++].size = size;
    }
}

#define ADD(text) add(text, sizeof(text) - 1)

static void add_builtin(void)
{
    ADD("\x80\x05N.");
    ADD("\x80\x05}\x94(\x8c\x01" "a\x94K\x01\x8c\x01" "b\x94]\x94(K\x02\x88G\x3f\xf0\0\0\0\0\0\0eu.");
    ADD("\x80\x05(K\x01K\x02\x86\x94\x85\x94]\x94h\x00" "a\x91\x94.");
    ADD("\x80\x05\x8f\x94(K\x01M\x02\x03J\x04\x05\x06\x07\x8a\x09\x01\x02\x03\x04\x05\x06\x07\x08\x09\x90.");
    ADD("\x80\x05\x8c\x0elensipc.values\x94\x8c\x07" "as_dict\x94\x93\x94)R\x94(\x8c\x01x\x94K\x01u.");
    ADD("\x80\x05\x8c\x0elensipc.values\x94\x8c\x05" "as_is\x94\x93\x94(K\x01K\x02t\x94\x85\x94R\x94.");
    ADD("\x80\x05}(\x8c\x0elensipc.values\x8c\x0a" "as_decimal\x93\x8c\x01" "1\x85RNG\x7f\xf0\0\0\0\0\0\0N(K\x01tNu.");
    ADD("\x80\x05\x95\x05\0\0\0\0\0\0\0]\x94(K\x01\x95\x03\0\0\0\0\0\0\0K\x02" "e.");
    ADD("\x80\x05]\x94(B\x03\0\0\0abc\x96\x02\0\0\0\0\0\0\0xy\x8d\x01\0\0\0\0\0\0\0z01" "e.");
}

static int mutate(unsigned char *bytes, int size)
{
    static const unsigned char opcodes[] = "N\x88\x89KMJGhj(]}\x8f" "aesu\x90XBC\x8d\x8e\x96\x8a\x8b)\x85\x86\x87t\x91" "01\x93R\x94\x95.";
    for (uint32_t changes = next() % 6; changes-- > 0;) {
        int at = size ? (int)(next() % (uint32_t)size) : 0;
        int length = size ? (int)(next() % (uint32_t)(size - at)) : 0;
        switch (next() % 7) {
        case 0: /* a bit */
            if (size)
                bytes[at] ^= (unsigned char)(1U << next() % 8);
            break;
        case 1: /* a byte */
            if (size)
                bytes[at] = (unsigned char)next();
            break;
        case 2: /* an opcode more */
            if (size < LONGEST) {
                memmove(bytes + at + 1, bytes + at, (size_t)(size - at));
                bytes[at] = opcodes[next() % (sizeof opcodes - 1)];
                size++;
            }
            break;
        case 3: /* a piece less */
            memmove(bytes + at, bytes + at + length, (size_t)(size - at - length));
            size -= length;
            break;
        case 4: /* a piece twice, or many times */
            for (uint32_t times = next() % 4; times-- > 0 && length > 0 && size + length <= LONGEST;) {
                memmove(bytes + at + length, bytes + at, (size_t)(size - at));
                size += length;
            }
            break;
        case 5: /* the end */
            size = at;
            break;
        default: { /* a piece of another */
            const struct message *other = &messages[next() % message_count];
            if (size + (int)other->size <= LONGEST) {
                memmove(bytes + at + other->size, bytes + at, (size_t)(size - at));
                memcpy(bytes + at, other->bytes, other->size);
                size += (int)other->size;
            }
        }
        }
    }
    return size;
}

static int check(const unsigned char *bytes, size_t size)
{
    char *exact = malloc(size ? size : 1);
    memcpy(exact, bytes, size);
    struct lipc_scan_report report = {0, NULL};
    int found = lipc_scan(exact, size, &report);
    int bad = found < 0 ? report.reason == NULL || report.offset > size : found > 1 || report.reason != NULL;
    if (lipc_scan(exact, size, NULL) != found)
        bad = 1;
    free(exact);

    struct lipc_part parts[3]; /* cut anywhere: it may be refused, but must not be misread */
    size_t done = 0;
    for (size_t i = 0; i < 3; i++) {
        size_t piece = i == 2 ? size - done : next() % (size - done + 1);
        char *copy = malloc(piece ? piece : 1);
        memcpy(copy, bytes + done, piece);
        parts[i] = (struct lipc_part){copy, piece};
        done += piece;
    }
    if (lipc_scan_parts(parts, 3, &report) >= 0 && found < 0 && parts[2].size == 0)
        bad = 1;
    for (size_t i = 0; i < 3; i++)
        free((void *)(uintptr_t)parts[i].data);
    return bad;
}

int main(int count_of_arguments, char **arguments)
{
    state = count_of_arguments > 1 ? strtoull(arguments[1], NULL, 10) : 1;
    unsigned long rounds = count_of_arguments > 2 ? strtoul(arguments[2], NULL, 10) : 100000;
    add_builtin();
    for (int i = 3; i < count_of_arguments; i++) {
        static unsigned char bytes[LONGEST];
        FILE *file = fopen(arguments[i], "rb");
        if (file == NULL)
            return 2;
        add(bytes, fread(bytes, 1, sizeof bytes, file));
        fclose(file);
    }
    for (size_t i = 0; i < message_count; i++) {
        if (lipc_scan((const char *)messages[i].bytes, messages[i].size, NULL) < 0 && i >= 9) {
            printf("seed message %zu is refused\n", i);
            return 1;
        }
    }
    unsigned long passed = 0;
    for (unsigned long round = 0; round < rounds; round++) {
        static unsigned char bytes[LONGEST];
        const struct message *message = &messages[next() % message_count];
        memcpy(bytes, message->bytes, message->size);
        int size = mutate(bytes, (int)message->size);
        if (check(bytes, (size_t)size)) {
            printf("round %lu of seed %s\n", round, count_of_arguments > 1 ? arguments[1] : "1");
            return 1;
        }
        passed += lipc_scan((const char *)bytes, (size_t)size, NULL) >= 0;
    }
    printf("%lu rounds, %lu passed the scan\n", rounds, passed);
    return 0;
}
