/* SPDX-License-Identifier: MIT
 *
 * What it costs to put keys into a dict or set, before they are put there.
 *
 * The hash of a str or bytes is keyed with a secret, so nobody can choose strings that collide. Other hashes are known
 * to everyone: 20,000 ints k * (2**61 - 1) share one, and take 1.8 s to enter a dict. So such keys enter a table of their
 * hashes first, which probes and grows as CPython's does, and stops when the probes have used the budget up.
 */
#ifndef LIPC_HASH_COST_H
#define LIPC_HASH_COST_H

#include <stddef.h>
#include <stdint.h>

/* The hashes of one container's keys. All zero is an empty table. Its owner frees it with lipc_hashes_free. */
struct lipc_hashes {
    int64_t *slots; /* mask + 1 of them; -1, which is no hash in CPython, where there is none */
    size_t mask;
    size_t used;
    uint32_t comparing; /* what comparing one of them costs at most */
};

/* Enters a hash as CPython enters it in a dict, or in a set if `is_set`, and takes what that costs from *budget, in units of
 * 10 ns. `comparing` is what comparing two such keys costs. Blocks on nothing. 0; -EDQUOT: the budget is used up; -ENOMEM. */
int lipc_hashes_add(struct lipc_hashes *hashes, int64_t hash, uint32_t comparing, int is_set, uint64_t *budget);

void lipc_hashes_free(struct lipc_hashes *hashes);

/* Anyone. Bytes that the table of a set, or of a dict, of so many keys takes beside what an empty one does. */
uint64_t lipc_set_bytes(size_t keys);
uint64_t lipc_large_dict_bytes(size_t keys);

static inline uint64_t lipc_dict_bytes(size_t keys)
{
    return keys == 0 ? 0 : keys <= 5 ? 160 : lipc_large_dict_bytes(keys); /* most have a table of the smallest size */
}

#endif
