/* SPDX-License-Identifier: MIT
 *
 * Counts what waits in several outboxes together, and in the accounts that have this one as parent. Main's: no other process sees
 * it.
 */
#ifndef LIPC_ACCOUNT_H
#define LIPC_ACCOUNT_H

#include "lensipc.h"

#include <stdatomic.h>
#include <stdbool.h>

struct lipc_account {
    uint64_t bytes; /* main's thread alone changes it */
    uint64_t limit;
    struct lipc_account *parent;
    _Atomic size_t users; /* its owner, endpoints, and accounts that have it as parent: the last one frees it */
};

/* Main's thread. Counts `more` bytes that wait from now on and `fewer` that no longer do, here and in all parents. NULL is fine. */
static inline void lipc_account_count(struct lipc_account *account, uint64_t more, uint64_t fewer)
{
    for (; account; account = account->parent)
        account->bytes += more - fewer;
}

/* Main's thread. Whether this account or a parent is at its limit even without `except` bytes of what waits. */
static inline bool lipc_account_full(const struct lipc_account *account, uint64_t except)
{
    for (; account; account = account->parent)
        if (account->bytes - except >= account->limit)
            return true;
    return false;
}

/* Anyone. Adds a user. NULL is fine. */
void lipc_account_retain(struct lipc_account *account);

#endif
