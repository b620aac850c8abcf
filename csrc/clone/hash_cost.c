/* SPDX-License-Identifier: MIT
 *
 * The order of probing and the rules of growth are CPython's (Objects/dictobject.c, Objects/setobject.c). They are the
 * same from 3.11 to 3.14. If a later release differs, the count is less exact, and nothing else changes.
 */
#include "clone/hash_cost.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FREE INT64_C(-1)
#define SMALLEST 8
#define SET_LINEAR_PROBES 9

static int take(uint64_t *budget, uint64_t cost)
{
    if (*budget < cost) {
        *budget = 0;
        return 0;
    }
    *budget -= cost;
    return 1;
}

/* Finds a free slot. Returns the slot's index, or -EDQUOT. A probe costs one unit. A key that has the same hash is
 * compared. */
static int64_t find(const struct lipc_hashes *hashes, int64_t hash, uint32_t comparing, int is_set, uint64_t *budget)
{
    size_t mask = hashes->mask;
    uint64_t perturb = (uint64_t)hash;
    size_t slot = (size_t)perturb & mask;
    for (;;) {
        size_t last = is_set && slot + SET_LINEAR_PROBES <= mask ? slot + SET_LINEAR_PROBES : slot;
        for (size_t at = slot; at <= last; at++) {
            if (hashes->slots[at] == FREE)
                return (int64_t)at;
            if (!take(budget, hashes->slots[at] == hash ? 1 + (uint64_t)comparing : 1))
                return -EDQUOT;
        }
        perturb >>= 5;
        slot = (slot * 5 + 1 + (size_t)perturb) & mask;
    }
}

/* Makes room for one more key. Like CPython, it grows when two thirds of a dict's slots are taken, or three fifths of a
 * set's. */
static int grow(struct lipc_hashes *hashes, int is_set, uint64_t *budget)
{
    size_t size = hashes->slots ? hashes->mask + 1 : 0;
    int full = is_set ? hashes->used * 5 >= hashes->mask * 3 : hashes->used >= size * 2 / 3;
    if (size && !full)
        return 0;
    size_t wanted = is_set ? hashes->used * (hashes->used > 50000 ? 2 : 4) + 1 : hashes->used * 3;
    size_t larger = SMALLEST;
    while (larger < wanted)
        larger *= 2;
    struct lipc_hashes grown = {malloc(larger * sizeof(int64_t)), larger - 1, hashes->used, hashes->comparing};
    if (grown.slots == NULL)
        return -ENOMEM;
    memset(grown.slots, 0xff, larger * sizeof(int64_t));
    int64_t slot = 0;
    for (size_t i = 0; i < size && slot >= 0; i++) {
        if (hashes->slots[i] == FREE)
            continue;
        slot = find(&grown, hashes->slots[i], 0, is_set, budget); /* growing compares no keys */
        if (slot >= 0)
            grown.slots[slot] = hashes->slots[i];
    }
    free(hashes->slots);
    *hashes = grown;
    return slot < 0 ? (int)slot : 0;
}

int lipc_hashes_add(struct lipc_hashes *hashes, int64_t hash, uint32_t comparing, int is_set, uint64_t *budget)
{
    int error = grow(hashes, is_set, budget);
    if (error)
        return error;
    if (comparing > hashes->comparing)
        hashes->comparing = comparing;
    int64_t slot = find(hashes, hash, hashes->comparing, is_set, budget);
    if (slot < 0)
        return (int)slot;
    hashes->slots[slot] = hash;
    hashes->used++;
    return 0;
}

void lipc_hashes_free(struct lipc_hashes *hashes)
{
    free(hashes->slots);
    hashes->slots = NULL;
}

uint64_t lipc_set_bytes(size_t keys)
{
    size_t slots = SMALLEST, full;
    while (keys >= (full = ((slots - 1) * 3 + 4) / 5)) {
        size_t wanted = full * (full > 50000 ? 2 : 4);
        while (slots <= wanted)
            slots *= 2;
    }
    return slots == SMALLEST ? 0 : 16 * (uint64_t)slots;
}

uint64_t lipc_large_dict_bytes(size_t keys)
{
    size_t slots = SMALLEST;
    while (keys > slots * 2 / 3)
        slots *= 2;
    unsigned index = slots <= 256 ? 1 : slots <= 65536 ? 2 : 4;
    return 32 + index * (uint64_t)slots + 24 * (uint64_t)(slots * 2 / 3);
}
