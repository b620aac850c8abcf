/* SPDX-License-Identifier: MIT
 *
 * What it costs to put keys into a dict or set, counted before they are put there.
 *
 * The hash of a str or bytes is keyed with a secret, so nobody can choose strings that collide. Other hashes are known
 * to everyone: 20,000 ints k * (2**61 - 1) share one hash, and take 1.8 s to enter a dict. So such keys enter a table
 * of their hashes first. This table probes and grows as CPython's tables do, and it stops when the probes have used up
 * the budget.
 */
#ifndef LIPC_HASH_COST_H
#define LIPC_HASH_COST_H

#include <stddef.h>
#include <stdint.h>

/* The hashes of one container's keys. All zero is an empty table. Its owner frees it with lipc_hashes_free. */
struct lipc_hashes {
    int64_t *slots; /* mask + 1 slots; a free slot has -1, which is no hash in CPython */
    size_t mask;
    size_t used;
    uint32_t comparing; /* the most that comparing one of them costs */
};

/* Called by the reader and the writer. Does not block. Enters a hash as CPython enters it in a dict, or in a set if
 * `is_set`. Takes the cost from *budget, in units of 10 ns. `comparing` is the cost of comparing two such keys. Returns
 * 0; -EDQUOT if the budget is used up; or -ENOMEM. */
int lipc_hashes_add(struct lipc_hashes *hashes, int64_t hash, uint32_t comparing, int is_set, uint64_t *budget);

/* Called by the reader and the writer. Does not block. Frees a table's memory. */
void lipc_hashes_free(struct lipc_hashes *hashes);

/* Called by the reader. Does not block. Returns the bytes that the table of a set with so many keys takes, less the
 * bytes of an empty set. */
uint64_t lipc_set_bytes(size_t keys);

/* Called by lipc_dict_bytes. Does not block. Returns the bytes that the table of a dict with so many keys takes, less
 * the bytes of an empty dict. */
uint64_t lipc_large_dict_bytes(size_t keys);

/* Called by the reader and the writer. Does not block. Returns the same for a dict of any size. */
static inline uint64_t lipc_dict_bytes(size_t keys)
{
    return keys == 0 ? 0 : keys <= 5 ? 160 : lipc_large_dict_bytes(keys); /* most have a table of the smallest size */
}

#endif
