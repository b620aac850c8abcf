/* SPDX-License-Identifier: MIT
 *
 * What hashing costs: the keys of one dict or set as CPython would place them. scan.c adds them, keys.c counts.
 *
 * CPython's hash of a str or bytes is keyed with a secret, so nobody can choose strings that collide. The hash of an
 * int, a float, and of tuples and frozensets of them is known to everyone: 20 000 ints k * (2**61 - 1) share one hash
 * and take 1.8 s to enter a dict (measured, CPython 3.11). So those keys are entered here first, into a table that
 * probes and grows as CPython's does but stops when the probes reach a budget.
 */
#ifndef LIPC_KEYS_H
#define LIPC_KEYS_H

#include <stddef.h>
#include <stdint.h>

/* A key as far as entering it somewhere matters. */
struct lipc_key {
    uint64_t hash;   /* what CPython's hash() gives; for a str or bytes, a stand-in made of its content */
    uint32_t ident;  /* differs, as a rule, where values with one hash differ: -1 and -2 */
    uint32_t weight; /* hash() visits so many values; saturates */
};

/* The keys of one container. All zero is an empty one. */
struct lipc_keys {
    uint64_t *hashes; /* mask + 1 of them, LIPC_FREE where there is none, then as many idents */
    uint32_t mask;
    uint32_t used;
    uint32_t opaque; /* keys whose hash is known to the peer but not to us */
};

/* What a message may cost, and has cost so far. */
struct lipc_budget {
    uint64_t work; /* in units of one probe, or one value visited by hash(): 10 ns at most */
    uint64_t work_limit;
    uint64_t memory; /* bytes */
    uint64_t memory_limit;
};

/* hash() of a whole number given as `size` bytes of little-endian two's complement. */
uint64_t lipc_hash_int(const unsigned char *bytes, size_t size);

/* hash() of a float; not for nan, whose hash is its address. */
uint64_t lipc_hash_float(double value);

/* A stand-in for the keyed hash of `size` bytes. */
uint64_t lipc_hash_bytes(const unsigned char *bytes, size_t size);

/* hash() of a tuple and of a frozenset, begun, taken one element further, and finished. */
uint64_t lipc_hash_tuple_begin(void);
uint64_t lipc_hash_tuple_add(uint64_t hash, uint64_t element);
uint64_t lipc_hash_tuple_end(uint64_t hash, size_t count);
uint64_t lipc_hash_frozenset_add(uint64_t hash, uint64_t element);
uint64_t lipc_hash_frozenset_end(uint64_t hash, size_t count);

/* 64 bits well mixed; idents are halves of it. */
uint64_t lipc_mix(uint64_t value);

/* Enters a key into a dict (is_set 0) or a set (1), and adds what that costs to *budget.
 * -EEXIST: it is there already. -EDQUOT: the budget is spent. -ENOMEM. */
int lipc_keys_add(struct lipc_keys *keys, const struct lipc_key *key, int is_set, struct lipc_budget *budget);

void lipc_keys_free(struct lipc_keys *keys);

#endif
