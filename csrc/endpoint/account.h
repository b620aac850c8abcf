/* SPDX-License-Identifier: MIT
 *
 * An account counts the bytes that wait in several outboxes and in its child accounts. Accounts are private to main.
 */
#ifndef LIPC_ACCOUNT_H
#define LIPC_ACCOUNT_H

#include "lensipc.h"

#include <stdatomic.h>
#include <stdbool.h>

struct lipc_account {
    uint64_t bytes; /* only main's thread changes this */
    uint64_t limit;
    struct lipc_account *parent;
    _Atomic size_t users; /* its owner, endpoints and child accounts; the last user frees the account */
};

/* Called by main's thread. Does not block. Adds `more` bytes that now wait and subtracts `fewer` bytes that no longer
 * wait, in this account and in all its parents. NULL is allowed. */
static inline void lipc_account_count(struct lipc_account *account, uint64_t more, uint64_t fewer)
{
    for (; account; account = account->parent)
        account->bytes += more - fewer;
}

/* Called by main's thread. Does not block. Returns whether this account or a parent is at its limit, even without
 * `except` of its bytes. NULL is never full. */
static inline bool lipc_account_full(const struct lipc_account *account, uint64_t except)
{
    for (; account; account = account->parent)
        if (account->bytes - except >= account->limit)
            return true;
    return false;
}

/* Called by any thread that has a reference. Does not block. Adds a user. NULL is allowed. */
void lipc_account_retain(struct lipc_account *account);

#endif
