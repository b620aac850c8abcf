/* SPDX-License-Identifier: MIT
 *
 * CPython's hashes and hash tables, to know beforehand what they would cost. The constants and the probing order are
 * CPython's (Python/pyhash.c, Objects/tupleobject.c, setobject.c, dictobject.c) and the same in 3.10 to 3.13. Where a
 * later release differs, no harm comes of it but a less exact estimate.
 */
#include "keys.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* hash() of a number is the number modulo this prime. */
#define MODULUS_BITS 61
#define MODULUS ((UINT64_C(1) << MODULUS_BITS) - 1)

/* No hash is -1 in CPython. */
#define LIPC_FREE UINT64_MAX

/* A comparison of two keys with one hash costs as much as so many probes: 70 ns against 3 to 9. */
#define COMPARISON 16

#define TUPLE_PRIME_1 UINT64_C(11400714785074694791)
#define TUPLE_PRIME_2 UINT64_C(14029467366897019727)
#define TUPLE_PRIME_5 UINT64_C(2870177450012600261)

#define SET_LINEAR_PROBES 9
#define SMALLEST_TABLE 8

static uint64_t not_minus_one(uint64_t hash)
{
    return hash == UINT64_MAX ? UINT64_MAX - 1 : hash;
}

/* value * 2**bits, modulo MODULUS; bits in 1..60. */
static uint64_t rotate(uint64_t value, unsigned bits)
{
    return ((value << bits) & MODULUS) | (value >> (MODULUS_BITS - bits));
}

uint64_t lipc_hash_int(const unsigned char *bytes, size_t size)
{
    int negative = size > 0 && bytes[size - 1] >= 0x80;
    uint64_t magnitude = 0; /* of the number, or of its complement ~n = -n - 1 when it is negative */
    for (size_t i = size; i-- > 0;) {
        magnitude = rotate(magnitude, 8) + (negative ? bytes[i] ^ 0xffU : bytes[i]);
        if (magnitude >= MODULUS)
            magnitude -= MODULUS;
    }
    if (!negative)
        return magnitude;
    magnitude = magnitude + 1 == MODULUS ? 0 : magnitude + 1;
    return not_minus_one(-magnitude);
}

uint64_t lipc_hash_float(double value)
{
    if (isinf(value))
        return value > 0 ? 314159 : -UINT64_C(314159);
    int exponent;
    double mantissa = frexp(value < 0 ? -value : value, &exponent);
    uint64_t hash = 0;
    while (mantissa != 0) {
        hash = rotate(hash, 28);
        mantissa *= 268435456.0; /* 2**28 */
        exponent -= 28;
        uint64_t digit = (uint64_t)mantissa;
        mantissa -= (double)digit;
        hash += digit;
        if (hash >= MODULUS)
            hash -= MODULUS;
    }
    int shift = exponent % MODULUS_BITS;
    if (shift < 0)
        shift += MODULUS_BITS;
    if (shift > 0)
        hash = rotate(hash, (unsigned)shift);
    return value < 0 ? not_minus_one(-hash) : hash;
}

uint64_t lipc_mix(uint64_t value)
{
    value = (value ^ (value >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    value = (value ^ (value >> 32)) * UINT64_C(0xd6e8feb86659fd93);
    return value ^ (value >> 32);
}

uint64_t lipc_hash_bytes(const unsigned char *bytes, size_t size)
{
    uint64_t hash = size * TUPLE_PRIME_1;
    uint64_t word;
    for (; size >= sizeof word; bytes += sizeof word, size -= sizeof word) {
        memcpy(&word, bytes, sizeof word);
        hash = (hash ^ word) * TUPLE_PRIME_2;
        hash ^= hash >> 29;
    }
    word = 0;
    memcpy(&word, bytes, size);
    return not_minus_one(lipc_mix(hash ^ word));
}

uint64_t lipc_hash_tuple_begin(void)
{
    return TUPLE_PRIME_5;
}

uint64_t lipc_hash_tuple_add(uint64_t hash, uint64_t element)
{
    hash += element * TUPLE_PRIME_2;
    hash = (hash << 31) | (hash >> 33);
    return hash * TUPLE_PRIME_1;
}

uint64_t lipc_hash_tuple_end(uint64_t hash, size_t count)
{
    hash += count ^ (TUPLE_PRIME_5 ^ UINT64_C(3527539));
    return hash == UINT64_MAX ? UINT64_C(1546275796) : hash;
}

uint64_t lipc_hash_frozenset_add(uint64_t hash, uint64_t element)
{
    return hash ^ ((element ^ UINT64_C(89869747)) ^ (element << 16)) * UINT64_C(3644798167);
}

uint64_t lipc_hash_frozenset_end(uint64_t hash, size_t count)
{
    hash ^= (count + 1) * UINT64_C(1927868237);
    hash ^= (hash >> 11) ^ (hash >> 25);
    hash = hash * UINT64_C(69069) + UINT64_C(907133923);
    return hash == UINT64_MAX ? UINT64_C(590923713) : hash;
}

static uint32_t *idents_of(const struct lipc_keys *keys)
{
    return (uint32_t *)(keys->hashes + keys->mask + 1);
}

/* Finds a free slot for `key`. -EEXIST: it is there. -EDQUOT: that took longer than the budget. */
static int64_t find(const struct lipc_keys *keys, const struct lipc_key *key, int is_set, struct lipc_budget *budget)
{
    const uint32_t *idents = idents_of(keys);
    uint64_t mask = keys->mask;
    uint64_t perturb = key->hash;
    uint64_t slot = key->hash & mask;
    while (budget->work <= budget->work_limit) {
        uint64_t last = is_set && slot + SET_LINEAR_PROBES <= mask ? slot + SET_LINEAR_PROBES : slot;
        for (uint64_t at = slot; at <= last; at++) {
            if (keys->hashes[at] == LIPC_FREE)
                return (int64_t)at;
            budget->work++;
            if (keys->hashes[at] == key->hash) {
                if (idents[at] == key->ident)
                    return -EEXIST;
                budget->work += COMPARISON * (uint64_t)key->weight;
            }
        }
        perturb >>= 5;
        slot = (slot * 5 + 1 + perturb) & mask;
    }
    return -EDQUOT;
}

/* Makes room for one more key, as CPython does when 2/3 (dict) or 3/5 (set) of the slots are taken. */
static int grow(struct lipc_keys *keys, int is_set, struct lipc_budget *budget)
{
    uint64_t size = (uint64_t)keys->mask + 1;
    if (keys->hashes != NULL) {
        int full = is_set ? (uint64_t)keys->used * 5 >= (uint64_t)keys->mask * 3 : keys->used >= size * 2 / 3;
        if (!full)
            return 0;
    }
    uint64_t wanted = is_set ? (uint64_t)keys->used * (keys->used > 50000 ? 2 : 4) + 1 : (uint64_t)keys->used * 3;
    uint64_t larger = SMALLEST_TABLE;
    while (larger < wanted)
        larger *= 2;
    if (larger > UINT32_MAX)
        return -ENOMEM;
    size_t bytes = (size_t)larger * (sizeof(uint64_t) + sizeof(uint32_t));
    budget->memory += bytes;
    struct lipc_keys grown = {malloc(bytes), (uint32_t)(larger - 1), keys->used, keys->opaque};
    if (grown.hashes == NULL)
        return -ENOMEM;
    memset(grown.hashes, 0xff, (size_t)larger * sizeof(uint64_t));
    int64_t slot = 0;
    for (uint64_t i = 0; keys->hashes != NULL && i < size; i++) {
        struct lipc_key key = {keys->hashes[i], idents_of(keys)[i], 1};
        if (key.hash == LIPC_FREE)
            continue;
        slot = find(&grown, &key, is_set, budget);
        if (slot < 0)
            break;
        grown.hashes[slot] = key.hash;
        idents_of(&grown)[slot] = key.ident;
    }
    free(keys->hashes);
    *keys = grown;
    return slot < 0 ? (int)slot : 0;
}

int lipc_keys_add(struct lipc_keys *keys, const struct lipc_key *key, int is_set, struct lipc_budget *budget)
{
    int error = grow(keys, is_set, budget);
    if (error)
        return error;
    int64_t slot = find(keys, key, is_set, budget);
    if (slot < 0)
        return (int)slot;
    keys->hashes[slot] = key->hash;
    idents_of(keys)[slot] = key->ident;
    keys->used++;
    return 0;
}

void lipc_keys_free(struct lipc_keys *keys)
{
    free(keys->hashes);
    keys->hashes = NULL;
}
